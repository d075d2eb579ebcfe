"""Questions that were asked before.

A solution follows from the indexes, what is installed, and the request; a family asks the same again with every build. So
answers are kept under a digest of all that they follow from. An answer holds no facts of its own: it names records by where
they stand in the very indexes of the question, so whoever uses it has those at hand, verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from functools import lru_cache

import msgspec

from sixsmith.apk.dependency import Dependency, merge_world, world_order
from sixsmith.apk.index import PackageRecord, digest_of_records
from sixsmith.errors import FormatError
from sixsmith.solver import Solution, SolverRepository, Step, solve

__all__ = ["Answers"]

_FORMAT = 1
"""Goes up whenever the solver gives another answer to a question than before, or an answer is written otherwise."""

_MANY = 2048
"""Answers that are kept at most; the oldest go first."""

_Place = tuple[int, int]
"""A record: the number of its repository and its place in that index; or -1 and its position among what is installed."""


class _Step(msgspec.Struct, array_like=True):
    action: str
    record: _Place
    old: _Place | None
    repository: int | None


class _Answer(msgspec.Struct, array_like=True):
    steps: list[_Step]
    packages: list[_Place]


class Answers:
    """What `solve` found, by question. `kept` are the bytes of an earlier `dump`; what is damaged or old is forgotten."""

    def __init__(self, kept: bytes | None = None) -> None:
        self._answers: dict[str, bytes] = {}
        self.is_changed = False
        if kept is not None:
            try:
                version, answers = msgspec.msgpack.decode(kept, type=tuple[int, dict[str, bytes]])
            except msgspec.DecodeError:
                return
            self._answers = answers if version == _FORMAT else {}

    def dump(self) -> bytes:
        """All answers, for another process."""
        latest = list(self._answers.items())[-_MANY:]
        return msgspec.msgpack.encode((_FORMAT, dict(latest)))

    def solve(
        self,
        world: Sequence[Dependency],
        repositories: Sequence[SolverRepository],
        *,
        installed: tuple[PackageRecord, ...] = (),
        requested: Collection[str],
    ) -> Solution:
        """As `solver.solve`, which is asked only what was not asked before. Raises as that does."""
        question = _question(world, repositories, installed, requested)
        known = self._answers.get(question)
        if known is not None:
            found = _solution(known, world, repositories, installed)
            if found is not None:
                return found
        solution = solve(world, repositories, installed=installed, requested=requested)
        answer = _answer(solution, repositories, installed)
        if answer is not None:
            self._answers[question] = answer
            self.is_changed = True
        return solution


def _question(
    world: Sequence[Dependency],
    repositories: Sequence[SolverRepository],
    installed: tuple[PackageRecord, ...],
    requested: Collection[str],
) -> str:
    asked = [
        [[repository.index.digest, repository.name, repository.pin] for repository in repositories],
        _digest_of(installed),
        [[entry.name, entry.operator, entry.version, entry.conflict, entry.pin] for entry in world],
        sorted(requested),
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@lru_cache(maxsize=16)
def _digest_of(installed: tuple[PackageRecord, ...]) -> str:
    """Children of one image ask with the same records. (Records are equal when they are the same.)"""
    return digest_of_records(installed)


def _answer(
    solution: Solution, repositories: Sequence[SolverRepository], installed: tuple[PackageRecord, ...]
) -> bytes | None:
    """None for a solution of records that do not stand where they can be found again."""
    places: dict[int, _Place] = {id(record): (-1, position) for position, record in enumerate(installed)}
    for step in solution.installs:
        name = step.record.name
        for number, repository in enumerate(repositories):
            for place in repository.index.named(name):
                places.setdefault(id(repository.index.at(place)), (number, place))
    numbers = {id(repository): number for number, repository in enumerate(repositories)}
    try:
        steps = [
            _Step(
                step.action,
                places[id(step.record)],
                places[id(step.old)] if step.old is not None else None,
                numbers[id(step.repository)] if step.repository is not None else None,
            )
            for step in solution.steps
        ]
        return msgspec.msgpack.encode(_Answer(steps, [places[id(record)] for record in solution.packages]))
    except KeyError:
        return None


def _solution(
    answer: bytes,
    world: Sequence[Dependency],
    repositories: Sequence[SolverRepository],
    installed: tuple[PackageRecord, ...],
) -> Solution | None:
    """The solution that an answer stands for; None when it does not fit."""

    def at(place: _Place) -> PackageRecord:
        number, where = place
        return installed[where] if number < 0 else repositories[number].index.at(where)

    try:
        found = msgspec.msgpack.decode(answer, type=_Answer)
        steps = tuple(
            Step(
                step.action,
                at(step.record),
                at(step.old) if step.old is not None else None,
                repositories[step.repository] if step.repository is not None else None,
            )
            for step in found.steps
        )
        packages = tuple(at(place) for place in found.packages)
    except (msgspec.DecodeError, FormatError, IndexError):
        return None
    return Solution(steps, packages, tuple(sorted(merge_world(world), key=world_order)))
