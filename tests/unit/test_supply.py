"""What comes from outside: whose checksum counts, what is pinned at first use, and what a wrong file leaves behind."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sixsmith import catalog
from sixsmith.catalog import Checksum
from sixsmith.errors import DigestMismatch, FetchError, FormatError, SignatureError, UsageError
from sixsmith.events import Event, Fetched, Warned
from sixsmith.io import supply as supply_module
from sixsmith.io.http import Http, Patience
from sixsmith.io.mirror import Mirror
from sixsmith.io.store import Store
from sixsmith.io.supply import Supply
from sixsmith.model.arch import ARCHES
from sixsmith.model.digest import Digest, digest_of
from sixsmith.testing.loopback import Fault, FileServer
from sixsmith.testing.world import World
from sixsmith.variant import OverlayChoice, RepositoryChoice

X86 = ARCHES["x86_64"]
V3 = OverlayChoice("3.2.3.0")


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path, world: World) -> Path:
    """A mirror of one's own, to do harm to. Its point release is one that the catalogue does not know."""
    shutil.copytree(world.mirror / "v3.22", tmp_path / "alpine/v3.22")
    folder = tmp_path / "alpine/v3.22/releases/x86_64"
    known = f"-{catalog.alpine('3.22').newest}-"
    for path in list(folder.iterdir()):
        if path.suffix != ".gz":
            path.write_text(path.read_text().replace(known, "-3.22.98-"))
        path.rename(path.with_name(path.name.replace(known, "-3.22.98-")))
    shutil.copytree(world.overlay_mirror, tmp_path / "s6-overlay")
    return tmp_path


def make_supply(
    store: Store,
    place: Path | str,
    heard: list[Event] | None = None,
    pins: Mapping[str, Digest] | None = None,
    **more: Any,
) -> Supply:
    http = Http(Patience(stall=0.3, attempts=1, pause=0.01))
    return Supply(
        store=store,
        mirror=Mirror(f"{place}/alpine", http),
        overlay_mirror=Mirror(f"{place}/s6-overlay", http),
        open_mirror=lambda where: Mirror(where, http),
        http=http,
        pins=pins or {},
        reporter=(heard if heard is not None else []).append,
        **more,
    )


def releases(folder: Path) -> Path:
    return folder / "alpine/v3.22/releases/x86_64"


def minirootfs_in(folder: Path) -> Path:
    (found,) = releases(folder).glob("*.tar.gz")
    return found


def only_the_tarball(folder: Path, point: str) -> Path:
    """The release folder with nothing but a minirootfs of this point release."""
    tarball = minirootfs_in(folder)
    renamed = tarball.with_name(f"alpine-minirootfs-{point}-x86_64.tar.gz")
    tarball.rename(renamed)
    for other in releases(folder).iterdir():
        if other != renamed:
            other.unlink()
    return renamed


def warnings(heard: list[Event]) -> list[str]:
    return [event.message for event in heard if isinstance(event, Warned)]


# ---- the minirootfs


def test_latest_releases_names_the_newest_and_its_sha256(store: Store, folder: Path) -> None:
    heard: list[Event] = []
    file = make_supply(store, folder, heard).minirootfs("3.22", X86)
    assert file.name == minirootfs_in(folder).name
    assert file.digest == digest_of(minirootfs_in(folder).read_bytes()) and store.has(file.digest)
    assert warnings(heard) == []


def test_latest_releases_that_promises_another_file(store: Store, folder: Path) -> None:
    listed = releases(folder) / "latest-releases.yaml"
    digest = hashlib.sha256(minirootfs_in(folder).read_bytes()).hexdigest()
    listed.write_text(listed.read_text().replace(digest, "a" * 64))
    with pytest.raises(DigestMismatch, match=f"expected sha256:{'a' * 64}, got sha256:{digest}"):
        make_supply(store, folder).minirootfs("3.22", X86)
    assert list((store.root / "blobs/sha256").iterdir()) == []


def test_a_checksum_beside_the_file(store: Store, folder: Path) -> None:
    tarball = only_the_tarball(folder, "3.22.97")
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    beside = tarball.with_name(f"{tarball.name}.sha256")
    heard: list[Event] = []
    beside.write_text(f"{digest}  {tarball.name}\n")
    assert make_supply(store, folder, heard).minirootfs("3.22", X86).digest == f"sha256:{digest}"
    assert warnings(heard) == []
    beside.write_text(f"{'1' * 64}  {tarball.name}\n")
    with pytest.raises(DigestMismatch):
        make_supply(store, folder).minirootfs("3.22", X86)
    beside.write_text("<html>not found</html>\n")
    with pytest.raises(FormatError, match="holds no sha256"):
        make_supply(store, folder).minirootfs("3.22", X86)


