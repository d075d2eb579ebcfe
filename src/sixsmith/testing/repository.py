"""A package repository on disk: the files of one release, one repository and one architecture, as a mirror has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sixsmith.testing.keys import SigningKey
from sixsmith.testing.packages import SamplePackage, make_index

__all__ = ["make_repository", "repository_folder"]


def repository_folder(mirror: Path, release: str, repository: str, arch: str) -> Path:
    """Where a mirror has it: `v3.20/main/x86_64`, `edge/main/x86_64`."""
    return mirror / (release if release == "edge" else f"v{release}") / repository / arch


def make_repository(
    mirror: Path,
    release: str,
    repository: str,
    arch: str,
    packages: Sequence[SamplePackage],
    key: SigningKey | None = None,
) -> Path:
    """Writes packages and index below `mirror`; returns the folder. Packages of `arch` and of `noarch` belong here."""
    folder = repository_folder(mirror, release, repository, arch)
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        (folder / package.file_name).write_bytes(package.data)
    (folder / "APKINDEX.tar.gz").write_bytes(make_index(packages, key, description=f"{repository} sample {release}"))
    return folder
