"""One thing that is wrong, or may be, with services, scripts or image settings.

Every rule of the house speaks through this one value, so that text, JSON and the dashboard show all of them alike,
and so that a suppression in the family file can name any of them by `rule` and `path`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

__all__ = ["SEVERITIES", "Finding", "Severity", "has_errors", "in_order", "shown_path"]

Severity = Literal["error", "warning", "info"]
"""`error`: it will not boot, or a service never starts; `warning`: likely trouble; `info`: advice."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Finding(msgspec.Struct, frozen=True):
    """What a rule has to say about one place.

    `path` is text fit to print (see `shown_path` for names in other bytes), `line` is 1-based, 0 where none is meant.
    `reference` names the source of the rule: an upstream issue, a commit, a section of a specification. `cell` is the
    id of the variant, where a whole family is looked at.
    """

    rule: str
    severity: Severity
    path: str
    line: int
    message: str
    hint: str = ""
    reference: str = ""
    cell: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        text = f"{place}: {self.severity} {self.rule}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any of them says that the image will not work."""
    return any(finding.severity == "error" for finding in findings)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorted for reading: by cell, path, line, then rule, so that two runs print the same."""
    return tuple(sorted(findings, key=lambda found: (found.cell, found.path, found.line, found.rule, found.message)))


def shown_path(path: bytes) -> str:
    """A path of any bytes as one printable line: UTF-8 where it is, `\\xNN` and `\\n` where it is not."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
