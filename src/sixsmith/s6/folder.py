"""Folders of service files on disk: read as values, and written whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sixsmith.errors import OutsideError, UsageError
from sixsmith.s6.render_script import RenderedFile

__all__ = ["MAX_FOLDER_BYTES", "read_folder", "write_folder"]

MAX_FOLDER_BYTES = 64 << 20
"""The most that a folder of service files may hold, in bytes."""


def read_folder(root: Path, *, keep_modes: bool = False) -> Iterator[RenderedFile]:
    """Everything below a folder, a directory before what is in it, by name.

    Modes are 0644 and 0755, by the x-bit of the owner, unless they are kept. Raises UsageError where something cannot be
    read, is neither file, directory nor link, or is more than `MAX_FOLDER_BYTES` in all.
    """
    total = 0
    todo = [""]
    while todo:
        relative = todo.pop()
        try:
            names = sorted(os.listdir(root / relative))  # noqa: PTH208  names in order, nothing else is asked
        except OSError as error:
            raise UsageError(f"{root / relative}: {error.strerror}") from error
        folders = []
        for name in names:
            child = f"{relative}/{name}" if relative else name
            path = root / child
            try:
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    yield RenderedFile(child, "symlink", 0o777, os.fsencode(path.readlink()))
                elif stat.S_ISDIR(mode):
                    yield RenderedFile(child, "directory", stat.S_IMODE(mode) if keep_modes else 0o755)
                    folders.append(child)
                elif stat.S_ISREG(mode):
                    total += path.stat().st_size
                    if total > MAX_FOLDER_BYTES:
                        raise UsageError(f"{root}: more than {MAX_FOLDER_BYTES >> 20} MiB of files")
                    plain = 0o755 if mode & 0o100 else 0o644
                    kept = stat.S_IMODE(mode) if keep_modes else plain
                    yield RenderedFile(child, "file", kept, path.read_bytes())
                else:
                    raise UsageError(f"{path}: neither a file, a directory nor a link")
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}") from error
        todo += reversed(folders)


def write_folder(root: Path, files: Sequence[RenderedFile]) -> None:
    """Writes the files as a new folder, all or nothing. Raises UsageError when there is something at `root` already."""
    if os.path.lexists(root) and not (root.is_dir() and not any(root.iterdir())):
        raise UsageError(f"{root} is there already, and not empty", hint="name another folder, or remove it")
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        place = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
        try:
            place.chmod(0o755)
            _write_all(place, files)
            if root.is_dir():
                root.rmdir()
            place.rename(root)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    except OSError as error:
        raise OutsideError(f"{root}: {error.strerror}") from error


def _write_all(root: Path, files: Sequence[RenderedFile]) -> None:
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.kind == "directory":
            path.mkdir(exist_ok=True)
        elif file.kind == "symlink":
            path.symlink_to(os.fsdecode(file.content))
        else:
            path.write_bytes(file.content)
            path.chmod(file.mode)
    for file in reversed(files):
        if file.kind == "directory":
            (root / file.path).chmod(file.mode)
