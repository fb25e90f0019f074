"""Handlers whose replay is less straight: tasks, combinators, promises, cancellation, clean-up."""

import asyncio
import contextlib
from datetime import timedelta

import perdure
from perdure import asyncio as combinators

twisted = perdure.Service("Twisted")
flow = perdure.Workflow("Flow")


@twisted.handler()
async def side(ctx: perdure.Context, n: int) -> int:
    await ctx.sleep(timedelta(milliseconds=n))
    return n


@twisted.handler()
async def combined(ctx: perdure.Context) -> list[int]:
    calls = [ctx.service_call(side, n) for n in (9, 1, 5)]
    async for each in combinators.as_completed(*calls):
        await each
    both = await combinators.gather(*calls)
    return [await each for each in both]


@twisted.handler()
async def in_tasks(ctx: perdure.Context) -> int:
    async def one(n: int) -> int:
        return await ctx.service_call(side, n)

    tasks = [asyncio.create_task(one(n)) for n in (3, 1)]
    return sum(await asyncio.gather(*tasks))


@twisted.handler()
async def careful(ctx: perdure.Context) -> str:
    try:
        await ctx.sleep(timedelta(days=1))
    except perdure.TerminalError:
        await ctx.run_typed("undo", lambda: None)
        raise
    return "slept"


@twisted.handler()
async def greedy(ctx: perdure.Context) -> str:
    """Swallows everything, as no handler should."""
    with contextlib.suppress(BaseException):
        await ctx.run_typed("first", lambda: 1)
    return "went on"


@flow.main()
async def run(ctx: perdure.WorkflowContext) -> str:
    draw = ctx.random().random()
    told: str = await ctx.promise("told", type_hint=str).value()
    return f"{told} {draw}"


@flow.handler()
async def tell(ctx: perdure.WorkflowSharedContext, text: str) -> None:
    await ctx.promise("told", type_hint=str).resolve(text)


app = perdure.app([twisted, flow])
