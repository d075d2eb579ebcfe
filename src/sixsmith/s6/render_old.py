"""Services for s6-overlay v1 and v2: services.d, cont-init.d and cont-finish.d.

These overlays run all scripts of cont-init.d one after the other, then start all services at once; at the end they run
the scripts of cont-finish.d. So oneshots become numbered scripts in the order of their dependencies, longruns become service
directories, and a logger is the `log` folder of its service. There is nothing that waits for a service, so what asks for
that is an error here (`can_express`) and says what to do instead.

Sources: init-stage2 and init-stage3 of 1.21.4.0 and 2.1.0.2; which files s6-supervise reads is taken from its programs there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from sixsmith.errors import Place
from sixsmith.s6.finding import Finding, Severity
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
from sixsmith.s6.service import Service, by_name

__all__ = ["can_express", "old_layout", "render_old"]

_SERVICES = "etc/services.d"
_STOP = Stop(
    'printf %s "$code" > /var/run/s6/env-stage3/S6_STAGE2_EXITED',
    "s6-svscanctl -t /var/run/s6/services",
)
_TAKE_V3 = "take s6-overlay v3 for this image"
_SINCE_DOWN_SIGNAL = (2,)
"""`down-signal` is read by s6-supervise of 2.1.0.2 and not by that of 1.21.4.0."""
_SINCE_CHECKS = (1, 21)
"""s6-notifyoncheck came with s6 2.6.1, `timeout-kill` with 2.5.1, a `finish` that exits 125 with 2.5.0."""


def old_layout(order: tuple[int, ...], *, su_exec: bool = False) -> Layout:
    """The layout of a v1 or v2 release; `su_exec` when the image has that program."""
    return Layout(
        contenv="/usr/bin/with-contenv",
        execlineb="/usr/bin/execlineb",
        scripts="etc/s6/scripts",
        change_directory="cd" if order[0] < 2 else "execline-cd",
        su_exec=su_exec,
    )


def render_old(services: Sequence[Service], layout: Layout) -> tuple[RenderedFile, ...]:
    """All files; what cannot be expressed is left out (`can_express` tells of it)."""
    consumers = _consumers(services)
    named = by_name(services)
    files: list[RenderedFile] = []
    for service in services:
        if service.kind == "longrun" and service.name not in consumers.values():
            consumer = named.get(consumers.get(service.name, ""))
            files += _longrun(service, consumer, layout)
    oneshots = in_start_order(services)
    prepares = [service for service in services if service.log is not None]
    scripts = [(f"{service.name}-log-prepare", folder_script(service.log)) for service in prepares if service.log]
    downs: list[tuple[str, str]] = []
    for service in oneshots:
        renderer = Scripts(service, layout)
        if service.up is not None:
            scripts.append((service.name, renderer.program(service.up, "up")))
        if service.down is not None:
            downs.append((service.name, renderer.program(service.down, "down")))
        files += renderer.files
    files += _numbered("etc/cont-init.d", scripts)
    files += _numbered("etc/cont-finish.d", downs[::-1])
    return tuple(files)


def _numbered(folder: str, scripts: Sequence[tuple[str, str]]) -> Iterator[RenderedFile]:
    """Scripts whose names sort in their order."""
    if not scripts:
        return
    yield RenderedFile(folder, "directory", 0o755)
    width = max(2, len(str(len(scripts) + 9)))
    first = 10 ** (width - 1)
    for number, (name, text) in enumerate(scripts, first):
        yield ordinary(f"{folder}/{number}-{name}", text, 0o755)


def _longrun(service: Service, consumer: Service | None, layout: Layout) -> Iterator[RenderedFile]:
    folder = f"{_SERVICES}/{service.name}"
    yield RenderedFile(folder, "directory", 0o755)
    yield from _service_files(service, folder, layout)
    if consumer is None and service.log is None:
        return
    yield RenderedFile(f"{folder}/log", "directory", 0o755)
    if consumer is not None:
        yield from _service_files(consumer, f"{folder}/log", layout)
    elif service.log is not None:
        yield ordinary(f"{folder}/log/run", logger_script(service.log, layout), 0o755)


def _service_files(service: Service, folder: str, layout: Layout) -> Iterator[RenderedFile]:
    """What a service directory holds."""
    assert service.run is not None
    scripts = Scripts(service, layout)
    merge = service.log is not None and service.log.stderr
    yield ordinary(f"{folder}/run", scripts.program(service.run, "run", merge_stderr=merge), 0o755)
    finish = finish_script(service, scripts, _STOP)
    if finish is not None:
        yield ordinary(f"{folder}/finish", finish, 0o755)
    if service.ready is not None:
        yield ordinary(f"{folder}/notification-fd", f"{service.ready.fd}\n")
        if service.ready.check is not None:
            yield RenderedFile(f"{folder}/data", "directory", 0o755)
            yield ordinary(f"{folder}/data/check", scripts.check(service.ready), 0o755)
    if service.down_signal is not None:
        yield ordinary(f"{folder}/down-signal", f"{service.down_signal}\n")
    for name, value in (("kill", service.timeout.kill), ("finish", service.timeout.finish)):
        if value is not None:
            yield ordinary(f"{folder}/timeout-{name}", f"{value}\n")
    yield from scripts.files


def in_start_order(services: Sequence[Service]) -> list[Service]:
    """The oneshots, each behind those that it needs, else in the file's order."""
    named = by_name(services)
    done: dict[str, Service] = {}
    for service in services:
        todo = [(service, False)]
        while todo:
            current, needs_are_done = todo.pop()
            if current.name in done:
                continue
            if needs_are_done:
                done[current.name] = current
                continue
            todo.append((current, True))
            needed = [named[name] for name in (*current.needs, *current.contents) if name in named]
            todo += [(each, False) for each in reversed(needed) if each.name not in done]
    return [service for service in done.values() if service.kind == "oneshot"]


