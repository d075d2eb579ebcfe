"""A few threads that take work in order.

What `concurrent.futures` does, without loading `logging` and its friends, which costs more than a small build.
Hashing, inflating and compressing let other threads run; so two are faster than one, and results are asked for in order.
"""

from __future__ import annotations

import threading
from _queue import SimpleQueue  # what `queue` offers, without its other classes
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

__all__ = ["Task", "Workers"]

T = TypeVar("T")


class Task(Generic[T]):
    """Work that was handed over."""

    __slots__ = ("_among", "_arguments", "_done", "_error", "_value", "_work")

    def __init__(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._work: Callable[..., T] | None = work
        self._arguments = arguments
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._value: T
        self._among: dict[Task[Any], None] | None = None

    def waits_among(self, others: dict[Task[Any], None]) -> None:
        """Puts the work off until its result is asked for."""
        self._among = others
        others[self] = None

    def result(self) -> T:
        """What the work returned, when it is done. Raises what it raised."""
        if self._among is not None:
            self.run()
        with self._done:
            if self._error is not None:
                raise self._error
            return self._value

    def run(self) -> None:
        """Does the work; called once, in any thread."""
        work, arguments = self._work, self._arguments
        self._work, self._arguments = None, ()  # what it holds on to is free when it is done
        self._stop_waiting()
        assert work is not None
        try:
            self._value = work(*arguments)
        except BaseException as error:
            self._error = error
        finally:
            self._done.release()

    def cancel(self) -> None:
        """For work that is not to be done any more."""
        self._work, self._arguments = None, ()
        self._stop_waiting()
        self._error = RuntimeError("cancelled")
        self._done.release()

    def _stop_waiting(self) -> None:
        if self._among is not None:
            del self._among[self]
            self._among = None


class Workers:
    """Up to `count` threads; use it with `with`. At the end all work is done, after an error what has begun.

    With a count of 1 there is none: work is done when its result is asked for, or at the end.
    """

    def __init__(self, count: int, *, name: str = "worker") -> None:
        self._count = max(1, count)
        self._name = name
        self._todo: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._put_off: dict[Task[Any], None] = {}

    def submit(self, work: Callable[..., T], *arguments: Any) -> Task[T]:
        """Hands work over; the first `count` times a thread is started for it."""
        task = Task(work, arguments)
        if self._count == 1:
            task.waits_among(self._put_off)
            return task
        self._todo.put(task)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._take, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return task

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._cancel()
            if not issubclass(kind, Exception):
                return  # Ctrl-C: nobody waits for a server that stalls, and daemons end with the program
        for waiting in [*self._put_off]:
            waiting.run()
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    def _take(self) -> None:
        while (task := self._todo.get()) is not None:
            task.run()
            del task  # a thread that waits must not keep the last result alive

    def _cancel(self) -> None:
        for waiting in [*self._put_off]:
            waiting.cancel()
        while not self._todo.empty():
            try:
                task = self._todo.get_nowait()
            except Exception:  # a thread was quicker
                return
            if task is not None:
                task.cancel()
