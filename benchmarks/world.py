"""What is built: 61 real packages when they are at hand, else the packages of the sample world."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sixsmith.apk.archive import ControlSegment, open_package, package_entries
from sixsmith.model.compression import gunzip
from sixsmith.testing.keys import SigningKey, sample_key
from sixsmith.testing.minirootfs import base_packages
from sixsmith.testing.packages import SamplePackage, make_apk, make_index
from sixsmith.testing.tars import SampleFile
from sixsmith.testing.world import main_packages

ROOT = Path(__file__).resolve().parent.parent
ARCH = "x86_64"
CHANGED = {"big": ("sqlite-libs", "curl", "bash"), "small": ("wget", "nginx", "bash")}
"""The package that changes is the first of these that is there: one with a layer of its own, and one that shares one."""


@dataclass(frozen=True)
class Ground:
    """A signed repository in a folder, its key, and the packages to install. `data` is where the real files are."""

    name: str
    repository: Path
    key: Path
    packages: tuple[str, ...]
    data: Path | None

    @property
    def size(self) -> int:
        """Bytes of all package files."""
        return sum(path.stat().st_size for path in (self.repository / ARCH).glob("*.apk"))


def find_ground(folder: Path) -> Ground:
    """The real set where SIXSMITH_TEST_DATA (or ../shared) has it; a sample set is made in `folder` otherwise."""
    named = os.environ.get("SIXSMITH_TEST_DATA")
    data = Path(named) if named else ROOT.parent / "shared"
    repository = data / "upstream/alpine/v3.19/bench"
    keys = sorted((data / "upstream/keys").glob("bench-*.rsa.pub"))
    if (repository / ARCH / "APKINDEX.tar.gz").is_file() and keys:
        names = tuple(sorted(_name_of(path) for path in (repository / ARCH).glob("*.apk")))
        return Ground(f"{len(names)} packages of Alpine 3.19", repository, keys[0], names, data)
    key = sample_key()
    key.write_public(folder / "keys")
    packages = [*base_packages("3.22", ARCH, key), *main_packages("3.22", ARCH, key)]
    _publish(folder / "sample", packages, key)
    return Ground(
        f"{len(packages)} sample packages",
        folder / "sample",
        next((folder / "keys").iterdir()),
        tuple(package.name for package in packages),
        None,
    )


@dataclass(frozen=True)
class Days:
    """One repository on two days: the second has a new release of one package. `now` is where `show` puts one of them."""

    now: Ground
    first: Path
    second: Path

    def show(self, day: Path) -> None:
        """Makes `now` this day's repository."""
        self.now.repository.unlink(missing_ok=True)
        self.now.repository.symlink_to(day)


def two_days(ground: Ground, folder: Path, size: str) -> Days:
    """The repository as it is and with a new release of one package, both with an index that a key of our own signed: the
    family file, which names the place and the key, stays as it is."""
    key = sample_key()
    key.write_public(folder / "keys")
    changed = next((name for name in CHANGED[size] if name in ground.packages), ground.packages[-1])
    for day in ("first", "second"):
        target = folder / day / ARCH
        target.mkdir(parents=True)
        packages = []
        for path in sorted((ground.repository / ARCH).glob("*.apk")):
            newer = day == "second" and _name_of(path) == changed
            package = _as_sample(path.read_bytes(), path.name, key, newer=newer)
            packages.append(package)
            if newer:
                (target / package.file_name).write_bytes(package.data)
            else:
                shutil.copyfile(path, target / path.name)
        (target / "APKINDEX.tar.gz").write_bytes(make_index(packages, key))
    public = next((folder / "keys").iterdir())
    now = Ground(f"{ground.name}, {changed} changing", folder / "now", public, ground.packages, ground.data)
    return Days(now, folder / "first", folder / "second")


