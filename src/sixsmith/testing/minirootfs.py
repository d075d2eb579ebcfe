"""Alpine's base packages and the root file system made of them, in small.

The packages have the names, dependencies, owners, modes and script idioms of the real ones; their programs only exit. The
minirootfs is these packages installed as apk leaves them: applet links, accounts, and a database that `apk` could go on with.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from sixsmith.model.arch import ARCHES
from sixsmith.model.compression import gzip_member
from sixsmith.testing.keys import SigningKey
from sixsmith.testing.packages import SamplePackage, make_apk
from sixsmith.testing.programs import tiny_program
from sixsmith.testing.tars import TIME, SampleFile, tar_bytes

__all__ = ["APPLETS", "MINIROOTFS_WORLD", "base_packages", "install_samples", "make_minirootfs"]

MINIROOTFS_WORLD = ("alpine-baselayout", "alpine-keys", "apk-tools", "busybox")

APPLETS = (
    *(
        f"bin/{name}"
        for name in ("cat", "chmod", "chown", "cp", "echo", "false", "ln", "ls", "mkdir", "mv", "rm", "sleep")
    ),
    *(f"bin/{name}" for name in ("grep", "sed", "true", "uname")),
    *(f"sbin/{name}" for name in ("ifconfig", "nologin")),
    *(f"usr/bin/{name}" for name in ("awk", "env", "find", "head", "id", "install", "sort", "test", "wc", "wget")),
    *(f"usr/sbin/{name}" for name in ("add-shell", "addgroup", "adduser", "chroot", "deluser", "remove-shell")),
)
"""Paths of the links to busybox, in its own order."""

_DIRECTORIES = """dev etc etc/apk etc/opt etc/profile.d home lib lib/firmware media mnt opt proc:555 root:700 run sbin srv
sys:555 tmp:1777 usr usr/bin usr/lib usr/local usr/local/bin usr/local/lib usr/local/share usr/sbin usr/share var var/cache
var/empty:555 var/lib var/local var/lock var/log var/mail var/opt var/spool var/tmp:1777 bin"""

_PASSWD = b"""root:x:0:0:root:/root:/bin/ash
bin:x:1:1:bin:/bin:/sbin/nologin
daemon:x:2:2:daemon:/sbin:/sbin/nologin
mail:x:8:12:mail:/var/mail:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
"""
_GROUP = b"""root:x:0:root
bin:x:1:root,bin,daemon
daemon:x:2:root,bin,daemon
tty:x:5:
mail:x:12:mail
shadow:x:42:
users:x:100:
nogroup:x:65533:
nobody:x:65534:
"""
_SHADOW = b"".join(line.split(b":")[0] + b":!::0:::::\n" for line in _PASSWD.splitlines())
_PROFILE = b'export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\n'

_SHADOW_OWNER = "#!/bin/sh\n\nchown root:shadow /etc/shadow\nchmod 640 /etc/shadow\n\nexit 0\n"
_INSTALL_APPLETS = """#!/bin/busybox sh

# the real script runs `busybox --install -s`; the sample's program has no applets to ask for
for applet in $(cat /etc/busybox-paths.d/busybox); do
	[ -e "$applet" ] || ln -s /bin/busybox "$applet"
done

