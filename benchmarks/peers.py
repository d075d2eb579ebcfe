"""The tools that people use today, doing the same work: each is skipped, with a reason, where it is not there."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Sample, run
from benchmarks.world import ARCH, Ground

APK_PARTS = ("apk-tools", "musl", "libcrypto3", "libssl3", "zlib")


@dataclass(frozen=True)
class Peer:
    """One way to an image. `once` does it in an empty folder and returns the sample and the bytes of the result."""

    name: str
    once: Callable[[Path], tuple[Sample, int]] | None
    reason: str = ""


def peers(ground: Ground, folder: Path) -> list[Peer]:
    """apk and tar first: everything else is held against it."""
    apk = _apk(ground, folder)
    if isinstance(apk, str):
        return [Peer(name, None, apk) for name in ("apk add, tar, gzip -6, sha256", "buildah", "umoci")]
    return [
        Peer("apk add, tar, gzip -6, sha256", lambda place: _with_tar(ground, apk, place)),
        _with_buildah(ground, apk),
        _with_umoci(ground, apk),
    ]


def _apk(ground: Ground, folder: Path) -> list[str] | str:
    """The real apk, run by its own loader; a reason when there is none."""
    if ground.data is None:
        return "SIXSMITH_TEST_DATA has no real apk"
    for part in APK_PARTS:
        found = sorted((ground.repository / ARCH).glob(f"{part}-[0-9]*.apk"))
        if not found:
            return f"the packages to run apk itself are not complete ({part})"
        with tarfile.open(found[0], "r:gz") as tar:
            tar.extractall(folder / "apk", filter="tar")
    if os.uname().machine != ARCH:
        return f"the real apk is for {ARCH}"
    home = folder / "apk"
    return [
        str(home / "lib/ld-musl-x86_64.so.1"),
        "--library-path",
        f"{home}/lib:{home}/usr/lib",
        str(home / "sbin/apk"),
    ]


def _add(ground: Ground, apk: list[str], root: str) -> str:
    """The shell words that install everything into `root`."""
    words = [*apk, "--root", root, "--initdb", "--arch", ARCH, "--no-scripts", "--no-network", "--no-cache"]
    words += ["--keys-dir", str(ground.key.parent), "-X", str(ground.repository), "add", *ground.packages]
    return " ".join(words) + " >/dev/null"


def _with_tar(ground: Ground, apk: list[str], place: Path) -> tuple[Sample, int]:
    script = f"set -e; {_add(ground, apk, f'{place}/root')}; tar -C {place}/root -cf {place}/layer.tar ."
    script += f"; gzip -6 {place}/layer.tar; sha256sum {place}/layer.tar.gz"
    return run(["sh", "-c", script]), (place / "layer.tar.gz").stat().st_size


def _with_umoci(ground: Ground, apk: list[str]) -> Peer:
    if not shutil.which("umoci"):
        return Peer("apk add, umoci repack", None, "umoci is not installed")

    def once(place: Path) -> tuple[Sample, int]:
        script = f"set -e; cd {place}; umoci init --layout image; umoci new --image image:it"
        script += f"; umoci unpack --image image:it bundle; {_add(ground, apk, f'{place}/bundle/rootfs')}"
        script += "; umoci repack --image image:it bundle"
        return run(["sh", "-c", script]), _blobs(place / "image")

    return Peer("apk add, umoci repack", once)


def _with_buildah(ground: Ground, apk: list[str]) -> Peer:
    if not shutil.which("buildah"):
        return Peer("buildah", None, "buildah is not installed")
    if os.geteuid():
        return Peer("buildah", None, "mounting a container needs root")

    def once(place: Path) -> tuple[Sample, int]:
        store = f"buildah --root {place}/store --runroot {place}/run --storage-driver vfs"
        script = f"set -e; c=$({store} from scratch); m=$({store} mount $c); {_add(ground, apk, '$m')}"
        script += (
            f"; {store} umount $c >/dev/null; {store} commit -q --disable-compression=false $c oci:{place}/image:it"
        )
        return run(["sh", "-c", script]), _blobs(place / "image")

    return Peer("apk add in buildah, commit", once)


def _blobs(layout: Path) -> int:
    """Bytes of all blobs of an image layout."""
    return sum(path.stat().st_size for path in (layout / "blobs/sha256").iterdir())
