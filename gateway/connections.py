"""Connections that cannot be held open for nothing: deadlines and limits around aiohttp's own.

aiohttp closes idle kept-alive connections; here are heads that trickle in, bodies that stall,
chunk extensions without end, answers that nobody reads, and too many connections. Source: reliability
F13, S7, S8, S10.
A sweep looks at all connections about once a second, so that a request pays for no timer.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from perdure.gateway.responses import Refusal, refusal_body
from perdure.gateway.settings import Ingress
from perdure.gateway.short_way import AnyWay, ShortWay
from perdure.gateway.ways import GIVE_UP_S, Answer, Way
from perdure.gateway.wire import JSON, Reply

_SWEEP_INTERVAL_S: Final = 1.0
_BODY_GRACE_S: Final = 10.0  # before the rate of a body is looked at
_CHUNK_OVERHEAD_BYTES: Final = 64 * 1024
_CHUNK_OVERHEAD_FACTOR: Final = 8  # a body of one-byte chunks has six bytes around each
# A key of 4 KiB may have three bytes for each of its own, percent-encoded.
_HEAD_LINE_LIMIT_BYTES: Final = 16 * 1024
_LINGERING_S: Final = 2.0  # how long the rest of a refused body is read, so that the answer arrives

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: 0\r\n\r\n"
)

RequestHandler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logging.getLogger("perdure.gateway.http")


class Connection(web.RequestHandler):
    """One connection. ``active`` while a handler has a request of it, ``body`` while it reads one."""

    __slots__ = (
        "_body_since", "_body_start", "_head_since", "_sweep_received", "active", "body", "peer",
        "received", "served", "task",
    )  # fmt: skip

    def __init__(self, server: "Server", **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self.active = False
        self.served = 0
        self.received = 0
        self.peer = ""
        self.body: StreamReader | None = None
        self.task: asyncio.Task[None] | None = None  # that answers
        self._sweep_received = -1
        self._body_start = 0
        self._body_since: float | None = None
        self._head_since: float | None = None

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)
        body = self.body
        if body is not None:
            if self._messages and not body.is_eof():
                # Behind half a body only aiohttp's note of malformed HTTP can be queued, and nobody
                # else would tell the reader that the rest does not come. Not at once: a reader that
                # this data has already woken looks for an exception only when it waits anew.
                broken = web.RequestPayloadError("malformed chunk")
                asyncio.get_running_loop().call_soon(body.set_exception, broken)
            self._check_overhead(body)

    def _check_overhead(self, body: StreamReader) -> None:
        if self._body_since is None:
            self._body_start, self._body_since = self.received, asyncio.get_running_loop().time()
        allowed = _CHUNK_OVERHEAD_BYTES + _CHUNK_OVERHEAD_FACTOR * body.total_bytes
        if self.received - self._body_start > allowed:
            log.info("closing a connection whose body consists of chunk headers")
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP is answered as JSON and logged without a traceback; it is not our bug."""
        if isinstance(exc, HttpProcessingError):
            log.debug("refused a malformed request: %s", exc.message)
            refusal = Refusal(status, f"malformed HTTP request: {exc.message}")
        else:
            log.error("a request failed inside the gateway", exc_info=exc)
            refusal = Refusal(status, "internal error, the server's log has the details")
        return Reply(refusal.status, JSON, refusal_body(refusal), close=True)

    def sweep(self, now: float, settings: Ingress) -> None:
        """Close the connection if it has used up its time. Called about once a second."""
        if self.active:
            self._head_since = None
            if self.body is None:
                self._body_since = None
            elif self._is_stalled(now, settings.body_rate_floor_bytes):
                log.info("closing a connection whose body stalls")
                self.force_close()
            return
        if self.received == self._sweep_received and self.served:
            return  # idle: aiohttp's keep-alive timer has it, unless a head has begun
        if self._head_since is None:
            self._head_since = now
        if now - self._head_since > settings.header_timeout_ms / 1000:
            log.info("closing a connection that did not send a whole request head in time")
            self.force_close()

    def _is_stalled(self, now: float, floor_bytes: int) -> bool:
        if self._body_since is None:
            self._body_start, self._body_since = self.received, now
        elapsed_s = now - self._body_since
        return elapsed_s > _BODY_GRACE_S and (
            self.received - self._body_start < floor_bytes * elapsed_s
        )

    @property
    def unread_bytes(self) -> int:
        transport = cast("asyncio.WriteTransport | None", self.transport)
        return 0 if transport is None else transport.get_write_buffer_size()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def give_up(self) -> None:
        """Stop waiting for what nobody wants to hear."""
        if self.task is not None:
            self.task.cancel()

    def request_done(self) -> None:
        """The head that begins next has its full time."""
        self.active, self.task = False, None
        self.served += 1
        self._head_since = None
        self._body_since = None
        self._sweep_received = self.received


