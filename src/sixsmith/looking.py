"""Images that somebody else made, opened to be looked at: a folder, an OCI layout, an archive, an image in a registry.

What comes out is the same for all: the tree that a container would see, and the settings it would start with (none for a
bare root file system). Contents are read when a rule asks for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from sixsmith.errors import FormatError, StoreError, UsageError
from sixsmith.layers.merge import apply_layer
from sixsmith.model.arch import Arch
from sixsmith.model.digest import digest_of
from sixsmith.model.tar import iter_tar, parse_tar
from sixsmith.oci.blobs import BlobReader, BlobSource, inflate_layer
from sixsmith.oci.image import ImageSettings, settings_of
from sixsmith.oci.reach import manifests_of
from sixsmith.oci.spec import Descriptor, Manifest, parse_config
from sixsmith.overlay import check_base, check_bundles
from sixsmith.rootfs.sources import PlainSource
from sixsmith.rootfs.tree import Member, Tree
from sixsmith.s6.finding import Finding, shown_path
from sixsmith.s6.lint import RULES, lint_image, open_image
from sixsmith.s6.lint.install import is_tarball
from sixsmith.s6.lint.mend import Mend, mends_for

if TYPE_CHECKING:
    from sixsmith.build import Line
    from sixsmith.events import Reporter
    from sixsmith.io.layout import Layout
    from sixsmith.io.store import Store
    from sixsmith.io.supply import Supply
    from sixsmith.variant import Variant

__all__ = [
    "SeenImage",
    "choose_manifest",
    "files_on_disk",
    "lint_cell",
    "lint_seen",
    "local_files",
    "look_at_disk",
    "look_at_image",
    "mend_on_disk",
    "overlay_findings",
]

_GZIP = b"\x1f\x8b"
_MAX_DOCUMENT = 64 << 20


class SeenImage(msgspec.Struct, frozen=True):
    """An image to look at. `settings` is None for a root file system without config; `findings` are about what the tree
    does not show any more (files that an upper layer hides); `folder` is where the tree lies on disk, if it does."""

    name: str
    tree: Tree
    settings: ImageSettings | None = None
    findings: tuple[Finding, ...] = ()
    folder: Path | None = None


def look_at_disk(path: Path, arch: Arch, *, ref: str | None = None) -> SeenImage:
    """The image at a path: a folder with a root file system, or a layout, or an archive of either.

    `ref` is a tag of a layout or archive; where an image is there for several architectures, `arch` is taken, or the only
    one. Raises FormatError, StoreError, and UsageError for a tag or platform that is not there.
    """
    if path.is_dir() and not _is_layout(path):
        if ref is not None:
            raise UsageError(f"{path} is no image layout, so it has no tag '{ref}'")
        return _folder(path)
    if path.is_file():
        documents = _archive_documents(path)
        if documents is None:
            return _root_archive(path)
        if "manifest.json" in documents and "index.json" not in documents:
            return _docker_archive(path, documents["manifest.json"], ref)
    from sixsmith.io.layout import open_layout

    with open_layout(path) as layout:
        manifest = choose_manifest(layout, layout.ref(ref), arch, str(path))
        seen = look_at_image(layout, manifest, f"{path}:{ref}" if ref else str(path))
        return _read_through(seen)


def look_at_image(blobs: BlobReader, manifest: Manifest, name: str) -> SeenImage:
    """The image of a manifest whose blobs are at hand. Raises what reading them raises."""
    config = parse_config(blobs.read(manifest.config.digest), what=f"config of {name}")
    tree = Tree()
    findings: list[Finding] = []
    for number, layer in enumerate(manifest.layers, 1):
        source = BlobSource(blobs, layer.digest)
        entries = parse_tar(source.inflate(), what=f"layer {layer.digest} of {name}", strip=True)
        tree = apply_layer(tree, entries, source)
        findings += _hidden_tarballs(number, [(entry.path, entry.size) for entry in entries if entry.kind == "file"])
    return SeenImage(name, tree, settings_of(config), _still_hidden(findings, tree))


def lint_seen(seen: SeenImage, *, overlay_version: str | None = None, cell: str = "") -> tuple[Finding, ...]:
    """Everything that is wrong with it, `cell` in each finding."""
    also = (*seen.findings, *overlay_findings(seen.tree, seen.settings, overlay_version))
    findings = lint_image(seen.tree, seen.settings, overlay_version=overlay_version, also=also)
    if not cell:
        return findings
    return tuple(replace(finding, cell=cell) for finding in findings)


def overlay_findings(
    tree: Tree, settings: ImageSettings | None, overlay_version: str | None = None
) -> tuple[Finding, ...]:
    """What the overlay needs from a finished root file system and where its bundles are (I12, I14, M4 to M8)."""
    image = open_image(tree, settings, overlay_version=overlay_version)
    if image.overlay is None or image.partial or not image.overlay.possible:
        return ()
    version = image.overlay.possible[-1]
    syslogd = "etc/s6-overlay/s6-rc.d/user/contents.d/syslogd-bundle" in tree
    found = [*check_base(tree, version)]
    if image.overlay.version is not None and image.has_overlay_files:
        found += check_bundles(tree, version, syslogd=syslogd)
    return tuple(found)


# ---- cells of a family


def lint_cell(
    line: Line, cell: Variant, *, supply: Supply, store: Store, reporter: Reporter
) -> tuple[Tree, tuple[Finding, ...]]:
    """The tree that a build of this cell would make, and all that is wrong with it, suppressions of the family file taken
    into account. Its parents are built when they were not; no layer of the cell itself is written.

    Raises what planning, fetching and assembling raise, LintFailed for a parent that a build refuses.
    """
    from sixsmith.assemble import assemble_tree, completed
    from sixsmith.io.repository import fetch_packages
    from sixsmith.scripting import scripts_for

    plan, base = line.plan(cell)
    packages = fetch_packages(supply.locate(plan), store, cell=cell.id, jobs=supply.jobs, reporter=reporter)
    packages = completed(plan, packages)
    if cell.overlay is not None:
        supply.overlay(cell.overlay, cell.arch)
    with scripts_for(cell) as scripts:
        assembly = assemble_tree(plan, base, packages, store=store, scripts=scripts, strict=False)
    return assembly.tree, tuple(replace(finding, cell=cell.id) for finding in assembly.findings)


# ---- folders


def _is_layout(path: Path) -> bool:
    return (path / "oci-layout").is_file() or ((path / "index.json").is_file() and (path / "blobs").is_dir())


def _folder(path: Path) -> SeenImage:
    from sixsmith.io.disk import read_tree

    tree = read_tree(path)
    if os.geteuid() != 0:
        _take_for_root(tree)
    return SeenImage(str(path), tree, folder=path)


def _take_for_root(tree: Tree) -> None:
    """What an ordinary user unpacked belongs to that user, and would belong to root in an image."""
    uid, gid = os.geteuid(), os.getegid()
    for path, node in tree.nodes.items():
        if node.uid == uid or node.gid == gid:
            tree.nodes[path] = msgspec.structs.replace(
                node, uid=0 if node.uid == uid else node.uid, gid=0 if node.gid == gid else node.gid
            )


# ---- archives


def _archive_documents(path: Path) -> dict[str, bytes] | None:
    """The JSON documents at the root of an image's archive, or None for a tar that is a root file system."""
    content = _mapped(path)
    if bytes(content[:2]) == _GZIP:
        return None
    documents: dict[str, bytes] = {}
    names = {"index.json", "manifest.json", "oci-layout"}
    for entry in iter_tar(content, what=str(path), strip=True):
        if entry.path in names and entry.kind == "file" and entry.size <= _MAX_DOCUMENT:
            documents[entry.path] = bytes(content[entry.offset : entry.offset + entry.size])
    return documents or None


