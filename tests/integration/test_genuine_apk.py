"""Ours against the genuine apk: the same packages into the same root give the same tree and the same database.

By default a sample that takes a few seconds; `SIXSMITH_GENUINE=all` takes every package, 200 random sets and thousands
of made-up transactions. The order of installation is taken from what apk printed, so this is about installing only.
"""

from __future__ import annotations

import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apk_files import Item, make_apk, make_index
from genuine import (
    GenuineApk,
    Shelf,
    differences,
    disk_database,
    disk_entries,
    tree_database,
    tree_entries,
)
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.apk.signature import verify_index
from sixsmith.io.disk import read_tree
from sixsmith.rootfs.install import InstallPackage, install
from sixsmith.rootfs.tree import Tree
from transactions import ODD_FOLDERS, ODD_PATHS, Trial

ALL = os.environ.get("SIXSMITH_GENUINE") == "all"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(os.geteuid() != 0, reason="the genuine apk sets owners, which needs root"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the genuine apk is an x86_64 program"),
]


@pytest.fixture(scope="module")
def apk(data: Path, tmp_path_factory: pytest.TempPathFactory) -> GenuineApk:
    return GenuineApk(tmp_path_factory.mktemp("apk"), data)


def shelf_of(folder: Path) -> Shelf:
    """Every package of a repository that is there."""
    text = verify_index((folder / "APKINDEX.tar.gz").read_bytes(), None, folder.name).text
    shelf = Shelf()
    for record in PackageIndex.parse(text):
        path = folder / record.filename
        if path.exists():
            shelf.add(path.read_bytes(), record.filename, record)
    return shelf


@pytest.fixture(scope="module")
def closed(data: Path) -> Shelf:
    return shelf_of(data / "upstream/alpine/v3.19/main/x86_64")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    shutil.rmtree(tmp_path / "root", ignore_errors=True)


def check_same(root: Path, tree: Tree) -> None:
    assert not differences(disk_entries(root), tree_entries(tree))
    assert not differences(disk_database(root), tree_database(tree))


def from_nothing(apk: GenuineApk, shelf: Shelf, root: Path, wanted: list[str]) -> bool:
    """Whether apk took the request; when it did, ours is compared."""
    done = apk.run(root, "--initdb", "--repository", apk.mirror / "v3.19/main", "--no-scripts", "add", *wanted)
    if done.returncode:
        assert "unable to select packages" in done.stderr + done.stdout
        return False
    steps, packages = shelf.steps(done.stdout)
    report = install(Tree(), steps, packages, world=wanted, arch="x86_64")
    check_same(root, report.tree)
    return True


def test_single_packages(apk: GenuineApk, closed: Shelf, tmp_path: Path) -> None:
    names = sorted(name for name, _ in closed.packages)
    assert len(names) == 100
    for name in names if ALL else random.Random(3).sample(names, 25):
        assert from_nothing(apk, closed, tmp_path / name, [name])
        shutil.rmtree(tmp_path / name)


def test_random_sets(apk: GenuineApk, closed: Shelf, tmp_path: Path) -> None:
    names = sorted(name for name, _ in closed.packages)
    dice = random.Random(7)
    taken = 0
    wanted_sets = 200 if ALL else 12
    while taken < wanted_sets:
        wanted = dice.sample(names, dice.randint(2, 40))
        taken += from_nothing(apk, closed, tmp_path / "root", wanted)
        shutil.rmtree(tmp_path / "root", ignore_errors=True)


# --- on top of a minirootfs ------------------------------------------------------------------------------------------


@pytest.fixture
def minirootfs(data: Path, root: Path) -> Path:
    (tarball,) = (data / "upstream/alpine/v3.16/releases/x86_64").glob("*.tar.gz")
    with tarfile.open(tarball, "r:gz") as tar:
        tar.extractall(root, filter="fully_trusted")
    return root


