"""What experience says about service definitions that the compiler accepts.

`s6-rc-compile` has no opinion on a shell script in `up`, on a service that no bundle starts, or on a log directory that
nobody made; the container that starts has. These rules (C1 of the rule list, beyond what `compile` decides) look at source
directories, and, where there is one, at the image's tree: whether a script is there, who owns a directory.

The overlay's own services are taken as they are. R23 is a rule that never speaks: `run` and `finish` in s6-rc source
directories need no x-bit, since the compiler writes its copies with 0755; checks that say otherwise are wrong.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sixsmith.errors import FormatError
from sixsmith.s6.compile import OVERLAY_SERVICES, CompileReport, check_sources
from sixsmith.s6.definitions import COPIED_FILES, Definition, parse_list, pipeline_members
from sixsmith.s6.execline import Block, Node, Word, iter_words
from sixsmith.s6.finding import Finding, Severity, shown_path
from sixsmith.s6.sources import SourceDirectory

if TYPE_CHECKING:
    from sixsmith.rootfs.tree import Node as TreeNode
    from sixsmith.rootfs.tree import Tree

__all__ = ["lint_sources"]

_ISSUE = "https://github.com/just-containers/s6-overlay/issues/"
_README = "https://github.com/just-containers/s6-overlay#usage"
_SERVICEDIR = "https://skarnet.org/software/s6-rc/s6-rc-compile.html#source"

_LISTS = (b"dependencies", b"contents", b"producer-for", b"consumer-for", b"pipeline-name")
_KNOWN = (
    COPIED_FILES
    | frozenset(_LISTS)
    | frozenset(b"type up down dependencies.d contents.d timeout-up timeout-down flag-essential".split())
)
_IDLE = rb"(?i)(readme|license|copying|notes|changelog)(\..*)?|.*\.(md|txt|orig|bak)|\..*"
"""Files that nobody expects to be used."""

CHAINING = frozenset(
    b"foreground background if ifelse ifte ifthenelse importas import define multidefine multisubstitute elglob export"
    b" export-array unexport redirfd fdmove fdclose fdblock fdswap fdreserve backtick cd umask execline-cd execline-umask"
    b" posix-cd posix-umask s6-setuidgid s6-envdir s6-envuidgid s6-applyuidgid s6-softlimit s6-nice with-contenv emptyenv"
    b" exec forx forstdin forbacktickx loopwhilex pipeline piperw trap tryexec wait getpid getcwd heredoc homeof runblock"
    b" shift dollarat elgetopt elgetpositionals envfile withstdinas s6-setsid s6-setlock s6-fghack s6-notifyoncheck"
    b" s6-ftrig-wait s6-maximumtime s6-permafailon s6-chroot s6-env s6-sudo case with-retries env nice ionice chrt su-exec"
    b" gosu chpst setpriv time timeout nohup stdbuf unshare prlimit printcontenv".split()
)
"""Programs that run the rest of their command line, so that a script goes on behind them. Sources: execline, s6."""
_BEFORE_PROGRAM = {
    b"exec": 0,
    b"with-contenv": 0,
    b"foreground": 0,
    b"s6-setuidgid": 1,
    b"s6-envuidgid": 1,
    b"su-exec": 1,
}
"""Chaining programs and how many words stand between them and the program that they run."""
_SHELLS = frozenset(b"sh bash ash dash ksh zsh busybox".split())
_SHELL_WORDS = frozenset((b"&&", b"||", b"|", b"then", b"fi", b"fi;", b"done", b"esac", b"[[", b"2>&1", b">&2"))
_MADE_AT_RUN_TIME = ("/run/", "/var/run/", "/tmp/", "/dev/", "/proc/", "/sys/")

_MISSPELT_PLACES = {
    "etc/s6-overlay/s6-rd.d": "etc/s6-overlay/s6-rc.d",
    "etc/s6-overlay/s6-rc": "etc/s6-overlay/s6-rc.d",
    "etc/s6-overlay/s6rc.d": "etc/s6-overlay/s6-rc.d",
    "etc/s6-overlay/rc.d": "etc/s6-overlay/s6-rc.d",
    "etc/s6-overlay/services.d": "etc/services.d",
    "etc/s6-overlay/service.d": "etc/services.d",
    "etc/s6-overlay/cont-init.d": "etc/cont-init.d",
    "etc/s6-overlay/cont-finish.d": "etc/cont-finish.d",
    "etc/s6-overlay/user-bundle.d": "etc/s6-overlay/user-bundles.d",
    "etc/s6-rc.d": "etc/s6-overlay/s6-rc.d",
    "etc/s6/s6-rc.d": "etc/s6-overlay/s6-rc.d",
    "etc/s6-overlays": "etc/s6-overlay",
    "etc/cont-init": "etc/cont-init.d",
    "etc/cont_init.d": "etc/cont-init.d",
    "etc/cont-inits.d": "etc/cont-init.d",
    "etc/cont-finish": "etc/cont-finish.d",
    "etc/service.d": "etc/services.d",
    "etc/fix-attr.d": "etc/fix-attrs.d",
    "etc/fix-attrs": "etc/fix-attrs.d",
}
"""Directories that people made where the overlay does not look, and where it does."""


def lint_sources(
    sources: Sequence[SourceDirectory], *, report: CompileReport | None = None, tree: Tree | None = None
) -> tuple[Finding, ...]:
    """Findings of R10 to R31 that the compiler does not have, in order of the sources.

    `report` is the compilation of the same sources, made here when it is not given. Rules that need the image (R13, parts
    of R25, R27, R31) speak only with a `tree`. Sources of the overlay itself are not judged.
    """
    if report is None:
        report = check_sources(sources)
    findings: list[Finding] = []
    for source in sources:
        if not _is_overlays(source.path):
            findings += _lint_source(source)
    for definition in report.definitions.values():
        if not _is_overlays(definition.source) and definition.kind is not None:
            findings += _ServiceLint(definition, tree, report.definitions).findings()
    findings += _orphans(report.definitions)
    findings += _without_base(report.definitions)
    if tree is not None:
        findings += _misspelt_places(tree)
        findings += _legacy_names(report.definitions, tree)
    return tuple(findings)


def _is_overlays(path: str) -> bool:
    """Whether this is the source directory inside the overlay's own package."""
    return "/admin/s6-overlay" in "/" + path and path.rstrip("/").endswith("/etc/s6-rc/sources")


