"""Files in one piece."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sixsmith.io.files import pieces, read_whole


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 300_000])
@pytest.mark.parametrize("said", [0, 1, 4096, 299_999, 300_000, 400_000])
def test_all_of_a_file_whatever_its_size_is_said_to_be(tmp_path: Path, size: int, said: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert read_whole(str(tmp_path / "file")) == content
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        assert b"".join(pieces(descriptor, said)) == content
    finally:
        os.close(descriptor)


def test_a_file_of_the_kernel_which_says_no_size() -> None:
    assert read_whole("/proc/self/stat").startswith(str(os.getpid()).encode())


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(str(tmp_path / "gone"))
