"""Package repositories: verified indexes, and verified packages in the store.

The chain is never broken: the index is signed, the index names each package's control segment (`C:`), the control segment
names the data segment (`datahash`). A package is kept in two pieces: its data segment as a blob, which is at the same time
a finished image layer (a small one in a pack of the store, until it is one), and a record of all else: the raw head
(signature and control), and what was read of it and of the data. While a package passes through, every byte of it is read,
hashed and inflated once, and never again.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache

import msgspec

from sixsmith.apk.archive import ControlSegment, PackageArchive, open_package, read_head, sorted_out
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.apk.signature import Keyring, verify_index
from sixsmith.errors import DigestMismatch, FormatError
from sixsmith.events import Fetched, Reporter, Warned, silent
from sixsmith.io.mirror import Mirror
from sixsmith.io.store import BlobMissing, Store
from sixsmith.layers.plan import BIG
from sixsmith.layers.write import remember_diff_id
from sixsmith.model.compression import Bytes, gunzip
from sixsmith.model.digest import Digest
from sixsmith.model.tar import TarEntry
from sixsmith.model.workers import Workers
from sixsmith.rootfs.install import InstallPackage
from sixsmith.rootfs.sources import MAX_TARBALL, GzipSource
from sixsmith.solver import SolverRepository

__all__ = ["PackageRepository", "StoredPackage", "fetch_packages"]

MAX_INDEX = 256 << 20
"""The largest index file, in bytes, that is read at all; Alpine's largest is 2 MB."""

_LARGE = 256 << 20
_ONE_LARGE = threading.Lock()
"""Held while a data segment of more than that many bytes is inflated."""

_FREED = 24 << 20
"""Bytes of the largest block that is used again."""

_FORMAT = 2
"""Counts up when a package's record holds something else than before: older ones are as good as none then."""


class _Kept(msgspec.Struct, array_like=True):
    """What the store's record of a package holds. `control` and `entries` are None where a text in them is not UTF-8."""

    format: int
    digest: str
    size: int
    head: bytes
    left_out: str = ""
    control: ControlSegment | None = None
    entries: list[TarEntry] | None = None


_encode = msgspec.msgpack.Encoder().encode


class StoredPackage(InstallPackage, frozen=True):
    """A package whose data segment is a blob of the store. `left_out` is a member of it that apk does not install."""

    left_out: str = ""


