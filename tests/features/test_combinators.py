"""gather, select, as_completed, wait_completed: who is first is journaled, so a replay agrees."""

import asyncio
from datetime import timedelta

import pytest

import perdure
from perdure import Context, RestateDurableFuture, RunOptions, Service, TerminalError
from perdure.testing import TestSystem
from tests.features.modes import Effects, Run

race = Service("Race")


@race.handler()
async def after(ctx: Context, seconds: float) -> float:
    await ctx.sleep(timedelta(seconds=seconds))
    if seconds == 3:
        raise TerminalError("three is bad", status_code=418)
    return seconds


def test_gather_waits_for_all_failures_included(run: Run) -> None:
    main = Service("Main")

    @main.handler()
    async def all_of(ctx: Context) -> list[object]:
        futures = [ctx.service_call(after, arg=n) for n in (3, 1, 2)]
        results: list[object] = []
        for future in await perdure.gather(*futures):
            try:
                results.append(await future)
            except TerminalError as e:
                results.append(e.message)
        return results

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(all_of) == ["three is bad", 1, 2]

    run(scenario, [race, main])


def test_select_takes_the_first_and_leaves_the_others_usable(run: Run) -> None:
    main = Service("Main")

    @main.handler()
    async def first_of(ctx: Context) -> list[object]:
        slow, quick = ctx.service_call(after, arg=20), ctx.service_call(after, arg=1)
        _, never = ctx.awakeable()
        match await perdure.select(slow=slow, quick=quick, never=never):
            case ["quick", value]:
                return ["quick", value, await slow]
            case other:
                return other

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(first_of) == ["quick", 1, 20]

    run(scenario, [race, main])


def test_select_is_a_timeout_and_raises_the_failure_of_the_first(run: Run) -> None:
    main = Service("Main")

    @main.handler()
    async def limited(ctx: Context, limit_s: float) -> str:
        winner: str
        try:
            winner, _ = await perdure.select(
                work=ctx.service_call(after, arg=3),
                timeout=ctx.sleep(timedelta(seconds=limit_s)),
            )
        except TerminalError as e:
            return f"failed: {e.status_code}"
        return winner

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(limited, arg=2) == "timeout"
        assert await system.service_call(limited, arg=4) == "failed: 418"

    run(scenario, [race, main])


def test_as_completed_yields_in_order_of_completion(run: Run, effects: Effects) -> None:
    main = Service("Main")

    @main.handler()
    async def ordered(ctx: Context) -> list[object]:
        order: list[object] = []
        futures = [ctx.service_call(after, arg=n) for n in (5, 1, 4, 2)]
        async for each in perdure.as_completed(*futures):
            value = await each
            order.append(value)
            order.append(
                await ctx.run_typed("note", effects, RunOptions(type_hint=str), f"n{value:.0f}")
            )
        return order

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        answer = await system.service_call(ordered)
        assert answer[::2] == [1, 2, 4, 5]
        for receipt in answer[1::2]:
            assert isinstance(receipt, str)
            effects.check_journaled(system, receipt)

    run(scenario, [race, main])


def test_wait_completed_splits_into_done_and_pending(run: Run) -> None:
    main = Service("Main")

    @main.handler()
    async def rounds(ctx: Context) -> list[list[int]]:
        futures: list[RestateDurableFuture[float]] = [
            ctx.service_call(after, arg=n) for n in (2, 1, 30)
        ]
        waiting = futures
        seen = []
        while waiting:
            done, waiting = await perdure.wait_completed(*waiting)
            seen.append(sorted(futures.index(each) for each in done))
        return seen

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(rounds) == [[1], [0], [2]]

    run(scenario, [race, main])


def test_runs_sleeps_and_signals_can_be_mixed(run: Run, effects: Effects) -> None:
    main = Service("Main")

    @main.handler()
    async def mixed(ctx: Context) -> list[object]:
        nap = ctx.sleep(timedelta(hours=1))
        mail = ctx.signal("mail", type_hint=str)
        work = ctx.run_typed("work", lambda: effects("work"))
        first = await perdure.select(nap=nap, mail=mail, work=work)
        second = await perdure.select(nap=nap, mail=mail)
        return [first, second]

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        sent = await system.service_send(mixed)
        [[winner, receipt], second] = await system.attach(sent)
        assert (winner, second) == ("work", ["nap", None])
        effects.check_journaled(system, receipt)

    run(scenario, [main])


def test_nothing_to_wait_for(run: Run) -> None:
    main = Service("Main")

    @main.handler()
    async def nothing(ctx: Context) -> list[object]:
        with pytest.raises(ValueError, match="At least one"):
            await perdure.select()
        futures: list[RestateDurableFuture[object]] = []
        done = [each async for each in perdure.as_completed(*futures)]
        return [await perdure.gather(), done, list(await perdure.wait_completed())]

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(nothing) == [[], [], [[], []]]

    run(scenario, [main])


def test_a_foreign_awaitable_is_refused_with_what_to_do(run: Run) -> None:
    main = Service("Main")

    @main.handler()
    async def wrong(ctx: Context) -> None:
        async def plain() -> None: ...

        await perdure.gather(plain())  # type: ignore[arg-type]

    async def scenario(system: TestSystem) -> None:
        with pytest.raises(perdure.HttpError, match="run_typed"):
            await system.service_call(wrong)

    run(scenario, [main])


def test_tasks_of_a_handler_wait_for_each_other(run: Run) -> None:
    """One task is over while the other one blocks: the handler may leave only after both are heard."""
    main = Service("Main")

    @main.handler()
    async def answer(ctx: Context, awakeable_id: str) -> None:
        ctx.resolve_awakeable(awakeable_id, "resolved")

    @main.handler(inactivity_timeout=timedelta(0))
    async def tasks(ctx: Context, naps: int) -> str:
        awakeable_id, resolved = ctx.awakeable(type_hint=str)

        async def wait() -> str:
            return await resolved

        async def ask() -> None:
            for _ in range(naps):
                await ctx.sleep(timedelta(0))
            ctx.service_send(answer, arg=awakeable_id)

        text, _ = await asyncio.gather(wait(), ask())
        return text

    async def scenario(system: TestSystem) -> None:
        for naps in range(3):
            assert await system.service_call(tasks, arg=naps) == "resolved"

    run(scenario, [main])
