"""Calls, cancellation, and where invocations run, as a well-behaved peer sees them (protocol 5.3, 5.5, 5.11).

Numbers of rows are those of the protocol's checklist (11).
"""

import asyncio
from typing import Any

import msgspec
import pytest

from perdure.actors.clock import EPOCH_MS
from perdure.actors.remote.asgi import AsgiTransport
from perdure.journal.attempt import (
    Behavior,
    Ended,
    Failed,
)
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    Call,
    Completion,
    Failure,
    InvocationId,
    OneWayCall,
    Output,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.requests import Op
from perdure.journal.schema import RetryPolicy
from tests.actors.remote.peer import (
    OK,
    Exchange,
    Peer,
    healthy,
    hears,
    notifications,
    on,
    says,
    silent,
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


# ---- calls and cancellation ---------------------------------------------------------------------


def test_a_calls_id_comes_before_its_result(play: Play) -> None:
    """Rows 21 and 27."""

    async def calls(x: Exchange) -> None:
        await x.begin()
        await x.say(Call(1, 2, "Plain", "b", "", b"in", (("h", "v"),)))
        first, second = await hears(x), await hears(x)
        assert type(first.result) is InvocationId
        assert second == Completion(2, Failure(418, "teapot", {"a": "b"}))
        await x.answer()

    async def scenario(world: World) -> None:
        fails = says(Output(Failure(418, "teapot", {"a": "b"})), Ended())
        world.peer.will("Plain/b", fails)
        await answered(world)
        (callee,) = world.exchanges("Plain/b")
        assert b"in" in callee.replay[0].payload

    play(scenario, calls)


def test_calls_with_one_idempotency_key_are_one(play: Play) -> None:
    """Row 23."""

    async def calls(x: Exchange) -> None:
        await x.begin()
        for n in (1, 3):
            await x.say(Call(n, n + 1, "Plain", "b", "", b"", idempotency_key="same"))
        heard = [await hears(x) for _ in range(4)]
        results = {each.completion_id: each.result for each in heard}
        assert results[1] == results[3]
        assert results[2] == results[4] == Value(OK)
        await x.answer()

    async def scenario(world: World) -> None:
        await answered(world)
        assert len(world.exchanges("Plain/b")) == 1

    play(scenario, calls)


def test_an_unknown_callee_is_found_once_it_is_registered(play: Play) -> None:
    """Row 25."""
    calls = says(OneWayCall(1, "Late", "b", "", b""), Output(Value(OK)), Ended())

    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "backing-off")
        assert "[RT0018]" in (await world.failure(id)).message
        plain = world.spec.services[0]
        handlers = {
            name: msgspec.structs.replace(each, service="Late")
            for name, each in plain.handlers.items()
        }
        late = msgspec.structs.replace(plain, name="Late", handlers=handlers)
        spec = msgspec.structs.replace(world.spec, services=(*world.spec.services, late))
        world.engine.deploy(spec, world.transport)
        assert await world.result(id) == Value(OK)
        await asyncio.sleep(1)
        assert len(world.exchanges("Late/b")) == 1

    play(scenario, calls, calls, calls)


def test_a_cancelled_child_is_told_and_a_send_is_not(play: Play) -> None:
    """Rows 44 and 45: the peer propagates; the runtime delivers."""

    async def parent(x: Exchange) -> None:
        await x.begin()
        await x.say(Call(1, 2, "Plain", "b", "", b""), OneWayCall(3, "Thing", "s", "z", b""))
        child = (await hears(x)).result.id
        assert type((await hears(x)).result) is InvocationId
        assert await hears(x) == CANCEL
        await x.say(SendSignal(child, CANCEL_SIGNAL, Void()))
        assert await hears(x) == Completion(2, Failure(409, "cancelled"))
        await x.finish(Output(Failure(409, "cancelled")), Ended())

    async def child(x: Exchange) -> None:
        await x.begin()
        await x.say(Sleep(1, FAR_MS))
        assert await hears(x) == CANCEL
        await x.finish(Output(Failure(409, "cancelled")), Ended())

    async def sent(x: Exchange) -> None:
        await x.begin()
        await x.finish(Sleep(1, EPOCH_MS + 100_000), suspended(on(1, signals=(CANCEL_SIGNAL,))))

    async def scenario(world: World) -> None:
        world.peer.will("Plain/b", child)
        world.peer.will("Thing/s", sent)
        id = await world.send()
        await asyncio.sleep(1)
        await world.engine.operate(id, Op.CANCEL)
        assert await world.result(id) == Failure(409, "cancelled")
        await asyncio.sleep(100)
        first, second = world.exchanges("Thing/s")
        assert CANCEL not in notifications(second.replay)
        assert first.start.debug_id == second.start.debug_id

    play(scenario, parent)


