"""How s6-overlay got into the image (C5 of the rule list, the part that the finished tree shows: M1 to M3, M9, M10, M12, M15,
M16). What laying an overlay itself finds (M2 while laying, M11, M18) and where bundles belong (M4 to M8) is `sixsmith.overlay`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sixsmith.catalog import advice_for_overlay
from sixsmith.errors import UsageError
from sixsmith.model.arch import ARCHES
from sixsmith.rootfs.tree import OVERLAY, Node
from sixsmith.s6.finding import Finding, Severity
from sixsmith.s6.lint.image import Image
from sixsmith.s6.lint.shell import word_set

__all__ = ["check_install", "is_tarball"]

_TARBALL = r"(?:.*/)?(s6-overlay|syslogd-overlay)[-\w.]*(\.tar\.[gx]z|\.tgz|\.tar|-installer)\Z"
_NEEDED = word_set(
    "execlineb s6-svscan s6-supervise s6-svscanctl s6-svwait s6-rc s6-rc-compile s6-rc-init s6-linux-init-maker s6-mkdir"
    " s6-rmrf s6-ls s6-sort s6-ln s6-chown s6-chmod s6-cat s6-echo s6-rename s6-hiercopy s6-dumpenv s6-envdir s6-overlay-suexec"
    " printcontenv with-contenv importas eltest"
)
_NEEDED_BEFORE_V3 = word_set(
    "execlineb s6-svscan s6-supervise s6-svscanctl s6-svwait s6-hiercopy s6-echo s6-envdir importas"
)
_MACHINES = {arch.elf_machine: arch.name for arch in ARCHES.values()} | {40: "32-bit ARM"}
_OF_THE_SYSTEM = ("bin/busybox", "bin/bash", "usr/bin/bash", "bin/dash", "usr/bin/dash", "sbin/apk", "bin/sh")
_SYNC_ADVICE = "syncs every disk"
"""The advisory that rule V9 says itself."""


def check_install(image: Image) -> Iterator[Finding]:
    """All findings about the overlay's own files; none where there is no trace of an overlay."""
    yield from _tarballs(image)
    if image.overlay is None:
        yield from _services_without_overlay(image)
        return
    if image.partial and not image.has_overlay_files:
        return
    init = image.tree.get("init")
    if init is None or init.origin != OVERLAY:  # what was laid here is whole
        yield from _parts(image)
    yield from _machine(image)
    yield from _suid(image)
    yield from _usr_merged(image)
    yield from _group_writable(image)
    yield from _known_bad(image)


def is_tarball(path: str) -> bool:
    """Whether this is a file of an s6-overlay release by its name."""
    return re.fullmatch(_TARBALL, path) is not None


def _tarballs(image: Image) -> Iterator[Finding]:
    for path, node in image.tree.nodes.items():
        if "overlay" in path and node.kind == "file" and is_tarball(path):
            yield image.found("M12", f"/{path}", f"a release file of {node.size} bytes is left in the image")


def _services_without_overlay(image: Image) -> Iterator[Finding]:
    if image.legacy_services or image.names("etc/cont-init.d"):
        place = "/etc/services.d" if image.legacy_services else "/etc/cont-init.d"
        yield image.found(
            "M1", place, "there are services, and no s6-overlay to start them", hint="lay s6-overlay on the image"
        )


# ---- M1, M16


