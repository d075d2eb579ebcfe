"""Real packages, root file systems and overlay tarballs as layers."""

from __future__ import annotations

import lzma
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import layer_world as world
from sixsmith.io.store import Store
from sixsmith.layers.merge import apply_nodes, tree_from_archive
from sixsmith.layers.plan import ExistingLayer, LayerOverlay, LayerPackage, plan_layers
from sixsmith.layers.stacked import stacked_tree
from sixsmith.layers.write import write_layers
from sixsmith.model.arch import ARCHES
from sixsmith.model.compression import gunzip, split_members
from sixsmith.model.digest import Digest, digest_of
from sixsmith.model.tar import parse_tar
from sixsmith.oci.image import ImageSettings, make_image
from sixsmith.oci.validate import validate_image
from sixsmith.rootfs.tree import OVERLAY, Node, Tree, node_from_entry

pytestmark = pytest.mark.data


class Apk:
    """A package's data segment, and what its control segment promises about it."""

    def __init__(self, path: Path) -> None:
        blob = path.read_bytes()
        segments = split_members(blob, what=path.name)
        control = segments[1][1]
        pkginfo = next(entry for entry in parse_tar(control, what=path.name) if entry.path == ".PKGINFO")
        fields = dict(
            line.split(" = ", 1)
            for line in control[pkginfo.offset : pkginfo.offset + pkginfo.size].decode().splitlines()
            if " = " in line
        )
        self.name, self.version, self.datahash = fields["pkgname"], fields["pkgver"], fields.get("datahash")
        self._raw = blob[segments[2][0] :]
        self.size = len(self._raw)
        self.digest: Digest = digest_of(self._raw)

    def raw(self) -> bytes:
        return self._raw

    def inflate(self) -> bytes:
        return bytes(gunzip(self._raw, what=self.name))


def installed(apks: Sequence[Apk], tree: Tree | None = None) -> tuple[Tree, list[LayerPackage]]:
    """What apk would have on disk, near enough: first directory wins, later file wins, dot files are not installed."""
    tree = tree or Tree(epoch=1_700_000_000)
    packages = []
    for apk in apks:
        origin = f"apk:{apk.name}"
        entries = parse_tar(apk.inflate(), what=apk.name)
        nodes = [
            node_from_entry(entry, origin=origin, source=apk)
            for entry in entries
            if not entry.path.startswith(".")
            and not (entry.kind == "directory" and entry.path in tree.nodes)
            and not (entry.path in tree.nodes and tree.nodes[entry.path].kind == "directory")
        ]
        tree = apply_nodes(tree, nodes)
        packages.append(LayerPackage(apk.name, apk.version, origin, apk, entries, apk.size))
    return tree, packages


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(scope="module")
def bench(data: Path) -> list[Apk]:
    paths = sorted((data / "upstream/alpine/v3.19/bench/x86_64").glob("*.apk"))
    assert len(paths) == 61
    return [Apk(path) for path in paths]


def test_every_verbatim_layer_is_the_datahash_that_alpine_signed(data: Path, store: Store) -> None:
    paths = sorted((data / "upstream/alpine/v3.19/main/x86_64").glob("*.apk"))
    apks = [Apk(path) for path in paths]
    promised = {f"{apk.name} {apk.version}": f"sha256:{apk.datahash}" for apk in apks}
    verbatim = 0
    for some in (apks[:60], apks[60:]):
        tree, packages = installed(some)
        plan = plan_layers(tree=tree, packages=packages, strategy="per-package")
        layers = write_layers(plan, store)
        for planned, layer in zip(plan, layers, strict=True):
            if planned.kind == "verbatim":
                assert layer.digest == promised[layer.names[0]]
                verbatim += 1
            elif planned.kind == "spliced":
                assert planned.reason.startswith("written anew: ")
    assert verbatim >= 60


