"""What the HTTP/2 tests need: a receiver that remembers, a real server, and peers that misbehave."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.settings import SettingCodes, Settings
from hypercorn.asyncio import serve
from hypercorn.config import Config

from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.http2_pool import Http2Transport
from perdure.actors.remote.port import Headers, HttpRequest, TransportFailed

TIME_LIMIT_S = 10.0


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run ``scenario``; afterwards no task is left and nothing was reported to the loop."""

    async def bounded() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        await asyncio.wait_for(_awaited(scenario), TIME_LIMIT_S)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left
        assert reports == []

    asyncio.run(bounded())


async def _awaited(scenario: Callable[[], Awaitable[None]]) -> None:
    await scenario()


def request(path: str = "/echo", method: str = "POST", headers: Headers = ()) -> HttpRequest:
    return HttpRequest(method, path, headers)


class Ear:
    """A receiver that remembers what it heard and lets tests wait for it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.ended = False
        self.failure: TransportFailed | None = None
        self.writable_count = 0
        self.calls: list[str] = []
        self._changed = asyncio.Event()

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = dict(headers)
        self._note("head")

    def on_data(self, data: bytes) -> None:
        self.body += data
        self._note("data")

    def on_end(self) -> None:
        self.ended = True
        self._note("end")

    def on_failed(self, error: TransportFailed) -> None:
        self.failure = error
        self._note("failed")

    def on_writable(self) -> None:
        self.writable_count += 1
        self._note("writable")

    def _note(self, call: str) -> None:
        if self.calls[-1:] != [call]:
            self.calls.append(call)
        self._changed.set()

    async def until(self, fact: Callable[["Ear"], bool]) -> None:
        while not fact(self):
            self._changed.clear()
            await self._changed.wait()

    async def over(self) -> None:
        """Until the end, or the failure."""
        await self.until(lambda ear: ear.ended or ear.failure is not None)

    async def failed(self) -> str:
        await self.over()
        assert self.failure is not None
        return str(self.failure)


@contextlib.asynccontextmanager
async def transport_to(
    port: int, scheme: str = "http", host: str = "127.0.0.1", **arguments: Any
) -> AsyncIterator[Http2Transport]:
    transport = Http2Transport(f"{scheme}://{host}:{port}", **arguments)
    try:
        yield transport
    finally:
        await transport.close()


@contextlib.asynccontextmanager
async def hypercorn(
    app: Any, certificate: tuple[str, str] | None = None, alpn: list[str] | None = None
) -> AsyncIterator[int]:
    """The real server around ``app`` on a free port; ``certificate`` is (certificate file, key file)."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 1
    config.errorlog = None
    if certificate is not None:
        config.certfile, config.keyfile = certificate
    if alpn is not None:
        config.alpn_protocols = alpn
    stop = asyncio.Event()
    task = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield port
    finally:
        stop.set()
        await task


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends each piece of the request's body back as soon as it comes."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"x-path", scope["raw_path"]), (b"x-scheme", scope["scheme"].encode())]
    headers += [(b"x-was-" + name, value) for name, value in scope["headers"]]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Peer(asyncio.Protocol):
    """An h2 server whose every move a test decides; ``events`` is what it has heard."""

    def __init__(self, peers: "Peers") -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.events: list[Event] = []
        self.received = b""
        self.lost = asyncio.Event()
        self._peers = peers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent
        self._peers.connections.append(self)
        if self._peers.greets:
            self.h2.local_settings = Settings(client=False, initial_values=self._peers.settings)
            self.h2.initiate_connection()
            self.flush()
        self._peers.changed.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._peers.greets and not self._peers.deaf:
            for event in self.h2.receive_data(data):
                self.events.append(event)
                if self._peers.on_event is not None:
                    self._peers.on_event(self, event)
            self.flush()
        self._peers.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self._peers.changed.set()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def head(self, stream_id: int, *, end: bool = False, status: str = "200") -> None:
        self.h2.send_headers(stream_id, [(":status", status), ("x-a", "b")], end_stream=end)
        self.flush()

    def data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(stream_id, data, end_stream=end)
        self.flush()

    def raw(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        header = (
            len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
        )
        self.transport.write(header + payload)

    def heard(self, kind: type[Event], stream_id: int | None = None) -> list[Any]:
        return [
            event
            for event in self.events
            if isinstance(event, kind)
            and (stream_id is None or getattr(event, "stream_id", None) == stream_id)
        ]

    async def until(self, fact: Callable[["Peer"], bool]) -> None:
        while not fact(self):
            self._peers.changed.clear()
            await self._peers.changed.wait()


class Peers:
    """The listening side: every connection it has accepted, and how they behave."""

    def __init__(self) -> None:
        self.connections: list[Peer] = []
        self.changed = asyncio.Event()
        self.settings: dict[SettingCodes, int] = {}
        self.greets = True
        self.deaf = False
        self.on_event: Callable[[Peer, Event], None] | None = None
        self.port = 0

    async def first(self, index: int = 0) -> Peer:
        while len(self.connections) <= index:
            self.changed.clear()
            await self.changed.wait()
        return self.connections[index]

    async def heard(self, kind: type[Event], stream_id: int | None = None, index: int = 0) -> Peer:
        peer = await self.first(index)
        await peer.until(lambda peer: bool(peer.heard(kind, stream_id)))
        return peer


@contextlib.asynccontextmanager
async def peers(
    settings: dict[SettingCodes, int] | None = None, *, greets: bool = True, ssl: Any = None
) -> AsyncIterator[Peers]:
    """A listener for ``Peer`` connections; in the end all of its sockets are gone."""
    listening = Peers()
    listening.settings = settings or {}
    listening.greets = greets
    server = await asyncio.get_running_loop().create_server(
        lambda: Peer(listening), "127.0.0.1", 0, ssl=ssl
    )
    listening.port = server.sockets[0].getsockname()[1]
    try:
        yield listening
    finally:
        server.close()
        for connection in listening.connections:
            if not connection.lost.is_set():
                connection.transport.abort()
                await connection.lost.wait()
        await server.wait_closed()


QUICK = Http2Options(connect_timeout_s=0.2, ping_interval_s=0.05, ping_timeout_s=0.1)
