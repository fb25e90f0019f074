"""The HTTP/2 transport against peers that break the rules, fall silent, or hang up; and broken callers."""

import asyncio
import struct

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    RequestReceived,
    StreamReset,
)

from perdure.actors.remote.http2_options import Http2Options
from tests.actors.remote.http2_peers import QUICK, Ear, peers, request, run, transport_to

KIB = 1024
MIB = 1024 * KIB


@pytest.mark.parametrize(
    ("kind", "flags", "stream_id", "payload"),
    [
        (0, 0, 5, b"data on an idle stream"),
        (0, 8, 1, b"\xff too much padding"),
        (1, 4, 1, b"\xff\xff\xff\xff\xff\xff"),  # undecodable
        (1, 4, 2, b"\x88"),  # a stream that the peer opened
        (5, 4, 1, b"\0\0\0\2\x82"),  # PUSH_PROMISE, which we forbade
        (6, 0, 0, b"short ping"),
        (7, 0, 0, b"short"),
        (8, 0, 0, b"\0\0\0\0"),
        (9, 4, 1, b"\x88"),  # CONTINUATION of nothing
        (4, 0, 0, struct.pack(">HL", 4, 2**31)),  # an impossible initial window
    ],
)
def test_a_peer_that_breaks_http2_fails_every_stream(
    kind: int, flags: int, stream_id: int, payload: bytes
) -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ears = [Ear(), Ear()]
            for ear in ears:
                transport.open(request(), ear)
            peer = await listening.heard(RequestReceived, 3)
            peer.raw(kind, flags, stream_id, payload)
            for ear in ears:
                assert "broke HTTP/2" in await ear.failed()
            await peer.until(lambda p: bool(p.heard(ConnectionTerminated)))
            await peer.lost.wait()

    run(scenario)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([(0, 0, b"x")], "data before"),
        ([(1, 4, b"\x88"), (1, 4, b"\x88")], "head where none may be"),
        ([(1, 4, b"\x84")], ":path"),
        ([(1, 4, b"\x88\x0f\x0d\x011"), (0, 1, b"xx")], "longer than its content-length"),
        ([(1, 4, b"\x88\x0f\x0d\x013"), (0, 1, b"xx")], "before its content-length"),
    ],
)
def test_a_broken_response_fails_its_stream_alone(
    frames: list[tuple[int, int, bytes]], message: str
) -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ear, other = Ear(), Ear()
            transport.open(request(), ear)
            transport.open(request(), other)
            peer = await listening.heard(RequestReceived, 3)
            for kind, flags, payload in frames:
                peer.raw(kind, flags, 1, payload)
            assert message in await ear.failed()
            peer.raw(1, 5, 3, b"\x88")
            await other.over()
            assert other.ended

    run(scenario)


def test_more_data_than_the_window_resets_the_stream() -> None:
    async def scenario() -> None:
        options = Http2Options(stream_window_bytes=10_000)
        async with peers() as listening, transport_to(listening.port, options=options) as transport:
            ear = Ear()
            transport.open(request(), ear).pause()
            peer = await listening.heard(RequestReceived)
            peer.head(1)
            peer.raw(0, 0, 1, b"x" * 10_001)
            assert "window" in await ear.failed()
            await peer.until(lambda p: bool(p.heard(StreamReset, 1)))
            assert peer.heard(StreamReset)[0].error_code == ErrorCodes.FLOW_CONTROL_ERROR

    run(scenario)


def test_a_silent_peer_is_given_up() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port, options=QUICK) as transport:
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            listening.deaf = True
            assert "PING" in await ear.failed()
            await peer.lost.wait()

    run(scenario)


def test_a_peer_that_answers_pings_is_kept() -> None:
    async def scenario() -> None:
        options = Http2Options(ping_interval_s=0.01, ping_timeout_s=0.2)
        async with peers() as listening, transport_to(listening.port, options=options) as transport:
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            await peer.until(lambda p: p.received.count(b"perdure?") >= 3)
            peer.head(1, end=True)
            await ear.over()
            assert ear.ended

    run(scenario)


def test_a_peer_that_takes_nothing_is_not_buffered_for_without_end() -> None:
    """It asks for answers and reads none: we stop reading, and the ping timeout ends it."""

    async def scenario() -> None:
        options = Http2Options(ping_interval_s=0.3, ping_timeout_s=0.3)
        async with peers() as listening, transport_to(listening.port, options=options) as transport:
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            peer.transport.pause_reading()
            ping = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"
            sent = 0
            while ear.failure is None and sent < 200 * MIB:
                if peer.transport.get_write_buffer_size() < MIB:
                    peer.transport.write(ping * 10_000)
                    sent += len(ping) * 10_000
                await asyncio.sleep(0.001)
            assert "PING" in str(ear.failure)
            assert sent < 100 * MIB

    run(scenario)


def test_half_of_a_connection_is_no_connection() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            peer.transport.write_eof()
            assert "closed by the peer" in await ear.failed()
            await peer.lost.wait()

    run(scenario)


def test_a_receiver_that_raises_ends_its_own_stream_alone() -> None:
    class Clumsy(Ear):
        def on_data(self, data: bytes) -> None:
            raise LookupError("clumsy")

    async def scenario() -> None:
        reports: list[str] = []
        loop = asyncio.get_running_loop()
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, report: reports.append(report["message"]))
        async with peers() as listening, transport_to(listening.port) as transport:
            clumsy, other = Clumsy(), Ear()
            transport.open(request(), clumsy)
            transport.open(request(), other)
            peer = await listening.heard(RequestReceived, 3)
            for number in (1, 3):
                peer.head(number)
                peer.data(number, b"data", end=True)
            assert "clumsy" in await clumsy.failed()
            await other.over()
            assert (bytes(other.body), other.ended) == (b"data", True)
            assert len(reports) == 1
        loop.set_exception_handler(handler)

    run(scenario)


def test_headers_that_http2_does_not_allow_fail_before_anything_is_sent() -> None:
    async def scenario() -> None:
        async with peers() as listening, transport_to(listening.port) as transport:
            first = Ear()
            transport.open(request(headers=(("x-new", "1"),)), first)
            peer = await listening.heard(RequestReceived)
            for bad in (
                ("host", "a"),
                ("X-Upper", "a"),
                (":path", "/"),
                ("x-a", "a\r\nb: c"),
                ("", ""),
            ):
                ear = Ear()
                transport.open(request(headers=(("x-other", "2"), bad)), ear)
                assert ear.calls == []
                assert "header" in await ear.failed()
            good = Ear()
            transport.open(request(headers=(("x-new", "1"), ("x-other", "3"))), good)
            await listening.heard(RequestReceived, 3)
            assert dict(peer.heard(RequestReceived)[-1].headers)[b"x-other"] == b"3"

    run(scenario)
