"""The checks that look at one running container, and at how it stops.

Each is a function from an observation to a verdict; the table at the end says when it runs. None of them needs anything in
the image: the agent looks, and s6's own files and log tell.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sixsmith.boot.endings import endings_of
from sixsmith.boot.observation import Observation
from sixsmith.boot.report import CheckResult
from sixsmith.boot.supervision import Process, Service

__all__ = ["LIVE", "Stop", "check_custom", "check_stop", "scripts_run", "user_log", "watch_finishes"]

_ORPHANS = 50
# --- while it runs


def check_first_process(seen: Observation) -> CheckResult:
    """/init (or what it became) is process 1."""
    name = "pid-1"
    if seen.container.end is not None:
        return seen.failed(name, f"the container ended while it started, with exit code {seen.container.end.code}")
    processes = seen.processes()
    first = next((process for process in processes if process.pid == 1), None)
    if first is None:
        return seen.failed(name, "there is no process 1 to be seen")
    if not seen.layout.supervised:
        return seen.passed(name, f"{_program(first)} is process 1")
    if first.name == "s6-svscan":
        return seen.passed(name, "s6-svscan, which /init became, is process 1")
    entrypoint = " ".join(seen.container.spec.arguments[:3])
    return seen.failed(name, f"/init did not become process 1: that is '{_program(first)}', started by '{entrypoint}'")


def _program(process: Process) -> str:
    return " ".join(process.words)[:80] or process.name


def check_services(seen: Observation) -> CheckResult:
    """Every service is up, ready if it can say so, and stays so."""
    name = "services"
    if not seen.layout.supervised:
        return seen.skipped(name, "no s6-overlay in this image")
    if seen.container.end is not None:
        return seen.failed(name, f"the container ended while it started, with exit code {seen.container.end.code}")
    if not seen.settled:
        waited = seen.terms.seconds(seen.terms.timeout)
        return seen.failed(name, f"the start was not over after {waited:g} s", about=tuple(_not_good(seen)))
    seen.look_again()
    bad = _not_good(seen)
    if bad:
        words = "; ".join(f"{service} {why}" for service, why in bad.items())
        return seen.failed(name, words, about=tuple(bad))
    if not seen.services:
        return seen.passed(name, "the image has no services of its own, and s6 is up")
    return seen.passed(name, f"{len(seen.services)} up: {', '.join(seen.services)}")


def _not_good(seen: Observation) -> dict[str, str]:
    found = {}
    for name, service in seen.services.items():
        if service.kind == "oneshot" and not service.up:
            found[name] = "(oneshot) did not succeed"
        elif not service.up:
            found[name] = "is not up"
        elif service.ready is False:
            found[name] = "is up but never said that it is ready (notification-fd)"
    return found


def check_oneshots(seen: Observation) -> CheckResult:
    """Oneshots, or cont-init.d scripts, succeeded, each after what it needs."""
    name = "oneshots"
    if not seen.layout.supervised:
        return seen.skipped(name, "no s6-overlay in this image")
    scripts = scripts_run(seen, "cont-init")
    failed = [f"cont-init.d/{script} exited {code}" for script, code in scripts if code != 0]
    if failed:
        return seen.failed(name, "; ".join(failed), about=tuple(script for script, code in scripts if code))
    if [script for script, _ in scripts] != sorted(script for script, _ in scripts):
        return seen.failed(name, "cont-init.d scripts did not run in the order of their names")
    down = [service.name for service in seen.services.values() if service.kind == "oneshot" and not service.up]
    if down:
        return seen.failed(name, f"{', '.join(down)} did not succeed", about=tuple(down))
    oneshots = [service.name for service in seen.services.values() if service.kind == "oneshot"]
    started = _order(seen, "started")
    for service in [*oneshots, *(service.name for service in seen.longruns)] if seen.layout.major == 3 else []:
        for needed in seen.supervision.dependencies(service) if service in started else ():
            if needed in started and started[needed] > started[service]:
                return seen.failed(name, f"{service} started before {needed}, which it needs", about=(service, needed))
    count = len(oneshots) + len(scripts)
    return seen.passed(name, f"{count} ran, in order" if count else "there are none")


def scripts_run(seen: Observation, kind: str) -> list[tuple[str, int]]:
    """Scripts of cont-init.d or cont-finish.d with their exit codes, in the order in which they ran."""
    pattern = re.compile(
        rf"(?:\[{kind}\.d\] (?P<old>\S+): exited (?P<was>\d+)|{kind}: info: (?:.*/)?(?P<new>[^/ ]+) exited (?P<code>\d+))"
    )
    found = []
    for line in seen.container.lines:
        match = pattern.search(line.text)
        if match:
            found.append((match["old"] or match["new"], int(match["was"] or match["code"])))
    return found


def _order(seen: Observation, what: str) -> dict[str, int]:
    """The place of each service in the log of s6-rc (`started` or `stopped`)."""
    pattern = re.compile(rf"s6-rc: info: service (.+) successfully {what}")
    matches = (pattern.search(line.text) for line in seen.container.lines)
    return {match[1]: place for place, match in enumerate(matches) if match}


def check_restart(seen: Observation) -> CheckResult:
    """A killed longrun comes back; one whose finish script says otherwise does what that says.

    What takes the container with it is for a boot of its own (`try_on_exit`).
    """
    name = "restart"
    endings = endings_of(seen, [service.name for service in seen.longruns])
    running = [service for service in seen.longruns if service.up]
    targets = [service for service in running if endings[service.name].action == "restart"]
    staying = [service for service in running if endings[service.name].action == "never"]
    by_design = [service.name for service in seen.longruns if endings[service.name].action == "stop-container"]
    if not targets and not staying:
        more = f" that should come back ({', '.join(by_design)} stop the container)" if by_design else ""
        return seen.skipped(name, f"there is no service{more}")
    for service in (*targets, *staying):
        seen.container.inside("kill", pid=service.pid, signal=int(signal.SIGKILL))
    begun = time.monotonic()

    def back() -> bool:
        now = seen.refresh()
        return all(_came_back(service, now.get(service.name)) for service in targets)

    if seen.container.wait(back, seen.terms.seconds(6.0), step=0.03):
        seen.look_again()  # one that fails at once is up for a moment, again and again
    took = round((time.monotonic() - begun) * 1000)
    lost = [service.name for service in targets if not _came_back(service, seen.services.get(service.name))]
    if seen.container.end is not None:
        return seen.failed(name, f"the container ended when {_names(targets + staying)} was killed")
    if lost:
        return seen.failed(name, f"{', '.join(lost)} did not come back after a kill", about=tuple(lost))
    words = [f"{_names(targets)} came back within {took} ms"] if targets else []
    down = [service for service in staying if not _came_back(service, seen.services.get(service.name))]
    words += [f"{_names(down)} stays down, as the finish script says"] if down else []
    words = words or [f"{_names(staying)} came back, although the finish script can say otherwise"]
    return CheckResult(name, "passed", "; ".join(words), ms=took if targets else None)


def _names(services: list[Service]) -> str:
    return ", ".join(service.name for service in services)


def _came_back(before: Service, now: Service | None) -> bool:
    return now is not None and now.good and now.pid != before.pid


def check_zombies(seen: Observation) -> CheckResult:
    """Process 1 takes in orphans: none of 50 stays behind dead."""
    name = "zombies"
    answer = seen.container.inside("orphans", count=_ORPHANS)
    if "trouble" in answer:
        return seen.skipped(name, f"could not be tried: {answer['trouble']}")

    def dead() -> list[Process]:
        return [process for process in seen.processes() if process.state == "Z" and process.parent == 1]

    seen.container.wait_end(0.05)
    # what services do meanwhile may leave one more, for a moment
    gone = seen.container.wait(lambda: not dead(), seen.terms.seconds(2.0), step=0.03)
    left = [] if gone else dead()
    if left:
        return seen.failed(name, f"{len(left)} of {_ORPHANS} orphans stay as zombies: process 1 does not take them in")
    return seen.passed(name, f"{_ORPHANS} orphans were taken in")


def check_ports(seen: Observation) -> CheckResult:
    """Somebody listens on every TCP port that the image declares."""
    name = "ports"
    if not seen.image.ports:
        return seen.skipped(name, "the image declares no TCP ports")
    closed: list[int] = list(seen.image.ports)

    def all_open() -> bool:
        closed[:] = [port for port in closed if not seen.container.inside("connect", port=port, seconds=1).get("open")]
        return not closed

    if not seen.container.wait(all_open, seen.terms.seconds(5.0), step=0.05):
        ports = ", ".join(map(str, closed))
        return seen.failed(name, f"nobody listens on port {ports}, which the image declares")
    return seen.passed(name, f"port {', '.join(map(str, seen.image.ports))} answers")


def check_health(seen: Observation) -> CheckResult:
    """The image's own health check says yes."""
    name = "health"
    test = list((seen.image.settings.get("Healthcheck") or {}).get("Test") or [])
    command = test[1:] if test[:1] == ["CMD"] else ["/bin/sh", "-c", *test[1:]] if test[:1] == ["CMD-SHELL"] else []
    if not command:
        return seen.skipped(name, "the image has no health check")
    last: dict[str, Any] = {}

    def well() -> bool:
        last.update(_run_as_user(seen, command, 10.0))
        return last.get("status") == 0

    if seen.container.wait(well, seen.terms.seconds(8.0), step=0.3):
        return seen.passed(name, f"'{' '.join(command)}' succeeds")
    said = last.get("trouble") or str(last.get("output", "")).strip()[-200:] or "nothing"
    return seen.failed(name, f"'{' '.join(command)}' exits with {last.get('status', 'no code')}, saying: {said}")


