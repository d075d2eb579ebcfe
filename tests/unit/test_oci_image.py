"""Config, manifest and index bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sixsmith.errors import FormatError
from sixsmith.model.arch import ARCHES, Platform
from sixsmith.model.digest import digest_of
from sixsmith.oci.image import (
    Healthcheck,
    Image,
    ImageSettings,
    inherited,
    make_image,
    make_index,
    rfc3339,
    settings_of,
)
from sixsmith.oci.spec import (
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    INDEX,
    LAYER_ZSTD,
    MANIFEST,
    Descriptor,
    Layer,
    parse_config,
    parse_index,
    parse_manifest,
)

AMD64, ARM64 = ARCHES["x86_64"].platform, ARCHES["aarch64"].platform
LAYERS = (
    Layer(
        digest_of(b"1"), 10, digest_of(b"one"), kind="verbatim", reason="as Alpine signed it", names=("musl 1.2.4-r0",)
    ),
    Layer(digest_of(b"2"), 20, digest_of(b"two"), LAYER_ZSTD, kind="top", reason="the rest", names=("top",)),
)
SETTINGS = ImageSettings(
    entrypoint=("/init",),
    cmd=("nginx", "-g", "daemon off;"),
    env={"PATH": "/command:/usr/bin", "A": "x=y"},
    user="app",
    workdir="/srv",
    ports=("8080", "53/udp"),
    volumes=("/var/lib/app",),
    stop_signal="SIGTERM",
    healthcheck=Healthcheck(("curl", "-f", "http://127.0.0.1/"), interval=30_000_000_000, retries=3),
    labels={"team": "web"},
)


def made(**arguments: Any) -> Image:
    return make_image(LAYERS, SETTINGS, **{"platform": AMD64, "created": 1706659200, **arguments})


def test_a_config_says_what_was_asked() -> None:
    config = json.loads(made().config)
    assert (config["architecture"], config["os"], "variant" in config) == ("amd64", "linux", False)
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.diff_id for layer in LAYERS]}
    assert config["config"] == {
        "Entrypoint": ["/init"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "Env": ["PATH=/command:/usr/bin", "A=x=y"],
        "User": "app",
        "WorkingDir": "/srv",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
        "Volumes": {"/var/lib/app": {}},
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["CMD", "curl", "-f", "http://127.0.0.1/"], "Interval": 30_000_000_000, "Retries": 3},
        "Labels": {"team": "web", "org.opencontainers.image.created": "2024-01-31T00:00:00Z"},
    }


def test_each_layer_has_a_history_entry_with_its_time_kind_and_reason() -> None:
    assert json.loads(made().config)["history"] == [
        {
            "created": "2024-01-31T00:00:00Z",
            "created_by": "sixsmith verbatim: musl 1.2.4-r0",
            "comment": "as Alpine signed it",
        },
        {"created": "2024-01-31T00:00:00Z", "created_by": "sixsmith top: top", "comment": "the rest"},
    ]


def test_a_manifest_names_config_layers_and_what_is_known() -> None:
    image = made(title="web", version="1.0", base_name="alpine:3.22", base_digest=digest_of(b"base"))
    manifest = json.loads(image.manifest)
    assert manifest["config"]["digest"] == image.config_digest
    assert [layer["mediaType"].rpartition("+")[2] for layer in manifest["layers"]] == ["gzip", "zstd"]
    assert manifest["annotations"] == {
        "org.opencontainers.image.created": "2024-01-31T00:00:00Z",
        "org.opencontainers.image.title": "web",
        "org.opencontainers.image.version": "1.0",
        "org.opencontainers.image.base.name": "alpine:3.22",
        "org.opencontainers.image.base.digest": digest_of(b"base"),
    }
    assert image.size == len(image.config) + len(image.manifest) + 30


def test_what_a_person_says_about_the_image_wins() -> None:
    settings = ImageSettings(labels={"org.opencontainers.image.title": "mine"}, annotations={"x.y": "z"})
    image = make_image(LAYERS, settings, platform=AMD64, created=0, title="web")
    annotations = json.loads(image.manifest)["annotations"]
    assert annotations["org.opencontainers.image.title"] == "mine"
    assert annotations["x.y"] == "z"
    assert json.loads(image.config)["config"]["Labels"]["org.opencontainers.image.title"] == "mine"


def test_the_same_image_is_the_same_bytes_whatever_the_order_of_the_dicts() -> None:
    one = ImageSettings(labels={"a": "1", "b": "2"})
    other = ImageSettings(labels={"b": "2", "a": "1"})
    images = [make_image(LAYERS, settings, platform=AMD64, created=0) for settings in (one, other)]
    assert images[0].digest == images[1].digest
    changed = ImageSettings(env={"B": "2", "A": "1"}), ImageSettings(env={"A": "1", "B": "2"})
    digests = {make_image(LAYERS, settings, platform=AMD64, created=0).digest for settings in changed}
    assert len(digests) == 2  # the order of variables is seen by what runs


def test_documents_come_back_as_they_were() -> None:
    image = made(platform=ARCHES["armv7"].platform)
    config = parse_config(image.config)
    assert config.platform == Platform("arm", "v7")
    assert config.digest == image.config_digest
    back = settings_of(config)
    assert back.healthcheck == Healthcheck(("CMD", "curl", "-f", "http://127.0.0.1/"), 30_000_000_000, None, None, 3)
    assert (back.entrypoint, back.cmd, back.env, back.user) == (SETTINGS.entrypoint, SETTINGS.cmd, SETTINGS.env, "app")
    assert [layer.digest for layer in image.parsed.layers] == [layer.digest for layer in LAYERS]


class TestChildren:
    def child(self, settings: ImageSettings, **arguments: Any) -> dict[str, Any]:
        parent = parse_config(made().config)
        layers = (*LAYERS, Layer(digest_of(b"3"), 5, digest_of(b"three"), kind="top", names=("top",)))
        config: dict[str, Any] = json.loads(
            make_image(layers, settings, platform=AMD64, created=0, parent=parent, **arguments).config
        )
        return config

    def test_they_inherit_what_they_do_not_say(self) -> None:
        config = self.child(ImageSettings(env={"B": "2"}, ports=("9000/tcp",), user="root"))["config"]
        assert config["Env"] == ["PATH=/command:/usr/bin", "A=x=y", "B=2"]
        assert sorted(config["ExposedPorts"]) == ["53/udp", "8080/tcp", "9000/tcp"]
        assert (config["User"], config["Entrypoint"], config["Cmd"][0]) == ("root", ["/init"], "nginx")

    def test_another_entrypoint_drops_the_parents_cmd(self) -> None:
        assert "Cmd" not in self.child(ImageSettings(entrypoint=("/other",)))["config"]
        assert self.child(ImageSettings(entrypoint=("/init",)))["config"]["Cmd"][0] == "nginx"

    def test_the_parents_history_stays(self) -> None:
        history = self.child(ImageSettings())["history"]
        assert [step["created"][:4] for step in history] == ["2024", "2024", "1970"]

    def test_a_history_that_does_not_fit_its_layers_is_written_anew(self) -> None:
        document = json.loads(made().config)
        document["history"] = [{"created_by": "x"}]
        parent = parse_config(json.dumps(document).encode())
        config = json.loads(make_image(LAYERS, ImageSettings(), platform=AMD64, created=0, parent=parent).config)
        assert [step["created"][:4] for step in config["history"]] == ["1970", "1970"]

    def test_a_step_without_a_time_gets_one(self) -> None:
        document = json.loads(made().config)
        document["history"] = [{"created_by": "x"}, {"created_by": "env", "empty_layer": True}, {"created_by": "y"}]
        parent = parse_config(json.dumps(document).encode())
        config = json.loads(make_image(LAYERS, ImageSettings(), platform=AMD64, created=0, parent=parent).config)
        assert [step["created_by"] for step in config["history"]] == ["x", "env", "y"]
        assert all(step["created"].startswith("1970") for step in config["history"])

    def test_annotations_are_not_inherited(self) -> None:
        parent = ImageSettings(annotations={"a": "b"}, stop_signal="SIGINT")
        assert inherited(parent, ImageSettings()) == ImageSettings(stop_signal="SIGINT")


class TestIndex:
    def test_it_lists_platforms_in_order(self) -> None:
        index = make_index([made(), made(platform=ARM64)], {"x": "y"})
        assert index.media_type == INDEX
        assert [str(entry.platform) for entry in index.manifests] == ["linux/amd64", "linux/arm64/v8"]
        assert index.raw == make_index([made(platform=ARM64), made()], {"x": "y"}).raw
        assert index.descriptor.digest == digest_of(index.raw)

    def test_one_image_for_each_platform(self) -> None:
        with pytest.raises(ValueError, match="one image for each platform"):
            make_index([made(), made(title="other")])
        with pytest.raises(ValueError, match="one image for each platform"):
            make_index([Descriptor(MANIFEST, digest_of(b""), 0)])


class TestForeignDocuments:
    def test_dockers_schema_2(self) -> None:
        descriptor = {"mediaType": DOCKER_LAYER, "size": 5, "digest": digest_of(b"x")}
        document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": descriptor, "layers": [descriptor]}
        manifest = parse_manifest(json.dumps(document).encode())
        assert (manifest.media_type, manifest.layers[0].media_type) == (DOCKER_MANIFEST, DOCKER_LAYER)

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"{", "manifest: not JSON"),
            (b"[]", "manifest: not a JSON object"),
            (b'{"schemaVersion":1}', "manifest: 'layers' is not a list"),
            (b'{"schemaVersion":1,"layers":[]}', "manifest: 'schemaVersion' is not 2"),
            (b'{"schemaVersion":2,"layers":[]}', "manifest: 'config' is missing"),
            (b'{"schemaVersion":2,"manifests":[]}', "manifest: an image index where a manifest"),
            (b'{"schemaVersion":2,"layers":[{"mediaType":"x","size":-1}]}', "manifest: "),
            (b'{"schemaVersion":2,"layers":[{"mediaType":"x","size":1,"digest":"md5:1"}],"config":{}}', "manifest: "),
        ],
    )
    def test_broken_manifests(self, raw: bytes, message: str) -> None:
        with pytest.raises(FormatError, match=message.replace("(", r"\(")):
            parse_manifest(raw)

    def test_broken_configs_and_indexes(self) -> None:
        with pytest.raises(FormatError, match="config: 'rootfs' is missing"):
            parse_config(b"{}", what="config")
        with pytest.raises(FormatError, match="'architecture' is missing"):
            parse_config(b'{"rootfs":{}}', what="config")
        with pytest.raises(FormatError, match="'manifests' is not a list"):
            parse_index(b'{"schemaVersion":2}')
        with pytest.raises(FormatError, match="not JSON"):
            parse_index(b"[" * 100_000)


def test_times() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1_700_000_000) == "2023-11-14T22:13:20Z"


def test_a_child_whose_layers_were_written_anew_has_a_history_of_its_own() -> None:
    below = Layer(digest_of(b"below"), 5, digest_of(b"below tar"), names=("base",))
    parent = make_image([below], ImageSettings(cmd=("x",)), platform=Platform("amd64"), created=1)
    one = Layer(digest_of(b"one"), 3, digest_of(b"one tar"), names=("all",))
    config = parse_config(parent.config)
    child = make_image([one], ImageSettings(), platform=Platform("amd64"), created=2, parent=config)
    found = parse_config(child.config)
    assert len(found.history) == len(found.diff_ids) == 1
    assert found.settings["Cmd"] == ["x"], "settings are inherited all the same"
