"""Clients that go away, and a server that stops: what is freed, and what is still sent."""

import asyncio

import pytest
from h2.connection import ConnectionState
from h2.events import ConnectionTerminated

from perdure.actors.plane.driving import Drive
from perdure.gateway.settings import Ingress
from perdure.gateway.ways import GIVE_UP_S
from perdure.journal.entries import Outcome, Value
from perdure.journal.requests import Invoke
from tests.gateway.http2_peer import Peer, waiting, way
from tests.gateway.serving import Served, ask, exchange, head_of, served, settings

HEAD = b"POST /Greeter/headers HTTP/1.1\r\nhost: x\r\ncontent-type: a/b\r\n"
WAYS = {
    "short": HEAD + b"content-length: 1\r\n\r\n1",
    "long": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
}
GET = b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
ONE_AT_ONCE = settings({"concurrent_requests_limit": 1})
LARGE = b"x" * 20_000_000


def sweep(on: Served, after_s: float) -> None:
    on.gateway.servers[0].sweep(asyncio.get_running_loop().time() + after_s)


async def status_of_another(on: Served) -> int:
    return int((await ask(on.ingress_port, GET))[0])


@pytest.mark.parametrize("raw", WAYS.values(), ids=WAYS)
def test_a_caller_that_went_away_frees_its_place_and_its_call_goes_on(raw: bytes) -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        _, writer = await asyncio.open_connection("127.0.0.1", on.ingress_port)
        writer.write(raw)
        while not on.runtime.invokes:
            await asyncio.sleep(0)
        assert await status_of_another(on) == 429
        writer.close()
        while not on.gateway.servers[0]._left:
            await asyncio.sleep(0)
        sweep(on, GIVE_UP_S - 1)
        assert await status_of_another(on) == 429
        sweep(on, GIVE_UP_S + 1)
        while await status_of_another(on) == 429:
            await asyncio.sleep(0)
        go.set()
        assert Value(b"1") in [await each for each in on.runtime.tasks.values()]

    served(test, config=ONE_AT_ONCE)


def test_a_stream_that_is_given_up_frees_its_place_and_its_connection_goes_on() -> None:
    async def test(on: Served) -> None:
        waiting(on)
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", b"1")
        connection = await way(on, lambda each: each.active)
        peer.h2.reset_stream(id)
        peer.flush()
        await way(on, lambda each: bool(each._given_up))
        now_s = asyncio.get_running_loop().time()
        connection.sweep(now_s + GIVE_UP_S - 1, Ingress())
        assert connection.active
        connection.sweep(now_s + GIVE_UP_S + 1, Ingress())
        assert not connection.active
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        peer.close()

    served(test, config=ONE_AT_ONCE)


def test_a_large_answer_is_sent_whole_while_the_server_stops() -> None:
    async def test(on: Served) -> None:
        go = asyncio.Event()

        async def large(invoke: Invoke) -> Outcome:
            await go.wait()
            return Value(LARGE)

        on.runtime.functions["Greeter/headers"] = large
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", b"1")
        reader, writer = await asyncio.open_connection("127.0.0.1", on.ingress_port)
        writer.write(WAYS["short"])
        while len(on.runtime.invokes) < 2:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(on.gateway.stop())
        await peer.until(ConnectionTerminated)
        peer.h2.state_machine.state = ConnectionState.CLIENT_OPEN  # h2 would hear no more
        go.set()
        over_http2, over_http1 = await asyncio.gather(peer.answer(id), reader.read(-1))
        assert over_http2 == (200, LARGE)
        assert over_http1.endswith(b"\r\n\r\n" + LARGE)
        writer.close()
        peer.close()
        await stopping

    served(test)


def test_what_comes_behind_an_upgrade_in_the_same_bytes_is_not_passed_over() -> None:
    """The parser stops there: the connection ends, so that the client asks again."""

    async def test(on: Served) -> None:
        upgrade = (
            b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
        )
        raw = await exchange(on.ingress_port, upgrade + GET)
        status, headers, _ = head_of(raw)
        assert (status, headers["connection"]) == (200, "close")

    served(test)


def test_nobody_hears_of_what_was_given_up() -> None:
    async def test() -> None:
        heard: list[object] = []
        future = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await future

        drive = Drive(wait(), 1, lambda key, result, error: heard.append(key))
        drive.go_on()
        future.set_result(None)  # its turn comes, but not before
        drive.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert heard == []

    asyncio.run(test())
