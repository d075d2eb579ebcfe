"""The file tree of an image, as a value in memory.

A tree maps paths to nodes and knows where each node comes from (`origin`), but holds no file contents of its own: a node
points at the member of the verified archive that has its bytes. So an image of any size costs a few hundred bytes a file,
and the layer writer can hand Alpine's own bytes on untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from sixsmith.errors import FormatError
from sixsmith.model.compression import Bytes
from sixsmith.model.digest import Digest
from sixsmith.model.tar import Kind, TarEntry

__all__ = ["BASE", "OVERLAY", "TOP", "Content", "Inline", "Member", "Node", "Source", "Tree", "node_from_entry"]

BASE = "base"
"""Origin of nodes that came with the base (a minirootfs, a parent image)."""
OVERLAY = "overlay"
"""Origin of nodes that the s6-overlay tarballs brought."""
TOP = "top"
"""Origin of nodes that were made here: the apk database, accounts, files, services, what install scripts did."""


class Source(Protocol):
    """A verified archive that nodes take their bytes from."""

    @property
    def digest(self) -> Digest:
        """Digest of the archive as it is stored (compressed)."""
        ...

    def inflate(self) -> Bytes:
        """The whole uncompressed tar. Implementations keep a bounded cache; callers do not hold on to it."""
        ...


class Inline(msgspec.Struct, frozen=True, gc=False):
    """File content that was made here."""

    data: bytes

    def read(self) -> bytes:
        return self.data


class Member(msgspec.Struct, frozen=True, gc=False):
    """File content that is `size` bytes at `offset` of a source's uncompressed tar."""

    source: Source
    offset: int
    size: int

    def read(self) -> bytes:
        return bytes(memoryview(self.source.inflate())[self.offset : self.offset + self.size])


Content = Inline | Member


class Node(msgspec.Struct, frozen=True, gc=False):
    """One path of the tree. Fields as in `TarEntry`; owners are numbers that hold in this image.

    `origin` is BASE, OVERLAY, TOP, or `apk:NAME` for a package's file. `link_group` of hard-linked files: each node's
    `target` is the path of the first one ("" in the first itself, whose kind is file).
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    target: str
    xattrs: tuple[tuple[str, bytes], ...]
    checksum: bytes | None
    device: tuple[int, int]
    origin: str
    content: Content | None

    def entry(self) -> TarEntry:
        """The tar entry that unpacks to this node."""
        return TarEntry(
            self.path,
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.mtime,
            self.size,
            self.target,
            xattrs=self.xattrs,
            device=self.device,
        )


def node_from_entry(entry: TarEntry, *, origin: str, source: Source | None) -> Node:
    """The node of an archive's entry, owned by the numbers that the archive has."""
    content = Member(source, entry.offset, entry.size) if source is not None and entry.kind == "file" else None
    return Node(
        entry.path,
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime,
        entry.size,
        entry.target,
        entry.xattrs,
        entry.checksum,
        entry.device,
        origin,
        content,
    )


