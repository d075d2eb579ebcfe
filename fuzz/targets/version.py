"""Versions: any two have an order, and the order is one."""

from __future__ import annotations

from sixsmith.apk.version import Version
from sixsmith.errors import FormatError

WORDS = (b"_alpha", b"_rc2", b"_p1", b"-r10", b"~c0ffee", b".0", b"00", b"\0", b"9" * 30)


def seeds() -> list[bytes]:
    return [
        b"1.2.3-r0\x001.2.4_alpha1-r0",
        b"8.2.001\x008.2.0",
        b"1.0~1234\x001.0",
        b"20230717\x00r1",
        b"1.2a_p3_git4-r1\x001",
    ]


def TestOneInput(data: bytes) -> None:
    left, _, right = data.decode("utf-8", "surrogateescape").partition("\0")
    try:
        one, other = Version(left), Version(right)
    except FormatError:
        return
    assert (one < other) + (one > other) + (one == other) == 1
    assert (one < other) == (other > one)
    assert one != other or hash(one) == hash(other)
