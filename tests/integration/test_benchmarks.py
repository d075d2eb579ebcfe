"""The benchmarks go on working: what they measure is no matter here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_they_run_without_the_real_files(tmp_path: Path) -> None:
    """In the state of a fresh checkout on any machine: no real packages, so no peers, and a sample set of packages."""
    words = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--runs", "1", "--no-write"]
    environment = {**os.environ, "SIXSMITH_TEST_DATA": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| sixsmith: ")]
    assert len(lines) == 10 and "sixsmith: cold" in lines
    assert "Sixty cells cost" in done.stdout
    assert not list(tmp_path.glob("sixsmith-bench-*"))  # nothing is left behind
