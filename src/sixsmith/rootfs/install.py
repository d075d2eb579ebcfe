"""Packages into a tree, as apk 2.14 would put them there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from sixsmith.model.tar import TarEntry
from sixsmith.rootfs.tree import Source, Tree

if TYPE_CHECKING:
    from sixsmith.apk.archive import ControlSegment
    from sixsmith.apk.index import PackageRecord

__all__ = ["InstallPackage", "ScriptRunner"]


class InstallPackage(msgspec.Struct, frozen=True):
    """A verified package, ready to be put into a tree.

    `entries` are the members of the data segment by apk's rules (`apk.archive.package_entries`) and `source` has their
    bytes. A package that is already installed (its removal, its triggers) has no entries and no source; its `control`
    then holds what the database remembers: the scripts, and the fields that `installed` keeps.
    """

    record: PackageRecord
    control: ControlSegment
    entries: Sequence[TarEntry] = ()
    source: Source | None = None

    @property
    def name(self) -> str:
        return self.record.name


class ScriptRunner(Protocol):
    """Does what install scripts do, to the tree that it is given.

    Called in apk's order: `pre-install` before the package's files are there, `post-install` after them (and after the
    files of packages before it), triggers once at the end. The tree holds the apk database as apk would have it at that
    moment only at the end; scripts see `etc/apk` and the files. Implementations change `tree` in place and raise
    ScriptNotUnderstood or OutsideError; nothing is installed then.
    """

    def run(self, tree: Tree, package: InstallPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        """Runs a script; `kind` is `pre-install`, `post-install`, `pre-upgrade`, `post-upgrade`, `pre-deinstall` or
        `post-deinstall`; `arguments` are `$1…`: the new version, and for upgrades the old one after it."""
        ...

    def trigger(self, tree: Tree, package: InstallPackage, script: bytes, directories: tuple[str, ...]) -> None:
        """Runs a `trigger` script; `directories` are `$1…`: absolute paths of watched directories that changed."""
        ...
