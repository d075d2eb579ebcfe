"""Choosing: which package stands for each name.

This is constraint propagation without going back, as in apk-tools 2.14: what is decided is never undone. Three things
happen in turn until nothing is left to decide.

1. *Discover*: from the request, every name that could matter: dependencies of every provider, and whatever has one of
   the names in `install_if`.
2. *Reconsider*: a name whose surroundings changed looks at its candidates again: some became impossible (their own
   dependencies are, or a conflict excludes them), some were triggered; what all remaining candidates need is needed.
3. *Decide* one name: preferably one that no undecided name depends on any more and that has no choice left, else the
   one that is furthest up; the best candidate by apk's preferences is taken, broken or not. Taking a package decides
   every name that it provides.

A request that cannot be fulfilled still gives a full set of choices, from which the complaint is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.version import VersionKey
from sixsmith.solver.universe import Name, Package, Provider, Universe

__all__ = ["UPGRADE", "DecisionOrder", "Selection"]


class DecisionOrder(Enum):
    """Which undecided name comes next, where nothing forces one; the releases of apk-tools 2.14 differ in this alone."""

    DISCOVERY = "2.14.10"
    """Names with a candidate that may be chosen silently first, then whatever was discovered last (furthest up)."""
    DEPTH = "2.14.0"
    """Requested names first, names of packages before virtual ones, then the longest chain below (up to 2.14.4)."""


UPGRADE = 1
"""The only preference flag that is offered: newest instead of what is installed."""

_DEFAULT_PIN = 1


class Selection:
    """The state of one round of choosing; `run` it once, then read `Name.chosen` and `errors`."""

    def __init__(
        self,
        universe: Universe,
        world: Sequence[tuple[Name, Dependency]],
        *,
        flags: int = 0,
        order: DecisionOrder = DecisionOrder.DISCOVERY,
    ) -> None:
        self.universe = universe
        self.world = world
        self.flags = flags
        self.order = order
        self.errors = 0
        self.seen_names: list[Name] = []
        self._changed: deque[Name] = deque()
        self._open: list[tuple[Name, int]] = []  # undecided names, latest last, with the ticket of their entry
        self._many_open = 16  # entries, from which those of decided names are thrown away
        self._tickets = 0
        self._is_ordered = False
        self._is_linked_fully = False
        self._default_repositories = universe.served(_DEFAULT_PIN)

    def run(self) -> None:
        """Decide everything."""
        if self.order is DecisionOrder.DISCOVERY:
            self.universe.narrow()
        for name, _ in self.world:
            self._discover(name)
        self.universe.link(self._linked_names())
        for name, wanted in self.world:
            self._apply(None, name, wanted, self.flags, 1 << self.universe.pin_number(wanted.pin))
        while True:
            self._settle()
            undecided = self._next_name()
            if undecided is None:
                return
            self._decide(undecided)

    def fail(self, package: Package | None) -> None:
        """Count an error, once for each package."""
        if package is not None and not package.broken:
            package.broken = True
            self.errors += 1

    def _linked_names(self) -> Iterable[Name]:
        linked = set(self.seen_names)
        for package in self.universe.installed:
            linked.add(package.name)
            linked.update([name for name, _ in package.live])
        return linked

    def link_fully(self) -> None:
        """Fills `needed_by` by way of quiet names as well.

        While choosing, only names that were seen count there; who goes and who complains is told in the order of all.
        """
        if not self._is_linked_fully:
            self._is_linked_fully = True
            linked = set(self._linked_names())
            linked.update(name for package in self.universe.installed for name, _ in package.offers)
            self.universe.unlink()
            self.universe.link(linked)

    # discover

    def _discover(self, name: Name) -> None:
        """Depth first, with a stack of its own: chains of dependencies may be longer than Python's."""
        if name.seen:
            return
        visits = [self._visit(name)]
        while visits:
            following = next(visits[-1], None)
            if following is None:
                visits.pop()
            elif not following.seen:
                visits.append(self._visit(following))

    def _visit(self, name: Name) -> Iterator[Name]:
        name.seen = True
        name.untriggerable = True
        self.seen_names.append(name)
        for package, _ in name.providers:
            if not package.seen:
                self._meet(package)
                for needed, _ in package.needs:
                    yield needed
                    package.depth = max(package.depth, needed.depth + 1)
            name.untriggerable &= package.trigger_failed
            name.depth = max(name.depth, package.depth)
        if self.order is DecisionOrder.DISCOVERY:
            for package, _ in name.providers:
                yield from self.universe.reach(package)
        else:
            yield from self._all_waiting(name)

    def _all_waiting(self, name: Name) -> Iterator[Name]:
        """Whatever has a name in `install_if` that one of the providers stands for, triggered or not."""
        names = self.universe.names
        for package, _ in name.providers:
            yield from package.name.awaited_by
            for text, _ in package.record.offered:
                offered = names.get(text)
                if offered is not None:
                    if not offered.seen:
                        yield from offered.awaited_by
                elif self.universe.is_awaited(text):
                    yield from self.universe.name(text).awaited_by

    def _meet(self, package: Package) -> None:
        reach = package.reach
        package.seen = True
        package.allowed_pins = _DEFAULT_PIN
        package.available = package.repositories != 0
        package.selectable = package.available or package.installed
        package.trigger_failed = not package.record.install_if
        package.pin_preferred = not package.record.installed_size or bool(reach & self._default_repositories)
        package.pin_ok = package.pin_preferred or package.installed

    # constraints

    def _apply(self, by: Package | None, name: Name, wanted: Dependency, flags: int = 0, pins: int = 0) -> None:
        """`by` (None for the request) depends on `wanted`: count it, exclude what does not fulfil it."""
        if not wanted.conflict:
            name.requirers += 1
            if name.requirers == 1:
                self._newly_required(name)
        for package, version in name.providers:
            if wanted.accepts_key(version, package.record.checksum):
                if package.selectable and package.conflicts:
                    self._exclude(package)
                self._inherit(package, by, flags, pins)
            else:
                package.conflicts += 1
                if package.selectable:
                    self._exclude(package)

    def _newly_required(self, name: Name) -> None:
        self._list_open(name)
        self._recheck_triggers(name.awaited_by)
        self._queue(name)

    def _inherit(self, package: Package, by: Package | None, flags: int = 0, pins: int = 0) -> None:
        """Preferences and pins pass from whoever asks; the request also says which pin it prefers."""
        reach = package.reach
        if by is not None:
            package.flags |= by.handed_flags
            package.handed_flags |= by.handed_flags
            package.allowed_pins |= by.allowed_pins
        else:
            package.flags |= flags
            package.handed_flags |= flags
            package.allowed_pins |= pins
            package.pin_preferred = bool(reach & self.universe.served(pins))
        if not package.pin_ok and reach & self.universe.served(package.allowed_pins):
            package.pin_ok = True

    def _exclude(self, package: Package) -> None:
        """The package can no longer be chosen in good order."""
        package.selectable = False
        self._recheck_needs(package.name)
        for name, _ in package.live:
            self._recheck_needs(name)
        self._recheck_package_triggers(package)

    def _recheck_needs(self, name: Name) -> None:
        for above in name.needed_by:
            if above.seen:
                above.recheck_needs = True
                self._queue(above)

    def _recheck_triggers(self, names: Iterable[Name]) -> None:
        for name in names:
            if name.seen and not name.untriggerable:
                name.recheck_triggers = True
                self._queue(name)

    def _recheck_package_triggers(self, package: Package) -> None:
        self._recheck_triggers(package.awaited_by)

    # queues

    def _queue(self, name: Name) -> None:
        if name.queued or name.locked or not (name.requirers or name.recheck_triggers):
            return
        name.queued = True
        self._changed.append(name)

    def _list_open(self, name: Name) -> None:
        if name.locked:
            return
        if name.requirers or name.triggered:
            if not name.ticket:
                self._tickets += 1
                name.ticket = self._tickets
                self._open.append((name, self._tickets))
        else:
            name.ticket = 0

    def _settle(self) -> None:
        changed = self._changed
        while changed:
            name = changed.popleft()
            if name.queued:  # deciding a name takes it out of the queue
                name.queued = False
                self._reconsider(name)

    def _next_name(self) -> Name | None:
        """The name to decide now: one that is forced and that nothing undecided depends on, else the first in order."""
        entries = self._open
        if len(entries) > self._many_open:
            entries = self._open = [entry for entry in entries if entry[0].ticket == entry[1]]
            self._many_open = 2 * len(entries) + 16
        by_depth = self.order is DecisionOrder.DEPTH
        for name, ticket in reversed(entries):
            if (
                name.settled_above
                and name.ticket == ticket
                and name.requirers
                and not name.has_options
                and (by_depth or name.auto)
            ):
                return name
        undecided = [name for name, ticket in reversed(entries) if name.ticket == ticket]
        if not undecided:
            return None
        if by_depth:
            return min(undecided, key=_depth_order)
        if not self._is_ordered and len(undecided) > 1 and any(name.options != 1 for name in undecided):
            self._put_in_order()
        return min(undecided, key=_discovery_order)

    def _put_in_order(self) -> None:
        """Number names as the whole of apk's walk does; while nothing has a choice, any order leads to the same."""
        order = self.universe.discovery_order([name.text for name, _ in self.world])
        for name in self.seen_names:
            name.discovered = order.get(name.text, 0)
        self._is_ordered = True

    # reconsider

    def _reconsider(self, name: Name) -> None:
        recheck_needs, recheck_triggers = name.recheck_needs, name.recheck_triggers
        name.recheck_needs = name.recheck_triggers = False
        first: Package | None = None
        options = unpinned = 0
        triggered, untriggerable, auto = False, True, False
        for package, version in name.providers:
            package.merged = False
            if not package.selectable:
                continue
            if recheck_needs and not self._is_possible(package):
                self._exclude(package)
            if not package.selectable:
                continue
            if recheck_triggers:
                self._check_trigger(package)
            triggered |= package.triggered
            untriggerable &= package.trigger_failed
            if not name.requirers:
                continue
            auto = auto or version is not None or bool(package.priority or package.name.requirers)
            package.merged = True
            if first is None:
                first = package
            self._merge(package, version, options)
            unpinned += not package.pin_ok
            options += 1
        name.has_options = options > 1 or unpinned > 0
        name.options = options
        name.triggered = triggered
        name.auto = auto or triggered
        name.untriggerable = untriggerable
        self._list_open(name)
        if first is not None:
            for package, _ in name.providers:
                package.used = package.merged
            self._pass_down(name, first, options)
        name.settled_above = all(above.locked or not above.seen for above in name.needed_by)

    def _is_possible(self, package: Package) -> bool:
        return all(self._is_satisfiable(name, wanted) for name, wanted in package.needs)

    def _is_satisfiable(self, name: Name, wanted: Dependency) -> bool:
        if name.locked:
            return name.satisfies(wanted)
        if not name.requirers and wanted.conflict:
            return True
        return any(
            package.selectable and wanted.accepts_key(version, package.record.checksum)
            for package, version in name.providers
        )

    def _check_trigger(self, package: Package) -> None:
        """Look whether all of `install_if` is chosen by now."""
        if not package.triggered and not package.trigger_failed:
            package.triggered = True
            for name, wanted in package.triggers:
                if not name.locked:
                    package.triggered = False
                    break
                if not name.satisfies(wanted):
                    package.triggered = False
                    package.trigger_failed = True
                    break
        if package.triggered:
            for name, _ in package.triggers:
                self._inherit(package, name.chosen)

    def _merge(self, package: Package, version: VersionKey | None, options: int) -> None:
        """Mark what this candidate and all before it have in common; what it alone provides excludes nobody."""
        for needed, wanted in package.needs:
            if not wanted.conflict and needed.merge_needs == options:
                needed.merge_needs = options + 1
        own = package.name
        if own.merge_offers == options:
            own.merge_offers = options + 1
            own.has_virtual |= version is None
        for offered, key in package.contested:
            if offered.merge_offers == options:
                offered.merge_offers = options + 1
                offered.has_virtual |= key is None

    def _pass_down(self, name: Name, first: Package, options: int) -> None:
        """What all candidates need is needed; what all of them provide, only they may provide."""
        for needed, wanted in first.needs:
            common = needed.merge_needs == options
            needed.merge_needs = 0
            if not common:
                continue
            if options == 1:
                self._apply(first, needed, wanted)
            elif not needed.requirers:
                needed.requirers = 1
                self._newly_required(needed)
                for package, _ in needed.providers:
                    self._inherit(package, first)
        for offered in (first.name, *(offered for offered, _ in first.contested)):
            common = offered.merge_offers == options
            offered.merge_offers = 0
            if common:
                self._exclude_others(offered, name)
        first.name.has_virtual = False
        for offered, _ in first.contested:
            offered.has_virtual = False

    def _exclude_others(self, name: Name, must_offer: Name) -> None:
        """Whatever provides `name` must provide `must_offer` too, or would clash with any candidate of it."""
        if name is must_offer:
            return
        spare_virtual = name.has_virtual
        for package, version in name.providers:
            if package.name is must_offer or not package.selectable or (spare_virtual and version is None):
                continue
            if any(offered is must_offer for offered, _ in package.live):
                continue
            if spare_virtual and any(key is None for _, key in package.record.offered):
                continue
            self._exclude(package)

    # decide

    def _decide(self, name: Name) -> None:
        best = self._best_provider(name)
        if best is None:
            self._assign(name, None, None)
            if name.requirers:
                self.errors += 1
            return
        package = best[0]
        if not package.selectable or not package.pin_ok:
            self.fail(package)
        offers = package.offers if package.name.locked else package.live
        package.is_decided = True
        self._assign(package.name, package, package.version)
        for offered, key in offers:
            self._assign(offered, package, key)
        for needed, wanted in package.needs:
            self._apply(package, needed, wanted)

    def _best_provider(self, name: Name) -> Provider | None:
        if not name.requirers and not name.triggered:
            return None
        best: Provider | None = None
        for provider in name.providers:
            package, version = provider
            if not name.requirers and not (package.triggered and package.pin_ok):
                continue
            if version is None and not package.name.requirers and not package.priority:
                continue  # a bare virtual is never chosen silently
            if best is None or self._is_better(package, version, *best):
                best = provider
        return best

    def _is_better(
        self, one: Package, one_version: VersionKey | None, other: Package, other_version: VersionKey | None
    ) -> bool:
        """Whether `one` comes before `other`; the earlier preference decides, and a full tie keeps `other`."""
        if one.selectable != other.selectable:
            return one.selectable
        if one.used != other.used:
            return one.used
        if one.conflicts != other.conflicts:
            return one.conflicts < other.conflicts
        if one.pin_ok != other.pin_ok:
            return one.pin_ok
        if one.pin_preferred != other.pin_preferred:
            return one.pin_preferred
        if one.installed != other.installed and not (one.flags | other.flags) & UPGRADE:
            return one.installed
        if one_version is not None and other_version is not None and one_version != other_version:
            return one_version > other_version
        if one.name is other.name and one.version != other.version:
            return one.version > other.version
        if one.installed != other.installed:
            return one.installed
        if one.priority != other.priority:
            return one.priority > other.priority
        return _first_bit(one.repositories) < _first_bit(other.repositories)

    def _assign(self, name: Name, package: Package | None, version: VersionKey | None) -> None:
        """`package` (None for nobody) stands for `name` from now on."""
        if name.locked:
            if version is None and name.chosen_version is None:
                return  # any number of packages may provide a bare virtual
            self.fail(package)
            self.fail(name.chosen)
            return
        name.locked = True
        name.chosen = package
        name.chosen_version = version
        name.queued = False
        name.ticket = 0
        for other, other_version in name.providers:
            if other is not package and not (version is None and other_version is None):
                self._exclude(other)
        self._recheck_needs(name)
        if package is not None:
            self._recheck_package_triggers(package)
        else:
            self._recheck_triggers(name.awaited_by)


def _depth_order(name: Name) -> tuple[bool, int, int, bool]:
    return not name.requested, name.rank, -name.depth, not name.requirers


def _discovery_order(name: Name) -> tuple[bool, int]:
    return not name.auto, -name.discovered


def _first_bit(mask: int) -> int:
    return (mask & -mask).bit_length()
