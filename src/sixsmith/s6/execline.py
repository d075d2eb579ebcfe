"""The lexing and quoting of execline, as `up` and `down` files of oneshots are read.

An execline script is one command line spread over any number of lines: white space separates words, `#` at the start of
a word begins a comment, double quotes and backslashes protect, and a word that is exactly `{` or `}` opens or closes a
block. There are no statements, no `;`, no `&&` and no variables at this level.

The corners that surprise, all kept as execline 2.9 has them: every byte from 1 to 32 is white space (so CRLF is
harmless); a NUL byte ends the script; a backslash before a newline joins lines between words, keeps the newline inside a
word and drops it inside quotes; `"\\0x41"`, `"\\0101"` and `"\\65"` are numbers from 1 to 255, and a script that ends
right behind such a number needs no closing quote; a `{` that ends the script is a syntax error, a `}` there is not.
Source: execline documentation, "execlineb's syntax"; `src/libexecline/PARSING.txt`; behaviour of 2.9.4 and 2.9.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from sixsmith.errors import FormatError, Place

__all__ = ["Block", "Node", "Word", "iter_words", "parse_execline", "quote_word"]

_BLANK = re.compile(rb"(?:[\x01-\x20]+|\\\n|\\\Z|#[^\n\0]*)*")
"""What may stand between two words: blanks, joined lines, comments (which end before the newline), a last backslash."""
_BARE = re.compile(rb'[^\x00-\x20"\\]+')
_QUOTED = re.compile(rb'[^\x00"\\]+')
_ESCAPE = re.compile(rb"\\(?:0x([0-9A-Fa-f]{1,2})|0([0-7]{1,3})|([1-9][0-9]{0,2})|([^\x000-9]))", re.DOTALL)
_CONTROL = {97: 7, 98: 8, 116: 9, 110: 10, 118: 11, 102: 12, 114: 13}
"""`\\a \\b \\t \\n \\v \\f \\r` inside double quotes."""


class Word(msgspec.Struct, frozen=True):
    """One word after unquoting. `quoted` tells whether any part of it was protected; places are 1-based, in bytes."""

    text: bytes
    line: int
    column: int
    quoted: bool = False


class Block(msgspec.Struct, frozen=True):
    """The words between `{` and `}`; the place is that of `{`."""

    words: tuple[Node, ...]
    line: int
    column: int


Node = Word | Block


class _Scanner:
    """A position in a script that knows its line."""

    def __init__(self, content: bytes, file: str) -> None:
        end = content.find(b"\0")
        self.content = content if end < 0 else content[:end]
        self.file = file
        self.at = 0
        self.line = 1
        self.line_start = 0
        self.counted = 0

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset; offsets must be asked in rising order."""
        newlines = self.content.count(b"\n", self.counted, offset)
        if newlines:
            self.line += newlines
            self.line_start = self.content.rfind(b"\n", self.counted, offset) + 1
        self.counted = max(self.counted, offset)
        return self.line, offset - self.line_start + 1

    def wrong(self, where: tuple[int, int], message: str, hint: str) -> FormatError:
        return FormatError(message, place=Place(self.file, *where), hint=hint)

    def skip_blank(self) -> None:
        blank = _BLANK.match(self.content, self.at)
        assert blank is not None
        self.at = blank.end()

    def lone_brace(self) -> bytes:
        """`{` or `}` when the next word is just that; a brace and a joined line where that follows; b"" otherwise."""
        brace = self.content[self.at : self.at + 1]
        if brace not in (b"{", b"}"):
            return b""
        after = self.content[self.at + 1 : self.at + 3]
        if not after and brace == b"{":
            raise self.wrong(self.place(self.at), "the script ends in `{`", "close the block, or quote the brace")
        if not after or after[0] <= 32:
            return brace
        return brace + after if after in (b"\\", b"\\\n") else b""

    def word(self) -> Word:
        """The word at the current position, which is not blank and not a lone brace."""
        content = self.content
        where = self.place(self.at)
        start = self.at
        pieces: list[bytes] = []
        quoted = False
        while self.at < len(content) and content[self.at] > 32:
            char = content[self.at]
            if char == 0x22:
                quoted = True
                self.quotation(pieces)
            elif char == 0x5C:
                quoted = True
                if self.at + 1 >= len(content):
                    raise self.wrong(self.place(self.at), "a backslash ends the script", "remove it, or double it")
                pieces.append(content[self.at + 1 : self.at + 2])
                self.at += 2
            else:
                run = _BARE.match(content, self.at)
                assert run is not None
                pieces.append(run.group())
                self.at = run.end()
        assert self.at > start
        return Word(b"".join(pieces), *where, quoted)

    def quotation(self, pieces: list[bytes]) -> None:
        """Reads from an opening quote to behind the closing one."""
        content = self.content
        opening = self.place(self.at)
        self.at += 1
        ended_in_number = False
        while True:
            run = _QUOTED.match(content, self.at)
            if run is not None:
                pieces.append(run.group())
                self.at = run.end()
                ended_in_number = False
            if self.at >= len(content) and ended_in_number:
                return
            if self.at >= len(content) or (content[self.at] == 0x5C and self.at + 1 == len(content)):
                raise self.wrong(
                    opening, "a double quote is never closed", 'add the closing ", or write \\" for a plain one'
                )
            if content[self.at] == 0x22:
                self.at += 1
                return
            escape = _ESCAPE.match(content, self.at)
            if escape is None:
                raise self.wrong(
                    self.place(self.at),
                    "`\\0` inside double quotes wants octal digits or `x` and hexadecimal digits",
                    "write `\\\\0` for a backslash and a zero",
                )
            piece = _unescaped(escape)
            if piece is None:
                raise self.wrong(
                    self.place(self.at),
                    f"`{escape.group().decode()}` is not a byte between 1 and 255",
                    "up to three digits after the backslash belong to the number; an argument cannot hold a NUL byte",
                )
            self.at = escape.end()
            ended_in_number = escape.group(4) is None
            pieces.append(piece)


