"""gzip, xz and zstd, with bounds.

libdeflate does both directions: it inflates at twice and deflates at three times zlib's speed, and its output is the same
on every machine for one version of it, which is why the version is part of every cache key (`COMPRESSOR`).
"""

from __future__ import annotations

import zlib
from functools import cache

import deflate

from sixsmith.errors import FormatError

__all__ = ["GZIP_LEVEL", "MAX_INFLATED", "Bytes", "compressor", "gunzip", "gzip_member", "split_members"]

Bytes = bytes | bytearray | memoryview

GZIP_LEVEL = 5
"""Of libdeflate: four fifths of the time of level 6 for half a percent more bytes, and still less than `gzip -6` makes.

What layers are written with, `sixsmith.layers.write` says."""
MAX_INFLATED = 4 << 30
"""No single compressed stream may become larger than this many bytes."""

_MAX_RATIO = 1032
"""deflate cannot expand a byte to more than this many (zlib technical details)."""


@cache
def compressor() -> str:
    """Name and version of the gzip compressor, for cache keys and the lock."""
    # not importlib.metadata, which would say the same for 35 ms of CPU time
    return f"libdeflate(deflate {deflate.__version__})"


def gzip_member(data: Bytes, level: int = GZIP_LEVEL) -> bytes:
    """One gzip member with mtime 0 and no name: the same bytes for the same input, level and compressor version."""
    return bytes(deflate.gzip_compress(data, level))


def gunzip(data: Bytes, *, what: str, limit: int = MAX_INFLATED) -> Bytes:
    """All bytes of a gzip file of one or more members.

    The file's own size field is a claim of whoever made it: it is held against what deflate can do at most and
    against `limit` before memory is asked for. Raises FormatError for damaged, truncated or oversized input.
    """
    view = memoryview(data)
    if len(view) < 18 or bytes(view[:2]) != b"\x1f\x8b":
        raise FormatError(f"{what}: not a gzip file")
    claimed = int.from_bytes(view[-4:], "little")
    if 0 < claimed <= min(limit, len(view) * _MAX_RATIO):
        try:
            out = deflate.gzip_decompress(view, claimed)
        except deflate.DeflateError:
            out = None
        # libdeflate stops after the first member without saying so: the trailer tells whether that was all
        if out is not None and len(out) == claimed and deflate.crc32(out) == int.from_bytes(view[-8:-4], "little"):
            return out
    return b"".join(member for _, member in split_members(view, what=what, limit=limit))


def split_members(data: Bytes, *, what: str, limit: int = MAX_INFLATED) -> list[tuple[int, bytes]]:
    """The members of a gzip file: (offset in `data`, inflated bytes) of each. Raises FormatError as `gunzip` does."""
    view = memoryview(data)
    members: list[tuple[int, bytes]] = []
    position = total = 0
    while position < len(view):
        inflater = zlib.decompressobj(31)
        start, chunks = position, []
        while not inflater.eof:
            chunk = view[position : position + 65536]
            if not chunk:
                raise FormatError(f"{what}: truncated gzip data")
            try:
                piece = inflater.decompress(chunk, limit - total + 1)
            except zlib.error as error:
                raise FormatError(f"{what}: damaged gzip data ({error})") from None
            position += len(chunk) - len(inflater.unused_data)
            if inflater.unconsumed_tail:
                raise FormatError(f"{what}: inflates to more than {limit} bytes")
            total += len(piece)
            if total > limit:
                raise FormatError(f"{what}: inflates to more than {limit} bytes")
            chunks.append(piece)
        members.append((start, b"".join(chunks)))
    return members
