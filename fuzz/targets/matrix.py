"""The family file: any bytes are a family or a list of problems with places."""

from __future__ import annotations

from pathlib import Path

from sixsmith.errors import MatrixError, UsageError
from sixsmith.matrix import parse_family, starter_files

WORDS = (
    b"\nimages:\n",
    b"\n  ",
    b": &a [*a, *a]",
    b"matrix: {alpine: [3.22], s6-overlay: [3.2.3.0]}",
    b"exclude:",
    b"include:",
    b"parent:",
    b'tag: "{alpine}"',
    b"!!python/object:x",
    b"<<: *a",
    b"? - ",
    b"|+\n",
    b"\xef\xbb\xbf",
    b"packages: [a=1, '!b']",
)


def seeds() -> list[bytes]:
    plain = b"""name: family
defaults: {arch: [x86_64, aarch64], packages: [bash, nginx~1]}
images:
  one:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.22, 3.21], s6-overlay: [3.2.3.0], exclude: [{alpine: 3.21}]}
  two:
    parent: one
    tag: "{alpine}"
"""
    return [plain, starter_files("x")["sixsmith.yaml"].encode()]


def TestOneInput(data: bytes) -> None:
    try:
        family = parse_family(data, file="sixsmith.yaml", folder=Path("/nonexistent"))
    except MatrixError as error:
        assert error.problems
        assert all(problem.place.file == "sixsmith.yaml" and problem.message for problem in error.problems)
        return
    except UsageError:
        return
    ids = [cell.id for cell in family.cells]
    assert len(set(ids)) == len(ids)
