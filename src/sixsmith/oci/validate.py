"""Is an image what it says it is? All that is wrong, in one list.

Registries accept wrong sizes and wrong diff_ids, and no tool in common use notices more diff_ids than layers, an index of a
wrong media type, a truncated tar, a path named twice, a missing parent directory or a `..` in a name. So every image is
looked at here before it is called done: blobs against their digests and sizes, documents against each other, each layer
against its diff_id and against what unpackers disagree about.

Looking into a layer costs an inflate and a hash; the findings hold for ever and are remembered by the layer's digest.
Whoever has a layer's members and diff_id at hand anyway, because the bytes have just passed through, lets the same
questions be asked there (`vouch`). `deep=True` reads everything again all the same. Sources: image-spec 1.1 `manifest.md`, `config.md`, `image-index.md`, `layer.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from sixsmith.errors import DigestMismatch, FormatError, OutsideError, Place, Problem
from sixsmith.model.arch import Platform
from sixsmith.model.compression import Bytes
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import BLOCK, TarEntry, parse_tar
from sixsmith.oci.blobs import BlobReader, Blobs, inflate_layer
from sixsmith.oci.spec import (
    CONFIG,
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    LAYER_TYPES,
    MANIFEST,
    Descriptor,
    ImageConfig,
    ImageIndex,
    Manifest,
    parse_config,
    parse_index,
    parse_manifest,
)

__all__ = ["Findings", "validate_image", "vouch"]

_CHECKS = 1
"""Counts up when a check is added: older findings are not believed then."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)\Z")
_MAX_DEPTH = 4
_MAX_SHOWN = 20  # findings of one kind in one layer; a broken archive may have thousands
_END = bytes(2 * BLOCK)


class Findings(msgspec.Struct, frozen=True):
    """What looking into a layer found. `needs` are directories, and `links` link targets, that lower layers must have."""

    checks: int
    diff_id: str
    faults: tuple[str, ...]
    needs: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


def validate_image(
    blobs: BlobReader,
    descriptor: Descriptor,
    *,
    name: str = "image",
    deep: bool = False,
    memory: dict[str, Findings] | None = None,
) -> list[Problem]:
    """Everything that is wrong with an image, or with all images of an index. An empty list means sound.

    `descriptor` is the manifest's or index's; its platform, where it has one, is held against the config. `name` is what
    the problems' places begin with. When `blobs` can keep records, layers are looked into once; `memory` holds what these
    say from one call to the next. Raises nothing for what is wrong with the image; a store that fails in another way than
    lacking a blob is still a StoreError.
    """
    validation = _Validation(blobs, deep, {} if memory is None else memory)
    validation.descriptor(descriptor, name, depth=0)
    return validation.problems


def vouch(
    blobs: Blobs, descriptor: Descriptor, diff_id: Digest, entries: Sequence[TarEntry], *, tar: Bytes | None = None
) -> None:
    """Remember what there is to say about a layer whose bytes have just been hashed in both forms.

    `entries` are its members, `tar` the uncompressed bytes where they are at hand; without them the archive is taken to
    end with its end blocks, as every archive that is written here does.
    """
    looks = _TarLooks(entries)
    faults = [*looks.faults(), *(_end_faults(tar, entries) if tar is not None else ())]
    findings = Findings(_CHECKS, diff_id, tuple(faults), *looks.open_ends())
    blobs.keep("validated", _record_key(descriptor), msgspec.json.encode(findings))