def _as_sample(raw: bytes, what: str, key: SigningKey, *, newer: bool) -> SamplePackage:
    """A package file with the record that an index has of it; `newer` makes the next release of it, with a byte more."""
    archive = open_package(raw, checksum=None, keyring=None, what=what)
    info = archive.control.info
    if not newer:
        return SamplePackage(
            info.name,
            info.version,
            info.arch,
            raw,
            archive.control.checksum,
            _record(archive.control, len(raw)),
            (),
            {},
            (),
        )
    tar = memoryview(gunzip(archive.data, what=what))
    files = [
        SampleFile(
            entry.path,
            bytes(tar[entry.offset : entry.offset + entry.size]) + (b"\n" if entry.kind == "file" else b""),
            kind=entry.kind,
            mode=entry.mode,
            target=entry.target,
        )
        for entry in package_entries(tar, what)
    ]
    return make_apk(
        info.name,
        f"{info.version.rpartition('-r')[0]}-r{int(info.version.rpartition('-r')[2]) + 1}",
        files=files,
        arch=info.arch,
        key=key,
        origin=info.origin,
        depends=info.depends,
        provides=info.provides,
    )


def _record(control: ControlSegment, size: int) -> str:
    info = control.info
    lines = [
        f"C:{control.checksum}",
        f"P:{info.name}",
        f"V:{info.version}",
        f"A:{info.arch}",
        f"S:{size}",
        f"I:{info.size}",
    ]
    lines += [f"T:{info.description}", f"U:{info.url}", f"L:{info.license}", f"o:{info.origin}"]
    if info.build_time is not None:
        lines.append(f"t:{info.build_time}")
    if info.provider_priority:
        lines.append(f"k:{info.provider_priority}")
    for letter, words in (("D", info.depends), ("p", info.provides), ("i", info.install_if)):
        if words:
            lines.append(f"{letter}:{' '.join(words)}")
    return "\n".join(lines) + "\n"


def _publish(repository: Path, packages: Sequence[SamplePackage], key: SigningKey) -> None:
    folder = repository / ARCH
    folder.mkdir(parents=True)
    for package in packages:
        (folder / package.file_name).write_bytes(package.data)
    (folder / "APKINDEX.tar.gz").write_bytes(make_index(packages, key))


def _name_of(path: Path) -> str:
    return path.name.rsplit("-", 2)[0]


# ---- family files


def one_image(ground: Ground, *, strategy: str = "shared", packages: Sequence[str] = ()) -> str:
    """A family of one image with all packages."""
    return f"""\
name: benchmark
defaults:
  arch: [{ARCH}]
  base: packages
  repositories:
    - {{name: bench, url: {ground.repository}, key: {ground.key}}}
images:
  bench:
    tag: "{{alpine}}"
    matrix: {{alpine: [3.19]}}
    layers: {{strategy: {strategy}}}
    packages: [{", ".join(packages or ground.packages)}]
"""


def family_of_sixty(ground: Ground, *, more: int = 0) -> str:
    """Six bases of half the packages, each with nine images on it: sixty cells, and every package known after the first few.

    `more` are images on top of those, each with two packages that others have, too.
    """
    names = ground.packages
    half = names[: len(names) // 2]
    rest = names[len(names) // 2 :]
    head = one_image(ground).partition("images:")[0]
    lines = [head + "images:"]
    for base in range(6):
        own = [*half, rest[base % len(rest)]]
        lines.append(f'  base{base}: {{tag: "{{alpine}}", matrix: {{alpine: [3.19]}}, packages: [{", ".join(own)}]}}')
        for child in range(9):
            added = rest[(base + child + 1) % len(rest)]
            lines.append(f'  app{base}-{child}: {{from: base{base}, tag: "{{alpine}}", packages: [{added}]}}')
    for number in range(more):
        two = dict.fromkeys(rest[(number + away) % min(14, len(rest))] for away in (0, 5))
        lines.append(f'  more{number}: {{from: base{number % 6}, tag: "{{alpine}}", packages: [{", ".join(two)}]}}')
    return "\n".join(lines) + "\n"
