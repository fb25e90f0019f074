"""Runs the handler of a stored invocation again, against its journal and with no effect: `perdure replay`.

Commands match the record as in any replay. The first one past its end is not carried out: it ends the
rehearsal, and is what the handler would do next. Run closures never start. Code outside of ``ctx.run``
does run, as it does in production on every replay.
"""

import asyncio
import sys
from bdb import BdbQuit
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pdb import Pdb
from types import TracebackType
from typing import Any

import msgspec

from perdure.attempt import HandlerAttempt
from perdure.entry_codec import JournalValueCodec
from perdure.failures import representation
from perdure.handler import Handler
from perdure.hosting import Hosted
from perdure.journal import mismatch
from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Barrier,
    Ended,
    Failed,
    Frame,
    Start,
    Suspended,
)
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    Command,
    GetEagerState,
    GetEagerStateKeys,
    Outcome,
    Output,
)
from perdure.journal.errors import JournalMismatch, SdkInternalException
from perdure.journal.replay import Handle, Pending, Replay
from perdure.threads import BlockingAttempt


class How(StrEnum):
    """How a rehearsal ended."""

    MATCHED = "matched"  # to the recorded end
    NEXT = "next"  # the record ends here; ``text`` is the next command
    ENDS = "ends"  # the record ends here, and the handler would, too
    RUNS = "runs"  # it would start the closure of a run
    WAITS = "waits"
    RAISED = "raised"  # not an answer: production would try again
    MISMATCH = "mismatch"
    QUIT = "quit"  # in the debugger


class Rehearsed(msgspec.Struct, frozen=True):
    """``where``: file and line. ``state``: as the handler saw it at the end. ``error``: carries the
    stack of the handler at that point, where it has one."""

    how: How
    text: str
    where: str
    command_index: int
    state: dict[str, bytes]
    error: BaseException | None = None


class EndOfRecord(BaseException):
    """Unwinds the handler; no ``except Exception`` of it may go on."""


async def rehearse(
    start: Start,
    handler: Handler[Any, Any],
    *,
    codec: JournalValueCodec | None = None,
    debugger: Pdb | None = None,
) -> Rehearsed:
    """Replay ``start`` until the record or the handler ends.

    ``debugger`` stops at the handler's first line.
    """
    if debugger is not None:
        replace_fn = _debugged_thread if handler.blocking else _debugged
        handler = replace(handler, fn=replace_fn(handler.fn, debugger))
    hosted = Hosted((), threads=2, codec=codec)
    watcher = _Watcher()
    kind = _RehearsedThread if handler.blocking else _Rehearsed
    attempt = watcher.attempt = kind(start, watcher, handler, hosted)
    try:
        attempt.launch()
        await watcher.over.wait()
    finally:
        hosted.close()
    return watcher.rehearsed()


class _Record(Replay):
    """A replay that ends with the record."""

    __slots__ = ("watcher",)

    watcher: "_Watcher"

    def issue(self, command: Command) -> None:
        self._need_record(command)
        super().issue(command)

    def get_state(self, key: str, name: str = "") -> tuple[int, bytes | Pending | None]:
        self._need_record(GetEagerState(key, self.state.get(key), name))
        return super().get_state(key, name)

    def get_state_keys(self, name: str = "") -> tuple[int, tuple[str, ...] | Pending]:
        self._need_record(GetEagerStateKeys(tuple(sorted(self.state)), name))
        return super().get_state_keys(name)

    def _need_record(self, command: Command) -> None:
        if not self.replaying:
            self.watcher.stop(How.NEXT, mismatch.describe(command), mismatch.locate())
            raise EndOfRecord


