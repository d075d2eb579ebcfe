"""The system calls that Python 3.11 has no names for."""

from __future__ import annotations

import ctypes
import os

__all__ = [
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "NEWIPC",
    "NEWNET",
    "NEWNS",
    "NEWPID",
    "NEWUSER",
    "NEWUTS",
    "die_with_parent",
    "drop_capabilities",
    "forbid_new_privileges",
    "mount",
    "pivot_root",
    "undumpable",
    "unmount",
    "unshare",
]

NEWNS = 0x00020000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_PRIVATE = 1 << 18
_MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    _check(
        _libc.mount(
            source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
        ),
        target,
    )


def unmount(target: str) -> None:
    """umount2(2), detaching. Raises OSError."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2). Raises OSError."""
    _check(_libc.pivot_root(new.encode(), old.encode()), new)


def die_with_parent() -> None:
    """The kernel kills this process when the thread that started it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "prctl")


def undumpable() -> None:
    """Nobody may trace this process."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def forbid_new_privileges() -> None:
    """Programs with suid bits or capabilities give none from here on."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def drop_capabilities(numbers: tuple[int, ...]) -> None:
    """Programs started from here on cannot have these capabilities."""
    for number in numbers:
        _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "prctl")
