"""One attempt: runs a handler as an asyncio task and speaks for it at the attempt port.

The pure ``Replay`` decides; here is when to emit, when to wait, and how the attempt ends. Everything
that user code issues before it first waits leaves in one burst. What a context offers is elsewhere.
Rules: service protocol 5.7, 5.8, 5.11, 6; `perdure.journal.attempt` for the port.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.current import operating_for, running_context
from perdure.handler import Handler, decode_input, encode_output
from perdure.invocation import InvocationContext
from perdure.journal import mismatch
from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Ended,
    Failed,
    Frame,
    ProposeRun,
    Sink,
    Start,
    Suspended,
)
from perdure.journal.entries import Command, Failure, Notification, Outcome, Output, Result, Value
from perdure.journal.errors import (
    JournalMismatch,
    RetryableError,
    SdkInternalException,
    SuspendedException,
    TerminalError,
    UsageError,
)
from perdure.journal.replay import Handle, Progress, Replay, awaiting, awaiting_any
from perdure.logcontext import attempt_of_logs, logger
from perdure.replaying import restate_context_is_replaying
from perdure.runs import Runs

if TYPE_CHECKING:
    from perdure.hosting import Hosted


class _Waiter:
    """One blocked await. ``woken`` carries what it was woken with; None: look again."""

    __slots__ = ("all_of", "missing", "woken")

    def __init__(
        self, woken: "asyncio.Future[Progress | None]", missing: set[Handle], all_of: bool
    ) -> None:
        self.woken = woken
        self.missing = missing
        self.all_of = all_of


class HandlerAttempt:
    """Implements ``journal.attempt.Attempt`` for an ``async def`` handler."""

    __slots__ = (
        "__weakref__",
        "_announced",
        "_closing",
        "_entered",
        "_flush_planned",
        "_proposed",
        "_task",
        "_waiters",
        "closed",
        "codec",
        "context",
        "finished",
        "handler",
        "host",
        "keyed",
        "loop",
        "may_write",
        "replay",
        "runs",
        "sink",
        "start",
        "thread",
    )

    def __init__(
        self, start: Start, sink: Sink, handler: Handler[Any, Any], host: "Hosted"
    ) -> None:
        self.start = start
        self.sink = sink
        self.handler = handler
        self.host = host
        self.codec = host.codec
        self.loop = asyncio.get_running_loop()
        self.replay = Replay(start)
        self.runs = Runs(self, host.run_pool)
        self.context = self._make_context()
        self.thread = get_ident()
        self.keyed = start.handler.keyed
        self.may_write = start.handler.may_write_state
        self.closed: type[BaseException] | None = None  # what the handler gets once it is over
        self.finished: asyncio.Event | None = None
        self._closing = False
        self._entered = False
        self._flush_planned = False
        self._announced: set[Handle] | None = None
        self._proposed: set[Handle] = set()
        self._waiters: list[_Waiter] = []
        self._task: asyncio.Task[None] | None = None

    def _make_context(self) -> InvocationContext:
        return InvocationContext(self)

    def launch(self) -> None:
        """Begin; the handler's first step happens in a later turn of the loop."""
        self._task = self.loop.create_task(self._drive())

    # ---- what the runtime says ------------------------------------------------------------------

    def deliver(self, entries: tuple[tuple[int, Notification], ...]) -> None:
        """Wakes the handler only when its await is over, so most deliveries cost no task switch."""
        if self.closed is not None:
            return
        replay = self.replay
        for index, notification in entries:
            replay.deliver(index, notification)
        if len(self._waiters) == 1:
            waiter = self._waiters[0]
            if not waiter.woken.done():
                progress = replay.advance(waiter.missing, waiter.all_of)
                if progress is not Progress.BLOCKED:
                    waiter.woken.set_result(progress)
        else:
            self._wake_all()

    def pass_barrier(self, completion_id: int) -> None:
        if self.closed is None:
            self.runs.start(completion_id)

    def close_input(self) -> None:
        self._closing = True
        self.suspend_if_idle()

    def abort(self) -> None:
        self._close(SdkInternalException)
        if self._task is not None:
            self._task.cancel()
        if not self._entered:
            self.host.forget(self)

    def suspend_if_idle(self) -> bool:
        """Suspend now if every await is blocked and no run executes."""
        waiters = self._waiters
        if self.closed is not None or not waiters or self.runs.executing:
            return False
        if any(each.woken.done() for each in waiters):
            return False  # on its way
        self._suspend(self._drain())
        return True

    # ---- waiting --------------------------------------------------------------------------------

    def wait_one(self, handle: Handle) -> Generator[Any, Any, None]:
        """Return once a result for ``handle`` can be taken."""
        if self.closed is None and self.replay.has(handle):
            return
        yield from self.wait({handle}, False)

    def take(self, handle: Handle) -> Result:
        """The result for ``handle``, which must be there."""
        if self.runs.issued:
            self.runs.issued.pop(handle, None)
        return self.replay.take(handle)

    def wait(self, missing: set[Handle], all_of: bool) -> Generator[Any, Any, None]:
        """Return once any (all) of ``missing`` can be taken; consumes the set.

        Raises TerminalError 409 on cancellation and SuspendedException when the attempt is over.
        """
        replay = self.replay
        while True:
            if self.closed is not None:
                self._refuse_closed()
            if replay.settle(missing, all_of):
                return
            progress: Progress | None = replay.advance(missing, all_of)
            if progress is Progress.BLOCKED:
                progress = yield from self._block(missing, all_of)
            elif self._waiters:
                self._wake_all()  # what this await came across may be for them
            if progress is Progress.READY:
                return
            if progress is Progress.CANCELLED:
                yield from self._cancelled()

    def _cancelled(self) -> Generator[Any, Any, NoReturn]:
        """Pass the cancellation on to the callees, then raise it here."""
        replay = self.replay
        while unknown := replay.unknown_call_ids():
            if (yield from self._block(unknown, True)) is Progress.CANCELLED:
                replay.hold_cancel()  # for a later await
            if self.closed is not None:
                self._refuse_closed()
        self.guard(replay.cancel_calls)
        raise TerminalError("cancelled", 409)

    def _block(self, missing: set[Handle], all_of: bool) -> Generator[Any, Any, Progress | None]:
        """Everything is consumed: say what is to be said, then wait for the runtime."""
        waiter = _Waiter(self.loop.create_future(), missing, all_of)
        self._waiters.append(waiter)
        try:
            self._speak(missing, all_of)
            return (yield from waiter.woken)
        finally:
            self._waiters.remove(waiter)

    def _speak(self, missing: set[Handle], all_of: bool) -> None:
        """The burst of a handler that blocks: new commands, barriers, what it waits for."""
        frames = self._drain()
        if self.runs.issued:
            frames.extend(self.runs.barriers(missing))
        if not self.runs.executing:
            if self.replay.replaying:
                self.guard(self.replay.refuse_to_block, missing, self._location())
            if self._closing or self._under_pressure():
                self._suspend(frames)
                raise SuspendedException
            if not missing <= self._proposed and missing != self._announced:
                self._announced = set(missing)
                frames.append(AwaitingOn(awaiting(missing, all_of)))
        if frames:
            self.sink.emit(tuple(frames))

    def _under_pressure(self) -> bool:
        """Whether a blocked handler should make room at once."""
        return False

    def _wake_all(self) -> None:
        for each in self._waiters:
            if not each.woken.done():
                each.woken.set_result(None)

    # ---- emitting -------------------------------------------------------------------------------

    def check(self) -> None:
        """Before every operation of the context: may it happen here and now?"""
        if self.closed is not None:
            self._refuse_closed()
        owner = operating_for.get()
        if (owner is not self and owner is not None) or get_ident() != self.thread:
            self._refuse_stranger(owner)
        if not self._flush_planned:
            self._flush_planned = True
            self.loop.call_soon(self._flush)

    def issue(self, command: Command) -> None:
        """Match or append one command; a mismatch ends the attempt."""
        try:
            self.replay.issue(command)
        except JournalMismatch as e:
            self.mismatched(e)
        if self.replay.recorded_count > 1:
            self.went_live()

    def guard(self, issue: Callable[..., None], *args: Any) -> None:
        """Issue a command; a mismatch ends the attempt."""
        try:
            issue(*args)
        except JournalMismatch as e:
            self.mismatched(e)

    def mismatched(self, error: JournalMismatch) -> NoReturn:
        """End the attempt: the handler diverged from its journal."""
        index = self.replay.command_index
        self.fail(Failed(error.code, str(error), related_command_index=index))
        raise SdkInternalException from error

    def went_live(self) -> None:
        """After an operation: log lines count again once the recorded commands are used up."""
        if self.replay.recorded_count > 1:
            restate_context_is_replaying.set(self.replay.replaying)

    def propose(self, proposal: ProposeRun) -> None:
        """The result of a run. Its command is out already, so nothing else has to be flushed."""
        if self.closed is not None:
            return
        self._proposed.add(proposal.completion_id)
        if self._closing and self._waiters and not self.runs.executing:
            self._suspend([*self._drain(), proposal])
            return
        frames: list[Frame] = [proposal]
        if not self.runs.executing and len(self._waiters) == 1:
            waiter = self._waiters[0]
            if not waiter.woken.done() and not waiter.missing <= self._proposed:
                self._announced = set(waiter.missing)
                frames.append(AwaitingOn(awaiting(waiter.missing, waiter.all_of)))
        self.sink.emit(tuple(frames))

    def fail(self, failed: Failed) -> None:
        """End the attempt with an error that is not an answer."""
        if self.closed is not None:
            return
        frames = (*self._drain(), failed)
        self._close(SdkInternalException)
        self.sink.emit(frames)

    def _suspend(self, frames: list[Frame]) -> None:
        tree = self._awaited()
        frames.append(Suspended(tree, self.replay.seen_count))
        self._close(SuspendedException)
        self.sink.emit(tuple(frames))

    def _awaited(self) -> Awaiting:
        return awaiting_any([awaiting(each.missing, each.all_of) for each in self._waiters])

    def _close(self, reason: type[BaseException]) -> None:
        """From now on nothing is emitted; whoever waits or operates gets ``reason``."""
        if self.closed is None:
            self.closed = reason
        self.replay.outgoing.clear()
        self.runs.cancel()
        for each in self._waiters:
            if not each.woken.done():
                each.woken.set_result(None)

    def _drain(self) -> list[Frame]:
        frames = self.replay.outgoing
        self.replay.outgoing = []
        return frames

    def _flush(self) -> None:
        """The handler waits for something foreign: commands must not linger."""
        self._flush_planned = False
        if self.replay.outgoing and self.closed is None:
            self.sink.emit(tuple(self._drain()))

    # ---- the handler ----------------------------------------------------------------------------

    async def _drive(self) -> None:
        self.enter()
        try:
            self.end(Value(await self._call()))
        except (KeyboardInterrupt, GeneratorExit):
            self._close(SdkInternalException)
            raise
        except BaseException as e:
            self.end_by(e)
        finally:
            await self.over()

    def enter(self) -> None:
        """Tell the current task or thread whose handler it runs."""
        self._entered = True
        operating_for.set(self)
        running_context.set(self.context)
        attempt_of_logs.set(self.start)
        if self.replay.replaying:
            restate_context_is_replaying.set(True)

    async def _call(self) -> bytes:
        handler = self.handler
        if not handler.context_managers:
            return await self._call_function()
        async with AsyncExitStack() as stack:
            for manager in handler.context_managers:
                await stack.enter_async_context(manager())
            return await self._call_function()

    async def _call_function(self) -> bytes:
        handler = self.handler
        if handler.arity == 1:
            running = handler.fn(self.context)
        else:
            running = handler.fn(self.context, decode_input(handler, await self.input()))
        if not isinstance(running, Awaitable):
            raise UsageError(
                f"{handler.qualified_name} returned {type(running).__qualname__} instead of a"
                " coroutine: declare it with `async def`, or as a plain function without `await`."
            )
        return self.encode(encode_output(handler, await running))

    async def input(self) -> bytes:
        """The argument's bytes."""
        content = self.replay.input.value
        if self.codec is None:
            return content
        try:
            return await self.codec.decode(content)
        except Exception as e:
            raise TerminalError(f"the codec cannot decode the input: {e}", 400) from e

    def encode(self, content: bytes) -> bytes:
        return content if self.codec is None else bytes(self.codec.encode(content))

    def end(self, outcome: Outcome) -> None:
        """The handler has an answer."""
        if self.closed is not None:
            return
        restate_context_is_replaying.set(False)
        try:
            self.replay.finish(Output(outcome), self._where())
        except JournalMismatch as e:
            index = self.replay.command_index
            self.fail(Failed(e.code, str(e), related_command_index=index))
            return
        if forgotten := self.runs.forgotten():
            logger.error(
                "%s ended without awaiting %s: their closures never ran; did you forget `await`?",
                self.handler.qualified_name,
                ", ".join(f"run {each!r}" for each in forgotten),
            )
        frames = self._drain()
        frames.append(Ended())
        self._close(UsageError)
        self.sink.emit(tuple(frames))

    def end_by(self, error: BaseException) -> None:
        """The handler raised. The answer may hide behind an exception that user code made of it."""
        if self.closed is not None:
            return
        restate_context_is_replaying.set(False)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, TerminalError):
                self.end(Failure(cause.status_code, cause.message, cause.metadata or {}))
                return
            if isinstance(cause, RetryableError):
                after = cause.retry_after
                delay_ms = None if after is None else int(after.total_seconds() * 1000)
                self._fail_by(cause, cause.status_code, cause.message, delay_ms)
                return
            cause = cause.__cause__
        self._fail_by(error, 500, repr(error), None)

    def _fail_by(self, error: BaseException, code: int, message: str, delay_ms: int | None) -> None:
        trace = "".join(traceback.format_exception(error))
        self.fail(Failed(code, message, trace, next_retry_delay_ms=delay_ms))

    async def over(self) -> None:
        """Release what belongs to the attempt, however it ended."""
        self._close(SdkInternalException)
        if self.finished is not None:
            self.finished.set()
        if self.context.extension_data:
            await self.context.close_extension_data()
        self.host.forget(self)
        self._task = None

    # ---- refusals -------------------------------------------------------------------------------

    def _location(self) -> str:
        """Where user code is right now."""
        return mismatch.locate()

    def _where(self) -> str:
        """Where the handler is defined."""
        code = getattr(self.handler.fn, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else "unknown place"

    def _refuse_closed(self) -> NoReturn:
        if self.closed is not UsageError:
            assert self.closed is not None
            raise self.closed
        raise UsageError(
            f"the context of {self.handler.qualified_name} is used after the handler ended: await"
            " everything in the handler itself, and don't keep its context in background tasks."
        )

    def _refuse_stranger(self, owner: object) -> NoReturn:
        name = self.handler.qualified_name
        if isinstance(owner, str):
            raise UsageError(
                f"the context of {name} is used inside the closure of run {owner!r}: a run may be"
                " repeated or skipped, so it must not use the context; do that before or after it."
            )
        if owner is not self and owner is not None:
            raise UsageError(
                f"the context of {name} is used by another invocation: use the context that your"
                " handler was given, and don't keep contexts in module or instance variables."
            )
        raise UsageError(
            f"the context of {name} is used in another thread than its handler's: return the data"
            " from the thread and use the context in the handler."
        )
