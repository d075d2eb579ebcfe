"""YAML as text: every scalar stays the words that the file has, and remembers its place.

YAML's own typing is what breaks such files (`3.20` becomes the number 3.2, `no` becomes false), so it is not used: the
schema gives types. Anchors and merge keys work; a duplicate key is an error. The file is somebody's input: size, depth and
the number of values after aliases are expanded have limits.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sixsmith.errors import Place
from sixsmith.matrix.problems import Problems
from sixsmith.model.spelled import Spelled, SpelledList, SpelledMapping, SpelledTree

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "pack_tree", "read_yaml", "unpack_tree"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 100_000
"""How many values a file may have once its aliases are expanded."""

_PLAIN_TAGS = {"!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq"))}


class _Stop(Exception):
    """The rest of the file cannot be read; the problem is noted."""


def read_yaml(data: bytes, file: str, problems: Problems) -> SpelledTree | None:
    """The one document in `data`, or None when it cannot be read at all (the problem is noted)."""
    if len(data) > MAX_BYTES:
        problems.add(Place(file), f"larger than {MAX_BYTES >> 10} KiB")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add(Place(file, line), "not UTF-8")
        return None

    import yaml  # costs start-up time, and most commands that fail early never need it

    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        reader = _Reader(loader(text), file, problems)
        return reader.document()
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        problems.add(place, f"not YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:
        position = min(getattr(error, "position", 0), len(text))
        character = getattr(error, "character", "?")
        shown = character if isinstance(character, str) else chr(character)
        problems.add(Place(file, text.count("\n", 0, position) + 1), f"a character that YAML does not allow: {shown!r}")
    return None


class _Reader:
    """Builds the tree from the parser's events, which needs no recursion in the parser."""

    def __init__(self, loader: Any, file: str, problems: Problems) -> None:
        self.loader = loader
        self.file = file
        self.problems = problems
        self.anchors: dict[str, tuple[SpelledTree, int]] = {}

    def document(self) -> SpelledTree | None:
        """The tree of the only document; None for an empty file."""
        import yaml

        next_event = self.loader.get_event
        next_event()  # start of the stream
        if isinstance(next_event(), yaml.StreamEndEvent):
            return None
        tree, _ = self._node(next_event(), 0)
        next_event()  # end of the document
        more = next_event()
        if not isinstance(more, yaml.StreamEndEvent):
            self.problems.add(self._place(more), "a second document: one file holds one family")
        return tree

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1)

    def _stop(self, place: Place, message: str) -> _Stop:
        self.problems.add(place, message)
        return _Stop()

    def _node(self, event: Any, depth: int) -> tuple[SpelledTree, int]:
        """The value that starts with `event`, and how many values it holds, itself included."""
        kind = type(event).__name__
        place = self._place(event)
        if kind == "AliasEvent":
            if event.anchor not in self.anchors:
                raise self._stop(place, f"no anchor '&{event.anchor}' before this alias")
            return self.anchors[event.anchor]
        if depth > MAX_DEPTH:
            raise self._stop(place, f"more than {MAX_DEPTH} levels deep")
        if event.tag is not None and event.tag not in _PLAIN_TAGS:
            self.problems.add(place, f"tag '{event.tag}' means nothing here", "write the plain value")
        tree: SpelledTree
        if kind == "ScalarEvent":
            nothing = not event.style and event.value in ("", "~")
            tree, weight = Spelled(event.value, place, nothing), 1
        elif kind == "SequenceStartEvent":
            tree, weight = self._sequence(place, depth)
        else:
            tree, weight = self._mapping(place, depth)
        if weight > MAX_VALUES:
            raise self._stop(place, f"more than {MAX_VALUES} values")
        if event.anchor is not None:
            self.anchors[event.anchor] = (tree, weight)
        return tree, weight

    def _sequence(self, place: Place, depth: int) -> tuple[SpelledList, int]:
        items: list[SpelledTree] = []
        weight = 1
        while type(event := self.loader.get_event()).__name__ != "SequenceEndEvent":
            item, size = self._node(event, depth + 1)
            items.append(item)
            weight += size
        return SpelledList(items, place), weight

    def _mapping(self, place: Place, depth: int) -> tuple[SpelledMapping, int]:
        items: dict[Spelled, SpelledTree] = {}
        merged: list[SpelledMapping] = []
        weight = 1
        while type(event := self.loader.get_event()).__name__ != "MappingEndEvent":
            is_merge = getattr(event, "value", None) == "<<" and not event.style
            key, size = self._node(event, depth + 1)
            value, more = self._node(self.loader.get_event(), depth + 1)
            weight += size + more
            if not isinstance(key, Spelled):
                self.problems.add(key.place, "a key must be a word")
            elif is_merge:
                merged += self._merge_sources(value)
            elif key in items:
                first = next(known for known in items if known == key).place
                self.problems.add(key.place, f"'{key}' stands here twice (first in line {first.line})")
            else:
                items[key] = value
        for source in merged:
            for key, value in source.items():
                items.setdefault(key, value)
        return SpelledMapping(items, place), weight

    def _merge_sources(self, value: SpelledTree) -> list[SpelledMapping]:
        sources = value if isinstance(value, SpelledList) else [value]
        for source in sources:
            if not isinstance(source, SpelledMapping):
                self.problems.add(source.place, "'<<' takes a mapping, or a list of mappings")
        return [source for source in sources if isinstance(source, SpelledMapping)]


# ---- a tree as bytes

_SCALAR, _NOTHING, _SEQUENCE, _MAPPING = range(4)


def pack_tree(tree: SpelledTree) -> bytes:
    """The tree with all its places, but for the file's name, as bytes that `unpack_tree` reads at a tenth of YAML's price."""
    return msgspec.msgpack.encode(_packed(tree))


def unpack_tree(data: bytes, file: str) -> SpelledTree:
    """The tree again, as if it stood in `file`. Raises msgspec.DecodeError for what `pack_tree` never wrote."""
    try:
        return _unpacked(msgspec.msgpack.decode(data), file)
    except (TypeError, ValueError, IndexError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _packed(tree: SpelledTree) -> list[Any]:
    place = tree.place
    if isinstance(tree, Spelled):
        return [_NOTHING if tree.nothing else _SCALAR, place.line, place.column, str(tree)]
    if isinstance(tree, SpelledList):
        return [_SEQUENCE, place.line, place.column, [_packed(item) for item in tree]]
    return [_MAPPING, place.line, place.column, [[_packed(key), _packed(value)] for key, value in tree.items()]]


def _unpacked(packed: list[Any], file: str) -> SpelledTree:
    kind, line, column, content = packed
    place = Place(file, line, column)
    if kind == _MAPPING:
        items: dict[Spelled, SpelledTree] = {}
        for key, value in content:
            spelled = _unpacked(key, file)
            if not isinstance(spelled, Spelled):
                raise TypeError("a key that is no word")
            items[spelled] = _unpacked(value, file)
        return SpelledMapping(items, place)
    if kind == _SEQUENCE:
        return SpelledList([_unpacked(item, file) for item in content], place)
    return Spelled(content, place, kind == _NOTHING)
