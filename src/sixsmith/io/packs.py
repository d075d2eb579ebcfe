"""Many small records in one file.

A build of sixty packages derives a few hundred facts, and a file for each costs more than most of them took to find out. So
while a build goes on, lasting facts (`LASTING`: they follow from bytes and plans alone, and would be found the same again)
gather in memory and are written together, as one *pack*:

    magic · length of the index · sha256 of the index · index: (kind, key, last use, size) of each record · the records, sealed as ever

Small content gathers in the same way (`CONTENT`, by its digest): the data of packages that are no layers of their own. To
make a file costs 0.1 ms, as much as to verify and inflate most of them. What names content is written with it or after it.

What holds: a pack is written whole, never changed, and replaced only by one that holds the same and more; each record
carries its own checksum, so a damaged one reads as absent. What a killed build had gathered is lost, which costs time and
nothing else. A pack that replaces others is synced before they go, so that a power cut takes no more than that either.

A reader keeps its packs open: one that another process merges away stays readable. Their number stays small, as in a
log-structured store: a flush that finds `_MANY` packs merges those of its own size, up to `_GROWN` bytes.

Files have a time of last use, which `Store.gc` goes by; a record in a pack has one of its own. As with `relatime`, it is a day
late at most: a record that a build finds and nobody used for longer is written again, with the facts of that build. Content
is not: it counts as used when a record that names it is.
"""

# As in the store: making a Path costs as much as the system call that it is for.
# ruff: noqa: PTH108

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from hashlib import sha256
from time import time, time_ns

import msgspec

from sixsmith.io.records import CONTENT, open_record, record_pieces
from sixsmith.model.compression import Bytes

__all__ = ["LASTING", "Fact", "Pack", "Packs", "render_pack"]

LASTING = frozenset(
    ["database", "diff-id", "family", "image", "layer", "member", "members", "package", "tree", "validated", CONTENT]
)
"""The kinds of records that may gather. All others (pins, receipts, measures) stand alone, and at once."""

_MAGIC = b"sixsmith pack 1\n"
_FRONT = len(_MAGIC) + 8 + 32
_MANY = 12
_FULL = 2 << 20  # bytes that gather at most
_SMALL = 256 << 10  # a record of more bytes is worth a file of its own

_TINY = 128 << 10  # bytes that are not worth telling from fewer, when packs are merged
_GROWN = 32 << 20  # bytes from which a pack is merged with no other
_DAY = 86_400  # seconds
_TRIES = 5