def on_top(apk: GenuineApk, root: Path, repository: Path, packages: Shelf, world: list[str], *request: str) -> Tree:
    """Ours and apk's, both on what lies in `root`."""
    before = read_tree(root)
    contents = {node.path: node.content.read() for node in before if node.content is not None}
    places = ("--repositories-file", "/dev/null", "--repository", repository)  # not those that the base names
    done = apk.run(root, *places, "--allow-untrusted", "--no-scripts", *request)
    assert done.returncode == 0, done.stdout + done.stderr
    steps, wanted = packages.steps(done.stdout)
    for path, content in contents.items():
        before.write(path, content, origin="base")  # apk changed the files that it was read from
    for path, node in read_tree_times(before, root).items():
        before.nodes[path] = node
    tree = install(before, steps, wanted, world=world, arch="x86_64").tree
    check_same(root, tree)
    return tree


def read_tree_times(tree: Tree, root: Path) -> dict[str, object]:
    """Nodes with the times that files on disk have, for those that were written in between."""
    import msgspec

    return {
        path: msgspec.structs.replace(node, mtime=int((root / path).lstat().st_mtime))
        for path, node in tree.nodes.items()
        if node.kind == "file" and (root / path).is_file()
    }


def world_of(root: Path) -> list[str]:
    return (root / "etc/apk/world").read_text().split()


def test_bash_on_a_minirootfs(apk: GenuineApk, data: Path, minirootfs: Path) -> None:
    repository = data / "upstream/alpine/v3.16/main"
    shelf = shelf_of(repository / "x86_64")
    world = [*world_of(minirootfs), "bash", "make"]
    tree = on_top(apk, minirootfs, repository, shelf, world, "add", "bash", "make")
    assert tree.nodes["bin/bash"].origin == "apk:bash"
    world.remove("make")
    on_top(apk, minirootfs, repository, shelf, world, "del", "make")


def test_made_up_upgrades_of_a_minirootfs(apk: GenuineApk, minirootfs: Path, tmp_path: Path) -> None:
    """Configuration that was changed and not, files that move from one package to another, directories that empty."""
    (minirootfs / "etc/motd").write_text("changed here\n")
    (minirootfs / "etc/issue").unlink()
    versions = [
        make_apk(
            "alpine-baselayout",
            [
                Item("etc/"),
                Item("etc/group", b"root:x:0:root\n"),
                Item("etc/hosts", b"127.0.0.1 new\n"),
                Item("etc/motd", b"a new greeting\n"),
                Item("etc/issue", b"new\n"),
                Item("etc/profile.d/"),
                Item("etc/profile.d/new.sh", b"x"),
            ],
            "9-r0",
            info=["replaces = alpine-baselayout-data"],
        ),
        make_apk(
            "musl-utils",
            [Item("usr/"), Item("usr/bin/"), Item("usr/bin/ldd", b"new", mode=0o755)],
            "9-r0",
            index="D:scanelf\n",
        ),
        make_apk("scanelf", [Item("usr/"), Item("usr/bin/"), Item("usr/bin/getconf", b"x")], "9-r0", origin="musl"),
    ]
    repository = tmp_path / "repository"
    (repository / "x86_64").mkdir(parents=True)
    shelf = Shelf()
    for package in versions:
        path = repository / f"x86_64/{package.name}-{package.version}.apk"
        path.write_bytes(package.file)
        shelf.add(package.file, package.name, PackageRecord.parse(package.record))
    (repository / "x86_64/APKINDEX.tar.gz").write_bytes(make_index(versions))
    tree = on_top(apk, minirootfs, repository, shelf, world_of(minirootfs), "upgrade")
    assert "etc/motd.apk-new" in tree and tree.read("etc/motd") == b"changed here\n"
    assert tree.read("etc/hosts") == b"127.0.0.1 new\n"


# --- made-up transactions --------------------------------------------------------------------------------------------


def test_made_up_transactions(apk: GenuineApk, tmp_path: Path) -> None:
    """Packages that overlap, replace, change kinds, link, come and go, with hands on the disk in between.

    What apk does without an error we do the same; where it ends with one, we refuse.
    """
    outcomes = {"same": 0, "refused": 0}
    for seed in range(4000 if ALL else 120):
        outcomes[Trial(seed, apk, tmp_path / "trial").run()] += 1
    assert min(outcomes.values()) > sum(outcomes.values()) / 4


