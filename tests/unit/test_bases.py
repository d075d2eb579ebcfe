"""A minirootfs is read as a stranger's archive."""

from __future__ import annotations

import gzip

import pytest

from sixsmith.errors import FormatError
from sixsmith.model.digest import digest_of
from sixsmith.rootfs.bases import Minirootfs, read_minirootfs
from sixsmith.rootfs.tree import BASE
from sixsmith.testing import SampleFile, make_minirootfs, tar_bytes

ROOT = SampleFile(".", kind="directory")


def read(*files: SampleFile) -> Minirootfs:
    return read_minirootfs(gzip.compress(tar_bytes(files)), what="mini")


def test_a_sound_archive_is_its_tree() -> None:
    data = make_minirootfs("3.12", "x86_64")
    base = read_minirootfs(data, what="mini")
    assert base.mended == ()
    assert base.digest == digest_of(data)
    assert base.size == len(data)
    assert [node.path for node in base.tree] == [entry.path for entry in base.entries]
    assert {node.origin for node in base.tree} == {BASE}
    assert base.tree.nodes["etc/shadow"].gid == 42
    assert base.tree.nodes["tmp"].mode == 0o1777
    assert base.tree.read("bin/sh") == base.tree.read("bin/busybox")


def test_the_root_directory_can_be_entered() -> None:
    base = read_minirootfs(make_minirootfs("3.8", "x86_64"), what="mini")
    assert base.tree.nodes[""].mode == 0o755
    assert base.mended == ("its root directory has mode 0700 and owner 0:0",)
    assert read(SampleFile("etc", kind="directory")).tree.nodes[""].mode == 0o755


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([SampleFile("../evil")], "climbs out"),
        ([SampleFile("./etc/../../evil")], "climbs out"),
        ([SampleFile("./.wh.etc")], "would hide"),
        ([SampleFile("./etc", kind="directory"), SampleFile("./etc/.wh..wh..opq")], "would hide"),
        ([SampleFile("./a", kind="symlink", target="/etc"), SampleFile("./a/b")], "lies below the symlink 'a'"),
        ([SampleFile("./a"), SampleFile("./a/b/c")], "below what is no directory"),
        ([SampleFile("./a", kind="symlink", target="etc"), SampleFile("./a/b/c")], "lies below a symlink"),
        ([SampleFile("./a", kind="hardlink", target="./b")], "hard link to 'b', which is no file"),
        ([SampleFile("./a", kind="symlink")], "link to nothing"),
        ([SampleFile(".", b"")], "its root is a file"),
        ([SampleFile("./a", kind="directory"), SampleFile("./a/b"), SampleFile("./a")], "is a directory and a file"),
    ],
)
def test_a_hostile_member_is_refused(files: list[SampleFile], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(*files)


def test_what_is_mended_is_said() -> None:
    base = read(
        ROOT,
        SampleFile("./dev", kind="directory"),
        SampleFile("./dev/null", kind="char"),
        SampleFile("./usr/bin/x", b"x"),
        SampleFile("./twice", b"one"),
        SampleFile("./twice", b"two"),
    )
    assert base.mended == (
        "it has the device 'dev/null': a runtime makes /dev itself",
        "it does not list the directory of 'usr/bin/x'",
        "it names 'twice' twice",
    )
    assert "dev/null" not in base.tree
    assert base.tree.nodes["usr"].kind == "directory"
    assert base.tree.read("twice") == b"two"


def test_damaged_archives_are_refused() -> None:
    data = make_minirootfs("3.12", "x86_64")
    for damaged in (b"", b"<html>", data[: len(data) // 2], data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]):
        with pytest.raises(FormatError, match="mini"):
            read_minirootfs(damaged, what="mini")
