"""Words of the family file that stand for more than themselves: modes, durations, ports, packages, paths.

Each function takes the words and returns the value, or raises ValueError with a sentence (UsageError with a hint).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sixsmith.errors import FormatError, UsageError, nearest
from sixsmith.model.arch import arch_named
from sixsmith.model.spelled import Spelled

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MODE",
    "account",
    "arch",
    "base",
    "check_package",
    "duration",
    "env_name",
    "image_name",
    "image_path",
    "label_name",
    "mode",
    "number",
    "owner",
    "package",
    "package_name",
    "port",
    "registry",
    "repository_name",
    "service_name",
    "size",
    "stop_signal",
    "user_spec",
]

MODE = r"^[0-7]{3,4}$"
_ACCOUNT = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?\Z"
_IMAGE_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
_REGISTRY = (
    r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[a-z0-9._/-]+)?\Z|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?(?:/[a-z0-9._/-]+)?\Z"
)
_DURATION = r"(?:\d+(?:\.\d+)?(?:h|ms|us|ns|m|s))+\Z"
_NANOSECONDS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_SIZE = r"\d+(?:\.\d+)?\s*(?:[kKMG](?:i?B)?|B)?\Z"
_SIGNALS = [
    "HUP",
    "INT",
    "QUIT",
    "ILL",
    "TRAP",
    "ABRT",
    "BUS",
    "FPE",
    "KILL",
    "USR1",
    "SEGV",
    "USR2",
    "PIPE",
    "ALRM",
    "TERM",
    "STKFLT",
    "CHLD",
    "CONT",
    "STOP",
    "TSTP",
    "TTIN",
    "TTOU",
    "URG",
    "XCPU",
    "XFSZ",
    "VTALRM",
    "PROF",
    "WINCH",
    "IO",
    "PWR",
    "SYS",
]
_MAX_ID = 2**32 - 2


def number(least: int = 0, most: int = _MAX_ID) -> Callable[[Spelled], int]:
    """A parser of whole numbers between `least` and `most`."""

    def parse(text: Spelled) -> int:
        if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}, found '{text}'")
        return int(text)

    return parse


def mode(text: Spelled) -> int:
    """`"0750"` → 0o750."""
    if not re.fullmatch(MODE, text):
        raise UsageError(f"'{text}' is not an octal mode", hint='like "0755"')
    return int(text, 8)


def duration(text: Spelled) -> int:
    """`1m30s` → nanoseconds."""
    if len(text) > 32 or not re.match(_DURATION, text):
        raise UsageError(f"'{text}' is not a duration", hint="like 30s, 1m30s or 500ms")
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)", text)
    return int(sum(float(amount) * _NANOSECONDS[unit] for amount, unit in parts))


def size(text: Spelled) -> str:
    """`40M`, `512K`: checked, and kept as words."""
    if not re.match(_SIZE, text):
        raise UsageError(f"'{text}' is not a size", hint="like 40M or 512K")
    return str(text)


def arch(text: Spelled) -> Spelled:
    """An architecture as apk spells it."""
    arch_named(text)
    return text


def account(text: Spelled) -> str:
    """The name of a user or group, as shadow's and busybox's tools accept it."""
    if not re.match(_ACCOUNT, text):
        raise ValueError(f"'{text}' is not a name for a user or group")
    return str(text)


def _is_account_or_id(text: str) -> bool:
    if text.isascii() and text.isdecimal():
        return len(text) <= 10 and int(text) <= _MAX_ID
    return bool(re.match(_ACCOUNT, text))


def owner(text: Spelled) -> str:
    """A user or group by name or number."""
    if not _is_account_or_id(text):
        raise ValueError(f"'{text}' is neither a name nor a number of a user or group")
    return str(text)


def user_spec(text: Spelled) -> str:
    """`USER`, `UID`, `USER:GROUP`, `UID:GID` (image-spec, config.md, User)."""
    parts = text.split(":")
    if len(parts) > 2 or not all(_is_account_or_id(part) for part in parts):
        raise UsageError(f"'{text}' is not a user", hint="USER, UID, USER:GROUP or UID:GID")
    return str(text)


def port(text: Spelled) -> str:
    """`8080` → `8080/tcp` (image-spec, config.md, ExposedPorts)."""
    numeral, slash, protocol = text.partition("/")
    if not re.fullmatch(r"\d{1,5}", numeral, re.ASCII) or not 1 <= int(numeral) <= 65535:
        raise UsageError(f"'{text}' is not a port", hint="like 8080/tcp")
    if slash and protocol not in ("tcp", "udp", "sctp"):
        raise UsageError(f"'{text}': unknown protocol '{protocol}'", hint="tcp, udp or sctp")
    return f"{int(numeral)}/{protocol or 'tcp'}"


def image_path(text: Spelled) -> str:
    """An absolute path in the image, without `.` and `..`; a trailing slash is dropped."""
    if not text.startswith("/"):
        raise ValueError(f"'{text}' is not an absolute path in the image")
    parts = [part for part in text.split("/") if part]
    if ".." in parts or "." in parts or "\n" in text:
        raise ValueError(f"'{text}': a path in the image has no '.', '..' or line break")
    return "/" + "/".join(parts)


def env_name(text: Spelled) -> str:
    """The name of an environment variable."""
    if not text or "=" in text or re.search(r"[\s\0]", text):
        raise ValueError(f"'{text}' is not the name of an environment variable")
    return str(text)


def label_name(text: Spelled) -> str:
    """The name of a label or an annotation."""
    if not text or re.search(r"\s", text):
        raise ValueError(f"'{text}' is not the name of a label")
    return str(text)


def service_name(text: Spelled) -> str:
    """The name of a service: s6-rc keeps `s6rc-` and `s6-rc-` for itself, and a name is a folder."""
    if not text or "/" in text or "\n" in text or text.startswith((".", "s6rc-", "s6-rc-")):
        raise ValueError(f"'{text}' cannot be the name of a service")
    return str(text)


def stop_signal(text: Spelled) -> str:
    """`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` → as the image config has it."""
    word = text.upper().removeprefix("SIG")
    if re.fullmatch(r"[1-9]|[1-5]\d|6[0-4]", word, re.ASCII):
        return word
    if word in _SIGNALS or re.fullmatch(r"RTMIN(\+\d{1,2})?|RTMAX(-\d{1,2})?", word):
        return f"SIG{word}"
    raise UsageError(f"'{text}' is not a signal", hint=nearest(f"SIG{word}", [f"SIG{name}" for name in _SIGNALS]))


def image_name(text: Spelled) -> Spelled:
    """The name of an image: a repository path of the distribution spec."""
    if not re.match(_IMAGE_NAME, text):
        raise UsageError(
            f"'{text}' is not a name for an image", hint="lower-case letters, digits, and . _ - / between them"
        )
    return text


def registry(text: Spelled) -> str:
    """`HOST[:PORT][/PREFIX]`."""
    if not re.match(_REGISTRY, text):
        raise UsageError(f"'{text}' is not a registry", hint="HOST:PORT or HOST:PORT/PREFIX, without http://")
    return str(text).rstrip("/")


def repository_name(text: Spelled) -> Spelled:
    """The name of a package repository: a word in the lock, and a folder of the vault."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", text):
        raise UsageError(f"'{text}' is not a name for a repository", hint="letters, digits, and . _ + - between them")
    return text


