"""Programs that make, move and mark files: busybox's applets and their GNU namesakes."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from sixsmith.model.tar import Kind
from sixsmith.rootfs.accounts import gid_of, uid_of
from sixsmith.rootfs.scripts import busybox
from sixsmith.rootfs.scripts.files import Files, Refused
from sixsmith.rootfs.scripts.options import Options, parse_options
from sixsmith.rootfs.scripts.shell import Builtin, Call, decode, encode
from sixsmith.rootfs.scripts.syntax import NotUnderstood
from sixsmith.rootfs.tree import TOP, Node

__all__ = ["PROGRAMS", "mode_after"]


def _join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}" if directory != "" else name


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or "/"


def _each(call: Call, paths: list[str], action: Callable[[str], None]) -> int:
    """Does something to each path; what the kernel refuses is complained about and makes the status 1."""
    status = 0
    for path in paths:
        try:
            action(path)
        except Refused as error:
            status = call.complain(f"{path}: {error}")
    return status


# --- modes and owners -----------------------------------------------------------------------------------------------


def mode_after(text: str, old: int, *, directory: bool, umask: int) -> int:
    """The mode that `chmod TEXT` makes of `old`. Raises NotUnderstood."""
    if re.fullmatch(r"[0-7]{1,5}", text):
        return int(text, 8) & 0o7777
    mode = old
    for clause in text.split(","):
        match = re.fullmatch(r"([ugoa]*)((?:[-+=][ugo]|[-+=][rwxXst]*)+)", clause)
        if match is None:
            raise NotUnderstood(f"the mode '{text}' is not understood")
        for operator, permissions in re.findall(r"([-+=])([ugo]|[rwxXst]*)", match.group(2)):
            mode = _apply_clause(mode, match.group(1), operator, permissions, directory=directory, umask=umask)
    return mode


def _apply_clause(mode: int, who: str, operator: str, permissions: str, *, directory: bool, umask: int) -> int:
    everyone = not who or "a" in who
    mask = 0
    for letter, bits in (("u", 0o4700), ("g", 0o2070), ("o", 0o0007)):
        if everyone or letter in who:
            mask |= bits
    if everyone:
        mask |= 0o1000
    if permissions in ("u", "g", "o") and permissions:
        three = mode >> {"u": 6, "g": 3, "o": 0}[permissions] & 7
        bits = three * 0o111
    else:
        bits = 0
        for letter in permissions:
            if letter == "X":
                bits |= 0o111 if directory or mode & 0o111 else 0
            else:
                bits |= {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}[letter]
    bits &= mask
    if not who:
        bits &= ~umask
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    keep = mode & ~(mask & 0o777)
    if directory:
        return (keep & ~(mask & 0o1000 if "t" in permissions else 0)) | bits
    return (keep & ~(mask & 0o7000)) | bits


def chmod(call: Call) -> int:
    arguments = call.arguments[1:]
    flags = [argument for argument in arguments if re.fullmatch(r"-[Rfvc]+", argument)]
    rest = [argument for argument in arguments if argument not in flags and argument != "--"]
    if len(rest) < 2 or any(word.startswith("--") for word in rest):
        raise call.unknown()
    text, paths = rest[0], rest[1:]
    recursive = any("R" in flag for flag in flags)
    if any("v" in flag or "c" in flag for flag in flags):
        raise call.unknown()
    files = call.files

    def change(path: str) -> None:
        real = files.real(path)
        targets = [real]
        node = files.tree.get(real)
        if recursive and (real == "" or (node is not None and node.kind == "directory")):
            targets += [node.path for node in files.below(real) if node.kind != "symlink"]
        for target in targets:
            node = files.node("/" + target)
            if node is None:
                files.change("/" + target, mode=0)  # says why it cannot be done
                continue
            mode = mode_after(text, node.mode, directory=node.kind == "directory", umask=files.umask)
            files.change("/" + target, mode=mode)

    status = _each(call, paths, change)
    return 0 if any("f" in flag for flag in flags) and status else status


def _owner(call: Call, text: str) -> tuple[int | None, int | None] | None:
    """uid and gid that `USER`, `USER:GROUP`, `:GROUP` or `USER:` name; None (and a complaint) for unknown names."""
    tree = call.files.tree
    separator = ":" if ":" in text else "." if "." in text and uid_of(tree, text) is None else ""
    user, group = text, ""
    if separator:
        user, _, group = text.partition(separator)
        if user and not group:
            raise call.unknown(f"the owner '{text}' is not understood")
    uid = uid_of(tree, user) if user else None
    if user and uid is None:
        call.complain(f"unknown user {user}")
        return None
    gid = gid_of(tree, group) if group else None
    if group and gid is None:
        call.complain(f"unknown group {group}")
        return None
    return uid, gid


_OWNER_LONG = {"recursive": "R", "no-dereference": "h", "quiet": "f", "silent": "f"}


def _change_owner(call: Call, uid: int | None, gid: int | None, options: Options, paths: list[str]) -> int:
    files = call.files

    def change(path: str) -> None:
        follow = "h" not in options and "R" not in options
        real = files.real(path, follow=follow)
        node = files.tree.get(real)
        if "R" in options and node is not None and node.kind == "symlink" and path.endswith("/"):
            real = files.real(path)
        files.change("/" + real, uid=uid, gid=gid, follow=follow)
        if "R" in options:
            for node in files.below(real):
                if node.kind != "hardlink":
                    files.change("/" + node.path, uid=uid, gid=gid, follow=False)

    status = _each(call, paths, change)
    return 0 if "f" in options and status else status


def chown(call: Call) -> int:
    options = parse_options(call, "Rhf", _OWNER_LONG)
    if len(options.operands) < 2:
        raise call.unknown()
    owner = _owner(call, options.operands[0])
    return 1 if owner is None else _change_owner(call, *owner, options, options.operands[1:])


def chgrp(call: Call) -> int:
    options = parse_options(call, "Rhf", _OWNER_LONG)
    if len(options.operands) < 2:
        raise call.unknown()
    gid = gid_of(call.files.tree, options.operands[0])
    if gid is None:
        return call.complain(f"unknown group {options.operands[0]}")
    return _change_owner(call, None, gid, options, options.operands[1:])


# --- making and removing --------------------------------------------------------------------------------------------


def _make_all(files: Files, path: str, *, mode: int | None) -> None:
    """`mkdir -p`: missing parents get 0777 less the umask, and may be searched and written by their owner."""
    full = files.absolute(path)
    done = ""
    pieces = [piece for piece in full.split("/") if piece]
    for index, piece in enumerate(pieces):
        done = f"{done}/{piece}"
        if files.is_directory(done):
            continue
        if files.exists(done, follow=False):
            raise Refused("File exists" if index == len(pieces) - 1 else "Not a directory")
        files.make_directory(done)
        if index == len(pieces) - 1:
            if mode is not None:
                files.change(done, mode=mode)
        else:
            made = files.node(done)
            if made is not None and made.mode & 0o300 != 0o300:
                files.change(done, mode=made.mode | 0o300)


def mkdir(call: Call) -> int:
    options = parse_options(call, "pm:v", {"parents": "p", "mode": "m"})
    if not options.operands:
        raise call.unknown()
    text = options.get("m")
    mode = mode_after(text, 0o777, directory=True, umask=call.files.umask) if text is not None else None

    def make(path: str) -> None:
        if "p" in options:
            _make_all(call.files, path, mode=mode)
            return
        call.files.make_directory(path)
        if mode is not None:
            call.files.change(path, mode=mode)

    return _each(call, options.operands, make)


def rmdir(call: Call) -> int:
    options = parse_options(call, "p", {"ignore-fail-on-non-empty": "i", "parents": "p"})

    def remove(path: str) -> None:
        try:
            call.files.remove_directory(path)
        except Refused as error:
            if "i" in options and str(error) == "Directory not empty":
                return
            raise
        parent = path.rstrip("/").rpartition("/")[0]
        if "p" in options and parent.strip("/"):
            remove(parent)

    return _each(call, options.operands, remove)


def rm(call: Call) -> int:
    options = parse_options(call, "rRfiv", {"recursive": "r", "force": "f"})
    if "i" in options:
        raise call.unknown()
    recursive = "r" in options or "R" in options

    def remove(path: str) -> None:
        if not call.files.exists(path, follow=False):
            if "f" in options:
                return
            raise Refused("No such file or directory")
        if recursive:
            call.files.remove_all(path)
        else:
            call.files.remove(path)

    return _each(call, options.operands, remove)


def unlink(call: Call) -> int:
    return _each(call, call.arguments[1:2], call.files.remove)


def touch(call: Call) -> int:
    options = parse_options(call, "cam", {"no-create": "c"})

    def create(path: str) -> None:
        if call.files.exists(path):
            call.files.stamp(path)
        elif "c" not in options:
            call.files.write(path, b"")

    return _each(call, options.operands, create)


def ln(call: Call) -> int:
    options = parse_options(call, "sfnbvTr", {"symbolic": "s", "force": "f", "no-dereference": "n", "relative": "r"})
    if any(option in options for option in "bvr") or not options.operands:
        raise call.unknown()
    files = call.files
    operands = options.operands
    if len(operands) == 1:
        operands = [operands[0], _last(operands[0])]
    sources, target = operands[:-1], operands[-1]
    into = files.is_directory(target) and "T" not in options
    if into and "n" in options and (node := files.node(target, follow=False)) is not None and node.kind == "symlink":
        into = False
    if len(sources) > 1 and not into:
        return call.complain(f"{target}: Not a directory")

    def link(source: str) -> None:
        place = _join(target, _last(source)) if into else target
        if "f" in options and files.exists(place, follow=False):
            files.remove(place)
        if "s" in options:
            files.make_symlink(place, source)
        else:
            files.make_hardlink(place, source)

    return _each(call, sources, link)


def _copied(files: Files, node: Node, *, keep: bool) -> Node:
    """A node as a copy of another: with -p its owner, mode, time and attributes, else what a new file has."""
    if keep:
        return node
    mode = node.mode & 0o777 & ~files.umask
    return msgspec.structs.replace(node, mode=mode, uid=0, gid=0, mtime=files.tree.epoch, xattrs=())


def _two_files(one: Node | None, other: Node | None) -> bool:
    return one is not None and other is not None and one.kind == other.kind == "file" and one.path != other.path


def _copy(call: Call, source: str, place: str, *, recursive: bool, keep: bool, follow: bool, force: bool) -> None:
    files = call.files
    node = files.node(source, follow=follow)
    if node is None:
        raise Refused("No such file or directory") if not files.is_directory(source) else call.unknown()
    if node.kind == "directory":
        if not recursive:
            raise Refused("omitting directory")
        _copy_directory(call, node, source, place, keep=keep, force=force)
        return
    if node.kind == "symlink":
        if files.exists(place, follow=False):
            files.remove(place)
        files.put(place, msgspec.structs.replace(node, mtime=node.mtime if keep else files.tree.epoch), follow=False)
        return
    if node.kind != "file":
        raise call.unknown(f"a copy of the {node.kind} {source}")
    there = files.node(place)
    if there is not None and there.kind == "file" and not keep:
        if there.path == node.path:
            raise Refused("same file")
        files.write(place, node.content.read() if node.content is not None else b"")
        return
    files.put(place, _copied(files, node, keep=keep))


def _copy_directory(call: Call, node: Node, source: str, place: str, *, keep: bool, force: bool) -> None:
    files = call.files
    real = files.real(place)
    if real == node.path or real.startswith(node.path + "/"):
        raise call.unknown(f"a copy of {source} into itself")
    names = files.names("/" + node.path)
    if not files.is_directory(place):
        files.make_directory(place)
        files.change(place, mode=node.mode if keep else node.mode & 0o7777 & ~files.umask)
    for name in names:
        inner, outer = f"/{node.path}/{name}", _join(place, name)
        _copy(call, inner, outer, recursive=True, keep=keep, follow=False, force=force)
    if keep:
        files.change(place, mode=node.mode, uid=node.uid, gid=node.gid)
        current = files.node(place)
        if current is not None:
            files.tree.nodes[current.path] = msgspec.structs.replace(current, mode=node.mode, mtime=node.mtime)


def cp(call: Call) -> int:
    long = {"recursive": "r", "archive": "a", "preserve": "p", "force": "f", "no-target-directory": "T"}
    options = parse_options(call, "arRpfdPLHnTvuit:", long)
    if any(option in options for option in "viut"):
        raise call.unknown()
    if len(options.operands) < 2:
        raise call.unknown()
    files = call.files
    sources, target = options.operands[:-1], options.operands[-1]
    into = files.is_directory(target) and "T" not in options
    if len(sources) > 1 and not into:
        return call.complain(f"{target}: Not a directory")
    recursive = any(option in options for option in "arR")
    follow = "L" in options or not any(option in options for option in "adPrR")
    keep = "a" in options or "p" in options

    def copy(source: str) -> None:
        place = _join(target, _last(source)) if into and _last(source) not in (".", "/") else target
        if "n" in options and files.exists(place):
            return
        there = files.node(place)
        if "f" in options and call.program != "coreutils" and _two_files(files.node(source), there):
            files.remove(place)  # busybox takes the old file away first, GNU only one that it may not write
        _copy(call, source, place, recursive=recursive, keep=keep, follow=follow, force="f" in options)

    return _each(call, sources, copy)


def mv(call: Call) -> int:
    options = parse_options(call, "fnTiv", {"force": "f", "no-clobber": "n", "no-target-directory": "T"})
    if "i" in options or "v" in options or len(options.operands) < 2:
        raise call.unknown()
    files = call.files
    sources, target = options.operands[:-1], options.operands[-1]
    into = files.is_directory(target) and "T" not in options
    if len(sources) > 1 and not into:
        return call.complain(f"{target}: Not a directory")

    def move(source: str) -> None:
        place = _join(target, _last(source)) if into else target
        if "n" in options and files.exists(place, follow=False):
            return
        files.rename(source, place)

    return _each(call, sources, move)


def install(call: Call) -> int:
    long = {"directory": "d", "mode": "m", "owner": "o", "group": "g", "preserve-timestamps": "p"}
    options = parse_options(call, "cdDpsg:m:o:t:v", long)
    if "s" in options or "v" in options:
        raise call.unknown()
    files = call.files
    text = options.get("m")
    mode = mode_after(text, 0, directory="d" in options, umask=0) if text is not None else 0o755
    uid = gid = None
    if (owner := options.get("o")) is not None and (uid := uid_of(files.tree, owner)) is None:
        return call.complain(f"unknown user {owner}")
    if (group := options.get("g")) is not None and (gid := gid_of(files.tree, group)) is None:
        return call.complain(f"unknown group {group}")

    def make(path: str) -> None:
        if not files.is_directory(path):
            _make_all(files, path, mode=None)
        files.change(path, mode=mode, uid=uid, gid=gid)

    if "d" in options:
        return _each(call, options.operands, make)
    operands = [*options.operands, *([options.values["t"]] if "t" in options else [])]
    if len(operands) < 2:
        raise call.unknown()
    sources, target = operands[:-1], operands[-1]
    if "D" in options:
        parent = target if "t" in options else target.rpartition("/")[0]
        if parent:
            _make_all(files, parent, mode=None)
    into = files.is_directory(target)

    def put(source: str) -> None:
        place = _join(target, _last(source)) if into else target
        data = files.read(source)
        if files.exists(place, follow=False):
            files.remove(place)
        files.put(place, files.file(data, mode=mode, uid=uid or 0, gid=gid or 0))

    return _each(call, sources, put)


def _special(call: Call, path: str, kind: Kind, device: tuple[int, int], mode: str | None) -> int:
    files = call.files
    bits = mode_after(mode, 0o666, directory=False, umask=files.umask) if mode is not None else 0o666 & ~files.umask
    if files.exists(path, follow=False):
        return call.complain(f"{path}: File exists")
    node = Node("", kind, bits, 0, 0, files.tree.epoch, 0, "", (), None, device, TOP, None)
    try:
        files.put(path, node, follow=False)
    except Refused as error:
        return call.complain(f"{path}: {error}")
    return 0


def mknod(call: Call) -> int:
    options = parse_options(call, "m:")
    words = options.operands
    kinds: dict[str, Kind] = {"c": "char", "u": "char", "b": "block", "p": "fifo"}
    if len(words) not in (2, 4) or words[1] not in kinds or (len(words) == 2) != (words[1] == "p"):
        raise call.unknown()
    if any(not number.isdecimal() for number in words[2:]):
        raise call.unknown()
    device = (int(words[2]), int(words[3])) if len(words) == 4 else (0, 0)
    return _special(call, words[0], kinds[words[1]], device, options.get("m"))


def mkfifo(call: Call) -> int:
    options = parse_options(call, "m:")
    return max([0, *(_special(call, path, "fifo", (0, 0), options.get("m")) for path in options.operands)])


def mktemp(call: Call) -> int:
    raise call.unknown("a temporary file has another name at each run")


# --- asking ---------------------------------------------------------------------------------------------------------


def readlink(call: Call) -> int:
    options = parse_options(call, "fnmeqsv", {"canonicalize": "f", "no-newline": "n"})
    if "m" in options or "e" in options or not options.operands:
        raise call.unknown()
    end = "" if "n" in options else "\n"
    status = 0
    for path in options.operands:
        try:
            if "f" in options:
                real = call.files.real(path)
                if not call.files.exists("/" + real) and _wants_target(call):
                    raise Refused("No such file or directory")
                call.out("/" + real + end)
                continue
            node = call.files.node(path, follow=False)
            if node is None or node.kind != "symlink":
                raise Refused("Invalid argument")
            call.out(node.target + end)
        except Refused:
            status = 1
    return status


def _wants_target(call: Call) -> bool:
    """Whether `readlink -f` of a path whose last name is missing fails: busybox's did, up to some release."""
    if call.program != "busybox":
        return False
    version = busybox.version(call.shell.programs.busybox_binary())
    if (1, 31) < version < (1, 35):
        raise call.unknown("whether this busybox's readlink -f prints a path that is not there is not known here")
    return version <= (1, 31)


