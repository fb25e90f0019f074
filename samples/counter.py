"""A durable counter: one virtual object per key, its total survives any crash.

    perdure up samples/counter.py
    curl localhost:8080/Counter/alice/add --json 1    # 1
    curl localhost:8080/Counter/alice/add --json 2    # 3
    curl localhost:8080/Counter/alice/get             # 3
    curl localhost:8080/Counter/bob/get               # 0

Kill the process at any moment (kill -9, too) and start it again: alice still has 3.
"""

import perdure

counter = perdure.VirtualObject("Counter")


@counter.handler()
async def add(ctx: perdure.ObjectContext, amount: int) -> int:
    """One at a time per key, so that reading and writing need no lock."""
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total


@counter.handler(kind="shared")
async def get(ctx: perdure.ObjectSharedContext) -> int:
    """Shared: it may read beside a running ``add``."""
    return await ctx.get("total", type_hint=int) or 0


app = perdure.app([counter])
