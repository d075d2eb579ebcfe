"""From choices to steps: what to install, change and remove, and in which order.

Dependencies come before what needs them, in the order in which they are listed; what `install_if` pulls in comes as soon
as the last of its triggers is in; what nothing needs any more goes when the last package that needed it goes. The order
is a contract: apk-tools 2.12, 2.14 and 3.0 give the same one.

The walk may be as deep as the longest chain of dependencies, so each visit is a generator that yields the visits it
waits for, and `_walk` keeps the stack.
"""

from __future__ import annotations

from collections.abc import Iterator

from sixsmith.apk.dependency import Dependency
from sixsmith.solver.selection import Selection
from sixsmith.solver.universe import Name, Package

__all__ = ["Change", "Transaction"]

Change = tuple[Package | None, Package | None]
"""What was there, what will be there; equal when a package stays."""

Visit = Iterator["Visit"]


class Transaction:
    """The changes that a selection means for what is installed."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.universe = selection.universe
        self.changes: list[Change] = []

    def run(self) -> None:
        """Make `changes`; dependencies that the choices leave unfulfilled are counted as errors of the selection."""
        for name in self.universe.names.values():
            name.requirers = 0
        installed = self.universe.installed
        for package in installed:
            package.name.installed = package
            package.name.installed_name = package.name
            for name, version in package.live:
                if version is not None:
                    name.installed_name = package.name
        for package in installed:
            self._count_needs(package)
        for package in installed:
            self._walk(self._remove_if_orphan(package))
        for name, wanted in self.selection.world:
            self._walk(self._fulfil(None, name, wanted))
        for package in installed:
            self._walk(self._change(package.name))

    def _walk(self, visit: Visit) -> None:
        stack = [visit]
        while stack:
            inner = next(stack[-1], None)
            if inner is None:
                stack.pop()
            else:
                stack.append(inner)

    def _fulfil(self, by: Package | None, name: Name, wanted: Dependency) -> Visit:
        if not name.satisfies(wanted):
            self.selection.fail(by)
        if not name.change_done:
            yield self._change(name)
        if name.chosen is not None and name.chosen.broken:
            self.selection.fail(by)

    def _change(self, name: Name) -> Visit:
        """Put what was chosen for the name in place, after what it needs."""
        if name.change_done:
            return
        orphan = self._orphan(name)
        if orphan is not None:
            yield self._remove(orphan)
        package = name.chosen
        if package is None or package.in_change:
            return
        package.in_change = True
        live = package.live
        package.is_settled = True
        for offered in (package.name, *(offered for offered, _ in live)):
            orphan = self._orphan(offered)
            if orphan is not None:
                yield self._remove(orphan)
        old = package.name.installed
        if old is not None:
            for waiting in old.awaited_by:
                yield self._remove_if_untriggered(waiting)
        for needed, wanted in package.needs:
            yield self._fulfil(package, needed, wanted)
        self.changes.append((old, package))
        for waiting in package.awaited_by:
            yield self._install_if_triggered(waiting)
        self._count_needs(package)
        if old is not None:
            yield self._release_needs(old)

    def _orphan(self, name: Name) -> Package | None:
        """The package of that name which goes because something else stands for the name now; each name is asked once."""
        if name.change_done:
            return None
        name.change_done = True
        chosen = name.chosen
        return name.installed if chosen is None or chosen.name is not name else None

    def _remove(self, package: Package) -> Visit:
        name = package.name
        if package.in_change or (name.chosen is not None and name.chosen.name is name):
            return
        name.change_done = True
        package.in_change = True
        for user in self._installed_users(package):
            yield self._remove(user)
        for waiting in package.awaited_by:
            yield self._remove_if_untriggered(waiting)
        self.changes.append((package, None))
        yield self._release_needs(package)

    def _installed_users(self, package: Package) -> Iterator[Package]:
        """Installed packages of which a dependency is fulfilled by the package."""
        self.selection.link_fully()
        for name in (package.name, *(offered for offered, _ in package.live)):
            for above in name.needed_by:
                for user, _ in above.providers:
                    if user.installed and any(concerns(package, *need) for need in user.needs):
                        yield user

    def _remove_if_orphan(self, package: Package) -> Visit:
        if not package.name.requirers and package.name.chosen is None:
            yield self._remove(package)

    def _remove_if_untriggered(self, name: Name) -> Visit:
        package = name.installed
        if package is None or name.change_done or name.chosen is not None:
            return
        if any(trigger.change_done and trigger.chosen is None for trigger, _ in package.triggers):
            yield self._remove_if_orphan(package)

    def _install_if_triggered(self, name: Name) -> Visit:
        package = name.chosen
        if package is None or not name.seen or name.change_done:
            return
        if all(trigger.change_done and trigger.satisfies(wanted) for trigger, wanted in package.triggers):
            yield self._change(name)

    def _count_needs(self, package: Package) -> None:
        for name, wanted in package.needs:
            if not wanted.conflict and name.installed_name is not None:
                name.installed_name.requirers += 1

    def _release_needs(self, package: Package) -> Visit:
        for name, wanted in package.needs:
            if wanted.conflict or name.installed_name is None:
                continue
            name.installed_name.requirers -= 1
            if not name.installed_name.requirers and name.installed is not None:
                yield self._remove(name.installed)


def concerns(package: Package, name: Name, wanted: Dependency) -> bool:
    """Whether the package is what a dependency means, and fulfils it."""
    return verdict(package, name, wanted) is True


def verdict(package: Package, name: Name, wanted: Dependency) -> bool | None:
    """Whether the package fulfils the dependency; None when it has nothing to do with it."""
    checksum = package.record.checksum
    if package.name is name:
        return wanted.accepts_key(package.version, checksum)
    for offered, version in package.live:
        if offered is name:
            return wanted.accepts_key(version, checksum)
    return None
