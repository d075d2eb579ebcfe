"""An overlay onto a tree.

A tarball unpacked over `/` with `tar` replaces what is in the way, and on a usr-merged root it turns the link /bin into a
directory, after which nothing starts (#125 #144 #239 #288). Here every path goes through the tree's own directory links
first, directories that exist keep their mode and owner, and a file that a package owns is never replaced silently: apk would
put it back with the next upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sixsmith.errors import InstallRefused
from sixsmith.model.tar import TarEntry
from sixsmith.overlay.release import Overlay
from sixsmith.rootfs.tree import Node, Source, Tree
from sixsmith.s6.finding import Finding

__all__ = ["LaidOverlay", "lay_overlay"]

_INSTALLED = "lib/apk/db/installed"
_OTHER_LAYOUTS = {"etc/s6/init": (1, 2), "package/admin/s6-overlay": (3,)}
"""Paths that only an image with an overlay of these layouts has."""


class LaidOverlay(msgspec.Struct, frozen=True):
    """What was laid: `nodes` by their final paths, sorted, directories included. Unless `relocated`, they are the
    overlay's own and the same for every image. `source`, `entries` and `size` (bytes as stored) are given when one gzip
    tarball brought it all."""

    overlay: Overlay
    nodes: tuple[Node, ...]
    relocated: bool
    findings: tuple[Finding, ...]

    @property
    def name(self) -> str:
        return str(self.overlay)

    @property
    def source(self) -> Source | None:
        return self.overlay.tarballs[0].source if self._single else None

    @property
    def entries(self) -> tuple[TarEntry, ...] | None:
        return self.overlay.tarballs[0].entries if self._single else None

    @property
    def size(self) -> int:
        return self.overlay.tarballs[0].size if self._single else 0

    @property
    def _single(self) -> bool:
        return len(self.overlay.tarballs) == 1 and self.overlay.tarballs[0].name.endswith(".gz")


def lay_overlay(tree: Tree, overlay: Overlay) -> LaidOverlay:
    """Lays `overlay` on `tree`, in place; to be done after the packages are installed and before files and services.

    Raises InstallRefused when a package owns a path of the overlay, or a directory and a file meet; the tree is as it was
    then. What is replaced and owned by nobody is a finding.
    """
    placed = _place(tree, overlay)
    replaced = _conflicts(tree, overlay, placed)
    findings = (*overlay.findings, *_find_other_overlay(tree, overlay), *_find_replaced(overlay, replaced))
    for path, node in placed.items():
        if node.kind != "directory" or path not in tree.nodes:
            tree.put(node)
    nodes = tuple(placed[path] for path in sorted(placed))
    return LaidOverlay(overlay, nodes, nodes != overlay.nodes, findings)


# ---- where things go


def _place(tree: Tree, overlay: Overlay) -> dict[str, Node]:
    """The nodes by their final paths: each directory link of the tree on the way is followed."""
    real: dict[str, str] = {"": ""}
    placed: dict[str, Node] = {}
    for node in overlay.nodes:
        directory, _, name = node.path.rpartition("/")
        above = real[directory]
        path = f"{above}/{name}" if above else name
        if node.kind == "directory":
            path = real[node.path] = _through_link(tree, overlay, path)
        if path != node.path:
            node = msgspec.structs.replace(node, path=path)
        met = _meet(tree, overlay, placed.get(path), node)
        if met is not None:
            placed[path] = met
    return _with_targets(placed, real)


def _through_link(tree: Tree, overlay: Overlay, path: str) -> str:
    """Where a directory really is: `usr/bin` for `bin` on a usr-merged tree."""
    there = tree.nodes.get(path)
    if there is None or there.kind != "symlink":
        return path
    real = tree.resolve(path)
    end = tree.nodes.get(real)
    if real and (end is None or end.kind != "directory"):
        raise InstallRefused(
            f"{overlay} has a directory /{path}, which is a link to '{there.target}' here, and that is no directory"
        )
    return real


def _meet(tree: Tree, overlay: Overlay, old: Node | None, new: Node) -> Node | None:
    """What stays when two nodes of the overlay come to one path, because the tree has made two directories one.

    v1 and v2 have /usr/bin/execlineb as a link to /bin/execlineb: on a usr-merged tree a link to itself.
    """
    if old is None:
        return new
    if old.kind == new.kind == "directory":
        return old
    if _leads_to(tree, old, new.path):
        return new
    if _leads_to(tree, new, old.path) or (old.kind == new.kind == "symlink" and old.target == new.target):
        return old
    raise InstallRefused(f"two files of {overlay} come to /{new.path} on this tree, where two directories are one")


def _leads_to(tree: Tree, link: Node, path: str) -> bool:
    if link.kind != "symlink":
        return False
    start = "" if link.target.startswith("/") else link.path.rpartition("/")[0]
    directory, _, name = f"{start}/{link.target}".rpartition("/")
    real = tree.resolve(directory)
    return (f"{real}/{name}" if real else name) == path


def _with_targets(placed: dict[str, Node], real: Mapping[str, str]) -> dict[str, Node]:
    """Hard links name their target by its final path."""
    for path, node in placed.items():
        if node.kind == "hardlink":
            directory, _, name = node.target.rpartition("/")
            above = real[directory]
            placed[path] = msgspec.structs.replace(node, target=f"{above}/{name}" if above else name)
    return placed


# ---- what is in the way


def _conflicts(tree: Tree, overlay: Overlay, placed: Mapping[str, Node]) -> list[str]:
    """Paths that are replaced and owned by nobody. Raises InstallRefused for all others."""
    owned: dict[str, str] = {}
    replaced: list[str] = []
    owners: dict[str, str] | None = None
    for path, node in placed.items():
        there = tree.nodes.get(path)
        if there is None or (there.kind == node.kind == "directory"):
            continue
        if there.kind == "directory" or node.kind == "directory":
            raise InstallRefused(f"{overlay} has a {node.kind} /{path}, which is a {there.kind} in the image")
        if owners is None:
            owners = _owners(tree)
        owner = there.origin.removeprefix("apk:") if there.origin.startswith("apk:") else owners.get(path)
        if owner is not None:
            owned.setdefault(path, owner)
        elif not _same(there, node):
            replaced.append(path)
    if owned:
        raise _owned(overlay, owned)
    return replaced


def _owned(overlay: Overlay, owned: Mapping[str, str]) -> InstallRefused:
    path, package = next(iter(owned.items()))
    more = f" and {len(owned) - 1} more" if len(owned) > 1 else ""
    packages = sorted(set(owned.values()))
    hint = f"leave out {' and '.join(packages)}, or the overlay: they bring the same programs"
    if overlay.symlinks and all(overlay_path.startswith("usr/bin/") for overlay_path in owned):
        hint = f"leave out the overlay's symlinks, or {' and '.join(packages)}"
    return InstallRefused(f"{overlay} would replace /{path}{more}, of the package {package}", hint=hint)


def _owners(tree: Tree) -> dict[str, str]:
    """Which package owns which path, as the tree's apk database has it (`P:`, `F:`, `R:` lines)."""
    owners: dict[str, str] = {}
    package = folder = ""
    for line in (tree.read(_INSTALLED) or b"").decode("utf-8", "surrogateescape").splitlines():
        field, value = line[:2], line[2:]
        if field == "P:":
            package = value
        elif field == "F:":
            folder = value
        elif field == "R:":
            owners[f"{folder}/{value}" if folder else value] = package
    return owners


