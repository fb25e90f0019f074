"""What the tests of SQL serve: one handler for each state that an invocation can be in."""

from datetime import timedelta

import perdure
from perdure.serde import BytesSerde

box = perdure.VirtualObject("Box")


@box.handler()
async def put(ctx: perdure.ObjectContext, value: str) -> str:
    ctx.set("value", value)
    ctx.set("raw", b"\xff\x00", serde=BytesSerde())
    return value


@box.handler()
async def hold(ctx: perdure.ObjectContext) -> str:
    """Until its awakeable is completed; holds the key's lock."""
    _, future = ctx.awakeable(type_hint=str)
    return await future


desk = perdure.Service("Desk")


@desk.handler()
async def greet(ctx: perdure.Context, name: str) -> str:
    return f"Hello {name}"


@desk.handler()
async def refuse(ctx: perdure.Context) -> str:
    raise perdure.TerminalError("sold out", status_code=409)


@desk.handler(
    invocation_retry_policy=perdure.InvocationRetryPolicy(max_attempts=1, on_max_attempts="pause")
)
async def stumble(ctx: perdure.Context) -> str:
    raise RuntimeError("always")


@desk.handler(
    invocation_retry_policy=perdure.InvocationRetryPolicy(initial_interval=timedelta(days=1))
)
async def falter(ctx: perdure.Context) -> str:
    raise RuntimeError("for now")


@desk.handler(inactivity_timeout=timedelta(0))
async def doze(ctx: perdure.Context) -> str:
    await ctx.sleep(timedelta(days=1))
    return "awake"


@desk.handler()
async def chain(ctx: perdure.Context, key: str) -> str:
    """One call, one send, one run."""
    kept = await ctx.object_call(put, key=key, arg="x")
    ctx.service_send(greet, arg="y")
    return str(await ctx.run_typed("shout", kept.upper))


flow = perdure.Workflow("Flow")


@flow.main()
async def run(ctx: perdure.WorkflowContext) -> str:
    await ctx.promise("go", type_hint=str).resolve("now")
    return await ctx.promise("never", type_hint=str).value()


app = perdure.app([box, desk, flow])
