"""`lib/apk/db`: what is installed, as apk 2.14 writes it and reads it back.

`installed` has a record for each package (as in an index), then what only an installed package has (`r` replaces, `q`
its priority, `s` pin, `f` flags), then its directories (`F`, `M` mode and owner) each with its files (`R`, `a` mode and
owner, `Z` checksum). Defaults are not written: directories 0755 and files 0644 of root carry no `M`/`a`. `triggers` has
the watched directories, `scripts.tar` the install scripts. Rendering what was parsed gives the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from sixsmith.apk.archive import SCRIPT_KINDS
from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageRecord
from sixsmith.errors import FormatError
from sixsmith.model.tar import BLOCK, iter_tar, padding

__all__ = [
    "ARCH",
    "DATABASE",
    "INSTALLED",
    "KEYS",
    "LOCK",
    "REPOSITORIES",
    "SCRIPTS",
    "TRIGGERS",
    "WORLD",
    "InstalledDirectory",
    "InstalledFile",
    "InstalledPackage",
    "Permissions",
    "checksum_text",
    "parse_installed",
    "parse_scripts",
    "parse_triggers",
    "render_installed",
    "render_scripts",
    "render_triggers",
    "xattr_checksum",
]

DATABASE = "lib/apk/db"
INSTALLED = "lib/apk/db/installed"
TRIGGERS = "lib/apk/db/triggers"
SCRIPTS = "lib/apk/db/scripts.tar"
LOCK = "lib/apk/db/lock"
WORLD = "etc/apk/world"
REPOSITORIES = "etc/apk/repositories"
ARCH = "etc/apk/arch"
KEYS = "etc/apk/keys"

_MAX_SCRIPTS = 256 << 20
_KNOWN_FLAGS = "fsxS"


class Permissions(msgspec.Struct, frozen=True):
    """Mode and owner; `xattrs` is the checksum (`Q1…`) of the extended attributes, "" without any."""

    mode: int
    uid: int = 0
    gid: int = 0
    xattrs: str = ""

    def __str__(self) -> str:
        text = f"{self.uid}:{self.gid}:{self.mode:o}"
        return f"{text}:{self.xattrs}" if self.xattrs else text


DIRECTORY = Permissions(0o755)
FILE = Permissions(0o644)


class InstalledFile(msgspec.Struct):
    """A file of an installed package. `checksum` is `Q1…`, or "" where apk has none."""

    name: str
    permissions: Permissions = FILE
    checksum: str = ""


class InstalledDirectory(msgspec.Struct):
    """A directory of an installed package; the root is "". Files are in the order of the database, by name."""

    path: str
    permissions: Permissions = DIRECTORY
    files: dict[str, InstalledFile] = {}


class InstalledPackage(msgspec.Struct):
    """One package of the database. `pin` is the tag it was asked for with. `flags` are apk's (`f` files, `s` script, `x` xattrs are broken, `S` short sha256)."""

    record: PackageRecord
    replaces: tuple[str, ...] = ()
    replaces_priority: int = 0
    pin: str = ""
    flags: str = ""
    directories: dict[str, InstalledDirectory] = {}
    triggers: tuple[str, ...] = ()
    scripts: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return self.record.name

    def __str__(self) -> str:
        return str(self.record)


def checksum_text(sha1: bytes) -> str:
    """A SHA-1 as apk writes it: `Q1` and base64."""
    return "Q1" + b2a_base64(sha1, newline=False).decode("ascii")


def xattr_checksum(xattrs: Iterable[tuple[str, bytes]]) -> str:
    """apk's checksum of extended attributes: SHA-1 over names and values, each behind its length, by name; "" for none."""
    pairs = sorted((name.encode("utf-8", "surrogateescape"), value) for name, value in xattrs)
    if not pairs:
        return ""
    digest = hashlib.sha1(usedforsecurity=False)
    for name, value in pairs:
        for part in (name, value):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
    return checksum_text(digest.digest())


# --- installed ------------------------------------------------------------------------------------------------------


def parse_installed(data: bytes) -> list[InstalledPackage]:
    """The packages of `installed`, in file order. Raises FormatError naming the line's package and what is odd."""
    text = data.decode("utf-8", "surrogateescape")
    return [_parse_package(block) for block in text.split("\n\n") if block.strip("\n")]


