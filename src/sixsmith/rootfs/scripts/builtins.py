"""The commands that are part of the shell."""

from __future__ import annotations

import re

from sixsmith.rootfs.scripts.conditions import bracket, test
from sixsmith.rootfs.scripts.files import Refused
from sixsmith.rootfs.scripts.shell import Builtin, Call, Exit, Return, decode
from sixsmith.rootfs.scripts.syntax import NotUnderstood, parse_script

__all__ = ["BUILTINS", "echo", "false", "printf", "true"]


def true(call: Call) -> int:
    return 0


def false(call: Call) -> int:
    return 1


def _number(call: Call, default: int) -> int:
    if len(call.arguments) < 2:
        return default
    text = call.arguments[1]
    if not re.fullmatch(r"\d{1,9}", text):
        raise call.unknown(f"'{' '.join(call.arguments)}' is not understood")
    return int(text) & 255


def exit_(call: Call) -> int:
    raise Exit(_number(call, call.shell.status))


def return_(call: Call) -> int:
    raise Return(_number(call, call.shell.status))


def break_(call: Call) -> int:
    call.shell.leave_loop(max(1, _number(call, 1)), again=False)
    return 0


def continue_(call: Call) -> int:
    call.shell.leave_loop(max(1, _number(call, 1)), again=True)
    return 0


def set_(call: Call) -> int:
    shell = call.shell
    arguments = call.arguments[1:]
    options = {"e": "errexit", "u": "nounset", "f": "noglob", "x": "", "v": ""}
    names = {"errexit": "errexit", "nounset": "nounset", "noglob": "noglob", "pipefail": "pipefail", "xtrace": ""}
    while arguments and arguments[0][:1] in ("-", "+") and len(arguments[0]) > 1:
        argument = arguments.pop(0)
        if argument == "--":
            shell.arguments = arguments
            return 0
        on = argument[0] == "-"
        for letter in argument[1:]:
            if letter == "o" and arguments:
                name = names.get(arguments.pop(0))
            else:
                name = options.get(letter)
            if name is None:
                raise call.unknown()
            if name:
                setattr(shell, name, on)
    if arguments:
        shell.arguments = arguments
    elif len(call.arguments) == 1:
        raise call.unknown()
    return 0


def shift(call: Call) -> int:
    count = _number(call, 1)
    if count > len(call.shell.arguments):
        raise call.unknown("'shift' past the last argument, which shells answer differently")
    call.shell.arguments = call.shell.arguments[count:]
    return 0


def export(call: Call) -> int:
    for argument in call.arguments[1:]:
        name, equals, value = argument.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise call.unknown()
        if equals:
            call.shell.assign(name, value)
        if call.arguments[0] == "readonly":
            call.shell.readonly.add(name)
        else:
            call.shell.exported.add(name)
    if len(call.arguments) == 1:
        raise call.unknown()
    return 0


def local(call: Call) -> int:
    for argument in call.arguments[1:]:
        name, equals, value = argument.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise call.unknown()
        call.shell.make_local(name)
        if equals:
            call.shell.assign(name, value)
    return 0


def unset(call: Call) -> int:
    functions = False
    for argument in call.arguments[1:]:
        if argument in ("-f", "-v"):
            functions = argument == "-f"
        elif functions:
            call.shell.functions.pop(argument, None)
        else:
            call.shell.variables.pop(argument, None)
    return 0


def eval_(call: Call) -> int:
    return call.shell.commands(parse_script(" ".join(call.arguments[1:])), call.streams)


def exec_(call: Call) -> int:
    if len(call.arguments) < 2:
        return 0
    if call.arguments[1].startswith("-"):
        raise call.unknown()
    words = call.arguments[1:]
    raise Exit(call.shell.programs.call(Call(call.shell, words, call.streams), builtins=False))


def command(call: Call) -> int:
    arguments = call.arguments[1:]
    if arguments[:1] in (["-v"], ["-V"]):
        return _where(call, arguments[1:], verbose=arguments[0] == "-V")
    if not arguments or arguments[0].startswith("-"):
        raise call.unknown()
    return call.shell.programs.call(Call(call.shell, arguments, call.streams))


