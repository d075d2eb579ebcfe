"""Tar by hand: the four dialects, and what is refused."""

from __future__ import annotations

import io
import tarfile

import pytest

from sixsmith.errors import FormatError
from sixsmith.model.tar import BLOCK, END_OF_ARCHIVE, TarEntry, padding, parse_tar, tar_header


def entry(path: str, kind: str = "file", **more: object) -> TarEntry:
    fields = {"mode": 0o644, "uid": 0, "gid": 0, "mtime": 1000, **more}
    return TarEntry(path, kind, **fields)  # type: ignore[arg-type]


def archive(*entries: TarEntry) -> bytes:
    return b"".join(tar_header(one) + bytes(one.size) + padding(one.size) for one in entries) + END_OF_ARCHIVE


def by_tarfile(*members: tarfile.TarInfo, format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


def info(name: str, **fields: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(found, key, value)
    return found


LONG = "/".join(["directory"] * 20) + "/file"


class TestWriting:
    def test_a_header_is_the_one_that_everybody_writes(self) -> None:
        theirs = by_tarfile(
            info("etc/passwd", mode=0o640, uid=1, gid=42, mtime=1234, size=3), format=tarfile.USTAR_FORMAT
        )
        ours = tar_header(entry("etc/passwd", mode=0o640, uid=1, gid=42, mtime=1234, size=3))
        assert (ours[:148], ours[156:329], ours[345:]) == (theirs[:148], theirs[156:329], theirs[345:512])
        # device numbers are left out, which they leave empty, and so the sum

    @pytest.mark.parametrize(
        "one",
        [
            entry("a/b", mode=0o4755, uid=7, gid=42, size=5),
            entry("d", "directory", mode=0o1777),
            entry("s", "symlink", mode=0o777, target="../x"),
            entry("h", "hardlink", target="a/b"),
            entry("dev/null", "char", device=(1, 3)),
            entry("dev/sda", "block", device=(8, 0)),
            entry("p", "fifo"),
            entry(LONG),
            entry("x" * 300),
            entry("s", "symlink", target=LONG),
            entry("h", "hardlink", target="y" * 200),
            entry("ключ/файл"),
            entry("s", "symlink", target="ключ"),
            entry(b"bad\xff".decode("utf-8", "surrogateescape")),
            entry("big", uid=5_000_000, gid=4_294_967_294),
            entry("late", mtime=1 << 40),
            entry("able", xattrs=(("security.capability", bytes(range(20))), ("user.x", b"=\n"))),
            entry("name with\nnewline"),
        ],
        ids=lambda one: one.path[:20].encode("ascii", "replace").decode() + "-" + one.kind,
    )
    def test_what_is_written_is_read_back_here_and_by_tarfile(self, one: TarEntry) -> None:
        raw = archive(one)
        (back,) = parse_tar(raw, what="x")
        assert TarEntry(**{**{f: getattr(back, f) for f in back.__struct_fields__}, "start": 0, "offset": 0}) == one
        with tarfile.open(fileobj=io.BytesIO(raw), encoding="utf-8", errors="surrogateescape") as tar:
            (theirs,) = tar.getmembers()
        assert (theirs.name, theirs.mode, theirs.uid, theirs.gid, theirs.mtime, theirs.size) == (
            one.path,
            one.mode,
            one.uid,
            one.gid,
            one.mtime,
            one.size,
        )
        assert theirs.linkname == one.target

    def test_the_root_has_a_name(self) -> None:
        raw = archive(entry("", "directory", mode=0o755))
        assert raw[:3] == b"./\0"
        assert parse_tar(raw, what="x", strip=True)[0].path == ""

    def test_a_name_of_exactly_100_bytes_needs_no_record(self) -> None:
        assert len(tar_header(entry("x" * 100))) == BLOCK
        assert len(tar_header(entry("x" * 101))) == 3 * BLOCK
        assert len(tar_header(entry("x" * 100, "directory"))) == 3 * BLOCK  # its slash is the 101st

    def test_a_prefix_is_used_where_ustar_can(self) -> None:
        assert len(tar_header(entry(LONG[:149]))) == BLOCK


class TestReading:
    @pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    def test_every_dialect(self, format: int) -> None:
        long = LONG if format != tarfile.USTAR_FORMAT else LONG[:119]
        raw = by_tarfile(
            info("a/", type=tarfile.DIRTYPE, mode=0o755),
            info(long, size=700, uname="root", gname="shadow", gid=42),
            info("link", type=tarfile.SYMTYPE, linkname=long[:99]),
            format=format,
        )
        directory, file, link = parse_tar(raw, what="x")
        assert (directory.path, directory.kind) == ("a", "directory")
        assert (file.path, file.size, file.uname, file.gname, file.gid) == (long, 700, "root", "shadow", 42)
        assert raw[file.offset : file.offset + 700] == b"x" * 700
        assert link.target == long[:99]

    def test_base_256_numbers(self) -> None:
        raw = by_tarfile(info("a", uid=10_000_000, mtime=1 << 36), format=tarfile.GNU_FORMAT)
        assert (parse_tar(raw, what="x")[0].uid, parse_tar(raw, what="x")[0].mtime) == (10_000_000, 1 << 36)

    def test_a_checksum_as_abuild_records_it(self) -> None:
        one = info("a")
        one.pax_headers = {"APK-TOOLS.checksum.SHA1": "da39a3ee5e6b4b0d3255bfef95601890afd80709", "atime": "1.5"}
        raw = by_tarfile(one, format=tarfile.PAX_FORMAT)
        checksum = parse_tar(raw, what="x")[0].checksum
        assert checksum is not None
        assert checksum.hex().startswith("da39a3ee")

    def test_records_that_repeat_are_those_of_each_member(self) -> None:
        members = []
        for name, records in [
            ("a", {"atime": "1", "APK-TOOLS.checksum.SHA1": "11" * 20}),
            ("b", {"atime": "1", "APK-TOOLS.checksum.SHA1": "22" * 20}),
            ("c", {"atime": "1"}),
            ("d", {"SCHILY.xattr.user.x": "y", "uid": "7", "APK-TOOLS.checksum.SHA1": "33" * 20}),
            ("e", {"atime": "1"}),
            ("f", {}),
        ]:
            members.append(info(name))
            members[-1].pax_headers = records
        found = parse_tar(by_tarfile(*members, format=tarfile.PAX_FORMAT), what="x")
        assert [one.checksum for one in found] == [b"\x11" * 20, b"\x22" * 20, None, b"\x33" * 20, None, None]
        assert [(one.uid, one.xattrs) for one in found if one.uid or one.xattrs] == [(7, (("user.x", b"y"),))]

    def test_the_start_covers_the_extended_header(self) -> None:
        raw = archive(entry("a", size=1), entry("x" * 200))
        first, second = parse_tar(raw, what="x")
        assert (first.start, second.start) == (0, 2 * BLOCK)
        assert second.offset == 2 * BLOCK + 3 * BLOCK

    @pytest.mark.parametrize(
        ("name", "found"),
        [("./a/b", "a/b"), ("/a", "a"), (".//a", "a"), ("a//b/./c", "a/b/c"), ("./", ""), (".", ""), ("././x", "x")],
    )
    def test_names_are_stripped_in_layers(self, name: str, found: str) -> None:
        raw = archive(entry("q"))
        raw = renamed(raw, name.encode())
        assert parse_tar(raw, what="x", strip=True)[0].path == found

    def test_an_end_is_optional_and_concatenation_goes_on(self) -> None:
        one, two = archive(entry("a")), archive(entry("b"))
        assert [found.path for found in parse_tar(one[:BLOCK], what="x")] == ["a"]
        assert [found.path for found in parse_tar(one + two, what="x")] == ["a", "b"]
        assert parse_tar(b"", what="x") == []


def renamed(raw: bytes, name: bytes) -> bytes:
    return resummed(name.ljust(100, b"\0") + raw[100:])


def resummed(raw: bytes) -> bytes:
    header = raw[:148] + b" " * 8 + raw[156:BLOCK]
    return header[:148] + b"%06o\0 " % sum(header) + header[156:] + raw[BLOCK:]


class TestRefusing:
    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (archive(entry("a", size=2000))[:1000], "truncated in 'a'"),
            (archive(entry("a"))[:300], "truncated tar header at 0"),
            (b"x" * BLOCK, "damaged tar header at 0"),
            (archive(entry("a")).replace(b"ustar", b"ustax", 1), r"damaged tar header at 0 \(checksum\)"),
            (renamed(archive(entry("a")), b""), "member without a name"),
            (renamed(archive(entry("a")), b"/"), "member without a name"),
            (resummed(archive(entry("a"))[:156] + b"Z" + archive(entry("a"))[157:]), "unknown type b'Z'"),
            (archive(entry("x" * 200))[:BLOCK], "extended header at 0 is truncated"),
            (archive(entry("x" * 200))[: 2 * BLOCK], "ends after an extended header"),
            (resummed(archive(entry("a"))[:124] + b"8888888888 \0" + archive(entry("a"))[136:]), "damaged size"),
            (resummed(archive(entry("a"))[:124] + b"\xff" * 12 + archive(entry("a"))[136:]), "negative size"),
            (resummed(archive(entry("a"))[:124] + b"\x80" + b"\x7f" * 11 + archive(entry("a"))[136:]), "absurd size"),
            (archive(entry("x/" * 2100 + "x")), "member with an impossible name"),
        ],
    )
    def test_bytes_that_are_no_archive(self, raw: bytes, message: str) -> None:
        with pytest.raises(FormatError, match=message):
            parse_tar(raw, what="x")

    @pytest.mark.parametrize("path", ["../a", "a/../../b", "a/.."])
    def test_a_name_that_climbs_out(self, path: str) -> None:
        with pytest.raises(FormatError, match="climbs out of the root"):
            parse_tar(archive(entry(path)), what="x", strip=True)

    @pytest.mark.parametrize("record", [b"9 path=a", b"99 path=a\n", b"x path=a\n", b"7 path\n", b"12 size=abc\n"])
    def test_damaged_pax_records(self, record: bytes) -> None:
        carrier = resummed(
            archive(entry("p", size=len(record)))[:156] + b"x" + archive(entry("p", size=len(record)))[157:]
        )
        raw = carrier[:BLOCK] + record + padding(len(record)) + archive(entry("a"))
        with pytest.raises(FormatError, match="pax header"):
            parse_tar(raw, what="x")
