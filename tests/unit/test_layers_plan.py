"""Which layers a tree becomes, and the sentence why."""

from __future__ import annotations

import msgspec
import pytest

import layer_world as world
from layer_world import member
from sixsmith.errors import FormatError, UsageError
from sixsmith.io.store import Store
from sixsmith.layers.merge import apply_layer, apply_nodes, changes, tree_from_archive
from sixsmith.layers.plan import BIG, ExistingLayer, LayerOverlay, LayerPackage, LayerPlan, likely_layers, plan_layers
from sixsmith.layers.write import write_layers
from sixsmith.model.digest import Digest
from sixsmith.rootfs.tree import OVERLAY, Inline, Node, Tree, node_from_entry

replace = msgspec.structs.replace


def kinds(plan: LayerPlan) -> list[str]:
    return [layer.kind for layer in plan]


def installed(*packages: tuple[str, list[world.Member]], size: int = BIG) -> tuple[Tree, list[LayerPackage]]:
    tree, known = Tree(epoch=9), []
    for name, members in packages:
        tree, package = world.install(tree, name, members, size=size)
        known.append(package)
    return tree, known


USR = [member("usr", "directory"), member("usr/bin", "directory")]


def note_of(tree: Tree, packages: list[LayerPackage]) -> str:
    """Why the only package is not a layer of its own."""
    (layer,) = [layer for layer in plan_layers(tree=tree, packages=packages) if layer.kind == "spliced"]
    return layer.notes[0][1] if layer.notes else layer.reason


def test_a_big_package_is_a_layer_as_it_stands() -> None:
    tree, packages = installed(("git", [*USR, member("usr/bin/git", content=b"x")]))
    first, top = plan_layers(tree=tree, packages=packages)
    assert (first.kind, first.names, first.source) == ("verbatim", ("git 1-r0",), packages[0].source)
    assert top.kind == "top"
    assert [node.path for node in top.segments[0].nodes] == [""]


def test_which_packages_are_likely_to_be_layers() -> None:
    sizes = {"a": BIG, "b": BIG - 1, "c": 3 * BIG, "d": 2 * BIG}
    assert likely_layers(sizes) == {"a", "c", "d"}
    assert likely_layers(sizes, budget=4) == {"c", "d"}
    assert likely_layers(sizes, budget=4, below=3) == {"c"}  # a child's quarter of the budget
    assert likely_layers(sizes, budget=1) == set()
    assert likely_layers(sizes, strategy="single") == set()
    assert likely_layers(sizes, strategy="per-package") == set(sizes)


def test_verbatim_layers_lie_in_install_order_and_the_biggest_are_chosen() -> None:
    names = [f"p{number:02}" for number in range(20)]
    tree, packages = Tree(), []
    for number, name in enumerate(names):
        tree, package = world.install(tree, name, [*USR, member(f"usr/bin/{name}")], size=BIG + number % 7)
        packages.append(package)
    plan = plan_layers(tree=tree, packages=packages, budget=6)
    chosen = [layer.names[0].split()[0] for layer in plan if layer.kind == "verbatim"]
    assert chosen == ["p05", "p06", "p12", "p13"]
    assert likely_layers({package.name: package.data_size for package in packages}, budget=6) == set(chosen)
    (spliced,) = [layer for layer in plan if layer.kind == "spliced"]
    assert dict(spliced.notes)["p00 1-r0"] == "the layer budget is used up by bigger packages"
    assert kinds(plan) == ["verbatim"] * 4 + ["spliced"]  # nothing is left for a top layer


