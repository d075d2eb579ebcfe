"""One module per parser."""

from __future__ import annotations

TARGETS = (
    "version",
    "dependency",
    "index",
    "archive",
    "tar",
    "installed",
    "reference",
    "execline",
    "matrix",
    "script",
    "lock",
    "manifest",
)
