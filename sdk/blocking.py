"""The context of handlers that are plain functions: values instead of futures. Threads: `threads.py`.

The context has the methods of the asynchronous one, but they return values instead of futures:
``total = ctx.get("total")``. For several operations at once, ``ctx.start`` offers the same methods
with futures; ``ctx.result``, ``ctx.gather`` and ``ctx.select`` wait for them.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload
from uuid import UUID

from perdure import asyncio as combinators
from perdure.callers import ScopedInvocation
from perdure.context import Request, RunOptions
from perdure.futures import CallFuture, Sent
from perdure.handles import RestateDurableFuture
from perdure.invocation import InvocationContext
from perdure.promises import Promise
from perdure.serde import DEFAULT, Serde

if TYPE_CHECKING:
    from perdure.threads import BlockingAttempt

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
P = ParamSpec("P")

Headers = dict[str, str] | None


class BlockingHandle:
    """An invocation that was called or sent, for handlers that are plain functions."""

    def __init__(self, attempt: "BlockingAttempt", sent: Sent | CallFuture[Any]) -> None:
        self._attempt = attempt
        self._sent = sent

    def invocation_id(self) -> str:
        return self._attempt.result(self._sent.id_future())

    def cancel_invocation(self) -> None:
        self._attempt.context.cancel_invocation(self.invocation_id())
        self._attempt.send_now()


class BlockingPromise:
    """A workflow's promise, for handlers that are plain functions."""

    def __init__(self, attempt: "BlockingAttempt", promise: Promise) -> None:
        self._attempt = attempt
        self._promise = promise

    def value(self) -> Any:
        """Wait until it is set."""
        return self._attempt.result(self._promise.value())

    def peek(self) -> Any:
        return self._attempt.result(self._promise.peek())

    def resolve(self, value: Any) -> None:
        self._attempt.result(self._promise.resolve(value))

    def reject(self, message: str, code: int = 500) -> None:
        self._attempt.result(self._promise.reject(message, code))


