"""How a record is stored: with a checksum over its kind, its key and its payload, so that a damaged one reads as absent.

Content (`CONTENT`) is stored as it is: its key is the sha256 of its bytes, which is checksum enough.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sixsmith.model.compression import Bytes

__all__ = ["CHECKSUM_SIZE", "CONTENT", "open_record", "record_pieces", "seal_record"]

CHECKSUM_SIZE = 32
"""Bytes of sha256 in front of a record."""

CONTENT = "data"
"""The kind of those records that are bytes from elsewhere, by the hex digits of their sha256."""


def seal_record(kind: str, key: str, payload: bytes) -> bytes:
    """A record as stored: sha256 of kind and all that follows, length of the key, key, payload."""
    return b"".join(record_pieces(kind, key, payload))


def record_pieces(kind: str, key: str, payload: Bytes) -> tuple[Bytes, ...]:
    """The same in pieces, of which the payload is one."""
    if kind == CONTENT:
        return (payload,)
    name = key.encode()
    front = len(name).to_bytes(4, "little") + name
    seal = sha256(kind.encode() + b"\0" + front)
    seal.update(payload)
    return seal.digest() + front, payload


def open_record(kind: str, raw: bytes) -> tuple[str, bytes] | None:
    """Key and payload of a stored record, or None when it is damaged. Damaged content has another key."""
    if kind == CONTENT:
        return sha256(raw).hexdigest(), raw
    seal = sha256(kind.encode() + b"\0")
    seal.update(memoryview(raw)[CHECKSUM_SIZE:])
    if seal.digest() != raw[:CHECKSUM_SIZE]:
        return None
    start = CHECKSUM_SIZE + 4
    end = start + int.from_bytes(raw[CHECKSUM_SIZE:start], "little")
    return raw[start:end].decode(), raw[end:]
