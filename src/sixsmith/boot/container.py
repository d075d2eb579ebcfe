"""sixsmith's side of a running container: its log with times, its end, and the agent inside it."""

from __future__ import annotations

import os
import re
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from sixsmith.boot.channel import Channel, pair
from sixsmith.boot.image import BootImage
from sixsmith.boot.launch import Launched
from sixsmith.boot.marks import mark_of
from sixsmith.boot.runners import Runner
from sixsmith.boot.spec import DOCKER_CAPABILITIES, RunSpec
from sixsmith.errors import DigestMismatch, FormatError, OutsideError, RunnerRefused, SixsmithError
from sixsmith.io.namespaces import map_alone, map_ids

__all__ = ["Container", "Ended", "LogLine", "Machine", "signal_number"]

_ERRORS: dict[str, type[SixsmithError]] = {"DigestMismatch": DigestMismatch, "FormatError": FormatError}
_MOST_LOG = 8 << 20
_LONGEST_LINE = 1 << 16
"""What is longer is several lines: some write no line ends at all."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that the container wrote, and when (monotonic seconds)."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended: its exit code (128 and the signal for a killed one), and when (monotonic seconds)."""

    code: int
    at: float


class Machine:
    """A keeper with one unpacked image, on which containers can be started one after another. Use it in a `with`.

    `launched` is a keeper that was started before, and becomes this machine's own.

    Raises RunnerRefused where the system forbids what the runner needs, and what the image's blobs raise.
    """

    def __init__(self, image: BootImage, runner: Runner, launched: Launched | None = None) -> None:
        self.image = image
        self.runner = runner
        self.unpack_ms = 0
        self.container: Container | None = None
        self._keeper = launched or Launched()
        self.channel = self._keeper.channel
        try:
            self._begin()
            self._unpack()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the keeper, and with it whatever runs and lies in it."""
        if self.container is not None:
            self.container.close()
            self.container = None
        self._keeper.close()

    def _begin(self) -> None:
        runner = self.runner
        emulator = runner.emulator.registration().decode("latin-1") if runner.emulator else ""
        begin = {
            "user": runner.user_namespace,
            "isolate": not runner.daemon,
            "daemon": runner.daemon,
            "alone": runner.alone,
            "emulator": emulator,
            "zstd": False,
        }
        begin["group"] = f"sixsmith-{mark_of(os.getpid())}-{os.urandom(4).hex()}" if runner.control_groups else ""
        begin["zstd"] = any(_is_zstd(self.image, digest) for digest in self.image.layers)
        self.channel.send(begin)
        answer = self._hear()
        if answer.get("stage") == "map":
            if runner.alone:
                map_alone(self._keeper.pid)
            else:
                map_ids(self._keeper.pid, runner.subordinates)
            self.channel.send({"stage": "mapped"})
            answer = self._hear()

    def _hear(self) -> dict[str, Any]:
        received = self.channel.receive()
        answer = received[0] if received is not None else {"trouble": "its keeper ended"}
        if "trouble" in answer:
            raise RunnerRefused(
                f"{self.runner.name} cannot start anything here: {answer['trouble']}", hint="--runner names another"
            )
        return answer

    def _unpack(self) -> None:
        descriptors: list[int] = []
        try:
            for digest in self.image.layers:
                descriptors.append(_layer_file(self.image, digest))
            if self.runner.daemon:
                descriptors.append(_in_memory(self.image.config.raw))
            answer = self.ask({"do": "unpack", "layers": list(self.image.layers)}, descriptors)
            self.unpack_ms = answer["ms"]
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """The keeper's answer. Raises OutsideError when it cannot do it or is gone, VerificationError for damaged layers."""
        try:
            self.channel.send(request, descriptors)
        except OSError:
            raise OutsideError("the container's keeper has ended") from None
        while True:
            received = self.channel.receive()
            if received is None:
                raise OutsideError("the container's keeper has ended")
            answer = received[0]
            if "ended" in answer and self.container is not None:
                self.container.note_end(answer)
                continue
            if "trouble" in answer:
                error = _ERRORS.get(str(answer.get("kind")), OutsideError)
                raise error(f"{self.image.name}: {answer['trouble']}", hint=answer.get("hint"))
            return answer

    def read(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Beginnings of files of the image, before anything has run."""
        found: dict[str, str | None] = self.ask({"do": "read", "paths": list(paths)})["found"]
        return found

    def list(self, folders: Sequence[str]) -> dict[str, dict[str, tuple[Any, ...]]]:
        """What is in folders of the image: name → (kind, mode, uid, gid, link target)."""
        found = self.ask({"do": "list", "folders": list(folders)})["found"]
        return {folder: {name: tuple(what) for name, what in names.items()} for folder, names in found.items()}

    def start(self, spec: RunSpec) -> Container:
        """Starts the image; a container that still runs is killed. Raises OutsideError when it cannot be started."""
        if self.container is not None:
            self.container.close()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self.container = container = Container(self, spec, reading)
        begun = time.monotonic()
        try:
            answer = self.ask({"do": "start", "runner": self.runner.starter, "spec": spec.document()}, [writing])
        except OutsideError as error:
            os.close(writing)
            writing = -1
            container.pump(0.05)
            said = container.text[-600:]
            container.close()
            self.container = None
            raise OutsideError(f"{error.message}\n{said}" if said else error.message, hint=error.hint) from None
        finally:
            if writing >= 0:
                os.close(writing)
        container.begun = begun
        container.pid = answer["pid"]
        container.notes = tuple(answer["notes"])
        return container


def signal_number(name: str) -> int:
    """A signal as an image's `StopSignal` names it: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. Raises OutsideError for another."""
    word = name.upper().removeprefix("SIG")
    known = {one.name.removeprefix("SIG"): int(one) for one in signal.Signals}
    known |= {f"RTMIN+{more}": signal.SIGRTMIN + more for more in range(signal.SIGRTMAX - signal.SIGRTMIN + 1)}
    number = int(word) if re.fullmatch("[0-9]{1,3}", word) else known.get(word, 0)
    if not 0 < number <= signal.SIGRTMAX:
        raise OutsideError(f"the image's stop signal is '{name}', which is none")
    return number


def _is_zstd(image: BootImage, digest: Any) -> bool:
    with image.blobs.open(digest) as file:
        return file.read(4) == b"\x28\xb5\x2f\xfd"


def _layer_file(image: BootImage, digest: Any) -> int:
    """An open file with the layer's blob: itself, or a copy in memory where it lies inside an archive."""
    with image.blobs.open(digest) as file:
        try:
            return os.dup(file.fileno())
        except OSError:
            copy = os.memfd_create("layer")
            with os.fdopen(os.dup(copy), "wb") as target:
                while chunk := file.read(1 << 20):
                    target.write(chunk)
            return copy


def _in_memory(content: bytes) -> int:
    """An open file with this content."""
    copy = os.memfd_create("config")
    os.write(copy, content)
    os.lseek(copy, 0, os.SEEK_SET)
    return copy


class Container:
    """One run of an image. `begun` is when it was started; `end` is None while it runs."""

    def __init__(self, machine: Machine, spec: RunSpec, log: int) -> None:
        self.machine = machine
        self.spec = spec
        self.begun = 0.0
        self.pid = 0
        self.notes: tuple[str, ...] = ()
        self.lines: list[LogLine] = []
        self.end: Ended | None = None
        self._log = log
        self._rest = b""
        self._taken = 0
        self._agent: Channel | None = None

    @property
    def text(self) -> str:
        """All that the container wrote so far."""
        whole = "\n".join(line.text for line in self.lines)
        return whole + ("\n" + self._rest.decode("utf-8", "replace") if self._rest else "")

    def close(self) -> None:
        """Kills what still runs."""
        self.detach()
        if self.end is None:
            with suppress(OutsideError):
                self.machine.ask({"do": "end"})
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    # --- time passes

    def pump(self, seconds: float) -> None:
        """Takes what the container writes, for at most so long; returns early when something happened."""
        waiting = [end for end in (self._log, self.machine.channel.fileno()) if end >= 0]
        ready, _, _ = select.select(waiting, [], [], max(0.0, seconds))
        if self._log in ready:
            self._take()
        if self.machine.channel.fileno() in ready:
            received = self.machine.channel.receive()
            if received is None:
                self.end = self.end or Ended(255, time.monotonic())
            elif "ended" in received[0]:
                self.note_end(received[0])

    def note_end(self, answer: Mapping[str, Any]) -> None:
        """The keeper says that it ended."""
        self.end = Ended(answer["ended"], answer["at"])
        while self._log >= 0 and select.select([self._log], [], [], 0)[0]:
            self._take()

    def _take(self) -> None:
        try:
            piece = os.read(self._log, 1 << 16)
        except BlockingIOError:
            return
        if not piece:
            os.close(self._log)
            self._log = -1
        now = time.monotonic()
        self._taken += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        if not piece and self._rest:
            lines, self._rest = [self._rest], b""
        if self._taken <= _MOST_LOG:
            self.lines += [LogLine(now, line.decode("utf-8", "replace").rstrip("\r")) for line in lines]

    def wait(self, done: Callable[[], bool], seconds: float, *, step: float = 0.02) -> bool:
        """Waits until `done` or the end of the container; whether `done` was true in time."""
        deadline = time.monotonic() + seconds
        while True:
            if done():
                return True
            left = deadline - time.monotonic()
            if left <= 0 or self.end is not None:
                return done() if self.end is not None else False
            self.pump(min(step, left))

    def wait_end(self, seconds: float) -> bool:
        """Waits until the container has ended."""
        return self.wait(lambda: self.end is not None, seconds, step=1.0)

    def signal(self, name: str) -> float:
        """Sends a signal to the first process; returns when (monotonic seconds). Raises OutsideError for one that is none."""
        at: float = self.machine.ask({"do": "signal", "signal": signal_number(name)})["at"]
        return at

    def watch(self, paths: Sequence[str]) -> list[str]:
        """From now on, remember when these files of the container are opened; returns those that exist."""
        watching: list[str] = self.machine.ask({"do": "watch", "paths": list(paths)})["watching"]
        return watching

    def watched(self) -> list[str]:
        """The watched files that were opened, in order."""
        opened: list[str] = self.machine.ask({"do": "watched"})["opened"]
        return opened

    # --- the agent

    def inside(self, do: str, *, seconds: float = 10.0, **request: Any) -> dict[str, Any]:
        """What the agent answers; `{"trouble": …}` when it cannot, or when the container ended meanwhile."""
        if self.end is not None:
            return {"trouble": "the container has ended"}
        if self._agent is None:
            self._agent, theirs = pair()
            try:
                self.machine.ask({"do": "attach"}, [theirs.fileno()])
            except OutsideError as error:
                self.detach()
                self.pump(0.05)
                return {"trouble": error.message}
            finally:
                theirs.close()
        try:
            self._agent.send({"do": do, "seconds": seconds, **request})
        except OSError:
            self.detach()
            return {"trouble": "the container has ended"}
        return self._agent_answer(time.monotonic() + seconds + 5.0)

    def _agent_answer(self, deadline: float) -> dict[str, Any]:
        assert self._agent is not None
        while True:
            waiting = [self._agent.fileno(), *([self._log] if self._log >= 0 else [])]
            ready, _, _ = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))
            if self._log in ready:
                self._take()
            if self._agent.fileno() in ready:
                received = self._agent.receive()
                if received is None:
                    self.detach()
                    return {"trouble": "the container has ended"}
                return received[0]
            if not ready or time.monotonic() > deadline:
                self.detach()
                return {"trouble": "no answer in time"}

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float = 30.0,
        environment: Mapping[str, str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Runs a command in the container: `status`, `output`, `timed_out`, `ms`, or `trouble`.

        It is the image's program, and never gets more rights than Docker would give.
        """
        given = dict(environment) if environment is not None else self.tool_environment()
        rights: dict[str, Any] = {"capabilities": DOCKER_CAPABILITIES, **more}
        return self.inside("run", command=list(command), seconds=seconds, environment=given, **rights)

    def tool_environment(self) -> dict[str, str]:
        """The image's environment, with s6's programs in PATH."""
        path = self.spec.environment.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return {**self.spec.environment, "PATH": path if "/command" in path.split(":") else f"/command:{path}"}

    def detach(self) -> None:
        """Lets the agent go: a container that stops should stop because of its own processes."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None
