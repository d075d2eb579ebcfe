"""`sixsmith test`: every image of a family, started for real."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from sixsmith.cli.booting import Target, boot_options
from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
    from sixsmith.boot.measures import Comparison
    from sixsmith.boot.observation import Terms
    from sixsmith.boot.report import BootReport

__all__ = ["command"]


@click.command("test")
@click.argument("cells", nargs=-1)
@boot_options
@family_options
def command(
    session: Session,
    cells: tuple[str, ...],
    arch: str | None,
    runner: str | None,
    checks: tuple[str, ...],
    up_within: float,
    stop_time: float,
    keep_grace: bool,
) -> int:
    """Start images for real and check how they behave: services, restarts, exit codes, stopping, fewer rights.

    CELLS are cells of the family file (with globs; all when none is given), OCI layouts or archives. Fails when an image
    fails a check. What was found out is kept, and `sixsmith export compose` and `k8s` go by it.
    """
    import time

    from sixsmith.boot.boot import check_names
    from sixsmith.boot.measures import compare, history_of, keep_report
    from sixsmith.boot.observation import Terms
    from sixsmith.boot.runners import check_runner
    from sixsmith.cli.booting import explain_line, open_targets
    from sixsmith.cli.console import print_json
    from sixsmith.errors import OutsideError, RunnerRefused, VerificationError

    check_runner(runner)
    check_names(checks)
    results: list[_Result] = []
    with open_targets(session, cells, arch, several=True) as targets, session.open_store() as store:
        for target in targets:
            terms = Terms(up_within, stop_time, keep_grace, checks=target.checks, explain=explain_line)
            try:
                report = _boot(target, terms, runner, checks)
            except (OutsideError, VerificationError) as error:
                if len(targets) == 1:
                    raise
                # what this machine cannot try says nothing about the image; anything else does
                code = 0 if isinstance(error, RunnerRefused) else error.exit_code
                results.append(_Result(target, trouble=error.message, code=code))
                continue
            result = _Result(target, report, compare(history_of(store, target.cell), report))
            keep_report(store, target.cell, report, now=time.time())
            results.append(result)
            if not session.json:
                _show(result)
    _compare_siblings(results)
    reports = [result.report for result in results if result.report is not None]
    failed = [report for report in reports if not report.ok]
    broken = max((result.code for result in results), default=0)
    if session.json:
        good = bool(reports) and not failed and not broken
        print_json({"ok": good, "results": [result.document() for result in results]})
    else:
        _summary(results)
    if broken:
        return broken
    if not reports:
        raise OutsideError(
            f"nothing could be started: {results[0].trouble}" if results else "there is nothing to start"
        )
    return 1 if failed else 0


@dataclass(slots=True)
class _Result:
    """What came of one image: a report, or why there is none. `siblings` is how it differs from the image's other cells.

    `code` is what to exit with because there is no report, 0 where that is no failure.
    """

    target: Target
    report: BootReport | None = None
    compared: Comparison | None = None
    trouble: str = ""
    code: int = 0
    siblings: dict[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        if self.report is None:
            good = False if self.code else None
            return {"cell": self.target.cell, "image": self.target.image.name, "ok": good, "trouble": self.trouble}
        document = self.report.document()
        document.pop("log")
        changed = self.compared.changed if self.compared is not None else {}
        against = self.compared.against if self.compared is not None else ""
        more = {"changed": changed, "against": against, "against_siblings": self.siblings}
        return {"cell": self.target.cell, **document, **more}


def _compare_siblings(results: list[_Result]) -> None:
    """Holds each cell against the image's other cells with the same major of the overlay, as far as they were started too."""
    from sixsmith.boot.measures import compare_with_others

    kin: dict[tuple[str, int], list[_Result]] = {}
    for result in results:
        if result.report is not None:
            kin.setdefault((result.target.cell.partition(":")[0], result.report.overlay), []).append(result)
    for group in kin.values():
        for result in group:
            others = [other.report.measures for other in group if other is not result and other.report is not None]
            if result.report is not None:
                result.siblings = compare_with_others(result.report.measures, others)


def _boot(target: Target, terms: Terms, runner: str | None, checks: tuple[str, ...]) -> BootReport:
    from sixsmith.boot.boot import ALL_CHECKS, BASIC_CHECKS, boot_image
    from sixsmith.cli.booting import docker_host
    from sixsmith.io.namespaces import is_native

    # emulated, every start takes many seconds: one has to do unless more are asked for
    default = ALL_CHECKS if is_native(target.image.arch) else BASIC_CHECKS
    return boot_image(
        target.image,
        runner=runner,
        checks=checks or default,
        terms=terms,
        budget=target.budget,
        docker_host=docker_host(),
    )


def _show(result: _Result) -> None:
    from sixsmith.cli.booting import show_report

    if result.report is None or result.report.ok:
        return
    click.echo(f"{result.target.cell}:")
    show_report(result.report, result.compared)
    click.echo("")


def _summary(results: list[_Result]) -> None:
    from sixsmith.cli.console import human_size, print_table

    rows = []
    for result in results:
        report = result.report
        if report is None:
            rows.append([result.target.cell, "", "", "", "", "", f"not started: {result.trouble}"])
            continue
        numbers = report.measures
        refused = [check.name for check in report.checks if check.status == "refused"]
        verdict = "failed: " + ", ".join(check.name for check in report.failures) if not report.ok else "ok"
        if refused:
            verdict += f" (cannot: {', '.join(refused)})"
        rows.append(
            [
                result.target.cell,
                f"{numbers.ready_ms} ms" if numbers.ready_ms is not None else "never",
                f"{numbers.stop_ms} ms" if numbers.stop_ms is not None else "",
                human_size(numbers.memory),
                str(numbers.processes),
                human_size(numbers.size),
                verdict,
            ]
        )
    print_table(["CELL", "READY", "STOP", "MEMORY", "PROCESSES", "SIZE", "VERDICT"], rows, right=(1, 2, 3, 4, 5))
    for result in results:
        told = {"its siblings": result.siblings}
        if result.compared is not None:
            told[result.compared.against] = dict(result.compared.changed)
        for against, differences in told.items():
            if differences and against != "the last boot":  # the same image again: that is chance
                words = ", ".join(f"{name} {difference:+,}" for name, difference in differences.items())
                click.echo(f"  {result.target.cell}: {words} against {against}")
    runners = sorted({f"{one.report.runner}: {one.report.reason}" for one in results if one.report is not None})
    for line in runners:
        click.echo(line, err=True)
