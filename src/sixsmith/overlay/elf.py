"""What machine a program is for, read from its ELF header.

The commonest broken s6-overlay image holds the programs of another machine (#271 #401 #501 #512 #617): `arm` for `armhf`,
Docker's spelling used raw, a fallback to x86_64. So every program is looked at. 32-bit ARM needs a second look: `arm` and
`armhf` have the same machine number, and only the build attributes tell that code is for ARMv7, on which an ARMv6 stops
with an illegal instruction.

Sources: System V ABI, "ELF Header" and "Sections"; Addenda to the ABI for the Arm Architecture, "Build attributes".
"""

from __future__ import annotations

from typing import Literal

from sixsmith.errors import FormatError
from sixsmith.model.arch import Arch
from sixsmith.model.compression import Bytes

__all__ = ["ARMV7", "arm_architecture", "elf_fault", "is_elf"]

_MAGIC = b"\x7fELF"
_BITS = {1: 32, 2: 64}
_32_BIT = frozenset({"x86", "armhf", "armv7"})
_BIG_ENDIAN = frozenset({"s390x", "mips64"})

_MACHINES = {
    3: "x86",
    8: "MIPS",
    20: "32-bit PowerPC",
    21: "64-bit PowerPC",
    22: "s390x",
    40: "32-bit ARM",
    62: "x86_64",
    183: "aarch64",
    243: "RISC-V",
    258: "LoongArch",
}

ARMV7 = 10
"""`Tag_CPU_arch` of ARMv7. What the ARMv6 of Alpine's armhf runs has a smaller number (v6 is 6, v6KZ 7, v6K 9)."""

_ARM_ATTRIBUTES = 0x70000003
_TAG_FILE = 1
_TAG_CPU_ARCH = 6
_TAG_COMPATIBILITY = 32
_TEXT_TAGS = frozenset({4, 5, 67})
"""CPU_raw_name, CPU_name, conformance: attributes below 32 or even that are text all the same."""


def is_elf(program: Bytes) -> bool:
    """Whether these bytes are an ELF file."""
    return bytes(program[:4]) == _MAGIC


def elf_fault(program: Bytes, arch: Arch) -> str | None:
    """Why an ELF file cannot run on `arch`, as a phrase (`is for x86_64`), or None when its header says that it can."""
    header = bytes(program[:20])
    if len(header) < 20 or header[4] not in _BITS or header[5] not in (1, 2):
        return "has a damaged ELF header"
    order, bits, little = _order(header), _BITS[header[4]], header[5] == 1
    machine = int.from_bytes(header[18:20], order)
    if machine != arch.elf_machine:
        return f"is for {_MACHINES.get(machine, f'machine {machine}')}"
    wanted_bits = 32 if arch.name in _32_BIT else 64
    if bits != wanted_bits:
        return f"is a {bits}-bit program"
    if little == (arch.name in _BIG_ENDIAN):
        return f"is a {'little' if little else 'big'}-endian program"
    return None


def arm_architecture(program: Bytes) -> int | None:
    """`Tag_CPU_arch` of a 32-bit ARM program, or None where it does not say (a build may have dropped its attributes)."""
    try:
        section = _section(program, _ARM_ATTRIBUTES)
        return _cpu_arch(section) if section is not None else None
    except (IndexError, FormatError):
        return None


def _order(header: bytes) -> Literal["little", "big"]:
    return "little" if header[5] == 1 else "big"


def _section(program: Bytes, kind: int) -> bytes | None:
    """The content of the first section of this type of a 32-bit ELF file."""
    view = memoryview(program)
    order = _order(bytes(view[:20]))

    def number(offset: int, size: int) -> int:
        if offset + size > len(view):
            raise FormatError("ends inside its section headers")
        return int.from_bytes(view[offset : offset + size], order)

    table, entry_size, count = number(32, 4), number(46, 2), number(48, 2)
    for index in range(count if table else 0):
        at = table + index * entry_size
        if number(at + 4, 4) == kind:
            start, size = number(at + 16, 4), number(at + 20, 4)
            return bytes(view[start : start + size])
    return None


def _cpu_arch(section: bytes) -> int | None:
    """Tag_CPU_arch of the `aeabi` file attributes. Format: `A`, then vendor subsections, each of tagged parts."""
    if section[:1] != b"A":
        return None
    at = 1
    while at + 4 < len(section):
        length = int.from_bytes(section[at : at + 4], "little")
        vendor, _, body = section[at + 4 : at + length].partition(b"\0")
        if vendor == b"aeabi" and body[:1] == bytes([_TAG_FILE]):
            return _attribute(body[5 : int.from_bytes(body[1:5], "little")], _TAG_CPU_ARCH)
        at += max(length, 4)
    return None


def _attribute(attributes: bytes, wanted: int) -> int | None:
    """The numeric attribute `wanted`; raises IndexError where the attributes end too early."""
    at = 0
    while at < len(attributes):
        tag, at = _uleb128(attributes, at)
        if tag in _TEXT_TAGS or (tag > _TAG_COMPATIBILITY and tag % 2):
            at = attributes.index(b"\0", at) + 1 if b"\0" in attributes[at:] else len(attributes)
            continue
        value, at = _uleb128(attributes, at)
        if tag == wanted:
            return value
        if tag == _TAG_COMPATIBILITY:
            at = attributes.index(b"\0", at) + 1 if b"\0" in attributes[at:] else len(attributes)
    return None


def _uleb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
