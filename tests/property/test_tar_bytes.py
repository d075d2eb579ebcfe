"""What is written comes back, and no bytes make the reader do anything but answer or refuse."""

from __future__ import annotations

import io
import tarfile

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sixsmith.errors import FormatError
from sixsmith.model import tar
from sixsmith.model.tar import BLOCK, END_OF_ARCHIVE, TarEntry, padding, parse_tar, tar_header

names = st.binary(min_size=1, max_size=260).map(
    lambda raw: (
        "/".join(
            part
            for part in raw.replace(b"\0", b"z").decode("utf-8", "surrogateescape").split("/")
            if part not in ("", ".", "..")
        )
        or "a"
    )
)
contents = st.binary(max_size=1100)
xattrs = st.dictionaries(st.sampled_from(["user.a", "security.capability"]), st.binary(max_size=30))


@st.composite
def members(draw: st.DrawFn) -> tuple[TarEntry, bytes]:
    kind = draw(st.sampled_from(["file", "file", "directory", "symlink", "hardlink", "char", "fifo"]))
    content = draw(contents) if kind == "file" else b""
    one = TarEntry(
        draw(names),
        kind,  # type: ignore[arg-type]
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 1 << 32)),
        draw(st.integers(0, 1 << 32)),
        draw(st.integers(0, 1 << 40)),
        len(content),
        draw(names) if kind in ("symlink", "hardlink") else "",
        xattrs=tuple(sorted(draw(xattrs).items())),
        device=(draw(st.integers(0, 4000)), draw(st.integers(0, 4000))) if kind == "char" else (0, 0),
    )
    return one, content


@given(st.lists(members(), max_size=4))
def test_round_trip(found: list[tuple[TarEntry, bytes]]) -> None:
    raw = b"".join(tar_header(one) + content + padding(len(content)) for one, content in found) + END_OF_ARCHIVE
    back = parse_tar(raw, what="x")
    assert [raw[one.offset : one.offset + one.size] for one in back] == [content for _, content in found]
    bare = [
        TarEntry(**{**{f: getattr(one, f) for f in one.__struct_fields__}, "start": 0, "offset": 0}) for one in back
    ]
    assert bare == [one for one, _ in found]
    with tarfile.open(fileobj=io.BytesIO(raw), encoding="utf-8", errors="surrogateescape") as archive:
        theirs = archive.getmembers()
    assert [one.name for one in theirs] == [one.path for one, _ in found]


@given(members())
def test_the_quick_way_to_a_header_is_the_same_header(found: tuple[TarEntry, bytes]) -> None:
    one = msgspec.structs.replace(found[0], xattrs=())
    quick = tar_header(one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tar, "_MAX_ID", -1)
        assert tar_header(one) == quick


@settings(max_examples=200)
@given(st.lists(members(), min_size=1, max_size=3), st.data())
def test_damage_is_an_answer_or_a_format_error(found: list[tuple[TarEntry, bytes]], data: st.DataObject) -> None:
    raw = bytearray(b"".join(tar_header(one) + content + padding(len(content)) for one, content in found))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        parse_tar(bytes(raw), what="x", strip=True)
    except FormatError as error:
        assert error.message.startswith("x: ")


@given(st.binary(max_size=3 * BLOCK))
@example(bytes(BLOCK))
def test_any_bytes(raw: bytes) -> None:
    try:
        parse_tar(raw, what="x")
    except FormatError as error:
        assert error.message.startswith("x: ")
