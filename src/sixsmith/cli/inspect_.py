"""`sixsmith inspect` and `sixsmith diff`: what an image is, and what changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
    from sixsmith.inspecting import Description
    from sixsmith.io.store import Store

__all__ = ["command", "describe_place"]


@click.command("inspect")
@click.argument("place", metavar="CELL|REF|LAYOUT[:TAG]")
@click.option("--arch", default="x86_64", show_default=True, metavar="ARCH", help="Which one, when there are several.")
@click.option("--plain-http", is_flag=True, help="The registry has no TLS.")
@click.option("--packages", "with_packages", is_flag=True, help="List every package.")
@family_options
def command(session: Session, place: str, arch: str, plain_http: bool, with_packages: bool) -> None:
    """Show the layers of an image and why each is what it is, its packages and its settings.

    The image is a cell of the family (built if it was not), an OCI layout or archive on disk, or a registry's image.
    """
    from sixsmith.cli.console import human_size, print_json, print_table

    with session.open_store() as store:
        seen = describe_place(session, store, place, arch, plain_http=plain_http)
    if session.json:
        print_json(seen.document())
        return
    click.echo(f"{seen.name}  {seen.platform}  {human_size(seen.size)}")
    click.echo(f"  digest    {seen.digest}")
    click.echo(f"  created   {seen.created}")
    for key, value in seen.settings.items():
        if value:
            click.echo(f"  {key.lower():9} {_shown(value)}")
    click.echo(f"  packages  {len(seen.packages)}")
    if with_packages:
        for name, version in seen.packages.items():
            click.echo(f"            {name} {version}")
    rows = [
        [str(number), layer.kind, human_size(layer.size), layer.digest[7:19], layer.contents or "-", layer.reason]
        for number, layer in enumerate(seen.layers, 1)
    ]
    print_table(["LAYER", "KIND", "SIZE", "DIGEST", "CONTENTS", "WHY"], rows, right=(0, 2))


def describe_place(session: Session, store: Store, place: str, arch: str, *, plain_http: bool = False) -> Description:
    """The image that a word on the command line means: on disk, else a cell, else a reference.

    Raises UsageError when it is none of them.
    """
    from sixsmith.build import Line
    from sixsmith.errors import UsageError
    from sixsmith.inspecting import describe, describe_on_disk
    from sixsmith.io.pull import pull_image
    from sixsmith.model.arch import arch_named
    from sixsmith.oci.spec import parse_manifest

    path, _, tag = place.rpartition(":")
    if Path(place).exists():
        return describe_on_disk(Path(place), arch_named(arch))
    if path and "/" not in tag and Path(path).exists():
        return describe_on_disk(Path(path), arch_named(arch), ref=tag)
    if session.file.is_file():
        family = session.load_family()
        try:
            cells = session.select(family, (place,), ())
        except UsageError:
            if "/" not in place and ":" not in place:
                raise
            cells = ()
        if cells:
            chosen = [cell for cell in cells if cell.arch.name == arch] or list(cells)
            if len({cell.cell for cell in chosen}) > 1:
                raise UsageError(f"'{place}' names {len(chosen)} cells", hint=f"for example {chosen[0].id}")
            lock = session.load_lock()
            supply = session.supply(store, lock)
            line = Line(family=family, supply=supply, store=store, lock=lock, reporter=session.reporter)
            digest = line.build(chosen[0]).descriptor.digest
            return describe(store, parse_manifest(store.read(digest)), chosen[0].id)
    digest = pull_image(
        place,
        arch_named(arch),
        store=store,
        http=session.http,
        credentials=session.credentials(),
        plain_http=plain_http,
        reporter=session.reporter,
    )
    return describe(store, parse_manifest(store.read(digest), what=place), place)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" if item not in ({}, None) else str(key) for key, item in value.items())
    return " ".join(str(item) for item in value) if isinstance(value, list) else str(value)
