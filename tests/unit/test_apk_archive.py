"""Package files: the chain of trust, .PKGINFO, and apk's rules for names."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
import zlib
from pathlib import Path

import pytest

from apk_files import Item, Package, data_tar, gz, make_apk, member
from sixsmith.apk.archive import PackageArchive, open_package, package_entries, read_head, record_from_control
from sixsmith.apk.signature import Keyring
from sixsmith.errors import DigestMismatch, FormatError, SignatureError, VerificationError

FILES = [Item("usr/"), Item("usr/bin/"), Item("usr/bin/a", b"hello", mode=0o755)]


def opened(package: Package) -> PackageArchive:
    return open_package(package.file, checksum=package.checksum, keyring=None, what=package.name)


def test_a_package_is_three_verified_parts() -> None:
    package = make_apk(
        "a",
        FILES,
        info=["depend = b>=1", "depend = !c", "replaces = d e<2", "replaces_priority = 7", "triggers = /x /y/*"],
        scripts={"trigger": "t", "post-install": "p"},
    )
    archive = opened(package)
    info = archive.control.info
    assert (info.name, info.version, info.origin, info.size, info.build_time) == ("a", "1-r0", "a", 4096, 1700000000)
    assert (info.depends, info.replaces, info.replaces_priority) == (("b>=1", "!c"), ("d", "e<2"), 7)
    assert archive.control.triggers == ("/x", "/y/*")
    assert archive.control.scripts == {".post-install": b"p", ".trigger": b"t"}
    assert list(archive.control.scripts) == [".post-install", ".trigger"]
    assert archive.control.checksum == package.checksum
    assert archive.head + bytes(archive.data) == package.file
    assert archive.data_digest == "sha256:" + hashlib.sha256(archive.data).hexdigest()
    assert read_head(archive.head, checksum=package.checksum, keyring=None, what="a").control == archive.control
    record = record_from_control(archive.control, len(package.file))
    assert (str(record), record.checksum, record.size, record.depends) == (
        "a-1-r0",
        package.checksum,
        len(package.file),
        ("b>=1", "!c"),
    )


def test_the_index_decides_over_the_control_segment() -> None:
    package, other = make_apk("a", FILES), make_apk("a", FILES, "2-r0")
    with pytest.raises(DigestMismatch, match="the index promises"):
        open_package(package.file, checksum=other.checksum, keyring=None, what="a")
    with pytest.raises(FormatError, match="not a checksum"):
        open_package(package.file, checksum="Q2" + package.checksum[2:], keyring=None, what="a")


def test_the_control_segment_decides_over_the_data() -> None:
    package, other = make_apk("a", FILES), make_apk("a", FILES[:1])
    spliced = opened(package).head + bytes(opened(other).data)
    with pytest.raises(DigestMismatch, match="promises"):
        open_package(spliced, checksum=package.checksum, keyring=None, what="a")


def test_without_an_index_a_signature_is_needed() -> None:
    package = make_apk("a", FILES)
    with pytest.raises(SignatureError, match="not signed"):
        open_package(package.file, checksum=None, keyring=Keyring({}), what="a")
    assert open_package(package.file, checksum=None, keyring=None, what="a").key is None


def test_an_archive_cannot_be_made_by_hand() -> None:
    head = read_head(make_apk("a").file, checksum=None, keyring=None, what="a")
    with pytest.raises(TypeError):
        PackageArchive(head, b"", head.control.checksum, proof=None)  # type: ignore[arg-type]


def test_every_flipped_bit_is_seen() -> None:
    package = make_apk("a", FILES)
    file = package.file
    for position in range(len(file)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[position] ^= 1 << bit
            with pytest.raises(VerificationError):
                open_package(bytes(damaged), checksum=package.checksum, keyring=None, what="a")


def test_every_truncation_is_seen() -> None:
    package = make_apk("a", FILES, scripts={"post-install": "x" * 3000})
    for length in range(len(package.file)):
        with pytest.raises(VerificationError):
            open_package(package.file[:length], checksum=package.checksum, keyring=None, what="a")


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (["pkgname = b"], "'pkgname' twice"),
        (["commit = \x01", "commit = x"], "'commit' twice"),
        (["size = 5"], "twice"),
        (["replaces_priority = -1"], "not a sensible number"),
        (["provider_priority = 99999999999999999999"], "not a sensible number"),
        (["depend = a\x07b"], "control characters"),
    ],
)
def test_odd_pkginfo(info: list[str], message: str) -> None:
    package = make_apk("a", FILES, info=info)
    with pytest.raises(FormatError, match=message):
        opened(package)


def test_names_and_hashes_in_pkginfo_are_checked() -> None:
    for package in (make_apk("a/b"), make_apk("a", datahash="00"), make_apk("a", datahash="")):
        with pytest.raises(FormatError):
            opened(package)


def test_a_control_segment_holds_control_files_only() -> None:
    for items in (
        [Item("etc/passwd", b"evil", checksum=False)],
        [Item(".PKGINFO", b"pkgname = a\n", checksum=False)] * 2,
        [Item(".post-install", b"/etc/passwd", type=b"2")],
        [],
    ):
        file = gz(b"".join(member(item) for item in items)) + gz(data_tar([]))
        with pytest.raises(FormatError):
            open_package(file, checksum=None, keyring=None, what="a")


def test_a_bomb_in_the_control_segment_costs_little() -> None:
    """A gigabyte of zero bytes in a megabyte of file: refused after the limit, without the memory."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = member(Item(".PKGINFO", b"", size=1 << 30, checksum=False))
    bomb = deflater.compress(start) + b"".join(deflater.compress(bytes(1 << 20)) for _ in range(200)) + deflater.flush()
    tracemalloc.start()
    with pytest.raises(FormatError, match="inflates to more than"):
        open_package(bomb, checksum=None, keyring=None, what="a")
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def names(*items: Item) -> list[str]:
    return [entry.path for entry in package_entries(data_tar(items), "a")]


