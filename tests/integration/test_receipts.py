"""Receipts: a build with nothing to do answers at once, and never with what is not true any more.

Each way to change what a build reads is tried: the answer must be the one that an ordinary build gives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from commandline import Outcome, Workplace, digests
from sixsmith.__main__ import replay
from sixsmith.cli.unchanged import Watch
from sixsmith.io.http import Http
from sixsmith.io.mirror import FileMissing, Mirror
from sixsmith.io.receipt import Receipt, Trace, request_key
from sixsmith.testing.packages import make_apk, make_index
from sixsmith.testing.world import World, make_world

FAMILY = """\
name: family
defaults: {arch: [x86_64]}
images:
  one:
    tag: "{alpine}"
    matrix: {alpine: [3.22]}
    packages: [bash, extra]
    repositories: [main, community, {name: own, url: own, key: own.rsa.pub}]
    files:
      - {path: /etc/one, source: one.conf}
      - {path: /srv, source: tree}
"""


class Place(Workplace):
    """A workplace that has everything a build can read, and asks as the program itself does."""

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(folder, world)
        self.write(FAMILY)
        (folder / "one.conf").write_text("one\n")
        (folder / "tree" / "below").mkdir(parents=True)
        (folder / "tree" / "below" / "file").write_text("file\n")
        (folder / "tree" / "link").symlink_to("below/file")
        (folder / "own.rsa.pub").write_bytes(world.key_file.read_bytes())
        self.publish("1.0-r0")

    def publish(self, version: str) -> None:
        """A repository of one's own, beside the family file."""
        key = self.world.key
        package = make_apk("extra", version, files={"usr/share/extra": version}, key=key)
        folder = self.folder / "own" / "x86_64"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / package.file_name).write_bytes(package.data)
        (folder / "APKINDEX.tar.gz").write_bytes(make_index([package], key))

    @property
    def arguments(self) -> list[str]:
        return ["build", *self.options(), "--json"]

    def replayed(self) -> Outcome | None:
        """What the receipt answers, or None when an ordinary build is needed."""
        with patch("commandline.run", lambda arguments: 0 if replay(arguments) else -1):
            answer = self.run(*self.arguments)
        return answer if answer.code == 0 else None

    def build_in_full(self) -> Outcome:
        done = self.run(*self.arguments)
        assert done.code == 0, done.err
        return done


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), releases=["3.22"], arches=["x86_64"], overlays=[])


