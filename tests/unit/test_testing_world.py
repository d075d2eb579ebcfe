"""The shipped test world is made of what the real one is made of: read with the product's own readers and with plain tools."""

from __future__ import annotations

import base64
import gzip
import hashlib
import shutil
import stat
import subprocess
import tarfile
import urllib.request
from http.client import IncompleteRead
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError

import pytest

from sixsmith import catalog
from sixsmith.apk.archive import open_package, package_entries
from sixsmith.apk.index import PackageIndex
from sixsmith.apk.signature import Keyring
from sixsmith.errors import DigestMismatch, SignatureError
from sixsmith.model.arch import ARCHES
from sixsmith.model.compression import gunzip, split_members
from sixsmith.model.digest import digest_of, hex_of
from sixsmith.overlay import read_overlay
from sixsmith.rootfs.bases import read_minirootfs
from sixsmith.rootfs.tree import Tree
from sixsmith.testing import (
    Fault,
    SampleFile,
    SigningKey,
    World,
    assert_same_tree,
    make_apk,
    make_world,
    overlay_tarballs,
    sample_key,
    tar_bytes,
    tiny_program,
    tree_lines,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    return make_world(root, releases=("3.9", "3.22"), arches=("x86_64", "aarch64"), overlays=("2.0.0.1", "3.2.3.0"))


def keyring(world: World) -> Keyring:
    return Keyring({world.key.name: world.key_file.read_bytes()})


# ---- packages


def test_a_package_is_what_abuild_writes() -> None:
    key = sample_key()
    package = make_apk(
        "tool",
        "1.2-r3",
        files=[
            SampleFile("usr/bin/tool", tiny_program(ARCHES["x86_64"]), mode=0o4755),
            SampleFile("usr/bin/twin", kind="hardlink", target="usr/bin/tool"),
            SampleFile("usr/lib/tool", kind="directory", mode=0o750, owner="nginx", group="www-data"),
            SampleFile("usr/share/" + "long/" * 30 + "name", b"x"),
            SampleFile("usr/bin/t", kind="symlink", target="tool", xattrs={"user.note": b"\xff\0"}),
        ],
        key=key,
        depends=["musl", "so:libz.so.1"],
        provides=["cmd:tool=1.2-r3"],
        install_if=["nginx", "bash"],
        replaces=["old-tool<1"],
        replaces_priority=5,
        provider_priority=7,
        triggers=["/usr/share/*"],
        scripts={"post-install": "#!/bin/sh\nexit 0\n", "trigger": "#!/bin/sh\n"},
    )
    signature, control, data = split_members(package.data, what="tool")
    assert not signature[1].endswith(bytes(1024)) and not control[1].endswith(bytes(1024))
    assert len(data[1]) % 10_240 == 0 and data[1].endswith(bytes(1024))
    control_member = package.data[control[0] : data[0]]
    checksum = base64.b64encode(hashlib.sha1(control_member).digest()).decode()
    assert package.checksum == "Q1" + checksum

    opened = open_package(package.data, checksum=None, keyring=Keyring({key.name: key.public}), what="tool")
    info = opened.control.info
    assert (info.name, info.version, info.depends) == ("tool", "1.2-r3", ("musl", "so:libz.so.1"))
    assert info.install_if == ("nginx", "bash") and info.triggers == ("/usr/share/*",)
    assert (info.replaces_priority, info.provider_priority) == (5, 7)
    assert set(opened.control.scripts) == {".post-install", ".trigger"}
    assert opened.data_digest == digest_of(package.data[data[0] :])

    entries = {entry.path: entry for entry in package_entries(gunzip(opened.data, what="data"), "tool")}
    assert entries["usr/bin/tool"].mode == 0o4755
    assert entries["usr/bin/tool"].checksum == hashlib.sha1(tiny_program(ARCHES["x86_64"])).digest()
    assert entries["usr/bin/t"].checksum == hashlib.sha1(b"tool").digest()
    assert entries["usr/bin/t"].xattrs == (("user.note", b"\xff\0"),)
    assert entries["usr/bin/twin"].kind == "hardlink" and entries["usr/bin/twin"].target == "usr/bin/tool"
    assert (entries["usr/lib/tool"].uname, entries["usr/lib/tool"].mode) == ("nginx", 0o750)
    assert "usr/share/" + "long/" * 30 + "name" in entries
    with tarfile.open(fileobj=BytesIO(gzip.decompress(package.data[data[0] :]))) as archive:
        assert archive.getnames() == list(entries)


@pytest.mark.parametrize("algorithm", ["RSA", "RSA256"])
def test_a_signature_covers_the_control_segment(algorithm: str) -> None:
    key = sample_key()
    trusted = Keyring({key.name: key.public})
    package = make_apk("tool", files={"x": b"x"}, key=key, algorithm=algorithm)
    open_package(package.data, checksum=None, keyring=trusted, what="tool")
    with pytest.raises(SignatureError):
        open_package(make_apk("tool", files={"x": b"x"}).data, checksum=None, keyring=trusted, what="tool")
    other = SigningKey.generate(key.name, bits=1024)
    forged = make_apk("tool", files={"x": b"x"}, key=other)
    with pytest.raises(SignatureError):
        open_package(forged.data, checksum=None, keyring=trusted, what="tool")
    flipped = package.data[:-30] + bytes([package.data[-30] ^ 1]) + package.data[-29:]
    with pytest.raises(DigestMismatch):
        open_package(flipped, checksum=None, keyring=trusted, what="tool")


def test_the_same_package_is_the_same_bytes() -> None:
    one, two = (make_apk("tool", files={"usr/bin/x": b"x"}, key=sample_key()) for _ in range(2))
    assert one == two


# ---- repositories


def test_every_index_is_signed_and_names_files_that_are_there(world: World) -> None:
    from sixsmith.apk.signature import verify_index

    for folder in sorted(world.mirror.glob("v*/*/*/APKINDEX.tar.gz")):
        index = PackageIndex.parse(verify_index(folder.read_bytes(), keyring(world), what=str(folder)).text)
        files = {path.name: path.read_bytes() for path in folder.parent.glob("*.apk")}
        names = set()
        for record in index:
            name = f"{record.name}-{record.version}.apk"
            names.add(name)
            assert record.size == len(files[name])
            opened = open_package(files[name], checksum=record.checksum, keyring=keyring(world), what=name)
            assert opened.control.info.depends == record.depends
        assert names == set(files) and names


def test_every_dependency_has_a_provider(world: World) -> None:
    from sixsmith.testing.minirootfs import base_packages
    from sixsmith.testing.world import community_packages, main_packages

    for release in world.releases:
        packages = [
            *base_packages(release, "aarch64"),
            *main_packages(release, "aarch64"),
            *community_packages(release, "aarch64"),
        ]
        fields = [dict(line.split(":", 1) for line in each.record.splitlines()) for each in packages]
        provided = {each.name for each in packages}
        provided |= {word.partition("=")[0] for each in fields for word in each.get("p", "").split()}
        needed = {word.partition("=")[0] for each in fields for word in each.get("D", "").split()}
        assert needed <= provided


# ---- the minirootfs


def test_a_minirootfs_has_a_database_of_what_is_in_it(world: World) -> None:
    for release in world.releases:
        for arch in world.arches:
            point = catalog.alpine(release).newest
            name = f"alpine-minirootfs-{point}-{arch}.tar.gz"
            data = (world.mirror / f"v{release}" / "releases" / arch / name).read_bytes()
            tree = read_minirootfs(data, what=name).tree
            assert tree.read("etc/alpine-release") == f"{point}\n".encode()
            assert tree.read(f"etc/apk/keys/{world.key.name}") == world.key.public
            assert _database_faults(tree) == []
            assert tree.find("usr/bin/env") == tree.find("bin/busybox")
            published = (world.mirror / f"v{release}" / "releases" / arch / f"{name}.sha256").read_text()
            assert published == f"{hex_of(world.pins[name])}  {name}\n"
            assert digest_of(data) == world.pins[name]


def _database_faults(tree: Tree) -> list[str]:
    """Files of the database that the tree does not have with that sum and mode."""
    faults, folder, path, mode = [], "", "", 0o644
    for line in (tree.read("lib/apk/db/installed") or b"").decode().splitlines():
        if line.startswith("F:"):
            folder = line[2:]
            if tree.nodes[folder].kind != "directory":
                faults.append(folder)
        elif line.startswith("R:"):
            path, mode = f"{folder}/{line[2:]}".lstrip("/"), 0o644
        elif line.startswith("a:"):
            mode = int(line.rpartition(":")[2], 8)
        elif line.startswith("Z:"):
            node = tree.nodes[path]
            content = node.target.encode() if node.kind == "symlink" else (tree.read(path) or b"")
            checksum = "Q1" + base64.b64encode(hashlib.sha1(content).digest()).decode()
            if checksum != line[2:] or node.mode != mode:
                faults.append(path)
    return faults


def test_the_latest_release_is_announced(world: World) -> None:
    import yaml

    folder = world.mirror / "v3.22" / "releases" / "x86_64"
    (latest,) = yaml.safe_load((folder / "latest-releases.yaml").read_text())
    assert latest["flavor"] == "alpine-minirootfs"
    assert digest_of((folder / latest["file"]).read_bytes()) == f"sha256:{latest['sha256']}"


# ---- the overlay


@pytest.mark.parametrize("version", ["1.21.8.0", "1.22.1.0", "2.0.0.1", "3.0.0.2", "3.1.6.2", "3.2.3.0", "3.2.3.2"])
@pytest.mark.parametrize("arch", ["x86_64", "x86", "aarch64", "armhf", "armv7"])
def test_overlays_are_complete_and_for_their_machine(version: str, arch: str) -> None:
    files = overlay_tarballs(version, arch)
    overlay = read_overlay(version, ARCHES[arch], files)
    assert overlay.findings == ()
    names = catalog.overlay_files(
        version, ARCHES[arch], symlinks=version.startswith("3"), syslogd=version.startswith("3")
    )
    assert tuple(files) == names
    tree = Tree(overlay.nodes)
    for node in overlay.nodes:
        if node.kind == "symlink":
            assert tree.find(node.path) is not None, f"{node.path} leads nowhere"


def test_pins_and_checksums_say_what_to_trust(world: World) -> None:
    lines = dict(reversed(line.split("  ")) for line in world.checksums.read_text().splitlines())
    assert {name: f"sha256:{digest}" for name, digest in lines.items()} == world.pins
    name = "s6-overlay-3.2.3.0/s6-overlay-noarch.tar.xz"
    path = world.overlay_mirror / "v3.2.3.0" / "s6-overlay-noarch.tar.xz"
    assert world.pins[name] == digest_of(path.read_bytes())
    assert path.with_name(path.name + ".sha256").read_text() == f"{lines[name]}  {path.name}\n"


def test_a_second_world_with_the_same_key_is_the_same(world: World, tmp_path: Path) -> None:
    again = make_world(tmp_path, releases=world.releases, arches=world.arches, overlays=world.overlays, key=world.key)
    assert again.pins == world.pins
    files = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        path.relative_to(world.root): path.read_bytes() for path in world.root.rglob("*") if path.is_file()
    }


