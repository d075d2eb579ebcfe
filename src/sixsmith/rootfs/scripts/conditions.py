"""`test` and `[`."""

from __future__ import annotations

import re
from collections.abc import Callable

from sixsmith.rootfs.scripts.shell import Call
from sixsmith.rootfs.scripts.syntax import NotUnderstood

__all__ = ["bracket", "test"]

_KINDS = {"-f": "file", "-h": "symlink", "-L": "symlink", "-p": "fifo", "-b": "block", "-c": "char"}
_FILE_TESTS = frozenset([*_KINDS, "-e", "-d", "-r", "-w", "-x", "-s", "-S", "-u", "-g", "-k", "-O", "-G", "-a"])
_TEXT_TESTS = frozenset(["-n", "-z", "-t"])
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda left, right: left == right,
    "-ne": lambda left, right: left != right,
    "-lt": lambda left, right: left < right,
    "-le": lambda left, right: left <= right,
    "-gt": lambda left, right: left > right,
    "-ge": lambda left, right: left >= right,
}
_BINARY = frozenset([*_NUMBERS, "=", "==", "!=", "-nt", "-ot", "-ef", "<", ">"])


def bracket(call: Call) -> int:
    if call.arguments[-1] != "]":
        raise call.unknown("'[' without ']'")
    return _status(call, call.arguments[1:-1])


def test(call: Call) -> int:
    return _status(call, call.arguments[1:])


def _status(call: Call, words: list[str]) -> int:
    walk = _Walk(call, words)
    try:
        answer = walk.whole()
    except _BadNumber as trouble:
        call.streams.error.write(f"sh: {trouble}: bad number\n")
        return 2
    return 0 if answer else 1


class _BadNumber(Exception):
    pass


class _Walk:
    """POSIX decides by the number of words; more than four are read as an expression with -a, -o and parentheses."""

    def __init__(self, call: Call, words: list[str]) -> None:
        self.call = call
        self.words = words
        self.at = 0

    def whole(self) -> bool:
        words = self.words
        if not words:
            return False
        if len(words) == 1:
            return words[0] != ""
        if len(words) == 2 and words[0] == "!":
            return words[1] == ""
        if len(words) == 3 and words[1] in _BINARY:
            return self.binary(*words)
        if len(words) == 4 and words[0] == "!" and words[2] in _BINARY:
            return not self.binary(*words[1:])
        answer = self.either()
        if self.at < len(words):
            raise self.unknown()
        return answer

    def unknown(self) -> NotUnderstood:
        return NotUnderstood(f"the condition '{' '.join(self.words)}' is not understood")

    def peek(self, ahead: int = 0) -> str | None:
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else None

    def either(self) -> bool:
        answer = self.both()
        while self.peek() == "-o":
            self.at += 1
            other = self.both()
            answer = answer or other
        return answer

    def both(self) -> bool:
        answer = self.negation()
        while self.peek() == "-a":
            self.at += 1
            other = self.negation()
            answer = answer and other
        return answer

    def negation(self) -> bool:
        negated = False
        while self.peek() == "!" and self.peek(1) is not None:
            self.at += 1
            negated = not negated
        return self.primary() != negated

    def primary(self) -> bool:
        word = self.peek()
        if word is None:
            raise self.unknown()
        if word == "(" and self.peek(1) is not None and self.peek(1) not in _BINARY:
            self.at += 1
            answer = self.either()
            if self.peek() != ")":
                raise self.unknown()
            self.at += 1
            return answer
        operator = self.peek(1)
        if operator in _BINARY and self.peek(2) is not None:
            self.at += 3
            return self.binary(word, str(operator), self.words[self.at - 1])
        if (word in _FILE_TESTS or word in _TEXT_TESTS) and operator is not None:
            self.at += 2
            return self.unary(word, operator)
        self.at += 1
        return word != ""

    def unary(self, operator: str, operand: str) -> bool:
        if operator == "-n":
            return operand != ""
        if operator == "-z":
            return operand == ""
        if operator == "-t":
            return False  # apk's scripts have no terminal in a build
        files = self.call.files
        if operator in ("-e", "-a"):
            return files.exists(operand)
        if operator == "-d":
            return files.is_directory(operand)
        if operator in ("-r", "-w"):
            return files.exists(operand)  # root may do both
        if operator in ("-h", "-L"):
            node = files.node(operand, follow=False)
            return node is not None and node.kind == "symlink"
        if operator == "-x" and files.is_directory(operand):
            return True
        node = files.node(operand)
        if node is None:
            return operator == "-c" and operand == "/dev/null"
        if operator == "-x":
            return bool(node.mode & 0o111)
        if operator == "-s":
            return node.kind == "directory" or node.size > 0
        if operator in ("-u", "-g", "-k"):
            return bool(node.mode & {"-u": 0o4000, "-g": 0o2000, "-k": 0o1000}[operator])
        if operator in ("-O", "-G"):
            return (node.uid if operator == "-O" else node.gid) == 0
        return node.kind == _KINDS.get(operator)

    def binary(self, left: str, operator: str, right: str) -> bool:
        if operator in ("=", "=="):
            return left == right
        if operator == "!=":
            return left != right
        if operator == "-ef":
            return self.same_file(left, right)
        compare = _NUMBERS.get(operator)
        if compare is None:
            raise NotUnderstood(f"'{operator}' in the condition '{' '.join(self.words)}' is not understood")
        return compare(self.number(left), self.number(right))

    def same_file(self, left: str, right: str) -> bool:
        one, other = self.call.files.node(left), self.call.files.node(right)
        return one is not None and other is not None and one.path == other.path

    @staticmethod
    def number(text: str) -> int:
        if not re.fullmatch(r"\s*[-+]?\d{1,18}\s*", text):
            raise _BadNumber(text)
        return int(text)