def test_the_newest_point_release_of_a_folder(store: Store, folder: Path) -> None:
    tarball = only_the_tarball(folder, "3.22.9")
    shutil.copy(tarball, tarball.with_name("alpine-minirootfs-3.22.10-x86_64.tar.gz"))
    assert make_supply(store, folder).minirootfs("3.22", X86).name == "alpine-minirootfs-3.22.10-x86_64.tar.gz"
    assert make_supply(store, folder).minirootfs("3.22", X86, "3.22.9").name == "alpine-minirootfs-3.22.9-x86_64.tar.gz"


def test_a_folder_without_a_minirootfs(store: Store, folder: Path) -> None:
    only_the_tarball(folder, "3.22.1").unlink()
    with pytest.raises(FetchError, match=r"has no minirootfs of Alpine 3\.22 for x86_64"):
        make_supply(store, folder).minirootfs("3.22", X86)


def test_pinned_at_the_first_use_and_held_to_it(store: Store, folder: Path) -> None:
    tarball = only_the_tarball(folder, "3.22.97")
    raw = tarball.read_bytes()
    heard: list[Event] = []
    first = make_supply(store, folder, heard).minirootfs("3.22", X86)
    (told,) = warnings(heard)
    assert "no published sha256 is known; pinned at first use" in told and first.digest[7:] in told
    store.discard(first.digest)
    heard.clear()
    assert make_supply(store, folder, heard).minirootfs("3.22", X86).digest == first.digest
    assert warnings(heard) == []
    store.discard(first.digest)
    tarball.write_bytes(raw + b"\0")
    with pytest.raises(DigestMismatch) as caught:
        make_supply(store, folder).minirootfs("3.22", X86)
    assert "not the file of the first use" in (caught.value.hint or "")


def known_minirootfs(monkeypatch: pytest.MonkeyPatch, algorithm: str, digest: str) -> None:
    """The catalogue knows every minirootfs by this checksum."""
    checksum = Checksum("a", algorithm, digest, True, "somebody")
    monkeypatch.setattr(supply_module.catalog, "minirootfs_checksum", lambda point, arch: checksum)


