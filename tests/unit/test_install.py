"""Installing: refusals, origins, configuration, scripts. What the genuine apk does is tested against it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from apk_files import Item, make_apk
from genuine import Shelf, Step
from sixsmith.apk.index import PackageRecord
from sixsmith.errors import InstallRefused, ScriptNotUnderstood
from sixsmith.rootfs.install import InstallPackage, InstallReport, install, read_installed
from sixsmith.rootfs.tree import TOP, Member, Tree


def put(tree: Tree, *packages: Any, remove: Sequence[str] = (), **options: Any) -> InstallReport:
    """The packages (and removals) on a tree; an installed one of the same name is upgraded."""
    installed = {package.name: package.record for package in read_installed(tree)}
    shelf = Shelf()
    steps = []
    for package in packages:
        record = PackageRecord.parse(package.record)
        shelf.add(package.file, package.name, record)
        old = installed.get(package.name)
        steps.append(Step("upgrade" if old else "install", record, old))
    steps += [Step("remove", installed[name], installed[name]) for name in remove]
    wanted = {package.name: package for package in shelf.packages.values()}
    return install(tree, steps, wanted, world=[package.name for package in packages], arch="x86_64", **options)


def names(tree: Tree, *prefixes: str) -> list[str]:
    return sorted(node.path for node in tree if node.path.startswith(prefixes))


D = Item("d/")


def test_from_nothing() -> None:
    tree = put(Tree(epoch=7), make_apk("a", [D, Item("d/f", b"hello", mode=0o755), Item("d/l", b"f", type=b"2")])).tree
    node = tree.nodes["d/f"]
    assert isinstance(node.content, Member) and tree.read("d/f") == b"hello"
    assert (node.origin, node.mode, node.mtime, node.size) == ("apk:a", 0o755, 1700000000, 5)
    assert (tree.nodes["d"].origin, tree.nodes["tmp"].origin, tree.nodes["tmp"].mode) == ("apk:a", TOP, 0o1777)
    assert tree.nodes["d/l"].target == "f" and tree.nodes["d/l"].mode == 0o777
    assert tree.read("etc/apk/world") == b"a\n" and tree.read("etc/apk/arch") == b"x86_64\n"
    assert tree.nodes["lib/apk/db/lock"].mode == 0o600
    assert tree.nodes["lib/apk/db/installed"].mtime == 7
    assert [package.name for package in read_installed(tree)] == ["a"]


def test_the_world_is_a_new_file_in_its_directory() -> None:
    """Where that directory hands its group on."""
    tree = put(Tree(), make_apk("a", [Item("etc/"), Item("etc/apk/")])).tree
    shared = Item("etc/apk/", mode=0o2755, ids=(0, 7), owner=("", ""))
    tree = put(tree, make_apk("a", [Item("etc/"), shared], "2-r0")).tree
    assert tree.nodes["etc/apk/world"].gid == 7 and tree.nodes["lib/apk/db/installed"].gid == 0


def test_the_tree_that_was_given_is_not_touched() -> None:
    tree = put(Tree(), make_apk("a", [D, Item("d/f", b"1")])).tree
    before = dict(tree.nodes)
    put(tree, make_apk("a", [D, Item("d/g", b"2")], "2-r0"))
    with pytest.raises(InstallRefused):
        put(tree, make_apk("b", [D, Item("d/g", b"")]), make_apk("c", [D, Item("d/f", b"")]))
    assert tree.nodes == before


def test_repositories_and_keys_are_written_where_given() -> None:
    package = make_apk(
        "a", [Item("etc/"), Item("etc/apk/"), Item("etc/apk/keys/"), Item("etc/apk/keys/k1", b"package's")]
    )
    tree = put(
        Tree(), package, repositories=["http://x/main", "@edge http://y"], keys={"k1": b"mine", "k2": b"mine"}
    ).tree
    assert tree.read("etc/apk/repositories") == b"http://x/main\n@edge http://y\n"
    assert (tree.read("etc/apk/keys/k1"), tree.read("etc/apk/keys/k2")) == (b"package's", b"mine")
    assert put(tree, make_apk("b")).tree.read("etc/apk/repositories") == b"http://x/main\n@edge http://y\n"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([D, Item("d/x", b"1")], [D, Item("d/x", b"1")], "b-1-r0 would overwrite /d/x, which belongs to a-1-r0"),
        (
            [D, Item("d/x/"), Item("d/x/y", b"")],
            [D, Item("d/x", b"")],
            "/d/x cannot be made, it is a directory of a-1-r0",
        ),
        ([D, Item("d/x/"), Item("d/x/y", b"")], [D, Item("d/x", b"t", type=b"2")], "it is a directory of a-1-r0"),
        ([D, Item("d/x", b"")], [D, Item("d/x/"), Item("d/x/y", b"")], "/d/x is a file of a-1-r0, no directory"),
        ([D, Item("d/x", b"t", type=b"2")], [D, Item("d/x/"), Item("d/x/y", b"")], "there is no /d/t"),
        ([], [Item("d/x", b"")], "/d/x has no directory entry in the package"),
        ([], [D, Item("d/x/y", b"")], "/d/x/y has no directory entry"),
        ([], [D, Item("d/x", b"", checksum=False)], "/d/x has no checksum"),
        ([], [D, Item("d/x", b"1"), Item("d/x", b"2")], "/d/x is in the package twice"),
        ([D, Item("d/x", b"")], [D, Item("d/h", b"d/x", type=b"1")], "/d/h is a hard link to /d/x"),
        ([], [Item("x", b""), Item("h", b"x", type=b"1")], "/h is a hard link to /x"),
        ([], [D, Item("d/s", b"t", type=b"2"), Item("d/h", b"d/s", type=b"1")], "/d/h is a hard link to /d/s"),
        ([], [Item("a/b/"), Item("a/b/c", b"")], "/a/b/c cannot be made, there is no /a/b"),
    ],
)
def test_contradictions_are_refused(first: list[Item], second: list[Item], message: str) -> None:
    with pytest.raises(InstallRefused) as caught:
        put(Tree(), make_apk("a", first), make_apk("b", second))
    assert message in caught.value.message


def test_replaces_moves_the_database_entry_too() -> None:
    tree = put(
        Tree(),
        make_apk("a", [D, Item("d/x", b"old")]),
        make_apk("b", [D, Item("d/x", b"new")], info=["replaces = a<2"]),
    ).tree
    assert tree.read("d/x") == b"new" and tree.nodes["d/x"].origin == "apk:b"
    a, b = read_installed(tree)
    assert not a.directories["d"].files and list(b.directories["d"].files) == ["x"]
    tree = put(tree, remove=["a"]).tree
    assert tree.read("d/x") == b"new"


def test_removal_leaves_what_is_not_the_packages() -> None:
    tree = put(Tree(), make_apk("a", [D, Item("d/e/"), Item("d/e/x", b""), Item("d/y", b"")])).tree
    tree.write("d/mine", b"")
    tree = put(tree, remove=["a"]).tree
    assert names(tree, "d/") == ["d/mine"] and read_installed(tree) == []


def test_hard_links_survive_their_first_name() -> None:
    items = [D, Item("d/a", b"content", mode=0o755), Item("d/b", b"d/a", type=b"1"), Item("d/c", b"d/a", type=b"1")]
    tree = put(Tree(), make_apk("a", items)).tree
    assert [tree.nodes[path].target for path in ("d/a", "d/b", "d/c")] == ["", "d/a", "d/a"]
    tree = put(tree, make_apk("b", [D, Item("d/a", b"other")], info=["replaces = a"])).tree
    assert (tree.nodes["d/b"].kind, tree.nodes["d/c"].target) == ("file", "d/b")
    assert tree.read("d/c") == b"content" and tree.read("d/a") == b"other"


def test_changed_configuration_is_kept_and_told() -> None:
    tree = put(Tree(), make_apk("a", [Item("etc/"), Item("etc/c", b"1"), Item("etc/d", b"1")])).tree
    tree.write("etc/c", b"changed")
    report = put(tree, make_apk("a", [Item("etc/"), Item("etc/c", b"2"), Item("etc/d", b"2")], "2-r0"))
    assert [report.tree.read(path) for path in ("etc/c", "etc/c.apk-new", "etc/d")] == [b"changed", b"2", b"2"]
    assert report.messages == ("/etc/c was kept; the version of a-2-r0 is /etc/c.apk-new",)


def test_protected_paths_can_be_changed() -> None:
    tree = Tree()
    tree.write("etc/apk/protected_paths.d/x.list", b"# comment\n-etc/free\n+srv/kept*\n")
    tree.write("lib/apk/db/installed", b"")
    tree.write("etc/free/f", b"old")
    tree.write("srv/kept1/f", b"old")
    items = [Item(path) for path in ("etc/", "etc/free/", "srv/", "srv/kept1/")]
    items += [Item("etc/free/f", b"new"), Item("srv/kept1/f", b"new")]
    tree = put(tree, make_apk("a", items)).tree
    assert (tree.read("etc/free/f"), tree.read("srv/kept1/f")) == (b"new", b"old")
    assert tree.read("srv/kept1/f.apk-new") == b"new"


def test_owner_names_are_looked_up_in_the_image() -> None:
    tree = Tree()
    tree.write("etc/passwd", b"www:x:44:45::/:/x\n")
    tree.write("etc/group", b"web:x:46:\n")
    owned = {"owner": ("www", "web"), "ids": (1, 2)}
    strange = {"owner": ("who", "what"), "ids": (1, 2)}
    tree = put(tree, make_apk("a", [Item("d/", **owned), Item("d/f", b"", **owned), Item("d/g", b"", **strange)])).tree
    assert [(tree.nodes[path].uid, tree.nodes[path].gid) for path in ("d", "d/f", "d/g")] == [
        (44, 46),
        (44, 46),
        (1, 2),
    ]
    assert b"\na:44:46:644\n" in (tree.read("lib/apk/db/installed") or b"")


class AddsUser:
    """A runner whose scripts make accounts."""

    def __init__(self, fail: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fail = fail

    def run(self, tree: Tree, package: InstallPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        self.calls.append((package.name, kind, script, arguments, "d/f" in tree))
        if kind == self.fail:
            raise ScriptNotUnderstood("no")
        tree.write("etc/passwd", b"www:x:44:45::/:/x\n")

    def trigger(self, tree: Tree, package: InstallPackage, script: bytes, directories: tuple[str, ...]) -> None:
        self.calls.append((package.name, "trigger", script, directories, tree.nodes["d"].uid))


def test_scripts_see_the_tree_as_it_becomes() -> None:
    owned = {"owner": ("www", "www"), "ids": (1, 1)}
    package = make_apk(
        "a",
        [Item("d/", **owned), Item("d/f", b"")],
        scripts={
            "pre-install": "pre",
            "post-install": "post",
            "trigger": "t",
            "pre-upgrade": "u",
            "post-deinstall": "g",
        },
        info=["triggers = /d /e*"],
    )
    runner = AddsUser()
    tree = put(Tree(), package, scripts=runner).tree
    assert runner.calls == [
        ("a", "pre-install", b"pre", ("1-r0",), False),
        ("a", "post-install", b"post", ("1-r0",), True),
        ("a", "trigger", b"t", ("/d",), 44),
    ]
    runner.calls.clear()
    put(tree, remove=["a"], scripts=runner)
    assert runner.calls == [("a", "post-deinstall", b"g", ("1-r0",), False)]


def test_triggers_of_others_see_only_what_changed() -> None:
    first = make_apk("a", [D, Item("e/"), Item("f/")], scripts={"trigger": "t"}, info=["triggers = /d /e /f /x"])
    tree = put(Tree(), first).tree
    runner = AddsUser()
    put(tree, make_apk("b", [Item("e/"), Item("e/b", b"")]), scripts=runner)
    assert [call[3] for call in runner.calls] == [("/e",)]


def test_a_script_that_fails_stops_everything() -> None:
    tree = Tree()
    with pytest.raises(ScriptNotUnderstood):
        put(tree, make_apk("a", [D], scripts={"post-install": "x"}), scripts=AddsUser("post-install"))
    assert not tree.nodes


def test_a_package_of_no_size_is_not_unpacked() -> None:
    """Virtual packages; apk looks at the size alone."""
    tree = put(Tree(), make_apk("a", [D, Item("d/f", b"")], size=0, scripts={"post-install": "x"})).tree
    assert names(tree, "d") == ["dev"] and read_installed(tree)[0].scripts == {}


def test_pins_are_remembered() -> None:
    package = make_apk("a", [D])
    record = PackageRecord.parse(package.record)
    shelf = Shelf()
    shelf.add(package.file, "a", record)

    class Edge:
        pin = "edge"

    steps = [Step("install", record, None, Edge())]
    tree = install(Tree(), steps, {"a": shelf.packages["a", "1-r0"]}, world=["a@edge"]).tree
    assert read_installed(tree)[0].pin == "edge" and tree.read("etc/apk/world") == b"a@edge\n"
    tree = install(tree, [Step("pin", record, record, None)], {}, world=["a"]).tree
    assert read_installed(tree)[0].pin == ""


def test_names_through_links_land_where_they_lead() -> None:
    """usr-merge: one package makes /bin a link, the next puts files below it."""
    merged = [Item("usr/"), Item("usr/bin/"), Item("bin", b"usr/bin", type=b"2")]
    tree = put(Tree(), make_apk("a", merged), make_apk("b", [Item("bin/"), Item("bin/sh", b"x")])).tree
    assert "usr/bin/sh" in tree and "bin/sh" not in tree
    tree = put(tree, remove=["b"]).tree
    assert "usr/bin/sh" not in tree and tree.nodes["bin"].kind == "symlink"
