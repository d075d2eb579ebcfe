"""Package versions, in the order that apk-tools 2.14 puts them.

A version is read as a chain of components, each with a kind and a number: digits, one letter, suffixes such as `_rc`
(with a number of their own), and the package revision `-rN`. Two versions compare component by component; at the first
place where the *kinds* differ, the kind alone decides (`1.2` < `1.2.0`, `1.2_rc1` < `1.2` < `1.2_p1`).

That order is total over every text, so a version is turned into a tuple once and Python compares tuples. Three habits
of 2.14 are kept although they look odd (observed; `version-constraints` questions):

- a component after a dot that begins with several zeros is a fraction: `8.2.001` < `8.2.0` < `8.2.1`;
- the first component has no such rule: `01` = `1`;
- text that is not a version still has a place: it ends at the first character that does not fit, so two such texts
  that agree up to there are equal (`1.0~1234` = `1.0~2345`).
"""

from __future__ import annotations

import re
from functools import lru_cache, total_ordering

from sixsmith.errors import FormatError

__all__ = [
    "BAD_VERSION_KEY",
    "Version",
    "VersionKey",
    "compare_keys",
    "is_valid_version",
    "matches_prefix",
    "version_key",
]

VersionKey = tuple[int, ...]
"""value, rank of the next kind, value, rank, … and last the rank of the end."""

# Ranks of a component's kind, as seen by the component before it: the lower rank belongs to the lower version.
_PRE_SUFFIX = -10
_END = -6
_REVISION = -5
_SUFFIX_NUMBER = -4
_POST_SUFFIX = -3
_LETTER = -2
_DIGITS = -1
_DOTTED = 0
_NONSENSE = 1

_CARRIED = r"[^\s\x00-\x1f\x7f<>=@!]+"

_PRE_NAMES = ("alpha", "beta", "pre", "rc")
_POST_NAMES = ("cvs", "svn", "git", "hg", "p")
_MAX_DIGITS = 17  # 2.14 keeps numbers in 64 bits and calls 18 digits no number

BAD_VERSION_KEY: VersionKey = (-1, _NONSENSE)


def _split(text: str) -> tuple[list[int], bool]:
    """The key of any text, and whether all of it is a version."""
    key: list[int] = []
    kind = _DIGITS
    at, end = 0, len(text)
    while True:
        if at >= end:  # something ended in a separator: `1.`, `1.0-r`
            key += (0, _END)
            return key, True
        following: int | None = None
        if kind == _DOTTED and text[at] == "0":
            zeros = at
            while zeros < end and text[zeros] == "0":
                zeros += 1
            value = at + 1 - zeros
            at = zeros - 1  # the last zero belongs to the digits that follow
            following = _DIGITS
        elif kind in (_DOTTED, _DIGITS, _SUFFIX_NUMBER, _REVISION):
            start = at
            while at < end and "0" <= text[at] <= "9":
                at += 1
            if at - start > _MAX_DIGITS:
                key += (-1, _NONSENSE)
                return key, False
            value = int(text[start:at]) if at > start else 0
        elif kind == _LETTER:
            value = ord(text[at])
            at += 1
        else:  # a suffix
            for number, name in enumerate(_PRE_NAMES):
                if text.startswith(name, at):
                    value, at = number - len(_PRE_NAMES), at + len(name)
                    break
            else:
                for number, name in enumerate(_POST_NAMES):
                    if text.startswith(name, at):
                        value, at = number, at + len(name)
                        break
                else:
                    key[-1:] = (_PRE_SUFFIX, -1, _NONSENSE)
                    return key, False
            key[-1] = _PRE_SUFFIX if value < 0 else _POST_SUFFIX
        key.append(value)
        if at >= end:
            key.append(_END)
            return key, True
        if following is None:
            following, at = _next_kind(text, at, kind)
        key.append(following)
        if following == _NONSENSE:
            return key, False
        if following == _END:
            return key, True
        kind = following


def _next_kind(text: str, at: int, kind: int) -> tuple[int, int]:
    """The kind of component that begins at `at`, and where its own text begins."""
    letter = text[at]
    if letter == "\0":
        return _END, at
    if kind in (_DOTTED, _DIGITS) and "a" <= letter <= "z":
        return _LETTER, at
    if "0" <= letter <= "9":
        if kind == _LETTER:
            return _DIGITS, at
        if kind == _POST_SUFFIX:
            return _SUFFIX_NUMBER, at
    if letter == ".":
        # A dot continues digits only; not a letter, a suffix or a revision.
        return (_DOTTED if kind in (_DOTTED, _DIGITS) else _NONSENSE), at + 1
    if letter == "_":
        return (_NONSENSE if kind == _REVISION else _POST_SUFFIX), at + 1
    if letter == "-" and text.startswith("r", at + 1):
        return _REVISION, at + 2
    return _NONSENSE, at + 1


@lru_cache(maxsize=65536)
def version_key(text: str) -> VersionKey:
    """The tuple by which 2.14 orders `text`, valid version or not."""
    return tuple(_split(text)[0])


@lru_cache(maxsize=65536)
def is_valid_version(text: str) -> bool:
    """Whether 2.14 takes `text` after an operator; it takes the empty text, `a` and `1..2` as well."""
    return _split(text)[1]


def compare_keys(left: VersionKey, right: VersionKey) -> int:
    """-1, 0 or 1."""
    return (left > right) - (left < right)


def matches_prefix(left: VersionKey, right: VersionKey) -> int:
    """Compare as the operator `~` does: 0 when one is the beginning of the other, component by component."""
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            if number % 2 and not (one in _SUFFIX_RANKS and other in _SUFFIX_RANKS):
                return 0
            return 1 if one > other else -1
    return 0


_SUFFIX_RANKS = (_PRE_SUFFIX, _POST_SUFFIX)


@total_ordering
class Version:
    """One version of one package: ordered as apk-tools 2.14 orders it, and hashable.

    >>> Version("1.2_rc1") < Version("1.2") < Version("1.2.0") < Version("1.2-r1")
    True

    Packages in the world carry versions that 2.14 does not take after an operator (`0.1_pre2~1234abcd`) but installs
    and compares all the same; such a version is accepted here and `is_valid` is False. Raises `FormatError` for text
    that no package can carry: empty, or with whitespace, control or operator characters.
    Versions that compare equal are equal, even when spelled differently (`Version("01") == Version("1")`); `str()`
    keeps the spelling.
    """

    __slots__ = ("key", "text")

    def __init__(self, text: str) -> None:
        if not re.fullmatch(_CARRIED, text):
            raise FormatError(f"'{text}' is not a version", hint="versions look like 1.2.3, 1.2b, 1.2_rc1 or 1.2.3-r4")
        self.text = text
        self.key = version_key(text)

    @property
    def is_valid(self) -> bool:
        """Whether the whole text follows the grammar, so that it may stand after an operator."""
        return is_valid_version(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.key == other.key

    def __lt__(self, other: Version) -> bool:
        return self.key < other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"
