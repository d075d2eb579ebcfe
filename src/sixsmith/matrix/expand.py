"""From images with axes to variants, one for each cell and architecture, with everything looked up and filled in."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sixsmith.catalog import alpine, overlay_files
from sixsmith.errors import MatrixError, Place, UsageError, nearest
from sixsmith.matrix.axes import ALPINE, OVERLAY, Cell, Matrix, cells_of
from sixsmith.matrix.fill import Blanks, names_in
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.schema import FileEntry, RepositoryEntry
from sixsmith.matrix.settings import Settings, inherited, merged
from sixsmith.matrix.shapes import Values
from sixsmith.matrix.words import check_package
from sixsmith.model.arch import ARCHES, Arch
from sixsmith.model.reference import parse_reference
from sixsmith.model.spelled import Spelled, plain
from sixsmith.variant import Accounts, FileSpec, OverlayChoice, RepositoryChoice, Variant

__all__ = ["Expansion"]

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_ID_UNSAFE = re.compile(r"[^A-Za-z0-9_.+~=-]+")
_DEFAULT_ARCH = [Spelled("x86_64", Place(""))]
_EMPTY = Matrix({}, [], [], None, Place(""), False)


class Expanded(msgspec.Struct, frozen=True):
    """A cell with its settings merged and its architectures known: what a child image starts from."""

    image: str
    cell: Cell
    settings: Settings
    arches: tuple[Arch, ...]
    overlay: OverlayChoice | None

    @property
    def label(self) -> str:
        """`IMAGE:AXIS-AXIS`, the id without the architecture."""
        values = [_ID_UNSAFE.sub("_", value) for value in self.cell.axes.values()]
        return f"{self.image}:{'-'.join(values) or 'only'}"


class Expansion:
    """Expands the images of one file, in file order, a parent before its children."""

    def __init__(self, images: Mapping[Spelled, Values], defaults: Settings, folder: Path, problems: Problems) -> None:
        self.images = images
        self.defaults = defaults
        self.folder = folder
        self.problems = problems
        self._done: dict[str, list[Expanded] | None] = {}
        self._under_way: list[str] = []
        self._order: list[str] = []
        self._untagged = {str(name) for name, image in images.items() if image.wrong & {"tag", "tags"}}

    def variants(self) -> tuple[Variant, ...]:
        """Every variant that could be made; the problems say what could not."""
        for name in self.images:
            self._expand(name)
        found = [
            variant for name in self._order for expanded in self._done[name] or () for variant in self._spell(expanded)
        ]
        self._check_unique(found)
        return tuple(found)

    # -- images -> cells

    def _expand(self, name: Spelled) -> list[Expanded] | None:
        """The cells of an image; None when a problem keeps them unknown."""
        if name in self._done:
            return self._done[name]
        self._under_way.append(name)
        self._done[name] = result = self._expand_anew(name)
        self._under_way.pop()
        self._order.append(str(name))
        return result

    def _expand_anew(self, name: Spelled) -> list[Expanded] | None:
        image = self.images[name]
        if image.wrong & {"from", "matrix"}:
            return None
        parents: list[Expanded] | None = None
        if "from" in image:
            parents = self._parent(image["from"])
            if parents is None:
                return None
            if "base" in image:
                self.problems.add(image["base"].place, "an image with 'from' has its parent as base", "remove 'base'")
        own = {key: value for key, value in image.items() if key not in ("from", "matrix")}
        matrix: Matrix = image.get("matrix") or _EMPTY
        if matrix.arch is not None:
            own["arch"] = matrix.arch
        templates = names_in([self.defaults, own, *(entry.settings for entry in matrix.include)])
        place = name.place if matrix is _EMPTY else matrix.place
        start = Matrix(matrix.axes, matrix.include, matrix.exclude, None, place, matrix.broken)
        above = None if parents is None else [_with_parent(each) for each in parents]
        before = len(self.problems)
        cells = cells_of(start, above, templates, self.problems)
        if not cells and not matrix.broken and len(self.problems) == before:
            self.problems.add(place, f"image '{name}' has no cell left")
        expanded = [self._settle(name, cell, own, parents is not None) for cell in cells]
        return None if matrix.broken else [each for each in expanded if each is not None]

    def _parent(self, name: Spelled) -> list[Expanded] | None:
        if name in self._under_way:
            circle = [*self._under_way[self._under_way.index(name) :], name]
            self.problems.add(name.place, f"an image cannot stand on itself: {' → '.join(circle)}")
            return None
        known = next((image for image in self.images if image == name), None)
        if known is None:
            self.problems.add(name.place, f"no image '{name}' in this file", nearest(name, self.images))
            return None
        return self._expand(known)

    def _settle(self, name: Spelled, cell: Cell, own: Settings, is_child: bool) -> Expanded | None:
        """Merges the settings of a cell, and finds its architectures and its overlay."""
        parent: Expanded | None = cell.parent
        start = inherited(self.defaults, parent.settings) if parent is not None else self.defaults
        layers = [own, *cell.refinements]
        settings = merged(start, *layers)
        if parent is not None and not any("arch" in layer for layer in layers):
            settings.pop("arch", None)
        arches = self._arches(name, cell, settings, parent)
        chosen = self._overlay(cell, settings, parent, arches)
        return Expanded(str(name), cell, settings, arches, chosen)

    def _arches(self, name: str, cell: Cell, settings: Settings, parent: Expanded | None) -> tuple[Arch, ...]:
        words: Sequence[Spelled] = settings.get("arch", _DEFAULT_ARCH)
        if parent is not None and "arch" not in settings:
            words = [Spelled(arch.name, cell.place) for arch in parent.arches]
        arches = []
        for word in dict.fromkeys(words):
            if word in cell.excluded_arches:
                continue
            if parent is not None and ARCHES[word] not in parent.arches:
                has = ", ".join(arch.name for arch in parent.arches)
                self.problems.add(word.place, f"the parent {parent.label} has no {word}", f"it has {has}")
                continue
            if self._release_has(cell, word):
                arches.append(ARCHES[word])
        return tuple(arches)

    def _release_has(self, cell: Cell, arch: str) -> bool:
        if ALPINE not in cell.axes:
            return True
        release = alpine(cell.axes[ALPINE])
        if arch in release.arches:
            return True
        hint = f"it has {', '.join(release.arches)}; or exclude {{alpine: {cell.axes[ALPINE]}, arch: {arch}}}"
        self.problems.add(cell.place, f"Alpine {release.name} has no {arch}", hint)
        return False

    def _overlay(
        self, cell: Cell, settings: Settings, parent: Expanded | None, arches: Sequence[Arch]
    ) -> OverlayChoice | None:
        if parent is not None and OVERLAY in parent.cell.axes:
            return None
        version = cell.axes.get(OVERLAY)
        if version is None:
            return None
        options = settings.get("s6-overlay-options", {})
        choice = OverlayChoice(
            str(version), options.get("symlinks", False), options.get("syslogd", False), version.place
        )
        for arch in arches:
            try:
                overlay_files(choice.version, arch, symlinks=choice.symlinks, syslogd=choice.syslogd)
            except UsageError as error:
                self.problems.add_error(version.place, error)
        return choice

    # -- cells -> variants

    def _spell(self, expanded: Expanded) -> Iterator[Variant]:
        """One variant for each architecture of a cell."""
        cell, settings = expanded.cell, expanded.settings
        parent: Expanded | None = cell.parent
        blanks = Blanks(cell.axes, self.problems)
        release = alpine(cell.axes[ALPINE]) if ALPINE in cell.axes else None
        base = "parent" if parent is not None else self._base(cell, settings, blanks)
        repositories = self._repositories(cell, settings, blanks)
        common: dict[str, Any] = {
            "image": expanded.image,
            "tags": self._tags(expanded, blanks),
            "alpine": release.name if release else "",
            "alpine_point": str(cell.axes[ALPINE]) if release and cell.axes[ALPINE] != release.name else None,
            "axes": {name: str(value) for name, value in cell.axes.items()},
            "base": base,
            "overlay": expanded.overlay,
            "packages": self._packages(cell, settings, blanks, repositories),
            "repositories": repositories,
            **_runtime(settings, blanks),
            **self._contents(expanded, blanks),
            **_making(settings),
            "place": cell.place,
        }
        for arch in expanded.arches:
            parent_id = f"{parent.label}/{arch}" if parent is not None else None
            yield Variant(id=f"{expanded.label}/{arch}", arch=arch, parent=parent_id, **common)

    def _base(self, cell: Cell, settings: Settings, blanks: Blanks) -> str:
        spelled: Spelled = settings.get("base") or Spelled("minirootfs", cell.place)
        base = blanks.fill(spelled)
        release = alpine(cell.axes[ALPINE]) if ALPINE in cell.axes else None
        if base in ("minirootfs", "packages", "none"):
            if release is None and (base != "none" or settings.get("packages")):
                self.problems.add(cell.place, "which Alpine release?", "give the matrix an axis 'alpine'")
            elif release is not None and base == "minirootfs" and not release.minirootfs:
                hint = "minirootfs came with 3.5; use base: packages"
                self.problems.add(cell.place, f"Alpine {release.name} has no minirootfs", hint)
            return base
        try:
            parse_reference(base)
        except UsageError as error:
            self.problems.add_error(spelled.place, error)
        if release is None and settings.get("packages"):
            self.problems.add(cell.place, "packages of which Alpine release?", "give the matrix an axis 'alpine'")
        return base

    def _tags(self, expanded: Expanded, blanks: Blanks) -> tuple[str, ...]:
        settings = expanded.settings
        words = settings.get("tags") or ([settings["tag"]] if "tag" in settings else None)
        if words is None:
            return (expanded.label.rpartition(":")[2].replace("~", "-").replace("=", "-").replace("+", "_"),)
        tags = []
        for word in words:
            tag = blanks.fill(word, strict=True, versions=True)
            bare = re.sub(r"\{version:[^{}]*\}", "1", tag)
            if not _TAG.match(bare) and "{" not in bare:
                self.problems.add(word.place, f"'{tag}' is not a tag", "up to 128 of letters, digits, . _ -")
            tags.append(tag)
        return tuple(dict.fromkeys(tags))

    def _packages(
        self, cell: Cell, settings: Settings, blanks: Blanks, repositories: Sequence[RepositoryChoice]
    ) -> tuple[str, ...]:
        pins = {choice.pin for choice in repositories if choice.pin}
        packages: dict[str, None] = {}
        names: dict[str, Spelled] = {}
        for word in settings.get("packages", ()):
            text = blanks.fill(word, strict=True)
            if text != word and "{" not in text:
                try:
                    check_package(text)
                except UsageError as error:
                    self.problems.add_error(word.place, error)
            pin = text.partition("@")[2]
            if pin and pin not in pins:
                hint = nearest(pin, pins) or "give a repository this pin"
                self.problems.add(word.place, f"no repository has the pin '{pin}'", hint)
            packages[text] = None
            names.setdefault(_name_of(text), word)
        for word in settings.get("without", ()):
            if word not in names:
                kept = "what the parent's image has cannot be taken out" if cell.parent is not None else None
                advice = nearest(word, names) or kept
                self.problems.add(word.place, f"'{word}' is not among the packages of this cell", advice)
            packages = {text: None for text in packages if _name_of(text) != word}
        return tuple(packages)

    def _repositories(self, cell: Cell, settings: Settings, blanks: Blanks) -> tuple[RepositoryChoice, ...]:
        there = alpine(cell.axes[ALPINE]).repositories if ALPINE in cell.axes else ()
        entries: Sequence[RepositoryEntry] | None = settings.get("repositories")
        if entries is None:
            return tuple(RepositoryChoice(name) for name in there if name in ("main", "community"))
        choices: list[RepositoryChoice] = []
        for entry in entries:
            if any(choice.name == entry.name for choice in choices):
                self.problems.add(
                    entry.name.place, f"two repositories are called '{entry.name}'", "one name, one place"
                )
                continue
            if entry.url is None and entry.name not in there:
                hint = nearest(entry.name, there) or "another one needs a url"
                release = f"Alpine {cell.axes[ALPINE]}" if ALPINE in cell.axes else "an image without an Alpine release"
                self.problems.add(entry.name.place, f"{release} has no repository '{entry.name}'", hint)
                continue
            key = self._source(blanks.fill(entry.key), entry.key.place) if entry.key else None
            pin = str(entry.pin).removeprefix("@") if entry.pin else None
            url = self._url(blanks.fill(entry.url), entry.url.place) if entry.url else None
            choices.append(RepositoryChoice(str(entry.name), url, pin, key))
        return tuple(choices)

    def _url(self, text: str, place: Place) -> str:
        scheme, separator, _ = text.partition("://")
        if not separator:
            return self._absolute(text)
        if scheme not in ("http", "https"):
            self.problems.add(place, f"'{text}': cannot fetch from {scheme}://", "http, https, or a folder")
        return text.rstrip("/")

    def _absolute(self, text: str) -> str:
        return os.path.normpath(self.folder / text)

    def _source(self, text: str, place: Place) -> str:
        """The absolute path of a file or folder beside the family file; a problem when it is not there."""
        path = self._absolute(text)
        if not os.path.exists(path):  # noqa: PTH110  a Path would be made for nothing
            parent = Path(path).parent
            beside = [each.name for each in parent.iterdir()] if parent.is_dir() else []
            self.problems.add(place, f"no file '{text}'", nearest(Path(path).name, beside))
        return path

    def _contents(self, expanded: Expanded, blanks: Blanks) -> dict[str, Any]:
        """Accounts, files and services."""
        settings = expanded.settings
        accounts = settings.get("accounts", {})
        users, groups = tuple(accounts.get("users", ())), tuple(accounts.get("groups", ()))
        place = expanded.cell.place
        for kind, names in (("user", [user.name for user in users]), ("group", [group.name for group in groups])):
            for name in dict.fromkeys(name for name in names if names.count(name) > 1):
                self.problems.add(place, f"two entries for the {kind} '{name}'")
        paths: set[str] = set()
        for entry in settings.get("files", ()):
            if entry.path in paths:
                self.problems.add(entry.place, f"two entries for the file '{entry.path}'")
            paths.add(entry.path)
        services = settings.get("services")
        if services is not None and OVERLAY not in expanded.cell.axes:
            where = services.place if isinstance(services, Spelled) else next((key.place for key in services), place)
            self.problems.add(where, "services need s6-overlay", "give the matrix an axis 's6-overlay'")
        if isinstance(services, Spelled):
            services = self._folder(services, blanks)
        elif services is not None:
            self._check_services(services, expanded)
        return {
            "accounts": Accounts(users, groups),
            "files": tuple(self._file(entry, blanks) for entry in settings.get("files", ())),
            "services": services,
        }

    def _check_services(self, services: Mapping[Spelled, Any], expanded: Expanded) -> None:
        """Notes what is wrong with services. What they need may be a parent's, or among the files."""
        from sixsmith.s6.service_file import read_services  # most families have no services

        on_an_image = expanded.settings.get("base", "minirootfs") not in ("minirootfs", "packages", "none")
        files = (entry.path.strip("/") for entry in expanded.settings.get("files", ()))
        elsewhere = (
            expanded.cell.parent is not None
            or on_an_image
            or any("etc/s6-overlay".startswith(path) or path.startswith("etc/s6-overlay/") for path in files)
        )
        try:
            read_services(services, place=expanded.cell.place, closed=not elsewhere)
        except MatrixError as error:
            for problem in error.problems:
                self.problems.add(problem.place, problem.message, problem.hint)

    def _folder(self, text: Spelled, blanks: Blanks) -> str:
        path = self._source(blanks.fill(text), text.place)
        if Path(path).is_file():
            self.problems.add(text.place, f"'{text}' is a file, not a folder of service directories")
        return path

    def _file(self, entry: FileEntry, blanks: Blanks) -> FileSpec:
        values = entry.values
        source: Spelled | None = values.get("source")
        content: str | None = values.get("content")
        target: Spelled | None = values.get("target")
        owner: str | None = values.get("owner")
        path = self._source(blanks.fill(source), source.place) if source is not None else None
        if path is not None and values["type"] == "directory" and Path(path).is_file():
            self.problems.add(entry.place, f"'{source}' is a file", "leave out 'type', or name a folder")
        return FileSpec(
            path=values["path"],
            type="directory" if path is not None and Path(path).is_dir() else values["type"],
            source=path,
            content=str(content) if content is not None else None,
            target=str(target) if target is not None else None,
            owner=owner,
            group=values.get("group"),
            mode=values.get("mode"),
            place=entry.place,
        )

    def _check_unique(self, variants: Sequence[Variant]) -> None:
        """Two cells with one id, or with one tag for the same architecture, would overwrite each other."""
        ids: dict[str, Variant] = {}
        tags: dict[tuple[str, str, str], Variant] = {}
        for variant in variants:
            if variant.image in self._untagged:
                continue
            place = variant.place or Place("")
            if variant.id in ids:
                self.problems.add(
                    place, f"two cells are {variant.cell}", f"the other is in line {_line(ids[variant.id])}"
                )
                continue
            ids[variant.id] = variant
            for tag in variant.tags:
                other = tags.setdefault((variant.image, tag, variant.arch.name), variant)
                if other is not variant and "{version:" not in tag:
                    message = f"the tag '{variant.image}:{tag}' is taken by {other.cell}"
                    axes = " ".join(f"{{{name}}}" for name in variant.axes)
                    self.problems.add(place, message, f"name more axes in the tag: {axes}")


