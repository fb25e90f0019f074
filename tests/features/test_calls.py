"""Calls and sends between handlers: answers, failures, delays, identity, headers, attach."""

import asyncio
import json
from datetime import timedelta

import pytest

import perdure
from perdure import Context, ObjectContext, Service, TerminalError, VirtualObject
from perdure.testing import TestSystem
from tests.features.modes import Run

bank = VirtualObject("Bank")
desk = Service("Desk")


@bank.handler()
async def deposit(ctx: ObjectContext, amount: int) -> int:
    total = (await ctx.get("total") or 0) + amount
    ctx.set("total", total)
    return total


@bank.handler()
async def slow_deposit(ctx: ObjectContext, amount: int) -> int:
    await ctx.sleep(timedelta(minutes=1))
    total: int = await deposit(ctx, amount)
    return total


@bank.handler()
async def refuse(ctx: ObjectContext, why: str) -> None:
    raise TerminalError(why, status_code=402, metadata={"account": ctx.key()})


@desk.handler()
async def headers(ctx: Context) -> dict[str, str]:
    return dict(ctx.request().headers)


@desk.handler()
async def raw_length(ctx: Context, body: bytes) -> int:
    return len(body)


async def total_of(system: TestSystem, key: str) -> int:
    return int((await system.state(bank, key)).get("total", b"0"))


