"""The start order of services as a value: levels, who waits for whom, the critical path.

A chart is what the pictures draw. It is made of the family file's services or of source directories, and means the same in
both: names of bundles are resolved to their members, a producer waits for its consumer, what is implied by other waits
is left out, and the loggers that only keep one service's log are told as part of that service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import msgspec
from msgspec.structs import replace

from sixsmith.errors import UsageError
from sixsmith.s6.compile import OVERLAY_SERVICES
from sixsmith.s6.definitions import Definition, pipeline_members
from sixsmith.s6.finding import shown_path
from sixsmith.s6.graph import cycles, way_round
from sixsmith.s6.service import Service

__all__ = ["Chart", "Mark", "chart_of_definitions", "chart_of_services"]

_UNSEEN = {name.decode() for name in OVERLAY_SERVICES}


class Mark(msgspec.Struct, frozen=True):
    """One service in a chart. `waits` are names of marks, `reads` the producers that it reads; `timeout` is that for
    starting, in milliseconds, 0 for none. `log` says where a logger of its own keeps its output."""

    name: str
    kind: str
    waits: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    ready: str = ""
    timeout: int = 0
    log: str = ""
    stops: bool = False


class Chart(msgspec.Struct, frozen=True, dict=True):
    """Marks by name in a fixed order, and the bundles and pipelines with their members."""

    marks: Mapping[str, Mark]
    bundles: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    pipelines: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Names so that each stands behind all that it waits for, by level, then as given. Raises UsageError for a circle."""
        levels = self.levels
        return tuple(sorted(self.marks, key=lambda name: levels[name]))

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """1 for what waits for nothing, else one more than the highest that it waits for."""
        found: dict[str, int] = {}
        for root in self.marks:
            todo = [root]
            entered: set[str] = set()
            while todo:
                name = todo[-1]
                left = [other for other in self.marks[name].waits if other not in found]
                if name in found or not left:
                    found.setdefault(name, 1 + max((found[other] for other in self.marks[name].waits), default=0))
                    todo.pop()
                elif name in entered:
                    raise self.circle()
                else:
                    entered.add(name)
                    todo += left
        return found

    def circle(self) -> UsageError:
        graph = {name.encode(): [other.encode() for other in mark.waits] for name, mark in self.marks.items()}
        way = [name.decode() for name in way_round(graph, cycles(graph)[0])]
        shown = " → ".join([*way, way[0]])
        return UsageError(f"there is no start order: {shown} wait for each other", hint="`sixsmith services check`")

    @cached_property
    def arrows(self) -> tuple[tuple[str, str], ...]:
        """Pairs (first, later): the waits without those that others imply, in order. Both ends of a pipe always are one."""
        number = {name: place for place, name in enumerate(self.order)}
        before: dict[str, int] = {}
        kept = []
        for name in self.order:
            waits = sorted(self.marks[name].waits, key=lambda other: number[other], reverse=True)
            reach = 0
            for other in waits:
                if not reach >> number[other] & 1 or name in self.marks[other].reads:
                    kept.append((other, name))
                    reach |= before[other] | 1 << number[other]
            before[name] = reach
        return tuple(sorted(kept, key=lambda arrow: (number[arrow[0]], number[arrow[1]])))

    @cached_property
    def critical_path(self) -> tuple[str, ...]:
        """The chain whose timeouts for starting add up to the most; among those, the one of most services."""
        best: dict[str, tuple[int, int]] = {}
        came: dict[str, str] = {}
        for name in self.order:
            mark = self.marks[name]
            before = max(mark.waits, key=lambda other: best[other], default=None)
            sums = best[before] if before is not None else (0, 0)
            if before is not None:
                came[name] = before
            best[name] = (sums[0] + mark.timeout, sums[1] + 1)
        if not best:
            return ()
        way = [max(self.order, key=lambda name: best[name])]
        while way[-1] in came:
            way.append(came[way[-1]])
        return tuple(reversed(way))

    @property
    def critical_time(self) -> int | None:
        """Milliseconds after which the critical path has started or failed; None when a part of it may take for ever."""
        times = [self.marks[name].timeout for name in self.critical_path]
        return sum(times) if times and all(times) else None


# --- from the family file ----------------------------------------------------------------------------------------


def chart_of_services(services: Sequence[Service]) -> Chart:
    """The chart of a family file's services."""
    named = {service.name: service for service in services}
    consumers: dict[str, str] = {}
    for service in services:
        if service.kind == "pipeline":
            consumers |= dict(pairwise(str(name) for name in service.contents))
    bundles = {s.name: _members(s.name, named) for s in services if s.kind == "bundle"}
    pipelines = {s.name: tuple(str(name) for name in s.contents) for s in services if s.kind == "pipeline"}
    marks = {}
    for service in services:
        if service.kind in ("bundle", "pipeline"):
            continue
        waits = [each for name in service.needs for each in _members(str(name), named)]
        if service.name in consumers:
            waits.append(consumers[service.name])
        ready = ""
        if service.ready is not None:
            ready = "check" if service.ready.check is not None else f"fd {service.ready.fd}"
        marks[service.name] = Mark(
            service.name,
            service.kind,
            tuple(dict.fromkeys(waits)),
            tuple(producer for producer, consumer in consumers.items() if consumer == service.name),
            ready,
            service.timeout.up or 0,
            service.log.to if service.log is not None else "",
            service.on_exit.action == "stop-container",
        )
    return _closed(marks, bundles, pipelines)


