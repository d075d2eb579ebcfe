"""A lock and a vault are enough: offline, after the mirror moved on, in another folder, on another day. And a store survives
whatever happens to it: every kind of blob damaged in turn, builds killed at random moments.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commandline import Outcome, Workplace, clean_environment, digests, files_below, middle_of_data
from sixsmith.io.store import Store
from sixsmith.model.digest import digest_of
from sixsmith.testing.keys import SigningKey
from sixsmith.testing.minirootfs import base_packages
from sixsmith.testing.packages import make_apk
from sixsmith.testing.repository import make_repository
from sixsmith.testing.world import World, main_packages

ROUNDS = int(os.environ.get("SIXSMITH_CRASH_ROUNDS", "8"))

FAMILY = """\
name: locked
defaults: {arch: [x86_64, aarch64]}
images:
  base:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.22], s6-overlay: [3.2.3.0]}
    packages: [bash, nginx]
  old:
    tag: "{alpine}-{s6-overlay}"
    arch: [x86_64]
    matrix: {alpine: [3.12], s6-overlay: [2.0.0.1]}
    packages: [shadow]
  app:
    from: base
    tag: "{version:nodejs}"
    packages: [nodejs]
    env: {A: b}
  single:
    base: packages
    arch: [x86_64]
    tag: latest
    layers: single
    matrix: {alpine: [3.22]}
    packages: [alpine-base]
  own:
    arch: [x86_64]
    matrix: {alpine: [3.12, 3.22]}
    packages: [extra@mine, bash]
    repositories: [main, community, {name: own, url: "./own/v{alpine}/apks", key: ./own/own@k.rsa.pub, pin: mine}]
