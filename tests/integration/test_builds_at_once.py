"""Builds of real packages that are killed, that run beside each other, and whose store rots: the next build gives the same digests.

`SIXSMITH_CRASH_ROUNDS` says how many builds are killed, 3 if it is not set. The moments are spread over the whole of a build, whose
time is measured first.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_layers_built import APART, Real

from commandline import Outcome, clean_environment, digests, files_below, middle_of_data
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest
from sixsmith.oci.spec import INDEX, Descriptor
from sixsmith.oci.validate import validate_image

pytestmark = pytest.mark.data

ROUNDS = int(os.environ.get("SIXSMITH_CRASH_ROUNDS", "3"))


def write_family(place: Real, packages: list[str]) -> None:
    cells = {
        "base": "packages",
        "arch": ["x86_64"],
        "matrix": {"alpine": ["3.19"], "s6-overlay": ["3.2.1.0"]},
        "tag": "1",
    }
    cells |= {"packages": ["alpine-baselayout", "busybox-binsh", *packages], "repositories": ["main"]}
    rooted = {
        "base": "minirootfs",
        "arch": ["x86_64"],
        "matrix": {"alpine": ["3.16"], "s6-overlay": ["2.1.0.2"]},
        "tag": "1",
    }
    rooted["env"] = {"LIKE": " ".join(packages)}
    family = {"shared": cells, "single": {**cells, "layers": "single"}, "rooted": rooted}
    place.write(
        json.dumps({"name": "f", "images": {**family, "child": {"from": "shared", "tag": "1", "env": {"A": "b"}}}})
    )


def start(place: Real, *options: str) -> subprocess.Popen[bytes]:
    command = place.program("build", *place.options(), "--json", "-q", *options)
    environment = clean_environment(place.folder, {})
    return subprocess.Popen(
        command, cwd=place.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def seconds_of(place: Real) -> float:
    """How long an undisturbed build takes."""
    begun = time.monotonic()
    with start(place) as child:
        assert child.wait() == 0
    return time.monotonic() - begun


def kill_after(place: Real, seconds: float) -> bool:
    """Starts a build and kills it; whether it was still at work."""
    with start(place) as child:
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        ended = child.wait()
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


@pytest.fixture
def places(tmp_path: Path, data: Path) -> tuple[Real, Real]:
    """One whose builds are disturbed, and one with a store of its own whose are not."""
    found = []
    for name in ("disturbed", "calm"):
        (tmp_path / name).mkdir()
        found.append(Real(tmp_path / name, data))
    return found[0], found[1]


def test_builds_killed_at_any_moment(places: tuple[Real, Real]) -> None:
    """Each wants other packages, so that all write; every third finds no store. Afterwards the store is whole each time, and the
    same build gives what it gives in a store that nobody disturbed."""
    place, calm = places
    names = [name for name in place.names("main") if name not in APART]
    chance = random.Random(50)
    hits, lengths = 0, {}
    for turn in range(ROUNDS):
        cold = turn % 3 == 0
        packages = chance.sample(names, 25)
        for each in places:
            write_family(each, packages)
        if cold:
            shutil.rmtree(place.store, ignore_errors=True)
            shutil.rmtree(place.dist, ignore_errors=True)
        if cold not in lengths:
            lengths[cold] = seconds_of(calm)  # which is as cold, or as warm, by now
        right = calm.build("--json", "-q")
        ended = chance.uniform(0.0, lengths[cold])
        killed = kill_after(place, ended)
        hits += killed
        if not killed:
            lengths[cold] = min(lengths[cold], ended)  # the machine was slower when it was measured
        assert place.damages() == []
        again = place.build("--json", "-q")
        assert again.code == 0, again.err
        assert digests(again) == digests(right)
        assert files_below(place.dist) == files_below(calm.dist)
        assert place.damages() == []
    assert hits >= max(1, ROUNDS // 5), "most builds were done before they were killed: the test proves little"


def test_builds_beside_each_other(places: tuple[Real, Real]) -> None:
    """Four processes, one empty store, twice the same family and twice others."""
    place, calm = places
    names = [name for name in place.names("main") if name not in APART]
    chance = random.Random(4)
    others = [names[:15], names[:15], chance.sample(names, 15), chance.sample(names, 15)]
    running, right = [], []
    for number, packages in enumerate(others):
        write_family(place, packages)
        place.file.rename(place.folder / f"{number}.yaml")
        write_family(calm, packages)
        right.append(digests(calm.build("--json", "-q")))
    for number in range(len(others)):
        running.append(start(place, "-f", f"{number}.yaml", "-o", f"dist{number}"))
    for number, child in enumerate(running):
        with child:
            out, _ = child.communicate(timeout=200)
            assert child.returncode == 0
            assert digests(Outcome(0, out.decode(), "")) == right[number]
    assert place.damages() == []
    assert files_below(place.folder / "dist0") == files_below(place.folder / "dist1")


# ---- upkeep


def test_gc_keeps_what_tags_need_and_du_adds_up(places: tuple[Real, Real]) -> None:
    """After a family moved on: what only its former images needed goes, its tags stay whole, and the next build is the same."""
    place, _ = places
    names = [name for name in place.names("main") if name not in APART]
    for packages in (names[:9], names[9:18]):
        write_family(place, packages)
        built = place.build("--json", "-q")
        assert built.code == 0, built.err
    before = place.run("store", "du", "--json", *place.options()[:2]).document["bytes"]
    assert sum(before.values()) == bytes_below(*(place.store / name for name in ("blobs", "records", "packs", "tmp")))
    roots = place.roots()
    freed = place.run("store", "gc", "--json", *place.options()[:2]).document["freed"]
    after = place.run("store", "du", "--json", *place.options()[:2]).document["bytes"]
    assert freed == sum(before.values()) - sum(after.values()) >= before["cache"] > 0
    assert (after["images"], after["cache"], place.roots()) == (before["images"], 0, roots)
    assert place.damages() == []
    with Store(place.store) as store:
        for digest in roots.values():
            root = Digest(digest)
            assert validate_image(store, Descriptor(INDEX, root, store.size(root)), deep=True) == []
    shutil.rmtree(place.dist)
    assert digests(place.build("--json", "-q")) == digests(built)


def bytes_below(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


# ---- bit rot


def rot(path: Path, at: int | None = None) -> None:
    """One bit is another, of the byte `at` or in the middle; size and time of change are what they were."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def entries(place: Real, images: Mapping[str, Any]) -> dict[str, Path]:
    """One file of the store of each kind, by what `store verify` calls it."""
    found: dict[str, Path] = {}
    with Store(place.store) as store:
        for layer in (layer for image in images.values() for layer in image["layers"]):
            found[f"{layer['kind']} layer"] = store.path(Digest(layer["digest"]))
        found["manifest"] = store.path(Digest(images["shared"]["digest"]))
    for folder in sorted((place.store / "records").iterdir()):
        found[f"record {folder.name}"] = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    found["pack"] = max((place.store / "packs").iterdir(), key=lambda path: path.stat().st_size)
    used = {layer["digest"][7:] for image in images.values() for layer in image["layers"]}
    lonely = [path for path in sorted((place.store / "blobs/sha256").iterdir()) if path.name not in used]
    found["package data"] = middle_of_data(place.store)[0]
    found["overlay tarball"] = next(path for path in lonely if path.read_bytes()[:6] == b"\xfd7zXZ\0")
    return found


