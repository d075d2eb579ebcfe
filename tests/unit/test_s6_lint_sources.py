"""For each rule beyond the compiler's: a smallest source that breaks it, a smallest one that does not, and no false alarms."""

from __future__ import annotations

from typing import Any

import pytest

from sixsmith.rootfs.tree import Tree
from sixsmith.s6.compile import check_sources
from sixsmith.s6.finding import Finding
from sixsmith.s6.lint_sources import lint_sources
from sixsmith.s6.sources import Entry, make_source

RUN = "#!/bin/sh\nexec sleep 1\n"
OVERLAY = {
    "top": {"type": "bundle\n", "contents.d": {"user": "", "user2": "", "base": "", "legacy-services": ""}},
    "base": {"type": "bundle\n", "contents.d": {"fix-attrs": "", "legacy-cont-init": ""}},
    "fix-attrs": {"type": "oneshot\n", "up": "/package/admin/s6-overlay-3.2.1.0/etc/s6-rc/scripts/fix-attrs\n"},
    "legacy-cont-init": {
        "type": "oneshot\n",
        "up": "/package/admin/s6-overlay-3.2.1.0/etc/s6-rc/scripts/cont-init\n",
        "dependencies.d": {"fix-attrs": ""},
    },
    "legacy-services": {
        "type": "oneshot\n",
        "up": "/package/admin/s6-overlay-3.2.1.0/etc/s6-rc/scripts/services-up\n",
        "dependencies.d": {"user": "", "base": ""},
    },
}


def longrun(**files: Any) -> dict[str, Any]:
    return {"type": "longrun\n", "run": RUN, "dependencies.d": {"base": ""}, **_named(files)}


def oneshot(**files: Any) -> dict[str, Any]:
    return {"type": "oneshot\n", "up": "true\n", "dependencies.d": {"base": ""}, **_named(files)}


def listing(dependencies: str) -> dict[str, Any]:
    return {"type": "longrun\n", "run": RUN, "dependencies": dependencies}


def _named(files: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("__", ".").replace("_", "-"): value for name, value in files.items()}


def lint(services: dict[str, Any], tree: Tree | None = None, user: list[str] | None = None) -> list[Finding]:
    """Findings for these services, all in the bundle `user` unless told otherwise, beside the overlay's own."""
    real = [name for name, value in services.items() if isinstance(value, dict) and not name.startswith(".")]
    bundle = {"type": "bundle\n", "contents.d": dict.fromkeys(real if user is None else user, "")}
    sources = [
        make_source("s6-rc.d", {**services, "user": bundle, "user2": {"type": "bundle\n", "contents.d": {}}}),
        make_source("/package/admin/s6-overlay-3.2.1.0/etc/s6-rc/sources", OVERLAY),
    ]
    return list(lint_sources(sources, tree=tree))


def image(*extra: tuple[str, str, int], directories: dict[str, tuple[int, int]] | None = None) -> Tree:
    tree = Tree()
    for path, content, mode in (("bin/sh", "ELF", 0o755), ("bin/true", "ELF", 0o755), *extra):
        tree.write(path, content.encode(), mode=mode)
    for path, (uid, mode) in (directories or {}).items():
        tree.make_directory(path, uid=uid, mode=mode)
    return tree


LOGUTIL = "#!/bin/sh\nexec logutil-service /var/log/web\n"
CHECK = "#!/bin/sh\nexec s6-notifyoncheck -d -n 20 httpd\n"
READY: dict[str, Any] = {"run": CHECK, "notification_fd": "3\n", "data": {"check": RUN}}