class Server(web.Server):
    """aiohttp's low-level server with our connections, their limits and their sweep.

    ``answer``: for requests that may go the short way (short_way.py); None: all go the long one.
    """

    def __init__(
        self, handler: RequestHandler, settings: Ingress, answer: Answer | None = None
    ) -> None:
        super().__init__(self._entered(handler))
        self._settings = settings
        self._answer = answer
        self._own: set[Way] = set()  # those that are not aiohttp's
        self._unread: dict[Connection | Way, tuple[int, float]] = {}  # bytes, and since when
        self._left: dict[Connection | Way, float] = {}  # lost while they answered, and when
        self._peers: Counter[str] = Counter()
        self._count = 0
        self.is_draining = False  # every answer asks its client to connect anew
        self._sweeper: asyncio.Task[None] | None = None

    def _entered(self, handler: RequestHandler) -> RequestHandler:
        async def enter(request: web.BaseRequest) -> web.StreamResponse:
            connection = cast(Connection, request.protocol)
            connection.active = True
            connection.task = asyncio.current_task()
            try:
                response = await handler(request)
            finally:
                connection.request_done()
            if self.is_draining or "upgrade" in request.headers:
                response.force_close()  # what comes behind an upgrade is not read as HTTP/1.1
            return response

        return enter

    def __call__(self) -> web.RequestHandler:
        way = AnyWay(self) if self._answer is None else ShortWay(self, self._answer)
        return cast(web.RequestHandler, way)

    def long_way(self) -> "Connection":
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,  # a bomb stays as small as it came
            max_line_size=_HEAD_LINE_LIMIT_BYTES,
            keepalive_timeout=self._settings.idle_timeout_ms / 1000,
            lingering_time=_LINGERING_S,
            logger=log,
        )

    def http2_way(self) -> asyncio.Protocol:
        # Few connections need it, and h2 with it.
        from perdure.gateway.http2_way import Http2Way
        from perdure.gateway.relay import Relay

        answer = self._answer
        if answer is None:
            answer = Relay(self.long_way, self._settings.request_size_limit_bytes).answer
        return Http2Way(self, answer, self._settings)

    # ---- who is connected

    @property
    def everyone(self) -> "list[Connection | Way]":
        return [*cast("list[Connection]", self.connections), *self._own]

    def came(self, connection: Way, transport: asyncio.Transport) -> None:
        self._own.add(connection)
        if not self._count_in(connection, transport):
            transport.close()

    def went(self, connection: Way) -> None:
        self._own.discard(connection)
        self._count_out(connection)
        self._leave_behind(connection)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if not self._count_in(cast(Connection, handler), transport):
            handler.force_close()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self._count_out(cast(Connection, handler))
        self._leave_behind(cast(Connection, handler))

    def _leave_behind(self, connection: Connection | Way) -> None:
        if connection.active:
            self._left[connection] = asyncio.get_running_loop().time()

    def _count_in(self, connection: Connection | Way, transport: asyncio.Transport) -> bool:
        """False where there are too many: it has been told so."""
        peer = connection.peer = _peer(transport)
        self._peers[peer] += 1
        self._count += 1
        if (
            self._count <= self._settings.connections_limit
            and self._peers[peer] <= self._settings.connections_per_peer_limit
        ):
            return True
        log.warning("refused a connection of %s: the limit is reached", peer)
        transport.write(_FULL)
        return False

    def _count_out(self, connection: Connection | Way) -> None:
        peer = connection.peer
        self._peers[peer] -= 1
        self._count -= 1
        if self._peers[peer] <= 0:
            del self._peers[peer]

    # ---- time

    def pre_shutdown(self) -> None:
        super().pre_shutdown()
        for connection in list(self._own):
            connection.leave()

    async def shutdown(self, timeout: float | None = None) -> None:
        # aiohttp waits twice: for the handler, then for the connection
        own = (each.shutdown(2 * (timeout or 0.0)) for each in list(self._own))
        await asyncio.gather(super().shutdown(timeout), *own)

    def start_sweeping(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep(), name="perdure connection sweep")

    async def stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            self.sweep(loop.time())

    def sweep(self, now: float) -> None:
        """Look at all connections."""
        for connection, since_s in list(self._left.items()):
            if not connection.active or now - since_s > GIVE_UP_S:
                del self._left[connection]
                connection.give_up()
        timeout_s = self._settings.idle_timeout_ms / 1000
        before, self._unread = self._unread, {}
        for connection in self.everyone:
            size_bytes = connection.unread_bytes
            if size_bytes:
                seen_bytes, since = before.get(connection, (0, now))
                if size_bytes != seen_bytes:
                    since = now  # it takes some, or there is more
                elif now - since > timeout_s:
                    log.info("cutting a connection whose client does not read its answers")
                    connection.abort()
                    continue
                self._unread[connection] = size_bytes, since
            connection.sweep(now, self._settings)


def _peer(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else "local"
