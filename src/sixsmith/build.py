"""The straight line: from one cell of the matrix to an image in the store.

Every step is one verb on one noun. What decides the bytes is in the plan; what touches the world is behind `Supply` and
`Store`; what happened goes to the reporter.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sixsmith import catalog
from sixsmith.assemble import assemble_tree, completed
from sixsmith.bases import Base, ImageBase, open_base, remember_image
from sixsmith.budget import over_budget
from sixsmith.errors import CheckFailed, FormatError, LockOutdated, Unsatisfiable, UsageError
from sixsmith.events import CellDone, CellStarted, Reporter, Resolved, Warned, silent
from sixsmith.io.http import FileMissing
from sixsmith.io.local import local_specs, read_local_files
from sixsmith.io.repository import fetch_packages
from sixsmith.io.store import BlobDamaged, BlobMissing, Store
from sixsmith.io.supply import Supply
from sixsmith.layers.plan import likely_layers, plan_layers
from sixsmith.layers.stacked import stacked_tree
from sixsmith.layers.write import write_layers
from sixsmith.matrix import Family
from sixsmith.model.digest import Digest, digest_of
from sixsmith.oci.image import make_image, make_index
from sixsmith.oci.spec import Descriptor, Layer
from sixsmith.plan import BuildPlan, make_plan
from sixsmith.scripting import scripts_for
from sixsmith.solver.answers import Answers
from sixsmith.variant import Variant

if TYPE_CHECKING:
    from sixsmith.lock import Lock, LockedCell
    from sixsmith.oci.validate import Findings

__all__ = ["BuiltFamily", "BuiltImage", "BuiltTag", "Line", "build_family", "build_image", "write_output"]


_ANSWERS = ("answers", "solver")
"""The record of what was solved before."""

_KEPT_NODES = 40_000
"""Nodes of parents' trees that stay in memory; one takes some 400 bytes."""


_FLUSHED_EVERY = 1.0
"""Seconds of work that a build may lose which is killed."""


class _Remembered(msgspec.Struct, array_like=True):
    """What the store remembers of a finished image, under its plan's id."""

    descriptor: Descriptor
    size: int
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]
    config: Digest
    stamps: tuple[tuple[int, int], ...]
    """Of the manifest, the config and the layers: a blob that was touched since is read again before it is believed."""


class BuiltImage(msgspec.Struct, frozen=True):
    """One finished image for one architecture. `size` is what its blobs take, in bytes; `seconds` is wall time."""

    variant: Variant
    plan: BuildPlan
    descriptor: Descriptor
    size: int
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]
    cached: bool
    seconds: float

    @property
    def references(self) -> tuple[str, ...]:
        """`image:tag` for each of its tags."""
        return tuple(f"{self.variant.image}:{tag}" for tag in self.plan.tags)

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "id": self.variant.id,
            "reference": self.references[0],
            "references": list(self.references),
            "digest": self.descriptor.digest,
            "platform": str(self.variant.arch.platform),
            "size": self.size,
            "plan_id": self.plan.id,
            "packages": len(self.plan.packages),
            "cached": self.cached,
            "seconds": round(self.seconds, 3),
            "layers": [
                {
                    "digest": layer.digest,
                    "diff_id": layer.diff_id,
                    "size": layer.size,
                    "kind": layer.kind,
                    "media_type": layer.media_type,
                    "reason": layer.reason,
                    "names": list(layer.names),
                }
                for layer in self.layers
            ],
            "warnings": list(self.warnings),
        }


class BuiltTag(msgspec.Struct, frozen=True):
    """One tag: an image index over its architectures."""

    image: str
    tag: str
    descriptor: Descriptor
    images: tuple[BuiltImage, ...]


class BuiltFamily(msgspec.Struct, frozen=True):
    """All that one build made, in the family's order."""

    images: tuple[BuiltImage, ...]
    tags: tuple[BuiltTag, ...]

    def tag_documents(self) -> list[dict[str, Any]]:
        """For `--json`."""
        return [
            {"reference": f"{tag.image}:{tag.tag}", "digest": tag.descriptor.digest, "platforms": len(tag.images)}
            for tag in self.tags
        ]


