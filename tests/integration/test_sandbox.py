"""Install scripts for real, away from everything: what they may, what becomes of it, and that nothing is left behind."""

from __future__ import annotations

import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from genuine import GenuineApk, Shelf, differences, disk_entries, tree_entries
from sixsmith.errors import InstallRefused, OutsideError
from sixsmith.model.tar import parse_tar
from sixsmith.rootfs.install import install
from sixsmith.rootfs.scripts import Emulator
from sixsmith.rootfs.tree import TOP, Inline, Node, Tree
from sixsmith.sandbox import Sandbox
from sixsmith.sandbox.keeper import _STAGES
from sixsmith.sandbox.runner import _elf_magic, _subordinate

EPOCH = 1_700_000_000
EVERYTHING = bool(os.environ.get("SIXSMITH_EXHAUSTIVE"))


@dataclass(frozen=True)
class Package:
    name: str = "sample"


def minirootfs(data: Path, release: str, arch: str) -> Tree:
    minor = release.rpartition(".")[0]
    archive = data / f"upstream/alpine/v{minor}/releases/{arch}/alpine-minirootfs-{release}-{arch}.tar.gz"
    if not archive.exists():
        pytest.skip(f"{archive.name} is not there")
    with tarfile.open(archive) as tar:
        file = tar.fileobj
        assert file is not None
        file.seek(0)
        raw = file.read()
    tree = Tree(epoch=EPOCH)
    for entry in parse_tar(raw, what=archive.name):
        path = entry.path.removeprefix("./")
        if path in ("", "."):
            continue
        content = Inline(raw[entry.offset : entry.offset + entry.size]) if entry.kind == "file" else None
        tree.nodes[path] = Node(
            path, entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, entry.target, (), None, (0, 0),
            "base", content,
        )  # fmt: skip
    return tree


@pytest.fixture(scope="module")
def base(data: Path) -> Tree:
    if platform.machine() != "x86_64":
        pytest.skip("the real programs are for x86_64")
    return minirootfs(data, "3.20.3", "x86_64")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as runner:
        yield runner


@pytest.fixture
def run(base: Tree, sandbox: Sandbox) -> Callable[..., tuple[Tree, str]]:
    """Runs a script on the minirootfs; gives the tree and what was printed."""

    def running(script: str, *, kind: str = "post-install", tree: Tree | None = None) -> tuple[Tree, str]:
        tree = tree if tree is not None else base.copy()
        sandbox.messages.clear()
        try:
            sandbox.run(tree, Package(), kind, f"#!/bin/sh\n{script}\n".encode(), ("1.0-r0",))
        except OutsideError as error:
            if "no sandbox can be made here" in str(error) or "subordinate ids" in str(error):
                pytest.skip(str(error))
            raise
        return tree, "".join(message.text for message in sandbox.messages)

    return running


Run = Callable[..., tuple[Tree, str]]


def test_what_a_script_changes_becomes_part_of_the_tree(base: Tree, run: Run) -> None:
    tree, said = run(
        "addgroup -S www; adduser -S -D -H -G www www; install -d -m 750 -o www -g www /srv/www; ln -s www /srv/link\n"
        "ln /etc/motd /etc/motd2; rm /etc/issue; mv /etc/hosts /etc/hosts2; echo hello; chmod 4755 /bin/busybox"
    )
    assert said == "hello\n"
    assert tree.get("etc/issue") is None
    assert tree.get("etc/hosts") is None
    changed = {path: tree.get(path) for path in tree.nodes if tree.nodes[path] != base.nodes.get(path)}
    changed.pop("lib/apk/exec", None)  # newer minirootfs have it
    assert set(changed) == {
        "etc/passwd", "etc/passwd-", "etc/group", "etc/group-", "etc/shadow", "etc/shadow-", "srv/www", "srv/link",
        "etc/motd2", "etc/hosts2", "bin/busybox",
    }  # fmt: skip
    for node in changed.values():
        assert node is not None
        assert node.origin == TOP
        assert node.mtime == EPOCH or node.path in ("etc/hosts2", "etc/motd2", "bin/busybox") or node.path.endswith("-")
    www, link = tree.nodes["srv/www"], tree.nodes["etc/motd2"]
    assert (www.mode, www.uid, www.gid) == (0o750, 100, 101)
    assert (link.kind, link.target) == ("hardlink", "etc/motd")
    shadow = tree.read("etc/shadow") or b""
    assert f"www:!:{EPOCH // 86400}:0:99999:7:::".encode() in shadow, "the clock is the tree's"


