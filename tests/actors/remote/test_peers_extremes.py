"""Peers that send too much, or numbers beyond reason: it is refused, cut or taken piece by piece."""

import pytest

from perdure.journal.attempt import Ended, Failed
from perdure.journal.entries import (
    Input,
    OneWayCall,
    Output,
    SetState,
    Sleep,
    Value,
)
from perdure.journal.wire.frames import FrameType, frame
from tests.actors.remote.peer import OK, Exchange, encode, on, says, suspended
from tests.actors.remote.stage import Play, World, retried

FAR_MS = 4_000_000_000_000


@pytest.fixture(params=["memory", "disk"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(request.param == "disk")


# ---- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", encode(SetState("a", b"1"), 7)])
def test_an_oversize_frame_fails_by_its_header_alone(play: Play, before: bytes) -> None:
    async def announces(x: Exchange) -> None:
        await x.begin()
        if before:
            await x.raw(before)
        await x.raw(bytes.fromhex("0403000002000001"))  # 32 MiB and one byte; no payload follows
        await x.read_all()

    retried(play, announces, "[RT0003]", "set_state (0x0403)", "33554433", "33554432")


def test_commands_before_an_oversize_header_stay_however_the_bytes_are_cut(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert [type(each) for each in await world.journal(id)] == [Input, SetState, Output]

    play(scenario, says(SetState("a", b"1"), bytes.fromhex("0403000002000001")))


def test_large_values_in_one_piece_are_taken_one_by_one(play: Play) -> None:
    """Three frames below the limit, but together over what one burst may hold."""
    value = b"x" * (24 << 20)

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert (await world.info(id)).last_failure is None

    frames = [SetState(name, value) for name in "abc"]
    play(scenario, says(*frames, Output(Value(OK)), Ended()))


# ---- numbers beyond reason ----------------------------------------------------------------------


def test_a_retry_delay_beyond_all_time_waits_and_can_be_ended(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "backing-off")

    play(scenario, says(Failed(500, "later", next_retry_delay_ms=2**64 - 1)))


def test_a_sleep_beyond_all_time_suspends(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "suspended")

    play(scenario, says(Sleep(1, 2**64 - 1), suspended(on(1))))


def test_a_send_beyond_all_time_is_scheduled(play: Play) -> None:
    async def scenario(world: World) -> None:
        assert await world.call() == Value(OK)
        assert len(world.exchanges("Plain/b")) == 0

    frames = OneWayCall(1, "Plain", "b", "", b"", 2**64 - 1), Output(Value(OK)), Ended()
    play(scenario, says(*frames))


# ---- too much of it -----------------------------------------------------------------------------


def test_an_error_of_many_megabytes_is_cut(play: Play) -> None:
    """It is part of the invocation's record, which is written again with every step."""

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        failure = await world.failure(id)
        assert failure.message == "m" * 32_768
        assert failure.stacktrace == "s" * 32_768

    play(scenario, says(Failed(500, "m" * 5_000_000, "s" * 5_000_000)))


def test_many_small_frames_at_once_are_taken(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert len(await world.journal(id)) == 5_002
        assert await world.engine.state("Thing", "k") == {"n": b"4999"}

    frames = [SetState("n", b"%d" % n) for n in range(5_000)]
    play(scenario, says(*frames, Output(Value(OK)), Ended()))


def test_a_value_that_is_kept_as_it_came_may_be_as_large_as_any(play: Play) -> None:
    """Value before key, so that both the command and its message are journaled."""
    value = b"x" * ((32 << 20) - 100)
    payload = encode(SetState("", value), 7)[8:] + b"\x0a\x01a"

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert (await world.info(id)).last_failure is None
        assert await world.engine.state("Thing", "k") == {"a": value}

    play(scenario, says(*[frame(FrameType.SET_STATE, payload)] * 3, Output(Value(OK)), Ended()))
