"""A tree of s6-overlay v1 or v2 becomes one for v3.

services.d, cont-init.d, cont-finish.d and fix-attrs.d turn into s6-rc source directories that keep what the old overlay did:
the scripts of cont-init.d one after the other, then all services; at the end the services, then cont-finish.d. Or they stay
where they are (`keep_legacy`), which v3 still understands, and only their scripts change. What cannot be known from the
files is a list of decisions with places.

    fix-attrs ── init-first ── init-second ──┬── service ══ service-log
    finish-last ── finish-first ─────────────┘
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from sixsmith.errors import UsageError
from sixsmith.s6.compile import OVERLAY_SERVICES
from sixsmith.s6.definitions import COPIED_FILES, NUMBER_FILES, is_reserved, parse_number
from sixsmith.s6.migrate_text import Decision, rewrite_script
from sixsmith.s6.render_script import RenderedFile, ordinary
from sixsmith.s6.render_v3 import SOURCES, bundle_folder

__all__ = ["Decision", "Migration", "as_root", "migrate"]

_SCRIPTS = "etc/s6-overlay/scripts"
_SERVICES, _INIT, _FINISH, _ATTRS = "etc/services.d", "etc/cont-init.d", "etc/cont-finish.d", "etc/fix-attrs.d"
LEGACY = (_SERVICES, _INIT, _FINISH, _ATTRS)
_COPIED = {name.decode() for name in COPIED_FILES}
_NUMBERS = {name.decode() for name in NUMBER_FILES}
_ATTRIBUTE = re.compile(r"(\S+)\s+(true|false)\s+([^\s,]+)(?:,(\S+))?\s+(\S+)\s+(\S+)")


class Migration(msgspec.Struct, frozen=True):
    """The new tree, complete and in order; what was done, one sentence each; what a person must still decide."""

    files: tuple[RenderedFile, ...]
    done: tuple[str, ...]
    decisions: tuple[Decision, ...]


def migrate(files: Sequence[RenderedFile], *, keep_legacy: bool = False, order: tuple[int, ...] = (3,)) -> Migration:
    """The tree for v3. `files` are those of a root folder (`etc/services.d/…`), directories among them.

    `order` is the release to go to, as numbers, as far as it is known: it decides where the user bundle lies.
    """
    return _Migrator(files, keep_legacy, order).migrate()


def as_root(files: Sequence[RenderedFile], folder: str) -> tuple[RenderedFile, ...]:
    """The files as those of a root folder: what holds services.d itself is its /etc.

    Raises UsageError when there is nothing of s6-overlay in it.
    """
    legacy = {place.removeprefix("etc/") for place in LEGACY}
    if any(file.path.partition("/")[0] in legacy for file in files):
        inside = (RenderedFile(f"etc/{file.path}", file.kind, file.mode, file.content) for file in files)
        return (RenderedFile("etc", "directory", 0o755), *inside)
    if any(file.path.startswith((*(f"{place}" for place in LEGACY), SOURCES)) for file in files):
        return tuple(files)
    hint = "give the folder that holds etc/services.d, etc/cont-init.d, …, or that holds services.d itself"
    raise UsageError(f"{folder}: no services of s6-overlay in this folder", hint=hint)


class _Directory(msgspec.Struct):
    """A directory of the old tree: its files by their path below it."""

    files: dict[str, RenderedFile] = msgspec.field(default_factory=dict)


class _Migrator:
    def __init__(self, files: Sequence[RenderedFile], keep_legacy: bool, order: tuple[int, ...]) -> None:
        self.old = {file.path: file for file in files}
        self.keep_legacy = keep_legacy
        self.bundle = bundle_folder(order)
        self.new: dict[str, RenderedFile] = {}
        self.done: list[str] = []
        self.decisions: list[Decision] = []
        self.moved: dict[str, str] = {}
        self.names: set[str] = self.taken_names()
        self.started: list[str] = []

    def taken_names(self) -> set[str]:
        """Names that s6-rc has already: the overlay's, and services that this tree defines for v3."""
        theirs = {name.decode() for name in OVERLAY_SERVICES}
        mine = {path.split("/")[3] for path in self.old if path.startswith(SOURCES + "/")}
        return theirs | mine

    def migrate(self) -> Migration:
        legacy = self.legacy_paths()
        for path, file in self.old.items():
            if path not in legacy:
                self.keep(file)
        if not self.keep_legacy:
            self.convert()
        else:
            for path in LEGACY:
                if path in self.old:
                    self.done.append(f"/{path} stays, with its scripts rewritten")
        self.rewrite()
        return Migration(
            tuple(self.new[path] for path in self.ordered()), tuple(self.done), tuple(self.sorted_decisions())
        )

    def sorted_decisions(self) -> list[Decision]:
        return sorted(dict.fromkeys(self.decisions), key=lambda each: (each.path, each.line, each.message))

    def ordered(self) -> list[str]:
        """Directories before what is in them, otherwise by name."""
        return sorted(self.new, key=lambda path: path.split("/"))

    def legacy_paths(self) -> set[str]:
        """The files that are converted, which do not go on as they are."""
        if self.keep_legacy:
            return set()
        return {path for path in self.old if any(path == place or path.startswith(place + "/") for place in LEGACY)}

    def keep(self, file: RenderedFile) -> None:
        """A file that stays where it is; scripts that v1 and v2 made executable by themselves get their x-bit."""
        if file.kind == "file" and _was_made_executable(file.path) and not file.mode & 0o111:
            self.done.append(f"/{file.path} is executable now: v3 does not do that by itself")
            file = RenderedFile(file.path, file.kind, 0o755, file.content)
        self.new[file.path] = file

    def decide(self, path: str, message: str, hint: str = "", line: int = 0) -> None:
        self.decisions.append(Decision(path, line, message, hint))

    # --- the parts

    def convert(self) -> None:
        attributes = self.permissions()
        last = self.chain(_INIT, "init", attributes)
        down = self.finishers()
        waits = [name for name in (last or attributes, down) if name]
        for name, directory in self.directories(_SERVICES).items():
            self.service(name, directory, waits)
        if self.started:
            self.put_source("", "bundle", contents=self.started, folder=self.bundle)

    def children(self, place: str) -> list[RenderedFile]:
        """Files directly in a folder, as s6-ls and s6-sort give them: hidden ones left out, by bytes."""
        below = place + "/"
        names = [path for path in self.old if path.startswith(below) and "/" not in path[len(below) :]]
        return [self.old[path] for path in sorted(names, key=str.encode) if not path[len(below) :].startswith(".")]

    def directories(self, place: str) -> dict[str, _Directory]:
        found: dict[str, _Directory] = {}
        for path in sorted(self.old, key=str.encode):
            if path.startswith(place + "/"):
                name, _, rest = path[len(place) + 1 :].partition("/")
                if rest or self.old[path].kind == "directory":
                    directory = found.setdefault(name, _Directory())
                    if rest:
                        directory.files[rest] = self.old[path]
                elif self.old[path].kind == "symlink":
                    self.decide(path, "a service that is a symbolic link", "migrate what it points at")
                    self.new[path] = self.old[path]
                elif not name.startswith("."):
                    self.decide(path, "a plain file in services.d does nothing", "it is left out")
        return found

    def name(self, wanted: str, path: str) -> str:
        """A name that nothing else has; a name that had to change is told."""
        clean = re.sub(r"[^A-Za-z0-9_.@+-]+", "-", wanted).strip(".-") or "service"
        name = clean
        if name in self.names or is_reserved(name.encode()):
            name = f"{clean.removeprefix('s6-rc-').removeprefix('s6rc-')}-service"
        number = 2
        while name in self.names:
            name, number = f"{clean}-{number}", number + 1
        self.names.add(name)
        if name != wanted and clean == wanted:
            self.decide(path, f"the name `{wanted}` is taken in v3: it is `{name}` now", "see who calls it by name")
        return name

    def chain(self, place: str, prefix: str, first_needs: str | None) -> str | None:
        """Scripts as oneshots, each behind the one before; the name of the last."""
        previous = first_needs
        for file in self.children(place):
            if file.kind == "directory":
                self.decide(file.path, "a directory here is executed, which fails", "it is left out")
                continue
            previous = self.oneshot(file, prefix, previous, "up")
        if previous != first_needs:
            count = len([file for file in self.children(place) if file.kind != "directory"])
            self.done.append(f"/{place}: {count} scripts are oneshots that run one after the other")
            self.decide(
                place,
                "a script that fails now keeps the scripts behind it and all services from starting; before, the start went on",
                "let a script that may fail end in `exit 0`",
            )
        return previous

    def finishers(self) -> str | None:
        """cont-finish.d: oneshots that do nothing at start, and their work when they are taken down, first one first."""
        previous: str | None = None
        scripts = [file for file in self.children(_FINISH) if file.kind != "directory"]
        for file in reversed(scripts):
            previous = self.oneshot(file, "finish", previous, "down")
        if previous is not None:
            self.done.append(f"/{_FINISH}: {len(scripts)} scripts run when their oneshots are taken down")
            self.decide(
                _FINISH,
                "these scripts now run when all services have stopped; before, services were only told to stop by then",
                "a script that talks to a service belongs into that service's own oneshot, or its `finish`",
            )
        return previous

    def oneshot(self, file: RenderedFile, prefix: str, needs: str | None, when: str) -> str:
        own = file.path.rpartition("/")[2]
        stripped = re.sub(r"^\d+[-_.]?", "", own) or own
        stripped = re.sub(r"\.sh$", "", stripped)
        wanted = f"{prefix}-{stripped}"
        if re.sub(r"[^A-Za-z0-9_.@+-]+", "-", wanted).strip(".-") in self.names:
            wanted = f"{prefix}-{own}"
        name = self.name(wanted, file.path)
        script = f"{_SCRIPTS}/{name}"
        content = b"" if file.kind != "file" else file.content
        if file.kind == "symlink":
            self.new[script] = RenderedFile(script, "symlink", 0o777, file.content)
            self.decide(file.path, "a symbolic link to a script", "see that its target is executable")
        else:
            self.new[script] = RenderedFile(script, "file", 0o755, content)
            if not content.startswith(b"#!"):
                self.decide(file.path, "this script has no `#!` line: it cannot be executed", "begin it with #!/bin/sh")
        self.moved[f"/{file.path}"] = f"/{script}"
        small = {"up": f"/{script}"} if when == "up" else {"up": "", "down": f"/{script}"}
        self.put_source(name, "oneshot", needs=[needs] if needs else [], files=small)
        self.started.append(name)
        return name

    # --- fix-attrs.d

    def permissions(self) -> str | None:
        """fix-attrs.d as one oneshot with chown and chmod."""
        lines: list[str] = []
        for file in self.children(_ATTRS):
            if file.kind != "file":
                self.decide(file.path, "not a file", "it is left out")
                continue
            lines.append(f"# {file.path.rpartition('/')[2]}")
            for number, line in enumerate(file.content.decode("utf-8", "replace").split("\n"), 1):
                words = line.strip()
                if not words or words.startswith("#"):
                    continue
                match = _ATTRIBUTE.fullmatch(words)
                if match is None:
                    hint = "PATH true|false USER[:GROUP][,UID:GID] FILEMODE DIRECTORYMODE"
                    self.decide(file.path, f"`{words}` is not understood", hint, number)
                    continue
                lines += _attribute_lines(*match.groups())
        if not lines:
            return None
        name = self.name("permissions", _ATTRS)
        script = f"{_SCRIPTS}/{name}"
        head = ["#!/bin/sh", *_FIX]
        self.new[script] = ordinary(script, "\n".join([*head, *lines, ""]), 0o755)
        self.put_source(name, "oneshot", files={"up": f"/{script}"})
        self.started.append(name)
        self.done.append(f"/{_ATTRS}: a oneshot that changes owners and modes")
        hint = "what is in the image should have its owner and mode there: `accounts` and `files` of the family file"
        self.decide(_ATTRS, "owners and modes are changed at each start", hint)
        return name

    # --- services

    def service(self, old_name: str, directory: _Directory, waits: Sequence[str]) -> None:
        place = f"{_SERVICES}/{old_name}"
        files = directory.files
        if "down" in files:
            self.stay(place, directory)
            hint = "as a service of s6-rc in no bundle it would be started by `s6-rc -u change NAME`"
            self.decide(f"{place}/down", "a service that is not started: it stays in services.d", hint)
            return
        if "run" not in files or files["run"].kind == "directory":
            self.stay(place, directory)
            self.decide(
                place, "there is no `run` in it, so that nothing ever starts", "it stays in services.d; remove it"
            )
            return
        name = self.name(old_name, place)
        logs = {path.removeprefix("log/"): file for path, file in files.items() if path.startswith("log/")}
        own = {path: file for path, file in files.items() if path != "log" and not path.startswith("log/")}
        has_log = "run" in logs and logs["run"].kind != "directory"
        needs = ["base", *waits]
        small: dict[str, str] = {}
        logger = self.name(f"{name}-log", f"{place}/log") if has_log else ""
        if has_log:
            small["producer-for"] = logger
            pipeline = self.name(f"{name}-pipeline", place)
            self.started.append(pipeline)
            self.put_source(logger, "longrun", needs=needs, files={"consumer-for": name, "pipeline-name": pipeline})
            self.service_files(logger, f"{place}/log", logs)
            self.done.append(f"/{place}: a longrun and its logger, joined by the pipeline {pipeline}")
        else:
            self.started.append(name)
            self.done.append(f"/{place}: a longrun")
        self.put_source(name, "longrun", needs=needs, files=small)
        self.service_files(name, place, own)

    def stay(self, place: str, directory: _Directory) -> None:
        self.new[place] = RenderedFile(place, "directory", 0o755)
        for file in directory.files.values():
            self.keep(file)

    def service_files(self, name: str, place: str, files: Mapping[str, RenderedFile]) -> None:
        """The files of a service directory; those that s6-rc would not copy go into `data`."""
        folder = f"{SOURCES}/{name}"
        inside: dict[str, str] = {}
        for path, file in files.items():
            first = path.partition("/")[0]
            if first == "nosetsid":
                self.decide(
                    file.path, "v3's s6 knows no `nosetsid`", "it is left out: the service gets a session of its own"
                )
                continue
            if first in ("supervise", "event"):
                continue
            if first in _NUMBERS and path == first and file.kind == "file" and parse_number(file.content) is None:
                self.decide(file.path, "this is not a number", "it is left out; the default holds")
                continue
            target = path if first in _COPIED else f"data/{path}"
            if target != path:
                inside[first] = f"data/{first}"
                self.put_directory(f"{folder}/data")
            mode = 0o755 if path in ("run", "finish") or path == "data/check" else file.mode
            self.put(RenderedFile(f"{folder}/{target}", file.kind, mode, file.content))
            if file.kind == "file":
                self.moved[f"/{file.path}"] = f"/{folder}/{target}"
        for old, new in inside.items():
            self.moved_inside(folder, old, new, f"{place}/{old}")

    def moved_inside(self, folder: str, old: str, new: str, place: str) -> None:
        """Scripts of the service call a file that is in `data` now by its new path."""
        called = False
        for script in ("run", "finish", "data/check"):
            file = self.new.get(f"{folder}/{script}")
            if file is None or file.kind != "file" or not file.content.startswith(b"#!"):
                continue
            pattern = rb"(?<![\w./-])\./" + re.escape(old).encode() + rb"(?![\w.-])"
            content, count = re.subn(pattern, b"./" + new.encode(), file.content)
            called = called or count > 0
            self.new[file.path] = RenderedFile(file.path, file.kind, file.mode, content)
        if not called:
            self.decide(
                place, f"s6-rc copies only what it knows: this is ./{new} of the service now", "see who reads it"
            )

    # --- writing

    def put(self, file: RenderedFile) -> None:
        self.put_directory(file.path.rpartition("/")[0])
        self.new[file.path] = file

    def put_directory(self, path: str) -> None:
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            parent = "/".join(parts[:length])
            self.new.setdefault(parent, RenderedFile(parent, "directory", 0o755))

    def put_source(
        self,
        name: str,
        kind: str,
        *,
        needs: Iterable[str] = (),
        contents: Sequence[str] | None = None,
        files: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        folder = folder or f"{SOURCES}/{name}"
        self.put(ordinary(f"{folder}/type", f"{kind}\n"))
        if contents is None:
            for each in ("base", *needs):
                self.put(ordinary(f"{folder}/dependencies.d/{each}", ""))
        for each in contents or ():
            self.put(ordinary(f"{folder}/contents.d/{each}", ""))
        for file, text in (files or {}).items():
            self.put(ordinary(f"{folder}/{file}", f"{text}\n"))

    def rewrite(self) -> None:
        """The scripts of the whole tree, wherever they lie now."""
        origin = {new: old for old, new in self.moved.items()}
        for path in self.ordered():
            file = self.new[path]
            if file.kind != "file" or path.endswith((".md", ".txt")):
                continue
            before = origin.get(f"/{path}", f"/{path}").lstrip("/")
            content, decisions = rewrite_script(before, file.content, self.moved)
            self.decisions += decisions
            if content != file.content:
                self.new[path] = RenderedFile(path, file.kind, file.mode, content)


def _was_made_executable(path: str) -> bool:
    """What fix-attrs of v1 and v2 gave mode 0755 at each start (init-stage2-fixattrs.txt), and readiness checks."""
    return bool(
        re.fullmatch(
            r"etc/(cont-init\.d|cont-finish\.d)/[^/]+|etc/services\.d/[^/]+/(log/)?(run|finish|data/check)", path
        )
    )


_FIX = (
    "# Owners and modes, once of fix-attrs.d. Hidden files below a folder are left alone, as they were there.",
    "fix() { # PATH RECURSE OWNER FILEMODE DIRECTORYMODE",
    "  chown -h \"$3\" \"$1\"",
    "  if [ -d \"$1\" ]; then",
    "    [ \"$5\" = - ] || chmod \"$5\" \"$1\"",
    "  elif [ ! -L \"$1\" ]; then",
    "    [ \"$4\" = - ] || chmod \"$4\" \"$1\"",
    "  fi",
    "  if [ \"$2\" = true ] && [ -d \"$1\" ]; then",
    "    find \"$1\" -mindepth 1 -name '.*' -prune -o -mindepth 1 -exec chown -h \"$3\" {} +",
    "    [ \"$5\" = - ] || find \"$1\" -mindepth 1 -name '.*' -prune -o -mindepth 1 -type d -exec chmod \"$5\" {} +",
    "    [ \"$4\" = - ] || find \"$1\" -mindepth 1 -name '.*' -prune -o -mindepth 1 ! -type d ! -type l -exec chmod \"$4\" {} +",
    "  fi",
    "}",
)  # fmt: skip


def _attribute_lines(
    path: str, recurse: str, account: str, default: str | None, file: str, folder: str
) -> Iterator[str]:
    """One line of fix-attrs.d in shell."""
    owner = shlex.quote(account if ":" in account else f"{account}:")
    if default is not None:
        user = shlex.quote(account.partition(":")[0])
        yield f"owner={owner}; id {user} > /dev/null 2>&1 || owner={shlex.quote(default)}"
        owner = '"$owner"'
    glob = "".join(part if part in "*?[]" else shlex.quote(part) for part in re.findall(r"[*?\[\]]|[^*?\[\]]+", path))
    yield f"for path in {glob}; do"
    yield f'  [ ! -e "$path" ] || fix "$path" {recurse} {owner} {shlex.quote(file)} {shlex.quote(folder)}'
    yield "done"
