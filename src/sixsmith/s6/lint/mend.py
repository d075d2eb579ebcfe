"""What `--fix` may change: only what cannot mean anything else than before.

An x-bit, line ends, a byte order mark, white space that no format wants, and the path of an interpreter that has moved.
Everything here is a value; writing is done elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from sixsmith.rootfs.tree import Node
from sixsmith.s6.finding import Finding
from sixsmith.s6.lint.image import Image, parse_shebang
from sixsmith.s6.lint.runnable import spelled_for

__all__ = ["Mend", "mends_for"]

_BOM = b"\xef\xbb\xbf"
_TYPES = frozenset({b"oneshot", b"longrun", b"bundle"})


class Mend(msgspec.Struct, frozen=True):
    """A file of the tree as it should be. `content` and `mode` are None where they stay; `changes` say what is done, and
    `rules` are those that asked for it."""

    path: str
    node: Node
    content: bytes | None = None
    mode: int | None = None
    rules: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


def mends_for(image: Image, findings: Iterable[Finding]) -> tuple[Mend, ...]:
    """The mends for findings that have a safe one, one for each file, in the findings' order."""
    mends: dict[str, Mend] = {}
    for finding in findings:
        path = image.resolve(_file_of(finding))
        node = image.find(path)
        if node is None or node.kind != "file":
            continue
        old = mends.get(path, Mend(path, node))
        content = old.content if old.content is not None else image.read(path)
        mended = _mend(image, finding.rule, old, content)
        if mended is not None and finding.rule not in old.rules:
            mends[path] = replace(mended, rules=(*old.rules, finding.rule))
    return tuple(mends.values())


def _file_of(finding: Finding) -> str:
    """The file to mend; R13's finding is at the `up` that names it."""
    if finding.rule == "R13" and finding.message.endswith(" is not executable"):
        return finding.message.removesuffix(" is not executable")
    return finding.path


def _mend(image: Image, rule: str, old: Mend, content: bytes) -> Mend | None:
    if rule in ("S1", "R13", "R30"):
        mode = old.node.mode | (old.node.mode & 0o444) >> 2 | 0o100
        return replace(old, mode=mode, changes=(*old.changes, f"mode {mode:04o}")) if mode != old.node.mode else None
    changed, what = _content(image, rule, content)
    return replace(old, content=changed, changes=(*old.changes, what)) if changed != content else None


def _content(image: Image, rule: str, content: bytes) -> tuple[bytes, str]:
    if rule == "S2":
        return content.replace(b"\r\n", b"\n"), "LF line ends"
    if rule == "S3":
        return content.removeprefix(_BOM), "no byte order mark"
    if rule == "R1":
        word = content.removeprefix(_BOM).strip(b" \t\r\n\0").lower()
        return (word + b"\n" if word in _TYPES else content), "one word and one newline"
    if rule == "R18":
        return re.sub(rb"[ \t\r]+(?=\n|\Z)", b"", content), "no white space at line ends"
    if rule in ("S6", "S7"):
        return _interpreter(image, content)
    return content, ""


def _interpreter(image: Image, content: bytes) -> tuple[bytes, str]:
    shebang = parse_shebang(content)
    if shebang is None:
        return content, ""
    for program in shebang.chain:
        right = spelled_for(image, program) if image.program(program) is None else None
        if right is not None:
            first, newline, rest = content.partition(b"\n")
            return first.replace(program.encode(), right.encode(), 1) + newline + rest, f"#!{right}"
    return content, ""
