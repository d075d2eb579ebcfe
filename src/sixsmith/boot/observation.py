"""One running container and what is known about it: what the checks look at."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sixsmith.boot.container import Container, Machine
from sixsmith.boot.image import BootImage
from sixsmith.boot.report import CheckResult, Explain, relevant_lines
from sixsmith.boot.spec import RunSpec
from sixsmith.boot.supervision import Layout, Process, Service, Supervision, find_layout

__all__ = ["GRACE_MS", "Observation", "Terms", "base_spec", "observe", "start_failed"]

GRACE_MS = 20
"""What `S6_KILL_GRACETIME` is while an image is checked: it is waited for whatever happens, 3 s by default."""

_CERTAIN = 3
"""Looks in a row after which bad news is believed."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a boot is measured against. `timeout` and `stop_time` in seconds; `patience` is a factor for emulated programs."""

    timeout: float = 30.0
    stop_time: float = 10.0
    keep_grace: bool = False
    patience: float = 1.0
    checks: tuple[Mapping[str, Any], ...] = ()
    explain: Explain = lambda line: None
    environment: Mapping[str, str] = field(default_factory=dict)

    def seconds(self, plain: float) -> float:
        """A time to wait, stretched for emulated programs."""
        return plain * self.patience


@dataclass(slots=True)
class Observation:
    """A container after its start. `ready_ms` is None when it did not become ready in time."""

    machine: Machine
    container: Container
    supervision: Supervision
    terms: Terms
    settled: bool = False
    ready_ms: int | None = None
    services: dict[str, Service] = field(default_factory=dict)

    @property
    def image(self) -> BootImage:
        return self.machine.image

    @property
    def layout(self) -> Layout:
        return self.supervision.layout

    @property
    def longruns(self) -> list[Service]:
        return [service for service in self.services.values() if service.kind == "longrun"]

    def processes(self) -> list[Process]:
        return self.supervision.processes()

    def refresh(self) -> dict[str, Service]:
        """Looks at the services again."""
        if self.layout.supervised:
            self.services = self.supervision.services() or self.services
        return self.services

    def look_again(self) -> None:
        """A second look a moment later, where a service cannot say that it is ready: one that ends at once is up for a moment."""
        if any(service.ready is None for service in self.longruns):
            self.container.wait_end(max(0.15, self.terms.seconds(0.15)))
            self.refresh()

    # --- verdicts

    def passed(self, name: str, message: str) -> CheckResult:
        return CheckResult(name, "passed", message)

    def skipped(self, name: str, message: str) -> CheckResult:
        return CheckResult(name, "skipped", message)

    def refused(self, name: str, message: str) -> CheckResult:
        return CheckResult(name, "refused", message, self.log())

    def failed(self, name: str, message: str, *, about: Sequence[str] = ()) -> CheckResult:
        self.container.pump(0)
        return CheckResult(name, "failed", message, self.log(tuple(about)))

    def log(self, about: tuple[str, ...] = ()) -> tuple[tuple[str, str | None], ...]:
        return relevant_lines(self.container.lines, self.terms.explain, about=about)


def base_spec(image: BootImage, terms: Terms, *, command: Sequence[str] = ()) -> RunSpec:
    """How `docker run IMAGE COMMAND` would start it, but for a short grace time."""
    environment = {**image.env, **terms.environment}
    if not terms.keep_grace:
        environment["S6_KILL_GRACETIME"] = str(GRACE_MS)
    return RunSpec(
        arguments=(*image.entrypoint, *(command or image.cmd)),
        environment=environment,
        workdir=str(image.settings.get("WorkingDir") or "/"),
        user=str(image.settings.get("User") or ""),
        volumes=image.volumes,
    )


def observe(machine: Machine, spec: RunSpec, terms: Terms, *, layout: Layout | None = None) -> Observation:
    """Starts the image and waits until its start is over and its services are as they should be, or time is up.

    Raises OutsideError when it cannot even be started.
    """
    layout = layout or find_layout(machine)
    container = machine.start(spec)
    expected = _services_on_disk(machine) if layout.major in (1, 2) else frozenset[str]()
    observation = Observation(machine, container, Supervision(container, layout, expected), terms)
    supervision = observation.supervision
    observation.settled = container.wait(supervision.settled, terms.seconds(terms.timeout), step=0.01)
    if container.end is None and observation.settled:

        def good() -> bool:
            return all(service.good for service in observation.services.values())

        hopeless = 0

        def decided() -> bool:
            nonlocal hopeless
            observation.refresh()
            hopeless = hopeless + 1 if _is_hopeless(observation) else 0
            return good() or hopeless >= _CERTAIN

        # s6-rc has waited for readiness already; the others may need a moment more
        left = terms.seconds(terms.timeout) - (time.monotonic() - container.begun)
        container.wait(decided, max(0.0, left if _may_come(observation) else min(left, terms.seconds(3.0))))
        if container.end is None and good():
            observation.ready_ms = round((time.monotonic() - container.begun) * 1000)
    return observation


def _may_come(observation: Observation) -> bool:
    """Whether services that are not ready may still become so: those that s6-rc does not wait for."""
    return observation.layout.major in (1, 2)


def _is_hopeless(observation: Observation) -> bool:
    """Whether nothing more can come: s6-rc has ended, and a oneshot did not succeed."""
    oneshots = [service for service in observation.services.values() if service.kind == "oneshot"]
    return observation.layout.major == 3 and not all(service.up for service in oneshots)


def _services_on_disk(machine: Machine) -> frozenset[str]:
    folder = "/etc/services.d"
    names = [name for name, what in machine.list([folder])[folder].items() if what[0] in ("directory", "symlink")]
    inside = machine.list([f"{folder}/{name}" for name in names]) if names else {}
    loggers = [f"{name}/log" for name in names if "log" in inside[f"{folder}/{name}"]]
    return frozenset([*names, *loggers])


def start_failed(name: str, error: Exception, terms: Terms) -> CheckResult:
    """The verdict when a container could not be started at all."""
    message, _, said = str(error).partition("\n")
    lines = tuple((line, terms.explain(line)) for line in said.splitlines()[-8:])
    return CheckResult(name, "failed", message, lines)