_Key = tuple[str, str]


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A record in a pack: its sealed bytes, and when it was last used (Unix time)."""

    kind: str
    key: str
    used: int
    raw: bytes


class Pack(msgspec.Struct, frozen=True):
    """A pack that was read; `intact` is false when its index cannot be believed. `size` in bytes."""

    path: str
    size: int
    facts: tuple[Fact, ...]
    intact: bool = True


class _Place(msgspec.Struct, frozen=True, gc=False):
    """A record in an open file."""

    descriptor: int
    start: int
    size: int
    used: int

    def read(self) -> bytes:
        """The sealed record. Raises OSError."""
        return os.pread(self.descriptor, self.size, self.start)

    def pieces(self) -> Iterable[Bytes]:
        """As many bytes as there should be: where some cannot be read, others, as the checksum will tell."""
        try:
            raw = self.read()
        except OSError:
            raw = b""
        return (raw, bytes(self.size - len(raw)))


class _Sealed(msgspec.Struct, frozen=True):
    """A record in memory."""

    used: int
    content: tuple[Bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.content))

    def pieces(self) -> Iterable[Bytes]:
        return self.content


class Packs:
    """The packs of one folder. `write` puts pieces into a file at a path, whole or not at all, and `durable` if asked.

    Threads may share it.
    """

    def __init__(self, folder: str, write: Callable[..., None]) -> None:
        self.gathering = 0
        self._folder = folder
        self._write = write
        self._lock = threading.RLock()
        self._where: dict[_Key, _Place] | None = None
        self._open: dict[str, int] = {}
        self._waiting: dict[_Key, Bytes] = {}
        self._waiting_bytes = 0
        self._again: dict[_Key, bytes] = {}

    def find(self, kind: str, key: str) -> Bytes | None:
        """The payload of a record, or None where there is none or it is damaged."""
        with self._lock:
            waiting = self._waiting.get((kind, key))
            if waiting is not None:
                return waiting
            place = self._place(kind, key)
            if place is None:
                return None
            try:
                raw = place.read()
            except OSError:
                return None
        found = open_record(kind, raw)
        if found is None or found[0] != key:
            return None
        if self.gathering and kind != CONTENT and time() - place.used > _DAY:
            with self._lock:
                self._again[kind, key] = raw
        return found[1]

    def has(self, kind: str, key: str) -> bool:
        """Whether there is such a record, sound or not."""
        with self._lock:
            return (kind, key) in self._waiting or self._place(kind, key) is not None

    def add(self, kind: str, key: str, payload: Bytes) -> bool:
        """Takes a record, to be written with the others; False when it should rather stand alone."""
        if not self.gathering or kind not in LASTING or len(payload) > _SMALL:
            return False
        with self._lock:
            self._waiting[kind, key] = payload
            self._waiting_bytes += len(payload)
            if self._waiting_bytes > _FULL:
                self.flush()
        return True

    def flush(self) -> None:
        """Writes what has gathered. Raises OSError."""
        with self._lock, ExitStack() as opened:
            if not self._waiting and not self._again:
                return
            now = int(time())
            records: dict[_Key, _Place | _Sealed] = {key: _Sealed(now, (raw,)) for key, raw in self._again.items()}
            records |= {
                (kind, key): _Sealed(now, record_pieces(kind, key, payload))
                for (kind, key), payload in self._waiting.items()
            }
            merged = []
            older: dict[_Key, _Place | _Sealed] = {}
            for path in self._merging(sum(record.size for record in records.values())):
                with suppress(PermissionError):  # somebody else's, and nobody else's
                    older |= _places(path, opened)
                    merged.append(path)
            if merged:
                older = self._still_valid(older, merged)
            self._again = {}
            try:
                # names are in order of time as well: times of change are the same for what is written within a few ms
                new = f"{self._folder}{os.sep}{time_ns():016x}-{os.urandom(4).hex()}"
                self._write(new, _rendered(older | records), durable=bool(merged))
            except OSError:
                if self._waiting:
                    raise
                return  # a store that can only be read: when it was used is not noted
            self._waiting, self._waiting_bytes = {}, 0
            for path in merged:
                with suppress(OSError):  # another process was quicker, or the folder is somebody else's
                    os.unlink(path)
            if self._where is not None:
                self._look()

    def _still_valid(
        self, older: Mapping[_Key, _Place | _Sealed], merged: Iterable[str]
    ) -> dict[_Key, _Place | _Sealed]:
        """The records of packs that are merged, without those that a pack beside has in a newer form: the merged pack will be
        the newest of all."""
        self._look()
        descriptors = {self._open[path] for path in merged if path in self._open}
        where = self._where or {}
        return {
            key: record
            for key, record in older.items()
            if (place := where.get(key)) is None or place.descriptor in descriptors
        }

    def close(self) -> None:
        """Lets go of the files; what has gathered and was not flushed is gone."""
        with self._lock:
            self._waiting, self._waiting_bytes, self._again = {}, 0, {}
            self._close_files()

    def sizes(self) -> tuple[int, int]:
        """Bytes of all packs, and how many of them are content."""
        content = 0
        with ExitStack() as opened:
            for path, _ in self._files():
                with suppress(PermissionError):
                    content += sum(place.size for (kind, _), place in _places(path, opened).items() if kind == CONTENT)
        return sum(size for _, size in self._files()), content

    def all(self) -> Iterator[Pack]:
        """Every pack, each read whole when its turn comes."""
        return (_read(path) for path, _ in self._files())

    def replace(self, pack: Pack, facts: Iterable[Fact]) -> int:
        """Leaves only these records of a pack; returns the bytes freed. Raises OSError."""
        content = render_pack(kept) if (kept := list(facts)) else b""
        if kept:
            self._write(pack.path, (content,), durable=True)
        else:
            with suppress(FileNotFoundError):  # another process has merged it away
                os.unlink(pack.path)
        self.look_again()
        return pack.size - len(content)

    def look_again(self) -> None:
        """Lets go of the packs as they were: the next question opens those that are there then."""
        with self._lock:
            self._close_files()

    def _close_files(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open, self._where = {}, None

    def _files(self) -> list[tuple[str, int]]:
        """Path and size of each pack, oldest first."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # merged away by another process since it was listed
                    status = entry.stat()
                    found.append((status.st_mtime_ns, entry.path, status.st_size))
        return [(path, size) for _, path, size in sorted(found)]

    def _place(self, kind: str, key: str) -> _Place | None:
        if self._where is None:
            try:
                self._look()
            except OSError:
                return None
        return self._where.get((kind, key)) if self._where is not None else None

    def _look(self) -> None:
        """Learns where the records of packs are that were not looked at yet."""
        for _ in range(_TRIES):
            if self._look_once():
                break

    def _look_once(self) -> bool:
        """False when another process merged packs away meanwhile: where their records are now, the next look will tell."""
        paths = [path for path, _ in self._files()]
        whole = True
        if not self._open.keys() <= set(paths):
            self._close_files()  # some were merged away: what they hold stands in others now
        where = self._where if self._where is not None else {}
        for path in paths:
            if path in self._open:
                continue
            try:
                descriptor = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                for kind, key, used, start, size in _index(descriptor):
                    where[kind, key] = _Place(descriptor, start, size, used)
            except FileNotFoundError:
                whole = False
            except (OSError, ValueError):
                continue  # not ours to read, or damaged: its records are as good as none
        self._where = where
        return whole

    def _merging(self, size: int) -> list[str]:
        """The packs that are written anew with one of `size` bytes, oldest first: of many packs the small ones, until all
        together are dwarfed by the next, or too big to be written again for that."""
        files = self._files()
        size = max(size, _TINY)
        chosen = set()
        for path, path_size in sorted(files, key=lambda file: file[1]) if len(files) >= _MANY else ():
            if path_size > 2 * size or size + path_size > _GROWN:
                break
            size += path_size
            chosen.add(path)
        return [path for path, _ in files if path in chosen]


