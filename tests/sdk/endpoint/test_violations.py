"""Servers that break the protocol, or vanish: an Error frame says what was wrong; nothing is left over."""

import asyncio
import struct
from collections.abc import Callable
from datetime import timedelta

import pytest

import perdure
from perdure.asgi import Serving
from perdure.endpoint import Endpoint
from perdure.journal.attempt import Ended, Failed, Suspended
from perdure.journal.entries import Completion, Input, Output, SetState, Sleep, Void
from perdure.journal.errors import ProtocolError
from perdure.journal.wire.commands import command_frame
from perdure.journal.wire.control import run_ack_frame, start_frame
from perdure.journal.wire.frames import FrameType, frame
from perdure.stream_input import FRAME_LIMIT_BYTES, StreamInput
from tests.sdk.endpoint.peer import Peer, begin, start_of

service = perdure.Service("S")
app = perdure.app([service])
ended: list[str] = []


@service.handler()
async def napping(ctx: perdure.Context) -> str:
    try:
        await ctx.sleep(timedelta(seconds=60))
    finally:
        ended.append("napping")
    return "rested"


@service.handler()
async def echo(ctx: perdure.Context, value: str) -> str:
    return value


@service.handler()
async def busy(ctx: perdure.Context) -> None:
    await asyncio.Event().wait()


INPUT = command_frame(Input((), b""))
START = start_frame(start_of(service, "napping"), 7)
NEWER_START = start_frame(start_of(service, "napping", [Input((), b"")] * 2), 7)


def refused(*pieces: bytes, version: int = 7, end: bool = True) -> Failed:
    """What the endpoint says to a request that is wrong from the beginning."""

    async def scenario() -> Failed:
        peer = Peer(app, "/invoke/S/napping", version).open()
        for each in pieces:
            peer.write(each)
        if end:
            peer.end()
        failed = await peer.take(Failed)
        assert isinstance(failed, Failed)
        await peer.finish()
        return failed

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([], "ended before its Start"),
        ([START[:-3]], "in the middle of a frame"),
        ([START], "after 0 of the 1 known entries"),
        ([NEWER_START, INPUT], "after 1 of the 2 known entries"),
        ([INPUT], "expected a Start message first, found input (0x0400)"),
        ([START, START], "expected known entry 0"),
        ([START, command_frame(SetState("x", b""))], "expected an Input as the first command"),
        ([START, frame(FrameType.SUSPENSION, b"")], "expected known entry 0"),
        ([START, frame(0x0777, b"")], "no version knows this type"),
        ([START, frame(0xFC01, b"")], "expected known entry 0"),
        ([START, frame(FrameType.INPUT, b"\xff\xff\xff")], "[RT0012]"),
        ([frame(FrameType.START, b"\x0a\x01x\x18\x01")], "24 bytes"),
        ([frame(FrameType.START, START[8:34])], "at least one known entry"),
    ],
)
def test_a_bad_beginning_is_answered_with_the_reason(pieces: list[bytes], why: str) -> None:
    failed = refused(*pieces)
    assert failed.code == 571
    assert why in failed.message


def test_a_frame_over_the_limit_is_refused_by_its_header() -> None:
    failed = refused(
        START, struct.pack(">HHI", FrameType.INPUT, 0, FRAME_LIMIT_BYTES + 1), end=False
    )
    assert failed.code == 571
    assert failed.message.startswith("[RT0003]")


def _command() -> bytes:
    return command_frame(SetState("x", b"1"))


def _ack() -> bytes:
    return run_ack_frame(1)


def _start() -> bytes:
    return START


def _empty_notification() -> bytes:
    return frame(FrameType.SLEEP_COMPLETION, b"\x08\x01")


def _end() -> bytes:
    return frame(FrameType.END, b"")


@pytest.mark.parametrize(
    ("version", "wrong", "why"),
    [
        (7, _command, "only notifications and acks"),
        (6, _command, "only notifications after"),
        (7, _start, "only notifications"),
        (7, _end, "only notifications"),
        (7, _ack, "acknowledged run 1, whose result was not proposed"),
        (6, _ack, "only notifications after"),
        (5, _ack, "only notifications after"),
        (7, _empty_notification, "[RT0012]"),
    ],
)
def test_what_may_not_come_while_the_handler_runs_ends_the_attempt(
    version: int, wrong: Callable[[], bytes], why: str
) -> None:
    async def scenario() -> None:
        peer = begin(app, service, "napping", version)
        await peer.take(Sleep)
        ended.clear()
        peer.write(wrong())
        failed = await peer.take(Failed)
        assert failed.code == 571
        assert why in failed.message
        await peer.finish()
        assert ended == ["napping"]

    asyncio.run(scenario())


def test_bytes_after_the_last_frame_are_ignored() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "echo", entries=[Input((), b'"x"')])
        await peer.take(Output)
        await peer.take(Ended)
        peer.write(b"\xff" * 100)
        await peer.finish()

    asyncio.run(scenario())


@pytest.mark.parametrize("handler", ["napping", "busy"])
def test_a_server_that_vanishes_ends_the_handler(handler: str) -> None:
    async def scenario() -> None:
        serving = Serving(Endpoint().bind(service))
        peer = Peer(serving, f"/invoke/S/{handler}").open()
        peer.write(peer.start_data(service, handler))
        while not peer.status:
            await asyncio.sleep(0)
        if handler == "napping":
            await peer.take(Sleep)
        peer.disconnect()
        await peer.done()
        assert not peer.is_over
        for _ in range(10):
            await asyncio.sleep(0)
        assert serving.running_count == 0

    asyncio.run(scenario())


def test_a_server_that_vanishes_before_the_start_is_complete_leaves_nothing() -> None:
    async def scenario() -> None:
        peer = Peer(app, "/invoke/S/napping").open()
        peer.write(START)
        peer.disconnect()
        await peer.done()
        assert peer.bursts == []

    asyncio.run(scenario())


def test_a_client_that_takes_nothing_more_ends_the_attempt_quietly() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "napping")
        await peer.take(Sleep)
        ended.clear()
        peer.is_broken = True
        peer.notify(Completion(1, Void()))
        await peer.done()
        assert ended == ["napping"]

    asyncio.run(scenario())


def test_a_draining_endpoint_asks_its_handlers_to_suspend() -> None:
    async def scenario() -> None:
        serving = Serving(Endpoint().bind(service))
        peer = Peer(serving, "/invoke/S/napping").open()
        peer.write(peer.start_data(service, "napping"))
        await peer.take(Sleep)
        await peer.next()
        serving.drain()
        await peer.take(Suspended)
        await peer.finish()
        serving.close()

    asyncio.run(scenario())


def test_a_request_that_is_cut_within_a_header_is_told() -> None:
    reading = StreamInput(start_of(service, "echo").handler, 7)
    assert reading.feed(START[:5]) == []
    with pytest.raises(ProtocolError, match="middle of a frame"):
        reading.end()
