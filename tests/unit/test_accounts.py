"""Users and groups, as busybox's adduser and addgroup make them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sixsmith.errors import InstallRefused, UsageError
from sixsmith.rootfs import accounts
from sixsmith.rootfs.tree import TOP, Tree

DAY = 19_000
PASSWD = b"root:x:0:0:root:/root:/bin/ash\n# a comment\nntp:x:100:101:NTP:/var/empty:/sbin/nologin\n"
GROUP = b"root:x:0:root\nntp:x:101:\nnogroup:x:65533:\n"
SHADOW = b"root:*::0:::::\nntp:!::0:::::\n"


@pytest.fixture
def tree() -> Tree:
    tree = Tree(epoch=DAY * 86400 + 5)
    tree.write("etc/passwd", PASSWD)
    tree.write("etc/group", GROUP)
    tree.write("etc/shadow", SHADOW, mode=0o640, gid=42)
    tree.make_directory("home")
    tree.make_directory("var/lib")
    return tree


def last_line(tree: Tree, path: str) -> str:
    return (tree.read(path) or b"").decode().splitlines()[-1]


def test_a_system_group_gets_the_first_free_number_from_100(tree: Tree) -> None:
    assert accounts.add_group(tree, "www", system=True) == 100
    assert accounts.add_group(tree, "web", system=True) == 102
    assert last_line(tree, "etc/group") == "web:x:102:"


def test_an_ordinary_group_starts_at_1000_and_may_ask_for_a_number(tree: Tree) -> None:
    assert accounts.add_group(tree, "people") == 1000
    assert accounts.add_group(tree, "video", gid=27) == 27
    with pytest.raises(InstallRefused, match="gid '27' in use"):
        accounts.add_group(tree, "other", gid=27)
    with pytest.raises(InstallRefused, match="group 'video' in use"):
        accounts.add_group(tree, "video")


def test_a_system_user_is_locked_and_joins_its_group(tree: Tree) -> None:
    accounts.add_group(tree, "www", system=True)
    user = accounts.add_user(tree, "www", group="www", home="/var/lib/www", gecos="www", system=True)
    assert (user.uid, user.gid) == (101, 100)
    assert last_line(tree, "etc/passwd") == "www:x:101:100:www:/var/lib/www:/sbin/nologin"
    assert last_line(tree, "etc/group") == "www:x:100:www"
    assert last_line(tree, "etc/shadow") == f"www:!:{DAY}:0:99999:7:::"
    home = tree.get("var/lib/www")
    assert home is not None
    assert (home.kind, home.mode, home.uid, home.gid, home.origin) == ("directory", 0o2755, 101, 100, TOP)


def test_a_user_without_a_group_gets_one_of_its_own_number(tree: Tree) -> None:
    user = accounts.add_user(tree, "ann")
    assert (user.uid, user.gid, user.shell, user.home) == (1000, 1000, "/bin/ash", "/home/ann")
    assert last_line(tree, "etc/group") == "ann:x:1000:"


def test_a_system_user_without_a_group_joins_nogroup(tree: Tree) -> None:
    assert accounts.add_user(tree, "daemon", system=True, make_home=False).gid == 65533
    assert last_line(tree, "etc/group") == "nogroup:x:65533:daemon"


def test_changed_files_keep_mode_and_owner_and_leave_a_backup(tree: Tree) -> None:
    accounts.add_user(tree, "ann", make_home=False)
    shadow, backup = tree.get("etc/shadow"), tree.get("etc/shadow-")
    assert shadow is not None
    assert backup is not None
    assert (shadow.mode, shadow.gid) == (backup.mode, backup.gid) == (0o640, 42)
    assert tree.read("etc/shadow-") == SHADOW
    assert tree.read("etc/passwd-") == PASSWD
    assert (tree.read("etc/passwd") or b"").startswith(PASSWD), "lines that nobody touched stay byte for byte"


def test_the_skeleton_is_copied_into_a_new_home_only(tree: Tree) -> None:
    tree.write("etc/skel/.profile", b"umask 077\n", mode=0o640)
    accounts.add_user(tree, "ann")
    copy = tree.get("home/ann/.profile")
    assert copy is not None
    assert (copy.mode, copy.uid, tree.read("home/ann/.profile")) == (0o640, 1000, b"umask 077\n")
    tree.make_directory("home/bob")
    accounts.add_user(tree, "bob")
    assert "home/bob/.profile" not in tree
    assert tree.nodes["home/bob"].mode == 0o2755


def test_a_home_whose_parent_is_missing_is_not_made(tree: Tree) -> None:
    accounts.add_user(tree, "ann", home="/nowhere/ann")
    assert "nowhere" not in tree
    assert accounts.user_named(tree, "ann") is not None


@pytest.mark.parametrize("name", ["", "-a", "a b", "a:b", "a/b", "ü", "a@b", "a$b", "a\n"])
def test_odd_names_are_refused_and_change_nothing(tree: Tree, name: str) -> None:
    before = dict(tree.nodes)
    with pytest.raises(InstallRefused, match="illegal"):
        accounts.add_user(tree, name)
    with pytest.raises(InstallRefused, match="illegal"):
        accounts.add_group(tree, name)
    assert tree.nodes == before


@pytest.mark.parametrize("name", ["a", "_apt", "www-data", "x.y", "samba$", "9"])
def test_ordinary_names_are_taken(tree: Tree, name: str) -> None:
    accounts.add_user(tree, name)
    assert accounts.uid_of(tree, name) == 1000


def test_members_are_added_once(tree: Tree) -> None:
    accounts.add_group(tree, "video", gid=27)
    accounts.add_to_group(tree, "root", "video")
    accounts.add_to_group(tree, "ntp", "video")
    accounts.add_to_group(tree, "root", "video")
    assert last_line(tree, "etc/group") == "video:x:27:root,ntp"
    with pytest.raises(InstallRefused, match="unknown user nobody"):
        accounts.add_to_group(tree, "nobody", "video")
    with pytest.raises(InstallRefused, match="unknown group none"):
        accounts.add_to_group(tree, "root", "none")


def test_names_come_before_numbers(tree: Tree) -> None:
    assert accounts.uid_of(tree, "ntp") == 100
    assert accounts.gid_of(tree, "ntp") == 101
    assert accounts.uid_of(tree, "4711") == 4711
    accounts.add_user(tree, "4711")
    assert accounts.uid_of(tree, "4711") == 1000
    assert accounts.uid_of(tree, "nobody") is None


def test_passwords_are_locked_and_unlocked_once(tree: Tree) -> None:
    accounts.set_password(tree, "ntp", "unlock")
    assert last_line(tree, "etc/shadow") == f"ntp::{DAY}:0:::::"
    with pytest.raises(InstallRefused, match="already unlocked"):
        accounts.set_password(tree, "ntp", "unlock")
    accounts.set_password(tree, "ntp", "lock")
    with pytest.raises(InstallRefused, match="already locked"):
        accounts.set_password(tree, "ntp", "lock")


def test_numbers_run_out(tree: Tree) -> None:
    full = "".join(f"g{gid}:x:{gid}:\n" for gid in range(100, 1000))
    tree.write("etc/group", full.encode())
    with pytest.raises(InstallRefused, match="no gids left"):
        accounts.add_group(tree, "more", system=True)


@dataclass(frozen=True)
class Person:
    name: str
    uid: int | None = None
    group: str | None = None
    home: str | None = None
    shell: str | None = None
    gecos: str | None = None
    groups: tuple[str, ...] = ()
    system: bool = False


@dataclass(frozen=True)
class Club:
    name: str
    gid: int | None = None
    members: tuple[str, ...] = ()
    system: bool = False


def test_the_family_file_gets_what_it_asks_for(tree: Tree) -> None:
    accounts.apply_accounts(
        tree, [Person("app", uid=1000, group="app", groups=("ntp",))], [Club("media", 500, ("app",))]
    )
    user = accounts.user_named(tree, "app")
    assert user is not None
    assert (user.uid, user.gid, user.home) == (1000, 1000, "/home/app")
    assert accounts.group_named(tree, "media") == accounts.Group("media", "x", 500, ("app",))
    assert accounts.group_named(tree, "ntp") == accounts.Group("ntp", "x", 101, ("app",))
    assert "etc/passwd-" not in tree
    before = dict(tree.nodes)
    accounts.apply_accounts(tree, [Person("app", uid=1000)], [Club("media", 500)])
    assert tree.nodes == before, "what is there already is left alone"


def test_an_image_without_accounts_gets_them() -> None:
    tree = Tree(epoch=0)
    accounts.apply_accounts(tree, [Person("app", uid=70000)], [])
    assert accounts.uid_of(tree, "app") == 70000
    assert accounts.gid_of(tree, "app") == 70000
    assert tree.nodes["etc/shadow"].mode == 0o640


@pytest.mark.parametrize(
    ("users", "groups", "message"),
    [
        ([Person("ntp", uid=7)], [], "user ntp is to have uid 7, but the image has it with 100"),
        ([], [Club("ntp", 7)], "group ntp is to have gid 7, but the image has it with 101"),
        ([Person("a", uid=0)], [], "uid '0' in use"),
        ([Person("a", group="nope")], [], "there is no group nope"),
        ([Person("a", groups=("nop",))], [], "there is no group nop"),
        ([], [Club("c", members=("nobody",))], "there is no user nobody"),
        ([Person("a b")], [], "illegal name"),
    ],
)
def test_contradictions_are_told(tree: Tree, users: list[Person], groups: list[Club], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        accounts.apply_accounts(tree, users, groups)
