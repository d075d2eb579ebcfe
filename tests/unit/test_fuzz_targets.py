"""Every fuzz target takes its own corpus and some hundred changes of it, and notices what it should."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fuzz.guided import Loop, TooSlow  # noqa: E402  # a folder beside the tests
from fuzz.targets import TARGETS  # noqa: E402


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target = import_module(f"fuzz.targets.{name}")
    loop = Loop(target.TestOneInput, target.seeds(), target.WORDS, guided=False)
    finding = loop.run(runs=400)
    assert finding is None, (finding.data, finding.error)
    assert loop.runs == 400


def test_every_module_is_a_target() -> None:
    assert {path.stem for path in (ROOT / "fuzz/targets").glob("[!_]*.py")} == set(TARGETS)


def staircase(data: bytes) -> None:
    """Each step can be seen from the one before only."""
    if data[:1] != b"s":
        return
    if data[1:2] != b"i":
        return
    if data[2:3] != b"x":
        return
    if data[3:4] == b"!":
        raise ValueError("the top")


def test_coverage_leads_the_loop() -> None:
    finding = Loop(staircase, [b"s"], seed=2, source=__file__).run(runs=20_000)
    assert finding is not None and finding.data.startswith(b"six!")
    assert Loop(staircase, [b"s"], seed=2, guided=False).run(runs=20_000) is None


def test_slow_inputs_are_findings() -> None:
    import time

    finding = Loop(lambda data: time.sleep(0.02), [b"x"], seconds_per_input=0.01).run(runs=5)
    assert finding is not None and isinstance(finding.error, TooSlow)


def test_the_program_runs(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "fuzz/run.py", "version", "reference", "--plain", "--seconds", "1"]
    done = subprocess.run([*command, "--found", tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing found") == 2
