"""Bad input, each with its clear error and nothing half-written: the whole program against a sample world that misbehaves.

Every test looks at the exit code, at the message (where, what was expected, the nearest name or what helps), and at what is
left behind; and where the outside was at fault, at the next build, which must succeed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commandline import FAMILY, Outcome, Workplace, clean_environment, digests, files_below
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest
from sixsmith.oci.spec import MANIFEST, Descriptor
from sixsmith.oci.validate import validate_image
from sixsmith.testing.keys import SigningKey
from sixsmith.testing.loopback import Fault
from sixsmith.testing.registry import FakeRegistry, Ways, full, refusal
from sixsmith.testing.world import World

ROUNDS = int(os.environ.get("SIXSMITH_CRASH_ROUNDS", "6"))

BASH = "v3.22/main/x86_64/bash-5.22.16-r1.apk"


def refused(place: Workplace, outcome: Outcome, code: int, *told: str) -> None:
    """The command failed with this code, said all of this on stderr, and left nothing."""
    assert outcome.code == code, outcome
    for text in told:
        assert text in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    place.nothing_was_made()


def next_build_succeeds(place: Workplace) -> None:
    """With a healthy outside, on the same store."""
    done = place.build("--json")
    assert done.code == 0, done.err
    assert place.damages() == []
    with Store(place.store) as store:
        for image in done.document["images"]:
            digest = Digest(image["digest"])
            described = Descriptor(MANIFEST, digest, store.size(digest))
            assert validate_image(store, described, deep=True) == []
    assert sorted(path.name for path in place.dist.iterdir()) == ["one"]


# ---- the family file


@pytest.mark.parametrize("command", ["list", "plan", "build", "push", "export dockerfiles", "lock"])
def test_a_misspelt_key(place: Workplace, command: str) -> None:
    place.write(FAMILY.replace("packages:", "pakages:"))
    outcome = place.run(*command.split(), *place.options())
    refused(
        place, outcome, 2, "sixsmith.yaml:2:28: error: unknown key 'pakages' in defaults", "did you mean 'packages'?"
    )


def test_all_mistakes_of_a_file_at_once(place: Workplace) -> None:
    place.write(FAMILY.replace("packages:", "pakages:").replace("3.22", "3.222").replace("x86_64", "x86-64"))
    outcome = place.build()
    refused(place, outcome, 2, "unknown key 'pakages'", "unknown architecture 'x86-64'", "did you mean 'x86_64'")
    assert "nothing was done" in outcome.err
    assert outcome.err.splitlines()[-1] == "3 problems; nothing was done"


def test_mistakes_as_json(place: Workplace) -> None:
    place.write(FAMILY.replace("packages:", "pakages:"))
    outcome = place.build("--json")
    assert outcome.code == 2
    assert outcome.document["ok"] is False and outcome.document["exit_code"] == 2
    assert outcome.document["problems"] == [
        {
            "file": "sixsmith.yaml",
            "line": 2,
            "column": 28,
            "message": "unknown key 'pakages' in defaults",
            "hint": "did you mean 'packages'?",
        }
    ]
    place.nothing_was_made()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[3.22]", "[3.222]", ("sixsmith.yaml:6:23: error: unknown Alpine release '3.222'",)),
        ("[3.22]", "[3.1]", ("sixsmith.yaml:6:23: error: ", "3.1")),
        (
            "[3.2.3.0]",
            "[3.2.3.9]",
            ("sixsmith.yaml:6:43: error: unknown s6-overlay release '3.2.3.9'", "newest is 3.2.3"),
        ),
        ("[3.2.3.0]", "[3.2.0.9]", ("sixsmith.yaml:6:43: error: unknown s6-overlay release", "did you mean '3.2.0.")),
        ("[3.2.3.0]", "[v3.2.3.00]", ("sixsmith.yaml:6:43: error: unknown s6-overlay release", "did you mean")),
    ],
)
def test_an_unknown_release(place: Workplace, old: str, new: str, told: tuple[str, ...]) -> None:
    place.write(FAMILY.replace(old, new))
    refused(place, place.build(), 2, *told)


def test_an_alpine_release_without_this_architecture(place: Workplace) -> None:
    place.write(FAMILY.replace("x86_64", "riscv64").replace("3.22", "3.12").replace("3.2.3.0", "2.0.0.1"))
    told = "sixsmith.yaml:6:23: error: Alpine 3.12 has no riscv64"
    refused(place, place.build(), 2, told, "it has x86, x86_64, armhf, aarch64")


def test_an_overlay_release_without_this_architecture(place: Workplace) -> None:
    place.write(FAMILY.replace("x86_64", "riscv64").replace("3.2.3.0", "2.0.0.1"))
    told = "sixsmith.yaml:6:43: error: s6-overlay 2.0.0.1 has no files for riscv64"
    refused(place, place.build(), 2, told, "it has x86_64, x86, aarch64")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x7fELF\0\xff", "sixsmith.yaml:1: error: not UTF-8"),
        (b"", "the file is empty"),
        (b"name: [a\nimages: b", "error: not YAML"),
        (b"- a", "expected the family file, found a list"),
    ],
)
def test_a_file_that_is_no_family_file(place: Workplace, content: bytes, told: str) -> None:
    place.file.write_bytes(content)
    refused(place, place.build(), 2, told)


def test_no_family_file(place: Workplace) -> None:
    place.file.unlink()
    refused(place, place.build(), 2, "no sixsmith.yaml here", "`sixsmith init` writes one")
    refused(place, place.build("-f", "."), 2, "is a folder")


# ---- packages


def test_a_package_that_does_not_exist(place: Workplace) -> None:
    place.write(FAMILY.replace("[bash]", "[bahs]"))
    refused(place, place.build(), 1, "one:3.22-3.2.3.0/x86_64", "bahs", "did you mean 'bash'?")
    place.write(FAMILY.replace("[bash]", "[zzzzzz]"))
    refused(place, place.build(), 1, "zzzzzz")


def test_a_version_that_does_not_exist(place: Workplace) -> None:
    place.write(FAMILY.replace("[bash]", '["bash=9-r0"]'))
    refused(place, place.build(), 1, "one:3.22-3.2.3.0/x86_64", "bash=9-r0", "5.22.16-r1")


def test_packages_that_exclude_each_other(place: Workplace) -> None:
    place.write(FAMILY.replace("[bash]", '[bash, "!readline"]'))
    why = "the request excludes readline, but bash-5.22.16-r1 needs so:libreadline.so.8"
    refused(place, place.build(), 1, "sixsmith.yaml:6:", "one:3.22-3.2.3.0/x86_64", why, "drop !readline")


def test_unsatisfiable_as_json(place: Workplace) -> None:
    place.write(FAMILY.replace("[bash]", "[bahs]"))
    document = place.build("--json").document
    assert (document["ok"], document["exit_code"]) == (False, 1)
    assert document["subjects"] == ["bahs (no such package)"]


# ---- keys and checksums


def other_key(folder: Path, name: str) -> Path:
    """A folder with a key that signed nothing here, under this name."""
    SigningKey.generate(name).write_public(folder)
    return folder


def test_an_index_signed_by_nobody_we_know(place: Workplace, tmp_path: Path) -> None:
    outcome = place.build("--keys", other_key(tmp_path / "keys", "other.rsa.pub"))
    key = place.world.key.name
    refused(place, outcome, 4, "main/x86_64/APKINDEX.tar.gz", f"signed by {key}, which is not trusted here")
    assert "other.rsa.pub" in outcome.err  # what is trusted
    next_build_succeeds(place)


def test_another_key_under_the_right_name(place: Workplace, tmp_path: Path) -> None:
    key = place.world.key.name
    outcome = place.build("--keys", other_key(tmp_path / "keys", key))
    refused(place, outcome, 4, f"the signature by {key} is wrong", "the key of that name is another one")
    next_build_succeeds(place)


def test_a_key_that_is_none(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / place.world.key.name).write_text("not a key\n")
    refused(place, place.build("--keys", tmp_path / "keys"), 4, place.world.key.name)


def test_no_key_at_all(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    refused(place, place.build("--keys", tmp_path / "keys"), 2, "no *.pub in it")
    refused(place, place.build("--keys", tmp_path / "nowhere"), 2, "nowhere")


def test_an_untrusted_index_can_be_taken_and_that_is_said(place: Workplace, tmp_path: Path) -> None:
    outcome = place.build("--keys", other_key(tmp_path / "keys", "other.rsa.pub"), "--allow-untrusted")
    assert outcome.code == 0
    assert "signatures are NOT checked" in outcome.err


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("alpine-minirootfs-3.22", "releases/x86_64/alpine-minirootfs-3.22"),
        ("s6-overlay-3.2.3.0/s6-overlay-x86_64", "v3.2.3.0/s6-overlay-x86_64.tar.xz"),
        ("s6-overlay-3.2.3.0/s6-overlay-noarch", "v3.2.3.0/s6-overlay-noarch.tar.xz"),
    ],
)
def test_a_release_file_with_a_wrong_checksum(place: Workplace, tmp_path: Path, named: str, path: str) -> None:
    lines = place.world.checksums.read_text().splitlines()
    wrong = tmp_path / "checksums.txt"
    wrong.write_text("".join(f"{'0' * 64 if named in line else line[:64]}{line[64:]}\n" for line in lines))
    outcome = place.build("--checksums", wrong)
    refused(place, outcome, 4, path, f"expected sha256:{'0' * 64}, got sha256:", "try another mirror")
    next_build_succeeds(place)


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ("s6-overlay", "alpine-minirootfs-3.22.6-x86_64.tar.gz: its sha512 is not c3b8e0ae0f22"),
        ("alpine-minirootfs", "v3.2.3.0/s6-overlay-noarch.tar.xz: expected sha256:b720f9d9340e"),
    ],
)
def test_files_that_are_not_the_released_ones(place: Workplace, tmp_path: Path, kept: str, told: str) -> None:
    """Without `--checksums` the sample's files are not what Alpine and s6-overlay released under these names."""
    lines = [line for line in place.world.checksums.read_text().splitlines() if kept in line]
    (tmp_path / "some").write_text("\n".join(lines))
    refused(place, place.build("--checksums", tmp_path / "some"), 4, told, "try another mirror")
    next_build_succeeds(place)


