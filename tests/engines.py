"""Other people's programs that keep and unpack images, each with storage of its own, so that nothing of this machine's is touched.

What is not installed, or does not start here, skips the test and says why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = os.geteuid() == 0

Seen = dict[str, tuple[object, ...]]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=240, **more
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def policy(root: Path) -> Path:
    """A signature policy that accepts what was built a moment ago."""
    path = root / "policy.json"
    path.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    return path


@contextmanager
def containers(name: str) -> Iterator[list[str]]:
    """podman or buildah, as the start of a command."""
    found = tool(name)
    if not ROOT:
        pytest.skip(f"{name} with storage of its own needs root here")
    root = tempfile.mkdtemp(prefix="sx-")  # podman wants a short one
    command = [found, "--root", f"{root}/storage", "--runroot", f"{root}/run", "--storage-driver", "overlay"]
    try:
        probe = subprocess.run([*command, "images"], capture_output=True, text=True, check=False, timeout=60)
        if probe.returncode:
            pytest.skip(f"{name} has no overlay storage here: {probe.stderr.strip().splitlines()[-1]}")
        yield command
    finally:
        subprocess.run(["umount", f"{root}/storage/overlay"], capture_output=True, check=False)
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def docker_daemon() -> Iterator[list[str]]:
    """`docker`, as the start of a command that asks a daemon which was started for it and ends with it."""
    client, daemon = tool("docker"), tool("dockerd")
    if not ROOT:
        pytest.skip("dockerd needs root")
    root = Path(tempfile.mkdtemp(prefix="sx-"))
    socket = f"unix://{root}/socket"
    places = ["--data-root", root / "data", "--exec-root", root / "exec", "--pidfile", root / "pid"]
    command = [daemon, "--host", socket, "--iptables=false", "--bridge=none", *places]
    try:
        with (
            (root / "log").open("wb") as log,
            subprocess.Popen([str(part) for part in command], stdout=log, stderr=log) as serving,
        ):
            try:
                asking = [client, "--config", str(root / "client"), "--host", socket]
                _await_daemon(serving, asking, root / "log")
                yield asking
            finally:
                _end(serving)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _await_daemon(serving: subprocess.Popen[bytes], asking: list[str], log: Path) -> None:
    for _ in range(300):
        if (
            serving.poll() is None
            and not subprocess.run([*asking, "info"], capture_output=True, check=False).returncode
        ):
            return
        if serving.poll() is not None:
            break
        time.sleep(0.1)
    lines = log.read_text(errors="replace").strip().splitlines()
    pytest.skip(f"dockerd does not start here: {lines[-1] if lines else 'it says nothing'}")


def _end(serving: subprocess.Popen[bytes]) -> None:
    serving.terminate()
    try:
        serving.wait(timeout=30)
    except subprocess.TimeoutExpired:
        serving.kill()  # its containerd dies with it


def on_disk(root: Path) -> Seen:
    """Everything about an unpacked tree that a process in it could see."""
    found: dict[str, list[object]] = {}
    names: dict[int, list[str]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        name = str(path.relative_to(root))
        content = ""
        if stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            names.setdefault(status.st_ino, []).append(name)
        mtime = int(status.st_mtime) if name != "." else 0
        xattrs = [key for key in os.listxattr(path, follow_symlinks=False) if "overlay" not in key]
        values = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in sorted(xattrs)]
        found[name] = [oct(status.st_mode), status.st_uid, status.st_gid, mtime, content, values]
    for links in names.values():
        for name in links:
            found[name].append(tuple(links))
    return {name: tuple(what) for name, what in found.items()}


def in_docker(docker: list[str], image: str) -> Seen:
    """The tree of an image as a container of the daemon has it: `docker export` tells all of `on_disk` but xattrs other than
    capabilities."""
    name = run(*docker, "create", image, "/x").strip()
    with tempfile.TemporaryFile() as file:
        subprocess.run([*docker, "export", name], stdout=file, check=True, timeout=240)
        run(*docker, "rm", name)
        file.seek(0)
        return _in_archive(file)


_OF_THE_ENGINE = frozenset([".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"])

_CHANGED = frozenset(["etc", "run"])
"""Directories that get something from docker, and with it another mtime."""


def _in_archive(file: Any) -> Seen:
    found: dict[str, list[object]] = {}
    names: dict[str, list[str]] = {}
    with tarfile.open(fileobj=file) as archive:
        for member in archive:
            content = member.linkname
            if member.isreg():
                bytes_ = archive.extractfile(member)
                assert bytes_ is not None
                content = hashlib.sha256(bytes_.read()).hexdigest()
            if member.islnk():
                names.setdefault(member.linkname, [member.linkname]).append(member.name)
                found[member.name] = list(found[member.linkname])
                continue
            xattrs = sorted((key, value) for key, value in member.pax_headers.items() if "xattr" in key)
            kind, mtime = member.type.decode(), 0 if member.name in _CHANGED else int(member.mtime)
            found[member.name] = [kind, oct(member.mode), member.uid, member.gid, mtime, content, xattrs]
    for links in names.values():
        for name in links:
            found[name].append(tuple(sorted(links)))
    return {name: tuple(what) for name, what in found.items() if not _is_the_engines(name)}


def _is_the_engines(name: str) -> bool:
    """What docker puts into every container; directories that it makes for that."""
    return name in _OF_THE_ENGINE or name.partition("/")[0] in ("dev", "proc", "sys")
