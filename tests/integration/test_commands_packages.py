"""`sixsmith solve` and `sixsmith install` as people call them, over real repositories and the questions put to apk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from apk_files import Item, make_apk, make_index
from commandline import Outcome
from conftest import data_root
from sixsmith.cli import run

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners can be set by root only")

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def sixsmith(store: Path) -> Command:
    """A command with `--json`, in this interpreter."""

    def call(*arguments: str | Path) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        command, *rest = map(str, arguments)
        with redirect_stdout(out), redirect_stderr(err):
            code = run([command, "--store", str(store), "--json", *rest])
        return Outcome(code, out.getvalue(), err.getvalue())

    return call


def questions() -> dict[str, Any]:
    root = data_root()
    if root is None:
        return {}
    answers: dict[str, Any] = json.loads((root / "oracle/install.json").read_text())
    return answers


QUESTIONS = questions()
HIDDEN = ("dev", "proc", "lib/apk", "etc/apk", "var/cache")
"""What the questions leave out of their trees."""


def on_disk(root: Path) -> dict[str, Any]:
    """A directory as the questions write it."""
    found: dict[str, Any] = {}
    for full in sorted(root.rglob("*")):
        path = str(full.relative_to(root))
        if any(path == hidden or path.startswith(hidden + "/") for hidden in HIDDEN):
            continue
        status = full.lstat()
        entry: dict[str, Any] = {"mode": oct(stat.S_IMODE(status.st_mode)), "uid": status.st_uid, "gid": status.st_gid}
        if stat.S_ISDIR(status.st_mode):
            entry |= {"nlink": None, "dir": True}
        else:
            entry |= {"nlink": status.st_nlink, "mtime": int(status.st_mtime)}
            entry["sha1"] = hashlib.sha1(full.read_bytes()).hexdigest()
            if names := os.listxattr(full):
                entry["xattr"] = names
        found[path] = entry
    return found


@needs_root
@pytest.mark.parametrize("name", sorted(QUESTIONS) or [pytest.param("", marks=pytest.mark.skip("no oracle"))])
def test_install_questions(name: str, data: Path, sixsmith: Command, tmp_path: Path) -> None:
    question = QUESTIONS[name]
    root = tmp_path / "root"
    repository = data / "oracle/install-repos" / name
    done = sixsmith(
        "install", "--root", root, "--repository", repository, "--allow-untrusted", *question["world"].split()
    )
    if question["rc"]:
        assert done.code and not root.exists() and not done.document["ok"]
        return
    assert done.code == 0, done.err
    installed = [f"Installing {name} ({version})" for name, version in done.document["packages"]]
    assert installed == [line.partition(") ")[2] for line in question["out"].splitlines() if line.startswith("(")]
    assert on_disk(root) == question["tree"]
    assert (root / "lib/apk/db/installed").read_bytes() == question["installed"].encode()
    assert (root / "lib/apk/db/triggers").read_text() == question["triggers"]
    assert (root / "etc/apk/world").read_text() == question["world_file"]


@pytest.mark.parametrize("name", ["solve-v3.16-main-constraints", "solve-v3.20-main"])
def test_solve_questions(name: str, data: Path, sixsmith: Command) -> None:
    repository = data / "upstream/alpine" / name.split("-")[1] / "main"
    for case in json.loads((data / f"oracle/{name}.json").read_text())["cases"][:12]:
        done = sixsmith("solve", "--repository", repository, *case["world"])
        assert done.document["ok"] == case["ok"]
        assert done.code == (0 if case["ok"] else 1)
        if case["ok"]:
            assert done.document["install"] == case["install"]
        else:
            assert sorted(done.document["subjects"]) == sorted(case["subjects"])


# --- several repositories, pins, architectures


def test_a_pinned_repository_serves_what_asks_for_the_pin(data: Path, sixsmith: Command) -> None:
    mirror = data / "upstream/alpine/v3.16"
    places = ("--repository", mirror / "main", "--repository", f"@more {mirror}/community")
    done = sixsmith("solve", *places, "busybox", "php81@more")
    assert done.code == 0
    steps = {step["name"]: step["repository"] for step in done.document["steps"]}
    assert steps["php81"] == str(mirror / "community") and steps["libxml2"] == str(mirror / "main")
    done = sixsmith("solve", *places, "busybox", "php81")
    assert done.code == 1
    assert done.document["subjects"] and "php81@more" in done.document["hint"]
    done = sixsmith("solve", *places, "busybox@less")
    assert done.code == 1 and "@less" in done.document["error"]


def test_a_foreign_architecture_is_installed_without_running_it(data: Path, sixsmith: Command, tmp_path: Path) -> None:
    """The closed set of v3.13 for aarch64, all of it, scripts included."""
    repository = data / "upstream/alpine/v3.13/main"
    names = sorted({path.name.rsplit("-", 2)[0] for path in (repository / "aarch64").glob("*.apk")})
    assert len(names) == 65
    root = tmp_path / "root"
    done = sixsmith("install", "--root", root, "--repository", repository, "--arch", "aarch64", *names)
    assert done.code == 1 and done.document["subjects"] == ["vlan-2.2-r1"]  # ifupdown-ng says !vlan
    names = [name for name in names if name not in ("vlan", "network-extras")]
    done = sixsmith("install", "--root", root, "--repository", repository, "--arch", "aarch64", *names)
    assert done.code == 0, done.err
    assert len(done.document["packages"]) == 63
    done = sixsmith(
        "install", "--root", tmp_path / "other", "--repository", repository, "--arch", "aarch64", "network-extras"
    )
    assert done.code == 0, done.err
    assert ["vlan", "2.2-r1"] in done.document["packages"]
    assert (root / "etc/apk/arch").read_text() == "aarch64\n"
    assert (root / "bin/ls").is_symlink()  # busybox's trigger
    assert (root / "etc/apk/world").read_text().split() == names
    assert (root / "lib/apk/db/installed").read_text().count("\nP:") == 63


# --- on top of what is there


@needs_root
def test_more_packages_on_a_minirootfs(data: Path, sixsmith: Command, tmp_path: Path) -> None:
    (tarball,) = (data / "upstream/alpine/v3.16/releases/x86_64").glob("*.tar.gz")
    root = tmp_path / "root"
    with tarfile.open(tarball, "r:gz") as tar:
        tar.extractall(root, filter="fully_trusted")
    repository = data / "upstream/alpine/v3.16/main"
    before = (root / "etc/apk/repositories").read_bytes()
    solved = sixsmith("solve", "--root", root, "--repository", repository, "bash", "make")
    assert [name for name, _ in solved.document["install"]][-2:] == ["bash", "make"]
    done = sixsmith("install", "--root", root, "--repository", repository, "bash", "make")
    assert done.code == 0, done.err
    assert done.document["packages"] == solved.document["install"]
    assert {"alpine-baselayout", "bash", "make"} <= set((root / "etc/apk/world").read_text().split())
    assert (root / "etc/apk/repositories").read_bytes() == before
    assert "/bin/bash" in (root / "etc/shells").read_text()  # its post-install
    again = sixsmith("install", "--root", root, "--repository", repository, "bash")
    assert again.code == 0 and again.document["packages"] == []


# --- what goes wrong

BAD_REQUESTS = [
    (["busybox", "nignx"], 1, "did you mean 'nginx'"),
    (["busybox", "nginx>1.y.x"], 2, "'1.y.x' is not a version"),
    (["busybox", "nginx>"], 2, "no version after"),
    (["busybox", ""], 2, "is not a dependency"),
    (["busybox", "musl", "!musl"], 1, "busybox"),
    (["busybox>999"], 1, "1.35.0-r15"),
]


@pytest.mark.parametrize(("packages", "code", "says"), BAD_REQUESTS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("command", ["solve", "install"])
def test_requests_that_cannot_be(
    command: str, packages: list[str], code: int, says: str, data: Path, sixsmith: Command, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    place = ("--root", root) if command == "install" else ()
    done = sixsmith(command, *place, "--repository", data / "upstream/alpine/v3.16/main", *packages)
    assert done.code == code
    assert not done.document["ok"]
    assert says in done.document["error"] + (done.document.get("hint") or "")
    assert not root.exists()


def test_places_that_are_not_there(data: Path, sixsmith: Command, tmp_path: Path) -> None:
    for options, code in (
        ((), 2),
        (("--repository", tmp_path / "nowhere"), 2),
        (("--repository", "@pin"), 2),
        (("--repository", ""), 2),
        (("--repository", tmp_path), 3),
        (("--repository", data / "upstream/alpine/v3.16/main", "--arch", "s390x"), 3),
        (("--repository", data / "upstream/alpine/v3.16/main", "--arch", "vax"), 2),
        (("--repository", "ftp://127.0.0.1/alpine"), 2),
        (("--repository", "http://127.0.0.1:1/alpine", "--retries", "0"), 3),
        (("--repository", data / "upstream/alpine/v3.16/main", "--keys", tmp_path), 2),
    ):
        done = sixsmith("solve", *options, "busybox")
        assert (options, done.code) == (options, code)
        assert not done.document["ok"] and done.document["error"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Unsigned: a-1-r0 that needs b."""
    folder = tmp_path / "repository/x86_64"
    folder.mkdir(parents=True)
    packages = [
        make_apk("a", [Item("d/"), Item("d/a", b"a" * 5000)], info=["depend = b"], index="D:b\n"),
        make_apk("b", [Item("d/"), Item("d/b", os.urandom(5000))]),
    ]
    for package in packages:
        (folder / f"{package.name}-{package.version}.apk").write_bytes(package.file)
    (folder / "APKINDEX.tar.gz").write_bytes(make_index(packages))
    return folder.parent


