"""A minirootfs as a tree.

Alpine publishes a root file system per release: a gzip tar of some 500 members with an apk database inside. It is Alpine's own
file with a known checksum, and still read as a stranger's archive. It can mostly serve as an image layer as it stands; what
had to be mended to get a sound tree is said in `mended`, and the layer is then written anew: the archives of 3.7 to 3.9 give
the root directory mode 0700, with which nobody but root could enter the image.
"""

from __future__ import annotations

import msgspec

from sixsmith.errors import FormatError
from sixsmith.model.compression import Bytes
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import TarEntry, parse_tar
from sixsmith.rootfs.sources import GzipSource
from sixsmith.rootfs.tree import BASE, Node, Source, Tree, node_from_entry

__all__ = ["MAX_MINIROOTFS", "Minirootfs", "read_minirootfs"]

MAX_MINIROOTFS = 256 << 20
"""Bytes that a minirootfs may inflate to; real ones have 5 to 10 MB."""


class Minirootfs(msgspec.Struct, frozen=True):
    """A base. `entries` are the archive's members as they stand (paths stripped), `source` has their bytes, `size` is as
    stored, in bytes. `mended` are sentences on where `tree` is not what the archive says; empty when it may be a layer."""

    tree: Tree
    entries: tuple[TarEntry, ...]
    source: Source
    size: int
    mended: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        return self.source.digest


def read_minirootfs(data: Bytes, *, what: str, digest: Digest | None = None, epoch: int = 0) -> Minirootfs:
    """The tree of a minirootfs tarball, whose bytes are verified; `digest` is theirs, where it is known.

    `epoch` (seconds) is the mtime of what will be made in the tree. Raises FormatError naming `what` for damaged archives,
    members that climb out or lie below a link, whiteouts, and hard links to nothing.
    """
    stored = bytes(data)
    source = GzipSource(digest or digest_of(stored), lambda: stored, what=what, limit=MAX_MINIROOTFS)
    entries = tuple(parse_tar(source.inflate(), what=what, strip=True))
    tree = Tree(epoch=epoch)
    mended: list[str] = []
    for entry in entries:
        node = node_from_entry(entry, origin=BASE, source=source)
        if _belongs(node, tree, what, mended):
            tree.put(node)
    _mend_root(tree, mended)
    for node in tree:
        if node.kind == "hardlink" and (node.target not in tree.nodes or tree.nodes[node.target].kind != "file"):
            raise FormatError(f"{what}: '{node.path}' is a hard link to '{node.target}', which is no file in it")
    return Minirootfs(tree, entries, source, len(stored), tuple(mended))


def _belongs(node: Node, tree: Tree, what: str, mended: list[str]) -> bool:
    """Whether the node goes into the tree; its missing directories are made. Raises FormatError for hostile members."""
    directory, _, name = node.path.rpartition("/")
    if not node.path:
        if node.kind != "directory":
            raise FormatError(f"{what}: its root is a {node.kind}")
        return True
    if name.startswith(".wh."):
        raise FormatError(f"{what}: '{node.path}' would hide a file in an image layer")
    if node.kind == "symlink" and not node.target:
        raise FormatError(f"{what}: '{node.path}' is a link to nothing")
    above = tree.nodes.get(directory)
    if directory and above is None:
        _make_directories(tree, directory, node, what)
        mended.append(f"it does not list the directory of '{node.path}'")
    elif above is not None and above.kind != "directory":
        raise FormatError(f"{what}: '{node.path}' lies below the {above.kind} '{directory}'")
    if node.kind in ("char", "block"):
        mended.append(f"it has the device '{node.path}': a runtime makes /dev itself")
        return False
    if node.path in tree.nodes:
        old = tree.nodes[node.path]
        mended.append(f"it names '{node.path}' twice")
        if old.kind == "directory" and node.kind != "directory" and tree.children(node.path):
            raise FormatError(f"{what}: '{node.path}' is a directory and a {node.kind}")
    return True


def _make_directories(tree: Tree, directory: str, node: Node, what: str) -> None:
    try:
        tree.make_directories(directory, origin=BASE)
    except FormatError:
        raise FormatError(f"{what}: '{node.path}' lies below what is no directory") from None
    if directory not in tree.nodes:
        raise FormatError(f"{what}: '{node.path}' lies below a symlink")


def _mend_root(tree: Tree, mended: list[str]) -> None:
    root = tree.nodes.get("")
    if root is None:
        made = Node("", "directory", 0o755, 0, 0, tree.epoch, 0, "", (), None, (0, 0), BASE, None)
        tree.nodes = {"": made, **tree.nodes}
    elif root.mode != 0o755 or root.uid or root.gid:
        tree.nodes[""] = msgspec.structs.replace(root, mode=0o755, uid=0, gid=0)
        mended.append(f"its root directory has mode {root.mode:04o} and owner {root.uid}:{root.gid}")
