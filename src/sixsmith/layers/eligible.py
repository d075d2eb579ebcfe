"""When may an archive be a layer as it stands?

The data segment of an `.apk`, a minirootfs and the older s6-overlay tarballs are legal `tar+gzip` layers. They may serve
untouched only when unpacking them on what lies below gives exactly the nodes that the tree has: each question below is
one way in which it would not. The answer is a sentence, because `plan` and `inspect` show it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sixsmith.layers.merge import WHITEOUT, same_node
from sixsmith.model.tar import TarEntry
from sixsmith.rootfs.tree import TOP, Member, Node, Source, Tree, node_from_entry

__all__ = ["archive_fault", "package_fault"]

MAX_WASTE = 64 << 10
"""Bytes of a verbatim layer that the top layer may hide again (a changed owner or mode repeats the file there)."""


def archive_fault(entries: Sequence[TarEntry], *, strict_names: bool = False) -> str | None:
    """Why these entries are no layer whatever lies below, or None.

    `strict_names` is for archives whose names were not stripped: then `./x` and `/x` are faults too.
    """
    seen: dict[str, TarEntry] = {}
    listed = ""  # the directory of the entry before, which is most often that of the next one
    for entry in entries:
        path = entry.path
        if strict_names and (not path or path[0] in "/."):
            if not path.startswith("./") and path.startswith(".") and "/" not in path:
                return f"has '{path}' at its root, which apk takes for control data"
            return f"has a name that not everybody reads alike: '{path}'"
        if ".." in path and ".." in path.split("/"):
            return f"has a name that climbs out: '{path}'"
        directory, _, name = path.rpartition("/")
        if WHITEOUT in path and name.startswith(WHITEOUT):
            return f"has a file named '{name}', which a layer reads as a whiteout"
        if path in seen:
            return f"names '{path}' twice"
        if directory != listed:
            if directory and (directory not in seen or seen[directory].kind != "directory"):
                return f"does not list the directory of '{path}'"
            listed = directory
        if entry.kind == "hardlink":
            fault = _link_fault(entry, seen.get(entry.target))
            if fault:
                return fault
        seen[path] = entry
    root = seen.get("")
    if root is not None and root.mode & 0o555 != 0o555:
        return f"its root directory has mode {root.mode:04o}, with which only root could enter"
    return None


def _link_fault(entry: TarEntry, target: TarEntry | None) -> str | None:
    if target is None or target.kind not in ("file", "hardlink"):
        return f"'{entry.path}' is a hard link to '{entry.target}', which does not stand before it"
    if (entry.mode, entry.uid, entry.gid, entry.mtime) != (target.mode, target.uid, target.gid, target.mtime):
        return f"'{entry.path}' is a hard link whose mode or owner is not its target's"
    if entry.xattrs != target.xattrs:
        # docker changes the owner of what a link names, at which Linux drops capabilities, and sets what the link's header has
        return f"'{entry.path}' is a hard link that does not repeat its target's extended attributes"
    return None


def package_fault(entries: Sequence[TarEntry], origin: str, source: Source, tree: Tree) -> str | None:
    """Why a package's data segment cannot be a layer of an image with this tree, or None.

    Files that were changed in the image (origin TOP) are no fault while the waste is small: the top layer repeats them.
    """
    fault = archive_fault(entries, strict_names=True)
    if fault:
        return fault
    waste = 0
    for entry in entries:
        node = tree.nodes.get(entry.path)
        if node is None:
            return _missing(entry, tree)
        if entry.kind == "directory":
            fault = _directory_fault(entry, node)
        elif node.origin == TOP:
            waste += entry.size
            fault = f"'{entry.path}' and more is changed in the image" if waste > MAX_WASTE else None
        elif node.origin != origin:
            fault = f"loses '{entry.path}' to {_whose(node.origin)}"
        else:
            fault = _file_fault(entry, node, origin, source)
        if fault:
            return fault
    return None


def _missing(entry: TarEntry, tree: Tree) -> str:
    parts = entry.path.split("/")
    for length in range(1, len(parts)):
        above = tree.nodes.get("/".join(parts[:length]))
        if above is not None and above.kind == "symlink":
            return f"'{entry.path}' runs through '{above.path}', which is a symlink here"
    return f"'{entry.path}' is removed from the image"


def _directory_fault(entry: TarEntry, node: Node) -> str | None:
    """Mode, owner and time of a directory that must lose are no fault: the top layer lists it again, with the tree's."""
    if node.kind != "directory":
        return f"'{entry.path}' is a directory in it and a {node.kind} in the image"
    return None


def _file_fault(entry: TarEntry, node: Node, origin: str, source: Source) -> str | None:
    if entry.kind == "hardlink":
        same = node.kind == "hardlink" and node.target == entry.target
        return None if same else f"'{entry.path}' is a hard link in it and not in the image"
    content = node.content
    if (
        isinstance(content, Member)
        and entry.kind == node.kind == "file"
        and content.offset == entry.offset
        and content.size == entry.size
        and node.mode == entry.mode
        and node.uid == entry.uid
        and node.gid == entry.gid
        and node.mtime == entry.mtime
        and node.xattrs == entry.xattrs
        and content.source is source
    ):
        return None  # as nearly all are; the same question in general costs four times as much
    if same_node(node, node_from_entry(entry, origin=origin, source=source)):
        return None
    if (node.uid, node.gid) != (entry.uid, entry.gid):
        return f"the owner of '{entry.path}' is {node.uid}:{node.gid} here and {entry.uid}:{entry.gid} in its header"
    return f"'{entry.path}' is not in the image as the package has it"


def _whose(origin: str) -> str:
    return origin.removeprefix("apk:") if origin.startswith("apk:") else f"the {origin}"
