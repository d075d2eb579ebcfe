"""Tar members as the tools of Alpine write them: owner names, pax checksums, extended attributes.

Layers need none of these, so the product's own writer does not know them; samples do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sixsmith.model.tar import BLOCK, END_OF_ARCHIVE, Kind, padding

__all__ = ["TIME", "SampleFile", "sample_files", "tar_bytes", "tar_member"]

TIME = 1_600_000_000
"""Seconds: when everything in the sample world was made."""

_TYPES: Mapping[Kind, bytes] = {
    "file": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "directory": b"5",
    "fifo": b"6",
}


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One member. `mode` None is 0755 for directories and programs with an ELF or `#!` start, 0777 for symlinks, else 0644.

    `target` is a symlink's text or a hard link's path; `owner` and `group` are names, which win over the numbers when
    apk installs. `path` is relative, without a slash at the end.
    """

    path: str
    content: bytes = b""
    kind: Kind = "file"
    mode: int | None = None
    owner: str = "root"
    group: str = "root"
    uid: int = 0
    gid: int = 0
    target: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    mtime: int = TIME

    @property
    def permissions(self) -> int:
        """The mode that is written."""
        if self.mode is not None:
            return self.mode
        if self.kind == "symlink":
            return 0o777
        program = self.content.startswith((b"\x7fELF", b"#!"))
        return 0o755 if self.kind == "directory" or program else 0o644


def sample_files(files: Mapping[str, bytes | str] | Sequence[SampleFile]) -> list[SampleFile]:
    """Members with their directories before them.

    A mapping is the short form: bytes are a file's content, text is a symlink's target, and a path that ends with a slash is
    a directory.
    """
    given = [_short(path, value) for path, value in files.items()] if isinstance(files, Mapping) else list(files)
    listed: dict[str, SampleFile] = {file.path: file for file in given if file.kind == "directory"}
    members: list[SampleFile] = []
    done: set[str] = set()
    for file in given:
        parts = file.path.split("/")
        for length in range(1, len(parts)):
            directory = "/".join(parts[:length])
            if directory not in done:
                done.add(directory)
                members.append(listed.get(directory) or SampleFile(directory, kind="directory"))
        if file.kind != "directory" or file.path not in done:
            done.add(file.path)
            members.append(file)
    return members


def _short(path: str, value: bytes | str) -> SampleFile:
    if path.endswith("/"):
        return SampleFile(path.rstrip("/"), kind="directory")
    if isinstance(value, str):
        return SampleFile(path, kind="symlink", target=value)
    return SampleFile(path, value)


def tar_member(file: SampleFile, *, prefix: str = "", checksums: bool = False) -> bytes:
    """Header, content and padding of one member; `checksums` adds apk's SHA-1 of files and symlinks as a pax record."""
    name = (prefix + file.path).encode("utf-8", "surrogateescape") + (b"/" if file.kind == "directory" else b"")
    link = file.target
    if file.kind == "hardlink":
        link = prefix + link
    target = link.encode("utf-8", "surrogateescape")
    records: list[tuple[bytes, bytes]] = []
    if len(name) > 100:
        records.append((b"path", name))
    if len(target) > 100:
        records.append((b"linkpath", target))
    if checksums and file.kind in ("file", "symlink"):
        summed = file.content if file.kind == "file" else target
        sha1 = hashlib.sha1(summed, usedforsecurity=False).hexdigest()
        records.append((b"APK-TOOLS.checksum.SHA1", sha1.encode()))
    records += [(f"SCHILY.xattr.{key}".encode(), value) for key, value in sorted(file.xattrs.items())]
    content = file.content if file.kind == "file" else b""
    header = _header(name[:100], _TYPES[file.kind], len(content), file, target[:100])
    if records:
        body = b"".join(_record(key, value) for key, value in records)
        carrier = replace(file, mode=0o644)
        header = _header(name[:100].rstrip(b"/"), b"x", len(body), carrier, b"") + body + padding(len(body)) + header
    return header + content + padding(len(content))


def tar_bytes(
    files: Sequence[SampleFile], *, prefix: str = "", checksums: bool = False, record: int = 0, end: bool = True
) -> bytes:
    """A whole archive: `prefix` goes before each path, `record` is the size in bytes that it is padded to, `end` False
    leaves out the end blocks (as in signature and control segments)."""
    members = b"".join(tar_member(file, prefix=prefix, checksums=checksums) for file in files)
    if end:
        members += END_OF_ARCHIVE
    return members + bytes(-len(members) % record) if record else members


def _header(name: bytes, kind: bytes, size: int, file: SampleFile, target: bytes) -> bytes:
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % file.permissions
    block[108:116] = b"%07o\0" % file.uid
    block[116:124] = b"%07o\0" % file.gid
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % file.mtime
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157 : 157 + len(target)] = target
    block[257:265] = b"ustar\x0000"
    for start, text in ((265, file.owner), (297, file.group)):
        raw = text.encode()[:31]
        block[start : start + len(raw)] = raw
    block[329:337] = block[337:345] = b"%07o\0" % 0
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest
