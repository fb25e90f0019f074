"""A runtime for attempts, in memory: journals, answers and replays, one invocation at a time.

Follows the service protocol's rules for one invocation: completions come right after their command,
notifications after they were journaled, timers fire by a virtual clock. Callees are functions.
"""

import asyncio
from collections.abc import Callable
from operator import methodcaller
from typing import Any

from perdure.hosting import Hosted
from perdure.journal import ids
from perdure.journal.attempt import (
    Attempt,
    AwaitingOn,
    Barrier,
    Ended,
    Failed,
    Frame,
    ProposeRun,
    Start,
    Suspended,
)
from perdure.journal.awaiting import satisfied
from perdure.journal.entries import (
    AttachInvocation,
    Call,
    ClearAllState,
    ClearState,
    Command,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Headers,
    Input,
    InvocationId,
    Notification,
    OneWayCall,
    Outcome,
    Output,
    PeekPromise,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
    is_command,
    plain,
)
from perdure.journal.schema import Handler, HandlerType, ServiceType

RAW_ID = bytes(range(1, 25))
INVOCATION = ids.format_invocation_id(RAW_ID)
CALLEE = ids.format_invocation_id(bytes(range(2, 26)))
_LIMIT_S = 5
_QUIET_TURNS = 5  # of the loop without a burst: then the handler waits for time

Callee = Callable[[bytes], Outcome | None]  # None: never answers


