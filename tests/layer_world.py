"""A small world for tests of layers: archives in memory, trees from them, and images unpacked again."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from sixsmith.layers.merge import apply_layer, apply_nodes
from sixsmith.layers.plan import LayerPackage
from sixsmith.model.compression import Bytes, gzip_member
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import END_OF_ARCHIVE, Kind, TarEntry, padding, parse_tar, tar_header
from sixsmith.oci.blobs import Blobs, inflate_layer
from sixsmith.oci.spec import Layer
from sixsmith.rootfs import tree as tree_module
from sixsmith.rootfs.tree import Node, Tree, node_from_entry

Member = tuple[TarEntry, bytes]


def member(
    path: str,
    kind: Kind = "file",
    content: bytes = b"",
    *,
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1000,
    target: str = "",
    xattrs: tuple[tuple[str, bytes], ...] = (),
) -> Member:
    usual = {"directory": 0o755, "symlink": 0o777}.get(kind, 0o644)
    return (
        TarEntry(path, kind, usual if mode is None else mode, uid, gid, mtime, len(content), target, xattrs=xattrs),
        content,
    )


class Archive:
    """A gzipped tar made of members, as a source."""

    def __init__(self, members: Sequence[Member], *, strip: bool = False) -> None:
        tar = b"".join(tar_header(entry) + content + padding(len(content)) for entry, content in members)
        self.blob = gzip_member(tar + END_OF_ARCHIVE)
        self.digest: Digest = digest_of(self.blob)
        self.entries = parse_tar(tar, what="archive", strip=strip)
        self.inflated = 0
        self._tar = tar + END_OF_ARCHIVE

    def raw(self) -> bytes:
        return self.blob

    def inflate(self) -> bytes:
        self.inflated += 1
        return self._tar


def install(tree: Tree, name: str, members: Sequence[Member], *, size: int | None = None) -> tuple[Tree, LayerPackage]:
    """The tree with a package installed as apk does it: a directory that is there stays as it is, a file is replaced."""
    archive = Archive(members)
    origin = f"apk:{name}"
    for entry in archive.entries:
        old = tree.nodes.get(entry.path)
        if old is not None and (old.kind == "directory") != (entry.kind == "directory"):
            continue
        if old is not None and old.kind == "directory":
            continue
        parent = tree.nodes.get(entry.path.rpartition("/")[0])
        if "/" in entry.path and (parent is None or parent.kind != "directory"):
            continue
        if entry.kind == "hardlink":
            target = tree.nodes.get(entry.target)
            if target is None or target.origin != origin or target.kind not in ("file", "hardlink"):
                continue
        tree = apply_nodes(tree, [node_from_entry(entry, origin=origin, source=archive)])
    return tree, LayerPackage(name, "1-r0", origin, archive, archive.entries, size or len(archive.blob))


def unpacked(layers: Sequence[Layer], blobs: Blobs) -> Tree:
    """What a runtime has when it has unpacked these layers, read from the stored bytes alone."""
    tree = Tree()
    for layer in layers:
        tar = bytes(inflate_layer(blobs.read(layer.digest), what=layer.digest))
        assert digest_of(tar) == layer.diff_id
        tree = apply_layer(tree, parse_tar(tar, what=layer.digest, strip=True), Bare(layer.digest, tar))
    return tree


class MemoryBlobs:
    """A store without a disk."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.records: dict[tuple[str, str], bytes] = {}

    def has(self, digest: Digest) -> bool:
        return digest in self.blobs

    def size(self, digest: Digest) -> int:
        return len(self.blobs[digest])

    def open(self, digest: Digest) -> io.BytesIO:
        return io.BytesIO(self.blobs[digest])

    def read(self, digest: Digest) -> bytes:
        return self.blobs[digest]

    def put(self, blob: Bytes, *, verified: Digest | None = None) -> Digest:
        digest = digest_of(blob)
        self.blobs[digest] = bytes(blob)
        return digest

    def writer(self) -> MemoryWriter:
        return MemoryWriter(self)

    def record(self, kind: str, key: str) -> bytes | None:
        return self.records.get((kind, key))

    def keep(self, kind: str, key: str, payload: bytes) -> None:
        self.records[kind, key] = payload


class MemoryWriter:
    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs, self._out = blobs, io.BytesIO()

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def write(self, chunk: Bytes, /) -> object:
        return self._out.write(chunk)

    def commit(self, expected: Digest | None = None) -> tuple[Digest, int]:
        digest = self._blobs.put(self._out.getvalue())
        assert expected in (None, digest)
        return digest, self._blobs.size(digest)


class Bare:
    def __init__(self, digest: Digest, tar: bytes) -> None:
        self.digest, self._tar = digest, tar

    def inflate(self) -> bytes:
        return self._tar


def seen(tree: Tree) -> dict[str, tuple[object, ...]]:
    """What can be seen of a tree from inside: bytes, modes, owners, times, which names are one file."""
    found = {}
    for path, node in tree.nodes.items():
        found[path] = _seen(node, tree)
    return dict(sorted(found.items()))


def exactly(tree: Tree) -> list[tuple[object, ...]]:
    """All that is known of a tree, in its order; of contents, where they are."""
    return [
        (
            *(getattr(node, field) for field in node.__struct_fields__ if field != "content"),
            (node.content.source.digest, node.content.offset, node.content.size)
            if isinstance(node.content, tree_module.Member)
            else node.content,
        )
        for node in tree
    ]


def seen_of(image: Mapping[str, Any], blobs: Blobs) -> dict[str, tuple[object, ...]]:
    """As `seen`, of an image as `build --json` describes it."""
    layers = [
        Layer(Digest(layer["digest"]), layer["size"], Digest(layer["diff_id"]), layer["media_type"], "", "", ())
        for layer in image["layers"]
    ]
    return seen(unpacked(layers, blobs))


def _seen(node: Node, tree: Tree) -> tuple[object, ...]:
    if node.kind == "symlink":
        return ("symlink", node.uid, node.gid, node.mtime, node.target, node.xattrs)
    if node.kind == "directory":
        return ("directory", node.mode, node.uid, node.gid, node.mtime, node.xattrs)
    first = tree.nodes[node.target] if node.kind == "hardlink" else node
    data = first.content.read() if first.content is not None else b""
    names = sorted(
        [first.path, *(other.path for other in tree if other.kind == "hardlink" and other.target == first.path)]
    )
    return (first.kind, first.mode, first.uid, first.gid, first.mtime, first.xattrs, first.device, data, tuple(names))
