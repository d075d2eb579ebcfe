"""Charts as text for a terminal, and as DOT for Graphviz; `picture_svg` draws them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

from sixsmith.s6.chart import Chart, Mark

__all__ = ["render_dot", "render_text", "shown_time"]


def shown_time(milliseconds: int) -> str:
    """`1m 30s`, `2.5s`, `200ms`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s" if rest else ""
    return f"{minutes}m {seconds}".strip() if minutes else seconds


def facts(mark: Mark) -> list[str]:
    """What there is to know of a service, in a few words each."""
    told = [mark.kind]
    if mark.ready:
        told.append(f"ready: {mark.ready}")
    if mark.timeout:
        told.append(f"≤ {shown_time(mark.timeout)}")
    if mark.log:
        told.append("log")
    if mark.stops:
        told.append("stops container")
    return told


def summary(chart: Chart) -> str:
    """The critical path in a sentence."""
    way = chart.critical_path
    if not way:
        return "there are no services"
    time = chart.critical_time
    limit = f", at most {shown_time(time)}" if time is not None else ""
    steps = f"{len(way)} step{'s' * (len(way) != 1)}"
    return f"critical path ({steps}{limit}): {' → '.join(way)}"


# --- text --------------------------------------------------------------------------------------------------------


def render_text(chart: Chart) -> str:
    """Levels from top to bottom; behind each service what it waits for, as far as it is not implied.

    `●` is a longrun, `○` a oneshot, `*` marks the critical path.
    """
    waits: dict[str, list[str]] = {}
    for first, later in chart.arrows:
        waits.setdefault(later, []).append(first)
    critical = set(chart.critical_path)
    width = max((len(name) for name in chart.marks), default=0)
    told = {name: ", ".join(facts(mark)) for name, mark in chart.marks.items()}
    middle = min(max((len(each) for each in told.values()), default=0), 56)
    lines = []
    for level, names in groupby(chart.order, key=lambda name: chart.levels[name]):
        for place, name in enumerate(names):
            number = f"{level:>3} " if place == 0 else "    "
            sign = "●" if chart.marks[name].kind == "longrun" else "○"
            star = "*" if name in critical and len(critical) > 1 else " "
            line = f"{number}{sign}{star}{name:<{width}}  {told[name]:<{middle}}"
            if name in waits:
                line += f"  ← {', '.join(_folded(waits[name], chart))}"
            lines.append(line.rstrip())
    lines += ["", *_groups(chart)] if chart.bundles or chart.pipelines else []
    return "\n".join([*lines, "", summary(chart), ""])


def _folded(names: list[str], chart: Chart) -> list[str]:
    """The names in order, with a bundle's name for its members where they are all there."""
    left = dict.fromkeys(sorted(names))
    for bundle, members in chart.bundles.items():
        if len(members) > 1 and all(member in left for member in members):
            left = dict.fromkeys([*(name for name in left if name not in members), bundle])
    return list(left)


def _groups(chart: Chart) -> Iterator[str]:
    for name, members in chart.pipelines.items():
        yield f"pipeline {name}: {' | '.join(members)}"
    for name, members in chart.bundles.items():
        yield f"bundle {name}: {', '.join(members) or 'empty'}"


# --- DOT ---------------------------------------------------------------------------------------------------------


def render_dot(chart: Chart) -> str:
    """A graph for Graphviz, from left to right: an arrow leads from a service to those that wait for it."""
    way = chart.critical_path
    critical = set(pairwise(way))
    lines = ["digraph services {", "  rankdir=LR;", '  node [shape=box, style="rounded,filled", fontname="monospace"];']
    for name in chart.order:
        mark = chart.marks[name]
        colour = "#dbe9f6" if mark.kind == "longrun" else "#fbeed1"
        label = f"{_escaped(name)}\\n{_escaped(', '.join(facts(mark)))}"
        wide = ", penwidth=2" if name in way and len(way) > 1 else ""
        lines.append(f'  {_quoted(name)} [label="{label}", fillcolor="{colour}"{wide}];')
    for level, names in groupby(chart.order, key=lambda name: chart.levels[name]):
        lines.append(f"  {{ rank=same; {' '.join(_quoted(name) + ';' for name in names)} }} // {level}")
    for first, later in chart.arrows:
        wide = " [penwidth=2]" if (first, later) in critical else ""
        lines.append(f"  {_quoted(first)} -> {_quoted(later)}{wide};")
    for mark in chart.marks.values():
        for producer in mark.reads:
            arrow = f"{_quoted(producer)} -> {_quoted(mark.name)}"
            lines.append(f'  {arrow} [style=dashed, color="#2a7f62", constraint=false, label="pipe"];')
    for number, (name, members) in enumerate(chart.bundles.items()):
        lines.append(f"  subgraph cluster_{number} {{ label={_quoted(name)}; style=dashed;")
        lines.append(f"    {' '.join(_quoted(each) + ';' for each in members)}")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _quoted(name: str) -> str:
    return f'"{_escaped(name)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
