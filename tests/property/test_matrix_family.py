"""Laws of the family file, over made-up families and over bytes that are no family file at all."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sixsmith.errors import MatrixError
from sixsmith.matrix import FILE_NAME, Family, parse_family, select, starter_files
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.text import read_yaml
from sixsmith.model.spelled import Spelled, SpelledList, SpelledMapping, plain

MODERN = ["3.15", "3.16", "3.18", "3.20", "3.22", "3.24"]
OVERLAYS = ["3.1.5.0", "3.2.0.0", "3.2.1.0", "3.2.3.0"]
ARCHES = ["x86_64", "aarch64", "armv7", "x86"]
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=4, unique=True)


def family_of(document: dict[str, Any]) -> Family:
    return parse_family(yaml.safe_dump(document, sort_keys=False).encode(), file="f", folder=Path("/"))


@quick
@given(alpines=some(MODERN), overlays=some(OVERLAYS), arches=some(ARCHES), custom=some(["a", "b", "1.0", "~2"]))
def test_axes_multiply_exactly(alpines: list[str], overlays: list[str], arches: list[str], custom: list[str]) -> None:
    image = {"arch": arches, "matrix": {"x": custom, "s6-overlay": overlays, "alpine": alpines}}
    cells = family_of({"images": {"i": image}}).cells
    expected = [(alpine, overlay, x, arch) for alpine, overlay, x, arch in product(alpines, overlays, custom, arches)]
    assert [(c.alpine, c.axes["s6-overlay"], c.axes["x"], c.arch.name) for c in cells] == expected
    assert len({cell.id for cell in cells}) == len(cells)
    assert all(list(cell.axes) == ["alpine", "s6-overlay", "x"] for cell in cells)


@quick
@given(alpines=some(MODERN), overlays=some(OVERLAYS), gone=st.data())
def test_exclude_removes_exactly_what_agrees(alpines: list[str], overlays: list[str], gone: st.DataObject) -> None:
    alpine = gone.draw(st.sampled_from(alpines))
    matrix = {"alpine": alpines, "s6-overlay": overlays, "exclude": [{"alpine": alpine}]}
    image = {"matrix": matrix}
    if len(alpines) == 1:
        matrix["include"] = [{"alpine": "3.19"}]
    cells = family_of({"images": {"i": image}}).cells
    assert alpine not in {cell.alpine for cell in cells}
    assert len([cell for cell in cells if cell.alpine != "3.19"]) == (len(alpines) - 1) * len(overlays)


@quick
@given(alpines=some(MODERN), overlays=some(OVERLAYS), pick=st.data())
def test_include_refines_or_adds_and_loses_nothing(
    alpines: list[str], overlays: list[str], pick: st.DataObject
) -> None:
    entry = {"alpine": pick.draw(st.sampled_from(MODERN)), "s6-overlay": pick.draw(st.sampled_from(OVERLAYS))}
    matrix = {"alpine": alpines, "s6-overlay": overlays, "include": [{**entry, "env": {"HERE": "1"}}]}
    cells = family_of({"images": {"i": {"matrix": matrix}}}).cells
    there = entry["alpine"] in alpines and entry["s6-overlay"] in overlays
    assert len(cells) == len(alpines) * len(overlays) + (not there)
    (marked,) = [cell for cell in cells if cell.env]
    assert (marked.alpine, marked.axes["s6-overlay"]) == (entry["alpine"], entry["s6-overlay"])


@quick
@given(alpines=some(MODERN), keep=st.data(), arches=some(ARCHES), depth=st.integers(1, 4))
def test_children_stand_on_cells_that_come_before_them(
    alpines: list[str], keep: st.DataObject, arches: list[str], depth: int
) -> None:
    images: dict[str, Any] = {"i0": {"arch": arches, "matrix": {"alpine": alpines}}}
    for level in range(1, depth + 1):
        images[f"i{level}"] = {"from": f"i{level - 1}"}
    kept = keep.draw(st.lists(st.sampled_from(alpines), min_size=1, unique=True))
    images[f"i{depth}"]["matrix"] = {"alpine": kept}
    shuffled = dict(keep.draw(st.permutations(list(images.items()))))
    cells = family_of({"images": shuffled}).cells
    seen: set[str] = set()
    for cell in cells:
        assert cell.parent is None or cell.parent in seen
        seen.add(cell.id)
    last = [cell for cell in cells if cell.image == f"i{depth}"]
    assert {cell.alpine for cell in last} == set(kept) and len(last) == len(kept) * len(arches)


@quick
@given(alpines=some(MODERN), arches=some(ARCHES))
def test_every_cell_is_found_by_its_names(alpines: list[str], arches: list[str]) -> None:
    cells = family_of({"images": {"i": {"arch": arches, "matrix": {"alpine": alpines}}}}).cells
    for cell in cells:
        assert select(cells, [cell.id]) == (cell,)
        assert set(select(cells, [cell.cell])) == {other for other in cells if other.alpine == cell.alpine}


trees: st.SearchStrategy[Any] = st.recursive(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff\ufffe\uffff"),
        max_size=12,
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc-<3.", max_size=4), inner, max_size=4),
    max_leaves=20,
)


@quick
@given(tree=trees)
def test_what_yaml_writes_is_read_as_the_same_text(tree: Any) -> None:
    problems = Problems()
    data = yaml.safe_dump(tree, allow_unicode=True).encode()
    assert plain(read_yaml(data, "f", problems)) == tree
    assert not len(problems)


@settings(quick, max_examples=300)
@given(data=st.binary(max_size=200) | st.text("{}[]:,-#&*!|>'\"%@`?~ \n\tab<3.", max_size=80).map(str.encode))
def test_no_bytes_make_it_fall_over(data: bytes) -> None:
    try:
        family = parse_family(data, file="f", folder=Path("/"))
    except MatrixError as error:
        assert error.problems and all(problem.message for problem in error.problems)
    else:
        assert family.cells


def _mutate(tree: Any, draw: Any) -> Any:
    """One node of the tree becomes something else."""
    if isinstance(tree, dict) and tree and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(tree)))
        return {**tree, key: _mutate(tree[key], draw)}
    if isinstance(tree, list) and tree and draw(st.booleans()):
        index = draw(st.integers(0, len(tree) - 1))
        return [*tree[:index], _mutate(tree[index], draw), *tree[index + 1 :]]
    return draw(st.sampled_from(["", "x", None, [], {}, ["a"], {"a": "b"}, "{alpine}", "{", "3.22", [[]], {"": ""}]))


RICH = {
    "name": "n",
    "registry": "h:5000",
    "defaults": {"arch": ["x86_64"], "packages": ["bash"], "scripts": "skip", "layers": {"budget": "3"}},
    "repositories": ["main", {"name": "e", "url": "https://x/y", "pin": "e"}],
    "images": {
        "a": {
            "tag": "{alpine}-{s6-overlay}",
            "matrix": {
                "alpine": ["3.22", "3.23"],
                "s6-overlay": ["3.2.3.0"],
                "include": [{"alpine": "3.24", "s6-overlay": "3.2.1.0", "without": ["bash"], "env": {"A": "b"}}],
                "exclude": [{"alpine": "3.23", "arch": "x86_64"}],
            },
            "accounts": {"users": [{"name": "u", "uid": "3", "groups": ["g"]}], "groups": [{"name": "g"}]},
            "files": [{"path": "/x", "content": "y", "mode": "0644"}, {"path": "/y", "target": "x"}],
            "services": {"s": {"run": "x", "needs": ["base"]}},
            "healthcheck": {"command": ["x"], "interval": "3s"},
            "lint": {"ignore": [{"rule": "R", "reason": "r"}]},
            "checks": [{"run": ["x"]}],
            "budget": {"size": "3M"},
        },
        "b": {"from": "a", "matrix": {"alpine": "3.22", "n": ["1", "2"]}, "packages": ["p{n}", "q@e"]},
    },
}


@settings(quick, max_examples=300)
@given(data=st.data())
def test_no_mistake_makes_it_fall_over(data: st.DataObject) -> None:
    document = RICH
    for _ in range(data.draw(st.integers(0, 3))):
        document = _mutate(document, data.draw)
    try:
        family_of(document)
    except MatrixError as error:
        assert all(str(problem).startswith("f") for problem in error.problems)


def test_the_rich_family_is_right_as_it_stands() -> None:
    assert len(family_of(RICH).cells) == 4


@quick
@given(name=st.text(max_size=40))
def test_the_starter_is_yaml_for_every_name(name: str) -> None:
    document = yaml.load(starter_files(name)[FILE_NAME], yaml.BaseLoader)
    assert document["name"]


def test_spelled_values_compare_as_their_content() -> None:
    tree = read_yaml(b"a: [b, {c: 3.20}]", "f", Problems())
    assert isinstance(tree, SpelledMapping) and tree == {"a": ["b", {"c": "3.20"}]}
    assert isinstance(tree[Spelled("a", tree.place)], SpelledList)
