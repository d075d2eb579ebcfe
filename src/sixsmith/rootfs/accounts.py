"""Users and groups of an image: `etc/passwd`, `etc/group`, `etc/shadow`, `etc/gshadow`.

Ids decide who owns what in the image, so they have to be the ones that the image's own `adduser` and `addgroup` would
give out, in the order in which they would be called. Every Alpine image has busybox's versions of the two; the rules here
are theirs (observed in 1.27 to 1.36, Alpine 3.7 to 3.20): which numbers are free, what a new line says, what becomes of
the home directory, and that a changed file leaves its old self behind as `etc/passwd-`.

A database is a tuple of lines that is only ever parsed where it is asked, so that lines nobody touches (comments,
malformed ones) survive byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

import msgspec

from sixsmith.errors import InstallRefused, UsageError, nearest
from sixsmith.rootfs.tree import TOP, Node, Tree

__all__ = [
    "GROUP",
    "GSHADOW",
    "PASSWD",
    "SHADOW",
    "Group",
    "GroupRequest",
    "User",
    "UserRequest",
    "add_group",
    "add_to_group",
    "add_user",
    "apply_accounts",
    "gid_of",
    "group_named",
    "groups",
    "parse_group",
    "parse_user",
    "remove_from_group",
    "remove_group",
    "remove_user",
    "set_password",
    "uid_of",
    "user_named",
    "users",
]

PASSWD = "etc/passwd"
GROUP = "etc/group"
SHADOW = "etc/shadow"
GSHADOW = "etc/gshadow"

FIRST_SYSTEM_ID = 100
LAST_SYSTEM_ID = 999
LAST_ID = 60000
"""Ranges that Alpine's busybox is built with."""

_DAY = 24 * 60 * 60
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*\$?|\$")
"""Names that busybox takes (built with FEATURE_CHECK_NAMES)."""


class User(msgspec.Struct, frozen=True):
    """One line of `etc/passwd`."""

    name: str
    password: str
    uid: int
    gid: int
    gecos: str
    home: str
    shell: str


class Group(msgspec.Struct, frozen=True):
    """One line of `etc/group`."""

    name: str
    password: str
    gid: int
    members: tuple[str, ...]


def parse_user(line: str) -> User | None:
    """The user of a `etc/passwd` line, or None when libc would skip the line."""
    fields = line.split(":")
    if len(fields) != 7 or not fields[2].isdecimal() or not fields[3].isdecimal():
        return None
    return User(fields[0], fields[1], int(fields[2]), int(fields[3]), fields[4], fields[5], fields[6])


def parse_group(line: str) -> Group | None:
    """The group of a `etc/group` line, or None when libc would skip the line."""
    fields = line.split(":")
    if len(fields) != 4 or not fields[2].isdecimal():
        return None
    members = tuple(name for name in fields[3].split(",") if name)
    return Group(fields[0], fields[1], int(fields[2]), members)


def _lines(tree: Tree, path: str) -> list[str]:
    data = tree.read(path)
    if not data:
        return []
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def users(tree: Tree) -> list[User]:
    """The users of the image, in file order; malformed lines are left out."""
    return [user for line in _lines(tree, PASSWD) if (user := parse_user(line)) is not None]


def groups(tree: Tree) -> list[Group]:
    """The groups of the image, in file order; malformed lines are left out."""
    return [group for line in _lines(tree, GROUP) if (group := parse_group(line)) is not None]


def user_named(tree: Tree, name: str) -> User | None:
    """The first user of that name."""
    return next((user for user in users(tree) if user.name == name), None)


def group_named(tree: Tree, name: str) -> Group | None:
    """The first group of that name."""
    return next((group for group in groups(tree) if group.name == name), None)


def uid_of(tree: Tree, owner: str) -> int | None:
    """The uid of a user name or number, as `chown` reads it: names in the image first, numbers after."""
    user = user_named(tree, owner)
    if user is not None:
        return user.uid
    return int(owner) if owner.isdecimal() and int(owner) < 2**32 - 1 else None


