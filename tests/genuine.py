"""The real apk of Alpine 3.19 (2.14.0), run by its own musl loader, and comparisons of what it makes with what we make."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sixsmith.apk.archive import open_package, package_entries, record_from_control
from sixsmith.apk.index import PackageRecord
from sixsmith.rootfs.install import InstallPackage
from sixsmith.rootfs.sources import GzipSource
from sixsmith.rootfs.tree import Tree

PARTS = ("apk-tools", "musl", "libcrypto3", "libssl3", "zlib")

Entry = tuple[Any, ...]


class GenuineApk:
    """`apk` in a folder of its own."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.mirror = data / "upstream/alpine"
        self.keys = data / "upstream/keys"
        for part in PARTS:
            (package,) = (self.mirror / "v3.19/main/x86_64").glob(f"{part}-[0-9]*.apk")
            with tarfile.open(package, "r:gz") as tar:
                tar.extractall(folder, filter="tar")

    def run(self, root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [
            str(self.folder / "lib/ld-musl-x86_64.so.1"),
            "--library-path",
            f"{self.folder}/lib:{self.folder}/usr/lib",
            str(self.folder / "sbin/apk"),
            "--root",
            str(root),
            "--arch",
            "x86_64",
            "--keys-dir",
            str(self.keys),
            "--no-network",
            "--no-cache",
            *map(str, arguments),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@dataclass
class Step:
    action: str
    record: PackageRecord
    old: PackageRecord | None = None
    repository: Any = None


@dataclass
class Shelf:
    """Packages by name and version, opened."""

    packages: dict[tuple[str, str], InstallPackage] = field(default_factory=dict)

    def add(self, file: bytes, what: str, record: PackageRecord | None = None) -> None:
        archive = open_package(file, checksum=None, keyring=None, what=what)
        data = bytes(archive.data)
        source = GzipSource(archive.data_digest, lambda: data, what=what)
        record = record or record_from_control(archive.control, len(file))
        entries = package_entries(source.inflate(), what)
        package = InstallPackage(record, archive.control, entries, source, len(data))
        self.packages[record.name, record.version] = package

    def steps(self, output: str) -> tuple[list[Step], dict[str, InstallPackage]]:
        """What apk says that it did, as steps of ours."""
        steps: list[Step] = []
        wanted: dict[str, InstallPackage] = {}
        for line in output.splitlines():
            found = _STEP.match(line)
            if not found:
                continue
            word, name, versions = found.groups()
            old_version, _, version = versions.rpartition(" -> ")
            action = {"Installing": "install", "Purging": "remove", "Reinstalling": "reinstall"}.get(word, word.lower())
            if action == "remove":
                steps.append(Step("remove", PackageRecord(name, version), PackageRecord(name, version)))
                continue
            package = wanted[name] = self.packages[name, version]
            old = None if action == "install" else PackageRecord(name, old_version or version)
            steps.append(Step(action, package.record, old))
        return steps, wanted


_STEP = re.compile(r"\(\d+/\d+\) (Installing|Upgrading|Downgrading|Replacing|Reinstalling|Purging) (\S+) \((.*)\)")

SKIPPED = ("lib/apk/db/", "dev/")
"""Compared on their own, and device nodes."""


def disk_entries(root: Path) -> dict[str, Entry]:
    """What lies under a folder, in comparable form: no times of links and directories, hard links as groups."""
    found: dict[str, Entry] = {}
    inodes: dict[int, list[str]] = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            full = os.path.join(folder, name)  # noqa: PTH118  # os.walk gives text, and this runs for every file
            path = os.path.relpath(full, root)
            if path.startswith(SKIPPED):
                continue
            status = os.lstat(full)
            owner = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            if stat.S_ISLNK(status.st_mode):
                found[path] = ("symlink", *owner, os.readlink(full))  # noqa: PTH115
            elif stat.S_ISDIR(status.st_mode):
                found[path] = ("directory", *owner)
            elif stat.S_ISREG(status.st_mode):
                data = Path(full).read_bytes()
                xattrs = {key: os.getxattr(full, key) for key in os.listxattr(full)}
                mtime = None if path.startswith("etc/apk/") else int(status.st_mtime)
                found[path] = ("file", *owner, hashlib.sha1(data).hexdigest(), mtime, xattrs)
                if status.st_nlink > 1:
                    inodes.setdefault(status.st_ino, []).append(path)
            else:
                found[path] = ("other", *owner)
    for names in inodes.values():
        for path in names:
            found[path] += (tuple(sorted(names)),)
    return found


def tree_entries(tree: Tree) -> dict[str, Entry]:
    """The same of a tree of ours."""
    found: dict[str, Entry] = {}
    groups: dict[str, list[str]] = {}
    for node in tree:
        if not node.path or node.path.startswith(SKIPPED):
            continue
        owner = (node.mode, node.uid, node.gid)
        if node.kind == "symlink":
            found[node.path] = ("symlink", *owner, node.target)
        elif node.kind == "directory":
            found[node.path] = ("directory", *owner)
        elif node.kind in ("file", "hardlink"):
            real = tree.nodes[node.target] if node.kind == "hardlink" else node
            assert real.kind == "file"
            data = real.content.read() if real.content is not None else b""
            mtime = None if node.path.startswith("etc/apk/") else real.mtime
            owner = (real.mode, real.uid, real.gid)
            found[node.path] = ("file", *owner, hashlib.sha1(data).hexdigest(), mtime, dict(real.xattrs))
            groups.setdefault(real.path, []).append(node.path)
        else:
            found[node.path] = ("other", *owner)
    for names in groups.values():
        if len(names) > 1:
            for path in names:
                found[path] += (tuple(sorted(names)),)
    return found


def database(read: Any) -> dict[str, Any]:
    """The apk database in comparable form; `read` takes a path."""
    scripts: dict[str, Any] = {}
    tar = read("lib/apk/db/scripts.tar")
    position = 0
    while position + 512 <= len(tar) and tar[position]:
        size = int(tar[position + 124 : position + 136].rstrip(b"\0"), 8)
        header = tar[position : position + 136] + tar[position + 156 : position + 512]  # without time and sum
        name = header[:100].rstrip(b"\0").decode()
        scripts[name] = (len(scripts), header, tar[position + 512 : position + 512 + size])
        position += 512 + size + -size % 512
    return {
        "installed": read("lib/apk/db/installed").decode("utf-8", "surrogateescape"),
        "triggers": read("lib/apk/db/triggers").decode(),
        "world": read("etc/apk/world").decode(),
        **{f"script {name}": content for name, content in scripts.items()},
        "scripts size": len(tar),
    }


def disk_database(root: Path) -> dict[str, Any]:
    return database(lambda path: (root / path).read_bytes())


def tree_database(tree: Tree) -> dict[str, Any]:
    return database(lambda path: tree.read(path))


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], limit: int = 12) -> Sequence[str]:
    """What differs, one line each."""
    lines = []
    for key in sorted({*theirs, *ours}, key=str):
        left, right = theirs.get(key), ours.get(key)
        if left == right:
            continue
        if isinstance(left, str) and isinstance(right, str):
            pairs = zip([*left.split("\n"), "<end>"], [*right.split("\n"), "<end>"], strict=False)
            place = next(((a, b) for a, b in pairs if a != b), ("", ""))
            left, right = place
        lines.append(f"{key}: apk {left!r}, we {right!r}")
    return lines[:limit]
