"""The HTTP/1.1 transport: one exchange is one request on a connection of its own, from a bounded pool.

Everything of aiohttp that could surprise is off: redirects, cookies, decompression, proxies, caches of names.
HTTP/2 is in http2.py. Nothing here knows what the bytes mean.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from perdure.actors.remote.port import Headers, HttpRequest, Receiver, TransportFailed

log = logging.getLogger("perdure.http1")

Resolve = Callable[[str, int], Awaitable[list[tuple[str, int]]]]

LOW_WATER_BYTES: Final = 64 * 1024  # port.Receiver.on_writable
_OURS_ALONE: Final = (
    "User-Agent",
    "Accept",
    "Accept-Encoding",
    "Content-Type",
)  # aiohttp adds none
_CLOSE_TIMEOUT_S: Final = 5.0
# What aiohttp raises for a peer, an address, or a header that HTTP can't carry.
_PEER_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class Http1Options(msgspec.Struct, frozen=True, kw_only=True):
    """``connections_limit``: exchanges at once; others wait. ``tls``: None trusts what the system trusts.

    ``keep_alive_s`` is below the 5 s after which Hypercorn and Node close: a request on a connection
    that the peer is just closing fails.
    """

    connections_limit: int = 256
    connect_timeout_s: float = 10.0
    keep_alive_s: float = 4.0
    read_buffer_bytes: int = 64 * 1024
    tls: ssl.SSLContext | None = None


class Http1Transport:
    """The way to the origin of ``uri``. ``resolve`` guards which addresses it may connect to.

    ``resolve(host, port)`` returns the allowed addresses of a host, or raises TransportFailed. The session
    is made at the first exchange, on its loop.
    """

    gates_runs = False

    def __init__(
        self, uri: str, *, resolve: Resolve | None = None, options: Http1Options | None = None
    ) -> None:
        url = URL(uri)
        if url.scheme not in ("http", "https") or not url.host or url.port is None:
            raise TransportFailed(f"expected http://HOST or https://HOST, not '{uri}'")
        self._host = url.host
        self._port = url.port
        self._origin = str(url.origin())
        self._resolve = resolve
        self._literal = _address(url.host)
        self._options = options or Http1Options()
        self._session: aiohttp.ClientSession | None = None
        self._open: dict[Http1Stream, asyncio.Task[None]] = {}
        self._is_closed = False

    def open(self, request: HttpRequest, receiver: Receiver) -> "Http1Stream":
        loop = asyncio.get_running_loop()
        stream = Http1Stream(loop, receiver)
        if self._is_closed:
            error = TransportFailed(f"the transport to {self._origin} is closed")
            loop.call_soon(stream.fail, error)
            return stream
        if self._session is None:
            self._session = self._new_session()
        task = loop.create_task(self._run(self._session, request, stream))
        stream.task = self._open[stream] = task
        return stream

    async def drained(self) -> None:
        while self._open:
            await asyncio.wait(self._open.values())

    async def close(self) -> None:
        """Abort what is open and let all connections go. Idempotent."""
        self._is_closed = True
        tasks = list(self._open.values())
        for stream in list(self._open):
            stream.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        options = self._options
        resolver = None if self._resolve is None else _Guarded(self._resolve)
        connector = aiohttp.TCPConnector(
            limit=options.connections_limit,
            keepalive_timeout=options.keep_alive_s,
            use_dns_cache=False,
            resolver=resolver,
            ssl=True if options.tls is None else options.tls,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_OURS_ALONE,
            read_bufsize=options.read_buffer_bytes,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout_s),
        )

    async def _run(
        self, session: aiohttp.ClientSession, request: HttpRequest, stream: "Http1Stream"
    ) -> None:
        stream.is_started = True
        try:
            if stream.is_over:
                return
            if self._literal is not None and self._resolve is not None:
                await self._check_literal(self._resolve)  # aiohttp asks no resolver for these
            async with session.request(
                request.method,
                URL(self._origin + request.path, encoded=True),
                headers=request.headers,
                data=stream.body(),
                allow_redirects=False,
            ) as response:
                await stream.deliver(response)
        except asyncio.CancelledError:
            stream.fail(TransportFailed(f"the exchange with {self._origin} was cancelled"))
            raise
        except TransportFailed as error:
            stream.fail(error)
        except _PEER_ERRORS as error:
            what = "broke off" if stream.has_head else "failed"
            reason = str(error) or type(error).__name__
            failed = TransportFailed(f"the exchange with {self._origin} {what}: {reason}")
            failed.__cause__ = error
            stream.fail(failed)
        finally:
            del self._open[stream]

    async def _check_literal(self, resolve: Resolve) -> None:
        allowed = await resolve(self._host, self._port)
        if not any(_address(ip) == self._literal for ip, _ in allowed):
            raise TransportFailed(f"connecting to {self._host} is not allowed")


class Http1Stream:
    """One request and its response (``port.Stream``)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receiver: Receiver) -> None:
        self.task: asyncio.Task[None] | None = None
        self.is_started = False
        self.is_over = False  # the receiver hears nothing any more
        self.has_head = False
        self._loop = loop
        self._receiver = receiver
        self._parts: list[bytes] = []
        self._buffered_bytes = 0
        self._is_closed = False  # no more input comes
        self._more: asyncio.Future[None] | None = None  # the request body waits
        self._resumed: asyncio.Event | None = None  # the response waits, while there is one

    @property
    def buffered_bytes(self) -> int:
        return self._buffered_bytes

    def write(self, data: bytes) -> None:
        if data and not (self._is_closed or self.is_over):
            self._parts.append(data)
            self._buffered_bytes += len(data)
            self._wake()

    def close_input(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._wake()

    def pause(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.Event()

    def resume(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def open_gate(self) -> None:
        """The peer does not wait for one."""

    def abort(self) -> None:
        if self.is_over:
            return
        self._end()
        if self.is_started and self.task is not None:
            self.task.cancel()  # one that was not started would end without its clean-up

    def fail(self, error: TransportFailed) -> None:
        """End with this error. Nothing where it has ended already."""
        if not self.is_over:
            self._end()
            self._receiver.on_failed(error)

    def body(self) -> "bytes | _Body | None":
        """The request body: whole where it is complete already, which spares the peer the chunks."""
        if not self._is_closed:
            return _Body(self)
        whole = b"".join(self.take_parts())
        self._buffered_bytes = 0
        return whole or None

    async def deliver(self, response: aiohttp.ClientResponse) -> None:
        """Hand the response to the receiver, no faster than it wants it. Raises aiohttp's errors."""
        headers = _headers(response.raw_headers)
        self.has_head = True
        if not self.is_over:
            self._receiver.on_head(response.status, headers)
        content = response.content
        while not self.is_over:
            while self._resumed is not None:
                await self._resumed.wait()
            data = await content.readany()
            while self._resumed is not None:  # paused while we read: at most one buffer is kept
                await self._resumed.wait()
            if self.is_over:
                return
            if not data:
                self._end()
                self._receiver.on_end()
                return
            self._receiver.on_data(data)

    # The request body, for `_Body`.

    @property
    def has_parts(self) -> bool:
        return bool(self._parts)

    def take_parts(self) -> list[bytes]:
        parts, self._parts = self._parts, []
        return parts

    def written(self, count_bytes: int) -> None:
        """So many bytes have left."""
        was_high = self._buffered_bytes > LOW_WATER_BYTES
        self._buffered_bytes = max(0, self._buffered_bytes - count_bytes)
        if was_high and self._buffered_bytes <= LOW_WATER_BYTES and not self.is_over:
            self._receiver.on_writable()

    async def wait_for_parts(self) -> bool:
        """False where no more come."""
        while not self._parts:
            if self._is_closed or self.is_over:
                return False
            self._more = self._loop.create_future()
            await self._more
        return True

    def _wake(self) -> None:
        if self._more is not None:
            if not self._more.done():
                self._more.set_result(None)
            self._more = None

    def _end(self) -> None:
        self.is_over = True
        self._parts = []
        self._buffered_bytes = 0
        self.resume()


class _Body(AsyncIterator[bytes]):
    """The request body as aiohttp wants it: it asks for the next bytes when the last ones have left."""

    def __init__(self, stream: Http1Stream) -> None:
        self._stream = stream
        self._given_bytes = 0
        self._has_begun = False

    async def __anext__(self) -> bytes:
        self._stream.written(self._given_bytes)
        self._given_bytes = 0
        if not self._has_begun:
            self._has_begun = True
            if not self._stream.has_parts:
                return b""  # aiohttp holds the head of the request back until something is given
        if not await self._stream.wait_for_parts():
            raise StopAsyncIteration
        data = b"".join(self._stream.take_parts())
        self._given_bytes = len(data)
        return data


class _Guarded(AbstractResolver):
    """Names become the addresses that the guard allows, and no others."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolve(host, port)
        if not found:
            raise TransportFailed(f"{host} has no address that may be connected to")
        return [
            ResolveResult(
                hostname=host,
                host=ip,
                port=at,
                family=socket.AF_INET6 if ":" in ip else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for ip, at in found
        ]

    async def close(self) -> None:
        return


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _headers(raw: tuple[tuple[bytes, bytes], ...]) -> Headers:
    return tuple([(n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in raw])
