"""What a handler may do: the context classes, their state, promises and options. Only interfaces.

The runtime of handlers implements them. Every operation here is journaled, in the order in which the
handler issues it, and that order must be the same in every attempt; ``random`` and ``uuid`` are seeded
instead. ``name`` and ``entry_name`` are shown in the journal and mean nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar, overload
from uuid import UUID

from perdure.calling import Calls, HandlerType, Headers, ScopedCalls
from perdure.handles import (
    AttemptFinishedEvent,
    RestateDurableCallFuture,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    SendHandle,
)
from perdure.serde import DEFAULT, Serde

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    # What is read without a hint or serde is whatever JSON held.
    S = DefaultingTypeVar("S", default=Any)
else:
    S = TypeVar("S")

__all__ = [
    "AttemptFinishedEvent",
    "Context",
    "DurablePromise",
    "HandlerType",
    "KeyValueStore",
    "ObjectContext",
    "ObjectSharedContext",
    "Request",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RunAction",
    "RunOptions",
    "ScopedContext",
    "SendHandle",
    "WorkflowContext",
    "WorkflowSharedContext",
]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
P = ParamSpec("P")

RunAction: TypeAlias = Callable[..., Coroutine[Any, Any, T]] | Callable[..., T]


@dataclass
class RunOptions(Generic[T]):
    """Options of ``run_typed``.

    Any retry field makes the closure retry by this policy instead of the invocation's: from 50 ms,
    doubling, to 10 s, for ever, where the others say nothing. Past ``max_attempts`` (the first one
    included) or ``max_duration`` the run ends with a TerminalError.
    """

    serde: Serde[T] = DEFAULT
    type_hint: type[T] | None = None  # None: the closure's return annotation
    max_attempts: int | None = None
    max_duration: timedelta | None = None
    initial_retry_interval: timedelta | None = None
    max_retry_interval: timedelta | None = None
    retry_interval_factor: float | None = None
    max_retry_duration: timedelta | None = None  # the old name of max_duration


@dataclass
class Request:
    """The request that started this invocation. Header names are lower case."""

    id: str  # the invocation id
    headers: dict[str, str]
    attempt_headers: dict[str, str]  # of this attempt only, not journaled
    body: bytes
    attempt_finished_event: AttemptFinishedEvent
    scope: str | None = None
    limit_key: str | None = None
    idempotency_key: str | None = None


class KeyValueStore(ABC):
    """The state of one key: names to values. Writes take effect with the journal entry."""

    @abstractmethod
    def get(
        self,
        name: str,
        serde: Serde[S] = DEFAULT,
        type_hint: type[S] | None = None,
        entry_name: str | None = None,
    ) -> RestateDurableFuture[S | None]:
        """The value, or None where ``name`` is not set."""

    @abstractmethod
    def state_keys(self, entry_name: str | None = None) -> RestateDurableFuture[list[str]]:
        """All names that are set."""

    @abstractmethod
    def set(
        self, name: str, value: T, serde: Serde[T] = DEFAULT, entry_name: str | None = None
    ) -> None:
        """Set ``name``; None is a value too and reads back as None."""

    @abstractmethod
    def clear(self, name: str, entry_name: str | None = None) -> None:
        """Unset ``name``."""

    @abstractmethod
    def clear_all(self, entry_name: str | None = None) -> None:
        """Unset every name."""


class ScopedContext(ScopedCalls):
    """Calls and sends within one scope; from ``Context.scope``.

    A limit key is one or two parts of 1 to 36 characters out of ``[a-zA-Z0-9_.-]``, parted by ``/``.
    It bounds how many invocations run at once and is no part of their identity.
    """


class Context(Calls):
    """What every handler may do."""

    @abstractmethod
    def request(self) -> Request:
        """The request that started this invocation."""

    @abstractmethod
    def scope(self, scope: str) -> ScopedContext:
        """Calls within ``scope``: 1 to 36 characters out of ``[a-zA-Z0-9_.-]``.

        The scope is part of the identity of what is called: other state, other locks.
        """

    @abstractmethod
    def signal(
        self, name: str, serde: Serde[S] = DEFAULT, type_hint: type[S] | None = None
    ) -> RestateDurableFuture[S]:
        """Wait for a signal that somebody sends to this invocation under ``name``."""

    @abstractmethod
    def resolve_signal(
        self, invocation_id: str, name: str, value: I, serde: Serde[I] = DEFAULT
    ) -> None:
        """Send a signal to another invocation."""

    @abstractmethod
    def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = 500
    ) -> None:
        """Send a failure as a signal; whoever waits for it gets a TerminalError."""

    @abstractmethod
    def random(self) -> Random:
        """Seeded by the invocation: the same numbers in every attempt. Not for secrets."""

    @abstractmethod
    def uuid(self) -> UUID:
        """A random UUID that is the same in every attempt."""

    @abstractmethod
    def time(self) -> RestateDurableFuture[float]:
        """Seconds since the epoch, journaled."""

    @overload
    @abstractmethod
    def run(
        self,
        name: str,
        action: Callable[..., Coroutine[Any, Any, T]],
        serde: Serde[T] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[T] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> RestateDurableFuture[T]: ...

    @overload
    @abstractmethod
    def run(
        self,
        name: str,
        action: Callable[..., T],
        serde: Serde[T] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[T] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> RestateDurableFuture[T]: ...

    @abstractmethod
    def run(
        self,
        name: str,
        action: RunAction[T],
        serde: Serde[T] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[T] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> RestateDurableFuture[T]:
        """As ``run_typed``, with the arguments of ``action`` in one tuple; kept for old programs."""

    @overload
    @abstractmethod
    def run_typed(
        self,
        name: str,
        action: Callable[P, Coroutine[Any, Any, T]],
        options: RunOptions[T] = ...,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]: ...

    @overload
    @abstractmethod
    def run_typed(
        self,
        name: str,
        action: Callable[P, T],
        options: RunOptions[T] = ...,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]: ...

    @abstractmethod
    def run_typed(
        self,
        name: str,
        action: Callable[P, Coroutine[Any, Any, T]] | Callable[P, T],
        options: RunOptions[T] = RunOptions(),  # noqa: B008 - never changed
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]:
        """Carry out a side effect and journal its result, so that no later attempt does it again.

        At least once: a crash between effect and journal repeats it. A plain function runs in a
        thread. Any error but TerminalError is retried.
        """

    @abstractmethod
    def sleep(self, delta: timedelta, name: str | None = None) -> RestateDurableSleepFuture:
        """A timer that outlives crashes, from now on."""

    @abstractmethod
    def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Headers = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> RestateDurableCallFuture[bytes]:
        """Call a handler by its names, with bytes both ways. ``limit_key`` needs ``scope``."""

    @abstractmethod
    def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Headers = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> SendHandle:
        """Have a handler run by its names. ``limit_key`` needs ``scope``."""

    @abstractmethod
    def awakeable(
        self, serde: Serde[S] = DEFAULT, type_hint: type[S] | None = None
    ) -> tuple[str, RestateDurableFuture[S]]:
        """An id to give to the outside world, and the future that it completes with that id."""

    @abstractmethod
    def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT) -> None:
        """Complete an awakeable of any invocation; ``name`` is its id."""

    @abstractmethod
    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        """Complete an awakeable with a failure."""

    @abstractmethod
    def cancel_invocation(self, invocation_id: str) -> None:
        """Ask an invocation to stop: its next await raises a TerminalError."""

    @abstractmethod
    def attach_invocation(
        self, invocation_id: str, serde: Serde[S] = DEFAULT, type_hint: type[S] | None = None
    ) -> RestateDurableFuture[S]:
        """Wait for the answer of another invocation."""


class ObjectContext(Context, KeyValueStore):
    """What an exclusive handler of a virtual object may do."""

    @abstractmethod
    def key(self) -> str:
        """The key of this object."""


class ObjectSharedContext(Context):
    """What a shared handler of a virtual object may do: read state, never write it."""

    @abstractmethod
    def key(self) -> str:
        """The key of this object."""

    @abstractmethod
    def get(
        self,
        name: str,
        serde: Serde[S] = DEFAULT,
        type_hint: type[S] | None = None,
        entry_name: str | None = None,
    ) -> RestateDurableFuture[S | None]:
        """The value, or None where ``name`` is not set."""

    @abstractmethod
    def state_keys(self, entry_name: str | None = None) -> RestateDurableFuture[list[str]]:
        """All names that are set."""


class DurablePromise(Generic[T]):
    """A value of a workflow that is set once and that every handler of the key can wait for."""

    def __init__(self, name: str, serde: Serde[T] = DEFAULT) -> None:
        self.name = name
        self.serde = serde

    @abstractmethod
    def resolve(self, value: T) -> Awaitable[None]:
        """Set it. Raises TerminalError 409 where it is set already."""

    @abstractmethod
    def reject(self, message: str, code: int = 500) -> Awaitable[None]:
        """Set it to a failure. Raises TerminalError 409 where it is set already."""

    @abstractmethod
    def peek(self) -> Awaitable[T | None]:
        """Its value now, None while it is not set."""

    @abstractmethod
    def value(self) -> RestateDurableFuture[T]:
        """Wait until it is set."""

    @abstractmethod
    def __await__(self) -> Generator[Any, Any, T]:
        """Short for awaiting ``value()``."""


class WorkflowContext(ObjectContext):
    """What the main handler of a workflow may do."""

    @abstractmethod
    def promise(
        self, name: str, serde: Serde[S] = DEFAULT, type_hint: type[S] | None = None
    ) -> DurablePromise[S]:
        """The promise ``name`` of this workflow key."""


class WorkflowSharedContext(ObjectSharedContext):
    """What the other handlers of a workflow may do, beside the main one and after it."""

    @abstractmethod
    def promise(
        self, name: str, serde: Serde[S] = DEFAULT, type_hint: type[S] | None = None
    ) -> DurablePromise[S]:
        """The promise ``name`` of this workflow key."""
