"""Images booted by an ordinary user: with subordinate ids, which is the usual case, and without any.

The test becomes the user `nobody` in a mount namespace of its own, where /etc/subuid says what is wanted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import boot_world as world
import sixsmith
from sixsmith.boot.boot import ALL_CHECKS
from sixsmith.io.layout import write_layout
from sixsmith.io.store import Store
from sixsmith.oci.spec import MANIFEST, Descriptor

pytestmark = pytest.mark.data

EVERYTHING = os.environ.get("SIXSMITH_BOOT") == "all"
ALPINES = ("3.7", "3.12", "3.16", "3.19", "3.20") if EVERYTHING else ("3.12", "3.20")
OVERLAYS = ("1.21.4.0", "2.1.0.2", "3.1.6.2", "3.2.1.0") if EVERYTHING else ("1.21.4.0", "3.2.1.0")
SLEEP = "#!/bin/sh\nexec sleep 1000\n"
ORDINARY = """
set -e
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work
if [ "$1" = ids ]; then echo nobody:200000:65536 | tee /mnt/upper/subuid >/mnt/upper/subgid; fi
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
shift
exec setpriv --reuid nobody --regid nogroup --clear-groups "$@"
"""


class Ordinary:
    """sixsmith as `nobody` runs it: code, images and store in a folder that is everybody's."""

    def __init__(self, place: Path, python: Path) -> None:
        self.place = place
        self.python = python

    def run(self, ids: str, *words: str) -> subprocess.CompletedProcess[str]:
        variables = [f"PYTHONPATH={self.place}/code:{world.TOKEN}", f"HOME={self.place}"]
        variables.append(f"SIXSMITH_STORE={self.place}/store-{ids}")
        command = ["unshare", "--mount", "sh", "-c", ORDINARY, "sh", ids, "env", *variables]
        command += [str(self.python), "-m", "sixsmith", *words, "--json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=1500)


@pytest.fixture(scope="module")
def ordinary(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordinary]:
    python = Path("/usr/bin/python3")
    if (reason := world.usable("namespaces")) is not None:
        pytest.skip(reason)
    if os.geteuid() != 0 or not python.exists() or shutil.which("setpriv") is None:
        pytest.skip("this becomes an ordinary user, which needs root, setpriv and a Python that is everybody's")
    probe = subprocess.run([python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
    if probe.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip("the system's Python is another version")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        place = Path(folder)
        place.chmod(0o777)
        _copy_code(place / "code")
        with Store(tmp_path_factory.mktemp("boot") / "store") as store:
            workshop = world.Workshop(store, data)
            images = {f"{a}-{o}": workshop.pair(a, o) for a in ALPINES for o in OVERLAYS}
            images["web"] = workshop.make("3.20", "3.2.1.0", world.longrun("web", SLEEP))
            refs = {
                tag: Descriptor(MANIFEST, image.digest, len(store.read(image.digest))) for tag, image in images.items()
            }
            write_layout(place / "images", refs, store)
        yield Ordinary(place, python)


def _copy_code(folder: Path) -> None:
    shutil.copytree(Path(sixsmith.__file__).parent, folder / "sixsmith")
    for name in ("click", "msgspec", "deflate", "deflate.libs"):
        for source in Path(click.__file__).parents[1].glob(f"{name}*"):
            if source.is_dir() and not source.name.endswith("-info"):
                shutil.copytree(source, folder / source.name)
            elif source.is_file():
                shutil.copy(source, folder)


def needs(runner: str, ids: str) -> None:
    if (reason := world.usable(runner)) is not None:
        pytest.skip(reason)
    if ids == "ids" and shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed, so subordinate ids cannot be had")


@pytest.mark.parametrize("runner", ["runc", "namespaces", "bwrap"])
@pytest.mark.parametrize("ids", ["ids", "none"])
def test_an_ordinary_user_boots_an_image(ordinary: Ordinary, runner: str, ids: str) -> None:
    needs(runner, ids)
    before = world.remains()
    done = ordinary.run(ids, "boot", f"{ordinary.place}/images:web", "--runner", runner)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["services"]["web"]["up"] is True
    assert ("only one user inside" in document["reason"]) == (ids == "none")
    assert world.leftovers(before) == {}


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("runner", ["runc", "namespaces"])
def test_an_ordinary_user_boots_every_pair(ordinary: Ordinary, runner: str) -> None:
    needs(runner, "ids")
    before = world.remains()
    pairs = [f"{alpine}-{overlay}" for alpine in ALPINES for overlay in OVERLAYS]
    checks = ["all"] if EVERYTHING else ["basic", "exit-code", "read-only", "random-uid"]
    words = [word for check in checks for word in ("--check", check)]
    done = ordinary.run(
        "ids", "test", *(f"{ordinary.place}/images:{pair}" for pair in pairs), "--runner", runner, *words
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    assert [result["cell"].partition(":")[2].partition("/")[0] for result in results] == pairs
    for pair, result in zip(pairs, results, strict=True):
        statuses = {check["name"]: check["status"] for check in result["checks"]}
        assert EVERYTHING is (set(statuses) == set(ALL_CHECKS))
        needed = ("pid-1", "services", "zombies", "stop", "exit-code", "read-only")
        assert {statuses[name] for name in needed} == {"passed"}, result
        assert statuses["random-uid"] == ("refused" if "-1." in pair else "passed")
    assert world.leftovers(before) == {}
