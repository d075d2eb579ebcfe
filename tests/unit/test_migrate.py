"""A tree that uses every feature of v1 and v2 becomes one for v3 that compiles and lints clean."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from service_trees import OLD, files_of, old_tree, sources_of
from sixsmith.rootfs.tree import Tree
from sixsmith.s6.compile import check_sources
from sixsmith.s6.finding import Finding
from sixsmith.s6.lint import lint_image
from sixsmith.s6.migrate import Migration, migrate
from sixsmith.s6.migrate_text import rewrite_script
from sixsmith.s6.render_script import RenderedFile
from sixsmith.s6.sources import make_source

S6_RC = "etc/s6-overlay/s6-rc.d"
SCRIPTS = "etc/s6-overlay/scripts"


@pytest.fixture(scope="module")
def migration() -> Migration:
    return migrate(old_tree())


def text(migration: Migration, path: str) -> str:
    (file,) = [file for file in migration.files if file.path == path]
    return file.content.decode()


def test_the_order_of_start_and_stop_is_kept(migration: Migration) -> None:
    def needs(name: str) -> set[str]:
        below = f"{S6_RC}/{name}/dependencies.d/"
        return {file.path.removeprefix(below) for file in migration.files if file.path.startswith(below)}

    assert needs("permissions") == {"base"}
    assert needs("init-adduser") == {"base", "permissions"}
    assert needs("init-config") == {"base", "init-adduser"}
    assert needs("init-check") == {"base", "init-config"}
    assert needs("finish-save") == {"base", "finish-bye"}
    assert needs("web") == needs("web-log") == needs("worker") == {"base", "init-check", "finish-save"}
    assert text(migration, f"{S6_RC}/finish-save/down") == f"/{SCRIPTS}/finish-save\n"
    assert text(migration, f"{S6_RC}/finish-save/up") == "\n"


def test_loggers_become_pipelines(migration: Migration) -> None:
    assert text(migration, f"{S6_RC}/web/producer-for") == "web-log\n"
    assert text(migration, f"{S6_RC}/web-log/consumer-for") == "web\n"
    assert text(migration, f"{S6_RC}/web-log/pipeline-name") == "web-pipeline\n"
    below = f"{S6_RC}/user/contents.d/"
    started = {file.path.removeprefix(below) for file in migration.files if file.path.startswith(below)}
    assert started == {
        *("permissions", "init-adduser", "init-config", "init-check", "finish-save", "finish-bye"),
        *("web-pipeline", "worker", "user-service"),
    }


def test_scripts_are_rewritten(migration: Migration) -> None:
    assert text(migration, f"{SCRIPTS}/init-adduser").startswith("#!/command/with-contenv bash\n")
    assert text(migration, f"{SCRIPTS}/init-config").startswith(
        "#!/command/execlineb -P\nforeground { /command/s6-mkdir -p /var/lib/web }\n"
    )
    assert text(migration, f"{SCRIPTS}/init-check") == f"#!/bin/sh\n[ -r /{SCRIPTS}/init-adduser ] && eltest 1 -eq 1\n"
    finish = text(migration, f"{S6_RC}/web/finish")
    assert "redirfd -w 1 /run/s6-linux-init-container-results/exitcode s6-echo" in finish
    assert finish.endswith("/run/s6/basedir/bin/halt\n") and "eltest ${1} -ne 256" in finish
    run = text(migration, f"{S6_RC}/web/run")
    assert "# /var/run/s6/services is not touched" in run and "--config ./data/web.conf" in run
    assert text(migration, f"{S6_RC}/web/data/web.conf") == "port 80\n"
    assert text(migration, "usr/local/bin/stop") == "#!/bin/sh\n/run/s6/basedir/bin/halt\n"
    assert text(migration, "usr/local/bin/reload") == "#!/bin/sh\ns6-svc -h /run/service/web\n"
    assert text(migration, "usr/share/notes.txt") == OLD["usr/share/notes.txt"]


def test_what_is_not_started_stays(migration: Migration) -> None:
    paths = {file.path: file for file in migration.files}
    assert paths["etc/services.d/manual/run"].mode == 0o755
    assert text(migration, "etc/services.d/manual/run").startswith("#!/command/with-contenv sh\n")
    assert "etc/services.d/web" not in paths and "etc/cont-init.d" not in paths
    scripts = [file for file in migration.files if file.path.startswith(SCRIPTS + "/")]
    assert {file.mode for file in scripts} == {0o755}


def test_decisions_have_places(migration: Migration) -> None:
    places = {(decision.path, decision.line) for decision in migration.decisions}
    assert {
        ("etc/fix-attrs.d/01-data", 5),
        ("etc/services.d/worker/nosetsid", 0),
        ("etc/services.d/manual/down", 0),
        ("etc/services.d/user", 0),
        ("usr/local/bin/reload", 2),
        ("etc/cont-init.d", 0),
        ("etc/cont-finish.d", 0),
    } <= places
    assert str(migration.decisions[0]).startswith("etc/")


def errors_and_warnings(files: tuple[RenderedFile, ...]) -> list[Finding]:
    tree = Tree()
    for file in files:
        if file.kind == "directory":
            tree.make_directory(file.path)
        else:
            tree.write(file.path, file.content, mode=file.mode)
    return [finding for finding in lint_image(tree, None) if finding.severity != "info"]


def test_it_compiles_and_lints_clean(migration: Migration) -> None:
    report = check_sources(
        [*sources_of(migration.files), make_source("/o", {"base/type": "bundle\n", "base/contents.d": None})]
    )
    assert report.accepted and not report.findings, report.findings
    assert errors_and_warnings(migration.files) == []


def test_the_new_tree_stays_as_it_is(migration: Migration) -> None:
    again = migrate(migration.files)
    assert {file.path: file.content for file in again.files} == {file.path: file.content for file in migration.files}


def test_legacy_may_stay() -> None:
    kept = migrate(old_tree(), keep_legacy=True)
    paths = {file.path: file for file in kept.files}
    assert set(paths) == {file.path for file in old_tree()}
    for path in (
        "etc/cont-init.d/10-adduser",
        "etc/services.d/web/run",
        "etc/services.d/web/log/run",
        "etc/cont-finish.d/20-bye",
    ):
        assert paths[path].mode == 0o755
    assert paths["etc/cont-init.d/10-adduser"].content.startswith(b"#!/command/with-contenv bash\n")
    assert paths["etc/services.d/web/finish"].content.endswith(b"/run/s6/basedir/bin/halt\n")
    assert errors_and_warnings(kept.files) == []


def test_later_releases_have_another_bundle() -> None:
    paths = {file.path for file in migrate(old_tree(), order=(3, 2, 3, 2)).files}
    assert "etc/s6-overlay/user-bundles.d/user/contents.d/web-pipeline" in paths


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("exec s6-svscanctl -t /var/run/s6/services", "exec /run/s6/basedir/bin/halt"),
        ("/bin/s6-svscanctl -t '/run/s6/services'", "/run/s6/basedir/bin/halt"),
        ("echo 1 > /var/run/s6/env-stage3/S6_STAGE2_EXITED", "echo 1 > /run/s6-linux-init-container-results/exitcode"),
        ("/usr/bin/printcontenv A", "/command/printcontenv A"),
        ("/bin/if { /bin/importas A B }", "/command/if { /command/importas A B }"),
        ("/bin/ifconfig /bin/sh /usr/bin/env /opt/bin/s6-echo", "/bin/ifconfig /bin/sh /usr/bin/env /opt/bin/s6-echo"),
        ("ls /var/run/s6/services-old /srv/run/s6/services2", "ls /var/run/s6/services-old /srv/run/s6/services2"),
        ("with-contenv-legacy sh", "with-contenv sh"),
    ],
)
def test_lines(old: str, new: str) -> None:
    content, _ = rewrite_script("x", f"#!/bin/sh\n{old}\n".encode(), {})
    assert content.decode() == f"#!/bin/sh\n{new}\n"


@pytest.mark.parametrize(
    ("line", "about"),
    [
        ("s6-svc -d /var/run/s6/services/web", "behind s6-rc's back"),
        ("cat /var/run/s6/etc/x", "no copy"),
        ("justc-envdir /x env", "justc-envdir"),
        ("s6-tcpserver4 0.0.0.0 80 x", "s6-tcpserver4"),
        ("sed -i s/a/b/ /etc/s6/init/init-stage2", "/etc/s6/init"),
        ("fix-attrs < /x", "fix-attrs"),
        ("exit ${S6_STAGE2_EXITED}", "S6_STAGE2_EXITED"),
    ],
)
def test_lines_to_decide(line: str, about: str) -> None:
    _, decisions = rewrite_script("x", f"#!/bin/sh\n{line}\n".encode(), {})
    assert [about in decision.message for decision in decisions] == [True]
    assert decisions[0].line == 2


def test_python_scripts_may_import() -> None:
    assert rewrite_script("x", b"#!/usr/bin/python3\nimport os\nfrom x import y\n", {})[1] == ()


def test_what_is_no_text_stays() -> None:
    for content in (b"\x7fELF/var/run/s6/services", b"#!/bin/sh\n\xff/var/run/s6/services", b""):
        assert rewrite_script("x", content, {}) == (content, ())


@pytest.mark.skipif(platform.system() != "Linux", reason="needs a POSIX shell and find")
def test_the_permissions_script_does_what_fix_attrs_did(tmp_path: Path) -> None:
    for path in ("data/sub/file", "data/.hidden", "cache/a b"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
        (tmp_path / path).chmod(0o600)
    (tmp_path / "data/link").symlink_to("/etc/passwd")
    me = f"{os.getuid()}:{os.getgid()}"
    lines = f"{tmp_path}/data true nobodyatall,{me} 0640 0750\n{tmp_path}/cache/* false {me} 0604 -\n{tmp_path}/none/* true {me} 0 0\n"
    made = migrate(files_of({"etc/fix-attrs.d/x": lines}))
    script = tmp_path / "script"
    script.write_text(text(made, f"{SCRIPTS}/permissions"))
    shell = shutil.which("busybox")
    command = [shell, "sh", str(script)] if shell else ["sh", str(script)]
    subprocess.run(command, check=True, timeout=20)

    def mode(path: str) -> int:
        return (tmp_path / path).stat().st_mode & 0o7777

    assert (mode("data"), mode("data/sub"), mode("data/sub/file"), mode("data/.hidden")) == (0o750, 0o750, 0o640, 0o600)
    assert mode("cache/a b") == 0o604
