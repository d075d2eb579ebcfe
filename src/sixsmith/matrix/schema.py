"""What may stand in `sixsmith.yaml`: one table of keys with shape, meaning and how values add up.

The table is the truth. `load` reads with it, `expand` merges with it, and `sixsmith.schema.json` is written from it (a test
compares them).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import msgspec

from sixsmith.errors import Place, UsageError
from sixsmith.matrix import words
from sixsmith.matrix.axes import MatrixShape
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.shapes import WRONG, Anything, Choice, Either, Flag, Items, Json, Named, Record, Shape, Table, Text
from sixsmith.model.arch import ARCHES
from sixsmith.model.spelled import Spelled, SpelledTree
from sixsmith.variant import Group, Healthcheck, User

__all__ = [
    "BUILD",
    "EACH",
    "IMAGE",
    "SETTINGS",
    "Key",
    "family_shape",
    "json_schema",
    "refinement_shape",
    "render_json_schema",
]

_MODES = ("emulate", "sandbox", "skip")
_STRATEGIES = ("shared", "single", "per-package")
_COMPRESSIONS = ("gzip", "zstd")
_WHOLE = Text("a whole number", words.number(), r"^[0-9]+$")
_LINE = Text("text")
_PATH = Text("an absolute path in the image", words.image_path, "^/")
_DURATION = Text("a duration", words.duration)
_COMMAND = Items(Text("a word of the command", empty=True), "a list of words", least=1)
_OWNER = Text("a user or group", words.owner)

Merge = Literal["replace", "add", "merge", "files", "lists", "services"]
Inherit = Literal["image", "build", "each"]

IMAGE: Inherit = "image"
"""Part of the parent's image: a child gets it with the image, so the defaults do not apply to the child again."""
BUILD: Inherit = "build"
"""How an image is made: a child is made as its parent is, unless it says otherwise."""
EACH: Inherit = "each"
"""Said of every image on its own: the defaults apply, the parent's do not."""


class _AsRecord:
    """A scalar that stands for a mapping with one key."""

    def __init__(self, key: str, shape: Shape) -> None:
        self.key = key
        self.shape = shape

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        value = self.shape.read(tree, problems)
        return value if value is WRONG else {self.key: value}

    def json(self) -> Json:
        return self.shape.json()


class Key(msgspec.Struct, frozen=True):
    """One key of an image: its shape, how a later value meets an earlier one, what a child image makes of it."""

    shape: Shape
    merge: Merge
    inherit: Inherit
    doc: str


def _user(values: dict[str, Any], place: Place) -> User:
    values["groups"] = tuple(values.get("groups", ()))
    return User(**values)


def _group(values: dict[str, Any], place: Place) -> Group:
    values["members"] = tuple(values.get("members", ()))
    return Group(**values)


def _healthcheck(values: dict[str, Any], place: Place) -> Healthcheck:
    command = values["command"]
    if isinstance(command, str):
        command = ["/bin/sh", "-c", command]
    return Healthcheck(
        command=tuple(str(word) for word in command),
        interval=values.get("interval"),
        timeout=values.get("timeout"),
        start_period=values.get("start-period"),
        retries=values.get("retries"),
    )


class FileEntry(msgspec.Struct, frozen=True):
    """One entry of `files`, before paths of this machine are resolved."""

    values: dict[str, Any]
    place: Place

    @property
    def path(self) -> str:
        return str(self.values["path"])


def _service() -> Json:
    """One service, as the room that reads them describes it."""
    from sixsmith.s6.service_schema import service_schema  # only who writes the schema needs it

    return service_schema()


