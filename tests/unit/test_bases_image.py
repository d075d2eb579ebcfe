"""A parent image's tree: merged from its layers once, and the same when the store remembers it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sixsmith import build
from sixsmith.bases import ImageBase
from sixsmith.io.store import Store
from sixsmith.model.arch import arch_named
from sixsmith.model.digest import Digest, digest_of
from sixsmith.oci.image import ImageSettings, make_image
from sixsmith.oci.spec import Layer
from sixsmith.testing import SampleFile, tar_bytes

LOWER = [
    SampleFile("etc", kind="directory"),
    SampleFile("etc/one", b"one", mode=0o600, uid=3, gid=4),
    SampleFile("etc/gone", b"gone"),
    SampleFile("etc/empty"),
    SampleFile("etc/link", kind="symlink", target="one"),
    SampleFile("etc/tied", kind="hardlink", target="etc/one"),
]
UPPER = [SampleFile("etc", kind="directory"), SampleFile("etc/.wh.gone"), SampleFile("etc/two", b"two" * 1000)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def image(store: Store, *layers: list[SampleFile]) -> Digest:
    made = []
    for files in layers:
        tar = tar_bytes(files)
        blob = gzip.compress(tar, mtime=0)
        made.append(Layer(store.put(blob), len(blob), digest_of(tar)))
    whole = make_image(tuple(made), ImageSettings(), platform=arch_named("x86_64").platform, created=0)
    store.put(whole.config)
    return store.put(whole.manifest)


def base(store: Store, digest: Digest) -> ImageBase:
    return ImageBase(store, digest, "parent", "one:tag")


def test_the_remembered_tree_is_the_merged_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = image(store, LOWER, UPPER)
    merged = base(store, digest).tree()
    assert "etc/gone" not in merged
    monkeypatch.setattr(ImageBase, "_merged", None)  # nothing is merged a second time
    remembered = base(store, digest).tree()
    assert list(remembered.nodes) == list(merged.nodes)
    for one, other in zip(merged, remembered, strict=True):
        fields = [name for name in one.__struct_fields__ if name != "content"]
        assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]
        assert merged.read(one.path) == remembered.read(other.path)
    assert remembered.read("etc/two") == b"two" * 1000 and remembered.read("etc/tied") == b"one"


def test_a_damaged_memory_is_none(store: Store) -> None:
    digest = image(store, LOWER)
    merged = base(store, digest).tree()
    store.keep("tree", digest, b"\x92\x63nonsense")
    assert list(base(store, digest).tree().nodes) == list(merged.nodes)


def test_names_that_are_not_text_are_merged_each_time(store: Store) -> None:
    digest = image(store, [SampleFile("\udcff", b"odd")])
    for _ in range(2):
        assert base(store, digest).tree().read("\udcff") == b"odd"
    assert store.record("tree", digest) is None


def test_a_tree_belongs_to_whoever_asked(store: Store) -> None:
    parent = base(store, image(store, LOWER))
    parent.tree().remove("etc")
    assert "etc/one" in parent.tree()


def test_trees_of_many_parents_do_not_pile_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = {name: base(store, image(store, [*LOWER, SampleFile(name)])) for name in ("one", "two", "three")}
    for each in bases.values():
        each.tree()
    monkeypatch.setattr(build, "_KEPT_NODES", 2 * len(LOWER) + 3)
    build._forget_trees(bases, but="one")
    assert [name for name, each in bases.items() if each.known_tree is not None] == ["one", "three"]
    build._forget_trees(bases, but="one")
    assert bases["two"].tree().read("two") == b""
