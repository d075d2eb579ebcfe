"""Text that remembers where it was written.

A YAML file is read as text, lists and mappings that carry their place, so that an error found much later, by the room that
knows the meaning (a service, a package name), can still point at the line and column. They behave as `str`, `list` and
`dict` do: they compare, hash and print by their content.
"""

from __future__ import annotations

from typing import Any

from sixsmith.errors import Place

__all__ = ["Spelled", "SpelledList", "SpelledMapping", "SpelledTree", "place_of", "plain"]


class Spelled(str):
    """A scalar as the file spells it (`3.20`, `no`). `nothing` is true where the file gives no value (`key:`, `~`)."""

    __slots__ = ("nothing", "place")

    place: Place
    nothing: bool

    def __new__(cls, text: str, place: Place, nothing: bool = False) -> Spelled:
        self = super().__new__(cls, text)
        self.place = place
        self.nothing = nothing
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Spelled, (str(self), self.place, self.nothing)


class SpelledList(list["SpelledTree"]):
    """A sequence with the place where it starts."""

    __slots__ = ("place",)

    def __init__(self, items: list[SpelledTree], place: Place) -> None:
        super().__init__(items)
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return SpelledList, (list(self), self.place)


class SpelledMapping(dict[Spelled, "SpelledTree"]):
    """A mapping with the place where it starts; its keys have their own places."""

    __slots__ = ("place",)

    def __init__(self, items: dict[Spelled, SpelledTree], place: Place) -> None:
        super().__init__(items)
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return SpelledMapping, (dict(self), self.place)


SpelledTree = Spelled | SpelledList | SpelledMapping


def place_of(value: object) -> Place | None:
    """Where `value` was written, or None for a value that no file spelled."""
    return getattr(value, "place", None)


def plain(value: object) -> Any:
    """The same tree of ordinary `str`, `list` and `dict`."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