def _consumers(services: Iterable[Service]) -> dict[str, str]:
    """Who reads whom, in pipelines of two: all that these overlays have."""
    return {
        str(service.contents[0]): str(service.contents[1])
        for service in services
        if service.kind == "pipeline" and len(service.contents) == 2
    }


class _Lost(Protocol):
    def __call__(self, place: Place, message: str, hint: str, severity: Severity = "error") -> Finding: ...


# --- what cannot be said -----------------------------------------------------------------------------------------


def can_express(services: Sequence[Service], version: str, order: tuple[int, ...]) -> Iterator[Finding]:
    """Everything in the services that this release has no way to do, as errors; what is weaker than in v3, as advice."""
    release = f"s6-overlay {version.removeprefix('v')}"
    named = by_name(services)

    def lost(place: Place, message: str, hint: str, severity: Severity = "error") -> Finding:
        rule = "X1" if severity == "error" else "X3"
        return Finding(rule, severity, place.file, place.line, f"{message} ({release})", hint)

    for service in services:
        for name in service.needs:
            reason = _why_no_wait(service, str(name), named)
            if reason is not None:
                place = getattr(name, "place", None) or service.at("needs")
                yield lost(place, f"'{service.name}' cannot wait for '{name}': {reason}", _how_to_wait(service))
        yield from _lost_timeouts(service, order, lost)
        yield from _lost_features(service, order, lost)
        if service.kind == "pipeline":
            yield from _lost_pipeline(service, named, lost)
    yield from _weaker(services, named, lost)


def _members(name: str, named: Mapping[str, Service]) -> Iterator[Service]:
    """The service of this name, or all that the bundle or pipeline holds, to the end."""
    todo, seen = [name], set()
    while todo:
        current = named.get(todo.pop())
        if current is None or current.name in seen:
            continue
        seen.add(current.name)
        if current.kind in ("bundle", "pipeline"):
            todo += [str(each) for each in current.contents]
        else:
            yield current