def test_both_ways_agree(base: Tree, run: Run) -> None:
    script = (
        "mkdir -p /a/b; touch /a/b/c; echo x > /a/d; cp -a /etc/apk /a/; ln -s d /a/l; ln /a/d /a/h; umask 077\n"
        "adduser -D ann; addgroup ann wheel; chown -R ann:ann /a/b; sed -i s/root/r/ /etc/securetty; rm -rf /a/apk/keys\n"
        "chmod u+s,o-rwx /a/d; mv /a/b /a/z; add-shell /bin/zsh; rm /bin/ls; busybox --install -s; rmdir /opt; > /etc/motd"
    )
    real, _ = run(script)
    emulated = base.copy()
    Emulator().run(emulated, Package(), "post-install", f"#!/bin/sh\n{script}\n".encode(), ("1.0-r0",))
    assert not differences(tree_entries(emulated), tree_entries(real))


def test_scripts_see_what_came_before_them(base: Tree, run: Run) -> None:
    tree, _ = run("mkdir /one; echo first > /one/file")
    tree.write("two", b"second", mode=0o600)
    tree.remove("etc/motd")
    tree.make_symlink("etc/hosts", "/two")
    _, said = run("cat /one/file /etc/hosts; ls /etc/motd || echo gone; stat -c %a /two", tree=tree)
    assert said.splitlines()[0] == "first"
    assert said.splitlines()[1].startswith("second")
    assert "gone" in said
    assert said.endswith("600\n")


def test_the_environment_is_apks(run: Run) -> None:
    _, said = run('echo "$0|$*|$(pwd)|$(umask)|$PATH|$HOME|$(id -u)|$(hostname)"; cat; ls /dev; ls / | head -3')
    first, rest = said.split("\n", 1)
    assert first == ("lib/apk/exec/sample-1.0-r0.post-install|1.0-r0|/|0022|/usr/sbin:/usr/bin:/sbin:/bin||0|localhost")
    assert {"null", "zero", "urandom"} <= set(rest.split())


def test_there_is_no_network_and_no_host(run: Run) -> None:
    host = Path(sys.executable).resolve()
    _, said = run(
        f"wget -q -T 3 http://127.0.0.1:9/ 2>&1; ping -c 1 -w 1 1.1.1.1 2>&1; ls {host} 2>&1; ls /proc | grep -c '^[0-9]'\n"
        "mount -t tmpfs none /mnt 2>&1; mknod /tmp/disk b 8 0 2>&1; echo x > /proc/sys/kernel/hostname; date -s 2001-01-01"
        " 2>&1; cat /proc/1/comm; exit 0"
    )
    assert "No such file" in said
    assert "bytes from" not in said
    assert said.count("ermitted") + said.count("ermission") >= 2, said


def test_a_failing_script_is_refused_and_changes_nothing(base: Tree, run: Run) -> None:
    before = base.copy()
    with pytest.raises(InstallRefused, match=r"fails with exit status 3: said"):
        run("touch /made; echo said; exit 3", tree=base)
    assert base.nodes == before.nodes
    tree, _ = run("ls /made && exit 9; exit 0")
    assert "made" not in tree


def test_a_failing_trigger_keeps_what_it_did(run: Run, sandbox: Sandbox) -> None:
    tree, _ = run("touch /made; exit 3", kind="trigger")
    assert "made" in tree
    assert [message.status for message in sandbox.messages] == [3]


