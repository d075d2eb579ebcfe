"""Which cells are meant: image names, cell ids and tags, with globs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from sixsmith.errors import UsageError, nearest
from sixsmith.model.arch import arch_named
from sixsmith.variant import Variant

__all__ = ["select", "with_parents"]


def select(cells: Sequence[Variant], patterns: Iterable[str] = (), arches: Iterable[str] = ()) -> tuple[Variant, ...]:
    """The cells that any pattern names, in the order of `cells`; all of them when there is no pattern.

    A pattern is an image name, a cell id with or without `/ARCH`, `IMAGE:TAG`, or a tag; `*`, `?` and `[…]` are globs.
    `arches` (apk spellings) keeps only those architectures. Raises UsageError with the nearest names when a pattern, or an
    architecture, matches nothing.
    """
    chosen: set[str] = set()
    wanted = list(patterns)
    for pattern in wanted:
        found = {cell.id for cell in cells if _matches(cell, pattern)}
        if not found:
            known = dict.fromkeys(name for cell in cells for name in _names(cell))
            hint = nearest(pattern, known) or f"images: {', '.join(dict.fromkeys(cell.image for cell in cells))}"
            raise UsageError(f"nothing is called '{pattern}'", hint=hint)
        chosen |= found
    picked = [cell for cell in cells if cell.id in chosen] if wanted else list(cells)
    names = [arch_named(arch).name for arch in arches]
    if not names:
        return tuple(picked)
    for name in names:
        if not any(cell.arch.name == name for cell in picked):
            there = ", ".join(dict.fromkeys(cell.arch.name for cell in picked))
            raise UsageError(f"none of these cells is for {name}", hint=f"they are for {there}")
    return tuple(cell for cell in picked if cell.arch.name in names)


def with_parents(chosen: Iterable[Variant], cells: Sequence[Variant]) -> tuple[Variant, ...]:
    """`chosen` and every cell that they stand on, in the order of `cells`: what a build must have."""
    by_id = {cell.id: cell for cell in cells}
    needed: set[str] = set()
    waiting = [cell.id for cell in chosen]
    while waiting:
        cell = by_id[waiting.pop()]
        if cell.id not in needed:
            needed.add(cell.id)
            if cell.parent is not None:
                waiting.append(cell.parent)
    return tuple(cell for cell in cells if cell.id in needed)


def _names(cell: Variant) -> list[str]:
    return [cell.image, cell.cell, cell.id, *(f"{cell.image}:{tag}" for tag in cell.tags), *cell.tags]


def _matches(cell: Variant, pattern: str) -> bool:
    if pattern in _names(cell):
        return True
    return any(character in pattern for character in "*?[") and any(fnmatchcase(name, pattern) for name in _names(cell))
