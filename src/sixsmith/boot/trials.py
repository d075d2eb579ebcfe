"""Checks that start the image again, under other terms: other commands, a read-only root, another user, fewer rights.

Each trial says first what should come out, from what is known of the overlay's release and the image, and then tries. What
cannot work and does not is `refused`, no failure: the prediction was right, and `sixsmith export` takes it into account.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sixsmith.boot.checks import scripts_run
from sixsmith.boot.container import Machine
from sixsmith.boot.endings import Ending
from sixsmith.boot.observation import Observation, Terms, observe, start_failed
from sixsmith.boot.predictions import (
    expected_capabilities,
    no_new_privileges_for,
    no_random_user,
    no_read_only_root,
)
from sixsmith.boot.report import CheckResult
from sixsmith.boot.spec import DOCKER_CAPABILITIES, RunSpec
from sixsmith.boot.supervision import Layout
from sixsmith.errors import OutsideError

__all__ = ["TRIALS", "Trial", "run_trial", "shorter_terms", "stop_quietly"]

_CODES = (0, 7, 137, 127)
_UID = 23456
_LIKELY = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
"""What s6-overlay images need at most, nearly always: changing owners and users, and stopping what others own."""


@dataclass(slots=True)
class Trial:
    """What the trials of one image share. `needs` collects settings that were tried and work."""

    machine: Machine
    layout: Layout
    spec: RunSpec
    terms: Terms
    wanted: frozenset[str] = frozenset()
    """Services that were up in the first boot: they have to be up in every other."""
    failing: frozenset[str] = frozenset()
    """Scripts of cont-init.d that failed in the first boot already."""
    stopping: Mapping[str, Ending] = field(default_factory=dict)
    """Longruns that take the container with them when they end."""
    needs: dict[str, Any] = field(default_factory=dict)

    def observe(self, spec: RunSpec) -> Observation:
        return observe(self.machine, spec, self.terms, layout=self.layout)

    def works(self, spec: RunSpec, *, strict: bool = True) -> tuple[bool, str, Observation]:
        """Whether the image comes up under these terms as it did in the first boot, and stops; else why not.

        `strict`: and the overlay does not complain of something that it may not do.
        """
        seen = self.observe(spec)
        seen.look_again()
        if seen.container.end is not None:
            return False, f"the container ended with exit code {seen.container.end.code}", seen
        missing = [name for name in sorted(self.wanted) if name not in seen.services or not seen.services[name].good]
        if not seen.settled or missing:
            return False, f"{', '.join(missing) or 'its services'} did not come up", seen
        failed = [script for script, code in scripts_run(seen, "cont-init") if code and script not in self.failing]
        if failed:
            return False, f"cont-init.d/{failed[0]} failed", seen
        complaint = next((line.text for line in seen.container.lines if _is_complaint(line.text)), None)
        if strict and complaint is not None:
            return False, f"it complains: {complaint.strip()}", seen
        if not stop_quietly(seen):
            return False, "it does not stop", seen
        return True, "", seen


def _is_complaint(line: str) -> bool:
    """Whether the overlay itself says that something was not allowed."""
    text = line.lower()
    ours = line.startswith(("s6-", "/package/admin", "/init", "preinit", "rc.init", "fdmove", "foreground", "if:"))
    return ours and ("fatal" in text or "permission denied" in text or "not permitted" in text)


def stop_quietly(seen: Observation) -> bool:
    """Stops a container in order; whether it did."""
    seen.container.detach()
    try:
        seen.container.signal(seen.image.stop_signal)
    except OutsideError:
        return seen.container.end is not None
    return seen.container.wait_end(seen.terms.seconds(seen.terms.stop_time))


def shorter_terms(terms: Terms, ready_ms: int | None, stop_ms: int | None) -> Terms:
    """How long a trial may take: a multiple of what the first boot took, not all the time that an image might need."""
    timeout, stop_time = terms.timeout, terms.stop_time
    if ready_ms is not None:
        timeout = min(timeout, 3 + 10 * ready_ms / 1000 / terms.patience)
    if stop_ms is not None:
        stop_time = min(stop_time, 3 + 3 * stop_ms / 1000 / terms.patience)
    return replace(terms, timeout=timeout, stop_time=stop_time)


# --- the trials


def try_exit_codes(trial: Trial) -> CheckResult:
    """The container exits with its command's code.

    Which code v1 and v2 make of a killed or missing command is their own affair (9 and 111); v3 says 137 and 127.
    """
    name = "exit-code"
    if not trial.layout.supervised:
        return CheckResult(name, "skipped", "no s6-overlay in this image")
    commands: dict[int, tuple[str, ...]] = {code: ("/bin/sh", "-c", f"exit {code}") for code in _CODES}
    if trial.layout.major == 3:
        commands |= {137: ("/bin/sh", "-c", "kill -9 $$"), 127: ("/no/such/command",)}
    entrypoint = trial.machine.image.entrypoint
    wrong = []
    seen = None
    for code in _CODES:
        spec = replace(trial.spec, arguments=(*entrypoint, *commands[code]))
        container = trial.machine.start(spec)
        seen = Observation(trial.machine, container, _no_supervision(container, trial.layout), trial.terms)
        if not container.wait_end(trial.terms.seconds(trial.terms.timeout + trial.terms.stop_time)):
            return seen.failed(name, f"'{' '.join(commands[code])}' ended, but the container did not", about=("cmd",))
        found = container.end.code if container.end else None
        if found != code:
            wrong.append(f"{found} instead of {code} for '{' '.join(commands[code])}'")
    if wrong and seen is not None:
        return seen.failed(name, f"the container exits with {'; '.join(wrong)}")
    return CheckResult(name, "passed", f"a command's exit code comes through: {', '.join(map(str, _CODES))}")


def try_on_exit(trial: Trial) -> CheckResult:
    """A service that is to take the container with it does so, and the container exits with its code."""
    name = "on-exit"
    if not trial.stopping:
        return CheckResult(name, "skipped", "no service stops the container when it ends")
    told = []
    for service, ending in trial.stopping.items():
        seen = trial.observe(trial.spec)
        victim = seen.services.get(service)
        if victim is None or not victim.good:
            return seen.failed(name, f"{service} did not come up again", about=(service,))
        seen.container.inside("kill", pid=victim.pid, signal=int(signal.SIGKILL))
        seen.container.detach()
        if not seen.container.wait_end(trial.terms.seconds(trial.terms.stop_time)):
            return seen.failed(name, f"{service} was killed, but the container did not end with it", about=(service,))
        code = seen.container.end.code if seen.container.end else None
        if ending.killed not in (None, code):
            return seen.failed(
                name, f"{service} was killed, and the container exits with {code} instead of {ending.killed}"
            )
        told.append(f"{service} ({code})")
    return CheckResult(name, "passed", f"the container ends when these are killed, with their code: {', '.join(told)}")


def _no_supervision(container: Any, layout: Layout) -> Any:
    from sixsmith.boot.supervision import Supervision

    return Supervision(container, layout)


def try_read_only(trial: Trial) -> CheckResult:
    """The image runs with a read-only root, /run being in memory."""
    name = "read-only"
    switch = {"S6_READ_ONLY_ROOT": "1"} if trial.layout.supervised else {}
    spec = replace(trial.spec, read_only=True, environment={**trial.spec.environment, **switch})
    works, why, seen = trial.works(spec)
    trial.needs["read_only"] = works
    terms = "with a read-only root" + (", S6_READ_ONLY_ROOT=1 and an executable tmpfs on /run" if works else "")
    return _verdict(seen, name, works, why, no_read_only_root(trial), terms)


def try_random_user(trial: Trial) -> CheckResult:
    """The image runs as a user that it does not know."""
    name = "random-uid"
    if not trial.machine.runner.other_users:
        return CheckResult(name, "skipped", f"{trial.machine.runner.name} cannot start it as another user here")
    predicted = no_random_user(trial)
    spec = replace(trial.spec, user=f"{_UID}:{_UID}")
    works, why, seen = trial.works(spec, strict=False)
    trial.needs["random_user"] = works
    return _verdict(seen, name, works, why, predicted, f"as user {_UID}")


def try_no_new_privileges(trial: Trial) -> CheckResult:
    """The image runs where suid bits count for nothing."""
    name = "no-new-privileges"
    predicted = no_new_privileges_for(trial)
    works, why, seen = trial.works(replace(trial.spec, no_new_privileges=True))
    trial.needs["no_new_privileges"] = works
    return _verdict(seen, name, works, why, predicted, "with no new privileges")


def _verdict(seen: Observation, name: str, works: bool, why: str, predicted: str | None, terms: str) -> CheckResult:
    if works and predicted is None:
        return CheckResult(name, "passed", f"runs {terms}")
    if works:
        return CheckResult(name, "passed", f"runs {terms}, although {predicted}")
    if predicted is not None:
        return CheckResult(name, "refused", f"does not run {terms}, as was to be expected: {predicted}")
    return seen.failed(name, f"does not run {terms}: {why}")


def try_capabilities(trial: Trial) -> CheckResult:
    """The smallest set of capabilities with which the image runs as it does with Docker's."""
    name = "capabilities"
    if trial.machine.runner.alone:
        return CheckResult(name, "skipped", "with one user inside, capabilities cannot be told apart")

    def works(kept: Sequence[str]) -> bool:
        return trial.works(replace(trial.spec, capabilities=tuple(kept)))[0]

    expected = expected_capabilities(trial)
    if works(()):
        trial.needs["capabilities"] = []
        return CheckResult(name, "passed", "runs without any capability")
    candidates = dict.fromkeys([expected or _LIKELY, _LIKELY])
    kept = list(next((one for one in candidates if works(one)), DOCKER_CAPABILITIES))
    if len(kept) == len(DOCKER_CAPABILITIES):
        fine, why, seen = trial.works(replace(trial.spec, capabilities=DOCKER_CAPABILITIES))
        if not fine:
            return seen.failed(name, f"does not run again as it did at first: {why}")
    for capability in list(kept):
        without = [one for one in kept if one != capability]
        if works(without):
            kept = without
    trial.needs["capabilities"] = kept
    surprise = f" (its scripts let expect {', '.join(expected) or 'none'})" if set(kept) != set(expected) else ""
    return CheckResult(name, "passed", f"needs {', '.join(kept)}, and no other capability{surprise}")


