"""Locks and vaults of genuine Alpine and s6-overlay files: what a lock looks like, and that it and its vault are all that a build needs."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_layers_built import Real
from test_lock_vault import SHOWN
from test_reproducible import ANOTHER_DAY, OTHER

from commandline import Outcome, clean_environment, digests, files_below

pytestmark = pytest.mark.data

EVERYTHING = bool(os.environ.get("SIXSMITH_EXHAUSTIVE"))

ARTICLE = """\
name: article
defaults: {arch: [x86_64], repositories: [main], entrypoint: [/init], packages: [bash]}
images:
  alpine-s6-overlay:
    tag: "{alpine}-{s6-overlay}"
    matrix:
      alpine: [3.7, 3.8, 3.9, 3.11]
      s6-overlay: [1.21.4.0]
      include: [{alpine: 3.12, s6-overlay: 2.1.0.2, env: {S6_OVERLAY_VERSION: v2.1.0.2}}]
"""
"""The article's images as far as the files at hand go: 3.10 has no index here, `shadow` is in none of them, the overlays are near ones."""


class Locked(Real):
    """A folder with a family that is locked, and a vault of its files."""

    def __init__(self, folder: Path, data: Path) -> None:
        super().__init__(folder, data)
        self.vault = folder / "vault"
        self.write(SHOWN)
        for command in (["lock"], ["vault", "export", str(self.vault)]):
            done = self.run(*command, *self.options())
            assert done.code == 0, done.err
        built = self.build("--json", "-q")
        self.right = digests(built)
        self.images = {image["id"]: image for image in built.document["images"]}
        assert len(self.images) > 8

    def elsewhere(self, folder: Path) -> Path:
        """Family file and lock alone, in another folder."""
        folder.mkdir(parents=True)
        for name in ("sixsmith.yaml", "sixsmith.lock"):
            shutil.copyfile(self.folder / name, folder / name)
        return folder


