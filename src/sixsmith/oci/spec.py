"""The documents of the image specification, parsed, with the raw bytes beside them.

Only the raw bytes are ever digested: a parsed document that is written again need not be the same document. Docker's
schema 2 documents have the same shape under other media types and are read too.
Sources: image-spec 1.1 `descriptor.md`, `manifest.md`, `image-index.md`, `config.md`; distribution `manifest-v2-2.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sixsmith.errors import FormatError
from sixsmith.model.arch import Platform
from sixsmith.model.compression import Bytes
from sixsmith.model.digest import Digest, digest_of, parse_digest

__all__ = [
    "CONFIG",
    "DOCKER_CONFIG",
    "DOCKER_INDEX",
    "DOCKER_LAYER",
    "DOCKER_MANIFEST",
    "EMPTY_JSON",
    "INDEX",
    "LAYER_GZIP",
    "LAYER_TAR",
    "LAYER_TYPES",
    "LAYER_ZSTD",
    "MANIFEST",
    "REF_NAME",
    "Descriptor",
    "ImageConfig",
    "ImageIndex",
    "Layer",
    "Manifest",
    "as_oci_layer_type",
    "canonical_json",
    "parse_config",
    "parse_index",
    "parse_manifest",
]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY_JSON = "application/vnd.oci.empty.v1+json"

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"

_AS_OCI = {DOCKER_LAYER: LAYER_GZIP, _DOCKER_LAYER_TAR: LAYER_TAR, _DOCKER_LAYER_ZSTD: LAYER_ZSTD}
LAYER_TYPES = frozenset({LAYER_TAR, LAYER_GZIP, LAYER_ZSTD, *_AS_OCI})
"""Media types of layers that are read here; foreign (non-distributable) ones are not."""

REF_NAME = "org.opencontainers.image.ref.name"

_MAX_SIZE = 1 << 62


def canonical_json(value: object) -> bytes:
    """Compact JSON with sorted keys: the same bytes for the same value."""
    return msgspec.json.encode(value, order="sorted")


def as_oci_layer_type(media_type: str) -> str:
    """Docker's layer media types in OCI's spelling, for manifests that mix a Docker parent with our layers."""
    return _AS_OCI.get(media_type, media_type)


class Descriptor(msgspec.Struct, frozen=True):
    """What the image spec calls a descriptor: a promise that these bytes exist. Size in bytes."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform is not None:
            value["platform"] = _platform_document(self.platform)
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value


class Layer(msgspec.Struct, frozen=True):
    """One layer of an image, in the store. Size in bytes as stored.

    `kind` is base, verbatim, spliced, overlay or top, `reason` the sentence why, `names` what is in it
    (`musl 1.2.4-r0`, `s6-overlay 3.2.1.0`).
    """

    digest: Digest
    size: int
    diff_id: Digest
    media_type: str = LAYER_GZIP
    kind: str = "base"
    reason: str = ""
    names: tuple[str, ...] = ()


class ImageConfig(msgspec.Struct, frozen=True):
    """An image config. `settings` is the `config` object as it stands (`Entrypoint`, `Env`, …); `history` likewise."""

    raw: bytes
    platform: Platform
    diff_ids: tuple[Digest, ...]
    settings: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    created: str | None

    @property
    def digest(self) -> Digest:
        return digest_of(self.raw)


class Manifest(msgspec.Struct, frozen=True):
    """An image manifest; `media_type` is the document's own, or what was asked for when it names none."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))


class ImageIndex(msgspec.Struct, frozen=True):
    """An image index (Docker: manifest list): one manifest per platform."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))


def parse_config(raw: Bytes, *, what: str = "image config") -> ImageConfig:
    """An image config, OCI's or Docker's. Raises FormatError naming `what` and the field that is wrong."""
    value = _object(raw, what)
    rootfs = _field(value, "rootfs", dict, what)
    history = value.get("history") or []
    if not isinstance(history, list) or not all(isinstance(step, dict) for step in history):
        raise FormatError(f"{what}: 'history' is not a list of objects")
    settings = value.get("config") or {}
    if not isinstance(settings, dict):
        raise FormatError(f"{what}: 'config' is not an object")
    diff_ids = rootfs.get("diff_ids") or []
    if not isinstance(diff_ids, list):
        raise FormatError(f"{what}: 'rootfs.diff_ids' is not a list")
    return ImageConfig(
        raw=bytes(raw),
        platform=_parse_platform(value, what),
        diff_ids=tuple(_digest(text, what, "rootfs.diff_ids") for text in diff_ids),
        settings=settings,
        history=tuple(history),
        created=value["created"] if isinstance(value.get("created"), str) else None,
    )