def test_a_script_that_never_ends_is_ended(base: Tree, run: Run, sandbox: Sandbox) -> None:
    run("true")
    sandbox.seconds = 1
    begun = time.monotonic()
    with pytest.raises(InstallRefused, match="does not end within 1 seconds"):
        run("(sleep 1000 &) ; sleep 1000")
    assert time.monotonic() - begun < 10


def test_what_a_script_leaves_running_ends_with_it(run: Run) -> None:
    begun = time.monotonic()
    tree, _ = run("(while :; do echo x >> /grows; sleep 0.01; done) > /dev/null 2>&1 & exit 0")
    _, said = run("a=$(cat /grows | wc -c); sleep 0.2; b=$(cat /grows | wc -c); [ $a = $b ] && echo quiet", tree=tree)
    assert "quiet" in said or "grows" not in tree
    assert time.monotonic() - begun < 20


def test_capabilities_of_files_come_back(run: Run, base: Tree) -> None:
    tree = base.copy()
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    tree.nodes["bin/ping2"] = Node(
        "bin/ping2",
        "file",
        0o755,
        0,
        0,
        EPOCH,
        1,
        "",
        (("security.capability", value),),
        None,
        (0, 0),
        TOP,
        Inline(b"x"),
    )
    run("mv /bin/ping2 /bin/ping3", tree=tree)
    assert tree.nodes["bin/ping3"].xattrs == (("security.capability", value),)


def test_a_script_without_its_interpreter_fails_as_in_apk(run: Run, base: Tree, sandbox: Sandbox) -> None:
    run("true")
    with pytest.raises(InstallRefused, match="exit status 127"):
        sandbox.run(base.copy(), Package(), "pre-install", b"#!/bin/none\n", ("1",))


