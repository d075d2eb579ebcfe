"""`sixsmith export`: the family for other tools."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
    from sixsmith.export.deployment import Deployment

__all__ = ["command"]


@click.group("export")
def command() -> None:
    """Write the family for people who stay with other tools."""


@command.command("dockerfiles", short_help="Write Dockerfiles, and update.sh that builds and pushes them.")
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


def _deployments(session: Session, cells: tuple[str, ...], arch: str | None) -> tuple[str, list[Deployment]]:
    """The family's name (or the layout's) and how its images are to be run, as their last tests tell."""
    from sixsmith.boot.measures import last_report
    from sixsmith.cli.booting import open_targets
    from sixsmith.export.deployment import make_deployment

    registry = family_name = ""
    if session.file.is_file():
        family = session.load_family()
        registry, family_name = family.registry or "", family.name
    made = []
    with open_targets(session, cells, arch, several=True) as targets, session.open_store() as store:
        for target in targets:
            report = last_report(store, target.cell)
            if report is not None and report.get("digest") != target.image.digest:
                report = None  # of an image that was here before
            reference = f"{registry}/{target.image.name}" if registry and target.variant else target.image.name
            name = target.cell.rpartition("/")[0] if len(targets) > 1 else target.cell.partition(":")[0]
            made.append(
                make_deployment(name, reference, target.image.settings, report, major=(report or {}).get("overlay", 0))
            )
    return family_name or "images", made


def _print_or_write(session: Session, text: str, output: Path | None) -> None:
    from sixsmith.cli.console import print_json
    from sixsmith.errors import StoreError

    if output is not None:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{output}: {error.strerror}") from None
    if session.json:
        print_json({"written": [str(output)] if output else [], "text": text})
    elif output is not None:
        click.echo(f"wrote {output}")
    else:
        click.echo(text, nl=False)


_output = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.  [default: stdout]"
)
_arch = click.option("--arch", metavar="ARCH", help="The architecture whose test counts.")


@command.command("compose", short_help="Write a compose file.")
@click.argument("cells", nargs=-1)
@_arch
@_output
@family_options
def compose(session: Session, cells: tuple[str, ...], arch: str | None, output: Path | None) -> None:
    """Write a compose file with the least that each image was seen to run with.

    What `sixsmith test` found out last of each image decides; an image without a test gets no restrictions.
    """
    from sixsmith.export.compose import render_compose

    name, deployments = _deployments(session, cells, arch)
    _print_or_write(session, render_compose(deployments, name=name), output)


@command.command("run", short_help="Write `docker run` commands.")
@click.argument("cells", nargs=-1)
@_arch
@_output
@family_options
def run(session: Session, cells: tuple[str, ...], arch: str | None, output: Path | None) -> None:
    """Write `docker run` commands with the least that each image was seen to run with (see `export compose`)."""
    from sixsmith.export.compose import render_run

    _, deployments = _deployments(session, cells, arch)
    _print_or_write(session, render_run(deployments), output)


@command.command("k8s", short_help="Write Kubernetes objects.")
@click.argument("cells", nargs=-1)
@_arch
@_output
@click.option("--storage", default="1Gi", show_default=True, help="What each volume's claim asks for.")
@family_options
def k8s(session: Session, cells: tuple[str, ...], arch: str | None, output: Path | None, storage: str) -> None:
    """Write Kubernetes objects with the least that each image was seen to run with (see `export compose`)."""
    from sixsmith.export.k8s import render_k8s

    _, deployments = _deployments(session, cells, arch)
    _print_or_write(session, render_k8s(deployments, storage=storage), output)


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
