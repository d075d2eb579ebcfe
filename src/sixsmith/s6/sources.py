"""Source directories of s6-rc as values.

A source directory holds one directory per service. Here it is a mapping of names to entries, as deep as the compiler
looks, so that the checks are pure functions over values wherever the files come from: a folder (`read_source_directory`),
an image's tree (`source_from_tree`), or plain data (`make_source`).

Names are bytes, since file names are. An entry says what *opening* its path would find: symbolic links are followed
already, and what cannot be had is an entry of kind `lost` with the reason, because for the compiler a broken link and a
link that runs in a circle are different things.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from sixsmith.errors import FormatError, UsageError

if TYPE_CHECKING:
    from sixsmith.rootfs.tree import Node, Tree

__all__ = [
    "Entry",
    "EntryKind",
    "Files",
    "SourceDirectory",
    "make_source",
    "read_source_directory",
    "source_from_tree",
    "sources_from_tree",
]

EntryKind = Literal["file", "directory", "pipe", "socket", "device", "lost"]

MAX_CONTENT = 64 << 20
"""Longest file that is read, in bytes. Longer ones are `lost` for EFBIG: no list of services is that long."""

_NO_CHILDREN: Mapping[bytes, Entry] = {}


class Entry(msgspec.Struct, frozen=True):
    """What a path of a source directory leads to.

    `content` is a file's bytes (empty for all else: reading a pipe without a writer or the null device finds the end at
    once). `children` are a directory's entries, one level below a service. `reason` is the name of the error that opening
    gives (`ENOENT` for a link into nothing, `ELOOP`, `EACCES`, …) for kind `lost`. `target` is the link's text where the
    name itself is a symbolic link. `mode` holds permission bits.
    """

    kind: EntryKind
    content: bytes = b""
    children: Mapping[bytes, Entry] = msgspec.field(default_factory=dict)
    mode: int = 0o644
    reason: str = ""
    target: bytes = b""

    @property
    def missing(self) -> bool:
        """A link to something that is not there: for the compiler the same as no file."""
        return self.kind == "lost" and self.reason == "ENOENT"


class SourceDirectory(msgspec.Struct, frozen=True):
    """One source directory. `path` is what messages call it; `problem` says why it cannot be listed, if so."""

    path: str
    entries: Mapping[bytes, Entry]
    problem: str = ""


Files: TypeAlias = "Mapping[str, File] | Mapping[bytes, File]"
File: TypeAlias = "str | bytes | Entry | Files | None"


def make_source(path: str, files: Files, *, mode: int = 0o755) -> SourceDirectory:
    """A source directory from plain data.

    Keys are names or paths (`a/contents.d/b`; a trailing slash changes nothing); values are a file's content as text
    (UTF-8) or bytes, a mapping for a directory, None for an empty directory, or an `Entry`. Files get `mode`.
    """
    return SourceDirectory(path, _entries(files, mode))


def _entries(files: Files, mode: int) -> dict[bytes, Entry]:
    nested: dict[bytes, File] = {}
    opened: dict[bytes, dict[bytes, File]] = {}
    for key, value in files.items():
        first, _, rest = _key(key).strip(b"/").partition(b"/")
        if not rest:
            nested[first] = value
            opened.pop(first, None)
            continue
        if first not in opened:
            below = nested.get(first)
            opened[first] = {_key(name): part for name, part in below.items()} if isinstance(below, Mapping) else {}
            nested[first] = opened[first]
        opened[first][rest] = value
    return {name: _entry(value, mode) for name, value in nested.items()}


def _key(key: str | bytes) -> bytes:
    return key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key


def _entry(value: File, mode: int) -> Entry:
    if isinstance(value, Entry):
        return value
    if value is None:
        return Entry("directory", mode=0o755)
    if isinstance(value, str):
        return Entry("file", value.encode("utf-8", "surrogateescape"), mode=mode)
    if isinstance(value, bytes):
        return Entry("file", value, mode=mode)
    return Entry("directory", children=_entries(value, mode), mode=0o755)


# --- from a folder on disk ---------------------------------------------------------------------------------------


def read_source_directory(path: str | os.PathLike[str], name: str | None = None) -> SourceDirectory:
    """The source directory in a folder, its files read; `name` is what findings call it (default: the path as given).

    Nothing is raised for what is wrong inside: unreadable files, circular links, sockets become entries that say so. A
    folder that cannot be listed gives an empty source with a `problem`.
    """
    shown = os.fspath(path) if name is None else name
    shown = shown.rstrip("/") or shown
    root = os.fsencode(path)
    if b"\0" in root:
        raise UsageError("a path cannot hold a NUL byte")
    try:
        names = _list_directory(root)
    except OSError as error:
        return SourceDirectory(shown, {}, _reason(error))
    return SourceDirectory(shown, {name: _read_service(root + b"/" + name, name) for name in names})


def _list_directory(path: bytes) -> list[bytes]:
    with os.scandir(path) as listing:
        return sorted(entry.name for entry in listing)


def _reason(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")


def _read_service(path: bytes, name: bytes) -> Entry:
    """A service: its files read, its directories listed. Hidden and plain files of a source are not opened."""
    found, children = _look(path), _NO_CHILDREN
    if name.startswith(b".") or found.kind != "directory":
        return found
    try:
        children = {child: _read_part(path + b"/" + child, child) for child in _list_directory(path)}
    except OSError as error:
        return Entry("lost", reason=_reason(error), target=found.target)
    return Entry("directory", children=children, mode=found.mode, target=found.target)


def _read_part(path: bytes, name: bytes) -> Entry:
    """A file or directory of a service. Of lists only the names count, so those entries are not looked at."""
    found = _look(path)
    if found.kind == "file":
        return _read_content(path, found)
    if found.kind != "directory":
        return found
    try:
        names = _list_directory(path)
    except OSError as error:
        return Entry("lost", reason=_reason(error), target=found.target)
    if name.endswith(b".d"):
        children = dict.fromkeys(names, Entry("file"))
    else:
        children = {child: _read_leaf(path + b"/" + child) for child in names}
    return Entry("directory", children=children, mode=found.mode, target=found.target)


def _read_leaf(path: bytes) -> Entry:
    found = _look(path)
    return _read_content(path, found) if found.kind == "file" else found


def _look(path: bytes) -> Entry:
    """What the path leads to, without content."""
    target = b""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(path) or b"?"  # noqa: PTH115 - pathlib cannot hold names in bytes
            status = Path(os.fsdecode(path)).stat()
    except OSError as error:
        return Entry("lost", reason=_reason(error), target=target)
    return Entry(_kind_of(status.st_mode), mode=stat.S_IMODE(status.st_mode), target=target)


def _kind_of(mode: int) -> EntryKind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _read_content(path: bytes, found: Entry) -> Entry:
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            content = file.read(MAX_CONTENT + 1)
    except OSError as error:
        return Entry("lost", reason=_reason(error), target=found.target)
    if len(content) > MAX_CONTENT:
        return Entry("lost", reason="EFBIG", target=found.target)
    return Entry("file", content, mode=found.mode, target=found.target)


# --- from an image's tree ----------------------------------------------------------------------------------------


def source_from_tree(tree: Tree, path: str, name: str | None = None) -> SourceDirectory:
    """The source directory at `path` of an image's tree; links are followed inside the image."""
    return sources_from_tree(tree, [path] if name is None else [(path, name)])[0]


