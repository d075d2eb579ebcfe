"""In which order apk discovers names, found without looking at packages closer than needed.

apk walks depth first: from each name to the dependencies of its providers, then to whatever has one of their names in
`install_if`. The walk may cross most of an index (a thousand packages wait for `openrc`), and all that a selection wants
of it is which of two names is finished later. So this walk reads three lines of each record and makes no objects; it is
taken only when a selection has a real choice to make.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from sixsmith.apk.index import PackageIndex

__all__ = ["discovery_order"]


def discovery_order(
    world: Iterable[str],
    sources: Sequence[PackageIndex],
    awaited: Container[str],
    in_table_order: Callable[[Iterable[str]], list[str]],
) -> dict[str, int]:
    """A number for each name that can be reached from `world`; the higher, the later apk has finished with it.

    `awaited` has every name that a package of the sources has in `install_if`.
    """
    return _Walk(sources, awaited, in_table_order).run(world)


_Place = tuple[int, int]
"""A record: the number of its index, and where it is in that."""


class _Walk:
    def __init__(
        self,
        sources: Sequence[PackageIndex],
        awaited: Container[str],
        in_table_order: Callable[[Iterable[str]], list[str]],
    ) -> None:
        self.sources = sources
        self.awaited = awaited
        self.in_table_order = in_table_order
        self.waiting: dict[str, list[str]] = {}
        self.seen: set[str] = set()
        self.met: set[_Place] = set()
        self.exhausted: set[_Place] = set()
        self.finished: dict[str, int] = {}

    def run(self, world: Iterable[str]) -> dict[str, int]:
        seen = self.seen
        for start in world:
            if start in seen:
                continue
            seen.add(start)
            stack = [(start, self.visit(start))]
            while stack:
                name, visit = stack[-1]
                for following in visit:
                    if following not in seen:
                        seen.add(following)
                        stack.append((following, self.visit(following)))
                        break
                else:
                    stack.pop()
                    self.finished[name] = len(self.finished) + 1
        return self.finished

    def visit(self, name: str) -> Iterator[str]:
        awaited = self.awaited
        found: list[_Place] = []
        for number, index in enumerate(self.sources):
            for place in index.providing(name):
                found.append((number, place))
                if (number, place) not in self.met:
                    self.met.add((number, place))
                    yield from index.links(place)[1]
        for key in found:
            if key in self.exhausted:
                continue
            own, _, offered = self.sources[key[0]].links(key[1])
            if own in awaited:
                yield from self.awaiting(own)
            for text in offered:
                if text in awaited and text not in self.seen:
                    yield from self.awaiting(text)
            self.exhausted.add(key)

    def awaiting(self, name: str) -> list[str]:
        names = self.waiting.get(name)
        if names is None:
            texts: set[str] = set()
            for index in self.sources:
                for place in index.awaiting(name):
                    own, _, offered = index.links(place)
                    texts.add(own)
                    texts.update(offered)
            names = self.waiting[name] = self.in_table_order(texts) if texts else []
        return names
