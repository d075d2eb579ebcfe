"""The matrix of one image: axes multiply, exclude removes, include refines or adds.

The rules are those that people know from CI matrices. An entry of `include` refines every cell that agrees with it on the
axes that both have; when none agrees it adds a cell. A child image does not multiply from nothing: its parent's cells are
what there is, an axis of the parent narrows them, and a new axis multiplies them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import msgspec
from msgspec.structs import replace

from sixsmith.catalog import alpine, overlay
from sixsmith.errors import Place, nearest
from sixsmith.matrix import words
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.shapes import WRONG, Items, Record, Text, kind_of
from sixsmith.model.arch import ARCHES
from sixsmith.model.spelled import Spelled, SpelledList, SpelledMapping, SpelledTree

__all__ = ["ALPINE", "MAX_CELLS", "OVERLAY", "Axes", "Cell", "Entry", "Matrix", "MatrixShape", "cells_of"]

ALPINE, OVERLAY = "alpine", "s6-overlay"
MAX_CELLS = 10_000
"""No image has more cells than this: a slip in the axes must not eat the machine."""

Axes = dict[str, Spelled]

_AXIS = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


def _alpine(text: Spelled) -> Spelled:
    alpine(text)
    return Spelled(text.removeprefix("v"), text.place)


def _overlay(text: Spelled) -> Spelled:
    return Spelled(overlay(text).version, text.place)


def _axis_values(name: str) -> Items:
    parsers = {ALPINE: _alpine, OVERLAY: _overlay}
    what = {ALPINE: "an Alpine release", OVERLAY: "an s6-overlay release"}.get(name, f"a value of '{name}'")
    return Items(Text(what, parsers.get(name)), f"a list of values of '{name}'", lone=True, least=1)


_ARCH = Items(Text("an architecture", words.arch, known=ARCHES), "a list of architectures", lone=True, least=1)


class Entry(msgspec.Struct, frozen=True):
    """One entry of include or exclude: which axis values it is about, and what it says of them."""

    axes: Mapping[str, list[Spelled]]
    settings: Mapping[str, Any]
    place: Place
    names: Mapping[str, Spelled]
    """The axis names as spelled, for problems."""

    def combinations(self) -> Iterator[Axes]:
        """Each axis may have several values."""
        for values in product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


class Matrix(msgspec.Struct, frozen=True):
    """The matrix as written. `broken` when a value of it was wrong, so that what follows from it is not judged."""

    axes: Mapping[str, list[Spelled]]
    include: Sequence[Entry]
    exclude: Sequence[Entry]
    arch: list[Spelled] | None
    place: Place
    broken: bool


class Cell(msgspec.Struct, frozen=True):
    """One point of an image's matrix, before it is spelled out.

    `parent` is the parent's expanded cell for a child. `refinements` are the settings of the include entries, in order.
    """

    axes: Axes
    place: Place
    parent: Any = None
    refinements: tuple[Mapping[str, Any], ...] = ()
    excluded_arches: frozenset[str] = frozenset()
    added: bool = False

    def agrees(self, axes: Mapping[str, Spelled]) -> bool:
        """Whether no axis differs; a cell that was added has said all its axes, others may get new ones."""
        return all(self.axes.get(name, None if self.added else value) == value for name, value in axes.items())


class MatrixShape:
    """Reads `matrix`. `refinement` gives the shape of an include entry's settings."""

    def __init__(self, refinement: Callable[[], Record]) -> None:
        self._refinement = refinement

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        """A Matrix, or WRONG."""
        if not isinstance(tree, SpelledMapping):
            problems.add(tree.place, f"expected a matrix (AXIS: [values]), found {kind_of(tree)}")
            return WRONG
        before = len(problems)
        axes: dict[str, list[Spelled]] = {}
        include: list[Entry] = []
        exclude: list[Entry] = []
        arch = None
        for key, value in tree.items():
            if key in ("include", "exclude"):
                entries = include if key == "include" else exclude
                entries += self._entries(key, value, problems)
            elif key == "arch":
                read = _ARCH.read(value, problems)
                arch = None if read is WRONG else read
            elif self._is_axis(key, problems):
                read = _axis_values(key).read(value, problems)
                if read is not WRONG and read:
                    axes[str(key)] = _distinct(read, problems)
        return Matrix(_in_order(axes), include, exclude, arch, tree.place, len(problems) > before)

    def json(self) -> dict[str, Any]:
        values = {ALPINE: _axis_values(ALPINE).json(), OVERLAY: _axis_values(OVERLAY).json()}
        anything = _axis_values("axis").json()
        entry = self._refinement().json()
        return {
            "type": "object",
            "properties": {
                **values,
                "arch": _ARCH.json(),
                "include": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {**values, **entry["properties"]},
                        "additionalProperties": anything,
                    },
                },
                "exclude": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {**values, "arch": _ARCH.json()},
                        "additionalProperties": anything,
                    },
                },
            },
            "additionalProperties": anything,
        }

    def _is_axis(self, key: Spelled, problems: Problems) -> bool:
        if key in self._refinement().fields:
            problems.add(key.place, f"'{key}' is a key of the image, not an axis", "write it beside 'matrix'")
            return False
        if not _AXIS.match(key):
            problems.add(key.place, f"'{key}' cannot be the name of an axis", "letters, digits, - and _")
            return False
        return True

    def _entries(self, what: str, tree: SpelledTree, problems: Problems) -> Iterator[Entry]:
        if not isinstance(tree, SpelledList):
            problems.add(tree.place, f"expected a list of {{AXIS: value}}, found {kind_of(tree)}")
            return
        for item in tree:
            if isinstance(item, SpelledMapping):
                yield self._entry(what, item, problems)
            else:
                problems.add(item.place, f"expected {{AXIS: value}}, found {kind_of(item)}")

    def _entry(self, what: str, tree: SpelledMapping, problems: Problems) -> Entry:
        known = self._refinement().fields
        axes: dict[str, list[Spelled]] = {}
        names: dict[str, Spelled] = {}
        settings: dict[Spelled, SpelledTree] = {}
        for key, value in tree.items():
            if key in known and (what == "include" or key == "arch"):
                settings[key] = value
            elif not isinstance(value, SpelledMapping) and self._is_axis(key, problems):
                read = _axis_values(key).read(value, problems)
                if read is not WRONG and read:
                    axes[str(key)] = _distinct(read, problems)
                    names[str(key)] = key
            elif isinstance(value, SpelledMapping):
                problems.add(key.place, f"unknown key '{key}' in an entry of {what}", nearest(key, known))
        read = self._refinement().read(SpelledMapping(settings, tree.place), problems)
        return Entry(_in_order(axes), {} if read is WRONG else read, tree.place, names)


