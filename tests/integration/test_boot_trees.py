"""The sample services of examples/services, built from the real files and booted on every overlay with all checks.

The search for the smallest set of capabilities takes a dozen starts an image: `SIXSMITH_BOOT=all` has it too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

import boot_world as world
from sixsmith.boot.boot import ALL_CHECKS, boot_image
from sixsmith.boot.image import open_image
from sixsmith.boot.report import BootReport
from sixsmith.cli import run
from sixsmith.io.layout import open_layout

pytestmark = pytest.mark.data

SERVICES = Path(__file__).resolve().parents[2] / "examples" / "services"
EVERYTHING = os.environ.get("SIXSMITH_BOOT") == "all"
CHECKS = ALL_CHECKS if EVERYTHING else tuple(name for name in ALL_CHECKS if name not in ("capabilities", "together"))
OVERLAYS = ("1.21.4.0", "2.1.0.2", "3.2.1.0")
TREES: dict[str, tuple[str, Sequence[str]]] = {
    "web": ("any-overlay/web.yaml", OVERLAYS),
    "database": ("any-overlay/database.yaml", OVERLAYS),
    "proxy": ("proxy.yaml", OVERLAYS),
    "web-v3": ("web.yaml", OVERLAYS[2:]),
    "database-v3": ("database.yaml", OVERLAYS[2:]),
}
COMES_BACK = {"web": ("cron", "worker"), "database": (), "proxy": ("proxy",)}
IMAGE = """\
  {name}:
    tag: "{{s6-overlay}}"
    matrix: {{alpine: [3.16], s6-overlay: [{overlays}]}}
    accounts: {{users: [{{name: www, uid: 1001}}, {{name: db, uid: 1002}}]}}
    ports: [{ports}]
"""


@pytest.fixture(scope="module")
def layouts(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    text = "name: trees\ndefaults: {arch: [x86_64], repositories: [main]}\nimages:\n"
    for name, (file, overlays) in TREES.items():
        lines = (SERVICES / file).read_text(encoding="utf-8").splitlines()
        ports = "8080/tcp, 9000/tcp" if name.startswith("web") else ""
        text += IMAGE.format(name=name, overlays=", ".join(overlays), ports=ports)
        text += "".join(f"    {line}\n" for line in lines)
    (folder / "sixsmith.yaml").write_text(text)
    places = ["--mirror", data / "upstream/alpine", "--overlay-mirror", data / "upstream/s6-overlay"]
    places += ["--store", folder / "store", "-o", folder / "dist"]
    assert run(["build", "-f", str(folder / "sixsmith.yaml"), *map(str, places), "-q", "--offline"]) == 0
    return folder / "dist"


def booted(layouts: Path, name: str, overlay: str) -> BootReport:
    reasons = {runner: world.usable(runner) for runner in ("runc", "namespaces")}
    runner = next((one for one, reason in reasons.items() if reason is None), None)
    if runner is None:
        pytest.skip(f"nothing can be booted here: {reasons}")
    before = world.remains()
    with open_layout(layouts / name) as layout:
        report = boot_image(open_image(layout, layout.ref(overlay), name=name), runner=runner, checks=CHECKS)
    assert world.leftovers(before) == {}
    return report


@pytest.mark.parametrize(
    ("name", "overlay"), [(name, overlay) for name, (_, overlays) in TREES.items() for overlay in overlays]
)
def test_a_service_tree_passes_all_checks(layouts: Path, name: str, overlay: str) -> None:
    report = booted(layouts, name, overlay)
    assert report.ok, [f"{check.name}: {check.message} {check.log}" for check in report.failures]
    found = {check.name: check for check in report.checks}
    kind = name.removesuffix("-v3")
    for needed in ("pid-1", "services", "oneshots", "zombies", "restart", "stop", "exit-code"):
        assert found[needed].status in ("passed", "skipped" if needed == "restart" else "passed"), found[needed]
    for service in COMES_BACK[kind]:
        assert service in found["restart"].message
    if kind == "proxy":
        assert "reloader stays down, as the finish script says" in found["restart"].message
        assert found["on-exit"].status == "skipped"
    else:
        stops = "web" if kind == "web" else "db"
        assert found["on-exit"].status == "passed" and f"{stops} (137)" in found["on-exit"].message
        assert found["logs-rotate"].status == "passed" and f"/var/log/{stops}" in found["logs-rotate"].message
    if kind == "web":
        assert found["ports"].message == "port 8080, 9000 answers"
    # who becomes another user in there has to be root, and that was known before it was tried
    assert found["random-uid"].status == "refused"
