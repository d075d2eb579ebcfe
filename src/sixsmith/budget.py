"""What an image may cost: `budget` of the family file, held against what a build (or a boot) found."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["bytes_of", "over_budget"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZES = frozenset(["size", "memory"])


def bytes_of(text: str) -> int:
    """`40M`, `512K`, `1G`, as a budget spells sizes: powers of 1024."""
    text = text.strip().upper().removesuffix("IB").removesuffix("B")
    number = text.rstrip("KMG")
    return int(float(number) * _UNITS[text[len(number) :]])


def over_budget(budget: Mapping[str, str], found: Mapping[str, int]) -> list[str]:
    """A sentence for each of these numbers that is over the budget."""
    said = []
    for name, value in found.items():
        if name not in budget:
            continue
        most = bytes_of(budget[name]) if name in _SIZES else int(budget[name])
        unit = " bytes" if name in _SIZES else ""
        if value > most:
            said.append(f"{name} {value:,}{unit}, over the budget of {most:,}{unit}")
    return said
