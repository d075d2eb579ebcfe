"""Which runner is chosen and why, what Docker is asked for, and what a finish script means."""

from __future__ import annotations

import io
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from sixsmith.boot import runners
from sixsmith.boot.docker import create_document
from sixsmith.boot.endings import Ending, ending_of
from sixsmith.boot.marks import is_abandoned, mark_of
from sixsmith.boot.runners import choose_runner
from sixsmith.boot.spec import RunSpec
from sixsmith.boot.starters import Account
from sixsmith.errors import OutsideError
from sixsmith.io.daemon import Daemon, frames, socket_of
from sixsmith.io.namespaces import is_native
from sixsmith.model.arch import ARCHES

NATIVE = next(arch for arch in ARCHES.values() if is_native(arch))


class Machine:
    """What a made-up machine has and refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs: set[str] = set()
        self.root = True
        self.refused: dict[bool, str | None] = {True: None, False: None}
        self.docker: str | None = None
        monkeypatch.setattr(runners.shutil, "which", lambda name, path=None: name if name in self.programs else None)
        monkeypatch.setattr(runners.os, "geteuid", lambda: 0 if self.root else 1000)
        monkeypatch.setattr(runners, "namespaces_refused", lambda *, user: self.refused[user])
        monkeypatch.setattr(runners, "find_subordinates", lambda: "nobody gave any")
        monkeypatch.setattr(Daemon, "version", lambda daemon: self._version(daemon))

    def _version(self, daemon: Daemon) -> str:
        if self.docker is None:
            raise OutsideError(f"no Docker daemon answers at {daemon.path}: Connection refused")
        return self.docker


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_runc_is_taken_where_it_is_installed_and_allowed(machine: Machine) -> None:
    machine.programs, machine.docker = {"runc", "podman"}, "28.0"
    assert (choose_runner(NATIVE).name, choose_runner(NATIVE).reason) == ("runc", "runc is installed")
    machine.root = False
    found = choose_runner(NATIVE)
    assert found.name == "runc" and found.user_namespace and "without root" in found.reason and found.alone
    machine.root, machine.refused[False] = True, "Operation not permitted"
    found = choose_runner(NATIVE)
    assert found.name == "namespaces"
    assert found.reason == "runc cannot make namespaces here (Operation not permitted), so system calls alone"


def test_without_runc_system_calls_do(machine: Machine) -> None:
    assert choose_runner(NATIVE).reason == "no runc is installed, so system calls alone"


def test_docker_is_taken_where_namespaces_are_refused(machine: Machine) -> None:
    machine.refused = {True: "No space left on device", False: "Operation not permitted"}
    with pytest.raises(
        OutsideError, match=r"nothing can be started here: no runc is installed, user namespaces are"
    ) as e:
        choose_runner(NATIVE, docker_host="unix:///there")
    assert "no Docker daemon answers at /there: Connection refused" in e.value.message and e.value.hint
    machine.docker = "28.0"
    found = choose_runner(NATIVE, docker_host="unix:///there")
    assert (found.name, found.daemon, found.user_namespace) == ("docker", "/there", False)
    assert "refused (No space left on device), Docker 28.0 at /there" in found.reason


def test_who_may_use_what(machine: Machine) -> None:
    machine.docker = "28.0"
    assert choose_runner(NATIVE, "docker").daemon == "/var/run/docker.sock"
    machine.root = False
    for name in ("docker", "podman"):
        machine.programs = {name}
        with pytest.raises(OutsideError, match=f"{name} is used as root"):
            choose_runner(NATIVE, name)
    with pytest.raises(OutsideError, match="bwrap is not installed"):
        choose_runner(NATIVE, "bwrap")


def test_daemons_elsewhere_are_refused() -> None:
    assert socket_of("") == "/var/run/docker.sock"
    assert socket_of("unix:///run/x.sock") == "/run/x.sock"
    for host in ("tcp://127.0.0.1:2375", "ssh://box", "unix://relative", "nonsense"):
        with pytest.raises(OutsideError, match="not on this machine"):
            socket_of(host)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no Docker daemon answers"),
        (b"\0\1rubbish\r\n\r\n", "no Docker daemon answers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "is no Docker daemon"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "is no Docker daemon"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", "in the middle of an answer"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 20\r\n\r\n{", "in the middle of an answer"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n[]", r"docker: \[\]"),
    ],
)
def test_what_answers_is_no_daemon(tmp_path: Path, answer: bytes, words: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "d"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(OutsideError, match=words):
            Daemon(str(tmp_path / "d")).version()
        serving.join()


def test_what_docker_is_asked_for() -> None:
    spec = RunSpec(("/init", "a", "b"), workdir="/w", read_only=True, no_new_privileges=True, capabilities=("KILL",))
    document = create_document(spec, Account(7, 8, (9,), "/"), {"A": "b"}, image="i:1", mark="m")
    host: dict[str, Any] = document["HostConfig"]
    assert (document["Entrypoint"], document["Cmd"], document["User"]) == (["/init"], ["a", "b"], "7:8")
    assert host["AutoRemove"] and host["NetworkMode"] == "none" and host["Init"] is False
    assert (host["CapDrop"], host["CapAdd"], host["GroupAdd"]) == (["ALL"], ["KILL"], ["9"])
    assert host["ReadonlyRootfs"] and host["Tmpfs"] == {"/run": "rw,exec,mode=755"}
    assert host["SecurityOpt"] == ["no-new-privileges"]
    plain = create_document(RunSpec(("/init",)), Account(0, 0, (), "/"), {}, image="i:1", mark="m")["HostConfig"]
    assert "Tmpfs" not in plain and plain["SecurityOpt"] == [] and not plain["ReadonlyRootfs"]


def test_frames_of_a_stream_however_it_is_cut() -> None:
    whole = b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\x01\0" + bytes(256)
    for step in (1, 7, 8, 9, len(whole)):

        class Cut(io.BytesIO):
            def read1(self, size: int | None = -1, /, step: int = step) -> bytes:
                return self.read(step)

        assert list(frames(Cut(whole))) == [b"one", b"", bytes(256)]  # type: ignore[arg-type]  # only read1 is called


def test_marks_tell_whether_their_process_lives() -> None:
    own = mark_of(os.getpid())
    assert not is_abandoned(own)
    space, pid, began = own.split("-")
    assert is_abandoned(f"{space}-{pid}-{int(began) + 1}")  # the number was given anew
    assert is_abandoned(f"{space}-4194305-1")
    assert not is_abandoned(f"{int(space) + 1}-{pid}-{began}")  # another container's: nothing is known
    assert not is_abandoned("something")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with pytest.raises(OSError):
        mark_of(child)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Ending()),
        ("#!/bin/sh\necho bye\n", Ending()),
        ("#!/bin/sh\nexit 125\n", Ending("never")),
        ("#!/bin/sh\n# exit 125 would leave it down\nexit 0\n", Ending()),
        ("#!/bin/sh\ns6-svc -d .\n", Ending("never")),
        ("#!/bin/sh\ncode=7\necho 7 > x\n/run/s6/basedir/bin/halt\nexit 125\n", Ending("stop-container", 7)),
        (
            'code=$1\nif [ "$1" -eq 256 ]; then code=$((128 + $2)); fi\ns6-svscanctl -t /var/run/s6/services\n',
            Ending("stop-container", 137),
        ),
        ("#!/usr/bin/execlineb -S0\ns6-svscanctl -t /var/run/s6/services\n", Ending("stop-container")),
        ("#!/bin/sh\ns6-svscanctl -a /run/service\n", Ending()),
        ("#!/bin/sh\nexec /run/s6/basedir/bin/halt\n", Ending("stop-container")),
        ("#!/bin/sh\necho halted\n", Ending()),
    ],
)
def test_what_a_finish_script_means(text: str, expected: Ending) -> None:
    assert ending_of(text) == expected
