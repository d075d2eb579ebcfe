"""Receipts: how a build that has nothing to do finds that out in a few milliseconds.

While a build runs, a `Trace` notes what it read from outside and what it found there. When the build is done, the trace
goes into the store with what the build printed. The next build of the same request looks at the same things; when every
one of them is as it was, it prints what the receipt says and is done, without loading the rest of sixsmith. Anything else,
down to a receipt that cannot be read, means an ordinary build. What is looked at, and how:

    bytes   the whole content, hashed: the family file, the lock, keys, checksums, local files, indexes of mirrors in folders,
            checksum files, the layouts' `index.json`
    names   the names in a folder: local folders, folders of a mirror that were listed
    look    what a path is: file (and whether it may be executed), folder, link (and where to), nothing
    stamp   size and time of change: every blob of the images in the store and in the layouts, the archive, sixsmith's own
            program files and those of the libraries that took part
    part    that a file holds a text: the images' roots in the store's `index.json`

The request itself (arguments, folder, the environment as far as it is read, the date, the interpreter) is the receipt's name.

A build leaves no receipt when it read what cannot be looked at again: a mirror or a registry behind a URL, a tarball that
was pinned at this first use, and any file that was opened without being noted, which an audit hook sees. So a new way to
read something can cost time here, never truth.

This module is loaded before everything else; it imports nothing that is not loaded anyway.
Example of the idea: the traces of `tup` and `ninja`'s restat, held against the world instead of a dependency graph.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from sixsmith.io.records import open_record

__all__ = ["KIND", "Receipt", "Trace", "read_receipt", "render_receipt", "request_key", "store_root"]

KIND = "receipt"
_FORMAT = "sixsmith receipt 1"
_NOTHING = "-"
_ENVIRONMENT = ("SIXSMITH_", "PYTHON", "XDG_", "LC_", "LANG")
_VARIABLES = ("HOME", "TERM", "NO_COLOR", "PATH")


# ---- looking


def _bytes(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # pathlib costs more than the rest of a look
            return sha256(file.readall()).hexdigest()
    except OSError:
        return _NOTHING


def _names(path: str) -> str:
    try:
        return sha256("\0".join(sorted(os.listdir(path))).encode("utf-8", "surrogateescape")).hexdigest()  # noqa: PTH208
    except OSError:
        return _NOTHING


def _look(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            target = sha256(os.fsencode(os.readlink(path))).hexdigest()  # noqa: PTH115
            try:
                mode = os.stat(path).st_mode  # noqa: PTH116
            except OSError:
                return f"link:{target}:nothing"
            return f"link:{target}:{stat.S_IFMT(mode):o}:{mode & 0o100:o}"
        return f"{stat.S_IFMT(mode):o}:{mode & 0o100:o}"
    except OSError:
        return _NOTHING


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return _NOTHING
    return f"{status.st_size}:{status.st_mtime_ns}"


_LOOKS: dict[str, Callable[[str], str]] = {"bytes": _bytes, "names": _names, "look": _look, "stamp": _stamp}


def _is_as_noted(kind: str, found: str, path: str) -> bool:
    if kind == "part":
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                return found.encode("utf-8", "surrogateescape") in file.readall()
        except OSError:
            return False
    look = _LOOKS.get(kind)
    return look is not None and look(path) == found


# ---- the trace


class Trace:
    """What a run read from outside, noted while it runs. Several threads may note at once."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str], str] = {}
        self._explained: set[str] = set()
        self._spoiled = ""

    @property
    def spoiled(self) -> str:
        """Why the run cannot leave a receipt, or ""."""
        return self._spoiled

    def spoil(self, reason: str) -> None:
        """The run read what cannot be looked at again."""
        self._spoiled = self._spoiled or reason

    def saw_bytes(self, path: str | os.PathLike[str], content: bytes | None) -> None:
        """The content that was read there, or None where there is no file."""
        found = _NOTHING if content is None else sha256(content).hexdigest()
        self._note("bytes", os.path.abspath(path), found)  # noqa: PTH100

    def saw_digest(self, path: str | os.PathLike[str], digest: str) -> None:
        """As `saw_bytes`, by the digest (`sha256:…`) of what was read."""
        self._note("bytes", os.path.abspath(path), digest[7:])  # noqa: PTH100

    def saw_stamp(self, path: str, status: os.stat_result) -> None:
        """The stamp of an absolute path at which somebody has just looked."""
        self._note("stamp", path, f"{status.st_size}:{status.st_mtime_ns}")

    def note(self, kind: str, path: str | os.PathLike[str]) -> None:
        """Looks now, for what is not about to change: `names`, `look`, `stamp` or `bytes` of a path."""
        where = os.path.abspath(path)  # noqa: PTH100
        self._note(kind, where, _LOOKS[kind](where))

    def note_part(self, path: str | os.PathLike[str], text: str) -> None:
        """That a file holds a text without blanks."""
        self._note("part", f"{os.path.abspath(path)}", text, again=True)  # noqa: PTH100

    def explain(self, path: str | os.PathLike[str]) -> None:
        """The file is read, but what it must hold is promised elsewhere."""
        self._explained.add(os.path.abspath(path))  # noqa: PTH100

    def is_explained(self, path: str) -> bool:
        """Whether something was noted about this path."""
        return path in self._explained

    def _note(self, kind: str, path: str, found: str, *, again: bool = False) -> None:
        if "\n" in path or "\n" in found or " " in found:
            self.spoil(f"{path!r} cannot be written down")
            return
        self._explained.add(path)
        key = (kind, f"{path}\n{found}" if again else path)
        if self._notes.setdefault(key, found) != found:
            self.spoil(f"{path} changed while it was read")

    def lines(self) -> list[str]:
        """The notes as text: kind, what was found, path."""
        return [f"{kind} {found} {path.partition(chr(10))[0]}" for (kind, path), found in self._notes.items()]


