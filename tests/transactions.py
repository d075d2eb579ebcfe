"""Random transactions for comparisons with the genuine apk: small packages made to get into each other's way."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apk_files import Item, Package, make_apk, make_index
from genuine import GenuineApk, Shelf, differences, disk_database, disk_entries, tree_database, tree_entries
from sixsmith.apk.index import PackageRecord
from sixsmith.errors import FormatError, InstallRefused
from sixsmith.rootfs.inodes import Inodes
from sixsmith.rootfs.install import install
from sixsmith.rootfs.tree import Tree

FOLDERS = ("d", "d/x", "etc", "etc/a", "etc/init.d", "usr", "usr/bin", "tmp", "var", "lib/apk", "etc/apk")
PATHS = (*FOLDERS, "d/y", "d/x/z", "e", "etc/a/b", "bin", "d/.h", "d/link")
_LONG = "x" * 120
ODD_FOLDERS = ("d", "d/é", "etc", f"d/{_LONG}", "usr", "d/a b", "etc/.h", "d/-", "d/é/.apk")
ODD_PATHS = (
    *ODD_FOLDERS,
    *("d/a b/c", "d/é/ü", "-f", f"d/{_LONG}/{_LONG}", f"usr/{_LONG}{_LONG}", "d/x:y", "d/R:", "d/F:x", "d/*", "d/\\n"),
    *("etc/conf", "etc/conf.apk-new", "etc/.apk.x", "d/.apk.deadbeef", "etc/%s"),
    *("d/ ", "usr/c ", "d/q\"'", "d/..x", "d/...", ".top", "é"),
)
"""Names that are hard on formats of lines, shells and archives, and those that apk uses for itself."""
ACCOUNTS = [
    Item("etc/"),
    Item("etc/passwd", b"root:x:0:0::/:/x\nwww:x:44:45::/:/x\n"),
    Item("etc/group", b"www:x:46:\n"),
]


class Trial:
    """One seed: a few requests one after the other on one root, the genuine apk's and ours side by side."""

    def __init__(
        self,
        seed: int,
        apk: GenuineApk,
        folder: Path,
        *,
        folders: Sequence[str] = FOLDERS,
        paths: Sequence[str] = PATHS,
    ) -> None:
        self.seed = seed
        self.folders = folders
        self.paths = paths
        self.dice = random.Random(seed)
        self.apk = apk
        self.folder = folder
        self.root = folder / "root"
        self.shelf = Shelf()
        self.published: list[Package] = []

    def run(self) -> str:
        """`same`, or `refused` where apk ends with an error and so do we. Raises AssertionError otherwise."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "repository/x86_64").mkdir(parents=True)
        names = list("abcd")[: self.dice.randint(1, 4)]
        tree = Tree(epoch=5)
        world: set[str] = set()
        for phase in range(self.dice.randint(1, 4)):
            if phase == 0 or self.dice.random() < 0.8:
                self._publish(names, f"{phase + 1}-r0")
            request = self._request(names, world, is_first=phase == 0)
            if phase:
                self._tamper(tree)
            done = self.apk.run(
                self.root,
                *(["--initdb"] if phase == 0 else []),
                *("--repository", self.folder / "repository", "--allow-untrusted", "--no-scripts"),
                *request,
            )
            steps, packages = self.shelf.steps(done.stdout)
            what = f"seed {self.seed}: {' '.join(request)}\n{done.stdout}{done.stderr}"
            try:
                report = install(tree, steps, packages, world=sorted(world), arch="x86_64")
            except (InstallRefused, FormatError) as error:
                # apk overwrites itself and says so only sometimes; it gives a file the permissions of a directory
                by_design = "in the package twice" in error.message or "a directory to the database" in error.message
                assert done.returncode or by_design, f"{what}\nrefused: {error}"
                return "refused"
            assert not done.returncode, f"{what}\nnot refused"
            tree = report.tree
            found = differences(disk_entries(self.root), tree_entries(tree))
            assert not found, what + "\n".join(found)
            found = differences(disk_database(self.root), tree_database(tree))
            assert not found, what + "\n".join(line[:300] for line in found)
        return "same"

    def _publish(self, names: list[str], version: str) -> None:
        folder = self.folder / "repository/x86_64"
        for name in names:
            package = self._package(name, names, version)
            (folder / f"{name}-{version}.apk").write_bytes(package.file)
            self.shelf.add(package.file, name, PackageRecord.parse(package.record))
            self.published.append(package)
        (folder / "APKINDEX.tar.gz").write_bytes(make_index(self.published))

    def _request(self, names: list[str], world: set[str], *, is_first: bool) -> list[str]:
        chance = self.dice.random()
        if is_first or chance < 0.4 or not world:
            added = self.dice.sample(names, self.dice.randint(1, len(names)))
            world.update(added)
            return ["add", *(["-u"] if self.dice.random() < 0.5 else []), *added]
        if chance < 0.8:
            return ["upgrade", *(["-a"] if self.dice.random() < 0.5 else [])]
        gone = self.dice.choice(sorted(world))
        world.remove(gone)
        return ["del", gone]

    # --- packages

    def _package(self, name: str, names: list[str], version: str) -> Package:
        dice = self.dice
        info = []
        if dice.random() < 0.4:
            info.append(f"replaces = {dice.choice(names)}{dice.choice(['', '', '<2', '=1-r0', '>1-r0'])}")
        if dice.random() < 0.2:
            info.append(f"replaces = {dice.choice(names)}")
        if dice.random() < 0.3:
            info.append(f"replaces_priority = {dice.randint(0, 5)}")
        if dice.random() < 0.2:
            info.append("triggers = /usr/* /etc")
        items = self._items()
        if name == "a" and dice.random() < 0.3:
            items = ACCOUNTS + [item for item in items if item.name != "etc/"]
        scripts = {
            kind: "#!/bin/sh\n" + "x" * dice.randint(0, 600)
            for kind in ("post-install", "trigger", "pre-upgrade")
            if dice.random() < 0.2
        }
        return make_apk(
            name,
            items,
            version,
            origin=dice.choice([name, name, "shared"]),
            info=info,
            scripts=scripts,
            index=f"k:{dice.randint(1, 9)}\n" if dice.random() < 0.1 else "",
            size=dice.choice([4096] * 9 + [0]),
        )

    def _items(self) -> list[Item]:
        dice = self.dice
        items: list[Item] = []
        seen: set[str] = set()
        for _ in range(dice.randint(0, 10)):
            path = dice.choice(self.paths)
            for end in [position for position, character in enumerate(path) if character == "/"]:
                if path[:end] not in seen and dice.random() < 0.95:
                    mode = dice.choice([0o755] * 6 + [0o700, 0o1777, 0o775])
                    items.append(Item(path[:end] + "/", mode=mode, **self._owner()))
                    seen.add(path[:end])
            if path in seen and dice.random() < 0.9:
                continue
            seen.add(path)
            item = self._item(path, items)
            if item is not None:
                items.append(item)
        if dice.random() < 0.1:
            dice.shuffle(items)
        return items

    def _item(self, path: str, items: list[Item]) -> Item | None:
        dice = self.dice
        chance = dice.random()
        is_folder = path in self.folders
        if chance < (0.93 if is_folder else 0.05):
            mode = dice.choice([0o755] * 5 + [0o700, 0o750, 0o1777, 0o2755])
            return Item(path + "/", mode=mode, **self._owner())
        mtime = dice.choice([1700000000, 1600000000])
        if is_folder or chance < 0.7:
            return Item(
                path + dice.choice(["", "", "", "1", "2"]),
                dice.choice([b"one", b"two", b"", b"three"]),
                mode=dice.choice([0o644] * 4 + [0o755, 0o4755, 0o600]),
                xattrs={"user.n": b"v"} if dice.random() < 0.1 else {},
                mtime=mtime,
                **self._owner(),
            )
        if chance < 0.85:
            target = dice.choice([b"x", b"../d", b"/usr/bin", b"usr/bin", b"d"])
            return Item(path + dice.choice(["", "l"]), target, type=b"2")
        files = [item for item in items if item.kind() == b"0"]
        if not files:
            return None
        target = dice.choice(files).name.encode()
        mode = dice.choice([0o644, 0o755, 0o4711])
        return Item(path + dice.choice(["h", "h2"]), target, type=b"1", mode=mode, mtime=mtime, **self._owner())

    def _owner(self) -> dict[str, Any]:
        dice = self.dice
        if dice.random() < 0.8:
            return {}
        ids = (dice.randint(0, 3), dice.randint(0, 3))
        if dice.random() < 0.5:
            return {"owner": ("", ""), "ids": ids}
        return {"owner": (dice.choice(["www", "nobody", "root", "zz"]), dice.choice(["www", "", "root"])), "ids": ids}

    # --- somebody's hands on the disk, and the same in our tree

    def _tamper(self, tree: Tree) -> None:
        hidden = ("lib/apk", "etc/apk", "dev")
        for _ in range(self.dice.randint(0, 3)):
            paths = sorted(path for path in tree.nodes if not path.startswith(hidden))
            path = self.dice.choice(paths)
            node = tree.nodes[path]
            if node.kind == "directory":
                if self.dice.random() < 0.5:
                    (self.root / path).chmod(0o711)
                    tree.change(path, mode=0o711)
                else:
                    new = f"{path}/{self.dice.choice(['x', 'y', '1', 'b', 'z'])}"
                    if new not in tree:
                        self._write(tree, new, b"extra")
                continue
            (self.root / path).unlink()
            Inodes(tree).unlink(path)
            if node.kind == "file" and self.dice.random() < 0.7:
                self._write(tree, path, b"local")

    def _write(self, tree: Tree, path: str, content: bytes) -> None:
        full = self.root / path
        full.write_bytes(content)
        full.chmod(0o644)
        os.chown(full, 0, 0)
        os.utime(full, (5, 5))
        tree.write(path, content, mode=0o644, uid=0, gid=0)