# --- R28, R25: what lies in a source directory -------------------------------------------------------------------


def _lint_source(source: SourceDirectory) -> Iterator[Finding]:
    path = shown_path(source.path.encode("utf-8", "surrogateescape"))
    for name, entry in sorted(source.entries.items()):
        place = f"{path}/{shown_path(name)}"
        if name.startswith(b".") and entry.kind == "directory" and not _is_metadata(name):
            message = "a directory whose name starts with a dot is ignored: it defines no service"
            yield Finding("R28", "warning", place, 0, message, "rename it, or remove it", _SERVICEDIR)
        elif entry.kind not in ("directory", "lost") and not re.fullmatch(_IDLE, name):
            message = "a plain file in a source directory is ignored: services are directories"
            yield Finding(
                "R28", "warning", place, 0, message, "remove it, or make it a service's directory", _SERVICEDIR
            )


def _is_metadata(name: bytes) -> bool:
    return name in (b".git", b".svn", b".hg", b".github", b".vscode", b".idea")


def _misspelt_places(tree: Tree) -> Iterator[Finding]:
    for wrong, right in _MISSPELT_PLACES.items():
        node = tree.get(wrong)
        if node is not None and node.kind == "directory":
            message = f"s6-overlay does not look here: nothing in /{wrong} is ever used"
            yield Finding("R25", "warning", f"/{wrong}", 0, message, f"move it to /{right}", _ISSUE + "596")


# --- one service -------------------------------------------------------------------------------------------------