def gid_of(tree: Tree, owner: str) -> int | None:
    """The gid of a group name or number, as `chown` reads it: names in the image first, numbers after."""
    group = group_named(tree, owner)
    if group is not None:
        return group.gid
    return int(owner) if owner.isdecimal() and int(owner) < 2**32 - 1 else None


# --- what busybox's applets do --------------------------------------------------------------------------------------


def _write_lines(tree: Tree, path: str, lines: Iterable[str], *, backup: bool) -> None:
    real = tree.resolve(path)
    old = tree.find(path)
    if backup and old is not None:
        # The old file becomes `NAME-`, with its mode, owner and time; the new one gets mode and owner of the old.
        tree.put(msgspec.structs.replace(old, path=real + "-", checksum=None, origin=TOP))
    mode = old.mode & 0o777 if old is not None else 0o600
    data = "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
    tree.write(real, data, mode=mode)


def _replace(
    tree: Tree, path: str, name: str, rest: str | None, *, append: bool, backup: bool, optional: bool = False
) -> None:
    """Drops the lines of `name`, or puts `name:rest` in place of them; with `append`, at the end as `adduser` does."""
    if tree.find(path) is None:
        if optional:
            return
        raise InstallRefused(f"/{path}: No such file or directory")
    lines = [line for line in _lines(tree, path) if not line.startswith(name + ":")]
    if append and rest is not None:
        lines.append(f"{name}:{rest}")
    _write_lines(tree, path, lines, backup=backup)


def _add_member(tree: Tree, path: str, group: str, member: str, *, backup: bool) -> None:
    lines = []
    for line in _lines(tree, path):
        if line.startswith(group + ":"):
            line = f"{line}{'' if line.endswith(':') else ','}{member}"
        lines.append(line)
    _write_lines(tree, path, lines, backup=backup)


def _refuse_bad_name(name: str) -> None:
    if len(name) > 255 or not _NAME.fullmatch(name):
        raise InstallRefused(f"illegal name '{name}'")


def add_group(tree: Tree, name: str, *, gid: int | None = None, system: bool = False, backup: bool = True) -> int:
    """Adds a group as `addgroup [-g GID] [-S] NAME` does and returns its gid.

    Without `gid`, the first free one from 100 (`system`) or 1000 on. With `backup`, `etc/group-` keeps the old file.
    Raises InstallRefused when the name or the gid is in use, no gid is left or `etc/group` is missing.
    """
    _refuse_bad_name(name)
    return _new_group(tree, name, gid=gid, system=system, backup=backup)


def _new_group(tree: Tree, name: str, *, gid: int | None, system: bool, backup: bool) -> int:
    known = groups(tree)
    if any(group.name == name for group in known):
        raise InstallRefused(f"group '{name}' in use")
    taken = {group.gid for group in known}
    if gid is not None:
        if gid in taken:
            raise InstallRefused(f"gid '{gid}' in use")
    else:
        gid = _first_free(taken, system=system)
        if gid is None:
            raise InstallRefused("no gids left")
    _replace(tree, GROUP, name, f"x:{gid}:", append=True, backup=backup)
    _replace(tree, GSHADOW, name, "!::", append=True, backup=backup, optional=True)
    return gid


def _first_free(taken: set[int], *, system: bool) -> int | None:
    first, last = (FIRST_SYSTEM_ID, LAST_SYSTEM_ID) if system else (LAST_SYSTEM_ID + 1, LAST_ID)
    return next((number for number in range(first, last + 1) if number not in taken), None)


def add_to_group(tree: Tree, user: str, group: str, *, backup: bool = True) -> None:
    """Adds an existing user to an existing group as `addgroup USER GROUP` does; nothing happens when it is in it.

    Raises InstallRefused when one of them is not known.
    """
    if user_named(tree, user) is None:
        raise InstallRefused(f"unknown user {user}")
    entry = group_named(tree, group)
    if entry is None:
        raise InstallRefused(f"unknown group {group}")
    if user in entry.members:
        return
    _add_member(tree, GROUP, group, user, backup=backup)
    if tree.find(GSHADOW) is not None:
        _add_member(tree, GSHADOW, group, user, backup=backup)


