"""Horizontal bars as SVG: light or dark, whatever the page is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _LABEL, _BAR, _STEP = 860, 300, 18, 28


def draw(rows: Sequence[tuple[str, float]], *, unit: str) -> str:
    """One bar for each (name, value), ours in another colour."""
    room = _WIDTH - _LABEL - 90
    most = max(value for _, value in rows)
    height = _STEP * len(rows) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(unit)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff" stroke="#d8dee6"/>',
        f'<text x="{_LABEL}" y="24" fill="#57606a">{escape(unit)}</text>',
    ]
    for number, (name, value) in enumerate(rows):
        top = 36 + number * _STEP
        ours = name.startswith("sixsmith: ")
        wide = max(1.5, value / most * room)
        parts.append(
            f'<text x="{_LABEL - 10}" y="{top + 14}" text-anchor="end" fill="#1f2328">'
            f"{escape(name.removeprefix('sixsmith: '))}</text>"
        )
        colour = "#0b7285" if ours else "#adb5bd"
        parts.append(f'<rect x="{_LABEL}" y="{top}" width="{wide:.1f}" height="{_BAR}" rx="3" fill="{colour}"/>')
        parts.append(f'<text x="{_LABEL + wide + 8:.1f}" y="{top + 14}" fill="#1f2328">{value:,.0f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
