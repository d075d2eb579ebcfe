"""Programs that read, pick and print text: busybox's applets and their GNU namesakes."""

from __future__ import annotations

import re
from itertools import groupby

from sixsmith.rootfs.scripts.files import Refused
from sixsmith.rootfs.scripts.options import parse_options
from sixsmith.rootfs.scripts.patterns import basic_regex
from sixsmith.rootfs.scripts.shell import Builtin, Call, decode, encode

__all__ = ["PROGRAMS"]


def _read(call: Call, paths: list[str], *, known: bool = True) -> tuple[list[tuple[str, str]], int]:
    """Name and text of each file (standard input without any), and 1 when one could not be read."""
    if not paths:
        return [("-", call.streams.input.all(known=known))], 0
    status = 0
    texts = []
    for path in paths:
        try:
            text = call.streams.input.all(known=known) if path == "-" else decode(call.files.read(path))
            texts.append((path, text))
        except Refused as error:
            status = call.complain(f"{path}: {error}")
    return texts, status


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def _put(call: Call, lines: list[str]) -> None:
    call.out("".join(line + "\n" for line in lines))


def cat(call: Call) -> int:
    options = parse_options(call, "u")
    texts, status = _read(call, options.operands, known=False)
    for _, text in texts:
        call.out(text)
    return status


def tee(call: Call) -> int:
    options = parse_options(call, "a", {"append": "a"})
    text = call.streams.input.all()
    call.out(text)
    status = 0
    for path in options.operands:
        try:
            call.files.write(path, encode(text), append="a" in options)
        except Refused as error:
            status = call.complain(f"{path}: {error}")
    return status


_GREP_LONG = {
    "quiet": "q",
    "silent": "q",
    "invert-match": "v",
    "ignore-case": "i",
    "fixed-strings": "F",
    "extended-regexp": "E",
    "line-regexp": "x",
    "word-regexp": "w",
    "no-messages": "s",
    "files-with-matches": "l",
    "count": "c",
    "only-matching": "o",
    "regexp": "e",
    "no-filename": "h",
    "with-filename": "H",
}


def grep(call: Call) -> int:
    options = parse_options(call, "qviFEGxwslcohHne:m:rR", _GREP_LONG)
    if "r" in options or "R" in options:
        raise call.unknown()
    operands = list(options.operands)
    patterns = [value for letter, value in options.all if letter == "e"]
    if not patterns:
        if not operands:
            raise call.unknown()
        patterns = [operands.pop(0)]
    name = call.arguments[0].rpartition("/")[2]
    regexes = _grep_patterns(patterns, options.values, name)
    if "s" in options:
        texts, status = [], 0
        for path in operands:
            try:
                texts.append((path, decode(call.files.read(path))))
            except Refused:
                status = 2
        if not operands:
            texts, status = _read(call, operands)
    else:
        texts, status = _read(call, operands)
        status *= 2
    found = False
    named = (len(operands) > 1 or "H" in options) and "h" not in options
    limit = int(options.values.get("m", "1000000000"))
    for path, text in texts:
        prefix = f"{path}:" if named else ""
        count = 0
        for number, line in enumerate(_lines(text), 1):
            if count >= limit:
                break
            matches = [match for regex in regexes if (match := regex.search(line)) is not None]
            if bool(matches) == ("v" in options):
                continue
            found = True
            count += 1
            if "q" in options or "l" in options or "c" in options:
                continue
            shown = f"{prefix}{number}:" if "n" in options else prefix
            if "o" in options:
                _put(
                    call,
                    [shown + match.group() for regex in regexes for match in regex.finditer(line) if match.group()],
                )
            else:
                call.out(f"{shown}{line}\n")
        if "l" in options and count:
            call.out(path + "\n")
        if "c" in options:
            call.out(f"{prefix}{count}\n")
    if found and "q" in options:
        return 0
    return status or int(not found)


