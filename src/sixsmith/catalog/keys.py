"""Alpine's public keys: which key signs for which architecture, and since which release.

A key is trusted for one release and one architecture only: the key of the s390x builders has no say about x86_64. The table
follows the folders `usr/share/apk/keys/<arch>` of the alpine-keys package as the release images carry them. A key's name
is the time of its making, in hexadecimal.
"""

from __future__ import annotations

from functools import cache

from sixsmith.catalog.alpine import alpine, alpine_releases
from sixsmith.catalog.facts import read_bytes, read_json
from sixsmith.errors import UsageError

__all__ = ["keys_for"]


@cache
def _age(release: str) -> int:
    return [each.name for each in alpine_releases()].index(release)


def keys_for(release: str, arch: str) -> dict[str, bytes]:
    """The keys of an Alpine release for an architecture (apk spelling): file name as apk signs with → PEM bytes.

    Raises UsageError for an unknown release, or for an architecture that the release does not have.
    """
    known = alpine(release)
    if arch not in known.arches:
        raise UsageError(f"Alpine {known.name} has no {arch}", hint=f"it has {', '.join(known.arches)}")
    return {
        row["file"]: read_bytes(f"keys/{row['file']}")
        for row in read_json("keys.json")
        if arch in row["arches"] and _age(row["arches"][arch]) <= _age(known.name)
    }
