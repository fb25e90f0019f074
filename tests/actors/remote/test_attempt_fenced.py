"""Attempts that are superseded, peers that do not read, engines that crash: what counts, and what is held.

Late frames change nothing; what waits for a slow peer is bounded; a crash loses nothing durable.
"""

import asyncio

import pytest

from perdure.actors.clock import EPOCH_MS
from perdure.journal.attempt import Ended, Failed
from perdure.journal.entries import (
    Output,
    Run,
    SetState,
    Sleep,
    Value,
    Void,
)
from perdure.journal.errors import StoreFailed
from perdure.journal.requests import Op
from perdure.journal.wire.frames import FrameType, RawFrame
from tests.actors.remote.peer import (
    OK,
    Exchange,
    encode,
    healthy,
    on,
    silent,
    suspended,
)
from tests.actors.remote.stage import Play, World

FAR_MS = 4_000_000_000_000
LARGE = b"x" * 100_000


@pytest.fixture(params=["memory", "disk"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(request.param == "disk")


async def turns(count: int = 200) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ---- fencing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [Op.KILL, Op.PAUSE])
def test_late_frames_of_a_fenced_attempt_are_ignored(play: Play, op: Op) -> None:
    async def scenario(world: World) -> None:
        async def is_late(x: Exchange) -> None:
            await x.begin()
            try:
                await silent(x)
            except asyncio.CancelledError:
                with pytest.raises(OSError, match="aborted"):
                    await x.say(SetState("late", b"1"), Output(Value(b"late")), Ended())
                raise

        world.peer.will("Thing/a", is_late)
        id = await world.send()
        await asyncio.sleep(1)
        await world.engine.operate(id, op)
        await turns()
        assert len(await world.journal(id)) == 1
        if op is Op.PAUSE:
            await world.engine.operate(id, Op.RESUME)
            assert await world.result(id) == Value(OK)
        assert await world.engine.state("Thing", "k") == {}

    play(scenario)


def test_frames_in_flight_when_an_attempt_is_fenced_change_nothing(play: Play) -> None:
    """They have left the peer, but the runtime hears them only after the kill."""

    async def scenario(world: World) -> None:
        opened = asyncio.Event()

        async def says(x: Exchange) -> None:
            await x.begin()
            await opened.wait()
            await x.say(SetState("late", b"1"), Output(Value(b"late")), Ended())
            await x.read_all()

        world.peer.will("Thing/a", says)
        id = await world.send()
        await asyncio.sleep(1)
        opened.set()
        await world.engine.operate(id, Op.KILL)
        await asyncio.sleep(1)
        result = await world.result(id)
        late = result == Value(b"late")
        assert late or result.message == "killed"
        assert ("late" in await world.engine.state("Thing", "k")) == late

    for seed in range(20):
        play(scenario, seed=seed)


def test_a_fenced_stream_hears_nothing_more(play: Play) -> None:
    async def scenario(world: World) -> None:
        heard: list[RawFrame] = []

        async def reads(x: Exchange) -> None:
            await x.begin()
            await x.say(Run(1))
            heard.extend(await x.read_all())

        world.peer.will("Thing/a", reads)
        id = await world.send()
        await asyncio.sleep(1)
        await world.engine.operate(id, Op.PAUSE)
        await world.engine.signal(id, "s", Void())
        await asyncio.sleep(1)
        assert heard == []

    play(scenario)


# ---- back-pressure ------------------------------------------------------------------------------


def test_a_replay_larger_than_any_window_goes_out_piece_by_piece(play: Play) -> None:
    count = 80

    async def writes(x: Exchange) -> None:
        await x.begin()
        for n in range(count):
            await x.say(SetState(f"s{n % 3}", LARGE))
        await x.finish(Failed(500, "again"))

    async def reads(x: Exchange) -> None:
        raw = await x.read()
        assert raw is not None
        while len(x.heard) < 2 + count:
            assert await x.read() is not None
            (stream,) = worlds[0].transport._open
            most.append(stream.buffered_bytes)
            await asyncio.sleep(0.01)
        await x.head()
        await x.answer()

    async def scenario(world: World) -> None:
        worlds.append(world)
        assert await world.call() == Value(OK)
        assert max(most) < 1 << 20  # of 8 MB

    worlds: list[World] = []
    most: list[int] = []
    play(scenario, writes, reads)


def test_a_peer_that_does_not_read_is_asked_to_suspend(play: Play) -> None:
    """Notifications wait for it, but not without bound; what it missed it gets by replay."""
    signal_count = 100

    async def ignores(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1))
        await gates[0].wait()
        missed = await x.read_all()
        heard.append(len(missed))
        await x.finish(suspended(on(signals=(1000 + signal_count - 1,))))

    async def scenario(world: World) -> None:
        gate = asyncio.Event()
        gates.append(gate)
        id = await world.send()
        await asyncio.sleep(0.1)
        for n in range(signal_count):
            await world.engine.signal(id, 1000 + n, Value(LARGE * 2))
        gate.set()
        assert await world.result(id) == Value(OK)
        assert 1 < heard[0] < signal_count
        assert len(world.exchanges()[1].replay) == 2 + signal_count

    gates: list[asyncio.Event] = []
    heard: list[int] = []
    play(scenario, ignores)


def test_notifications_behind_an_unread_replay_are_bounded(play: Play) -> None:
    """The peer takes nothing at all; twelve thousand signals later it is asked to suspend."""

    async def writes(x: Exchange) -> None:
        await x.begin()
        for _ in range(20):
            await x.say(SetState("s", LARGE))
        await x.finish(Failed(500, "again"))

    async def scenario(world: World) -> None:
        gate = asyncio.Event()

        async def sleeps(x: Exchange) -> None:
            await gate.wait()
            await x.begin()
            await x.read_all()
            await x.finish(suspended(on(signals=(1000,))))

        world.peer.will("Thing/a", sleeps)
        id = await world.send()
        await world.until(id, "backing-off")
        await world.until(id, "running")
        await asyncio.gather(*(world.engine.signal(id, 1000 + n, Void()) for n in range(12_000)))
        await asyncio.sleep(1)
        gate.set()
        assert await world.result(id) == Value(OK)
        assert len(world.exchanges()) == 3
        assert len(await world.journal(id)) == 12_000 + 22

    play(scenario, writes)


# ---- stores that fail ---------------------------------------------------------------------------


def test_a_crash_between_frames_goes_on_from_what_was_durable(play: Play) -> None:
    """D15: an engine that was stopped with its attempt open begins another one."""

    async def stops(x: Exchange) -> None:
        await x.begin()
        await x.say(SetState("a", b"1"), Sleep(1, EPOCH_MS + 60_000))
        await silent(x)

    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(1)
        assert len(await world.journal(id)) == 3
        await world.engine.crash()
        with pytest.raises(StoreFailed):
            await world.info(id)
        await world.engine.start()
        assert await world.result(id) == Value(OK)
        assert [each.type for each in world.exchanges()[1].replay] == [
            FrameType.INPUT,
            FrameType.SET_STATE,
            FrameType.SLEEP,
        ]
        assert encode(SetState("a", b"1"), 7)[8:] == world.exchanges()[1].replay[1].payload

    play(scenario, stops, healthy)
