"""The client's interface: what every client of an ingress can do, over HTTP or inside the process.

A client implements three operations on bytes (``submit``, ``fetch``, ``complete_awakeable``); serdes,
types and checks are here. No I/O here.
"""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from perdure.calling import Headers
from perdure.client_calls import ClientCalls, RestateClientSendHandle, ScopedClientCalls
from perdure.entry_codec import JournalValueCodec
from perdure.handler import Handler, encode_argument, target_of
from perdure.journal.entries import AttachTarget, ById, ByWorkflow, Failure, Outcome, Value
from perdure.options import check_duration
from perdure.serde import DEFAULT, DefaultSerde, Serde, read_value, write_value

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    S = DefaultingTypeVar("S", default=Any)
else:
    S = TypeVar("S")

__all__ = [
    "HttpError",
    "InvocationOutput",
    "RestateClient",
    "RestateClientSendHandle",
    "RestateScopedClient",
]

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")


class HttpError(Exception):
    """The ingress refused a request, or the invocation ended in a failure.

    ``message`` is the ingress's own, ``body`` the whole answer.
    """

    def __init__(self, status_code: int, message: str, body: str | None = None) -> None:
        super().__init__(status_code, message, body)
        self.status_code = status_code
        self.message = message
        self.body = body

    def __str__(self) -> str:
        return f"HTTP {self.status_code}: {self.message}"


@dataclass
class InvocationOutput(Generic[T]):
    """The answer of an invocation, if it is there. ``value`` means nothing while not ``is_ready``."""

    is_ready: bool
    value: T | None = None


class RestateScopedClient(ScopedClientCalls):
    """Calls and sends within one scope; from ``RestateClient.scope``."""

    def __init__(self, client: "RestateClient", scope_key: str) -> None:
        self.client = client
        self.scope_key = scope_key

    async def _call(
        self,
        tpe: Any,
        key: str | None,
        arg: Any,
        idempotency_key: str | None,
        headers: Headers,
        limit_key: str | None,
    ) -> Any:
        return await self.client._call(
            tpe, key, arg, idempotency_key, headers, limit_key, self.scope_key
        )

    async def _send(
        self,
        tpe: Any,
        key: str | None,
        arg: Any,
        send_delay: timedelta | None,
        idempotency_key: str | None,
        headers: Headers,
        limit_key: str | None,
    ) -> RestateClientSendHandle:
        return await self.client._send(
            tpe, key, arg, send_delay, idempotency_key, headers, limit_key, self.scope_key
        )