def _members(name: str, named: Mapping[str, Service]) -> tuple[str, ...]:
    """The service of this name, or everything in the bundle or pipeline of this name."""
    found: dict[str, None] = {}
    todo, seen = [name], set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        service = named.get(current)
        if service is not None and service.kind in ("bundle", "pipeline"):
            todo += [str(each) for each in reversed(service.contents)]
        else:
            found[current] = None
    return tuple(found)


def _closed(
    marks: Mapping[str, Mark], bundles: Mapping[str, tuple[str, ...]], pipelines: Mapping[str, tuple[str, ...]]
) -> Chart:
    """The chart without names that are not in it: the overlay's own, loggers, services of a parent image."""
    kept = {
        name: replace(
            mark,
            waits=tuple(other for other in mark.waits if other in marks and other != name),
            reads=tuple(other for other in mark.reads if other in marks),
        )
        for name, mark in marks.items()
    }

    def inside(groups: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {name: tuple(each for each in members if each in marks) for name, members in groups.items()}

    return Chart(kept, inside(bundles), inside(pipelines))


# --- from source directories -------------------------------------------------------------------------------------


def chart_of_definitions(definitions: Mapping[bytes, Definition], *, whole: bool = False) -> Chart:
    """The chart of source directories, without the overlay's own services. `whole` shows loggers as services, too."""
    groups: dict[bytes, list[bytes]] = {}
    pipelines: dict[str, tuple[str, ...]] = {}
    for name, one in definitions.items():
        if one.kind == "bundle":
            groups[name] = [listed.name for listed in one.contents]
        for listed in one.pipeline_name:
            members = pipeline_members(one, definitions)[::-1]
            groups[listed.name] = members
            pipelines[shown_path(listed.name)] = tuple(shown_path(member) for member in members)
    marks = {}
    for name, one in definitions.items():
        if one.kind not in ("longrun", "oneshot") or shown_path(name) in _UNSEEN:
            continue
        waits = [each for listed in one.dependencies + one.producer_for for each in _resolved(listed.name, groups)]
        check = one.entry.children.get(b"data")
        ready = f"fd {one.notification_fd}" if one.notification_fd is not None else ""
        if ready and check is not None and b"check" in check.children:
            ready = "check"
        finish = one.entry.children.get(b"finish")
        marks[shown_path(name)] = Mark(
            shown_path(name),
            one.kind,
            tuple(dict.fromkeys(shown_path(each) for each in waits)),
            tuple(shown_path(listed.name) for listed in one.consumer_for),
            ready,
            one.timeout_up,
            stops=finish is not None and b"/run/s6/basedir/bin/halt" in finish.content,
        )
    bundles = {
        shown_path(name): tuple(shown_path(each) for each in _resolved(name, groups))
        for name, one in definitions.items()
        if one.kind == "bundle" and shown_path(name) not in _UNSEEN
    }
    chart = _closed(marks, bundles, pipelines)
    return chart if whole else _without_loggers(chart)


def _resolved(name: bytes, groups: Mapping[bytes, Iterable[bytes]]) -> tuple[bytes, ...]:
    found: dict[bytes, None] = {}
    todo, seen = [name], set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in groups:
            todo += reversed(list(groups[current]))
        else:
            found[current] = None
    return tuple(found)


def _without_loggers(chart: Chart) -> Chart:
    """Loggers of one service and the oneshots that only they wait for become part of that service."""
    waited: dict[str, set[str]] = {}
    for mark in chart.marks.values():
        for name in mark.waits:
            waited.setdefault(name, set()).add(mark.name)
    gone: set[str] = set()
    logs: dict[str, str] = {}
    for mark in chart.marks.values():
        if len(mark.reads) == 1 and mark.name == f"{mark.reads[0]}-log" and waited.get(mark.name) == {mark.reads[0]}:
            gone.add(mark.name)
            logs[mark.reads[0]] = mark.name
    for mark in chart.marks.values():
        if mark.kind == "oneshot" and mark.name in waited and waited[mark.name] <= gone:
            gone.add(mark.name)
    marks = {name: replace(mark, log=logs.get(name, "")) for name, mark in chart.marks.items() if name not in gone}
    pipelines = {name: members for name, members in chart.pipelines.items() if not gone.intersection(members)}
    return _closed(marks, chart.bundles, pipelines)
