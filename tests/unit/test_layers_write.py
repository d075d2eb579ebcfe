"""Layers as blobs: the same bytes always, each package compressed once, damage noticed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import layer_world as world
from layer_world import member
from sixsmith.errors import DigestMismatch, FormatError, StoreError, UsageError
from sixsmith.events import Event, LayerWritten
from sixsmith.io.store import Store
from sixsmith.layers import write
from sixsmith.layers.plan import BIG, ExistingLayer, LayerPackage, plan_layers
from sixsmith.layers.write import compressor_named, remember_diff_id, write_layers
from sixsmith.model.compression import split_members
from sixsmith.model.digest import digest_of
from sixsmith.oci.blobs import inflate_layer
from sixsmith.oci.spec import DOCKER_LAYER, LAYER_GZIP, LAYER_ZSTD
from sixsmith.rootfs.tree import Tree

USR = [member("usr", "directory"), member("usr/bin", "directory")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same every time."""
    return b"".join(hashlib.sha256(f"{seed}.{n}".encode()).digest() for n in range(size // 32 + 1))[:size]


def small_packages(**contents: bytes) -> tuple[Tree, list[LayerPackage]]:
    tree, packages = Tree(), []
    for name, content in contents.items():
        tree, package = world.install(tree, name, [*USR, member(f"usr/bin/{name}", content=content)], size=10)
        packages.append(package)
    return tree, packages


def archives(packages: list[LayerPackage]) -> list[world.Archive]:
    return [package.source for package in packages if isinstance(package.source, world.Archive)]


def test_a_spliced_layer_is_a_head_one_member_for_each_package_and_a_tail(store: Store) -> None:
    tree, packages = small_packages(a=b"1", b=b"2")
    (layer,) = write_layers(plan_layers(tree=tree, packages=packages), store)
    members = split_members(store.read(layer.digest), what="layer")
    assert len(members) == 4
    assert [len(tar) for _, tar in members] == [3 * 512, 2 * 512, 2 * 512, 1024]
    assert layer.size == store.size(layer.digest)
    assert layer.diff_id == digest_of(b"".join(tar for _, tar in members))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_the_bytes_do_not_depend_on_threads_or_caches(tmp_path: Path, compression: str) -> None:
    tree, packages = small_packages(a=noise(9 << 20), b=b"2" * 3000, c=noise(70_000, 1))
    found = []
    with Store(tmp_path / "one") as store:
        for threads in (1, 4):
            found.append(
                write_layers(plan_layers(tree=tree, packages=packages), store, threads=threads, compression=compression)
            )
    with Store(tmp_path / "two") as store:
        found.append(write_layers(plan_layers(tree=tree, packages=packages), store, threads=3, compression=compression))
        assert world.seen(world.unpacked(found[0], store)) | {"": ()} == world.seen(tree) | {"": ()}
    assert found[0] == found[1] == found[2]
    assert found[0][0].media_type == (LAYER_ZSTD if compression == "zstd" else LAYER_GZIP)


@pytest.fixture
def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of any size are kept: those of these tests are small."""
    monkeypatch.setattr(write, "_WORTH_KEEPING", 0)


@pytest.mark.usefixtures("keep_all")
def test_one_changed_package_compresses_only_itself(store: Store) -> None:
    tree, packages = small_packages(a=b"1", b=b"2")
    write_layers(plan_layers(tree=tree, packages=packages), store)
    assert [archive.inflated for archive in archives(packages)] == [1, 1]
    tree, package = world.install(tree, "c", [*USR, member("usr/bin/c")], size=10)
    write_layers(plan_layers(tree=tree, packages=[*packages, package]), store)
    assert [archive.inflated for archive in archives([*packages, package])] == [1, 1, 0]  # c's file is empty


def test_nothing_changed_reads_nothing(store: Store) -> None:
    tree, packages = small_packages(a=b"1", b=b"2")
    events: list[Event] = []
    plan = plan_layers(tree=tree, packages=packages)
    for _ in range(2):
        write_layers(plan, store, reporter=events.append, cell="x:1/x86_64")
    assert [archive.inflated for archive in archives(packages)] == [1, 1]
    assert [event.cached for event in events if isinstance(event, LayerWritten)] == [False, True]


def test_a_member_may_be_larger_than_a_chunk_and_a_file_cross_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "CHUNK", 1000)
    tree, packages = small_packages(a=noise(5000), b=noise(999, 1))
    (layer,) = write_layers(plan_layers(tree=tree, packages=packages), store)
    assert world.seen(world.unpacked([layer], store)) | {"": ()} == world.seen(tree) | {"": ()}
    sizes = [len(tar) for _, tar in split_members(store.read(layer.digest), what="layer")]
    assert sizes == [1000, 536, *[1000] * 5, 632, 1000, 536, 1024]


@pytest.mark.usefixtures("keep_all")
def test_a_damaged_member_is_made_again(store: Store) -> None:
    tree, packages = small_packages(a=b"1" * 5000, b=b"2")
    (layer,) = write_layers(plan_layers(tree=tree, packages=packages), store)
    for path in (store.root / "records" / "member").iterdir():
        path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    for path in (store.root / "records" / "layer").iterdir():
        path.unlink()
    assert write_layers(plan_layers(tree=tree, packages=packages), store) == (layer,)


@pytest.mark.usefixtures("keep_all")
@pytest.mark.parametrize("names", ["rubbish", "no digest", "no blob", "no compressed bytes"])
def test_a_record_that_names_no_member_is_replaced(store: Store, names: str) -> None:
    """However it came about: its own checksum holds, so nothing else would tell."""
    tree, packages = small_packages(a=noise(5000), b=noise(6000, 1))
    (layer,) = write_layers(plan_layers(tree=tree, packages=packages), store)
    plain = store.put(noise(64))
    wrong = {
        "rubbish": b"\xc1",
        "no digest": msgspec.msgpack.encode(["nonsense", 0, 64, hashlib.sha256(noise(64)).hexdigest()]),
        "no blob": msgspec.msgpack.encode([digest_of(b"elsewhere"), 0, 64, hashlib.sha256(noise(64)).hexdigest()]),
        "no compressed bytes": msgspec.msgpack.encode([plain, 0, 64, hashlib.sha256(noise(64)).hexdigest()]),
    }[names]
    keys = [path.name for path in (store.root / "records" / "member").iterdir()]
    right = {key: store.record("member", key) for key in keys}
    assert len(keys) == 2
    for key in keys:
        store.keep("member", key, wrong)
    for path in (store.root / "records" / "layer").iterdir():
        path.unlink()
    assert write_layers(plan_layers(tree=tree, packages=packages), store) == (layer,)
    assert {key: store.record("member", key) for key in keys} == right


@pytest.mark.usefixtures("keep_all")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("harm", ["nothing", "one member", "gone", "cut"])
def test_members_are_found_in_a_layer_that_has_them(store: Store, tmp_path: Path, compression: str, harm: str) -> None:
    """And made again where that layer is gone or damaged."""
    tree, packages = small_packages(a=noise(5000), b=noise(6000, 1))
    (first,) = write_layers(plan_layers(tree=tree, packages=packages), store, compression=compression)
    path = store.path(first.digest)
    raw = path.read_bytes()
    path.chmod(0o644)
    if harm == "one member":
        at = raw.index(b"usr/bin/b") if b"usr/bin/b" in raw else len(raw) - 3000
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    elif harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(raw[:3000])
    tree, package = world.install(tree, "c", [*USR, member("usr/bin/c", content=b"3")], size=10)
    plan = plan_layers(tree=tree, packages=[*packages, package])
    before = [archive.inflated for archive in archives(packages)]
    found = write_layers(plan, store, compression=compression)
    again = [archive.inflated - number for archive, number in zip(archives(packages), before, strict=True)]
    assert again == {"nothing": [0, 0], "one member": [0, 1]}.get(harm, [1, 1])
    with Store(tmp_path / "other") as other:
        assert write_layers(plan, other, compression=compression) == found


def test_a_lost_layer_blob_is_made_again(store: Store) -> None:
    tree, packages = small_packages(a=b"1")
    (layer,) = write_layers(plan_layers(tree=tree, packages=packages), store)
    store.discard(layer.digest)
    assert write_layers(plan_layers(tree=tree, packages=packages), store) == (layer,)
    assert store.has(layer.digest)


def test_another_level_has_other_bytes_and_the_same_diff_id(store: Store) -> None:
    tree, packages = small_packages(a=noise(3000) * 3)
    plan = plan_layers(tree=tree, packages=packages)
    found = [
        write_layers(plan, store, compression=name, level=level)[0]
        for name, level in [("gzip", 1), ("gzip", 9), ("zstd", 3)]
    ]
    assert len({layer.digest for layer in found}) == 3
    assert len({layer.diff_id for layer in found}) == 1


def test_a_verbatim_layer_is_put_once_and_inflated_once(store: Store) -> None:
    tree, package = world.install(Tree(), "git", [*USR, member("usr/bin/git", content=b"x")], size=BIG)
    plan = plan_layers(tree=tree, packages=[package], strategy="per-package")
    for _ in range(2):
        layer = write_layers(plan, store)[0]
    (archive,) = archives([package])
    assert (layer.digest, layer.kind, layer.names) == (archive.digest, "verbatim", ("git 1-r0",))
    assert store.read(layer.digest) == archive.blob
    assert archive.inflated == 1


def test_a_diff_id_that_is_known_from_fetching_costs_nothing(store: Store) -> None:
    tree, package = world.install(Tree(), "git", [*USR, member("usr/bin/git", content=b"x")], size=BIG)
    (archive,) = archives([package])
    remember_diff_id(store, archive.digest, len(archive.blob), archive.inflate(), archive.entries)
    layers = write_layers(plan_layers(tree=tree, packages=[package]), store)
    assert archive.inflated == 1
    assert layers[0].diff_id == digest_of(archive.inflate())


def test_a_verbatim_layer_whose_source_lies(store: Store) -> None:
    tree, package = world.install(Tree(), "git", [*USR, member("usr/bin/git", content=b"x")], size=BIG)
    archives([package])[0].blob += b"more"
    with pytest.raises(DigestMismatch):
        write_layers(plan_layers(tree=tree, packages=[package]), store)
    assert not store.has(package.source.digest)


def test_a_verbatim_layer_that_is_nowhere(store: Store) -> None:
    archive = world.Archive([*USR])
    below = [ExistingLayer(archive.digest, 5, source=world.Bare(archive.digest, b""), entries=archive.entries)]
    base_tree = world.apply_layer(Tree(), archive.entries, archive)
    with pytest.raises(StoreError, match="its source cannot give it"):
        write_layers(plan_layers(tree=base_tree, base=below, base_tree=base_tree), store)


def test_layers_of_a_docker_parent_get_their_oci_name(store: Store) -> None:
    archive = world.Archive([*USR])
    below = [ExistingLayer(archive.digest, 5, DOCKER_LAYER, archive.digest)]
    base_tree = world.apply_layer(Tree(), archive.entries, archive)
    layer = write_layers(plan_layers(tree=base_tree, base=below, base_tree=base_tree), store)[0]
    assert layer.media_type == LAYER_GZIP


def test_a_tree_that_disagrees_with_its_archive(store: Store) -> None:
    tree, packages = small_packages(a=b"1")
    node = tree.nodes["usr/bin/a"]
    content = node.content
    assert content is not None
    tree.nodes["usr/bin/a"] = world.Node(
        node.path,
        "file",
        0o644,
        0,
        0,
        1,
        5000,
        "",
        (),
        None,
        (0, 0),
        node.origin,
        type(content)(archives(packages)[0], 2000, 5000),
    )
    with pytest.raises(FormatError, match="/usr/bin/a: 5000 bytes in the tree"):
        write_layers(plan_layers(tree=tree, packages=packages), store)


def test_an_image_of_nothing_has_one_layer(store: Store) -> None:
    (layer,) = write_layers(plan_layers(tree=Tree()), store)
    assert layer.kind == "top"
    assert zlib.decompress(store.read(layer.digest), 31)[:2] == b"./"


def test_the_compressor_has_a_name() -> None:
    assert compressor_named().startswith("libdeflate(deflate ")
    assert compressor_named("zstd").endswith(f"level {write.ZSTD_LEVEL}")
    with pytest.raises(UsageError) as raised:
        compressor_named("gzp")
    assert raised.value.hint == "did you mean 'gzip'?"


def test_zstd_frames_are_read_across_their_borders(store: Store) -> None:
    tree, packages = small_packages(a=b"1", b=b"2")
    (layer,) = write_layers(plan_layers(tree=tree, packages=packages), store, compression="zstd")
    assert digest_of(inflate_layer(store.read(layer.digest), what="layer")) == layer.diff_id
    with pytest.raises(FormatError):
        inflate_layer(store.read(layer.digest)[:-5], what="layer")
