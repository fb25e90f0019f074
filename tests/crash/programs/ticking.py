"""A tick of every second, for the crash test of schedules: each is written down, in state and in a file."""

import os
from datetime import timedelta

import perdure

clock = perdure.VirtualObject("Clock")


@perdure.schedule(every=timedelta(seconds=1), name="seconds", key="all", overlap="allow")
@clock.handler()
async def tick(ctx: perdure.ObjectContext) -> None:
    moment = ctx.request().headers["x-perdure-tick"]

    def write() -> None:
        with open(os.environ["TICKS"], "a") as file:
            file.write(f"{moment}\n")

    await ctx.run_typed("write", write)
    ctx.set("ticks", [*(await ctx.get("ticks", type_hint=list[str]) or []), moment])


@clock.handler(kind="shared")
async def ticks(ctx: perdure.ObjectSharedContext) -> list[str]:
    return await ctx.get("ticks", type_hint=list[str]) or []
