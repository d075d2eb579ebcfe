"""Verified archives whose compressed bytes are at hand, inflated when somebody asks.

A file's content is a slice of its archive's uncompressed tar. Inflating costs about 2 ms per megabyte, keeping everything
inflated costs the memory of the whole image; so all sources share one cache with a limit in bytes. The archive that was
inflated last always stays, however big it is: its members are read one after the other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from sixsmith.errors import FormatError
from sixsmith.model.compression import Bytes, gunzip
from sixsmith.model.digest import Digest, digest_of

__all__ = ["CACHE_LIMIT", "MAX_TARBALL", "SHARED", "GzipSource", "InflatedCache", "PlainSource", "XzSource", "unxz"]

CACHE_LIMIT = 40 << 20
"""Bytes that inflated archives may take all together."""

MAX_TARBALL = 1 << 30
"""No base or overlay tarball may inflate to more than this many bytes."""

_XZ_MAGIC = b"\xfd7zXZ\0"
_XZ_MEMORY = 256 << 20
"""Bytes of dictionary that an xz file may ask for; `xz -9` asks for 65 MiB."""


class InflatedCache:
    """Inflated archives by digest, least recently used ones out first. Threads may share it; each archive is inflated once.

    A part of an archive has a key of its own, which begins with the archive's digest.
    """

    def __init__(self, limit: int = CACHE_LIMIT) -> None:
        self.limit = limit
        self.size = 0
        self._kept: OrderedDict[str, Bytes] = OrderedDict()
        self._busy: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def find(self, digest: str) -> Bytes | None:
        """The inflated archive `digest` if it is here."""
        with self._lock:
            kept = self._kept.get(digest)
            if kept is not None:
                self._kept.move_to_end(digest)
            return kept

    def get(self, digest: str, inflate: Callable[[], Bytes]) -> Bytes:
        """The inflated archive `digest`; `inflate` is called when it is not here. What it raises goes to the caller."""
        while True:
            with self._lock:
                kept = self._kept.get(digest)
                if kept is not None:
                    self._kept.move_to_end(digest)
                    return kept
                waiting = self._busy.get(digest)
                if waiting is None:
                    self._busy[digest] = threading.Event()
                    break
            waiting.wait()
        try:
            inflated = inflate()
            with self._lock:
                self._keep(digest, inflated)
            return inflated
        finally:
            with self._lock:
                self._busy.pop(digest).set()

    def put(self, digest: str, inflated: Bytes) -> None:
        """Takes an archive that was inflated elsewhere."""
        with self._lock:
            if digest not in self._kept:
                self._keep(digest, inflated)

    def drop(self, digest: str) -> None:
        """Lets go of one archive, which nobody will ask for soon."""
        with self._lock:
            gone = self._kept.pop(digest, None)
            if gone is not None:
                self.size -= len(gone)

    def clear(self) -> None:
        """Lets go of everything."""
        with self._lock:
            self._kept.clear()
            self.size = 0

    def _keep(self, digest: str, inflated: Bytes) -> None:
        self._kept[digest] = inflated
        self.size += len(inflated)
        while self.size > self.limit and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self.size -= len(gone)


SHARED = InflatedCache()
"""What sources use that are given no cache of their own."""


class _CompressedSource:
    """An archive by digest: two of the same bytes are the same source."""

    __slots__ = ("_cache", "_read", "digest", "limit", "what")

    def __init__(
        self,
        digest: Digest,
        read: Callable[[], Bytes],
        *,
        what: str = "",
        limit: int = MAX_TARBALL,
        cache: InflatedCache | None = None,
    ) -> None:
        """`read` returns the stored bytes, already verified against `digest`; `what` names the archive in errors;
        `limit` bounds the uncompressed size in bytes."""
        self.digest = digest
        self.what = what or digest
        self.limit = limit
        self._read = read
        self._cache = cache or SHARED

    def raw(self) -> Bytes:
        """The stored bytes."""
        return self._read()

    def inflate(self) -> Bytes:
        """The whole uncompressed tar. Raises FormatError when the bytes are damaged or inflate to more than `limit`."""
        return self._cache.get(self.digest, lambda: self._expand(self._read()))

    def remember(self, inflated: Bytes) -> None:
        """The uncompressed tar, from somebody who has just inflated it anyway."""
        self._cache.put(self.digest, inflated)

    def forget(self) -> None:
        """Gives the memory back; the next `inflate` costs its time again."""
        self._cache.drop(self.digest)

    def _expand(self, stored: Bytes) -> Bytes:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CompressedSource) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.what})"


class GzipSource(_CompressedSource):
    """A gzip file of one or more members: a minirootfs, a v1 or v2 overlay tarball, a package's data segment."""

    __slots__ = ()

    def _expand(self, stored: Bytes) -> Bytes:
        return gunzip(stored, what=self.what, limit=self.limit)


class XzSource(_CompressedSource):
    """An xz file: a v3 overlay tarball."""

    __slots__ = ()

    def _expand(self, stored: Bytes) -> Bytes:
        return unxz(stored, what=self.what, limit=self.limit)


class PlainSource:
    """A tar that is kept uncompressed, as it was made here."""

    __slots__ = ("_data", "digest")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.digest = digest_of(data)

    def inflate(self) -> Bytes:
        """The tar itself."""
        return self._data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlainSource) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def unxz(data: Bytes, *, what: str, limit: int = MAX_TARBALL) -> bytes:
    """All bytes of an xz file of one or more streams.

    Raises FormatError for damaged, truncated or oversized input, and for one that asks for more than 256 MiB of memory.
    """
    import lzma  # costs start-up time, and only v3 overlays are xz

    rest = bytes(data)
    if not rest.startswith(_XZ_MAGIC):
        raise FormatError(f"{what}: not an xz file")
    pieces: list[bytes] = []
    total = 0
    while rest:
        if not rest.startswith(_XZ_MAGIC):
            raise FormatError(f"{what}: damaged xz data (rubbish after its end)")
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        feed = rest
        try:
            while not stream.eof:
                piece = stream.decompress(feed, limit - total + 1)
                total += len(piece)
                if total > limit:
                    raise FormatError(f"{what}: inflates to more than {limit} bytes")
                pieces.append(piece)
                if not piece and stream.needs_input:
                    raise FormatError(f"{what}: truncated xz data")
                feed = b""
        except (lzma.LZMAError, EOFError) as error:
            raise FormatError(f"{what}: damaged xz data ({error})") from None
        rest = stream.unused_data.lstrip(b"\0")  # streams may be padded with zero bytes
    return b"".join(pieces)
