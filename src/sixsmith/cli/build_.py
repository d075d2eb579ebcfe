"""`sixsmith build`: images into the store, and as image layouts."""

from __future__ import annotations

from pathlib import Path

import click

from sixsmith.cli.session import Session, family_options
from sixsmith.errors import UsageError

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
@click.option("--frozen", is_flag=True, help="Fail when the family file asks for what the lock does not hold.")
@family_options
def command(
    session: Session, cells: tuple[str, ...], arches: tuple[str, ...], output: Path, archive: Path | None, frozen: bool
) -> None:
    """Build images into the store and write them as OCI image layouts.

    CELLS are image names, cell ids or tags, with globs; all cells when none is given.
    """
    from datetime import date

    from sixsmith.build import build_family, write_output
    from sixsmith.cli.console import human_size, human_time, print_json, print_table

    if archive is not None and not archive.absolute().parent.is_dir():
        raise UsageError(f"--archive {archive}: no folder {archive.parent}")
    family = session.load_family()
    lock = session.load_lock(needed=frozen)
    selected = session.select(family, cells, arches)
    with session.open_store() as store:
        built = build_family(
            selected,
            family=family,
            supply=session.supply(store, lock),
            store=store,
            lock=lock,
            frozen=frozen,
            reporter=session.reporter,
            today=date.today(),
        )
        write_output(built, store=store, output=output, archive=archive)
    if session.json:
        print_json({"images": [image.document() for image in built.images], "tags": built.tag_documents()})
        return
    rows = [
        [
            " ".join(image.references),
            str(image.variant.arch.platform),
            human_size(image.size),
            str(len(image.layers)),
            str(len(image.plan.packages)),
            human_time(image.seconds) if not image.cached else "unchanged",
        ]
        for image in built.images
    ]
    print_table(["IMAGE", "PLATFORM", "SIZE", "LAYERS", "PACKAGES", "TIME"], rows, right=(2, 3, 4, 5))
    if not session.quiet:
        click.echo(f"layouts in {output}" + (f", archive {archive}" if archive else ""), err=True)
