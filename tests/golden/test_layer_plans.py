"""Layer plans as a person reads them, and the diff_ids of what is written: they may only change on purpose.

After such a change run with SIXSMITH_GOLDEN=write and look at the difference. Digests of compressed layers are not here:
they change with the compressor's version, diff_ids never.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import layer_world as world
from layer_world import member
from sixsmith.layers.merge import apply_nodes, tree_from_archive
from sixsmith.layers.plan import BIG, STRATEGIES, ExistingLayer, LayerOverlay, LayerPackage, plan_layers
from sixsmith.layers.write import write_layers
from sixsmith.rootfs.tree import OVERLAY, Inline, Node, Tree, node_from_entry

HERE = Path(__file__).parent / "layers"


def image() -> tuple[Tree, list[LayerPackage], list[ExistingLayer], Tree, LayerOverlay]:
    """A root file system, an overlay, packages of every kind, and what happened to them afterwards."""
    base = world.Archive(
        [
            member("", "directory"),
            *[member(path, "directory") for path in ("etc", "lib", "usr", "usr/bin")],
            member("etc/passwd", content=b"root:x:0:0\n"),
            member("lib/libz.so.1.2", content=b"old"),
        ],
        strip=True,
    )
    base_tree = tree_from_archive(base.entries, base, epoch=1_700_000_000)
    nodes = (
        Node("etc/s6", "directory", 0o755, 0, 0, 50, 0, "", (), None, (0, 0), OVERLAY, None),
        Node("etc/s6/x", "file", 0o644, 0, 0, 60, 1, "", (), None, (0, 0), OVERLAY, Inline(b"x")),
        Node("init", "file", 0o755, 0, 0, 60, 4, "", (), None, (0, 0), OVERLAY, Inline(b"init")),
    )
    tree = apply_nodes(base_tree, nodes)
    usr = [member("usr", "directory"), member("usr/bin", "directory")]
    packages = []
    for name, size, members in [
        ("zlib", 50_000, [member("lib", "directory"), member("lib/libz.so.1.3", content=b"new")]),
        (
            "git",
            BIG * 8,
            [*usr, member("usr/bin/git", content=b"g"), member("usr/bin/git-x", "hardlink", target="usr/bin/git")],
        ),
        ("mail", BIG, [*usr, member("usr/bin/mail", gid=12)]),
        ("old", BIG, [*usr, member("usr/bin/tool", content=b"1"), member("usr/bin/old")]),
        ("new", BIG * 2, [*usr, member("usr/bin/tool", content=b"2")]),
        ("base", 300, []),
    ]:
        tree, package = world.install(tree, name, members, size=size)
        packages.append(package)
    gone = [node_from_entry(member("lib/.wh.libz.so.1.2")[0], origin="top", source=None)]
    tree = apply_nodes(tree, gone)
    tree.change("usr/bin/mail", gid=1012)
    tree.nodes["usr/bin/mail"] = world.Node(
        **{field: getattr(tree.nodes["usr/bin/mail"], field) for field in Node.__struct_fields__ if field != "origin"},
        origin="apk:mail",
    )
    tree.write("etc/passwd", b"root:x:0:0\napp:x:1:1\n")
    below = ExistingLayer(
        base.digest, len(base.blob), name="minirootfs", reason="Alpine's own tarball", source=base, entries=base.entries
    )
    return tree, packages, [below], base_tree, LayerOverlay("s6-overlay 3", nodes)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plan(strategy: str) -> None:
    tree, packages, base, base_tree, overlay = image()
    plan = plan_layers(tree=tree, packages=packages, base=base, base_tree=base_tree, overlay=overlay, strategy=strategy)
    written = write_layers(plan, world.MemoryBlobs())
    lines = [str(plan), "", *(f"{number:3}  {layer.diff_id}" for number, layer in enumerate(written, 1))]
    for number, layer in enumerate(plan, 1):
        for segment in layer.segments:
            lines += ["", f"{number:3}  {segment.name}"]
            lines += [f"       {node.mode:04o} {node.kind:9} /{node.path}" for node in segment.nodes]
    text = "\n".join(lines) + "\n"
    path = HERE / f"{strategy}.txt"
    if os.environ.get("SIXSMITH_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