def build_image(
    plan: BuildPlan,
    base: Base,
    *,
    supply: Supply,
    store: Store,
    parents: dict[str, ImageBase] | None = None,
    memory: dict[str, Findings] | None = None,
    reporter: Reporter = silent,
) -> BuiltImage:
    """The image of a plan, in the store and validated. One that was made before is known by its plan's id.

    One that others stand on goes to `parents`, while all that they will ask is at hand. `memory` holds what is known of
    layers from one image to the next. Raises what its steps raise; nothing refers to what they wrote then.
    """
    started = time.perf_counter()
    variant = plan.variant
    reporter(CellStarted(variant.id))
    reporter(Resolved(variant.id, len(plan.packages), plan.download_size))
    built = _recall(plan, store)
    if built is None:
        packages = fetch_packages(
            supply.locate(plan),
            store,
            cell=variant.id,
            jobs=supply.jobs,
            reporter=reporter,
            as_layers=_likely_layers(plan, base),
        )
        packages = completed(plan, packages)
        if variant.overlay is not None:
            supply.overlay(variant.overlay, variant.arch)  # a locked plan named its files without having them
        with scripts_for(variant) as scripts:
            assembly = assemble_tree(plan, base, packages, store=store, scripts=scripts)
        layer_plan = plan_layers(
            tree=assembly.tree,
            packages=assembly.layer_packages,
            base=base.layers(),
            base_tree=base.tree(),
            overlay=assembly.overlay,
            strategy=variant.layers,
            budget=variant.layer_budget,
        )
        layers = write_layers(layer_plan, store, compression=variant.compression, reporter=reporter, cell=variant.id)
        inherited = {layer.digest for layer in base.layers()} if variant.parent is not None else set()
        store.check(layer.digest for layer in layers if layer.digest not in inherited)  # the parent's were looked at
        image = make_image(
            layers,
            assembly.settings,
            platform=variant.arch.platform,
            created=plan.epoch,
            title=variant.image,
            version=plan.tags[0],
            base_name=plan.base.name if base.config is not None else None,
            base_digest=Digest(plan.base.identity) if base.config is not None else None,
            parent=base.config,
        )
        store.put(image.config)
        store.put(image.manifest)
        _refuse_broken(variant, image.descriptor, store, memory)
        built = BuiltImage(
            variant, plan, image.descriptor, image.size, layers, assembly.warnings, False, time.perf_counter() - started
        )
        if parents is not None:
            merged = stacked_tree(layer_plan, layers, store, base.tree())
            parents[variant.id] = remember_image(
                store, built.descriptor.digest, built.references[0], layers, tree=assembly.tree, merged=merged
            )
        _remember(built, digest_of(image.config), store)
        store.flush(every=_FLUSHED_EVERY)
    _refuse_expensive(built)
    for warning in built.warnings:
        reporter(Warned(variant.id, warning))
    reporter(CellDone(variant.id, built.descriptor.digest, built.size, time.perf_counter() - started))
    return built


def _likely_layers(plan: BuildPlan, base: Base) -> frozenset[str]:
    """The packages that will most likely be layers of their own, told before any is fetched."""
    sizes = {step.name: plan.records[step.name].size for step in plan.installs}
    strategy, budget = plan.variant.layers, plan.variant.layer_budget
    return likely_layers(sizes, strategy=strategy, budget=budget, below=len(base.layers()))


