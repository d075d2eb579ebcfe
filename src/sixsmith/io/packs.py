"""Many small records in one file.

A build of sixty packages derives a few hundred facts, and a file for each costs more than most of them took to find out. So
while a build goes on, lasting facts (`LASTING`: they follow from blobs alone, and would be found the same again) gather in
memory and are written together, as one *pack*:

    magic · length of the index · sha256 of the index · index: (kind, key, size) of each record · the records, sealed as ever

What holds: a pack is written whole, never changed, and replaced only by one that holds the same and more; each record
carries its own checksum, so a damaged one reads as absent. What a killed build had gathered is lost, which costs time and
nothing else. A reader keeps its packs open: one that another process merges away stays readable.
Their number stays small, as in a log-structured store: a flush that finds `_MANY` packs merges those of its own size.
"""

# As in the store: making a Path costs as much as the system call that it is for.
# ruff: noqa: PTH108, PTH116

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256

import msgspec

from sixsmith.io.records import open_record, seal_record

__all__ = ["LASTING", "Pack", "Packs"]

LASTING = frozenset(["database", "diff-id", "layer", "member", "package", "tree", "validated"])
"""The kinds of records that may gather. All others (pins, receipts, images, measures) stand alone, and at once."""

_MAGIC = b"sixsmith pack 1\n"
_FRONT = len(_MAGIC) + 8 + 32
_MANY = 12
_FULL = 2 << 20  # bytes that gather at most
_SMALL = 128 << 10  # a record of more bytes is worth a file of its own

_Key = tuple[str, str]


class Pack(msgspec.Struct, frozen=True):
    """A pack that was read. `records` are (kind, key, sealed bytes); `intact` is false when its index cannot be believed."""

    path: str
    size: int
    used: float
    records: tuple[tuple[str, str, bytes], ...]
    intact: bool = True


class Packs:
    """The packs of one folder. `write` puts a file at a path, whole or not at all. Threads may share it."""

    def __init__(self, folder: str, write: Callable[[str, bytes], None]) -> None:
        self.gathering = 0
        self._folder = folder
        self._write = write
        self._lock = threading.RLock()
        self._where: dict[_Key, tuple[int, int, int]] | None = None
        self._open: dict[str, int] = {}
        self._waiting: dict[_Key, bytes] = {}
        self._waiting_bytes = 0

    def find(self, kind: str, key: str) -> bytes | None:
        """The payload of a record, or None where there is none or it is damaged."""
        with self._lock:
            waiting = self._waiting.get((kind, key))
            if waiting is not None:
                return waiting
            if self._where is None:
                self._where = {}
                self._look()
            place = self._where.get((kind, key))
        if place is None:
            return None
        try:
            raw = os.pread(*place)
        except OSError:
            return None
        found = open_record(kind, raw)
        return found[1] if found is not None and found[0] == key else None

    def add(self, kind: str, key: str, payload: bytes) -> bool:
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
        with self._lock:
            if not self._waiting:
                return
            records = [(kind, key, seal_record(kind, key, payload)) for (kind, key), payload in self._waiting.items()]
            names = self._names()
            merged = self._merging(names, sum(len(raw) for _, _, raw in records)) if len(names) >= _MANY else []
            for path in merged:
                records = [*_read(path).records, *records]
            self._write(f"{self._folder}{os.sep}{os.urandom(8).hex()}", render_pack(records))
            self._waiting, self._waiting_bytes = {}, 0
            for path in merged:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            if self._where is not None:
                self._look()

    def close(self) -> None:
        """Lets go of the files; what has gathered and was not flushed is gone."""
        with self._lock:
            self._waiting, self._waiting_bytes = {}, 0
            self._close_files()

    def all(self) -> list[Pack]:
        """Every pack, read whole."""
        return [_read(path) for path in self._names()]

    def replace(self, pack: Pack, records: Iterable[tuple[str, str, bytes]]) -> int:
        """Leaves only these records of a pack; returns the bytes freed. Raises OSError."""
        kept = list(records)
        content = render_pack(kept) if kept else b""
        if kept:
            self._write(pack.path, content)
            os.utime(pack.path, (pack.used, pack.used))
        else:
            os.unlink(pack.path)
        self._close_files()
        return pack.size - len(content)

    def _close_files(self) -> None:
        with self._lock:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open, self._where = {}, None

    def _names(self) -> list[str]:
        """The packs' paths, oldest first."""
        try:
            with os.scandir(self._folder) as entries:
                found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries]
        except FileNotFoundError:
            return []
        return [path for _, path in sorted(found)]

    def _look(self) -> None:
        """Learns where the records of packs are that were not looked at yet."""
        assert self._where is not None
        for path in self._names():
            if path in self._open:
                continue
            try:
                descriptor = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                for kind, key, start, size in _index(descriptor):
                    self._where[kind, key] = (descriptor, size, start)
            except (OSError, ValueError):
                continue  # gone in between, or damaged: its records are as good as none

    def _merging(self, paths: Iterable[str], size: int) -> list[str]:
        """The packs that are written anew with one of `size` bytes: the small ones, until all together are dwarfed by the next."""
        chosen = []
        for path_size, path in sorted((os.stat(path).st_size, path) for path in paths):
            if path_size > 2 * size:
                break
            size += path_size
            chosen.append(path)
        return chosen


def render_pack(records: Iterable[tuple[str, str, bytes]]) -> bytes:
    """A pack's bytes. Of several records with one kind and key the last one stays."""
    last = {(kind, key): raw for kind, key, raw in records}
    index = msgspec.msgpack.encode([(kind, key, len(raw)) for (kind, key), raw in last.items()])
    return b"".join([_MAGIC, len(index).to_bytes(8, "little"), sha256(index).digest(), index, *last.values()])


def _index(descriptor: int) -> list[tuple[str, str, int, int]]:
    """Kind, key, start and size of each record. Raises ValueError (msgspec's are such) for what is no sound pack."""
    front = os.pread(descriptor, 1 << 16, 0)
    length = int.from_bytes(front[len(_MAGIC) : len(_MAGIC) + 8], "little")
    if front[: len(_MAGIC)] != _MAGIC or length > 1 << 30:
        raise ValueError("no pack")
    index = front[_FRONT : _FRONT + length]
    if len(index) < length:
        index += os.pread(descriptor, length - len(index), _FRONT + len(index))
    if sha256(index).digest() != front[len(_MAGIC) + 8 : _FRONT]:
        raise ValueError("a damaged pack")
    places = []
    start = _FRONT + length
    for kind, key, size in msgspec.msgpack.decode(index, type=list[tuple[str, str, int]]):
        places.append((kind, key, start, size))
        start += size
    return places


def _read(path: str) -> Pack:
    """A pack with its records; one that is gone or damaged has none. Reading it does not count as use where that can be had."""
    try:
        descriptor = _quietly(path)
    except FileNotFoundError:
        return Pack(path, 0, 0.0, (), intact=True)
    try:
        status = os.fstat(descriptor)
        used = max(status.st_mtime, status.st_atime)
        try:
            records = [(kind, key, os.pread(descriptor, size, start)) for kind, key, start, size in _index(descriptor)]
        except (OSError, ValueError):
            return Pack(path, status.st_size, used, (), intact=False)
        return Pack(path, status.st_size, used, tuple(records))
    finally:
        os.close(descriptor)


def _quietly(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