class BlockingContext:
    """What a handler that is a plain function may do. Semantics: `perdure.context`."""

    def __init__(self, attempt: "BlockingAttempt") -> None:
        self._attempt = attempt
        self._inner = attempt.context

    # ---- several at once ------------------------------------------------------------------------

    @property
    def start(self) -> InvocationContext:
        """The same operations, returning futures at once."""
        return self._inner

    def result(self, future: RestateDurableFuture[T]) -> T:
        """Wait for one future. Raises its TerminalError."""
        found: T = self._attempt.result(future)
        return found

    def gather(self, *futures: RestateDurableFuture[Any]) -> list[Any]:
        """Wait for all; their values in the order given. Raises the first TerminalError in it."""
        self._attempt.on_loop(combinators.gather(*futures))
        return [self.result(each) for each in futures]

    def select(self, **futures: RestateDurableFuture[Any]) -> list[Any]:
        """Wait for the first: its name and value."""
        return self._attempt.on_loop(combinators.select(**futures))

    # ---- the request ----------------------------------------------------------------------------

    def request(self) -> Request:
        return self._inner.request()

    def key(self) -> str:
        return self._inner.key()

    def random(self) -> Random:
        return self._inner.random()

    def uuid(self) -> UUID:
        return self._inner.uuid()

    def time(self) -> float:
        return self._attempt.result(self._inner.time())

    # ---- state ----------------------------------------------------------------------------------

    def get(
        self,
        name: str,
        serde: Serde[T] = DEFAULT,
        type_hint: type[T] | None = None,
        entry_name: str | None = None,
    ) -> T | None:
        found: T | None = self._attempt.result(self._inner.get(name, serde, type_hint, entry_name))
        return found

    def state_keys(self, entry_name: str | None = None) -> list[str]:
        return self._attempt.result(self._inner.state_keys(entry_name))

    def set(
        self, name: str, value: T, serde: Serde[T] = DEFAULT, entry_name: str | None = None
    ) -> None:
        self._inner.set(name, value, serde, entry_name)

    def clear(self, name: str, entry_name: str | None = None) -> None:
        self._inner.clear(name, entry_name)

    def clear_all(self, entry_name: str | None = None) -> None:
        self._inner.clear_all(entry_name)

    # ---- runs and timers ------------------------------------------------------------------------

    def run(
        self,
        name: str,
        action: Callable[..., T],
        serde: Serde[T] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[T] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> T:
        found: T = self._attempt.result(
            self._inner.run(name, action, serde, max_attempts, max_retry_duration, type_hint, args)
        )
        return found

    def run_typed(
        self,
        name: str,
        action: Callable[P, T],
        options: RunOptions[T] = RunOptions(),  # noqa: B008 - never changed
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        found: T = self._attempt.result(
            self._inner.run_typed(name, action, options, *args, **kwargs)
        )
        return found

    def sleep(self, delta: timedelta, name: str | None = None) -> None:
        self._attempt.result(self._inner.sleep(delta, name))

    # ---- calls ----------------------------------------------------------------------------------

    def scope(self, scope: str) -> ScopedInvocation:
        """Calls within a scope; they return futures, for ``ctx.result``."""
        return self._inner.scope(scope)

    # fmt: off
    @overload
    def service_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    def service_call(
        self, tpe: Callable[[Any], Awaitable[O]], arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    def service_call(
        self, tpe: Callable[[Any, I], O], arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    def service_call(
        self, tpe: Callable[[Any], O], arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    # fmt: on
    def service_call(
        self,
        tpe: Any,
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: Headers = None,
    ) -> Any:
        return self._attempt.result(self._inner.service_call(tpe, arg, idempotency_key, headers))

    def service_send(
        self,
        tpe: Callable[[Any, I], Any] | Callable[[Any], Any],
        arg: I | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Headers = None,
    ) -> BlockingHandle:
        return self._sent(self._inner.service_send(tpe, arg, send_delay, idempotency_key, headers))

    # fmt: off
    @overload
    def object_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], key: str, arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    def object_call(
        self, tpe: Callable[[Any], Awaitable[O]], key: str, arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    def object_call(
        self, tpe: Callable[[Any, I], O], key: str, arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    def object_call(
        self, tpe: Callable[[Any], O], key: str, arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    # fmt: on
    def object_call(
        self,
        tpe: Any,
        key: str,
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: Headers = None,
    ) -> Any:
        return self._attempt.result(
            self._inner.object_call(tpe, key, arg, idempotency_key, headers)
        )

    def object_send(
        self,
        tpe: Callable[[Any, I], Any] | Callable[[Any], Any],
        key: str,
        arg: I | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Headers = None,
    ) -> BlockingHandle:
        return self._sent(
            self._inner.object_send(tpe, key, arg, send_delay, idempotency_key, headers)
        )

    workflow_call = object_call
    workflow_send = object_send

    def generic_call(
        self, service: str, handler: str, arg: bytes, key: str | None = None, **extras: Any
    ) -> bytes:
        return self._attempt.result(self._inner.generic_call(service, handler, arg, key, **extras))

    def generic_send(
        self, service: str, handler: str, arg: bytes, key: str | None = None, **extras: Any
    ) -> BlockingHandle:
        return self._sent(self._inner.generic_send(service, handler, arg, key, **extras))

    def _sent(self, sent: Sent) -> BlockingHandle:
        self._attempt.send_now()
        return BlockingHandle(self._attempt, sent)

    # ---- signals, awakeables, promises, other invocations ---------------------------------------

    def signal(self, name: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None) -> T:
        found: T = self._attempt.result(self._inner.signal(name, serde, type_hint))
        return found

    def resolve_signal(
        self, invocation_id: str, name: str, value: I, serde: Serde[I] = DEFAULT
    ) -> None:
        self._inner.resolve_signal(invocation_id, name, value, serde)
        self._attempt.send_now()

    def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = 500
    ) -> None:
        self._inner.reject_signal(invocation_id, name, failure_message, failure_code)
        self._attempt.send_now()

    def awakeable(
        self, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> tuple[str, RestateDurableFuture[T]]:
        """The id, and the future for ``ctx.result``."""
        return self._inner.awakeable(serde, type_hint)

    def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT) -> None:
        self._inner.resolve_awakeable(name, value, serde)
        self._attempt.send_now()

    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        self._inner.reject_awakeable(name, failure_message, failure_code)
        self._attempt.send_now()

    def cancel_invocation(self, invocation_id: str) -> None:
        self._inner.cancel_invocation(invocation_id)
        self._attempt.send_now()

    def attach_invocation(
        self, invocation_id: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> T:
        found: T = self._attempt.result(
            self._inner.attach_invocation(invocation_id, serde, type_hint)
        )
        return found

    def promise(
        self, name: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> BlockingPromise:
        return BlockingPromise(self._attempt, self._inner.promise(name, serde, type_hint))
