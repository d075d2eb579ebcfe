"""Shapes: what a value in the file may look like.

A shape reads a value (noting problems) and describes itself as JSON Schema, so that the schema that editors use and the one
that sixsmith enforces are the same thing. `WRONG` stands for a value whose problem is noted already; whoever gets it leaves
the value out and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from sixsmith.errors import Place, UsageError, nearest
from sixsmith.matrix.problems import Problems
from sixsmith.model.spelled import Spelled, SpelledList, SpelledMapping, SpelledTree

__all__ = [
    "WRONG",
    "Anything",
    "Choice",
    "Either",
    "Flag",
    "Items",
    "Named",
    "Record",
    "Shape",
    "Table",
    "Text",
    "Values",
    "kind_of",
]

Json = dict[str, Any]


class _Wrong:
    def __repr__(self) -> str:
        return "WRONG"


WRONG: Final = _Wrong()


class Values(dict[str, Any]):
    """The values of a record; `wrong` names the keys whose value could not be read."""

    __slots__ = ("wrong",)

    wrong: frozenset[str]


class Shape(Protocol):
    """Reads a value, and describes what it accepts."""

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        """The typed value, or WRONG."""

    def json(self) -> Json:
        """The same as JSON Schema (draft 2020-12)."""


def kind_of(tree: SpelledTree) -> str:
    """What a person would call it."""
    if isinstance(tree, SpelledMapping):
        return "a mapping"
    if isinstance(tree, SpelledList):
        return "a list"
    return "nothing" if tree.nothing else f"'{_short(tree)}'"


def _short(text: str) -> str:
    line = text.strip().split("\n")[0]
    return line if len(line) <= 40 and line == text else f"{line[:37]}…"


class Text:
    """A scalar. `parse` turns it into a value and raises ValueError with what is wrong; None keeps the words.

    `pattern` and `known` (all the words there are) are for the JSON Schema; `parse` decides.
    """

    def __init__(
        self,
        what: str,
        parse: Callable[[Spelled], Any] | None = None,
        pattern: str | None = None,
        empty: bool = False,
        known: Iterable[str] | None = None,
    ) -> None:
        self.what = what
        self.parse = parse
        self.pattern = pattern
        self.empty = empty
        self.known = known

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        if not isinstance(tree, Spelled) or tree.nothing or (not tree and not self.empty):
            problems.add(tree.place, f"expected {self.what}, found {kind_of(tree)}")
            return WRONG
        if "\0" in tree:
            problems.add(tree.place, f"a NUL character in {self.what}")
            return WRONG
        if self.parse is None:
            return tree
        try:
            return self.parse(tree)
        except ValueError as error:
            problems.add(tree.place, str(error))
        except UsageError as error:
            problems.add_error(tree.place, error)
        return WRONG

    def json(self) -> Json:
        if self.known is not None:
            return {"enum": list(self.known)}
        schema: Json = {"type": ["string", "number", "boolean"]}
        if self.pattern is not None:
            schema = {"type": ["string", "number"], "pattern": self.pattern}
        elif not self.empty:
            schema["minLength"] = 1
        return schema


class Named:
    """A shape that the JSON Schema describes once, under `$defs`."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name = name
        self.shape = shape

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        return self.shape.read(tree, problems)

    def json(self) -> Json:
        return {"$ref": f"#/$defs/{self.name}"}