# ---- the receipt


class Receipt:
    """What a build printed, and what must be as it was for that to be true still."""

    __slots__ = ("errors", "notes", "output")

    def __init__(self, notes: Sequence[str], output: str, errors: str) -> None:
        self.notes = notes
        self.output = output
        self.errors = errors

    def still_holds(self) -> bool:
        """Whether everything is as it was."""
        for line in self.notes:
            kind, _, rest = line.partition(" ")
            found, _, path = rest.partition(" ")
            if not _is_as_noted(kind, found, path):
                return False
        return True


def render_receipt(notes: Iterable[str], output: str, errors: str) -> bytes:
    """A receipt as the store keeps it."""
    lines = [_FORMAT, str(len(errors)), *notes, ""]
    return ("\n".join(lines) + "\n" + errors + output).encode("utf-8", "surrogateescape")


def read_receipt(root: str, key: str) -> Receipt | None:
    """The receipt of a request in the store at `root`, or None."""
    try:
        with open(os.path.join(root, "records", KIND, key), "rb", buffering=0) as file:  # noqa: PTH118, PTH123
            opened = open_record(KIND, file.readall())
        if opened is None or opened[0] != key:
            return None
        head, _, printed = opened[1].decode("utf-8", "surrogateescape").partition("\n\n")
        format_, count, *notes = head.split("\n")
        if format_ != _FORMAT:
            return None
        return Receipt(notes, printed[int(count) :], printed[: int(count)])
    except (OSError, ValueError):
        return None


def request_key(arguments: Sequence[str]) -> str:
    """A name for a request: everything that the command line reads beside files."""
    environment = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name in _VARIABLES or name.startswith(_ENVIRONMENT) or name.lower().endswith("_proxy")
    )
    asked = [
        list(arguments),
        os.getcwd(),  # noqa: PTH109
        environment,
        time.strftime("%Y-%m-%d"),
        sys.version,
        sys.executable,
        sys.stderr is not None and sys.stderr.isatty(),
    ]
    return sha256(repr(asked).encode("utf-8", "surrogateescape")).hexdigest()


def store_root(arguments: Sequence[str]) -> str:
    """Where the store of a request is. A guess that is wrong finds no receipt, and an ordinary build follows."""
    found = os.environ.get("SIXSMITH_STORE", "")
    for position, argument in enumerate(arguments):
        if argument == "--store" and position + 1 < len(arguments):
            found = arguments[position + 1]
        elif argument.startswith("--store="):
            found = argument[8:]
    if found:
        return found
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118
    return os.path.join(cache, "sixsmith")  # noqa: PTH118
