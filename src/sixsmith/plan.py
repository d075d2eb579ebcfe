"""What a build will do, as a value: printable, hashable, comparable, and known before a byte of a package is fetched.

`make_plan` is pure. Two plans with the same `id` make the same image, bit for bit, on any machine; so the id is the key
under which a finished image is remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageRecord
from sixsmith.layers.write import compressor_named
from sixsmith.model.digest import Digest
from sixsmith.model.spelled import plain
from sixsmith.solver import Solution, SolverRepository
from sixsmith.solver.answers import Answers
from sixsmith.variant import Variant

__all__ = [
    "BaseFacts",
    "BuildPlan",
    "ExpectedLayer",
    "LocalFile",
    "PlannedFile",
    "PlannedPackage",
    "PlannedStep",
    "expected_layers",
    "make_plan",
    "plan_of_steps",
]

FORMAT = 4
"""Goes up whenever the same plan would make other bytes than before: it empties every image cache at once."""


class PlannedFile(msgspec.Struct, frozen=True):
    """A release file that the build uses whole: a minirootfs or an s6-overlay tarball. Size in bytes, 0 when unknown."""

    name: str
    digest: Digest
    size: int = 0


class LocalFile(msgspec.Struct, frozen=True):
    """A file of the family's own folder that goes into the image, by its digest; `path` is where in the image.

    `kind` is file, directory or symlink; `source` the path on this machine, or the link's target. Size in bytes. `spec` is
    the position of what asked for it among the cell's sources: two that overlap keep their own owners and modes.
    """

    path: str
    digest: Digest
    mode: int
    kind: str = "file"
    source: str = ""
    size: int = 0
    spec: int = 0


class PlannedPackage(msgspec.Struct, frozen=True):
    """One package of the finished image. Sizes in bytes; `repository` is a name, or "" when the base brought it."""

    name: str
    version: str
    arch: str
    repository: str
    checksum: str
    size: int
    installed_size: int
    origin: str


class PlannedStep(msgspec.Struct, frozen=True):
    """One step of the installation, in apk's order. `action` is apk's word: install, upgrade, downgrade, reinstall, remove."""

    action: str
    name: str
    version: str
    old_version: str
    repository: str
    checksum: str
    pin: str = ""


class BaseFacts(msgspec.Struct, frozen=True):
    """What a plan must know about the base.

    `kind` is minirootfs, packages, none, image or parent; `identity` is a digest or plan id that stands for all its bytes.
    `installed` and `world` are its apk database; `size` is that of the one file it is, in bytes, or 0.
    """

    kind: str
    identity: str
    name: str = ""
    installed: tuple[PackageRecord, ...] = ()
    world: tuple[str, ...] = ()
    size: int = 0


class BuildPlan(msgspec.Struct, frozen=True):
    """All that a build of one variant will do. Make it with `make_plan`, or from a lock.

    `records` are those of the packages to install; with `locked` they hold only what a lock knows, and the packages
    themselves say the rest. `solution` is there when the plan was just resolved.
    """

    variant: Variant
    base: BaseFacts
    world: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    packages: tuple[PlannedPackage, ...]
    overlay: tuple[PlannedFile, ...]
    files: tuple[LocalFile, ...]
    tags: tuple[str, ...]
    epoch: int
    id: str
    records: Mapping[str, PackageRecord] = msgspec.field(default_factory=dict)
    locked: bool = False
    solution: Solution | None = None

    def __eq__(self, other: object) -> bool:
        """Plans are compared by what they will do, not by how that became known."""
        if not isinstance(other, BuildPlan):
            return NotImplemented
        return self.id == other.id and self.variant == other.variant and self.base == other.base

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"BuildPlan(variant={self.variant.id!r}, id={self.id!r})"

    @property
    def installs(self) -> tuple[PlannedStep, ...]:
        """The steps that need a package file."""
        return tuple(step for step in self.steps if step.action not in ("remove", "pin"))

    @property
    def download_size(self) -> int:
        """Bytes of all package files of the steps."""
        return sum(self.records[step.name].size for step in self.installs if step.name in self.records)


def make_plan(
    variant: Variant,
    *,
    base: BaseFacts,
    repositories: Sequence[SolverRepository],
    overlay: Sequence[PlannedFile] = (),
    files: Sequence[LocalFile] = (),
    answers: Answers | None = None,
) -> BuildPlan:
    """The plan of one variant. `answers` knows what was solved before, and learns.

    Raises Unsatisfiable when no set of packages fulfils the request, FormatError for a constraint that is none.
    """
    wanted = [Dependency.parse(text) for text in variant.packages]
    replaced = {dependency.name for dependency in wanted}
    kept = [dependency for text in base.world if (dependency := Dependency.parse(text)).name not in replaced]
    world = kept + wanted
    if not wanted:
        return plan_of_steps(
            variant, base=base, world=tuple(str(entry) for entry in world), overlay=tuple(overlay), files=tuple(files)
        )
    solution = (answers or Answers()).solve(world, repositories, installed=base.installed, requested=replaced)
    steps = []
    records = {}
    for step in solution.steps:
        record, repository = step.record, step.repository
        steps.append(
            PlannedStep(
                step.action,
                record.name,
                record.version,
                step.old.version if step.old is not None else "",
                repository.name if repository is not None else "",
                record.checksum,
                (repository.pin or "") if repository is not None else "",
            )
        )
        if step.action not in ("remove", "pin"):
            records[record.name] = record
    return plan_of_steps(
        variant,
        base=base,
        world=tuple(str(entry) for entry in world),
        steps=tuple(steps),
        records=records,
        overlay=tuple(overlay),
        files=tuple(files),
        epoch=max((record.build_time or 0 for record in solution.packages), default=0),
        solution=solution,
    )


def plan_of_steps(
    variant: Variant,
    *,
    base: BaseFacts,
    world: tuple[str, ...],
    steps: tuple[PlannedStep, ...] = (),
    records: Mapping[str, PackageRecord] | None = None,
    overlay: tuple[PlannedFile, ...] = (),
    files: tuple[LocalFile, ...] = (),
    epoch: int | None = None,
    locked: bool = False,
    solution: Solution | None = None,
) -> BuildPlan:
    """The plan whose installation is known already. Raises UsageError for a tag that names a package that is not there.

    `epoch` None takes the base's: the newest build time of its packages.
    """
    records = records or {}
    if epoch is None:
        epoch = max((record.build_time or 0 for record in base.installed), default=0)
    packages = tuple(_packages_after(base, steps, records))
    versions = {package.name: package.version for package in packages}
    tags = tuple(_fill_versions(tag, versions, variant) for tag in variant.tags)
    plan_id = _identity(variant, base, world, steps, overlay, files, tags, epoch)
    return BuildPlan(
        variant, base, world, steps, packages, overlay, files, tags, epoch, plan_id, records, locked, solution
    )


def _packages_after(
    base: BaseFacts, steps: Sequence[PlannedStep], records: Mapping[str, PackageRecord]
) -> Iterator[PlannedPackage]:
    """Every package of the finished image, in the database's order: what stays, then what is new or changed."""
    changed = {step.name for step in steps if step.action != "pin"}
    for record in base.installed:
        if record.name not in changed:
            yield _planned(record, "")
    for step in steps:
        if step.name in records:
            yield _planned(records[step.name], step.repository)


