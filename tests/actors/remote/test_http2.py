"""The HTTP/2 transport against a real server, hypercorn."""

import asyncio
import os
from typing import Any

import pytest
import uvloop

from perdure.actors.remote.http2_pool import Http2Transport
from perdure.actors.remote.port import Headers
from tests.actors.remote.http2_peers import Ear, echo, hypercorn, request, run, transport_to

MIB = 1024 * 1024


def test_an_exchange_carries_head_and_body_both_ways() -> None:
    async def scenario() -> None:
        async with hypercorn(echo) as port, transport_to(port) as transport:
            ear = Ear()
            headers: Headers = (("content-type", "text/plain"), ("x-many", "1"), ("x-many", "ä"))
            stream = transport.open(request("/a/b?c=d", headers=headers), ear)
            stream.write(b"one")
            stream.write(b"two")
            stream.close_input()
            await ear.over()
            assert (ear.status, bytes(ear.body), ear.ended) == (200, b"onetwo", True)
            assert ear.headers["x-path"] == "/a/b"
            assert ear.headers["x-scheme"] == "http"
            assert ear.headers["x-was-content-type"] == "text/plain"
            assert ear.headers["x-was-x-many"].encode("latin-1").decode() == "ä"
            assert ear.calls[0] == "head"
            assert ear.calls[-1] == "end"
            assert stream.buffered_bytes == 0

    run(scenario)


def test_the_authority_is_host_and_port() -> None:
    async def scenario() -> None:
        async with hypercorn(echo) as port, transport_to(port, host="localhost") as transport:
            ear = Ear()
            transport.open(request(), ear).close_input()
            await ear.over()
            assert ear.headers["x-was-host"] == f"localhost:{port}"

    run(scenario)


def test_the_response_comes_while_the_request_is_still_open() -> None:
    async def scenario() -> None:
        async with hypercorn(echo) as port, transport_to(port) as transport:
            ear = Ear()
            stream = transport.open(request(), ear)
            for turn in range(1, 20):
                stream.write(b"x" * turn)
                await ear.until(lambda ear, turn=turn: len(ear.body) == turn * (turn + 1) // 2)  # type: ignore[misc]
            assert not ear.ended
            stream.close_input()
            stream.close_input()
            await ear.over()
            assert ear.ended

    run(scenario)


def test_the_same_heads_again_and_again_stay_right() -> None:
    """Request and response tables are used and shifted: 300 exchanges, two kinds."""

    async def scenario() -> None:
        async with hypercorn(echo) as port, transport_to(port) as transport:
            for number in range(300):
                ear = Ear()
                headers = (
                    ("content-type", f"text/{number % 2}"),
                    ("x-restate-invocation-id", f"inv_{number}"),
                    (f"x-{number}", "y" * (number % 200)),
                    ("authorization", "Bearer secret"),
                )
                stream = transport.open(request(f"/{number % 7}", headers=headers), ear)
                stream.write(b"%d" % number)
                stream.close_input()
                await ear.over()
                assert bytes(ear.body) == b"%d" % number
                assert ear.headers["x-path"] == f"/{number % 7}"
                assert ear.headers["x-was-content-type"] == f"text/{number % 2}"
                assert ear.headers["x-was-x-restate-invocation-id"] == f"inv_{number}"
                assert ear.headers[f"x-was-x-{number}"] == "y" * (number % 200)
                assert ear.headers["x-was-authorization"] == "Bearer secret"

    run(scenario)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_ten_mebibytes_go_both_ways(factory: "type[asyncio.AbstractEventLoop]") -> None:
    body = os.urandom(10 * MIB)

    async def scenario() -> None:
        async with hypercorn(echo) as port, transport_to(port) as transport:
            ear = Ear()
            stream = transport.open(request(), ear)
            for at in range(0, len(body), 100_000):
                stream.write(body[at : at + 100_000])
                if stream.buffered_bytes > 256 * 1024:
                    count = ear.writable_count
                    await ear.until(lambda ear, count=count: ear.writable_count > count)  # type: ignore[misc]
            stream.close_input()
            await ear.over()
            assert ear.failure is None
            assert bytes(ear.body) == body

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(scenario(), 20))


def test_a_writer_that_goes_on_within_on_writable_is_called_until_all_has_left() -> None:
    body = os.urandom(3 * MIB)
    stream: Any = None

    class Writer(Ear):
        left = memoryview(body)

        def on_writable(self) -> None:
            while self.left and stream.buffered_bytes < 256 * 1024:
                stream.write(bytes(self.left[: 256 * 1024]))
                self.left = self.left[256 * 1024 :]
            if not self.left:
                stream.close_input()

    async def scenario() -> None:
        nonlocal stream
        async with hypercorn(echo) as port, transport_to(port) as transport:
            ear = Writer()
            stream = transport.open(request(), ear)
            ear.on_writable()
            await ear.over()
            assert ear.failure is None
            assert bytes(ear.body) == body

    run(scenario)


def test_many_streams_share_connections_in_order() -> None:
    async def scenario() -> None:
        async with hypercorn(echo) as port, transport_to(port) as transport:
            ears = [Ear() for _ in range(400)]
            for number, ear in enumerate(ears):
                stream = transport.open(request(), ear)
                stream.write(b"%d" % number)
                stream.close_input()
            for number, ear in enumerate(ears):
                await ear.over()
                assert bytes(ear.body) == b"%d" % number

    run(scenario)


def test_a_response_to_an_unread_request_ends_the_exchange() -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await echo(scope, receive, send)
        start = {
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-length", b"2")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": b"no"})
        return None

    async def scenario() -> None:
        async with hypercorn(refuses) as port, transport_to(port) as transport:
            for _ in range(3):  # the connection survives it
                ear = Ear()
                stream = transport.open(request(), ear)
                await ear.over()
                assert (ear.failure, ear.status, bytes(ear.body)) == (None, 404, b"no")
                stream.write(b"too late")
                stream.close_input()
                stream.abort()

    run(scenario)


def test_the_path_of_the_uri_is_left_to_requests() -> None:
    async def scenario() -> None:
        async with hypercorn(echo) as port:
            transport = Http2Transport(f"http://127.0.0.1:{port}/base")
            ear = Ear()
            transport.open(request(), ear).close_input()
            await ear.over()
            assert ear.ended
            await transport.close()

    run(scenario)
