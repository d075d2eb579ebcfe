"""One s6-overlay release on one tree: which bytes it brings, where they go, and what it needs from what lies below.

`read_overlay` turns the verified tarballs of a release into a canonical list of nodes, the same for every image of an
architecture; `lay_overlay` puts them on a tree, through the links of a usr-merged one; `check_base` and `check_bundles` say
what will not boot. File names and checksums are the catalogue's, layers are written by `sixsmith.layers`.
"""

from sixsmith.overlay.checks import check_base, check_bundles
from sixsmith.overlay.lay import LaidOverlay, lay_overlay
from sixsmith.overlay.release import Overlay, OverlayTarball, read_overlay
from sixsmith.overlay.settings import DEFAULT_PATH, OverlaySettings, overlay_settings, path_with_overlay

__all__ = [
    "DEFAULT_PATH",
    "LaidOverlay",
    "Overlay",
    "OverlaySettings",
    "OverlayTarball",
    "check_base",
    "check_bundles",
    "lay_overlay",
    "overlay_settings",
    "path_with_overlay",
    "read_overlay",
]
