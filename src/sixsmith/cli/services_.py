"""`sixsmith services`: service definitions on disk, looked at without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sixsmith.s6.chart import Chart
    from sixsmith.variant import Variant

__all__ = ["command"]


@click.group("services", help="Check service directories, draw their start order, migrate a tree of v1 or v2 to v3.")
def command() -> None:
    """The group; each command imports what it needs."""


@command.command("check", short_help="Say what s6-rc-compile would say, and more.")
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


@command.command("migrate", short_help="Turn a tree of v1 or v2 into one for v3.")
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


@command.command("graph", short_help="Draw the start order of services.")
@click.argument("what", nargs=-1, metavar="[CELL | DIR...]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "svg"]),
    default="text",
    show_default=True,
    help="What to draw.",
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write to this file, not to stdout."
)
@click.option("--all", "whole", is_flag=True, help="Show loggers as services of their own (of directories).")
@family_options
def graph(session: Session, what: tuple[str, ...], form: str, output: str | None, whole: bool) -> None:
    """Draw the start order of services: levels, who waits for whom, bundles, pipelines, and the critical path.

    DIRs are s6-rc source directories, or folders with etc/s6-overlay/s6-rc.d in them; they are drawn together. CELLs are
    image names, cell ids or tags of the family file; all cells when none is given.
    """
    from sixsmith.cli.console import print_json
    from sixsmith.errors import OutsideError, UsageError

    folders = [word for word in what if Path(word).is_dir()]
    if folders and len(folders) < len(what):
        word = next(word for word in what if word not in folders)
        raise UsageError(f"'{word}' is not a folder", hint="name folders only, or cells only")
    charts = (
        {", ".join(folders): _chart_of_folders(folders, whole)} if folders else _charts_of_cells(session, what, whole)
    )
    if session.json:
        print_json({"charts": [_document(title, chart) for title, chart in charts.items()]})
        return
    if form != "text" and len(charts) > 1:
        cells = ", ".join(list(charts)[:4])
        raise UsageError(f"{len(charts)} different sets of services, and one picture", hint=f"name one of {cells}")
    drawn = "\n".join(_drawn(title, chart, form, len(charts) > 1) for title, chart in charts.items())
    if output is None:
        click.echo(drawn, nl=False)
        return
    try:
        Path(output).write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise OutsideError(f"cannot write {output}: {error.strerror}") from error


def _drawn(title: str, chart: Chart, form: str, titled: bool) -> str:
    from sixsmith.s6.picture import render_dot, render_text

    if form == "dot":
        return render_dot(chart)
    if form == "svg":
        from sixsmith.s6.picture_svg import render_svg

        return render_svg(chart)
    return f"{title}\n{render_text(chart)}" if titled else render_text(chart)


def _chart_of_folders(folders: Sequence[str], whole: bool) -> Chart:
    from sixsmith.s6.chart import chart_of_definitions
    from sixsmith.s6.compile import check_directories

    inside = "etc/s6-overlay/s6-rc.d"
    places = [Path(folder, inside) if Path(folder, inside).is_dir() else Path(folder) for folder in folders]
    return chart_of_definitions(check_directories(places).definitions, whole=whole)


def _charts_of_cells(session: Session, words: tuple[str, ...], whole: bool) -> dict[str, Chart]:
    """Charts by the ids of the cells that have them; a child has its parent's services, too."""
    from sixsmith.errors import UsageError

    family = session.load_family()
    cells = {cell.id: cell for cell in family.cells}
    found: list[tuple[list[str], Chart]] = []
    for cell in session.select(family, words, ()):
        chart = _chart_of_cell(cell, cells, whole)
        if chart is None:
            continue
        same = next((ids for ids, other in found if other == chart), None)
        if same is None:
            found.append(([cell.id], chart))
        else:
            same.append(cell.id)
    if not found:
        raise UsageError("these cells have no services", hint="`services:` in the family file, or name a folder")
    return {", ".join(ids): chart for ids, chart in found}


def _chart_of_cell(cell: Variant, cells: Mapping[str, Variant], whole: bool) -> Chart | None:
    from sixsmith.errors import Place
    from sixsmith.s6.chart import chart_of_services
    from sixsmith.s6.service_file import read_services

    merged: dict[str, object] = {}
    link: Variant | None = cell
    while link is not None:
        if isinstance(link.services, str):
            return _chart_of_folders([link.services], whole)
        merged = dict(link.services or {}) | merged
        link = cells.get(link.parent) if link.parent else None
    if not merged:
        return None
    return chart_of_services(read_services(merged, place=cell.place or Place("sixsmith.yaml"), closed=False))


def _document(title: str, chart: Chart) -> dict[str, object]:
    return {
        "title": title,
        "services": [
            {
                "name": name,
                "kind": chart.marks[name].kind,
                "level": chart.levels[name],
                "waits_for": list(chart.marks[name].waits),
                "reads": list(chart.marks[name].reads),
                "timeout_up_ms": chart.marks[name].timeout or None,
            }
            for name in chart.order
        ],
        "bundles": {name: list(members) for name, members in chart.bundles.items()},
        "pipelines": {name: list(members) for name, members in chart.pipelines.items()},
        "critical_path": list(chart.critical_path),
        "critical_time_ms": chart.critical_time,
    }
