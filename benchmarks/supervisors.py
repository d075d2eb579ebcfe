"""`python -m benchmarks.supervisors`: s6-overlay's majors and other supervisors, each with the same one service.

    python -m benchmarks.supervisors --upstream DIR [--rounds 5] [--no-write]

`DIR` has `alpine/v*/releases/x86_64/` and `s6-overlay/v*/`, as mirrors have them. tini, dumb-init, runit and supervisor come
from Debian's packages, with whatever those need, by `apt-get`; without it these rows are left out. All images run the same
way: in plain namespaces, an overlay over memory, no network, the service being `sleep`. Times are medians.

- start: until the service's process is there
- restart: from killing the service until its next process is there
- stop: from the stop signal until the container has ended, with every supervisor's own grace times
- memory: proportional share of all processes but the service
- size: what the image's blobs take, the base with it
"""

from __future__ import annotations

import argparse
import lzma
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chart import draw
from sixsmith.boot.container import Container, Machine
from sixsmith.boot.image import BootImage, open_image
from sixsmith.boot.runners import choose_runner
from sixsmith.boot.spec import RunSpec
from sixsmith.boot.supervision import Layout, Process, Supervision
from sixsmith.io.store import Store
from sixsmith.model.arch import ARCHES
from sixsmith.model.compression import gunzip, gzip_member
from sixsmith.model.digest import digest_of
from sixsmith.model.tar import END_OF_ARCHIVE, TarEntry, padding, tar_header
from sixsmith.oci.image import ImageSettings, make_image
from sixsmith.oci.spec import LAYER_GZIP, Layer

ROOT = Path(__file__).resolve().parents[1]
RUN = "#!/bin/sh\nexec sleep 98765\n"
PLAIN = 'trap "exit 0" TERM; while :; do sleep 98765 & wait $!; done'
SUPERVISOR = "[supervisord]\nnodaemon=true\nuser=root\n[program:main]\ncommand=/bin/sleep 98765\nstartsecs=0\n"
V3 = "etc/s6-overlay/s6-rc.d"


@dataclass(frozen=True)
class Contender:
    """An image to be made: Alpine's base, Debian packages or an overlay on it, files, and how it starts and stops."""

    name: str
    entrypoint: tuple[str, ...]
    overlay: str = ""
    packages: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    restarts: bool = True
    alpine: str = "3.20"


CONTENDERS = (
    Contender("plain Alpine, a shell loop", ("/bin/sh", "-c", PLAIN)),
    Contender("tini", ("/usr/bin/tini-static", "--", "sleep", "98765"), packages=("tini",), restarts=False),
    Contender("dumb-init", ("/usr/bin/dumb-init", "sleep", "98765"), packages=("dumb-init",), restarts=False),
    Contender(
        "runit",
        ("/usr/bin/runsvdir", "-P", "/service"),
        packages=("runit",),
        files={"service/main/run": RUN},
        stop_signal="SIGHUP",
    ),
    Contender(
        "supervisord",
        ("/usr/bin/python3", "/usr/bin/supervisord", "-n", "-c", "/etc/supervisord.conf"),
        packages=("supervisor",),
        files={"etc/supervisord.conf": SUPERVISOR},
    ),
    Contender("s6-overlay v1", ("/init",), overlay="1.21.4.0", files={"etc/services.d/main/run": RUN}, alpine="3.12"),
    Contender("s6-overlay v2", ("/init",), overlay="2.1.0.2", files={"etc/services.d/main/run": RUN}, alpine="3.12"),
    Contender(
        "s6-overlay v3",
        ("/init",),
        overlay="3.2.1.0",
        files={f"{V3}/main/type": "longrun\n", f"{V3}/main/run": RUN, f"{V3}/user/contents.d/main": ""},
    ),
)


@dataclass(frozen=True)
class Result:
    """Medians: milliseconds, bytes. None where a supervisor does not do that, or not within half a minute."""

    name: str
    start: float
    restart: float | None
    stop: float | None
    memory: int
    processes: int
    size: int


