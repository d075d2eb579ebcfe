"""Images to boot: Alpine's own root file systems, s6-overlay's own tarballs, and a few files on top. And ways to see leftovers."""

from __future__ import annotations

import functools
import lzma
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from sixsmith.boot.image import BootImage, open_image
from sixsmith.boot.marks import is_abandoned
from sixsmith.cli import run
from sixsmith.io import kernel
from sixsmith.io.layout import open_layout
from sixsmith.io.store import Store
from sixsmith.model.arch import ARCHES
from sixsmith.model.compression import gunzip, gzip_member
from sixsmith.model.digest import digest_of
from sixsmith.model.tar import END_OF_ARCHIVE, TarEntry, padding, tar_header
from sixsmith.oci.image import ImageSettings, make_image
from sixsmith.oci.spec import LAYER_GZIP, Layer


class Device(NamedTuple):
    """A device node."""

    kind: Literal["char", "block"]
    major: int
    minor: int


File = str | tuple[int, str] | Device
"""Content, of mode 0755 where it begins with `#!`, else 0644; or mode and content; or a device."""


FROM_PACKAGES = """
name: booted
defaults:
  arch: x86_64
  base: packages
  repositories: [main]
  packages: [alpine-baselayout, alpine-release, alpine-keys, apk-tools, busybox, busybox-binsh, musl-utils]
images:
  base:
    tag: "{s6-overlay}"
    matrix: {alpine: [RELEASE], s6-overlay: [OVERLAY]}
"""