def _unescaped(escape: re.Match[bytes]) -> bytes | None:
    """The bytes that an escape stands for, or None for a number that no byte of an argument can have."""
    hexadecimal, octal, decimal, char = escape.groups()
    if char is not None:
        return b"" if char == b"\n" else bytes([_CONTROL.get(char[0], char[0])])
    number = int(hexadecimal or octal or decimal, 16 if hexadecimal else 8 if octal else 10)
    return bytes([number]) if 0 < number < 256 else None


def parse_execline(content: bytes, file: str = "") -> tuple[Node, ...]:
    """The words and blocks of a script, in order; `file` is what errors call it.

    Raises FormatError, with line and column, exactly where execline's own parser gives up. Blocks may nest to any depth.
    """
    scanner = _Scanner(content, file)
    content = scanner.content
    words: list[Node] = []
    open_blocks: list[tuple[tuple[int, int], list[Node]]] = []
    loose = b""  # a brace in front of a joined line: not a block, but the start of the next word
    while True:
        scanner.skip_blank()
        if scanner.at >= len(content):
            break
        brace = scanner.lone_brace()
        if brace == b"{":
            open_blocks.append((scanner.place(scanner.at), words))
            words = []
            scanner.at += 1
        elif brace == b"}":
            if not open_blocks:
                raise scanner.wrong(
                    scanner.place(scanner.at),
                    "unmatched `}`",
                    "a block opens with `{` and white space around it: `if { test } command`",
                )
            opening, outer = open_blocks.pop()
            outer.append(Block(tuple(words), *opening))
            words = outer
            scanner.at += 1
        elif brace:
            loose += brace[:1]
            scanner.at += len(brace)
        else:
            word = scanner.word()
            words.append(replace(word, text=loose + word.text, quoted=True) if loose else word)
            loose = b""
    if open_blocks:
        raise scanner.wrong(
            open_blocks[-1][0],
            "unmatched `{`",
            "close the block with ` }`, a word of its own with white space around it",
        )
    return tuple(words)


def iter_words(nodes: tuple[Node, ...]) -> Iterator[Word]:
    """Every word in order, those inside blocks included."""
    todo: list[Node] = list(reversed(nodes))
    while todo:
        node = todo.pop()
        if isinstance(node, Word):
            yield node
        else:
            todo.extend(reversed(node.words))


def quote_word(text: bytes) -> bytes:
    """`text` as a word that `parse_execline` reads back as it is. Raises ValueError for a NUL byte."""
    if b"\0" in text:
        raise ValueError("a NUL byte cannot stand in an argument")
    if text not in (b"", b"{", b"}") and not text.startswith(b"#") and _BARE.fullmatch(text):
        return text
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
