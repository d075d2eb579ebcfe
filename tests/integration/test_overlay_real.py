"""Real s6-overlay releases on real Alpine roots."""

from __future__ import annotations

from pathlib import Path

import pytest

from sixsmith.errors import FormatError, UsageError
from sixsmith.model.arch import ARCHES
from sixsmith.overlay import check_base, check_bundles, lay_overlay, overlay_settings, read_overlay
from sixsmith.overlay.release import Overlay
from sixsmith.rootfs.bases import Minirootfs, read_minirootfs
from sixsmith.rootfs.tree import BASE, OVERLAY

pytestmark = pytest.mark.data

RELEASES = [
    ("1.21.4.0", "x86_64", ["s6-overlay-amd64.tar.gz"]),
    ("1.21.4.0", "aarch64", ["s6-overlay-aarch64.tar.gz"]),
    ("2.1.0.2", "x86_64", ["s6-overlay-amd64.tar.gz"]),
    ("3.1.6.2", "x86_64", ["s6-overlay-noarch.tar.xz", "s6-overlay-x86_64.tar.xz"]),
    ("3.2.1.0", "x86_64", ["s6-overlay-noarch.tar.xz", "s6-overlay-x86_64.tar.xz"]),
    (
        "3.2.1.0",
        "x86_64",
        [
            "s6-overlay-noarch.tar.xz",
            "s6-overlay-x86_64.tar.xz",
            "s6-overlay-symlinks-noarch.tar.xz",
            "s6-overlay-symlinks-arch.tar.xz",
        ],
    ),
]
IDS = [f"{version}-{arch}-{len(names)}" for version, arch, names in RELEASES]


def real_overlay(data: Path, version: str, arch: str, names: list[str]) -> Overlay:
    folder = data / "upstream" / "s6-overlay" / f"v{version}"
    return read_overlay(version, ARCHES[arch], {name: (folder / name).read_bytes() for name in names})


def real_bases(data: Path, arch: str) -> list[Minirootfs]:
    found = sorted(data.glob(f"upstream/alpine/*/releases/{arch}/*.tar.gz"))
    assert found
    return [read_minirootfs(path.read_bytes(), what=path.name) for path in found]


def test_every_minirootfs_is_read(data: Path) -> None:
    for base in real_bases(data, "x86_64") + real_bases(data, "aarch64"):
        root = base.tree.get("")
        assert root is not None and root.mode == 0o755
        assert base.tree.read("etc/alpine-release")
        assert b"P:musl" in (base.tree.read("lib/apk/db/installed") or b"")
        assert all(node.origin == BASE for node in base.tree)
        old = (base.tree.read("etc/alpine-release") or b"").decode().startswith(("3.7.", "3.8.", "3.9."))
        assert bool(base.mended) == old
        if old:
            assert base.mended == ("its root directory has mode 0700 and owner 0:0",)


@pytest.mark.parametrize(("version", "arch", "names"), RELEASES, ids=IDS)
def test_an_overlay_is_the_same_for_every_alpine(data: Path, version: str, arch: str, names: list[str]) -> None:
    overlay = real_overlay(data, version, arch, names)
    assert overlay.findings == ()
    for base in real_bases(data, arch):
        before = dict(base.tree.nodes)
        laid = lay_overlay(base.tree, overlay)
        assert not laid.relocated
        assert laid.nodes == overlay.nodes
        assert laid.findings == ()
        for path, node in before.items():
            assert base.tree.nodes[path] is node, f"{path} of the base was touched"
        assert check_base(base.tree, version) == ()
        assert check_bundles(base.tree, version) == ()
        init = base.tree.find("init")
        assert init is not None and init.origin == OVERLAY and init.mode == 0o755


def test_what_is_laid_is_what_the_tarballs_have(data: Path) -> None:
    v1 = lay_overlay(real_bases(data, "x86_64")[0].tree, real_overlay(data, *RELEASES[0]))
    assert v1.source is not None and v1.entries is not None and v1.size == 1698637
    v2 = {node.path: node for node in real_overlay(data, *RELEASES[2]).nodes}
    assert v2["bin/s6-overlay-preinit"].mode == 0o4755
    v3 = real_overlay(data, *RELEASES[5])
    nodes = {node.path: node for node in v3.nodes}
    suid = [path for path, node in nodes.items() if node.mode & 0o6000]
    assert suid == ["package/admin/s6-overlay-helpers-0.1.2.0/command/s6-overlay-suexec"]
    assert nodes[suid[0]].mode == 0o4755
    assert nodes["usr/bin/with-contenv"].target == "../../command/with-contenv"
    assert {(node.uid, node.gid) for node in v3.nodes} == {(0, 0)}
    assert not [node.path for node in v3.nodes if node.kind == "directory" and node.mode & 0o022]
    assert overlay_settings("3.2.1.0").path.startswith("/command:")
    assert "/command" not in overlay_settings("3.2.1.0", symlinks=v3.symlinks).path


@pytest.mark.parametrize(("version", "arch", "names"), RELEASES[:3] + RELEASES[4:], ids=IDS[:3] + IDS[4:])
def test_a_usr_merged_root_stays_one(data: Path, version: str, arch: str, names: list[str]) -> None:
    overlay = real_overlay(data, version, arch, names)
    tree = real_bases(data, arch)[-1].tree
    for directory in ("bin", "sbin", "lib"):
        for node in [node for node in tree if node.path.startswith(f"{directory}/")]:
            tree.nodes.pop(node.path)
        tree.remove(directory)
        tree.make_symlink(directory, f"usr/{directory}")
    tree.write("usr/bin/sh", b"#!", mode=0o755)
    laid = lay_overlay(tree, overlay)
    assert laid.relocated == (overlay.major < 3)
    for directory in ("bin", "sbin", "lib"):
        assert tree.nodes[directory].kind == "symlink"
    assert not [path for path in tree.nodes if path.startswith(("bin/", "sbin/", "lib/"))]
    execlineb = tree.find("usr/bin/execlineb" if overlay.major < 3 or overlay.symlinks else "command/execlineb")
    assert execlineb is not None and execlineb.kind == "file" and execlineb.size > 1000
    if overlay.major < 3:
        assert tree.nodes["usr/bin/execlineb"].kind == "file"
    assert tree.find("init") is not None
    assert check_base(tree, version) == ()


def test_the_wrong_machine_half_or_release_is_refused(data: Path) -> None:
    folder = data / "upstream" / "s6-overlay"
    amd64 = (folder / "v1.21.4.0" / "s6-overlay-amd64.tar.gz").read_bytes()
    with pytest.raises(FormatError, match=r"/bin/background is for x86_64, and the image is for aarch64"):
        read_overlay("1.21.4.0", ARCHES["aarch64"], {"s6-overlay-aarch64.tar.gz": amd64})
    noarch = (folder / "v3.2.1.0" / "s6-overlay-noarch.tar.xz").read_bytes()
    other = (folder / "v3.1.6.2" / "s6-overlay-noarch.tar.xz").read_bytes()
    arch = (folder / "v3.2.1.0" / "s6-overlay-x86_64.tar.xz").read_bytes()
    with pytest.raises(UsageError, match="without its arch tarball"):
        read_overlay("3.2.1.0", ARCHES["x86_64"], {"s6-overlay-noarch.tar.xz": noarch})
    with pytest.raises(FormatError, match=r"a tarball is that of 3\.1\.6\.2"):
        read_overlay("3.2.1.0", ARCHES["x86_64"], {"s6-overlay-noarch.tar.xz": other, "s6-overlay-x86_64.tar.xz": arch})
