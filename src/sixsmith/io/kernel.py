"""The system calls for containers that Python 3.11 has no names for."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from contextlib import suppress

__all__ = [
    "CAPABILITIES",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "NEWIPC",
    "NEWNET",
    "NEWNS",
    "NEWPID",
    "NEWUSER",
    "NEWUTS",
    "die_with_parent",
    "drop_bounding",
    "forbid_new_privileges",
    "loopback_up",
    "mount",
    "pivot_root",
    "set_namespace",
    "signals_default",
    "unmount",
    "unshare",
    "watch_opens",
    "watched_names",
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
MS_REMOUNT = 32
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_PRIVATE = 1 << 18
_MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_IN_OPEN = 0x20
_IN_NONBLOCK = 0o4000
_IN_CLOEXEC = 0o2000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
"""Names by number, without `CAP_` (capabilities(7))."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    kind_word, option_word = os.fsencode(kind) or None, os.fsencode(options) or None
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind_word, ctypes.c_ulong(flags), option_word), target)


def unmount(target: str) -> None:
    """umount2(2), detaching: what is in use goes when it no longer is. Raises OSError."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2). Raises OSError."""
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), new)


def die_with_parent() -> None:
    """The kernel kills this process when the thread that started it ends; forgotten when its user changes."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")


def forbid_new_privileges() -> None:
    """Programs with suid bits or capabilities give none from here on."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def set_namespace(descriptor: int) -> None:
    """setns(2) with any kind of namespace. Raises OSError."""
    _check(_libc.setns(descriptor, 0), "setns")


def drop_bounding(kept: frozenset[str]) -> None:
    """Programs started from here on can have only these capabilities. Raises OSError."""
    for number, name in enumerate(CAPABILITIES):
        if name not in kept and _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), f"CAP_{name}")
    # capabilities that are younger than the table
    number = len(CAPABILITIES)
    while _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
        _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), f"capability {number}")
        number += 1


def loopback_up() -> None:
    """Brings `lo` of this network namespace up. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def signals_default() -> None:
    """Signal dispositions and mask as a program expects to find them; Python ignores some."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def watch_opens(paths: list[str]) -> tuple[int, dict[int, str]]:
    """An inotify descriptor that tells when these files are opened, and the path of each watch. Missing ones are left out."""
    descriptor = _check(_libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC), "inotify")
    watches = {}
    for path in paths:
        with suppress(OSError):
            watches[_check(_libc.inotify_add_watch(descriptor, path.encode(), _IN_OPEN), path)] = path
    return descriptor, watches


def watched_names(descriptor: int, watches: dict[int, str]) -> list[str]:
    """The paths that were opened since the last call, in order."""
    opened: list[str] = []
    while True:
        try:
            found = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return opened
        position = 0
        while position + 16 <= len(found):
            watch, mask, _, length = struct.unpack_from("iIII", found, position)
            if watch in watches and mask & _IN_OPEN:
                opened.append(watches[watch])
            position += 16 + length
