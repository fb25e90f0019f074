"""What the end-to-end tests serve: a good counter, and handlers with the mistakes that people make."""

from datetime import timedelta
from typing import Any

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


@counter.handler(ingress_private=True)
async def reset(ctx: perdure.ObjectContext) -> None:
    ctx.clear_all()


greeter = perdure.Service("Greeter")


@greeter.handler()
async def greet(ctx: perdure.Context, name: str) -> str:
    return f"Hello {name}"


@greeter.handler()
async def wait(ctx: perdure.Context, duration_ms: int) -> str:
    await ctx.sleep(timedelta(milliseconds=duration_ms))
    return "waited"


@greeter.handler()
async def hold(ctx: perdure.Context) -> str:
    """Until somebody completes its awakeable, or cancels it."""
    _, future = ctx.awakeable(type_hint=str)
    return await future


@greeter.handler(
    invocation_retry_policy=perdure.InvocationRetryPolicy(max_attempts=1, on_max_attempts="pause")
)
async def stumble(ctx: perdure.Context) -> str:
    raise RuntimeError("always")


@greeter.handler()
async def refuse(ctx: perdure.Context) -> str:
    raise perdure.TerminalError("sold out", status_code=409)


flow = perdure.Workflow("Flow")


@flow.main()
async def run(ctx: perdure.WorkflowContext, name: str) -> str:
    return f"ran {name}"


mistakes = perdure.Service("Mistakes")


@mistakes.handler()
async def forgets_await_of_run(ctx: perdure.Context) -> Any:
    return ctx.run_typed("number", lambda: 1)


@mistakes.handler()
async def forgets_await_of_call(ctx: perdure.Context) -> Any:
    return ctx.object_call(add, key="x", arg=1)


@mistakes.handler()
async def adds_to_a_future(ctx: perdure.Context) -> int:
    number: Any = ctx.run_typed("number", lambda: 1)
    return int(number + 1)


@mistakes.handler()
async def returns_a_set(ctx: perdure.Context) -> Any:
    return {object()}


@mistakes.handler()
async def sets_what_is_no_json(ctx: perdure.Context) -> Any:
    return await ctx.run_typed("thing", lambda: object())


@mistakes.handler()
async def calls_nobody(ctx: perdure.Context) -> bytes:
    return await ctx.generic_call("Nobody", "answers", b"")


@mistakes.handler()
async def calls_a_missing_handler(ctx: perdure.Context) -> bytes:
    return await ctx.generic_call("Counter", "substract", b"1", key="x")


@mistakes.handler()
async def sends_to_nobody(ctx: perdure.Context) -> None:
    ctx.generic_send("Nobody", "answers", b"")


@mistakes.handler()
async def passes_a_wrong_argument(ctx: perdure.Context) -> int:
    wrong: Any = "one"
    return await ctx.object_call(add, key="x", arg=wrong)


@mistakes.handler()
async def passes_what_is_no_handler(ctx: perdure.Context) -> Any:
    wrong: Any = str.upper
    return await ctx.object_call(wrong, key="x", arg="a")


@mistakes.handler()
async def resolves_a_malformed_awakeable(ctx: perdure.Context) -> None:
    ctx.resolve_awakeable("nonsense", "x")


@mistakes.handler()
async def sleeps_a_number(ctx: perdure.Context) -> None:
    wrong: Any = 5
    await ctx.sleep(wrong)


cell = perdure.VirtualObject("Cell")


@cell.handler(kind="shared")
async def writes_in_a_shared_handler(ctx: Any) -> None:
    ctx.set("x", 1)


app = perdure.app([counter, greeter, flow, mistakes, cell])
