"""Sleeps, the clock, and what is drawn at random: durable, and the same in every attempt."""

import asyncio
from datetime import timedelta

from perdure import Context, InvocationRetryPolicy, Service
from perdure.testing import TestSystem
from tests.features.modes import Run

DAY_S = 86_400.0
SOON = InvocationRetryPolicy(initial_interval=timedelta(milliseconds=10))


def test_a_sleep_takes_its_time_however_often_the_engine_crashes(run: Run) -> None:
    nap = Service("Nap")

    @nap.handler()
    async def twice(ctx: Context) -> float:
        begin = await ctx.time()
        await ctx.sleep(timedelta(days=20), name="first")
        await ctx.sleep(timedelta(days=10))
        return await ctx.time() - begin

    async def scenario(system: TestSystem) -> None:
        slept_s = await system.service_call(twice)
        assert 30 * DAY_S <= slept_s < 30 * DAY_S + 5

    run(scenario, [nap])


def test_sleeps_started_together_end_by_their_own_time(run: Run) -> None:
    nap = Service("Nap")

    @nap.handler()
    async def several(ctx: Context) -> float:
        begin = await ctx.time()
        long, short = ctx.sleep(timedelta(hours=2)), ctx.sleep(timedelta(hours=1))
        await short
        await long
        await ctx.sleep(timedelta(0))
        return await ctx.time() - begin

    async def scenario(system: TestSystem) -> None:
        assert 7200 <= await system.service_call(several) < 7205

    run(scenario, [nap])


def test_random_uuid_and_time_are_the_same_in_every_attempt(run: Run) -> None:
    dice = Service("Dice", invocation_retry_policy=SOON)
    seen: list[tuple[object, ...]] = []

    @dice.handler()
    async def throw(ctx: Context) -> list[str]:
        early = (ctx.random().random(), str(ctx.uuid()), await ctx.time(), str(ctx.uuid()))
        await ctx.sleep(timedelta(seconds=1))
        seen.append((*early, ctx.random().randrange(1 << 40)))
        if len(seen) < 3:
            raise ValueError("once more")
        return [early[1], early[3]]

    async def scenario(system: TestSystem) -> None:
        seen.clear()
        first, second = await system.service_call(throw)
        assert first != second
        assert len(seen) >= 3
        assert len(set(seen)) == 1

    run(scenario, [dice])


def test_the_request_says_who_and_what(run: Run) -> None:
    info = Service("Info")

    @info.handler()
    async def tell(ctx: Context, text: str) -> dict[str, object]:
        request = ctx.request()
        return {
            "id": request.id,
            "body": request.body.decode(),
            "header": request.headers.get("x-team"),
            "key": request.idempotency_key,
            "over": request.attempt_finished_event.is_set(),
        }

    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(
            tell, arg="hi", idempotency_key="i1", headers={"X-Team": "blue"}
        )
        assert await system.attach(sent) == {
            "id": sent.invocation_id, "body": '"hi"', "header": "blue", "key": "i1", "over": False,
        }  # fmt: skip

    run(scenario, [info])


def test_the_end_of_an_attempt_is_told_to_what_it_started(run: Run) -> None:
    watch = Service("Watch")
    ended: list[str] = []

    @watch.handler()
    async def begin(ctx: Context) -> None:
        event = ctx.request().attempt_finished_event

        async def follow() -> None:
            await event.wait()
            ended.append("over")

        follower = asyncio.ensure_future(follow())
        followers.append(follower)

    followers: list[asyncio.Future[None]] = []

    async def scenario(system: TestSystem) -> None:
        ended.clear()
        followers.clear()
        await system.service_call(begin)
        await asyncio.gather(*followers)
        assert len(ended) == len(followers) >= 1

    run(scenario, [watch])
