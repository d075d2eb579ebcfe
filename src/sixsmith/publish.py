"""Publishing: images from the store to a registry, sending only what it lacks.

Order is what keeps a half-done push harmless: blobs first, then the manifests that name them, then the indexes, and the tags
at the very end. Whoever pulls by tag sees the old image or the new one, complete.

Every distinct blob is looked at once, for all repositories together: it is uploaded to at most one of them and mounted into
the others (distribution-spec, "Mounting a blob from another repository"), so a family of forty images that share a base
sends the base once. The second push of the same family sends nothing.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import msgspec

from sixsmith.errors import DigestMismatch, FormatError, RegistryError, UsageError
from sixsmith.events import Progress, Reporter, Uploaded, silent
from sixsmith.io.http import Http
from sixsmith.io.registry import INDEX_TYPES, MANIFEST_TYPES, Blob, Registry
from sixsmith.io.registry_auth import CredentialSource
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest, parse_digest
from sixsmith.model.reference import Reference, parse_reference

__all__ = ["Pushed", "Shipment", "Target", "parse_target", "publish", "publish_family"]

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?\Z")
_CHECK_ANEW = ("DIGEST_INVALID", "SIZE_INVALID")

Item = TypeVar("Item")


class Shipment(msgspec.Struct, frozen=True):
    """An image or index of the store on its way to a repository: its digest, and the tags that it gets there.

    Without tags it is pushed by digest alone.
    """

    repository: str
    tags: tuple[str, ...]
    digest: Digest


class Pushed(msgspec.Struct, frozen=True):
    """What a push did for one reference. Blobs and manifests that several references need are told of the first.

    `uploaded_bytes` were sent, manifests included; `mounted` blobs came from another repository of the registry; `skipped`
    blobs and manifests were there already.
    """

    reference: str
    digest: Digest
    uploaded_bytes: int
    mounted: int
    skipped: int


class Target(msgspec.Struct, frozen=True):
    """Where images go: `HOST[:PORT][/PREFIX]`."""

    host: str
    prefix: str = ""

    def repository(self, image: str) -> str:
        """The repository of an image, below the prefix."""
        return f"{self.prefix}/{image}" if self.prefix else image


class _Tag(Protocol):
    """A tag of a family that was built."""

    @property
    def image(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def descriptor(self) -> _Descriptor: ...


class _Descriptor(Protocol):
    @property
    def digest(self) -> Digest: ...


def parse_target(text: str) -> Target:
    """`HOST[:PORT][/PREFIX]` as a target. Raises UsageError."""
    host, _, prefix = text.removesuffix("/").partition("/")
    if "://" in text:
        bare = text.partition("://")[2]
        raise UsageError(
            f"'{text}' is no registry: it is named without a scheme",
            hint=f"'{bare}'; a registry without TLS wants --plain-http",
        )
    if not _HOST.match(host):
        raise UsageError(f"'{text}': '{host}' is not a registry host", hint="HOST[:PORT][/PREFIX]")
    if prefix:
        parse_reference(f"{host if '.' in host or ':' in host else 'localhost'}/{prefix}")
        if ":" in prefix or "@" in prefix:
            raise UsageError(f"'{text}': a prefix has no tag", hint="HOST[:PORT][/PREFIX]")
    return Target(host, prefix)


def publish_family(
    tags: Iterable[_Tag],
    *,
    target: str,
    store: Store,
    http: Http | None = None,
    credentials: CredentialSource | None = None,
    plain_http: bool = False,
    tls_ca: Path | None = None,
    jobs: int = 8,
    reporter: Reporter = silent,
) -> list[Pushed]:
    """Push the tags of a built family to `HOST[:PORT][/PREFIX]/IMAGE:TAG`; raises as `publish` does, and UsageError."""
    place = parse_target(target)
    registry = Registry(place.host, http=http, plain_http=plain_http, tls_ca=tls_ca, credentials=credentials)
    shipments = [Shipment(place.repository(tag.image), (tag.tag,), tag.descriptor.digest) for tag in tags]
    return publish(shipments, store=store, registry=registry, jobs=jobs, reporter=reporter)


def publish(
    shipments: Sequence[Shipment], *, store: Store, registry: Registry, jobs: int = 8, reporter: Reporter = silent
) -> list[Pushed]:
    """Push these images, `jobs` blobs at a time; returns one Pushed per reference, in the order given.

    Everything is read from the store before the first byte is sent. After an error no tag has been moved that was not
    complete; what was uploaded stays and is skipped next time. Raises RegistryError, StoreError (an image is not in the
    store, or not whole), DigestMismatch (a blob of the store is damaged).
    """
    loads = [_load(store, shipment) for shipment in shipments]
    push = _Push(store, registry, reporter, loads)
    if loads:
        registry.ping()
    threads = ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="push")
    waiting = True
    try:
        run = partial(_run, threads)
        run(push.send_blob, push.distinct_blobs())
        for depth in sorted({part.depth for load in loads for part in load.manifests if part.depth}, reverse=True):
            run(push.send_manifest, push.distinct_manifests(depth))
        run(push.send_untagged, [load for load in loads if not load.shipment.tags])
        run(push.send_tag, [(load, tag) for load in loads for tag in load.shipment.tags])
    except KeyboardInterrupt:
        waiting = False  # nobody waits for a registry that stalls
        raise
    finally:
        threads.shutdown(wait=waiting, cancel_futures=True)
    return push.results()


class _Part(msgspec.Struct, frozen=True):
    """A manifest or index of a shipment; `depth` 0 is the one that gets the tags."""

    digest: Digest
    media_type: str
    raw: bytes
    depth: int


class _Load(msgspec.Struct, frozen=True):
    """A shipment, opened: its manifests, and its blobs with their sizes in bytes."""

    shipment: Shipment
    manifests: tuple[_Part, ...]
    blobs: dict[Digest, int]


class _Tally(msgspec.Struct):
    """What was done for one reference so far."""

    uploaded_bytes: int = 0
    mounted: int = 0
    skipped: int = 0


class _Push:
    """One push: who needs what, and the tally. Its methods are called from many threads."""

    def __init__(self, store: Store, registry: Registry, reporter: Reporter, loads: list[_Load]) -> None:
        self.store = store
        self.registry = registry
        self.reporter = reporter
        self.loads = loads
        self._tallies = {reference: _Tally() for load in loads for reference in self._references(load)}
        self._counting = threading.Lock()

    # ---- what there is to do

    def distinct_blobs(self) -> list[tuple[Digest, int, dict[str, Reference]]]:
        """Each blob once, the largest first so that none is left for the end alone: digest, size, and the repositories
        that need it with the first reference of each."""
        needed: dict[Digest, tuple[int, dict[str, Reference]]] = {}
        for load in self.loads:
            for digest, size in load.blobs.items():
                _, repositories = needed.setdefault(digest, (size, {}))
                repositories.setdefault(load.shipment.repository, self._references(load)[0])
        found = [(digest, size, repositories) for digest, (size, repositories) in needed.items()]
        return sorted(found, key=lambda blob: -blob[1])

    def distinct_manifests(self, depth: int) -> list[tuple[str, _Part, Reference]]:
        """Each manifest of this depth once for each repository, with the first reference that needs it."""
        needed: dict[tuple[str, Digest], tuple[str, _Part, Reference]] = {}
        for load in self.loads:
            repository, reference = load.shipment.repository, self._references(load)[0]
            for part in load.manifests:
                if part.depth == depth:
                    needed.setdefault((repository, part.digest), (repository, part, reference))
        return list(needed.values())

    # ---- doing it

    def send_blob(self, blob: tuple[Digest, int, dict[str, Reference]]) -> None:
        """See to it that all repositories that need the blob have it."""
        digest, size, repositories = blob
        lacking = [name for name in repositories if not self.registry.blob_exists(name, digest)]
        holders = [name for name in repositories if name not in lacking]
        for name in holders:
            self._count(repositories[name], digest, size, "skipped")
        for name in lacking:
            outcome = self._upload(name, digest, size, holders[0] if holders else None)
            holders.append(name)
            self._count(repositories[name], digest, size, outcome)

    def send_manifest(self, item: tuple[str, _Part, Reference]) -> None:
        """A manifest by digest, when the repository lacks it."""
        repository, part, reference = item
        if self.registry.find_manifest(repository, part.digest) == part.digest:
            self._count(reference, part.digest, len(part.raw), "skipped")
            return
        self.registry.put_manifest(repository, part.digest, part.media_type, part.raw)
        self._count(reference, part.digest, len(part.raw), "uploaded")

    def send_untagged(self, load: _Load) -> None:
        """The shipment's own manifest or index, by digest."""
        self.send_manifest((load.shipment.repository, load.manifests[0], self._references(load)[0]))

    def send_tag(self, item: tuple[_Load, str]) -> None:
        """The shipment's own manifest or index under one tag, when the tag is on another."""
        load, tag = item
        repository, part = load.shipment.repository, load.manifests[0]
        reference = Reference(self.registry.host, repository, tag)
        if self.registry.find_manifest(repository, tag) == part.digest:
            self._count(reference, part.digest, len(part.raw), "skipped")
            return
        self.registry.put_manifest(repository, tag, part.media_type, part.raw)
        self._count(reference, part.digest, len(part.raw), "uploaded")

    def results(self) -> list[Pushed]:
        """One for each reference, in order."""
        return [
            Pushed(str(reference), load.shipment.digest, tally.uploaded_bytes, tally.mounted, tally.skipped)
            for load in self.loads
            for reference in self._references(load)
            for tally in [self._tallies[reference]]
        ]

    # ---- inside

    def _references(self, load: _Load) -> list[Reference]:
        shipment, host = load.shipment, self.registry.host
        if not shipment.tags:
            return [Reference(host, shipment.repository, None, shipment.digest)]
        return [Reference(host, shipment.repository, tag) for tag in shipment.tags]

    def _upload(self, repository: str, digest: Digest, size: int, mount_from: str | None) -> str:
        def open_watched() -> _Watched:
            return _Watched(self.store.open(digest), lambda done: self.reporter(Progress("", digest, done, size)))

        blob = Blob(digest, size, open_watched)
        try:
            return self.registry.upload_blob(repository, blob, mount_from=mount_from).how
        except RegistryError as error:
            if any(word in error.message for word in _CHECK_ANEW):
                self.store.read(digest)  # raises DigestMismatch when it is our blob that is damaged
            raise

    def _count(self, reference: Reference, digest: Digest, size: int, how: str) -> None:
        with self._counting:
            tally = self._tallies[reference]
            if how == "uploaded":
                tally.uploaded_bytes += size
            elif how == "mounted":
                tally.mounted += 1
            else:
                tally.skipped += 1
        self.reporter(Uploaded("", digest, size, how))


