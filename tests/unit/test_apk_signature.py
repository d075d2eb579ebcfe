"""Signatures: which keys count, and that nothing else gets through."""

from __future__ import annotations

import base64
import gzip
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from apk_files import Item, gz, make_apk, make_index, member, sign
from sixsmith.apk.signature import Keyring, VerifiedIndex, _rsa_numbers, read_signatures, verify_index
from sixsmith.errors import FormatError, SignatureError, VerificationError


@pytest.fixture(scope="module")
def key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def other() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


INDEX = make_index([make_apk("a")])


@pytest.mark.parametrize("kind", ["RSA", "RSA256", "RSA512"])
def test_a_signed_index_is_verified(key: Any, kind: str) -> None:
    index = verify_index(sign(INDEX, key, "k.rsa.pub", kind) + INDEX, Keyring({"k.rsa.pub": pem(key)}), "repo")
    assert index.key == "k.rsa.pub"
    assert index.description == "test"
    assert index.text.startswith(b"C:Q1")


def test_unsigned_needs_allow_untrusted(key: Any) -> None:
    with pytest.raises(SignatureError, match="repo: not signed"):
        verify_index(INDEX, Keyring({"k": pem(key)}), "repo")
    assert verify_index(INDEX, None, "repo").key is None


def test_the_error_names_signer_and_trusted_keys(key: Any, other: Any) -> None:
    signed = sign(INDEX, key, "mine.pub") + INDEX
    with pytest.raises(SignatureError, match=r"signed by mine\.pub, which is not trusted") as caught:
        verify_index(signed, Keyring({"theirs.pub": pem(other)}), "repo")
    assert caught.value.hint is not None and "theirs.pub" in caught.value.hint
    with pytest.raises(SignatureError, match=r"the signature by mine\.pub is wrong"):
        verify_index(signed, Keyring({"mine.pub": pem(other)}), "repo")


def test_of_several_signatures_every_trusted_one_must_be_right(key: Any, other: Any) -> None:
    def member_of(*pairs: tuple[str, Any]) -> bytes:
        tar = b"".join(gzip.decompress(sign(INDEX, k, name)) for name, k in pairs)
        return gz(tar)

    both = member_of(("a", key), ("b", other)) + INDEX
    assert verify_index(both, Keyring({"a": pem(key), "b": pem(other)}), "r").key == "a"
    assert verify_index(both, Keyring({"b": pem(other)}), "r").key == "b"
    with pytest.raises(SignatureError):
        verify_index(both, Keyring({"a": pem(key), "b": pem(key)}), "r")


def test_a_signature_covers_what_follows_only(key: Any) -> None:
    """Bytes put between signature and index, or appended, break it."""
    keyring = Keyring({"k": pem(key)})
    signature = sign(INDEX, key, "k")
    for hostile in (signature + gz(b"") + INDEX, signature + INDEX + gz(b"x"), signature + INDEX + b"\0"):
        with pytest.raises(VerificationError):
            verify_index(hostile, keyring, "r")


def test_every_flipped_bit_is_seen(key: Any) -> None:
    """Except those that change nothing: other spellings of the very same signature in deflate's code."""
    keyring = Keyring({"k": pem(key)})
    signature = sign(INDEX, key, "k")
    signed = signature + INDEX
    want = verify_index(signed, keyring, "r").text
    for position in range(len(signed)):
        for bit in range(8):
            damaged = bytearray(signed)
            damaged[position] ^= 1 << bit
            try:
                index = verify_index(bytes(damaged), keyring, "r")
            except VerificationError:
                continue
            assert index.text == want
            assert position < len(signature), "a bit under the signature"
            assert read_signatures(bytes(damaged), "r") == read_signatures(signed, "r")


def test_a_verified_index_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        VerifiedIndex(b"", "", None, proof=object())


@pytest.mark.parametrize(
    "items",
    [
        [Item(".SIGN.RSA.a/b", b"x")],
        [Item(".SIGN.RSA", b"x")],
        [Item(".SIGN.RSA.k", b"x" * 20000)],
        [Item(".SIGN.RSA.k", b"x"), Item("evil", b"x")],
        [Item(".SIGN.RSA.k", b"target", type=b"2")],
    ],
)
def test_odd_signature_members_are_refused(items: list[Item]) -> None:
    with pytest.raises(FormatError):
        read_signatures(gz(b"".join(member(item) for item in items)) + INDEX, "r")


def test_an_extended_header_without_a_size_is_no_signature() -> None:
    """Digits, but no octal ones."""
    header = bytearray(member(Item("x", b"", type=b"x", checksum=False)))
    header[124:136] = b"00000800501\0"
    with pytest.raises(FormatError):
        verify_index(gz(bytes(header)) + INDEX, None, "r")


