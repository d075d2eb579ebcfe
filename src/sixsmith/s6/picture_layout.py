"""Where the boxes and lines of a layered picture go.

Columns are the levels of the start order. A line that crosses columns gets a bend in each. The order within a column is
found by sweeps that put each item at the mean place of its neighbours, keeping the best order seen; heights then by
least squares with the order kept (pool adjacent violators), so that lines run as straight as they can. All of it is
deterministic: ties go by the chart's own order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sixsmith.s6.chart import Chart

__all__ = ["Layout", "Spot", "lay_out"]

_SWEEPS = 24
_MAX_BENDS = 20_000
"""Lines beyond this many bends run straight."""


@dataclass(slots=True)
class Spot:
    """A box, or a bend of a line (`name` ""). `y` is the middle; `height` is kept free, with a gap below."""

    name: str
    column: int
    index: int
    height: float
    y: float = 0.0
    left: list[Spot] = field(default_factory=list, repr=False)
    right: list[Spot] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True)
class Layout:
    """Spots by column from the top, boxes by name, and each arrow's way through its bends."""

    columns: Sequence[Sequence[Spot]]
    boxes: Mapping[str, Spot]
    ways: Mapping[tuple[str, str], Sequence[Spot]]
    height: float


def lay_out(chart: Chart, *, box: float, bend: float, gap: float) -> Layout:
    """Places for everything in a chart: boxes are `box` high, bends `bend`, with `gap` between any two."""
    count = max(chart.levels.values(), default=0)
    columns: list[list[Spot]] = [[] for _ in range(count)]
    boxes = {}
    for index, name in enumerate(chart.order):
        column = chart.levels[name] - 1
        boxes[name] = Spot(name, column, index, box)
        columns[column].append(boxes[name])
    ways = _join(chart, boxes, columns, bend)
    _untangle(columns)
    _settle(columns, gap)
    lowest = max((spot.y + spot.height / 2 for column in columns for spot in column), default=0.0)
    return Layout(columns, boxes, ways, lowest)


def _join(
    chart: Chart, boxes: Mapping[str, Spot], columns: list[list[Spot]], bend: float
) -> dict[tuple[str, str], list[Spot]]:
    """Connects boxes, with a bend in every column between; lines from one box share their bends."""
    shared: dict[tuple[str, int], Spot] = {}
    joined: set[tuple[int, int]] = set()
    ways: dict[tuple[str, str], list[Spot]] = {}
    for first, later in chart.arrows:
        way = [boxes[first]]
        between = range(boxes[first].column + 1, boxes[later].column)
        if len(shared) + len(between) <= _MAX_BENDS:
            for column in between:
                if (first, column) not in shared:
                    shared[first, column] = Spot("", column, len(boxes) + len(shared), bend)
                    columns[column].append(shared[first, column])
                way.append(shared[first, column])
        way.append(boxes[later])
        ways[first, later] = way
        for one, other in pairwise(way):
            if (one.index, other.index) not in joined:
                joined.add((one.index, other.index))
                one.right.append(other)
                other.left.append(one)
    return ways


# --- the order within columns ------------------------------------------------------------------------------------


def _untangle(columns: list[list[Spot]]) -> None:
    """Sweeps there and back; the order with the fewest crossings stays."""
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            place = {id(spot): float(number) for number, spot in enumerate(column)}
            column.sort(key=lambda spot: _wish(spot, columns, forward, place))
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    for column, ordered in zip(columns, best, strict=True):
        column[:] = ordered


def _wish(spot: Spot, columns: list[list[Spot]], forward: bool, place: Mapping[int, float]) -> tuple[float, float]:
    neighbours = spot.left if forward else spot.right
    if not neighbours:
        return place[id(spot)], place[id(spot)]
    rank = _ranks(columns[neighbours[0].column])
    far = [rank.get(id(other), 0) for other in neighbours]
    return sum(far) / len(far), place[id(spot)]


def _ranks(column: list[Spot]) -> dict[int, int]:
    return {id(spot): number for number, spot in enumerate(column)}


def _crossings(columns: list[list[Spot]]) -> int:
    """How often lines between neighbouring columns cross, counted with a tree of sums."""
    total = 0
    for left, right in pairwise(columns):
        rank = _ranks(right)
        ends = [end for spot in left for end in sorted(rank[id(other)] for other in spot.right if id(other) in rank)]
        sums = [0] * (len(right) + 1)
        for seen, end in enumerate(ends):
            total += seen - _sum_to(sums, end + 1)
            position = end + 1
            while position < len(sums):
                sums[position] += 1
                position += position & -position
    return total


def _sum_to(sums: list[int], position: int) -> int:
    total = 0
    while position > 0:
        total += sums[position]
        position -= position & -position
    return total


# --- heights -----------------------------------------------------------------------------------------------------


def _settle(columns: list[list[Spot]], gap: float) -> None:
    """Heights that keep the order and bring neighbours level."""
    for column in columns:
        y = 0.0
        for spot in column:
            spot.y = y + spot.height / 2
            y += spot.height + gap
    tallest = max((column[-1].y + column[-1].height / 2 for column in columns if column), default=0.0)
    for column in columns:
        if column:
            shift = (tallest - column[-1].y - column[-1].height / 2) / 2
            for spot in column:
                spot.y += shift
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wishes = [_level(spot) for spot in column]
            for spot, y in zip(column, _spread(column, wishes, gap), strict=True):
                spot.y = y
    top = min((spot.y - spot.height / 2 for column in columns for spot in column), default=0.0)
    for column in columns:
        for spot in column:
            spot.y = round(spot.y - top, 1)


def _level(spot: Spot) -> float:
    """The mean height of all neighbours; bends pull harder, so that long lines are straight."""
    around = [*spot.left, *spot.right]
    if not around:
        return spot.y
    weights = [3.0 if not spot.name and not other.name else 1.0 for other in around]
    return sum(other.y * weight for other, weight in zip(around, weights, strict=True)) / sum(weights)


def _spread(column: Sequence[Spot], wishes: Sequence[float], gap: float) -> list[float]:
    """Heights nearest to the wishes, with room for everyone in this order: isotonic regression of what is left of the
    wishes when each is moved up by the room of those above it."""
    offsets = []
    total = 0.0
    for place, spot in enumerate(column):
        if place:
            total += column[place - 1].height / 2 + gap + spot.height / 2
        offsets.append(total)
    pools: list[list[float]] = []  # sum, count
    for wish, offset in zip(wishes, offsets, strict=True):
        pools.append([wish - offset, 1.0])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1][0] += last[0]
            pools[-1][1] += last[1]
    levels = [pool[0] / pool[1] for pool in pools for _ in range(int(pool[1]))]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]
