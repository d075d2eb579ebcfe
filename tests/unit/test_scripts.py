"""The emulated shell: what scripts print, leave behind and are refused for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sixsmith.errors import InstallRefused, ScriptNotUnderstood
from sixsmith.rootfs.scripts import Emulator
from sixsmith.rootfs.tree import TOP, Tree

APPLETS = [
    "add-shell",
    "addgroup",
    "adduser",
    "ash",
    "awk",
    "basename",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cp",
    "cut",
    "deluser",
    "dirname",
    "echo",
    "egrep",
    "env",
    "find",
    "getent",
    "grep",
    "head",
    "id",
    "install",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "passwd",
    "readlink",
    "realpath",
    "remove-shell",
    "rm",
    "rmdir",
    "run-parts",
    "sed",
    "sh",
    "sort",
    "stat",
    "tail",
    "tee",
    "touch",
    "tr",
    "uniq",
    "wc",
    "which",
    "xargs",
]


@dataclass(frozen=True)
class Package:
    name: str = "sample"


@pytest.fixture
def tree() -> Tree:
    """A root with a shell and the links of the applets that scripts use; nothing in it could really run."""
    tree = Tree(epoch=1_700_000_000)
    tree.write("bin/busybox", b"BusyBox v1.36.1\n\0/sbin/nologin\0", mode=0o755)
    for name in APPLETS:
        tree.make_symlink(f"bin/{name}", "/bin/busybox")
    tree.write("etc/passwd", b"root:x:0:0:root:/root:/bin/ash\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")
    tree.write("etc/group", b"root:x:0:root\nshadow:x:42:\nnogroup:x:65533:\nnobody:x:65534:\n")
    tree.write("etc/shadow", b"root:*::0:::::\n", mode=0o640, gid=42)
    tree.write("etc/shells", b"# valid login shells\n/bin/sh\n/bin/ash\n")
    tree.make_directory("tmp", mode=0o1777)
    tree.make_directory("var/log")
    return tree


def run(tree: Tree, script: str, *arguments: str) -> str:
    """Runs a post-install script and returns what it printed."""
    emulator = Emulator()
    emulator.run(tree, Package(), "post-install", f"#!/bin/sh\n{script}\n".encode(), arguments or ("1.0-r0",))
    return "".join(message.text for message in emulator.messages)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo a  'b  c' \"d  e\" f\\ g", "a b  c d  e f g\n"),
        ('x=" a  b "; echo $x "$x"', "a b  a  b \n"),
        ("echo ${x:-d} ${x-} ${x:+s} ${x:=new} $x", "d new new\n"),
        (
            "f=/usr/lib/a.so.1; echo ${f##*/} ${f%/*} ${f%%.*} ${f#/usr} ${#f}",
            "a.so.1 /usr/lib /usr/lib/a /lib/a.so.1 15\n",
        ),
        ("p='*b'; x=a*b; echo ${x#$p} ${x%\"$p\"}", "a\n"),
        ("echo $1 $# $0", "1.0-r0 1 lib/apk/exec/sample-1.0-r0.post-install\n"),
        ("set -- a 'b c'; for i in \"$@\"; do echo [$i]; done; for i; do echo $i; done", "[a]\n[b c]\na\nb c\n"),
        ('set --; for i in "$@"; do echo never; done; echo $#', "0\n"),
        ("IFS=:; x=a:b::c; for i in $x; do echo [$i]; done", "[a]\n[b]\n[]\n[c]\n"),
        ("case b.conf in *.txt) echo t;; a*|b*.conf) echo c;; *) echo o;; esac", "c\n"),
        ("case 'a*' in 'a*') echo literal;; esac", "literal\n"),
        ("if false; then echo a; elif true; then echo b; else echo c; fi", "b\n"),
        ("! false && echo y || echo n", "y\n"),
        ("i=0; while [ $i -lt 3 ]; do i=$((i + 1)); [ $i = 2 ] && continue; echo $i; done", "1\n3\n"),
        ("until true; do :; done; echo $?", "0\n"),
        ("for i in 1 2; do for j in a b; do break 2; done; done; echo $i$j", "1a\n"),
        ('f() { local x=1; y=2; echo "$1$x"; return 3; }; x=0; f a; echo $? $x $y', "a1\n3 0 2\n"),
        ("cat <<EOF\n$1 \\$x `echo b` $(echo c)\nEOF", "1.0-r0 $x b c\n"),
        ("cat <<-'EOF'\n\t$1\n\tb\n\tEOF", "$1\nb\n"),
        ("cat <<A; cat <<B\none\nA\ntwo\nB", "one\ntwo\n"),
        ("echo $((2 * (3 + 4) - 7 / 2 % 2)) $((1 < 2)) $((010)) $((0x1f))", "13 1 8 31\n"),
        ("x=$(printf 'a\\n\\n'); echo \"[$x]\"", "[a]\n"),
        ("(x=1; exit 4); echo $?${x-none}", "4none\n"),
        ("printf '%s-%03d|%5s|%-3s|%%\\n' a 7 b c", "a-007|    b|c  |%\n"),
        ("printf '%s\\n' a b", "a\nb\n"),
        ("printf 'a b c\\nd\\n' | while read -r x y; do echo \"$x,$y\"; done", "a,b c\nd,\n"),
        ("echo one two | { read -r a b; echo $b; }", "two\n"),
        ("eval 'a=1; echo $a'; v=a; eval \"echo \\$$v\"", "1\n1\n"),
        ("trap 'echo bye' EXIT; echo hi", "hi\nbye\n"),
        ("x=2 sh -c 'echo $x $1' name arg", "2 arg\n"),
        ("[ -e /etc/passwd ] && [ ! -e /none ] && [ -d /etc -a -f /etc/group ] && echo y", "y\n"),
        ("[ ] || [ '' ] || [ -n '' ] || [ a = b ] || [ 1 -gt 2 ] || echo none", "none\n"),
        ("test -L /bin/sh && test -x /bin/sh && echo link", "link\n"),
        ("echo /etc/*d /none/*", "/etc/passwd /none/*\n"),
        ("command -v sed || echo none; command -v none || echo none", "/bin/sed\nnone\n"),
        ("none 2>/dev/null; echo $?", "127\n"),
        ("{ echo a; echo b >&2; } 2>&1 | tr a-z A-Z", "A\nB\n"),
        ("echo a > /tmp/f; echo b >> /tmp/f; cat < /tmp/f", "a\nb\n"),
        ("grep -q ^root: /etc/passwd && grep -c : /etc/group; grep none /etc/group || echo no", "4\nno\n"),
        ("sed -n 's/^\\(root\\):x/<\\1>/p' /etc/passwd", "<root>:0:0:root:/root:/bin/ash\n"),
        ("echo aXbX | sed -E 's/X+/-/g;s/(a).*/\\1&/'", "aa-b-\n"),
        ("cut -d: -f1,3 /etc/group | sort | head -n 2", "nobody:65534\nnogroup:65533\n"),
        ("echo a:b | awk -F: '{print $2}'; echo x y | awk '$1 == \"x\" {print $2}'", "b\ny\n"),
        ("printf 'b\\na\\nb\\n' | sort | uniq -c", "      1 a\n      2 b\n"),
        ("basename /a/b.c .c; dirname /a/b", "b\n/a\n"),
    ],
)
def test_scripts_print_what_a_shell_prints(tree: Tree, script: str, said: str) -> None:
    assert run(tree, script) == said


def test_set_e_ends_a_script_where_a_shell_would(tree: Tree) -> None:
    with pytest.raises(InstallRefused, match=r"post-install script of sample fails with exit status 1: seen"):
        run(tree, "set -e; false || true; if false; then :; fi; ! true; echo seen; false; echo never")


def test_a_failing_script_is_refused_and_leaves_the_tree_alone(tree: Tree) -> None:
    before = dict(tree.nodes)
    with pytest.raises(InstallRefused) as caught:
        run(tree, "mkdir /new; touch /etc/passwd; exit 3")
    assert tree.nodes == before
    assert "exit status 3" in caught.value.message
    assert "skip" in (caught.value.hint or "")


def test_a_failing_trigger_is_only_told(tree: Tree) -> None:
    emulator = Emulator()
    emulator.trigger(tree, Package(), b"#!/bin/sh\nmkdir /new\nexit 3\n", ("/bin",))
    assert "new" in tree
    assert [(message.kind, message.status) for message in emulator.messages] == [("trigger", 3)]


def test_what_is_not_understood_is_named_with_its_line(tree: Tree) -> None:
    before = dict(tree.nodes)
    tree.write("usr/bin/mystery", b"\x7fELF", mode=0o755)
    before = dict(tree.nodes)
    with pytest.raises(ScriptNotUnderstood) as caught:
        run(tree, "mkdir /new\n\nif true; then\n\tmystery --now\nfi")
    error = caught.value
    assert error.place is not None
    assert (error.place.file, error.place.line) == ("sample.post-install", 5)
    assert "mystery --now" in error.message
    assert "sandbox" in (error.hint or "")
    assert "skip" in (error.hint or "")
    assert tree.nodes == before


@pytest.mark.parametrize(
    "script",
    [
        "echo 'unfinished",
        "if true; then echo a",
        "for x in a; do echo",
        "case a in b) echo",
        "echo )",
        "cat <<",
        "sleep 1 &",
        "x=${a!b}",
        "echo ${x/a/b}",
        "function f { :; }",
        "echo $((1 +))",
        "echo $((1 / 0))",
        "while :; do :; done",
        "f() { f; }; f",
        "x=a; while :; do x=$x$x; done",
        "cat /proc/cpuinfo",
        "echo $RANDOM > /tmp/x",
        "mkdir /tmp/$$",
        '[ "$(date +%s)" -gt 5 ]',
        "x=$(date); case $x in *) :;; esac",
        "date | cut -c1",
        "for x in $(date); do touch /$x; done",
        "cat > /tmp/x <<EOF\n$(date)\nEOF",
        "echo x > /tmp/$(date)",
        "x=$(date); echo ${x#?}",
        "x=$(date); echo ${#x}",
        "echo $(( $$ + 1 ))",
        "echo x:$$ | chpasswd -e",
        "cd ~",
        "read -r x",
        "exec > /tmp/log",
        "date > /tmp/x",
        "mktemp",
        "rm -rf /",
        "chmod --reference=/a /b",
        "sed 'N;P;D' /etc/passwd",
        "sed -E 's/(a|ab)c/x/' /etc/passwd",
        "grep -P x /etc/passwd",
        "adduser ann",
        "echo x > /dev/sda",
        "busybox nosuchthing",
        "[ /etc -nt /bin ]",
        "rm /bin/busybox; busybox --list",
    ],
)
def test_what_cannot_be_followed_is_refused_and_changes_nothing(tree: Tree, script: str) -> None:
    tree.make_directory("proc", mode=0o555)
    tree.make_directory("dev")
    tree.make_symlink("bin/date", "/bin/busybox")
    tree.make_symlink("bin/mktemp", "/bin/busybox")
    tree.make_symlink("bin/chpasswd", "/bin/busybox")
    before = dict(tree.nodes)
    with pytest.raises((ScriptNotUnderstood, InstallRefused)) as caught:
        run(tree, script)
    if isinstance(caught.value, InstallRefused):
        assert "rm /bin/busybox" in script  # the command is gone: 127, as in a shell
    assert tree.nodes == before


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\n",
        b"echo no first line\n",
        b"#!\n",
        b"#!/usr/bin/lua\nx()\n",
        b"#!/bin/sh -z\n:\n",
        b"\x7fELF\x02\x01\x01",
        b"#!/bin/sh\n\x00\xff'",
    ],
)
def test_what_is_no_shell_script_is_refused(tree: Tree, script: bytes) -> None:
    tree.write("usr/bin/lua", b"\x7fELF", mode=0o755)
    with pytest.raises(ScriptNotUnderstood):
        Emulator().run(tree, Package(), "pre-install", script, ("1",))


def test_a_script_without_its_interpreter_fails_as_in_apk(tree: Tree) -> None:
    with pytest.raises(InstallRefused, match="exit status 127"):
        Emulator().run(tree, Package(), "pre-install", b"#!/bin/bash\n:\n", ("1",))
    with pytest.raises(InstallRefused, match="exit status 127"):
        Emulator().run(tree, Package(), "pre-install", b"#!/none\nexit 0\n", ("1",))


def test_a_script_that_does_nothing_costs_nothing(tree: Tree) -> None:
    nodes = tree.nodes
    run(tree, "# only a comment\n\nexit 0")
    assert tree.nodes is nodes


def test_the_usual_account_script_is_understood(tree: Tree) -> None:
    script = "addgroup -S nginx 2>/dev/null\nadduser -S -D -H -h /var/lib/nginx -s /sbin/nologin -G nginx -g nginx nginx 2>/dev/null\nexit 0"
    assert run(tree, script) == ""
    assert (tree.read("etc/passwd") or b"").endswith(b"nginx:x:100:100:nginx:/var/lib/nginx:/sbin/nologin\n")
    assert (tree.read("etc/group") or b"").endswith(b"nginx:x:100:nginx\n")
    again = dict(tree.nodes)
    run(tree, script)
    assert tree.nodes == again, "an account that exists is a complaint, not a change"


def test_files_are_made_moved_and_marked(tree: Tree) -> None:
    run(
        tree,
        "mkdir -p /srv/a/b; install -d -m 750 -o nobody -g shadow /srv/c; ln -s a /srv/link; ln -sfn c /srv/link\n"
        "touch /srv/a/f; chmod 4755 /srv/a/f; chown nobody:nobody /srv/a/f; mv /srv/a/f /srv/g; cp -a /srv/c /srv/d\n"
        "rm -rf /srv/a; rmdir /srv/d; ln /srv/g /srv/h; chmod u=rw,go= /srv/h",
    )
    shown = {
        node.path: (node.kind, node.mode, node.uid, node.gid, node.target)
        for node in tree
        if node.path.startswith("srv/")
    }
    assert shown == {
        "srv/c": ("directory", 0o750, 65534, 42, ""),
        "srv/link": ("symlink", 0o777, 0, 0, "c"),
        "srv/g": ("file", 0o600, 65534, 65534, ""),
        "srv/h": ("hardlink", 0o600, 65534, 65534, "srv/g"),
    }
    assert all(node.origin == TOP and node.mtime == tree.epoch for node in tree if node.path.startswith("srv/"))


def test_a_file_is_not_copied_over_a_directory(tree: Tree) -> None:
    tree.write("srv/x", b"content")
    tree.write("srv/d/x/below", b"stays")
    run(tree, "cp /srv/x /srv/d || echo refused")
    assert tree.nodes["srv/d/x"].kind == "directory"
    assert tree.read("srv/d/x/below") == b"stays"


def test_removing_the_first_name_of_a_file_leaves_the_others(tree: Tree) -> None:
    tree.write("a", b"content")
    run(tree, "ln /a /b; ln /a /c; rm /a; echo more >> /c")
    assert tree.get("a") is None
    assert tree.read("b") == tree.read("c") == b"contentmore\n"
    run(tree, "mv /b /z")
    assert tree.read("c") == b"contentmore\n"


def test_changing_the_owner_clears_suid_unless_it_is_a_directory(tree: Tree) -> None:
    run(tree, "touch /f; mkdir /d; chmod 6755 /f; chmod 2755 /d; chown nobody /f /d")
    assert tree.nodes["f"].mode == 0o755
    assert tree.nodes["d"].mode == 0o2755


def test_the_umask_counts(tree: Tree) -> None:
    run(tree, "umask 077; touch /f; mkdir /d; mkdir -p /e/f; echo > /g")
    assert [tree.nodes[path].mode for path in ("f", "d", "e", "e/f", "g")] == [0o600, 0o700, 0o700, 0o700, 0o600]


def test_values_of_the_running_system_may_be_printed_only(tree: Tree) -> None:
    tree.make_symlink("bin/hostname", "/bin/busybox")
    assert (
        run(tree, 'h=$(hostname -f); cat <<EOF\nGo to http://$h/\nEOF\necho "$$"') == "Go to http://(hostname)/\n($$)\n"
    )


def test_passwords_are_set_as_given(tree: Tree) -> None:
    tree.make_symlink("bin/chpasswd", "/bin/busybox")
    run(tree, "echo 'root:*' | chpasswd -e")
    assert tree.read("etc/shadow") == b"root:*:19675:0:::::\n"


def test_shells_are_added_and_removed(tree: Tree) -> None:
    run(tree, "add-shell /bin/bash /bin/sh; remove-shell /bin/ash")
    assert tree.read("etc/shells") == b"# valid login shells\n/bin/sh\n/bin/bash\n"


def test_openrc_links_are_made(tree: Tree) -> None:
    tree.write("sbin/rc-update", b"\x7fELF", mode=0o755)
    tree.write("etc/init.d/sshd", b"", mode=0o755)
    tree.make_directory("etc/runlevels/default")
    run(tree, "rc-update add sshd default; rc-update add none default || echo none")
    node = tree.get("etc/runlevels/default/sshd")
    assert node is not None
    assert (node.kind, node.target) == ("symlink", "/etc/init.d/sshd")


def test_capabilities_become_an_attribute(tree: Tree) -> None:
    tree.write("usr/sbin/setcap", b"\x7fELF", mode=0o755)
    tree.write("bin/ping", b"\x7fELF", mode=0o755)
    run(tree, "setcap cap_net_raw,cap_net_admin+ep /bin/ping")
    assert tree.nodes["bin/ping"].xattrs == (
        ("security.capability", bytes.fromhex("0100000200300000000000000000000000000000")),
    )
    with pytest.raises(ScriptNotUnderstood, match="not known"):
        run(tree, "setcap cap_none+ep /bin/ping")


def test_scripts_in_the_image_are_followed_too(tree: Tree) -> None:
    tree.write("usr/sbin/setup-it", b'#!/bin/sh\nmkdir "$1"\nmystery\n', mode=0o755)
    assert "mystery: not found" in run(tree, "/usr/sbin/setup-it /made || true")
    assert "made" in tree
    tree.write("usr/bin/mystery", b"\x7fELF", mode=0o755)
    with pytest.raises(ScriptNotUnderstood, match="/usr/sbin/setup-it:3"):
        run(tree, "/usr/sbin/setup-it /made")


def test_a_dash_reads_backslashes_in_echo_otherwise(tree: Tree) -> None:
    tree.write("usr/bin/dash", b"\x7fELF", mode=0o755)
    tree.make_symlink("bin/sh", "/usr/bin/dash")
    assert run(tree, "echo plain") == "plain\n"
    with pytest.raises(ScriptNotUnderstood, match="backslash"):
        run(tree, "echo 'a\\nb'")


def test_programs_of_other_packages_are_not_taken_for_busybox(tree: Tree) -> None:
    tree.remove("bin/adduser")
    tree.write("usr/sbin/adduser", b"\x7fELF", mode=0o755)
    with pytest.raises(ScriptNotUnderstood, match="not busybox's"):
        run(tree, "adduser -S -D x")


def test_each_busybox_is_asked_for_its_own_answer(tree: Tree) -> None:
    run(tree, "adduser -S -D x")
    tree.write("bin/busybox", b"BusyBox v1.27.2\n\0/bin/false\0", mode=0o755)
    run(tree, "adduser -S -D y")
    shells = [line.rpartition(b":")[2] for line in (tree.read("etc/passwd") or b"").splitlines()]
    assert shells[-2:] == [b"/sbin/nologin", b"/bin/false"]
