"""Suppressions: findings that somebody has looked at and accepted, with a reason.

An entry names a rule, and a path where it is not meant for the whole image; both may have globs. One that suppresses nothing
is a finding itself, since it would hide the next real one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from sixsmith.errors import nearest
from sixsmith.s6.finding import Finding
from sixsmith.s6.lint.rules import RULES

__all__ = ["suppressed"]


def suppressed(
    findings: Iterable[Finding], ignore: Sequence[Mapping[str, str]], *, cell: str = ""
) -> tuple[Finding, ...]:
    """The findings that no entry of `ignore` (keys `rule`, `reason`, and perhaps `path`) covers, and findings L1 and L2
    about entries that cover nothing, name no rule, or give no reason. An entry without a reason covers nothing."""
    left = list(findings)
    about: list[Finding] = []
    for number, entry in enumerate(ignore, 1):
        rule, path = str(entry.get("rule", "")), str(entry.get("path", "*"))
        place = f"lint.ignore[{number}]"
        if rule not in RULES and not any(mark in rule for mark in "*?["):
            hint = nearest(rule, RULES) or RULES["L2"].hint
            about.append(Finding("L2", "warning", place, 0, f"there is no rule `{rule}`", hint, cell=cell))
            continue
        if not str(entry.get("reason", "")).strip():
            about.append(
                Finding(
                    "L2", "warning", place, 0, f"{rule} is to be ignored without a reason", RULES["L2"].hint, cell=cell
                )
            )
            continue
        kept = [finding for finding in left if not _covers(rule, path, finding)]
        if len(kept) == len(left):
            where = f" at {path}" if path != "*" else ""
            about.append(
                Finding("L1", "warning", place, 0, f"there is no finding of {rule}{where}", RULES["L1"].hint, cell=cell)
            )
        left = kept
    return (*left, *about)


def _covers(rule: str, path: str, finding: Finding) -> bool:
    if not fnmatchcase(finding.rule, rule):
        return False
    own = finding.path.strip("/")
    wanted = path.strip("/")
    return fnmatchcase(own, wanted) or own.startswith(f"{wanted}/")