NOTE = (("user.note", b"n"),)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([member(".dummy"), *USR], "has '.dummy' at its root, which apk takes for control data"),
        ([*USR, member("usr/bin/.wh.x")], "has a file named '.wh.x', which a layer reads as a whiteout"),
        ([*USR, member("/abs")], "has a name that not everybody reads alike: '/abs'"),
        ([*USR, member("usr/../x")], "has a name that climbs out: 'usr/../x'"),
        ([member("usr", "directory"), member("usr/bin/x")], "does not list the directory of 'usr/bin/x'"),
        ([*USR, member("usr/bin/x"), member("usr/bin/x")], "names 'usr/bin/x' twice"),
        (
            [*USR, member("usr/bin/x", "hardlink", target="usr/bin/y")],
            "'usr/bin/x' is a hard link to 'usr/bin/y', which does not stand before it",
        ),
        (
            [*USR, member("usr/bin/y"), member("usr/bin/x", "hardlink", target="usr/bin/y", mode=0o755)],
            "'usr/bin/x' is a hard link whose mode or owner is not its target's",
        ),
        (
            [*USR, member("usr/bin/y", xattrs=NOTE), member("usr/bin/x", "hardlink", target="usr/bin/y")],
            "'usr/bin/x' is a hard link that does not repeat its target's extended attributes",
        ),
    ],
)
def test_an_archive_that_is_no_layer_anywhere(members: list[world.Member], reason: str) -> None:
    archive = world.Archive(members)
    tree = Tree([node_from_entry(entry, origin="apk:p", source=archive) for entry in archive.entries[:1]])
    tree, _ = world.install(Tree(), "p", [*USR, member("usr/bin/good")])
    package = LayerPackage("p", "1-r0", "apk:p", archive, archive.entries, BIG)
    assert note_of(tree, [package]) == reason


def test_a_package_that_loses_a_file_is_not_verbatim_and_leaves_it_out() -> None:
    tree, packages = installed(
        ("old", [*USR, member("usr/bin/x", content=b"old"), member("usr/bin/o")]),
        ("new", [*USR, member("usr/bin/x", content=b"new")]),
    )
    plan = plan_layers(tree=tree, packages=packages)
    spliced = next(layer for layer in plan if layer.kind == "spliced")
    assert spliced.reason == "loses 'usr/bin/x' to new"
    assert [node.path for segment in spliced.segments for node in segment.nodes] == ["", "usr", "usr/bin", "usr/bin/o"]
    assert [layer.names for layer in plan if layer.kind == "verbatim"] == [("new 1-r0",)]


def test_a_directory_mode_that_must_lose_is_put_right_in_the_top_layer() -> None:
    tree, packages = installed(("a", [member("var", "directory", mode=0o555)]), ("b", [member("var", "directory")]))
    plan = plan_layers(tree=tree, packages=packages)
    assert [layer.kind for layer in plan] == ["verbatim", "verbatim", "top"]
    (top,) = plan.layers[-1].segments
    assert {node.path: node.mode for node in top.nodes}["var"] == 0o555


def test_an_owner_who_is_another_number_in_the_image() -> None:
    tree, packages = installed(("a", [*USR, member("usr/bin/x", gid=42)]))
    tree.put(replace(tree.nodes["usr/bin/x"], gid=1042))
    assert note_of(tree, packages) == "the owner of 'usr/bin/x' is 0:1042 here and 0:42 in its header"


def test_a_path_through_a_directory_that_is_a_symlink_here() -> None:
    tree, packages = installed(("a", [member("bin", "directory"), member("bin/sh", content=b"sh")]))
    moved = replace(tree.nodes["bin/sh"], path="usr/bin/sh")
    tree = apply_nodes(Tree(), [node_from_entry(entry, origin="apk:m", source=None) for entry, _ in USR])
    tree.make_symlink("bin", "usr/bin")
    tree.put(moved)
    assert note_of(tree, packages) == "'bin' is a directory in it and a symlink in the image"
    package = replace_entries(packages[0], [entry for entry in packages[0].entries if entry.path != "bin"])
    assert note_of(tree, [package]) == "does not list the directory of 'bin/sh'"


def replace_entries(package: LayerPackage, entries: list[world.TarEntry]) -> LayerPackage:
    return LayerPackage(package.name, package.version, package.origin, package.source, entries, package.data_size)


