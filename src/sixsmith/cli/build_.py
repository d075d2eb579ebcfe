"""`sixsmith build`: images into the store, and as image layouts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sixsmith.cli.session import Session, family_options
from sixsmith.errors import UsageError

if TYPE_CHECKING:
    from sixsmith.build import BuiltFamily

__all__ = ["command"]


@click.command("build")
@click.argument("cells", nargs=-1)
@click.option("--arch", "arches", multiple=True, metavar="ARCH", help="Only this architecture (repeatable).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("dist"),
    show_default=True,
    help="One OCI image layout per image name goes below this folder.",
)
@click.option(
    "--archive",
    type=click.Path(path_type=Path, dir_okay=False),
    help="One tar of all that is built, for `docker load` and `podman load`.",
)
@click.option(
    "--frozen", is_flag=True, help="Build what the lock holds; fail when the family file asks for more or other."
)
@family_options
def command(
    session: Session, cells: tuple[str, ...], arches: tuple[str, ...], output: Path, archive: Path | None, frozen: bool
) -> None:
    """Build images into the store and write them as OCI image layouts.

    CELLS are image names, cell ids or tags, with globs; all cells when none is given.
    """
    from datetime import date

    from sixsmith.build import write_output
    from sixsmith.cli.unchanged import Watch, leave_receipt

    if archive is not None and not archive.absolute().parent.is_dir():
        raise UsageError(f"--archive {archive}: no folder {archive.parent}")
    with Watch() as watch, session.open_store() as store, store.gathering():
        family = session.load_family(store)
        lock = session.load_lock(needed=frozen)
        selected = session.select(family, cells, arches)
        built = session.build(selected, family=family, store=store, lock=lock, frozen=frozen, today=date.today())
        write_output(built, store=store, output=output, archive=archive)
        places = f"layouts in {output}" + (f", archive {archive}" if archive else "")
        arguments = click.get_current_context().find_root().obj
        if arguments is not None:
            leave_receipt(
                list(arguments),
                trace=session.trace,
                watch=watch,
                store=store,
                built=built,
                output=output,
                archive=archive,
                printed=_render(built, session, repeated=True),
                errors=_repeated(session, places),
            )
    sys.stdout.write(_render(built, session))
    if not session.json and not session.quiet:
        click.echo(places, err=True)


def _render(built: BuiltFamily, session: Session, *, repeated: bool = False) -> str:
    """What stands on stdout; `repeated` is what the same build prints when it finds everything done."""
    from msgspec.structs import replace

    from sixsmith.cli.console import human_size, human_time, render_json, render_table

    images = [replace(image, cached=True, seconds=0.0) for image in built.images] if repeated else built.images
    if session.json:
        return render_json({"images": [image.document() for image in images], "tags": built.tag_documents()})
    rows = [
        [
            " ".join(image.references),
            str(image.variant.arch.platform),
            human_size(image.size),
            str(len(image.layers)),
            str(len(image.plan.packages)),
            human_time(image.seconds) if not image.cached else "unchanged",
        ]
        for image in images
    ]
    return render_table(["IMAGE", "PLATFORM", "SIZE", "LAYERS", "PACKAGES", "TIME"], rows, right=(2, 3, 4, 5))


def _repeated(session: Session, places: str) -> str:
    """What the same build says on stderr when it finds everything done."""
    from sixsmith.cli.console import lines_of_repetition

    brief = not session.json and sys.stderr.isatty()
    lines = lines_of_repetition(session.reporter.events, quiet=session.quiet, brief=brief)
    return "".join(lines) + (f"{places}\n" if not session.json and not session.quiet else "")