def _run_as_user(seen: Observation, command: list[str], seconds: float) -> dict[str, Any]:
    """As `docker exec` runs it: the image's environment, folder, rights and (numeric) user."""
    uid, _, gid = seen.container.spec.user.partition(":")
    user = [int(uid), int(gid) if gid.isdigit() else 0, []] if uid.isdigit() else None
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **seen.container.spec.environment,
    }
    return seen.container.run(
        command,
        seconds=seen.terms.seconds(seconds),
        environment=environment,
        user=user,
        workdir=seen.container.spec.workdir,
        capabilities=seen.container.spec.capabilities,
        no_new_privileges=seen.container.spec.no_new_privileges,
    )


def user_log(process: Process) -> list[str]:
    """The folders that an s6-log process writes to: its arguments that begin with a slash or a dot (s6-log(1))."""
    return [word for word in process.words[1:] if word.startswith(("/", "."))]


def check_rotation(seen: Observation) -> CheckResult:
    """Every logger can put its log away and begin a new one: s6-log does so on SIGALRM."""
    name = "logs-rotate"
    loggers = [process for process in seen.processes() if process.name == "s6-log" and user_log(process)]
    loggers = [process for process in loggers if not any("uncaught-logs" in word for word in process.words)]
    if not loggers:
        return seen.skipped(name, "no service writes a log of its own")
    folders = {folder: process for process in loggers for folder in user_log(process) if folder.startswith("/")}
    before = {folder: _archived(seen, folder) for folder in folders}
    for process in loggers:
        seen.container.inside("say", pid=process.pid, text="sixsmith: may this log be put away?\n")
    seen.container.wait_end(seen.terms.seconds(0.1))
    for process in loggers:
        seen.container.inside("kill", pid=process.pid, signal=int(signal.SIGALRM))

    def rotated() -> bool:
        return all(_archived(seen, folder) - before[folder] for folder in folders)

    if seen.container.wait(rotated, seen.terms.seconds(3.0), step=0.05):
        return seen.passed(name, f"{', '.join(folders)} can be put away and begun anew")
    stuck = [folder for folder in folders if not _archived(seen, folder) - before[folder]]
    return seen.failed(name, f"{', '.join(stuck)} is not put away when s6-log is told to", about=("s6-log",))