def test_a_kill_ends_the_tree_and_lets_the_next_in(play: Play) -> None:
    """Row 46."""

    async def begins(x: Exchange) -> None:
        await x.begin()
        await silent(x)

    async def parent(x: Exchange) -> None:
        await x.begin()
        await x.say(Call(1, 2, "Plain", "b", "", b""), OneWayCall(3, "Plain", "b", "", b""))
        await silent(x)

    async def scenario(world: World) -> None:
        world.peer.will("Plain/b", begins, begins)
        id = await world.send()
        next_id = await world.send()
        await asyncio.sleep(1)
        assert (await world.info(next_id)).status == "pending"
        await world.engine.operate(id, Op.KILL)
        assert await world.result(next_id) == Value(OK)
        for each in world.exchanges("Plain/b"):
            assert (await world.result(each.start.debug_id)).message == "killed"
        assert world.engine.open_attempt_count == 0

    play(scenario, parent)


def test_paused_stays_paused_until_resumed_or_cancelled(play: Play) -> None:
    """Row 48."""

    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "paused")
        await world.engine.signal(id, "s", Void())
        await asyncio.sleep(5)
        assert (await world.info(id)).status == "paused"
        await world.engine.operate(id, Op.CANCEL)
        assert await world.result(id) == Value(OK)
        _, second = world.exchanges()
        assert notifications(second.replay) == [Signal("s", Void()), CANCEL]
        assert second.start.retry_count == 0

    play(scenario, says(Failed(500, "stop", behavior=Behavior.PAUSE)))


# ---- deployments --------------------------------------------------------------------------------


def newer(world: World) -> tuple[Any, Peer, AsgiTransport]:
    peer = Peer()
    services = tuple(
        msgspec.structs.replace(each, revision=2, deployment_id="dp_new")
        for each in world.spec.services
    )
    spec = msgspec.structs.replace(world.spec, id="dp_new", services=services)
    return spec, peer, AsgiTransport(peer)


def test_what_runs_stays_where_it_began(play: Play) -> None:
    """Row 49: pinned by its first command; what has journaled nothing moves on."""

    async def scenario(world: World) -> None:
        pinned, free = await world.send(key="pinned"), await world.send("Thing/s")
        await world.until(pinned, "suspended")
        await world.until(free, "backing-off")
        spec, peer, transport = newer(world)
        world.engine.deploy(spec, transport)
        assert await world.result(pinned) == Value(OK)
        assert await world.result(free) == Value(OK)
        assert await world.call(key="new") == Value(OK)
        assert len(world.exchanges("Thing/a")) == 2
        assert len(peer.exchanges["Thing/a"]) == 1
        assert len(world.exchanges("Thing/s")) == 1
        assert len(peer.exchanges["Thing/s"]) == 1

    async def play_it(world: World) -> None:
        world.peer.will("Thing/s", says(Failed(500, "once")))
        await scenario(world)

    play(play_it, says(Sleep(1, EPOCH_MS + 30_000), suspended(on(1))))


def test_a_removed_deployment_is_waited_for(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "suspended")
        world.engine.undeploy("dp_peer")
        await world.engine.signal(id, "s", Void())
        await world.until(id, "backing-off")
        assert (await world.failure(id)).message.startswith("[RT0011]")
        transport = AsgiTransport(world.peer)
        world.engine.deploy(world.spec, transport)
        assert await world.result(id) == Value(OK)
        assert world.exchanges()[-1].start.retry_count == 0

    play(scenario, says(SetState("a", b"1"), suspended(on(signals=("s",)))))


def test_a_deployment_that_goes_while_an_attempt_runs_fails_it(play: Play) -> None:
    async def stays(x: Exchange) -> None:
        await x.begin()
        await x.say(SetState("a", b"1"))
        await silent(x)

    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(1)
        spec, _, transport = newer(world)
        world.engine.deploy(spec, transport)
        world.engine.undeploy("dp_peer")
        await world.until(id, "backing-off")
        assert await world.call(key="other") == Value(OK)
        world.engine.deploy(world.spec, AsgiTransport(world.peer))
        assert await world.result(id) == Value(OK)

    play(scenario, stays, healthy)


def test_what_cannot_be_encoded_fails_the_attempt_and_nothing_else(play: Play) -> None:
    """A failure of a handler in this process may have a code that no message can hold."""

    async def waits(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1))
        await x.read_all()

    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(1)
        await world.engine.signal(id, "s", Failure(-1, "negative"))
        info = await world.until(id, "backing-off")
        assert info.last_failure is not None
        assert "cannot be encoded" in info.last_failure.message
        assert (await world.until(id, "paused")).attempt_count == 3

    play(scenario, waits, retry=RetryPolicy(max_attempts=3))
