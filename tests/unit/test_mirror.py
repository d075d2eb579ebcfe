"""A mirror in a folder and one behind a URL behave alike."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sixsmith.errors import DigestMismatch, FetchError, UsageError
from sixsmith.io.http import FileMissing, Http, Memory, Patience
from sixsmith.io.mirror import Mirror
from sixsmith.io.store import Store
from sixsmith.model.digest import digest_of
from sixsmith.testing.loopback import Fault, FileServer

PACKAGE = "v3.19/main/x86_64/libstdc++-13.2.1_git20231014-r0.apk"
CONTENT = bytes(range(251)) * 1200
QUICK = Patience(connect=2, stall=0.2, attempts=3, pause=0.01)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "mirror" / PACKAGE
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "mirror"


@pytest.fixture(params=["folder", "file URL", "http"])
def mirror(root: Path, request: pytest.FixtureRequest) -> Iterator[Mirror]:
    http = Http(patience=QUICK)
    if request.param == "folder":
        yield Mirror(str(root), http)
    elif request.param == "file URL":
        yield Mirror(root.as_uri(), http)
    else:
        with FileServer(root) as server:
            yield Mirror(server.url + "/", http)


def test_a_file_is_read(mirror: Mirror) -> None:
    assert mirror.read(PACKAGE, limit=1 << 20) == CONTENT
    assert mirror.read(PACKAGE, limit=1 << 20, size=len(CONTENT)) == CONTENT
    assert mirror.exists(PACKAGE)
    assert not mirror.exists(PACKAGE + ".sig")


def test_a_file_is_streamed_into_the_store(mirror: Mirror, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with Store(tmp_path / "store").writer() as writer:
        mirror.fetch(PACKAGE, writer, size=len(CONTENT), progress=lambda *told: seen.append(told))
        assert writer.commit(digest_of(CONTENT)) == (digest_of(CONTENT), len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_missing_file_names_file_and_mirror(mirror: Mirror) -> None:
    with pytest.raises(FileMissing) as caught:
        mirror.read("v3.19/main/x86_64/gone-1.0-r0.apk", limit=10)
    assert str(caught.value) == f"v3.19/main/x86_64/gone-1.0-r0.apk is not on the mirror {mirror}"
    assert caught.value.exit_code == 3


def test_a_folder_is_no_file(mirror: Mirror) -> None:
    with pytest.raises(FileMissing):
        mirror.read("v3.19/main", limit=10)


def test_a_limit_is_kept(mirror: Mirror) -> None:
    with pytest.raises(FetchError, match=r"more than 1,000 bytes, which is more than is allowed"):
        mirror.read(PACKAGE, limit=1000)


@pytest.mark.parametrize(("size", "words"), [(len(CONTENT) + 1, "301,201 are promised"), (10, "10 are promised")])
def test_another_size_than_promised_is_a_failed_verification(mirror: Mirror, size: int, words: str) -> None:
    with pytest.raises(DigestMismatch, match=words) as caught:
        mirror.fetch(PACKAGE, Memory(), size=size)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../secret", "/etc/passwd", "a//b", "./a", "", "a/", "a\\..\\b", "a\0b", "a\nb"]
)
def test_no_path_leads_out(mirror: Mirror, root: Path, path: str) -> None:
    (root.parent / "secret").write_text("secret")
    for ask in (lambda: mirror.read(path, limit=10), lambda: mirror.exists(path)):
        with pytest.raises(FetchError, match="is not a path on a mirror"):
            ask()


def test_names_are_quoted_for_the_url(root: Path) -> None:
    (root / "a%2e#b?c d").write_bytes(b"odd")
    with FileServer(root) as server:
        assert Mirror(server.url, Http()).read("a%2e#b?c d", limit=10) == b"odd"


def test_a_folder_can_be_listed_and_a_url_cannot(root: Path) -> None:
    mirror = Mirror(str(root), Http())
    assert mirror.is_folder
    assert mirror.list() == ["v3.19"]
    assert mirror.list("v3.19/main/x86_64") == [Path(PACKAGE).name]
    assert mirror.list("v3.20") == []
    assert Mirror("https://mirror.invalid/alpine", Http()).list() is None


def test_a_mirror_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is not there"):
        Mirror(str(tmp_path / "nowhere"), Http()).read("a", limit=10)


def test_an_unreachable_mirror_is_another_sentence(root: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    mirror = Mirror(f"http://127.0.0.1:{port}/alpine", Http(patience=QUICK))
    for ask in (lambda: mirror.read("a/b", limit=10), lambda: mirror.exists("a/b")):
        with pytest.raises(FetchError) as caught:
            ask()
        assert not isinstance(caught.value, FileMissing)
        assert str(caught.value) == (
            f"a/b could not be had from the mirror http://127.0.0.1:{port}/alpine: "
            "cannot connect (Connection refused) (3 attempts)"
        )


@pytest.mark.parametrize("kind", ["stall", "break-off"])
def test_a_faulty_mirror_is_tried_again(root: Path, tmp_path: Path, kind: str) -> None:
    with (
        FileServer(root, faults=[Fault(kind, after=150_000, times=2)]) as server,  # type: ignore[arg-type]
        Store(tmp_path / "store").writer() as writer,
    ):
        Mirror(server.url, Http(patience=QUICK)).fetch(PACKAGE, writer, size=len(CONTENT))
        assert writer.commit()[0] == digest_of(CONTENT)


@pytest.mark.parametrize(("kind", "words"), [("stall", "stalled for 0.2 s"), ("break-off", "broke off")])
def test_a_mirror_that_stays_faulty_is_said(root: Path, tmp_path: Path, kind: str, words: str) -> None:
    store = Store(tmp_path / "store")
    with (
        FileServer(root, resumable=False, faults=[Fault(kind, after=150_000, times=-1)]) as server,  # type: ignore[arg-type]
        pytest.raises(FetchError, match=words) as caught,
        store.writer() as writer,
    ):
        Mirror(server.url, Http(patience=QUICK)).fetch(PACKAGE, writer, size=len(CONTENT))
    assert PACKAGE in str(caught.value)
    assert "(3 attempts)" in str(caught.value)
    assert store.du()["cache"] == store.du()["temporary"] == 0


def test_flipped_bytes_are_found_by_whoever_knows_the_digest(root: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with FileServer(root, faults=[Fault("flip")]) as server, pytest.raises(DigestMismatch), store.writer() as writer:
        Mirror(server.url, Http(patience=QUICK)).fetch(PACKAGE, writer, size=len(CONTENT))
        writer.commit(digest_of(CONTENT))
    assert store.du()["cache"] == 0


def test_offline_leaves_folders_alone(root: Path) -> None:
    offline = Http(offline=True)
    assert Mirror(str(root), offline).read(PACKAGE, limit=1 << 20) == CONTENT
    with pytest.raises(FetchError, match="--offline"):
        Mirror("https://mirror.invalid/alpine", offline).read(PACKAGE, limit=1 << 20)


def test_credentials_are_not_shown() -> None:
    mirror = Mirror("https://me:secret@mirror.invalid/alpine", Http(offline=True))
    with pytest.raises(FetchError) as caught:
        mirror.read("a", limit=10)
    assert "secret" not in str(caught.value) + str(mirror) + repr(mirror)


@pytest.mark.parametrize("place", ["ftp://host/alpine", "rsync://host/alpine", "s3://bucket"])
def test_other_urls_are_no_mirror(place: str) -> None:
    with pytest.raises(UsageError, match="is no place for a mirror"):
        Mirror(place, Http())


def test_a_disk_that_fails_is_said(root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    if not mirror.is_folder:
        pytest.skip("a folder's failure")

    def fail(*options: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(FetchError, match=r"cannot be read \(Permission denied\)"):
        mirror.read(PACKAGE, limit=1 << 20)
