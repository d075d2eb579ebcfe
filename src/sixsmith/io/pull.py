"""Images from registries into the store, to build on them or to look at them."""

from __future__ import annotations

from sixsmith.errors import FormatError, UsageError
from sixsmith.events import Fetched, Reporter, silent
from sixsmith.io.http import Http
from sixsmith.io.registry import Registry
from sixsmith.io.registry_auth import CredentialSource
from sixsmith.io.store import Store
from sixsmith.model.arch import Arch, Platform
from sixsmith.model.digest import Digest
from sixsmith.model.reference import Reference, parse_reference
from sixsmith.oci.spec import DOCKER_INDEX, INDEX, Descriptor, ImageIndex, parse_config, parse_index, parse_manifest

__all__ = ["pull_image"]

_HUB = "docker.io"


def pull_image(
    reference: str,
    arch: Arch,
    *,
    store: Store,
    http: Http,
    credentials: CredentialSource | None = None,
    plain_http: bool = False,
    reporter: Reporter = silent,
) -> Digest:
    """The digest of the image's manifest for `arch`; manifest, config and layers are in the store, each verified.

    A reference without a registry is Docker Hub's. Raises UsageError when the image is not there for this platform,
    RegistryError, DigestMismatch, FormatError.
    """
    where = parse_reference(reference)
    if where.digest is not None and _is_whole(where.digest, store):
        return where.digest
    registry = Registry(where.registry or _HUB, http=http, credentials=credentials, plain_http=plain_http)
    manifest_digest = _manifest_for(registry, where, arch, store)
    manifest = parse_manifest(store.read(manifest_digest), what=reference)
    for blob in (manifest.config, *manifest.layers):
        cached = store.has(blob.digest)
        if not cached:
            with store.writer() as writer:
                registry.fetch_blob(where.repository, blob.digest, writer, size=blob.size)
                writer.commit(blob.digest)
        reporter(Fetched("", f"{where.repository}@{blob.digest[:19]}", blob.size, cached))
    config = parse_config(store.read(manifest.config.digest), what=f"config of {reference}")
    if config.platform.architecture != arch.platform.architecture:
        raise UsageError(f"{reference} is for {config.platform}, not for {arch.platform}")
    return manifest_digest


def _is_whole(digest: Digest, store: Store) -> bool:
    """Whether the store has this manifest and all that it names."""
    raw = store.find(digest)
    if raw is None:
        return False
    try:
        manifest = parse_manifest(raw)
    except FormatError:
        return False  # an index: which manifest is meant is for the registry's answer to say
    return all(store.has(blob.digest) for blob in (manifest.config, *manifest.layers))


def _manifest_for(registry: Registry, where: Reference, arch: Arch, store: Store) -> Digest:
    found = registry.get_manifest(where.repository, where.digest or where.tag or "latest")
    if found.media_type not in (INDEX, DOCKER_INDEX):
        return store.put(found.raw)
    index = parse_index(found.raw, media_type=found.media_type, what=str(where))
    chosen = _for_platform(index, arch.platform)
    if chosen is None:
        has = ", ".join(sorted(str(each.platform) for each in index.manifests if each.platform)) or "nothing"
        raise UsageError(f"{where} has no image for {arch.platform}", hint=f"it has {has}")
    return store.put(registry.get_manifest(where.repository, chosen.digest).raw)


def _for_platform(index: ImageIndex, wanted: Platform) -> Descriptor | None:
    """The exact variant when there is one; else one that names no variant, or the only one of the architecture."""
    same = [
        each
        for each in index.manifests
        if each.platform is not None
        and (each.platform.os, each.platform.architecture) == (wanted.os, wanted.architecture)
    ]
    for variant in (wanted.variant, None):
        for each in same:
            if each.platform is not None and each.platform.variant == variant:
                return each
    return same[0] if len(same) == 1 else None
