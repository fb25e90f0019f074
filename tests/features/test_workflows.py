"""Workflows: one run a key, promises in all their states, shared handlers beside and after it."""

import asyncio
from datetime import timedelta

import pytest

import perdure
from perdure import TerminalError, Workflow, WorkflowContext, WorkflowSharedContext, testing
from perdure.testing import TestSystem
from tests.features.modes import Run, eventually

signup = Workflow("SignUp")
runs: list[str] = []


@signup.main()
async def main(ctx: WorkflowContext, name: str) -> list[object]:
    await ctx.run_typed("count", lambda: runs.append(name))
    promise = ctx.promise("approval", type_hint=str)
    seen: list[object] = [await promise.peek()]
    ctx.set("name", name)
    try:
        seen.append(await promise)
    except TerminalError as e:
        seen.append([e.status_code, e.message])
        return seen
    return [*seen, await promise.value(), await promise.peek()]


@signup.handler()
async def approve(ctx: WorkflowSharedContext, value: str) -> int:
    try:
        await ctx.promise("approval", type_hint=str).resolve(value)
    except TerminalError as e:
        return e.status_code
    return 200


@signup.handler()
async def refuse(ctx: WorkflowSharedContext, why: str) -> int:
    try:
        await ctx.promise("approval").reject(why, 403)
    except TerminalError as e:
        return e.status_code
    return 200


@signup.handler()
async def peek(ctx: WorkflowSharedContext) -> str | None:
    return await ctx.promise("approval", type_hint=str).peek()


@signup.handler()
async def watch(ctx: WorkflowSharedContext) -> str:
    return await ctx.promise("approval", type_hint=str).value()


@signup.handler()
async def name(ctx: WorkflowSharedContext) -> str | None:
    return await ctx.get("name", type_hint=str)


async def started(system: TestSystem, key: str = "ada") -> perdure.RestateClientSendHandle:
    sent = await system.workflow_send(main, key=key, arg="Ada")
    await eventually(lambda: system.workflow_call(name, key=key))
    return sent


def test_a_promise_is_resolved_once_and_seen_by_all(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        runs.clear()
        await started(system)
        watching = asyncio.ensure_future(system.workflow_call(watch, key="ada"))
        assert await system.workflow_call(peek, key="ada") is None
        codes = [await system.workflow_call(approve, key="ada", arg="yes")]
        codes.append(await system.workflow_call(approve, key="ada", arg="no"))
        codes.append(await system.workflow_call(refuse, key="ada", arg="no"))
        assert codes == [200, 409, 409]
        assert await system.workflow_attach(main, key="ada") == [None, "yes", "yes", "yes"]
        assert await watching == "yes"
        assert await system.workflow_call(peek, key="ada") == "yes"
        assert len(runs) <= 1 + system.crash_count

    run(scenario, [signup])


def test_a_rejection_is_raised_where_it_is_awaited(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        await started(system)
        assert await system.workflow_call(refuse, key="ada", arg="too young") == 200
        assert await system.workflow_attach(main, key="ada") == [None, [403, "too young"]]
        with pytest.raises(perdure.HttpError, match="too young"):
            await system.workflow_call(watch, key="ada")

    run(scenario, [signup])


def test_a_promise_can_be_resolved_before_the_run_begins(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        assert await system.workflow_call(approve, key="ada", arg="early") == 200
        answer = await system.workflow_call(main, key="ada", arg="Ada")
        assert answer == ["early", "early", "early", "early"]

    run(scenario, [signup])


def test_the_run_happens_once_per_key(run: Run) -> None:
    flow = Workflow("Flow")
    caller = perdure.Service("Caller")

    @flow.main()
    async def once(ctx: WorkflowContext, value: int) -> int:
        await ctx.sleep(timedelta(minutes=1))
        return value

    @caller.handler()
    async def call(ctx: perdure.Context) -> list[int]:
        codes = []
        for n in (1, 2):
            try:
                codes.append(await ctx.workflow_call(once, key="inner", arg=n))
            except TerminalError as e:
                codes.append(e.status_code)
        return codes

    async def scenario(system: TestSystem) -> None:
        sent = await system.workflow_send(once, key="k", arg=1)
        again = await system.workflow_send(once, key="k", arg=2)
        assert again.invocation_id == sent.invocation_id
        assert not (await system.workflow_output(once, key="k")).is_ready
        assert await system.workflow_attach(once, key="k") == 1
        assert (await system.workflow_output(once, key="k")).value == 1
        assert await system.service_call(call) == [1, 409]

    run(scenario, [flow, caller])


def test_a_second_call_of_run_is_409() -> None:
    flow = Workflow("Flow")

    @flow.main()
    async def once(ctx: WorkflowContext, value: int) -> int:
        return value

    async def scenario(system: TestSystem) -> None:
        assert await system.workflow_call(once, key="k", arg=1) == 1
        with pytest.raises(perdure.HttpError, match="409"):
            await system.workflow_call(once, key="k", arg=2)

    testing.run(scenario, [flow])  # after a crash, the caller would only attach


def test_unknown_runs_are_404(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        with pytest.raises(perdure.HttpError, match="404"):
            await system.workflow_attach(main, key="nobody")

    run(scenario, [signup])
