"""The process that holds an image's files and its containers, so that nothing outlives sixsmith.

Two processes, started with one socket and one pipe:

- The *guard* waits until the pipe from sixsmith ends, for whatever reason, or the keeper does. It then lets the keeper put
  away what it started, for a moment, and kills it.
- The *keeper* is the first process of a process namespace of its own, in a mount namespace of its own, and in a user
  namespace of its own unless it is root's and somebody wants real root. The image lies in a memory file system that only
  this mount namespace knows. When the keeper dies, the kernel ends all processes in it, and with them mounts and files.
  For Docker it stays where it is, because the daemon has the image and the containers (`docker`).

Control groups are shown read-only, so that no runtime makes any; those that Podman cannot do without are in one group of
ours, which the guard removes at the end.
"""

# Names here are of another root, and `os` says exactly which system call is made:
# ruff: noqa: PTH102, PTH103, PTH112, PTH123, PTH106, PTH208

from __future__ import annotations

import codecs
import gc
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# All of it at once: in a user namespace, Python's own files may be out of reach (a home folder of mode 0700).
from sixsmith.boot import agent, starters
from sixsmith.boot.channel import Channel
from sixsmith.boot.marks import is_abandoned
from sixsmith.boot.spec import RunSpec
from sixsmith.boot.unpack import merge_layers
from sixsmith.errors import OutsideError, VerificationError
from sixsmith.io import kernel
from sixsmith.io.disk import write_tree

if TYPE_CHECKING:
    from sixsmith.boot.docker import DockerHouse
    from sixsmith.rootfs.tree import Tree

__all__ = ["main"]

_STAGES = ("/mnt", "/media", "/srv", "/opt", "/var/tmp", "/tmp")
_PUTTING_AWAY = 5.0
"""Seconds that the keeper has to put away what it started, when sixsmith is gone."""


def main(link: int, life: int) -> int:
    """Serves one sixsmith through the socket `link`; ends when `life`, the pipe from it, does."""
    for descriptor in (link, life):
        os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=link))
    first = channel.receive()
    if first is None:
        return 1
    begin, _ = first
    for name in ("ascii", "latin-1", "utf-8", "idna"):
        codecs.lookup(name)
    if begin["zstd"]:
        import_module("zstandard")
    gc.disable()  # most of what is made here lives as long as the keeper, which is not long
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's ^C is for sixsmith, which puts away in order
    if begin["group"]:
        _remove_abandoned_groups()
    try:
        _leave(begin, channel)
        keeper = os.fork()
    except OSError as error:
        channel.send({"trouble": f"{error.filename or 'namespaces'}: {error.strerror}"})
        return 1
    if keeper == 0:
        os._exit(_keep(begin, channel, life))
    channel.close()
    # the interpreter is not taken apart: somebody waits for this end
    os._exit(_guard(keeper, life, begin["group"]))


def _leave(begin: dict[str, Any], channel: Channel) -> None:
    """Leaves the namespaces that are asked for, and becomes root in the user namespace."""
    if begin["user"]:
        kernel.unshare(kernel.NEWUSER)
        channel.send({"stage": "map", "pid": os.getpid()})
        if channel.receive() is None:
            raise OSError(0, "sixsmith is gone")
        if not begin["alone"]:
            os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    if begin["isolate"]:
        kernel.unshare(kernel.NEWNS | kernel.NEWPID | kernel.NEWIPC | kernel.NEWUTS)


def _guard(keeper: int, life: int, group: str) -> int:
    watch = os.pidfd_open(keeper)
    waiting = select.poll()
    waiting.register(watch, select.POLLIN)
    waiting.register(life, 0)
    waiting.poll()
    waiting.unregister(life)
    if not waiting.poll(_PUTTING_AWAY * 1000):
        with suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)
    if group:
        _remove_groups(group)
    return 0


def _remove_groups(group: str) -> None:
    """Removes a control group, and what is below it, from every hierarchy."""
    for place in [f"/sys/fs/cgroup/{group}", *(f"{one.path}/{group}" for one in os.scandir("/sys/fs/cgroup"))]:
        for folder, _, _ in os.walk(place, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)


def _remove_abandoned_groups() -> None:
    """Removes the control groups of those whose guard was killed, too. Their names have a mark (`marks`), and a number."""
    for place in ("/sys/fs/cgroup", *(one.path for one in os.scandir("/sys/fs/cgroup") if one.is_dir())):
        for group in os.listdir(place):
            mark = group.removeprefix("sixsmith-").rpartition("-")[0]
            if group.startswith("sixsmith-") and is_abandoned(mark):
                _remove_groups(group)