def _with_parent(expanded: Expanded) -> Cell:
    """The cell that a child of `expanded` starts from."""
    return Cell(dict(expanded.cell.axes), expanded.cell.place, expanded)


def _line(variant: Variant) -> int:
    return variant.place.line if variant.place else 0


def _name_of(package: str) -> str:
    return re.split(r"[<>=~@]", package, maxsplit=1)[0]


def _words(value: Sequence[str] | None, blanks: Blanks) -> tuple[str, ...] | None:
    return None if value is None else tuple(blanks.fill(word) for word in value)


def _runtime(settings: Settings, blanks: Blanks) -> dict[str, Any]:
    """What goes into the image config."""
    return {
        "entrypoint": _words(settings.get("entrypoint"), blanks),
        "cmd": _words(settings.get("cmd"), blanks),
        "env": blanks.fill_values(settings.get("env", {})),
        "user": settings.get("user"),
        "workdir": settings.get("workdir"),
        "ports": tuple(settings.get("ports", ())),
        "volumes": tuple(settings.get("volumes", ())),
        "stop_signal": settings.get("stop-signal"),
        "healthcheck": settings.get("healthcheck"),
        "labels": blanks.fill_values(settings.get("labels", {})),
        "annotations": blanks.fill_values(settings.get("annotations", {})),
    }


def _making(settings: Settings) -> dict[str, Any]:
    """How the image is made and judged."""
    scripts = settings.get("scripts", "emulate")
    modes = {"default": scripts} if isinstance(scripts, str) else dict(scripts)
    layers = settings.get("layers", {})
    making: dict[str, Any] = {
        "scripts": modes.pop("default", "emulate"),
        "scripts_by_package": {str(name): word for name, word in modes.items()},
        "lint_ignore": tuple(plain(entry) for entry in settings.get("lint", {}).get("ignore", ())),
        "checks": tuple(plain(check) for check in settings.get("checks", ())),
        "budget": {str(name): str(value) for name, value in settings.get("budget", {}).items()},
    }
    if "strategy" in layers:
        making["layers"] = layers["strategy"]
    if "budget" in layers:
        making["layer_budget"] = layers["budget"]
    if "compression" in settings:
        making["compression"] = settings["compression"]
    return making
