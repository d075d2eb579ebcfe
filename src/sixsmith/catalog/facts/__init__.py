"""The catalogue's data files, and how they are read: once, when first asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["read_bytes", "read_json", "read_table"]

_FOLDER = Path(__file__).parent  # importlib.resources would cost more than the reading


def read_bytes(name: str) -> bytes:
    """The bytes of one data file, `name` relative to this folder."""
    return (_FOLDER / name).read_bytes()


@cache
def read_json(name: str) -> Any:
    """One JSON file."""
    import json

    return json.loads(read_bytes(name))


@cache
def read_table(name: str) -> tuple[dict[str, str], ...]:
    """One tab-separated file whose first line names the columns."""
    head, *rows = read_bytes(name).decode().splitlines()
    columns = head.split("\t")
    return tuple(dict(zip(columns, row.split("\t"), strict=True)) for row in rows)
