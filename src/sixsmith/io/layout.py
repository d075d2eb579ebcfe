"""Images as files for other tools: OCI image layouts (folders) and archives that Docker and Podman load.

A layout holds one image name; its ref names are the tags. Blobs are hard links into the store where the file system can.
A rebuild replaces the tags it built and leaves the others alone; `index.json` changes in one rename, so a reader sees the
old state or the new one, and what no tag needs any more is removed.

An archive is both things at once, because neither Docker generation reads the other's: an OCI layout (`index.json`) and
what `docker save` writes (`manifest.json`), over the same blobs.
Sources: image-spec 1.1 `image-layout.md`; Docker's image tarball format; containerd's `io.containerd.image.name`.
"""

# Hot paths work on texts: making a Path costs as much as the system call that it is for.
# ruff: noqa: PTH103, PTH105, PTH108, PTH116, PTH123, PTH208

from __future__ import annotations

import fcntl
import io
import json
import mmap
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from sixsmith.errors import DigestMismatch, FormatError, SixsmithError, StoreError, UsageError, nearest
from sixsmith.io.store import BlobMissing, Store
from sixsmith.model.arch import Platform
from sixsmith.model.digest import Digest, digest_of, hex_of, parse_digest
from sixsmith.model.reference import parse_reference
from sixsmith.model.tar import END_OF_ARCHIVE, TarEntry, iter_tar, padding, tar_header
from sixsmith.oci.reach import manifests_of, reachable
from sixsmith.oci.spec import INDEX, REF_NAME, Descriptor, canonical_json, parse_index

__all__ = ["Layout", "open_layout", "write_archive", "write_layout"]

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_EMPTY_INDEX = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
_CONTAINERD_NAME = "io.containerd.image.name"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_LEFTOVER = r"\.(?:oci-layout|index\.json)\.[0-9a-f]{12}\Z"
_CHUNK = 1 << 20


# ---- writing a layout


def write_layout(directory: Path, refs: Mapping[str, Descriptor], blobs: Store) -> None:
    """Put images into the layout at `directory`, by tag. Tags that are not in `refs` stay as they are.

    The folder is made when it is not there. Raises BlobMissing when the store lacks a blob, FormatError when `directory`
    holds something that is no layout, StoreError when it cannot be written; the old `index.json` then stands.
    """
    with _disk(directory, "write to"):
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory):
            names = _without_leftovers(directory)
            raw = _read_index(directory, names)
            old = _entries(raw, f"{directory}{os.sep}index.json")
            if "oci-layout" not in names:
                _lay_version(directory, blobs)
            needed = [blob.digest for descriptor in refs.values() for blob in reachable(blobs, descriptor)]
            before = _lay(directory, needed, blobs)
            kept = [entry for entry in old if _tag_of(entry) not in refs]
            added = [_with_tag(descriptor, tag).document() for tag, descriptor in refs.items()]
            entries = sorted([*kept, *added], key=lambda entry: (_tag_of(entry) or "", entry["digest"]))
            index = _index(entries)
            if index != raw:
                _replace(directory, "index.json", index)
            _sweep(directory, before - {hex_of(digest) for digest in needed}, entries)


def _lay_version(directory: Path, blobs: Store) -> None:
    """`oci-layout` says the same everywhere, so it may be the store's own, which is on the disk for sure."""
    try:
        os.link(f"{blobs.root}{os.sep}oci-layout", f"{directory}{os.sep}oci-layout")
    except OSError:
        _replace(directory, "oci-layout", _LAYOUT)


def _lay(directory: Path, needed: Iterable[Digest], blobs: Store) -> set[str]:
    """Has these blobs in the layout, as links where the file system can; the names of those that were there before."""
    folder, sources = (f"{root}{os.sep}blobs{os.sep}sha256" for root in (directory, blobs.root))  # a store is a layout
    found = _files_in(folder)
    for digest in dict.fromkeys(needed):
        name = hex_of(parse_digest(digest))
        source = f"{sources}{os.sep}{name}"
        try:
            if name not in found:
                os.link(source, f"{folder}{os.sep}{name}")
                continue
            # looked at now, not as the store remembers it: another process may have put a sound one in a damaged one's place
            status = os.stat(source)
            if found[name] == (status.st_dev, status.st_ino):
                continue
        except OSError:
            pass  # `lay` says what is missing, and copies where there are no links
        blobs.lay(digest, Path(folder, name))
    return set(found)