"""


@pytest.fixture(scope="module")
def own_key() -> SigningKey:
    return SigningKey.generate("own@k.rsa.pub")


def furnish(place: Workplace, key: SigningKey) -> None:
    """The family, with a repository of its own beside it whose file names are the same in every release."""
    place.write(FAMILY)
    for release in ("3.12", "3.22"):
        extra = make_apk("extra", "1.0-r0", files={"srv/extra": f"for {release}\n".encode() * 99}, key=key)
        make_repository(place.folder / "own", release, "apks", "x86_64", [extra], key)
    key.write_public(place.folder / "own")


@pytest.fixture
def locked(place: Workplace, own_key: SigningKey) -> Workplace:
    furnish(place, own_key)
    outcome = place.run("lock", *place.options())
    assert outcome.code == 0, outcome.err
    return place


def elsewhere(place: Workplace, folder: Path, *, mirrors: World | None = None) -> Workplace:
    """Family file and lock checked out into another folder, with an empty store."""
    folder.mkdir(parents=True)
    for name in ("sixsmith.yaml", "sixsmith.lock"):
        shutil.copyfile(place.folder / name, folder / name)
    shutil.copytree(place.folder / "own", folder / "own")
    other = Workplace.__new__(Workplace)
    other.__dict__.update(
        folder=folder,
        world=mirrors or place.world,
        file=folder / "sixsmith.yaml",
        store=folder / "store",
        dist=folder / "dist",
    )
    return other


def offline(place: Workplace, vault: Path | None, *more: str) -> list[str]:
    """A frozen build that has nothing but a vault."""
    keys = ["--keys", str(place.world.keys)]
    return ["build", "--json", "--frozen", "--offline", "--store", str(place.store), *keys] + (
        ["--vault", str(vault), *more] if vault else [*more]
    )


def export(place: Workplace, vault: Path) -> None:
    outcome = place.run("vault", "export", *place.options(), vault)
    assert outcome.code == 0, outcome.err


# ---- a locked build is the build


def test_a_locked_build_equals_an_unlocked_one(locked: Workplace, tmp_path: Path) -> None:
    other = elsewhere(locked, tmp_path / "b")
    (other.folder / "sixsmith.lock").unlink()
    free = other.build("--json")
    frozen = locked.build("--json", "--frozen")
    assert free.code == frozen.code == 0, free.err + frozen.err
    assert digests(free) == digests(frozen)
    assert files_below(other.dist) == files_below(locked.dist)
    assert {image["id"].rpartition("/")[2] for image in frozen.document["images"]} == {"x86_64", "aarch64"}
    planned = locked.run("plan", *locked.options(), "--json").document["plans"]
    assert all(plan["locked"] for plan in planned)


def test_a_lock_names_no_place(locked: Workplace) -> None:
    text = (locked.folder / "sixsmith.lock").read_text()
    assert "://" not in text
    assert str(locked.folder) not in text and str(locked.world.root) not in text and "localhost" not in text
    assert not re.search(r"[a-z0-9-]+\.(org|com|net|io|dev)\b", text)


def test_the_same_lock_from_another_machines_places(locked: Workplace, tmp_path: Path) -> None:
    """Whoever locks gets the same text: behind HTTP, in another folder, with another number of transfers."""
    other = elsewhere(locked, tmp_path / "b/deeper")
    text = (locked.folder / "sixsmith.lock").read_text()
    with locked.world.serve() as server:
        places = ["--mirror", f"{server.url}/alpine", "--overlay-mirror", f"{server.url}/s6-overlay"]
        checked = other.run("lock", "--check", *other.options(), *places, "-j", "1")
        assert checked.code == 0, checked.out + checked.err
        (other.folder / "sixsmith.lock").unlink()
        assert other.run("lock", *other.options(), *places).code == 0
    assert (other.folder / "sixsmith.lock").read_text() == text


@pytest.mark.parametrize(("jobs", "umask", "shift"), [(1, 0o077, -900), (8, 0o000, 400)])
def test_the_same_lock_gives_the_same_digests(
    locked: Workplace, tmp_path: Path, jobs: int, umask: int, shift: int
) -> None:
    here = locked.build("--json", "--frozen")
    other = elsewhere(locked, tmp_path / "another folder")
    (other.folder / "clock").mkdir()
    (other.folder / "clock/sitecustomize.py").write_text(
        f"import datetime, time\nnow = time.time\ntime.time = lambda: now() + {shift * 86400}\n"
        "class date(datetime.date):\n    @classmethod\n    def today(cls):\n"
        "        return cls.fromtimestamp(time.time())\ndatetime.date = date\n"
    )
    command = other.program("build", *other.options(), "--json", "--frozen", "-j", str(jobs))
    environment = clean_environment(other.folder, {"PYTHONPATH": str(other.folder / "clock")})
    done = subprocess.run(
        command, cwd=other.folder, env=environment, umask=umask, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert digests(Outcome(0, done.stdout, done.stderr)) == digests(here)
    assert files_below(other.dist) == files_below(locked.dist)


def test_another_compressor_gives_the_same_diff_ids_and_is_said(
    locked: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sixsmith.layers import write
    from sixsmith.model import compression

    here = locked.build("--json", "--frozen")
    assert "the lock was made with" not in here.err
    real = compression.gzip_member
    monkeypatch.setattr(write, "compressor", lambda: "libdeflate(deflate 99.1)")
    monkeypatch.setattr(write, "gzip_member", lambda data, level=1: real(data, 1))
    there = elsewhere(locked, tmp_path / "b").build("--json", "--frozen")
    assert there.code == 0, there.err
    assert (
        "this is libdeflate(deflate 99.1) level 3, single layers 4: written layers may get other digests (same diff_ids)"
        in there.err
    )
    assert digests(here) != digests(there)
    for one, other in zip(here.document["images"], there.document["images"], strict=True):
        for left, right in zip(one["layers"], other["layers"], strict=True):
            assert left["diff_id"] == right["diff_id"]
            assert (left["digest"] == right["digest"]) or left["kind"] != "verbatim"
    again = locked.build("--json", "--frozen")  # the store that the first compressor filled is no excuse
    assert digests(again) == digests(there)


# ---- the family file moves on


def test_a_family_that_moved_on_is_said_and_frozen_refuses(locked: Workplace) -> None:
    locked.write(FAMILY.replace("[bash, nginx]", "[bash]"))
    loose = locked.build("--json")
    assert loose.code == 0
    assert "base:3.22-3.2.3.0/x86_64: warning: is not locked as the family file asks now: resolved anew" in loose.err
    assert "app:3.22-3.2.3.0/x86_64: warning: stands on base:3.22-3.2.3.0/x86_64, which is not locked" in loose.err
    assert "old:3.12" not in "".join(line for line in loose.err.splitlines() if "resolved anew" in line)
    frozen = locked.build("--frozen")
    assert frozen.code == 1
    assert "is not locked as the family file asks now" in frozen.err and "`sixsmith lock`" in frozen.err
    assert locked.run("lock", "--check", *locked.options()).code == 1


def test_what_needs_no_lock_may_change(locked: Workplace) -> None:
    locked.write(FAMILY.replace("{A: b}", "{A: c}"))
    assert locked.build("--frozen").code == 0
    assert locked.run("lock", "--check", *locked.options()).code == 0


def test_frozen_without_a_lock_is_wrong_usage(place: Workplace) -> None:
    outcome = place.build("--frozen")
    assert outcome.code == 2 and "`sixsmith lock` writes it" in outcome.err


# ---- the mirror moves on


@contextmanager
def newer_mirror(world: World, root: Path) -> Iterator[World]:
    """The same mirror a month later: bash has a new release, and the old file is gone."""
    shutil.copytree(world.root, root)
    later = World(root, world.key, world.releases, world.arches, world.overlays, world.pins)
    for arch in world.arches:
        folder = root / "alpine/v3.22/main" / arch
        (gone,) = folder.glob("bash-*.apk")
        gone.unlink()
        (folder / "APKINDEX.tar.gz").unlink()
        kept = (*base_packages("3.22", arch, world.key), *main_packages("3.22", arch, world.key))
        newer = make_apk(
            "bash", "5.99.0-r0", files={"bin/bash": b"new"}, arch=arch, key=world.key, provides=["cmd:bash=5.99.0-r0"]
        )
        make_repository(
            root / "alpine", "3.22", "main", arch, [newer if p.name == "bash" else p for p in kept], world.key
        )
        (folder / gone.name).unlink(missing_ok=True)
    yield later


def test_after_alpine_deleted_the_packages(locked: Workplace, tmp_path: Path) -> None:
    before = digests(locked.build("--json", "--frozen"))
    vault = tmp_path / "vault"
    export(locked, vault)
    with newer_mirror(locked.world, tmp_path / "later") as later:
        bare = elsewhere(locked, tmp_path / "bare", mirrors=later)
        lost = bare.build("--frozen")
        assert lost.code == 3
        assert re.search(
            r"base:3\.22-3\.2\.3\.0/x86_64 is locked, but v3\.22/main/x86_64/bash-\S+\.apk is not on", lost.err
        )
        assert "build from a vault (`--vault`)" in lost.err and "`sixsmith lock`" in lost.err
        kept = bare.build("--json", "--frozen", "--vault", vault)
        assert kept.code == 0, kept.err
        assert digests(kept) == before
        moved = bare.run("lock", *bare.options())
        assert moved.code == 0 and "~ 3.22/x86_64 main/bash 5.22.16-r1 → 5.99.0-r0" in moved.out


# ---- the vault


def test_a_build_with_the_network_cut_from_lock_and_vault_alone(locked: Workplace, tmp_path: Path) -> None:
    """In a network namespace without even a loopback, as another user would find the checkout."""
    before = digests(locked.build("--json"))
    vault = tmp_path / "vault"
    export(locked, vault)
    other = elsewhere(locked, tmp_path / "b")
    nobody = [sys.executable, "-m", "sixsmith", *offline(other, vault)]
    if subprocess.run(["unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True).returncode == 0:
        nobody = ["unshare", "--user", "--map-root-user", "--net", *nobody]
    done = subprocess.run(
        nobody, cwd=other.folder, env=clean_environment(other.folder, {}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert digests(Outcome(0, done.stdout, done.stderr)) == before


def test_a_served_vault_is_a_mirror(locked: Workplace, tmp_path: Path) -> None:
    before = digests(locked.build("--json"))
    vault = tmp_path / "vault"
    export(locked, vault)
    command = locked.program("vault", "serve", str(vault), "--address", "127.0.0.1:0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as serving:
        try:
            assert serving.stderr is not None
            url = re.search(r"http://127\.0\.0\.1:\d+", serving.stderr.readline())
            assert url is not None
            other = elsewhere(locked, tmp_path / "b")
            mirrors = ["--mirror", f"{url[0]}/alpine", "--overlay-mirror", f"{url[0]}/s6-overlay"]
            keys = ["--keys", str(other.world.keys), "--store", str(other.store)]
            outcome = other.run("build", "--json", "--frozen", *mirrors, *keys)
            assert outcome.code == 0, outcome.err
            assert digests(outcome) == before
        finally:
            serving.send_signal(signal.SIGINT)
            assert serving.wait(timeout=20) in (0, 130)


def test_import_and_then_the_store_alone(locked: Workplace, tmp_path: Path) -> None:
    before = digests(locked.build("--json"))
    vault = tmp_path / "vault"
    export(locked, vault)
    other = elsewhere(locked, tmp_path / "b")
    imported = other.run("vault", "import", "--store", other.store, vault, "--json")
    assert imported.code == 0, imported.err
    assert imported.document["imported"] == len([name for name in files_below(vault) if name != "CHECKSUMS"])
    shutil.rmtree(vault)
    outcome = other.run(*offline(other, None))
    assert outcome.code == 0, outcome.err
    assert digests(outcome) == before


def test_each_damaged_file_of_a_vault_is_refused_and_named(locked: Workplace, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    export(locked, vault)
    chance = random.Random(4)
    names = sorted(name for name in files_below(vault) if name != "CHECKSUMS")
    kinds = {Path(name).parts[0]: name for name in names} | {"last": next(n for n in names if "bash" in n)}
    for number, name in enumerate([*kinds.values(), next(n for n in names if "releases" in n)]):
        path = vault / name
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[chance.randrange(len(whole) // 2, len(whole) - 20)] ^= 1
        path.write_bytes(broken)
        other = elsewhere(locked, tmp_path / f"b{number}")
        built = other.run(*offline(other, vault))
        assert built.code == 4, f"{name}: {built.err}"
        assert Path(name).name in built.err
        checked = other.run("vault", "check", vault, "--json")
        assert checked.code == 4
        assert checked.document["faults"] == [f"{name}: damaged (its bytes are not those that the lock names)"]
        imported = other.run("vault", "import", "--store", other.store, vault)
        assert imported.code == 4 and name in imported.err
        assert other.damages() == []
        path.write_bytes(whole)


# ---- real files


SHOWN = """\
name: shown
defaults: {arch: [x86_64], repositories: [main]}
images:
  a:
    base: packages
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.19], s6-overlay: [3.2.1.0]}
    packages: [alpine-base]
  b:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.16], s6-overlay: [3.1.6.2]}
    packages: [bash]
  app:
    from: b
    tag: "{alpine}-{version:jq}"
    packages: [jq, make]
    files: [{path: /srv/x/y, content: "hello\\n", mode: "0600"}, {path: /etc/motd, type: absent}]
  small:
    from: b
    layers: single
    packages: [libgcc]
  c:
    tag: "{alpine}-{s6-overlay}"
    matrix:
      alpine: [3.7, 3.12]
      s6-overlay: [1.21.4.0, 2.1.0.2]
      include:
        - {alpine: 3.12, s6-overlay: 1.21.4.0, arch: [x86_64, aarch64]}
