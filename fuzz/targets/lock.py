"""The lock: any bytes are a lock or wrong usage, told with the file's name."""

from __future__ import annotations

from sixsmith.errors import UsageError
from sixsmith.lock import parse_lock

WORDS = (b'"lock":1', b'"packages":{', b'"cells":{', b'"steps":[', b'"files":{', b"null", b"[]", b"1e999", b"sha256:")


def seeds() -> list[bytes]:
    return [
        b"""{"lock": 1, "compressor": "x", "files": {"f": "sha256:%s 5"},
"packages": {"3.22/x86_64": {"main": {"a": "1-r0 Q16dcfXufJLW3J6S/9rRe4vUlBj5g= 5 x86_64"}}},
"cells": {"one": {"request": "r", "from": "3.22/x86_64", "base": "", "overlay": [], "steps": ["main/a"], "world": ["a"],
"epoch": 1}}}"""
        % (b"0123456789abcdef" * 4)
    ]


def TestOneInput(data: bytes) -> None:
    try:
        lock = parse_lock(data, file="sixsmith.lock")
    except UsageError as error:
        assert error.place is not None
        return
    again = lock.render().encode()
    assert parse_lock(again, file="sixsmith.lock").render().encode() == again
