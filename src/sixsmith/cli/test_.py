"""`sixsmith test`: every image of a family, started for real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sixsmith.cli.booting import Target, boot_options
from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
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

    from sixsmith.boot.measures import compare, history_of, keep_report
    from sixsmith.boot.observation import Terms
    from sixsmith.cli.booting import explain_line, open_targets
    from sixsmith.cli.console import print_json
    from sixsmith.errors import OutsideError

    results: list[tuple[Target, BootReport | None, str, dict[str, int]]] = []
    with open_targets(session, cells, arch, several=True) as targets, session.open_store() as store:
        for target in targets:
            terms = Terms(up_within, stop_time, keep_grace, checks=target.checks, explain=explain_line)
            try:
                report = _boot(target, terms, runner, checks)
            except OutsideError as error:
                if len(targets) == 1:
                    raise
                results.append((target, None, error.message, {}))
                continue
            changed = compare(history_of(store, target.cell), report.measures, report.runner)
            keep_report(store, target.cell, report, now=time.time())
            results.append((target, report, "", changed))
            if not session.json:
                _show(target, report, changed)
    reports = [report for _, report, _, _ in results if report is not None]
    failed = [report for report in reports if not report.ok]
    if session.json:
        print_json({"ok": bool(reports) and not failed, "results": [_document(*result) for result in results]})
    else:
        _summary(results)
    if not reports:
        raise OutsideError(f"nothing could be started: {results[0][2]}" if results else "there is nothing to start")
    return 1 if failed else 0


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


def _document(target: Target, report: BootReport | None, trouble: str, changed: dict[str, int]) -> dict[str, Any]:
    if report is None:
        return {"cell": target.cell, "image": target.image.name, "ok": None, "trouble": trouble}
    document = report.document()
    document.pop("log")
    return {"cell": target.cell, **document, "changed": changed}


def _show(target: Target, report: BootReport, changed: dict[str, int]) -> None:
    from sixsmith.cli.booting import show_report

    if report.ok:
        return
    click.echo(f"{target.cell}:")
    show_report(report, changed=changed)
    click.echo("")


def _summary(results: list[tuple[Target, BootReport | None, str, dict[str, int]]]) -> None:
    from sixsmith.cli.console import human_size, print_table

    rows = []
    for target, report, trouble, _ in results:
        if report is None:
            rows.append([target.cell, "", "", "", "", "", f"not started: {trouble}"])
            continue
        numbers = report.measures
        refused = [check.name for check in report.checks if check.status == "refused"]
        verdict = "failed: " + ", ".join(check.name for check in report.failures) if not report.ok else "ok"
        if refused:
            verdict += f" (cannot: {', '.join(refused)})"
        rows.append(
            [
                target.cell,
                f"{numbers.ready_ms} ms" if numbers.ready_ms is not None else "never",
                f"{numbers.stop_ms} ms" if numbers.stop_ms is not None else "",
                human_size(numbers.memory),
                str(numbers.processes),
                human_size(numbers.size),
                verdict,
            ]
        )
    print_table(["CELL", "READY", "STOP", "MEMORY", "PROCESSES", "SIZE", "VERDICT"], rows, right=(1, 2, 3, 4, 5))
    runners = sorted({f"{report.runner}: {report.reason}" for _, report, _, _ in results if report is not None})
    for line in runners:
        click.echo(line, err=True)
