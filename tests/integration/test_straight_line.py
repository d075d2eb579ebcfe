"""What decides an image's bytes, end to end: overlapping files, locks of parents and points, tags, and lost blobs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from commandline import Workplace, digests
from sixsmith.bases import ImageBase
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest, hex_of
from sixsmith.rootfs.tree import Tree


def tree_of(place: Workplace, reference: str) -> Tree:
    with Store(place.store) as store:
        index: dict[str, Any] = json.loads(store.read(store.roots()[reference]))
        return ImageBase(store, Digest(index["manifests"][0]["digest"]), "image", reference).tree()


def test_a_folder_becomes_the_root_of_the_image(place: Workplace) -> None:
    (place.folder / "rootfs/etc/deep").mkdir(parents=True)
    (place.folder / "rootfs/etc/deep/file").write_text("here")
    place.write(
        "name: f\nimages:\n  one:\n    arch: [x86_64]\n    matrix: {alpine: [3.22]}\n"
        '    files: [{path: /, source: ./rootfs, mode: "0700"}]\n'
    )
    assert place.build().code == 0
    tree = tree_of(place, "one:3.22")
    assert tree.read("etc/deep/file") == b"here"
    assert tree.find("bin") is not None, "the base's files are still there"


def test_a_secret_keeps_its_mode_below_another_source(place: Workplace) -> None:
    (place.folder / "secret").write_text("s")
    (place.folder / "conf").mkdir()
    (place.folder / "conf/other").write_text("o")
    place.write(
        "name: f\nimages:\n  one:\n    arch: [x86_64]\n    matrix: {alpine: [3.22]}\n    files:\n"
        '      - {path: /srv/secret, source: ./secret, mode: "0600", owner: "7", group: "8"}\n'
        "      - {path: /srv, source: ./conf}\n"
    )
    assert place.build().code == 0
    node = tree_of(place, "one:3.22").find("srv/secret")
    assert node is not None and (node.mode, node.uid, node.gid) == (0o600, 7, 8)


def test_an_image_over_its_budget_is_refused_however_often(place: Workplace) -> None:
    text = "name: f\nimages:\n  one:\n    arch: [x86_64]\n    matrix: {alpine: [3.22]}\n    budget: {BUDGET}\n"
    place.write(text.replace("BUDGET", "size: 1K, layers: 100"))
    for _ in range(2):
        done = place.build()
        assert done.code == 1
        assert "one:3.22/x86_64: size " in done.err and "over the budget of 1,024 bytes" in done.err
        assert "layers" not in done.err.partition("error:")[2]
    place.write(text.replace("BUDGET", "size: 100M, layers: 100, packages: 100"))
    assert place.build().code == 0


def test_what_is_installed_already_is_in_the_world_when_it_is_asked_for(place: Workplace) -> None:
    """`apk add musl` prints OK and writes it to the world: `apk del` of what needed it does not take it away any more."""
    place.write(
        "name: f\ndefaults: {arch: [x86_64]}\nimages:\n"
        "  one: {matrix: {alpine: [3.22]}, packages: [bash]}\n"
        "  asks: {from: one, packages: [musl]}\n"
        "  again: {from: one, packages: [bash]}\n"
        "  base: {matrix: {alpine: [3.22]}, packages: [musl]}\n"
    )
    assert place.build().code == 0
    worlds = {name: (tree_of(place, f"{name}:3.22").read("etc/apk/world") or b"").decode().split() for name in IMAGES}
    assert "musl" not in worlds["one"]
    assert worlds["asks"] == sorted([*worlds["one"], "musl"])
    assert worlds["again"] == worlds["one"]
    assert "musl" in worlds["base"] and "bash" not in worlds["base"]
    databases = {name: tree_of(place, f"{name}:3.22").read("lib/apk/db/installed") for name in ("one", "asks")}
    assert databases["one"] == databases["asks"]


IMAGES = ("one", "asks", "again", "base")


def test_a_world_that_nobody_asked_to_change_stays_as_it_is_written(place: Workplace) -> None:
    """`=~` and `~` are the same to apk; and without packages an image is not about apk at all."""
    head = "name: f\ndefaults: {arch: [x86_64]}\nimages:\n"
    place.write(head + "  one: {matrix: {alpine: [3.22]}, packages: [bash]}\n")
    assert place.build().code == 0
    world = (tree_of(place, "one:3.22").read("etc/apk/world") or b"").decode().replace("bash\n", "bash=~5\n")
    place.write(
        head + "  one: {matrix: {alpine: [3.22]}, packages: [bash],\n"
        f"    files: [{{path: /etc/apk/world, content: {json.dumps(world)}}}]}}\n"
        "  plain: {from: one, env: {A: b}}\n"
        "  busy: {from: one, packages: [busybox]}\n"
        "  bare: {matrix: {alpine: [3.22]}, base: none, env: {A: b}}\n"
    )
    done = place.build("--json")
    assert done.code == 0, done.err
    layers = {image["id"].partition(":")[0]: image["layers"] for image in done.document["images"]}
    own = [layer["digest"] for layer in layers["one"]]
    assert [layer["digest"] for layer in layers["plain"]] == own
    assert [layer["digest"] for layer in layers["busy"]] == own
    assert tree_of(place, "busy:3.22").read("etc/apk/world") == world.encode()
    assert "etc/apk/world" not in tree_of(place, "bare:3.22")


FAMILY = """\
name: f
defaults: {arch: [x86_64]}
images:
  one:
    matrix: {alpine: [3.22], s6-overlay: [3.2.3.0]}
    packages: [bash]
    services: ./services
    repositories: [main, community, {name: local, url: ./apks}]
  two:
    from: one
    packages: [su-exec]
