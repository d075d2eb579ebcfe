"""What an image stands on: nothing, Alpine's minirootfs, another cell, or an image from anywhere.

Every base answers the same questions: what a plan must know of it (`facts`), which layers it brings, what they merge to.
The cheap question comes first: a build that finds nothing changed never asks for the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Protocol

import msgspec

from sixsmith.apk.index import PackageRecord
from sixsmith.apk.installed import INSTALLED, WORLD, parse_installed
from sixsmith.errors import FormatError, UsageError
from sixsmith.io.store import Store
from sixsmith.io.supply import Supply
from sixsmith.layers.merge import apply_layer
from sixsmith.layers.plan import ExistingLayer
from sixsmith.layers.stacked import LaidMember
from sixsmith.model.digest import Digest
from sixsmith.model.tar import Kind, parse_tar
from sixsmith.oci.blobs import BlobMember, BlobSource
from sixsmith.oci.spec import ImageConfig, Layer, Manifest, parse_config, parse_manifest
from sixsmith.plan import BaseFacts, PlannedFile
from sixsmith.rootfs.bases import Minirootfs, read_minirootfs
from sixsmith.rootfs.tree import BASE, Content, Inline, Member, Node, Tree
from sixsmith.variant import Variant

__all__ = ["Base", "EmptyBase", "ImageBase", "MinirootfsBase", "open_base", "remember_image"]


class Base(Protocol):
    """What an image stands on."""

    @property
    def facts(self) -> BaseFacts:
        """What the plan must know; cheap when the base was seen before."""
        ...

    @property
    def config(self) -> ImageConfig | None:
        """The config to inherit from, for a base that is an image."""
        ...

    def layers(self) -> Sequence[ExistingLayer]:
        """Its layers, from below."""
        ...

    def tree(self) -> Tree:
        """What its layers merge to; the caller gets a tree of its own."""
        ...


class EmptyBase:
    """Nothing: `base: packages` puts Alpine on it, `base: none` leaves it empty."""

    config: ImageConfig | None = None

    def __init__(self, kind: str) -> None:
        self.facts = BaseFacts(kind=kind, identity=kind)

    def layers(self) -> Sequence[ExistingLayer]:
        return ()

    def tree(self) -> Tree:
        return Tree()


class _Database(msgspec.Struct):
    """The texts that a plan needs of a base's apk database, as the store remembers them. `installed` has no files."""

    installed: bytes
    world: bytes


class MinirootfsBase:
    """Alpine's own root file system tarball, in the store."""

    config: ImageConfig | None = None

    def __init__(self, file: PlannedFile, store: Store) -> None:
        self._file = file
        self._store = store

    @cached_property
    def _minirootfs(self) -> Minirootfs:
        file = self._file
        return read_minirootfs(self._store.read(file.digest), what=file.name, digest=file.digest)

    @cached_property
    def facts(self) -> BaseFacts:
        """Raises FormatError for a tarball that holds no readable apk database."""
        database = _remembered_database(self._store, self._file.digest, self.tree)
        return BaseFacts(
            kind="minirootfs",
            identity=self._file.digest,
            name=self._file.name,
            size=self._file.size,
            installed=_records(database.installed),
            world=tuple(database.world.decode().split()),
        )

    def layers(self) -> Sequence[ExistingLayer]:
        return (
            ExistingLayer(
                self._file.digest,
                self._file.size,
                name=self._file.name.removesuffix(".tar.gz"),
                reason="Alpine's own root file system tarball",
                source=self._minirootfs.source,
                entries=self._minirootfs.entries,
            ),
        )

    def tree(self) -> Tree:
        return self._minirootfs.tree.copy()


