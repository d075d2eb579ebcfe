"""The verdict of `s6-rc-compile`, without it: would it make a database of these source directories?

The compiler stops at the first thing it dislikes and says it in its own words; here every problem is found, with its
line and what to do. What counts as a problem is the same: the verdicts are compared with the real compiler's (0.5.4.2 of
s6-overlay 3.1.6.2, 0.5.6.0 of 3.2.1.0) on random trees by tests/property/test_s6_compile_verdicts.py.

Two passes, both linear in the files: each service directory is read alone (`_ServiceReader`), then names are resolved
across all of them (`_Resolver`). One graph serves both kinds of cycles: its nodes are services and bundles, a service
points at what it depends on (a producer at its consumer, too), a bundle at what it holds; s6-rc has a cycle exactly when
this graph has one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from sixsmith.errors import FormatError, nearest
from sixsmith.s6.definitions import (
    NUMBER_FILES,
    Definition,
    Listed,
    ServiceType,
    is_reserved,
    parse_list,
    parse_number,
    parse_timeout,
    parse_type,
    pipeline_members,
    why_not_a_number,
    why_not_a_type,
)
from sixsmith.s6.execline import Node, parse_execline
from sixsmith.s6.finding import Finding, Severity, has_errors, shown_path
from sixsmith.s6.graph import cycles, way_round
from sixsmith.s6.sources import Entry, SourceDirectory, read_source_directory

__all__ = ["CompileReport", "check_directories", "check_sources"]

COMPILER_STACK = 8 << 20
"""Stack of a process where nobody asked for another, in bytes: Linux's own default and the usual one of containers."""

OVERLAY_SERVICES = frozenset(
    b"base fix-attrs legacy-cont-init legacy-services top user user2"
    b" syslogd syslogd-bundle syslogd-log syslogd-pipeline syslogd-prepare syslogd2-bundle".split()
)
"""Names that the overlay itself defines; a user's directory alone may refer to them."""

_DOC = "https://skarnet.org/software/s6-rc/s6-rc-compile.html"
_ISSUE = "https://github.com/just-containers/s6-overlay/issues/"
_MAX_NEAREST = 20
"""Undefined names that get a spelling hint; each costs a comparison with every name there is."""


class CompileReport(msgspec.Struct, frozen=True):
    """What the compiler would say. `accepted` is its verdict; `findings` are in order of the sources.

    `definitions` are the services by name (the first one where a name is defined twice), pipelines not among them.
    """

    accepted: bool
    findings: tuple[Finding, ...]
    definitions: Mapping[bytes, Definition] = msgspec.field(default_factory=dict)


def check_directories(paths: Iterable[str | os.PathLike[str]]) -> CompileReport:
    """Reads source directories, in order, and checks them; what cannot be read is a finding, not an exception."""
    return check_sources([read_source_directory(path) for path in paths])


def check_sources(sources: Sequence[SourceDirectory]) -> CompileReport:
    """Checks source directories as one compilation does, in order; the overlay's own may be among them."""
    findings: list[Finding] = []
    definitions: dict[bytes, Definition] = {}
    for source in sources:
        for definition in _read_source(source, findings):
            first = definitions.setdefault(definition.name, definition)
            if first is not definition:
                findings.append(_defined_twice(first, definition))
    _Resolver(definitions, findings).resolve()
    _check_stack(definitions, findings)
    return CompileReport(not has_errors(findings), tuple(findings), definitions)


def _defined_twice(first: Definition, second: Definition) -> Finding:
    ours = "rename one of them, or remove it"
    if second.name in OVERLAY_SERVICES or first.name in OVERLAY_SERVICES:
        ours = "the overlay has a service of this name: to add to its bundles, give only files of `contents.d`; else rename yours"
    if first.path == second.path:
        ours = "the same source directory is given twice"
    return Finding(
        "R3",
        "error",
        second.path,
        0,
        f"service `{shown_path(first.name)}` is already defined in {first.path}",
        ours,
        _DOC,
    )


# --- one source directory ----------------------------------------------------------------------------------------