def _files_in(folder: str) -> dict[str, tuple[int, int]]:
    """Device and inode of the files in a folder, by name; the folder is made when it is not there."""
    try:
        with os.scandir(folder) as listed:
            device = os.stat(folder).st_dev
            return {entry.name: (device, entry.inode()) for entry in listed}
    except FileNotFoundError:
        os.makedirs(folder)
        return {}


def _with_tag(descriptor: Descriptor, tag: str) -> Descriptor:
    return msgspec.structs.replace(descriptor, annotations={**descriptor.annotations, REF_NAME: tag})


def _tag_of(entry: Mapping[str, Any]) -> str | None:
    found = entry.get("annotations", {}).get(REF_NAME)
    return found if isinstance(found, str) else None


def _index(entries: Sequence[Mapping[str, Any]]) -> bytes:
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


def _read_index(directory: Path, names: Collection[str]) -> bytes:
    """The layout's index as it stands; nothing for a folder that has none yet. `names` are those of what is in the folder.

    Raises FormatError for a folder of something else.
    """
    if "index.json" in names:
        return (directory / "index.json").read_bytes()
    strangers = {*names} - {"blobs", "oci-layout"}
    if strangers and "oci-layout" not in names:
        raise FormatError(
            f"{directory} holds '{min(strangers)}' and is no image layout", hint="name an empty or a new folder"
        )
    return b""


def _entries(raw: bytes, what: str) -> list[dict[str, Any]]:
    """The entries of an index, as they stand: others may have put more into them than we know. Raises FormatError."""
    if not raw:
        return []
    parse_index(raw, what=what)
    entries: list[dict[str, Any]] = json.loads(raw)["manifests"]
    return entries


def _sweep(directory: Path, names: Iterable[str], entries: Sequence[Mapping[str, Any]]) -> None:
    """Removes those of the blobs `names` that no tag needs. Where a tag leads to what we cannot read, none is removed."""
    doubtful = [name for name in names if _HEX.match(name)]
    if not doubtful:
        return
    layout = Layout(_Folder(directory), str(directory))
    try:
        needed = {blob.digest for entry in parse_index(_index(entries)).manifests for blob in reachable(layout, entry)}
    except SixsmithError:
        return
    for name in doubtful:
        if Digest(f"sha256:{name}") not in needed:
            (directory / "blobs" / "sha256" / name).unlink(missing_ok=True)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One writer at a time: the lock is on the folder itself and leaves nothing behind."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks: the rename still is all or nothing
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _without_leftovers(directory: Path) -> set[str]:
    """The names in the folder, without what a writer that was killed left: the folder is locked, nobody else is writing."""
    names = set(os.listdir(directory))
    leftovers = {name for name in names if name.startswith(".") and re.match(_LEFTOVER, name)}
    for name in leftovers:
        (directory / name).unlink(missing_ok=True)
    return names - leftovers


