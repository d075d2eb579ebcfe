"""Names, packages, and who provides what: the part of the world that one request can see.

Nothing is read before it is asked for. A `Name` finds its providers when it is first mentioned, a `Package` parses its
record's lists when it is first considered; a request over 20,000 records touches some hundred of them.

Two orders matter, because apk's choices and its install order follow them:

- providers of a name stand in the order in which apk meets them: installed packages, then the repositories in their
  order, each in file order; a package that comes again (same checksum) only gains a repository;
- names that depend on one name stand in the order of apk's table of names: by hash bucket, and in one bucket the name
  met last stands first.

Most of what packages provide nobody ever asks for: busybox alone provides three hundred commands. A provided name that no
other package provides is *quiet* until somebody mentions it: there is no `Name` for it, and whatever would have happened
to it is caught up with when it is mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.apk.version import VersionKey
from sixsmith.solver.discovery import discovery_order

__all__ = ["Name", "Package", "Provider", "SolverRepository", "Universe", "bucket_of"]

_BUCKETS = 20000  # apk's table of names
_SEED = 5381


class SolverRepository(msgspec.Struct, frozen=True):
    """One index as the solver sees it. `pin` is the tag without `@`; None or "" for a repository that serves everyone."""

    index: PackageIndex
    name: str = ""
    pin: str | None = None


class Package:
    """One package file, wherever it is available, and what the solver thinks of it."""

    __slots__ = (
        "_awaited_by",
        "_contested",
        "_live",
        "_name",
        "_needs",
        "_offers",
        "_triggers",
        "allowed_pins",
        "available",
        "broken",
        "conflicts",
        "depth",
        "flags",
        "handed_flags",
        "in_change",
        "installed",
        "installed_pin",
        "is_decided",
        "is_settled",
        "marked",
        "merged",
        "pin_ok",
        "pin_preferred",
        "priority",
        "reached",
        "record",
        "repositories",
        "seen",
        "selectable",
        "trace",
        "trigger_failed",
        "triggered",
        "universe",
        "used",
        "version",
    )

    def __init__(self, universe: Universe, record: PackageRecord) -> None:
        self.universe = universe
        self.record = record
        self.version = record.version_key
        self.priority = record.provider_priority
        self.repositories = 0  # a bit for each repository that has it; the first is bit 1
        self.installed = False
        self.installed_pin = 0
        self._name: Name | None = None
        self._needs: tuple[tuple[Name, Dependency], ...] | None = None
        self._triggers: tuple[tuple[Name, Dependency], ...] | None = None
        self._offers: tuple[tuple[Name, VersionKey | None], ...] | None = None
        self._contested: tuple[tuple[Name, VersionKey | None], ...] | None = None
        self._live: tuple[tuple[Name, VersionKey | None], ...] | None = None
        self._awaited_by: tuple[Name, ...] | None = None
        # what choosing writes
        self.seen = False
        self.reached = False
        self.selectable = False
        self.available = False
        self.pin_ok = False
        self.pin_preferred = False
        self.allowed_pins = 0
        self.conflicts = 0
        self.triggered = False
        self.trigger_failed = False
        self.merged = False
        self.used = False
        self.flags = 0
        self.handed_flags = 0
        self.depth = 0
        self.is_decided = False  # it stands for all that it provides
        # what the transaction and the complaint write
        self.is_settled = False  # the changes to all that it provides are done
        self.broken = False
        self.in_change = False
        self.marked = False
        self.trace = 0

    @property
    def name(self) -> Name:
        """The package's own name."""
        found = self._name
        if found is None:
            found = self._name = self.universe.name(self.record.name)
        return found

    @property
    def needs(self) -> tuple[tuple[Name, Dependency], ...]:
        """`depends`, with their names."""
        found = self._needs
        if found is None:
            name = self.universe.name
            found = self._needs = tuple([(name(entry.name), entry) for entry in self.record.dependencies])
        return found

    @property
    def triggers(self) -> tuple[tuple[Name, Dependency], ...]:
        """`install_if`, with their names."""
        found = self._triggers
        if found is None:
            name = self.universe.name
            found = self._triggers = tuple([(name(entry.name), entry) for entry in self.record.triggered_by])
        return found

    @property
    def offers(self) -> tuple[tuple[Name, VersionKey | None], ...]:
        """`provides`, with their names; the version is None for an unversioned one."""
        found = self._offers
        if found is None:
            name = self.universe.name
            found = self._offers = tuple([(name(text), key) for text, key in self.record.offered])
        return found

    @property
    def contested(self) -> tuple[tuple[Name, VersionKey | None], ...]:
        """Those of `offers` that others provide, too."""
        found = self._contested
        if found is None:
            found = self._contested = tuple(
                [(name, key) for name, key in self.live if any(package is not self for package, _ in name.providers)]
            )
        return found

    @property
    def live(self) -> tuple[tuple[Name, VersionKey | None], ...]:
        """Those of `offers` that are not quiet, as of now."""
        found = self._live
        if found is None:
            found = self._live = self._find_live()
        return found

    def _find_live(self) -> tuple[tuple[Name, VersionKey | None], ...]:
        record, universe = self.record, self.universe
        if record.offers_twice:
            return self.offers
        names = universe.names
        found = []
        for text, key in record.offered:
            name = names.get(text)
            # its own name, which it may provide again, is never quiet
            if name is None and (text == record.name or universe.is_contested(text, record.checksum)):
                name = universe.name(text)
            if name is not None:
                found.append((name, key))
        return tuple(found)

    @property
    def awaited_by(self) -> tuple[Name, ...]:
        """Names that wait for the package's name, then those that wait for what it provides; some may come again."""
        found = self._awaited_by
        if found is None:
            waiting = list(self.name.awaited_by)
            for text, _ in self.record.offered:
                if text in self.universe.awaited:
                    waiting += self.universe.name(text).awaited_by
            found = self._awaited_by = tuple(waiting)
        return found

    @property
    def reach(self) -> int:
        """The repositories that count for pins: those that have it, and those of its pin when installed."""
        if self.installed:
            return self.repositories | self.universe.pins[self.installed_pin][1]
        return self.repositories

    def __repr__(self) -> str:
        return f"<{self.record}>"


