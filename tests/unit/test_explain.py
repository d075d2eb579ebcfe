"""Lines of real logs, and what they mean. The lines are facts from the issues that the table names."""

from __future__ import annotations

import time

import pytest

from sixsmith.s6 import explain as module
from sixsmith.s6.explain import explain, explain_line, explain_log
from sixsmith.s6.lint import LEFT_OUT, RULES

LINES = [
    ("s6-overlay-suexec: fatal: can only run as pid 1", "I1"),
    ("s6-overlay-suexec: warning: unable to gain root privileges (is the suid bit set?)", "I10"),
    ("/package/admin/s6-overlay/libexec/preinit: fatal: /run belongs to uid 0 instead of 999 and we're lacking the privileges to fix it.", "I8"),
    ("s6-overlay-suexec: fatal: child failed with exit code 100", "I8"),
    ("s6-rmrf: fatal: unable to remove /run/s6: Permission denied", "I8"),
    ("s6-mkdir: warning: unable to mkdir /var/run/s6: Permission denied", "I8"),
    ("s6-mkdir: fatal: unable to mkdir /run/s6: Read-only file system", "I11"),
    ("s6-rc-compile: fatal: invalid /etc/s6-overlay/s6-rc.d/app/type: must be oneshot, longrun, or bundle", "R1"),
    ("s6-rc-compile: fatal: unable to read /etc/s6-overlay/s6-rc.d/svc-php-fpm/type: No such file or directory", "R1"),
    ("s6-rc-compile: fatal: during resolution of bundle user: undefined service name ghost", "R4"),
    ("s6-rc: fatal: timed out", "V4"),
    ("s6-sudoc: fatal: unable to get exit status from server: Operation timed out", "V4"),
    ("s6-rc: warning: unable to start service tubesync-init: command exited 111", "V4"),
    ("s6-rc: warning: unable to start service init: command exited 1", "R10"),
    ("/run/s6/basedir/scripts/rc.init: warning: s6-rc failed to properly bring all the services up! Check your logs", "V5"),
    ("/run/s6/basedir/scripts/rc.init: fatal: stopping the container.", "V6"),
    ("prog: fatal: stopping the container.", "V6"),
    ("s6-supervise (child): fatal: unable to exec run: Permission denied", "S1"),
    ("s6-supervise get_iplayer/log (child): fatal: unable to exec run: Permission denied", "S1"),
    ("s6-supervise nginx: warning: unable to spawn ./run (waiting 60 seconds): Permission denied", "S1"),
    ("s6-supervise shenzhuo/log: warning: unable to spawn ./run (waiting 60 seconds): No such file or directory", "S2"),
    ("s6-supervise app (child): fatal: unable to exec run: Exec format error", "S4"),
    ("s6-supervise sys: fatal: unable to mkdir event: Read-only file system", "S17"),
    ("/etc/cont-init.d/10-x: line 1: /etc/cont-init.d/10-x: Permission denied", "S1"),
    ("/bin/sh: /etc/cont-init.d/10-x: not found", "S2"),
    ("cont-init: info: /etc/cont-init.d/10-x exited 126", "S1"),
    ("[cont-init.d] 10-x: exited 1. ", "S2"),
    ("backtick: fatal: unable to spawn printcontenv: No such file or directory", "S5"),
    ("exec /init: exec format error", "M2"),
    ("exec /init: no such file or directory", "M1"),
    ("standard_init_linux.go:228: exec user process caused: exec format error", "M2"),
    ("s6-applyuidgid: fatal: unable to set supplementary group list: Operation not permitted", "S20"),
    ("s6-log: fatal: unable to mkdir /var/log/app: Permission denied", "R31"),
    ("s6-svscan: warning: unable to iopause: Operation not permitted", ""),
    ("s6-chown: fatal: UID not set", "I10"),
    ("/usr/bin/env: 'bash\\r': No such file or directory", "S2"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "rule"), LINES)
@pytest.mark.parametrize("before", ["", "2024-12-28T21:01:35.199986576Z ", "app_1  | ", "\x1b[31m", "pod-79 web "])
def test_lines_of_logs(line: str, rule: str, before: str) -> None:
    found = explain_line(before + line)
    assert found is not None
    assert not rule or rule in found.rules
    assert "{" not in found.cause + found.fix


@pytest.mark.parametrize(
    "line",
    [
        "",
        "s6-rc: info: service s6rc-oneshot-runner: starting",
        "s6-rc: info: service fix-attrs successfully started",
        "cont-init: info: running /etc/cont-init.d/10-x",
        "cont-init: info: /etc/cont-init.d/10-x exited 0",
        "[cont-init.d] 10-x: exited 0.",
        "[services.d] done.",
        "preinit: info: container permissions: uid=0 (root), euid=0, gid=0 (root), egid=0",
        '127.0.0.1 - - [01/Jan/2024] "GET /index.html" 404 not found',
        "Listening on 0.0.0.0:8080",
        "s6-svscan: info: reloading",
    ],
)
def test_ordinary_lines_need_no_explanation(line: str) -> None:
    assert explain_line(line) is None


def test_a_log_says_each_thing_once() -> None:
    log = (
        "hello\n"
        + "s6-supervise app (child): fatal: unable to exec run: Permission denied\n" * 50
        + "s6-rc: fatal: timed out\n"
    )
    found = explain_log(log)
    assert [(each.line, each.count) for each in found] == [(2, 50), (52, 1)]
    assert "app" in found[0].cause


def test_one_line_for_other_programs() -> None:
    assert explain("ok") is None
    assert "pid 1" in (explain("s6-overlay-suexec: fatal: can only run as pid 1") or "")


def test_rules_that_are_named_exist() -> None:
    known = set(RULES) | {left.id for left in LEFT_OUT}
    assert {rule for entry in module._ENTRIES for rule in entry.rules} <= known


def test_long_and_hostile_lines_take_little_time() -> None:
    started = time.process_time()
    for piece in (
        "fatal: ",
        "s6-supervise ",
        "exec ",
        "/run",
        "unable to ",
        "s6-rc-compile: fatal: ",
        "\x1b[",
        "qemu-",
    ):
        explain_line(piece * 200_000)
    assert time.process_time() - started < 3
