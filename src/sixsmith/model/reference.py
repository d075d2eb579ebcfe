"""Image references: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]` (distribution-spec; docker/distribution's grammar)."""

from __future__ import annotations

import re

import msgspec

from sixsmith.errors import FormatError, UsageError
from sixsmith.model.digest import Digest, parse_digest

__all__ = ["Reference", "parse_reference"]

_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z"
_REGISTRY = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?\Z"


class Reference(msgspec.Struct, frozen=True):
    """Where an image is. `registry` is `host[:port]`, or empty when none was given."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        text = f"{self.registry}/{self.repository}" if self.registry else self.repository
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def parse_reference(text: str) -> Reference:
    """`text` as a reference. The first part is a registry when it has a dot, a colon or is `localhost`.

    Raises UsageError naming the part that is wrong.
    """
    rest, at, digest_text = text.partition("@")
    head, slash, tail = rest.partition("/")
    registry = ""
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, rest = head, tail
    path, colon, tag = rest.rpartition(":")
    if not colon:
        path, tag = rest, ""
    if registry and not re.match(_REGISTRY, registry):
        raise UsageError(f"'{text}': '{registry}' is not a registry host")
    if not re.match(_PATH, path):
        raise UsageError(f"'{text}': '{path}' is not a repository name", hint="lower-case letters, digits, . _ - and /")
    if colon and not re.match(_TAG, tag):
        raise UsageError(f"'{text}': '{tag}' is not a tag", hint="up to 128 of letters, digits, . _ -")
    try:
        digest = parse_digest(digest_text) if at else None
    except FormatError:
        raise UsageError(f"'{text}': '{digest_text}' is not a digest", hint="sha256: and 64 hex digits") from None
    return Reference(registry, path, tag or None, digest)
