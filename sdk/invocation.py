"""The context of a handler: every operation that is not a call, as a journal command.

Each method checks its arguments, issues one command at once, and returns a future where there is a
result. One class serves all kinds of handlers; what a kind may not do is refused with the reason.
"""

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from perdure.arguments import (
    millis,
    need_invocation_id,
    need_text,
    pick_serde,
    serde_of_value,
)
from perdure.callers import Caller, ScopedInvocation
from perdure.context import (
    Request,
    RunOptions,
    WorkflowContext,
    WorkflowSharedContext,
)
from perdure.futures import DurableFuture, SleepFuture
from perdure.handles import AttemptFinishedEvent
from perdure.journal import ids
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    AttachInvocation,
    ById,
    CompleteAwakeable,
    Failure,
    Outcome,
    Result,
    Run,
    SendSignal,
    Sleep,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.errors import BadId, JournalMismatch, UsageError
from perdure.journal.replay import PENDING
from perdure.journal.schema import ServiceType
from perdure.logcontext import logger
from perdure.promises import Promise
from perdure.runs import (
    BY_INVOCATION,
    PendingRun,
    RunPolicy,
    check_action,
    closure,
    policy_of,
    policy_of_options,
    serde_for,
)
from perdure.serde import DEFAULT, Serde, write_value

if TYPE_CHECKING:
    from perdure.attempt_core import AttemptCore

_VOID = Void()
_NO_OPTIONS: RunOptions[Any] = RunOptions()
_FLOAT = DEFAULT.with_maybe_type(float)