Provider = tuple[Package, VersionKey | None]


class Name:
    """One name that can be asked for, and what the solver knows of it."""

    __slots__ = (
        "_awaited_by",
        "auto",
        "change_done",
        "chosen",
        "chosen_version",
        "depth",
        "discovered",
        "has_options",
        "has_virtual",
        "installed",
        "installed_name",
        "locked",
        "merge_needs",
        "merge_offers",
        "needed_by",
        "options",
        "providers",
        "queued",
        "rank",
        "recheck_needs",
        "recheck_triggers",
        "requested",
        "requirers",
        "seen",
        "settled_above",
        "state",
        "text",
        "ticket",
        "triggered",
        "universe",
        "untriggerable",
    )

    def __init__(self, universe: Universe, text: str) -> None:
        self.universe = universe
        self.text = text
        self.providers: list[Provider] = []
        self._awaited_by: tuple[Name, ...] | None = None
        self.needed_by: list[Name] = []  # filled by Universe.link
        self.rank = 0
        self.requested = False
        # what choosing writes
        self.seen = False
        self.requirers = 0
        self.locked = False
        self.chosen: Package | None = None
        self.chosen_version: VersionKey | None = None
        self.recheck_needs = False
        self.recheck_triggers = False
        self.triggered = False
        self.untriggerable = False
        self.has_options = False
        self.options = 1
        self.settled_above = False
        self.depth = 0
        self.discovered = 0
        self.auto = False
        self.merge_needs = 0
        self.merge_offers = 0
        self.has_virtual = False
        self.queued = False
        self.ticket = 0
        # what the transaction and the complaint write
        self.installed: Package | None = None
        self.installed_name: Name | None = None
        self.change_done = False
        self.state = 0

    @property
    def awaited_by(self) -> tuple[Name, ...]:
        """Names of packages (and of what they provide) that have this name in `install_if`, in apk's order."""
        found = self._awaited_by
        if found is None:
            found = self._awaited_by = self.universe.names_awaiting(self.text)
        return found

    def satisfies(self, wanted: Dependency) -> bool:
        """Whether what was chosen for this name fulfils `wanted`."""
        chosen = self.chosen
        if chosen is None:
            return wanted.conflict
        return wanted.accepts_key(self.chosen_version, chosen.record.checksum)

    def __repr__(self) -> str:
        return f"<{self.text}>"


