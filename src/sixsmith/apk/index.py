"""APKINDEX: thousands of records of which a request visits a few dozen.

The text is cut at blank lines and nothing more until someone asks. The first question about a name builds one table
(who is called so, who provides it, who has it in `install_if`) with a few byte searches for each record; a record
itself is parsed when it is visited. The same record text, with file entries after it, is a package's entry in the
installed database.

Field letters (apk-tools 2.14): `C` checksum, `P` name, `V` version, `A` arch, `S` size of the package file, `I` size
installed, `T` description, `U` url, `L` license, `o` origin, `m` maintainer, `t` build time (Unix), `c` commit,
`k` provider priority, `D` depends, `p` provides, `i` install_if.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.version import VersionKey, is_valid_version, version_key
from sixsmith.errors import FormatError

__all__ = ["Links", "Offering", "PackageIndex", "PackageRecord", "digest_of_records"]

_MAX_RECORD = 1 << 20  # bytes; the largest real one is near 60 KB
_MAX_NUMBER_DIGITS = 15
_MAX_PRIORITY = 65535
_CHECKSUM = re.compile(r"Q[12][A-Za-z0-9+/]{20,60}={0,2}")
_ODD_IN_NAME = re.compile(r"[\s\x00-\x1f\x7f/!<>=~@\\]")
_ODD_IN_WORD = re.compile(r"[\s\x00-\x1f\x7f/\\]")
_PLAIN_OFFER = re.compile(r"([^\s\x00-\x1f\x7f!@<>=~][^\s\x00-\x1f\x7f@<>=~]*)(?:=([^<>=~]+))?")


class PackageRecord:
    """What an index (or an installed database) says of one package; immutable, fields are read when asked for.

    `depends`, `provides` and `install_if` are tuples of texts as in the record; `dependencies`, `offered` and
    `triggered_by` are the same, parsed. Sizes are bytes, `build_time` is Unix time or None, `pin` is the tag (without
    `@`) under which an installed package stands. Reading a malformed field raises `FormatError` naming the record.
    """

    __slots__ = (
        "_dependencies",
        "_offered",
        "_triggers",
        "arch",
        "build_time",
        "checksum",
        "commit",
        "depends",
        "description",
        "install_if",
        "installed_size",
        "license",
        "maintainer",
        "name",
        "origin",
        "pin",
        "provider_priority",
        "provides",
        "size",
        "url",
        "version",
    )

    def __init__(
        self,
        name: str,
        version: str,
        *,
        checksum: str = "",
        arch: str = "",
        size: int = 0,
        installed_size: int = 0,
        description: str = "",
        url: str = "",
        license: str = "",
        origin: str = "",
        maintainer: str = "",
        build_time: int | None = None,
        commit: str = "",
        provider_priority: int = 0,
        depends: Iterable[str] = (),
        provides: Iterable[str] = (),
        install_if: Iterable[str] = (),
        pin: str = "",
    ) -> None:
        self.name = name
        self.version = version
        self.checksum = checksum
        self.arch = arch
        self.size = size
        self.installed_size = installed_size
        self.description = description
        self.url = url
        self.license = license
        self.origin = origin
        self.maintainer = maintainer
        self.build_time = build_time
        self.commit = commit
        self.provider_priority = provider_priority
        self.depends = tuple(depends)
        self.provides = tuple(provides)
        self.install_if = tuple(install_if)
        self.pin = pin
        self._dependencies: tuple[Dependency, ...] | None = None
        self._offered: tuple[tuple[str, VersionKey | None], ...] | None = None
        self._triggers: tuple[Dependency, ...] | None = None

    @classmethod
    def parse(cls, text: bytes | str) -> PackageRecord:
        """Read one record: `X:value` lines. File entries of an installed database (from the first `F:` on) are skipped.

        Raises `FormatError` for a missing, repeated, empty or absurd field.
        """
        if isinstance(text, bytes):
            if len(text) > _MAX_RECORD and b"\nF:" not in text[:_MAX_RECORD]:
                raise FormatError(f"an index record of {len(text)} bytes is too large")
            text = text.decode("utf-8", "surrogateescape")
        return _parse_record(text)

    @property
    def filename(self) -> str:
        """The package file's name in its repository."""
        return f"{self.name}-{self.version}.apk"

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """`depends`, parsed."""
        found = self._dependencies
        if found is None:
            found = self._dependencies = self._parsed(self.depends, "depends")
        return found

    @property
    def triggered_by(self) -> tuple[Dependency, ...]:
        """`install_if`, parsed."""
        found = self._triggers
        if found is None:
            found = self._triggers = self._parsed(self.install_if, "install_if")
        return found

    @property
    def offered(self) -> tuple[tuple[str, VersionKey | None], ...]:
        """`provides`, parsed: each name with the key of its version, None where it has none."""
        found = self._offered
        if found is None:
            try:
                found = self._offered = _offered_by(self.provides)
            except FormatError as error:
                raise self._malformed("provides", error) from None
        return found

    @property
    def offered_names(self) -> list[str]:
        """The names of `offered`."""
        return [name for name, _ in self.offered]

    @property
    def offers_twice(self) -> bool:
        """Whether any name stands twice among `offered`."""
        offered = self.offered
        return len(offered) > 1 and len({name for name, _ in offered}) < len(offered)

    @property
    def version_key(self) -> VersionKey:
        """The tuple by which the version is ordered."""
        return version_key(self.version)

    def versions_of(self, name: str) -> tuple[VersionKey | None, ...]:
        """The versions in which it is or provides `name`, its own first; None for what has no version."""
        own = (self.version_key,) if self.name == name else ()
        return (*own, *[key for offered, key in self.offered if offered == name])

    def _parsed(self, words: tuple[str, ...], field: str) -> tuple[Dependency, ...]:
        try:
            return tuple([Dependency.parse(word) for word in words])
        except FormatError as error:
            raise self._malformed(field, error) from None

    def _malformed(self, field: str, error: FormatError) -> FormatError:
        return FormatError(f"{self.name}-{self.version}: {field}: {error.message}", hint=error.hint)

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"

    def __repr__(self) -> str:
        return f"PackageRecord({str(self)!r})"


