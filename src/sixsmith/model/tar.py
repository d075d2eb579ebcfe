"""Tar entries, read and written by hand.

`tarfile` costs 43 µs an entry and normalises what must stay byte-exact; this reader and writer know the four dialects that
Alpine, s6-overlay and image layers use (ustar, pax, GNU long names, base-256 numbers) and cost a few microseconds.
Sources: POSIX.1-2008 pax interchange format; GNU tar manual, "Basic Tar Format"; image-spec `layer.md`.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal
from zlib import adler32

import msgspec

from sixsmith.errors import FormatError
from sixsmith.model.compression import Bytes

__all__ = ["BLOCK", "END_OF_ARCHIVE", "Kind", "TarEntry", "iter_tar", "padding", "parse_tar", "tar_header"]

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)

Kind = Literal["file", "directory", "symlink", "hardlink", "char", "block", "fifo"]

MAX_ENTRIES = 2_000_000
MAX_PATH = 4096
"""PATH_MAX of Linux; longer names cannot be unpacked anywhere."""
_MAX_PAX = 1 << 20

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_FIELDS = struct.Struct("100s24s12s12s8sB100s72s16s155s12x")
"""The same as it is read: mode, uid and gid together, magic and owner names together, both devices together."""
_KINDS: dict[int, Kind] = {
    ord("0"): "file",
    0: "file",
    ord("7"): "file",
    ord("1"): "hardlink",
    ord("2"): "symlink",
    ord("3"): "char",
    ord("4"): "block",
    ord("5"): "directory",
    ord("6"): "fifo",
}
_PAX, _LONG_NAME, _LONG_LINK = ord("x"), ord("L"), ord("K")
_LONG_NAMES = b"gLK"
"""Types of members that say something of the next one (`g` of all that follow, which is not believed)."""
_TYPES: dict[str, bytes] = {
    "file": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "directory": b"5",
    "fifo": b"6",
}


_CHECKSUM_KEY = "APK-TOOLS.checksum.SHA1"
_CHECKSUM_RECORD = b"68 APK-TOOLS.checksum.SHA1="
"""How abuild begins the last pax record of a file: 68 bytes with the 40 digits and the line end."""

_READ = frozenset(["path", "linkpath", "size", "uid", "gid", "mtime", "uname", "gname", _CHECKSUM_KEY])
_XATTR = "SCHILY.xattr."

_MAX_ID = 8**7
_MAX_NUMBER = 8**11
_NO_BLOCK = bytes(BLOCK)
_NO_SIZE = b"00000000000\0"
_NO_DEVICE = (0, 0)
_NO_OWNER_NAMES = bytes(64)
_NO_PREFIX = bytes(167)
_BLANKS_SUM = 8 * ord(" ")
"""What a header's own sum counts as."""


class TarEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One member of a tar archive.

    `path` has no trailing slash; in layers (`parse_tar(strip=True)`) also no leading `./` or `/`, and the root is `""`.
    Names are text with surrogate escapes for bytes that are not UTF-8. `offset` is where the member's content starts in
    the archive, `start` where its first header does (pax records included), both in bytes. `checksum` is the SHA-1 of
    the content (of the target text for links) as abuild records it. `target` is a symlink's text, a hard link's path.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    target: str = ""
    uname: str = ""
    gname: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    checksum: bytes | None = None
    device: tuple[int, int] = (0, 0)
    start: int = 0
    offset: int = 0


def padding(size: int) -> bytes:
    """The zero bytes that fill up the last block of a member of `size` bytes."""
    return bytes(-size % BLOCK)


def parse_tar(data: Bytes, *, what: str, strip: bool = False) -> list[TarEntry]:
    """All members of an archive that lies in memory; see `iter_tar`."""
    return list(iter_tar(data, what=what, strip=strip))