def _parse_package(block: str) -> InstalledPackage:
    head: list[str] = []
    lines = iter(block.strip("\n").split("\n"))
    replaces: tuple[str, ...] = ()
    priority = 0
    pin = flags = first = ""
    for line in lines:
        key = line[:2]
        if key == "F:":
            first = line
            break
        if key == "r:":
            replaces += tuple(line[2:].split())
        elif key == "q:":
            priority = _number(line[2:], 10, line)
        elif key == "s:":
            pin = line[2:]
        elif key == "f:":
            flags = line[2:]
            if set(flags) - set(_KNOWN_FLAGS):
                raise FormatError(f"installed database: unknown flags in '{line[:80]}'")
        elif key in ("R:", "a:", "M:", "Z:"):
            raise FormatError(f"installed database: '{line[:80]}' before any directory")
        else:
            head.append(line)
    record = _record("\n".join(head), pin)
    package = InstalledPackage(record, replaces, priority, pin, flags, {}, (), {})
    if first:
        _parse_files(package, first, lines)
    return package


@lru_cache(maxsize=2048)
def _record(head: str, pin: str) -> PackageRecord:
    """The record of an installed package. Nobody changes one that was read, and the databases of a family have most in common."""
    record = PackageRecord.parse(head)
    record.pin = pin
    return record


def _parse_files(package: InstalledPackage, first: str, lines: Iterator[str]) -> None:
    directory = InstalledDirectory(first[2:], files={})
    package.directories[directory.path] = directory
    file: InstalledFile | None = None
    for line in lines:
        key, value = line[:2], line[2:]
        if key == "R:":
            file = InstalledFile(value)
            directory.files[value] = file
        elif key == "Z:":
            if file is None:
                raise FormatError(f"installed database: {package}: '{line[:80]}' before any file")
            file.checksum = value
        elif key == "F:":
            known = package.directories.get(value)
            directory = known if known is not None else InstalledDirectory(value, files={})
            package.directories[value] = directory
            file = None
        elif key == "a:":
            if file is None:
                raise FormatError(f"installed database: {package}: '{line[:80]}' before any file")
            file.permissions = _permissions(line)
        elif key == "M:":
            directory.permissions = _permissions(line)
        else:
            raise FormatError(f"installed database: {package}: '{line[:80]}' among its files")


@lru_cache(maxsize=512)
def _permissions(line: str) -> Permissions:
    """The mode and owner that an `a:` or `M:` line has: a few different ones, on every other line of a database."""
    parts = line[2:].split(":")
    if len(parts) not in (3, 4):
        raise FormatError(f"installed database: '{line[:80]}' is not a mode with its owner")
    numbers = _number(parts[2], 8, line), _number(parts[0], 10, line), _number(parts[1], 10, line)
    return Permissions(*numbers, xattrs=parts[3] if len(parts) == 4 else "")


def _number(text: str, base: int, line: str) -> int:
    try:
        if not text.isalnum() or len(text) > 12:
            raise ValueError
        return int(text, base)
    except ValueError:
        raise FormatError(f"installed database: '{line[:80]}': '{text[:40]}' is not a number") from None


def render_installed(packages: Iterable[InstalledPackage]) -> bytes:
    """The bytes of `installed`.

    2.14 writes the late lines of a package when it writes its first directory. Those of a package without directories
    stay in its buffer and come out before those of the next package that has some, or never. So they do here.
    """
    lines: list[str] = []
    late: list[str] = []
    for package in packages:
        lines += _record_lines(package.record)
        late += _late_lines(package)
        if package.directories:
            lines += late
            late = []
        for directory in package.directories.values():
            lines.append("F:" + directory.path)
            permissions = directory.permissions
            if permissions is not DIRECTORY and permissions != DIRECTORY:
                lines.append(f"M:{permissions}")
            for file in directory.files.values():
                lines.append("R:" + file.name)
                permissions = file.permissions
                if permissions is not FILE and permissions != FILE:
                    lines.append(f"a:{permissions}")
                if file.checksum:
                    lines.append("Z:" + file.checksum)
        lines.append("")
    lines.append("")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


