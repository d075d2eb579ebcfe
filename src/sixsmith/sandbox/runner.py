"""The runner's side: keeps the keeper's disk in step with a tree, and the tree with what scripts did."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from sixsmith.errors import OutsideError, Place
from sixsmith.model.arch import arch_named
from sixsmith.rootfs.accounts import SHADOW
from sixsmith.rootfs.scripts import Message, NamedPackage, keep_place, script_failed, script_name
from sixsmith.rootfs.tree import TOP, Inline, Node, Tree
from sixsmith.sandbox.protocol import Entry, Outcome, Ready, Start, Work, receive, send

__all__ = ["Sandbox"]

_HINT = "`scripts: emulate` needs no sandbox"
_DAY = 24 * 60 * 60
_RANGES = (1 << 30, 1 << 29)
"""Where a root's ids are mapped to: far from any account of the host."""
_QEMU = {
    "aarch64": "aarch64",
    "armhf": "arm",
    "armv7": "arm",
    "loongarch64": "loongarch64",
    "mips64": "mips64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "x86": "i386",
    "x86_64": "x86_64",
}
_NATIVE = {"aarch64": ("aarch64",), "x86_64": ("x86_64", "x86"), "i686": ("x86",), "armv7l": ("armv7", "armhf")}
_NARROW = frozenset(["x86", "armhf", "armv7"])
_BIG_ENDIAN = frozenset(["s390x", "mips64"])


