"""What scripts do that does not go well with s6-overlay (S9 to S11, S14 to S22, S24).

These rules read scripts loosely and speak only where they are sure enough; a script that they do not understand is left
alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sixsmith.errors import FormatError
from sixsmith.s6.execline import Block, Word, iter_words, parse_execline
from sixsmith.s6.finding import Finding
from sixsmith.s6.lint.image import Image, Script, parse_shebang
from sixsmith.s6.lint.programs import CHANGES_USER, daemonises, is_daemon, unwrapped
from sixsmith.s6.lint.shell import ShellCommand, word_set

__all__ = ["check_habits"]

_BUILTINS = word_set(
    ": . source alias bg break builtin cd command continue declare echo eval exit export false fg getopts hash jobs kill let"
    " local mapfile popd printf pushd pwd read readonly return set shift shopt test times trap true type typeset ulimit umask"
    " unalias unset wait [ [[ sleep"
)
_SIGNALS = {
    "postgres": ("SIGINT", "SIGTERM makes it wait for its clients to go"),
    "postmaster": ("SIGINT", "SIGTERM makes it wait for its clients to go"),
    "uwsgi": ("SIGINT", "SIGTERM makes it reload, unless --die-on-term"),
    "rtorrent": ("SIGINT", "SIGTERM ends it without saving the session"),
}
_OLD_PLACES = (
    (rb"s6-svscanctl\s+-[a-z]*t[a-z]*\s+\S+", "`s6-svscanctl -t` does not stop a v3 container", "run /run/s6/basedir/bin/halt"),
    (rb"/run/s6/services\b", "there is no /run/s6/services in v3", "the scan directory is /run/service"),
    (rb"/run/s6/etc\b", "there is no /run/s6/etc in v3", "the files are in /etc"),
    (rb"/etc/s6/(init|services)\b", "there is no /etc/s6 in v3", "the overlay's scripts are in /package/admin/s6-overlay"),
    (rb"S6_STAGE2_EXITED|/run/s6/env-stage[123]", "v3 takes the exit code from elsewhere", "write it to /run/s6-linux-init-container-results/exitcode"),
    (rb"\bjustc-envdir\b", "v3 has no justc-envdir", "use with-contenv"),
)  # fmt: skip
_NEW_PLACES = (
    (rb"/run/s6/basedir\b", "there is no /run/s6/basedir before v3", "s6-svscanctl -t /var/run/s6/services stops the container"),
    (rb"/run/s6-linux-init-container-results\b", "there is no such directory before v3", "the exit code goes to /var/run/s6/env-stage3/S6_STAGE2_EXITED"),
    (rb"(?<![\w/])/run/service(?![\w-])", "there is no /run/service before v3", "the scan directory is /var/run/s6/services"),
)  # fmt: skip
_ABSOLUTE_TOOL = rb"(?<![\w.-])(/(?:usr/)?s?bin/(?:s6-[a-z0-9-]+|execlineb|with-contenv|importas|foreground|fdmove|redirfd|backtick))(?![\w.-])"
_BARE_TOOL = rb"(?<![\w./-])(s6-test|s6-expr|s6-false|s6-clock)(?![\w.-])"
_NOT_THE_IMAGES = word_set(
    "PATH HOME USER LOGNAME SHELL PWD OLDPWD TERM HOSTNAME IFS PS1 PS4 UID EUID GID PPID RANDOM LINENO SECONDS OPTARG OPTIND"
)
_ASKS_FOR_ENV = rb"with-contenv|printcontenv|s6-envdir|container_environment|s6-dumpenv"
_TOOLS = (
    r"(?<![\w./-])(with-contenv|s6-svstat|s6-svc|s6-rc|s6-svwait|s6-setuidgid|printcontenv|execlineb|s6-svok)(?![\w-])"
)
_DATA = ("/config", "/data", "/var/lib", "/srv", "/app", "/home")


def check_habits(image: Image) -> Iterator[Finding]:
    """All findings about what scripts do."""
    for script in image.scripts:
        if script.role == "run":
            yield from _last_command(image, script)
            yield from _background(image, script)
            yield from _stop_signal(image, script)
            yield from _working_directory(image, script)
        if script.is_execline:
            yield from _operators(image, script)
        yield from _places(image, script)
        yield from _environment(image, script)
        yield from _users(image, script)
        if script.role in ("cont-init", "called", "hook"):
            yield from _owners(image, script)
    yield from _twice(image)
    yield from _fix_attrs(image)
    yield from _health(image)


# ---- services


def _last_command(image: Image, script: Script) -> Iterator[Finding]:
    """S9: a shell that stays as the parent of the program."""
    commands = script.commands
    if not commands or any(command.name == "trap" for command in commands):
        return
    last = commands[-1]
    if last.inside or last.ender == "&" or not last.words or (last.piped and not is_daemon(_program(last))):
        return
    name = last.name
    if name == "exec" or name in _BUILTINS or name.startswith("$"):
        return
    if last.name in ("s6-pause", "pause", "tail"):
        return
    functions = {command.inside for command in commands if command.inside}
    if functions and _is_function(script, name):
        return
    message = f"`{name}` runs below the shell, which keeps the signals for itself"
    yield image.found("S9", f"/{script.path}", message, line=last.line, hint=f"write `exec {name} …`")


def _is_function(script: Script, name: str) -> bool:
    return (
        re.search(
            rb"(?m)^\s*(function\s+)?" + re.escape(name.encode("utf-8", "surrogateescape")) + rb"\s*\(\)",
            script.content,
        )
        is not None
    )


def _program(command: ShellCommand) -> str:
    words = unwrapped(command.words)
    return words[0].rpartition("/")[2] if words else ""


def _service_commands(script: Script) -> Iterator[tuple[tuple[str, ...], int]]:
    """The programs that a run script starts, with their arguments and lines."""
    if script.is_shell:
        for command in script.commands:
            if command.words:
                yield unwrapped(command.words), command.line
    elif script.is_execline:
        words = _execline_words(script)
        if words:
            yield (
                unwrapped([word.text.decode("utf-8", "surrogateescape") for word in words], shell=False),
                words[0].line,
            )


def _execline_words(script: Script) -> list[Word]:
    """The words of an execline script outside of blocks: the chain that ends in the service's program."""
    try:
        return [node for node in parse_execline(script.content) if not isinstance(node, Block)]
    except FormatError:
        return []