"""


@pytest.fixture
def checkout(place: Workplace) -> Workplace:
    """A family with a folder of services and a repository of its own."""
    service = place.folder / "services/hello"
    service.mkdir(parents=True)
    (service / "type").write_text("longrun\n")
    (service / "run").write_text("#!/bin/sh\nexec sleep 1000\n")
    (service / "run").chmod(0o755)
    shutil.copytree(place.world.mirror / "v3.22/main", place.folder / "apks")
    place.write(FAMILY)
    return place


def test_plans_and_locks_hold_in_another_folder(checkout: Workplace, tmp_path: Path) -> None:
    assert checkout.run("lock", *checkout.options()).code == 0
    there = tmp_path / "elsewhere"
    shutil.copytree(checkout.folder, there, ignore=shutil.ignore_patterns("store"))
    other = Workplace(there, checkout.world)
    other.write(FAMILY)
    one, two = checkout.build("--json"), other.build("--json", "--frozen")
    assert two.code == 0, two.err
    assert digests(one) == digests(two)
    ids = [[image["plan_id"] for image in outcome.document["images"]] for outcome in (one, two)]
    assert ids[0] == ids[1]


def test_a_parent_that_moved_on_takes_its_children_out_of_the_lock(checkout: Workplace) -> None:
    assert checkout.run("lock", *checkout.options()).code == 0
    checkout.write(FAMILY.replace("[bash]", "[bash, tini]"))
    built = checkout.build("two")
    assert built.code == 0
    assert "two:3.22-3.2.3.0/x86_64: warning: stands on one:3.22-3.2.3.0/x86_64, which is not locked" in built.err
    assert b"tini\n" in (tree_of(checkout, "two:3.22-3.2.3.0").read("etc/apk/world") or b"")
    assert checkout.build("two", "--frozen").code == 1


def test_two_cells_of_one_tag_are_told_at_their_place(place: Workplace) -> None:
    place.write(
        "name: f\nimages:\n  one:\n    arch: [x86_64]\n    packages: [bash]\n"
        '    matrix: {alpine: [3.22], s6-overlay: [3.2.3.0, 2.0.0.1]}\n    tag: "{version:bash}"\n'
    )
    built = place.build()
    assert built.code == 2
    assert "one:3.22-3.2.3.0/x86_64 and one:3.22-2.0.0.1/x86_64 would both be one:" in built.err
    assert "sixsmith.yaml:6:" in built.err


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_lost_config_is_made_again(place: Workplace, damage: str) -> None:
    before = digests(place.build("--json"))
    with Store(place.store) as store:
        index = json.loads(store.read(store.roots()["one:3.22-3.2.3.0"]))
        manifest = json.loads(store.read(Digest(index["manifests"][0]["digest"])))
        config = place.store / "blobs/sha256" / hex_of(Digest(manifest["config"]["digest"]))
    whole = config.read_bytes()
    config.unlink()
    if damage == "changed":
        config.write_bytes(b"x" * len(whole))
    again = place.build("--json")
    assert again.code == 0, again.err
    assert digests(again) == before
    assert config.read_bytes() == whole
    assert place.damages() == []


def test_every_damaged_layer_is_made_again_by_the_same_command(place: Workplace) -> None:
    before = digests(place.build("--json"))
    with Store(place.store) as store:
        index = json.loads(store.read(store.roots()["one:3.22-3.2.3.0"]))
        manifest = json.loads(store.read(Digest(index["manifests"][0]["digest"])))
    for layer in manifest["layers"]:
        blob = place.store / "blobs/sha256" / hex_of(Digest(layer["digest"]))
        whole = blob.read_bytes()
        blob.unlink()
        blob.write_bytes(b"x" * len(whole))
        again = place.build("--json")
        assert again.code == 0, again.err
        assert digests(again) == before
        assert blob.read_bytes() == whole
