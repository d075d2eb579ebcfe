"""Services become the right files for each overlay, and what an overlay cannot express is said at its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service_trees import EXAMPLES, example, services_of, sources_of, texts
from sixsmith.errors import UsageError
from sixsmith.rootfs.tree import BASE, TOP, Tree
from sixsmith.s6.compile import check_sources
from sixsmith.s6.render import apply_services, health_check, read_service_folder, render_services
from sixsmith.s6.sources import make_source

V3 = "3.2.1.0"
SOURCES = "etc/s6-overlay/s6-rc.d"


def rendered(text: str, version: str = V3) -> dict[str, str]:
    result = render_services(services_of(text), version)
    assert not [finding for finding in result.findings if finding.severity == "error"]
    return texts(result.files)


def lost(text: str, version: str) -> list[str]:
    return [
        str(finding) for finding in render_services(services_of(text), version).findings if finding.severity == "error"
    ]


# --- v3


def test_a_longrun_with_a_command() -> None:
    files = rendered('web:\n  run: nginx -g "daemon off;"\n')
    assert files == {
        f"{SOURCES}/web/type": "longrun\n",
        f"{SOURCES}/web/dependencies.d/base": "",
        f"{SOURCES}/web/run": '#!/command/with-contenv sh\nexec nginx -g "daemon off;"\n',
        f"{SOURCES}/user/type": "bundle\n",
        f"{SOURCES}/user/contents.d/web": "",
    }


def test_surroundings_are_lines_and_a_chain() -> None:
    files = rendered(
        "web: {run: [serve, a b], user: app, env: {A: it's}, workdir: /srv, umask: '027', limits: {open-files: 64, core: 0}}"
    )
    assert files[f"{SOURCES}/web/run"].splitlines() == [
        "#!/command/with-contenv sh",
        "export A='it'\"'\"'s'",
        "umask 027",
        "cd /srv || exit 111",
        "exec s6-softlimit -o 64 -c 0 s6-setuidgid app serve 'a b'",
    ]


def test_a_shell_script_is_kept_with_its_lines() -> None:
    files = rendered("web:\n  env: {A: b}\n  run: |\n    #!/bin/sh -e\n    # mine\n    exec web\n")
    assert files[f"{SOURCES}/web/run"] == "#!/command/with-contenv sh\nset -e\nexport A=b\n# mine\nexec web\n"


@pytest.mark.parametrize(
    ("shebang", "kept"),
    [
        ("/bin/sh", "sh"),
        ("/bin/bash", "bash"),
        ("/usr/bin/env python3", "python3"),
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("/usr/bin/with-contenv bash", "bash"),
        ("/command/with-contenv sh", "sh"),
    ],
)
def test_shebangs_get_the_containers_environment(shebang: str, kept: str) -> None:
    text = f"web:\n  run: |\n    #!{shebang}\n    x\n"
    assert rendered(text)[f"{SOURCES}/web/run"] == f"#!/command/with-contenv {kept}\nx\n"
    assert rendered(text, "2.1.0.2")["etc/services.d/web/run"] == f"#!/usr/bin/with-contenv {kept}\nx\n"


@pytest.mark.parametrize(
    ("shebang", "v3", "v2"),
    [
        ("/usr/bin/python3 -u", "/usr/bin/python3 -u", "/usr/bin/python3 -u"),
        ("/usr/bin/execlineb -P", "/command/execlineb -P", "/usr/bin/execlineb -P"),
        ("/command/execlineb -P", "/command/execlineb -P", "/usr/bin/execlineb -P"),
    ],
)
def test_other_scripts_get_a_file_of_their_own(shebang: str, v3: str, v2: str) -> None:
    text = f"web:\n  run: |\n    #!{shebang}\n    x\n"
    files = rendered(text)
    assert files[f"{SOURCES}/web/run"] == "#!/command/with-contenv sh\nexec /etc/s6-overlay/scripts/web.run\n"
    assert files["etc/s6-overlay/scripts/web.run"] == f"#!{v3}\nx\n"
    assert rendered(text, "2.1.0.2")["etc/s6/scripts/web.run"] == f"#!{v2}\nx\n"


def test_a_script_that_runs_as_a_user_gets_a_file_of_its_own() -> None:
    result = render_services(services_of('web: {run: "#!/bin/sh\\nexec web\\n", user: app:www}'), V3)
    files = texts(result.files)
    assert files[f"{SOURCES}/web/run"].splitlines()[-1] == (
        "exec env GIDLIST= s6-envuidgid -nB -- app:www s6-applyuidgid -Uz /etc/s6-overlay/scripts/web.run"
    )
    assert {file.mode for file in result.files if file.path.endswith((".run", "/run"))} == {0o755}


def test_a_oneshots_files_are_paths_of_scripts() -> None:
    files = rendered("prepare: {up: mkdir /x, down: rmdir /x, timeout: {up: 1s}}")
    assert files[f"{SOURCES}/prepare/up"] == "/etc/s6-overlay/scripts/prepare.up\n"
    assert files[f"{SOURCES}/prepare/down"] == "/etc/s6-overlay/scripts/prepare.down\n"
    assert files["etc/s6-overlay/scripts/prepare.up"] == "#!/command/with-contenv sh\nexec mkdir /x\n"
    assert files[f"{SOURCES}/prepare/timeout-up"] == "1000\n"


def test_a_log_is_a_pipeline_with_a_prepared_folder() -> None:
    files = rendered("web: {run: x, log: {to: /var/log/web, keep: 5, size: 64K, timestamps: none}}")
    assert files[f"{SOURCES}/web/producer-for"] == "web-log\n"
    assert files[f"{SOURCES}/web/run"] == "#!/command/with-contenv sh\nexec 2>&1\nexec x\n"
    assert files[f"{SOURCES}/web-log/consumer-for"] == "web\n"
    assert files[f"{SOURCES}/web-log/pipeline-name"] == "web-pipeline\n"
    assert files[f"{SOURCES}/web-log/run"] == (
        "#!/bin/sh\nexec s6-setuidgid nobody s6-log -b -d3 -- n5 s65536 /var/log/web\n"
    )
    assert f"{SOURCES}/web-log/dependencies.d/web-log-prepare" in files
    assert "chown nobody /var/log/web" in files["etc/s6-overlay/scripts/web-log-prepare.up"]
    assert f"{SOURCES}/user/contents.d/web-pipeline" in files
    assert f"{SOURCES}/user/contents.d/web" not in files


def test_pipelines_join_longruns_and_may_end_in_a_log() -> None:
    files = rendered("a: {run: x}\nb: {run: y}\nc: {run: z, log: /l}\np: {type: pipeline, contents: [a, b, c]}")
    assert files[f"{SOURCES}/a/producer-for"] == "b\n"
    assert (files[f"{SOURCES}/b/consumer-for"], files[f"{SOURCES}/b/producer-for"]) == ("a\n", "c\n")
    assert files[f"{SOURCES}/c/producer-for"] == "c-log\n"
    assert files[f"{SOURCES}/c-log/pipeline-name"] == "p\n"
    assert [path for path in files if "/user/contents.d/" in path] == [f"{SOURCES}/user/contents.d/p"]


def test_checks_come_first_and_know_their_environment() -> None:
    files = rendered(
        "a: {run: x, workdir: /srv, user: app, env: {P: '1'}, ready: {check: nc -z ::1 80, every: 2s, tries: 9}}"
    )
    assert files[f"{SOURCES}/a/run"].splitlines()[-1] == (
        "exec s6-notifyoncheck -d -s 10 -w 2000 -n 9 execline-cd /srv s6-setuidgid app x"
    )
    assert files[f"{SOURCES}/a/data/check"] == "#!/command/with-contenv sh\nexport P=1\nexec nc -z ::1 80\n"
    assert files[f"{SOURCES}/a/notification-fd"] == "3\n"


def test_on_exit() -> None:
    stop = rendered("a: {run: x, on-exit: stop-container}")[f"{SOURCES}/a/finish"]
    assert 'echo "$code" > /run/s6-linux-init-container-results/exitcode\n/run/s6/basedir/bin/halt\n' in stop
    fixed = rendered("a: {run: x, on-exit: {stop-container: 7}}")[f"{SOURCES}/a/finish"]
    assert "code=7\n" in fixed and "$1" not in fixed
    assert rendered("a: {run: x, on-exit: never}")[f"{SOURCES}/a/finish"].endswith("exit 125\n")
    old = rendered("a: {run: x, on-exit: stop-container}", "1.21.4.0")["etc/services.d/a/finish"]
    assert "> /var/run/s6/env-stage3/S6_STAGE2_EXITED\ns6-svscanctl -t /var/run/s6/services\n" in old
    assert f"{SOURCES}/a/finish" not in rendered("a: {run: x, on-exit: restart}")


def test_an_own_finish_runs_before_the_container_stops() -> None:
    files = rendered('a: {run: x, finish: "#!/bin/sh\\necho $1\\n", on-exit: stop-container}')
    assert files[f"{SOURCES}/a/finish"].splitlines()[1] == '/etc/s6-overlay/scripts/a.finish "$@"'
    assert files["etc/s6-overlay/scripts/a.finish"] == "#!/command/with-contenv sh\necho $1\n"


@pytest.mark.parametrize(
    ("version", "folder"),
    [
        ("3.0.0.0", "s6-rc.d/user"),
        ("v3.2.3.0", "s6-rc.d/user"),
        ("3.2.3.1", "user-bundles.d/user"),
        ("3.2.3.2", "user-bundles.d/user"),
        ("3.3.0.0", "user-bundles.d/user"),
    ],
)
def test_the_bundle_is_where_the_release_looks(version: str, folder: str) -> None:
    files = rendered("a: {run: x}", version)
    assert f"etc/s6-overlay/{folder}/contents.d/a" in files


def test_the_bundle_is_where_the_image_has_it() -> None:
    tree = Tree()
    tree.write("etc/s6-overlay/s6-rc.d/user/type", b"bundle\n")
    services = services_of("a: {run: x}")
    later = texts(render_services(services, "3.2.3.2", tree=tree).files)
    assert f"{SOURCES}/user/contents.d/a" in later
    broken = texts(render_services(services, "3.2.3.1", tree=tree).files)
    assert "etc/s6-overlay/user-bundles.d/user/contents.d/a" in broken


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("version", ["3.1.6.2", "3.2.1.0", "3.2.3.2"])
def test_examples_compile(name: str, version: str) -> None:
    result = render_services(example(name), version)
    assert not result.findings
    files = {"base/type": "bundle\n", "base/contents.d": None}
    report = check_sources([*sources_of(result.files), make_source("/overlay", files)])
    assert report.accepted, report.findings
    assert not report.findings


# --- v1 and v2


def test_the_proxy_runs_on_all_overlays() -> None:
    for version in ("1.21.4.0", "2.1.0.2"):
        result = render_services(example("proxy"), version)
        assert [finding.rule for finding in result.findings] == ["X3", "X3"]
        files = texts(result.files)
        assert "etc/services.d/proxy/log/run" in files and "etc/services.d/filter" not in files
        assert files["etc/cont-init.d/10-settings"].startswith("#!/usr/bin/with-contenv sh\nset -e\n")
        assert files["etc/cont-finish.d/10-settings"] == "#!/usr/bin/with-contenv sh\nexec rm -rf /run/proxy\n"


def test_oneshots_are_numbered_in_their_order() -> None:
    text = "c: {up: x, needs: [g]}\na: {up: x, down: y}\nb: {up: x, needs: [a], down: z}\ng: {contents: [b]}"
    files = [path for path in rendered(text, "2.1.0.2") if path.startswith("etc/cont")]
    assert files == [
        *("etc/cont-init.d/10-a", "etc/cont-init.d/11-b", "etc/cont-init.d/12-c"),
        *("etc/cont-finish.d/10-b", "etc/cont-finish.d/11-a"),
    ]


def test_a_hundred_oneshots_sort_in_their_order() -> None:
    text = "\n".join(f"s{number}: {{up: x}}" for number in range(120))
    files = [path.rpartition("/")[2] for path in rendered(text, "2.1.0.2")]
    assert files == sorted(files) and files[0] == "100-s0" and files[-1] == "219-s119"


def test_logs_are_log_folders() -> None:
    files = rendered("web: {run: x, log: /var/log/web}", "2.1.0.2")
    assert files["etc/services.d/web/log/run"].endswith("s6-log -b -- n20 s1000000 T /var/log/web\n")
    assert "mkdir -p /var/log/web" in files["etc/cont-init.d/10-web-log-prepare"]


def test_su_exec_is_used_where_the_image_has_it() -> None:
    tree = Tree()
    tree.write("sbin/su-exec", b"x", mode=0o755)
    tree.write("etc/passwd", b"app:x:1:1::/:\n")
    result = render_services(services_of("a: {run: x, user: app}"), "1.21.8.0", tree=tree)
    assert texts(result.files)["etc/services.d/a/run"].endswith("exec su-exec app x\n")
    assert not result.findings


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        ("a: {run: x}\nb: {run: y, needs: [a]}", "2.1.0.2", "sixsmith.yaml:2: error X1: 'b' cannot wait for 'a': all longruns start at once"),
        ("a: {run: x}\nb: {up: y, needs: [a]}", "2.1.0.2", "sixsmith.yaml:2: error X1: 'b' cannot wait for 'a': 'a' starts only after all oneshots are done"),
        ("a: {run: x}\ng: {contents: [a]}\nb: {run: y, needs: [g]}", "1.21.4.0", "sixsmith.yaml:3: error X1: 'b' cannot wait for 'g': all longruns start at once"),
        ("a: {run: x, timeout: {up: 5s}}", "2.1.0.2", "sixsmith.yaml:1: error X1: 'a': 'timeout.up' is not known"),
        ("a: {up: x, timeout: {down: 5s}}", "2.1.0.2", "sixsmith.yaml:1: error X1: 'a': 'timeout.down' is not known"),
        ("a: {run: x, timeout: {kill: 5s}}", "1.19.0.0", "sixsmith.yaml:1: error X1: 'a': 'timeout.kill' is not known"),
        ("a: {run: x, down-signal: INT}", "1.21.4.0", "sixsmith.yaml:1: error X1: 'a': the signal that stops a service is always SIGTERM"),
        ("a: {run: x}\nb: {run: y}\nc: {run: z}\np: {type: pipeline, contents: [a, b, c]}", "2.1.0.2", "sixsmith.yaml:4: error X1: the pipeline 'p' joins 3 longruns"),
        ("a: {run: x}\nb: {run: y, log: /l}\np: {type: pipeline, contents: [a, b]}", "2.1.0.2", "sixsmith.yaml:2: error X1: 'b' reads another service, and cannot have a log of its own"),
        ("a: {run: x, ready: {check: y}}", "1.20.0.0", "sixsmith.yaml:1: error X1: 'a': readiness cannot be checked from outside"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_an_error(text: str, version: str, expected: str) -> None:
    (only,) = lost(text, version)
    assert only.startswith(expected)
    assert only.endswith("for this image)") or "or take s6-overlay" in only


def test_what_can_be_expressed_is_not_an_error() -> None:
    text = (
        "a: {up: x}\nb: {run: y, needs: [a, base], down-signal: INT, timeout: {kill: 1s, finish: 1s}, ready: {fd: 3}}"
    )
    assert not lost(text, "2.1.0.2")
    files = rendered(text, "2.1.0.2")
    assert files["etc/services.d/b/down-signal"] == "SIGINT\n"
    assert files["etc/services.d/b/timeout-kill"] == "1000\n"
    assert files["etc/services.d/b/notification-fd"] == "3\n"


# --- into the image


def test_users_are_looked_up_in_the_image() -> None:
    tree = Tree()
    tree.write("etc/passwd", b"nobody:x:65534:65534::/:\napp:x:1:1::/:\n")
    tree.write("etc/group", b"app:x:1:\n")
    text = (
        "a: {run: x, user: app}\nb: {run: x, user: 'app:www'}\nc: {run: x, user: ap, log: /l}\nd: {run: x, user: '7:8'}"
    )
    found = [str(finding) for finding in render_services(services_of(text), V3, tree=tree).findings]
    assert found == [
        "sixsmith.yaml:2: error X2: service 'b': no group 'www' in the image (add it under 'accounts', or name another)",
        "sixsmith.yaml:3: error X2: service 'c': no user 'ap' in the image (add it under 'accounts', or name another)",
    ]


def test_applying_keeps_what_is_the_same_and_drops_what_a_parent_had() -> None:
    tree = Tree(epoch=7)
    tree.write(f"{SOURCES}/user/type", b"bundle\n", origin="overlay")
    tree.write(f"{SOURCES}/a/dependencies.d/old", b"", origin=BASE)
    tree.write(f"{SOURCES}/a/data/mine", b"kept", origin=TOP)
    tree.write(f"{SOURCES}/b/type", b"oneshot\n", origin=BASE)
    apply_services(tree, render_services(services_of("a: {run: x}"), V3, tree=tree))
    assert tree.nodes[f"{SOURCES}/user/type"].origin == "overlay"
    assert f"{SOURCES}/a/dependencies.d/old" not in tree
    assert tree.read(f"{SOURCES}/a/data/mine") == b"kept"
    assert f"{SOURCES}/b/type" in tree
    run = tree.nodes[f"{SOURCES}/a/run"]
    assert (run.mode, run.origin, run.mtime) == (0o755, TOP, 7)
    assert tree.read(f"{SOURCES}/a/run") == b"#!/command/with-contenv sh\nexec x\n"


def test_the_health_check_asks_what_is_ready() -> None:
    services = services_of(
        "a: {run: x, ready: {fd: 3}}\nb: {run: y, ready: {check: z}}\nc: {run: w, ready: {fd: 3, health: false}}"
    )
    assert health_check(services, V3) == (
        *("/bin/sh", "-c"),
        '[ "$(/command/s6-svstat -o ready /run/service/a)" = true ] && cd /run/service/b && ./data/check',
    )
    old = health_check(services, "2.1.0.2")
    assert old is not None and "/bin/s6-svstat -o ready /var/run/s6/services/a" in old[2]
    assert health_check(services_of("a: {run: x}"), V3) is None


# --- hand-written folders


def test_folders_go_where_the_overlay_looks(tmp_path: Path) -> None:
    service = tmp_path / "plain/web"
    (service / "dependencies.d").mkdir(parents=True)
    (service / "type").write_text("longrun\n")
    (service / "run").write_text("#!/bin/sh\n")
    (service / "run").chmod(0o755)
    (service / "alias").symlink_to("run")
    files = {file.path: file for file in read_service_folder(str(tmp_path / "plain"), V3).files}
    assert files[f"{SOURCES}/web/run"].mode == 0o755
    assert files[f"{SOURCES}/web/type"].mode == 0o644
    assert (files[f"{SOURCES}/web/alias"].kind, files[f"{SOURCES}/web/alias"].content) == ("symlink", b"run")
    assert files[f"{SOURCES}/web/dependencies.d"].kind == "directory"
    assert f"{SOURCES}/user/contents.d/web" in files
    assert "etc/s6-overlay/user-bundles.d/user/contents.d/web" in {
        file.path for file in read_service_folder(str(tmp_path / "plain"), "3.2.3.2").files
    }
    (tmp_path / "plain/user/contents.d").mkdir(parents=True)
    assert f"{SOURCES}/user/contents.d/web" not in {
        file.path for file in read_service_folder(str(tmp_path / "plain"), V3).files
    }


@pytest.mark.parametrize(
    ("inside", "place"),
    [
        ("etc/s6-overlay/s6-rc.d/a/type", "etc/s6-overlay/s6-rc.d/a/type"),
        ("s6-rc.d/a/type", "etc/s6-overlay/s6-rc.d/a/type"),
        ("services.d/a/run", "etc/services.d/a/run"),
        ("cont-init.d/10-a", "etc/cont-init.d/10-a"),
        ("usr/local/bin/x", "usr/local/bin/x"),
    ],
)
def test_folders_are_recognised(tmp_path: Path, inside: str, place: str) -> None:
    (tmp_path / inside).parent.mkdir(parents=True)
    (tmp_path / inside).write_text("x")
    assert place in {file.path for file in read_service_folder(str(tmp_path), V3).files}


def test_plain_folders_are_service_directories_for_old_overlays(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/run").write_text("x")
    assert "etc/services.d/web/run" in {file.path for file in read_service_folder(str(tmp_path), "2.1.0.2").files}


def test_folders_that_cannot_be_taken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no service directories"):
        read_service_folder(str(tmp_path), V3)
    with pytest.raises(UsageError, match="No such file"):
        read_service_folder(str(tmp_path / "none"), V3)
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a/pipe")
    with pytest.raises(UsageError, match="neither a file"):
        read_service_folder(str(tmp_path), V3)