def test_made_up_transactions_with_odd_names(apk: GenuineApk, tmp_path: Path) -> None:
    outcomes = {"same": 0, "refused": 0}
    for seed in range(2000 if ALL else 40):
        outcomes[Trial(seed, apk, tmp_path / "trial", folders=ODD_FOLDERS, paths=ODD_PATHS).run()] += 1
    assert min(outcomes.values()) > sum(outcomes.values()) / 4


# --- scripts ---------------------------------------------------------------------------------------------------------


class Recorder:
    """Says what would be run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def run(self, tree: Tree, package: InstallPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        assert script == package.control.scripts["." + kind]
        present = [path for path in ("d", "d/a", "d/b") if path in tree]
        self.lines.append(" ".join([package.name, kind, *arguments, ":", *present]))

    def trigger(self, tree: Tree, package: InstallPackage, script: bytes, directories: tuple[str, ...]) -> None:
        self.lines.append(" ".join([package.name, "trigger", *directories]))


def test_scripts_run_in_order_with_their_arguments(apk: GenuineApk, closed: Shelf, root: Path, tmp_path: Path) -> None:
    """The genuine apk runs real scripts in a chroot; they write down what ours is told."""
    kinds = ("pre-install", "post-install", "pre-upgrade", "post-upgrade", "pre-deinstall", "post-deinstall")

    def logging(name: str) -> dict[str, str]:
        script = (
            "#!/bin/busybox sh\n{ printf '%s' '" + name + " KIND'; for a; do printf ' %s' \"$a\"; done; printf ' :';"
            "for p in d d/a d/b; do [ -e /$p ] && printf ' %s' $p; done; echo; } >> /log\n"
        )
        scripts = {kind: script.replace("KIND", kind) for kind in kinds}
        scripts["trigger"] = (
            script.replace("KIND", "trigger")
            .replace("printf ' :';", "")
            .replace("for p in d d/a d/b; do [ -e /$p ] && printf ' %s' $p; done;", "")
        )
        return scripts

    directories = [Item(f"d/{number}/") for number in range(30)]
    first = [
        make_apk(
            "a",
            [Item("d/"), Item("d/a", b"1"), *directories],
            scripts=logging("a"),
            info=["triggers = /d /d/* /bin", "depend = busybox"],
            index="D:busybox\n",
        ),
        make_apk("b", [Item("d/"), Item("d/b", b"1")], scripts=logging("b"), info=["depend = a"], index="D:a\n"),
    ]
    second = [
        make_apk("b", [Item("d/"), Item("d/b", b"2"), Item("d/new/")], "2-r0", scripts=logging("b"), index="D:a\n")
    ]
    repository = tmp_path / "repository"
    (repository / "x86_64").mkdir(parents=True)
    shelf = Shelf(dict(closed.packages))
    tree = Tree()
    recorder = Recorder()
    requests = [
        (first, "--initdb add b", ["b"]),
        (first + second, "upgrade", ["b"]),
        (first + second, "add a", ["a", "b"]),
    ]
    for packages, request, world in [*requests, (first + second, "del b", ["a"])]:
        for package in packages:
            path = repository / f"x86_64/{package.name}-{package.version}.apk"
            path.write_bytes(package.file)
            shelf.add(package.file, package.name, PackageRecord.parse(package.record))
        (repository / "x86_64/APKINDEX.tar.gz").write_bytes(make_index(packages))
        places = ["--repository", str(repository), "--repository", str(apk.mirror / "v3.19/main"), "--allow-untrusted"]
        command, *names = request.replace("--initdb ", "").split()
        done = apk.run(root, *(["--initdb"] if "--initdb" in request else []), *places, command, *names)
        if done.returncode and "chroot" in done.stderr:
            pytest.skip("no chroot here")
        assert done.returncode == 0, done.stdout + done.stderr
        steps, wanted = shelf.steps(done.stdout)
        tree = install(tree, steps, wanted, world=world, arch="x86_64", scripts=recorder).tree
        ours = [line for line in recorder.lines if not line.startswith("busybox")]
        assert ours == (root / "log").read_text().splitlines()