def _read_source(source: SourceDirectory, findings: list[Finding]) -> Iterator[Definition]:
    path = shown_path(source.path.encode("utf-8", "surrogateescape"))
    if source.problem:
        findings.append(Finding("R34", "error", path, 0, *_cannot_list(source.problem), _DOC))
        return
    services = 0
    silent = len(findings)
    for name in sorted(source.entries):
        entry = source.entries[name]
        if name.startswith(b"."):
            continue
        place = f"{path}/{shown_path(name)}"
        _check_name(name, entry, place, findings)
        if entry.kind == "directory":
            services += 1
            yield _ServiceReader(path, name, entry, findings).read()
        elif entry.kind == "lost":
            what, hint = _cannot_open(entry)
            message = f"{what}; the compiler looks at every name in a source directory"
            findings.append(Finding("R32", "error", place, 0, message, hint, _DOC))
    if not services and len(findings) == silent:
        hint = "each service is a directory with a `type` file in it"
        findings.append(Finding("R34", "warning", path, 0, "there is no service in this source directory", hint, _DOC))


def _check_name(name: bytes, entry: Entry, place: str, findings: list[Finding]) -> None:
    """Even a plain file, which defines nothing, must have a fit name."""
    if b"\n" in name:
        message, hint = "the name contains a newline", "rename it"
    elif is_reserved(name):
        message = "names that start with `s6rc-` or `s6-rc-` are reserved for s6-rc itself"
        hint = "rename the service" if entry.kind == "directory" else "rename the file, or move it out of here"
    else:
        return
    findings.append(Finding("R2", "error", place, 0, message, hint, _DOC))


def _cannot_list(reason: str) -> tuple[str, str]:
    reasons = {
        "ENOENT": ("there is no such directory", "check the path"),
        "ENOTDIR": ("this is not a directory", "give the directory that holds the services' directories"),
        "ELOOP": ("the symbolic links run in a circle", "make the link point at the directory"),
        "EACCES": ("there is no permission to list this directory", "run as a user who may, or change its mode"),
    }
    return reasons.get(reason, (f"this directory cannot be listed ({reason})", "check the disk and the path"))


def _cannot_open(entry: Entry) -> tuple[str, str]:
    """Why opening an entry fails, and what helps."""
    if entry.kind == "directory":
        return "this is a directory where a file is needed", "make it a file"
    if entry.kind == "socket":
        return "this is a socket, which cannot be opened", "remove it"
    if entry.kind == "pipe":
        return "this is a named pipe: the compiler would wait for a writer, forever", "make it a regular file"
    link = f" `{shown_path(entry.target)}`" if entry.target else ""
    reasons = {
        "ENOENT": (f"the symbolic link{link} leads to nothing", "make the file, or remove the link"),
        "ELOOP": (f"the symbolic link{link} runs in a circle", "make it point at a file"),
        "EACCES": ("there is no permission to read this", "change its mode"),
        "ENOTDIR": (f"the symbolic link{link} leads through something that is not a directory", "correct the link"),
        "ENAMETOOLONG": ("the symbolic link's text is too long a name", "correct the link"),
        "EFBIG": ("this file is absurdly long", "files of a service definition hold a few lines"),
    }
    return reasons.get(entry.reason, (f"this cannot be read ({entry.reason})", "check the file and the disk"))


# --- one service -------------------------------------------------------------------------------------------------


