"""Runs, suspension, resumption and signals, as a well-behaved peer sees them (protocol 5.7, 5.8).

Numbers of rows are those of the protocol's checklist (11).
"""

import asyncio

import pytest

from perdure.actors.clock import EPOCH_MS
from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Combinator,
    Failed,
    ProposeRun,
)
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    Completion,
    Failure,
    Input,
    Output,
    Run,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.requests import Op
from perdure.journal.wire.control import read_run_ack
from perdure.journal.wire.frames import FrameType
from tests.actors.remote.peer import (
    OK,
    Exchange,
    hears,
    notifications,
    on,
    says,
    suspended,
)
from tests.actors.remote.stage import Play, World

FAR_MS = 4_000_000_000_000
CANCEL = Signal(CANCEL_SIGNAL, Void())


@pytest.fixture(params=["memory", "disk"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(request.param == "disk")


async def answered(world: World) -> None:
    assert await world.call() == Value(OK)


# ---- runs ---------------------------------------------------------------------------------------


def test_v6_returns_the_whole_result_of_a_run(play: Play) -> None:
    async def runs(x: Exchange) -> None:
        await x.begin()
        failure = Failure(418, "no", {"a": "b"})
        await x.say(Run(1), Run(2), ProposeRun(2, failure), ProposeRun(1, Value(b"1")))
        assert await hears(x) == Completion(2, failure)
        assert await hears(x) == Completion(1, Value(b"1"))
        await x.answer()

    play(answered, runs, version=6)


def test_v5_failures_have_no_metadata(play: Play) -> None:
    async def runs(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1), ProposeRun(1, Failure(418, "no", {"a": "b"})))
        assert await hears(x) == Completion(1, Failure(418, "no"))
        assert x.start.random_seed is None
        await x.answer()

    play(answered, runs, version=5)


def test_v7_acknowledges_and_replays_the_result_in_its_place(play: Play) -> None:
    """Rows 11 and 12: the ack stands where the result stands in the journal."""

    async def runs(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1), Sleep(2, 0), Run(3), ProposeRun(3, Value(b"3")))
        assert await hears(x) == Completion(2, Void())
        raw = await x.read()
        assert raw is not None
        assert read_run_ack(raw) == 3
        await x.say(ProposeRun(1, Value(b"1")))
        raw = await x.read()
        assert raw is not None
        assert read_run_ack(raw) == 1
        await x.finish(Failed(500, "again"))

    async def replays(x: Exchange) -> None:
        await x.begin()
        assert FrameType.PROPOSE_RUN_COMPLETION_ACK not in [each.type for each in x.replay]
        assert notifications(x.replay) == [
            Completion(2, Void()),
            Completion(3, Value(b"3")),
            Completion(1, Value(b"1")),
        ]
        await x.answer()

    play(answered, runs, replays)


def test_a_proposal_without_the_ack_flag_gets_the_result(play: Play) -> None:
    async def runs(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1), bytes.fromhex("0005000000000007") + bytes.fromhex("08017203227222"))
        assert await hears(x) == Completion(1, Value(b'"r"'))
        await x.answer()

    play(answered, runs)


def test_request_and_response_costs_an_attempt_for_each_run(play: Play) -> None:
    """Row 13: nothing is sent after the replay; the stored result resumes at once."""

    async def runs(x: Exchange) -> None:
        await x.begin()
        assert await x.read_all() == []
        n = len(notifications(x.replay)) + 1
        if n == 4:
            return await x.answer()
        await x.finish(
            Run(n), ProposeRun(n, Value(b"%d" % n)), suspended(on(n, signals=(CANCEL_SIGNAL,)))
        )

    async def scenario(world: World) -> None:
        began_s = asyncio.get_running_loop().time()
        await answered(world)
        assert len(world.exchanges()) == 4
        assert asyncio.get_running_loop().time() - began_s < 0.1
        assert [each.start.retry_count for each in world.exchanges()] == [0] * 4

    play(scenario, *[runs] * 4, bidi=False)


def test_inactivity_zero_is_request_and_response(play: Play) -> None:
    """Row 15."""

    async def sleeps(x: Exchange) -> None:
        await x.begin()
        assert await x.read_all() == []
        await x.finish(Sleep(1, EPOCH_MS + 30_000), suspended(on(1)))

    async def scenario(world: World) -> None:
        await answered(world)
        assert len(world.exchanges()) == 2

    play(scenario, sleeps, inactivity_timeout_ms=0)


def test_a_run_that_was_not_proposed_is_replayed_open(play: Play) -> None:
    async def proposes(x: Exchange) -> None:
        await x.begin()
        assert [each.type for each in x.replay] == [FrameType.INPUT, FrameType.RUN]
        assert x.start.retry_count == 1
        await x.say(ProposeRun(1, Value(b"1")))
        assert await x.read() is not None
        await x.answer()

    play(answered, says(Run(1, "r"), Failed(500, "once")), proposes)


def test_retry_count_grows_until_a_new_command_comes(play: Play) -> None:
    """Row 31: bounded runs need it; a proposal is no command."""

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        counts = [each.start.retry_count for each in world.exchanges()]
        assert counts == [0, 1, 2, 3, 1, 2]
        assert world.exchanges()[3].start.retry_duration_ms >= 500

    fails = says(Failed(500, "no"))
    proposes = says(ProposeRun(1, Value(b"1")), Failed(500, "no"))
    first = says(Run(1), Failed(500, "no"))
    play(scenario, first, fails, proposes, says(Run(2), Failed(500, "no")), fails)


