"""The keeper's side of Docker: the daemon makes the container, and everything of it bears the keeper's mark.

A container of Docker's is no child of ours, so a *watcher* is: a process that copies what the container writes into the log,
and ends as the container does. What is left behind when a keeper is killed too is removed by the next boot: each mark says
which process it belongs to.
"""

# `os` says exactly which system call is made, and paths are those of /proc:
# ruff: noqa: PTH115

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from sixsmith.boot.marks import is_abandoned, mark_of
from sixsmith.boot.starters import Account, Started, await_program
from sixsmith.errors import OutsideError, SixsmithError
from sixsmith.io import kernel
from sixsmith.io.daemon import Daemon, frames
from sixsmith.model.digest import digest_of
from sixsmith.model.tar import END_OF_ARCHIVE, TarEntry, padding, tar_header

if TYPE_CHECKING:
    from sixsmith.boot.spec import RunSpec
    from sixsmith.boot.unpack import LayerFile

__all__ = ["DockerHouse", "create_document"]

REPOSITORY = "sixsmith-boot"
LABEL = "sixsmith.keeper"
_GOING = 10.0
"""Seconds that the daemon may take to remove a container."""


class DockerHouse:
    """One image in a daemon, under a name of this process's own, and the containers of it."""

    def __init__(self, path: str) -> None:
        self.daemon = Daemon(path)
        self.mark = mark_of(os.getpid())
        self.image = f"{REPOSITORY}:{self.mark}"
        self._runs = 0
        self._containers: list[str] = []

    def load(self, config: bytes, layers: Sequence[LayerFile]) -> None:
        """Hands the image to the daemon, after removing what keepers that were killed left there. Raises OutsideError."""
        self._remove_abandoned()
        self.daemon.load(_archive(config, layers, self.image))

    def start(self, spec: RunSpec, account: Account, env: dict[str, str], log: int) -> Started:
        """Starts a container. Raises OSError with what the daemon says."""
        self._runs += 1
        document = create_document(spec, account, env, image=self.image, mark=self.mark)
        name = f"{REPOSITORY}-{self.mark}-{self._runs}"
        watcher = 0
        try:
            identity = self.daemon.ask("POST", "/containers/create", document, query={"name": name})["Id"]
            self._containers.append(identity)
            watcher = self._watch(identity, log)
            self.daemon.ask("POST", f"/containers/{identity}/start")
            pid = self._first_process(identity, watcher)
        except (OutsideError, OSError) as error:
            self._end(watcher)
            raise OSError(0, getattr(error, "message", None) or str(error)) from None

        def send(number: int) -> None:
            with suppress(OutsideError):
                self.daemon.ask("POST", f"/containers/{identity}/kill", query={"signal": str(number)}, fine=(404, 409))

        return Started(pid, watcher, self._remove_containers, signal=send, kill=lambda: self._end(watcher))

    def leave(self) -> None:
        """Removes what this process brought into the daemon."""
        self._remove_containers()
        with suppress(OutsideError):
            self._remove_image(self.image)

    # --- the container's first process

    def _first_process(self, identity: str, watcher: int) -> int:
        """Its process id here; the watcher's own when the container has ended already. Raises OSError."""
        state = (self.daemon.ask("GET", f"/containers/{identity}/json", fine=(404,)) or {}).get("State", {})
        pid = int(state.get("Pid") or 0)
        if not pid:
            os.waitid(os.P_PID, watcher, os.WEXITED | os.WNOWAIT)
            return watcher
        with suppress(FileNotFoundError):  # ended meanwhile, which the watcher will tell
            if os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid"):
                raise OSError(0, "the Docker daemon's processes are not to be seen here: it runs in another container")
            await_program(pid, "runc")
        return pid

    def _watch(self, identity: str, log: int) -> int:
        """Starts the watcher of a container that is about to start; returns once it listens. Raises OSError."""
        listening, tell = os.pipe2(os.O_CLOEXEC)
        watcher = os.fork()
        if watcher == 0:
            os.close(listening)
            _be_watcher(self.daemon, identity, log, tell)
        os.close(tell)
        said = os.read(listening, 4096)
        os.close(listening)
        if said != b"listening":
            raise OSError(0, said.decode("utf-8", "replace") or "docker does not tell how its container fares")
        return watcher

    # --- removing

    def _end(self, watcher: int) -> None:
        self._remove_containers()
        if watcher:
            with suppress(ProcessLookupError):
                os.kill(watcher, 9)

    def _remove_containers(self) -> None:
        while self._containers:
            with suppress(OutsideError):
                self._remove_container(self._containers.pop())

    def _remove_container(self, identity: str) -> None:
        """Kills and removes a container, and waits until it is gone: before that its image cannot go."""
        deadline = time.monotonic() + _GOING
        while time.monotonic() < deadline:
            self.daemon.ask("DELETE", f"/containers/{identity}", query={"force": "1", "v": "1"}, fine=(404, 409))
            if self.daemon.ask("GET", f"/containers/{identity}/json", fine=(404,)) is None:
                return
            time.sleep(0.01)

    def _remove_image(self, image: str) -> None:
        self.daemon.ask("DELETE", f"/images/{image}", query={"force": "1"}, fine=(404, 409))

    def _remove_abandoned(self) -> None:
        """Removes containers and images of keepers that are no more."""
        labelled = json.dumps({"label": [LABEL]})
        for container in self.daemon.ask("GET", "/containers/json", query={"all": "1", "filters": labelled}) or ():
            if is_abandoned(container["Labels"][LABEL]):
                self._remove_container(container["Id"])
        named = json.dumps({"reference": [REPOSITORY]})
        for image in self.daemon.ask("GET", "/images/json", query={"filters": named}) or ():
            for tag in image.get("RepoTags") or ():
                repository, _, mark = tag.rpartition(":")
                if repository == REPOSITORY and is_abandoned(mark):
                    self._remove_image(tag)


