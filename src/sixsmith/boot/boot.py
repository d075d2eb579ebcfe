"""The straight line: start an image, look at it, stop it, try it under other terms, and say what was found.

Nothing is left behind: what runs and lies around belongs to a keeper (`keeper`), which ends with this process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sixsmith.boot.checks import LIVE, Stop, check_custom, check_stop, scripts_run, watch_finishes
from sixsmith.boot.container import Machine
from sixsmith.boot.endings import Ending, endings_of
from sixsmith.boot.image import BootImage
from sixsmith.boot.launch import Launched
from sixsmith.boot.observation import GRACE_MS, Observation, Terms, base_spec, observe, start_failed
from sixsmith.boot.report import BootReport, CheckResult, Measures
from sixsmith.boot.runners import choose_runner
from sixsmith.boot.spec import RunSpec
from sixsmith.boot.supervision import Process, find_layout
from sixsmith.boot.trials import TRIALS, Trial, run_trial, shorter_terms
from sixsmith.errors import OutsideError, UsageError, nearest

__all__ = ["ALL_CHECKS", "BASIC_CHECKS", "boot_image", "check_names"]

BASIC_CHECKS = (*LIVE, "stop")
"""Checks that one boot answers."""
ALL_CHECKS = (*BASIC_CHECKS, *TRIALS)

_EMULATED = 12.0
"""How much longer emulated programs may take."""


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The named checks, in the order in which they run; `basic` and `all` are names too. Raises UsageError."""
    chosen: set[str] = set()
    for name in names:
        groups = {"basic": BASIC_CHECKS, "all": ALL_CHECKS, "none": ()}
        if name not in groups and name not in ALL_CHECKS:
            raise UsageError(f"no check '{name}'", hint=nearest(name, [*ALL_CHECKS, *groups]))
        chosen |= set(groups.get(name, (name,)))
    return tuple(name for name in ALL_CHECKS if name in chosen)


def boot_image(
    image: BootImage,
    *,
    runner: str | None = None,
    command: Sequence[str] = (),
    checks: Sequence[str] = BASIC_CHECKS,
    terms: Terms | None = None,
    budget: Mapping[str, str] | None = None,
    docker_host: str = "",
    launched: Launched | None = None,
) -> BootReport:
    """Starts the image for real and reports; `command` replaces the image's own. `launched` is a keeper that waits already.

    Raises OutsideError where nothing can be started at all (no namespaces, no emulator), UsageError for an unknown runner
    or check, and what reading the image raises. An image that does not start is no error but a failed check.
    """
    names = check_names(checks)
    chosen = choose_runner(image.arch, runner, docker_host=docker_host)
    terms = terms or Terms()
    if chosen.emulator:
        terms = replace(terms, patience=terms.patience * _EMULATED)
    with Machine(image, chosen, launched) as machine:
        boot = _Boot(machine, terms, names)
        boot.first(base_spec(image, terms, command=command), wait_for_command=bool(command))
        if not command:
            boot.try_others()
        return boot.report(budget or {})


@dataclass(slots=True)
class _Numbers:
    """Measures in the making."""

    ready_ms: int | None = None
    stop_ms: int | None = None
    memory: int = 0
    processes: int = 0
    exit_code: int | None = None


