"""The three service trees on every overlay generation, built by the command line on the real files, linted and compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from sixsmith.cli import run
from sixsmith.looking import look_at_disk
from sixsmith.model.arch import ARCHES
from sixsmith.s6.compile import check_sources
from sixsmith.s6.sources import sources_from_tree

SERVICES = Path(__file__).resolve().parents[2] / "examples" / "services"
TREES = {
    "web": SERVICES / "any-overlay" / "web.yaml",
    "database": SERVICES / "any-overlay" / "database.yaml",
    "proxy": SERVICES / "proxy.yaml",
}
OVERLAYS = ("1.21.4.0", "2.1.0.2", "3.1.6.2", "3.2.1.0")


@pytest.mark.parametrize("name", TREES)
def test_three_service_trees_are_rendered_for_every_overlay(name: str, data: Path, tmp_path: Path) -> None:
    body = "".join(f"    {line}\n" for line in TREES[name].read_text(encoding="utf-8").splitlines())
    (tmp_path / "sixsmith.yaml").write_text(
        f"""\
name: trees
defaults: {{arch: [x86_64], repositories: [main]}}
images:
  tree:
    tag: "{{s6-overlay}}"
    matrix: {{alpine: [3.16], s6-overlay: [{", ".join(OVERLAYS)}]}}
    accounts: {{users: [{{name: www, uid: 1001}}, {{name: db, uid: 1002}}, {{name: proxy, uid: 1003}}]}}
{body}"""
    )
    places = ["--mirror", data / "upstream/alpine", "--overlay-mirror", data / "upstream/s6-overlay"]
    places += ["--store", tmp_path / "store", "-o", tmp_path / "dist"]
    assert run(["build", "-f", str(tmp_path / "sixsmith.yaml"), *map(str, places), "-q"]) == 0, (
        "lint errors stop a build"
    )
    for overlay in OVERLAYS:
        tree = look_at_disk(tmp_path / "dist" / "tree", ARCHES["x86_64"], ref=overlay).tree
        if overlay.startswith("3"):
            own = next(path for path in tree.nodes if path.endswith("/etc/s6-rc/sources"))
            report = check_sources(sources_from_tree(tree, ["etc/s6-overlay/s6-rc.d", own]))
            assert report.accepted, report.findings
        else:
            assert any(path.startswith("etc/services.d/") and path.endswith("/run") for path in tree.nodes)
            assert any(path.startswith("etc/cont-init.d/") for path in tree.nodes)