def create_document(spec: RunSpec, account: Account, env: dict[str, str], *, image: str, mark: str) -> dict[str, Any]:
    """What the daemon is asked for: as `docker run --rm --network none` with the spec's terms."""
    host: dict[str, Any] = {
        "AutoRemove": True,
        "NetworkMode": "none",
        "Init": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.capabilities),
        "GroupAdd": [str(group) for group in account.groups],
        "LogConfig": {"Type": "none"},
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": ["no-new-privileges"] if spec.no_new_privileges else [],
    }
    if spec.read_only:
        host["Tmpfs"] = {"/run": "rw,exec,mode=755"}
    return {
        "Image": image,
        "Labels": {LABEL: mark},
        "Entrypoint": [spec.arguments[0]],
        "Cmd": list(spec.arguments[1:]),
        "Env": [f"{name}={value}" for name, value in env.items()],
        "WorkingDir": spec.workdir,
        "User": f"{account.uid}:{account.gid}",
        "Hostname": spec.hostname,
        "Volumes": {volume: {} for volume in spec.volumes},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def _archive(config: bytes, layers: Sequence[LayerFile], name: str) -> Iterator[bytes | memoryview]:
    """The image as `docker save` would write it."""
    tars = [layer.inflate() for layer in layers]
    names = [f"{digest_of(tar).partition(':')[2]}.tar" for tar in tars]
    settings = f"{digest_of(config).partition(':')[2]}.json"
    listing = json.dumps([{"Config": settings, "RepoTags": [name], "Layers": names}]).encode()
    members = {"manifest.json": listing, settings: config, **dict(zip(names, tars, strict=True))}
    for path, content in members.items():
        yield tar_header(TarEntry(path, "file", 0o644, 0, 0, 0, len(content)))
        yield memoryview(content)
        yield padding(len(content))
    yield END_OF_ARCHIVE


def _be_watcher(daemon: Daemon, identity: str, log: int, tell: int) -> NoReturn:
    code = 125
    try:
        kernel.die_with_parent()
        kernel.signals_default()
        try:
            both = {"stream": "1", "stdout": "1", "stderr": "1"}
            stream = daemon.open("POST", f"/containers/{identity}/attach", query=both, patient=True)
            until = {"condition": "next-exit"}
            end = daemon.open("POST", f"/containers/{identity}/wait", query=until, patient=True)
        except SixsmithError as error:
            os.write(tell, error.message.encode())
            os._exit(code)
        os.write(tell, b"listening")
        os.close(tell)
        for piece in frames(stream):
            os.write(log, piece)
        code = int(json.loads(end.read())["StatusCode"])
    finally:
        os._exit(code)
