"""Foreign bytes: whatever is done to a package or an index, the answer is an error or what was promised."""

from __future__ import annotations

import gzip

from hypothesis import given, settings
from hypothesis import strategies as st

from apk_files import Item, data_tar, gz, make_apk, make_index, member
from sixsmith.apk.archive import open_package, package_entries, read_head
from sixsmith.apk.installed import parse_installed, parse_scripts, parse_triggers, render_installed
from sixsmith.apk.signature import read_signatures, verify_index
from sixsmith.errors import VerificationError

PACKAGE = make_apk("a", [Item("usr/"), Item("usr/f", b"content")], scripts={"post-install": "true"})
CONTROL = gzip.decompress(PACKAGE.file)
INDEX = make_index([PACKAGE])

edits = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "double"]), st.integers(0, 1 << 16), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, value in changes:
        at = place % (len(data) + 1)
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << (place >> 8) % 8)]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + len(value) :]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        else:
            data = data[:at] + data[max(0, at - len(value)) :]
    return data


@given(edits)
def test_an_edited_package_is_refused(changes: list[tuple[str, int, bytes]]) -> None:
    damaged = edited(PACKAGE.file, changes)
    try:
        archive = open_package(damaged, checksum=PACKAGE.checksum, keyring=None, what="a")
    except VerificationError:
        return
    assert bytes(archive.data) == PACKAGE.file[-len(archive.data) :]
    assert archive.control.checksum == PACKAGE.checksum


@given(edits)
def test_an_edited_control_segment_is_read_or_refused(changes: list[tuple[str, int, bytes]]) -> None:
    file = gz(edited(CONTROL[:3072], changes))
    try:
        read_head(file, checksum=None, keyring=None, what="a")
    except VerificationError:
        return


@given(edits)
def test_an_edited_index_is_read_or_refused(changes: list[tuple[str, int, bytes]]) -> None:
    for damaged in (edited(INDEX, changes), gz(edited(gzip.decompress(INDEX), changes))):
        try:
            read_signatures(damaged, "r")
            verify_index(damaged, None, "r")
        except VerificationError:
            continue


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    for reader in (
        lambda: open_package(data, checksum=None, keyring=None, what="a"),
        lambda: verify_index(data, None, "a"),
        lambda: open_package(gz(data), checksum=None, keyring=None, what="a"),
        lambda: verify_index(gz(data), None, "a"),
    ):
        try:
            reader()
        except VerificationError:
            continue
        raise AssertionError(f"{data!r} was taken")


names = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", ".x", ".keep_x", "é", "\udcff", "a b", "\n", "\0", "x" * 200]),
    min_size=1,
    max_size=5,
).map("/".join)


@given(st.lists(st.tuples(names, st.sampled_from([b"0", b"1", b"2", b"5", b"7"]), names), max_size=6))
def test_names_never_lead_out(parts: list[tuple[str, bytes, str]]) -> None:
    """Every name that is taken is below the root, by plain parts only; so are the targets of hard links."""
    items = [Item(name, target.encode("utf-8", "surrogateescape"), type=kind) for name, kind, target in parts]
    try:
        entries = package_entries(data_tar(items), "a")
    except (VerificationError, ValueError):
        return
    for entry in entries:
        assert not entry.path.startswith(".")  # a target may: that file is never there, and the installer says so
        for path in [entry.path] + [entry.target] * (entry.kind == "hardlink"):
            assert not path.startswith("/")
            assert not {"", ".", ".."} & set(path.split("/"))


@given(edits)
@settings(max_examples=60)
def test_an_edited_tar_is_read_or_refused(changes: list[tuple[str, int, bytes]]) -> None:
    tar = b"".join(
        member(item) for item in [Item("usr/"), Item("usr/" + "x" * 120, b"content"), Item("l", b"t", type=b"2")]
    )
    try:
        package_entries(edited(tar, changes), "a")
    except VerificationError:
        return


DATABASE = (PACKAGE.record + "r:b\nq:1\nF:usr\nM:0:0:700\nR:f\na:1:2:4755\nZ:Q1x=\n\n").encode()


@given(edits)
def test_an_edited_database_is_read_or_refused(changes: list[tuple[str, int, bytes]]) -> None:
    damaged = edited(DATABASE, changes)
    try:
        packages = parse_installed(damaged)
    except VerificationError:
        return
    again = render_installed(packages)
    assert render_installed(parse_installed(again)) == again


@given(st.binary(max_size=2000))
def test_any_triggers_and_scripts(data: bytes) -> None:
    parse_triggers(data)
    try:
        parse_scripts(data)
    except VerificationError:
        return
