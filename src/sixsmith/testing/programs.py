"""Programs that were never compiled: the smallest ELF files that their kernels run. They exit with a status, and no more.

Nobody else's binary may be in the sample world, but the product looks at ELF headers and the layers want some weight: so
programs are made here, by hand, and can be filled up with noise that does not compress.

Sources: System V ABI, "ELF Header", "Program Header"; the kernels' syscall tables (exit is 60 on x86_64, 93 on aarch64 and
riscv64, 1 on x86, arm, ppc64le and s390x).
"""

from __future__ import annotations

import hashlib
import struct

from sixsmith.model.arch import Arch

__all__ = ["noise", "tiny_program"]

_32_BIT = frozenset({"x86", "armhf", "armv7"})
_BIG_ENDIAN = frozenset({"s390x", "mips64"})
_FLAGS = {"armhf": 0x05000400, "armv7": 0x05000200, "ppc64le": 2}


def _exit(arch: str, status: int) -> bytes:
    """Machine code for `exit(status)`; empty for machines that nobody here can check."""
    if arch == "x86_64":
        return b"\xbf" + struct.pack("<I", status) + b"\xb8\x3c\0\0\0\x0f\x05"
    if arch == "x86":
        return b"\xbb" + struct.pack("<I", status) + b"\xb8\x01\0\0\0\xcd\x80"
    if arch == "aarch64":  # movz x0, #status; movz x8, #93; svc #0
        return struct.pack("<III", 0xD2800000 | status << 5, 0xD2800000 | 93 << 5 | 8, 0xD4000001)
    if arch in ("armhf", "armv7"):  # mov r0, #status; mov r7, #1; svc 0
        return struct.pack("<III", 0xE3A00000 | status, 0xE3A07001, 0xEF000000)
    if arch == "riscv64":  # li a0, status; li a7, 93; ecall
        return struct.pack("<III", status << 20 | 0x513, 93 << 20 | 0x893, 0x73)
    return b""


def tiny_program(arch: Arch, *, status: int = 0, weight: int = 0, seed: str = "") -> bytes:
    """A static ELF program for `arch` that exits with `status` (0 to 255), with `weight` bytes of noise after it."""
    order = ">" if arch.name in _BIG_ENDIAN else "<"
    wide = arch.name not in _32_BIT
    code = _exit(arch.name, status)
    base = 0x400000
    ident = b"\x7fELF" + bytes([2 if wide else 1, 2 if order == ">" else 1, 1]) + bytes(9)
    head, program = (64, 56) if wide else (52, 32)
    start = head + program
    size = start + len(code)
    word = "Q" if wide else "I"
    header = ident + struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH",
        *(2, arch.elf_machine, 1, base + start, head, 0, _FLAGS.get(arch.name, 0), head, program, 1, 0, 0, 0),
    )
    if wide:
        segment = struct.pack(f"{order}IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    else:
        segment = struct.pack(f"{order}IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000)
    return header + segment + code + noise(f"{arch.name} {seed}", weight)


def noise(seed: str, size: int) -> bytes:
    """`size` bytes that do not compress and are the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size) if size else b""
