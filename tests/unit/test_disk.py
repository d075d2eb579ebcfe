"""Trees on disk: what was written is read back, links lead nowhere else, and failures leave nothing."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from sixsmith.errors import FormatError, OutsideError, StoreError
from sixsmith.io.disk import read_tree, write_tree
from sixsmith.rootfs.tree import Inline, Node, Tree

ROOT = os.geteuid() == 0


def sample() -> Tree:
    tree = Tree(epoch=1700000000)
    tree.make_directory("etc", mode=0o755)
    tree.make_directory("closed", mode=0o500)
    tree.write("closed/file", b"secret", mode=0o400)
    tree.write("etc/hosts", b"localhost\n", mode=0o644)
    tree.write("bin/su", b"\x7fELF", mode=0o4755)
    tree.write("odd/\udcff name", b"", mode=0o600)
    tree.make_symlink("bin/sh", "/bin/busybox")
    tree.make_symlink("out", "../../../../etc/passwd")
    first = tree.nodes["etc/hosts"]
    tree.put(
        msgspec.structs.replace(first, path="etc/hosts2", kind="hardlink", target="etc/hosts", content=None, size=0)
    )
    tree.make_directory("tmp", mode=0o1777)
    for path, node in list(tree.nodes.items()):
        tree.nodes[path] = msgspec.structs.replace(node, uid=os.geteuid(), gid=os.getegid())
    return tree


def comparable(tree: Tree) -> dict[str, tuple[object, ...]]:
    return {
        node.path: (
            node.kind,
            node.mode,
            node.uid,
            node.gid,
            node.mtime,
            node.size,
            node.target,
            node.xattrs,
            node.content.read() if node.content is not None else None,
        )
        for node in tree
    }


def test_written_trees_are_read_back(tmp_path: Path) -> None:
    tree = sample()
    assert write_tree(tree, tmp_path / "root", owners=ROOT) == ()
    assert comparable(read_tree(tmp_path / "root")) == comparable(tree)
    assert (tmp_path / "root/etc/hosts").stat().st_nlink == 2
    assert os.readlink(tmp_path / "root/out") == "../../../../etc/passwd"  # noqa: PTH115
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    write_tree(sample(), tmp_path / "root", owners=ROOT)
    assert (tmp_path / "root/etc/hosts").read_bytes() == b"localhost\n"


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(OutsideError, match="not empty"):
        write_tree(sample(), tmp_path, owners=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class Broken:
    digest = "sha256:" + "0" * 64

    def inflate(self) -> bytes:
        raise StoreError("the blob is gone")


def broken(tree: Tree) -> Tree:
    """The same tree, with a file at its end whose content cannot be had."""
    from sixsmith.rootfs.tree import Member

    tree.write("zz", b"", mode=0o644)
    tree.nodes["zz"] = msgspec.structs.replace(tree.nodes["zz"], content=Member(Broken(), 0, 5))  # type: ignore[arg-type]
    return tree


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the blob is gone"):
        write_tree(broken(sample()), tmp_path / "root", owners=False)
    assert list(tmp_path.iterdir()) == []


def with_database(tree: Tree) -> Tree:
    tree.write("lib/apk/db/installed", b"", mode=0o644, uid=os.geteuid(), gid=os.getegid())
    return tree


def test_a_root_with_a_database_is_changed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_tree(with_database(sample()), root, owners=ROOT)
    kept = (root / "etc/hosts").stat().st_ino
    tree = read_tree(root)
    tree.remove("closed")
    tree.remove("bin/sh")
    tree.write("bin/sh", b"a file now", mode=0o755)
    tree.remove("odd")
    tree.write("odd", b"no directory any more", mode=0o644)
    tree.write("new/deep/file", b"new", mode=0o640)
    tree.change("tmp", mode=0o755)
    tree.write("lib/apk/db/installed", b"C:\n", mode=0o644)
    write_tree(tree, root, owners=ROOT)
    assert comparable(read_tree(root)).keys() == comparable(tree).keys()
    assert (root / "bin/sh").read_bytes() == b"a file now" and (root / "odd").is_file()
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o755
    assert (root / "etc/hosts").stat().st_ino == kept, "what did not change is not written"
    assert not [path.name for path in root.iterdir() if path.name.startswith(".sixsmith")]


def test_a_failed_change_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_tree(with_database(sample()), root, owners=ROOT)
    before = comparable(read_tree(root))
    tree = read_tree(root)
    tree.remove("etc")
    tree.write("bin/su", b"changed", mode=0o755)
    with pytest.raises(StoreError):
        write_tree(broken(tree), root, owners=ROOT)
    after = comparable(read_tree(root))
    assert after == before


def test_hard_links_change_together(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_tree(with_database(sample()), root, owners=ROOT)
    tree = read_tree(root)
    tree.nodes["etc/hosts"] = msgspec.structs.replace(
        tree.nodes["etc/hosts"], content=Inline(b"other"), size=5, mtime=1700000000
    )
    write_tree(tree, root, owners=ROOT)
    assert (root / "etc/hosts2").read_bytes() == b"other"
    assert (root / "etc/hosts").stat().st_nlink == 2


@pytest.mark.parametrize("path", ["a/b", "link/file", "file/x", "x/../y", "x/."])
def test_nodes_without_a_directory_are_refused(tmp_path: Path, path: str) -> None:
    tree = sample()
    tree.make_symlink("link", "/")
    tree.write("file", b"")
    model = tree.nodes["file"]
    tree.nodes[path] = Node(*[path if name == "path" else getattr(model, name) for name in model.__struct_fields__])
    with pytest.raises(FormatError):
        write_tree(tree, tmp_path / "root", owners=False)
    assert list(tmp_path.iterdir()) == []


def test_links_in_an_existing_root_are_not_followed(tmp_path: Path) -> None:
    """Somebody made a directory a link since: nothing is written where it leads."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    write_tree(with_database(sample()), root, owners=ROOT)
    tree = read_tree(root)
    (root / "odd").rename(root / "gone")
    (root / "odd").symlink_to(outside)
    tree.remove("odd/\udcff name")
    tree.write("odd/evil", b"evil", mode=0o644)
    write_tree(tree, root, owners=ROOT)
    assert list(outside.iterdir()) == []
    assert (root / "odd/evil").read_bytes() == b"evil" and not (root / "odd").is_symlink()


def test_contents_are_not_read_through_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "hosts").write_text("not this")
    write_tree(sample(), root, owners=ROOT)
    tree = read_tree(root)
    (root / "etc").rename(root / "gone")
    (root / "etc").symlink_to(outside)
    with pytest.raises(StoreError):
        tree.read("etc/hosts")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_devices_and_owners_need_root(tmp_path: Path) -> None:
    tree = sample()
    model = tree.nodes["etc/hosts"]
    tree.nodes["null"] = msgspec.structs.replace(
        model, path="null", kind="char", device=(1, 3), content=None, size=0, mode=0o666
    )
    tree.change("tmp", uid=5, gid=6)
    assert write_tree(tree, tmp_path / "plain", owners=False) == ("null",)
    left_out = write_tree(tree, tmp_path / "owned", owners=True)
    status = (tmp_path / "owned/tmp").stat()
    assert (status.st_uid, status.st_gid) == (5, 6)
    if not left_out:
        assert read_tree(tmp_path / "owned").nodes["null"].device == (1, 3)
