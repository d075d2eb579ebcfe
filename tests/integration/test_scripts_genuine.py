"""What scripts do for real, against what we say they do: Alpine's own shells, applets, packages and apk.

Needs the real files, and root for `chroot`; each test says so where it is skipped.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from genuine import (
    GenuineApk,
    Shelf,
    differences,
    disk_entries,
    tree_entries,
)
from sixsmith.apk.archive import open_package
from sixsmith.errors import InstallRefused, ScriptNotUnderstood
from sixsmith.rootfs.install import install
from sixsmith.rootfs.scripts import Emulator, busybox
from sixsmith.rootfs.scripts.files import Files
from sixsmith.rootfs.scripts.programs import Programs
from sixsmith.rootfs.scripts.shell import Input, Output, Shell, Streams, encode
from sixsmith.rootfs.scripts.syntax import parse_script
from sixsmith.rootfs.tree import Inline, Node, Tree

RELEASES = ("3.7.3", "3.8.5", "3.9.6", "3.10.9", "3.11.13", "3.12.12", "3.16.9", "3.20.3")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
EVERYTHING = bool(os.environ.get("SIXSMITH_EXHAUSTIVE"))
"""All packages and 200 random sets instead of a sample."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the real programs are for x86_64")


@pytest.fixture(scope="module")
def roots(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacked minirootfs by release, on first use."""
    unpacked: dict[str, Path] = {}

    def root(release: str) -> Path:
        if release not in unpacked:
            folder = unpacked[release] = tmp_path_factory.mktemp(release)
            minor = release.rpartition(".")[0]
            archive = data / f"upstream/alpine/v{minor}/releases/x86_64/alpine-minirootfs-{release}-x86_64.tar.gz"
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="fully_trusted" if os.geteuid() == 0 else "tar")
        return unpacked[release]

    return root


def read_disk(root: Path, epoch: int) -> Tree:
    """The tree of a folder, without times."""
    tree = Tree(epoch=epoch)
    inodes: dict[int, str] = {}
    for folder, directories, files in os.walk(root):
        directories.sort()
        for name in sorted(directories + files):
            full = Path(folder, name)
            path = str(full.relative_to(root))
            status = full.lstat()
            kind, target, content = "file", "", None
            if stat.S_ISDIR(status.st_mode):
                kind = "directory"
            elif stat.S_ISLNK(status.st_mode):
                kind, target = "symlink", str(full.readlink())
            elif stat.S_ISFIFO(status.st_mode):
                kind = "fifo"
            elif not stat.S_ISREG(status.st_mode):
                continue
            elif status.st_nlink > 1 and status.st_ino in inodes:
                kind, target = "hardlink", inodes[status.st_ino]
            else:
                inodes[status.st_ino] = path
                content = Inline(full.read_bytes())
            size = status.st_size if kind == "file" else 0
            mode = stat.S_IMODE(status.st_mode)
            tree.nodes[path] = Node(
                path,
                kind,
                mode,
                status.st_uid,
                status.st_gid,
                0,
                size,
                target,
                (),
                None,
                (0, 0),
                "base",
                content,  # type: ignore[arg-type]
            )
    return tree


def shown(tree: Tree) -> dict[str, Any]:
    """A tree in comparable form: hard links as groups, no times, nothing of apk's place for scripts."""
    groups: dict[str, set[str]] = {}
    for node in tree:
        if node.kind in ("file", "hardlink"):
            groups.setdefault(node.target or node.path, set()).add(node.path)
    found = {}
    for node in tree:
        if node.path.startswith(("lib/apk/exec", "dev/")):
            continue
        real = tree.nodes[node.target] if node.kind == "hardlink" else node
        what = real.content.read() if real.content is not None else node.target
        names = groups.get(real.path, set()) if real.kind == "file" else set()
        found[node.path] = (real.kind, oct(real.mode), real.uid, real.gid, what, frozenset(names))
    return found


def chroot(root: Path, command: list[str], *, umask: int = 0o022) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["chroot", str(root), *command],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        umask=umask,
        timeout=60,
        check=False,
    )