class _Validation:
    """One look at one image; the problems so far."""

    def __init__(self, blobs: BlobReader, deep: bool, memory: dict[str, Findings]) -> None:
        self.blobs = blobs
        self.deep = deep
        self.memory = memory
        self.problems: list[Problem] = []

    def problem(self, where: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(Place(where), message, hint))

    # ---- documents

    def descriptor(self, descriptor: Descriptor, where: str, depth: int) -> None:
        if descriptor.media_type in (INDEX, DOCKER_INDEX):
            self.index(descriptor, where, depth)
        elif descriptor.media_type in (MANIFEST, DOCKER_MANIFEST):
            self.manifest(descriptor, where)
        else:
            self.problem(where, f"media type '{descriptor.media_type}' is neither a manifest's nor an index's")

    def document(self, descriptor: Descriptor, where: str) -> bytes | None:
        """The bytes of a JSON document, or None when it is not there. A wrong digest or size is said, and the bytes used."""
        try:
            with self.blobs.open(descriptor.digest) as file:
                raw = file.read()
        except OutsideError as error:
            self.problem(where, f"blob {descriptor.digest} is missing ({error.message})")
            return None
        found = digest_of(raw)
        if found != descriptor.digest:
            self.problem(where, f"blob {descriptor.digest} has other bytes: they are {found}")
        if len(raw) != descriptor.size:
            self.problem(where, f"blob {descriptor.digest} has {len(raw)} bytes, its descriptor says {descriptor.size}")
        return raw

    def index(self, descriptor: Descriptor, where: str, depth: int) -> None:
        raw = self.document(descriptor, where)
        if raw is None:
            return
        try:
            index = parse_index(raw, media_type="", what="index")
        except FormatError as error:
            self.problem(where, error.message)
            return
        self.own_media_type(index, descriptor, where)
        if not index.manifests:
            self.problem(where, "the index lists no manifests")
        if depth >= _MAX_DEPTH:
            self.problem(where, f"indexes within indexes, {_MAX_DEPTH} deep")
            return
        seen: set[str] = set()
        for number, entry in enumerate(index.manifests, 1):
            platform = str(entry.platform) if entry.platform else ""
            place = f"{where} {platform or f'manifest {number}'}"
            if platform and platform in seen:
                self.problem(place, "the index lists this platform twice")
            if not platform and entry.media_type in (MANIFEST, DOCKER_MANIFEST):
                self.problem(place, "the index does not say its platform")
            seen.add(platform)
            self.descriptor(entry, place, depth + 1)

    def own_media_type(self, document: ImageIndex | Manifest, descriptor: Descriptor, where: str) -> None:
        if document.media_type and document.media_type != descriptor.media_type:
            self.problem(
                where, f"says its media type is '{document.media_type}', its descriptor '{descriptor.media_type}'"
            )

    def manifest(self, descriptor: Descriptor, where: str) -> None:
        raw = self.document(descriptor, where)
        if raw is None:
            return
        try:
            manifest = parse_manifest(raw, media_type="", what="manifest")
        except FormatError as error:
            self.problem(where, error.message)
            return
        self.own_media_type(manifest, descriptor, where)
        wanted = DOCKER_CONFIG if descriptor.media_type == DOCKER_MANIFEST else CONFIG
        if manifest.config.media_type != wanted:
            self.problem(where, f"the config's media type is '{manifest.config.media_type}', not '{wanted}'")
        config = self.config(manifest, descriptor.platform, f"{where} config")
        if not manifest.layers:
            self.problem(where, "the manifest has no layers")
        self.layers(manifest.layers, config, where)

    def config(self, manifest: Manifest, platform: Platform | None, where: str) -> ImageConfig | None:
        raw = self.document(manifest.config, where)
        if raw is None:
            return None
        try:
            config = parse_config(raw, what="config")
        except FormatError as error:
            self.problem(where, error.message)
            return None
        if platform is not None and not _same_platform(platform, config.platform):
            self.problem(where, f"is for {config.platform}, the index says {platform}")
        if len(config.diff_ids) != len(manifest.layers):
            self.problem(where, f"{len(config.diff_ids)} diff_ids for {len(manifest.layers)} layers")
        self.history(config, len(manifest.layers), where)
        self.settings(config, where)
        return config

    def history(self, config: ImageConfig, layers: int, where: str) -> None:
        if not config.history:
            return  # optional
        with_layer = sum(not step.get("empty_layer") for step in config.history)
        if with_layer != layers:
            self.problem(where, f"the history has {with_layer} layers, the manifest {layers}")
        for number, step in enumerate(config.history, 1):
            created = step.get("created")
            if created is None:
                self.problem(where, f"history entry {number} has no 'created', at which umoci panics")
            elif not isinstance(created, str) or not _RFC3339.match(created):
                self.problem(where, f"history entry {number}: 'created' is no RFC 3339 time: {created!r}")

    def settings(self, config: ImageConfig, where: str) -> None:
        if config.created is not None and not _RFC3339.match(config.created):
            self.problem(where, f"'created' is no RFC 3339 time: {config.created!r}")
        for name in ("Entrypoint", "Cmd", "Env"):
            value = config.settings.get(name)
            if value is not None and not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
                self.problem(where, f"'{name}' is not a list of texts")
            elif name == "Env" and value:
                for text in value:
                    if not text.partition("=")[0] or "=" not in text:
                        self.problem(where, f"'Env' has {text!r}, which is not NAME=VALUE")

    # ---- layers

    def layers(self, layers: Sequence[Descriptor], config: ImageConfig | None, where: str) -> None:
        diff_ids = config.diff_ids if config is not None else ()
        below: list[Descriptor] = []
        for number, layer in enumerate(layers, 1):
            place = f"{where} layer {number}"
            if layer.media_type not in LAYER_TYPES:
                self.problem(place, f"media type '{layer.media_type}' is no layer's")
            findings = self.layer(layer, place)
            if findings is not None:
                for fault in findings.faults:
                    self.problem(place, fault)
                if findings.diff_id and number <= len(diff_ids) and findings.diff_id != diff_ids[number - 1]:
                    self.problem(place, f"inflates to {findings.diff_id}, the config says {diff_ids[number - 1]}")
                if findings.needs or findings.links:
                    self.needs(findings, below, place)
            below.append(layer)

    def layer(self, layer: Descriptor, where: str) -> Findings | None:
        """What is in a layer, from memory or by looking. None when it is not there or not what its digest says."""
        try:
            size = self.blobs.size(layer.digest)
        except OutsideError as error:
            self.problem(where, f"blob {layer.digest} is missing ({error.message})")
            return None
        if size != layer.size:
            self.problem(where, f"blob {layer.digest} has {size} bytes, its descriptor says {layer.size}")
        findings = None if self.deep else self.remembered(layer)
        if findings is None:
            blob = self.blob(layer, where)
            if blob is None:
                return None
            findings = _look_into(blob, layer)
            keep = getattr(self.blobs, "keep", None)
            if keep is not None:
                keep("validated", _record_key(layer), msgspec.json.encode(findings))
        return findings

    def remembered(self, layer: Descriptor) -> Findings | None:
        key = _record_key(layer)
        known = self.memory.get(key)
        if known is not None:
            return known
        record = getattr(self.blobs, "record", None)
        payload = record("validated", key) if record is not None else None
        if payload is None:
            return None
        findings = msgspec.json.decode(payload, type=Findings)
        if findings.checks != _CHECKS:
            return None
        self.memory[key] = findings
        return findings

    def blob(self, layer: Descriptor, where: str) -> bytes | None:
        try:
            return self.blobs.read(layer.digest)
        except DigestMismatch as error:
            self.problem(where, error.message)
        except OutsideError as error:
            self.problem(where, f"blob {layer.digest} is missing ({error.message})")
        return None

    def needs(self, findings: Findings, below: Sequence[Descriptor], where: str) -> None:
        """Directories and link targets that the layer itself does not have: do the lower layers?"""
        directories: set[str] = {""}
        files: set[str] = set()
        for layer in below:
            try:
                tar = inflate_layer(self.blobs.read(layer.digest), what="layer")
                entries = parse_tar(tar, what="layer")
            except (FormatError, DigestMismatch, OutsideError):
                return  # said already
            for entry in entries:
                path = _normal(entry.path)
                (directories if entry.kind == "directory" else files).add(path)
        for path in findings.needs:
            if path not in directories:
                self.problem(where, f"no layer up to this one lists the directory '{path}'")
        for path in findings.links:
            if path not in files:
                self.problem(where, f"a hard link to '{path}', which no layer up to this one has")


