"""Attempts at handlers that are plain functions, and the bounded threads that they run in.

While the function runs, its thread alone touches the journal; while it waits, the loop does. So
nothing here needs a lock; what reaches the loop goes through ``call_soon_threadsafe``.
"""

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from functools import partial
from threading import get_ident
from types import CoroutineType
from typing import Any, TypeVar

from perdure.attempt import HandlerAttempt
from perdure.blocking import BlockingContext
from perdure.futures import DurableFuture
from perdure.handler import decode_input, encode_output
from perdure.handles import RestateDurableFuture
from perdure.journal import mismatch
from perdure.journal.attempt import Failed, Frame
from perdure.journal.errors import UsageError
from perdure.pool import DaemonThreads, fit_for_a_future

T = TypeVar("T")


class HandlerThreads:
    """A bounded number of threads, first come first served. Used on the loop only.

    A handler that waits holds its thread. So that handlers which wait for each other cannot use up
    all threads, one that waits is suspended whenever another one needs a thread.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads = DaemonThreads(size, "perdure-handler", self._carry_out)
        self._busy: dict[BlockingAttempt, None] = {}
        self._queue: deque[asyncio.Future[None]] = deque()
        self._granted_count = 0  # turns that were given, but not taken yet

    @property
    def scarce(self) -> bool:
        """Whether a handler waits for a thread."""
        return bool(self._queue)

    @property
    def _has_room(self) -> bool:
        return len(self._busy) + self._granted_count < self._size

    async def run(self, attempt: "BlockingAttempt", work: Callable[[], T]) -> T:
        loop = attempt.loop
        if not self._has_room or self._queue:
            turn = loop.create_future()
            self._queue.append(turn)
            self._make_room()
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # the turn had come just now
                    self._granted_count -= 1
                    self._next()
                raise
            self._granted_count -= 1
        self._busy[attempt] = None
        ended: asyncio.Future[T] = loop.create_future()
        self._threads.submit((attempt, work, ended), len(self._busy))
        with getattr(loop, "outside_work", nullcontext)():
            return await ended

    def close(self) -> None:
        self._threads.close()

    def _carry_out(
        self, attempt: "BlockingAttempt", work: Callable[[], T], ended: asyncio.Future[T]
    ) -> None:
        """In a thread."""
        try:
            end = partial(ended.set_result, work())
        except BaseException as error:
            end = partial(ended.set_exception, fit_for_a_future(error))
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            attempt.loop.call_soon_threadsafe(self._freed, attempt, ended, end)

    def _make_room(self) -> None:
        for each in self._busy:
            if each.suspend_if_idle():
                return

    def _freed(
        self, attempt: "BlockingAttempt", ended: asyncio.Future[Any], end: Callable[[], None]
    ) -> None:
        self._busy.pop(attempt, None)
        if not ended.done():  # else nobody waits any more
            end()
        self._next()

    def _next(self) -> None:
        while self._queue and self._has_room:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                self._granted_count += 1
                return


class BlockingAttempt(HandlerAttempt):
    """One attempt of a handler that is a plain function."""

    __slots__ = ("_blocking_context", "_loop_thread", "_sent")

    def launch(self) -> None:
        self._sent: deque[list[Frame]] = deque()  # by the thread, on its way to the loop
        self._blocking_context = BlockingContext(self)
        self._loop_thread = get_ident()
        self._flush_planned = True  # the handler's thread decides when commands leave
        super().launch()

    async def _call_function(self) -> bytes:
        handler = self.handler
        arguments: tuple[Any, ...] = ()
        if handler.arity == 2:
            arguments = (decode_input(handler, await self.input()),)
        inside = contextvars.copy_context()
        begun = self.replay.command_index
        result = await self.host.handler_threads.run(
            self, lambda: inside.run(self._in_thread, arguments)
        )
        if type(result) is CoroutineType and self.replay.command_index == begun:
            result.close()  # a plain function around a coroutine function, which has not begun
            handler.blocking = False  # the next attempts need not find that out
            self.thread, self._flush_planned = self._loop_thread, False
            return await super()._call_function()
        return self.encode(encode_output(handler, result))

    def _in_thread(self, arguments: tuple[Any, ...]) -> Any:
        self.thread = get_ident()
        return self.handler.fn(self._blocking_context, *arguments)

    def _release(self) -> None:
        self._task = None  # an aborted function may still run in its thread, and use the rest

    def _in_own_task(self) -> bool:
        return self._has_thread or super()._in_own_task()  # one thread, one await

    def _under_pressure(self) -> bool:
        return self._has_thread and self.host.handler_threads.scarce

    @property
    def _has_thread(self) -> bool:
        return self.thread != self._loop_thread

    def fail(self, failed: Failed) -> None:
        if get_ident() == self._loop_thread:
            super().fail(failed)
        else:
            self.on_loop(self._fail_on_loop(failed))

    async def _fail_on_loop(self, failed: Failed) -> None:
        super().fail(failed)

    def _location(self) -> str:
        return mismatch.locate(sys._current_frames().get(self.thread))

    # ---- on the handler's thread ----------------------------------------------------------------

    def result(self, future: RestateDurableFuture[T]) -> T:
        """Wait for a future of this attempt."""
        if not isinstance(future, DurableFuture):
            raise UsageError(
                f"got {type(future).__qualname__} instead of a future: pass what a method of"
                " ctx.start returned"
            )
        if self.codec is None and future.is_completed():
            try:
                next(future.__await__())
            except StopIteration as e:
                there: T = e.value
                return there
        found: T = self.on_loop(_value_of(future))
        return found

    def on_loop(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine that the loop runs meanwhile."""
        if get_ident() != self.thread:
            waiting.close()
            self._refuse_stranger(self)
        return asyncio.run_coroutine_threadsafe(self._waiting(waiting), self.loop).result()

    async def _waiting(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Tell a loop on virtual time that the handler's thread does nothing meanwhile."""
        with getattr(self.loop, "thread_waits", nullcontext)():
            return await waiting

    def send_now(self) -> None:
        """Commands with an effect elsewhere must not wait until the function next blocks."""
        frames = super()._drain()
        if frames:
            self._sent.append(frames)
            self.loop.call_soon_threadsafe(self._emit_sent)

    def _emit_sent(self) -> None:
        if self._sent and self.closed is None:
            self.sink.emit(tuple(self._take_sent()))

    def _take_sent(self) -> list[Frame]:
        frames: list[Frame] = []
        while self._sent:
            frames += self._sent.popleft()
        return frames

    def _drain(self) -> list[Frame]:
        """On the loop: what the thread has sent, and is not out yet, comes first."""
        return self._take_sent() + super()._drain()


async def _value_of(future: RestateDurableFuture[T]) -> T:
    return await future
