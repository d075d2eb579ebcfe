"""Package repositories: verified indexes, and verified packages in the store.

The chain is never broken: the index is signed, the index names each package's control segment (`C:`), the control segment
names the data segment (`datahash`). A package is kept in two pieces: its head (signature and control) as a record, and its
data segment as a blob, which is at the same time a finished image layer.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from sixsmith.apk.archive import ControlSegment, PackageArchive, open_package, package_entries, read_head
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.apk.signature import Keyring, verify_index
from sixsmith.errors import DigestMismatch, FormatError
from sixsmith.events import Fetched, Reporter, Warned, silent
from sixsmith.io.mirror import Mirror
from sixsmith.io.store import BlobMissing, Store
from sixsmith.model.digest import Digest, hex_of
from sixsmith.model.tar import TarEntry
from sixsmith.rootfs.install import InstallPackage
from sixsmith.rootfs.sources import GzipSource
from sixsmith.solver import SolverRepository

__all__ = ["PackageRepository", "fetch_packages"]

MAX_INDEX = 256 << 20
"""The largest index file, in bytes, that is read at all; Alpine's largest is 2 MB."""

_entries = msgspec.msgpack.Encoder()
_entries_of = msgspec.msgpack.Decoder(list[TarEntry])


@dataclass(slots=True)
class PackageRepository:
    """One repository for one architecture.

    `folder` is the path on the mirror that holds the index and the packages (`v3.19/main/x86_64`). `keyring` None means
    that nothing is verified but checksums (`--allow-untrusted`). `location` is what a person, and the image's
    etc/apk/repositories, calls it.
    """

    name: str
    mirror: Mirror
    folder: str
    location: str
    pin: str | None = None
    keyring: Keyring | None = None
    reporter: Reporter = silent
    store: Store | None = None
    _index: PackageIndex | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

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
        self, record: PackageRecord, store: Store, *, cell: str = "", reporter: Reporter = silent
    ) -> InstallPackage:
        """The package, verified, its data segment in the store.

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
        archive = self.keep(store, raw, record.checksum, what=what)
        _check_same(record, archive.control, what)
        package = self._kept(record, store)
        assert package is not None, "it was kept just now"
        reporter(Fetched(cell, record.filename, len(raw), False))
        return package

    @staticmethod
    def keep(store: Store, raw: bytes, checksum: str, *, what: str) -> PackageArchive:
        """Verifies a package file against its checksum and keeps it in the store, in two pieces. Raises as `open_package`."""
        archive = open_package(raw, checksum=checksum, keyring=None, what=what)
        store.put(archive.data, verified=archive.data_digest)
        entries = package_entries(_source(store, archive.data_digest, what).inflate(), what=what)
        _keep_entries(store, archive.data_digest, entries)
        store.keep("package", _key(checksum), archive.data_digest.encode() + b"\n" + bytes(archive.head))
        return archive

    def whole(self, name: str, version: str, checksum: str, size: int, store: Store) -> bytes:
        """The package file as its publisher made it: put together again from the store, else fetched and kept."""
        kept = store.record("package", _key(checksum))
        if kept is not None:
            digest_text, _, head = kept.partition(b"\n")
            data = store.find(Digest(digest_text.decode("ascii", "replace")))
            if data is not None:
                return head + data
        file = f"{name}-{version}.apk"
        raw = self._read(file, size)
        self.keep(store, raw, checksum, what=f"{self.location}: {file}")
        return raw

    def _read(self, file: str, size: int) -> bytes:
        return self.mirror.read(f"{self.folder}/{file}", limit=max(size, 1 << 20) + 4096)

    def _kept(self, record: PackageRecord, store: Store) -> InstallPackage | None:
        """The package as an earlier build kept it, or None; a head that no longer reads is as good as none."""
        kept = store.record("package", _key(record.checksum))
        if kept is None:
            return None
        digest_text, _, head = kept.partition(b"\n")
        digest = Digest(digest_text.decode("ascii", "replace"))
        if not store.has(digest):
            return None
        control = read_head(head, checksum=record.checksum, keyring=None, what=record.filename).control
        source = _source(store, digest, record.filename)
        entries = _kept_entries(store, digest)
        if entries is None:
            try:
                entries = package_entries(source.inflate(), what=record.filename)
            except (BlobMissing, DigestMismatch):
                return None
            _keep_entries(store, digest, entries)
        return InstallPackage(record, control, entries, source, store.size(digest))


def fetch_packages(
    wanted: Sequence[tuple[PackageRecord, PackageRepository]],
    store: Store,
    *,
    cell: str = "",
    jobs: int = 8,
    reporter: Reporter = silent,
) -> Mapping[str, InstallPackage]:
    """All the packages, by name, fetched and verified in parallel. The first error stops the rest and is raised."""
    if not wanted:
        return {}

    def fetch(pair: tuple[PackageRecord, PackageRepository]) -> InstallPackage:
        record, repository = pair
        return repository.fetch(record, store, cell=cell, reporter=reporter)

    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(wanted)))) as pool:
        futures = [pool.submit(fetch, pair) for pair in wanted]
        try:
            return {future.result().record.name: future.result() for future in futures}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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
    return GzipSource(digest, lambda: store.read(digest), what=what)


def _keep_entries(store: Store, digest: Digest, entries: Sequence[TarEntry]) -> None:
    try:
        encoded = _entries.encode(list(entries))
    except UnicodeEncodeError:
        return  # names that are not UTF-8 have no place in the cache; they are read from the package each time
    store.keep("entries", hex_of(digest), encoded)


def _kept_entries(store: Store, digest: Digest) -> list[TarEntry] | None:
    kept = store.record("entries", hex_of(digest))
    if kept is None:
        return None
    try:
        return _entries_of.decode(kept)
    except msgspec.DecodeError:
        return None
