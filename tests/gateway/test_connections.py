"""Bodies, framing and connections: limits, deadlines, malformed HTTP, clients that go away (S6-S10)."""

import asyncio
import contextlib
import gzip
from collections.abc import Callable
from typing import cast

import pytest

from perdure.gateway.connections import Connection
from perdure.gateway.settings import Ingress
from perdure.gateway.short_way import ShortWay
from perdure.journal.entries import Outcome, Value
from perdure.journal.requests import Invoke
from tests.gateway.runtime import MemoryRuntime
from tests.gateway.serving import Served, answer_of, ask, exchange, head_of, served, settings

HEAD = b"POST /Greeter/headers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: a/b\r\n"
SMALL = settings({"request_size_limit_bytes": 1000})
FAR_AHEAD_S = 1000.0


async def connected(on: Served, raw: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", on.ingress_port)
    writer.write(raw)
    await writer.drain()
    return reader, writer


async def until(on: Served, condition: Callable[[Connection], bool]) -> Connection:
    """The server's side of the first connection on the long way for which ``condition`` holds."""
    while True:
        for each in on.gateway.servers[0].connections:
            if condition(cast(Connection, each)):
                return cast(Connection, each)
        await asyncio.sleep(0)


async def until_short(on: Served, condition: Callable[[ShortWay], bool]) -> ShortWay:
    """As ``until``, on the short way."""
    while True:
        for each in on.gateway.servers[0].everyone:
            if isinstance(each, ShortWay) and condition(each):
                return each
        await asyncio.sleep(0)


def test_an_announced_body_over_the_limit_is_refused_unread() -> None:
    async def test(on: Served) -> None:
        for size in (b"1001", b"99999999999"):
            raw = HEAD + b"content-length: " + size + b"\r\n\r\n"
            status, headers, body = await ask(on.ingress_port, raw)
            assert (status, body) == (413, b"length limit exceeded")
            assert headers["content-type"] == "text/plain; charset=utf-8"
            assert not [
                each for each in headers if each.startswith(("x-restate", "access", "vary"))
            ]

    served(test, config=SMALL)


def test_the_limit_comes_before_the_route() -> None:
    async def test(on: Served) -> None:
        head = HEAD.replace(b"/Greeter/headers", b"/nowhere")
        raw = head + b"content-length: 1001\r\n\r\n" + b"x" * 1001
        assert (await ask(on.ingress_port, raw))[0] == 413

    served(test, config=SMALL)


def test_a_chunked_body_over_the_limit_is_refused_as_json() -> None:
    async def test(on: Served) -> None:
        chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
        for extra in (b"", b"0\r\n\r\n"):
            raw = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk * 3 + extra
            status, headers, body = await ask(on.ingress_port, raw)
            assert status == 413
            assert (
                body
                == b'{"code":413,"message":"cannot read body: LengthLimitError","source":"ingress"}'
            )
            assert headers["x-restate-error-source"] == "ingress"

    served(test, config=SMALL)


def test_a_body_at_the_limit_passes_in_both_framings() -> None:
    async def test(on: Served) -> None:
        body = b"x" * 1000
        for raw in (
            b"content-length: 1000\r\n\r\n" + body,
            b"transfer-encoding: chunked\r\n\r\n3e8\r\n" + body + b"\r\n0\r\n\r\n",
        ):
            status, _, echoed = await ask(on.ingress_port, HEAD + raw)
            assert (status, echoed) == (200, body)

    served(test, config=SMALL)


def test_a_large_body_comes_and_goes_whole() -> None:
    async def test(on: Served) -> None:
        body = bytes(range(256)) * 16_384
        response = await on.ingress.post(
            "/Greeter/headers", content=body, headers={"content-type": "a/b"}
        )
        assert response.content == body

    served(test)


def test_expect_100_continue_is_honoured_or_refused_at_once() -> None:
    async def test(on: Served) -> None:
        reader, writer = await connected(
            on, HEAD + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert head_of(await reader.read())[2] == b"abc"
        writer.close()
        raw = HEAD + b"expect: 100-continue\r\ncontent-length: 1001\r\n\r\n"
        assert (await ask(on.ingress_port, raw))[0] == 413

    served(test, config=SMALL)


def test_a_compressed_body_stays_as_it_came() -> None:
    async def test(on: Served) -> None:
        body = gzip.compress(b"\0" * 1_000_000)
        headers = {"content-type": "a/b", "content-encoding": "gzip"}
        response = await on.ingress.post("/Greeter/headers", content=body, headers=headers)
        assert response.content == body

    served(test)


def test_a_client_that_goes_away_cancels_nothing() -> None:
    runtime = MemoryRuntime()
    arrived, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(invoke: Invoke) -> Outcome:
        arrived.set()
        await go.wait()
        ended.set()
        return Value(b"1")

    async def test(on: Served) -> None:
        on.runtime.functions["Greeter/headers"] = work
        _, writer = await connected(on, HEAD + b"content-length: 1\r\n\r\n1")
        await arrived.wait()
        writer.transport.abort()
        while any(each.transport is not None for each in on.gateway.servers[0].connections):
            await asyncio.sleep(0)
        go.set()
        await ended.wait()
        (task,) = runtime.tasks.values()
        assert await task == Value(b"1")

    served(test, runtime)


def test_a_body_that_ends_early_invokes_nothing() -> None:
    async def test(on: Served) -> None:
        _, writer = await connected(on, HEAD + b"content-length: 10\r\n\r\nabc")
        await until(on, lambda each: each.body is not None)
        writer.close()
        while on.gateway.servers[0].everyone:
            await asyncio.sleep(0)
        assert on.runtime.invokes == []
        assert (await on.ingress.get("/restate/health")).status_code == 200

    served(test)


def test_http_1_0_is_answered_in_its_own_version() -> None:
    async def test(on: Served) -> None:
        raw = b"GET /Counter/k/get HTTP/1.0\r\n\r\n"
        answer = await exchange(on.ingress_port, raw)
        assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
        assert head_of(answer)[1]["connection"] == "close"
        reader, writer = await connected(
            on, raw.replace(b"\r\n\r\n", b"\r\nconnection: keep-alive\r\n\r\n")
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nconnection: keep-alive\r\n" in head
        writer.close()

    served(test)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test(on: Served) -> None:
        head = b"POST /Greeter/headers HTTP/1.1\r\nhost: x\r\ncontent-type: a/b\r\n"
        request = head + b"content-length: 1\r\n%s\r\n%d"
        raw = b"".join(
            request % (b"connection: close\r\n" if i == 9 else b"", i) for i in range(10)
        )
        answer = await exchange(on.ingress_port, raw)
        bodies = [part[:1] for part in answer.split(b"\r\n\r\n")[1:]]
        assert bodies == [b"%d" % i for i in range(10)]

    served(test)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\ncontent-length: +4\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nx-a : b\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nx-a: b\r\n folded\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nx-a: \0\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\nhost: x\n\n",
        b"GET /Counter/" + b"k" * 100_000 + b"/get HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nx-a: " + b"b" * 20_000 + b"\r\n\r\n",
        b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)  # fmt: skip
def test_malformed_http_is_400_and_reaches_nobody(
    raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(on: Served) -> None:
        try:
            status, _, body = await ask(on.ingress_port, raw)
        except ConnectionError:  # closed while we still wrote: refused as well
            status, body = 400, b"malformed HTTP request"
        assert status == 400
        assert b"malformed HTTP request" in body
        assert on.runtime.invokes == []

    served(test)
    assert "Traceback" not in caplog.text


def test_a_refusal_may_quote_what_is_no_text() -> None:
    async def test(on: Served) -> None:
        head = b"POST /Greeter/greet HTTP/1.1\r\nhost: x\r\ncontent-type: a/\xff\r\n"
        status, _, body = await ask(on.ingress_port, head + b"content-length: 1\r\n\r\n1")
        assert status == 400
        assert b"udcff" in body

    served(test)


def test_a_broken_chunk_is_refused() -> None:
    async def test(on: Served) -> None:
        reader, writer = await connected(on, HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc")
        await until(on, lambda each: each.body is not None)
        writer.write(b"\r\nzz\r\n")
        assert (await answer_of(reader))[0] == 500
        writer.close()
        assert on.runtime.invokes == []

    served(test)


def test_a_chunk_extension_without_end_is_cut() -> None:
    async def test(on: Served) -> None:
        reader, writer = await connected(on, HEAD + b"transfer-encoding: chunked\r\n\r\n3;")
        await until(on, lambda each: each.body is not None)
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x" * 65_536)
                await writer.drain()
        writer.close()
        assert on.runtime.invokes == []

    served(test)


@pytest.mark.parametrize("raw", [b"", b"GET /Counter/k/get HTTP/1.1\r\nhost:"])
def test_a_head_that_does_not_come_in_time_closes_the_connection(raw: bytes) -> None:
    async def test(on: Served) -> None:
        reader, writer = await connected(on, raw)
        assert await reader.read() == b""
        writer.close()

    served(test, config=settings({"header_timeout_ms": 1}))


def sweep_twice(connection: Connection | ShortWay, config: Ingress) -> None:
    """As the server's own sweep does, now and long after."""
    now = asyncio.get_running_loop().time()
    connection.sweep(now, config)
    connection.sweep(now + FAR_AHEAD_S, config)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_second_head_that_trickles_in_closes_the_connection(version: bytes) -> None:
    async def test(on: Served) -> None:
        raw = (
            b"GET /Counter/k/get HTTP/" + version + b"\r\nhost: x\r\nconnection: keep-alive\r\n\r\n"
        )
        reader, writer = await connected(on, raw)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /Coun")
        if version == b"1.1":
            short = await until_short(on, lambda each: each.served == 1 and each.is_within)
            short.sweep(asyncio.get_running_loop().time(), Ingress())
        connection = await until(on, lambda each: each.received % len(raw) == 9)
        sweep_twice(connection, Ingress())
        assert await reader.read() == b""
        writer.close()

    served(test)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_an_idle_connection_and_a_waiting_caller_are_left_alone_by_the_sweep(
    version: bytes,
) -> None:
    async def test(on: Served) -> None:
        go = asyncio.Event()

        async def wait(invoke: Invoke) -> Outcome:
            await go.wait()
            return Value(b"1")

        on.runtime.functions["Greeter/headers"] = wait
        find = until_short if version == b"1.1" else until
        raw = (
            b"GET /Greeter/headers HTTP/"
            + version
            + b"\r\nhost: x\r\nconnection: keep-alive\r\n\r\n"
        )
        reader, writer = await connected(on, raw)
        sweep_twice(await find(on, lambda each: each.active), Ingress())
        go.set()
        assert (await answer_of(reader))[0] == 200
        connection = await find(on, lambda each: each.served == 1)
        connection.sweep(asyncio.get_running_loop().time(), Ingress())
        writer.write(raw.replace(b"/Greeter/headers", b"/Counter/k/get"))
        assert (await answer_of(reader))[0] == 200
        assert on.gateway.servers[0].everyone == [connection]
        writer.close()

    served(test)


def test_a_body_that_stalls_closes_the_connection() -> None:
    async def test(on: Served) -> None:
        reader, writer = await connected(on, HEAD + b"content-length: 100\r\n\r\nabc")
        sweep_twice(await until(on, lambda each: each.body is not None), Ingress())
        assert await reader.read() == b""
        writer.close()
        assert on.runtime.invokes == []

    served(test)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_client_that_does_not_read_its_answer_is_cut_and_one_that_reads_slowly_is_not(
    version: bytes,
) -> None:
    async def test(on: Served) -> None:
        async def much(invoke: Invoke) -> Outcome:
            return Value(bytes(24 << 20))

        on.runtime.functions["Greeter/headers"] = much
        raw = b"GET /Greeter/headers HTTP/" + version + b"\r\nhost: x\r\n\r\n"
        reader, writer = await connected(on, raw)
        server = on.gateway.servers[0]
        far_s = Ingress().idle_timeout_ms / 1000 + 1
        now = asyncio.get_running_loop().time()
        while not (unread := [each.unread_bytes for each in server.everyone if each.unread_bytes]):
            await asyncio.sleep(0)
        (connection,) = [each for each in server.everyone if each.unread_bytes]
        server.sweep(now)
        while connection.unread_bytes == unread[0]:
            assert await reader.read(1 << 20)
        server.sweep(now + far_s)
        assert connection in server.everyone
        for n in range(2, 50):  # what the kernel takes ends
            server.sweep(now + n * far_s)
            await asyncio.sleep(0)
        assert connection not in server.everyone
        writer.close()

    served(test)


@pytest.mark.parametrize("limit", ["connections_limit", "connections_per_peer_limit"])
def test_over_the_limit_of_connections_new_ones_get_503(limit: str) -> None:
    async def test(on: Served) -> None:
        assert (await on.ingress.get("/restate/health")).status_code == 200  # stays open
        refused = await exchange(on.ingress_port, b"")
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
        await on.ingress.aclose()
        while on.gateway.servers[0].everyone:
            await asyncio.sleep(0)
        raw = b"GET /restate/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        assert (await ask(on.ingress_port, raw))[0] == 200

    served(test, config=settings({limit: 1}))
