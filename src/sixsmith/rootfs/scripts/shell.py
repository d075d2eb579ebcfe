"""Runs a parsed script on a tree: variables, expansions, lists, loops, redirections.

Nothing is executed: what a command does is known to `sixsmith.rootfs.scripts.commands`, and a command that is not known
there ends the whole run with `NotUnderstood`. Texts are kept with surrogate escapes, so bytes survive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from sixsmith.rootfs.scripts.files import Files, Refused
from sixsmith.rootfs.scripts.patterns import glob_regex, has_magic
from sixsmith.rootfs.scripts.syntax import (
    AndOr,
    Arithmetic,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Literal,
    NotUnderstood,
    Parameter,
    Part,
    Pipeline,
    Redirect,
    Simple,
    Substitution,
    While,
    Word,
    parse_script,
)

if TYPE_CHECKING:
    from sixsmith.rootfs.scripts.programs import Programs

__all__ = ["PATH", "Call", "Exit", "Output", "Return", "Shell", "decode", "encode", "unknown_value"]

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""What apk gives its scripts."""

_STEPS = 200_000
_LONGEST = 8 << 20
_NESTING = 40


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


UNKNOWN = "\ue0f0"
"""Stands before and after the name of a value that only the running system knows (its host name, the date). Such a value
may be printed; a script that goes by it, or keeps it, is not understood."""


def unknown_value(name: str) -> str:
    """A value to hand on; the name is one word, so that splitting does not part it from its marks."""
    return f"{UNKNOWN}{name}{UNKNOWN}"


def check_known(text: str) -> None:
    """Raises NotUnderstood where a text has a value in it that only the running system knows."""
    if UNKNOWN in text:
        name = text.split(UNKNOWN)[1]
        raise NotUnderstood(f"it depends on {name}, which is another one at each run")


class Exit(Exception):
    """`exit N`."""

    def __init__(self, status: int) -> None:
        self.status = status


class Return(Exception):
    """`return N`."""

    def __init__(self, status: int) -> None:
        self.status = status


class _Loop(Exception):
    def __init__(self, levels: int, again: bool) -> None:
        self.levels = levels
        self.again = again


class Output:
    """Where a descriptor writes to: a buffer, or a file that is written when the redirection ends."""

    def __init__(self, path: str = "", *, append: bool = False) -> None:
        self.pieces: list[str] = []
        self.size = 0
        self.path = path
        self.append = append

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > _LONGEST:
            raise NotUnderstood("the script writes more than 8 MiB")
        self.pieces.append(text)

    def text(self) -> str:
        return "".join(self.pieces)


class Input:
    """What a descriptor reads from; `read` takes lines off it."""

    def __init__(self, text: str | None) -> None:
        self.rest = text

    def line(self) -> str | None:
        """The next line with its end, or None at the end."""
        if not self.rest:
            return None
        check_known(self.rest)
        end = self.rest.find("\n")
        end = len(self.rest) if end < 0 else end + 1
        line, self.rest = self.rest[:end], self.rest[end:]
        return line

    def all(self, *, known: bool = True) -> str:
        """Everything that is left; with `known`, no values in it that are not."""
        if self.rest is None:
            raise NotUnderstood("it reads from whoever runs apk")
        text, self.rest = self.rest, ""
        if known:
            check_known(text)
        return text


class Streams(msgspec.Struct, frozen=True):
    """Standard input, output and error."""

    input: Input
    output: Output
    error: Output


class Call(msgspec.Struct, frozen=True):
    """One command with its arguments (`arguments[0]` is its name), as the commands get it."""

    shell: Shell
    arguments: list[str]
    streams: Streams
    program: str = ""
    """Name of the file that the program is (`busybox`, `coreutils`), where it is one."""

    @property
    def files(self) -> Files:
        return self.shell.files

    def out(self, text: str) -> None:
        self.streams.output.write(text)

    def complain(self, text: str) -> int:
        """Writes a complaint in the command's name; returns the failing status."""
        self.streams.error.write(f"{self.arguments[0].rpartition('/')[2]}: {text}\n")
        return 1

    def unknown(self, what: str = "") -> NotUnderstood:
        return NotUnderstood(what or f"what '{' '.join(self.arguments)}' does is not known here")


