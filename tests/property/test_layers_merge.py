"""The merged layers are the tree, whatever happened to it and however it was cut.

image-spec `layer.md`: "Layer Changesets ... are applied in order"; the planner may choose any cut, never another result.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import layer_world as world
from sixsmith.layers import merge
from sixsmith.layers import plan as planning
from sixsmith.layers.merge import apply_nodes, tree_from_archive
from sixsmith.layers.plan import ExistingLayer, LayerPackage, plan_layers
from sixsmith.layers.stacked import stacked_tree
from sixsmith.layers.write import write_layers
from sixsmith.oci.spec import Layer
from sixsmith.rootfs.tree import OVERLAY, Inline, Node, Tree, node_from_entry

NAMES = ("a", "b", "c", ".d")
PATHS = (
    *NAMES,
    *(f"{x}/{y}" for x in NAMES for y in NAMES),
    *(f"{x}/{y}/{z}" for x in "ab" for y in "ab" for z in "abc"),
)
paths = st.sampled_from(PATHS)
modes = st.sampled_from([0o755, 0o555, 0o700, 0o1777])


@st.composite
def archives(draw: st.DrawFn) -> list[world.Member]:
    """Members as abuild writes them: directories first, each once, with links after their targets."""
    files: dict[str, world.Member] = {}
    for path in draw(st.lists(paths, max_size=6, unique=True)):
        kind = draw(st.sampled_from(["file", "file", "symlink", "hardlink", "hardlink", "directory"]))
        if any(other.startswith(path + "/") or path.startswith(other + "/") for other in files):
            continue
        uid, mtime = draw(st.sampled_from([0, 7])), draw(st.integers(1, 3))
        first = next((entry for entry, _ in files.values() if entry.kind == "file"), None)
        if kind == "hardlink" and first is not None:
            files[path] = world.member(path, "hardlink", target=first.path, uid=first.uid, mtime=first.mtime)
        elif kind == "symlink":
            files[path] = world.member(path, "symlink", target=draw(paths), uid=uid, mtime=mtime)
        elif kind == "directory":
            files[path] = world.member(path, "directory", mode=draw(modes), uid=uid, mtime=mtime)
        else:
            files[path] = world.member(path, content=draw(st.binary(max_size=3)), uid=uid, mtime=mtime)
    above = {"/".join(path.split("/")[:n]) for path in files for n in range(1, path.count("/") + 1)}
    found = {path: world.member(path, "directory", mode=draw(modes), mtime=draw(st.integers(1, 3))) for path in above}
    found |= files
    return [found[path] for path in sorted(found, key=lambda path: (found[path][0].kind == "hardlink", path))]


def laid(tree: Tree, draw: st.DrawFn) -> Tree:
    """What scripts, files and the overlay do to a tree."""
    for _ in range(draw(st.integers(0, 4))):
        path = draw(paths)
        parent = path.rpartition("/")[0]
        if parent and (parent not in tree.nodes or tree.nodes[parent].kind != "directory"):
            continue
        deed = draw(st.sampled_from(["write", "remove", "change", "symlink", "directory", "overlay", "link"]))
        old = tree.nodes.get(path)
        if deed == "remove" and old is not None:
            hidden = f"{parent}/.wh.{path.rpartition('/')[2]}".lstrip("/")
            tree = apply_nodes(tree, [node_from_entry(world.member(hidden)[0], origin="top", source=None)])
        elif deed == "change" and old is not None and old.kind != "hardlink":
            tree.change(path, mode=draw(modes), uid=draw(st.sampled_from([0, 9])))
        elif deed == "link":
            first = next((node for node in tree if node.kind == "file" and node.path != path), None)
            if first is not None and not first.path.startswith(path + "/"):
                tree = apply_nodes(tree, [_node(path, "hardlink", draw, target=first.path)])
        elif deed in ("write", "overlay"):
            origin = OVERLAY if deed == "overlay" else "top"
            tree = apply_nodes(tree, [_node(path, "file", draw, origin=origin, data=draw(st.binary(max_size=3)))])
        elif deed in ("symlink", "directory"):
            tree = apply_nodes(tree, [_node(path, deed, draw)])
    return tree


def _node(path: str, kind: str, draw: st.DrawFn, *, target: str = "b", origin: str = "top", data: bytes = b"") -> Node:
    content = Inline(data) if kind == "file" else None
    target = "" if kind in ("file", "directory") else target
    return Node(
        path, kind, draw(modes), 0, 0, draw(st.integers(1, 3)), len(data), target, (), None, (0, 0), origin, content
    )


Scenario = tuple[Tree, list[LayerPackage], list[ExistingLayer], Tree | None]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    tree, base, base_tree = Tree(epoch=5), [], None
    if draw(st.booleans()):
        members = draw(archives())
        if draw(st.booleans()):
            members = [world.member("", "directory", mode=draw(st.sampled_from([0o755, 0o700]))), *members]
        archive = world.Archive(members, strip=True)
        base_tree = tree_from_archive(archive.entries, archive, epoch=5)
        tree = base_tree.copy()
        base = [ExistingLayer(archive.digest, len(archive.blob), source=archive, entries=archive.entries)]
    packages = []
    for number in range(draw(st.integers(0, 3))):
        size = draw(st.sampled_from([planning.BIG, 10]))
        tree, package = world.install(tree, f"p{number}", draw(archives()), size=size)
        packages.append(package)
    return laid(tree, draw), packages, base, base_tree


@pytest.fixture(autouse=True, scope="module")
def opaque_early() -> Iterator[None]:
    """Trees this small hardly ever empty a directory of four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "_OPAQUE_FROM", 2)
        yield


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenarios())
def test_every_strategy_merges_to_the_tree(scenario: Scenario) -> None:
    tree, packages, base, base_tree = scenario
    wanted = world.seen(tree)
    store = world.MemoryBlobs()
    for strategy in planning.STRATEGIES:
        plan = plan_layers(tree=tree, packages=packages, base=base, base_tree=base_tree, strategy=strategy)
        layers = write_layers(plan, store)
        found = world.seen(world.unpacked(layers, store))
        found = found if "" in wanted else {path: what for path, what in found.items() if path}
        assert found == wanted, f"{strategy}\n{plan}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenarios(), st.data())