def iter_tar(data: Bytes, *, what: str, strip: bool = False, raw: bool = False) -> Iterator[TarEntry]:
    """The members of a tar archive in order.

    `strip` removes a leading `./` or `/` from names, as image layers and root file systems have them, and refuses `..`.
    `raw` leaves names as they stand (but for a directory's slash), for callers with rules of their own. An archive may
    end without its end blocks (control segments do). Raises FormatError naming `what` and the member for damaged headers,
    truncation, empty names, and absurd numbers.
    """
    view = memoryview(data)
    end = len(view)
    position = start = count = 0
    fields = _Fields(what)
    numbers, permissions, owners = fields.numbers, fields.permissions, fields.owners
    pax: dict[str, bytes] | None = None
    checksum: bytes | None = None
    long_name = long_link = None
    while position + BLOCK <= end:
        name_bytes, rights, size_field, mtime_field, sum_field, type_flag, link, owner_field, device_field, prefix = (
            _FIELDS.unpack_from(view, position)
        )
        body = position + BLOCK
        block = view[position:body]
        if not name_bytes[0] and block.tobytes() == _NO_BLOCK:
            position = body
            continue  # zero blocks end an archive; concatenated ones (several gzip members) go on after them
        try:
            promised = int(sum_field.partition(b"\0")[0], 8)  # which takes blanks on both sides, as tar does
        except ValueError:
            raise FormatError(f"{what}: damaged tar header at {position}") from None
        # adler32's low half is the sum of the bytes plus one, modulo 65521; the sum's own field counts as blanks
        if ((adler32(block) & 0xFFFF) - (adler32(sum_field) & 0xFFFF) + _BLANKS_SUM - promised) % 65521:
            raise FormatError(f"{what}: damaged tar header at {position} (checksum)")
        size = numbers.get(size_field)
        if size is None:
            size = fields.number(size_field, "size")
        if type_flag == _PAX or type_flag in _LONG_NAMES:
            if size > _MAX_PAX or body + size > end:
                raise FormatError(f"{what}: extended header at {position} is truncated or absurdly large")
            content = view[body : body + size].tobytes()
            if type_flag == _PAX:
                pax, checksum = fields.pax(content)
            elif type_flag == _LONG_NAME:
                long_name = content.rstrip(b"\0")
            elif type_flag == _LONG_LINK:
                long_link = content.rstrip(b"\0")
            position = body + size + (-size % BLOCK)
            continue
        kind = _KINDS.get(type_flag)
        if kind is None:
            raise FormatError(f"{what}: member of unknown type {bytes([type_flag])!r} at {position}")
        name_bytes = name_bytes.partition(b"\0")[0]
        owner = owners.get(owner_field) or fields.owner(owner_field)
        if prefix[0] and owner.is_ustar:
            name_bytes = prefix.partition(b"\0")[0] + b"/" + name_bytes
        if long_name is not None:
            name_bytes = long_name
        if pax:
            name_bytes = pax.get("path", name_bytes)
            if "size" in pax:
                size = _decimal(pax["size"], what, "size")
        if kind != "file" and kind != "hardlink":
            size = 0
        if body + size > end:
            raise FormatError(f"{what}: truncated in '{_text(name_bytes)}'")
        path = _raw_path(name_bytes, what) if raw else _path(name_bytes, what, strip)
        target = ""
        if kind == "symlink" or kind == "hardlink":
            raw_link = long_link if long_link is not None else link.partition(b"\0")[0]
            if pax:
                raw_link = pax.get("linkpath", raw_link)
            if kind == "symlink":
                target = _text(raw_link)
            else:
                target = _raw_path(raw_link, what) if raw else _path(raw_link, what, strip)
        count += 1
        if count > MAX_ENTRIES:
            raise FormatError(f"{what}: more than {MAX_ENTRIES} members")
        if kind == "file" and name_bytes.endswith(b"/"):
            kind = "directory"  # pre-POSIX archives mark directories by the slash alone
        mode, uid, gid = permissions.get(rights) or fields.rights(rights)
        mtime = numbers.get(mtime_field)
        if mtime is None:
            mtime = fields.number(mtime_field, "mtime")
        uname, gname = owner.uname, owner.gname
        xattrs: tuple[tuple[str, bytes], ...] = ()
        if pax:
            xattrs = _xattrs(pax)
            uid = _decimal(pax["uid"], what, "uid") if "uid" in pax else uid
            gid = _decimal(pax["gid"], what, "gid") if "gid" in pax else gid
            mtime = _seconds(pax["mtime"], what) if "mtime" in pax else mtime
            uname = _text(pax["uname"]) if "uname" in pax else uname
            gname = _text(pax["gname"]) if "gname" in pax else gname
        device = _NO_DEVICE
        if kind == "char" or kind == "block":
            device = (fields.number(device_field[:8], "device"), fields.number(device_field[8:], "device"))
        yield TarEntry(
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            size if kind == "file" else 0,
            target,
            uname,
            gname,
            xattrs,
            checksum,
            device,
            start,
            body,
        )
        position = start = body + size + (-size % BLOCK)
        pax = checksum = long_name = long_link = None
    if view[position:].tobytes().strip(b"\0"):
        raise FormatError(f"{what}: truncated tar header at {position}")
    if pax is not None or long_name or long_link:
        raise FormatError(f"{what}: ends after an extended header")


