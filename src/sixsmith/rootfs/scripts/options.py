"""Command-line options as busybox and GNU programs take them."""

from __future__ import annotations

from sixsmith.rootfs.scripts.shell import Call

__all__ = ["Options", "parse_options"]


class Options:
    """Options that were given (last value of each, `all` values in order) and the operands."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.all: list[tuple[str, str]] = []
        self.operands: list[str] = []

    def __contains__(self, option: str) -> bool:
        return option in self.values

    def get(self, option: str, default: str | None = None) -> str | None:
        return self.values.get(option, default)

    def set(self, option: str, value: str = "") -> None:
        self.values[option] = value
        self.all.append((option, value))


def parse_options(call: Call, letters: str, long: dict[str, str] | None = None, *, stop: bool = False) -> Options:
    """The options of a call. `letters` as for getopt(3): a colon after an option that takes a value, two after one
    whose value is attached or missing; `long` maps long names to letters. With `stop`, the first operand ends the
    options. Raises NotUnderstood for an option that is not known here: what it would do is not known either."""
    found = Options()
    arguments = call.arguments[1:]
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if argument == "--":
            found.operands += arguments[at:]
            break
        if argument.startswith("--"):
            at = _long(call, found, argument[2:], arguments, at, letters, long or {})
        elif argument.startswith("-") and argument != "-":
            at = _short(call, found, argument[1:], arguments, at, letters)
        else:
            found.operands.append(argument)
            if stop:
                found.operands += arguments[at:]
                break
    return found


def _takes(letters: str, letter: str) -> int:
    index = letters.find(letter)
    return len(letters[index + 1 :]) - len(letters[index + 1 :].lstrip(":"))


def _long(
    call: Call, found: Options, text: str, arguments: list[str], at: int, letters: str, long: dict[str, str]
) -> int:
    name, equals, value = text.partition("=")
    letter = long.get(name)
    if letter is None:
        raise call.unknown(f"{call.arguments[0]}: the option --{name} is not understood")
    takes = _takes(letters, letter)
    if takes == 1 and not equals:
        if at >= len(arguments):
            raise call.unknown(f"{call.arguments[0]}: --{name} without a value")
        value = arguments[at]
        at += 1
    elif not takes and equals:
        raise call.unknown(f"{call.arguments[0]}: --{name} with a value")
    found.set(letter, value)
    return at


def _short(call: Call, found: Options, text: str, arguments: list[str], at: int, letters: str) -> int:
    index = 0
    while index < len(text):
        letter = text[index]
        index += 1
        if letter == ":" or letter not in letters:
            raise call.unknown(f"{call.arguments[0]}: the option -{letter} is not understood")
        takes = _takes(letters, letter)
        if not takes:
            found.set(letter)
            continue
        value = text[index:]
        if not value and takes == 1:
            if at >= len(arguments):
                raise call.unknown(f"{call.arguments[0]}: -{letter} without a value")
            value = arguments[at]
            at += 1
        found.set(letter, value)
        break
    return at
