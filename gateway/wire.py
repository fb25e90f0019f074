"""One answer as one block of bytes: what the ingress sends instead of aiohttp's general response.

Knows HTTP framing and CORS headers, nothing of invocations. Reads the clock for the `date` header.
Rules: ingress 12.3 and 14.
"""

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11

from perdure.gateway.http_request import HttpRequest

JSON: Final = b"content-type: application/json\r\n"
_CORS: Final = (
    b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
    b"access-control-allow-credentials: true\r\n"
)
_ECHOED: Final = (
    ("access-control-request-method", b"access-control-allow-methods: "),
    ("access-control-request-headers", b"access-control-allow-headers: "),
)
_LARGE_BODY_BYTES = 64 * 1024  # past it, copying the body costs more than a second write
_BODILESS: Final = frozenset({204, 304})

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {
    code: f"HTTP/1.1 {code} {_REASONS.get(code, '')}\r\n".encode() for code in range(200, 1000)
}
_OK_LINE: Final = _STATUS_LINES[200]


class Cors:
    """Which origins may read answers in a browser; `*` reflects any."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)

    def lines(self, request: HttpRequest) -> bytes:
        """The header lines that every answer carries."""
        origin = request.headers.get("origin")
        if origin is None or not (self._any or origin in self._origins):
            return _CORS
        return _CORS + b"access-control-allow-origin: " + _safe(origin) + b"\r\n"

    def preflight(self, request: HttpRequest) -> "Reply":
        """The answer to any OPTIONS request: what it asks for is echoed."""
        lines = self.lines(request)
        if self._any or request.headers.get("origin") in self._origins:
            for asked, line in _ECHOED:
                value = request.headers.get(asked)
                if value is not None:
                    lines += line + _safe(value) + b"\r\n"
        return Reply(200, lines, b"")


class Reply(web.StreamResponse):
    """A complete answer. ``lines``: header lines, each with its line end; length and date are added.

    The base class is only the type that aiohttp wants: nothing of its state is used or set up.
    """

    def __init__(self, status: int, lines: bytes, body: bytes, close: bool = False) -> None:
        self._code = status
        self._lines = lines
        self._content = body
        self._closes = close

    @property
    def status(self) -> int:
        return self._code

    @property
    def keep_alive(self) -> bool:
        return not self._closes

    def force_close(self) -> None:
        self._closes = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        parts = self._parts()
        if request.method == "HEAD":
            parts[-1] = b""
        if self._closes or not request.keep_alive or request.version != HttpVersion11:
            self._adapt(request, parts)
        _write(transport, parts)
        if request.protocol.writing_paused:
            await request.writer.drain()
        return None

    @property
    def content(self) -> bytes:
        return b"" if self._code in _BODILESS else self._content

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Its head, for HTTP/2."""
        fields = [(b":status", b"%d" % self._code)]
        for line in (self._lines + _date_line()).splitlines():
            name, _, value = line.partition(b": ")
            fields.append((name, value))
        if self._code not in _BODILESS:
            fields.append((b"content-length", b"%d" % len(self._content)))
        return fields

    def write_to(self, transport: asyncio.WriteTransport) -> None:
        """To a GET or POST of HTTP/1.1."""
        parts = self._parts()
        if self._closes:
            parts[0] += b"connection: close\r\n"
        _write(transport, parts)

    def _parts(self) -> list[bytes]:
        """Status line first, body last."""
        body, code = self._content, self._code
        if code in _BODILESS:
            return [_STATUS_LINES[code], self._lines, _date_line(), b"\r\n", b""]
        return [
            _OK_LINE if code == 200 else _STATUS_LINES[code],
            self._lines,
            _date_line(),
            b"content-length: %d\r\n\r\n" % len(body),
            body,
        ]

    def _adapt(self, request: web.BaseRequest, parts: list[bytes]) -> None:
        """Connections that close, and HTTP/1.0, which gets an answer in its own version."""
        if request.version != HttpVersion11:
            parts[0] = parts[0].replace(b"HTTP/1.1", b"HTTP/1.0", 1)
            if request.keep_alive and not self._closes:
                parts[0] += b"connection: keep-alive\r\n"
        if not request.keep_alive:
            self._closes = True
        if self._closes:
            parts[0] += b"connection: close\r\n"

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything was written by ``prepare``."""


def _write(transport: asyncio.WriteTransport, parts: list[bytes]) -> None:
    if len(parts[-1]) > _LARGE_BODY_BYTES:
        transport.writelines(parts)
    else:
        transport.write(b"".join(parts))


def header_line(name: bytes, value: str) -> bytes:
    return name + b": " + _safe(value) + b"\r\n"


def _safe(value: str) -> bytes:
    """A header value without anything that could end its line."""
    if not value.isprintable():
        value = "".join(c if c.isprintable() else " " for c in value)
    return value.encode("utf-8", "replace")


_date: tuple[int, bytes] = (0, b"")


def _date_line() -> bytes:
    global _date
    now_s = int(time.time())
    if _date[0] != now_s:
        _date = (now_s, b"date: " + formatdate(now_s, usegmt=True).encode() + b"\r\n")
    return _date[1]
