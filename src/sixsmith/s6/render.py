"""Services become the files of an image, for the overlay that it has.

`render_services` is pure: services and a release in, files and findings out. What a release cannot express is a finding of
severity error at the place in the family file, never a silent loss. `apply_services` puts the files into an image's tree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sixsmith.errors import Place, UsageError
from sixsmith.s6.finding import Finding
from sixsmith.s6.render_old import can_express, old_layout, render_old
from sixsmith.s6.render_script import RenderedFile
from sixsmith.s6.render_v3 import SOURCES, bundle_folder, render_v3
from sixsmith.s6.service import Service

if TYPE_CHECKING:
    from sixsmith.rootfs.tree import Node, Tree

__all__ = [
    "RenderedFile",
    "RenderedServices",
    "apply_services",
    "health_check",
    "read_service_folder",
    "render_services",
]

_PLACES = ("etc", "usr", "root", "home", "opt", "srv", "var", "bin", "sbin", "lib", "package", "command", "init", "run")
"""First folders that make a folder of hand-written files a root of its own."""
_LEGACY = ("services.d", "cont-init.d", "cont-finish.d", "fix-attrs.d")


class RenderedServices(msgspec.Struct, frozen=True):
    """Files in order (a directory before what is in it), and what the release cannot express.

    `owned` are the folders that these services own whole: what a parent image had in them is gone.
    """

    files: tuple[RenderedFile, ...]
    findings: tuple[Finding, ...] = ()
    owned: tuple[str, ...] = ()


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def render_services(services: Sequence[Service], overlay_version: str, *, tree: Tree | None = None) -> RenderedServices:
    """The files of the services for a release of the overlay (with or without the `v`).

    With the image's `tree` (packages, overlay and accounts in it) users are looked up, `su-exec` is used where an older
    image has it, and the user bundle goes where the image keeps it.
    """
    order = _order(overlay_version)
    findings = list(_lost_users(services, tree)) if tree is not None else []
    if order[0] >= 3:
        old_bundle = tree is not None and tree.find(f"{SOURCES}/user") is not None
        files = render_v3(services, bundle_folder(order, old_one_is_there=old_bundle))
    else:
        findings += can_express(services, overlay_version, order)
        su_exec = tree is not None and tree.find("sbin/su-exec") is not None
        files = render_old(services, old_layout(order, su_exec=su_exec))
    owned = tuple(
        file.path
        for file in files
        if file.kind == "directory"
        and file.path.rpartition("/")[0] in (SOURCES, "etc/services.d")
        and not file.path.endswith("/user")
    )
    return RenderedServices(files, tuple(findings), owned)


def _lost_users(services: Iterable[Service], tree: Tree) -> Iterator[Finding]:
    """Users and groups that the image does not have: the service would end at once, again and again."""
    users, groups = _first_fields(tree.read("etc/passwd")), _first_fields(tree.read("etc/group"))
    for service in services:
        accounts = [(service.user, "user")]
        if service.log is not None:
            accounts.append((service.log.user, "log"))
        for account, key in accounts:
            user, _, group = (account or "").partition(":")
            lost = None
            if user and not user.isdigit() and user not in users:
                lost = f"no user '{user}'"
            elif group and not group.isdigit() and group not in groups:
                lost = f"no group '{group}'"
            if lost is not None:
                message = f"service '{service.name}': {lost} in the image"
                yield _finding("X2", service.at(key), message, "add it under 'accounts', or name another")


def _first_fields(table: bytes | None) -> set[str]:
    lines = (table or b"").decode("utf-8", "replace").splitlines()
    return {line.partition(":")[0] for line in lines}


def _finding(rule: str, place: Place, message: str, hint: str, reference: str = "") -> Finding:
    return Finding(rule, "error", place.file, place.line, message, hint, reference)


# --- into the image ----------------------------------------------------------------------------------------------


def apply_services(tree: Tree, rendered: RenderedServices) -> None:
    """Puts the files into the tree, in place; a file that is there with the same content and mode stays as it is.

    What an older layer of the image (a base, a parent) had in a folder of one of these services is removed first; files that
    the family file put there itself stay. Raises FormatError when a file is where a directory must be.
    """
    from sixsmith.rootfs.tree import BASE

    for folder in rendered.owned:
        below = folder + "/"
        for path in [path for path, node in tree.nodes.items() if path.startswith(below) and node.origin == BASE]:
            tree.remove(path)
    for file in rendered.files:
        if file.kind == "directory":
            if tree.find(file.path) is None:
                tree.make_directory(file.path, mode=file.mode)
        elif file.kind == "symlink":
            tree.make_symlink(file.path, os.fsdecode(file.content))
        elif not _is_there(tree.find(file.path), file):
            tree.write(file.path, file.content, mode=file.mode)


def _is_there(node: Node | None, file: RenderedFile) -> bool:
    if node is None or node.kind != "file" or node.mode != file.mode or node.size != len(file.content):
        return False
    return (node.content.read() if node.content is not None else b"") == file.content


# --- hand-written folders ----------------------------------------------------------------------------------------


def read_service_folder(path: str, overlay_version: str) -> RenderedServices:
    """A folder of hand-written service directories, as it is, at the place where the overlay looks.

    The folder may be a root (with `etc/…` in it), hold `s6-rc.d`, `services.d`, `cont-init.d`, … as /etc/s6-overlay and /etc
    do, or hold the service directories themselves. In the last case services become part of the user bundle, unless
    the folder has a bundle `user` of its own. Raises UsageError where the folder cannot be read, and for things that are
    neither file, directory nor link.
    """
    from sixsmith.s6.folder import read_folder  # most services are data

    order = _order(overlay_version)
    root = Path(path)
    entries = list(read_folder(root))
    top = {entry.path.partition("/")[0] for entry in entries}
    if not entries:
        raise UsageError(f"{path}: no service directories in this folder")
    place, add_bundle = _place_of(top, entries, order)
    files = [RenderedFile(f"{place}{entry.path}", entry.kind, entry.mode, entry.content) for entry in entries]
    if add_bundle:
        bundle = bundle_folder(order)
        names = {entry.path.partition("/")[0] for entry in entries if entry.path.endswith("/type")}
        pipelines = {
            entry.content.decode("utf-8", "replace").strip()
            for entry in entries
            if entry.path.endswith("/pipeline-name")
        }
        files.append(RenderedFile(bundle, "directory", 0o755))
        files.append(RenderedFile(f"{bundle}/type", "file", 0o644, b"bundle\n"))
        files.append(RenderedFile(f"{bundle}/contents.d", "directory", 0o755))
        files += [RenderedFile(f"{bundle}/contents.d/{name}", "file", 0o644) for name in sorted(names | pipelines)]
    return RenderedServices(tuple(files))


def _place_of(top: set[str], entries: Sequence[RenderedFile], order: tuple[int, ...]) -> tuple[str, bool]:
    """Where the folder's content goes, and whether its services must be added to the bundle."""
    if top & {"etc", "package"} or (top and top <= set(_PLACES)):
        return "", False
    if top & {"s6-rc.d", "user-bundles.d"}:
        return "etc/s6-overlay/", False
    if top & set(_LEGACY):
        return "etc/", False
    if order[0] >= 3 and any(entry.path.endswith("/type") for entry in entries):
        return f"{SOURCES}/", not top & {"user", "user2"}
    return "etc/services.d/", False


# --- the image's health ------------------------------------------------------------------------------------------


def health_check(services: Iterable[Service], overlay_version: str) -> tuple[str, ...] | None:
    """The command of the image's health check: every service with readiness is ready, by its check where it has one.

    None where no service tells its readiness (or `health: false` says not to ask).
    """
    v3 = _order(overlay_version)[0] >= 3
    scandir, programs = ("/run/service", "/command/") if v3 else ("/var/run/s6/services", "/bin/")
    tests = []
    for service in services:
        if service.ready is None or not service.ready.health:
            continue
        if service.ready.check is not None:
            tests.append(f"cd {scandir}/{service.name} && ./data/check")
        else:
            tests.append(f'[ "$({programs}s6-svstat -o ready {scandir}/{service.name})" = true ]')
    return ("/bin/sh", "-c", " && ".join(tests)) if tests else None