class Line:
    """The line that a family's cells go down, parents before children, each once."""

    def __init__(
        self,
        *,
        family: Family,
        supply: Supply,
        store: Store,
        lock: Lock | None = None,
        frozen: bool = False,
        reporter: Reporter = silent,
    ) -> None:
        self._family = family
        self._lock = lock
        self._frozen = frozen
        self._supply = supply
        self._store = store
        self._reporter = reporter
        self._built: dict[str, BuiltImage] = {}
        self._bases: dict[str, ImageBase] = {}
        self._findings: dict[str, Findings] = {}
        self._answers = Answers(store.record(*_ANSWERS))
        self._parents = {cell.parent for cell in family.cells if cell.parent is not None}

    def plan(self, variant: Variant) -> tuple[BuildPlan, Base]:
        """The plan of a cell and what it stands on; its parents are built when they were not."""
        if variant.parent is not None and variant.parent not in self._bases:
            parent = self.build(self._family.cell(variant.parent))
            self._bases.setdefault(
                variant.parent, ImageBase(self._store, parent.descriptor.digest, "parent", parent.references[0])
            )
        _forget_trees(self._bases, but=variant.parent)
        locked = self._locked(variant)
        pinned = Digest(locked.base) if locked is not None and locked.base.startswith("sha256:") else None
        file = locked.base if locked is not None and pinned is None else ""
        base = open_base(variant, supply=self._supply, store=self._store, parents=self._bases, pinned=pinned, file=file)
        files = read_local_files(local_specs(variant), self._supply.trace)
        if locked is not None and self._lock is not None:
            return self._lock.plan(variant, base=base.facts, files=files), base
        repositories = self._supply.repositories(variant) if variant.packages else []
        try:
            plan = make_plan(
                variant,
                base=base.facts,
                repositories=[repository.for_solver() for repository in repositories],
                overlay=self._supply.overlay(variant.overlay, variant.arch) if variant.overlay is not None else (),
                files=files,
                answers=self._answers,
            )
        except Unsatisfiable as error:
            raise Unsatisfiable(
                f"{variant.id}: {error.message}", subjects=error.subjects, place=variant.place, hint=error.hint
            ) from None
        return plan, base

    def _locked(self, variant: Variant) -> LockedCell | None:
        """What the lock says of a cell; None without a lock, and where the family file has moved on.

        Raises LockOutdated in the latter case when nothing may move.
        """
        if self._lock is None:
            return None
        moved = self._lock.moved(variant, self._family.cell)
        if not moved:
            return self._lock.cells[variant.id]
        if self._frozen:
            raise LockOutdated(f"{variant.id} {moved}", hint="`sixsmith lock` writes the lock anew")
        self._reporter(Warned(variant.id, f"{moved}: resolved anew", "`sixsmith lock` writes the lock anew"))
        return None

    def keep_answers(self) -> None:
        """Keeps what was solved on the way: the next build asks the same. Of two builds at once one is forgotten."""
        if self._answers.is_changed:
            self._store.keep(*_ANSWERS, self._answers.dump())

    def known(self, plan: BuildPlan) -> BuiltImage | None:
        """The image that an earlier build made of this plan, or None."""
        return _recall(plan, self._store)

    def build(self, variant: Variant) -> BuiltImage:
        """The image of a cell. What the store turns out to have lost is fetched and made again.

        One damaged blob is a reason to look at all of them: what else is damaged goes as well, and the second attempt finds
        a store that is sound.
        """
        if variant.id not in self._built:
            try:
                self._built[variant.id] = self._build(variant)
            except (BlobMissing, BlobDamaged) as error:
                damaged = self._store.verify(remove=True)
                self._reporter(Warned("", f"{error.message}; read it all, {len(damaged)} more were damaged: made anew"))
                self._supply.forget()
                self._built.clear()
                self._bases.clear()
                self._findings.clear()
                self._built[variant.id] = self._build(variant)
        return self._built[variant.id]

    def _build(self, variant: Variant) -> BuiltImage:
        try:
            plan, base = self.plan(variant)
            parents = self._bases if variant.id in self._parents else None
            return build_image(
                plan,
                base,
                supply=self._supply,
                store=self._store,
                parents=parents,
                memory=self._findings,
                reporter=self._reporter,
            )
        except FileMissing as error:
            if error.hint is not None or self._lock is None or not self._lock.holds(variant):
                raise
            hint = "build from a vault (`--vault`), where files stay, or take what there is now with `sixsmith lock`"
            if self._supply.vault is not None:
                hint = "`sixsmith vault check` says what it lacks, `sixsmith vault export` adds it while it can be had"
            raise FileMissing(f"{variant.id} is locked, but {error.message} any more", hint=hint) from None


def build_family(
    cells: Sequence[Variant],
    *,
    family: Family,
    supply: Supply,
    store: Store,
    today: date | None = None,
    lock: Lock | None = None,
    frozen: bool = False,
    reporter: Reporter = silent,
) -> BuiltFamily:
    """Builds these cells (their parents first) and one index per tag, and keeps the tags as roots of the store.

    With `today`, what the catalogue has against the cells' releases is said first. Raises the first error that a cell
    raises; images that were finished before it are found by the next build.
    """
    if today is not None:
        for cell in cells:
            _advise(cell, today, reporter)
    if lock is not None:
        _warn_of_compressors(lock, cells, reporter)
    line = Line(family=family, supply=supply, store=store, lock=lock, frozen=frozen, reporter=reporter)
    with store.gathering():
        images = [line.build(cell) for cell in cells]
    line.keep_answers()
    tags = _make_tags(images, store)
    store.keep_roots({f"{tag.image}:{tag.tag}": tag.descriptor.digest for tag in tags})
    return BuiltFamily(tuple(images), tuple(tags))


def _forget_trees(bases: dict[str, ImageBase], *, but: str | None) -> None:
    """Lets the trees of some bases go where they are too many to stay in memory: those that came first, as most children do
    not come late."""
    nodes = sum(len(base.known_tree) for base in bases.values() if base.known_tree is not None)
    for name, base in bases.items():
        if nodes <= _KEPT_NODES:
            return
        if name != but and base.known_tree is not None:
            nodes -= len(base.known_tree)
            base.forget()


