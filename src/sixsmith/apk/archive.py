"""An `.apk` file (version 2) as verified bytes.

Three gzip members: signatures, control (`.PKGINFO` and scripts), data (the files). The chain of trust goes link by link:
the index names the SHA-1 of the control member (`C:`) or, without a trusted index, a signature covers it; the control
member names the SHA-256 of the data member (`datahash`), which is an OCI digest already. So the data is hashed here but
never inflated: whoever wants the files asks a `Source` for them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

import msgspec

from sixsmith.apk.index import PackageRecord
from sixsmith.apk.signature import Keyring, check_member_header, inflate_member, read_signatures
from sixsmith.errors import DigestMismatch, FormatError, SignatureError
from sixsmith.model.compression import Bytes
from sixsmith.model.digest import Digest
from sixsmith.model.tar import TarEntry, iter_tar, parse_tar

__all__ = [
    "SCRIPT_KINDS",
    "ControlSegment",
    "PackageArchive",
    "PackageHead",
    "PackageInfo",
    "control_checksum",
    "open_package",
    "package_entries",
    "read_head",
    "record_from_control",
    "sorted_out",
]

SCRIPT_KINDS = (
    "pre-install",
    "post-install",
    "pre-deinstall",
    "post-deinstall",
    "pre-upgrade",
    "post-upgrade",
    "trigger",
)
"""In the order in which apk keeps them."""

MAX_CONTROL = 16 << 20
"""Bytes that an inflated control segment may have; real ones stay under 1 MB."""

MAX_INSTALLED_ENTRIES = 1_000_000
"""Files and directories of one package; the largest real ones have under 100,000."""

_CHECKSUM = re.compile(r"Q1[A-Za-z0-9+/]{27}=\Z")
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_KEPT = ".keep_"

_SCALARS = {
    "pkgname",
    "pkgver",
    "pkgdesc",
    "url",
    "license",
    "arch",
    "origin",
    "maintainer",
    "commit",
    "builddate",
    "size",
    "datahash",
    "provider_priority",
    "replaces_priority",
}
_LISTS = {"depend", "provides", "replaces", "install_if", "triggers"}


class PackageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`.PKGINFO`. Texts are "" and numbers 0 where the file does not have them; `build_time` is Unix time or None.

    Lists hold texts in file order: `depends`, `provides`, `replaces` and `install_if` dependencies, `triggers` path
    patterns. `size` is bytes when installed. `datahash` is 64 hex digits.
    """

    name: str
    version: str
    description: str = ""
    url: str = ""
    license: str = ""
    arch: str = ""
    origin: str = ""
    maintainer: str = ""
    commit: str = ""
    build_time: int | None = None
    size: int = 0
    datahash: str = ""
    provider_priority: int = 0
    replaces_priority: int = 0
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    install_if: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()


class ControlSegment(msgspec.Struct, frozen=True):
    """What a package says of itself. `checksum` is apk's (`Q1…`, SHA-1 of the raw member); `scripts` are by member name
    (`.post-install`), in apk's order."""

    checksum: str
    info: PackageInfo
    scripts: dict[str, bytes]

    @property
    def replaces(self) -> tuple[str, ...]:
        return self.info.replaces

    @property
    def triggers(self) -> tuple[str, ...]:
        return self.info.triggers


class PackageHead(msgspec.Struct, frozen=True):
    """The verified front of a package: everything but the data. `end` is where the data segment starts, in bytes."""

    control: ControlSegment
    key: str | None
    end: int


_VERIFIED = object()


class PackageArchive:
    """A package whose every byte was verified; made by `open_package` only.

    `head` is the raw signature and control members, `data` the raw data member (a legal tar+gzip layer), `data_digest` its
    digest. `key` is the file name of the key that signed, None where the index vouched for the control segment.
    """

    __slots__ = ("control", "data", "data_digest", "head", "key")

    def __init__(self, head: PackageHead, file_bytes: Bytes, data_digest: Digest, *, proof: object) -> None:
        if proof is not _VERIFIED:
            raise TypeError("a PackageArchive is made by open_package only")
        view = memoryview(file_bytes)
        self.control = head.control
        self.key = head.key
        self.head = bytes(view[: head.end])
        self.data = view[head.end :]
        self.data_digest = data_digest