"""


@pytest.mark.data
def test_real_files_locked_vaulted_offline(data: Path, tmp_path: Path) -> None:
    free, bound = tmp_path / "free", tmp_path / "bound"
    upstream = data / "upstream"
    places = ["--mirror", str(upstream / "alpine"), "--overlay-mirror", str(upstream / "s6-overlay")]
    outcomes = []
    for folder in (free, bound):
        folder.mkdir()
        (folder / "sixsmith.yaml").write_text(SHOWN)
        place = Workplace.__new__(Workplace)
        place.__dict__.update(folder=folder)
        if folder == bound:
            assert place.run("lock", *places, "--store", "first").code == 0
            assert place.run("vault", "export", "vault", *places, "--store", "first").code == 0
            assert "://" not in (folder / "sixsmith.lock").read_text()
            places = ["--vault", "vault", "--offline", "--frozen"]
        outcome = place.run("build", "--json", *places, "--store", "store")
        assert outcome.code == 0, outcome.err
        outcomes.append(outcome)
    assert digests(outcomes[0]) == digests(outcomes[1])
    assert files_below(free / "dist") == files_below(bound / "dist")


# ---- bit rot


def rot(path: Path, *, at: int | None = None, quietly: bool = False) -> None:
    """One bit is another: of the byte `at`, or in the middle."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)
    if quietly:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def kinds_of_blob(place: Workplace, built: Outcome) -> dict[str, Path]:
    """One stored file of each kind. (Of the data of packages, which is in packs, `middle_of_data` knows.)"""
    kinds: dict[str, Path] = {}
    world = place.world
    with Store(place.store) as store:
        (image,) = [image for image in built.document["images"] if image["id"].startswith("base:")][:1]
        kinds["manifest"] = store.path(image["digest"])
        kinds["config"] = store.path(json.loads(kinds["manifest"].read_bytes())["config"]["digest"])
        kinds["index"] = store.path(built.document["tags"][0]["digest"])
        for layer in image["layers"]:
            kinds[f"layer {layer['kind']}"] = store.path(layer["digest"])
        (rootfs,) = (world.mirror / "v3.22/releases/x86_64").glob("alpine-minirootfs-*.tar.gz")
        kinds["minirootfs"] = store.path(digest_of(rootfs.read_bytes()))
        tarball = world.overlay_mirror / "v3.2.3.0/s6-overlay-noarch.tar.xz"
        kinds["overlay tarball"] = store.path(digest_of(tarball.read_bytes()))
        for folder in sorted((place.store / "records").iterdir()):
            kinds[f"record {folder.name}"] = max(folder.iterdir(), key=lambda path: path.stat().st_size)
        for number, path in enumerate(
            sorted((place.store / "packs").iterdir(), key=lambda path: -path.stat().st_size)[:3]
        ):
            kinds[f"pack {number}"] = path
        kinds["package data"] = middle_of_data(place.store)[0]
    return kinds