class _ServiceReader:
    """Reads one service's directory and reports what is wrong with it alone."""

    def __init__(self, source: str, name: bytes, entry: Entry, findings: list[Finding]) -> None:
        self.source = source
        self.name = name
        self.entry = entry
        self.files = entry.children
        self.path = f"{source}/{shown_path(name)}"
        self.findings = findings

    def report(
        self,
        rule: str,
        file: bytes,
        message: str,
        hint: str,
        *,
        line: int = 0,
        severity: Severity = "error",
        reference: str = _DOC,
    ) -> None:
        path = f"{self.path}/{shown_path(file)}" if file else self.path
        self.findings.append(Finding(rule, severity, path, line, message, hint, reference))

    def read(self) -> Definition:
        kind = self.kind()
        definition = Definition(self.name, kind, self.source, self.path, self.entry)
        if kind is None:
            return definition
        if kind == "bundle":
            contents = self.names(b"contents")
            if contents is None:
                self.no_contents()
            return replace(definition, contents=tuple(contents or ()), essential=self.flag())
        definition = replace(
            definition,
            dependencies=tuple(self.names(b"dependencies") or ()),
            timeout_down=self.timeout(b"timeout-down"),
            timeout_up=self.timeout(b"timeout-up"),
            essential=self.flag(),
        )
        if kind == "oneshot":
            return replace(definition, up=self.script(b"up"), down=self.script(b"down"))
        return self.longrun(definition)

    def kind(self) -> ServiceType | None:
        entry = self.files.get(b"type")
        if entry is None or entry.missing:
            close = nearest("type", (shown_path(name) for name in self.files))
            hint = close or "write `longrun`, `oneshot` or `bundle` and a newline into it"
            if not self.files:
                hint = "the directory is empty: remove it, or fill it"
            self.report("R1", b"type", "there is no `type` file", hint, reference=_ISSUE + "474")
            return None
        content = self.content(b"type")
        if content is None:
            return None
        kind = parse_type(content)
        if kind is None:
            self.report(
                "R1",
                b"type",
                "the type must be oneshot, longrun, or bundle, and nothing else",
                why_not_a_type(content),
                line=1,
                reference=_ISSUE + "474",
            )
        return kind

    def content(self, file: bytes, *, waits: bool = False) -> bytes | None:
        """A file's bytes, or None when there is none or it cannot be read, which is reported.

        `waits`: this file is opened in the way that blocks on a named pipe.
        """
        entry = self.files.get(file)
        if entry is None or entry.missing:
            return None
        if entry.kind in ("file", "device") or (entry.kind == "pipe" and not waits):
            return entry.content
        self.report("R32", file, *_cannot_open(entry))
        return None

    def names(self, file: bytes) -> list[Listed] | None:
        """The names in `file`.d, or in `file` when there is no such directory, or None when there is neither."""
        directory = self.files.get(file + b".d")
        if directory is None or directory.missing:
            return self.list_file(file)
        if directory.kind != "directory":
            what, hint = "this must be a directory", "make it a directory that holds one empty file for each name"
            if directory.kind == "lost":
                what, hint = _cannot_open(directory)
            self.report("R32", file + b".d", what, hint)
            return []
        listed = [
            Listed(name, file + b".d/" + name) for name in sorted(directory.children) if not name.startswith(b".")
        ]
        self.check_listed(listed)
        return listed

    def list_file(self, file: bytes) -> list[Listed] | None:
        if file not in self.files or self.files[file].missing:
            return None
        content = self.content(file)
        listed = parse_list(content, file) if content else []
        self.check_listed(listed)
        return listed

    def check_listed(self, listed: Iterable[Listed]) -> None:
        for each in listed:
            if is_reserved(each.name):
                message = f"`{shown_path(each.name)}`: names that start with `s6rc-` or `s6-rc-` are reserved"
                self.report("R2", each.file, message, "s6-rc adds its own services by itself", line=each.line)

    def no_contents(self) -> None:
        close = nearest("contents.d", (shown_path(name) for name in self.files))
        hint = "make the directory `contents.d` with one empty file for each member; it may be empty"
        self.report("R6", b"contents.d", "a bundle needs `contents.d` or `contents`", close or hint)

    def timeout(self, file: bytes) -> int:
        content = self.content(file)
        if content is None:
            return 0
        value = parse_timeout(content)
        if value is None:
            unit = "milliseconds, 0 for no limit"
            self.report("R16", file, "this is not a number", why_not_a_number(content, unit), line=1)
        return value or 0

    def flag(self) -> bool:
        entry = self.files.get(b"flag-essential")
        if entry is not None and entry.kind == "lost" and not entry.missing:
            self.report("R32", b"flag-essential", *_cannot_open(entry))
        return entry is not None and entry.kind != "lost"

    # oneshots

    def script(self, file: bytes) -> tuple[Node, ...]:
        entry = self.files.get(file)
        if entry is None or entry.missing:
            if file == b"up":
                self.no_up()
            return ()
        content = self.content(file)
        if content is None:
            return ()
        try:
            return parse_execline(content, f"{self.path}/{shown_path(file)}")
        except FormatError as error:
            line = error.place.line if error.place is not None else 0
            hint = error.hint or ""
            if _looks_like_shell(content):
                hint = "the file is one execline command, not a shell script: put the script into a file of its own and its path here"
            self.report(
                "R9", file, f"this is not valid execline: {error.message}", hint, line=line, reference=_ISSUE + "400"
            )
            return ()

    def no_up(self) -> None:
        hint = "write the command to run, such as the path of a script, into `up`; it may be empty"
        if b"run" in self.files:
            hint = "a oneshot has `up`, not `run`: write the path of a script into `up`, or make the type longrun"
        self.report("R7", b"up", "a oneshot needs an `up` file", hint, reference=_ISSUE + "384")

    # longruns

    def longrun(self, definition: Definition) -> Definition:
        self.check_run()
        producer_for = self.list_file(b"producer-for")
        if producer_for is not None and len(producer_for) != 1 and self.readable(b"producer-for"):
            found = f"{len(producer_for)} names" if producer_for else "no name"
            line = producer_for[1].line if producer_for else 0
            message = f"`producer-for` must hold exactly one service name, not {found}"
            self.report("R14", b"producer-for", message, "a service writes to one consumer", line=line)
        consumer_for = self.list_file(b"consumer-for") or []
        pipeline_name = self.pipeline_name(bool(consumer_for) and producer_for is None)
        self.check_finish()
        notification_fd = self.check_numbers()
        for file in (b"data", b"env"):
            self.check_copied_directory(file)
        return replace(
            definition,
            producer_for=tuple((producer_for or ())[:1]),
            consumer_for=tuple(consumer_for),
            pipeline_name=tuple(pipeline_name),
            notification_fd=notification_fd,
        )

    def readable(self, file: bytes) -> bool:
        return self.files[file].kind in ("file", "device", "pipe")

    def check_run(self) -> None:
        entry = self.files.get(b"run")
        if entry is None or entry.missing:
            hint = "write the program to run into `run`, a script with a `#!` line"
            if b"up" in self.files:
                hint = "a longrun has `run`, not `up`: rename the file and make it a script, or make the type oneshot"
            close = nearest("run", (shown_path(name) for name in self.files))
            self.report("R8", b"run", "a longrun needs a `run` script", close or hint)
        elif entry.kind == "lost":
            self.report("R8", b"run", *_cannot_open(entry))
        elif entry.kind != "file":
            what = {"pipe": "named pipe"}.get(entry.kind, entry.kind)
            self.report("R8", b"run", f"`run` must be a regular file, not a {what}", "make it a script")

    def pipeline_name(self, last_consumer: bool) -> list[Listed]:
        """The pipeline's name, which only its last consumer can give."""
        entry = self.files.get(b"pipeline-name")
        if entry is None or entry.missing:
            return []
        if last_consumer:
            names = self.list_file(b"pipeline-name") or []
            if len(names) != 1 and self.readable(b"pipeline-name"):
                message = f"`pipeline-name` must hold exactly one name, not {len(names) or 'none'}"
                self.report("R15", b"pipeline-name", message, "it becomes the name of a bundle of the whole pipeline")
            return names[:1]
        if entry.kind == "lost":
            self.report("R32", b"pipeline-name", *_cannot_open(entry))
        else:
            hint = "move it to the service that only consumes, or remove it"
            message = "only the last consumer of a pipeline can name it: this file is ignored"
            self.report("R15", b"pipeline-name", message, hint, severity="warning")
        return []

    def check_finish(self) -> None:
        """A finish script that cannot be found is left out; one that cannot be copied stops the compiler."""
        entry = self.files.get(b"finish")
        if entry is not None and entry.kind in ("directory", "socket", "pipe"):
            self.report("R32", b"finish", *_cannot_open(entry))
        signal = self.files.get(b"down-signal")
        if signal is not None and signal.kind == "pipe":
            self.report("R32", b"down-signal", *_cannot_open(signal))

    def check_numbers(self) -> int | None:
        """The files of one number; returns the notification-fd."""
        values: dict[bytes, int] = {}
        for file in NUMBER_FILES:
            content = self.content(file, waits=True)
            if content is None:
                continue
            value = parse_number(content)
            is_fd = file.endswith(b"-fd")
            if value is None:
                unit = "a file descriptor from 3 up" if is_fd else "milliseconds"
                if file == b"max-death-tally":
                    unit = "of deaths that are remembered"
                rule = "R17" if is_fd else "R16"
                self.report(rule, file, "this is not a number", why_not_a_number(content, unit), line=1)
                continue
            values[file] = value
            if is_fd and value < 3:
                message = f"descriptor {value} is standard input, output or error"
                self.report("R17", file, message, "choose 3 or more", line=1, severity="warning")
        notification = values.get(b"notification-fd")
        if notification is not None and notification >= 3 and notification == values.get(b"lock-fd"):
            message = f"`notification-fd` and `lock-fd` are both {notification}"
            self.report("R17", b"lock-fd", message, "choose two different descriptors", line=1)
        return notification

    def check_copied_directory(self, file: bytes) -> None:
        entry = self.files.get(file)
        if entry is None or entry.missing or entry.kind == "directory":
            return
        if entry.kind == "lost":
            self.report("R33", file, *_cannot_open(entry))
            return
        hint = "make it a directory; `data/check` is the readiness check" if file == b"data" else "make it a directory"
        self.report("R33", file, f"`{file.decode()}` is not a directory", hint)