def _keep(begin: dict[str, Any], channel: Channel, life: int) -> int:
    try:
        kernel.die_with_parent()
        os.close(life)
        os.umask(0)
        keeper = Keeper(begin, channel)
    except OSError as error:
        channel.send({"trouble": f"{error.filename or 'the stage'}: {error.strerror}"})
        return 1
    channel.send({"stage": "ready"})
    try:
        keeper.serve()
    finally:
        keeper.end_container()
        if keeper.docker is not None:
            keeper.docker.leave()
    return 0


class Keeper:
    """One image, unpacked once, and one container at a time."""

    def __init__(self, begin: dict[str, Any], channel: Channel) -> None:
        self.channel = channel
        self.isolated: bool = begin["isolate"]
        self.alone: bool = begin["alone"]
        self.user: bool = begin["user"]
        self.group: str = begin["group"]
        self.docker: DockerHouse | None = _docker_house(begin["daemon"]) if begin["daemon"] else None
        self.tree: Tree | None = None
        self.started: starters.Started | None = None
        self.runs = 0
        self._status: int | None = None
        # Not a pidfd: the kernel sometimes does not wake who polls that of a program with threads, such as runc.
        self._children, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._opens: tuple[int, dict[int, str]] | None = None
        self.stage = _settle(begin) if self.isolated else ""

    # --- the loop

    def serve(self) -> None:
        """Answers until the other side is gone."""
        waiting = select.poll()
        waiting.register(self.channel.fileno(), select.POLLIN)
        waiting.register(self._children, select.POLLIN)
        while True:
            ready = dict(waiting.poll())
            if self._children in ready:
                os.read(self._children, 4096)
                self._reap()
            if self.channel.fileno() in ready:
                request = self.channel.receive()
                if request is None:
                    return
                self._answer(*request)

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> None:
        try:
            answer = getattr(self, f"_on_{request['do']}")(request, descriptors)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            answer = {"trouble": f"{where}{error.strerror or error}"}
        except VerificationError as error:
            answer = {"trouble": error.message, "hint": error.hint, "kind": type(error).__name__}
        except OutsideError as error:
            answer = {"trouble": error.message, "hint": error.hint}
        except Exception as error:  # whatever it is, sixsmith has to hear of it, or it waits for ever
            answer = {"trouble": f"{type(error).__name__}: {error}"}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self.channel.send({"answer": request["do"], **answer})

    def _reap(self) -> None:
        """Takes note of every child that ended; as the first process of its namespace the keeper gets all orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.started is not None and pid == self.started.waitable:
                self._tell_end(status)

    # --- requests

    def _on_unpack(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        begun = time.monotonic()
        layers = list(zip(request["layers"], descriptors[: len(request["layers"])], strict=True))
        self.tree, sources = merge_layers(layers)
        left_out: tuple[str, ...] = ()
        if self.docker is not None:
            # what is looked up later comes from the layers, which stay in memory: on disk is only what the daemon makes
            with os.fdopen(os.dup(descriptors[-1]), "rb") as file:
                self.docker.load(file.read(), sources)
        else:
            for path in [node.path for node in self.tree if node.kind in ("char", "block")]:
                del self.tree.nodes[path]  # devices are for runners to give, not for images to bring
            left_out = write_tree(self.tree, Path(self.image), owners=not self.alone)
            for source in sources:
                source.forget()
        return {
            "files": len(self.tree),
            "left_out": [path for path in left_out if not path.startswith("dev/")][:20],
            "ms": round((time.monotonic() - begun) * 1000),
        }

    def _on_start(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        self.end_container()
        self.runs += 1
        spec = RunSpec.from_document(request["spec"])
        self.started = starters.start(request["runner"], self, spec, descriptors[0])
        self._reap()  # it may have ended already, before it was known whose end that is
        return {"pid": self.started.pid, "at": time.monotonic(), "notes": list(self.started.notes)}

    def _on_attach(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        if self.started is None:
            return {"trouble": "no container is running"}
        agent.attach(self.started.pid, descriptors[0], {self.channel.fileno()})
        return {}

    def _on_signal(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        if self.started is None:
            return {"trouble": "no container is running"}
        at = time.monotonic()
        if self.started.signal is not None:
            self.started.signal(request["signal"])
        else:
            os.kill(self.started.pid, request["signal"])
        return {"at": at}

    def _on_watch(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        self._forget_opens()
        if self.started is None:
            return {"trouble": "no container is running"}
        root = f"/proc/{self.started.pid}/root"
        self._opens = kernel.watch_opens([root + path for path in request["paths"]])
        return {"watching": [path.removeprefix(root) for path in self._opens[1].values()]}

    def _on_watched(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        if self._opens is None:
            return {"opened": []}
        opened = kernel.watched_names(*self._opens)
        self._forget_opens()
        return {"opened": [path.partition("/root")[2] for path in opened]}

    def _on_end(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        self.end_container()
        return {}

    def _on_read(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Part of the unpacked image, before anything has run."""
        assert self.tree is not None
        return {"found": {path: self.read_image(path) for path in request["paths"]}}

    def _on_list(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Names, kinds and modes of what is in folders of the unpacked image."""
        assert self.tree is not None
        found: dict[str, dict[str, list[Any]]] = {}
        for folder in request["folders"]:
            place = self.tree.resolve(folder.strip("/"))
            prefix = place + "/" if place else ""
            found[folder] = {
                node.path.removeprefix(prefix): [node.kind, node.mode, node.uid, node.gid, node.target]
                for node in self.tree
                if node.path.startswith(prefix) and node.path and "/" not in node.path.removeprefix(prefix)
            }
        return {"found": found}

    # --- the container's end

    def _tell_end(self, status: int) -> None:
        assert self.started is not None
        self._status = status
        code = os.waitstatus_to_exitcode(status)
        self.channel.send({"ended": code if code >= 0 else 128 - code, "at": time.monotonic()})

    def end_container(self) -> None:
        """Kills what is left of the container, and takes its mounts away."""
        started = self.started
        if started is None:
            return
        if self._status is None:
            if started.kill is not None:
                started.kill()
            for pid in (started.pid, started.waitable) if started.kill is None else ():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.started = None  # nobody waits for this end
            deadline = time.monotonic() + 3
            while _is_child(started.waitable) and time.monotonic() < deadline:
                time.sleep(0.002)
        self.started, self._status = None, None
        self._reap()
        started.put_away()

    def _forget_opens(self) -> None:
        if self._opens is not None:
            os.close(self._opens[0])
            self._opens = None

    # --- places

    def read_image(self, path: str, limit: int = 16384) -> str | None:
        """The beginning of a file of the unpacked image, links followed inside it; None where there is no such file."""
        assert self.tree is not None
        node = self.tree.find(path.strip("/"))
        if node is None or node.kind != "file":
            return None
        if self.docker is not None:
            return node.content.read()[:limit].decode("utf-8", "replace") if node.content is not None else ""
        try:
            with open(os.open(f"{self.image}/{node.path}", os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                return file.read(limit).decode("utf-8", "replace")
        except OSError:
            return None

    @property
    def image(self) -> str:
        """Where the unpacked image is; it is never written to."""
        return f"{self.stage}/image"

    def place(self, name: str) -> str:
        """A folder for the current run."""
        path = f"{self.stage}/run-{self.runs}/{name}"
        os.makedirs(path, 0o755, exist_ok=True)
        return path


def _docker_house(path: str) -> DockerHouse:
    from sixsmith.boot.docker import DockerHouse

    return DockerHouse(path)


def _is_child(pid: int) -> bool:
    """Whether a child of ours still runs; one that has ended is taken note of."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def _settle(begin: dict[str, Any]) -> str:
    """Makes the keeper's own view: its processes, a memory file system, no control groups. Returns the folder of it."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    stage = next((path for path in _STAGES if os.path.isdir(path)), None)
    if stage is None:
        raise OSError(2, "no folder to mount over", "/mnt")
    kernel.mount("tmpfs", stage, "tmpfs", kernel.MS_NODEV, "mode=755,nr_inodes=0,size=90%")
    if begin["group"]:
        kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NODEV | kernel.MS_NOSUID, "mode=1777")  # Podman's locks
    else:
        _freeze_control_groups()
    if begin["emulator"]:
        _register(begin["emulator"], f"{stage}/binfmt")
    with suppress(OSError):
        socket.sethostname("sixsmith")
    os.chdir("/")
    return stage


def _freeze_control_groups() -> None:
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        mounts = [line.split(" ")[1] for line in file]
    for path in mounts:
        if path.startswith("/sys/fs/cgroup"):
            with suppress(OSError):  # in a user namespace they cannot be changed, and not be written either
                kernel.mount("none", path, "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)


def _register(line: str, place: str) -> None:
    os.mkdir(place, 0o755)
    try:
        kernel.mount("binfmt_misc", place, "binfmt_misc")
    except OSError as error:
        raise OSError(
            error.errno, "this kernel has no emulation of one's own in user namespaces (Linux 6.7 has)", "binfmt_misc"
        ) from None
    with open(f"{place}/register", "wb", buffering=0) as file:
        file.write(line.encode())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