def sources_from_tree(tree: Tree, paths: Iterable[str | tuple[str, str]]) -> tuple[SourceDirectory, ...]:
    """Several source directories of one tree, in order, reading the tree's nodes once.

    Each is a path, or a path and the name that findings use (default: `/` and the path).
    """
    below: dict[str, list[str]] = {}
    for node in tree:
        parent, _, child = node.path.rpartition("/")
        if node.path:
            below.setdefault(parent, []).append(child)
    branch = _Branch(tree, below)
    sources = []
    for item in paths:
        path, shown = item if isinstance(item, tuple) else (item, "/" + item.strip("/"))
        found = branch.entry(path, depth=3, below_names=False)
        problem = {"directory": "", "lost": found.reason}.get(found.kind, "ENOTDIR")
        sources.append(SourceDirectory(shown, found.children if not problem else {}, problem))
    return tuple(sources)


class _Branch:
    """A tree with its children at hand, looked at as a kernel in that image would."""

    def __init__(self, tree: Tree, below: Mapping[str, list[str]]) -> None:
        self.tree = tree
        self.below = below

    def entry(self, path: str, *, depth: int, below_names: bool) -> Entry:
        """What `path` leads to; `depth` levels of directories are listed, the last one by name only if asked."""
        own = self.tree.get(path)
        target = own.target.encode("utf-8", "surrogateescape") if own is not None and own.kind == "symlink" else b""
        try:
            real = self.tree.resolve(path)
            node = self.tree.find(path)
        except FormatError:
            return Entry("lost", reason="ELOOP", target=target)
        if node is None:
            if real and real not in self.below:
                return Entry("lost", reason="ENOENT", target=target)
            return self.directory(real, 0o755, target, depth, below_names)
        if node.kind == "directory":
            return self.directory(real, node.mode, target, depth, below_names)
        return self.leaf(node, target)

    def leaf(self, node: Node, target: bytes) -> Entry:
        if node.kind == "fifo":
            return Entry("pipe", mode=node.mode, target=target)
        if node.kind != "file":
            return Entry("device", mode=node.mode, target=target)
        if node.size > MAX_CONTENT:
            return Entry("lost", reason="EFBIG", target=target)
        content = node.content.read() if node.content is not None else b""
        return Entry("file", content, mode=node.mode, target=target)

    def directory(self, real: str, mode: int, target: bytes, depth: int, below_names: bool) -> Entry:
        children: dict[bytes, Entry] = {}
        for child in sorted(self.below.get(real, ())) if depth else ():
            name = child.encode("utf-8", "surrogateescape")
            if below_names or (depth == 3 and child.startswith(".")):
                children[name] = Entry("file")
            else:
                names_only = depth == 2 and child.endswith(".d")
                path = f"{real}/{child}" if real else child
                children[name] = self.entry(path, depth=depth - 1, below_names=names_only)
        return Entry("directory", children=children, mode=mode, target=target)