BROKEN: list[tuple[str, dict[str, Any], str, int, str]] = [
    ("R10", {"a": oneshot(up="#!/bin/sh\n/etc/go\n")}, "a/up", 1, "comment"),
    ("R10", {"a": oneshot(up="#!/usr/bin/env bash\necho hi\n")}, "a/up", 1, "comment"),
    ("R10", {"a": oneshot(up="#!/command/with-contenv bash\necho hi\n")}, "a/up", 1, "comment"),
    ("R10", {"a": oneshot(up="mkdir /a && mkdir /b\n")}, "a/up", 1, "`&&`"),
    ("R10", {"a": oneshot(up="x\nif [ -e /x ]\n")}, "a/up", 2, "`if [`"),
    ("R10", {"a": oneshot(up="echo $(date)\n")}, "a/up", 1, "`$(date)`"),
    ("R10", {"a": oneshot(down="echo bye > /tmp/x\n")}, "a/down", 1, "`>`"),
    ("R10", {"a": oneshot(up="FOO=bar cmd\n")}, "a/up", 1, "`FOO=bar`"),
    ("R10", {"a": oneshot(up="cd /x; ls\n")}, "a/up", 1, "semicolon"),
    ("R11", {"a": oneshot(up="mkdir /a\nchown x /a\n")}, "a/up", 2, "`chown`"),
    ("R11", {"a": oneshot(up="foreground { true }\nmkdir /a\n# then\nchmod 1 /a\n")}, "a/up", 4, "`chmod`"),
    ("R12", {"a": oneshot(run=RUN)}, "a/run", 0, "never run"),
    ("R18", {"a": listing("base\nb \n"), "b": oneshot()}, "a/dependencies", 2, "white space"),
    ("R18", {"a": listing("base\nb\r\n"), "b": oneshot()}, "a/dependencies", 2, "carriage return"),
    ("R19", {"a": longrun(dependencies="b\n"), "b": oneshot()}, "a/dependencies", 0, "ignored"),
    ("R20", {"a": longrun(log={"run": RUN})}, "a/log", 0, "ignored"),
    ("R21", {"a": longrun(down="")}, "a/down", 0, "ignored"),
    ("R22", {"a": longrun(**{"httpd.conf": "x"})}, "a/httpd.conf", 0, "not copied"),
    ("R22", {"a": longrun(go=RUN, run="#!/bin/sh\n# ./go\nexec ./go\n")}, "a/run", 3, "not copied"),
    ("R22", {"a": longrun(up="true\n")}, "a/up", 0, "never used"),
    ("R24", {"a": longrun(), "b": longrun()}, "b", 0, "nothing starts"),
    ("R25", {"a": longrun(**{"dependency.d": {"b": ""}}), "b": oneshot()}, "a/dependency.d", 0, "`dependencies.d`"),
    ("R25", {"a": longrun(notification_fd="3", run=CHECK, data={"check": RUN}, Finish=RUN)}, "a/Finish", 0, "`finish`"),
    ("R26", {"a": {"type": "longrun\n", "run": RUN}}, "a", 0, "`base`"),
    ("R28", {"note": "x"}, "note", 0, "plain file"),
    ("R28", {".off": longrun()}, ".off", 0, "dot"),
    ("R29", {"a": longrun(run=CHECK, data={"check": RUN})}, "a/run", 2, "nobody to notify"),
    ("R29", {"a": longrun(notification_fd="3\n")}, "a/notification-fd", 0, "descriptor 3"),
    ("R30", {"a": longrun(run=CHECK, notification_fd="3\n")}, "a/run", 2, "data/check"),
    ("R30", {"a": longrun(run=CHECK, notification_fd="3\n", data={"check": Entry("file", b"x", mode=0o644)})}, "a/data/check", 0, "executable"),
    ("R31", {"a": longrun(run=LOGUTIL)}, "a/run", 2, "readiness"),
    ("R31", {"a": longrun(run="#!/bin/sh\nexec s6-setuidgid www logutil-service /var/log/a\n", notification_fd="3")}, "a/run", 2, "another user"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "services", "path", "line", "says"), BROKEN)
