"""One cell of the matrix, spelled out: everything that a plan needs to know, and nothing that must be looked up in the file again.

A variant is a value: it compares, hashes by `id`, and can be printed. `id` is readable and used everywhere:
`IMAGE:AXIS-AXIS/ARCH`, for example `alpine-s6-overlay:3.12-2.0.0.1/x86_64`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sixsmith.errors import Place
from sixsmith.model.arch import Arch

__all__ = [
    "Accounts",
    "FileSpec",
    "Group",
    "Healthcheck",
    "OverlayChoice",
    "RepositoryChoice",
    "User",
    "Variant",
]


class OverlayChoice(msgspec.Struct, frozen=True):
    """Which s6-overlay release goes on the image, `version` without the leading `v`, and which optional tarballs."""

    version: str
    symlinks: bool = False
    syslogd: bool = False
    place: Place | None = None

    @property
    def major(self) -> int:
        """1, 2 or 3: the layout of the release."""
        return int(self.version.split(".")[0])


class RepositoryChoice(msgspec.Struct, frozen=True):
    """One package repository of a cell, in order.

    `url` is None for a repository of the cell's Alpine release on the mirror (`main`, `community`); else a URL or an
    absolute folder path, the architecture folder below it. With `pin`, only `NAME@pin` takes from it. `key` is the
    absolute path of an extra public key that is trusted for this repository.
    """

    name: str
    url: str | None = None
    pin: str | None = None
    key: str | None = None

    @property
    def portable_url(self) -> str:
        """The URL as far as it means the same on every machine: of a folder only that it is one, "" for the mirror's own."""
        if self.url is None:
            return ""
        return self.url if "://" in self.url else "folder"


class User(msgspec.Struct, frozen=True):
    """A user to add, as the family file spells it; what is None is chosen as busybox adduser does."""

    name: str
    uid: int | None = None
    group: str | None = None
    home: str | None = None
    shell: str | None = None
    gecos: str | None = None
    groups: tuple[str, ...] = ()
    system: bool = False


class Group(msgspec.Struct, frozen=True):
    """A group to add."""

    name: str
    gid: int | None = None
    members: tuple[str, ...] = ()
    system: bool = False


class Accounts(msgspec.Struct, frozen=True):
    """Users and groups to add after the packages are installed; groups first."""

    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()


class FileSpec(msgspec.Struct, frozen=True):
    """A path to put into the image. Exactly one of `source` (absolute path on this machine), `content`, `target`.

    `type` is file, directory, symlink or absent; `owner`/`group` are names or numbers; `mode` None means 0644/0755.
    A `source` that is a folder is copied whole.
    """

    path: str
    type: str = "file"
    source: str | None = None
    content: str | None = None
    target: str | None = None
    owner: str | None = None
    group: str | None = None
    mode: int | None = None
    place: Place | None = None


class Healthcheck(msgspec.Struct, frozen=True):
    """Docker's health check (kept in the config; OCI runtimes ignore it). Durations are nanoseconds."""

    command: tuple[str, ...]
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    retries: int | None = None


class Variant(msgspec.Struct, frozen=True):
    """One image for one architecture.

    `tags` are templates with the axes filled in; `{version:PACKAGE}` stays until the solution is known. `base` is
    `minirootfs`, `packages`, `none` or an image reference; with `parent` (the id of another cell) the base is that
    cell's image and `base` says `parent`. For a child, `packages`, `env`, `files` … are what it adds to the parent; the
    Alpine release is the parent's, and `overlay` is None unless the child lays one on itself.
    `alpine` is empty for an image on another image (or on nothing) whose matrix names no release; `{axis}` in texts is
    filled in. `services` is the mapping of the family file as read (scalars are text that knows its place, see
    `model.spelled`), or a folder path, or None.
    """

    id: str
    image: str
    tags: tuple[str, ...]
    alpine: str
    arch: Arch
    axes: Mapping[str, str]
    base: str
    parent: str | None = None
    overlay: OverlayChoice | None = None
    packages: tuple[str, ...] = ()
    repositories: tuple[RepositoryChoice, ...] = ()
    scripts: str = "emulate"
    scripts_by_package: Mapping[str, str] = msgspec.field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    user: str | None = None
    workdir: str | None = None
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None
    healthcheck: Healthcheck | None = None
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    accounts: Accounts = Accounts()
    files: tuple[FileSpec, ...] = ()
    services: Mapping[str, object] | str | None = None
    layers: str = "shared"
    layer_budget: int = 16
    compression: str = "gzip"
    lint_ignore: tuple[Mapping[str, str], ...] = ()
    checks: tuple[Mapping[str, object], ...] = ()
    budget: Mapping[str, str] = msgspec.field(default_factory=dict)
    alpine_point: str | None = None
    """The point release (`3.20.3`) that the file names, or None for the newest one."""
    place: Place | None = None

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def cell(self) -> str:
        """The id without the architecture: what one tag's image index holds."""
        return self.id.rpartition("/")[0]
