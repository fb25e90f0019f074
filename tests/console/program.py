"""What the console's tests serve: an object with every kind of journal entry, and handlers that go wrong."""

from datetime import timedelta

import msgspec

import perdure


class Order(msgspec.Struct):
    """What is ordered."""

    item: str
    amount: int = 1
    express: bool = False


counter = perdure.VirtualObject("Counter")


@counter.handler()
async def add(ctx: perdure.ObjectContext, amount: int) -> int:
    """Add an amount and tell the total."""
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total


@counter.handler(kind="shared")
async def get(ctx: perdure.ObjectSharedContext) -> int:
    return await ctx.get("total", type_hint=int) or 0


@counter.handler()
async def hold(ctx: perdure.ObjectContext) -> str:
    """Keep the key until somebody completes the awakeable."""
    _, future = ctx.awakeable(type_hint=str)
    return await future


@counter.handler()
async def note(ctx: perdure.ObjectContext, text: str) -> str:
    ctx.set("note", text)
    return text


shop = perdure.Service("Shop")


@shop.handler()
async def order(ctx: perdure.Context, order: Order) -> str:
    """Count, pay, wait a moment, tell."""
    number = await ctx.object_call(add, key=order.item, arg=order.amount)
    paid = await ctx.run_typed("pay", lambda: f"receipt {number}")
    await ctx.sleep(timedelta(milliseconds=20))
    ctx.object_send(add, key="orders", arg=1)
    return f"{order.amount} of {order.item}: {paid}"


@shop.handler()
async def ship(ctx: perdure.Context, days: int) -> str:
    await ctx.sleep(timedelta(days=days))
    return "shipped"


@shop.handler(
    invocation_retry_policy=perdure.InvocationRetryPolicy(max_attempts=1, on_max_attempts="pause")
)
async def stumble(ctx: perdure.Context, text: str) -> str:
    raise RuntimeError(text)


@shop.handler(
    invocation_retry_policy=perdure.InvocationRetryPolicy(
        initial_interval=timedelta(minutes=30), max_attempts=50
    )
)
async def retry(ctx: perdure.Context) -> str:
    await ctx.run_typed("reserve", lambda: "shelf 7")
    raise ConnectionError("the warehouse does not answer")


@shop.handler()
async def refuse(ctx: perdure.Context, text: str) -> str:
    raise perdure.TerminalError(text, status_code=409)


flow = perdure.Workflow("Approval")


@flow.main()
async def run(ctx: perdure.WorkflowContext, title: str) -> str:
    ctx.set("title", title)
    return await ctx.promise("decision", type_hint=str).value()


@flow.handler()
async def decide(ctx: perdure.WorkflowSharedContext, decision: str) -> None:
    await ctx.promise("decision", type_hint=str).resolve(decision)


app = perdure.app([counter, shop, flow])
