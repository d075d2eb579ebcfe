"""Image layouts and archives: written, merged, read back."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import layer_world as world
from layer_world import member
from sixsmith.errors import DigestMismatch, FormatError, StoreError, UsageError
from sixsmith.io.layout import open_layout, write_archive, write_layout
from sixsmith.io.store import BlobMissing, Store
from sixsmith.layers.plan import plan_layers
from sixsmith.layers.write import write_layers
from sixsmith.model.arch import ARCHES
from sixsmith.model.digest import digest_of
from sixsmith.oci.image import ImageSettings, make_image, make_index
from sixsmith.oci.reach import reachable
from sixsmith.oci.spec import REF_NAME, Descriptor
from sixsmith.oci.validate import validate_image
from sixsmith.rootfs.tree import Tree

AMD64, ARM64 = ARCHES["x86_64"].platform, ARCHES["aarch64"].platform


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def built(store: Store, content: bytes, *arches: str) -> Descriptor:
    """An index of small images, in the store."""
    images = []
    for arch in arches or ("x86_64",):
        tree, package = world.install(
            Tree(), "p", [member("a", "directory"), member("a/b", content=content + arch.encode())]
        )
        layers = write_layers(plan_layers(tree=tree, packages=[package]), store)
        made = make_image(layers, ImageSettings(), platform=ARCHES[arch].platform, created=0)
        store.put(made.config)
        store.put(made.manifest)
        images.append(made)
    index = make_index(images)
    store.put(index.raw)
    return index.descriptor


def blobs_of(directory: Path) -> set[str]:
    return {path.name for path in (directory / "blobs" / "sha256").iterdir()}


class TestLayout:
    def test_it_is_written_and_read_back(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1", "x86_64", "aarch64")
        write_layout(tmp_path / "out", {"3.22-3.2.1.0": made, "latest": made}, store)
        assert json.loads((tmp_path / "out" / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
        with open_layout(tmp_path / "out") as layout:
            assert sorted(layout.refs) == ["3.22-3.2.1.0", "latest"]
            found = layout.ref("latest")
            assert (found.digest, found.annotations) == (made.digest, {REF_NAME: "latest"})
            assert validate_image(layout, found) == []

    def test_blobs_are_hard_links(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        write_layout(tmp_path / "out", {"a": made}, store)
        for blob in reachable(store, made):
            twin = tmp_path / "out" / "blobs" / "sha256" / blob.digest[7:]
            assert store.path(blob.digest).samefile(twin)

    def test_a_blob_that_another_process_replaced_is_linked_anew(self, store: Store, tmp_path: Path) -> None:
        """The file in the layout is the damaged one, whatever this process has seen of the store's before."""
        made = built(store, b"1")
        write_layout(tmp_path / "out", {"a": made}, store)
        assert store.status(made.digest) is not None
        damaged = store.path(made.digest)
        whole = damaged.read_bytes()
        damaged.chmod(0o644)
        damaged.write_bytes(b"#" + whole[1:])
        damaged.unlink()
        damaged.write_bytes(whole)
        write_layout(tmp_path / "out", {"a": made}, store)
        twin = tmp_path / "out" / "blobs" / "sha256" / made.digest[7:]
        assert twin.read_bytes() == whole

    def test_other_tags_stay_and_rebuilt_ones_move(self, store: Store, tmp_path: Path) -> None:
        one, two, three = (built(store, content) for content in (b"1", b"2", b"3"))
        write_layout(tmp_path / "out", {"a": one, "b": two}, store)
        before = blobs_of(tmp_path / "out")
        write_layout(tmp_path / "out", {"b": three}, store)
        with open_layout(tmp_path / "out") as layout:
            assert {tag: descriptor.digest for tag, descriptor in layout.refs.items()} == {
                "a": one.digest,
                "b": three.digest,
            }
        gone = before - blobs_of(tmp_path / "out")
        assert two.digest[7:] in gone
        assert blobs_of(tmp_path / "out") == {b.digest[7:] for made in (one, three) for b in reachable(store, made)}

    def test_the_same_build_twice_is_the_same_folder(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        write_layout(tmp_path / "out", {"a": made}, store)
        before = (tmp_path / "out" / "index.json").read_bytes(), blobs_of(tmp_path / "out")
        write_layout(tmp_path / "out", {"a": made}, store)
        assert before == ((tmp_path / "out" / "index.json").read_bytes(), blobs_of(tmp_path / "out"))
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["blobs", "index.json", "oci-layout"]

    def test_what_others_put_there_stays(self, store: Store, tmp_path: Path) -> None:
        write_layout(tmp_path / "out", {"a": built(store, b"1")}, store)
        index = json.loads((tmp_path / "out" / "index.json").read_bytes())
        stranger = {"mediaType": "application/x", "digest": digest_of(b"s"), "size": 1, "urls": ["u"]}
        (tmp_path / "out" / "blobs" / "sha256" / digest_of(b"s")[7:]).write_bytes(b"s")
        index["manifests"].append(stranger)
        (tmp_path / "out" / "index.json").write_text(json.dumps(index))
        write_layout(tmp_path / "out", {"a": built(store, b"2")}, store)
        assert stranger in json.loads((tmp_path / "out" / "index.json").read_bytes())["manifests"]
        assert digest_of(b"s")[7:] in blobs_of(tmp_path / "out")

    def test_a_folder_that_is_something_else_is_left_alone(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "letter").write_text("dear")
        with pytest.raises(FormatError, match="holds 'letter' and is no image layout"):
            write_layout(tmp_path / "home", {"a": built(store, b"1")}, store)
        assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter"]

    @pytest.mark.parametrize("name", [".oci-layout.4b8322317a03", ".index.json.0123456789ab"])
    def test_what_a_killed_writer_left_is_removed(self, store: Store, tmp_path: Path, name: str) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_bytes(b"{")
        write_layout(tmp_path / "out", {"a": built(store, b"1")}, store)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["blobs", "index.json", "oci-layout"]

    def test_what_is_there_already_is_not_written(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        write_layout(tmp_path / "out", {"a": made}, store)
        before = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
        write_layout(tmp_path / "out", {"a": made}, store)
        after = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
        assert {path: (status.st_ino, status.st_ctime_ns) for path, status in before.items()} == {
            path: (status.st_ino, status.st_ctime_ns) for path, status in after.items()
        }

    def test_a_blob_of_other_bytes_is_replaced(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        write_layout(tmp_path / "out", {"a": made}, store)
        path = tmp_path / "out" / "blobs" / "sha256" / made.digest[7:]
        path.unlink()
        path.write_bytes(b"other")
        write_layout(tmp_path / "out", {"a": made}, store)
        assert path.samefile(store.path(made.digest))

    def test_where_there_are_no_links_it_is_copied(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr("os.link", refuse)
        made = built(store, b"1")
        for _ in range(2):
            write_layout(tmp_path / "out", {"a": made}, store)
        with open_layout(tmp_path / "out") as layout:
            assert validate_image(layout, layout.ref("a")) == []
        assert not (tmp_path / "out" / "blobs" / "sha256" / made.digest[7:]).samefile(store.path(made.digest))
        assert (tmp_path / "out" / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'

    def test_a_missing_blob_leaves_the_old_index(self, store: Store, tmp_path: Path) -> None:
        one, two = built(store, b"1"), built(store, b"2")
        write_layout(tmp_path / "out", {"a": one}, store)
        before = (tmp_path / "out" / "index.json").read_bytes()
        store.discard(next(iter(reachable(store, two))).digest)
        with pytest.raises(BlobMissing):
            write_layout(tmp_path / "out", {"a": two}, store)
        assert (tmp_path / "out" / "index.json").read_bytes() == before

    def test_a_place_that_cannot_be_written(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot write to"):
            write_layout(tmp_path / "file" / "out", {"a": built(store, b"1")}, store)

    def test_a_broken_index_is_said(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "index.json").write_text("{")
        with pytest.raises(FormatError, match=r"index\.json: not JSON"):
            write_layout(tmp_path / "out", {"a": built(store, b"1")}, store)


class TestReading:
    def test_the_only_image_needs_no_tag(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        write_layout(tmp_path / "out", {"edge": made}, store)
        with open_layout(tmp_path / "out") as layout:
            assert layout.ref(None).digest == made.digest
            with pytest.raises(UsageError) as raised:
                layout.ref("edg")
            assert raised.value.hint == "did you mean 'edge'?"

    def test_one_of_several_does(self, store: Store, tmp_path: Path) -> None:
        write_layout(tmp_path / "out", {"a": built(store, b"1"), "b": built(store, b"2")}, store)
        with (
            open_layout(tmp_path / "out") as layout,
            pytest.raises(UsageError, match="holds 2 images: name a tag of a, b"),
        ):
            layout.ref(None)

    def test_a_damaged_and_a_missing_blob(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        write_layout(tmp_path / "out", {"a": made}, store)
        path = tmp_path / "out" / "blobs" / "sha256" / made.digest[7:]
        path.unlink()
        with open_layout(tmp_path / "out") as layout:
            assert not layout.has(made.digest)
            with pytest.raises(BlobMissing):
                layout.read(made.digest)
            path.write_bytes(b"other")
            with pytest.raises(DigestMismatch):
                layout.read(made.digest)

    @pytest.mark.parametrize("content", [b"", b"no tar" * 1000, bytes(10240), b"\x1f\x8b" + bytes(2000)])
    def test_files_that_are_no_archive(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(FormatError):
            open_layout(tmp_path / "x.tar")

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot read"):
            open_layout(tmp_path / "x.tar")
        with pytest.raises(FormatError, match="no image layout"):
            open_layout(tmp_path)


class TestArchive:
    NAME = "registry.test:5000/team/web:1.0"

    def test_it_is_both_things_at_once(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1", "x86_64", "aarch64")
        write_archive(tmp_path / "a.tar", {self.NAME: made, "web:1.0": made}, store)
        with tarfile.open(tmp_path / "a.tar") as tar:
            names = tar.getnames()
            (docker,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
            config = json.load(tar.extractfile(docker["Config"]))  # type: ignore[arg-type]
            assert all(name in names for name in docker["Layers"])
        assert (config["architecture"], docker["RepoTags"]) == ("amd64", [self.NAME, "web:1.0"])
        with open_layout(tmp_path / "a.tar") as layout:
            assert validate_image(layout, layout.descriptors[0]) == []
            names = [descriptor.annotations["io.containerd.image.name"] for descriptor in layout.descriptors]
            assert sorted(names) == ["docker.io/library/web:1.0", self.NAME]

    def test_the_platform_of_this_machine_is_what_docker_gets(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1", "x86_64", "aarch64")
        for platform, wanted in [(ARM64, "arm64"), (AMD64, "amd64"), (ARCHES["s390x"].platform, "amd64")]:
            write_archive(tmp_path / "a.tar", {self.NAME: made}, store, platform=platform)
            with open_layout(tmp_path / "a.tar") as layout, tarfile.open(tmp_path / "a.tar") as tar:
                (docker,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
                digest = docker["Config"].rpartition("/")[2]
                assert json.loads(layout.read(world.Digest(f"sha256:{digest}")))["architecture"] == wanted

    def test_the_same_images_are_the_same_bytes(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        for name in ("a.tar", "b.tar"):
            write_archive(tmp_path / name, {self.NAME: made}, store)
        assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()

    def test_a_damaged_blob_leaves_no_archive(self, store: Store, tmp_path: Path) -> None:
        made = built(store, b"1")
        path = store.path(next(iter(reachable(store, made))).digest)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(DigestMismatch):
            write_archive(tmp_path / "a.tar", {self.NAME: made}, store)
        assert not list(tmp_path.glob("*a.tar*"))

    def test_a_name_needs_a_tag(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="has no tag"):
            write_archive(tmp_path / "a.tar", {"web": built(store, b"1")}, store)

    def test_a_truncated_archive(self, store: Store, tmp_path: Path) -> None:
        write_archive(tmp_path / "a.tar", {self.NAME: built(store, b"1")}, store)
        (tmp_path / "b.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:3000])
        with pytest.raises(FormatError):
            open_layout(tmp_path / "b.tar")
