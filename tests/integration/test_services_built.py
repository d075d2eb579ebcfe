"""Services of the family file, in built images: rendered for each overlay, linted, refused where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from sixsmith.cli import run
from sixsmith.io.layout import open_layout
from sixsmith.looking import look_at_disk
from sixsmith.model.arch import ARCHES
from sixsmith.testing.world import World, make_world

SERVICES = """
    services:
      prepare: {type: oneshot, up: mkdir -p /run/app}
      ticker:
        run: |
          #!/bin/sh
          exec sleep 1000
        NEEDS
"""
FAMILY = """\
name: f
defaults: {arch: [x86_64], repositories: [main]}
images:
  web:
    tag: "{s6-overlay}"
    matrix: {alpine: [3.12], s6-overlay: [OVERLAY]}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    return make_world(root, releases=["3.12"], arches=["x86_64"], overlays=["2.0.0.1", "3.2.3.0"])


def build(tmp_path: Path, world: World, overlay: str, needs: str) -> int:
    text = FAMILY.replace("OVERLAY", overlay) + SERVICES.replace("NEEDS", needs)
    (tmp_path / "sixsmith.yaml").write_text(text)
    places = ["--mirror", world.mirror, "--overlay-mirror", world.overlay_mirror, "--keys", world.keys]
    places += ["--checksums", world.checksums, "--store", tmp_path / "store", "-o", tmp_path / "dist"]
    return run(["build", "-f", str(tmp_path / "sixsmith.yaml"), *map(str, places), "-q"])


def test_v3_gets_source_directories_in_the_user_bundle(tmp_path: Path, world: World) -> None:
    assert build(tmp_path, world, "3.2.3.0", "needs: [prepare]") == 0
    tree = look_at_disk(tmp_path / "dist" / "web", ARCHES["x86_64"], ref="3.2.3.0").tree
    assert tree.read("etc/s6-overlay/s6-rc.d/ticker/type") == b"longrun\n"
    assert "etc/s6-overlay/s6-rc.d/ticker/dependencies.d/prepare" in tree
    assert "etc/s6-overlay/s6-rc.d/user/contents.d/ticker" in tree


def test_v2_gets_services_d_and_cont_init_d(tmp_path: Path, world: World) -> None:
    assert build(tmp_path, world, "2.0.0.1", "needs: [prepare]") == 0
    tree = look_at_disk(tmp_path / "dist" / "web", ARCHES["x86_64"], ref="2.0.0.1").tree
    run_script = tree.get("etc/services.d/ticker/run")
    assert run_script is not None and run_script.mode == 0o755
    assert any(node.path.startswith("etc/cont-init.d/") and "prepare" in node.path for node in tree)


def test_services_need_an_overlay(tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    text = FAMILY.replace(", s6-overlay: [OVERLAY]", "").replace("{s6-overlay}", "x") + SERVICES.replace("NEEDS", "")
    (tmp_path / "sixsmith.yaml").write_text(text)
    places = ["--mirror", world.mirror, "--keys", world.keys, "--checksums", world.checksums, "--store", tmp_path / "s"]
    assert (
        run(["build", "-f", str(tmp_path / "sixsmith.yaml"), *map(str, places), "-q", "-o", str(tmp_path / "d")]) == 2
    )
    assert "services need s6-overlay" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_changed_folder_of_services_is_another_image(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "own" / "ticker"
    folder.mkdir(parents=True)
    (folder / "type").write_text("longrun\n")
    (folder / "run").write_text("#!/bin/sh\nexec sleep 1\n")
    text = FAMILY.replace("OVERLAY", "3.2.3.0") + "    services: ./own\n"
    (tmp_path / "sixsmith.yaml").write_text(text)
    places = ["--mirror", world.mirror, "--overlay-mirror", world.overlay_mirror, "--keys", world.keys]
    places += ["--checksums", world.checksums, "--store", tmp_path / "store", "-o", tmp_path / "dist"]
    digests = []
    for seconds in ("1", "2"):
        (folder / "run").write_text(f"#!/bin/sh\nexec sleep {seconds}\n")
        assert run(["build", "-f", str(tmp_path / "sixsmith.yaml"), *map(str, places), "-q"]) == 0
        with open_layout(tmp_path / "dist" / "web") as layout:
            digests.append(layout.ref("3.2.3.0").digest)
    assert digests[0] != digests[1]