def test_the_catalogues_sha512_is_asked_before_anything_is_kept(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong file is neither kept nor pinned: the right one is taken the next time."""
    tarball = only_the_tarball(folder, "3.22.97")
    right = tarball.read_bytes()
    known_minirootfs(monkeypatch, "sha512", hashlib.sha512(right).hexdigest())
    tarball.write_bytes(right + b"\0")
    with pytest.raises(DigestMismatch, match="its sha512 is not"):
        make_supply(store, folder).minirootfs("3.22", X86)
    assert list((store.root / "blobs/sha256").iterdir()) == []
    tarball.write_bytes(right)
    heard: list[Event] = []
    assert make_supply(store, folder, heard).minirootfs("3.22", X86).digest == digest_of(right)
    assert warnings(heard) == [], "a sha512 that the catalogue knows needs no warning"


def test_a_mirror_cannot_talk_the_catalogue_down(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror's own sha256 agrees with its file; the file is still not what Alpine released."""
    known_minirootfs(monkeypatch, "sha512", "0" * 128)
    with pytest.raises(DigestMismatch, match="its sha512 is not"):
        make_supply(store, folder).minirootfs("3.22", X86)


def test_a_pin_wins_over_the_catalogue(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_minirootfs(monkeypatch, "sha512", "0" * 128)
    name = minirootfs_in(folder).name
    pins = {name: digest_of(minirootfs_in(folder).read_bytes())}
    assert make_supply(store, folder, pins=pins).minirootfs("3.22", X86).digest == pins[name]
    with pytest.raises(DigestMismatch):
        make_supply(store, folder, pins={name: digest_of(b"something else")}).minirootfs("3.22", X86)


def test_a_pin_chooses_the_point_release(store: Store, folder: Path) -> None:
    tarball = only_the_tarball(folder, "3.22.9")
    shutil.copy(tarball, tarball.with_name("alpine-minirootfs-3.22.10-x86_64.tar.gz"))
    pins = {tarball.name: digest_of(tarball.read_bytes())}
    assert make_supply(store, folder, pins=pins).minirootfs("3.22", X86).name == tarball.name


def test_of_several_pins_the_newest_counts_unless_a_lock_names_one(store: Store, folder: Path) -> None:
    old = only_the_tarball(folder, "3.22.9")
    new = shutil.copy(old, old.with_name("alpine-minirootfs-3.22.10-x86_64.tar.gz"))
    supply = make_supply(store, folder, pins={path.name: digest_of(path.read_bytes()) for path in (old, Path(new))})
    assert supply.minirootfs("3.22", X86).name == new.name
    assert supply.minirootfs("3.22", X86, file=old.name).name == old.name


# ---- the overlay


def test_the_overlays_files_in_their_order(store: Store, folder: Path, world: World) -> None:
    files = make_supply(store, folder, pins=world.pins).overlay(V3, X86)
    assert [file.name for file in files] == [
        "s6-overlay-3.2.3.0/s6-overlay-noarch.tar.xz",
        "s6-overlay-3.2.3.0/s6-overlay-x86_64.tar.xz",
    ]
    more = OverlayChoice("3.2.3.0", symlinks=True, syslogd=True)
    assert len(make_supply(store, folder, pins=world.pins).overlay(more, X86)) == 5
    (old,) = make_supply(store, folder, pins=world.pins).overlay(OverlayChoice("2.0.0.1"), X86)
    assert old.name == "s6-overlay-2.0.0.1/s6-overlay-amd64.tar.gz"


def test_an_overlay_that_is_not_what_its_authors_released(store: Store, folder: Path) -> None:
    known = catalog.overlay_checksum("3.2.3.0", "s6-overlay-noarch.tar.xz")
    assert known is not None and known.algorithm == "sha256"
    with pytest.raises(DigestMismatch, match=f"expected sha256:{known.digest}"):
        make_supply(store, folder).overlay(V3, X86)


def test_an_md5_alone_catches_accidents_and_is_not_trusted(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball = folder / "s6-overlay/v2.0.0.1/s6-overlay-amd64.tar.gz"
    tarball.with_name(f"{tarball.name}.sha256").unlink()
    digest = hashlib.md5(tarball.read_bytes(), usedforsecurity=False).hexdigest()
    checksum = Checksum(tarball.name, "md5", digest, True, "somebody")
    monkeypatch.setattr(supply_module.catalog, "overlay_checksum", lambda version, name: checksum)
    heard: list[Event] = []
    make_supply(store, folder, heard).overlay(OverlayChoice("2.0.0.1"), X86)
    (told,) = warnings(heard)
    assert "no more than an md5 is known; pinned at first use" in told
    with Store(store.root.parent / "other") as other:
        tarball.write_bytes(tarball.read_bytes() + b"\0")
        with pytest.raises(DigestMismatch, match="its md5 is not"):
            make_supply(other, folder).overlay(OverlayChoice("2.0.0.1"), X86)


def test_a_file_is_fetched_once_for_all_cells(store: Store, world: World) -> None:
    with FileServer(world.root) as server:
        supply = make_supply(store, server.url, pins=world.pins, extra_keys={})
        for _ in range(3):
            supply.overlay(V3, X86)
            supply.minirootfs("3.22", X86)
        assert len(server.asked("GET", r"noarch\.tar\.xz$")) == 1
        assert len(server.asked("GET", r"minirootfs.*\.tar\.gz$")) == 1
        heard: list[Event] = []
        make_supply(store, server.url, heard, pins=world.pins).overlay(V3, X86)
        assert len(server.asked("GET", r"noarch\.tar\.xz$")) == 1, "the store has it"
        assert all(event.cached for event in heard if isinstance(event, Fetched))


def test_a_file_that_breaks_off_leaves_nothing(store: Store, world: World) -> None:
    with FileServer(world.root, faults=[Fault("break-off", "GET", "noarch", times=-1, after=100)]) as server:
        with pytest.raises(FetchError, match="broke off after 100 of"):
            make_supply(store, server.url, pins=world.pins).overlay(V3, X86)
        assert list((store.root / "blobs/sha256").iterdir()) == []
        server.faults.clear()
        assert make_supply(store, server.url, pins=world.pins).overlay(V3, X86)


# ---- package repositories


def test_repositories_of_a_release_on_the_mirror(store: Store, world: World) -> None:
    supply = make_supply(store, world.root, extra_keys={world.key.name: world.key.public})
    main = supply.repository(RepositoryChoice("main"), "3.22", X86)
    assert main.index().find("bash")
    assert supply.repository(RepositoryChoice("main"), "3.22", X86) is main
    assert supply.repository(RepositoryChoice("main"), "3.12", X86) is not main
    with pytest.raises(FetchError, match=r"v3\.22/tests/x86_64/APKINDEX\.tar\.gz is not on the mirror"):
        supply.repository(RepositoryChoice("tests"), "3.22", X86).index()


def test_the_key_of_a_repository_counts_for_it_alone(store: Store, world: World) -> None:
    supply = make_supply(store, world.root)
    with pytest.raises(SignatureError):
        supply.repository(RepositoryChoice("main"), "3.22", X86).index()
    own = RepositoryChoice("mine", url=str(world.mirror / "v3.22/main"), key=str(world.key_file))
    assert supply.repository(own, "3.22", X86).index().find("bash")
    with pytest.raises(SignatureError):
        supply.repository(RepositoryChoice("community"), "3.22", X86).index()
    missing = RepositoryChoice("mine", url=str(world.mirror / "v3.22/main"), key="/nowhere/key.rsa.pub")
    with pytest.raises(UsageError, match=r"key of repository 'mine': /nowhere/key\.rsa\.pub"):
        supply.repository(missing, "3.22", X86)
