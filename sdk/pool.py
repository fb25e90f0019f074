"""Threads for plain run closures. A run is the unit of durable work, so its way to a thread and back is
kept short: one queue there, one wake-up of the loop for all results that are ready.

``concurrent.futures`` does the same for about 40 µs a closure more (docs/performance.md); nothing else
here uses it. Threads start when there is more work than idle threads, up to ``size``.
"""

import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, TypeAlias

Done: TypeAlias = Callable[[Any, BaseException | None], None]
_Job: TypeAlias = tuple[Callable[[], Any], Done]
_Result: TypeAlias = tuple[Done, Any, BaseException | None]


class ClosurePool:
    """Runs closures in at most ``size`` threads; further ones wait their turn.

    ``submit`` is called on the loop; ``done(value, error)`` is, too. Threads are daemons: one that is
    stuck in a user's closure does not keep the process.
    """

    def __init__(self, size: int) -> None:
        self._loop: AbstractEventLoop | None = None  # the one that submits
        self._size = size
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[_Result] = deque()
        self._thread_count = 0
        self._busy_count = 0
        self._wake_up_sent = False
        self._work: AbstractContextManager[None] | None = None

    def submit(self, closure: Callable[[], Any], done: Done) -> None:
        if self._busy_count == 0:
            self._loop = get_running_loop()
            self._begin()
        self._busy_count += 1
        if self._busy_count > self._thread_count < self._size:
            self._thread_count += 1
            name = f"perdure-run-{self._thread_count}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._jobs.put((closure, done))

    def close(self) -> None:
        """Let the threads end when they are through; what has not begun is dropped."""
        while not self._jobs.empty():
            self._jobs.get()
        for _ in range(self._thread_count):
            self._jobs.put(None)
        if self._busy_count:
            self._busy_count = 0
            self._end()

    # ---- on the threads

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            closure, done = job
            try:
                result: _Result = (done, closure(), None)
            except BaseException as error:
                result = (done, None, error)
            self._results.append(result)
            del job, closure, done, result  # keep nothing alive while waiting
            if not self._wake_up_sent:
                self._wake_up_sent = True
                assert self._loop is not None
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop is closed; nobody waits any more
                    return

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