def _file(values: dict[str, Any], place: Place) -> FileEntry:
    given = [name for name in ("source", "content", "target") if name in values]
    kind = values.get("type") or ("symlink" if "target" in values else "file")
    allowed = {"file": ("source", "content"), "directory": ("source",), "symlink": ("target",), "absent": ()}[kind]
    wrong = [name for name in given if name not in allowed]
    if wrong:
        raise ValueError(f"type {kind} has no '{wrong[0]}'")
    if len(given) > 1:
        raise UsageError(f"'{given[0]}' and '{given[1]}' for one file", hint="keep one of them")
    if kind in ("file", "symlink") and not given:
        raise UsageError(f"type {kind} needs {' or '.join(repr(name) for name in allowed)}")
    if kind in ("symlink", "absent") and "mode" in values:
        raise ValueError(f"'mode' means nothing for type {kind}")
    return FileEntry({**values, "type": kind}, place)


class RepositoryEntry(msgspec.Struct, frozen=True):
    """One entry of `repositories`, before it is resolved for a cell."""

    name: Spelled
    url: Spelled | None = None
    pin: Spelled | None = None
    key: Spelled | None = None


def _repository(values: dict[str, Any], place: Place) -> RepositoryEntry:
    return RepositoryEntry(**values)


_REPOSITORY = Either(
    "the name of a repository, or {name, url, key, pin}",
    text=Text("the name of a repository", RepositoryEntry),
    table=Record(
        "a repository",
        {
            "name": Text("the name of a repository", words.repository_name),
            **{name: Text(f"the {name} of a repository") for name in ("url", "pin", "key")},
        },
        required=("name", "url"),
        make=_repository,
    ),
)

_ACCOUNT = Text("a name", words.account)
_ACCOUNTS = Record(
    "accounts",
    {
        "users": Items(
            Record(
                "a user",
                {
                    "name": _ACCOUNT,
                    "uid": _WHOLE,
                    "group": _ACCOUNT,
                    "home": _PATH,
                    "shell": _PATH,
                    "gecos": Text("a comment without ':'", empty=True),
                    "groups": Items(_ACCOUNT, "a list of groups"),
                    "system": Flag(),
                },
                required=("name",),
                make=_user,
            ),
            "a list of users",
        ),
        "groups": Items(
            Record(
                "a group",
                {"name": _ACCOUNT, "gid": _WHOLE, "members": Items(_ACCOUNT, "a list of users"), "system": Flag()},
                required=("name",),
                make=_group,
            ),
            "a list of groups",
        ),
    },
)

_FILES = Items(
    Record(
        "a file",
        {
            "path": _PATH,
            "type": Choice(("file", "directory", "symlink", "absent")),
            "source": Text("a path beside this file"),
            "content": Text("text", empty=True),
            "target": Text("the target of the link"),
            "owner": _OWNER,
            "group": _OWNER,
            "mode": Text("an octal mode", words.mode, words.MODE),
        },
        required=("path",),
        make=_file,
    ),
    "a list of files",
)


def _check(values: dict[str, Any], place: Place) -> dict[str, Any]:
    given = [name for name in ("run", "port", "http", "file") if name in values]
    if len(given) != 1:
        found = " and ".join(f"'{name}'" for name in given) or "none of them"
        raise UsageError(f"a check has one of 'run', 'port', 'http' and 'file', not {found}")
    allowed = {
        "run": ("exit-code", "output"),
        "port": (),
        "http": ("status", "output"),
        "file": ("type", "mode", "uid", "gid", "output"),
    }[given[0]]
    wrong = [name for name in values if name not in (given[0], "name", "within", *allowed)]
    if wrong:
        raise ValueError(f"a check of '{given[0]}' has no '{wrong[0]}'")
    return values


_CHECK = Record(
    "a check",
    {
        "name": _LINE,
        "run": _COMMAND,
        "exit-code": Text("an exit code", words.number(0, 255), r"^[0-9]{1,3}$"),
        "port": Text("a TCP port", words.number(1, 65535), r"^[0-9]{1,5}$"),
        "http": Text("a port and a path, like :8080/health"),
        "status": Text("an HTTP status", words.number(100, 599), r"^[0-9]{3}$"),
        "file": Text("a path in the image"),
        "type": Choice(("file", "directory", "symlink", "absent")),
        "mode": Text("an octal mode", words.mode, words.MODE),
        "uid": _WHOLE,
        "gid": _WHOLE,
        "output": Text("text that the output, the page or the file contains"),
        "within": _DURATION,
    },
    make=_check,
)

