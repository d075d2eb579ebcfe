"""Small made-up repositories in which everything happens: versions, virtuals, triggers, conflicts, pins, what is installed."""

from __future__ import annotations

import hashlib
import random
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.errors import Unsatisfiable
from sixsmith.solver import DecisionOrder, Solution, SolverRepository, solve
from sixsmith.solver.answers import Answers

VERSIONS = ["1", "2", "3", "1.0", "1.1", "2.0-r1", "1_rc1", "0.9"]

Answer = tuple[bool, list[tuple[str, str, str]], list[str]]
"""Fulfilled; (action, name, version) in order; subjects of the complaint."""


@dataclass
class SolverWorld:
    """One question: what is on offer, what is there, what is asked for."""

    repositories: list[tuple[str, str]]
    """Pin and APKINDEX text of each."""
    request: list[str]
    installed: str = ""
    earlier: list[str] = field(default_factory=list)

    def ask(self, order: DecisionOrder = DecisionOrder.DISCOVERY, *, upgrade: bool = False) -> Solution:
        repositories = [
            SolverRepository(PackageIndex.parse(text.encode()), f"r{number}", pin or None)
            for number, (pin, text) in enumerate(self.repositories)
        ]
        installed = [PackageRecord.parse(text) for text in self.installed.split("\n\n") if text.strip()]
        wanted = [Dependency.parse(word) for word in ([] if upgrade else self.request)]
        world = [Dependency.parse(word) for word in self.earlier] + wanted
        requested = {entry.name for entry in wanted}
        return solve(world, repositories, installed=installed, requested=requested, upgrade=upgrade, order=order)

    def ask_of(self, answers: Answers) -> Solution:
        """As `ask`, of somebody with a memory; everything is read anew."""
        repositories = [
            SolverRepository(PackageIndex.parse(text.encode()), f"r{number}", pin or None)
            for number, (pin, text) in enumerate(self.repositories)
        ]
        installed = tuple(PackageRecord.parse(text) for text in self.installed.split("\n\n") if text.strip())
        wanted = [Dependency.parse(word) for word in self.request]
        world = [Dependency.parse(word) for word in self.earlier] + wanted
        return answers.solve(world, repositories, installed=installed, requested={entry.name for entry in wanted})

    def answer(self, order: DecisionOrder = DecisionOrder.DISCOVERY, *, upgrade: bool = False) -> Answer:
        try:
            solution = self.ask(order, upgrade=upgrade)
        except Unsatisfiable as error:
            return False, [], list(error.subjects)
        return True, [(step.action, step.record.name, step.record.version) for step in solution.steps], []


