"""Run closures: journaled once, retried by their own options or the invocation's policy."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

import perdure
from perdure import Context, InvocationRetryPolicy, RunOptions, Service
from perdure.serde import BytesSerde
from perdure.testing import TestSystem
from tests.features.modes import Effects, Run

FAST = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=10), exponentiation_factor=1.0, max_attempts=5
)


@dataclass
class Receipt:
    number: int


def test_a_journaled_closure_never_runs_again(run: Run, effects: Effects) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context, name: str) -> list[str]:
        async def ship() -> str:
            await asyncio.sleep(0)
            return effects("ship")

        charged = await ctx.run_typed("charge", effects, RunOptions(type_hint=str), "charge")
        await ctx.sleep(timedelta(seconds=1))
        shipped = await ctx.run_typed("ship", ship)
        told = await ctx.run("tell", lambda: effects("tell"))
        return [charged, shipped, told]

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        receipts = await system.service_call(order, arg="book")
        effects.check_journaled(system, *receipts)
        assert [each.partition("#")[0] for each in receipts] == ["charge", "ship", "tell"]

    run(scenario, [shop])


def test_results_come_back_as_their_type(run: Run) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context) -> bool:
        def by_annotation(number: int, *, plus: int) -> Receipt:
            return Receipt(number + plus)

        one = await ctx.run_typed("one", by_annotation, RunOptions(), 1, plus=1)
        two = await ctx.run("two", lambda n: Receipt(n), type_hint=Receipt, args=(2,))
        raw = await ctx.run_typed("raw", lambda: b"\xff", RunOptions(serde=BytesSerde()))
        nothing = await ctx.run_typed("nothing", lambda: None, RunOptions[object]())
        return (one, two, raw, nothing) == (Receipt(2), Receipt(2), b"\xff", None)

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(order)

    run(scenario, [shop])


def test_a_run_is_retried_until_it_succeeds(run: Run, effects: Effects) -> None:
    shop = Service("Shop", invocation_retry_policy=FAST)

    @shop.handler()
    async def order(ctx: Context) -> str:
        def charge() -> str:
            receipt = effects("charge")
            if effects.count("charge") < 3:
                raise ConnectionError("the bank does not answer")
            return receipt

        first = await ctx.run_typed("before", lambda: effects("before"))
        await ctx.run_typed("charge", charge)
        return first

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        effects.check_journaled(system, await system.service_call(order))
        assert 3 <= effects.count("charge") <= 3 + system.crash_count

    run(scenario, [shop])


@pytest.mark.parametrize("limit", [1, 3])
def test_a_run_gives_up_after_its_attempts_counted_across_attempts(
    run: Run, effects: Effects, limit: int
) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context) -> str:
        def charge() -> str:
            effects("charge")
            raise ConnectionError("the bank does not answer")

        options = RunOptions[str](
            max_attempts=limit, initial_retry_interval=timedelta(milliseconds=10)
        )
        try:
            return await ctx.run_typed("charge", charge, options)
        except perdure.TerminalError as e:
            return f"gave up: {e.message}"

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        answer = await system.service_call(order)
        assert answer.startswith("gave up")
        assert "the bank does not answer" in answer
        assert limit <= effects.count("charge") <= limit + system.crash_count

    run(scenario, [shop])


def test_a_run_gives_up_after_its_time(run: Run, effects: Effects) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context) -> str:
        def charge() -> None:
            effects("charge")
            raise ConnectionError("the bank does not answer")

        options = RunOptions[None](
            max_duration=timedelta(seconds=10),
            initial_retry_interval=timedelta(seconds=3),
            retry_interval_factor=1.0,
        )
        try:
            await ctx.run_typed("charge", charge, options)
        except perdure.TerminalError:
            return "gave up"
        return "done"

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        assert await system.service_call(order) == "gave up"
        assert effects.count("charge") >= 3

    run(scenario, [shop])


def test_a_terminal_error_in_a_run_is_journaled_with_code_and_metadata(
    run: Run, effects: Effects
) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context) -> str:
        def charge() -> None:
            effects("charge")
            raise perdure.TerminalError("no funds", status_code=402, metadata={"bank": "b1"})

        try:
            await ctx.run_typed("charge", charge)
        except perdure.TerminalError as e:
            receipt = await ctx.run_typed("note", lambda: effects("note"))
            return f"{e.status_code} {e.message} {(e.metadata or {})['bank']} {receipt}"
        return "charged"

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        answer, _, receipt = (await system.service_call(order)).rpartition(" ")
        assert answer == "402 no funds b1"
        effects.check_journaled(system, receipt)
        assert effects.count("charge") <= 1 + system.crash_count

    run(scenario, [shop])


def test_a_retryable_error_says_when(run: Run, effects: Effects) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context) -> float:
        def charge() -> None:
            effects("charge")
            if effects.count("charge") == 1:
                raise perdure.RetryableError("later", retry_after=timedelta(minutes=7))

        begin = await ctx.time()
        await ctx.run_typed("charge", charge)
        return await ctx.time() - begin

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        waited_s = await system.service_call(order)
        # a crash may lose the failure, and with it the delay
        assert waited_s >= 420 or system.crash_count

    run(scenario, [shop])


def test_runs_started_together_all_finish(run: Run, effects: Effects) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context) -> list[str]:
        futures = [
            ctx.run_typed(f"n{i}", effects, RunOptions(type_hint=str), f"n{i}") for i in range(3)
        ]
        await perdure.gather(*futures)
        return [await each for each in futures]

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        receipts = await system.service_call(order)
        effects.check_journaled(system, *receipts)
        assert [each[:2] for each in receipts] == ["n0", "n1", "n2"]

    run(scenario, [shop])


def test_the_context_inside_a_closure_is_refused(run: Run) -> None:
    shop = Service("Shop")

    @shop.handler()
    async def order(ctx: Context) -> None:
        async def inside() -> None:
            await ctx.sleep(timedelta(seconds=1))

        await ctx.run_typed("inside", inside)

    async def scenario(system: TestSystem) -> None:
        with pytest.raises(perdure.HttpError, match="inside"):
            await system.service_call(order)

    run(scenario, [shop])