class Choice:
    """One of a few words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        if isinstance(tree, Spelled) and tree in self.words:
            return str(tree)
        one_of = ", ".join(self.words)
        hint = nearest(tree, self.words) if isinstance(tree, Spelled) else None
        problems.add(tree.place, f"expected one of {one_of}; found {kind_of(tree)}", hint)
        return WRONG

    def json(self) -> Json:
        return {"enum": list(self.words)}


class Flag:
    """true or false."""

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        if isinstance(tree, Spelled) and tree in ("true", "false"):
            return tree == "true"
        problems.add(tree.place, f"expected true or false, found {kind_of(tree)}")
        return WRONG

    def json(self) -> Json:
        return {"type": "boolean"}


class Anything:
    """Read as it stands; another room knows its shape, and may describe it."""

    def __init__(self, described: Callable[[], Json] | None = None) -> None:
        self.described = described

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        return tree

    def json(self) -> Json:
        return self.described() if self.described is not None else {}


class Items:
    """A list of one shape. With `lone`, a single value stands for a list of one."""

    def __init__(self, item: Shape, what: str, lone: bool = False, least: int = 0) -> None:
        self.item = item
        self.what = what
        self.lone = lone
        self.least = least

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        if not isinstance(tree, SpelledList):
            if self.lone and not (isinstance(tree, Spelled) and tree.nothing):
                value = self.item.read(tree, problems)
                return WRONG if value is WRONG else [value]
            hint = f"[{tree}]" if isinstance(tree, Spelled) and tree and "\n" not in tree else None
            problems.add(tree.place, f"expected {self.what}, found {kind_of(tree)}", f"write {hint}" if hint else None)
            return WRONG
        if len(tree) < self.least:
            problems.add(tree.place, f"expected {self.what}, found an empty list")
            return WRONG
        return [value for value in (self.item.read(item, problems) for item in tree) if value is not WRONG]

    def json(self) -> Json:
        schema: Json = {"type": "array", "items": self.item.json()}
        if self.least:
            schema["minItems"] = self.least
        return {"anyOf": [schema, self.item.json()]} if self.lone else schema


class Table:
    """A mapping from words to one shape; `key` checks the words (ValueError says what is wrong)."""

    def __init__(self, value: Shape, what: str, key: Callable[[Spelled], Any] | None = None) -> None:
        self.value = value
        self.what = what
        self.key = key

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        if not isinstance(tree, SpelledMapping):
            hint = "write NAME: VALUE" if isinstance(tree, SpelledList) else None
            problems.add(tree.place, f"expected {self.what}, found {kind_of(tree)}", hint)
            return WRONG
        result: dict[Spelled, Any] = {}
        for name, item in tree.items():
            try:
                if self.key:
                    self.key(name)
            except ValueError as error:
                problems.add(name.place, str(error))
                continue
            except UsageError as error:
                problems.add_error(name.place, error)
                continue
            value = self.value.read(item, problems)
            if value is not WRONG:
                result[name] = value
        return result

    def json(self) -> Json:
        return {"type": "object", "additionalProperties": self.value.json()}


class Record:
    """A mapping with known keys. An unknown key is a problem with the nearest known one.

    `make` turns the values (only those given) and the place into a value; it may raise ValueError or UsageError.
    Keys that start with `extension` are for anchors, and are not looked at.
    """

    def __init__(
        self,
        what: str,
        fields: Mapping[str, Shape],
        required: Sequence[str] = (),
        make: Callable[[dict[str, Any], Place], Any] | None = None,
        docs: Mapping[str, str] | None = None,
        extension: str | None = None,
    ) -> None:
        self.what = what
        self.fields = fields
        self.required = required
        self.make = make
        self.docs = docs or {}
        self.extension = extension

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        if not isinstance(tree, SpelledMapping):
            problems.add(tree.place, f"expected {self.what}, found {kind_of(tree)}")
            return WRONG
        values = Values()
        wrong = set()
        for key, item in tree.items():
            shape = self.fields.get(key)
            if shape is None:
                if not (self.extension and key.startswith(self.extension)):
                    hint = nearest(key, self.fields) or f"known: {', '.join(self.fields)}"
                    problems.add(key.place, f"unknown key '{_short(key)}' in {self.what}", hint)
                continue
            value = shape.read(item, problems)
            if value is WRONG:
                wrong.add(str(key))
            else:
                values[str(key)] = value
        for name in self.required:
            if name not in tree:
                problems.add(tree.place, f"{self.what} needs '{name}'")
                wrong.add(name)
        values.wrong = frozenset(wrong)
        if self.make is None:
            return values
        if wrong:
            return WRONG
        try:
            return self.make(values, tree.place)
        except ValueError as error:
            problems.add(tree.place, str(error))
        except UsageError as error:
            problems.add_error(tree.place, error)
        return WRONG

    def json(self) -> Json:
        properties = {}
        for name, shape in self.fields.items():
            schema = shape.json()
            if name in self.docs:
                schema = {"description": self.docs[name], **schema}
            properties[name] = schema
        result: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        if self.required:
            result["required"] = list(self.required)
        if self.extension:
            result["patternProperties"] = {f"^{self.extension}": {}}
        return result


class Either:
    """One shape for scalars, one for lists, one for mappings; None where the kind is not allowed."""

    def __init__(
        self,
        what: str,
        text: Shape | None = None,
        items: Shape | None = None,
        table: Shape | None = None,
    ) -> None:
        self.what = what
        self.text = text
        self.items = items
        self.table = table

    def read(self, tree: SpelledTree, problems: Problems) -> Any:
        if isinstance(tree, SpelledMapping):
            shape = self.table
        elif isinstance(tree, SpelledList):
            shape = self.items
        else:
            shape = None if tree.nothing else self.text
        if shape is None:
            problems.add(tree.place, f"expected {self.what}, found {kind_of(tree)}")
            return WRONG
        return shape.read(tree, problems)

    def json(self) -> Json:
        return {"anyOf": [shape.json() for shape in (self.text, self.items, self.table) if shape is not None]}
