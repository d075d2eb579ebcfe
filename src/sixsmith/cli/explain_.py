"""`sixsmith explain`: what a container's log means."""

from __future__ import annotations

from typing import BinaryIO

import click

from sixsmith.cli.session import Session, plain_options

__all__ = ["command"]


@click.command("explain")
@click.argument("log", type=click.File("rb"), default="-")
@plain_options
def command(session: Session, log: BinaryIO) -> int:
    """Say what a container's log means: causes and fixes of messages of s6-overlay and runtimes.

    LOG is a file, or - for standard input: `docker logs NAME 2>&1 | sixsmith explain -`.
    """
    from sixsmith.cli.console import print_json
    from sixsmith.s6.explain import explain_log

    found = explain_log(line.decode("utf-8", "replace") for line in log)
    if session.json:
        print_json(
            {
                "explanations": [
                    {
                        "line": each.line,
                        "count": each.count,
                        "text": each.text,
                        "weight": each.weight,
                        "cause": each.cause,
                        "fix": each.fix,
                        "rules": list(each.rules),
                        "reference": each.reference,
                    }
                    for each in found
                ]
            }
        )
        return 0
    for each in found:
        times = f" ({each.count} times)" if each.count > 1 else ""
        click.echo(f"{each.line}: {each.text.strip()}{times}")
        click.echo(f"    {each.cause}")
        click.echo(f"    fix: {each.fix}")
        if each.rules:
            reference = f"  {each.reference}" if each.reference else ""
            click.echo(f"    rules: {' '.join(each.rules)}{reference}")
    if not found:
        click.echo("nothing in this log that is known to be wrong", err=True)
    return 0
