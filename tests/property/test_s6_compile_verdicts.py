"""The verdict on random and mutated trees is the real compiler's, for each s6-overlay whose binaries are at hand.

A run tries a few hundred trees; SIXSMITH_S6_TREES asks for more, SIXSMITH_S6_SEED for others.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sixsmith.s6.compile import check_directories, check_sources
from sixsmith.s6.sources import make_source, read_source_directory

TREES = int(os.environ.get("SIXSMITH_S6_TREES", "250"))
SEED = int(os.environ.get("SIXSMITH_S6_SEED", "6"))
VERSIONS = ("3.1.6.2", "3.2.1.0")

Value = object  # bytes: a file; dict: a directory; ("link", target), ("pipe",), ("socket",)
FilesOf = dict[bytes, Value]

NAMES = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"web",
    b"log",
    b"db",
    b"user",
    b"g",
    b"h",
    b"x y",
    b"e@1",
    b"\xc3\xa9",
    b"\xff\xfe",
    b"-n",
    b"#k",
]
ODD_NAMES = [
    b"nope", b"s6rc-fdholder", b"s6-rc-x", b"s6rc", b"s6-rc", b"S6rc-x", b".dot", b"a\nb", b"a ", b" a", b"b\r", b"\xef\xbb\xbfa", b"contents",
    b"*", b"a#b", b"x" * 200, b"..", b"a\tb", b"{", b"\"q\"", b"s6rc-",
]  # fmt: skip
RUN = b"#!/bin/sh\nexec sleep 1\n"
SCRIPTS = [
    b"", b"true\n", b"/etc/s6-overlay/scripts/go", b"if { true } echo hi\n", b"#!/command/execlineb -P\nfoo\n", b"# only a comment", b'"quoted words" a"b"c\n',
    b'echo "\\x41 \\065 \\0x41 \\101"', b"foo\r\nbar\r\n", b"backtick V { cmd } echo ${V}\n", b"a {b } c", b"{ }", b"if { if { true } } x",
]  # fmt: skip
LEXEMES = [
    b"{", b"}", b" ", b"\n", b'"', b"\\", b"0", b"x", b"7", b"8", b"a", b"n", b"F", b"#", b"z", b"\0", b"\r", b"9", b"{ ", b" }", b"\\0x", b"\xff", b"if { true }",
]  # fmt: skip
NUMBERS = [
    b"", b"\n", b"0", b"3", b"3\n", b"4\n", b"1\n", b"5000\n", b"-1\n", b"abc\n", b"5s\n", b" 5\n", b"5 \n", b"5\r\n", b"05", b"4294967295\n", b"4294967296\n",
    b"99999999999999999999", b"5\n\n\n", b"5\nx", b"5\0x", b"\n5", b"0x5", b"+5", b"5" + b"\n" * 80 + b"x", b"0" * 62 + b"x", b"0" * 63 + b"x", b"00000000003",
    b"000000000003", b"0000000000x", b"00000000000x", b"4294967295x", b"8589934597\n", b"\xd9\xa3\n",
]  # fmt: skip
TYPES = [
    b"longrun", b"longrun\n", b"oneshot", b"bundle", b"bundle\n", b"oneshot\n", b"longrun \n", b"longrun\r\n", b"Longrun\n", b"", b"\n", b"\n\n", b"longrun\n\n",
    b"longrun\nx", b"bundle\n\n", b"bundle\nx", b"bundle \n", b"\xef\xbb\xbfbundle\n", b" bundle\n", b"bundle\0", b"bundle\0\n", b"bundle\0zz", b"longrun\0", b"oneshotx",
    b"oneshot\n\n", b"x", b"\0", b"long", b"bundles\n",
]  # fmt: skip
PARTS = [
    b"type", b"run", b"finish", b"up", b"down", b"dependencies", b"dependencies.d", b"contents", b"contents.d", b"producer-for", b"consumer-for", b"pipeline-name",
    b"timeout-up", b"timeout-down", b"notification-fd", b"lock-fd", b"timeout-kill", b"timeout-finish", b"max-death-tally", b"down-signal", b"data", b"env",
    b"flag-essential", b"flag-newpipelinename", b"log", b"README", b".hidden", b"conf",
]  # fmt: skip
NUMBER_PARTS = [
    b"timeout-up",
    b"timeout-down",
    b"notification-fd",
    b"lock-fd",
    b"timeout-kill",
    b"timeout-finish",
    b"max-death-tally",
]


class TreeMaker:
    """Random source directories: mostly sound, then spoilt in a few places."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd

    def chance(self, share: float) -> bool:
        return self.rnd.random() < share

    def sources(self) -> list[FilesOf]:
        rnd = self.rnd
        trees: list[FilesOf] = [{} for _ in range(rnd.choice([1, 1, 1, 2, 3]))]
        names = rnd.sample(NAMES, rnd.randint(0, 8))
        for index, name in enumerate(names):
            rnd.choice(trees)[name] = self.service(names[:index])
        if self.chance(0.35):
            self.pipeline(trees, names)
        for _ in range(rnd.choice([0, 0, 1, 1, 1, 2, 3])):
            self.spoil(trees, names)
        return trees

    def service(self, before: list[bytes]) -> FilesOf:
        kind = self.rnd.choice(["longrun", "longrun", "oneshot", "bundle"])
        service: FilesOf = {b"type": kind.encode() + self.rnd.choice([b"\n", b"\n", b""])}
        some = self.rnd.sample(before, self.rnd.randint(0, min(3, len(before))))
        if kind == "bundle":
            self.write_names(service, b"contents", some, always=True)
        else:
            self.write_names(service, b"dependencies", some)
        if kind == "longrun":
            service[b"run"] = RUN
            if self.chance(0.2):
                service[b"notification-fd"] = b"3\n"
            if self.chance(0.1):
                service[b"data"] = {b"check": RUN}
        elif kind == "oneshot":
            service[b"up"] = self.rnd.choice(SCRIPTS[:8])
            if self.chance(0.3):
                service[b"down"] = self.rnd.choice(SCRIPTS[:8])
        return service

    def write_names(self, service: FilesOf, part: bytes, names: list[bytes], always: bool = False) -> None:
        if not names and not always and self.chance(0.6):
            return
        if self.chance(0.5):
            service[part + b".d"] = dict.fromkeys(names, b"")
        else:
            service[part] = self.list_file(names)

    def list_file(self, names: list[bytes]) -> bytes:
        lines = [self.rnd.choice([b"", b"", b" ", b"\t "]) + name for name in names if not name.startswith(b"#")]
        if self.chance(0.2):
            lines.insert(self.rnd.randint(0, len(lines)), self.rnd.choice([b"# comment", b"", b"  ", b"  #x", b"\0a"]))
        if names and self.chance(0.1):
            lines.append(lines[0] if lines else b"")
        return b"\n".join(lines) + self.rnd.choice([b"\n", b"\n", b""])

    def pipeline(self, trees: list[FilesOf], names: list[bytes]) -> None:
        """A chain or tree of longruns, the first one being the last consumer."""
        free = [name for name in [b"p1", b"p2", b"p3", b"p4"] if not any(name in tree for tree in trees)]
        members = free[: self.rnd.randint(2, 4)]
        services: dict[bytes, FilesOf] = {name: {b"type": b"longrun\n", b"run": RUN} for name in members}
        producers: dict[bytes, list[bytes]] = {}
        for index, name in enumerate(members[1:], 1):
            producers.setdefault(self.rnd.choice(members[:index]), []).append(name)
        for consumer, feeding in producers.items():
            services[consumer][b"consumer-for"] = self.list_file(feeding)
            for name in feeding:
                services[name][b"producer-for"] = consumer + b"\n"
        if self.chance(0.5):
            services[members[0]][b"pipeline-name"] = self.rnd.choice(
                [b"pipe\n", b"pipe", b"# name\npipe\n", b"g\n", b"p2\n"]
            )
            if self.chance(0.3):
                user = self.rnd.choice(members + names)
                target = next((tree[user] for tree in trees if user in tree), services.get(user))
                assert isinstance(target, dict)
                target.setdefault(b"dependencies.d", {b"pipe": b""})
        for name, service in services.items():
            self.rnd.choice(trees)[name] = service
        names += members

    def any_name(self, names: list[bytes]) -> bytes:
        pool = [*names, *names, *self.rnd.sample(NAMES, 2), self.rnd.choice(ODD_NAMES), b"pipe"]
        return self.rnd.choice(pool)

    def file_name(self, names: list[bytes]) -> bytes:
        while True:
            name = self.any_name(names)
            if name not in (b"..", b"."):
                return name

    def content(self, part: bytes, names: list[bytes]) -> bytes:
        rnd = self.rnd
        if part == b"type":
            return rnd.choice(TYPES)
        if part in NUMBER_PARTS:
            return rnd.choice(NUMBERS)
        if part in (b"up", b"down"):
            if self.chance(0.4):
                return rnd.choice(SCRIPTS)
            return b"".join(rnd.choice(LEXEMES) for _ in range(rnd.randint(0, 9)))
        if part in (b"run", b"finish", b"down-signal"):
            return rnd.choice([RUN, b"", b"SIGNOPE\n", b"\r\n"])
        content = self.list_file([self.any_name(names) for _ in range(rnd.choice([0, 1, 1, 1, 2]))])
        if self.chance(0.15):
            content = rnd.choice(
                [
                    content.replace(b"\n", b"\r\n"),
                    content.replace(b"\n", b" \n"),
                    b"\xef\xbb\xbf" + content,
                    b" " * 3000 + content,
                ]
            )
        return content

    def special(self, part: bytes) -> Value:
        targets = [b"nope", part, b"/dev/null", b"type/x", b"y" * 300, b"type", b"run", b"."]
        choice = self.rnd.random()
        if choice < 0.7:
            return ("link", self.rnd.choice(targets))
        if choice < 0.85:
            return ("socket",)
        waits = part in (b"finish", b"down-signal", *NUMBER_PARTS[2:])
        return ("socket",) if waits else ("pipe",)  # the real compiler would hang

    def spoil(self, trees: list[FilesOf], names: list[bytes]) -> None:
        rnd = self.rnd
        tree = rnd.choice(trees)
        services = [value for value in tree.values() if isinstance(value, dict)]
        dice = rnd.random()
        if dice < 0.12 or not services:
            name = self.file_name(names)
            if self.chance(0.2):
                name = rnd.choice([n for n in ODD_NAMES if n != b".."])
            tree[name] = rnd.choice([{}, b"plain file\n", self.service(names), self.service(names), self.special(name)])
            return
        service = rnd.choice(services)
        part = rnd.choice(PARTS)
        if dice < 0.22:
            service.pop(rnd.choice(list(service) or [part]), None)
        elif dice < 0.32:
            service[part] = self.special(part)
        elif dice < 0.40:
            service[part] = {}
        elif dice < 0.62:
            listing = rnd.choice([b"dependencies.d", b"contents.d"])
            below = service.setdefault(listing, {})
            if isinstance(below, dict):
                below[self.file_name(names)] = rnd.choice([b"", b"x", {}, ("link", b"nope")])
        else:
            service[part] = self.content(part, names)


