"""`sixsmith export`: the family for other tools."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from sixsmith.cli.session import Session, family_options

__all__ = ["command"]


@click.group("export")
def command() -> None:
    """Write the family for people who stay with other tools."""


@command.command("dockerfiles")
@click.argument("cells", nargs=-1)
@click.option("--arch", "arches", multiple=True, metavar="ARCH", help="Only this architecture (repeatable).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("dockerfiles"),
    show_default=True,
    help="IMAGE/Dockerfile.TAG and IMAGE/update.sh go below this folder.",
)
@family_options
def dockerfiles(session: Session, cells: tuple[str, ...], arches: tuple[str, ...], output: Path) -> None:
    """Write Dockerfile.TAG for each tag, and update.sh [REGISTRY] that builds and pushes them."""
    from sixsmith.cli.console import print_json
    from sixsmith.errors import StoreError
    from sixsmith.export import render_dockerfiles

    family = session.load_family()
    selected = session.select(family, cells, arches)
    with session.open_store() as store:
        supply = session.supply(store)
        tree = render_dockerfiles(selected, registry=family.registry, overlay_digest=supply.known_overlay_digest)
    try:
        for name, text in tree.texts.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755 if name in tree.scripts else 0o644)
        for name, source in tree.copies.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(Path(source).resolve(), path)
    except OSError as error:
        raise StoreError(f"{error.filename or output}: {error.strerror}") from None
    written = [str(output / name) for name in [*tree.texts, *tree.copies]]
    if session.json:
        print_json({"written": written})
        return
    for name in written:
        click.echo(f"wrote {name}")


def _copy(source: Path, target: Path) -> None:
    """A file or a folder, with the modes that `build` gives: what a checkout's umask did does not go into an image."""
    if source.is_symlink() and target.is_symlink():
        target.unlink()
    if source.is_dir() and not source.is_symlink():
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
        for child in sorted(source.iterdir()):
            _copy(child, target / child.name)
    elif source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
