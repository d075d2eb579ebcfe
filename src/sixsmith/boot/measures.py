"""Numbers of many boots: held against a budget, kept, and compared with those before.

The history of a cell is one record in the store, newest last; it names the images, so that it lives as long as one of
them does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any

from sixsmith.boot.report import BootReport, CheckResult, Measures
from sixsmith.budget import bytes_of
from sixsmith.oci.blobs import Blobs

__all__ = [
    "Comparison",
    "check_budget",
    "compare",
    "compare_with_others",
    "history_of",
    "keep_report",
    "last_report",
]

_HISTORY = "boot-history"
_LAST = "boot-report"
_LENGTH = 100
_NOTABLE = {
    "ready_ms": (0.3, 50),
    "stop_ms": (0.3, 50),
    "memory": (0.1, 64 << 10),
    "processes": (0, 0),
    "size": (0.02, 4096),
}
"""What change is worth a word: a share of the old value, and at least so much."""


def check_budget(measures: Measures, budget: Mapping[str, str]) -> list[CheckResult]:
    """One verdict for each gate of `budget` that a boot can answer: size, memory (as `40M`), ready (nanoseconds)."""
    results = []
    for name in ("size", "memory"):
        if name in budget:
            found, most = getattr(measures, name), bytes_of(budget[name])
            results.append(_gate(name, f"{found:,} bytes", f"{most:,} ({budget[name]})", found <= most))
    if "ready" in budget:
        limit, ready = int(budget["ready"]) / 1e6, measures.ready_ms
        words = "never ready" if ready is None else f"ready after {ready} ms"
        results.append(_gate("ready", words, f"{limit:g} ms", ready is not None and ready <= limit))
    return results


def _gate(name: str, found: str, most: str, good: bool) -> CheckResult:
    relation = "within" if good else "over"
    return CheckResult(f"budget-{name}", "passed" if good else "failed", f"{found}, {relation} the budget of {most}")


def keep_report(store: Blobs, cell: str, report: BootReport, *, now: float) -> None:
    """Keeps a report as the cell's last one, and its numbers in the cell's history. `now` is Unix time."""
    entry = {"at": int(now), "digest": report.digest, "runner": report.runner, "ok": report.ok}
    history = [*history_of(store, cell), {**entry, **report.measures.document()}][-_LENGTH:]
    store.keep(_HISTORY, cell, json.dumps(history).encode())
    document = report.document()
    document.pop("log")
    store.keep(_LAST, cell, json.dumps({"at": int(now), **document}).encode())


def history_of(store: Blobs, cell: str) -> list[dict[str, Any]]:
    """The numbers of a cell's boots, oldest first."""
    found = _load(store, _HISTORY, cell)
    return found if isinstance(found, list) else []


def last_report(store: Blobs, cell: str) -> dict[str, Any] | None:
    """The last report of a cell, as `BootReport.document` wrote it, with `at` (Unix time)."""
    found = _load(store, _LAST, cell)
    return found if isinstance(found, dict) else None


def _load(store: Blobs, kind: str, cell: str) -> Any:
    kept = store.record(kind, cell)
    try:
        return json.loads(kept) if kept is not None else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs notably, name → difference; `against` says from what: the build before, or the last boot of this one."""

    against: str = ""
    changed: Mapping[str, int] = field(default_factory=dict)


def compare(history: list[dict[str, Any]], report: BootReport) -> Comparison:
    """What changed against the last boot of the build before by the same runner, or else against the last boot."""
    same = [entry for entry in reversed(history) if entry.get("runner") == report.runner]
    other = next((entry for entry in same if entry.get("digest") != report.digest), None)
    before = other or next(iter(same), None)
    if before is None:
        return Comparison()
    return Comparison("the last build" if other else "the last boot", _differences(before, report.measures))


def compare_with_others(measures: Measures, others: Sequence[Measures]) -> dict[str, int]:
    """What differs notably from the middle of the other cells of an image; nothing when there are fewer than two."""
    if len(others) < 2:
        return {}
    columns: dict[str, list[int]] = {}
    for other in others:
        for name, value in other.document().items():
            columns.setdefault(name, []).extend([value] if isinstance(value, int) else [])
    middle = {name: median_low(values) for name, values in columns.items() if values}
    return _differences(middle, measures)


def _differences(before: Mapping[str, Any], measures: Measures) -> dict[str, int]:
    changed = {}
    for name, found in measures.document().items():
        old = before.get(name)
        if isinstance(old, int) and isinstance(found, int):
            share, least = _NOTABLE[name]
            if abs(found - old) > max(least, share * old):
                changed[name] = found - old
    return changed
