"""Which program makes the namespaces, and why that one.

A runner is chosen once, from what the system has and allows; the reason is part of every report. What a runner does is in
`starters`, on the keeper's side.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from sixsmith.errors import OutsideError, RunnerRefused, UsageError, nearest
from sixsmith.io.namespaces import (
    Emulator,
    Subordinates,
    emulator_for,
    find_subordinates,
    is_native,
    namespaces_refused,
)
from sixsmith.model.arch import Arch

__all__ = ["RUNNERS", "Runner", "check_runner", "choose_runner"]

RUNNERS = ("runc", "namespaces", "bwrap", "podman", "docker")


@dataclass(frozen=True, slots=True)
class Runner:
    """A way to start containers.

    `user_namespace`: root in the container is nobody outside. `alone`: only one user id exists inside. `other_users`:
    whether an image can be started as any user. `daemon` is the socket of the Docker daemon that does it.
    """

    name: str
    reason: str
    starter: str
    user_namespace: bool
    alone: bool = False
    subordinates: Subordinates | None = None
    emulator: Emulator | None = None
    daemon: str = ""

    @property
    def control_groups(self) -> bool:
        """Whether it cannot do without a control group."""
        return self.starter == "podman"

    @property
    def other_users(self) -> bool:
        return not self.alone and self.starter != "bwrap"


def check_runner(wanted: str | None) -> None:
    """Raises UsageError for a runner that there is not."""
    if wanted is not None and wanted not in RUNNERS:
        raise UsageError(f"no runner '{wanted}', only {', '.join(RUNNERS)}", hint=nearest(wanted, RUNNERS))


def choose_runner(arch: Arch, wanted: str | None = None, *, docker_host: str = "") -> Runner:
    """The runner for an architecture: the one that is `wanted`, else the first that can be used of runc, plain namespaces and
    a Docker daemon (`docker_host` as in DOCKER_HOST).

    Raises UsageError for a runner that there is not, RunnerRefused when it is not installed or cannot run `arch` here, and
    OutsideError for a Docker daemon that was asked for and does not answer.
    """
    check_runner(wanted)
    name, reason = _choose(wanted, docker_host)
    emulator = None
    if not is_native(arch):
        emulator = emulator_for(arch)
        if emulator is None:
            raise RunnerRefused(
                f"this machine does not run {arch} programs, and no qemu for them is installed",
                hint="install qemu-user-static",
            )
        reason += f"; {arch} by {Path(emulator.path).name}"
    root = os.geteuid() == 0
    if name in ("podman", "docker") and (not root or emulator is not None):
        raise RunnerRefused(
            f"{name} is used as root, for this machine's own programs", hint="--runner runc needs neither"
        )
    if name == "docker":
        return _docker(reason, docker_host)
    user_namespace = not root or name not in ("runc", "podman") or emulator is not None
    subordinates, alone = None, False
    if not root:
        found = find_subordinates()
        if isinstance(found, str):
            alone = True
            reason += f"; only one user inside, because {found}"
        else:
            subordinates = found
    if user_namespace and not Path("/proc/self/ns/user").exists():
        raise RunnerRefused("this kernel has no user namespaces")
    return Runner(name, reason, name, user_namespace, alone, subordinates, emulator)


def _docker(reason: str, host: str) -> Runner:
    from sixsmith.io.daemon import Daemon, socket_of

    daemon = Daemon(socket_of(host))
    return Runner(
        "docker", f"{reason}, Docker {daemon.version()} at {daemon.path}", "docker", False, daemon=daemon.path
    )


def _choose(wanted: str | None, docker_host: str) -> tuple[str, str]:
    if wanted is not None:
        if wanted not in ("namespaces", "docker") and shutil.which(wanted, path=_search_path()) is None:
            raise RunnerRefused(f"{wanted} is not installed", hint="`--runner namespaces` needs no program")
        return wanted, "asked for"
    root = os.geteuid() == 0
    if shutil.which("runc", path=_search_path()) is None:
        missing = "no runc is installed"
    elif (why := namespaces_refused(user=not root)) is None:
        return "runc", "runc is installed" + ("" if root else ", without root in a user namespace")
    else:
        missing = f"runc cannot make namespaces here ({why})"
    refused = namespaces_refused(user=True)
    if refused is None:
        return "namespaces", f"{missing}, so system calls alone"
    try:
        from sixsmith.io.daemon import Daemon, socket_of

        Daemon(socket_of(docker_host)).version()
    except OutsideError as error:
        raise RunnerRefused(
            f"nothing can be started here: {missing}, user namespaces are refused ({refused}), and {error.message}",
            hint="allow user namespaces, or start a Docker daemon",
        ) from None
    return "docker", f"{missing}, and user namespaces are refused ({refused})"


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
