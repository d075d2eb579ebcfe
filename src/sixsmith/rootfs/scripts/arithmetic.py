"""`$(( … ))`: integers, as POSIX has them, without assignments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sixsmith.rootfs.scripts.syntax import NotUnderstood

if TYPE_CHECKING:
    from sixsmith.rootfs.scripts.shell import Shell

__all__ = ["calculate"]

_TOKEN = re.compile(r"\s*(0[xX][0-9A-Fa-f]+|\d+|[A-Za-z_]\w*|\|\||&&|<<|>>|[<>=!]=|[-+*/%()<>!~&|^?:])")
_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!="),
    ("<", ">", "<=", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
_LIMIT = 1 << 64


def calculate(text: str, shell: Shell) -> int:
    """The value of an expression; variables are read from the shell. Raises NotUnderstood."""
    tokens: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(tokens) > 500:
            raise NotUnderstood(f"the arithmetic '{text}' is not understood")
        tokens.append(match.group(1))
        at = match.end()
    walk = _Walk(tokens, shell, text)
    value = walk.level(0, 0) if tokens else 0
    if walk.at < len(tokens):
        raise walk.unknown()
    return value


class _Walk:
    def __init__(self, tokens: list[str], shell: Shell, text: str) -> None:
        self.tokens = tokens
        self.shell = shell
        self.text = text
        self.at = 0

    def unknown(self) -> NotUnderstood:
        return NotUnderstood(f"the arithmetic '{self.text}' is not understood")

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def level(self, level: int, depth: int) -> int:
        if depth > 50:
            raise self.unknown()
        if level == len(_LEVELS):
            return self.unary(depth)
        value = self.level(level + 1, depth)
        while self.peek() in _LEVELS[level]:
            operator = self.peek()
            self.at += 1
            value = self.apply(operator, value, self.level(level + 1, depth))
        return value

    def unary(self, depth: int) -> int:
        token = self.peek()
        self.at += 1
        if token == "(":
            value = self.level(0, depth + 1)
            if self.peek() != ")":
                raise self.unknown()
            self.at += 1
            return value
        if token in ("-", "+", "!", "~"):
            if depth > 50:
                raise self.unknown()
            value = self.unary(depth + 1)
            return {"-": -value, "+": value, "!": int(not value), "~": ~value}[token]
        if re.fullmatch(r"[A-Za-z_]\w*", token):
            token = (self.shell.lookup(token) or "0").strip()
        if not re.fullmatch(r"-?\d{1,19}|0[xX][0-9A-Fa-f]{1,16}", token):
            raise self.unknown()
        if re.fullmatch(r"0[0-7]+", token):
            return int(token, 8)
        if re.fullmatch(r"0\d+", token):
            raise self.unknown()
        return int(token, 0)

    def apply(self, operator: str, left: int, right: int) -> int:
        if operator in ("/", "%"):
            if right == 0:
                raise self.unknown()
            quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
            return quotient if operator == "/" else left - quotient * right
        if operator in ("<<", ">>"):
            if not 0 <= right < 64:
                raise self.unknown()
            return left << right if operator == "<<" else left >> right
        value = {
            "||": int(bool(left or right)),
            "&&": int(bool(left and right)),
            "|": left | right,
            "^": left ^ right,
            "&": left & right,
            "==": int(left == right),
            "!=": int(left != right),
            "<": int(left < right),
            ">": int(left > right),
            "<=": int(left <= right),
            ">=": int(left >= right),
            "+": left + right,
            "-": left - right,
            "*": left * right,
        }[operator]
        if abs(value) >= _LIMIT >> 1:
            raise self.unknown()
        return value
