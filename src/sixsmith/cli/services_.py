"""`sixsmith services`: service definitions on disk, looked at without starting anything."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.group("services", help="Check, migrate and draw services.")
def command() -> None:
    """The group; each command imports what it needs."""


@command.command("check")
@click.argument("directories", nargs=-1, required=True, metavar="DIR...", type=click.Path())
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document on stdout.")
def check(directories: tuple[str, ...], json_output: bool) -> int:
    """Say what s6-rc-compile would say of these source directories, and everything it would say later.

    Directories are compiled together, in order, as s6-overlay compiles /etc/s6-overlay/s6-rc.d with its own sources.
    Exit code 1 when the compiler would refuse them.
    """
    from sixsmith.cli.console import print_json
    from sixsmith.s6.compile import check_directories

    report = check_directories(directories)
    if json_output:
        print_json(
            {
                "accepted": report.accepted,
                "services": len(report.definitions),
                "findings": [
                    {
                        "rule": finding.rule,
                        "severity": finding.severity,
                        "path": finding.path,
                        "line": finding.line,
                        "message": finding.message,
                        "hint": finding.hint,
                        "reference": finding.reference,
                    }
                    for finding in report.findings
                ],
            }
        )
        return 0 if report.accepted else 1
    for finding in report.findings:
        place = f"{finding.path}:{finding.line}" if finding.line else finding.path
        click.echo(f"{place}: {finding.severity} {finding.rule}: {finding.message}")
        if finding.hint:
            click.echo(f"    {finding.hint}")
    errors = sum(finding.severity == "error" for finding in report.findings)
    services = f"{len(report.definitions)} service{'s' * (len(report.definitions) != 1)}"
    verdict = (
        f"accepted: {services}" if report.accepted else f"refused: {errors} error{'s' * (errors != 1)} in {services}"
    )
    click.echo(verdict, err=True)
    return 0 if report.accepted else 1