@pytest.mark.parametrize("content", [b"no checksums here", b"\xff\xfe\x00", b"abc  file\n"])
def test_a_checksums_file_that_is_none(place: Workplace, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sums").write_bytes(content)
    refused(place, place.build("--checksums", tmp_path / "sums"), 2, f"{tmp_path}/sums:1: error: ", "is no sha256")


# ---- a mirror that lies, lacks, stalls, breaks off


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("main/x86_64/APKINDEX", ("main/x86_64/APKINDEX.tar.gz: the signature by ", "is wrong")),
        (r"bash-.*\.apk", ("bash-5.22.16-r1.apk", "promises")),
        ("minirootfs.*gz$", ("alpine-minirootfs-3.22", "expected sha256:")),
        ("x86_64.tar.xz$", ("v3.2.3.0/s6-overlay-x86_64.tar.xz: expected sha256:",)),
    ],
    ids=["index", "package", "minirootfs", "overlay"],
)
def test_one_flipped_bit(place: Workplace, path: str, told: tuple[str, ...]) -> None:
    with place.served(Fault("flip", path=path, times=-1)) as (_, options):
        refused(place, place.run("build", *options), 4, *told)
    next_build_succeeds(place)


@pytest.mark.parametrize("part", range(4))
def test_one_flipped_bit_anywhere_in_a_package(place: Workplace, tmp_path: Path, part: int) -> None:
    """Signature, control and data segment: no byte of a package is taken unverified."""
    mirror = tmp_path / "mirror"
    shutil.copytree(place.world.mirror, mirror)
    package = mirror / BASH
    raw = bytearray(package.read_bytes())
    chance = random.Random(part)
    where = chance.randrange(len(raw)) if part else chance.randrange(2000)
    raw[where] ^= 1 << chance.randrange(8)
    package.write_bytes(raw)
    outcome = place.build("--mirror", mirror)
    refused(place, outcome, 4, "bash-5.22.16-r1.apk")
    next_build_succeeds(place)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("main/x86_64/APKINDEX", "v3.22/main/x86_64/APKINDEX.tar.gz is not on the mirror http://127.0.0.1:"),
        (r"bash-.*\.apk", f"{BASH} is not on the mirror http://127.0.0.1:"),
        ("minirootfs|latest", "v3.22/releases/x86_64/alpine-minirootfs-3.22"),
        ("noarch.tar.xz$", "v3.2.3.0/s6-overlay-noarch.tar.xz is not on the mirror http://127.0.0.1:"),
    ],
    ids=["index", "package", "minirootfs", "overlay"],
)
def test_a_file_that_is_not_on_the_mirror(place: Workplace, path: str, told: str) -> None:
    with place.served(Fault("status", path=path, times=-1, status=404)) as (server, options):
        refused(place, place.run("build", *options), 3, told)
        asked = [request for request in server.asked("GET", path) if not request.path.endswith((".yaml", ".sha256"))]
        assert len(asked) == 1, "404 is final: it is not asked again"
    next_build_succeeds(place)