class ImageBase:
    """An image in the store: another cell's, or one that was pulled."""

    def __init__(
        self, store: Store, manifest_digest: Digest, kind: str, name: str, known_tree: Tree | None = None
    ) -> None:
        self.store = store
        self.manifest_digest = manifest_digest
        self.kind = kind
        self.name = name
        self.known_tree = known_tree

    @cached_property
    def manifest(self) -> Manifest:
        return parse_manifest(self.store.read(self.manifest_digest), what=f"manifest of {self.name}")

    @cached_property
    def config(self) -> ImageConfig | None:
        return parse_config(self.store.read(self.manifest.config.digest), what=f"config of {self.name}")

    @cached_property
    def facts(self) -> BaseFacts:
        """Raises FormatError when the image has an apk database that cannot be read."""
        database = _remembered_database(self.store, self.manifest_digest, self.tree)
        return BaseFacts(
            kind=self.kind,
            identity=self.manifest_digest,
            name=self.name,
            installed=_records(database.installed),
            world=tuple(database.world.decode().split()),
        )

    def layers(self) -> Sequence[ExistingLayer]:
        config = self.config
        assert config is not None
        if len(config.diff_ids) != len(self.manifest.layers):
            raise FormatError(f"{self.name}: {len(self.manifest.layers)} layers but {len(config.diff_ids)} diff_ids")
        return tuple(
            ExistingLayer(layer.digest, layer.size, layer.media_type, diff_id, name=self.name)
            for layer, diff_id in zip(self.manifest.layers, config.diff_ids, strict=True)
        )

    def tree(self) -> Tree:
        if self.known_tree is not None:
            return self.known_tree.copy()
        sources = [BlobSource(self.store, layer.digest) for layer in self.manifest.layers]
        tree = _kept_tree(self.store, self.manifest_digest, sources)
        if tree is None:
            tree = self._merged(sources)
            _keep_tree(self.store, self.manifest_digest, [source.digest for source in sources], tree)
        self.known_tree = tree
        return tree.copy()

    def forget(self) -> None:
        """Gives the memory of the tree back; it can be had again."""
        self.known_tree = None

    def _merged(self, sources: Sequence[BlobSource]) -> Tree:
        """What the layers merge to, from their bytes."""
        tree = Tree()
        for layer, source in zip(self.manifest.layers, sources, strict=True):
            entries = parse_tar(source.inflate(), what=f"layer {layer.digest} of {self.name}", strip=True)
            tree = apply_layer(tree, entries, source)
            source.forget()
        return tree


class _KeptNode(msgspec.Struct, array_like=True):
    """A node of a merged tree; `layer` counts from below and is -1 for what has no content."""

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    target: str
    xattrs: tuple[tuple[str, bytes], ...]
    checksum: bytes | None
    device: tuple[int, int]
    layer: int
    offset: int


class _KeptTree(msgspec.Struct, array_like=True):
    """What an image's layers merge to, as the store remembers it: reading it again costs a twentieth of the layers.

    `contents` are of files that every installation reads, by path; for them a layer would be inflated.
    """

    format: int
    nodes: list[_KeptNode]
    contents: dict[str, bytes] = msgspec.field(default_factory=dict)


_ACCOUNTS = frozenset(["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"])

_TREE_FORMAT = 1
"""Counts up when the same layers would be merged to another tree."""


def _kept_tree(store: Store, manifest: Digest, sources: Sequence[BlobSource]) -> Tree | None:
    payload = store.record("tree", manifest)
    if payload is None:
        return None
    try:
        kept = msgspec.msgpack.decode(payload, type=_KeptTree)
    except msgspec.DecodeError:
        return None
    if kept.format != _TREE_FORMAT:
        return None
    tree = Tree()
    for node in kept.nodes:
        content: Content | None = None
        if node.path in kept.contents:
            data = Inline(kept.contents[node.path])
            content = LaidMember(sources[node.layer], node.offset, node.size, data)
        elif node.layer >= 0:
            content = BlobMember(sources[node.layer], node.offset, node.size)
        tree.nodes[node.path] = Node(
            node.path,
            node.kind,
            node.mode,
            node.uid,
            node.gid,
            node.mtime,
            node.size,
            node.target,
            node.xattrs,
            node.checksum,
            node.device,
            BASE,
            content,
        )
    return tree


