"""What layers become when they are stacked, and what is missing for a tree to be equal to that.

`apply_layer` is the image specification's rule ("later wins", whiteouts, opaque directories) as a function on trees. The
planner runs the layers it planned through it and puts whatever still differs into the top layer: so an image is right by
construction, and the property tests only have to compare two trees.

Hard links are the subtle part. A link shares its target's inode only while both come from the same layer; when a later
layer replaces the target, the link keeps the old content. Here the first remaining link then becomes the file.
Sources: image-spec 1.1 `layer.md` ("Applying Changesets", "Whiteouts").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from sixsmith.model.tar import TarEntry
from sixsmith.rootfs.tree import BASE, Inline, Member, Node, Source, Tree, node_from_entry

__all__ = [
    "OPAQUE",
    "WHITEOUT",
    "Changes",
    "Stack",
    "apply_layer",
    "apply_nodes",
    "changes",
    "hidden_by",
    "parents_of",
    "root_directory",
    "same_content",
    "same_node",
    "tree_from_archive",
]

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_OPAQUE_FROM = 4
"""A directory that loses all of its lower children is made opaque when there are at least this many."""

replace = msgspec.structs.replace


def root_directory(mtime: int = 0) -> Node:
    """The root directory as every runtime makes it when no layer lists it."""
    return Node("", "directory", 0o755, 0, 0, mtime, 0, "", (), None, (0, 0), BASE, None)


def hidden_by(path: str) -> tuple[str, bool] | None:
    """What a whiteout hides: (path, only what is below). None when `path` is no whiteout."""
    directory, _, name = path.rpartition("/")
    if not name.startswith(WHITEOUT):
        return None
    if name == OPAQUE:
        return directory, True
    hidden = name[len(WHITEOUT) :]
    return (f"{directory}/{hidden}" if directory else hidden), False


def tree_from_archive(
    entries: Iterable[TarEntry], source: Source | None, *, origin: str = BASE, epoch: int = 0
) -> Tree:
    """The tree of a root file system archive (a minirootfs): the last of several entries with one path wins.

    The minirootfs of 3.7 to 3.9 say mode 0700 for `./`, with which nobody but root could enter the image; a root
    directory is always searchable here.
    """
    tree = apply_layer(Tree(epoch=epoch), entries, source, origin=origin)
    root = tree.nodes.get("")
    if root is not None and root.mode & 0o555 != 0o555:
        tree.nodes[""] = replace(root, mode=0o755)
    return tree


def apply_layer(tree: Tree, entries: Iterable[TarEntry], source: Source | None, *, origin: str = BASE) -> Tree:
    """A new tree: `tree` with one layer on top. Entries are named as `parse_tar(strip=True)` names them.

    `source` is where the layer's file contents are. Whiteouts hide what lower layers brought, never what this one does.
    """
    return apply_nodes(tree, [node_from_entry(entry, origin=origin, source=source) for entry in entries])


def apply_nodes(tree: Tree, nodes: Sequence[Node]) -> Tree:
    """As `apply_layer`, for a layer that is not yet an archive."""
    stack = Stack(tree.copy())
    stack.apply(nodes)
    return stack.tree


class Stack:
    """A tree on which one layer after the other is laid, with the hard links into each file at hand. `tree` changes."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.nodes = tree.nodes
        self.links: defaultdict[str, list[str]] = defaultdict(list)
        for node in tree:
            if node.kind == "hardlink":
                self.links[node.target].append(node.path)

    def apply(self, nodes: Sequence[Node]) -> None:
        """Lays one layer: whiteouts hide what lower layers brought, never what this one does."""
        whiteouts = [hidden for node in nodes if WHITEOUT in node.path and (hidden := hidden_by(node.path)) is not None]
        for hidden in whiteouts:
            self.hide(*hidden)
        sound = ""  # the directory of the node before, which is most often that of the next one
        for node in nodes:
            path = node.path
            if whiteouts and hidden_by(path) is not None:
                continue
            directory = path.rpartition("/")[0]
            if directory == sound != "" and node.kind != "hardlink" and path not in self.nodes:
                self.nodes[path] = node  # nothing to make, to follow or to hide
                continue
            self.lay(node)
            above = self.nodes.get(directory)
            sound = directory if above is not None and above.kind == "directory" else ""

    def hide(self, path: str, below_only: bool) -> None:
        if below_only:
            prefix = path + "/" if path else ""
            for gone in [other for other in self.nodes if other and other.startswith(prefix)]:
                self._drop(gone)
            return
        node = self.nodes.get(path)
        if node is None:
            return
        if node.kind == "directory":
            self.hide(path, True)
        self._drop(path)

    def lay(self, node: Node) -> None:
        path = node.path
        above = self.nodes.get(path.rpartition("/")[0])
        if above is None or above.kind != "directory":
            path = self._place(path)
            if path != node.path:
                node = replace(node, path=path)
        old = self.nodes.get(path)
        if old is not None and not (old.kind == node.kind == "directory"):
            self.hide(path, False)
        if node.kind == "hardlink":
            node = self._link(node)
        self.nodes[path] = node

    def _link(self, node: Node) -> Node:
        """A link points at the file itself, never at another link."""
        first = self.nodes.get(node.target)
        if first is not None and first.kind == "hardlink":
            node = replace(node, target=first.target)
        self.links[node.target].append(node.path)
        return node

    def _drop(self, path: str) -> None:
        """Removes one path; a file that others link to lives on under the first of those names."""
        node = self.nodes.pop(path, None)
        if node is None or node.kind == "directory":
            return
        if node.kind == "hardlink":
            self.links[node.target].remove(path)
            return
        names = [name for name in self.links.pop(path, ()) if name in self.nodes]
        if not names:
            return
        heir, *others = names
        self.nodes[heir] = replace(node, path=heir)
        for name in others:
            self.nodes[name] = replace(self.nodes[name], target=heir)
        self.links[heir] = others

    def _place(self, path: str) -> str:
        """The path with its directories made; a symlink on the way is followed inside the root, as umoci does."""
        directory, _, name = path.rpartition("/")
        if not directory:
            return path
        parent = self.nodes.get(directory)
        if parent is None or parent.kind != "directory":
            directory = self.tree.resolve(directory)
            self.tree.make_directories(directory, origin=BASE)
        return f"{directory}/{name}" if directory else name


