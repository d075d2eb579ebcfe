"""`update-ca-certificates` and `c_rehash`, as Alpine's ca-certificates package has them.

The first links every certificate that `etc/ca-certificates.conf` names (and those under `usr/local/share`) as
`etc/ssl/certs/ca-cert-NAME.pem`, writes them all into `ca-certificates.crt`, and runs the programs in
`etc/ca-certificates/update.d`; the one there calls the second, which links each certificate by the hash of its subject,
where OpenSSL looks for it. The hash is OpenSSL's X509_NAME_hash: the first four bytes, little-endian, of the SHA-1 of
the subject's canonical encoding. Where the real programs go by the order of directory entries, names are sorted here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from sixsmith.rootfs.scripts.files import Files, Refused
from sixsmith.rootfs.scripts.options import parse_options
from sixsmith.rootfs.scripts.shell import Call, decode
from sixsmith.rootfs.scripts.syntax import NotUnderstood

__all__ = ["c_rehash", "run_parts", "subject_hash", "update_ca_certificates"]

_SHARED = "/usr/share/ca-certificates/"
_LOCAL = "/usr/local/share/ca-certificates/"
_CERTS = "/etc/ssl/certs/"
_CONF = "/etc/ca-certificates.conf"
_BUNDLE = "ca-certificates.crt"


def update_ca_certificates(call: Call) -> int:
    if [argument for argument in call.arguments[1:] if argument not in ("--fresh", "-f", "-v", "--verbose")]:
        raise call.unknown()
    files = call.files
    if not files.is_directory(_CERTS):
        return call.complain(f"Failed to open temporary file {_CERTS}bundleXXXXXX for ca bundle")
    wanted: dict[str, str] = {}
    bundle: list[bytes] = []
    for path in _listed(files):
        wanted[_link_name(path)] = path
        try:
            bundle.append(files.read(path))
        except Refused:
            call.complain(f"Warning! Cannot copy to bundle: {path}")
    for name in files.names(_CERTS):
        node = files.node(_CERTS + name, follow=False)
        if name.startswith(".") or node is None or node.kind != "symlink":
            continue
        path = wanted.get(name, "")
        if not path:
            if node.target.startswith((_SHARED, _LOCAL)):
                files.remove(_CERTS + name)
        elif node.target != path:
            files.remove(_CERTS + name)
    for name, path in wanted.items():
        if not files.exists(_CERTS + name, follow=False):
            files.make_symlink(_CERTS + name, path)
    files.put(_CERTS + _BUNDLE, files.file(b"".join(bundle), mode=0o644), follow=False)
    inner = Call(call.shell, ["run-parts", "/etc/ca-certificates/update.d/"], call.streams)
    if call.shell.programs.find("/usr/bin/run-parts", call.shell) or call.shell.programs.find(
        "/bin/run-parts", call.shell
    ):
        return run_parts(inner)
    return call.complain("run-parts: No such file or directory")


def _listed(files: Files) -> list[str]:
    """Paths of the certificates that are to be trusted, in the order of the bundle."""
    found = []
    try:
        conf = decode(files.read(_CONF))
    except Refused:
        conf = ""
    for line in conf.split("\n")[: -1 if conf.endswith("\n") or not conf else None]:
        if not line.startswith(("#", "!")):
            found.append(_SHARED + line)
    if files.is_directory(_LOCAL):
        found += [_LOCAL + name for name in files.names(_LOCAL) if not name.startswith(".")]
    return found


def _link_name(path: str) -> str:
    name = path.rpartition("/")[2]
    if len(name) > 4:
        name = name.removesuffix(".crt")
    return f"ca-cert-{name}.pem".translate(str.maketrans(", )(", "__=="))


def run_parts(call: Call) -> int:
    options = parse_options(call, "", {})
    if len(options.operands) != 1:
        raise call.unknown()
    directory = options.operands[0]
    try:
        names = call.files.names(directory)
    except Refused as error:
        return call.complain(f"{directory}: {error}")
    status = 0
    for name in names:
        path = f"{directory.rstrip('/')}/{name}"
        node = call.files.node(path)
        # busybox's rule of names, without its option --regex; directories and what cannot be run are passed over.
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or node is None or node.kind != "file" or not node.mode & 0o111:
            continue
        if call.shell.programs.call(Call(call.shell, [path], call.streams), builtins=False):
            status = 1
    return status


# --- c_rehash -------------------------------------------------------------------------------------------------------

_HASH_LINK = re.compile(r"[0-9a-f]{8}\.r?[0-9]{1,3}", re.IGNORECASE)
_EXTENSIONS = (".pem", ".crt", ".cer", ".crl")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----", re.DOTALL)


def c_rehash(call: Call) -> int:
    options = parse_options(call, "v")
    if len(options.operands) != 1:
        raise call.unknown()
    directory = options.operands[0].rstrip("/")
    files = call.files
    try:
        names = files.names(directory)
    except Refused as error:
        return call.complain(f"{directory}: {error}")
    old: dict[str, str] = {}
    certificates: dict[int, list[tuple[str, bytes]]] = {}
    for name in names:
        path = f"{directory}/{name}"
        node = files.node(path, follow=False)
        if node is not None and node.kind == "symlink" and _HASH_LINK.fullmatch(name):
            old[name] = node.target
            continue
        if not name.lower().endswith(_EXTENSIONS):
            continue
        _add_certificate(call, path, name, certificates)
    wanted = _numbered(certificates, old)
    for name, target in old.items():
        if wanted.get(name) != target:
            files.remove(f"{directory}/{name}")
    for name, target in wanted.items():
        if old.get(name) != target:
            files.make_symlink(f"{directory}/{name}", target)
    return 0


def _add_certificate(call: Call, path: str, name: str, certificates: dict[int, list[tuple[str, bytes]]]) -> None:
    try:
        blocks = _PEM.findall(call.files.read(path))
    except Refused:
        return
    kinds = [
        kind for kind, _ in blocks if kind in (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE", b"X509 CRL")
    ]
    if len(kinds) != 1:
        call.complain(f"WARNING: {name} does not contain exactly one certificate or CRL: skipping")
        return
    if kinds[0] != b"CERTIFICATE":
        raise NotUnderstood(f"{path} is a {kinds[0].decode()}")
    try:
        der = base64.b64decode(next(body for kind, body in blocks if kind == b"CERTIFICATE"))
        number = subject_hash(der)
    except (binascii.Error, ValueError, IndexError):
        raise NotUnderstood(f"{path} is no certificate that can be read") from None
    digest = hashlib.sha1(der, usedforsecurity=False).digest()
    entries = certificates.setdefault(number, [])
    if any(other == digest for _, other in entries):
        call.complain(f"WARNING: Skipping duplicate certificate in file {name}")
        return
    entries.append((name, digest))


def _numbered(certificates: dict[int, list[tuple[str, bytes]]], old: dict[str, str]) -> dict[str, str]:
    """Link names and targets; a certificate keeps the number it had, new ones take the lowest that is free."""
    wanted: dict[str, str] = {}
    for number, entries in certificates.items():
        prefix = f"{number:08x}."
        count = len(entries)
        kept: dict[int, str] = {}
        for name, _ in entries:
            for index in range(count):
                if old.get(f"{prefix}{index}") == name and index not in kept and name not in kept.values():
                    kept[index] = name
        free = iter(index for index in range(count) if index not in kept)
        for name, _ in entries:
            if name not in kept.values():
                kept[next(free)] = name
        wanted |= {f"{prefix}{index}": kept[index] for index in sorted(kept)}
    return wanted


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the DER element at an offset. Raises ValueError or IndexError."""
    tag = der[at]
    length = der[at + 1]
    at += 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or tag & 0x1F == 0x1F:
            raise ValueError("not DER")
        length = int.from_bytes(der[at : at + size], "big")
        at += size
    if at + length > len(der):
        raise ValueError("truncated")
    return tag, at, at + length


