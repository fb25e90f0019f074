"""HTTP/1.1 to a real Hypercorn, and to servers that misbehave on a bare socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import restate

from perdure.actors.remote.fetch import fetch
from perdure.actors.remote.http1 import Http1Options, Http1Transport
from perdure.actors.remote.lifespan import AsgiApp, AsgiReceive, AsgiSend, Scope
from perdure.actors.remote.port import HttpRequest, TransportFailed
from perdure.journal.entries import GetEagerState, Output, SetState, Value
from tests.actors.remote.exchanges import COUNTER, Notes, invoke_counter, left_tasks, post, pour
from tests.actors.remote.hypercorns import Certificate, hypercorn

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = HttpRequest("GET", "/", ())


def app_of(handle: Any) -> AsgiApp:
    async def app(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan here")
        await handle(scope, receive, send)

    return app


async def start(send: AsgiSend, status: int = 200) -> None:
    headers = [(b"X-Kind", b"test"), (b"set-cookie", b"a=b")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: AsgiSend, data: bytes = b"", more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def echo(_: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
    await start(send)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        await body(send, message["body"], message["more_body"])
        if not message["more_body"]:
            return


@contextlib.asynccontextmanager
async def bare(handle: Handle) -> AsyncIterator[str]:
    """A server that is nothing but a socket."""
    handling: list[asyncio.Task[None]] = []

    async def each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.append(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await handle(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(each, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def checked() -> None:
        async with asyncio.timeout(30):
            await test
            await asyncio.sleep(0)  # the peer's own callbacks
        assert left_tasks() == set()

    asyncio.run(checked())


@contextlib.asynccontextmanager
async def to(app: Any, **options: Any) -> AsyncIterator[Http1Transport]:
    async with hypercorn(app) as uri:
        transport = Http1Transport(uri, **options)
        try:
            yield transport
        finally:
            await transport.close()


def test_official_app_is_discovered_and_carries_out_an_invocation() -> None:
    async def test() -> None:
        async with to(restate.app([COUNTER])) as transport:
            accept = "application/vnd.restate.endpointmanifest.v4+json"
            found = await fetch(transport, HttpRequest("GET", "/discover", (("accept", accept),)))
            assert found.status == 200
            assert b"REQUEST_RESPONSE" in found.body
            for _ in range(2):
                assert await invoke_counter(transport) == [
                    GetEagerState("a", b"1"),
                    SetState("a", b"42"),
                    Output(Value(b"42")),
                ]

    run(test())


def test_request_carries_what_it_was_given_and_no_more() -> None:
    seen: list[Scope] = []

    async def handle(scope: Scope, _: AsgiReceive, send: AsgiSend) -> None:
        seen.append(scope)
        await start(send)
        await body(send)

    async def test() -> None:
        async with to(app_of(handle)) as transport:
            request = HttpRequest("GET", "/a%2Fb%20c?q=%7e", (("x-one", "1"), ("x-one", "2")))
            for _ in range(2):
                response = await fetch(transport, request)
            assert ("x-kind", "test") in response.headers

    run(test())
    for scope in seen:  # a cookie of the first response would be in the second request
        assert scope["http_version"] == "1.1"
        assert scope["raw_path"] == b"/a%2Fb%20c"
        assert scope["query_string"] == b"q=%7e"
        names = [name for name, _ in scope["headers"] if name != b"host"]
        assert names == [b"x-one", b"x-one"]


def test_connection_is_used_again() -> None:
    async def handle(scope: Scope, _: AsgiReceive, send: AsgiSend) -> None:
        await start(send)
        await body(send, str(scope["client"][1]).encode())

    async def test() -> None:
        async with to(app_of(handle)) as transport:
            ports = {(await fetch(transport, post(), body=b"x")).body for _ in range(5)}
            assert len(ports) == 1

    run(test())


def test_bytes_go_in_both_directions_at_once() -> None:
    async def test() -> None:
        async with to(app_of(echo)) as transport:
            notes = Notes()
            stream = transport.open(post(), notes)
            for n in range(1, 4):
                stream.write(b"ab")
                await notes.until_size(2 * n)
            assert stream.buffered_bytes == 0
            stream.close_input()
            await notes.end()
            assert notes.body == b"ababab"

    run(test())


def test_response_may_be_complete_before_the_request() -> None:
    async def handle(_: Scope, __: AsgiReceive, send: AsgiSend) -> None:
        await start(send, 503)
        await body(send, b"busy")

    async def test() -> None:
        async with to(app_of(handle)) as transport:
            for _ in range(3):  # a connection with half a request must not be used again
                notes = Notes()
                stream = transport.open(post(), notes)
                stream.write(b"one")
                await notes.end()
                assert (notes.status, notes.body) == (503, b"busy")
                stream.write(b"late")
                assert stream.buffered_bytes == 0

    run(test())


@pytest.mark.parametrize("status", [301, 401, 429])
def test_status_is_told_as_it_is(status: int) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 %d X\r\nlocation: /other\r\n"
            b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc" % status
        )
        await reader.read()

    async def test() -> None:
        async with bare(handle) as uri:
            transport = Http1Transport(uri)
            response = await fetch(transport, GET)
            assert (response.status, response.body) == (status, b"abc")
            await transport.close()

    run(test())


def test_large_bodies_flow_with_bounded_memory() -> None:
    total = 10 << 20

    async def test() -> None:
        async with to(app_of(echo)) as transport:
            notes = Notes()
            stream = transport.open(post(), notes)
            most = await pour(stream, notes, total)
            stream.close_input()
            await notes.end()
            assert len(notes.body) == total
            assert most <= (256 + 32) * 1024

    run(test())


def test_paused_stream_holds_the_peer_back() -> None:
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (32 << 20))
        for _ in range(512):
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536
        await reader.read()

    async def test() -> None:
        async with bare(handle) as uri:
            transport = Http1Transport(uri)
            notes = Notes()
            stream = transport.open(GET, notes)
            await notes.headed.wait()
            stream.pause()
            before = -1
            while before != sent:  # until the peer stands still
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 24 << 20  # the buffers of the two sockets
            assert len(notes.body) <= 256 * 1024
            stream.resume()
            await notes.end()
            assert len(notes.body) == 32 << 20
            await transport.close()

    run(test())


def test_peer_that_does_not_read_holds_the_writer_back() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    async def test() -> None:
        async with bare(handle) as uri:
            transport = Http1Transport(uri)
            notes = Notes()
            stream = transport.open(post(), notes)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pour(stream, notes, 64 << 20), 0.3)
            assert 256 * 1024 < stream.buffered_bytes < 512 * 1024
            stream.abort()
            await transport.close()
            assert notes.heard == []

    run(test())


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"", "failed: Server disconnected"),
        (b"NONSENSE\r\n\r\n", "failed: "),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "broke off: "),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "broke off: "),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", ""),
    ],
)
def test_peer_that_breaks_off_fails_the_exchange(answer: bytes, what: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def test() -> None:
        async with bare(handle) as uri:
            transport = Http1Transport(uri)
            notes = Notes()
            stream = transport.open(post(), notes)
            stream.write(b"x")
            text = await notes.failure()
            assert f"the exchange with {uri} {what}" in text
            await transport.close()

    run(test())


def test_refused_connection_fails_the_exchange() -> None:
    async def test() -> None:
        async with bare(lambda _, __: asyncio.sleep(0)) as uri:
            pass
        transport = Http1Transport(uri)
        with pytest.raises(TransportFailed, match="Cannot connect"):
            await fetch(transport, GET)
        await transport.close()

    run(test())


def test_header_that_http_cannot_carry_fails_the_exchange() -> None:
    async def test() -> None:
        async with to(app_of(echo)) as transport:
            with pytest.raises(TransportFailed, match="failed"):
                await fetch(transport, HttpRequest("GET", "/", (("x-bad", "a\r\nb: c"),)))

    run(test())


def test_abort_closes_the_connection_and_says_nothing() -> None:
    async def test() -> None:
        gone = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            await reader.read()
            gone.set()

        async with bare(handle) as uri:
            transport = Http1Transport(uri)
            notes = Notes()
            stream = transport.open(post(), notes)
            await notes.headed.wait()
            stream.abort()
            await asyncio.wait_for(gone.wait(), 10)
            early = Notes()
            transport.open(post(), early).abort()
            await transport.close()
            assert (notes.heard, early.heard) == (["head"], [])

    run(test())


def test_close_aborts_what_is_open_and_refuses_more() -> None:
    async def test() -> None:
        async with to(app_of(echo)) as transport:
            open_notes = Notes()
            transport.open(post(), open_notes)
            await open_notes.headed.wait()
            await transport.close()
            await transport.close()
            late = Notes()
            transport.open(post(), late)
            assert late.heard == []
            assert "is closed" in await late.failure()
            assert open_notes.heard == ["head"]

    run(test())


def test_exchanges_wait_for_one_of_the_bounded_connections() -> None:
    async def test() -> None:
        options = Http1Options(connections_limit=1)
        async with to(app_of(echo), options=options) as transport:
            first, second = Notes(), Notes()
            stream = transport.open(post(), first)
            await first.headed.wait()
            transport.open(post(), second).close_input()
            for _ in range(20):
                await asyncio.sleep(0)
            assert second.heard == []
            stream.close_input()
            await first.end()
            await second.end()

    run(test())


def test_guard_names_the_only_addresses() -> None:
    asked: list[tuple[str, int]] = []

    async def test() -> None:
        async with hypercorn(app_of(echo)) as uri:
            port = int(uri.rpartition(":")[2])

            async def resolve(host: str, port: int) -> list[tuple[str, int]]:
                asked.append((host, port))
                return [("127.0.0.1", port)]

            for host in ("deployment.invalid", "127.0.0.1"):
                transport = Http1Transport(f"http://{host}:{port}", resolve=resolve)
                assert (await fetch(transport, post())).status == 200
                await transport.close()
            assert asked == [("deployment.invalid", port), ("127.0.0.1", port)]

    run(test())


@pytest.mark.parametrize("host", ["127.0.0.1", "deployment.invalid", "[::1]"])
def test_guard_that_refuses_is_obeyed(host: str) -> None:
    async def test() -> None:
        async def refuse(host: str, port: int) -> list[tuple[str, int]]:
            raise TransportFailed(f"{host} is denied")

        async def nothing(host: str, port: int) -> list[tuple[str, int]]:
            return []

        async with hypercorn(app_of(echo)) as uri:
            port = uri.rpartition(":")[2]
            for resolve, text in ((refuse, "is denied"), (nothing, "allowed|may be connected")):
                transport = Http1Transport(f"http://{host}:{port}", resolve=resolve)
                with pytest.raises(TransportFailed, match=text):
                    await fetch(transport, GET)
                await transport.close()

    run(test())


@pytest.mark.parametrize("uri", ["ftp://host", "http://", "host:80", "/path"])
def test_uri_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(TransportFailed, match="expected http://HOST"):
        Http1Transport(uri)


def test_tls_is_checked_against_what_is_trusted(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)

    async def test() -> None:
        async with hypercorn(app_of(echo), **certificate.server) as uri:
            tls_uri = uri.replace("http:", "https:")
            trusting = Http1Transport(tls_uri, options=Http1Options(tls=certificate.client))
            assert (await fetch(trusting, post(), body=b"secret")).body == b"secret"
            await trusting.close()
            distrusting = Http1Transport(tls_uri)
            with pytest.raises(TransportFailed, match="CERTIFICATE_VERIFY_FAILED"):
                await fetch(distrusting, post())
            await distrusting.close()

    run(test())