def add_user(
    tree: Tree,
    name: str,
    *,
    uid: int | None = None,
    group: str | None = None,
    home: str | None = None,
    make_home: bool = True,
    shell: str | None = None,
    gecos: str = "Linux User,,,",
    skeleton: str = "/etc/skel",
    system: bool = False,
    system_shell: str = "/sbin/nologin",
    backup: bool = True,
) -> User:
    """Adds a user as `adduser -D` does; returns it.

    `group` is the name of its primary group, which must exist; without it a system user goes into `nogroup`, any other
    gets a group of its own name and number. `shell` defaults to `system_shell`, or root's own shell. The home directory
    (`/home/NAME`) is made with mode 2755 from the skeleton, and an existing one is taken over, unless `make_home` is
    false; as with adduser, a home whose parent is missing is not made. The account is locked (`!`), its password's date
    is the day of the tree's epoch. Raises InstallRefused when the name or uid is in use, the group unknown, no uid left
    or `etc/passwd` is missing.
    """
    _refuse_bad_name(name)
    use_group = group if group is not None else "nogroup" if system else None
    if shell is None:
        shell = system_shell if system else root_shell(tree)
    gid: int | None = None
    if use_group is not None:
        entry = group_named(tree, use_group)
        if entry is None:
            raise InstallRefused(f"unknown group {use_group}")
        gid = entry.gid
    uid = _study_uid(tree, name, uid, own_group=use_group is None, system=system)
    if gid is None:
        gid = uid
        if group_named(tree, name) is not None:
            raise InstallRefused(f"group '{name}' in use")
    user = User(name, "x", uid, gid, gecos, home if home is not None else f"/home/{name}", shell)
    rest = f"x:{uid}:{gid}:{user.gecos}:{user.home}:{user.shell}"
    _replace(tree, PASSWD, name, rest, append=True, backup=backup)
    day = tree.epoch // _DAY
    _replace(tree, SHADOW, name, f"!:{day}:0:99999:7:::", append=True, backup=backup, optional=True)
    if use_group is not None:
        add_to_group(tree, name, use_group, backup=backup)
    else:
        _new_group(tree, name, gid=gid, system=False, backup=backup)
    if make_home:
        _make_home(tree, user, skeleton)
    return user


def _study_uid(tree: Tree, name: str, uid: int | None, *, own_group: bool, system: bool) -> int:
    known = users(tree)
    if any(user.name == name for user in known):
        raise InstallRefused(f"user '{name}' in use")
    taken = {user.uid for user in known}
    if own_group:
        taken |= {group.gid for group in groups(tree)}
    if uid is not None:
        if uid in taken:
            raise InstallRefused(f"uid '{uid}' in use")
        return uid
    free = _first_free(taken, system=system)
    if free is None:
        raise InstallRefused("no uids left")
    return free


def root_shell(tree: Tree) -> str:
    """The shell that adduser gives to ordinary users: the one of the user with uid 0."""
    return next((user.shell for user in users(tree) if user.uid == 0 and user.shell), "/bin/sh")


def _make_home(tree: Tree, user: User, skeleton: str) -> None:
    real = tree.resolve(user.home)
    parent = real.rpartition("/")[0]
    old = tree.get(real)
    if old is None:
        above = tree.get(parent) if parent else None
        if not real or (parent and (above is None or above.kind != "directory")):
            return  # mkdir fails; adduser says so and goes on
        tree.make_directory(real, uid=user.uid, gid=user.gid)
        _copy_skeleton(tree, tree.resolve(skeleton), real, user)
    _take(tree, real, user)


def _take(tree: Tree, real: str, user: User) -> None:
    if real in tree:
        tree.change(real, mode=0o2755, uid=user.uid, gid=user.gid)