def test_links_out_of_the_image_lead_nowhere(run: Run, base: Tree, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    tree, _ = run(f"mkdir -p /deep; ln -s {tmp_path} /deep/link; ln -s {secret} /file")
    tree.nodes["deep/link/below"] = Node(
        "deep/link/below", "file", 0o644, 0, 0, 0, 1, "", (), None, (0, 0), TOP, Inline(b"x")
    )
    with pytest.raises(OutsideError):
        run("cat /file", tree=tree)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


# --- nothing left behind --------------------------------------------------------------------------------------------


def processes_below(pid: int) -> set[int]:
    found: set[int] = set()
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    grew = True
    while grew:
        more = {child for child, parent in parents.items() if parent in found | {pid}} - found
        grew = bool(more)
        found |= more
    return found


KILLED = """
import sys, pickle
from pathlib import Path
from sixsmith.sandbox import Sandbox
from test_sandbox import minirootfs, Package
tree = minirootfs(Path(sys.argv[1]), "3.20.3", "x86_64")
with Sandbox() as sandbox:
    print("ready", flush=True)
    sandbox.run(tree, Package(), "post-install", b"#!/bin/sh\\n(sleep 500 &)\\nsleep 500\\n", ("1",))
"""


def test_a_killed_builder_leaves_no_process_no_mount_and_no_file(data: Path, run: Run, tmp_path: Path) -> None:
    run("true")
    before = [Path(path).is_mount() for path in _STAGES]
    root = Path(__file__).parents[2]
    environment = {
        "PYTHONPATH": f"{root}/src:{root}/tests:{root}/tests/integration",
        "TMPDIR": str(tmp_path),
        "PATH": os.defpath,
    }
    builder = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(data)], stdout=subprocess.PIPE, env=environment, cwd=root
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 20
    while len(processes_below(builder.pid)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    below = processes_below(builder.pid)
    assert len(below) >= 4, "keeper, guard, script, sleep"
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert not list(tmp_path.iterdir())
    assert [Path(path).is_mount() for path in _STAGES] == before


# --- other architectures, and apk itself ----------------------------------------------------------------------------


def test_foreign_scripts_run_through_qemu_and_agree(data: Path, run: Run) -> None:
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64-static is not installed")
    run("true")
    tree = minirootfs(data, "3.20.3", "aarch64")
    emulated = tree.copy()
    script = b"#!/bin/sh\nuname -m; adduser -D ann; mkdir -p /a; chown ann /a; rm /bin/ls; /bin/busybox --install -s\n"
    registered = sorted(Path("/proc/sys/fs/binfmt_misc").glob("*"))
    with Sandbox("aarch64") as sandbox:
        sandbox.run(tree, Package(), "post-install", script, ("1",))
        assert [message.text for message in sandbox.messages] == ["aarch64\n"]
    assert sorted(Path("/proc/sys/fs/binfmt_misc").glob("*")) == registered
    Emulator().run(emulated, Package(), "post-install", script.replace(b"uname -m; ", b""), ("1",))
    assert not differences(tree_entries(emulated), tree_entries(tree))


def test_an_emulator_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with Sandbox("riscv64") as sandbox, pytest.raises(OutsideError, match="qemu-riscv64-static") as caught:
        sandbox.run(Tree(), Package(), "post-install", b"#!/bin/sh\n", ("1",))
    assert "emulate" in (caught.value.hint or "")


def test_the_closed_set_is_set_up_as_apk_sets_it_up(data: Path, run: Run, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the real apk needs root")
    run("true")
    apk, shelf = GenuineApk(tmp_path / "apk", data), Shelf()
    for file in sorted((data / "upstream/alpine/v3.19/main/x86_64").glob("*.apk")):
        shelf.add(file.read_bytes(), file.name)
    names = sorted({name for name, _ in shelf.packages})
    choose = random.Random(3)
    sets = [["alpine-base", "chrony", "dhcpcd", "tiny-cloud-alpine", "doas"]]
    sets += [choose.sample(names, 6) for _ in range(100 if EVERYTHING else 2)]
    for number, wanted in enumerate(sets):
        root = tmp_path / str(number)
        root.mkdir()
        done = apk.run(root, "-X", data / "upstream/alpine/v3.19/main", "--initdb", "add", *wanted)
        if "unable to select" in done.stderr:
            continue
        steps, packages = shelf.steps(done.stdout)
        with Sandbox() as sandbox:
            ours = install(Tree(epoch=EPOCH), steps, packages, world=wanted, arch="x86_64", scripts=sandbox).tree
        emulated = install(Tree(epoch=EPOCH), steps, packages, world=wanted, arch="x86_64", scripts=Emulator()).tree
        assert not differences(tree_entries(emulated), tree_entries(ours)), wanted
        theirs = {path: entry[:5] for path, entry in disk_entries(root).items() if path not in IGNORED}
        found = {path: entry[:5] for path, entry in tree_entries(ours).items() if path not in IGNORED}
        assert not differences(theirs, found), wanted
        shutil.rmtree(root)


IGNORED = frozenset(["dev", "etc/apk/world", "etc/shadow", "etc/shadow-"])
"""The last two have the day on which apk ran; that they agree with `emulate` is asked before."""


# --- small things ---------------------------------------------------------------------------------------------------


def test_programs_of_every_architecture_are_told_apart() -> None:
    from sixsmith.model.arch import ARCHES

    magics = {name: _elf_magic(name) for name in ARCHES if name not in ("armv7", "armhf")}
    assert all(len(magic) == len(mask) == 20 for magic, mask in magics.values())
    assert len({magic for magic, _ in magics.values()}) == len(magics)
    assert magics["aarch64"][0] == b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00"
    assert magics["s390x"][0] == b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16"


def test_subordinate_ids_are_found_by_name_or_number(tmp_path: Path) -> None:
    database = tmp_path / "subuid"
    database.write_text("# comment\nann:100000:65536\n1000:300000:200000\nbob:1:x\n")
    assert _subordinate(str(database), "ann", 1) == (100000, 65536)
    assert _subordinate(str(database), "ann", 1000) == (300000, 200000)
    assert _subordinate(str(database), "bob", 7) is None
    assert _subordinate(str(tmp_path / "none"), "ann", 1) is None