def test_a_removed_file_is_not_shipped_at_all() -> None:
    tree, packages = installed(("a", [*USR, member("usr/bin/x"), member("usr/bin/y")]))
    tree.remove("usr/bin/x")
    plan = plan_layers(tree=tree, packages=packages)
    assert note_of(tree, packages) == "'usr/bin/x' is removed from the image"
    assert not any(".wh." in node.path for layer in plan for segment in layer.segments for node in segment.nodes)


def test_a_small_changed_file_is_repeated_above_a_big_one_is_not() -> None:
    small, big = member("usr/bin/x", content=b"x"), member("usr/bin/x", content=bytes(70_000))
    tree, packages = installed(("a", [*USR, small]))
    tree.change("usr/bin/x", mode=0o4755)
    assert kinds(plan_layers(tree=tree, packages=packages)) == ["verbatim", "top"]
    tree, packages = installed(("a", [*USR, big]))
    tree.change("usr/bin/x", mode=0o4755)
    assert kinds(plan_layers(tree=tree, packages=packages)) == ["spliced", "top"]


def test_a_package_without_files_is_no_layer() -> None:
    tree, packages = installed(("meta", []))
    assert kinds(plan_layers(tree=tree, packages=packages)) == ["top"]
    assert kinds(plan_layers(tree=tree, packages=packages, strategy="per-package")) == ["top"]


def test_a_hard_link_between_packages_stays_together_in_the_top() -> None:
    tree, packages = installed(("a", [*USR, member("usr/bin/x", content=b"x")]))
    link = Node("usr/bin/y", "hardlink", 0o644, 0, 0, 1000, 0, "usr/bin/x", (), None, (0, 0), "apk:b", None)
    tree.put(link)
    plan = plan_layers(tree=tree, packages=packages)
    top = [node.path for node in plan.layers[-1].segments[0].nodes]
    assert top[-2:] == ["usr/bin/x", "usr/bin/y"]


def test_all_names_of_a_changed_file_travel_together() -> None:
    members = [member("a", content=b"1"), member("b", "hardlink", target="a"), member("c", "hardlink", target="a")]
    archive = world.Archive(members)
    lower = apply_layer(Tree(), archive.entries, archive)
    tree = lower.copy()
    tree.nodes["a"] = replace(tree.nodes["a"], mode=0o600)
    assert changes(lower, tree).others == ("a", "b", "c")
    assert world.seen(apply_nodes(lower, [tree.nodes[path] for path in "abc"])) == world.seen(tree)


def test_the_order_of_files_is_no_matter_of_compression() -> None:
    """Of a parent's layers, whose digests are another compressor's business, as of any archives."""
    orders = set()
    for digests in (("1" * 64, "2" * 64), ("2" * 64, "1" * 64)):
        tree = Tree()
        for name, digest in zip(("a", "b"), digests, strict=True):
            archive = world.Archive([member(f"{name}{number}", content=b"x") for number in range(3)])
            archive.digest = Digest(f"sha256:{digest}")
            tree = apply_layer(tree, archive.entries, archive)
        (layer,) = plan_layers(tree=tree, strategy="single").layers
        orders.add(tuple(node.path for segment in layer.segments for node in segment.nodes))
    assert orders == {("", "a0", "a1", "a2", "b0", "b1", "b2")}


def test_a_written_link_repeats_what_its_target_says() -> None:
    members = [
        member("a", content=b"1", mode=0o4755, xattrs=NOTE),
        member("b", "hardlink", target="a", mode=0o4755),
    ]
    tree, package = world.install(Tree(), "p", members, size=BIG)
    for strategy in ("shared", "single", "per-package"):
        (layer,) = plan_layers(tree=tree, packages=[package], strategy=strategy).layers
        (link,) = (node for segment in layer.segments for node in segment.nodes if node.kind == "hardlink")
        assert (link.mode, link.xattrs) == (0o4755, NOTE)


