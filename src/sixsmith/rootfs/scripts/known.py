"""Every program whose doings are known, by name."""

from __future__ import annotations

from sixsmith.rootfs.scripts import accountprograms, fileprograms, systemprograms, textprograms
from sixsmith.rootfs.scripts.shell import Builtin, Call

__all__ = ["KNOWN", "LIKE_BUSYBOX"]


def _find(call: Call) -> int:
    from sixsmith.rootfs.scripts.find import find  # few scripts search

    return find(call)


KNOWN: dict[str, Builtin] = {
    **fileprograms.PROGRAMS,
    **textprograms.PROGRAMS,
    **accountprograms.PROGRAMS,
    **systemprograms.PROGRAMS,
    "find": _find,
}
LIKE_BUSYBOX = frozenset(
    ["addgroup", "adduser", "delgroup", "deluser", "passwd", "chpasswd", "add-shell", "remove-shell", "run-parts"]
)
"""Programs that other packages also have, with other options and other results."""
