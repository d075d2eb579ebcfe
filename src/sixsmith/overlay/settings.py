"""What an image's configuration must say so that its overlay starts.

The entry point is `/init`, alone, as pid 1 (#226 #475 #552). v3 keeps its programs in /command: `/init` finds them by itself,
but whoever enters the container later (`docker exec`, a health check) has the image's own PATH, so that /command must be in
it, unless the symlinks tarballs put everything into /usr/bin (#388 #393 #524 #547).
"""

from __future__ import annotations

import msgspec

__all__ = ["COMMAND", "DEFAULT_PATH", "OverlaySettings", "overlay_settings", "path_with_overlay"]

COMMAND = "/command"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What container runtimes take when an image has no PATH of its own."""


class OverlaySettings(msgspec.Struct, frozen=True):
    """Defaults for the image config; what the family file says wins."""

    entrypoint: tuple[str, ...]
    path: str


def overlay_settings(version: str, *, symlinks: bool = False) -> OverlaySettings:
    """The settings for a release (`version` without the `v`); `symlinks` when v3's symlinks tarballs are laid too."""
    return OverlaySettings(("/init",), path_with_overlay(None, version, symlinks=symlinks))


def path_with_overlay(path: str | None, version: str, *, symlinks: bool = False) -> str:
    """`path` (the base's PATH, None for the default one) as an image with this overlay needs it.

    /command goes to the front, where `/init` would put it itself; a PATH that has it anywhere is left as it is.
    """
    path = path or DEFAULT_PATH
    if int(version.split(".")[0]) < 3 or symlinks or COMMAND in path.split(":"):
        return path
    return f"{COMMAND}:{path}"
