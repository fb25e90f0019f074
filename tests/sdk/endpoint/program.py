"""Services with what the samples leave out: served to the official server by `perdure serve`."""

import asyncio
from datetime import timedelta
from typing import Any

import perdure

tools = perdure.Service("Tools")
box = perdure.VirtualObject("Box")
lazy_box = perdure.VirtualObject("LazyBox", enable_lazy_state=True)
flow = perdure.Workflow("Flow")

_tried: dict[str, int] = {}


@tools.handler()
async def flaky(ctx: perdure.Context, id: str) -> int:
    """Fails twice before it has a result; how often it was tried."""

    def attempt() -> int:
        _tried[id] = _tried.get(id, 0) + 1
        if _tried[id] < 3:
            raise ValueError(f"attempt {_tried[id]}")
        return _tried[id]

    options = perdure.RunOptions[int](
        max_attempts=5, initial_retry_interval=timedelta(milliseconds=20)
    )
    return await ctx.run_typed("attempt", attempt, options)


@tools.handler()
async def hopeless(ctx: perdure.Context, id: str) -> str:
    def attempt() -> str:
        _tried[id] = _tried.get(id, 0) + 1
        raise ValueError("no luck")

    options = perdure.RunOptions[str](
        max_attempts=3, initial_retry_interval=timedelta(milliseconds=20)
    )
    try:
        return await ctx.run_typed("attempt", attempt, options)
    except perdure.TerminalError as e:
        return f"{e.message} after {_tried[id]}"


@tools.handler()
async def many_runs(ctx: perdure.Context, count: int) -> list[int]:
    options = perdure.RunOptions[int]()
    return [await ctx.run_typed(f"run {n}", pow, options, n, 2) for n in range(count)]


@tools.handler()
async def naps(ctx: perdure.Context) -> list[float]:
    before = await ctx.time()
    await ctx.sleep(timedelta(milliseconds=300))
    id = ctx.uuid()
    await ctx.sleep(timedelta(milliseconds=10))
    assert id.version == 4
    return [before, await ctx.time()]


@tools.handler()
def blocks(ctx: perdure.BlockingContext, name: str) -> str:
    first = ctx.run_typed("first", lambda: f"hello {name}")
    ctx.sleep(timedelta(milliseconds=100))
    return first + "!" + str(ctx.service_call(echo, arg=1))


@tools.handler()
async def echo(ctx: perdure.Context, value: Any) -> Any:
    return value


@tools.handler()
async def refuses(ctx: perdure.Context, code: int) -> None:
    raise perdure.TerminalError("refused", code, {"why": "test"})


@tools.handler()
async def relays(ctx: perdure.Context, code: int) -> list[Any]:
    try:
        await ctx.service_call(refuses, arg=code)
    except perdure.TerminalError as e:
        return [e.status_code, e.message, e.metadata]
    return []


@tools.handler()
async def waits_for_signal(ctx: perdure.Context) -> Any:
    return await ctx.signal("go")


@tools.handler()
async def signals(ctx: perdure.Context, id: str) -> None:
    ctx.resolve_signal(id, "go", {"went": True})


@tools.handler()
async def combined(ctx: perdure.Context) -> list[Any]:
    calls = [ctx.service_call(echo, arg=n) for n in range(3)]
    await perdure.gather(*calls)
    timer = ctx.sleep(timedelta(seconds=60))
    winner = await perdure.select(call=ctx.service_call(echo, arg="first"), timer=timer)
    return [[await each for each in calls], winner]


@tools.handler()
async def sends(ctx: perdure.Context, key: str) -> str:
    handle = ctx.object_send(put, key=key, arg=["sent", 1], send_delay=timedelta(milliseconds=50))
    id = await handle.invocation_id()
    await ctx.attach_invocation(id)
    return id


@tools.handler()
async def cancelled_child(ctx: perdure.Context) -> str:
    handle = ctx.service_call(holds)
    id = await handle.invocation_id()
    ctx.cancel_invocation(id)
    try:
        await handle
    except perdure.TerminalError as e:
        return f"{e.status_code} {e.message}"
    return "not cancelled"


@tools.handler()
async def holds(ctx: perdure.Context) -> str:
    try:
        await ctx.sleep(timedelta(days=1))
    except perdure.TerminalError:
        await ctx.run_typed("clean up", lambda: "cleaned")
        raise
    return "held"


@tools.handler()
async def awakeables(ctx: perdure.Context) -> list[Any]:
    yes, no = ctx.awakeable(), ctx.awakeable()
    ctx.resolve_awakeable(yes[0], "yes")
    ctx.reject_awakeable(no[0], "no", 418)
    try:
        await no[1]
    except perdure.TerminalError as e:
        return [await yes[1], e.status_code, e.message]
    return []


@tools.handler()
async def slow_task(ctx: perdure.Context) -> str:
    """Waits for what the context does not know of, then goes on."""
    await asyncio.sleep(0.05)
    await ctx.sleep(timedelta(milliseconds=10))
    return (ctx.request().attempt_headers).get("x-restate-invocation-id", "")


async def _put(ctx: perdure.ObjectContext, pair: list[Any]) -> None:
    ctx.set(pair[0], pair[1])


async def _look(ctx: perdure.ObjectSharedContext) -> dict[str, Any]:
    return {name: await ctx.get(name) for name in await ctx.state_keys()}


async def _churn(ctx: perdure.ObjectContext) -> list[Any]:
    """Every operation on state, with a wait in the middle."""
    ctx.set("a", 1)
    ctx.set("b", 2)
    await ctx.sleep(timedelta(milliseconds=10))
    ctx.clear("a")
    seen = [await ctx.get("a"), await ctx.get("b"), await ctx.state_keys()]
    ctx.clear_all()
    ctx.set("c", 3)
    return [*seen, await ctx.state_keys()]


put = box.handler("put")(_put)
box.handler("look", kind="shared")(_look)
box.handler("churn")(_churn)
lazy_box.handler("put")(_put)
lazy_box.handler("look", kind="shared")(_look)
lazy_box.handler("churn")(_churn)


@flow.main()
async def run(ctx: perdure.WorkflowContext, name: str) -> str:
    ctx.set("stage", "waiting")
    answer = await ctx.promise("answer", type_hint=str).value()
    ctx.set("stage", "done")
    return f"{name}: {answer}"


@flow.handler()
async def answer(ctx: perdure.WorkflowSharedContext, text: str) -> Any:
    before = await ctx.promise("answer").peek()
    await ctx.promise("answer").resolve(text)
    return before


@flow.handler()
async def stage(ctx: perdure.WorkflowSharedContext) -> str | None:
    return await ctx.get("stage", type_hint=str)
