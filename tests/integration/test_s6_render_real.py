"""The real s6-rc-compile accepts what we render, together with the overlay's own sources, and so do we."""

from __future__ import annotations

import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from service_trees import EXAMPLES, example, old_tree, overlays_own, services_of, sources_of, write_files
from sixsmith.rootfs.tree import Tree
from sixsmith.s6.compile import check_sources
from sixsmith.s6.lint import lint_image
from sixsmith.s6.migrate import migrate
from sixsmith.s6.render import apply_services, render_services
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


def compiled(root: Path, version: str, source: Path, place: Path) -> subprocess.CompletedProcess[str]:
    """What the real compiler says of a source directory, together with what the overlay brings."""
    user2 = source / "user2"
    (user2 / "contents.d").mkdir(parents=True)
    (user2 / "type").write_text("bundle\n")
    (compiler,) = root.glob("package/admin/s6-rc-*/command/s6-rc-compile")
    own = root / f"package/admin/s6-overlay-{version}/etc/s6-rc/sources"
    command = [str(compiler), str(place / "db"), str(source), str(own)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


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
    done = compiled(packages[version], version, tmp_path / "etc/s6-overlay/s6-rc.d", tmp_path)
    assert done.returncode == 0, done.stderr
    report = check_sources([*sources_of(result.files), overlays_own(data, version)])
    assert report.accepted and not report.findings, report.findings


@pytest.mark.parametrize("version", VERSIONS)
def test_the_real_compiler_accepts_what_is_migrated(version: str, packages: dict[str, Path], tmp_path: Path) -> None:
    migration = migrate(old_tree())
    write_files(tmp_path, migration.files)
    done = compiled(packages[version], version, tmp_path / "etc/s6-overlay/s6-rc.d", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_real_image_with_them_lints_clean(version: str, name: str, data: Path) -> None:
    tree = real_tree(data, version)
    services = example(name)
    rendered = render_services(services, version, tree=tree)
    assert not rendered.findings
    apply_services(tree, rendered)
    found = lint_image(tree, None, overlay_version=version)
    assert [finding for finding in found if finding.severity != "info"] == []


def real_tree(data: Path, version: str) -> Tree:
    """Alpine 3.16 with the real overlay, and the users of the examples."""
    tree = Tree()
    mini = next((data / "upstream/alpine/v3.16/releases/x86_64").glob("alpine-minirootfs-*.tar.gz"))
    overlay = data / f"upstream/s6-overlay/v{version}"
    for archive in (mini, overlay / "s6-overlay-noarch.tar.xz", overlay / "s6-overlay-x86_64.tar.xz"):
        with tarfile.open(archive) as tar:
            content = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            for member in tar:
                path = member.name.removeprefix("./").strip("/")
                if member.isdir() and path not in ("", "."):
                    tree.make_directory(path, mode=member.mode)
                elif member.issym():
                    tree.make_symlink(path, member.linkname)
                elif member.isfile():
                    source = content[member.name]
                    tree.write(path, source.read() if source is not None else b"", mode=member.mode)
                elif member.islnk():
                    tree.write(path, tree.read(member.linkname.removeprefix("./")) or b"", mode=member.mode)
    for file in ("passwd", "group"):
        tree.write(f"etc/{file}", (tree.read(f"etc/{file}") or b"") + b"www:x:1001:1001::/:\ndb:x:1002:1002::/:\n")
    return tree