class Universe:
    """Everything that one request can see."""

    def __init__(
        self,
        repositories: Sequence[SolverRepository],
        installed: Sequence[PackageRecord] = (),
        *,
        pins: Iterable[str] = (),
        earlier_names: Iterable[str] = (),
    ) -> None:
        self.names: dict[str, Name] = {}
        self.repositories: list[SolverRepository] = []
        self.pins: list[tuple[str, int]] = [("", 0)]
        """The tags in the order in which apk meets them, each with the mask of its repositories; the first is none."""
        self._pin_numbers = {"": 0}
        self._packages: dict[str, Package] = {}
        self._reached: set[str] = set()
        self._waiting: dict[str, dict[Name, None]] | None = None
        self._earlier = {name: number for number, name in enumerate(earlier_names)}
        for pin in pins:
            self.pin_number(pin)
        self.installed_index = _index_of(tuple(installed))
        self.installed: list[Package] = []
        for record in installed:
            package = self._package(record, 0)
            package.installed = True
            package.installed_pin = self.pin_number(record.pin)
            self.installed.append(package)
        self._add_repositories(repositories)
        self._sources: list[tuple[PackageIndex, int]] = [(self.installed_index, 0)] if installed else []
        self._sources += [(repository.index, 2 << number) for number, repository in enumerate(self.repositories)]
        self.awaited = frozenset[str]().union(*[index.awaited_names() for index, _ in self._sources])
        """Names that anything has in `install_if`."""

    def _add_repositories(self, repositories: Sequence[SolverRepository]) -> None:
        known: dict[str, int] = {}
        for repository in repositories:
            number = known.get(repository.name) if repository.name else None
            if number is None:  # a repository that is listed again only serves one pin more
                number = len(self.repositories)
                self.repositories.append(repository)
                if repository.name:
                    known[repository.name] = number
            pin = self.pin_number(repository.pin or "")
            text, mask = self.pins[pin]
            self.pins[pin] = (text, mask | 2 << number)

    def pin_number(self, pin: str) -> int:
        """The number of a tag; a new one if it was not met before."""
        number = self._pin_numbers.get(pin)
        if number is None:
            number = self._pin_numbers[pin] = len(self.pins)
            self.pins.append((pin, 0))
        return number

    def served(self, pins: int) -> int:
        """The mask of the repositories that serve a set of tags."""
        if pins == 1:
            return self.pins[0][1]
        mask = 0
        for number, (_, repositories) in enumerate(self.pins):
            if pins >> number & 1:
                mask |= repositories
        return mask

    def pin_of(self, package: Package) -> int:
        """The number of the tag under which the package is chosen: the first that it may have and that serves it."""
        reach = package.reach
        for number, (_, repositories) in enumerate(self.pins):
            if package.allowed_pins >> number & 1 and repositories & reach:
                return number
        return 0

    def repository_of(self, package: Package) -> SolverRepository | None:
        """The first repository that has the package."""
        mask = package.repositories
        if not mask:
            return None
        return self.repositories[(mask & -mask).bit_length() - 2]

    def name(self, text: str) -> Name:
        """The name, with its providers."""
        found = self.names.get(text)
        if found is not None:
            return found
        found = self.names[text] = Name(self, text)
        providers = found.providers
        met: set[str] = set()
        own = others = 0
        for index, bit in self._sources:
            for record, versions in index.offering(text):
                package = self._package(record, bit)
                if record.checksum in met:
                    continue
                met.add(record.checksum)
                if package.record is not record:
                    record, versions = package.record, package.record.versions_of(text)
                providers += [(package, version) for version in versions]
                if record.name == text:
                    own += len(versions)
                else:
                    others += len(versions)
        found.rank = 0 if not others else 1 if own else 2
        for package, _ in providers:
            package._live = None  # one of its names is not quiet any more
        if len(providers) == 1 and not own:
            self._catch_up(found, *providers[0])
        return found

    def is_contested(self, text: str, checksum: str) -> bool:
        """Whether anything but the package with this checksum is called `text` or provides it."""
        for index, _ in self._sources:  # noqa: SIM110  # asked of every provided name: a generator takes twice as long
            if index.sole_provider(text) not in ("", checksum):
                return True
        return False

    def _catch_up(self, name: Name, package: Package, version: VersionKey | None) -> None:
        """What has happened to a name while it was quiet; `package` alone provides it."""
        if package.is_decided:
            name.locked, name.chosen, name.chosen_version = True, package, version
        if package.installed and version is not None:
            name.installed_name = package.name
        name.change_done = package.is_settled

    def _package(self, record: PackageRecord, bit: int) -> Package:
        package = self._packages.get(record.checksum)
        if package is None:
            package = self._packages[record.checksum] = Package(self, record)
        package.repositories |= bit
        return package

    def names_awaiting(self, text: str) -> tuple[Name, ...]:
        """Names whose providers have `text` in `install_if`, in apk's order.

        After `narrow`, only of packages that it has let through.
        """
        if self._waiting is not None:
            waiting = self._waiting.get(text)
            return tuple(self.in_table_order(list(waiting))) if waiting else ()
        texts: set[str] = set()
        for index, _ in self._sources:
            for place in index.awaiting(text):
                record = index.at(place)
                texts.add(record.name)
                texts.update(offered for offered, _ in record.offered)
        return tuple(self.in_table_order([self.name(found) for found in texts]))

    def narrow(self) -> None:
        """From now on, let only packages wait of which all triggers are within reach.

        A thousand packages may wait for `openrc` or `docs`, each for one more package that the request never touches.
        They cannot be triggered, so looking at them (and at all that they depend on) changes nothing.
        """
        self._waiting = {}
        for package in self.installed:
            if package.record.install_if:
                self._let_wait(package)

    def _let_wait(self, package: Package) -> None:
        assert self._waiting is not None  # narrow() was called
        names = [package.name, *(name for name, _ in package.offers)]
        for entry in package.record.triggered_by:
            self._waiting.setdefault(entry.name, {}).update(dict.fromkeys(names))

    def reach(self, package: Package) -> list[Name]:
        """Note that what the package is and provides may be chosen; the names that may be triggered now and could not before.

        In the order of the package's names, then of apk's table.
        """
        if package.reached:
            return []
        package.reached = True
        reached, awaited = self._reached, self.awaited
        record = package.record
        texts = (record.name, *[text for text, _ in record.offered])
        pending = [text for text in texts if text in awaited and text not in reached]
        reached.update(pending)
        let_through: list[Name] = []
        for text in pending:
            ready: list[Name] = []
            for index, bit in self._sources:
                for place in index.awaiting(text):
                    if all(name in reached for name in index.trigger_names(place)):
                        waiting = self._package(index.at(place), bit)
                        self._let_wait(waiting)
                        ready += [waiting.name, *(name for name, _ in waiting.offers)]
            if ready:
                let_through += self.in_table_order(list(dict.fromkeys(ready)))
        return let_through

    def is_awaited(self, text: str) -> bool:
        """Whether any package has `text` in `install_if`."""
        return text in self.awaited

    def link(self, names: Iterable[Name]) -> None:
        """Fill `needed_by` of everything that the providers of `names` depend on."""
        for name in self.in_table_order(list(names)):
            for package, _ in name.providers:
                for needed, _ in package.needs:
                    needed_by = needed.needed_by
                    if not needed_by or needed_by[-1] is not name:
                        needed_by.append(name)

    def unlink(self) -> None:
        """Empty all `needed_by`."""
        for name in self.names.values():
            name.needed_by = []

    def in_table_order(self, names: list[Name]) -> list[Name]:
        """Names as apk's table of names lists them."""
        if len(names) < 2:
            return names
        by_text = {name.text: name for name in names}
        return [by_text[text] for text in self.texts_in_table_order(by_text)]

    def texts_in_table_order(self, texts: Iterable[str]) -> list[str]:
        """The same for the bare texts of names."""
        texts = list(texts)
        if len(texts) < 2:
            return texts
        buckets: dict[int, list[str]] = {}
        for text in texts:
            buckets.setdefault(bucket_of(text), []).append(text)
        ordered: list[str] = []
        for bucket in sorted(buckets):
            together = buckets[bucket]
            if len(together) > 1:
                together.sort(key=self._first_mention, reverse=True)
            ordered += together
        return ordered

    def discovery_order(self, world: Iterable[str]) -> dict[str, int]:
        """When apk would have finished with each name, for names that the request can reach."""
        return discovery_order(world, [index for index, _ in self._sources], self.awaited, self.texts_in_table_order)

    def _first_mention(self, text: str) -> tuple[int, int]:
        if text in self._earlier:
            return -1, self._earlier[text]
        for number, (index, _) in enumerate(self._sources):
            offset = index.mention(text)
            if offset is not None:
                return number, offset
        return len(self._sources), 0