Builtin = Callable[[Call], int]


class Shell:
    """One running shell. A subshell is a copy with its own variables on the same files."""

    def __init__(self, files: Files, programs: Programs, arguments: Sequence[str], *, name: str = "sh") -> None:
        self.files = files
        self.programs = programs
        self.name = name
        self.arguments = list(arguments)
        self.variables: dict[str, str] = {"PATH": PATH, "IFS": " \t\n", "PWD": "/", "OPTIND": "1"}
        self.exported: set[str] = {"PATH", "PWD"}
        self.readonly: set[str] = set()
        self.functions: dict[str, Function] = {}
        self.locals: list[dict[str, str | None]] = []
        self.status = 0
        self.errexit = False
        self.nounset = False
        self.noglob = False
        self.pipefail = False
        self.loops = 0
        self.condition = 0
        """More than zero where a failing command does not end a `set -e` script."""
        self.line = 0
        self.steps = [0]
        self.nesting = 0
        self.exit_trap = ""

    def subshell(self) -> Shell:
        twin = Shell(self.files, self.programs, self.arguments, name=self.name)
        twin.variables = dict(self.variables)
        twin.exported = set(self.exported)
        twin.readonly = set(self.readonly)
        twin.functions = dict(self.functions)
        twin.locals = [{} for _ in self.locals]
        for option in (
            "status",
            "errexit",
            "nounset",
            "noglob",
            "pipefail",
            "condition",
            "line",
            "steps",
            "nesting",
            "loops",
        ):
            setattr(twin, option, getattr(self, option))
        return twin

    # --- running ------------------------------------------------------------------------------------------------

    def run(self, body: Sequence[AndOr], streams: Streams) -> int:
        """Runs a whole script and returns its status."""
        try:
            self.commands(body, streams)
        except Exit as end:
            self.status = end.status
        except Return as end:
            self.status = end.status
        except _Loop:
            pass
        if self.exit_trap:
            trap, self.exit_trap = self.exit_trap, ""
            status = self.status
            self.run(parse_script(trap), streams)
            self.status = status
        return self.status

    def isolated(self, action: Callable[[Shell], int]) -> int:
        """Runs something in a subshell: variables and the working directory come back as they were."""
        directory, umask = self.files.directory, self.files.umask
        twin = self.subshell()
        self._enter()
        twin.nesting = self.nesting
        try:
            return action(twin)
        finally:
            self.nesting -= 1
            self.files.directory, self.files.umask = directory, umask

    def _enter(self) -> None:
        self.nesting += 1
        if self.nesting > _NESTING:
            raise NotUnderstood("nested too deeply", self.line)

    def commands(self, body: Sequence[AndOr], streams: Streams) -> int:
        for and_or in body:
            self.and_or(and_or, streams)
        if not body:
            self.status = 0
        return self.status

    def and_or(self, and_or: AndOr, streams: Streams) -> int:
        last = len(and_or.pipelines) - 1
        for index, (operator, pipeline) in enumerate(and_or.pipelines):
            if (operator == "&&" and self.status != 0) or (operator == "||" and self.status == 0):
                continue
            tested = index < last or pipeline.negated
            self.condition += tested
            try:
                self.pipeline(pipeline, streams)
            finally:
                self.condition -= tested
            if index == last and not tested:
                self._check_errexit()
        return self.status

    def _check_errexit(self) -> None:
        if self.errexit and self.status != 0 and not self.condition:
            raise Exit(self.status)

    def pipeline(self, pipeline: Pipeline, streams: Streams) -> int:
        if len(pipeline.commands) == 1:
            self.command(pipeline.commands[0], streams)
        else:
            self._pipe(pipeline.commands, streams)
        if pipeline.negated:
            self.status = int(self.status == 0)
        return self.status

    def _pipe(self, commands: Sequence[Command], streams: Streams) -> None:
        source = streams.input
        failed = 0
        status = 0
        for index, command in enumerate(commands):
            sink = Output() if index < len(commands) - 1 else streams.output
            stage = Streams(source, sink, streams.error)

            def run_stage(shell: Shell, command: Command = command, stage: Streams = stage) -> int:
                try:
                    shell.condition = 0
                    return shell.command(command, stage)
                except Exit as end:
                    return end.status
                except Return as end:
                    return end.status

            status = self.isolated(run_stage)
            failed = status or failed
            source = Input(sink.text()) if index < len(commands) - 1 else source
        self.status = failed if self.pipefail else status

    def command(self, command: Command, streams: Streams) -> int:
        self.steps[0] += 1
        if self.steps[0] > _STEPS:
            raise NotUnderstood("the script does not come to an end", command.line)
        self.line = command.line
        try:
            if isinstance(command, Simple):
                self.status = self.simple(command, streams)
            elif isinstance(command, Function):
                self.functions[command.name] = command
                self.status = 0
            elif command.redirects:
                self.status = self._redirected(command.redirects, streams, lambda inner: self._compound(command, inner))
            else:
                self.status = self._compound(command, streams)
        except NotUnderstood as trouble:
            trouble.line = trouble.line or command.line
            raise
        return self.status

    def _compound(self, command: Group | If | For | While | Case, streams: Streams) -> int:
        if isinstance(command, Group):
            return self._group(command, streams)
        if isinstance(command, If):
            return self._if(command, streams)
        if isinstance(command, For | While):
            self.loops += 1
            try:
                return self._for(command, streams) if isinstance(command, For) else self._while(command, streams)
            finally:
                self.loops -= 1
        return self._case(command, streams)

    def _group(self, group: Group, streams: Streams) -> int:
        if not group.subshell:
            return self.commands(group.body, streams)

        def inside(shell: Shell) -> int:
            return shell.run(group.body, streams)

        status = self.isolated(inside)
        self.status = status
        self._check_errexit()
        return status

    def _tested(self, body: Sequence[AndOr], streams: Streams) -> bool:
        self.condition += 1
        try:
            return self.commands(body, streams) == 0
        finally:
            self.condition -= 1

    def _if(self, command: If, streams: Streams) -> int:
        for condition, body in command.branches:
            if self._tested(condition, streams):
                return self.commands(body, streams)
        self.status = 0
        return self.commands(command.otherwise, streams)

    def _for(self, command: For, streams: Streams) -> int:
        words = list(self.arguments) if command.words is None else self.expand(command.words)
        status = 0
        for word in words:
            self.assign(command.name, word)
            try:
                status = self.commands(command.body, streams)
            except _Loop as loop:
                status = 0
                if self._leaves(loop):
                    break
        return status

    def _while(self, command: While, streams: Streams) -> int:
        status = 0
        while True:
            self.steps[0] += 1
            if self.steps[0] > _STEPS:
                raise NotUnderstood("a loop does not come to an end", command.line)
            try:
                if self._tested(command.condition, streams) == command.until:
                    return status
                status = self.commands(command.body, streams)
            except _Loop as loop:
                status = 0
                if self._leaves(loop):
                    return status

    @staticmethod
    def _leaves(loop: _Loop) -> bool:
        """Whether this loop ends; raised again when an outer one is meant."""
        if loop.levels > 1:
            raise _Loop(loop.levels - 1, loop.again)
        return not loop.again

    def leave_loop(self, levels: int, *, again: bool) -> None:
        """`break` and `continue`; outside of a loop they do nothing."""
        levels = min(levels, self.loops)
        if levels:
            raise _Loop(levels, again)

    def _case(self, command: Case, streams: Streams) -> int:
        word = self.expand_text(command.word)
        check_known(word)
        for item in command.items:
            for pattern in item.patterns:
                if glob_regex(self.pieces(pattern)).fullmatch(word):
                    self.status = 0
                    return self.commands(item.body, streams)
        return 0

    # --- simple commands ----------------------------------------------------------------------------------------

    def simple(self, command: Simple, streams: Streams) -> int:
        substituted = _substitutes(command)
        words = self.expand(command.words)
        self.line = command.line
        if not words:
            for name, value in command.assignments:
                self.assign(name, self.expand_text(value))
            status = self.status if substituted else 0
            if command.redirects:
                return self._redirected(command.redirects, streams, lambda _: status)
            return status
        if command.redirects:
            return self._redirected(
                command.redirects,
                streams,
                lambda inner: self._with_assignments(command, words, inner),
                lasting=words == ["exec"],
            )
        return self._with_assignments(command, words, streams)

    def _with_assignments(self, command: Simple, words: list[str], streams: Streams) -> int:
        if not command.assignments:
            return self.call(words, streams)
        values = [(name, self.expand_text(value)) for name, value in command.assignments]
        if words[0] in _SPECIAL:
            for name, value in values:
                self.assign(name, value)
            return self.call(words, streams)
        saved = {name: self.variables.get(name) for name, _ in values}
        exported = set(self.exported)
        for name, value in values:
            self.assign(name, value)
            self.exported.add(name)
        try:
            return self.call(words, streams)
        finally:
            self.exported = exported
            for name, old in saved.items():
                self._restore(name, old)

    def _restore(self, name: str, value: str | None) -> None:
        if value is None:
            self.variables.pop(name, None)
        else:
            self.variables[name] = value

    def call(self, words: list[str], streams: Streams) -> int:
        """Runs a function, a builtin or a program by name."""
        if words[0] not in _PRINTING and words[0] not in self.functions:
            for word in words:
                check_known(word)
        function = self.functions.get(words[0])
        if function is not None and words[0] not in _SPECIAL:
            return self._call_function(function, words[1:], streams)
        return self.programs.call(Call(self, words, streams))

    def _call_function(self, function: Function, arguments: list[str], streams: Streams) -> int:
        saved = self.arguments
        self.arguments = arguments
        self.locals.append({})
        self._enter()
        try:
            return self.command(function.body, streams)
        except Return as end:
            return end.status
        finally:
            self.nesting -= 1
            self.arguments = saved
            for name, old in self.locals.pop().items():
                self._restore(name, old)

    def make_local(self, name: str) -> None:
        """`local name`: the variable comes back as it was when the function returns."""
        if not self.locals:
            raise NotUnderstood("'local' outside of a function")
        self.locals[-1].setdefault(name, self.variables.get(name))

    # --- redirections -------------------------------------------------------------------------------------------

    def _redirected(
        self,
        redirects: Sequence[Redirect],
        streams: Streams,
        action: Callable[[Streams], int],
        *,
        lasting: bool = False,
    ) -> int:
        if lasting:
            raise NotUnderstood("'exec' that redirects the rest of the script")
        opened: list[Output] = []
        try:
            inner = streams
            for redirect in redirects:
                inner = self._open(redirect, inner, opened)
        except Refused as error:
            streams.error.write(f"{self.name}: can't open: {error}\n")
            return 1
        try:
            return action(inner)
        finally:
            for output in opened:
                check_known(output.text())
                self.files.write(output.path, encode(output.text()), append=True)

    def _open(self, redirect: Redirect, streams: Streams, opened: list[Output]) -> Streams:
        descriptor = redirect.descriptor
        if descriptor > 2:
            raise NotUnderstood(f"descriptor {descriptor}", redirect.line)
        if redirect.operator == "<<":
            return self._connect(streams, 0, Input(self.expand_text(tuple(redirect.document))), redirect)
        name = self.expand_text(redirect.word)
        check_known(name)
        if redirect.operator in ("<&", ">&"):
            return self._duplicate(streams, descriptor, name, redirect)
        if redirect.operator == "<":
            source = Input("" if name == "/dev/null" else decode(self.files.read(name)))
            return self._connect(streams, descriptor, source, redirect)
        if redirect.operator == "<>":
            raise NotUnderstood("'<>'", redirect.line)
        output = self._file_output(name, append=redirect.operator in (">>", "&>>"), streams=streams, opened=opened)
        streams = self._connect(streams, descriptor, output, redirect)
        if redirect.operator.startswith("&"):
            streams = msgspec.structs.replace(streams, error=output)
        return streams

    def _file_output(self, name: str, *, append: bool, streams: Streams, opened: list[Output]) -> Output:
        if name == "/dev/null":
            return Output()
        if name == "/dev/stdout":
            return streams.output
        if name == "/dev/stderr":
            return streams.error
        self.files.write(name, b"", append=append)
        output = Output(self.files.absolute(name), append=append)
        opened.append(output)
        return output

    def _duplicate(self, streams: Streams, descriptor: int, name: str, redirect: Redirect) -> Streams:
        if name == "-":
            return self._connect(streams, descriptor, Input("") if descriptor == 0 else Output(), redirect)
        if name not in ("1", "2") or descriptor == 0:
            raise NotUnderstood(f"'{redirect.operator}{name}'", redirect.line)
        return self._connect(streams, descriptor, streams.output if name == "1" else streams.error, redirect)

    @staticmethod
    def _connect(streams: Streams, descriptor: int, end: Input | Output, redirect: Redirect) -> Streams:
        if descriptor == 0 and isinstance(end, Input):
            return msgspec.structs.replace(streams, input=end)
        if descriptor == 1 and isinstance(end, Output):
            return msgspec.structs.replace(streams, output=end)
        if descriptor == 2 and isinstance(end, Output):
            return msgspec.structs.replace(streams, error=end)
        raise NotUnderstood(f"'{descriptor}{redirect.operator}'", redirect.line)

    # --- variables ----------------------------------------------------------------------------------------------

    def assign(self, name: str, value: str) -> None:
        if name in self.readonly:
            raise NotUnderstood(f"{name} is read-only")
        if len(value) > _LONGEST:
            raise NotUnderstood("a variable longer than 8 MiB")
        self.variables[name] = value

    def lookup(self, name: str) -> str | None:
        """The value of a variable or parameter that is one text; None when it is not set."""
        if name.isdigit():
            index = int(name)
            if index == 0:
                return self.name
            return self.arguments[index - 1] if index <= len(self.arguments) else None
        if name == "?":
            return str(self.status)
        if name == "#":
            return str(len(self.arguments))
        if name in ("@", "*"):
            separator = self.variables.get("IFS", " \t\n")[:1] if name == "*" else " "
            return separator.join(self.arguments) if self.arguments else None
        if name in ("!", "-"):
            raise NotUnderstood(f"${name} is not understood")
        if name == "$" or (name in _MACHINE_VARIABLES and name not in self.variables):
            return unknown_value(f"${name}")
        return self.variables.get(name)

    # --- expansion ----------------------------------------------------------------------------------------------

    def expand(self, words: Sequence[Word]) -> list[str]:
        """The fields that words become: expanded, split, matched with files, quotes removed."""
        fields: list[str] = []
        for word in words:
            if len(word) == 1 and isinstance(word[0], Literal):
                part = word[0]
                if part.quoted or not (has_magic(part.text) or part.text.startswith("~")):
                    fields.append(part.text)
                    continue
            for pieces in self._split(word):
                fields += self._match_files(pieces)
        return fields

    def expand_text(self, word: Word) -> str:
        """What a word becomes where it is neither split nor matched: assignments, case, redirections, documents."""
        return "".join(text for text, _ in self.pieces(word))

    def pieces(self, word: Word) -> tuple[tuple[str, bool], ...]:
        """Expanded text with whether it was quoted, for patterns."""
        found: list[tuple[str, bool]] = []
        for index, part in enumerate(word):
            if isinstance(part, Literal):
                if index == 0 and not part.quoted and part.text.startswith("~"):
                    raise NotUnderstood("'~' depends on who runs apk")
                found.append((part.text, part.quoted))
            else:
                found.append((self._expand_part(part), part.quoted))
        return tuple(found)

    def _expand_part(self, part: Part) -> str:
        if isinstance(part, Parameter):
            return self._parameter(part) or ""
        if isinstance(part, Substitution):
            return self._substitute(part)
        if isinstance(part, Arithmetic):
            expression = self.expand_text(part.expression)
            check_known(expression)
            from sixsmith.rootfs.scripts.arithmetic import calculate  # few scripts calculate

            return str(calculate(expression, self))
        return part.text

    def _split(self, word: Word) -> list[list[tuple[str, bool]]]:
        """The fields of a word, each as pieces with whether they were quoted."""
        fields: list[list[tuple[str, bool]]] = []
        current: list[tuple[str, bool]] | None = None
        separators = self.variables.get("IFS", " \t\n")
        for index, part in enumerate(word):
            if isinstance(part, Literal):
                if index == 0 and not part.quoted and part.text.startswith("~"):
                    raise NotUnderstood("'~' depends on who runs apk")
                current = [*(current or []), (part.text, part.quoted)]
                continue
            if isinstance(part, Parameter) and part.name in ("@", "*") and not part.operator:
                current = self._split_arguments(part, fields, current, separators)
                continue
            if isinstance(part, Parameter) and not part.quoted and part.operator[-1:] in ("-", "+", "="):
                alternative = self._alternative(part)
                if alternative is not None:
                    inner = self._split(alternative)
                    for number, field in enumerate(inner):
                        if number:
                            fields.append(current or [])
                            current = None
                        current = [*(current or []), *field]
                    continue
            text = self._expand_part(part)
            if part.quoted:
                current = [*(current or []), (text, True)]
            else:
                current = _split_text(text, separators, fields, current)
        if current is not None:
            fields.append(current)
        return fields

    def _alternative(self, part: Parameter) -> Word | None:
        """The word of `${x-word}` or `${x+word}` when it is to be used; None when the value is."""
        if part.operator[-1] == "=":
            return None
        value = self.lookup(part.name)
        present = value is not None and (value != "" or not part.operator.startswith(":"))
        if part.operator[-1] == "+":
            return part.word if present else ()
        return None if present else part.word

    def _split_arguments(
        self,
        part: Parameter,
        fields: list[list[tuple[str, bool]]],
        current: list[tuple[str, bool]] | None,
        separators: str,
    ) -> list[tuple[str, bool]] | None:
        if part.quoted and part.name == "*":
            return [*(current or []), (self.lookup("*") or "", True)]
        for index, argument in enumerate(self.arguments):
            if index:
                if current is not None:
                    fields.append(current)
                current = None
            if part.quoted:
                current = [*(current or []), (argument, True)]
            else:
                current = _split_text(argument, separators, fields, current)
        return current

    def _match_files(self, pieces: list[tuple[str, bool]]) -> list[str]:
        plain = "".join(text for text, _ in pieces)
        if self.noglob or not any(not quoted and has_magic(text) for text, quoted in pieces):
            return [plain]
        found = self._glob(pieces)
        return found or [plain]

    def _glob(self, pieces: list[tuple[str, bool]]) -> list[str]:
        """Existing paths that match; directories are walked one name at a time."""
        names: list[list[tuple[str, bool]]] = [[]]
        for text, quoted in pieces:
            for index, name in enumerate(text.split("/")):
                if index:
                    names.append([])
                if name:
                    names[-1].append((name, quoted))
        absolute = not names[0]
        found = ["/"] if absolute else [""]
        trailing = not names[-1] and len(names) > 1
        steps = [name for name in names if name]
        for step in steps:
            found = [path for base in found for path in self._glob_step(base, step)]
        if trailing:
            found = [path + "/" for path in found if self.files.is_directory(path)]
        return sorted(found, key=encode)

    def _glob_step(self, base: str, step: list[tuple[str, bool]]) -> list[str]:
        prefix = base if base in ("", "/") else base + "/"
        if not any(not quoted and has_magic(text) for text, quoted in step):
            path = prefix + "".join(text for text, _ in step)
            return [path] if self.files.exists(path, follow=False) else []
        try:
            names = self.files.names(base or ".")
        except Refused:
            return []
        regex = glob_regex(tuple(step))
        hidden = step[0][0].startswith(".")
        return [prefix + name for name in names if (hidden or not name.startswith(".")) and regex.fullmatch(name)]

    def _substitute(self, part: Substitution) -> str:
        output = Output()

        def inside(shell: Shell) -> int:
            shell.condition = 0
            return shell.run(part.body, Streams(Input(None), output, self.programs.error))

        self.status = self.isolated(inside)
        return output.text().rstrip("\n").replace("\0", "")

    def _parameter(self, part: Parameter) -> str | None:
        value = self.lookup(part.name)
        operator = part.operator
        if operator == "":
            if value is None and self.nounset and part.name not in ("@", "*"):
                raise Exit(2)
            return value
        if operator != "" and operator[-1] not in "-+=?":
            check_known(value or "")
        if operator == "length":
            return str(len(encode(value or "")))
        if operator[0] in "#%":
            return self._trim(value or "", operator, part.word)
        present = value is not None and (value != "" or not operator.startswith(":"))
        action = operator[-1]
        if action == "+":
            return self.expand_text(part.word) if present else ""
        if present:
            return value
        text = self.expand_text(part.word)
        if action == "=":
            if not re.fullmatch(r"[A-Za-z_]\w*", part.name):
                raise NotUnderstood(f"${{{part.name}=…}}")
            self.assign(part.name, text)
        elif action == "?":
            self.programs.error.write(f"{self.name}: {part.name}: {text or 'parameter not set'}\n")
            raise Exit(2)
        return text

    def _trim(self, value: str, operator: str, word: Word) -> str:
        regex = glob_regex(self.pieces(word))
        lengths = range(len(value) + 1)
        if operator == "##":
            ends = [end for end in reversed(lengths) if regex.fullmatch(value, 0, end)]
            return value[ends[0] :] if ends else value
        if operator == "#":
            ends = [end for end in lengths if regex.fullmatch(value, 0, end)]
            return value[ends[0] :] if ends else value
        starts = [
            start for start in (lengths if operator == "%%" else reversed(lengths)) if regex.fullmatch(value, start)
        ]
        return value[: starts[0]] if starts else value


