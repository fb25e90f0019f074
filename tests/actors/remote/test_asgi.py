"""An ASGI app in this process as a deployment: the exchange, its ends, back-pressure, the lifespan."""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest
import restate

from perdure.actors.remote.asgi import AsgiTransport
from perdure.actors.remote.fetch import fetch
from perdure.actors.remote.lifespan import AsgiApp, AsgiReceive, AsgiSend, Scope
from perdure.actors.remote.port import HttpRequest, TransportFailed
from perdure.journal.entries import GetEagerState, Input, Output, SetState, Value
from perdure.journal.wire.commands import command_frame
from tests.actors.remote.exchanges import (
    COUNTER,
    KIND,
    START,
    Notes,
    invoke_counter,
    left_tasks,
    post,
    pour,
)

MANIFEST = "application/vnd.restate.endpointmanifest.v4+json"


def app_of(handle: Any) -> AsgiApp:
    """An app without a lifespan."""

    async def app(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan here")
        await handle(scope, receive, send)

    return app


async def start(send: AsgiSend) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Kind", b"test")]})


async def body(send: AsgiSend, data: bytes = b"", more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def echo(_: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
    await start(send)
    while True:
        message = await receive()
        await body(send, message["body"], message["more_body"])
        if not message["more_body"]:
            return


def run(test: Coroutine[Any, Any, None]) -> None:
    async def checked() -> None:
        await test
        assert left_tasks() == set()

    asyncio.run(checked())


def test_official_app_is_discovered_and_carries_out_an_invocation() -> None:
    async def test() -> None:
        transport = AsgiTransport(restate.app([COUNTER]))
        found = await fetch(transport, HttpRequest("GET", "/discover", (("accept", MANIFEST),)))
        assert found.status == 200
        assert found.find_header("content-type") == MANIFEST
        assert b'"protocolMode":"BIDI_STREAM"' in found.body.replace(b" ", b"")
        for _ in range(2):
            assert await invoke_counter(transport) == [
                GetEagerState("a", b"1"),
                SetState("a", b"42"),
                Output(Value(b"42")),
            ]
        await transport.close()

    run(test())


def test_official_app_ends_its_tasks_when_an_invocation_is_aborted() -> None:
    async def test() -> None:
        transport = AsgiTransport(restate.app([COUNTER]))
        notes = Notes()
        kind = "application/vnd.restate.invocation.v6"
        stream = transport.open(post("/invoke/Counter/add", ("content-type", kind)), notes)
        await notes.headed.wait()
        stream.abort()
        await transport.close()
        assert notes.heard == ["head"]

    run(test())


def test_official_handler_that_is_aborted_ends_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The SDK swallows the cancellation, and sends once more."""
    service = restate.VirtualObject("Counter")
    begun = asyncio.Event()

    @service.handler("add")
    async def wait(ctx: restate.ObjectContext, _: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def test() -> None:
        transport = AsgiTransport(restate.app([service]))
        notes = Notes()
        kind = ("content-type", KIND)
        stream = transport.open(post("/invoke/Counter/add", kind), notes)
        stream.write(START + command_frame(Input((), b"41")))
        await asyncio.wait_for(begun.wait(), 10)
        stream.abort()
        await transport.close()

    run(test())
    assert caplog.records == []


def test_app_sees_the_request_as_http_2() -> None:
    seen: list[Scope] = []

    async def handle(scope: Scope, _: AsgiReceive, send: AsgiSend) -> None:
        seen.append(scope)
        await start(send)
        await body(send)

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        request = HttpRequest("PUT", "/base/a%20b?q=1&r=%20", (("x-one", "é"), ("x-one", "2")))
        response = await fetch(transport, request)
        assert response.headers == (("x-kind", "test"),)
        await transport.close()

    run(test())
    (scope,) = seen
    assert scope["http_version"] == "2"
    assert (scope["method"], scope["path"], scope["raw_path"]) == (
        "PUT", "/base/a b", b"/base/a%20b",
    )  # fmt: skip
    assert scope["query_string"] == b"q=1&r=%20"
    assert scope["headers"] == [(b"x-one", "é".encode()), (b"x-one", b"2")]


def test_bytes_go_in_both_directions_at_once() -> None:
    async def test() -> None:
        transport = AsgiTransport(app_of(echo))
        notes = Notes()
        stream = transport.open(post(), notes)
        for n in range(1, 4):
            stream.write(b"ab")
            assert stream.buffered_bytes == 2
            await notes.until_size(2 * n)
            assert stream.buffered_bytes == 0
        stream.close_input()
        stream.close_input()
        await notes.end()
        assert notes.body == b"ababab"
        stream.write(b"late")
        stream.abort()
        await transport.close()
        assert notes.heard[-1] == "end"

    run(test())


def test_receiver_is_never_called_from_within_a_call() -> None:
    async def test() -> None:
        transport = AsgiTransport(app_of(echo))
        notes = Notes()
        stream = transport.open(post(), notes)
        stream.write(b"x")
        stream.pause()
        stream.resume()
        stream.close_input()
        assert notes.heard == []
        await notes.end()
        await transport.close()
        closed = Notes()
        transport.open(post(), closed)
        assert closed.heard == []
        assert "is closed" in await closed.failure()

    run(test())


def test_error_in_the_app_fails_the_exchange_with_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(_: Scope, __: AsgiReceive, send: AsgiSend) -> None:
        await start(send)
        await body(send, b"some", more=True)
        raise KeyError("lost")

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        notes = Notes()
        transport.open(post("/here"), notes)
        assert await notes.failure() == "the app failed with KeyError: 'lost'"
        assert notes.heard == ["head", "data", "failed"]
        await transport.close()

    run(test())
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info
    assert "POST /here" in record.getMessage()


def test_app_that_exits_does_not_end_the_runtime() -> None:
    async def handle(*_: object) -> None:
        raise SystemExit(3)

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        with pytest.raises(TransportFailed, match="SystemExit: 3"):
            await fetch(transport, post())
        await transport.close()

    run(test())


@pytest.mark.parametrize("with_head", [False, True])
def test_app_that_returns_early_fails_the_exchange(with_head: bool) -> None:
    async def handle(_: Scope, __: AsgiReceive, send: AsgiSend) -> None:
        if with_head:
            await start(send)

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        with pytest.raises(TransportFailed, match="the app returned but did not"):
            await fetch(transport, post())
        await transport.close()

    run(test())


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body"}],
        [{"type": "http.response.start", "status": 200}] * 2,
        [{"type": "websocket.accept"}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.bodies"}],
    ],
)
def test_app_that_breaks_asgi_fails_the_exchange(messages: list[dict[str, Any]]) -> None:
    async def handle(_: Scope, __: AsgiReceive, send: AsgiSend) -> None:
        for each in messages:
            await send(each)

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        with pytest.raises(TransportFailed, match="the app failed with RuntimeError"):
            await fetch(transport, post())
        await transport.close()

    run(test())


def test_abort_disconnects_and_cancels_the_app() -> None:
    saw: list[object] = []

    async def handle(_: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        await start(send)
        try:
            await receive()
        except asyncio.CancelledError:
            saw.append(await receive())
            with pytest.raises(asyncio.CancelledError):
                await body(send)  # told once more
            raise

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        notes = Notes()
        stream = transport.open(post(), notes)
        await notes.headed.wait()
        stream.abort()
        stream.abort()
        stream.write(b"x")
        assert stream.buffered_bytes == 0
        await transport.close()
        assert notes.heard == ["head"]

    run(test())
    assert saw == [{"type": "http.disconnect"}]


def test_exchange_that_is_aborted_before_it_began_never_calls_the_app() -> None:
    async def handle(*_: object) -> None:
        pytest.fail("called")

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        notes = Notes()
        transport.open(post(), notes).abort()
        await transport.close()
        assert notes.heard == []

    run(test())


def test_app_learns_that_its_response_is_complete() -> None:
    seen: list[str] = []

    async def handle(_: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        listener = asyncio.ensure_future(receive())
        await start(send)
        await body(send, b"early")  # the request is not complete
        seen.append((await listener)["type"])

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        notes = Notes()
        transport.open(post(), notes)
        await notes.end()
        await transport.close()

    run(test())
    assert seen == ["http.disconnect"]


def test_paused_stream_holds_the_app_back() -> None:
    sent: list[int] = []

    async def handle(_: Scope, __: AsgiReceive, send: AsgiSend) -> None:
        await start(send)
        for n in range(5):
            await body(send, b"%d" % n, more=True)
            sent.append(n)
        await body(send)

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        notes = Notes()
        stream = transport.open(post(), notes)
        stream.pause()
        await notes.headed.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (notes.heard, sent) == (["head"], [])
        stream.resume()
        await notes.end()
        assert notes.body == b"01234"
        await transport.close()

    run(test())


def test_large_bodies_flow_with_bounded_memory() -> None:
    total = 10 << 20

    async def test() -> None:
        transport = AsgiTransport(app_of(echo))
        notes = Notes()
        stream = transport.open(post(), notes)
        most = await pour(stream, notes, total)
        stream.close_input()
        await notes.end()
        assert len(notes.body) == total
        assert most <= (256 + 32) * 1024
        assert notes.writable_count > 30
        await transport.close()

    run(test())


def test_app_that_only_sends_lets_the_loop_turn() -> None:
    """`send` of a fast app must wait by itself, or its whole response would pile up."""
    most = 0
    received: list[bytes] = []

    async def handle(_: Scope, __: AsgiReceive, send: AsgiSend) -> None:
        nonlocal most
        await start(send)
        for n in range(320):
            await body(send, b"y" * 32_768, more=True)
            most = max(most, (n + 1) * 32_768 - sum(map(len, received)))
        await body(send)

    async def test() -> None:
        notes = Notes()
        notes.parts = received
        transport = AsgiTransport(app_of(handle))
        transport.open(post(), notes)
        await notes.end()
        assert len(notes.body) == 10 << 20
        await transport.close()

    run(test())
    assert most <= 128 * 1024


def test_app_sees_nothing_of_the_callers_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    async def handle(_: Scope, __: AsgiReceive, send: AsgiSend) -> None:
        seen.append(variable.get())
        variable.set("of an exchange")
        await start(send)
        await body(send)

    async def test() -> None:
        transport = AsgiTransport(app_of(handle))
        variable.set("of the caller")
        for _ in range(2):
            await fetch(transport, post())
        await transport.close()

    run(test())
    assert seen == ["unset", "unset"]


def test_app_that_swallows_its_cancellation_is_reported_at_close(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.actors.remote.asgi._CLOSE_TIMEOUT_S", 0.01)

    async def test() -> None:
        release = asyncio.Event()

        async def handle(_: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
            await start(send)
            try:
                await receive()
            except asyncio.CancelledError:
                await release.wait()

        transport = AsgiTransport(app_of(handle))
        notes = Notes()
        transport.open(post(), notes)
        await notes.headed.wait()
        await transport.close()
        release.set()
        await asyncio.wait(left_tasks())

    run(test())
    assert "swallows CancelledError" in caplog.text
