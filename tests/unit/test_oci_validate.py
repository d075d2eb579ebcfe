"""One broken image for each thing that can be wrong. Most of them pass every tool in common use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import layer_world as world
from layer_world import member
from sixsmith.io.store import Store
from sixsmith.layers.plan import BIG, plan_layers
from sixsmith.layers.write import write_layers
from sixsmith.model.arch import ARCHES, Platform
from sixsmith.model.compression import gzip_member
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import END_OF_ARCHIVE, padding, tar_header
from sixsmith.oci import validate
from sixsmith.oci.image import ImageSettings, make_image, make_index
from sixsmith.oci.spec import CONFIG, INDEX, LAYER_GZIP, MANIFEST, Descriptor
from sixsmith.oci.validate import validate_image
from sixsmith.rootfs.tree import Tree

AMD64, ARM64 = ARCHES["x86_64"].platform, ARCHES["aarch64"].platform
GOOD = [member("a", "directory"), member("a/b", content=b"x")]
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def tar(members: list[world.Member], end: bytes = END_OF_ARCHIVE) -> bytes:
    return b"".join(tar_header(entry) + content + padding(len(content)) for entry, content in members) + end


def raw_header(name: bytes, entry: world.TarEntry) -> bytes:
    """A header with a name that our writer would not write."""
    header = tar_header(entry)
    header = name.ljust(100, b"\0") + header[100:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def image(
    store: Store,
    *layers: bytes,
    config: Edit = lambda _: None,
    manifest: Edit = lambda _: None,
    pack: Callable[[bytes], bytes] = gzip_member,
) -> Descriptor:
    """An image of these tars, its documents changed before they are stored."""
    blobs = [pack(layer) for layer in layers]
    digests = [store.put(blob) for blob in blobs]
    document = {
        "os": "linux",
        "architecture": "amd64",
        "created": "2024-01-31T00:00:00Z",
        "config": {"Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [{"created": "2024-01-31T00:00:00Z"} for _ in layers],
    }
    config(document)
    stored = json.dumps(document).encode()
    listed: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": store.put(stored), "size": len(stored)},
        "layers": [
            {"mediaType": LAYER_GZIP, "digest": digest, "size": len(blob)}
            for digest, blob in zip(digests, blobs, strict=True)
        ],
    }
    manifest(listed)
    raw = json.dumps(listed).encode()
    return Descriptor(MANIFEST, store.put(raw), len(raw), AMD64)


def said(store: Store, descriptor: Descriptor) -> list[str]:
    """What validation says; the second look, from memory, says the same."""
    first = [str(problem) for problem in validate_image(store, descriptor)]
    assert [str(problem) for problem in validate_image(store, descriptor)] == first
    return first


def test_a_sound_image(store: Store) -> None:
    assert said(store, image(store, tar(GOOD), tar([member("a", "directory"), member("a/.wh.b")]))) == []


def test_what_we_build_is_sound(store: Store) -> None:
    tree, packages = Tree(), []
    for name, size in [("big", BIG), ("small", 5), ("other", 6)]:
        tree, package = world.install(tree, name, [*GOOD[:1], member(f"a/{name}", content=name.encode())], size=size)
        packages.append(package)
    tree.write("etc/x", b"y")
    for strategy in ("shared", "single", "per-package"):
        for compression in ("gzip", "zstd"):
            layers = write_layers(
                plan_layers(tree=tree, packages=packages, strategy=strategy), store, compression=compression
            )
            made = make_image(layers, ImageSettings(env={"A": ""}), platform=ARM64, created=0)
            store.put(made.config)
            store.put(made.manifest)
            index = make_index([made])
            store.put(index.raw)
            vouched = records(store)
            assert said(store, index.descriptor) == []
            assert records(store) == vouched  # nothing had to be looked into
            assert validate_image(store, index.descriptor, deep=True) == []
            assert records(store) == vouched  # and what a deep look finds is what was vouched for


def records(store: Store) -> dict[str, bytes]:
    """What is remembered of layers."""
    return {path.name: path.read_bytes() for path in (store.root / "records" / "validated").iterdir()}


def change(*path: str | int, to: Any) -> Edit:
    def edit(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("rootfs", "diff_ids", to=[digest_of(b"")]), "image layer 1: inflates to sha256:"),
        (lambda config: config["rootfs"]["diff_ids"].append(digest_of(b"")), "image config: 2 diff_ids for 1 layers"),
        (change("rootfs", "diff_ids", to=["x"]), "image config: config: 'rootfs.diff_ids': not a sha256 digest: 'x'"),
        (
            change("history", to=[{"created": "2024-01-31T00:00:00Z"}] * 2),
            "image config: the history has 2 layers, the manifest 1",
        ),
        (change("history", to=[{}]), "image config: history entry 1 has no 'created', at which umoci panics"),
        (
            change("history", 0, "created", to="yesterday"),
            "image config: history entry 1: 'created' is no RFC 3339 time",
        ),
        (change("created", to="2024"), "image config: 'created' is no RFC 3339 time: '2024'"),
        (change("architecture", to="arm64"), "image config: is for linux/arm64, the index says linux/amd64"),
        (change("config", "Env", to=["A"]), "image config: 'Env' has 'A', which is not NAME=VALUE"),
        (change("config", "Cmd", to="sh"), "image config: 'Cmd' is not a list of texts"),
        (lambda config: config.pop("os"), "image config: config: 'os' is missing"),
    ],
)
def test_a_config_that_does_not_fit(store: Store, edit: Edit, message: str) -> None:
    (found,) = said(store, image(store, tar(GOOD), config=edit))
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("layers", 0, "size", to=7), "image layer 1: blob sha256:"),
        (change("layers", 0, "mediaType", to="text/plain"), "image layer 1: media type 'text/plain' is no layer's"),
        (
            change("layers", 0, "mediaType", to=LAYER_GZIP.replace("gzip", "zstd")),
            "image layer 1: media type 'application/vnd.oci.image.layer.v1.tar+zstd' for gzip bytes",
        ),
        (change("layers", 0, "digest", to=digest_of(b"gone")), "image layer 1: blob sha256:"),
        (change("config", "size", to=1), "image config: blob sha256:"),
        (change("config", "digest", to=digest_of(b"gone")), "image config: blob sha256:"),
        (change("config", "mediaType", to="text/plain"), "image: the config's media type is 'text/plain'"),
        (
            change("mediaType", to=INDEX),
            "image: says its media type is 'application/vnd.oci.image.index.v1+json', its descriptor",
        ),
        (change("schemaVersion", to=1), "image: manifest: 'schemaVersion' is not 2"),
    ],
)
def test_a_manifest_that_does_not_fit(store: Store, edit: Edit, message: str) -> None:
    (found,) = said(store, image(store, tar(GOOD), manifest=edit))
    assert found.startswith(message)


LONG = [member("a", "directory"), member("a/b", content=b"x" * 2000)]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (tar([*GOOD, GOOD[1]]), "names 'a/b' twice"),
        (tar([member("a/b")]), "no layer up to this one lists the directory 'a'"),
        (tar([*GOOD, member("a/b/c")]), "'a/b/c' is below 'a/b', which is a file"),
        (tar([member("a", "symlink", target="/"), member("a/b")]), "'a/b' is below 'a', which is a symlink"),
        (tar([member("a", "directory"), member("a/../b")]), "'a/../b' climbs out"),
        (raw_header(b"/a", member("a")[0]) + END_OF_ARCHIVE, "'/a' is an absolute name"),
        (tar([member("a", "hardlink", target="/etc/passwd")]), "'a' is a hard link out of the layer, to '/etc/passwd'"),
        (tar([member("a", "hardlink", target="../x")]), "'a' is a hard link out of the layer, to '../x'"),
        (tar([member("a", "hardlink", target="x")]), "a hard link to 'x', which no layer up to this one has"),
        (
            tar([member("a", "directory"), member("b", "hardlink", target="a")]),
            "'b' is a hard link to the directory 'a'",
        ),
        (tar(LONG)[:2000], "layer: truncated in 'a/b'"),
        (tar(LONG)[:1100], "layer: truncated in 'a/b'"),
        (tar(GOOD, end=b""), "the archive ends without its end blocks: it may be truncated"),
        (tar(GOOD[:1], end=bytes(512)), "the archive ends without its end blocks: it may be truncated"),
        (b"", "the archive ends without its end blocks: it may be truncated"),
        (tar(GOOD[:1]) + tar(GOOD[1:]), "'a/b' stands after the end of the archive, where most readers do not look"),
        (tar([member(".wh.a"), member("a")]), "both hides and lays 'a'"),
        (tar([member(".wh.")]), "'.wh.' is no whiteout that the specification knows"),
        (tar([member(".wh..wh.plnk")]), "'.wh..wh.plnk' is no whiteout that the specification knows"),
        (b"no tar at all" * 100, "layer: damaged"),
    ],
)
def test_a_layer_that_unpackers_would_disagree_about(store: Store, layer: bytes, message: str) -> None:
    (found,) = said(store, image(store, layer))
    assert found.startswith(f"image layer 1: {message}")


def test_a_lower_layer_may_have_the_directory_and_the_link_target(store: Store) -> None:
    upper = tar([member("a/c", "hardlink", target="a/b")])
    assert said(store, image(store, tar(GOOD), upper)) == []


def test_a_layer_that_does_not_inflate(store: Store) -> None:
    whole = gzip_member(tar(LONG))
    for broken in (whole[:-20], whole[:30] + b"\0\0\0" + whole[33:]):
        (found,) = said(store, image(store, tar(LONG), pack=lambda _, broken=broken: broken))
        assert found.startswith("image layer 1: layer: ")


def test_a_thousand_faults_are_not_a_thousand_lines(store: Store) -> None:
    (*_, last) = found = said(store, image(store, tar([member("a"), *[member(f"a/{n}") for n in range(1000)]])))
    assert (len(found), last) == (21, "image layer 1: and 980 more of this kind")


class TestBlobs:
    def test_a_blob_with_other_bytes(self, store: Store) -> None:
        descriptor = image(store, tar(GOOD))
        manifest = json.loads(store.read(descriptor.digest))
        self.damage(store, manifest["config"]["digest"])
        self.damage(store, manifest["layers"][0]["digest"])
        found = [str(problem) for problem in validate_image(store, descriptor)]
        assert [text.partition(":")[0] for text in found] == ["image config", "image config", "image layer 1"]

    def test_a_layer_that_rots_later_is_found_by_a_deep_look(self, store: Store) -> None:
        descriptor = image(store, tar(GOOD))
        assert said(store, descriptor) == []
        self.damage(store, json.loads(store.read(descriptor.digest))["layers"][0]["digest"])
        assert validate_image(store, descriptor) == []
        (found,) = validate_image(store, descriptor, deep=True)
        assert "was damaged" in found.message

    def damage(self, store: Store, digest: Digest) -> None:
        path = store.path(digest)
        blob = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))


def test_layers_are_looked_into_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = image(store, tar(GOOD))
    assert validate_image(store, descriptor) == []
    monkeypatch.setattr(validate, "inflate_layer", lambda *_, **__: pytest.fail("looked again"))
    assert validate_image(store, descriptor) == []


def test_what_records_say_is_kept_in_memory_and_the_layer_is_still_missed(store: Store) -> None:
    descriptor = image(store, tar(GOOD))
    memory: dict[str, validate.Findings] = {}
    assert validate_image(store, descriptor, memory=memory) == []
    assert memory == {}, "found by looking, not in a record"
    assert validate_image(store, descriptor, memory=memory) == []
    assert len(memory) == 1
    for path in store.record_file("validated", "x").parent.iterdir():
        path.write_bytes(b"damaged")
    assert validate_image(store, descriptor, memory=memory) == []
    (layer,) = [key.partition("+")[0] for key in memory]
    store.discard(digest_of(store.read(Digest(layer))))
    (problem,) = validate_image(store, descriptor, memory=memory)
    assert "is missing" in problem.message


class TestIndexes:
    def index(self, store: Store, *entries: dict[str, Any], **more: Any) -> Descriptor:
        raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, **more}).encode()
        return Descriptor(INDEX, store.put(raw), len(raw))

    def entry(self, store: Store, platform: Platform | None = AMD64) -> dict[str, Any]:
        document = image(store, tar(GOOD)).document()
        document.pop("platform")
        if platform is not None:
            document["platform"] = {"os": platform.os, "architecture": platform.architecture}
        return document

    def test_a_sound_one(self, store: Store) -> None:
        assert said(store, self.index(store, self.entry(store))) == []

    def test_the_wrong_platform(self, store: Store) -> None:
        assert said(store, self.index(store, self.entry(store, ARM64))) == [
            "image linux/arm64 config: is for linux/amd64, the index says linux/arm64"
        ]

    def test_no_platform_twice_the_same_nothing_at_all(self, store: Store) -> None:
        twice = self.index(store, self.entry(store), self.entry(store))
        assert said(store, twice) == ["image linux/amd64: the index lists this platform twice"]
        without = self.index(store, self.entry(store, None))
        assert said(store, without) == ["image manifest 1: the index does not say its platform"]
        assert said(store, self.index(store)) == ["image: the index lists no manifests"]

    def test_the_wrong_media_type(self, store: Store) -> None:
        (found,) = said(store, self.index(store, self.entry(store), mediaType=MANIFEST))
        assert found.startswith("image: says its media type is 'application/vnd.oci.image.manifest.v1+json'")
        descriptor = self.index(store, self.entry(store))
        (found,) = said(store, Descriptor("text/plain", descriptor.digest, descriptor.size))
        assert found == "image: media type 'text/plain' is neither a manifest's nor an index's"

    def test_a_manifest_where_an_index_is_promised(self, store: Store) -> None:
        made = image(store, tar(GOOD))
        (found,) = said(store, Descriptor(INDEX, made.digest, made.size))
        assert found == "image: index: 'manifests' is not a list"

    def test_one_within_itself_ends(self, store: Store) -> None:
        inner = self.index(store, self.entry(store))
        for _ in range(6):
            inner = self.index(store, inner.document())
        assert any("indexes within indexes" in text for text in said(store, inner))


def test_everything_at_once(store: Store) -> None:
    def spoil(config: dict[str, Any]) -> None:
        config["history"] = [{}]
        config["rootfs"]["diff_ids"][1] = digest_of(b"")

    broken = tar([*GOOD, GOOD[1]], end=b"")
    found = said(store, image(store, broken, tar([member("x/../../y")]), config=spoil))
    assert [text.partition(":")[0] for text in found] == [
        "image config",
        "image config",
        "image layer 1",
        "image layer 1",
        "image layer 2",
        "image layer 2",
    ]
