"""From `sixsmith.yaml` to a family: read, check, expand, and tell everything that is wrong at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sixsmith.errors import Place, UsageError
from sixsmith.matrix.expand import Expansion
from sixsmith.matrix.family import Family
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.schema import family_shape
from sixsmith.matrix.shapes import WRONG
from sixsmith.matrix.text import read_yaml
from sixsmith.model.spelled import Spelled

__all__ = ["FILE_NAME", "load_family", "parse_family"]

FILE_NAME = "sixsmith.yaml"


def load_family(path: Path) -> Family:
    """The family in the file at `path`, or in `sixsmith.yaml` of the folder at `path`.

    Raises MatrixError with every problem found (each with file, line, column and, where one is near, the valid name), and
    UsageError when there is no such file. Sources are looked up beside the file; nothing else is touched.
    """
    if path.is_dir():
        path = path / FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no family file '{path}'", hint="`sixsmith init` writes one") from None
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from None
    return parse_family(data, file=str(path), folder=path.absolute().parent)


def parse_family(data: bytes, *, file: str, folder: Path) -> Family:
    """The same from bytes; `file` is the name for problems, `folder` (absolute) is where sources are."""
    problems = Problems()
    tree = read_yaml(data, file, problems)
    if tree is None:
        problems.raise_any()
        problems.add(Place(file), "the file is empty", "`sixsmith init` writes an example")
        problems.raise_any()
        raise AssertionError("unreachable")
    values = family_shape().read(tree, problems)
    family = None if values is WRONG else _expand(values, file, folder, problems)
    problems.raise_any()
    assert family is not None
    return family


def _expand(values: dict[str, Any], file: str, folder: Path, problems: Problems) -> Family:
    images: dict[Spelled, Any] = values.get("images", {})
    defaults = dict(values.get("defaults", {}))
    if "repositories" in values:
        defaults.setdefault("repositories", values["repositories"])
    if not images and not len(problems):
        problems.add(Place(file, 1), "no images")
    cells = Expansion(images, defaults, folder, problems).variants()
    name = str(values.get("name") or next(iter(images), ""))
    return Family(name, values.get("registry"), cells, file)
