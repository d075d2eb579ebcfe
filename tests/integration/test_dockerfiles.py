"""The exported Dockerfiles, built by buildah from genuine files, give the image that we build ourselves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from commandline import Workplace
from sixsmith.testing.loopback import FileServer

FAMILY = """\
name: docked
defaults: {arch: [x86_64], repositories: [main]}
images:
  base:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.16], s6-overlay: [3.1.6.2]}
    packages: [bash]
    env: {GREETING: 'hello "$USER" \\ there', S6_KEEP_ENV: "1"}
    accounts:
      groups: [{name: web, gid: 900, members: [app]}]
      users: [{name: app, uid: 1000}, {name: robot, system: true}]
    files:
      - {path: /etc/site, source: site}
      - {path: /srv/log, type: directory, owner: app, mode: "0750"}
      - {path: /etc/motd, content: "hello\\n", mode: "0600"}
      - {path: /etc/alias, type: symlink, target: motd}
      - {path: /etc/issue, type: absent}
    ports: [80/tcp]
    volumes: [/srv/log]
    workdir: /srv
    cmd: [bash]
    stop-signal: SIGTERM
    labels: {org.example.price: "5 $"}
  app:
    from: base
    matrix: {}
    tag: "{alpine}"
    files: [{path: /etc/app, content: "app\\n"}]
"""


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=240, **more
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


class Buildah:
    """buildah with storage of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.policy = root / "policy.json"
        self.policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        self.command = ["buildah", "--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"]

    def __call__(self, verb: str, *arguments: str | Path) -> str:
        accepting = ["--signature-policy", self.policy] if verb in ("from", "commit", "bud", "push") else []
        return run(*self.command, verb, *accepting, *arguments).strip()

    def import_root(self, archive: Path, name: str) -> None:
        """A root file system tarball as an image."""
        container = self("from", "scratch")
        self("add", container, archive, "/")
        self("commit", "-q", container, name)
        self("rm", container)


@contextmanager
def buildah() -> Iterator[Buildah]:
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    if os.geteuid() != 0:
        pytest.skip("buildah with storage of its own needs root here")
    root = Path(tempfile.mkdtemp(prefix="sx-"))
    try:
        yield Buildah(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """What lies in an unpacked image: kind, mode, owner, content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


BY_THE_BUILDER = {
    "etc/resolv.conf",  # buildah mounts its own and leaves the mount point
    "etc/hosts",
    "lib/apk/exec",  # left by later versions of apk
    "lib/apk/db/installed",  # the order of packages is that of their installation; compared on its own
    "lib/apk/db/scripts.tar",
    "etc/shadow",  # the day on which an account was made
}


def packages(root: Path) -> set[tuple[str, str]]:
    records = (root / "lib/apk/db/installed").read_text().split("\n\n")
    return {
        (name[1], version[1])
        for record in records
        if (name := re.search("^P:(.+)$", record, re.MULTILINE))
        and (version := re.search("^V:(.+)$", record, re.MULTILINE))
    }


def test_buildah_builds_the_exported_family(data: Path, tmp_path: Path) -> None:
    upstream = data / "upstream"
    (tmp_path / "place").mkdir()
    place = Workplace(tmp_path / "place", None)  # type: ignore[arg-type]  # no sample world here
    place.write(FAMILY)
    (place.folder / "site/deep").mkdir(parents=True)
    (place.folder / "site/page").write_text("page\n")
    (place.folder / "site/page").chmod(0o666)
    (place.folder / "site/deep/run").write_text("#!/bin/sh\n")
    (place.folder / "site/deep/run").chmod(0o700)
    (place.folder / "site/deep/link").symlink_to("run")
    options = ["--store", place.store, "--mirror", upstream / "alpine", "--overlay-mirror", upstream / "s6-overlay"]
    exported = place.run("export", "dockerfiles", *options, "-o", "docker", "--json")
    assert exported.code == 0, exported.err
    assert place.run("build", *options, "-q").code == 0
    with buildah() as builder, FileServer(upstream) as server:
        (archive,) = (upstream / "alpine/v3.16/releases/x86_64").glob("alpine-minirootfs-*.tar.gz")
        builder.import_root(archive, "alpine:3.16")
        arguments = ["--isolation", "chroot", "--network", "host", "--pull-never"]
        arguments += ["--build-arg", f"ALPINE_MIRROR={server.url}/alpine"]
        arguments += ["--build-arg", f"S6_OVERLAY_MIRROR={server.url}/s6-overlay"]
        for name, tag in (("base", "3.16-3.1.6.2"), ("app", "3.16")):
            folder = place.folder / "docker" / name
            builder("bud", *arguments, "-f", folder / f"Dockerfile.{tag}", "-t", f"{name}:{tag}", folder)
            builder("push", f"{name}:{tag}", f"oci:{tmp_path}/{name}-theirs:x")
            ours, theirs = tmp_path / f"{name}-ours", tmp_path / f"{name}-unpacked"
            run("umoci", "unpack", "--image", f"{place.dist / name}:{tag}", ours)
            run("umoci", "unpack", "--image", f"{tmp_path}/{name}-theirs:x", theirs)
            assert packages(ours / "rootfs") == packages(theirs / "rootfs")
            found, wanted = tree(theirs / "rootfs"), tree(ours / "rootfs")
            differing = {path for path in {*found, *wanted} if found.get(path) != wanted.get(path)}
            assert differing <= BY_THE_BUILDER, sorted(differing - BY_THE_BUILDER)
            assert settings(tmp_path / f"{name}-theirs", "x") == settings(place.dist / name, tag)


def settings(layout: Path, tag: str) -> dict[str, Any]:
    """The image's settings, without what a builder adds about itself."""
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{layout}:{tag}"))["config"]
    labels = config.pop("Labels", {})
    config["Env"] = sorted(config["Env"])
    return {**config, "Labels": {key: value for key, value in labels.items() if key.startswith("org.example.")}}


def test_an_overlay_that_is_not_the_released_one_stops_the_docker_build(data: Path, tmp_path: Path) -> None:
    """The checksum in the Dockerfile is asked before anything is unpacked."""
    upstream = tmp_path / "upstream"
    shutil.copytree(data / "upstream/s6-overlay/v3.1.6.2", upstream / "s6-overlay/v3.1.6.2")
    tarball = upstream / "s6-overlay/v3.1.6.2/s6-overlay-x86_64.tar.xz"
    tarball.chmod(0o644)
    tarball.write_bytes(tarball.read_bytes() + b"\0")
    (tmp_path / "place").mkdir()
    place = Workplace(tmp_path / "place", None)  # type: ignore[arg-type]  # no sample world here
    place.write(FAMILY.split("    packages:")[0])
    assert place.run("export", "dockerfiles", "--store", place.store, "-o", "docker", "--offline").code == 0
    with buildah() as builder, FileServer(upstream) as server:
        (archive,) = (data / "upstream/alpine/v3.16/releases/x86_64").glob("alpine-minirootfs-*.tar.gz")
        builder.import_root(archive, "alpine:3.16")
        folder = place.folder / "docker/base"
        command = [
            *builder.command,
            "bud",
            "--signature-policy",
            builder.policy,
            "--isolation",
            "chroot",
            "--network",
            "host",
        ]
        command += ["--pull-never", "--build-arg", f"S6_OVERLAY_MIRROR={server.url}/s6-overlay"]
        command += ["-f", folder / "Dockerfile.3.16-3.1.6.2", folder]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode != 0
        assert "/tmp/s6-overlay-x86_64.tar.xz: FAILED" in done.stdout + done.stderr