@pytest.fixture(scope="module")
def locked(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Locked:
    return Locked(tmp_path_factory.mktemp("locked"), data)


def build_in(
    folder: Path,
    *options: str | Path,
    prefix: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    umask: int = -1,
) -> Outcome:
    """`sixsmith build --frozen` in a process of its own."""
    command = [*prefix, sys.executable, "-m", "sixsmith", "build", "--frozen", "--json", "-q", "--store", "store"]
    done = subprocess.run(
        [*command, *map(str, options)],
        cwd=folder,
        env=clean_environment(folder, environment or {}),
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


# ---- the lock as a text


def test_the_articles_family_is_locked_with_one_line_for_each_package(data: Path, tmp_path: Path) -> None:
    place = Real(tmp_path, data)
    place.write(ARTICLE)
    outcome = place.run("lock", *place.options())
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "sixsmith.lock").read_text()
    assert "://" not in text and "localhost" not in text and str(tmp_path) not in text and str(data) not in text
    document = json.loads(text)
    assert [cell.partition(":")[2] for cell in document["cells"]].count("3.12-2.1.0.2/x86_64") == 1
    assert len(document["cells"]) == 5
    line = re.compile(r'^ +"([a-z0-9._+-]+)": "[^ "]+-r\d+ Q1[A-Za-z0-9+/]{27}= \d+ \w+",?$', re.MULTILINE)
    packages = [name for group in document["packages"].values() for table in group.values() for name in table]
    assert sorted(line.findall(text)) == sorted(packages)
    assert packages.count("bash") == 5


def test_a_family_that_asks_for_one_package_more_changes_a_few_lines(data: Path, tmp_path: Path) -> None:
    place = Real(tmp_path, data)
    place.write(ARTICLE)
    assert place.run("lock", *place.options()).code == 0
    before = (tmp_path / "sixsmith.lock").read_text().splitlines()
    place.write(ARTICLE.replace("v2.1.0.2}}", "v2.1.0.2}, packages: [tini], repositories: [main, community]}"))
    assert place.run("lock", "--check", *place.options()).code == 1
    assert place.run("lock", *place.options()).code == 0
    after = (tmp_path / "sixsmith.lock").read_text().splitlines()
    added, removed = set(after) - set(before), set(before) - set(after)
    assert [line for line in added if '"tini": "0.19.0-r0 ' in line]
    assert len(added) <= 8 and len(removed) <= 1, (added, removed)  # package, repository, world, step, request; commas


# ---- lock and vault are enough


def without_network() -> tuple[str, ...]:
    for prefix in (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net")):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    pytest.skip("no network namespaces here")


def test_with_the_network_cut_on_another_day_with_other_habits(locked: Locked, tmp_path: Path) -> None:
    """Not even a loopback; another folder, day, umask, locale, time zone, hash seed, number of threads; an empty store."""
    folder = locked.elsewhere(tmp_path / "another folder/deep")
    clock = tmp_path / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(ANOTHER_DAY.format(shift=-4 * 365 * 86_400))
    habits = {**OTHER, "PYTHONPATH": str(clock), "SOURCE_DATE_EPOCH": "1"}
    options = ["--vault", locked.vault, "-j", "1"]
    outcome = build_in(folder, *options, prefix=without_network(), environment=habits, umask=0o077)
    assert outcome.code == 0, outcome.err
    assert digests(outcome) == locked.right
    assert files_below(folder / "dist") == files_below(locked.dist)


def test_a_served_vault(locked: Locked, tmp_path: Path) -> None:
    """As a mirror, for a checkout that has nothing else."""
    with served(locked.vault) as url:
        places = ["--mirror", f"{url}/alpine", "--overlay-mirror", f"{url}/s6-overlay"]
        outcome = build_in(locked.elsewhere(tmp_path / "x"), *places)
    assert outcome.code == 0, outcome.err
    assert digests(outcome) == locked.right


@contextmanager
def served(vault: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "sixsmith", "vault", "serve", str(vault), "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stderr is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", serving.stderr.readline())
            assert found is not None
            yield found[0]
        finally:
            serving.send_signal(signal.SIGINT)
            serving.wait(timeout=20)


def some_of(vault: Path) -> list[str]:
    """Files of the vault: all, or some of each kind."""
    names = sorted(name for name in files_below(vault) if name != "CHECKSUMS")
    if EVERYTHING:
        return names
    chance = random.Random(8)
    kinds = (".apk", "minirootfs", "s6-overlay/")
    return [name for kind in kinds for name in chance.sample([one for one in names if kind in one], 2)]


def test_a_vault_with_one_damaged_or_missing_file_is_refused_and_the_file_named(locked: Locked, tmp_path: Path) -> None:
    chance = random.Random(4)
    vault = tmp_path / "vault"
    shutil.copytree(locked.vault, vault)
    for number, name in enumerate(some_of(vault)):
        path = vault / name
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        states = {"damaged": bytes(damaged), "short": whole[:-1], "missing": None}
        for state in states if EVERYTHING else [list(states)[number % 3]]:
            content = states[state]
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            folder = locked.elsewhere(tmp_path / f"{number}-{state}")
            place = Real(folder, locked.alpine.parent.parent)
            built = place.run("build", "--frozen", "--offline", "--vault", vault, "--store", place.store, "-q")
            expected = 3 if state == "missing" else 4
            assert built.code == expected, f"{name} {state}: {built.err}"
            assert Path(name).name in built.err
            checked = place.run("vault", "check", vault, "--json")
            assert checked.code == 4
            (fault,) = checked.document["faults"]
            assert fault.startswith(f"{name}: {'missing' if content is None else 'damaged'}")
            assert place.damages() == []
            assert place.roots() == {}
        path.write_bytes(whole)


# ---- another compressor


@pytest.mark.skipif(not EVERYTHING, reason="fetches a package; SIXSMITH_EXHAUSTIVE is not set")
@pytest.mark.parametrize("release", ["0.7.0", "0.8.1"])
def test_another_release_of_the_compressor(locked: Locked, tmp_path: Path, release: str) -> None:
    """A real one. It may well make the same bytes: what is promised are the same diff_ids, and that it is said."""
    wanted = [f"deflate=={release}", "--no-deps", "--only-binary", ":all:", "--target", str(tmp_path / "other")]
    got = subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"deflate {release} is not to be had here")
    folder = locked.elsewhere(tmp_path / "x")
    outcome = build_in(folder, "--vault", locked.vault, environment={"PYTHONPATH": str(tmp_path / "other")})
    assert outcome.code == 0, outcome.err
    assert f"this is libdeflate(deflate {release}) level" in outcome.err
    same_but_compressed(locked, outcome)


def test_another_compressor_makes_other_blobs_of_the_same_layers(
    locked: Locked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    from sixsmith.layers import write

    monkeypatch.setattr(write, "compressor", lambda: "zlib")
    monkeypatch.setattr(write, "gzip_member", lambda data, level: gzip.compress(data, level, mtime=0))
    place = Real(locked.elsewhere(tmp_path / "x"), locked.alpine.parent.parent)
    outcome = place.run("build", "--frozen", "--json", "-q", "--vault", locked.vault, "--store", place.store)
    assert outcome.code == 0, outcome.err
    assert "the lock was made with libdeflate(" in outcome.err and "this is zlib level" in outcome.err
    changed = same_but_compressed(locked, outcome)
    assert {"top", "spliced"} <= changed <= {"top", "spliced", "overlay", "base"}


def same_but_compressed(locked: Locked, other: Outcome) -> set[str]:
    """The kinds of the layers whose blobs are other ones; raises when any diff_id is."""
    changed = set()
    for image in other.document["images"]:
        for one, two in zip(locked.images[image["id"]]["layers"], image["layers"], strict=True):
            assert one["diff_id"] == two["diff_id"]
            assert one["kind"] == two["kind"]
            if one["digest"] != two["digest"]:
                changed.add(one["kind"])
    return changed