def _warn_of_compressors(lock: Lock, cells: Sequence[Variant], reporter: Reporter) -> None:
    """Says when this machine compresses otherwise than the lock's: that is no mistake, but it explains other digests."""
    from sixsmith.lock import compressors  # many families have no lock

    for name, here in compressors(cells).items():
        then = lock.compressor.get(name, here)
        if then != here:
            reporter(
                Warned(
                    "",
                    f"the lock was made with {then}, this is {here}: written layers may get other digests (same diff_ids)",
                    "`sixsmith lock` takes the new one; verbatim layers stay as they are",
                )
            )


def write_output(built: BuiltFamily, *, store: Store, output: Path, archive: Path | None = None) -> None:
    """One image layout per image name below `output`, and all of it as one tar when `archive` is given."""
    from sixsmith.io.layout import write_archive, write_layout

    by_image: dict[str, dict[str, Descriptor]] = {}
    for tag in built.tags:
        by_image.setdefault(tag.image, {})[tag.tag] = tag.descriptor
    for image, refs in by_image.items():
        write_layout(output / image, refs, store)
    if archive is not None:
        write_archive(archive, {f"{tag.image}:{tag.tag}": tag.descriptor for tag in built.tags}, store)


def _make_tags(images: Sequence[BuiltImage], store: Store) -> list[BuiltTag]:
    """One index for each tag, over the architectures that were built."""
    by_tag: dict[tuple[str, str], list[BuiltImage]] = {}
    for image in images:
        for tag in image.plan.tags:
            by_tag.setdefault((image.variant.image, tag), []).append(image)
    tags = []
    for (name, tag), members in by_tag.items():
        _refuse_twins(f"{name}:{tag}", members)
        index = make_index([member.descriptor for member in members])
        store.put(index.raw)
        tags.append(BuiltTag(name, tag, index.descriptor, tuple(members)))
    return tags


def _refuse_twins(reference: str, images: Sequence[BuiltImage]) -> None:
    """Versions in tags are known only now, and two cells of one platform may turn out to want the same tag."""
    seen: dict[str, BuiltImage] = {}
    for image in images:
        twin = seen.setdefault(str(image.variant.arch.platform), image)
        if twin is not image:
            raise UsageError(
                f"{twin.variant.id} and {image.variant.id} would both be {reference}",
                place=image.variant.place,
                hint="let the tag name what sets them apart, an axis in braces for one",
            )


def _advise(variant: Variant, today: date, reporter: Reporter) -> None:
    """Says what the catalogue has against the cell's releases."""
    if variant.alpine:
        for advice in catalog.advice_for_alpine(variant.alpine, today):
            reporter(Warned("", str(advice)))
    if variant.overlay is not None:
        for advice in catalog.advice_for_overlay(variant.overlay.version):
            reporter(Warned("", str(advice)))


def _refuse_broken(variant: Variant, descriptor: Descriptor, store: Store, memory: dict[str, Findings] | None) -> None:
    """An image is done when it is valid, not before."""
    from sixsmith.oci.validate import validate_image

    problems = validate_image(store, descriptor, memory=memory)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise FormatError(f"{variant.id}: the image is not valid:\n{listed}", hint="this is a bug in sixsmith")


def _refuse_expensive(built: BuiltImage) -> None:
    """An image over the budget of its cell is refused, known or new."""
    variant = built.variant
    found = {"size": built.size, "layers": len(built.layers), "packages": len(built.plan.packages)}
    if said := over_budget(variant.budget, found):
        raise CheckFailed(f"{variant.id}: {'; '.join(said)}", place=variant.place, hint="`inspect` says what is in it")


def _recall(plan: BuildPlan, store: Store) -> BuiltImage | None:
    """The image that an earlier build made of this plan, when all its blobs are still there."""
    kept = store.record("image", plan.id)
    if kept is None:
        return None
    try:
        known = msgspec.msgpack.decode(kept, type=_Remembered)
    except msgspec.DecodeError:
        return None
    for digest, stamp in zip(_blobs_of(known.descriptor, known.config, known.layers), known.stamps, strict=True):
        found = store.stamp(digest)
        if found is None or (found != stamp and store.find(digest) is None):
            return None
    return BuiltImage(plan.variant, plan, known.descriptor, known.size, known.layers, known.warnings, True, 0.0)


def _remember(built: BuiltImage, config: Digest, store: Store) -> None:
    stamps = tuple(store.stamp(digest) or (0, 0) for digest in _blobs_of(built.descriptor, config, built.layers))
    known = _Remembered(built.descriptor, built.size, built.layers, built.warnings, config, stamps)
    store.keep("image", built.plan.id, msgspec.msgpack.encode(known))


def _blobs_of(descriptor: Descriptor, config: Digest, layers: Sequence[Layer]) -> tuple[Digest, ...]:
    return (descriptor.digest, config, *(layer.digest for layer in layers))
