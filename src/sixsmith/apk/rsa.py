"""RSA signatures, checked with nothing but Python's own integers.

To verify is one modular power with a small exponent and a comparison with the only block that PKCS#1 v1.5 allows: two
milliseconds and no secrets. The library that could do it too takes twenty times as long to load. The block is made and
compared as a whole, never taken apart, so there is no padding to be lenient about.
Sources: RFC 8017, sections 8.2.2 and 9.2; RFC 5280, section 4.1 (SubjectPublicKeyInfo); RFC 7468.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import NamedTuple

from sixsmith.errors import FormatError

__all__ = ["PublicKey", "is_signed", "load_public_key"]

_PEM = re.compile(
    rb"-----BEGIN (?P<kind>(?:RSA )?PUBLIC KEY)-----\s+(?P<body>[A-Za-z0-9+/=\s]+)-----END (?P=kind)-----"
)
_SEQUENCE, _INTEGER, _BITS = 0x30, 0x02, 0x03
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
"""The algorithm of an RSA key: rsaEncryption with no parameters."""
_MIN_BITS, _MAX_BITS = 1024, 16384

_DIGEST_INFO = {
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""What stands before the hash in the signed block (RFC 8017, section 9.2, note 1)."""


class PublicKey(NamedTuple):
    """An RSA key. `size` is its length in bytes, and that of its signatures."""

    modulus: int
    exponent: int
    size: int


def load_public_key(pem: bytes) -> PublicKey | None:
    """The key in a PEM text, or None for a key that is not an RSA key. Raises FormatError for what is no public key."""
    found = _PEM.search(pem)
    if found is None:
        raise FormatError("not a public key in PEM form")
    try:
        der = binascii.a2b_base64(found["body"])
    except binascii.Error:
        raise FormatError("not a public key in PEM form") from None
    if found["kind"] == b"PUBLIC KEY":
        outer = _whole(der, _SEQUENCE)
        if not outer.startswith(_RSA):
            _take(outer, _SEQUENCE)
            return None
        bits = _whole(outer[len(_RSA) :], _BITS)
        if bits[:1] != b"\0":
            raise FormatError("not a public key: its bits are not bytes")
        der = bits[1:]
    inner = _whole(der, _SEQUENCE)
    modulus, rest = _take(inner, _INTEGER)
    exponent = _whole(rest, _INTEGER)
    n, e = _positive(modulus), _positive(exponent)
    if not _MIN_BITS <= n.bit_length() <= _MAX_BITS or not n & 1 or e < 3 or not e & 1 or e.bit_length() > 64:
        raise FormatError("not an RSA key that anybody should trust: its numbers are out of range")
    return PublicKey(n, e, (n.bit_length() + 7) // 8)


def is_signed(key: PublicKey, signature: bytes, signed: bytes | memoryview, algorithm: str) -> bool:
    """Whether `signature` is this key's over these bytes; `algorithm` is sha1, sha256 or sha512."""
    if len(signature) != key.size:
        return False
    number = int.from_bytes(signature, "big")
    if number >= key.modulus:
        return False
    digest = hashlib.new(algorithm, signed, usedforsecurity=False).digest()
    tail = b"\0" + _DIGEST_INFO[algorithm] + digest
    filling = key.size - 2 - len(tail)
    if filling < 8:
        return False
    block = b"\0\1" + b"\xff" * filling + tail
    return pow(number, key.exponent, key.modulus).to_bytes(key.size, "big") == block


def _take(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the DER value at the start, and what follows it. Raises FormatError."""
    if len(der) < 2 or der[0] != tag:
        raise FormatError("not a public key: damaged DER")
    length, start = der[1], 2
    if length & 0x80:
        count = length & 0x7F
        start += count
        length = int.from_bytes(der[2:start], "big")
        if not 1 <= count <= 4 or len(der) < start or length < 0x80 or not der[2]:
            raise FormatError("not a public key: damaged DER")
    if len(der) < start + length:
        raise FormatError("not a public key: damaged DER")
    return der[start : start + length], der[start + length :]


def _whole(der: bytes, tag: int) -> bytes:
    """The content of a DER value that is all there is."""
    content, rest = _take(der, tag)
    if rest:
        raise FormatError("not a public key: something follows it")
    return content


def _positive(content: bytes) -> int:
    if not content or content[0] & 0x80:
        raise FormatError("not a public key: a number that is not positive")
    return int.from_bytes(content, "big")
