"""Layers and settings become an image: the bytes of its config and manifest, and of the index over architectures.

Everything here is a pure function: the same layers and settings are the same bytes, on every day and machine. The time of
creation is given by the caller. Each history entry has a `created`, since one well-known tool panics without; exactly one
entry stands for each layer.
Sources: image-spec 1.1 `config.md`, `annotations.md`; Docker's `HealthConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sixsmith.model.arch import Platform
from sixsmith.model.digest import Digest, digest_of
from sixsmith.oci.spec import (
    CONFIG,
    INDEX,
    MANIFEST,
    Descriptor,
    ImageConfig,
    ImageIndex,
    Layer,
    Manifest,
    canonical_json,
    parse_index,
    parse_manifest,
)

__all__ = [
    "Healthcheck",
    "Image",
    "ImageSettings",
    "inherited",
    "make_image",
    "make_index",
    "rfc3339",
    "settings_of",
]

_PREFIX = "org.opencontainers.image."
_HISTORY_BY = "sixsmith"


class Healthcheck(msgspec.Struct, frozen=True):
    """Docker's health check; durations are nanoseconds. OCI runtimes ignore it. An empty command switches one off."""

    command: tuple[str, ...]
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    retries: int | None = None


class ImageSettings(msgspec.Struct, frozen=True):
    """How a container starts. None is "not said", which for a child means: as the parent.

    `env` keeps its order. `ports` are `8080/tcp`; one without a protocol is tcp. `labels` go into the config;
    `annotations` (full keys) into the manifest, and those of `org.opencontainers.image.*` into both.
    """

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    user: str | None = None
    workdir: str | None = None
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None
    healthcheck: Healthcheck | None = None
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)


class Image(msgspec.Struct, frozen=True):
    """An image for one platform: config and manifest bytes, and the layers they name."""

    config: bytes
    manifest: bytes
    layers: tuple[Layer, ...]
    platform: Platform

    @property
    def config_digest(self) -> Digest:
        return digest_of(self.config)

    @property
    def digest(self) -> Digest:
        """The manifest's digest: the image's name that cannot move."""
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's descriptor, with the platform, as an index lists it."""
        return Descriptor(MANIFEST, self.digest, len(self.manifest), self.platform)

    @property
    def size(self) -> int:
        """Bytes to pull: manifest, config and layers as stored, a layer that stands twice counted once."""
        return len(self.config) + len(self.manifest) + sum({layer.digest: layer.size for layer in self.layers}.values())

    @property
    def parsed(self) -> Manifest:
        return parse_manifest(self.manifest)


