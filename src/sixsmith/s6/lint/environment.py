"""The variables that s6-overlay reads, by release, and what their values do (C4 of the rule list: V1 to V11).

Sources: the scripts of 1.21.4.0, 2.1.0.2, 3.1.6.2 and 3.2.1.0, the changelog and README of s6-overlay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from sixsmith.errors import nearest
from sixsmith.s6.finding import Finding
from sixsmith.s6.found import FoundOverlay, Order, overlay_of_version, version_order
from sixsmith.s6.lint.rules import RULES

__all__ = ["VARIABLES", "Variable", "check_environment"]

Kind = Literal["switch", "choice", "milliseconds", "number", "text", "path", "command", "user"]


class Variable(msgspec.Struct, frozen=True):
    """One variable: the first release that knows it, the first that does not any more, what its value is, and the
    values of a choice."""

    name: str
    kind: Kind
    since: Order
    until: Order | None = None
    choices: tuple[int, ...] = ()


_ALL = (
    Variable("S6_KEEP_ENV", "switch", (1, 18)),
    Variable("S6_LOGGING", "choice", (1,), choices=(0, 1, 2)),
    Variable("S6_LOGGING_SCRIPT", "text", (1,)),
    Variable("S6_CATCHALL_USER", "user", (3,)),
    Variable("S6_BEHAVIOUR_IF_STAGE2_FAILS", "choice", (1,), choices=(0, 1, 2)),
    Variable("S6_KILL_FINISH_MAXTIME", "milliseconds", (1,)),
    Variable("S6_KILL_GRACETIME", "milliseconds", (1,)),
    Variable("S6_SERVICES_GRACETIME", "milliseconds", (1, 21, 7)),
    Variable("S6_SERVICES_READYTIME", "milliseconds", (3, 1, 2)),
    Variable("S6_SYNC_DISKS", "switch", (1, 22)),
    Variable("S6_READ_ONLY_ROOT", "switch", (1, 21)),
    Variable("S6_RUNTIME_PROFILE", "text", (1, 14, 0, 3)),
    Variable("S6_RUNTIME_BUNDLEDIR", "path", (3, 2, 3, 1)),
    Variable("S6_CMD_ARG0", "command", (1, 18)),
    Variable("S6_CMD_WAIT_FOR_SERVICES", "switch", (1, 18, 1, 5)),
    Variable("S6_CMD_WAIT_FOR_SERVICES_MAXTIME", "milliseconds", (1, 18, 1, 5)),
    Variable("S6_CMD_USE_TERMINAL", "switch", (3, 1, 5)),
    Variable("S6_CMD_RECEIVE_SIGNALS", "switch", (3, 1, 2)),
    Variable("S6_FIX_ATTRS_HIDDEN", "switch", (1, 18, 1, 5)),
    Variable("S6_STAGE2_HOOK", "command", (3, 1, 1, 1)),
    Variable("S6_VERBOSITY", "number", (3, 1, 1, 1)),
    Variable("S6_WAIT_FOR_CLOSING_FD", "number", (3, 2, 2)),
    Variable("S6_GLOBAL_PATH", "text", (3, 0, 0, 2, 1), (3, 1, 0, 1)),
    Variable("S6_YES_I_WANT_A_WORLD_WRITABLE_RUN_BECAUSE_KUBERNETES", "switch", (3, 2, 1)),
)
VARIABLES: Mapping[str, Variable] = {variable.name: variable for variable in _ALL}
"""Every variable that any release reads, by name."""

_BUILD_TIME = r"S6_?(OVERLAY(_.*)?|VERSION|ARCH|RELEASE|DOWNLOAD.*|.*_(VERSION|ARCH|URL|SHA\d*|SHA256SUM|CHECKSUM|RELEASE|TARBALL|PLATFORM|REPO))"
"""Variables that Dockerfiles use for fetching the overlay; s6-overlay does not read them, nor should it."""
_VERSION_NAMES = ("S6_OVERLAY_VERSION", "S6_VERSION", "S6_OVERLAY_RELEASE", "S6OVERLAY_VERSION")
_ALIASES = {
    "S6_BEHAVIOR_IF_STAGE2_FAILS": "S6_BEHAVIOUR_IF_STAGE2_FAILS",
    "S6_BEHAVIOUR_IF_STAGE2_FAIL": "S6_BEHAVIOUR_IF_STAGE2_FAILS",
    "S6_CMD_WAIT_FOR_SERVICES_TIMEOUT": "S6_CMD_WAIT_FOR_SERVICES_MAXTIME",
    "S6_SERVICE_GRACETIME": "S6_SERVICES_GRACETIME",
    "S6_READONLY_ROOT": "S6_READ_ONLY_ROOT",
    "S6_KEEPENV": "S6_KEEP_ENV",
    "S6_LOG_LEVEL": "S6_VERBOSITY",
    "S6_VERBOSE": "S6_VERBOSITY",
}
_FIVE_SECONDS_UNTIL = (3, 2, 0, 0)
_SHORT_LIMIT = 10_000
_SYNCS_UNTIL = (1, 22)


def check_environment(
    env: Mapping[str, str], overlay_version: str | FoundOverlay | None = None, *, starts_something: bool = True
) -> tuple[Finding, ...]:
    """What is wrong with the S6_* variables among `env` for a release (`v` or not), or for any when it is not told.

    `starts_something` False keeps back advice for services (V4, V5) about an image that has none. Raises ValueError for
    a version that is none.
    """
    overlay = overlay_of_version(overlay_version) if isinstance(overlay_version, str) else overlay_version
    return tuple(_Environment(env, overlay, starts_something).findings())


class _Environment:
    def __init__(self, env: Mapping[str, str], overlay: FoundOverlay | None, starts_something: bool) -> None:
        self.env = env
        self.overlay = overlay
        self.starts_something = starts_something

    def findings(self) -> Iterator[Finding]:
        for name, value in self.env.items():
            if name in VARIABLES:
                yield from self.version(VARIABLES[name])
                yield from self.value(VARIABLES[name], value)
            elif re.match(r"S6_|S6[A-Z]", name):
                yield from self.unknown(name)
        yield from self.limits()
        yield from self.habits()
        yield from self.said_version()

    def found(self, rule: str, name: str, message: str, hint: str | None = None) -> Finding:
        known = RULES[rule]
        return Finding(
            rule, known.severity, f"ENV {name}", 0, message, known.hint if hint is None else hint, known.reference
        )

    def number(self, name: str, default: int) -> int:
        """The value as the overlay takes it: anything but digits is the default."""
        value = self.env.get(name, "")
        return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else default

    # ---- V1, V2

    def unknown(self, name: str) -> Iterator[Finding]:
        if re.fullmatch(_BUILD_TIME, name) or name.startswith("S6_FD#"):
            return
        upper = name.upper()
        right = _ALIASES.get(upper) or (upper if upper in VARIABLES else None)
        hint = f"did you mean '{right}'?" if right else nearest(name, VARIABLES)
        yield self.found(
            "V1", name, "s6-overlay knows no such variable", hint or "leave it out, or name it without the prefix S6_"
        )

    def version(self, variable: Variable) -> Iterator[Finding]:
        if self.overlay is None:
            return
        if self.overlay.before(*variable.since):
            first = ".".join(str(number) for number in (*variable.since, 0, 0, 0)[:4])
            hint = f"it came with {first}: take that or a later one, or leave the variable out"
            yield self.found("V2", variable.name, f"{self.overlay} does not know it yet", hint)
        elif variable.until is not None and self.overlay.since(*variable.until):
            hint = "set PATH instead" if variable.name == "S6_GLOBAL_PATH" else "leave it out"
            yield self.found("V2", variable.name, f"{self.overlay} does not know it any more", hint)

    # ---- V3

    def value(self, variable: Variable, value: str) -> Iterator[Finding]:
        name, kind = variable.name, variable.kind
        if kind in ("switch", "choice", "milliseconds", "number"):
            if not re.fullmatch(r"[0-9]+", value):
                yield self.found(
                    "V3", name, f"`{value}` is no number, so the default is taken", _number_hint(variable, value)
                )
            elif kind == "choice" and int(value) not in variable.choices:
                listed = ", ".join(str(choice) for choice in variable.choices)
                yield self.found("V3", name, f"{value} means nothing", f"it is one of {listed}")
            elif kind == "switch" and int(value) > 1:
                yield self.found("V3", name, f"{value} for a switch", "write 0 or 1")
            elif name == "S6_CMD_WAIT_FOR_SERVICES_MAXTIME" and 0 < int(value) < 1000:
                yield self.found(
                    "V3", name, f"{value} milliseconds: were seconds meant?", f"write {value}000 for {value} seconds"
                )
        elif (
            kind in ("path", "command")
            and name != "S6_CMD_ARG0"
            and value
            and not value.startswith("/")
            and kind == "path"
        ):
            yield self.found("V3", name, f"`{value}` is no whole path", "begin it with /")
        elif kind == "text" and name == "S6_RUNTIME_PROFILE" and "/" in value:
            yield self.found(
                "V3", name, f"`{value}` is looked for below /etc/cont-profile.d", "write the profile's name only"
            )

    # ---- V4, V6, V7

    def limits(self) -> Iterator[Finding]:
        overlay, name = self.overlay, "S6_CMD_WAIT_FOR_SERVICES_MAXTIME"
        waits = self.number("S6_CMD_WAIT_FOR_SERVICES", 0) != 0
        five_seconds = overlay is not None and overlay.before(*_FIVE_SECONDS_UNTIL) and (overlay.major == 3 or waits)
        if five_seconds and name not in self.env and self.starts_something:
            yield self.found("V4", name, f"not set: {overlay} gives services 5 s to start")
        limit = self.number(name, 5000 if five_seconds else 0)
        stops = self.number("S6_BEHAVIOUR_IF_STAGE2_FAILS", 0) >= 2
        applies = overlay is None or overlay.major == 3 or waits
        if stops and applies and 0 < limit <= _SHORT_LIMIT and (name in self.env or self.starts_something):
            yield self.found(
                "V6", name, f"a container that needs more than {limit / 1000:g} s stops, and is started again"
            )
        ready_default = 50
        ready = self.number("S6_SERVICES_READYTIME", ready_default)
        if (
            waits
            and "S6_SERVICES_READYTIME" in self.env
            and ready < ready_default
            and (overlay is None or overlay.major == 3)
        ):
            yield self.found("V7", "S6_SERVICES_READYTIME", f"{ready} ms are too few")

    # ---- V5, V8, V9, V10

    def habits(self) -> Iterator[Finding]:
        behaviour = "S6_BEHAVIOUR_IF_STAGE2_FAILS"
        if behaviour not in self.env and self.overlay is not None and self.starts_something:
            yield self.found("V5", behaviour, "not set: failures at boot are passed over")
        elif self.env.get(behaviour) == "0":
            yield self.found("V5", behaviour, "0: failures at boot are passed over")
        if self.number("S6_KEEP_ENV", 0):
            yield self.found("V8", "S6_KEEP_ENV", "every process gets the container's environment")
        if self.overlay is not None and self.overlay.before(*_SYNCS_UNTIL):
            yield self.found(
                "V9", "S6_SYNC_DISKS", f"{self.overlay} syncs all disks of the host at each stop, whatever is set"
            )
        elif self.number("S6_SYNC_DISKS", 0):
            yield self.found("V9", "S6_SYNC_DISKS", "all disks of the host are synced at each stop", "leave it out")
        verbosity = self.number("S6_VERBOSITY", 2)
        if verbosity == 0 or verbosity >= 3:
            what = "0 hides errors" if verbosity == 0 else f"{verbosity} writes much into the log"
            yield self.found("V10", "S6_VERBOSITY", what)

    # ---- V11

    def said_version(self) -> Iterator[Finding]:
        for name in _VERSION_NAMES:
            said = self.env.get(name, "")
            try:
                order = version_order(said)
            except ValueError:
                continue
            if self.overlay is None or len(order) < 4:
                continue
            possible = {version_order(version) for version in self.overlay.possible}
            if possible and order not in possible and (self.overlay.version or order[0] != self.overlay.major):
                yield self.found("V11", name, f"it says {said}, and the image has {self.overlay}")


def _number_hint(variable: Variable, value: str) -> str:
    if variable.kind == "switch":
        return "write 1" if value.lower() in ("true", "yes", "on", "y") else "write 0 or 1"
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min)\s*", value)
    if match and variable.kind == "milliseconds":
        factor = {"ms": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000}[match[2]]
        return f"write {float(match[1]) * factor:.0f}, milliseconds"
    if variable.kind == "milliseconds":
        return "write a number of milliseconds; 0 is no limit"
    return "write a number"