def realpath(call: Call) -> int:
    status = 0
    for path in call.arguments[1:]:
        if path.startswith("-"):
            raise call.unknown()
        try:
            call.out("/" + call.files.real(path) + "\n")
        except Refused as error:
            status = call.complain(f"{path}: {error}")
    return status


def basename(call: Call) -> int:
    if len(call.arguments) not in (2, 3) or call.arguments[1].startswith("-"):
        raise call.unknown()
    name = _last(call.arguments[1])
    if len(call.arguments) == 3 and name != call.arguments[2]:
        name = name.removesuffix(call.arguments[2])
    call.out(name + "\n")
    return 0


def dirname(call: Call) -> int:
    if len(call.arguments) != 2:
        raise call.unknown()
    path = call.arguments[1].rstrip("/")
    if path == "":
        call.out("/\n" if call.arguments[1] else ".\n")
        return 0
    above = path.rpartition("/")[0]
    call.out((above.rstrip("/") or "/" if "/" in path else ".") + "\n")
    return 0


def ls(call: Call) -> int:
    options = parse_options(call, "1aAd")
    paths = options.operands or ["."]
    lines: list[str] = []
    status = 0
    directories = []
    for path in sorted(paths, key=encode):
        if not call.files.exists(path, follow=not path.endswith("/")):
            status = call.complain(f"{path}: No such file or directory")
        elif call.files.is_directory(path) and "d" not in options:
            directories.append(path)
        else:
            lines.append(path)
    for path in directories:
        if len(paths) > 1:
            lines += ([""] if lines else []) + [f"{path}:"]
        names = call.files.names(path)
        if "a" in options:
            lines += [".", ".."]
        lines += [name for name in names if not name.startswith(".") or "a" in options or "A" in options]
    call.out("".join(line + "\n" for line in lines))
    return status


