"""A file tree in memory: what happens to other names of a file when one of them goes."""

from __future__ import annotations

import pytest

import layer_world as world
from layer_world import member
from sixsmith.rootfs.tree import Tree


def three_names() -> Tree:
    """`a/x` with the names `b` and `c`."""
    members = [
        member("a", "directory"),
        member("a/x", content=b"old", mode=0o755),
        member("b", "hardlink", target="a/x", mode=0o755),
        member("c", "hardlink", target="a/x", mode=0o755),
    ]
    return world.install(Tree(epoch=5), "p", members)[0]


def change_nothing_else(tree: Tree) -> None:
    assert (tree.read("b"), tree.read("c")) == (b"old", b"old")
    assert (tree.nodes["b"].kind, tree.nodes["b"].mode, tree.nodes["b"].origin) == ("file", 0o755, "apk:p")
    assert (tree.nodes["c"].kind, tree.nodes["c"].target) == ("hardlink", "b")


@pytest.mark.parametrize("path", ["a/x", "a"])
def test_a_removed_file_lives_on_under_its_other_names(path: str) -> None:
    tree = three_names()
    tree.remove(path)
    assert "a/x" not in tree
    change_nothing_else(tree)


def test_a_file_that_is_written_is_written_by_all_its_names() -> None:
    tree = three_names()
    tree.write("a/x", b"new")
    assert tree.read("a/x") == tree.read("b") == b"new"


@pytest.mark.parametrize("kind", ["symlink", "directory that becomes a file"])
def test_so_does_one_whose_place_something_else_takes(kind: str) -> None:
    tree = three_names()
    if kind == "symlink":
        tree.make_symlink("a/x", "nowhere")
    else:
        tree.write("a", b"a file")
    change_nothing_else(tree)


def test_a_removed_name_is_only_a_name() -> None:
    tree = three_names()
    tree.remove("b")
    assert (tree.read("a/x"), tree.read("c"), tree.nodes["c"].target) == (b"old", b"old", "a/x")


@pytest.mark.parametrize(
    ("target", "real"),
    [
        ("/usr/lib/x", "usr/lib/x"),
        ("../usr/lib/x", "usr/lib/x"),
        ("y", "etc/y"),
        ("/etc/y", "etc/y"),
        ("/etc/again", "usr/lib/x"),
        ("/lib/x", "usr/lib/x"),
        ("//usr//lib/./x", "usr/lib/x"),
        ("/", ""),
        ("/nowhere/x", "nowhere/x"),
    ],
)
def test_where_a_link_leads(target: str, real: str) -> None:
    tree = Tree()
    tree.write("usr/lib/x", b"x")
    tree.write("etc/y", b"y")
    tree.make_symlink("lib", "usr/lib")
    tree.make_symlink("etc/again", "../usr/lib/x")
    tree.make_symlink("etc/link", target)
    assert tree.resolve("/etc/link") == tree.resolve("etc/link") == real
