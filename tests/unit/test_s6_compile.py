"""Each rule of the compiler: the smallest source that breaks it, where the finding points, and what helps."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from sixsmith.rootfs.tree import Tree
from sixsmith.s6.compile import CompileReport, check_directories, check_sources
from sixsmith.s6.definitions import (
    parse_list,
    parse_number,
    parse_timeout,
    parse_type,
    why_not_a_number,
    why_not_a_type,
)
from sixsmith.s6.graph import cycles, way_round
from sixsmith.s6.sources import Entry, make_source, read_source_directory, source_from_tree, sources_from_tree

RUN = "#!/bin/sh\nexec sleep 1\n"


def longrun(**files: Any) -> dict[str, Any]:
    return {"type": "longrun\n", "run": RUN, **{name.replace("_", "-"): value for name, value in files.items()}}


def oneshot(**files: Any) -> dict[str, Any]:
    return {"type": "oneshot\n", "up": "true\n", **{name.replace("_", "-"): value for name, value in files.items()}}


def bundle(*members: str) -> dict[str, Any]:
    return {"type": "bundle\n", "contents.d": dict.fromkeys(members, "")}


def check(*trees: dict[str, Any]) -> CompileReport:
    return check_sources([make_source(f"src{index}", tree) for index, tree in enumerate(trees)])


REFUSED = [
    ({"a": {}}, "R1", "src0/a/type", 0, "the directory is empty"),
    ({"a": {"run": RUN}}, "R1", "src0/a/type", 0, "longrun"),
    ({"a": {"Type": "longrun\n", "run": RUN}}, "R1", "src0/a/type", 0, "'Type'"),
    ({"a": longrun(type="longrun\r\n")}, "R1", "src0/a/type", 1, "carriage return"),
    ({"a": longrun(type="longrun \n")}, "R1", "src0/a/type", 1, "behind the word"),
    ({"a": longrun(type="\ufefflongrun\n")}, "R1", "src0/a/type", 1, "byte order mark"),
    ({"a": longrun(type="Longrun\n")}, "R1", "src0/a/type", 1, "lower-case"),
    ({"a": longrun(type="")}, "R1", "src0/a/type", 1, "empty"),
    ({"s6rc-x": longrun()}, "R2", "src0/s6rc-x", 0, "rename"),
    ({"s6-rc-notes": "a plain file"}, "R2", "src0/s6-rc-notes", 0, "move"),
    ({"a\nb": longrun()}, "R2", "src0/a\\nb", 0, "rename"),
    ({"a": longrun(dependencies="x\ns6rc-fdholder\n"), "x": oneshot()}, "R2", "src0/a/dependencies", 2, "by itself"),
    ({"a": longrun(dependencies="# base\n\nnope\n")}, "R4", "src0/a/dependencies", 3, "define it"),
    ({"a": longrun(dependencies="db \n"), "db": oneshot()}, "R4", "src0/a/dependencies", 1, "white space"),
    ({"a": longrun(dependencies="db\r\n"), "db": oneshot()}, "R4", "src0/a/dependencies", 1, "carriage return"),
    ({"a": longrun(dependencies="db # it\n"), "db": oneshot()}, "R4", "src0/a/dependencies", 1, "line of its own"),
    ({"a": longrun(dependencies="b c\n"), "b": oneshot(), "c": oneshot()}, "R4", "src0/a/dependencies", 1, "one name per"),
    ({"a": longrun(dependencies="nginxx\n"), "nginx": oneshot()}, "R4", "src0/a/dependencies", 1, "'nginx'"),
    ({"a": longrun(dependencies="base\n")}, "R4", "src0/a/dependencies", 1, "s6-overlay"),
    ({"g": bundle("nope")}, "R4", "src0/g/contents.d/nope", 0, "define it"),
    ({"a": longrun(dependencies="a\n")}, "R5", "src0/a/dependencies", 1, "remove one"),
    ({"g": bundle("h"), "h": bundle("g")}, "R5", "src0/g/contents.d/h", 0, "bundle cannot hold itself"),
    ({"a": oneshot(dependencies="user\n"), "user": bundle("a")}, "R5", "src0/a/dependencies", 1, "bundle that it is in"),
    ({"g": {"type": "bundle\n"}}, "R6", "src0/g/contents.d", 0, "contents.d"),
    ({"g": {"type": "bundle\n", "content.d": {}}}, "R6", "src0/g/contents.d", 0, "'content.d'"),
    ({"a": {"type": "oneshot\n", "run": RUN}}, "R7", "src0/a/up", 0, "not `run`"),
    ({"a": {"type": "longrun\n", "up": "true\n"}}, "R8", "src0/a/run", 0, "not `up`"),
    ({"a": longrun(run={"x": ""})}, "R8", "src0/a/run", 0, "script"),
    ({"a": oneshot(up="true\nif { x\n")}, "R9", "src0/a/up", 2, "close the block"),
    ({"a": oneshot(down='echo "\n')}, "R9", "src0/a/down", 1, "closing"),
    ({"a": oneshot(up='#!/bin/sh\n[ "$a" = \'"\' ] && b\n')}, "R9", "src0/a/up", 2, "not a shell script"),
    ({"a": longrun(producer_for="")}, "R14", "src0/a/producer-for", 0, "one consumer"),
    ({"a": longrun(consumer_for="b\n"), "b": oneshot()}, "R14", "src0/a/consumer-for", 1, "longruns"),
    ({"a": longrun(timeout_up="5s\n")}, "R16", "src0/a/timeout-up", 1, "units"),
    ({"a": oneshot(timeout_down="-1\n")}, "R16", "src0/a/timeout-down", 1, "negative"),
    ({"a": longrun(max_death_tally="many")}, "R16", "src0/a/max-death-tally", 1, "whole number"),
    ({"a": longrun(notification_fd="three")}, "R17", "src0/a/notification-fd", 1, "descriptor"),
    ({"a": longrun(notification_fd="3", lock_fd="3")}, "R17", "src0/a/lock-fd", 1, "different"),
    ({"a": longrun(dependencies={"b": ""})}, "R32", "src0/a/dependencies", 0, "file"),
    ({"a": longrun(**{"dependencies.d": "b\n"})}, "R32", "src0/a/dependencies.d", 0, "directory"),
    ({"a": Entry("lost", reason="ELOOP", target=b"a")}, "R32", "src0/a", 0, "point"),
    ({"a": longrun(finish=None)}, "R32", "src0/a/finish", 0, "file"),
    ({"a": longrun(finish=Entry("pipe"))}, "R32", "src0/a/finish", 0, "regular file"),
    ({"a": longrun(flag_essential=Entry("lost", reason="ELOOP"))}, "R32", "src0/a/flag-essential", 0, "point"),
    ({"a": longrun(data="x")}, "R33", "src0/a/data", 0, "data/check"),
    ({"a": longrun(env="x")}, "R33", "src0/a/env", 0, "directory"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "rule", "path", "line", "hint"), REFUSED)
def test_refused(tree: dict[str, Any], rule: str, path: str, line: int, hint: str) -> None:
    report = check(tree)
    assert not report.accepted
    (finding,) = report.findings
    assert (finding.rule, finding.severity, finding.path, finding.line) == (rule, "error", path, line)
    assert hint in finding.hint and finding.reference.startswith("https://")


@pytest.mark.parametrize(
    "tree",
    [
        {".git": {"type": "x"}, "a": longrun(), "README": "words"},
        {"a": longrun(**{"dependencies.d": {".gitkeep": "", "b": ""}}), "b": oneshot(up="")},
        {"a": longrun(dependencies="nope\n", **{"dependencies.d": {}})},
        {"a": longrun(consumer_for="", data={"check": RUN}, env={}, down_signal="SIGNOPE\n", flag_essential="")},
        {"a": longrun(finish=Entry("lost", reason="ENOENT")), "b": oneshot(down=Entry("device"))},
        {"a": longrun(up="{", contents="nope")},
        {"g": {"type": "bundle", "contents": "\t a\n# none\n", "dependencies": "nope\n"}, "a": oneshot()},
        {"a b": longrun(), "d\u00e9mon": longrun(), "a@b": longrun()},
        {"a": longrun(dependencies="b\nb\n"), "b": oneshot()},
    ],
)
def test_accepted_without_a_word(tree: dict[str, Any]) -> None:
    assert check(tree) == CompileReport(True, (), check(tree).definitions)


def test_warnings_do_not_refuse() -> None:
    report = check({}, {"a": longrun(pipeline_name="x", notification_fd="1\n")})
    assert report.accepted
    assert [(f.rule, f.severity, f.path) for f in report.findings] == [
        ("R34", "warning", "src0"),
        ("R15", "warning", "src1/a/pipeline-name"),
        ("R17", "warning", "src1/a/notification-fd"),
    ]


def test_pipelines() -> None:
    first = longrun(producer_for="b\n")
    middle = longrun(consumer_for="a\n", producer_for="c\n")
    last = longrun(consumer_for="b\n", pipeline_name="pl\n")
    user = oneshot(dependencies="pl\n")
    assert check({"a": first, "b": middle, "c": last, "d": user}).findings == ()
    assert check({"a": {**first, "dependencies": "pl\n"}, "b": middle, "c": last}).findings[0].rule == "R5"
    taken = check({"a": first, "b": middle, "c": last, "pl": user})
    assert next((f.rule, f.path, f.line) for f in taken.findings) == ("R15", "src0/c/pipeline-name", 1)
    alone = check({"a": first, "b": longrun()})
    assert "src0/b/consumer-for" in alone.findings[0].hint
    circle = check(
        {"a": longrun(producer_for="b\n", consumer_for="b\n"), "b": longrun(producer_for="a", consumer_for="a")}
    )
    assert [f.rule for f in circle.findings] == ["R5"]


def test_all_findings_are_collected_and_later_ones_do_not_repeat_earlier_ones() -> None:
    report = check(
        {
            "a": {"type": "long run\n"},
            "b": longrun(dependencies="a\nnope\n", timeout_up="x", producer_for="a\n"),
            "c": {"type": "oneshot\n", "down": "}"},
        }
    )
    assert [(f.rule, f.path) for f in report.findings] == [
        ("R1", "src0/a/type"),
        ("R16", "src0/b/timeout-up"),
        ("R7", "src0/c/up"),
        ("R9", "src0/c/down"),
        ("R4", "src0/b/dependencies"),
    ]


def test_a_name_defined_twice() -> None:
    report = check({"a": longrun()}, {"a": oneshot(), "base": oneshot()}, {"base": oneshot()})
    assert [(f.rule, f.path) for f in report.findings] == [("R3", "src1/a"), ("R3", "src2/base")]
    assert "src0/a" in report.findings[0].message and "overlay" in report.findings[1].hint


def test_a_cycle_is_shown_whole() -> None:
    report = check(
        {"a": longrun(dependencies="g\n"), "g": bundle("b"), "b": oneshot(dependencies="c\na\n"), "c": oneshot()}
    )
    (finding,) = report.findings
    assert finding.message.endswith("a → g → b → a") and (finding.path, finding.line) == ("src0/a/dependencies", 1)


# --- the little formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"longrun", "longrun"), (b"bundle\n", "bundle"), (b"longrun\nanything", "longrun"), (b"oneshot\n\n", "oneshot"), (b"bundle\0", "bundle"),
     (b"bundle\n\n", None), (b"bundle\nx", None), (b"longrun\0", None), (b"longrunx", None), (b"", None), (b" bundle", None)],
)  # fmt: skip
def test_type(content: bytes, kind: str | None) -> None:
    assert parse_type(content) == kind


def test_why_not_a_type_never_fails() -> None:
    for content in (
        b"",
        b"\0",
        b"\xef\xbb\xbf",
        b"longrun\0",
        b"longrun\tx",
        b"\xff",
        b"bundle\n\n",
        b"longrun longrun",
    ):
        assert "write" in why_not_a_type(content)


@pytest.mark.parametrize(
    ("content", "timeout", "number"),
    [(b"5", 5, 5), (b"5\n\n\n", 5, 5), (b"05\n", 5, 5), (b"5\0x", 5, 5), (b"5\nx", None, 5), (b"\n5", None, None), (b"", None, None), (b"5 ", None, None),
     (b"4294967295", 4294967295, 4294967295), (b"4294967296", None, None), (b"+5", None, None), (b"\xd9\xa3", None, None),
     (b"0" * 11 + b"x", None, 0), (b"0" * 63 + b"x", 0, 0), (b"0" * 62 + b"x", None, 0), (b"4294967295x", None, None)],
)  # fmt: skip
def test_numbers(content: bytes, timeout: int | None, number: int | None) -> None:
    assert (parse_timeout(content), parse_number(content)) == (timeout, number)
    assert why_not_a_number(content, "milliseconds")


def test_hints_survive_absurd_numbers() -> None:
    assert "32 bits" in why_not_a_number(b"9" * 100_000, "milliseconds")


def test_lists() -> None:
    listed = parse_list(b"\n \t a \n#b\n  # c\nd#e\na \nf\0g\n\0h\ni", b"dependencies")
    assert [(each.name, each.line) for each in listed] == [(b"a ", 2), (b"d#e", 5), (b"f", 7), (b"i", 9)]


def test_cycles() -> None:
    graph = {b"a": [b"b"], b"b": [b"c", b"x"], b"c": [b"a", b"d"], b"d": [b"d"], b"e": [b"a"]}
    assert sorted(map(sorted, cycles(graph))) == [[b"a", b"b", b"c"], [b"d"]]
    assert way_round(graph, frozenset((b"a", b"b", b"c"))) == (b"a", b"b", b"c")
    assert cycles({b"a": [b"b"], b"b": []}) == []
    deep = {b"%d" % i: [b"%d" % (i + 1)] for i in range(100_000)}
    assert cycles(deep) == []
    deep[b"100000"] = [b"0"]
    assert len(cycles(deep)[0]) == 100_001


# --- where sources come from -------------------------------------------------------------------------------------


def test_ten_thousand_services_take_linear_time() -> None:
    """Twice the services take about twice as long; the real compiler's square of bits is warned of."""

    def seconds(count: int) -> float:
        files = {f"s{i}": oneshot(dependencies=f"s{i - 1}\ns{i // 2}\n" if i > 1 else "") for i in range(count)}
        source = make_source(
            "src", {**files, "all": bundle(*files), "wrong": longrun(dependencies="\n".join(map(str, range(count))))}
        )
        started = time.perf_counter()
        report = check_sources([source])
        assert sum(f.rule == "R4" for f in report.findings) == count
        assert any(f.rule == "R35" for f in report.findings) == (count > 8_000)
        return time.perf_counter() - started

    assert min(seconds(10_000) for _ in range(2)) < 6 * min(seconds(2_500) for _ in range(3)) + 1