class Maker:
    """Makes the images."""

    def __init__(self, store: Store, upstream: Path, folder: Path) -> None:
        self.store = store
        self.upstream = upstream
        self.folder = folder

    def make(self, one: Contender) -> BootImage:
        """The image. Raises FileNotFoundError for a missing piece, CalledProcessError when apt-get cannot get one."""
        releases = self.upstream / f"alpine/v{one.alpine}/releases/x86_64"
        bases = sorted(releases.glob("alpine-minirootfs-*.tar.gz"))
        if not bases:
            raise FileNotFoundError(2, "no minirootfs", str(releases))
        layers = [self._layer(bytes(gunzip(bases[-1].read_bytes(), what="base")))]
        if one.packages:
            layers += [self._layer(tar) for tar in self._debian(one.packages)]
        if one.overlay.startswith("3"):
            names = ("s6-overlay-noarch.tar.xz", "s6-overlay-x86_64.tar.xz")
            paths = [self.upstream / f"s6-overlay/v{one.overlay}/{name}" for name in names]
            layers += [self._layer(lzma.decompress(path.read_bytes())) for path in paths]
        elif one.overlay:
            path = self.upstream / f"s6-overlay/v{one.overlay}/s6-overlay-amd64.tar.gz"
            layers.append(self._layer(bytes(gunzip(path.read_bytes(), what=path.name))))
        layers.append(self._layer(_tar_of(one.files)))
        settings = ImageSettings(entrypoint=one.entrypoint, stop_signal=one.stop_signal)
        made = make_image(layers, settings, platform=ARCHES["x86_64"].platform, created=0)
        self.store.put(made.config)
        self.store.put(made.manifest)
        return open_image(self.store, made.descriptor, name=one.name)

    def _layer(self, tar: bytes) -> Layer:
        blob = gzip_member(tar)
        return Layer(self.store.put(blob), len(blob), digest_of(tar), LAYER_GZIP)

    def _debian(self, packages: Sequence[str]) -> list[bytes]:
        """The files of Debian packages and of all that they need, by apt's own solver on an empty system."""
        archives = self.folder / "-".join(packages)
        (archives / "partial").mkdir(parents=True)
        options = ("Dir::State::status=/dev/null", f"Dir::Cache::archives={archives}", "Debug::NoLocking=1")
        words = [word for option in options for word in ("-o", option)]
        command = ["apt-get", *words, "-qq", "-y", "--download-only", "--no-install-recommends", "install", *packages]
        subprocess.run(command, check=True, capture_output=True)
        paths = sorted(archives.glob("*.deb"))
        extract = ["dpkg-deb", "--fsys-tarfile"]
        return [subprocess.run([*extract, str(path)], check=True, capture_output=True).stdout for path in paths]


def _tar_of(files: Mapping[str, str]) -> bytes:
    tar = b""
    for path, text in files.items():
        content = text.encode()
        mode = 0o755 if text.startswith("#!") else 0o644
        tar += tar_header(TarEntry(path, "file", mode, 0, 0, 0, len(content))) + content + padding(len(content))
    return tar + END_OF_ARCHIVE


def measure(one: Contender, image: BootImage, rounds: int) -> Result:
    """Boots it so many times."""
    samples = []
    with Machine(image, choose_runner(image.arch, "namespaces")) as machine:
        for _ in range(rounds):
            samples.append(_measure_once(one, machine))
    starts, restarts, stops = (sorted(values) for values in zip(*(sample[:3] for sample in samples), strict=True))
    memory, processes = samples[-1][3:]
    restart, stop = statistics.median(restarts), statistics.median(stops)
    return Result(
        one.name,
        statistics.median(starts),
        restart if restart < 30_000 else None,
        stop if stop < 30_000 else None,
        memory,
        processes,
        image.size,
    )