@lru_cache(maxsize=4096)
def _offered_by(provides: tuple[str, ...]) -> tuple[tuple[str, VersionKey | None], ...]:
    """What these words offer. A package is in an index and in the databases of all images that have it."""
    offered: list[tuple[str, VersionKey | None]] = []
    for word in provides:
        plain = _PLAIN_OFFER.fullmatch(word)
        if plain is None or (plain[2] is not None and not is_valid_version(plain[2])):
            entry = Dependency.parse(word)
            offered.append((entry.name, entry.version_key))
        else:
            offered.append((plain[1], None if plain[2] is None else version_key(plain[2])))
    return tuple(offered)


def _parse_record(text: str) -> PackageRecord:
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        letter = line[:2]
        if letter == "F:":
            break
        if len(letter) != 2 or letter[1] != ":":
            if line.strip():
                raise FormatError(f"{_called(fields)}: '{line[:60]}' is not a field")
            continue
        if letter in fields:
            raise FormatError(f"{_called(fields)}: field '{letter[0]}' stands twice")
        fields[letter] = line[2:]
    for letter, what in (("P:", "name"), ("V:", "version"), ("C:", "checksum")):
        if not fields.get(letter):
            raise FormatError(f"{_called(fields)}: it has no {what}")
    name, version, checksum = fields["P:"], fields["V:"], fields["C:"]
    if _ODD_IN_NAME.search(name) or name in (".", "..") or name.startswith("-") or len(name) > 255:
        raise FormatError(f"{name!r} is not a package name")
    if _ODD_IN_WORD.search(version) or len(version) > 255:
        raise FormatError(f"{name}: {version!r} is not a version")
    if not _CHECKSUM.fullmatch(checksum):
        raise FormatError(f"{name}-{version}: {checksum!r} is not a checksum")
    arch = fields.get("A:", "")
    if _ODD_IN_WORD.search(arch):
        raise FormatError(f"{name}-{version}: {arch!r} is not an architecture")
    priority = _number(fields, "k:") or 0
    if priority > _MAX_PRIORITY:
        raise FormatError(f"{name}-{version}: provider priority {priority} is out of range")
    get = fields.get
    return PackageRecord(
        name,
        version,
        checksum=checksum,
        arch=arch,
        size=_number(fields, "S:") or 0,
        installed_size=_number(fields, "I:") or 0,
        description=get("T:", ""),
        url=get("U:", ""),
        license=get("L:", ""),
        origin=get("o:", ""),
        maintainer=get("m:", ""),
        build_time=_number(fields, "t:"),
        commit=get("c:", ""),
        provider_priority=priority,
        depends=get("D:", "").split(),
        provides=get("p:", "").split(),
        install_if=get("i:", "").split(),
        pin=get("s:", "").lstrip("@"),
    )


