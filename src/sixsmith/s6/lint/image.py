"""An image as the rules see it: its tree, its settings, its overlay, and the scripts that run in it.

Only files that matter are read. What a package or the overlay itself brought is read only where a rule is about exactly
that file, so that looking at an image costs no inflating of package archives.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal, Protocol

import msgspec

from sixsmith.errors import FormatError
from sixsmith.rootfs.tree import OVERLAY, Node, Tree
from sixsmith.s6.finding import Finding, Severity, shown_path
from sixsmith.s6.found import FoundOverlay
from sixsmith.s6.lint.rules import RULES
from sixsmith.s6.lint.shell import ShellCommand, read_shell, word_set

__all__ = ["DEFAULT_PATH", "SHELLS", "Check", "Image", "Role", "Script", "Settings", "Shebang", "parse_shebang"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What runtimes, and /init, take when an image says no PATH."""

SHELLS = word_set("sh ash bash dash ksh mksh zsh busybox")

Role = Literal["cont-init", "cont-finish", "run", "finish", "check", "called", "cmd", "entrypoint", "hook", "health"]
"""What a script is for. `called`: a oneshot's `up` or `down` names it; `hook`: S6_STAGE2_HOOK."""

MAX_SCRIPT = 256 << 10
"""Longer files, in bytes, are programs or data and not read as scripts."""


class Check(Protocol):
    """The part of a health check that rules look at."""

    @property
    def command(self) -> tuple[str, ...]: ...


class Settings(Protocol):
    """How a container of the image starts, as its config has it; None is “not said”."""

    @property
    def entrypoint(self) -> tuple[str, ...] | None: ...
    @property
    def cmd(self) -> tuple[str, ...] | None: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def user(self) -> str | None: ...
    @property
    def workdir(self) -> str | None: ...
    @property
    def volumes(self) -> tuple[str, ...]: ...
    @property
    def stop_signal(self) -> str | None: ...
    @property
    def healthcheck(self) -> Check | None: ...


class Shebang(msgspec.Struct, frozen=True):
    """A `#!` line: the interpreter's path, and all that stands behind it as one text, as Linux hands it over."""

    path: str
    argument: str

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def chain(self) -> tuple[str, ...]:
        """The programs that read the script one after the other: `with-contenv bash` is with-contenv, then bash."""
        names = [self.path]
        words = self.argument.split()
        while names[-1].rpartition("/")[2] in ("env", "with-contenv", "busybox"):
            words = [word for word in words if not word.startswith("-") and "=" not in word]
            if not words:
                break
            names.append(words.pop(0))
        return tuple(names)

    @property
    def language(self) -> str:
        """The name of what reads the script at last: `sh`, `execlineb`, `python3`."""
        return posixpath.basename(self.chain[-1])


def parse_shebang(content: bytes) -> Shebang | None:
    """The `#!` line of a script, or None. A carriage return at its end is not part of it here (rule S2 is about it)."""
    if not content.startswith(b"#!"):
        return None
    line = content[2:].partition(b"\n")[0].decode("utf-8", "backslashreplace").strip()
    path, _, argument = line.replace("\t", " ").partition(" ")
    return Shebang(path, argument.strip()) if path else None


class Script(msgspec.Struct, frozen=True, dict=True):
    """A file that s6-overlay or the runtime executes. `service` is the name of the service it belongs to, or ""."""

    path: str
    role: Role
    node: Node
    content: bytes
    service: str = ""
    source: bool = False
    """Whether it lies in an s6-rc source directory, from which the compiler copies it."""

    @cached_property
    def shebang(self) -> Shebang | None:
        return parse_shebang(self.content.removeprefix(b"\xef\xbb\xbf"))

    @cached_property
    def is_shell(self) -> bool:
        return self.shebang is not None and self.shebang.language in SHELLS

    @cached_property
    def is_execline(self) -> bool:
        return self.shebang is not None and self.shebang.language == "execlineb"

    @cached_property
    def commands(self) -> tuple[ShellCommand, ...]:
        """The commands of a shell script; none for other languages."""
        return read_shell(self.content) if self.is_shell else ()

    def line_of(self, part: bytes) -> int:
        """The first line outside comments that holds `part`, or 0."""
        for number, line in enumerate(self.content.split(b"\n"), 1):
            if part in line and not line.lstrip().startswith(b"#"):
                return number
        return 0

    @cached_property
    def code(self) -> bytes:
        """The content without comment lines, the number of lines kept."""
        lines = self.content.split(b"\n")
        return b"\n".join(b"" if line.lstrip().startswith(b"#") else line for line in lines)