class _Owner(msgspec.Struct, frozen=True, gc=False):
    """What a header says from its magic to the names of its owner; `is_ustar` allows a prefix of the path."""

    is_ustar: bool
    uname: str
    gname: str


class _Fields:
    """Header fields of one archive, parsed once each: modes, owners and times are nearly always those of a neighbour.

    `numbers`, `permissions` (mode, uid, gid) and `owners` are what was parsed, by the bytes of the field; what is not in
    them yet, the methods parse.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.numbers: dict[bytes, int] = {}
        self.permissions: dict[bytes, tuple[int, int, int]] = {}
        self.owners: dict[bytes, _Owner] = {}
        self._records: dict[bytes, dict[str, bytes]] = {}

    def number(self, field: bytes, name: str) -> int:
        value = self.numbers[field] = _number(field, self._what, name)
        return value

    def rights(self, field: bytes) -> tuple[int, int, int]:
        """Mode, uid and gid of the three fields that stand together."""
        mode, uid, gid = (
            self.number(field[:8], "mode"),
            self.number(field[8:16], "uid"),
            self.number(field[16:], "gid"),
        )
        value = self.permissions[field] = (mode & 0o7777, uid, gid)
        return value

    def owner(self, field: bytes) -> _Owner:
        """Magic and owner names, which stand together."""
        names = [_text(name.partition(b"\0")[0]) for name in (field[8:40], field[40:])]
        value = self.owners[field] = _Owner(field[:6] == b"ustar\0", *names)
        return value

    def pax(self, content: bytes) -> tuple[dict[str, bytes], bytes | None]:
        """The records that matter here, and abuild's checksum. Its records end with that, and what stands before repeats
        from file to file. Raises FormatError."""
        front, mark, checksum = content.partition(_CHECKSUM_RECORD)
        if mark and len(checksum) == 41 and checksum[40] == 10:
            records = self._records.get(front)
            if records is None:
                records = self._front(front)
            if records is not None:
                return records, _sha1(checksum[:40], self._what)
        records = self._records.get(content)
        if records is None:
            records = _that_matter(_parse_pax(content, self._what))
            if _CHECKSUM_KEY in records:
                return records, _sha1(records[_CHECKSUM_KEY], self._what)
            if len(content) <= BLOCK:
                self._records[content] = records
        return records, None

    def _front(self, front: bytes) -> dict[str, bytes] | None:
        """The records before the checksum; None where the mark was no beginning of a record after all."""
        if front.endswith(b"\0"):
            return None  # padding: what follows it is not read
        try:
            records = _that_matter(_parse_pax(front, self._what))
        except FormatError:  # the mark stands inside another record
            return None
        self._records[front] = records
        return records


def _that_matter(records: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in records.items() if key in _READ or key.startswith(_XATTR)}


def tar_header(entry: TarEntry) -> bytes:
    """The header block of a member, preceded by pax records for what ustar cannot hold. A pure function of the entry.

    Owner names are left empty: in an image only the numbers count. Content and `padding` follow separately.
    """
    name = entry.path.encode("utf-8", "surrogateescape")
    if entry.kind == "directory":
        name = name + b"/" if name else b"./"
    link = entry.target.encode("utf-8", "surrogateescape")
    if (
        len(name) <= 100
        and len(link) <= 100
        and name.isascii()
        and link.isascii()
        and not entry.xattrs
        and 0 <= entry.uid < _MAX_ID
        and 0 <= entry.gid < _MAX_ID
        and 0 <= entry.size < _MAX_NUMBER
        and 0 <= entry.mtime < _MAX_NUMBER
    ):
        return _plain_header(entry, name, link)
    pax: list[tuple[str, bytes]] = []
    prefix = b""
    if len(name) > 100 or not name.isascii():
        cut = name.rfind(b"/", 0, 156) if name.isascii() else -1
        if cut > 0 and 0 < len(name) - cut - 1 <= 100 and cut <= 155:
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            pax.append(("path", name))
            name = name[:100]
    if len(link) > 100 or not link.isascii():
        pax.append(("linkpath", link))
        link = link[:100]
    fields = [("uid", entry.uid, 8), ("gid", entry.gid, 8), ("size", entry.size, 12), ("mtime", entry.mtime, 12)]
    octal = {}
    for field, value, width in fields:
        if 0 <= value < 8 ** (width - 1):
            octal[field] = b"%0*o\0" % (width - 1, value)
        else:
            pax.append((field, b"%d" % value))
            octal[field] = b"0" * (width - 1) + b"\0"
    pax += [(f"SCHILY.xattr.{key}", value) for key, value in entry.xattrs]
    header = _HEADER.pack(
        name,
        b"%07o\0" % entry.mode,
        octal["uid"],
        octal["gid"],
        octal["size"],
        octal["mtime"],
        b" " * 8,
        _TYPES[entry.kind],
        link,
        b"ustar\0",
        b"00",
        b"",
        b"",
        b"%07o\0" % entry.device[0],
        b"%07o\0" % entry.device[1],
        prefix,
    )
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return _pax_header(pax) + header if pax else header


def _plain_header(entry: TarEntry, name: bytes, link: bytes) -> bytes:
    """The header of what ustar can hold, in a fifth of the time: nearly all members are such, and much like the one before."""
    size = b"%011o\0" % entry.size if entry.size else _NO_SIZE
    owner = _owner_fields(entry.mode, entry.uid, entry.gid)
    front = b"%b%b%b%b" % (name.ljust(100, b"\0"), owner, size, _time_field(entry.mtime))
    back, back_sum = _header_back(entry.kind, link, entry.device)
    total = _sum_of_ascii(front) + back_sum + _BLANKS_SUM
    return b"%b%06o\0 %b" % (front, total, back)


@lru_cache(maxsize=256)
def _owner_fields(mode: int, uid: int, gid: int) -> bytes:
    return b"%07o\0%07o\0%07o\0" % (mode, uid, gid)


@lru_cache(maxsize=256)
def _time_field(mtime: int) -> bytes:
    return b"%011o\0" % mtime


@lru_cache(maxsize=256)
def _header_back(kind: Kind, link: bytes, device: tuple[int, int]) -> tuple[bytes, int]:
    """What follows the sum in a plain header, and what its bytes come to."""
    back = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (
        _TYPES[kind],
        link.ljust(100, b"\0"),
        _NO_OWNER_NAMES,
        *device,
        _NO_PREFIX,
    )
    return back, _sum_of_ascii(back)


def _sum_of_ascii(field: bytes) -> int:
    """The sum of so few bytes that adler32's low half, which is that plus one modulo 65521, is exact."""
    return (adler32(field) & 0xFFFF) - 1


