"""Every verdict that the real compiler gave is ours, from values, from folders and through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sixsmith.cli import run
from sixsmith.s6.compile import check_directories, check_sources
from sixsmith.s6.sources import Files, make_source

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def questions(data: Path) -> dict[str, Any]:
    path = data / "oracle" / "s6-rc-compile.json"
    if not path.exists():
        pytest.skip("no oracle/s6-rc-compile.json among the test files")
    return json.loads(path.read_text())


def sources_of(tree: Any) -> list[Files]:
    """The question's trees; the mode of files does not matter to the compiler."""
    trees = tree if isinstance(tree, list) and tree[:1] != ["noexec"] else [tree]
    return [executable_or_not(each) for each in trees]


def executable_or_not(tree: Any) -> Any:
    if isinstance(tree, list):
        return executable_or_not(tree[1])
    if isinstance(tree, dict):
        return {name: executable_or_not(value) for name, value in tree.items()}
    return tree


def write(folder: Path, files: Any, mode: int = 0o755) -> None:
    if isinstance(files, list):
        files, mode = files[1], 0o644
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        path = folder / name
        if value is None or isinstance(value, dict | list):
            write(path, value or {}, mode)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value)
            path.chmod(mode)


def test_verdicts_from_values(questions: dict[str, Any]) -> None:
    assert len(questions) > 40
    differ = {
        name: report.findings
        for name, question in questions.items()
        if (
            report := check_sources([make_source(f"src{i}", t) for i, t in enumerate(sources_of(question["tree"]))])
        ).accepted
        != question["accepted"]
    }
    assert differ == {}


def test_verdicts_from_folders_and_from_the_command_line(
    questions: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (name, question) in enumerate(questions.items()):
        tree = question["tree"]
        trees = tree if isinstance(tree, list) and tree[:1] != ["noexec"] else [tree]
        folders = [tmp_path / f"{number}" / f"src{index}" for index in range(len(trees))]
        for folder, files in zip(folders, trees, strict=True):
            write(folder, files)
        assert check_directories(folders).accepted == question["accepted"], name
        code = run(["services", "check", *map(str, folders), "--json"])
        answer = json.loads(capsys.readouterr().out)
        assert answer["accepted"] == question["accepted"], name
        assert code == (0 if question["accepted"] else 1)
        assert any(finding["severity"] == "error" for finding in answer["findings"]) != answer["accepted"]


def test_what_upstream_ships_is_accepted(data: Path, tmp_path: Path) -> None:
    import tarfile

    tarballs = sorted((data / "upstream" / "s6-overlay").glob("v3*/s6-overlay-noarch.tar.xz"))
    if not tarballs:
        pytest.skip("no s6-overlay 3 among the test files")
    for tarball in tarballs:
        root = tmp_path / tarball.parent.name
        with tarfile.open(tarball) as archive:
            archive.extractall(root, filter="tar")
        own = next(root.glob("package/admin/s6-overlay-*/etc/s6-rc/sources"))
        report = check_directories([root / "etc/s6-overlay/s6-rc.d", own])
        assert report.accepted and report.findings == ()
        assert {b"user", b"user2", b"top", b"base", b"legacy-services"} <= set(report.definitions)
