"""Execline scripts: words that are quoted are read back."""

from __future__ import annotations

from sixsmith.errors import FormatError
from sixsmith.s6.execline import Block, Node, iter_words, parse_execline, quote_word

WORDS = (b"{ ", b" }", b'"', b"\\", b"\\\n", b"\\0x41", b"#", b"\0", b"\\065", b"\r\n")


def seeds() -> list[bytes]:
    return [
        b'#!/command/execlineb -P\nif { test -e "/a b" } # why\nexec sleep \\\n1\n',
        b"{ } { { a } b }\nc\n",
        b'"\\0x41\\101\\t" a\\ b\n',
    ]


def TestOneInput(data: bytes) -> None:
    try:
        nodes = parse_execline(data, "run")
    except FormatError:
        return
    assert len([*iter_words(nodes)]) <= len(data)
    written = _write(nodes)
    assert _write(parse_execline(written)) == written


def _write(nodes: tuple[Node, ...]) -> bytes:
    """The script in one line; without recursion, for blocks nest to any depth."""
    pieces: list[bytes] = []
    todo: list[Node | bytes] = list(reversed(nodes))
    while todo:
        node = todo.pop()
        if isinstance(node, bytes):
            pieces.append(node)
        elif isinstance(node, Block):
            pieces.append(b"{")
            todo += [b"}", *reversed(node.words)]
        else:
            pieces.append(quote_word(node.text))
    return b" ".join([*pieces, b""]) + b"\n"
