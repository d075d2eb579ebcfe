"""Installing against the genuine apk: CPU time of both, the same packages into empty directories, scripts included.

    python benchmarks/install.py [--data DIR] [--rounds 5]

Each does all of it: read and verify the index, solve, verify every package, unpack, run the scripts (ours are emulated),
write files and database. `process` is `sixsmith install` as a program of its own, `inside` the same without start-up,
called in a process that has done it before; both begin with an empty store and fill it. `tree` is what an image build
needs of it: packages verified and installed, scripts included, into a tree in memory. Apk is a whole process. After the
last round the directories are compared: file for file, with modes and owners.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tests.genuine import GenuineApk, differences, disk_entries  # noqa: E402

from sixsmith.apk.archive import open_package, package_entries  # noqa: E402  # after the path to tests/
from sixsmith.apk.dependency import Dependency  # noqa: E402
from sixsmith.apk.index import PackageIndex  # noqa: E402
from sixsmith.apk.signature import verify_index  # noqa: E402
from sixsmith.cli import run as sixsmith  # noqa: E402
from sixsmith.rootfs.install import InstallPackage, install  # noqa: E402
from sixsmith.rootfs.scripts import Emulator  # noqa: E402
from sixsmith.rootfs.sources import GzipSource  # noqa: E402
from sixsmith.rootfs.tree import Tree  # noqa: E402
from sixsmith.solver import SolverRepository, solve  # noqa: E402


@dataclass(frozen=True)
class Request:
    name: str
    repository: str
    packages: tuple[str, ...]


class Bench:
    """One request after the other, each round in directories of its own."""

    def __init__(self, folder: Path, data: Path, rounds: int) -> None:
        self.folder = folder
        self.mirror = data / "upstream/alpine"
        self.apk = GenuineApk(folder / "apk", data)
        self.rounds = rounds
        self._count = 0

    def place(self) -> Path:
        self._count += 1
        path = self.folder / str(self._count)
        path.mkdir()
        return path

    def row(self, request: Request) -> str:
        repository = self.mirror / request.repository
        ours, theirs = self.place(), self.place()
        columns: list[Callable[[], float]] = [
            lambda: self.process(request, repository),
            lambda: self.inside(request, repository, ours),
            lambda: self.tree(request, repository),
            lambda: self.genuine(request, repository, theirs),
        ]
        columns[1]()  # what is imported once
        times: list[list[float]] = [[] for _ in columns]
        for _ in range(self.rounds):  # by turns, so that a busy moment touches all of them
            for column, call in zip(times, columns, strict=True):
                column.append(call() * 1000)
        process, inside, tree, apk = (statistics.median(column) for column in times)
        self.check(ours, theirs)
        return (
            f"{request.name:22} {len(request.packages):8} {process:8.0f} {inside:8.0f} {tree:8.0f} {apk:8.0f}"
            f" {process / apk:12.2f} {inside / apk:11.2f} {tree / apk:9.2f}"
        )

    def arguments(self, request: Request, repository: Path, root: Path) -> list[str]:
        places = ["--repository", str(repository), "--allow-untrusted", "--store", str(self.place())]
        return ["install", "--quiet", "--root", str(root), *places, *request.packages]

    def process(self, request: Request, repository: Path) -> float:
        command = [sys.executable, "-m", "sixsmith", *self.arguments(request, repository, self.place() / "root")]
        before = _children()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"sixsmith install: {done.stderr}")
        return _children() - before

    def inside(self, request: Request, repository: Path, root: Path) -> float:
        shutil.rmtree(root)
        arguments = self.arguments(request, repository, root)
        said = io.StringIO()
        before = time.process_time()
        with redirect_stdout(said), redirect_stderr(said):
            code = sixsmith(arguments)
        took = time.process_time() - before
        if code:
            raise SystemExit(said.getvalue())
        return took

    def tree(self, request: Request, repository: Path) -> float:
        before = time.process_time()
        text = verify_index((repository / "x86_64/APKINDEX.tar.gz").read_bytes(), None, "index").text
        world = [Dependency.parse(word) for word in request.packages]
        solution = solve(world, [SolverRepository(PackageIndex.parse(text), "main")])
        packages = {}
        for step in solution.steps:
            record = step.record
            file = (repository / "x86_64" / record.filename).read_bytes()
            archive = open_package(file, checksum=record.checksum, keyring=None, what=record.filename)
            data = bytes(archive.data)
            source = GzipSource(archive.data_digest, lambda data=data: data, what=record.filename)
            entries = package_entries(source.inflate(), record.filename)
            packages[record.name] = InstallPackage(record, archive.control, entries, source, len(data))
        install(Tree(), solution.steps, packages, world=solution.world, arch="x86_64", scripts=Emulator())
        return time.process_time() - before

    def genuine(self, request: Request, repository: Path, root: Path) -> float:
        shutil.rmtree(root)
        root.mkdir()
        before = _children()
        places = ("--initdb", "--allow-untrusted", "--repository", repository)
        done = self.apk.run(root, *places, "add", *request.packages)
        if done.returncode:
            raise SystemExit(f"apk: {done.stderr}")
        return _children() - before

    def check(self, ours: Path, theirs: Path) -> None:
        """That both did the same, times apart: what scripts wrote has the time of writing, and shadow has today's number."""
        left, right = (_without_times(disk_entries(root)) for root in (theirs, ours))
        for entries in (left, right):
            entries["etc/shadow"] = entries.get("etc/shadow", ("none",))[:4]
        if found := differences(left, right):
            raise SystemExit("the trees differ:\n" + "\n".join(found))


def _without_times(entries: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    return {path: entry[:5] if entry[0] == "file" else entry for path, entry in entries.items()}


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def requests(mirror: Path) -> list[Request]:
    index = verify_index((mirror / "v3.19/bench/x86_64/APKINDEX.tar.gz").read_bytes(), None, "bench").text
    everything = tuple(sorted(record.name for record in PackageIndex.parse(index)))
    return [
        Request("busybox", "v3.19/main", ("busybox",)),
        Request("alpine-base", "v3.19/main", ("alpine-base",)),
        Request("a base with servers", "v3.19/main", ("alpine-base", "openssh", "chrony", "wpa_supplicant", "wget")),
        Request("sixty packages", "v3.19/bench", everything),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SIXSMITH_TEST_DATA", ROOT.parent / "shared"))
    )
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("apk sets owners and runs scripts in a chroot, which needs root")
    data = chosen.data.resolve()
    print(f"median CPU ms of {chosen.rounds} rounds")
    print(
        f"{'request':22} {'packages':>8} {'process':>8} {'inside':>8} {'tree':>8} {'apk':>8}"
        f" {'process/apk':>12} {'inside/apk':>11} {'tree/apk':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), data, chosen.rounds)
        for request in requests(data / "upstream/alpine"):
            print(bench.row(request), flush=True)


if __name__ == "__main__":
    main()
