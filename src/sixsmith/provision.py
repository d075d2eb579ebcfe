"""Packages without a family file: what apk would install (`solve`), and the same put into a directory (`install`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sixsmith import catalog
from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageRecord
from sixsmith.apk.installed import INSTALLED, WORLD, parse_installed
from sixsmith.apk.signature import Keyring
from sixsmith.errors import FormatError, UsageError
from sixsmith.io.repository import PackageRepository, fetch_packages
from sixsmith.io.store import Store
from sixsmith.io.supply import Supply
from sixsmith.model.arch import Arch, arch_named
from sixsmith.rootfs.install import install
from sixsmith.rootfs.tree import Tree
from sixsmith.scripting import scripts_named
from sixsmith.solver import Solution, solve
from sixsmith.variant import RepositoryChoice

__all__ = ["Request", "Resolved", "install_request", "resolve_request"]

_RELEASE = re.compile(r"/(?:v([0-9]+\.[0-9]+)|(edge))(?:/|\Z)")


class Request(msgspec.Struct, frozen=True):
    """What the command line asked for. `repositories` are `URL` or `@pin URL`; `root` is a directory with a database, or None."""

    packages: tuple[str, ...]
    repositories: tuple[str, ...]
    arch: str
    alpine: str | None = None
    keys: Path | None = None
    root: Path | None = None


class Resolved(msgspec.Struct, frozen=True):
    """The answer, with what is needed to act on it."""

    world: tuple[Dependency, ...]
    solution: Solution
    repositories: tuple[PackageRepository, ...]


def resolve_request(request: Request, *, supply: Supply) -> Resolved:
    """What apk would do.

    Raises UsageError when no repository is named or a request is no dependency, Unsatisfiable when there is no solution,
    and what fetching and verifying the indexes raises.
    """
    arch = arch_named(request.arch)
    wanted = [_wanted(text) for text in request.packages]
    repositories = _repositories(request, arch, supply)
    if not repositories:
        raise UsageError("no repository named", hint="--repository URL|DIR, or --alpine RELEASE for the mirror's own")
    installed: Sequence[PackageRecord] = ()
    kept: list[Dependency] = []
    if request.root is not None:
        database = request.root / INSTALLED
        if database.is_file():
            installed = [package.record for package in parse_installed(database.read_bytes())]
            text = (request.root / WORLD).read_text() if (request.root / WORLD).is_file() else ""
            asked = {dependency.name for dependency in wanted}
            kept = [entry for word in text.split() if (entry := Dependency.parse(word)).name not in asked]
    world = (*kept, *wanted)
    solution = solve(
        world,
        [repository.for_solver() for repository in repositories],
        installed=installed,
        requested={dependency.name for dependency in wanted},
    )
    return Resolved(world, solution, tuple(repositories))


def _wanted(text: str) -> Dependency:
    try:
        return Dependency.parse(text)
    except FormatError as error:
        raise UsageError(error.message, hint=error.hint) from None


def _repositories(request: Request, arch: Arch, supply: Supply) -> list[PackageRepository]:
    found = []
    for line in request.repositories:
        pin, location = None, line.strip()
        if location.startswith("@"):
            pin, _, location = location[1:].partition(" ")
            location = location.strip()
            if not pin or not location:
                raise UsageError(f"--repository '{line}' is no '@pin URL'")
        if not location:
            raise UsageError("--repository '' names no place")
        if "://" not in location:
            folder = Path(location).expanduser().absolute()
            if not folder.is_dir():
                raise UsageError(f"--repository {location}: no such folder")
            location = str(folder)
        found.append(
            PackageRepository(
                name=location,
                mirror=supply.open_mirror(location),
                folder=arch.name,
                location=location,
                pin=pin,
                keyring=_keyring(request, location, arch, supply),
                reporter=supply.reporter,
            )
        )
    if request.alpine is not None:
        catalog.alpine(request.alpine)
        for name in ("main", "community"):
            repository = supply.repository(RepositoryChoice(name), request.alpine, arch)
            if request.keys is not None and not supply.allow_untrusted:
                repository.keyring = _keyring(request, request.alpine, arch, supply)
            found.append(repository)
    return found


def _keyring(request: Request, location: str, arch: Arch, supply: Supply) -> Keyring | None:
    """`--keys`, else the keys of the release that the location names, else every key of the architecture."""
    if supply.allow_untrusted:
        return None
    if request.keys is not None:
        return Keyring({path.name: path.read_bytes() for path in sorted(request.keys.glob("*.pub"))})
    match = _RELEASE.search(location)
    release = request.alpine or ((match.group(1) or match.group(2)) if match else None)
    if release is not None:
        return Keyring(catalog.keys_for(release, arch.name))
    keys: dict[str, bytes] = {}
    for each in catalog.alpine_releases():
        if arch.name in each.arches:
            keys.update(catalog.keys_for(each.name, arch.name))
    return Keyring(keys)


def install_request(
    request: Request, *, root: Path, scripts: str, supply: Supply, store: Store
) -> tuple[PackageRecord, ...]:
    """Installs into `root` and returns the packages of the steps, in apk's order.

    The directory is written when all is known to be well, and left as it was otherwise. Raises what solving, fetching,
    installing and the scripts raise, and StoreError when the directory cannot be written.
    """
    from sixsmith.io.disk import read_tree, write_tree

    resolved = resolve_request(request, supply=supply)
    by_name = {repository.name: repository for repository in resolved.repositories}
    steps = resolved.solution.installs
    packages = fetch_packages(
        [(step.record, by_name[step.repository.name]) for step in steps if step.repository is not None],
        store,
        jobs=supply.jobs,
        reporter=supply.reporter,
    )
    tree = read_tree(root) if request.root is not None else Tree()
    tree.epoch = max((record.build_time or 0 for record in resolved.solution.packages), default=0)
    lines = [] if request.root is not None else [_line(repository) for repository in resolved.repositories]
    with scripts_named(scripts, {}, arch=request.arch) as runner:
        report = install(
            tree,
            resolved.solution.steps,
            packages,
            world=resolved.world,
            repositories=[line for line in lines if line],
            keys={},
            arch=request.arch,
            scripts=runner,
        )
    write_tree(report.tree, root)
    return tuple(step.record for step in steps)


def _line(repository: PackageRepository) -> str:
    """The repository in etc/apk/repositories; a folder of this machine means nothing there."""
    if "://" not in repository.location:
        return ""
    return f"@{repository.pin} {repository.location}" if repository.pin else repository.location
