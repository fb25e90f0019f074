"""Typed contexts. A line that ends in ``# bad`` must be refused by mypy and pyright, and no other line."""

from typing import Any, assert_type

from perdure import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RunOptions,
    WorkflowContext,
    as_completed,
    gather,
    select,
    wait_completed,
)
from perdure.serde import BytesSerde, DefaultSerde


async def fetch(url: str, retries: int = 3) -> bytes:
    return url.encode()


def compute(n: int) -> float:
    return float(n)


async def state(ctx: ObjectContext, shared: ObjectSharedContext) -> None:
    assert_type(await ctx.get("n", type_hint=int), int | None)
    assert_type(await ctx.get("n", BytesSerde()), bytes | None)
    assert_type(await ctx.get("n", serde=DefaultSerde(str)), str | None)
    untyped = await ctx.get("n")
    assert_type(untyped, Any | None)
    count: int = await ctx.get("n", type_hint=int) or 0
    ctx.set("n", count + 1)
    ctx.set("n", b"", serde=BytesSerde())
    assert_type(await shared.get("n", type_hint=str), str | None)
    assert_type(await shared.state_keys(), list[str])
    ctx.clear("n")
    ctx.clear_all()
    ctx.set("n", 1, serde=BytesSerde())  # bad
    ctx.set(1, 1)  # bad
    shared.set("n", 1)  # bad
    text: str = await ctx.get("n", type_hint=int) or ""  # bad
    print(text)


async def runs(ctx: Context) -> None:
    assert_type(await ctx.run_typed("fetch", fetch, RunOptions(), "u", retries=1), bytes)
    assert_type(await ctx.run_typed("compute", compute, RunOptions(max_attempts=3), 1), float)
    assert_type(await ctx.run_typed("compute", compute, RunOptions[float](), n=1), float)
    assert_type(await ctx.run("fetch", fetch, args=("u",)), bytes)
    assert_type(await ctx.run("compute", lambda: str(1)), str)
    assert_type(await ctx.time(), float)
    ctx.run_typed("fetch", fetch, RunOptions(), 1)  # bad
    ctx.run_typed("compute", compute, RunOptions(), "x")  # bad
    ctx.run_typed("compute", compute, RunOptions(), 1, 2)  # bad
    ctx.sleep(3)  # bad


async def waiting(ctx: WorkflowContext) -> None:
    id_, future = ctx.awakeable(type_hint=str)
    assert_type(id_, str)
    assert_type(await future, str)
    assert_type(await ctx.promise("p", type_hint=int), int)
    assert_type(await ctx.promise("p", type_hint=int).peek(), int | None)
    assert_type(await ctx.signal("s", type_hint=int), int)
    assert_type(await ctx.attach_invocation("inv_1", type_hint=int), int)
    await ctx.promise("p", type_hint=int).resolve(1)
    await gather(future, ctx.promise("p").value())
    await select(answer=future, timeout=ctx.signal("stop"))
    await ctx.promise("p", type_hint=int).resolve("x")  # bad
    await gather(1)  # bad


async def combined(ctx: Context) -> None:
    same = (
        ctx.run_typed("a", compute, RunOptions(), 1),
        ctx.run_typed("b", compute, RunOptions(), 2),
    )
    async for each in as_completed(*same):
        assert_type(await each, float)
    mixed = (
        ctx.run_typed("a", compute, RunOptions(), 1),
        ctx.run_typed("b", fetch, RunOptions(), "u"),
    )
    async for one in as_completed(*mixed):
        assert_type(await one, Any)
    done, _ = await wait_completed(mixed[0], mixed[1])
    assert_type(await done[0], Any)
