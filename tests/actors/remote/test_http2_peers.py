"""The HTTP/2 transport against peers that do what real ones seldom do, or must not do."""

import asyncio
import struct

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.port import Headers
from tests.actors.remote.http2_peers import Ear, Peer, peers, request, run, transport_to

KIB = 1024
MIB = 1024 * KIB


def test_a_tiny_window_still_lets_everything_through_in_order() -> None:
    body = bytes(range(256)) * 800

    async def scenario() -> None:
        tiny: dict[SettingCodes, int] = {SettingCodes.INITIAL_WINDOW_SIZE: 100}
        async with peers(tiny) as listening, transport_to(listening.port) as transport:

            def give_back(peer: Peer, event: Event) -> None:
                if isinstance(event, DataReceived) and event.flow_controlled_length:
                    peer.h2.increment_flow_control_window(event.flow_controlled_length)
                    peer.h2.increment_flow_control_window(event.flow_controlled_length, 1)

            listening.on_event = give_back
            ear = Ear()
            stream = transport.open(request(), ear)
            stream.write(body)
            stream.close_input()
            peer = await listening.heard(StreamEnded, 1)
            assert b"".join(event.data for event in peer.heard(DataReceived, 1)) == body
            assert stream.buffered_bytes == 0
            assert ear.calls == ["writable"]

    run(scenario)


def test_nothing_is_sent_beyond_the_peers_window_until_it_grows() -> None:
    async def scenario() -> None:
        small: dict[SettingCodes, int] = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
        async with peers(small) as listening, transport_to(listening.port) as transport:
            stream = transport.open(request(), Ear())
            stream.write(b"x" * 3000)
            other = transport.open(request(), Ear())
            other.write(b"y" * 1000)  # not held up by its neighbour
            peer = await listening.heard(DataReceived, 3)
            assert sum(len(event.data) for event in peer.heard(DataReceived, 1)) == 1000
            assert stream.buffered_bytes == 2000
            peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1500})
            peer.flush()
            await peer.until(lambda p: sum(len(e.data) for e in p.heard(DataReceived, 1)) == 1500)
            peer.h2.increment_flow_control_window(1500, 1)
            peer.flush()
            await peer.until(lambda p: sum(len(e.data) for e in p.heard(DataReceived, 1)) == 3000)

    run(scenario)


def test_streams_take_turns_when_the_connections_window_is_scarce() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            first = transport.open(request(), Ear())
            first.write(b"x" * 60_000)
            second = transport.open(request(), Ear())
            second.write(b"y" * 60_000)
            peer = await listening.first()
            await peer.until(lambda p: sum(len(e.data) for e in p.heard(DataReceived)) == 65_535)
            sizes = [sum(len(e.data) for e in peer.heard(DataReceived, n)) for n in (1, 3)]
            assert min(sizes) >= 32_000
            peer.h2.increment_flow_control_window(100_000)
            peer.flush()
            await peer.until(lambda p: sum(len(e.data) for e in p.heard(DataReceived)) == 120_000)

    run(scenario)


def test_a_paused_stream_holds_its_peer_back_and_starves_nobody() -> None:
    async def scenario() -> None:
        options = Http2Options(stream_window_bytes=100 * KIB, connection_window_bytes=150 * KIB)
        async with peers() as listening, transport_to(listening.port, options=options) as transport:
            ears = [Ear(), Ear(), Ear(), Ear()]
            streams = [transport.open(request(), ear) for ear in ears]
            for stream in streams[:3]:
                stream.pause()
            peer = await listening.heard(RequestReceived, 7)
            sent = {1: 0, 3: 0, 5: 0, 7: 0}

            def push(number: int) -> int:
                while room := min(peer.h2.local_flow_control_window(number), 16 * KIB):
                    peer.data(number, b"z" * room)
                    sent[number] += room
                return sent[number]

            for number in sent:
                peer.head(number)
            for number in (
                1,
                3,
                5,
            ):  # each to the end of its window, though together beyond the connection's
                await peer.until(lambda _, number=number: push(number) == 100 * KIB)  # type: ignore[misc]
            await peer.until(lambda _: push(7) > MIB)
            peer.data(7, b"", end=True)
            await ears[3].over()
            assert len(ears[3].body) == sent[7]
            assert not any(ear.body for ear in ears[:3])
            streams[0].resume()
            assert not ears[0].body  # only in a later turn
            await peer.until(lambda _: push(1) > 300 * KIB)
            peer.data(1, b"", end=True)
            await ears[0].over()
            assert len(ears[0].body) == sent[1]
            assert push(3) == 100 * KIB

    run(scenario)


