"""`python -m benchmarks.booting`: from `sixsmith boot` to its verdict, the whole process, for a bare image of each major.

    python -m benchmarks.booting --upstream DIR [--rounds 9] [--runner NAME]...

`DIR` has `alpine/v*/releases/x86_64/` and `s6-overlay/v*/`, as mirrors have them. Wall time includes the start of Python and an
orderly stop; CPU time is that of all processes. A second of v3's time is s6's own: it starts what ends the container at most
once a second (docs/decisions/0013-boot-runners.md). Beside it stands what Python alone takes, so that machines can be compared.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.supervisors import Contender, Maker
from sixsmith.io.layout import write_layout
from sixsmith.io.store import Store
from sixsmith.oci.spec import MANIFEST, Descriptor

IMAGES = (
    Contender("v1", ("/init",), overlay="1.21.4.0", alpine="3.12"),
    Contender("v2", ("/init",), overlay="2.1.0.2", alpine="3.12"),
    Contender("v3", ("/init",), overlay="3.2.1.0"),
)


def measure(command: Sequence[str], rounds: int) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of each round. Raises CalledProcessError when a command fails."""
    walls, cpus = [], []
    for _ in range(rounds):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        walls.append(time.monotonic() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return walls, cpus


def main() -> int:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.booting")
    parser.add_argument("--upstream", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--runner", action="append", default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store(folder / "images-store") as store:
            maker = Maker(store, given.upstream, folder)
            made = {one.name: maker.make(one).digest for one in IMAGES}
            refs = {tag: Descriptor(MANIFEST, digest, len(store.read(digest))) for tag, digest in made.items()}
            write_layout(folder / "images", refs, store)
        rows = {"python alone": [sys.executable, "-c", "pass"]}
        for runner in given.runner or ["runc", "namespaces"]:
            for one in IMAGES:
                words = ["boot", f"{folder}/images:{one.name}", "--runner", runner, "--store", f"{folder}/store"]
                rows[f"{one.name}, {runner}"] = [sys.executable, "-m", "sixsmith", *words]
        print("| | wall | least | most | CPU |\n|---|---:|---:|---:|---:|")
        for label, command in rows.items():
            walls, cpus = measure(command, given.rounds)
            times = (statistics.median(walls), min(walls), max(walls), statistics.median(cpus))
            print(f"| {label} | " + " | ".join(f"{seconds:.2f} s" for seconds in times) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
