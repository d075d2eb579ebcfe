"""Whose ids a user namespace has, and how the kernel is told to start foreign programs in it.

A namespace that root makes gets a far range of ids, which no account of the host has. Anybody else needs subordinate ids
(`/etc/subuid`, `newuidmap`); without them only one id exists inside, and every file belongs to it.
Sources: user_namespaces(7), subuid(5), binfmt_misc (kernel documentation), `elf.h`.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sixsmith.errors import OutsideError
from sixsmith.model.arch import Arch

__all__ = [
    "Emulator",
    "Subordinates",
    "emulator_for",
    "find_subordinates",
    "is_native",
    "map_alone",
    "map_ids",
    "namespaces_refused",
]

_RANGE = (1 << 30, 1 << 29)
_QEMU = {"armhf": "arm", "armv7": "arm", "x86": "i386"}
_NATIVE = {
    "aarch64": ("aarch64",),
    "x86_64": ("x86_64", "x86"),
    "i686": ("x86",),
    "armv7l": ("armv7", "armhf"),
    "riscv64": ("riscv64",),
    "s390x": ("s390x",),
    "ppc64le": ("ppc64le",),
    "loongarch64": ("loongarch64",),
}
_NARROW = frozenset(["x86", "armhf", "armv7"])
_BIG_ENDIAN = frozenset(["s390x", "mips64"])


@dataclass(frozen=True, slots=True)
class Subordinates:
    """A user's subordinate ids: (first, count) of users and groups, and the programs that map them."""

    users: tuple[int, int]
    groups: tuple[int, int]
    user_tool: str
    group_tool: str


@dataclass(frozen=True, slots=True)
class Emulator:
    """A static qemu for one architecture, and which programs it is for: their first bytes under a mask."""

    path: str
    magic: bytes
    mask: bytes

    def registration(self) -> bytes:
        """The line for binfmt_misc. `F`: the kernel opens the emulator now, so that it need not exist in the image."""
        magic = "".join(f"\\x{byte:02x}" for byte in self.magic)
        mask = "".join(f"\\x{byte:02x}" for byte in self.mask)
        return f":sixsmith:M::{magic}:{mask}:{self.path}:F".encode()


def is_native(arch: Arch) -> bool:
    """Whether this machine runs programs of an architecture by itself."""
    return arch.name in _NATIVE.get(os.uname().machine, ())


def emulator_for(arch: Arch) -> Emulator | None:
    """The emulator that is installed for an architecture, or None."""
    path = shutil.which(f"qemu-{_QEMU.get(arch.name, arch.name)}-static")
    if path is None:
        return None
    order = ">" if arch.name in _BIG_ENDIAN else "<"
    width = 1 if arch.name in _NARROW else 2
    ident = b"\x7fELF" + bytes([width, 2 if arch.name in _BIG_ENDIAN else 1, 1]) + bytes(9)
    magic = ident + struct.pack(f"{order}HH", 2, arch.elf_machine)
    # Type 2 or 3 (fixed address, or position independent); the byte for the ABI may be anything.
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + struct.pack(f"{order}HH", 0xFFFE, 0xFFFF)
    return Emulator(str(Path(path).resolve()), magic, mask)


def namespaces_refused(*, user: bool) -> str | None:
    """Why this process may not make namespaces of its own (in a user namespace, if `user`), or None when it may."""
    from sixsmith.io import kernel

    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            kernel.unshare((kernel.NEWUSER if user else 0) | kernel.NEWNS | kernel.NEWPID)
            status = 0
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return os.strerror(status) if status else None


def map_ids(pid: int, subordinates: Subordinates | None) -> None:
    """Maps the ids of a process's new user namespace: as root a far range, else the subordinate ids.

    Raises OutsideError when the system refuses.
    """
    try:
        if os.geteuid() == 0:
            _map_far_range(pid)
            return
    except OSError as error:
        raise OutsideError(f"user ids cannot be mapped: {error.strerror}") from None
    if subordinates is None:
        map_alone(pid)
        return
    for tool, own, (first, count) in (
        (subordinates.user_tool, os.geteuid(), subordinates.users),
        (subordinates.group_tool, os.getegid(), subordinates.groups),
    ):
        command = [tool, str(pid), "0", str(own), "1", "1", str(first), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OutsideError(f"{tool}: {done.stderr.strip()}")


def map_alone(pid: int) -> None:
    """Maps only the user who asks, to root. Groups cannot be changed in such a namespace. Raises OutsideError."""
    try:
        Path(f"/proc/{pid}/setgroups").write_text("deny", "ascii")
        Path(f"/proc/{pid}/uid_map").write_text(f"0 {os.geteuid()} 1", "ascii")
        Path(f"/proc/{pid}/gid_map").write_text(f"0 {os.getegid()} 1", "ascii")
    except OSError as error:
        raise OutsideError(f"user ids cannot be mapped: {error.strerror}") from None


def _map_far_range(pid: int) -> None:
    for name in ("uid_map", "gid_map"):
        lines = Path(f"/proc/self/{name}").read_text("ascii").splitlines()
        highest = max(int(first) + int(count) for first, _, count in (line.split() for line in lines))
        first, count = _RANGE
        if highest < first + count:
            # Inside another namespace: take what there is above the usual accounts, or share all of it.
            first, count = (1 << 17, highest - (1 << 17)) if highest > 1 << 18 else (0, highest)
        Path(f"/proc/{pid}/{name}").write_text(f"0 {first} {count}", "ascii")


def find_subordinates() -> Subordinates | str:
    """The subordinate ids of the user who asks, or why there are none."""
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    found: list[tuple[tuple[int, int], str]] = []
    for program, database in (("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")):
        ids, tool = _subordinate(Path(database), user), shutil.which(program)
        if ids is None:
            return f"{database} gives {user} no ids"
        if tool is None:
            return f"{program} is not installed"
        found.append((ids, tool))
    (users, user_tool), (groups, group_tool) = found
    return Subordinates(users, groups, user_tool, group_tool)


def _subordinate(database: Path, user: str) -> tuple[int, int] | None:
    """The largest range that a user has."""
    try:
        text = database.read_text("utf-8", "replace")
    except OSError:
        return None
    ranges = []
    for line in text.splitlines():
        match = re.fullmatch(r"([^:]+):(\d+):(\d+)\s*", line)
        if match is not None and match[1] in (user, str(os.geteuid())):
            ranges.append((int(match[2]), int(match[3])))
    return max(ranges, key=lambda pair: pair[1], default=None)