def _where(call: Call, names: list[str], *, verbose: bool) -> int:
    status = 0
    for name in names:
        if name in call.shell.functions or name in BUILTINS:
            found: str | None = name
        else:
            found = call.shell.programs.find(name, call.shell)
        if found is None:
            status = 127
        elif verbose:
            raise call.unknown()
        else:
            call.out(found + "\n")
    return status


def type_(call: Call) -> int:
    # What it prints differs between shells; scripts only look at the status.
    status = 0
    for name in call.arguments[1:]:
        known = name in call.shell.functions or name in BUILTINS
        if not known and call.shell.programs.find(name, call.shell) is None:
            status = 127
            call.streams.output.write(f"{name}: not found\n")
        else:
            call.streams.output.write(f"{name} is {name}\n")
    return status


def cd(call: Call) -> int:
    target = call.arguments[1] if len(call.arguments) > 1 else ""
    if len(call.arguments) != 2 or target in ("", "-") or target.startswith("-"):
        raise call.unknown()
    try:
        real = call.files.real(target)
    except Refused as error:
        call.streams.error.write(f"cd: can't cd to {target}: {error}\n")
        return 2
    if not call.files.is_directory(target):
        call.streams.error.write(f"cd: can't cd to {target}: No such file or directory\n")
        return 2
    call.files.directory = real
    call.shell.variables["PWD"] = "/" + real
    return 0


def pwd(call: Call) -> int:
    call.out("/" + call.files.directory + "\n")
    return 0


def umask(call: Call) -> int:
    if len(call.arguments) == 1:
        call.out(f"{call.files.umask:04o}\n")
        return 0
    if not re.fullmatch(r"[0-7]{1,4}", call.arguments[1]):
        raise call.unknown()
    call.files.umask = int(call.arguments[1], 8) & 0o777
    return 0


def trap(call: Call) -> int:
    arguments = [argument for argument in call.arguments[1:] if argument != "--"]
    if not arguments:
        return 0
    action, signals = (arguments[0], arguments[1:]) if len(arguments) > 1 else ("-", arguments)
    if "EXIT" in signals or "0" in signals:
        call.shell.exit_trap = "" if action == "-" else action
    return 0


def read(call: Call) -> int:
    arguments = call.arguments[1:]
    raw = False
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option != "-r":
            raise call.unknown()
        raw = True
    if call.streams.input.rest is None:
        raise NotUnderstood("it reads from whoever runs apk")
    line = call.streams.input.line()
    text = (line or "").removesuffix("\n")
    if not raw and "\\" in text:
        raise NotUnderstood("'read' without -r, of a line with a backslash")
    _assign_fields(call, text, arguments or ["REPLY"])
    return 0 if line is not None and line.endswith("\n") else 1


def _assign_fields(call: Call, text: str, names: list[str]) -> None:
    """Splits a line for `read`: the last name gets the rest, separators in it included (POSIX, read)."""
    separators = call.shell.variables.get("IFS", " \t\n")
    white = "".join(char for char in separators if char in " \t\n")
    text = text.strip(white) if white else text
    for index, name in enumerate(names):
        if index == len(names) - 1:
            call.shell.assign(name, text)
            return
        end = next((at for at, char in enumerate(text) if char in separators), len(text))
        call.shell.assign(name, text[:end])
        rest = text[end:]
        skipped = rest.lstrip(white) if white else rest
        if skipped[:1] and skipped[0] in separators and skipped[0] not in white:
            skipped = skipped[1:].lstrip(white) if white else skipped[1:]
        text = skipped


