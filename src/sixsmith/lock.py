"""`sixsmith.lock`: everything that a family's build takes from outside, pinned.

Host-free (repositories and files by name, never by URL) and made to be read in a review: a package stands once for each
Alpine release, architecture and repository, so a changed version is one changed line. Its text is JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from sixsmith.apk.index import PackageRecord
from sixsmith.errors import FormatError, Place, UsageError
from sixsmith.model.compression import GZIP_LEVEL, compressor
from sixsmith.model.digest import Digest, parse_digest
from sixsmith.plan import BaseFacts, BuildPlan, LocalFile, PlannedFile, PlannedStep, plan_of_steps
from sixsmith.variant import Variant

__all__ = ["FILE_NAME", "Lock", "LockedCell", "LockedPackage", "compressor_id", "make_lock", "parse_lock", "request_id"]

FILE_NAME = "sixsmith.lock"
VERSION = 1


class LockedPackage(msgspec.Struct, frozen=True):
    """One package file of one repository: apk's checksum, the file's size in bytes."""

    version: str
    checksum: str
    size: int
    arch: str


class LockedCell(msgspec.Struct, frozen=True):
    """One cell. `request` stands for what the family file asked when it was locked; `steps` are the installation's, of
    packages that stand under `group` (`ALPINE/ARCH`).

    `base` is a file's name or an image's manifest digest, or "" where the base is another cell or nothing.
    """

    request: str
    group: str
    base: str
    overlay: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    world: tuple[str, ...]
    epoch: int


class Lock(msgspec.Struct, frozen=True):
    """All of it. `files` are tarballs by name, `packages` by `ALPINE/ARCH`, repository and name."""

    compressor: str
    files: Mapping[str, PlannedFile] = msgspec.field(default_factory=dict)
    packages: Mapping[str, Mapping[str, Mapping[str, LockedPackage]]] = msgspec.field(default_factory=dict)
    cells: Mapping[str, LockedCell] = msgspec.field(default_factory=dict)

    def pins(self) -> dict[str, Digest]:
        """File name → digest, as `Supply` takes them."""
        return {name: file.digest for name, file in self.files.items()}

    def holds(self, variant: Variant) -> bool:
        """Whether the cell is locked, and as the family file asks for it now."""
        cell = self.cells.get(variant.id)
        return cell is not None and cell.request == request_id(variant)

    def moved(self, variant: Variant, cell: Callable[[str], Variant]) -> str:
        """Why the cell's part of the lock cannot be used, for a sentence that begins with the cell; "" when it can.

        `cell` finds a cell by its id.

        What a cell installs depends on what its parents hold: a parent that moved on takes its children with it.
        """
        if variant.id not in self.cells:
            return "is not in the lock"
        if not self.holds(variant):
            return "is not locked as the family file asks now"
        if variant.parent is not None and self.moved(cell(variant.parent), cell):
            return f"stands on {variant.parent}, which is not locked as the family file asks now"
        return ""

    def plan(self, variant: Variant, *, base: BaseFacts, files: Iterable[LocalFile] = ()) -> BuildPlan:
        """The plan that was locked, without an index. Raises KeyError for a cell that is not locked."""
        cell = self.cells[variant.id]
        table = self.packages.get(cell.group, {})
        records = {}
        for step in cell.steps:
            if step.action not in ("remove", "pin"):
                locked = table[step.repository][step.name]
                records[step.name] = PackageRecord(
                    step.name, locked.version, checksum=locked.checksum, arch=locked.arch, size=locked.size
                )
        return plan_of_steps(
            variant,
            base=base,
            world=cell.world,
            steps=cell.steps,
            records=records,
            overlay=tuple(self.files[name] for name in cell.overlay),
            files=tuple(files),
            epoch=cell.epoch,
            locked=True,
        )

    def render(self) -> str:
        """The file's text."""
        cells: dict[str, Any] = {}
        for id_, cell in self.cells.items():
            entry: dict[str, Any] = {"request": cell.request, "from": cell.group}
            if cell.base:
                entry["base"] = cell.base
            if cell.overlay:
                entry["overlay"] = list(cell.overlay)
            entry["world"] = list(cell.world)
            entry["epoch"] = cell.epoch
            entry["steps"] = [_render_step(step) for step in cell.steps]
            cells[id_] = entry
        document = {
            "lock": VERSION,
            "compressor": self.compressor,
            "files": {name: f"{file.digest} {file.size}" for name, file in sorted(self.files.items())},
            "packages": {
                group: {
                    repository: {
                        name: f"{package.version} {package.checksum} {package.size} {package.arch}"
                        for name, package in sorted(table.items())
                    }
                    for repository, table in repositories.items()
                }
                for group, repositories in sorted(self.packages.items())
            },
            "cells": cells,
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def compressor_id() -> str:
    """The gzip compressor, its version and level: what decides the digests of written layers."""
    return f"{compressor()} level {GZIP_LEVEL}"


def request_id(variant: Variant) -> str:
    """A short digest of what the family file asks to be resolved: not of env, files or services, which need no lock."""
    overlay = variant.overlay
    asked = [
        variant.alpine,
        variant.alpine_point or "",
        variant.arch.name,
        variant.base,
        variant.parent or "",
        list(variant.packages),
        [[repository.name, repository.portable_url, repository.pin or ""] for repository in variant.repositories],
        [overlay.version, overlay.symlinks, overlay.syslogd] if overlay else None,
    ]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()[:16]


def make_lock(plans: Iterable[BuildPlan]) -> Lock:
    """The lock of these plans, all made from one state of the repositories."""
    files: dict[str, PlannedFile] = {}
    packages: dict[str, dict[str, dict[str, LockedPackage]]] = {}
    cells: dict[str, LockedCell] = {}
    for plan in plans:
        variant = plan.variant
        base = ""
        if plan.base.kind == "minirootfs":
            base = plan.base.name
            files[base] = PlannedFile(base, Digest(plan.base.identity), plan.base.size)
        elif plan.base.kind == "image":
            base = plan.base.identity
        for file in plan.overlay:
            files[file.name] = file
        table = packages.setdefault(_group(variant), {})
        for step in plan.installs:
            record = plan.records[step.name]
            table.setdefault(step.repository, {})[step.name] = LockedPackage(
                record.version, record.checksum, record.size, record.arch
            )
        cells[variant.id] = LockedCell(
            request_id(variant),
            _group(variant),
            base,
            tuple(file.name for file in plan.overlay),
            plan.steps,
            plan.world,
            plan.epoch,
        )
    return Lock(compressor_id(), files, {group: table for group, table in packages.items() if table}, cells)


def parse_lock(raw: bytes, *, file: str) -> Lock:
    """A lock from its text. Raises UsageError, with the file's name, for one that is damaged or of a newer sixsmith."""
    try:
        document = msgspec.json.decode(raw)
        if not isinstance(document, dict) or not isinstance(document.get("lock"), int):
            raise FormatError("it is no lock")
        if document["lock"] > VERSION:
            raise UsageError(f"lock version {document['lock']} is of a newer sixsmith", place=Place(file))
        packages = {
            group: {
                repository: {name: _parse_package(text) for name, text in table.items()}
                for repository, table in repositories.items()
            }
            for group, repositories in document["packages"].items()
        }
        cells = {}
        for id_, entry in document["cells"].items():
            cells[id_] = LockedCell(
                entry["request"],
                entry["from"],
                entry.get("base", ""),
                tuple(entry.get("overlay", ())),
                tuple(_parse_step(text, packages.get(entry["from"], {})) for text in entry["steps"]),
                tuple(entry["world"]),
                int(entry["epoch"]),
            )
        files = {name: _parse_file(name, text) for name, text in document["files"].items()}
        for cell in cells.values():
            for name in (*cell.overlay, *([cell.base] if cell.base and not cell.base.startswith("sha256:") else [])):
                files[name]  # a KeyError says which one is named and not pinned
        return Lock(str(document["compressor"]), files, packages, cells)
    except UsageError:
        raise
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError, FormatError) as error:
        raise UsageError(
            f"not a lock that can be read ({error})", place=Place(file), hint="`sixsmith lock` writes it anew"
        ) from None