def _keep_tree(store: Store, manifest: Digest, layers: Sequence[Digest], tree: Tree) -> None:
    """`layers` are the digests of the image's layers, from below."""
    layer_of = {digest: number for number, digest in enumerate(layers)}
    nodes = []
    contents: dict[str, bytes] = {}
    for node in tree:
        layer, offset = -1, 0
        if isinstance(node.content, LaidMember) and _is_read_by_installations(node):
            contents[node.path] = node.content.read()
        if isinstance(node.content, Member):
            layer, offset = layer_of[node.content.source.digest], node.content.offset
        elif node.content is not None or node.origin != BASE:
            return  # not something that layers merge to
        nodes.append(
            _KeptNode(
                node.path,
                node.kind,
                node.mode,
                node.uid,
                node.gid,
                node.mtime,
                node.size,
                node.target,
                node.xattrs,
                node.checksum,
                node.device,
                layer,
                offset,
            )
        )
    with suppress(UnicodeEncodeError):  # names that are not UTF-8 have no place in a record
        store.keep("tree", manifest, msgspec.msgpack.encode(_KeptTree(_TREE_FORMAT, nodes, contents)))


def _is_read_by_installations(node: Node) -> bool:
    """Whether apk's own files, or the accounts, are in the node; not larger than they sensibly are."""
    is_sensible = node.size < 4 << 20
    return is_sensible and (node.path.startswith(("etc/apk/", "lib/apk/db/")) or node.path in _ACCOUNTS)


def _remembered_database(store: Store, digest: Digest, tree: Callable[[], Tree]) -> _Database:
    kept = store.record("database", digest)
    if kept is not None:
        return msgspec.msgpack.decode(kept, type=_Database)
    return _keep_database(store, digest, tree())


def _keep_database(store: Store, digest: Digest, tree: Tree) -> _Database:
    database = _Database(_without_files(tree.read(INSTALLED) or b""), tree.read(WORLD) or b"")
    store.keep("database", digest, msgspec.msgpack.encode(database))
    return database


def remember_image(
    store: Store, manifest: Digest, name: str, layers: Sequence[Layer], *, tree: Tree, merged: Tree
) -> ImageBase:
    """An image that was just made, as a base; what that will ask is kept for later builds as well.

    `merged` is what its `layers` merge to, `tree` the same as it was put together.
    """
    _keep_tree(store, manifest, [layer.digest for layer in layers], merged)
    _keep_database(store, manifest, tree)
    return ImageBase(store, manifest, "parent", name, merged)


def _without_files(installed: bytes) -> bytes:
    """The database without what it says of each package's files: a plan has no use for that."""
    return b"\n\n".join([record.partition(b"\nF:")[0] for record in installed.split(b"\n\n")])


def _records(installed: bytes) -> tuple[PackageRecord, ...]:
    return tuple(package.record for package in parse_installed(installed))


def open_base(
    variant: Variant,
    *,
    supply: Supply,
    store: Store,
    parents: dict[str, ImageBase],
    pinned: Digest | None = None,
    file: str = "",
) -> Base:
    """The base of a cell. A parent cell must be among `parents` already; `pinned` is a base image's locked manifest,
    `file` the name of a locked minirootfs.

    Raises what fetching raises, and UsageError for a base that is not one.
    """
    if variant.parent is not None:
        return parents[variant.parent]
    if variant.base in ("packages", "none"):
        return EmptyBase(variant.base)
    if variant.base == "minirootfs":
        return MinirootfsBase(supply.minirootfs(variant.alpine, variant.arch, variant.alpine_point, file), store)
    if "/" in variant.base or ":" in variant.base:
        digest = supply.image(variant.base, variant.arch, pinned)
        return ImageBase(store, digest, "image", variant.base)
    raise UsageError(f"{variant.id}: no base called '{variant.base}'", place=variant.place)