_PRINTING = frozenset(["echo", "printf", "local", "export", "return", ":", "set"])
"""Commands that hand a value on without going by it."""
_SPECIAL = frozenset(
    [
        ".",
        ":",
        "break",
        "continue",
        "eval",
        "exec",
        "exit",
        "export",
        "readonly",
        "return",
        "set",
        "shift",
        "trap",
        "unset",
    ]
)
_MACHINE_VARIABLES = frozenset(
    [
        "HOME",
        "HOSTNAME",
        "RANDOM",
        "SHELL",
        "SHLVL",
        "SECONDS",
        "EPOCHREALTIME",
        "EPOCHSECONDS",
        "TERM",
        "PPID",
        "LINENO",
    ]
)


def _substitutes(command: Simple) -> bool:
    """Whether a command without words takes its status from a command substitution."""
    values = [value for _, value in command.assignments] + list(command.words)
    return any(isinstance(part, Substitution) for value in values for part in value)


def _split_text(
    text: str,
    separators: str,
    fields: list[list[tuple[str, bool]]],
    current: list[tuple[str, bool]] | None,
) -> list[tuple[str, bool]] | None:
    """Field splitting of an unquoted expansion (POSIX 2.6.5); full fields go to `fields`, the open one is returned."""
    if not separators:
        return [*(current or []), (text, False)] if text else current
    white = [char for char in separators if char in " \t\n"]
    at = 0
    pending = False
    while at < len(text):
        char = text[at]
        if char in white:
            pending = True
            at += 1
            continue
        if char in separators:
            fields.append(current or [("", True)])
            current = None
            pending = False
            at += 1
            while at < len(text) and text[at] in white:
                at += 1
            continue
        if pending and current is not None:
            fields.append(current)
            current = None
        pending = False
        end = at
        while end < len(text) and text[end] not in separators:
            end += 1
        current = [*(current or []), (text[at:end], False)]
        at = end
    if pending and current is not None:
        fields.append(current)
        current = None
    return current