def parse_manifest(raw: Bytes, *, media_type: str = MANIFEST, what: str = "manifest") -> Manifest:
    """An image manifest. `media_type` is what its descriptor says, for documents that do not name their own.

    Raises FormatError naming `what` and the field that is wrong, and for an index where a manifest is expected.
    """
    value = _object(raw, what)
    if "manifests" in value:
        raise FormatError(f"{what}: an image index where a manifest is expected")
    layers = value.get("layers")
    if not isinstance(layers, list):
        raise FormatError(f"{what}: 'layers' is not a list")
    return Manifest(
        raw=bytes(raw),
        media_type=_media_type(value, media_type, what),
        config=_parse_descriptor(_field(value, "config", dict, what), f"{what}: config"),
        layers=tuple(_parse_descriptor(layer, f"{what}: layer {n}") for n, layer in enumerate(layers, 1)),
        annotations=_annotations(value, what),
    )


def parse_index(raw: Bytes, *, media_type: str = INDEX, what: str = "index") -> ImageIndex:
    """An image index or a Docker manifest list. Raises FormatError naming `what` and the field that is wrong."""
    value = _object(raw, what)
    manifests = value.get("manifests")
    if not isinstance(manifests, list):
        raise FormatError(f"{what}: 'manifests' is not a list")
    return ImageIndex(
        raw=bytes(raw),
        media_type=_media_type(value, media_type, what),
        manifests=tuple(_parse_descriptor(entry, f"{what}: manifest {n}") for n, entry in enumerate(manifests, 1)),
        annotations=_annotations(value, what),
    )


def _object(raw: Bytes, what: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{what}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise FormatError(f"{what}: not a JSON object")
    return value


def _field(value: dict[str, Any], name: str, kind: type, what: str) -> Any:
    found = value.get(name)
    if not isinstance(found, kind):
        raise FormatError(f"{what}: '{name}' is missing or no {'object' if kind is dict else kind.__name__}")
    return found


def _digest(text: object, what: str, name: str) -> Digest:
    if not isinstance(text, str):
        raise FormatError(f"{what}: '{name}' is not a digest")
    try:
        return parse_digest(text)
    except FormatError as error:
        raise FormatError(f"{what}: '{name}': {error.message}") from None


def _parse_descriptor(value: object, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise FormatError(f"{what}: not an object")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _MAX_SIZE:
        raise FormatError(f"{what}: 'size' is missing or no size")
    platform = value.get("platform")
    return Descriptor(
        media_type=_field(value, "mediaType", str, what),
        digest=_digest(value.get("digest"), what, "digest"),
        size=size,
        platform=_parse_platform(platform, what) if isinstance(platform, dict) else None,
        annotations=_annotations(value, what),
    )


def _parse_platform(value: dict[str, Any], what: str) -> Platform:
    variant = value.get("variant")
    return Platform(
        architecture=_field(value, "architecture", str, what),
        variant=variant if isinstance(variant, str) and variant else None,
        os=_field(value, "os", str, what),
    )


def _platform_document(platform: Platform) -> dict[str, str]:
    value = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        value["variant"] = platform.variant
    return value


def _media_type(value: dict[str, Any], default: str, what: str) -> str:
    if value.get("schemaVersion") != 2:
        raise FormatError(f"{what}: 'schemaVersion' is not 2")
    found = value.get("mediaType", default)
    if not isinstance(found, str):
        raise FormatError(f"{what}: 'mediaType' is not text")
    return found


def _annotations(value: dict[str, Any], what: str) -> dict[str, str]:
    found = value.get("annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise FormatError(f"{what}: 'annotations' is not an object of texts")
    return found
