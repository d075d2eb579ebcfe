"""Small `.apk` files and repositories, made byte by byte, for tests that need odd ones."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sixsmith.apk.archive import control_checksum

BLOCK = 512
TIME = 1700000000


@dataclass
class Item:
    """One member of a data segment. `name` ends with a slash for directories; `content` is a link's target for links."""

    name: str
    content: bytes = b""
    type: bytes = b""
    mode: int = -1
    owner: tuple[str, str] = ("root", "root")
    ids: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    checksum: bool | bytes = True
    pax: Mapping[str, str] = field(default_factory=dict)
    mtime: int = TIME
    size: int | None = None

    def kind(self) -> bytes:
        return self.type or (b"5" if self.name.endswith("/") else b"0")


def header(name: bytes, kind: bytes, mode: int, size: int, *, link: bytes = b"", item: Item | None = None) -> bytes:
    uid, gid = item.ids if item else (0, 0)
    uname, gname = item.owner if item else ("root", "root")
    block = bytearray(BLOCK)
    block[0 : min(len(name), 100)] = name[:100]
    block[100:108] = b"%07o\0" % mode
    block[108:116] = b"%07o\0" % uid
    block[116:124] = b"%07o\0" % gid
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % (item.mtime if item else TIME)
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157 : 157 + min(len(link), 100)] = link[:100]
    block[257:265] = b"ustar\x0000"
    block[265 : 265 + len(uname)] = uname.encode()
    block[297 : 297 + len(gname)] = gname.encode()
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax_record(key: str, value: bytes) -> bytes:
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def member(item: Item) -> bytes:
    kind = item.kind()
    content = item.content if kind in (b"0", b"\0") else b""
    link = item.content if kind in (b"1", b"2") else b""
    mode = item.mode if item.mode >= 0 else {b"5": 0o755, b"2": 0o777}.get(kind, 0o644)
    records = [pax_record(key, value.encode("utf-8", "surrogateescape")) for key, value in item.pax.items()]
    if isinstance(item.checksum, bytes):
        records.append(pax_record("APK-TOOLS.checksum.SHA1", item.checksum.hex().encode()))
    elif item.checksum and kind in (b"0", b"2"):
        records.append(pax_record("APK-TOOLS.checksum.SHA1", hashlib.sha1(item.content).hexdigest().encode()))
    records += [pax_record("SCHILY.xattr." + key, value) for key, value in item.xattrs.items()]
    raw_name = item.name.encode("utf-8", "surrogateescape")
    if len(raw_name) > 100 and "path" not in item.pax:
        records.append(pax_record("path", raw_name))
    out = b""
    if records:
        body = b"".join(records)
        out = header(b"././@PaxHeader", b"x", 0, len(body)) + body + bytes(-len(body) % BLOCK)
    size = len(content) if item.size is None else item.size
    return out + header(raw_name, kind, mode, size, link=link, item=item) + content + bytes(-len(content) % BLOCK)


def gz(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def data_tar(items: Iterable[Item]) -> bytes:
    tar = b"".join(member(item) for item in items) + bytes(2 * BLOCK)
    return tar + bytes(-len(tar) % 10240)


@dataclass
class Package:
    """An unsigned package as bytes, and its index record as text."""

    name: str
    version: str
    file: bytes
    record: str
    checksum: str


def make_apk(
    name: str,
    items: Sequence[Item] = (),
    version: str = "1-r0",
    *,
    origin: str = "",
    scripts: Mapping[str, str] | None = None,
    info: Sequence[str] = (),
    size: int = 4096,
    index: str = "",
    datahash: str | None = None,
    arch: str = "x86_64",
    after: bytes = b"",
) -> Package:
    """`info` are further .PKGINFO lines; `index` further lines of the index record; `after` goes behind the data segment."""
    data = gz(data_tar(items)) + after
    origin = origin or name
    lines = [
        f"pkgname = {name}",
        f"pkgver = {version}",
        f"pkgdesc = about {name}",
        "url = http://x",
        f"arch = {arch}",
        f"size = {size}",
        "license = MIT",
        f"origin = {origin}",
        f"builddate = {TIME}",
        f"datahash = {datahash if datahash is not None else hashlib.sha256(data).hexdigest()}",
        *info,
    ]
    control = member(Item(".PKGINFO", ("\n".join(lines) + "\n").encode(), checksum=False))
    for kind, text in (scripts or {}).items():
        control += member(Item("." + kind, text.encode(), mode=0o755, checksum=False))
    control = gz(control)
    file = control + data
    checksum = control_checksum(control)
    record = (
        f"C:{checksum}\nP:{name}\nV:{version}\nA:{arch}\nS:{len(file)}\nI:{size}\nT:about {name}\nU:http://x\nL:MIT\n"
        f"o:{origin}\nt:{TIME}\n{index}"
    )
    return Package(name, version, file, record, checksum)


def make_index(packages: Iterable[Package]) -> bytes:
    """An unsigned APKINDEX.tar.gz."""
    text = "".join(package.record + "\n" for package in packages).encode()
    items = [Item("DESCRIPTION", b"test", checksum=False), Item("APKINDEX", text, checksum=False)]
    return gz(b"".join(member(item) for item in items) + bytes(2 * BLOCK))


def sign(data: bytes, key: object, key_name: str, kind: str = "RSA") -> bytes:
    """The signature member for these bytes. `key` is an RSA private key of `cryptography`."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    algorithm = {"RSA": hashes.SHA1, "RSA256": hashes.SHA256, "RSA512": hashes.SHA512}[kind]()
    value = key.sign(data, padding.PKCS1v15(), algorithm)  # type: ignore[attr-defined]
    return gz(member(Item(f".SIGN.{kind}.{key_name}", value, checksum=False)))