class RestateClient(ClientCalls):
    """Calls handlers from outside. Failures raise HttpError; waiting has no time limit of its own."""

    journal_codec: JournalValueCodec | None = None

    # ---- what an implementation provides ----

    @abstractmethod
    async def submit(
        self,
        service: str,
        handler: str,
        body: bytes,
        content_type: str | None,
        key: str | None,
        send: bool,
        delay_ms: int | None,
        idempotency_key: str | None,
        headers: dict[str, str],
        scope: str | None,
        limit_key: str | None,
    ) -> bytes | RestateClientSendHandle:
        """One request: the answer's bytes, or for a send its handle. Raises HttpError.

        ``headers`` holds no content type. ``delay_ms`` is for sends only; 0 is a delay too.
        """

    @abstractmethod
    async def fetch(self, target: AttachTarget, wait: bool) -> bytes | None:
        """The answer's bytes. ``wait`` False: None while there is none. Raises HttpError."""

    @abstractmethod
    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        """Returns once it is accepted, whoever waits or does not. Raises HttpError for a bad id."""

    # ---- what users call ----

    def scope(self, scope: str) -> RestateScopedClient:
        """Calls within ``scope``, which is part of the identity of what is called."""
        return RestateScopedClient(self, scope)

    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Headers = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> bytes:
        """Call by names, with bytes both ways; JSON unless ``headers`` has another content type."""
        body = await self._encode(arg)
        content_type, others = _split_headers(headers, "application/json" if body else None)
        answer = await self.submit(
            service, handler, body, content_type, key, False, None,
            idempotency_key, others, scope, limit_key,
        )  # fmt: skip
        assert isinstance(answer, bytes)
        return await self._decode(answer)

    async def generic_send(
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
    ) -> RestateClientSendHandle:
        """Send by names; as ``generic_call``."""
        body = await self._encode(arg)
        content_type, others = _split_headers(headers, "application/json" if body else None)
        handle = await self.submit(
            service, handler, body, content_type, key, True, _delay_ms(send_delay),
            idempotency_key, others, scope, limit_key,
        )  # fmt: skip
        assert isinstance(handle, RestateClientSendHandle)
        return handle

    async def attach(
        self,
        invocation: str | RestateClientSendHandle,
        serde: Serde[S] = DEFAULT,
        type_hint: type[S] | None = None,
    ) -> S:
        """Wait for the answer of an invocation. HttpError 404 where nobody knows it."""
        answer = await self.fetch(ById(_id_of(invocation)), True)
        return await self._read(answer or b"", _typed(serde, type_hint))  # type: ignore[no-any-return]

    async def output(
        self,
        invocation: str | RestateClientSendHandle,
        serde: Serde[S] = DEFAULT,
        type_hint: type[S] | None = None,
    ) -> InvocationOutput[S]:
        """The answer of an invocation, without waiting. HttpError 404 where nobody knows it."""
        answer = await self.fetch(ById(_id_of(invocation)), False)
        return await self._output(answer, _typed(serde, type_hint))

    @overload
    async def workflow_attach(self, tpe: Callable[..., Awaitable[O]], key: str) -> O: ...
    @overload
    async def workflow_attach(self, tpe: Callable[..., O], key: str) -> O: ...
    async def workflow_attach(self, tpe: Any, key: str) -> Any:
        """Wait for the answer of a workflow's main handler ``tpe``."""
        handler = target_of(tpe, key)
        answer = await self.fetch(ByWorkflow(handler.service_tag.name, key), True)
        return await self._read(answer or b"", handler.handler_io.output_serde)

    @overload
    async def workflow_output(
        self, tpe: Callable[..., Awaitable[O]], key: str
    ) -> InvocationOutput[O]: ...
    @overload
    async def workflow_output(self, tpe: Callable[..., O], key: str) -> InvocationOutput[O]: ...
    async def workflow_output(self, tpe: Any, key: str) -> Any:
        """The answer of a workflow's main handler ``tpe``, without waiting."""
        handler = target_of(tpe, key)
        answer = await self.fetch(ByWorkflow(handler.service_tag.name, key), False)
        return await self._output(answer, handler.handler_io.output_serde)

    async def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT) -> None:
        """Complete the awakeable with the id ``name``."""
        content = write_value(_typed(serde, type(value)), value, "the value of the awakeable", name)
        await self.complete_awakeable(name, Value(await self._encode(content)))

    async def reject_awakeable(self, name: str, failure_message: str) -> None:
        """Complete the awakeable with a failure; its code is 500."""
        await self.complete_awakeable(name, Failure(500, failure_message))

    # ---- the typed calls come down to ----

    async def _call(
        self,
        tpe: Any,
        key: str | None,
        arg: Any,
        idempotency_key: str | None,
        headers: Headers,
        limit_key: str | None,
        scope: str | None = None,
    ) -> Any:
        handler = target_of(tpe, key)
        body = await self._encode(encode_argument(handler, arg), handler)
        content_type, others = _split_headers(headers, _content_type(handler))
        answer = await self.submit(
            handler.service_tag.name, handler.name, body, content_type, key, False, None,
            idempotency_key, others, scope, limit_key,
        )  # fmt: skip
        assert isinstance(answer, bytes)
        return await self._read(answer, handler.handler_io.output_serde)

    async def _send(
        self,
        tpe: Any,
        key: str | None,
        arg: Any,
        send_delay: timedelta | None,
        idempotency_key: str | None,
        headers: Headers,
        limit_key: str | None,
        scope: str | None = None,
    ) -> RestateClientSendHandle:
        handler = target_of(tpe, key)
        body = await self._encode(encode_argument(handler, arg), handler)
        content_type, others = _split_headers(headers, _content_type(handler))
        handle = await self.submit(
            handler.service_tag.name, handler.name, body, content_type, key, True,
            _delay_ms(send_delay), idempotency_key, others, scope, limit_key,
        )  # fmt: skip
        assert isinstance(handle, RestateClientSendHandle)
        return handle

    async def _encode(self, value: bytes, handler: Handler[Any, Any] | None = None) -> bytes:
        if self.journal_codec is None or (handler is not None and handler.arity == 1):
            return value
        return self.journal_codec.encode(value)

    async def _decode(self, value: bytes) -> bytes:
        return value if self.journal_codec is None else await self.journal_codec.decode(value)

    async def _read(self, answer: bytes, serde: Serde[Any]) -> Any:
        return read_value(serde, await self._decode(answer), "the answer")

    async def _output(self, answer: bytes | None, serde: Serde[Any]) -> InvocationOutput[Any]:
        if answer is None:
            return InvocationOutput(False)
        return InvocationOutput(True, await self._read(answer, serde))


def _id_of(invocation: str | RestateClientSendHandle) -> str:
    return invocation if isinstance(invocation, str) else invocation.invocation_id


def _typed(serde: Serde[Any], type_hint: Any) -> Serde[Any]:
    if type_hint is not None and isinstance(serde, DefaultSerde):
        return serde.with_maybe_type(type_hint)
    return serde


def _delay_ms(send_delay: timedelta | None) -> int | None:
    if send_delay is None:
        return None
    check_duration("a send", "send_delay", send_delay)
    return send_delay // timedelta(milliseconds=1)


def _content_type(handler: Handler[Any, Any]) -> str | None:
    """None where the handler takes nothing; else one that its ``accept`` lets pass."""
    if handler.arity == 1:
        return None
    io = handler.handler_io
    if "*" not in io.accept:
        return io.accept
    kind = io.accept.partition("/")[0]
    if kind == "*" or io.content_type.startswith(f"{kind}/"):
        return io.content_type
    return f"{kind}/octet-stream"


def _split_headers(headers: Headers, content_type: str | None) -> tuple[str | None, dict[str, str]]:
    """The content type, which a header of that name overrides, and the other headers."""
    if not headers:
        return content_type, {}
    others = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    if len(others) != len(headers):
        content_type = next(v for name, v in headers.items() if name.lower() == "content-type")
    return content_type, others