class _ServiceLint:
    """The rules that look at one service."""

    def __init__(self, definition: Definition, tree: Tree | None, definitions: Mapping[bytes, Definition]) -> None:
        self.service = definition
        self.files = definition.entry.children
        self.tree = tree
        self.definitions = definitions

    def found(
        self,
        rule: str,
        file: bytes,
        message: str,
        hint: str,
        reference: str,
        line: int = 0,
        severity: Severity = "warning",
    ) -> Finding:
        path = f"{self.service.path}/{shown_path(file)}" if file else self.service.path
        return Finding(rule, severity, path, line, message, hint, reference)

    def findings(self) -> Iterator[Finding]:
        yield from self.lists()
        yield from self.misspelt_files()
        if self.service.kind == "oneshot":
            for file, nodes in ((b"up", self.service.up), (b"down", self.service.down)):
                yield from self.script(file, nodes)
            yield from self.oneshot_run()
        elif self.service.kind == "longrun":
            yield from self.old_habits()
            yield from self.not_copied()
            yield from self.readiness()
            yield from self.logger()

    def content(self, file: bytes) -> bytes:
        entry = self.files.get(file)
        return entry.content if entry is not None else b""

    # R18, R19, R25

    def lists(self) -> Iterator[Finding]:
        for file in _LISTS:
            if file + b".d" in self.files:
                continue
            for listed in parse_list(self.content(file), file):
                if listed.name != listed.name.rstrip():
                    what = "a carriage return" if listed.name.endswith(b"\r") else "white space"
                    message = f"the line ends in {what}, which becomes part of the name"
                    yield self.found("R18", file, message, "remove it", _SERVICEDIR, listed.line)
        for file in (b"dependencies", b"contents"):
            directory = self.files.get(file + b".d")
            if file in self.files and directory is not None and directory.kind == "directory":
                message = f"there is `{file.decode()}.d` too: this file is ignored"
                yield self.found(
                    "R19", file, message, "move its names there as empty files, and remove it", _SERVICEDIR
                )

    def misspelt_files(self) -> Iterator[Finding]:
        for name in sorted(self.files):
            if name in _KNOWN or name == b"log" or re.fullmatch(_IDLE, name):
                continue
            right = _nearest_known(name)
            if right and (right not in self.files or right.endswith(b".d")):
                message = f"`{shown_path(name)}` means nothing to s6-rc; it looks like `{right.decode()}`"
                yield self.found("R25", name, message, f"rename it to `{right.decode()}`", _ISSUE + "596")

    # R10 to R13: up and down

    def script(self, file: bytes, nodes: tuple[Node, ...]) -> Iterator[Finding]:
        shell = next(_shell_signs(self.content(file), nodes), None)
        if shell is not None:
            line, what = shell
            message = f"{what}: this file is one execline command line, not a shell script"
            hint = (
                "put the script into a file of its own, with its `#!` line and x-bit, and write that file's path here"
            )
            yield self.found("R10", file, message, hint, _ISSUE + "400", line)
        else:
            yield from self.several_commands(file, nodes)
        for word, only_readable in _programs(nodes):
            yield from self.program(file, word, only_readable)

    def several_commands(self, file: bytes, nodes: tuple[Node, ...]) -> Iterator[Finding]:
        second = _second_command(nodes)
        if second is not None:
            first, other = second
            message = (
                f"the whole file is one command line: `{shown_path(other.text)}` is not run, it is an argument of"
                f" `{shown_path(first.text)}`"
            )
            hint = "write `foreground { command }` around all but the last, or put them into a script and call that"
            yield self.found("R11", file, message, hint, _ISSUE + "432", other.line)

    def program(self, file: bytes, word: Word, only_readable: bool) -> Iterator[Finding]:
        if self.tree is None:
            return
        path = word.text.decode("utf-8", "surrogateescape")
        if not path.startswith("/") or path.startswith(_MADE_AT_RUN_TIME) or "$" in path:
            return
        if path.startswith(("/command/", "/package/")) and path.split("/")[1] not in self.tree:
            return
        node = _find(self.tree, path)
        shown = shown_path(word.text)
        if node is None:
            message, hint = f"there is no {shown} in the image", "add the file, or correct the path"
        elif node.kind == "directory":
            message, hint = f"{shown} is a directory", "name a program in it"
        elif not only_readable and not node.mode & 0o111:
            message, hint = f"{shown} is not executable", "give it mode 0755"
        else:
            return
        yield self.found(
            "R13", file, message, hint, "https://github.com/home-assistant/addons/issues/2496", word.line, "error"
        )

    def oneshot_run(self) -> Iterator[Finding]:
        entry = self.files.get(b"run")
        if entry is None:
            return
        calls = (self.service.name + b"/run", b"./run")
        if any(word.text.endswith(calls) for word in iter_words(self.service.up + self.service.down)):
            return
        message = "a oneshot's `run` is never run, and `up` does not call it"
        yield self.found(
            "R12", b"run", message, "write the script's path into `up`, or make the type longrun", _ISSUE + "384"
        )

    # R20 to R22: files of longruns

    def old_habits(self) -> Iterator[Finding]:
        log = self.files.get(b"log")
        if log is not None and log.kind == "directory":
            name = shown_path(self.service.name)
            message = "a `log` directory inside an s6-rc longrun is ignored"
            hint = f"make a longrun `{name}-log` with consumer-for `{name}`, and producer-for `{name}-log` here"
            yield self.found("R20", b"log", message, hint, _ISSUE + "479")
        if b"down" in self.files:
            message = "`down` in a longrun is ignored: it does not keep the service from starting"
            yield self.found("R21", b"down", message, "take the service out of its bundle instead", _ISSUE + "486")

    def not_copied(self) -> Iterator[Finding]:
        scripts = self.content(b"run") + self.content(b"finish")
        for name in sorted(self.files):
            if name in _KNOWN or name in (b"log", b"down") or re.fullmatch(_IDLE, name) or _nearest_known(name):
                continue
            if self.service.name + b"/" + name in scripts:
                continue  # called where it lies, by its whole path
            message = f"`{shown_path(name)}` is not copied: it will not be beside `run` when the service starts"
            hint = "move it into `data/`, or call it by its whole path"
            line = _line_of(self.content(b"run"), b"./" + name)
            if line:
                yield self.found("R22", b"run", f"`./{shown_path(name)}`: {message}", hint, _SERVICEDIR, line)
            else:
                yield self.found("R22", name, message, hint, _SERVICEDIR)
        for name in (b"up", b"contents", b"contents.d"):
            if name in self.files:
                message = f"a longrun's `{name.decode()}` is never used"
                yield self.found("R22", name, message, "remove it, or correct the type", _SERVICEDIR)

    # R29, R30: readiness

    def readiness(self) -> Iterator[Finding]:
        run = _code_of(self.content(b"run")).replace(b"\\\n", b" ")
        checks = re.search(rb"\bs6-notifyoncheck\b([^\n]*)", run)
        line = _line_of(self.content(b"run"), b"s6-notifyoncheck")
        has_fd = b"notification-fd" in self.files
        if checks and not has_fd and not re.search(rb"\s-3\s*[0-9]", checks.group(1)):
            message = "`s6-notifyoncheck` has nobody to notify: there is no `notification-fd`"
            hint = "write `3` into a file `notification-fd`"
            yield self.found("R29", b"run", message, hint, _ISSUE + "444", line)
        if checks and not re.search(rb"(^|\s)-[a-zA-Z0-9]*c", checks.group(1)):
            yield from self.check_script(line)
        descriptor = self.service.notification_fd
        if has_fd and descriptor is not None and descriptor > 2 and not checks and not _may_notify(run, descriptor):
            message = f"nothing in `run` writes to descriptor {descriptor}: the service never becomes ready, and starting times out"
            hint = (
                "use `s6-notifyoncheck` with `data/check`, give the program's own option, or remove `notification-fd`"
            )
            yield self.found("R29", b"notification-fd", message, hint, _ISSUE + "482")
        elif not has_fd and not checks and re.search(rb"\bs6-[a-z0-9-]+\s[^\n]*-d\s?3\b", run):
            message = "the program is told to notify on descriptor 3, but there is no `notification-fd`"
            yield self.found("R29", b"run", message, "write `3` into a file `notification-fd`", _ISSUE + "538")

    def check_script(self, line: int) -> Iterator[Finding]:
        data = self.files.get(b"data")
        check = data.children.get(b"check") if data is not None and data.kind == "directory" else None
        pull = "https://github.com/just-containers/s6-overlay/pull/262"
        if check is None or check.missing:
            message = "`s6-notifyoncheck` without -c runs `data/check`, which is not there"
            yield self.found("R30", b"run", message, "write the check into `data/check`, with mode 0755", pull, line)
        elif check.kind == "file" and not check.mode & 0o111:
            yield self.found("R30", b"data/check", "the check is not executable", "give it mode 0755", pull)

    # R31: loggers

    def logger(self) -> Iterator[Finding]:
        run = self.content(b"run")
        call = re.search(rb"(?m)^[^#\n]*\blogutil-service\s+(?:-f\s*\S+\s+)?\"?([^\s\"]+)", run)
        if call is None:
            return
        line = _line_of(run, b"logutil-service")
        before = run[: call.start(1)]
        if re.search(rb"\b(s6-setuidgid|su-exec|gosu|s6-applyuidgid|chpst -u)\b", _code_of(before)):
            message = (
                "`logutil-service` becomes another user by itself: it cannot after privileges were given up before it"
            )
            yield self.found("R31", b"run", message, "remove the change of user", _ISSUE + "291", line)
        if b"notification-fd" not in self.files:
            message = "a logger tells its readiness on descriptor 3, but there is no `notification-fd`"
            yield self.found("R31", b"run", message, "write `3` into a file `notification-fd`", _README, line)
        yield from self.log_directory(call.group(1), line)

    def log_directory(self, path: bytes, line: int) -> Iterator[Finding]:
        text = path.decode("utf-8", "surrogateescape")
        if self.tree is None or not text.startswith("/") or "$" in text or self.is_prepared(path):
            return
        node = _find(self.tree, text)
        shown = shown_path(path)
        hint = f"make it in the image, or by a oneshot that this service needs: `mkdir -p {shown}`, `chown nobody:nogroup {shown}`"
        if node is None:
            if not text.startswith(_MADE_AT_RUN_TIME):
                yield self.found(
                    "R31", b"run", f"the log directory {shown} is not in the image", hint, _ISSUE + "291", line
                )
        elif node.kind != "directory":
            yield self.found("R31", b"run", f"{shown} is not a directory", "name a directory", _ISSUE + "291", line)
        elif node.uid == 0 and not node.mode & 0o022:
            message = (
                f"the log directory {shown} belongs to root: `logutil-service` runs as nobody and cannot write there"
            )
            yield self.found("R31", b"run", message, hint, _ISSUE + "291", line)

    def is_prepared(self, path: bytes) -> bool:
        """Whether something that this service needs names the directory, or is a script that may make it."""
        todo, seen = [self.service], {self.service.name}
        while todo:
            for listed in (definition := todo.pop()).dependencies + definition.contents:
                other = self.definitions.get(listed.name)
                if other is None or listed.name in seen or listed.name in OVERLAY_SERVICES:
                    continue
                seen.add(listed.name)
                todo.append(other)
                words = [word.text for word in iter_words(other.up)]
                if other.kind == "oneshot" and (path in words or self.names(words, path)):
                    return True
        return False

    def names(self, words: Iterable[bytes], path: bytes) -> bool:
        """Whether a script of the image among the words mentions the path."""
        for word in words:
            if self.tree is not None and word.startswith(b"/"):
                node = _find(self.tree, word.decode("utf-8", "surrogateescape"))
                content = node.content.read() if node is not None and node.content is not None else b""
                if path in content or posixpath.dirname(path) in content:
                    return True
        return False


