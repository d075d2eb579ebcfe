"""Made-up packages, installed into an empty root by apk 2.14.10: the same tree, the same database, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import data_root
from genuine import Shelf
from sixsmith.apk.dependency import parse_dependencies
from sixsmith.apk.index import PackageIndex
from sixsmith.apk.installed import checksum_text
from sixsmith.apk.signature import verify_index
from sixsmith.errors import FormatError, InstallRefused
from sixsmith.rootfs.install import install
from sixsmith.rootfs.tree import Tree
from sixsmith.solver import SolverRepository, solve

HIDDEN = ("dev", "proc", "lib/apk", "etc/apk", "var/cache")
"""What the questions leave out of their trees."""


def questions() -> dict[str, Any]:
    root = data_root()
    if root is None:
        return {}
    answers: dict[str, Any] = json.loads((root / "oracle/install.json").read_text())
    return answers


QUESTIONS = questions()


@pytest.mark.parametrize("name", sorted(QUESTIONS) or [pytest.param("", marks=pytest.mark.skip("no oracle"))])
def test_question(name: str, data: Path) -> None:
    question = QUESTIONS[name]
    folder = data / "oracle/install-repos" / name / "x86_64"
    index = PackageIndex.parse(verify_index((folder / "APKINDEX.tar.gz").read_bytes(), None, name).text)
    shelf = Shelf()
    world = parse_dependencies(question["world"])

    def installed() -> Tree:
        for record in index:
            shelf.add((folder / record.filename).read_bytes(), record.filename, record)
        packages = {package.name: package for package in shelf.packages.values()}
        solution = solve(world, [SolverRepository(index, name)])
        assert [f"Installing {step.record.name} ({step.record.version})" for step in solution.steps] == [
            line.partition(") ")[2] for line in question["out"].splitlines() if line.startswith("(")
        ]
        return install(Tree(), solution.steps, packages, world=solution.world, arch="x86_64").tree

    if question["rc"]:
        with pytest.raises((InstallRefused, FormatError)):
            installed()
        return
    tree = installed()
    assert comparable(tree) == question["tree"]
    assert tree.read("lib/apk/db/installed") == question["installed"].encode()
    assert tree.read("lib/apk/db/triggers") == question["triggers"].encode()
    assert tree.read("etc/apk/world") == question["world_file"].encode()


def comparable(tree: Tree) -> dict[str, Any]:
    """A tree as the questions write it."""
    import hashlib

    found: dict[str, Any] = {}
    for node in tree:
        if any(node.path == hidden or node.path.startswith(hidden + "/") for hidden in HIDDEN):
            continue
        entry: dict[str, Any] = {"mode": oct(node.mode), "uid": node.uid, "gid": node.gid}
        if node.kind == "directory":
            entry |= {"nlink": None, "dir": True}
        else:
            assert node.kind == "file", "no question has another kind"
            data = tree.read(node.path)
            assert data is not None
            names = 1 + sum(other.kind == "hardlink" and other.target == node.path for other in tree)
            entry |= {"nlink": names, "sha1": hashlib.sha1(data).hexdigest(), "mtime": node.mtime}
            assert node.checksum is None or checksum_text(node.checksum).startswith("Q1")
            if node.xattrs:
                entry["xattr"] = [name for name, _ in node.xattrs]
        found[node.path] = entry
    return found