class Tree:
    """An ordered file tree; `epoch` (seconds) is the mtime of whatever is made here."""

    def __init__(self, nodes: Iterable[Node] = (), *, epoch: int = 0) -> None:
        self.nodes: dict[str, Node] = {node.path: node for node in nodes}
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, path: str) -> bool:
        return path.strip("/") in self.nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def copy(self) -> Tree:
        """A tree of its own with the same nodes."""
        twin = Tree(epoch=self.epoch)
        twin.nodes = dict(self.nodes)
        return twin

    def get(self, path: str) -> Node | None:
        """The node at exactly this path, links not followed."""
        return self.nodes.get(path.strip("/"))

    def put(self, node: Node) -> None:
        """Sets the node at its path. Whatever was there is gone, with everything below it if it was a directory. A file in
        place of a file is that file written anew, by all its names; in place of it by anything else, those keep it."""
        old = self.nodes.get(node.path)
        if old is not None and old.kind == "directory" and node.kind != "directory":
            self.remove(node.path)
        elif old is not None and old.kind == "file" and node.kind != "file":
            self._bequeath({node.path: old})
        self.nodes[node.path] = node

    def remove(self, path: str) -> None:
        """Removes a path and all below it; nothing happens when it is not there. Files live on under names that stay."""
        path = path.strip("/")
        old = self.nodes.pop(path, None)
        if old is None:
            return
        gone = {path: old}
        if old.kind == "directory":
            below = path + "/"
            gone |= {other: self.nodes.pop(other) for other in [*self.nodes] if other.startswith(below)}
        self._bequeath(gone)

    def _bequeath(self, gone: dict[str, Node]) -> None:
        """The first of the names that remain for a file holds it from now on."""
        files = {path for path, node in gone.items() if node.kind == "file"}
        if not files:
            return
        heirs: dict[str, str] = {}
        for node in [node for node in self.nodes.values() if node.kind == "hardlink" and node.target in files]:
            heir = heirs.setdefault(node.target, node.path)
            if heir == node.path:
                self.nodes[heir] = msgspec.structs.replace(gone[node.target], path=heir, origin=node.origin)
            else:
                self.nodes[node.path] = msgspec.structs.replace(node, target=heir)

    def children(self, path: str) -> list[Node]:
        """The nodes directly in a directory, in tree order."""
        below = path.strip("/") + "/" if path.strip("/") else ""
        start = len(below)
        return [
            node for other, node in self.nodes.items() if other and other.startswith(below) and "/" not in other[start:]
        ]

    def resolve(self, path: str) -> str:
        """`path` with every symlink on the way followed inside the root; the end need not exist.

        Raises FormatError after 40 links, as the kernel does.
        """
        plain = path.lstrip("/")
        if self._is_real(plain):
            return plain
        straight = self._straight(plain)
        if straight:
            return straight
        todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if done:
                    done.pop()
                continue
            node = self.nodes.get("/".join([*done, part]))
            if node is None or node.kind != "symlink":
                done.append(part)
                continue
            links += 1
            if links > 40:
                raise FormatError(f"/{path}: too many levels of symbolic links")
            if node.target.startswith("/"):
                done = []
            todo += [piece for piece in node.target.split("/") if piece not in ("", ".")][::-1]
        return "/".join(done)

    def _is_real(self, path: str) -> bool:
        """Whether a path surely leads to itself: nodes stand at real paths only, so it is enough to look at the last two."""
        node = self.nodes.get(path)
        if node is not None:
            return node.kind != "symlink" and path != ""
        above, _, name = path.rpartition("/")
        directory = self.nodes.get(above)
        return directory is not None and directory.kind == "directory" and above != "" and name not in ("", ".", "..")

    def _straight(self, path: str) -> str:
        """Where the link at `path` leads when that is the real path of something that is no link, as most are; or ""."""
        link = self.nodes.get(path)
        if link is None or link.kind != "symlink":
            return ""
        if link.target.startswith("/"):
            target = link.target[1:]
        else:
            above = path.rpartition("/")[0]
            target = f"{above}/{link.target}" if above else link.target
        there = self.nodes.get(target)
        return target if there is not None and there.kind != "symlink" else ""

    def find(self, path: str) -> Node | None:
        """The node that `path` leads to, symlinks and hard links followed; None when there is none."""
        node = self.nodes.get(self.resolve(path))
        if node is not None and node.kind == "hardlink":
            node = self.nodes.get(node.target)
        return node

    def read(self, path: str) -> bytes | None:
        """The content of the regular file that `path` leads to, or None when there is none."""
        node = self.find(path)
        if node is None or node.kind != "file":
            return None
        return node.content.read() if node.content is not None else b""

    def write(
        self,
        path: str,
        data: bytes,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        origin: str = TOP,
        keep: bool = True,
    ) -> Node:
        """Writes a regular file through symlinks, making its directories. With `keep`, mode and owner of an existing file stay."""
        real = self.resolve(path)
        old = self.nodes.get(real)
        if old is not None and old.kind == "hardlink":
            old = self.nodes.get(old.target)
        usable = old if keep and old is not None and old.kind == "file" else None
        self.make_directories(real.rpartition("/")[0], origin=origin)
        node = Node(
            real,
            "file",
            mode if mode is not None else usable.mode if usable else 0o644,
            uid if uid is not None else usable.uid if usable else 0,
            gid if gid is not None else usable.gid if usable else 0,
            self.epoch,
            len(data),
            "",
            usable.xattrs if usable else (),
            None,
            (0, 0),
            origin,
            Inline(data),
        )
        self.put(node)
        return node

    def make_directory(self, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0, origin: str = TOP) -> Node:
        """Makes one directory (parents too, 0755 root) or gives an existing one this mode and owner."""
        real = self.resolve(path)
        self.make_directories(real.rpartition("/")[0], origin=origin)
        old = self.nodes.get(real)
        if old is not None and old.kind == "directory":
            node = msgspec.structs.replace(old, mode=mode, uid=uid, gid=gid, origin=origin)
        else:
            node = Node(real, "directory", mode, uid, gid, self.epoch, 0, "", (), None, (0, 0), origin, None)
        self.put(node)
        return node

    def make_directories(self, path: str, *, origin: str = TOP) -> None:
        """Makes a directory and its parents where they are missing, 0755 root; raises FormatError when a file is in the way."""
        real = self.resolve(path)
        if not real or (real in self.nodes and self.nodes[real].kind == "directory"):
            return
        parts = real.split("/")
        for length in range(1, len(parts) + 1):
            part = "/".join(parts[:length])
            old = self.nodes.get(part)
            if old is None:
                self.nodes[part] = Node(
                    part, "directory", 0o755, 0, 0, self.epoch, 0, "", (), None, (0, 0), origin, None
                )
            elif old.kind != "directory":
                raise FormatError(f"/{part} is a {old.kind} where a directory is needed for /{path}")

    def make_symlink(self, path: str, target: str, *, origin: str = TOP) -> Node:
        """Makes a symbolic link (parents too), replacing a file or link at that very path."""
        directory, _, name = path.strip("/").rpartition("/")
        real_directory = self.resolve(directory)
        self.make_directories(real_directory, origin=origin)
        real = f"{real_directory}/{name}" if real_directory else name
        node = Node(real, "symlink", 0o777, 0, 0, self.epoch, 0, target, (), None, (0, 0), origin, None)
        self.put(node)
        return node

    def change(self, path: str, *, mode: int | None = None, uid: int | None = None, gid: int | None = None) -> Node:
        """Changes mode or owner of what is at exactly this path; the node becomes one that was made here.

        As the kernel does, changing the owner of a regular file clears suid and sgid unless `mode` is given.
        Raises KeyError when there is nothing.
        """
        old = self.nodes[path.strip("/")]
        if mode is None:
            mode = old.mode
            if (uid is not None or gid is not None) and old.kind == "file":
                mode &= 0o1777
        node = msgspec.structs.replace(
            old, mode=mode, uid=old.uid if uid is None else uid, gid=old.gid if gid is None else gid, origin=TOP
        )
        self.nodes[node.path] = node
        return node
