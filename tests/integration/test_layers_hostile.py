"""Packages that are in each other's way, files of the family in theirs, children that take away what parents brought: whatever is
built of them is one tree, however it is cut into layers.

Packages are made up by a seeded generator: shared folders with other modes and owners, files of one path, hard links, symbolic
links, capabilities, dot files at the root, names with blanks. What apk would refuse, we refuse; everything else is built by every
strategy, with small budgets, and with children of each, and compared.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from test_straight_line import tree_of

import layer_world
from commandline import Outcome, Workplace
from sixsmith.io.store import Store
from sixsmith.testing.keys import SigningKey
from sixsmith.testing.packages import SamplePackage, make_apk
from sixsmith.testing.repository import make_repository
from sixsmith.testing.tars import SampleFile
from sixsmith.testing.world import World

SEEDS = range(300) if os.environ.get("SIXSMITH_EXHAUSTIVE") else range(12)
FOLDERS = ["usr", "usr/lib", "usr/share", "opt", "opt/x", "etc", "etc/y.d", "srv/.hidden"]
CAPABLE = {"security.capability": bytes.fromhex("0100000200040000000000000000000000000000")}
CUTS: dict[str, Any] = {
    "single": "single",
    "shared": "shared",
    "each": "per-package",
    "three": {"budget": "3"},
    "five": {"budget": "5"},
}


class Package:
    """The files of a made-up package."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.chance, self.number = chance, number
        self.files: dict[str, SampleFile] = {}
        for folder in chance.sample(FOLDERS, chance.randint(1, 5)):
            if chance.random() < 0.5:
                mode, owner = chance.choice([0o755, 0o700, 0o1777, 0o2775]), chance.choice(["root", "stranger"])
                self.files[folder] = SampleFile(
                    folder, kind="directory", mode=mode, owner=owner, uid=chance.choice([0, 7])
                )
            for _ in range(chance.randint(0, 4)):
                name = chance.choice(["a", "b", "c", "d", ".dot", "x y", "ü", f"own{number}"])
                self.add(f"{folder}/{name}")
        if chance.random() < 0.1:
            self.files[".dummy"] = SampleFile(".dummy", b"x")

    def add(self, path: str) -> None:
        if path in self.files or any(other.startswith(path + "/") for other in self.files):
            return
        chance = self.chance
        targets = [file for file in self.files.values() if file.kind == "file"]
        kind = chance.choices(["symlink", "hardlink", "directory", "file"], [3, 4 if targets else 0, 1, 12])[0]
        if kind == "symlink":
            self.files[path] = SampleFile(path, kind="symlink", target=chance.choice(["../a", "/usr/lib", "nowhere"]))
        elif kind == "hardlink":
            to = chance.choice(targets)
            attributes = to.xattrs if chance.random() < 0.5 else {}
            self.files[path] = SampleFile(
                path, kind="hardlink", target=to.path, mode=to.mode, uid=to.uid, owner=to.owner, xattrs=attributes
            )
        elif kind == "directory":
            self.files[path] = SampleFile(path, kind="directory", mode=chance.choice([0o755, 0o711]))
        else:
            content = chance.randbytes(chance.choice([0, 10, 10, 300_000]))
            mode, attributes = chance.choice([0o644, 0o4755, 0o000]), chance.choice([{}, {}, {"user.a": b"1"}, CAPABLE])
            owner, uid = chance.choice(["root", "stranger"]), chance.choice([0, 5])
            self.files[path] = SampleFile(path, content, mode=mode, owner=owner, uid=uid, xattrs=attributes)

    def sealed(self, key: SigningKey) -> SamplePackage:
        others = [f"p{other}" for other in range(8) if other != self.number]
        return make_apk(
            f"p{self.number}",
            files=list(self.files.values()),
            key=key,
            replaces=others if self.chance.random() < 0.9 else [],
            replaces_priority=self.chance.choice([0, 0, 1, 2]),
            depends=[f"p{other}" for other in range(self.number) if self.chance.random() < 0.2],
        )


def some_files(chance: random.Random) -> list[dict[str, str]]:
    """Entries of `files` that fit to nothing."""
    paths = ["/usr/lib/a", "/opt/x", "/etc/y.d", "/usr/share/b", "/opt/x/c", "/srv", "/new/deep", "/usr/lib/d"]
    kinds = [{"type": "absent"}, {"type": "absent"}, {"content": "hello", "mode": "0640"}, {"type": "directory"}]
    kinds.append({"type": "symlink", "target": "/usr"})
    return [{"path": path, **chance.choice(kinds)} for path in chance.sample(paths, chance.randint(1, 4))]


