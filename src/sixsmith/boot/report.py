"""What a boot found out, as values: verdicts, measures, and the whole report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sixsmith.boot.container import LogLine

__all__ = ["BootReport", "CheckResult", "Explain", "Measures", "Status", "relevant_lines"]

Explain = Callable[[str], str | None]
Status = str
"""`passed`, `failed`, `skipped` (nothing to check, or not possible here) or `refused` (cannot work, as was predicted)."""

_ALARMING = ("fatal", "error", "warning", "denied", "not found", "failed", "unable", "timed out", "exited 1", "panic")
_OWN_WORDS = re.compile(r"s6-rc: info|\[[a-z0-9-]+(\.d)?\] |cont-init: info|services-up: info|/package/admin")
"""What the overlay says of its own work."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict of one check: a sentence, and the log lines that matter, each with its explanation where there is one."""

    name: str
    status: Status
    message: str
    log: tuple[tuple[str, str | None], ...] = ()
    ms: int | None = None

    @property
    def ok(self) -> bool:
        return self.status != "failed"

    def document(self) -> dict[str, Any]:
        value: dict[str, Any] = {"name": self.name, "status": self.status, "ok": self.ok, "message": self.message}
        if self.log:
            value["log"] = [{"line": line, "explanation": explanation} for line, explanation in self.log]
        if self.ms is not None:
            value["ms"] = self.ms
        return value


@dataclass(frozen=True, slots=True)
class Measures:
    """Numbers of one boot: milliseconds, bytes. `stop_ms` was measured with the grace time that the report's notes name."""

    ready_ms: int | None
    stop_ms: int | None
    memory: int
    processes: int
    size: int

    def document(self) -> dict[str, Any]:
        return {
            "ready_ms": self.ready_ms,
            "stop_ms": self.stop_ms,
            "memory": self.memory,
            "processes": self.processes,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True)
class BootReport:
    """All that one boot found out. `needs` are the settings that were tried and work, for `sixsmith export`."""

    name: str
    digest: str
    runner: str
    reason: str
    exit_code: int | None
    measures: Measures
    services: Mapping[str, Mapping[str, Any]]
    checks: tuple[CheckResult, ...]
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    needs: Mapping[str, Any] = field(default_factory=dict)
    overlay: int = 0
    """The major release of the image's s6-overlay, 0 for none."""

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        return tuple(check for check in self.checks if not check.ok)

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "image": self.name,
            "digest": self.digest,
            "ok": self.ok,
            "runner": self.runner,
            "reason": self.reason,
            **self.measures.document(),
            "exit_code": self.exit_code,
            "services": {name: dict(service) for name, service in self.services.items()},
            "checks": [check.document() for check in self.checks],
            "notes": list(self.notes),
            "needs": dict(self.needs),
            "overlay": self.overlay,
            "log": list(self.log),
        }


def relevant_lines(
    lines: list[LogLine], explain: Explain, *, about: tuple[str, ...] = (), most: int = 10
) -> tuple[tuple[str, str | None], ...]:
    """The lines of a log that matter, in order, with what is known about each.

    First those that name what failed or sound alarming, then what the image's own programs say, then the rest; the same
    line stands once.
    """
    texts = list(dict.fromkeys(line.text for line in lines if line.text.strip()))
    explained = {text: explain(text) for text in texts}

    def weight(text: str) -> int:
        if explained[text] or any(word in text.lower() for word in _ALARMING):
            return 0
        if any(name in text for name in about):
            return 1
        return 3 if _OWN_WORDS.match(text) else 2

    places = sorted(range(len(texts)), key=lambda place: (weight(texts[place]), -place))[:most]
    return tuple((texts[place], explained[texts[place]]) for place in sorted(places))
