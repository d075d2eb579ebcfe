"""A chart as SVG: the start order from left to right, one column for each level.

A box is a service, blue for a longrun, yellow for a oneshot; a line leads to what waits for it. The critical path is drawn
strong. Bundles are coloured tags on their members, pipes are dashed green lines. No program, font file or library is
needed, and the same chart gives the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from sixsmith.s6.chart import Chart, Mark
from sixsmith.s6.picture import facts, summary
from sixsmith.s6.picture_layout import Layout, Spot, lay_out

__all__ = ["render_svg"]

_FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
_NAME, _FACTS = 13.0, 10.0
_ADVANCE = 0.603
"""Width of a letter of a monospaced font, in its size."""
_BOX, _BEND, _GAP = 38.0, 4.0, 12.0
_BETWEEN = 70.0
_MARGIN, _HEAD, _FOOT_LINE = 24.0, 40.0, 18.0
_LONGEST = 30
_TAG = 7.0
_TAGS = ("#c2553a", "#7b58a8", "#2f8f9d", "#b08a1e", "#4d7d3a", "#a8457f", "#5b6b8c", "#8a5a3c")
_STYLE = f"""\
text {{ font-family: {_FONT}; fill: #1f2933 }}
.name {{ font-size: {_NAME:g}px }}
.facts, .head, .foot {{ font-size: {_FACTS:g}px; fill: #52606d }}
.box {{ stroke: #9aa5b1; stroke-width: 1 }}
.longrun {{ fill: #dbe9f6 }}
.oneshot {{ fill: #fbeed1 }}
.critical .box {{ stroke: #1f2933; stroke-width: 2 }}
.line {{ fill: none; stroke: #9aa5b1; stroke-width: 1.2 }}
.line.critical {{ stroke: #1f2933; stroke-width: 2.2 }}
.pipe {{ fill: none; stroke: #2a7f62; stroke-width: 1.6; stroke-dasharray: 5 3 }}
.column {{ fill: #f5f7fa }}"""
_ARROWS = "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="{size}" markerHeight="{size}"'
    f' markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 0.5L8 4L0 7.5z" fill="{colour}"/></marker>'
    for name, size, colour in (("a", 8, "#7b8794"), ("c", 10, "#1f2933"), ("p", 9, "#2a7f62"))
)


def render_svg(chart: Chart) -> str:
    """The picture, a whole SVG document."""
    return _Picture(chart).render()


class _Picture:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.layout: Layout = lay_out(chart, box=_BOX, bend=_BEND, gap=_GAP)
        self.tags = {name: _TAGS[place % len(_TAGS)] for place, name in enumerate(chart.bundles)}
        self.widths = [self.width_of(column) for column in self.layout.columns]
        self.lefts: list[float] = []
        left = _MARGIN
        for width in self.widths:
            self.lefts.append(left)
            left += width + _BETWEEN
        self.right = max(left - _BETWEEN, _MARGIN + 200)
        way = chart.critical_path
        self.critical = set(way) if len(way) > 1 else set()
        self.critical_lines = set(pairwise(way))

    def width_of(self, column: Sequence[Spot]) -> float:
        widest = 60.0
        for spot in column:
            if spot.name:
                name = len(_short(spot.name)) * _NAME + len(self.tags_of(spot.name)) * (_TAG + 3) / _ADVANCE
                told = len(_told(self.chart.marks[spot.name])) * _FACTS
                widest = max(widest, max(name, told) * _ADVANCE + 24)
        return round(widest, 1)

    def tags_of(self, name: str) -> list[str]:
        return [bundle for bundle, members in self.chart.bundles.items() if name in members]

    def render(self) -> str:
        foot = self.foot()
        width = max(
            self.right + _MARGIN, _MARGIN * 2 + max((len(line) for line, _ in foot), default=0) * _FACTS * _ADVANCE + 16
        )
        top = _HEAD + _MARGIN
        bottom = top + self.layout.height + _MARGIN
        height = bottom + len(foot) * _FOOT_LINE + _MARGIN / 2
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">',
            f"<title>Start order of {len(self.chart.marks)} services</title>",
            f"<style>\n{_STYLE}\n</style>",
            f"<defs>{_ARROWS}</defs>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *self.columns(bottom),
            f'<g transform="translate(0 {top:g})">',
            *self.lines(),
            *self.boxes(),
            *self.pipes(),
            "</g>",
            *self.foot_texts(foot, bottom),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    # --- the parts

    def columns(self, bottom: float) -> Iterator[str]:
        for number, (left, width) in enumerate(zip(self.lefts, self.widths, strict=True), 1):
            yield (
                f'<rect class="column" x="{left - 12:g}" y="{_HEAD - 18:g}" width="{width + 24:g}"'
                f' height="{bottom - _HEAD + 6:g}" rx="8"/>'
            )
            yield f'<text class="head" x="{left + width / 2:g}" y="{_HEAD:g}" text-anchor="middle">{number}</text>'

    def boxes(self) -> Iterator[str]:
        for name, spot in self.layout.boxes.items():
            mark = self.chart.marks[name]
            left, width = self.lefts[spot.column], self.widths[spot.column]
            top = spot.y - _BOX / 2
            strong = " critical" if name in self.critical else ""
            radius = 8 if mark.kind == "longrun" else 2
            yield f'<g class="service{strong}"><title>{escape(self.tooltip(mark))}</title>'
            yield (
                f'<rect class="box {mark.kind}" x="{left:g}" y="{top:g}" width="{width:g}" height="{_BOX:g}" rx="{radius}"/>'
            )
            yield f'<text class="name" x="{left + 12:g}" y="{top + 16.5:g}">{escape(_short(name))}</text>'
            yield f'<text class="facts" x="{left + 12:g}" y="{top + 30:g}">{escape(_told(mark))}</text>'
            for place, bundle in enumerate(self.tags_of(name)):
                x = left + width - 9 - place * (_TAG + 3)
                yield f'<circle cx="{x:g}" cy="{top + 10:g}" r="{_TAG / 2:g}" fill="{self.tags[bundle]}"><title>{escape(bundle)}</title></circle>'
            yield "</g>"

    def tooltip(self, mark: Mark) -> str:
        told = [f"{mark.name}: {', '.join(facts(mark))}"]
        if mark.waits:
            told.append(f"waits for {', '.join(mark.waits)}")
        if mark.log:
            told.append(f"log: {mark.log}")
        told += [f"in {bundle}" for bundle in self.tags_of(mark.name)]
        return "; ".join(told)

    def lines(self) -> Iterator[str]:
        """Strong lines last, on top of the others."""
        for arrow in sorted(self.layout.ways, key=lambda arrow: arrow in self.critical_lines):
            strong = arrow in self.critical_lines
            path = self.path(self.layout.ways[arrow])
            yield f'<path class="line{" critical" * strong}" d="{path}" marker-end="url(#{"c" if strong else "a"})"/>'

    def path(self, way: Sequence[Spot], lower: float = 0.0) -> str:
        """Smooth from the right side of the first box through the bends to the left side of the last; `lower` moves it."""
        x = self.lefts[way[0].column] + self.widths[way[0].column]
        y = way[0].y + lower
        parts = [f"M{x:g} {y:g}"]
        for spot in way[1:]:
            next_x = self.lefts[spot.column]
            half = (next_x - x) / 2
            next_y = spot.y + lower
            parts.append(f"C{x + half:g} {y:g} {next_x - half:g} {next_y:g} {next_x:g} {next_y:g}")
            x, y = next_x, next_y
            if not spot.name:
                x = self.lefts[spot.column] + self.widths[spot.column]
                parts.append(f"H{x:g}")
        return "".join(parts)

    def pipes(self) -> Iterator[str]:
        """From a producer back to its consumer, which is up before it, beside the line for that."""
        for (consumer, producer), way in self.layout.ways.items():
            if producer in self.chart.marks[consumer].reads:
                title = f"<title>{escape(f'{producer} | {consumer}')}</title>"
                path = self.path(way, lower=6)
                yield f'<path class="pipe" d="{path}" marker-start="url(#p)">{title}</path>'

    def foot(self) -> list[tuple[str, str]]:
        """The legend: lines of text, each with the colour of its tag ("" for none)."""
        lines = [(summary(self.chart), "")]
        lines += [(f"pipeline {name}: {' | '.join(members)}", "") for name, members in self.chart.pipelines.items()]
        for name, members in self.chart.bundles.items():
            shown = ", ".join(members) if len(members) <= 8 else f"{', '.join(members[:7])}, … ({len(members)})"
            lines.append((f"bundle {name}: {shown}", self.tags[name]))
        lines.append(
            ("columns: start order · A → B: B waits for A · blue: longrun · yellow: oneshot · dashed: pipe", "")
        )
        return [(line if len(line) <= 150 else f"{line[:148]} …", colour) for line, colour in lines]

    def foot_texts(self, foot: Sequence[tuple[str, str]], bottom: float) -> Iterator[str]:
        for number, (line, colour) in enumerate(foot, 1):
            y = bottom + number * _FOOT_LINE
            x = _MARGIN
            if colour:
                yield f'<circle cx="{x + 4:g}" cy="{y - 3.5:g}" r="{_TAG / 2:g}" fill="{colour}"/>'
                x += 14
            yield f'<text class="foot" x="{x:g}" y="{y:g}">{escape(line)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _told(mark: Mark) -> str:
    return " · ".join(facts(mark))