def hostile_family(chance: random.Random, count: int) -> dict[str, Any]:
    own = {"name": "own", "url": "own/v{alpine}/own", "key": "own/own@k.rsa.pub"}
    cells: dict[str, Any] = {"base": "packages", "arch": ["x86_64"], "matrix": {"alpine": ["3.22"]}, "tag": "1"}
    cells |= {"repositories": [own], "packages": [f"p{number}" for number in range(count)]}
    cells["compression"] = chance.choice(["gzip", "gzip", "zstd"])
    if chance.random() < 0.5:
        cells["files"] = some_files(chance)
    child = {"tag": "1", "files": some_files(chance)}
    images = {name: {**cells, "layers": how} for name, how in CUTS.items()}
    images |= {f"of-{name}": {**child, "from": name, "layers": chance.choice([*CUTS.values()])} for name in CUTS}
    return {"name": "hostile", "images": images}


def build_hostile(folder: Path, world: World, seed: int) -> tuple[Workplace, Outcome]:
    chance = random.Random(seed)
    folder.mkdir()
    place = Workplace(folder, world)
    key = SigningKey.generate("own@k.rsa.pub")
    packages = [Package(chance, number).sealed(key) for number in range(chance.randint(2, 6))]
    make_repository(folder / "own", "3.22", "own", "x86_64", packages, key)
    key.write_public(folder / "own")
    place.write(json.dumps(hostile_family(chance, len(packages))))
    return place, place.build("--json", "-q")


def test_every_cut_of_hostile_packages_is_one_tree(tmp_path: Path, world: World) -> None:
    compared = 0
    for seed in SEEDS:
        place, outcome = build_hostile(tmp_path / str(seed), world, seed)
        if outcome.code:
            assert outcome.code in (1, 2), f"{seed}: {outcome.err}"
            continue
        made = {image["id"].partition(":")[0]: image for image in outcome.document["images"]}
        with Store(place.store) as store:
            trees = {name: layer_world.seen_of(image, store) for name, image in made.items()}
        for name, tree in trees.items():
            alike = trees["of-single" if name.startswith("of-") else "single"]
            assert tree == alike, f"{seed} {name}: {sorted(path for path in tree if tree[path] != alike.get(path))[:9]}"
            compared += 1
    assert compared > 5 * len(SEEDS)


# ---- one by one


LINKED = [
    SampleFile("usr/lib/first", b"the same " * 9, mode=0o755),
    SampleFile("usr/lib/second", kind="hardlink", target="usr/lib/first", mode=0o755),
    SampleFile("usr/lib/third", kind="hardlink", target="usr/lib/first", mode=0o755),
]


@pytest.mark.parametrize("layers", ["shared", "single", "per-package"])
@pytest.mark.parametrize(
    ("entry", "first"),
    [
        ({"type": "absent"}, None),
        ({"content": "mine"}, b"mine"),
        ({"type": "symlink", "target": "/etc"}, None),
    ],
)
def test_other_names_of_a_file_stay_what_they_were(
    place: Workplace, layers: str, entry: dict[str, str], first: bytes | None
) -> None:
    key = SigningKey.generate("own@k.rsa.pub")
    make_repository(place.folder / "own", "3.22", "own", "x86_64", [make_apk("linked", files=LINKED, key=key)], key)
    key.write_public(place.folder / "own")
    own = {"name": "own", "url": "own/v{alpine}/own", "key": "own/own@k.rsa.pub"}
    image = {"base": "packages", "arch": ["x86_64"], "matrix": {"alpine": ["3.22"]}, "tag": "1", "layers": layers}
    image |= {"repositories": [own], "packages": ["linked"], "files": [{"path": "/usr/lib/first", **entry}]}
    place.write(json.dumps({"name": "f", "images": {"one": image}}))
    outcome = place.build("-q")
    assert outcome.code == 0, outcome.err
    tree = tree_of(place, "one:1")
    assert tree.read("usr/lib/first") == first
    assert tree.read("usr/lib/second") == tree.read("usr/lib/third") == b"the same " * 9
    assert tree.nodes["usr/lib/third"].target == "usr/lib/second"


def test_a_file_where_a_folder_is_wanted_is_a_mistake_in_the_family_file(place: Workplace) -> None:
    place.write(place.file.read_text() + "    files:\n      - {path: /etc/passwd/x, content: a}\n")
    outcome = place.build("-q")
    assert outcome.code == 2
    assert "sixsmith.yaml:8:" in outcome.err and "/etc/passwd is a file where a directory is needed" in outcome.err
    assert "`type: absent`" in outcome.err
