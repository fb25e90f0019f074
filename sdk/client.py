"""The HTTP client of an ingress, Perdure's or Restate's. The only file of the SDK that uses httpx.

Routes: ingress 2.1. What calls mean and how values are serialized: `perdure.client_types`.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from perdure.client_types import HttpError, RestateClient, RestateClientSendHandle
from perdure.entry_codec import JournalValueCodec
from perdure.journal.entries import (
    AttachTarget,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Outcome,
    Value,
)
from perdure.journal.errors import UsageError

DEFAULT_INGRESS = "http://127.0.0.1:8080"
NOT_READY = 470
_CONNECT_TIMEOUT_S = 10.0


class IngressUnreachable(HttpError):
    """No answer came from the ingress; whether a request reached it is unknown."""


class _SendAnswer(msgspec.Struct, rename="camel"):
    invocation_id: str
    status: str = "Accepted"


class _ErrorAnswer(msgspec.Struct):
    message: str


_read_send = msgspec.json.Decoder(_SendAnswer).decode
_read_error = msgspec.json.Decoder(_ErrorAnswer).decode


class Client(RestateClient):
    """``async with Client("http://localhost:8080") as client``.

    ``headers`` go with every request. A given ``httpx.AsyncClient`` must have a base URL, and stays
    open when this client closes. A call waits as long as the handler takes.
    """

    def __init__(
        self,
        ingress: str | httpx.AsyncClient = DEFAULT_INGRESS,
        headers: dict[str, str] | None = None,
        journal_codec: JournalValueCodec | None = None,
    ) -> None:
        self.headers = headers or {}
        self.journal_codec = journal_codec
        self._owned = not isinstance(ingress, httpx.AsyncClient)
        self.client = (
            ingress
            if isinstance(ingress, httpx.AsyncClient)
            else httpx.AsyncClient(
                base_url=ingress, timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S)
            )
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; invocations go on."""
        if self._owned:
            await self.client.aclose()

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
        target = f"{service}/{handler}" if key is None else f"{service}/{_quoted(key)}/{handler}"
        if scope is not None:
            path = f"restate/scope/{_quoted(scope)}/{'send' if send else 'call'}/{target}"
        else:
            path = f"{target}/send" if send else target
        if delay_ms is not None:
            path += f"?delay={delay_ms}ms"
        all_headers = {**self.headers, **headers}
        if content_type is not None:
            all_headers["content-type"] = content_type
        if idempotency_key is not None:
            if not (isinstance(idempotency_key, str) and idempotency_key.isascii()):
                raise UsageError(
                    f"over HTTP an idempotency key is ASCII text, not {idempotency_key!r}"
                )
            all_headers["idempotency-key"] = idempotency_key
        if limit_key is not None:
            all_headers["x-restate-limit-key"] = limit_key
        answer = await self._request("POST", path, all_headers, body)
        if not send:
            return answer.content
        sent = _read_send(answer.content)
        return RestateClientSendHandle(
            sent.invocation_id, answer.status_code, sent.status == "Accepted"
        )

    async def fetch(self, target: AttachTarget, wait: bool) -> bytes | None:
        verb = "attach" if wait else "output"
        match target:
            case ById(invocation_id=invocation_id):
                answer = await self._request(
                    "GET", f"restate/invocation/{_quoted(invocation_id)}/{verb}", self.headers
                )
            case ByWorkflow() | ByIdempotencyKey():
                answer = await self._request(
                    "POST", f"restate/{verb}", self.headers, _target_body(target)
                )
        return None if answer.status_code == NOT_READY else answer.content

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        path = f"restate/awakeables/{_quoted(awakeable_id)}"
        if isinstance(result, Value):
            await self._request("POST", f"{path}/resolve", self.headers, result.content)
        else:
            await self._request("POST", f"{path}/reject", self.headers, result.message.encode())

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> httpx.Response:
        """The answer, 2xx or "not ready". Raises HttpError."""
        try:
            answer = await self.client.request(method, path, headers=headers, content=body or None)
        except httpx.TransportError as e:
            raise IngressUnreachable(
                503, f"no answer from the ingress at {self.client.base_url}: {e!r}. Is it running?"
            ) from e
        if answer.status_code == NOT_READY or (answer.is_success and not _is_failure(answer)):
            return answer
        raise HttpError(answer.status_code, _message(answer), answer.text)


def _is_failure(answer: httpx.Response) -> bool:
    """A handler may fail with a 2xx code; only this header tells (ingress 13.2)."""
    return "x-restate-error-source" in answer.headers


def _message(answer: httpx.Response) -> str:
    try:
        return _read_error(answer.content).message
    except msgspec.DecodeError:
        return answer.reason_phrase


def _target_body(target: ByWorkflow | ByIdempotencyKey) -> bytes:
    """Rule: ingress 7.1."""
    fields: dict[str, Any]
    if isinstance(target, ByWorkflow):
        fields = {
            "target": "workflow",
            "workflowName": target.service,
            "workflowKey": target.key,
            "scope": target.scope,
        }
    else:
        fields = {
            "target": "idempotentInvocation",
            "service": target.service,
            "key": target.key,
            "handler": target.handler,
            "idempotencyKey": target.idempotency_key,
            "scope": target.scope,
        }
    return msgspec.json.encode({name: v for name, v in fields.items() if v is not None})


def _quoted(segment: str) -> str:
    """One path segment. httpx would resolve a segment of dots, so these are escaped too."""
    if segment in (".", ".."):
        return segment.replace(".", "%2E")
    return quote(segment, safe="")


@asynccontextmanager
async def create_client(
    ingress: str | None = None,
    headers: dict[str, str] | None = None,
    journal_value_codec: JournalValueCodec | None = None,
) -> AsyncGenerator[RestateClient, None]:
    """A client that is closed with the block. ``ingress``: by default the local one."""
    async with Client(ingress or DEFAULT_INGRESS, headers, journal_value_codec) as client:
        yield client
