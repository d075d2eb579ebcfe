"""What `inspect` and `diff` say of images that were built on the sample world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sixsmith.cli import run
from sixsmith.testing.world import World, make_world

FAMILY = """\
name: f
defaults: {arch: [x86_64], repositories: [main, community]}
images:
  b:
    tag: "{alpine}"
    matrix: {alpine: [3.22]}
    packages: [bash]
  app:
    from: b
    packages: [su-exec]
    env: {A: b}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), releases=["3.22"], arches=["x86_64"], overlays=[])


@pytest.fixture
def options(tmp_path: Path, world: World) -> list[str]:
    (tmp_path / "sixsmith.yaml").write_text(FAMILY)
    places = [
        "--mirror",
        world.mirror,
        "--keys",
        world.keys,
        "--checksums",
        world.checksums,
        "--store",
        tmp_path / "store",
    ]
    return ["-f", str(tmp_path / "sixsmith.yaml"), *map(str, places), "-q"]


def test_inspect_shows_layers_with_reasons_packages_and_settings(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "app", *options, "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert {package["name"] for package in seen["packages"]} >= {"bash", "su-exec", "musl"}
    assert "A=b" in seen["settings"]["Env"]
    assert seen["layers"][0]["kind"] == "base"
    assert all(layer["reason"] for layer in seen["layers"])


def test_plan_says_why_each_layer_is_what_it_is_before_and_after_the_build(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    planned = []
    for _ in range(2):
        assert run(["plan", "b", *options, "--json"]) == 0
        planned.append(json.loads(capsys.readouterr().out)["plans"][0]["layers"])
        assert run(["inspect", "b", *options, "--json"]) == 0
        seen = json.loads(capsys.readouterr().out)["layers"]
    assert all(layer["reason"] for layers in planned for layer in layers)
    assert [(layer["kind"], layer["reason"]) for layer in planned[1]] == [(one["kind"], one["reason"]) for one in seen]
    assert run(["plan", "b", *options]) == 0
    assert f"layer     top      top: {seen[-1]['reason']}" in capsys.readouterr().out


def test_a_layout_is_the_cell_that_it_was_built_from(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", *options, "-o", str(tmp_path / "dist")]) == 0
    capsys.readouterr()
    assert run(["diff", "app", f"{tmp_path}/dist/app:3.22", *options]) == 0
    assert capsys.readouterr().out == "the same image\n"


def test_diff_names_what_changed_and_exits_1(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "b", "app", *options, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found["packages"]["added"]) == ["su-exec"]
    assert not found["packages"]["removed"] and not found["layers"]["removed"]
    assert "Env" in found["settings"]


def test_what_is_no_image_is_said_with_the_nearest_name(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "ap", *options]) == 2
    assert "did you mean 'app'" in capsys.readouterr().err