def write_files(root: bytes, files: FilesOf) -> None:
    folder = Path(os.fsdecode(root))
    folder.mkdir()
    for name, value in files.items():
        path = folder / os.fsdecode(name)
        if isinstance(value, dict):
            write_files(root + b"/" + name, value)
        elif isinstance(value, bytes):
            path.write_bytes(value)
        elif isinstance(value, tuple) and value[0] == "link":
            path.symlink_to(os.fsdecode(value[1]))
        elif value == ("pipe",):
            os.mkfifo(path)
        else:
            os.mknod(path, 0o600 | stat.S_IFSOCK)


def is_plain(files: FilesOf) -> bool:
    return all(isinstance(value, bytes) or (isinstance(value, dict) and is_plain(value)) for value in files.values())


@pytest.fixture(scope="session")
def compilers(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The real `s6-rc-compile` of each version, taken out of the release tarballs."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip("the compilers at hand run on x86_64 Linux only")
    place = tmp_path_factory.mktemp("compilers")
    found = {}
    for version in VERSIONS:
        tarball = data / "upstream" / "s6-overlay" / f"v{version}" / "s6-overlay-x86_64.tar.xz"
        if tarball.exists():
            found[version] = take_compiler(tarball, place / version)
    if not found:
        pytest.skip(f"none of the s6-overlay releases {', '.join(VERSIONS)} is among the test files")
    return found


def take_compiler(tarball: Path, place: Path) -> Path:
    with tarfile.open(tarball) as archive:
        for member in archive:
            if "/admin/s6-rc-" in member.name and member.name.endswith("/command/s6-rc-compile"):
                content = archive.extractfile(member)
                assert content is not None
                place.write_bytes(content.read())
                place.chmod(0o755)
                return place
    raise AssertionError(f"no s6-rc-compile in {tarball}")


def real_verdicts(compilers: dict[str, Path], work: Path, names: list[str]) -> dict[str, tuple[bool, str]]:
    """Accepted or not, and what was said, by version."""
    verdicts = {}
    for version, compiler in compilers.items():
        done = subprocess.run(
            [compiler, f"db-{version}", *names], cwd=work, capture_output=True, timeout=60, check=False
        )
        verdicts[version] = (done.returncode == 0, done.stderr.decode("utf-8", "backslashreplace"))
    return verdicts


def trees(count: int, seed: int) -> Iterator[tuple[int, list[FilesOf]]]:
    for number in range(count):
        yield number, TreeMaker(random.Random(seed * 1_000_003 + number)).sources()


@pytest.mark.data
def test_random_trees_get_the_compilers_verdict(
    compilers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = 0
    wrong: list[str] = []
    for number, sources in trees(TREES, SEED):
        work = tmp_path / str(number)
        work.mkdir()
        monkeypatch.chdir(work)
        names = [f"src{index}" for index in range(len(sources))]
        for name, files in zip(names, sources, strict=True):
            write_files(os.fsencode(work / name), files)
        report = check_directories(names)
        accepted += report.accepted
        for version, (expected, said) in real_verdicts(compilers, work, names).items():
            if report.accepted != expected:
                found = "".join(f"\n    {finding}" for finding in report.findings)
                wrong.append(f"tree {number}: {sources}\n  {version}: {said}  ours:{found}")
        if all(is_plain(files) for files in sources):
            values = [make_source(name, files) for name, files in zip(names, sources, strict=True)]
            assert check_sources(values).findings == report.findings
        monkeypatch.undo()
        shutil.rmtree(work)
    assert not wrong, f"{len(wrong)} verdicts differ:\n" + "\n".join(wrong[:5])
    assert TREES < 100 or TREES * 0.2 < accepted < TREES * 0.8, "the trees are too much of one kind to show anything"


@pytest.mark.data
def test_random_scripts_are_parsed_as_the_compiler_does(compilers: dict[str, Path], tmp_path: Path) -> None:
    """All scripts that we accept are accepted as one source directory; a sample of the others is refused one by one."""
    rnd = random.Random(SEED)
    scripts = [b"".join(rnd.choice(LEXEMES) for _ in range(rnd.randint(0, 12))) for _ in range(4000)]
    source = make_source("s", {f"o{i}": {"type": "oneshot", "up": text} for i, text in enumerate(scripts)})
    refused = {finding.path.split("/")[1] for finding in check_sources([source]).findings}
    good = {b"o%d" % i: text for i, text in enumerate(scripts) if f"o{i}" not in refused}
    bad = [text for i, text in enumerate(scripts) if f"o{i}" in refused]
    assert len(good) > 400 and len(bad) > 400

    write_files(os.fsencode(tmp_path / "good"), {name: {b"type": b"oneshot", b"up": up} for name, up in good.items()})
    assert set(real_verdicts(compilers, tmp_path, ["good"]).values()) == {(True, "")}
    for number, script in enumerate(rnd.sample(bad, min(len(bad), TREES // 2))):
        name = f"bad{number}"
        write_files(os.fsencode(tmp_path / name), {b"o": {b"type": b"oneshot", b"up": script}})
        assert not any(accepted for accepted, _ in real_verdicts(compilers, tmp_path, [name]).values()), script


def test_a_folder_reads_like_its_value(tmp_path: Path) -> None:
    for number, sources in trees(40, SEED):
        for index, files in enumerate(sources):
            if is_plain(files):
                root = tmp_path / f"{number}-{index}"
                write_files(os.fsencode(root), files)
                read = check_sources([read_source_directory(root, "src")])
                assert read.findings == check_sources([make_source("src", files)]).findings