def _grep_patterns(patterns: list[str], options: dict[str, str], name: str) -> list[re.Pattern[str]]:
    whole = "line" if "x" in options else "word" if "w" in options else ""
    regexes = []
    for pattern in "\n".join(patterns).split("\n"):
        fixed = "F" in options or name == "fgrep"
        extended = "E" in options or name == "egrep"
        text = re.sub(r"([\\.\[\]*^$])", r"\\\1", pattern) if fixed else pattern
        regexes.append(
            basic_regex(
                text,
                extended=extended and not fixed,
                ignore_case="i" in options,
                whole=whole,
                longest="o" in options,
            )
        )
    return regexes


def cut(call: Call) -> int:
    options = parse_options(call, "d:f:c:b:sn")
    texts, status = _read(call, options.operands)
    fields = options.get("f")
    chosen = fields or options.get("c") or options.get("b")
    if chosen is None or not re.fullmatch(r"(\d+-?\d*|-\d+)(,(\d+-?\d*|-\d+))*", chosen):
        raise call.unknown()
    delimiter = options.get("d") or "\t"
    if len(delimiter) != 1:
        raise call.unknown()

    def wanted(number: int) -> bool:
        for piece in chosen.split(","):
            low, dash, high = piece.partition("-")
            if not dash and number == int(low):
                return True
            if dash and int(low or "1") <= number <= int(high or "1000000000"):
                return True
        return False

    for _, text in texts:
        for line in _lines(text):
            if fields is None:
                data = encode(line)
                picked = bytes(byte for index, byte in enumerate(data, 1) if wanted(index))
                call.out(decode(picked) + "\n")
            elif delimiter not in line:
                if "s" not in options:
                    call.out(line + "\n")
            else:
                pieces = [piece for index, piece in enumerate(line.split(delimiter), 1) if wanted(index)]
                call.out(delimiter.join(pieces) + "\n")
    return status


def _count(call: Call, arguments: list[str], default: int) -> tuple[int, str, list[str]]:
    """-n of head and tail, also written -5: the number, its sign, and the files."""
    if arguments and re.fullmatch(r"-\d+", arguments[0]):
        return int(arguments[0][1:]), "", arguments[1:]
    if arguments and arguments[0].startswith("-n"):
        text = arguments[0][2:] or (arguments[1] if len(arguments) > 1 else "")
        rest = arguments[1:] if arguments[0][2:] else arguments[2:]
        match = re.fullmatch(r"([-+]?)(\d+)", text)
        if match is None:
            raise call.unknown()
        return int(match.group(2)), match.group(1), rest
    if arguments and arguments[0].startswith("-") and arguments[0] != "-":
        raise call.unknown()
    return default, "", arguments


def _ends(call: Call, *, head: bool) -> int:
    number, sign, paths = _count(call, call.arguments[1:], 10)
    if len(paths) > 1:
        raise call.unknown()
    texts, status = _read(call, paths)
    for _, text in texts:
        lines = text.splitlines(keepends=True) if "\r" not in text else [line + "\n" for line in _lines(text)]
        if head:
            picked = lines[: len(lines) - number if sign == "-" else number] if number or sign == "-" else []
        elif sign == "+":
            picked = lines[max(0, number - 1) :]
        else:
            picked = lines[len(lines) - number :] if 0 < number < len(lines) else lines if number else []
        call.out("".join(picked))
    return status


def head(call: Call) -> int:
    return _ends(call, head=True)


def tail(call: Call) -> int:
    return _ends(call, head=False)


def sort(call: Call) -> int:
    options = parse_options(call, "urno:")
    texts, status = _read(call, options.operands)
    lines = [line for _, text in texts for line in _lines(text)]

    def number(line: str) -> float:
        match = re.match(r"\s*(-?\d+(?:\.\d+)?)", line)
        return float(match.group(1)) if match else 0.0

    lines.sort(key=encode)
    if "n" in options:
        lines.sort(key=number)
    if "u" in options:
        lines = list(dict.fromkeys(lines))
        if "n" in options:
            raise call.unknown()
    if "r" in options:
        lines.reverse()
    if "o" in options:
        call.files.write(options.values["o"], encode("".join(line + "\n" for line in lines)))
    else:
        _put(call, lines)
    return status


