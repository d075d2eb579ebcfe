"""Layers of images that were built from real files: which are Alpine's own bytes, which are shared, which move, and that no cut of
the same packages is another tree.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import deflate
import msgspec
import pytest

import layer_world as world
from commandline import Outcome, Workplace
from sixsmith.bases import ImageBase
from sixsmith.io.store import Store
from sixsmith.testing.keys import SigningKey
from sixsmith.testing.loopback import FileServer
from sixsmith.testing.packages import make_apk
from sixsmith.testing.repository import make_repository

pytestmark = pytest.mark.data

SETS = 40 if os.environ.get("SIXSMITH_EXHAUSTIVE") else 4
APART = {"vlan", "network-extras", "bonding"}
"""Of the packages at hand: they exclude `ifupdown-ng`, which others need."""


class Real(Workplace):
    """A folder to build in from the real files."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.file = folder, folder / "sixsmith.yaml"
        self.store, self.dist = folder / "store", folder / "dist"
        upstream = data / "upstream"
        self.alpine = upstream / "alpine"
        self.overlays = upstream / "s6-overlay"
        key = str(upstream / "keys/bench-00000001.rsa.pub")
        self.bench = {"name": "bench", "url": str(self.alpine / "v3.19/bench"), "key": key}

    def options(self, **_: Any) -> list[str]:
        return ["--store", str(self.store), "--mirror", str(self.alpine), "--overlay-mirror", str(self.overlays)]

    def names(self, repository: str) -> list[str]:
        files = sorted((self.alpine / "v3.19" / repository / "x86_64").glob("*.apk"))
        return [found[1] for file in files if (found := re.match(r"(.+)-[^-]+-r\d+\.apk", file.name)) is not None]

    def make(self, images: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Builds these images of Alpine 3.19 from its packages; what `build --json` says of each, by image name."""
        cells = {"base": "packages", "arch": ["x86_64"], "matrix": {"alpine": ["3.19"]}, "tag": "1"}
        whole = {name: image if "from" in image else {**cells, **image} for name, image in images.items()}
        self.write(json.dumps({"name": "f", "images": whole}))
        outcome: Outcome = self.build("--json", "-q")
        assert outcome.code == 0, outcome.err
        return {image["id"].partition(":")[0]: image for image in outcome.document["images"]}


@pytest.fixture
def place(tmp_path: Path, data: Path) -> Real:
    return Real(tmp_path, data)


# ---- Alpine's own bytes


def promised(file: Path) -> tuple[str, str]:
    """`datahash`, as Python's own tools find it in a package, and the sha256 of all that follows the control segment."""
    raw = file.read_bytes()
    rest = io.BytesIO(raw)
    starts = []
    while rest.tell() < len(raw):  # three gzip members
        starts.append(rest.tell())
        rest.seek(starts[-1] + end_of_member(raw[starts[-1] :]))
    assert len(starts) == 3
    control = gzip.decompress(raw[starts[1] : starts[2]]) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(control)) as archive:
        info = archive.extractfile(".PKGINFO")
        assert info is not None
        (datahash,) = re.findall(r"^datahash = ([0-9a-f]{64})$", info.read().decode(), re.MULTILINE)
    return f"sha256:{datahash}", f"sha256:{hashlib.sha256(raw[starts[2] :]).hexdigest()}"


def end_of_member(raw: bytes) -> int:
    member = zlib.decompressobj(31)
    member.decompress(raw)
    return len(raw) - len(member.unused_data)


def test_the_digest_of_every_verbatim_layer_is_the_datahash(place: Real) -> None:
    """Over all 3.19 packages at hand, by each strategy that has such layers."""
    main = {"packages": [name for name in place.names("main") if name not in APART], "repositories": ["main"]}
    bench = {"packages": place.names("bench"), "repositories": [place.bench]}
    apart = {"packages": ["vlan", "network-extras"], "repositories": ["main"], "layers": "per-package"}
    images = {f"{what}-each": {**image, "layers": "per-package"} for what, image in (("main", main), ("bench", bench))}
    made = place.make({**images, "main": main, "bench": bench, "apart": apart})
    files = {
        file.name.removesuffix(".apk"): promised(file)
        for repository in ("main", "bench")
        for file in (place.alpine / "v3.19" / repository / "x86_64").glob("*.apk")
    }
    seen: set[str] = set()
    for layer in (layer for image in made.values() for layer in image["layers"] if layer["kind"] == "verbatim"):
        (name,) = layer["names"]
        assert layer["digest"] == files[name.replace(" ", "-")][0] == files[name.replace(" ", "-")][1]
        seen.add(name)
    others = {
        name: layer["reason"]
        for image in made.values()
        for layer in image["layers"]
        if layer["kind"] == "spliced" and len(layer["names"]) == 1
        for name in layer["names"]
        if name not in seen
    }
    assert len(seen) > 110
    assert all(reason.startswith("written anew: ") for reason in others.values()), others
    assert len(others) < 9