CHANGED = FAMILY.replace("packages: [bash, nginx]", "packages: [bash, nginx, su-exec]")


@pytest.mark.parametrize("quietly", [False, True], ids=["touched", "same time of change"])
def test_every_kind_of_rot_is_noticed_and_mended(locked: Workplace, tmp_path: Path, quietly: bool) -> None:
    """With the family as it was, and with one that wants another image of the same parts.

    That nothing was touched at all is believed of blobs whose size and time of change are as they were, and of nothing else:
    there `sixsmith store verify` is what finds rot.
    """
    place = elsewhere(locked, tmp_path / "b")
    (place.folder / "sixsmith.lock").unlink()
    first = place.build("--json")
    assert first.code == 0
    kinds = kinds_of_blob(place, first)
    assert len(kinds) >= 14, sorted(kinds)
    shutil.copytree(place.store, tmp_path / "clean")
    right: dict[tuple[str, str], tuple[dict[str, str], dict[str, bytes]]] = {}
    families = [(CHANGED, "base:*")] if quietly else [(FAMILY, "*"), (CHANGED, "base:*")]
    for number, (family, cells) in enumerate(families):
        other = elsewhere(locked, tmp_path / f"clean{number}")
        (other.folder / "sixsmith.lock").unlink()
        other.write(family)
        right[family, cells] = digests(other.build("--json", cells)), files_below(other.dist)
    wrong = []
    for kind, path in kinds.items():
        for family, cells in families:
            shutil.rmtree(place.store)
            shutil.copytree(tmp_path / "clean", place.store)
            shutil.rmtree(place.dist)
            at = middle_of_data(place.store)[1] if kind == "package data" else None
            rot(place.store / path.relative_to(place.store), at=at, quietly=quietly)
            place.write(family)
            again = place.build("--json", cells)
            if again.code != 0:
                wrong.append(f"{kind} {cells}: {again.err.splitlines()[-3:]}")
            elif (digests(again), files_below(place.dist)) != right[family, cells]:
                wrong.append(f"{kind} {cells}: other bytes")
    assert wrong == []