class Workshop:
    """Makes images into a store; layers are made once."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store = store
        self.upstream = data / "upstream"
        self._layers: dict[str, Layer] = {}

    def make(
        self,
        alpine: str,
        overlay: str | None,
        files: Mapping[str, File] | None = None,
        *,
        arch: str = "x86_64",
        entrypoint: Sequence[str] = ("/init",),
        links: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> BootImage:
        """An image of these files; skips the test when the upstream files are not there."""
        layers = [self._layer(self._minirootfs(alpine, arch))]
        if overlay is not None:
            layers += [self._layer(path) for path in self._tarballs(overlay, arch)]
        if files or links:
            layers.append(self._files(files or {}, links or {}))
        made = make_image(
            layers,
            ImageSettings(entrypoint=tuple(entrypoint), **settings),
            platform=ARCHES[arch].platform,
            created=0,
        )
        self.store.put(made.config)
        self.store.put(made.manifest)
        return open_image(self.store, made.descriptor, name=f"{alpine}-{overlay}", arch=arch)

    def pair(self, alpine: str, overlay: str) -> BootImage:
        """A bare image of a pair: on the minirootfs, or built from packages where the test data has only those."""
        if any((self.upstream / f"alpine/v{alpine}/releases/x86_64").glob("alpine-minirootfs-*.tar.gz")):
            return self.make(alpine, overlay)
        if not (self.upstream / f"alpine/v{alpine}/main/x86_64/APKINDEX.tar.gz").is_file():
            pytest.skip(f"no Alpine {alpine} in the test data")
        folder = self.store.root.parent / f"packages-{alpine}-{overlay}"
        folder.mkdir(exist_ok=True)
        file = folder / "sixsmith.yaml"
        file.write_text(FROM_PACKAGES.replace("RELEASE", alpine).replace("OVERLAY", overlay))
        words = ["build", "-f", file, "--mirror", self.upstream / "alpine", "--store", self.store.root, "--offline"]
        words += ["--overlay-mirror", self.upstream / "s6-overlay", "-o", folder / "dist", "-q"]
        assert run([str(word) for word in words]) == 0
        with open_layout(folder / "dist/base") as layout:
            return open_image(self.store, layout.ref(overlay), name=f"{alpine}-{overlay}", arch="x86_64")

    def _minirootfs(self, alpine: str, arch: str) -> Path:
        found = sorted((self.upstream / f"alpine/v{alpine}/releases/{arch}").glob("alpine-minirootfs-*.tar.gz"))
        if not found:
            pytest.skip(f"no minirootfs of Alpine {alpine} for {arch} in the test data")
        return found[-1]

    def _tarballs(self, overlay: str, arch: str) -> list[Path]:
        folder = self.upstream / f"s6-overlay/v{overlay}"
        names = ["s6-overlay-noarch.tar.xz", f"s6-overlay-{ARCHES[arch].overlay_v3}.tar.xz"]
        if not overlay.startswith("3."):
            names = [f"s6-overlay-{ARCHES[arch].overlay_v2}.tar.gz"]
        paths = [folder / name for name in names]
        for path in paths:
            if not path.is_file():
                pytest.skip(f"no {path.name} of s6-overlay {overlay} in the test data")
        return paths

    def _layer(self, path: Path) -> Layer:
        if str(path) not in self._layers:
            raw = path.read_bytes()
            tar = lzma.decompress(raw) if path.suffix == ".xz" else bytes(gunzip(raw, what=path.name))
            self._layers[str(path)] = self._keep(tar)
        return self._layers[str(path)]

    def _files(self, files: Mapping[str, File], links: Mapping[str, str]) -> Layer:
        tar = b""
        for path, file in files.items():
            if isinstance(file, Device):
                numbers = (file.major, file.minor)
                tar += tar_header(TarEntry(path.strip("/"), file.kind, 0o666, 0, 0, 0, device=numbers))
                continue
            if path.endswith("/"):
                mode, text = (0o755, "") if isinstance(file, str) else file
                tar += tar_header(TarEntry(path.strip("/"), "directory", mode, 0, 0, 0))
                continue
            mode, text = (0o755 if file.startswith("#!") else 0o644, file) if isinstance(file, str) else file
            content = text.encode()
            tar += tar_header(TarEntry(path.strip("/"), "file", mode, 0, 0, 0, len(content))) + content
            tar += padding(len(content))
        for path, target in links.items():
            tar += tar_header(TarEntry(path.strip("/"), "symlink", 0o777, 0, 0, 0, 0, target))
        return self._keep(tar + END_OF_ARCHIVE)

    def _keep(self, tar: bytes) -> Layer:
        blob = gzip_member(tar, 1)
        return Layer(self.store.put(blob), len(blob), digest_of(tar), LAYER_GZIP)


def longrun(name: str, run: str, *, major: int = 3, needs: Sequence[str] = (), **more: File) -> dict[str, File]:
    """A longrun's files for an overlay; `more` are other files of its directory (`notification_fd`, `finish`)."""
    extra = {key.replace("_", "-"): value for key, value in more.items()}
    if major < 3:
        base = f"etc/services.d/{name}"
        return {f"{base}/run": run, **{f"{base}/{key}": value for key, value in extra.items()}}
    base = f"etc/s6-overlay/s6-rc.d/{name}"
    files: dict[str, File] = {f"{base}/type": "longrun\n", f"{base}/run": run, f"{base}/dependencies.d/base": ""}
    files |= {f"{base}/dependencies.d/{other}": "" for other in needs}
    files |= {f"{base}/{key}": value for key, value in extra.items()}
    return {**files, f"etc/s6-overlay/s6-rc.d/user/contents.d/{name}": ""}


def oneshot(name: str, script: str, *, major: int = 3, needs: Sequence[str] = ()) -> dict[str, File]:
    """A oneshot's files, or a cont-init.d script."""
    if major < 3:
        return {f"etc/cont-init.d/{name}": script}
    base = f"etc/s6-overlay/s6-rc.d/{name}"
    files: dict[str, File] = {
        f"{base}/type": "oneshot\n",
        f"{base}/up": f"/etc/s6-overlay/scripts/{name}\n",
        f"etc/s6-overlay/scripts/{name}": script,
        f"{base}/dependencies.d/base": "",
    }
    files |= {f"{base}/dependencies.d/{other}": "" for other in needs}
    return {**files, f"etc/s6-overlay/s6-rc.d/user/contents.d/{name}": ""}


