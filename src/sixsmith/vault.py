"""The vault: all bytes that a lock names, in one folder that is itself a mirror.

    VAULT/alpine/v3.19/main/x86_64/bash-5.2.21-r0.apk      as on an Alpine mirror
    VAULT/alpine/v3.19/releases/x86_64/alpine-minirootfs-…
    VAULT/s6-overlay/v3.2.1.0/s6-overlay-noarch.tar.xz      as s6-overlay's releases
    VAULT/repositories/NAME/v3.19/x86_64/own-1.0-r0.apk     repositories with a URL of their own, by name
    VAULT/images/sha256-…/                                  base images, each an OCI image layout
    VAULT/CHECKSUMS                                         sha256 of every file, in sha256sum's format

A build from lock and vault needs no network, and no mirror that still has last year's packages. Nothing here has to be
trusted: the lock holds every checksum.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from sixsmith.apk.archive import open_package
from sixsmith.errors import DigestMismatch, FetchError, SixsmithError, StoreError, UsageError, VerificationError
from sixsmith.events import Fetched, Reporter, silent
from sixsmith.io.layout import write_layout
from sixsmith.io.repository import PackageRepository
from sixsmith.io.store import BlobMissing, Store
from sixsmith.io.supply import Supply, vault_folder, vault_image
from sixsmith.lock import Lock, LockedPackage
from sixsmith.model.digest import Digest, digest_of, hex_of
from sixsmith.oci.spec import Descriptor, parse_manifest
from sixsmith.variant import RepositoryChoice, Variant

__all__ = ["CHECKSUMS", "VaultFile", "check_vault", "export_vault", "import_vault", "vault_files"]

CHECKSUMS = "CHECKSUMS"

_DAMAGED = "damaged (its bytes are not those that the lock names)"


class VaultFile(msgspec.Struct, frozen=True):
    """A file that the lock names, by its path in the vault. `size` in bytes.

    `checksum` is apk's (`Q1…`) for a package, the digest for anything else.
    """

    path: str
    checksum: str
    size: int
    cell: Variant
    repository: RepositoryChoice | None = None
    package: tuple[str, LockedPackage] | None = None


def vault_files(lock: Lock, cells: Sequence[Variant]) -> list[VaultFile]:
    """Every file of the locked cells, each once, sorted by path.

    Raises UsageError for a cell that the lock does not hold as the family file asks for it.
    """
    found: dict[str, VaultFile] = {}
    for cell in cells:
        if not lock.holds(cell):
            raise UsageError(f"{cell.id} is not locked as the family file asks for it", hint="run `sixsmith lock`")
        locked = lock.cells[cell.id]
        choices = {choice.name: choice for choice in cell.repositories}
        for file in _cell_files(lock, locked.base, locked.overlay, cell):
            found[file.path] = file
        for step in locked.steps:
            if step.action in ("remove", "pin"):
                continue
            package = lock.package(locked, step)
            choice = choices[step.repository]
            path = f"{vault_folder(choice, cell.alpine, cell.arch)}/{step.name}-{package.version}.apk"
            found[path] = VaultFile(path, package.checksum, package.size, cell, choice, (step.name, package))
    return [found[path] for path in sorted(found)]


def _cell_files(lock: Lock, base: str, overlay: Sequence[str], cell: Variant) -> Iterator[VaultFile]:
    if base.startswith("sha256:"):
        yield VaultFile(f"images/{base.replace(':', '-')}", base, 0, cell)
    elif base:
        file = lock.files[base]
        branch = cell.alpine if cell.alpine == "edge" else f"v{cell.alpine}"
        yield VaultFile(f"alpine/{branch}/releases/{cell.arch.name}/{base}", file.digest, file.size, cell)
    for name in overlay:
        file = lock.files[name]
        folder, _, plain = name.removeprefix("s6-overlay-").partition("/")
        yield VaultFile(f"s6-overlay/v{folder}/{plain}", file.digest, file.size, cell)


def export_vault(
    lock: Lock, cells: Sequence[Variant], folder: Path, *, supply: Supply, store: Store, reporter: Reporter = silent
) -> tuple[int, int]:
    """Writes every file that the lock names below `folder`, from the store, or fetched where the store lacks it.

    Returns how many files and bytes were written; those that are there and right are left alone. Raises what fetching and
    verifying raises, StoreError when the folder cannot be written.
    """
    written = size = 0
    listed: dict[str, str] = {}
    for file in vault_files(lock, cells):
        target = folder / file.path
        if file.path.startswith("images/"):
            _export_image(file, target, supply=supply, store=store)
            continue
        content = target.read_bytes() if target.is_file() else None
        if content is None or not _is(file, content):
            content = _bytes_of(file, supply=supply, store=store)
            _write(target, content)
            written += 1
            size += len(content)
        reporter(Fetched("", file.path, len(content), False))
        listed[file.path] = hashlib.sha256(content).hexdigest()
    _write(folder / CHECKSUMS, "".join(f"{sha}  {path}\n" for path, sha in sorted(listed.items())).encode())
    return written, size


def check_vault(lock: Lock, cells: Sequence[Variant], folder: Path) -> list[str]:
    """What is wrong with the vault, a sentence for each file that is missing or damaged; empty when all is well."""
    faults = []
    for file in vault_files(lock, cells):
        target = folder / file.path
        if file.path.startswith("images/"):
            faults += _faults_of_image(file, target)
            continue
        try:
            content = target.read_bytes()
        except OSError as error:
            faults.append(f"{file.path}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}")
            continue
        if not _is(file, content):
            faults.append(f"{file.path}: {_DAMAGED}")
    return faults


def _faults_of_image(file: VaultFile, folder: Path) -> list[str]:
    """What is wrong with a base image: the manifest must be the locked one, and every blob that it names be there."""
    from sixsmith.io.layout import open_layout

    if not (folder / "index.json").is_file():
        return [f"{file.path}: missing"]
    faults = []
    with open_layout(folder) as layout:
        ahead = [Digest(file.checksum)]
        while ahead:
            digest = ahead.pop()
            try:
                raw = layout.read(digest)
                if digest == file.checksum:
                    manifest = parse_manifest(raw, what=file.path)
                    ahead += [blob.digest for blob in (*reversed(manifest.layers), manifest.config)]
            except BlobMissing:
                faults.append(f"{file.path}/blobs/sha256/{hex_of(digest)}: missing")
            except SixsmithError:
                faults.append(f"{file.path}/blobs/sha256/{hex_of(digest)}: {_DAMAGED}")
    return faults


def import_vault(
    lock: Lock, cells: Sequence[Variant], folder: Path, *, store: Store, reporter: Reporter = silent
) -> int:
    """Puts every file of the vault into the store, verified; returns how many.

    Raises DigestMismatch naming all damaged files, FetchError naming the missing ones; the store keeps nothing of those.
    """
    faults = check_vault(lock, cells, folder)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        kind = FetchError if all(fault.endswith("missing") for fault in faults) else DigestMismatch
        raise kind(f"the vault {folder} is not whole:\n{listed}")
    count = 0
    for file in vault_files(lock, cells):
        target = folder / file.path
        if file.path.startswith("images/"):
            vault_image(target, store)
        elif file.package is not None:
            name, package = file.package
            PackageRepository.keep(store, target.read_bytes(), package.checksum, what=f"{name}-{package.version}.apk")
        else:
            store.put(target.read_bytes())
        reporter(Fetched("", file.path, file.size, False))
        count += 1
    return count


def _is(file: VaultFile, content: bytes) -> bool:
    """Whether these are the bytes that the lock names."""
    if file.package is None:
        return digest_of(content) == file.checksum
    try:
        open_package(content, checksum=file.checksum, keyring=None, what=file.path)
    except VerificationError:
        return False
    return not file.size or len(content) == file.size


def _bytes_of(file: VaultFile, *, supply: Supply, store: Store) -> bytes:
    if file.repository is not None and file.package is not None:
        repository = supply.repository(file.repository, file.cell.alpine, file.cell.arch)
        name, package = file.package
        return repository.whole(name, package.version, package.checksum, package.size, store)
    digest = Digest(file.checksum)
    if not store.has(digest):
        if file.path.startswith("alpine/"):
            supply.minirootfs(file.cell.alpine, file.cell.arch, file.cell.alpine_point, file.path.rpartition("/")[2])
        elif file.cell.overlay is not None:
            supply.overlay(file.cell.overlay, file.cell.arch)
    return store.read(digest)


def _export_image(file: VaultFile, target: Path, *, supply: Supply, store: Store) -> None:
    digest = supply.image(file.cell.base, file.cell.arch, Digest(file.checksum))
    manifest = parse_manifest(store.read(digest), what=file.path)
    described = Descriptor(manifest.media_type, digest, len(manifest.raw), file.cell.arch.platform)
    write_layout(target, {hex_of(digest)[:12]: described}, store)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