def uniq(call: Call) -> int:
    options = parse_options(call, "ucd")
    if len(options.operands) > 1:
        raise call.unknown()
    texts, status = _read(call, options.operands)
    lines = _lines(texts[0][1]) if texts else []
    for line, run in groupby(lines):
        count = len(list(run))
        repeated = count != 1
        if ("u" in options and repeated) or ("d" in options and not repeated):
            continue
        call.out(f"{count:7} {line}\n" if "c" in options else f"{line}\n")
    return status


_TR_CLASSES = {
    "[:upper:]": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "[:lower:]": "abcdefghijklmnopqrstuvwxyz",
    "[:digit:]": "0123456789",
    "[:space:]": "\t\n\v\f\r ",
    "[:blank:]": "\t ",
}


def _tr_set(call: Call, text: str) -> str:
    out = []
    at = 0
    escapes = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "b": "\b", "\\": "\\"}
    while at < len(text):
        name = next((name for name in _TR_CLASSES if text.startswith(name, at)), None)
        if name is not None:
            out.append(_TR_CLASSES[name])
            at += len(name)
            continue
        if text.startswith("[:", at) or text.startswith("[=", at):
            raise call.unknown()
        char = text[at]
        if char == "\\":
            following = text[at + 1 : at + 2]
            match = re.compile(r"[0-7]{1,3}").match(text, at + 1)
            if match is not None:
                out.append(chr(int(match.group(), 8)))
                at = match.end()
                continue
            if following not in escapes:
                raise call.unknown()
            out.append(escapes[following])
            at += 2
            continue
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            last = text[at + 2]
            out.append("".join(chr(code) for code in range(ord(char), ord(last) + 1)))
            at += 3
            continue
        out.append(char)
        at += 1
    return "".join(out)


def tr(call: Call) -> int:
    options = parse_options(call, "cCds", stop=True)
    sets = [_tr_set(call, text) for text in options.operands]
    text = call.streams.input.all()
    if not sets or any(ord(char) > 127 for char in "".join(sets) + text):
        raise call.unknown()
    complement = "c" in options or "C" in options
    first = "".join(chr(code) for code in range(128) if chr(code) not in sets[0]) if complement else sets[0]
    squeezed = sets[-1] if len(sets) > 1 else first
    if "d" in options:
        text = "".join(char for char in text if char not in first)
    elif len(sets) > 1:
        if not sets[1]:
            raise call.unknown()
        second = sets[1] + sets[1][-1] * (len(first) - len(sets[1]))
        table = dict(zip(reversed(first), reversed(second[: len(first)]), strict=True))
        text = "".join(table.get(char, char) for char in text)
    if "s" in options:
        out: list[str] = []
        for char in text:
            if not (out and out[-1] == char and char in squeezed):
                out.append(char)
        text = "".join(out)
    call.out(text)
    return 0


def wc(call: Call) -> int:
    options = parse_options(call, "lwcm")
    texts, status = _read(call, options.operands)
    if len(options.values) != 1 or len(texts) != 1:
        raise call.unknown()
    path, text = texts[0]
    counts = {"l": text.count("\n"), "w": len(text.split()), "c": len(encode(text)), "m": len(text)}
    count = counts[next(iter(options.values))]
    call.out(f"{count} {path}\n" if options.operands else f"{count}\n")
    return status


_AWK = (
    r"""\s*(?:\$(?P<test>\d+)\s*(?P<operator>==|!=)\s*"(?P<value>[^"\\]*)"|/(?P<regex>[^/\\]*)/)?"""
    r"""\s*(?:\{\s*print(?:\s+\$(?P<print>\d+|NF))?\s*;?\s*\})?\s*"""
)


