"""Numbers of many boots: held against a budget, kept, and compared with those before.

The history of a cell is one record in the store, newest last; it names the images, so that it lives as long as one of
them does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sixsmith.boot.report import BootReport, CheckResult, Measures
from sixsmith.oci.blobs import Blobs

__all__ = ["bytes_of", "check_budget", "compare", "history_of", "keep_report", "last_report"]

_HISTORY = "boot-history"
_LAST = "boot-report"
_LENGTH = 100
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NOTABLE = {
    "ready_ms": (0.3, 50),
    "stop_ms": (0.3, 50),
    "memory": (0.1, 64 << 10),
    "processes": (0, 0),
    "size": (0.02, 4096),
}
"""What change is worth a word: a share of the old value, and at least so much."""


def bytes_of(text: str) -> int:
    """`40M`, `512K`, `1G`, as a budget spells sizes: powers of 1024."""
    text = text.strip().upper().removesuffix("IB").removesuffix("B")
    number = text.rstrip("KMG")
    return int(float(number) * _UNITS[text[len(number) :]])


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


def compare(history: list[dict[str, Any]], measures: Measures, runner: str) -> dict[str, int]:
    """What changed notably against the last boot by the same runner: name → difference."""
    before = next((entry for entry in reversed(history) if entry.get("runner") == runner), None)
    if before is None:
        return {}
    changed = {}
    for name, found in measures.document().items():
        old = before.get(name)
        if isinstance(old, int) and isinstance(found, int):
            share, least = _NOTABLE[name]
            if abs(found - old) > max(least, share * old):
                changed[name] = found - old
    return changed
