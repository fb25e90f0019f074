"""Partitions that work together: what crosses between them happens once and in order, whatever breaks."""

import asyncio
import json
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from perdure import (
    Context,
    ObjectContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from perdure.actors.clock import run_virtual
from perdure.journal import keys, placement
from perdure.journal.entries import Failure, Value, Void
from perdure.journal.errors import MessageGap, PerdureError
from perdure.journal.ids import format_invocation_id, schedule_id
from perdure.journal.outbox import Kill, Outgoing, encode
from perdure.journal.requests import Filter, Op, OpResult
from perdure.journal.schedules_records import Interval, Spec
from tests.actors.town import JSON, Town

bank = VirtualObject("Bank")
teller = Service("Teller")
flow = Workflow("Flow")

KEYS = [f"k{n}" for n in range(12)]


@bank.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total


@bank.handler()
async def note(ctx: ObjectContext, line: str) -> list[str]:
    lines = [*(await ctx.get("lines", type_hint=list) or []), line]
    ctx.set("lines", lines)
    return lines


@bank.handler()
async def refuse(ctx: ObjectContext) -> None:
    raise TerminalError("no", status_code=418)


@bank.handler()
async def move(ctx: ObjectContext, where: str) -> int:
    """Takes one from here and gives it to another key."""
    total = (await ctx.get("total", type_hint=int) or 0) - 1
    ctx.set("total", total)
    await ctx.object_call(add, key=where, arg=1)
    return total


@bank.handler()
async def forever(ctx: ObjectContext) -> None:
    await ctx.sleep(timedelta(days=10))


@bank.handler()
async def above(ctx: ObjectContext, key: str) -> None:
    await ctx.object_call(forever, key=key, arg=None)


@teller.handler()
async def write(ctx: Context, job: dict[str, Any]) -> None:
    for n in range(job["count"]):
        ctx.object_send(note, key=job["key"], arg=f"{job['name']}{n}")


@teller.handler()
async def provoke(ctx: Context, key: str) -> int:
    try:
        await ctx.object_call(refuse, key=key, arg=None)
    except TerminalError as e:
        return e.status_code
    return 0


@teller.handler()
async def wait_awakeable(ctx: Context, key: str) -> str:
    name, promise = ctx.awakeable(type_hint=str)
    ctx.object_send(answer, key=key, arg=name)
    return await promise


@bank.handler()
async def answer(ctx: ObjectContext, awakeable: str) -> None:
    ctx.resolve_awakeable(awakeable, "hello from " + ctx.key())


@teller.handler()
async def once(ctx: Context, key: str) -> list[int]:
    """Two calls with one idempotency key, and the same again through its id."""
    first = await ctx.object_call(add, key=key, arg=5, idempotency_key="once")
    handle = ctx.object_send(add, key=key, arg=5, idempotency_key="once")
    id = await handle.invocation_id()
    return [first, await ctx.attach_invocation(id, type_hint=int)]


@flow.main()
async def run(ctx: WorkflowContext) -> str:
    return await ctx.promise("go", type_hint=str).value()


@flow.handler()
async def go(ctx: WorkflowSharedContext, word: str) -> None:
    await ctx.promise("go", type_hint=str).resolve(word)


@teller.handler()
async def guide(ctx: Context, key: str) -> str:
    handle = ctx.workflow_send(run, key=key, arg=None)
    await ctx.workflow_call(go, key=key, arg="on")
    return await ctx.attach_invocation(await handle.invocation_id(), type_hint=str)


SERVICES = [bank, teller, flow]


def value(found: Any) -> Any:
    assert isinstance(found.result, Value), found
    return json.loads(found.result.content) if found.result.content else None


def far_keys(town: Town) -> tuple[str, str]:
    """Two keys of different partitions."""
    first = KEYS[0]
    return first, next(key for key in KEYS if town.home(key) != town.home(first))


def scene(play: Any, count: int = 3, trouble: float = 0.0, seed: int = 1) -> None:
    async def main() -> None:
        async with Town(SERVICES, count, Random(seed), trouble) as town:
            await play(town)

    run_virtual(main(), seed=seed)


def test_a_call_to_a_key_of_another_partition_answers() -> None:
    async def play(town: Town) -> None:
        here, there = far_keys(town)
        assert value(await town.call("Bank", "move", here, json.dumps(there).encode())) == -1
        state = await town.engines[town.home(there)].state("Bank", there)
        assert state == {"total": b"1"}

    scene(play)


def test_a_failure_crosses_back_as_it_was() -> None:
    async def play(town: Town) -> None:
        for key in KEYS[:4]:
            assert (
                value(await town.call("Teller", "provoke", None, json.dumps(key).encode())) == 418
            )

    scene(play)


def test_awakeables_promises_and_attaching_cross() -> None:
    async def play(town: Town) -> None:
        for key in KEYS:
            body = json.dumps(key).encode()
            found = value(await town.call("Teller", "wait_awakeable", None, body))
            assert found == f"hello from {key}"
            assert value(await town.call("Teller", "guide", None, body)) == "on"
            assert value(await town.call("Teller", "once", None, body)) == [5, 5]

    scene(play)


def test_a_service_without_keys_is_called_in_the_callers_partition() -> None:
    async def play(town: Town) -> None:
        for key in KEYS:
            await town.call("Teller", "once", None, json.dumps(key).encode())
        for index, engine in enumerate(town.engines):
            for row, _ in engine.store.scan(keys.INVOCATION, keys.JOURNAL):
                assert engine.placement.elsewhere(row[1:]) is None, index

    scene(play)


@pytest.mark.parametrize("op", [Op.KILL, Op.CANCEL])
def test_a_killed_or_cancelled_caller_takes_its_callee_with_it(op: Op) -> None:
    async def play(town: Town) -> None:
        here, there = far_keys(town)
        invoke = town.invoke("Bank", "above", here, json.dumps(there).encode())
        caller, callee = town.engines[town.home(here)], town.engines[town.home(there)]
        sent = await caller.send(invoke)
        while not callee.unfinished():
            await asyncio.sleep(0.01)
        assert await caller.operate(sent.invocation_id, op) in (OpResult.DONE, OpResult.ACCEPTED)
        await caller.attach(sent.invocation_id)
        while callee.unfinished():
            await asyncio.sleep(0.01)
        ended = [each for each in await callee.invocations(Filter()) if each.handler == "forever"]
        assert [type(each.result) for each in ended] == [Failure]

    scene(play)


def test_rows_of_the_outbox_go_once_they_arrived() -> None:
    async def play(town: Town) -> None:
        here, there = far_keys(town)
        for _ in range(3):
            await town.call("Bank", "move", here, json.dumps(there).encode())
        await town.call("Bank", "add", here, b"0")  # the next commit takes them along
        rows = town.engines[town.home(here)].store.scan(keys.OUTBOX, keys.DEDUP)
        assert rows == []

    scene(play)


def test_a_gap_is_refused_and_nothing_of_it_happens() -> None:
    async def play(town: Town) -> None:
        here, there = far_keys(town)
        await town.call("Bank", "move", here, json.dumps(there).encode())
        source, target = town.home(here), town.engines[town.home(there)].exchange
        last = target.received_from(source)
        with pytest.raises(MessageGap, match=f"expected {last + 1}"):
            await target.receive(
                source, [(last + 2, encode(Outgoing(bytes(8), bytes(24), Kill())))]
            )
        assert target.received_from(source) == last

    scene(play)


def test_a_request_that_was_sent_to_the_wrong_partition_is_refused() -> None:
    async def play(town: Town) -> None:
        here, there = far_keys(town)
        wrong = town.engines[town.home(there)]
        invoke = town.invoke("Bank", "add", here, b"1")
        assert invoke.id is not None
        id = format_invocation_id(invoke.id)
        names = (f"s{n}" for n in range(100))
        name = next(n for n in names if wrong.placement.elsewhere(schedule_id(n)) is not None)
        for ask in (
            lambda: wrong.call(invoke),
            lambda: wrong.attach(id),
            lambda: wrong.output(id),
            lambda: wrong.signal(id, "x", Void()),
            lambda: wrong.operate(id, Op.CANCEL),
            lambda: wrong.restart(id),
            lambda: wrong.patch_state("Bank", here, {"total": b"5"}, None),
        ):
            with pytest.raises(PerdureError, match=f"is of partition {town.home(here)}"):
                await ask()
        spec = Spec(name, Interval(1_000), "Bank", "add", here, b"1", JSON)
        with pytest.raises(PerdureError, match="is of partition"):
            await wrong.schedules.put(spec)
        with pytest.raises(PerdureError, match="is of partition"):
            await wrong.schedules.trigger(name)

    scene(play)


@pytest.mark.parametrize("seed", range(12))
def test_money_is_conserved_and_order_kept_whatever_breaks(seed: int) -> None:
    async def play(town: Town) -> None:
        rng = Random(seed)

        async def mover() -> None:
            for _ in range(6):
                here, there = sorted(
                    rng.sample(KEYS, 2)
                )  # in a circle they would wait for each other
                await town.call("Bank", "move", here, json.dumps(there).encode())

        async def writer(name: str) -> None:
            job = {"key": rng.choice(KEYS), "name": name, "count": 5}
            await town.call("Teller", "write", None, json.dumps(job).encode())

        async def trouble() -> None:
            for _ in range(6):
                await asyncio.sleep(rng.random() * 0.05)
                await town.crash(rng.randrange(town.count))

        names = ["a", "b", "c", "d"]
        await asyncio.gather(*(mover() for _ in range(4)), *map(writer, names), trouble())
        while any(engine.unfinished() for engine in town.engines):
            await asyncio.sleep(0.05)
        total, lines = 0, []
        for key in KEYS:
            state = await town.engines[town.home(key)].state("Bank", key)
            total += json.loads(state.get("total", b"0"))
            lines.append(json.loads(state.get("lines", b"[]")))
        assert total == 0
        for name in names:
            [of_one] = [
                [x for x in each if x[0] == name]
                for each in lines
                if any(x[0] == name for x in each)
            ]
            assert of_one == [f"{name}{n}" for n in range(5)]

    scene(play, trouble=0.2, seed=seed)


def test_a_schedule_runs_what_lives_in_other_partitions_once_a_tick() -> None:
    async def play(town: Town) -> None:
        for n, key in enumerate(KEYS[:4]):
            spec = Spec(f"s{n}", Interval(1_000), "Bank", "add", key, b"1", JSON)
            home = town.engines[placement.owner_of(schedule_id(spec.name), town.count)]
            await home.schedules.put(spec)
        await asyncio.sleep(4.5)
        for engine in town.engines:
            for schedule in await engine.schedules.list():
                await engine.schedules.pause(schedule.spec.name, "enough")
        await asyncio.sleep(1)
        for n, key in enumerate(KEYS[:4]):
            home = town.engines[placement.owner_of(schedule_id(f"s{n}"), town.count)]
            found = await home.schedules.find(f"s{n}")
            state = await town.engines[town.home(key)].state("Bank", key)
            assert found is not None
            assert found.succeeded_count == found.started_count == int(state["total"]) > 3

    scene(play, trouble=0.1)
