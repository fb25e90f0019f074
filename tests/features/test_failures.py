"""Failing attempts: retries by policy, exhaustion, pause and resume, and operators' work."""

import asyncio
import itertools
from datetime import timedelta
from typing import Any, Literal

import pytest

import perdure
from perdure import Context, InvocationRetryPolicy, ObjectContext, Service, VirtualObject
from perdure.journal.requests import Op, OpResult
from perdure.journal.schema import Defaults, OnMaxAttempts, RetryPolicy
from perdure.testing import TestSystem
from tests.features.modes import Effects, Run, eventually


def policy(on_max_attempts: Literal["pause", "kill"], attempts: int = 3) -> InvocationRetryPolicy:
    return InvocationRetryPolicy(
        initial_interval=timedelta(seconds=1),
        exponentiation_factor=2.0,
        max_interval=timedelta(seconds=3),
        max_attempts=attempts,
        on_max_attempts=on_max_attempts,
    )


class Switch:
    """Tells a handler whether to fail, and counts how often it was asked."""

    def __init__(self) -> None:
        self.broken = True
        self.count = 0

    def reset(self) -> None:
        self.broken = True
        self.count = 0

    def check(self) -> None:
        self.count += 1
        if self.broken:
            raise ConnectionError("out of order")


@pytest.fixture
def switch() -> Switch:
    return Switch()


async def status(system: TestSystem, id: str, wanted: str) -> None:
    async def is_it() -> bool:
        found = await system.invocation(id)
        return found is not None and found.status == wanted

    await eventually(is_it)


def test_a_failing_handler_is_retried_with_growing_delays(run: Run, switch: Switch) -> None:
    flaky = Service("Flaky", invocation_retry_policy=policy("pause", 10))
    at_s: list[float] = []

    @flaky.handler()
    async def work(ctx: Context) -> str:
        at_s.append(asyncio.get_running_loop().time())
        switch.broken = len(at_s) < 5
        switch.check()
        return "done"

    async def scenario(system: TestSystem) -> None:
        switch.reset()
        at_s.clear()
        assert await system.service_call(work) == "done"
        delays = [b - a for a, b in itertools.pairwise(at_s)]
        if not system.crash_count:
            for delay, least in zip(delays, (1, 2, 3, 3), strict=True):
                assert least <= delay <= least * 1.3 + 0.01

    run(scenario, [flaky])


def test_exhausted_attempts_pause_and_resuming_goes_on(
    run: Run, switch: Switch, effects: Effects
) -> None:
    flaky = VirtualObject("Flaky", invocation_retry_policy=policy("pause"))

    @flaky.handler()
    async def work(ctx: ObjectContext) -> str:
        receipt = await ctx.run_typed("before", lambda: effects("before"))
        switch.check()
        return receipt

    async def scenario(system: TestSystem) -> None:
        switch.reset()
        effects.clear()
        sent = await system.object_send(work, key="k")
        await status(system, sent.invocation_id, "paused")
        info = await system.invocation(sent.invocation_id)
        assert info is not None
        assert "out of order" in info.paused_reason
        assert info.last_failure is not None
        assert "out of order" in info.last_failure.message
        assert 3 <= switch.count <= 3 + system.crash_count
        switch.broken = False
        assert await system.resume(sent.invocation_id) in (OpResult.DONE, OpResult.COMPLETED)
        effects.check_journaled(system, await system.attach(sent))

    run(scenario, [flaky])


def test_exhausted_attempts_kill_and_free_the_key(run: Run, switch: Switch) -> None:
    flaky = VirtualObject("Flaky", invocation_retry_policy=policy("kill", 2))

    @flaky.handler()
    async def work(ctx: ObjectContext) -> str:
        switch.check()
        return "done"

    async def scenario(system: TestSystem) -> None:
        switch.reset()
        with pytest.raises(perdure.HttpError, match="out of order"):
            await system.object_call(work, key="k")
        assert 2 <= switch.count <= 2 + system.crash_count
        switch.broken = False
        assert await system.object_call(work, key="k") == "done"

    run(scenario, [flaky])


def test_the_default_policy_holds_where_a_service_says_nothing(run: Run, switch: Switch) -> None:
    flaky = Service("Flaky")

    @flaky.handler()
    async def work(ctx: Context) -> str:
        switch.check()
        return "done"

    async def scenario(system: TestSystem) -> None:
        switch.reset()
        with pytest.raises(perdure.HttpError, match="out of order"):
            await system.service_call(work)
        assert 2 <= switch.count <= 2 + system.crash_count

    retry = RetryPolicy(10, 1.0, 10, 2, OnMaxAttempts.KILL)
    run(scenario, [flaky], defaults=Defaults(retry=retry))