def _elements(der: bytes, start: int, end: int) -> list[tuple[int, int, int, int]]:
    """The elements between two offsets: where each starts, its tag, start and end of its content."""
    found = []
    while start < end:
        tag, inner, after = _element(der, start)
        found.append((start, tag, inner, after))
        start = after
    return found


def _wrapped(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


_TEXT_TAGS = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


def subject_hash(der: bytes) -> int:
    """OpenSSL's hash of a certificate's subject (X509_NAME_hash, `openssl x509 -subject_hash`).

    Raises ValueError or IndexError for what is no certificate.
    """
    _, start, end = _element(der, 0)
    _, start, end = _element(der, start)
    fields = _elements(der, start, end)
    if fields and fields[0][1] == 0xA0:
        fields = fields[1:]
    _, _, start, end = fields[4]  # serial, algorithm, issuer, validity, subject
    canonical = []
    for _, _, inner, after in _elements(der, start, end):
        attributes = [_canonical_attribute(der, *pair[2:]) for pair in _elements(der, inner, after)]
        canonical.append(_wrapped(0x31, b"".join(sorted(attributes))))
    return int.from_bytes(hashlib.sha1(b"".join(canonical), usedforsecurity=False).digest()[:4], "little")


def _canonical_attribute(der: bytes, start: int, end: int) -> bytes:
    """An attribute with its text in lower case, blanks folded, as UTF-8 (OpenSSL, x509name canonical encoding)."""
    (first, _, _, middle), (_, tag, inner, after) = _elements(der, start, end)
    value = der[inner:after]
    if tag in _TEXT_TAGS:
        text = value.decode(_TEXT_TAGS[tag]).encode()
        text = re.sub(rb"[ \t\n\v\f\r]+", b" ", text.strip(b" \t\n\v\f\r"))
        value = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in text)
        tag = 0x0C
    return _wrapped(0x30, der[first:middle] + _wrapped(tag, value))