def _find(tree: Tree, path: str) -> TreeNode | None:
    """What a path of the image leads to; links that run in a circle lead to nothing."""
    try:
        return tree.find(path)
    except FormatError:
        return None


# --- reading scripts ---------------------------------------------------------------------------------------------


def _nearest_known(name: bytes) -> bytes | None:
    """The file of s6-rc that this name is a likely misspelling of."""
    from difflib import SequenceMatcher  # costs start-up time, and most services have no other files

    text = name.lower().decode("latin-1").replace("_", "-")
    best: tuple[float, bytes] = (0.0, b"")
    for known in sorted(_KNOWN):
        other = known.decode()
        if abs(len(other) - len(text)) > 3 or len(text) < 3:
            continue
        best = max(best, (SequenceMatcher(None, text, other, autojunk=False).ratio(), known))
    return best[1] if best[0] > 0.82 else None


def _code_of(script: bytes) -> bytes:
    """A script without its comment lines; the `#!` line stays, since programs may stand in it."""
    lines = script.split(b"\n")
    return b"\n".join(line for number, line in enumerate(lines) if number == 0 or not line.lstrip().startswith(b"#"))


def _line_of(content: bytes, part: bytes) -> int:
    """The first line that holds `part` outside of a comment, or 0."""
    for number, line in enumerate(content.split(b"\n"), 1):
        if part in line and not (number > 1 and line.lstrip().startswith(b"#")):
            return number
    return 0