class PackageRepository:
    """One repository for one architecture.

    `folder` is the path on the mirror that holds the index and the packages (`v3.19/main/x86_64`). `keyring` None means
    that nothing is verified but checksums (`--allow-untrusted`). `location` is what a person, and the image's
    etc/apk/repositories, calls it.
    """

    def __init__(
        self,
        name: str,
        mirror: Mirror,
        folder: str,
        location: str,
        pin: str | None = None,
        keyring: Keyring | None = None,
        reporter: Reporter = silent,
    ) -> None:
        self.name = name
        self.mirror = mirror
        self.folder = folder
        self.location = location
        self.pin = pin
        self.keyring = keyring
        self.reporter = reporter
        self._index: PackageIndex | None = None
        self._lock = threading.Lock()

    def index(self) -> PackageIndex:
        """The verified index, read once.

        Raises FetchError when the mirror has none, SignatureError or FormatError when it is not what its key signed.
        """
        with self._lock:
            if self._index is None:
                what = f"{self.location}/{self.folder.rpartition('/')[2]}/APKINDEX.tar.gz"
                raw = self.mirror.read(f"{self.folder}/APKINDEX.tar.gz", limit=MAX_INDEX)
                verified = verify_index(raw, self.keyring, what=what)
                if self.keyring is None:
                    self.reporter(
                        Warned(
                            "",
                            f"{what}: signature not checked",
                            "--allow-untrusted trusts whoever answers the mirror's name",
                        )
                    )
                self._index = PackageIndex.parse(verified.text)
            return self._index

    def for_solver(self) -> SolverRepository:
        """What the solver wants to know."""
        return SolverRepository(self.index(), self.name, self.pin)

    def fetch(
        self,
        record: PackageRecord,
        store: Store,
        *,
        cell: str = "",
        reporter: Reporter = silent,
        as_layer: bool = False,
    ) -> InstallPackage:
        """The package, verified, its data segment in the store. `as_layer`: it will most likely be a layer of its own.

        Raises FetchError when the mirror does not have it, and VerificationError when it is not what the index promises.
        """
        kept = self._kept(record, store)
        if kept is not None:
            reporter(Fetched(cell, record.filename, record.size, True))
            return kept
        what = f"{self.location}: {record.filename}"
        raw = self._read(record.filename, record.size)
        if record.size and len(raw) != record.size:
            raise DigestMismatch(f"{what}: {len(raw)} bytes, the index says {record.size}")
        dear = not self.mirror.is_folder  # what came over a network is not lost by whatever happens next
        verified = self._keep(store, raw, record.checksum, what=what, as_layer=as_layer, dear=dear)
        _check_same(record, verified.control, what)
        reporter(Fetched(cell, record.filename, len(raw), False))
        return _package(record, verified, store)

    @classmethod
    def keep(cls, store: Store, raw: bytes, checksum: str, *, what: str) -> None:
        """Verifies a package file against its checksum and keeps it in the store, in two pieces. Raises as `open_package`."""
        cls._keep(store, raw, checksum, what=what, as_layer=len(raw) >= BIG, dear=True)

    @staticmethod
    def _keep(store: Store, raw: bytes, checksum: str, *, what: str, as_layer: bool, dear: bool) -> _Verified:
        archive = open_package(raw, checksum=checksum, keyring=None, what=what)
        tar = _inflated(archive.data, what)
        entries, left_out = sorted_out(tar, what)
        size = len(archive.data)
        will_be_a_layer = as_layer and not left_out
        durable = dear or will_be_a_layer
        if durable or not store.put_in_pack(archive.data, archive.data_digest):
            store.put(archive.data, verified=archive.data_digest, durable=durable)
        if will_be_a_layer:
            # what is asked of a layer costs least while its bytes are at hand
            remember_diff_id(store, archive.data_digest, size, tar, entries)
        if not will_be_a_layer or archive.control.scripts:  # busybox's script reads its binary
            _source(store, archive.data_digest, what).remember(tar)  # it is about to be written into a shared layer
        _keep_record(store, checksum, archive, left_out, entries, at_once=dear)
        return _Verified(archive.data_digest, size, archive.control, entries, left_out)

    def whole(self, name: str, version: str, checksum: str, size: int, store: Store) -> bytes:
        """The package file as its publisher made it: put together again from the store, else fetched and kept."""
        kept = _kept(store, checksum)
        if kept is not None:
            with suppress(BlobMissing, DigestMismatch):
                return kept.head + _data(store, Digest(kept.digest))
        file = f"{name}-{version}.apk"
        raw = self._read(file, size)
        self.keep(store, raw, checksum, what=f"{self.location}: {file}")
        return raw

    def _read(self, file: str, size: int) -> bytes:
        return self.mirror.read_promised(f"{self.folder}/{file}", limit=max(size, 1 << 20) + 4096)

    def _kept(self, record: PackageRecord, store: Store) -> InstallPackage | None:
        """The package as an earlier build kept it, or None."""
        kept = _kept(store, record.checksum)
        if kept is None:
            return None
        digest = Digest(kept.digest)
        if not store.has_in_pack(digest) and not store.has(digest):
            return None
        control, entries, left_out = kept.control, kept.entries, kept.left_out
        if control is None or entries is None:
            control = read_head(kept.head, checksum=record.checksum, keyring=None, what=record.filename).control
            try:
                entries, left_out = sorted_out(_source(store, digest, record.filename).inflate(), record.filename)
            except (BlobMissing, DigestMismatch):
                return None
        return _package(record, _Verified(digest, kept.size, control, entries, left_out), store)


def _inflated(data: Bytes, what: str) -> Bytes:
    """The tar of a data segment. One large one at a time: several hostile packages do not add up."""
    if int.from_bytes(data[-4:], "little") <= _LARGE:
        try:
            return gunzip(data, what=what, limit=_LARGE)
        except FormatError:
            pass  # damaged, or larger than it says
    with _ONE_LARGE:
        return gunzip(data, what=what, limit=MAX_TARBALL)