@pytest.fixture
def place(tmp_path: Path, pristine: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in [name for name in os.environ if name.startswith(("SIXSMITH_", "XDG_")) or name.endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "world"
    shutil.copytree(pristine.root, root, symlinks=True)
    world = World(root, pristine.key, pristine.releases, pristine.arches, pristine.overlays, pristine.pins)
    (tmp_path / "work").mkdir()
    yield Place(tmp_path / "work", world)


def test_the_second_build_is_answered_with_what_a_full_one_prints(place: Place) -> None:
    first = place.build_in_full()
    answer = place.replayed()
    assert answer is not None
    assert digests(answer) == digests(first)
    full = place.build_in_full()
    assert (answer.out, answer.err) == (full.out, full.err)
    assert all(image["cached"] for image in answer.document["images"])


def _flip(path: Path) -> None:
    """One byte becomes another, in place."""
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _a_blob(place: Place) -> Path:
    return sorted((place.store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)[-1]


CHANGES: dict[str, Callable[[Place], object]] = {
    "the family file": lambda place: place.file.write_text(FAMILY.replace("/etc/one", "/etc/two")),
    "a lock comes": lambda place: place.run("lock", *place.options()[:6], *place.options()[6:]),
    "a local file": lambda place: (place.folder / "one.conf").write_text("two\n"),
    "a local file may be executed": lambda place: (place.folder / "one.conf").chmod(0o755),
    "a local file is a link now": lambda place: (
        (place.folder / "one.conf").rename(place.folder / "other"),
        (place.folder / "one.conf").symlink_to("other"),
    ),
    "a file in a local folder": lambda place: (place.folder / "tree/below/file").write_text("FILE\n"),
    "a new file in a local folder": lambda place: (place.folder / "tree/below/new").write_text(""),
    "a file less in a local folder": lambda place: (place.folder / "tree/below/file").unlink(),
    "a link in a local folder": lambda place: (
        (place.folder / "tree/link").unlink(),
        (place.folder / "tree/link").symlink_to("below"),
    ),
    "a repository's index": lambda place: place.publish("1.1-r0"),
    "a repository's key": lambda place: (place.folder / "own.rsa.pub").write_text("another\n"),
    "a key folder": lambda place: (place.world.keys / "new.rsa.pub").write_text("another\n"),
    "the checksums": lambda place: place.world.checksums.open("a").write("# more\n"),
    "the mirror's index": lambda place: _flip(place.world.mirror / "v3.22/main/x86_64/APKINDEX.tar.gz"),
    "a blob is gone": lambda place: _a_blob(place).unlink(),
    "a blob is damaged": lambda place: _flip(_a_blob(place)),
    "a blob is short": lambda place: (_a_blob(place).chmod(0o644), os.truncate(_a_blob(place), 10)),
    "the layout is gone": lambda place: shutil.rmtree(place.dist),
    "a blob of the layout is gone": lambda place: next((place.dist / "one/blobs/sha256").iterdir()).unlink(),
    "the layout's index": lambda place: (place.dist / "one/index.json").write_text("{}"),
    "the root is dropped": lambda place: (place.store / "index.json").unlink(),
    "the receipt is damaged": lambda place: _flip(next((place.store / "records/receipt").iterdir())),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_is_noticed(place: Place, what: str) -> None:
    place.build_in_full()
    assert place.replayed() is not None
    CHANGES[what](place)
    assert place.replayed() is None


@pytest.mark.parametrize("what", ["a blob is gone", "a blob is damaged", "a blob is short", "the layout is gone"])
def test_what_was_lost_is_made_again(place: Place, what: str) -> None:
    first = place.build_in_full()
    CHANGES[what](place)
    assert digests(place.build_in_full()) == digests(first)
    assert place.damages() == []
    for path in (place.dist / "one/blobs/sha256").iterdir():
        assert path.read_bytes() == (place.store / "blobs/sha256" / path.name).read_bytes()
    assert place.replayed() is not None


def test_another_request_has_another_receipt(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.build_in_full()
    key = request_key(place.arguments)
    monkeypatch.setenv("SIXSMITH_OFFLINE", "1")
    assert request_key(place.arguments) != key
    monkeypatch.delenv("SIXSMITH_OFFLINE")
    monkeypatch.setattr("time.strftime", lambda _: "2031-01-01")
    assert request_key(place.arguments) != key
    assert request_key([*place.arguments, "-q"]) != key


def test_a_changed_program_is_another_program(place: Place) -> None:
    place.build_in_full()
    files = next((place.store / "records/receipt").iterdir()).read_bytes().decode("utf-8", "replace")
    for module in ("sixsmith/plan.py", "sixsmith/layers/write.py", "sixsmith/catalog/", "deflate"):
        assert any(line.startswith("stamp ") and module in line for line in files.split("\n")), module


def test_a_mirror_on_the_network_leaves_no_receipt(place: Place) -> None:
    with place.served() as (_, options):
        done = place.run("build", *options, "--json")
        assert done.code == 0, done.err
    assert not (place.store / "records/receipt").exists()


def test_every_question_to_a_mirror_is_noted(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    trace = Trace()
    mirror = Mirror(str(tmp_path), Http(), trace)
    assert mirror.exists("there") and not mirror.exists("nowhere")
    assert mirror.read("there", limit=9) == b"x" and mirror.list() == ["there"]
    with pytest.raises(FileMissing):
        mirror.read("missing", limit=9)
    noted = {(line.split(" ")[0], line.split(" ", 2)[2]) for line in trace.lines()}
    questions = [("look", "there"), ("look", "nowhere"), ("bytes", "there"), ("bytes", "missing")]
    assert noted == {(kind, str(tmp_path / name)) for kind, name in questions} | {("names", str(tmp_path))}
    receipt = Receipt(trace.lines(), "", "")
    assert receipt.still_holds()
    (tmp_path / "missing").write_text("")
    assert not receipt.still_holds()


def test_what_nobody_noted_is_noticed(tmp_path: Path) -> None:
    noted, promised, stranger = (tmp_path / name for name in ("noted", "promised", "stranger"))
    for path in (noted, promised, stranger):
        path.write_text("x")
    trace = Trace()
    with Watch() as watch:
        trace.saw_bytes(noted, noted.read_bytes())
        trace.explain(promised)
        promised.read_bytes()
        (tmp_path / "written").write_text("")
    assert watch.stranger(trace, []) == ""
    with Watch() as watch:
        stranger.read_bytes()
    assert str(stranger) in watch.stranger(trace, [])
    assert watch.stranger(trace, [str(tmp_path)]) == ""
    with Watch() as watch:
        os.listdir(tmp_path)  # noqa: PTH208
    assert str(tmp_path) in watch.stranger(trace, [])


def test_a_file_that_changes_while_it_is_read_spoils(tmp_path: Path) -> None:
    trace = Trace()
    trace.saw_bytes(tmp_path / "a", b"one")
    trace.saw_bytes(tmp_path / "a", b"one")
    assert not trace.spoiled
    trace.saw_bytes(tmp_path / "a", b"two")
    assert trace.spoiled


def test_an_answer_needs_no_command_line(place: Place) -> None:
    program = [sys.executable, "-X", "importtime", "-m", "sixsmith", *place.arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    first, second = (
        subprocess.run(program, cwd=place.folder, capture_output=True, text=True, env=environment) for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, first.stderr
    assert " click" in first.stderr and "sixsmith.build" in first.stderr
    for heavy in ("click", "msgspec", "yaml", "pathlib", "json", "sixsmith.cli"):
        assert f"| {heavy}\n" not in second.stderr.replace("|   ", "| "), heavy
