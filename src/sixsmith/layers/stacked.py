"""What the layers that were just written merge to, without reading them again.

An image that others stand on would be inflated at once to find out its tree, although every member of its layers is at hand
in the plan. Here the plan's members, as a reader of the blobs would name them, are stacked by the same rules
(`layers.merge`); so the result is what the stored bytes say, to the offset of each file.
"""

from __future__ import annotations

from collections.abc import Iterator

from sixsmith.layers.merge import Stack
from sixsmith.layers.plan import LayerPlan, PlannedLayer
from sixsmith.model.tar import TarEntry, padding, tar_header
from sixsmith.oci.blobs import BlobReader, BlobSource
from sixsmith.oci.spec import Layer
from sixsmith.rootfs.tree import BASE, Content, Member, Node, Source, Tree

__all__ = ["LaidMember", "stacked_tree"]


class LaidMember(Member, frozen=True, gc=False):
    """A file of a layer that was just written; its bytes are read from where the layer has them."""

    written_from: Content

    def read(self) -> bytes:
        return self.written_from.read()


def stacked_tree(plan: LayerPlan, layers: tuple[Layer, ...], blobs: BlobReader, below: Tree) -> Tree:
    """The tree that the written `layers` of a plan merge to; `below` is what the layers of a parent image do."""
    stack = Stack(Tree())
    for planned, layer in zip(plan, layers, strict=True):
        existing = planned.existing
        if existing is not None and existing.entries is None:
            stack = Stack(below.copy())  # a parent's layers come first, and all of them
        else:
            stack.apply(list(_nodes(planned, BlobSource(blobs, layer.digest))))
    return stack.tree


def _nodes(planned: PlannedLayer, source: Source) -> Iterator[Node]:
    """The nodes of a layer as they are read from its blob."""
    if planned.segments:
        position = 0
        for segment in planned.segments:
            for node in segment.nodes:
                offset = position + len(tar_header(node.entry()))
                yield _read_back(node, source, offset)
                position = offset + node.size + len(padding(node.size))
        return
    kept = planned.existing or planned
    for entry in kept.entries or ():
        yield _node(entry, source, planned.source)


def _read_back(node: Node, source: Source, offset: int) -> Node:
    """A node as a tar tells it."""
    is_file, is_link, is_device = (
        node.kind == "file",
        node.kind in ("symlink", "hardlink"),
        node.kind in ("char", "block"),
    )
    return Node(
        node.path,
        node.kind,
        node.mode & 0o7777,
        node.uid,
        node.gid,
        max(node.mtime, 0),
        node.size if is_file else 0,
        node.target if is_link else "",
        tuple(sorted(node.xattrs)),
        None,
        node.device if is_device else (0, 0),
        BASE,
        _laid(source, offset, node.size, node.content) if is_file else None,
    )


def _node(entry: TarEntry, source: Source, archive: Source | None) -> Node:
    content = Member(archive, entry.offset, entry.size) if archive is not None else None
    return Node(
        entry.path,
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime,
        entry.size,
        entry.target,
        entry.xattrs,
        entry.checksum,
        entry.device,
        BASE,
        _laid(source, entry.offset, entry.size, content) if entry.kind == "file" else None,
    )


def _laid(source: Source, offset: int, size: int, content: Content | None) -> Member:
    return Member(source, offset, size) if content is None else LaidMember(source, offset, size, content)
