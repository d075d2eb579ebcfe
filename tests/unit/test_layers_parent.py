"""A foreign image as a parent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import layer_world as world
from layer_world import member
from sixsmith.bases import ImageBase
from sixsmith.errors import DigestMismatch, FormatError
from sixsmith.io.store import Store
from sixsmith.layers.merge import apply_nodes
from sixsmith.layers.plan import plan_layers
from sixsmith.layers.write import write_layers
from sixsmith.model.arch import ARCHES
from sixsmith.model.digest import digest_of
from sixsmith.oci.image import ImageSettings, make_image
from sixsmith.oci.reach import manifests_of
from sixsmith.oci.spec import DOCKER_CONFIG, DOCKER_INDEX, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor
from sixsmith.oci.validate import validate_image

ARM64 = ARCHES["aarch64"].platform


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def docker_image(store: Store, *archives: world.Archive) -> Descriptor:
    """What `docker push` uploads, in a manifest list beside an attestation."""

    def put(media_type: str, document: object) -> dict[str, object]:
        raw = json.dumps(document, indent=3).encode()
        return {"mediaType": media_type, "digest": store.put(raw), "size": len(raw)}

    config = {
        "architecture": "arm64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(archive.inflate()) for archive in archives]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "ADD"} for _ in archives],
    }
    layers = [
        {"mediaType": DOCKER_LAYER, "digest": store.put(archive.blob), "size": len(archive.blob)}
        for archive in archives
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": put(DOCKER_CONFIG, config),
        "layers": layers,
    }
    entries = [
        {**put(DOCKER_MANIFEST, {**manifest, "layers": []}), "platform": {"os": "unknown", "architecture": "unknown"}},
        {**put(DOCKER_MANIFEST, manifest), "platform": {"os": "linux", "architecture": "arm64"}},
    ]
    index = put(DOCKER_INDEX, {"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": entries})
    return Descriptor(DOCKER_INDEX, digest_of(store.read(str(index["digest"]))), int(str(index["size"])))  # type: ignore[arg-type]


def parent_of(store: Store, *archives: world.Archive) -> ImageBase:
    """The image's manifest for this architecture, as a base."""
    ((found, _),) = [
        (found, manifest) for found, manifest in manifests_of(store, docker_image(store, *archives)) if manifest.layers
    ]
    return ImageBase(store, found.digest, "image", "debian:12")


LOWER = world.Archive([member("a", "directory"), member("a/b", content=b"1"), member("a/c", content=b"2")])
UPPER = world.Archive([member("a", "directory", mode=0o700), member("a/.wh.b"), member("a/d", "symlink", target="c")])


def test_a_docker_image_is_read_and_built_upon(store: Store) -> None:
    parent = parent_of(store, LOWER, UPPER)
    below = parent.tree()
    assert sorted(below.nodes) == ["a", "a/c", "a/d"]
    assert below.nodes["a"].mode == 0o700
    assert below.read("a/d") == b"2"
    child = below.copy()
    child.write("a/new", b"3")
    child = apply_nodes(child, [child.nodes["a/new"]])
    plan = plan_layers(tree=child, base=parent.layers(), base_tree=below)
    layers = write_layers(plan, store)
    assert [layer.kind for layer in layers] == ["base", "base", "top"]
    assert layers[0].digest == LOWER.digest
    found = world.seen(world.unpacked(layers, store))
    found.pop("")
    assert found == world.seen(child)
    made = make_image(layers, ImageSettings(cmd=("x",)), platform=ARM64, created=0, parent=parent.config)
    store.put(made.config)
    store.put(made.manifest)
    assert validate_image(store, made.descriptor, deep=True) == []
    assert json.loads(made.config)["config"]["Env"] == ["PATH=/bin"]
    assert [step["created"][:4] for step in json.loads(made.config)["history"]] == ["2020", "2020", "1970"]
    single = write_layers(plan_layers(tree=child, base=parent.layers(), base_tree=below, strategy="single"), store)
    found = world.seen(world.unpacked(single, store))
    found.pop("")
    assert found == world.seen(child)


def test_a_parent_whose_layer_is_damaged(store: Store) -> None:
    archive = world.Archive([member("read by nobody before", content=b"1")])
    parent = parent_of(store, archive)
    path = store.path(archive.digest)
    path.chmod(0o644)
    path.write_bytes(archive.blob[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        parent.tree()


def test_a_parent_whose_layer_climbs_out(store: Store) -> None:
    hostile = world.Archive([member("a/../../b")])
    with pytest.raises(FormatError, match="climbs out of the root"):
        parent_of(store, hostile).tree()