# --- busybox --------------------------------------------------------------------------------------------------------


@needs_root
@needs_x86
@pytest.mark.parametrize("release", RELEASES)
def test_applets_and_their_places_are_read_from_the_binary(roots: Callable[[str], Path], release: str) -> None:
    root = roots(release)
    listed = chroot(root, ["/bin/busybox", "--list-full"]).stdout.decode().split()
    assert len(listed) > 300
    assert list(busybox.applet_links(Inline((root / "bin/busybox").read_bytes()))) == listed


@pytest.mark.parametrize("release", ["3.12.12", "3.20.3"])
def test_applets_of_a_foreign_binary_are_those_of_its_sibling(
    data: Path, roots: Callable[[str], Path], release: str
) -> None:
    minor = release.rpartition(".")[0]
    archive = data / f"upstream/alpine/v{minor}/releases/aarch64/alpine-minirootfs-{release}-aarch64.tar.gz"
    with tarfile.open(archive) as tar:
        file = tar.extractfile("./bin/busybox")
        assert file is not None
        links = busybox.applet_links(Inline(file.read()))
        linked = {member.name[2:] for member in tar if member.issym() and member.linkname == "/bin/busybox"}
    assert set(links) <= linked | {"linuxrc"}
    assert links == busybox.applet_links(Inline((roots(release) / "bin/busybox").read_bytes()))


NAMES = ["a", "www", "nginx", "nobody", "root", "x.y", "x-1", "_a", "A:b", "a$", "9", "ü", "foo@bar", "a/b"]


def account_command(choose: random.Random) -> list[str]:
    """A random addgroup or adduser command."""
    kind = choose.random()
    if kind < 0.3:
        command = ["addgroup", *(["-S"] if choose.random() < 0.5 else [])]
        if choose.random() < 0.3:
            command += ["-g", choose.choice(["0", "42", "100", "101", "1000", "70000"])]
        return [*command, choose.choice(NAMES)]
    if kind < 0.45:
        return ["addgroup", choose.choice(NAMES), choose.choice(NAMES)]
    command = ["adduser", "-D", "-s", "/bin/sh"]
    if choose.random() < 0.6:
        command += ["-S"]
        if choose.random() < 0.5:
            del command[2:4]
    for chance, options in (
        (0.3, ["-H"]),
        (0.3, ["-u", choose.choice(["0", "42", "100", "101", "1000", "60000"])]),
        (0.5, ["-G", choose.choice(NAMES)]),
        (0.4, ["-h", choose.choice(["/var/lib/x", "/dev/null", "/nope/x", "/etc/nginx", "/home", "/var/lib"])]),
        (0.3, ["-g", choose.choice(["", "My user"])]),
    ):
        if choose.random() < chance:
            command += options
    return [*command, choose.choice(NAMES)]


@needs_root
@needs_x86
@pytest.mark.parametrize("release", RELEASES)
def test_accounts_are_made_as_the_real_applets_make_them(
    roots: Callable[[str], Path], release: str, tmp_path: Path
) -> None:
    for seed in range(40 if EVERYTHING else 3):
        choose = random.Random(f"{release} {seed}")
        work = tmp_path / str(seed)
        for folder in ("bin", "lib", "etc/skel", "home", "dev", "var/lib"):
            (work / folder).mkdir(parents=True)
        shutil.copy(roots(release) / "bin/busybox", work / "bin/busybox")
        for library in (roots(release) / "lib").glob("*musl*"):
            shutil.copy(library, work / "lib", follow_symlinks=False)
        for name in ("passwd", "group", "shadow"):
            subprocess.run(["cp", "-p", roots(release) / "etc" / name, work / "etc"], check=True)
        (work / "etc/skel/.profile").write_text("hello")
        (work / "bin/addgroup").symlink_to("busybox")
        tree = read_disk(work, int(time.time()))
        for _ in range(8):
            command = account_command(choose)
            # In PATH, for adduser calls addgroup.
            real = chroot(work, ["/bin/busybox", *command])
            status, said, _ = emulated(tree, " ".join(f"'{word}'" for word in ["/bin/busybox", *command]), ())
            assert (status, said) == (real.returncode, real.stdout), command
            assert shown(tree) == shown(read_disk(work, 0)), command


