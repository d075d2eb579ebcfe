"""The same family twice, with everything else different, is the same bytes: every digest, every file of the layouts, the archive.

Different are the folder, the day, the umask, the time zone, the locale, the seed of hashes, the number of transfers at once, the
times and permissions of the family's own files, what the store held before, and whether mirrors are folders or servers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from commandline import Outcome, Workplace, clean_environment, digests, files_below
from sixsmith.testing.world import World

FAMILY = """\
name: twice
defaults: {packages: [bash, nginx, shadow], arch: [x86_64, aarch64]}
images:
  base:
    tag: "{alpine}-{s6-overlay}"
    matrix:
      alpine: [3.12, 3.22]
      include: [{alpine: 3.12, s6-overlay: 2.0.0.1}, {alpine: 3.22, s6-overlay: 3.2.3.0}]
    files:
      - {path: /etc/site, source: site}
      - {path: /srv/log, type: directory, owner: nginx, mode: "0750"}
      - {path: /etc/motd, content: "hello\\n"}
  app:
    from: base
    tag: "{version:nodejs}"
    matrix: {alpine: [3.22]}
    packages: [nodejs]
    accounts: {users: [{name: app, home: /srv/app}]}
    env: {TZ: Asia/Seoul}
  scratch:
    base: packages
    arch: [x86_64]
    tag: latest
    matrix: {alpine: [3.22]}
"""

ANOTHER_DAY = """
import datetime, time
shift = {shift}
_time, _gmtime, _localtime = time.time, time.gmtime, time.localtime
time.time = lambda: _time() + shift
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
time.localtime = lambda seconds=None: _localtime(time.time() if seconds is None else seconds)
class date(datetime.date):
    @classmethod
    def today(cls):
        return cls.fromtimestamp(time.time())
datetime.date = date
"""


def furnish(folder: Path, family: str, *, mode: int, when: int) -> None:
    """The family file and its own files, with permissions and times as a checkout happened to leave them."""
    (folder / "site/deep").mkdir(parents=True)
    (folder / "sixsmith.yaml").write_text(family)
    for name, content in {"b": "one\n", "a": "two\n", "deep/ü": "three\n", "run": "#!/bin/sh\n"}.items():
        path = folder / "site" / name
        path.write_text(content)
        path.chmod(mode | (0o100 if name == "run" else 0))
        os.utime(path, (when, when))
    (folder / "site/link").symlink_to("a")
    (folder / "site").chmod(mode | 0o300)
    os.utime(folder / "site", (when, when))


def build(
    folder: Path, options: list[str], *, umask: int, shift: int, environment: Mapping[str, str], jobs: int
) -> Outcome:
    """`sixsmith build` in a process of its own, `shift` seconds from now."""
    (folder / "clock").mkdir()
    (folder / "clock/sitecustomize.py").write_text(ANOTHER_DAY.format(shift=shift))
    paths = [str(folder / "clock"), os.environ.get("PYTHONPATH", "")]
    more = {"PYTHONPATH": os.pathsep.join(path for path in paths if path), **environment}
    command = [sys.executable, "-m", "sixsmith", "build", "--json", "-j", str(jobs), "--archive", "all.tar", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(folder, more),
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


ONE = {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1", "LANG": "C"}
OTHER = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "4711", "PYTHONOPTIMIZE": "2"}


def compare(first: Path, second: Path, one: Outcome, other: Outcome) -> None:
    assert digests(one) == digests(other)
    assert files_below(first / "dist") == files_below(second / "dist")
    assert (first / "all.tar").read_bytes() == (second / "all.tar").read_bytes()


def test_the_sample_family_twice(tmp_path: Path, world: World) -> None:
    first, second = tmp_path / "one", tmp_path / "a much longer/path to another"
    furnish(first, FAMILY, mode=0o600, when=0)
    furnish(second, FAMILY, mode=0o664, when=1_700_000_000)
    place = Workplace(second, world)
    options = place.options()
    place.write(FAMILY.replace("nginx, shadow", "nginx"))
    assert place.run("build", *options, "-q").code == 0  # the store is not empty, and `dist` neither
    place.write(FAMILY)
    one = build(first, options_for(first, world), umask=0o077, shift=0, environment=ONE, jobs=1)
    with world.serve() as server:
        mirrors = ["--mirror", f"{server.url}/alpine", "--overlay-mirror", f"{server.url}/s6-overlay"]
        far = -5 * 365 * 86_400 + 3_601
        other = build(second, [*options, *mirrors], umask=0, shift=far, environment=OTHER, jobs=16)
    told = "Alpine 3.12 is out of support since 2022-05-01"
    assert told in one.err and told not in other.err, "the second build believes in another day"
    compare(first, second, one, other)


def options_for(folder: Path, world: World) -> list[str]:
    place = Workplace.__new__(Workplace)
    place.world, place.store = world, folder / "store"
    return place.options()


def test_the_order_of_cells_does_not_matter(place: Workplace) -> None:
    """A cell built alone is the cell built with its family."""
    furnish(place.folder, FAMILY, mode=0o644, when=0)
    whole = digests(place.build("--json"))
    for number, cell in enumerate(sorted((name for name in whole if "/" in name), reverse=True)):
        alone = place.build("--json", cell, "--store", place.folder / f"store{number}", "-o", place.folder / "alone")
        assert alone.code == 0, alone.err
        assert alone.document["images"][0]["digest"] == whole[cell]


def test_what_was_there_before_does_not_stay(place: Workplace) -> None:
    """A tag that moved points to the new image, in the layout and in the store; the old image's tag is nobody's."""
    first = digests(place.build("--json"))
    place.write(place.file.read_text().replace("[bash]", "[bash, nginx]"))
    second = digests(place.build("--json"))
    assert first.keys() == second.keys() and first != second
    index = json.loads((place.dist / "one/index.json").read_bytes())
    assert [entry["digest"] for entry in index["manifests"]] == [second["one:3.22-3.2.3.0"]]
    assert place.roots() == {"one:3.22-3.2.3.0": second["one:3.22-3.2.3.0"]}


GENUINE = """\
name: genuine
defaults: {arch: [x86_64], repositories: [main]}
images:
  a:
    base: packages
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.19], s6-overlay: [3.2.1.0]}
    packages: [alpine-base]
    files: [{path: /etc/site, source: site}]
  b:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.16], s6-overlay: [3.1.6.2]}
    packages: [bash]
  c:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.12], s6-overlay: [1.21.4.0, 2.1.0.2]}
"""


def test_the_genuine_family_twice(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two/deeper"
    upstream = data / "upstream"
    mirrors = ["--mirror", str(upstream / "alpine"), "--overlay-mirror", str(upstream / "s6-overlay")]
    furnish(first, GENUINE, mode=0o600, when=0)
    furnish(second, GENUINE, mode=0o644, when=1_600_000_000)
    one = build(first, ["--store", "store", *mirrors], umask=0o077, shift=0, environment=ONE, jobs=1)
    later = ["--store", str(second / "store"), *mirrors]
    other = build(second, later, umask=0o002, shift=86_400 * 400, environment=OTHER, jobs=16)
    compare(first, second, one, other)


@pytest.mark.parametrize("jobs", [1, 3, 16])
def test_the_number_of_transfers_does_not_matter(place: Workplace, jobs: int) -> None:
    outcome = place.build("--json", "-j", str(jobs))
    assert outcome.code == 0
    alone = place.build("--json", "-j", "2", "--store", place.folder / "other", "-o", place.folder / "other-dist")
    assert digests(alone) == digests(outcome)
