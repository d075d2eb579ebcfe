"""Order and validity of versions, as apk-tools 2.14 has them."""

from __future__ import annotations

import itertools

import pytest

from sixsmith.apk.version import Version, is_valid_version
from sixsmith.errors import FormatError

ASCENDING = [
    "0.1_alpha",
    "0.1_alpha2",
    "0.1_beta",
    "0.1_pre",
    "0.1_rc1",
    "0.1_rc1-r1",
    "0.1_rc2",
    "0.1",
    "0.1-r0",
    "0.1-r1",
    "0.1-r10",
    "0.1_cvs",
    "0.1_git",
    "0.1_p1",
    "0.1_p2",
    "0.1a",
    "0.1b",
    "0.1.0",
    "0.1.1",
    "0.2",
    "0.10",
    "1",
    "1.0",
]


@pytest.mark.parametrize(("low", "high"), list(itertools.combinations(ASCENDING, 2)))
def test_order(low: str, high: str) -> None:
    assert Version(low) < Version(high)
    assert not Version(high) < Version(low)
    assert Version(low) != Version(high)


@pytest.mark.parametrize(
    ("low", "high"),
    [("8.2.001", "8.2.0"), ("8.2.001", "8.2.01"), ("1.01", "1.1"), ("1.0", "1.0.1")],
)
def test_several_zeros_after_a_dot_make_a_fraction(low: str, high: str) -> None:
    assert Version(low) < Version(high)


@pytest.mark.parametrize(("one", "other"), [("01", "1"), ("1.0~1234", "1.0~2345"), ("1.0~1", "1.0~2")])
def test_equal_although_spelled_differently(one: str, other: str) -> None:
    assert Version(one) == Version(other)
    assert hash(Version(one)) == hash(Version(other))
    assert str(Version(one)) == one


@pytest.mark.parametrize(
    "text", ["1", "1.2.3", "1.2b", "1.2_rc1", "1.2_git20220219-r2", "1.2_p1_pre2", "1.", "1..2", "1-r"]
)
def test_valid(text: str) -> None:
    assert is_valid_version(text)


@pytest.mark.parametrize(
    "text", ["1.0bc", "1_post1", "1.0~1", "0.1__alpha", "0.1a.1", "1-r1.2", "-1", "1_p1-x", "1" * 18]
)
def test_not_valid_but_orderable(text: str) -> None:
    assert not Version(text).is_valid
    assert sorted([Version("999"), Version(text)])


@pytest.mark.parametrize("text", ["", " ", "1 2", "1\n", "1>2", "=1", "1!", "\x00"])
def test_what_no_package_can_carry(text: str) -> None:
    with pytest.raises(FormatError, match="not a version"):
        Version(text)