def test_the_bench_set_merges_to_one_tree_by_every_strategy(bench: list[Apk], store: Store) -> None:
    tree, packages = installed(bench)
    tree.write("etc/hello", b"hello\n")
    tree.change("bin/busybox", mode=0o4755)
    wanted = world.seen(tree)
    counts = {}
    for strategy in ("shared", "single", "per-package"):
        plan = plan_layers(tree=tree, packages=packages, strategy=strategy)
        layers = write_layers(plan, store)
        unpacked = world.unpacked(layers, store)
        assert world.exactly(stacked_tree(plan, layers, store, Tree())) == world.exactly(unpacked)
        found = world.seen(unpacked)
        found.pop("")
        assert found == wanted
        counts[strategy] = len(layers)
        made = make_image(layers, ImageSettings(), platform=ARCHES["x86_64"].platform, created=0)
        store.put(made.config)
        store.put(made.manifest)
        assert validate_image(store, made.descriptor, deep=True) == []
    assert counts["shared"] == 16
    assert counts["single"] == 1
    assert 55 <= counts["per-package"] <= 62


def test_reasons_why_not(bench: list[Apk]) -> None:
    tree, packages = installed(bench)
    plan = plan_layers(tree=tree, packages=packages)
    notes = {name: note for layer in plan for name, note in layer.notes}
    assert notes["jq 1.7.1-r0"] == "the layer budget is used up by bigger packages"
    assert notes["zlib 1.3.1-r0"] == "smaller than 256 KiB"


def test_a_directory_that_must_lose_its_mode_does_not_keep_a_package_from_being_a_layer(bench: list[Apk]) -> None:
    tree, packages = installed(bench)
    plan = plan_layers(tree=tree, packages=packages)
    assert ("openssh-client-common 9.6_p1-r0",) in [layer.names for layer in plan if layer.kind == "verbatim"]
    above = {node.path: node.mode for segment in plan.layers[-1].segments for node in segment.nodes}
    assert above["var/empty"] == tree.nodes["var/empty"].mode == 0o555


def test_one_changed_package_moves_its_layer_and_nothing_else(bench: list[Apk], store: Store) -> None:
    without = [apk for apk in bench if apk.name != "git"]
    tree, packages = installed(bench)
    before = write_layers(plan_layers(tree=tree, packages=packages), store)
    tree, packages = installed(without)
    after = write_layers(plan_layers(tree=tree, packages=packages, budget=15), store)
    gone = {layer.digest for layer in before} - {layer.digest for layer in after}
    assert {layer.names for layer in before if layer.digest in gone} == {("git 2.43.4-r0",)}


@pytest.mark.parametrize(
    ("release", "verbatim"),
    [
        ("3.7.3", False),
        ("3.8.5", False),
        ("3.9.6", False),
        ("3.10.9", True),
        ("3.11.13", True),
        ("3.12.12", True),
        ("3.16.9", True),
        ("3.20.3", True),
    ],
)
def test_a_minirootfs_is_the_base_as_it_is_where_that_is_right(
    data: Path, store: Store, release: str, verbatim: bool
) -> None:
    tree, base = minirootfs(data, release)
    (layer,) = plan_layers(tree=tree, base=base, base_tree=tree).layers
    assert (layer.kind, not layer.segments) == ("base", verbatim)
    if not verbatim:
        assert "its root directory has mode 0700" in layer.reason
    (written,) = write_layers(plan_layers(tree=tree, base=base, base_tree=tree), store)
    assert (written.digest == base[0].digest) == verbatim
    assert world.seen(world.unpacked([written], store)) == world.seen(tree)
    assert tree.nodes[""].mode == 0o755


class Tarball:
    """A gzip or xz archive as a source."""

    def __init__(self, path: Path) -> None:
        self._raw = path.read_bytes()
        self.digest: Digest = digest_of(self._raw)
        self.size = len(self._raw)
        self._tar = lzma.decompress(self._raw) if path.suffix == ".xz" else bytes(gunzip(self._raw, what=path.name))
        self.entries = parse_tar(self._tar, what=path.name, strip=True)

    def raw(self) -> bytes:
        return self._raw

    def inflate(self) -> bytes:
        return self._tar


