"""Errors, retries and state, as a well-behaved peer sees them (protocol 5.4, 5.9).

Numbers of rows are those of the protocol's checklist (11).
"""

import asyncio
from itertools import pairwise

import pytest

from perdure.journal.attempt import (
    Behavior,
    Ended,
    Failed,
)
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    ClearAllState,
    ClearState,
    Completion,
    Failure,
    GetEagerState,
    GetLazyState,
    GetLazyStateKeys,
    Output,
    SetState,
    Signal,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.schema import OnMaxAttempts, RetryPolicy
from tests.actors.remote.peer import (
    OK,
    Exchange,
    hears,
    says,
)
from tests.actors.remote.stage import Play, World

FAR_MS = 4_000_000_000_000
CANCEL = Signal(CANCEL_SIGNAL, Void())


@pytest.fixture(params=["memory", "disk"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(request.param == "disk")


async def answered(world: World) -> None:
    assert await world.call() == Value(OK)


# ---- errors and retries -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [6, 7])
def test_behaviors_are_honoured_on_every_version(play: Play, version: int) -> None:
    """Row 32."""

    async def scenario(world: World) -> None:
        assert await world.call() == Failure(599, "over")
        paused = await world.send()
        assert (await world.until(paused, "paused")).paused_reason == "wait"

    fail = says(Failed(599, "over", behavior=Behavior.FAIL))
    pause = says(Failed(500, "wait", behavior=Behavior.PAUSE))
    play(scenario, fail, pause, version=version)


@pytest.mark.parametrize("code", [404, 409, 500, 570, 571])
def test_no_error_code_is_terminal(play: Play, code: int) -> None:
    """Rows 33 and 57."""

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert (await world.failure(id)).code == code

    play(scenario, says(Failed(code, "no")))


def test_an_error_without_code_and_words_gets_both(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        failure = await world.failure(id)
        assert failure.code == 500
        assert failure.message == "the deployment sent an error without a message"

    play(scenario, says(Failed(0, "")))


def test_delays_grow_by_the_policy(play: Play) -> None:
    """Row 28: 500 ms · 2ⁿ, and up to 30 % more."""

    async def scenario(world: World) -> None:
        times: list[float] = []

        async def notes(x: Exchange) -> None:
            times.append(asyncio.get_running_loop().time())
            await x.begin()
            await x.finish(Failed(500, "no"))

        world.peer.will("Thing/a", *[notes] * 5)
        await answered(world)
        for n, (before, after) in enumerate(pairwise(times)):
            assert 0.5 * 2**n <= after - before <= 0.5 * 2**n * 1.3 + 0.01

    play(scenario)


@pytest.mark.parametrize("kills", [True, False])
def test_after_the_last_attempt_it_pauses_or_ends(play: Play, kills: bool) -> None:
    """Row 29."""

    async def scenario(world: World) -> None:
        id = await world.send()
        if kills:
            assert await world.result(id) == Failure(500, "no")
        else:
            assert "no" in (await world.until(id, "paused")).paused_reason
        assert len(world.exchanges()) == 3

    policy = RetryPolicy(
        max_attempts=3, on_max_attempts=OnMaxAttempts.KILL if kills else OnMaxAttempts.PAUSE
    )
    play(scenario, *[says(Failed(500, "no"))] * 3, retry=policy)


def test_a_delay_of_the_peer_does_not_use_up_the_policy(play: Play) -> None:
    """Row 30."""

    async def scenario(world: World) -> None:
        began_s = asyncio.get_running_loop().time()
        await answered(world)
        assert 5 * 7 <= asyncio.get_running_loop().time() - began_s < 5 * 7 + 1
        assert len(world.exchanges()) == 6

    once = RetryPolicy(max_attempts=1, on_max_attempts=OnMaxAttempts.KILL)
    play(scenario, *[says(Failed(500, "no", next_retry_delay_ms=7_000))] * 5, retry=once)


# ---- state --------------------------------------------------------------------------------------


def test_state_is_sent_complete(play: Play) -> None:
    """Rows 34 and 37."""
    writes = says(
        *(SetState("old", b"1"), ClearAllState(), SetState("a", b"1"), SetState("b", b"2")),
        *(ClearState("b"), Failed(500, "again")),
    )

    async def reads(x: Exchange) -> None:
        await x.begin()
        assert x.start.state == {"a": b"1"}
        assert not x.start.partial_state
        await x.finish(GetEagerState("a", b"1"), Output(Value(OK)), Ended())

    async def scenario(world: World) -> None:
        await answered(world)
        assert await world.call() == Value(OK)
        assert world.exchanges()[2].start.state == {"a": b"1"}

    play(scenario, writes, reads)


def test_lazy_state_is_asked_for(play: Play) -> None:
    """Row 35."""

    async def asks(x: Exchange) -> None:
        await x.begin()
        assert x.start.state == {}
        assert x.start.partial_state
        await x.say(SetState("a", b"1"), SetState("e", b""))
        await x.say(GetLazyState(1, "a"), GetLazyState(2, "b"), GetLazyState(3, "e"))
        await x.say(GetLazyStateKeys(4))
        assert [await hears(x) for _ in range(4)] == [
            Completion(1, Value(b"1")),
            Completion(2, Void()),
            Completion(3, Value(b"")),
            Completion(4, StateKeys(("a", "e"))),
        ]
        await x.answer()

    play(answered, asks, lazy_state=True)


def test_listed_keys_are_sent_and_the_others_asked_for(play: Play) -> None:
    """Row 36."""

    async def asks(x: Exchange) -> None:
        await x.begin()
        assert x.start.state == {"a": b"1"}
        assert x.start.partial_state
        await x.say(GetLazyState(1, "b"))
        assert await hears(x) == Completion(1, Value(b"2"))
        await x.answer()

    async def scenario(world: World) -> None:
        await world.engine.patch_state("Thing", "k", {"a": b"1", "b": b"2"}, None)
        await answered(world)

    play(scenario, asks, lazy_state=True, eager_keys=("a", "none"))


def test_state_beyond_one_message_is_cut(play: Play) -> None:
    async def reads(x: Exchange) -> None:
        await x.begin()
        assert x.start.partial_state
        assert 0 < len(x.start.state) < 5
        await x.answer()

    async def scenario(world: World) -> None:
        large = {f"s{n}": b"x" * (8 << 20) for n in range(5)}
        await world.engine.patch_state("Thing", "k", large, None)
        await answered(world)

    play(scenario, reads)


@pytest.mark.parametrize("target", ["Plain/a", "Thing/s", "Flow/run", "Flow/s"])
def test_the_start_fits_its_target(play: Play, target: str) -> None:
    async def scenario(world: World) -> None:
        assert await world.call(target) == Value(OK)
        (exchange,) = world.exchanges(target)
        keyed = not target.startswith("Plain")
        assert exchange.start.key == ("k" if keyed else "")
        assert exchange.start.partial_state != keyed
        assert ("x-restate-service-key" in exchange.headers) == keyed

    play(scenario)


def test_seed_and_id_never_change(play: Play) -> None:
    """Row 53."""
    fails = says(Failed(500, "no"))

    async def scenario(world: World) -> None:
        await answered(world)
        starts = [each.start for each in world.exchanges()]
        assert len({(s.random_seed, s.id, s.debug_id, s.key) for s in starts}) == 1
        assert len(starts) == 3

    play(scenario, fails, fails)