def _record_key(layer: Descriptor) -> str:
    return f"{layer.digest}+{layer.media_type.rpartition('.')[2]}"


def _same_platform(one: Platform, other: Platform) -> bool:
    """arm64 without a variant is v8 (image-spec, "Platform Variants")."""

    def full(platform: Platform) -> tuple[str, str, str]:
        usual = "v8" if platform.architecture == "arm64" else ""
        return platform.os, platform.architecture, platform.variant or usual

    return full(one) == full(other)


def _look_into(blob: bytes, layer: Descriptor) -> Findings:
    faults = []
    found = "gzip" if blob[:2] == b"\x1f\x8b" else "zstd" if blob[:4] == b"\x28\xb5\x2f\xfd" else "tar"
    said = re.split(r"[.+]", layer.media_type)[-1]
    if layer.media_type in LAYER_TYPES and found != said:
        faults.append(f"media type '{layer.media_type}' for {found} bytes")
    try:
        tar = inflate_layer(blob, what="layer")
    except FormatError as error:
        return Findings(_CHECKS, "", (*faults, error.message))
    try:
        entries = parse_tar(tar, what="layer")
    except FormatError as error:
        return Findings(_CHECKS, digest_of(tar), (*faults, error.message))
    looks = _TarLooks(entries)
    faults += [*looks.faults(), *_end_faults(tar, entries)]
    return Findings(_CHECKS, digest_of(tar), tuple(faults), *looks.open_ends())