def test_rot_in_many_places_at_once(locked: Workplace) -> None:
    before = digests(locked.build("--json"))
    laid = files_below(locked.dist)
    for path in [
        *(locked.store / "blobs/sha256").iterdir(),
        *(locked.store / "records").glob("*/*"),
        *(locked.store / "packs").iterdir(),
    ]:
        rot(path)
    again = locked.build("--json")
    assert again.code == 0, again.err
    assert digests(again) == before
    assert files_below(locked.dist) == laid
    assert "damaged" in again.err
    assert locked.damages() == []


# ---- kill -9


def test_builds_killed_at_random_moments_leave_a_store_that_verifies(locked: Workplace) -> None:
    """Each build wants something else than the one before, so that all of them write. SIXSMITH_CRASH_ROUNDS says how many."""
    chance = random.Random(9)
    extra = ["su-exec", "pcre", "libstdc++", "tini"]
    hits = turn = 0
    longest = 0.7
    while hits < ROUNDS:  # a build that was done before it was to be killed proves nothing
        turn += 1
        assert turn <= 20 * ROUNDS, "no build could be killed in time"
        more = ", ".join(chance.sample(extra, chance.randint(1, 4)))
        locked.write(FAMILY.replace("[bash, nginx]", f"[bash, nginx, {more}]").replace("{A: b}", f"{{A: '{turn}'}}"))
        command = locked.program("build", *locked.options(), "-q")
        environment = clean_environment(locked.folder, {})
        with subprocess.Popen(command, cwd=locked.folder, env=environment, stderr=subprocess.DEVNULL) as child:
            time.sleep(chance.uniform(0.03, longest))
            child.send_signal(signal.SIGKILL)
            ended = child.wait()
        hits += ended == -signal.SIGKILL
        if ended == 0:
            longest = max(0.1, longest * 0.8)
        assert ended in (0, -signal.SIGKILL)
        assert locked.damages() == []
        for layout in locked.dist.iterdir() if locked.dist.exists() else ():
            index = layout / "index.json"
            for entry in json.loads(index.read_bytes())["manifests"] if index.exists() else ():
                blob = (layout / "blobs/sha256" / entry["digest"][7:]).read_bytes()
                assert digest_of(blob) == entry["digest"]
    last = locked.build("--json")
    assert last.code == 0, last.err
    shutil.rmtree(locked.store)
    shutil.rmtree(locked.dist)
    assert digests(locked.build("--json")) == digests(last)


# ---- gc


def test_gc_waits_for_no_build_and_harms_none(locked: Workplace) -> None:
    before = digests(locked.build("--json"))
    with Store(locked.store):  # a build that runs
        refused = locked.run("store", "gc", "--store", locked.store)
        assert refused.code == 3 and "in use" in refused.err
    sizes = locked.run("store", "du", "--json", "--store", locked.store).document["bytes"]
    assert sizes["cache"] > 0
    freed = locked.run("store", "gc", "--json", "--store", locked.store).document["freed"]
    assert freed >= sizes["cache"]
    after = locked.run("store", "du", "--json", "--store", locked.store).document["bytes"]
    assert after["images"] == sizes["images"] and after["cache"] == 0
    assert locked.damages() == []
    assert digests(locked.build("--json")) == before
    vault = locked.folder / "vault"
    export(locked, vault)  # what gc took is fetched again
    assert locked.run("vault", "check", vault).code == 0
