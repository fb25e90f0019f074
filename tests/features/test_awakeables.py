"""Awakeables and signals: completed from outside and inside, early, late, twice, and with failures."""

import asyncio
from datetime import timedelta

import pytest

import perdure
from perdure import Context, ObjectContext, Service, TerminalError, VirtualObject
from perdure.testing import TestSystem
from tests.features.modes import Run, eventually

door = VirtualObject("Door")
ring = Service("Ring")


@door.handler()
async def wait(ctx: ObjectContext) -> object:
    id, opened = ctx.awakeable()
    ctx.set("awakeable", id)
    try:
        return await opened
    except TerminalError as e:
        return [e.status_code, e.message]


@door.handler()
async def wait_late(ctx: ObjectContext) -> list[object]:
    first_id, first = ctx.awakeable(type_hint=str)
    second_id, second = ctx.awakeable(type_hint=str)
    ctx.set("awakeable", first_id)
    ctx.set("second", second_id)
    await ctx.sleep(timedelta(hours=1))
    return [await second, await first, await second]


@door.handler(kind="shared")
async def awakeable_id(ctx: perdure.ObjectSharedContext, name: str) -> str | None:
    return await ctx.get(name, type_hint=str)


@ring.handler()
async def resolve(ctx: Context, id: str) -> None:
    ctx.resolve_awakeable(id, {"from": "a handler"})


@ring.handler()
async def reject(ctx: Context, id: str) -> None:
    ctx.reject_awakeable(id, "nobody home", 410)


async def id_of(system: TestSystem, key: str = "d", name: str = "awakeable") -> str:
    id = await eventually(lambda: system.object_call(awakeable_id, key=key, arg=name))
    assert id is not None
    return id


@pytest.mark.parametrize("value", [{"a": [1, None]}, 42, True, "text", None], ids=repr)
def test_a_value_from_outside_arrives(run: Run, value: object) -> None:
    async def scenario(system: TestSystem) -> None:
        waiting = asyncio.ensure_future(system.object_call(wait, key="d"))
        await system.resolve_awakeable(await id_of(system), value)
        assert await waiting == value

    run(scenario, [door])


def test_a_handler_completes_it(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        waiting = asyncio.ensure_future(system.object_call(wait, key="d"))
        await system.service_call(resolve, arg=await id_of(system))
        assert await waiting == {"from": "a handler"}

    run(scenario, [door, ring])


def test_a_rejection_is_a_terminal_error(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        waiting = asyncio.ensure_future(system.object_call(wait, key="d"))
        await system.service_call(reject, arg=await id_of(system))
        assert await waiting == [410, "nobody home"]

        again = asyncio.ensure_future(system.object_call(wait, key="e"))
        await system.reject_awakeable(await id_of(system, "e"), "from outside")
        answer = await again
        assert isinstance(answer, list)
        assert answer[1] == "from outside"

    run(scenario, [door, ring])


def test_completed_before_it_is_awaited_and_only_the_first_time_counts(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        waiting = asyncio.ensure_future(system.object_call(wait_late, key="d"))
        await system.resolve_awakeable(await id_of(system, name="second"), "two")
        await system.resolve_awakeable(await id_of(system), "one")
        await system.resolve_awakeable(await id_of(system), "too late")
        await system.reject_awakeable(await id_of(system, name="second"), "too late")
        assert await waiting == ["two", "one", "two"]

    run(scenario, [door])


def test_completing_for_nobody_is_dropped_and_a_bad_id_is_refused(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        waiting = asyncio.ensure_future(system.object_call(wait, key="d"))
        id = await id_of(system)
        await system.resolve_awakeable(id, 1)
        assert await waiting == 1
        await system.resolve_awakeable(id, 2)
        with pytest.raises(perdure.HttpError, match="400"):
            await system.resolve_awakeable("sign_1nonsense", 1)

    run(scenario, [door])


# ---- signals ------------------------------------------------------------------------------------

post = Service("Post")


@post.handler()
async def receive(ctx: Context) -> list[object]:
    """Two signals, one of them awaited twice, and one that may fail."""
    await ctx.sleep(timedelta(hours=1))
    b = ctx.signal("b", type_hint=str)
    seen: list[object] = [await b, await ctx.signal("a", type_hint=str), await b]
    try:
        seen.append(await ctx.signal("c"))
    except TerminalError as e:
        seen.append([e.status_code, e.message])
    return seen


@post.handler()
async def deliver(ctx: Context, id: str) -> None:
    ctx.resolve_signal(id, "a", "va")
    ctx.resolve_signal(id, "b", "vb")
    ctx.reject_signal(id, "c", "lost", 404)


def test_signals_are_matched_by_name_early_ones_kept_and_failures_raised(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(receive)
        await system.service_call(deliver, arg=sent.invocation_id)
        assert await system.attach(sent) == ["vb", "va", "vb", [404, "lost"]]

    run(scenario, [post])


def test_signals_of_one_name_are_taken_in_order(run: Run) -> None:
    inbox = Service("Inbox")

    @inbox.handler()
    async def read(ctx: Context) -> list[object]:
        return [await ctx.signal("mail") for _ in range(3)]

    @inbox.handler()
    async def write(ctx: Context, id: str) -> None:
        for n in range(3):
            ctx.resolve_signal(id, "mail", n)

    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(read)
        await system.service_call(write, arg=sent.invocation_id)
        assert await system.attach(sent) == [0, 1, 2]

    run(scenario, [inbox])


def test_a_signal_for_a_scheduled_invocation_is_kept(run: Run) -> None:
    inbox = Service("Inbox")

    @inbox.handler()
    async def read(ctx: Context) -> object:
        return await ctx.signal("mail")

    @inbox.handler()
    async def spill(ctx: Context, id: str) -> None:
        ctx.reject_signal(id, "mail", "tea", 418)

    async def scenario(system: TestSystem) -> None:
        sent = await system.service_send(read, send_delay=timedelta(hours=1))
        await system.service_call(spill, arg=sent.invocation_id)
        with pytest.raises(perdure.HttpError, match="tea"):
            await system.attach(sent)

    run(scenario, [inbox])
