"""Options of services and handlers: timeouts, retention, threads, context managers, codecs."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

import perdure
from perdure import Context, JournalValueCodec, ObjectContext, Service, VirtualObject
from perdure.blocking import BlockingContext
from perdure.context_managers import contextvar
from perdure.testing import TestSystem
from tests.features.modes import Effects, Run

# ---- timeouts -----------------------------------------------------------------------------------


def test_an_inactive_attempt_is_suspended_and_comes_back(run: Run) -> None:
    nap = Service("Nap", inactivity_timeout=timedelta(seconds=30))
    attempts: list[int] = []

    @nap.handler()
    async def sleep(ctx: Context, seconds: int) -> int:
        attempts.append(seconds)
        await ctx.sleep(timedelta(seconds=seconds))
        return seconds

    async def scenario(system: TestSystem) -> None:
        attempts.clear()
        sent = await system.service_send(sleep, arg=3600)
        await asyncio.sleep(60)
        found = await system.invocation(sent.invocation_id)
        assert found is not None
        assert found.status == "suspended"
        assert system.engine.open_attempt_count == 0
        assert await system.attach(sent) == 3600
        assert len(attempts) >= 2

    run(scenario, [nap])


def test_an_attempt_that_ignores_its_abort_timeout_is_cut_and_tried_again(run: Run) -> None:
    hang = Service(
        "Hang", inactivity_timeout=timedelta(seconds=1), abort_timeout=timedelta(seconds=5)
    )
    attempts: list[int] = []

    @hang.handler()
    async def once(ctx: Context) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            await asyncio.sleep(86_400)
        return len(attempts)

    async def scenario(system: TestSystem) -> None:
        attempts.clear()
        begin_s = asyncio.get_running_loop().time()
        assert await system.service_call(once) >= 2
        assert asyncio.get_running_loop().time() - begin_s < 60

    run(scenario, [hang])


# ---- retention ----------------------------------------------------------------------------------


def test_an_idempotency_key_is_free_again_after_its_retention(run: Run) -> None:
    counter = VirtualObject("Counter", idempotency_retention=timedelta(hours=1))

    @counter.handler()
    async def add(ctx: ObjectContext) -> int:
        n = (await ctx.get("n") or 0) + 1
        ctx.set("n", n)
        return n

    async def scenario(system: TestSystem) -> None:
        async def once() -> int:
            return await system.object_call(add, key="k", idempotency_key="i")

        assert [await once(), await once()] == [1, 1]
        await asyncio.sleep(3 * 86_400)
        assert [await once(), await once()] == [2, 2]

    run(scenario, [counter])


def test_nothing_is_kept_without_retention(run: Run) -> None:
    brief = Service("Brief", journal_retention=timedelta(0))

    @brief.handler()
    async def greet(ctx: Context, name: str) -> str:
        await ctx.sleep(timedelta(seconds=1))
        return f"bye {name}"

    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(greet, arg="Ada")
        await asyncio.sleep(10)
        assert await system.invocation(sent.invocation_id) is None
        with pytest.raises(perdure.HttpError, match="404"):
            await system.attach(sent)

    run(scenario, [brief])


def test_a_workflow_is_forgotten_with_its_state_after_its_retention(run: Run) -> None:
    flow = perdure.Workflow("Flow")

    @flow.main(workflow_retention=timedelta(hours=1))
    async def once(ctx: perdure.WorkflowContext, n: int) -> int:
        ctx.set("n", n)
        await ctx.promise("p").resolve(n)
        return n

    async def scenario(system: TestSystem) -> None:
        await system.workflow_send(once, key="k", arg=1)
        assert await system.workflow_attach(once, key="k") == 1
        await asyncio.sleep(3 * 86_400)
        assert await system.state(flow, "k") == {}
        await system.workflow_send(once, key="k", arg=2)
        assert await system.workflow_attach(once, key="k") == 2

    run(scenario, [flow])


def test_a_journal_is_forgotten_before_the_result(run: Run) -> None:
    kept = Service(
        "Kept",
        journal_retention=timedelta(hours=1),
        idempotency_retention=timedelta(days=10),
    )

    @kept.handler()
    async def work(ctx: Context) -> int:
        return await ctx.run_typed("n", lambda: 7)

    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(work, idempotency_key="i")
        assert await system.attach(sent, type_hint=int) == 7
        await asyncio.sleep(3 * 86_400)
        assert await system.journal(sent.invocation_id) == []
        assert await system.attach(sent, type_hint=int) == 7

    run(scenario, [kept])


# ---- plain functions ----------------------------------------------------------------------------


def test_plain_functions_run_in_threads_with_every_feature(run: Run, effects: Effects) -> None:
    shop = VirtualObject("Shop")

    @shop.handler()
    def price(ctx: BlockingContext, item: str) -> int:
        return len(item)

    @shop.handler()
    def order(ctx: BlockingContext, items: list[str]) -> list[object]:
        total = ctx.get("total", type_hint=int) or 0
        futures = [ctx.start.object_call(price, key="other", arg=item) for item in items]
        total += sum(ctx.gather(*futures))
        receipt = ctx.run_typed("charge", lambda: effects("charge"))
        ctx.sleep(timedelta(hours=1))
        ctx.set("total", total)
        sent = ctx.object_send(price, key="later", arg="x")
        in_loop_thread = threading.current_thread() is threading.main_thread()
        return [receipt, total, sent.invocation_id()[:4], ctx.key(), in_loop_thread]

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        receipt, *rest = await system.object_call(order, key="k", arg=["a", "bcd"])
        assert rest == [4, "inv_", "k", False]
        assert isinstance(receipt, str)
        effects.check_journaled(system, receipt)

    run(scenario, [shop])


# ---- around every attempt -----------------------------------------------------------------------


def test_context_managers_are_entered_around_every_attempt(run: Run) -> None:
    trail: list[str] = []

    @contextvar
    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        trail.append("open")
        try:
            yield "db"
        finally:
            trail.append("close")

    shop = Service("Shop", invocation_context_managers=[connection])

    @shop.handler()
    async def work(ctx: Context) -> str:
        await ctx.sleep(timedelta(hours=1))
        return connection.value

    async def scenario(system: TestSystem) -> None:
        trail.clear()
        assert await system.service_call(work) == "db"
        await asyncio.sleep(1)
        assert trail.count("open") == trail.count("close") >= 1

    run(scenario, [shop])


class Flipped(JournalValueCodec):
    """Not a secret, but nothing is stored as it was."""

    def encode(self, buf: bytes) -> bytes:
        return b"~" + bytes(each ^ 0xFF for each in buf)

    async def decode(self, buf: bytes) -> bytes:
        await asyncio.sleep(0)
        assert buf[:1] == b"~"
        return bytes(each ^ 0xFF for each in buf[1:])


def test_a_codec_sees_every_value_on_its_way_to_the_journal(run: Run) -> None:
    vault = VirtualObject("Vault")

    @vault.handler()
    async def inner(ctx: ObjectContext, text: str) -> str:
        return text.upper()

    @vault.handler()
    async def keep(ctx: ObjectContext, text: str) -> list[object]:
        ctx.set("secret", text)
        run = await ctx.run_typed("run", lambda: "ran secret")
        answer = await ctx.object_call(inner, key="i", arg="secret call")
        id, future = ctx.awakeable(type_hint=str)
        ctx.resolve_awakeable(id, "secret wake")
        return [await ctx.get("secret"), run, answer, await future]

    async def scenario(system: TestSystem) -> None:
        sent = await system.object_send(keep, key="k", arg="secret state")
        expected = ["secret state", "ran secret", "SECRET CALL", "secret wake"]
        assert await system.attach(sent) == expected
        stored = await system.state(vault, "k")
        assert stored["secret"] == Flipped().encode(b'"secret state"')
        journal = await system.journal(sent.invocation_id)
        assert journal
        assert b"secret" not in repr(journal).encode().replace(b"'secret'", b"")

    run(scenario, perdure.app([vault], journal_value_codec=Flipped()))


# ---- concurrency --------------------------------------------------------------------------------


def test_exclusive_handlers_of_a_key_never_overlap_and_shared_ones_do(run: Run) -> None:
    probe = VirtualObject("Probe")
    inside: set[str] = set()
    peaks: dict[str, int] = {}

    async def occupy(kind: str, id: str) -> None:
        inside.add(f"{kind}/{id}")
        now = sum(each.startswith(kind) for each in inside)
        peaks[kind] = max(peaks.get(kind, 0), now)
        try:
            await asyncio.sleep(1)
        finally:
            inside.discard(f"{kind}/{id}")

    @probe.handler()
    async def exclusive(ctx: ObjectContext) -> None:
        await occupy("exclusive", ctx.request().id)
        await ctx.sleep(timedelta(seconds=1))
        await occupy("exclusive", ctx.request().id)

    @probe.handler(kind="shared")
    async def shared(ctx: perdure.ObjectSharedContext) -> None:
        await occupy("shared", ctx.request().id)

    async def scenario(system: TestSystem) -> None:
        inside.clear()
        peaks.clear()
        both = [system.object_call(exclusive, key="k") for _ in range(3)]
        both += [system.object_call(shared, key="k") for _ in range(4)]
        await asyncio.gather(*both)
        assert peaks["exclusive"] == 1
        assert peaks["shared"] > 1

    run(scenario, [probe])
