"""Package repositories: verified indexes, verified packages, and what the store remembers of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sixsmith.apk.index import PackageRecord
from sixsmith.apk.signature import Keyring
from sixsmith.errors import DigestMismatch, FetchError, FormatError, SignatureError, VerificationError
from sixsmith.events import Event, Fetched, Warned
from sixsmith.io.http import Http
from sixsmith.io.mirror import Mirror
from sixsmith.io.repository import PackageRepository, fetch_packages
from sixsmith.io.store import BlobDamaged, Store
from sixsmith.rootfs.sources import GzipSource, InflatedCache
from sixsmith.testing.keys import SigningKey, sample_key
from sixsmith.testing.packages import SamplePackage, make_apk
from sixsmith.testing.repository import make_repository

KEY = sample_key()
HELLO = make_apk("hello", "1.0-r0", files={"usr/bin/hello": b"#!/bin/sh\necho hello\n"}, key=KEY)
WORLD = make_apk("world", "2.0-r3", files={"usr/share/world": b"w" * 5000}, depends=["hello"], key=KEY)
FOLDER = "v3.22/main/x86_64"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    make_repository(tmp_path / "mirror", "3.22", "main", "x86_64", [HELLO, WORLD], KEY)
    return tmp_path / "mirror"


def repository(mirror: Path, *, keys: SigningKey | None = KEY, heard: list[Event] | None = None) -> PackageRepository:
    keyring = Keyring({keys.name: keys.public}) if keys is not None else None
    listen = heard.append if heard is not None else lambda event: None
    return PackageRepository(
        "main",
        Mirror(str(mirror), Http(offline=True)),
        FOLDER,
        f"{mirror}/v3.22/main",
        keyring=keyring,
        reporter=listen,
    )


def record(repo: PackageRepository, name: str) -> PackageRecord:
    (found,) = repo.index().find(name)
    return found


def package_file(mirror: Path, package: SamplePackage) -> Path:
    return mirror / FOLDER / f"{package.name}-{package.version}.apk"


def rewritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)


# ---- indexes


def test_an_index_is_verified_and_read_once(mirror: Path) -> None:
    repo = repository(mirror)
    index = repo.index()
    assert record(repo, "world").version == "2.0-r3"
    (mirror / FOLDER / "APKINDEX.tar.gz").unlink()
    assert repo.index() is index


def test_an_index_with_a_flipped_bit(mirror: Path) -> None:
    path = mirror / FOLDER / "APKINDEX.tar.gz"
    raw = bytearray(path.read_bytes())
    raw[-20] ^= 1
    rewritten(path, bytes(raw))
    with pytest.raises(VerificationError, match=r"v3\.22/main/x86_64/APKINDEX\.tar\.gz"):
        repository(mirror).index()


def test_an_index_signed_by_somebody_else(mirror: Path) -> None:
    with pytest.raises(SignatureError, match=r"signed by sample@.*, which is not trusted here"):
        repository(mirror, keys=SigningKey.generate("another.rsa.pub")).index()


def test_an_unsigned_index(tmp_path: Path) -> None:
    make_repository(tmp_path, "3.22", "main", "x86_64", [HELLO], None)
    with pytest.raises(SignatureError, match="not signed"):
        repository(tmp_path).index()


def test_without_a_keyring_it_is_said_that_nobody_looked(mirror: Path) -> None:
    heard: list[Event] = []
    repo = repository(mirror, keys=None, heard=heard)
    repo.index()
    repo.index()
    warnings = [event.message for event in heard if isinstance(event, Warned)]
    assert len(warnings) == 1 and "signature not checked" in warnings[0]


def test_no_index(mirror: Path) -> None:
    (mirror / FOLDER / "APKINDEX.tar.gz").unlink()
    with pytest.raises(FetchError, match=r"v3\.22/main/x86_64/APKINDEX\.tar\.gz is not on the mirror"):
        repository(mirror).index()


# ---- packages


def test_a_package_is_fetched_once(mirror: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    repo = repository(mirror)
    with Store(tmp_path / "store") as store:
        first = repo.fetch(record(repo, "hello"), store, cell="one", reporter=heard.append)
        package_file(mirror, HELLO).unlink()
        second = repo.fetch(record(repo, "hello"), store, cell="one", reporter=heard.append)
        assert [(event.name, event.cached) for event in heard if isinstance(event, Fetched)] == [
            ("hello-1.0-r0.apk", False),
            ("hello-1.0-r0.apk", True),
        ]
        assert [entry.path for entry in first.entries] == [entry.path for entry in second.entries]
        assert first.control.info.name == second.control.info.name == "hello"
        assert first.data_size == second.data_size > 0
        assert second.source is not None and b"echo hello" in second.source.inflate()
        assert store.verify() == []


def test_the_data_segment_in_the_store_is_a_layer(mirror: Path, tmp_path: Path) -> None:
    """Byte for byte what the package's author compressed."""
    repo = repository(mirror)
    with Store(tmp_path / "store") as store:
        package = repo.fetch(record(repo, "hello"), store)
        assert package.source is not None
        blobs = [path.read_bytes() for path in (tmp_path / "store/blobs/sha256").iterdir()]
        (data,) = [blob for blob in blobs if HELLO.data.endswith(blob)]
        assert gzip.decompress(data) == package.source.inflate()


