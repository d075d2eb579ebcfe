"""A family file that was read before is not read as YAML again, and that changes nothing."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixsmith.errors import MatrixError, Place
from sixsmith.io.store import Store
from sixsmith.matrix import load, parse_family
from sixsmith.matrix.text import pack_tree, unpack_tree
from sixsmith.model.spelled import Spelled, SpelledList, SpelledMapping, SpelledTree, plain

FAMILY = dedent("""\
    defaults: &usual
      arch: [x86_64]
    images:
      base:
        tag: "{alpine}"
        matrix: {alpine: [3.19, 3.20]}
        packages: [busybox, no]
        env: {A: "~"}
      web: {from: base, tag: "{alpine}", packages: [nginx]}
    """).encode()

places = st.builds(lambda line, column: Place("f.yaml", line, column), st.integers(1, 9999), st.integers(1, 200))
words = st.builds(Spelled, st.text(max_size=8), places, st.booleans())
trees = st.recursive(
    words,
    lambda inner: (
        st.builds(SpelledList, st.lists(inner, max_size=4), places)
        | st.builds(SpelledMapping, st.dictionaries(words, inner, max_size=4), places)
    ),
    max_leaves=20,
)


def all_of(tree: SpelledTree) -> list[object]:
    """What equality of texts does not see: kinds, places, and what is nothing."""
    seen: list[object] = [type(tree), tree.place, getattr(tree, "nothing", None)]
    inner = tree if isinstance(tree, SpelledList) else []
    if isinstance(tree, SpelledMapping):
        inner = [item for pair in tree.items() for item in pair]
    return [*seen, *(all_of(item) for item in inner)]


@given(trees)
def test_a_tree_comes_back_as_it_was(tree: SpelledTree) -> None:
    again = unpack_tree(pack_tree(tree), "f.yaml")
    assert plain(again) == plain(tree)
    assert all_of(again) == all_of(tree)


@pytest.mark.parametrize("rubbish", [None, 3, [], [9], [2, 1, 1, 5], [3, 1, 1, [[[2, 1, 1, []], [0, 1, 1, "x"]]]]])
def test_rubbish_is_no_tree(rubbish: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack_tree(msgspec.msgpack.encode(rubbish), "f.yaml")


def test_the_second_time_no_yaml_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "store") as store:
        first = parse_family(FAMILY, file="f.yaml", folder=tmp_path, records=store)
        monkeypatch.setattr(load, "read_yaml", lambda *_: pytest.fail("read again"))
        second = parse_family(FAMILY, file="f.yaml", folder=tmp_path, records=store)
        moved = parse_family(FAMILY, file="moved.yaml", folder=tmp_path, records=store)
    assert second.cells == first.cells
    assert moved.cells[0].place is not None
    assert moved.cells[0].place.file == "moved.yaml"


def test_another_text_is_read(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        first = parse_family(FAMILY, file="f.yaml", folder=tmp_path, records=store)
        second = parse_family(FAMILY.replace(b"nginx", b"lighttpd"), file="f.yaml", folder=tmp_path, records=store)
    assert [cell.packages for cell in first.cells] != [cell.packages for cell in second.cells]


def test_a_damaged_memory_is_made_anew(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        first = parse_family(FAMILY, file="f.yaml", folder=tmp_path, records=store)
        (kept,) = _files(tmp_path / "store/records/family")
        kept.chmod(0o644)
        kept.write_bytes(kept.read_bytes()[:-1] + b"?")
        second = parse_family(FAMILY, file="f.yaml", folder=tmp_path, records=store)
        assert second.cells == first.cells
        assert not list(store.verify())


def test_a_record_that_is_no_tree_is_replaced(tmp_path: Path) -> None:
    """Its own checksum holds, so nothing else would tell."""
    with Store(tmp_path / "store") as store:
        first = parse_family(FAMILY, file="f.yaml", folder=tmp_path, records=store)
        (kept,) = _files(tmp_path / "store/records/family")
        right = store.record("family", kept.name)
        store.keep("family", kept.name, b"\xc1")
        second = parse_family(FAMILY, file="f.yaml", folder=tmp_path, records=store)
        assert second.cells == first.cells
        assert store.record("family", kept.name) == right


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_problems_are_told_each_time_at_their_place(tmp_path: Path) -> None:
    wrong = FAMILY.replace(b"packages: [nginx]", b"package: [nginx]")  # YAML, but no family
    twice = FAMILY + b"images: {}\n"  # a problem of the text itself
    with Store(tmp_path / "store") as store:
        for text in (wrong, twice):
            told = []
            for _ in range(2):
                with pytest.raises(MatrixError) as caught:
                    parse_family(text, file="f.yaml", folder=tmp_path, records=store)
                told.append(str(caught.value))
            assert told[0] == told[1]
            assert "f.yaml:" in told[0]


def test_what_aliases_made_large_is_not_kept(tmp_path: Path) -> None:
    lines = [f"a: &a [{', '.join(['x' * 40] * 10)}]"]
    for before, name in zip("abc", "bcd", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    text = ("images: {}\n" + "\n".join(f"x-{line}" for line in lines)).encode()
    with Store(tmp_path / "store") as store:
        with pytest.raises(MatrixError):
            parse_family(text, file="f.yaml", folder=tmp_path, records=store)
        assert not _files(tmp_path / "store/records/family")