def _end_faults(tar: Bytes, entries: Sequence[TarEntry]) -> Iterator[str]:
    """Two blocks of zeros end an archive: readers stop there, and want to."""
    view = memoryview(tar)
    stop = 0
    for entry in entries:
        if entry.offset > stop + BLOCK and not view[stop] and view[stop : stop + len(_END)] == _END:
            yield f"'{entry.path}' stands after the end of the archive, where most readers do not look"
            return
        stop = entry.offset + entry.size + (-entry.size % BLOCK)
    if view[stop : stop + len(_END)] != _END:
        yield "the archive ends without its end blocks: it may be truncated"


class _TarLooks:
    """The questions that are asked of each layer's archive."""

    def __init__(self, entries: Sequence[TarEntry]) -> None:
        self.entries = entries
        self.seen: dict[str, TarEntry] = {}
        self.needs: set[str] = set()
        self.links: set[str] = set()

    def faults(self) -> Iterator[str]:
        count = 0
        seen = self.seen
        for entry in self.entries:
            path = entry.path
            above = seen.get(path.rpartition("/")[0])
            is_usual = above is not None and above.kind == "directory" and path not in seen and _is_plain(path)
            if is_usual and (entry.kind != "hardlink" or _is_file(seen.get(entry.target))):
                seen[path] = entry  # nearly all are such
                continue
            for fault in self._of_entry(entry):
                count += 1
                if count <= _MAX_SHOWN:
                    yield fault
        for fault in self._hidden_and_laid():
            count += 1
            if count <= _MAX_SHOWN:
                yield fault
        if count > _MAX_SHOWN:
            yield f"and {count - _MAX_SHOWN} more of this kind"

    def open_ends(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Directories and link targets that lower layers must have. Known when `faults` is done."""
        listed = {path for path, entry in self.seen.items() if entry.kind == "directory"}
        return tuple(sorted(self.needs - listed)), tuple(sorted(self.links))

    def _of_entry(self, entry: TarEntry) -> Iterator[str]:
        if entry.path.startswith("/"):
            yield f"'{entry.path}' is an absolute name"
        parts = entry.path.split("/")
        if ".." in parts:
            yield f"'{entry.path}' climbs out"
            return
        path = _normal(entry.path)
        if path in self.seen:
            yield f"names '{path}' twice"
        yield from self._parent(path)
        name = path.rpartition("/")[2]
        if name == ".wh." or (name.startswith(".wh..wh.") and name != ".wh..wh..opq"):
            yield f"'{path}' is no whiteout that the specification knows"
        if entry.kind == "hardlink":
            yield from self._link(entry, path)
        self.seen[path] = entry

    def _parent(self, path: str) -> Iterator[str]:
        directory = path.rpartition("/")[0]
        if not directory:
            return
        above = self.seen.get(directory)
        if above is None:
            self.needs.add(directory)
        elif above.kind != "directory":
            yield f"'{path}' is below '{directory}', which is a {above.kind}"

    def _link(self, entry: TarEntry, path: str) -> Iterator[str]:
        target = entry.target
        if target.startswith("/") or ".." in target.split("/"):
            yield f"'{path}' is a hard link out of the layer, to '{target}'"
            return
        target = _normal(target)
        first = self.seen.get(target)
        if first is None:
            self.links.add(target)
        elif first.kind == "directory":
            yield f"'{path}' is a hard link to the directory '{target}'"

    def _hidden_and_laid(self) -> Iterator[str]:
        for path in self.seen:
            if ".wh." not in path:
                continue
            directory, _, name = path.rpartition("/")
            if name.startswith(".wh.") and not name.startswith(".wh..wh."):
                hidden = f"{directory}/{name[4:]}" if directory else name[4:]
                if hidden in self.seen:
                    yield f"both hides and lays '{hidden}'"


def _is_plain(path: str) -> bool:
    """Whether nothing can be wrong with a name whose directory is there: no whiteout, no dots, no doubled slashes."""
    return "/." not in path and "//" not in path and path[:1] not in "./" and path[-1] != "/"


def _is_file(target: TarEntry | None) -> bool:
    """Whether a hard link's target is in the layer; what is there has a name that nothing is wrong with."""
    return target is not None and target.kind != "directory"


def _normal(path: str) -> str:
    """A member's name as a path from the root."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))
