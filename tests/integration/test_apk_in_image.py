"""Images that we build, under a runtime: their own apk finds nothing odd, and goes on from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commandline import Outcome, Workplace
from sixsmith.testing.world import World

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(os.geteuid() != 0, reason="apk sets owners, which needs root"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the images are for x86_64"),
]

FAMILY = """\
name: shown
defaults: {arch: [x86_64], repositories: [main]}
images:
  packages:
    base: packages
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.19], s6-overlay: [3.2.1.0]}
    packages: [alpine-base]
  sandbox:
    base: packages
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.19], s6-overlay: [3.2.1.0]}
    packages: [alpine-base, openssh, chrony]
    scripts: sandbox
  plain:
    base: packages
    tag: "{alpine}"
    matrix: {alpine: [3.19]}
    packages: [alpine-base, openssh, chrony]
  minirootfs:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.16], s6-overlay: [3.1.6.2]}
    packages: [bash]
"""

IMAGES = {
    "packages:3.19-3.2.1.0": ("v3.19", "yx"),
    "sandbox:3.19-3.2.1.0": ("v3.19", "yx"),
    "plain:3.19": ("v3.19", "yx"),
    "minirootfs:3.16-3.1.6.2": ("v3.16", "make"),
}
"""Image → the release of its mirror, and a package that is not in the image."""


class Place(Workplace):
    def __init__(self, folder: Path, data: Path) -> None:
        self.data = data
        super().__init__(folder, World(folder, None, (), (), (), {}))  # type: ignore[arg-type]  # no sample world here
        self.write(FAMILY)

    def options(self, **_: Any) -> list[str]:
        upstream = self.data / "upstream"
        mirrors = ["--mirror", str(upstream / "alpine"), "--overlay-mirror", str(upstream / "s6-overlay")]
        return ["--store", str(self.store), *mirrors]


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Outcome]:
    place = Place(tmp_path_factory.mktemp("shown"), data)
    outcome = place.build("--json")
    assert outcome.code == 0, outcome.err
    return place, outcome


ODD_TO_APK = {"m proc/", "m lib/apk/exec/", "m var/log/chrony/"}
"""Other modes than the database says, in roots that apk itself makes as well: by its own hand, and by a script's."""
MOUNTS = {"m dev/", "m dev/shm/", "m run/", "m sys/"}

Apk = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["runc", "chroot"])
def container(
    request: pytest.FixtureRequest, built: tuple[Place, Outcome], tmp_path: Path
) -> Callable[[str], tuple[Path, Apk]]:
    """Unpacks an image by its reference; gives the root and something that runs programs in it."""
    for tool in ("umoci", request.param):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")

    def start(reference: str) -> tuple[Path, Apk]:
        name, _, tag = reference.partition(":")
        bundle = tmp_path / "bundle"
        image = f"{built[0].dist / name}:{tag}"
        subprocess.run(["umoci", "unpack", "--image", image, bundle], capture_output=True, check=True)
        root = bundle / "rootfs"

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            if request.param == "chroot":
                return _run(["chroot", str(root), *command])
            _configure(bundle, command)
            return _run(
                ["runc", "--root", str(tmp_path / "runc"), "run", "--bundle", str(bundle), f"apk-{os.getpid()}"]
            )

        if request.param == "runc" and (done := run("/bin/true")).returncode:
            pytest.skip(f"runc cannot run here: {done.stderr.strip()[:200]}")
        return root, run

    return start


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False, umask=0o022
    )


def _configure(bundle: Path, command: tuple[str, ...]) -> None:
    """The program to run, on a host without cgroups of our own."""
    file = bundle / "config.json"
    config = json.loads(file.read_text())
    config["process"] |= {"terminal": False, "args": list(command), "user": {"uid": 0, "gid": 0}}
    config["process"]["capabilities"] = {
        kind: ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SYS_CHROOT", "CAP_MKNOD"]
        for kind in ("bounding", "effective", "permitted")
    }
    config["linux"].pop("resources", None)
    config["linux"]["cgroupsPath"] = ""
    config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "cgroup"]
    config["mounts"] = [each for each in config["mounts"] if each["type"] not in ("cgroup", "mqueue")]
    file.write_text(json.dumps(config))


def state(root: Path) -> dict[str, tuple[Any, ...]]:
    """Kinds, modes and owners of everything in a root."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        found[str(path.relative_to(root))] = (kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    return found


def only_no_index(done: subprocess.CompletedProcess[str]) -> bool:
    """An image has no index of its repositories, of which every apk complains."""
    return all("https://" in line and line.startswith("WARNING") for line in done.stderr.splitlines())


@pytest.mark.parametrize("reference", IMAGES)
def test_apk_goes_on_from_the_image(
    reference: str, container: Callable[[str], tuple[Path, Apk]], data: Path, built: tuple[Place, Outcome]
) -> None:
    release, further = IMAGES[reference]
    root, run = container(reference)
    (image,) = (image for image in built[1].document["images"] if image["reference"] == reference)
    plans = built[0].run("plan", *built[0].options(), "--json", reference).document["plans"]

    info = run("/sbin/apk", "info")
    assert info.returncode == 0 and only_no_index(info)
    names = info.stdout.split()
    assert {package["name"] for package in plans[0]["packages"]} <= set(names), image
    for line in run("/sbin/apk", "info", "-vv").stdout.splitlines():
        assert " - " in line

    audit = run("/sbin/apk", "audit", "--system")
    assert audit.returncode == 0 and only_no_index(audit)
    assert audit.stdout == ""
    check = run("/sbin/apk", "audit", "--check-permissions", "--system")
    assert set(check.stdout.splitlines()) <= ODD_TO_APK | MOUNTS

    shutil.copytree(data / "upstream/alpine" / release / "main/x86_64", root / "mirror/x86_64")
    (root / "mirror/none").touch()
    offline = ("--no-network", "--repositories-file", "/mirror/none", "-X", "/mirror")
    assert further not in names
    before = state(root)
    added = run("/sbin/apk", *offline, "add", further)
    assert added.returncode == 0, added.stdout + added.stderr
    assert "ERROR" not in added.stderr
    assert run("/sbin/apk", "info", "-e", further).stdout.strip() == further
    assert further in (root / "etc/apk/world").read_text().split()
    after = state(root)
    assert [path for path, entry in before.items() if after.get(path) != entry] == []

    upgrade = run("/sbin/apk", *offline, "upgrade", "--simulate")
    assert upgrade.returncode == 0, upgrade.stdout + upgrade.stderr
    assert not re.search(r"\(\d+/\d+\)", upgrade.stdout), upgrade.stdout
    assert run("/sbin/apk", *offline, "fix", "--simulate").returncode == 0
    deleted = run("/sbin/apk", *offline, "del", further)
    assert deleted.returncode == 0, deleted.stderr
    assert run("/sbin/apk", "info").stdout.split() == names
