"""Shared fixtures. The real upstream files are optional: tests that want them skip, saying so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_root() -> Path | None:
    """The folder of real upstream files and oracle answers, or None where it is not there."""
    named = os.environ.get("SIXSMITH_TEST_DATA")
    root = Path(named) if named else ROOT.parent / "shared"
    return root.resolve() if (root / "upstream").is_dir() else None


@pytest.fixture(scope="session")
def data() -> Path:
    """Real files (`upstream/`) and questions with the real tools' answers (`oracle/`)."""
    root = data_root()
    if root is None:
        pytest.skip("SIXSMITH_TEST_DATA names no folder with upstream/ and ../shared is not there")
    return root
