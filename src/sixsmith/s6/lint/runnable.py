"""Whether the kernel can run a script at all: x-bit, line ends, byte order mark, interpreter (S1 to S8, S12, S13, S23, S25)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sixsmith.errors import FormatError
from sixsmith.rootfs.tree import Node
from sixsmith.s6.execline import parse_execline
from sixsmith.s6.finding import Finding, shown_path
from sixsmith.s6.lint.image import Image, Script
from sixsmith.s6.lint.shell import word_set

__all__ = ["FIXATTRS", "check_runnable", "needs_x_bit", "spelled_for"]

FIXATTRS = "etc/s6/init/init-stage2-fixattrs.txt"
"""What v1 and v2 make executable at each boot."""

_BOM = b"\xef\xbb\xbf"
_NOT_A_SCRIPT = r"(?i).*(~|\.(orig|rej|bak|old|save|swp|swo|tmp|dpkg-\w+|apk-\w+|rpm\w+|md|txt|rst|disabled|sample))\Z|readme.*|license.*|#.*#"
_PLACEHOLDERS = frozenset(
    {".gitkeep", ".keep", ".placeholder", ".gitignore", ".empty", ".dockerignore", ".gitattributes", ".keepdir"}
)
_JOINS_BADLY = word_set("with-contenv execlineb env sh ash bash dash ksh")
_OVERLAY_FOLDERS = ("/usr/bin/", "/bin/", "/usr/local/bin/", "/sbin/")
_OVERLAYS_OWN = word_set(
    "with-contenv execlineb printcontenv logutil-service logutil-newfifo with-retries s6-setuidgid s6-envdir s6-env"
    " s6-notifyoncheck s6-svscanctl s6-svc s6-log foreground importas"
)
_MADE_AT_RUN_TIME = ("/run/", "/var/run/", "/tmp/", "/dev/", "/proc/")


def check_runnable(image: Image) -> Iterator[Finding]:
    """All findings about whether scripts can run."""
    for folder in ("cont-init.d", "cont-finish.d"):
        yield from _folder(image, folder)
    for script in image.scripts:
        if script.role.startswith("cont-") and _is_leftover(script.path.rpartition("/")[2]):
            continue
        yield from _mode(image, script)
        if not script.content.startswith(b"\x7fELF"):
            yield from _text(image, script)


def _is_leftover(name: str) -> bool:
    return re.fullmatch(_NOT_A_SCRIPT, name) is not None


def _folder(image: Image, folder: str) -> Iterator[Finding]:
    """S12, S13, S25: what lies in cont-init.d and cont-finish.d."""
    place = f"{image.etc}/{folder}"
    for name in image.names(place):
        path = f"/{place}/{name}"
        node = image.find(path)
        if name.startswith("."):
            if name not in _PLACEHOLDERS and node is not None and node.kind == "file":
                yield image.found(
                    "S13", path, "a hidden file is not executed", hint="remove it, or rename it if it should run"
                )
        elif node is None:
            yield image.found(
                "S5", path, "a link to nothing: it fails when it is executed", hint="remove it, or mend the link"
            )
        elif node.kind == "directory":
            yield image.found(
                "S12", path, f"a directory in {folder}: it cannot be executed", hint=f"move it out of /{place}"
            )
        elif _is_leftover(name):
            yield image.found("S13", path, "this looks like a note or a backup, and would be executed")
        elif image.major == 3 and re.search(r"\s", name):
            yield image.found("S25", path, "the name holds white space, at which v3 splits it: it is not executed")


def needs_x_bit(image: Image, script: Script) -> bool:
    """Whether this script must be executable in the image. v1 and v2 see to their own folders at boot; s6-rc's compiler
    writes its copies of `run` and `finish` executable, whatever they were."""
    if script.source:
        return False  # data/check is R30's
    if script.role in ("called", "health"):
        return False  # R13 knows how it is called
    if image.major == 3 or script.role in ("cmd", "entrypoint", "hook"):
        return True
    return script.role == "check" and b"data/check" not in image.read(FIXATTRS)


def _mode(image: Image, script: Script) -> Iterator[Finding]:
    if needs_x_bit(image, script) and not script.node.mode & 0o111:
        what = {"run": "the service never starts", "finish": "it is never run", "check": "the service never gets ready"}
        consequence = what.get(script.role, "it fails with “permission denied”")
        yield image.found("S1", f"/{script.path}", f"not executable (mode {script.node.mode:04o}): {consequence}")


def _text(image: Image, script: Script) -> Iterator[Finding]:
    path, content = f"/{script.path}", script.content
    if content.startswith(_BOM):
        yield image.found("S3", path, "a byte order mark stands before the `#!`", line=1)
    first_line = content.partition(b"\n")[0]
    if first_line.endswith(b"\r"):
        yield image.found("S2", path, "Windows line ends: the interpreter is not found", line=1)
    elif b"\r\n" in content and script.is_shell:
        line = content[: content.index(b"\r\n")].count(b"\n") + 1
        yield image.found("S2", path, "a Windows line end: the carriage return becomes part of a word", line=line)
    if script.shebang is None:
        yield from _no_shebang(image, script)
        return
    yield from _interpreter(image, script)
    yield from _shebang_words(image, script)
    if script.is_execline and b"\r" not in first_line and "-c" not in script.shebang.argument:
        yield from _execline(image, script)


def _no_shebang(image: Image, script: Script) -> Iterator[Finding]:
    if script.role == "called" and not script.node.mode & 0o111:
        return  # read by a shell that `up` names
    path = f"/{script.path}"
    if not script.content.strip() and script.role in ("cont-init", "cont-finish", "finish"):
        yield image.found("S4", path, "an empty script", severity="warning", hint="remove it, or write it")
    elif image.major == 3 and script.role == "cont-init":
        message = "no `#!` line: it runs only because the shell that calls it takes it for its own"
        yield image.found("S4", path, message, line=1, severity="warning")
    else:
        yield image.found("S4", path, "no `#!` line: “Exec format error”", line=1)


def _interpreter(image: Image, script: Script) -> Iterator[Finding]:
    """S5, S6, S7: every program of the `#!` line must be there."""
    assert script.shebang is not None
    path = f"/{script.path}"
    for number, program in enumerate(script.shebang.chain):
        if program.startswith(_MADE_AT_RUN_TIME) or "$" in program or (number == 0 and not program.startswith("/")):
            if number == 0 and not program.startswith("/"):
                yield image.found(
                    "S5",
                    path,
                    f"the interpreter `{program}` has no whole path",
                    line=1,
                    hint=f"write `#!/bin/{program}`",
                )
            return
        node = image.program(program)
        name = program.rpartition("/")[2]
        if node is not None and node.kind == "file":
            yield from _can_run(image, path, program, node)
            continue
        known = spelled_for(image, program)
        if (
            image.partial
            and not known
            and not (program.startswith("/command/") and (image.has_overlay_files or image.major < 3))
        ):
            return  # the image that this is copied onto may have it
        if program.startswith("/command/") and "command" not in image.tree:
            if image.overlay is not None:
                yield image.found(
                    "S7",
                    path,
                    f"there is no {program} in the image",
                    line=1,
                    hint=f"write `#!{known}`" if known else None,
                )
        elif known == f"/command/{name}":
            hint = f"write `#!{known}`, or lay the symlinks tarballs"
            yield image.found("S6", path, f"there is no {program} in the image", line=1, hint=hint)
        else:
            yield image.found(
                "S5", path, f"the interpreter {program} is not in the image", line=1, hint=_instead(image, name)
            )
        return


def spelled_for(image: Image, program: str) -> str | None:
    """Where a program of the overlay's is in this image, when it is not where it was looked for."""
    name = program.rpartition("/")[2]
    if name not in _OVERLAYS_OWN and not name.startswith("s6-"):
        return None
    for folder in ("/command/", *_OVERLAY_FOLDERS):
        node = image.find(folder + name)
        if folder + name != program and node is not None and node.kind == "file":
            return folder + name
    return None