def test_a_package_that_is_not_in_the_folder(place: Workplace, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(place.world.mirror, mirror)
    (mirror / BASH).unlink()
    refused(place, place.build("--mirror", mirror), 3, f"{BASH} is not on the mirror {mirror}")


def test_a_folder_that_is_not_there(place: Workplace, tmp_path: Path) -> None:
    outcome = place.build("--mirror", tmp_path / "nowhere")
    refused(place, outcome, 3, f"the mirror {tmp_path}/nowhere is not there")
    refused(place, place.build("--mirror", "ftp://mirror.invalid/alpine"), 2, "is no place for a mirror")


PLACES = [("main/x86_64/APKINDEX", "APKINDEX.tar.gz"), (r"bash-.*\.apk", BASH), ("minirootfs.*gz$", "minirootfs-3.22")]


@pytest.mark.parametrize(("path", "told"), PLACES, ids=["index", "package", "minirootfs"])
def test_a_mirror_that_stalls(place: Workplace, path: str, told: str) -> None:
    with place.served(Fault("stall", method="GET", path=path, times=-1, after=300)) as (server, options):
        refused(place, place.run("build", *options), 3, told, "could not be had from the mirror", "stalled for 0.3 s")
        assert len(server.asked("GET", path)) == 2, "tried again once, as --retries 1 says"
    next_build_succeeds(place)


@pytest.mark.parametrize(("path", "told"), PLACES, ids=["index", "package", "minirootfs"])
def test_a_mirror_that_breaks_off(place: Workplace, path: str, told: str) -> None:
    with place.served(Fault("break-off", method="GET", path=path, times=-1, after=300)) as (server, options):
        refused(
            place, place.run("build", *options), 3, told, "could not be had from the mirror", "broke off after 300 of"
        )
        assert len(server.asked("GET", path)) == 2
    next_build_succeeds(place)


@pytest.mark.parametrize("kind", ["stall", "break-off"])
def test_a_mirror_that_fails_once_is_asked_again(place: Workplace, kind: str) -> None:
    path = r"bash-.*\.apk"
    with place.served(Fault(kind, method="GET", path=path, after=70_000)) as (server, options):  # type: ignore[arg-type]  # a kind of fault
        done = place.run("build", *options)
        assert done.code == 0, done.err
        assert len(server.asked("GET", path)) == 2
    assert place.damages() == []


def test_a_mirror_that_is_not_there(place: Workplace) -> None:
    outcome = place.build("--mirror", "http://127.0.0.1:1/alpine", "--retries", "0")
    refused(place, outcome, 3, "could not be had from the mirror http://127.0.0.1:1/alpine", "cannot connect")


def test_a_mirror_with_credentials_does_not_show_them(place: Workplace) -> None:
    outcome = place.build("--mirror", "http://user:secret@127.0.0.1:1/alpine", "--retries", "0")
    refused(place, outcome, 3, "cannot connect")
    assert "secret" not in outcome.err


def test_patience_comes_from_the_environment_too(place: Workplace) -> None:
    with place.served(Fault("status", path="APKINDEX", times=-1, status=503)) as (server, options):
        del options[-4:]
        outcome = place.run("build", *options, environment={"SIXSMITH_RETRIES": "0", "SIXSMITH_TIMEOUT": "2"})
        refused(place, outcome, 3, "the server answers 503")
        assert len(server.asked("GET", "APKINDEX")) == 1


# ---- registries


def pushed(place: Workplace, registry: FakeRegistry, *arguments: str) -> Outcome:
    return place.run("push", registry.host, *place.options(), "--timeout", "0.5", "--retries", "1", *arguments)


def push_refused(place: Workplace, registry: FakeRegistry, *told: str) -> None:
    """The push failed and said this; no tag was set; the store is whole; and the next push goes through."""
    outcome = pushed(place, registry, "-q")
    assert outcome.code == 3, outcome
    for text in told:
        assert text in outcome.err, outcome.err
    assert outcome.out == ""
    assert registry.holds("one", "3.22-3.2.3.0") is None
    assert place.damages() == []
    registry.faults.clear()
    again = pushed(place, registry, "--json")
    assert again.code == 0, again.err
    assert registry.holds("one", "3.22-3.2.3.0") == again.document["pushed"][0]["digest"]


def test_a_registry_that_refuses(place: Workplace) -> None:
    with FakeRegistry(faults=[refusal("/v2/one/", times=-1)]) as registry:
        push_refused(place, registry, f"{registry.host} refuses", "403", f"docker login {registry.host}")


def test_a_registry_that_wants_an_account(place: Workplace) -> None:
    with FakeRegistry(Ways(account=("smith", "hammer"))) as registry:
        outcome = pushed(place, registry)
        assert outcome.code == 3
        assert "401" in outcome.err and f"docker login {registry.host}" in outcome.err
        assert registry.holds("one", "3.22-3.2.3.0") is None


def test_a_registry_that_is_full(place: Workplace) -> None:
    with FakeRegistry(faults=[full("blobs/uploads", times=-1)]) as registry:
        push_refused(place, registry, f"{registry.host} is full")


def test_a_registry_that_fills_up_half_way(place: Workplace) -> None:
    with FakeRegistry(Ways(capacity=200_000)) as registry:
        outcome = pushed(place, registry)
        assert outcome.code == 3
        assert f"{registry.host} is full" in outcome.err
        assert registry.holds("one", "3.22-3.2.3.0") is None
        assert place.damages() == []


def test_a_registry_that_goes_away_in_the_middle_of_a_blob(place: Workplace) -> None:
    with FakeRegistry(faults=[Fault("vanish", path="blobs/uploads", times=-1, after=1000)]) as registry:
        push_refused(place, registry, "the registry went away", registry.host, "2 attempts")


def test_a_registry_that_goes_away_before_the_tag(place: Workplace) -> None:
    with FakeRegistry(faults=[Fault("vanish", "PUT", "manifests", times=-1, after=10)]) as registry:
        push_refused(place, registry, "the registry went away at PUT one/manifests/")


def test_a_registry_that_goes_away_once_is_asked_again(place: Workplace) -> None:
    with FakeRegistry(faults=[Fault("vanish", path="blobs/uploads", after=1000)]) as registry:
        assert pushed(place, registry).code == 0
        assert registry.holds("one", "3.22-3.2.3.0") is not None


def test_a_registry_that_is_not_there(place: Workplace) -> None:
    outcome = place.run("push", "127.0.0.1:1", *place.options(), "--retries", "0")
    assert outcome.code == 3
    assert "the registry 127.0.0.1:1: cannot connect" in outcome.err
    assert place.damages() == []


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("http://127.0.0.1:1", "it is named without a scheme"),
        ("127.0.0.1:1/Upper", "Upper"),
        ("not a host", "is not a registry host"),
    ],
)
def test_a_registry_that_is_no_name(place: Workplace, target: str, told: str) -> None:
    refused(place, place.run("push", target, *place.options()), 2, told)