def _archived(seen: Observation, folder: str) -> set[str]:
    names = seen.container.inside("list", paths=[folder]).get("found", {}).get(folder) or []
    return {name for name in names if name.startswith("@") and name.endswith(".s")}


# --- checks of the family file


def check_custom(seen: Observation, check: Mapping[str, Any]) -> CheckResult:
    """One entry of `checks`: a command and its answer, a port, a page, or a file's properties."""
    within = float(check.get("within") or 0) / 1e9 or 10.0
    kinds: dict[str, Callable[[Observation, Mapping[str, Any], float], str | None]] = {
        "run": _custom_run,
        "http": _custom_http,
        "port": _custom_port,
        "file": _custom_file,
    }
    kind = next((kind for kind in kinds if kind in check), None)
    name = str(check.get("name") or (f"{kind} {check[kind]}" if kind else "check"))
    if kind is None:
        return seen.failed(name, f"a check is one of {', '.join(kinds)}")
    found: list[str | None] = []

    def fine() -> bool:
        found.append(kinds[kind](seen, check, seen.terms.seconds(within)))
        return found[-1] is None

    begun = time.monotonic()
    good = seen.container.wait(fine, seen.terms.seconds(within), step=0.2)
    took = round((time.monotonic() - begun) * 1000)
    if good:
        return CheckResult(name, "passed", "as it should be", ms=took)
    why = found[-1] if found and found[-1] else "the container ended"
    return seen.failed(name, f"{why} (tried for {within:g} s)")