def test_odd_things_on_disk(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for name in ("loop", "broken", "socket", "pipe", "null", "own"):
        (source / name).mkdir(parents=True)
        (source / name / "type").write_text("oneshot\n")
    (source / "loop" / "up").symlink_to("up")
    (source / "broken" / "up").symlink_to("nowhere")
    os.mknod(source / "socket" / "up", 0o600 | stat.S_IFSOCK)
    os.mkfifo(source / "pipe" / "up")
    (source / "null" / "up").symlink_to("/dev/null")
    (source / "own" / "up").write_text("true")
    (source / "own" / "data").symlink_to(".")
    (source / "again").symlink_to("own")
    (source / os.fsdecode(b"\xff")).write_bytes(b"plain")
    found = {finding.path: finding.rule for finding in check_directories([source]).findings}
    assert found == {f"{source}/loop/up": "R32", f"{source}/broken/up": "R7", f"{source}/socket/up": "R32"}
    (source / "round").symlink_to("round")
    messages = [finding.message for finding in check_directories([source]).findings]
    assert any(message.startswith("the symbolic link `round` runs in a circle") for message in messages)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "round").symlink_to("round")
    report = check_directories([tmp_path / "no", tmp_path / "file", tmp_path / "round"])
    assert not report.accepted and [f.rule for f in report.findings] == ["R34"] * 3


