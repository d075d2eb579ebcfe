"""`python -m benchmarks`: measures, prints a table, and writes docs/benchmarks.md and docs/benchmarks.svg.

    python -m benchmarks [--rounds 5] [--no-write]

Every command is a process of its own. CPU time is what counts (of the process and its children, as the kernel says); times
are medians. Every run has a folder of its own that is removed at the very end, because a file system that has just deleted
thousands of files makes the next run pay for it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chart import draw
from benchmarks.measure import Failed, Sample, repeat, run
from benchmarks.peers import peers
from benchmarks.world import ROOT, Ground, family_of_sixty, find_ground, one_image, with_one_changed
from sixsmith.model.compression import compressor

GOALS = {
    "cold": 0.20,
    "package cache warm": None,
    "one big package changed": 0.10,
    "one small package changed": 0.10,
    "nothing changed": 0.04,
    "`single` layer, cold": 0.40,
}


@dataclass(frozen=True)
class Row:
    """One line of the table; `size` is bytes of all blobs, `note` stands instead of numbers."""

    name: str
    sample: Sample | None
    size: int = 0
    goal: float | None = None
    note: str = ""


class Bench:
    """A folder in which every run gets a place of its own."""

    def __init__(self, folder: Path, ground: Ground, rounds: int) -> None:
        self.folder = folder
        self.ground = ground
        self.rounds = rounds
        self._count = 0

    def place(self) -> Path:
        self._count += 1
        place = self.folder / f"run{self._count}"
        place.mkdir()
        return place

    def build(self, family: str, place: Path, *, output: str = "dist", name: str = "sixsmith.yaml") -> Sample:
        """`sixsmith build` of this family in this place."""
        (place / name).write_text(family)
        command = [sys.executable, "-m", "sixsmith", "build", "-q", "-f", str(place / name)]
        command += ["--store", str(place / "store"), "--output", str(place / output)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SIXSMITH_")}
        return run(command, environment=environment)

    def fresh(self, family: str) -> Sample:
        """Everything from nothing, each time."""
        return repeat(self.rounds, lambda _: self.build(family, self.place()))

    def after(self, family: str, then: str, *, unchanged: bool = False) -> Sample:
        """The second of two builds; the first is not measured."""

        def once(_: int) -> Sample:
            place = self.place()
            self.build(family, place)
            return self.build(then, place, name="sixsmith.yaml" if unchanged else "then.yaml")

        return repeat(self.rounds, once)

    def size(self, family: str) -> int:
        """Bytes of the blobs of the one image of a family."""
        place = self.place()
        self.build(family, place)
        return sum(path.stat().st_size for path in (place / "dist/bench/blobs/sha256").iterdir())


def measure(bench: Bench, say: Callable[[str], None]) -> list[Row]:
    """All rows, peers first."""
    rows = []
    for peer in peers(bench.ground, bench.folder):
        if peer.once is None:
            rows.append(Row(peer.name, None, note=f"skipped: {peer.reason}"))
            continue
        say(peer.name)
        sizes: list[int] = []

        def once(_: int, peer: object = peer, sizes: list[int] = sizes) -> Sample:
            sample, size = peer.once(bench.place())  # type: ignore[attr-defined]  # bound for the loop's sake
            sizes.append(size)
            return sample

        try:
            rows.append(Row(peer.name, repeat(bench.rounds, once), sizes[-1]))
        except Failed as failure:
            rows.append(Row(peer.name, None, note=f"skipped: {failure}"))
    ground = bench.ground
    cold, single = one_image(ground), one_image(ground, strategy="single")
    big = with_one_changed(ground, bench.place(), "big")
    small = with_one_changed(ground, bench.place(), "small")
    reordered = cold.replace('tag: "{alpine}"', 'tag: "{alpine}-again"')
    cases: list[tuple[str, Callable[[], Sample], int]] = [
        ("cold", lambda: bench.fresh(cold), bench.size(cold)),
        ("package cache warm", lambda: bench.after(cold, reordered), 0),
        ("one big package changed", lambda: bench.after(cold, one_image(big)), 0),
        ("one small package changed", lambda: bench.after(cold, one_image(small)), 0),
        ("nothing changed", lambda: bench.after(cold, cold, unchanged=True), 0),
        ("`single` layer, cold", lambda: bench.fresh(single), bench.size(single)),
    ]
    for name, case, size in cases:
        say(f"sixsmith: {name}")
        rows.append(Row(f"sixsmith: {name}", case(), size, GOALS[name]))
    say("sixsmith: sixty cells")
    sixty = family_of_sixty(ground)
    rows.append(
        Row(
            "sixsmith: 60 cells on 6 bases, cold",
            repeat(max(1, bench.rounds // 2), lambda _: bench.build(sixty, bench.place())),
        )
    )
    more = f'  more: {{from: base0, tag: "{{alpine}}-more", packages: [{ground.packages[-1]}]}}'
    marginal = sixty.replace("images:\n", f"images:\n{more}\n")
    rows.append(
        Row(
            "sixsmith: the 60 again and one cell more",
            repeat(max(1, bench.rounds // 2), lambda _: _second(bench, sixty, marginal)),
        )
    )
    rows.append(
        Row(
            "sixsmith: the 60 again, a comment changed",
            repeat(max(1, bench.rounds // 2), lambda _: _second(bench, sixty, sixty + "# another comment\n")),
        )
    )
    return rows


def _second(bench: Bench, first: str, then: str) -> Sample:
    place = bench.place()
    bench.build(first, place)
    return bench.build(then, place)


def table(rows: Sequence[Row], ground: Ground) -> str:
    """The table in Markdown; ratios are to the first row, where it was measured."""
    peer = rows[0].sample
    lines = ["| | CPU ms | ratio | goal | wall ms | memory MB | blobs MB |", "|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        if row.sample is None:
            lines.append(f"| {row.name} | {row.note} | | | | | |")
            continue
        ratio = f"{row.sample.cpu / peer.cpu:.3f}" if peer else ""
        goal = f"{row.goal:.2f}" if row.goal is not None else ""
        size = f"{row.size / 1e6:.2f}" if row.size else ""
        sample = row.sample
        lines.append(
            f"| {row.name} | {sample.cpu:.0f} | {ratio} | {goal} | {sample.wall:.0f} | {sample.memory:.0f} | {size} |"
        )
    return "\n".join(lines) + "\n"


def document(rows: Sequence[Row], ground: Ground, rounds: int) -> str:
    """docs/benchmarks.md."""
    return f"""\