class Sandbox:
    """Runs install scripts for real (a `ScriptRunner`); use it in a `with` statement, or `close` it.

    `arch` is the image's, in apk's spelling; foreign ones need `qemu-ARCH-static` (searched in PATH, or `emulator`).
    `seconds` bounds each script, `memory` the bytes that the image's files may take. `messages` collects what scripts
    print. Raises OutsideError where this system has no sandbox, InstallRefused for a script that fails or does not end;
    the tree is then as it was before that script. A trigger that fails is told in `messages` only, as with apk 2.14.
    """

    def __init__(
        self, arch: str = "x86_64", *, emulator: str | None = None, seconds: int = 300, memory: int = 0
    ) -> None:
        self.arch = arch_named(arch).name
        self.emulator = emulator
        self.seconds = seconds
        self.memory = memory
        self.messages: list[Message] = []
        self._keeper: subprocess.Popen[bytes] | None = None
        self._shown: dict[str, Node] = {}

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the keeper, and with it all files."""
        keeper, self._keeper, self._shown = self._keeper, None, {}
        if keeper is None:
            return
        assert keeper.stdin is not None and keeper.stdout is not None
        keeper.stdin.close()
        keeper.stdout.close()
        try:
            keeper.wait(10)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()

    # --- the protocol of script runners -------------------------------------------------------------------------

    def run(self, tree: Tree, package: NamedPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        """Runs a script; `arguments` are `$1…`."""
        keeper = self._keeper or self._start()
        before = int(time.time()) // _DAY
        work = self._difference(tree)
        work.name = script_name(package.name, kind, arguments).rpartition("/")[2]
        work.script = script
        work.arguments = list(arguments)
        work.seconds = self.seconds
        work.epoch = tree.epoch
        outcome = self._ask(keeper, work)
        if not isinstance(outcome, Outcome) or outcome.trouble:
            trouble = outcome.trouble if isinstance(outcome, Outcome) else "it ended"
            self.close()
            raise OutsideError(f"the sandbox cannot run {work.name}: {trouble}", hint=_HINT)
        said = outcome.output.decode("utf-8", "replace")
        if outcome.timed_out:
            self.close()
            raise script_failed(package.name, kind, f"does not end within {self.seconds} seconds", said)
        if outcome.status and kind != "trigger":
            self.close()
            raise script_failed(package.name, kind, f"fails with exit status {outcome.status}", said)
        keep_place(tree)
        self._take(tree, outcome, days=range(before, int(time.time()) // _DAY + 1))
        if said or outcome.status:
            self.messages.append(Message(package.name, kind, said, outcome.status))

    def trigger(self, tree: Tree, package: NamedPackage, script: bytes, directories: tuple[str, ...]) -> None:
        """Runs a trigger; `directories` are the watched ones that changed."""
        self.run(tree, package, "trigger", script, directories)

    # --- the tree and the disk ----------------------------------------------------------------------------------

    def _difference(self, tree: Tree) -> Work:
        """What has to be done on the disk to make it this tree."""
        shown, nodes = self._shown, tree.nodes
        removed = [path for path, node in shown.items() if path not in nodes or _is_replaced(node, nodes[path])]
        gone = set(removed)
        fresh = [
            node
            for path, node in nodes.items()
            if path in gone or (shown.get(path) is not node and shown.get(path) != node)
        ]
        fresh += _link_mates(fresh, nodes)
        entries = [_entry(node) for node in sorted(fresh, key=lambda node: node.path) if _on_disk(node)]
        return Work(removed, entries)

    def _take(self, tree: Tree, outcome: Outcome, *, days: range) -> None:
        """Makes the tree what the disk is, with the tree's own clock."""
        for path in outcome.removed:
            if (node := tree.get(path)) is not None and _on_disk(node):
                del tree.nodes[path]
        for entry in outcome.changed:
            old = tree.get(entry.path)
            node = _node(entry, tree, days)
            rewritten = entry.mtime < 0 and entry.kind in ("file", "symlink")
            if old is None or rewritten or not _same(old, node):
                tree.nodes[node.path] = node
        self._shown = dict(tree.nodes)
        for entry in outcome.changed:
            # What differs in the tree (a date, a device) has to be written there before the next script.
            if entry.path in (SHADOW, SHADOW + "-"):
                self._shown.pop(entry.path, None)

    # --- the keeper ---------------------------------------------------------------------------------------------

    def _ask(self, keeper: subprocess.Popen[bytes], message: Start | Ready | Work) -> Outcome | Ready | None:
        assert keeper.stdin is not None and keeper.stdout is not None
        try:
            send(keeper.stdin.fileno(), message)
            answer = receive(keeper.stdout.fileno())
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, Outcome | Ready) else None

    def _start(self) -> subprocess.Popen[bytes]:
        start = self._emulation()
        start.limit = self.memory
        code = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from sixsmith.sandbox.keeper import main; sys.exit(main(0, 1))"
        )
        keeper = subprocess.Popen(
            [sys.executable, "-E", "-s", "-c", code, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        )
        self._keeper, self._shown = keeper, {}
        answer = self._ask(keeper, start)
        if isinstance(answer, Ready) and answer.stage == "map":
            _map_ids(keeper.pid, self)
            answer = self._ask(keeper, Ready("map"))
        if not isinstance(answer, Ready) or answer.trouble:
            trouble = answer.trouble if isinstance(answer, Ready) else "its process ended"
            self.close()
            raise OutsideError(f"no sandbox can be made here: {trouble}", hint=_HINT)
        return keeper

    def _emulation(self) -> Start:
        """How programs of the image's architecture are to be started."""
        if self.arch in _NATIVE.get(os.uname().machine, ()) and self.emulator is None:
            return Start()
        name = f"qemu-{_QEMU[self.arch]}-static"
        emulator = self.emulator or shutil.which(name)
        if emulator is None:
            raise OutsideError(
                f"scripts for {self.arch} need {name}, which is not installed",
                hint=f"install qemu-user-static, or use {_HINT[: _HINT.index(' needs')]}",
            )
        magic, mask = _elf_magic(self.arch)
        return Start(str(Path(emulator).resolve()), magic, mask)


def _elf_magic(arch: str) -> tuple[bytes, bytes]:
    """The first 20 bytes of an architecture's programs, and which of their bits count (ELF header, `elf.h`)."""
    order = ">" if arch in _BIG_ENDIAN else "<"
    ident = b"\x7fELF" + bytes([1 if arch in _NARROW else 2, 2 if arch in _BIG_ENDIAN else 1, 1]) + bytes(9)
    magic = ident + struct.pack(f"{order}HH", 2, arch_named(arch).elf_machine)
    # Type 2 or 3 (static, or position independent); the ABI byte may be anything.
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + struct.pack(f"{order}HH", 0xFFFE, 0xFFFF)
    return magic, mask


def _map_ids(pid: int, sandbox: Sandbox) -> None:
    """Maps the namespace's ids: as root to a far range, as anybody else to the subordinate ids."""
    try:
        if os.geteuid() == 0:
            _map_as_root(pid)
        else:
            _map_as_user(pid)
    except OSError as error:
        sandbox.close()
        raise OutsideError(f"user ids cannot be mapped for the sandbox: {error.strerror}", hint=_HINT) from error
    except OutsideError:
        sandbox.close()
        raise


def _map_as_root(pid: int) -> None:
    for name in ("uid_map", "gid_map"):
        lines = Path(f"/proc/self/{name}").read_text("ascii").splitlines()
        highest = max(int(first) + int(count) for first, _, count in (line.split() for line in lines))
        first, count = _RANGES
        if highest < first + count:
            # Inside another namespace: take what there is above the usual accounts, or share all of it.
            first, count = (1 << 17, highest - (1 << 17)) if highest > 1 << 18 else (0, highest)
        Path(f"/proc/{pid}/{name}").write_text(f"0 {first} {count}", "ascii")


def _map_as_user(pid: int) -> None:
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    for program, database, own in (
        ("newuidmap", "/etc/subuid", os.geteuid()),
        ("newgidmap", "/etc/subgid", os.getegid()),
    ):
        found = _subordinate(database, user, os.geteuid())
        tool = shutil.which(program)
        if found is None or tool is None:
            missing = f"{database} gives {user} no ids" if found is None else f"{program} is not installed"
            raise OutsideError(
                f"scripts change owners, which needs subordinate ids, and {missing}",
                hint=f"add a line `{user}:100000:65536` to {database} and install uidmap; or: {_HINT}",
            )
        first, count = found
        done = subprocess.run(
            [tool, str(pid), "0", str(own), "1", "1", str(first), str(count)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OutsideError(f"{program}: {done.stderr.strip()}", hint=_HINT)


def _subordinate(database: str, user: str, uid: int) -> tuple[int, int] | None:
    """First id and count of a user's largest range in /etc/subuid or /etc/subgid (subuid(5))."""
    ranges = []
    try:
        text = Path(database).read_text("utf-8", "replace")
    except OSError:
        return None
    for line in text.splitlines():
        match = re.fullmatch(r"([^:]+):(\d+):(\d+)\s*", line)
        if match is not None and match.group(1) in (user, str(uid)):
            ranges.append((int(match.group(2)), int(match.group(3))))
    return max(ranges, key=lambda pair: pair[1], default=None)


# --- nodes and entries ----------------------------------------------------------------------------------------------


def _on_disk(node: Node) -> bool:
    return bool(node.path) and node.kind not in ("char", "block")


def _is_replaced(old: Node, new: Node) -> bool:
    """Whether a path has to be removed before it can be what it is now."""
    return (old.kind == "directory") != (new.kind == "directory")


def _link_mates(fresh: list[Node], nodes: dict[str, Node]) -> list[Node]:
    """Hard links whose file is written anew: they have to be made again."""
    written = {node.path for node in fresh}
    if not written:
        return []
    return [
        node
        for node in nodes.values()
        if node.kind == "hardlink" and node.target in written and node.path not in written
    ]


def _entry(node: Node) -> Entry:
    data = node.content.read() if node.kind == "file" and node.content is not None else b""
    return Entry(node.path, node.kind, node.mode, node.uid, node.gid, node.mtime, node.target, data, list(node.xattrs))


def _node(entry: Entry, tree: Tree, days: range) -> Node:
    data = entry.data
    if entry.path in (SHADOW, SHADOW + "-") and entry.kind == "file":
        data = _timeless_shadow(data, tree, days)
    kinds = ("file", "directory", "symlink", "hardlink", "fifo")
    if entry.kind not in kinds:
        raise OutsideError(
            f"a script made /{entry.path}, which is neither a file, a folder nor a link", place=Place("sandbox")
        )
    first = tree.get(entry.target) if entry.kind == "hardlink" else None
    return Node(
        entry.path,
        entry.kind,  # type: ignore[arg-type]  # one of the kinds, checked above
        entry.mode,
        entry.uid,
        entry.gid,
        tree.epoch if entry.mtime < 0 else entry.mtime,
        len(data) if entry.kind == "file" else 0,
        entry.target,
        tuple(tuple(pair) for pair in entry.xattrs),  # type: ignore[misc]  # pairs by the message's type
        first.checksum if first is not None else None,
        (0, 0),
        TOP,
        Inline(data) if entry.kind == "file" else None,
    )


def _same(old: Node, new: Node) -> bool:
    """Whether a node says the same as another, times and origin aside."""
    if (old.kind, old.mode, old.uid, old.gid, old.target, old.size if old.kind == "file" else 0) != (
        new.kind,
        new.mode,
        new.uid,
        new.gid,
        new.target,
        new.size,
    ):
        return False
    if dict(old.xattrs) != dict(new.xattrs) and old.kind not in ("symlink", "hardlink"):
        return False
    if old.kind != "file":
        return True
    content = old.content.read() if old.content is not None else b""
    return new.content is not None and content == new.content.read()


def _timeless_shadow(data: bytes, tree: Tree, days: range) -> bytes:
    """`etc/shadow` with the tree's day where a script wrote today's."""
    known = set((tree.read(SHADOW) or b"").splitlines())
    lines = []
    for line in data.split(b"\n"):
        fields = line.split(b":")
        if line not in known and len(fields) > 2 and fields[2].isdigit() and int(fields[2]) in days:
            fields[2] = str(tree.epoch // _DAY).encode()
        lines.append(b":".join(fields))
    return b"\n".join(lines)
