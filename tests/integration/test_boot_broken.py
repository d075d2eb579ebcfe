"""Images that are broken on purpose, one for each built-in check: each fails, with the right words.

And checks of the family file, budgets, and what is left behind when sixsmith is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import boot_world as world
from sixsmith.boot.boot import boot_image
from sixsmith.boot.observation import Terms
from sixsmith.boot.report import BootReport, CheckResult
from sixsmith.cli import run
from sixsmith.errors import DigestMismatch, UsageError
from sixsmith.io.layout import write_layout
from sixsmith.io.store import Store
from sixsmith.oci.image import Healthcheck
from sixsmith.oci.spec import MANIFEST, Descriptor
from sixsmith.s6.explain import explain

pytestmark = pytest.mark.data

V1, V2, V3 = ("3.12", "1.21.4.0"), ("3.12", "2.1.0.2"), ("3.20", "3.2.1.0")
SLEEP = "#!/bin/sh\nexec sleep 1000\n"


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    if (reason := world.usable("namespaces")) is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def workshop(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.Workshop]:
    with Store(tmp_path_factory.mktemp("boot") / "store") as store:
        yield world.Workshop(store, data)


def boot(image: world.BootImage, *checks: str, runner: str = "namespaces", **terms: object) -> BootReport:
    return boot_image(
        image,
        runner=runner,
        checks=checks,
        terms=Terms(**{"timeout": 6.0, "patience": 0.4, "explain": explain, **terms}),
    )


def verdict(report: BootReport, name: str) -> CheckResult:
    found = [check for check in report.checks if check.name == name]
    assert found, [check.document() for check in report.checks]
    return found[0]


def assert_fails(report: BootReport, name: str, *words: str) -> CheckResult:
    check = verdict(report, name)
    assert check.status == "failed", check
    assert not report.ok
    for word in words:
        assert word in check.message, check
    return check


def test_an_init_that_is_not_process_1(workshop: world.Workshop) -> None:
    image = workshop.make(*V3, entrypoint=("/bin/sh", "-c", "/init; sleep 1000"))
    check = assert_fails(
        boot(image, "pid-1", stop_time=0.5), "pid-1", "/init did not become process 1", "/bin/sh -c /init"
    )
    said = [line for line, _ in check.log]
    assert any("can only run as pid 1" in line for line in said), said
    assert any(explanation for _, explanation in check.log)


def test_a_service_that_ends_at_once(workshop: world.Workshop) -> None:
    for pair in (V1, V3):
        broken = "#!/bin/sh\necho cannot find my database >&2\nexit 1\n"
        files = world.longrun("broken", broken, major=world.major_of(pair[1]))
        check = assert_fails(boot(workshop.make(*pair, files), "services"), "services", "broken is not up")
        assert any("cannot find my database" in line for line, _ in check.log)


def test_a_service_that_never_says_it_is_ready(workshop: world.Workshop) -> None:
    files = world.longrun("mute", SLEEP, notification_fd="3\n") | {"etc/s6-overlay/s6-rc.d/mute/timeout-up": "500\n"}
    report = boot(workshop.make(*V3, files), "services")
    assert_fails(report, "services", "mute")
    assert report.measures.ready_ms is None
    files = world.longrun("mute", SLEEP, major=2, notification_fd="3\n")
    assert_fails(boot(workshop.make(*V2, files), "services", timeout=2.0), "services", "mute is up but never said")


def test_a_oneshot_that_fails(workshop: world.Workshop) -> None:
    files = world.oneshot("prepare", "#!/bin/sh\necho no space >&2\nexit 3\n")
    check = assert_fails(boot(workshop.make(*V3, files), "oneshots"), "oneshots", "prepare did not succeed")
    assert any("prepare" in line for line, _ in check.log)
    # one that no bundle has, but something needs
    files |= world.longrun("web", SLEEP, needs=("prepare",))
    del files["etc/s6-overlay/s6-rc.d/user/contents.d/prepare"]
    assert_fails(boot(workshop.make(*V3, files), "oneshots"), "oneshots", "prepare did not succeed")
    files = world.oneshot("10-prepare", "#!/bin/sh\nexit 3\n", major=1)
    assert_fails(boot(workshop.make(*V1, files), "oneshots"), "oneshots", "cont-init.d/10-prepare exited 3")
    assert_fails(
        boot(workshop.make(*V3, {"etc/cont-init.d/10-old": "#!/bin/sh\nexit 3\n"}), "oneshots"),
        "oneshots",
        "10-old exited 3",
    )


def test_a_service_that_does_not_come_back(workshop: world.Workshop) -> None:
    once = "#!/bin/sh\nif [ -e /run/was-here ]; then echo the lock is taken >&2; exit 1; fi\n> /run/was-here\n"
    image = workshop.make(*V3, world.longrun("once", once + "exec sleep 1000\n"))
    check = assert_fails(boot(image, "restart"), "restart", "once did not come back")
    assert any("the lock is taken" in line for line, _ in check.log)
    # one that is to stay down may do so
    files = world.longrun("meant", SLEEP, finish="#!/bin/sh\nexit 125\n")
    fine = verdict(boot(workshop.make(*V3, files), "restart"), "restart")
    assert (fine.status, "meant stays down" in fine.message) == ("passed", True), fine


def test_a_service_that_should_take_the_container_with_it(workshop: world.Workshop) -> None:
    code = 'code=$1\nif [ "$1" -eq 256 ]; then code=$((128 + $2)); fi\n'
    result, halt = "/run/s6-linux-init-container-results/exitcode", "/run/s6/basedir/bin/halt\nexit 125\n"
    files = world.longrun("main", SLEEP, finish=f"#!/bin/sh\n{code}echo 3 > {result}\n{halt}")
    report = boot(workshop.make(*V3, files), "on-exit")
    assert_fails(report, "on-exit", "main was killed, and the container exits with 3 instead of 137")
    files = world.longrun("main", SLEEP, finish=f"#!/bin/sh\n[ $1 -ne 0 ] || exec {halt}")
    report = boot(workshop.make(*V3, files), "on-exit", stop_time=2.0)
    assert_fails(report, "on-exit", "main was killed, but the container did not end with it")
    files = world.longrun("main", SLEEP, finish=f"#!/bin/sh\n{code}echo $code > {result}\n{halt}")
    fine = verdict(boot(workshop.make(*V3, files), "on-exit"), "on-exit")
    assert (fine.status, "main (137)" in fine.message) == ("passed", True), fine


def test_a_service_that_stops_the_container_by_design_is_left_alone(workshop: world.Workshop) -> None:
    halt = "#!/bin/sh\nexec /run/s6/basedir/bin/halt\n"
    report = boot(workshop.make(*V3, world.longrun("main", SLEEP, finish=halt)), "restart")
    assert verdict(report, "restart").status == "skipped"


def test_a_first_process_that_leaves_zombies(workshop: world.Workshop) -> None:
    image = workshop.make("3.20", None, entrypoint=("/bin/sleep", "1000"))
    assert_fails(boot(image, "zombies", stop_time=0.3), "zombies", "of 50 orphans stay as zombies")


def test_an_exit_code_that_is_swallowed(workshop: world.Workshop) -> None:
    base = "/run/s6-linux-init-container-results/exitcode"
    files = world.longrun("liar", SLEEP, finish=f"#!/bin/sh\necho 0 > {base}\n")
    check = assert_fails(boot(workshop.make(*V3, files), "exit-code"), "exit-code", "0 instead of 7")
    assert "0 instead of 137" in check.message


def test_a_service_that_ignores_the_stop_signal(workshop: world.Workshop) -> None:
    stubborn = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n"
    image = workshop.make(*V3, world.longrun("stubborn", stubborn))
    check = assert_fails(boot(image, "stop", stop_time=2.0), "stop", "SIGTERM did not stop it within 0.8 s")
    assert "run" in check.message or "sleep" in check.message  # what still runs is named


def test_a_finish_script_that_never_runs(workshop: world.Workshop) -> None:
    # without the right to be executed, s6-supervise cannot run it
    files = world.longrun("messy", SLEEP, major=2, finish=(0o644, "#!/bin/sh\nexit 0\n"))
    # v2 gives it the right by itself, v3 does not
    report = boot(workshop.make(*V3, files), "stop")
    assert_fails(report, "stop", "the finish script of messy was never run")
    files["etc/cont-finish.d/10-bye"] = "#!/bin/sh\nexit 4\n"
    assert_fails(boot(workshop.make(*V2, files), "stop"), "stop", "cont-finish.d/10-bye exited 4")


def test_a_root_that_has_to_be_written(workshop: world.Workshop) -> None:
    files = world.oneshot("prepare", "#!/bin/sh\necho new > /etc/motd\n")
    check = assert_fails(boot(workshop.make(*V3, files), "read-only"), "read-only", "prepare did not come up")
    assert any("prepare" in line for line, _ in check.log)


def test_a_user_that_may_not(workshop: world.Workshop) -> None:
    files = world.oneshot("prepare", "#!/bin/sh\necho new > /etc/motd\n")
    assert_fails(boot(workshop.make(*V3, files), "random-uid"), "random-uid", "does not run as user")
    # what is known beforehand is no failure
    files = world.longrun("dropping", "#!/command/execlineb -P\ns6-setuidgid nobody\nsleep 1000\n")
    refused = verdict(boot(workshop.make(*V3, files), "random-uid"), "random-uid")
    assert (refused.status, "s6-setuidgid" in refused.message) == ("refused", True)
    files = world.oneshot("prepare", "#!/bin/sh\n> /run/mine && chown 7:7 /run/mine\n")
    refused = verdict(boot(workshop.make(*V3, files), "random-uid"), "random-uid")
    assert (refused.status, "gives files to another user (chown)" in refused.message) == ("refused", True)


def test_new_privileges_that_are_needed(workshop: world.Workshop) -> None:
    files = world.oneshot("prepare", "#!/bin/sh\nexec grep -q '^NoNewPrivs:.*0' /proc/self/status\n")
    assert_fails(boot(workshop.make(*V3, files), "no-new-privileges"), "no-new-privileges", "prepare did not come up")
    # an ordinary user needs the overlay's suid program, which is known beforehand
    report = boot(workshop.make(*V3, user="1000:1000"), "services", "no-new-privileges")
    check = verdict(report, "no-new-privileges")
    assert (check.status, report.ok) == ("refused", True), check


def test_capabilities_are_the_smallest_set(workshop: world.Workshop) -> None:
    files = world.oneshot("10-own", "#!/bin/sh\n> /run/mine && chown 7:7 /run/mine\n", major=1)
    report = boot(workshop.make(*V1, files), "capabilities")
    assert report.ok, report.failures
    assert report.needs["capabilities"] == ["CHOWN"]
    assert verdict(report, "capabilities").message == "needs CHOWN, and no other capability"
    # what nobody could have read in a script is found all the same
    files = world.oneshot(
        "10-own", "#!/bin/sh\nmkdir -m 0 /run/no && c=ch && > /run/mine && ${c}own 7 /run/mine\n", major=1
    )
    found = verdict(boot(workshop.make(*V1, files), "capabilities"), "capabilities").message
    assert found == "needs CHOWN, and no other capability (its scripts let expect none)"


def test_terms_that_do_not_go_together(workshop: world.Workshop) -> None:
    script = "#!/bin/sh\ngrep -q '^NoNewPrivs:.*0' /proc/self/status || > /etc/mark\n"
    report = boot(
        workshop.make(*V1, world.oneshot("10-odd", script, major=1)), "read-only", "no-new-privileges", "together"
    )
    assert {verdict(report, name).status for name in ("read-only", "no-new-privileges")} == {"passed"}
    refused = verdict(report, "together")
    assert refused.status == "refused" and "no new privileges and a read-only root at once" in refused.message
    assert report.needs == {"read_only": False, "no_new_privileges": False}


def test_a_health_check_that_says_no(workshop: world.Workshop) -> None:
    ill = Healthcheck(("CMD-SHELL", "echo not feeling well; exit 1"))
    report = boot(workshop.make(*V3, healthcheck=ill), "health")
    assert_fails(report, "health", "exits with 1, saying: not feeling well")
    assert boot(workshop.make(*V3, healthcheck=Healthcheck(("CMD", "test", "-e", "/run"))), "health").ok


def test_a_log_that_cannot_be_put_away(workshop: world.Workshop) -> None:
    files = {
        "var/log/demo/": (0o777, ""),
        **world.longrun("demo", "#!/bin/sh\nexec sleep 1000\n", major=2),
        "etc/services.d/demo/log/run": "#!/bin/sh\nexec s6-log '!false' /var/log/demo\n",
    }
    assert_fails(boot(workshop.make(*V2, files), "logs-rotate"), "logs-rotate", "/var/log/demo is not put away")


def test_a_port_where_nobody_listens(workshop: world.Workshop) -> None:
    image = workshop.make(*V3, ports=("8080/tcp",))
    assert_fails(boot(image, "ports"), "ports", "nobody listens on port 8080")
    files = world.longrun("web", "#!/bin/sh\nexec nc -lk -p 8080 -e true\n")
    assert boot(workshop.make(*V3, files, ports=("8080/tcp",)), "ports").ok


def test_an_image_that_cannot_be_started_at_all(workshop: world.Workshop) -> None:
    report = boot(workshop.make("3.20", None, entrypoint=("/no/such/init",)), "pid-1")
    assert_fails(report, "start", "/no/such/init", "No such file")
    report = boot(workshop.make(*V3, user="nosuchuser"), "pid-1")
    assert_fails(report, "start", "nosuchuser")
    report = boot(workshop.make("3.20", None, entrypoint=()), "pid-1")
    assert_fails(report, "start", "neither an entry point nor a command")


def test_checks_of_the_family_file(workshop: world.Workshop) -> None:
    page = "#!/bin/sh\nwhile :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello you' | nc -l -p 8081; done\n"
    image = workshop.make(*V3, world.longrun("web", page) | {"etc/note": (0o640, "a note\n")})
    checks: Sequence[dict[str, object]] = (
        {"name": "says hello", "run": "echo hello; exit 3", "exit-code": 3, "output": "hello"},
        {"name": "words", "run": ("test", "-f", "/etc/note")},
        {"name": "wrong code", "run": "exit 1", "within": 300_000_000},
        {"name": "wrong output", "run": "echo no", "output": "yes", "within": 300_000_000},
        {"name": "page", "http": ":8081/", "output": "hello you"},
        {"name": "no page", "http": ":8082/", "within": 300_000_000},
        {"name": "mode", "file": "/etc/note", "mode": "0640", "uid": "0", "type": "file", "output": "note"},
        {"name": "wrong mode", "file": "/etc/note", "mode": "0600", "within": 100_000_000},
        {"name": "gone", "file": "/etc/nothing", "type": "absent"},
        {"name": "closed", "port": "9", "within": 100_000_000},
    )
    report = boot(image, "services", checks=checks)
    failed = {check.name: check.message for check in report.failures}
    assert set(failed) == {"wrong code", "wrong output", "no page", "wrong mode", "closed"}
    assert "exits with 1 instead of 0" in failed["wrong code"]
    assert "does not say 'yes' but: no" in failed["wrong output"]
    assert "mode 0640 instead of 0600" in failed["wrong mode"]


def test_budgets_are_gates(workshop: world.Workshop) -> None:
    budget = {"size": "1M", "memory": "64M", "ready": str(20_000_000_000)}
    report = boot_image(workshop.make(*V1), runner="namespaces", checks=("services",), budget=budget)
    statuses = {check.name: check.status for check in report.checks}
    assert (statuses["budget-size"], statuses["budget-memory"], statuses["budget-ready"]) == (
        "failed",
        "passed",
        "passed",
    )


def test_a_command_and_its_exit_code(workshop: world.Workshop) -> None:
    image = workshop.make(*V2)
    report = boot_image(image, runner="namespaces", command=("sh", "-c", "echo from the command; exit 7"))
    assert report.exit_code == 7
    assert "from the command" in "\n".join(report.log)


def test_damaged_layers_are_noticed(workshop: world.Workshop, tmp_path: Path) -> None:
    image = workshop.make(*V1)
    with Store(tmp_path / "damaged") as store:
        for digest in (*image.layers, image.config.digest):
            store.put(workshop.store.read(digest))
        path = store.path(image.layers[0])
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.chmod(0o644)
        path.write_bytes(content)
        damaged = world.BootImage("x", image.digest, image.config, image.layers, 0, store)
        with pytest.raises(DigestMismatch, match="damaged"):
            boot_image(damaged, runner="namespaces")
        path.write_bytes(b"")
        with pytest.raises(DigestMismatch, match="damaged"):
            boot_image(damaged, runner="namespaces")


def test_a_damaged_image_among_others_is_no_success(
    layout: str, workshop: world.Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(layout.rpartition(":")[0], folder)
    blob = max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    words = ["test", layout, f"{folder}:one", "--runner", "namespaces", "--check", "pid-1", "--json"]
    assert run([*words, "--store", str(tmp_path / "s")]) == 4
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], [result["ok"] for result in document["results"]]) == (False, [True, False])


def test_a_stop_signal_that_is_none(workshop: world.Workshop) -> None:
    report = boot(workshop.make(*V3, stop_signal="SIGNONE"), "stop", stop_time=1.0)
    assert_fails(report, "stop", "SIGNONE did not stop it")
    assert "the image's stop signal is 'SIGNONE', which is none" in report.notes


def test_names_with_spaces_in_any_script(workshop: world.Workshop) -> None:
    files = {**world.oneshot("ma ke", "#!/bin/sh\ntrue\n"), **world.longrun("ünïc ode", SLEEP, needs=("ma ke",))}
    files["etc/s6-overlay/s6-rc.d/ma ke/up"] = '"/etc/s6-overlay/scripts/ma ke"\n'
    report = boot(workshop.make(*V3, files), "services", "oneshots", "restart", "stop")
    assert report.ok, report.failures
    assert set(report.services) == {"ma ke", "ünïc ode"}


# --- what an image may do here


DEVICES = """#!/bin/sh
for place in / /dev/ /run/; do
  mknod ${place}full c 1 7 2>/dev/null
  mknod ${place}mine c 1 7 2>/dev/null
  if head -c 1 ${place}mine >/dev/null 2>&1; then echo "opened ${place}mine"; fi
