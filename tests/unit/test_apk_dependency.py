"""Reading dependencies, matching versions, and the world file."""

from __future__ import annotations

import pytest

from sixsmith.apk.dependency import Dependency, merge_world, parse_dependencies, parse_world, render_world
from sixsmith.apk.version import Version
from sixsmith.errors import FormatError


def test_parts() -> None:
    entry = Dependency.parse("!so:libfoo.so.1@edge>=1.2-r3")
    assert (entry.name, entry.operator, entry.version) == ("so:libfoo.so.1", ">=", "1.2-r3")
    assert entry.conflict
    assert entry.pin == "edge"
    assert str(entry) == "!so:libfoo.so.1@edge>=1.2-r3"


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("a=>1", "a>=1"),
        ("a=<1", "a<=1"),
        ("a==1", "a=1"),
        ("a~=1", "a~1"),
        ("a=~1", "a~1"),
        ("a", "a"),
        ("/bin/sh", "/bin/sh"),
    ],
)
def test_spelling_is_made_regular(text: str, rendered: str) -> None:
    assert str(Dependency.parse(text)) == rendered


def test_equal_by_meaning() -> None:
    assert Dependency.parse("a=>1") == Dependency.parse("a>=1")
    assert len({Dependency.parse("a=>1"), Dependency.parse("a>=1"), Dependency.parse("a>1")}) == 2


@pytest.mark.parametrize(
    ("text", "version", "accepted"),
    [
        ("a", "1", True),
        ("a=1", "1", True),
        ("a=1", "1-r0", False),
        ("a<2", "1.9", True),
        ("a>=2", "1.9", False),
        ("a~1.2", "1.2.7-r3", True),
        ("a~1.2", "1.20", False),
        ("a~1.2.3", "1.2", True),  # either may be the beginning of the other
        ("a>~1.2", "1.3", True),
        ("a<~1.2", "1.3", False),
        ("a<~1.2", "1.2.9", True),
        ("!a", "1", False),
        ("!a<2", "1", False),
        ("!a<2", "3", True),
        ("a<>1", "1", False),  # the checksum form in disguise
    ],
)
def test_accepts(text: str, version: str, accepted: bool) -> None:
    assert Dependency.parse(text).accepts(Version(version)) is accepted


def test_unversioned_provide_satisfies_unversioned_dependency_only() -> None:
    assert Dependency.parse("a").accepts(None)
    assert not Dependency.parse("a>=0").accepts(None)
    assert Dependency.parse("!a>=0").accepts(None)


def test_checksum_form() -> None:
    entry = Dependency.parse("a><Q1abc=")
    assert entry.is_checksum
    assert entry.accepts(Version("1"), "Q1abc=")
    assert not entry.accepts(Version("1"), "Q1other=")


@pytest.mark.parametrize("text", ["", "!", "=1", "a=", "a>=", "@edge", "a@", "a=1.0bc", "a~1__2", "a b", "a\t", "!!a"])
def test_bad(text: str) -> None:
    with pytest.raises(FormatError, match="not a dependency"):
        Dependency.parse(text)


def test_lists() -> None:
    assert [str(entry) for entry in parse_dependencies("a  b>1\n!c")] == ["a", "b>1", "!c"]


def test_world_is_sorted_without_regard_to_case_and_later_entries_win() -> None:
    world = parse_world("zlib\nBash a=1\n\nb@edge\na>2\n")
    assert render_world(world) == "a>2\nb@edge\nBash\nzlib\n"
    assert [str(entry) for entry in merge_world(world)] == ["zlib", "Bash", "a>2", "b@edge"]
    assert parse_world(render_world(world)) == parse_world("a>2\nb@edge\nBash\nzlib")


def test_world_error_names_the_line() -> None:
    with pytest.raises(FormatError) as caught:
        parse_world("a\nb=\n")
    assert caught.value.place is not None
    assert caught.value.place.line == 2