def test_memory_of_paused_streams_is_bounded_by_the_held_limit() -> None:
    async def scenario() -> None:
        options = Http2Options(
            stream_window_bytes=100 * KIB,
            connection_window_bytes=100 * KIB,
            held_limit_bytes=50 * KIB,
        )
        async with peers() as listening, transport_to(listening.port, options=options) as transport:
            ears = [Ear(), Ear(), Ear()]
            streams = [transport.open(request(), ear) for ear in ears]
            for stream in streams:
                stream.pause()
            peer = await listening.heard(RequestReceived, 5)
            for number in (1, 3, 5):
                peer.head(number)
            total = 0
            for _ in range(30):
                for number in (1, 3, 5):
                    if room := min(peer.h2.local_flow_control_window(number), 8 * KIB):
                        peer.data(number, b"z" * room)
                        total += room
                peer.h2.ping(b"12345678")
                peer.flush()
                acks = len(peer.heard(PingAckReceived))
                await peer.until(lambda p, acks=acks: len(p.heard(PingAckReceived)) > acks)  # type: ignore[misc]
            assert total <= 150 * KIB
            for stream in streams[1:]:
                stream.abort()  # what they held counts no longer
            streams[0].resume()
            await ears[0].until(lambda ear: bool(ear.body))
            await peer.until(lambda p: p.h2.outbound_flow_control_window > 50 * KIB)

    run(scenario)


def test_a_response_that_ended_while_paused_is_delivered_even_after_the_connection_is_lost() -> (
    None
):
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ear = Ear()
            stream = transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            peer.head(1)
            peer.data(1, b"one")
            await ear.until(lambda ear: bool(ear.body))
            stream.pause()
            peer.data(1, b"two")
            peer.data(1, b"three", end=True)
            peer.transport.close()
            await peer.lost.wait()
            assert bytes(ear.body) == b"one"
            stream.resume()
            await ear.over()
            assert bytes(ear.body) == b"onetwothree"
            assert ear.ended

    run(scenario)


