"""The real s6-rc-compile accepts what we render, together with the overlay's own sources, and so do we."""

from __future__ import annotations

import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from service_trees import EXAMPLES, example, overlays_own, services_of, sources_of, write_files
from sixsmith.s6.compile import check_sources
from sixsmith.s6.render import render_services
from sixsmith.s6.service import Service

VERSIONS = ("3.1.6.2", "3.2.1.0")

MANY = "\n".join(
    [
        *(f"one{n}: {{up: 'true', down: 'true', timeout: {{up: 1s}}}}" for n in range(10)),
        *(
            f"run{n}: {{run: sleep 1, needs: [one{n}], log: /var/log/run{n}, ready: {{check: 'true'}}}}"
            for n in range(10)
        ),
        *(f"late{n}: {{run: sleep 1, needs: [run{n}, all], on-exit: never}}" for n in range(10)),
        f"all: {{contents: [{', '.join(f'run{n}' for n in range(10))}]}}",
        "a: {run: x}\nb: {run: y}\nc: {run: z, log: /var/log/c}\njoined: {type: pipeline, contents: [a, b, c]}",
    ]
)


@pytest.fixture(scope="session")
def packages(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The unpacked tarballs by version."""
    if platform.machine() != "x86_64":
        pytest.skip("the compilers at hand are for x86_64")
    places = {}
    for version in VERSIONS:
        places[version] = tmp_path_factory.mktemp(f"v{version}")
        for part in ("noarch", "x86_64"):
            with tarfile.open(data / f"upstream/s6-overlay/v{version}/s6-overlay-{part}.tar.xz") as archive:
                archive.extractall(places[version], filter="tar")
    return places


def trees() -> list[tuple[str, tuple[Service, ...]]]:
    return [*((name, example(name)) for name in EXAMPLES), ("many", services_of(MANY))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "services"), trees(), ids=[name for name, _ in trees()])
def test_the_real_compiler_accepts(
    version: str, name: str, services: tuple[Service, ...], packages: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    result = render_services(services, version)
    assert not result.findings
    write_files(tmp_path, result.files)
    root = packages[version]
    user2 = tmp_path / "etc/s6-overlay/s6-rc.d/user2"
    (user2 / "contents.d").mkdir(parents=True)
    (user2 / "type").write_text("bundle\n")
    (compiler,) = root.glob("package/admin/s6-rc-*/command/s6-rc-compile")
    done = subprocess.run(
        [
            str(compiler),
            str(tmp_path / "db"),
            str(tmp_path / "etc/s6-overlay/s6-rc.d"),
            str(root / f"package/admin/s6-overlay-{version}/etc/s6-rc/sources"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = check_sources([*sources_of(result.files), overlays_own(data, version)])
    assert report.accepted and not report.findings, report.findings