def _shell_signs(content: bytes, nodes: tuple[Node, ...]) -> Iterator[tuple[int, str]]:
    """Lines that only make sense to a shell, with what was seen there."""
    first_line = content.partition(b"\n")[0]
    if first_line.startswith(b"#!"):
        interpreter = [posixpath.basename(part) for part in first_line[2:].split()]
        shell = next((part for part in interpreter if part in _SHELLS or part.startswith(b"python")), None)
        if shell is not None:
            yield 1, f"the line `{shown_path(first_line.strip())}` is only a comment here"
    before: Word | None = None
    for word in iter_words(nodes):
        if not word.quoted:
            sign = _shell_sign(word, before)
            if sign:
                yield word.line, sign
        before = word


def _shell_sign(word: Word, before: Word | None) -> str:
    text = word.text
    shown = shown_path(text)
    starts_line = before is None or before.line != word.line
    if text in _SHELL_WORDS or text.startswith((b"$(", b"`")) or (b"$(" in text and not text.startswith(b"${")):
        return f"`{shown}` is for a shell"
    if text == b"[" and before is not None and before.text in (b"if", b"while", b"elif"):
        return f"`{shown_path(before.text)} [` is for a shell"
    if len(text) > 1 and text.endswith(b";"):
        return f"`{shown}` ends in a semicolon"
    if text in (b">", b">>") and before is not None and not starts_line:
        return f"`{shown}` redirects in a shell only (here: redirfd)"
    if starts_line and text == b"export" and before is None:
        return ""
    if starts_line and re.fullmatch(rb"[A-Za-z_][A-Za-z0-9_]*=\S*", text) and before is None:
        return f"`{shown}` sets a variable in a shell only (here: export NAME value)"
    return ""


