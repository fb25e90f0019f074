"""Threads for user code that is plain functions, and the pool of plain run closures.

A run is the unit of durable work, so its way to a thread and back is kept short: one queue there, one
wake-up of the loop for all results that are ready. ``concurrent.futures`` does the same for about 40 µs
a closure more, and waits at exit for threads that are stuck (decision 0006).
"""

import threading
import time
from asyncio import AbstractEventLoop, get_running_loop
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

Done: TypeAlias = Callable[[Any, BaseException | None], None]
_Result: TypeAlias = tuple[Done, Any, BaseException | None]


class DaemonThreads:
    """Up to ``size`` threads that do ``work`` for each job, in order; ``work`` must not raise.

    They start when there is more to do than threads, and they are daemons: one that is stuck in a user's
    code does not keep the process.
    """

    def __init__(self, size: int, name: str, work: Callable[..., None]) -> None:
        self._size, self._name, self._work = size, name, work
        self._jobs: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, job: tuple[Any, ...], busy_count: int) -> None:
        """``job``: the arguments of ``work``. ``busy_count``: jobs that are not done, with this one."""
        count = len(self._threads)
        if busy_count > count < self._size:
            name = f"{self._name}-{count + 1}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Let the threads end when they are through; what has not begun is dropped."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)

    def join(self, limit_s: float) -> None:
        """After ``close``: wait for the threads to end, but not for those that take longer."""
        end_s = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._work(*job)
            del job  # keep nothing alive while waiting


class ClosurePool:
    """Runs closures in at most ``size`` threads; further ones wait their turn.

    ``submit`` is called on the loop; ``done(value, error)`` is, too.
    """

    def __init__(self, size: int) -> None:
        self._loop: AbstractEventLoop | None = None  # the one that submits
        self._threads = DaemonThreads(size, "perdure-run", self._carry_out)
        self._results: deque[_Result] = deque()
        self._busy_count = 0
        self._wake_up_sent = False
        self._work: AbstractContextManager[None] | None = None

    def submit(self, closure: Callable[[], Any], done: Done) -> None:
        if self._busy_count == 0:
            self._loop = get_running_loop()
            self._begin()
        self._busy_count += 1
        self._threads.submit((closure, done), self._busy_count)

    def close(self) -> None:
        """Let the threads end when they are through; what has not begun is dropped."""
        self._threads.close()
        if self._busy_count:
            self._busy_count = 0
            self._end()

    def join(self, limit_s: float) -> None:
        """After ``close``: wait for the closures that still run, but not for those that take longer."""
        self._threads.join(limit_s)

    # ---- on the threads

    def _carry_out(self, closure: Callable[[], Any], done: Done) -> None:
        try:
            result: _Result = (done, closure(), None)
        except BaseException as error:
            result = (done, None, error)
        self._results.append(result)
        if not self._wake_up_sent:
            self._wake_up_sent = True
            assert self._loop is not None
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver)

    # ---- on the loop

    def _deliver(self) -> None:
        self._wake_up_sent = False  # before the results are taken, so that none is left behind
        while self._results:
            done, value, error = self._results.popleft()
            if self._busy_count:
                self._busy_count -= 1
                if self._busy_count == 0:
                    self._end()
            done(value, error)

    def _begin(self) -> None:
        """Tell a loop on virtual time that threads are at work."""
        outside_work = getattr(self._loop, "outside_work", None)
        if outside_work is not None:
            work: AbstractContextManager[None] = outside_work()
            work.__enter__()
            self._work = work

    def _end(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.__exit__(None, None, None)


def fit_for_a_future(error: BaseException) -> BaseException:
    """A future takes no StopIteration; a coroutine that raises one becomes the same error."""
    if not isinstance(error, StopIteration):
        return error
    fit = RuntimeError("a function raised StopIteration")
    fit.__cause__ = error
    return fit
