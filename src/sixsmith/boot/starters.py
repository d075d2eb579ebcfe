"""How the keeper starts a container, one function for each runner.

All of them get the same root: an overlay of the unpacked image and an empty folder, so that the image stays as it is for
the next start. What they differ in is who makes the namespaces. Devices open nowhere but in /dev, and there only the usual
ones: control groups, with which Docker sees to that, are not made here.
"""

# Names here are of another root, and `os` says exactly which system call is made:
# ruff: noqa: PTH101, PTH103, PTH116, PTH123, PTH115

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sixsmith.boot import plain
from sixsmith.boot.spec import RunSpec, container_environment
from sixsmith.io import kernel
from sixsmith.io.disk import read_tree, write_tree

if TYPE_CHECKING:
    from sixsmith.boot.keeper import Keeper

__all__ = ["Account", "Started", "await_program", "resolve_user", "start"]

_TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class Started:
    """A running container: `pid` is its first process, `waitable` the child of ours that ends when it does.

    `signal` and `kill` are ways of its own to signal the first process and to end everything, if it has them.
    """

    pid: int
    waitable: int
    put_away: Callable[[], None]
    signal: Callable[[int], None] | None = None
    kill: Callable[[], None] | None = None
    notes: list[str] = field(default_factory=list)


class Account(NamedTuple):
    """Whom the first process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def start(runner: str, keeper: Keeper, spec: RunSpec, log: int) -> Started:
    """Starts the image. Raises OSError with a sentence when it cannot be started."""
    account = resolve_user(spec.user, keeper.read_image("/etc/passwd") or "", keeper.read_image("/etc/group") or "")
    spec_env = container_environment(spec.environment, home=account.home)
    if keeper.docker is not None:
        return keeper.docker.start(spec, account, spec_env, log)
    root, notes, put_away = make_root(keeper, spec)
    try:
        started = _STARTERS[runner](keeper, spec, account, spec_env, root, log)
    except BaseException:
        put_away()
        raise
    started.notes += notes
    rest = started.put_away

    def put_all_away() -> None:
        rest()
        put_away()

    started.put_away = put_all_away
    return started


def resolve_user(user: str, passwd: str, group: str) -> Account:
    """The account that an image's `User` names (image-spec, `config.md`): names are looked up in the image.

    Raises OSError for a name that the image does not have.
    """
    name, colon, group_name = user.partition(":")
    accounts = [line.split(":") for line in passwd.splitlines() if line.count(":") >= 6]
    groups = [line.split(":") for line in group.splitlines() if line.count(":") >= 3]
    found = next((line for line in accounts if line[0] == name or (name.isdigit() and line[2] == name)), None)
    if not name:
        found = next((line for line in accounts if line[2] == "0"), None)
    if found is not None:
        uid, gid, home = int(found[2]), int(found[3]), found[5] or "/"
        more = tuple(int(line[2]) for line in groups if found[0] in line[3].split(",") and int(line[2]) != gid)
    elif name.isdigit():
        uid, gid, home, more = int(name), 0, "/", ()
    elif not name:
        uid, gid, home, more = 0, 0, "/root", ()
    else:
        raise OSError(0, f"the image's user is '{name}', whom its /etc/passwd does not have")
    if colon:
        named = next((line for line in groups if line[0] == group_name), None)
        if named is None and not group_name.isdigit():
            raise OSError(0, f"the image's group is '{group_name}', which its /etc/group does not have")
        gid, more = int(named[2] if named else group_name), ()
    return Account(uid, gid, more, home)


# --- the root


def make_root(keeper: Keeper, spec: RunSpec) -> tuple[str, list[str], Callable[[], None]]:
    """A writable root for one start, with the working folder and volumes in it; and what takes it away."""
    root = keeper.place("root")
    notes: list[str] = []
    mounted: list[str] = []
    try:
        _overlay(keeper, keeper.image, root, "root")
        mounted.append(root)
    except OSError as error:
        notes.append(f"the image was copied, because overlays are not allowed here ({error.strerror})")
        write_tree(read_tree(Path(keeper.image)), Path(root), owners=not keeper.alone)
    tree = keeper.tree
    assert tree is not None
    if keeper.alone:
        notes.append("there are no subordinate ids: every file belongs to root, and nobody else can be")
    for path in ["proc", "sys", "dev", *(["run"] if spec.read_only else []), spec.workdir, *spec.volumes]:
        os.makedirs(f"{root}/{tree.resolve(path)}", 0o755, exist_ok=True)
    if spec.read_only:
        # a volume is the image's content on something else that can be written
        for number, volume in enumerate(spec.volumes):
            place = f"{root}/{tree.resolve(volume)}"
            with suppress(OSError):
                _overlay(keeper, place, place, f"volume-{number}")
                mounted.append(place)

    def put_away() -> None:
        for place in reversed(mounted):
            with suppress(OSError):
                kernel.unmount(place)

    return root, notes, put_away


def _overlay(keeper: Keeper, lower: str, target: str, name: str) -> None:
    upper, work = keeper.place(f"{name}-upper"), keeper.place(f"{name}-work")
    status = os.stat(lower)
    with suppress(OSError):
        os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, status.st_mode & 0o7777)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    if keeper.user:
        with suppress(OSError):
            kernel.mount("overlay", target, "overlay", kernel.MS_NODEV, options + ",userxattr")
            return
    kernel.mount("overlay", target, "overlay", kernel.MS_NODEV, options)


# --- runners


def _namespaces(keeper: Keeper, spec: RunSpec, account: Account, env: dict[str, str], root: str, log: int) -> Started:
    errors, told = os.pipe2(os.O_CLOEXEC)
    guard = os.fork()
    if guard == 0:
        os.close(errors)
        plain.become(spec, account, env, root, log, told, alone=keeper.alone)
    os.close(told)
    pid, trouble = _first_words(errors)
    if trouble:
        with suppress(ChildProcessError):
            os.waitpid(guard, 0)
        raise OSError(0, trouble)
    return Started(pid, guard, lambda: None)


def _first_words(errors: int) -> tuple[int, str]:
    """The process id that the guard tells, and what went wrong before the image's program began."""
    said = b""
    while piece := os.read(errors, 4096):
        said += piece
    os.close(errors)
    number, _, trouble = said.decode("utf-8", "replace").partition("\n")
    return (int(number), trouble) if number.isdigit() else (0, (number + trouble) or "the container did not start")


