"""The examples and the files of `sixsmith init` load, say what they claim, and follow the shipped JSON Schema."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import jsonschema
import pytest
import yaml

from sixsmith import catalog
from sixsmith.layers.plan import STRATEGIES
from sixsmith.matrix import FILE_NAME, load_family, starter_files
from sixsmith.matrix.schema import SETTINGS, json_schema, render_json_schema
from sixsmith.matrix.shapes import Either, Record

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = ROOT / "src" / "sixsmith" / "matrix" / "sixsmith.schema.json"
EXAMPLES = sorted((ROOT / "examples").glob(f"*/{FILE_NAME}"))


def test_there_are_examples() -> None:
    assert [path.parent.name for path in EXAMPLES] == ["alpine-s6-overlay", "applications", "web"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_loads_and_follows_the_schema(path: Path) -> None:
    family = load_family(path)
    assert family.cells
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(path.read_text()))


def test_the_first_example_is_the_articles_family() -> None:
    """Tags, packages, overlay and settings of the six Dockerfiles (their compiler and openssl do not stay)."""
    cells = {cell.tags[0]: cell for cell in load_family(EXAMPLES[0]).cells if cell.arch.name == "x86_64"}
    assert list(cells)[:6] == [
        "3.8-1.21.8.0",
        "3.9-1.21.8.0",
        "3.10-1.21.8.0",
        "3.11-1.21.8.0",
        "3.7-1.21.8.0",
        "3.12-2.0.0.1",
    ]
    for tag in list(cells)[:6]:
        cell = cells[tag]
        assert cell.base == "minirootfs" and cell.entrypoint == ("/init",) and cell.overlay is not None
        assert (cell.alpine, cell.overlay.version) == tuple(tag.split("-"))
        assert set(cell.packages) == {"bash", "su-exec"} | (set() if cell.alpine == "3.7" else {"shadow"})
        assert cell.env == ({"S6_OVERLAY_VERSION": "v2.0.0.1"} if cell.alpine == "3.12" else {})


def test_todays_images_have_nothing_against_them() -> None:
    today = date(2026, 11, 23)
    for cell in load_family(EXAMPLES[0]).cells[6:]:
        assert cell.overlay is not None
        assert catalog.advice_for_alpine(cell.alpine, today) == ()
        assert catalog.advice_for_overlay(cell.overlay.version) == ()


def test_the_starter_loads(tmp_path: Path) -> None:
    files = starter_files("My Images!")
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    family = load_family(tmp_path)
    assert family.name == "my-images" and family.images == ("base", "hello")
    for cell in family.cells:
        assert catalog.advice_for_overlay(cell.axes["s6-overlay"]) == ()
    assert [name for name, text in files.items() if text.startswith("#!")] == ["services/hello/run"]
    jsonschema.Draft202012Validator(json.loads(files["sixsmith.schema.json"])).validate(
        yaml.safe_load(files["sixsmith.yaml"])
    )


@pytest.mark.parametrize("name", ["", "..", "Ünï", "a" * 300, "1.2"])
def test_the_starter_takes_any_name(name: str, tmp_path: Path) -> None:
    from sixsmith.matrix.problems import Problems
    from sixsmith.matrix.schema import family_shape
    from sixsmith.matrix.shapes import WRONG
    from sixsmith.matrix.text import read_yaml

    problems = Problems()
    tree = read_yaml(starter_files(name)[FILE_NAME].encode(), FILE_NAME, problems)
    assert tree is not None and family_shape().read(tree, problems) is not WRONG and not len(problems)


def test_the_shipped_schema_is_the_one_that_load_uses() -> None:
    command = "python -c 'from sixsmith.matrix.schema import render_json_schema as r; print(r(), end=\"\")'"
    assert SCHEMA.read_text() == render_json_schema(), f"write it anew: {command} > {SCHEMA.relative_to(ROOT)}"
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_schema_refuses_what_load_refuses() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    good = {"images": {"a": {"matrix": {"alpine": 3.22}}}}
    assert validator.is_valid(good)
    wrong: tuple[dict[str, object], ...] = (
        {},
        {"images": {}, "imges": {}},
        {"images": {"a": {"pakages": ["x"]}}},
        {"images": {"a": {"packages": {"x": 1}}}},
        {"images": {"a": {"arch": ["amd64"]}}},
        {"images": {"a": {"matrix": {"include": [{"files": [{"source": "x"}]}]}}}},
        {"images": {"a": {"compression": "bzip2"}}},
    )
    for bad in wrong:
        assert not validator.is_valid(bad), bad


def test_every_key_is_documented() -> None:
    assert all(key.doc.endswith(".") for key in SETTINGS.values())


def test_the_layer_strategies_are_those_of_the_layer_planner() -> None:
    either = SETTINGS["layers"].shape
    assert isinstance(either, Either)
    shape = either.table
    assert isinstance(shape, Record)
    assert either.text is not None and either.text.json() == shape.fields["strategy"].json()
    assert tuple(shape.fields["strategy"].json()["enum"]) == tuple(STRATEGIES)