def render_pack(facts: Iterable[Fact]) -> bytes:
    """A pack's bytes. Of several records with one kind and key the last one stays."""
    return b"".join(_rendered({(fact.kind, fact.key): _Sealed(fact.used, (fact.raw,)) for fact in facts}))


def _rendered(records: Mapping[_Key, _Place | _Sealed]) -> Iterator[Bytes]:
    """A pack's bytes, piece by piece: what is in other packs is read when its turn comes."""
    index = msgspec.msgpack.encode([(kind, key, record.used, record.size) for (kind, key), record in records.items()])
    yield b"".join([_MAGIC, len(index).to_bytes(8, "little"), sha256(index).digest(), index])
    for record in records.values():
        yield from record.pieces()


def _index(descriptor: int) -> list[tuple[str, str, int, int, int]]:
    """Kind, key, last use, start and size of each record. Raises ValueError (msgspec's are such) for what is no sound pack."""
    whole = os.fstat(descriptor).st_size
    front = os.pread(descriptor, min(whole, 1 << 16), 0)
    length = int.from_bytes(front[len(_MAGIC) : len(_MAGIC) + 8], "little")
    if front[: len(_MAGIC)] != _MAGIC or _FRONT + length > whole:
        raise ValueError("no pack")
    index = front[_FRONT : _FRONT + length]
    if len(index) < length:
        index += os.pread(descriptor, length - len(index), _FRONT + len(index))
    if sha256(index).digest() != front[len(_MAGIC) + 8 : _FRONT]:
        raise ValueError("a damaged pack")
    places = []
    start = _FRONT + length
    for kind, key, used, size in msgspec.msgpack.decode(index, type=list[tuple[str, str, int, int]]):
        if size < 0 or start + size > whole:
            raise ValueError("a pack that claims more than it holds")
        places.append((kind, key, used, start, size))
        start += size
    return places


def _places(path: str, opened: ExitStack) -> dict[_Key, _Place]:
    """Where the records of a pack are, in a file that `opened` closes; none for a pack that is gone or damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    opened.callback(os.close, descriptor)
    try:
        found = _index(descriptor)
    except (OSError, ValueError):
        return {}
    return {(kind, key): _Place(descriptor, start, size, used) for kind, key, used, start, size in found}


def _read(path: str) -> Pack:
    """A pack with its records; one that is gone or damaged has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Pack(path, 0, ())
    try:
        size = os.fstat(descriptor).st_size
        try:
            facts = [
                Fact(kind, key, used, os.pread(descriptor, length, start))
                for kind, key, used, start, length in _index(descriptor)
            ]
        except (OSError, ValueError):
            return Pack(path, size, (), intact=False)
        return Pack(path, size, tuple(facts))
    finally:
        os.close(descriptor)
