"""Our own process inside a container: it looks, runs commands and kills, so that an image needs no tools for that.

It is a fork of the keeper that joined the container's namespaces and control groups, with the modules that it needs already
loaded: nothing of ours has to exist in the image. It is a process of the container: what stops the container stops it too. It
may do more than the container may; the image's programs that it starts may not.
"""

# Names here are of another root, and `os` says exactly which system call is made:
# ruff: noqa: PTH112, PTH116, PTH123, PTH208, PTH110

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import time
from contextlib import suppress
from typing import Any, NoReturn

from sixsmith.boot.channel import Channel
from sixsmith.io import kernel

__all__ = ["attach"]

_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts")
_OUTPUT = 20_000
_BODY = 20_000
_PAGE = 80_000
"""Bytes; each may take six in a message."""


def attach(pid: int, end: int, foreign: set[int]) -> None:
    """Starts an agent in the container whose first process is `pid`; it speaks through the socket `end`."""
    own = {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in _NAMESPACES}
    others = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _NAMESPACES}
    groups = _groups_of(pid)
    try:
        middle = os.fork()
        if middle == 0:
            _join(own, others, groups, end, foreign)
        _, status = os.waitpid(middle, 0)
    finally:
        for descriptor in others.values():
            os.close(descriptor)
    if status:
        raise OSError(0, "the container's namespaces cannot be joined")


def _groups_of(pid: int) -> list[str]:
    """Where the control groups lie that a container's process is in and we are not."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = set(file)
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file if line not in own]
    places = []
    for _, kinds, path in lines:
        names = [kinds.removeprefix("name=")] if kinds else ["unified", ""]
        folders = [f"/sys/fs/cgroup/{name}{path}" for name in names]
        places += [folder for folder in folders if os.path.exists(f"{folder}/cgroup.procs")][:1]
    return places


def _join(own: dict[str, int], others: dict[str, int], groups: list[str], end: int, foreign: set[int]) -> NoReturn:
    try:
        for folder in groups:
            with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        for kind, descriptor in others.items():
            if os.fstat(descriptor).st_ino != own[kind]:
                kernel.set_namespace(descriptor)
        if os.fork() == 0:
            _serve(end, foreign)
        os._exit(0)
    finally:
        os._exit(1)


def _serve(end: int, foreign: set[int]) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        kept = os.dup(end)
        os.dup2(kept, 3)
        os.closerange(4, 4096)
        os.set_inheritable(3, False)
        os.chdir("/")
        channel = Channel(socket.socket(fileno=3))
        while (received := channel.receive()) is not None:
            try:
                channel.send(_answer(received[0]))
            except OSError as error:  # an answer that is too long
                channel.send({"trouble": f"{error.strerror}"})
    finally:
        os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = _ACTIONS[request["do"]](request)
    except OSError as error:
        return {"trouble": f"{error.strerror or error}"}
    except Exception as error:  # the other side waits for an answer, whatever it is
        return {"trouble": f"{type(error).__name__}: {error}"}
    return answer


# --- looking


def _processes(request: dict[str, Any]) -> dict[str, Any]:
    """All processes but this one: [pid, parent, state, name, command line, user, resident bytes, proportional bytes].

    As many as one message takes, and the last one's number in `more` when there are others after it.
    """
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    found, length = [], 0
    for pid in pids:
        if pid == os.getpid() or pid <= request.get("after", 0):
            continue
        with suppress(OSError, ValueError, IndexError):
            found.append(_process(str(pid), bool(request.get("memory"))))
            length += len(json.dumps(found[-1]))
        if length > _PAGE:
            return {"processes": found, "more": pid}
    return {"processes": found}


def _process(name: str, memory: bool) -> list[Any]:
    with open(f"/proc/{name}/stat", "rb") as file:
        line = file.read().decode("utf-8", "replace")
    start, close = line.index("("), line.rindex(")")
    fields = line[close + 2 :].split()
    with open(f"/proc/{name}/cmdline", "rb") as file:
        words = file.read(2000).rstrip(b"\0").decode("utf-8", "replace").split("\0")
    resident = proportional = 0
    if memory:
        resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        with suppress(OSError), open(f"/proc/{name}/smaps_rollup", "rb") as file:
            for rest in file:
                if rest.startswith(b"Pss:"):
                    proportional = int(rest.split()[1]) * 1024
    uid = os.stat(f"/proc/{name}").st_uid
    return [int(name), int(fields[1]), fields[0], line[start + 1 : close], words, uid, resident, proportional]


def _read(request: dict[str, Any]) -> dict[str, Any]:
    """The beginnings of files, as latin-1 text so that bytes survive; None for what cannot be read."""
    found: dict[str, str | None] = {}
    for path in request["paths"]:
        found[path] = None
        with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found[path] = file.read(request.get("limit", 4096)).decode("latin-1")
    return {"found": found}


def _list(request: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for path in request["paths"]:
        found[path] = sorted(os.listdir(path)) if os.path.isdir(path) else None
    return {"found": found}


def _real(request: dict[str, Any]) -> dict[str, Any]:
    """Where paths lead to; those that exist."""
    return {"found": {path: os.path.realpath(path) for path in request["paths"] if os.path.exists(path)}}


def _stat(request: dict[str, Any]) -> dict[str, Any]:
    """What a path is: kind, mode, owner, size; nothing when it is not there."""
    try:
        status = os.stat(request["path"], follow_symlinks=not request.get("link", False))
    except FileNotFoundError:
        return {"found": None}
    kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFREG: "file", stat.S_IFIFO: "fifo"}
    return {
        "found": {
            "type": kinds.get(stat.S_IFMT(status.st_mode), "other"),
            "mode": stat.S_IMODE(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
            "size": status.st_size,
        }
    }


# --- acting


def _kill(request: dict[str, Any]) -> dict[str, Any]:
    os.kill(request["pid"], request["signal"])
    return {}


def _orphans(request: dict[str, Any]) -> dict[str, Any]:
    """Leaves processes behind whose parent has ended: the container's first process has to take them."""
    middle = os.fork()
    if middle == 0:
        try:
            for _ in range(request["count"]):
                if os.fork() == 0:
                    time.sleep(0.02)
                    os._exit(0)
        finally:
            os._exit(0)
    os.waitpid(middle, 0)
    return {}


