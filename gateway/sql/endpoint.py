"""`POST /query`: who asks for what encoding, statuses, streaming. Rules: introspection 1 and 4."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, cast

import msgspec
from aiohttp import hdrs, web

from perdure.gateway.admin_answers import json_answer, json_of
from perdure.gateway.sql.failures import QueryRefused
from perdure.gateway.sql.workers import Workers

_JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
_WHOLE_BYTES: Final = 256 << 10  # an answer up to this size is sent in one piece
_NO_ENGINE: Final = "Query service not available"
_RETRY_AFTER_S: Final = "1"


class QueryBody(msgspec.Struct, frozen=True):
    """``query``: one SQL statement."""

    query: str


class QueryRows(msgspec.Struct, frozen=True):
    """Each row by column name, in the order of the columns; what is NULL is left out."""

    rows: list[dict[str, object]]


class QueryEndpoint:
    """``workers``: None where there is no engine to ask."""

    def __init__(self, workers: Workers | None, size_limit_bytes: int) -> None:
        self._workers = workers
        self._size_limit_bytes = size_limit_bytes

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await json_of(request, self._size_limit_bytes, QueryBody)
        if isinstance(body, web.Response):
            return body
        if self._workers is None:
            return json_answer({"message": _NO_ENGINE}, 503)
        as_json = request.headers.get(hdrs.ACCEPT) == _JSON
        pieces = cast(AsyncGenerator[bytes, None], self._workers.run(body.query, as_json))
        async with aclosing(pieces):
            return await _answer(request, pieces, _JSON if as_json else ARROW)


async def _answer(
    request: web.BaseRequest, pieces: AsyncGenerator[bytes, None], content_type: str
) -> web.StreamResponse:
    """What fails before the first bytes leave has a status of its own; later, the answer is cut."""
    begun = bytearray()
    try:
        async for piece in pieces:
            begun += piece
            if len(begun) > _WHOLE_BYTES:
                break
        else:
            return web.Response(body=bytes(begun), content_type=content_type)
    except QueryRefused as e:
        return _refusal(e)
    response = web.StreamResponse()
    response.content_type = content_type
    response.enable_compression()
    await response.prepare(request)
    try:
        await response.write(bytes(begun))
        async for piece in pieces:
            await response.write(piece)
    except BaseException as e:
        if request.transport is not None:
            request.transport.abort()
        if isinstance(e, QueryRefused):
            return response
        raise
    await response.write_eof()
    return response


def _refusal(refused: QueryRefused) -> web.Response:
    response = json_answer({"message": refused.message}, refused.status)
    if refused.status == 429:
        response.headers[hdrs.RETRY_AFTER] = _RETRY_AFTER_S
    return response
