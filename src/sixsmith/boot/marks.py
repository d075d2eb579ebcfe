"""Marks on what outlives a process: whose it is, so that a later one can tell what was left behind by a killed one."""

# `os` says exactly which system call is made, and paths are those of /proc:
# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import os

__all__ = ["is_abandoned", "mark_of"]


def mark_of(pid: int) -> str:
    """A process as nobody else is called: its process namespace, its number there, when it began. OSError when it is over."""
    space = os.stat("/proc/self/ns/pid").st_ino
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise OSError(0, "it has ended, and nobody has taken note")
    return f"{space}-{pid}-{fields[19]}"


def is_abandoned(mark: str) -> bool:
    """Whether the process of a mark has ended; of another namespace's processes nothing is known."""
    space, _, rest = mark.partition("-")
    pid = rest.partition("-")[0]
    if space != str(os.stat("/proc/self/ns/pid").st_ino) or not pid.isdigit():
        return False
    try:
        return mark_of(int(pid)) != mark
    except OSError:
        return True
