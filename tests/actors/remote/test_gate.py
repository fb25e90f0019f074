"""An app hosted in this process runs ahead of the disk, up to its first run."""

import asyncio

import pytest

from perdure.actors.remote.gate import RunWatch
from perdure.journal.attempt import Ended, ProposeRun
from perdure.journal.entries import Output, Run, SetState, Value
from perdure.journal.requests import Op
from perdure.journal.wire.commands import command_frame
from perdure.journal.wire.control import control_frame
from tests.actors.remote.peer import OK, Exchange
from tests.actors.remote.stage import Play, World
from tests.actors.remote.test_attempt_order import turns

SET = command_frame(SetState("k", b"v" * 40))
RUN = command_frame(Run(1, "step"))
END = control_frame(Ended(), 7)


@pytest.fixture(params=["memory", "disk"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(request.param == "disk")


def test_a_run_command_is_found_however_the_frames_are_cut() -> None:
    stream = SET + RUN + SET + END
    begin, end = len(SET), len(SET) + len(RUN)
    for size in range(1, len(stream)):
        watch = RunWatch()
        for at in range(0, len(stream), size):
            piece = stream[at : at + size]
            # a piece that ends within the header of a frame can't know yet
            payload = range(begin + 8, end)
            expected = any(at <= each < at + len(piece) for each in payload)
            found = watch.has_run(piece)
            assert found >= expected
            assert not found or at < end


def test_no_run_is_seen_where_there_is_none() -> None:
    value = command_frame(SetState("k", RUN * 3))
    assert not RunWatch().has_run(SET + value + END)


def test_a_hosted_app_begins_before_its_invocation_is_durable_and_its_runs_wait(play: Play) -> None:
    did: list[str] = []

    async def steps(x: Exchange) -> None:
        await x.begin()
        did.append("begun")
        await x.say(SetState("k", b"1"))
        did.append("set")
        await x.say(Run(1))
        did.append("effect")
        await x.say(ProposeRun(1, Value(b"1")))
        await x.read()
        await x.answer()

    async def scenario(world: World) -> None:
        world.peer.will("Thing/a", steps)
        world.store.gate.clear()
        sending = asyncio.create_task(world.send())
        await turns()
        assert did == ["begun", "set"]
        world.store.gate.set()
        assert await world.result(await sending) == Value(OK)
        assert did == ["begun", "set", "effect"]

    play(scenario, hosted=True)


def test_an_attempt_with_a_journal_waits_for_the_disk(play: Play) -> None:
    """Its recorded run is executed again without asking."""
    starts: list[int] = []

    async def breaks(x: Exchange) -> None:
        await x.begin()
        starts.append(1)
        await x.say(Run(1))
        raise RuntimeError("broken")

    async def finishes(x: Exchange) -> None:
        await x.begin()
        starts.append(2)
        await x.say(ProposeRun(1, Value(b"1")), Output(Value(OK)), Ended())

    async def scenario(world: World) -> None:
        world.peer.will("Thing/a", breaks, finishes)
        id = await world.send()
        await world.until(id, "backing-off")
        world.store.gate.clear()
        resuming = asyncio.create_task(world.engine.operate(id, Op.RESUME))
        await turns()
        assert starts == [1]
        world.store.gate.set()
        await resuming
        assert await world.result(id) == Value(OK)
        assert starts == [1, 2]

    play(scenario, hosted=True)