def _looks_like_shell(content: bytes) -> bool:
    return content.startswith(b"#!") or any(mark in content for mark in (b"&&", b"if [", b"$(", b"; then", b"fi\n"))


# --- all services together ---------------------------------------------------------------------------------------


class _Resolver:
    """Resolves names across services: dependencies, contents, pipelines, cycles."""

    def __init__(self, definitions: Mapping[bytes, Definition], findings: list[Finding]) -> None:
        self.definitions = definitions
        self.findings = findings
        self.pipelines: dict[bytes, Definition] = {}
        self.spelled = 0

    def report(self, rule: str, owner: Definition, listed: Listed | None, message: str, hint: str) -> None:
        path = f"{owner.path}/{shown_path(listed.file)}" if listed is not None else owner.path
        self.findings.append(Finding(rule, "error", path, listed.line if listed else 0, message, hint, _DOC))

    def resolve(self) -> None:
        for definition in self.definitions.values():
            self.name_pipeline(definition)
        for definition in self.definitions.values():
            for listed in definition.contents:
                self.check_defined(definition, listed, "the bundle holds")
            for listed in definition.dependencies:
                self.check_defined(definition, listed, "this depends on")
            if definition.kind == "longrun":
                self.check_producer(definition)
                self.check_consumer(definition)
        self.check_cycles()

    def name_pipeline(self, last: Definition) -> None:
        for listed in last.pipeline_name:
            other = self.definitions.get(listed.name) or self.pipelines.get(listed.name)
            if other is not None:
                what = "pipeline" if listed.name in self.pipelines else other.kind or "service"
                message = (
                    f"the pipeline's name `{shown_path(listed.name)}` is taken: {other.path} is a {what} of that name"
                )
                if other is last:
                    message = f"the pipeline's name `{shown_path(listed.name)}` is the service's own"
                self.report("R15", last, listed, message, "choose another name; it becomes a bundle")
            self.pipelines.setdefault(listed.name, last)

    def check_defined(self, owner: Definition, listed: Listed, relation: str) -> None:
        if listed.name in self.definitions or listed.name in self.pipelines or is_reserved(listed.name):
            return
        message = f"{relation} `{shown_path(listed.name)}`, which is not defined"
        self.report("R4", owner, listed, message, self.why_undefined(listed))

    def why_undefined(self, listed: Listed) -> str:
        name = listed.name
        stripped = name.strip()
        if stripped != name and stripped in self.definitions:
            what = "a carriage return (Windows line ends)" if name.endswith(b"\r") else "white space"
            return f"the line ends in {what}, which belongs to the name: remove it"
        before_comment = name.partition(b"#")[0].strip()
        if b"#" in name and before_comment in self.definitions:
            return "a comment must have a line of its own"
        if b" " in name and all(part in self.definitions for part in name.split()):
            return "write one name per line"
        if name in (b"user", b"user2"):
            return "s6-overlay ships it in /etc/s6-overlay/s6-rc.d, beside your services: check it along with this directory"
        if name in OVERLAY_SERVICES:
            return "s6-overlay defines it: check the overlay's own source directory along with this one"
        if name.startswith(b"."):
            return "directories whose names start with a dot are no services"
        if b"/" in name:
            return "write the service's name, not a path"
        self.spelled += 1
        if self.spelled <= _MAX_NEAREST:
            close = nearest(shown_path(name), (shown_path(other) for other in self.definitions))
            if close:
                return close
        return "define it, or remove the reference"

    def what_is(self, name: bytes) -> str:
        definition = self.definitions.get(name)
        if definition is not None:
            return f"a {definition.kind}"
        return "a pipeline" if name in self.pipelines else "not defined"

    def unclear(self, name: bytes) -> bool:
        """Whether the name's own definition is broken already, or reserved, which was reported where it stands."""
        definition = self.definitions.get(name)
        return is_reserved(name) or (definition is not None and definition.kind is None)

    def check_producer(self, producer: Definition) -> None:
        for listed in producer.producer_for:
            consumer = self.definitions.get(listed.name)
            name = shown_path(listed.name)
            if self.unclear(listed.name):
                continue
            if consumer is None or consumer.kind != "longrun":
                message = f"this is a producer for `{name}`, which is {self.what_is(listed.name)}"
                self.report("R14", producer, listed, message, "both ends of a pipe must be longruns")
            elif all(each.name != producer.name for each in consumer.consumer_for):
                message = f"this is a producer for `{name}`, but {consumer.path} does not name it in `consumer-for`"
                hint = f"add the line `{shown_path(producer.name)}` to {consumer.path}/consumer-for"
                self.report("R14", producer, listed, message, hint)

    def check_consumer(self, consumer: Definition) -> None:
        for listed in consumer.consumer_for:
            producer = self.definitions.get(listed.name)
            name = shown_path(listed.name)
            if self.unclear(listed.name):
                continue
            if producer is None or producer.kind != "longrun":
                message = f"this is the consumer for `{name}`, which is {self.what_is(listed.name)}"
                self.report("R14", consumer, listed, message, "both ends of a pipe must be longruns")
            elif all(each.name != consumer.name for each in producer.producer_for):
                message = f"this is the consumer for `{name}`, but {producer.path} does not name it in `producer-for`"
                hint = f"write `{shown_path(consumer.name)}` into {producer.path}/producer-for"
                if producer.producer_for:
                    hint = f"that service writes to `{shown_path(producer.producer_for[0].name)}`; it can have one consumer"
                self.report("R14", consumer, listed, message, hint)

    def edges(self) -> dict[bytes, list[bytes]]:
        """What each service waits for and each bundle or pipeline holds."""
        graph: dict[bytes, list[bytes]] = {}
        for name, definition in self.definitions.items():
            graph[name] = [listed.name for listed in definition.arrows]
        for name, last in self.pipelines.items():
            graph.setdefault(name, []).extend(pipeline_members(last, self.definitions))
        return graph

    def check_cycles(self) -> None:
        graph = self.edges()
        for component in cycles(graph):
            self.report_cycle(way_round(graph, component))

    def report_cycle(self, way: Sequence[bytes]) -> None:
        first = self.definitions.get(way[0]) or self.pipelines[way[0]]
        after = way[1 % len(way)]
        listed = next((each for each in first.arrows if each.name == after), None)
        shown = [shown_path(name) for name in (*way, way[0])]
        if len(shown) > 12:
            shown = [*shown[:6], "…", *shown[-5:]]
        bundles = all(name in self.definitions and self.definitions[name].kind == "bundle" for name in way)
        hint = "remove one of these dependencies"
        if bundles:
            hint = "a bundle cannot hold itself, not even through others"
        elif any(name in (b"top", b"user", b"user2") for name in way):
            hint = "a service cannot wait for the bundle that it is in: depend on single services instead"
        what = "these bundles hold each other" if bundles else "these wait for each other"
        reference = _DOC if bundles else _ISSUE + "602"
        path = f"{first.path}/{shown_path(listed.file)}" if listed is not None else first.path
        line = listed.line if listed is not None else 0
        message = f"{what} in a circle: {' → '.join(shown)}"
        self.findings.append(Finding("R5", "error", path, line, message, hint, reference))


def _check_stack(definitions: Mapping[bytes, Definition], findings: list[Finding]) -> None:
    """The compiler keeps a square of bits, services by services, on its stack, and dies where that does not fit."""
    kinds = [definition.kind for definition in definitions.values()]
    bundles = kinds.count("bundle")
    services = len(kinds) - bundles + 2
    row = (services + 7) // 8
    arrows = sum(len(definition.dependencies) for definition in definitions.values()) + kinds.count("oneshot")
    needed = row * (services + bundles) + 56 * services + 8 * arrows
    if needed <= COMPILER_STACK:
        return
    path = next(iter(definitions.values())).source
    megabytes = -(-needed // (1 << 20)) + 1
    findings.append(
        Finding(
            "R35",
            "warning",
            path,
            0,
            f"{services - 2} services make s6-rc-compile use about {megabytes} MiB of stack: with the usual 8 MiB it crashes",
            f"start the container with a larger stack (`--ulimit stack={megabytes << 20}`), or split the services over containers",
            _DOC,
        )
    )
