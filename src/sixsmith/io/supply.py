"""Everything that a build takes from outside: package repositories, root file systems, overlay tarballs. All verified.

One `Supply` serves a whole run: an index is read once however many cells use it, and two cells that want the same file wait
for one fetch.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sixsmith import catalog
from sixsmith.apk.index import PackageRecord
from sixsmith.apk.signature import Keyring
from sixsmith.catalog import Checksum
from sixsmith.errors import DigestMismatch, FetchError, FormatError, UsageError
from sixsmith.events import Fetched, Reporter, Warned, silent
from sixsmith.io.http import Http
from sixsmith.io.mirror import Mirror
from sixsmith.io.receipt import Trace
from sixsmith.io.registry_auth import CredentialSource
from sixsmith.io.repository import PackageRepository
from sixsmith.io.store import Store
from sixsmith.model.arch import Arch
from sixsmith.model.digest import Digest, digest_of, hex_of
from sixsmith.plan import BuildPlan, PlannedFile
from sixsmith.variant import OverlayChoice, RepositoryChoice, Variant

__all__ = ["DEFAULT_LOCATION", "Supply", "vault_folder", "vault_image"]

DEFAULT_LOCATION = "https://dl-cdn.alpinelinux.org/alpine"
"""What an image's etc/apk/repositories names, whatever mirror it was built from: the place that it will be patched from."""

MAX_TARBALL = 1 << 30

_MINIROOTFS = r"alpine-minirootfs-([0-9]+(?:\.[0-9]+)*)-([a-z0-9_]+)\.tar\.gz\Z"
_SHA256 = r"[0-9a-f]{64}\Z"