def _custom_run(seen: Observation, check: Mapping[str, Any], within: float) -> str | None:
    command = check["run"]
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
    answer = _run_as_user(seen, words, within)
    if "trouble" in answer:
        return str(answer["trouble"])
    wanted = int(check.get("exit-code", 0))
    output = str(answer["output"])
    said = output.strip()[-200:] or "nothing"
    if answer["timed_out"]:
        return f"did not end within {within:g} s, saying: {said}"
    if answer["status"] != wanted:
        return f"exits with {answer['status']} instead of {wanted}, saying: {said}"
    if "output" in check and str(check["output"]) not in output:
        return f"does not say '{check['output']}' but: {said}"
    return None


def _custom_port(seen: Observation, check: Mapping[str, Any], within: float) -> str | None:
    answer = seen.container.inside("connect", port=int(check["port"]), seconds=min(within, 5.0))
    return None if answer.get("open") else f"nobody listens on port {check['port']}"


def _custom_http(seen: Observation, check: Mapping[str, Any], within: float) -> str | None:
    match = re.fullmatch(r"(?:http://[^/:]+)?:?(\d*)(/.*)?", str(check["http"]))
    port, path = int(match[1] or 80) if match else 80, (match[2] or "/") if match else str(check["http"])
    answer = seen.container.inside("http", port=port, path=path, seconds=min(within, 10.0))
    if "trouble" in answer:
        return f"port {port}: {answer['trouble']}"
    wanted = int(check.get("status", 200))
    if answer["status"] != wanted:
        return f"port {port} answers {path} with {answer['status']} instead of {wanted}"
    if "output" in check and str(check["output"]) not in answer["body"]:
        return f"the page {path} does not have '{check['output']}'"
    return None