done
if head -c 1 /brought >/dev/null 2>&1; then echo opened what the image brought; fi
head -c 1 /dev/full >/dev/null && echo usual ones open
chmod 0600 /dev/null 2>/dev/null
true
"""


@pytest.mark.parametrize("runner", ["runc", "namespaces"])
def test_no_device_but_the_usual_ones_can_be_opened(workshop: world.Workshop, runner: str) -> None:
    if (reason := world.usable(runner)) is not None:
        pytest.skip(reason)
    image = workshop.make("3.20", None, {"look": DEVICES, "brought": world.Device("char", 1, 7)}, entrypoint=("/look",))
    before = Path("/dev/null").stat().st_mode
    report = boot_image(image, runner=runner, command=("x",), checks=("none",))
    assert (report.exit_code, report.log) == (0, ("usual ones open",))
    assert Path("/dev/null").stat().st_mode == before


@pytest.mark.parametrize("runner", ["runc", "namespaces", "podman"])
def test_what_is_run_inside_has_the_rights_of_the_image(workshop: world.Workshop, runner: str) -> None:
    if (reason := world.usable(runner)) is not None:
        pytest.skip(reason)
    # as `docker run` gives them, and in the same control groups
    files = world.longrun("web", "#!/bin/sh\ncat /proc/self/cgroup > /run/its\nexec sleep 1000\n")
    checks = (
        {"name": "rights", "run": "grep CapBnd: /proc/self/status", "output": "00000000a80425fb"},
        {"name": "mounts", "run": "mount -t tmpfs none /mnt", "exit-code": 1, "output": "mount"},
        {"name": "groups", "run": "cat /proc/self/cgroup > /run/ours; cmp /run/its /run/ours"},
    )
    report = boot(workshop.make(*V3, files), "pid-1", runner=runner, checks=checks)
    assert report.ok, report.failures


def test_a_command_that_never_stops_talking(workshop: world.Workshop) -> None:
    checks = ({"name": "yes", "run": ("yes",), "within": 300_000_000}, {"name": "after", "run": "true"})
    report = boot(workshop.make(*V3), "pid-1", checks=checks)
    assert "did not end within" in verdict(report, "yes").message
    assert verdict(report, "after").ok


def test_more_processes_than_one_message_takes(workshop: world.Workshop) -> None:
    word = "x" * 1500
    flood = f"#!/bin/sh\nfor i in $(seq 300); do sh -c 'sleep 1000; :' {word} & done\nexec sleep 1000\n"
    report = boot(workshop.make(*V3, world.longrun("flood", flood)), "services", "zombies", "stop")
    assert report.ok, report.failures
    assert report.measures.processes > 600


def test_wrong_names() -> None:
    with pytest.raises(UsageError, match="no check 'servces'"):
        boot_image(None, checks=("servces",))  # type: ignore[arg-type]  # it is not looked at


# --- nothing is left behind


@pytest.fixture(scope="module")
def layout(workshop: world.Workshop, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("layout") / "images"
    image = workshop.make(*V3, world.longrun("web", SLEEP))
    size = len(workshop.store.read(image.digest))
    write_layout(folder, {"one": Descriptor(MANIFEST, image.digest, size)}, workshop.store)
    return f"{folder}:one"


def sixsmith(*words: str, store: Path, **more: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "SIXSMITH_STORE": str(store), "PYTHONPATH": world.TOKEN}
    return subprocess.Popen(
        [sys.executable, "-m", "sixsmith", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("runner", ["namespaces", "runc", "bwrap", "podman"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_nothing_is_left_when_sixsmith_is_killed(layout: str, tmp_path: Path, runner: str, how: str) -> None:
    if (reason := world.usable(runner)) is not None:
        pytest.skip(reason)
    if how == "SIGINT" and runner != "namespaces":
        pytest.skip("one runner is enough for that")
    before = world.remains()
    running = sixsmith("boot", layout, "--runner", runner, "--", "sleep", "1000", store=tmp_path / "s")
    deadline = time.monotonic() + 20
    while not (world.remains()["processes"] - before["processes"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    # guard, keeper, what starts it, the overlay's own: all of their namespaces are remembered here
    assert len(world.remains()["processes"] - before["processes"]) >= 5, "nothing ran"
    running.send_signal(getattr(signal, how))
    running.communicate(timeout=20)
    assert world.leftovers(before) == {}


def test_the_next_boot_removes_groups_that_nobody_could(layout: str, tmp_path: Path, workshop: world.Workshop) -> None:
    if (reason := world.usable("podman")) is not None or os.geteuid() != 0:
        pytest.skip(reason or "podman is used as root")
    before = world.remains()
    running = sixsmith("boot", layout, "--runner", "podman", "--", "sleep", "1000", store=tmp_path / "s")
    deadline = time.monotonic() + 20
    while not (world.remains()["control groups"] - before["control groups"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    for pid in [running.pid, *map(int, world.ours() - before["processes"])]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    running.communicate(timeout=20)
    left = world.remains()["control groups"] - before["control groups"]
    if not left:
        pytest.skip("podman made no control group that stays")
    assert boot(workshop.make(*V3), "pid-1", runner="podman").ok
    assert world.leftovers(before) == {}


def test_a_name_that_means_nothing_leaves_no_keeper(tmp_path: Path) -> None:
    before = world.remains()
    running = sixsmith("boot", f"{tmp_path}/nothing:here", store=tmp_path / "s")
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 2, errors
    assert world.leftovers(before) == {}


def test_the_command_line_tells_all(layout: str, tmp_path: Path) -> None:
    before = world.remains()
    running = sixsmith("boot", layout, "--runner", "namespaces", "--json", store=tmp_path / "s")
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    document = json.loads(output)
    assert document["services"]["web"]["up"] is True
    assert document["services"]["web"]["pid"] > 0
    assert document["ready_ms"] > 0 and document["stop_ms"] > 0
    assert (document["exit_code"], document["runner"], document["reason"]) == (0, "namespaces", "asked for")
    assert {check["name"] for check in document["checks"]} >= {"pid-1", "services", "restart", "zombies", "stop"}
    assert world.leftovers(before) == {}
    # a second time, it is compared with the first
    running = sixsmith("test", layout, "--runner", "namespaces", "--check", "basic", "--json", store=tmp_path / "s")
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    (result,) = json.loads(output)["results"]
    assert result["ok"] is True and "changed" in result
