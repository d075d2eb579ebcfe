"""How settings meet: defaults, then the image, then the cell. A word wins, a list adds, a mapping merges.

Four lists are choices rather than collections and are replaced: `arch`, `entrypoint`, `cmd` and `repositories`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sixsmith.matrix.schema import BUILD, EACH, SETTINGS

__all__ = ["Settings", "inherited", "merged"]

Settings = Mapping[str, Any]


def merged(*layers: Settings) -> dict[str, Any]:
    """All layers as one, later ones over earlier ones."""
    result: dict[str, Any] = {}
    for layer in layers:
        if "tag" in layer or "tags" in layer:  # two spellings of one thing
            result.pop("tag", None)
            result.pop("tags", None)
        for name, value in layer.items():
            result[name] = _meet(SETTINGS[name].merge, result[name], value) if name in result else value
    return result


def inherited(defaults: Settings, parent: Settings) -> dict[str, Any]:
    """What a child image starts from: how its parent was made, and the defaults that every image is asked for.

    What the parent's image already holds (packages, env, files, …) is not said again.
    """
    start = {name: value for name, value in parent.items() if SETTINGS[name].inherit == BUILD}
    start |= {name: value for name, value in defaults.items() if SETTINGS[name].inherit == EACH}
    return start


def _meet(rule: str, old: Any, new: Any) -> Any:
    if rule == "add":
        return list(dict.fromkeys([*old, *new])) if _hashable(old, new) else [*old, *new]
    if rule == "merge":
        return _mapping(old) | _mapping(new) if isinstance(new, Mapping) else new
    if rule == "files":
        paths = {entry.path for entry in new}
        return [entry for entry in old if entry.path not in paths] + list(new)
    if rule == "lists":
        return {kind: [*old.get(kind, ()), *new.get(kind, ())] for kind in (old | new)}
    if rule == "services" and isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **new}
    return new


def _hashable(*lists: list[Any]) -> bool:
    return all(isinstance(item, str) for items in lists for item in items)


def _mapping(value: Any) -> dict[str, Any]:
    """`scripts: skip` means the same as `scripts: {default: skip}`."""
    return dict(value) if isinstance(value, Mapping) else {"default": value}
