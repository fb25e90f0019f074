"""Cancellation: raised at the next await, passed on to callees, compensated, and asked for twice."""

import asyncio
import json
from datetime import timedelta

import pytest

import perdure
from perdure import Context, ObjectContext, Service, TerminalError, VirtualObject
from perdure.journal.requests import OpResult
from perdure.testing import TestSystem
from tests.features.modes import Effects, Run, eventually

TEXT = perdure.RunOptions(type_hint=str)

hotel = VirtualObject("Hotel")


@hotel.handler()
async def hold(ctx: ObjectContext) -> None:
    ctx.set("held", True)
    try:
        await ctx.sleep(timedelta(days=1000))
    except TerminalError as e:
        ctx.set("held", e.status_code)
        raise


async def until(
    system: TestSystem, service: VirtualObject, key: str, name: str, value: bytes
) -> None:
    async def is_there() -> bool:
        return (await system.state(service, key)).get(name) == value

    await eventually(is_there)


async def cancelled(system: TestSystem, id: str) -> None:
    assert await system.cancel(id) in (OpResult.ACCEPTED, OpResult.DONE, OpResult.COMPLETED)


def test_a_cancellation_reaches_the_callees_first(run: Run) -> None:
    caller = Service("Caller")

    @caller.handler()
    async def call(ctx: Context) -> None:
        await ctx.object_call(hold, key="h")

    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(call)
        await until(system, hotel, "h", "held", b"true")
        await cancelled(system, sent.invocation_id)
        with pytest.raises(perdure.HttpError, match="cancelled") as caught:
            await system.attach(sent)
        assert caught.value.status_code == 409
        await until(system, hotel, "h", "held", b"409")

    run(scenario, [hotel, caller])


def test_compensations_run_after_a_caught_cancellation(run: Run, effects: Effects) -> None:
    trip = VirtualObject("Trip")

    @trip.handler()
    async def book(ctx: ObjectContext) -> None:
        done: list[str] = []
        try:
            for step in ("car", "hotel"):
                done.append(step)
                await ctx.run_typed(step, effects, TEXT, step)
            ctx.set("stage", "booked")
            await ctx.sleep(timedelta(days=1000))
        except TerminalError:
            receipts = []
            for step in reversed(done):
                await ctx.sleep(timedelta(minutes=1))
                undo = f"undo {step}"
                receipts.append(await ctx.run_typed(undo, effects, TEXT, undo))
            ctx.set("undone", receipts)
            raise

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        sent = await system.object_send(book, key="t")
        await until(system, trip, "t", "stage", b'"booked"')
        await cancelled(system, sent.invocation_id)
        with pytest.raises(perdure.HttpError, match="409"):
            await system.attach(sent)

        receipts = json.loads((await system.state(trip, "t"))["undone"])
        assert [each.partition("#")[0] for each in receipts] == ["undo hotel", "undo car"]
        effects.check_journaled(system, *receipts)

    run(scenario, [trip])


def test_a_second_cancellation_is_raised_again(run: Run) -> None:
    stubborn = VirtualObject("Stubborn")

    @stubborn.handler()
    async def hang(ctx: ObjectContext) -> list[int]:
        codes = []
        for attempt in range(2):
            ctx.set("waits", attempt)
            try:
                await ctx.sleep(timedelta(days=1000))
            except TerminalError as e:
                codes.append(e.status_code)
        return codes

    async def scenario(system: TestSystem) -> None:
        sent = await system.object_send(hang, key="k")
        for attempt in (b"0", b"1"):
            await until(system, stubborn, "k", "waits", attempt)
            await cancelled(system, sent.invocation_id)
        assert await system.attach(sent) == [409, 409]

    run(scenario, [stubborn])


def test_a_handler_cancels_what_it_called_and_what_it_sent(run: Run) -> None:
    caller = Service("Caller")

    @caller.handler()
    async def call(ctx: Context) -> list[int]:
        codes = []
        called = ctx.object_call(hold, key="a")
        sent = ctx.object_send(hold, key="b")
        await ctx.sleep(timedelta(minutes=1))
        await called.cancel_invocation()
        await sent.cancel_invocation()
        for future in (called, ctx.attach_invocation(await sent.invocation_id())):
            try:
                await future
            except TerminalError as e:
                codes.append(e.status_code)
        return codes

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(call) == [409, 409]

    run(scenario, [hotel, caller])


def test_what_has_not_begun_is_withdrawn(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        running = await system.object_send(hold, key="k")
        await until(system, hotel, "k", "held", b"true")
        waiting = await system.object_send(hold, key="k")
        later = await system.object_send(hold, key="l", send_delay=timedelta(days=1))
        for sent in (waiting, later):
            await cancelled(system, sent.invocation_id)
            assert await system.invocation(sent.invocation_id) is None
        await cancelled(system, running.invocation_id)
        with pytest.raises(perdure.HttpError, match="409"):
            await system.attach(running)
        await asyncio.sleep(2 * 86_400)
        assert await system.state(hotel, "l") == {}

    run(scenario, [hotel])


def test_a_deadlocked_self_call_is_visible_and_can_be_cancelled(run: Run) -> None:
    loop = VirtualObject("Loop")

    @loop.handler()
    async def bite(ctx: ObjectContext) -> str:
        ctx.set("depth", 1)
        await ctx.object_call(bite, key=ctx.key())
        return "unreachable"

    async def scenario(system: TestSystem) -> None:
        sent = await system.object_send(bite, key="k")
        await asyncio.sleep(600)
        waiting = await system.invocations(service="Loop", status="pending")
        holder = await system.invocation(sent.invocation_id)
        assert [each.invoked_by for each in waiting] == [sent.invocation_id]
        assert holder is not None
        assert holder.status in ("running", "suspended")
        await cancelled(system, sent.invocation_id)
        with pytest.raises(perdure.HttpError, match="409"):
            await system.attach(sent)
        assert await system.invocations(service="Loop", status="pending") == []

    run(scenario, [loop])


def test_kill_ends_the_tree_and_frees_the_keys(run: Run) -> None:
    tree = VirtualObject("Tree")

    @tree.handler()
    async def grow(ctx: ObjectContext, depth: int) -> None:
        if depth:
            await ctx.object_call(grow, key=f"{ctx.key()}.{depth}", arg=depth - 1)
        else:
            ctx.set("leaf", True)
            await ctx.sleep(timedelta(days=1000))

    @tree.handler()
    async def ping(ctx: ObjectContext) -> str:
        return "free"

    async def scenario(system: TestSystem) -> None:
        sent = await system.object_send(grow, key="t", arg=2)
        await until(system, tree, "t.2.1", "leaf", b"true")
        assert await system.kill(sent.invocation_id) in (OpResult.DONE, OpResult.COMPLETED)
        with pytest.raises(perdure.HttpError, match="killed"):
            await system.attach(sent)
        for key in ("t", "t.2", "t.2.1"):
            assert await system.object_call(ping, key=key) == "free"

    run(scenario, [tree])