def make_world(seed: int) -> SolverWorld:
    return _Maker(random.Random(seed)).world()


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.conflicts = rng.choice([0, 0, 0.03, 0.12])
        self.versions = rng.choice([0, 0.1, 0.3])
        self.names = [f"p{chr(97 + number)}" for number in range(rng.randint(2, 9))]
        self.virtuals = [f"v{number}" for number in range(rng.randint(1, 4))] + ["so:x.so.1", "cmd:run", "/bin/sh"]

    def world(self) -> SolverWorld:
        rng = self.rng
        count = rng.choice([1, 1, 1, 2, 2, 3])
        pins = ["", *(rng.choice(["", "", "edge", "test"]) for _ in range(count - 1))]
        made: list[str] = []
        repositories = [(pin, "".join(self.repository(made))) for pin in pins]
        request = self.words(rng.randint(1, 4))
        named = [pin for pin in pins if pin]
        request = [self.pinned(word, rng.choice(named)) if named and rng.random() < 0.4 else word for word in request]
        world = SolverWorld(repositories, request)
        if rng.random() < 0.4 and made:
            there = {block.split("\nP:")[1].split("\n")[0]: block for block in rng.sample(made, min(4, len(made)))}
            world.installed = "".join(there.values())
            world.earlier = [name for name in there if rng.random() < 0.5]
        return world

    def repository(self, made: list[str]) -> list[str]:
        blocks: list[str] = []
        versions: set[tuple[str, str]] = set()
        for _ in range(self.rng.randint(1, 14)):
            if made and self.rng.random() < 0.08:
                block = self.rng.choice(made)
                key = _named(block)
            else:
                key = (self.rng.choice(self.names), self.rng.choice(VERSIONS))
                block = self.block(*key)
            if key not in versions:
                versions.add(key)
                blocks.append(block)
                made.append(block)
        return blocks

    def block(self, name: str, version: str) -> str:
        rng = self.rng
        fields = [f"P:{name}", f"V:{version}", "A:x86_64", "S:1", f"I:{rng.choice([1, 1, 1, 0])}", "T:x", "U:x", "L:x"]
        priority = rng.choice([0, 0, 0, 1, 5])
        lists = {
            "D": self.words(rng.choice([0, 0, 1, 1, 2, 3])),
            "p": self.offers(rng.choice([0, 0, 1, 1, 2])),
            "i": self.words(rng.randint(1, 2)) if rng.random() < 0.2 else [],
        }
        fields += [f"k:{priority}"] if priority else []
        fields += [f"{letter}:{' '.join(words)}" for letter, words in lists.items() if words]
        checksum = b64encode(hashlib.sha1(repr((fields, rng.random())).encode()).digest()).decode()
        return "\n".join([f"C:Q1{checksum}", *fields]) + "\n\n"

    def words(self, count: int) -> list[str]:
        rng = self.rng
        found: dict[str, str] = {}
        for _ in range(count):
            name = "gone" if rng.random() < 0.01 else rng.choice(self.names * 2 + self.virtuals)
            version = (
                rng.choice(["=", "<", ">", ">=", "<=", "~"]) + rng.choice(VERSIONS)
                if rng.random() < self.versions
                else ""
            )
            found.setdefault(name, ("!" if rng.random() < self.conflicts else "") + name + version)
        return list(found.values())

    def offers(self, count: int) -> list[str]:
        rng = self.rng
        names = dict.fromkeys(rng.choice(self.virtuals * 2 + self.names[:2]) for _ in range(count))
        return [name + ("=" + rng.choice(VERSIONS) if rng.random() < 0.5 else "") for name in names]

    def pinned(self, word: str, pin: str) -> str:
        return word if word.startswith("!") else re.sub(r"^[^<>=~]+", lambda found: f"{found[0]}@{pin}", word)


def _named(block: str) -> tuple[str, str]:
    lines = dict(line.split(":", 1) for line in block.split("\n") if ":" in line)
    return lines["P"], lines["V"]


_WORDS = {
    "Installing": "install",
    "Upgrading": "upgrade",
    "Downgrading": "downgrade",
    "Replacing": "replace",
    "Purging": "remove",
    "Updating pinning": "pin",
}
_STEP = re.compile(r"^\(\d+/\d+\) (Updating pinning|\w+) (\S+?)(?:@\S+)? (?:on .*)?\((.*)\)$", re.MULTILINE)


def read_answer(output: str) -> Answer:
    """What apk printed, in comparable form."""
    if "unable to select packages" in output:
        return False, [], re.findall(r"^  (\S.*):$", output, re.MULTILINE)
    if "ERROR" in output:
        return False, [], []
    steps = [(_WORDS[word], name, versions.split(" -> ")[-1]) for word, name, versions in _STEP.findall(output)]
    return True, steps, []


def applied(installed: Sequence[PackageRecord], solution: Solution) -> list[str]:
    """What the steps make of what was installed, sorted."""
    there = {record.name: record for record in installed}
    for step in solution.steps:
        if step.action == "remove":
            del there[step.record.name]
        else:
            there[step.record.name] = step.record
    return sorted(str(record) for record in there.values())
