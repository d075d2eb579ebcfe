"""What a package or a request asks for: `name`, `name>=1.2`, `!name`, `name@edge`.

The same text serves in `depends`, `provides`, `install_if`, on the command line and in `etc/apk/world`. The rules are
those of apk-tools 2.14 (observed, and `version-constraints` questions):

- operators are read letter by letter, so `=>`, `>=` and `>==` are one; `~` asks for a common beginning, `<~` and `>~`
  take lower or higher versions too; `<` and `>` together compare package checksums, not versions;
- what is provided without a version satisfies no versioned dependency, and every unversioned one;
- a version that does not follow the grammar makes the dependency bad.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from sixsmith.apk.version import Version, VersionKey, compare_keys, is_valid_version, matches_prefix, version_key
from sixsmith.errors import FormatError, Place

__all__ = ["Dependency", "merge_world", "parse_dependencies", "parse_world", "render_world", "world_order"]

_EQUAL, _LESS, _GREATER, _FUZZY = 1, 2, 4, 8
_ANY = 15
_CHECKSUM = _LESS | _GREATER
_BITS = {"=": _EQUAL, "<": _LESS, ">": _GREATER, "~": _FUZZY | _EQUAL}
_RENDERED = {
    _LESS: "<",
    _LESS | _EQUAL: "<=",
    _EQUAL: "=",
    _GREATER | _EQUAL: ">=",
    _GREATER: ">",
    _CHECKSUM: "><",
    _FUZZY | _EQUAL: "~",
    _FUZZY | _EQUAL | _LESS: "<~",
    _FUZZY | _EQUAL | _GREATER: ">~",
}
_PARTS = re.compile(r"(!?)([^<>=~]*)(?:([<>=~]+)(.*))?", re.DOTALL)
_NAME = re.compile(r"[^\s\x00-\x1f\x7f!@<>=~][^\s\x00-\x1f\x7f@<>=~]*")
_PIN = r"[^\s\x00-\x1f\x7f@<>=~]+"


class Dependency:
    """One asked-for thing; immutable.

    name: package, `so:`, `cmd:`, `pc:` name or path. operator: as spelled, "" for any version. version: text, "" for
    any. conflict: the `!` form. pin: repository tag without `@`, or "".
    """

    __slots__ = ("_hash", "conflict", "mask", "name", "operator", "pin", "version", "version_key")

    name: str
    operator: str
    version: str
    conflict: bool
    pin: str
    mask: int
    version_key: VersionKey | None

    def __init__(
        self, name: str, operator: str = "", version: str = "", *, conflict: bool = False, pin: str = ""
    ) -> None:
        self.name = name
        self.operator = operator
        self.version = version
        self.conflict = conflict
        self.pin = pin
        self.mask = _mask(operator)
        self.version_key = version_key(version) if operator else None
        self._hash = hash((name, self.mask, version, conflict, pin))

    @classmethod
    def parse(cls, text: str) -> Dependency:
        """Read one dependency; the value of equal texts is shared.

        Raises `FormatError` for an empty or odd name, an operator without a version, and a version that 2.14 does not
        take.
        """
        return _parse(text)

    @property
    def is_checksum(self) -> bool:
        """Whether this names one package file (`name><Q1…`) instead of a version."""
        return self.mask == _CHECKSUM

    def accepts(self, version: Version | str | None, checksum: str | None = None) -> bool:
        """Whether a package (or a provided name) with this version fulfils the dependency.

        `None` stands for something provided without a version. A conflict is fulfilled by what it does not name.
        A checksum dependency looks at `checksum` only, conflict or not (a habit of 2.14).
        """
        if version is None:
            return self.accepts_key(None, checksum)
        return self.accepts_key(version.key if isinstance(version, Version) else version_key(version), checksum)

    def accepts_key(self, key: VersionKey | None, checksum: str | None = None) -> bool:
        """`accepts` for a version that has been read already."""
        mask = self.mask
        if mask == _ANY:
            return not self.conflict
        if mask == _CHECKSUM:
            return checksum is not None and checksum == self.version
        wanted = self.version_key
        if key is None or wanted is None:
            return self.conflict
        order = matches_prefix(key, wanted) if mask & _FUZZY else compare_keys(key, wanted)
        bit = _EQUAL if not order else _LESS if order < 0 else _GREATER
        return bool(mask & bit) != self.conflict

    @property
    def wants(self) -> str:
        """The text without pin and conflict mark: `name>=1.2`."""
        return f"{self.name}{_RENDERED.get(self.mask, self.operator)}{self.version}" if self.operator else self.name

    def __str__(self) -> str:
        pin = f"@{self.pin}" if self.pin else ""
        rest = f"{_RENDERED.get(self.mask, self.operator)}{self.version}" if self.operator else ""
        return f"{'!' if self.conflict else ''}{self.name}{pin}{rest}"

    def __repr__(self) -> str:
        return f"Dependency.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Dependency)
            and self.name == other.name
            and self.mask == other.mask
            and self.version == other.version
            and self.conflict == other.conflict
            and self.pin == other.pin
        )

    def __hash__(self) -> int:
        return self._hash


def _mask(operator: str) -> int:
    mask = 0
    for letter in operator:
        mask |= _BITS[letter]
    return mask or _ANY


@lru_cache(maxsize=65536)
def _parse(text: str) -> Dependency:
    parts = _PARTS.fullmatch(text)
    assert parts is not None  # the pattern matches every text
    mark, named, operator, version = parts.groups()
    name, at, pin = named.partition("@")
    if not _NAME.fullmatch(name):
        raise FormatError(f"'{text}' is not a dependency: '{name}' is no name", hint=_FORM)
    if at and not re.fullmatch(_PIN, pin):
        raise FormatError(f"'{text}' is not a dependency: '@{pin}' is no pin", hint=_FORM)
    if operator:
        if not version:
            raise FormatError(f"'{text}' is not a dependency: no version after '{operator}'", hint=_FORM)
        if _mask(operator) & _CHECKSUM != _CHECKSUM and not is_valid_version(version):
            raise FormatError(f"'{text}' is not a dependency: '{version}' is not a version", hint=_FORM)
    return Dependency(name, operator or "", version or "", conflict=bool(mark), pin=pin)


_FORM = "dependencies look like name, name>=1.2, name@pin, !name"


def parse_dependencies(text: str) -> tuple[Dependency, ...]:
    """Read a list separated by spaces or newlines. Raises `FormatError`."""
    return tuple(_parse(word) for word in text.split())


def parse_world(text: str) -> tuple[Dependency, ...]:
    """Read `etc/apk/world`: one dependency a line (or several, between spaces), in file order.

    Raises `FormatError` that names the line.
    """
    world: list[Dependency] = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in line.split():
            try:
                world.append(_parse(word))
            except FormatError as error:
                place = Place("etc/apk/world", number)
                raise FormatError(error.message, place=place, hint=error.hint) from None
    return tuple(world)


def world_order(dependency: Dependency) -> tuple[bytes, bytes]:
    """The order of world entries: by name, first without regard to case, then with it."""
    name = dependency.name.encode("utf-8", "surrogateescape")
    return name.lower(), name


def render_world(world: Iterable[Dependency]) -> str:
    """The text of `etc/apk/world`: sorted, one a line, one entry for each name (the last one given wins)."""
    return "".join(f"{entry}\n" for entry in sorted(merge_world(world), key=world_order))


def merge_world(world: Iterable[Dependency]) -> tuple[Dependency, ...]:
    """One entry for each name: a later one takes the place of an earlier one, as with `apk add`."""
    by_name: dict[str, Dependency] = {}
    for entry in world:
        by_name[entry.name] = entry
    return tuple(by_name.values())