def rfc3339(seconds: int) -> str:
    """Unix time as the specification writes it: `2024-01-31T00:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_image(
    layers: Sequence[Layer],
    settings: ImageSettings,
    *,
    platform: Platform,
    created: int,
    title: str | None = None,
    version: str | None = None,
    base_name: str | None = None,
    base_digest: Digest | None = None,
    parent: ImageConfig | None = None,
) -> Image:
    """The image of these layers, from below.

    `created` is Unix time. `title`, `version` and the base fill the usual annotations where `settings` does not say
    otherwise; what is not known is left out. With `parent`, the config whose layers are the first of `layers`, its
    settings are inherited (see `inherited`) and its history kept.
    """
    moment = rfc3339(created)
    known = {
        "created": moment,
        "title": title,
        "version": version,
        "base.name": base_name,
        "base.digest": base_digest,
    }
    own = {_PREFIX + key: value for key, value in known.items() if value is not None}
    own |= {key: value for key, value in settings.labels.items() if key.startswith(_PREFIX)}
    own |= {key: value for key, value in settings.annotations.items() if key.startswith(_PREFIX)}
    annotations = {**settings.annotations, **own}
    full = msgspec.structs.replace(settings, labels={**settings.labels, **own})
    if parent is not None:
        full = inherited(settings_of(parent), full)
    document: dict[str, Any] = {
        "created": moment,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": _settings_document(full),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": _history(layers, parent, moment),
    }
    if platform.variant:
        document["variant"] = platform.variant
    config = canonical_json(document)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, digest_of(config), len(config)).document(),
        "layers": [Descriptor(layer.media_type, layer.digest, layer.size).document() for layer in layers],
        "annotations": annotations,
    }
    return Image(config, canonical_json(manifest), tuple(layers), platform)


def make_index(images: Sequence[Image | Descriptor], annotations: Mapping[str, str] | None = None) -> ImageIndex:
    """The index of one tag over its architectures, in the order of their platforms' names.

    Raises ValueError when two images have one platform, or a descriptor names none.
    """
    descriptors = [image.descriptor if isinstance(image, Image) else image for image in images]
    platforms = [str(descriptor.platform or "") for descriptor in descriptors]
    if "" in platforms or len(set(platforms)) < len(platforms):
        raise ValueError(f"an index needs one image for each platform, not {platforms}")
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            descriptor.document() for _, descriptor in sorted(zip(platforms, descriptors, strict=True), key=_first)
        ],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return parse_index(canonical_json(document))


def _first(pair: tuple[str, Descriptor]) -> str:
    return pair[0]


def inherited(parent: ImageSettings, child: ImageSettings) -> ImageSettings:
    """What a child has when it says `child` on top of `parent`, by the rules of Dockerfiles.

    Env and labels are merged, ports and volumes added, everything else replaced when said. A new entrypoint drops the
    parent's cmd, which was made for another one; so does Docker. Annotations are the child's own.
    """
    cmd = child.cmd
    if cmd is None and child.entrypoint in (None, parent.entrypoint):
        cmd = parent.cmd
    return ImageSettings(
        entrypoint=parent.entrypoint if child.entrypoint is None else child.entrypoint,
        cmd=cmd,
        env={**parent.env, **child.env},
        user=parent.user if child.user is None else child.user,
        workdir=parent.workdir if child.workdir is None else child.workdir,
        ports=tuple(dict.fromkeys((*parent.ports, *child.ports))),
        volumes=tuple(dict.fromkeys((*parent.volumes, *child.volumes))),
        stop_signal=parent.stop_signal if child.stop_signal is None else child.stop_signal,
        healthcheck=parent.healthcheck if child.healthcheck is None else child.healthcheck,
        labels={**parent.labels, **child.labels},
        annotations=child.annotations,
    )


def settings_of(config: ImageConfig) -> ImageSettings:
    """The settings that a config has, OCI's or Docker's. What is of another type than it should be is not said."""
    found = config.settings
    env = dict(text.partition("=")[::2] for text in _texts(found.get("Env")))
    labels = found.get("Labels")
    return ImageSettings(
        entrypoint=_texts(found.get("Entrypoint")) or None,
        cmd=_texts(found.get("Cmd")) or None,
        env=env,
        user=_text(found.get("User")),
        workdir=_text(found.get("WorkingDir")),
        ports=_keys(found.get("ExposedPorts")),
        volumes=_keys(found.get("Volumes")),
        stop_signal=_text(found.get("StopSignal")),
        healthcheck=_parse_healthcheck(found.get("Healthcheck")),
        labels={key: str(value) for key, value in labels.items()} if isinstance(labels, dict) else {},
    )


def _settings_document(settings: ImageSettings) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if settings.entrypoint:
        document["Entrypoint"] = list(settings.entrypoint)
    if settings.cmd:
        document["Cmd"] = list(settings.cmd)
    if settings.env:
        document["Env"] = [f"{key}={value}" for key, value in settings.env.items()]
    if settings.user:
        document["User"] = settings.user
    if settings.workdir:
        document["WorkingDir"] = settings.workdir
    if settings.ports:
        document["ExposedPorts"] = {port if "/" in port else f"{port}/tcp": {} for port in settings.ports}
    if settings.volumes:
        document["Volumes"] = {volume: {} for volume in settings.volumes}
    if settings.stop_signal:
        document["StopSignal"] = settings.stop_signal
    if settings.labels:
        document["Labels"] = dict(settings.labels)
    if settings.healthcheck is not None:
        document["Healthcheck"] = _healthcheck_document(settings.healthcheck)
    return document


def _healthcheck_document(check: Healthcheck) -> dict[str, Any]:
    known_form = check.command[:1] in (("CMD",), ("CMD-SHELL",), ("NONE",))
    test = list(check.command) if known_form else ["CMD", *check.command] if check.command else ["NONE"]
    times = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "Retries": check.retries,
    }
    return {"Test": test, **{key: value for key, value in times.items() if value is not None}}


def _parse_healthcheck(value: object) -> Healthcheck | None:
    if not isinstance(value, dict):
        return None

    def number(name: str) -> int | None:
        found = value.get(name)
        return found if isinstance(found, int) else None

    test = _texts(value.get("Test"))
    times = number("Interval"), number("Timeout"), number("StartPeriod"), number("Retries")
    return Healthcheck(test, *times) if test else None


def _history(layers: Sequence[Layer], parent: ImageConfig | None, moment: str) -> list[dict[str, Any]]:
    """The parent's steps as they are where they fit its layers, then one for each layer of ours."""
    steps: list[dict[str, Any]] = []
    below = len(parent.diff_ids) if parent is not None else 0
    if parent is not None and tuple(layer.diff_id for layer in layers[:below]) != parent.diff_ids:
        parent, below = None, 0  # its layers were written anew (`layers: single`): its steps are not this image's
    if parent is not None:
        kept = [dict(step) for step in parent.history]
        if sum(not step.get("empty_layer") for step in kept) == below:
            steps = [{**step, "created": step.get("created") or moment} for step in kept]
        else:
            steps = [_step(layer, moment) for layer in layers[:below]]
    return steps + [_step(layer, moment) for layer in layers[below:]]


def _step(layer: Layer, moment: str) -> dict[str, Any]:
    shown = ", ".join(layer.names[:3]) + (f" and {len(layer.names) - 3} more" if len(layer.names) > 3 else "")
    step = {"created": moment, "created_by": f"{_HISTORY_BY} {layer.kind}: {shown}"}
    if layer.reason:
        step["comment"] = layer.reason
    return step


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _keys(value: object) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, dict) else ()
