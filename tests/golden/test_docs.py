"""Pages of docs/ that are written from the code are what the code says now."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_family_file_reference_is_up_to_date() -> None:
    from sixsmith.matrix.reference import render_reference

    page = DOCS / "family-file.md"
    if page.read_text(encoding="utf-8") != render_reference():
        pytest.fail(
            "docs/family-file.md is old: python -c 'from sixsmith.matrix.reference import render_reference; "
            'print(render_reference(), end="")\' > docs/family-file.md'
        )
