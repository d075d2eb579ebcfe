"""The store: what is written is what is read, and damage is noticed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sixsmith.errors import DigestMismatch, FormatError, StoreError
from sixsmith.io.store import BlobMissing, Store
from sixsmith.model.digest import Digest, digest_of, hex_of

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put_image(store: Store, *layers: bytes) -> Digest:
    """An index of one manifest with these layers; returns the index's digest."""
    config = store.put(b'{"config":' + str(len(layers)).encode() + b"}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"digest": config, "size": store.size(config)},
        "layers": [{"digest": store.put(layer), "size": len(layer)} for layer in layers],
    }
    digest = store.put(json.dumps(manifest).encode())
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": digest, "size": store.size(digest)}]}
    return store.put(json.dumps(index).encode())


def damage(store: Store, digest: Digest) -> None:
    path = store.path(digest)
    path.chmod(0o644)
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


def age(path: Path) -> None:
    os.utime(path, (1_000_000, 1_000_000))


def test_a_blob_is_found_by_its_digest(store: Store) -> None:
    digest = store.put(b"hello")
    assert digest == digest_of(b"hello")
    assert store.has(digest)
    assert store.size(digest) == 5
    assert store.read(digest) == b"hello"
    with store.open(digest) as file:
        assert file.read() == b"hello"


