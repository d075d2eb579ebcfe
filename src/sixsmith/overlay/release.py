"""The tarballs of one s6-overlay release as one canonical list of nodes.

Tarballs are other people's archives and are read as such, although their checksum is known: nothing may climb out, no device,
no whiteout, no member below a symlink, no path with two meanings, no program of another machine. What comes out depends
on the tarballs alone, never on the image, and is sorted: so the overlay is one layer, byte for byte the same for every Alpine
release and every image of an architecture. Owners are root; directories lose the write bits that old releases gave to
group (/etc and /usr/bin became 0775, #274); file modes stay as shipped, suid included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sixsmith.errors import FormatError, UsageError
from sixsmith.model.arch import Arch
from sixsmith.model.compression import Bytes
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import TarEntry, parse_tar
from sixsmith.overlay.elf import ARMV7, arm_architecture, elf_fault, is_elf
from sixsmith.rootfs.sources import GzipSource, XzSource
from sixsmith.rootfs.tree import OVERLAY, Node, Source, node_from_entry
from sixsmith.s6.finding import Finding

__all__ = ["MAX_OVERLAY", "Overlay", "OverlayTarball", "read_overlay"]

MAX_OVERLAY = 512 << 20
"""Bytes that one tarball may inflate to; 3.1.3.0, whose programs were not stripped, is the biggest (#507)."""

_NAME = (
    r"(?:s6-overlay-(?P<word>symlinks-noarch|symlinks-arch|[a-z0-9_]+)|(?P<syslogd>syslogd-overlay)-noarch)"
    r"(?:-[0-9][0-9.]*(?:-[0-9]+)?)?\.tar\.(?P<format>gz|xz)\Z"
)
_ORDER = ("noarch", "arch", "symlinks-noarch", "symlinks-arch", "syslogd")
_RELEASE_DIRECTORY = r"package/admin/s6-overlay-([0-9][0-9.]*(?:-[0-9]+)?)\Z"
_WORDS = {"armv7": frozenset({"arm", "armhf"}), "x86": frozenset({"i686", "i486", "x86"})}
"""Words in file names that serve an architecture, where there is more than the table of architectures says."""


class OverlayTarball(msgspec.Struct, frozen=True):
    """One verified tarball. `part` is noarch, arch, symlinks-noarch, symlinks-arch or syslogd; `size` is as stored, in bytes."""

    name: str
    part: str
    digest: Digest
    size: int
    source: Source
    entries: tuple[TarEntry, ...]


class Overlay(msgspec.Struct, frozen=True):
    """One release for one architecture. `nodes` are sorted by path, name each path once, list every directory but the
    root, and belong to root; their contents are members of the tarballs' sources."""

    version: str
    arch: Arch
    nodes: tuple[Node, ...]
    tarballs: tuple[OverlayTarball, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def major(self) -> int:
        """The layout: 1, 2 or 3."""
        return _major(self.version)

    @property
    def symlinks(self) -> bool:
        """Whether v3's links in /usr/bin are part of it."""
        return any(tarball.part.startswith("symlinks") for tarball in self.tarballs)

    @property
    def syslogd(self) -> bool:
        """Whether v3's syslogd is part of it."""
        return any(tarball.part == "syslogd" for tarball in self.tarballs)

    @property
    def key(self) -> Digest:
        """A digest that stands for all of it: two overlays with one key have the same nodes."""
        lines = [f"{self.version} {self.arch.name}", *sorted(f"{each.part} {each.digest}" for each in self.tarballs)]
        return digest_of("\n".join(lines).encode())

    def __str__(self) -> str:
        return f"s6-overlay {self.version}"


def read_overlay(version: str, arch: Arch, files: Mapping[str, Bytes]) -> Overlay:
    """The overlay that these files make. `files` maps their release names (folders before them are ignored) to verified bytes.

    Raises UsageError for a set of files that makes no overlay (noarch without arch, another release's layout), FormatError
    for tarballs that are damaged, hostile, or for another machine or release.
    """
    tarballs = _read_tarballs(version, arch, files)
    nodes = _merge(version, tarballs)
    _check_complete(version, nodes)
    findings = _check_programs(version, arch, nodes.values())
    return Overlay(version, arch, tuple(nodes[path] for path in sorted(nodes)), tarballs, tuple(findings))


def _major(version: str) -> int:
    return int(version.split(".")[0])


# ---- which files


def _read_tarballs(version: str, arch: Arch, files: Mapping[str, Bytes]) -> tuple[OverlayTarball, ...]:
    found: dict[str, OverlayTarball] = {}
    for path, data in files.items():
        name = path.rpartition("/")[2]
        part = _part(version, arch, name)
        if part in found:
            raise UsageError(f"s6-overlay {version}: {found[part].name} and {name} are the same part of a release")
        found[part] = _read_tarball(version, name, part, data)
    wanted = ("arch",) if _major(version) < 3 else ("noarch", "arch")
    missing = [part for part in wanted if part not in found]
    if missing:
        raise UsageError(
            f"s6-overlay {version} without its {missing[0]} tarball: the image would have no {_LOSS[missing[0]]}",
            hint=f"it needs {' and '.join(wanted)}, always both" if len(wanted) == 2 else None,
        )
    return tuple(found[part] for part in _ORDER if part in found)


_LOSS = {"noarch": "/init", "arch": "programs"}


def _part(version: str, arch: Arch, name: str) -> str:
    match = re.match(_NAME, name)
    if match is None:
        raise UsageError(f"{name} is not a tarball that an s6-overlay image is made of")
    major = _major(version)
    if (match["format"] == "xz") != (major >= 3):
        raise UsageError(f"s6-overlay {version} comes as .tar.{'xz' if major >= 3 else 'gz'}, not as {name}")
    if match["syslogd"]:
        return "syslogd"
    word = match["word"]
    if word == "noarch" or word.startswith("symlinks-"):
        if major < 3:
            raise UsageError(f"{name} is not a tarball of s6-overlay {version}")
        return str(word)
    known = arch.overlay_v3 if major >= 3 else arch.overlay_v2
    words = _WORDS.get(arch.name, frozenset()) | ({known} if known else frozenset())
    if word not in words:
        expected = f"its word is '{known}'" if known else "no release has one"
        raise UsageError(f"{name} is not the s6-overlay of {arch.name}; {expected}")
    return "arch"


def _read_tarball(version: str, name: str, part: str, data: Bytes) -> OverlayTarball:
    what = f"s6-overlay {version}: {name}"
    stored = bytes(data)
    digest = digest_of(stored)
    source_type = XzSource if name.endswith(".xz") else GzipSource
    source = source_type(digest, lambda: stored, what=what, limit=MAX_OVERLAY)
    entries = tuple(parse_tar(source.inflate(), what=what, strip=True))
    return OverlayTarball(name, part, digest, len(stored), source, entries)


# ---- one canonical list


def _merge(version: str, tarballs: Sequence[OverlayTarball]) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for tarball in tarballs:
        what = f"s6-overlay {version}: {tarball.name}"
        for entry in tarball.entries:
            node = _node(entry, tarball.source, what)
            if node is not None:
                nodes[node.path] = _joined(nodes.get(node.path), node, what)
    _add_directories(nodes)
    for node in nodes.values():
        above = nodes.get(node.path.rpartition("/")[0])
        if above is not None and above.kind != "directory":
            raise FormatError(f"s6-overlay {version}: '{node.path}' lies below the {above.kind} '{above.path}'")
        if node.kind == "hardlink" and (node.target not in nodes or nodes[node.target].kind != "file"):
            raise FormatError(
                f"s6-overlay {version}: '{node.path}' is a hard link to '{node.target}', which is no file"
            )
    return nodes


def _node(entry: TarEntry, source: Source, what: str) -> Node | None:
    """The canonical node of a member; None for the root directory, which is never the overlay's."""
    if not entry.path:
        if entry.kind != "directory":
            raise FormatError(f"{what}: its root is a {entry.kind}")
        return None
    if entry.kind not in ("file", "directory", "symlink", "hardlink"):
        raise FormatError(f"{what}: '{entry.path}' is a {entry.kind}, which no overlay has")
    if "/.wh." in f"/{entry.path}":
        raise FormatError(f"{what}: '{entry.path}' would hide a file in an image layer")
    if entry.kind == "symlink" and not entry.target:
        raise FormatError(f"{what}: '{entry.path}' is a link to nothing")
    mode = entry.mode
    if entry.kind == "directory" and not mode & 0o1000:
        mode &= ~0o022
    node = node_from_entry(entry, origin=OVERLAY, source=source)
    return msgspec.structs.replace(node, mode=0o777 if entry.kind == "symlink" else mode, uid=0, gid=0)


def _joined(old: Node | None, new: Node, what: str) -> Node:
    """What two members with one path are together: directories are one, anything else must be the same twice."""
    if old is None:
        return new
    if old.kind == "directory" and new.kind == "directory":
        return msgspec.structs.replace(old, mtime=max(old.mtime, new.mtime))
    same = (old.kind, old.mode, old.target, old.size) == (new.kind, new.mode, new.target, new.size)
    if not same or (old.content and new.content and old.content.read() != new.content.read()):
        raise FormatError(f"{what}: '{new.path}' has two meanings")
    return old


def _add_directories(nodes: dict[str, Node]) -> None:
    """Lists directories that no tarball lists, as old as what is newest below them."""
    for node in list(nodes.values()):
        path = node.path.rpartition("/")[0]
        while path and path not in nodes:
            nodes[path] = Node(path, "directory", 0o755, 0, 0, node.mtime, 0, "", (), None, (0, 0), OVERLAY, None)
            path = path.rpartition("/")[0]


# ---- is it the right one


def _check_complete(version: str, nodes: Mapping[str, Node]) -> None:
    major = _major(version)
    for path in ("init", "command/s6-svscan" if major >= 3 else "bin/s6-svscan"):
        if path not in nodes:
            raise FormatError(f"s6-overlay {version}: its tarballs have no /{path}")
    if not nodes["init"].mode & 0o100:
        raise FormatError(f"s6-overlay {version}: /init is not executable")
    if major < 3:
        return
    found = sorted({match[1] for path in nodes if (match := re.match(_RELEASE_DIRECTORY, path))})
    wanted = version.partition("-")[0]
    others = [other for other in found if other.partition("-")[0] != wanted]
    if others:
        raise FormatError(f"s6-overlay {version}: a tarball is that of {others[0]}")


def _check_programs(version: str, arch: Arch, nodes: Iterable[Node]) -> list[Finding]:
    """Raises FormatError for a program of another machine; finds ARMv7 code for ARMv6."""
    too_new: list[str] = []
    for node in sorted(nodes, key=lambda node: node.path):
        if node.kind != "file" or node.content is None or node.size < 20:
            continue
        program = node.content.read()
        if not is_elf(program):
            continue
        fault = elf_fault(program, arch)
        if fault:
            raise FormatError(f"s6-overlay {version}: /{node.path} {fault}, and the image is for {arch.name}")
        if arch.name == "armhf" and (arm_architecture(program) or 0) >= ARMV7:
            too_new.append(node.path)
    if not too_new:
        return []
    return [
        Finding(
            "M2",
            "warning",
            f"/{too_new[0]}",
            0,
            f"{len(too_new)} programs of s6-overlay {version} are built for ARMv7; an ARMv6 stops with an illegal instruction",
            "the armhf tarball is the one for ARMv6; armv7 images may have it too",
            "pi-hole#1201",
        )
    ]