def test_an_unsigned_index_needs_a_loud_option(repository: Path, sixsmith: Command, tmp_path: Path) -> None:
    for command in (["solve"], ["install", "--root", str(tmp_path / "root")]):
        done = sixsmith(*command, "--repository", repository, "a")
        assert done.code == 4 and "not signed" in done.document["error"]
        done = sixsmith(*command, "--repository", repository, "--allow-untrusted", "a")
        assert done.code == 0 and "NOT checked" in done.err


def test_keys_of_another_release_are_not_trusted(data: Path, sixsmith: Command, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    mirror = data / "upstream/alpine/v3.16/main"
    shutil.copy(data / "upstream/keys/alpine-devel@lists.alpinelinux.org-616ae350.rsa.pub", keys)  # aarch64
    done = sixsmith("solve", "--repository", mirror, "--keys", keys, "busybox")
    assert done.code == 4
    shutil.copy(data / "upstream/keys/alpine-devel@lists.alpinelinux.org-6165ee59.rsa.pub", keys)
    assert sixsmith("solve", "--repository", mirror, "--keys", keys, "busybox").code == 0


@pytest.mark.parametrize("where", range(0, 5600, 700))
def test_a_flipped_bit_leaves_nothing_behind(where: int, repository: Path, sixsmith: Command, tmp_path: Path) -> None:
    """Anywhere in a package: the index's checksum covers the control segment, and that the data segment."""
    file = repository / "x86_64/b-1-r0.apk"
    damaged = bytearray(file.read_bytes())
    damaged[where % len(damaged)] ^= 4
    file.write_bytes(damaged)
    root = tmp_path / "root"
    done = sixsmith("install", "--root", root, "--repository", repository, "--allow-untrusted", "a")
    assert done.code == 4
    assert "b-1-r0" in done.document["error"]
    assert not root.exists()


def test_a_bomb_is_refused_whatever_it_says_of_its_size(
    repository: Path, sixsmith: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones are inflated one at a time, honest ones too; with small limits here, for the test's sake."""
    request = ("install", "--repository", repository, "--allow-untrusted")
    monkeypatch.setattr("sixsmith.io.repository._LARGE", 4096)
    assert sixsmith(*request, "--root", tmp_path / "honest", "a").code == 0
    monkeypatch.setattr("sixsmith.io.repository.MAX_TARBALL", 1 << 20)
    folder = repository / "x86_64"
    content = bytes(4 << 20)
    honest = make_apk("honest", [Item("big", content)])
    lying = make_apk("lying", [Item("big", content)], after=gzip.compress(b""))
    for package in (honest, lying):
        (folder / f"{package.name}-1-r0.apk").write_bytes(package.file)
        (folder / "APKINDEX.tar.gz").write_bytes(make_index([package]))
        done = sixsmith(*request, "--root", tmp_path / "root", package.name)
        assert done.code == 4 and "inflates to more than 1048576 bytes" in done.document["error"]
        assert not (tmp_path / "root").exists()


def test_a_missing_and_a_short_package(repository: Path, sixsmith: Command, tmp_path: Path) -> None:
    root = tmp_path / "root"
    request = ("install", "--root", root, "--repository", repository, "--allow-untrusted", "a")
    file = repository / "x86_64/b-1-r0.apk"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    done = sixsmith(*request)
    assert done.code in (3, 4) and "b-1-r0" in done.document["error"]
    file.unlink()
    done = sixsmith(*request)
    assert done.code == 3 and "b-1-r0.apk" in done.document["error"]
    assert not root.exists()
    file.write_bytes(whole)
    assert sixsmith(*request).code == 0


def test_a_refusal_leaves_the_root_as_it_was(repository: Path, sixsmith: Command, tmp_path: Path) -> None:
    root = tmp_path / "root"
    places = ("--repository", repository, "--allow-untrusted")
    assert sixsmith("install", "--root", root, *places, "a").code == 0
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    clash = make_apk("c", [Item("d/"), Item("d/new", b"x"), Item("d/a", b"mine")])
    (repository / "x86_64/c-1-r0.apk").write_bytes(clash.file)
    (repository / "x86_64/APKINDEX.tar.gz").write_bytes(make_index([clash]))
    done = sixsmith("install", "--root", root, *places, "c")
    assert done.code == 1 and "d/a" in done.document["error"]
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before
