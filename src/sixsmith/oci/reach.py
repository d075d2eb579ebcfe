"""What an image consists of: every blob that a manifest or an index leads to."""

from __future__ import annotations

from collections.abc import Iterator

from sixsmith.errors import FormatError
from sixsmith.oci.blobs import BlobReader
from sixsmith.oci.spec import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Descriptor,
    Manifest,
    parse_index,
    parse_manifest,
)

__all__ = ["manifests_of", "reachable"]

_MAX_DEPTH = 4


def reachable(blobs: BlobReader, descriptor: Descriptor) -> Iterator[Descriptor]:
    """Every blob of an image, each once, what is named before what names it: layers and config, manifest, index.

    So they can be copied in this order and nothing dangles in between. Raises as `BlobReader.read` does, and FormatError
    for documents that are none.
    """
    seen = set()
    for found in _walk(blobs, descriptor, 0):
        if found.digest not in seen:
            seen.add(found.digest)
            yield found


def manifests_of(blobs: BlobReader, descriptor: Descriptor) -> list[tuple[Descriptor, Manifest]]:
    """The image manifests that a descriptor leads to, in the index's order; one for a manifest. Raises as `reachable`."""
    found = []
    for entry in _walk(blobs, descriptor, 0):
        if entry.media_type in (MANIFEST, DOCKER_MANIFEST):
            raw = blobs.read(entry.digest)
            found.append((entry, parse_manifest(raw, media_type=entry.media_type, what=f"manifest {entry.digest}")))
    return found


def _walk(blobs: BlobReader, descriptor: Descriptor, depth: int) -> Iterator[Descriptor]:
    what = f"{descriptor.media_type.rpartition('/')[2]} {descriptor.digest}"
    if descriptor.media_type in (INDEX, DOCKER_INDEX):
        if depth >= _MAX_DEPTH:
            raise FormatError(f"{what}: indexes within indexes, {_MAX_DEPTH} deep")
        for entry in parse_index(blobs.read(descriptor.digest), what=what).manifests:
            yield from _walk(blobs, entry, depth + 1)
    elif descriptor.media_type in (MANIFEST, DOCKER_MANIFEST):
        manifest = parse_manifest(blobs.read(descriptor.digest), what=what)
        yield from manifest.layers
        yield manifest.config
    yield descriptor
