"""Services for s6-overlay v3: source directories of s6-rc.

Each service is a directory under /etc/s6-overlay/s6-rc.d and an empty file in the bundle that the overlay starts; scripts
of oneshots lie in /etc/s6-overlay/scripts, because `up` and `down` are command lines of execline, not scripts. A log is
three services: a oneshot that makes its folder at each start (it may be a volume), a logger, and the pipeline of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from sixsmith.s6.render_script import (
    Layout,
    RenderedFile,
    Scripts,
    Stop,
    finish_script,
    folder_script,
    logger_script,
    ordinary,
)
from sixsmith.s6.service import Log, Service

__all__ = ["LAYOUT", "SOURCES", "bundle_folder", "render_v3"]

SOURCES = "etc/s6-overlay/s6-rc.d"
LAYOUT = Layout(
    contenv="/command/with-contenv",
    execlineb="/command/execlineb",
    scripts="etc/s6-overlay/scripts",
    change_directory="execline-cd",
)
_BUNDLES_SINCE = (3, 2, 3, 1)
_USER = "user"
_STOP = Stop('echo "$code" > /run/s6-linux-init-container-results/exitcode', "/run/s6/basedir/bin/halt")


def bundle_folder(order: tuple[int, ...], *, old_one_is_there: bool = False) -> str:
    """Where the bundle `user` is, for a release given as numbers.

    3.2.3.1 moved it to user-bundles.d. Later releases use the old place alone when an image has it still.
    """
    moved = order[:4] >= _BUNDLES_SINCE and not (old_one_is_there and order[:4] > _BUNDLES_SINCE)
    return f"etc/s6-overlay/user-bundles.d/{_USER}" if moved else f"{SOURCES}/{_USER}"


def render_v3(services: Sequence[Service], bundle: str) -> tuple[RenderedFile, ...]:
    """All files, with the folder `bundle` as the bundle that is started. Directories come before what is in them."""
    files: list[RenderedFile] = []
    pipes = _pipes(services)
    started: list[str] = []
    for service in services:
        if service.kind == "longrun":
            files += _longrun(service, pipes)
        elif service.kind == "oneshot":
            files += _oneshot(service)
        elif service.kind == "bundle":
            files += _source(service.name, "bundle", contents=service.contents)
        name = _started(service, pipes)
        started += [name] if name is not None else []
    files += _source("", "bundle", contents=started, folder=bundle)
    return tuple(files)


class _Pipe(msgspec.Struct):
    """A longrun's place in a pipeline: whom it reads, whom it writes to, and the pipeline's name if it is the last."""

    producer: str | None = None
    consumer: str | None = None
    name: str | None = None


def _pipes(services: Sequence[Service]) -> dict[str, _Pipe]:
    """The place of each longrun that is joined to another, loggers among them."""
    pipelines = {service.name: list(service.contents) for service in services if service.kind == "pipeline"}
    ends = {members[-1]: members for members in pipelines.values() if members}
    for service in services:
        if service.log is not None:
            members = ends.get(service.name) or pipelines.setdefault(f"{service.name}-pipeline", [service.name])
            members.append(f"{service.name}-log")
    pipes: dict[str, _Pipe] = {}
    for name, members in pipelines.items():
        for producer, consumer in pairwise(members):
            pipes.setdefault(producer, _Pipe()).consumer = consumer
            pipes.setdefault(consumer, _Pipe()).producer = producer
        if members:
            pipes.setdefault(members[-1], _Pipe()).name = name
    return pipes


def _started(service: Service, pipes: Mapping[str, _Pipe]) -> str | None:
    """What the bundle `user` holds for a service; a member of a pipeline is there through that."""
    if service.name not in pipes:
        return service.name
    logger = pipes.get(f"{service.name}-log")
    own = f"{service.name}-pipeline"
    return own if logger is not None and logger.name == own else None


def _source(
    name: str,
    kind: str,
    *,
    needs: Sequence[str] = (),
    contents: Sequence[str] | None = None,
    files: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> Iterator[RenderedFile]:
    """A source directory: its type, its names as empty files, and small files of one line each."""
    folder = folder or f"{SOURCES}/{name}"
    yield RenderedFile(folder, "directory", 0o755)
    yield ordinary(f"{folder}/type", f"{kind}\n")
    listed = {"dependencies.d": tuple(needs)} if needs else {}
    if contents is not None:
        listed["contents.d"] = tuple(contents)
    for directory, names in listed.items():
        yield RenderedFile(f"{folder}/{directory}", "directory", 0o755)
        for each in sorted(dict.fromkeys(names)):
            yield ordinary(f"{folder}/{directory}/{each}", "")
    for file, text in (files or {}).items():
        yield ordinary(f"{folder}/{file}", f"{text}\n")


def _needs(service: Service, *more: str) -> list[str]:
    """Dependencies: `base` is implied, so that the environment is set up before anything of ours."""
    return ["base", *(str(name) for name in service.needs), *more]


def _timeouts(service: Service) -> dict[str, str]:
    """Timeouts as files; s6-rc's are the first two, s6-supervise's the others."""
    times = service.timeout
    values = {"up": times.up, "down": times.down, "kill": times.kill, "finish": times.finish}
    return {f"timeout-{name}": str(value) for name, value in values.items() if value is not None}


# --- oneshots ----------------------------------------------------------------------------------------------------


def _oneshot(service: Service) -> Iterator[RenderedFile]:
    scripts = Scripts(service, LAYOUT)
    small = _timeouts(service)
    for name, program in (("up", service.up), ("down", service.down)):
        if program is None:
            continue
        path = f"{LAYOUT.scripts}/{service.name}.{name}"
        text = scripts.program(program, f"{name}.script")
        scripts.files.append(ordinary(path, text, 0o755))
        small[name] = f"/{path}"
    small.setdefault("up", "")  # a oneshot without `up` is refused; an empty one does nothing
    yield from _source(service.name, "oneshot", needs=_needs(service), files=small)
    yield from scripts.files


# --- longruns ----------------------------------------------------------------------------------------------------


def _longrun(service: Service, pipes: Mapping[str, _Pipe]) -> Iterator[RenderedFile]:
    assert service.run is not None
    folder = f"{SOURCES}/{service.name}"
    scripts = Scripts(service, LAYOUT)
    pipe = pipes.get(service.name) or _Pipe()
    small = _timeouts(service)
    if service.ready is not None:
        small["notification-fd"] = str(service.ready.fd)
    if service.down_signal is not None:
        small["down-signal"] = service.down_signal
    if pipe.consumer is not None:
        small["producer-for"] = pipe.consumer
    if pipe.producer is not None:
        small["consumer-for"] = pipe.producer
    if pipe.name is not None:
        small["pipeline-name"] = pipe.name
    yield from _source(service.name, "longrun", needs=_needs(service), files=small)
    merge = service.log is not None and service.log.stderr
    yield ordinary(f"{folder}/run", scripts.program(service.run, "run", merge_stderr=merge), 0o755)
    finish = finish_script(service, scripts, _STOP)
    if finish is not None:
        yield ordinary(f"{folder}/finish", finish, 0o755)
    if service.ready is not None and service.ready.check is not None:
        yield RenderedFile(f"{folder}/data", "directory", 0o755)
        yield ordinary(f"{folder}/data/check", scripts.check(service.ready), 0o755)
    yield from scripts.files
    if service.log is not None:
        yield from _logger(service, service.log, pipes[f"{service.name}-log"].name or "")


def _logger(service: Service, log: Log, pipeline: str) -> Iterator[RenderedFile]:
    """The logger of a service, and the oneshot that makes its folder."""
    name = f"{service.name}-log"
    small = {"notification-fd": "3", "consumer-for": service.name, "pipeline-name": pipeline}
    needs = ["base", f"{name}-prepare"]
    yield from _source(name, "longrun", needs=needs, files=small)
    yield ordinary(f"{SOURCES}/{name}/run", logger_script(log, LAYOUT, ["-d3"]), 0o755)
    path = f"{LAYOUT.scripts}/{name}-prepare.up"
    yield from _source(f"{name}-prepare", "oneshot", needs=["base"], files={"up": f"/{path}"})
    yield ordinary(path, folder_script(log), 0o755)
