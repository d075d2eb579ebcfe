"""Which s6-overlay an image has, as its files tell.

v3 has its version in a path. v1 and v2 have it nowhere; but each release changed its scripts, so that a few facts leave few
releases over. A rule about versions speaks when it is true of all that are left: doubt is no finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from sixsmith.catalog import overlay_releases
from sixsmith.rootfs.tree import Tree

__all__ = ["FoundOverlay", "Order", "find_overlay", "has_traces", "overlay_of_version", "version_order"]

Order = tuple[int, ...]

_V3 = r"package/admin/s6-overlay-(\d[\w.-]*)(?:/|\Z)"
_VERSION = r"v?(\d+(?:\.\d+)*(?:-\d+)?)\Z"


def version_order(version: str) -> Order:
    """Sorts versions: `3.0.0.2-1` after `3.0.0.2`. Raises ValueError for what is no version."""
    match = re.match(_VERSION, version)
    if match is None:
        raise ValueError(version)
    return tuple(int(number) for number in re.split(r"[.-]", match[1]))


class FoundOverlay(msgspec.Struct, frozen=True):
    """The layout `major`, and the releases it may be, oldest first; one when the version is known."""

    major: int
    possible: tuple[str, ...]

    @property
    def version(self) -> str | None:
        """The version where it is certain."""
        return self.possible[0] if len(self.possible) == 1 else None

    def before(self, *order: int) -> bool:
        """Whether it is certainly older than this."""
        return bool(self.possible) and all(version_order(each) < order for each in self.possible)

    def since(self, *order: int) -> bool:
        """Whether it is certainly this or newer."""
        return bool(self.possible) and all(version_order(each) >= order for each in self.possible)

    def __str__(self) -> str:
        return f"s6-overlay {self.version}" if self.version else f"this s6-overlay v{self.major}"


def overlay_of_version(version: str) -> FoundOverlay:
    """The overlay of a version that is told. Raises ValueError for what is no version."""
    order = version_order(version)
    return FoundOverlay(order[0], (version.removeprefix("v"),))


_TRACES = ("overlay", "command/s6-svscan", "etc/s6/init/", "services.d", "cont-init.d", "cont-finish.d")
"""One of these is in some path of every tree about which `find_overlay` or a rule of `sixsmith.s6.lint` has something to say."""


def has_traces(tree: Tree) -> bool:
    """Whether there may be an s6-overlay in a tree, or files for one. Where there is none, no rule finds anything."""
    paths = "\n".join(tree.nodes)
    return any(trace in paths for trace in _TRACES)


def find_overlay(tree: Tree) -> FoundOverlay | None:
    """The overlay in a tree, or None when there is no trace of one."""
    versions = sorted({match[1] for path in _admin(tree) if (match := re.match(_V3, path)) and _is_version(match[1])})
    if versions:
        return FoundOverlay(3, (versions[-1],))
    if "command/s6-svscan" in tree or "package/admin/s6-overlay-helpers" in tree:
        return FoundOverlay(3, _releases(3))
    stages = ("etc/s6/init/init-stage1", "etc/s6/init/init-stage2", "etc/s6/init/init-stage3")
    if any(stage in tree for stage in stages):
        return _by_scripts(tree, [(tree.read(stage) or b"") for stage in stages])
    return FoundOverlay(3, _releases(3)) if "etc/s6-overlay/s6-rc.d" in tree else None


def _admin(tree: Tree) -> Iterable[str]:
    return (path for path in tree.nodes if path.startswith("package/admin/s6-overlay-"))


def _is_version(text: str) -> bool:
    return re.match(_VERSION, text) is not None


def _releases(*majors: int) -> tuple[str, ...]:
    return tuple(release.version for release in overlay_releases() if release.major in majors)


def _by_scripts(tree: Tree, stages: list[bytes]) -> FoundOverlay:
    """v1 and v2 by what their scripts and programs can. Sources: the tarballs of 1.21.4.0 and 2.1.0.2, the changelog."""
    first, second, third = stages
    since = {
        (1, 21): b"S6_READ_ONLY_ROOT" in second,
        (1, 22): b"S6_SYNC_DISKS" in third,
        (2, 0): "usr/bin/justc-envdir" in tree,
        (2, 0, 0, 1): b"execline-cd" in third,
        (2, 1): b"s6-overlay-preinit" in first,
    }
    lowest = max((order for order, there in since.items() if there), default=(1,))
    highest = min((order for order, there in since.items() if not there and order > lowest), default=(3,))
    possible = tuple(each for each in _releases(1, 2) if lowest <= version_order(each) < highest)
    majors = {version_order(each)[0] for each in possible} or {lowest[0]}
    return FoundOverlay(max(majors), possible)
