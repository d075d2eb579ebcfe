"""What the catalogue has to say about a choice: a warning with a reason, or a checksum with its standing."""

from __future__ import annotations

import msgspec

__all__ = ["Advice", "Checksum"]


class Advice(msgspec.Struct, frozen=True):
    """A reason to choose otherwise: `subject` and `message` make a sentence.

    `severity` is `bad` (broken, dead, unpatched) or `caution`; `instead` is the next good version, or None where there
    is none; `reference` is an issue or page that tells more, `#123` being an issue of the subject's own project.
    """

    subject: str
    message: str
    severity: str = "bad"
    reference: str | None = None
    instead: str | None = None

    def __str__(self) -> str:
        text = f"{self.subject} {self.message}"
        if self.reference:
            text += f" ({self.reference})"
        return f"{text}; use {self.instead}" if self.instead else text


class Checksum(msgspec.Struct, frozen=True):
    """What a published file hashes to.

    `algorithm` is sha256, sha512 or md5. `confirmed` is true when independent sources agree (or the publisher says it);
    an md5 is too weak to prove anything and only catches accidents.
    """

    file: str
    algorithm: str
    digest: str
    confirmed: bool
    sources: str

    def matches(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether `data` hashes to this."""
        import hashlib

        return hashlib.new(self.algorithm, data, usedforsecurity=False).hexdigest() == self.digest
