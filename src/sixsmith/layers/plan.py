"""Which bytes go into which layer.

From below, stable to volatile:

    base      the layers of a parent image as they are; a minirootfs as it is where that is right
    overlay   s6-overlay: the same bytes for every Alpine release and every image of an architecture
    verbatim  big packages, each the data segment that Alpine signed, in install order (what others need comes first)
    spliced   all other packages, one gzip member each, so that a changed package compresses only itself
    top       the apk database, applet links, accounts, files, services, and what must be put right

A changed big package moves its own layer and the top; a changed small one the spliced layer and the top. The overlay is
low although it is unpacked after the packages: whatever it would take from a package makes that package ineligible for
verbatim, and spliced layers leave out what a package lost.

The tree is the truth. The planned layers are stacked by the rules of the image specification, and the top layer is what
is still missing, so the merged layers are the tree exactly: also modes and mtimes of directories, which an archive in
between may have listed with other ones. (Directory mtimes are the tree's, whatever the strategy.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from sixsmith.errors import FormatError, UsageError, nearest
from sixsmith.layers.eligible import archive_fault, package_fault
from sixsmith.layers.merge import (
    WHITEOUT,
    Stack,
    apply_layer,
    changes,
    parents_of,
    root_directory,
    same_node,
)
from sixsmith.model.digest import Digest
from sixsmith.model.tar import TarEntry
from sixsmith.oci.spec import LAYER_GZIP
from sixsmith.rootfs.tree import BASE, OVERLAY, TOP, Inline, Member, Node, Source, Tree, node_from_entry

__all__ = [
    "BIG",
    "MAX_LAYERS",
    "STRATEGIES",
    "WHY_OVERLAY",
    "WHY_SINGLE",
    "WHY_TOP",
    "WHY_VERBATIM",
    "ExistingLayer",
    "LayerOverlay",
    "LayerPackage",
    "LayerPlan",
    "PlannedLayer",
    "Segment",
    "likely_layers",
    "plan_layers",
    "why_shared",
]

STRATEGIES = ("shared", "single", "per-package")
BIG = 256 << 10
"""Bytes of a stored data segment from which a layer of its own is worth a request."""
MAX_LAYERS = 127
"""Docker's overlay driver stacks no more than this."""

WHY_OVERLAY = "the same bytes for every image of this architecture"
WHY_VERBATIM = "the package's data segment as Alpine signed it"
WHY_TOP = "the apk database, accounts, files, services, and what install scripts did"
WHY_SINGLE = "everything in one layer, as asked"

replace = msgspec.structs.replace


def why_shared(count: int) -> str:
    """The reason of a spliced layer of so many packages."""
    return f"{count} packages share it, each compressed once for all images"


class ExistingLayer(msgspec.Struct, frozen=True):
    """A blob that lies below: a layer of a parent image, or a root file system archive that may serve as one.

    `diff_id` None means it is found out when the layer is written. `entries` (named as `parse_tar(strip=True)` does)
    and `source` are needed for an archive that is not yet a layer; the layers of a parent image stay as they are.
    Size in bytes as stored.
    """

    digest: Digest
    size: int
    media_type: str = LAYER_GZIP
    diff_id: Digest | None = None
    name: str = "base"
    reason: str = "layer of the parent image"
    source: Source | None = None
    entries: Sequence[TarEntry] | None = None


class LayerPackage(msgspec.Struct, frozen=True):
    """An installed package as the layer planner sees it, in install order.

    `origin` is what its nodes in the tree say (`apk:NAME`), `entries` are its data segment's members as
    `parse_tar` names them (not stripped), `data_size` is the stored size of the data segment in bytes. `left_out` is a
    member that is not among the entries because apk does not install it.
    """

    name: str
    version: str
    origin: str
    source: Source
    entries: Sequence[TarEntry]
    data_size: int
    left_out: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class LayerOverlay(msgspec.Struct, frozen=True):
    """What the overlay's tarballs lay down, before anything above changes it: nodes by their final paths.

    `source`, `entries` and `size` are given when one gzip tarball brought it all: it may then serve as it is.
    """

    name: str
    nodes: Sequence[Node]
    source: Source | None = None
    entries: Sequence[TarEntry] | None = None
    size: int = 0


