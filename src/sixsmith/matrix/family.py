"""A family: the file's cells, spelled out."""

from __future__ import annotations

import msgspec

from sixsmith.variant import Variant

__all__ = ["Family"]


class Family(msgspec.Struct, frozen=True):
    """What a family file says: `cells` in file order, a parent before its children, one for each architecture."""

    name: str
    registry: str | None
    cells: tuple[Variant, ...]
    file: str = ""

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the images, in order."""
        return tuple(dict.fromkeys(cell.image for cell in self.cells))

    def cell(self, cell_id: str) -> Variant:
        """The cell with this id; KeyError when there is none."""
        for each in self.cells:
            if each.id == cell_id:
                return each
        raise KeyError(cell_id)