def awk(call: Call) -> int:
    options = parse_options(call, "F:", stop=True)
    if not options.operands:
        raise call.unknown()
    match = re.fullmatch(_AWK, options.operands[0])
    if match is None or not options.operands[0].strip():
        raise call.unknown(f"the awk program '{options.operands[0]}' is not understood")
    separator = options.get("F")
    if separator is not None and (len(separator) != 1 or separator in "\\| "):
        raise call.unknown()
    regex = basic_regex(match["regex"], extended=True) if match["regex"] else None
    texts, status = _read(call, options.operands[1:])
    for line in [line for _, text in texts for line in _lines(text)]:
        fields = [line, *(line.split(separator) if separator else line.split())]

        def field(number: str, fields: list[str] = fields) -> str:
            if number == "NF":
                return fields[-1]
            return fields[int(number)] if int(number) < len(fields) else ""

        if match["test"] and (field(match["test"]) == match["value"]) != (match["operator"] == "=="):
            continue
        if regex is not None and regex.search(line) is None:
            continue
        call.out(field(match["print"] or "0") + "\n")
    return status


def xargs(call: Call) -> int:
    options = parse_options(call, "r0n:I:", {"no-run-if-empty": "r", "null": "0"}, stop=True)
    text = call.streams.input.all()
    if "0" not in options and any(char in text for char in "\"'\\"):
        raise call.unknown("xargs of quoted text")
    words = [word for word in text.split("\0") if word] if "0" in options else text.split()
    command = options.operands or ["echo"]
    if "I" in options:
        lines = [line.strip() for line in _lines(text) if line.strip()]
        runs = [[part.replace(options.values["I"], line) for part in command] for line in lines]
    elif "n" in options:
        size = int(options.values["n"])
        runs = [command + words[at : at + size] for at in range(0, len(words), size)]
    else:
        runs = [command + words] if words or "r" not in options else []
    status = 0
    for run in runs:
        if call.shell.programs.call(Call(call.shell, run, call.streams), builtins=False):
            status = 123
    return status


def seq(call: Call) -> int:
    numbers = call.arguments[1:]
    if not 1 <= len(numbers) <= 3 or any(not re.fullmatch(r"-?\d{1,6}", number) for number in numbers):
        raise call.unknown()
    values = [int(number) for number in numbers]
    first, step, last = (
        (1, 1, values[0]) if len(values) == 1 else (values[0], 1, values[1]) if len(values) == 2 else values
    )
    if step == 0:
        raise call.unknown()
    _put(call, [str(number) for number in range(first, last + (1 if step > 0 else -1), step)])
    return 0


def cmp(call: Call) -> int:
    options = parse_options(call, "sq")
    if len(options.operands) != 2:
        raise call.unknown()
    texts, status = _read(call, options.operands)
    if status:
        return 2
    if texts[0][1] == texts[1][1]:
        return 0
    if not ("s" in options or "q" in options):
        call.out(f"{texts[0][0]} {texts[1][0]} differ\n")
    return 1


def expr(call: Call) -> int:
    words = call.arguments[1:]
    match = re.fullmatch(r"(-?\d{1,15}) ([-+*/%]|[<>!]=|[<>=]) (-?\d{1,15})", " ".join(words))
    if match is None or len(words) != 3:
        raise call.unknown()
    left, operator, right = int(match.group(1)), match.group(2), int(match.group(3))
    if operator in ("/", "%") and (right <= 0 or left < 0):
        raise call.unknown()
    value = {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "/": left // (right or 1),
        "%": left % (right or 1),
        "<": int(left < right),
        ">": int(left > right),
        "=": int(left == right),
        "<=": int(left <= right),
        ">=": int(left >= right),
        "!=": int(left != right),
    }[operator]
    call.out(f"{value}\n")
    return int(value == 0)


def sed(call: Call) -> int:
    from sixsmith.rootfs.scripts.sed import sed as edit  # few scripts edit

    return edit(call)


PROGRAMS: dict[str, Builtin] = {
    "awk": awk,
    "cat": cat,
    "cmp": cmp,
    "cut": cut,
    "diff": lambda call: cmp(call) if "-q" in call.arguments else _no_diff(call),
    "egrep": grep,
    "expr": expr,
    "fgrep": grep,
    "grep": grep,
    "head": head,
    "sed": sed,
    "seq": seq,
    "sort": sort,
    "tail": tail,
    "tee": tee,
    "tr": tr,
    "uniq": uniq,
    "wc": wc,
    "xargs": xargs,
}


def _no_diff(call: Call) -> int:
    raise call.unknown()
