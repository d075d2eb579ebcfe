"""Files of the family's own folder, on their way into an image.

What the machine adds by chance is left behind: owners, times and the umask. A file is 0755 when its owner may execute it and
0644 otherwise, a folder is 0755, unless the family file says another mode; so a checkout with another umask makes the same
image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from sixsmith.errors import DigestMismatch, UsageError
from sixsmith.io.receipt import Trace
from sixsmith.model.digest import Digest, digest_of
from sixsmith.plan import LocalFile
from sixsmith.variant import FileSpec, Variant

__all__ = ["SERVICES", "LocalSource", "local_specs", "read_local_files"]


SERVICES = ".services"
"""Where a folder of services stands among a plan's files: at no path of the image, since the overlay decides on that."""


class LocalSource(msgspec.Struct, frozen=True):
    """A file on this machine as a source of bytes: it is read when asked for, and must still be what was planned."""

    path: str
    digest: Digest

    def inflate(self) -> bytes:
        """The file's bytes. Raises DigestMismatch when it changed since the plan was made."""
        content = Path(self.path).read_bytes()
        if digest_of(content) != self.digest:
            raise DigestMismatch(f"{self.path} changed while the image was being built", hint="build again")
        return content


def local_specs(variant: Variant) -> tuple[FileSpec, ...]:
    """What a cell takes from the family's folder: its files, and a folder of hand-written services when it names one."""
    if isinstance(variant.services, str):
        return (*variant.files, FileSpec(SERVICES, source=str(variant.services), place=variant.place))
    return variant.files


def read_local_files(specs: Iterable[FileSpec], trace: Trace | None = None) -> tuple[LocalFile, ...]:
    """Every file, folder and link that the specs' sources name, folders spelled out and sorted.

    `trace` is told what was found.
    Raises UsageError with the spec's place for a source that is missing, unreadable, or neither file, folder nor link.
    """
    found: list[LocalFile] = []
    for number, spec in enumerate(specs):
        if spec.source is not None:
            files = _read(Path(spec.source), spec.path.strip("/"), spec, trace or Trace())
            found += (msgspec.structs.replace(file, spec=number) for file in files)
    return tuple(found)


def _read(source: Path, path: str, spec: FileSpec, trace: Trace) -> Iterator[LocalFile]:
    trace.note("look", source)
    try:
        if source.is_symlink() and source != Path(spec.source or ""):
            target = str(source.readlink())
            yield LocalFile(path, digest_of(os.fsencode(target)), 0o777, "symlink", target)
        elif source.is_dir():
            yield LocalFile(path, digest_of(b""), 0o755, "directory", "")
            trace.note("names", source)
            for child in sorted(source.iterdir(), key=lambda child: os.fsencode(child.name)):
                yield from _read(child, f"{path}/{child.name}" if path else child.name, spec, trace)
        elif source.is_file():
            size = source.stat().st_size
            with source.open("rb") as file:
                digest = Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
            trace.saw_digest(source, digest)
            mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
            yield LocalFile(path, digest, mode, "file", str(source), size)
        elif source.exists():
            raise UsageError(f"{source} is neither a file, a folder nor a link", place=spec.place)
        else:
            raise UsageError(f"{source} is not there", place=spec.place)
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}", place=spec.place) from None
