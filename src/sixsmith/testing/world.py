"""A whole outside world on one disk: an Alpine mirror, s6-overlay's releases, and the key and checksums that make both trusted.

Everything is made on the spot, so nothing here is anybody's but ours; whoever runs it on a machine without a network sees
the product do what it does with the real mirrors. Its files are not the ones that Alpine and s6-overlay published under the
same names: `keys` and `checksums` say what to trust instead, and only for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sixsmith import catalog
from sixsmith.model.arch import ARCHES
from sixsmith.model.digest import Digest, digest_of, hex_of
from sixsmith.testing.keys import SigningKey, sample_key
from sixsmith.testing.loopback import Fault, FileServer
from sixsmith.testing.minirootfs import base_packages, make_minirootfs
from sixsmith.testing.overlay import make_overlay_release
from sixsmith.testing.packages import SamplePackage, make_apk
from sixsmith.testing.programs import tiny_program
from sixsmith.testing.repository import make_repository
from sixsmith.testing.tars import SampleFile

__all__ = ["OVERLAYS", "RELEASES", "World", "community_packages", "main_packages", "make_world"]

RELEASES = ("3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.22", "3.23")
OVERLAYS = ("1.21.8.0", "2.0.0.1", "3.2.3.0")


@dataclass(frozen=True, slots=True)
class World:
    """Where things are. `keys` is a folder of public keys, `checksums` a file of `sha256  name` lines, and `pins` the same
    as a mapping; names are `alpine-minirootfs-….tar.gz` and `s6-overlay-<version>/<file>`."""

    root: Path
    key: SigningKey
    releases: tuple[str, ...]
    arches: tuple[str, ...]
    overlays: tuple[str, ...]
    pins: dict[str, Digest] = field(repr=False)

    @property
    def mirror(self) -> Path:
        """The Alpine mirror."""
        return self.root / "alpine"

    @property
    def overlay_mirror(self) -> Path:
        """s6-overlay's releases, `v<version>/<file>`."""
        return self.root / "s6-overlay"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def key_file(self) -> Path:
        """The public key that signed everything here."""
        return self.keys / self.key.name

    @property
    def checksums(self) -> Path:
        return self.root / "checksums.txt"

    def serve(self, *, faults: Iterable[Fault] = (), resumable: bool = True) -> FileServer:
        """A server on loopback with `/alpine` and `/s6-overlay`, to be used in a `with`; `faults` go wrong on purpose."""
        return FileServer(self.root, faults=faults, resumable=resumable)


def make_world(
    root: Path,
    *,
    releases: Sequence[str] = RELEASES,
    arches: Sequence[str] = ("x86_64", "aarch64"),
    overlays: Sequence[str] = OVERLAYS,
    key: SigningKey | None = None,
    busybox: dict[str, bytes] | None = None,
) -> World:
    """Writes a world below `root`. `busybox` has a static busybox for an architecture whose images shall run.

    Raises UsageError for a release or architecture that never existed; architectures that one release lacks are left out
    there.
    """
    key = key or sample_key()
    key.write_public(root / "keys")
    pins: dict[str, Digest] = {}
    for release in releases:
        for arch in arches:
            if arch in catalog.alpine(release).arches:
                pins |= _make_release(root / "alpine", release, arch, key, (busybox or {}).get(arch))
    for version in overlays:
        present = [arch for arch in arches if arch in catalog.overlay(version).arches]
        folder = make_overlay_release(root / "s6-overlay", version, present)
        for path in sorted(folder.glob("*.tar.*z")):
            pins[f"s6-overlay-{version}/{path.name}"] = digest_of(path.read_bytes())
    world = World(root, key, tuple(releases), tuple(arches), tuple(overlays), pins)
    world.checksums.write_text("".join(f"{hex_of(pins[name])}  {name}\n" for name in sorted(pins)))
    return world


