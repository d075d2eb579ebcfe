"""`sixsmith solve`: what apk would install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sixsmith.cli.session import Session, place_options

__all__ = ["command", "package_options"]


Function = TypeVar("Function", bound=Callable[..., Any])


def package_options(function: Function) -> Function:
    """The options that `solve` and `install` share."""
    for option in reversed(
        (
            click.option(
                "-X",
                "--repository",
                "repositories",
                multiple=True,
                metavar="URL|'@pin URL'",
                help="A repository, in order (repeatable): URL or folder with ARCH/APKINDEX.tar.gz below it.",
            ),
            click.option(
                "--arch",
                default="x86_64",
                show_default=True,
                metavar="ARCH",
                help="The architecture, as apk spells it.",
            ),
            click.option(
                "--alpine",
                metavar="RELEASE",
                help="Take main and community of this release (3.23, edge) from the mirror, and trust its keys.",
            ),
        )
    ):
        function = option(function)
    return function


@click.command("solve")
@click.argument("packages", nargs=-1, required=True)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Solve on top of the packages that are installed in this root.",
)
@package_options
@place_options
def command(
    session: Session,
    packages: tuple[str, ...],
    root: Path | None,
    repositories: tuple[str, ...],
    arch: str,
    alpine: str | None,
) -> int:
    """Show what apk would install for PACKAGES (NAME, NAME=1.2-r0, NAME~1.2, NAME>1, NAME@pin, !NAME), in its order."""
    from sixsmith.cli.console import print_json
    from sixsmith.errors import Unsatisfiable
    from sixsmith.provision import Request, resolve_request

    request = Request(packages, repositories, arch, alpine, session.keys, root)
    with session.open_store() as store:
        try:
            resolved = resolve_request(request, supply=session.supply(store))
        except Unsatisfiable as error:
            if not session.json:
                raise
            print_json({"ok": False, "error": str(error), "hint": error.hint, "subjects": list(error.subjects)})
            return error.exit_code
    steps = resolved.solution.steps
    if session.json:
        print_json(
            {
                "ok": True,
                "install": [[step.record.name, step.record.version] for step in steps if step.action != "remove"],
                "steps": [
                    {
                        "action": step.action,
                        "name": step.record.name,
                        "version": step.record.version,
                        "repository": step.repository.name if step.repository else None,
                    }
                    for step in steps
                ],
            }
        )
        return 0
    for number, step in enumerate(steps, 1):
        where = f"  [{step.repository.name}]" if step.repository else ""
        click.echo(f"({number}/{len(steps)}) {step.action} {step.record.name} ({step.record.version}){where}")
    return 0
