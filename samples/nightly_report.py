"""A schedule: at three at night, by the clocks of the place, every shop reports what it has sold.

    perdure up samples/nightly_report.py
    curl localhost:8080/Shop/berlin/sell --json '{"item": "mug", "cents": 990}'    # 990
    curl localhost:8080/Shop/berlin/sell --json '{"item": "tea", "cents": 450}'    # 1440
    perdure schedules list
    perdure schedules trigger berlin                # somebody can't wait for the night
    curl localhost:8080/Shop/berlin/reports

Each night is reported once, whatever crashes. Nights that nobody was up for are made good for with one
report, at the next start.
"""

from dataclasses import dataclass

import perdure

shop = perdure.VirtualObject("Shop")


@dataclass
class Sale:
    item: str
    cents: int


@shop.handler()
async def sell(ctx: perdure.ObjectContext, sale: Sale) -> int:
    cents = (await ctx.get("cents", type_hint=int) or 0) + sale.cents
    ctx.set("cents", cents)
    return cents


@perdure.schedule(cron="0 3 * * *", timezone="Europe/Berlin", name="berlin", key="berlin")
@perdure.schedule(cron="0 3 * * *", timezone="Asia/Tokyo", name="tokyo", key="tokyo")
@shop.handler()
async def report(ctx: perdure.ObjectContext) -> None:
    """Runs in the turn of its key, so no sale falls between two reports."""
    cents = await ctx.get("cents", type_hint=int) or 0
    line = f"{ctx.request().headers['x-perdure-tick']}: {cents / 100:.2f}"
    await ctx.run_typed("print", lambda: print(f"{ctx.key()} {line}", flush=True))
    ctx.clear("cents")
    ctx.set("reports", [*(await ctx.get("reports", type_hint=list[str]) or []), line])


@shop.handler(kind="shared")
async def reports(ctx: perdure.ObjectSharedContext) -> list[str]:
    return await ctx.get("reports", type_hint=list[str]) or []


app = perdure.app([shop])
