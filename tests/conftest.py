"""Shared fixtures. The real upstream files are optional: tests that want them skip, saying so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commandline import Workplace
from sixsmith.testing.world import World, make_world

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


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The sample world, only to be read: a v2 and a v3 overlay, two releases, two architectures."""
    folder = tmp_path_factory.mktemp("world")
    return make_world(folder, releases=("3.12", "3.22"), arches=("x86_64", "aarch64"), overlays=("2.0.0.1", "3.2.3.0"))


@pytest.fixture
def place(tmp_path: Path, world: World) -> Workplace:
    """A folder with a family file of one image, to run commands in."""
    folder = tmp_path / "place"
    folder.mkdir()
    return Workplace(folder, world)
