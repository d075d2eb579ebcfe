"""What s6 says about a running container: which services there are, which are up, which are ready.

State is read from s6's own files where their format is simple (`supervise/status`), and asked from s6's own programs where
it is not (the compiled database of s6-rc). v1 and v2 of the overlay have a scan directory only; v3 has s6-rc above it.
Sources: s6 `s6_svstatus_pack` (35 bytes, 43 since 2.11.1), s6-rc-db(1), s6-overlay's `init-stage2` and `rc.init`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sixsmith.boot.container import Container, Machine

__all__ = ["Layout", "Process", "Service", "Supervision", "find_layout", "parse_status"]

_INTERNAL = re.compile(r"s6rc-|s6-linux-init-|s6-fdholderd$|s6-svscan-log$|\.s6-svscan$")
_SCAFFOLD = frozenset(["fix-attrs", "legacy-cont-init", "legacy-services", "s6rc-fdholder", "s6rc-oneshot-runner"])
_FINISHING, _READY, _READY_BEFORE_V3 = 1 << 1, 1 << 3, 1 << 4
_SETUP = frozenset(["s6-rc", "s6-rc-compile", "s6-rc-init", "preinit", "s6-linux-init", "s6-overlay-suexec"])


@dataclass(frozen=True, slots=True)
class Layout:
    """Which overlay an image has: `major` 0 for none; `version` where the tree tells it."""

    major: int
    version: str = ""
    preinit: bool = False
    """Whether the release of v2 has the suid program with which an ordinary user can start it."""

    @property
    def scandir(self) -> str:
        return "/run/service" if self.major == 3 else "/var/run/s6/services"

    @property
    def supervised(self) -> bool:
        return self.major > 0


def find_layout(machine: Machine) -> Layout:
    """Looks into the unpacked image."""
    folders = ["/package/admin", "/etc/s6/init", "/etc/s6-overlay", "/bin", "/"]
    found = machine.list(folders)
    for name in found["/package/admin"]:
        match = re.fullmatch(r"s6-overlay-(\d.*)", name)
        if match:
            return Layout(3, match[1])
    if "init-stage2" in found["/etc/s6/init"]:
        preinit = found["/bin"].get("s6-overlay-preinit")
        return Layout(2 if preinit else 1, "", bool(preinit and preinit[1] & 0o4000))
    if found["/etc/s6-overlay"] and "init" in found["/"]:
        return Layout(3)
    return Layout(0)


@dataclass(frozen=True, slots=True)
class Service:
    """A service as it is now. `ready` is None where the service cannot say so; `pid` 0 while it is down."""

    name: str
    kind: str
    up: bool
    ready: bool | None = None
    pid: int = 0

    @property
    def good(self) -> bool:
        return self.up and self.ready is not False

    def document(self) -> dict[str, Any]:
        return {"up": self.up, "ready": self.ready, "pid": self.pid or None, "type": self.kind}


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the container; `memory` is its proportional share, in bytes, where that was asked for."""

    pid: int
    parent: int
    state: str
    name: str
    words: tuple[str, ...]
    uid: int
    memory: int = 0


def parse_status(raw: bytes, *, old: bool = False) -> tuple[int, bool, bool] | None:
    """Process id, whether it is up, whether it is ready, of a `supervise/status` file; None for an unknown format.

    `old`: as s6 wrote it when it had one flag more, in v1 and v2 of the overlay. The size does not tell.
    """
    if len(raw) not in (35, 43):
        return None
    pid = int.from_bytes(raw[24:32], "big")
    flags = raw[-1]
    ready = flags & (_READY_BEFORE_V3 if old else _READY)
    return pid, pid != 0 and not flags & _FINISHING, bool(ready)