def test_no_registry_named(place: Workplace) -> None:
    refused(place, place.run("push", *place.options()), 2, "no registry named", "sixsmith push HOST:PORT")


# ---- this machine


def in_namespace(size: str, mounted: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command with a small tmpfs on a folder, in a mount namespace of its own: root is not needed."""
    script = f'mount -t tmpfs -o size={size} none "$1" && shift && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(mounted)]
    if not shutil.which("unshare") or subprocess.run([*unshare[:4], "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    environment = clean_environment(mounted.parent, {})
    return subprocess.run([*unshare, *command], capture_output=True, text=True, env=environment, cwd=mounted.parent)


def test_a_disk_that_is_full(place: Workplace) -> None:
    """The store is on a file system of 300 kB; the image wants 430 kB. What is there afterwards is whole."""
    place.store.mkdir()
    look = f'"$@"; code=$?; {" ".join(place.program("store", "verify"))} --store {place.store} || exit 99; exit $code'
    command = ["sh", "-c", look, "sh", *place.program("build", *place.options())]
    done = in_namespace("300k", place.store, command)
    assert done.returncode == 3, done
    assert f"cannot write {place.store}: the disk is full" in done.stderr
    assert "make room, or name another place with --store" in done.stderr
    assert not place.dist.exists()
    next_build_succeeds(place)


def test_a_full_disk_for_the_layouts(place: Workplace) -> None:
    """The store has room, `--output` has not: what is there already stays, what is not complete is not named."""
    assert place.build("-o", place.folder / "before").code == 0
    place.dist.mkdir()
    look = f'"$@"; code=$?; find {place.dist} -name index.json | grep -q . && exit 98; exit $code'
    done = in_namespace("300k", place.dist, ["sh", "-c", look, "sh", *place.program("build", *place.options())])
    assert done.returncode == 3, done
    assert "the disk is full" in done.stderr
    assert place.damages() == []
    next_build_succeeds(place)


def test_a_store_that_may_not_be_written(place: Workplace) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    place.store.mkdir(mode=0o555)
    try:
        outcome = place.build()
        assert outcome.code == 3
        assert "permission denied" in outcome.err
    finally:
        place.store.chmod(0o755)


def test_places_that_cannot_be(place: Workplace) -> None:
    refused(
        place, place.build("--store", place.file / "store"), 3, f"cannot open {place.file}/store", "Not a directory"
    )
    refused(place, place.build("--archive", place.folder / "no" / "where.tar"), 2, "no folder")
    outcome = place.build("-o", place.file / "dist")
    assert outcome.code == 3 and "Not a directory" in outcome.err
    assert place.damages() == []


def test_a_family_file_that_may_not_be_read(place: Workplace) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    place.file.chmod(0)
    outcome = place.build()
    place.file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert outcome.code in (2, 3) and "ermission denied" in outcome.err


FORTY = """\
name: forty
defaults: {packages: [bash, nginx, shadow, nodejs]}
images:
  one:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.12, 3.22], s6-overlay: [2.0.0.1, 3.2.3.0], arch: [x86_64, aarch64]}