def minirootfs(data: Path, release: str) -> tuple[Tree, list[ExistingLayer]]:
    branch = "v" + release.rpartition(".")[0]
    folder = data / "upstream/alpine" / branch / "releases/x86_64"
    tarball = Tarball(folder / f"alpine-minirootfs-{release}-x86_64.tar.gz")
    tree = tree_from_archive(tarball.entries, tarball, epoch=1_700_000_000)
    below = ExistingLayer(
        tarball.digest,
        tarball.size,
        name=f"minirootfs {release}",
        reason="as it is",
        source=tarball,
        entries=tarball.entries,
    )
    return tree, [below]


def overlay_nodes(tarballs: Sequence[Tarball]) -> list[Node]:
    nodes: dict[str, Node] = {}
    for tarball in tarballs:
        for entry in tarball.entries:
            if entry.path and not (entry.kind == "directory" and entry.path in nodes):
                nodes[entry.path] = node_from_entry(entry, origin=OVERLAY, source=tarball)
    return list(nodes.values())


@pytest.mark.parametrize(
    ("version", "files", "verbatim"),
    [
        ("1.21.4.0", ["s6-overlay-amd64.tar.gz"], True),
        ("2.1.0.2", ["s6-overlay-amd64.tar.gz"], True),
        ("3.2.1.0", ["s6-overlay-noarch.tar.xz", "s6-overlay-x86_64.tar.xz"], False),
    ],
)
def test_the_overlay_is_one_blob_for_every_release(
    data: Path, store: Store, version: str, files: list[str], verbatim: bool
) -> None:
    tarballs = [Tarball(data / "upstream/s6-overlay" / f"v{version}" / name) for name in files]
    nodes = overlay_nodes(tarballs)
    only = tarballs[0] if len(tarballs) == 1 else None
    overlay = LayerOverlay(
        f"s6-overlay {version}", nodes, only, only.entries if only else None, only.size if only else 0
    )
    digests = set()
    for release in ("3.8.5", "3.12.12", "3.20.3"):
        base_tree, base = minirootfs(data, release)
        tree = base_tree.copy()
        fresh = [node for node in nodes if node.kind != "directory" or node.path not in tree.nodes]
        tree = apply_nodes(tree, fresh)
        plan = plan_layers(tree=tree, base=base, base_tree=base_tree, overlay=overlay)
        layers = write_layers(plan, store)
        unpacked = world.unpacked(layers, store)
        assert world.seen(unpacked) == world.seen(tree)
        assert world.exactly(stacked_tree(plan, layers, store, base_tree)) == world.exactly(unpacked)
        digests |= {layer.digest for layer in layers if layer.kind == "overlay"}
    assert len(digests) == 1
    assert (digests == {tarballs[0].digest}) == verbatim


_MEASURED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import test_layers_real as real
from sixsmith.io.store import Store
from sixsmith.layers.plan import plan_layers
from sixsmith.layers.write import write_layers
tree, packages = real.installed([real.Apk(path) for path in sorted(Path(sys.argv[1]).glob("*.apk"))])
with Store(Path(sys.argv[2])) as store:
    for strategy in ("shared", "single"):
        write_layers(plan_layers(tree=tree, packages=packages, strategy=strategy), store)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def test_writing_the_bench_set_takes_less_than_100_mb(data: Path, tmp_path: Path) -> None:
    folder = data / "upstream/alpine/v3.19/bench/x86_64"
    here = Path(__file__).parent
    command = [sys.executable, "-c", _MEASURED, str(folder), str(tmp_path / "s"), str(here), str(here.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 << 10  # VmHWM is in KiB; ru_maxrss would be that of pytest, which started it