class _Watcher:
    """The sink of a rehearsal: the first thing with an effect ends it."""

    attempt: "_Rehearsed"
    replay: Replay

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._how: How | None = None
        self._text = self._where = ""
        self._error: BaseException | None = None

    def stop(self, how: How, text: str, where: str) -> None:
        if self._how is None:
            self._how, self._text, self._where = how, text, where

    def caught(self, error: BaseException) -> None:
        """What unwound the handler."""
        if self._error is None:
            self._error = error
        if isinstance(error, BdbQuit):
            self._how = How.QUIT

    def rehearsed(self) -> Rehearsed:
        assert self._how is not None, "a rehearsal ends with a reason"
        replay = self.replay
        return Rehearsed(
            self._how, self._text, self._where, replay.command_index, replay.state, self._error
        )

    # ---- the sink

    def emit(self, frames: tuple[Frame, ...]) -> None:
        for frame in frames:
            match frame:
                case Barrier(completion_id=completion_id):
                    self._wait(How.RUNS, {completion_id})
                case AwaitingOn(awaiting=tree) | Suspended(awaiting=tree):
                    self._wait(How.WAITS, _handles(tree))
                case Failed(code=code, message=message):
                    is_mismatch = code == JournalMismatch.code
                    self.stop(How.MISMATCH if is_mismatch else How.RAISED, message, "")
                case Ended():
                    self.stop(How.MATCHED, "", "")
                case _:
                    pass

    def _wait(self, how: How, missing: set[Handle]) -> None:
        """The handler cannot go on: unwind it here, or from outside where it does not run now."""
        self.stop(how, self.replay.describe_awaited(missing), self.attempt.place())
        if asyncio.current_task() is None:
            self.attempt.abort()
        else:
            raise EndOfRecord

    def now_ms(self) -> int:
        return 0  # moments never leave, and replay compares none

    def ready(self, go_on: Callable[[], None]) -> bool:
        return True


class _Rehearsed(HandlerAttempt):
    """Ends where the record does, and keeps what it ended by."""

    __slots__ = ()

    sink: _Watcher

    def launch(self) -> None:
        record = _Record(self.start)
        record.watcher = self.sink
        self.replay = self.sink.replay = record
        super().launch()

    def place(self) -> str:
        """Where the handler is right now."""
        return self._location()

    def end(self, outcome: Outcome) -> None:
        if self.closed is None and not self.replay.replaying:
            text = mismatch.describe(Output(outcome), ["result"])
            self.sink.stop(How.ENDS, text, self._where())
            self._close(SdkInternalException)
        else:
            super().end(outcome)

    def end_by(self, error: BaseException) -> None:
        self.sink.caught(error)
        if isinstance(error, EndOfRecord | BdbQuit):
            self._close(SdkInternalException)
        else:
            super().end_by(error)

    def _fail_by(self, error: BaseException, code: int, message: str, delay_ms: int | None) -> None:
        self.sink.stop(How.RAISED, representation(error), mismatch.locate_raised(error))
        super()._fail_by(error, code, message, delay_ms)

    async def over(self) -> None:
        try:
            await super().over()
        finally:
            self.sink.over.set()


class _RehearsedThread(_Rehearsed, BlockingAttempt):
    __slots__ = ()


def _handles(tree: Awaiting) -> set[Handle]:
    """What an awaited tree names, but for the cancel signal, which every await has."""
    found: set[Handle] = set(tree.completions)
    for signal in tree.signals:
        if signal != CANCEL_SIGNAL:
            found.add(signal if isinstance(signal, str) else -signal)
    return found.union(*map(_handles, tree.nested))


def stack_of(error: BaseException) -> TracebackType | None:
    """From the handler to the innermost frame of its author's code: what a debugger should show."""
    frames: list[TracebackType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    while frames and not mismatch.is_foreign(frames[-1].tb_frame):
        frames.pop()
    shown: TracebackType | None = None
    for each in reversed(frames):
        if shown is None or mismatch.is_foreign(each.tb_frame):
            shown = TracebackType(shown, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return shown


def _debugged(fn: Callable[..., Any], debugger: Pdb) -> Callable[..., Any]:
    async def entered(*arguments: Any) -> Any:
        debugger.reset()
        sys.settrace(debugger.trace_dispatch)  # stops at the next frame that begins: the handler's
        try:
            return await fn(*arguments)
        finally:
            sys.settrace(None)

    return entered


def _debugged_thread(fn: Callable[..., Any], debugger: Pdb) -> Callable[..., Any]:
    return lambda *arguments: debugger.runcall(fn, *arguments)
