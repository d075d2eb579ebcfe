"""Images booted by a Docker daemon, which the test starts on a socket of its own and ends by its process id."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import boot_world as world
from sixsmith.boot.boot import BASIC_CHECKS, boot_image
from sixsmith.boot.observation import Terms
from sixsmith.errors import OutsideError
from sixsmith.io.daemon import Daemon
from sixsmith.io.layout import write_layout
from sixsmith.io.store import Store
from sixsmith.oci.spec import MANIFEST, Descriptor
from sixsmith.s6.explain import explain

pytestmark = pytest.mark.data

CHECKS = (*BASIC_CHECKS, "exit-code", "read-only", "no-new-privileges", "random-uid")
SLEEP = "#!/bin/sh\nexec sleep 1000\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    """The socket of a daemon, as DOCKER_HOST names it."""
    program = shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        pytest.skip("dockerd is not installed")
    if os.geteuid() != 0:
        pytest.skip("dockerd is started as root")
    with tempfile.TemporaryDirectory(prefix="dockerd-") as folder:
        place = Path(folder)
        socket = place / "socket"
        command = [program, "--iptables=false", "--bridge=none", "--data-root", str(place / "data")]
        command += ["--exec-root", str(place / "exec"), "--pidfile", str(place / "pid"), "-H", f"unix://{socket}"]
        with (place / "log").open("w") as log:
            running = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _await_daemon(running, socket, place / "log")
            yield f"unix://{socket}"
        finally:
            running.terminate()
            running.wait(30)
            _unmount_below(place)


def _await_daemon(running: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            Daemon(str(socket)).version()
            return
        except OutsideError as error:
            if running.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"dockerd does not run here: {error.message}: {log.read_text()[-300:]}")
            time.sleep(0.1)


def _unmount_below(folder: Path) -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for path in sorted((line.split()[4] for line in lines if line.split()[4].startswith(str(folder))), reverse=True):
        world.kernel.unmount(path)


@pytest.fixture(scope="module")
def workshop(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.Workshop]:
    with Store(tmp_path_factory.mktemp("boot") / "store") as store:
        yield world.Workshop(store, data)


def in_daemon(daemon: str) -> dict[str, list[Any]]:
    """What there is of sixsmith's in the daemon."""
    asked = Daemon(daemon.removeprefix("unix://"))
    images = [tag for image in asked.ask("GET", "/images/json") for tag in image["RepoTags"] or ["?"]]
    return {
        "containers": [one["Id"] for one in asked.ask("GET", "/containers/json", query={"all": "1"})],
        "images": images,
        "volumes": [one["Name"] for one in asked.ask("GET", "/volumes")["Volumes"] or ()],
    }


NOTHING: dict[str, list[Any]] = {"containers": [], "images": [], "volumes": []}


def wait_until_empty(daemon: str) -> None:
    deadline = time.monotonic() + 20
    while in_daemon(daemon) != NOTHING and time.monotonic() < deadline:
        time.sleep(0.1)
    assert in_daemon(daemon) == NOTHING


@pytest.mark.parametrize(("alpine", "overlay"), [("3.12", "1.21.4.0"), ("3.12", "2.1.0.2"), ("3.20", "3.2.1.0")])
def test_docker_boots_every_major(workshop: world.Workshop, daemon: str, alpine: str, overlay: str) -> None:
    major = world.major_of(overlay)
    ready = "#!/bin/sh\necho ready >&3\nexec 3>&-\nexec sleep 1000\n"
    files = {
        **world.longrun("plain", SLEEP, major=major, finish="#!/bin/sh\necho finished >/run/finished\n"),
        **world.longrun("telling", ready, major=major, notification_fd="3\n"),
    }
    before = world.remains()
    image = workshop.make(alpine, overlay, files, volumes=("/var/lib/demo",))
    report = boot_image(image, runner="docker", checks=CHECKS, docker_host=daemon)
    assert report.ok, [f"{check.name}: {check.message} {check.log}" for check in report.failures]
    statuses = {check.name: check.status for check in report.checks}
    assert {statuses[name] for name in ("pid-1", "services", "restart", "zombies", "stop", "exit-code")} == {"passed"}
    assert statuses["read-only"] == "passed"
    assert statuses["random-uid"] == ("refused" if major == 1 else "passed")
    assert (report.runner, report.reason.startswith("asked for, Docker ")) == ("docker", True)
    assert report.services["telling"]["ready"] is True
    assert in_daemon(daemon) == NOTHING
    assert world.leftovers(before) == {}


