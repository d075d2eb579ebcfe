"""Finds what a command name means in the tree, and does what the program there would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from sixsmith.rootfs.scripts import busybox
from sixsmith.rootfs.scripts.builtins import BUILTINS
from sixsmith.rootfs.scripts.files import Files
from sixsmith.rootfs.scripts.known import KNOWN, LIKE_BUSYBOX
from sixsmith.rootfs.scripts.shell import Builtin, Call, Output, Shell, decode
from sixsmith.rootfs.scripts.syntax import NotUnderstood, parse_script
from sixsmith.rootfs.tree import Content

__all__ = ["Programs"]

_MULTICALL = frozenset(["coreutils", "busybox-extras", "kmod", "toybox"])
_SHELLS = frozenset(["sh", "ash", "bash", "dash", "hush"])
_NESTING = 8


class Programs:
    """The programs of one image while one script runs."""

    def __init__(self, files: Files, error: Output) -> None:
        self.files = files
        self.error = error
        self.plain_echo = True
        """Whether the running shell's `echo` prints backslashes as they are (ash, bash) or reads them (dash)."""
        self.place: str | None = None
        """The script file that is being read, when it is not the package's own; for messages."""
        self.nesting = 0

    @contextmanager
    def elsewhere(self, path: str) -> Iterator[None]:
        """While the commands of another file run; a line number in an error is one of that file."""
        self.nesting += 1
        if self.nesting > _NESTING:
            raise NotUnderstood("scripts that start each other too deeply")
        try:
            yield
        except NotUnderstood as trouble:
            if trouble.line:
                trouble.reason = f"{path}:{trouble.line}: {trouble.reason}"
                trouble.line = 0
            raise
        finally:
            self.nesting -= 1

    # --- finding ------------------------------------------------------------------------------------------------

    def find(self, name: str, shell: Shell) -> str | None:
        """The path of a program as the shell would find it, or None."""
        if "/" in name:
            return name if self._runs(name) else None
        for directory in shell.variables.get("PATH", "").split(":"):
            path = f"{directory or '.'}/{name}"
            if self._runs(path):
                return path
        return None

    def _runs(self, path: str) -> bool:
        node = self.files.node(path)
        return node is not None and node.kind == "file" and bool(node.mode & 0o111)

    # --- running ------------------------------------------------------------------------------------------------

    def call(self, call: Call, *, builtins: bool = True) -> int:
        """Runs a builtin or program; the status of one that is not there is 127, as in any shell."""
        name = call.arguments[0]
        builtin = BUILTINS.get(name) if builtins else None
        if builtin is not None:
            return builtin(call)
        path = self.find(name, call.shell)
        if path is None:
            exists = "/" in name and self.files.exists(name)
            call.streams.error.write(f"{call.shell.name}: {name}: {'Permission denied' if exists else 'not found'}\n")
            return 126 if exists else 127
        return self.start(path, call)

    def start(self, path: str, call: Call) -> int:
        """Runs the program at a path that exists; `call.arguments[0]` is the name it was called by."""
        node = self.files.node(path)
        if node is None:
            return 127
        own = node.path.rpartition("/")[2]
        name = path.rpartition("/")[2]
        call = msgspec.structs.replace(call, program=own)
        if own == "busybox" and name != "busybox":
            return self.applet(name, call)
        content = node.content.read() if node.content is not None else b""
        if content.startswith(b"#!"):
            return self._start_script(path, content, call)
        if own not in _MULTICALL:
            name = own
        program = KNOWN.get(name)
        if program is None:
            raise call.unknown(f"what the program '{name}' does is not known here")
        if name in LIKE_BUSYBOX and own not in ("busybox", "busybox-extras"):
            raise call.unknown(f"this '{name}' is not busybox's")
        return program(call)

    def applet(self, name: str, call: Call) -> int:
        """Runs a busybox applet by name."""
        if name in _SHELLS:
            return self._start_shell(call)
        program: Builtin | None = KNOWN.get(name) or BUILTINS.get(name)
        if program is None:
            raise call.unknown(f"what '{name}' does is not known here")
        return program(call)

    def busybox_binary(self) -> Content:
        """The content of the image's busybox. Raises NotUnderstood when there is none."""
        for path in ("/bin/busybox", "/usr/bin/busybox"):
            node = self.files.node(path)
            if node is not None and node.kind == "file" and node.content is not None:
                return node.content
        raise NotUnderstood("there is no busybox in this image")

    def has_applet(self, name: str) -> bool:
        links = busybox.applet_links(self.busybox_binary())
        return any(link.rpartition("/")[2] == name for link in links)

    # --- scripts within scripts ---------------------------------------------------------------------------------

    def _start_shell(self, call: Call) -> int:
        arguments = call.arguments[1:]
        options = ""
        while arguments and arguments[0].startswith("-") and len(arguments[0]) > 1:
            option = arguments.pop(0)
            if option == "--":
                break
            if option.strip("-eucx"):
                raise call.unknown()
            options += option[1:]
            if "c" in option:
                break
        if not arguments:
            raise call.unknown("a shell that reads its commands from standard input")
        first = arguments.pop(0)
        if "c" in options:
            name = arguments.pop(0) if arguments else "sh"
            return self._run_text(first, name, arguments, call, options)
        text = decode(self.files.read(first))
        with self.elsewhere(first):
            return self._run_text(text, first, arguments, call, options)

    def _start_script(self, path: str, content: bytes, call: Call) -> int:
        first_line = decode(content.partition(b"\n")[0][2:]).split()
        shell = first_line[0].rpartition("/")[2] if first_line else ""
        if shell == "env" and len(first_line) == 2:
            shell, first_line = first_line[1].rpartition("/")[2], [first_line[1]]
        if shell == "busybox" and first_line[1:2] and first_line[1] in _SHELLS:
            first_line = first_line[1:]
        elif shell not in _SHELLS:
            raise call.unknown(f"what the program '{path}' does is not known here")
        options = "".join(first_line[1:])
        if options.strip("-eux"):
            raise call.unknown(f"'{path}' starts with '{' '.join(first_line)}'")
        with self.elsewhere(path):
            return self._run_text(decode(content), path, call.arguments[1:], call, options)

    def _run_text(self, text: str, name: str, arguments: list[str], call: Call, options: str) -> int:
        outer = call.shell
        inner = Shell(self.files, self, arguments, name=name)
        inner.variables |= {key: value for key, value in outer.variables.items() if key in outer.exported}
        inner.exported = set(outer.exported)
        inner.steps = outer.steps
        inner.errexit = "e" in options
        inner.nounset = "u" in options
        directory, umask = self.files.directory, self.files.umask
        try:
            return inner.run(parse_script(text), call.streams)
        finally:
            self.files.directory, self.files.umask = directory, umask