def _mapped(path: Path) -> memoryview:
    import mmap

    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise FormatError(f"{path}: an empty file is no image")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None


def _root_archive(path: Path) -> SeenImage:
    """A root file system as `docker export` writes it, or a minirootfs."""
    tar = bytes(inflate_layer(bytes(_mapped(path)), what=str(path)))
    source = PlainSource(tar)
    return SeenImage(str(path), apply_layer(Tree(), parse_tar(tar, what=str(path), strip=True), source))


def _docker_archive(path: Path, listing: bytes, ref: str | None) -> SeenImage:
    """What older versions of `docker save` write: no OCI layout, layers by file name."""
    content = _mapped(path)
    files = {entry.path: entry for entry in iter_tar(content, what=str(path), strip=True)}

    def read(name: str) -> bytes:
        entry = files.get(name)
        if entry is not None and entry.kind == "symlink":  # layers that several images share
            entry = files.get(os.path.normpath(f"{os.path.dirname(name)}/{entry.target}"))  # noqa: PTH120  # a path in a tar
        if entry is None or entry.kind != "file":
            raise FormatError(f"{path}: there is no '{name}' in it")
        return bytes(content[entry.offset : entry.offset + entry.size])

    image = _docker_entry(path, listing, ref)
    config_bytes = read(image["Config"])
    config = parse_config(config_bytes, what=f"config of {path}")
    tree, findings = Tree(), []
    for number, name in enumerate(image["Layers"], 1):
        tar = bytes(inflate_layer(read(name), what=f"{path}: {name}"))
        entries = parse_tar(tar, what=f"{path}: {name}", strip=True)
        if number <= len(config.diff_ids) and digest_of(tar) != config.diff_ids[number - 1]:
            raise FormatError(f"{path}: layer {name} has other bytes than the config says")
        tree = apply_layer(tree, entries, PlainSource(tar))
        findings += _hidden_tarballs(number, [(entry.path, entry.size) for entry in entries if entry.kind == "file"])
    return SeenImage(str(path), tree, settings_of(config), _still_hidden(findings, tree))


