"""The store, as far as the core knows it: blobs by digest and small facts by key.

The core never opens a file; it is handed something that satisfies `Blobs` (on disk `sixsmith.io.store`, in tests a dict).
"""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO, Protocol

from sixsmith.errors import FormatError
from sixsmith.model.compression import MAX_INFLATED, Bytes, gunzip
from sixsmith.model.digest import Digest

__all__ = ["BlobReader", "BlobSource", "BlobWriter", "Blobs", "inflate_layer"]

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


class BlobSource:
    """A layer blob as a source of file contents. The last inflated tar is kept until `forget`."""

    def __init__(self, blobs: BlobReader, digest: Digest) -> None:
        self._blobs = blobs
        self._digest = digest
        self._tar: Bytes | None = None

    @property
    def digest(self) -> Digest:
        return self._digest

    def raw(self) -> bytes:
        """The blob as stored, verified."""
        return self._blobs.read(self._digest)

    def inflate(self) -> Bytes:
        if self._tar is None:
            self._tar = inflate_layer(self.raw(), what=f"layer {self._digest}")
        return self._tar

    def forget(self) -> None:
        """Give the memory back; the next `inflate` reads the blob again."""
        self._tar = None
