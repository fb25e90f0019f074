"""The one thread that appends, and the way there and back from an event loop.

Knows no engine: what writing, noting and ending mean is given. A plain thread with a queue costs the
loop half of what an executor's futures do. Rules: leveldb 0 (5), 7.1; design 8 (4).
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from perdure.journal.store import Group, Tail, tail_of

_Job: TypeAlias = tuple[Group | None, asyncio.AbstractEventLoop, asyncio.Future[Tail]]


class Writer:
    """Carries out appends in order, each to its end whether or not its caller still waits.

    ``write`` returns once the group is durable. ``note`` is told the tail about every
    ``interval_s`` while it moves, behind the commits, and before ``end``; it must not raise.
    All three run on the writer's thread.
    """

    def __init__(
        self,
        tail: Tail,
        interval_s: float,
        write: Callable[[Group], None],
        note: Callable[[Tail], None],
        end: Callable[[], None],
    ) -> None:
        self.tail = tail
        self.in_flight = False
        self._noted = tail
        self._interval_s = interval_s
        self._write, self._note_tail, self._end = write, note, end
        self._closing: asyncio.Future[Tail] | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon: a program that ends without closing its store must not hang.
        threading.Thread(target=self._run, name="perdure-store-writer", daemon=True).start()

    async def append(self, group: Group) -> Tail:
        """Returns the tail behind ``group``; raises what ``write`` raised. One at a time."""
        self.in_flight = True
        return await self._submit(group)

    async def flush(self) -> Tail:
        """The tail once everything that was submitted before is done."""
        return await self._submit(None)

    async def close(self) -> None:
        """Returns once ``end`` has run; may be called again."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            self._jobs.put(None)
        await asyncio.shield(self._closing)

    async def _submit(self, group: Group | None) -> Tail:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Tail] = loop.create_future()
        self._jobs.put((group, loop, future))
        return await future  # cancelling it leaves the job in the thread's hands

    # ---- on the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        due = 0.0  # when the tail is noted, if it moved
        while True:
            moved = self._noted is not self.tail
            try:
                job = self._jobs.get(timeout=max(0.0, due - time.monotonic()) if moved else None)
            except queue.Empty:
                self._note()
                continue
            if job is None:
                break
            if not moved:
                due = time.monotonic() + self._interval_s
            self._carry_out(*job)
            if time.monotonic() >= due:
                self._note()
        self._note()
        self._end()
        closing = self._closing
        assert closing is not None
        with suppress(RuntimeError):  # as in _carry_out
            closing.get_loop().call_soon_threadsafe(self._answer, None, closing, self.tail, None)

    def _carry_out(
        self,
        group: Group | None,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Tail],
    ) -> None:
        error: BaseException | None = None
        if group is not None:
            try:
                self._write(group)
                self.tail = tail_of(group)
            except BaseException as e:
                error = e
        try:
            loop.call_soon_threadsafe(self._answer, group, future, self.tail, error)
        except RuntimeError:  # the loop has ended: nobody waits any more
            self.in_flight = False

    def _note(self) -> None:
        tail = self.tail
        if self._noted is not tail:
            self._note_tail(tail)
            self._noted = tail

    # ---- back on the loop ----------------------------------------------------------------------

    def _answer(
        self,
        group: Group | None,
        future: asyncio.Future[Tail],
        tail: Tail,
        error: BaseException | None,
    ) -> None:
        if group is not None:
            self.in_flight = False
        if future.done():  # the caller was cancelled
            return
        if error is None:
            future.set_result(tail)
        else:
            future.set_exception(error)