def _replace(directory: Path, name: str, content: bytes) -> None:
    temporary = f"{directory}{os.sep}.{name}.{os.urandom(6).hex()}"
    try:
        with open(temporary, "xb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
        os.replace(temporary, f"{directory}{os.sep}{name}")
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


@contextmanager
def _disk(path: Path, verb: str) -> Iterator[None]:
    """What the operating system refuses, as a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {verb} {path}: {error.strerror or error}") from None


# ---- writing an archive


def write_archive(
    file: Path, images: Mapping[str, Descriptor], blobs: Store, *, platform: Platform | None = None
) -> None:
    """One tar that `docker load` and `podman load` accept, with images by full name (`registry/name:tag`).

    The bytes depend on the images alone. Docker's older image store has one platform for a name: `platform` where an
    image has it, else amd64, else the first; all are in the OCI part. Every blob is verified on its way; a failed write
    leaves no file. Raises BlobMissing, DigestMismatch, StoreError, and UsageError for a name without a tag.
    """
    entries, docker = [], []
    needed: dict[Digest, int] = {}
    for name, descriptor in images.items():
        reference = parse_reference(name)
        if reference.tag is None:
            raise UsageError(f"'{name}' has no tag")
        annotations = {_CONTAINERD_NAME: _full_name(reference.registry, reference.repository, reference.tag)}
        tagged = _with_tag(
            msgspec.structs.replace(descriptor, annotations={**descriptor.annotations, **annotations}), reference.tag
        )
        entries.append(tagged.document())
        docker.append(_docker_entry(name, descriptor, blobs, platform))
        needed |= {blob.digest: blob.size for blob in reachable(blobs, descriptor)}
    documents = {
        "index.json": _index(entries),
        "manifest.json": canonical_json(_one_entry_per_image(docker)),
        "oci-layout": _LAYOUT,
    }
    with _disk(file, "write"):
        temporary = file.with_name(f".{file.name}.{os.urandom(6).hex()}")
        try:
            with temporary.open("xb", buffering=_CHUNK) as out:
                _write_tar(out, documents, needed, blobs)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def _full_name(registry: str, repository: str, tag: str) -> str:
    """The name as containerd spells it: Docker Hub is written out."""
    if registry:
        return f"{registry}/{repository}:{tag}"
    return f"docker.io/{repository if '/' in repository else 'library/' + repository}:{tag}"


def _docker_entry(name: str, descriptor: Descriptor, blobs: Store, platform: Platform | None) -> dict[str, Any]:
    """The image as `docker save` lists it."""
    found = manifests_of(blobs, descriptor)
    if not found:
        raise FormatError(f"{name}: the index has no image")
    wanted = [str(platform)] if platform else []
    by_platform = {str(entry.platform): manifest for entry, manifest in reversed(found)}
    chosen = next(
        (by_platform[one] for one in (*wanted, "linux/amd64") if one in by_platform),
        found[0][1],
    )
    return {
        "Config": _blob_name(chosen.config.digest),
        "RepoTags": [name],
        "Layers": [_blob_name(layer.digest) for layer in chosen.layers],
    }


def _one_entry_per_image(docker: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names of one image share an entry, as `docker save` writes them."""
    merged: dict[str, dict[str, Any]] = {}
    for entry in docker:
        first = merged.setdefault(entry["Config"], entry)
        if first is not entry:
            first["RepoTags"] += entry["RepoTags"]
    return list(merged.values())


def _blob_name(digest: Digest) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _write_tar(out: BinaryIO, documents: Mapping[str, bytes], needed: Mapping[Digest, int], blobs: Store) -> None:
    for directory in ("blobs", "blobs/sha256"):
        out.write(tar_header(TarEntry(directory, "directory", 0o755, 0, 0, 0)))
    for digest in sorted(needed):
        size = blobs.size(digest)
        out.write(tar_header(TarEntry(_blob_name(digest), "file", 0o644, 0, 0, 0, size)))
        _copy(blobs, digest, size, out.write)
        out.write(padding(size))
    for name, content in documents.items():
        out.write(tar_header(TarEntry(name, "file", 0o644, 0, 0, 0, len(content))) + content + padding(len(content)))
    out.write(END_OF_ARCHIVE)


def _copy(blobs: Store, digest: Digest, size: int, write: Callable[[bytes], object]) -> None:
    seen, copied = sha256(), 0
    with blobs.open(digest) as file:
        while chunk := file.read(_CHUNK):
            seen.update(chunk)
            copied += len(chunk)
            write(chunk)
    if copied != size or seen.hexdigest() != hex_of(digest):
        raise DigestMismatch(f"the store's blob {digest} is damaged", hint="sixsmith store verify finds all of them")


# ---- reading


def open_layout(path: Path) -> Layout:
    """The layout in a folder, or in an archive of `write_archive`'s kind (any tar with an OCI layout at its root).

    Raises FormatError when it is neither, StoreError when it cannot be read.
    """
    with _disk(path, "read"):
        medium: _Medium = _Folder(path) if path.is_dir() else _Archive(path)
        return Layout(medium, str(path))


class Layout:
    """Images in a layout: blobs to read (`BlobReader`), and `refs`, descriptors by ref name.

    `descriptors` also has those without a name.
    """

    def __init__(self, medium: _Medium, name: str) -> None:
        self._medium = medium
        self.name = name
        self.descriptors: tuple[Descriptor, ...] = ()
        self.refs: dict[str, Descriptor] = {}
        self._load()

    def _load(self) -> None:
        if not self._medium.exists("oci-layout") and not self._medium.exists("index.json"):
            raise FormatError(f"{self.name}: neither 'oci-layout' nor 'index.json' is in it: no image layout")
        raw = self._medium.read("index.json") if self._medium.exists("index.json") else _EMPTY_INDEX
        self.descriptors = parse_index(raw, what=f"{self.name}: index.json").manifests
        for descriptor in self.descriptors:
            tag = descriptor.annotations.get(REF_NAME)
            if tag is not None:
                self.refs[tag] = descriptor

    def __enter__(self) -> Layout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of an archive's file."""
        self._medium.close()

    def ref(self, tag: str | None) -> Descriptor:
        """The image of a tag, or the only image when `tag` is None. Raises UsageError naming the tags there are."""
        if tag is None and len(self.descriptors) == 1:
            return self.descriptors[0]
        if tag in self.refs:
            return self.refs[tag]
        there = ", ".join(sorted(self.refs)) or "none"
        if tag is None:
            raise UsageError(f"{self.name} holds {len(self.descriptors)} images: name a tag of {there}")
        raise UsageError(f"{self.name} has no tag '{tag}', only {there}", hint=nearest(tag, self.refs))

    def has(self, digest: Digest) -> bool:
        return self._medium.exists(_blob_name(parse_digest(digest)))

    def size(self, digest: Digest) -> int:
        """The blob's size in bytes. Raises BlobMissing."""
        return self._medium.size(self._there(digest))

    def open(self, digest: Digest) -> BinaryIO:
        """The blob as a file, not verified. Raises BlobMissing."""
        return self._medium.open(self._there(digest))

    def read(self, digest: Digest) -> bytes:
        """The blob's bytes, verified. Raises BlobMissing and DigestMismatch."""
        blob = self._medium.read(self._there(digest))
        found = digest_of(blob)
        if found != digest:
            raise DigestMismatch(f"{self.name}: blob {digest} has other bytes: they are {found}")
        return blob

    def _there(self, digest: Digest) -> str:
        if not self.has(digest):
            raise BlobMissing(f"{self.name} has no blob {digest}")
        return _blob_name(digest)


class _Medium:
    """Files by name below a root."""

    def exists(self, name: str) -> bool:
        raise NotImplementedError

    def size(self, name: str) -> int:
        raise NotImplementedError

    def open(self, name: str) -> BinaryIO:
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def close(self) -> None:
        """Nothing to let go of."""


class _Folder(_Medium):
    def __init__(self, root: Path) -> None:
        self._root = root

    def exists(self, name: str) -> bool:
        return (self._root / name).is_file()

    def size(self, name: str) -> int:
        return (self._root / name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")


class _Archive(_Medium):
    """A tar, mapped into memory and read in place."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < len(END_OF_ARCHIVE):
                raise FormatError(f"{path}: too short for an archive")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._map[:2] == b"\x1f\x8b":
            raise FormatError(f"{path}: a compressed archive", hint="inflate it first: gunzip")
        entries = iter_tar(memoryview(self._map), what=str(path), strip=True)
        self._files = {entry.path: entry for entry in entries if entry.kind == "file"}

    def exists(self, name: str) -> bool:
        return name in self._files

    def size(self, name: str) -> int:
        return self._files[name].size

    def open(self, name: str) -> BinaryIO:
        entry = self._files[name]
        return io.BufferedReader(_Slice(self._map, entry.offset, entry.size), _CHUNK)

    def close(self) -> None:
        self._map.close()


class _Slice(io.RawIOBase):
    """Part of a mapped file as a file of its own."""

    def __init__(self, mapped: mmap.mmap, start: int, size: int) -> None:
        self._mapped, self._position, self._stop = mapped, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._stop - self._position)
        buffer[:count] = self._mapped[self._position : self._position + count]
        self._position += count
        return count
