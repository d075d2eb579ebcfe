"""Services as the family file has them: written once, rendered for whatever overlay a cell has.

A service is a longrun (a program that is kept running), a oneshot (a program that brings something up, and maybe one that
takes it down), a bundle (a name for several) or a pipeline (longruns that read each other's output). Everything else is
what people write into those dozen tiny files by hand: who runs it, where, when it is ready, where its log goes, what
happens when it ends. `read_services` makes these values from the file's mapping and notes every mistake at its place;
`render` turns them into files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from sixsmith.errors import Place

__all__ = [
    "Command",
    "Kind",
    "Limit",
    "Log",
    "OnExit",
    "Program",
    "Ready",
    "Script",
    "Service",
    "Timeouts",
    "companions",
]

Kind = Literal["longrun", "oneshot", "bundle", "pipeline"]


class Command(msgspec.Struct, frozen=True):
    """A plain command as one line of shell words, fit to stand behind `exec`."""

    line: str
    place: Place


class Script(msgspec.Struct, frozen=True):
    """A whole script whose first line is `#!`; it ends in a newline."""

    text: str
    place: Place

    @property
    def interpreter(self) -> tuple[str, str]:
        """The program behind `#!`, and its argument ("" for none), as the kernel splits them."""
        first = self.text.partition("\n")[0][2:].strip()
        program, _, argument = first.partition(" ")
        return program, argument.strip()

    @property
    def body(self) -> str:
        """All lines behind the first."""
        return self.text.partition("\n")[2]


Program = Command | Script


class Ready(msgspec.Struct, frozen=True):
    """How a longrun tells that it is ready: it writes a newline to `fd` by itself, or `check` succeeds.

    Times are milliseconds. `tries` 0 means for ever. `health`: whether the image's health check looks at this service.
    """

    fd: int = 3
    check: Program | None = None
    every: int = 1000
    delay: int = 10
    timeout: int = 0
    tries: int = 0
    health: bool = True


class Log(msgspec.Struct, frozen=True):
    """Where the output goes: a folder of rotated files, written by `user`. `size` is bytes, `keep` a number of old files."""

    to: str
    keep: int = 20
    size: int = 1_000_000
    user: str = "nobody"
    timestamps: Literal["iso", "tai64n", "none"] = "iso"
    stderr: bool = True


class Timeouts(msgspec.Struct, frozen=True):
    """Milliseconds; None where nothing is said."""

    up: int | None = None
    down: int | None = None
    kill: int | None = None
    finish: int | None = None


class Limit(msgspec.Struct, frozen=True):
    """One resource limit: the letter of s6-softlimit's option, and a number or `=` for the hard limit."""

    option: str
    value: str


class OnExit(msgspec.Struct, frozen=True):
    """What happens when a longrun ends by itself. `code` is the container's exit code, None for the service's own."""

    action: Literal["restart", "stop-container", "never"] = "restart"
    code: int | None = None


class Service(msgspec.Struct, frozen=True):
    """One service. Names in `needs` and `contents` may be text that knows its place (`model.spelled`).

    `places` has the place of each key that the file gives. `needs` of a bundle and of a pipeline are (): give them to the
    members. The members of a pipeline are in order, the first producer first.
    """

    name: str
    kind: Kind
    place: Place
    needs: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    run: Program | None = None
    finish: Program | None = None
    up: Program | None = None
    down: Program | None = None
    user: str | None = None
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    workdir: str | None = None
    umask: str | None = None
    limits: tuple[Limit, ...] = ()
    ready: Ready | None = None
    log: Log | None = None
    timeout: Timeouts = Timeouts()
    down_signal: str | None = None
    on_exit: OnExit = OnExit()
    places: Mapping[str, Place] = msgspec.field(default_factory=dict)

    def at(self, *keys: str) -> Place:
        """The place of the first of these keys that the file gives, else the service's own."""
        return next((self.places[key] for key in keys if key in self.places), self.place)


def companions(service: Service) -> dict[str, str]:
    """Names of what v3 makes for a service beside itself, and what they are: a logger, its folder, their pipeline."""
    if service.log is None:
        return {}
    return {
        f"{service.name}-log": "logger",
        f"{service.name}-log-prepare": "oneshot that makes its log folder",
        f"{service.name}-pipeline": "pipeline with its logger",
    }


def by_name(services: Iterable[Service]) -> dict[str, Service]:
    """The services by their names."""
    return {service.name: service for service in services}