class Supply:
    """What comes from outside, by mirror. `pins` (file name → digest) win over every other source of a checksum."""

    def __init__(
        self,
        *,
        store: Store,
        mirror: Mirror,
        overlay_mirror: Mirror,
        open_mirror: Callable[[str], Mirror],
        http: Http,
        credentials: CredentialSource | None = None,
        allow_untrusted: bool = False,
        extra_keys: Mapping[str, bytes] | None = None,
        jobs: int = 8,
        reporter: Reporter = silent,
        vault: Mirror | None = None,
        pins: Mapping[str, Digest] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.store = store
        self.mirror = mirror
        self.overlay_mirror = overlay_mirror
        self.open_mirror = open_mirror
        self.http = http
        self.credentials = credentials
        self.allow_untrusted = allow_untrusted
        self.extra_keys = extra_keys or {}
        self.jobs = jobs
        self.reporter = reporter
        self.vault = vault
        self.pins = pins or {}
        self.trace = trace if trace is not None else Trace()
        self._repositories: dict[tuple[str, ...], PackageRepository] = {}
        self._files: dict[str, PlannedFile] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._images: dict[str, Digest] = {}
        self._lock = threading.RLock()

    # ---- package repositories

    def repositories(self, variant: Variant) -> list[PackageRepository]:
        """The cell's repositories in order; their indexes are read when asked for."""
        return [self.repository(choice, variant.alpine, variant.arch) for choice in variant.repositories]

    def repository(self, choice: RepositoryChoice, alpine: str, arch: Arch) -> PackageRepository:
        """One repository for one release and architecture, the same object each time."""
        key = (choice.name, choice.url or "", choice.pin or "", choice.key or "", alpine, arch.name)
        with self._lock:
            if key not in self._repositories:
                self._repositories[key] = self._open_repository(choice, alpine, arch)
            return self._repositories[key]

    def _open_repository(self, choice: RepositoryChoice, alpine: str, arch: Arch) -> PackageRepository:
        if self.vault is not None:
            mirror, folder = self.vault, vault_folder(choice, alpine, arch)
            location = f"{self.vault}/{folder.rpartition('/')[0]}"
        elif choice.url is None:
            release = alpine if alpine == "edge" else f"v{alpine}"
            mirror, folder = self.mirror, f"{release}/{choice.name}/{arch.name}"
            location = f"{self.mirror}/{release}/{choice.name}"
        else:
            mirror, folder, location = self.open_mirror(choice.url), arch.name, choice.url
        keyring = None if self.allow_untrusted else self._keyring(choice, alpine, arch)
        return PackageRepository(
            name=choice.name,
            mirror=mirror,
            folder=folder,
            location=location,
            pin=choice.pin,
            keyring=keyring,
            reporter=self.reporter,
        )

    def _keyring(self, choice: RepositoryChoice, alpine: str, arch: Arch) -> Keyring:
        """The catalogue's keys of this release and architecture; for a repository with a key of its own, that one too."""
        keys = {**catalog.keys_for(alpine, arch.name), **self.extra_keys}
        if choice.key is not None:
            path = Path(choice.key)
            try:
                keys[path.name] = path.read_bytes()
                self.trace.saw_bytes(path, keys[path.name])
            except OSError as error:
                raise UsageError(f"key of repository '{choice.name}': {path}: {error.strerror}") from None
        return Keyring(keys)

    def locate(self, plan: BuildPlan) -> list[tuple[PackageRecord, PackageRepository]]:
        """Each package that the plan installs, with the repository that its step names."""
        by_name = {repository.name: repository for repository in self.repositories(plan.variant)}
        return [(plan.records[step.name], by_name[step.repository]) for step in plan.installs]

    # ---- parent images

    def image(self, reference: str, arch: Arch, pinned: Digest | None = None) -> Digest:
        """The manifest of an image for this architecture, with all its blobs in the store.

        `reference` names a registry's image; its tag is looked up now unless a lock pinned the manifest. Raises UsageError
        when the reference names no registry or the image is not for this platform.
        """
        from sixsmith.io.pull import pull_image

        with self._lock:
            key = f"{reference}|{arch.name}|{pinned or ''}"
            if key not in self._images:
                if pinned is not None and self.vault is not None and self.vault.is_folder:
                    vault_image(Path(str(self.vault)) / "images" / pinned.replace(":", "-"), self.store)
                if pinned is None:
                    self.trace.spoil(f"{reference} was looked up in its registry")
                asked = reference if pinned is None else f"{reference.partition('@')[0]}@{pinned}"
                self._images[key] = pull_image(
                    asked,
                    arch,
                    store=self.store,
                    http=self.http,
                    credentials=self.credentials,
                    reporter=self.reporter,
                )
            return self._images[key]

    # ---- the minirootfs

    def minirootfs(self, alpine: str, arch: Arch, point: str | None = None, file: str = "") -> PlannedFile:
        """The minirootfs of `point`, or of the newest point release, verified and in the store; `file` is one that a lock names.

        Its sha256 is the lock's, else the mirror's own (latest-releases.yaml or `.sha256`), else the one of the first use;
        and the sha512 is the catalogue's, where that knows the point release.
        Raises FetchError when the mirror has none, DigestMismatch when it is another file than promised.
        """
        with self._lock:
            name, promised = (
                (file, self.pins[file]) if file in self.pins else self._minirootfs_name(alpine, arch, point)
            )
            folder = f"{alpine if alpine == 'edge' else f'v{alpine}'}/releases/{arch.name}"
            match = re.match(_MINIROOTFS, name)
            known = catalog.minirootfs_checksum(match.group(1), arch.name) if match and name not in self.pins else None
            return self._file(self.mirror, f"{folder}/{name}", name, promised, known)

    def _minirootfs_name(self, alpine: str, arch: Arch, point: str | None) -> tuple[str, Digest | None]:
        wanted = f"{point}-" if point else ""
        pinned = {
            match.group(1): name
            for name in self.pins
            if (match := re.match(_MINIROOTFS, name)) is not None
            and match.group(2) == arch.name
            and (match.group(1) == point if point else _belongs(match.group(1), alpine))
        }
        if pinned:
            name = pinned[_newest(pinned)]
            return name, self.pins[name]
        folder = f"{alpine if alpine == 'edge' else f'v{alpine}'}/releases/{arch.name}"
        if self.mirror.exists(f"{folder}/latest-releases.yaml"):
            latest = _latest_minirootfs(self.mirror.read(f"{folder}/latest-releases.yaml", limit=1 << 20), folder)
            if latest is not None and f"-{wanted}" in latest[0]:
                return latest
        name = f"alpine-minirootfs-{point or self._newest_point(folder, alpine, arch)}-{arch.name}.tar.gz"
        match = re.match(_MINIROOTFS, name)
        known = catalog.minirootfs_checksum(match.group(1), arch.name) if match else None
        if known is not None and known.algorithm == "sha256":
            return name, Digest(f"sha256:{known.digest}")
        return name, self._published_sha256(self.mirror, f"{folder}/{name}")

    def _newest_point(self, folder: str, alpine: str, arch: Arch) -> str:
        """The newest point release in a mirror's folder; for a URL, which has no listing, the newest that is known."""
        listed = self.mirror.list(folder)
        if listed is None:
            return catalog.alpine(alpine).newest
        found = [
            match.group(1)
            for name in listed
            if (match := re.match(_MINIROOTFS, name)) is not None and match.group(2) == arch.name
        ]
        if not found:
            raise FetchError(f"{self.mirror} has no minirootfs of Alpine {alpine} for {arch}")
        return _newest(found)

    # ---- the overlay

    def overlay(self, choice: OverlayChoice, arch: Arch) -> list[PlannedFile]:
        """The release's tarballs for this architecture, verified and in the store, in the order in which they are laid.

        The sha256 is the lock's, else the catalogue's, else the one published beside the file, else that of the first use.
        """
        files = []
        for name in catalog.overlay_files(choice.version, arch, symlinks=choice.symlinks, syslogd=choice.syslogd):
            key = f"s6-overlay-{choice.version}/{name}"
            promised = self.overlay_digest(choice.version, name)
            known = catalog.overlay_checksum(choice.version, name) if key not in self.pins else None
            files.append(self._file(self.overlay_mirror, f"v{choice.version}/{name}", key, promised, known))
        return files

    def overlay_digest(self, version: str, name: str) -> Digest | None:
        """What is promised of a tarball before it is fetched; None when nothing is known."""
        pinned = self.pins.get(f"s6-overlay-{version}/{name}")
        if pinned is not None:
            return pinned
        known = catalog.overlay_checksum(version, name)
        if known is not None and known.algorithm == "sha256":
            return Digest(f"sha256:{known.digest}")
        return self._published_sha256(self.overlay_mirror, f"v{version}/{name}")

    def known_overlay_digest(self, version: str, name: str) -> Digest:
        """The digest of a tarball; it is fetched when nothing else says."""
        promised = self.overlay_digest(version, name)
        if promised is not None:
            return promised
        known = catalog.overlay_checksum(version, name)
        return self._file(self.overlay_mirror, f"v{version}/{name}", f"s6-overlay-{version}/{name}", None, known).digest

    # ---- files, once

    def forget(self) -> None:
        """Looks for files and images anew when they are asked for again: the store lost one that it had."""
        with self._lock:
            self._files.clear()
            self._images.clear()

    def _file(
        self, mirror: Mirror, path: str, key: str, promised: Digest | None, known: Checksum | None = None
    ) -> PlannedFile:
        """The file, in the store. It must be what is `promised`, and what the catalogue knows of it by another algorithm.

        A digest that nobody promised is pinned at the first use, after all else agreed.
        """
        with self._lock:
            if key in self._files:
                return self._files[key]
            pinned = self.store.record("pin", _plain(key))
            first = promised is None and pinned is None
            if first:
                self.trace.spoil(f"{key} is pinned at its first use")
            elif promised is None:
                self.trace.note("bytes", self.store.record_file("pin", _plain(key)))
            expected = promised or (Digest(pinned.decode()) if pinned is not None else None)
            if expected is not None and self.store.has(expected):
                file = PlannedFile(key, expected, self.store.size(expected))
                self.reporter(Fetched("", key, file.size, True))
            else:
                raw = mirror.read_promised(path, limit=MAX_TARBALL)
                digest = digest_of(raw)
                if expected is not None and digest != expected:
                    raise DigestMismatch(
                        f"{mirror}/{path}: expected {expected}, got {digest}",
                        hint="the mirror's file is not the one that was released; try another mirror"
                        if promised
                        else "it is not the file of the first use; `sixsmith store gc` does not forget that, a lock would say which",
                    )
                if known is not None and not known.matches(raw):
                    raise DigestMismatch(
                        f"{mirror}/{path}: its {known.algorithm} is not {known.digest} ({known.sources})",
                        hint="the mirror's file is not the one that was released; try another mirror",
                    )
                self.store.put(raw, verified=digest)
                file = PlannedFile(key, digest, len(raw))
                self.reporter(Fetched("", key, len(raw), False))
                if first:
                    self.store.keep("pin", _plain(key), digest.encode())
                    if known is None or known.algorithm == "md5":  # which proves nothing
                        told = "no published sha256 is known" if known is None else "no more than an md5 is known"
                        self.reporter(Warned("", f"{key}: {told}; pinned at first use to {hex_of(digest)}"))
            self._files[key] = file
            return file

    def _published_sha256(self, mirror: Mirror, path: str) -> Digest | None:
        """The checksum in `FILE.sha256`, as publishers lay it beside the file; None where there is none."""
        if not mirror.exists(f"{path}.sha256"):
            return None
        text = mirror.read(f"{path}.sha256", limit=4096).decode("ascii", "replace").split()
        if not text or not re.match(_SHA256, text[0]):
            raise FormatError(f"{mirror}/{path}.sha256 holds no sha256")
        return Digest(f"sha256:{text[0]}")


def _belongs(point: str, alpine: str) -> bool:
    return point.startswith(f"{alpine}.") or (alpine == "edge" and "." not in point)


def _newest(points: Iterable[str]) -> str:
    return max(points, key=lambda point: tuple(int(part) for part in point.split(".")))


def vault_folder(choice: RepositoryChoice, alpine: str, arch: Arch) -> str:
    """Where a repository's packages lie in a vault (see `sixsmith.vault`)."""
    release = alpine if alpine == "edge" else f"v{alpine}"
    if choice.url is None:
        return f"alpine/{release}/{choice.name}/{arch.name}"
    # the URL may name the release, and then the same file name is another file for each
    return f"repositories/{choice.name}/{release}/{arch.name}" if alpine else f"repositories/{choice.name}/{arch.name}"


def vault_image(folder: Path, store: Store) -> None:
    """Puts a vault's base image into the store, verified. Raises FetchError when the vault does not have it."""
    from sixsmith.io.layout import open_layout

    if not (folder / "index.json").is_file():
        raise FetchError(f"the vault has no {folder.name}")
    layout = open_layout(folder)
    for path in sorted((folder / "blobs" / "sha256").iterdir()):
        store.put(layout.read(Digest(f"sha256:{path.name}")))


def _latest_minirootfs(raw: bytes, folder: str) -> tuple[str, Digest | None] | None:
    """Name and digest of the minirootfs in a latest-releases.yaml, or None when it lists none."""
    import yaml

    try:
        document = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise FormatError(f"{folder}/latest-releases.yaml: {error}") from None
    for item in document if isinstance(document, list) else []:
        if isinstance(item, dict) and item.get("flavor") == "alpine-minirootfs":
            name, sha256 = str(item.get("file", "")), str(item.get("sha256", ""))
            if not re.match(_MINIROOTFS, name):
                raise FormatError(f"{folder}/latest-releases.yaml names an odd minirootfs: {name!r}")
            return name, Digest(f"sha256:{sha256}") if re.match(_SHA256, sha256) else None
    return None


def _plain(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