def _group(variant: Variant) -> str:
    return f"{variant.alpine}/{variant.arch.name}"


def _render_step(step: PlannedStep) -> str:
    """`main/bash`, with the action where it is not an installation; a version only where no package line has it."""
    words = [] if step.action == "install" else [step.action]
    words.append(f"{step.repository}/{step.name}" if step.repository else step.name)
    if step.action in ("remove", "pin"):
        words += [step.version, step.checksum]
    if step.old_version:
        words.append(f"was={step.old_version}")
    if step.pin:
        words.append(f"@{step.pin}")
    return " ".join(words)


def _parse_step(text: str, table: Mapping[str, Mapping[str, LockedPackage]]) -> PlannedStep:
    words = text.split(" ")
    pin = words.pop()[1:] if words[-1].startswith("@") else ""
    old = words.pop()[4:] if words[-1].startswith("was=") else ""
    action = words.pop(0) if len(words) in (2, 4) else "install"
    repository, _, name = words[0].rpartition("/")
    if action in ("remove", "pin"):
        return PlannedStep(action, name, words[1], old, repository, words[2], pin)
    package = table[repository][name]
    return PlannedStep(action, name, package.version, old, repository, package.checksum, pin)


def _parse_package(text: str) -> LockedPackage:
    version, checksum, size, arch = text.split(" ")
    return LockedPackage(version, checksum, int(size), arch)


def _parse_file(name: str, text: str) -> PlannedFile:
    digest, size = text.split(" ")
    return PlannedFile(name, parse_digest(digest), int(size))