def _docker_entry(path: Path, listing: bytes, ref: str | None) -> dict[str, Any]:
    try:
        images = json.loads(listing)
        entries = [image for image in images if isinstance(image["Config"], str) and isinstance(image["Layers"], list)]
    except (ValueError, TypeError, KeyError):
        raise FormatError(f"{path}: its manifest.json cannot be read") from None
    tags = {tag: image for image in entries for tag in image.get("RepoTags") or ()}
    if ref is None and len(entries) == 1:
        chosen: dict[str, Any] = entries[0]
        return chosen
    for tag, image in tags.items():
        if ref is not None and (tag == ref or tag.endswith((f":{ref}", f"/{ref}"))):
            found: dict[str, Any] = image
            return found
    listed = ", ".join(sorted(tags)) or "no names"
    raise UsageError(f"{path} holds {len(entries)} images: {listed}", hint="name one: FILE:TAG")


# ---- layouts


def choose_manifest(layout: Layout, descriptor: Descriptor, arch: Arch, name: str) -> Manifest:
    """The manifest for `arch`, or the only one there is. Raises UsageError for a platform that is not there."""
    found = manifests_of(layout, descriptor)
    images = [(entry, manifest) for entry, manifest in found if entry.platform is None or entry.platform.os == "linux"]
    fitting = [
        manifest
        for entry, manifest in images
        if entry.platform is not None and entry.platform.architecture == arch.platform.architecture
    ]
    if fitting or len(images) == 1:
        return (fitting or [manifest for _, manifest in images])[0]
    has = ", ".join(str(entry.platform) for entry, _ in images) or "nothing"
    raise UsageError(f"{name} has no image for {arch.platform}", hint=f"it has {has}")


def _read_through(seen: SeenImage) -> SeenImage:
    """An archive is closed after this: its layers stay inflated in memory, from where contents are read."""
    for source in {
        id(node.content.source): node.content.source for node in seen.tree if isinstance(node.content, Member)
    }.values():
        source.inflate()
    return seen


def _hidden_tarballs(layer: int, files: Iterable[tuple[str, int]]) -> list[Finding]:
    """M12 where a layer brings a file of a release: it is downloaded for ever, removed above or not."""
    rule = RULES["M12"]
    return [
        Finding(
            "M12",
            rule.severity,
            f"/{shown_path(path.encode('utf-8', 'surrogateescape'))}",
            0,
            f"a release file of {size} bytes lies in layer {layer}, and an upper layer removes it",
            rule.hint,
            rule.reference,
        )
        for path, size in files
        if "overlay" in path and is_tarball(path)
    ]


def _still_hidden(findings: Sequence[Finding], tree: Tree) -> tuple[Finding, ...]:
    """Those whose file is not in the merged tree, about which the tree speaks itself."""
    return tuple(finding for finding in findings if finding.path not in tree)


# ---- mending


def mend_on_disk(
    tree: Tree,
    findings: Sequence[Finding],
    *,
    overlay_version: str | None = None,
    place_of: Callable[[Mend], Path | None],
) -> list[tuple[Path, Mend]]:
    """Mends what has a safe mend, and returns what was done where. `place_of` says where a file lies on disk, or None for
    one that is not to be touched. Each file changes in one rename; a file that cannot be written is a StoreError."""
    image = open_image(tree, None, overlay_version=overlay_version)
    done = []
    for mend in mends_for(image, findings):
        place = place_of(mend)
        if place is not None:
            _rewrite(place, mend)
            done.append((place, mend))
    return done


def _rewrite(place: Path, mend: Mend) -> None:
    try:
        status = place.lstat()
        mode = mend.mode if mend.mode is not None else status.st_mode & 0o7777
        if mend.content is None:
            place.chmod(mode)
            return
        temporary = place.with_name(f".{place.name}.{os.urandom(6).hex()}")
        try:
            with temporary.open("xb") as file:
                file.write(mend.content)
                file.flush()
                os.fsync(file.fileno())
            with suppress(PermissionError):
                os.chown(temporary, status.st_uid, status.st_gid)
            temporary.chmod(mode)
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot mend {place}: {error.strerror}") from None


def files_on_disk(folder: Path) -> Callable[[Mend], Path | None]:
    """The places of a folder's files; none for what a link leads out of it."""
    root = folder.resolve()

    def place_of(mend: Mend) -> Path | None:
        place = root / mend.node.path
        return place if place.is_file() and not place.is_symlink() and root in place.resolve().parents else None

    return place_of


def local_files(mend: Mend) -> Path | None:
    """The places of a family's own files, which an image was made of."""
    from sixsmith.io.local import LocalSource

    content = mend.node.content
    if isinstance(content, Member) and isinstance(content.source, LocalSource):
        return Path(content.source.path)
    return None