def control_checksum(control_member: Bytes) -> str:
    """apk's name for a control member: `Q1` and the base64 of its SHA-1."""
    return "Q1" + base64.b64encode(hashlib.sha1(control_member, usedforsecurity=False).digest()).decode("ascii")


def open_package(file_bytes: Bytes, *, checksum: str | None, keyring: Keyring | None, what: str) -> PackageArchive:
    """The package in these bytes, verified from end to end.

    `checksum` is the one that a trusted index (or a lock) promises (`Q1…`); without one the control segment has to be
    signed by a key of `keyring`. Both None is `--allow-untrusted`: the control segment is taken on trust, the data still
    has to match it. Raises DigestMismatch, SignatureError, FormatError.
    """
    head = read_head(file_bytes, checksum=checksum, keyring=keyring, what=what)
    data = memoryview(file_bytes)[head.end :]
    if not data:
        raise FormatError(f"{what}: it has no data segment")
    if bytes(data[:3]) != b"\x1f\x8b\x08":
        raise FormatError(f"{what}: the data segment is not a gzip file")
    found = hashlib.sha256(data).hexdigest()
    if found != head.control.info.datahash:
        raise DigestMismatch(
            f"{what}: the data segment's sha256 is {found}, the control segment promises {head.control.info.datahash}"
        )
    return PackageArchive(head, file_bytes, Digest("sha256:" + found), proof=_VERIFIED)


def read_head(head_bytes: Bytes, *, checksum: str | None, keyring: Keyring | None, what: str) -> PackageHead:
    """The verified control segment at the start of these bytes (a whole package, or its stored head).

    Arguments and errors as for `open_package`; the data segment need not be there.
    """
    signatures, start = read_signatures(head_bytes, what)
    check_member_header(head_bytes, start, what)
    tar, end = inflate_member(head_bytes, start, what=what, limit=MAX_CONTROL)
    member = memoryview(head_bytes)[start:end]
    found = control_checksum(member)
    key = None
    if checksum is not None:
        if not _CHECKSUM.match(checksum):
            raise FormatError(f"{what}: '{checksum[:80]}' is not a checksum that apk 2 writes")
        if found != checksum:
            raise DigestMismatch(f"{what}: its checksum is {found}, the index promises {checksum}")
    elif keyring is not None:
        try:
            key = keyring.verify(signatures, member, what)
        except SignatureError as error:
            error.hint = error.hint or "`--allow-untrusted` takes unsigned packages"
            raise
    return PackageHead(_parse_control(tar, found, what), key, end)


def record_from_control(control: ControlSegment, size: int) -> PackageRecord:
    """The record that an index of this package alone would have; `size` is the package file's, in bytes."""
    info = control.info
    return PackageRecord(
        info.name,
        info.version,
        checksum=control.checksum,
        arch=info.arch,
        size=size,
        installed_size=info.size,
        description=info.description,
        url=info.url,
        license=info.license,
        origin=info.origin,
        maintainer=info.maintainer,
        build_time=info.build_time,
        commit=info.commit,
        provider_priority=info.provider_priority,
        depends=info.depends,
        provides=info.provides,
        install_if=info.install_if,
    )


def package_entries(data_tar: Bytes, what: str) -> list[TarEntry]:
    """The members of an inflated data segment that apk installs, in order, under apk's rules for names.

    Top-level names that start with a dot are control data or nothing (`../x` too), `.keep_…` files keep a directory in
    a source tree: both are left out. Raises FormatError for a name that is absolute, has an empty, `.` or `..` part or
    control characters, and for links and lengths that cannot be.
    """
    return sorted_out(data_tar, what)[0]


def sorted_out(data_tar: Bytes, what: str) -> tuple[list[TarEntry], str]:
    """As `package_entries`, and the first member that apk leaves out ("" when it installs all of them)."""
    entries: list[TarEntry] = []
    left_out = ""
    for entry in iter_tar(data_tar, what=what, raw=True):
        path = entry.path
        if path[0] == ".":
            left_out = left_out or path
            continue
        if not _is_plain(path):
            raise FormatError(f"{what}: malicious or impossible file name {path[:200]!r}")
        if entry.kind != "directory":
            if _KEPT in path:
                name = path.rpartition("/")[2]
                if name.startswith(_KEPT) and len(name) > len(_KEPT):
                    left_out = left_out or path
                    continue
            if entry.kind == "hardlink" and not _is_plain(entry.target):
                raise FormatError(f"{what}: '{path}' is a hard link to {entry.target[:200]!r}")
            if entry.kind == "symlink" and ("\0" in entry.target or not 0 < len(entry.target) < 4096):
                raise FormatError(f"{what}: '{path}' is a symbolic link with an impossible target")
        entries.append(entry)
        if len(entries) > MAX_INSTALLED_ENTRIES:
            raise FormatError(f"{what}: more than {MAX_INSTALLED_ENTRIES} files")
    return entries, left_out