def test_a_bomb_in_the_signature_is_not_inflated() -> None:
    bomb = gz(member(Item(".SIGN.RSA.k", b"\0" * (8 << 20))))
    with pytest.raises(FormatError, match="inflates to more than"):
        read_signatures(bomb + INDEX, "r")


def test_unknown_kinds_and_bad_keys(key: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    strange = gz(member(Item(".SIGN.DSA.k", b"x"))) + INDEX
    with pytest.raises(SignatureError, match="unknown kind 'DSA'"):
        verify_index(strange, Keyring({"k": pem(key)}), "r")
    signed = sign(INDEX, key, "k") + INDEX
    with pytest.raises(SignatureError, match="not a public key"):
        verify_index(signed, Keyring({"k": b"junk"}), "r")
    with pytest.raises(SignatureError, match="not an RSA key"):
        verify_index(signed, Keyring({"k": pem(ed25519.Ed25519PrivateKey.generate())}), "r")
    with pytest.raises(SignatureError, match="not trusted") as caught:
        verify_index(signed, Keyring({}), "r")
    assert caught.value.hint == "no keys are trusted here"


def test_an_index_holds_one_apkindex() -> None:
    twice = gz(member(Item("APKINDEX", b"a")) + member(Item("APKINDEX", b"b")))
    with pytest.raises(FormatError, match="more than one APKINDEX"):
        verify_index(twice, None, "r")
    with pytest.raises(FormatError, match="no APKINDEX"):
        verify_index(gz(member(Item("DESCRIPTION", b"a"))), None, "r")


def test_real_indexes_are_signed_by_alpine(data: Path) -> None:
    keys = {path.name: path.read_bytes() for path in (data / "upstream/keys").glob("alpine-devel@*")}
    path = data / "upstream/alpine/v3.19/main/x86_64/APKINDEX.tar.gz"
    index = verify_index(path.read_bytes(), Keyring(keys), path.name)
    assert index.key == "alpine-devel@lists.alpinelinux.org-6165ee59.rsa.pub"
    assert index.text.count(b"\nP:") == 100


@pytest.mark.parametrize("bits", [1024, 2048, 4096])
def test_numbers_of_a_key_are_those_that_cryptography_reads(bits: int) -> None:
    key = rsa.generate_private_key(65537, bits)
    numbers = key.public_key().public_numbers()
    assert _rsa_numbers(pem(key)) == (numbers.n, numbers.e)


def written(der: bytes) -> bytes:
    """As openssl writes a public key."""
    text = base64.b64encode(der)
    lines = [text[at : at + 64] + b"\n" for at in range(0, len(text), 64)]
    return b"".join([b"-----BEGIN PUBLIC KEY-----\n", *lines, b"-----END PUBLIC KEY-----\n"])


def test_a_key_in_another_form_is_left_to_cryptography() -> None:
    key = rsa.generate_private_key(65537, 1024)
    text = pem(key)
    lines = text.split(b"\n")
    body = base64.b64decode(b"".join(lines[1:-2]))

    assert _rsa_numbers(written(body)) is not None
    strange = [
        b"",
        b"x",
        body[:-1],
        body + b"\0",
        body[:40],
        bytes([0x31]) + body[1:],
        body.replace(b"\x05\x00", b"\x04\x00"),
    ]
    for der in strange:
        assert _rsa_numbers(written(der)) is None, der.hex()
    assert _rsa_numbers(pem(ed25519.Ed25519PrivateKey.generate())) is None
    crlf = text.replace(b"\n", b"\r\n")
    assert _rsa_numbers(crlf) is None
    signed = sign(INDEX, key, "k", "RSA256") + INDEX
    assert verify_index(signed, Keyring({"k": crlf}), "repo").key == "k"


@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_no_key_is_taken_that_cryptography_refuses(key: Any, kind: str) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text = pem(key)
    der = base64.b64decode(b"".join(text.splitlines()[1:-1]))
    chance = random.Random(kind)
    taken = 0
    for _ in range(4000):
        changed = bytearray(der if kind == "bytes" else text)
        at = chance.choice([chance.randrange(40), chance.randrange(len(changed)), -1 - chance.randrange(30)])
        new = chance.randrange(256) if kind == "bytes" else chance.choice(b"AZaz09+/=-_ \n\r\t")
        changed[at : at + 1 or None] = chance.choice([b"", bytes([new]), bytes([new, changed[at]])])
        made = written(bytes(changed)) if kind == "bytes" else bytes(changed)
        numbers = _rsa_numbers(made)
        if numbers is None:
            continue
        taken += 1
        try:
            loaded: Any = load_pem_public_key(made)
        except ValueError:
            with pytest.raises(ValueError):
                rsa.RSAPublicNumbers(n=numbers[0], e=numbers[1]).public_key()
        else:
            assert (loaded.public_numbers().n, loaded.public_numbers().e) == numbers
    assert taken or kind == "text"
