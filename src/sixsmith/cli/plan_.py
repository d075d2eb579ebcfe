"""`sixsmith plan`: what a build would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
    from sixsmith.build import BuiltImage
    from sixsmith.plan import BuildPlan

__all__ = ["command"]


@click.command("plan")
@click.argument("cells", nargs=-1)
@click.option("--arch", "arches", multiple=True, metavar="ARCH", help="Only this architecture (repeatable).")
@click.option("--why", metavar="PACKAGE", help="Show the chain by which this package comes in.")
@family_options
def command(session: Session, cells: tuple[str, ...], arches: tuple[str, ...], why: str | None) -> None:
    """Show what a build would do: packages, sizes, base, overlay; nothing is built.

    CELLS are image names, cell ids or tags, with globs; all cells when none is given.
    """
    from sixsmith.build import Line
    from sixsmith.cli.console import human_size, print_json
    from sixsmith.errors import UsageError, nearest
    from sixsmith.solver import why as chain

    family = session.load_family()
    selected = session.select(family, cells, arches)
    documents = []
    with session.open_store() as store:
        lock = session.load_lock()
        supply = session.supply(store, lock)
        line = Line(family=family, supply=supply, store=store, lock=lock, reporter=session.reporter)
        for cell in selected:
            plan, _ = line.plan(cell)
            document = {
                "id": plan.variant.id,
                "plan_id": plan.id,
                "tags": list(plan.tags),
                "base": {"kind": plan.base.kind, "name": plan.base.name, "identity": plan.base.identity},
                "overlay": [{"name": file.name, "digest": file.digest} for file in plan.overlay],
                "packages": [
                    {
                        "name": package.name,
                        "version": package.version,
                        "repository": package.repository or None,
                        "size": package.size,
                        "checksum": package.checksum,
                    }
                    for package in plan.packages
                ],
                "steps": [{"action": step.action, "name": step.name, "version": step.version} for step in plan.steps],
                "download_size": plan.download_size,
                "layers": _layers(plan, line.known(plan)),
                "locked": plan.locked,
            }
            if why is not None:
                names = {package.name for package in plan.packages}
                if why not in names:
                    raise UsageError(f"{plan.variant.id} does not install '{why}'", hint=nearest(why, names))
                document["why"] = (
                    chain(plan.solution, why)
                    if plan.solution is not None
                    else [f"{why} is installed as the lock or the base says; without the lock it would be resolved"]
                )
            documents.append(document)
            if session.json:
                continue
            click.echo(f"{plan.variant.id}  {plan.id[7:19]}")
            click.echo(f"  tags      {' '.join(plan.tags)}")
            click.echo(f"  base      {plan.base.kind} {plan.base.name}".rstrip())
            for file in plan.overlay:
                click.echo(f"  overlay   {file.name}  {human_size(file.size)}")
            if why is not None:
                for sentence in document["why"]:  # type: ignore[attr-defined]  # a list of sentences by construction
                    click.echo(f"  {sentence}")
                continue
            for layer in document["layers"]:  # type: ignore[attr-defined]  # as `_layers` makes them
                names = layer["names"]
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                shown = f"{', '.join(names[:3])}{more}: " if names else ""
                click.echo(f"  layer     {layer['kind']:8} {shown}{layer['reason']}")
            for step in plan.steps:
                was = f" (was {step.old_version})" if step.old_version else ""
                click.echo(f"  {step.action:9} {step.name}-{step.version}{was}  [{step.repository or 'base'}]")
            click.echo(f"  {len(plan.packages)} packages in all, {human_size(plan.download_size)} to fetch at most")
    if session.json:
        print_json({"plans": documents})


def _layers(plan: BuildPlan, known: BuiltImage | None) -> list[dict[str, Any]]:
    """The layers of the image that there is already, or those that are to be expected."""
    from sixsmith.plan import expected_layers

    if known is not None:
        return [
            {
                "kind": layer.kind,
                "names": list(layer.names),
                "reason": layer.reason,
                "size": layer.size,
                "digest": layer.digest,
            }
            for layer in known.layers
        ]
    return [{"kind": kind, "names": list(names), "reason": why} for kind, names, why in expected_layers(plan)]