def test_abort_resets_the_stream_and_nothing_is_heard() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ear = Ear()
            stream = transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            stream.abort()
            stream.abort()
            await peer.until(lambda p: bool(p.heard(StreamReset, 1)))
            assert peer.heard(StreamReset)[0].error_code == ErrorCodes.CANCEL
            # What was on its way is ignored, and its bytes count for the connection.
            peer.raw(1, 4, 1, b"\x88")
            for _ in range(6 * MIB // 16384):
                peer.raw(0, 0, 1, b"x" * 16384)
                await asyncio.sleep(0)
            peer.raw(0, 1, 1, b"")
            again = Ear()
            transport.open(request(), again)
            await listening.heard(RequestReceived, 3)
            peer.head(3, end=True)
            await again.over()
            assert again.ended
            assert ear.calls == []

    run(scenario)


@pytest.mark.parametrize(
    "code", [ErrorCodes.REFUSED_STREAM, ErrorCodes.INTERNAL_ERROR, ErrorCodes.NO_ERROR]
)
def test_a_reset_fails_the_stream_and_no_other(code: ErrorCodes) -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ear, other = Ear(), Ear()
            stream = transport.open(request(), ear)
            transport.open(request(), other)
            peer = await listening.heard(RequestReceived, 3)
            peer.h2.reset_stream(1, code)
            peer.head(3, end=True)
            assert code.name in await ear.failed()
            stream.write(b"ignored")
            stream.pause()
            stream.resume()
            stream.close_input()
            stream.abort()
            await other.over()
            assert other.ended

    run(scenario)


def test_goaway_spares_the_streams_up_to_its_last_id() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ears = [Ear(), Ear(), Ear()]
            streams = [transport.open(request(), ear) for ear in ears]
            peer = await listening.heard(RequestReceived, 5)
            peer.head(1)
            peer.raw(7, 0, 0, struct.pack(">LL", 3, 0) + b"bye")
            peer.raw(0, 0, 1, b"still")
            assert "NO_ERROR: bye" in await ears[2].failed()
            await ears[0].until(lambda ear: bytes(ear.body) == b"still")
            streams[0].write(b"and on")
            await peer.until(lambda p: bool(p.heard(DataReceived, 1)))
            late = Ear()
            transport.open(request("/late"), late)
            other = await listening.heard(RequestReceived, 1, index=1)  # on another connection
            other.head(1, end=True)
            await late.over()
            peer.data(1, b"!", end=True)
            await ears[0].over()
            assert not peer.lost.is_set()
            peer.head(3, end=True)
            await ears[1].over()
            assert [ear.ended for ear in ears] == [True, True, False]
            await peer.lost.wait()

    run(scenario)


def test_goaway_between_streams_lets_the_connection_go() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            for index in range(2):
                ear = Ear()
                transport.open(request(), ear).close_input()
                peer = await listening.heard(StreamEnded, 1, index=index)
                peer.head(1, end=True)
                await ear.over()
                assert ear.ended
                peer.raw(7, 0, 0, struct.pack(">LL", 1, 0))
                await peer.lost.wait()
            assert len(listening.connections) == 2

    run(scenario)


def test_goaway_then_close_names_the_reason() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            peer.raw(7, 0, 0, struct.pack(">LL", 1, 11) + b"slow down")
            peer.transport.close()
            assert "ENHANCE_YOUR_CALM: slow down" in await ear.failed()

    run(scenario)


def test_a_peer_with_one_stream_at_a_time_gets_them_one_after_the_other() -> None:
    async def scenario() -> None:
        one: dict[SettingCodes, int] = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
        options = Http2Options(max_connections=1)
        async with (
            peers(one) as listening,
            transport_to(listening.port, options=options) as transport,
        ):
            ears = [Ear() for _ in range(5)]
            streams = [transport.open(request(f"/{n}"), ear) for n, ear in enumerate(ears)]
            streams[2].abort()
            for stream in streams:
                stream.write(b"x")
                stream.close_input()
            paths = []
            for number, index in enumerate((0, 1, 3, 4)):
                peer = await listening.heard(StreamEnded, 2 * number + 1)
                assert len(peer.heard(RequestReceived)) == number + 1
                paths.append(dict(peer.heard(RequestReceived)[-1].headers)[b":path"])
                peer.head(2 * number + 1, end=True)
                await ears[index].over()
            assert paths == [b"/0", b"/1", b"/3", b"/4"]
            assert len(listening.connections) == 1

    run(scenario)


def test_a_raised_stream_limit_lets_those_who_wait_begin() -> None:
    async def scenario() -> None:
        one: dict[SettingCodes, int] = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
        options = Http2Options(max_connections=1)
        async with (
            peers(one) as listening,
            transport_to(listening.port, options=options) as transport,
        ):
            for _ in range(3):
                transport.open(request(), Ear())
            peer = await listening.heard(RequestReceived, 1)
            peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 3})
            peer.flush()
            await listening.heard(RequestReceived, 5)

    run(scenario)


def test_a_smaller_header_table_is_kept_to() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            headers: Headers = tuple((f"x-{n}", "v" * 30) for n in range(20))
            for number, size in enumerate((4096, 200, 0, 4096, 65536)):
                ear = Ear()
                stream = transport.open(request(headers=headers), ear)
                stream.close_input()
                peer = await listening.heard(StreamEnded, 2 * number + 1)
                got = dict(peer.heard(RequestReceived)[-1].headers)
                assert got[b"x-19"] == b"v" * 30
                assert got[b":authority"] == f"127.0.0.1:{listening.port}".encode()
                peer.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
                peer.head(2 * number + 1, end=True)
                await ear.over()

    run(scenario)


def test_a_head_longer_than_a_frame_arrives() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            transport.open(request(headers=(("x-long", "a" * 40_000),)), Ear())
            peer = await listening.heard(RequestReceived)
            assert dict(peer.heard(RequestReceived)[0].headers)[b"x-long"] == b"a" * 40_000

    run(scenario)


def test_informational_heads_trailers_padding_and_unknown_frames_are_passed_over() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            peer.head(1, status="103")
            peer.h2.send_headers(1, [(":status", "200"), ("x-long", "b" * 30_000)])
            peer.h2.send_data(1, b"padded", pad_length=200)
            peer.flush()
            peer.raw(0x42, 0xFF, 1, b"unknown")
            peer.raw(2, 0, 1, b"\0\0\0\3\1")  # PRIORITY
            peer.h2.send_headers(1, [("x-trailer", "1")], end_stream=True)
            peer.flush()
            await ear.over()
            assert (ear.status, bytes(ear.body), ear.ended) == (200, b"padded", True)
            assert ear.headers == {"x-long": "b" * 30_000}

    run(scenario)
