"""Pages of docs/ that are written from the code are what the code says now, and what the others show is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def test_family_file_reference_is_up_to_date() -> None:
    from sixsmith.matrix.reference import render_reference

    page = DOCS / "family-file.md"
    if page.read_text(encoding="utf-8") != render_reference():
        pytest.fail(
            "docs/family-file.md is old: python -c 'from sixsmith.matrix.reference import render_reference; "
            'print(render_reference(), end="")\' > docs/family-file.md'
        )


def test_command_reference_is_up_to_date() -> None:
    from sixsmith.cli.reference import render_commands

    page = DOCS / "reference" / "commands.md"
    if page.read_text(encoding="utf-8") != render_commands():
        pytest.fail(
            "docs/reference/commands.md is old: python -m sixsmith.cli.reference > docs/reference/commands.md "
            "(and JSON_KEYS in src/sixsmith/cli/reference.py has the keys of each command's document)"
        )


def test_every_command_is_in_the_readme() -> None:
    from sixsmith.cli import COMMANDS

    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z]+)[` ]", "\n".join(row.split("|")[1] for row in table.splitlines() if "|" in row)))
    assert set(COMMANDS) - named == set()


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        ahead += [target for target, _ in _links(page) if target.suffix == ".md" and target.is_relative_to(DOCS)]
    assert sorted(str(page) for page in set(DOCS.rglob("*.md")) - reached) == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target, anchor in _links(ROOT / name):
        assert target.exists(), f"{name}: {target} is not there"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{name}: {target.name} has no heading #{anchor}"


@pytest.mark.parametrize("name", NAMES)
def test_family_files_can_be_read(name: str, tmp_path: Path) -> None:
    """Every YAML block is a family file that holds together, or keys of one image."""
    from sixsmith.matrix import parse_family

    for block in _blocks(ROOT / name, "yaml"):
        _furnish(tmp_path, block)
        parse_family(_as_family(block).encode(), file=f"{name}:\n{block}", folder=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_shown_commands_exist(name: str) -> None:
    """Every `sixsmith …` line parses: the command is there, and so are its options; nothing is run."""
    for line in _command_lines(ROOT / name):
        _parse(line, name)


# ---- reading pages


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for match in _LINK.finditer(text):
        place, _, anchor = (match[1] or match[2]).partition("#")
        if "://" not in place:
            yield ((page.parent / place).resolve() if place else page), anchor


def _anchors(page: Path) -> set[str]:
    """The headings as GitHub and GitLab name them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _blocks(page: Path, language: str) -> list[str]:
    found = []
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if match[2] == language:
            found.append(re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE))
    return found


def _as_family(block: str) -> str:
    """The block itself, or a family around the keys that it shows: of the file, of `images`, or of one image."""
    top = re.findall(r"^([\w-]+):", block, re.MULTILINE)
    if "images" in top:
        return block
    image = "    matrix: {alpine: [3.23], s6-overlay: [3.2.3.0]}\n    tag: shown\n"
    if "repositories" in top or "defaults" in top:
        return f"{block}\nimages:\n  shown:\n{image}"
    if "from" in "".join(re.findall(r"^  ([\w-]+):", block, re.MULTILINE)) or block.startswith(("  ", "base:", "web:")):
        pytest.fail(f"a family file whose keys nobody knows:\n{block}")
    return f"images:\n  shown:\n{image}" + "".join(f"    {line}\n" for line in block.splitlines())


def _furnish(folder: Path, block: str) -> None:
    """Makes the files that the block names, so that only what it says is judged."""
    for path in re.findall(r"(?:source|key): ([\w./-]+)", block):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    for path in re.findall(r"(?:url|services): (\./[\w./-]+)", block):
        (folder / path).mkdir(parents=True, exist_ok=True)


def _command_lines(page: Path) -> Iterator[str]:
    for block in [*_blocks(page, "sh"), *_blocks(page, "console")]:
        lines = block.replace("\\\n", " ").splitlines()
        shown = [line[2:] for line in lines if line.startswith("$ ")] or lines
        yield from (line for line in shown if re.search(r"(?:^|[ /])sixsmith ", line))
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (match[1] for match in re.finditer(r"`(sixsmith [^`…]*)`", text))


def _parse(line: str, name: str) -> None:
    from sixsmith.cli import COMMANDS, group

    words = shlex.split(line, comments=True)
    places = [place for place, word in enumerate(words) if word.rpartition("/")[2] == "sixsmith"]
    for place in places:
        rest = words[place + 1 :]
        stops = [number for number, word in enumerate(rest) if word in ("|", "&&", "||", ";", "&", ">", "<", "2>&1")]
        rest = rest[: stops[0]] if stops else rest
        if place and words[place - 1] in ("pip", "install", "cd", "source"):
            continue
        if not rest or rest[0].startswith("-"):
            continue
        assert rest[0] in COMMANDS, f"{name}: no command '{rest[0]}' in `{line}`"
        command: click.Command | None = group.get_command(click.Context(group), rest[0])
        rest = rest[1:]
        if isinstance(command, click.Group):
            if not rest or "|" in rest[0]:
                continue
            assert rest[0] in command.commands, f"{name}: no command '{rest[0]}' in `{line}`"
            command, rest = command.commands[rest[0]], rest[1:]
        assert command is not None
        known = {option for param in command.params for option in [*param.opts, *param.secondary_opts]}
        known |= {"-h", "--help"}
        for word in rest:
            if word == "--":
                break
            if re.match(r"--?[a-zA-Z]", word):
                assert word.partition("=")[0] in known, f"{name}: no option {word} in `{line}`"
