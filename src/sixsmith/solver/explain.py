"""Why not, and why: in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sixsmith.apk.dependency import Dependency
from sixsmith.solver.complaint import Complaint
from sixsmith.solver.universe import SolverRepository, Universe

if TYPE_CHECKING:
    from sixsmith.solver import Solution


def explain(found: Sequence[Complaint], universe: Universe) -> tuple[str, str | None]:
    return "unable to select packages: " + ", ".join(complaint.subject for complaint in found), None


def explain_pins(missing: Sequence[Dependency], repositories: Sequence[SolverRepository]) -> tuple[str, str | None]:
    return "no repository has the pin " + ", ".join(f"@{entry.pin}" for entry in missing), None


def why(solution: Solution, package: str) -> list[str]:
    return []