def _parts(image: Image) -> Iterator[Finding]:
    folder = "command" if image.major == 3 else "bin"
    needed = _NEEDED if image.major == 3 else _NEEDED_BEFORE_V3
    programs = [name for name in needed if f"{folder}/{name}" in image.tree or image.program(name) is not None]
    init = image.find("init")
    if init is None or init.kind != "file":
        yield image.found("M1", "/init", "there is no /init: the scripts' part (noarch) is missing")
        return
    if not init.mode & 0o111:
        yield image.found("M1", "/init", "/init is not executable", hint="give it mode 0755")
    if image.major == 3 and not any(
        name.startswith("s6-overlay-") and name[11:12].isdigit() for name in image.names("package/admin")
    ):
        yield image.found(
            "M1", "/package/admin", "the scripts in /package/admin/s6-overlay are missing: the noarch tarball"
        )
        return
    if len(programs) < len(needed) // 3:
        yield image.found("M1", f"/{folder}", "there are no programs of s6: the architecture's part is missing")
        return
    old = image.overlay is not None and not image.overlay.since(3, 1)
    missing = [name for name in sorted(needed) if image.program(name) is None and not (name == "eltest" and old)]
    if missing:
        dangling = image.tree.get(f"{folder}/{missing[0]}") is not None
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield image.found(
            "M16", f"/{folder}/{missing[0]}", f"`{missing[0]}`{more} {'lead nowhere' if dangling else 'missing'}"
        )


# ---- M2


def _machine(image: Image) -> Iterator[Finding]:
    """Programs of another machine than the system's own. What was laid here was looked at when it was laid."""
    folder = "command" if image.major == 3 else "bin"
    machines = {}
    for name in image.names(folder):
        if image.major == 3 or name.startswith("s6-") or name == "execlineb":
            machine = _elf_machine(image.find(f"{folder}/{name}"))
            if machine is not None:
                machines[name] = machine
    if not machines:
        return
    system = next((machine for path in _OF_THE_SYSTEM if (machine := _elf_machine(image.find(path))) is not None), None)
    if system is None:
        return
    wrong: dict[int, list[str]] = {}
    for name, machine in machines.items():
        if machine != system:
            wrong.setdefault(machine, []).append(name)
    for machine, names in wrong.items():
        these = f"{len(names)} programs are" if len(names) > 1 else "it is"
        message = f"{these} for {_MACHINES.get(machine, f'machine {machine}')}, and the system is for {_MACHINES.get(system, f'machine {system}')}"
        yield image.found("M2", f"/{folder}/{names[0]}", message)


def _elf_machine(node: Node | None) -> int | None:
    if node is None or node.kind != "file" or node.origin == OVERLAY or node.origin.startswith("apk:"):
        return None
    if node.size < 20 or node.content is None:
        return None
    header = node.content.read()[:20]
    if header[:4] != b"\x7fELF" or len(header) < 20:
        return None
    return int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")


# ---- M3, M9, M10, M15


def _suid(image: Image) -> Iterator[Finding]:
    suexec = image.find("command/s6-overlay-suexec") if image.major == 3 else None
    if suexec is not None and not suexec.mode & 0o4000 and image.user is None:
        message = f"no suid bit (mode {suexec.mode:04o}): nobody but root can start this image"
        yield image.found("M3", "/command/s6-overlay-suexec", message)


def _usr_merged(image: Image) -> Iterator[Finding]:
    own = image.tree.get("bin")
    if image.major == 3 or own is None or own.kind != "directory" or "bin/s6-svscan" not in image.tree:
        return
    if image.find("bin/sh") is None and image.find("usr/bin/sh") is not None:
        yield image.found(
            "M9", "/bin", "a directory that holds only the overlay; the system's programs are in /usr/bin"
        )


def _group_writable(image: Image) -> Iterator[Finding]:
    if image.major == 3:
        return
    for path in ("etc", "usr/bin"):
        node = image.tree.get(path)
        if node is not None and node.kind == "directory" and node.mode & 0o020:
            yield image.found("M10", f"/{path}", f"the group may write there (mode {node.mode:04o})")


def _known_bad(image: Image) -> Iterator[Finding]:
    version = image.overlay.version if image.overlay else None
    if version is None:
        return
    try:
        advices = advice_for_overlay(version)
    except UsageError:
        return
    for advice in advices:
        if _SYNC_ADVICE in advice.message:
            continue
        hint = f"take {advice.instead}" if advice.instead else None
        severity: Severity | None = "info" if advice.severity == "caution" else None
        yield image.found(
            "M15", f"s6-overlay {version}", f"this release {advice.message}", hint=hint, severity=severity
        )
