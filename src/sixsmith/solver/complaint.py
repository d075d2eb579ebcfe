"""What apk would complain of: the subjects of `unable to select packages`.

Two kinds of subject, in apk's order: names that nobody stands for (`gone (no such package)`, `sh (virtual)`), and chosen
packages that clash (`graphene-1.10.8-r0`). For each the reasons are kept, so that an explanation can be made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from sixsmith.apk.dependency import Dependency
from sixsmith.solver.selection import Selection
from sixsmith.solver.transaction import Transaction, verdict
from sixsmith.solver.universe import Name, Package

__all__ = ["Complaint", "Need", "complaints"]

Need = tuple[Package | None, Dependency]
"""Who asks (None for the request), and for what."""

# How a name or a package is reached from the request.
_PRESENT = 1
_MISSING = 2
_VIRTUAL_ONLY = 4
_TRIGGERED = 8


class Complaint(msgspec.Struct):
    """One subject and what is wrong with it. Exactly one of `name` and `package` is set."""

    subject: str
    name: Name | None = None
    package: Package | None = None
    needed_by: list[Need] = msgspec.field(default_factory=list)
    """For a name: who asks for it. For a package: whose dependencies it fulfils."""
    broken_for: list[Need] = msgspec.field(default_factory=list)
    """Whose dependencies the package does not fulfil, conflicts included."""
    clashes: list[tuple[Package, Name]] = msgspec.field(default_factory=list)
    """Chosen packages that stand for the same name, and the name."""
    masked_in: list[str] = msgspec.field(default_factory=list)
    """The pins that the package would need."""


Reached = Iterator[tuple[Name, int]]
Needs = Sequence[tuple[Name, Dependency]]


def complaints(transaction: Transaction) -> list[Complaint]:
    """All complaints about choices that do not fit together, in apk's order."""
    return _Reporter(transaction).report()


class _Reporter:
    def __init__(self, transaction: Transaction) -> None:
        self.selection: Selection = transaction.selection
        self.universe = transaction.universe
        self.chosen = [package for _, package in transaction.changes if package is not None]

    def report(self) -> list[Complaint]:
        self.selection.link_fully()
        for package in self.chosen:
            package.marked = True
        self._reach_all(self.selection.world)
        found = self._missing(self.selection.world)
        for package in self.chosen:
            complaint = self._about(package)
            if complaint is not None:
                found.append(complaint)
            found += self._missing(package.needs)
        return found

    # which names are really there

    def _reach_all(self, needs: Needs) -> None:
        """Mark what the request reaches; a stack instead of recursion, visiting in apk's order."""
        stack: list[Reached] = [iter([(name, _PRESENT) for name, wanted in needs if not wanted.conflict])]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
            else:
                stack.append(self._reach(*following))

    def _reach(self, name: Name, how: int) -> Reached:
        for package, _ in name.providers:
            if not package.marked:
                continue
            state = how
            if state == _PRESENT and not package.priority and not _is_concrete(package, name):
                state = _VIRTUAL_ONLY
            if package.trace & state:
                continue
            package.trace |= state
            package.name.state |= state
            for offered, _ in package.offers:
                offered.state |= state
            for needed, wanted in package.needs:
                if not wanted.conflict:
                    yield needed, _PRESENT
            if state != _VIRTUAL_ONLY:
                yield from self._reach_triggered(package.name)
                for offered, _ in package.offers:
                    yield from self._reach_triggered(offered)

    def _reach_triggered(self, name: Name) -> Reached:
        for waiting in name.awaited_by:
            for package, _ in waiting.providers:
                if not package.marked or not package.triggers:
                    continue
                if all(wanted.conflict != bool(trigger.state & _PRESENT) for trigger, wanted in package.triggers):
                    yield package.name, _TRIGGERED
                    for offered, _ in package.offers:
                        yield offered, _TRIGGERED

    # complaints

    def _missing(self, needs: Needs) -> list[Complaint]:
        found = []
        for name, wanted in needs:
            if wanted.conflict or name.state & (_PRESENT | _MISSING):
                continue
            name.state |= _MISSING
            kind = "virtual" if name.providers else "no such package"
            complaint = Complaint(f"{name.text} ({kind})", name=name)
            complaint.needed_by = [
                (by, entry) for by, needed, entry in self._all_needs(name) if needed is name and not entry.conflict
            ]
            found.append(complaint)
        return found

    def _about(self, package: Package) -> Complaint | None:
        complaint = Complaint(str(package.record), package=package)
        self._add_pins(complaint, package)
        self._add_clashes(complaint, package)
        for by, needed, wanted in self._all_needs(package.name, *(offered for offered, _ in package.offers)):
            fits = verdict(package, needed, wanted)
            if fits is False:
                complaint.broken_for.append((by, wanted))
            elif fits:
                complaint.needed_by.append((by, wanted))
        if complaint.masked_in or complaint.clashes or complaint.broken_for:
            return complaint
        return None

    def _all_needs(self, *names: Name) -> list[tuple[Package | None, Name, Dependency]]:
        """Every dependency on one of the names, the request's first, then those of chosen packages."""
        found: list[tuple[Package | None, Name, Dependency]] = [
            (None, name, wanted) for name, wanted in self.selection.world if name in names
        ]
        met: set[int] = set()
        for name in names:
            for above in name.needed_by:
                for package, _ in above.providers:
                    if package.marked and id(package) not in met:
                        met.add(id(package))
                        found += [(package, needed, wanted) for needed, wanted in package.needs if needed in names]
        return found

    def _add_pins(self, complaint: Complaint, package: Package) -> None:
        if package.installed:
            return
        universe = self.universe
        if package.repositories & universe.served(1 | 1 << universe.pin_of(package)):
            return
        complaint.masked_in = [pin for pin, mask in universe.pins if package.repositories & mask]

    def _add_clashes(self, complaint: Complaint, package: Package) -> None:
        for other, _ in package.name.providers:
            if other is not package and other.marked:
                complaint.clashes.append((other, package.name))
        for offered, version in package.offers:
            itself = True
            for other, other_version in offered.providers:
                if not other.marked or (version is None and other_version is None):
                    continue
                if itself and other is package and version == other_version:
                    itself = False
                    continue
                complaint.clashes.append((other, offered))


def _is_concrete(package: Package, name: Name) -> bool:
    return package.name is name or any(offered is name and key is not None for offered, key in package.offers)
