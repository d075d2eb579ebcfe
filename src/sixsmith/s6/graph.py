"""Cycles in a directed graph of names, in linear time and without recursion.

s6-rc asks one thing of dependencies, that they have no cycle, and people ask another, which one it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

__all__ = ["cycles", "way_round"]


def cycles(graph: Mapping[bytes, Sequence[bytes]]) -> list[frozenset[bytes]]:
    """The strongly connected components that hold a cycle: more than one node, or one that points at itself.

    Nodes that are pointed at but have no entry of their own are taken as pointing at nothing. Tarjan's algorithm.
    """
    order: dict[bytes, int] = {}
    low: dict[bytes, int] = {}
    path: list[bytes] = []
    on_path: set[bytes] = set()
    found: list[frozenset[bytes]] = []
    for root in graph:
        if root in order:
            continue
        calls = [(root, 0)]
        while calls:
            node, position = calls.pop()
            if position == 0:
                order[node] = low[node] = len(order)
                path.append(node)
                on_path.add(node)
            targets = graph[node]
            while position < len(targets):
                target = targets[position]
                position += 1
                if target in on_path:
                    low[node] = min(low[node], order[target])
                elif target in graph and target not in order:
                    calls += [(node, position), (target, 0)]
                    break
            else:
                if low[node] == order[node]:
                    component = _pop_until(path, on_path, node)
                    if len(component) > 1 or node in targets:
                        found.append(frozenset(component))
                if calls:
                    parent = calls[-1][0]
                    low[parent] = min(low[parent], low[node])
    return found


def _pop_until(path: list[bytes], on_path: set[bytes], node: bytes) -> list[bytes]:
    component = []
    while True:
        member = path.pop()
        on_path.discard(member)
        component.append(member)
        if member == node:
            return component


def way_round(graph: Mapping[bytes, Sequence[bytes]], component: frozenset[bytes]) -> tuple[bytes, ...]:
    """A shortest cycle through the component's first name (in byte order), starting there; the end is not repeated."""
    start = min(component)
    came_from: dict[bytes, bytes] = {}
    todo = deque([start])
    while todo:
        node = todo.popleft()
        for target in graph.get(node, ()):
            if target == start:
                way = [node]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return tuple(reversed(way))
            if target in component and target not in came_from:
                came_from[target] = node
                todo.append(target)
    raise ValueError("the component holds no cycle")
