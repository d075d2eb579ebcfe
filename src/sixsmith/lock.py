"""`sixsmith.lock`: everything that a family's build takes from outside, pinned.

Host-free (repositories and files by name, never by URL) and made to be read in a review: a package stands once for each
Alpine release, architecture and repository, so a changed version is one changed line. Its text is JSON.

A lock comes with a checkout or a merge request, so nothing in it is believed before it was looked at: its names become
paths of the vault and of mirrors.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from sixsmith.apk.index import PackageRecord
from sixsmith.errors import FormatError, Place, UsageError
from sixsmith.layers.write import compressor_named
from sixsmith.model.digest import Digest, parse_digest
from sixsmith.plan import BaseFacts, BuildPlan, LocalFile, PlannedFile, PlannedStep, plan_of_steps
from sixsmith.variant import Variant

__all__ = ["FILE_NAME", "Lock", "LockedCell", "LockedPackage", "compressors", "make_lock", "parse_lock", "request_id"]

FILE_NAME = "sixsmith.lock"
VERSION = 1

_ACTIONS = ("install", "upgrade", "downgrade", "replace", "remove", "pin")
_WITHOUT_PACKAGE = ("remove", "pin")

_PACKAGE = r"[^\s\x00-\x1f\x7f/!<>=~@\\-][^\s\x00-\x1f\x7f/!<>=~@\\]*\Z"  # as in an index
_VERSION = r"[^\s\x00-\x1f\x7f/\\=@]+\Z"
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z"
_GROUP = r"(edge|[0-9][0-9.]*)?/[a-z0-9_]+\Z"
_CHECKSUM = r"Q[12][A-Za-z0-9+/]{20,60}={0,2}\Z"
_BYTE = r"byte (\d+)"
_MAX_EPOCH = 1 << 36  # the year 4147; an image's date has four digits of a year

T = TypeVar("T")


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
    """All of it. `files` are tarballs by name, `packages` by `ALPINE/ARCH`, repository and name (`NAME=VERSION` where cells
    of one release take different versions). `compressor` says for each compression with what written layers were made."""

    compressor: Mapping[str, str]
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

    def package(self, cell: LockedCell, step: PlannedStep) -> LockedPackage:
        """The package file of a step that needs one."""
        table = self.packages[cell.group][step.repository]
        return table.get(step.name) or table[f"{step.name}={step.version}"]

    def plan(self, variant: Variant, *, base: BaseFacts, files: Iterable[LocalFile] = ()) -> BuildPlan:
        """The plan that was locked, without an index. Raises KeyError for a cell that is not locked."""
        cell = self.cells[variant.id]
        records = {}
        for step in cell.steps:
            if step.action not in _WITHOUT_PACKAGE:
                locked = self.package(cell, step)
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
            table = self.packages.get(cell.group, {})
            entry["steps"] = [_render_step(step, table.get(step.repository, {})) for step in cell.steps]
            cells[id_] = entry
        document = {
            "lock": VERSION,
            "compressor": dict(self.compressor),
            "files": {name: f"{file.digest} {file.size}" for name, file in sorted(self.files.items())},
            "packages": {
                group: {
                    repository: {
                        name: f"{package.version} {package.checksum} {package.size} {package.arch}"
                        for name, package in sorted(table.items())
                    }
                    for repository, table in sorted(repositories.items())
                }
                for group, repositories in sorted(self.packages.items())
            },
            "cells": cells,
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def compressors(cells: Iterable[Variant]) -> dict[str, str]:
    """For each compression that the cells ask for: the compressor, its version and level, which decide the digests of
    written layers."""
    return {name: compressor_named(name) for name in sorted({cell.compression for cell in cells})}


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
    """The lock of these plans, all made from one state of the repositories.

    Raises UsageError when two cells of one release call different repositories by one name.
    """
    files: dict[str, PlannedFile] = {}
    cells: dict[str, LockedCell] = {}
    variants = []
    shelf = _Shelf()
    for plan in plans:
        variant = plan.variant
        variants.append(variant)
        base = ""
        if plan.base.kind == "minirootfs":
            base = plan.base.name
            files[base] = PlannedFile(base, Digest(plan.base.identity), plan.base.size)
        elif plan.base.kind == "image":
            base = plan.base.identity
        for file in plan.overlay:
            files[file.name] = file
        for step in plan.installs:
            shelf.put(variant, step, plan.records[step.name])
        cells[variant.id] = LockedCell(
            request_id(variant),
            _group(variant),
            base,
            tuple(file.name for file in plan.overlay),
            plan.steps,
            plan.world,
            plan.epoch,
        )
    return Lock(compressors(variants), files, shelf.packages(), cells)


class _Shelf:
    """The packages of all cells: by group, repository, name and version."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, dict[str, dict[str, LockedPackage]]]] = {}

    def put(self, variant: Variant, step: PlannedStep, record: PackageRecord) -> None:
        """Raises UsageError for a version that is there already, and is another file."""
        package = LockedPackage(record.version, record.checksum, record.size, record.arch)
        repositories = self._found.setdefault(_group(variant), {})
        versions = repositories.setdefault(step.repository, {}).setdefault(step.name, {})
        if versions.setdefault(record.version, package) != package:
            raise UsageError(
                f"{variant.id}: the repository '{step.repository}' has another {step.name}-{record.version} than that "
                f"of another cell of {_group(variant)}",
                place=variant.place,
                hint="one name is one repository: give the two different names",
            )

    def packages(self) -> dict[str, dict[str, dict[str, LockedPackage]]]:
        """As a lock has them: by name alone wherever all cells take one version."""
        return {
            group: {repository: _by_name(names) for repository, names in repositories.items()}
            for group, repositories in self._found.items()
        }