class _Watched:
    """A file that tells how far it was read, in bytes."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._tell(self._file.tell())
        return piece

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def close(self) -> None:
        self._file.close()


def _run(threads: ThreadPoolExecutor, work: Callable[[Item], None], items: Sequence[Item]) -> None:
    """`work` on every item, and all of it done at the end. Raises the first error; what has not begun is left out."""
    futures: list[Future[None]] = [threads.submit(work, item) for item in items]
    done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
    for future in waiting:
        future.cancel()
    for future in futures:
        if future in done:
            future.result()


def _load(store: Store, shipment: Shipment) -> _Load:
    """The shipment with all that it names. Raises StoreError for what is not in the store, FormatError for no manifest."""
    parts: dict[Digest, _Part] = {}
    blobs: dict[Digest, int] = {}
    ahead = [(shipment.digest, "", 0)]
    while ahead:
        digest, named_type, depth = ahead.pop(0)
        raw = parts[digest].raw if digest in parts else store.read(digest)
        content = _parse(raw, digest)
        media_type = content.get("mediaType") or named_type
        parts[digest] = _Part(digest, media_type, raw, depth)  # met again deeper down: then it goes first
        if media_type in INDEX_TYPES:
            ahead += [
                (_digest(entry), entry.get("mediaType", ""), depth + 1) for entry in content.get("manifests") or []
            ]
        elif media_type in MANIFEST_TYPES:
            for entry in [content.get("config") or {}, *(content.get("layers") or [])]:
                blobs[_digest(entry)] = _checked_size(store, entry)
        else:
            raise FormatError(f"{digest} is neither a manifest nor an index, but {media_type or 'of no known type'}")
    return _Load(shipment, tuple(parts.values()), blobs)


def _parse(raw: bytes, digest: Digest) -> dict[str, Any]:
    try:
        content = json.loads(raw)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise FormatError(f"{digest} is neither a manifest nor an index")
    return content


def _digest(entry: dict[str, Any]) -> Digest:
    return parse_digest(str(entry.get("digest")))


def _checked_size(store: Store, entry: dict[str, Any]) -> int:
    """The size of a blob, which is what the manifest says."""
    digest = _digest(entry)
    size = store.size(digest)
    if size != entry.get("size"):
        raise DigestMismatch(
            f"the store's blob {digest} has {size:,} bytes where its manifest says {entry.get('size')}"
        )
    return size
