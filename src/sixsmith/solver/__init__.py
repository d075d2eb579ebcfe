"""Which packages, and in which order: what `apk add` of apk-tools 2.14 would do.

    repositories = [SolverRepository(PackageIndex.parse(text), "main"), SolverRepository(index, "edge", pin="edge")]
    solution = solve([Dependency.parse("nginx")], repositories)
    [(step.action, str(step.record)) for step in solution.steps]

The work is split as apk splits it: `universe` (who provides what, read lazily), `selection` (choosing), `transaction`
(the steps and their order), `complaint` (what is wrong when the choices do not fit), `explain` (the same in sentences).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from sixsmith.apk.dependency import Dependency, merge_world, world_order
from sixsmith.apk.index import PackageRecord
from sixsmith.apk.version import compare_keys
from sixsmith.errors import Unsatisfiable
from sixsmith.solver.selection import UPGRADE, DecisionOrder, Selection
from sixsmith.solver.transaction import Change, Transaction
from sixsmith.solver.universe import Package, SolverRepository, Universe

__all__ = ["DecisionOrder", "Solution", "SolverRepository", "Step", "solve", "why"]


class Step(msgspec.Struct, frozen=True):
    """One change to what is installed.

    action: install, upgrade, downgrade, replace (same version, another file), pin (only the pin changes) or remove.
    record: what is there afterwards, for `remove` what was. old: what was there, None for an install. repository: where
    the file comes from, None for what is only installed.
    """

    action: str
    record: PackageRecord
    old: PackageRecord | None = None
    repository: SolverRepository | None = None


class Solution(msgspec.Struct, frozen=True):
    """What will be installed: the steps in order, and every package that is there in the end.

    `packages` stands in the order of the installed database: what stays keeps its place, what is new or changed comes
    after, in step order. `world` is the request, sorted as in `etc/apk/world`.
    """

    steps: tuple[Step, ...]
    packages: tuple[PackageRecord, ...]
    world: tuple[Dependency, ...] = ()

    @property
    def installs(self) -> tuple[Step, ...]:
        """The steps that need a package file, in order."""
        return tuple(step for step in self.steps if step.action not in ("remove", "pin"))


def solve(
    world: Sequence[Dependency],
    repositories: Sequence[SolverRepository],
    *,
    installed: Sequence[PackageRecord] = (),
    requested: Collection[str] | None = None,
    upgrade: bool = False,
    order: DecisionOrder = DecisionOrder.DISCOVERY,
) -> Solution:
    """Choose packages for `world` as apk-tools 2.14 does.

    `world` is the whole of the new `etc/apk/world`; of two entries for one name the later counts. `requested` are the
    names that are asked for now, as opposed to those that the world had before; None means all.
    `installed` is the database of the root. `upgrade` prefers newer versions to what is installed.
    `order` says which release of 2.14 is followed where they differ.

    Raises `Unsatisfiable` with apk's subjects, a chain of reasons as message and what would help as hint, and
    `FormatError` where a visited record is malformed.
    """
    entries = sorted(merge_world(world), key=world_order)
    asked = {entry.name for entry in entries} if requested is None else set(requested)
    earlier = [entry for entry in world if entry.name not in asked]
    universe = Universe(
        repositories,
        installed,
        pins=[entry.pin for entry in earlier if entry.pin],
        earlier_names=[entry.name for entry in earlier],
    )
    missing_pins = [entry for entry in entries if entry.pin and not universe.pins[universe.pin_number(entry.pin)][1]]
    if missing_pins:
        from sixsmith.solver.explain import explain_pins  # most requests can be fulfilled

        message, hint = explain_pins(missing_pins, repositories)
        raise Unsatisfiable(message, hint=hint)
    needs = [(universe.name(entry.name), entry) for entry in entries]
    for name, _ in needs:
        name.requested = name.text in asked
    selection = Selection(universe, needs, flags=UPGRADE if upgrade else 0, order=order)
    selection.run()
    transaction = Transaction(selection)
    transaction.run()
    if selection.errors:
        from sixsmith.solver.complaint import complaints  # most requests can be fulfilled
        from sixsmith.solver.explain import explain

        found = complaints(transaction)
        message, hint = explain(found, selection)
        raise Unsatisfiable(message, subjects=[complaint.subject for complaint in found], hint=hint)
    return _make_solution(universe, transaction.changes, tuple(entries))


def why(solution: Solution, package: str) -> list[str]:
    """How the request comes to a package: one sentence for each link of the shortest chain, the request first.

    Empty when the solution has no package of that name.
    """
    from sixsmith.solver import explain  # few ask

    return explain.why(solution, package)


def _make_solution(universe: Universe, changes: list[Change], world: tuple[Dependency, ...]) -> Solution:
    steps = []
    gone = set()
    for old, new in changes:
        step = _make_step(universe, old, new)
        if step is not None:
            steps.append(step)
            if old is not None and step.action != "pin":
                gone.add(id(old))
    packages = [package.record for package in universe.installed if id(package) not in gone]
    packages += [step.record for step in steps if step.action not in ("remove", "pin")]
    return Solution(tuple(steps), tuple(packages), world)


def _make_step(universe: Universe, old: Package | None, new: Package | None) -> Step | None:
    if new is None:
        assert old is not None  # a change has one side at least
        return Step("remove", old.record, old.record)
    repository = universe.repository_of(new)
    if old is None:
        return Step("install", new.record, None, repository)
    if old is new:
        if new.installed_pin == universe.pin_of(new):
            return None
        return Step("pin", new.record, old.record, repository)
    order = compare_keys(new.version, old.version)
    action = "replace" if not order else "upgrade" if order > 0 else "downgrade"
    return Step(action, new.record, old.record, repository)
