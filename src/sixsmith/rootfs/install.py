"""Packages into a tree, as apk 2.14 would put them there.

A transaction is played step by step on a copy of the tree: directories appear while a package is read, files take their
names when all of it was read, the old version goes after the new one came, scripts run in between, triggers at the end.
Order decides much (who owns an overlapping file, which names owners have, which permissions directories get), so the
order is apk's. Where apk would complain, go on and leave a half-written tree, `InstallRefused` is raised and the tree
that was given is as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from sixsmith.apk.archive import ControlSegment, PackageInfo
from sixsmith.apk.dependency import Dependency, render_world
from sixsmith.apk.index import PackageRecord
from sixsmith.apk.installed import (
    ARCH,
    DATABASE,
    FILE,
    INSTALLED,
    KEYS,
    LOCK,
    REPOSITORIES,
    SCRIPTS,
    TRIGGERS,
    WORLD,
    InstalledDirectory,
    InstalledFile,
    InstalledPackage,
    Permissions,
    checksum_text,
    parse_installed,
    parse_scripts,
    parse_triggers,
    render_installed,
    render_scripts,
    render_triggers,
    xattr_checksum,
)
from sixsmith.errors import FormatError, InstallRefused
from sixsmith.model.tar import TarEntry
from sixsmith.rootfs.accounts import groups, users
from sixsmith.rootfs.inodes import Inodes
from sixsmith.rootfs.ownership import Directories, Directory, read_protections
from sixsmith.rootfs.tree import TOP, Member, Node, Source, Tree

__all__ = [
    "InstallPackage",
    "InstallReport",
    "InstallStep",
    "ScriptRunner",
    "install",
    "read_installed",
    "write_settings",
]

_KEPT_BACK = ".apk-new"

_FIRST_DIRECTORIES = (
    ("tmp", 0o1777),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/apk", 0o755),
    ("lib", 0o755),
    ("lib/apk", 0o755),
    ("lib/apk/db", 0o755),
    ("proc", 0o555),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/cache/apk", 0o755),
    ("var/cache/misc", 0o755),
)
"""What `apk add --initdb` makes. It makes device nodes in `dev` too; a container's come from its runtime."""


class InstallPackage(msgspec.Struct, frozen=True):
    """A verified package, ready to be put into a tree.

    `entries` are the members of the data segment by apk's rules (`apk.archive.package_entries`), `source` has their
    bytes, `data_size` is the stored size of the data segment in bytes. A package that is already installed (its removal,
    its triggers) has no entries and no source; its `control` then holds what the database remembers: the scripts, and the
    fields that `installed` keeps.
    """

    record: PackageRecord
    control: ControlSegment
    entries: Sequence[TarEntry] = ()
    source: Source | None = None
    data_size: int = 0

    @property
    def name(self) -> str:
        return self.record.name


