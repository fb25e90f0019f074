"""A durable counter: one virtual object per key, its total survives any crash.

    perdure up samples/counter.py
    curl localhost:8080/Counter/alice/add --json 1
"""

import perdure

counter = perdure.VirtualObject("Counter")


@counter.handler()
async def add(ctx: perdure.ObjectContext, amount: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total


@counter.handler(kind="shared")
async def get(ctx: perdure.ObjectSharedContext) -> int:
    return await ctx.get("total", type_hint=int) or 0


app = perdure.app([counter])
