"""`sixsmith lock`: everything pinned."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
    from pathlib import Path

    from sixsmith.lock import Lock

__all__ = ["command"]


@click.command("lock")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the lock would change.")
@family_options
def command(session: Session, check: bool) -> int:
    """Resolve the whole family and pin every package, tarball and base in sixsmith.lock, beside the family file."""
    from sixsmith.build import Line
    from sixsmith.cli.console import print_json
    from sixsmith.lock import make_lock

    family = session.load_family()
    old = _old_lock(session)
    with session.open_store() as store:
        line = Line(family=family, supply=session.supply(store), store=store, reporter=session.reporter)
        new = make_lock(line.plan(cell)[0] for cell in family.cells)
    text = new.render()
    changes = _changes(old, new)
    changed = old is None or old.render() != text
    if changed and not check:
        _replace(session.lock_file, text)
    if session.json:
        print_json({"lock": str(session.lock_file), "changed": changed, "cells": len(new.cells), "changes": changes})
    else:
        for line_ in changes:
            click.echo(line_)
        state = "is up to date" if not changed else "would change" if check else "written"
        click.echo(f"{session.lock_file} {state}: {len(new.cells)} cells, {len(new.files)} files")
    return 1 if check and changed else 0


def _old_lock(session: Session) -> Lock | None:
    """The lock that is there. One that cannot be read is as good as none, and said: this command is what mends it."""
    from sixsmith.errors import UsageError
    from sixsmith.events import Warned

    try:
        return session.load_lock()
    except UsageError as error:
        session.reporter(Warned("", str(error)))
        return None


def _replace(file: Path, text: str) -> None:
    """The whole file or the old one, never half of it. Raises StoreError."""
    from sixsmith.errors import StoreError

    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        temporary.replace(file)
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _changes(old: Lock | None, new: Lock) -> list[str]:
    """What a reviewer wants to read: packages and files that came, went or moved."""
    if old is None:
        return []
    before, after = _lines(old), _lines(new)
    found = []
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was != now:
            found.append(
                f"+ {name} {now}" if was is None else f"- {name} {was}" if now is None else f"~ {name} {was} → {now}"
            )
    return found


def _lines(lock: Lock) -> dict[str, str]:
    lines = {name: file.digest[7:19] for name, file in lock.files.items()}
    for group, repositories in lock.packages.items():
        for repository, table in repositories.items():
            lines |= {f"{group} {repository}/{name}": package.version for name, package in table.items()}
    return lines
