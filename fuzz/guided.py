"""A small coverage-guided loop, for where atheris is not: mutate what reached new lines, keep what reaches newer ones.

Slower than atheris by far (every line of ours is traced), but it needs nothing, and its runs repeat: the same seed and
number of runs give the same inputs.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import sixsmith

__all__ = ["Finding", "Loop"]

_OURS = str(Path(sixsmith.__file__).parent)
_MAX_LENGTH = 1 << 16
_INTERESTING = (0, 1, 9, 10, 13, 32, 34, 47, 64, 127, 128, 255)


@dataclass(frozen=True)
class Finding:
    """An input that something is wrong with: what TestOneInput raised, or how long it took."""

    data: bytes
    error: BaseException


class TooSlow(Exception):
    """One input took longer than the limit."""


@dataclass
class Loop:
    """One target. `seconds_per_input` is the limit for a single input, tracing included; `source` is the file or folder
    whose lines count."""

    test: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    seed: int = 0
    seconds_per_input: float = 5.0
    guided: bool = True
    source: str = _OURS
    corpus: list[bytes] = field(default_factory=list)
    runs: int = 0
    _dice: random.Random = field(default_factory=random.Random)
    _met: set[tuple[int, int, int]] = field(default_factory=set)

    def run(self, *, seconds: float = float("inf"), runs: int = sys.maxsize) -> Finding | None:
        """Until something is found, the time is over, or that many inputs were tried."""
        self._dice = random.Random(self.seed)
        end = time.monotonic() + seconds
        for data in self.seeds:
            if finding := self._try(data):
                return finding
            self.corpus.append(data)
        while self.runs < runs and time.monotonic() < end:
            if finding := self._try(self.mutated(self._dice.choice(self.corpus))):
                return finding
        return None

    def _try(self, data: bytes) -> Finding | None:
        self.runs += 1
        before = len(self._met)
        start = time.perf_counter()
        if self.guided:
            sys.settrace(self._trace)
        try:
            self.test(data)
        except (Exception, RecursionError) as error:
            return Finding(data, error)
        finally:
            sys.settrace(None)
        if (took := time.perf_counter() - start) > self.seconds_per_input:
            return Finding(data, TooSlow(f"{took:.1f} s for {len(data)} bytes"))
        if len(self._met) > before and len(self.corpus) < 5000:
            self.corpus.append(data)
        return None

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Notes each pair of lines that follow each other in our code."""
        code = frame.f_code
        if not code.co_filename.startswith(self.source):
            return None
        met, identity, last = self._met, id(code), 0

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                met.add((identity, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    def mutated(self, data: bytes) -> bytes:
        """One to four small changes."""
        for _ in range(self._dice.choice((1, 1, 2, 4))):
            data = self._changed(data)[:_MAX_LENGTH]
        return data

    def _changed(self, data: bytes) -> bytes:
        dice = self._dice
        at = dice.randint(0, len(data))
        end = min(len(data), at + dice.choice((1, 1, 2, 4, 16, 64, 512)))
        kind = dice.randrange(8)
        if kind == 0 and data:
            place = at % len(data)
            return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]
        if kind == 1 and data:
            byte = dice.choice(_INTERESTING) if dice.random() < 0.5 else dice.randrange(256)
            return data[:at] + bytes([byte]) + data[at + 1 :]
        if kind == 2:
            return data[:at] + data[end:]
        if kind == 3:
            return data[:at] + data[at:end] * dice.choice((2, 2, 3, 40)) + data[end:]
        if kind == 4:
            other = dice.choice(self.corpus)
            start = dice.randint(0, len(other))
            return data[:at] + other[start : start + dice.choice((4, 64, 512, _MAX_LENGTH))] + data[end:]
        if kind == 5:
            return data[:at]
        if kind == 6:
            return data[:at] + bytes(dice.randrange(256) for _ in range(dice.randint(1, 4))) + data[at:]
        word = dice.choice(self.words) if self.words else b"\0"
        return data[:at] + word + (data[at:] if dice.random() < 0.5 else data[at + len(word) :])