def test_a_link_outlives_its_replaced_target() -> None:
    archive = world.Archive(
        [member("a", content=b"1"), member("b", "hardlink", target="a"), member("c", "hardlink", target="a")]
    )
    lower = apply_layer(Tree(), archive.entries, archive)
    upper = world.Archive([member("a", content=b"2")])
    merged = apply_layer(lower, upper.entries, upper)
    assert (merged.read("a"), merged.read("b"), merged.read("c")) == (b"2", b"1", b"1")
    assert merged.nodes["c"].target == "b"


class TestWhiteouts:
    def lower(self, *paths: str) -> Tree:
        directories = {"/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 1)}
        members = [member(path, "directory") for path in sorted(directories)] + [member(path) for path in paths]
        archive = world.Archive(members)
        return apply_layer(Tree(), archive.entries, archive)

    def test_one_for_each_path_that_is_gone_but_not_below_a_gone_directory(self) -> None:
        lower = self.lower("a/x", "a/y", "b/c/d", "b/c/e")
        tree = lower.copy()
        tree.remove("a/x")
        tree.remove("b/c")
        found = changes(lower, tree)
        assert (found.whiteouts, found.directories, found.others) == (("a/.wh.x", "b/.wh.c"), ("", "a", "b"), ())

    def test_an_emptied_directory_is_opaque(self) -> None:
        lower = self.lower("a/1", "a/2", "a/3", "a/4/5", "b")
        tree = lower.copy()
        for name in "1234":
            tree.remove(f"a/{name}")
        found = changes(lower, tree)
        assert found.whiteouts == ("a/.wh..wh..opq",)
        hidden = [node_from_entry(member(path)[0], origin="top", source=None) for path in found.whiteouts]
        assert world.seen(apply_nodes(lower, hidden)) == world.seen(tree)

    def test_a_file_becomes_a_directory_and_the_reverse_without_whiteouts(self) -> None:
        lower = self.lower("a/x", "b")
        tree = lower.copy()
        tree.put(replace(tree.nodes["b"], path="a"))
        tree.remove("b")
        tree.make_directory("b")
        found = changes(lower, tree)
        assert (found.whiteouts, found.directories, found.others) == ((), ("", "b"), ("a",))

    def test_an_upgraded_base_package_hides_what_it_no_longer_has(self) -> None:
        base = world.Archive([member("lib", "directory"), member("lib/libx.so.1"), member("lib/liby.so")], strip=True)
        base_tree = tree_from_archive(base.entries, base)
        tree = base_tree.copy()
        tree.remove("lib/libx.so.1")
        tree, package = world.install(tree, "libx", [member("lib", "directory"), member("lib/libx.so.2")])
        below = [ExistingLayer(base.digest, len(base.blob), source=base, entries=base.entries)]
        plan = plan_layers(tree=tree, packages=[package], base=below, base_tree=base_tree)
        assert kinds(plan) == ["base", "spliced", "top"]
        assert "hides 1 path of lower layers" in plan.layers[-1].reason


class TestBase:
    def plan(self, members: list[world.Member]) -> LayerPlan:
        base = world.Archive(members, strip=True)
        base_tree = tree_from_archive(base.entries, base)
        below = ExistingLayer(
            base.digest, len(base.blob), name="minirootfs", reason="as it is", source=base, entries=base.entries
        )
        return plan_layers(tree=base_tree.copy(), base=[below], base_tree=base_tree)

    def test_a_sound_root_file_system_is_the_base_layer(self) -> None:
        (layer,) = self.plan([member("", "directory"), *USR, member("usr/bin/x")])
        assert (layer.kind, layer.reason, layer.segments) == ("base", "as it is", ())

    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            (
                [member("", "directory", mode=0o700), *USR],
                "written anew: its root directory has mode 0700, with which only root could enter",
            ),
            ([member("", "directory"), member("a"), member("a")], "written anew: names 'a' twice"),
        ],
    )
    def test_one_that_is_not_is_written_anew(self, members: list[world.Member], reason: str) -> None:
        plan = self.plan(members)
        assert kinds(plan) == ["base"]
        assert plan.layers[0].reason == reason
        assert plan.layers[0].segments[0].nodes[0].mode == 0o755


