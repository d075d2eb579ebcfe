"""The scripts that a service becomes: who runs what, where, with which environment.

Everything that the family file says about a program's surroundings is one line of a script that a person can read:

    #!/command/with-contenv sh
    export TZ='Asia/Seoul'
    umask 027
    cd /srv/app || exit 111
    exec s6-softlimit -o 1024 s6-setuidgid app nginx -g "daemon off;"

A script of the person's own stays as it is where nothing must stand before it but such lines; else it gets a file of its
own, and the lines end in a call of it. Readiness checks come first in the chain, because `s6-notifyoncheck` needs the
service directory as its current directory and the rights to listen to the supervisor.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence

import msgspec

from sixsmith.s6.service import Command, Log, OnExit, Program, Ready, Script, Service

__all__ = [
    "Layout",
    "RenderedFile",
    "Scripts",
    "Stop",
    "finish_script",
    "folder_script",
    "logger_script",
    "ordinary",
]

_SHELLS = ("sh", "bash", "ash", "dash", "ksh", "mksh", "zsh")
_SHELL_OPTIONS = re.compile(r"-[aefhuvx]+")
"""Options that mean the same behind `set`, since the kernel hands only one word to an interpreter, and that is the shell."""
_STOPPED = 111
"""What execline programs exit with when the system refuses something; the scripts do the same."""


class RenderedFile(msgspec.Struct, frozen=True):
    """A path of the image without leading `/`. `kind` is file, directory or symlink; `content` is bytes or the target."""

    path: str
    kind: str
    mode: int
    content: bytes = b""

    def __str__(self) -> str:
        return f"{self.path} ({self.kind}, {self.mode:04o})"


def ordinary(path: str, text: str, mode: int = 0o644) -> RenderedFile:
    """A regular file."""
    return RenderedFile(path, "file", mode, text.encode())


class Layout(msgspec.Struct, frozen=True):
    """What differs between the overlays, as far as scripts go.

    `scripts` is the folder for scripts of their own; `change_directory` and `become` are programs of a command chain.
    """

    contenv: str
    execlineb: str
    scripts: str
    change_directory: str
    su_exec: bool = False

    def become(self, account: str) -> list[str]:
        """The words that change user; USER:GROUP may be names or numbers."""
        if self.su_exec:
            return ["su-exec", account]
        if ":" in account and not account.replace(":", "").isdigit():
            # -B sets no list of groups, and s6-applyuidgid wants one
            return ["env", "GIDLIST=", "s6-envuidgid", "-nB", "--", account, "s6-applyuidgid", "-Uz"]
        return ["s6-setuidgid", account]

    def interpreter(self, program: str) -> str:
        """The overlay's own interpreters where this release has them; others as they are."""
        name = posixpath.basename(program)
        if name in ("with-contenv", "execlineb") and program.startswith(("/command/", "/usr/bin/", "/bin/")):
            return self.contenv if name == "with-contenv" else self.execlineb
        return program