def _copy_skeleton(tree: Tree, source: str, home: str, user: User) -> None:
    start = source + "/"
    for node in [node for node in tree if node.path.startswith(start)]:
        copy: Node = msgspec.structs.replace(
            node,
            path=f"{home}/{node.path[len(start) :]}",
            uid=user.uid,
            gid=user.gid,
            mtime=tree.epoch,
            checksum=None,
            origin=TOP,
        )
        tree.put(copy)


def remove_user(tree: Tree, name: str, *, backup: bool = True) -> None:
    """Removes a user as `deluser NAME` does, with the group of its name when nobody else has it as primary group."""
    if user_named(tree, name) is None:
        raise InstallRefused(f"unknown user {name}")
    _replace(tree, PASSWD, name, None, append=False, backup=backup)
    _replace(tree, SHADOW, name, None, append=False, backup=backup, optional=True)
    _leave_groups(tree, name, None, backup=backup)
    own = group_named(tree, name)
    if own is not None and not any(user.gid == own.gid for user in users(tree)):
        _replace(tree, GROUP, name, None, append=False, backup=backup)
        _replace(tree, GSHADOW, name, None, append=False, backup=backup, optional=True)


def _leave_groups(tree: Tree, name: str, group: str | None, *, backup: bool) -> None:
    """Takes a user out of one group's members, or out of all, in one go."""
    for path in (GROUP, GSHADOW):
        if tree.find(path) is None:
            continue
        lines = []
        for line in _lines(tree, path):
            if group is None or line.startswith(group + ":"):
                head, _, members = line.rpartition(":")
                line = f"{head}:{','.join(member for member in members.split(',') if member != name)}"
            lines.append(line)
        _write_lines(tree, path, lines, backup=backup)


def remove_group(tree: Tree, name: str, *, backup: bool = True) -> None:
    """Removes a group as `delgroup NAME` does; raises InstallRefused when it is some user's primary group."""
    entry = group_named(tree, name)
    if entry is None:
        raise InstallRefused(f"unknown group {name}")
    for user in users(tree):
        if user.gid == entry.gid:
            raise InstallRefused(f"'{user.name}' still has '{name}' as their primary group!")
    _replace(tree, GROUP, name, None, append=False, backup=backup)
    _replace(tree, GSHADOW, name, None, append=False, backup=backup, optional=True)


def remove_from_group(tree: Tree, user: str, group: str, *, backup: bool = True) -> None:
    """Takes a user out of a group's members, as `delgroup USER GROUP` does."""
    _leave_groups(tree, user, group, backup=backup)


