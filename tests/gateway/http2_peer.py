"""A client of HTTP/2 that does what a test says, and the server's side of its connection. No test is here."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded

from perdure.gateway.http2_way import Http2Way
from perdure.journal.entries import Outcome, Value
from perdure.journal.requests import Invoke
from tests.gateway.serving import Served


class Peer:
    """A client that does what a test says, frame by frame. ``events``: all that it heard."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.events: list[Event] = []
        self.takes = True  # gives its windows back
        self.half = 0  # a request that does not end
        self.h2.initiate_connection()

    @classmethod
    async def of(cls, on: Served) -> "Peer":
        peer = cls(*await asyncio.open_connection("127.0.0.1", on.ingress_port))
        peer.flush()
        return peer

    def flush(self) -> None:
        self.write(self.h2.data_to_send())

    def write(self, raw: bytes) -> None:
        self._writer.write(raw)

    def ask(self, path: str, body: bytes | None = b"", *more: tuple[str, str]) -> int:
        """Begin a request, a GET where it has no body; ``body`` None: it comes later."""
        id = self.h2.get_next_available_stream_id()
        method, type_ = ("GET", ()) if body == b"" else ("POST", (("content-type", "a/b"),))
        head = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)]
        self.h2.send_headers(id, [*head, *type_, *more])
        if body is not None:
            self.h2.send_data(id, body, end_stream=True)
        self.flush()
        return id

    async def until(self, kind: type[Event], id: int | None = None) -> Any:
        """The next event of a kind (of a stream)."""
        while True:
            for place, event in enumerate(self.events):
                if isinstance(event, kind) and id in (None, getattr(event, "stream_id", None)):
                    return self.events.pop(place)
            data = await self._reader.read(65_536)
            assert data, f"closed before a {kind.__name__}; heard {self.events}"
            self._hear(data)

    def _hear(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, DataReceived) and self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()

    async def answer(self, id: int) -> tuple[int, bytes]:
        head = await self.until(ResponseReceived, id)
        await self.until(StreamEnded, id)
        parts = [each for each in self.events if isinstance(each, DataReceived)]
        body = b"".join(each.data for each in parts if each.stream_id == id)
        return int(dict(head.headers)[":status"]), body

    async def rest(self) -> bytes:
        """What comes until the server closes the connection."""
        raw = b""
        while data := await self._reader.read(65_536):
            raw += data
        self.close()
        return raw

    def close(self) -> None:
        self._writer.close()


async def way(on: Served, condition: Callable[[Http2Way], bool]) -> Http2Way:
    """The server's side of the first connection for which ``condition`` holds."""
    while True:
        for each in on.gateway.servers[0].everyone:
            if isinstance(each, Http2Way) and condition(each):
                return each
        await asyncio.sleep(0)


def waiting(on: Served) -> asyncio.Event:
    """Calls of `Greeter/headers` wait for it, and answer with their input."""
    go = asyncio.Event()

    async def wait(invoke: Invoke) -> Outcome:
        await go.wait()
        return Value(invoke.body)

    on.runtime.functions["Greeter/headers"] = wait
    return go


def client_of(on: Served) -> httpx.AsyncClient:
    url = on.gateway.ingress_url
    return httpx.AsyncClient(base_url=url, http1=False, http2=True, trust_env=False)
