"""What an image's settings do to s6-overlay (C3 of the rule list: I1 to I18)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sixsmith.s6.finding import Finding
from sixsmith.s6.lint.image import SHELLS, Image, Settings
from sixsmith.s6.lint.shell import word_set

__all__ = ["check_settings"]

_WRAPPERS = frozenset({"tini", "dumb-init", "docker-init", "catatonit", "su-exec", "gosu", "nice", "env"})
_SHORT = word_set("true false echo printf ls date env printenv id whoami uname hostname pwd cat sleep test")
_SECRET = r"(?ai)(?:^|_)(PASS|PASSWD|PASSWORD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?|AUTH_?KEY)(?:$|_[A-Z0-9]{1,8}$)"
_NOT_SECRET = r"(?ai)_(FILE|PATH|DIR|URL|NAME|USER|LENGTH|TTL|EXPIRY|TYPE|HEADER|ENABLED?)$"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_TERM = frozenset({"SIGTERM", "TERM", "15", ""})


def check_settings(image: Image) -> Iterator[Finding]:
    """All findings about the image's config; none for a folder, which has no config, or without an overlay."""
    settings = image.settings
    if settings is None or image.overlay is None:
        return
    yield from _entrypoint(image, settings)
    yield from _cmd(image, settings)
    yield from _stopping(image, settings)
    yield from _user(image)
    yield from _run_directory(image, settings)
    yield from _path(image)
    yield from _env(image)
    hook = image.env.get("S6_STAGE2_HOOK", "")
    if hook and _digits(image.env.get("S6_READ_ONLY_ROOT")) and b"/etc" in hook.encode() + image.read(hook.split()[0]):
        yield image.found("I13", "ENV S6_STAGE2_HOOK", f"`{hook}` works on /etc, and the root is read-only")


def _digits(value: str | None) -> int:
    return int(value) if value and re.fullmatch(r"[0-9]+", value) else 0


# ---- I1, I4


def _entrypoint(image: Image, settings: Settings) -> Iterator[Finding]:
    words = settings.entrypoint or settings.cmd or ()
    setting = "ENTRYPOINT" if settings.entrypoint else "CMD"
    if not words:
        if image.find("init") is not None:
            yield image.found("I1", "ENTRYPOINT", "nothing starts /init")
        return
    if _is_init(image, words[0]) or _becomes_init(image, words):
        return
    name = words[0].rpartition("/")[2]
    said = " ".join(words)
    if name in _WRAPPERS:
        message = f"`{name}` becomes pid 1, and /init its child"
    elif name in SHELLS and len(words) > 2 and words[1].startswith("-") and "init" in words[2]:
        message = f"the shell of the form `{setting} {words[2]}` becomes pid 1, and /init its child"
    elif settings.entrypoint and any(_is_init(image, word) for word in words[1:]):
        message = f"`{name}` becomes pid 1, and /init its child"
    elif settings.entrypoint and settings.cmd and _is_init(image, settings.cmd[0]) and _runs_arguments(image, words[0]):
        return
    else:
        message = f"`{said}` is started, and never /init"
    yield image.found("I1", setting, message)


def _is_init(image: Image, word: str) -> bool:
    return word.startswith("/") and (word == "/init" or image.resolve(word) == image.resolve("/init"))


def _becomes_init(image: Image, words: tuple[str, ...]) -> bool:
    """Whether an entry script or a shell line ends in `exec /init`, which keeps pid 1."""
    line = " ".join(words).encode("utf-8", "surrogateescape")
    return re.search(rb"\bexec\s+/init\b", line + b"\n" + image.read(words[0])) is not None


def _runs_arguments(image: Image, word: str) -> bool:
    return re.search(rb'exec\s+"?\$[@*]', image.read(word)) is not None


def _cmd(image: Image, settings: Settings) -> Iterator[Finding]:
    words = settings.cmd or ()
    if not words or not settings.entrypoint or _is_init(image, words[0]):
        return
    name = words[0].rpartition("/")[2]
    if name in SHELLS and len(words) == 1:
        message = f"`{name}` ends at once when there is no terminal, and the container with it"
    elif (
        name in SHELLS
        and len(words) > 2
        and words[1] == "-c"
        and words[2].split()[:1]
        and words[2].split()[0] in _SHORT
        and not re.search(r"[;&|\n]", words[2])
    ):
        if "infinity" in words[2]:
            return
        message = f"`{words[2]}` ends at once, and the container with it"
    elif name in _SHORT and "infinity" not in words:
        message = f"`{name}` ends soon, and the container with it"
    else:
        return
    yield image.found("I4", "CMD", message)


# ---- I5, I6


def _stopping(image: Image, settings: Settings) -> Iterator[Finding]:
    signal = (settings.stop_signal or "").upper()
    if signal not in _TERM:
        yield image.found("I5", "STOPSIGNAL", f"the container is stopped by {settings.stop_signal}")
    said = {
        name: _digits(image.env[name]) for name in ("S6_SERVICES_GRACETIME", "S6_KILL_GRACETIME") if name in image.env
    }
    if not said:
        return
    total = said.get("S6_SERVICES_GRACETIME", 3000 if image.legacy_services else 0) + said.get(
        "S6_KILL_GRACETIME", 3000
    )
    if image.names(f"{image.etc}/cont-finish.d"):
        total += _digits(image.env.get("S6_KILL_FINISH_MAXTIME"))
    if total > 10_000:
        names = ", ".join(said)
        yield image.found(
            "I6",
            f"ENV {next(iter(said))}",
            f"stopping may take {total / 1000:g} s ({names}), and Docker kills after 10 s",
        )