def _say(request: dict[str, Any]) -> dict[str, Any]:
    """Writes into what a process has as its standard input."""
    descriptor = os.open(f"/proc/{request['pid']}/fd/0", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(descriptor, request["text"].encode())
    finally:
        os.close(descriptor)
    return {}


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """Runs a command as an exec into the container would; at most so many seconds."""
    begun = time.monotonic()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _become(request, theirs)
    os.close(theirs)
    output, ended, timed_out = _collect(ours, child, begun + request["seconds"])
    os.close(ours)
    code = os.waitstatus_to_exitcode(ended)
    return {
        "status": code if code >= 0 else 128 - code,
        "output": output.decode("utf-8", "replace"),
        "timed_out": timed_out,
        "ms": round((time.monotonic() - begun) * 1000),
    }


def _collect(ours: int, child: int, deadline: float) -> tuple[bytes, int, bool]:
    """Output, exit status and whether time was up. What the command's own children still hold open is not waited for."""
    output, timed_out, is_open = b"", False, True
    while True:
        if is_open and select.select([ours], [], [], 0.02)[0]:
            piece = os.read(ours, 1 << 16)
            output = (output + piece)[:_OUTPUT]
            is_open = bool(piece)
            if piece and time.monotonic() < deadline:
                continue
        elif not is_open:
            time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return output, status, timed_out
        if not timed_out and time.monotonic() > deadline:
            timed_out = True
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)


def _become(request: dict[str, Any], theirs: int) -> NoReturn:
    status = 127
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        kernel.drop_bounding(frozenset(request["capabilities"]))
        uid, gid, groups = request.get("user") or (0, 0, [])
        if uid or gid:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        os.chdir(request.get("workdir") or "/")
        if request.get("no_new_privileges"):
            kernel.forbid_new_privileges()
        kernel.signals_default()
        os.execvpe(request["command"][0], request["command"], request.get("environment") or os.environ)
    except FileNotFoundError:
        os.write(2, f"{request['command'][0]}: not found\n".encode())
    except OSError as error:
        status = 126
        os.write(2, f"{request['command'][0]}: {error.strerror}\n".encode())
    finally:
        os._exit(status)


# --- the network


def _connect(request: dict[str, Any]) -> dict[str, Any]:
    """Whether somebody takes connections on a TCP port of the loopback address."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(request["seconds"])
            sock.connect((address, request["port"]))
            return {"open": True}
    return {"open": False}


def _http(request: dict[str, Any]) -> dict[str, Any]:
    """GET of a path, in HTTP/1.0, so that the answer ends with the connection."""
    deadline = time.monotonic() + request["seconds"]
    with socket.create_connection(("127.0.0.1", request["port"]), request["seconds"]) as sock:
        sock.sendall(f"GET {request['path']} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < _BODY and (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            piece = sock.recv(1 << 14)
            if not piece:
                break
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return {"trouble": "what answers there does not speak HTTP"}
    return {"status": int(words[1]), "body": body[:_BODY].decode("utf-8", "replace")}


_ACTIONS = {
    "processes": _processes,
    "read": _read,
    "list": _list,
    "stat": _stat,
    "real": _real,
    "kill": _kill,
    "orphans": _orphans,
    "say": _say,
    "run": _run,
    "connect": _connect,
    "http": _http,
}
