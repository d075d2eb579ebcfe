"""The image's files as the keeper has them on its memory file system: written from entries, read back where changed."""


# Names here are of another root, and `os` says exactly which system call is made:
# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH115, PTH123, PTH211

from __future__ import annotations

import os
import stat

from sixsmith.sandbox.protocol import Entry

__all__ = ["Disk"]

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
_MACHINE = ("proc", "sys", "dev")
"""Directories whose content belongs to the running system: never read back."""

Signature = tuple[int, int, int, int, int, int, int]


class Disk:
    """A folder that mirrors the tree, and the memory of how each path looked when it was last in step."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.seen: dict[str, Signature] = {}

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    # --- writing ------------------------------------------------------------------------------------------------

    def apply(self, removed: list[str], entries: list[Entry]) -> None:
        """Removes paths, then writes entries (directories before what is in them). Raises OSError."""
        for path in sorted(removed, key=lambda path: path.count("/"), reverse=True):
            self._remove(path)
        for entry in entries:
            if entry.kind != "hardlink":
                self._write(entry)
        for entry in entries:
            if entry.kind == "hardlink":
                self._remove(entry.path)
                os.link(self.at(entry.target), self.at(entry.path), follow_symlinks=False)
        for entry in reversed(entries):
            full = self.at(entry.path)
            if entry.kind == "directory":
                os.chmod(full, entry.mode)
            if entry.kind != "hardlink":
                os.utime(full, (entry.mtime, entry.mtime), follow_symlinks=False)

    def _remove(self, path: str) -> None:
        full = self.at(path)
        try:
            if stat.S_ISDIR(os.lstat(full).st_mode):
                os.rmdir(full)
            else:
                os.unlink(full)
        except FileNotFoundError:
            pass

    def _write(self, entry: Entry) -> None:
        full = self.at(entry.path)
        if entry.kind == "directory":
            try:
                os.mkdir(full, 0o700)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(full).st_mode):
                    os.unlink(full)
                    os.mkdir(full, 0o700)
            os.chown(full, entry.uid, entry.gid)
            self._set_xattrs(entry, full)
            return
        self._remove(entry.path)
        if entry.kind == "symlink":
            os.symlink(entry.target, full)
            os.chown(full, entry.uid, entry.gid, follow_symlinks=False)
            return
        if entry.kind == "fifo":
            os.mkfifo(full, 0o600)
        else:
            with open(full, "xb") as file:
                file.write(entry.data)
        os.chown(full, entry.uid, entry.gid)
        os.chmod(full, entry.mode)
        self._set_xattrs(entry, full)

    @staticmethod
    def _set_xattrs(entry: Entry, full: str) -> None:
        for name, value in entry.xattrs:
            os.setxattr(full, name, value)

    # --- reading ------------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Takes the disk as it is for being in step with the tree."""
        self.seen = {path: _signature(status) for path, status in self._walk()}

    def changes(self, since: float) -> tuple[list[Entry], list[str]]:
        """Paths that look otherwise than remembered, parents first, and those that are gone. Raises OSError.

        `since` is when changes could begin, in seconds: older times are kept, newer ones are not the image's.
        """
        now = dict(self._walk())
        gone = [path for path in self.seen if path not in now]
        changed = [path for path, status in now.items() if self.seen.get(path) != _signature(status)]
        names = self._link_names(now)
        return [self._read(path, now[path], names, since) for path in sorted(changed)], gone

    def _walk(self) -> list[tuple[str, os.stat_result]]:
        found: list[tuple[str, os.stat_result]] = []
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            with os.scandir(self.at(directory)) as items:
                for item in items:
                    path = f"{directory}/{item.name}" if directory else item.name
                    status = item.stat(follow_symlinks=False)
                    found.append((path, status))
                    if stat.S_ISDIR(status.st_mode) and path not in _MACHINE:
                        waiting.append(path)
        return found

    def _link_names(self, now: dict[str, os.stat_result]) -> dict[int, str]:
        """For files with several names, the one that holds the content: the first that was there before, or the first."""
        names: dict[int, list[str]] = {}
        for path, status in now.items():
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                names.setdefault(status.st_ino, []).append(path)
        return {inode: min(paths, key=lambda path: (path not in self.seen, path)) for inode, paths in names.items()}

    def _read(self, path: str, status: os.stat_result, names: dict[int, str], since: float) -> Entry:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
        mtime = int(status.st_mtime) if status.st_mtime < since else -1
        entry = Entry(path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, mtime)
        full = self.at(path)
        if kind == "symlink":
            entry.target = os.readlink(full)
            return entry
        first = names.get(status.st_ino, path) if kind == "file" else path
        if first != path:
            entry.kind, entry.target = "hardlink", first
            return entry
        if kind == "file":
            with open(full, "rb") as file:
                entry.data = file.read()
        if kind in ("file", "directory"):
            entry.xattrs = sorted((name, os.getxattr(full, name)) for name in os.listxattr(full))
        return entry


def _signature(status: os.stat_result) -> Signature:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        return (mode, status.st_uid, status.st_gid, 0, 0, status.st_ino, 0)
    return (
        mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ino,
        status.st_ctime_ns,
    )
