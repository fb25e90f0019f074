"""When a commit group is sealed: how much goes into one, and that it never waits for ever."""

import asyncio
from random import Random

from perdure import Context, ObjectContext, Service, VirtualObject
from perdure.actors.clock import run_virtual
from tests.actors.town import Town

CALLERS = 100
MANY = 5_000

counter = VirtualObject("Counter")
restless = Service("Restless")


@counter.handler()
async def add(ctx: ObjectContext) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + 1
    ctx.set("total", total)
    return total


@restless.handler()
async def spin(ctx: Context, left: int) -> None:
    """Something is decided in every few turns of the loop."""
    if left:
        ctx.service_send(spin, left - 1)


@restless.handler()
async def ok(ctx: Context) -> str:
    return "ok"


def commits(town: Town) -> int:
    return sum(town.engines[0].counts.commit_s.counts)


def test_a_queue_of_one_key_goes_in_few_groups() -> None:
    async def scenario() -> int:
        async with Town([counter], 1, Random(0)) as town:
            calls = [town.call("Counter", "add", "hot") for _ in range(CALLERS)]
            await asyncio.gather(*calls)
            return commits(town)

    assert run_virtual(scenario()) <= 3


def test_whoever_waits_is_answered_while_steps_keep_coming() -> None:
    async def scenario() -> tuple[int, int]:
        async with Town([restless], 1, Random(0)) as town:
            engine = town.engines[0]
            await engine.send(town.invoke("Restless", "spin", None, str(MANY).encode()))
            await town.call("Restless", "ok", None)
            return engine.counts.attempts["Restless"], commits(town)

    attempts, groups = run_virtual(scenario())
    assert groups >= 1
    assert attempts < MANY
