"""Invoking a handler from the console: in process, by the rules of the ingress.

A page is another origin than the ingress, so it asks here. A call that lasts longer than a page wants
to wait is not lost: the answer says so and names the invocation.
"""

import asyncio
import base64
import binascii
from typing import Any, Final

import msgspec
from aiohttp import web

from perdure.gateway.admin_answers import error, json_answer, misshapen, no_service
from perdure.gateway.console import shapes
from perdure.gateway.content import input_error
from perdure.journal.ids import parse_invocation_id
from perdure.journal.requests import Invoke, Runtime
from perdure.journal.schema import Handler, HandlerType

_WAIT_S: Final = 10.0
_SHOWN_BYTES: Final = 1 << 20
_LONGEST_DELAY_MS: Final = 100 * 365 * 86_400_000


class Asked(msgspec.Struct, frozen=True):
    """``send``: do not wait for the end. ``body`` is text, ``base64`` anything; one of the two."""

    service: str
    handler: str
    key: str | None = None
    body: str | None = None
    base64: str | None = None
    content_type: str = "application/json"
    idempotency_key: str | None = None
    send: bool = False
    delay_ms: int | None = None


decode: Final = msgspec.json.Decoder(Asked).decode


async def invoke(runtime: Runtime, asked: Asked) -> web.Response:
    service = runtime.services().get(asked.service)
    if service is None:
        return no_service(asked.service)
    handler = service.handlers.get(asked.handler)
    if handler is None:
        return error(404, f"The service '{service.name}' has no handler '{asked.handler}'")
    if not handler.public:
        return error(400, f"{service.name}/{handler.name} is private: only handlers may call it")
    try:
        body = _body(asked)
    except (binascii.Error, ValueError) as e:
        return misshapen(f"'base64' is not base64: {e}")
    content_type = asked.content_type if body else None
    refused = _refuse(asked, handler) or input_error(handler.input_rules, content_type, body)
    if refused is not None:
        return error(400, refused)
    headers = {"x-restate-ingress-path": _path(asked)}
    if content_type is not None:
        headers["content-type"] = content_type
    key = (asked.key or "") if handler.keyed else None
    invoke = Invoke(
        handler, key, body, tuple(headers.items()), asked.idempotency_key or None, asked.delay_ms
    )
    if asked.send or asked.delay_ms is not None:
        accepted = await runtime.send(invoke)
        return json_answer({"id": accepted.invocation_id, "is_new": accepted.is_new})
    return await _call(runtime, invoke)


async def _call(runtime: Runtime, invoke: Invoke) -> web.Response:
    """The id is drawn first, so that it can be named while the call goes on."""
    id = runtime.new_id(invoke)
    invoke = msgspec.structs.replace(invoke, id=parse_invocation_id(id))
    try:
        async with asyncio.timeout(_WAIT_S):
            answer = await runtime.call(invoke)
    except TimeoutError:
        return json_answer({"id": id, "goes_on": True})
    shown = shapes.outcome(answer.result)
    if "value" in shown:
        content: Any = answer.result
        shown = {"value": shapes.payload(content.content, _SHOWN_BYTES)}
    return json_answer({"id": answer.invocation_id, **shown})


def _body(asked: Asked) -> bytes:
    if asked.base64 is not None:
        return base64.b64decode(asked.base64, validate=True)
    return (asked.body or "").encode()


def _refuse(asked: Asked, handler: Handler) -> str | None:
    if handler.keyed and asked.key is None:
        return f"{handler.service} is keyed: say which key"
    if asked.idempotency_key and handler.type is HandlerType.WORKFLOW:
        return "a workflow's run has its key, and takes no idempotency key"
    if asked.delay_ms is not None and not 0 <= asked.delay_ms <= _LONGEST_DELAY_MS:
        return "the delay must be between 0 and a hundred years"
    return None


def _path(asked: Asked) -> str:
    middle = "" if asked.key is None else f"{asked.key}/"
    return f"/{asked.service}/{middle}{asked.handler}"


def merged(
    state: dict[str, bytes], change: dict[str, bytes], removed: list[str]
) -> dict[str, bytes]:
    """The state with these values set and these names gone."""
    return {name: value for name, value in (state | change).items() if name not in removed}
