"""Alpine releases and s6-overlay releases, booted for real.

A few pairs run by default; `SIXSMITH_BOOT=all` runs every pair in every way, which takes minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import boot_world as world
from sixsmith.boot.boot import ALL_CHECKS, BASIC_CHECKS, boot_image
from sixsmith.boot.report import BootReport
from sixsmith.io.store import Store

pytestmark = pytest.mark.data

ALPINES = ("3.7", "3.12", "3.16", "3.19", "3.20")
OVERLAYS = ("1.21.4.0", "2.1.0.2", "3.1.6.2", "3.2.1.0")
EVERYTHING = os.environ.get("SIXSMITH_BOOT") == "all"
DEFAULT = {("3.7", "1.21.4.0"), ("3.12", "2.1.0.2"), ("3.16", "3.1.6.2"), ("3.20", "3.2.1.0")}
THOROUGH = {("3.7", "1.21.4.0"), ("3.20", "3.2.1.0")}
PAIRS = [
    pytest.param(
        alpine,
        overlay,
        marks=[] if EVERYTHING or (alpine, overlay) in DEFAULT else pytest.mark.skip("SIXSMITH_BOOT=all runs it"),
    )
    for alpine in ALPINES
    for overlay in OVERLAYS
]


@pytest.fixture(scope="module")
def workshop(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.Workshop]:
    with Store(tmp_path_factory.mktemp("boot") / "store") as store:
        yield world.Workshop(store, data)


def runner() -> str:
    """runc where it can be used, else plain namespaces; skips where even those are forbidden."""
    reasons = {name: world.usable(name) for name in ("runc", "namespaces")}
    for name, reason in reasons.items():
        if reason is None:
            return name
    pytest.skip(f"nothing can be booted here: {reasons}")


def words(report: BootReport) -> list[str]:
    return [f"{check.name}: {check.message} {check.log}" for check in report.failures]


@pytest.mark.parametrize(("alpine", "overlay"), PAIRS)
def test_every_pair_passes_all_built_in_checks(workshop: world.Workshop, alpine: str, overlay: str) -> None:
    before = world.remains()
    report = boot_image(workshop.pair(alpine, overlay), runner=runner(), checks=ALL_CHECKS)
    assert report.ok, words(report)
    statuses = {check.name: check.status for check in report.checks}
    assert set(statuses) == set(ALL_CHECKS)
    assert all(
        statuses[name] == "passed" for name in ("pid-1", "services", "zombies", "stop", "exit-code", "read-only")
    )
    # v1 cannot run as any user; that was known before it was tried
    assert statuses["random-uid"] == ("refused" if overlay.startswith("1.") else "passed")
    assert report.measures.ready_ms is not None and 0 < report.measures.ready_ms < 20_000
    assert report.measures.processes >= 2
    assert report.exit_code == 0
    assert world.leftovers(before) == {}


@pytest.mark.parametrize(("alpine", "overlay"), PAIRS)
def test_every_pair_boots_in_plain_namespaces(workshop: world.Workshop, alpine: str, overlay: str) -> None:
    if (reason := world.usable("namespaces")) is not None:
        pytest.skip(reason)
    report = boot_image(workshop.pair(alpine, overlay), runner="namespaces", checks=BASIC_CHECKS)
    assert report.ok, words(report)
    assert report.runner == "namespaces"


@pytest.mark.parametrize("name", ["bwrap", "podman"])
def test_other_runners_boot_too(workshop: world.Workshop, name: str) -> None:
    if (reason := world.usable(name)) is not None:
        pytest.skip(reason)
    if name == "podman" and (os.geteuid() != 0 or world.usable("runc") is not None):
        pytest.skip("podman is used as root, with runc")
    before = world.remains()
    report = boot_image(workshop.make("3.20", "3.2.1.0"), runner=name, checks=(*BASIC_CHECKS, "read-only"))
    assert report.ok, words(report)
    assert world.leftovers(before) == {}


@pytest.mark.skipif(not EVERYTHING, reason="emulated, it takes half a minute: SIXSMITH_BOOT=all runs it")
def test_aarch64_boots_under_emulation(workshop: world.Workshop) -> None:
    image = workshop.make("3.12", "1.21.4.0", arch="aarch64")
    report = boot_image(image, runner=runner(), checks=BASIC_CHECKS)
    assert report.ok, words(report)
    assert "qemu-aarch64-static" in report.reason


@pytest.mark.parametrize(
    ("alpine", "overlay"), [("3.12", "1.21.4.0"), ("3.12", "2.1.0.2"), ("3.16", "3.1.6.2"), ("3.20", "3.2.1.0")]
)
def test_services_of_every_major_pass_all_that_applies(workshop: world.Workshop, alpine: str, overlay: str) -> None:
    major = world.major_of(overlay)
    run = "#!/bin/sh\nexec sleep 1000\n"
    ready = "#!/bin/sh\necho ready >&3\nexec 3>&-\nexec sleep 1000\n"
    logger = "#!/bin/sh\nexec s6-log n3 s100000 /var/log/demo\n"
    finish = "#!/bin/sh\necho finished >/run/finished\n"
    files: dict[str, world.File] = {
        "var/log/demo/": (0o777, ""),
        **world.oneshot("prepare", "#!/bin/sh\ntouch /dev/shm/prepared\n", major=major),
        **world.longrun("plain", run, major=major, finish=finish, needs=["prepare"]),
        **world.longrun("telling", ready, major=major, notification_fd="3\n", needs=["plain"]),
    }
    if major == 3:
        files |= world.longrun("demo", "#!/bin/sh\nwhile sleep 1; do echo hello; done\n", producer_for="demo-log\n")
        files |= world.longrun("demo-log", "#!/command/with-contenv sh\n" + logger[10:], consumer_for="demo\n")
        files["etc/s6-overlay/s6-rc.d/demo-log/pipeline-name"] = "demo-pipeline\n"
        files["etc/s6-overlay/s6-rc.d/user/contents.d/demo-pipeline"] = ""
        del files["etc/s6-overlay/s6-rc.d/user/contents.d/demo"]
        del files["etc/s6-overlay/s6-rc.d/user/contents.d/demo-log"]
    else:
        files |= world.longrun("demo", "#!/bin/sh\nwhile sleep 1; do echo hello; done\n", major=major)
        files["etc/services.d/demo/log/run"] = logger
    image = workshop.make(alpine, overlay, files, volumes=("/var/log/demo",))
    report = boot_image(image, runner=runner(), checks=ALL_CHECKS if EVERYTHING else BASIC_CHECKS)
    assert report.ok, words(report)
    statuses = {check.name: check.status for check in report.checks}
    assert {statuses[name] for name in ("services", "oneshots", "restart", "logs-rotate", "stop")} == {"passed"}
    assert report.services["plain"]["up"] and report.services["plain"]["ready"] is None
    assert report.services["telling"]["ready"] is True
    assert report.services["plain"]["pid"] > 0
    if major == 3:
        assert report.services["prepare"] == {"up": True, "ready": None, "pid": None, "type": "oneshot"}
    stop = next(check for check in report.checks if check.name == "stop")
    assert "1 finish script run" in stop.message


FAMILY = """
name: booted
defaults:
  arch: x86_64
  base: packages
  repositories: [main]
  packages: [alpine-baselayout, alpine-release, alpine-keys, apk-tools, busybox, busybox-binsh, musl-utils]
  checks:
    - {name: release, run: [cat, /etc/os-release], output: v3.19, within: 5s}
    - {file: /etc/passwd, mode: "0644", uid: 0, output: root}
  budget: {memory: 5M, ready: 20s}
images:
  base:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.19], s6-overlay: [OVERLAYS]}
"""


def test_a_family_is_built_and_tested(data: Path, tmp_path: Path) -> None:
    overlays = OVERLAYS if EVERYTHING else OVERLAYS[-1:]
    (tmp_path / "sixsmith.yaml").write_text(FAMILY.replace("OVERLAYS", ", ".join(overlays)))
    command = [sys.executable, "-m", "sixsmith", "test", "--json", "--runner", runner(), "--check", "basic"]
    command += ["--mirror", str(data / "upstream/alpine"), "--overlay-mirror", str(data / "upstream/s6-overlay")]
    command += ["--store", str(tmp_path / "store"), "--offline"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)["results"]
    assert [result["cell"] for result in results] == [f"base:3.19-{overlay}/x86_64" for overlay in overlays]
    for result in results:
        names = {check["name"]: check["status"] for check in result["checks"]}
        assert names["release"] == names["file /etc/passwd"] == "passed"
        assert names["budget-memory"] == names["budget-ready"] == "passed"
    exported = subprocess.run(
        [*command[:3], "export", "compose", *command[-7:]], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert exported.returncode == 0, exported.stderr
    assert "image: base:3.19-3.2.1.0" in exported.stdout