class Lab:
    """One invocation. ``bursts``: what the handler's side emitted, over all attempts."""

    def __init__(
        self,
        services: list[Any],
        target: str,
        argument: bytes = b"",
        *,
        key: str = "k",
        state: dict[str, bytes] | None = None,
        lazy: bool = False,
        always_suspend: bool = False,
        callees: dict[str, Callee] | None = None,
        promises: dict[str, Outcome] | None = None,
        headers: Headers = (),
        hosted: Hosted | None = None,
        entries: tuple[Entry, ...] = (),
    ) -> None:
        self.hosted = hosted or Hosted(services)
        service, _, name = target.partition("/")
        self.handler = _schema(services, service, name)
        self.key = key if self.handler.keyed else ""
        self.entries: list[Entry] = list(entries) or [Input(headers, argument)]
        self.state = dict(state or {})
        self.lazy = lazy
        self.always_suspend = always_suspend
        self.callees = callees or {}
        self.promises = dict(promises or {})
        self.bursts: list[tuple[Frame, ...]] = []
        self.failures: list[Failed] = []
        self.suspensions: list[Suspended] = []
        self.attempt_count = 0
        self.retry_count = 0
        self.clock_ms = 1_000_000
        self.attempt: Attempt | None = None
        self.timers: list[tuple[int, int]] = []
        self.awaiting: AwaitingOn | None = None
        self.auto_fire = True
        self.retries = True
        self.hold_barriers = False
        self.barriers: list[int] = []
        self._suspended: Suspended | None = None
        self._told = 0  # entries that the running attempt was given or wrote
        self._taken: set[int] = set()  # indexes of results that it took by itself
        self._given_commands = 0
        self.over: asyncio.Future[None] | None = None

    # ---- the sink -------------------------------------------------------------------------------

    def ready(self, go_on: Callable[[], None]) -> bool:
        return True

    def now_ms(self) -> int:
        return self.clock_ms

    def emit(self, frames: tuple[Frame, ...]) -> None:
        self.bursts.append(frames)
        current = self.attempt_count
        asyncio.get_running_loop().call_soon(self._commit, frames, current)

    def _commit(self, frames: tuple[Frame, ...], number: int) -> None:
        if number != self.attempt_count:
            return
        for frame in frames:
            self._take(frame)
            if number != self.attempt_count:
                return
        self._deliver()

    def _take(self, frame: Frame) -> None:
        match frame:
            case ProposeRun():
                told = sum(isinstance(entry, Notification) for entry in self.entries)
                if frame.given_count is not None:
                    self._taken.add(len(self.entries))
                self.entries.append(Completion(frame.completion_id, frame.result))
                if frame.given_count not in (None, told):
                    self.open()
            case Barrier():
                self.barriers.append(frame.completion_id)
                if not self.hold_barriers:
                    self._later(methodcaller("pass_barrier", frame.completion_id))
            case AwaitingOn():
                self.awaiting = frame
                if self.always_suspend:
                    self._later(lambda a: a.close_input())
                elif self.auto_fire:
                    self._fire_while_quiet(_QUIET_TURNS, len(self.bursts))
            case Ended():
                self._finish()
            case Suspended():
                self._suspend(frame)
            case Failed():
                self.failures.append(frame)
                if not self.retries or frame.code == 570:
                    return self._finish()
                self.retry_count += 1
                self.clock_ms += frame.next_retry_delay_ms or 0
                self.open()
            case _:
                self._command(plain(frame))

    def _later(self, act: Callable[[Attempt], None]) -> None:
        number = self.attempt_count

        def still() -> None:
            if number == self.attempt_count and self.attempt is not None:
                act(self.attempt)

        asyncio.get_running_loop().call_soon(still)

    def _command(self, command: Command) -> None:
        self.entries.append(command)
        self.retry_count = 0
        match command:
            case SetState():
                self.state[command.key] = command.value
            case ClearState():
                self.state.pop(command.key, None)
            case ClearAllState():
                self.state.clear()
            case GetLazyState():
                value = self.state.get(command.key)
                self._complete(command.completion_id, Void() if value is None else Value(value))
            case GetLazyStateKeys():
                self._complete(command.completion_id, StateKeys(tuple(sorted(self.state))))
            case OneWayCall():
                self._complete(command.id_completion_id, InvocationId(CALLEE))
            case Call():
                self._complete(command.id_completion_id, InvocationId(CALLEE))
            case PeekPromise():
                self._complete(command.completion_id, self.promises.get(command.key) or Void())
            case CompletePromise():
                self._complete_promise(command)
            case _:
                pass
        self._answer(command)

    def _answer(self, command: Entry) -> None:
        """What follows a command later than in its own commit."""
        match command:
            case Sleep():
                self.timers.append((command.wake_up_at_ms, command.completion_id))
            case Call():
                callee = self.callees.get(f"{command.service}/{command.handler}")
                result = callee(command.parameter) if callee else None
                if result is not None:
                    self._complete(command.completion_id, result)
            case GetPromise():
                if (promised := self.promises.get(command.key)) is not None:
                    self._complete(command.completion_id, promised)
            case AttachInvocation():
                self._complete(command.completion_id, Value(b'"attached"'))
            case _:
                pass

    def _complete_promise(self, command: CompletePromise) -> None:
        if command.key in self.promises:
            failure = Failure(409, "promise was already completed")
            return self._complete(command.completion_id, failure)
        self.promises[command.key] = command.result
        self._complete(command.completion_id, Void())

    def _complete(self, completion_id: int, result: Any) -> None:
        self.entries.append(Completion(completion_id, result))

    # ---- time and messages from outside ---------------------------------------------------------

    def fire_next(self) -> None:
        """The next timer is due."""
        if self.timers:
            self.timers.sort()
            at_ms, completion_id = self.timers.pop(0)
            self.clock_ms = max(self.clock_ms, at_ms)
            self.notify(Completion(completion_id, Void()))

    def _fire_while_quiet(self, turns: int, bursts: int) -> None:
        """Time passes while the handler waits, one timer after the other."""
        if self.attempt is None or len(self.bursts) != bursts:
            return
        if turns == 0:
            if not self.timers:
                return
            self.fire_next()
            turns = _QUIET_TURNS
        asyncio.get_running_loop().call_soon(self._fire_while_quiet, turns - 1, bursts)

    def cancel(self) -> None:
        self.notify(Signal(1, Void()))

    def notify(self, notification: Notification) -> None:
        """Journal a notification, then deliver it or see whether it wakes the suspended."""
        self.entries.append(notification)
        if self._suspended is not None:
            self._suspend(self._suspended)
        else:
            self._deliver()

    def _deliver(self) -> None:
        number, attempt = self.attempt_count, self.attempt
        if attempt is None or self._suspended is not None:
            return
        news = [
            (index, entry)
            for index, entry in enumerate(self.entries)
            if index >= self._told and isinstance(entry, Notification) and index not in self._taken
        ]
        self._told = len(self.entries)
        if news and number == self.attempt_count:
            attempt.deliver(tuple(news))

    # ---- attempts -------------------------------------------------------------------------------

    def open(self) -> None:
        """The next attempt, with everything that is journaled."""
        self.attempt_count += 1
        self._suspended = None
        self._told = len(self.entries)
        keyed = self.handler.keyed
        start = Start(
            id=RAW_ID,
            attempt=self.attempt_count,
            handler=self.handler,
            key=self.key,
            entries=tuple(self.entries),
            state=dict(self.state) if keyed and not self.lazy else {},
            state_complete=keyed and not self.lazy,
            random_seed=42,
            retry_count=self.retry_count,
        )
        self.attempt = self.hosted.start(start, self)

    def _suspend(self, suspended: Suspended) -> None:
        if suspended is not self._suspended:
            self.suspensions.append(suspended)
        self._suspended = suspended
        unseen = self.entries[suspended.seen_count :]
        if satisfied(suspended.awaiting, [e for e in unseen if isinstance(e, Notification)]):
            self.open()
        elif self.auto_fire and self.timers:
            asyncio.get_running_loop().call_soon(self.fire_next)

    def _finish(self) -> None:
        self._suspended = None
        self.attempt = None
        if self.over is not None and not self.over.done():
            self.over.set_result(None)

    def redo_pending(self) -> None:
        """Answer recorded commands that have no completion, as after a crash."""
        done = {e.completion_id for e in self.entries if type(e) is Completion}
        for entry in list(self.entries):
            if is_command(entry) and getattr(entry, "completion_id", None) not in done:
                self._answer(entry)

    async def run(self) -> Outcome:
        """From the journal as it is to the end; the last output."""
        self.start()
        return await self.finish()

    def start(self) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self.redo_pending()
        self.open()

    async def finish(self) -> Outcome:
        assert self.over is not None
        try:
            await asyncio.wait_for(self.over, _LIMIT_S)
        finally:
            self.hosted.close()
        if self.failures and not isinstance(self.commands[-1], Output):
            raise AssertionError(self.failures[-1].message + self.failures[-1].stacktrace)
        return self.result

    @property
    def commands(self) -> list[Entry]:
        return [each for each in self.entries if is_command(each)]

    @property
    def result(self) -> Outcome:
        last = self.commands[-1]
        assert isinstance(last, Output), last
        return last.result


async def settle(turns: int = 20) -> None:
    """Let everything that is ready happen."""
    for _ in range(turns):
        await asyncio.sleep(0)


def _schema(services: list[Any], service: str, name: str) -> Handler:
    for each in services:
        if each.name == service and name in each.handlers:
            kind = each.service_tag.kind
            handler = each.handlers[name]
            types = {"exclusive": HandlerType.EXCLUSIVE, "shared": HandlerType.SHARED}
            return Handler(
                service,
                name,
                {**types, "workflow": HandlerType.WORKFLOW}.get(
                    handler.kind or "", HandlerType.SERVICE
                ),
                {
                    "object": ServiceType.VIRTUAL_OBJECT,
                    "workflow": ServiceType.WORKFLOW,
                    "service": ServiceType.SERVICE,
                }[kind],
            )
    return Handler(service, name, HandlerType.SERVICE, ServiceType.SERVICE)