def _planned(record: PackageRecord, repository: str) -> PlannedPackage:
    return PlannedPackage(
        record.name,
        record.version,
        record.arch,
        repository,
        record.checksum,
        record.size,
        record.installed_size,
        record.origin,
    )


class ExpectedLayer(NamedTuple):
    """A layer that is not written yet. `reason` is why it is expected to be of this kind."""

    kind: str
    names: tuple[str, ...]
    reason: str


def expected_layers(plan: BuildPlan) -> list[ExpectedLayer]:
    """The layers that the build will most likely write, from below.

    Which packages are layers of their own is certain only when they are there: one whose files lose to another's is not.
    """
    from sixsmith.layers import plan as layering

    below: list[ExpectedLayer] = []
    if plan.base.name:
        below.append(ExpectedLayer("base", (plan.base.name,), "what the image stands on"))
    overlay = plan.variant.overlay
    if overlay is not None:
        below.append(ExpectedLayer("overlay", (f"s6-overlay {overlay.version}",), layering.WHY_OVERLAY))
    named = {name: f"{name} {record.version}" for name, record in plan.records.items()}
    strategy = plan.variant.layers
    if strategy == "single":
        everything = (*(name for layer in below for name in layer.names), *named.values())
        return [ExpectedLayer("spliced", everything, layering.WHY_SINGLE)]
    each = strategy == "per-package"
    room = (layering.MAX_LAYERS if each else plan.variant.layer_budget) - len(below) - 2
    big = sorted(plan.records, key=lambda name: (-plan.records[name].size, name))[: max(room, 0)]
    chosen = {name for name in big if each or plan.records[name].size >= layering.BIG}
    layers = [ExpectedLayer("verbatim", (named[name],), layering.WHY_VERBATIM) for name in named if name in chosen]
    rest = tuple(named[name] for name in named if name not in chosen)
    if rest:
        layers.append(ExpectedLayer("spliced", rest, layering.why_shared(len(rest))))
    return [*below, *layers, ExpectedLayer("top", (), layering.WHY_TOP)]


def _fill_versions(tag: str, versions: Mapping[str, str], variant: Variant) -> str:
    """Fills `{version:PACKAGE}` with the resolved version. A `-rN` stays: two builds of one release are two tags."""
    import re

    from sixsmith.errors import UsageError, nearest

    def version(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in versions:
            raise UsageError(
                f"{variant.id}: tag '{tag}' names the version of '{name}', which is not installed",
                place=variant.place,
                hint=nearest(name, versions),
            )
        return versions[name]

    return re.sub(r"\{version:([^{}]+)\}", version, tag)


def _identity(
    variant: Variant,
    base: BaseFacts,
    world: tuple[str, ...],
    steps: Sequence[PlannedStep],
    overlay: Sequence[PlannedFile],
    files: Sequence[LocalFile],
    tags: Sequence[str],
    epoch: int,
) -> str:
    """A digest over everything that can change a byte of the image, and nothing else (places in files, tags, ids)."""
    settings = msgspec.to_builtins(variant, enc_hook=plain)
    for name in ("id", "image", "tags", "axes", "parent", "place", "checks", "budget", "repositories"):
        settings.pop(name)
    for spec in settings["files"]:
        spec.pop("place")
        spec.pop("source")
    if settings["overlay"]:
        settings["overlay"].pop("place")
    if isinstance(variant.services, str):
        settings["services"] = "folder"  # what is in it stands among the files; where it lies is this machine's affair
    document = {
        "format": FORMAT,
        "compressor": compressor_named(variant.compression),
        "settings": settings,
        "title": variant.image,
        # these two are mappings whose order is the image's too, at every depth
        "order": [list(variant.env), json.dumps(settings["services"])],
        "repositories": [[each.name, each.portable_url, each.pin or ""] for each in variant.repositories],
        "base": [base.kind, base.identity, base.name],
        "world": list(world),
        "steps": [[step.action, step.name, step.version, step.checksum] for step in steps],
        "overlay": [[file.name, file.digest] for file in overlay],
        "files": [[file.path, file.kind, file.digest, file.mode, file.spec] for file in files],
        "tags": list(tags),
        "epoch": epoch,
    }
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
