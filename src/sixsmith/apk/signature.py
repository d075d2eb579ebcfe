"""Who signed these bytes.

A signed file of apk starts with a gzip member of its own: a small tar whose members `.SIGN.<kind>.<key file>` hold RSA
signatures (PKCS#1 v1.5) over the raw bytes that follow: all the rest of an index, the control member of a package.
What a signature covers is only used after it was verified, and the type says so: `VerifiedIndex` cannot be made otherwise.
"""

from __future__ import annotations

import zlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence

import msgspec

from sixsmith.errors import FormatError, SignatureError
from sixsmith.model.compression import Bytes, gunzip
from sixsmith.model.tar import BLOCK, TarEntry, padding, parse_tar

__all__ = [
    "Keyring",
    "Signature",
    "VerifiedIndex",
    "inflate_member",
    "read_signatures",
    "verify_index",
]

MAX_INDEX = 512 << 20
"""Bytes that an inflated index may have; the largest real ones are near 10 MB."""

_MAX_SIGNATURES = 1 << 20
_MAX_SIGNATURE = 16384
_HASHES = {"RSA": "SHA1", "RSA256": "SHA256", "RSA512": "SHA512"}
_PREFIX = ".SIGN."


class Signature(msgspec.Struct, frozen=True):
    """One signature: `kind` is `RSA` (SHA-1), `RSA256` or `RSA512`; `key` is the key's file name."""

    kind: str
    key: str
    value: bytes


class Keyring:
    """The public keys that are trusted for one repository, by file name as in `etc/apk/keys`."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` maps file names to PEM texts."""
        self.keys: dict[str, bytes] = dict(keys)
        self._loaded: dict[str, object] = {}

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.keys)})"

    def verify(self, signatures: Sequence[Signature], signed: Bytes, what: str) -> str:
        """The file name of the key that signed these bytes.

        Signatures of unknown keys do not count; every signature of a trusted key has to be right. Raises SignatureError
        naming who signed and who is trusted.
        """
        if not signatures:
            raise SignatureError(f"{what}: not signed", hint=self._trusted())
        tried = [signature for signature in signatures if signature.key in self.keys]
        if not tried:
            signers = ", ".join(dict.fromkeys(signature.key for signature in signatures))
            raise SignatureError(f"{what}: signed by {signers}, which is not trusted here", hint=self._trusted())
        for signature in tried:
            self._check(signature, signed, what)
        return tried[0].key

    def _trusted(self) -> str:
        return f"trusted here: {', '.join(sorted(self.keys))}" if self.keys else "no keys are trusted here"

    def _check(self, signature: Signature, signed: Bytes, what: str) -> None:
        from cryptography.exceptions import InvalidSignature  # a fifth of the start-up time, and not every run verifies
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        name = _HASHES.get(signature.kind)
        if name is None:
            raise SignatureError(f"{what}: signature of unknown kind '{signature.kind}' by {signature.key}")
        key = self._loaded.get(signature.key)
        if key is None:
            try:
                key = _load_key(self.keys[signature.key])
            except ValueError:
                raise SignatureError(f"{signature.key}: not a public key in PEM form") from None
            self._loaded[signature.key] = key
        if not isinstance(key, rsa.RSAPublicKey):
            raise SignatureError(f"{signature.key}: not an RSA key")
        algorithm: hashes.HashAlgorithm = getattr(hashes, name)()
        try:
            key.verify(signature.value, bytes(signed), padding.PKCS1v15(), algorithm)
        except InvalidSignature:
            raise SignatureError(
                f"{what}: the signature by {signature.key} is wrong",
                hint="the file was changed or damaged after it was signed, or the key of that name is another one",
            ) from None


def _load_key(pem: bytes) -> object:
    """The public key in a PEM text. Raises ValueError for what is none."""
    numbers = _rsa_numbers(pem)
    if numbers is not None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        return rsa.RSAPublicNumbers(e=numbers[1], n=numbers[0]).public_key()
    # it knows every kind of key, and loads SSH's and more for that: half of what verifying an index costs
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return load_pem_public_key(pem)


_PEM_FRONT, _PEM_END = b"-----BEGIN PUBLIC KEY-----\n", b"-----END PUBLIC KEY-----\n"
_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
"""AlgorithmIdentifier of rsaEncryption (RFC 3279, 2.3.1)."""


def _rsa_numbers(pem: bytes) -> tuple[int, int] | None:
    """Modulus and exponent of an RSA key as `openssl rsa -pubout` writes it, which all of Alpine's are; None for any other
    text, of which nothing is said."""
    try:
        key, _ = _der(a2b_base64(pem[len(_PEM_FRONT) : -len(_PEM_END)]), 0x30)
        bits, _ = _der(key[len(_RSA_ALGORITHM) :], 0x03)
        modulus, rest = _der(_der(bits[1:], 0x30)[0], 0x02)
        exponent, _ = _der(rest, 0x02)
    except (ValueError, IndexError):
        return None
    numbers = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    return numbers if _rsa_pem(*numbers) == pem else None  # this is the strictness that reading lacks