def test_a_retryable_error_of_a_handler_sets_the_delay_and_costs_no_attempt(
    run: Run, switch: Switch
) -> None:
    flaky = Service("Flaky", invocation_retry_policy=policy("kill", 1))

    @flaky.handler()
    async def work(ctx: Context) -> float:
        begin = await ctx.time()
        switch.count += 1
        if switch.count < 4:
            raise perdure.RetryableError("later", retry_after=timedelta(minutes=5))
        await ctx.run_typed("now", lambda: None)
        return await ctx.time() - begin

    async def scenario(system: TestSystem) -> None:
        switch.reset()
        assert await system.service_call(work) >= 900 or system.crash_count

    run(scenario, [flaky])


def test_commands_before_a_failure_happen_once(run: Run, switch: Switch) -> None:
    flaky, log = Service("Flaky", invocation_retry_policy=policy("pause", 9)), VirtualObject("Log")

    @log.handler()
    async def add(ctx: ObjectContext, n: int) -> None:
        ctx.set("n", (await ctx.get("n") or 0) + n)

    @flaky.handler()
    async def work(ctx: Context) -> None:
        ctx.object_send(add, key="l", arg=1)
        await ctx.object_call(add, key="l", arg=10)
        switch.broken = switch.count < 2
        switch.check()

    async def scenario(system: TestSystem) -> None:
        switch.reset()
        await system.service_call(work)
        assert await system.state(log, "l") == {"n": b"11"}

    run(scenario, [flaky, log])


def test_an_operator_pauses_and_resumes(run: Run) -> None:
    slow = Service("Slow")

    @slow.handler()
    async def nap(ctx: Context) -> str:
        await ctx.sleep(timedelta(minutes=10))
        await ctx.sleep(timedelta(minutes=10))
        return "awake"

    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(nap)
        assert await system.pause(sent.invocation_id) in (OpResult.ACCEPTED, OpResult.DONE)
        await asyncio.sleep(86_400)
        await status(system, sent.invocation_id, "paused")
        assert await system.resume(sent.invocation_id) is OpResult.DONE
        assert await system.attach(sent) == "awake"
        assert await system.pause(sent.invocation_id) is OpResult.COMPLETED

    run(scenario, [slow])


def test_purge_forgets_and_frees_the_idempotency_key(run: Run) -> None:
    counter = VirtualObject("Counter")

    @counter.handler()
    async def add(ctx: ObjectContext) -> int:
        n = (await ctx.get("n") or 0) + 1
        ctx.set("n", n)
        return n

    async def scenario(system: TestSystem) -> None:
        sent = await system.object_send(add, key="k", idempotency_key="i")
        assert await system.object_call(add, key="k", idempotency_key="i") == 1
        done = await system.operate(sent.invocation_id, Op.PURGE)
        assert done in (OpResult.DONE, OpResult.NOT_FOUND)
        assert await system.invocation(sent.invocation_id) is None
        assert await system.object_call(add, key="k", idempotency_key="i") == 2

    run(scenario, [counter])


def test_a_diverging_handler_is_a_mismatch_with_both_commands(run: Run) -> None:
    flip = VirtualObject("Flip", inactivity_timeout=timedelta(0))
    flip_policy = policy("kill", 1)
    calls: list[int] = []

    @flip.handler(invocation_retry_policy=flip_policy)
    async def diverge(ctx: ObjectContext) -> None:
        calls.append(1)
        ctx.set("left" if len(calls) % 2 else "right", 1)
        await ctx.sleep(timedelta(minutes=1))

    async def scenario(system: TestSystem) -> None:
        calls.clear()
        with pytest.raises(perdure.HttpError, match="mismatch") as caught:
            await system.object_call(diverge, key="k")
        assert caught.value.status_code == 570

    run(scenario, [flip])


async def _later() -> str:
    raise perdure.RetryableError("later", retry_after=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_attempts": "3"}, "option max_attempts of a run is a whole number, not '3'"),
        ({"max_duration": 5}, "option max_duration of a run is a datetime.timedelta, not 5"),
        ({"retry_interval_factor": "2"}, "option retry_interval_factor of a run is a number"),
        ({}, "retry_after is a datetime.timedelta, not 5"),
    ],
)
def test_a_retry_option_of_the_wrong_type_ends_the_invocation(
    run: Run, options: dict[str, Any], says: str
) -> None:
    service = Service("Mistaken")

    @service.handler()
    async def work(ctx: Context) -> None:
        await ctx.run_typed("later", _later, perdure.RunOptions(**options))

    async def scenario(system: TestSystem) -> None:
        with pytest.raises(perdure.HttpError, match=says):
            await system.service_call(work)

    run(scenario, [service])
