"""Image references and digests: what is read is written as it was."""

from __future__ import annotations

from contextlib import suppress

from sixsmith.errors import FormatError, UsageError
from sixsmith.model.digest import parse_digest
from sixsmith.model.reference import parse_reference

WORDS = (b"localhost:5000/", b"@sha256:", b":latest", b"__", b"a" * 64, b"[::1]:5000/", b"\n", b"..")


def seeds() -> list[bytes]:
    digest = b"sha256:" + b"0123456789abcdef" * 4
    return [
        b"alpine",
        b"127.0.0.1:5000/family/one:3.22-3.2.3.0",
        b"quay.io/a/b__c.d@" + digest,
        b"a/b:tag@" + digest,
        digest,
    ]


def TestOneInput(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(FormatError):
        assert parse_digest(text) == text
    try:
        reference = parse_reference(text)
    except UsageError:
        return
    assert parse_reference(str(reference)) == reference
    assert str(reference) == text
