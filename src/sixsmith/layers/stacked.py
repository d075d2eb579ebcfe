"""What the layers that were just written merge to, without reading them again.

An image that others stand on would be inflated at once to find out its tree, although every member of its layers is at hand
in the plan. Here the plan's members, as a reader of the blobs would name them, are stacked by the same rules
(`layers.merge`); so the result is what the stored bytes say, to the offset of each file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sixsmith.layers.merge import Stack
from sixsmith.layers.plan import LayerPlan, PlannedLayer
from sixsmith.model.tar import TarEntry, tar_header
from sixsmith.oci.blobs import BlobReader, BlobSource
from sixsmith.oci.spec import Layer
from sixsmith.rootfs.tree import BASE, Node, Tree, node_from_entry

__all__ = ["stacked_tree"]


def stacked_tree(plan: LayerPlan, layers: Sequence[Layer], blobs: BlobReader, below: Tree) -> Tree:
    """The tree that the written `layers` of a plan merge to; `below` is what the layers of a parent image do."""
    stack = Stack(Tree())
    for planned, layer in zip(plan, layers, strict=True):
        existing = planned.existing
        if existing is not None and existing.entries is None:
            stack = Stack(below.copy())  # a parent's layers come first, and all of them
            continue
        source = BlobSource(blobs, layer.digest)
        stack.apply([node_from_entry(entry, origin=BASE, source=source) for entry in _members(planned)])
    return stack.tree


def _members(planned: PlannedLayer) -> Sequence[TarEntry]:
    """The members of a layer as `parse_tar(strip=True)` finds them in its blob."""
    if planned.segments:
        return list(_written([node for segment in planned.segments for node in segment.nodes]))
    if planned.existing is not None:
        return planned.existing.entries or ()
    return planned.entries or ()


def _written(nodes: Sequence[Node]) -> Iterator[TarEntry]:
    position = 0
    for node in nodes:
        entry = node.entry()
        offset = position + len(tar_header(entry))
        yield TarEntry(
            node.path,
            node.kind,
            node.mode & 0o7777,
            node.uid,
            node.gid,
            max(node.mtime, 0),
            node.size if node.kind == "file" else 0,
            node.target if node.kind in ("symlink", "hardlink") else "",
            xattrs=tuple(sorted(node.xattrs)),
            device=node.device if node.kind in ("char", "block") else (0, 0),
            start=position,
            offset=offset,
        )
        position = offset + node.size + (-node.size % 512)
