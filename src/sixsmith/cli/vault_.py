"""`sixsmith vault`: all bytes that a lock names, in one folder."""

from __future__ import annotations

from pathlib import Path

import click

from sixsmith.cli.session import Session, family_options

__all__ = ["command"]

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group("vault")
def command() -> None:
    """Keep, check and serve all bytes that a lock names, in one folder that is itself a mirror.

    `sixsmith build --frozen --vault FOLDER --offline` builds from it.
    """


@command.command("export")
@_FOLDER
@family_options
def export(session: Session, folder: Path) -> None:
    """Write every file that the lock names below FOLDER, from the store or the mirrors."""
    from sixsmith.cli.console import human_size, print_json
    from sixsmith.vault import export_vault

    family = session.load_family()
    lock = session.load_lock(needed=True)
    assert lock is not None
    with session.open_store() as store:
        supply = session.supply(store, lock)
        written, size = export_vault(lock, family.cells, folder, supply=supply, store=store)
    if session.json:
        print_json({"vault": str(folder), "written": written, "bytes": size})
    else:
        click.echo(f"{folder}: {written} file{'s' * (written != 1)} written, {human_size(size)}")


@command.command("import")
@_FOLDER
@family_options
def import_(session: Session, folder: Path) -> None:
    """Put every file of the vault at FOLDER into the store, each verified against the lock."""
    from sixsmith.cli.console import print_json
    from sixsmith.vault import import_vault

    family = session.load_family()
    lock = session.load_lock(needed=True)
    assert lock is not None
    with session.open_store() as store:
        count = import_vault(lock, family.cells, folder, store=store)
    if session.json:
        print_json({"imported": count})
    else:
        click.echo(f"{count} files imported")


@command.command("check", short_help="Say what is missing or damaged; exit 4 when anything is.")
@_FOLDER
@family_options
def check(session: Session, folder: Path) -> int:
    """Say which files of the vault at FOLDER are missing or damaged; exit 4 when any is."""
    from sixsmith.cli.console import print_json
    from sixsmith.vault import check_vault, vault_files

    family = session.load_family()
    lock = session.load_lock(needed=True)
    assert lock is not None
    faults = check_vault(lock, family.cells, folder)
    if session.json:
        print_json({"ok": not faults, "files": len(vault_files(lock, family.cells)), "faults": faults})
    else:
        for fault in faults:
            click.echo(fault)
        click.echo(f"{folder}: " + (f"{len(faults)} fault{'s' * (len(faults) != 1)}" if faults else "whole"))
    return 4 if faults else 0


@command.command("serve", short_help="Serve the vault at FOLDER over http, as a mirror.")
@_FOLDER
@click.option(
    "--address",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; port 0 is a free one.",
)
def serve(folder: Path, address: str) -> None:
    """Serve the vault at FOLDER over http until interrupted: as `--mirror URL/alpine`, `--overlay-mirror URL/s6-overlay`."""
    import threading

    from sixsmith.errors import UsageError
    from sixsmith.io.serve import serve_folder

    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise UsageError(f"--address {address} is no HOST:PORT")
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    with serve_folder(folder, host or "127.0.0.1", int(port)) as url:
        click.echo(f"serving {folder} at {url} (interrupt to end)", err=True)
        threading.Event().wait()
