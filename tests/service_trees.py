"""The sample services of examples/services as values, and rendered files as s6-rc sources."""

from __future__ import annotations

import tarfile
from pathlib import Path

from sixsmith.errors import Place
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.text import read_yaml
from sixsmith.model.spelled import SpelledMapping
from sixsmith.s6.render_script import RenderedFile
from sixsmith.s6.service import Service
from sixsmith.s6.service_file import read_services
from sixsmith.s6.sources import SourceDirectory, make_source

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ("web", "database", "proxy")


def spelled(text: str, file: str = "sixsmith.yaml") -> SpelledMapping:
    """YAML with places."""
    problems = Problems()
    tree = read_yaml(text.encode(), file, problems)
    problems.raise_any()
    assert isinstance(tree, SpelledMapping)
    return tree


def services_of(text: str, *, closed: bool = True) -> tuple[Service, ...]:
    """The services of a `services:` mapping."""
    return read_services(spelled(text), place=Place("sixsmith.yaml"), closed=closed)


def example(name: str) -> tuple[Service, ...]:
    """The services of one of the examples."""
    file = f"examples/services/{name}.yaml"
    services = spelled((ROOT / file).read_text(), file)["services"]
    assert isinstance(services, SpelledMapping)
    return read_services(services, place=Place(file))


def texts(files: tuple[RenderedFile, ...]) -> dict[str, str]:
    """The regular files by path."""
    return {file.path: file.content.decode() for file in files if file.kind == "file"}


def sources_of(files: tuple[RenderedFile, ...]) -> list[SourceDirectory]:
    """The source directories that rc.init hands to the compiler, the overlay's own not among them."""
    sources = []
    for folder in ("etc/s6-overlay/s6-rc.d", "etc/s6-overlay/user-bundles.d"):
        below = {
            file.path.removeprefix(folder + "/"): file.content if file.kind == "file" else None
            for file in files
            if file.path.startswith(folder + "/") and file.kind != "symlink"
        }
        # an empty directory is an entry of its own, others come with their files
        kept = {
            path: content
            for path, content in below.items()
            if content is not None or not any(other.startswith(path + "/") for other in below)
        }
        if kept:
            sources.append(make_source("/" + folder, kept))
    return sources


def overlays_own(data: Path, version: str) -> SourceDirectory:
    """The overlay's own source directory, and the empty bundles that it puts into /etc, in one."""
    files: dict[str, bytes | None] = {}
    with tarfile.open(data / f"upstream/s6-overlay/v{version}/s6-overlay-noarch.tar.xz") as archive:
        for member in archive:
            _, found, path = member.name.partition("/etc/s6-rc/sources/")
            if found and member.isfile():
                content = archive.extractfile(member)
                files[path] = content.read() if content is not None else b""
    files |= {"user2/type": b"bundle\n", "user2/contents.d": None}
    return make_source(f"/package/admin/s6-overlay-{version}/etc/s6-rc/sources", files)


def write_files(root: Path, files: tuple[RenderedFile, ...]) -> None:
    """The rendered files on disk."""
    for file in files:
        path = root / file.path
        if file.kind == "directory":
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)
