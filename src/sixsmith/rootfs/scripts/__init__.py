"""What install scripts do, understood from their text: the `emulate` way.

A script is parsed and walked on the tree, and the few dozen programs that install scripts call are done by hand, with
the results that the real ones have. So images of any architecture are made without running a single foreign
instruction, and the same bytes come out every time. Understanding is all or nothing: a script that goes, on this very
tree, into anything that is not known here is refused with its line, and the tree stays as it was.
"""

from __future__ import annotations

import re
from typing import Protocol

import msgspec

from sixsmith.errors import InstallRefused, Place, ScriptNotUnderstood
from sixsmith.rootfs.scripts.files import Files, Refused
from sixsmith.rootfs.scripts.programs import Programs
from sixsmith.rootfs.scripts.shell import UNKNOWN, Input, Output, Shell, Streams, decode
from sixsmith.rootfs.scripts.syntax import NotUnderstood, parse_script
from sixsmith.rootfs.tree import Tree

__all__ = ["Emulator", "Message", "NamedPackage", "keep_place", "script_failed", "script_name"]

_UNKNOWN_VALUE = f"{UNKNOWN}([^{UNKNOWN}]*){UNKNOWN}"
_SHELLS = frozenset(["sh", "ash", "dash", "bash", "hush"])
_IDLE = frozenset([b"", b"exit 0", b":", b"true"])


class NamedPackage(Protocol):
    """All that is asked of a package: its name."""

    @property
    def name(self) -> str: ...


class Message(msgspec.Struct, frozen=True):
    """What a script had to say to whoever installs the package.

    `status` is its exit status: 0, but for a trigger that failed.
    """

    package: str
    kind: str
    text: str
    status: int = 0


class Emulator:
    """Runs install scripts on the tree alone (a `ScriptRunner`).

    `messages` collects what scripts print. Raises ScriptNotUnderstood (place: `PACKAGE.KIND`, line) for a script that
    cannot be followed, and InstallRefused for one that fails: apk would go on, leave a package half set up, and end with
    an error. Either way the tree is as it was before that script. A trigger that fails is no error for apk 2.14 either
    (it says so, and exits 0): what it did stays, and a message tells.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def run(self, tree: Tree, package: NamedPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        """Does to `tree` what a script would; `arguments` are `$1…`."""
        if _does_nothing(tree, script):
            keep_place(tree)
            return
        before = dict(tree.nodes)
        try:
            said, status = self._follow(tree, package.name, kind, script, arguments)
            if status and kind != "trigger":
                raise script_failed(package.name, kind, f"fails with exit status {status}", said)
        except BaseException:
            tree.nodes.clear()  # the same dict: whoever installs may hold on to it
            tree.nodes.update(before)
            raise
        keep_place(tree)
        if said or status:
            self.messages.append(Message(package.name, kind, re.sub(_UNKNOWN_VALUE, r"(\1)", said), status))

    def trigger(self, tree: Tree, package: NamedPackage, script: bytes, directories: tuple[str, ...]) -> None:
        """Does to `tree` what a trigger would; `directories` are the watched ones that changed."""
        self.run(tree, package, "trigger", script, directories)

    def _follow(
        self, tree: Tree, package: str, kind: str, script: bytes, arguments: tuple[str, ...]
    ) -> tuple[str, int]:
        files = Files(tree)
        said = Output()
        programs = Programs(files, said)
        text = decode(script)
        try:
            interpreter = _interpreter(tree, script)
            if interpreter is None:
                return f"{package}.{kind}: its interpreter is not in the image\n", 127
            shell, options = interpreter
            programs.plain_echo = shell != "dash"
            runner = Shell(files, programs, arguments, name=script_name(package, kind, arguments))
            runner.errexit = "e" in options
            runner.nounset = "u" in options
            status = runner.run(parse_script(text), Streams(Input(None), said, said))
        except NotUnderstood as trouble:
            raise _explained(trouble, package, kind, text) from None
        except (Refused, RecursionError) as trouble:
            raise _explained(NotUnderstood(str(trouble) or "nested too deeply"), package, kind, text) from None
        return said.text(), status


def script_name(package: str, kind: str, arguments: tuple[str, ...]) -> str:
    """`$0`, as apk names its scripts, but that a trigger does not know its package's version."""
    version = f"-{arguments[0]}" if arguments and kind != "trigger" and "/" not in arguments[0] else ""
    return f"lib/apk/exec/{package}{version}.{kind}"


def keep_place(tree: Tree) -> None:
    """The folder that apk runs scripts in; it makes it for the first one, and leaves it."""
    if "lib/apk/exec" not in tree:
        tree.make_directory("lib/apk/exec", mode=0o700)


def script_failed(package: str, kind: str, how: str, said: str) -> InstallRefused:
    """The error for a script that ends badly; `how` completes "the script …", `said` is all that it printed."""
    lines = [line for line in said.splitlines() if line.strip()]
    last = f": {lines[-1].strip()[:200]}" if lines else ""
    return InstallRefused(
        f"the {kind} script of {package} {how}{last}",
        place=Place(f"{package}.{kind}"),
        hint=f"`skip` for {package} leaves its scripts out",
    )


def _does_nothing(tree: Tree, script: bytes) -> bool:
    """Whether a script has nothing but comments and `exit 0`, as many upgrade scripts have."""
    lines = [line.strip() for line in script.splitlines()[1:]]
    if not all(line in _IDLE or line.startswith(b"#") for line in lines):
        return False
    try:
        return _interpreter(tree, script) is not None
    except NotUnderstood:
        return False


def _interpreter(tree: Tree, script: bytes) -> tuple[str, str] | None:
    """Which shell the first line starts, and with which options; None when that program is not in the tree.

    Raises NotUnderstood for anything but a shell: apk executes the script file, so only the first line counts.
    """
    first = decode(script.partition(b"\n")[0])
    if not first.startswith("#!"):
        raise NotUnderstood("the script does not start with #! and could not be executed", 1)
    words = first[2:].split()
    if not words:
        raise NotUnderstood("the script names no interpreter", 1)
    node = tree.find(words[0])
    if node is None or node.kind != "file" or not node.mode & 0o111:
        return None
    own = node.path.rpartition("/")[2]
    name = words[0].rpartition("/")[2]
    options = " ".join(words[1:])
    if name == "busybox" and words[1:2] and words[1] in _SHELLS:
        name, options = "sh", " ".join(words[2:])
    if name not in _SHELLS or own not in (*_SHELLS, "busybox", "busybox.static", "yash", "oksh"):
        raise NotUnderstood(f"the interpreter {first[2:].strip()} is not understood", 1)
    if options.strip("-eux "):
        raise NotUnderstood(f"the interpreter {first[2:].strip()} is not understood", 1)
    return (own if own in ("dash", "bash") else "ash"), options


def _explained(trouble: NotUnderstood, package: str, kind: str, text: str) -> ScriptNotUnderstood:
    lines = text.split("\n")
    line = trouble.line
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    quoted = f": {shown}" if shown else ""
    return ScriptNotUnderstood(
        f"the {kind} script of {package} is not understood{quoted} ({trouble.reason})",
        place=Place(f"{package}.{kind}", line),
        hint=f"for {package}, `scripts: sandbox` runs the script for real, `skip` leaves it out",
    )
