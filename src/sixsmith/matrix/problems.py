"""Everything that is wrong in a file, collected: a person mends a file once, not once per mistake."""

from __future__ import annotations

from sixsmith.errors import MatrixError, Place, Problem, SixsmithError

__all__ = ["Problems"]


class Problems:
    """Collects problems; the same one said twice is kept once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, message: str, hint: str | None = None) -> None:
        """Notes one problem."""
        self._found[Problem(place, message, hint)] = None

    def add_error(self, place: Place, error: SixsmithError) -> None:
        """Notes what a deeper room raised, at the place that asked for it."""
        self.add(place, error.message, error.hint)

    def raise_any(self) -> None:
        """Raises MatrixError with all problems in file order, if there are any."""
        if self._found:
            order = sorted(self._found, key=lambda problem: (problem.place.line, problem.place.column))
            raise MatrixError(order)
