"""An image's layers as one tree, ready to be written: later layers win, whiteouts hide, nothing climbs out of the root."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

from sixsmith.errors import DigestMismatch
from sixsmith.layers.merge import apply_layer
from sixsmith.model.compression import Bytes
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import parse_tar
from sixsmith.oci.blobs import inflate_layer
from sixsmith.rootfs.tree import Tree

__all__ = ["LayerFile", "merge_layers"]


class LayerFile:
    """A layer blob in an open file, verified when it is read. A `Source`; the tar is kept until `forget`."""

    def __init__(self, digest: Digest, descriptor: int) -> None:
        self.digest = digest
        self._descriptor = descriptor
        self._tar: Bytes | None = None

    def inflate(self) -> Bytes:
        """The uncompressed tar. Raises DigestMismatch for other bytes than promised, FormatError for damaged ones."""
        if self._tar is None:
            blob = b""
            if size := os.fstat(self._descriptor).st_size:
                with mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ) as mapped:
                    blob = mapped.read()
            if digest_of(blob) != self.digest:
                raise DigestMismatch(
                    f"layer {self.digest} was damaged: its bytes have {digest_of(blob)}", hint="build it again"
                )
            self._tar = inflate_layer(blob, what=f"layer {self.digest}")
        return self._tar

    def forget(self) -> None:
        """Gives the memory back."""
        self._tar = None


def merge_layers(layers: Sequence[tuple[Digest, int]]) -> tuple[Tree, list[LayerFile]]:
    """The tree of layers, lowest first, each as (digest, open file); and the sources of its contents."""
    tree, sources = Tree(), []
    for digest, descriptor in layers:
        source = LayerFile(digest, descriptor)
        entries = parse_tar(source.inflate(), what=f"layer {digest}", strip=True)
        tree = apply_layer(tree, entries, source)
        sources.append(source)
    for path in [node.path for node in tree]:
        folder = path.rpartition("/")[0]
        if folder and folder not in tree.nodes:
            tree.make_directories(folder, origin="base")
    return tree, sources