def test_unreadable_files_are_a_finding() -> None:
    files = {"a": longrun(type=Entry("lost", reason="EACCES")), "b": oneshot(up=Entry("lost", reason="EIO"))}
    assert [f.message for f in check(files).findings] == [
        "there is no permission to read this",
        "this cannot be read (EIO)",
    ]


def test_an_images_tree_reads_like_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "s6-rc.d"
    tree = Tree()
    for path, content in {
        "web/type": "longrun\n",
        "web/run": RUN,
        "web/dependencies.d/base": "",
        "web/data/check": RUN,
        "base/type": "oneshot\n",
        "base/up": "/etc/go\n",
        "user/type": "bundle\n",
        "user/contents.d/web": "",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
        tree.write(f"etc/s6-overlay/s6-rc.d/{path}", content.encode(), mode=0o644)
    for name, target in {"link": "web", "round": "round", "broken": "none"}.items():
        (folder / "base" / name).symlink_to(target)
        tree.make_symlink(f"etc/s6-overlay/s6-rc.d/base/{name}", target)
    tree.make_symlink("etc/s6-rc", "s6-overlay/s6-rc.d")
    read = read_source_directory(folder, "x")
    assert source_from_tree(tree, "etc/s6-overlay/s6-rc.d", "x") == source_from_tree(tree, "/etc/s6-rc/", "x") == read
    missing, plain = sources_from_tree(tree, ["etc/no", "etc/s6-rc/web/run"])
    assert (missing.path, missing.problem, plain.problem) == ("/etc/no", "ENOENT", "ENOTDIR")
