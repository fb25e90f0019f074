"""Services that the tests of our own commands run, and replay from this file."""

from datetime import timedelta

import perdure

shop = perdure.VirtualObject("Shop")
stock = perdure.Service("Stock")
runs: list[str] = []


@stock.handler()
async def reserve(ctx: perdure.Context, n: int) -> int:
    if n == 404:
        raise perdure.TerminalError("out of stock", 404)
    return n * 2


@shop.handler()
async def order(ctx: perdure.ObjectContext, n: int) -> str:
    total = await ctx.get("total", type_hint=int) or 0
    ctx.set("total", total + n)
    ticket = await ctx.run_typed("ticket", make_ticket)
    got = await ctx.service_call(reserve, n)
    await ctx.sleep(timedelta(milliseconds=1))
    if n == 13:
        _, future = ctx.awakeable(type_hint=str)
        return await future
    return f"{ticket}-{got}"


def make_ticket() -> str:
    runs.append("ticket")
    return "t-1"


@shop.handler()
async def broken(ctx: perdure.ObjectContext, n: int) -> str:
    ctx.set("seen", n)
    raise ValueError("not an answer")


@shop.handler()
def plainly(ctx: perdure.BlockingContext, n: int) -> int:
    count = ctx.get("count", type_hint=int) or 0
    ctx.set("count", count + n)
    ctx.run("note", make_ticket)
    return count + n


app = perdure.app([shop, stock])