def _pax_header(records: list[tuple[str, bytes]]) -> bytes:
    content = b"".join(_pax_record(key.encode("utf-8", "surrogateescape"), value) for key, value in sorted(records))
    carrier = TarEntry(path="PaxHeaders/x", kind="file", mode=0o644, uid=0, gid=0, mtime=0, size=len(content))
    header = tar_header(carrier)
    header = header[:156] + b"x" + header[157:]
    header = header[:148] + b" " * 8 + header[156:]
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return header + content + padding(len(content))


def _pax_record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return b"%d" % length + rest


def _parse_pax(content: bytes, what: str) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 20)
        if space < 0 or not content[position:space].isdigit():
            if not content[position:].strip(b"\0"):
                break
            raise FormatError(f"{what}: damaged pax header")
        stop = position + int(content[position:space])
        if stop <= space or stop > len(content) or content[stop - 1 : stop] != b"\n":
            raise FormatError(f"{what}: damaged pax header")
        key, equals, value = content[space + 1 : stop - 1].partition(b"=")
        if not equals:
            raise FormatError(f"{what}: damaged pax header")
        records[key.decode("utf-8", "surrogateescape")] = value
        position = stop
    return records


def _number(field: bytes, what: str, name: str) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40:
            raise FormatError(f"{what}: negative {name} in a tar header")
        if value >= 1 << 62:
            raise FormatError(f"{what}: absurd {name} in a tar header")
        return value
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    if digits.translate(None, b"01234567"):
        raise FormatError(f"{what}: damaged {name} in a tar header")
    return int(digits, 8)