def test_minirootfs_and_old_overlays_are_themselves_and_the_overlay_is_the_same_everywhere(place: Real) -> None:
    overlays = ("1.21.4.0", "2.1.0.2", "3.2.1.0")
    axes = {"alpine": ["3.8", "3.12", "3.16", "3.20"], "s6-overlay": list(overlays)}
    bare = {"base": "minirootfs", "matrix": axes, "arch": ["x86_64"], "tag": "{alpine}-{s6-overlay}"}
    more = {**bare, "matrix": {**axes, "alpine": ["3.16"]}, "packages": ["bash"], "repositories": ["main"]}
    more["files"] = [{"path": "/etc/s6/init/x", "content": "in the overlay's folders"}]
    place.write(json.dumps({"name": "f", "images": {"bare": bare, "more": more}}))
    outcome = place.build("--json", "-q")
    assert outcome.code == 0, outcome.err
    found: dict[str, set[str]] = {}
    for image in outcome.document["images"]:
        _, alpine, overlay = re.split("[:-]", image["reference"])
        base, laid = image["layers"][:2]
        assert (base["kind"], laid["kind"]) == ("base", "overlay")
        found.setdefault(overlay, set()).add(laid["digest"])
        (rootfs,) = (place.alpine / f"v{alpine}/releases/x86_64").glob("alpine-minirootfs-*.tar.gz")
        assert (base["digest"] == digest_of_file(rootfs)) == (alpine != "3.8"), base["reason"]
    assert {overlay: len(digests) for overlay, digests in found.items()} == dict.fromkeys(overlays, 1)
    for old in overlays[:2]:
        assert found[old] == {digest_of_file(place.overlays / f"v{old}/s6-overlay-amd64.tar.gz")}