class Scripts(msgspec.Struct):
    """Renders the programs of one service; `files` grows by those that need one of their own."""

    service: Service
    layout: Layout
    files: list[RenderedFile] = msgspec.field(default_factory=list)

    def program(self, program: Program, suffix: str, *, whole: bool = True, merge_stderr: bool = False) -> str:
        """The text of an executable script that runs `program` in the service's surroundings.

        `suffix` names files of their own (`run`, `up`, …). Without `whole`, user, folder, limits and umask are left out:
        a `finish` script cleans up as root. `merge_stderr` sends errors where the output goes, into the log.
        """
        service = self.service
        lines = [f"export {name}={shlex.quote(value)}" for name, value in service.env.items()]
        if merge_stderr:
            lines.append("exec 2>&1")
        chain: list[str] = []
        if whole:
            if service.umask is not None:
                lines.append(f"umask {service.umask}")
            if suffix == "run" and service.ready is not None and service.ready.check is not None:
                chain += _notify(service.ready)
            if service.workdir is not None:
                if chain:
                    chain += [self.layout.change_directory, service.workdir]
                else:
                    lines.append(f"cd {shlex.quote(service.workdir)} || exit {_STOPPED}")
            if service.limits:
                chain += [
                    "s6-softlimit",
                    *(word for limit in service.limits for word in (f"-{limit.option}", limit.value)),
                ]
            if service.user is not None:
                chain += self.layout.become(service.user)
        if isinstance(program, Command):
            return self.wrapper(lines, chain, program.line)
        arguments = ' "$@"' if suffix.startswith("finish") else ""
        inline = None if chain else self.inline(program, lines)
        return inline or self.wrapper(lines, chain, self.own_file(program, suffix) + arguments)

    def wrapper(self, lines: list[str], chain: list[str], command: str) -> str:
        """A shell script with the container's environment that ends in the command."""
        words = f"{shlex.join(chain)} {command}" if chain else command
        return "\n".join([f"#!{self.layout.contenv} sh", *lines, f"exec {words}", ""])

    def inline(self, script: Script, lines: list[str]) -> str | None:
        """The script itself with the container's environment and `lines`, or None where it needs a file of its own."""
        program, argument = script.interpreter
        name = posixpath.basename(program)
        if name == "with-contenv" and argument and " " not in argument:
            program, argument, name = argument, "", posixpath.basename(argument)
        elif name == "env" and argument and not re.search(r"[\s=]|^-", argument):
            program, argument, name = argument, "", argument
        if name in _SHELLS and _SHELL_OPTIONS.fullmatch(argument):
            lines, argument = [f"set {argument}", *lines], ""
        if argument or name == "execlineb" or (lines and name not in _SHELLS):
            return None
        program = name if program == f"/bin/{name}" and name in _SHELLS else program
        return "\n".join([f"#!{self.layout.contenv} {program}", *lines, script.body])

    def own_file(self, script: Script, suffix: str) -> str:
        """Puts the script into a file of its own and returns its path."""
        path = f"{self.layout.scripts}/{self.service.name}.{suffix}"
        program, argument = script.interpreter
        first = f"#!{self.layout.interpreter(program)} {argument}".rstrip()
        self.files.append(ordinary(path, f"{first}\n{script.body}", 0o755))
        return f"/{path}"

    def check(self, ready: Ready) -> str:
        """The readiness check, which the image's health check runs, too: it brings its environment along."""
        assert ready.check is not None
        return self.program(ready.check, "check", whole=False)


def _notify(ready: Ready) -> list[str]:
    """s6-notifyoncheck in front of the program. It runs `data/check` until that succeeds, then writes to the descriptor."""
    words = ["s6-notifyoncheck", "-d"]
    if ready.fd != 3:
        words += ["-3", str(ready.fd)]
    words += ["-s", str(ready.delay), "-w", str(ready.every), "-n", str(ready.tries)]
    if ready.timeout:
        words += ["-t", str(ready.timeout)]
    return words


# --- what ends, and what is logged ---------------------------------------------------------------------------------


class Stop(msgspec.Struct, frozen=True):
    """How a layout stops the container: `write` keeps `$code` as its exit code, `command` brings everything down."""

    write: str
    command: str


def finish_script(service: Service, scripts: Scripts, stop: Stop) -> str | None:
    """The `finish` script: the service's own, then what `on-exit` asks for; None when there is nothing to do."""
    action = service.on_exit
    if action.action == "restart":
        return scripts.program(service.finish, "finish", whole=False) if service.finish is not None else None
    lines = ["#!/bin/sh"]
    if service.finish is not None:
        path = f"{scripts.layout.scripts}/{service.name}.finish"
        scripts.files.append(ordinary(path, scripts.program(service.finish, "finish.script", whole=False), 0o755))
        lines.append(f'/{path} "$@"')
    if action.action == "never":
        lines += ["# The program is not started again: 125 means that it is down for good.", "exit 125"]
    else:
        lines += _stopping(action, stop)
    return "\n".join([*lines, ""])


def _stopping(action: OnExit, stop: Stop) -> Iterator[str]:
    """The container ends with this service. Not when it was told to go down: then the container ends already, or somebody
    works on the service, and another service may have given the exit code."""
    yield 'if [ "$(s6-svstat -o wantedup .)" = false ]; then exit 0; fi'
    if action.code is not None:
        yield f"code={action.code}"
    else:
        yield 'code=$1\nif [ "$1" -eq 256 ]; then code=$((128 + $2)); fi'
    yield stop.write
    yield stop.command
    yield "exit 125"


def logger_script(log: Log, layout: Layout, options: Sequence[str] = ()) -> str:
    """`run` of a logger: it keeps `keep` old files of `size` bytes, with times as people read them by default."""
    stamp = {"iso": ["T"], "tai64n": ["t"], "none": []}[log.timestamps]
    words = ["s6-log", "-b", *options, "--", f"n{log.keep}", f"s{log.size}", *stamp, log.to]
    return f"#!/bin/sh\nexec {shlex.join([*layout.become(log.user), *words])}\n"


def folder_script(log: Log) -> str:
    """Makes the log's folder and gives it to the logger; at each start, since it may be a fresh volume."""
    folder = shlex.quote(log.to)
    return f"#!/bin/sh -e\nmkdir -p {folder}\nchown {shlex.quote(log.user)} {folder}\nchmod 0755 {folder}\n"