def _make_release(mirror: Path, release: str, arch: str, key: SigningKey, busybox: bytes | None) -> dict[str, Digest]:
    base = base_packages(release, arch, key, busybox=busybox)
    make_repository(mirror, release, "main", arch, [*base, *main_packages(release, arch, key)], key)
    make_repository(mirror, release, "community", arch, community_packages(release, arch, key), key)
    folder = mirror / f"v{release}" / "releases" / arch
    folder.mkdir(parents=True, exist_ok=True)
    point = catalog.alpine(release).newest
    name = f"alpine-minirootfs-{point}-{arch}.tar.gz"
    data = make_minirootfs(release, arch, key, packages=base)
    (folder / name).write_bytes(data)
    for algorithm in ("sha256", "sha512"):
        (folder / f"{name}.{algorithm}").write_text(f"{hashlib.new(algorithm, data).hexdigest()}  {name}\n")
    (folder / "latest-releases.yaml").write_text(_latest(release, point, arch, name, data))
    return {name: digest_of(data)}


def _latest(release: str, point: str, arch: str, name: str, data: bytes) -> str:
    lines = {
        "title": '"Mini root filesystem"',
        "branch": f"v{release}",
        "arch": arch,
        "version": point,
        "flavor": "alpine-minirootfs",
        "file": name,
        "iso": name,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "sha512": hashlib.sha512(data).hexdigest(),
    }
    return "---\n-\n" + "".join(f"  {field}: {value}\n" for field, value in lines.items())


# ---- packages


class _Shelf:
    """Makes packages of one release and architecture; versions follow the release, so that tags differ."""

    def __init__(self, release: str, arch: str, key: SigningKey | None) -> None:
        self.release, self.arch, self.key = release, arch, key
        self.minor = int(release.split(".")[1]) if "." in release else 99
        self.libc = f"so:libc.musl-{arch}.so.1"

    def program(self, name: str, weight: int = 3000) -> bytes:
        return tiny_program(ARCHES[self.arch], seed=f"{name} {self.release}", weight=weight)

    def make(self, name: str, version: str, **about: object) -> SamplePackage:
        return make_apk(name, version, arch=self.arch, key=self.key, level=1, **about)  # type: ignore[arg-type]  # as there

    def library(self, name: str, version: str, so: str, *, needs: Sequence[str] = ()) -> SamplePackage:
        """A package with one shared library `lib….so.N`."""
        real = f"usr/lib/{so}.0"
        files: dict[str, bytes | str] = {real: self.program(so), f"usr/lib/{so}": f"{so}.0"}
        return self.make(
            name, version, files=files, depends=[self.libc, *needs], provides=[f"so:{so}={version.partition('-')[0]}"]
        )


def main_packages(release: str, arch: str, key: SigningKey | None = None) -> list[SamplePackage]:
    """What `main` has besides the packages of the minirootfs."""
    shelf = _Shelf(release, arch, key)
    minor, libc = shelf.minor, shelf.libc
    packages = [
        shelf.make(
            "alpine-base",
            f"3.{minor}.0-r0",
            files=(),
            depends=["alpine-baselayout", "apk-tools", "busybox", "alpine-keys"],
        ),
        shelf.library("ncurses-libs", f"6.{minor}-r0", "libncursesw.so.6"),
        shelf.library("readline", f"8.{minor}.0-r0", "libreadline.so.8", needs=["so:libncursesw.so.6"]),
        shelf.make(
            "bash",
            f"5.{minor}.16-r1",
            files=[
                SampleFile("bin/bash", shelf.program("bash", 300_000)),
                SampleFile("etc/bash/bashrc", b"PS1='$ '\n"),
            ],
            depends=["/bin/sh", libc, "so:libreadline.so.8"],
            provides=[f"cmd:bash=5.{minor}.16-r1"],
            scripts={
                "post-install": "#!/bin/sh\n\nadd-shell '/bin/bash'\n\nexit 0\n",
                "pre-deinstall": "#!/bin/sh\n\nremove-shell '/bin/bash'\n\nexit 0\n",
            },
        ),
        shelf.make(
            "su-exec",
            "0.2-r0" if minor < 11 else "0.2-r3",
            files={"sbin/su-exec": shelf.program("su-exec")},
            depends=[libc],
            provides=["cmd:su-exec"],
        ),
        shelf.library("pcre", f"8.{minor}-r0", "libpcre.so.1"),
        shelf.make("nginx", f"1.{minor}.2-r0", **_nginx(shelf)),
        shelf.library("libgcc", f"10.{minor}-r0", "libgcc_s.so.1"),
        shelf.library("libstdc++", f"10.{minor}-r0", "libstdc++.so.6", needs=["so:libgcc_s.so.1"]),
        shelf.make(
            "nodejs",
            f"{2 * (minor // 2)}.{minor}.0-r0",
            files={"usr/bin/node": shelf.program("node", 420_000)},
            depends=[libc, "so:libstdc++.so.6", "so:libz.so.1"],
            provides=[f"cmd:node={2 * (minor // 2)}.{minor}.0-r0"],
        ),
    ]
    return packages if minor >= 16 else [*packages, _npm(shelf)]