def _by_name(names: Mapping[str, Mapping[str, LockedPackage]]) -> dict[str, LockedPackage]:
    return {
        name if len(versions) == 1 else f"{name}={version}": package
        for name, versions in names.items()
        for version, package in versions.items()
    }


def _group(variant: Variant) -> str:
    return f"{variant.alpine}/{variant.arch.name}"


def _render_step(step: PlannedStep, table: Mapping[str, LockedPackage]) -> str:
    """`main/bash`, with the action where it is not an installation; a version only where no package line has it."""
    words = [] if step.action == "install" else [step.action]
    name = step.name if step.action in _WITHOUT_PACKAGE or step.name in table else f"{step.name}={step.version}"
    words.append(f"{step.repository}/{name}" if step.repository else name)
    if step.action in _WITHOUT_PACKAGE:
        words += [step.version, step.checksum]
    if step.old_version:
        words.append(f"was={step.old_version}")
    if step.pin:
        words.append(f"@{step.pin}")
    return " ".join(words)


# ---- reading


class _CellDocument(msgspec.Struct, forbid_unknown_fields=True):
    """A cell as it stands in the file."""

    request: str
    group: str = msgspec.field(name="from")
    world: tuple[str, ...]
    epoch: int
    steps: tuple[str, ...]
    base: str = ""
    overlay: tuple[str, ...] = ()


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    lock: int
    compressor: dict[str, str]
    files: dict[str, str]
    packages: dict[str, dict[str, dict[str, str]]]
    cells: dict[str, _CellDocument]


class _Version(msgspec.Struct):
    """What every version of the file has."""

    lock: int


class _Odd(Exception):
    """Something in a lock that means nothing. `near` is a text that stands there."""

    def __init__(self, near: str, message: str) -> None:
        super().__init__(message)
        self.near = near


