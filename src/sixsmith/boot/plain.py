"""A container made by system calls alone: what a runtime does between fork and exec.

Sources: runtime-spec `config-linux.md` (default file systems and devices), pid_namespaces(7), pivot_root(2).
"""

# Names here are of another root, and `os` says exactly which system call is made:
# ruff: noqa: PTH102, PTH211

from __future__ import annotations

import os
import resource
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from sixsmith.boot.spec import RunSpec
from sixsmith.io import kernel

if TYPE_CHECKING:
    from sixsmith.boot.starters import Account

__all__ = ["DEVICES", "become", "connect_output"]

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_STILL = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


def become(
    spec: RunSpec, account: Account, env: dict[str, str], root: str, log: int, told: int, *, alone: bool
) -> NoReturn:
    """Turns a fresh child of the keeper into the guard of a container; its only child becomes the image's program.

    Writes the child's process id into `told`, then what went wrong; an exec closes it. The guard ends as the child does,
    128 and the signal for a killed one.
    """
    status = 127
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        kernel.die_with_parent()
        kernel.unshare(kernel.NEWNS | kernel.NEWPID | kernel.NEWNET | kernel.NEWIPC | kernel.NEWUTS)
        child = os.fork()
        if child == 0:
            _enter(spec, account, env, root, log, told, alone)
        os.write(told, b"%d\n" % child)
        os.close(told)
        os.closerange(3, 1024)
        _, ended = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(ended)
        status = code if code >= 0 else 128 - code
    except OSError as error:
        with suppress(OSError):
            os.write(told, f"namespaces: {error.strerror} ({error.filename})".encode())
    finally:
        os._exit(status)


def _enter(
    spec: RunSpec, account: Account, env: dict[str, str], root: str, log: int, told: int, alone: bool
) -> NoReturn:
    status = 127
    try:
        kernel.die_with_parent()
        os.setsid()
        with suppress(OSError):
            socket.sethostname(spec.hostname)
        with suppress(OSError):
            kernel.loopback_up()
        _mount_all(root, spec, alone)
        connect_output(log)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o022)
        kernel.drop_bounding(frozenset(spec.capabilities))
        if not alone:
            os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        kernel.die_with_parent()  # the kernel forgot it when the user changed
        os.chdir(spec.workdir)
        if spec.no_new_privileges:
            kernel.forbid_new_privileges()
        kernel.signals_default()
        program = _find(spec.arguments[0], env.get("PATH", ""))
        os.execve(program, list(spec.arguments), env)
    except OSError as error:
        status = 127 if isinstance(error, FileNotFoundError) else 126
        with suppress(OSError):
            os.write(told, f"{error.filename or spec.arguments[0]}: {error.strerror}".encode())
    except (ValueError, OverflowError) as error:  # what no system call takes: a zero byte, a number that is too large
        with suppress(OSError):
            os.write(told, f"{spec.arguments[0]}: {error}".encode())
    finally:
        os._exit(status)


def _find(name: str, path: str) -> str:
    if "/" in name:
        return name
    for folder in path.split(":"):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise FileNotFoundError(2, "no such program in the image's PATH", name)


def _mount_all(root: str, spec: RunSpec, alone: bool) -> None:
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(root, root, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("proc", f"{root}/proc", "proc", _STILL)
    with suppress(OSError):
        kernel.mount("sysfs", f"{root}/sys", "sysfs", _STILL | kernel.MS_RDONLY)
    _mount_devices(f"{root}/dev", alone)
    if spec.read_only:
        kernel.mount("tmpfs", f"{root}/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    if spec.read_only:
        kernel.mount("none", "/", "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)


def _mount_devices(dev: str, alone: bool) -> None:
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755,size=65536k")
    for name in DEVICES:
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        kernel.mount(f"/dev/{name}", f"{dev}/{name}", "", kernel.MS_BIND)
    for name, target in _LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{dev}/{name}", 0o755)
    group = "" if alone else ",gid=5"
    with suppress(OSError):
        kernel.mount(
            "devpts",
            f"{dev}/pts",
            "devpts",
            kernel.MS_NOSUID | kernel.MS_NOEXEC,
            f"newinstance,ptmxmode=0666,mode=620{group}",
        )
    kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", _STILL, "mode=1777,size=65536k")
    with suppress(OSError):
        kernel.mount("mqueue", f"{dev}/mqueue", "mqueue", _STILL)


def connect_output(log: int) -> None:
    """Standard input from nothing, both outputs into the log, nothing else open but what execs close."""
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if null > 2:
        os.close(null)
