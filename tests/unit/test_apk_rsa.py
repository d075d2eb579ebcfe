"""RSA verification against a library that signs, and against every way to be nearly right."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from sixsmith.apk.rsa import is_signed, load_public_key
from sixsmith.errors import FormatError

HASHES: dict[str, Any] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}
PEM, SPKI = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
KEY = rsa.generate_private_key(65537, 2048)


def pem(key: Any, form: Any = SPKI) -> bytes:
    return bytes(key.public_key().public_bytes(PEM, form))


@pytest.mark.parametrize("algorithm", HASHES)
@pytest.mark.parametrize("form", [SPKI, serialization.PublicFormat.PKCS1])
def test_takes_what_the_library_signed(algorithm: str, form: Any) -> None:
    signature = KEY.sign(b"bytes", padding.PKCS1v15(), HASHES[algorithm])
    key = load_public_key(pem(KEY, form))
    assert key is not None
    assert is_signed(key, signature, b"bytes", algorithm)
    assert not is_signed(key, signature, b"Bytes", algorithm)
    for other in set(HASHES) - {algorithm}:
        assert not is_signed(key, signature, b"bytes", other)


def test_keys_of_odd_lengths_and_small_exponents() -> None:
    for exponent, bits in ((3, 1031), (65537, 1025), (65537, 3072)):
        private = rsa.generate_private_key(exponent, bits)
        key = load_public_key(pem(private))
        assert key is not None
        assert is_signed(key, private.sign(b"x", padding.PKCS1v15(), hashes.SHA256()), b"x", "sha256")


def test_no_flipped_bit_and_no_other_length_is_taken() -> None:
    signature = KEY.sign(b"bytes", padding.PKCS1v15(), hashes.SHA256())
    key = load_public_key(pem(KEY))
    assert key is not None
    for position in range(0, len(signature) * 8, 37):
        changed = bytearray(signature)
        changed[position // 8] ^= 1 << position % 8
        assert not is_signed(key, bytes(changed), b"bytes", "sha256")
    number = int.from_bytes(signature, "big") + key.modulus
    assert not is_signed(key, number.to_bytes(key.size + 1, "big"), b"bytes", "sha256")
    assert not is_signed(key, b"\0" + signature, b"bytes", "sha256")
    assert not is_signed(key, signature[:-1], b"bytes", "sha256")
    assert not is_signed(key, bytes(key.size), b"bytes", "sha256")


def test_a_block_with_short_filling_is_refused() -> None:
    """The forgery against lenient verifiers: little filling, the hash, and garbage behind it."""
    numbers = KEY.private_numbers()
    key = load_public_key(pem(KEY))
    assert key is not None
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"bytes")
    block = b"\0\1" + b"\xff" * 8 + b"\0" + bytes.fromhex("3031300d060960864801650304020105000420") + digest.finalize()
    block += bytes(key.size - len(block))
    forged = pow(int.from_bytes(block, "big"), numbers.d, key.modulus).to_bytes(key.size, "big")
    assert not is_signed(key, forged, b"bytes", "sha256")


def test_a_key_of_another_kind_is_none() -> None:
    assert load_public_key(pem(ec.generate_private_key(ec.SECP256R1()))) is None


def test_damaged_keys_are_refused() -> None:
    good = pem(KEY)
    damaged = [
        b"",
        b"no key",
        good.replace(b"PUBLIC KEY", b"PRIVATE KEY"),
        good[:200] + b"\n-----END PUBLIC KEY-----\n",
    ]
    for text in damaged:
        with pytest.raises(FormatError):
            load_public_key(text)


def test_weak_numbers_are_refused() -> None:
    import base64

    def der(tag: int, content: bytes) -> bytes:
        size = len(content)
        length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
        return bytes([tag]) + length + content

    def key(modulus: int, exponent: int) -> bytes:
        numbers = b"".join(der(2, n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in (modulus, exponent))
        return b"-----BEGIN RSA PUBLIC KEY-----\n%b-----END RSA PUBLIC KEY-----\n" % base64.encodebytes(
            der(48, numbers)
        )

    assert load_public_key(key(2**2047 + 1, 65537)) is not None
    for modulus, exponent in ((2**511 + 1, 65537), (2**2047, 65537), (2**2047 + 1, 1), (2**2047 + 1, 4)):
        with pytest.raises(FormatError):
            load_public_key(key(modulus, exponent))
