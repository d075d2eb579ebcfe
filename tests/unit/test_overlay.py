"""An overlay is read as a stranger's archive and laid with respect for what is there."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Sequence

import pytest

from sixsmith.errors import FormatError, InstallRefused, UsageError
from sixsmith.model.arch import ARCHES
from sixsmith.overlay import (
    DEFAULT_PATH,
    Overlay,
    check_base,
    check_bundles,
    lay_overlay,
    overlay_settings,
    path_with_overlay,
    read_overlay,
)
from sixsmith.overlay.elf import arm_architecture, elf_fault
from sixsmith.rootfs.bases import read_minirootfs
from sixsmith.rootfs.tree import BASE, OVERLAY, TOP, Node, Tree
from sixsmith.testing import SampleFile, assert_same_tree, make_minirootfs, overlay_tarballs, tar_bytes, tiny_program
from sixsmith.testing.tars import sample_files

AMD64 = ARCHES["x86_64"]
PROGRAM = tiny_program(AMD64)
V2 = "s6-overlay-amd64.tar.gz"


def sample_overlay(version: str = "3.2.1.0", arch: str = "x86_64", *, without: Sequence[str] = ()) -> Overlay:
    files = overlay_tarballs(version, arch)
    return read_overlay(
        version, ARCHES[arch], {name: data for name, data in files.items() if not any(word in name for word in without)}
    )


def tarball(*extra: SampleFile, raw: Sequence[SampleFile] = ()) -> bytes:
    """A v2 tarball that would be complete, with more members."""
    files = sample_files([SampleFile("init", b"#!/bin/execlineb\n"), SampleFile("bin/s6-svscan", PROGRAM), *extra])
    return gzip.compress(tar_bytes(files, prefix="./", end=False) + tar_bytes(raw))


def base(release: str = "3.12") -> Tree:
    return read_minirootfs(make_minirootfs(release, "x86_64"), what="minirootfs").tree


def usr_merged(tree: Tree) -> Tree:
    merged = Tree(epoch=tree.epoch)
    for node in tree:
        top = node.path.partition("/")[0]
        if top in ("bin", "sbin", "lib"):
            continue
        merged.put(node)
    for top in ("bin", "sbin", "lib"):
        merged.make_symlink(top, f"usr/{top}", origin=BASE)
    merged.write("usr/bin/sh", PROGRAM, mode=0o755, origin=BASE)
    return merged


# ---- which files


@pytest.mark.parametrize(
    ("version", "names", "message"),
    [
        ("3.2.1.0", ["s6-overlay-noarch.tar.xz"], "without its arch tarball: the image would have no programs"),
        ("3.2.1.0", ["s6-overlay-x86_64.tar.xz"], "without its noarch tarball: the image would have no /init"),
        ("3.2.1.0", [], "without its noarch tarball"),
        ("2.1.0.2", [], "without its arch tarball"),
    ],
)
def test_half_a_release_is_refused(version: str, names: list[str], message: str) -> None:
    files = overlay_tarballs(version, "x86_64")
    with pytest.raises(UsageError, match=message):
        read_overlay(version, AMD64, {name: files[name] for name in names})


@pytest.mark.parametrize(
    ("version", "arch", "name", "message"),
    [
        ("2.1.0.2", "x86_64", "s6-overlay-amd64-installer", "is not a tarball"),
        ("2.1.0.2", "x86_64", "s6-overlay-nobin.tar.gz", "is not the s6-overlay of x86_64"),
        ("2.1.0.2", "x86_64", "s6-overlay-x86_64.tar.xz", r"comes as \.tar\.gz"),
        ("3.2.1.0", "x86_64", V2, r"comes as \.tar\.xz"),
        ("3.2.1.0", "armhf", "s6-overlay-arm.tar.xz", "is not the s6-overlay of armhf; its word is 'armhf'"),
        ("3.2.1.0", "x86_64", "s6-overlay-amd64.tar.xz", "its word is 'x86_64'"),
        ("3.2.1.0", "loongarch64", "s6-overlay-x86_64.tar.xz", "no release has one"),
        ("2.1.0.2", "x86_64", "s6-overlay-noarch.tar.gz", "is not a tarball of s6-overlay 2"),
    ],
)
def test_a_file_that_is_not_of_this_release_is_refused(version: str, arch: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_overlay(version, ARCHES[arch], {name: b""})


def test_names_of_3_0_have_the_version_and_folders_do_not_matter() -> None:
    overlay = sample_overlay("3.0.0.2-2")
    assert [tarball.part for tarball in overlay.tarballs] == [
        "noarch",
        "arch",
        "symlinks-noarch",
        "symlinks-arch",
        "syslogd",
    ]
    files = {f"s6-overlay-3.2.1.0/{name}": data for name, data in overlay_tarballs("3.2.1.0", "x86_64").items()}
    assert read_overlay("3.2.1.0", AMD64, files).key == sample_overlay().key


def test_armv7_may_have_the_armhf_tarball_but_not_the_other_way_round() -> None:
    armhf = overlay_tarballs("3.2.1.0", "armhf")
    assert read_overlay("3.2.1.0", ARCHES["armv7"], armhf).arch.name == "armv7"


# ---- hostile and damaged tarballs


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (SampleFile("../evil", b"x"), "climbs out"),
        (SampleFile("./etc/../../evil", b"x"), "climbs out"),
        (SampleFile("./dev/sda", kind="block"), "is a block, which no overlay has"),
        (SampleFile("./run/pipe", kind="fifo"), "is a fifo"),
        (SampleFile("./etc/.wh.passwd"), "would hide a file"),
        (SampleFile("./.wh.etc"), "would hide a file"),
        (SampleFile("./init/below", b"x"), "lies below the file 'init'"),
        (SampleFile("./bin/s6-svscan", b"other"), "has two meanings"),
        (SampleFile("./x", kind="hardlink", target="./nowhere"), "is a hard link to 'nowhere', which is no file"),
        (SampleFile(".", b"x"), "its root is a file"),
    ],
)
def test_a_hostile_member_is_refused(member: SampleFile, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_overlay("2.1.0.2", AMD64, {V2: tarball(raw=[member])})


def test_nothing_is_written_through_a_link_of_the_tarball() -> None:
    link = SampleFile("./door", kind="symlink", target="/etc")
    with pytest.raises(FormatError, match="'door/passwd' lies below the symlink 'door'"):
        read_overlay("2.1.0.2", AMD64, {V2: tarball(raw=[link, SampleFile("./door/passwd", b"x")])})
    with pytest.raises(FormatError, match="two meanings"):
        read_overlay("2.1.0.2", AMD64, {V2: tarball(raw=[SampleFile("./door", kind="directory"), link])})


def test_absolute_names_stay_inside() -> None:
    overlay = read_overlay("2.1.0.2", AMD64, {V2: tarball(raw=[SampleFile("/etc/inside", b"x")])})
    assert "etc/inside" in {node.path for node in overlay.nodes}


def test_truncated_and_flipped_tarballs_are_refused() -> None:
    whole = tarball()
    for damaged in (whole[:-20], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], b"", b"<html>"):
        with pytest.raises(FormatError):
            read_overlay("2.1.0.2", AMD64, {V2: damaged})
    with pytest.raises(FormatError, match="xz"):
        files = overlay_tarballs("3.2.1.0", "x86_64")
        read_overlay("3.2.1.0", AMD64, files | {"s6-overlay-noarch.tar.xz": files["s6-overlay-noarch.tar.xz"][:-30]})


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sixsmith.overlay.release.MAX_OVERLAY", 1 << 20)
    bomb = SampleFile("./bomb", bytes(2 << 20))
    with pytest.raises(FormatError, match="inflates to more than 1048576 bytes"):
        read_overlay("2.1.0.2", AMD64, {V2: tarball(raw=[bomb])})
    files = overlay_tarballs("3.2.1.0", "x86_64")
    with pytest.raises(FormatError, match="inflates to more than 1048576 bytes"):
        read_overlay("3.2.1.0", AMD64, files | {"s6-overlay-noarch.tar.xz": lzma.compress(tar_bytes([bomb]))})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([SampleFile("bin/s6-svscan", PROGRAM)], "have no /init"),
        ([SampleFile("init", b"#!/bin/sh\n")], "have no /bin/s6-svscan"),
        ([SampleFile("init", b"#!", mode=0o644), SampleFile("bin/s6-svscan", PROGRAM)], "/init is not executable"),
    ],
)
def test_an_overlay_without_its_vitals_is_refused(files: list[SampleFile], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_overlay("2.1.0.2", AMD64, {V2: gzip.compress(tar_bytes(sample_files(files), prefix="./"))})


def test_a_tarball_of_another_release_is_refused() -> None:
    files = overlay_tarballs("3.2.1.0", "x86_64")
    files["s6-overlay-noarch.tar.xz"] = overlay_tarballs("3.1.6.2", "x86_64")["s6-overlay-noarch.tar.xz"]
    with pytest.raises(FormatError, match=r"s6-overlay 3\.2\.1\.0: a tarball is that of 3\.1\.6\.2"):
        read_overlay("3.2.1.0", AMD64, files)


# ---- the machine


@pytest.mark.parametrize("arch", sorted(name for name, each in ARCHES.items() if each.overlay_v3))
def test_programs_of_every_machine_are_known_from_all_others(arch: str) -> None:
    own = tiny_program(ARCHES[arch])
    for other in ARCHES.values():
        same = {arch, other.name} <= {"armhf", "armv7"} or arch == other.name
        assert (elf_fault(own, other) is None) == same, other.name


def test_one_wrong_program_is_enough() -> None:
    wrong = SampleFile("bin/z-last", tiny_program(ARCHES["aarch64"]))
    with pytest.raises(FormatError, match=r"/bin/z-last is for aarch64, and the image is for x86_64"):
        read_overlay("2.1.0.2", AMD64, {V2: tarball(wrong)})
    big = bytearray(tiny_program(ARCHES["ppc64le"]))
    big[5], big[18:20] = 2, big[19:17:-1]
    assert elf_fault(bytes(big), ARCHES["ppc64le"]) == "is a big-endian program"
    wide = bytearray(PROGRAM)
    wide[4] = 1
    assert elf_fault(bytes(wide), AMD64) == "is a 32-bit program"
    assert elf_fault(b"\x7fELF\x09" + bytes(20), AMD64) == "has a damaged ELF header"


def arm_program(cpu_arch: int) -> bytes:
    """A 32-bit ARM program whose build attributes have a CPU name and an architecture."""
    attributes = b"\x05cpu\0" + bytes([6, cpu_arch])
    part = b"\x01" + (5 + len(attributes)).to_bytes(4, "little") + attributes
    vendor = b"aeabi\0" + part
    section = b"A" + (4 + len(vendor)).to_bytes(4, "little") + vendor
    program = bytearray(tiny_program(ARCHES["armhf"]))
    start = len(program)
    program += section
    table = len(program)
    program += bytes(40)
    header = bytearray(40)
    header[4:8] = (0x70000003).to_bytes(4, "little")
    header[16:20] = start.to_bytes(4, "little")
    header[20:24] = len(section).to_bytes(4, "little")
    program += header
    program[32:36] = table.to_bytes(4, "little")
    program[46:48], program[48:50] = (40).to_bytes(2, "little"), (2).to_bytes(2, "little")
    return bytes(program)


def test_armv7_code_for_armv6_is_a_warning() -> None:
    assert arm_architecture(arm_program(10)) == 10
    assert arm_architecture(tiny_program(ARCHES["armhf"])) is None
    for cut in range(54, len(arm_program(10)), 7):
        arm_architecture(arm_program(10)[:cut])
    files = [SampleFile("init", b"#!/bin/execlineb\n"), SampleFile("bin/s6-svscan", arm_program(10))]
    data = gzip.compress(tar_bytes(sample_files(files), prefix="./"))
    overlay = read_overlay("2.1.0.2", ARCHES["armhf"], {"s6-overlay-armhf.tar.gz": data})
    assert [(each.rule, each.severity, each.path) for each in overlay.findings] == [("M2", "warning", "/bin/s6-svscan")]
    files[1] = SampleFile("bin/s6-svscan", arm_program(6))
    data = gzip.compress(tar_bytes(sample_files(files), prefix="./"))
    assert read_overlay("2.1.0.2", ARCHES["armhf"], {"s6-overlay-armhf.tar.gz": data}).findings == ()


# ---- canonical


def test_the_nodes_do_not_depend_on_the_order_in_the_tarball() -> None:
    one = tarball(SampleFile("etc/a", b"a"), SampleFile("etc/b", b"b", uid=1000, gid=1000))
    members = [
        SampleFile("etc/b", b"b"),
        SampleFile("bin/s6-svscan", PROGRAM),
        SampleFile("init", b"#!/bin/execlineb\n"),
        SampleFile("etc/a", b"a"),
    ]
    other = gzip.compress(tar_bytes(members))
    first, second = (read_overlay("2.1.0.2", AMD64, {V2: data}) for data in (one, other))
    assert_same_tree(Tree(first.nodes), Tree(second.nodes))
    assert [node.path for node in first.nodes] == ["bin", "bin/s6-svscan", "etc", "etc/a", "etc/b", "init"]
    assert {(node.uid, node.gid, node.origin) for node in first.nodes} == {(0, 0, OVERLAY)}
    assert first.key != second.key


def test_group_writable_directories_are_mended_and_suid_is_kept() -> None:
    loose = {node.path: node for node in sample_overlay("1.21.8.0").nodes}
    assert loose["etc"].mode == loose["usr/bin"].mode == 0o755
    assert loose["etc/s6/services/s6-fdholderd/supervise"].mode == 0o700
    raw = sample_overlay("1.21.8.0").tarballs[0].entries
    assert {entry.mode for entry in raw if entry.path in ("etc", "usr/bin")} == {0o775}
    assert {node.mode for node in sample_overlay("2.1.0.2").nodes if node.path == "bin/s6-overlay-preinit"} == {0o4755}
    suid = [node for node in sample_overlay().nodes if node.mode & 0o7000]
    assert [(node.path.rpartition("/")[2], node.mode) for node in suid] == [("s6-overlay-suexec", 0o4755)]


# ---- laying


def test_what_the_base_has_stays() -> None:
    tree = base()
    tree.change("etc", mode=0o700, uid=5)
    before = dict(tree.nodes)
    laid = lay_overlay(tree, sample_overlay("2.1.0.2"))
    assert all(tree.nodes[path] is node for path, node in before.items())
    assert not laid.relocated and laid.findings == ()
    assert laid.source is not None and laid.entries and laid.size and laid.name == "s6-overlay 2.1.0.2"
    modern = lay_overlay(base(), sample_overlay())
    assert modern.source is None and modern.entries is None


def test_one_overlay_is_the_same_on_every_release() -> None:
    overlay = sample_overlay()
    laid = [lay_overlay(base(release), overlay).nodes for release in ("3.7", "3.12", "3.22")]
    assert laid[0] == laid[1] == laid[2] == overlay.nodes


@pytest.mark.parametrize("version", ["1.21.8.0", "2.1.0.2", "3.2.1.0"])
def test_a_usr_merged_root_stays_one(version: str) -> None:
    tree = usr_merged(base())
    overlay = sample_overlay(version)
    laid = lay_overlay(tree, overlay)
    assert laid.relocated == (overlay.major < 3)
    assert [tree.nodes[top].kind for top in ("bin", "sbin", "lib")] == ["symlink"] * 3
    assert not [node.path for node in laid.nodes if node.path.startswith("bin/")]
    execlineb = tree.find("bin/execlineb")
    assert execlineb is not None and execlineb.kind == "file"
    assert check_base(tree, version) == ()


def test_a_root_merged_the_other_way_works_too() -> None:
    tree = base()
    for node in list(tree):
        if node.path.startswith("usr/bin/"):
            tree.remove(node.path)
    tree.remove("usr/bin")
    tree.make_symlink("usr/bin", "../bin")
    lay_overlay(tree, sample_overlay("2.1.0.2"))
    assert tree.nodes["bin/execlineb"].kind == "file"
    assert tree.nodes["bin/with-contenv"].kind == "file"


def test_hard_links_follow_a_merged_directory() -> None:
    link = SampleFile("bin/twin", kind="hardlink", target="bin/s6-svscan")
    overlay = read_overlay("2.1.0.2", AMD64, {V2: tarball(link)})
    tree = usr_merged(base())
    lay_overlay(tree, overlay)
    assert tree.nodes["usr/bin/twin"].target == "usr/bin/s6-svscan"
    assert tree.read("bin/twin") == PROGRAM


def test_two_files_that_meet_are_refused() -> None:
    overlay = read_overlay(
        "2.1.0.2", AMD64, {V2: tarball(SampleFile("bin/x", b"one"), SampleFile("usr/bin/x", b"two"))}
    )
    tree = usr_merged(base())
    before = dict(tree.nodes)
    with pytest.raises(InstallRefused, match=r"two files of s6-overlay 2\.1\.0\.2 come to /usr/bin/x"):
        lay_overlay(tree, overlay)
    assert tree.nodes == before


def test_a_package_that_owns_a_path_is_named() -> None:
    tree = base()
    program = tree.write("bin/s6-svscan", b"theirs")
    tree.put(Node(*(getattr(program, field) for field in program.__struct_fields__[:11]), "apk:s6", program.content))
    before = dict(tree.nodes)
    with pytest.raises(InstallRefused, match=r"would replace /bin/s6-svscan, of the package s6") as caught:
        lay_overlay(tree, sample_overlay("2.1.0.2"))
    assert caught.value.hint == "leave out s6, or the overlay: they bring the same programs"
    assert tree.nodes == before
    lay_overlay(tree, sample_overlay("3.2.1.0", without=("symlinks",)))


def test_a_package_of_the_base_is_known_from_its_database() -> None:
    tree = base()
    tree.write("usr/bin/s6-svc", b"theirs", origin=BASE)
    database = tree.read("lib/apk/db/installed") or b""
    tree.write("lib/apk/db/installed", database + b"P:s6\nV:2\nF:usr/bin\nR:s6-svc\n\n", origin=BASE)
    with pytest.raises(InstallRefused, match=r"/usr/bin/s6-svc, of the package s6") as caught:
        lay_overlay(tree, sample_overlay())
    assert caught.value.hint == "leave out the overlay's symlinks, or s6"


def test_a_file_that_nobody_owns_is_replaced_with_a_word() -> None:
    tree = base()
    tree.write("init", b"my own", origin=TOP)
    laid = lay_overlay(tree, sample_overlay("2.1.0.2"))
    assert tree.nodes["init"].origin == OVERLAY
    assert [(each.rule, each.severity, each.path) for each in laid.findings] == [("M11", "warning", "/init")]
    again = lay_overlay(tree, sample_overlay("2.1.0.2"))
    assert again.findings == ()


def test_a_base_with_another_overlay_is_noticed() -> None:
    tree = base()
    lay_overlay(tree, sample_overlay("2.1.0.2"))
    findings = lay_overlay(tree, sample_overlay("3.2.1.0", without=("symlinks",))).findings
    assert ("M18", "/etc/s6/init") in [(each.rule, each.path) for each in findings]
    tree = base()
    lay_overlay(tree, sample_overlay("3.1.6.2"))
    findings = lay_overlay(tree, sample_overlay("3.2.1.0")).findings
    assert [each.path for each in findings if each.rule == "M18"] == ["/package/admin/s6-overlay"]


@pytest.mark.parametrize("what", ["directory", "file", "dangling"])
def test_files_and_directories_that_clash_are_refused(what: str) -> None:
    tree = base()
    if what == "directory":
        tree.make_directory("init")
    elif what == "file":
        tree.write("command", b"")
    else:
        tree.make_symlink("command", "nowhere")
    before = dict(tree.nodes)
    with pytest.raises(InstallRefused):
        lay_overlay(tree, sample_overlay())
    assert tree.nodes == before


# ---- settings and checks


def test_path_has_command_where_it_must() -> None:
    assert overlay_settings("3.2.1.0").path == f"/command:{DEFAULT_PATH}"
    assert overlay_settings("3.2.1.0", symlinks=True).path == DEFAULT_PATH
    assert overlay_settings("2.1.0.2").path == DEFAULT_PATH
    assert overlay_settings("1.21.8.0").entrypoint == ("/init",)
    assert path_with_overlay("/usr/bin:/command", "3.2.1.0") == "/usr/bin:/command"
    assert path_with_overlay("/opt/bin:/bin", "3.2.1.0") == "/command:/opt/bin:/bin"


def test_a_sound_base_has_nothing_to_say() -> None:
    for release in ("3.7", "3.22"):
        for version in ("1.21.8.0", "2.1.0.2", "3.2.1.0"):
            tree = base(release)
            lay_overlay(tree, sample_overlay(version, without=("syslogd",)))
            assert check_base(tree, version) == ()
            assert check_bundles(tree, version) == ()


def test_what_init_needs_is_missed() -> None:
    empty = Tree()
    lay_overlay(empty, sample_overlay())
    assert [(each.rule, each.severity) for each in check_base(empty, "3.2.1.0")] == [("I14", "error"), ("I12", "error")]
    assert check_base(Tree(), "2.1.0.2") == ()
    assert [each.path for each in check_base(Tree(), "2.2.0.0")] == ["/var"]
    tree = base()
    tree.remove("run")
    tree.make_symlink("run", "/tmp")
    tree.remove("var/run")
    tree.make_directory("var/run")
    assert [(each.path, each.severity) for each in check_base(tree, "3.2.1.0")] == [
        ("/run", "error"),
        ("/var/run", "warning"),
    ]
    tree = base()
    tree.write("run/service/x", b"")
    assert [each.path for each in check_base(tree, "3.2.1.0")] == ["/run/service"]
    tree = base()
    tree.change("bin/busybox", mode=0o644)
    assert [each.rule for each in check_base(tree, "3.2.1.0")] == ["I14"]


USER, NEW = "etc/s6-overlay/s6-rc.d/user", "etc/s6-overlay/user-bundles.d/user"


@pytest.mark.parametrize(
    ("version", "paths", "syslogd", "rules"),
    [
        ("3.2.1.0", [USER], False, []),
        ("3.2.1.0", [USER, NEW], False, ["M7"]),
        ("3.2.3.0", [NEW], False, ["M7"]),
        ("3.2.3.1", [NEW], False, []),
        ("3.2.3.1", [USER, NEW], False, ["M6"]),
        ("3.2.3.2", [USER], False, ["M5"]),
        ("3.2.3.2", [USER, NEW], False, ["M8", "M5"]),
        ("3.2.3.2", [USER, NEW], True, ["M8", "M5"]),
        ("2.1.0.2", [USER, NEW], False, []),
    ],
)
def test_bundles_are_where_the_release_looks(version: str, paths: list[str], syslogd: bool, rules: list[str]) -> None:
    tree = Tree()
    for path in paths:
        tree.write(f"{path}/contents.d/web", b"")
    assert [each.rule for each in check_bundles(tree, version, syslogd=syslogd)] == rules


@pytest.mark.parametrize(("version", "rules"), [("3.2.3.1", ["M6"]), ("3.2.3.2", ["M4", "M5"]), ("3.2.3.0", [])])
def test_the_syslogd_tarball_brings_the_old_bundle(version: str, rules: list[str]) -> None:
    tree = base()
    overlay = sample_overlay(version)
    lay_overlay(tree, overlay)
    findings = check_bundles(tree, version, syslogd=overlay.syslogd)
    assert [each.rule for each in findings] == rules
    assert all("syslogd" in each.hint for each in findings[:1])
