"""Tar: what is read has plain paths and stays inside its bytes; what is written of it is read the same."""

from __future__ import annotations

import msgspec

from sixsmith.errors import FormatError
from sixsmith.model.tar import END_OF_ARCHIVE, TarEntry, padding, parse_tar, tar_header
from sixsmith.testing.tars import SampleFile, tar_bytes

WORDS = (
    b"ustar\x0000",
    b"ustar  \0",
    b"20 path=../../etc/x\n",
    b"0000644\0",
    b"\x80\xff",
    b"17 size=99999999\n",
    b"L",
    b"x",
    b"g",
)


def seeds() -> list[bytes]:
    files = [
        SampleFile("usr", kind="directory"),
        SampleFile("usr/" + "x" * 120, b"content", xattrs={"user.x": b"1"}),
        SampleFile("usr/l", kind="symlink", target="x"),
        SampleFile("usr/h", kind="hardlink", target="usr/" + "x" * 120),
        SampleFile("dev", kind="char"),
    ]
    return [tar_bytes(files), tar_bytes(files, checksums=True, prefix="./"), tar_bytes(files[:2], end=False)]


def TestOneInput(data: bytes) -> None:
    try:
        parse_tar(data, what="fuzz", strip=True)
        entries = parse_tar(data, what="fuzz")
    except FormatError:
        return
    parts = []
    for entry in entries:
        assert 0 <= entry.start <= entry.offset <= entry.offset + entry.size <= len(data)
        parts += [tar_header(entry), data[entry.offset : entry.offset + entry.size], padding(entry.size)]
    again = parse_tar(b"".join(parts) + END_OF_ARCHIVE, what="again")
    assert [_kept(entry) for entry in again] == [_kept(entry) for entry in entries]


def _kept(entry: TarEntry) -> TarEntry:
    """What the writer keeps: all but the names of owners and apk's checksum, and not the places."""
    return msgspec.structs.replace(entry, start=0, offset=0, uname="", gname="", checksum=None)
