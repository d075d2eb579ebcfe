"""Two trees side by side, so that a failed comparison can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from sixsmith.rootfs.tree import Node, Tree

__all__ = ["assert_same_tree", "tree_lines"]


def tree_lines(tree: Tree, *, ignoring: Collection[str] = ()) -> list[str]:
    """One line for each path, sorted: kind, mode, owner, time, size and digest or target.

    `ignoring` names what is left out: `mtime`, `owner`, `mode`, `content`, `xattrs`.
    """
    return [_line(tree.nodes[path], ignoring) for path in sorted(tree.nodes)]


def _line(node: Node, ignoring: Collection[str]) -> str:
    parts = [f"/{node.path}", node.kind]
    if "mode" not in ignoring and node.kind != "symlink":
        parts.append(f"{node.mode:04o}")
    if "owner" not in ignoring:
        parts.append(f"{node.uid}:{node.gid}")
    if "mtime" not in ignoring:
        parts.append(f"@{node.mtime}")
    if node.target:
        parts.append(f"-> {node.target}")
    if node.kind == "file" and "content" not in ignoring:
        content = node.content.read() if node.content is not None else b""
        parts.append(f"{len(content)} bytes {hashlib.sha256(content).hexdigest()[:12]}")
    if node.xattrs and "xattrs" not in ignoring:
        parts += [f"{key}={value.hex()}" for key, value in node.xattrs]
    if node.kind in ("char", "block"):
        parts.append("{}:{}".format(*node.device))
    return " ".join(parts)


def assert_same_tree(actual: Tree, expected: Tree, *, ignoring: Collection[str] = (), limit: int = 40) -> None:
    """Raises AssertionError with the differing lines: `-` is expected and not there, `+` is there and not expected."""
    there, wanted = tree_lines(actual, ignoring=ignoring), tree_lines(expected, ignoring=ignoring)
    if there == wanted:
        return
    extra, missing = set(there) - set(wanted), set(wanted) - set(there)
    lines = sorted(
        [(line.split(" ", 1)[0], "-", line) for line in missing]
        + [(line.split(" ", 1)[0], "+", line) for line in extra]
    )
    shown = [f"{sign} {line}" for _, sign, line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"… {len(lines) - limit} more")
    raise AssertionError("the trees differ:\n" + "\n".join(shown))