class Segment(msgspec.Struct, frozen=True):
    """Nodes that are compressed together. Directories, whiteouts, files; links after their targets.

    `cached` ones will be met again in other images: their compressed bytes are kept by content.
    """

    name: str
    nodes: tuple[Node, ...]
    cached: bool = False


class PlannedLayer(msgspec.Struct, frozen=True):
    """One layer: an archive as it stands (`source`), a layer that exists (`existing`), or segments to be written.

    `entries` are the members of such an archive. `notes` says for packages that are not layers of their own why not.
    """

    kind: str
    names: tuple[str, ...]
    reason: str
    size: int
    source: Source | None = None
    entries: Sequence[TarEntry] | None = None
    existing: ExistingLayer | None = None
    segments: tuple[Segment, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.names[:3]) + (f" and {len(self.names) - 3} more" if len(self.names) > 3 else "")
        return f"{self.kind:8} {_bytes(self.size):>9}  {shown}: {self.reason}"


class LayerPlan(msgspec.Struct, frozen=True):
    """The layers of one image from below. Sizes of written layers are those of their uncompressed tar, in bytes."""

    strategy: str
    layers: tuple[PlannedLayer, ...]

    def __iter__(self) -> Iterator[PlannedLayer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        lines = []
        for number, layer in enumerate(self.layers, 1):
            lines.append(f"{number:3}  {layer}")
            lines += [f"       {name}: {note}" for name, note in layer.notes]
        return "\n".join(lines)


def plan_layers(
    *,
    tree: Tree,
    packages: Sequence[LayerPackage] = (),
    base: Sequence[ExistingLayer] = (),
    base_tree: Tree | None = None,
    overlay: LayerOverlay | None = None,
    strategy: str = "shared",
    budget: int = 16,
) -> LayerPlan:
    """The layers that merge to `tree`.

    `base_tree` is what `base` merges to; without `base` it is ignored. `budget` is the number of layers that `shared`
    keeps to, those of the base included: verbatim layers are given up first, then the spliced one, at last all but one.
    A parent's layers are never given up: its child gets a quarter of the budget on top of them, if need be. Without
    `overlay`, the tree's own nodes of that origin are taken.

    Raises UsageError for an unknown strategy, a base of more than 125 layers, and FormatError for a tree that no layer
    can hold: a name that reads as a whiteout, a directory that is not there, a hard link without its target.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown layer strategy '{strategy}'", hint=nearest(strategy, STRATEGIES))
    tree = _checked(tree)
    planner = _Planner(tree, packages, overlay)
    if strategy == "single":
        return LayerPlan(strategy, (planner.single(),))
    planner.lay_base(base, base_tree)
    planner.lay_overlay()
    if strategy == "shared":
        of_parent = bool(base) and base[0].entries is None
        if budget <= len(planner.layers) and not of_parent:
            return LayerPlan(strategy, (planner.single(),))
        planner.lay_packages(budget, at_least=budget // 4 if of_parent else 0)
        if budget > len(planner.layers) + 1 or of_parent:
            planner.lay_spliced()  # else they go with all else that is missing into the top layer
    else:
        planner.lay_each_package()
    planner.lay_top()
    if len(planner.layers) > MAX_LAYERS:
        raise UsageError(
            f"{len(planner.layers)} layers, where runtimes stack at most {MAX_LAYERS}", hint="layers: single"
        )
    return LayerPlan(strategy, tuple(planner.layers))


def likely_layers(
    sizes: Mapping[str, int], *, strategy: str = "shared", budget: int = 16, below: int = 0
) -> frozenset[str]:
    """Which packages `plan_layers` will give layers of their own, as far as their sizes tell (bytes, by name).

    `below` is the number of layers that the base has.
    """
    if strategy == "single":
        return frozenset()
    if strategy == "per-package":
        return frozenset(sizes)
    room = max(budget - below - 2, budget // 4 if below else 0)  # a spliced layer and the top
    big = sorted((name for name, size in sizes.items() if size >= BIG), key=lambda name: (-sizes[name], name))
    return frozenset(big[:room])


def _checked(tree: Tree) -> Tree:
    """The tree with a root directory; raises FormatError for what a layer cannot say."""
    nodes = tree.nodes
    sound = ""  # the directory of the node before, which is most often that of the next one
    for path, node in nodes.items():
        directory, _, name = path.rpartition("/")
        if WHITEOUT in path and name.startswith(WHITEOUT):
            raise FormatError(f"/{path}: a layer would read this name as a whiteout", hint="give the file another name")
        if directory != sound:
            if directory and (directory not in nodes or nodes[directory].kind != "directory"):
                raise FormatError(f"/{path}: /{directory} is not a directory of the image")
            sound = directory
        if node.kind == "hardlink" and (node.target not in nodes or nodes[node.target].kind != "file"):
            raise FormatError(f"/{path}: a hard link to /{node.target}, which is no file of the image")
    if "" in nodes:
        return tree
    whole = tree.copy()
    whole.nodes = {"": root_directory(), **whole.nodes}
    return whole


class _Planner:
    """The layers so far, and (in `stack`) the tree that they merge to."""

    def __init__(self, tree: Tree, packages: Sequence[LayerPackage], overlay: LayerOverlay | None) -> None:
        self.tree = tree
        self.packages = packages
        self.overlay = overlay
        self.layers: list[PlannedLayer] = []
        self.stack = Stack(Tree(epoch=tree.epoch))
        self.base_tree = Tree(epoch=tree.epoch)
        self.crossing = _crossing_links(tree)
        self.by_origin: dict[str, list[Node]] = {}
        for node in tree:
            if node.kind != "directory":
                self.by_origin.setdefault(node.origin, []).append(node)
        self.remaining: list[tuple[LayerPackage, list[Node], str]] = []

    # ---- base

    def lay_base(self, base: Sequence[ExistingLayer], base_tree: Tree | None) -> None:
        if not base:
            return
        if base_tree is None:
            raise ValueError("base layers without the tree that they merge to")
        if len(base) > MAX_LAYERS - 2:
            raise UsageError(f"the parent image has {len(base)} layers, which leaves no room", hint="layers: single")
        fault = self._base_fault(base[0], base_tree) if base[0].entries is not None else None
        if fault:
            names = tuple(layer.name for layer in base)
            segment = self._segment("base", base_tree)
            self._lay(_written("base", names, f"written anew: {fault}", (segment,)), segment.nodes)
        else:
            self.layers += [
                PlannedLayer("base", (layer.name,), layer.reason, layer.size, source=layer.source, existing=layer)
                for layer in base
            ]
        self.stack = Stack(base_tree.copy())
        self.base_tree = base_tree

    def _base_fault(self, layer: ExistingLayer, base_tree: Tree) -> str | None:
        entries = layer.entries or ()
        fault = archive_fault(entries)
        if fault:
            return fault
        unpacked = apply_layer(Tree(), entries, layer.source)
        difference = changes(unpacked, base_tree)
        for path in (*difference.others, *difference.whiteouts, *difference.directories):
            return f"does not unpack to what the base is ('/{path}')"
        return None

    # ---- overlay

    def lay_overlay(self) -> None:
        overlay = self.overlay or self._overlay_of_tree()
        if overlay is None or all(self._in_base(node) for node in overlay.nodes):
            return
        present = {node.path: node for node in overlay.nodes}
        nodes = [node for node in overlay.nodes if node.kind != "hardlink" or node.target in present]
        newest = max(node.mtime for node in nodes)
        for path in parents_of(present):
            if path not in present:
                # not the image's own directory but one that is the same in every image; the top layer mends what differs
                nodes.append(replace(root_directory(newest), path=path, origin=OVERLAY))
        fault = _overlay_fault(overlay, nodes)
        if fault is None:
            reason = "the release's own tarball, as it is"
            layer = PlannedLayer(
                "overlay", (overlay.name,), reason, overlay.size, source=overlay.source, entries=overlay.entries
            )
            self.layers.append(layer)
            self.stack.apply(
                [node_from_entry(entry, origin=OVERLAY, source=overlay.source) for entry in overlay.entries or ()]
            )
            return
        segment = self._segment(overlay.name, nodes)
        reason = f"{WHY_OVERLAY}; written anew: {fault}"
        self._lay(_written("overlay", (overlay.name,), reason, (segment,)), segment.nodes)

    def _overlay_of_tree(self) -> LayerOverlay | None:
        nodes = [node for node in self.tree if node.origin == OVERLAY and not self._in_base(node)]
        return LayerOverlay("s6-overlay", nodes) if nodes else None

    # ---- packages

    def lay_packages(self, budget: int, *, at_least: int) -> None:
        """Verbatim layers for the biggest eligible packages; the rest waits for a spliced layer."""
        candidates, notes = [], {}
        for package in self.packages:
            fresh = self._fresh(package)
            if not fresh and not self._new_directories(package):
                continue
            fault = None if package.data_size >= BIG else f"smaller than {_bytes(BIG)}"
            fault = fault or self._package_fault(package, fresh)
            if fault is None:
                candidates.append(package)
            else:
                notes[package.origin] = fault
            self.remaining.append((package, fresh, ""))
        reserved = len(self.layers) + 2  # a spliced layer and the top
        chosen = sorted(candidates, key=lambda package: (-package.data_size, package.name))
        limit = min(max(budget - reserved, at_least), MAX_LAYERS - reserved)
        for package in chosen[limit:]:
            notes[package.origin] = "the layer budget is used up by bigger packages"
        taken = {package.origin for package in chosen[:limit]}
        for package, _, _ in self.remaining:
            if package.origin in taken:
                self._lay_verbatim(package)
        self.remaining = [
            (package, nodes, notes[package.origin])
            for package, nodes, _ in self.remaining
            if package.origin not in taken
        ]

    def lay_each_package(self) -> None:
        """Every package its own layer; the smallest share one when there would be too many."""
        todo = [(package, self._fresh(package)) for package in self.packages]
        todo = [(package, nodes) for package, nodes in todo if nodes or self._new_directories(package)]
        room = MAX_LAYERS - len(self.layers) - 1
        alone = {package.origin for package, _ in todo}
        if len(todo) > room:
            ranked = sorted((package for package, _ in todo), key=lambda package: (-package.data_size, package.name))
            alone = {package.origin for package in ranked[: room - 1]}
        for package, nodes in todo:
            if package.origin not in alone:
                self.remaining.append((package, nodes, f"one of the smallest, and {MAX_LAYERS} layers are the limit"))
                continue
            fault = self._package_fault(package, nodes)
            if fault is None:
                self._lay_verbatim(package)
            else:
                self._lay_segments("spliced", [(package, nodes, fault)], f"written anew: {fault}")
        self.lay_spliced()

    def lay_spliced(self) -> None:
        """One layer for the packages that remain: a head with the directories, then one segment for each package."""
        if self.remaining:
            count = len(self.remaining)
            self._lay_segments("spliced", self.remaining, why_shared(count) if count > 1 else self.remaining[0][2])
            self.remaining = []

    def _lay_segments(self, kind: str, parts: Sequence[tuple[LayerPackage, list[Node], str]], reason: str) -> None:
        directories = parents_of(node.path for _, nodes, _ in parts for node in nodes)
        for package, _, _ in parts:
            directories |= self._directories_of(package)
        head = self._segment("directories", [self.tree.nodes[path] for path in directories])
        bodies = [self._segment(str(package), nodes, cached=True) for package, nodes, _ in parts if nodes]
        names = tuple(str(package) for package, _, _ in parts)
        notes = tuple((str(package), note) for package, _, note in parts)
        layer = _written(kind, names, reason, (head, *bodies), notes if len(parts) > 1 else ())
        self._lay(layer, [node for segment in (head, *bodies) for node in segment.nodes])

    def _lay_verbatim(self, package: LayerPackage) -> None:
        layer = PlannedLayer(
            "verbatim", (str(package),), WHY_VERBATIM, package.data_size, source=package.source, entries=package.entries
        )
        self.layers.append(layer)
        self.stack.apply([self._laid_by(package, entry) for entry in package.entries])

    def _laid_by(self, package: LayerPackage, entry: TarEntry) -> Node:
        """The node that an entry of a verbatim layer unpacks to: the tree's own where that is the package's (it is the same)."""
        node = self.tree.nodes.get(entry.path)
        if node is not None and node.origin == package.origin and node.kind != "directory":
            return node
        return node_from_entry(entry, origin=package.origin, source=package.source)

    def _package_fault(self, package: LayerPackage, fresh: list[Node]) -> str | None:
        if len(fresh) < len(self._nodes(package)):
            shared = any(node.path in self.crossing for node in self._nodes(package))
            return "has a hard link to or from another package" if shared else "is partly in the base already"
        if package.left_out:
            return f"has '{package.left_out}', which apk does not install"
        return package_fault(package.entries, package.origin, package.source, self.tree)

    def _nodes(self, package: LayerPackage) -> list[Node]:
        return self.by_origin.get(package.origin, [])

    def _fresh(self, package: LayerPackage) -> list[Node]:
        """The package's nodes that the base does not have; hard links together, those between packages left out."""
        nodes = [node for node in self._nodes(package) if node.path not in self.crossing]
        if not self.base_tree.nodes:
            return nodes
        fresh = {_first_name(node) for node in nodes if not self._in_base(node)}
        return [node for node in nodes if _first_name(node) in fresh]

    def _in_base(self, node: Node) -> bool:
        old = self.base_tree.nodes.get(node.path)
        return old is not None and same_node(old, node)

    def _directories_of(self, package: LayerPackage) -> set[str]:
        """The directories that a package brings, where they are directories in the image."""
        nodes = self.tree.nodes
        found = set()
        for entry in package.entries:
            if entry.kind == "directory" and not entry.path.startswith((".", "/")):
                node = nodes.get(entry.path)
                if node is not None and node.kind == "directory":
                    found.add(entry.path)
        return found | parents_of(found)

    def _new_directories(self, package: LayerPackage) -> bool:
        return any(path and path not in self.base_tree.nodes for path in self._directories_of(package))

    # ---- top and single

    def lay_top(self) -> None:
        """Whatever is still missing, or wrong, or too much."""
        missing = changes(self.stack.tree, self.tree)
        nodes = [self.tree.nodes[path] for path in (*missing.directories, *missing.others)]
        nodes += [
            Node(path, "file", 0o644, 0, 0, self.tree.epoch, 0, "", (), None, (0, 0), TOP, Inline(b""))
            for path in missing.whiteouts
        ]
        if not nodes and self.layers:
            return
        segment = self._segment("top", nodes)
        reason = WHY_TOP
        if self.remaining:
            reason += f"; and {len(self.remaining)} packages, for which the layer budget leaves no other"
        if missing.whiteouts:
            count = len(missing.whiteouts)
            reason += f"; hides {count} path{'s' if count > 1 else ''} of lower layers"
        names = ("top", *(str(package) for package, _, _ in self.remaining))
        self._lay(_written("top", names, reason, (segment,)), segment.nodes)

    def single(self) -> PlannedLayer:
        """One layer for all: a head, then segments by origin. Hard links between origins come last."""
        head = self._segment("directories", [node for node in self.tree if node.kind == "directory"])
        names = {package.origin: str(package) for package in self.packages}
        names[OVERLAY] = self.overlay.name if self.overlay else OVERLAY
        known = [BASE, *names]
        others = sorted(origin for origin in self.by_origin if origin not in known and origin != TOP)
        segments = [head]
        for origin in (*known, *others, TOP):
            nodes = [node for node in self.by_origin.get(origin, ()) if not self._is_crossing_link(node)]
            if nodes:
                segments.append(self._segment(names.get(origin, origin), nodes, cached=origin != TOP))
        links = [node for nodes in self.by_origin.values() for node in nodes if self._is_crossing_link(node)]
        if links:
            segments.append(self._segment("links", links))
        shown = tuple(segment.name for segment in segments[1:]) or ("top",)
        return _written("spliced", shown, WHY_SINGLE, tuple(segments))

    def _is_crossing_link(self, node: Node) -> bool:
        return node.kind == "hardlink" and node.path in self.crossing

    # ---- both

    def _segment(self, name: str, nodes: Iterable[Node], *, cached: bool = False) -> Segment:
        """Sorted, and each hard link's header saying what its target's does, since some tools apply it to both."""
        laid = {node.path: node for node in nodes}
        for path, node in laid.items():
            if node.kind == "hardlink":
                target = laid.get(node.target) or self.tree.nodes[node.target]
                laid[path] = replace(
                    node, mode=target.mode, uid=target.uid, gid=target.gid, mtime=target.mtime, xattrs=target.xattrs
                )
        return Segment(name, tuple(_sorted(laid.values())), cached)

    def _lay(self, layer: PlannedLayer, nodes: Sequence[Node]) -> None:
        self.layers.append(layer)
        self.stack.apply(nodes)


def _written(
    kind: str,
    names: tuple[str, ...],
    reason: str,
    segments: tuple[Segment, ...],
    notes: tuple[tuple[str, str], ...] = (),
) -> PlannedLayer:
    size = sum(512 + (node.size + 511) // 512 * 512 for segment in segments for node in segment.nodes)
    return PlannedLayer(kind, names, reason, size, segments=segments, notes=notes)


_RANKS = {"directory": 0, "hardlink": 3}


def _sorted(nodes: Collection[Node]) -> list[Node]:
    """Directories before whiteouts before files before links, each in the order of their names.

    Files of one archive stand together, so that it is inflated once; archives by the first name in each, and not by their
    digests, which are another compressor's business where the archive is a parent's layer.
    """
    first: dict[str, str] = {}
    for node in nodes:
        content = node.content
        if isinstance(content, Member):
            digest = content.source.digest
            if digest not in first or node.path < first[digest]:
                first[digest] = node.path

    def rank(node: Node) -> tuple[int, str, str]:
        path, content = node.path, node.content
        if WHITEOUT in path and path.rpartition("/")[2].startswith(WHITEOUT):
            return 1, "", path
        archive = first[content.source.digest] if isinstance(content, Member) else ""
        return _RANKS.get(node.kind, 2), archive, path

    return sorted(nodes, key=rank)


def _first_name(node: Node) -> str:
    return node.target if node.kind == "hardlink" else node.path


def _crossing_links(tree: Tree) -> frozenset[str]:
    """All names of files that have names of more than one origin: no package's layer can hold them."""
    names: dict[str, list[Node]] = {}
    for node in tree:
        if node.kind == "hardlink":
            names.setdefault(node.target, []).append(node)
    crossing: set[str] = set()
    for target, links in names.items():
        if any(link.origin != tree.nodes[target].origin for link in links):
            crossing.update([target, *(link.path for link in links)])
    return frozenset(crossing)


def _overlay_fault(overlay: LayerOverlay, nodes: Sequence[Node]) -> str | None:
    """Why the overlay's own tarball is not its layer. A matter of the release alone, never of the image."""
    if overlay.source is None or overlay.entries is None:
        return "it comes as several tarballs, or not as gzip"
    fault = archive_fault(overlay.entries)
    if fault:
        return fault
    unpacked = apply_layer(Tree(), overlay.entries, overlay.source, origin=OVERLAY)
    wanted = Tree(nodes)
    wanted.nodes.setdefault("", unpacked.nodes.get("", root_directory()))
    for node in unpacked:
        if node.path and node.path not in wanted.nodes:
            return f"'{node.path}' of the tarball is not laid"
    for node in wanted:
        found = unpacked.nodes.get(node.path)
        if found is None and node.path:
            return f"'{node.path}' is not in the tarball"
        if found is not None and not same_node(found, node) and not _same_but_mtime(found, node):
            return f"'{node.path}' is laid otherwise than the tarball has it"
    return None


def _same_but_mtime(one: Node, other: Node) -> bool:
    return one.kind == "directory" and same_node(replace(one, mtime=0), replace(other, mtime=0))


def _bytes(count: int) -> str:
    """A size for people."""
    if count < 1 << 10:
        return f"{count} B"
    if count < 1 << 20:
        return f"{count / (1 << 10):.0f} KiB"
    return f"{count / (1 << 20):.1f} MiB"
