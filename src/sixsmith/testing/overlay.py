"""s6-overlay releases in small: the layout, modes, links and suid bits of the real tarballs, with programs that only exit.

v1 and v2 are one gzip tarball over /bin and /etc/s6; v3 is xz, split into what every machine shares and what it does not, under
/package and /command. The releases whose directories were group-writable (#274) have them so here too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sixsmith import catalog
from sixsmith.model.arch import ARCHES
from sixsmith.model.compression import gzip_member
from sixsmith.testing.programs import tiny_program
from sixsmith.testing.tars import SampleFile, sample_files, tar_bytes

__all__ = ["make_overlay_release", "overlay_tarballs"]

_EXECLINE = (
    "execlineb",
    "foreground",
    "background",
    "if",
    "ifelse",
    "importas",
    "cd",
    "umask",
    "exit",
    "export",
    "wait",
)
_S6 = ("s6-svscan", "s6-supervise", "s6-svc", "s6-svstat", "s6-svwait", "s6-log", "s6-envdir", "s6-setuidgid")
_S6_RC = ("s6-rc", "s6-rc-compile", "s6-rc-init")
_SCRIPTS = ("with-contenv", "logutil-service", "printcontenv")
_MOVED = (3, 2, 3, 1)
"""From here user bundles are in user-bundles.d."""


def make_overlay_release(mirror: Path, version: str, arches: Sequence[str] = ("x86_64", "aarch64")) -> Path:
    """Writes `v<version>/<file>` and `<file>.sha256` below `mirror` for these architectures (apk spellings); returns the folder.

    v3 comes with its symlinks and syslogd tarballs. Raises UsageError for a release or architecture that does not exist.
    """
    folder = mirror / f"v{version.removeprefix('v')}"
    folder.mkdir(parents=True, exist_ok=True)
    for arch in arches:
        for name, data in overlay_tarballs(version, arch).items():
            (folder / name).write_bytes(data)
            (folder / f"{name}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    return folder


def overlay_tarballs(version: str, arch: str) -> dict[str, bytes]:
    """All tarballs of a release for one architecture, by file name."""
    release = catalog.overlay(version)
    modern = release.major >= 3
    names = catalog.overlay_files(release.version, ARCHES[arch], symlinks=modern, syslogd=modern)
    if not modern:
        return {names[0]: gzip_member(_tar(_old_layout(release.version, arch)))}
    makers: tuple[Callable[[], list[SampleFile]], ...] = (
        lambda: _noarch(release.version),
        lambda: _arch(release.version, arch),
        lambda: _links(_SCRIPTS),
        lambda: _links((*_EXECLINE, *_S6, *_S6_RC, "s6-overlay-suexec")),
        lambda: _syslogd(release.version),
    )
    return {name: _xz(_tar(maker())) for name, maker in zip(names, makers, strict=True)}


def _tar(files: Sequence[SampleFile]) -> bytes:
    root = SampleFile(".", kind="directory")
    return tar_bytes([root], end=False) + tar_bytes(sample_files(files), prefix="./", record=10_240)


def _xz(data: bytes) -> bytes:
    import lzma

    return lzma.compress(data, preset=6)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.split(r"[.-]", version))


# ---- v1 and v2


def _old_layout(version: str, arch: str) -> list[SampleFile]:
    machine = ARCHES[arch]
    loose = (1, 21, 8, 0) <= _order(version) <= (2, 0, 0, 0)
    files = [
        SampleFile("etc", kind="directory", mode=0o775 if loose else 0o755),
        SampleFile("usr", kind="directory"),
        SampleFile("usr/bin", kind="directory", mode=0o775 if loose else 0o755),
        SampleFile("init", b"#!/bin/execlineb -S0\n\n/etc/s6/init/init-stage1 $@\n", mode=0o755),
        SampleFile("etc/s6/init/env/PATH", b"/usr/bin:/usr/sbin:/bin:/sbin"),
        SampleFile("etc/s6/init/env-stage2", kind="directory"),
        SampleFile("etc/s6/services/s6-fdholderd/supervise", kind="directory", mode=0o700),
        SampleFile("etc/s6/services/s6-fdholderd/notification-fd", b"3\n"),
        SampleFile("etc/leapsecs.dat", bytes(8)),
        SampleFile("libexec/s6-rc-oneshot-run", _program(arch, "s6-rc-oneshot-run")),
        SampleFile("usr/bin/execlineb", kind="symlink", target="/bin/execlineb"),
        *(SampleFile(f"usr/bin/{name}", b"#!/bin/execlineb -S0\n\n$@\n", mode=0o755) for name in _SCRIPTS),
    ]
    files += [SampleFile(f"etc/{name}", kind="directory") for name in _OLD_FOLDERS]
    files += [SampleFile(f"etc/s6/init/init-stage{stage}", _STAGE, mode=0o755) for stage in (1, 2, 3)]
    for name in (*_EXECLINE, *_S6, *_S6_RC):
        mode = 0o700 if name == "s6-setuidgid" else 0o755
        files.append(SampleFile(f"bin/{name}", tiny_program(machine, seed=f"{name} {version}", weight=1500), mode=mode))
    if _order(version)[0] == 2:
        files.append(SampleFile("bin/s6-overlay-preinit", _program(arch, "preinit"), mode=0o4755))
    return files


_OLD_FOLDERS = ("cont-init.d", "cont-finish.d", "fix-attrs.d", "services.d")
_STAGE = b"#!/bin/execlineb -S0\n\nforeground { s6-echo sample }\n$@\n"


def _program(arch: str, name: str) -> bytes:
    return tiny_program(ARCHES[arch], seed=name, weight=1500)


# ---- v3


def _noarch(version: str) -> list[SampleFile]:
    home = f"package/admin/s6-overlay-{version}"
    sources = f"{home}/etc/s6-rc/sources"
    init = f"#!/bin/sh -e\n\nexec s6-overlay-suexec ' /{home}/libexec/preinit' '' /{home}/libexec/stage0 \"$@\"\n"
    files = [
        SampleFile("init", init.encode(), mode=0o755),
        SampleFile("package/admin/s6-overlay", kind="symlink", target=f"s6-overlay-{version}"),
        *(SampleFile(f"{home}/libexec/{name}", b"#!/bin/sh -e\n", mode=0o755) for name in ("preinit", "stage0")),
        *(SampleFile(f"{home}/command/{name}", b"#!/command/execlineb -S0\n\n$@\n", mode=0o755) for name in _SCRIPTS),
        *(
            SampleFile(f"command/{name}", kind="symlink", target=f"../package/admin/s6-overlay/command/{name}")
            for name in _SCRIPTS
        ),
    ]
    for bundle, members in (("top", ("base", "user", "user2")), ("base", ("fix-attrs", "legacy-cont-init"))):
        files.append(SampleFile(f"{sources}/{bundle}/type", b"bundle\n"))
        files += [SampleFile(f"{sources}/{bundle}/contents.d/{member}") for member in members]
    for oneshot in ("fix-attrs", "legacy-cont-init"):
        files.append(SampleFile(f"{sources}/{oneshot}/type", b"oneshot\n"))
        files.append(SampleFile(f"{sources}/{oneshot}/up", f"/{home}/libexec/{oneshot}\n".encode()))
    bundles = "etc/s6-overlay/user-bundles.d" if _order(version) >= _MOVED else "etc/s6-overlay/s6-rc.d"
    for bundle in ("user", "user2"):
        files.append(SampleFile(f"{bundles}/{bundle}/contents.d", kind="directory"))
        files.append(SampleFile(f"{bundles}/{bundle}/type", b"bundle\n"))
    if _order(version) >= _MOVED:
        files.append(SampleFile("etc/s6-overlay/s6-rc.d", kind="directory"))
    return files


def _arch(version: str, arch: str) -> list[SampleFile]:
    files = []
    packages = {
        "execline": ("2.9.7.0", _EXECLINE),
        "s6": ("2.13.2.0", _S6),
        "s6-rc": ("0.5.6.0", _S6_RC),
        "s6-overlay-helpers": ("0.1.2.0", ("s6-overlay-suexec",)),
    }
    for name, (number, commands) in packages.items():
        home = f"package/admin/{name}-{number}"
        files.append(SampleFile(f"package/admin/{name}", kind="symlink", target=f"{name}-{number}"))
        for command in commands:
            program = tiny_program(ARCHES[arch], seed=f"{command} {version}", weight=1500)
            mode = {"s6-overlay-suexec": 0o4755, "s6-setuidgid": 0o700}.get(command, 0o755)
            files.append(SampleFile(f"{home}/command/{command}", program, mode=mode))
            target = f"../package/admin/{name}/command/{command}"
            files.append(SampleFile(f"command/{command}", kind="symlink", target=target))
    return files


def _links(names: Sequence[str]) -> list[SampleFile]:
    return [SampleFile(f"usr/bin/{name}", kind="symlink", target=f"../../command/{name}") for name in names]


def _syslogd(version: str) -> list[SampleFile]:
    home = "etc/s6-overlay/s6-rc.d"
    return [
        SampleFile(f"{home}/syslogd/type", b"longrun\n"),
        SampleFile(f"{home}/syslogd/run", b"#!/command/execlineb -P\n\nsyslogd-overlay\n", mode=0o755),
        SampleFile(f"{home}/syslogd/dependencies.d/base"),
        SampleFile(f"{home}/syslogd-bundle/type", b"bundle\n"),
        SampleFile(f"{home}/syslogd-bundle/contents.d/syslogd"),
        SampleFile(f"{home}/user/contents.d/syslogd-bundle"),
    ]