def _top_lines(nodes: tuple[Node, ...]) -> list[list[Node]]:
    """The script's words and blocks by the line that each starts on; a block that spans lines keeps its rest with it."""
    lines: list[list[Node]] = []
    current = 0
    for node in nodes:
        if lines and node.line == current:
            lines[-1].append(node)
        else:
            lines.append([node])
        current = _last_line(node)
    return lines


def _last_line(node: Node) -> int:
    while isinstance(node, Block) and node.words:
        node = node.words[-1]
    return node.line


def _second_command(nodes: tuple[Node, ...]) -> tuple[Word, Word] | None:
    """A program that ends the chain, and the word on a later line that looks like another program."""
    ended_by: Word | None = None
    for line in _top_lines(nodes):
        first = line[0]
        if not isinstance(first, Word):
            continue
        if ended_by is not None:
            argument = first.column > 1 or first.quoted or first.text.startswith(b"-")
            if not argument:
                return ended_by, first
            continue
        if posixpath.basename(first.text) not in CHAINING:
            ended_by = first
    return None


def _programs(nodes: tuple[Node, ...]) -> Iterator[tuple[Word, bool]]:
    """Words that name a program to run, and whether it is enough that the file can be read (a shell's script)."""
    todo: list[tuple[Node, ...]] = [nodes]
    while todo:
        words = todo.pop()
        todo += [node.words for node in words if isinstance(node, Block)]
        index = 0
        while index < len(words):
            word = words[index]
            if not isinstance(word, Word):
                break
            yield word, False
            name = posixpath.basename(word.text)
            if name in _SHELLS:
                yield from _shells_script(words[index + 1 :])
                break
            if name not in _BEFORE_PROGRAM:
                break
            index += 1 + _BEFORE_PROGRAM[name]


def _shells_script(words: tuple[Node, ...]) -> Iterator[tuple[Word, bool]]:
    for word in words:
        if not isinstance(word, Word) or word.text.startswith(b"-c"):
            return
        if not word.text.startswith(b"-"):
            yield word, True
            return


def _may_notify(run: bytes, descriptor: int) -> bool:
    """Whether a run script could tell its readiness: it names the descriptor, a notifier, or hands over to a script."""
    if str(descriptor).encode() in run.partition(b"\n")[2]:
        return True
    if re.search(rb"(?i)notify|logutil-service|s6-log|ready|\bexec\s+\"?\$", run):
        return True
    called = re.findall(rb"(?m)^\s*(?:exec\s+)?(?:s6-setuidgid\s+\S+\s+)?(\S+)", run.partition(b"\n")[2])
    return any(b"/" in word and re.search(rb"\.sh$|/etc/|scripts?/|\./", word) for word in called)


# --- R24, R26, R27: all services together ------------------------------------------------------------------------