def _measure_once(one: Contender, machine: Machine) -> tuple[float, float, float, int, int]:
    container = machine.start(RunSpec(one.entrypoint, machine.image.env))
    supervision = Supervision(container, Layout(0))
    service = _await_service(container, supervision, 0)
    start = (time.monotonic() - container.begun) * 1000
    container.wait_end(1.2)  # younger services are made to wait before they are started again
    processes = supervision.processes(memory=True)
    others = [process for process in processes if process.pid != service.pid]
    restart = 1e9
    if one.restarts:
        killed = time.monotonic()
        container.inside("kill", pid=service.pid, signal=int(signal.SIGKILL))
        _await_service(container, supervision, service.pid)
        restart = (time.monotonic() - killed) * 1000
        container.wait_end(0.3)
    container.detach()
    told = container.signal(one.stop_signal)
    stopped = container.wait_end(30)
    stop = (container.end.at - told) * 1000 if stopped and container.end else 1e9
    return start, restart, stop, sum(process.memory for process in others), len(others)


def _await_service(container: Container, supervision: Supervision, before: int) -> Process:
    found: list[Process] = []

    def there() -> bool:
        found[:] = [
            process
            for process in supervision.processes()
            if process.name == "sleep"
            and process.words[-1] == "98765"
            and process.pid != before
            and process.state != "Z"
        ]
        return bool(found)

    if not container.wait(there, 30, step=0.002):
        raise RuntimeError(f"{container.machine.image.name}: the service did not start:\n{container.text}")
    return found[0]


def _table(results: Sequence[Result]) -> str:
    def ms(value: float | None) -> str:
        return f"{value:,.0f} ms" if value is not None else "no"

    lines = [
        "| | start | restart | stop | memory | processes | image |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in results:
        numbers = f"{one.memory / 1e6:.2f} MB | {one.processes} | {one.size / 1e6:.1f} MB"
        lines.append(f"| {one.name} | {ms(one.start)} | {ms(one.restart)} | {ms(one.stop)} | {numbers} |")
    return "\n".join(lines)


def main() -> int:
    """Measures, prints, and writes docs/supervisors.md with its picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.supervisors")
    parser.add_argument("--upstream", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-write", action="store_true")
    given = parser.parse_args()
    results, missing = [], []
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store") as store:
        maker = Maker(store, given.upstream, Path(folder))
        for one in CONTENDERS:
            if one.packages and shutil.which("apt-get") is None:
                missing.append(f"{one.name}: needs apt-get")
                continue
            try:
                image = maker.make(one)
            except (OSError, subprocess.CalledProcessError) as error:
                missing.append(f"{one.name}: {error}")
                continue
            results.append(measure(one, image, given.rounds))
            print(_table(results[-1:]).splitlines()[-1], flush=True)
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    if results and not given.no_write:
        _write(results, given.rounds)
    return 0 if results else 1


def _write(results: Sequence[Result], rounds: int) -> None:
    said = __doc__ or ""
    remarks = said[said.index("All images run") :].strip()
    text = (
        "# Supervisors compared\n\n"
        f"Medians of {rounds} rounds, Linux {platform.release().split('-')[0]}. Written by `python -m benchmarks.supervisors`.\n\n"
        f"{_table(results)}\n\n![Memory of the supervision](supervisors.svg)\n\n{remarks}\n\n"
        "s6-overlay waits `S6_KILL_GRACETIME` (3 s unless an image says less) when it stops, whatever happens; the others do\n"
        "not wait: runsvdir ends at once, and the kernel ends its services with it. tini and dumb-init start nothing again:\n"
        "the container ends with its program. tini, dumb-init, runit and supervisord are Debian's, with the libc and the Python\n"
        "that they need, which is most of their size and memory.\n"
    )
    (ROOT / "docs/supervisors.md").write_text(text, encoding="utf-8")
    bars = [(("sixsmith: " if one.name.startswith("s6") else "") + one.name, one.memory / 1000) for one in results]
    (ROOT / "docs/supervisors.svg").write_text(draw(bars, unit="memory of the supervision, kB"), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
