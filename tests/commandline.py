"""The command line as a person meets it, run in this interpreter: a folder with a family file, a store, and a sample world."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sixsmith.cli import run
from sixsmith.io import packs
from sixsmith.io.records import CONTENT
from sixsmith.io.store import Store
from sixsmith.testing.loopback import Fault, FileServer
from sixsmith.testing.world import World

FAMILY = """\
name: family
defaults: {arch: [x86_64], packages: [bash]}
images:
  one:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.22], s6-overlay: [3.2.3.0]}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """stdout as the one JSON document that `--json` promises."""
        return json.loads(self.out)


class Workplace:
    """A folder to work in: `sixsmith.yaml`, `store` and `dist` below it; options for places come by themselves."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        self.world = world
        self.file = folder / "sixsmith.yaml"
        self.store = folder / "store"
        self.dist = folder / "dist"
        self.write(FAMILY)

    def write(self, family: str) -> None:
        self.file.write_text(family)

    def options(self, *, keys: Path | None = None, checksums: Path | None = None) -> list[str]:
        """Where things are: the sample world's files in their folders."""
        world = self.world
        return [
            *("--store", str(self.store)),
            *("--mirror", str(world.mirror)),
            *("--overlay-mirror", str(world.overlay_mirror)),
            *("--keys", str(keys or world.keys)),
            *("--checksums", str(checksums or world.checksums)),
        ]

    def run(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Outcome:
        """A command as it stands, in the folder, with an environment that holds nothing of ours."""
        out, err = io.StringIO(), io.StringIO()
        with _inside(self.folder, environment or {}), redirect_stdout(out), redirect_stderr(err):
            code = run([str(argument) for argument in arguments])
        return Outcome(code, out.getvalue(), err.getvalue())

    def build(self, *arguments: str | Path) -> Outcome:
        """`sixsmith build` on the sample world; later options win."""
        return self.run("build", *self.options(), *arguments)

    @contextmanager
    def served(self, *faults: Fault) -> Iterator[tuple[FileServer, list[str]]]:
        """The sample world behind HTTP, with faults and little patience; yields the options that lead there."""
        with self.world.serve(faults=faults) as server:
            places = ["--mirror", f"{server.url}/alpine", "--overlay-mirror", f"{server.url}/s6-overlay"]
            yield server, [*self.options(), *places, "--timeout", "0.3", "--retries", "1"]

    def program(self, *arguments: str | Path) -> list[str]:
        """The same as a command for a process of its own."""
        return [sys.executable, "-m", "sixsmith", *map(str, arguments)]

    def damages(self) -> list[str]:
        """What is wrong with the store: broken or missing blobs, leftovers."""
        with Store(self.store) as store:
            found = [str(damage) for damage in store.verify()]
            if temporary := store.du()["temporary"]:
                found.append(f"{temporary} bytes in tmp/")
        return found

    def roots(self) -> dict[str, str]:
        """The tags that the store keeps."""
        with Store(self.store) as store:
            return dict(store.roots())

    def nothing_was_made(self) -> None:
        """After an error: no image, no tag, nothing half-written, here or in the store."""
        left = {path.name for path in self.folder.iterdir()}
        assert left <= {"sixsmith.yaml", "store", "world"}, left
        if self.store.exists():
            leftovers = list((self.store / "tmp").iterdir()) if (self.store / "tmp").is_dir() else []
            assert leftovers == []
            assert self.damages() == []
            assert self.roots() == {}


def digests(outcome: Outcome) -> dict[str, str]:
    """Of `build --json`: every image's digest by id, and every tag's by reference."""
    document = outcome.document
    images = {image["id"]: image["digest"] for image in document["images"]}
    return images | {tag["reference"]: tag["digest"] for tag in document["tags"]}


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def clean_environment(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """This environment without anything that sixsmith reads: no settings, no proxies, no credentials."""
    unwanted: Sequence[Callable[[str], bool]] = (
        lambda name: name.startswith(("SIXSMITH_", "XDG_", "DOCKER_", "REGISTRY_")),
        lambda name: name.lower().endswith("_proxy"),
    )
    kept = {name: value for name, value in os.environ.items() if not any(test(name) for test in unwanted)}
    return {**kept, "HOME": str(folder), **extra}


@contextmanager
def _inside(folder: Path, extra: Mapping[str, str]) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        with patch.dict(os.environ, clean_environment(folder, extra), clear=True):
            yield
    finally:
        os.chdir(before)


def middle_of_data(store: Path) -> tuple[Path, int]:
    """The pack with the largest data of a package, and a place in there."""
    found = []
    for path in (store / "packs").iterdir():
        with path.open("rb") as file:
            found += [(size, path, start) for kind, _, _, start, size in packs._index(file.fileno()) if kind == CONTENT]
    size, path, start = max(found)
    return path, start + size // 2
