"""Templates: `{alpine}` and any other axis, filled in for a cell.

`{version:PACKAGE}` in a tag stays until the packages are resolved. Outside of tags and packages, braces around anything
that is no axis stand for themselves (JSON in a label, say), and `{{alpine}}` is how to write `{alpine}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sixsmith.errors import nearest
from sixsmith.matrix.problems import Problems
from sixsmith.model.spelled import Spelled

__all__ = ["Blanks", "names_in"]

_BLANK = re.compile(r"\{(\{)?([^{}\s]+)\}(\})?")


class Blanks:
    """Fills the axes of one cell into texts."""

    def __init__(self, axes: Mapping[str, str], problems: Problems) -> None:
        self.axes = axes
        self.problems = problems

    def fill(self, text: str, *, strict: bool = False, versions: bool = False) -> str:
        """`text` with the axes filled in.

        With `strict` an unknown name is a problem; with `versions` `{version:PACKAGE}` is kept for later.
        """
        if "{" not in text:
            return str(text)

        def value(blank: re.Match[str]) -> str:
            opened, name, closed = blank.groups()
            if opened and closed and name in self.axes:
                return f"{{{name}}}"
            if name in self.axes:
                return f"{opened or ''}{self.axes[name]}{closed or ''}"
            if not (versions and re.fullmatch(r"version:[A-Za-z0-9_.+-]+", name)) and (
                strict or name.startswith("version:")
            ):
                self._unknown(text, name, versions)
            return blank.group()

        filled = _BLANK.sub(value, text)
        if strict and ("{" in _BLANK.sub("", filled) or "}" in _BLANK.sub("", filled)):
            self._note(text, f"'{text}': a brace without its partner", None)
        return filled

    def fill_values(self, table: Mapping[Any, str]) -> dict[str, str]:
        """The same for the values of a mapping."""
        return {str(name): self.fill(value) for name, value in table.items()}

    def _unknown(self, text: str, name: str, versions: bool) -> None:
        names = ", ".join(f"{{{axis}}}" for axis in self.axes)
        if name == "arch":
            self._note(text, f"'{text}': one tag holds all architectures", "leave {arch} out")
        elif name.startswith("version:") and not versions:
            self._note(text, f"'{text}': {{version:…}} is known only once the packages are resolved", "use it in tags")
        else:
            hint = nearest(name, self.axes) or f"this cell has {names or 'no axes'}"
            self._note(text, f"'{text}': no axis '{name}'", hint)

    def _note(self, text: str, message: str, hint: str | None) -> None:
        if isinstance(text, Spelled):
            self.problems.add(text.place, message, hint)


def names_in(values: Iterable[Any]) -> set[str]:
    """Every name in braces anywhere in the texts of these settings."""
    found: set[str] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.update(match[2] for match in _BLANK.finditer(value))
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return found
