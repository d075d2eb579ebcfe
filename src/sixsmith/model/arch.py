"""One table of architectures: apk's spelling, the OCI platform, and s6-overlay's file names.

Inside sixsmith an architecture is apk's spelling (`x86_64`, `armv7`, …); the other spellings appear at the borders only.
Source of the s6-overlay names: the release file lists of v1 to v3 (`arm` is the hard-float armv7 build of v3).
"""

from __future__ import annotations

import msgspec

from sixsmith.errors import UsageError, nearest

__all__ = ["ARCHES", "Arch", "Platform", "arch_named"]


class Platform(msgspec.Struct, frozen=True):
    """An OCI platform (image-spec, `image-index.md`)."""

    architecture: str
    variant: str | None = None
    os: str = "linux"

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Arch(msgspec.Struct, frozen=True):
    """One architecture in every spelling; `overlay_v2`/`overlay_v3` are None where no release has it."""

    name: str
    platform: Platform
    overlay_v2: str | None
    overlay_v3: str | None
    elf_machine: int

    def __str__(self) -> str:
        return self.name


ARCHES: dict[str, Arch] = {
    arch.name: arch
    for arch in (
        Arch("x86_64", Platform("amd64"), "amd64", "x86_64", 62),
        Arch("x86", Platform("386"), "x86", "i686", 3),
        Arch("aarch64", Platform("arm64", "v8"), "aarch64", "aarch64", 183),
        Arch("armhf", Platform("arm", "v6"), "armhf", "armhf", 40),
        Arch("armv7", Platform("arm", "v7"), "arm", "arm", 40),
        Arch("ppc64le", Platform("ppc64le"), "ppc64le", "powerpc64le", 21),
        Arch("s390x", Platform("s390x"), None, "s390x", 22),
        Arch("riscv64", Platform("riscv64"), None, "riscv64", 243),
        Arch("loongarch64", Platform("loong64"), None, None, 258),
        Arch("mips64", Platform("mips64"), None, None, 8),
    )
}

_OTHER_SPELLINGS = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "x86",
    "i386": "x86",
    "i686": "x86",
    "arm": "armv7",
    "powerpc64le": "ppc64le",
    "loong64": "loongarch64",
}


def arch_named(name: str) -> Arch:
    """The architecture that apk calls `name`.

    Raises UsageError with the nearest apk spelling, also for Docker's spellings (`amd64` → `x86_64`).
    """
    if name in ARCHES:
        return ARCHES[name]
    other = _OTHER_SPELLINGS.get(name)
    hint = f"did you mean '{other}'?" if other else nearest(name, ARCHES)
    raise UsageError(f"unknown architecture '{name}'; apk knows {', '.join(ARCHES)}", hint=hint)
