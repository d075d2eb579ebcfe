"""What is booted: an image config and its layers, whether they lie in the store, in a layout or in an archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sixsmith.errors import FormatError, UsageError
from sixsmith.model.arch import ARCHES, Arch, Platform
from sixsmith.model.digest import Digest
from sixsmith.oci.blobs import BlobReader
from sixsmith.oci.reach import manifests_of
from sixsmith.oci.spec import Descriptor, ImageConfig, parse_config

__all__ = ["BootImage", "arch_of", "open_image"]


@dataclass(frozen=True, slots=True)
class BootImage:
    """An image that can be started. `size` is what its blobs take, in bytes; `layers` are digests, lowest first."""

    name: str
    digest: Digest
    config: ImageConfig
    layers: tuple[Digest, ...]
    size: int
    blobs: BlobReader

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.config.settings

    @property
    def arch(self) -> Arch:
        return arch_of(self.config.platform)

    @property
    def entrypoint(self) -> tuple[str, ...]:
        return tuple(self.settings.get("Entrypoint") or ())

    @property
    def cmd(self) -> tuple[str, ...]:
        return tuple(self.settings.get("Cmd") or ())

    @property
    def env(self) -> dict[str, str]:
        pairs = (text.partition("=") for text in self.settings.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def ports(self) -> tuple[int, ...]:
        """TCP ports that the image declares."""
        found = []
        for text in self.settings.get("ExposedPorts") or {}:
            number, _, protocol = str(text).partition("/")
            if number.isdigit() and protocol in ("", "tcp"):
                found.append(int(number))
        return tuple(sorted(found))

    @property
    def volumes(self) -> tuple[str, ...]:
        return tuple(sorted(self.settings.get("Volumes") or {}))

    @property
    def stop_signal(self) -> str:
        return str(self.settings.get("StopSignal") or "SIGTERM")


def arch_of(platform: Platform) -> Arch:
    """The architecture of a platform. Raises UsageError for one that Alpine has none for."""
    same = [arch for arch in ARCHES.values() if arch.platform.architecture == platform.architecture]
    exact = [arch for arch in same if platform.variant in (None, arch.platform.variant)]
    if platform.os != "linux" or not same:
        raise UsageError(f"cannot boot an image for {platform}")
    return (exact or same)[-1]


def open_image(blobs: BlobReader, descriptor: Descriptor, *, name: str, arch: str | None = None) -> BootImage:
    """The image of a descriptor: of an index the one for `arch` (apk's spelling), else this machine's, else the first.

    Raises UsageError when there is none for `arch`, FormatError for documents that are none, and what the reader raises.
    """
    found = []
    for entry, manifest in manifests_of(blobs, descriptor):
        config = parse_config(blobs.read(manifest.config.digest), what=f"{name}: config")
        size = entry.size + manifest.config.size + sum(layer.size for layer in manifest.layers)
        layers = tuple(layer.digest for layer in manifest.layers)
        found.append(BootImage(name, entry.digest, config, layers, size, blobs))
    if not found:
        raise FormatError(f"{name}: the index has no image")
    if arch is not None:
        matching = [image for image in found if image.arch.name == arch]
        if not matching:
            there = ", ".join(image.arch.name for image in found)
            raise UsageError(f"{name} has no image for {arch}, only for {there}")
        return matching[0]
    from sixsmith.io.namespaces import is_native

    return next((image for image in found if is_native(image.arch)), found[0])
