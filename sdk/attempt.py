"""One attempt at an ``async def`` handler: calls it in a task of its own and says how it ended.

How the handler waits and what is emitted when: `attempt_core.py`. Which exception means what: service
protocol 5.9; the official SDK's rule that a terminal error also counts as somebody's cause.
"""

from collections.abc import Awaitable
from contextlib import AsyncExitStack
from types import CoroutineType

from perdure.attempt_core import AttemptCore
from perdure.current import operating_for
from perdure.failures import failed, failure_of, representation
from perdure.handler import decode_input, encode_output
from perdure.journal.attempt import (
    Ended,
    Failed,
)
from perdure.journal.entries import Outcome, Output, Value
from perdure.journal.errors import (
    JournalMismatch,
    RetryableError,
    SdkInternalException,
    TerminalError,
    UsageError,
)
from perdure.logcontext import logger
from perdure.options import ContextManagers
from perdure.replaying import restate_context_is_replaying


class HandlerAttempt(AttemptCore):
    """Implements ``journal.attempt.Attempt`` for an ``async def`` handler."""

    __slots__ = ()

    def launch(self) -> None:
        """Begin; the handler's first step happens in a later turn of the loop."""
        self._task = self.loop.create_task(self._drive())

    async def _drive(self) -> None:
        self.enter()
        try:
            if self.handler.context_managers:
                self.end(Value(await self._call_managed(self.handler.context_managers)))
            else:
                self.end(Value(await self._call_function()))
        except GeneratorExit:
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
        if self.start.trace and self.host.on_enter is not None:
            self.host.on_enter(self.start.trace)
        if self.replay.replaying:
            restate_context_is_replaying.set(True)

    async def _call_managed(self, managers: ContextManagers) -> bytes:
        async with AsyncExitStack() as stack:
            for manager in managers:
                await stack.enter_async_context(manager())
            return await self._call_function()
        raise RuntimeError("a context manager of the handler swallowed its exception")

    async def _call_function(self) -> bytes:
        handler = self.handler
        if handler.arity == 1:
            running = handler.fn(self.context)
        else:
            running = handler.fn(self.context, decode_input(handler, await self.input()))
        if type(running) is not CoroutineType and not isinstance(running, Awaitable):
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

    def end(self, outcome: Outcome) -> None:
        """The handler has an answer."""
        if self.closed is not None:
            return
        replay = self.replay
        if type(outcome) is Value and self.runs.issued and (forgotten := self.runs.forgotten()):
            outcome = failure_of(_forgotten(forgotten))
        where = ""
        if replay.recorded_count > 1:
            restate_context_is_replaying.set(False)
            where = self._where()
        try:
            replay.finish(Output(outcome), where)
        except JournalMismatch as e:
            index = self.replay.command_index
            self.fail(Failed(e.code, str(e), related_command_index=index))
            return
        if self.unawaited and type(outcome) is Value:
            logger.warning(
                "%s ended without awaiting %s: did you forget `await`?",
                self.handler.qualified_name,
                ", ".join(dict.fromkeys(self.unawaited.values())),
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
                self.end(failure_of(cause))
                return
            if isinstance(cause, RetryableError):
                after = cause.retry_after
                delay_ms = None if after is None else int(after.total_seconds() * 1000)
                self._fail_by(cause, cause.status_code, cause.message, delay_ms)
                return
            cause = cause.__cause__
        self._fail_by(error, 500, representation(error), None)

    def _fail_by(self, error: BaseException, code: int, message: str, delay_ms: int | None) -> None:
        self.fail(failed(code, error, message, delay_ms))

    async def over(self) -> None:
        """Release what belongs to the attempt, however it ended."""
        self._close(SdkInternalException)
        if self.finished is not None:
            self.finished.set()
        if self.context.extension_data:
            await self.context.close_extension_data()
        self.host.forget(self)
        self._release()

    def _release(self) -> None:
        """Cut the cycles, so that nothing of the attempt waits for the garbage collector.

        Whatever still holds the context or a future is refused before it gets to these.
        """
        self._task = None
        del self.context, self.runs

    def _where(self) -> str:
        """Where the handler is defined."""
        code = getattr(self.handler.fn, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else "unknown place"


def _forgotten(names: list[str]) -> UsageError:
    shown = ", ".join(f"run {each!r}" for each in names)
    closures = "its closure" if len(names) == 1 else "their closures"
    return UsageError(
        f"the handler ended without awaiting {shown}: {closures} never ran; did you forget `await`?"
    )