def test_the_store_is_an_oci_image_layout(store: Store) -> None:
    digest = put_image(store, b"layer")
    store.keep_root("web:1", digest)
    assert json.loads((store.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((store.root / "index.json").read_text())
    assert index["mediaType"] == INDEX
    assert index["manifests"] == [
        {
            "mediaType": INDEX,
            "digest": digest,
            "size": store.size(digest),
            "annotations": {"org.opencontainers.image.ref.name": "web:1"},
        }
    ]
    assert (store.root / "blobs" / "sha256" / hex_of(digest)).read_bytes() == store.read(digest)


def test_a_written_blob_appears_only_at_commit(store: Store) -> None:
    with store.writer() as writer:
        writer.write(b"hel")
        writer.write(memoryview(b"lo"))
        assert not store.has(digest_of(b"hello"))
        assert writer.commit() == (digest_of(b"hello"), 5)
    assert store.read(digest_of(b"hello")) == b"hello"
    assert list((store.root / "tmp").iterdir()) == []


def test_a_wrong_digest_at_commit_leaves_nothing(store: Store) -> None:
    with pytest.raises(DigestMismatch), store.writer() as writer:
        writer.write(b"hello")
        writer.commit(digest_of(b"goodbye"))
    assert list((store.root / "blobs" / "sha256").iterdir()) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_an_exception_while_writing_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.writer() as writer:
        writer.write(b"hello")
        raise RuntimeError
    assert list((store.root / "tmp").iterdir()) == []
    assert store.du() == {"images": 0, "cache": 0, "records": 0, "temporary": 0}


def test_a_writer_can_begin_anew(store: Store) -> None:
    with store.writer() as writer:
        writer.write(b"x" * 600_000)
        writer.restart()
        writer.write(b"hello")
        assert writer.commit() == (digest_of(b"hello"), 5)
    assert store.read(digest_of(b"hello")) == b"hello"


def test_the_blob_that_is_there_stays(store: Store) -> None:
    digest = store.put(b"hello")
    before = store.path(digest).stat().st_ino
    with store.writer() as writer:
        writer.write(b"hello")
        writer.commit()
    store.put(b"hello")
    assert store.path(digest).stat().st_ino == before


def test_a_blob_of_the_wrong_size_is_replaced(store: Store) -> None:
    digest = store.put(b"hello")
    store.path(digest).unlink()
    store.path(digest).write_bytes(b"hel")
    store.put(b"hello")
    assert store.read(digest) == b"hello"


def test_a_damaged_blob_is_noticed_and_removed(store: Store) -> None:
    digest = store.put(b"hello")
    damage(store, digest)
    with pytest.raises(DigestMismatch, match="damaged"):
        store.read(digest)
    assert not store.has(digest)
    assert store.find(digest) is None
    with pytest.raises(BlobMissing):
        store.read(digest)
    store.put(b"hello")
    assert store.find(digest) == b"hello"


def test_a_missing_blob_is_named(store: Store) -> None:
    digest = digest_of(b"nothing")
    for ask in (store.read, store.size, store.open, lambda d: store.lay(d, store.root / "x")):
        with pytest.raises(BlobMissing, match=digest):
            ask(digest)


@pytest.mark.parametrize("name", ["sha256:../../etc/passwd", "sha256:ABC", "md5:" + "0" * 32, ""])
def test_what_is_no_digest_is_no_path(store: Store, name: str) -> None:
    with pytest.raises(FormatError):
        store.has(Digest(name))


def test_lay_puts_the_blob_elsewhere(store: Store, tmp_path: Path) -> None:
    digest = store.put(b"hello")
    target = tmp_path / "dist" / "blobs" / "sha256" / hex_of(digest)
    store.lay(digest, target)
    store.lay(digest, target)
    assert target.read_bytes() == b"hello"
    assert [path.name for path in target.parent.iterdir()] == [hex_of(digest)]


def test_lay_copies_where_links_do_not_go(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    store.lay(store.put(b"hello"), tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"hello"


# ---- records


def test_a_record_is_read_back(store: Store) -> None:
    assert store.record("diff-id", "abc") is None
    store.keep("diff-id", "abc", b"one")
    store.keep("diff-id", "abc", b"two")
    assert store.record("diff-id", "abc") == b"two"
    assert store.record("other", "abc") is None


@pytest.mark.parametrize("key", ["../../x", "a/b", "x" * 300, "ünï", "", ".hidden", "nul\0"])
def test_any_text_is_a_key(store: Store, key: str) -> None:
    store.keep("kind", key, b"fact")
    assert store.record("kind", key) == b"fact"
    assert store.verify() == []
    assert [path.parent for path in store.root.glob("records/*/*")] == [store.root / "records" / "kind"]


@pytest.mark.parametrize("position", [0, 31, 33, 40, -1])
def test_a_damaged_record_is_absent(store: Store, position: int) -> None:
    store.keep("kind", "key", b"a fact")
    (path,) = store.root.glob("records/*/*")
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    assert store.record("kind", "key") is None
    assert [found.kind for found in store.verify()] == ["record"]
    store.keep("kind", "key", b"a fact")
    assert store.record("kind", "key") == b"a fact"


def test_a_truncated_or_misplaced_record_is_absent(store: Store) -> None:
    store.keep("kind", "one", b"a fact")
    folder = store.root / "records" / "kind"
    (folder / "two").write_bytes((folder / "one").read_bytes())
    (folder / "one").write_bytes(b"")
    assert store.record("kind", "one") is None
    assert store.record("kind", "two") is None


# ---- roots, gc, verify


def test_roots_are_kept_moved_and_dropped(store: Store) -> None:
    one, two = put_image(store, b"one"), put_image(store, b"two", b"three")
    store.keep_roots({"a:1": one, "b:1": one})
    store.keep_root("a:1", two)
    assert store.roots() == {"a:1": two, "b:1": one}
    store.drop_root("b:1")
    store.drop_root("never:was")
    assert Store(store.root).roots() == {"a:1": two}


def test_only_manifests_that_are_there_can_be_roots(store: Store) -> None:
    with pytest.raises(FormatError):
        store.keep_root("x", store.put(b"a layer"))
    with pytest.raises(BlobMissing):
        store.keep_root("x", digest_of(b"nothing"))
    assert store.roots() == {}


def test_gc_removes_what_no_root_needs(store: Store) -> None:
    kept, lost = put_image(store, b"shared", b"kept"), put_image(store, b"shared", b"lost", b"more")
    store.keep_root("kept:1", kept)
    waste = {digest_of(b"lost"), digest_of(b"more"), lost}
    freed = store.gc()
    assert freed > sum(map(len, (b"lost", b"more")))
    assert not any(store.has(digest) for digest in waste)
    assert store.has(digest_of(b"shared"))
    assert store.verify() == []
    assert store.gc() == 0


def test_gc_keeps_what_was_used_since(store: Store) -> None:
    young, mentioned, old = store.put(b"young"), store.put(b"mentioned"), store.put(b"old")
    store.keep("layer", "fresh", b"see " + mentioned.encode())
    store.keep("layer", hex_of(old), b"was useful once")
    age(store.path(mentioned))
    age(store.path(old))
    age(store.root / "records" / "layer" / hex_of(old))
    store.gc(before=2_000_000)
    assert store.has(young) and store.has(mentioned) and not store.has(old)
    assert store.record("layer", "fresh") is not None
    assert store.record("layer", hex_of(old)) is None


def test_gc_follows_the_manifest_that_a_record_mentions(store: Store) -> None:
    index = put_image(store, b"layer")
    store.keep("plan", "id", index.encode())
    for path in (store.root / "blobs" / "sha256").iterdir():
        age(path)
    store.gc(before=2_000_000)
    assert store.has(digest_of(b"layer"))


def test_gc_refuses_while_another_build_is_on(store: Store) -> None:
    store.put(b"unrooted")
    with Store(store.root), pytest.raises(StoreError, match="in use"):
        store.gc()
    assert store.gc() == len(b"unrooted")


def test_verify_names_what_is_damaged(store: Store) -> None:
    store.keep_root("web:1", put_image(store, b"one", b"two"))
    assert store.verify() == []
    damage(store, digest_of(b"one"))
    store.discard(digest_of(b"two"))
    assert [(found.kind, found.name) for found in store.verify(remove=True)] == [
        ("blob", digest_of(b"one")),
        ("missing", digest_of(b"two")),
    ]
    assert not store.has(digest_of(b"one"))


def test_verify_says_when_the_index_is_damaged(store: Store) -> None:
    (store.root / "index.json").write_text("{")
    assert [found.kind for found in store.verify()] == ["root"]
    with pytest.raises(StoreError, match=r"index\.json is damaged"):
        store.roots()


def test_du_counts_by_kind(store: Store) -> None:
    store.keep_root("web:1", put_image(store, b"needed"))
    store.put(b"cached!")
    store.keep("kind", "key", b"fact")
    sizes = store.du()
    assert sizes["cache"] == 7
    assert sizes["images"] > 6
    assert sizes["records"] == sum(path.stat().st_size for path in store.root.glob("records/*/*"))


def test_leftovers_are_swept_when_nobody_else_is_here(store: Store) -> None:
    leftover = store.root / "tmp" / "4711-dead"
    leftover.write_bytes(b"half a blob")
    Store(store.root)
    assert leftover.exists(), "another store is open: it may be its own"
    store.close()
    Store(store.root)
    assert not leftover.exists()


# ---- a disk that does not want it


class FullDisk:
    """A file on a disk with no room."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: FullDisk(opened(self, *a, **k)))
    monkeypatch.setattr(os, "writev", refuse)
    with pytest.raises(StoreError, match="the disk is full") as caught:
        store.put(b"hello")
    assert "--store" in (caught.value.hint or "")
    with pytest.raises(StoreError, match="the disk is full"), store.writer() as writer:
        writer.write(b"hello")
    with pytest.raises(StoreError, match="the disk is full"):
        store.keep("kind", "key", b"fact")
    monkeypatch.undo()
    assert list((store.root / "tmp").iterdir()) == []
    assert store.verify() == [] and not store.has(digest_of(b"hello"))


def test_a_disk_that_fails_at_the_sync_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        store.put(b"hello")
    assert not store.has(digest_of(b"hello"))
    assert list((store.root / "tmp").iterdir()) == []


def test_a_place_that_is_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open"):
        Store(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store_can_be_read(store: Store) -> None:
    digest = store.put(b"hello")
    store.close()
    folders = [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        again = Store(store.root)
        assert again.read(digest) == b"hello"
        with pytest.raises(StoreError, match="permission denied"):
            again.put(b"other")
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_blob_that_is_put_again_replaces_a_damaged_one_of_its_size(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for again in (lambda: store.put(b"whole"), lambda: _write_again(store)):
            digest = store.put(b"whole")
            store.discard(digest)
            store.path(digest).write_bytes(b"whale")
            again()
            assert store.read(digest) == b"whole"


def _write_again(store: Store) -> None:
    with store.writer() as writer:
        writer.write(b"whole")
        writer.commit()


def test_a_blob_that_becomes_part_of_an_image_is_synced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    small, layer, again = (store.put(blob, durable=False) for blob in (b"small", b"layer", b"again"))
    assert synced == []
    store.check([layer])
    store.put(b"again")
    assert len(synced) == 2
    store.check([layer, again])
    assert len(synced) == 2
    assert store.find(small) == b"small"


def test_a_blob_is_looked_at_once_and_again_when_it_was_written_or_removed(store: Store) -> None:
    digest = digest_of(b"looked at")
    assert store.stamp(digest) is None
    store.put(b"looked at")
    first = store.stamp(digest)
    assert first is not None and first[0] == 9
    path = store.path(digest)
    os.utime(path, ns=(1, 1))
    assert store.stamp(digest) == first
    with Store(store.root) as other:
        assert other.stamp(digest) == (9, 1)
    path.chmod(0o644)
    path.write_bytes(b"some other bytes")
    store.put(b"looked at")
    assert store.stamp(digest) not in (None, first, (9, 1))
    path.chmod(0o644)
    path.write_bytes(b"look")
    store.verify(remove=True)
    assert store.stamp(digest) is None
    with store.writer() as writer:
        writer.write(b"looked at")
        writer.commit()
    assert store.stamp(digest) is not None
    store.discard(digest)
    assert store.stamp(digest) is None