def _orphans(definitions: Mapping[bytes, Definition]) -> Iterator[Finding]:
    """R24: services that no bundle starts, the topmost of each such group."""
    roots = [name for name in (b"top", b"user", b"user2") if name in definitions]
    if not roots:
        return
    pipelines = _pipelines(definitions)
    started = _reach(roots, definitions, pipelines)
    left = {name for name, one in definitions.items() if one.kind in ("longrun", "oneshot") and name not in started}
    groups = {
        name
        for name, one in definitions.items()
        if one.kind == "bundle" and name not in started and any(each.name in left for each in one.contents)
    }
    needed = {each.name for name in left | groups for each in definitions[name].arrows if each.name != name}
    for name in definitions:
        one = definitions[name]
        if name not in left | groups or name in needed or _is_overlays(one.source):
            continue
        pipeline = next((other for other, members in pipelines.items() if name in members), None)
        shown = shown_path(pipeline if pipeline is not None and pipeline not in definitions else name)
        message = f"nothing starts this {one.kind}: it is in no bundle that `user` or `user2` holds"
        hint = f"add an empty file `contents.d/{shown}` to the bundle `user`"
        yield Finding("R24", "error", one.path, 0, message, hint, _ISSUE + "596")


def _pipelines(definitions: Mapping[bytes, Definition]) -> dict[bytes, list[bytes]]:
    """The members of each named pipeline."""
    return {
        named.name: pipeline_members(last, definitions) for last in definitions.values() for named in last.pipeline_name
    }


def _reach(
    roots: Iterable[bytes], definitions: Mapping[bytes, Definition], pipelines: Mapping[bytes, list[bytes]]
) -> set[bytes]:
    """All names that are started with the roots."""
    seen = set(roots)
    todo = list(seen)
    while todo:
        name = todo.pop()
        names = list(pipelines.get(name, ()))
        if name in definitions:
            one = definitions[name]
            names += [each.name for each in one.arrows]
        fresh = [other for other in names if other not in seen]
        seen.update(fresh)
        todo += fresh
    return seen


def _without_base(definitions: Mapping[bytes, Definition]) -> Iterator[Finding]:
    """R26: services that do not wait for `base`, directly or through others."""
    before: dict[bytes, list[bytes]] = {}
    for name, one in definitions.items():
        for each in one.arrows:
            before.setdefault(each.name, []).append(name)
    for pipeline, members in _pipelines(definitions).items():
        for member in members:
            before.setdefault(member, []).append(pipeline)
    waiting = {b"base", b"legacy-cont-init", b"legacy-services", b"fix-attrs"}
    todo = list(waiting)
    while todo:
        fresh = [name for name in before.get(todo.pop(), ()) if name not in waiting]
        waiting.update(fresh)
        todo += fresh
    for name, one in definitions.items():
        if one.kind not in ("longrun", "oneshot") or name in waiting or _is_overlays(one.source):
            continue
        message = (
            f"this {one.kind} does not wait for `base`: it may start before the container's initialisation is done"
        )
        hint = "add an empty file `dependencies.d/base`"
        yield Finding("R26", "warning", one.path, 0, message, hint, _ISSUE + "438")


def _legacy_names(definitions: Mapping[bytes, Definition], tree: Tree) -> Iterator[Finding]:
    """R27: services that wait for something in services.d, which starts only after the bundle `user`."""
    legacy = {
        node.path.rpartition("/")[2].encode("utf-8", "surrogateescape")
        for node in tree.children("etc/services.d")
        if node.kind in ("directory", "symlink")
    }
    if not legacy:
        return
    late = _reach([b"user"], definitions, _pipelines(definitions)) if b"user" in definitions else set()
    for one in definitions.values():
        for each in one.dependencies:
            if each.name in legacy and each.name not in definitions:
                message = f"`{shown_path(each.name)}` is a legacy service of /etc/services.d, which s6-rc does not know"
                hint = (
                    "depend on `legacy-services` and list this service in the bundle `user2`, or migrate that service"
                )
            elif each.name == b"legacy-services" and one.name in late:
                message = "this waits for the legacy services, which wait for the bundle `user` that this is in"
                hint = "list it in the bundle `user2` instead of `user`"
            else:
                continue
            path = f"{one.path}/{shown_path(each.file)}"
            yield Finding("R27", "warning", path, each.line, message, hint, _README)