# ---- programs


@pytest.mark.parametrize(("arch", "machine"), [("x86_64", "x86_64"), ("aarch64", "aarch64")])
def test_a_tiny_program_runs(arch: str, machine: str, tmp_path: Path) -> None:
    import platform

    if platform.machine() != machine or platform.system() != "Linux":
        pytest.skip(f"this machine does not run {arch} programs")
    program = tmp_path / "program"
    program.write_bytes(tiny_program(ARCHES[arch], status=42, weight=500))
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 42


# ---- served


def test_the_world_is_served_and_can_misbehave(world: World) -> None:
    name = "alpine/v3.22/main/x86_64/APKINDEX.tar.gz"
    content = (world.root / name).read_bytes()
    faults = [
        Fault("flip", path="APKINDEX", times=1),
        Fault("status", path="APKINDEX", status=503, times=1),
        Fault("break-off", path="APKINDEX", after=100, times=1),
    ]
    with world.serve(faults=faults) as server:
        url = f"{server.url}/{name}"
        flipped = urllib.request.urlopen(url, timeout=10).read()
        assert flipped != content and len(flipped) == len(content)
        with pytest.raises(HTTPError, match="503"):
            urllib.request.urlopen(url, timeout=10)
        with pytest.raises(IncompleteRead) as broken, urllib.request.urlopen(url, timeout=10) as reply:
            reply.read()
        assert broken.value.partial == content[:100]
        assert urllib.request.urlopen(url, timeout=10).read() == content
        with pytest.raises(HTTPError, match="404"):
            urllib.request.urlopen(f"{server.url}/alpine/v9.9/main", timeout=10)