exit 0
"""
_APPLET_DIRECTORIES = ("/bin", "/usr/bin", "/sbin", "/usr/sbin", "/lib/modules/*")


def base_packages(
    release: str, arch: str, key: SigningKey | None = None, *, busybox: bytes | None = None
) -> list[SamplePackage]:
    """The packages of a minirootfs in install order, for an Alpine release (`3.12`).

    `busybox` is a static program to take instead of one that only exits: with a real one the images run.
    """
    minor = int(release.split(".")[1]) if "." in release else 99
    program = busybox or tiny_program(ARCHES[arch], seed=f"busybox {release}", weight=40_000)
    libc = f"so:libc.musl-{arch}.so.1"
    with_binsh = minor >= 17

    def sample(name: str, version: str, **about: object) -> SamplePackage:
        return make_apk(name, version, arch=arch, key=key, **about)  # type: ignore[arg-type]  # names as in make_apk

    loader = f"ld-musl-{arch}.so.1"
    return [
        sample(
            "alpine-baselayout",
            f"3.{minor}.0-r0",
            files=_baselayout(release),
            depends=["/bin/sh"],
            scripts={"post-install": _SHADOW_OWNER},
        ),
        sample(
            "musl",
            f"1.{minor}.0-r0",
            files={
                f"lib/{loader}": tiny_program(ARCHES[arch], seed=f"musl {release}", weight=24_000),
                f"lib/libc.musl-{arch}.so.1": loader,
            },
            provides=[f"{libc}=1"],
        ),
        sample(
            "busybox",
            f"1.{minor}.1-r3",
            files=[
                SampleFile("bin/busybox", program, mode=0o755),
                *([] if with_binsh else [SampleFile("bin/sh", kind="symlink", target="/bin/busybox")]),
                SampleFile("etc/busybox-paths.d/busybox", ("\n".join(APPLETS) + "\n").encode()),
                SampleFile("etc/securetty", b"console\ntty1\n"),
                SampleFile("etc/network/if-up.d/dad", b"#!/bin/sh\nexit 0\n", mode=0o775),
            ],
            depends=[libc],
            provides=["cmd:busybox"] if with_binsh else ["/bin/sh", "cmd:busybox", "cmd:sh"],
            triggers=_APPLET_DIRECTORIES,
            scripts={"post-install": _INSTALL_APPLETS, "trigger": _INSTALL_APPLETS},
        ),
        *(
            [
                sample(
                    "busybox-binsh",
                    f"1.{minor}.1-r3",
                    files={"bin/sh": "/bin/busybox"},
                    depends=[f"busybox=1.{minor}.1-r3"],
                    provides=["/bin/sh", "cmd:sh"],
                    provider_priority=100,
                )
            ]
            if with_binsh
            else []
        ),
        sample("alpine-keys", f"2.{minor}-r0", files=_keys(key, arch)),
        sample("zlib", f"1.2.{minor}-r0", **_library("libz.so.1", "1.2.11", arch, release, libc)),
        sample(
            "apk-tools",
            f"2.{minor}.0-r0",
            files={"sbin/apk": tiny_program(ARCHES[arch], seed="apk", weight=4000)},
            depends=["/bin/sh", libc, "so:libz.so.1"],
            provides=["cmd:apk"],
        ),
    ]


def _library(name: str, version: str, arch: str, release: str, libc: str) -> dict[str, object]:
    stem = name.rpartition(".so.")[0]
    program = tiny_program(ARCHES[arch], seed=f"{name} {release}", weight=6000)
    return {
        "files": {f"lib/{stem}.so.{version}": program, f"lib/{name}": f"{stem}.so.{version}"},
        "depends": [libc],
        "provides": [f"so:{name}={version}"],
    }


def _baselayout(release: str) -> list[SampleFile]:
    directories = []
    for word in _DIRECTORIES.split():
        path, _, mode = word.partition(":")
        directories.append(SampleFile(path, kind="directory", mode=int(mode or "755", 8)))
    return [
        *directories,
        SampleFile("etc/alpine-release", f"{_point(release)}\n".encode()),
        SampleFile("etc/os-release", _os_release(release)),
        SampleFile("etc/passwd", _PASSWD),
        SampleFile("etc/group", _GROUP),
        SampleFile("etc/shadow", _SHADOW, mode=0o640, group="shadow", gid=42),
        SampleFile("etc/shells", b"/bin/sh\n/bin/ash\n"),
        SampleFile("etc/profile", _PROFILE),
        SampleFile("etc/hosts", b"127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
        SampleFile("etc/mtab", kind="symlink", target="../proc/mounts"),
        SampleFile("var/run", kind="symlink", target="../run"),
        SampleFile("var/spool/mail", kind="symlink", target="../mail"),
    ]


def _point(release: str) -> str:
    from sixsmith import catalog

    return catalog.alpine(release).newest


def _os_release(release: str) -> bytes:
    text = f'NAME="Alpine Linux"\nID=alpine\nVERSION_ID={_point(release)}\nPRETTY_NAME="Alpine Linux v{release} (sample)"\n'
    return text.encode()


def _keys(key: SigningKey | None, arch: str) -> dict[str, bytes | str]:
    if key is None:
        return {"etc/apk/keys/": b""}
    return {
        f"etc/apk/keys/{key.name}": key.public,
        f"usr/share/apk/keys/{key.name}": key.public,
        f"usr/share/apk/keys/{arch}/{key.name}": f"../{key.name}",
    }


# ---- installed


def make_minirootfs(
    release: str, arch: str, key: SigningKey | None = None, *, packages: Sequence[SamplePackage] | None = None
) -> bytes:
    """A minirootfs tarball. As upstream, 3.7 to 3.9 give `./` mode 0700."""
    packages = packages if packages is not None else base_packages(release, arch, key)
    minor = int(release.split(".")[1]) if "." in release else 99
    files = install_samples(packages)
    files["etc/apk/arch"] = SampleFile("etc/apk/arch", f"{arch}\n".encode())
    files["etc/apk/world"] = SampleFile("etc/apk/world", "".join(f"{name}\n" for name in MINIROOTFS_WORLD).encode())
    lines = "".join(f"https://dl-cdn.alpinelinux.org/alpine/v{release}/{name}\n" for name in ("main", "community"))
    files["etc/apk/repositories"] = SampleFile("etc/apk/repositories", lines.encode())
    for applet in ("bin/ash", *APPLETS):
        files.setdefault(applet, SampleFile(applet, kind="symlink", target="/bin/busybox"))
    root = SampleFile(".", kind="directory", mode=0o700 if minor < 10 else 0o755)
    members = [files[path] for path in sorted(files)]
    return gzip_member(tar_bytes([root], end=False) + tar_bytes(members, prefix="./", record=10_240))


def install_samples(packages: Sequence[SamplePackage]) -> dict[str, SampleFile]:
    """The files of these packages by path, with apk's database of them; directories keep the mode of the first."""
    files: dict[str, SampleFile] = {}
    for package in packages:
        for file in package.files:
            if file.kind != "directory" or file.path not in files:
                files[file.path] = file
    database = "lib/apk/db"
    for directory in ("lib/apk", database, "etc/apk"):
        files.setdefault(directory, SampleFile(directory, kind="directory"))
    files[f"{database}/installed"] = SampleFile(f"{database}/installed", _installed(packages).encode())
    files[f"{database}/scripts.tar"] = SampleFile(f"{database}/scripts.tar", _scripts(packages))
    files[f"{database}/triggers"] = SampleFile(f"{database}/triggers", _triggers(packages).encode())
    files[f"{database}/lock"] = SampleFile(f"{database}/lock", mode=0o600)
    return files


