"""`sixsmith push`: what the registry lacks."""

from __future__ import annotations

from pathlib import Path

import click

from sixsmith.cli.session import Session, family_options

__all__ = ["command"]


@click.command("push")
@click.argument("registry", required=False)
@click.argument("cells", nargs=-1)
@click.option("--arch", "arches", multiple=True, metavar="ARCH", help="Only this architecture (repeatable).")
@click.option("--plain-http", is_flag=True, help="The registry speaks http (loopback ones are tried by themselves).")
@click.option(
    "--tls-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Trust the certificate authority in this PEM file, too.",
)
@click.option(
    "--frozen", is_flag=True, help="Build what the lock holds; fail when the family file asks for more or other."
)
@family_options
def command(
    session: Session,
    registry: str | None,
    cells: tuple[str, ...],
    arches: tuple[str, ...],
    plain_http: bool,
    tls_ca: Path | None,
    frozen: bool,
) -> None:
    """Build what is not built, then upload to REGISTRY what it lacks; one index per tag.

    REGISTRY is HOST[:PORT][/PREFIX] and wins over the family file's; `-` stands for the file's when CELLS follow.
    """
    from sixsmith.cli.console import human_size, print_json, print_table
    from sixsmith.errors import UsageError
    from sixsmith.publish import parse_target, publish_family

    family = session.load_family()
    lock = session.load_lock(needed=frozen)
    target = registry if registry not in (None, "-") else family.registry
    if not target:
        raise UsageError(
            "no registry named", hint="`sixsmith push HOST:PORT/PREFIX`, or `registry:` in the family file"
        )
    parse_target(target)  # a name that is none is said before anything is built
    selected = session.select(family, cells, arches)
    with session.open_store() as store:
        built = session.build(selected, family=family, store=store, lock=lock, frozen=frozen)
        pushed = publish_family(
            built.tags,
            target=target,
            store=store,
            http=session.http,
            credentials=session.credentials(),
            plain_http=plain_http,
            tls_ca=tls_ca,
            jobs=session.workers,
            reporter=session.reporter,
        )
    documents = [
        {
            "reference": item.reference,
            "digest": item.digest,
            "uploaded_bytes": item.uploaded_bytes,
            "mounted": item.mounted,
            "skipped": item.skipped,
        }
        for item in pushed
    ]
    if session.json:
        print_json({"pushed": documents})
        return
    rows = [
        [item.reference, item.digest[7:19], human_size(item.uploaded_bytes), str(item.mounted), str(item.skipped)]
        for item in pushed
    ]
    print_table(["REFERENCE", "DIGEST", "UPLOADED", "MOUNTED", "THERE ALREADY"], rows, right=(2, 3, 4))
