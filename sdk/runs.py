"""Run closures: when they start, where they run, and what becomes of their errors.

A closure starts only when the handler awaits it, no result is recorded, and everything before it is
durable (the barrier). Coroutine functions run as tasks of the loop, plain ones in the thread pool.
Rules: service protocol 5.7.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.context import RunOptions
from perdure.current import InsideRun, operating_for
from perdure.failures import failed, failure_of, representation
from perdure.journal.attempt import Barrier, Frame
from perdure.journal.entries import Value
from perdure.journal.errors import (
    RetryableError,
    TerminalError,
    UsageError,
)
from perdure.journal.replay import Handle
from perdure.journal.retry import next_delay_ms
from perdure.journal.schema import RetryPolicy
from perdure.pool import ClosurePool
from perdure.serde import DefaultSerde, Serde, write_value

if TYPE_CHECKING:
    from perdure.attempt_core import AttemptCore

_GENERATOR_FLAGS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_INITIAL_INTERVAL_MS = 50  # what holds where a run's options set other retry fields
_MAX_INTERVAL_MS = 10_000
_FACTOR = 2.0
_NOTHING_GIVEN = (None,) * 5
_SPAN = "a datetime.timedelta"
_OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("max_attempts", int, "a whole number"),
    ("max_duration", timedelta, _SPAN),
    ("initial_retry_interval", timedelta, _SPAN),
    ("max_retry_interval", timedelta, _SPAN),
    ("retry_interval_factor", int | float, "a number"),
)
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict})  # never awaited


class RunPolicy(msgspec.Struct, frozen=True):
    """When a run gives up, and how long it waits; delays None: as the invocation's policy says."""

    max_attempts: int | None = None
    max_duration_ms: int | None = None
    delays: RetryPolicy | None = None

    def gives_up(self, attempts: int, duration_ms: int) -> bool:
        """``attempts``: made so far; ``duration_ms``: since the first one began."""
        if self.max_attempts is not None and attempts >= self.max_attempts:
            return True
        return self.max_duration_ms is not None and duration_ms >= self.max_duration_ms

    def delay_ms(self, attempts: int) -> int | None:
        return None if self.delays is None else next_delay_ms(self.delays, attempts)


BY_INVOCATION = RunPolicy()


def policy_of(
    max_attempts: int | None,
    max_duration: timedelta | None,
    initial_interval: timedelta | None = None,
    max_interval: timedelta | None = None,
    factor: float | None = None,
) -> RunPolicy:
    """Options to policy: any field that is set brings the defaults of the others."""
    given = (max_attempts, max_duration, initial_interval, max_interval, factor)
    if given == _NOTHING_GIVEN:
        return BY_INVOCATION
    _check_options(given)
    delays = RetryPolicy(
        initial_interval_ms=_millis(initial_interval, _INITIAL_INTERVAL_MS),
        factor=_FACTOR if factor is None else factor,
        max_interval_ms=_millis(max_interval, _MAX_INTERVAL_MS),
        max_attempts=None,
    )
    duration_ms = None if max_duration is None else _millis(max_duration, 0)
    return RunPolicy(max_attempts, duration_ms, delays)


def _check_options(given: tuple[object, ...]) -> None:
    for value, (name, kind, words) in zip(given, _OPTIONS, strict=True):
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise UsageError(f"option {name} of a run is {words}, not {value!r}")


def policy_of_options(options: RunOptions[Any]) -> RunPolicy:
    return policy_of(
        options.max_attempts,
        options.max_duration if options.max_duration is not None else options.max_retry_duration,
        options.initial_retry_interval,
        options.max_retry_interval,
        options.retry_interval_factor,
    )


def _millis(span: timedelta | None, default: int) -> int:
    return default if span is None else int(span / timedelta(milliseconds=1))


def serde_for(action: Callable[..., Any], serde: Serde[Any], type_hint: Any) -> Serde[Any]:
    """The serde of a run's result: as given, else by hint, else by the return annotation."""
    if type(serde) is not DefaultSerde or serde.type_hint is not None:
        return serde
    if type_hint is None:
        type_hint = _return_annotation(action)
    return serde if type_hint is None else serde.with_maybe_type(type_hint)


def _return_annotation(action: Any) -> Any:
    while isinstance(action, partial):
        action = action.func
    hint = getattr(action, "__annotations__", {}).get("return")
    if isinstance(hint, str):
        try:
            return inspect.get_annotations(action, eval_str=True).get("return")
        except (NameError, TypeError, SyntaxError):
            return None  # a name that only type checkers see
    return hint


def check_action(name: object, action: object) -> None:
    """Raises UsageError for what cannot be run again on a retry."""
    if not isinstance(name, str):
        raise UsageError(
            f"the name of a run must be a str, not {type(name).__qualname__}:"
            " ctx.run_typed('charge', charge_card)"
        )
    if type(action) is FunctionType and not action.__code__.co_flags & _GENERATOR_FLAGS:
        return  # what almost every action is
    if inspect.iscoroutine(action) or inspect.isawaitable(action):
        shown = getattr(action, "__name__", "fn")
        if inspect.iscoroutine(action):
            action.close()
        raise UsageError(
            f"run {name!r} got a coroutine object instead of a function: pass the function itself,"
            f" ctx.run_typed({name!r}, {shown}), and its arguments after the options,"
            " so that it can be called again on a retry."
        )
    if not callable(action):
        raise UsageError(f"run {name!r} needs a function, not {type(action).__qualname__}.")
    if inspect.isasyncgenfunction(action) or inspect.isgeneratorfunction(action):
        raise UsageError(f"run {name!r} got a generator function: it must return one result.")