class TestOverlay:
    NODES = (
        Node("etc", "directory", 0o755, 0, 0, 70, 0, "", (), None, (0, 0), OVERLAY, None),
        Node("etc/s6", "file", 0o644, 0, 0, 80, 1, "", (), None, (0, 0), OVERLAY, Inline(b"x")),
        Node("init", "file", 0o755, 0, 0, 80, 1, "", (), None, (0, 0), OVERLAY, Inline(b"y")),
    )

    def image(self, etc_mode: int, *extra: Node) -> tuple[Tree, list[LayerPackage]]:
        tree, packages = installed(("base", [member("etc", "directory", mode=etc_mode, mtime=5), member("etc/passwd")]))
        tree = apply_nodes(tree, self.NODES[1:])
        for node in extra:
            tree.put(node)
        return tree, packages

    def test_it_is_the_same_bytes_in_images_that_differ(self, tmp_path: object) -> None:
        digests = set()
        with Store(tmp_path) as store:  # type: ignore[arg-type]
            for etc_mode, extra in [
                (0o755, ()),
                (0o700, ()),
                (0o755, (replace(self.NODES[2], content=Inline(b"z"), origin="top"),)),
            ]:
                tree, packages = self.image(etc_mode, *extra)
                overlay = LayerOverlay("s6-overlay 3", self.NODES)
                plan = plan_layers(tree=tree, packages=packages, overlay=overlay)
                layers = write_layers(plan, store)
                found = world.seen(world.unpacked(layers, store))
                assert {path: what for path, what in found.items() if path} == world.seen(tree)
                digests |= {layer.digest for layer in layers if layer.kind == "overlay"}
        assert len(digests) == 1

    def test_its_directories_do_not_fight_the_image(self) -> None:
        tree, packages = self.image(0o700)
        plan = plan_layers(tree=tree, packages=packages)
        overlay = next(layer for layer in plan if layer.kind == "overlay")
        assert {node.path: node.mode for node in overlay.segments[0].nodes}["etc"] == 0o755
        assert plan.layers[0].kind == "overlay"  # whatever lies above it wins

    def test_one_sound_gzip_tarball_serves_as_it_is(self) -> None:
        members = [member("", "directory"), member("etc", "directory"), member("etc/s6", content=b"x")]
        tarball = world.Archive(members, strip=True)
        nodes = [node_from_entry(entry, origin=OVERLAY, source=tarball) for entry in tarball.entries if entry.path]
        tree = apply_nodes(Tree(), nodes)
        overlay = LayerOverlay("s6-overlay 1", nodes, tarball, tarball.entries, len(tarball.blob))
        plan = plan_layers(tree=tree, overlay=overlay)
        assert plan.layers[0].source is tarball
        mended = [replace(node, mode=0o700) if node.path == "etc" else node for node in nodes]
        overlay = LayerOverlay("s6-overlay 1", mended, tarball, tarball.entries, len(tarball.blob))
        plan = plan_layers(tree=apply_nodes(Tree(), mended), overlay=overlay)
        assert plan.layers[0].source is None
        assert "'etc' is laid otherwise than the tarball has it" in plan.layers[0].reason


