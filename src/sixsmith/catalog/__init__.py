"""Facts that sixsmith ships: Alpine and s6-overlay releases, checksums, advisories and keys.

Facts are data files under `facts/`, each with its sources; the modules here give them types and answer questions about
them. They are read when first asked for. Nothing here knows what day it is: dates are the caller's.
"""

from sixsmith.catalog.alpine import (
    AlpineRelease,
    Changes,
    advice_for_alpine,
    alpine,
    alpine_releases,
    minirootfs_checksum,
    newest_supported,
)
from sixsmith.catalog.keys import keys_for
from sixsmith.catalog.overlay import (
    OverlayRelease,
    advice_for_overlay,
    newest_good_overlay,
    overlay,
    overlay_checksum,
    overlay_files,
    overlay_releases,
)
from sixsmith.catalog.statement import Advice, Checksum

__all__ = [
    "Advice",
    "AlpineRelease",
    "Changes",
    "Checksum",
    "OverlayRelease",
    "advice_for_alpine",
    "advice_for_overlay",
    "alpine",
    "alpine_releases",
    "keys_for",
    "minirootfs_checksum",
    "newest_good_overlay",
    "newest_supported",
    "overlay",
    "overlay_checksum",
    "overlay_files",
    "overlay_releases",
]
