"""What skopeo, umoci, buildah, podman and docker make of our layouts and archives. Each skips where the tool is not installed.

The image is made to be difficult: many layers, whiteouts, an emptied directory, long and foreign names, suid, xattrs, hard
links, modes that differ between layers. Unpacked by others, it must be the tree of the one-layer image to the last mtime.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import layer_world as world
from engines import ROOT, Seen, containers, docker_daemon, in_docker, on_disk, policy, run, tool
from layer_world import member
from sixsmith.io.layout import open_layout, write_archive, write_layout
from sixsmith.io.store import Store
from sixsmith.layers.merge import apply_nodes, tree_from_archive
from sixsmith.layers.plan import BIG, ExistingLayer, LayerPackage, plan_layers
from sixsmith.layers.write import write_layers
from sixsmith.model.arch import ARCHES
from sixsmith.oci.image import Image, ImageSettings, make_image, make_index
from sixsmith.oci.spec import Descriptor
from sixsmith.oci.validate import validate_image
from sixsmith.rootfs.tree import Tree, node_from_entry

AMD64 = ARCHES["x86_64"].platform
LONG = "usr/share/" + "/".join(["a-rather-long-directory-name"] * 5)
CAPABLE = (("security.capability", bytes.fromhex("0100000200040000000000000000000000000000")),)


def difficult(packages: int) -> tuple[Tree, list[LayerPackage], list[ExistingLayer], Tree]:
    """A base, so many packages on top of it, and everything that may happen to them."""
    base = world.Archive(
        [
            member("", "directory"),
            *[member(path, "directory") for path in ("etc", "old", "old/deep", "tmp", "usr")],
            member("etc/passwd", content=b"root:x:0:0::/:/bin/sh\n"),
            *[member(f"old/{number}", content=b"gone") for number in range(6)],
            member("old/deep/er", content=b"gone"),
            member("was-file", content=b"f"),
            member("was-directory", "directory"),
            member("was-directory/x"),
            member("linked", content=b"one"),
            member("link", "hardlink", target="linked"),
        ],
        strip=True,
    )
    base_tree = tree_from_archive(base.entries, base, epoch=77)
    tree, known = base_tree.copy(), []
    for number in range(packages):
        top = f"usr/p{number}"
        members = [
            member("usr", "directory", mtime=number),
            member(top, "directory", mode=0o755 if number % 2 else 0o700, mtime=2000 + number),
            member(f"{top}/binary", content=bytes([number]) * 999, mode=0o4755 if number % 3 else 0o755),
            member(f"{top}/again", "hardlink", target=f"{top}/binary", mode=0o4755 if number % 3 else 0o755),
            member(f"{top}/link", "symlink", target="../p0/binary"),
            member(f"{top}/able", xattrs=CAPABLE if ROOT else ()),
        ]
        tree, package = world.install(tree, f"p{number}", members, size=BIG)
        known.append(package)
    hidden = [f"old/.wh.{number}" for number in range(6)] + ["old/.wh.deep", ".wh.was-file", ".wh.was-directory"]
    tree = apply_nodes(tree, [node_from_entry(member(path)[0], origin="top", source=None) for path in hidden])
    tree.make_directory("was-file", mode=0o750)
    tree.write("was-directory", b"now a file")
    tree.write("link", b"now another file", keep=False)
    tree.make_directory("tmp", mode=0o1777)
    tree.write(f"{LONG}/ключ", b"long and foreign")
    tree.make_symlink("long", f"/{LONG}/ключ")
    return tree, known, [ExistingLayer(base.digest, len(base.blob), source=base, entries=base.entries)], base_tree


class World:
    """Images of one tree in a layout, each tag another way of cutting it."""

    def __init__(self, root: Path) -> None:
        self.root, self.layout = root, root / "layout"
        self.images: dict[str, Image] = {}
        self.descriptors: dict[str, Descriptor] = {}
        self.store = Store(root / "store")

    def add(self, tag: str, plan: Any, compression: str = "gzip") -> None:
        layers = write_layers(plan, self.store, compression=compression)
        settings = ImageSettings(entrypoint=("/init",), env={"PATH": "/bin"}, ports=("80",))
        image = make_image(layers, settings, platform=AMD64, created=1_700_000_000, title="difficult", version=tag)
        index = make_index([image])
        for document in (image.config, image.manifest, index.raw):
            self.store.put(document)
        assert validate_image(self.store, index.descriptor, deep=True) == []
        self.images[tag], self.descriptors[tag] = image, index.descriptor


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    built = World(tmp_path_factory.mktemp("foreign"))
    for count in (14, 58):
        tree, packages, base, base_tree = difficult(count)
        one = plan_layers(tree=tree, packages=packages, base=base, base_tree=base_tree, strategy="single")
        many = plan_layers(tree=tree, packages=packages, base=base, base_tree=base_tree, strategy="per-package")
        built.add(f"one-{count}", one)
        built.add(f"many-{count}", many)
        if count == 14:
            shared = plan_layers(tree=tree, packages=packages, base=base, base_tree=base_tree)
            built.add("shared-14", shared)
            built.add("zstd-14", shared, "zstd")
    assert [len(built.images[f"many-{count}"].layers) for count in (14, 58)] == [16, 60]
    write_layout(built.layout, built.descriptors, built.store)
    yield built
    built.store.close()


def unpack(made: World, tag: str, target: Path) -> Seen:
    umoci = tool("umoci")
    run(umoci, "unpack", *([] if ROOT else ["--rootless"]), "--image", f"{made.layout}:{tag}", target)
    return on_disk(target / "rootfs")


def test_umoci_unpacks_many_layers_to_what_one_layer_has(made: World, tmp_path: Path) -> None:
    for count in (14, 58):
        one = unpack(made, f"one-{count}", tmp_path / f"one-{count}")
        assert one["old"][0] == oct(stat.S_IFDIR | 0o755)
        assert not [name for name in one if name.startswith("old/") or ".wh." in name]
        assert one[f"{LONG}/ключ"][1:4] == ((0, 0, 77) if ROOT else (os.getuid(), os.getgid(), 77))
        assert one["usr/p1/able"][5] == (list(CAPABLE) if ROOT else [])
        assert one["usr/p1/again"][-1] == ("usr/p1/again", "usr/p1/binary")
        assert unpack(made, f"many-{count}", tmp_path / f"many-{count}") == one
    assert unpack(made, "shared-14", tmp_path / "shared") == unpack(made, "one-14", tmp_path / "again")


def test_what_umoci_unpacks_is_the_tree(made: World, tmp_path: Path) -> None:
    tree, *_ = difficult(14)
    found = unpack(made, "many-14", tmp_path / "x")
    assert set(found) == {path or "." for path in tree.nodes}
    for path, node in tree.nodes.items():
        if path and node.kind == "directory":
            assert (found[path][0], found[path][3]) == (oct(stat.S_IFDIR | node.mode), node.mtime)


def test_umoci_reads_the_history(made: World) -> None:
    text = run(tool("umoci"), "stat", "--json", "--image", f"{made.layout}:many-58")
    assert len(json.loads(text)["history"]) == 60


@pytest.mark.parametrize("tag", ["one-14", "shared-14", "many-14", "many-58"])
def test_skopeo_makes_docker_archives(made: World, tmp_path: Path, tag: str) -> None:
    skopeo = tool("skopeo")
    run(skopeo, "copy", "-q", "--insecure-policy", f"oci:{made.layout}:{tag}", f"docker-archive:{tmp_path}/d.tar:web:1")
    text = run(skopeo, "inspect", f"docker-archive:{tmp_path}/d.tar")
    assert len(json.loads(text)["Layers"]) == len(made.images[tag].layers)


def test_skopeo_copies_without_changing_a_digest(made: World, tmp_path: Path) -> None:
    skopeo = tool("skopeo")
    for tag in ("many-14", "zstd-14"):
        source = f"oci:{made.layout}:{tag}"
        run(
            skopeo,
            "copy",
            "-q",
            "--insecure-policy",
            "--all",
            "--preserve-digests",
            source,
            f"oci:{tmp_path}/copy:{tag}",
        )
        with open_layout(tmp_path / "copy") as copy:
            assert copy.ref(tag).digest == made.descriptors[tag].digest
            assert validate_image(copy, copy.ref(tag), deep=True) == []


def test_skopeo_writes_into_our_layout_and_we_keep_it(made: World, tmp_path: Path) -> None:
    skopeo = tool("skopeo")
    write_layout(tmp_path / "l", {"a": made.descriptors["one-14"]}, made.store)
    run(skopeo, "copy", "-q", "--insecure-policy", f"oci:{made.layout}:many-14", f"oci:{tmp_path}/l:theirs")
    write_layout(tmp_path / "l", {"b": made.descriptors["shared-14"]}, made.store)
    with open_layout(tmp_path / "l") as layout:
        assert sorted(layout.refs) == ["a", "b", "theirs"]
        assert [str(problem) for tag in layout.refs for problem in validate_image(layout, layout.ref(tag))] == []


def test_buildah_starts_from_a_layout(made: World, tmp_path: Path) -> None:
    trees = []
    with containers("buildah") as buildah:
        for tag in ("one-58", "many-58"):
            source = f"oci:{made.layout}:{tag}"
            name = run(*buildah, "from", "--signature-policy", policy(tmp_path), source).strip()
            mounted = Path(run(*buildah, "mount", name).strip())
            try:
                found = on_disk(mounted)
            finally:
                run(*buildah, "umount", name)
                run(*buildah, "rm", name)
            trees.append({path: what for path, what in found.items() if path.partition("/")[0] not in ADDED})
    assert trees[0] == trees[1]
    assert len(trees[0]) > 58 * 4


ADDED = ("dev", "proc", "sys", "run", ".")


def test_podman_loads_an_archive(made: World, tmp_path: Path) -> None:
    names = {f"registry.test:5000/team/web:{tag}": made.descriptors[tag] for tag in ("one-58", "many-58")}
    write_archive(tmp_path / "a.tar", names, made.store)
    trees = []
    with containers("podman") as podman:
        run(*podman, "load", "-q", "--signature-policy", policy(tmp_path), "-i", tmp_path / "a.tar")
        for name in names:
            (image,) = json.loads(run(*podman, "image", "inspect", name))
            assert image["Config"]["Entrypoint"] == ["/init"]
            mounted = Path(run(*podman, "image", "mount", name).strip())
            try:
                trees.append({path: what for path, what in on_disk(mounted).items() if path != "."})
            finally:
                run(*podman, "image", "umount", name)
    assert trees[0] == trees[1]


def test_docker_loads_an_archive(made: World, tmp_path: Path) -> None:
    names = {f"registry.test:5000/team/web:{tag}": made.descriptors[tag] for tag in ("one-58", "many-58", "shared-14")}
    write_archive(tmp_path / "a.tar", names, made.store)
    with docker_daemon() as docker:
        run(*docker, "load", "-q", "-i", tmp_path / "a.tar")
        (image,) = json.loads(run(*docker, "image", "inspect", "registry.test:5000/team/web:many-58"))
        assert image["Config"]["Entrypoint"] == ["/init"]
        assert len(image["RootFS"]["Layers"]) == 60
        one, many, other = (in_docker(docker, name) for name in names)
    assert one == many
    assert one["usr/p1/again"][-1] == ("usr/p1/again", "usr/p1/binary")
    assert [key for key, _ in one["usr/p1/able"][6]] == ["SCHILY.xattr.security.capability"]
    assert not [name for name in one if name.startswith("old/") or ".wh." in name]
    assert other == {name: what for name, what in one.items() if name in other}


def test_skopeo_reads_an_archive_as_both_kinds(made: World, tmp_path: Path) -> None:
    skopeo = tool("skopeo")
    name = "registry.test:5000/team/web:1"
    write_archive(tmp_path / "a.tar", {name: made.descriptors["many-14"]}, made.store)
    for source in (f"docker-archive:{tmp_path}/a.tar:{name}", f"oci-archive:{tmp_path}/a.tar:1"):
        assert len(json.loads(run(skopeo, "inspect", source))["Layers"]) == 16