def _same(there: Node, node: Node) -> bool:
    if (there.kind, there.size, there.target) != (node.kind, node.size, node.target):
        return False
    if there.content is None or node.content is None:
        return there.content is node.content
    return there.content.read() == node.content.read()


# ---- what is worth a word


def _find_replaced(overlay: Overlay, replaced: list[str]) -> list[Finding]:
    if not replaced:
        return []
    shown = ", ".join(f"/{path}" for path in replaced[:3]) + (" …" if len(replaced) > 3 else "")
    what = f"{len(replaced)} files" if len(replaced) > 1 else "a file"
    message = f"{overlay} replaces {what} that no package owns: {shown}"
    return [Finding("M11", "warning", f"/{replaced[0]}", 0, message, "lay files of your own above the overlay")]


def _find_other_overlay(tree: Tree, overlay: Overlay) -> list[Finding]:
    """The base has an overlay already: another layout stays in the image, beside this one."""
    findings = []
    for path, majors in _OTHER_LAYOUTS.items():
        there = tree.nodes.get(path)
        if there is None:
            continue
        mine = next((node for node in overlay.nodes if node.path == path), None)
        if overlay.major in majors and mine is not None and (mine.kind == "directory" or mine.target == there.target):
            continue
        message = f"the base has another s6-overlay below {overlay}: /{path} was there before"
        findings.append(Finding("M18", "warning", f"/{path}", 0, message, "take a base without an overlay"))
    return findings
