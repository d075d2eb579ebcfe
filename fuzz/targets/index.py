"""APKINDEX: the first byte says whether the rest is an archive (0), a signed one (1) or the text inside (2)."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageIndex
from sixsmith.apk.signature import Keyring, verify_index
from sixsmith.errors import FormatError, Unsatisfiable, VerificationError
from sixsmith.solver import SolverRepository, solve
from sixsmith.testing.keys import sample_key
from sixsmith.testing.packages import SamplePackage, make_apk, make_index

WORDS = (
    b"\n\n",
    b"\nP:",
    b"\nV:",
    b"\nC:Q1",
    b"\nD:",
    b"\np:",
    b"\ni:",
    b"\nk:",
    b"so:",
    b"cmd:a=1",
    b"9" * 5000,
    b"!",
)


@cache
def _keyring() -> Keyring:
    key = sample_key()
    return Keyring({key.name: key.public})


def _packages() -> list[SamplePackage]:
    return [
        make_apk("a", depends=["b>=1", "so:x", "!c"], provides=["cmd:a=1"], provider_priority=3),
        make_apk("b", "2", provides=["so:x=1"]),
        make_apk("c", install_if=["a=1.0-r0", "b"], origin="a"),
    ]


def seeds() -> list[bytes]:
    packages = _packages()
    text = "\n".join(package.record for package in packages).encode()
    return [b"\0" + make_index(packages), b"\1" + make_index(packages, sample_key()), b"\2" + text]


def TestOneInput(data: bytes) -> None:
    kind, body = data[:1], data[1:]
    if kind != b"\2":
        try:
            body = bytes(verify_index(body, _keyring() if kind == b"\1" else None, "index").text)
        except VerificationError:
            return
    index = PackageIndex.parse(body)
    names = [*index.names()][:5]
    for name in names:
        for place in index.providing(name):
            index.links(place)
            index.trigger_names(place)
        index.awaiting(name)
        index.mention(name)
    with suppress(FormatError):
        index.validate()
    if not names:
        return
    try:
        solve([Dependency.parse(name) for name in names[:2]], [SolverRepository(index, "fuzz")])
    except (FormatError, Unsatisfiable):
        return