def _installed(packages: Sequence[SamplePackage]) -> str:
    return "".join(_record(package) + "\n" for package in packages)


def _record(package: SamplePackage) -> str:
    """A package's record: its fields as apk orders them, then its directories and files."""
    order = "CPVASITULotkDp"
    lines = sorted(
        (line for line in package.record.splitlines() if line[0] in order), key=lambda line: order.index(line[0])
    )
    by_directory: dict[str, list[SampleFile]] = {}
    modes: dict[str, SampleFile] = {}
    for file in package.files:
        if file.kind == "directory":
            by_directory.setdefault(file.path, [])
            modes[file.path] = file
        else:
            by_directory.setdefault(file.path.rpartition("/")[0], []).append(file)
    for directory, members in by_directory.items():
        lines.append(f"F:{directory}")
        listed = modes.get(directory)
        if listed is not None and listed.permissions != 0o755:
            lines.append(f"M:{listed.uid}:{listed.gid}:{listed.permissions:o}")
        for file in members:
            lines.append(f"R:{file.path.rpartition('/')[2]}")
            if (file.uid, file.gid, file.permissions) != (0, 0, 0o644):
                lines.append(f"a:{file.uid}:{file.gid}:{file.permissions:o}")
            lines.append(f"Z:{_sum(file)}")
    return "\n".join(lines) + "\n"


def _sum(file: SampleFile) -> str:
    content = file.target.encode() if file.kind == "symlink" else file.content
    return "Q1" + base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()


def _scripts(packages: Sequence[SamplePackage]) -> bytes:
    members = [
        SampleFile(f"{package.name}-{package.version}.{package.checksum}.{kind}", body.encode(), mode=0o755, mtime=TIME)
        for package in packages
        for kind, body in package.scripts.items()
    ]
    return tar_bytes(members)


def _triggers(packages: Sequence[SamplePackage]) -> str:
    return "".join(f"{package.checksum} {' '.join(package.triggers)}\n" for package in packages if package.triggers)
