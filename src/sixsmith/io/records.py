"""How a record is stored: with a checksum over its kind, its key and its payload, so that a damaged one reads as absent."""

from __future__ import annotations

import hashlib

__all__ = ["CHECKSUM_SIZE", "open_record", "seal_record"]

CHECKSUM_SIZE = 32
"""Bytes of sha256 in front of a record."""


def seal_record(kind: str, key: str, payload: bytes) -> bytes:
    """A record as stored: sha256 of kind and all that follows, length of the key, key, payload."""
    name = key.encode()
    body = len(name).to_bytes(4, "little") + name + payload
    return hashlib.sha256(kind.encode() + b"\0" + body).digest() + body


def open_record(kind: str, raw: bytes) -> tuple[str, bytes] | None:
    """Key and payload of a stored record, or None when it is damaged."""
    body = raw[CHECKSUM_SIZE:]
    if hashlib.sha256(kind.encode() + b"\0" + body).digest() != raw[:CHECKSUM_SIZE]:
        return None
    end = 4 + int.from_bytes(body[:4], "little")
    return body[4:end].decode(), body[end:]