def _runc(keeper: Keeper, spec: RunSpec, account: Account, env: dict[str, str], root: str, log: int) -> Started:
    bundle = keeper.place("bundle")
    devices = "" if keeper.user else _make_devices(keeper)
    document = runc_document(spec, account, env, root, alone=keeper.alone, devices=devices)
    with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
        json.dump(document, file)
    state, pid_file, errors = keeper.place("runc"), f"{bundle}/pid", f"{bundle}/errors"
    name = f"sixsmith-{os.urandom(4).hex()}"
    command = ["runc", "--root", state, "--rootless", "true", "--log", errors, "--log-format", "json"]
    waitable = _spawn([*command, "run", "--bundle", bundle, "--pid-file", pid_file, name], log)
    pid = _wait_for_number(pid_file, waitable, lambda: _runc_errors(errors))
    return Started(pid, waitable, lambda: kernel.unmount(devices) if devices else None)


def _make_devices(keeper: Keeper) -> str:
    """A folder with the devices of one run's /dev: those of the host itself could be given another mode by the image."""
    folder = keeper.place("devices")
    kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=64k")
    for name in plain.DEVICES:
        os.mknod(f"{folder}/{name}", stat.S_IFCHR | 0o666, os.stat(f"/dev/{name}").st_rdev)
    return folder


def _runc_errors(path: str) -> str:
    """What runc logged as an error; its last word is the most precise."""
    messages = []
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(ValueError, KeyError):
                entry = json.loads(line)
                if entry["level"] in ("error", "fatal"):
                    messages.append(entry["msg"])
    return messages[-1] if messages else ""


def runc_document(
    spec: RunSpec, account: Account, env: dict[str, str], root: str, *, alone: bool = False, devices: str = ""
) -> dict[str, Any]:
    """The runtime configuration (runtime-spec 1.0) for a start, as Docker would write it but without control groups.

    `devices` is a folder with those of /dev. In a user namespace, where none can be made, runc finds them by itself.
    """
    capabilities = [f"CAP_{name}" for name in spec.capabilities]
    effective = capabilities if account.uid == 0 else []
    flags = ["nosuid", "noexec", "nodev"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] + ([] if alone else ["gid=5"])
    mounts = [
        _mount("/proc", "proc", flags),
        _mount("/dev", "tmpfs", ["nosuid", "nodev", "strictatime", "mode=755", "size=65536k"]),
        *(_bind(f"{devices}/{name}", f"/dev/{name}") for name in (plain.DEVICES if devices else ())),
        _mount("/dev/pts", "devpts", pts),
        _mount("/dev/shm", "tmpfs", [*flags, "mode=1777", "size=65536k"]),
        _mount("/dev/mqueue", "mqueue", flags),
        _mount("/sys", "sysfs", [*flags, "ro"]),
    ]
    if spec.read_only:
        mounts.append(_mount("/run", "tmpfs", ["nosuid", "nodev", "exec", "mode=755"]))
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": account.uid, "gid": account.gid, "additionalGids": [] if alone else list(account.groups)},
            "args": list(spec.arguments),
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": spec.workdir,
            "capabilities": {
                "bounding": capabilities,
                "effective": effective,
                "permitted": effective,
                "inheritable": [],
                "ambient": [],
            },
            "noNewPrivileges": spec.no_new_privileges,
        },
        "root": {"path": root, "readonly": spec.read_only},
        "hostname": spec.hostname,
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": [f"/proc/{name}" for name in ("acpi", "kcore", "keys", "timer_list", "scsi")],
            "readonlyPaths": [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")],
        },
    }