def test_rot_is_named_by_verify_and_never_becomes_an_image(places: tuple[Real, Real]) -> None:
    """Of each kind of entry one is damaged, so that nothing but its bytes tell. `store verify` names it; the build of a family that
    has moved on makes it again where it needs it, and ends with the right digests; `verify --remove` takes away the rest.

    (That a finished image is still whole is believed of the size and time of change of its blobs: `test_lock_vault` has that.)"""
    place, calm = places
    names = [name for name in place.names("main") if name not in APART]
    write_family(place, names[:12])
    built = place.build("--json", "-q")
    images = {image["id"].partition(":")[0]: image for image in built.document["images"]}
    kinds = entries(place, images)
    assert len(kinds) >= 11, sorted(kinds)
    shutil.copytree(place.store, place.folder / "whole")
    for each in places:
        write_family(each, names[:14])
    right = digests(calm.build("--json", "-q"))
    for kind, path in kinds.items():
        shutil.rmtree(place.store)
        shutil.copytree(place.folder / "whole", place.store)
        shutil.rmtree(place.dist, ignore_errors=True)
        rot(path, middle_of_data(place.store)[1] if kind == "package data" else None)
        damages = place.run("store", "verify", "--store", place.store, "--json")
        assert damages.code == 4
        (named,) = damages.document["damaged"]
        assert (path.name in named) or (path.parent.name == "packs" and named.startswith("record ")), f"{kind}: {named}"
        assert kind != "package data" or named.startswith("record data/")
        again = place.build("--json", "-q")
        assert again.code == 0, f"{kind}: {again.err}"
        assert digests(again) == right, kind
        assert laid_is_sound(place), kind
        place.run("store", "verify", "--remove", "--store", place.store)
        assert place.damages() == [] or kind == "manifest", kind  # an older image's, which nobody builds any more


def laid_is_sound(place: Real) -> bool:
    """Whether every blob of the layouts is what its name says."""
    blobs = place.dist.glob("*/blobs/sha256/*")
    return all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in blobs)
