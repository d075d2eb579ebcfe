"""A parent image, any OCI or Docker image, as what our own layers go on top of."""

from __future__ import annotations

from dataclasses import dataclass

from sixsmith.errors import FormatError, UsageError
from sixsmith.layers.merge import apply_layer
from sixsmith.layers.plan import ExistingLayer
from sixsmith.model.arch import Platform
from sixsmith.model.tar import parse_tar
from sixsmith.oci.blobs import BlobReader, BlobSource
from sixsmith.oci.reach import manifests_of
from sixsmith.oci.spec import LAYER_TYPES, Descriptor, ImageConfig, Manifest, as_oci_layer_type, parse_config
from sixsmith.rootfs.tree import BASE, Tree

__all__ = ["Parent", "read_parent"]


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent's documents, its layers from below, and the tree that they merge to (every node of origin BASE)."""

    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig
    layers: tuple[ExistingLayer, ...]
    tree: Tree


def read_parent(blobs: BlobReader, descriptor: Descriptor, *, platform: Platform, name: str, epoch: int = 0) -> Parent:
    """The parent for one platform, from blobs that are at hand.

    `descriptor` is a manifest's or an index's, `name` what messages call the image. Every blob is verified, each layer
    against its diff_id's place in the config only by count: `validate_image` looks deeper. Raises UsageError when the
    image is not for this platform, FormatError for documents or layers that cannot be read, and as `BlobReader.read`.
    """
    found, manifest, config = _for_platform(blobs, descriptor, platform, name)
    if len(config.diff_ids) != len(manifest.layers):
        raise FormatError(f"{name}: {len(config.diff_ids)} diff_ids for {len(manifest.layers)} layers")
    tree = Tree(epoch=epoch)
    layers = []
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True), 1):
        what = f"{name}: layer {number}"
        if layer.media_type not in LAYER_TYPES:
            raise FormatError(f"{what}: layers of type '{layer.media_type}' cannot be read")
        source = BlobSource(blobs, layer.digest)
        tree = apply_layer(tree, parse_tar(source.inflate(), what=what, strip=True), source, origin=BASE)
        source.forget()
        media_type = as_oci_layer_type(layer.media_type)
        layers.append(ExistingLayer(layer.digest, layer.size, media_type, diff_id, f"{name} layer {number}"))
    return Parent(found, manifest, config, tuple(layers), tree)


def _for_platform(
    blobs: BlobReader, descriptor: Descriptor, platform: Platform, name: str
) -> tuple[Descriptor, Manifest, ImageConfig]:
    """The first image that is for `platform`; a variant counts only where both sides name one."""
    there = []
    for found, manifest in manifests_of(blobs, descriptor):
        if found.platform is not None and found.platform.os == "unknown":
            continue  # an attestation that some builders list beside the images
        config = parse_config(blobs.read(manifest.config.digest), what=f"{name}: config")
        said = found.platform or config.platform
        if (said.os, said.architecture) == (platform.os, platform.architecture) and (
            None in (said.variant, platform.variant) or said.variant == platform.variant
        ):
            return found, manifest, config
        there.append(str(said))
    raise UsageError(f"{name} is not there for {platform}, only for {', '.join(there) or 'nothing'}")