_LINT = Record(
    "lint",
    {
        "ignore": Items(
            Record(
                "an ignored finding",
                {"rule": _LINE, "path": _LINE, "reason": _LINE},
                required=("rule", "reason"),
            ),
            "a list of {rule, path, reason}",
        )
    },
    required=("ignore",),
)

SETTINGS: dict[str, Key] = {
    "tag": Key(
        Text("a tag"),
        "replace",
        EACH,
        "The tag. {alpine}, {s6-overlay} and any axis are filled in, {version:PACKAGE} with what was resolved.",
    ),
    "tags": Key(Items(Text("a tag"), "a list of tags", least=1), "replace", EACH, "Several tags, instead of `tag`."),
    "arch": Key(
        Items(Text("an architecture", words.arch, known=ARCHES), "a list of architectures", lone=True, least=1),
        "replace",
        BUILD,
        "Architectures as apk spells them; default x86_64, for a child those of its parent.",
    ),
    "base": Key(
        Text("a base", words.base),
        "replace",
        IMAGE,
        "minirootfs (default), packages, none, or REGISTRY/IMAGE:TAG of an image with an apk database.",
    ),
    "packages": Key(
        Items(Text("a package", words.package), "a list of packages", lone=True),
        "add",
        IMAGE,
        "NAME, NAME=1.2-r0, NAME~1.2, NAME>1, NAME@pin, !NAME.",
    ),
    "without": Key(
        Items(Text("the name of a package", words.package_name), "a list of packages", lone=True),
        "add",
        IMAGE,
        "Packages to leave out again.",
    ),
    "repositories": Key(
        Items(_REPOSITORY, "a list of repositories", least=1),
        "replace",
        BUILD,
        "In order: main, community, … of the cell's release, or {name, url, key, pin}.",
    ),
    "scripts": Key(
        Either(
            "emulate, sandbox or skip, or {default: …, PACKAGE: …}",
            text=Choice(_MODES),
            table=Table(Choice(_MODES), "a mode for each package"),
        ),
        "merge",
        BUILD,
        "What to do about the packages' install scripts, for all or by package.",
    ),
    "entrypoint": Key(_COMMAND, "replace", IMAGE, "The image's entry point; [/init] for s6-overlay."),
    "cmd": Key(_COMMAND, "replace", IMAGE, "The command that the entry point starts."),
    "env": Key(
        Table(Text("a value", empty=True), "NAME: VALUE", words.env_name), "merge", IMAGE, "Environment variables."
    ),
    "user": Key(Text("a user", words.user_spec), "replace", IMAGE, "USER, UID, USER:GROUP or UID:GID."),
    "workdir": Key(_PATH, "replace", IMAGE, "The working directory."),
    "ports": Key(
        Items(Text("a port", words.port), "a list of ports", lone=True), "add", IMAGE, "Ports to expose: 8080/tcp."
    ),
    "volumes": Key(Items(_PATH, "a list of paths", lone=True), "add", IMAGE, "Paths that are volumes."),
    "stop-signal": Key(Text("a signal", words.stop_signal), "replace", IMAGE, "The signal that stops the container."),
    "healthcheck": Key(
        Record(
            "a health check",
            {
                "command": Either("a command", text=Text("a command"), items=_COMMAND),
                "interval": _DURATION,
                "timeout": _DURATION,
                "start-period": _DURATION,
                "retries": _WHOLE,
            },
            required=("command",),
            make=_healthcheck,
        ),
        "replace",
        IMAGE,
        "Docker's health check.",
    ),
    "labels": Key(
        Table(Text("a value", empty=True), "NAME: VALUE", words.label_name),
        "merge",
        IMAGE,
        "Labels of the image config; org.opencontainers.image.* are filled in by themselves.",
    ),
    "annotations": Key(
        Table(Text("a value", empty=True), "NAME: VALUE", words.label_name),
        "merge",
        BUILD,
        "Annotations of manifest and index.",
    ),
    "accounts": Key(_ACCOUNTS, "lists", IMAGE, "Users and groups to add."),
    "files": Key(
        _FILES, "files", IMAGE, "Files, folders and links to put into the image; sources are beside this file."
    ),
    "services": Key(
        Either(
            "services by name, or a folder of service directories",
            text=Text("a folder of service directories"),
            table=Table(Anything(_service), "services by name", words.service_name),
        ),
        "services",
        IMAGE,
        "Services by name, or a folder of hand-written service directories.",
    ),
    "s6-overlay-options": Key(
        Record("s6-overlay-options", {"symlinks": Flag(), "syslogd": Flag()}),
        "merge",
        IMAGE,
        "The optional tarballs of s6-overlay v3: links in /usr/bin, syslogd.",
    ),
    "layers": Key(
        Either(
            "a strategy, or a mapping with strategy and budget",
            text=_AsRecord("strategy", Choice(_STRATEGIES)),
            table=Record(
                "layers",
                {
                    "strategy": Choice(_STRATEGIES),
                    "budget": Text("a number of layers", words.number(1, 127), r"^[0-9]+$"),
                },
            ),
        ),
        "merge",
        BUILD,
        "How packages become layers, and how many layers at most (beside those of a parent).",
    ),
    "compression": Key(Choice(_COMPRESSIONS), "replace", BUILD, "Compression of layers; zstd is refused by old tools."),
    "lint": Key(_LINT, "lists", BUILD, "Findings to ignore, each with its reason."),
    "checks": Key(Items(_CHECK, "a list of checks"), "add", EACH, "What a booted image must answer."),
    "budget": Key(
        Record(
            "a budget",
            {
                "size": Text("a size", words.size),
                "memory": Text("a size", words.size),
                "layers": _WHOLE,
                "packages": _WHOLE,
                "ready": Text("a duration", words.duration),
            },
        ),
        "merge",
        EACH,
        "What an image may cost: a build that goes over it fails.",
    ),
}
"""Every key of an image, in the order of the documentation. `defaults` and entries of `include` take the same keys."""