class Image:
    """What the rules look at. `settings` None: a folder without a config, about which those rules say nothing."""

    def __init__(self, tree: Tree, settings: Settings | None, overlay: FoundOverlay | None) -> None:
        self.tree = tree
        self.settings = settings
        self.overlay = overlay
        self._below: dict[str, list[str]] = {}
        for path in tree.nodes:
            if path.startswith(_LOOKED_INTO):
                directory, _, name = path.rpartition("/")
                self._below.setdefault(directory, []).append(name)

    # ---- saying what is wrong

    def found(
        self,
        rule: str,
        path: str,
        message: str,
        *,
        line: int = 0,
        hint: str | None = None,
        severity: Severity | None = None,
    ) -> Finding:
        """A finding of a rule at a path of the image (or the name of a setting); the rule has the rest."""
        known = RULES[rule]
        place = shown_path(path.encode("utf-8", "surrogateescape"))
        return Finding(
            rule,
            severity or known.severity,
            place,
            line,
            message,
            known.hint if hint is None else hint,
            known.reference,
        )

    # ---- the tree

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory; links are followed. Cheap below /etc, /run, /command and /package."""
        real = self.resolve(directory)
        if not f"{real}/".startswith(_LOOKED_INTO):
            return sorted(node.path.rpartition("/")[2] for node in self.tree.children(real))
        return sorted(self._below.get(real, ()))

    def resolve(self, path: str) -> str:
        """The real path, or the path itself where links run in a circle."""
        try:
            return self.tree.resolve(path)
        except FormatError:
            return path.strip("/")

    def find(self, path: str) -> Node | None:
        """What a path leads to; links into nothing or in circles lead to nothing."""
        try:
            return self.tree.find(path)
        except FormatError:
            return None

    def read(self, path: str) -> bytes:
        """A file's content, empty when there is no such file or it is no text that a rule would read."""
        node = self.find(path)
        if node is None or node.kind != "file" or node.size > MAX_SCRIPT or node.content is None:
            return b""
        return node.content.read()

    def program(self, name: str) -> Node | None:
        """What a program's name or path leads to, looked for in PATH as services have it."""
        if "/" in name:
            return self.find(name)
        for folder in self.service_path:
            node = self.find(f"{folder}/{name}")
            if node is not None and node.kind == "file":
                return node
        return None

    # ---- the settings

    @cached_property
    def partial(self) -> bool:
        """Whether this is a folder of files that will be copied onto an image, rather than a root file system: what it
        lacks, the image may have."""
        return self.settings is None and not any(path in self.tree for path in _OF_A_ROOT)

    @cached_property
    def has_overlay_files(self) -> bool:
        """Whether any part of the overlay itself lies in the tree."""
        return any(path in self.tree for path in ("init", "command", "package/admin", "etc/s6/init"))

    @property
    def major(self) -> int:
        return self.overlay.major if self.overlay else 0

    @cached_property
    def env(self) -> Mapping[str, str]:
        return self.settings.env if self.settings is not None else {}

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The folders of the image's PATH."""
        return tuple((self.env.get("PATH") or DEFAULT_PATH).split(":"))

    @cached_property
    def service_path(self) -> tuple[str, ...]:
        """The folders of PATH as services have it: /init puts /command, /usr/bin and /bin to the front."""
        own = tuple(folder for folder in self.path if folder.startswith("/"))
        first = ("/command", "/usr/bin", "/bin") if self.major != 3 or "command" in self.tree else ("/usr/bin", "/bin")
        return tuple(dict.fromkeys((*own, *first)))

    @cached_property
    def user(self) -> tuple[int, str] | None:
        """uid and spelling of a USER that is not root, or None. The uid is -1 where the image does not know the name."""
        said = (self.settings.user if self.settings is not None else None) or ""
        name = said.partition(":")[0]
        if name in ("", "root", "0"):
            return None
        if name.isdigit():
            return int(name), said
        for line in self.read("etc/passwd").decode("utf-8", "replace").splitlines():
            fields = line.split(":")
            if fields[0] == name and len(fields) > 2 and fields[2].isdigit():
                return (int(fields[2]), said) if int(fields[2]) else None
        return -1, said

    @cached_property
    def keeps_env(self) -> bool:
        value = self.env.get("S6_KEEP_ENV", "0")
        return value.isdigit() and int(value) != 0

    @cached_property
    def etc(self) -> str:
        """Where services are looked for: /etc, or the profile's folder."""
        profile = self.env.get("S6_RUNTIME_PROFILE")
        return f"etc/cont-profile.d/{profile}" if profile else "etc"

    # ---- what runs

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """Every script that s6-overlay executes in this image, in the order of their places."""
        return tuple(self._scripts())

    def _scripts(self) -> Iterator[Script]:
        for folder, role in (("cont-init.d", "cont-init"), ("cont-finish.d", "cont-finish")):
            for name in self.names(f"{self.etc}/{folder}"):
                if not name.startswith("."):
                    yield from self._script(f"{self.etc}/{folder}/{name}", role)
        for service in self.legacy_services:
            place = f"{self.etc}/services.d/{service}"
            yield from self._script(f"{place}/run", "run", service)
            yield from self._script(f"{place}/finish", "finish", service)
            yield from self._script(f"{place}/data/check", "check", service)
            yield from self._script(f"{place}/log/run", "run", f"{service}/log")
            yield from self._script(f"{place}/log/finish", "finish", f"{service}/log")
        if self.major == 3:
            yield from self._source_scripts()
        hook = self.env.get("S6_STAGE2_HOOK", "").split()
        if hook and hook[0].startswith("/"):
            yield from self._foreign(hook[0], "hook")
        if self.settings is not None:
            for words, role in ((self.settings.entrypoint, "entrypoint"), (self.settings.cmd, "cmd")):
                if words and words[0].startswith("/"):
                    yield from self._foreign(words[0], role)

    def _source_scripts(self) -> Iterator[Script]:
        base = f"{self.etc}/s6-overlay/s6-rc.d"
        called: dict[str, str] = {}
        for service in self.names(base):
            kind = self.read(f"{base}/{service}/type").strip()
            if service.startswith(".") or self._is_overlays(f"{base}/{service}/type"):
                continue
            if kind == b"longrun":
                yield from self._script(f"{base}/{service}/run", "run", service, source=True)
                yield from self._script(f"{base}/{service}/finish", "finish", service, source=True)
                yield from self._script(f"{base}/{service}/data/check", "check", service, source=True)
            elif kind == b"oneshot":
                for file in ("up", "down"):
                    for match in re.finditer(_CALLED, self.read(f"{base}/{service}/{file}")):
                        called.setdefault(match[1].decode("utf-8", "surrogateescape"), service)
        for path, service in called.items():
            yield from self._foreign(path, "called", service)

    def _script(self, path: str, role: str, service: str = "", *, source: bool = False) -> Iterator[Script]:
        node = self.find(path)
        if node is not None and node.kind == "file" and node.size <= MAX_SCRIPT:
            content = node.content.read() if node.content is not None else b""
            yield Script(path, role, node, content, service, source)  # type: ignore[arg-type]  # the callers name roles

    def _foreign(self, path: str, role: str, service: str = "") -> Iterator[Script]:
        """A script that may lie anywhere: a package's and the overlay's own are taken to be sound."""
        node = self.find(path)
        if node is not None and node.origin != OVERLAY and not node.origin.startswith("apk:"):
            for script in self._script(path.strip("/"), role, service):
                if not script.content.startswith(b"\x7fELF"):
                    yield script

    def _is_overlays(self, path: str) -> bool:
        node = self.find(path)
        return node is not None and node.origin == OVERLAY

    @cached_property
    def legacy_services(self) -> tuple[str, ...]:
        """The names of the directories in services.d."""
        place = f"{self.etc}/services.d"
        found = []
        for name in self.names(place):
            node = self.find(f"{place}/{name}")
            if not name.startswith(".") and node is not None and node.kind == "directory":
                found.append(name)
        return tuple(found)

    @cached_property
    def source_services(self) -> tuple[str, ...]:
        """The names of the user's own services in s6-rc.d, bundles not counted."""
        base = f"{self.etc}/s6-overlay/s6-rc.d"
        kinds = (b"longrun", b"oneshot")
        return tuple(name for name in self.names(base) if self.read(f"{base}/{name}/type").strip() in kinds)

    @cached_property
    def starts_something(self) -> bool:
        """Whether the overlay has anything to do at boot but start itself."""
        return bool(self.legacy_services or self.source_services or self.names(f"{self.etc}/cont-init.d"))


_OF_A_ROOT = ("bin/sh", "bin/busybox", "usr/bin/sh", "etc/passwd", "lib/apk", "usr/lib/apk")
_LOOKED_INTO = ("etc/", "run/", "command/", "package/")
_CALLED = rb"(?:^|\s)\"?(/[^\s\"{}$]+)"
