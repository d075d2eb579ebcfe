"""`sixsmith diff`: what changed between two images."""

from __future__ import annotations

import click

from sixsmith.cli.inspect_ import describe_place
from sixsmith.cli.session import Session, family_options

__all__ = ["command"]


@click.command("diff")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--arch", default="x86_64", show_default=True, metavar="ARCH", help="Which one, when there are several.")
@click.option("--plain-http", is_flag=True, help="The registry has no TLS.")
@family_options
def command(session: Session, old: str, new: str, arch: str, plain_http: bool) -> int:
    """Show what changed from image A to image B: packages, layers, settings, size. Exit code 1 when anything did.

    Each is a cell of the family, an OCI layout or archive (LAYOUT:TAG), or a registry's image.
    """
    from sixsmith.cli.console import human_size, print_json
    from sixsmith.inspecting import differences

    with session.open_store() as store:
        before = describe_place(session, store, old, arch, plain_http=plain_http)
        after = describe_place(session, store, new, arch, plain_http=plain_http)
    found = differences(before, after)
    if session.json:
        print_json(found)
        return 0 if found["same"] else 1
    packages, layers = found["packages"], found["layers"]
    for name, version in packages["removed"].items():
        click.echo(f"- {name} {version}")
    for name, version in packages["added"].items():
        click.echo(f"+ {name} {version}")
    for name, (was, now) in packages["changed"].items():
        click.echo(f"~ {name} {was} → {now}")
    for key, (was, now) in found["settings"].items():
        click.echo(f"~ {key}: {was} → {now}")
    for layer in layers["removed"]:
        click.echo(f"- layer {layer['kind']} {human_size(layer['size'])} {layer['contents']}")
    for layer in layers["added"]:
        click.echo(f"+ layer {layer['kind']} {human_size(layer['size'])} {layer['contents']}")
    size = found["size"]
    click.echo(
        "the same image"
        if found["same"]
        else f"{layers['kept']} layers kept, {human_size(size[0])} → {human_size(size[1])}"
    )
    return 0 if found["same"] else 1
