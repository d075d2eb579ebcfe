"""Digests of stored bytes (image-spec, `descriptor.md#digests`). Only sha256 is used."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from sixsmith.errors import DigestMismatch, FormatError

__all__ = ["Digest", "check_digest", "digest_of", "hex_of", "is_digest", "parse_digest"]

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def digest_of(data: bytes | bytearray | memoryview) -> Digest:
    """The digest of these bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse_digest(text: str) -> Digest:
    """`text` as a digest; raises FormatError when it is not `sha256:` and 64 lower-case hex digits."""
    if not _DIGEST.match(text):
        raise FormatError(f"not a sha256 digest: {text!r}")
    return Digest(text)


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hex digits."""
    return _DIGEST.match(text) is not None


def hex_of(digest: Digest) -> str:
    """The 64 hex digits."""
    return digest[7:]


def check_digest(data: bytes | bytearray | memoryview, expected: Digest, what: str) -> None:
    """Raises DigestMismatch when the bytes of `what` do not have the expected digest."""
    found = digest_of(data)
    if found != expected:
        raise DigestMismatch(f"{what}: expected {expected}, got {found}")