class AttemptFinished(AttemptFinishedEvent):
    """Set once this attempt is over."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()


class InvocationContext(Caller, WorkflowContext, WorkflowSharedContext):
    """What a handler may do, carried out by its attempt."""

    def __init__(self, attempt: "AttemptCore") -> None:
        self._attempt = attempt
        self._random: Random | None = None
        self.extension_data: dict[str, Any] = {}

    # ---- the request ----------------------------------------------------------------------------

    def request(self) -> Request:
        attempt = self._attempt
        start = attempt.start
        received = attempt.replay.input
        if attempt.finished is None:
            attempt.finished = asyncio.Event()
        attempt_headers = getattr(attempt.sink, "attempt_headers", None)  # of a remote attempt
        return Request(
            id=start.invocation_id,
            headers=dict(received.headers),
            attempt_headers=attempt_headers or {"x-restate-invocation-id": start.invocation_id},
            body=received.value,
            attempt_finished_event=AttemptFinished(attempt.finished),
            scope=start.scope,
            limit_key=start.limit_key,
            idempotency_key=start.idempotency_key,
        )

    def key(self) -> str:
        return self._attempt.start.key  # of a plain service: empty

    def set_extension_data(self, key: str, value: Any) -> None:
        """As in ``perdure.server_context``."""
        self.extension_data[key] = value

    def get_extension_data(self, key: str) -> Any:
        return self.extension_data.get(key)

    def random(self) -> Random:
        if self._random is None:
            self._random = Random(self._attempt.start.random_seed)
        return self._random

    def uuid(self) -> UUID:
        return UUID(int=self.random().getrandbits(128), version=4)

    def scope(self, scope: str) -> ScopedInvocation:
        return ScopedInvocation(self._attempt, scope)

    # ---- state ----------------------------------------------------------------------------------

    def get(
        self,
        name: str,
        serde: Serde[Any] = DEFAULT,
        type_hint: Any = None,
        entry_name: str | None = None,
    ) -> DurableFuture[Any]:
        attempt = self._attempt
        attempt.check()
        if not attempt.keyed or type(name) is not str:
            self._need_key("get", name)
        replay = attempt.replay
        try:
            handle, value = replay.get_state(name, entry_name or "")
        except JournalMismatch as e:
            attempt.mismatched(e)
        if replay.recorded_count > 1:
            attempt.went_live()
        if type_hint is not None or serde is not DEFAULT:
            serde = pick_serde(serde, type_hint)
        result: Result | None = None
        if value is None:
            result = _VOID
        elif value is not PENDING:
            result = Value(value)
        return DurableFuture(attempt, handle, serde, "state", name, result)

    def state_keys(self, entry_name: str | None = None) -> DurableFuture[list[str]]:
        attempt = self._attempt
        attempt.check()
        self._need_key("state_keys")
        try:
            handle, keys = attempt.replay.get_state_keys(entry_name or "")
        except JournalMismatch as e:
            attempt.mismatched(e)
        attempt.went_live()
        result = None if keys is PENDING else StateKeys(keys)
        return DurableFuture(attempt, handle, None, "state keys", "", result)

    def set(
        self,
        name: str,
        value: Any,
        serde: Serde[Any] = DEFAULT,
        entry_name: str | None = None,
    ) -> None:
        attempt = self._attempt
        attempt.check()
        if not attempt.may_write or type(name) is not str:
            self._need_writable("set", name)
        if type(value) is bytes:
            serde = pick_serde(serde, bytes)
        content = write_value(serde, value, "state", name)
        if attempt.codec is not None:
            content = attempt.encode(content)
        replay = attempt.replay
        try:
            replay.set_state(name, content, entry_name or "")
        except JournalMismatch as e:
            attempt.mismatched(e)
        if replay.recorded_count > 1:
            attempt.went_live()

    def clear(self, name: str, entry_name: str | None = None) -> None:
        self._attempt.check()
        self._need_writable("clear", name)
        self._attempt.guard(self._attempt.replay.clear_state, name, entry_name or "")
        self._attempt.went_live()

    def clear_all(self, entry_name: str | None = None) -> None:
        self._attempt.check()
        self._need_writable("clear_all")
        self._attempt.guard(self._attempt.replay.clear_all_state, entry_name or "")
        self._attempt.went_live()

    # ---- runs and timers ------------------------------------------------------------------------

    def run(
        self,
        name: str,
        action: Callable[..., Any],
        serde: Serde[Any] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: Any = None,
        args: tuple[Any, ...] | None = None,
    ) -> DurableFuture[Any]:
        check_action(name, action)
        policy = policy_of(max_attempts, max_retry_duration)
        run_serde = serde_for(action, serde, type_hint)
        return self._run(name, closure(action, args or (), {}), run_serde, policy)

    def run_typed(
        self,
        name: str,
        action: Callable[..., Any],
        options: RunOptions[Any] = _NO_OPTIONS,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> DurableFuture[Any]:
        check_action(name, action)
        if not isinstance(options, RunOptions):
            raise UsageError(
                f"run {name!r}: the third argument of run_typed is a RunOptions, not"
                f" {type(options).__qualname__}; arguments of the closure come after it"
            )
        policy = BY_INVOCATION if options is _NO_OPTIONS else policy_of_options(options)
        run_serde = serde_for(action, options.serde, options.type_hint)
        return self._run(name, closure(action, args, kwargs), run_serde, policy)

    def time(self) -> DurableFuture[float]:
        sink = self._attempt.sink

        async def now() -> float:
            return sink.now_ms() / 1000

        return self._run("timestamp", now, _FLOAT, policy_of(None, None))

    def _run(
        self, name: str, action: Callable[[], Any], serde: Serde[Any], policy: RunPolicy
    ) -> DurableFuture[Any]:
        attempt = self._attempt
        attempt.check()
        replay = attempt.replay
        handle = replay.new_completion_id()
        pending = PendingRun(name, action, serde, policy, replay.command_index)
        attempt.issue(Run(handle, name))
        attempt.runs.issued[handle] = pending
        return DurableFuture(attempt, handle, serde, "run", name)

    def sleep(self, delta: timedelta, name: str | None = None) -> SleepFuture:
        attempt = self._attempt
        attempt.check()
        wake_up_at_ms = attempt.sink.now_ms() + millis(delta, "the time to sleep")
        handle = attempt.replay.new_completion_id()
        attempt.issue(Sleep(handle, wake_up_at_ms, name or ""))
        attempt.unawaited[handle] = f"sleep {name!r}" if name else "sleep"
        return SleepFuture(attempt, handle, None, "sleep", name or "")

    # ---- signals, awakeables, other invocations -------------------------------------------------

    def signal(
        self, name: str, serde: Serde[Any] = DEFAULT, type_hint: Any = None
    ) -> DurableFuture[Any]:
        self._attempt.check()
        need_text(name, "the name of a signal")
        return DurableFuture(self._attempt, name, pick_serde(serde, type_hint), "signal", name)

    def resolve_signal(
        self, invocation_id: str, name: str, value: Any, serde: Serde[Any] = DEFAULT
    ) -> None:
        self._attempt.check()
        content = write_value(serde_of_value(serde, value), value, "signal", name)
        self._send_signal(invocation_id, name, Value(self._attempt.encode(content)))

    def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = 500
    ) -> None:
        self._attempt.check()
        self._send_signal(invocation_id, name, Failure(failure_code, failure_message))

    def _send_signal(self, invocation_id: str, signal: int | str, result: Any) -> None:
        need_invocation_id(invocation_id)
        if isinstance(signal, str):
            need_text(signal, "the name of a signal")
        self._attempt.issue(SendSignal(invocation_id, signal, result))

    def awakeable(
        self, serde: Serde[Any] = DEFAULT, type_hint: Any = None
    ) -> tuple[str, DurableFuture[Any]]:
        attempt = self._attempt
        attempt.check()
        index = attempt.replay.new_awakeable()
        raw = attempt.start.id
        awakeable_id = ids.format_awakeable_id(raw, index)
        future: DurableFuture[Any] = DurableFuture(
            attempt, -index, pick_serde(serde, type_hint), "awakeable", awakeable_id
        )
        return awakeable_id, future

    def resolve_awakeable(self, name: str, value: Any, serde: Serde[Any] = DEFAULT) -> None:
        self._attempt.check()
        content = write_value(serde_of_value(serde, value), value, "awakeable", str(name))
        self._complete_awakeable(name, Value(self._attempt.encode(content)))

    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        self._attempt.check()
        self._complete_awakeable(name, Failure(failure_code, failure_message))

    def _complete_awakeable(self, name: str, outcome: Outcome) -> None:
        need_text(name, "the id of an awakeable")
        try:
            ids.parse_awakeable_id(name)
        except BadId as e:
            raise UsageError(f"{name!r} is not the id of an awakeable: {e}") from e
        self._attempt.issue(CompleteAwakeable(name, outcome))

    def cancel_invocation(self, invocation_id: str) -> None:
        self._attempt.check()
        self._send_signal(invocation_id, CANCEL_SIGNAL, _VOID)

    def attach_invocation(
        self, invocation_id: str, serde: Serde[Any] = DEFAULT, type_hint: Any = None
    ) -> DurableFuture[Any]:
        attempt = self._attempt
        attempt.check()
        need_invocation_id(invocation_id)
        handle = attempt.replay.new_completion_id()
        attempt.issue(AttachInvocation(handle, ById(invocation_id)))
        what = pick_serde(serde, type_hint)
        return DurableFuture(attempt, handle, what, "the answer of", invocation_id)

    # ---- promises -------------------------------------------------------------------------------

    def promise(self, name: str, serde: Serde[Any] = DEFAULT, type_hint: Any = None) -> Promise:
        attempt = self._attempt
        attempt.check()
        need_text(name, "the name of a promise")
        if attempt.start.handler.service_type is not ServiceType.WORKFLOW:
            self._refuse("promise", "promises belong to workflows; use an awakeable or a signal")
        return Promise(attempt, name, pick_serde(serde or DEFAULT, type_hint))

    # ---- refusals -------------------------------------------------------------------------------

    def _need_key(self, method: str, name: object = "") -> None:
        if not self._attempt.keyed:
            self._refuse(method, "a plain service has neither key nor state; use a virtual object")
        if not isinstance(name, str):
            raise UsageError(f"ctx.{method}: a state name is a str, not {type(name).__qualname__}")

    def _need_writable(self, method: str, name: object = "") -> None:
        self._need_key(method, name)
        if not self._attempt.may_write:
            self._refuse(
                method,
                "a shared handler runs beside others and only reads state; make it exclusive",
            )

    def _refuse(self, method: str, reason: str) -> NoReturn:
        name = self._attempt.handler.qualified_name
        raise UsageError(f"ctx.{method} is not possible in {name}: {reason}")

    async def close_extension_data(self) -> None:
        """Call ``__close__`` of everything that extensions kept for this attempt."""
        data, self.extension_data = self.extension_data, {}
        for key, value in data.items():
            close = getattr(value, "__close__", None)
            if not callable(close):
                continue
            try:
                closing = close()
                if inspect.isawaitable(closing):
                    await closing
            except Exception:
                logger.exception("closing the extension data %r failed", key)
