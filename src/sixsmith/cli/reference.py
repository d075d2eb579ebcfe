"""The reference of the command line, written from the commands themselves; a test holds docs/reference/commands.md against it.

`python -m sixsmith.cli.reference` prints the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from sixsmith import errors
from sixsmith.cli import COMMANDS, group
from sixsmith.cli.session import family_options

__all__ = ["JSON_KEYS", "render_commands", "walk_commands"]

JSON_KEYS: Mapping[str, str] = {
    "init": "{written}",
    "list": (
        "{cells: [{id, image, tag, tags, alpine, s6_overlay, arch, platform, base, parent, packages, end_of_support, supported, "
        "advisories}]}"
    ),
    "plan": (
        "{plans: [{id, plan_id, tags, base: {kind, name, identity}, overlay: [{name, digest}], "
        "packages: [{name, version, repository, size, checksum}], steps: [{action, name, version}], download_size, "
        "layers: [{kind, names, reason, size?, digest?}], locked, why?}]}"
    ),
    "build": (
        "{images: [{id, reference, references, digest, platform, size, plan_id, packages, cached, seconds, "
        "layers: [{digest, diff_id, size, kind, media_type, reason, names}], warnings}], tags: [{reference, digest, platforms}]}"
    ),
    "boot": (
        "{cell, image, digest, ok, runner, reason, ready_ms, stop_ms, memory, processes, size, exit_code, "
        "services: {NAME: {up, ready, pid, type}}, checks: [{name, status, ok, message, log?, ms?}], notes, needs, overlay, log, "
        "changed, against}"
    ),
    "test": (
        "{ok, results: [{cell, image, digest, ok, runner, reason, ready_ms, stop_ms, memory, processes, size, exit_code, "
        "services: {NAME: {up, ready, pid, type}}, checks: [{name, status, ok, message, log?, ms?}], notes, needs, overlay, "
        "changed, against, against_siblings, trouble?}]}"
    ),
    "push": "{pushed: [{reference, digest, uploaded_bytes, mounted, skipped}]}",
    "inspect": (
        "{name, digest, platform, created, size, layers: [{digest, diff_id, size, media_type, kind, contents, reason}], "
        "packages: [{name, version}], settings, annotations}"
    ),
    "diff": (
        "{same, packages: {added, removed, changed}, layers: {added: [{kind, contents, size, diff_id}], "
        "removed: [{kind, contents, size, diff_id}], kept}, settings, size}"
    ),
    "solve": "{ok, install: [[NAME, VERSION]], steps: [{action, name, version, repository}]}, or {ok, error, hint, subjects}",
    "install": "{ok, packages: [[NAME, VERSION]]}, or {ok, error, hint, subjects}",
    "lock": "{lock, changed, cells, changes}",
    "vault export": "{vault, written, bytes}",
    "vault import": "{imported}",
    "vault check": "{ok, files, faults}",
    "store du": "{store, bytes: {images, cache, records, temporary}}",
    "store verify": "{ok, damaged, removed}",
    "store gc": "{freed}",
    "export dockerfiles": "{written}",
    "export compose": "{written, text}",
    "export run": "{written, text}",
    "export k8s": "{written, text}",
    "services check": "{accepted, services, findings: [{rule, severity, path, line, message, hint, reference}]}",
    "services graph": (
        "{charts: [{title, services: [{name, kind, level, waits_for, reads, timeout_up_ms}], bundles, pipelines, critical_path, "
        "critical_time_ms}]}"
    ),
    "services migrate": "{written, files: [{path, kind, mode}], done, decisions: [{path, line, message, hint}]}",
    "lint": (
        "{findings: [{rule, severity, path, line, message, hint, reference, cell}], "
        "fixed: [{path, rules, changes}], errors, warnings, infos}"
    ),
    "explain": "{explanations: [{line, count, text, weight, cause, fix, rules, reference}]}",
}
"""The keys of each command's `--json` document; `?` marks those that are not always there, capitals stand for any name."""

_HEAD = """# Commands

Written from the commands themselves (`python -m sixsmith.cli.reference`); do not edit it by hand.

`sixsmith` reads `sixsmith.yaml` in the current folder. **CELLS** are image names, cell ids or tags, with globs
(`'base:3.2*'`); all cells when none is given. What a command answers goes to stdout, progress and warnings to stderr. With
`--json` stdout is one JSON document and nothing else, errors too: `{ok, error, hint, exit_code}`, with `problems` for a wrong
family file.

"""