# Benchmarks

What an image costs: {ground.name}, {ground.size / 1e6:.1f} MB of package files, from a repository in a folder. Each line is a
whole process with its children, medians of {rounds} runs, on {os.cpu_count()} CPUs ({platform.machine()}), Python
{platform.python_version()}, {compressor()}. CPU is user and system time; the ratio is to the first line, in the same run.

{table(rows, ground)}
![CPU time of each](benchmarks.svg)

- **cold**: an empty store. Every package is read, verified, inflated and hashed; the image is written and validated.
- **package cache warm**: the packages are in the store, the image is another one.
- **one package changed**: another index with a newer release of one package; "big" has a layer of its own, "small" shares one.
- **nothing changed**: the same build again. It is answered from a receipt: everything that the first build read is looked at
  again (family file, lock, keys, local files and indexes by content, blobs and program files by size and time of change).
- **60 cells**: six bases, nine images on each. The lines below it build the family again with one cell more, and with
  nothing more but a changed file; their difference is what a cell costs whose packages are all known.

Make this page anew with `make bench`; with real packages at hand (`SIXSMITH_TEST_DATA`) it compares with the real apk,
without them it measures sixsmith on a small sample set.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description="What a build costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-write", action="store_true", help="only print the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sixsmith-bench-"))
    try:
        ground = find_ground(folder)
        rows = measure(
            Bench(folder, ground, options.rounds), lambda text: print(f"  {text}", file=sys.stderr, flush=True)
        )
        print(table(rows, ground))
        if not options.no_write:
            drawn = [(re.sub(r"[`]", "", row.name), row.sample.cpu) for row in rows if row.sample is not None]
            (ROOT / "docs/benchmarks.svg").write_text(draw(drawn, unit="ms of CPU time"))
            (ROOT / "docs/benchmarks.md").write_text(document(rows, ground, options.rounds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
