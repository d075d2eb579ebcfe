"""The store, as far as the core knows it: blobs by digest and small facts by key.

The core never opens a file; it is handed something that satisfies `Blobs` (on disk `sixsmith.io.store`, in tests a dict).
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import BinaryIO, Protocol

import msgspec

from sixsmith.errors import FormatError
from sixsmith.model.compression import MAX_INFLATED, Bytes, gunzip
from sixsmith.model.digest import Digest
from sixsmith.rootfs.sources import SHARED, InflatedCache
from sixsmith.rootfs.tree import Member

__all__ = ["BlobMember", "BlobReader", "BlobSource", "BlobWriter", "Blobs", "inflate_layer", "keep_members"]

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_STEP = 1024  # bytes fed at once: three of them may be 128 KiB of output


class BlobWriter(Protocol):
    """A blob in the making: nothing is kept unless `commit` returns."""

    def __enter__(self) -> BlobWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, chunk: Bytes, /) -> object: ...

    def commit(self, expected: Digest | None = None) -> tuple[Digest, int]: ...


class BlobReader(Protocol):
    """Blobs that can be read. A missing one is a StoreError, a damaged one (in `read`) a DigestMismatch."""

    def has(self, digest: Digest) -> bool: ...

    def size(self, digest: Digest) -> int: ...

    def open(self, digest: Digest) -> BinaryIO: ...

    def read(self, digest: Digest) -> bytes: ...


class Blobs(BlobReader, Protocol):
    """Blobs that can be read and written, and records: facts that were derived from blobs once and hold for ever."""

    def put(self, blob: Bytes, *, verified: Digest | None = None) -> Digest: ...

    def writer(self) -> BlobWriter: ...

    def record(self, kind: str, key: str) -> bytes | None: ...

    def keep(self, kind: str, key: str, payload: bytes) -> None: ...


def inflate_layer(blob: Bytes, *, what: str) -> Bytes:
    """The tar inside a layer blob: gzip, zstd or plain, told apart by their first bytes.

    Raises FormatError for damaged or oversized input.
    """
    head = bytes(memoryview(blob)[:4])
    if head[:2] == _GZIP:
        return gunzip(blob, what=what)
    if head == _ZSTD:
        return _unzstd(blob, what)
    return blob


def _unzstd(blob: Bytes, what: str) -> bytes:
    import zstandard  # rare: only for images that chose it

    view = memoryview(blob)
    pieces: list[bytes] = []
    position = total = 0
    try:
        while position < len(view):
            frame = zstandard.ZstdDecompressor().decompressobj()
            while not frame.eof:
                step = view[position : position + _ZSTD_STEP]
                if not step:
                    raise FormatError(f"{what}: truncated zstd data")
                piece = frame.decompress(step)
                position += len(step) - len(frame.unused_data)
                total += len(piece)
                if total > MAX_INFLATED:
                    raise FormatError(f"{what}: inflates to more than {MAX_INFLATED} bytes")
                pieces.append(piece)
    except zstandard.ZstdError as error:
        raise FormatError(f"{what}: damaged zstd data ({error})") from None
    return b"".join(pieces)


_Members = list[tuple[int, int]]
"""The compressed members of a layer, in order: bytes as stored, bytes of tar."""


def keep_members(blobs: Blobs, digest: Digest, members: _Members) -> None:
    """Remember of which members a layer was just put together: one file of it then costs no more than its own member."""
    blobs.keep("members", digest, msgspec.msgpack.encode(members))


def _known_members(blobs: BlobReader, digest: Digest, size: int) -> _Members:
    """The members of a layer of `size` bytes, where they are remembered and fit it; else none."""
    record = getattr(blobs, "record", None)
    payload = record("members", digest) if record is not None else None
    if payload is None:
        return []
    try:
        members = msgspec.msgpack.decode(payload, type=_Members)
    except msgspec.DecodeError:
        return []
    is_sound = all(stored > 0 and tar >= 0 for stored, tar in members)
    return members if is_sound and sum(stored for stored, _ in members) == size else []


class BlobSource:
    """A layer blob as a source of file contents. What was inflated last is kept as long as there is room, or until `forget`."""

    def __init__(self, blobs: BlobReader, digest: Digest, *, cache: InflatedCache = SHARED) -> None:
        self._blobs = blobs
        self._digest = digest
        self._cache = cache

    @property
    def digest(self) -> Digest:
        return self._digest

    def raw(self) -> bytes:
        """The blob as stored, verified."""
        return self._blobs.read(self._digest)

    def inflate(self) -> Bytes:
        return self._cache.get(self._digest, lambda: inflate_layer(self.raw(), what=f"layer {self._digest}"))

    def read(self, offset: int, size: int) -> bytes:
        """Some bytes of the tar. Where the layer's members are remembered, only those are inflated that hold them."""
        tar = self._cache.find(self._digest)
        if tar is None:
            members = _known_members(self._blobs, self._digest, self._blobs.size(self._digest))
            tar = self._cut(members, offset, offset + size) if members else None
            if tar is not None:
                return tar
            tar = self.inflate()
        return bytes(memoryview(tar)[offset : offset + size])

    def _cut(self, members: _Members, start: int, stop: int) -> bytes | None:
        """The tar between two offsets, from the members that hold it; None when these are not the layer's members."""
        pieces = []
        at = position = 0  # in the blob, in the tar
        for stored, length in members:
            if position < stop and position + length > start:
                try:
                    member = self._cache.get(f"{self._digest}+{at}", partial(self._inflate_member, at, at + stored))
                except FormatError:
                    return None
                if len(member) != length:
                    return None
                pieces.append(memoryview(member)[max(start - position, 0) : stop - position])
            at += stored
            position += length
        return b"".join(pieces)

    def _inflate_member(self, start: int, stop: int) -> Bytes:
        return inflate_layer(memoryview(self.raw())[start:stop], what=f"a member of layer {self._digest}")

    def forget(self) -> None:
        """Give the memory back; the next `inflate` reads the blob again."""
        self._cache.drop(self._digest)


class BlobMember(Member, frozen=True, gc=False):
    """A file of a layer, of which no more is inflated than must be."""

    def read(self) -> bytes:
        source = self.source
        return source.read(self.offset, self.size) if isinstance(source, BlobSource) else Member.read(self)
