"""What the kernel's calls do to a tree: rename over something, unlink, rmdir.

A tree's hard links point at the first path of their file, and a directory knows nothing of what is in it. Here both are
kept right while files are replaced and removed, at a cost that is only paid when something is.
"""

from __future__ import annotations

import msgspec

from sixsmith.rootfs.tree import Node, Tree

__all__ = ["Inodes"]


class Inodes:
    """The paths of a tree, changed one call at a time. `forget()` has to be called when others changed the tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.forget()

    def forget(self) -> None:
        """Drops what is remembered about links and directories."""
        self._nodes = self.tree.nodes
        self._links: dict[str, list[str]] | None = None
        self._children: dict[str, int] | None = None

    def locate(self, path: str) -> str:
        """The real path of a name: links on the way to it are followed, the last one is not."""
        directory, slash, name = path.rpartition("/")
        if not slash:
            return name
        real = self.tree.resolve(directory)
        return f"{real}/{name}" if real else name

    def lookup(self, path: str) -> Node | None:
        """What is there, as `lstat` sees it."""
        return self._nodes.get(self.locate(path))

    def is_directory(self, real: str) -> bool:
        """Whether a real path is a directory; the root always is."""
        if not real:
            return True
        node = self._nodes.get(real)
        return node is not None and node.kind == "directory"

    def place(self, node: Node) -> None:
        """Puts a node at its path; what is there (never a directory) is unlinked first."""
        path = node.path
        if path in self._nodes:
            self.unlink(path)
        if self._children is not None:
            parent = path.rpartition("/")[0]
            self._children[parent] = self._children.get(parent, 0) + 1
        if self._links is not None and node.kind == "hardlink":
            self._links.setdefault(node.target, []).append(path)
        self._nodes[path] = node

    def unlink(self, real: str) -> None:
        """Removes a file, link or device. A file that has other names lives on under the next of them."""
        node = self._nodes.get(real)
        if node is None:
            return
        if node.kind == "hardlink":
            self._linked()[node.target].remove(real)
        elif node.kind == "file":
            self._promote(node)
        del self._nodes[real]
        if self._children is not None:
            self._children[real.rpartition("/")[0]] -= 1

    def make_directory(self, node: Node) -> bool:
        """As `mkdir`: False when there is something, or no directory to put it in."""
        path = node.path
        if path in self._nodes or not self.is_directory(path.rpartition("/")[0]):
            return False
        self.place(node)
        return True

    def remove_directory(self, path: str) -> bool:
        """As `rmdir`: False when it is not an empty directory."""
        real = self.locate(path)
        if not real or not self.is_directory(real) or self._count(real):
            return False
        del self._nodes[real]
        if self._children is not None:
            self._children[real.rpartition("/")[0]] -= 1
        return True

    def _promote(self, node: Node) -> None:
        links = self._linked().pop(node.path, None)
        if not links:
            return
        first, *others = links
        self._nodes[first] = msgspec.structs.replace(node, path=first, origin=self._nodes[first].origin)
        for path in others:
            self._nodes[path] = msgspec.structs.replace(self._nodes[path], target=first)
        if others:
            self._linked()[first] = others

    def _linked(self) -> dict[str, list[str]]:
        if self._links is None:
            self._links = {}
            for node in self._nodes.values():
                if node.kind == "hardlink":
                    self._links.setdefault(node.target, []).append(node.path)
        return self._links

    def _count(self, real: str) -> int:
        if self._children is None:
            self._children = {}
            for path in self._nodes:
                if path:
                    parent = path.rpartition("/")[0]
                    self._children[parent] = self._children.get(parent, 0) + 1
        return self._children.get(real, 0)