@lru_cache(maxsize=16)
def _index_of(installed: tuple[PackageRecord, ...]) -> PackageIndex:
    """The index of what is installed: children of one image ask the same of it. (Records are equal when they are the same.)"""
    return PackageIndex.of(installed)


@lru_cache(maxsize=1 << 16)
def bucket_of(text: str) -> int:
    """The bucket of a name in apk's table: MurmurHash3 (32 bits, seed 5381) modulo 20,000."""
    data = text.encode("utf-8", "surrogateescape")
    length = len(data)
    state = _SEED
    whole = length & ~3
    for at in range(0, whole, 4):
        block = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & 0xFFFFFFFF
        block = (block << 15 | block >> 17) * 0x1B873593 & 0xFFFFFFFF
        state ^= block
        state = (state << 13 | state >> 19) & 0xFFFFFFFF
        state = state * 5 + 0xE6546B64 & 0xFFFFFFFF
    if whole < length:
        block = int.from_bytes(data[whole:], "little") * 0xCC9E2D51 & 0xFFFFFFFF
        block = (block << 15 | block >> 17) * 0x1B873593 & 0xFFFFFFFF
        state ^= block
    state ^= length
    state = (state ^ state >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    state = (state ^ state >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return (state ^ state >> 16) % _BUCKETS