"""


def run_and_kill(place: Workplace, delay: float) -> bool:
    """Starts a build and kills it after `delay` seconds; True when it was still at work."""
    command = place.program("build", *place.options(), "-q", "--archive", place.folder / "all.tar")
    environment = clean_environment(place.folder, {})
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=place.folder, env=environment, stdout=quiet, stderr=quiet) as child:
        time.sleep(delay)
        child.kill()
        return child.wait() == -signal.SIGKILL


def test_kill_9_at_any_moment(place: Workplace) -> None:
    """Whatever was killed when: the store holds no broken blob, and the next build makes what an undisturbed one makes."""
    place.write(FORTY)
    began = time.monotonic()
    command = place.program("build", *place.options(), "--json", "--archive", place.folder / "all.tar")
    environment = clean_environment(place.folder, {})
    whole = subprocess.run(command, cwd=place.folder, env=environment, capture_output=True, text=True, check=True)
    duration = time.monotonic() - began
    expected = digests(Outcome(0, whole.stdout, ""))
    layouts = files_below(place.dist)
    archive = (place.folder / "all.tar").read_bytes()
    chance = random.Random(9)
    at_work = 0
    for turn in range(ROUNDS):
        shutil.rmtree(place.store)
        shutil.rmtree(place.dist)
        (place.folder / "all.tar").unlink()
        killed = run_and_kill(place, duration * chance.uniform(0.25, 0.95))
        made = (place.store / "blobs").is_dir() and any((place.store / "blobs/sha256").iterdir())
        at_work += killed and made
        if (place.folder / "all.tar").exists():
            assert (place.folder / "all.tar").read_bytes() == archive, "an archive is there whole or not at all"
        with Store(place.store) as store:
            assert store.verify() == [], turn
        again = place.build("--json", "--archive", place.folder / "all.tar")
        assert again.code == 0, again.err
        assert digests(again) == expected
        assert files_below(place.dist) == layouts
        assert place.damages() == []
    if ROUNDS >= 6:
        assert at_work, "no kill hit a build at work: the test proves nothing"


def test_two_builds_at_once_on_one_store(place: Workplace) -> None:
    place.write(FORTY)
    environment = clean_environment(place.folder, {})
    running = []
    for number in range(2):
        command = place.program("build", *place.options(), "--json", "-o", place.folder / f"dist{number}")
        pipe = subprocess.PIPE
        running.append(
            subprocess.Popen(command, cwd=place.folder, env=environment, stdout=pipe, stderr=pipe, text=True)
        )
    ended = []
    for child in running:
        out, err = child.communicate(timeout=120)
        ended.append(Outcome(child.returncode, out, err))
    assert [outcome.code for outcome in ended] == [0, 0], ended
    assert digests(ended[0]) == digests(ended[1])
    assert files_below(place.folder / "dist0") == files_below(place.folder / "dist1")
    assert place.damages() == []
    assert len(place.roots()) == 4


def test_two_families_at_once_keep_each_others_tags(place: Workplace, tmp_path: Path, world: World) -> None:
    (tmp_path / "other").mkdir()
    other = Workplace(tmp_path / "other", world)
    other.write(FAMILY.replace("one:", "two:").replace("[bash]", "[nginx]"))
    other.store = place.store
    children = [
        subprocess.Popen(
            each.program("build", *each.options(), "-q"),
            cwd=each.folder,
            env=clean_environment(each.folder, {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for each in (place, other)
    ]
    for child in children:
        _, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
    assert sorted(place.roots()) == ["one:3.22-3.2.3.0", "two:3.22-3.2.3.0"]
    assert place.damages() == []


def test_what_the_store_lost_is_made_again(place: Workplace) -> None:
    """A blob that a disk damaged is found by `store verify` and made anew by the next build."""
    first = digests(place.build("--json"))
    for blob in sorted((place.store / "blobs/sha256").iterdir())[::2]:
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert place.run("store", "verify", "--store", place.store).code == 4
    with Store(place.store) as store:
        assert store.verify(remove=True)
    again = place.build("--json")
    assert again.code == 0, again.err
    assert digests(again) == first
    assert place.damages() == []


# ---- selections and options


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["onne"], ("nothing is called 'onne'", "did you mean 'one'?")),
        (["--arch", "aarch64"], ("none of these cells is for aarch64", "they are for x86_64")),
        (["--arch", "x86-64"], ("unknown architecture 'x86-64'", "did you mean 'x86_64'")),
        (["--nope"], ("No such option", "--nope")),
        (["-j", "0"], ("-j", "x>=1")),
    ],
)
def test_a_wrong_argument(place: Workplace, arguments: list[str], told: tuple[str, ...]) -> None:
    refused(place, place.build(*arguments), 2, *told)


def test_a_wrong_command(place: Workplace) -> None:
    refused(place, place.run("biuld"), 2, "no command 'biuld'; did you mean 'build'?")


def test_a_wrong_argument_as_json(place: Workplace) -> None:
    outcome = place.build("--nope", "--json")
    assert outcome.code == 2
    assert outcome.document["exit_code"] == 2 and "--nope" in outcome.document["error"]


# ---- Ctrl-C


@pytest.mark.parametrize("path", ["main/x86_64/APKINDEX", r"bash-.*\.apk", "minirootfs.*gz$"])
def test_an_interrupt_ends_a_build_that_waits_for_a_server(place: Workplace, path: str) -> None:
    with place.served(Fault("stall", method="GET", path=path, times=-1, after=100)) as (server, options):
        command = place.program("build", *options, "--timeout", "60")
        interrupted(place, command, lambda: server.asked("GET", path))
    place.nothing_was_made()
    next_build_succeeds(place)


def test_an_interrupt_ends_a_push_that_waits_for_a_registry(place: Workplace) -> None:
    assert place.build("-q").code == 0
    with FakeRegistry(faults=[Fault("stall", path="blobs/uploads", times=-1)]) as registry:
        command = place.program("push", registry.host, *place.options(), "--timeout", "60")
        interrupted(place, command, lambda: registry.asked("", "blobs/uploads"))
        assert registry.holds("one", "3.22-3.2.3.0") is None


def interrupted(place: Workplace, command: list[str], waits: Callable[[], object]) -> None:
    """The command ends by SIGINT, long before its patience does, and says so in one word."""
    environment = clean_environment(place.folder, {})
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=place.folder, env=environment, stdout=pipe, stderr=pipe, text=True) as child:
        for _ in range(600):
            if waits():
                break
            time.sleep(0.05)
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert child.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err and out == ""
