"""Starting images for real, without Docker: what runs, how it stops, and under which terms."""

from __future__ import annotations

from sixsmith.boot.boot import ALL_CHECKS, BASIC_CHECKS, boot_image, check_names
from sixsmith.boot.image import BootImage, open_image
from sixsmith.boot.observation import Terms
from sixsmith.boot.report import BootReport, CheckResult, Measures
from sixsmith.boot.runners import RUNNERS

__all__ = [
    "ALL_CHECKS",
    "BASIC_CHECKS",
    "RUNNERS",
    "BootImage",
    "BootReport",
    "CheckResult",
    "Measures",
    "Terms",
    "boot_image",
    "check_names",
    "open_image",
]