def test_broken(rule: str, services: dict[str, Any], path: str, line: int, says: str) -> None:
    user = ["a"] if rule == "R24" else None
    (finding,) = lint(services, user=user)
    assert (finding.rule, finding.path, finding.line) == (rule, f"s6-rc.d/{path}", line)
    assert says in finding.message
    assert finding.severity == ("error" if rule == "R24" else "warning")
    assert finding.hint and finding.reference.startswith("https://")


SOUND: list[dict[str, Any]] = [
    {"a": oneshot(up="/etc/s6-overlay/scripts/go\n")},
    {"a": oneshot(up="#!/command/execlineb -P\nwith-contenv\nforeground { mkdir -p /a }\ncp -a /b /c\n")},
    {"a": oneshot(up='sh -c "test -e /x && echo hi > /y; true"\n')},
    {"a": oneshot(up="importas -D x NAME FOO\nif { eltest -n ${NAME} }\necho ${NAME}\n")},
    {"a": oneshot(up="ifelse { test -e /a }\n{\n  echo a\n}\necho b\n")},
    {"a": oneshot(up="/bin/program\n  --option\n  value\n")},
    {"a": oneshot(up="export FOO bar\nenv\n")},
    {"a": oneshot(up="/etc/s6-overlay/s6-rc.d/a/run\n", run=RUN)},
    {"a": longrun(finish=RUN, timeout_kill="5", flag_essential="", **{"README.md": "words", ".gitkeep": ""})},
    {"a": longrun(go=RUN, run="#!/bin/sh\nexec /etc/s6-overlay/s6-rc.d/a/go\n")},
    {"a": longrun(**READY)},
    {"a": longrun(run='#!/bin/sh\nexec s6-notifyoncheck -c "curl localhost" httpd\n', notification_fd="3")},
    {"a": longrun(run="#!/bin/sh\nexec foo --ready-fd 4\n", notification_fd="4")},
    {"a": longrun(run="#!/bin/sh\nexec /etc/scripts/start.sh\n", notification_fd="3")},
    {"a": longrun(run="#!/bin/sh\n# s6-notifyoncheck would be nice\nexec foo\n")},
    {"README": "how to", ".git": {"HEAD": "x"}, "a": longrun()},
    {"a": longrun(**{"dependencies.d": {"b": ""}}), "b": oneshot()},
]


@pytest.mark.parametrize("services", SOUND)
def test_sound(services: dict[str, Any]) -> None:
    assert lint(services) == []


def test_the_documented_log_pipeline_is_clean() -> None:
    """The example of the overlay's README, its services and its names."""
    services = {
        "myapp": {"type": "longrun\n", "run": "#!/bin/sh\nexec mydaemon-in-the-foreground -opt 2>&1\n", "producer-for": "myapp-log\n"},
        "myapp-log": {
            "type": "longrun\n",
            "run": "#!/bin/sh\nexec logutil-service /var/log/myapp\n",
            "consumer-for": "myapp\n",
            "pipeline-name": "myapp-pipeline\n",
            "notification-fd": "3\n",
            "dependencies.d": {"myapp-log-prepare": ""},
        },
        "myapp-log-prepare": {
            "type": "oneshot\n",
            "up": "if { mkdir -p /var/log/myapp }\nif { chown nobody:nogroup /var/log/myapp }\nchmod 02755 /var/log/myapp\n",
            "dependencies.d": {"base": ""},
        },
    }  # fmt: skip
    assert lint(services, tree=image(), user=["myapp-pipeline"]) == []
    orphaned = lint(services, user=[])
    assert [(f.rule, f.path) for f in orphaned] == [("R24", "s6-rc.d/myapp")]
    assert "contents.d/myapp-pipeline" in orphaned[0].hint


