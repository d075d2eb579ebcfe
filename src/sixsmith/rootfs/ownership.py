"""Who owns which directory, as apk 2.14 counts it.

Several packages may have one directory, each with its own idea of mode and owner. The strictest wins: the smallest owner,
and of the same owner the bits that all agree on. A directory that was there before with other permissions is somebody's
decision and stays as it is. New directories belong to root while scripts run; in the end all permissions are set, whatever
scripts did to them. A directory goes when the last package and the last subdirectory that held it are gone.

The order in which triggers see directories is that of apk's hash table, so that is here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec

from sixsmith.apk.installed import InstalledPackage, Permissions
from sixsmith.rootfs.inodes import Inodes
from sixsmith.rootfs.tree import Node

__all__ = ["Directories", "Directory", "Protection", "path_pattern", "read_protections"]

_NOBODY = 1 << 32
_BUCKETS = 20000
_SEED = 5381


class Protection(msgspec.Struct, frozen=True):
    """One rule about configuration: paths under `pattern` (relative, with globs) are protected, or not."""

    pattern: str
    protects: bool


_BUILT_IN = (Protection("etc", True), Protection("etc/init.d", True), Protection("etc/apk", True))


def read_protections(inodes: Inodes) -> tuple[Protection, ...]:
    """The built-in rules (`etc`) and those of `etc/apk/protected_paths.d/*.list`."""
    rules = list(_BUILT_IN)
    for node in sorted(inodes.tree.children("etc/apk/protected_paths.d"), key=lambda node: node.path):
        if not node.path.endswith(".list"):
            continue
        for line in (inodes.tree.read(node.path) or b"").decode("utf-8", "surrogateescape").split("\n"):
            if line and not line.startswith("#"):
                marked = line[0] in "-+@!"
                rules.append(Protection((line[1:] if marked else line).strip("/"), line[0] != "-"))
    return tuple(rules)


class Directory:
    """A directory that packages have: how many references keep it (packages and subdirectories), the permissions that
    win, and what this transaction did to it."""

    __slots__ = (
        "gid",
        "is_modified",
        "is_protected",
        "is_settled",
        "is_updated",
        "mode",
        "parent",
        "path",
        "references",
        "rules",
        "sequence",
        "uid",
    )

    def __init__(self, path: str, sequence: int) -> None:
        self.path = path
        self.parent: Directory | None = None
        self.references = 0
        self.sequence = sequence
        self.mode, self.uid, self.gid = 0, _NOBODY, _NOBODY
        self.is_settled = False  # what is on disk was looked at
        self.is_updated = False  # permissions on disk are apk's to set
        self.is_modified = False  # something in it changed: triggers
        self.is_protected = False
        self.rules: tuple[Protection, ...] = ()

    def merge(self, permissions: Permissions) -> None:
        """Another package's permissions."""
        owner = (permissions.uid, permissions.gid)
        if owner < (self.uid, self.gid):
            self.uid, self.gid = owner
            self.mode = permissions.mode
        elif owner == (self.uid, self.gid):
            self.mode &= permissions.mode