# ---- trees


def test_trees_differ_in_lines() -> None:
    one, two = Tree(), Tree()
    for tree in (one, two):
        tree.write("etc/same", b"same")
        tree.write("etc/other", b"one" if tree is one else b"two")
        tree.make_symlink("bin", "usr/bin")
    two.write("only", b"", mode=0o600)
    assert_same_tree(one, one)
    with pytest.raises(AssertionError) as caught:
        assert_same_tree(one, two)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the trees differ:"
    assert [line[:12] for line in lines[1:]] == ["+ /etc/other", "- /etc/other", "- /only file"]
    two.remove("only")
    assert_same_tree(one, two, ignoring=("content",))
    assert "/bin symlink 0:0 @0 -> usr/bin" in tree_lines(one)


# ---- with real tools, where they are


def test_gnu_tar_reads_a_package(tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("no tar on this machine")
    package = make_apk("tool", files=[SampleFile("usr/bin/tool", b"#!/bin/sh\n"), SampleFile("usr/bin/t", b"")])
    path = tmp_path / "tool.apk"
    path.write_bytes(package.data)
    run = subprocess.run(
        ["tar", "-xzf", path, "-C", tmp_path, "--warning=no-unknown-keyword"], capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert stat.S_IMODE((tmp_path / "usr/bin/tool").stat().st_mode) & 0o100
    assert (tmp_path / ".PKGINFO").is_file()


def test_tar_members_are_read_alike_by_python() -> None:
    files = [SampleFile("d", kind="directory", mode=0o1777), SampleFile("d/f", b"x" * 700, uid=5, owner="five")]
    with tarfile.open(fileobj=BytesIO(tar_bytes(files))) as archive:
        found = [(each.name, each.mode, each.uname, each.size) for each in archive]
    assert found == [("d", 0o1777, "root", 0), ("d/f", 0o644, "five", 700)]