def same_content(one: Node, other: Node) -> bool:
    """Whether two files surely have the same bytes. Bytes are not read: unknown means no."""
    if one.size != other.size:
        return False
    if not one.size:
        return True
    left, right = one.content, other.content
    if left is right:
        return left is not None
    if isinstance(left, Inline) and isinstance(right, Inline):
        return left.data == right.data
    if isinstance(left, Member) and isinstance(right, Member):
        return left.offset == right.offset and left.source.digest == right.source.digest
    return False


def same_node(one: Node, other: Node) -> bool:
    """Whether two nodes unpack to the same thing. Origin and checksum are no part of it; nor is a symlink's mode."""
    if one is other:
        return True
    if one.kind != other.kind:
        return False
    if one.kind == "hardlink":
        return one.target == other.target
    if one.uid != other.uid or one.gid != other.gid or one.mtime != other.mtime or one.xattrs != other.xattrs:
        return False
    if one.kind == "symlink":
        return one.target == other.target
    if one.mode != other.mode:
        return False
    if one.kind == "file":
        return same_content(one, other)
    return one.kind == "directory" or one.kind == "fifo" or one.device == other.device


class Changes(msgspec.Struct, frozen=True):
    """What one more layer must hold. All are paths of the tree but `whiteouts`, which are whiteout paths."""

    directories: tuple[str, ...]
    whiteouts: tuple[str, ...]
    others: tuple[str, ...]


def changes(lower: Tree, tree: Tree) -> Changes:
    """What must be laid on `lower` so that it becomes `tree`.

    Hard-linked files travel together: when one name of a file is laid, all are. Directories are those that differ and
    the parents of whatever is laid or hidden, since a layer that does not list its directories leaves their modes to the
    runtime (some say 0755, some 0777).
    """
    directories: set[str] = set()
    others: set[str] = set()
    below = lower.nodes
    for path, node in tree.nodes.items():
        old = below.get(path)
        if old is node or (old is not None and same_node(old, node)):
            continue
        (directories if node.kind == "directory" else others).add(node.path)
    others |= _linked_with(others, tree)
    whiteouts = _whiteouts(lower, tree)
    directories |= parents_of([*directories, *whiteouts, *others])
    return Changes(tuple(sorted(directories)), tuple(sorted(whiteouts)), tuple(sorted(others)))


def parents_of(paths: Iterable[str]) -> set[str]:
    """Every directory above these paths, the root ("") included."""
    above: set[str] = set()
    for path in paths:
        while path:
            path = path.rpartition("/")[0]
            if path in above:
                break
            above.add(path)
    return above


def _linked_with(paths: set[str], tree: Tree) -> set[str]:
    """All names of the files that have one of these names."""
    if not paths:
        return set()
    first = {tree.nodes[path].target if tree.nodes[path].kind == "hardlink" else path for path in paths}
    return {node.path for node in tree if node.kind == "hardlink" and node.target in first} | (first & set(tree.nodes))


def _whiteouts(lower: Tree, tree: Tree) -> set[str]:
    if lower.nodes.keys() <= tree.nodes.keys():
        return set()  # most layers take nothing away
    gone: defaultdict[str, list[str]] = defaultdict(list)
    kept: set[str] = set()
    for path in lower.nodes:
        if not path:
            continue
        directory, _, name = path.rpartition("/")
        if path in tree.nodes:
            kept.add(directory)
        elif _is_directory(lower, directory) and _is_directory(tree, directory):
            gone[directory].append(name)
    whiteouts = set()
    for directory, names in gone.items():
        prefix = directory + "/" if directory else ""
        if directory and directory not in kept and len(names) >= _OPAQUE_FROM:
            whiteouts.add(prefix + OPAQUE)
        else:
            whiteouts.update(f"{prefix}{WHITEOUT}{name}" for name in names)
    return whiteouts


def _is_directory(tree: Tree, path: str) -> bool:
    node = tree.nodes.get(path)
    return not path if node is None else node.kind == "directory"
