"""Calls and sends to other handlers, as a context offers them: the overloads that check arguments.

Each call takes a handler with or without an argument, ``async def`` or plain ``def``. mypy cannot infer
the result from a union of these, hence four overloads. Only signatures; the runtime of handlers implements.
``headers``, ``idempotency_key`` and ``limit_key`` mean what they mean at the ingress.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar, overload

from perdure.handles import RestateDurableCallFuture, SendHandle

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

HandlerType: TypeAlias = Callable[[Any, I], Awaitable[O]] | Callable[[Any], Awaitable[O]]
"""A decorated ``async def`` handler, for users who name the type. Calls take plain ``def`` ones too."""

Headers: TypeAlias = dict[str, str] | None


class Calls(ABC):
    """Calls and sends without a scope. A ``send_delay`` is at least zero."""

    # fmt: off
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any], Awaitable[O]], arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any, I], O], arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any], O], arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @abstractmethod
    def service_call(
        self, tpe: Any, arg: Any = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[Any]:
        """Call a handler of a service; await the future for its answer."""

    @overload
    @abstractmethod
    def service_send(
        self, tpe: Callable[[Any, I], Any], arg: I, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @overload
    @abstractmethod
    def service_send(
        self, tpe: Callable[[Any], Any], arg: None = None, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @abstractmethod
    def service_send(
        self, tpe: Any, arg: Any = None, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle:
        """Have a handler of a service run, now or later, without waiting for it."""

    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], key: str, arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any], Awaitable[O]], key: str, arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any, I], O], key: str, arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any], O], key: str, arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @abstractmethod
    def object_call(
        self, tpe: Any, key: str, arg: Any = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[Any]:
        """Call a handler of the object or workflow ``key``; await the future for its answer."""

    @overload
    @abstractmethod
    def object_send(
        self, tpe: Callable[[Any, I], Any], key: str, arg: I, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @overload
    @abstractmethod
    def object_send(
        self, tpe: Callable[[Any], Any], key: str, arg: None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @abstractmethod
    def object_send(
        self, tpe: Any, key: str, arg: Any = None, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle:
        """Have a handler of the object or workflow ``key`` run, without waiting for it."""
    # fmt: on

    workflow_call = object_call
    workflow_send = object_send


class ScopedCalls(ABC):
    """Calls and sends within a scope; each may name the limit key that it counts against."""

    # fmt: off
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any], Awaitable[O]], arg: None = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any, I], O], arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def service_call(
        self, tpe: Callable[[Any], O], arg: None = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @abstractmethod
    def service_call(
        self, tpe: Any, arg: Any = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[Any]:
        """Call a handler of a service; await the future for its answer."""

    @overload
    @abstractmethod
    def service_send(
        self, tpe: Callable[[Any, I], Any], arg: I, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @overload
    @abstractmethod
    def service_send(
        self, tpe: Callable[[Any], Any], arg: None = None, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @abstractmethod
    def service_send(
        self, tpe: Any, arg: Any = None, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle:
        """Have a handler of a service run, now or later, without waiting for it."""

    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], key: str, arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any], Awaitable[O]], key: str, arg: None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any, I], O], key: str, arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @overload
    @abstractmethod
    def object_call(
        self, tpe: Callable[[Any], O], key: str, arg: None = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[O]: ...
    @abstractmethod
    def object_call(
        self, tpe: Any, key: str, arg: Any = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateDurableCallFuture[Any]:
        """Call a handler of the object or workflow ``key``; await the future for its answer."""

    @overload
    @abstractmethod
    def object_send(
        self, tpe: Callable[[Any, I], Any], key: str, arg: I, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @overload
    @abstractmethod
    def object_send(
        self, tpe: Callable[[Any], Any], key: str, arg: None = None,
        send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle: ...
    @abstractmethod
    def object_send(
        self, tpe: Any, key: str, arg: Any = None, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> SendHandle:
        """Have a handler of the object or workflow ``key`` run, without waiting for it."""
    # fmt: on

    workflow_call = object_call
    workflow_send = object_send
