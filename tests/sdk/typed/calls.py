"""Typed calls. A line that ends in ``# bad`` must be refused by mypy and pyright, and no other line."""

from datetime import timedelta
from typing import assert_type

import perdure
from perdure import Context, ObjectContext, ObjectSharedContext, RestateClient, WorkflowContext
from perdure.client_types import InvocationOutput

greeter = perdure.Service("Greeter")
counter = perdure.VirtualObject("Counter")
flow = perdure.Workflow("Flow")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return name


@greeter.handler()
def plain(ctx: Context, name: str) -> list[str]:
    return [name]


@greeter.handler(name="other", ingress_private=True)
async def nothing(ctx: Context) -> None: ...


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    return n


@counter.handler(kind="shared")
def get(ctx: ObjectSharedContext) -> int:
    return 1


@counter.handler()
async def maybe(ctx: ObjectContext, n: int | None) -> dict[str, int]:
    return {}


@flow.main()
async def run(ctx: WorkflowContext, n: int) -> str:
    return ""


async def from_outside(client: RestateClient) -> None:
    assert_type(await client.service_call(greet, "a"), str)
    assert_type(await client.service_call(greet, arg="a", idempotency_key="k"), str)
    assert_type(await client.service_call(plain, "a"), list[str])
    await client.service_call(nothing)
    await client.service_call(nothing, None)
    assert_type(await client.object_call(add, key="a", arg=1), int)
    assert_type(await client.object_call(get, "a"), int)
    assert_type(await client.object_call(maybe, "a", None), dict[str, int])
    assert_type(await client.workflow_call(run, "w", 1), str)
    assert_type(await client.workflow_attach(run, "w"), str)
    assert_type(await client.workflow_output(run, "w"), InvocationOutput[str])
    assert_type(await client.scope("s").object_call(add, "a", 1, limit_key="t"), int)
    assert_type(await client.attach("inv_1", type_hint=int), int)
    await client.object_send(add, "a", 1, send_delay=timedelta(seconds=1))
    await client.object_send(get, "a")
    await client.service_call(greet, 1)  # bad
    await client.service_call(greet)  # bad
    await client.service_call(plain, 1)  # bad
    await client.service_call(nothing, 1)  # bad
    await client.object_call(add, "a", "1")  # bad
    await client.object_call(add, 1, 1)  # bad
    await client.object_call(add, "a")  # bad
    await client.object_call(get, "a", 1)  # bad
    await client.object_send(add, "a", "1")  # bad
    await client.object_send(get, "a", 1)  # bad
    await client.scope("s").object_call(add, "a", "1")  # bad
    wrong: int = await client.service_call(greet, "a")  # bad
    wrong = await client.workflow_attach(run, "w")  # bad
    print(wrong)


async def from_inside(ctx: ObjectContext) -> None:
    assert_type(await ctx.service_call(greet, "a"), str)
    assert_type(await ctx.service_call(plain, arg="a"), list[str])
    assert_type(await ctx.object_call(get, "a"), int)
    assert_type(await ctx.workflow_call(run, "w", arg=1), str)
    assert_type(await ctx.scope("s").service_call(greet, "a", limit_key="t"), str)
    ctx.object_send(add, "a", arg=1, send_delay=timedelta(seconds=1))
    ctx.service_send(nothing)
    ctx.service_call(greet, 1)  # bad
    ctx.service_call(plain)  # bad
    ctx.object_call(get, "a", 1)  # bad
    ctx.object_send(add, "a", "1")  # bad
    ctx.workflow_send(run, "w", "1")  # bad
    ctx.scope("s").service_send(greet, 1)  # bad
    wrong: int = await ctx.service_call(greet, "a")  # bad
    print(wrong)