def parse_lock(raw: bytes, *, file: str) -> Lock:
    """A lock from its text. Raises UsageError, with file and line, for one that is damaged or of a newer sixsmith."""
    hint = "`sixsmith lock` writes it anew"
    try:
        version = msgspec.json.decode(raw, type=_Version).lock
        if version > VERSION:
            raise UsageError(
                f"lock version {version} is of a newer sixsmith",
                place=Place(file, _line_of(raw, '"lock"')),
                hint=f"this one reads version {VERSION}: use the newer one, or `sixsmith lock` to write it anew",
            )
        return _lock_of(msgspec.json.decode(raw, type=_Document))
    except _Odd as odd:
        line = _line_of(raw, json.dumps(odd.near, ensure_ascii=False))
        raise UsageError(f"not a lock that can be read: {odd}", place=Place(file, line), hint=hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        merge = re.search(rb"^(<{7}|={7}|>{7})", raw, re.MULTILINE)
        if merge is not None:
            place = Place(file, 1 + raw[: merge.start()].count(b"\n"))
            raise UsageError("the lock holds a merge conflict", place=place, hint=hint) from None
        byte = re.search(_BYTE, str(error))
        line = 1 + raw[: int(byte.group(1))].count(b"\n") if byte is not None else 0
        raise UsageError(f"not a lock that can be read: {error}", place=Place(file, line), hint=hint) from None


def _line_of(raw: bytes, text: str) -> int:
    """The line on which a text stands first; 0 for nowhere."""
    at = raw.find(text.encode("utf-8", "surrogatepass"))
    return 1 + raw[:at].count(b"\n") if at >= 0 else 0


def _lock_of(document: _Document) -> Lock:
    files = {name: _parse_file(name, text) for name, text in document.files.items()}
    packages = {}
    for group, repositories in document.packages.items():
        _expect(re.match(_GROUP, group), group, "is no `ALPINE/ARCH`")
        packages[group] = {
            repository: {name: _parse_package(name, text) for name, text in table.items()}
            for repository, table in repositories.items()
            if _expect(re.match(_WORD, repository), repository, "is no repository's name")
        }
    cells = {id_: _parse_cell(id_, cell, files, packages) for id_, cell in document.cells.items()}
    return Lock(document.compressor, files, packages, cells)


def _expect(right: T | None, text: str, otherwise: str) -> T:
    if not right:
        raise _Odd(text, f"'{text}' {otherwise}")
    return right


def _parse_cell(
    id_: str,
    cell: _CellDocument,
    files: Mapping[str, PlannedFile],
    packages: Mapping[str, Mapping[str, Mapping[str, LockedPackage]]],
) -> LockedCell:
    _expect(re.match(_GROUP, cell.group), cell.group, "is no `ALPINE/ARCH`")
    for name in (*cell.overlay, *([cell.base] if cell.base and not cell.base.startswith("sha256:") else [])):
        _expect(files.get(name), name, f"is named by {id_} and stands not among the files")
    if cell.base.startswith("sha256:"):
        _digest(cell.base, cell.base)
    _expect(0 <= cell.epoch < _MAX_EPOCH, str(cell.epoch), "is no time in seconds")
    table = packages.get(cell.group, {})
    steps = tuple(_parse_step(text, table) for text in cell.steps)
    return LockedCell(cell.request, cell.group, cell.base, cell.overlay, steps, cell.world, cell.epoch)


def _parse_step(text: str, table: Mapping[str, Mapping[str, LockedPackage]]) -> PlannedStep:
    words = text.split(" ")
    pin = words.pop()[1:] if len(words) > 1 and words[-1].startswith("@") else ""
    old = words.pop()[4:] if len(words) > 1 and words[-1].startswith("was=") else ""
    action = words.pop(0) if words[0] in _ACTIONS and len(words) > 1 else "install"
    if len(words) != (3 if action in _WITHOUT_PACKAGE else 1):
        raise _Odd(text, f"'{text}' is no step of an installation")
    repository, _, key = words[0].rpartition("/")
    name = key.partition("=")[0]
    _expect(re.match(_PACKAGE, name), text, "names no package")
    if action in _WITHOUT_PACKAGE:
        return PlannedStep(action, name, words[1], old, repository, words[2], pin)
    package = _expect(table.get(repository, {}).get(key), text, "is a package that the lock does not hold")
    return PlannedStep(action, name, package.version, old, repository, package.checksum, pin)


def _parse_package(key: str, text: str) -> LockedPackage:
    name, _, of_key = key.partition("=")
    words = text.split(" ")
    if not re.match(_PACKAGE, name) or name in (".", "..") or len(words) != 4:
        raise _Odd(key, f"'{key}': '{text}' is no package (`VERSION CHECKSUM SIZE ARCH`)")
    version, checksum, size, arch = words
    _expect(re.match(_VERSION, version) and of_key in ("", version), text, f"holds no version of {name}")
    _expect(re.match(_CHECKSUM, checksum), text, "holds no checksum that apk writes")
    _expect(not arch or re.match(_WORD, arch), text, "names no architecture")
    return LockedPackage(version, checksum, _size(size, text), arch)


def _parse_file(name: str, text: str) -> PlannedFile:
    parts = name.split("/")
    _expect(len(parts) <= 2 and all(re.match(_WORD, part) for part in parts), name, "is no file's name")
    words = text.split(" ")
    _expect(len(words) == 2, text, "is no file (`DIGEST SIZE`)")
    return PlannedFile(name, _digest(words[0], text), _size(words[1], text))


def _digest(text: str, near: str) -> Digest:
    try:
        return parse_digest(text)
    except FormatError as error:
        raise _Odd(near, error.message) from None


def _size(text: str, near: str) -> int:
    _expect(text.isascii() and text.isdecimal() and len(text) < 16, near, "holds no size in bytes")
    return int(text)
