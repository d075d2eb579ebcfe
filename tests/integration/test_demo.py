"""`make demo`, the first thing that a newcomer runs: without a network, without Docker, in a copy of the examples."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commandline import clean_environment
from sixsmith.io.layout import open_layout
from sixsmith.matrix import load_family
from sixsmith.oci.validate import validate_image

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("tools", ["with the tools of this machine", "with nothing but Python"])
def test_the_demo(tmp_path: Path, tools: str) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".demo", "__pycache__"))
    environment = {"SIXSMITH_DEMO": "sample"}
    if "nothing" in tools:
        (tmp_path / "empty").mkdir()
        environment["PATH"] = str(tmp_path / "empty")
    done = subprocess.run(
        [sys.executable, tmp_path / "examples/demo.py"],
        env=clean_environment(tmp_path, environment),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "makes a small sample world below .demo/world" in done.stdout
    if "nothing" in tools:
        assert "the small registry that sixsmith ships for tests" in done.stdout

    family = load_family(tmp_path / "examples/alpine-s6-overlay/sixsmith.yaml")
    tags = {cell.tags[0] for cell in family.cells}
    demo = tmp_path / ".demo"
    with open_layout(demo / "dist/alpine-s6-overlay") as layout:
        assert set(layout.refs) == tags
        for tag in tags:
            assert validate_image(layout, layout.ref(tag)) == []
    assert {path.name for path in (demo / "dockerfiles/alpine-s6-overlay").iterdir()} == {
        *(f"Dockerfile.{tag}" for tag in tags),
        "update.sh",
    }
    pushes = re.findall(
        r"^127\.0\.0\.1:\d+/alpine-s6-overlay:(\S+) +[0-9a-f]{12} +(\S+ \S+) ", done.stdout, re.MULTILINE
    )
    assert len(pushes) == 2 * len(tags), "each tag in both pushes"
    assert all(sent != "0 B" for _, sent in pushes[: len(tags)])
    assert all(sent == "0 B" for _, sent in pushes[len(tags) :])
    index = json.loads((demo / "dist/alpine-s6-overlay/index.json").read_bytes())
    assert len(index["manifests"]) == len(tags)