def _rsa_pem(modulus: int, exponent: int) -> bytes:
    """The one text of a key in strict DER."""
    pair = b"".join(
        _element(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in (modulus, exponent)
    )
    text = b2a_base64(_element(0x30, _RSA_ALGORITHM + _element(0x03, b"\0" + _element(0x30, pair))), newline=False)
    return b"\n".join([_PEM_FRONT[:-1], *(text[at : at + 64] for at in range(0, len(text), 64)), _PEM_END])


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return (bytes([tag, size]) if size < 0x80 else bytes([tag, 0x80 | len(length)]) + length) + content


def _der(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the DER element that data begins with, and what follows it. Raises ValueError, IndexError."""
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if data[0] != tag or len(data) < start + length:
        raise ValueError("not this element")
    return data[start : start + length], data[start + length :]


def inflate_member(data: Bytes, start: int, *, what: str, limit: int) -> tuple[bytes, int]:
    """The gzip member at `start`: its inflated bytes and the offset behind it. What follows is never inflated.

    Raises FormatError for damaged or truncated data and for more than `limit` inflated bytes.
    """
    view = memoryview(data)
    inflater = zlib.decompressobj(31)
    pieces: list[bytes] = []
    total, position = 0, start
    step = 4096
    while not inflater.eof:
        chunk = view[position : position + step]
        if not chunk:
            raise FormatError(f"{what}: truncated gzip data")
        try:
            piece = inflater.decompress(chunk, limit - total + 1)
        except zlib.error as error:
            raise FormatError(f"{what}: damaged gzip data ({error})") from None
        total += len(piece)
        if total > limit or inflater.unconsumed_tail:
            raise FormatError(f"{what}: inflates to more than {limit} bytes")
        pieces.append(piece)
        position += len(chunk) - len(inflater.unused_data)
        step = 65536
    return b"".join(pieces), position


def check_member_header(data: Bytes, start: int, what: str) -> None:
    """Refuses a gzip header that no signer writes.

    Nothing in the header of a signature member is covered by any checksum. It does not matter to what is read, but a
    flipped bit there says that the file is not the one that was published.
    """
    header = bytes(memoryview(data)[start : start + 10])
    if len(header) < 10 or header[:3] != b"\x1f\x8b\x08":
        raise FormatError(f"{what}: not a gzip file")
    seconds = int.from_bytes(header[4:8], "little")
    plausible_time = seconds == 0 or 1 << 30 < seconds < 1 << 31  # 2004 to 2038
    if header[3] & ~8 or header[8] not in (0, 2, 4) or header[9] not in (0, 3, 255) or not plausible_time:
        raise FormatError(f"{what}: damaged gzip header")


def read_signatures(data: Bytes, what: str) -> tuple[tuple[Signature, ...], int]:
    """The signatures at the start of a file and the offset where the signed bytes begin.

    A file whose first member holds no signatures is unsigned: no signatures, offset 0. Raises FormatError.
    """
    if not starts_with_signature(data, what):
        return (), 0
    check_member_header(data, 0, what)
    tar, end = inflate_member(data, 0, what=what, limit=_MAX_SIGNATURES)
    signatures = []
    for entry in parse_tar(tar, what=what):
        if not entry.path.startswith(_PREFIX) or entry.kind != "file":
            raise FormatError(f"{what}: '{entry.path}' among the signatures")
        signatures.append(_signature(entry, tar, what))
    return tuple(signatures), end


def starts_with_signature(data: Bytes, what: str) -> bool:
    """Whether the first member of this gzip file is a signature tar: by its first header behind extended ones."""
    try:
        first = zlib.decompressobj(31).decompress(memoryview(data)[:8192], 8192)
    except zlib.error as error:
        raise FormatError(f"{what}: damaged gzip data ({error})") from None
    position = 0
    while first[position + 156 : position + 157] in (b"x", b"g"):
        number = first[position + 124 : position + 135]
        if number.strip(b"01234567"):
            break  # no size; the tar's own reader says so
        size = int(number or b"0", 8)
        position += BLOCK + size + len(padding(size))
    return first.startswith(_PREFIX.encode(), position)


def _signature(entry: TarEntry, tar: bytes, what: str) -> Signature:
    kind, _, key = entry.path[len(_PREFIX) :].partition(".")
    if not kind or not key or "/" in key or entry.size > _MAX_SIGNATURE:
        raise FormatError(f"{what}: '{entry.path[:80]}' is not a signature")
    return Signature(kind, key, tar[entry.offset : entry.offset + entry.size])


_VERIFIED = object()


class VerifiedIndex:
    """The contents of an APKINDEX.tar.gz whose signature was verified; made by `verify_index` only.

    `text` is the APKINDEX, `description` what the repository says of itself (often a version), `key` the file name of
    the key that signed, or None when it was taken on trust (`allow_untrusted`).
    """

    __slots__ = ("description", "key", "text")

    def __init__(self, text: bytes, description: str, key: str | None, *, proof: object) -> None:
        if proof is not _VERIFIED:
            raise TypeError("a VerifiedIndex is made by verify_index only")
        self.text = text
        self.description = description
        self.key = key


def verify_index(file_bytes: Bytes, keyring: Keyring | None, what: str) -> VerifiedIndex:
    """The verified contents of an APKINDEX.tar.gz.

    `keyring` None is `--allow-untrusted`: signatures are not looked at. Raises SignatureError when the file is not
    signed by a trusted key, FormatError when it is damaged, has no APKINDEX, or more than one.
    """
    signatures, start = read_signatures(file_bytes, what)
    signed = memoryview(file_bytes)[start:]
    key = keyring.verify(signatures, signed, what) if keyring is not None else None
    tar = gunzip(signed, what=what, limit=MAX_INDEX)
    found: dict[str, bytes] = {}
    for entry in parse_tar(tar, what=what):
        if entry.path in ("APKINDEX", "DESCRIPTION"):
            if entry.path in found or entry.kind != "file":
                raise FormatError(f"{what}: more than one {entry.path}")
            found[entry.path] = bytes(memoryview(tar)[entry.offset : entry.offset + entry.size])
    if "APKINDEX" not in found:
        raise FormatError(f"{what}: there is no APKINDEX in it")
    description = found.get("DESCRIPTION", b"").decode("utf-8", "replace").strip()
    return VerifiedIndex(found["APKINDEX"], description, key, proof=_VERIFIED)