def stat(call: Call) -> int:
    options = parse_options(call, "c:Lt", {"format": "c", "dereference": "L"})
    template = options.get("c")
    if template is None or "t" in options:
        raise call.unknown()
    status = 0
    for path in options.operands:
        node = call.files.node(path, follow="L" in options)
        if node is None:
            if call.files.exists(path):
                raise call.unknown("the root directory's own mode and owner are not known here")
            status = call.complain(f"can't stat '{path}': No such file or directory")
            continue
        fields = {letter: _stat_field(call, letter, path, node) for letter in re.findall(r"%(.?)", template)}
        call.out(re.sub(r"%(.?)", _Filled(fields), template) + "\n")
    return status


class _Filled:
    """Replaces `%c` by the field of that letter."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields

    def __call__(self, match: re.Match[str]) -> str:
        return self.fields[match.group(1)]


_KIND_NAMES = {"file": "regular file", "directory": "directory", "symlink": "symbolic link"}


def _stat_field(call: Call, letter: str, path: str, node: Node) -> str:
    if letter == "%":
        return "%"
    if letter == "n":
        return path
    if letter == "N":
        return f"'{path}' -> '{node.target}'" if node.kind == "symlink" else path
    if letter == "a":
        return f"{node.mode:o}"
    if letter in "ug":
        return str(node.uid if letter == "u" else node.gid)
    if letter == "s" and node.kind == "file":
        return str(node.size)
    if letter in "UG":
        database = "etc/passwd" if letter == "U" else "etc/group"
        number = str(node.uid if letter == "U" else node.gid)
        for line in decode(call.files.tree.read(database) or b"").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[2] == number:
                return fields[0]
        return "UNKNOWN"
    if letter == "F" and node.kind in _KIND_NAMES:
        return "regular empty file" if node.kind == "file" and not node.size else _KIND_NAMES[node.kind]
    raise call.unknown(f"stat -c %{letter} is not understood")


def setcap(call: Call) -> int:
    from sixsmith.rootfs.scripts.capabilities import capability_xattr

    options = parse_options(call, "rqv")
    operands = options.operands
    if "v" in options or "r" in options or len(operands) % 2 or not operands:
        raise call.unknown()
    for text, path in zip(operands[::2], operands[1::2], strict=True):
        try:
            call.files.set_xattr(path, "security.capability", capability_xattr(text))
        except Refused as error:
            return call.complain(f"{path}: {error}")
    return 0


PROGRAMS: dict[str, Builtin] = {
    "basename": basename,
    "chgrp": chgrp,
    "chmod": chmod,
    "chown": chown,
    "cp": cp,
    "dirname": dirname,
    "install": install,
    "ln": ln,
    "ls": ls,
    "mkdir": mkdir,
    "mktemp": mktemp,
    "mv": mv,
    "readlink": readlink,
    "realpath": realpath,
    "rm": rm,
    "rmdir": rmdir,
    "mkfifo": mkfifo,
    "mknod": mknod,
    "setcap": setcap,
    "stat": stat,
    "sync": lambda call: 0,
    "touch": touch,
    "unlink": unlink,
}
