"""The connections to one origin: made on demand, filled one after the other, let go when idle.

Streams beyond the room there is wait here in order; how many attempts there are at once is limited by who
opens them. What happens on a connection is http2.py's business.
"""

import asyncio
import ssl
from collections import OrderedDict

from perdure.actors.remote.http2 import Http2Connection
from perdure.actors.remote.http2_headers import HeadEncoder, MalformedHead
from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.http2_stream import Http2Stream
from perdure.actors.remote.origin import Resolve, origin_of, resolve_freely
from perdure.actors.remote.port import Http1Only, HttpRequest, Receiver, TransportFailed

_DEFAULT_OPTIONS = Http2Options()


class Http2Transport:
    """The ``Transport`` to the origin of ``uri``: prior knowledge for http, ALPN for https.

    ``resolve`` decides which addresses may be connected to; they are tried in its order. ``tls`` is used
    as it is, apart from the ALPN protocols, which are set here.
    """

    gates_runs = False

    def __init__(
        self,
        uri: str,
        *,
        options: Http2Options = _DEFAULT_OPTIONS,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin_of(uri)
        self._options = options
        self._resolve = resolve or resolve_freely
        self._tls = tls
        self._connections: list[Http2Connection] = []  # ready, and perhaps retiring
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: OrderedDict[Http2Stream, None] = OrderedDict()
        self._closed = False
        self._changed = asyncio.Event()  # perhaps nothing is open any more
        self._room = options.max_streams  # of a connection, as the last one had it

    def open(self, request: HttpRequest, receiver: Receiver) -> Http2Stream:
        loop = asyncio.get_running_loop()
        stream = Http2Stream(request, receiver, self, loop)
        if self._closed:
            error = TransportFailed(f"{self._origin.uri}: the transport is closed")
            loop.call_soon(stream.fail, error)
            return stream
        if not self._waiting:
            for connection in self._connections:
                if connection.capacity > 0:
                    self._begin(connection, stream)
                    return stream
        self._waiting[stream] = None
        self._connect_if_needed(loop)
        return stream

    async def drained(self) -> None:
        while self._waiting or not all(each.is_idle for each in self._connections):
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        self._closed = True
        for stream in tuple(self._waiting):
            stream.abort()
        connecting = tuple(self._connecting)
        for task in connecting:
            task.cancel()
        connections = tuple(self._connections)
        for connection in connections:
            connection.close()
        await asyncio.gather(*connecting, return_exceptions=True)
        await asyncio.gather(*(connection.gone for connection in connections))

    # ---- Home, for waiting streams -------------------------------------------------------------

    def wrote(self, stream: Http2Stream) -> None:
        """It leaves when the stream has a connection."""

    def delivered(self, stream: Http2Stream, size: int) -> None:
        """A waiting stream has nothing to deliver."""

    def dropped(self, stream: Http2Stream) -> None:
        self._waiting.pop(stream, None)
        self._changed.set()

    # ---- Owner, for connections ----------------------------------------------------------------

    def freed(self, connection: Http2Connection) -> None:
        self._changed.set()
        if not self._waiting or self._closed:
            return
        while self._waiting and connection.capacity > 0:
            stream, _ = self._waiting.popitem(last=False)
            self._begin(connection, stream)
        self._room = max(1, connection.stream_limit)
        self._connect_if_needed(asyncio.get_running_loop())

    def lost(self, connection: Http2Connection) -> None:
        if connection not in self._connections:
            return  # it was still being made; that task tells why it failed
        self._connections.remove(connection)
        self._changed.set()
        if connection.was_used:
            self._connect_if_needed(asyncio.get_running_loop())
        elif connection.error is not None:
            self._fail_unless_hope(connection.error)  # another one would do no better

    # ---- inside --------------------------------------------------------------------------------

    def _begin(self, connection: Http2Connection, stream: Http2Stream) -> None:
        try:
            connection.begin(stream)
        except MalformedHead as error:
            failure = TransportFailed(f"{self._origin.uri}: {error}")
            asyncio.get_running_loop().call_soon(stream.fail, failure)

    def _connect_if_needed(self, loop: asyncio.AbstractEventLoop) -> None:
        """One connection being made for each full load of waiting streams, up to the limit."""
        if self._closed:
            return
        usable = sum(not connection.retiring for connection in self._connections)
        connecting = len(self._connecting)
        while (
            len(self._waiting) > connecting * self._room
            and usable + connecting < self._options.max_connections
        ):
            task = loop.create_task(self._connect())
            self._connecting.add(task)
            connecting += 1

    async def _connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        failure: TransportFailed | None = None
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                connection = await self._connect_to_any(loop)
        except TransportFailed as error:
            failure = error
        except TimeoutError:
            span = self._options.connect_timeout_s
            failure = TransportFailed(f"{self._origin.uri}: no connection within {span:g} seconds")
        except Exception as error:  # the resolver is not ours; whoever waits must hear of it
            failure = TransportFailed(f"{self._origin.uri}: cannot connect: {error!r}")
            failure.__cause__ = error
        finally:
            self._connecting.discard(task)
        if failure is None:
            self._connections.append(connection)
            self.freed(connection)
        else:
            self._fail_unless_hope(failure)

    async def _connect_to_any(self, loop: asyncio.AbstractEventLoop) -> Http2Connection:
        """The first address that answers; each gets its share of the time that is left."""
        origin = self._origin
        until = loop.time() + self._options.connect_timeout_s
        try:
            addresses = await self._resolve(origin.host, origin.port)
        except (OSError, UnicodeError) as error:
            raise TransportFailed(f"{origin.uri}: cannot resolve {origin.host}: {error}") from error
        problem: Exception | None = None
        for index, (address, port) in enumerate(addresses):
            share = (until - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(share):
                    return await self._connect_to(loop, address, port)
            except TimeoutError as error:
                problem = error
                text = f"{address} port {port} has not answered within {share:.3g} seconds"
            except OSError as error:
                problem = error
                text = f"cannot connect to {address} port {port}: {error}"
            except TransportFailed as error:
                problem = error
                text = str(error).removeprefix(f"{origin.uri}: ")
        if problem is None:
            raise TransportFailed(f"{origin.uri}: {origin.host} has no address")
        raise TransportFailed(f"{origin.uri}: {text}") from problem

    async def _connect_to(
        self, loop: asyncio.AbstractEventLoop, address: str, port: int
    ) -> Http2Connection:
        origin = self._origin
        encoder = HeadEncoder(origin.scheme, origin.authority)
        connection = Http2Connection(origin.uri, encoder, self, self._options, loop)
        tls = self._tls_context() if origin.scheme == "https" else None
        transport, _ = await loop.create_connection(
            lambda: connection,
            address,
            port,
            ssl=tls,
            server_hostname=origin.host if tls else None,
        )
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            transport.abort()
            raise Http1Only(
                f"{origin.uri}: it does not offer HTTP/2 in TLS (ALPN); register the deployment with "
                f"use_http_11"
            )
        try:
            await connection.ready
        except BaseException:
            transport.abort()
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        # HTTP/1.1 is offered so that a server without HTTP/2 says so, instead of just hanging up.
        self._tls.set_alpn_protocols(["h2", "http/1.1"])
        return self._tls

    def _fail_unless_hope(self, error: TransportFailed) -> None:
        """Fail what waits, unless there is another connection or one is being made."""
        if self._connecting or any(not each.retiring for each in self._connections):
            return
        waiting = tuple(self._waiting)
        self._waiting.clear()
        self._changed.set()
        for stream in waiting:
            stream.fail(error)
