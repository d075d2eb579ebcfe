"""One service directory, read as `s6-rc-compile` reads it.

Each file of a service has a little format of its own, with corners that people meet: `type` is its first eight bytes
without one newline at the end; timeouts are at most 63 bytes, stripped of newlines at the end; the numbers that go to
s6-supervise are the first line of the first eleven bytes; list files skip blanks at the start of a line, comments and
empty lines, and keep blanks at its end. The functions here hold those formats, and say what is wrong with a file that
does not follow them. Source: `s6-rc-compile` of s6-rc 0.5.4 to 0.5.6, documentation and behaviour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from sixsmith.s6.execline import Node
from sixsmith.s6.sources import Entry

__all__ = [
    "COPIED_FILES",
    "NUMBER_FILES",
    "Definition",
    "Listed",
    "ServiceType",
    "is_reserved",
    "parse_list",
    "parse_number",
    "parse_timeout",
    "parse_type",
    "pipeline_members",
    "why_not_a_number",
    "why_not_a_type",
]

ServiceType = Literal["oneshot", "longrun", "bundle"]
_TYPES: dict[bytes, ServiceType] = {b"oneshot": "oneshot", b"longrun": "longrun", b"bundle": "bundle"}

NUMBER_FILES = (b"notification-fd", b"lock-fd", b"timeout-kill", b"timeout-finish", b"max-death-tally")
"""Files of a longrun that hold one number, in the order in which the compiler copies them."""

COPIED_FILES = frozenset((b"run", b"finish", b"down-signal", b"data", b"env", *NUMBER_FILES))
"""All that gets from a longrun's source into its service directory."""

_UINT32 = (1 << 32) - 1


class Listed(msgspec.Struct, frozen=True):
    """A name in a list: a line of a list file (1-based), or a file of a `.d` directory (line 0)."""

    name: bytes
    file: bytes
    line: int = 0


class Definition(msgspec.Struct, frozen=True):
    """A service as its directory defines it; parts that are wrong are left out, findings tell of them.

    `kind` is None when `type` is missing or wrong. `producer_for`, `consumer_for` and `pipeline_name` are () when there
    is no such file. `source` and `path` are text for messages.
    """

    name: bytes
    kind: ServiceType | None
    source: str
    path: str
    entry: Entry
    dependencies: tuple[Listed, ...] = ()
    contents: tuple[Listed, ...] = ()
    producer_for: tuple[Listed, ...] = ()
    consumer_for: tuple[Listed, ...] = ()
    pipeline_name: tuple[Listed, ...] = ()
    up: tuple[Node, ...] = ()
    down: tuple[Node, ...] = ()
    timeout_up: int = 0
    timeout_down: int = 0
    notification_fd: int | None = None
    essential: bool = False

    @property
    def arrows(self) -> tuple[Listed, ...]:
        """All that this holds or waits for: a producer waits for its consumer, too."""
        return self.contents + self.dependencies + self.producer_for


def pipeline_members(last: Definition, definitions: Mapping[bytes, Definition]) -> list[bytes]:
    """The last consumer of a pipeline, its producers, theirs, and so on, each once."""
    members = {last.name: None}
    todo = [last]
    while todo:
        for listed in todo.pop().consumer_for:
            producer = definitions.get(listed.name)
            if producer is not None and listed.name not in members:
                members[listed.name] = None
                todo.append(producer)
    return list(members)


def is_reserved(name: bytes) -> bool:
    """Whether s6-rc keeps names that start like this for itself."""
    return name.startswith((b"s6rc-", b"s6-rc-"))


def parse_type(content: bytes) -> ServiceType | None:
    """The type that the compiler reads, or None when it refuses.

    Only eight bytes are read, so that `longrun` and anything behind its newline is a longrun. Eight bytes without a
    newline at the end crash the compiler or are refused.
    """
    head = content[:8]
    if head.endswith(b"\n"):
        head = head[:-1]
    elif len(head) == 8:
        return None
    return _TYPES.get(head.partition(b"\0")[0])


def why_not_a_type(content: bytes) -> str:
    """What keeps this `type` file from being valid, as a hint."""
    text = content.strip().lstrip(b"\xef\xbb\xbf").strip(b"\0").lower()
    plain = _TYPES.get(text)
    exactly = (
        f"write exactly `{plain}` and a newline" if plain else "write `longrun`, `oneshot` or `bundle` and a newline"
    )
    if not content.strip():
        return f"the file is empty; {exactly}"
    if content.startswith(b"\xef\xbb\xbf"):
        return f"the file starts with a byte order mark; {exactly}"
    if b"\r" in content:
        return f"the line ends in a carriage return (Windows line ends); {exactly}"
    if plain and content[:1].isspace():
        return f"there is white space before the word; {exactly}"
    if plain and content.rstrip(b"\n")[-1:].isspace():
        return f"there is white space behind the word; {exactly}"
    if b"\0" in content:
        return f"there is a NUL byte in it; {exactly}"
    if plain and content.strip() != text:
        return f"types are lower-case; {exactly}"
    if plain:
        return f"only one newline may follow the word; {exactly}"
    return exactly


def parse_list(content: bytes, file: bytes) -> list[Listed]:
    """Names of a list file in order, each once, with the line where it first stands."""
    names: dict[bytes, Listed] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        name = line.partition(b"\0")[0].lstrip(b" \t")
        if name and not name.startswith(b"#"):
            names.setdefault(name, Listed(name, file, number))
    return list(names.values())


def parse_timeout(content: bytes) -> int | None:
    """Milliseconds in a `timeout-up` or `timeout-down` file, or None when the compiler refuses it."""
    return _uint32(content[:63].rstrip(b"\n").partition(b"\0")[0])


def parse_number(content: bytes) -> int | None:
    """The number in one of `NUMBER_FILES`, or None when the compiler refuses it."""
    return _uint32(re.split(rb"[\n\0]", content[:11], maxsplit=1)[0])


def _uint32(digits: bytes) -> int | None:
    if not digits or not all(0x30 <= digit <= 0x39 for digit in digits):
        return None
    value = int(digits)
    return value if value <= _UINT32 else None


def why_not_a_number(content: bytes, unit: str) -> str:
    """What keeps this file from being a number, as a hint; `unit` says what it counts."""
    text = content.strip()
    wanted = f"write one whole number, {unit}, and a newline"
    if not text:
        return f"the file is empty: {wanted}, or remove the file"
    if b"\r" in content:
        return f"the line ends in a carriage return (Windows line ends): {wanted}"
    if re.fullmatch(rb"-[0-9]+", text):
        return f"negative numbers are not understood: {wanted}"
    if re.fullmatch(rb"[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)", text):
        return f"units are not understood: {wanted}"
    if text.isdigit() and _uint32(text[:64]) is None:
        return f"the number does not fit 32 bits: {wanted}"
    if text.isdigit():
        return f"there is white space or an empty line around the number: {wanted}"
    return wanted
