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


@command.command("migrate")
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--from", "source", default="v2", show_default=True, metavar="v1|v2", help="The overlay that DIR is for.")
@click.option("--to", "target", default="v3", show_default=True, metavar="v3|VERSION", help="The overlay to go to.")
@click.option(
    "--legacy",
    type=click.Choice(["convert", "keep"]),
    default="convert",
    show_default=True,
    help="Make s6-rc sources of services.d and cont-init.d, or keep them where v3 still finds them.",
)
@click.option("-o", "--output", metavar="OUT", type=click.Path(), help="Write the new tree into this new folder.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document on stdout.")
def migrate_command(
    directory: str, source: str, target: str, legacy: str, output: str | None, json_output: bool
) -> int:
    """Turn a tree of s6-overlay v1 or v2 into one for v3, and say what a person must still decide.

    DIR is a root folder (with etc/services.d and so on in it), or the folder that holds services.d itself. Nothing is
    written without --output.
    """
    from pathlib import Path

    from sixsmith.cli.console import print_json
    from sixsmith.s6.folder import read_folder, write_folder
    from sixsmith.s6.migrate import as_root, migrate

    order = _release(source, (1, 2)), _release(target, (3,))
    files = as_root(tuple(read_folder(Path(directory), keep_modes=True)), directory)
    migration = migrate(files, keep_legacy=legacy == "keep", order=order[1])
    if output is not None:
        write_folder(Path(output), migration.files)
    if json_output:
        print_json(
            {
                "written": output,
                "files": [
                    {"path": file.path, "kind": file.kind, "mode": f"{file.mode:04o}"} for file in migration.files
                ],
                "done": list(migration.done),
                "decisions": [
                    {"path": each.path, "line": each.line, "message": each.message, "hint": each.hint}
                    for each in migration.decisions
                ],
            }
        )
        return 0
    for sentence in migration.done:
        click.echo(sentence)
    if migration.decisions:
        click.echo(f"\nTo decide ({len(migration.decisions)}):")
    for each in migration.decisions:
        place = f"{each.path}:{each.line}" if each.line else each.path
        click.echo(f"  {place}: {each.message}")
        if each.hint:
            click.echo(f"      {each.hint}")
    told = f"{output} has the new tree" if output is not None else "nothing is written: give a folder with --output"
    click.echo(f"\n{len(migration.files)} files and folders; {told}", err=True)
    return 0


def _release(word: str, majors: tuple[int, ...]) -> tuple[int, ...]:
    """`v3` or `3.2.1.0` as numbers. Raises UsageError for another major version."""
    import re

    from sixsmith.errors import UsageError

    match = re.fullmatch(r"v?(\d+(?:[.-]\d+)*)", word)
    order = tuple(int(number) for number in re.split(r"[.-]", match[1])) if match else ()
    if not order or order[0] not in majors:
        wanted = " or ".join(f"v{major}" for major in majors)
        raise UsageError(f"'{word}' is not {wanted}", hint="migration goes from v1 or v2 to v3")
    return order
