"""What a service in the family file may look like, as JSON Schema, so that editors complete and check it.

`service_file` decides; this describes it. A test holds the two against each other: every key, and a service with all.
"""

from __future__ import annotations

from typing import Any

from sixsmith.s6.service_file import KINDS, LIMITS, SERVICE_KEYS

__all__ = ["service_schema"]

Json = dict[str, Any]

_TEXT: Json = {"type": ["string", "number"], "minLength": 1}
_NAMES: Json = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}}]
}
_PROGRAM: Json = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1},
    ]
}
_DURATION: Json = {"type": "string", "pattern": r"^(\d+(\.\d+)?(h|ms|m|s))+$"}
_SIZE: Json = {"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)?\s*(([kKMG]i?B?)|B)?$"}
_NUMBER: Json = {"type": ["string", "integer"], "pattern": r"^\d+$"}
_FLAG: Json = {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false", "yes", "no", "on", "off"]}]}
_PATH: Json = {"type": "string", "pattern": "^/"}


def _record(**properties: Json) -> Json:
    named = {name.replace("_", "-"): shape for name, shape in properties.items()}
    return {"type": "object", "additionalProperties": False, "properties": named}


def _log() -> Json:
    keys = _record(
        to={"type": "string", "minLength": 1},
        keep=_NUMBER,
        size=_SIZE,
        user=_TEXT,
        timestamps={"enum": ["iso", "tai64n", "none"]},
        stderr=_FLAG,
    )
    return {"anyOf": [{"type": "string", "minLength": 1}, {**keys, "required": ["to"]}]}


def _limits() -> Json:
    shapes = {"number": _NUMBER, "size": _SIZE, "seconds": _DURATION}
    most: Json = {"enum": ["max", "unlimited"]}
    return _record(**{name: {"anyOf": [shapes[unit], most]} for name, (_, unit) in LIMITS.items()})


def service_schema() -> Json:
    """The shape of one service, with all keys; which of them go together is said when the file is read."""
    described: dict[str, tuple[Json, str]] = {
        "type": ({"enum": list(KINDS)}, "Said by itself by `run`, `up` or `contents`; pipelines must say it."),
        "run": (_PROGRAM, "The program of a longrun: a command, a list of words, or a script that begins with #!."),
        "up": (_PROGRAM, "What a oneshot does at start."),
        "down": (_PROGRAM, "What a oneshot does at the end."),
        "finish": (_PROGRAM, "Runs after each end of a longrun, as root, with its exit code and signal."),
        "needs": (_NAMES, "Services, bundles or pipelines that must be up before; `base` is implied."),
        "contents": (_NAMES, "The members of a bundle, or of a pipeline, the first producer first."),
        "user": (_TEXT, "Who runs it: a user, or USER:GROUP."),
        "env": ({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}, "Variables."),
        "workdir": (_PATH, "The folder that it runs in."),
        "umask": ({"type": ["string", "integer"], "pattern": "^0?[0-7]{3}$"}, "Octal, like 027."),
        "limits": (_limits(), "Resource limits."),
        "ready": (
            _record(
                fd=_NUMBER,
                check=_PROGRAM,
                every=_DURATION,
                delay=_DURATION,
                timeout=_DURATION,
                tries=_NUMBER,
                health=_FLAG,
            ),
            "How it tells that it is ready: a newline on `fd`, or `check` succeeds. The health check asks for it.",
        ),
        "log": (_log(), "A folder of rotated log files (through a logger), or stdout."),
        "timeout": (
            _record(up=_DURATION, down=_DURATION, kill=_DURATION, finish=_DURATION),
            "How long starting, stopping, ending after the signal, and `finish` may take.",
        ),
        "down-signal": (_TEXT, "The signal that stops it, if not SIGTERM."),
        "on-exit": (
            {"anyOf": [{"enum": ["restart", "stop-container", "never"]}, _record(stop_container=_NUMBER)]},
            "When it ends by itself: start it again, stop the container (with its exit code, or this one), or leave it.",
        ),
    }
    assert set(described) == {key for keys in SERVICE_KEYS.values() for key in keys}
    properties = {name: {**shape, "description": words} for name, (shape, words) in described.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}
