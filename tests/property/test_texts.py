"""Small grammars: what is written is read back, and any text is answered or refused by the right error."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sixsmith.errors import FormatError, UsageError
from sixsmith.model.digest import Digest, digest_of, parse_digest
from sixsmith.model.reference import Reference, parse_reference
from sixsmith.s6.execline import Block, Node, parse_execline, quote_word

# --- references and digests

component = st.from_regex(r"\A[a-z0-9]+(?:(?:\.|_|__|-{1,3})[a-z0-9]+){0,2}\Z")
registries = st.sampled_from(["", "localhost", "127.0.0.1:5000", "quay.io", "[::1]:80", "a.b-c.example:1"])
digests = st.binary(max_size=5).map(digest_of)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    registry = draw(registries)
    parts = draw(st.lists(component, min_size=1, max_size=3))
    if not registry and len(parts) > 1 and ("." in parts[0] or parts[0] == "localhost"):
        parts = ["a", *parts]  # else its first part would be a registry
    tag = draw(st.none() | st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z"))
    return Reference(registry, "/".join(parts), tag, draw(st.none() | digests))


@given(references())
def test_references_come_back(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference


@given(st.text(alphabet=st.sampled_from("aZ0./:@_-[]\n é"), max_size=30) | st.text(max_size=20))
@example("a@")
@example("a:")
@example("localhost/")
@example("a\n")
def test_any_text_is_a_reference_or_wrong_usage(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError:
        return
    assert str(reference) == text


@given(st.text(max_size=80))
@example("sha256:" + "A" * 64)
@example("sha256:" + "0" * 64 + "\n")
def test_any_text_is_no_digest(text: str) -> None:
    with pytest.raises(FormatError):
        parse_digest(text)


@given(digests)
def test_digests_come_back(digest: Digest) -> None:
    assert parse_digest(digest) == digest


# --- execline

words = st.binary(max_size=12).map(lambda raw: raw.replace(b"\0", b"0"))
scripts = st.recursive(
    st.lists(words, max_size=4),
    lambda inner: st.lists(words | inner.map(tuple), max_size=4),
    max_leaves=12,
)


def render(nodes: object) -> bytes:
    if isinstance(nodes, bytes):
        return quote_word(nodes)
    assert isinstance(nodes, list | tuple)
    inside = b" ".join(render(node) for node in nodes)
    return b"{ " + inside + b" }" if isinstance(nodes, tuple) else inside


def plain(nodes: tuple[Node, ...]) -> list[object]:
    return [tuple(plain(node.words)) if isinstance(node, Block) else node.text for node in nodes]


def listed(nodes: object) -> object:
    """Lists within lists are spread out: only tuples are blocks."""
    if not isinstance(nodes, list | tuple):
        return nodes
    found = [listed(node) for node in nodes]
    return tuple(found) if isinstance(nodes, tuple) else found


@given(scripts)
def test_execline_words_and_blocks_come_back(script: list[object]) -> None:
    assert plain(parse_execline(render(script) + b"\n")) == listed(script)


@given(st.binary(max_size=60) | st.text('{} "\\#\n0x41\0ab', max_size=40).map(str.encode))
def test_any_bytes_are_execline_or_refused_with_their_place(script: bytes) -> None:
    try:
        parse_execline(script, "run")
    except FormatError as error:
        assert error.place is not None
        lines = script.split(b"\0")[0].split(b"\n")
        assert 1 <= error.place.line <= len(lines)
        assert 1 <= error.place.column <= len(lines[error.place.line - 1]) + 1