class Supervision:
    """A container's services, as far as they can be seen from inside."""

    def __init__(self, container: Container, layout: Layout, expected: frozenset[str] = frozenset()) -> None:
        self.container = container
        self.layout = layout
        self.expected = expected  # services of v1 and v2 that the image has on disk
        self.oneshots: tuple[str, ...] = ()
        self.longruns: tuple[str, ...] = ()
        self.notifying: frozenset[str] = frozenset()
        self._database = False
        self._children: set[int] = set()

    # --- is the start over?

    def settled(self) -> bool:
        """Whether the start is over, well or not: nothing more is being brought up."""
        if not self.layout.supervised:
            return self._first_runs()
        if self.layout.major == 3:
            return self._settled_by_rc()
        return any(
            line.text.startswith("[services.d] done.") or "init-stage2 failed" in line.text
            for line in self.container.lines
        )

    def _first_runs(self) -> bool:
        return any(process.pid == 1 for process in self.processes())

    def _settled_by_rc(self) -> bool:
        """The overlay's last script has ended, or runs the container's command (if there is one).

        Between its steps that script runs small programs, which are gone at the next look; a command stays.
        """
        found = self.container.inside("read", paths=["/run/s6-rc/state"]).get("found", {})
        if found.get("/run/s6-rc/state") is None:
            return False
        processes = self.processes()
        if any(process.name in _SETUP for process in processes):
            return False
        scripts = {process.pid for process in processes if any("scripts/rc.init" in word for word in process.words)}
        if not scripts:
            return True
        if len(self.container.spec.arguments) < 2:
            return False
        children = {process.pid for process in processes if process.parent in scripts and process.pid not in scripts}
        stayed, self._children = children & self._children, children
        return bool(stayed)

    # --- what there is

    def load(self) -> None:
        """Asks the compiled database which services there are; once, when it exists."""
        if self._database or self.layout.major != 3:
            return
        compiled = ["-c", "/run/s6-rc/compiled"]
        # what the bundle has, and what only its members need
        members = self._names(["s6-rc-db", *compiled, "all-dependencies", "top"])
        if not members:
            return
        longruns, oneshots = (
            set(self._names(["s6-rc-db", *compiled, "list", kind])) for kind in ("longruns", "oneshots")
        )
        self.oneshots = tuple(name for name in members if name in oneshots and name not in _SCAFFOLD)
        self.longruns = tuple(name for name in members if name in longruns and name not in _SCAFFOLD)
        self._database = True

    def dependencies(self, name: str) -> tuple[str, ...]:
        """What a service of s6-rc needs, directly."""
        return tuple(self._names(["s6-rc-db", "-c", "/run/s6-rc/compiled", "dependencies", name]))

    def _names(self, command: list[str]) -> list[str]:
        """The names of services that one of s6's programs prints, one a line; they may have spaces."""
        answer = self.container.run(command)
        return [line for line in str(answer["output"]).split("\n") if line] if answer.get("status") == 0 else []

    def services(self) -> dict[str, Service]:
        """All services of the image, by name: longruns from the scan directory, oneshots from s6-rc."""
        self.load()
        found = dict.fromkeys(sorted({*self.longruns, *self.expected}))
        listed = self.container.inside("list", paths=[self.layout.scandir]).get("found", {})
        names = [name for name in listed.get(self.layout.scandir) or () if not _INTERNAL.match(name)]
        found.update(dict.fromkeys([*names, *self._loggers(names)]))
        services = self._longruns(list(found))
        if self.oneshots:
            active = set(self._names(["s6-rc", "-a", "list"]))
            services |= {name: Service(name, "oneshot", name in active) for name in self.oneshots}
        return dict(sorted(services.items()))

    def _loggers(self, names: list[str]) -> list[str]:
        """Loggers of v1 and v2: services in the `log` folder of others, supervised with them."""
        folders = {f"{self.layout.scandir}/{name}": name for name in names} if self.layout.major < 3 else {}
        found = self.container.inside("list", paths=list(folders)).get("found", {}) if folders else {}
        return [f"{folders[path]}/log" for path, inside in found.items() if "log" in (inside or ())]

    def _longruns(self, names: list[str]) -> dict[str, Service]:
        folder = self.layout.scandir
        paths = [
            f"{folder}/{name}/{file}" for name in names for file in ("supervise/status", "notification-fd", "down")
        ]
        paths.append(f"{folder}/s6rc-oneshot-runner/supervise/status")
        found: Mapping[str, str | None] = self.container.inside("read", paths=paths).get("found", {}) if names else {}
        services = {}
        # the runner of oneshots is ready when anything is: it shows where this s6 has that flag
        runner = found.get(paths[-1])
        old = self.layout.major < 3 or (runner is not None and bool(ord(runner[-1:] or "\0") & _READY_BEFORE_V3))
        for name in names:
            raw = found.get(f"{folder}/{name}/supervise/status")
            status = parse_status(raw.encode("latin-1"), old=old) if raw is not None else None
            if status is None and found.get(f"{folder}/{name}/down") is not None and name not in self.longruns:
                continue  # meant to stay down
            pid, up, ready = status or (0, False, False)
            says = found.get(f"{folder}/{name}/notification-fd") is not None
            if not up and found.get(f"{folder}/{name}/down") is not None and name not in self.longruns:
                continue
            services[name] = Service(name, "longrun", up, ready if says else None, pid if up else 0)
        return services

    def processes(self, *, memory: bool = False) -> list[Process]:
        """All processes of the container but our own."""
        rows: list[Any] = []
        after: int | None = 0
        while after is not None:
            answer = self.container.inside("processes", memory=memory, after=after)
            rows += answer.get("processes", [])
            after = answer.get("more")
        return [Process(row[0], row[1], row[2], row[3], tuple(row[4]), row[5], row[7]) for row in rows]