class _Verified(msgspec.Struct, frozen=True):
    """A package that was verified, now or when its record was written."""

    digest: Digest
    size: int
    control: ControlSegment
    entries: list[TarEntry]
    left_out: str


def _package(record: PackageRecord, kept: _Verified, store: Store) -> StoredPackage:
    source = _source(store, kept.digest, record.filename)
    return StoredPackage(record, kept.control, kept.entries, source, kept.size, kept.left_out)


def _kept(store: Store, checksum: str) -> _Kept | None:
    payload = store.record("package", _key(checksum))
    if payload is None:
        return None
    try:
        kept = msgspec.msgpack.decode(payload, type=_Kept)  # a decoder made on loading would cost a cold build 0.6 ms
    except msgspec.DecodeError:
        return None
    return kept if kept.format == _FORMAT else None


def _keep_record(
    store: Store, checksum: str, archive: PackageArchive, left_out: str, entries: list[TarEntry], *, at_once: bool
) -> None:
    kept = _Kept(_FORMAT, archive.data_digest, len(archive.data), archive.head, left_out, archive.control, entries)
    try:
        encoded = _encode(kept)
    except UnicodeEncodeError:
        encoded = _encode(_Kept(_FORMAT, kept.digest, kept.size, kept.head))
    store.keep("package", _key(checksum), encoded, at_once=at_once)


def fetch_packages(
    wanted: Sequence[tuple[PackageRecord, PackageRepository]],
    store: Store,
    *,
    cell: str = "",
    jobs: int = 8,
    reporter: Reporter = silent,
    as_layers: Collection[str] = (),
) -> Mapping[str, InstallPackage]:
    """All the packages, by name, fetched and verified in parallel. The first error stops the rest and is raised.

    `as_layers` are those that will most likely be layers of their own: that decides what is done while their bytes are at
    hand, never the result.
    """
    if not wanted:
        return {}

    def fetch(pair: tuple[PackageRecord, PackageRepository]) -> InstallPackage:
        record, repository = pair
        return repository.fetch(record, store, cell=cell, reporter=reporter, as_layer=record.name in as_layers)

    if all(repository.mirror.is_folder for _, repository in wanted):
        # nothing to wait for: several threads would take a quarter more CPU time and be done no sooner
        # the largest first: what it needed in memory serves the others, which would each take a little more than the last
        if as_layers:
            _keep_freed_memory()
        fetched = {pair[0].name: fetch(pair) for pair in sorted(wanted, key=lambda pair: -pair[0].size)}
        return {record.name: fetched[record.name] for record, _ in wanted}
    with Workers(min(jobs, len(wanted)), name="fetch") as workers:
        tasks = [workers.submit(fetch, pair) for pair in wanted]
        return {record.name: task.result() for (record, _), task in zip(wanted, tasks, strict=True)}


@cache  # a second block would be one of those that are used again, and be filled with zeros
def _keep_freed_memory() -> None:
    """Has memory that packages leave used by those that follow, instead of being given back and asked for anew, empty.

    glibc maps blocks above a threshold one by one, and takes the size of the largest that was freed, up to 32 MiB, as the new
    threshold (mallopt(3), M_MMAP_THRESHOLD). So a block that nobody has written to makes the difference, which costs nothing.
    Measured over 61 packages: a fifth of all page faults of a build, 5 ms. Where all archives stay in memory anyway, for an
    image of one layer, there is little to be used again, and 8 MB more would be held.
    """
    bytes(_FREED)


def _check_same(record: PackageRecord, control: ControlSegment, what: str) -> None:
    """The index's word and the package's own word must be the same package."""
    package = control.info
    if (package.name, package.version) != (record.name, record.version):
        raise FormatError(
            f"{what}: holds {package.name}-{package.version}, the index promises {record.name}-{record.version}"
        )


def _key(checksum: str) -> str:
    return base64.b64decode(checksum[2:]).hex()


def _source(store: Store, digest: Digest, what: str) -> GzipSource:
    return GzipSource(digest, lambda: _data(store, digest), what=what)


def _data(store: Store, digest: Digest) -> Bytes:
    """A data segment, verified. Raises BlobMissing, BlobDamaged."""
    data = store.find_in_pack(digest)
    return store.read(digest) if data is None else data
