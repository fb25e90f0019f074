"""One whole exchange: its limits of time and size. Over an app in this process."""

import asyncio

import pytest

from perdure.actors.remote.asgi import AsgiTransport
from perdure.actors.remote.fetch import fetch
from perdure.actors.remote.lifespan import AsgiReceive, AsgiSend, Scope
from perdure.actors.remote.port import TransportFailed
from tests.actors.remote.exchanges import left_tasks, post


async def app(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    size_bytes = 0
    if scope["path"] != "/early":
        more = True
        while more:
            message = await receive()
            size_bytes += len(message["body"])
            more = message["more_body"]
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"A", b"1"), (b"a", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"%d" % size_bytes, "more_body": True})
    if scope["path"] == "/large":
        for _ in range(10):
            await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
    await send({"type": "http.response.body"})


def test_body_of_any_size_is_sent_and_answered() -> None:
    async def test() -> None:
        transport = AsgiTransport(app)
        for size_bytes in (0, 1, 65_536, 10 << 20):
            response = await fetch(transport, post(), body=bytes(size_bytes))
            assert response.body == b"%d" % size_bytes
        assert response.find_header("a") == "1"
        assert response.find_header("b") is None
        await transport.close()

    asyncio.run(test())


def test_early_response_ends_the_sending() -> None:
    async def test() -> None:
        transport = AsgiTransport(app)
        response = await fetch(transport, post("/early"), body=bytes(10 << 20), timeout_s=10)
        assert response.body == b"0"
        await transport.close()

    asyncio.run(test())


def test_response_past_the_limit_fails_and_is_aborted() -> None:
    async def test() -> None:
        transport = AsgiTransport(app)
        with pytest.raises(TransportFailed, match="larger than 5,000 bytes"):
            await fetch(transport, post("/large"), limit_bytes=5_000)
        assert (await fetch(transport, post("/large"), limit_bytes=10_001)).status == 200
        await transport.close()
        assert left_tasks() == set()

    asyncio.run(test())


def test_silence_past_the_timeout_fails_and_is_aborted() -> None:
    async def test() -> None:
        transport = AsgiTransport(app)
        with pytest.raises(
            TransportFailed, match=r"no complete response to POST /hang within 0\.01 s"
        ):
            await fetch(transport, post("/hang"), timeout_s=0.01)
        await transport.close()
        assert left_tasks() == set()

    asyncio.run(test())