def major_of(overlay: str) -> int:
    return int(overlay.split(".")[0])


# --- what there is, and what is left


def usable(runner: str) -> str | None:
    """Why a runner cannot be used here, or None."""
    if runner != "namespaces" and shutil.which(runner, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        return f"{runner} is not installed"
    pid = os.fork()
    if pid == 0:
        try:
            kernel.unshare(kernel.NEWUSER | kernel.NEWNS | kernel.NEWPID)
            os._exit(0)
        except OSError:
            os._exit(1)
    return "this system makes no user namespaces" if os.waitpid(pid, 0)[1] else None


TOKEN = f"/nowhere/boot-{os.getpid()}-{os.urandom(4).hex()}"
"""In the module path of this process and of those that it starts, and so in the words of their keepers: others may boot too."""
sys.path.append(TOKEN)

_seen: set[tuple[str, str]] = set()


def ours() -> set[str]:
    """Keepers of this test run, and every process in a namespace that one of their children was seen in."""
    keepers, foreign, parents, namespaces = set(), set(), {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            parents[entry.name] = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            namespaces[entry.name] = {(kind, str((entry / "ns" / kind).readlink())) for kind in ("pid", "mnt", "net")}
        except OSError:
            continue
        if b"sixsmith.boot.keeper" in words and TOKEN.encode() in words:
            keepers.add(entry.name)
        elif (b"sixsmith" in words or b"pytest" in words) and entry.name != str(os.getpid()):
            foreign.add(entry.name)
    family = set(keepers)
    for _ in range(12):
        family |= {child for child, parent in parents.items() if parent in family}
    own = {(kind, str(Path(f"/proc/self/ns/{kind}").readlink())) for kind in ("pid", "mnt", "net")}
    for pid in family:
        _seen.update(namespaces.get(pid, set()) - own)
    strays = {pid for pid, found in namespaces.items() if found & _seen}
    return family | {pid for pid in strays if not _belongs_to(foreign, pid, parents)}


def _belongs_to(foreign: set[str], pid: str, parents: Mapping[str, str]) -> bool:
    """Whether the process has one of these above it, and not this one: the kernel gives a namespace's number anew as soon as
    it is free, so another test run's container may have the number of one of ours."""
    while pid in parents:
        if pid in foreign:
            return True
        if pid == str(os.getpid()):
            return False
        pid = parents[pid]
    return False


@functools.cache
def _leave_shared_mounts() -> None:
    """What others on this machine mount meanwhile is not ours, and must not look like a leftover."""
    if os.geteuid() == 0:
        kernel.unshare(kernel.NEWNS)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)


def remains() -> dict[str, set[str]]:
    """Processes of ours (with their namespaces), mounts and control groups that there are now."""
    _leave_shared_mounts()
    return {
        "processes": ours(),
        "mounts": set(Path("/proc/self/mountinfo").read_text().splitlines()),
        "control groups": {
            str(path) for path in Path("/sys/fs/cgroup").glob("**/sixsmith-*") if not _is_at_work_elsewhere(path.name)
        },
    }


def _is_at_work_elsewhere(group: str) -> bool:
    """Whether a control group's maker lives and is no process of this test: another test boots at the same time."""
    mark = group.removeprefix("sixsmith-").rpartition("-")[0]
    if mark.count("-") != 2 or is_abandoned(mark):
        return False
    pid = mark.split("-")[1]
    while pid not in ("0", "1", str(os.getpid())):
        try:
            pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return False
    return pid != str(os.getpid())


def leftovers(before: Mapping[str, set[str]], *, seconds: float = 8.0) -> dict[str, set[str]]:
    """What is there now that was not before, when it does not go away by itself soon."""
    deadline = time.monotonic() + seconds
    while True:
        left = {kind: found - before[kind] for kind, found in remains().items()}
        left = {kind: found for kind, found in left.items() if found}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
