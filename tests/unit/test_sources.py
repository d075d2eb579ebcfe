"""Archives that inflate when asked, and the cache that they share."""

from __future__ import annotations

import gzip
import lzma
import threading

import pytest

from sixsmith.errors import FormatError
from sixsmith.model.digest import digest_of
from sixsmith.rootfs.sources import GzipSource, InflatedCache, PlainSource, XzSource, unxz


def test_sources_inflate_what_they_read() -> None:
    for source_type, compress in ((GzipSource, gzip.compress), (XzSource, lzma.compress)):
        stored = compress(b"content" * 1000)
        source = source_type(digest_of(stored), lambda stored=stored: stored, cache=InflatedCache())
        assert bytes(source.inflate()) == b"content" * 1000
        assert source == source_type(digest_of(stored), lambda: b"")
    assert PlainSource(b"tar").inflate() == b"tar"


def test_an_xz_file_may_have_several_streams_and_padding() -> None:
    assert unxz(lzma.compress(b"one") + bytes(8) + lzma.compress(b"two"), what="x") == b"onetwo"
    assert unxz(lzma.compress(b""), what="x") == b""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda stored: stored[:-5], "truncated|damaged"),
        (lambda stored: stored[:40] + bytes([stored[40] ^ 255]) + stored[41:], "damaged|truncated"),
        (lambda stored: b"PK" + stored, "not an xz"),
        (lambda stored: stored + b"rubbish", "damaged"),
        (lambda stored: stored[:12], "truncated"),
    ],
)
def test_damaged_xz_is_said(damage: object, message: str) -> None:
    stored = lzma.compress(bytes(range(256)) * 64)
    with pytest.raises(FormatError, match=message):
        unxz(damage(stored), what="x")  # type: ignore[operator]


def test_a_bomb_is_stopped_before_it_has_the_memory() -> None:
    bomb = lzma.compress(bytes(50 << 20))
    with pytest.raises(FormatError, match="more than 1048576 bytes"):
        unxz(bomb, what="bomb", limit=1 << 20)
    assert len(unxz(bomb, what="bomb", limit=50 << 20)) == 50 << 20
    bombed = gzip.compress(bytes(50 << 20))
    with pytest.raises(FormatError, match="more than 1048576 bytes"):
        GzipSource(digest_of(bombed), lambda: bombed, limit=1 << 20, cache=InflatedCache()).inflate()


def test_the_cache_stays_below_its_limit_and_keeps_the_last() -> None:
    cache = InflatedCache(limit=100)
    calls: list[str] = []

    def archive(name: str, size: int) -> bytes:
        calls.append(name)
        return bytes(size)

    for name, size in (("a", 60), ("b", 30), ("a", 60), ("c", 40), ("a", 60), ("b", 30), ("big", 500), ("big", 500)):
        cache.get(digest_of(name.encode()), lambda name=name, size=size: archive(name, size))
    assert calls == ["a", "b", "c", "b", "big"]
    assert cache.size == 500
    cache.get(digest_of(b"d"), lambda: archive("d", 1))
    assert cache.size == 1


def test_threads_that_want_one_archive_inflate_it_once() -> None:
    cache = InflatedCache()
    calls: list[int] = []
    start = threading.Barrier(4)

    def inflate() -> bytes:
        calls.append(1)
        threading.Event().wait(0.05)
        return b"x"

    def want() -> None:
        start.wait()
        assert cache.get(digest_of(b"one"), inflate) == b"x"

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_a_failure_is_the_callers_and_the_next_one_tries_again() -> None:
    cache = InflatedCache()

    def fail() -> bytes:
        raise FormatError("damaged")

    with pytest.raises(FormatError):
        cache.get(digest_of(b"one"), fail)
    assert cache.get(digest_of(b"one"), lambda: b"now") == b"now"