def set_password(tree: Tree, name: str, change: str, *, backup: bool = True) -> None:
    """What `passwd -u|-l|-d NAME` (`change` is `unlock`, `lock` or `delete`) does to `etc/shadow`; `set:HASH` is what
    `chpasswd -e` does.

    Raises InstallRefused for an unknown user, and where passwd finds nothing to change (locked already, not locked).
    """
    user = user_named(tree, name)
    if user is None:
        raise InstallRefused(f"unknown user {name}")
    lines = _lines(tree, SHADOW)
    found = next((index for index, line in enumerate(lines) if line.startswith(name + ":")), None)
    if found is None:
        raise InstallRefused(f"no record of {name} in /{SHADOW}, using /{PASSWD}")
    fields = lines[found].split(":")
    old = fields[1] if len(fields) > 1 else ""
    if change.startswith("set:"):
        new = change[4:]
    elif change == "delete":
        new = ""
    elif change == "lock":
        if old.startswith("!"):
            raise InstallRefused(f"password for {name} is already locked")
        new = "!" + old
    else:
        if not old.startswith("!"):
            raise InstallRefused(f"password for {name} is already unlocked")
        new = old[1:]
    fields[1] = new
    if len(fields) > 2:
        fields[2] = str(tree.epoch // _DAY)
    lines[found] = ":".join(fields)
    _write_lines(tree, SHADOW, lines, backup=backup)
    rest = f"x:{user.uid}:{user.gid}:{user.gecos}:{user.home}:{user.shell}"
    changed = [f"{name}:{rest}" if line.startswith(name + ":") else line for line in _lines(tree, PASSWD)]
    _write_lines(tree, PASSWD, changed, backup=backup)


# --- what the family file asks for ----------------------------------------------------------------------------------


class GroupRequest(Protocol):
    """A group that an image is to have."""

    @property
    def name(self) -> str: ...
    @property
    def gid(self) -> int | None: ...
    @property
    def members(self) -> tuple[str, ...]: ...
    @property
    def system(self) -> bool: ...


class UserRequest(Protocol):
    """A user that an image is to have; what is None is chosen as adduser does."""

    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> int | None: ...
    @property
    def group(self) -> str | None: ...
    @property
    def home(self) -> str | None: ...
    @property
    def shell(self) -> str | None: ...
    @property
    def gecos(self) -> str | None: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def system(self) -> bool: ...


def apply_accounts(tree: Tree, wanted_users: Iterable[UserRequest], wanted_groups: Iterable[GroupRequest]) -> None:
    """Makes sure that groups, then users, exist as asked; existing ones that agree are left alone.

    A user without a named group gets one of its own name. Missing account files are begun, no `-` backups are left.
    Raises UsageError where an existing account has another number, a number is in use or a group is unknown.
    """
    for path, mode in ((PASSWD, 0o644), (GROUP, 0o644), (SHADOW, 0o640)):
        if tree.find(path) is None:
            tree.write(path, b"", mode=mode)
    asked = list(wanted_groups)
    for group in asked:
        _apply_group(tree, group.name, group.gid, group.system)
    for user in wanted_users:
        _apply_user(tree, user)
    for group in asked:
        for member in group.members:
            _apply_member(tree, member, group.name)


def _apply_group(tree: Tree, name: str, gid: int | None, system: bool) -> None:
    existing = group_named(tree, name)
    if existing is None:
        try:
            add_group(tree, name, gid=gid, system=system, backup=False)
        except InstallRefused as error:
            raise UsageError(f"group {name}: {error.message}") from error
    elif gid is not None and existing.gid != gid:
        raise UsageError(
            f"group {name} is to have gid {gid}, but the image has it with {existing.gid}",
            hint=f"leave the gid out, or ask for {existing.gid}",
        )


def _apply_user(tree: Tree, wanted: UserRequest) -> None:
    existing = user_named(tree, wanted.name)
    if existing is None:
        existing = _new_user(tree, wanted)
    elif wanted.uid is not None and existing.uid != wanted.uid:
        raise UsageError(
            f"user {wanted.name} is to have uid {wanted.uid}, but the image has it with {existing.uid}",
            hint=f"leave the uid out, or ask for {existing.uid}",
        )
    for name in wanted.groups:
        _apply_member(tree, wanted.name, name)


def _apply_member(tree: Tree, user: str, group: str) -> None:
    if user_named(tree, user) is None:
        hint = nearest(user, [entry.name for entry in users(tree)])
        raise UsageError(f"group {group}: there is no user {user}", hint=hint)
    if group_named(tree, group) is None:
        hint = nearest(group, [entry.name for entry in groups(tree)])
        raise UsageError(f"user {user}: there is no group {group}", hint=hint)
    add_to_group(tree, user, group, backup=False)


def _new_user(tree: Tree, wanted: UserRequest) -> User:
    name, group = wanted.name, wanted.group or wanted.name
    if group_named(tree, group) is None:
        if wanted.group and wanted.group != name:
            hint = nearest(group, [entry.name for entry in groups(tree)])
            raise UsageError(f"user {name}: there is no group {group}", hint=hint)
        taken = {entry.gid for entry in groups(tree)}
        same = wanted.uid if wanted.uid is not None and wanted.uid not in taken else None
        _apply_group(tree, group, same, wanted.system)
    try:
        return add_user(
            tree,
            name,
            uid=wanted.uid,
            group=group,
            home=wanted.home or None,
            make_home=bool(wanted.home) or not wanted.system,
            shell=wanted.shell or None,
            gecos=wanted.gecos or name,
            system=wanted.system,
            backup=False,
        )
    except InstallRefused as error:
        raise UsageError(f"user {name}: {error.message}") from error
