"""The command line: the only place that reads the environment and the clock, prints, and exits.

Each command is one short file, imported when it is asked for: `sixsmith --help` imports click and nothing else.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module

import click

from sixsmith import __version__

__all__ = ["main"]

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as shells have it."""

COMMANDS = {
    "init": "Write a commented sixsmith.yaml and an example service.",
    "list": "Show the cells: tags, Alpine and its end of support, s6-overlay and its advisories.",
    "plan": "Show what a build would do, and why a package comes in.",
    "build": "Build images into the store and as OCI image layouts.",
    "boot": "Start an image for real and tell what happens.",
    "test": "Start every image of the family for real and check it.",
    "push": "Upload to a registry what it lacks.",
    "inspect": "Show packages, layers, sizes and settings of an image.",
    "diff": "Show what changed between two images.",
    "solve": "Show what apk would install.",
    "install": "Install packages into a directory as apk would.",
    "lock": "Pin every package, tarball and base of the family.",
    "vault": "Keep, check and serve all bytes that a lock names.",
    "store": "Look after the local store.",
    "export": "Write Dockerfiles, compose files and Kubernetes objects.",
    "services": "Check service directories, draw their start order, migrate v2 to v3.",
    "lint": "Find what is wrong with services, scripts and image settings.",
    "explain": "Say what a container's log means.",
}


class LazyGroup(click.Group):
    """Commands by name; a command's module is imported when the command is used."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(f"sixsmith.cli.{name}_").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            from sixsmith.errors import nearest

            hint = nearest(name, COMMANDS)
            context.fail(f"no command '{name}'" + (f"; {hint}" if hint else ""))
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sixsmith")
def group() -> None:
    """Build, ship and keep patched families of Alpine + s6-overlay images from one file, sixsmith.yaml.

    Exit codes: 0 done, 1 the answer is no, 2 wrong usage or wrong file, 3 the outside failed (network, registry, disk),
    4 a verification failed (signature, checksum, digest).
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    if code == INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)  # all is closed; what threads still wait for, nobody wants any more
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code; every error becomes a message on stderr."""
    from sixsmith.errors import SixsmithError

    try:
        result = group.main(arguments, prog_name="sixsmith", standalone_mode=False, obj=tuple(arguments))
        return result if isinstance(result, int) else 0
    except SixsmithError as error:
        from sixsmith.cli.console import show_error

        show_error(error, json_output="--json" in arguments)
        return error.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        if "--json" in arguments:
            from sixsmith.cli.console import print_json

            print_json({"ok": False, "error": error.format_message(), "exit_code": 2})
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; there is nobody left to tell
        return 1
    except OSError as error:  # a file of the person's own that cannot be read or written
        from sixsmith.cli.console import show_error
        from sixsmith.errors import OutsideError

        outside = OutsideError(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        show_error(outside, json_output="--json" in arguments)
        return outside.exit_code
