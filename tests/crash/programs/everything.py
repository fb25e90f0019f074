"""The services under test while the server is killed: each answer tells what is needed to check it.

A side effect appends `invocation step attempt` to the file named by EFFECTS, in one write; the token of
the attempt is also the result that is journaled, so that the file and the answers can be compared.
"""

import os
import time
from datetime import timedelta
from itertools import count
from typing import Any

import perdure

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_started = time.monotonic_ns()
_attempts = count(1)


def effect(invocation_id: str, step: str) -> str:
    """Done once more; which time it was."""
    token = f"{os.getpid()}-{_started}-{next(_attempts)}"
    os.write(_EFFECTS, f"{invocation_id} {step} {token}\n".encode())
    return token


def now_ms() -> int:
    return time.time_ns() // 1_000_000


counter = perdure.VirtualObject("Counter")


@counter.handler()
async def add(ctx: perdure.ObjectContext, amount: int) -> list[int]:
    old = await ctx.get("total", type_hint=int) or 0
    ctx.set("total", old + amount)
    return [old, old + amount]


@counter.handler(kind="shared")
async def total(ctx: perdure.ObjectSharedContext) -> int:
    return await ctx.get("total", type_hint=int) or 0


pipeline = perdure.Service("Pipeline")


@pipeline.handler()
async def steps(ctx: perdure.Context, how_many: int) -> list[str]:
    """Side effects one after the other, plain and async, with a durable call between them."""
    id = ctx.request().id
    tokens = []
    for i in range(how_many):
        if i % 2:
            tokens.append(await ctx.run_typed(f"step-{i}", effect, invocation_id=id, step=str(i)))
        else:
            tokens.append(await ctx.run_typed(f"step-{i}", _later, invocation_id=id, step=str(i)))
        await ctx.object_call(add, key="of-pipelines", arg=1)
    return tokens


async def _later(invocation_id: str, step: str) -> str:
    return effect(invocation_id, step)


@pipeline.handler()
async def nap(ctx: perdure.Context, duration_ms: int) -> list[Any]:
    """When it could wake at the earliest, when it did, and which time it did."""
    started_ms = await ctx.run_typed("now", now_ms)
    await ctx.sleep(timedelta(milliseconds=duration_ms))
    woke_ms = await ctx.run_typed("woke", now_ms)
    token = await ctx.run_typed("wake", effect, invocation_id=ctx.request().id, step="wake")
    return [started_ms + duration_ms, woke_ms, token]


@pipeline.handler()
async def fire(ctx: perdure.Context, due_ms: int) -> list[Any]:
    """The target of delayed sends."""
    fired_ms = await ctx.run_typed("now", now_ms)
    token = await ctx.run_typed("fire", effect, invocation_id=ctx.request().id, step="fire")
    return [due_ms, fired_ms, token]


receiver = perdure.VirtualObject("Receiver")


@receiver.handler()
async def append(ctx: perdure.ObjectContext, item: list[Any]) -> int:
    items = await ctx.get("items", type_hint=list) or []
    ctx.set("items", [*items, item])
    return len(items)


@receiver.handler(kind="shared")
async def items(ctx: perdure.ObjectSharedContext) -> list[Any]:
    return await ctx.get("items", type_hint=list) or []


sender = perdure.VirtualObject("Sender")


@sender.handler()
async def burst(ctx: perdure.ObjectContext, order: list[Any]) -> str:
    """`[receiver key, how many]`: sends with calls among them; the receiver shall see 0, 1, 2 ..."""
    key, how_many = order
    id = ctx.request().id
    for i in range(how_many):
        if i % 3 == 2:
            await ctx.object_call(append, key=key, arg=[id, i])
        else:
            ctx.object_send(append, key=key, arg=[id, i])
    return id


waiter = perdure.VirtualObject("Waiter")


@waiter.handler()
async def wait(ctx: perdure.ObjectContext) -> list[str]:
    """Publishes an awakeable in the state, waits for it, and tells what came."""
    id, future = ctx.awakeable(type_hint=str)
    ctx.set("awakeable", id)
    try:
        found = await future
    except perdure.TerminalError as e:
        found = f"rejected: {e.message}"
    token = await ctx.run_typed(
        "came", effect, invocation_id=ctx.request().id, step=f"came:{found.replace(' ', '_')}"
    )
    return [id, found, token]


@waiter.handler(kind="shared")
async def pending(ctx: perdure.ObjectSharedContext) -> str | None:
    return await ctx.get("awakeable", type_hint=str)


approval = perdure.Workflow("Approval")


@approval.main()
async def run(ctx: perdure.WorkflowContext, request: str) -> list[str]:
    verdict = await ctx.promise("verdict", type_hint=str)
    token = await ctx.run_typed("note", effect, invocation_id=ctx.request().id, step="note")
    return [request, verdict, token]


@approval.handler()
async def decide(ctx: perdure.WorkflowSharedContext, verdict: str) -> str:
    await ctx.promise("verdict", type_hint=str).resolve(verdict)
    return verdict


app = perdure.app([counter, pipeline, receiver, sender, waiter, approval])
