"""`sixsmith store`: upkeep of the local store."""

from __future__ import annotations

import click

from sixsmith.cli.session import Session, place_options

__all__ = ["command"]


@click.group("store")
def command() -> None:
    """Look after the local store of blobs and caches."""


@command.command("du")
@place_options
def du(session: Session) -> None:
    """Show how much the store holds, by kind."""
    from sixsmith.cli.console import human_size, print_json, print_table

    with session.open_store() as store:
        sizes = store.du()
    if session.json:
        print_json({"store": str(session.store_root()), "bytes": sizes})
    else:
        print_table(["KIND", "SIZE"], [[kind, human_size(size)] for kind, size in sizes.items()], right=(1,))


@command.command("verify")
@click.option("--remove", is_flag=True, help="Remove what is damaged; the next build makes it again.")
@place_options
def verify(session: Session, remove: bool) -> int:
    """Read everything and say what is damaged; exit 4 when anything is."""
    from sixsmith.cli.console import print_json

    with session.open_store() as store:
        damages = store.verify(remove=remove)
    if session.json:
        print_json({"ok": not damages, "damaged": [str(damage) for damage in damages], "removed": remove})
    else:
        for damage in damages:
            click.echo(str(damage))
        click.echo(f"{len(damages)} damaged" + (", removed" if remove and damages else "") if damages else "whole")
    return 4 if damages else 0


@command.command("gc")
@click.option(
    "--days",
    metavar="DAYS",
    type=click.IntRange(min=0),
    default=0,
    help="Keep what was used in the last DAYS days, too.",
)
@place_options
def gc(session: Session, days: int) -> None:
    """Remove what no tag needs and no recent build used. It does not wait: it refuses while a build runs."""
    import time

    from sixsmith.cli.console import human_size, print_json

    with session.open_store() as store:
        freed = store.gc(before=time.time() - days * 86400) if days else store.gc()
    if session.json:
        print_json({"freed": freed})
    else:
        click.echo(f"{human_size(freed)} freed")