class _Boot:
    """One image on its machine, and what was found out so far."""

    def __init__(self, machine: Machine, terms: Terms, names: Sequence[str]) -> None:
        self.machine = machine
        self.terms = terms
        self.names = names
        self.layout = find_layout(machine)
        self.results: list[CheckResult] = []
        self.numbers = _Numbers()
        self.services: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.log: tuple[str, ...] = ()
        self.needs: dict[str, Any] = {}
        self.spec: RunSpec | None = None
        self.wanted: frozenset[str] = frozenset()
        self.failing: frozenset[str] = frozenset()
        self.stopping: dict[str, Ending] = {}

    # --- the first boot

    def first(self, spec: RunSpec, *, wait_for_command: bool) -> None:
        self.spec = spec
        if not spec.arguments:
            self.results.append(CheckResult("start", "failed", "the image has neither an entry point nor a command"))
            return
        try:
            seen = observe(self.machine, spec, self.terms, layout=self.layout)
        except OutsideError as error:
            self.results.append(start_failed("start", error, self.terms))
            return
        self.notes += seen.container.notes
        self._measure(seen)
        if wait_for_command:
            self._await_command(seen)
        else:
            self._look(seen)
            self._stop(seen)
        seen.container.pump(0)
        self.log = tuple(line.text for line in seen.container.lines)

    def _measure(self, seen: Observation) -> None:
        self.numbers.ready_ms = seen.ready_ms
        self.services = {name: service.document() for name, service in seen.services.items()}
        self.failing = frozenset(script for script, code in scripts_run(seen, "cont-init") if code)
        self.wanted = frozenset(name for name, service in seen.services.items() if service.good)
        processes = _quiet_processes(seen)
        self.numbers.processes = len(processes)
        tree = [process for process in processes if process.name.startswith("s6-") or process.pid == 1]
        self.numbers.memory = sum(process.memory for process in (tree if seen.layout.supervised else processes))

    def _await_command(self, seen: Observation) -> None:
        """With a command of its own the container lives as long as that; there is little time to look at it."""
        for name in ("services", "oneshots"):
            if name in self.names and seen.container.end is None:
                self.results.append(LIVE[name](seen))
        seen.container.detach()
        if not seen.container.wait_end(self.terms.seconds(self.terms.timeout)):
            self.notes.append(f"the command was stopped after {self.terms.seconds(self.terms.timeout):g} s")
            self._stop(seen)
        if seen.container.end is not None:
            self.numbers.exit_code = seen.container.end.code

    def _look(self, seen: Observation) -> None:
        if "on-exit" in self.names and seen.container.end is None:
            endings = endings_of(seen, [service.name for service in seen.longruns])
            self.stopping = {name: one for name, one in endings.items() if one.action == "stop-container"}
        for name in LIVE:
            if name not in self.names:
                continue
            if seen.container.end is not None and self.results and not self.results[-1].ok:
                break  # what ended it was said, and the rest would say it again
            self.results.append(LIVE[name](seen))
            if name == "services" and not self.results[-1].ok:
                self.numbers.ready_ms = None  # it was up for a moment
        if seen.container.end is None:
            self.results += [check_custom(seen, check) for check in self.terms.checks]
        elif self.terms.checks:
            self.results += [
                seen.failed(str(check.get("name", "check")), "the container ended") for check in self.terms.checks
            ]

    def _stop(self, seen: Observation) -> None:
        if seen.container.end is not None:
            self.numbers.exit_code = seen.container.end.code
            return
        seen.refresh()
        watched, dependencies = watch_finishes(seen)
        seen.container.detach()
        begun = time.monotonic()
        try:
            begun = seen.container.signal(self.machine.image.stop_signal)
        except OutsideError as error:
            self.notes.append(error.message)
            seen.container.pump(0.1)
        stopped = seen.container.wait_end(self.terms.seconds(self.terms.stop_time))
        opened = seen.container.watched() if watched else []
        end = seen.container.end
        ms = round((end.at - begun) * 1000) if stopped and end is not None else None
        self.numbers.stop_ms, self.numbers.exit_code = ms, end.code if end is not None else None
        if not self.terms.keep_grace and seen.layout.supervised:
            own = self.machine.image.env.get("S6_KILL_GRACETIME", "3000")
            self.notes.append(
                f"stopped with S6_KILL_GRACETIME={GRACE_MS} instead of {own} (ms); add the difference to stop_ms"
            )
        if "stop" in self.names:
            finishes = tuple(dict.fromkeys(watched[path] for path in opened if path in watched))
            stop = Stop(ms, finishes, tuple(watched.values()), dependencies)
            self.results.append(check_stop(seen, stop))

    # --- the others

    def try_others(self) -> None:
        names = [name for name in TRIALS if name in self.names]
        if not names or self.spec is None:
            return
        if any(not result.ok for result in self.results if result.name in ("start", "pid-1", "services", "stop")):
            self.results += [
                CheckResult(name, "skipped", "not tried, because the image does not run as it is") for name in names
            ]
            return
        terms = shorter_terms(self.terms, self.numbers.ready_ms, self.numbers.stop_ms)
        trial = Trial(self.machine, self.layout, self.spec, terms, self.wanted, self.failing, self.stopping, self.needs)
        self.results += [run_trial(name, trial) for name in names]

    # --- the end

    def report(self, budget: Mapping[str, str]) -> BootReport:
        numbers, image = self.numbers, self.machine.image
        measures = Measures(numbers.ready_ms, numbers.stop_ms, numbers.memory, numbers.processes, image.size)
        from sixsmith.boot.measures import check_budget

        return BootReport(
            name=image.name,
            digest=image.digest,
            runner=self.machine.runner.name,
            reason=self.machine.runner.reason,
            exit_code=numbers.exit_code,
            measures=measures,
            services=self.services,
            checks=(*self.results, *check_budget(measures, budget)),
            notes=tuple(dict.fromkeys(self.notes)),
            log=self.log,
            needs=self.needs,
            overlay=self.layout.major,
        )


def _quiet_processes(seen: Observation) -> list[Process]:
    """The processes once none comes or goes: those that started everything are still leaving when it is up."""
    before = seen.supervision.processes(memory=True)
    for _ in range(10):
        seen.container.wait_end(0.015)
        now = seen.supervision.processes(memory=True)
        if {process.pid for process in now} == {process.pid for process in before}:
            return now
        before = now
    return before
