"""`sixsmith list`: the cells of the family."""

from __future__ import annotations

import click

from sixsmith.cli.session import Session, family_options

__all__ = ["command"]


@click.command("list")
@click.argument("cells", nargs=-1)
@click.option("--arch", "arches", multiple=True, metavar="ARCH", help="Only this architecture (repeatable).")
@family_options
def command(session: Session, cells: tuple[str, ...], arches: tuple[str, ...]) -> None:
    """Show the cells: id, tags, Alpine and its end of support, s6-overlay and its advisories.

    CELLS are image names, cell ids or tags, with globs; all cells when none is given.
    """
    from datetime import date

    from sixsmith import catalog
    from sixsmith.cli.console import print_json, print_table

    family = session.load_family()
    today = date.today()
    rows, documents = [], []
    said: dict[str, None] = {}
    for cell in session.select(family, cells, arches):
        release = catalog.alpine(cell.alpine) if cell.alpine else None
        end = release.end_of_support.isoformat() if release and release.end_of_support else None
        overlay = cell.overlay.version if cell.overlay else None
        advice = [*catalog.advice_for_alpine(cell.alpine, today)] if release else []
        if overlay:
            advice += catalog.advice_for_overlay(overlay)
        said.update(dict.fromkeys(str(item) for item in advice))
        documents.append(
            {
                "id": cell.id,
                "image": cell.image,
                "tag": cell.tags[0] if cell.tags else None,
                "tags": list(cell.tags),
                "alpine": cell.alpine,
                "s6_overlay": overlay,
                "arch": cell.arch.name,
                "platform": str(cell.arch.platform),
                "base": cell.base,
                "parent": cell.parent,
                "packages": list(cell.packages),
                "end_of_support": end,
                "supported": release.supported(today) if release else None,
                "advisories": [str(item) for item in advice],
            }
        )
        support = "-" if release is None else _support(end, supported=release.supported(today))
        rows.append([cell.id, " ".join(cell.tags), cell.alpine or "-", support, overlay or "-", str(len(advice) or "")])
    if session.json:
        print_json({"cells": documents})
        return
    print_table(["CELL", "TAGS", "ALPINE", "END OF SUPPORT", "S6-OVERLAY", "ADVICE"], rows)
    if not session.quiet:
        for text in said:
            click.echo(f"  {text}", err=True)


def _support(end: str | None, *, supported: bool) -> str:
    if end is None:
        return "rolling"
    return end if supported else f"{end} (over)"
