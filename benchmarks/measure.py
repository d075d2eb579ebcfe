"""One process and all its children, measured by the kernel: CPU time, wall time, memory at its highest."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """CPU is user and system time; times in milliseconds, memory in megabytes (that of the largest process)."""

    cpu: float
    wall: float
    memory: float


class Failed(Exception):
    """A command that was to be measured did not work; the text is the end of what it said."""


_LAUNCHER = """
import os, sys, time
started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - started
os.write(3, repr((usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss)).encode())
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
"""A process starts with the memory of the one that started it in its books; so a small one starts it."""


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Sample:
    """Runs a command to its end. Raises Failed."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as measured:
        launch = ["/bin/sh", "-c", f'exec "$@" 3>&{measured.fileno()}', "sh", sys.executable, "-IS", "-c", _LAUNCHER]
        launched = [*launch, *command]
        done = subprocess.run(launched, stdout=said, stderr=said, env=environment, pass_fds=[measured.fileno()])
        if done.returncode:
            said.seek(0)
            raise Failed(f"{command[0]}: {said.read().decode('utf-8', 'replace')[-400:].strip()}")
        measured.seek(0)
        cpu, wall, memory = ast.literal_eval(measured.read().decode())
    return Sample(cpu * 1000, wall * 1000, memory / 1024)


def repeat(rounds: int, once: Callable[[int], Sample]) -> Sample:
    """The medians of several rounds; the highest of the memory."""
    return middle([once(number) for number in range(rounds)])


def middle(samples: Sequence[Sample]) -> Sample:
    """The medians of samples; the highest of the memory."""
    return Sample(
        statistics.median(sample.cpu for sample in samples),
        statistics.median(sample.wall for sample in samples),
        max(sample.memory for sample in samples),
    )