def digest_of_file(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


# ---- what moves


@pytest.mark.parametrize(("size", "kind"), [(400_000, "verbatim"), (4_000, "spliced")])
def test_a_changed_application_moves_its_layer_and_the_database(place: Real, size: int, kind: str) -> None:
    key = SigningKey.generate("own@k.rsa.pub")
    key.write_public(place.folder / "own")
    own = {"name": "own", "url": "own/v{alpine}/own", "key": "own/own@k.rsa.pub"}
    image = {"packages": [*place.names("bench"), "app"], "repositories": [place.bench, own]}
    images = {
        "overlaid": {**image, "matrix": {"alpine": ["3.19"], "s6-overlay": ["3.2.1.0"]}, "layers": {"budget": 18}}
    }
    made = []
    for version in ("1.0-r0", "1.1-r0"):
        content = random.Random(version).randbytes(size)
        app = make_apk("app", version, files={"usr/bin/app": content}, key=key)
        make_repository(place.folder / "own", "3.19", "own", "x86_64", [app], key)
        made.append(place.make(images)["overlaid"]["layers"])
    before, after = ([layer["digest"] for layer in layers] for layers in made)
    assert len(before) == len(after)
    moved = [layer for number, layer in enumerate(made[1]) if before[number] != after[number]]
    assert [layer["kind"] for layer in moved] == [kind, "top"]
    assert "app 1.1-r0" in moved[0]["names"]


# ---- each thing once


def test_a_family_takes_each_package_once(place: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """18 cells over one set of packages: each is fetched once, inflated as often as for one cell, compressed once if at all."""
    inflated: Counter[str] = Counter()
    packed: Counter[str] = Counter()

    def count(name: str, counter: Counter[str], least: int) -> None:
        real = getattr(deflate, name)

        def counted(data: Any, *more: Any) -> Any:
            if len(data) >= least:
                counter[hashlib.sha256(data).hexdigest()] += 1
            return real(data, *more)

        monkeypatch.setattr(deflate, name, counted)

    count("gzip_decompress", inflated, 0)
    count("gzip_compress", packed, 16 << 10)  # smaller members are not worth keeping
    cells = {"packages": place.names("bench"), "repositories": [place.bench]}
    cells["matrix"] = {"alpine": ["3.19"], "s6-overlay": ["2.1.0.2", "3.2.1.0"]}
    images = {f"i{number}": {**cells, "tag": "{s6-overlay}", "env": {"N": str(number)}} for number in range(9)}
    with FileServer(place.alpine.parent) as server:
        place.bench["url"] = f"{server.url}/alpine/v3.19/bench"
        place.make(images)
        fetched = Counter(request.path for request in server.requests if request.path.endswith(".apk"))
    assert len(fetched) == 61 and set(fetched.values()) == {1}
    data = {promised(file)[1].removeprefix("sha256:") for file in (place.alpine / "v3.19/bench/x86_64").glob("*.apk")}
    times = Counter(inflated[digest] for digest in data)
    assert times[1] + times[2] == len(data)
    assert times[2] < 8  # big ones that were to be layers and then are none
    assert packed and set(packed.values()) == {1}


# ---- what others stand on


def test_what_is_remembered_of_a_parent_is_what_its_layers_merge_to(place: Real) -> None:
    chance = random.Random(7)
    names = [name for name in place.names("main") if name not in APART]
    images: dict[str, Any] = {}
    for number, (alpine, overlay) in enumerate([("3.8", "2.1.0.2"), ("3.12", "2.1.0.2"), ("3.20", "3.2.1.0")]):
        matrix = {"alpine": [alpine], "s6-overlay": [overlay]}
        images[f"parent-mini{number}"] = {"base": "minirootfs", "matrix": matrix}
        hello = [{"path": "/etc/hello", "content": "hello"}]
        images[f"grandchild-mini{number}"] = {"from": f"parent-mini{number}", "tag": "1", "files": hello}
    for number, image in enumerate(random_images(chance, names)):
        images[f"parent{number}"] = {**image, "layers": chance.choice(list(cuts(chance).values()))}
        child = {"tag": "1", "repositories": ["main"]}
        images[f"child{number}"] = {**child, "from": f"parent{number}", "packages": [chance.choice(names)]}
        images[f"grandchild{number}"] = {**child, "from": f"child{number}", "packages": [chance.choice(names)]}
    made = place.make(images)
    seen = 0
    with Store(place.store) as store:
        for name, image in made.items():
            manifest = image["digest"]
            if name.startswith("grandchild"):
                assert store.record("tree", manifest) is None
                continue
            parent = ImageBase(store, manifest, "parent", name)
            remembered = parent.tree()
            database = store.record("database", manifest)
            assert parent.facts.installed
            for kind in ("tree", "database"):
                assert store.record(kind, manifest) is not None
                store.record_file(kind, manifest).unlink(missing_ok=True)
                store.keep(kind, manifest, b"\xc1")  # which is nothing
            again = ImageBase(store, manifest, "parent", name)
            merged = again.tree()
            assert world.exactly(merged) == world.exactly(remembered)
            assert {path: merged.read(path) for path in merged.nodes} == {
                path: remembered.read(path) for path in remembered.nodes
            }
            assert msgspec.msgpack.decode(database) == {
                "installed": b"\n\n".join(
                    record.split(b"\nF:")[0] for record in remembered.read("lib/apk/db/installed").split(b"\n\n")
                ),
                "world": remembered.read("etc/apk/world"),
            }
            seen += len(remembered)
    assert seen > 1000


# ---- every cut is the same tree


def cuts(chance: random.Random) -> dict[str, Any]:
    """Ways to cut one image, the one-layer image first."""
    budgets = {f"budget-{number}": {"budget": str(number)} for number in chance.sample(range(2, 128), 2)}
    return {"single": "single", "shared": "shared", "per-package": "per-package", **budgets}


def random_images(chance: random.Random, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for _ in range(SETS):
        image: dict[str, Any] = {"repositories": ["main"], "matrix": {"alpine": ["3.19"]}}
        image["packages"] = ["alpine-baselayout", *chance.sample(names, chance.randint(1, 40))]
        if overlay := chance.choice([None, "2.1.0.2", "3.2.1.0"]):
            image["matrix"] = {"alpine": ["3.19"], "s6-overlay": [overlay]}
            image["packages"].append("busybox-binsh")
        image["compression"] = chance.choice(["gzip", "gzip", "zstd"])
        yield image


def test_random_sets_of_packages_merge_to_one_tree_by_every_cut(place: Real) -> None:
    chance = random.Random(19)
    images = {}
    for number, image in enumerate(random_images(chance, [name for name in place.names("main") if name not in APART])):
        images |= {f"set{number}-{cut}": {**image, "layers": how} for cut, how in cuts(chance).items()}
    made = place.make(images)
    with Store(place.store) as store:
        for number in range(SETS):
            alike = {
                name: world.seen_of(image, store) for name, image in made.items() if name.startswith(f"set{number}-")
            }
            wanted = alike[f"set{number}-single"]
            for name, tree in alike.items():
                assert tree == wanted, f"{name}: {sorted(path for path in tree if tree[path] != wanted.get(path))[:9]}"
                budget = re.search(r"budget-(\d+)", name)
                assert len(made[name]["layers"]) <= (int(budget[1]) if budget else 127)