def _custom_file(seen: Observation, check: Mapping[str, Any], within: float) -> str | None:
    path = str(check["file"])
    answer = seen.container.inside("stat", path=path)
    if "trouble" in answer:
        return str(answer["trouble"])
    found = answer["found"]
    if str(check.get("type", "")) == "absent":
        return None if found is None else f"{path} is there"
    if found is None:
        return f"{path} is not there"
    for key in ("type", "uid", "gid"):
        if key in check and str(found[key]) != str(check[key]):
            return f"{path} has {key} {found[key]} instead of {check[key]}"
    if "mode" in check:
        mode = check["mode"] if isinstance(check["mode"], int) else int(str(check["mode"]), 8)
        if found["mode"] != mode:
            return f"{path} has mode {found['mode']:04o} instead of {mode:04o}"
    if "output" in check:
        text = seen.container.inside("read", paths=[path], limit=65536)["found"][path] or ""
        if str(check["output"]) not in text:
            return f"{path} does not have '{check['output']}' in it"
    return None


# --- how it stops


@dataclass(frozen=True, slots=True)
class Stop:
    """How a container stopped: in milliseconds, or None when it had to be killed; finish scripts that were opened, in order."""

    ms: int | None
    finishes: tuple[str, ...]
    watched: tuple[str, ...]
    dependencies: Mapping[str, tuple[str, ...]]


def watch_finishes(seen: Observation) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Begins to watch the finish scripts of all longruns (path → service), and asks what needs what."""
    paths = {f"{seen.layout.scandir}/{service.name}/finish": service.name for service in seen.longruns if service.up}
    real = seen.container.inside("real", paths=list(paths)).get("found", {}) if paths else {}
    found = {str(where): paths[path] for path, where in real.items()}
    dependencies = {}
    if seen.layout.major == 3:
        dependencies = {service: seen.supervision.dependencies(service) for service in seen.services}
    watching = seen.container.watch(list(found)) if found and seen.container.end is None else []
    return {path: found[path] for path in watching}, dependencies


def check_stop(seen: Observation, stop: Stop) -> CheckResult:
    """The stop signal ends everything within the stop time, dependents first, and finish scripts run."""
    name = "stop"
    limit = seen.terms.seconds(seen.terms.stop_time)
    signal_name = seen.image.stop_signal
    if stop.ms is None:
        left = ", ".join(_still_running(seen)) or "process 1"
        return seen.failed(
            name, f"{signal_name} did not stop it within {limit:g} s; still running: {left}", about=("stop",)
        )
    missed = [service for service in stop.watched if service not in stop.finishes]
    if missed:
        return seen.failed(name, f"the finish script of {', '.join(missed)} was never run", about=tuple(missed))
    order = _order(seen, "stopped")
    for service, needs in stop.dependencies.items():
        for needed in needs:
            if service in order and needed in order and order[service] > order[needed]:
                return seen.failed(name, f"{needed} stopped before {service}, which needs it", about=(service, needed))
    complaints = [
        line.text for line in seen.container.lines if "timed out" in line.text or "lasts too long" in line.text
    ]
    if complaints:
        return seen.failed(name, f"not everything stopped by itself: {complaints[-1].strip()}")
    failed = [f"cont-finish.d/{script} exited {code}" for script, code in scripts_run(seen, "cont-finish") if code]
    if failed:
        return seen.failed(name, "; ".join(failed))
    ran = f", {len(stop.watched)} finish script{'s' if len(stop.watched) != 1 else ''} run" if stop.watched else ""
    return CheckResult(name, "passed", f"stopped {stop.ms} ms after {signal_name}, in order{ran}", ms=stop.ms)


def _still_running(seen: Observation) -> list[str]:
    return [_program(process) for process in seen.processes() if not process.name.startswith("s6-")][:5]


LIVE: dict[str, Callable[[Observation], CheckResult]] = {
    "pid-1": check_first_process,
    "services": check_services,
    "oneshots": check_oneshots,
    "ports": check_ports,
    "health": check_health,
    "zombies": check_zombies,
    "logs-rotate": check_rotation,
    "restart": check_restart,
}
"""In the order in which they run; the last ones disturb."""