def _distinct(values: list[Spelled], problems: Problems) -> list[Spelled]:
    seen: dict[str, Spelled] = {}
    for value in values:
        if value in seen:
            problems.add(value.place, f"'{value}' stands here twice")
        seen.setdefault(value, value)
    return list(seen.values())


def _in_order(axes: Mapping[str, list[Spelled]]) -> dict[str, list[Spelled]]:
    """Alpine first, then s6-overlay, then the others as they stand: ids read alike in every file."""
    names = [name for name in (ALPINE, OVERLAY) if name in axes]
    names += [name for name in axes if name not in (ALPINE, OVERLAY)]
    return {name: axes[name] for name in names}


def _sorted(axes: Axes) -> Axes:
    names = [name for name in (ALPINE, OVERLAY) if name in axes]
    return {name: axes[name] for name in (*names, *(other for other in axes if other not in names))}


def cells_of(
    matrix: Matrix, parents: Sequence[Cell] | None, templates: Iterable[str], problems: Problems
) -> list[Cell]:
    """The cells of an image, in order. `parents` are the cells that a child starts from, None for an image without a parent.

    `templates` are the names that the image's templates use: an axis that only include names must be one of them, or it
    is a slip of the pen.
    """
    originals = _multiply(matrix, parents, problems)
    cells = _without_excluded(matrix, originals, problems)
    known = {ALPINE, OVERLAY, *matrix.axes, *templates}
    for cell in parents or ():
        known |= cell.axes.keys()
    originals = list(cells)
    for entry in matrix.include:
        unknown = [name for name in entry.axes if name not in known]
        for name in unknown:
            hint = nearest(name, [*known, *entry.settings]) or "no template uses such an axis"
            problems.add(entry.names[name].place, f"unknown key '{name}' in an entry of include", hint)
        if not unknown:
            for axes in entry.combinations():
                _include(cells, originals, parents, entry, axes, problems)
    return cells