class ScriptRunner(Protocol):
    """Does what install scripts do, to the tree that it is given.

    Called in apk's order: `pre-install` before the package's files are there, `post-install` after them (and after the
    files of packages before it), triggers once at the end. The tree holds the apk database as it was before the
    transaction; scripts see `etc/apk` and the files. New directories belong to root while scripts run; their owners are
    set at the end, before the triggers. Implementations change `tree` in place and raise ScriptNotUnderstood or
    OutsideError; nothing is installed then.
    """

    def run(self, tree: Tree, package: InstallPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        """Runs a script; `kind` is `pre-install`, `post-install`, `pre-upgrade`, `post-upgrade`, `pre-deinstall` or
        `post-deinstall`; `arguments` are `$1…`: the new version (a removal: the old one), and for upgrades and
        reinstallations the old version after it."""
        ...

    def trigger(self, tree: Tree, package: InstallPackage, script: bytes, directories: tuple[str, ...]) -> None:
        """Runs a `trigger` script; `directories` are `$1…`: absolute paths of watched directories that changed."""
        ...


class InstallStep(Protocol):
    """One change, as the solver gives it. `action`: install, upgrade, downgrade, replace, reinstall, remove or pin.

    `record` is what is there afterwards (for `remove`: what was), `old` what was there, None for an install.
    `repository`, where there is one, has a `pin`: the tag under which the package stands.
    """

    @property
    def action(self) -> str: ...

    @property
    def record(self) -> PackageRecord: ...

    @property
    def old(self) -> PackageRecord | None: ...

    @property
    def repository(self) -> Any: ...


class InstallReport(msgspec.Struct, frozen=True):
    """What an installation gave. `installed` are the packages as the database now has them, in its order; `messages` say
    what somebody should look at (configuration that was kept, and its new version beside it)."""

    tree: Tree
    installed: tuple[InstalledPackage, ...]
    messages: tuple[str, ...] = ()


def install(
    tree: Tree,
    steps: Sequence[InstallStep],
    packages: Mapping[str, InstallPackage],
    *,
    world: Sequence[Dependency | str],
    repositories: Sequence[str] = (),
    keys: Mapping[str, bytes] | None = None,
    arch: str = "",
    scripts: ScriptRunner | None = None,
) -> InstallReport:
    """A new tree with the steps done to it, in order, and the apk database brought up to date.

    `tree` is not changed; without an apk database in it, one is begun. `packages` are by name, one for each step that
    needs files. `world` goes to `etc/apk/world`; `repositories` (lines) and `keys` (file name → PEM) to `etc/apk`, the
    former replacing what is there, the latter where packages did not bring them; empty ones change nothing. `arch` is
    apk's name. `scripts` None is `--no-scripts`.

    Raises InstallRefused naming packages and path where packages contradict each other or the tree, FormatError for a
    damaged database, and what `scripts` raises.
    """
    installation = _Installation(tree.copy(), scripts)
    for step in steps:
        installation.take(step, packages)
    installation.finish()
    installation.write_database()
    write_settings(installation.tree, world=world, repositories=repositories, keys=keys, arch=arch)
    return InstallReport(installation.tree, tuple(installation.sorted_packages()), tuple(installation.messages))


def read_installed(tree: Tree) -> list[InstalledPackage]:
    """The packages of the tree's apk database, triggers and scripts with them; none without a database.

    Raises FormatError for a damaged one.
    """
    data = tree.read(INSTALLED)
    if data is None:
        return []
    packages = parse_installed(data)
    triggers = parse_triggers(tree.read(TRIGGERS) or b"")
    scripts = parse_scripts(tree.read(SCRIPTS) or b"")
    for package in packages:
        package.triggers = triggers.get(package.record.checksum, ())
        package.scripts = scripts.get(package.record.checksum, {})
    return packages


class _Pending(msgspec.Struct):
    """A file that was read and waits for its name: apk extracts to temporary names first."""

    file: InstalledFile
    entry: TarEntry
    link: _Pending | None = None  # the file that this hard link is another name of
    placed: str = ""  # the real path, once it has one


class _Owned(msgspec.Struct):
    """Who has a path in the database."""

    package: InstalledPackage
    directory: InstalledDirectory
    file: InstalledFile


class _Installation:
    """One transaction on a tree of its own."""

    def __init__(self, tree: Tree, scripts: ScriptRunner | None) -> None:
        self.tree = tree
        self.scripts = scripts
        self.messages: list[str] = []
        self.inodes = Inodes(tree)
        self._begin_database()
        self.packages: dict[str, InstalledPackage] = {package.name: package for package in read_installed(tree)}
        self._watchers = _in_triggers_order(tree, self.packages)
        self.directories = Directories(self.inodes, read_protections(self.inodes))
        self.owned: dict[str, _Owned] = {}
        self._replaces: dict[str, tuple[Dependency, ...]] = {}
        self._fresh: dict[str, InstallPackage] = {}
        for package in self.packages.values():
            self._enter(package)
        self._uids: dict[str, int | None] = {}
        self._gids: dict[str, int | None] = {}
        self._uid("root", 0)  # indexes and control segments belong to root, too: apk asks before anything is installed
        self._gid("root", 0)

    # --- what is there

    def _begin_database(self) -> None:
        if self.tree.read(INSTALLED) is not None:
            return
        for path, mode in _FIRST_DIRECTORIES:
            real = self.tree.resolve(path)
            if real not in self.tree.nodes:
                self.tree.make_directories(real.rpartition("/")[0])
                self.tree.nodes[real] = _directory_node(real, mode, self.tree.epoch, TOP)

    def _enter(self, package: InstalledPackage) -> None:
        """A package of the database: its directories are held, its files owned."""
        for directory in package.directories.values():
            self.directories.hold(directory.path).merge(directory.permissions)
            front = directory.path + "/" if directory.path else ""
            for file in directory.files.values():
                self.owned[front + file.name] = _Owned(package, directory, file)

    def _uid(self, name: str, number: int) -> int:
        """Owner names are looked up in the image, numbers serve where it has none.

        As in apk, a name is looked up once; after a script ran, all are looked up again. A package that brings a new
        `etc/passwd` does not change what is known.
        """
        if name not in self._uids:
            self._uids[name] = next((user.uid for user in users(self.tree) if user.name == name), None)
        found = self._uids[name]
        return number if found is None else found

    def _gid(self, name: str, number: int) -> int:
        if name not in self._gids:
            self._gids[name] = next((group.gid for group in groups(self.tree) if group.name == name), None)
        found = self._gids[name]
        return number if found is None else found

    # --- steps

    def take(self, step: InstallStep, packages: Mapping[str, InstallPackage]) -> None:
        old = self.packages.get(step.old.name) if step.old is not None else None
        if step.action == "remove":
            gone = old or self.packages.get(step.record.name)
            if gone is not None:
                self._remove(gone)
            return
        pin = str(getattr(step.repository, "pin", "") or "")
        if step.action == "pin":
            self.packages[step.record.name].pin = pin
            return
        package = packages[step.record.name]
        new = self._begin(package, old)
        new.pin = pin
        arguments = (package.record.version,) if old is None else (package.record.version, old.record.version)
        if package.record.installed_size:
            self._run(package, "pre-install" if old is None else "pre-upgrade", arguments, new)
            pending = self._read(package, new)
            self._give_names(package, new, pending)
        if old is not None and old is not new:
            self._purge(old)
        self._run(package, "post-install" if old is None else "post-upgrade", arguments, new)

    def _begin(self, package: InstallPackage, old: InstalledPackage | None) -> InstalledPackage:
        """The database entry that a package is about to fill: a new one at the end, or its own when it is reinstalled."""
        record, control = package.record, package.control
        self._fresh[record.name] = package
        self._replaces.pop(record.name, None)
        unpacked = bool(record.installed_size)
        if old is not None and old.record.checksum == record.checksum:
            old.record, old.flags = record, ""
            new = old
        else:
            new = InstalledPackage(record, directories={})
            self.packages.pop(record.name, None)
            self.packages[record.name] = new
        new.triggers = control.triggers if unpacked else ()
        self._watchers.pop(record.name, None)
        if new.triggers:
            self._watchers[record.name] = new
        if unpacked:
            new.replaces += control.replaces  # reinstalling says it twice, in 2.14 too
            new.replaces_priority = control.info.replaces_priority
            new.scripts = dict(control.scripts)
        return new

    def _remove(self, package: InstalledPackage) -> None:
        shown = _as_package(package)
        arguments = (package.record.version,)
        self._run(shown, "pre-deinstall", arguments, package)
        self._purge(package)
        self._run(shown, "post-deinstall", arguments, package)
        del self.packages[package.name]
        self._watchers.pop(package.name, None)

    def _run(self, package: InstallPackage, kind: str, arguments: tuple[str, ...], installed: InstalledPackage) -> None:
        script = installed.scripts.get("." + kind)
        if self.scripts is None or script is None:
            return
        self.scripts.run(self.tree, package, kind, script, arguments)
        self.inodes.forget()
        self._uids.clear()
        self._gids.clear()

    # --- reading a package: directories appear, files wait

    def _read(self, package: InstallPackage, new: InstalledPackage) -> list[_Pending]:
        origin = "apk:" + package.name
        owned = self.owned
        directories = new.directories
        pending: list[_Pending] = []
        files: dict[str, _Pending] = {}
        known: InstalledDirectory | None = None
        met: dict[tuple[object, ...], Permissions] = {}
        for entry in package.entries:
            path = entry.path
            owner = (entry.mode, entry.uname, entry.uid, entry.gname, entry.gid, entry.xattrs)
            permissions = met.get(owner)
            if permissions is None:
                permissions = met[owner] = self._permissions(entry)
            if entry.kind == "directory":
                known = self._read_directory(entry, permissions, new, origin)
                continue
            directory_path, _, name = path.rpartition("/")
            if known is None or known.path != directory_path:
                known = directories.get(directory_path) or self._parent_of(entry, directory_path, package, new)
            if path in files:
                raise InstallRefused(f"{package.record}: /{path} is in the package twice")
            link = self._link_target(entry, package, files) if entry.kind == "hardlink" else None
            other = owned.get(path)
            if other is not None and other.package is not new and not self._wins(new, other.package, path):
                continue
            checksum = self._checksum(entry, link, package)
            if other is not None and other.package is new:
                file = other.file
                file.permissions, file.checksum = permissions, checksum
            else:
                file = InstalledFile(name, permissions, checksum)
            known.files[name] = file
            files[path] = waiting = _Pending(file, entry, link)
            pending.append(waiting)
        return pending

    def _permissions(self, entry: TarEntry) -> Permissions:
        """Mode and owner that an entry asks for; who its names are does not change while one package is read."""
        uid = self._uid(entry.uname, entry.uid) if entry.uname else entry.uid
        gid = self._gid(entry.gname, entry.gid) if entry.gname else entry.gid
        found = Permissions(entry.mode, uid, gid, xattr_checksum(entry.xattrs) if entry.xattrs else "")
        return found if found != FILE else FILE

    def _read_directory(
        self, entry: TarEntry, permissions: Permissions, new: InstalledPackage, origin: str
    ) -> InstalledDirectory:
        known = new.directories.get(entry.path)
        if known is None:
            known = new.directories[entry.path] = InstalledDirectory(entry.path, files={})
            directory = self.directories.hold(entry.path)
        else:
            directory = self.directories.all[entry.path]
        if not directory.is_settled:
            real = self.inodes.locate(entry.path)
            self.directories.prepare(directory, _directory_node(real, entry.mode, entry.mtime, origin))
        known.permissions = permissions
        directory.merge(permissions)
        return known

    def _parent_of(
        self, entry: TarEntry, path: str, package: InstallPackage, new: InstalledPackage
    ) -> InstalledDirectory:
        """The root for files at the top; any other directory has to stand in the archive before its files."""
        if path:
            raise InstallRefused(f"{package.record}: /{entry.path} has no directory entry in the package before it")
        self.directories.hold("")
        root = new.directories[""] = InstalledDirectory("", files={})
        return root

    def _link_target(self, entry: TarEntry, package: InstallPackage, files: dict[str, _Pending]) -> _Pending:
        target = files.get(entry.target) if "/" in entry.target else None  # apk finds none at the top
        if target is None or target.entry.kind == "symlink":
            raise InstallRefused(
                f"{package.record}: /{entry.path} is a hard link to /{entry.target}, which is no file before it"
            )
        return target.link or target

    def _checksum(self, entry: TarEntry, link: _Pending | None, package: InstallPackage) -> str:
        if link is not None:
            return link.file.checksum
        if entry.checksum is None:
            raise InstallRefused(f"{package.record}: /{entry.path} has no checksum; apk takes the package as broken")
        return checksum_text(entry.checksum)

    # --- two packages, one path

    def _wins(self, new: InstalledPackage, old: InstalledPackage, path: str) -> bool:
        """Whether the new package takes the path from the old one. Raises InstallRefused when neither may have it."""
        if old.name == new.name or (new.record.origin and old.record.origin == new.record.origin):
            return True
        old_priority = old.replaces_priority if self._replaced_by(old, new) else -1
        new_priority = new.replaces_priority if self._replaced_by(new, old) else -1
        if old_priority > new_priority:
            return False
        if new_priority < 0:
            raise InstallRefused(
                f"{new} would overwrite /{path}, which belongs to {old}",
                hint=f"leave one of {new.name} and {old.name} out; the file is theirs by the same right",
            )
        return True

    def _replaced_by(self, winner: InstalledPackage, loser: InstalledPackage) -> bool:
        if winner.name not in self._replaces:
            self._replaces[winner.name] = tuple(Dependency.parse(text) for text in winner.replaces)
        return any(
            dependency.accepts(loser.record.version, loser.record.checksum)
            if dependency.name == loser.name
            else dependency.conflict
            for dependency in self._replaces[winner.name]
        )

    # --- files take their names

    def _give_names(self, package: InstallPackage, new: InstalledPackage, pending: list[_Pending]) -> None:
        waiting = {item.entry.path: item for item in pending}
        origin = "apk:" + package.name
        linked: list[_Pending] = []
        all_directories, nodes, owned = self.directories.all, self.tree.nodes, self.owned
        for directory in new.directories.values():
            held = all_directories[directory.path]
            held.is_modified = True
            front = directory.path + "/" if directory.path else ""
            real = self.tree.resolve(directory.path) if directory.path else ""
            real_front = real + "/" if real else ""
            is_directory = self.inodes.is_directory(real)
            for file in directory.files.values():
                name = front + file.name
                item = waiting.get(name)
                if item is None:
                    continue
                if not is_directory:
                    raise self._no_directory(package, item, real)
                path = real_front + file.name
                missing = all_directories.get(name)
                if missing is not None and missing.references and path not in nodes:
                    # a directory that could not be made; apk would give its permissions to the file
                    raise InstallRefused(f"{package.record}: /{path} is a file here and a directory to the database")
                self._give_name(package, held, item, path, origin)
                if item.link is not None:
                    linked.append(item)
                old = owned.get(name)
                if old is not None and old.file is not file:
                    del old.directory.files[old.file.name]
                owned[name] = _Owned(new, directory, file)
        if linked:
            self._tie(pending, linked, package.source, origin)

    def _no_directory(self, package: InstallPackage, item: _Pending, real: str) -> InstallRefused:
        node = self.tree.nodes.get(real)
        owner = self.owned.get(real)
        if node is None:
            return InstallRefused(f"{package.record}: /{item.entry.path} cannot be made, there is no /{real}")
        by = f" of {owner.package}" if owner else ""
        return InstallRefused(
            f"{package.record}: /{item.entry.path} cannot be made, /{real} is a {node.kind}{by}, no directory"
        )

    def _give_name(self, package: InstallPackage, held: Directory, item: _Pending, real: str, origin: str) -> None:
        there = self.tree.nodes.get(real)
        if there is not None and held.is_protected and not self._is_untouched(there, self.owned.get(item.entry.path)):
            if _digest_of(self.tree, there) == item.file.checksum:
                return  # the same as the package's: what is there stays
            self.messages.append(f"/{real} was kept; the version of {package.record} is /{real}{_KEPT_BACK}")
            real += _KEPT_BACK
            there = self.tree.nodes.get(real)
        if there is not None and there.kind == "directory":
            raise self._directory_in_the_way(package, real)
        item.placed = real
        self.inodes.place(_file_node(item.entry, item.file.permissions, real, package.source, origin))

    def _is_untouched(self, there: Node, owner: _Owned | None) -> bool:
        """Whether a file in a protected place is as its package brought it."""
        return owner is not None and bool(owner.file.checksum) and _digest_of(self.tree, there) == owner.file.checksum

    def _directory_in_the_way(self, package: InstallPackage, real: str) -> InstallRefused:
        owners = [other for other in self.packages.values() if real in other.directories and other.name != package.name]
        by = f" of {owners[0]}" if owners else ""
        return InstallRefused(f"{package.record}: /{real} cannot be made, it is a directory{by}")

    def _tie(self, pending: list[_Pending], linked: list[_Pending], source: Source | None, origin: str) -> None:
        """Makes the names of one file hard links of the first of them that is there."""
        groups: dict[str, list[_Pending]] = {}
        for item in linked:
            assert item.link is not None
            groups.setdefault(item.link.entry.path, [item.link]).append(item)
        order = {item.entry.path: position for position, item in enumerate(pending)}
        for members in groups.values():
            members.sort(key=lambda item: order[item.entry.path])
            placed = [item.placed for item in members if item.placed]
            if not placed:
                continue
            device = self.tree.nodes[placed[0]].device
            first = self.tree.nodes[placed[0]] = _inode_of(members, placed[0], source, origin, device)
            for path in placed[1:]:
                self.tree.nodes[path] = Node(
                    path,
                    "hardlink",
                    first.mode,
                    first.uid,
                    first.gid,
                    first.mtime,
                    0,
                    first.path,
                    first.xattrs,
                    first.checksum,
                    self.tree.nodes[path].device,
                    origin,
                    None,
                )
        self.inodes.forget()

    # --- removing

    def _purge(self, package: InstalledPackage) -> None:
        """Removes a package's files and lets go of its directories. Changed configuration stays."""
        for directory in package.directories.values():
            held = self.directories.all[directory.path]
            held.is_modified = True
            front = directory.path + "/" if directory.path else ""
            real = self.tree.resolve(directory.path)
            for file in directory.files.values():
                path = f"{real}/{file.name}" if real else file.name
                there = self.tree.nodes.get(path)
                owner = self.owned.pop(front + file.name, None)
                if there is None or there.kind == "directory":
                    continue
                if not held.is_protected or self._is_untouched(there, owner):
                    self.inodes.unlink(path)
            self.directories.release(held)
        package.directories = {}

    # --- the end

    def finish(self) -> None:
        """Sets permissions, then runs the triggers."""
        self.directories.settle(self.packages.values())
        if self.scripts is None:
            return
        told = [
            (package, self.directories.watched(package.triggers, everything=package.name in self._fresh))
            for package in self.packages.values()
            if package.triggers
        ]
        for package, directories in told:
            script = package.scripts.get(".trigger")
            if script is not None and directories:
                shown = self._fresh.get(package.name) or _as_package(package)
                self.scripts.trigger(self.tree, shown, script, directories)
                self.inodes.forget()

    def sorted_packages(self) -> list[InstalledPackage]:
        """As 2.14 writes `installed`: by name. Scripts keep the order of installation, triggers that of their coming."""
        return sorted(self.packages.values(), key=lambda package: package.name.encode("utf-8", "surrogateescape"))

    def write_database(self) -> None:
        """Writes the database."""
        tree = self.tree
        packages = list(self.packages.values())
        tree.make_directories(DATABASE)
        tree.make_directories("etc/apk")
        if LOCK not in tree:
            tree.write(LOCK, b"", mode=0o600)
        files = {
            INSTALLED: render_installed(self.sorted_packages()),
            TRIGGERS: render_triggers(self._watchers.values()),
            SCRIPTS: render_scripts(packages, tree.epoch),
        }
        for path, data in files.items():
            _write_as_root(tree, path, data)


def write_settings(
    tree: Tree,
    *,
    world: Sequence[Dependency | str],
    repositories: Sequence[str] = (),
    keys: Mapping[str, bytes] | None = None,
    arch: str = "",
) -> None:
    """Writes `etc/apk`, in the tree itself; all as for `install`.

    What `apk add` does when all that it is asked for is installed already. Raises FormatError for an impossible key name.
    """
    tree.make_directories("etc/apk")
    wanted = [Dependency.parse(entry) if isinstance(entry, str) else entry for entry in world]
    _write_as_root(tree, WORLD, (render_world(wanted) or "\n").encode("utf-8", "surrogateescape"))
    if arch and (tree.read(ARCH) or b"").strip() != arch.encode():
        tree.write(ARCH, arch.encode() + b"\n", mode=0o644)
    if repositories:
        tree.write(REPOSITORIES, "".join(line + "\n" for line in repositories).encode(), mode=0o644)
    for name, pem in (keys or {}).items():
        if "/" in name or name in ("", ".", ".."):
            raise FormatError(f"'{name}' cannot be the name of a key file")
        if f"{KEYS}/{name}" not in tree:
            tree.write(f"{KEYS}/{name}", pem, mode=0o644)


def _write_as_root(tree: Tree, path: str, data: bytes) -> None:
    folder = tree.find(path.rpartition("/")[0])
    gid = folder.gid if folder is not None and folder.mode & 0o2000 else 0  # as the kernel gives new files
    tree.write(path, data, mode=0o644, uid=0, gid=gid)


def _in_triggers_order(tree: Tree, packages: Mapping[str, InstalledPackage]) -> dict[str, InstalledPackage]:
    """The packages with triggers, by name, in the order of the `triggers` file."""
    by_checksum = {package.record.checksum: package for package in packages.values()}
    lines = parse_triggers(tree.read(TRIGGERS) or b"")
    watchers = [by_checksum[checksum] for checksum in lines if checksum in by_checksum]
    return {package.name: package for package in watchers if package.triggers}


def _as_package(package: InstalledPackage) -> InstallPackage:
    """An installed package as its scripts' runner sees it."""
    record = package.record
    info = PackageInfo(
        name=record.name,
        version=record.version,
        arch=record.arch,
        origin=record.origin,
        size=record.installed_size,
        replaces=package.replaces,
        replaces_priority=package.replaces_priority,
        triggers=package.triggers,
        depends=record.depends,
        provides=record.provides,
        install_if=record.install_if,
    )
    return InstallPackage(record, ControlSegment(record.checksum, info, package.scripts))


def _directory_node(real: str, mode: int, mtime: int, origin: str) -> Node:
    return Node(real, "directory", mode, 0, 0, mtime, 0, "", (), None, (0, 0), origin, None)


def _file_node(entry: TarEntry, permissions: Permissions, real: str, source: Source | None, origin: str) -> Node:
    kind = entry.kind
    if kind == "file":
        content = Member(source, entry.offset, entry.size) if source is not None else None
    else:
        content = None
    return Node(
        real,
        kind,
        0o777 if kind == "symlink" else permissions.mode,
        permissions.uid,
        permissions.gid,
        entry.mtime,
        entry.size,
        entry.target if kind == "symlink" else "",
        entry.xattrs if kind == "file" else (),
        entry.checksum,
        entry.device,
        origin,
        content,
    )


def _inode_of(members: list[_Pending], path: str, source: Source | None, origin: str, device: tuple[int, int]) -> Node:
    """The file behind several names, at `path`: content and mode of the first header, owner and time of the last.

    Every further name sets the owner anew, which costs the file its suid bits, and a mode only when it has such bits.
    """
    content = members[0].entry
    mode = content.mode
    for item in members[1:]:
        if item.entry.mode & 0o7000:
            mode = item.entry.mode
        else:
            mode &= ~0o6000 if mode & 0o010 else ~0o4000
    last = members[-1]
    permissions = last.file.permissions
    return Node(
        path,
        "file",
        mode,
        permissions.uid,
        permissions.gid,
        last.entry.mtime,
        content.size,
        "",
        content.xattrs,
        content.checksum,
        device,
        origin,
        Member(source, content.offset, content.size) if source is not None else None,
    )


def _digest_of(tree: Tree, node: Node) -> str:
    """apk's checksum of what is at a path: of the content, for a link of its text, "" for anything else."""
    if node.kind == "symlink":
        return checksum_text(
            hashlib.sha1(node.target.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
        )
    if node.kind == "hardlink":
        node = tree.nodes[node.target]
    if node.kind != "file":
        return ""
    if node.checksum is not None:
        return checksum_text(node.checksum)
    data = node.content.read() if node.content is not None else b""
    return checksum_text(hashlib.sha1(data, usedforsecurity=False).digest())
