"""A layer in the store as a source: no more of it is inflated than holds what is asked for."""

from __future__ import annotations

import random

import pytest

import layer_world as world
from sixsmith.model.compression import gzip_member
from sixsmith.model.digest import Digest
from sixsmith.oci.blobs import BlobMember, BlobSource, keep_members
from sixsmith.rootfs.sources import InflatedCache

PIECES = [bytes(random.Random(number).randbytes(1000 * number)) for number in (3, 1, 0, 7)]
PACKED = [gzip_member(piece) for piece in PIECES]
TAR = b"".join(PIECES)
MEMBERS = [(len(packed), len(piece)) for packed, piece in zip(PACKED, PIECES, strict=True)]


@pytest.fixture
def blobs() -> world.MemoryBlobs:
    return world.MemoryBlobs()


def layer(blobs: world.MemoryBlobs, members: list[tuple[int, int]] | None) -> tuple[Digest, InflatedCache]:
    digest = blobs.put(b"".join(PACKED))
    if members is not None:
        keep_members(blobs, digest, members)
    return digest, InflatedCache()


@pytest.mark.parametrize("start", [0, 2500, 2999, 3000, 3999, 4000, 10999])
@pytest.mark.parametrize("size", [0, 1, 500, 1000, 9000])
def test_a_stretch_is_the_same_with_and_without_members(blobs: world.MemoryBlobs, start: int, size: int) -> None:
    for members in (MEMBERS, None):
        digest, cache = layer(blobs, members)
        assert BlobSource(blobs, digest, cache=cache).read(start, size) == TAR[start : start + size]


def test_only_the_member_that_holds_it_is_inflated_and_once(blobs: world.MemoryBlobs) -> None:
    digest, cache = layer(blobs, MEMBERS)
    content = BlobMember(BlobSource(blobs, digest, cache=cache), 3100, 200)
    assert content.read() == TAR[3100:3300]
    assert cache.size == len(PIECES[1])
    blobs.blobs[digest] = bytes(len(b"".join(PACKED)))  # another source of the same layer finds it in the cache
    assert BlobSource(blobs, digest, cache=cache).read(3000, 1000) == PIECES[1]


@pytest.mark.parametrize(
    "members",
    [
        [],
        [(MEMBERS[0][0] - 1, 3000), *MEMBERS[1:]],
        [(MEMBERS[0][0] - 1, 3000), (MEMBERS[1][0] + 1, 1000), *MEMBERS[2:]],
        [(MEMBERS[0][0], 2999), (MEMBERS[1][0], 1001), *MEMBERS[2:]],
        [(sum(stored for stored, _ in MEMBERS), 11000)],
    ],
    ids=["none", "too short", "bounds within a member", "other sizes", "all as one"],
)
def test_members_that_do_not_fit_the_layer_are_not_believed(
    blobs: world.MemoryBlobs, members: list[tuple[int, int]]
) -> None:
    digest, cache = layer(blobs, members)
    assert BlobSource(blobs, digest, cache=cache).read(2900, 200) == TAR[2900:3100]


def test_a_record_that_is_none_is_not_believed(blobs: world.MemoryBlobs) -> None:
    digest, cache = layer(blobs, None)
    blobs.keep("members", digest, b"rubbish")
    assert BlobSource(blobs, digest, cache=cache).read(2900, 200) == TAR[2900:3100]


def test_the_whole_is_used_when_it_is_there(blobs: world.MemoryBlobs) -> None:
    digest, cache = layer(blobs, MEMBERS)
    source = BlobSource(blobs, digest, cache=cache)
    assert bytes(source.inflate()) == TAR
    blobs.blobs[digest] = b""
    assert source.read(0, 10) == TAR[:10]
    source.forget()
    assert cache.size == 0
