"""What of booting is pure: users, statuses, runtime configurations, budgets, histories, log lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sixsmith.boot.boot import ALL_CHECKS, BASIC_CHECKS, check_names
from sixsmith.boot.channel import pair
from sixsmith.boot.container import LogLine, signal_number
from sixsmith.boot.image import arch_of
from sixsmith.boot.measures import (
    check_budget,
    compare,
    compare_with_others,
    history_of,
    keep_report,
    last_report,
)
from sixsmith.boot.report import BootReport, CheckResult, Measures, relevant_lines
from sixsmith.boot.runners import choose_runner
from sixsmith.boot.spec import DOCKER_CAPABILITIES, RunSpec, container_environment
from sixsmith.boot.starters import Account, resolve_user, runc_document
from sixsmith.boot.supervision import parse_status
from sixsmith.budget import bytes_of, over_budget
from sixsmith.cli import run
from sixsmith.cli.booting import printable
from sixsmith.errors import OutsideError, UsageError
from sixsmith.io.namespaces import Emulator
from sixsmith.io.store import Store
from sixsmith.model.arch import ARCHES, Platform

PASSWD = "root:x:0:0:root:/root:/bin/ash\napp:x:1000:1001:App:/home/app:/bin/sh\nodd:x:5:6::\n"
GROUP = "root:x:0:root\napp:x:1001:\nwww:x:33:app,other\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Account(0, 0, (), "/root")),
        ("root", Account(0, 0, (), "/root")),
        ("app", Account(1000, 1001, (33,), "/home/app")),
        ("1000", Account(1000, 1001, (33,), "/home/app")),
        ("app:www", Account(1000, 33, (), "/home/app")),
        ("1000:7", Account(1000, 7, (), "/home/app")),
        ("4242", Account(4242, 0, (), "/")),
        ("4242:4243", Account(4242, 4243, (), "/")),
    ],
)
def test_users_are_looked_up_in_the_image(user: str, expected: Account) -> None:
    assert resolve_user(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize("user", ["nobody", "app:nogroup", "nobody:33"])
def test_unknown_users_and_groups_are_named(user: str) -> None:
    with pytest.raises(OSError, match=r"nobody|nogroup"):
        resolve_user(user, PASSWD, GROUP)


def test_an_image_without_accounts_has_a_root() -> None:
    assert resolve_user("", "", "") == Account(0, 0, (), "/root")


@pytest.mark.parametrize(
    ("hexadecimal", "old", "expected"),
    [
        # as s6 2.7 and 2.9 (v1, v2), 2.12 and 2.13 (v3) wrote them, the times left out
        ("00000000000000be00000c", True, (190, True, False)),
        ("00000000000000c100001c", True, (193, True, True)),
        ("000000000000003b000004", False, (59, True, False)),
        ("000000000000003900000c", False, (57, True, True)),
        ("000000000000000001000c", False, (0, False, True)),
        ("000000000000003a000000000000003a000004", False, (58, True, False)),
        ("0000000000000039000000000000003900000c", False, (57, True, True)),
        ("0000000000000039000000000000003900000e", False, (57, False, True)),
    ],
)
def test_supervise_status(hexadecimal: str, old: bool, expected: tuple[int, bool, bool]) -> None:
    assert parse_status(bytes(24) + bytes.fromhex(hexadecimal), old=old) == expected


def test_supervise_status_of_unknown_size() -> None:
    assert parse_status(b"") is None
    assert parse_status(bytes(44)) is None


def test_runtime_configuration() -> None:
    spec = RunSpec(("/init", "x"), read_only=True, no_new_privileges=True, capabilities=("KILL",), user="app")
    document = runc_document(spec, Account(1000, 1001, (33,), "/"), {"A": "b"}, "/somewhere")
    process = document["process"]
    assert process["args"] == ["/init", "x"] and process["env"] == ["A=b"] and process["noNewPrivileges"]
    assert process["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [33]}
    # only root has effective capabilities from the start
    assert process["capabilities"]["bounding"] == ["CAP_KILL"] and process["capabilities"]["effective"] == []
    assert document["root"] == {"path": "/somewhere", "readonly": True}
    run = next(mount for mount in document["mounts"] if mount["destination"] == "/run")
    assert "exec" in run["options"] and "noexec" not in run["options"]
    assert not any(mount["type"] == "cgroup" for mount in document["mounts"])
    assert "resources" not in document["linux"]
    alone = runc_document(spec, Account(0, 0, (), "/"), {}, "/x", alone=True)
    assert not any("gid=5" in mount["options"] for mount in alone["mounts"])


def test_specs_travel_as_json() -> None:
    spec = RunSpec(("a",), {"X": "1"}, "/w", "u", True, True, ("KILL",), ("/v",))
    assert RunSpec.from_document(spec.document()) == spec
    assert len(DOCKER_CAPABILITIES) == 14


def test_the_image_wins_over_the_default_environment() -> None:
    assert container_environment({"PATH": "/x", "HOME": "/y"}, home="/root")["HOME"] == "/y"
    assert container_environment({}, home="/root")["HOME"] == "/root"


def test_channels_carry_descriptors(tmp_path: Path) -> None:
    import os

    ours, theirs = pair()
    with (tmp_path / "file").open("w+") as file:
        ours.send({"do": "this"}, [file.fileno()])
        received = theirs.receive()
        assert received is not None
        message, descriptors = received
        assert message == {"do": "this"}
        assert not os.get_inheritable(descriptors[0])
        os.write(descriptors[0], b"x")
        os.close(descriptors[0])
    ours.close()
    assert theirs.receive() is None
    assert (tmp_path / "file").read_text() == "x"


def test_check_names() -> None:
    assert check_names(["basic"]) == BASIC_CHECKS
    assert check_names(["all"]) == ALL_CHECKS
    assert check_names(["none"]) == ()
    assert check_names(["stop", "pid-1"]) == ("pid-1", "stop")
    with pytest.raises(UsageError, match="no check 'zombie'") as caught:
        check_names(["zombie"])
    assert "zombies" in (caught.value.hint or "")


def test_runners_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="no runner 'runk'") as caught:
        choose_runner(ARCHES["x86_64"], "runk")
    assert "runc" in (caught.value.hint or "")


def test_platforms_become_architectures() -> None:
    assert arch_of(Platform("amd64")).name == "x86_64"
    assert arch_of(Platform("arm", "v7")).name == "armv7"
    assert arch_of(Platform("arm", "v6")).name == "armhf"
    assert arch_of(Platform("arm64")).name == "aarch64"
    with pytest.raises(UsageError, match="windows"):
        arch_of(Platform("amd64", os="windows"))


def test_the_emulator_is_registered_by_all_its_bytes() -> None:
    line = Emulator("/usr/bin/q", b"\x7fE\x00", b"\xff\xff\xfe").registration()
    assert line == rb":sixsmith:M::\x7f\x45\x00:\xff\xff\xfe:/usr/bin/q:F"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("40M", 40 << 20), ("512K", 512 << 10), ("1G", 1 << 30), ("7", 7), ("1.5M", 3 << 19), ("2MiB", 2 << 20)],
)
def test_sizes(text: str, expected: int) -> None:
    assert bytes_of(text) == expected


MEASURES = Measures(ready_ms=150, stop_ms=800, memory=300_000, processes=6, size=6_000_000)


def test_budgets() -> None:
    verdicts = check_budget(MEASURES, {"size": "5M", "memory": "1M", "ready": "150000000", "layers": "3"})
    assert [(check.name, check.status) for check in verdicts] == [
        ("budget-size", "failed"),
        ("budget-memory", "passed"),
        ("budget-ready", "passed"),
    ]
    assert "6,000,000 bytes, over the budget of 5,242,880 (5M)" in verdicts[0].message
    never = check_budget(Measures(None, None, 0, 0, 0), {"ready": "1000000"})
    assert never[0].status == "failed" and "never ready" in never[0].message


def test_a_build_is_held_against_its_budget() -> None:
    found = {"size": 6_000_000, "layers": 4, "packages": 14}
    assert over_budget({"size": "6M", "layers": "4", "packages": "14", "memory": "1K"}, found) == []
    assert over_budget({"size": "5M", "layers": "3"}, found) == [
        "size 6,000,000 bytes, over the budget of 5,242,880 bytes",
        "layers 4, over the budget of 3",
    ]
    assert over_budget({}, found) == []


def report(digest: str = "sha256:" + "a" * 64, **more: Any) -> BootReport:
    values: dict[str, Any] = {
        "name": "x",
        "digest": digest,
        "runner": "runc",
        "reason": "",
        "exit_code": 0,
        "measures": MEASURES,
        "services": {},
        "checks": (CheckResult("stop", "passed", "fine"),),
        **more,
    }
    return BootReport(**values)


def test_history_is_kept_and_compared(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        assert history_of(store, "a:b/x86_64") == []
        assert last_report(store, "a:b/x86_64") is None
        for moment in range(120):
            keep_report(store, "a:b/x86_64", report(needs={"capabilities": ["KILL"]}), now=moment)
        history = history_of(store, "a:b/x86_64")
        assert len(history) == 100 and history[-1]["at"] == 119 and history[-1]["ready_ms"] == 150
        kept = last_report(store, "a:b/x86_64")
        assert kept is not None and kept["needs"] == {"capabilities": ["KILL"]} and "log" not in kept
        later = Measures(ready_ms=160, stop_ms=2000, memory=300_000, processes=7, size=9_000_000)
        found = compare(history, report(measures=later))
        assert (found.against, found.changed) == ("the last boot", {"stop_ms": 1200, "processes": 1, "size": 3_000_000})
        assert compare(history, report(measures=later, runner="namespaces")).changed == {}
        # another build is held against the one before, however often either was booted
        new = report("sha256:" + "b" * 64, measures=later)
        for moment in (200, 201):
            keep_report(store, "a:b/x86_64", new, now=moment)
            found = compare(history_of(store, "a:b/x86_64"), new)
            assert (found.against, found.changed["stop_ms"]) == ("the last build", 1200)


def test_cells_are_held_against_their_siblings() -> None:
    heavy = Measures(ready_ms=150, stop_ms=800, memory=900_000, processes=6, size=6_000_000)
    assert compare_with_others(heavy, [MEASURES, MEASURES, heavy]) == {"memory": 600_000}
    assert compare_with_others(MEASURES, [MEASURES, heavy]) == {}
    assert compare_with_others(heavy, [MEASURES]) == {}
    silent = Measures(None, None, 300_000, 6, 6_000_000)
    assert compare_with_others(silent, [MEASURES, MEASURES]) == {}
    assert compare_with_others(MEASURES, [silent, silent]) == {}


def test_a_report_is_as_good_as_its_checks() -> None:
    bad = CheckResult("stop", "failed", "no", (("a line", "what it means"),))
    assert report().ok
    assert report(checks=(CheckResult("a", "refused", ""), CheckResult("b", "skipped", ""))).ok
    broken = report(checks=(bad,))
    assert not broken.ok and broken.failures == (bad,)
    (check,) = broken.document()["checks"]
    assert check["log"] == [{"line": "a line", "explanation": "what it means"}]


def test_log_lines_that_matter_come_first_and_once() -> None:
    texts = [f"s6-rc: info: service s{n}: starting" for n in range(20)]
    texts += ["cannot find my database"] * 5 + ["s6-rc: fatal: timed out", "mine says this"]
    lines = [LogLine(0.0, text) for text in texts]
    found = relevant_lines(lines, lambda line: "why" if "fatal" in line else None, about=("s3:",), most=4)
    assert [line for line, _ in found] == [
        "s6-rc: info: service s3: starting",
        "cannot find my database",
        "s6-rc: fatal: timed out",
        "mine says this",
    ]
    assert dict(found)["s6-rc: fatal: timed out"] == "why"


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGTERM", 15), ("term", 15), ("3", 3), ("SIGRTMIN", 34), ("SIGRTMIN+3", 37), ("RTMIN+30", 64)],
)
def test_stop_signals_are_named_as_docker_does(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "SIGNONE", "0", "65", "-9", "SIGRTMIN+31", "TERM+1", "RTMIN+x", "15+1", "²"])
def test_what_is_no_stop_signal(name: str) -> None:
    with pytest.raises(OutsideError, match="which is none"):
        signal_number(name)


def test_what_a_container_says_does_not_steer_the_terminal() -> None:
    assert printable("plain ✓ text") == "plain ✓ text"
    assert (
        printable("a\x1b[31mred\x1b]0;title\x07\ttab\x9b1m\u202e")
        == r"a\x1b[31mred\x1b]0;title\x07" + "\ttab\\x9b1m\\u202e"
    )
    assert printable("\udcff") == r"\udcff"
    assert printable("x" * 600, most=500) == "x" * 500 + " … (100 more)"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--up-within", "nan", "a number of seconds"),
        ("--up-within", "0", "a number of seconds"),
        ("--stop-time", "-1", "a number of seconds"),
        ("--stop-time", "inf", "a number of seconds"),
        ("--runner", "lxc", "no runner 'lxc'"),
        ("--check", "servces", "no check 'servces'"),
    ],
)
@pytest.mark.parametrize("command", ["boot", "test"])
def test_wrong_options_are_told_before_anything_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, option: str, value: str, said: str
) -> None:
    assert run([command, "x", option, value, "-f", str(tmp_path / "none.yaml")]) == 2
    assert said in capsys.readouterr().err