def _instead(image: Image, name: str) -> str | None:
    for folder in ("/bin/", "/usr/bin/", "/usr/local/bin/"):
        node = image.find(folder + name)
        if node is not None and node.kind == "file":
            return f"it is at {folder}{name}"
    return f"install {name}, or write the script for /bin/sh" if name in ("bash", "zsh", "ksh", "dash") else None


def _can_run(image: Image, path: str, program: str, node: Node) -> Iterator[Finding]:
    if not node.mode & 0o111:
        yield image.found("S5", path, f"the interpreter {program} is not executable", line=1, hint="give it mode 0755")


def _shebang_words(image: Image, script: Script) -> Iterator[Finding]:
    """S8: the kernel's one argument, and `with-contenv` where it does nothing."""
    assert script.shebang is not None
    shebang, path = script.shebang, f"/{script.path}"
    words = shebang.argument.split()
    if len(words) > 1 and shebang.name in _JOINS_BADLY and not words[0].startswith("-S"):
        message = f"Linux gives `{shebang.name}` one argument, `{shown_path(shebang.argument.encode())}`"
        yield image.found("S8", path, message, line=1)
    for number, line in enumerate(script.content.split(b"\n")[1:], 2):
        if re.match(rb"\s*#!\s*/\S*with-contenv\b", line):
            yield image.found("S8", path, "a `#!` line that is not the first one is a comment", line=number)
            return
    for command in script.commands:
        if command.name == "with-contenv" and len(command.words) == 1:
            message = "`with-contenv` alone does nothing for the lines that follow"
            yield image.found("S8", path, message, line=command.line)


def _execline(image: Image, script: Script) -> Iterator[Finding]:
    try:
        parse_execline(script.content)
    except FormatError as error:
        line = error.place.line if error.place else 1
        yield image.found("S23", f"/{script.path}", f"not valid execline: {error.message}", line=line, hint=error.hint)
