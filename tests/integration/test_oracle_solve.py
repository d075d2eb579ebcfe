"""Against the real apk: its recorded answers, and the program itself where it is at hand.

The recorded answers are of 2.14.10. The program is 2.14.0, which decides in another order where a choice is free; that
order is asked of the solver too (`DecisionOrder.DEPTH`), so that everything else is compared with the program itself.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from functools import cache
from pathlib import Path

import pytest
from tests.genuine import GenuineApk
from tests.solver_worlds import Answer, SolverWorld, make_world, read_answer

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.apk.version import Version
from sixsmith.errors import FormatError, Unsatisfiable
from sixsmith.solver import DecisionOrder, SolverRepository, solve

pytestmark = pytest.mark.data


@cache
def index_text(path: Path) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes())), ignore_zeros=True) as tar:
        member = tar.extractfile("APKINDEX")
        assert member is not None
        return member.read()


def upstream(data: Path, place: str) -> bytes:
    return index_text(data / f"upstream/alpine/{place}/x86_64/APKINDEX.tar.gz")


# recorded answers


@pytest.mark.parametrize(
    ("file", "release"),
    [("solve-v3.16-main", "v3.16"), ("solve-v3.16-main-constraints", "v3.16"), ("solve-v3.20-main", "v3.20")],
)
def test_recorded_answers_over_real_indexes(data: Path, file: str, release: str) -> None:
    index = PackageIndex.parse(upstream(data, f"{release}/main"))
    wrong = []
    for case in json.loads((data / f"oracle/{file}.json").read_text())["cases"]:
        try:
            solution = solve([Dependency.parse(word) for word in case["world"]], [SolverRepository(index, "main")])
            got = (True, [[step.record.name, step.record.version] for step in solution.steps], [])
        except Unsatisfiable as error:
            got = (False, None, sorted(error.subjects))
        if got != (case["ok"], case["install"], sorted(case["subjects"])):
            wrong.append((case["world"], got))
    assert not wrong


def test_recorded_answers_over_made_up_repositories(data: Path) -> None:
    wrong = []
    for case in json.loads((data / "oracle/solve-extra.json").read_text()):
        repositories = [
            SolverRepository(
                PackageIndex.of([_record(one) for one in repository["packages"]]),
                f"r{number}",
                repository["tag"] or None,
            )
            for number, repository in enumerate(case["repos"])
        ]
        world = [Dependency.parse(word) for word in case["world"] + case["packages"]]
        expected = case["expect"]
        try:
            solution = solve(world, repositories, installed=[_record(one) for one in case["installed"]])
            got = (True, [(step.record.name, step.record.version) for step in solution.steps], [])
        except Unsatisfiable as error:
            got = (False, [], list(error.subjects))
        actions = [(action["name"], action["version"]) for action in expected["actions"]]
        if got != (expected["ok"], actions, list(expected.get("error", {}).get("subjects", {}))):
            wrong.append((case["name"], got))
    assert not wrong


def _record(fields: dict[str, object]) -> PackageRecord:
    known = {key: value for key, value in fields.items() if key not in ("name", "version")}
    return PackageRecord(str(fields["name"]), str(fields["version"]), **known)  # type: ignore[arg-type]  # named alike


def test_recorded_version_questions(data: Path) -> None:
    wrong = []
    for case in json.loads((data / "oracle/version-constraints.json").read_text())["cases"]:
        try:
            entry = Dependency.parse(f"p{case['op']}{case['want']}")
        except FormatError:
            entry = None
        got = (entry is None, entry is not None and entry.accepts(Version(case["have"])))
        if got != (case["bad_dependency"], case["satisfied"]):
            wrong.append(case)
    assert not wrong


# the program itself


@pytest.fixture(scope="module")
def apk(data: Path, tmp_path_factory: pytest.TempPathFactory) -> GenuineApk:
    return GenuineApk(tmp_path_factory.mktemp("apk"), data)


def ask_apk(apk: GenuineApk, folder: Path, world: SolverWorld, *, upgrade: bool = False) -> Answer:
    lines = []
    for number, (pin, text) in enumerate(world.repositories):
        path = folder / f"r{number}/x86_64"
        path.mkdir(parents=True)
        (path / "APKINDEX.tar.gz").write_bytes(_index_archive(text.encode()))
        lines.append(f"@{pin} {path.parent}" if pin else str(path.parent))
    root = folder / "root"
    for part in ("lib/apk/db", "etc/apk", "var/cache/apk"):
        (root / part).mkdir(parents=True)
    (root / "etc/apk/repositories").write_text("".join(f"{line}\n" for line in lines))
    (root / "etc/apk/world").write_text("".join(f"{word}\n" for word in world.earlier))
    (root / "lib/apk/db/installed").write_text(world.installed)
    for name in ("triggers", "scripts.tar"):
        (root / "lib/apk/db" / name).touch()
    words = ["upgrade", "--no-self-upgrade"] if upgrade else ["add", *world.request]
    done = apk.run(root, "--allow-untrusted", "--simulate", *words)
    return read_answer(done.stdout + done.stderr)


def _index_archive(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("DESCRIPTION", b"x"), ("APKINDEX", text)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1)


@pytest.mark.parametrize("batch", range(6))
def test_made_up_worlds_against_the_program(apk: GenuineApk, tmp_path: Path, batch: int) -> None:
    wrong = []
    for seed in range(batch * 25, batch * 25 + 25):
        world = make_world(seed)
        upgrade = bool(world.installed) and seed % 7 == 0
        expected = ask_apk(apk, tmp_path / str(seed), world, upgrade=upgrade)
        got = world.answer(DecisionOrder.DEPTH, upgrade=upgrade)
        if got != expected:
            wrong.append((seed, world.request, got, expected))
    assert not wrong


@pytest.mark.parametrize("on_minirootfs", [False, True])
def test_real_indexes_against_the_program(data: Path, apk: GenuineApk, tmp_path: Path, on_minirootfs: bool) -> None:
    texts = [upstream(data, f"v3.16/{part}") for part in ("main", "community")]
    repositories = [SolverRepository(PackageIndex.parse(text), str(number)) for number, text in enumerate(texts)]
    root = tmp_path / "root"
    installed: list[PackageRecord] = []
    earlier: list[str] = []
    if on_minirootfs:
        (archive,) = (data / "upstream/alpine/v3.16/releases/x86_64").glob("alpine-minirootfs-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="tar")
        blocks = (root / "lib/apk/db/installed").read_text().split("\n\n")
        installed = [PackageRecord.parse(block) for block in blocks if block.strip()]
        earlier = (root / "etc/apk/world").read_text().split()
    else:
        for part in ("lib/apk/db", "etc/apk", "var/cache/apk"):
            (root / part).mkdir(parents=True)
        for name in ("installed", "triggers", "scripts.tar"):
            (root / "lib/apk/db" / name).touch()
        (root / "etc/apk/world").touch()
    lines = [f"{data}/upstream/alpine/v3.16/{part}\n" for part in ("main", "community")]
    (root / "etc/apk/repositories").write_text("".join(lines))
    rng = random.Random(316)
    names = [name for repository in repositories for name in repository.index.names()]
    wrong = []
    for _ in range(12):
        request = sorted({"busybox", *rng.sample(names, rng.randint(1, 5))})
        done = apk.run(root, "--allow-untrusted", "--simulate", "add", *request)
        expected = read_answer(done.stdout + done.stderr)
        world = [Dependency.parse(word) for word in earlier + request]
        try:
            solution = solve(
                world, repositories, installed=installed, requested=set(request), order=DecisionOrder.DEPTH
            )
            got: Answer = (True, [(step.action, step.record.name, step.record.version) for step in solution.steps], [])
        except Unsatisfiable as error:
            got = (False, [], list(error.subjects))
        if got != expected:
            wrong.append((request, got, expected))
    assert not wrong
