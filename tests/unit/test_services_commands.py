"""`sixsmith services` as a person meets it: graph of cells and folders, migrate."""

from __future__ import annotations

from pathlib import Path

from commandline import Workplace
from service_trees import example, old_tree
from sixsmith.s6.folder import write_folder
from sixsmith.s6.render import render_services

FAMILY = """\
name: family
defaults: {arch: [x86_64]}
images:
  base:
    tag: "{alpine}"
    matrix: {alpine: [3.12, 3.22], s6-overlay: [3.2.3.0]}
    services:
      prepare: {up: mkdir /x}
  web:
    from: base
    tag: "{alpine}"
    matrix: {alpine: [3.22]}
    services:
      web: {run: serve, needs: [prepare]}
"""


def test_graph_of_cells(place: Workplace) -> None:
    place.write(FAMILY)
    done = place.run("services", "graph", "web")
    assert done.code == 0, done.err
    assert done.out.splitlines()[:2] == ["  1 ○*prepare  oneshot", "  2 ●*web      longrun  ← prepare"]
    both = place.run("services", "graph")
    assert "base:3.12-3.2.3.0/x86_64, base:3.22-3.2.3.0/x86_64\n" in both.out and "← prepare" in both.out
    document = place.run("services", "graph", "web", "--json").document
    assert document["charts"][0]["critical_path"] == ["prepare", "web"]
    assert place.run("services", "graph", "--format", "svg").code == 2
    picture = place.folder / "x.svg"
    assert place.run("services", "graph", "web", "--format", "svg", "-o", str(picture)).code == 0
    assert picture.read_text().startswith("<svg ")


def test_graph_of_nothing(place: Workplace) -> None:
    done = place.run("services", "graph")
    assert done.code == 2 and "no services" in done.err


def test_graph_of_folders(place: Workplace) -> None:
    write_folder(place.folder / "root", render_services(example("proxy"), "3.2.1.0").files)
    done = place.run("services", "graph", str(place.folder / "root"))
    assert done.code == 0 and "pipeline access: proxy | filter" in done.out
    mixed = place.run("services", "graph", str(place.folder / "root"), "web")
    assert mixed.code == 2 and "'web' is not a folder" in mixed.err


def test_migrate(place: Workplace, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_folder(old, old_tree())
    done = place.run("services", "migrate", str(old))
    assert done.code == 0 and "To decide (8):" in done.out and "nothing is written" in done.err
    document = place.run("services", "migrate", str(old / "etc"), "-o", str(new), "--to", "3.2.3.2", "--json").document
    assert {key: value for key, value in document["decisions"][4].items() if key in ("path", "line")} == {
        "path": "etc/services.d/manual/down",
        "line": 0,
    }
    assert (new / "etc/s6-overlay/user-bundles.d/user/contents.d/web-pipeline").is_file()
    assert (new / "etc/s6-overlay/scripts/init-adduser").stat().st_mode & 0o777 == 0o755
    again = place.run("services", "migrate", str(old), "-o", str(new))
    assert again.code == 2 and "there already" in again.err
    kept = place.run("services", "migrate", str(old), "--legacy", "keep", "-o", str(tmp_path / "kept"))
    assert kept.code == 0 and (tmp_path / "kept/etc/cont-init.d/10-adduser").read_text().startswith("#!/command/")


def test_migrate_refuses(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no services of s6-overlay" in place.run("services", "migrate", str(tmp_path / "empty")).err
    write_folder(tmp_path / "old", old_tree())
    wrong = place.run("services", "migrate", str(tmp_path / "old"), "--to", "v2")
    assert wrong.code == 2 and "'v2' is not v3" in wrong.err
    assert place.run("services", "migrate", str(tmp_path / "none")).code == 2
