"""What a boot found out, as values: verdicts, measures, and the whole report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sixsmith.boot.container import LogLine

__all__ = ["BootReport", "CheckResult", "Explain", "Measures", "Status", "relevant_lines"]

Explain = Callable[[str], str | None]
Status = str
"""`passed`, `failed`, `skipped` (nothing to check, or not possible here) or `refused` (cannot work, as was predicted)."""

_ALARMING = ("fatal", "error", "warning", "denied", "not found", "failed", "unable", "timed out", "exited 1", "panic")


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
            "log": list(self.log),
        }


def relevant_lines(
    lines: list[LogLine], explain: Explain, *, about: tuple[str, ...] = (), most: int = 8
) -> tuple[tuple[str, str | None], ...]:
    """The lines of a log that name what failed or sound alarming, else its last ones; with what is known about them."""
    texts = [line.text for line in lines if line.text.strip()]
    chosen = [
        text
        for text in texts
        if any(name in text for name in about) or any(word in text.lower() for word in _ALARMING) or explain(text)
    ]
    if about and not any(any(name in text for name in about) for text in chosen):
        chosen += texts[-2:]
    return tuple((text, explain(text)) for text in (chosen or texts)[-most:])
