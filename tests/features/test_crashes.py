"""Crashes at any moment, many of them: what was acknowledged is there, what was journaled is not redone."""

import asyncio
import json
import threading
import time
from datetime import timedelta
from random import Random

import pytest

from perdure import Context, ObjectContext, RunOptions, Service, VirtualObject, testing
from perdure.actors.clock import Deadlock
from perdure.journal import keys
from perdure.testing import TestSystem
from tests.features.modes import Effects, eventually

shop, stock, clerk = VirtualObject("Shop"), VirtualObject("Stock"), Service("Clerk")
effects = Effects()
TEXT = RunOptions(type_hint=str)


@stock.handler()
async def take(ctx: ObjectContext, order: str) -> int:
    taken = [*(await ctx.get("orders") or []), order]
    ctx.set("orders", taken)
    return len(taken)


@shop.handler()
async def order(ctx: ObjectContext, item: str) -> list[str]:
    charged = await ctx.run_typed("charge", effects, TEXT, f"charge {item}")
    position = ctx.object_call(take, key="all", arg=item)
    await ctx.sleep(timedelta(seconds=1))
    shipped = await ctx.run_typed("ship", effects, TEXT, f"ship {item}")
    ctx.set("count", (await ctx.get("count") or 0) + 1)
    await position
    return [charged, shipped]


@clerk.handler()
async def wake(ctx: Context, n: int) -> str:
    id, woken = ctx.awakeable(type_hint=str)
    effects(f"id {n}")
    ids[n] = id
    return await woken


ids: dict[int, str] = {}


async def crashes(system: TestSystem, rng: Random, count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(rng.choice((0, 0, 0.1, 0.9, 1.0, 3.0)))
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        await system.crash_and_restart()


@pytest.mark.parametrize("always_replay", [False, True], ids=["kept", "replayed"])
@pytest.mark.parametrize("seed", range(8))
def test_many_crashes_lose_and_repeat_nothing(seed: int, always_replay: bool) -> None:
    async def client(system: TestSystem, name: str) -> list[str]:
        receipts = []
        for n in range(6):
            receipts += await system.object_call(order, key=name, arg=f"{name}{n}")
        return receipts

    async def waker(system: TestSystem, n: int) -> None:
        sent = await system.service_send(wake, arg=n)

        async def id_is_known() -> bool:
            return n in ids

        await eventually(id_is_known)
        await system.resolve_awakeable(ids[n], f"v{n}")
        assert await system.attach(sent) == f"v{n}"

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        ids.clear()
        crashing = asyncio.ensure_future(crashes(system, Random(seed), 15))
        clients = [asyncio.ensure_future(client(system, name)) for name in "abc"]
        await asyncio.gather(*clients, *(waker(system, n) for n in range(4)))
        await crashing
        effects.check_journaled(system, *(each for done in clients for each in done.result()))
        taken = await system.object_call(take, key="all", arg="end")
        assert taken == 3 * 6 + 1
        for name in "abc":
            assert (await system.state(shop, name))["count"] == b"6"
        orders = json.loads((await system.state(stock, "all"))["orders"])
        for name in "abc":
            assert [each for each in orders if each[0] == name] == [f"{name}{n}" for n in range(6)]

    testing.run(scenario, [shop, stock, clerk], seed=seed, always_replay=always_replay)


def test_a_closure_begins_when_everything_before_it_is_on_disk() -> None:
    box = VirtualObject("Box")
    seen: list[bytes | None] = []

    async def scenario(system: TestSystem) -> None:
        @box.handler()
        async def work(ctx: ObjectContext) -> None:
            ctx.set("before", 1)
            await ctx.run_typed("look", look)
            ctx.set("between", 2)
            await ctx.run_typed("look", look)

        async def look() -> None:
            store = system.engine.store
            for name in ("before", "between"):
                seen.append(store.get(keys.state(("Box", "k"), name)))

        system._definitions, system._codec_source = [box], None
        await system.crash_and_restart()
        await system.object_call(work, key="k")
        assert seen == [b"1", None, b"1", b"2"]

    testing.run(scenario, [])


def test_an_answer_is_durable_when_it_arrives() -> None:
    async def scenario(system: TestSystem) -> None:
        for n in range(1, 5):
            assert await system.object_call(take, key="k", arg=f"{n}") == n
            stored = system.engine.store.get(keys.state(("Stock", "k"), "orders"))
            assert stored is not None
            assert stored.count(b",") == n - 1
            await system.object_send(take, key="later", arg="x", send_delay=timedelta(hours=n))
            await system.crash_and_restart()
        await asyncio.sleep(5 * 3600)
        assert await system.object_call(take, key="later", arg="end") == 5

    testing.run(scenario, [stock])


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    """Closures that are coroutines; those in threads end in the order that the machine likes."""
    trail: list[str] = []
    racer = Service("Racer")

    @racer.handler()
    async def race(ctx: Context, name: str) -> None:
        async def note(lap: int) -> None:
            await asyncio.sleep(0)
            trail.append(f"{name}{lap}")

        for lap in range(3):
            await ctx.run_typed("note", note, RunOptions(), lap)

    async def scenario(system: TestSystem) -> list[str]:
        trail.clear()
        sent = [await system.service_send(race, arg=name) for name in "abcdefgh"]
        await asyncio.gather(*(system.attach(each) for each in sent))
        return [*trail, *(each.invocation_id for each in sent)]

    runs = [testing.run(scenario, [racer], seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[1] != runs[2]


def test_waiting_for_what_never_comes_is_an_error_and_not_a_hang() -> None:
    async def scenario(system: TestSystem) -> None:
        ids.clear()
        await system.service_call(wake, arg=0)

    with pytest.raises(Deadlock):
        testing.run(scenario, [clerk])


def test_a_closure_of_a_crashed_system_does_nothing_after_the_restart() -> None:
    done: list[str] = []
    begun = threading.Event()

    def slow() -> str:
        begun.set()
        time.sleep(0.1)  # it is in the middle of its work when the crash comes
        done.append("once")
        return "lost"

    async def scenario(system: TestSystem) -> None:
        box = Service("Box")

        @box.handler()
        async def work(ctx: Context) -> None:
            await ctx.run_typed("slow", slow)

        system._definitions, system._codec_source = [box], None
        await system.crash_and_restart()
        call = asyncio.ensure_future(system.service_call(work))
        while not begun.is_set():
            await asyncio.sleep(0)
        await system.crash_and_restart()
        assert done == ["once"]
        await call
        assert done == ["once", "once"]

    testing.run(scenario, [])