def _is_coroutine_function(action: Callable[..., Any]) -> bool:
    if type(action) is FunctionType and not action.__code__.co_flags & inspect.CO_COROUTINE:
        return False
    return inspect.iscoroutinefunction(action)


class PendingRun:
    """A run that user code has issued. Its closure is dropped once it has been started."""

    __slots__ = (
        "action",
        "awaited",
        "command_index",
        "context",
        "name",
        "policy",
        "serde",
        "started_ms",
    )

    def __init__(
        self,
        name: str,
        action: Callable[[], Any],
        serde: Serde[Any],
        policy: RunPolicy,
        command_index: int,
    ) -> None:
        self.name = name
        self.action = action
        self.serde = serde
        self.policy = policy
        self.command_index = command_index
        self.context = contextvars.copy_context()
        self.awaited = False
        self.started_ms = 0


class Runs:
    """The runs of one attempt. Called on the loop; ``issued`` also on a handler's own thread."""

    __slots__ = ("_attempt", "_pool", "_starting", "_tasks", "executing", "issued")

    def __init__(self, attempt: "AttemptCore", pool: ClosurePool) -> None:
        self._attempt = attempt
        self._pool = pool
        self._starting: dict[int, PendingRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.issued: dict[int, PendingRun] = {}  # by completion id, not yet started
        self.executing = 0  # barrier asked for, or running

    def barriers(self, missing: set[Handle]) -> list[Frame]:
        """Ask to start every awaited run that has no result and was not asked for before."""
        frames: list[Frame] = []
        for handle in sorted(self.issued.keys() & missing):
            self._starting[handle] = self.issued.pop(handle)
            self.executing += 1
            frames.append(Barrier(handle))
        return frames

    def start(self, completion_id: int) -> None:
        """The barrier is passed."""
        run = self._starting.pop(completion_id, None)
        if run is None:
            return
        run.started_ms = self._attempt.sink.now_ms()
        run.context.run(operating_for.set, InsideRun(self._attempt, run.name))
        if _is_coroutine_function(run.action):
            try:
                pending = run.action()
            except Exception as error:  # such as arguments that do not fit
                return self._finish(completion_id, run, None, error)
            return self._spawn(completion_id, run, pending)

        def done(value: Any, error: BaseException | None) -> None:
            if type(value) in _PLAIN or not inspect.isawaitable(value):
                self._finish(completion_id, run, value, error)
            elif self._attempt.closed is None:  # a lambda around a coroutine function
                self._spawn(completion_id, run, value)
            elif inspect.iscoroutine(value):
                value.close()  # too late: another attempt may be at it

        self._pool.submit(partial(run.context.run, run.action), done)

    def _spawn(self, completion_id: int, run: PendingRun, pending: Awaitable[Any]) -> None:
        task = self._attempt.loop.create_task(
            self._await(completion_id, run, pending), context=run.context
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await(self, completion_id: int, run: PendingRun, pending: Awaitable[Any]) -> None:
        try:
            value = await pending
        except BaseException as error:
            self._finish(completion_id, run, None, error)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            self._finish(completion_id, run, value, None)

    def cancel(self) -> None:
        """The attempt is over: closures that still run get cancelled, threads are left alone."""
        self.issued.clear()
        self._starting.clear()
        for task in tuple(self._tasks):
            task.cancel()

    def mark_awaited(self, handle: Handle) -> None:
        """The handler waits for this, if only among others."""
        if (run := self.issued.get(handle)) is not None:  # type: ignore[arg-type]
            run.awaited = True

    def forgotten(self) -> list[str]:
        """Names of runs that the handler issued and never waited for in any way."""
        has = self._attempt.replay.has
        return [
            run.name
            for completion_id, run in self.issued.items()
            if not run.awaited and not has(completion_id)
        ]

    def _finish(
        self, completion_id: int, run: PendingRun, value: Any, error: BaseException | None
    ) -> None:
        """The closure is through: propose its result, or see what its policy says."""
        attempt = self._attempt
        if attempt.closed is not None:
            return  # cancelled, or too late
        self.executing -= 1
        if error is None:
            try:
                content = write_value(run.serde, value, "the result of run", run.name)
                if attempt.codec is not None:
                    content = attempt.codec.encode(content)
            except Exception as e:
                error = e
            else:
                return attempt.propose(completion_id, Value(content))
        if isinstance(error, TerminalError):
            return attempt.propose(completion_id, failure_of(error))
        if isinstance(error, KeyboardInterrupt):
            raise error
        self._failed(completion_id, run, error, attempt.sink.now_ms() - run.started_ms)

    def _failed(
        self, completion_id: int, run: PendingRun, error: BaseException, duration_ms: int
    ) -> None:
        """Give up for good, or end the attempt so that the runtime tries again later."""
        attempt = self._attempt
        attempts, total_ms = 1, duration_ms
        replay = attempt.replay
        if run.command_index < replay.recorded_count and not replay.wrote_new:
            attempts += attempt.start.retry_count
            total_ms += attempt.start.retry_duration_ms
        code, message = 500, representation(error)
        delay_ms = run.policy.delay_ms(attempts)
        if isinstance(error, RetryableError):
            code, message = error.status_code, error.message
            if error.retry_after is not None:
                delay_ms = _millis(error.retry_after, 0)
        if run.policy.gives_up(attempts, total_ms):
            attempt.propose(completion_id, failure_of(TerminalError(message, code)))
            return
        ended = failed(code, error, message, delay_ms)
        attempt.fail(
            msgspec.structs.replace(
                ended,
                related_command_index=run.command_index,
                related_command_name=run.name,
                related_command_type="run",
            )
        )


def closure(
    action: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[], Any]:
    return partial(action, *args, **kwargs) if args or kwargs else action
