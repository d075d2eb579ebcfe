"""Packages: the first byte says whether the rest is a whole file (0), a control segment's tar (1) or a data segment's (2).

What is taken goes all the way into a tree.
"""

from __future__ import annotations

import gzip
import hashlib

from sixsmith.apk.archive import open_package, package_entries, record_from_control
from sixsmith.apk.index import PackageRecord
from sixsmith.errors import SixsmithError
from sixsmith.model.compression import gzip_member
from sixsmith.rootfs.install import InstallPackage, install
from sixsmith.rootfs.sources import PlainSource
from sixsmith.rootfs.tree import Tree
from sixsmith.solver import Step
from sixsmith.testing.keys import sample_key
from sixsmith.testing.packages import SamplePackage, make_apk
from sixsmith.testing.tars import SampleFile

WORDS = (
    b"../",
    b"/",
    b"pkgname = ",
    b"\ndatahash = ",
    b"20 path=../../etc/x\n",
    b"\xff\xff",
    b"0000644\0",
    b".PKGINFO",
)


def _package(signed: bool = False) -> SamplePackage:
    return make_apk(
        "a",
        files=[
            SampleFile("etc", kind="directory", mode=0o700),
            SampleFile("etc/f", b"content", owner="nobody", xattrs={"user.x": b"1"}),
            SampleFile("etc/h", kind="hardlink", target="etc/f"),
            SampleFile("etc/" + "l" * 120, kind="symlink", target="f"),
        ],
        key=sample_key() if signed else None,
        scripts={"post-install": "#!/bin/sh\n"},
        triggers=["/etc/*"],
        replaces=["b<1"],
    )


def seeds() -> list[bytes]:
    plain = _package()
    control, data = _segments(plain.data)
    return [b"\0" + plain.data, b"\0" + _package(signed=True).data, b"\1" + control, b"\2" + data]


def _segments(file: bytes) -> tuple[bytes, bytes]:
    """The control segment's tar and the data segment's, of an unsigned package."""
    archive = open_package(file, checksum=None, keyring=None, what="seed")
    data = gzip.decompress(bytes(archive.data))
    return gzip.decompress(file)[: -len(data)], data


def TestOneInput(data: bytes) -> None:
    kind, body = data[:1], data[1:]
    if kind == b"\1":
        body = gzip_member(body) + gzip_member(bytes(10240))
    try:
        if kind == b"\2":
            _lay(body, PackageRecord("a", "1.0-r0"), _package().data)
            return
        archive = open_package(body, checksum=None, keyring=None, what="fuzz")
        record = record_from_control(archive.control, len(body))
        assert record.checksum == archive.control.checksum
        tar = gzip.decompress(bytes(archive.data))
        assert archive.control.info.datahash == hashlib.sha256(archive.data).hexdigest()
        _lay(tar, record, body)
    except SixsmithError:
        return


def _lay(tar: bytes, record: PackageRecord, file: bytes) -> None:
    """Puts a data segment into a tree, where nothing may stand outside."""
    control = open_package(file, checksum=None, keyring=None, what="fuzz").control
    entries = package_entries(tar, "fuzz")
    package = InstallPackage(record, control, entries, PlainSource(tar), len(tar))
    tree = install(Tree(), [Step("install", record)], {record.name: package}, world=["a"], arch="x86_64").tree
    for node in tree:
        assert not node.path.startswith("/") and ".." not in node.path.split("/"), node.path