# ---- suspension ---------------------------------------------------------------------------------


def test_a_completion_just_before_the_suspension_is_not_missed(play: Play) -> None:
    """Row 18, at every moment around the end of the input."""

    for late_ms in range(9_990, 10_011, 2):

        async def sleeps(x: Exchange, late_ms: int = late_ms) -> None:
            await x.begin()
            await x.say(Sleep(1, EPOCH_MS + 6_000 + late_ms))
            if await x.read_all():
                return await x.answer()
            await asyncio.sleep(0.005)
            await x.finish(suspended(on(1)))

        async def scenario(world: World) -> None:
            await answered(world)
            assert len(world.exchanges()) <= 2

        play(scenario, sleeps, inactivity_timeout_ms=10_000)


TREES: list[tuple[Awaiting, list[int], int]] = [
    # what is awaited, signals that come, how many of them it takes
    (Awaiting(Combinator.FIRST_COMPLETED, (), (17, 18)), [99, 18, 17], 2),
    (Awaiting(Combinator.UNKNOWN, (), (17, 18)), [18], 1),
    (Awaiting(Combinator.ALL_COMPLETED, (), (17, 18)), [18, 99, 17], 3),
    (Awaiting(Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED, (), (17, 18)), [17, 18], 2),
    (Awaiting(Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED, (), (17, 18)), [18], 1),
    (
        Awaiting(
            Combinator.FIRST_COMPLETED,
            (),
            (CANCEL_SIGNAL,),
            (Awaiting(Combinator.ALL_COMPLETED, (), (17, 18)),),
        ),
        [17, 18],
        2,
    ),
]


@pytest.mark.parametrize("number", range(len(TREES)))
def test_v7_resumes_when_the_tree_is_satisfied(play: Play, number: int) -> None:
    """Row 19."""
    tree, signals, needed = TREES[number]

    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "suspended")
        for n, signal in enumerate(signals, 1):
            assert len(world.exchanges()) == 1
            await world.engine.signal(id, signal, Value(b"v"))
            await asyncio.sleep(0.1)
            if n == needed:
                break
        assert await world.result(id) == Value(OK)
        assert len(world.exchanges()) == 2

    play(scenario, says(suspended(tree)))


def test_v6_resumes_on_any_of_what_it_awaits(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "suspended")
        await world.engine.signal(id, 19, Void())
        await asyncio.sleep(1)
        assert len(world.exchanges()) == 1
        await world.engine.signal(id, "s", Void())
        assert await world.result(id) == Value(OK)

    play(scenario, says(suspended(on(5, signals=(17, 18, "s")))), version=6)


@pytest.mark.parametrize("version", [6, 7])
def test_a_consumed_cancel_does_not_resume_for_ever(play: Play, version: int) -> None:
    """Rows 20 and 45b: listed again, an old signal is no news."""

    async def first(x: Exchange) -> None:
        await x.begin()
        await x.finish(Sleep(1, FAR_MS), suspended(on(1, signals=(CANCEL_SIGNAL,))))

    async def catches(x: Exchange) -> None:
        await x.begin()
        assert notifications(x.replay) == [CANCEL]
        await x.read_all()
        await x.say(Sleep(2, EPOCH_MS + 60_000))
        await x.finish(suspended(on(2, signals=(CANCEL_SIGNAL,))))

    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "suspended")
        await world.engine.operate(id, Op.CANCEL)
        assert await world.result(id) == Value(OK)
        assert len(world.exchanges()) == 3

    play(scenario, first, catches, version=version, inactivity_timeout_ms=0)


def test_the_same_signal_awaited_twice_needs_two(play: Play) -> None:
    """Row 45c."""
    awaits = says(suspended(on(signals=("s",))))

    async def scenario(world: World) -> None:
        id = await world.send()
        for count in (1, 2):
            await world.until(id, "suspended")
            await asyncio.sleep(5)
            assert len(world.exchanges()) == count
            await world.engine.signal(id, "s", Value(b"%d" % count))
        assert await world.result(id) == Value(OK)
        assert len(world.exchanges()) == 3

    play(scenario, awaits, awaits, inactivity_timeout_ms=0)


def test_signals_have_values_failures_and_none(play: Play) -> None:
    """Rows 42 and 43: also before anybody awaits them, and twice."""

    async def hears_all(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1))
        heard = [await hears(x) for _ in range(4)]
        assert heard == [
            Signal(17, Value(b"1")),
            Signal(17, Value(b"2")),
            Signal("s", Failure(400, "bad")),
            Signal("s", Void()),
        ]
        await x.answer()

    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(1)
        await world.engine.signal(id, 17, Value(b"1"))
        await world.engine.signal(id, 17, Value(b"2"))
        await world.engine.signal(id, "s", Failure(400, "bad"))
        await world.engine.signal(id, "s", Void())
        assert await world.result(id) == Value(OK)

    play(scenario, hears_all)


def test_awaiting_on_is_shown_and_not_journaled(play: Play) -> None:
    async def waits(x: Exchange) -> None:
        await x.begin()
        await x.say(AwaitingOn(on(1)), Sleep(1, EPOCH_MS + 30_000), AwaitingOn(on(1)))
        await x.say(AwaitingOn(on(1)))
        assert await hears(x) == Completion(1, Void())
        await x.answer()

    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(1)
        assert "1" in (await world.info(id)).awaiting
        assert await world.result(id) == Value(OK)
        assert [type(e) for e in await world.journal(id)] == [Input, Sleep, Completion, Output]

    play(scenario, waits)
