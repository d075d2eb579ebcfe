"""What an image is, read from the image itself: layers and why they are what they are, packages, settings. And what changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sixsmith.apk.installed import INSTALLED, parse_installed
from sixsmith.errors import UsageError
from sixsmith.model.arch import Arch
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import parse_tar
from sixsmith.oci.blobs import BlobReader, inflate_layer
from sixsmith.oci.spec import Manifest, parse_config

__all__ = ["DescribedLayer", "Description", "describe", "describe_on_disk", "differences"]

_OURS = "sixsmith "


class DescribedLayer(msgspec.Struct, frozen=True):
    """One layer, from below. `kind`, `contents` and `reason` are what its builder wrote into the history; sizes in bytes."""

    digest: Digest
    diff_id: Digest
    size: int
    media_type: str
    kind: str
    contents: str
    reason: str


class Description(msgspec.Struct, frozen=True):
    """One image for one platform. `settings` is the config's `config` object; `packages` maps names to versions."""

    name: str
    digest: Digest
    platform: str
    created: str | None
    size: int
    layers: tuple[DescribedLayer, ...]
    packages: Mapping[str, str]
    settings: Mapping[str, Any]
    annotations: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "digest": self.digest,
            "platform": self.platform,
            "created": self.created,
            "size": self.size,
            "layers": [
                {
                    "digest": layer.digest,
                    "diff_id": layer.diff_id,
                    "size": layer.size,
                    "media_type": layer.media_type,
                    "kind": layer.kind,
                    "contents": layer.contents,
                    "reason": layer.reason,
                }
                for layer in self.layers
            ],
            "packages": [{"name": name, "version": version} for name, version in self.packages.items()],
            "settings": dict(self.settings),
            "annotations": dict(self.annotations),
        }


def describe(blobs: BlobReader, manifest: Manifest, name: str) -> Description:
    """The description of a manifest whose blobs are at hand. Raises what reading and parsing them raises."""
    config = parse_config(blobs.read(manifest.config.digest), what=f"config of {name}")
    steps = [step for step in config.history if not step.get("empty_layer")]
    layers = []
    for number, layer in enumerate(manifest.layers):
        by = str(steps[number].get("created_by", "")) if number < len(steps) else ""
        reason = str(steps[number].get("comment", "")) if number < len(steps) else ""
        kind, _, contents = by.removeprefix(_OURS).partition(": ") if by.startswith(_OURS) else ("other", "", by)
        diff_id = config.diff_ids[number] if number < len(config.diff_ids) else Digest("")
        layers.append(DescribedLayer(layer.digest, diff_id, layer.size, layer.media_type, kind, contents, reason))
    return Description(
        name,
        digest_of(manifest.raw),
        str(config.platform),
        config.created,
        len(manifest.raw) + manifest.config.size + sum(layer.size for layer in manifest.layers),
        tuple(layers),
        _packages(blobs, manifest, name),
        config.settings,
        manifest.annotations,
    )


def describe_on_disk(path: Path, arch: Arch, *, ref: str | None = None) -> Description:
    """The image of a layout or archive. Raises FormatError, StoreError, UsageError for a tag or platform that is not there."""
    from sixsmith.io.layout import open_layout
    from sixsmith.looking import choose_manifest

    with open_layout(path) as layout:
        manifest = choose_manifest(layout, layout.ref(ref), arch, str(path))
        return describe(layout, manifest, f"{path}:{ref}" if ref else str(path))


def differences(old: Description, new: Description) -> dict[str, Any]:
    """What changed: packages, layers (by diff_id, so that compression does not count), settings and size."""
    if old.platform != new.platform:
        raise UsageError(f"{old.name} is for {old.platform}, {new.name} for {new.platform}")
    before, after = old.packages, new.packages
    was = {layer.diff_id: layer for layer in old.layers}
    now = {layer.diff_id: layer for layer in new.layers}
    keys = sorted({*old.settings, *new.settings})
    return {
        "same": old.digest == new.digest,
        "packages": {
            "added": {name: after[name] for name in after if name not in before},
            "removed": {name: before[name] for name in before if name not in after},
            "changed": {
                name: [before[name], after[name]] for name in after if name in before and before[name] != after[name]
            },
        },
        "layers": {
            "added": [_layer(layer) for diff_id, layer in now.items() if diff_id not in was],
            "removed": [_layer(layer) for diff_id, layer in was.items() if diff_id not in now],
            "kept": sum(diff_id in was for diff_id in now),
        },
        "settings": {
            key: [old.settings.get(key), new.settings.get(key)]
            for key in keys
            if old.settings.get(key) != new.settings.get(key)
        },
        "size": [old.size, new.size],
    }


def _layer(layer: DescribedLayer) -> dict[str, Any]:
    return {"kind": layer.kind, "contents": layer.contents, "size": layer.size, "diff_id": layer.diff_id}


def _packages(blobs: BlobReader, manifest: Manifest, name: str) -> dict[str, str]:
    """The packages of the topmost database; layers below it are not read."""
    for layer in reversed(manifest.layers):
        tar = inflate_layer(blobs.read(layer.digest), what=f"layer {layer.digest} of {name}")
        for entry in parse_tar(tar, what=f"layer {layer.digest} of {name}", strip=True):
            if entry.path == INSTALLED and entry.kind == "file":
                database = bytes(memoryview(tar)[entry.offset : entry.offset + entry.size])
                return {package.record.name: package.record.version for package in parse_installed(database)}
    return {}