def emulated(tree: Tree, script: str, arguments: tuple[str, ...]) -> tuple[int, bytes, bytes]:
    """Status, output and complaints of an emulated script."""
    files, out, error = Files(tree), Output(), Output()
    shell = Shell(files, Programs(files, error), arguments, name="lib/apk/exec/t.post-install")
    status = shell.run(parse_script(script), Streams(Input(None), out, error))
    return status, encode(out.text()), encode(error.text())


# --- the shell ------------------------------------------------------------------------------------------------------

SNIPPETS = Path(__file__).with_name("snippets.txt").read_text("utf-8").removesuffix("\n").split("\n=====\n")


@needs_root
@needs_x86
@pytest.mark.parametrize("release", RELEASES if EVERYTHING else ("3.7.3", "3.12.12", "3.20.3"))
def test_scripts_do_what_they_do_in_the_real_shell(roots: Callable[[str], Path], release: str, tmp_path: Path) -> None:
    differing = []
    for number, snippet in enumerate(SNIPPETS):
        work = tmp_path / str(number)
        subprocess.run(["cp", "-a", roots(release), work], check=True)
        tree = read_disk(work, int(time.time()))
        (work / "lib/apk/exec").mkdir(parents=True, exist_ok=True)
        os.mknod(work / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        script = work / "lib/apk/exec/t.post-install"
        script.write_text(f"#!/bin/sh\n{snippet}\n")
        script.chmod(0o755)
        real = chroot(work, ["lib/apk/exec/t.post-install", "1.0-r0"])
        try:
            status, said, _ = emulated(tree, snippet, ("1.0-r0",))
        except Exception as error:  # whatever it is, it belongs to this snippet
            differing.append((snippet, repr(error)))
            continue
        theirs, ours = shown(read_disk(work, 0)), shown(tree)
        paths = [path for path in {*theirs, *ours} if theirs.get(path) != ours.get(path)]
        if (status, said) != (real.returncode, real.stdout):
            differing.append((snippet, f"real {real.returncode} {real.stdout!r}, ours {status} {said!r}"))
        elif paths:
            differing.append((snippet, f"{paths[0]}: real {theirs.get(paths[0])}, ours {ours.get(paths[0])}"))
        shutil.rmtree(work)
    assert not differing


# --- packages -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apk(data: Path, tmp_path_factory: pytest.TempPathFactory) -> GenuineApk:
    return GenuineApk(tmp_path_factory.mktemp("apk"), data)


@pytest.fixture(scope="module")
def shelves(data: Path) -> Callable[[str], Shelf]:
    opened: dict[str, Shelf] = {}

    def shelf(repository: str) -> Shelf:
        if repository not in opened:
            opened[repository] = Shelf()
            for file in sorted((data / "upstream/alpine" / repository).glob("*.apk")):
                opened[repository].add(file.read_bytes(), file.name)
        return opened[repository]

    return shelf


@needs_root
@needs_x86
def test_every_package_is_set_up_as_apk_sets_it_up(
    data: Path, apk: GenuineApk, shelves: Callable[[str], Shelf], tmp_path: Path
) -> None:
    """Single packages with their dependencies, and random sets of the closed hundred: the same tree, scripts included."""
    shelf = shelves("v3.19/main/x86_64")
    names = sorted({name for name, _ in shelf.packages})
    choose = random.Random(19)
    with_scripts = [name for (name, _), package in sorted(shelf.packages.items()) if package.control.scripts]
    sets = [[name] for name in (names if EVERYTHING else with_scripts)]
    sets += [choose.sample(names, choose.randint(2, 12)) for _ in range(200 if EVERYTHING else 6)]
    for number, wanted in enumerate(sets):
        compare_with_apk(apk, shelf, data / "upstream/alpine/v3.19/main", wanted, tmp_path / str(number))


@needs_root
@needs_x86
def test_certificates_are_bundled_and_hashed_as_apk_does(
    data: Path, apk: GenuineApk, shelves: Callable[[str], Shelf], tmp_path: Path
) -> None:
    shelf = shelves("v3.19/bench/x86_64")
    for number, wanted in enumerate((["ca-certificates"], ["alpine-base", "ca-certificates", "coreutils"])):
        folder = data / "upstream/alpine/v3.19/bench"
        tree = compare_with_apk(apk, shelf, folder, wanted, tmp_path / str(number), "--allow-untrusted")
        assert len([node for node in tree if node.path.startswith("etc/ssl/certs/")]) > 280


def compare_with_apk(
    apk: GenuineApk, shelf: Shelf, repository: Path, wanted: list[str], root: Path, *options: str
) -> Tree:
    root.mkdir()
    done = apk.run(root, *options, "-X", repository, "--initdb", "add", *wanted)
    if "unable to select" in done.stderr:
        return Tree()
    assert done.returncode == 0, (wanted, done.stderr)
    steps, packages = shelf.steps(done.stdout)
    tree = Tree(epoch=int(time.time()))
    ours = install(tree, steps, packages, world=wanted, arch="x86_64", scripts=Emulator()).tree
    assert not different(disk_entries(root), tree_entries(ours)), wanted
    shutil.rmtree(root)
    return ours


def different(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Differences of trees but for times: scripts ran at different moments."""

    def without_time(entry: Any) -> Any:
        return (*entry[:5], *entry[6:]) if entry and entry[0] == "file" else entry

    left = {path: without_time(entry) for path, entry in theirs.items() if path not in IGNORED}
    right = {path: without_time(entry) for path, entry in ours.items() if path not in IGNORED}
    return list(differences(left, right))


IGNORED = frozenset(["lib/apk/db", "dev", "etc/apk/world"])


@dataclass(frozen=True)
class Named:
    name: str


def every_script(data: Path) -> Iterator[tuple[Path, str, bytes]]:
    """Every install script of every real package: its file, its kind, its text."""
    for file in sorted((data / "upstream/alpine").rglob("*.apk")):
        control = open_package(file.read_bytes(), checksum=None, keyring=None, what=file.name).control
        for name, text in sorted(control.scripts.items()):
            yield file, name.removeprefix("."), text


def test_all_scripts_of_the_real_packages_are_understood(data: Path, roots: Callable[[str], Path]) -> None:
    """On a full root, with arguments of an upgrade; their programs are those of the image and of their own package."""
    base = read_disk(roots("3.16.9"), 1_700_000_000)
    understood = total = 0
    refused = []
    for file, kind, text in every_script(data):
        tree = base.copy()
        shelf = Shelf()
        shelf.add(file.read_bytes(), file.name)
        (sample,) = shelf.packages.values()
        assert sample.source is not None
        for entry in sample.entries:
            if entry.kind == "file" and not entry.path.startswith("bin/"):
                content = sample.source.inflate()[entry.offset : entry.offset + entry.size]
                tree.write(entry.path, bytes(content), mode=entry.mode)
        arguments = ("/bin", "/usr/bin") if kind == "trigger" else ("2.0-r0", "0.1-r0")
        total += 1
        try:
            Emulator().run(tree, Named(file.name), kind, text, arguments)
        except InstallRefused:
            understood += 1  # followed to its end, which is a failure: a file of a dependency is not there
        except ScriptNotUnderstood as error:
            refused.append(f"{file.name} {kind}: {error}")
        else:
            understood += 1
    assert total >= 49
    assert not refused, f"{understood} of {total}"
