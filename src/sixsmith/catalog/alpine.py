"""Alpine releases: when they live, where they run, what they have."""

from __future__ import annotations

import re
from datetime import date
from functools import cache

import msgspec

from sixsmith.catalog.facts import read_json, read_table
from sixsmith.catalog.statement import Advice, Checksum
from sixsmith.errors import UsageError, nearest

__all__ = [
    "AlpineRelease",
    "Changes",
    "advice_for_alpine",
    "alpine",
    "alpine_releases",
    "minirootfs_checksum",
    "newest_supported",
]

_ENDS_SOON_DAYS = 60


class Changes(msgspec.Struct, frozen=True):
    """What a release brought, in the words of the article that compares the first six."""

    new: tuple[str, ...]
    versions: tuple[str, ...]
    removed: tuple[str, ...]


class AlpineRelease(msgspec.Struct, frozen=True):
    """One Alpine release branch, `3.22` or `edge`.

    `newest` is its newest known point release (`3.22.6`; a date for edge). `end_of_support` is the first day without
    security fixes; None for edge, which rolls. `arches` are apk spellings.
    """

    name: str
    released: date | None
    end_of_support: date | None
    newest: str
    minirootfs: bool
    arches: tuple[str, ...]
    repositories: tuple[str, ...]
    changes: Changes | None = None

    @property
    def rolling(self) -> bool:
        """True for edge."""
        return self.end_of_support is None

    @property
    def branch(self) -> str:
        """The folder of the release on a mirror: `v3.22`, `edge`."""
        return self.name if self.rolling else f"v{self.name}"

    @property
    def points(self) -> tuple[str, ...]:
        """Every point release up to the newest known one, newest first. Not each has its files on every mirror."""
        if self.rolling:
            return (self.newest,)
        last = int(self.newest.rpartition(".")[2])
        return tuple(f"{self.name}.{number}" for number in range(last, -1, -1))

    def supported(self, today: date) -> bool:
        """Whether the release still gets security fixes on that day."""
        return self.end_of_support is None or today < self.end_of_support


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


@cache
def alpine_releases() -> tuple[AlpineRelease, ...]:
    """Every known release, oldest first, edge last."""
    return tuple(
        AlpineRelease(
            name=row["name"],
            released=_day(row["released"]),
            end_of_support=_day(row["end_of_support"]),
            newest=row["newest"],
            minirootfs=row["minirootfs"],
            arches=tuple(row["arches"]),
            repositories=tuple(row["repositories"]),
            changes=Changes(**{key: tuple(value) for key, value in row["changes"].items()})
            if "changes" in row
            else None,
        )
        for row in read_json("alpine.json")["releases"]
    )


@cache
def _by_name() -> dict[str, AlpineRelease]:
    return {release.name: release for release in alpine_releases()}


def alpine(name: str) -> AlpineRelease:
    """The release called `name`: `3.22`, `edge`; also `v3.22`, or one of its point releases (`3.22.4`).

    Raises UsageError that names the nearest releases, or the newest known one for a number that is not out yet.
    """
    known = _by_name()
    asked = name.removeprefix("v")
    if asked in known:
        return known[asked]
    branch, dot, _ = asked.rpartition(".")
    if dot and branch in known and asked in known[branch].points:
        return known[branch]
    if branch in known and branch != "edge":
        raise UsageError(
            f"unknown Alpine release '{name}'", hint=f"the newest point release of {branch} is {known[branch].newest}"
        )
    newest = alpine_releases()[-2].name
    hint = f"the newest is {newest}"
    if not _is_newer(asked, newest):
        hint = nearest(asked, known) or hint
    raise UsageError(f"unknown Alpine release '{name}'", hint=hint)


def _is_newer(asked: str, newest: str) -> bool:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})*", asked, re.ASCII):
        return False
    return [int(number) for number in asked.split(".")] > [int(number) for number in newest.split(".")]


def newest_supported(today: date) -> AlpineRelease:
    """The newest release that gets security fixes on that day; the newest known one when none does."""
    numbered = [release for release in alpine_releases() if not release.rolling]
    alive = [r for r in numbered if r.supported(today) and r.released is not None and r.released <= today]
    return (alive or numbered)[-1]


def advice_for_alpine(name: str, today: date) -> tuple[Advice, ...]:
    """What speaks against building on this release on that day. Raises UsageError for an unknown release."""
    release = alpine(name)
    subject, end = f"Alpine {release.name}", release.end_of_support
    if end is None:
        return (Advice(subject, "rolls: the same file builds another image tomorrow", "caution"),)
    instead = f"Alpine {newest_supported(today).name}"
    if today >= end:
        message = f"is out of support since {end.isoformat()} and gets no security fixes"
        return (Advice(subject, message, "bad", "https://alpinelinux.org/releases/", instead),)
    if (end - today).days <= _ENDS_SOON_DAYS:
        message = f"goes out of support on {end.isoformat()}"
        return (Advice(subject, message, "caution", "https://alpinelinux.org/releases/", instead),)
    return ()


def minirootfs_checksum(point: str, arch: str) -> Checksum | None:
    """What Alpine publishes as the checksum of `alpine-minirootfs-POINT-ARCH.tar.gz`, or None where it is not known."""
    file = f"alpine-minirootfs-{point}-{arch}.tar.gz"
    for row in read_table("minirootfs-checksums.tsv"):
        if row["file"] == file:
            return Checksum(file, row["algorithm"], row["digest"], True, row["source"])
    return None
