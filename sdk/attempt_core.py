"""The middle of an attempt: takes what the runtime says, lets the handler wait, and emits frames.

The pure ``Replay`` decides; here is when to emit, when to wake, when to suspend. Everything that user
code issues before it first waits leaves in one burst. How a handler is run and ends: `attempt.py`.
Rules: service protocol 5.7, 5.8, 5.11, 6; `perdure.journal.attempt` for the port.
"""

import asyncio
from collections.abc import Callable, Generator, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.current import InsideRun, operating_for
from perdure.handler import Handler
from perdure.invocation import InvocationContext
from perdure.journal import mismatch
from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Failed,
    Frame,
    ProposeRun,
    Sink,
    Start,
    Suspended,
)
from perdure.journal.entries import (
    Command,
    Completion,
    Notification,
    Outcome,
    Result,
)
from perdure.journal.errors import (
    JournalMismatch,
    SdkInternalException,
    SuspendedException,
    TerminalError,
    UsageError,
)
from perdure.journal.replay import Handle, Progress, Replay, awaiting, awaiting_any
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


class AttemptCore:
    """Implements ``journal.attempt.Attempt``; whose handler runs how is a subclass's matter."""

    __slots__ = (
        "__weakref__",
        "_announced",
        "_closing",
        "_entered",
        "_flush_planned",
        "_parked",
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
        "unawaited",
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
        self._parked = False
        self._announced: set[Handle] | None = None
        self._proposed: set[Handle] = set()
        self.unawaited: dict[Handle, str] = {}  # sleeps and calls nobody waited for
        self._waiters: list[_Waiter] = []
        self._task: asyncio.Task[None] | None = None

    def _make_context(self) -> InvocationContext:
        return InvocationContext(self)

    # ---- what the runtime says ------------------------------------------------------------------

    def deliver(self, entries: tuple[tuple[int, Notification], ...]) -> None:
        """Wakes the handler only when its await is over, so most deliveries cost no task switch."""
        if self.closed is not None:
            return
        replay = self.replay
        for index, notification in entries:
            replay.deliver(index, notification)
            if self._proposed and type(notification) is Completion:
                self._proposed.discard(notification.completion_id)
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
            self.host.forget(self)  # its task never gets to say so itself

    def suspend_if_idle(self) -> bool:
        """Suspend now if every await is blocked and no run executes."""
        waiters = self._waiters
        if self.closed is not None or not waiters or self.runs.executing:
            return False
        if self._is_waking:
            self.loop.call_soon(self._suspend_if_due)  # what wakes up may be over then
            return False
        if self.replay.replaying:
            self._stuck_tasks(waiters[0].missing)
            return False
        self._suspend(self._drain())
        return True

    def _suspend_if_due(self) -> None:
        if self._shall_suspend:
            self.suspend_if_idle()

    @property
    def _shall_suspend(self) -> bool:
        """Whether a handler that is blocked has to leave."""
        return self._closing or self._under_pressure()

    @property
    def _is_waking(self) -> bool:
        """Whether an await is over, and its task has not gone on yet."""
        return any(each.woken.done() for each in self._waiters)

    # ---- waiting --------------------------------------------------------------------------------

    def take(self, handle: Handle) -> Result:
        """The result for ``handle``, which must be there."""
        if self.runs.issued:
            self.runs.issued.pop(handle, None)  # type: ignore[arg-type]
        if self.unawaited:
            self.unawaited.pop(handle, None)
        return self.replay.take(handle)

    def mark_awaited(self, handles: Iterable[Handle]) -> None:
        """The handler waits for these, if only among others."""
        for handle in handles:
            self.runs.mark_awaited(handle)
            self.unawaited.pop(handle, None)

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
                self.mark_awaited(missing)  # a run's closure need not run any more
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
                if not self._in_own_task():
                    self._parked = True  # another task of the handler may go on with the record
                    return
                self.guard(self.replay.refuse_to_block, missing, self._location())
            if self._shall_suspend:
                if not self._is_waking:
                    self._suspend(frames)
                    raise SuspendedException
                self.loop.call_soon(self._suspend_if_due)
            if not missing <= self._proposed and missing != self._announced:
                self._announced = set(missing)
                frames.append(AwaitingOn(self._awaited()))
        if frames:
            self.sink.emit(tuple(frames))

    def _speak_for_parked(self) -> None:
        """What tasks that blocked during the replay could not say then."""
        waiters = self._waiters
        if self.closed is not None:
            return
        if self._is_waking:
            self.loop.call_soon(self._speak_for_parked)
            return
        frames = self._drain()
        for each in waiters:
            frames.extend(self.runs.barriers(each.missing))
        if waiters and not self.runs.executing:
            if self._closing:
                return self._suspend(frames)
            frames.append(AwaitingOn(self._awaited()))
        if frames:
            self.sink.emit(tuple(frames))

    def _in_own_task(self) -> bool:
        """Whether the handler itself waits here, and not a task that it made."""
        return asyncio.current_task() is self._task

    def _stuck_tasks(self, missing: set[Handle]) -> None:
        """Every task of the handler waits, and none went on as recorded: a mismatch after all."""
        try:
            self.replay.refuse_to_block(missing, "in a task of the handler")
        except JournalMismatch as e:
            index = self.replay.command_index
            self.fail(Failed(e.code, str(e), related_command_index=index))

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

    def issue(self, command: Command) -> None:
        """Match or append one command; a mismatch ends the attempt.

        Unlike writes of state, these commands have effects elsewhere: they leave in the next turn of
        the loop even if the handler waits for something that the attempt does not know of.
        """
        try:
            self.replay.issue(command)
        except JournalMismatch as e:
            self.mismatched(e)
        self._plan_flush()
        if self.replay.recorded_count > 1:
            self.went_live()

    def encode(self, content: bytes) -> bytes:
        return content if self.codec is None else bytes(self.codec.encode(content))

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
            if self._parked and not self.replay.replaying:
                self._parked = False
                self.loop.call_soon(self._speak_for_parked)

    def propose(self, completion_id: int, result: Outcome) -> None:
        """The result of a run. Its command is out already, so nothing else has to be flushed."""
        if self.closed is not None:
            return
        if self._waits_only_for(completion_id):
            self.replay.take_proposed(completion_id, result)
            self.deliver(())
            self._plan_flush()  # behind the handler's next turn
            return
        self._proposed.add(completion_id)
        proposal = ProposeRun(completion_id, result)
        if self._waiters and not self.runs.executing and self._shall_suspend:
            if not self._is_waking:
                return self._suspend([*self._drain(), proposal])
            self.loop.call_soon(self._suspend_if_due)
        frames: list[Frame] = [proposal]
        if not self.runs.executing and len(self._waiters) == 1:
            waiter = self._waiters[0]
            if not waiter.woken.done() and not waiter.missing <= self._proposed:
                self._announced = set(waiter.missing)
                frames.append(AwaitingOn(awaiting(waiter.missing, waiter.all_of)))
        self.sink.emit(tuple(frames))

    def _waits_only_for(self, completion_id: int) -> bool:
        """Whether the handler does nothing but wait for this run, and nothing it proposed is still on
        its way: then it may go on ahead of the runtime. (A plain function's thread may not: what it
        does next would leave too late.)"""
        if self._closing or self.runs.executing or self._proposed or len(self._waiters) != 1:
            return False
        if self.start.protocol_version:
            return False  # a server elsewhere gives results back in its own order
        missing = self._waiters[0].missing
        return len(missing) == 1 and completion_id in missing and self.thread == get_ident()

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
        if self.closed is not None:
            return
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

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """The handler waits for something foreign: commands must not linger."""
        self._flush_planned = False
        if self.replay.outgoing and self.closed is None:
            self.sink.emit(tuple(self._drain()))

    # ---- refusals -------------------------------------------------------------------------------

    def _location(self) -> str:
        """Where user code is right now."""
        return mismatch.locate()

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
        if isinstance(owner, InsideRun):
            raise UsageError(
                f"the context of {name} is used inside the closure of run {owner.name!r}: a run may be"
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