def _number(fields: dict[str, str], letter: str) -> int | None:
    text = fields.get(letter)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_NUMBER_DIGITS:
        raise FormatError(f"{_called(fields)}: field '{letter[0]}' is {text[:40]!r}, not a sensible number")
    return int(text)


def _called(fields: dict[str, str]) -> str:
    """How an error names the record."""
    name, version = fields.get("P:"), fields.get("V:")
    if name:
        return f"{name}-{version}" if version else name
    return "an index record"


Links = tuple[str, list[str], list[str]]
"""A record's name, the names that it depends on, the names that it provides."""


Offering = tuple[PackageRecord, tuple[VersionKey | None, ...]]
"""A record, and the versions in which it is or provides the name that was asked for."""


class _Mentions:
    """For each name, the byte offsets of the lines that mention it. Most names are mentioned once, so the first offset is
    kept bare: twenty thousand small lists would cost more than all the searching.
    """

    __slots__ = ("first", "more")

    def __init__(self) -> None:
        self.first: dict[bytes, int] = {}
        self.more: dict[bytes, list[int]] = {}

    def get(self, name: bytes) -> list[int]:
        first = self.first.get(name)
        if first is None:
            return []
        more = self.more.get(name)
        return [first, *more] if more else [first]


class PackageIndex(Sequence[PackageRecord]):
    """The packages of one repository and architecture, in file order.

    An index never changes, so what was asked of it once is remembered: the cells of a family ask the same of it.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._digest = ""
        self._is_made = False
        self._records: dict[int, PackageRecord] = {}
        self._providing: dict[str, list[int]] = {}
        self._offering: dict[str, list[Offering]] = {}
        self._awaiting: dict[str, list[int]] = {}
        self._sole: dict[str, str | None] = {}
        self._awaited_names: frozenset[str] | None = None
        self._links: dict[int, Links] = {}
        self._mention: dict[str, int | None] = {}
        self._starts_: list[int] | None = None
        self._named: _Mentions | None = None
        self._offered: _Mentions | None = None
        self._awaited: _Mentions | None = None

    @classmethod
    def parse(cls, apkindex_text: bytes) -> PackageIndex:
        """The index in the bytes of an APKINDEX file. Takes no signature; verify before.

        Nothing is read yet: a malformed record raises `FormatError` when it is visited (`validate()` visits all).
        """
        return cls(b"\n\n" + apkindex_text.strip(b"\n") + b"\n")

    @classmethod
    def of(cls, records: Iterable[PackageRecord]) -> PackageIndex:
        """An index of records that exist already (an installed database, a test)."""
        kept = list(records)
        texts = [_names_of(record) for record in kept]
        index = cls(b"\n\n" + b"\n\n".join(texts) + b"\n")
        index._is_made = True
        index._records = dict(zip(accumulate([len(text) + 2 for text in texts], initial=2), kept, strict=False))
        return index

    @property
    def digest(self) -> str:
        """Of all that the index says: two with one digest answer every question alike."""
        if not self._digest:
            self._digest = digest_of_records(self) if self._is_made else sha256(self._text).hexdigest()
        return self._digest

    @property
    def _starts(self) -> list[int]:
        """Offset of each record's first byte."""
        starts = self._starts_
        if starts is None:
            starts = []
            at = 0
            for part in self._text.split(b"\n\n"):
                if part and not part.isspace():
                    starts.append(at + len(part) - len(part.lstrip(b"\n")))
                at += len(part) + 2
            self._starts_ = starts
        return starts

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, position: int) -> PackageRecord:  # type: ignore[override]  # slices are of no use here
        return self.at(self._starts[position])

    def __iter__(self) -> Iterator[PackageRecord]:
        return map(self.at, self._starts)

    def at(self, place: int) -> PackageRecord:
        """The record at a place that a search gave; always the same value for one place."""
        record = self._records.get(place)
        if record is None:
            record = self._records[place] = PackageRecord.parse(self._record_text(place))
        return record

    def _record_text(self, place: int) -> bytes:
        end = self._text.find(b"\n\n", place)
        return self._text[place : end if end >= 0 else len(self._text)]

    def validate(self) -> None:
        """Visit every record and every list in it. Raises `FormatError` for the first malformed one."""
        for record in self:
            record.dependencies, record.offered, record.triggered_by  # noqa: B018  # reading them checks them

    def named(self, name: str) -> list[int]:
        """Places of the packages called `name`."""
        return self._places(self._names().get(_key(name)))

    def find(self, name: str) -> list[PackageRecord]:
        """The packages called `name`, in file order."""
        return [self.at(place) for place in self.named(name)]

    def providing(self, name: str) -> list[int]:
        """Places of the packages that are called `name` or provide it, in file order; each once. The list is not to be changed."""
        found = self._providing.get(name)
        if found is None:
            key = _key(name)
            called = self._names().get(key)
            offered = self._offers().get(key)
            both = sorted(called + offered) if called and offered else called or offered
            found = self._providing[name] = self._places(both)
        return found

    def offering(self, name: str) -> list[Offering]:
        """The records at `providing(name)`, each with what it provides the name as. The list is not to be changed."""
        found = self._offering.get(name)
        if found is None:
            records = [self.at(place) for place in self.providing(name)]
            found = self._offering[name] = [(record, record.versions_of(name)) for record in records]
        return found

    def awaiting(self, name: str) -> list[int]:
        """Places of the packages that have `name` in `install_if`, in file order. The list is not to be changed."""
        found = self._awaiting.get(name)
        if found is None:
            found = self._awaiting[name] = self._places(self._triggers().get(_key(name)))
        return found

    def awaited_names(self) -> frozenset[str]:
        """Every name that `awaiting` may find something for."""
        if self._awaited_names is None:
            self._awaited_names = frozenset(name.decode("utf-8", "surrogateescape") for name in self._triggers().first)
        return self._awaited_names

    def sole_provider(self, name: str) -> str | None:
        """The checksum of the one package that is called `name` or provides it; "" for none, None for several."""
        if name not in self._sole:
            checksums = {self.at(place).checksum for place in self.providing(name)}
            self._sole[name] = None if len(checksums) > 1 else next(iter(checksums), "")
        return self._sole[name]

    def trigger_names(self, place: int) -> list[str]:
        """What the record at `place` has in `install_if`: the names alone, without those it excludes."""
        record = self._records.get(place)
        if record is not None:
            return [entry.name for entry in record.triggered_by if not entry.conflict]
        text = self._record_text(place)
        at = text.find(b"\ni:")
        if at < 0:
            return []
        words = text[at + 3 :].partition(b"\n")[0].decode("utf-8", "surrogateescape").split()
        return [_END_OF_NAME.split(word, maxsplit=1)[0] for word in words if not word.startswith("!")]

    def links(self, place: int) -> Links:
        """Name, names depended on and names provided of the record at `place`, without reading the rest of it."""
        found = self._links.get(place)
        if found is None:
            found = self._links[place] = self._read_links(place)
        return found

    def _read_links(self, place: int) -> Links:
        record = self._records.get(place)
        if record is not None:
            needed = [entry.name for entry in record.dependencies]
            return record.name, needed, [name for name, _ in record.offered]
        own = ""
        needed, offered = [], []
        for line in self._record_text(place).decode("utf-8", "surrogateescape").split("\n"):
            letter = line[:2]
            if letter == "P:":
                own = line[2:]
            elif letter == "D:":
                needed = [_END_OF_NAME.split(word.lstrip("!"), maxsplit=1)[0] for word in line[2:].split()]
            elif letter == "p:":
                offered = [_END_OF_NAME.split(word, maxsplit=1)[0] for word in line[2:].split()]
        return own, needed, offered

    def names(self) -> Iterator[str]:
        """Every package name, for hints."""
        return (name.decode("utf-8", "surrogateescape") for name in self._names().first)

    def offered_names(self) -> Iterator[str]:
        """Every provided name, for hints."""
        return (name.decode("utf-8", "surrogateescape") for name in self._offers().first)

    def mention(self, name: str) -> int | None:
        """The offset at which `name` is written first as a package, a dependency or a provided name."""
        if name not in self._mention:
            self._mention[name] = self._first_mention(name)
        return self._mention[name]

    def _first_mention(self, name: str) -> int | None:
        text, key = self._text, _key(name)
        at = text.find(key)
        while at >= 0:
            if text[at - 1] in _BEFORE_NAME and text[at + len(key) : at + len(key) + 1] in _AFTER_NAME:
                line = text.rfind(b"\n", 0, at) + 1
                if text[line : line + 2] in _NAMING:
                    return at
            at = text.find(key, at + 1)
        return None

    def _places(self, offsets: list[int]) -> list[int]:
        """Where the records of some lines begin, each once."""
        text = self._text
        return list(dict.fromkeys([text.rfind(b"\n\n", 0, offset + 1) + 2 for offset in offsets]))

    def _names(self) -> _Mentions:
        if self._named is None:
            self._named = mentions = _Mentions()
            first = mentions.first
            for found in _NAME_LINE.finditer(self._text):
                name, offset = found[1], found.start()
                if first.setdefault(name, offset) != offset:
                    mentions.more.setdefault(name, []).append(offset)
        return self._named

    def _offers(self) -> _Mentions:
        if self._offered is None:
            self._offered = _words_of(self._text, _OFFER_LINE)
        return self._offered

    def _triggers(self) -> _Mentions:
        if self._awaited is None:
            self._awaited = _words_of(self._text, _TRIGGER_LINE)
        return self._awaited


