"""`python -m benchmarks`: measures, prints a table, and writes docs/benchmarks.md and docs/benchmarks.svg.

    python -m benchmarks [--rounds 5] [--runs 3] [--no-write]

Every command is a process of its own. CPU time is what counts (of the process and its children, as the kernel says); times
are medians of the rounds. A run measures everything once over; several runs show what is noise. Every process has a folder
of its own that is removed at the very end, because a file system that has just deleted thousands of files makes the next
one pay for it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chart import draw
from benchmarks.measure import Failed, Sample, middle, repeat, run
from benchmarks.peers import peers
from benchmarks.world import ROOT, Days, Ground, family_of_sixty, find_ground, one_image, two_days
from sixsmith.model.compression import compressor

PEER = "apk add, tar, gzip -6, sha256"
COLD = "sixsmith: cold"
SIXTY = "sixsmith: 60 cells on 6 bases, cold"
ONE_MORE = "sixsmith: the 60 again and one cell more"
TEN_MORE = "sixsmith: the 60 again and ten cells more"
AGAIN = "sixsmith: the 60 again, a comment changed"

GOALS = {
    COLD: 0.20,
    "sixsmith: one big package changed": 0.10,
    "sixsmith: one small package changed": 0.10,
    "sixsmith: nothing changed": 0.04,
    "sixsmith: `single` layer, cold": 0.40,
}
"""CPU time at most, as a ratio to the peer's in the same run."""
FAMILY_GOAL = 3.0
"""CPU time of sixty cells at most, as a ratio to one cold image's."""
MARGINAL_GOAL = 10.0
"""Milliseconds of CPU time at most for each cell more whose packages are all known."""
MEMORY_GOAL = 100
"""Megabytes at most, for any build of one image."""
BYTES_GOAL = 1.01
"""Bytes of an image's blobs at most, as a ratio to the peer's."""


@dataclass(frozen=True)
class Row:
    """One line of the table; `size` is bytes of all blobs, `note` stands instead of numbers."""

    name: str
    sample: Sample | None
    size: int = 0
    note: str = ""


Rows = dict[str, Row]
"""What one run measured, by name, in the order in which it was measured."""


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

    def next_day(self, days: Days) -> Sample:
        """The same family on the second day, after the first was built."""
        family = one_image(days.now)

        def once(_: int) -> Sample:
            place = self.place()
            days.show(days.first)
            self.build(family, place)
            days.show(days.second)
            return self.build(family, place)

        return repeat(self.rounds, once)

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


def measure(bench: Bench, say: Callable[[str], None]) -> Rows:
    """All rows of one run, peers first."""
    rows = [*_of_peers(bench, say), *_of_one_image(bench, say), *_of_a_family(bench, say)]
    return {row.name: row for row in rows}


def _of_peers(bench: Bench, say: Callable[[str], None]) -> list[Row]:
    rows = []
    for peer in peers(bench.ground, bench.place()):
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
    return rows


def _of_one_image(bench: Bench, say: Callable[[str], None]) -> list[Row]:
    ground = bench.ground
    cold, single = one_image(ground), one_image(ground, strategy="single")
    big, small = (two_days(ground, bench.place(), size) for size in ("big", "small"))
    reordered = cold.replace('tag: "{alpine}"', 'tag: "{alpine}-again"')
    cases: list[tuple[str, Callable[[], Sample], int]] = [
        (COLD, lambda: bench.fresh(cold), bench.size(cold)),
        ("sixsmith: package cache warm", lambda: bench.after(cold, reordered), 0),
        ("sixsmith: one big package changed", lambda: bench.next_day(big), 0),
        ("sixsmith: one small package changed", lambda: bench.next_day(small), 0),
        ("sixsmith: nothing changed", lambda: bench.after(cold, cold, unchanged=True), 0),
        ("sixsmith: `single` layer, cold", lambda: bench.fresh(single), bench.size(single)),
    ]
    rows = []
    for name, case, size in cases:
        say(name)
        rows.append(Row(name, case(), size))
    return rows