_VARIABLES = """
Read besides: `XDG_CACHE_HOME` (where the store is when nothing says otherwise), `https_proxy`, `http_proxy` and `no_proxy`,
`NO_COLOR`, and for registries the credentials of Docker and Podman: `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG`, `XDG_RUNTIME_DIR`,
`XDG_CONFIG_HOME` and the `docker-credential-…` programs that they name.

"""


def render_commands() -> str:
    """The whole page, in Markdown."""
    lines = [_HEAD, "## Exit codes\n\n", "| code | meaning |\n|---|---|\n", "| 0 | done |\n"]
    for kind in sorted(errors.SixsmithError.__subclasses__(), key=lambda kind: kind.exit_code):
        cases = "; ".join(_sentence(case) for case in kind.__subclasses__())
        lines.append(f"| {kind.exit_code} | **{_sentence(kind)}**: {cases} |\n")
    lines.append("| 130 | interrupted |\n")
    lines.append("\n## Options of all commands\n\n")
    lines.append("Commands that do not need a place do not have its option.\n\n")
    lines.append("| option | environment variable | meaning |\n|---|---|---|\n")
    common = _common_options()
    for option in common.values():
        variable = f"`{option.envvar}`" if option.envvar else ""
        lines.append(f"| {_spelling(option)} | {variable} | {_meaning(option)} |\n")
    lines.append(f"| `--runner NAME` | `SIXSMITH_RUNNER` | Of `boot` and `test`: {_runner_help()} |\n")
    lines.append(_VARIABLES)
    for path, command in walk_commands():
        lines += _render_command(path, command, common)
    return "".join(lines).rstrip("\n") + "\n"


def walk_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its words (`vault export`), groups before what is in them."""
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for word in command.list_commands(click.Context(command)):
                yield f"{name} {word}", command.commands[word]


def _common_options() -> dict[str, click.Option]:
    command = click.command("common")(family_options(lambda: None))
    return {option.name or "": option for option in command.params if isinstance(option, click.Option)}


def _render_command(path: str, command: click.Command, common: Mapping[str, click.Option]) -> Iterator[str]:
    depth = "#" * (2 + path.count(" "))
    yield f"{depth} `sixsmith {path}`\n\n"
    context = click.Context(command, info_name=f"sixsmith {path}")
    if not isinstance(command, click.Group):
        words = " ".join(word for word in command.collect_usage_pieces(context) if word != "[OPTIONS]")
        if words:
            yield f"`sixsmith {path} {words}`\n\n"
    yield " ".join((command.help or "").split("\n\n")[0].split()) + "\n\n"
    for paragraph in (command.help or "").split("\n\n")[1:]:
        yield " ".join(paragraph.split()) + "\n\n"
    options = [param for param in command.params if isinstance(param, click.Option)]
    own = [option for option in options if option.name not in common or option.help != common[option.name].help]
    own = [option for option in own if option.name != "json_output"]
    if own:
        yield "| option | meaning |\n|---|---|\n"
        for option in own:
            yield f"| {_spelling(option)} | {_meaning(option)} |\n"
        yield "\n"
    if path in JSON_KEYS:
        shapes = JSON_KEYS[path].split(", or ")
        yield f"JSON: {', or '.join(f'`{shape}`' for shape in shapes)}\n\n"


def _spelling(option: click.Option) -> str:
    names = sorted(option.opts, key=lambda name: name.startswith("--"))
    text = ", ".join(f"`{name}`" for name in names)
    if option.is_flag:
        return text
    value = option.make_metavar(click.Context(click.Command("")))
    return f"{text[:-1]} {value}`".replace("|", "\\|")


def _meaning(option: click.Option) -> str:
    text = (option.help or "").replace("  [default:", " [default:").replace("|", "\\|").replace("<", "\\<")
    if option.show_default and option.default is not None:
        text += f" [default: {option.default}]"
    return text


def _runner_help() -> str:
    boot = next(command for path, command in walk_commands() if path == "boot")
    return next(
        _meaning(option) for option in boot.params if isinstance(option, click.Option) and option.name == "runner"
    )


def _sentence(kind: type[Exception]) -> str:
    """What an error class says of itself, as part of a sentence."""
    text = " ".join((kind.__doc__ or "").partition(";")[0].split()).removesuffix(".")
    return text[:1].lower() + text[1:]


if __name__ == "__main__":
    print(render_commands(), end="")
