"""The process that holds an image's files in memory and runs scripts on them, away from everything else.

It is started by the runner with two pipes. It leaves all namespaces, waits until its user ids are mapped, mounts a
memory file system over a folder of its own view, and then does what it is told until the pipe ends.
"""


# Names here are of another root, and `os` says exactly which system call is made:
# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH112, PTH123, PTH211

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from sixsmith.sandbox import kernel
from sixsmith.sandbox.disk import Disk
from sixsmith.sandbox.protocol import Outcome, Ready, Start, Work, receive, send

__all__ = ["main"]

_STAGES = ("/mnt", "/media", "/srv", "/opt", "/var/tmp", "/tmp")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_OUTPUT = 1 << 20
_CAPABILITIES = (16, 17, 19, 21, 22, 25, 34, 38, 39)
"""Not for scripts: sys_module, sys_rawio, sys_ptrace, sys_admin, sys_boot, sys_time, syslog, perfmon, bpf."""
_EXEC = "lib/apk/exec"


def main(source: int, sink: int) -> int:
    """Serves one runner; returns when its pipe ends."""
    start = receive(source)
    if not isinstance(start, Start):
        return 1
    try:
        kernel.unshare(kernel.NEWUSER | kernel.NEWNS | kernel.NEWNET | kernel.NEWIPC | kernel.NEWUTS)
    except OSError as error:
        send(sink, Ready("", f"this system makes no user namespaces ({error.strerror})"))
        return 1
    send(sink, Ready("map"))
    if not isinstance(receive(source), Ready):
        return 1
    try:
        root = _settle(start)
    except OSError as error:
        send(sink, Ready("", f"{error.filename}: {error.strerror}"))
        return 1
    send(sink, Ready())
    disk = Disk(root)
    while isinstance(work := receive(source), Work):
        try:
            outcome = _do(work, disk, source)
        except OSError as error:
            outcome = Outcome(trouble=f"{_inside(error.filename, root)}: {error.strerror}")
        try:
            send(sink, outcome)
        except BrokenPipeError:
            break
    return 0


def _inside(path: object, root: str) -> str:
    text = path if isinstance(path, str) else "the sandbox"
    return text.removeprefix(root) or "/"


