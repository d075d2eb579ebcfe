"""busybox itself, openrc, apk, and programs that can only fail or do nothing while an image is built."""

from __future__ import annotations

import re

from sixsmith.rootfs.scripts import busybox
from sixsmith.rootfs.scripts.certificates import c_rehash, run_parts, update_ca_certificates
from sixsmith.rootfs.scripts.files import Refused
from sixsmith.rootfs.scripts.options import parse_options
from sixsmith.rootfs.scripts.shell import Builtin, Call, unknown_value
from sixsmith.rootfs.tree import Content

__all__ = ["PROGRAMS"]


def busybox_(call: Call) -> int:
    arguments = call.arguments[1:]
    if not arguments:
        raise call.unknown()
    if arguments[0] == "--install":
        return _install_links(call, arguments[1:])
    if arguments[0] in ("--list", "--list-full", "--list-all", "--list-modules"):
        return _list_applets(call, arguments[0])
    if arguments[0].startswith("-"):
        raise call.unknown()
    name = arguments[0].rpartition("/")[2]
    programs = call.shell.programs
    if not programs.has_applet(name):
        call.streams.error.write(f"{name}: applet not found\n")
        return 127
    return programs.applet(name, Call(call.shell, [name, *arguments[1:]], call.streams))


def _binary(call: Call) -> Content:
    """The content of the program that was called."""
    path = call.arguments[0]
    return call.files.content(call.shell.programs.find(path, call.shell) or path)


def _install_links(call: Call, arguments: list[str]) -> int:
    if arguments[:1] != ["-s"] or len(arguments) > 2:
        raise call.unknown("busybox --install without -s makes hard links")
    # Where the path that it was built with is a link, its target; else the name by which it was called.
    own = call.files.node(f"/bin/{call.program or 'busybox'}", follow=False)
    program = own.target if own is not None and own.kind == "symlink" else call.arguments[0]
    if not program.startswith("/"):
        return call.complain(f"'{program}' is not an absolute path")
    for link in busybox.applet_links(_binary(call)):
        place = f"{arguments[1].rstrip('/')}/{link.rpartition('/')[2]}" if len(arguments) == 2 else f"/{link}"
        try:
            call.files.make_symlink(place, program)
        except Refused as error:
            if str(error) != "File exists":
                call.complain(f"{place}: {error}")
    return 0


def _list_applets(call: Call, option: str) -> int:
    links = busybox.applet_links(_binary(call))
    if option == "--list-modules":
        raise call.unknown()
    # --list-all is Alpine's own name of old for --list-full; any text after --list means full.
    full = option != "--list"
    call.out("".join((link if full else link.rpartition("/")[2]) + "\n" for link in links))
    return 0


def bbsuid(call: Call) -> int:
    if call.arguments[1:] != ["--install"]:
        raise call.unknown()
    status = 0
    for link in busybox.suid_links(_binary(call)):
        node = call.files.node(link, follow=False)
        try:
            if node is not None and node.kind == "symlink":
                call.files.remove(link)
            call.files.make_symlink(link, "/bin/bbsuid")
        except Refused:
            status += 1
    return status


def which(call: Call) -> int:
    options = parse_options(call, "a")
    status = 0
    for name in options.operands:
        path = call.shell.programs.find(name, call.shell)
        if path is None:
            status = 1
        else:
            call.out(path + "\n")
    return status


def env(call: Call) -> int:
    arguments = call.arguments[1:]
    variables = call.shell.variables
    saved = dict(variables)
    while arguments and re.fullmatch(r"[A-Za-z_]\w*=.*", arguments[0], re.DOTALL):
        name, _, value = arguments.pop(0).partition("=")
        call.shell.assign(name, value)
    if not arguments or arguments[0].startswith("-"):
        raise call.unknown()
    try:
        return call.shell.programs.call(Call(call.shell, arguments, call.streams), builtins=False)
    finally:
        call.shell.variables = saved


# --- openrc ---------------------------------------------------------------------------------------------------------


def rc_update(call: Call) -> int:
    arguments = [argument for argument in call.arguments[1:] if argument not in ("-q", "--quiet")]
    if not arguments or arguments[0].startswith("-"):
        raise call.unknown()
    action = {"add": "add", "del": "delete", "delete": "delete"}.get(arguments[0])
    if action is None or len(arguments) < 2 or any(argument.startswith("-") for argument in arguments):
        raise call.unknown()
    service, levels = arguments[1], arguments[2:]
    files = call.files
    if not levels:
        raise call.unknown("rc-update without a runlevel takes the one that runs")
    if action == "add" and not files.exists(f"/etc/init.d/{service}"):
        call.streams.error.write(f" * rc-update: service `{service}' does not exist\n")
        return 1
    status = 0
    for level in levels:
        if not files.is_directory(f"/etc/runlevels/{level}"):
            call.streams.error.write(f" * rc-update: runlevel `{level}' does not exist\n")
            return 1
        link = f"/etc/runlevels/{level}/{service}"
        exists = files.exists(link, follow=False)
        if action == "add" and not exists:
            files.make_symlink(link, f"/etc/init.d/{service}")
        elif action == "delete" and exists:
            files.remove(link)
        elif action == "delete":
            status = 1
    return status


def rc(call: Call) -> int:
    # openrc names the kind of virtual machine; what an image is built in must not matter, so it is none.
    if call.arguments[1:] in (["--sys"], ["-s"]):
        call.out("\n")
        return 0
    raise call.unknown()


# --- apk ------------------------------------------------------------------------------------------------------------


def apk(call: Call) -> int:
    from sixsmith.apk.version import Version
    from sixsmith.errors import SixsmithError

    arguments = call.arguments[1:]
    if len(arguments) != 4 or arguments[0] != "version" or arguments[1] not in ("-t", "--test"):
        raise call.unknown()
    try:
        old, new = Version(arguments[2]), Version(arguments[3])
    except SixsmithError as error:
        raise call.unknown(f"apk version: {error}") from None
    call.out("<\n" if old < new else ">\n" if new < old else "=\n")
    return 0


# --- what has no effect on a root that does not run -----------------------------------------------------------------


def _printing(name: str) -> Builtin:
    """A program that prints a value of the running system."""

    def prints(call: Call) -> int:
        if any(not argument.startswith(("-", "+")) for argument in call.arguments[1:]):
            raise call.unknown()
        call.out(unknown_value(name) + "\n")
        return 0

    return prints


def fails(call: Call) -> int:
    """Speaks to a running system, of which there is none, and says so."""
    return 1


PROGRAMS: dict[str, Builtin] = {
    "apk": apk,
    "bbsuid": bbsuid,
    "busybox": busybox_,
    "busybox-extras": busybox_,
    "c_rehash": c_rehash,
    "date": _printing("date"),
    "dbus-send": fails,
    "env": env,
    "hostname": _printing("hostname"),
    "modprobe": fails,
    "openrc": rc,
    "pgrep": fails,
    "pidof": fails,
    "rc": rc,
    "rc-service": fails,
    "rc-update": rc_update,
    "run-parts": run_parts,
    "service": fails,
    "uname": _printing("uname"),
    "update-ca-certificates": update_ca_certificates,
    "which": which,
}