_NAMED = {name: Named(name, key.shape) for name, key in SETTINGS.items()}


@cache
def _settings(what: str) -> Record:
    return Record(what, _NAMED)


@cache
def refinement_shape() -> Record:
    """What an entry of `include` may say besides its axes."""
    return _settings("an entry of include")


@cache
def _image_shape() -> Record:
    return Record(
        "an image",
        {
            "from": Text("the name of an image", words.image_name),
            "matrix": MatrixShape(refinement_shape),
            **_NAMED,
        },
        docs={
            "from": "A parent in this file: its cells are this image's cells, unless narrowed.",
            "matrix": "Axes multiply; include adds or refines cells, exclude removes.",
        },
    )


@cache
def family_shape() -> Record:
    """The whole file."""
    return Record(
        "the family file",
        {
            "name": Text("the name of the family", words.image_name),
            "registry": Text("a registry", words.registry),
            "defaults": _settings("defaults"),
            "repositories": _NAMED["repositories"],
            "images": Table(_image_shape(), "images by name", words.image_name),
        },
        required=("images",),
        docs={
            "name": "The name of the family; by default that of its first image.",
            "registry": "Where `push` goes: HOST:PORT or HOST:PORT/PREFIX.",
            "defaults": "Every image starts from these.",
            "images": "Images by name.",
        },
        extension="x-",
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the family file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sixsmith.yaml",
        "description": "A family of Alpine + s6-overlay images.",
        **family_shape().json(),
        "$defs": {name: {"description": key.doc, **key.shape.json()} for name, key in SETTINGS.items()},
    }


def render_json_schema() -> str:
    """The text of the shipped `sixsmith.schema.json`."""
    import json

    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
