"""From `sixsmith.yaml` to a family: read, check, expand, and tell everything that is wrong at once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import msgspec

from sixsmith.errors import Place, UsageError
from sixsmith.matrix.expand import Expansion
from sixsmith.matrix.family import Family
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.schema import family_shape
from sixsmith.matrix.shapes import WRONG
from sixsmith.matrix.text import pack_tree, read_yaml, unpack_tree
from sixsmith.model.spelled import Spelled, SpelledTree

__all__ = ["FILE_NAME", "Records", "load_family", "parse_family"]

FILE_NAME = "sixsmith.yaml"

_FORMAT = 1
"""Goes up whenever the same text is read as another tree, or a tree is packed otherwise."""
_LARGEST = 256 << 10
"""Bytes of a packed tree that are remembered at most: aliases can make much of a small file."""


class Records(Protocol):
    """Where facts are kept by what they follow from: the store."""

    def record(self, kind: str, key: str) -> bytes | None: ...

    def keep(self, kind: str, key: str, payload: bytes) -> None: ...


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


def parse_family(data: bytes, *, file: str, folder: Path, records: Records | None = None) -> Family:
    """The same from bytes; `file` is the name for problems, `folder` (absolute) is where sources are.

    With `records` a text that was read before is not read as YAML again, which most builds are spared then: loading the
    YAML library alone takes longer than everything else here.
    """
    problems = Problems()
    tree = read_yaml(data, file, problems) if records is None else _read_once(data, file, problems, records)
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


def _read_once(data: bytes, file: str, problems: Problems, records: Records) -> SpelledTree | None:
    """`read_yaml`, or the tree that it gave the last time for these bytes. Only what is free of problems is remembered."""
    key = f"{hashlib.sha256(data).hexdigest()}-{_FORMAT}"
    tree = _remembered(records.record("family", key), file)
    if tree is not None:
        return tree
    tree = read_yaml(data, file, problems)
    if tree is not None and not len(problems):
        packed = pack_tree(tree)
        if len(packed) <= _LARGEST:
            records.keep("family", key, packed)
    return tree


def _remembered(packed: bytes | None, file: str) -> SpelledTree | None:
    """The tree of a record. None when there is no record, or one that `pack_tree` did not write: the text is read then, and
    the record replaced."""
    try:
        return None if packed is None else unpack_tree(packed, file)
    except msgspec.DecodeError:
        return None
