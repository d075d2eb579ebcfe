"""What was solved before is not solved again, and is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.solver_worlds import SolverWorld, make_world

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.errors import Unsatisfiable
from sixsmith.solver import Solution, SolverRepository, answers
from sixsmith.solver.answers import Answers


def said(solution: Solution) -> tuple[object, ...]:
    """All that a solution says."""

    def whole(record: PackageRecord | None) -> object:
        return record and tuple(getattr(record, name) for name in record.__slots__ if not name.startswith("_"))

    return (
        [
            (
                step.action,
                whole(step.record),
                whole(step.old),
                step.repository and (step.repository.name, step.repository.pin),
            )
            for step in solution.steps
        ],
        [whole(record) for record in solution.packages],
        solution.world,
    )


def solvable(count: int) -> list[tuple[SolverWorld, Solution]]:
    found = []
    for seed in range(10_000):
        world = make_world(seed)
        try:
            found.append((world, world.ask()))
        except Unsatisfiable:
            continue
        if len(found) == count:
            break
    return found


def test_an_answer_is_what_was_solved_also_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = solvable(150)
    assert any(step.action == "remove" for _, solution in worlds for step in solution.steps)
    assert any(step.repository and step.repository.pin for _, solution in worlds for step in solution.steps)
    first = Answers()
    for world, solution in worlds:
        assert said(world.ask_of(first)) == said(solution)
    monkeypatch.setattr(answers, "solve", None)  # nothing is solved a second time
    second = Answers(first.dump())
    for world, solution in worlds:
        assert said(world.ask_of(second)) == said(world.ask_of(first)) == said(solution)
    assert first.is_changed and not second.is_changed


INDEX = PackageIndex.parse(
    b"C:Q1aaaaaaaaaaaaaaaaaaaaaaaaaaa=\nP:a\nV:1\n\nC:Q1bbbbbbbbbbbbbbbbbbbbbbbbbbb=\nP:b\nV:1\nD:a\n"
)
OLD = PackageRecord("a", "0", checksum="Q1ccccccccccccccccccccccccccc=")
QUESTION: dict[str, Any] = {
    "world": [Dependency.parse("a"), Dependency.parse("b")],
    "repositories": [SolverRepository(INDEX, "main")],
    "installed": (OLD,),
    "requested": ["b"],
}


def ask(answers: Answers, **other: Any) -> Solution:
    return answers.solve(**{**QUESTION, **other})


@pytest.mark.parametrize(
    "other",
    [
        {"world": [Dependency.parse("b")]},
        {"world": [Dependency.parse("a=1"), Dependency.parse("b")]},
        {"requested": ["a", "b"]},
        {"installed": ()},
        {"installed": (PackageRecord("a", "0", checksum=OLD.checksum, pin="edge"),)},
        {"installed": (PackageRecord("a", "0", checksum=OLD.checksum, provides=["c"]),)},
        {"repositories": [SolverRepository(INDEX, "other")]},
        {"repositories": [SolverRepository(INDEX, "main"), SolverRepository(INDEX, "edge", "edge")]},
        {"repositories": [SolverRepository(PackageIndex.of([*INDEX]), "main")]},
        {"repositories": [SolverRepository(PackageIndex.parse(INDEX._text + b"\n"), "main")], "requested": ["a"]},
    ],
)
def test_another_question_is_asked(monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]) -> None:
    known = Answers()
    ask(known)
    asked: list[object] = []
    real: Callable[..., Solution] = answers.solve
    monkeypatch.setattr(answers, "solve", lambda *question, **more: asked.append(1) or real(*question, **more))
    ask(known)
    assert not asked
    ask(known, **other)
    assert asked


@pytest.mark.parametrize(
    "kept",
    [b"", b"\xc1", msgspec.msgpack.encode((0, {})), msgspec.msgpack.encode({}), msgspec.msgpack.encode((1, {"a": 1}))],
)
def test_a_damaged_memory_is_none(kept: bytes) -> None:
    assert said(ask(Answers(kept))) == said(ask(Answers()))


@pytest.mark.parametrize(
    "answer", [b"", b"\xc1", [[["install", [0, 9999], None, 0]], []], [[], [[7, 2]]], [[], [[-1, 9]]]]
)
def test_an_answer_that_does_not_fit_is_none(answer: Any) -> None:
    first = Answers()
    right = ask(first)
    version, known = msgspec.msgpack.decode(first.dump())
    raw = answer if isinstance(answer, bytes) else msgspec.msgpack.encode(answer)
    second = Answers(msgspec.msgpack.encode((version, dict.fromkeys(known, raw))))
    assert said(ask(second)) == said(right)


def test_what_cannot_be_had_is_not_remembered() -> None:
    known = Answers()
    for _ in range(2):
        with pytest.raises(Unsatisfiable, match="c"):
            ask(known, world=[Dependency.parse("c")], requested=["c"])
    assert not known.is_changed


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_MANY", 2)
    known = Answers()
    for name in ("one", "two", "three"):
        ask(known, repositories=[SolverRepository(INDEX, name)])
    assert len(msgspec.msgpack.decode(known.dump())[1]) == 2