def test_what_docker_says_is_told(workshop: world.Workshop, daemon: str) -> None:
    terms = Terms(timeout=6.0, explain=explain)
    image = workshop.make("3.20", None, entrypoint=("/no/such/init",))
    report = boot_image(image, runner="docker", checks=("pid-1",), terms=terms, docker_host=daemon)
    (check,) = [check for check in report.checks if check.name == "start"]
    assert check.status == "failed" and "/no/such/init" in check.message and "no such file" in check.message
    broken = world.oneshot("prepare", "#!/bin/sh\necho no space >&2\nexit 3\n")
    report = boot_image(workshop.make("3.20", "3.2.1.0", broken), runner="docker", checks=("oneshots",), terms=terms,
                        docker_host=daemon)  # fmt: skip
    (check,) = report.failures
    assert "prepare did not succeed" in check.message and any("no space" in line for line, _ in check.log)
    report = boot_image(workshop.make("3.20", "3.2.1.0"), runner="docker", command=("sh", "-c", "echo from inside; exit 7"),
                        docker_host=daemon)  # fmt: skip
    assert report.exit_code == 7 and "from inside" in report.log
    # over before anybody could look
    image = workshop.make("3.20", None, entrypoint=("/bin/true",))
    assert boot_image(image, runner="docker", checks=("none",), docker_host=daemon).exit_code == 0
    assert in_daemon(daemon) == NOTHING


