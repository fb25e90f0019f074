"""Requests that aiohttp reads, for ingress and admin: their bodies up to a limit, never decompressed."""

from typing import Final, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from perdure.gateway.connections import Connection
from perdure.gateway.responses import TOO_LARGE, Refusal

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_body(request: web.BaseRequest, limit_bytes: int) -> bytes | Refusal:
    """The whole body. Raises ConnectionError when the client goes away first."""
    payload = request.content
    try:
        if payload.is_eof():
            body = payload.read_nowait()
            return body if len(body) <= limit_bytes else TOO_LARGE
        return await _read_slowly(request, limit_bytes)
    except web.RequestPayloadError as e:
        return Refusal(500, f"cannot read body: {e}")


async def _read_slowly(request: web.BaseRequest, limit_bytes: int) -> bytes | Refusal:
    """A body that is still on its way."""
    transport = request.transport
    expect = request.headers.get(hdrs.EXPECT)
    if expect is not None and request.version == HttpVersion11 and transport is not None:
        if expect.lower() != "100-continue":
            return Refusal(417, f"cannot meet the expectation '{expect}', only 100-continue")
        transport.write(_CONTINUE)
    payload = request.content
    connection = cast(Connection, request.protocol)
    connection.body = payload
    try:
        chunks: list[bytes] = []
        size = 0
        while chunk := await payload.readany():
            size += len(chunk)
            if size > limit_bytes:
                return TOO_LARGE
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        connection.body = None


class WebRequest:
    """A request of any shape, read by aiohttp."""

    __slots__ = ("_request", "headers", "method", "raw_path")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.method = request.method
        self.raw_path = request.raw_path
        self.headers: dict[str, str] = {}
        for name, value in request.headers.items():
            self.headers.setdefault(name.lower(), value)

    @property
    def announced_bytes(self) -> int:
        payload = self._request.content
        if payload.is_eof() and not payload.total_bytes:
            return 0  # the common case, without a look at the headers
        return self._request.content_length or 0

    async def body(self, limit_bytes: int) -> bytes | Refusal:
        return await read_body(self._request, limit_bytes)