def test_top_level_dot_names_are_not_installed() -> None:
    assert names(
        Item(".dummy", b"x"), Item("./"), Item("../x", b"x"), Item(".a/"), Item(".a/b", b""), Item("b", b"")
    ) == ["b"]


def test_keep_files_are_not_installed() -> None:
    assert names(
        Item("a/"), Item("a/.keep_a-1", b""), Item(".keep_x", b""), Item("a/.keep_", b""), Item("a/.keep", b"")
    ) == [
        "a",
        "a/.keep_",
        "a/.keep",
    ]


@pytest.mark.parametrize(
    "name",
    ["/abs", "/abs/", "a/../b", "a/..", "a/../", "a/./b", "a/.", "a//b", "a//", "a\nb", "a/\x1bb", "a\x7f", "/"],
)
def test_malicious_names_are_refused(name: str) -> None:
    with pytest.raises(FormatError, match="name"):
        names(Item(name, b""))
    with pytest.raises(FormatError, match="name"):
        names(Item("harmless", b"", pax={"path": name}))


@pytest.mark.parametrize("target", ["/etc/shadow", "../x", "a/../../x", "", "a//b"])
def test_hard_links_stay_inside(target: str) -> None:
    with pytest.raises(FormatError):
        names(Item("a/"), Item("a/x", target.encode(), type=b"1"))


def test_long_names_come_from_pax() -> None:
    long = "d/" + "x" * 150
    assert names(Item("d/"), Item(long, b"")) == ["d", long]
    entries = package_entries(data_tar([Item("l", b"short", type=b"2", pax={"linkpath": "y" * 200})]), "a")
    assert entries[0].target == "y" * 200


def test_sizes_that_lie_are_refused() -> None:
    for item in (
        Item("a", b"x", size=1 << 40),
        Item("a", b"x", pax={"size": str(1 << 50)}),
        Item("a", pax={"size": "-1"}),
    ):
        with pytest.raises(FormatError):
            names(item)


def test_the_stored_gzip_is_not_inflated_to_verify() -> None:
    """A data segment that inflates without end is a matter of whoever inflates it, and that is bounded there."""
    bomb = gzip.compress(bytes(64 << 20), 9, mtime=0)
    package = make_apk("a", datahash=hashlib.sha256(bomb).hexdigest())
    file = opened_head(package) + bomb
    tracemalloc.start()
    archive = open_package(file, checksum=package.checksum, keyring=None, what="a")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert len(archive.data) == len(bomb)


def opened_head(package: Package) -> bytes:
    head = read_head(package.file, checksum=package.checksum, keyring=None, what="a")
    return package.file[: head.end]


def test_real_packages(data: Path) -> None:
    keys = {path.name: path.read_bytes() for path in (data / "upstream/keys").glob("*.pub")}
    folder = data / "upstream/alpine/v3.19/main/x86_64"
    archive = open_package(
        (folder / "openssh-server-9.6_p1-r0.apk").read_bytes(), checksum=None, keyring=Keyring(keys), what="sshd"
    )
    assert archive.control.info.name == "openssh-server"
    assert archive.key is not None
