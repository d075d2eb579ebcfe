"""Solving against the genuine apk: CPU time of both, over the same indexes, in one run.

    python benchmarks/solve.py [--data DIR] [--rounds 7]

Ours is measured inside one process that has started up: reading the index text (already inflated) and everything after
it, anew each time. Apk is a whole process with `--simulate`: start, read, inflate and parse the indexes, solve, print.
The third column is ours with the indexes' tables kept from an earlier question, as when one family has many cells.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.genuine import GenuineApk  # noqa: E402

from sixsmith.apk.dependency import Dependency  # noqa: E402  # after the path to tests/
from sixsmith.apk.index import PackageIndex  # noqa: E402
from sixsmith.solver import SolverRepository, solve  # noqa: E402

REQUESTS = [
    "busybox nginx",
    "busybox nginx python3 nodejs",
    "alpine-base bash curl git",
    "busybox php81 php81-fpm mariadb",
    "busybox postgresql redis",
    "busybox ffmpeg imagemagick",
    "busybox firefox",
]


def index_text(path: Path) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes())), ignore_zeros=True) as tar:
        member = tar.extractfile("APKINDEX")
        assert member is not None  # an index archive without an index is no input for a benchmark
        return member.read()


def median_ms(call: Callable[[], object], clock: Callable[[], float], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times) * 1000


def children_cpu() -> float:
    usage = os.times()
    return usage.children_user + usage.children_system


def empty_root(root: Path, mirror: Path) -> None:
    for part in ("lib/apk/db", "etc/apk", "var/cache/apk"):
        (root / part).mkdir(parents=True)
    for name in ("lib/apk/db/installed", "lib/apk/db/triggers", "lib/apk/db/scripts.tar", "etc/apk/world"):
        (root / name).touch()
    (root / "etc/apk/repositories").write_text(f"{mirror}/v3.16/main\n{mirror}/v3.16/community\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SIXSMITH_TEST_DATA", ROOT.parent / "shared"))
    )
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    data = chosen.data.resolve()
    mirror = data / "upstream/alpine"
    texts = [index_text(mirror / f"v3.16/{part}/x86_64/APKINDEX.tar.gz") for part in ("main", "community")]
    records = sum(len(PackageIndex.parse(text)) for text in texts)
    print(f"{records} records, median CPU ms of {chosen.rounds} rounds")
    print(f"{'request':36} {'steps':>5} {'ours':>7} {'kept':>7} {'apk':>7} {'ours/apk':>9}")
    with tempfile.TemporaryDirectory() as folder:
        apk = GenuineApk(Path(folder) / "apk", data)
        root = Path(folder) / "root"
        empty_root(root, mirror)
        for request in REQUESTS:
            world = [Dependency.parse(word) for word in request.split()]
            kept = [SolverRepository(PackageIndex.parse(text), str(number)) for number, text in enumerate(texts)]
            steps = len(solve(world, kept).steps)

            def anew(world: list[Dependency] = world) -> None:
                solve(
                    world,
                    [SolverRepository(PackageIndex.parse(text), str(number)) for number, text in enumerate(texts)],
                )

            def again(world: list[Dependency] = world, kept: list[SolverRepository] = kept) -> None:
                solve(world, kept)

            def genuine(request: str = request) -> None:
                apk.run(root, "--allow-untrusted", "--simulate", "add", *request.split())

            ours = median_ms(anew, time.process_time, chosen.rounds)
            warm = median_ms(again, time.process_time, chosen.rounds)
            theirs = median_ms(genuine, children_cpu, chosen.rounds)
            print(f"{request:36} {steps:5} {ours:7.1f} {warm:7.1f} {theirs:7.1f} {ours / theirs:9.2f}")


if __name__ == "__main__":
    main()