class TestLimits:
    def many(self, count: int) -> tuple[Tree, list[LayerPackage]]:
        return installed(*((f"p{number:03}", [*USR, member(f"usr/bin/{number}")]) for number in range(count)))

    def test_one_layer_each_up_to_127(self) -> None:
        tree, packages = self.many(126)
        plan = plan_layers(tree=tree, packages=packages, strategy="per-package")
        assert len(plan) == 127
        assert kinds(plan) == ["verbatim"] * 126 + ["top"]

    def test_then_the_smallest_share_one(self) -> None:
        tree, packages = self.many(140)
        plan = plan_layers(tree=tree, packages=packages, strategy="per-package")
        assert kinds(plan) == ["verbatim"] * 125 + ["spliced"]
        assert len(plan.layers[-1].names) == 15

    @pytest.mark.parametrize("with_base", [False, True])
    def test_no_budget_is_exceeded(self, with_base: bool) -> None:
        """Beside a base's, an overlay's and the top layer, 5 big packages and 3 small ones."""
        base = world.Archive([member("lib", "directory"), member("lib/x", content=b"x")])
        base_tree = tree_from_archive(base.entries, base) if with_base else Tree()
        tree, packages = base_tree.copy(), []
        for number in range(8):
            members = [*USR, member(f"usr/bin/{number}", content=b"%d" % number)]
            tree, package = world.install(tree, f"p{number}", members, size=BIG if number < 5 else 10)
            packages.append(package)
        overlay = world.Archive([member("init", content=b"overlay")])
        tree = apply_nodes(tree, [node_from_entry(overlay.entries[0], origin=OVERLAY, source=overlay)])
        tree.write("etc-passwd", b"top")
        below = [ExistingLayer(base.digest, len(base.blob), source=base, entries=base.entries)] if with_base else []
        counts = []
        for budget in range(1, 16):
            plan = plan_layers(tree=tree, packages=packages, base=below, base_tree=base_tree, budget=budget)
            layers = write_layers(plan, blobs := world.MemoryBlobs())
            assert world.seen(world.unpacked(layers, blobs)) | {"": ()} == world.seen(tree) | {"": ()}
            counts.append(len(plan))
        most = 9 if with_base else 8
        assert counts == [1, *([1] if with_base else []), *(min(n, most) for n in range(3 if with_base else 2, 16))]

    def test_a_child_of_a_tall_parent_still_gets_layers(self) -> None:
        tree, _ = self.many(3)
        base = tree.copy()
        tree, package = world.install(tree, "app", [*USR, member("usr/bin/app")], size=BIG)
        below = [ExistingLayer(package.source.digest, 1, diff_id=package.source.digest) for _ in range(16)]
        plan = plan_layers(tree=tree, packages=[package], base=below, base_tree=base)
        assert kinds(plan)[16:] == ["verbatim", "top"]

    def test_a_parent_that_leaves_no_room(self) -> None:
        below = [ExistingLayer(world.Archive([]).digest, 1) for _ in range(126)]
        with pytest.raises(UsageError, match="126 layers"):
            plan_layers(tree=Tree(), base=below, base_tree=Tree())

    def test_unknown_strategy(self) -> None:
        with pytest.raises(UsageError) as raised:
            plan_layers(tree=Tree(), strategy="shard")
        assert raised.value.hint == "did you mean 'shared'?"


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([member("a/.wh.b"), member("a", "directory")], "read this name as a whiteout"),
        ([member("a/b")], "/a is not a directory of the image"),
        ([member("a", "hardlink", target="b")], "a hard link to /b, which is no file"),
    ],
)
def test_a_tree_that_no_layer_can_hold(nodes: list[world.Member], message: str) -> None:
    tree = Tree([node_from_entry(entry, origin="top", source=None) for entry, _ in nodes])
    for strategy in ("shared", "single"):
        with pytest.raises(FormatError, match=message):
            plan_layers(tree=tree, strategy=strategy)


def test_the_plan_prints() -> None:
    tree, packages = installed(
        ("git", [*USR, member("usr/bin/git")]), ("a", [member(".x")]), ("b", [*USR, member("usr/bin/b")])
    )
    text = str(plan_layers(tree=tree, packages=[packages[0], replace_size(packages[2], 10)]))
    assert text.splitlines()[0] == ("  1  verbatim   256 KiB  git 1-r0: the package's data segment as Alpine signed it")
    assert "b 1-r0: smaller than 256 KiB" in text


def replace_size(package: LayerPackage, size: int) -> LayerPackage:
    return LayerPackage(package.name, package.version, package.origin, package.source, package.entries, size)
