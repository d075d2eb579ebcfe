"""`sed`: the commands that work on one line at a time, as busybox and GNU have them."""

from __future__ import annotations

import re

import msgspec

from sixsmith.rootfs.scripts.files import Refused
from sixsmith.rootfs.scripts.options import parse_options
from sixsmith.rootfs.scripts.patterns import basic_regex
from sixsmith.rootfs.scripts.shell import Call, decode, encode
from sixsmith.rootfs.scripts.syntax import NotUnderstood

__all__ = ["sed"]


class _Address(msgspec.Struct, frozen=True):
    line: int = 0
    last: bool = False
    regex: re.Pattern[str] | None = None


class _Command(msgspec.Struct):
    start: _Address | None
    end: _Address | None
    negated: bool
    letter: str
    regex: re.Pattern[str] | None = None
    text: str = ""
    body: list[_Command] = []
    which: int = 1
    every: bool = False
    prints: bool = False
    active: bool = False


def sed(call: Call) -> int:
    options = parse_options(
        call, "nrEi::e:f:s", {"in-place": "i", "regexp-extended": "E", "quiet": "n", "expression": "e"}
    )
    if "f" in options or options.get("i"):
        raise call.unknown()
    operands = list(options.operands)
    scripts = [value for letter, value in options.all if letter == "e"]
    if not scripts:
        if not operands:
            raise call.unknown()
        scripts = [operands.pop(0)]
    extended = "r" in options or "E" in options
    quiet = "n" in options
    if "i" not in options:
        text, status = _inputs(call, operands)
        call.out(_Editor("\n".join(scripts), extended).edit(text, quiet=quiet))
        return status
    status = 0
    for path in operands:
        try:
            text = decode(call.files.read(path))
        except Refused as error:
            status = call.complain(f"{path}: {error}")
            continue
        node = call.files.node(path)
        edited = _Editor("\n".join(scripts), extended).edit(text, quiet=quiet)
        if node is not None:
            # A new file takes the old one's place, with its mode and owner; a symlink is replaced by the file.
            new = call.files.file(encode(edited), mode=node.mode, uid=node.uid, gid=node.gid)
            call.files.put(path, new, follow=False)
    return status


def _inputs(call: Call, paths: list[str]) -> tuple[str, int]:
    if not paths:
        return call.streams.input.all(), 0
    status = 0
    texts = []
    for path in paths:
        try:
            texts.append(call.streams.input.all() if path == "-" else decode(call.files.read(path)))
        except Refused as error:
            status = call.complain(f"{path}: {error}")
    return "".join(
        text if text.endswith("\n") or not text or index == len(texts) - 1 else text + "\n"
        for index, text in enumerate(texts)
    ), status


