"""Words, quotes, escapes and blocks of execline, each as the real parser of 2.9 takes it."""

from __future__ import annotations

import time

import pytest

from sixsmith.errors import FormatError
from sixsmith.s6.execline import Block, Node, Word, iter_words, parse_execline, quote_word


def shape(nodes: tuple[Node, ...]) -> list[object]:
    """Words as bytes, blocks as lists."""
    return [node.text if isinstance(node, Word) else shape(node.words) for node in nodes]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"", []),
        (b"# nothing but a comment", []),
        (b"true\n", [b"true"]),
        (b"#!/command/execlineb -P\nfoo bar", [b"foo", b"bar"]),
        (b"foo\r\nbar\r\n", [b"foo", b"bar"]),
        (b"a\x01b\x1fc\x7fd", [b"a", b"b", b"c\x7fd"]),
        (b"a#b #c\nd", [b"a#b", b"d"]),
        (b"if { true } echo hi", [b"if", [b"true"], b"echo", b"hi"]),
        (b"{ }", [[]]),
        (b"{ { a } }", [[[b"a"]]]),
        (b"{ a }", [[b"a"]]),
        (b"a{b }c {d", [b"a{b", b"}c", b"{d"]),
        (b'"{" "}"', [b"{", b"}"]),
        (b"\\{ \\}", [b"{", b"}"]),
        (b'a"b c"d', [b"ab cd"]),
        (b'""', [b""]),
        (b'"\\x\\n\\t\\"\\\\"', [b'x\n\t"\\']),
        (b'"\\0x41\\0101\\65\\0x4g"', [b"AAA\x04g"]),
        (b'"a\\\nb"', [b"ab"]),
        (b"a\\\nb", [b"a\nb"]),
        (b"a \\\n b", [b"a", b"b"]),
        (b"a\\ b \\#c", [b"a b", b"#c"]),
        (b"a\0}\"", [b"a"]),
        (b'"\\65', [b"A"]),
        (b"a \\", [b"a"]),
        (b"{\\\nfoo", [b"{foo"]),
        (b"\xff\xfe", [b"\xff\xfe"]),
    ],
)  # fmt: skip
def test_words(script: bytes, words: list[object]) -> None:
    assert shape(parse_execline(script)) == words


@pytest.mark.parametrize(
    ("script", "message", "line", "column"),
    [
        (b"if { true\nfoo\n", "unmatched `{`", 1, 4),
        (b"a\n  }\n", "unmatched `}`", 2, 3),
        (b"{ a }}", "unmatched `{`", 1, 1),
        (b'one\ntwo "abc\n', "never closed", 2, 5),
        (b'"abc\\', "never closed", 1, 1),
        (b'"abc\0"', "never closed", 1, 1),
        (b'x "\\08"', "octal", 1, 4),
        (b'"\\0xg"', "octal", 1, 2),
        (b'"\\0x00"', "between 1 and 255", 1, 2),
        (b'"\\0777"', "between 1 and 255", 1, 2),
        (b'"\n\\256"', "between 1 and 255", 2, 1),
        (b"a\\", "backslash ends", 1, 2),
        (b"a {", "ends in `{`", 1, 3),
    ],
)
def test_errors_point_at_the_place(script: bytes, message: str, line: int, column: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse_execline(script, "up")
    assert message in caught.value.message
    assert caught.value.hint
    place = caught.value.place
    assert place is not None and (place.file, place.line, place.column) == ("up", line, column)


def test_words_know_their_place() -> None:
    nodes = parse_execline(b"a\n  b { c\nd } e")
    assert [(word.text, word.line, word.column) for word in iter_words(nodes)] == [
        (b"a", 1, 1),
        (b"b", 2, 3),
        (b"c", 2, 7),
        (b"d", 3, 1),
        (b"e", 3, 5),
    ]
    block = nodes[2]
    assert isinstance(block, Block) and (block.line, block.column) == (2, 5)


@pytest.mark.parametrize(
    "text", [b"a", b"", b"{", b"}", b"#x", b"a#b", b"a b", b'q"\\', b"\n", b"\\0x41", b"\xff", b"a{"]
)
def test_quoted_words_come_back(text: bytes) -> None:
    (word,) = parse_execline(b"x " + quote_word(text) + b"\n")[1:]
    assert isinstance(word, Word) and word.text == text


def test_a_nul_byte_cannot_be_quoted() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote_word(b"a\0b")


def test_long_and_deep_scripts_take_linear_time() -> None:
    started = time.perf_counter()
    depth = 20_000
    nodes = parse_execline(b"{ " * depth + b"x" + b" }" * depth)
    assert [word.text for word in iter_words(nodes)] == [b"x"]
    assert len(parse_execline(b'a "b c" \\d\n' * 50_000)) == 150_000
    assert len(parse_execline(b'"' + b"\\n" * 500_000 + b'"')) == 1
    assert time.perf_counter() - started < 20
