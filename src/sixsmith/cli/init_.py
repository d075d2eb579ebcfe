"""`sixsmith init`: a family file to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from sixsmith.cli.session import Session, plain_options

__all__ = ["command"]


@click.command("init")
@click.argument("folder", default=".", type=click.Path(path_type=Path, file_okay=False))
@plain_options
def command(session: Session, folder: Path) -> None:
    """Write a commented sixsmith.yaml and an example service into FOLDER (default: here). Nothing is overwritten."""
    from sixsmith.cli.console import print_json
    from sixsmith.errors import StoreError, UsageError
    from sixsmith.matrix import starter_files

    files = starter_files(folder.absolute().name)
    taken = [name for name in files if (folder / name).exists()]
    if taken:
        raise UsageError(f"{folder / taken[0]} is there already; nothing was written")
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if text.startswith("#!"):
                path.chmod(0o755)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}") from None
    if session.json:
        print_json({"written": [str(folder / name) for name in files]})
        return
    for name in files:
        click.echo(f"wrote {folder / name}")
    click.echo("next: `sixsmith list`, then `sixsmith build`")