def test_programs_of_up_files_are_looked_up_in_the_image() -> None:
    tree = image(("etc/go", "#!/bin/sh\n", 0o755), ("etc/plain", "#!/bin/sh\n", 0o644))
    tree.make_symlink("etc/round", "round")
    tree.make_directory("etc/dir")

    def says(up: str) -> list[tuple[str, str, int]]:
        return [(f.rule, f.severity, f.line) for f in lint({"a": oneshot(up=up)}, tree=tree)]

    for fine in ("/etc/go", "sh /etc/plain", "with-contenv\n/bin/sh -e /etc/plain", "/run/made/later", "if { /etc/go } true",
                 "/command/foo", "go", "s6-setuidgid www /etc/go", "sh -c /etc/nope", "/bin/${X}"):  # fmt: skip
        assert says(fine) == [], fine
    for wrong, line in (("/etc/nope", 1), ("/etc/plain", 1), ("/etc/dir", 1), ("/etc/round", 1), ("if { /etc/nope }\ntrue", 1),
                        ("# x\ns6-setuidgid www /etc/nope", 2), ("sh /etc/nope", 1), ("with-contenv\n/etc/nope", 2)):  # fmt: skip
        assert says(wrong) == [("R13", "error", line)], wrong


def test_log_directories() -> None:
    def says(directories: dict[str, tuple[int, int]], **needs: Any) -> list[str]:
        services = {"web": longrun(run=LOGUTIL, notification_fd="3\n", **needs)}
        if needs:
            services["prepare"] = oneshot(up="/etc/go\n")
        tree = image(("etc/go", "#!/bin/sh\nmkdir -p /var/log/web\n", 0o755), directories=directories)
        return [f.rule for f in lint(services, tree=tree)]

    assert says({}) == ["R31"]
    assert says({"var/log/web": (0, 0o755)}) == ["R31"]
    assert says({"var/log/web": (65534, 0o755)}) == says({"var/log/web": (0, 0o777)}) == []
    assert says({}, dependencies__d={"prepare": "", "base": ""}) == []


def test_places_that_the_overlay_does_not_look_at() -> None:
    tree = image(directories={"etc/s6-overlay/s6-rd.d": (0, 0o755), "etc/cont-init.d": (0, 0o755)})
    tree.write("etc/services", b"http 80/tcp\n")
    assert [(f.rule, f.path, f.hint) for f in lint({"a": longrun()}, tree=tree)] == [
        ("R25", "/etc/s6-overlay/s6-rd.d", "move it to /etc/s6-overlay/s6-rc.d")
    ]


def test_legacy_services() -> None:
    tree = image(("etc/services.d/old/run", RUN, 0o755))
    on_old = lint({"a": longrun(dependencies__d={"old": "", "base": ""})}, tree=tree)
    assert [(f.rule, f.path) for f in on_old] == [("R27", "s6-rc.d/a/dependencies.d/old")]
    early = lint({"a": longrun(dependencies__d={"legacy-services": ""})}, tree=tree)
    assert [(f.rule, f.path) for f in early] == [("R27", "s6-rc.d/a/dependencies.d/legacy-services")]
    assert lint({"a": longrun()}, tree=tree) == []


def test_only_the_top_of_what_nobody_starts_is_named() -> None:
    services = {
        "a": longrun(dependencies__d={"b": "", "base": ""}),
        "b": oneshot(),
        "g": {"type": "bundle\n", "contents.d": {"a": "", "c": ""}},
        "c": longrun(),
    }
    assert [(f.rule, f.path) for f in lint(services, user=[])] == [("R24", "s6-rc.d/g")]
    assert lint(services, user=["g"]) == []


def test_upstreams_own_sources_are_not_judged() -> None:
    own = make_source("/package/admin/s6-overlay-3.2.1.0/etc/s6-rc/sources", OVERLAY)
    assert lint_sources([own], report=check_sources([own]), tree=image()) == ()


def test_ten_thousand_services_stay_cheap() -> None:
    import time

    services = {f"s{i}": longrun(dependencies__d={f"s{i - 1}" if i else "base": ""}) for i in range(10_000)}
    started = time.perf_counter()
    assert [f.rule for f in lint(services)] == []
    assert time.perf_counter() - started < 15