def test_a_child_on_the_layers_of_its_parent_merges_to_its_own_tree(scenario: Scenario, data: st.DataObject) -> None:
    tree, packages, base, base_tree = scenario
    store = world.MemoryBlobs()
    plan = plan_layers(tree=tree, packages=packages, base=base, base_tree=base_tree)
    parent = write_layers(plan, store)
    below = [_existing(layer) for layer in parent]
    merged = world.unpacked(parent, store)
    child, package = world.install(merged.copy(), "child", data.draw(archives()), size=planning.BIG)
    child = laid(child, data.draw)
    for strategy in planning.STRATEGIES:
        plan = plan_layers(tree=child, packages=[package], base=below, base_tree=merged, strategy=strategy)
        layers = write_layers(plan, store)
        assert world.seen(world.unpacked(layers, store)) == world.seen(child), f"{strategy}\n{plan}"
        if strategy != "single":
            assert layers[: len(parent)] == tuple(
                Layer(
                    layer.digest,
                    layer.size,
                    layer.diff_id,
                    layer.media_type,
                    "base",
                    "layer of the parent image",
                    ("base",),
                )
                for layer in parent
            )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenarios(), st.data())
def test_what_was_just_written_is_stacked_as_it_would_be_read(scenario: Scenario, data: st.DataObject) -> None:
    tree, packages, base, base_tree = scenario
    for node in data.draw(st.lists(odd_nodes(), max_size=3)):
        tree.put(node)
    store = world.MemoryBlobs()
    for strategy in planning.STRATEGIES:
        plan = plan_layers(tree=tree, packages=packages, base=base, base_tree=base_tree, strategy=strategy)
        parent = write_layers(plan, store)
        merged = world.unpacked(parent, store)
        assert world.exactly(stacked_tree(plan, parent, store, base_tree or Tree())) == world.exactly(merged)
    below = [_existing(layer) for layer in parent]
    child, package = world.install(merged.copy(), "child", data.draw(archives()), size=planning.BIG)
    child = laid(child, data.draw)
    for strategy in planning.STRATEGIES:
        plan = plan_layers(tree=child, packages=[package], base=below, base_tree=merged, strategy=strategy)
        layers = write_layers(plan, store)
        assert world.exactly(stacked_tree(plan, layers, store, merged)) == world.exactly(world.unpacked(layers, store))


@st.composite
def odd_nodes(draw: st.DrawFn) -> Node:
    """What a plain tar header cannot hold, or holds otherwise than a file."""
    path = draw(st.sampled_from(["x" * 101, "é", "\udcff", "long" * 60, "y"]))
    xattrs = draw(st.sampled_from([(), (("user.b", b"2"), ("user.a", b"1"))]))
    content = draw(st.binary(max_size=3))
    kind, size, device = draw(
        st.sampled_from([("file", len(content), (0, 0)), ("char", 0, (5, 1)), ("fifo", 0, (0, 0))])
    )
    uid, mtime = draw(st.sampled_from([0, 8**7])), draw(st.sampled_from([0, -1, 8**11]))
    held = Inline(content) if kind == "file" else None
    return Node(path, kind, 0o644, uid, 0, mtime, size, "", xattrs, None, device, "top", held)


def _existing(layer: Layer) -> ExistingLayer:
    return ExistingLayer(layer.digest, layer.size, layer.media_type, layer.diff_id)
