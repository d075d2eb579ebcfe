"""busybox's adduser and its relatives."""

from __future__ import annotations

import re
from collections.abc import Callable

from sixsmith.errors import InstallRefused
from sixsmith.rootfs import accounts
from sixsmith.rootfs.scripts import busybox
from sixsmith.rootfs.scripts.files import Refused
from sixsmith.rootfs.scripts.options import parse_options
from sixsmith.rootfs.scripts.shell import Builtin, Call, decode

__all__ = ["PROGRAMS"]

_ADDUSER_LONG = {
    "home": "h",
    "gecos": "g",
    "shell": "s",
    "ingroup": "G",
    "disabled-password": "D",
    "empty-password": "D",
    "system": "S",
    "no-create-home": "H",
    "uid": "u",
    "skel": "k",
}


def _number(call: Call, text: str | None, *, most: int) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,10}", text) or int(text) > most:
        raise call.unknown(f"'{text}' is no id that {call.arguments[0]} takes")
    return int(text)


def _refused(call: Call, action: Callable[[], object]) -> int:
    """Runs a change of the accounts; what the applet would complain about becomes a complaint and status 1."""
    try:
        action()
    except InstallRefused as error:
        return call.complain(error.message)
    return 0


def addgroup(call: Call) -> int:
    options = parse_options(call, "g:S", {"gid": "g", "system": "S"})
    gid = _number(call, options.get("g"), most=2**31 - 1)
    tree = call.files.tree
    if len(options.operands) == 2:
        return _refused(call, lambda: accounts.add_to_group(tree, *options.operands))
    if len(options.operands) != 1:
        raise call.unknown()
    return _refused(call, lambda: accounts.add_group(tree, options.operands[0], gid=gid, system="S" in options))


def adduser(call: Call) -> int:
    options = parse_options(call, "h:g:s:G:DSHu:k:", _ADDUSER_LONG)
    uid = _number(call, options.get("u"), most=accounts.LAST_ID)
    tree = call.files.tree
    if len(options.operands) == 2 and not options.values:
        return _refused(call, lambda: accounts.add_to_group(tree, *options.operands))
    if len(options.operands) != 1:
        raise call.unknown()
    system = "S" in options
    if not system and "D" not in options:
        raise call.unknown("adduser without -D or -S asks for a password")
    name = options.operands[0]
    shell = options.get("s")
    if shell is None:
        binary = call.shell.programs.busybox_binary()
        if system:
            shell = busybox.system_shell(binary)
        elif busybox.version(binary) < (1, 29):
            # 1.27 and 1.28 write whatever happens to be in memory (nothing, or part of another line).
            raise call.unknown("this busybox's adduser, without -s, gives no certain shell")
    home = options.get("h")
    return _refused(
        call,
        lambda: accounts.add_user(
            tree,
            name,
            uid=uid,
            group=options.get("G"),
            home=home,
            make_home="H" not in options,
            shell=shell,
            gecos=options.values.get("g", "Linux User,,,"),
            skeleton=options.values.get("k", "/etc/skel"),
            system=system,
        ),
    )


def deluser(call: Call) -> int:
    options = parse_options(call, "", {"remove-home": "r"})
    tree = call.files.tree
    if "r" in options or not 1 <= len(options.operands) <= 2:
        raise call.unknown()
    if len(options.operands) == 2:
        return _refused(call, lambda: accounts.remove_from_group(tree, *options.operands))
    return _refused(call, lambda: accounts.remove_user(tree, options.operands[0]))


def delgroup(call: Call) -> int:
    options = parse_options(call, "")
    tree = call.files.tree
    if not 1 <= len(options.operands) <= 2:
        raise call.unknown()
    if len(options.operands) == 2:
        return _refused(call, lambda: accounts.remove_from_group(tree, *options.operands))
    return _refused(call, lambda: accounts.remove_group(tree, options.operands[0]))


def passwd(call: Call) -> int:
    options = parse_options(call, "lud")
    changes = {"l": "lock", "u": "unlock", "d": "delete"}
    if len(options.values) != 1 or len(options.operands) != 1:
        raise call.unknown()
    change = changes[next(iter(options.values))]
    return _refused(call, lambda: accounts.set_password(call.files.tree, options.operands[0], change))


def chpasswd(call: Call) -> int:
    options = parse_options(call, "e", {"encrypted": "e"})
    if "e" not in options or options.operands:
        raise call.unknown("a password that is to be hashed becomes another one at each run")
    for line in call.streams.input.all().splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            return call.complain("missing new password")
        status = _refused(call, lambda: accounts.set_password(call.files.tree, name, f"set:{value}"))  # noqa: B023  # at once
        if status:
            return status
    return 0


def _shells(call: Call, *, add: bool) -> int:
    names = call.arguments[1:]
    if any(name.startswith("-") for name in names):
        raise call.unknown()
    files = call.files
    try:
        lines = decode(files.read("/etc/shells")).split("\n")
        if lines[-1] == "":
            lines.pop()
    except Refused:
        lines = []
    if add:
        lines += [name for name in names if name not in lines]
    else:
        lines = [line for line in lines if line not in names]
    try:
        node = files.node("/etc/shells")
        # The new file is renamed into place: root's, with the old one's mode less the umask.
        mode = (node.mode if node is not None else 0o666) & ~files.umask
        data = "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
        files.put("/etc/shells", files.file(data, mode=mode))
    except Refused as error:
        return call.complain(f"/etc/shells: {error}")
    return 0


def getent(call: Call) -> int:
    databases = {"passwd": accounts.PASSWD, "group": accounts.GROUP}
    if len(call.arguments) != 3 or call.arguments[1] not in databases:
        raise call.unknown()
    key = call.arguments[2]
    for line in decode(call.files.tree.read(databases[call.arguments[1]]) or b"").splitlines():
        fields = line.split(":")
        if fields[0] == key or (key.isdigit() and len(fields) > 2 and fields[2] == key):
            call.out(line + "\n")
            return 0
    return 2


def id_(call: Call) -> int:
    options = parse_options(call, "ugnG")
    tree = call.files.tree
    name = options.operands[0] if options.operands else "root"
    user = accounts.user_named(tree, name)
    if user is None:
        return call.complain(f"unknown user {name}")
    if set(options.values) == {"u"}:
        call.out(f"{user.uid}\n")
    elif set(options.values) == {"g"}:
        call.out(f"{user.gid}\n")
    elif set(options.values) == {"u", "n"}:
        call.out(f"{user.name}\n")
    elif options.values:
        raise call.unknown()
    else:
        # Scripts only ask whether the user exists.
        call.out(f"uid={user.uid}({user.name}) gid={user.gid}\n")
    return 0


PROGRAMS: dict[str, Builtin] = {
    "add-shell": lambda call: _shells(call, add=True),
    "addgroup": addgroup,
    "chpasswd": chpasswd,
    "adduser": adduser,
    "delgroup": delgroup,
    "deluser": deluser,
    "getent": getent,
    "id": id_,
    "passwd": passwd,
    "remove-shell": lambda call: _shells(call, add=False),
}
