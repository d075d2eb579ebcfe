"""Alpine packages and indexes, signed, made of whatever files a test wants in them.

`make_apk` writes what abuild writes: signature, control and data, three gzip members, the first two without end blocks; a SHA-1
in a pax record of each file; the data padded to 10,240 bytes and its sha256 in `.PKGINFO`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sixsmith.model.compression import gzip_member
from sixsmith.testing.keys import SigningKey
from sixsmith.testing.tars import TIME, SampleFile, sample_files, tar_bytes

__all__ = ["SamplePackage", "make_apk", "make_index", "signature_member"]

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class SamplePackage:
    """A package as bytes. `checksum` is apk's (`Q1…`), `record` its APKINDEX record, `files` its members in order,
    `scripts` by kind (`post-install`)."""

    name: str
    version: str
    arch: str
    data: bytes
    checksum: str
    record: str
    files: tuple[SampleFile, ...]
    scripts: Mapping[str, str]
    triggers: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """`NAME-VERSION.apk`, as in a repository."""
        return f"{self.name}-{self.version}.apk"


def make_apk(
    name: str,
    version: str = "1.0-r0",
    *,
    files: Mapping[str, bytes | str] | Sequence[SampleFile] = (),
    arch: str = "x86_64",
    key: SigningKey | None = None,
    algorithm: str = "RSA",
    description: str = "",
    license: str = "MIT",
    origin: str = "",
    depends: Sequence[str] = (),
    provides: Sequence[str] = (),
    provider_priority: int = 0,
    install_if: Sequence[str] = (),
    replaces: Sequence[str] = (),
    replaces_priority: int = 0,
    triggers: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
    build_time: int = TIME,
    level: int = 6,
) -> SamplePackage:
    """A package. `files` as in `sample_files`; `scripts` by kind (`pre-install`, `trigger` …); without `key` it is unsigned;
    `level` is gzip's."""
    members = sample_files(files)
    scripts = dict(scripts or {})
    data = gzip_member(tar_bytes(members, checksums=True, record=10_240), level)
    # as `du` would say in whole blocks, links and directories too: apk does not unpack a package of installed size 0
    size = sum(max(_BLOCK, -(-len(file.content) // _BLOCK) * _BLOCK) for file in members)
    description = description or f"sample package {name}"
    origin = origin or name
    fields: list[tuple[str, object]] = [
        ("pkgname", name),
        ("pkgver", version),
        ("pkgdesc", description),
        ("url", "https://example.org/"),
        ("builddate", build_time),
        ("packager", "sixsmith.testing"),
        ("size", size),
        ("arch", arch),
        ("origin", origin),
        ("license", license),
        *(("depend", each) for each in depends),
        *(("provides", each) for each in provides),
        *([("provider_priority", provider_priority)] if provider_priority else []),
        *([("install_if", " ".join(install_if))] if install_if else []),
        *(("replaces", each) for each in replaces),
        *([("replaces_priority", replaces_priority)] if replaces_priority else []),
        *([("triggers", " ".join(triggers))] if triggers else []),
        ("datahash", hashlib.sha256(data).hexdigest()),
    ]
    text = "# made by sixsmith.testing\n" + "".join(f"{field} = {value}\n" for field, value in fields)
    control_files = [SampleFile(".PKGINFO", text.encode(), mtime=build_time)]
    control_files += [SampleFile(f".{kind}", body.encode(), mode=0o755) for kind, body in sorted(scripts.items())]
    control = gzip_member(tar_bytes(control_files, end=False))
    checksum = "Q1" + base64.b64encode(hashlib.sha1(control, usedforsecurity=False).digest()).decode()
    signature = signature_member(control, key, algorithm=algorithm) if key else b""
    whole = signature + control + data
    lines = [
        f"C:{checksum}",
        f"P:{name}",
        f"V:{version}",
        f"A:{arch}",
        f"S:{len(whole)}",
        f"I:{size}",
        f"T:{description}",
        "U:https://example.org/",
        f"L:{license}",
        f"o:{origin}",
        f"t:{build_time}",
        *([f"k:{provider_priority}"] if provider_priority else []),
        *([f"D:{' '.join(depends)}"] if depends else []),
        *([f"p:{' '.join(provides)}"] if provides else []),
        *([f"i:{' '.join(install_if)}"] if install_if else []),
    ]
    return SamplePackage(
        name,
        version,
        arch,
        whole,
        checksum,
        "\n".join(lines) + "\n",
        tuple(members),
        scripts,
        tuple(triggers),
    )


def make_index(
    packages: Iterable[SamplePackage], key: SigningKey | None = None, *, description: str = "sample", level: int = 6
) -> bytes:
    """An APKINDEX.tar.gz of these packages in this order, signed when there is a key."""
    text = "\n".join(package.record for package in packages)
    members = [SampleFile("DESCRIPTION", description.encode()), SampleFile("APKINDEX", (text + "\n").encode())]
    body = gzip_member(tar_bytes(members), level)
    return (signature_member(body, key) if key else b"") + body


def signature_member(signed: bytes, key: SigningKey, *, algorithm: str = "RSA") -> bytes:
    """The gzip member that goes before what it signs."""
    value = key.sign(signed, algorithm=algorithm)
    return gzip_member(tar_bytes([SampleFile(f".SIGN.{algorithm}.{key.name}", value)], end=False))
