"""The store: every byte we keep, by digest.

On disk it is an OCI image layout (image-spec, `image-layout.md`), so other tools can read it as it is, with three things beside:

    oci-layout  index.json      what is kept on purpose: the roots, by name
    blobs/sha256/<hex>          blobs, read-only files
    records/<kind>/<key>        small facts derived from blobs (the diff_id of a package, the manifest of a plan)
    packs/<name>                many such facts in one file, as a build leaves them, and small blobs that no image has
                                as a layer (`sixsmith.io.packs`)
    tmp/                        what is being written
    lock                        shared while a Store is open, exclusive while garbage is collected

What holds after `kill -9` or a power cut, and why:

- A blob's name appears by `rename`, after its bytes were hashed and fsynced: a name never stands for half a blob. The
  directory is not synced: a lost name is a missing blob, which is rebuilt. Measured on ext4, 61 files of 240 KB: 7 ms
  without fsync, 28 ms with, 14 ms from eight threads (the journal commits for all of them at once).
- A blob that is kept as a cache alone (`put(durable=False)`, `put_in_pack`: the data of packages that are no layers of their
  own) is not synced until an image has it as a layer. After a power cut its name may stand for half of it; every `read`
  verifies, and a damaged one is made again.
- A record carries its own checksum and is not synced at all: a damaged one reads as absent.
- Leftovers in `tmp/` belong to nobody when the lock can be had exclusively, and are swept then.
- `index.json` is replaced under a lock of its own, so two builds at once keep each other's roots.
"""

# Hot paths work on texts: making a Path costs as much as the system call that it is for.
# ruff: noqa: PTH103, PTH104, PTH108, PTH116, PTH123

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO

import msgspec

from sixsmith.errors import DigestMismatch, FormatError, StoreError
from sixsmith.io.files import read_whole
from sixsmith.io.packs import LASTING, Fact, Pack, Packs
from sixsmith.io.records import CHECKSUM_SIZE, CONTENT, open_record, record_pieces
from sixsmith.model.digest import Digest, digest_of, hex_of, parse_digest

__all__ = ["BlobDamaged", "BlobMissing", "BlobWriter", "Damage", "Store"]

Bytes = bytes | bytearray | memoryview
Stamp = tuple[int, int]

REF_NAME = "org.opencontainers.image.ref.name"

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_MENTION = re.compile(rb"sha256:([0-9a-f]{64})")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+:-]{0,127}\Z")
_MAX_MANIFEST = (
    4 << 20
)  # distribution-spec: registries should take manifests of at least 4 MiB; nobody writes larger ones
_BUFFER = 64 << 10  # bytes gathered before a write
_BATCH = 1 << 20  # bytes, and
_PIECES = 256  # pieces, that are written at once


class BlobMissing(StoreError):
    """The blob is not in the store (any more): build or fetch it again."""


class BlobDamaged(DigestMismatch):
    """The blob in the store was not what its name says, and has been removed: build or fetch it again."""


class Damage(msgspec.Struct, frozen=True):
    """Something in the store that is not what its name says. `kind` is blob, record, root or missing."""

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.reason}"


