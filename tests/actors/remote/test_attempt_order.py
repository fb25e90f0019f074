"""Order and durability (protocol 7): what a peer hears is on disk, gapless and in journal order.

The store's gate holds appends back, so that a test sees what goes out before a commit and what after it.
"""

import asyncio
from typing import Any

import pytest

from perdure.journal.attempt import Ended, Failed, ProposeRun
from perdure.journal.entries import (
    Call,
    Completion,
    GetLazyState,
    Input,
    Output,
    Run,
    SetState,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.wire.control import read_run_ack
from perdure.journal.wire.frames import FrameType, RawFrame
from perdure.journal.wire.notifications import read_notification
from tests.actors.remote.peer import (
    OK,
    Exchange,
    notifications,
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


# ---- nothing before its commit ------------------------------------------------------------------


@pytest.mark.parametrize("version", [6, 7])
def test_no_completion_or_ack_leaves_before_it_is_durable(play: Play, version: int) -> None:
    """D4."""

    async def scenario(world: World) -> None:
        opened, go = asyncio.Event(), asyncio.Event()
        heard: list[RawFrame] = []

        async def waits(x: Exchange) -> None:
            await x.begin()
            await opened.wait()
            await x.say(GetLazyState(1, "a"), Sleep(2, 0), Run(3), ProposeRun(3, Value(b"3")))
            for _ in range(3):
                raw = await x.read()
                assert raw is not None
                heard.append(raw)
            await go.wait()
            await x.answer()

        world.peer.will("Thing/a", waits)
        id = await world.send()
        await turns()
        world.store.gate.clear()
        opened.set()
        await turns()
        assert world.store.waiting_count == 1
        assert heard == []
        world.store.gate.set()
        await asyncio.sleep(0.1)
        *first, last = heard
        assert notifications(first) == [Completion(1, Void()), Completion(2, Void())]
        if version == 7:
            assert (last.type, read_run_ack(last)) == (FrameType.PROPOSE_RUN_COMPLETION_ACK, 3)
        else:
            assert read_notification(last) == Completion(3, Value(b"3"))
        go.set()
        assert await world.result(id) == Value(OK)

    play(scenario, version=version)


def test_no_attempt_starts_before_its_invocation_is_durable(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.store.gate.clear()
        sending = asyncio.create_task(world.send())
        await turns()
        assert world.exchanges() == []
        world.store.gate.set()
        assert await world.result(await sending) == Value(OK)

    play(scenario)


def test_a_callee_does_not_start_before_the_call_is_durable(play: Play) -> None:
    """D5, D6: the call, the callee's id and the callee are one commit."""

    async def scenario(world: World) -> None:
        opened = asyncio.Event()

        async def calls(x: Exchange) -> None:
            await x.begin()
            await opened.wait()
            await x.say(Call(1, 2, "Plain", "b", "", b"in"))
            first, second = await x.read(), await x.read()
            assert first is not None
            assert second is not None
            ids.append(read_notification(first))
            assert read_notification(second) == Completion(2, Value(OK))
            await x.answer()

        ids: list[Any] = []
        world.peer.will("Thing/a", calls)
        id = await world.send()
        await turns()
        world.store.gate.clear()
        opened.set()
        await turns()
        assert world.exchanges("Plain/b") == []
        world.store.gate.set()
        assert await world.result(id) == Value(OK)
        callee = ids[0].result.id
        assert world.exchanges("Plain/b")[0].start.debug_id == callee
        assert (await world.info(callee)).invoked_by == id

    play(scenario)


def test_a_result_is_told_only_once_its_end_is_durable(play: Play) -> None:
    """D8. Output alone publishes nothing."""

    async def scenario(world: World) -> None:
        opened = asyncio.Event()

        async def answers(x: Exchange) -> None:
            await x.begin()
            await x.say(Output(Value(OK)))
            await opened.wait()
            await x.finish(Ended())

        world.peer.will("Thing/a", answers)
        id = await world.send()
        waiting = asyncio.create_task(world.result(id))
        await asyncio.sleep(1)
        assert not waiting.done()
        world.store.gate.clear()
        opened.set()
        await turns()
        assert not waiting.done()
        world.store.gate.set()
        assert await waiting == Value(OK)

    play(scenario)


def test_an_output_without_its_end_is_finished_by_the_next_attempt(play: Play) -> None:
    async def drops(x: Exchange) -> None:
        await x.begin()
        await x.say(SetState("a", b"1"), Output(Value(OK)))
        await x.end()

    async def ends(x: Exchange) -> None:
        await x.begin()
        assert x.replay[-1].type == FrameType.OUTPUT
        await x.finish(Ended())

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert [type(each) for each in await world.journal(id)] == [Input, SetState, Output]

    play(scenario, drops, ends)


def test_the_next_attempt_waits_for_the_frames_of_the_failed_one(play: Play) -> None:
    """D7, D9: also where a delay of zero would let it start at once."""

    async def scenario(world: World) -> None:
        opened = asyncio.Event()

        async def fails(x: Exchange) -> None:
            await x.begin()
            await opened.wait()
            await x.finish(SetState("a", b"1"), Failed(500, "no", next_retry_delay_ms=0))

        world.peer.will("Thing/a", fails)
        id = await world.send()
        await turns()
        world.store.gate.clear()
        opened.set()
        await turns()
        assert len(world.exchanges()) == 1
        world.store.gate.set()
        assert await world.result(id) == Value(OK)
        _, second = world.exchanges()
        assert second.start.known_entry_count == len(second.replay) == 2
        assert second.start.state == {"a": b"1"}
        assert not second.start.partial_state

    play(scenario)


# ---- in order, gapless --------------------------------------------------------------------------


def test_replay_and_live_meet_without_a_gap_or_a_double(play: Play) -> None:
    """D10: signals keep coming while attempts come and go."""
    seen: list[list[int]] = []

    async def reads(x: Exchange) -> None:
        await x.begin()
        mine = [int(each.signal) for each in notifications(x.replay) if type(each) is Signal]
        seen.append(mine)
        await x.say(SetState(f"n{len(seen)}", b"1"))
        while len(mine) < 20 * len(seen):
            raw = await x.read()
            assert raw is not None
            mine.append(read_notification(raw).signal)  # type: ignore[union-attr, arg-type]
        if len(seen) < 6:
            return await x.finish(Failed(500, "again", next_retry_delay_ms=3))
        await x.answer()

    async def scenario(world: World) -> None:
        id = await world.send()
        for n in range(200):
            await world.engine.signal(id, 100 + n, Void())
            if n % 7 == 0:
                await asyncio.sleep(0.002)
        assert await world.result(id) == Value(OK)
        for each in seen:
            assert each == list(range(100, 100 + len(each)))
        assert len(seen) == 6

    play(scenario, *[reads] * 6)


def test_signals_that_race_the_open_are_heard_once(play: Play) -> None:
    """Some are in the snapshot, some come while it waits for its commit, some after it."""

    async def collects(x: Exchange) -> None:
        await x.begin()
        heard = notifications(x.replay)
        while len(heard) < 30:
            raw = await x.read()
            assert raw is not None
            heard.append(read_notification(raw))
        assert [each.signal for each in heard] == list(range(100, 130))
        await x.answer()

    async def scenario(world: World) -> None:
        world.store.gate.clear()
        invoke = world.invoke("Thing/a", "k", name="me")
        id = world.engine.new_id(invoke)
        sending = asyncio.create_task(world.send(name="me"))
        await turns(20)
        signals = [asyncio.create_task(world.engine.signal(id, 100 + n, Void())) for n in range(30)]
        await turns(20)
        world.store.gate.set()
        await asyncio.gather(*signals)
        assert await world.result(await sending) == Value(OK)

    play(scenario, collects)


def test_commands_are_never_sent_back(play: Play) -> None:
    """D11."""

    async def says(x: Exchange) -> None:
        await x.begin()
        await x.say(SetState("a", b"1"), Run(1, "r"), Sleep(2, 0), ProposeRun(1, Value(b"1")))
        types = [raw.type for _ in range(2) if (raw := await x.read()) is not None]
        assert types == [FrameType.SLEEP_COMPLETION, FrameType.PROPOSE_RUN_COMPLETION_ACK]
        await x.say(Output(Value(OK)), Ended())
        assert await x.read_all() == []
        await x.end()

    async def scenario(world: World) -> None:
        assert await world.call() == Value(OK)
        assert len(world.exchanges()) == 1

    play(scenario, says)


def test_replay_is_byte_for_byte_what_came(play: Play) -> None:
    """Also fields in another order, and fields that no version knows."""
    unknown = bytes.fromhex("041100000000000a") + bytes.fromhex("5801") + b"\x62\x01r"
    unknown += b"\xa0\x1f\x05"
    unknown = unknown[:7] + bytes([len(unknown) - 8]) + unknown[8:]
    odd = bytes.fromhex("0403000000000008") + bytes.fromhex("1a030a01310a0161")

    async def says(x: Exchange) -> None:
        await x.begin()
        await x.say(odd, unknown)
        await x.finish(Failed(500, "again"))

    async def compares(x: Exchange) -> None:
        await x.begin()
        _, first, second = x.replay
        assert first.payload == odd[8:]
        assert second.payload == unknown[8:]
        await x.answer()

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert len(world.exchanges()) == 2
        assert await world.engine.state("Thing", "k") == {"a": b"1"}

    play(scenario, says, compares)