def community_packages(release: str, arch: str, key: SigningKey | None = None) -> list[SamplePackage]:
    """What `community` has: shadow, curl, and npm where Alpine moved it."""
    shelf = _Shelf(release, arch, key)
    tools = ("chage", "useradd", "usermod", "groupadd", "groupmod")
    suid = [SampleFile("usr/bin/passwd", shelf.program("passwd"), mode=0o4755)]
    packages = [
        shelf.library("linux-pam", f"1.{shelf.minor}.0-r0", "libpam.so.0"),
        shelf.make(
            "shadow",
            f"4.{shelf.minor}-r0",
            files=[
                *(SampleFile(f"usr/sbin/{name}", shelf.program(name, 1500)) for name in tools),
                *suid,
                SampleFile("etc/login.defs", b"UID_MIN 1000\n"),
            ],
            depends=[shelf.libc, "so:libpam.so.0"],
            provides=[f"cmd:{name}=4.{shelf.minor}-r0" for name in tools],
        ),
        shelf.make("tini", f"0.{shelf.minor}.0-r0", files={"sbin/tini": shelf.program("tini")}, depends=[shelf.libc]),
    ]
    return packages if shelf.minor < 16 else [*packages, _npm(shelf)]


def _npm(shelf: _Shelf) -> SamplePackage:
    home = "usr/lib/node_modules/npm"
    script = b"#!/usr/bin/env node\nrequire('../lib/cli.js')(process)\n"
    files: dict[str, bytes | str] = {
        f"{home}/bin/npm-cli.js": script,
        f"{home}/lib/cli.js": b"module.exports = process => process.exit(0)\n" * 200,
        f"{home}/package.json": b'{"name": "npm"}\n',
        "usr/bin/npm": "../lib/node_modules/npm/bin/npm-cli.js",
    }
    return shelf.make("npm", f"7.{shelf.minor}.0-r0", files=files, depends=["nodejs"], provides=["cmd:npm"])


def _nginx(shelf: _Shelf) -> dict[str, object]:
    add_user = (
        "#!/bin/sh\n\naddgroup -S -g 82 www-data 2>/dev/null\naddgroup -S nginx 2>/dev/null\n"
        "adduser -S -D -H -h /var/lib/nginx -s /sbin/nologin -G nginx -g nginx nginx 2>/dev/null\n"
        "addgroup nginx www-data 2>/dev/null\n\nexit 0\n"
    )
    return {
        "files": [
            SampleFile("usr/sbin/nginx", shelf.program("nginx", 60_000)),
            SampleFile("etc/nginx/nginx.conf", b"user nginx;\nevents {}\nhttp { include /etc/nginx/http.d/*.conf; }\n"),
            SampleFile("etc/nginx/http.d/default.conf", b"server { listen 80 default_server; return 404; }\n"),
            SampleFile("var/lib/nginx", kind="directory", mode=0o750, owner="nginx", group="nginx"),
            SampleFile("var/lib/nginx/tmp", kind="directory", mode=0o700, owner="nginx", group="nginx"),
            SampleFile("var/log/nginx", kind="directory", owner="nginx", group="nginx"),
            SampleFile("var/lib/nginx/logs", kind="symlink", target="/var/log/nginx"),
        ],
        "depends": ["/bin/sh", shelf.libc, "so:libpcre.so.1", "so:libz.so.1"],
        "provides": [f"cmd:nginx=1.{shelf.minor}.2-r0"],
        "scripts": {"pre-install": add_user},
    }