class _Editor:
    """A sed script, ready to edit one text."""

    def __init__(self, script: str, extended: bool) -> None:
        self.script = script
        self.extended = extended
        self.at = 0
        self.commands = self._commands(depth=0)
        if self.at < len(script):
            raise self.unknown()

    def unknown(self) -> NotUnderstood:
        return NotUnderstood(f"the sed script '{self.script}' is not understood")

    # --- reading the script -------------------------------------------------------------------------------------

    def _commands(self, depth: int) -> list[_Command]:
        found: list[_Command] = []
        if depth > 10:
            raise self.unknown()
        while True:
            self._skip(" \t\n;")
            if self.at >= len(self.script) or self.script[self.at] == "}":
                return found
            if self.script[self.at] == "#":
                end = self.script.find("\n", self.at)
                self.at = len(self.script) if end < 0 else end
                continue
            found.append(self._command(depth))

    def _skip(self, characters: str) -> None:
        while self.at < len(self.script) and self.script[self.at] in characters:
            self.at += 1

    def _peek(self) -> str:
        return self.script[self.at : self.at + 1]

    def _command(self, depth: int) -> _Command:
        start = self._address()
        end = None
        if start is not None:
            self._skip(" \t")
            if self._peek() == ",":
                self.at += 1
                self._skip(" \t")
                end = self._address()
                if end is None:
                    raise self.unknown()
        self._skip(" \t")
        negated = False
        while self._peek() == "!":
            negated = True
            self.at += 1
            self._skip(" \t")
        letter = self._peek()
        self.at += 1
        command = _Command(start, end, negated, letter)
        if letter == "s":
            self._substitution(command)
        elif letter in ("a", "i", "c") and letter:
            command.text = self._text()
        elif letter == "{":
            command.body = self._commands(depth + 1)
            if self._peek() != "}":
                raise self.unknown()
            self.at += 1
        elif letter == "y":
            self._transliteration(command)
        elif letter == "" or letter not in "dpqD=nN":
            raise self.unknown()
        self._skip(" \t")
        if self._peek() not in ("", "\n", ";", "}", "#"):
            raise self.unknown()
        return command

    def _address(self) -> _Address | None:
        match = re.compile(r"\d{1,9}").match(self.script, self.at)
        if match is not None:
            self.at = match.end()
            if self._peek() == "~" or int(match.group()) == 0:
                raise self.unknown()
            return _Address(line=int(match.group()))
        char = self._peek()
        if char == "$":
            self.at += 1
            return _Address(last=True)
        if char not in ("/", "\\"):
            return None
        self.at += 1
        if char == "\\":
            char = self._peek()
            self.at += 1
        pattern = self._delimited(char)
        if not pattern:
            raise self.unknown()
        ignore_case = self._peek() == "I"
        self.at += ignore_case
        return _Address(regex=basic_regex(pattern, extended=self.extended, ignore_case=ignore_case))

    def _delimited(self, delimiter: str, *, pattern: bool = True) -> str:
        """Text up to the delimiter, which may stand escaped in it; consumed."""
        out = []
        bracket = False
        while True:
            char = self._peek()
            if char == "" or (char == "\n" and pattern) or delimiter in ("", "\n", "\\"):
                raise self.unknown()
            self.at += 1
            if char == "\\":
                following = self._peek()
                self.at += 1
                if following == delimiter and not (pattern and delimiter in "|+?(){}."):
                    out.append(following)
                else:
                    out.append("\\" + following)
                continue
            if char == delimiter and not bracket:
                return "".join(out)
            if pattern and char == "[" and not bracket:
                bracket = True
                tail = re.compile(r"\^?\]?").match(self.script, self.at)
                out.append(char)
                if tail is not None:
                    out.append(tail.group())
                    self.at = tail.end()
                continue
            if pattern and char == "]":
                bracket = False
            out.append(char)

    def _substitution(self, command: _Command) -> None:
        delimiter = self._peek()
        self.at += 1
        pattern = self._delimited(delimiter)
        command.text = self._delimited(delimiter, pattern=False)
        flags = re.compile(r"[gpIi0-9]*").match(self.script, self.at)
        assert flags is not None
        self.at = flags.end()
        if not pattern:
            raise self.unknown()
        command.every = "g" in flags.group()
        command.prints = "p" in flags.group()
        number = "".join(re.findall(r"\d", flags.group()))
        command.which = int(number) if number else 1
        if command.which == 0 or (number and command.every):
            raise self.unknown()
        ignore_case = "i" in flags.group().lower()
        command.regex = basic_regex(pattern, extended=self.extended, ignore_case=ignore_case, longest=True)
        _check_replacement(command.text, command.regex.groups, self)

    def _transliteration(self, command: _Command) -> None:
        delimiter = self._peek()
        self.at += 1
        source = self._delimited(delimiter, pattern=False)
        target = self._delimited(delimiter, pattern=False)
        if "\\" in source + target or len(source) != len(target):
            raise self.unknown()
        command.text = source + target

    def _text(self) -> str:
        """The text of a, i and c: on the lines after a backslash, or (GNU and busybox) on the same line."""
        self._skip(" \t")
        if self.script.startswith("\\\n", self.at):
            self.at += 2
        elif self._peek() == "\\":
            self.at += 1
        out = []
        while self.at < len(self.script):
            char = self.script[self.at]
            self.at += 1
            if char == "\\":
                following = self._peek()
                if following.isalnum():
                    raise self.unknown()
                self.at += 1
                out.append(following)
            elif char == "\n":
                break
            else:
                out.append(char)
        if not out:
            raise self.unknown()
        return "".join(out) + "\n"

    # --- editing ------------------------------------------------------------------------------------------------

    def edit(self, text: str, *, quiet: bool) -> str:
        """The text after the script went over its lines."""
        lines = text.split("\n")
        ended = lines[-1] == ""
        if ended:
            lines.pop()
        self.lines = lines
        self.number = 0
        self.out: list[str] = []
        self.quiet = quiet
        while self.number < len(lines):
            self.number += 1
            self.space = lines[self.number - 1]
            self.after: list[str] = []
            self.deleted = self.finished = False
            self._run(self.commands)
            if not self.deleted and not quiet:
                self.out.append(self.space + "\n")
            self.out += self.after
            if self.finished:
                break
        result = "".join(self.out)
        # The last line keeps its missing newline.
        if not ended and self.number == len(lines) and not self.after and not self.deleted and result.endswith("\n"):
            result = result[:-1]
        return result

    def _run(self, commands: list[_Command]) -> bool:
        """Runs commands on the pattern space; False when the rest of the script is not to run for it."""
        for command in commands:
            if self._selects(command) == command.negated:
                continue
            if not self._one(command):
                return False
        return True

    def _one(self, command: _Command) -> bool:
        letter = command.letter
        if letter == "{":
            return self._run(command.body)
        if letter == "s":
            self._substitute(command)
        elif letter == "p":
            self.out.append(self.space + "\n")
        elif letter == "d":
            self.deleted = True
            return False
        elif letter == "q":
            self.finished = True
            return False
        elif letter == "=":
            self.out.append(f"{self.number}\n")
        elif letter == "a":
            self.after.append(command.text)
        elif letter == "i":
            self.out.append(command.text)
        elif letter == "c":
            if command.end is None or command.negated or not command.active:
                self.out.append(command.text)
            self.deleted = True
            return False
        elif letter == "y":
            half = len(command.text) // 2
            self.space = self.space.translate(str.maketrans(command.text[:half], command.text[half:]))
        elif letter == "n":
            return self._next()
        else:
            raise self.unknown()
        return True

    def _next(self) -> bool:
        if self.number >= len(self.lines):
            self.finished = True  # without a next line, sed prints and ends
            return False
        if not self.quiet:
            self.out.append(self.space + "\n")
        self.out += self.after
        self.after = []
        self.number += 1
        self.space = self.lines[self.number - 1]
        return True

    def _selects(self, command: _Command) -> bool:
        if command.start is None:
            return True
        if command.end is None:
            return self._matches(command.start)
        if not command.active:
            if not self._matches(command.start):
                return False
            if command.end.line and command.end.line <= self.number:
                return True
            command.active = not (command.end.last and self.number == len(self.lines))
            return True
        if command.end.line:
            if self.number > command.end.line:
                command.active = False
                return self._matches(command.start)
            command.active = self.number < command.end.line
            return True
        command.active = not self._matches(command.end)
        return True

    def _matches(self, address: _Address) -> bool:
        if address.regex is not None:
            return address.regex.search(self.space) is not None
        return self.number == len(self.lines) if address.last else self.number == address.line

    def _substitute(self, command: _Command) -> None:
        assert command.regex is not None
        space = self.space
        out: list[str] = []
        copied = count = 0
        last_end = -1
        for match in command.regex.finditer(space):
            if match.end() == match.start() == last_end:
                continue  # an empty match right after a match is none
            last_end = match.end()
            count += 1
            if count < command.which:
                continue
            out.append(space[copied : match.start()] + _replacement(command.text, match))
            copied = match.end()
            if not command.every:
                break
        if not out:
            return
        self.space = "".join(out) + space[copied:]
        if command.prints:
            self.out.append(self.space + "\n")


def _check_replacement(text: str, groups: int, editor: _Editor) -> None:
    for match in re.finditer(r"\\(.|\n|$)", text):
        following = match.group(1)
        if following == "" or (following.isalpha() and following not in "nt"):
            raise editor.unknown()
        if following.isdigit() and int(following) > groups:
            raise editor.unknown()


def _replacement(text: str, match: re.Match[str]) -> str:
    def one(piece: re.Match[str]) -> str:
        found = piece.group()
        if found == "&":
            return match.group()
        following = found[1]
        if following.isdigit():
            return match.group(int(following)) or ""
        return {"n": "\n", "t": "\t"}.get(following, following)

    return re.sub(r"\\.|\\\n|&", one, text)