def source(call: Call) -> int:
    if len(call.arguments) < 2:
        raise call.unknown()
    name = call.arguments[1]
    if "/" not in name:
        found = call.shell.programs.find(name, call.shell)
        if found is None:
            raise NotUnderstood(f"'. {name}' looks for a file that is not there")
        name = found
    try:
        text = decode(call.files.read(name))
    except Refused as error:
        call.streams.error.write(f".: can't open '{name}': {error}\n")
        raise Exit(2) from None
    with call.shell.programs.elsewhere(name):
        try:
            return call.shell.commands(parse_script(text), call.streams)
        except Return as end:
            return end.status


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def unescape(text: str, *, percent_b: bool = True) -> tuple[str, bool]:
    """Text with its backslash escapes replaced, as `echo -e` and `printf %b` do; and whether `\\c` ended the output."""
    out = []
    at = 0
    while at < len(text):
        char = text[at]
        following = text[at + 1 : at + 2]
        if char != "\\" or not following:
            out.append(char)
            at += 1
            continue
        if following == "c" and percent_b:
            return "".join(out), True
        if following in _ESCAPES:
            out.append(_ESCAPES[following])
            at += 2
            continue
        match = re.compile(r"0?[0-7]{1,3}" if percent_b else r"[0-7]{1,3}").match(text, at + 1)
        if match is not None:
            out.append(bytes([int(match.group(), 8) & 255]).decode("latin-1"))
            at = match.end()
            continue
        match = re.compile(r"x([0-9A-Fa-f]{1,2})").match(text, at + 1)
        if match is not None:
            out.append(bytes([int(match.group(1), 16)]).decode("latin-1"))
            at = match.end()
            continue
        out.append("\\" + following)
        at += 2
    result = "".join(out)
    if any("\x80" <= char <= "\xff" for char in result) and result != text:
        raise NotUnderstood("bytes over 127 made of escapes")
    return result, False


def echo(call: Call) -> int:
    arguments = call.arguments[1:]
    newline, escapes = True, False
    plain = call.shell.programs.plain_echo
    while plain and arguments and re.fullmatch(r"-[neE]+", arguments[0]):
        option = arguments.pop(0)
        newline = newline and "n" not in option
        escapes = "e" in option or (escapes and "E" not in option)
    text = " ".join(arguments)
    if not plain and ("\\" in text or text.startswith("-n")):
        raise NotUnderstood("'echo' of a backslash, which shells read differently")
    if escapes:
        text, stopped = unescape(text)
        newline = newline and not stopped
    call.out(text + ("\n" if newline else ""))
    return 0


_DIRECTIVE = r"%(%|[-0 +#]*(?:\d+)?(?:\.\d+)?[sbcdiuoxX])"


def printf(call: Call) -> int:
    arguments = call.arguments[1:]
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    if not arguments or arguments[0].startswith("-"):
        raise call.unknown()
    template, values = arguments[0], arguments[1:]
    while True:
        before = len(values)
        if _print_once(call, template, values) or not values or len(values) == before:
            return 0


def _print_once(call: Call, template: str, values: list[str]) -> bool:
    """Prints the template once, taking values off the list; tells whether `\\c` ended the output."""
    at = 0
    while at < len(template):
        if template[at] != "%":
            end = template.find("%", at)
            end = len(template) if end < 0 else end
            text, stopped = unescape(template[at:end], percent_b=False)
            call.out(text)
            if stopped:
                return True
            at = end
            continue
        match = re.compile(_DIRECTIVE).match(template, at)
        if match is None:
            raise call.unknown(f"printf: '{template}' is not understood")
        at = match.end()
        directive = match.group(1)
        if directive == "%":
            call.out("%")
            continue
        value = values.pop(0) if values else ""
        if directive[-1] in "sb":
            stopped = False
            if directive[-1] == "b":
                value, stopped = unescape(value)
            call.out(f"%{directive[:-1]}s" % value)
            if stopped:
                return True
        elif directive[-1] == "c":
            call.out(value[:1])
        else:
            if not re.fullmatch(r"-?\d{0,18}", value):
                raise call.unknown(f"printf: '{value}' is not a number")
            call.out(f"%{directive[:-1]}{directive[-1].replace('i', 'd').replace('u', 'd')}" % int(value or "0"))
    return False


def hash_(call: Call) -> int:
    for name in call.arguments[1:]:
        if name == "-r":
            continue
        if name not in BUILTINS and call.shell.programs.find(name, call.shell) is None:
            call.streams.error.write(f"hash: {name}: not found\n")
            return 1
    return 0


BUILTINS: dict[str, Builtin] = {
    ":": true,
    "true": true,
    "false": false,
    "exit": exit_,
    "return": return_,
    "break": break_,
    "continue": continue_,
    "set": set_,
    "shift": shift,
    "export": export,
    "readonly": export,
    "local": local,
    "unset": unset,
    "eval": eval_,
    "exec": exec_,
    "command": command,
    "type": type_,
    "cd": cd,
    "pwd": pwd,
    "umask": umask,
    "trap": trap,
    "read": read,
    ".": source,
    "source": source,
    "echo": echo,
    "printf": printf,
    "hash": hash_,
    "wait": true,
    "test": test,
    "[": bracket,
}