@lru_cache(maxsize=2048)
def _record_lines(record: PackageRecord) -> list[str]:
    """What an index says of a package, line by line. Nobody changes a record that is in a database, nor this list."""
    lines = [f"C:{record.checksum}", f"P:{record.name}", f"V:{record.version}"]
    if record.arch:
        lines.append(f"A:{record.arch}")
    lines += (
        f"S:{record.size}",
        f"I:{record.installed_size}",
        f"T:{record.description}",
        f"U:{record.url}",
        f"L:{record.license}",
    )
    for letter, text in (("o", record.origin), ("m", record.maintainer)):
        if text:
            lines.append(f"{letter}:{text}")
    if record.build_time:
        lines.append(f"t:{record.build_time}")
    if record.commit:
        lines.append(f"c:{record.commit}")
    if record.provider_priority:
        lines.append(f"k:{record.provider_priority}")
    for letter, words in (("D", record.depends), ("p", record.provides), ("i", record.install_if)):
        if words:
            lines.append(f"{letter}:{' '.join(map(_spelled, words))}")
    return lines


def _late_lines(package: InstalledPackage) -> list[str]:
    """What an installed package has beyond an index record."""
    lines = []
    if package.replaces:
        lines.append(f"r:{' '.join(map(_spelled, package.replaces))}")
    if package.replaces_priority:
        lines.append(f"q:{package.replaces_priority}")
    if package.pin:
        lines.append(f"s:{package.pin}")
    if package.flags:
        lines.append(f"f:{package.flags}")
    return lines


def _spelled(word: str) -> str:
    """A dependency in apk's own spelling (`a==1` is `a=1`)."""
    operators = [character for character in word if character in "<>=~"]
    if len(operators) < 2 and "@" not in word:
        return word
    return str(Dependency.parse(word))


# --- triggers and scripts -------------------------------------------------------------------------------------------


def parse_triggers(data: bytes) -> dict[str, tuple[str, ...]]:
    """The watched directories by package checksum, in file order."""
    found = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        words = line.split()
        if words:
            found[words[0]] = tuple(words[1:])
    return found


def render_triggers(packages: Iterable[InstalledPackage]) -> bytes:
    """The bytes of `triggers`."""
    lines = [f"{package.record.checksum} {' '.join(package.triggers)}\n" for package in packages if package.triggers]
    return "".join(lines).encode("utf-8", "surrogateescape")


def parse_scripts(data: bytes) -> dict[str, dict[str, bytes]]:
    """The scripts by package checksum and member name (`.post-install`). Raises FormatError for a damaged archive."""
    found: dict[str, dict[str, bytes]] = {}
    if len(data) > _MAX_SCRIPTS:
        raise FormatError(f"{SCRIPTS}: {len(data)} bytes are too many")
    for entry in iter_tar(data, what=SCRIPTS, raw=True):  # a checksum in a name may hold `//`
        front, _, kind = entry.path.rpartition(".")
        checksum = front.rpartition(".")[2]
        if entry.kind == "file" and kind in SCRIPT_KINDS and checksum:
            found.setdefault(checksum, {})["." + kind] = data[entry.offset : entry.offset + entry.size]
    return found


_SCRIPT_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s183x")


def render_scripts(packages: Iterable[InstalledPackage], mtime: int) -> bytes:
    """The bytes of `scripts.tar`; `mtime` (Unix time) is that of every member."""
    pieces: list[bytes] = []
    for package in packages:
        for kind in SCRIPT_KINDS:
            script = package.scripts.get("." + kind)
            if script is not None:
                name = f"{package}.{package.record.checksum}.{kind}"
                pieces += (_script_header(name, len(script), mtime), script, padding(len(script)))
    return b"".join(pieces) + bytes(2 * BLOCK)


def _script_header(name: str, size: int, mtime: int) -> bytes:
    """A header as apk 2.14 writes them: GNU magic, owners by name, sizes and times of twelve digits."""
    encoded = name.encode("utf-8", "surrogateescape")
    fields = (
        encoded[:100],
        b"%07o\0" % 0o755,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%012o" % size,
        b"%012o" % mtime,
        b" " * 8,
        b"0",
        b"",
        b"ustar  ",
        b"root",
        b"root",
    )
    header = _SCRIPT_HEADER.pack(*fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