def _settle(start: Start) -> str:
    """Becomes root of the namespace and makes the place for the image's files; returns its path."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.undumpable()
    with suppress(OSError):
        socket.sethostname("localhost")
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    stage = next((path for path in _STAGES if os.path.isdir(path)), None)
    if stage is None:
        raise OSError(2, "no folder to mount over", "/mnt")
    size = f",size={start.limit}" if start.limit else ",size=90%"
    kernel.mount("tmpfs", stage, "tmpfs", kernel.MS_NODEV, f"mode=755,nr_inodes=0{size}")
    os.umask(0)
    os.mkdir(f"{stage}/dev", 0o755)
    for name in _DEVICES:
        place = f"{stage}/dev/{name}"
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        kernel.mount(f"/dev/{name}", place, "", kernel.MS_BIND)
    for name in ("image", "proc"):
        os.mkdir(f"{stage}/{name}", 0o755)
    # The kernel mounts a new /proc only where one can be seen whole already (mount_namespaces(7)); scripts see theirs.
    kernel.mount("/proc", f"{stage}/proc", "", kernel.MS_BIND | kernel.MS_REC)
    if start.emulator:
        _register(start, f"{stage}/binfmt")
    # From here on there is nothing else to be seen, wherever links in the image may point.
    os.chdir(stage)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    return "/image"


def _register(start: Start, place: str) -> None:
    """Lets the kernel start foreign programs with qemu in this user namespace; the host's registrations are its own.

    The registration lasts as long as the mount.
    """
    os.mkdir(place, 0o755)
    kernel.mount("binfmt_misc", place, "binfmt_misc")
    magic = "".join(f"\\x{byte:02x}" for byte in start.magic)
    mask = "".join(f"\\x{byte:02x}" for byte in start.mask)
    # F: the interpreter is opened now, so that it need not exist in the image.
    # Bytes, not text: Python's own files may be out of reach by now, and so are codecs that were not needed before.
    with open(f"{place}/register", "wb", buffering=0) as file:
        file.write(f":sixsmith:M::{magic}:{mask}:{start.emulator}:F".encode())


# --- scripts --------------------------------------------------------------------------------------------------------


def _do(work: Work, disk: Disk, source: int) -> Outcome:
    disk.apply(work.removed, work.entries)
    disk.remember()
    if not work.name:
        return Outcome()
    made = _make_places(disk)
    script = disk.at(f"{_EXEC}/{work.name}")
    with open(script, "wb") as file:
        file.write(work.script)
    os.chmod(script, 0o755)
    begun = time.time() - 1
    outcome = _run(work, disk.root, source)
    with suppress(FileNotFoundError):
        os.unlink(script)
    for path in reversed(made):
        with suppress(OSError):
            os.rmdir(disk.at(path))
    if not outcome.trouble:
        outcome.changed, outcome.removed = disk.changes(begun)
    return outcome


def _make_places(disk: Disk) -> list[str]:
    """Folders that a running script needs; returns those that were not there."""
    made = []
    for path in ("dev", "proc", "lib", "lib/apk", _EXEC):
        full = disk.at(path)
        if not os.path.isdir(full):
            os.mkdir(full, 0o755)
            made.append(path)
    return made


def _run(work: Work, root: str, source: int) -> Outcome:
    """Runs the script in namespaces of its own; ends it when time is up or the runner is gone."""
    output = os.memfd_create("output")
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _guard(work, root, output)
    watch = os.pidfd_open(child)
    waiting = select.poll()
    waiting.register(watch, select.POLLIN)
    waiting.register(source, 0)
    timed_out = False
    while True:
        left = work.seconds - (time.monotonic() - begun)
        ready = dict(waiting.poll(max(0.0, left) * 1000))
        if watch in ready:
            break
        timed_out = not ready
        os.kill(child, signal.SIGKILL)
        if source in ready:
            waiting.unregister(source)
    _, status = os.waitpid(child, 0)
    os.close(watch)
    said = os.pread(output, _OUTPUT, 0)
    os.close(output)
    return Outcome(os.waitstatus_to_exitcode(status), said, timed_out)


def _guard(work: Work, root: str, output: int) -> None:
    """The process between keeper and script: its only child is the first process of a new process namespace."""
    status = 127
    try:
        kernel.die_with_parent()
        kernel.unshare(kernel.NEWNS | kernel.NEWPID)
        child = os.fork()
        if child == 0:
            _become(work, root, output)
        _, ended = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(ended)
        status = code if code >= 0 else 128 - code
    except OSError as error:
        os.write(output, f"sandbox: {error}\n".encode())
    finally:
        os._exit(status)


def _become(work: Work, root: str, output: int) -> None:
    """Turns into the script, as apk starts it. Never returns."""
    try:
        kernel.die_with_parent()
        _enter(root)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 4096)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        kernel.forbid_new_privileges()
        kernel.drop_capabilities(_CAPABILITIES)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "SOURCE_DATE_EPOCH": str(work.epoch),
        }
        name = f"{_EXEC}/{work.name}"
        os.execve(name, [name, *work.arguments], environment)
    except OSError as error:
        os.write(2, f"{error.strerror}: {error.filename or work.name}\n".encode())
    finally:
        os._exit(127)


def _enter(root: str) -> None:
    """Makes the image the root of everything this process can see."""
    kernel.mount(root, root, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("tmpfs", f"{root}/dev", "tmpfs", kernel.MS_NOSUID, "mode=755,size=1m")
    for name in _DEVICES:
        place = f"{root}/dev/{name}"
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        kernel.mount(f"/dev/{name}", place, "", kernel.MS_BIND)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    with suppress(OSError):
        # Refused where the system hides parts of its own /proc, as many containers do; few scripts look there.
        kernel.mount("proc", f"{root}/proc", "proc", flags)
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")


if __name__ == "__main__":
    sys.exit(main(0, 1))