def test_a_daemon_that_is_not_there_is_an_error_that_says_so(workshop: world.Workshop, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("docker is used as root")
    image = workshop.make("3.20", "3.2.1.0")
    with pytest.raises(OutsideError, match=r"no Docker daemon answers at .*/nothing: No such file") as caught:
        boot_image(image, runner="docker", docker_host=f"unix://{tmp_path}/nothing")
    assert "DOCKER_HOST" in (caught.value.hint or "")
    with pytest.raises(OutsideError, match="is not on this machine"):
        boot_image(image, runner="docker", docker_host="tcp://127.0.0.1:1")


EXPORTED = """
name: exported
defaults: {arch: [x86_64], repositories: [main]}
images:
  web:
    tag: "{s6-overlay}"
    matrix: {alpine: [3.16], s6-overlay: [3.2.1.0]}
    accounts: {users: [{name: www, uid: 1001}]}
    volumes: [/var/log/web]
    services:
      folder: {type: oneshot, up: install -d -o www /run/web}
      web: {run: [sleep, "1000"], user: www, needs: [folder], log: /var/log/web}
"""


def test_docker_runs_what_was_exported(data: Path, daemon: str, tmp_path: Path) -> None:
    """The command of `export run`, taken at its word: the fewest capabilities, a read-only root, no new privileges."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("docker's client is not installed")
    (tmp_path / "sixsmith.yaml").write_text(EXPORTED)
    places = ["--store", str(tmp_path / "store"), "--mirror", str(data / "upstream/alpine"), "--offline"]
    places += ["--overlay-mirror", str(data / "upstream/s6-overlay")]

    def sixsmith(*words: str) -> str:
        command = [sys.executable, "-m", "sixsmith", *words, *places]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    variables = {**os.environ, "DOCKER_HOST": daemon}

    def ask(*words: str) -> str:
        done = subprocess.run([docker, *words], env=variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    sixsmith("test", "--runner", "namespaces")
    sixsmith("build", "--archive", str(tmp_path / "web.tar"))
    words = shlex.split(sixsmith("export", "run", "web"))
    assert words[:2] == ["docker", "run"]
    assert "--read-only" in words and "no-new-privileges" in words and "SETUID" in words and "NET_RAW" not in words
    ask("load", "-i", str(tmp_path / "web.tar"))
    try:
        ask("run", "--network", "none", *words[2:])
        deadline = time.monotonic() + 20
        state = ""
        while state != "true" and time.monotonic() < deadline:
            time.sleep(0.2)
            asked = [docker, "exec", "web", "/command/s6-svstat", "-o", "up", "/run/service/web"]
            state = subprocess.run(asked, env=variables, capture_output=True, text=True).stdout.strip()
        assert state == "true", ask("logs", "web")
        assert "www" in ask("exec", "web", "ps", "-o", "user,args")
    finally:
        subprocess.run([docker, "rm", "-f", "-v", "web"], env=variables, capture_output=True)
        subprocess.run([docker, "image", "rm", "-f", "web:3.2.1.0"], env=variables, capture_output=True)
        named = ask("volume", "ls", "-q").split()
        subprocess.run([docker, "volume", "rm", *named], env=variables, capture_output=True)
    assert in_daemon(daemon) == NOTHING


# --- nothing is left behind


@pytest.fixture(scope="module")
def layout(workshop: world.Workshop, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("layout") / "images"
    image = workshop.make("3.20", "3.2.1.0", world.longrun("web", SLEEP), volumes=("/var/lib/demo",))
    size = len(workshop.store.read(image.digest))
    write_layout(folder, {"one": Descriptor(MANIFEST, image.digest, size)}, workshop.store)
    return f"{folder}:one"


def start(layout: str, daemon: str, store: Path) -> subprocess.Popen[str]:
    """sixsmith with a container that runs until it is ended."""
    variables = {**os.environ, "DOCKER_HOST": daemon, "SIXSMITH_STORE": str(store), "PYTHONPATH": world.TOKEN}
    command = [sys.executable, "-m", "sixsmith", "boot", layout, "--runner", "docker", "--", "sleep", "1000"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    asked = Daemon(daemon.removeprefix("unix://"))
    deadline = time.monotonic() + 30
    while not asked.ask("GET", "/containers/json") and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.1)
    assert asked.ask("GET", "/containers/json"), "nothing ran"
    return running


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_nothing_is_left_in_the_daemon_when_sixsmith_is_killed(
    layout: str, daemon: str, tmp_path: Path, how: str
) -> None:
    before = world.remains()
    running = start(layout, daemon, tmp_path)
    running.send_signal(getattr(signal, how))
    running.communicate(timeout=30)
    wait_until_empty(daemon)
    assert world.leftovers(before) == {}


def test_the_next_boot_removes_what_a_killed_keeper_left(
    layout: str, daemon: str, workshop: world.Workshop, tmp_path: Path
) -> None:
    before = world.remains()
    running = start(layout, daemon, tmp_path)
    for pid in (running.pid, *(int(pid) for pid in world.ours() - before["processes"] if _is_keeper(pid))):
        os.kill(pid, signal.SIGKILL)
    running.communicate(timeout=30)
    left = in_daemon(daemon)
    assert left["containers"] and left["images"], "a killed keeper cannot have removed them"
    report = boot_image(workshop.make("3.20", "3.2.1.0"), runner="docker", checks=("pid-1",), docker_host=daemon)
    assert report.ok
    wait_until_empty(daemon)
    assert world.leftovers(before) == {}


def _is_keeper(pid: str) -> bool:
    try:
        return b"sixsmith.boot.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_containers_of_others_are_left_alone(workshop: world.Workshop, daemon: str) -> None:
    asked = Daemon(daemon.removeprefix("unix://"))
    space = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - no path of a file
    began = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    mine, foreign = f"{space}-{os.getpid()}-{began}", f"1-{os.getpid()}-1"
    image = workshop.make("3.20", "3.2.1.0")
    for mark in (mine, foreign):  # this process lives, and of another machine's processes nothing is known
        labels = json.dumps({"sixsmith.keeper": mark})
        asked.load(iter([_one_file_archive(f"sixsmith-boot:{mark}", labels)]))
    assert boot_image(image, runner="docker", checks=("pid-1",), docker_host=daemon).ok
    tags = in_daemon(daemon)["images"]
    assert set(tags) == {f"sixsmith-boot:{mine}", f"sixsmith-boot:{foreign}"}
    for tag in tags:
        asked.ask("DELETE", f"/images/{tag}", query={"force": "1"})


def _one_file_archive(name: str, labels: str) -> bytes:
    from sixsmith.model.digest import digest_of
    from sixsmith.model.tar import END_OF_ARCHIVE, TarEntry, padding, tar_header

    def member(path: str, content: bytes) -> bytes:
        header = tar_header(TarEntry(path, "file", 0o644, 0, 0, 0, len(content)))
        return header + content + padding(len(content))

    layer = member("note", b"a note\n") + END_OF_ARCHIVE
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": json.loads(labels)},
              "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}  # fmt: skip
    listing = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    members = {
        "manifest.json": json.dumps(listing).encode(),
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer,
    }
    return b"".join(member(path, content) for path, content in members.items()) + END_OF_ARCHIVE