def _why_no_wait(service: Service, name: str, named: Mapping[str, Service]) -> str | None:
    """Why this dependency means nothing here, or None where cont-init.d gives it anyway."""
    if name in ("base", "fix-attrs", "legacy-cont-init") or name.endswith("-log-prepare"):
        return None
    if name not in named:
        return "all services start at once" if service.kind == "longrun" else "services start after all scripts"
    longrun = next((each.name for each in _members(name, named) if each.kind == "longrun"), None)
    if longrun is None:
        return None
    if service.kind == "oneshot":
        return f"'{longrun}' starts only after all oneshots are done"
    return "all longruns start at once"


def _how_to_wait(service: Service) -> str:
    if service.kind == "oneshot":
        return f"do it in a longrun, or {_TAKE_V3}"
    return f"wait in its 'run' (s6-svwait -U /var/run/s6/services/NAME), or {_TAKE_V3}"


def _lost_timeouts(service: Service, order: tuple[int, ...], lost: _Lost) -> Iterator[Finding]:
    for key, value in (("up", service.timeout.up), ("down", service.timeout.down)):
        if value is not None:
            message = f"'{service.name}': 'timeout.{key}' is not known"
            hint = "say it to the program itself"
            if key == "up" and service.kind == "longrun":
                hint = (
                    "S6_CMD_WAIT_FOR_SERVICES_MAXTIME in the image's env limits the waiting for all services together"
                )
            elif key == "down" and service.kind == "longrun":
                hint = "'timeout.kill' kills the program when it does not stop in time"
            yield lost(service.at("timeout"), message, f"{hint}, or {_TAKE_V3}")
    for key, value in (("kill", service.timeout.kill), ("finish", service.timeout.finish)):
        if value is not None and (service.kind != "longrun" or order < _SINCE_CHECKS):
            message = f"'{service.name}': 'timeout.{key}' is not known"
            yield lost(service.at("timeout"), message, f"remove it, or {_TAKE_V3}")


def _lost_features(service: Service, order: tuple[int, ...], lost: _Lost) -> Iterator[Finding]:
    if service.down_signal is not None and order < _SINCE_DOWN_SIGNAL:
        message = f"'{service.name}': the signal that stops a service is always SIGTERM"
        yield lost(service.at("down-signal"), message, "turn the signal around in 'run', or take s6-overlay v2 or v3")
    if order < _SINCE_CHECKS and service.ready is not None and service.ready.check is not None:
        message = f"'{service.name}': readiness cannot be checked from outside"
        yield lost(service.at("ready"), message, "remove 'check', or take s6-overlay 1.21 or later")
    if order < _SINCE_CHECKS and service.on_exit.action != "restart":
        message = f"'{service.name}': a service that ends is always started again"
        yield lost(service.at("on-exit"), message, "remove 'on-exit', or take s6-overlay 1.21 or later")


def _lost_pipeline(pipeline: Service, named: Mapping[str, Service], lost: _Lost) -> Iterator[Finding]:
    if len(pipeline.contents) > 2:
        message = f"the pipeline '{pipeline.name}' joins {len(pipeline.contents)} longruns: only a service and its reader can be joined"
        yield lost(pipeline.at("contents"), message, f"join them in one 'run', or {_TAKE_V3}")
    last = named.get(str(pipeline.contents[-1])) if pipeline.contents else None
    if last is not None and last.log is not None:
        message = f"'{last.name}' reads another service, and cannot have a log of its own"
        yield lost(last.at("log"), message, f"let it write its log itself, or {_TAKE_V3}")


def _weaker(services: Sequence[Service], named: Mapping[str, Service], lost: _Lost) -> Iterator[Finding]:
    """What works, but holds less than with v3."""
    needed = {
        each.name: service for service in services for name in service.needs for each in _members(str(name), named)
    }
    for service in services:
        if service.kind != "oneshot" or service.name not in needed:
            continue
        other = needed[service.name]
        message = f"'{other.name}' starts even when '{service.name}' fails"
        yield lost(
            service.place, message, "S6_BEHAVIOUR_IF_STAGE2_FAILS=2 in the image's env stops the container then", "info"
        )
        if service.down is not None:
            message = f"'down' of '{service.name}' may run while '{other.name}' is still up"
            yield lost(service.at("down"), message, f"{_TAKE_V3} where the order matters", "info")
