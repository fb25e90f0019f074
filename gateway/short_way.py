"""The short way through HTTP: plain requests are read by llhttp alone, everything else is aiohttp's.

A connection begins here. A GET or POST of HTTP/1.1 that comes whole, with a body of known length, is
answered without aiohttp, whose general machinery costs more than a call of a handler. At the first
bytes that are anything else, such as a chunked, large, slow or malformed request, the connection and
these bytes go to aiohttp, which keeps it from then on. So nothing that is hard about HTTP is decided
here, and both read with the same parser. A connection that begins with HTTP/2 goes to http2_way.py.
Reasons: docs/decisions/0022.
"""

import asyncio
import logging
import socket
from typing import Final

import httptools

from perdure.actors.plane.driving import Drive
from perdure.gateway.http_request import HttpRequest
from perdure.gateway.responses import Refusal
from perdure.gateway.settings import Ingress
from perdure.gateway.ways import Answer, Home, Way
from perdure.gateway.wire import Reply

_METHODS: Final = {b"GET": "GET", b"POST": "POST"}
_HTTP2: Final = b"PRI "  # how HTTP/2 without TLS begins, which is no method of HTTP/1
_ODD: Final = frozenset({"transfer-encoding", "expect", "upgrade"})
_HEAD_LIMIT_BYTES: Final = 8 * 1024
_HEADER_LIMIT: Final = 64
_FIRST_REQUEST_S: Final = 0.1  # for who connects just before the server stops
_WHOLE_LIMIT_BYTES: Final = 256 * 1024  # of one request; a larger one is not worth the short way

log = logging.getLogger("perdure.gateway.http")


