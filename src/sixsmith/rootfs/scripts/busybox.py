"""Which applets a busybox binary has, and where it links them: read from the binary, on any architecture.

A busybox binary holds the names of its applets as one NUL-separated, sorted table that starts with `[` and `[[`, and
close by, in the same order, a table of install locations: four bits each (0 /, 1 /bin, 2 /sbin, 3 /usr/bin,
4 /usr/sbin; busybox, `applet_tables.c`), low half of a byte first. The names are found by their beginning. The locations are found by asking
where, near the names, there is a run of the right length with nothing but valid locations in it that puts the applets
that never move (`cat`, `mount`, `chroot` …) where they have always been; if that is not exactly one place, we do not
know and say so. (Checked against `busybox --list-full` of Alpine 3.7 to 3.20.)
"""

from __future__ import annotations

import re
from functools import lru_cache

from sixsmith.rootfs.scripts.syntax import NotUnderstood
from sixsmith.rootfs.tree import Content

__all__ = ["applet_links", "suid_links", "system_shell", "version"]

_DIRECTORIES = ("", "bin", "sbin", "usr/bin", "usr/sbin")
_FIRST_NAMES = b"[\0[[\0"
_WINDOWS = (1 << 10, 64 << 10)
"""How far from the names to look for the locations: they have always been less than 300 bytes before."""
_FIXED = {
    "ash": 1,
    "cat": 1,
    "chmod": 1,
    "cp": 1,
    "echo": 1,
    "grep": 1,
    "ls": 1,
    "mkdir": 1,
    "mount": 1,
    "rm": 1,
    "sed": 1,
    "sh": 1,
    "sleep": 1,
    "halt": 2,
    "ifconfig": 2,
    "init": 2,
    "mdev": 2,
    "modprobe": 2,
    "reboot": 2,
    "route": 2,
    "sysctl": 2,
    "[": 3,
    "[[": 3,
    "awk": 3,
    "cut": 3,
    "du": 3,
    "env": 3,
    "find": 3,
    "head": 3,
    "id": 3,
    "sort": 3,
    "tail": 3,
    "tr": 3,
    "wc": 3,
    "xargs": 3,
    "yes": 3,
    "add-shell": 4,
    "addgroup": 4,
    "adduser": 4,
    "chroot": 4,
    "crond": 4,
    "deluser": 4,
    "nologin": 2,
    "ntpd": 4,
    "sendmail": 4,
}


# Answers are remembered by where the bytes stand, not by the bytes: those of busybox are most of a megabyte.


@lru_cache(maxsize=4)
def applet_links(content: Content) -> tuple[str, ...]:
    """Paths (without leading slash) that `busybox --install` links, in its order. Raises NotUnderstood."""
    binary = content.read()
    names, start, end = _names(binary)
    if sum(count for _, count in _anchors(names)) < 3:
        raise NotUnderstood("this busybox has too few applets to tell where it installs them")
    tables: set[bytes] = set()
    for window in _WINDOWS:
        tables = tables or _tables(binary[max(0, start - window) : end + window], names)
    if len(tables) != 1:
        raise NotUnderstood("where this busybox installs its applets cannot be read from it")
    table = tables.pop()
    links = []
    for index, name in enumerate(names):
        directory = _DIRECTORIES[(table[index // 2] >> (4 * (index % 2))) & 15]
        links.append(f"{directory}/{name}" if directory else name)
    return tuple(links)


def _names(binary: bytes) -> tuple[list[str], int, int]:
    # What comes before the table may be anything: another constant, or padding.
    start = binary.find(_FIRST_NAMES)
    if start < 0 or binary.find(_FIRST_NAMES, start + 1) >= 0:
        raise NotUnderstood("the applets of this busybox cannot be read from it")
    end = binary.find(b"\0\0", start)
    names = [name.decode("latin-1") for name in binary[start:end].split(b"\0")]
    # zcip is the last name there can be; what follows the table on some machines has no empty name before it.
    in_order = [names[0]]
    is_name = re.compile(r"[a-z0-9_\[][\w.+\[-]*").fullmatch
    for name in names[1:]:
        if name <= in_order[-1] or not is_name(name):
            break
        in_order.append(name)
    if not 10 <= len(in_order) <= 1000:
        raise NotUnderstood("the applets of this busybox cannot be read from it")
    return in_order, start, end


def _anchors(names: list[str]) -> list[tuple[int, int]]:
    found = dict.fromkeys(range(1, 5), 0)
    for name in names:
        if name in _FIXED:
            found[_FIXED[name]] += 1
    return [(location, int(count > 1)) for location, count in found.items()]


_NO_LOCATIONS = bytes(max(byte & 15, byte >> 4) >= len(_DIRECTORIES) for byte in range(256))
"""For each byte whether one of its halves is no location."""


def _tables(near: bytes, names: list[str]) -> set[bytes]:
    """All that can be the table of locations among these bytes."""
    length = (len(names) + 1) // 2
    fixed = [(index, _FIXED[name]) for index, name in enumerate(names) if name in _FIXED]
    if len(names) % 2:
        fixed.append((len(names), 0))
    faults = near.translate(_NO_LOCATIONS)
    found: set[bytes] = set()
    at = faults.find(bytes(length))
    while at >= 0:
        if all(near[at + index // 2] >> 4 * (index % 2) & 15 == location for index, location in fixed):
            found.add(near[at : at + length])
        at = faults.find(bytes(length), at + 1)
    return found


@lru_cache(maxsize=4)
def suid_links(content: Content) -> tuple[str, ...]:
    """Paths (with leading slash) that `bbsuid --install` links, in its order, read from its text."""
    links = re.findall(rb"\0(?=(/(?:usr/)?s?bin/[a-z0-9]+)\0)", content.read())
    found = [link.decode() for link in links if link not in (b"/bin/busybox", b"/bin/bbsuid", b"/usr/bin/bbsuid")]
    if not found:
        raise NotUnderstood("what this bbsuid links cannot be read from it")
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=4)
def system_shell(content: Content) -> str:
    """The shell that this busybox's `adduser -S` gives: /bin/false up to Alpine 3.8, /sbin/nologin since."""
    binary = content.read()
    for shell in (b"/sbin/nologin", b"/bin/false"):
        if b"\0" + shell + b"\0" in binary:
            return shell.decode()
    raise NotUnderstood("the shell that adduser gives to system users cannot be read from busybox")


@lru_cache(maxsize=4)
def version(content: Content) -> tuple[int, int]:
    """Major and minor version of a busybox binary."""
    match = re.search(rb"BusyBox v(\d+)\.(\d+)", content.read())
    if match is None:
        raise NotUnderstood("the version of this busybox cannot be read from it")
    return int(match.group(1)), int(match.group(2))
