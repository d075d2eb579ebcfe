"""Reads `services:` of a family file into `Service` values, noting everything that is wrong at its place.

The mapping comes as YAML had it: text, lists and mappings that know their places (`model.spelled`). Plain `str`, `list`
and `dict` do as well, for callers without a file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Set
from itertools import pairwise
from typing import Any, TypeVar

from sixsmith.errors import FormatError, MatrixError, Place, Problem, nearest
from sixsmith.model.spelled import place_of
from sixsmith.s6.execline import parse_execline
from sixsmith.s6.graph import cycles, way_round
from sixsmith.s6.service import (
    Command,
    Kind,
    Limit,
    Log,
    OnExit,
    Program,
    Ready,
    Script,
    Service,
    Timeouts,
    companions,
)

__all__ = ["LIMITS", "OVERLAY_NAMES", "SERVICE_KEYS", "read_services"]

Value = TypeVar("Value")

KINDS: tuple[Kind, ...] = ("longrun", "oneshot", "bundle", "pipeline")

_SURROUNDINGS = ("user", "env", "workdir", "umask", "limits")
SERVICE_KEYS: Mapping[str, tuple[str, ...]] = {
    "longrun": (
        *("type", "run", "needs", "finish", "ready", *_SURROUNDINGS),
        *("log", "timeout", "down-signal", "on-exit"),
    ),
    "oneshot": ("type", "up", "down", "needs", *_SURROUNDINGS, "timeout"),
    "bundle": ("type", "contents"),
    "pipeline": ("type", "contents"),
}
"""What each kind of service takes."""

_ALL_KEYS = tuple(dict.fromkeys(key for keys in SERVICE_KEYS.values() for key in keys))

LIMITS: Mapping[str, tuple[str, str]] = {
    "open-files": ("o", "number"),
    "processes": ("p", "number"),
    "memory": ("m", "size"),
    "address-space": ("a", "size"),
    "data": ("d", "size"),
    "stack": ("s", "size"),
    "core": ("c", "size"),
    "file-size": ("f", "size"),
    "locked-memory": ("l", "size"),
    "resident": ("r", "size"),
    "cpu-time": ("t", "seconds"),
}
"""Resource limits: the option of s6-softlimit and what the value is."""

OVERLAY_NAMES = frozenset(("base", "fix-attrs", "legacy-cont-init", "legacy-services", "top", "user", "user2"))
"""Services and bundles of s6-overlay v3 itself."""

_SIGNALS = frozenset(
    (
        *("HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "USR2", "ALRM", "TERM", "CONT", "STOP"),
        *("TSTP", "TTIN", "TTOU", "WINCH", "PWR", "IO", "URG", "VTALRM", "PROF"),
    )
)
_DURATION = r"(?a)(?:\d{1,9}(?:\.\d+)?(?:h|ms|m|s))+"
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = r"(?a)(\d{1,12}(?:\.\d+)?)\s*(?:([kKMG])(i?)B?|B)?"
_SIZE_UNITS = {"k": 1, "K": 1, "M": 2, "G": 3}
_ACCOUNT = r"(?a)[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?)?"
_VARIABLE = r"(?a)[A-Za-z_][A-Za-z0-9_]*"
_ASSIGNMENT = r"(?a)[A-Za-z_][A-Za-z0-9_]*="
_MAX_NAME = 200
"""Longest name, in bytes: a file name with room for `-log-prepare`."""


def read_services(mapping: Mapping[Any, Any], *, place: Place, closed: bool = True) -> tuple[Service, ...]:
    """The services of a family file's mapping, in its order.

    `place` is used for values that know none. With `closed`, a name in `needs` must be defined here (or be the overlay's);
    without, it may stand in the image already, as for an image on a parent with services. Raises MatrixError with all
    problems in file order.
    """
    reader = _Reader(place)
    services = tuple(reader.service(key, value) for key, value in mapping.items())
    known = {service.name: service for service in services}
    reader.check_names(services, known)
    made = {name for service in services for name in companions(service)}
    for service in services:
        reader.check_references(service, known, made, closed)
    reader.check_pipelines(services, known)
    reader.check_circles(services)
    if reader.problems:
        order = sorted(dict.fromkeys(reader.problems), key=lambda problem: (problem.place.line, problem.place.column))
        raise MatrixError(order)
    return services


class _Wrong(ValueError):
    """A value that cannot be read, with a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class _Reader:
    """Collects problems while it reads."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problems: list[Problem] = []

    def where(self, *values: object) -> Place:
        """The place of the first value that knows one."""
        return next((found for value in values if (found := place_of(value)) is not None), self.place)

    def wrong(self, where: Place, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(where, message, hint))

    def tried(self, parse: Callable[[str], Value], value: object, what: str, *near: object) -> Value | None:
        """`parse` of a scalar; None when there is none, or it is wrong, which is noted."""
        where = self.where(value, *near)
        if not isinstance(value, str) or getattr(value, "nothing", False) or not value:
            self.wrong(where, f"expected {what}, found {_kind_of(value)}")
            return None
        try:
            return parse(value)
        except _Wrong as error:
            self.wrong(where, str(error), error.hint)
            return None

    # --- one service

    def service(self, key: Any, value: object) -> Service:
        place = self.where(key, value)
        name = str(key)
        self.check_name(name, place)
        if not isinstance(value, Mapping):
            self.wrong(self.where(value, key), f"service '{name}' must be a mapping, found {_kind_of(value)}")
            return Service(name, "longrun", place)
        kind = self.kind(name, value, place)
        fields: dict[str, Any] = {}
        places: dict[str, Place] = {}
        for option, content in value.items():
            places[str(option)] = self.where(content, option)
            if option not in SERVICE_KEYS[kind]:
                self.unknown(name, kind, option)
            elif option != "type":
                fields |= self.option(str(option), content, option)
        required = {"longrun": "run", "oneshot": "up"}.get(kind, "contents")
        if required not in value and not (kind == "oneshot" and "down" in value):
            self.wrong(place, f"{kind} '{name}' has no '{required}'", self.what_instead(kind, value))
        return Service(name, kind, place, places=places, **fields)

    def check_name(self, name: str, place: Place) -> None:
        if name.startswith(("s6rc-", "s6-rc-")):
            self.wrong(place, f"'{name}': names that start with s6rc- or s6-rc- are reserved for s6-rc", "rename it")
        elif name in OVERLAY_NAMES or name.startswith("syslogd"):
            self.wrong(place, f"'{name}' is a service of s6-overlay itself", "choose another name")
        elif name == "log":
            self.wrong(place, "'log' is the name of a logger's folder", "choose another name")
        elif not re.fullmatch(r"[^\s/.#][^\s/#]*", name) or not name.isprintable() or name.startswith("-"):
            hint = "letters, digits and . _ - in between"
            self.wrong(place, f"'{name}' cannot be the name of a service", hint)
        elif len(name.encode()) > _MAX_NAME:
            self.wrong(place, f"the name '{name[:20]}…' is longer than {_MAX_NAME} bytes")

    def kind(self, name: str, value: Mapping[Any, Any], place: Place) -> Kind:
        """The kind that is said, or the one whose main key is there."""
        said = value.get("type")
        if said is not None:
            for kind in KINDS:
                if said == kind:
                    return kind
            hint = nearest(said, KINDS) if isinstance(said, str) else None
            self.wrong(self.where(said), f"expected one of {', '.join(KINDS)}; found {_kind_of(said)}", hint)
        if "up" in value or ("down" in value and "run" not in value):
            return "oneshot"
        return "bundle" if "contents" in value and "run" not in value else "longrun"

    def unknown(self, name: str, kind: Kind, option: Any) -> None:
        where = self.where(option)
        owners = [other for other, keys in SERVICE_KEYS.items() if option in keys]
        if owners:
            hint = f"it belongs to a {' or a '.join(owners)}"
            if option == "needs":
                hint = "give 'needs' to its members"
            self.wrong(where, f"a {kind} has no '{option}'", hint)
            return
        known: dict[str, str] = {
            "dependencies": "needs",
            "depends": "needs",
            "depends-on": "needs",
            "requires": "needs",
        }
        known |= {"after": "needs", "environment": "env", "working-directory": "workdir", "cwd": "workdir"}
        known |= {"command": "run", "exec": "run", "readiness": "ready", "timeouts": "timeout", "logs": "log"}
        known |= {"stop-signal": "down-signal", "restart": "on-exit", "members": "contents"}
        near = nearest(str(option), SERVICE_KEYS[kind])
        self.wrong(
            where,
            f"unknown key '{option}' in service '{name}'",
            f"did you mean '{known[option]}'?" if option in known else near,
        )

    def what_instead(self, kind: Kind, value: Mapping[Any, Any]) -> str:
        if kind == "longrun" and "up" in value:
            return "'up' belongs to a oneshot: say 'type: oneshot', or 'run'"
        if kind == "oneshot" and "run" in value:
            return "'run' belongs to a longrun: say 'up', or 'type: longrun'"
        return {
            "longrun": "say which program runs, or 'type: oneshot' with 'up'",
            "oneshot": "say what is done at start",
            "bundle": "say which services it holds",
        }.get(kind, "say which longruns it joins, the first producer first")

    def option(self, option: str, content: object, key: object) -> dict[str, Any]:
        """One key of a service as arguments of `Service`."""
        if option in ("run", "finish", "up", "down"):
            return {option: self.program(content, key)}
        if option in ("needs", "contents"):
            return {option: self.names(content, key)}
        if option == "user":
            return {"user": self.tried(_account, content, "a user", key)}
        if option == "workdir":
            return {"workdir": self.tried(_path, content, "a path", key)}
        if option == "umask":
            return {"umask": self.tried(_umask, content, "a umask", key)}
        if option == "down-signal":
            return {"down_signal": self.tried(_signal, content, "a signal", key)}
        if option == "env":
            return {"env": self.env(content, key)}
        if option == "limits":
            return {"limits": self.limits(content, key)}
        if option == "timeout":
            return {"timeout": self.timeouts(content, key)}
        if option == "ready":
            return {"ready": self.ready(content, key)}
        if option == "log":
            return {"log": self.log(content, key)}
        return {"on_exit": self.on_exit(content, key)}

    # --- programs

    def program(self, content: object, key: object) -> Program | None:
        """A script, a line of shell words, or a list of words."""
        where = self.where(content, key)
        if isinstance(content, list):
            if not content or not all(isinstance(word, str) for word in content):
                self.wrong(where, "expected a command: a list of words")
                return None
            return Command(shlex.join(str(word) for word in content), where)
        text = self.tried(_text, content, "a command or a script", key)
        if text is None:
            return None
        if text.startswith("#!"):
            return self.script(text, where)
        try:
            return Command(_shell_words(text), where)
        except _Wrong as error:
            self.wrong(where, str(error), error.hint)
            return None

    def script(self, text: str, where: Place) -> Script | None:
        script = Script(text if text.endswith("\n") else text + "\n", where)
        program, _ = script.interpreter
        if not program.startswith("/"):
            self.wrong(where, f"'#!{program}' does not name a program by its whole path", "write #!/bin/sh")
            return None
        if program.endswith("/execlineb"):
            try:
                parse_execline(script.body.encode(), str(where))
            except FormatError as error:
                self.wrong(where, f"the script is not valid execline: {error.message}", error.hint)
        if not script.body.strip():
            self.wrong(where, "the script has no line behind '#!'")
        return script

    # --- lists and mappings

    def names(self, content: object, key: object) -> tuple[str, ...]:
        """Names in order, each once."""
        if isinstance(content, str) and content and not getattr(content, "nothing", False):
            content = [content]
        if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
            self.wrong(self.where(content, key), f"expected a list of services, found {_kind_of(content)}")
            return ()
        seen: dict[str, str] = {}
        for name in content:
            if name in seen:
                self.wrong(self.where(name, key), f"'{name}' stands here twice")
            seen.setdefault(name, name)
        return tuple(seen.values())

    def mapping(self, content: object, key: object, what: str, known: Iterable[str]) -> dict[str, object]:
        """A mapping with known keys only; what is wrong is noted and left out."""
        known = tuple(known)
        if not isinstance(content, Mapping):
            where = self.where(content, key)
            self.wrong(where, f"expected {what} (a mapping of {', '.join(known)}), found {_kind_of(content)}")
            return {}
        kept = {}
        for option, value in content.items():
            if option in known:
                kept[str(option)] = value
            else:
                hint = nearest(str(option), known) or f"known are {', '.join(known)}"
                self.wrong(self.where(option, key), f"unknown key '{option}' in '{key}'", hint)
        return kept

    def env(self, content: object, key: object) -> dict[str, str]:
        if not isinstance(content, Mapping):
            self.wrong(self.where(content, key), f"expected variables (NAME: VALUE), found {_kind_of(content)}")
            return {}
        variables = {}
        for name, value in content.items():
            if not re.fullmatch(_VARIABLE, str(name)):
                self.wrong(self.where(name, key), f"'{name}' is not the name of a variable")
            elif not isinstance(value, str) or "\0" in value:
                self.wrong(self.where(value, name), f"expected the value of '{name}', found {_kind_of(value)}")
            else:
                variables[str(name)] = str(value)
        return variables

    def limits(self, content: object, key: object) -> tuple[Limit, ...]:
        limits = []
        for name, value in self.mapping(content, key, "limits", LIMITS).items():
            letter, unit = LIMITS[name]
            parse = {"number": _number(0, 1 << 32), "size": _size, "seconds": _seconds}[unit]
            if value in ("max", "unlimited"):
                limits.append(Limit(letter, "="))
                continue
            number = self.tried(parse, value, f"a {unit}" if unit != "seconds" else "a duration", key)
            if number is not None:
                limits.append(Limit(letter, str(number)))
        return tuple(limits)

    def timeouts(self, content: object, key: object) -> Timeouts:
        values = self.mapping(content, key, "timeouts", ("up", "down", "kill", "finish"))
        return Timeouts(**{name: self.tried(_duration, value, "a duration", key) for name, value in values.items()})

    def ready(self, content: object, key: object) -> Ready | None:
        known = ("fd", "check", "every", "delay", "timeout", "tries", "health")
        values = self.mapping(content, key, "readiness", known)
        if not values:
            return None
        fields: dict[str, Any] = {}
        for name, value in values.items():
            if name == "check":
                fields["check"] = self.program(value, key)
            elif name in ("fd", "tries"):
                fields[name] = self.tried(_number(3, 1023) if name == "fd" else _number(0, 100_000), value, "a number")
            elif name == "health":
                fields[name] = self.tried(_flag, value, "true or false", key)
            else:
                fields[name] = self.tried(_duration, value, "a duration", key)
        if "check" not in values:
            extra = [name for name in ("every", "delay", "timeout", "tries") if name in values]
            if extra:
                hint = "the service tells by itself when it writes to the descriptor"
                self.wrong(self.where(values[extra[0]], key), f"'{extra[0]}' means something with 'check' only", hint)
            elif "fd" not in values:
                self.wrong(self.where(content, key), "'ready' says neither 'fd' nor 'check'")
        return Ready(**{name: value for name, value in fields.items() if value is not None})

    def log(self, content: object, key: object) -> Log | None:
        if isinstance(content, str):
            content = {"to": content}
        values = self.mapping(content, key, "a log", ("to", "keep", "size", "user", "timestamps", "stderr"))
        if "to" not in values:
            if isinstance(content, Mapping):
                self.wrong(self.where(content, key), "'log' does not say where 'to'", "a folder, or stdout")
            return None
        if values["to"] in ("stdout", "-"):
            for name in values:
                if name != "to":
                    self.wrong(self.where(values[name], key), f"'{name}' means nothing for a log that goes to stdout")
            return None
        readers: dict[str, Callable[[str], Any]] = {
            "to": _log_folder,
            "keep": _number(0, 1_000_000),
            "size": _log_size,
            "user": _account,
            "timestamps": _timestamps,
            "stderr": _flag,
        }
        what = {"to": "a folder or stdout", "keep": "a number", "size": "a size", "user": "a user"}
        fields: dict[str, Any] = {}
        for name, value in values.items():
            read = self.tried(readers[name], value, what.get(name, "a word"), key)
            if read is not None:
                fields[name] = read
        return Log(**fields) if "to" in fields else None

    def on_exit(self, content: object, key: object) -> OnExit:
        if isinstance(content, Mapping):
            values = self.mapping(content, key, "an exit code", ("stop-container",))
            code = self.tried(_number(0, 255), values.get("stop-container"), "an exit code", content, key)
            return OnExit("stop-container", code)
        if content == "restart" or content == "stop-container" or content == "never":
            return OnExit(content)
        words = ("restart", "stop-container", "never")
        hint = nearest(content, words) if isinstance(content, str) else None
        self.wrong(self.where(content, key), f"expected one of {', '.join(words)}; found {_kind_of(content)}", hint)
        return OnExit()

    # --- all services

    def check_names(self, services: Iterable[Service], known: Mapping[str, Service]) -> None:
        for service in services:
            for name, what in companions(service).items():
                if name in known:
                    message = f"'{name}' is the name of the {what} of '{service.name}'"
                    self.wrong(known[name].place, message, "choose another name")

    def check_references(self, service: Service, known: Mapping[str, Service], made: Set[str], closed: bool) -> None:
        for key, names in (("needs", service.needs), ("contents", service.contents)):
            for name in names:
                where = self.where(name) if place_of(name) else service.at(key)
                if name == service.name:
                    self.wrong(where, f"'{name}' cannot {'need' if key == 'needs' else 'hold'} itself")
                elif name in ("top", "user", "user2"):
                    hint = "name single services instead"
                    self.wrong(where, f"'{name}' is the bundle that holds all services: nothing can wait for it", hint)
                elif name in known or name in made or (key == "needs" and name in OVERLAY_NAMES):
                    continue
                elif closed or service.kind == "pipeline":
                    self.wrong(
                        where, f"no service '{name}'", nearest(name, [*known, *made]) or "define it, or remove it"
                    )

    def check_pipelines(self, services: Iterable[Service], known: Mapping[str, Service]) -> None:
        owners: dict[str, str] = {}
        for pipeline in services:
            if pipeline.kind != "pipeline":
                continue
            if len(pipeline.contents) < 2 and "contents" in pipeline.places:
                self.wrong(pipeline.at("contents"), "a pipeline joins two longruns or more")
            for position, name in enumerate(pipeline.contents):
                where = place_of(name) or pipeline.at("contents")
                member = known.get(name)
                if member is not None and member.kind != "longrun":
                    self.wrong(where, f"'{name}' is a {member.kind}: only longruns can be joined")
                if name in owners:
                    self.wrong(where, f"'{name}' is in the pipeline '{owners[name]}' already")
                owners.setdefault(name, pipeline.name)
                if member is not None and member.log is not None and position < len(pipeline.contents) - 1:
                    message = f"the output of '{name}' goes to '{pipeline.contents[position + 1]}', not to a log"
                    self.wrong(member.at("log"), message, "remove 'log', or take it out of the pipeline")

    def check_circles(self, services: Iterable[Service]) -> None:
        """Services that wait for each other; a producer of a pipeline waits for its consumer, too."""
        graph: dict[bytes, list[bytes]] = {}
        placed = {}
        for service in services:
            arrows = [*service.needs, *service.contents]
            graph.setdefault(service.name.encode(), []).extend(name.encode() for name in arrows)
            placed[service.name] = service
            if service.kind == "pipeline":
                for producer, consumer in pairwise(service.contents):
                    graph.setdefault(producer.encode(), []).append(consumer.encode())
        for component in cycles(graph):
            way = [name.decode() for name in way_round(graph, component)]
            if len(way) > 1:
                where = self.said_where(way, placed)
                message = f"these wait for each other in a circle: {' → '.join([*way, way[0]])}"
                self.wrong(where, message, "remove one of these needs")

    def said_where(self, way: list[str], services: Mapping[str, Service]) -> Place:
        """Where the first step of a circle is written; a producer's wait for its consumer is written nowhere."""
        for name, after in zip(way, [*way[1:], way[0]], strict=True):
            service = services.get(name)
            for said in (*service.needs, *service.contents) if service is not None else ():
                if said == after and service is not None:
                    return place_of(said) or service.at("needs", "contents")
        return services[way[0]].place if way[0] in services else self.place


def _kind_of(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None or getattr(value, "nothing", False) or value == "":
        return "nothing"
    text = str(value).strip().split("\n")[0]
    return f"'{text[:37]}…'" if len(text) > 40 else f"'{text}'"


# --- scalars -----------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    if "\0" in text:
        raise _Wrong("a NUL character in a command")
    if "\r" in text:
        raise _Wrong("the script has Windows line ends", "save the file with LF line ends")
    if not text.strip():
        raise _Wrong("the command is empty")
    return str(text).lstrip("\n") if text.lstrip().startswith("#!") else str(text).strip()


def _shell_words(text: str) -> str:
    """One line of shell words without operators, without `exec` in front."""
    script = "begin it with a line such as '#!/bin/sh'"
    if "\n" in text.replace("\\\n", " "):
        raise _Wrong("a command of several lines", script)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _Wrong(f"the command is not made of words: {str(error).lower()}", "check its quotes") from error
    operator = _operator(text)
    if operator:
        raise _Wrong(f"'{operator}' in a plain command", f"for a shell script, {script}")
    if words and re.match(_ASSIGNMENT, words[0]):
        raise _Wrong(f"'{words[0]}' in front of a command", "say it under 'env'")
    return re.sub(r"^exec\s+", "", text)


_SHELL_TOKEN = r"""(?s)\\.|'[^']*'|"(?:\\.|[^"\\])*"|\$\((?:[^()]|\([^()]*\))*\)|(?P<operator>[;&|<>()]+)|."""
"""Pieces of a command line: what a backslash, quotes or a substitution protects, operators, anything else."""


def _operator(text: str) -> str:
    """The first operator of the shell that nothing protects, or ""."""
    found = (match["operator"] for match in re.finditer(_SHELL_TOKEN, text))
    return next((operator for operator in found if operator), "")


def _account(text: str) -> str:
    if not re.fullmatch(_ACCOUNT, text):
        raise _Wrong(f"'{text}' is not a user", "a name, or USER:GROUP")
    if text.isdigit():
        raise _Wrong(f"'{text}' is a number without a group", f"say {text}:{text}")
    return str(text)


def _path(text: str) -> str:
    if not text.startswith("/") or "\0" in text or "\n" in text:
        raise _Wrong(f"'{text}' is not an absolute path", "it is a path in the image, like /srv/app")
    return str(text)


def _log_folder(text: str) -> str:
    folder = _path(text).rstrip("/")
    if not folder or re.search(r"\s", folder):
        raise _Wrong(f"'{text}' cannot be a log's folder", "a path like /var/log/NAME")
    return folder


def _umask(text: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", text, re.ASCII):
        raise _Wrong(f"'{text}' is not a umask", "octal digits, like 027")
    return str(text)


def _signal(text: str) -> str:
    word = text.upper().removeprefix("SIG")
    if re.fullmatch(r"[1-9]|[1-5]\d|6[0-4]", word, re.ASCII):
        return word
    if word not in _SIGNALS:
        raise _Wrong(f"'{text}' is not a signal", nearest(f"SIG{word}", [f"SIG{name}" for name in sorted(_SIGNALS)], 1))
    return f"SIG{word}"


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise _Wrong(f"'{text}' is not a number from {lowest} to {highest}")
        return int(text)

    return parse


def _duration(text: str) -> int:
    """`1m30s`, `500ms` → milliseconds."""
    if len(text) > 32 or not re.fullmatch(_DURATION, text):
        hint = "write its unit: 5s, 500ms" if re.fullmatch(r"\d+", text, re.ASCII) else "like 30s, 1m30s or 500ms"
        raise _Wrong(f"'{text}' is not a duration", hint)
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    total = round(sum(float(amount) * _MILLISECONDS[unit] for amount, unit in parts))
    if total > 0x7FFFFFFF:
        raise _Wrong(f"'{text}' is longer than 24 days")
    return total


def _seconds(text: str) -> int:
    return max(1, _duration(text) // 1000)


def _size(text: str) -> int:
    """`1M`, `512K`, `4096` → bytes; K, M and G are powers of 1024, kB, MB and GB too."""
    match = re.fullmatch(_SIZE, text.strip())
    if match is None:
        raise _Wrong(f"'{text}' is not a size", "like 40M or 512K")
    return int(float(match[1]) * 1024 ** _SIZE_UNITS.get(match[2] or "", 0))


def _log_size(text: str) -> int:
    """s6-log takes 4096 to 268435455 bytes for one file."""
    size = _size(text)
    if not 4096 <= size <= 268435455:
        raise _Wrong(f"'{text}' is not a size for a log file", "from 4K to just below 256M")
    return size


def _flag(text: str) -> bool:
    if text in ("true", "yes", "on"):
        return True
    if text in ("false", "no", "off"):
        return False
    raise _Wrong(f"'{text}' is neither true nor false")


def _timestamps(text: str) -> str:
    if text not in ("iso", "tai64n", "none"):
        raise _Wrong(f"expected one of iso, tai64n, none; found '{text}'")
    return str(text)