def _config_of(image: Image, words: tuple[str, ...]) -> bytes:
    """What the program's usual configuration files say, read only for programs that have such a switch."""
    name = words[0].rpartition("/")[2] if words else ""
    if name == "nginx":
        named = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "-c"]
        return b"\n".join(
            image.read(path) for path in named or ["/etc/nginx/nginx.conf", "/usr/local/nginx/conf/nginx.conf"]
        )
    if name.startswith("php-fpm"):
        folders = [folder for folder in image.names("etc") if folder.startswith("php")]
        named = [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-y", "--fpm-config")]
        found = [f"/etc/{folder}/php-fpm.conf" for folder in folders] + [
            "/usr/local/etc/php-fpm.conf",
            "/usr/local/etc/php-fpm.d/zz-docker.conf",
        ]
        return b"\n".join(image.read(path) for path in named or found)
    return b""


def _background(image: Image, script: Script) -> Iterator[Finding]:
    """S10: the supervisor's child goes away while the program lives on."""
    path = f"/{script.path}"
    commands = script.commands
    if commands and commands[-1].ender == "&" and not commands[-1].inside:
        name = commands[-1].name
        yield image.found(
            "S10",
            path,
            f"`{name} &` goes into the background and the script ends",
            line=commands[-1].line,
            hint=f"write `exec {name} …` without `&`",
        )
        return
    if any(command.name in ("wait", "s6-fghack") for command in commands) or b"s6-fghack" in script.code:
        return
    for words, line in _service_commands(script):
        advice = daemonises(words, _config_of(image, words)) if words else None
        if advice:
            name = words[0].rpartition("/")[2]
            yield image.found("S10", path, f"`{name}` goes into the background", line=line, hint=advice)
            return


def _stop_signal(image: Image, script: Script) -> Iterator[Finding]:
    """S19: programs that want another signal than SIGTERM."""
    if script.path.endswith("/log/run") or image.find(script.path.rpartition("/")[0] + "/down-signal") is not None:
        return
    for words, line in _service_commands(script):
        name = words[0].rpartition("/")[2] if words else ""
        if name not in _SIGNALS or "--die-on-term" in words or b"die-on-term" in script.content:
            continue
        signal, why = _SIGNALS[name]
        yield image.found(
            "S19",
            f"/{script.path}",
            f"{name}: {why}",
            line=line,
            hint=f"write `{signal}` into a file `down-signal` beside it",
        )
        return


def _working_directory(image: Image, script: Script) -> Iterator[Finding]:
    """S17: relative paths that exist in WORKDIR only."""
    workdir = (image.settings.workdir if image.settings is not None else None) or ""
    if workdir.strip("/") == "" or re.search(
        rb"(?m)(^|[;&|{\s])(cd|pushd|execline-cd|posix-cd)\s", script.code.partition(b"\n")[2]
    ):
        return
    service = script.path.rpartition("/")[0]
    for words, line in _service_commands(script):
        for index, word in enumerate(words[:4]):
            if word.startswith(("/", "-", "$")) or "://" in word or not re.search(r"[./]", word) or word in (".", ".."):
                continue
            if (
                image.find(f"{workdir}/{word}") is None
                or image.find(f"{service}/{word}") is not None
                or (index == 0 and "/" not in word)
            ):
                continue
            message = f"`{word}` is in WORKDIR {workdir}, and the service starts elsewhere"
            yield image.found(
                "S17",
                f"/{script.path}",
                message,
                line=line,
                hint=f"write {workdir.rstrip('/')}/{word.removeprefix('./')}, or `cd {workdir}` first",
            )
            return


def _operators(image: Image, script: Script) -> Iterator[Finding]:
    """S11: words that only a shell understands."""
    try:
        nodes = parse_execline(script.content)
    except FormatError:
        return
    for word in iter_words(nodes):
        if word.text in (b"|", b"&&", b"||") and not word.quoted:
            yield image.found(
                "S11", f"/{script.path}", f"`{word.text.decode()}` is an argument here, not an operator", line=word.line
            )
            return


# ---- any script


def _places(image: Image, script: Script) -> Iterator[Finding]:
    """S15, S24: paths of the other layout."""
    if image.overlay is None:
        return
    rule, places = ("S15", _OLD_PLACES) if image.major == 3 else ("S24", _NEW_PLACES)
    said: set[int] = set()
    for pattern, message, hint in places:
        match = re.search(pattern, script.code)
        if match is not None:
            line = script.code.count(b"\n", 0, match.start()) + 1
            if line not in said:
                said.add(line)
                yield image.found(rule, f"/{script.path}", message, line=line, hint=hint)
    if image.major == 3:
        yield from _missing_tools(image, script)


def _missing_tools(image: Image, script: Script) -> Iterator[Finding]:
    seen: set[str] = set()
    for match in re.finditer(_ABSOLUTE_TOOL, script.code):
        path = match[1].decode()
        name = path.rpartition("/")[2]
        line = script.code.count(b"\n", 0, match.start()) + 1
        if path in seen or image.find(path) is not None or image.find(f"command/{name}") is None:
            continue
        seen.add(path)
        yield image.found(
            "S15", f"/{script.path}", f"there is no {path} in v3", line=line, hint=f"write {name}, or /command/{name}"
        )
    for match in re.finditer(_BARE_TOOL, script.code):
        name = match[1].decode()
        if name in seen or "command/s6-rc" not in image.tree or image.program(name) is not None:
            continue
        seen.add(name)
        line = script.code.count(b"\n", 0, match.start()) + 1
        hint = "use eltest, or the shell's test" if name == "s6-test" else "use the shell's own means"
        yield image.found("S15", f"/{script.path}", f"this s6-overlay has no {name}", line=line, hint=hint)


def _environment(image: Image, script: Script) -> Iterator[Finding]:
    """S16: the container's variables, used by who does not get them."""
    if image.overlay is None or image.keeps_env or not image.env or re.search(_ASKS_FOR_ENV, script.content):
        return
    if script.role in ("entrypoint", "hook", "health") or (script.role == "cmd" and image.major != 3):
        return
    pattern = (
        rb"\$\{?([A-Za-z_][A-Za-z0-9_]*)"
        if script.is_shell
        else rb"importas\s+(?:-\S+\s+)*\S+\s+([A-Za-z_][A-Za-z0-9_]*)"
    )
    if not script.is_shell and not script.is_execline:
        return
    own = set(re.findall(rb"(?m)(?:^|[;\s])(?:export\s+|local\s+|readonly\s+)?([A-Za-z_][A-Za-z0-9_]*)=", script.code))
    own |= set(re.findall(rb"\b(?:for|read)\s+(?:-\S+\s+)*([A-Za-z_][A-Za-z0-9_]*)", script.code))
    for match in re.finditer(pattern, script.code):
        name = match[1].decode()
        if name in image.env and name not in _NOT_THE_IMAGES and match[1] not in own:
            line = script.code.count(b"\n", 0, match.start()) + 1
            start = "/command/with-contenv" if image.major == 3 else "/usr/bin/with-contenv"
            shell = script.shebang.language if script.shebang else "sh"
            yield image.found(
                "S16",
                f"/{script.path}",
                f"${name} is set in the image, but this script does not see it",
                line=line,
                hint=f"begin it with `#!{start} {shell}`",
            )
            return


def _users(image: Image, script: Script) -> Iterator[Finding]:
    """S20: changing the user where nobody is root."""
    if image.user is None or script.role in ("entrypoint", "health"):
        return
    if script.is_execline:
        words = [(word.text.decode("utf-8", "surrogateescape"), word.line) for word in _execline_words(script)]
        first = [(name.rpartition("/")[2], line) for name, line in words]
    else:
        first = [(word.rpartition("/")[2], command.line) for command in script.commands for word in command.words[:6]]
    for name, line in first:
        if name in CHANGES_USER:
            yield image.found(
                "S20", f"/{script.path}", f"`{name}` needs root, and the image's USER is {image.user[1]}", line=line
            )
            return


def _owners(image: Image, script: Script) -> Iterator[Finding]:
    """S21: chown -R over volumes."""
    volumes = tuple(volume.rstrip("/") for volume in (image.settings.volumes if image.settings is not None else ()))
    for command in script.commands:
        if command.name not in ("chown", "chmod", "lsiown") or not any(
            re.match(r"-[a-zA-Z]*R|--recursive", word) for word in command.words
        ):
            continue
        for word in command.words[1:]:
            path = word.rstrip("/*")
            if path in _DATA or any(path == volume or path.startswith(f"{volume}/") for volume in volumes):
                yield image.found(
                    "S21", f"/{script.path}", f"walks through all of {path} at each start", line=command.line
                )
                return


# ---- across scripts


def _twice(image: Image) -> Iterator[Finding]:
    """S14: a daemon that the initialisation starts too."""
    services: dict[str, str] = {}
    for script in image.scripts:
        if script.role == "run":
            for words, _ in _service_commands(script):
                if words and is_daemon(words[0].rpartition("/")[2]):
                    services.setdefault(words[0].rpartition("/")[2], script.path)
    for script in image.scripts:
        if script.role not in ("cont-init", "called", "hook"):
            continue
        if re.search(rb"\b(kill|pkill|killall|stop|shutdown|quit)\b", script.code):
            continue  # a temporary server, as databases are prepared
        for command in script.commands:
            words = unwrapped(command.words)
            name = words[0].rpartition("/")[2] if words else ""
            if name in services and (command.ender == "&" or daemonises(words, _config_of(image, words))):
                message = f"`{name}` is started here and by /{services[name]}"
                yield image.found("S14", f"/{script.path}", message, line=command.line)


def _fix_attrs(image: Image) -> Iterator[Finding]:
    """S22: fix-attrs.d in v3."""
    place = f"{image.etc}/fix-attrs.d"
    names = [name for name in image.names(place) if not name.startswith(".")]
    if image.major == 3 and names:
        yield image.found("S22", f"/{place}/{names[0]}", "fix-attrs.d is deprecated in v3")


def _health(image: Image) -> Iterator[Finding]:
    """S18: health checks that count on PATH."""
    check = image.settings.healthcheck if image.settings is not None else None
    if check is None or image.major != 3 or "/command" in image.path:
        return
    words = list(check.command)
    if words and words[0] in ("CMD", "CMD-SHELL", "NONE"):
        words = words[1:] if words[0] != "NONE" else []
    line = " ".join(words)
    script = image.read(words[0].split()[0]) if words and words[0].startswith("/") else b""
    shebang = parse_shebang(script)
    uses = set(re.findall(_TOOLS, line)) | set(re.findall(_TOOLS, script.decode("utf-8", "replace")))
    uses |= {"with-contenv"} if "with-contenv" in line or (shebang and shebang.name == "with-contenv") else set()
    missing = sorted(name for name in uses if not _on_path(image, name))
    if missing:
        yield image.found("S18", "HEALTHCHECK", f"`{missing[0]}` is not found there: PATH has no /command")


def _on_path(image: Image, name: str) -> bool:
    if name == "with-contenv":  # it calls its helpers by bare name
        return all(_on_path(image, tool) for tool in ("importas", "s6-envdir"))
    return any(image.find(f"{folder}/{name}") is not None for folder in image.path if folder.startswith("/"))
