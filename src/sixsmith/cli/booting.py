"""What `boot` and `test` share: finding the images that the words name, and showing what was found out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sixsmith.cli.session import Session

if TYPE_CHECKING:
    from sixsmith.boot.image import BootImage
    from sixsmith.boot.measures import Comparison
    from sixsmith.boot.report import BootReport
    from sixsmith.io.store import Store

__all__ = ["Target", "boot_options", "docker_host", "explain_line", "open_targets", "printable", "show_report"]

Function = TypeVar("Function", bound=Callable[..., Any])

_DAY = 86400.0
_LONGEST = 500
"""Characters of a log line below a failed check."""
_MARKS = {"passed": "✓", "failed": "✗", "skipped": "–", "refused": "○"}


@dataclass(frozen=True, slots=True)
class Target:
    """An image to start. `cell` is what its history is kept under; checks and budget are the family file's."""

    cell: str
    image: BootImage
    checks: tuple[Any, ...] = ()
    budget: dict[str, str] = field(default_factory=dict)
    variant: bool = False
    """Whether it is a cell of the family file."""


def _seconds(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not 0 < value <= _DAY:
        raise click.BadParameter("it is a number of seconds, above 0")
    return value


def boot_options(function: Function) -> Function:
    """Options of both commands."""
    decorated: Any = function
    for option in (
        click.option("--arch", metavar="ARCH", help="Which one, when there are several.  [default: this machine's]"),
        click.option(
            "--runner",
            metavar="NAME",
            envvar="SIXSMITH_RUNNER",
            help="runc, namespaces, bwrap, podman or docker.  [default: what there is]",
        ),
        click.option(
            "--check",
            "checks",
            multiple=True,
            metavar="NAME",
            help="Only this check (repeatable): its name, or basic, all or none.",
        ),
        click.option(
            "--up-within",
            type=float,
            callback=_seconds,
            default=30.0,
            show_default=True,
            metavar="S",
            help="Seconds until everything must be up.",
        ),
        click.option(
            "--stop-time",
            type=float,
            callback=_seconds,
            default=10.0,
            show_default=True,
            metavar="S",
            help="Seconds that stopping may take.",
        ),
        click.option(
            "--keep-grace",
            is_flag=True,
            help="Leave S6_KILL_GRACETIME as it is; it is shortened otherwise, because every stop waits that long.",
        ),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the function's type


def docker_host() -> str:
    """Where the Docker daemon listens, as Docker's own client is told."""
    return os.environ.get("DOCKER_HOST", "")


def explain_line(line: str) -> str | None:
    """What a line of a boot log means. What explains is loaded with the first line that needs it: few boots fail."""
    from sixsmith.s6.explain import explain

    return explain(line)


@contextmanager
def open_targets(session: Session, words: Sequence[str], arch: str | None, *, several: bool) -> Iterator[list[Target]]:
    """The images that words name: layouts and archives (`PATH` or `PATH:TAG`), else cells, which are built if needed.

    Raises UsageError when a word names nothing, or several images where one is wanted.
    """
    from sixsmith.errors import UsageError

    layouts, cells = [], []
    for word in words:
        found = _as_layout(word)
        if found is None:
            cells.append(word)
        else:
            layouts.append(found)
    targets: list[Target] = []
    opened = []
    try:
        for path, tag in layouts:
            layout, target = _open_layout(path, tag, arch)
            opened.append(layout)
            targets.append(target)
        if cells or not words:
            with session.open_store() as store:
                targets += _build(session, store, tuple(cells), arch)
                if not several and len(targets) > 1:
                    named = ", ".join(target.cell for target in targets[:6])
                    raise UsageError(
                        f"{len(targets)} images are meant: {named}", hint="name one; `sixsmith test` takes several"
                    )
                yield targets
        else:
            yield targets
    finally:
        for layout in opened:
            layout.close()


def _as_layout(word: str) -> tuple[Path, str | None] | None:
    """A word as a layout and a tag, when such a folder or file is there."""
    path = Path(word)
    if (path / "index.json").is_file() or path.is_file():
        return path, None
    before, colon, tag = word.rpartition(":")
    path = Path(before)
    if colon and before and ((path / "index.json").is_file() or path.is_file()):
        return path, tag
    return None


def _open_layout(path: Path, tag: str | None, arch: str | None) -> tuple[Any, Target]:
    from sixsmith.boot.image import open_image
    from sixsmith.io.layout import open_layout

    layout = open_layout(path)
    name = f"{path}:{tag}" if tag else str(path)
    image = open_image(layout, layout.ref(tag), name=name, arch=arch)
    return layout, Target(f"{path.resolve().name}:{tag or image.digest[7:19]}/{image.arch}", image)


def _build(session: Session, store: Store, cells: tuple[str, ...], arch: str | None) -> list[Target]:
    from datetime import date

    from sixsmith.boot.image import open_image
    from sixsmith.errors import UsageError
    from sixsmith.io.namespaces import is_native

    family = session.load_family(store)
    lock = session.load_lock()
    selected = session.select(family, cells, (arch,) if arch else ())
    if not selected:
        raise UsageError("no cell is meant")
    native = [variant for variant in selected if is_native(variant.arch)]
    if arch is None and native:
        selected = tuple(native)
    built = session.build(selected, family=family, store=store, lock=lock, today=date.today())
    return [
        Target(
            image.variant.id,
            open_image(store, image.descriptor, name=image.references[0], arch=image.variant.arch.name),
            image.variant.checks,
            dict(image.variant.budget),
            True,
        )
        for image in built.images
    ]


def printable(text: str, *, most: int | None = None) -> str:
    """What a container said, for a terminal: what would move its cursor or change its colours is spelled out."""
    if most is not None and len(text) > most:
        text = f"{text[:most]} … ({len(text) - most:,} more)"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\t\n" else char.encode("unicode_escape").decode() for char in text
    )


def show_report(report: BootReport, compared: Comparison | None = None) -> None:
    """A report for people: one line per check, log lines below what failed."""
    from sixsmith.cli.console import human_size

    for check in report.checks:
        click.echo(f"{_MARKS.get(check.status, '?')} {check.name}: {printable(check.message)}")
        if not check.ok or check.status == "refused":
            for line, explanation in check.log:
                click.echo(f"    | {printable(line, most=_LONGEST)}")
                if explanation:
                    click.echo(f"    = {explanation}")
    numbers = report.measures
    words = [
        f"ready after {numbers.ready_ms} ms" if numbers.ready_ms is not None else "never ready",
        f"stopped within {numbers.stop_ms} ms" if numbers.stop_ms is not None else "",
        f"{numbers.processes} processes, {human_size(numbers.memory)} of supervision" if numbers.processes else "",
        human_size(numbers.size),
        f"exit code {report.exit_code}" if report.exit_code is not None else "",
    ]
    click.echo(", ".join(word for word in words if word))
    if compared is not None:
        for name, difference in compared.changed.items():
            click.echo(f"  {name} {difference:+,} against {compared.against}")
    for note in report.notes:
        click.echo(f"  note: {note}")
    click.echo(f"{report.runner}: {report.reason}", err=True)