_NAMING = (b"P:", b"D:", b"p:", b"i:")
_BEFORE_NAME = b" :!"
_AFTER_NAME = (b"", b" ", b"\n", b"<", b">", b"=", b"~", b"@")
_END_OF_NAME = re.compile(r"[<>=~@]")
_NAME_LINE = re.compile(rb"\nP:(.*)")
_OFFER_LINE = re.compile(rb"\np:(.*)")
_TRIGGER_LINE = re.compile(rb"\ni:(.*)")
_ODD_WORD = re.compile(rb"[<>~@]")


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _words_of(text: bytes, line: re.Pattern[bytes]) -> _Mentions:
    """The names in all lists that `line` finds."""
    mentions = _Mentions()
    setdefault = mentions.first.setdefault
    for found in line.finditer(text):
        words, offset = found[1], found.start()
        for word in words.split():
            name = word.partition(b"=")[0]
            if setdefault(name, offset) != offset:
                mentions.more.setdefault(name, []).append(offset)
        if (
            b"!" in words or b"~" in words or b"<" in words or b">" in words or b"@" in words
        ):  # operators other than `=`, pins and conflicts: rare, and listed once more
            for word in words.split():
                name = _ODD_WORD.split(word.lstrip(b"!"), maxsplit=1)[0].partition(b"=")[0]
                if setdefault(name, offset) != offset:
                    mentions.more.setdefault(name, []).append(offset)
    return mentions


def digest_of_records(records: Iterable[PackageRecord]) -> str:
    """Of all that these records say, in their order."""
    said = [[str(getattr(record, name)) for name in _SAID] for record in records]
    return sha256(repr(said).encode("utf-8", "surrogateescape")).hexdigest()


_SAID = [name for name in PackageRecord.__slots__ if not name.startswith("_")]


def _names_of(record: PackageRecord) -> bytes:
    lines = [f"P:{record.name}"]
    for letter, words in (("D", record.depends), ("p", record.provides), ("i", record.install_if)):
        if words:
            lines.append(f"{letter}:{' '.join(words)}")
    return "\n".join(lines).encode("utf-8", "surrogateescape")
