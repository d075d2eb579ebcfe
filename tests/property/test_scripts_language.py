"""The script parser eats anything without harm, and emulation is all or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from sixsmith.errors import InstallRefused, ScriptNotUnderstood
from sixsmith.rootfs.scripts import Emulator
from sixsmith.rootfs.scripts.busybox import applet_links
from sixsmith.rootfs.scripts.certificates import subject_hash
from sixsmith.rootfs.scripts.patterns import basic_regex, glob_regex
from sixsmith.rootfs.scripts.syntax import NotUnderstood, parse_script
from sixsmith.rootfs.tree import Inline, Tree


@dataclass(frozen=True)
class Package:
    name: str = "p"


PIECES = st.sampled_from(
    [
        "if", "then", "else", "elif", "fi", "for", "in", "do", "done", "while", "until", "case", "esac", "{", "}", "(",
        ")", ";", ";;", "&&", "||", "|", "!", "\n", " ", " ", "\t", "'", '"', "`", "\\", "$", "${", "$(", "$((", "))",
        "x", "x=1", "$x", "$1", '"$@"', "${x:-y}", "${x#*", "<<EOF\n", "EOF", "\nEOF\n", "<<-'E'", ">", ">>", "2>&1",
        "&>", "<", "/etc/passwd", "/f", "/d/e", "*", "?", "[", "]", "echo", "cat", "rm -rf", "mkdir -p", "ln -s", "true",
        "false", "set -e", "exit", "return", "break", "[ -e", "test", "sed s/a/b/", "grep -q", "cut -d: -f1", "#", "&",
        "~", "=", "f()", "local", "eval", "exec", "read x", "shift", "cd", "printf %s", "addgroup -S", "adduser -S -D",
    ]
)  # fmt: skip
SCRIPTS = st.one_of(
    st.text(max_size=200), st.lists(PIECES, max_size=30).map("".join), st.lists(PIECES, max_size=30).map(" ".join)
)


@given(SCRIPTS)
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parse_script(text)
    except NotUnderstood as trouble:
        assert trouble.reason
        assert 0 <= trouble.line <= text.count("\n") + 2


def a_tree() -> Tree:
    tree = Tree(epoch=1)
    tree.write("bin/busybox", b"BusyBox v1.36.1\0/sbin/nologin\0", mode=0o755)
    for name in ("sh", "cat", "rm", "mkdir", "ln", "sed", "grep", "cut", "addgroup", "adduser"):
        tree.make_symlink(f"bin/{name}", "/bin/busybox")
    tree.write("etc/passwd", b"root:x:0:0:root:/root:/bin/ash\n")
    tree.write("etc/group", b"root:x:0:root\nnogroup:x:65533:\n")
    return tree


@settings(max_examples=150, deadline=None)
@given(SCRIPTS)
def test_a_refused_script_leaves_the_tree_as_it_was(text: str) -> None:
    tree = a_tree()
    before = dict(tree.nodes)
    try:
        Emulator().run(tree, Package(), "post-install", b"#!/bin/sh\n" + text.encode(), ("1-r0",))
    except (ScriptNotUnderstood, InstallRefused):
        assert tree.nodes == before
    for path, node in tree.nodes.items():
        assert node.path == path
        assert node.kind != "hardlink" or tree.nodes[node.target].kind == "file"


@settings(max_examples=60, deadline=None)
@given(SCRIPTS)
def test_the_same_script_does_the_same_again(text: str) -> None:
    results = []
    for _ in range(2):
        tree = a_tree()
        emulator = Emulator()
        try:
            emulator.run(tree, Package(), "post-install", b"#!/bin/sh\n" + text.encode(), ("1-r0",))
        except (ScriptNotUnderstood, InstallRefused) as error:
            results.append(("refused", str(error)))
        else:
            results.append((str(list(tree.nodes.values())), str(emulator.messages)))
    assert results[0] == results[1]


@given(st.text(max_size=40), st.booleans(), st.booleans())
def test_any_pattern_is_translated_or_refused(text: str, extended: bool, longest: bool) -> None:
    for make in (
        lambda: basic_regex(text, extended=extended, longest=longest),
        lambda: glob_regex(((text, extended),)),
    ):
        try:
            make()
        except NotUnderstood as trouble:
            assert trouble.reason


@given(st.text(alphabet="ab*?[]!-x\\/.", max_size=8))
def test_a_quoted_pattern_matches_itself_only(text: str) -> None:
    regex = glob_regex(((text, True),))
    assert regex.fullmatch(text)
    assert not regex.fullmatch(text + "a")


@given(st.binary(max_size=300))
def test_any_bytes_are_no_busybox(data: bytes) -> None:
    for binary in (data, b"\0[\0[[\0" + data):
        try:
            links = applet_links(Inline(binary))
        except NotUnderstood:
            continue
        assert links


@given(st.binary(max_size=200))
def test_any_bytes_have_no_subject_or_some(data: bytes) -> None:
    try:
        number = subject_hash(data)
    except (ValueError, IndexError):
        return
    assert 0 <= number < 1 << 32