@pytest.mark.parametrize("where", [0.02, 0.2, 0.5, 0.8, 0.99])
def test_a_package_with_a_flipped_bit(mirror: Path, tmp_path: Path, where: float) -> None:
    path = package_file(mirror, WORLD)
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * where)] ^= 4
    rewritten(path, bytes(raw))
    repo = repository(mirror)
    with Store(tmp_path / "store") as store:
        with pytest.raises(VerificationError, match=r"world-2\.0-r3\.apk"):
            repo.fetch(record(repo, "world"), store)
        assert list((tmp_path / "store/blobs/sha256").iterdir()) == []


def test_a_package_of_another_size(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    with Store(tmp_path / "store") as store:
        rewritten(package_file(mirror, WORLD), WORLD.data + b"\0")
        with pytest.raises(VerificationError, match=f"{len(WORLD.data) + 1} bytes, the index says {len(WORLD.data)}"):
            repo.fetch(record(repo, "world"), store)
        rewritten(package_file(mirror, WORLD), WORLD.data[:-30])
        with pytest.raises(VerificationError, match="the index says"):
            repo.fetch(record(repo, "world"), store)


def test_one_package_under_the_name_of_another(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    wanted = record(repo, "world")
    rewritten(package_file(mirror, WORLD), HELLO.data)
    with Store(tmp_path / "store") as store, pytest.raises(VerificationError, match=r"world-2\.0-r3\.apk"):
        repo.fetch(wanted, store)


def test_a_package_that_calls_itself_something_else(tmp_path: Path) -> None:
    """The index names a checksum of a package that says that it is another one."""
    liar = make_apk("liar", "1.0-r0", files={"a": b"a"}, key=KEY)
    made = make_repository(tmp_path, "3.22", "main", "x86_64", [liar], KEY)
    assert made
    repo = repository(tmp_path)
    promised = record(repo, "liar")
    promised.name = "honest"
    (tmp_path / FOLDER / "honest-1.0-r0.apk").write_bytes(liar.data)
    with (
        Store(tmp_path / "store") as store,
        pytest.raises(FormatError, match=r"holds liar-1\.0-r0, the index promises honest"),
    ):
        repo.fetch(promised, store)


def test_a_package_that_is_not_there(mirror: Path, tmp_path: Path) -> None:
    package_file(mirror, HELLO).unlink()
    repo = repository(mirror)
    with (
        Store(tmp_path / "store") as store,
        pytest.raises(FetchError, match=r"v3\.22/main/x86_64/hello-1\.0-r0\.apk is not"),
    ):
        repo.fetch(record(repo, "hello"), store)


def test_what_the_store_lost_is_fetched_again(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    with Store(tmp_path / "store") as store:
        repo.fetch(record(repo, "hello"), store)
        for path in (tmp_path / "store/records").rglob("*"):
            if path.is_file():
                path.chmod(0o644)
                path.write_bytes(b"damaged")
        again = repo.fetch(record(repo, "hello"), store)
        assert again.source is not None and b"echo hello" in again.source.inflate()
        for path in (tmp_path / "store/blobs/sha256").iterdir():
            path.unlink()
        again = repo.fetch(record(repo, "hello"), store)
        assert again.source is not None and b"echo hello" in again.source.inflate()
        assert store.verify() == []


def test_a_whole_package_is_put_together_again(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    with Store(tmp_path / "store") as store:
        repo.fetch(record(repo, "world"), store)
        package_file(mirror, WORLD).unlink()
        assert repo.whole("world", "2.0-r3", WORLD.checksum, len(WORLD.data), store) == WORLD.data


def test_packages_in_parallel_and_the_first_error(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    wanted = [(record(repo, name), repo) for name in ("hello", "world")]
    with Store(tmp_path / "store") as store:
        assert fetch_packages([], store) == {}
        assert set(fetch_packages(wanted, store, jobs=7)) == {"hello", "world"}
    package_file(mirror, WORLD).write_bytes(b"nothing of the kind")
    with Store(tmp_path / "other") as store:
        with pytest.raises((DigestMismatch, FormatError), match=r"world-2\.0-r3\.apk"):
            fetch_packages(wanted, store, jobs=1)
        assert store.verify() == []


# ---- small data, in packs


def test_small_data_gathers_in_a_pack(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    with Store(tmp_path / "store") as store, store.gathering():
        first = repo.fetch(record(repo, "world"), store)
        assert list((store.root / "blobs/sha256").iterdir()) == []
    package_file(mirror, WORLD).unlink()
    with Store(tmp_path / "store") as store:
        found = repo.fetch(record(repo, "world"), store)
        assert found.entries == first.entries
        assert isinstance(found.source, GzipSource)
        fresh = GzipSource(found.source.digest, found.source.raw, cache=InflatedCache())
        assert b"w" * 5000 in bytes(fresh.inflate())
        assert repo.whole("world", WORLD.version, WORLD.checksum, len(WORLD.data), store) == WORLD.data


def test_a_layer_is_a_file(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    with Store(tmp_path / "store") as store, store.gathering():
        found = fetch_packages([(record(repo, name), repo) for name in ("hello", "world")], store, as_layers=["world"])
        assert store.has(found["world"].source.digest)
        assert not store.has(found["hello"].source.digest)
        assert store.record("diff-id", found["world"].source.digest) is not None


def test_damaged_data_in_a_pack_is_fetched_again(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    with Store(tmp_path / "store") as store, store.gathering():
        digest = repo.fetch(record(repo, "world"), store).source.digest
    (pack,) = (tmp_path / "store/packs").iterdir()
    with Store(tmp_path / "store") as store:
        data = store.find_in_pack(digest)
    raw = bytearray(pack.read_bytes())
    raw[raw.index(bytes(data)) + len(data) // 2] ^= 1
    pack.write_bytes(raw)
    with Store(tmp_path / "store") as store:
        found = repo.fetch(record(repo, "world"), store)
        with pytest.raises(BlobDamaged):
            found.source.raw()
        assert repo.whole("world", WORLD.version, WORLD.checksum, len(WORLD.data), store) == WORLD.data
        assert repo.fetch(record(repo, "world"), store).source.raw() == data


def test_a_store_of_an_older_release_keeps_data_as_blobs(mirror: Path, tmp_path: Path) -> None:
    repo = repository(mirror)
    with Store(tmp_path / "store") as store:
        repo.fetch(record(repo, "world"), store)  # nothing gathers: as a blob, as ever
        assert len(list((store.root / "blobs/sha256").iterdir())) == 1
    package_file(mirror, WORLD).unlink()
    with Store(tmp_path / "store") as store, store.gathering():
        found = repo.fetch(record(repo, "world"), store)
        assert found.source.raw() == store.read(found.source.digest)