class Store:
    """Blobs by digest, records by key, roots by name. Safe to use from many threads and many processes at once.

    Opening takes the shared lock and makes the folder when it is not there; a store that cannot be written can still be
    read. Raises StoreError when `root` can be neither made nor read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._records = root / "records"
        self._tmp = root / "tmp"
        self._index = root / "index.json"
        self._blob_front = f"{self._blobs}{os.sep}"
        self._tmp_front = f"{self._tmp}{os.sep}{os.getpid()}-"
        self._lock = -1
        self._seen_whole: set[Digest] = set()
        self._unsynced: set[Digest] = set()
        self._looked_at: dict[Digest, os.stat_result] = {}
        self._flushed = time.monotonic()
        self._single_records: set[str] = set()
        self._standing_alone: dict[str, bool] = {}
        self._packs = Packs(f"{root}{os.sep}packs", partial(_write_whole, self._tmp_front))
        with self._disk("open"):
            self._lock = self._open_layout()
            self._take_shared_lock()
            self._begin_layout()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock. The store must not be used any more."""
        if hasattr(self, "_packs"):
            self._packs.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __del__(self) -> None:
        self.close()

    # ---- blobs

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return Path(self._at(digest))

    def _at(self, digest: Digest) -> str:
        return self._blob_front + hex_of(parse_digest(digest))

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there. Its bytes are not read: `read` and `verify` do that."""
        try:
            return stat.S_ISREG(os.stat(self._at(digest)).st_mode)
        except OSError:
            return False

    def size(self, digest: Digest) -> int:
        """The blob's size in bytes. Raises BlobMissing."""
        with self._blob(digest):
            return os.stat(self._at(digest)).st_size

    def stamp(self, digest: Digest) -> Stamp | None:
        """Size in bytes and time of last change of the blob's file, None when it is not there.

        The file was verified when it got its name, and is never written again: a stamp that changed is a damaged blob.
        """
        status = self.status(digest)
        return (status.st_size, status.st_mtime_ns) if status is not None else None

    def status(self, digest: Digest) -> os.stat_result | None:
        """What the blob's file is, None when it is not there. It is looked at once while the store is open: the images of a
        family have most of their layers in common.
        """
        known = self._looked_at.get(digest)
        if known is None:
            try:
                known = self._looked_at[digest] = os.stat(self._at(digest))
            except FileNotFoundError:
                return None
        return known

    def open(self, digest: Digest) -> BinaryIO:
        """The blob as a file, at its start, not verified. Raises BlobMissing."""
        with self._blob(digest):
            return open(self._at(digest), "rb")

    def read(self, digest: Digest) -> bytes:
        """The blob's bytes, verified. A damaged blob is removed, so that the next build makes it again.

        Raises BlobMissing when it is not there and BlobDamaged when it was damaged.
        """
        with self._blob(digest):
            blob = read_whole(self._at(digest))
        found = digest_of(blob)
        if found != digest:
            self.discard(digest)
            raise BlobDamaged(
                f"the store's blob {digest} was damaged (its bytes have {found}); it has been removed",
                hint="run the same command again: it is made anew",
            )
        self._seen_whole.add(digest)
        return blob

    def find(self, digest: Digest) -> bytes | None:
        """As `read`, with None for a blob that is not there or was damaged."""
        try:
            return self.read(digest)
        except (BlobMissing, DigestMismatch):
            return None

    def check(self, digests: Iterable[Digest]) -> None:
        """Makes sure of blobs that are about to become part of an image without having been read. Each is read at most
        once while the store is open, and not at all when it was written or read before. One that was put as not durable is
        synced now.

        Raises BlobMissing, and BlobDamaged as `read` does.
        """
        for digest in digests:
            if digest not in self._seen_whole:
                self.read(digest)
            self._sync(digest)

    def put_in_pack(self, blob: Bytes, digest: Digest) -> bool:
        """Keep a small blob, of which `digest` has just been computed, with the facts that are gathering; it may be lost in a
        power cut. False when it is too large or nothing is gathering: then it should be `put`.

        It is no file: `has` and `read` do not know it, and no image has it as a layer unless it is `put`, too.
        """
        with self._disk("write"):
            return self._packs.add(CONTENT, hex_of(digest), blob)

    def has_in_pack(self, digest: Digest) -> bool:
        """Whether the blob was put in a pack. Its bytes are not read."""
        return self._packs.has(CONTENT, hex_of(digest))

    def find_in_pack(self, digest: Digest) -> Bytes | None:
        """A blob that was put in a pack, verified; None when there is none. A damaged one is removed.

        Raises BlobDamaged when it was damaged.
        """
        found = self._packs.find(CONTENT, hex_of(digest))
        if found is None and self.has_in_pack(digest):
            with self._disk("clean"):
                self._verify_packs(remove=True)
            raise BlobDamaged(
                f"the store's copy of {digest} was damaged; it has been removed",
                hint="run the same command again: it is made anew",
            )
        return found

    def writer(self) -> BlobWriter:
        """A new blob in the making; use it with `with`. Raises StoreError when the disk does not want it."""
        return BlobWriter(self)

    def put(self, blob: Bytes, *, verified: Digest | None = None, durable: bool = True) -> Digest:
        """Keep these bytes. `verified` is their digest where the caller has just computed it: they are not hashed twice.

        What is not `durable` may be lost in a power cut, until an image names it (`check`): for blobs that can be had again.
        """
        digest = verified or digest_of(blob)
        path = self._at(digest)
        with self._disk("write"):
            if not _same_size(path, len(blob)) or read_whole(path) != blob:  # a damaged one would stay for ever
                self._write(path, blob, durable=durable, mode=0o444)
                self._looked_at.pop(digest, None)
                if not durable:
                    self._unsynced.add(digest)
        if durable:
            self._sync(digest)
        self._seen_whole.add(digest)
        return digest

    def _sync(self, digest: Digest) -> None:
        """Makes a blob durable that this store has put without."""
        if digest in self._unsynced:
            with self._blob(digest):
                descriptor = os.open(self._at(digest), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            self._unsynced.discard(digest)

    def discard(self, digest: Digest) -> None:
        """Remove the blob if it is there."""
        self._seen_whole.discard(digest)
        self._looked_at.pop(digest, None)
        with self._disk("clean"), suppress(FileNotFoundError):
            self.path(digest).unlink()

    def lay(self, digest: Digest, target: Path) -> None:
        """Put the blob at `target` as well, as a hard link where the file system can and a copy elsewhere.

        Raises BlobMissing, and StoreError when `target` cannot be written.
        """
        source = self.path(digest)
        stamp = _stamp_of(source)
        if stamp is None:
            raise self._missing(digest)
        if _stamp_of(target) == stamp:
            return
        with _errors_of(target.parent, "write to"):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
            try:
                try:
                    os.link(source, temporary)
                except OSError:
                    from shutil import copyfile  # costs start-up time, and links are the rule

                    copyfile(source, temporary)
                    os.utime(temporary, ns=(stamp[1], stamp[1]))
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

    # ---- records

    def record(self, kind: str, key: str) -> bytes | None:
        """The payload kept under this kind and key, or None; a damaged record is None too."""
        lasting = kind in LASTING
        if lasting and not self._may_stand_alone(kind):
            return self._in_pack(kind, key)
        path = self._record_path(kind, key)
        try:
            raw = read_whole(path)
        except OSError:
            return self._in_pack(kind, key) if lasting else None
        if lasting:
            self._single_records.add(path)
        found = open_record(kind, raw)
        return found[1] if found and found[0] == key else None

    def keep(self, kind: str, key: str, payload: bytes, *, at_once: bool = False) -> None:
        """Keep a small fact. An older one with the same kind and key is replaced. Raises StoreError.

        While facts are `gathering`, lasting ones are written with the next `flush`; `at_once` for one that was dear.
        """
        path = self._record_path(kind, key)
        with self._disk("write"):
            # one that stands alone is found first: what replaces it must stand alone as well
            if at_once or path in self._single_records or not self._packs.add(kind, key, payload):
                self._write(path, *record_pieces(kind, key, payload), durable=False, mode=0o666)
                self._standing_alone[kind] = True

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Lasting facts that are kept within are written together, at its end or by `flush`. What an error cuts short is
        written as well, if it can be: it is true all the same."""
        self._packs.gathering += 1
        try:
            yield
        except BaseException:
            self._packs.gathering -= 1
            with suppress(StoreError):  # the error that is on its way says more
                self.flush()
            raise
        self._packs.gathering -= 1
        self.flush()

    def flush(self, *, every: float = 0.0) -> None:
        """Write the facts that have gathered, unless that was done less than `every` seconds ago. Raises StoreError."""
        now = time.monotonic()
        if now - self._flushed < every:
            return
        self._flushed = now
        with self._disk("write"):
            self._packs.flush()

    def record_file(self, kind: str, key: str) -> Path:
        """Where the record is, or would be."""
        return Path(self._record_path(kind, key))

    # ---- roots

    @property
    def index_file(self) -> Path:
        """Where the roots are."""
        return self._index

    def root_text(self, name: str, digest: Digest) -> str:
        """How a root stands in `index_file`."""
        return json.dumps(self._root_entry(name, digest), separators=(",", ":"))

    def roots(self) -> dict[str, Digest]:
        """What is kept on purpose: name → digest of a manifest or index in the store. Raises StoreError when unreadable."""
        return {name: parse_digest(entry["digest"]) for name, entry in self._read_roots().items()}

    def keep_root(self, name: str, digest: Digest) -> None:
        """Keep this manifest or index, and all that it names, until the root is dropped or moved."""
        self.keep_roots({name: digest})

    def keep_roots(self, roots: Mapping[str, Digest]) -> None:
        """As `keep_root` for several at once. Raises BlobMissing when a blob is not there, FormatError for no manifest."""
        added = {name: self._root_entry(name, digest) for name, digest in roots.items()}
        with self._editing_roots() as entries:
            entries.update(added)

    def drop_root(self, name: str) -> None:
        """Forget a root; its blobs stay until the next `gc`."""
        with self._editing_roots() as entries:
            entries.pop(name, None)

    # ---- upkeep

    def gc(self, *, before: float = math.inf) -> int:
        """Remove what no root needs and nobody used since `before` (Unix time); returns the bytes freed.

        A record used since then keeps the blobs that it mentions, and a blob written since then stays. Raises StoreError
        when another Store is open on this folder, in this process or another: its blobs may not have a root yet.
        """
        with self._disk("clean"), self._alone():
            self._looked_at.clear()
            self._sweep()
            alive = self._reachable(parse_digest(entry["digest"]) for entry in self._read_roots().values())
            records = list(self._walk_records())
            named = set().union(*(mentioned for _, used, mentioned in records if used >= before))
            for pack in self._packs.all():
                named.update(*(_mentioned_by(fact) for fact in pack.facts if fact.used >= before))
            alive |= self._reachable(named)
            freed = 0
            for path in self._walk_blobs():
                if Digest(f"sha256:{path.name}") not in alive and path.stat().st_mtime < before:
                    freed += _remove(path)
            for path, used, mentioned in records:
                if used < before and not any(self.has(digest) for digest in mentioned):
                    freed += _remove(path)
            return freed + sum(self._thin_out(pack, before, named) for pack in self._packs.all())

    def verify(self, *, remove: bool = False) -> list[Damage]:
        """Read every byte and say what is damaged: blobs, records, and what a root needs but is not there. Empty: all is well.

        With `remove`, damaged blobs and records are removed, so that the next build makes them again.
        """
        damages = []
        with self._disk("read"):
            for path in self._walk_blobs():
                found = _file_digest(path)
                if found is not None and found != f"sha256:{path.name}":
                    damages.append((path, Damage("blob", f"sha256:{path.name}", f"its bytes have {found}")))
            for path in self._record_files():
                with suppress(FileNotFoundError):
                    if open_record(path.parent.name, _read_quietly(path)) is not None:
                        continue
                    damages.append((path, Damage("record", f"{path.parent.name}/{path.name}", "its checksum is wrong")))
            in_packs = self._verify_packs(remove)
            missing = self._verify_roots()
            if remove:
                for path, damage in damages:
                    path.unlink(missing_ok=True)
                    self._seen_whole.discard(Digest(damage.name))
                self._looked_at.clear()
            return [damage for _, damage in damages] + in_packs + missing

    def du(self) -> dict[str, int]:
        """Bytes by kind: `images` (needed by roots), `cache` (other blobs, those in packs as well), `records`, `temporary`."""
        with self._disk("read"):
            alive = self._reachable(self.roots().values())
            sizes = {"images": 0, "cache": 0, "records": 0, "temporary": 0}
            for path in self._walk_blobs():
                sizes["images" if f"sha256:{path.name}" in alive else "cache"] += path.stat().st_size
            sizes["records"] = sum(path.stat().st_size for path in self._record_files())
            in_packs, content = self._packs.sizes()
            sizes["cache"] += content
            sizes["records"] += in_packs - content
            sizes["temporary"] = sum(path.stat().st_size for path in self._tmp.iterdir()) if self._tmp.is_dir() else 0
            return sizes

    # ---- inside: locks and temporaries

    def _open_layout(self) -> int:
        """Make what is missing; returns the open lock file, or -1 for a store that cannot be written and has none."""
        lock = self.root / "lock"
        try:
            for folder in (self._blobs, self._records, self._tmp):
                folder.mkdir(parents=True, exist_ok=True)
            return os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and self._blobs.is_dir():
                return os.open(lock, os.O_RDONLY) if lock.exists() else -1
            raise

    def _begin_layout(self) -> None:
        """Say what the folder is; only under the lock, since whoever opens the store alone sweeps what is being written."""
        try:
            if not (self.root / "oci-layout").exists():
                self._replace(self.root / "oci-layout", _LAYOUT)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise

    def _take_shared_lock(self) -> None:
        """Sweep leftovers if nobody else has the store open, then share the lock."""
        try:
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(OSError):
                    self._sweep()
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        except OSError as error:
            # a file system without locks: everything but `gc` and the sweep is safe without
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF):
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The exclusive lock, or StoreError."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            raise StoreError(
                f"the store at {self.root} is in use", hint="try again when the other build is done"
            ) from None
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _sweep(self) -> None:
        for path in self._tmp.iterdir():
            path.unlink(missing_ok=True)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[IO[bytes], Path]]:
        """A new file in `tmp/`, gone at the end unless it was renamed."""
        path = Path(f"{self._tmp_front}{os.urandom(8).hex()}")
        file: IO[bytes] = path.open("xb", buffering=_BUFFER)
        try:
            yield file, path
        finally:
            with suppress(
                OSError
            ):  # a full disk is met again when what is buffered is written: it has been said already
                file.close()
            path.unlink(missing_ok=True)

    @staticmethod
    def _settle(file: IO[bytes], temporary: Path, path: Path) -> None:
        """Give a complete temporary its name, durably. A blob that is there already, in its size, stays."""
        file.flush()
        size = os.fstat(file.fileno()).st_size
        if _same_size(path, size) and _file_digest(path) == f"sha256:{path.name}":
            return
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
        file.close()
        temporary.replace(path)

    def _replace(self, path: Path, content: bytes) -> None:
        """Write a file whole and durably, in place of the one that may be there."""
        self._write(str(path), content, durable=True, mode=0o666)

    def _write(self, path: str, *pieces: Bytes, durable: bool, mode: int) -> None:
        _write_whole(self._tmp_front, path, pieces, durable=durable, mode=mode)

    # ---- inside: blobs and records

    def _missing(self, digest: Digest) -> BlobMissing:
        return BlobMissing(f"the store at {self.root} has no blob {digest}")

    @contextmanager
    def _blob(self, digest: Digest) -> Iterator[None]:
        with self._disk("read"):
            try:
                yield
            except FileNotFoundError:
                raise self._missing(digest) from None

    @contextmanager
    def _disk(self, verb: str) -> Iterator[None]:
        with _errors_of(self.root, verb):
            yield

    def _record_path(self, kind: str, key: str) -> str:
        if not _PLAIN_NAME.match(kind):
            raise ValueError(f"not a kind of record: {kind!r}")
        # the key stands in the record too: a file name that two keys share is a miss, never a mistake
        name = key if _PLAIN_NAME.match(key) else "=" + hashlib.sha256(key.encode()).hexdigest()
        return f"{self._records}{os.sep}{kind}{os.sep}{name}"

    def _in_pack(self, kind: str, key: str) -> bytes | None:
        found = self._packs.find(kind, key)
        return None if found is None else bytes(found)

    def _may_stand_alone(self, kind: str) -> bool:
        """Whether there are records of a kind that are files. Another process may be writing the first: it is missed, then."""
        known = self._standing_alone.get(kind)
        if known is None:
            known = self._standing_alone[kind] = Path(f"{self._records}{os.sep}{kind}").is_dir()
        return known

    def _thin_out(self, pack: Pack, before: float, named: Set[Digest]) -> int:
        """Removes what nobody used since `before` from a pack: records whose blobs are gone, and content that is not among
        those that are `named`. Returns the bytes freed."""
        kept = [
            fact
            for fact in pack.facts
            if fact.used >= before
            or (
                Digest(f"sha256:{fact.key}") in named
                if fact.kind == CONTENT
                else any(self.has(digest) for digest in _mentioned_by(fact))
            )
        ]
        if pack.intact and len(kept) == len(pack.facts):
            return 0
        return self._packs.replace(pack, kept)

    def _verify_packs(self, remove: bool) -> list[Damage]:
        damages = []
        for pack in self._packs.all():
            sound: list[Fact] = []
            found = []
            for fact in pack.facts:
                opened = open_record(fact.kind, fact.raw)
                if opened is not None and (fact.kind != CONTENT or opened[0] == fact.key):
                    sound.append(fact)
                else:
                    found.append(Damage("record", f"{fact.kind}/{fact.key}", "its checksum is wrong"))
            if not pack.intact:
                found.append(Damage("record", f"packs/{Path(pack.path).name}", "its index is damaged"))
            if found and remove:
                self._packs.replace(pack, sound)
            damages += found
        if remove:
            self._packs.look_again()  # another process may have mended one whose damaged file is still open here
        return damages

    def _walk_blobs(self) -> Iterator[Path]:
        return (path for path in sorted(self._blobs.iterdir()) if _HEX.match(path.name))

    def _record_files(self) -> Iterator[Path]:
        return (path for path in sorted(self._records.glob("*/*")) if path.is_file())

    def _walk_records(self) -> Iterator[tuple[Path, float, set[Digest]]]:
        """Every record with its time of last use and the digests that it mentions, in its key or payload."""
        for path in self._record_files():
            used = _last_use(path)
            yield path, used, _mentioned(path.name, _read_quietly(path))

    # ---- inside: roots and what they need

    def _read_roots(self) -> dict[str, dict[str, Any]]:
        with self._disk("read"):
            try:
                raw = self._index.read_bytes()
            except FileNotFoundError:
                return {}
        try:
            entries = {entry["annotations"][REF_NAME]: entry for entry in json.loads(raw)["manifests"]}
            for entry in entries.values():
                parse_digest(entry["digest"])
        except (ValueError, KeyError, TypeError, FormatError):
            raise StoreError(
                f"{self._index} is damaged", hint="remove it: the next build of each image writes its part again"
            ) from None
        return entries

    def _root_entry(self, name: str, digest: Digest) -> dict[str, Any]:
        """The descriptor of a root. Raises BlobMissing, DigestMismatch, FormatError."""
        blob = self.read(digest)
        media_type = (_parse_manifest(blob) or {}).get("mediaType")
        if not isinstance(media_type, str):
            raise FormatError(f"{name}: {digest} is neither a manifest nor an index")
        return {"mediaType": media_type, "digest": digest, "size": len(blob), "annotations": {REF_NAME: name}}

    @contextmanager
    def _editing_roots(self) -> Iterator[dict[str, dict[str, Any]]]:
        """The roots by name, written back at the end, one editor at a time."""
        with self._disk("write"), (self.root / "index.lock").open("ab") as lock:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self._read_roots()
            before = dict(entries)
            yield entries
            if entries != before:
                manifests = [entries[name] for name in sorted(entries)]
                index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}
                self._replace(self._index, json.dumps(index, separators=(",", ":")).encode())

    def _reachable(self, digests: Iterable[Digest]) -> set[Digest]:
        """These blobs and all that they name, as far as they are in the store."""
        seen: set[Digest] = set()
        ahead = list(digests)
        while ahead:
            digest = ahead.pop()
            if digest not in seen and self.has(digest):
                seen.add(digest)
                ahead.extend(_children(self._peek(digest)))
        return seen

    def _peek(self, digest: Digest) -> bytes:
        """The blob if it may be a manifest or an index, else nothing."""
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                start = file.read(1)
                return start + file.read() if start == b"{" and path.stat().st_size <= _MAX_MANIFEST else b""
        except FileNotFoundError:
            return b""

    def _verify_roots(self) -> list[Damage]:
        """Roots whose blobs are not there, or that cannot be read at all."""
        try:
            roots = self.roots()
        except StoreError as error:
            return [Damage("root", self._index.name, str(error))]
        damages, seen = [], set()
        for name, root in roots.items():
            ahead = [root]
            while ahead:
                digest = ahead.pop()
                if digest in seen:
                    continue
                seen.add(digest)
                if self.has(digest):
                    ahead.extend(_children(self._peek(digest)))
                else:
                    damages.append(Damage("missing", digest, f"'{name}' needs it"))
        return damages


class BlobWriter:
    """A blob in the making: hashed while it is written, named when it is complete.

    Leaving the `with` block without `commit` throws it away.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> BlobWriter:
        self._temporary = self._store._temporary()
        with self._store._disk("write"):
            self._file, self._path = self._temporary.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.__exit__(None, None, None)

    def write(self, chunk: Bytes) -> None:
        """Append. Raises StoreError when the disk does not want it (full, for one)."""
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _store_error(error, self._store.root, "write") from error
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget all that was written, for a source that begins anew."""
        with self._store._disk("write"):
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def commit(self, expected: Digest | None = None) -> tuple[Digest, int]:
        """Name the blob; returns its digest and size in bytes. Durable when it returns.

        Raises DigestMismatch when `expected` was something else, StoreError when the disk does not want it; then there is
        no blob.
        """
        digest = Digest("sha256:" + self._hash.hexdigest())
        if expected is not None and digest != expected:
            raise DigestMismatch(f"expected {expected}, got {digest} ({self.size:,} bytes)")
        with self._store._disk("write"):
            self._store._settle(self._file, self._path, self._store.path(digest))
        self._store._looked_at.pop(digest, None)
        self._store._seen_whole.add(digest)
        return digest, self.size


# ---- plain functions


@contextmanager
def _errors_of(place: Path, verb: str) -> Iterator[None]:
    """OSError as StoreError, in words."""
    try:
        yield
    except OSError as error:
        raise _store_error(error, place, verb) from error


def _store_error(error: OSError, place: Path, verb: str) -> StoreError:
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "it is read-only",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
    }
    reason = reasons.get(error.errno or 0)
    if reason is None:
        return StoreError(f"cannot {verb} {place}: {error.strerror or error}")
    room = "make room, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return StoreError(f"cannot {verb} {place}: {reason}", hint=f"{room}name another place with --store")


def _write_whole(front: str, path: str, pieces: Iterable[Bytes], *, durable: bool = False, mode: int = 0o666) -> None:
    """Write a file whole under another name, then give it its own; its folder is made when it is not there.

    `front` begins the other name."""
    temporary = f"{front}{os.urandom(8).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            _write_pieces(descriptor, pieces)
            if mode == 0o444:
                os.fchmod(descriptor, mode)  # for everybody, whatever the umask
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.rename(temporary, path)
        except FileNotFoundError:
            os.makedirs(path.rpartition(os.sep)[0], exist_ok=True)
            os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _write_pieces(descriptor: int, pieces: Iterable[Bytes]) -> None:
    batch: list[memoryview] = []
    size = 0
    for piece in pieces:
        batch.append(memoryview(piece))
        size += len(piece)
        if size >= _BATCH or len(batch) == _PIECES:
            _write_batch(descriptor, batch)
            batch, size = [], 0
    _write_batch(descriptor, batch)


def _write_batch(descriptor: int, batch: list[memoryview]) -> None:
    while batch:
        written = os.writev(descriptor, batch)
        done = 0
        while done < len(batch) and written >= len(batch[done]):
            written -= len(batch[done])
            done += 1
        batch = batch[done:]
        if batch:
            batch[0] = batch[0][written:]  # a nearly full disk takes less at a time


def _same_size(path: Path | str, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False


def _stamp_of(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _remove(path: Path) -> int:
    size = path.stat().st_size
    path.unlink()
    return size


def _mentioned(key: str, raw: bytes) -> set[Digest]:
    """The digests in a sealed record, or in its key."""
    mentioned = {Digest(f"sha256:{found.decode()}") for found in _MENTION.findall(raw[CHECKSUM_SIZE:])}
    if _HEX.match(key):
        mentioned.add(Digest(f"sha256:{key}"))
    return mentioned


def _mentioned_by(fact: Fact) -> set[Digest]:
    """The same for a record in a pack. Content mentions nothing: it is only mentioned."""
    return set() if fact.kind == CONTENT else _mentioned(fact.key, fact.raw)


def _last_use(path: Path) -> float:
    """Unix time. Linux keeps the access time to the day (`relatime`), which is all that `gc` needs."""
    status = path.stat()
    return max(status.st_mtime, status.st_atime)


def _read_quietly(path: Path) -> bytes:
    """The file's bytes, without marking it as used where that can be had."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _file_digest(path: Path) -> str | None:
    """The digest of what is in the file; None when it is gone, as another process may have found it damaged, too."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _parse_manifest(blob: bytes) -> dict[str, Any] | None:
    """A manifest or an index as JSON, or None when the bytes are something else."""
    try:
        parsed = json.loads(blob)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "schemaVersion" in parsed else None


def _children(blob: bytes) -> list[Digest]:
    """Digests that a manifest or an index names (image-spec `manifest.md`, `image-index.md`)."""
    parsed = _parse_manifest(blob) if blob else None
    if parsed is None:
        return []
    entries = [*(parsed.get("manifests") or []), *(parsed.get("layers") or []), parsed.get("config")]
    named = [entry.get("digest") for entry in entries if isinstance(entry, dict)]
    return [Digest(digest) for digest in named if isinstance(digest, str) and _MENTION.fullmatch(digest.encode())]
