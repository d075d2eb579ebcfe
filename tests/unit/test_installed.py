"""The installed database as text: byte for byte what apk writes."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from sixsmith.apk.index import PackageRecord
from sixsmith.apk.installed import (
    INSTALLED,
    SCRIPTS,
    TRIGGERS,
    InstalledDirectory,
    InstalledFile,
    InstalledPackage,
    Permissions,
    parse_installed,
    parse_scripts,
    parse_triggers,
    render_installed,
    render_scripts,
    render_triggers,
    xattr_checksum,
)
from sixsmith.errors import FormatError

RECORD = """\
C:Q1lAiF3H0eGGOX2xMGglID1L6P7xw=
P:a
V:1-r0
A:x86_64
S:525
I:4096
T:about
U:http://x
L:MIT
o:a
m:Some One <some@one>
t:1700000000
c:abc
k:10
D:!nope so:x>=1
p:cmd:q=1 so:q.so.1=1
i:b c
r:zz<2
q:3
s:edge
f:fx
F:
R:q
a:0:0:4755:Q1UYhj1nV0jRzchDr0nmlddMzLBQI=
Z:Q1b8+d+9R57YJpf+5xm5+MYQoR/yo=
F:usr/share
M:5:6:1777
R:a b
R:é

"""


def test_every_field_comes_back() -> None:
    (package,) = parse_installed(RECORD.encode())
    assert package.record.depends == ("!nope", "so:x>=1") and package.record.pin == package.pin == "edge"
    assert (package.replaces, package.replaces_priority, package.flags) == (("zz<2",), 3, "fx")
    root, share = package.directories.values()
    assert root.files["q"].permissions == Permissions(0o4755, 0, 0, "Q1UYhj1nV0jRzchDr0nmlddMzLBQI=")
    assert share.permissions == Permissions(0o1777, 5, 6) and list(share.files) == ["a b", "é"]
    assert share.files["é"].checksum == "" and share.files["é"].permissions == Permissions(0o644)
    assert render_installed([package]) == RECORD.encode()


def test_defaults_are_not_written() -> None:
    record = PackageRecord("a", "1", checksum="Q1lAiF3H0eGGOX2xMGglID1L6P7xw=")
    directory = InstalledDirectory("d", files={"f": InstalledFile("f", checksum="Q1x=")})
    text = render_installed([InstalledPackage(record, directories={"d": directory})])
    assert text.decode().split("\n")[2:] == ["V:1", "S:0", "I:0", "T:", "U:", "L:", "F:d", "R:f", "Z:Q1x=", "", ""]


def test_late_lines_of_a_package_without_files_come_with_the_next() -> None:
    """As 2.14 does; it reads them back as the next package's, and so do we."""
    checksum = "Q1lAiF3H0eGGOX2xMGglID1L6P7xw="
    empty = InstalledPackage(PackageRecord("a", "1", checksum=checksum), replaces=("x",))
    full = InstalledPackage(
        PackageRecord("b", "1", checksum=checksum),
        replaces=("y",),
        directories={"d": InstalledDirectory("d", files={})},
    )
    text = render_installed([empty, full])
    assert text.endswith(b"L:\nr:x\nr:y\nF:d\n\n") and text.count(b"r:") == 2
    assert [package.replaces for package in parse_installed(text)] == [(), ("x", "y")]
    assert b"r:" not in render_installed([empty])


def test_dependencies_are_spelled_as_apk_does() -> None:
    record = PackageRecord(
        "a", "1", checksum="Q1lAiF3H0eGGOX2xMGglID1L6P7xw=", depends=("b==1", "c=<2", "d~=3", "e>=4")
    )
    assert b"\nD:b=1 c<=2 d~3 e>=4\n" in render_installed([InstalledPackage(record)])


@pytest.mark.parametrize(
    "lines",
    [
        "Z:Q1x",
        "a:0:0:644",
        "F:d\nZ:Q1x",
        "F:d\na:0:0:644",
        "F:d\nM:0:0",
        "F:d\nM:0:0:999",
        "F:d\nM:-1:0:755",
        "F:d\nM:0:0:755:x:y",
        "q:x",
        "f:Z",
        "F:d\nP:b",
        "F:d\nnonsense",
        "nonsense",
    ],
)
def test_damage_is_seen(lines: str) -> None:
    head = "C:Q1lAiF3H0eGGOX2xMGglID1L6P7xw=\nP:a\nV:1\n"
    parse_installed(head.encode())
    with pytest.raises(FormatError):
        parse_installed((head + lines + "\n\n").encode())


def test_scripts_and_triggers() -> None:
    record = PackageRecord("a", "1-r0", checksum="Q1lAi//H0eGGOX2xMGglID1L6P7xw=")
    package = InstalledPackage(record, triggers=("/x", "/y/*"), scripts={".trigger": b"t" * 600, ".post-install": b"p"})
    assert render_triggers([package]) == b"Q1lAi//H0eGGOX2xMGglID1L6P7xw= /x /y/*\n"
    assert parse_triggers(render_triggers([package])) == {record.checksum: ("/x", "/y/*")}
    tar = render_scripts([package], 1700000000)
    assert parse_scripts(tar) == {record.checksum: {".post-install": b"p", ".trigger": b"t" * 600}}
    assert len(tar) == 512 * (2 + 3 + 2)
    assert parse_scripts(render_scripts([], 0)) == {} and len(render_scripts([], 0)) == 1024
    with pytest.raises(FormatError):
        parse_scripts(tar[:1600])


def test_xattr_checksums_are_those_of_apk() -> None:
    assert xattr_checksum([("user.note", b"x")]) == "Q1UYhj1nV0jRzchDr0nmlddMzLBQI="
    assert xattr_checksum([("user.b", b"1"), ("user.a", b"2")]) == "Q1mxZyk5Y34731fxZijEngJIRDTUA="
    assert xattr_checksum([]) == ""


RELEASES = ["v3.7", "v3.8", "v3.9", "v3.10", "v3.11", "v3.12", "v3.16", "v3.20"]


def contents(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


@pytest.mark.parametrize("release", RELEASES)
def test_real_databases_come_back_byte_for_byte(data: Path, release: str) -> None:
    tarballs = sorted((data / f"upstream/alpine/{release}/releases").glob("*/*.tar.gz"))
    assert tarballs
    for tarball in tarballs:
        with tarfile.open(tarball) as tar:
            files = [member for member in tar if member.isfile() and "lib/apk/db/" in member.name]
            read = {member.name.removeprefix("./"): contents(tar, member) for member in files}
        packages = parse_installed(read[INSTALLED])
        assert len(packages) > 10
        assert render_installed(packages) == read[INSTALLED]
        triggers, scripts = parse_triggers(read[TRIGGERS]), parse_scripts(read[SCRIPTS])
        for package in packages:
            package.triggers = triggers.pop(package.record.checksum, ())
            package.scripts = scripts.pop(package.record.checksum, {})
        assert not triggers and not scripts
        assert render_triggers(packages) == read[TRIGGERS]
        assert parse_scripts(render_scripts(packages, 0)) == parse_scripts(read[SCRIPTS])


def test_virtual_packages_have_names_with_a_dot() -> None:
    """`apk add --virtual .build-deps …` leaves them in real images."""
    (package,) = parse_installed(
        b"C:Q1lAiF3H0eGGOX2xMGglID1L6P7xw=\nP:.build-deps\nV:20240101.120000\nA:noarch\nS:0\nI:0\n"
        b"T:virtual meta package\nU:\nL:\nD:gcc make\n\n"
    )
    assert (package.name, package.record.depends) == (".build-deps", ("gcc", "make"))
