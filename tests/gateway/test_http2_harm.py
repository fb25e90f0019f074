"""HTTP/2 clients that harm themselves or others: what arrives together, floods, and windows that leak."""

import asyncio
from collections.abc import Callable

import pytest
from h2.events import DataReceived, PingAckReceived, WindowUpdated
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame, WindowUpdateFrame

from perdure.gateway.http2_way import Http2Way
from perdure.journal.entries import Failure
from tests.gateway.http2_peer import Peer, waiting, way
from tests.gateway.serving import Served, ask, served

CONNECTION_WINDOW_BYTES = 4 << 20
PING = PingFrame(0, b"12345678").serialize()
GET = b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
WINDOW = WindowUpdateFrame(0, 1000).serialize()


@pytest.mark.parametrize("behind", [PING, WINDOW, PING + WINDOW])
def test_a_goodbye_ends_no_call_whatever_comes_behind_it(behind: bytes) -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        ids = [peer.ask("/Greeter/headers", b"one"), peer.ask("/Greeter/headers", b"two")]
        await way(on, lambda each: len(each._drives) == 2)
        peer.write(GoAwayFrame(0, last_stream_id=0).serialize() + behind)
        await way(on, lambda each: each.is_leaving)
        go.set()
        assert [await peer.answer(id) for id in ids] == [(200, b"one"), (200, b"two")]

    served(test)


def test_a_goodbye_drops_no_answer_that_was_about_to_be_sent() -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", b"one")
        connection = await way(on, lambda each: each.active)
        go.set()
        while connection.active:
            await asyncio.sleep(0)
        connection.data_received(GoAwayFrame(0, last_stream_id=0).serialize())
        assert await peer.answer(id) == (200, b"one")

    served(test)


def test_a_body_that_is_given_up_at_once_gives_its_window_back() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        for _ in range(2 * CONNECTION_WINDOW_BYTES // 16_000):
            id = peer.ask("/Greeter/headers", None)
            while peer.h2.outbound_flow_control_window < 16_000:
                await peer.until(WindowUpdated)
            peer.h2.send_data(id, b"x" * 16_000)
            peer.h2.reset_stream(id)
            peer.h2.ping(b"12345678")
            peer.flush()
            await peer.until(PingAckReceived)
            connection = await way(on, lambda each: True)
            connection._waste = 0  # as if time passed
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        peer.close()

    served(test)


def _refused(peer: Peer) -> None:
    for _ in range(3):
        id = peer.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")]
        peer.h2.send_headers(id, head, end_stream=False)


def _tiny(peer: Peer) -> None:
    peer.write(DataFrame(peer.half, data=b"xy").serialize() * 20)


@pytest.mark.parametrize("flood", [_refused, _tiny])
def test_a_flood_in_one_read_ends_its_connection_and_others_go_on(
    flood: Callable[[Peer], None],
) -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        peer.half = peer.ask("/Greeter/headers", None)
        for _ in range(1000):
            flood(peer)
        peer.flush()
        while any(isinstance(each, Http2Way) for each in on.gateway.servers[0].everyone):
            await asyncio.sleep(0)
        status, _, _ = await ask(on.ingress_port, GET)
        assert status == 200
        peer.close()

    served(test)


def test_a_client_chooses_no_table_that_slows_its_answers() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        peer.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**32 - 1})
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        connection = await way(on, lambda each: True)
        assert connection._h2.encoder.header_table_size == 4096
        peer.close()

    served(test)


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_that_has_no_body_sends_none(code: int) -> None:
    async def test(on: Served) -> None:
        on.runtime.functions["Greeter/headers"] = lambda invoke: failing(code)
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", b"1")
        assert await peer.answer(id) == (code, b"")
        assert not [each for each in peer.events if isinstance(each, DataReceived)]
        peer.close()

    served(test)


async def failing(code: int) -> Failure:
    return Failure(code, "nothing to tell")