# ---- I7, I8, I10


def _user(image: Image) -> Iterator[Finding]:
    if image.user is None or image.overlay is None:
        return
    uid, name = image.user
    if image.overlay.before(2, 1):
        yield image.found(
            "I7",
            "USER",
            f"{image.overlay} runs as root only",
            hint="leave USER out, or take 2.1.0.0 or later",
            severity="error",
        )
        return
    yield from _needs_root(image, name)
    if image.major != 3:
        return
    suexec = image.find("command/s6-overlay-suexec")
    if suexec is not None and (not suexec.mode & 0o4000 or suexec.uid != 0):
        yield image.found(
            "I10",
            "/command/s6-overlay-suexec",
            f"without suid root (mode {suexec.mode:04o}, owner {suexec.uid}), and USER is {name}",
        )
    run = image.find("run")
    if run is not None and run.uid != uid:
        hint = f"make /run in the image: `install -d -o {name} /run`"
        yield image.found("I8", "/run", f"it belongs to {run.uid}, and USER is {name}", hint=hint)


def _needs_root(image: Image, name: str) -> Iterator[Finding]:
    fixes = [each for each in image.names(f"{image.etc}/fix-attrs.d") if not each.startswith(".")]
    if fixes:
        yield image.found(
            "I7", f"/{image.etc}/fix-attrs.d/{fixes[0]}", f"only root can change owners, and USER is {name}"
        )
    for script in image.scripts:
        if script.role == "run" and re.search(rb"\blogutil-service\b", script.code):
            yield image.found(
                "I7",
                f"/{script.path}",
                f"`logutil-service` wants to become nobody, and USER is {name}",
                line=script.line_of(b"logutil-service"),
                hint="use s6-log",
            )
        if script.role in ("cont-init", "hook", "called"):
            match = re.search(
                rb"(?m)(>>?\s*|\bsed\s+-i\S*\s[^\n]*|\b(?:mkdir|touch|ln|cp|mv|usermod|groupmod|adduser|addgroup)\s[^\n]*)/etc/",
                script.code,
            )
            if match is not None:
                line = script.code.count(b"\n", 0, match.end()) + 1
                yield image.found("I7", f"/{script.path}", f"only root can change /etc, and USER is {name}", line=line)


# ---- I12


def _run_directory(image: Image, settings: Settings) -> Iterator[Finding]:
    for volume in settings.volumes:
        if image.resolve(volume) == "run" or volume.rstrip("/") in ("/run", "/var/run"):
            yield image.found("I12", "VOLUME", f"VOLUME {volume} keeps the state of the last boot", hint="leave it out")
    left = [name for name in image.names("run") if name.endswith((".pid", ".sock", ".lock", ".socket"))]
    if left:
        yield image.found(
            "I12", f"/run/{left[0]}", "left over from a running program", severity="warning", hint="leave /run empty"
        )


# ---- I15, I16, I17, I18


def _path(image: Image) -> Iterator[Finding]:
    path = image.env.get("PATH")
    if path is None:
        return
    folders = path.split(":")
    if ";" in path:
        yield image.found("I15", "ENV PATH", f"folders are separated by colons, not by `;`: {path}")
        return
    for folder in folders:
        if not folder.startswith("/"):
            what = f"`{folder}` is relative" if folder else "an empty entry means the current directory"
            yield image.found("I15", "ENV PATH", f"{what}: {path}")
            return
    missing = [folder for folder in _SYSTEM_FOLDERS if folder not in folders and _has_programs(image, folder)]
    if missing:
        yield image.found("I15", "ENV PATH", f"{' and '.join(missing)} not in it: {path}")
    if (
        image.major == 3
        and "/command" not in folders
        and "command" in image.tree
        and image.find("usr/bin/s6-svstat") is None
    ):
        message = "/command is not in it: `docker exec` and health checks do not find s6-overlay's programs"
        yield image.found("I15", "ENV PATH", message, severity="info", hint=f"PATH=/command:{path}")


def _has_programs(image: Image, folder: str) -> bool:
    return folder == "/usr/local/bin" or image.find(folder) is not None


def _env(image: Image) -> Iterator[Finding]:
    for name, value in image.env.items():
        if re.search(_SECRET, name) and not re.search(_NOT_SECRET, name) and value and not value.startswith(("/", "$")):
            yield image.found("I16", f"ENV {name}", "this looks like a secret")
        if not re.fullmatch(_NAME, name):
            yield image.found("I17", f"ENV {name}", f"`{name}` is no name that a shell can have")
        elif not value:
            yield image.found("I17", f"ENV {name}", "an empty variable is as good as none for who uses with-contenv")
        if "\n" in value and image.overlay is not None and image.overlay.version == "3.0.0.2" and image.keeps_env:
            yield image.found("I18", f"ENV {name}", "a value of several lines, and S6_KEEP_ENV is set")