def test_a_call_happens_once_and_brings_its_answer(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def move(ctx: Context) -> list[int]:
        first = await ctx.object_call(deposit, key="a", arg=1)
        slow = await ctx.object_call(slow_deposit, key="a", arg=10)
        by_name = await ctx.generic_call("Bank", "deposit", b"100", key="a")
        return [first, slow, json.loads(by_name)]

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(move) == [1, 11, 111]
        assert await total_of(system, "a") == 111

    run(scenario, [bank, clerk])


def test_sends_arrive_once_in_order_and_delays_are_kept(run: Run) -> None:
    clerk = Service("Clerk")
    log = VirtualObject("Log")

    @log.handler()
    async def add(ctx: ObjectContext, text: str) -> None:
        ctx.set("lines", [*(await ctx.get("lines") or []), text])

    @clerk.handler()
    async def tell(ctx: Context) -> str:
        ctx.object_send(add, key="l", arg="late", send_delay=timedelta(hours=2))
        ctx.object_send(add, key="l", arg="later", send_delay=timedelta(hours=3))
        for n in range(4):
            ctx.object_send(add, key="l", arg=f"now {n}")
        ctx.generic_send("Log", "add", b'"by name"', key="l")
        handle = ctx.object_send(add, key="l", arg="soon", send_delay=timedelta(hours=1))
        return await handle.invocation_id()

    async def lines(system: TestSystem) -> list[str]:
        found: list[str] = json.loads((await system.state(log, "l")).get("lines", b"[]"))
        return found

    async def scenario(system: TestSystem) -> None:
        id = await system.service_call(tell)
        info = await system.invocation(id)
        assert info is not None
        assert info.status == "scheduled"
        await asyncio.sleep(60)
        now = ["now 0", "now 1", "now 2", "now 3", "by name"]
        assert await lines(system) == now
        await asyncio.sleep(3 * 3600)
        assert await lines(system) == [*now, "soon", "late", "later"]

    run(scenario, [clerk, log])


def test_a_terminal_error_travels_through_calls_with_code_and_metadata(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def inner(ctx: Context) -> None:
        await ctx.object_call(refuse, key="a", arg="no funds")

    @clerk.handler()
    async def outer(ctx: Context) -> list[object]:
        try:
            await ctx.service_call(inner)
        except TerminalError as e:
            return [e.status_code, e.message, e.metadata]
        return []

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(outer) == [402, "no funds", {"account": "a"}]
        with pytest.raises(perdure.HttpError, match="no funds") as caught:
            await system.service_call(inner)
        assert caught.value.status_code == 402

    run(scenario, [bank, clerk])


def test_an_idempotency_key_names_one_invocation_for_callers_inside_and_outside(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def twice(ctx: Context) -> list[object]:
        first = await ctx.object_call(deposit, key="a", arg=1, idempotency_key="once")
        again = await ctx.object_call(deposit, key="a", arg=5, idempotency_key="once")
        sent = ctx.object_send(deposit, key="a", arg=7, idempotency_key="once")
        called = ctx.object_call(deposit, key="a", arg=9, idempotency_key="once")
        return [first, again, await sent.invocation_id() == await called.invocation_id()]

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(twice) == [1, 1, True]
        assert await system.object_call(deposit, key="a", arg=3, idempotency_key="once") == 1
        assert await total_of(system, "a") == 1

    run(scenario, [bank, clerk])


def test_headers_and_bytes_arrive_as_sent(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def ask(ctx: Context) -> list[object]:
        seen = await ctx.service_call(headers, headers={"x-trace": "42"})
        raw = bytes(range(256))
        length = await ctx.generic_call("Desk", "raw_length", raw, headers={"x": "y"})
        return [seen["x-trace"], json.loads(length)]

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(ask) == ["42", 256]
        outside = await system.service_call(headers, headers={"X-Mine": "7"})
        assert outside["x-mine"] == "7"

    run(scenario, [desk, clerk])


def test_attach_waits_for_another_invocation(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def follow(ctx: Context) -> list[object]:
        sent = ctx.object_send(slow_deposit, key="a", arg=4)
        id = await sent.invocation_id()
        waited = await ctx.attach_invocation(id, type_hint=int)
        again = await ctx.attach_invocation(id, type_hint=int)
        failing = ctx.object_send(refuse, key="a", arg="never")
        try:
            await ctx.attach_invocation(await failing.invocation_id())
        except TerminalError as e:
            return [waited, again, e.status_code, id]
        return []

    async def scenario(system: TestSystem) -> None:
        *seen, id = await system.service_call(follow)
        assert seen == [4, 4, 402]
        assert isinstance(id, str)
        assert await system.attach(id, type_hint=int) == 4
        assert (await system.output(id, type_hint=int)).value == 4

    run(scenario, [bank, clerk])


def test_attach_to_nobody_is_404(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def follow(ctx: Context, id: str) -> int:
        try:
            await ctx.attach_invocation(id)
        except TerminalError as e:
            return e.status_code
        return 0

    async def scenario(system: TestSystem) -> None:
        nobody = "inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz"
        assert await system.service_call(follow, arg=nobody) == 404
        with pytest.raises(perdure.HttpError, match="404"):
            await system.attach(nobody)

    run(scenario, [clerk])


def test_a_call_to_nobody_fails_at_once_and_names_the_nearest(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def typo(ctx: Context) -> str:
        try:
            await ctx.generic_call("Bank", "deposti", b"1", key="a")
        except TerminalError as e:
            return e.message
        return ""

    async def scenario(system: TestSystem) -> None:
        assert "Bank/deposit" in await system.service_call(typo)

    run(scenario, [bank, clerk])


def test_private_handlers_are_for_other_handlers_only(run: Run) -> None:
    vault = Service("Vault", ingress_private=True)
    clerk = Service("Clerk")

    @vault.handler()
    async def secret(ctx: Context) -> str:
        return "42"

    @clerk.handler()
    async def ask(ctx: Context) -> str:
        return await ctx.service_call(secret)

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(ask) == "42"
        assert not system.engine.services()["Vault"].handlers["secret"].public

    run(scenario, [vault, clerk])


def test_fan_out_sums_every_callee_once(run: Run) -> None:
    clerk = Service("Clerk")

    @clerk.handler()
    async def spread(ctx: Context) -> int:
        calls = [ctx.object_call(slow_deposit, key=f"k{n}", arg=n) for n in range(5)]
        await perdure.gather(*calls)
        return sum([await each for each in calls])

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(spread) == 10
        assert [await total_of(system, f"k{n}") for n in range(5)] == [0, 1, 2, 3, 4]

    run(scenario, [bank, clerk])
