"""Services whose invocations can be left in every state that outlives a process."""

import os
from datetime import timedelta

import perdure

_EFFECTS = os.environ["EFFECTS"]


def note(line: str) -> None:
    """One line in the file of effects, in one write."""
    fd = os.open(_EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def may_go() -> bool:
    """Whether the test has opened the gate, which is a file."""
    return os.path.exists(f"{_EFFECTS}.open")


counter = perdure.VirtualObject("Counter")


@counter.handler()
async def add(ctx: perdure.ObjectContext, amount: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total


@counter.handler()
async def blocked(ctx: perdure.ObjectContext) -> str:
    """Holds the key until its awakeable is completed."""
    id, future = ctx.awakeable(type_hint=str)
    await ctx.run_typed("publish", note, line=f"awakeable {id}")
    return await future


lasting = perdure.Service("Lasting")


@lasting.handler()
async def slow(ctx: perdure.Context, duration_ms: int) -> str:
    await ctx.run_typed("start", note, line="slow")
    await ctx.sleep(timedelta(milliseconds=duration_ms))
    return "slept"


@lasting.handler()
async def waits(ctx: perdure.Context) -> str:
    id, future = ctx.awakeable(type_hint=str)
    await ctx.run_typed("publish", note, line=f"awakeable {id}")
    return await future


@lasting.handler(
    invocation_retry_policy=perdure.InvocationRetryPolicy(
        initial_interval=timedelta(milliseconds=300), exponentiation_factor=1.0
    )
)
async def fails(ctx: perdure.Context) -> str:
    """Until the gate is open."""
    note("try")
    if not may_go():
        raise RuntimeError("the gate is shut")
    return "passed"


@lasting.handler(
    invocation_retry_policy=perdure.InvocationRetryPolicy(
        initial_interval=timedelta(milliseconds=10), max_attempts=2, on_max_attempts="pause"
    )
)
async def pauses(ctx: perdure.Context) -> str:
    """Is paused after two attempts while the gate is shut."""
    if not may_go():
        raise RuntimeError("the gate is shut")
    return "passed"


@lasting.handler()
async def echo(ctx: perdure.Context, text: str) -> str:
    await ctx.run_typed("echo", note, line=f"echo {text}")
    return text


app = perdure.app([counter, lasting])