def try_together(trial: Trial) -> CheckResult:
    """What worked each by itself works together: a read-only root, no new privileges, the fewest capabilities."""
    name = "together"
    spec, words = trial.spec, []
    capabilities = trial.needs.get("capabilities")
    if capabilities is not None:
        spec = replace(spec, capabilities=tuple(capabilities))
        words.append("the fewest capabilities")
    if trial.needs.get("no_new_privileges"):
        spec = replace(spec, no_new_privileges=True)
        words.append("no new privileges")
    if trial.needs.get("read_only"):
        switch = {"S6_READ_ONLY_ROOT": "1"} if trial.layout.supervised else {}
        spec = replace(spec, read_only=True, environment={**spec.environment, **switch})
        words.append("a read-only root")
    if len(words) < 2:
        return CheckResult(name, "skipped", "there is nothing to be tried together")
    works, why, seen = trial.works(spec)
    if works:
        return CheckResult(name, "passed", f"runs with {', '.join(words[:-1])} and {words[-1]} at once")
    # fewer capabilities are worth most; the others are given up
    trial.needs["read_only"] = trial.needs["no_new_privileges"] = False
    return CheckResult(name, "refused", f"does not run with {' and '.join(words)} at once: {why}", seen.log())


TRIALS: dict[str, Callable[[Trial], CheckResult]] = {
    "exit-code": try_exit_codes,
    "on-exit": try_on_exit,
    "read-only": try_read_only,
    "no-new-privileges": try_no_new_privileges,
    "random-uid": try_random_user,
    "capabilities": try_capabilities,
    "together": try_together,
}


def run_trial(name: str, trial: Trial) -> CheckResult:
    """One trial; what cannot even be started has failed."""
    try:
        return TRIALS[name](trial)
    except OutsideError as error:
        return start_failed(name, error, trial.terms)