class PlainRequest:
    """``http_request.HttpRequest``, all of which is there."""

    __slots__ = ("_body", "announced_bytes", "headers", "method", "raw_path")

    def __init__(self, method: str, raw_path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.raw_path = raw_path
        self.headers = headers
        self._body = body
        self.announced_bytes = len(body)

    async def body(self, limit_bytes: int) -> bytes | Refusal:
        assert len(self._body) <= limit_bytes  # as was announced
        return self._body


class Reader:
    """Reads requests one after the other; ``is_odd`` once there was something that it does not take."""

    __slots__ = (
        "_body", "_head_bytes", "_headers", "_is_whole", "_method", "_parser", "_url", "closes", "is_odd",
    )  # fmt: skip

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self.is_odd = False
        self.closes = False  # the client wants no other answer after this one
        self._begin()

    def _begin(self) -> None:
        self._method = ""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._is_whole = False

    def read(self, data: bytes) -> PlainRequest | None:
        """The request that ends with ``data``; None while it does not end, or is odd."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_odd = True
        if self.is_odd or not self._is_whole:
            return None
        path, body = self._url.decode("ascii"), b"".join(self._body)
        request = PlainRequest(self._method, path, self._headers, body)
        self._begin()
        return request

    # ---- called by the parser

    def on_message_begin(self) -> None:
        if self._is_whole:
            self.is_odd = True  # a second request in the same bytes

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        lower = name.lower().decode("ascii")
        if lower in _ODD or lower in self._headers or not value.isascii():
            self.is_odd = True
        else:
            self._headers[lower] = value.decode("ascii").strip(" \t")

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._method = _METHODS.get(parser.get_method(), "")
        if (
            not self._method
            or parser.get_http_version() != "1.1"
            or self._head_bytes > _HEAD_LIMIT_BYTES
            or len(self._headers) > _HEADER_LIMIT
            or not self._url.startswith(b"/")
            or not self._url.isascii()
            or b"#" in self._url
            or "host" not in self._headers
        ):
            self.is_odd = True
        self.closes = not parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._is_whole = True


class ShortWay(Way):
    """One connection, as long as its requests are plain."""

    __slots__ = ("_drive", "_is_full", "_is_paused", "_raw", "_reader")

    def __init__(self, home: Home, answer: Answer) -> None:
        super().__init__(home, answer)
        self._reader = Reader()
        self._raw = bytearray()  # of a request that is not whole yet, or what came behind one
        self._drive: Drive | None = None  # of the request that is being answered
        self._is_full = False  # the client does not read its answers
        self._is_paused = False  # it is not read from, as too much came behind a request

    # ---- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if (connected := transport.get_extra_info("socket")) is not None:
            # a client that vanished while it waited for days is noticed
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._drive is None and not self._is_full:
            self._read(data)
            return
        self._raw += data
        if len(self._raw) > _WHOLE_LIMIT_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._is_paused = True

    # ---- one request after the other

    def _read(self, data: bytes) -> None:
        request = self._reader.read(data)
        if request is not None:
            self._raw.clear()
            self._drive = drive = Drive(self._answer(request), None, self._done)
            drive.go_on()
            return
        self._raw += data
        if self._reader.is_odd or len(self._raw) > _WHOLE_LIMIT_BYTES:
            self._hand_over()

    def _done(self, _: None, reply: Reply | None, error: BaseException | None) -> None:
        self._drive = None
        self.served += 1
        self._idle_since_s = self._loop.time()
        self._has_answered()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if reply is None:
            log.error("a request failed inside the gateway", exc_info=error)
            transport.abort()
            return
        if self._reader.closes or self._home.is_draining:
            reply.force_close()
        reply.write_to(transport)
        if reply.keep_alive:
            self._go_on()
        else:
            transport.close()

    def _go_on(self) -> None:
        """With what came behind the last request."""
        transport = self._transport
        if self._drive is not None or self._is_full or transport is None or transport.is_closing():
            return
        if self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        if self._raw:
            data = bytes(self._raw)
            self._raw.clear()
            self._read(data)

    def _hand_over(self) -> None:
        """To aiohttp or to HTTP/2, with all that they have not seen; for good."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        self._home.went(self)
        is_http2 = not self.served and self._raw.startswith(_HTTP2)
        connection = self._home.http2_way() if is_http2 else self._home.long_way()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.data_received(bytes(self._raw))

    # ---- from the server

    @property
    def active(self) -> bool:
        return self._drive is not None

    @property
    def is_within(self) -> bool:
        """Whether half a request is there."""
        return bool(self._raw) and not self.active

    def sweep(self, now: float, settings: Ingress) -> None:
        """Half a request is for the long way, which has deadlines for it."""
        if self.active or self._is_full:
            return
        timeout_ms = settings.idle_timeout_ms if self.served else settings.header_timeout_ms
        if self.is_within:
            self._hand_over()
        elif now - self._idle_since_s > timeout_ms / 1000:
            self.close()

    def close(self) -> None:
        if self._drive is None and self._transport is not None:
            self._transport.close()

    def leave(self) -> None:
        if self.served:  # else its first request may be on its way: see shutdown
            self.close()

    def give_up(self) -> None:
        if self._drive is not None:
            self._drive.close()
            self._drive = None

    async def shutdown(self, timeout_s: float) -> None:
        end_s = self._loop.time() + timeout_s
        if not self.served and not self.active:
            self._over = self._loop.create_future()
            await asyncio.wait([self._over], timeout=min(_FIRST_REQUEST_S, timeout_s))
        await self._wait_for_answers(end_s - self._loop.time())
        self.give_up()
        self.close()
        await self._wait_until_gone(end_s - self._loop.time())


class AnyWay(ShortWay):
    """One for a server that aiohttp is all of, but for HTTP/2: it waits for the first bytes."""

    __slots__ = ()

    def __init__(self, home: Home) -> None:
        super().__init__(home, _unanswered)

    def _read(self, data: bytes) -> None:
        self._raw += data
        first = bytes(self._raw[: len(_HTTP2)])
        if first == _HTTP2 or not _HTTP2.startswith(first):
            self._hand_over()


async def _unanswered(request: HttpRequest) -> Reply:
    raise AssertionError("it takes no request itself")