def _is_plain(path: str) -> bool:
    """Whether a name is relative, without empty, `.` or `..` parts and control characters (the common case, fast)."""
    if path.isprintable() and "//" not in path and "/." not in path and path and path[0] not in "/.":
        return path[-1] != "/"
    if _CONTROL_CHARACTER.search(path):
        return False
    return not any(part in ("", ".", "..") for part in path.split("/"))


def _parse_control(tar: bytes, checksum: str, what: str) -> ControlSegment:
    info: PackageInfo | None = None
    scripts: dict[str, bytes] = {}
    for entry in parse_tar(tar, what=what):
        if not entry.path.startswith(".") or "/" in entry.path or entry.kind != "file":
            raise FormatError(f"{what}: '{entry.path[:200]}' does not belong into a control segment")
        content = tar[entry.offset : entry.offset + entry.size]
        if entry.path == ".PKGINFO":
            if info is not None:
                raise FormatError(f"{what}: more than one .PKGINFO")
            info = _parse_pkginfo(content, what)
        elif entry.path[1:] in SCRIPT_KINDS:
            if entry.path in scripts:
                raise FormatError(f"{what}: more than one {entry.path}")
            scripts[entry.path] = content
    if info is None:
        raise FormatError(f"{what}: it has no .PKGINFO")
    ordered = {"." + kind: scripts["." + kind] for kind in SCRIPT_KINDS if "." + kind in scripts}
    return ControlSegment(checksum, info, ordered)


def _parse_pkginfo(content: bytes, what: str) -> PackageInfo:
    scalars: dict[str, str] = {}
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        key, equals, value = line.partition(" = ")
        if not equals or line.startswith("#"):
            continue
        if key in _LISTS:
            lists[key] += value.split()
        elif key in _SCALARS:
            if key in scalars:
                raise FormatError(f"{what}: .PKGINFO has '{key}' twice")
            scalars[key] = value
    for key in ("pkgname", "pkgver", "datahash"):
        if not scalars.get(key):
            raise FormatError(f"{what}: .PKGINFO has no {key}")
    if not _HEX_DIGEST.match(scalars["datahash"]):
        raise FormatError(f"{what}: the datahash in .PKGINFO is not a sha256")
    if re.search(r"[\s/\x00-\x1f\x7f]", scalars["pkgname"] + scalars["pkgver"]):
        raise FormatError(f"{what}: .PKGINFO has an impossible name or version")
    _check_words(lists.values(), what)
    text = scalars.get
    return PackageInfo(
        name=scalars["pkgname"],
        version=scalars["pkgver"],
        description=text("pkgdesc", ""),
        url=text("url", ""),
        license=text("license", ""),
        arch=text("arch", ""),
        origin=text("origin", ""),
        maintainer=text("maintainer", ""),
        commit=text("commit", ""),
        build_time=_number(scalars, "builddate", what) if "builddate" in scalars else None,
        size=_number(scalars, "size", what),
        datahash=scalars["datahash"],
        provider_priority=_number(scalars, "provider_priority", what),
        replaces_priority=_number(scalars, "replaces_priority", what),
        depends=tuple(lists["depend"]),
        provides=tuple(lists["provides"]),
        replaces=tuple(lists["replaces"]),
        install_if=tuple(lists["install_if"]),
        triggers=tuple(lists["triggers"]),
    )


def _check_words(lists: Iterable[list[str]], what: str) -> None:
    for words in lists:
        if not _CONTROL_CHARACTER.search(" ".join(words)):
            continue
        for word in words:
            if _CONTROL_CHARACTER.search(word):
                raise FormatError(f"{what}: .PKGINFO has control characters in {word[:80]!r}")


def _number(scalars: dict[str, str], key: str, what: str) -> int:
    text = scalars.get(key, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise FormatError(f"{what}: {key} in .PKGINFO is {text[:40]!r}, not a sensible number")
    return int(text)
