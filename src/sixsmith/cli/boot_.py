"""`sixsmith boot`: one image, started for real."""

from __future__ import annotations

import click

from sixsmith.cli.booting import boot_options
from sixsmith.cli.session import Session, family_options

__all__ = ["command"]


@click.command("boot", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("image")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
@boot_options
@click.option("--log", is_flag=True, help="Show all that the container wrote.")
@family_options
def command(
    session: Session,
    image: str,
    words: tuple[str, ...],
    arch: str | None,
    runner: str | None,
    checks: tuple[str, ...],
    up_within: float,
    stop_time: float,
    keep_grace: bool,
    log: bool,
) -> int:
    """Start an image for real, look at it, stop it, and tell what was found.

    IMAGE is a cell of the family file, an OCI layout or an archive (PATH or PATH:TAG). With CMD that runs in place of the
    image's own command, and its exit code is told.
    """
    from sixsmith.boot.launch import Launched

    # the keeper begins while this process still loads what it needs and looks for the image
    with Launched() as launched:
        import time

        from sixsmith.boot.boot import BASIC_CHECKS, boot_image, check_names
        from sixsmith.boot.measures import Comparison, compare, history_of, keep_report
        from sixsmith.boot.observation import Terms
        from sixsmith.boot.runners import check_runner
        from sixsmith.cli.booting import docker_host, explain_line, open_targets, printable, show_report
        from sixsmith.cli.console import print_json
        from sixsmith.errors import StoreError

        check_runner(runner)
        check_names(checks)
        with open_targets(session, (image,), arch, several=False) as targets:
            target = targets[0]
            report = boot_image(
                target.image,
                runner=runner,
                command=words,
                checks=checks or BASIC_CHECKS,
                terms=Terms(up_within, stop_time, keep_grace, checks=target.checks, explain=explain_line),
                budget=target.budget,
                docker_host=docker_host(),
                launched=launched,
            )
    compared = Comparison()
    if not words:
        try:
            with session.open_store() as store:
                compared = compare(history_of(store, target.cell), report)
                keep_report(store, target.cell, report, now=time.time())
        except StoreError as error:  # the verdict stands without its history
            click.echo(f"warning: not remembered: {error.message}", err=True)
    if session.json:
        print_json({**report.document(), "cell": target.cell, "changed": compared.changed, "against": compared.against})
    else:
        if log:
            for line in report.log:
                click.echo(printable(line))
        show_report(report, compared)
    return 0 if report.ok else 1
