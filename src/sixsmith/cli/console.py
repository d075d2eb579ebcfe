"""What a person sees: progress and warnings on stderr, tables and JSON on stdout.

On a terminal a live line per running cell (rich); elsewhere one plain line per event that matters. With `--json` stdout
holds one document and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sixsmith.errors import MatrixError, SixsmithError, Unsatisfiable
from sixsmith.events import (
    CellDone,
    CellStarted,
    Event,
    Fetched,
    LayerWritten,
    Resolved,
    Skipped,
    Uploaded,
    Warned,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = [
    "LiveReporter",
    "PlainReporter",
    "human_size",
    "human_time",
    "make_reporter",
    "print_json",
    "print_table",
    "show_error",
]


def human_size(size: int) -> str:
    """Bytes for people: 1.2 MB. Powers of 1000, as registries and disks count."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def human_time(seconds: float) -> str:
    """Seconds for people: 34 ms, 2.1 s."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def print_json(document: Any) -> None:
    """The one document of `--json`."""
    sys.stdout.write(render_json(document))


def render_json(document: Any) -> str:
    """A document as `--json` prints it."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A plain aligned table: the same text on a terminal, in a pipe and in a document."""
    sys.stdout.write(render_table(headings, rows, right=right))


def render_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """The text of `print_table`."""
    lines = []
    widths = [max(len(str(row[column])) for row in [headings, *rows]) for column in range(len(headings))]
    for row in [headings, *rows]:
        cells = [
            str(cell).rjust(widths[column]) if column in right else str(cell).ljust(widths[column])
            for column, cell in enumerate(row)
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def show_error(error: SixsmithError, *, json_output: bool = False) -> None:
    """An error with its place and what helps; with `--json` also as the document on stdout."""
    label = _paint("error:", "1;31")
    if isinstance(error, MatrixError):
        for problem in error.problems:
            hint = f"\n    {_paint(problem.hint, '36')}" if problem.hint else ""
            sys.stderr.write(f"{problem.place}: {label} {problem.message}{hint}\n")
        count = len(error.problems)
        sys.stderr.write(f"{count} problem{'s' if count != 1 else ''}; nothing was done\n")
    else:
        place = f"{error.place}: " if error.place else ""
        sys.stderr.write(f"{place}{label} {error.message}\n")
        if error.hint:
            sys.stderr.write(f"    {_paint(error.hint, '36')}\n")
    if json_output:
        document: dict[str, Any] = {"ok": False, "error": str(error), "exit_code": error.exit_code}
        if error.hint:
            document["hint"] = error.hint
        if isinstance(error, Unsatisfiable):
            document["subjects"] = list(error.subjects)
        if isinstance(error, MatrixError):
            document["problems"] = [
                {
                    "file": problem.place.file,
                    "line": problem.place.line,
                    "column": problem.place.column,
                    "message": problem.message,
                    "hint": problem.hint,
                }
                for problem in error.problems
            ]
        print_json(document)


def _paint(text: str, code: str) -> str:
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def lines_of_repetition(events: Sequence[Event], *, quiet: bool, brief: bool) -> list[str]:
    """What a build that finds everything done would show of these events; `brief` as on a terminal."""
    shown: tuple[type[Event], ...] = (Warned, CellDone) if brief else (Warned, CellStarted, Resolved, CellDone)
    reporter = PlainReporter(quiet=quiet)
    lines = []
    for event in events:
        if isinstance(event, CellDone):
            event = CellDone(event.cell, event.digest, event.size, 0.0)
        line = reporter.line(event) if isinstance(event, shown) else None
        if line is not None:
            lines.append(line + "\n")
    return lines


class PlainReporter:
    """One line per thing that a log's reader wants to know."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self.events: list[Event] = []
        self._fetched: dict[str, tuple[int, int, int]] = {}

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            self.events.append(event)
            line = self.line(event)
            if line is not None:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()

    def line(self, event: Event) -> str | None:
        """The line for an event, or None when it deserves none."""
        cell = f"{event.cell}: " if event.cell else ""
        if isinstance(event, Warned):
            if event.message in self._warned:
                return None  # twelve cells on one dead release are one warning
            self._warned.add(event.message)
            hint = f" ({event.hint})" if event.hint else ""
            return f"{cell}{_paint('warning:', '33')} {event.message}{hint}"
        if self.quiet:
            return None
        if isinstance(event, CellStarted):
            return f"{cell}started"
        if isinstance(event, Resolved):
            return f"{cell}{event.packages} packages, {human_size(event.download_size)}"
        if isinstance(event, Fetched):
            count, cached, size = self._fetched.get(event.cell, (0, 0, 0))
            self._fetched[event.cell] = (count + 1, cached + event.cached, size + event.size)
            return None
        if isinstance(event, LayerWritten):
            how = "kept" if event.cached else "written"
            return f"{cell}layer {event.kind} {event.digest[7:19]} {human_size(event.size)} {how}"
        if isinstance(event, CellDone):
            count, cached, size = self._fetched.get(event.cell, (0, 0, 0))
            fetched = f", {count} packages ({cached} from the store)" if count else ""
            return f"{cell}done {event.digest[7:19]} {human_size(event.size)}{fetched} in {event.seconds:.1f} s"
        if isinstance(event, Uploaded):
            return f"{cell}{event.how} {event.digest[7:19]} {human_size(event.size)}"
        if isinstance(event, Skipped):
            return f"{cell}left out {event.what}: {event.reason}"
        return None

    def close(self) -> None:
        """Nothing is live in plain lines."""


class LiveReporter(PlainReporter):
    """A live line for each cell at work, lines for what is finished."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            self.events.append(event)
            if event.cell:
                self._follow(event)
            if isinstance(event, Warned | CellDone | Skipped):
                line = self.line(event)
                if line is not None:
                    self._progress.console.print(line, markup=False, highlight=False)
            elif isinstance(event, Fetched):
                self.line(event)

    def _follow(self, event: Event) -> None:
        if event.cell not in self._tasks:
            self._tasks[event.cell] = self._progress.add_task(event.cell, total=None, what="")
        task = self._tasks[event.cell]
        if isinstance(event, Resolved):
            self._progress.update(task, total=event.download_size, what=f"{event.packages} packages")
        elif isinstance(event, Fetched):
            self._progress.update(task, advance=event.size, what=event.name)
        elif isinstance(event, LayerWritten):
            self._progress.update(task, what=f"layer {event.kind}")
        elif isinstance(event, CellDone):
            self._progress.remove_task(self._tasks.pop(event.cell))

    def close(self) -> None:
        """Takes the live lines away."""
        self._progress.stop()


def make_reporter(*, quiet: bool = False, plain: bool = False) -> PlainReporter:
    """Live on a terminal, plain elsewhere; `quiet` leaves only warnings."""
    if quiet or plain or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return PlainReporter(quiet=quiet)
    return LiveReporter()
