"""Words that stand for more than themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sixsmith.errors import Place, UsageError
from sixsmith.matrix import words
from sixsmith.model.spelled import Spelled

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (words.duration, "30s", 30 * SECOND),
        (words.duration, "1m30s", 90 * SECOND),
        (words.duration, "500ms", SECOND // 2),
        (words.duration, "1.5h", 5400 * SECOND),
        (words.mode, "0755", 0o755),
        (words.mode, "4755", 0o4755),
        (words.mode, "755", 0o755),
        (words.port, "080", "80/tcp"),
        (words.port, "53/udp", "53/udp"),
        (words.image_path, "//srv//www/", "/srv/www"),
        (words.image_path, "/", "/"),
        (words.stop_signal, "term", "SIGTERM"),
        (words.stop_signal, "SIGRTMIN+3", "SIGRTMIN+3"),
        (words.stop_signal, "15", "15"),
        (words.user_spec, "0:0", "0:0"),
        (words.user_spec, "app", "app"),
        (words.registry, "prireg:5000/team/", "prireg:5000/team"),
        (words.registry, "[::1]:5000", "[::1]:5000"),
        (words.size, "40 MiB", "40 MiB"),
    ],
)
def test_words_become_values(parse: Callable[[Spelled], Any], text: str, value: object) -> None:
    assert parse(Spelled(text, Place("f"))) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (words.duration, ""),
        (words.duration, "30"),
        (words.duration, "s"),
        (words.duration, "1s 2s"),
        (words.duration, "9" * 400 + "h"),
        (words.mode, "9"),
        (words.mode, "77777"),
        (words.mode, "0o755"),
        (words.port, "80-90"),
        (words.port, "80/"),
        (words.port, "٣"),
        (words.image_path, "relative"),
        (words.image_path, "/a/./b"),
        (words.image_path, "/a\nb"),
        (words.stop_signal, "65"),
        (words.stop_signal, "9" * 5000),
        (words.stop_signal, "٣"),
        (words.user_spec, ""),
        (words.user_spec, "4294967295"),
        (words.user_spec, "1" * 5000),
        (words.registry, "http://x"),
        (words.registry, "x:port"),
        (words.base, "alpine"),
        (words.image_name, "Web"),
        (words.image_name, "a//b"),
        (words.service_name, ".hidden"),
        (words.account, "a b"),
        (words.package_name, "bash=1"),
        (words.env_name, ""),
        (words.label_name, "a b"),
        (words.number(1, 5), "6"),
        (words.number(), "1e3"),
    ],
)
def test_wrong_words_are_refused(parse: Callable[[Spelled], Any], text: str) -> None:
    with pytest.raises((ValueError, UsageError)):
        parse(Spelled(text, Place("f")))
