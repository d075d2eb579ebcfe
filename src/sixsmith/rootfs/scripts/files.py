"""A tree, as a program in the image sees it: a working directory, links, a umask, and errors with the kernel's words.

Whatever a script changes becomes a node that was made here (`TOP`), with the tree's epoch as its time. Hard links stay
what they are: every name of a file sees a change of it, and removing one name leaves the others.
"""

from __future__ import annotations

import msgspec

from sixsmith.errors import FormatError
from sixsmith.rootfs.scripts.syntax import NotUnderstood
from sixsmith.rootfs.tree import TOP, Content, Inline, Node, Tree

__all__ = ["Files", "Refused"]

_MACHINE = ("proc/", "sys/")
_NOT_NAMES = ("", ".", "..")
_EMPTY = Inline(b"")


class Refused(Exception):
    """What a system call says no with; the text is strerror's."""


class Files:
    """The tree of one running script. Paths are absolute or relative to `directory` (without leading slash)."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.directory = ""
        self.umask = 0o022

    # --- finding ------------------------------------------------------------------------------------------------

    def absolute(self, path: str) -> str:
        """The path from the root, links not followed."""
        return path if path.startswith("/") or not self.directory else f"{self.directory}/{path}"

    def real(self, path: str, *, follow: bool = True) -> str:
        """Where a path leads; with `follow` false its last name is not followed. Raises Refused where a directory is missing."""
        if path == "":
            raise Refused("No such file or directory")
        if "\0" in path or len(path) > 4096:
            raise Refused("File name too long")
        full = path if path[0] == "/" else self.absolute(path)
        plain = full.lstrip("/")
        nodes = self.tree.nodes
        there = nodes.get(plain)
        if there is None:
            above, _, name = plain.rpartition("/")
            holder = nodes.get(above) if above else None
            is_real = holder is not None and holder.kind == "directory" and name not in _NOT_NAMES
        else:
            is_real = plain != "" and not (follow and there.kind == "symlink")
        if is_real:
            if plain.startswith(_MACHINE):
                self._forbid_machine(plain)
            return plain  # nodes stand at real paths: what is there, or would be in what is there, needs no walk
        try:
            if follow or full.endswith("/") or full.rpartition("/")[2] in (".", "..", ""):
                real = self.tree.resolve(full)
            else:
                above, _, name = full.rpartition("/")
                directory = self.tree.resolve(above)
                real = f"{directory}/{name}" if directory else name
        except FormatError:
            raise Refused("Symbolic link loop") from None
        self._forbid_machine(real)
        self._check_directory(real.rpartition("/")[0])
        if full.endswith("/") and real and (node := self.tree.get(real)) is not None and node.kind != "directory":
            raise Refused("Not a directory")
        return real

    def _forbid_machine(self, real: str) -> None:
        if real.startswith(_MACHINE):
            raise NotUnderstood(f"/{real} depends on the machine that the script runs on")

    def _check_directory(self, real: str) -> None:
        if not real:
            return
        node = self.tree.get(real)
        if node is None:
            raise Refused("No such file or directory")
        if node.kind != "directory":
            raise Refused("Not a directory")

    def node(self, path: str, *, follow: bool = True) -> Node | None:
        """The node that a path leads to, or None; a hard link shows as the file that it is. The root is None as well."""
        try:
            real = self.real(path, follow=follow)
        except Refused:
            return None
        return self._file(real)

    def _file(self, real: str) -> Node | None:
        node = self.tree.nodes.get(real)
        if node is not None and node.kind == "hardlink":
            return self.tree.nodes.get(node.target)
        return node

    def is_directory(self, path: str) -> bool:
        try:
            real = self.real(path)
        except Refused:
            return False
        return real == "" or ((node := self.tree.get(real)) is not None and node.kind == "directory")

    def exists(self, path: str, *, follow: bool = True) -> bool:
        try:
            real = self.real(path, follow=follow)
        except Refused:
            return False
        return real in ("", "dev/null") or real in self.tree.nodes

    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted by bytes. Raises Refused."""
        real = self.real(path)
        if real and (node := self.tree.get(real)) is None:
            raise Refused("No such file or directory")
        if real and node is not None and node.kind != "directory":
            raise Refused("Not a directory")
        if real:
            front = real + "/"
            start = len(front)
            # most paths do not have it anywhere, which is asked sooner than where
            below = [other[start:] for other in self.tree.nodes if front in other and other.startswith(front)]
            names = [name for name in below if "/" not in name]
        else:
            names = [other for other in self.tree.nodes if other and "/" not in other]
        return sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape"))

    def read(self, path: str) -> bytes:
        """The bytes of a file. Raises Refused."""
        return self.content(path).read()

    def content(self, path: str) -> Content:
        """What holds the bytes of a file. Raises Refused."""
        real = self.real(path)
        node = self._file(real)
        if real == "dev/null":
            return _EMPTY
        if node is None:
            if real == "":
                raise Refused("Is a directory")
            if real.startswith("dev/"):
                raise NotUnderstood(f"/{real} is a device")
            raise Refused("No such file or directory")
        if node.kind == "directory":
            raise Refused("Is a directory")
        if node.kind != "file":
            raise NotUnderstood(f"/{real} is a {node.kind}")
        return node.content if node.content is not None else _EMPTY

    # --- changing -----------------------------------------------------------------------------------------------

    def _names(self, real: str) -> list[str]:
        """All paths of the file at `real`, the one that has the content first."""
        node = self.tree.nodes[real]
        first = node.target if node.kind == "hardlink" else real
        if node.kind not in ("file", "hardlink"):
            return [real]
        return [first, *(other.path for other in self.tree if other.kind == "hardlink" and other.target == first)]

    def write(self, path: str, data: bytes, *, append: bool = False, mode: int = 0o666) -> None:
        """Writes a file as opening it for writing does: its links, mode and owner stay. Raises Refused."""
        real = self.real(path)
        node = self._file(real)
        if real in ("dev/null", "dev/stdout", "dev/stderr"):
            return
        if real == "" or (node is not None and node.kind == "directory"):
            raise Refused("Is a directory")
        if node is not None and node.kind != "file":
            raise NotUnderstood(f"/{real} is a {node.kind}")
        if real.startswith("dev/"):
            raise NotUnderstood(f"/{real} would be a file among the devices")
        if append and node is not None and node.content is not None:
            data = node.content.read() + data
        target = node.path if node is not None else real
        self.tree.write(target, data, mode=None if node is not None else mode & ~self.umask)

    def make_directory(self, path: str, *, mode: int = 0o777) -> None:
        """mkdir(2). Raises Refused when something is there."""
        real = self.real(path.rstrip("/") or "/", follow=False)
        if real == "" or real in self.tree:
            raise Refused("File exists")
        self._put(Node(real, "directory", mode & ~self.umask, 0, 0, self._now, 0, "", (), None, (0, 0), TOP, None))

    def make_symlink(self, path: str, target: str) -> None:
        """symlink(2). Raises Refused when something is there."""
        real = self.real(path, follow=False)
        if real == "" or real in self.tree.nodes:
            raise Refused("File exists")
        self._put(Node(real, "symlink", 0o777, 0, 0, self._now, 0, target, (), None, (0, 0), TOP, None))

    def make_hardlink(self, path: str, target: str) -> None:
        """link(2). Raises Refused."""
        source = self.real(target, follow=False)
        node = self._file(source)
        if node is None:
            raise Refused("No such file or directory")
        if node.kind == "directory":
            raise Refused("Operation not permitted")
        real = self.real(path, follow=False)
        if real in self.tree:
            raise Refused("File exists")
        if node.kind != "file":
            self._put(msgspec.structs.replace(node, path=real))
            return
        self._put(msgspec.structs.replace(node, path=real, kind="hardlink", target=node.path, content=None, origin=TOP))

    @property
    def _now(self) -> int:
        return self.tree.epoch

    def _put(self, node: Node) -> None:
        self.tree.nodes[node.path] = node

    def put(self, path: str, node: Node, *, follow: bool = True) -> None:
        """Sets what a path leads to to (a copy of) a node, keeping other names of what was there. Raises Refused."""
        real = self.real(path, follow=follow)
        there = self.tree.get(real)
        if there is not None:
            if there.kind == "directory":
                raise Refused("Is a directory")  # what is below would stand below a file
            self._forget(real)
        self._put(msgspec.structs.replace(node, path=real, checksum=None, origin=TOP))

    def _forget(self, real: str) -> None:
        """Takes one name away; when it held the content of hard links, the next name holds it from now on."""
        node = self.tree.nodes.pop(real)
        if node.kind != "file":
            return
        others = [other for other in self.tree if other.kind == "hardlink" and other.target == real]
        for index, other in enumerate(others):
            if index == 0:
                heir = msgspec.structs.replace(node, path=other.path, origin=other.origin)
            else:
                heir = msgspec.structs.replace(other, target=others[0].path)
            self._put(heir)

    def remove(self, path: str) -> None:
        """unlink(2). Raises Refused."""
        real = self.real(path, follow=False)
        node = self.tree.get(real)
        if node is None:
            raise Refused("Is a directory" if real == "" else "No such file or directory")
        if node.kind == "directory":
            raise Refused("Is a directory")
        self._forget(real)

    def remove_directory(self, path: str) -> None:
        """rmdir(2). Raises Refused."""
        real = self.real(path.rstrip("/") or "/", follow=False)
        node = self.tree.get(real)
        if real == "":
            raise Refused("Resource busy")
        if node is None:
            raise Refused("No such file or directory")
        if node.kind != "directory":
            raise Refused("Not a directory")
        if self.below(real):
            raise Refused("Directory not empty")
        del self.tree.nodes[real]

    def below(self, real: str) -> list[Node]:
        """All nodes inside a directory, at any depth, in tree order."""
        start = real + "/" if real else ""
        return [node for node in self.tree if node.path.startswith(start) and node.path != real and node.path]

    def remove_all(self, path: str) -> None:
        """What `rm -r` does: a path and all below it. Raises Refused when nothing is there."""
        real = self.real(path.rstrip("/") or "/", follow=False)
        if real == "":
            raise NotUnderstood("the whole root would be removed")
        if real not in self.tree:
            raise Refused("No such file or directory")
        for node in [*self.below(real)[::-1], self.tree.nodes[real]]:
            self._forget(node.path)

    def rename(self, source: str, target: str) -> None:
        """rename(2), as one file system. Raises Refused."""
        old = self.real(source.rstrip("/") or "/", follow=False)
        new = self.real(target.rstrip("/") or "/", follow=False)
        node = self.tree.get(old)
        if node is None:
            raise Refused("No such file or directory")
        there = self.tree.get(new)
        if old == new:
            return
        if new.startswith(old + "/"):
            raise Refused("Invalid argument")
        if there is not None:
            self._make_way(node, there)
        moved = [node, *(self.below(old) if node.kind == "directory" else [])]
        for one in moved:
            self._move(one, new + one.path[len(old) :])

    def _make_way(self, node: Node, there: Node) -> None:
        if there.kind == "directory":
            if node.kind != "directory":
                raise Refused("Is a directory")
            if self.below(there.path):
                raise Refused("Directory not empty")
            del self.tree.nodes[there.path]
        elif node.kind == "directory":
            raise Refused("Not a directory")
        else:
            self._forget(there.path)

    def _move(self, node: Node, path: str) -> None:
        for other in [other for other in self.tree if other.kind == "hardlink" and other.target == node.path]:
            self._put(msgspec.structs.replace(other, target=path))
        current = self.tree.nodes.pop(node.path)
        self._put(msgspec.structs.replace(current, path=path, checksum=None, origin=TOP))

    def change(
        self,
        path: str,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        follow: bool = True,
    ) -> None:
        """chmod(2) and chown(2) on every name of a file. Raises Refused; the root itself cannot be changed."""
        real = self.real(path, follow=follow)
        if real == "":
            raise NotUnderstood("the root directory itself would be changed")
        if real not in self.tree:
            if real.startswith("dev/"):
                raise NotUnderstood(f"/{real} is a device")
            raise Refused("No such file or directory")
        for name in self._names(real):
            self.tree.change(name, mode=mode, uid=uid, gid=gid)

    def stamp(self, path: str) -> None:
        """utimensat(2) with the time of now, on every name of a file. Raises Refused."""
        real = self.real(path)
        if real in self.tree:
            for other in self._names(real):
                self._put(msgspec.structs.replace(self.tree.nodes[other], mtime=self._now, origin=TOP))

    def set_xattr(self, path: str, name: str, value: bytes) -> None:
        """setxattr(2) on every name of a file. Raises Refused."""
        real = self.real(path)
        if real not in self.tree:
            raise Refused("No such file or directory")
        for other in self._names(real):
            node = self.tree.nodes[other]
            kept = tuple(pair for pair in node.xattrs if pair[0] != name)
            self._put(msgspec.structs.replace(node, xattrs=tuple(sorted([*kept, (name, value)])), origin=TOP))

    def file(self, data: bytes, *, mode: int, uid: int = 0, gid: int = 0) -> Node:
        """A regular file to `put` somewhere."""
        content: Content = Inline(data)
        return Node("", "file", mode, uid, gid, self._now, len(data), "", (), None, (0, 0), TOP, content)
