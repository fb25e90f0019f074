"""What is too large or too much stops neither the partition nor its neighbours: with small limits."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

import perdure
from perdure.actors import back_pressure
from perdure.actors.attempts import OpenAttempt, OpenAttempts
from perdure.embedded import System
from perdure.journal import invocation, leveldb, turn
from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.entries import Value
from perdure.journal.errors import Overloaded
from perdure.journal.ids import parse_invocation_id
from perdure.journal.requests import Answer, Op
from perdure.journal.store import Group, Tail

PATIENCE_S = 30

limits = perdure.Service("Limits")
box = perdure.VirtualObject("Box")
awakeables: list[str] = []
begun: list[str] = []


@limits.handler()
async def wait(ctx: perdure.Context) -> int:
    id, future = ctx.awakeable(type_hint=str)
    awakeables.append(id)
    return len(await future)


@limits.handler()
async def attach(ctx: perdure.Context, invocation_id: str) -> int:
    return len(await ctx.attach_invocation(invocation_id, type_hint=str))


@limits.handler()
async def produce(ctx: perdure.Context, size: int) -> str:
    id, future = ctx.awakeable(type_hint=str)
    awakeables.append(id)
    await future
    return "x" * size


@limits.handler()
async def neighbour(ctx: perdure.Context) -> str:
    return "well"


@limits.handler(idempotency_retention=timedelta(0), journal_retention=timedelta(0))
async def echo(ctx: perdure.Context, text: str) -> str:
    begun.append(text)
    if text == "second":
        await ctx.sleep(timedelta(0))  # its end is in a later group
    return text


@box.handler()
async def fill(ctx: perdure.ObjectContext, text: str) -> None:
    ctx.set("text", text)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(leveldb, "EMBEDDED_GROUP_BYTES", 200_000)
    monkeypatch.setattr(back_pressure, "_FULL_BYTES", 10_000)
    monkeypatch.setattr(back_pressure, "_HOLD_BYTES", 50_000)
    monkeypatch.setattr(turn, "STEP_LIMIT_BYTES", 100_000)
    caplog.set_level(logging.CRITICAL, "perdure")  # the faults are on purpose
    awakeables.clear()
    begun.clear()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[System]:
    async with asyncio.timeout(PATIENCE_S), perdure.open(path, [limits, box]) as system:
        yield system


async def until_waiting(count: int) -> None:
    while len(awakeables) < count:
        await asyncio.sleep(0.001)


def test_many_large_results_of_awakeables_at_once_wait_for_their_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as system:
            calls = [asyncio.ensure_future(system.service_call(wait)) for _ in range(12)]
            await until_waiting(12)
            large = Value(b'"%s"' % (b"x" * 30_000))
            await asyncio.gather(*(system.engine.complete_awakeable(i, large) for i in awakeables))
            assert await asyncio.gather(*calls) == [30_000] * 12
            assert system.engine.restart_count == 0

    asyncio.run(main())


async def attached(system: System, id: str, count: int) -> list[asyncio.Future[int]]:
    calls: list[asyncio.Future[int]] = []
    calls += [asyncio.ensure_future(system.service_call(attach, arg=id)) for _ in range(count)]
    while len(waiters_of(system.engine.partition, id)) < count:
        await asyncio.sleep(0.001)
    return calls


def test_a_large_result_reaches_all_that_wait_for_it_in_several_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "SHARED_OUT_BYTES", 50_000)

    async def main() -> None:
        async with opened(tmp_path) as system:
            producer = asyncio.ensure_future(
                system.service_call(produce, arg=10_000, idempotency_key="one")
            )
            await until_waiting(1)
            id = (
                await system.service_send(produce, arg=10_000, idempotency_key="one")
            ).invocation_id
            calls = await attached(system, id, 20)
            await system.engine.complete_awakeable(awakeables[0], Value(b'"go"'))
            assert await asyncio.gather(*calls) == [10_000] * 20
            assert await producer == "x" * 10_000
            assert system.engine.restart_count == 0

    asyncio.run(main())


def test_a_step_too_large_pauses_its_invocation_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as system:
            sent = await system.service_send(produce, arg=10_000)
            id = sent.invocation_id
            await until_waiting(1)
            calls = await attached(system, id, 20)
            await system.engine.complete_awakeable(awakeables[0], Value(b'"go"'))
            while (found := await system.engine.invocation(id)) and found.status != "paused":
                assert await system.service_call(neighbour) == "well"
            assert found is not None
            assert "StepTooLarge" in found.paused_reason
            assert system.engine.restart_count == 0
            await system.engine.operate(id, Op.KILL)  # lets those go that wait
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert {getattr(each, "status_code", each) for each in ends} == {409}

    asyncio.run(main())


def waiters_of(partition: Any, id: str) -> tuple[Any, ...]:
    record = partition.tables.invocation(parse_invocation_id(id))
    return () if record is None else record.waiters


def test_a_full_disk_refuses_new_work_and_lets_what_began_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_pressure, "_ASK_DISK_INTERVAL_S", 0.0)

    async def main() -> None:
        async with opened(tmp_path) as system:
            engine = system.engine
            sent = await system.service_send(wait)
            await until_waiting(1)
            monkeypatch.setattr(engine.store, "has_room", lambda: False)
            with pytest.raises(Overloaded, match="disk is nearly full"):
                await engine.patch_state("Box", "k", {"text": b'"new"'}, None)
            with pytest.raises(Overloaded, match="disk is nearly full"):
                await engine.restart(sent.invocation_id)
            declared = engine.schedules.declared
            assert declared is not None
            await engine.schedules.declare(declared)  # as new code does
            await engine.complete_awakeable(awakeables[0], Value(b'"end"'))
            answer = await engine.attach(sent.invocation_id)
            assert isinstance(answer, Answer)
            assert answer.result == Value(b"3")

    asyncio.run(main())


def test_a_new_life_of_an_id_has_its_own_answer(tmp_path: Path) -> None:
    """The first one has ended, but is not on disk, when the second one is asked for."""

    async def main() -> None:
        async with opened(tmp_path) as system:
            store, held = system.engine.store, asyncio.Event()
            append, asked = store.append, asyncio.Event()

            async def slowly(group: Group, after: Tail) -> Tail:
                asked.set()
                await held.wait()
                return await append(group, after)

            store.append = slowly  # type: ignore[method-assign]
            first = asyncio.ensure_future(
                system.service_call(echo, arg="first", idempotency_key="k")
            )
            await asked.wait()
            second = asyncio.ensure_future(
                system.service_call(echo, arg="second", idempotency_key="k")
            )
            while len(begun) < 2:
                await asyncio.sleep(0)
            held.set()
            assert [await first, await second] == ["first", "second"]

    asyncio.run(main())


def test_an_attempt_is_stuck_by_the_time_since_it_was_asked_to_suspend() -> None:
    heard: list[object] = []
    actor = Mock(deliver=lambda message, _: heard.append(message))
    handler = SimpleNamespace(inactivity_timeout_ms=60_000, abort_timeout_ms=5_000)
    place: Any = SimpleNamespace(bidi=True, handler=handler)
    attempts = OpenAttempts(1, lambda: None)  # type: ignore[arg-type, return-value]
    old, new = (OpenAttempt(id, 1, actor, place, 0.0, False) for id in (b"old", b"new"))
    for opened, now_s in ((old, 0.0), (new, 20.0)):  # the second is one too many
        attempts.add(opened)
        attempts.spoke(opened, now_s)
        attempts.blocked(opened, Awaiting(Combinator.FIRST_COMPLETED, (1,)))
    assert len(heard) == 1
    assert not attempts.is_stuck(old, 24.9)
    assert attempts.is_stuck(old, 25.0)