def _of_a_family(bench: Bench, say: Callable[[str], None]) -> list[Row]:
    say(SIXTY)
    families = {
        AGAIN: family_of_sixty(bench.ground) + "# another comment\n",
        ONE_MORE: family_of_sixty(bench.ground, more=1),
        TEN_MORE: family_of_sixty(bench.ground, more=10),
    }
    samples: dict[str, list[Sample]] = {SIXTY: [], **{name: [] for name in families}}
    for _ in range(max(3, bench.rounds // 2)):  # in turn: their differences count, and machines drift
        for name, family in families.items():
            place = bench.place()
            samples[SIXTY].append(bench.build(family_of_sixty(bench.ground), place))
            samples[name].append(bench.build(family, place))
    return [Row(name, middle(found)) for name, found in samples.items()]


# ---- what it says


def table(runs: Sequence[Rows]) -> str:
    """The table in Markdown: medians over the runs, and the ratio to the peer in each run."""
    lines = [
        "| | CPU ms | ratio to the first line, in each run | goal | wall ms | memory MB | blobs MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in runs[-1].items():
        samples = [sample for rows in runs if (sample := rows[name].sample) is not None]
        if not samples:
            lines.append(f"| {name} | {row.note} | | | | | |")
            continue
        ratios = [_ratio(rows, name, PEER) for rows in runs]
        shown = " · ".join(f"{ratio:.3f}" for ratio in ratios if ratio is not None)
        goal = f"{GOALS[name]:.2f}" if name in GOALS else ""
        size = f"{row.size / 1e6:.2f}" if row.size else ""
        sample = middle(samples)
        lines.append(
            f"| {name} | {sample.cpu:.0f} | {shown} | {goal} | {sample.wall:.0f} | {sample.memory:.0f} | {size} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(rows: Rows, name: str, other: str) -> float | None:
    """CPU time of one row to that of another in the same run, where both were measured."""
    one, two = rows[name].sample, rows[other].sample if other in rows else None
    return one.cpu / two.cpu if one is not None and two is not None else None


def goals(runs: Sequence[Rows]) -> str:
    """The other goals, as a list in Markdown: the family, a cell more, memory and bytes."""
    family = [ratio for rows in runs if (ratio := _ratio(rows, SIXTY, COLD)) is not None]
    each = [(_cpu(rows, TEN_MORE) - _cpu(rows, AGAIN)) / 10 for rows in runs]
    first = [_cpu(rows, ONE_MORE) - _cpu(rows, AGAIN) for rows in runs]
    memory = max(row.sample.memory for rows in runs for row in rows.values() if row.sample and row.size and _ours(row))
    lines = [
        f"- Sixty cells cost {_each(family, '.2f')} times one cold image (goal: at most {FAMILY_GOAL:.0f}).",
        f"- Each of ten cells more, whose packages are all known: {_each(each, '.1f')} ms of CPU time (goal: at most {MARGINAL_GOAL:.0f}).",
        f"- Of one alone, which is the first to need a solver and the tree of its base: {_each(first, '.1f')} ms.",
        f"- Memory at its highest, of a build of one image: {memory:.0f} MB (goal: at most {MEMORY_GOAL}).",
    ]
    peer = runs[-1].get(PEER)
    if peer is not None and peer.size:
        sizes = {
            row.name.removeprefix("sixsmith: "): row.size / peer.size
            for row in runs[-1].values()
            if row.size and _ours(row)
        }
        shown = ", ".join(f"{ratio:.3f} ({name})" for name, ratio in sizes.items())
        lines.append(f"- Bytes of all blobs, to those of `gzip -6`: {shown} (goal: at most {BYTES_GOAL}).")
    return "\n".join(lines) + "\n"


def _ours(row: Row) -> bool:
    return row.name.startswith("sixsmith: ")


def _cpu(rows: Rows, name: str) -> float:
    sample = rows[name].sample
    return sample.cpu if sample is not None else float("nan")


def _each(values: Sequence[float], form: str) -> str:
    return " · ".join(format(value, form) for value in values)


def document(runs: Sequence[Rows], ground: Ground, rounds: int) -> str:
    """docs/benchmarks.md."""
    return f"""\
# Benchmarks

What an image costs: {ground.name}, {ground.size / 1e6:.1f} MB of package files, from a repository in a folder. Each line is a
whole process with its children, medians of {rounds} rounds in each of {len(runs)} runs, on {os.cpu_count()} CPUs
({platform.machine()}), Python {platform.python_version()}, {compressor()}. CPU is user and system time.

{table(runs)}
{goals(runs)}
![CPU time of each](benchmarks.svg)

- **cold**: an empty store. Every package is read, verified, inflated and hashed; the image is written and validated.
- **package cache warm**: the packages are in the store, the image is another one.
- **one package changed**: the same family file the next day, when the repository has a newer release of one package; "big" has
  a layer of its own, "small" shares one.
- **nothing changed**: the same build again. It is answered from a receipt: everything that the first build read is looked at
  again (family file, lock, keys, local files and indexes by content, blobs and program files by size and time of change).
- **60 cells**: six bases, nine images on each. The lines below it build the family again: with nothing more but a changed
  file, with one cell more, and with ten; the differences are what a cell costs whose packages are all known.

Make this page anew with `make bench`; with real packages at hand (`SIXSMITH_TEST_DATA`) it compares with the real apk,
without them it measures sixsmith on a small sample set.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description="What a build costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="only print the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sixsmith-bench-"))
    try:
        ground = find_ground(folder)
        runs = []
        for number in range(options.runs):
            print(f"run {number + 1} of {options.runs}", file=sys.stderr, flush=True)
            place = folder / f"runs{number}"
            place.mkdir()
            bench = Bench(place, ground, options.rounds)
            runs.append(measure(bench, lambda text: print(f"  {text}", file=sys.stderr, flush=True)))
        print(table(runs))
        print(goals(runs))
        if not options.no_write:
            (ROOT / "docs/benchmarks.svg").write_text(draw(_bars(runs), unit="ms of CPU time"))
            (ROOT / "docs/benchmarks.md").write_text(document(runs, ground, options.rounds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bars(runs: Sequence[Rows]) -> list[tuple[str, float]]:
    measured = {name: [row.sample.cpu for rows in runs if (row := rows[name]).sample] for name in runs[-1]}
    return [(re.sub(r"[`]", "", name), statistics.median(times)) for name, times in measured.items() if times]


if __name__ == "__main__":
    main()
