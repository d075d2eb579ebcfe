"""s6-overlay releases: which files a release consists of, for which architectures, what they hash to, and which are bad."""

from __future__ import annotations

import re
from datetime import date
from functools import cache

import msgspec

from sixsmith.catalog.facts import read_json, read_table
from sixsmith.catalog.statement import Advice, Checksum
from sixsmith.errors import UsageError, nearest
from sixsmith.model.arch import ARCHES, Arch

__all__ = [
    "OverlayRelease",
    "advice_for_overlay",
    "newest_good_overlay",
    "overlay",
    "overlay_checksum",
    "overlay_files",
    "overlay_releases",
]

_Order = tuple[int, ...]


def _order(version: str) -> _Order:
    """`3.0.0.2-1` sorts after `3.0.0.2` and before `3.1.0.0`."""
    return tuple(int(number) for number in re.split(r"[.-]", version))


_S390X_SINCE = _order("3.0.0.0-1")
_POWERPC_SINCE = _order("3.1.4.0")
_NAMES_WITHOUT_VERSION_SINCE = _order("3.1.0.0")


class OverlayRelease(msgspec.Struct, frozen=True):
    """One s6-overlay release. `released` is None where the date of its git tag is not known."""

    version: str
    released: date | None

    @property
    def major(self) -> int:
        """The layout: 1, 2 or 3 (0 for the first try, whose files are not published under this project)."""
        return _order(self.version)[0]

    @property
    def order(self) -> tuple[int, ...]:
        """Sorts releases by age of their number."""
        return _order(self.version)

    @property
    def arches(self) -> tuple[str, ...]:
        """The architectures (apk spellings) that the release has files for."""
        return tuple(arch.name for arch in ARCHES.values() if self.arch_word(arch))

    def arch_word(self, arch: Arch) -> str | None:
        """How the release's file names spell `arch`; None where it has no files for it."""
        if self.major == 3:
            word = arch.overlay_v3
            too_early = {"s390x": self.order < _S390X_SINCE, "powerpc64le": self.order < _POWERPC_SINCE}
            return None if word and too_early.get(word) else word
        if self.major == 0 or (self.major == 1 and arch.name == "ppc64le"):
            return None
        return arch.overlay_v2


@cache
def overlay_releases() -> tuple[OverlayRelease, ...]:
    """Every known release, oldest first."""
    return tuple(
        OverlayRelease(row["version"], date.fromisoformat(row["released"]) if row["released"] else None)
        for row in read_json("overlay.json")["releases"]
    )


@cache
def _by_version() -> dict[str, OverlayRelease]:
    return {release.version: release for release in overlay_releases()}


def overlay(version: str) -> OverlayRelease:
    """The release `version`, with or without the leading `v`. Raises UsageError with the nearest versions."""
    known = _by_version()
    asked = version.removeprefix("v")
    if asked in known:
        return known[asked]
    newest = overlay_releases()[-1].version
    hint = f"the newest is {newest}"
    if re.fullmatch(r"\d{1,6}(\.\d{1,6})*(-\d{1,6})?", asked, re.ASCII) and _order(asked) < _order(newest):
        hint = nearest(asked, known) or hint
    raise UsageError(f"unknown s6-overlay release '{version}'", hint=hint)


def overlay_files(version: str, arch: Arch, *, symlinks: bool = False, syslogd: bool = False) -> tuple[str, ...]:
    """The names of the tarballs to unpack, in order, for a release and an architecture.

    `symlinks` adds v3's links in /usr/bin (v1 and v2 have their programs there already), `syslogd` v3's syslogd.
    Raises UsageError for an unknown release, one without this architecture, and syslogd before v3.
    """
    release = overlay(version)
    word = release.arch_word(arch)
    if word is None:
        has = ", ".join(release.arches) or "no files"
        raise UsageError(f"s6-overlay {release.version} has no files for {arch.name}", hint=f"it has {has}")
    if release.major < 3:
        if syslogd:
            raise UsageError(f"s6-overlay {release.version} has no syslogd tarball", hint="v3 has one")
        return (f"s6-overlay-{word}.tar.gz",)
    stems = ["s6-overlay-noarch", f"s6-overlay-{word}"]
    if symlinks:
        stems += ["s6-overlay-symlinks-noarch", "s6-overlay-symlinks-arch"]
    if syslogd:
        stems.append("syslogd-overlay-noarch")
    tail = "" if release.order >= _NAMES_WITHOUT_VERSION_SINCE else f"-{release.version}"
    return tuple(f"{stem}{tail}.tar.xz" for stem in stems)


@cache
def _checksums() -> dict[tuple[str, str], Checksum]:
    found: dict[tuple[str, str], Checksum] = {}
    for row in read_table("overlay-checksums.tsv"):
        key = (row["version"], row["file"])
        if key not in found or found[key].algorithm == "md5":
            found[key] = Checksum(
                row["file"], row["algorithm"], row["digest"], row["status"] == "confirmed", row["sources"]
            )
    return found


def overlay_checksum(version: str, file: str) -> Checksum | None:
    """What is known of the checksum of one file of a release: its sha256, else its md5, else None."""
    return _checksums().get((version.removeprefix("v"), file))


class _Advisory(msgspec.Struct, frozen=True):
    first: _Order
    last: _Order
    problem: str
    reference: str | None
    severity: str

    def covers(self, release: OverlayRelease) -> bool:
        return self.first <= release.order <= self.last


@cache
def _advisories() -> tuple[_Advisory, ...]:
    return tuple(
        _Advisory(_order(row["first"] or "0"), _order(row["last"]), row["problem"], row["ref"] or None, row["severity"])
        for row in read_json("overlay-advisories.json")
    )


def _is_good(release: OverlayRelease) -> bool:
    return not any(advisory.covers(release) for advisory in _advisories())


def _instead_of(release: OverlayRelease) -> str | None:
    """The next good release: a later one of the same layout, else the next layout's, else the one before."""
    good = [other for other in overlay_releases() if _is_good(other)]
    later = [other for other in good if other.order > release.order]
    same = [other for other in later if other.major == release.major]
    earlier = [other for other in good if other.order < release.order]
    choice = (same or later)[:1] or earlier[-1:]
    if not choice:
        return None
    if choice[0].major != release.major:
        return f"s6-overlay {choice[0].version} (another layout: services move with it)"
    return f"s6-overlay {choice[0].version}"


def advice_for_overlay(version: str) -> tuple[Advice, ...]:
    """What is known to be wrong with a release, and the next good one. Raises UsageError for an unknown release."""
    release = overlay(version)
    found = [advisory for advisory in _advisories() if advisory.covers(release)]
    if not found:
        return ()
    instead = _instead_of(release)
    subject = f"s6-overlay {release.version}"
    return tuple(Advice(subject, each.problem, each.severity, each.reference, instead) for each in found)


def newest_good_overlay() -> OverlayRelease:
    """The newest release that nothing speaks against."""
    return [release for release in overlay_releases() if _is_good(release)][-1]
