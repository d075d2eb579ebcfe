"""Facts that gather while a build goes on, and the files that hold many of them."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from sixsmith.errors import StoreError
from sixsmith.io import packs
from sixsmith.io.packs import _MANY, Fact, render_pack
from sixsmith.io.records import seal_record
from sixsmith.io.store import BlobDamaged, Store
from sixsmith.model.digest import Digest, digest_of, hex_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def packs_of(store: Store) -> list[Path]:
    folder = store.root / "packs"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def gather(store: Store, facts: dict[str, bytes], kind: str = "diff-id") -> None:
    with store.gathering():
        for key, payload in facts.items():
            store.keep(kind, key, payload)


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def grow_old(store: Store) -> None:
    """Every record in a pack was last used in January 1970."""
    for path in packs_of(store):
        (pack,) = [pack for pack in store._packs.all() if pack.path == str(path)]
        path.write_bytes(render_pack([msgspec.structs.replace(fact, used=1_000_000) for fact in pack.facts]))


def test_facts_gather_and_are_written_together(store: Store) -> None:
    with store.gathering():
        store.keep("diff-id", "a", b"one")
        store.keep("member", "b", b"two")
        assert store.record("diff-id", "a") == b"one"  # known before it is written
        assert packs_of(store) == []
    assert len(packs_of(store)) == 1
    assert not list(store.root.glob("records/*/*"))
    with Store(store.root) as other:
        assert other.record("diff-id", "a") == b"one"
        assert other.record("member", "b") == b"two"
        assert other.record("member", "a") is None
    assert store.verify() == []
    assert store.du()["records"] == packs_of(store)[0].stat().st_size


def test_what_does_not_last_or_was_dear_stands_alone_at_once(store: Store) -> None:
    with store.gathering():
        store.keep("pin", "file", b"sha256:0")
        store.keep("package", "dear", b"came over a network", at_once=True)
        assert {path.parent.name for path in store.root.glob("records/*/*")} == {"pin", "package"}
    assert packs_of(store) == []
    assert store.record("package", "dear") == b"came over a network"


def test_an_error_does_not_lose_what_is_true_all_the_same(store: Store) -> None:
    with pytest.raises(RuntimeError), store.gathering():
        store.keep("diff-id", "a", b"one")
        raise RuntimeError
    with Store(store.root) as other:
        assert other.record("diff-id", "a") == b"one"


def test_an_error_is_not_hidden_by_a_disk_that_is_full(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sixsmith.io.store._write_whole", refuse)
    with Store(store.root) as full, pytest.raises(RuntimeError, match="the first"), full.gathering():
        full.keep("diff-id", "a", b"one")
        raise RuntimeError("the first")
    with Store(store.root) as full, pytest.raises(StoreError, match="disk is full"), full.gathering():
        full.keep("diff-id", "a", b"one")


def test_a_store_that_can_only_be_read_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gather(store, {"a": b"one"})
    grow_old(store)
    monkeypatch.setattr("sixsmith.io.store._write_whole", refuse)
    with Store(store.root) as other, other.gathering():
        assert other.record("diff-id", "a") == b"one"


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("damage", [b"", b"x" * 100], ids=["empty", "wrong"])
def test_a_damaged_record_of_its_own_does_not_hide_what_replaces_it(store: Store, damage: bytes) -> None:
    store.keep("diff-id", "a", b"one")
    store.record_file("diff-id", "a").write_bytes(damage)
    with Store(store.root) as other, other.gathering():
        assert other.record("diff-id", "a") is None
        other.keep("diff-id", "a", b"one")
    assert store.record("diff-id", "a") == b"one"


def test_a_fact_kept_anew_wins(store: Store) -> None:
    gather(store, {"a": b"old"})
    gather(store, {"a": b"new"})
    with Store(store.root) as other:
        assert other.record("diff-id", "a") == b"new"
        other.keep("diff-id", "a", b"newest")  # not gathered: a file of its own
        assert other.record("diff-id", "a") == b"newest"


def test_many_packs_become_one(store: Store) -> None:
    for number in range(3 * _MANY):
        gather(store, {f"key {number}": bytes([number]) * 100, "common": bytes([number])})
        assert len(packs_of(store)) <= _MANY + 1
    with Store(store.root) as other:
        assert [other.record("diff-id", f"key {number}") for number in range(3 * _MANY)] == [
            bytes([number]) * 100 for number in range(3 * _MANY)
        ]
        assert other.record("diff-id", "common") == bytes([3 * _MANY - 1])


def test_an_old_fact_stays_old_when_its_pack_is_merged(store: Store) -> None:
    """Packs are merged by size, so an older small one may become part of the newest, past a larger one between them."""
    gather(store, {"a": b"old"})
    gather(store, {"a": b"new", **{f"large {number}": bytes(200_000) for number in range(5)}})
    for number in range(2 * _MANY):
        gather(store, {f"key {number}": b"x"})
        assert store.record("diff-id", "a") == b"new"
    with Store(store.root) as other:
        assert other.record("diff-id", "a") == b"new"
        assert other.record("diff-id", "key 0") == b"x"


def test_a_pack_that_another_process_mended_is_seen_after_a_check(store: Store) -> None:
    gather(store, {"a": b"fact", "b": b"other"})
    (pack,) = packs_of(store)
    whole = pack.read_bytes()
    pack.chmod(0o644)
    pack.write_bytes(whole.replace(b"fact", b"FACT"))
    with Store(store.root) as here:
        assert here.record("diff-id", "a") is None
        pack.unlink()
        pack.write_bytes(whole)  # the same name, another file
        assert list(here.verify(remove=True)) == []
        assert here.record("diff-id", "a") == b"fact"


def test_files_stay_few_in_a_long_build(store: Store) -> None:
    """Neither packs nor descriptors pile up, however little each flush has to write."""
    store.record("diff-id", "a")
    before = open_files()
    with store.gathering():
        for number in range(20 * _MANY):
            store.keep("diff-id", f"key {number}", b"x")
            store.flush()
            assert open_files() <= before + 2 * _MANY
        assert store.record("diff-id", "key 0") == b"x"


def test_packs_that_are_merged_by_two_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(_MANY):
        gather(store, {f"key {number}": b"x"})
    with Store(store.root) as one, Store(store.root) as other:
        places = packs._places

        def look(path: str, opened: ExitStack) -> dict[tuple[str, str], packs._Place]:
            monkeypatch.setattr(packs, "_places", places)
            gather(other, {"other": b"x"})  # merges them all while the first one is about to
            return places(path, opened)

        monkeypatch.setattr(packs, "_places", look)
        gather(one, {"one": b"x"})
    for key in ("one", "other", *(f"key {number}" for number in range(_MANY))):
        with Store(store.root) as late:
            assert late.record("diff-id", key) == b"x"


def test_a_pack_that_is_merged_away_while_it_is_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(_MANY):
        gather(store, {f"key {number}": b"x"})
    files = packs.Packs._files

    def list_and_merge(self: packs.Packs) -> list[tuple[str, int]]:
        found = files(self)
        monkeypatch.setattr(packs.Packs, "_files", files)
        gather(store, {"other": b"x"})
        return found

    with Store(store.root) as other:
        monkeypatch.setattr(packs.Packs, "_files", list_and_merge)
        assert all(other.record("diff-id", f"key {number}") for number in range(_MANY))


def test_builds_beside_each_other_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sixsmith.io.store import Store\n"
        "for turn in range(60):\n"
        "    with Store(Path(sys.argv[1])) as store, store.gathering():\n"
        "        for number in range(3): store.keep('diff-id', f'{sys.argv[2]}-{turn}-{number}', b'x')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    children = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    with Store(tmp_path) as store:
        keys = [f"{child}-{turn}-{number}" for child in range(4) for turn in range(60) for number in range(3)]
        assert [key for key in keys if store.record("diff-id", key) is None] == []
        assert store.verify() == []


def test_what_cannot_be_read_is_absent_and_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(_MANY):
        gather(store, {f"key {number}": b"x"})
    theirs = packs_of(store)[0]
    opened = os.open

    def refuse_theirs(path: str, *arguments: int, **options: int) -> int:
        if str(path) == str(theirs):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *arguments, **options)

    monkeypatch.setattr("os.open", refuse_theirs)
    with Store(store.root) as other:
        gather(other, {"mine": b"x"})
        assert len(packs_of(store)) == 2
        found = [number for number in range(_MANY) if other.record("diff-id", f"key {number}") is not None]
        assert len(found) == _MANY - 1
    monkeypatch.undo()
    with Store(store.root) as other:
        assert all(other.record("diff-id", f"key {number}") for number in range(_MANY))


def test_no_folder_where_packs_should_be(store: Store) -> None:
    (store.root / "packs").write_bytes(b"")
    assert store.record("diff-id", "a") is None


def test_what_replaces_packs_is_synced_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    for number in range(_MANY):
        gather(store, {f"key {number}": b"x"})
    assert synced == []
    gather(store, {"last": b"x"})
    assert len(synced) == 1


@pytest.mark.parametrize("sizes", [[-1], [1 << 40], [1 << 63], [5, -100, 7]])
def test_an_index_that_claims_too_much(store: Store, sizes: list[int]) -> None:
    index = msgspec.msgpack.encode([("diff-id", f"key {number}", 0, size) for number, size in enumerate(sizes)])
    folder = store.root / "packs"
    folder.mkdir()
    front = packs._MAGIC + len(index).to_bytes(8, "little") + hashlib.sha256(index).digest()
    (folder / "made").write_bytes(front + index + bytes(20))
    assert store.record("diff-id", "key 0") is None
    assert [found.name for found in store.verify()] == ["packs/made"]
    gather(store, {"a": b"one"})
    assert store.record("diff-id", "a") == b"one"


def test_a_large_record_stands_alone(store: Store) -> None:
    gather(store, {"large": bytes(1 << 20), "small": b"x"})
    assert [path.name for path in store.root.glob("records/*/*")] == ["large"]
    assert len(packs_of(store)) == 1


def test_a_big_pack_is_not_written_again_for_small_ones(store: Store) -> None:
    gather(store, {f"big {number}": bytes(10_000) for number in range(50)})
    (big,) = packs_of(store)
    for number in range(2 * _MANY):
        gather(store, {f"key {number}": b"small"})
    assert big in packs_of(store)


def test_a_reader_keeps_what_another_process_merges_away(store: Store) -> None:
    gather(store, {"a": b"one"})
    with Store(store.root) as reader:
        assert reader.record("diff-id", "a") == b"one"
        for path in packs_of(store):
            path.unlink()
        assert reader.record("diff-id", "a") == b"one"
    with Store(store.root) as late:
        assert late.record("diff-id", "a") is None


def test_a_damaged_record_is_absent_and_the_others_are_not(store: Store) -> None:
    gather(store, {"a": b"one", "b": b"two"})
    (path,) = packs_of(store)
    flip(path, -1)
    with Store(store.root) as other:
        assert other.record("diff-id", "a") == b"one"
        assert other.record("diff-id", "b") is None
        assert [(found.kind, found.name) for found in other.verify(remove=True)] == [("record", "diff-id/b")]
        assert other.verify() == []
        assert other.record("diff-id", "a") == b"one"


@pytest.mark.parametrize("position", [0, 17, 30, 60], ids=["magic", "length", "checksum", "index"])
def test_a_pack_with_a_damaged_front_is_as_good_as_none(store: Store, position: int) -> None:
    gather(store, {"a": b"one"})
    (path,) = packs_of(store)
    flip(path, position)
    with Store(store.root) as other:
        assert other.record("diff-id", "a") is None
        assert [found.name for found in other.verify()] == [f"packs/{path.name}"]
        other.verify(remove=True)
        assert packs_of(store) == []
        gather(other, {"a": b"one"})
        assert other.record("diff-id", "a") == b"one"


@pytest.mark.parametrize("size", [0, 10, 60, -1])
def test_a_truncated_pack(store: Store, size: int) -> None:
    gather(store, {"a": b"one"})
    (path,) = packs_of(store)
    path.write_bytes(path.read_bytes()[:size])
    with Store(store.root) as other:
        assert other.record("diff-id", "a") is None
        assert len(other.verify()) == 1


def test_a_record_under_another_ones_name_is_absent(store: Store) -> None:
    folder = store.root / "packs"
    folder.mkdir()
    (folder / "made").write_bytes(render_pack([Fact("diff-id", "a", 0, seal_record("diff-id", "b", b"x"))]))
    assert store.record("diff-id", "a") is None


class TestContent:
    """Small blobs that are kept in packs."""

    def test_it_gathers_with_the_facts(self, store: Store) -> None:
        blob = b"data of a package"
        digest = digest_of(blob)
        assert not store.put_in_pack(blob, digest)  # nothing is gathering
        with store.gathering():
            assert store.put_in_pack(memoryview(blob), digest)
            store.keep("package", "a", digest.encode())
            assert store.find_in_pack(digest) == blob
        assert len(packs_of(store)) == 1
        with Store(store.root) as other:
            assert other.has_in_pack(digest) and other.find_in_pack(digest) == blob
            assert not other.has(digest)
            assert not other.has_in_pack(digest_of(b"another"))
            assert other.find_in_pack(digest_of(b"another")) is None
            assert other.verify() == []
            assert other.du()["cache"] == len(blob)
            assert other.du()["records"] == packs_of(store)[0].stat().st_size - len(blob)

    def test_it_is_written_before_what_names_it(self, store: Store) -> None:
        """However much gathers between the two."""
        blobs = [bytes([number]) * 200_000 for number in range(30)]
        with store.gathering():
            for number, blob in enumerate(blobs):
                assert store.put_in_pack(blob, digest_of(blob))
                store.keep("package", str(number), b"")
                with Store(store.root) as other:  # what a build would leave that was killed now
                    known = [each for each in range(number + 1) if other.record("package", str(each)) is not None]
                    assert all(other.find_in_pack(digest_of(blobs[each])) == blobs[each] for each in known)
        assert len(packs_of(store)) == 3  # what gathers does not fill the memory

    def test_a_large_blob_is_a_file(self, store: Store) -> None:
        with store.gathering():
            assert not store.put_in_pack(bytes(300 << 10), digest_of(bytes(300 << 10)))

    def test_damage_is_noticed_and_removed(self, store: Store) -> None:
        digest = digest_of(b"data")
        gather(store, {"a": b"one"})
        with store.gathering():
            store.put_in_pack(b"data", digest)
        (path,) = [path for path in packs_of(store) if path.read_bytes().endswith(b"data")]
        flip(path, -1)
        with Store(store.root) as other:
            assert [(found.kind, found.name) for found in other.verify()] == [("record", f"data/{hex_of(digest)}")]
            with pytest.raises(BlobDamaged):
                other.find_in_pack(digest)
            assert other.find_in_pack(digest) is None
            assert other.verify() == []
            assert other.record("diff-id", "a") == b"one"

    def test_it_goes_with_what_names_it(self, store: Store) -> None:
        used, unused = digest_of(b"used"), digest_of(b"unused")
        with store.gathering():
            for digest, blob in ((used, b"used"), (unused, b"unused")):
                store.put_in_pack(blob, digest)
                store.keep("package", blob.decode(), digest.encode())
        grow_old(store)
        with Store(store.root) as later, later.gathering():
            assert later.record("package", "used") is not None
            assert later.find_in_pack(used) == b"used"
        store.gc(before=2_000_000)
        with Store(store.root) as later:
            assert later.find_in_pack(used) == b"used"
            assert later.find_in_pack(unused) is None
        store.gc()
        with Store(store.root) as later:
            assert later.find_in_pack(used) is None

    def test_merging_keeps_it(self, store: Store) -> None:
        blobs = [bytes([number]) * 10_000 for number in range(3 * _MANY)]
        for blob in blobs:
            with store.gathering():
                store.put_in_pack(blob, digest_of(blob))
        assert len(packs_of(store)) <= _MANY + 1
        with Store(store.root) as other:
            assert [other.find_in_pack(digest_of(blob)) for blob in blobs] == blobs


class TestGarbage:
    def facts(self, store: Store) -> tuple[Digest, Digest]:
        alive, dead = store.put(b'{"schemaVersion": 2, "mediaType": "m"}'), store.put(b"dead")
        store.keep_root("alive:1", alive)
        gather(store, {hex_of(alive): b"one", hex_of(dead): b"two"})
        return alive, dead

    def test_facts_about_what_is_gone_go_too(self, store: Store) -> None:
        alive, dead = self.facts(store)
        before = store.du()["records"]
        assert store.gc() > len(b"dead")
        assert store.du()["records"] < before
        assert store.record("diff-id", hex_of(alive)) == b"one"
        assert store.record("diff-id", hex_of(dead)) is None
        assert store.gc() == 0

    def test_a_fact_that_was_used_since_keeps_what_it_names(self, store: Store) -> None:
        alive, dead = self.facts(store)
        os.utime(store.path(dead), (1_000_000, 1_000_000))
        assert store.gc(before=2_000_000) == 0
        grow_old(store)
        assert store.gc(before=2_000_000) > 0
        assert not store.has(dead) and store.has(alive)

    def test_a_fact_in_use_keeps_no_other_one(self, store: Store) -> None:
        facts = [store.put(bytes([number])) for number in range(20)]
        gather(store, {hex_of(fact): b"fact" for fact in facts})
        grow_old(store)
        with Store(store.root) as later, later.gathering():
            assert later.record("diff-id", hex_of(facts[7])) == b"fact"
        for fact in facts:
            os.utime(store.path(fact), (1_000_000, 1_000_000))
        store.gc(before=2_000_000)
        assert [fact for fact in facts if store.has(fact)] == [facts[7]]
        assert store.record("diff-id", hex_of(facts[7])) == b"fact"
        assert store.record("diff-id", hex_of(facts[8])) is None

    def test_merging_is_no_use(self, store: Store) -> None:
        old = store.put(b"old")
        gather(store, {hex_of(old): b"fact"})
        grow_old(store)
        os.utime(store.path(old), (1_000_000, 1_000_000))
        for number in range(2 * _MANY):
            gather(store, {f"key {number}": b"x"})
        assert store.record("diff-id", hex_of(old)) == b"fact"
        store.gc(before=2_000_000)
        assert not store.has(old)

    def test_an_empty_pack_is_removed(self, store: Store) -> None:
        gather(store, {hex_of(digest_of(b"never there")): b"one"})
        store.gc()
        assert packs_of(store) == []
