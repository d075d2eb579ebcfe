"""What happened, as frozen values.

The core is silent: it hands events to a `Reporter`, and the faces decide what a person sees. `silent` is the default.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = [
    "CellDone",
    "CellStarted",
    "Event",
    "Fetched",
    "LayerWritten",
    "Progress",
    "Reporter",
    "Resolved",
    "Skipped",
    "Uploaded",
    "Warned",
    "silent",
]


class Event(msgspec.Struct, frozen=True):
    """Base of all events; `cell` is the variant's id, or empty when the event belongs to no cell."""

    cell: str


class CellStarted(Event, frozen=True):
    """Work on one variant began."""


class Resolved(Event, frozen=True):
    """The packages of a cell are known; `download_size` is their sum in bytes."""

    packages: int
    download_size: int


class Fetched(Event, frozen=True):
    """A file arrived and was verified; `cached` when it was in the store already. Size in bytes."""

    name: str
    size: int
    cached: bool


class LayerWritten(Event, frozen=True):
    """A layer is in the store. `kind` is base, verbatim, spliced, overlay or top; size in bytes as stored."""

    kind: str
    digest: str
    size: int
    cached: bool


class CellDone(Event, frozen=True):
    """The cell's image is in the store."""

    digest: str
    size: int
    seconds: float


class Uploaded(Event, frozen=True):
    """A blob or manifest reached the registry; `how` is uploaded, mounted or skipped. Size in bytes."""

    digest: str
    size: int
    how: str


class Skipped(Event, frozen=True):
    """Something was left out, and why."""

    what: str
    reason: str


class Warned(Event, frozen=True):
    """Something a person should know; the work goes on."""

    message: str
    hint: str | None = None


class Progress(Event, frozen=True):
    """Bytes of one transfer so far; `total` is 0 when unknown."""

    name: str
    done: int
    total: int


class Reporter(Protocol):
    """Listens to events. Called from several threads; must not raise."""

    def __call__(self, event: Event, /) -> None: ...


def silent(event: Event, /) -> None:
    """The null reporter."""
