"""Planned layers become blobs.

A verbatim layer is in the store already (verifying the package was hashing the layer); only its diff_id costs one inflate,
once. A written layer is a chain of gzip members (or zstd frames): readers of both formats accept concatenation, so each
package is compressed once and its member reused in every image that has the package. Long segments are cut into chunks, so
memory is bounded by a few chunks and not by the image; the cut depends on sizes only, so the bytes never depend on the
number of threads.

What is remembered, all by content: `diff-id` of a stored blob, `member` (where the compressed bytes of a chunk stand in a
written layer), `layer` (digest, size and diff_id of an ordered list of members). Losing a record costs time, never correctness.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol, TypeVar

import msgspec

from sixsmith.errors import FormatError, StoreError, UsageError, nearest
from sixsmith.events import LayerWritten, Reporter, silent
from sixsmith.layers.plan import ExistingLayer, LayerPlan, PlannedLayer, Segment
from sixsmith.model.compression import Bytes, compressor, gunzip, gzip_member
from sixsmith.model.digest import Digest, digest_of, parse_digest
from sixsmith.model.tar import END_OF_ARCHIVE, TarEntry, padding, tar_header
from sixsmith.model.workers import Task, Workers
from sixsmith.oci.blobs import Blobs, BlobSource, inflate_layer, keep_members
from sixsmith.oci.spec import LAYER_GZIP, LAYER_ZSTD, Descriptor, Layer, as_oci_layer_type
from sixsmith.oci.validate import vouch
from sixsmith.rootfs.sources import GzipSource
from sixsmith.rootfs.tree import Inline, Member, Node, Source

__all__ = [
    "BESIDE_LEVEL",
    "CHUNK",
    "COMPRESSIONS",
    "ZSTD_LEVEL",
    "compressor_named",
    "remember_diff_id",
    "write_layers",
]

CHUNK = 4 << 20
"""Bytes of tar in one compressed member at most. Part of the format: another value is another digest."""

COMPRESSIONS = ("gzip", "zstd")
ZSTD_LEVEL = 9
BESIDE_LEVEL = 3
"""Of gzip, for what is written beside layers that are Alpine's own bytes. Measured over 61 packages, of which a fifth is
written: a sixth less time than level 5, for half a percent more bytes in all."""
SINGLE_LEVEL = 4
"""Of gzip, where all of an image is written: the fastest that makes no more bytes than `gzip -6`, within a hundredth."""

_WORTH_A_THREAD = 24 << 20
"""Bytes of tar to be written from which a second thread is worth it. Two processors often share one core: each is slower
then, and a small image costs a fifth more CPU time to be done a few hundredths of a second sooner."""

_WORTH_KEEPING = 16 << 10
"""Bytes of tar in a member from which keeping it is cheaper than compressing it again."""

_FORMAT = "1"
"""Counts up when the same plan would be written as other bytes; part of every cache key."""

T = TypeVar("T")


class _HasRaw(Protocol):
    def raw(self) -> Bytes: ...


class _Compression:
    """A compressor with its level; `key` names all that decides its output."""

    def __init__(self, name: str, level: int | None) -> None:
        if name not in COMPRESSIONS:
            raise UsageError(f"unknown compression '{name}'", hint=nearest(name, COMPRESSIONS))
        self.name = name
        if name == "gzip":
            self.level = SINGLE_LEVEL if level is None else level
            self.media_type = LAYER_GZIP
            self.key = f"{compressor()} level {self.level}"
        else:
            import zstandard  # costs start-up time, and gzip is the default

            self.level = ZSTD_LEVEL if level is None else level
            self.media_type = LAYER_ZSTD
            self.key = f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} level {self.level}"

    def pack(self, data: Bytes) -> bytes:
        if self.name == "gzip":
            return gzip_member(data, self.level)
        import zstandard

        return zstandard.ZstdCompressor(level=self.level, write_checksum=True).compress(data)

    def unpack(self, packed: bytes, what: str) -> Bytes:
        return gunzip(packed, what=what) if self.name == "gzip" else inflate_layer(packed, what=what)


def compressor_named(compression: str = "gzip") -> str:
    """Name, version and levels of what compresses layers, for the lock. Raises UsageError for an unknown one."""
    if compression == "gzip":
        return f"{compressor()} level {BESIDE_LEVEL}, single layers {SINGLE_LEVEL}"
    return _Compression(compression, None).key


def remember_diff_id(
    blobs: Blobs, digest: Digest, size: int, tar: Bytes, entries: Sequence[TarEntry] | None = None
) -> Digest:
    """The diff_id of a gzip blob whose uncompressed bytes are `tar`, remembered for ever.

    For whoever has inflated a verified blob anyway: as a verbatim layer it then costs nothing more. With `entries` (the
    tar's members) the layer counts as validated, too.
    """
    known = blobs.record("diff-id", digest)
    if known is not None:
        return parse_digest(known.decode("ascii"))
    diff_id = digest_of(tar)
    blobs.keep("diff-id", digest, diff_id.encode("ascii"))
    if entries is not None:
        vouch(blobs, Descriptor(LAYER_GZIP, digest, size), diff_id, entries, tar=tar)
    return diff_id


def write_layers(
    plan: LayerPlan,
    blobs: Blobs,
    *,
    compression: str = "gzip",
    level: int | None = None,
    threads: int | None = None,
    reporter: Reporter = silent,
    cell: str = "",
) -> tuple[Layer, ...]:
    """The layers of a plan as blobs in the store, from below. The bytes do not depend on `threads`: as many as are worth it
    when None. A `level` of None is the compression's own for the plan's strategy.

    A verbatim layer's blob is taken from its source's `raw()` when the store lacks it. Raises StoreError when the store
    fails or such a source has no raw bytes, UsageError for an unknown compression, and whatever a source raises.
    """
    if level is None and compression == "gzip" and plan.strategy != "single":
        level = BESIDE_LEVEL
    chosen = _Compression(compression, level)
    if threads is None:
        threads = 2 if sum(layer.size for layer in plan.layers if layer.segments) >= _WORTH_A_THREAD else 1
    with Workers(threads, name="layers") as workers:
        # what needs one inflate and one hash starts at once; what must be written in order follows
        started = [None if layer.segments else workers.submit(_stored_layer, layer, blobs) for layer in plan.layers]
        layers = []
        for planned, future in zip(plan.layers, started, strict=True):
            if future is None:
                layer, cached = _written_layer(planned, blobs, chosen, workers, threads)
            else:
                layer, cached = future.result()
            reporter(LayerWritten(cell, layer.kind, layer.digest, layer.size, cached))
            layers.append(layer)
    return tuple(layers)


# ---- layers that are blobs already


def _stored_layer(planned: PlannedLayer, blobs: Blobs) -> tuple[Layer, bool]:
    existing = planned.existing
    source = planned.source
    if existing is not None and existing.diff_id is not None:
        return _existing(planned, existing, existing.size, existing.diff_id), True
    digest = existing.digest if existing is not None else source.digest if source is not None else None
    assert digest is not None, "a layer without segments has a source"
    cached = blobs.has(digest)
    if not cached:
        _put_raw(source, digest, blobs)
    size = blobs.size(digest)
    known = blobs.record("diff-id", digest)
    if known is not None:
        diff_id = parse_digest(known.decode("ascii"))
    else:
        tar = (source or BlobSource(blobs, digest)).inflate()
        diff_id = remember_diff_id(blobs, digest, size, tar, planned.entries)
    if existing is not None:
        return _existing(planned, existing, size, diff_id), cached
    return Layer(digest, size, diff_id, LAYER_GZIP, planned.kind, planned.reason, planned.names), cached


def _existing(planned: PlannedLayer, existing: ExistingLayer, size: int, diff_id: Digest) -> Layer:
    media_type = as_oci_layer_type(existing.media_type)
    return Layer(existing.digest, size, diff_id, media_type, planned.kind, planned.reason, planned.names)


def _put_raw(source: Source | None, digest: Digest, blobs: Blobs) -> None:
    raw = getattr(source, "raw", None)
    if raw is None:
        raise StoreError(f"the store has no blob {digest}, and its source cannot give it")
    with blobs.writer() as writer:
        writer.write(raw())
        writer.commit(digest)


# ---- layers that are written


class _Chunk:
    """A stretch of a segment's tar that becomes one member."""

    def __init__(self, segment: _SegmentTar, start: int, stop: int, key: str) -> None:
        self.segment, self.start, self.stop, self.key = segment, start, stop, key

    def make(self, before: _WrittenBefore, chosen: _Compression) -> _Member:
        """Compressed anew unless it stands in a layer that was written before."""
        cached = self.segment.segment.cached and self.stop - self.start >= _WORTH_KEEPING
        known = before.find(self.key, chosen) if cached else None
        if known is not None:
            return known
        tar = self.segment.read(self.start, self.stop)
        packed = chosen.pack(tar)
        if not cached:
            return _Member(tar, packed)
        if self.stop == self.segment.size:
            self.segment.forget()
        return _Member(tar, packed, self.key, hashlib.sha256(packed).hexdigest())


class _Member(msgspec.Struct, frozen=True):
    """A chunk's tar and compressed bytes. One that is new and worth remembering has a key, and the latter's sha256."""

    tar: Bytes
    packed: bytes
    key: str = ""
    sha256: str = ""


class _MemberRecord(msgspec.Struct, frozen=True, array_like=True):
    """Where a member stands: a stretch of bytes of a layer, with their sha256."""

    layer: str
    start: int
    size: int
    sha256: str


class _WrittenBefore:
    """Members in layers that were written before; use it with `with`. Threads may share it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._files: dict[str, BinaryIO] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> _WrittenBefore:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def find(self, key: str, chosen: _Compression) -> _Member | None:
        """A member that was written before. None means to make it anew: it never was, or is gone or damaged, or what the
        record names is no compressed tar."""
        payload = self._blobs.record("member", key)
        if payload is None:
            return None
        try:
            packed = self._read(msgspec.msgpack.decode(payload, type=_MemberRecord))
            return None if packed is None else _Member(chosen.unpack(packed, f"member {key}"), packed)
        except (msgspec.DecodeError, OSError, StoreError, FormatError):
            return None

    def _read(self, record: _MemberRecord) -> bytes | None:
        with self._lock:
            file = self._files.get(record.layer)
            if file is None:
                file = self._files[record.layer] = self._blobs.open(parse_digest(record.layer))
            file.seek(record.start)
            packed = file.read(record.size)
        return packed if hashlib.sha256(packed).hexdigest() == record.sha256 else None


class _SegmentTar:
    """The tar bytes of a segment, readable from anywhere, without ever being in memory as a whole."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.headers = [tar_header(node.entry()) for node in segment.nodes]
        self.starts: list[int] = []
        position = 0
        for node, header in zip(segment.nodes, self.headers, strict=True):
            self.starts.append(position)
            position += len(header) + node.size + (-node.size % 512)
        self.size = position

    def chunks(self, chosen: _Compression) -> Iterator[_Chunk]:
        seen = hashlib.sha256(f"{_FORMAT}\n{chosen.key}\n".encode())
        for node, header in zip(self.segment.nodes, self.headers, strict=True):
            seen.update(header)
            if node.size:
                seen.update(_content_key(node))
        key = seen.hexdigest()
        for start in range(0, self.size, CHUNK):
            stop = min(start + CHUNK, self.size)
            yield _Chunk(self, start, stop, f"{key}-{start}-{stop}")

    def read(self, start: int, stop: int) -> bytes:
        pieces: list[Bytes] = []
        archive = _OneArchive()
        index = bisect_right(self.starts, start) - 1
        while index < len(self.starts) and self.starts[index] < stop:
            position = self.starts[index]
            for piece in self._pieces(index, archive):
                end = position + len(piece)
                if end > start and position < stop:
                    pieces.append(memoryview(piece)[max(0, start - position) : stop - position])
                position = end
            index += 1
        return b"".join(pieces)

    def forget(self) -> None:
        """Lets the archives go whose files are all in compressed members now: for an image of one layer that is all of it."""
        contents = (node.content for node in self.segment.nodes)
        for source in {content.source for content in contents if isinstance(content, Member)}:
            if isinstance(source, GzipSource):
                source.forget()

    def _pieces(self, index: int, archive: _OneArchive) -> Iterable[Bytes]:
        node, header = self.segment.nodes[index], self.headers[index]
        if not node.size:
            return (header,)
        return header, archive.content(node), padding(node.size)


class _OneArchive:
    """The inflated archive that was asked for last: a segment's files of one archive stand together."""

    def __init__(self) -> None:
        self.source: Source | None = None
        self.tar: Bytes = b""

    def content(self, node: Node) -> Bytes:
        content = node.content
        assert content is not None, "checked when the key was made"
        if isinstance(content, Inline):
            data: Bytes = content.data
        else:
            if self.source is not content.source:
                self.tar = b""  # give it back before the next one is inflated
                self.source, self.tar = content.source, content.source.inflate()
            data = memoryview(self.tar)[content.offset : content.offset + content.size]
        if len(data) != node.size:
            raise FormatError(f"/{node.path}: {node.size} bytes in the tree, {len(data)} in its archive")
        return data


def _content_key(node: Node) -> bytes:
    content = node.content
    if content is None:
        raise FormatError(f"/{node.path}: {node.size} bytes and no content")
    if isinstance(content, Inline):
        return hashlib.sha256(content.data).digest()
    return f"{content.source.digest} {content.offset}".encode()


class _LayerRecord(msgspec.Struct, frozen=True):
    digest: str
    size: int
    diff_id: str


def _written_layer(
    planned: PlannedLayer, blobs: Blobs, chosen: _Compression, workers: Workers, threads: int
) -> tuple[Layer, bool]:
    chunks = [chunk for segment in planned.segments for chunk in _SegmentTar(segment).chunks(chosen)]
    key = hashlib.sha256("\n".join([chosen.key, *(chunk.key for chunk in chunks)]).encode()).hexdigest()
    record = _known_layer(blobs, key)
    cached = record is not None
    if record is None:
        record = _splice(chunks, blobs, chosen, workers, threads)
        entries = [node.entry() for segment in planned.segments for node in segment.nodes]
        written = Descriptor(chosen.media_type, parse_digest(record.digest), record.size)
        vouch(blobs, written, parse_digest(record.diff_id), entries)
        blobs.keep("layer", key, msgspec.json.encode(record))
    layer = Layer(
        parse_digest(record.digest),
        record.size,
        parse_digest(record.diff_id),
        chosen.media_type,
        planned.kind,
        planned.reason,
        planned.names,
    )
    return layer, cached


def _known_layer(blobs: Blobs, key: str) -> _LayerRecord | None:
    payload = blobs.record("layer", key)
    if payload is None:
        return None
    record = msgspec.json.decode(payload, type=_LayerRecord)
    digest = parse_digest(record.digest)
    return record if blobs.has(digest) and blobs.size(digest) == record.size else None


def _splice(
    chunks: Sequence[_Chunk], blobs: Blobs, chosen: _Compression, workers: Workers, threads: int
) -> _LayerRecord:
    """The members one after the other. sha256 cannot be put together from parts, so every byte passes here once."""
    diff = hashlib.sha256()
    position = 0
    members: list[tuple[int, int]] = []
    new: list[tuple[str, int, int, str]] = []
    with blobs.writer() as writer, _WrittenBefore(blobs) as before:
        for member in _in_order(workers, lambda chunk: chunk.make(before, chosen), chunks, ahead=threads + 1):
            diff.update(member.tar)
            writer.write(member.packed)
            members.append((len(member.packed), len(member.tar)))
            if member.key:
                new.append((member.key, position, len(member.packed), member.sha256))
            position += len(member.packed)
        diff.update(END_OF_ARCHIVE)
        end = chosen.pack(END_OF_ARCHIVE)
        writer.write(end)
        members.append((len(end), len(END_OF_ARCHIVE)))
        digest, size = writer.commit()
    for key, start, length, sha256 in new:  # now that they can be found
        blobs.keep("member", key, msgspec.msgpack.encode(_MemberRecord(digest, start, length, sha256)))
    diff_id = parse_digest("sha256:" + diff.hexdigest())
    blobs.keep("diff-id", digest, diff_id.encode("ascii"))
    keep_members(blobs, digest, members)
    return _LayerRecord(digest, size, diff_id)


# ---- threads


def _in_order(workers: Workers, work: Callable[[_Chunk], T], chunks: Iterable[_Chunk], *, ahead: int) -> Iterator[T]:
    """The results in order, at most `ahead` of them waiting: what is finished too early would only fill memory."""
    waiting: deque[Task[T]] = deque()
    for chunk in chunks:
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
        waiting.append(workers.submit(work, chunk))
    while waiting:
        yield waiting.popleft().result()