class Directories:
    """All directories that packages have or had since the transaction began."""

    def __init__(self, inodes: Inodes, protections: tuple[Protection, ...] = _BUILT_IN) -> None:
        self.inodes = inodes
        self.all: dict[str, Directory] = {}
        self._protections = protections

    def hold(self, path: str) -> Directory:
        """The directory, held once more; the first hold of it holds its parent."""
        directory = self.all.get(path)
        if directory is None:
            directory = self.all[path] = Directory(path, len(self.all))
        elif directory.references:
            directory.references += 1
            return directory
        directory.references = 1
        directory.uid = directory.gid = _NOBODY
        if path:
            parent_path, _, name = path.rpartition("/")
            directory.parent = parent = self.hold(parent_path)
            self._protect(directory, name, parent.rules if parent_path else self._protections, parent.is_protected)
        return directory

    def _protect(self, directory: Directory, name: str, rules: Iterable[Protection], inherited: bool) -> None:
        directory.is_protected = inherited
        deeper = []
        for rule in rules:
            first, slash, rest = rule.pattern.partition("/")
            if first != name and not fnmatchcase(name, first):
                continue
            if slash:
                deeper.append(Protection(rest, rule.protects))
            else:
                directory.is_protected = rule.protects
        directory.rules = tuple(deeper)

    def prepare(self, directory: Directory, make: Node | None = None) -> None:
        """Looks at what is on disk, once: what is as apk left it (or is made now, from `make`) gets permissions later."""
        if not directory.path or directory.is_settled:
            return
        directory.is_settled = True
        found = self.inodes.lookup(directory.path)
        if found is None:
            directory.is_updated = True
            if make is not None:
                self.inodes.make_directory(make)
        elif found.kind == "directory":
            directory.is_updated = (found.mode, found.uid, found.gid) == (directory.mode, directory.uid, directory.gid)

    def release(self, directory: Directory) -> None:
        """Lets go of a directory; the last one to do so removes it if it is empty."""
        self.prepare(directory)
        current: Directory | None = directory
        while current is not None:
            current.references -= 1
            if current.references:
                return
            if current.path:
                current.is_modified = True
                if current.path != "proc":  # mounted while apk runs, so nobody can remove it
                    self.inodes.remove_directory(current.path)
            current.is_settled = current.is_updated = False
            above, current.parent = current.parent, None
            current = above

    def settle(self, packages: Iterable[InstalledPackage]) -> None:
        """Sets the permissions of every directory that is apk's to set, from all packages that have it."""
        seen: set[str] = set()
        for package in packages:
            for path, owned in package.directories.items():
                directory = self.all[path]
                if not directory.is_updated:
                    continue
                if path not in seen:
                    seen.add(path)
                    directory.mode, directory.uid, directory.gid = 0, _NOBODY, _NOBODY
                directory.merge(owned.permissions)
        nodes = self.inodes.tree.nodes
        for path in seen:
            directory = self.all[path]
            real = self.inodes.locate(path)
            node = nodes.get(real)
            wanted = (directory.mode, directory.uid, directory.gid)
            if node is not None and node.kind == "directory" and (node.mode, node.uid, node.gid) != wanted:
                nodes[real] = msgspec.structs.replace(node, mode=wanted[0], uid=wanted[1], gid=wanted[2])

    def watched(self, patterns: Iterable[str], *, everything: bool) -> tuple[str, ...]:
        """Absolute paths of the directories that a trigger is told of, in apk's order.

        `everything`: all that match, for a package that was just installed; otherwise those in which something changed.
        """
        matches = [path_pattern(pattern) for pattern in patterns if pattern.startswith("/")]
        found = [
            directory
            for directory in self.all.values()
            if (everything or directory.is_modified) and any(match.match("/" + directory.path) for match in matches)
        ]
        found.sort(key=lambda directory: (_bucket(directory.path), -directory.sequence))
        return tuple("/" + directory.path for directory in found)


@lru_cache(maxsize=256)
def path_pattern(pattern: str) -> re.Pattern[str]:
    """A glob as `fnmatch(…, FNM_PATHNAME)` takes it: `*` and `?` stop at slashes."""
    out = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif (
            character == "["
            and (end := pattern.find("]", position + 1 + (pattern[position : position + 1] == "!"))) > 0
        ):
            inside = pattern[position:end].replace("\\", "\\\\")
            out.append(f"(?!/)[{'^' + inside[1:] if inside[:1] in '!^' else inside}]")
            position = end + 1
        else:
            if character == "\\" and position < len(pattern):
                character = pattern[position]
                position += 1
            out.append(re.escape(character))
    try:
        return re.compile("".join(out) + r"\Z", re.DOTALL)
    except re.error:
        return re.compile(re.escape(pattern) + r"\Z")


def _bucket(path: str) -> int:
    """Where apk's table of directories has this one: MurmurHash3 (32 bits), modulo the number of buckets."""
    key = path.encode("utf-8", "surrogateescape")
    mask = 0xFFFFFFFF
    state = _SEED
    whole = len(key) & ~3
    for position in range(0, whole, 4):
        block = int.from_bytes(key[position : position + 4], "little") * 0xCC9E2D51 & mask
        state ^= (block << 15 | block >> 17) * 0x1B873593 & mask
        state = (state << 13 | state >> 19) & mask
        state = (state * 5 + 0xE6546B64) & mask
    if whole < len(key):
        block = int.from_bytes(key[whole:], "little") * 0xCC9E2D51 & mask
        state ^= (block << 15 | block >> 17) * 0x1B873593 & mask
    state ^= len(key)
    state = (state ^ state >> 16) * 0x85EBCA6B & mask
    state = (state ^ state >> 13) * 0xC2B2AE35 & mask
    return (state ^ state >> 16) % _BUCKETS