def _decimal(value: bytes, what: str, name: str) -> int:
    if not value.isdigit() or len(value) > 18:
        raise FormatError(f"{what}: damaged {name} in a pax header")
    return int(value)


def _seconds(value: bytes, what: str) -> int:
    whole = value.partition(b".")[0]
    if not whole.lstrip(b"-").isdigit() or len(whole) > 18:
        raise FormatError(f"{what}: damaged mtime in a pax header")
    return max(0, int(whole))


def _xattrs(pax: dict[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted([(key[13:], value) for key, value in pax.items() if key.startswith(_XATTR)]))


def _sha1(digits: bytes, what: str) -> bytes:
    try:
        checksum = unhexlify(digits)
    except ValueError:
        checksum = b""
    if len(checksum) != 20:
        raise FormatError(f"{what}: damaged APK-TOOLS.checksum.SHA1 in a pax header")
    return checksum


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _raw_path(name: bytes, what: str) -> str:
    path = _text(name.removesuffix(b"/"))
    if not path or "\0" in path or len(path) > MAX_PATH:
        raise FormatError(f"{what}: member with an impossible name {path[:80]!r}")
    return path


def _path(raw: bytes, what: str, strip: bool) -> str:
    path = _text(raw.rstrip(b"/"))
    if strip:
        path = path.lstrip("/")
        while path.startswith("./"):
            path = path[2:].lstrip("/")
        if path == ".":
            return ""
        if not path:
            return ""
    elif not path:
        raise FormatError(f"{what}: member without a name")
    if "//" in path or "/./" in path or path.endswith("/."):
        head = "/" if path.startswith("/") else ""
        path = head + "/".join(part for part in path.split("/") if part not in ("", "."))
    if "\0" in path or len(path) > MAX_PATH:
        raise FormatError(f"{what}: member with an impossible name {path[:80]!r}")
    if ".." in path and strip and ".." in path.split("/"):
        raise FormatError(f"{what}: '{path}' climbs out of the root")
    return path
