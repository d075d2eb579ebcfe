"""lib/apk/db: the first byte says whether the rest is `installed` (0), `triggers` (1) or `scripts.tar` (2)."""

from __future__ import annotations

from sixsmith.apk.installed import (
    InstalledPackage,
    parse_installed,
    parse_scripts,
    parse_triggers,
    render_installed,
    render_scripts,
)
from sixsmith.errors import FormatError
from sixsmith.testing.packages import make_apk

WORDS = (
    b"\nF:",
    b"\nR:",
    b"\nM:0:0:1777",
    b"\na:1:2:4755:Q1",
    b"\nZ:Q1",
    b"\n\nC:Q1",
    b"\nr:b<1",
    b"\nq:9",
    b"..",
    b"/",
)


def seeds() -> list[bytes]:
    record = make_apk("a", provides=["b=1"]).record.encode()
    files = b"r:b\nq:1\nF:\nR:x\nF:usr\nM:0:0:700\nR:f\na:1:2:4755\nZ:Q16dcfXufJLW3J6S/9rRe4vUlBj5g=\n\n"
    packages = parse_installed(record + files)
    packages[0].scripts = {".post-install": b"#!/bin/sh\n"}
    return [
        b"\0" + record + files + record.replace(b"P:a", b"P:c") + b"\n",
        b"\1Q16dcfXufJLW3J6S/9rRe4vUlBj5g= /usr/* /etc\n",
        b"\2" + render_scripts(packages, 1),
    ]


def TestOneInput(data: bytes) -> None:
    kind, body = data[:1], data[1:]
    try:
        if kind == b"\1":
            parse_triggers(body)
            return
        if kind == b"\2":
            parse_scripts(body)
            return
        packages = parse_installed(body)
        rendered = render_installed(packages)  # which is where lists of words are looked at
    except FormatError:
        return
    if any(_strays(package) for package in packages):
        return
    assert render_installed(parse_installed(rendered)) == rendered


def _strays(package: InstalledPackage) -> bool:
    """Whether lines of this package come out with another one, as apk writes them."""
    late = package.replaces or package.replaces_priority or package.pin or package.flags
    return bool(late) and not package.directories
