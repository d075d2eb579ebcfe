"""Which cells a selection names."""

from __future__ import annotations

from pathlib import Path

import pytest

from sixsmith.errors import UsageError
from sixsmith.matrix import parse_family, select, with_parents

CELLS = parse_family(
    b"""
images:
  base:
    arch: [x86_64, aarch64]
    tags: ["{alpine}-{s6-overlay}", "{alpine}"]
    matrix: {alpine: [3.12, 3.22], s6-overlay: [3.2.1.0]}
  node:
    from: base
    tag: "{version:nodejs}"
    packages: [nodejs]
    matrix: {alpine: 3.22}
""",
    file="f",
    folder=Path("/"),
).cells


def ids(*patterns: str, arches: tuple[str, ...] = ()) -> list[str]:
    return [cell.id for cell in select(CELLS, patterns, arches)]


def test_no_pattern_means_everything() -> None:
    assert select(CELLS) == CELLS


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("node", ["node:3.22-3.2.1.0/x86_64", "node:3.22-3.2.1.0/aarch64"]),
        ("base:3.12-3.2.1.0", ["base:3.12-3.2.1.0/x86_64", "base:3.12-3.2.1.0/aarch64"]),
        ("base:3.12-3.2.1.0/aarch64", ["base:3.12-3.2.1.0/aarch64"]),
        ("base:3.12", ["base:3.12-3.2.1.0/x86_64", "base:3.12-3.2.1.0/aarch64"]),
        ("3.12", ["base:3.12-3.2.1.0/x86_64", "base:3.12-3.2.1.0/aarch64"]),
        ("base:3.1*", ["base:3.12-3.2.1.0/x86_64", "base:3.12-3.2.1.0/aarch64"]),
        ("*/aarch64", ["base:3.12-3.2.1.0/aarch64", "base:3.22-3.2.1.0/aarch64", "node:3.22-3.2.1.0/aarch64"]),
        ("no[d]e", ["node:3.22-3.2.1.0/x86_64", "node:3.22-3.2.1.0/aarch64"]),
    ],
)
def test_a_pattern_names_cells(pattern: str, expected: list[str]) -> None:
    assert ids(pattern) == expected


def test_several_patterns_add_up_in_file_order() -> None:
    assert ids("node:*/x86_64", "base:3.22*/x86_64") == ["base:3.22-3.2.1.0/x86_64", "node:3.22-3.2.1.0/x86_64"]


def test_architectures_narrow() -> None:
    assert ids("base", arches=("aarch64",)) == ["base:3.12-3.2.1.0/aarch64", "base:3.22-3.2.1.0/aarch64"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("bsae", "'base'"), ("base:3.13-*", "'base:3.12'"), ("xyz", "images: base, node"), ("BASE", "images")],
)
def test_a_pattern_without_a_match_is_an_error(pattern: str, hint: str) -> None:
    with pytest.raises(UsageError, match="nothing is called") as caught:
        ids("node", pattern)
    assert caught.value.hint is not None and hint in caught.value.hint


def test_an_unknown_or_absent_architecture_is_an_error() -> None:
    with pytest.raises(UsageError, match="unknown architecture 'arm64'") as caught:
        ids(arches=("arm64",))
    assert caught.value.hint == "did you mean 'aarch64'?"
    with pytest.raises(UsageError, match="none of these cells is for riscv64") as caught:
        ids(arches=("riscv64",))
    assert caught.value.hint == "they are for x86_64, aarch64"


def test_what_a_selection_stands_on() -> None:
    chosen = select(CELLS, ["node:3.22-3.2.1.0/x86_64"])
    assert [cell.id for cell in with_parents(chosen, CELLS)] == ["base:3.22-3.2.1.0/x86_64", "node:3.22-3.2.1.0/x86_64"]
