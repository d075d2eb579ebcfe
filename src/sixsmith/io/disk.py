"""Trees on disk: for sandboxed scripts, `install --root`, and looking into folders.

Paths are never followed: every step goes through an open directory, links are what they are. Nothing becomes visible before
everything is written: a new root is built beside its place and moved there; changes to a root that has an apk database are
staged inside it first, and then only renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from sixsmith.apk.installed import INSTALLED
from sixsmith.errors import FormatError, OutsideError, StoreError
from sixsmith.model.digest import Digest
from sixsmith.model.tar import Kind
from sixsmith.rootfs.tree import BASE, Member, Node, Tree

__all__ = ["DiskSource", "read_tree", "write_tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN = 64
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


class DiskSource:
    """One regular file on disk, as a source of its own content; it is read when somebody asks."""

    __slots__ = ("_digest", "_identity", "path", "root")

    def __init__(self, root: Path, path: str, status: os.stat_result) -> None:
        self.root = root
        self.path = path
        self._identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        self._digest: Digest | None = None

    @property
    def digest(self) -> Digest:
        """Digest of the file as it is now."""
        if self._digest is None:
            self._digest = Digest("sha256:" + hashlib.sha256(self.inflate()).hexdigest())
        return self._digest

    def inflate(self) -> bytes:
        """The content. Raises StoreError when the file cannot be read."""
        try:
            with _Folders(self.root) as folders:
                folder, name = folders.of(self.path)
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                with os.fdopen(descriptor, "rb") as file:
                    return file.read()
        except OSError as error:
            raise StoreError(f"{self.root}/{self.path}: {error.strerror}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DiskSource) and other._identity == self._identity

    def __hash__(self) -> int:
        return hash(self._identity)


class _Folders:
    """Open directories below a root, none of them reached through a link."""

    def __init__(self, root: Path) -> None:
        self._open: dict[str, int] = {"": os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}
        self._kept = {""}

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def get(self, path: str) -> int:
        """The descriptor of a directory; raises OSError (ELOOP, ENOTDIR) when a part of the path is a link or a file."""
        known = self._open.get(path)
        if known is not None:
            return known
        parent, _, name = path.rpartition("/")
        descriptor = os.open(_raw(name), _FOLDER, dir_fd=self.get(parent))
        if len(self._open) > _MAX_OPEN:
            for other in [
                other for other in self._open if other not in self._kept and not path.startswith(other + "/")
            ]:
                os.close(self._open.pop(other))
        self._open[path] = descriptor
        return descriptor

    def of(self, path: str) -> tuple[int, bytes]:
        """The directory that a path is in, and its name there."""
        parent, _, name = path.rpartition("/")
        return self.get(parent), _raw(name)

    def keep(self, path: str) -> int:
        """A directory that stays open."""
        self._kept.add(path)
        return self.get(path)

    def forget(self, path: str) -> None:
        """Closes a directory that is about to go, and what is below it."""
        for other in [other for other in self._open if other == path or other.startswith(path + "/")]:
            if other:
                os.close(self._open.pop(other))


# --- reading --------------------------------------------------------------------------------------------------------


def read_tree(root: Path, *, origin: str = BASE, epoch: int = 0) -> Tree:
    """What lies under a folder, names in sorted order. Contents stay on disk until they are asked for; sockets are left out.

    Raises StoreError for what cannot be read.
    """
    tree = Tree(epoch=epoch)
    first_names: dict[tuple[int, int], str] = {}
    try:
        with _Folders(root) as folders:
            for path, status in _walk(folders, ""):
                node = _read_node(folders, root, path, status, origin, first_names)
                if node is not None:
                    tree.nodes[path] = node
    except OSError as error:
        raise StoreError(f"{error.filename or root}: {error.strerror}") from None
    return tree


def _walk(folders: _Folders, path: str) -> Iterator[tuple[str, os.stat_result]]:
    folder = folders.get(path)
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  # a descriptor, no path
        full = f"{path}/{name}" if path else name
        status = os.stat(_raw(name), dir_fd=folders.get(path), follow_symlinks=False)
        yield full, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(folders, full)


def _read_node(
    folders: _Folders,
    root: Path,
    path: str,
    status: os.stat_result,
    origin: str,
    first_names: dict[tuple[int, int], str],
) -> Node | None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    target = ""
    content = None
    xattrs: tuple[tuple[str, bytes], ...] = ()
    folder, name = folders.of(path)
    if kind == "symlink":
        target = os.readlink(name, dir_fd=folder).decode("utf-8", "surrogateescape")
    elif kind == "file":
        inode = (status.st_dev, status.st_ino)
        target = first_names.setdefault(inode, path) if status.st_nlink > 1 else path
        if target != path:
            kind = "hardlink"
        else:
            target = ""
            content = Member(DiskSource(root, path, status), 0, status.st_size)
            xattrs = _read_xattrs(folder, name)
    return Node(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        int(status.st_mtime),
        status.st_size if kind == "file" else 0,
        target,
        xattrs,
        None,
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("char", "block") else (0, 0),
        origin,
        content,
    )


def _read_xattrs(folder: int, name: bytes) -> tuple[tuple[str, bytes], ...]:
    path = b"/proc/self/fd/%d/%s" % (folder, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return tuple(sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in names))
    except OSError:
        return ()  # a file system without them


# --- writing --------------------------------------------------------------------------------------------------------


def write_tree(tree: Tree, root: Path, *, owners: bool | None = None) -> tuple[str, ...]:
    """Makes a folder hold what the tree holds; `owners` sets owners too, which only root can (and does, by default).

    A root that is not there or empty is built beside its place and moved there. One with an apk database is changed to
    what the tree says, everything new being staged before anything is touched. Returns the paths that were left out:
    device nodes without `owners`, attributes that the file system refuses.

    Raises OutsideError for any other root that is not empty, StoreError for what cannot be written, FormatError for a
    tree whose nodes lie in no directory.
    """
    _check_parents(tree)
    owners = os.geteuid() == 0 if owners is None else owners
    try:
        if _is_empty(root):
            return _write_new(tree, root, owners)
        if not (root / INSTALLED).is_file():
            raise OutsideError(
                f"{root} is not empty and has no apk database",
                hint="name a new or empty folder, or one that apk or sixsmith installed into",
            )
        return _change(read_tree(root), tree, root, owners)
    except OSError as error:
        raise StoreError(f"{error.filename or root}: {error.strerror}") from None


def _is_empty(root: Path) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True


def _check_parents(tree: Tree) -> None:
    for path in tree.nodes:
        parent, slash, name = path.rpartition("/")
        if name in ("", ".", "..") and path:
            raise FormatError(f"/{path} cannot be written")
        if slash:
            above = tree.nodes.get(parent)
            if above is None or above.kind != "directory":
                raise FormatError(f"/{path} lies in no directory")


def _write_new(tree: Tree, root: Path, owners: bool) -> tuple[str, ...]:
    root = Path(os.path.abspath(root))  # noqa: PTH100  # resolve() would follow links
    root.parent.mkdir(parents=True, exist_ok=True)
    building = root.parent / f".{root.name}.{secrets.token_hex(6)}"
    building.mkdir(mode=0o700)
    try:
        with _Folders(building) as folders:
            writer = _Writer(folders, owners)
            paths = sorted(tree.nodes)
            for path in paths:
                node = tree.nodes[path]
                if node.kind == "directory" and path:
                    folder, name = folders.of(path)
                    os.mkdir(name, 0o700, dir_fd=folder)
                elif node.kind not in ("directory", "hardlink"):
                    writer.make(node, path)
            for path in paths:
                node = tree.nodes[path]
                if node.kind == "hardlink" and node.target not in writer.left_out:
                    _link(folders, node.target, path)
            for path in reversed(paths):
                if tree.nodes[path].kind == "directory" and path:
                    writer.finish_directory(tree.nodes[path])
        top = tree.nodes.get("")
        building.chmod(top.mode if top is not None else 0o755)
        building.rename(root)
    except BaseException:
        _remove(building)
        raise
    return tuple(writer.left_out)


class _Writer:
    """Makes single nodes; remembers in `left_out` what could not be made."""

    def __init__(self, folders: _Folders, owners: bool) -> None:
        self.folders = folders
        self.owners = owners
        self.left_out: dict[str, None] = {}

    def make(self, node: Node, at: str) -> None:
        """Makes a file, symbolic link or device at a path where nothing is."""
        folder, name = self.folders.of(at)
        if node.kind == "file":
            self._make_file(node, folder, name)
            return
        if node.kind == "symlink":
            os.symlink(_raw(node.target), name, dir_fd=folder)
        elif node.kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=folder)
        elif not self._make_device(node, folder, name):
            return
        if self.owners:
            os.chown(name, node.uid, node.gid, dir_fd=folder, follow_symlinks=False)
        if node.kind != "symlink":
            os.chmod(name, node.mode, dir_fd=folder)
        os.utime(name, (node.mtime, node.mtime), dir_fd=folder, follow_symlinks=False)

    def _make_device(self, node: Node, folder: int, name: bytes) -> bool:
        try:
            if self.owners:
                kind = stat.S_IFCHR if node.kind == "char" else stat.S_IFBLK
                os.mknod(name, kind | 0o600, os.makedev(*node.device), dir_fd=folder)
                return True
        except PermissionError:
            pass
        self.left_out[node.path] = None
        return False

    def _make_file(self, node: Node, folder: int, name: bytes) -> None:
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            if node.content is not None:
                file.write(node.content.read())
            file.flush()
            if self.owners:
                os.fchown(descriptor, node.uid, node.gid)
            for key, value in node.xattrs:
                try:
                    os.setxattr(descriptor, key, value)
                except OSError:
                    self.left_out[f"{node.path} ({key})"] = None
            os.fchmod(descriptor, node.mode)
            os.utime(descriptor, (node.mtime, node.mtime))

    def finish_directory(self, node: Node) -> None:
        """Sets owner, mode and time of a directory, once everything is in it."""
        descriptor = self.folders.get(node.path)
        if self.owners:
            os.fchown(descriptor, node.uid, node.gid)
        os.fchmod(descriptor, node.mode)
        os.utime(descriptor, (node.mtime, node.mtime))


def _link(folders: _Folders, target: str, path: str) -> None:
    # both directories stay open: neither may be closed while the other is opened
    folder, name = folders.of(path)
    descriptor = os.dup(folder)
    try:
        target_folder, target_name = folders.of(target)
        os.link(target_name, name, src_dir_fd=target_folder, dst_dir_fd=descriptor, follow_symlinks=False)
    finally:
        os.close(descriptor)


def _change(before: Tree, after: Tree, root: Path, owners: bool) -> tuple[str, ...]:
    """Turns what is on disk (`before`) into `after`: everything new is staged first, then names change hands."""
    fresh = _changed_paths(before, after, owners)
    staging = f".sixsmith-{secrets.token_hex(6)}"
    (root / staging).mkdir(mode=0o700)
    try:
        with _Folders(root) as folders:
            writer = _Writer(folders, owners)
            stage = folders.keep(staging)
            staged = _stage(writer, after, fresh, staging)
            _remove_gone(folders, before, after)
            for path in sorted(fresh):
                old = before.nodes.get(path)
                if after.nodes[path].kind == "directory" and (old is None or old.kind != "directory"):
                    folder, name = folders.of(path)
                    os.mkdir(name, 0o700, dir_fd=folder)
            database = (INSTALLED.rpartition("/")[0] + "/",)
            for path in sorted(staged, key=lambda path: (path.startswith(database), path)):
                folder, name = folders.of(path)
                os.rename(_raw(staged[path]), name, src_dir_fd=stage, dst_dir_fd=folder)
            for path in sorted(after.nodes, reverse=True):
                node = after.nodes[path]
                if node.kind == "directory" and path in fresh:
                    writer.finish_directory(node)
    finally:
        _remove(root / staging)
    return tuple(writer.left_out)


def _changed_paths(before: Tree, after: Tree, owners: bool) -> set[str]:
    """Paths whose node is another; every name of a hard-linked file counts when one of them changed."""
    changed = {
        path for path, node in after.nodes.items() if path and not _is_same(before.nodes.get(path), node, owners)
    }
    for path, node in after.nodes.items():
        if node.kind == "hardlink" and (path in changed or node.target in changed):
            changed |= {path, node.target}
    return changed | {path for path, node in after.nodes.items() if node.kind == "hardlink" and node.target in changed}


def _is_same(old: Node | None, new: Node, owners: bool) -> bool:
    if old is None:
        return False
    if owners and (old.uid, old.gid) != (new.uid, new.gid):
        return False
    if new.kind == "directory":
        return old.kind == "directory" and old.mode == new.mode
    return (old.kind, old.mode, old.size, old.target, old.xattrs, old.device, old.content) == (
        new.kind,
        new.mode,
        new.size,
        new.target,
        new.xattrs,
        new.device,
        new.content,
    )


def _stage(writer: _Writer, after: Tree, fresh: set[str], staging: str) -> dict[str, str]:
    """Makes everything new that is no directory under numbers in the staging folder: name there by path."""
    staged: dict[str, str] = {}
    for path in sorted(fresh):
        node = after.nodes[path]
        if node.kind in ("directory", "hardlink"):
            continue
        writer.make(node, f"{staging}/{len(staged)}")
        if path not in writer.left_out:
            staged[path] = str(len(staged))
    for path in sorted(fresh):
        node = after.nodes[path]
        if node.kind == "hardlink" and node.target in staged:
            _link(writer.folders, f"{staging}/{staged[node.target]}", f"{staging}/{len(staged)}")
            staged[path] = str(len(staged))
    return staged


def _remove_gone(folders: _Folders, before: Tree, after: Tree) -> None:
    """Removes what is not there any more, or is a directory now where none was, or none where one was."""
    for path in sorted(before.nodes, reverse=True):
        old, new = before.nodes[path], after.nodes.get(path)
        if new is not None and (old.kind == "directory") == (new.kind == "directory"):
            continue
        folder, name = folders.of(path)
        if old.kind == "directory":
            folders.forget(path)
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def _remove(folder: Path) -> None:
    """Removes a folder of ours with all that is in it, directories without permissions too."""
    import shutil

    with contextlib.suppress(OSError):
        for top, names, _ in os.walk(folder):
            for name in names:
                if not (directory := Path(top, name)).is_symlink():
                    directory.chmod(0o700)
        shutil.rmtree(folder)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