def base(text: Spelled) -> Spelled:
    """What an image stands on: a word, or an image reference (which has a `/`, `:` or `@`)."""
    words = ("minirootfs", "packages", "none")
    if text in words:
        return text
    if not re.search(r"[/:@]", text):
        raise UsageError(
            f"unknown base '{text}'", hint=nearest(text, words) or "minirootfs, packages, none or REGISTRY/IMAGE:TAG"
        )
    return text


def package_name(text: Spelled) -> Spelled:
    """The name of a package, without a version."""
    if not re.fullmatch(r"[A-Za-z0-9_.+:/-]+", text):
        raise ValueError(f"'{text}' is not the name of a package")
    return text


def package(text: Spelled) -> Spelled:
    """A package with its constraint, as /etc/apk/world has it. Words with an axis in braces are checked when filled."""
    if "{" not in text:
        check_package(text)
    return text


def check_package(text: str) -> None:
    """Raises UsageError when apk would not understand `text` as a line of /etc/apk/world."""
    from sixsmith.apk.dependency import Dependency

    try:
        Dependency.parse(text)
    except FormatError as error:
        hint = error.hint or "NAME, NAME=1.2-r0, NAME~1.2, NAME>1, NAME@pin or !NAME"
        raise UsageError(error.message, hint=hint) from None
