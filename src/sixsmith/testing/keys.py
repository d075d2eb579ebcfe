"""A key that signs sample packages and indexes. Made on the spot, never written down unless somebody asks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["SigningKey", "sample_key"]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key with the file name that signatures carry (`NAME.rsa.pub`)."""

    name: str
    _private: RSAPrivateKey

    @classmethod
    def generate(cls, name: str = "sample@sixsmith-5a3b1e00.rsa.pub", *, bits: int = 2048) -> SigningKey:
        """A new key; takes some tenths of a second."""
        from cryptography.hazmat.primitives.asymmetric import rsa

        return cls(name, rsa.generate_private_key(public_exponent=65537, key_size=bits))

    @property
    def public(self) -> bytes:
        """The public key as PEM, as it lies in etc/apk/keys."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes, *, algorithm: str = "RSA") -> bytes:
        """The raw signature of `data`: `RSA` is over its SHA-1, `RSA256` over its SHA-256."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        kinds = {"RSA": hashes.SHA1(), "RSA256": hashes.SHA256(), "RSA512": hashes.SHA512()}
        return self._private.sign(data, padding.PKCS1v15(), kinds[algorithm])

    def write_public(self, folder: Path) -> Path:
        """Writes the public key under its name; returns the path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        path.write_bytes(self.public)
        return path


@cache
def sample_key() -> SigningKey:
    """One key for the whole run of a program."""
    return SigningKey.generate()
