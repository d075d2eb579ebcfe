"""`sixsmith install`: packages into a directory."""

from __future__ import annotations

from pathlib import Path

import click

from sixsmith.cli.session import Session, place_options
from sixsmith.cli.solve_ import package_options

__all__ = ["command"]


@click.command("install")
@click.argument("packages", nargs=-1, required=True)
@click.option(
    "--root", required=True, type=click.Path(path_type=Path, file_okay=False), help="The directory to install into."
)
@click.option(
    "--scripts",
    type=click.Choice(["emulate", "sandbox", "skip"]),
    default="emulate",
    show_default=True,
    help="What to do about the packages' install scripts.",
)
@package_options
@place_options
def command(
    session: Session,
    packages: tuple[str, ...],
    root: Path,
    scripts: str,
    repositories: tuple[str, ...],
    arch: str,
    alpine: str | None,
) -> int:
    """Install PACKAGES into a directory as apk would: files, modes, owners, lib/apk/db. An error leaves it as it was."""
    from sixsmith.cli.console import print_json
    from sixsmith.errors import Unsatisfiable
    from sixsmith.provision import Request, install_request

    request = Request(packages, repositories, arch, alpine, session.keys, root if root.is_dir() else None)
    with session.open_store() as store:
        try:
            installed = install_request(request, root=root, scripts=scripts, supply=session.supply(store), store=store)
        except Unsatisfiable as error:
            if not session.json:
                raise
            print_json({"ok": False, "error": str(error), "hint": error.hint, "subjects": list(error.subjects)})
            return error.exit_code
    if session.json:
        print_json({"ok": True, "packages": [[record.name, record.version] for record in installed]})
    else:
        for record in installed:
            click.echo(f"{record.name}-{record.version}")
    return 0