def _mount(target: str, kind: str, options: Sequence[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _bind(source: str, target: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": ["bind"]}


def _bwrap(keeper: Keeper, spec: RunSpec, account: Account, env: dict[str, str], root: str, log: int) -> Started:
    if account.uid != 0:
        raise OSError(0, "bwrap cannot start an image as another user; runc and namespaces can")
    told = f"{keeper.place('bundle')}/info"
    run = ["--perms", "0755", "--tmpfs", "/run", "--remount-ro", "/"] if spec.read_only else []
    capabilities = [word for name in spec.capabilities for word in ("--cap-add", f"CAP_{name}")]
    variables = [word for name, value in env.items() for word in ("--setenv", name, value)]
    command = ["bwrap", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev", *run]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--hostname", spec.hostname]
    command += ["--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL", *capabilities]
    command += ["--clearenv", *variables, "--chdir", spec.workdir]
    descriptor = os.open(told, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        waitable = _spawn([*command, "--info-fd", str(descriptor), "--", *spec.arguments], log, keep=descriptor)
    finally:
        os.close(descriptor)
    pid = _wait_for_number(told, waitable, lambda: "bwrap refused, see the log")
    await_program(pid, "/bwrap")
    return Started(pid, waitable, lambda: None)


def _podman(keeper: Keeper, spec: RunSpec, account: Account, env: dict[str, str], root: str, log: int) -> Started:
    pid_file = f"{keeper.place('bundle')}/pid"
    command = ["podman", "--root", keeper.place("podman"), "--runroot", keeper.place("podman-run")]
    command += ["--tmpdir", keeper.place("podman-tmp"), "--runtime", _which("runc"), "--cgroup-manager", "cgroupfs"]
    command += ["--events-backend", "none", "run", "--pidfile", pid_file, "--cgroup-parent", f"/{keeper.group}"]
    # systemd mode is guessed from a command called init, and is not meant (s6-overlay #158)
    command += ["--network", "none", "--systemd", "false", "--log-driver", "none", "--ulimit", "host"]
    command += ["--hostname", spec.hostname, "--workdir", spec.workdir, "--user", f"{account.uid}:{account.gid}"]
    command += [word for group in account.groups for word in ("--group-add", str(group))]
    command += [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
    command += ["--cap-drop", "all", *(word for name in spec.capabilities for word in ("--cap-add", name))]
    if spec.read_only:
        command += ["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/run:rw,exec,mode=755"]
    if spec.no_new_privileges:
        command += ["--security-opt", "no-new-privileges"]
    waitable = _spawn([*command, "--rootfs", root, *spec.arguments], log)
    pid = _wait_for_number(pid_file, waitable, lambda: "podman refused, see the log")
    await_program(pid, "/runc")
    return Started(pid, waitable, lambda: None)


def _spawn(command: Sequence[str], log: int, *, keep: int = -1) -> int:
    """Starts a runner's program with the log as its output; returns its process id. It dies with the keeper."""
    program = _which(command[0])
    pid = os.fork()
    if pid:
        return pid
    try:
        kernel.die_with_parent()
        kernel.signals_default()
        os.setsid()
        plain.connect_output(log)
        if keep >= 0:
            os.set_inheritable(keep, True)
        os.execve(program, list(command), {"PATH": _TOOL_PATH})
    finally:
        os._exit(127)


def _which(program: str) -> str:
    for folder in _TOOL_PATH.split(":"):
        if os.access(f"{folder}/{program}", os.X_OK):
            return f"{folder}/{program}"
    raise OSError(2, f"{program} is not installed")


def _wait_for_number(path: str, waitable: int, why: Callable[[], str]) -> int:
    """The process id that a runner writes into a file (a number, or bwrap's JSON) once the container runs."""
    deadline = time.monotonic() + 20
    while True:
        # looked at, not taken: how it ended is for the keeper
        ended = os.waitid(os.P_PID, waitable, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            text = file.read().strip()
            number = int(text) if text.isdigit() else int(json.loads(text)["child-pid"])
            if number:
                return number
        if not ended and time.monotonic() > deadline:
            os.kill(waitable, 9)
            ended = True
        if ended:
            os.waitpid(waitable, 0)
            raise OSError(0, why() or "the runner ended before the container ran")
        time.sleep(0.001)


def await_program(pid: int, runner: str) -> None:
    """Waits until a runner's process has become the image's: before that its root is still being made."""
    deadline = time.monotonic() + 5
    with suppress(OSError):
        while runner in os.readlink(f"/proc/{pid}/exe") and time.monotonic() < deadline:
            time.sleep(0.001)


_Starter = Callable[["Keeper", RunSpec, Account, dict[str, str], str, int], Started]
_STARTERS: dict[str, _Starter] = {"namespaces": _namespaces, "runc": _runc, "bwrap": _bwrap, "podman": _podman}