def _multiply(matrix: Matrix, parents: Sequence[Cell] | None, problems: Problems) -> list[Cell]:
    if parents is None:
        if not matrix.axes and matrix.include:
            return []
        starts = [Cell({}, matrix.place)]
    else:
        starts = _narrowed(matrix, parents, problems)
    number = len(starts)
    for name, values in matrix.axes.items():
        if not (parents and any(name in cell.axes for cell in parents)):
            number *= len(values)
    if number > MAX_CELLS:
        problems.add(matrix.place, f"{number} cells: more than {MAX_CELLS}")
        return []
    cells = []
    for start in starts:
        fresh = {name: values for name, values in matrix.axes.items() if name not in start.axes}
        for point in product(*fresh.values()):
            axes = _sorted({**start.axes, **dict(zip(fresh, point, strict=True))})
            place = point[0].place if point else start.place
            cells.append(Cell(axes, place, start.parent))
    return cells


def _narrowed(matrix: Matrix, parents: Sequence[Cell], problems: Problems) -> list[Cell]:
    """The parent's cells that the child keeps; each stands at the child's own words where it narrowed."""
    kept = []
    shared = {name: values for name, values in matrix.axes.items() if any(name in cell.axes for cell in parents)}
    for name, values in shared.items():
        there = list(dict.fromkeys(str(cell.axes[name]) for cell in parents if name in cell.axes))
        for value in values:
            if value not in there:
                hint = nearest(value, there) or f"it has {', '.join(there)}"
                problems.add(value.place, f"the parent has no cell with {name} {value}", hint)
    for cell in parents:
        places = {}
        for name, values in shared.items():
            if name in cell.axes:
                found = next((value for value in values if value == cell.axes[name]), None)
                if found is None:
                    break
                places[name] = found.place
        else:
            place = next(iter(places.values()), matrix.place)
            kept.append(Cell(dict(cell.axes), place, cell.parent))
    return kept


def _without_excluded(matrix: Matrix, cells: list[Cell], problems: Problems) -> list[Cell]:
    for entry in matrix.exclude:
        arches = frozenset(entry.settings.get("arch", ()))
        left: list[Cell] = []
        hits = 0
        for cell in cells:
            hit = all(cell.axes.get(name) in values for name, values in entry.axes.items())
            hits += hit
            if not hit:
                left.append(cell)
            elif arches:
                left.append(replace(cell, excluded_arches=cell.excluded_arches | arches))
        if not hits and not matrix.broken:
            problems.add(entry.place, "exclude removes nothing: no cell has these values")
        cells = left
    return cells


def _include(
    cells: list[Cell],
    originals: Sequence[Cell],
    parents: Sequence[Cell] | None,
    entry: Entry,
    axes: Axes,
    problems: Problems,
) -> None:
    refined = False
    for position, cell in enumerate(cells):
        if cell.agrees(axes):
            settings = (*cell.refinements, entry.settings) if entry.settings else cell.refinements
            cells[position] = replace(cell, axes=_sorted({**cell.axes, **axes}), refinements=settings)
            refined = True
    if refined:
        return
    place = next(iter(axes.values())).place if axes else entry.place
    refinements = (entry.settings,) if entry.settings else ()
    bases: Sequence[Cell] = [cell for cell in originals if Cell(cell.axes, cell.place).agrees(axes)]
    if not bases and parents is not None:
        bases = [
            Cell(cell.axes, cell.place, cell.parent) for cell in parents if Cell(cell.axes, cell.place).agrees(axes)
        ]
        if not bases:
            wanted = ", ".join(f"{name} {value}" for name, value in axes.items())
            problems.add(place, f"the parent has no cell with {wanted}")
            return
    if not bases:
        bases = [Cell({}, place)]
    if len(cells) + len(bases) > MAX_CELLS:
        problems.add(entry.place, f"more than {MAX_CELLS} cells")
        return
    for base in bases:
        cells.append(Cell(_sorted({**base.axes, **axes}), place, base.parent, refinements, added=True))
