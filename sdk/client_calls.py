"""Calls and sends from outside of handlers: the overloads that check arguments and results.

The client's counterpart of `perdure.calling`, with answers instead of futures. What all of them come
down to is in `perdure.client_types`.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, overload

from perdure.calling import Headers

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


@dataclass
class RestateClientSendHandle:
    """An invocation that was sent. ``is_new`` False: it was known already, by its idempotency key."""

    invocation_id: str
    status_code: int
    is_new: bool = True


# fmt: off
class Calling(ABC):
    """The two operations that the typed methods come down to."""

    @abstractmethod
    async def _call(
        self, tpe: Any, key: str | None, arg: Any,
        idempotency_key: str | None, headers: Headers, limit_key: str | None,
    ) -> Any:
        """Serialize, submit, wait, deserialize."""

    @abstractmethod
    async def _send(
        self, tpe: Any, key: str | None, arg: Any, send_delay: timedelta | None,
        idempotency_key: str | None, headers: Headers, limit_key: str | None,
    ) -> RestateClientSendHandle:
        """Serialize and submit."""


class ClientCalls(Calling):
    """Calls and sends without a scope. A ``send_delay`` is at least zero."""

    @overload
    async def service_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def service_call(
        self, tpe: Callable[[Any], Awaitable[O]], arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def service_call(
        self, tpe: Callable[[Any, I], O], arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def service_call(
        self, tpe: Callable[[Any], O], arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    async def service_call(
        self, tpe: Any, arg: Any = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> Any:
        """Call a handler of a service and wait for its answer."""
        return await self._call(tpe, None, arg, idempotency_key, headers, None)

    @overload
    async def service_send(
        self, tpe: Callable[[Any, I], Any], arg: I, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    @overload
    async def service_send(
        self, tpe: Callable[[Any], Any], arg: None = None, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    async def service_send(
        self, tpe: Any, arg: Any = None, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle:
        """Have a handler of a service run, now or later, without waiting for it."""
        return await self._send(
            tpe, None, arg, send_delay, idempotency_key, headers, None
        )

    @overload
    async def object_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], key: str, arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def object_call(
        self, tpe: Callable[[Any], Awaitable[O]], key: str, arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def object_call(
        self, tpe: Callable[[Any, I], O], key: str, arg: I,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def object_call(
        self, tpe: Callable[[Any], O], key: str, arg: None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    async def object_call(
        self, tpe: Any, key: str, arg: Any = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> Any:
        """Call a handler of the object or workflow ``key`` and wait for its answer."""
        return await self._call(tpe, key, arg, idempotency_key, headers, None)

    @overload
    async def object_send(
        self, tpe: Callable[[Any, I], Any], key: str, arg: I, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    @overload
    async def object_send(
        self, tpe: Callable[[Any], Any], key: str, arg: None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    async def object_send(
        self, tpe: Any, key: str, arg: Any = None, send_delay: timedelta | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle:
        """Have a handler of the object or workflow ``key`` run, without waiting for it."""
        return await self._send(
            tpe, key, arg, send_delay, idempotency_key, headers, None
        )

    workflow_call = object_call
    workflow_send = object_send


class ScopedClientCalls(Calling):
    """Calls and sends within a scope; each may name the limit key that it counts against."""

    @overload
    async def service_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def service_call(
        self, tpe: Callable[[Any], Awaitable[O]], arg: None = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def service_call(
        self, tpe: Callable[[Any, I], O], arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def service_call(
        self, tpe: Callable[[Any], O], arg: None = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    async def service_call(
        self, tpe: Any, arg: Any = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> Any:
        """Call a handler of a service and wait for its answer."""
        return await self._call(tpe, None, arg, idempotency_key, headers, limit_key)

    @overload
    async def service_send(
        self, tpe: Callable[[Any, I], Any], arg: I, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    @overload
    async def service_send(
        self, tpe: Callable[[Any], Any], arg: None = None, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    async def service_send(
        self, tpe: Any, arg: Any = None, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle:
        """Have a handler of a service run, now or later, without waiting for it."""
        return await self._send(
            tpe, None, arg, send_delay, idempotency_key, headers, limit_key
        )

    @overload
    async def object_call(
        self, tpe: Callable[[Any, I], Awaitable[O]], key: str, arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def object_call(
        self, tpe: Callable[[Any], Awaitable[O]], key: str, arg: None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def object_call(
        self, tpe: Callable[[Any, I], O], key: str, arg: I, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    @overload
    async def object_call(
        self, tpe: Callable[[Any], O], key: str, arg: None = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> O: ...
    async def object_call(
        self, tpe: Any, key: str, arg: Any = None, limit_key: str | None = None,
        idempotency_key: str | None = None, headers: Headers = None,
    ) -> Any:
        """Call a handler of the object or workflow ``key`` and wait for its answer."""
        return await self._call(tpe, key, arg, idempotency_key, headers, limit_key)

    @overload
    async def object_send(
        self, tpe: Callable[[Any, I], Any], key: str, arg: I, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    @overload
    async def object_send(
        self, tpe: Callable[[Any], Any], key: str, arg: None = None,
        send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle: ...
    async def object_send(
        self, tpe: Any, key: str, arg: Any = None, send_delay: timedelta | None = None,
        limit_key: str | None = None, idempotency_key: str | None = None, headers: Headers = None,
    ) -> RestateClientSendHandle:
        """Have a handler of the object or workflow ``key`` run, without waiting for it."""
        return await self._send(
            tpe, key, arg, send_delay, idempotency_key, headers, limit_key
        )

    workflow_call = object_call
    workflow_send = object_send
# fmt: on
