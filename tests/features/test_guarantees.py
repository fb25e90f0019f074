"""What must hold whatever fails: order per key, isolation of poison, a store that fails and returns."""

import asyncio
import logging
import os
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

import perdure
from perdure import Context, ObjectContext, Service, VirtualObject, testing
from perdure.actors.clock import clock_of, run_virtual
from perdure.actors.engine import Engine
from perdure.definition import Definition
from perdure.describe import describe
from perdure.hosting import Hosted
from perdure.journal.attempt import Attempt, Sink, Start
from perdure.journal.entries import Value
from perdure.journal.errors import StoreFailed
from perdure.journal.requests import Answer, InvocationInfo, Invoke, NotFound, Op, OpResult
from perdure.journal.schema import Defaults
from perdure.journal.store import MemoryStore, Store
from perdure.testing import TestSystem
from tests.features.modes import Effects, Run, eventually
from tests.journal.stores import Fault, FaultyStore, open_small

log_object = VirtualObject("Log")


@log_object.handler()
async def add(ctx: ObjectContext, line: str) -> list[str]:
    lines = [*(await ctx.get("lines") or []), line]
    ctx.set("lines", lines)
    await ctx.run_typed("think", lambda: None)
    return lines


@log_object.handler(kind="shared")
async def lines(ctx: perdure.ObjectSharedContext) -> list[str]:
    return await ctx.get("lines") or []


sender = Service("Sender")


@sender.handler()
async def many(ctx: Context, name: str) -> None:
    for n in range(4):
        ctx.object_send(add, key="l", arg=f"{name}{n}")


def test_first_in_first_out_per_key_and_sender(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        for n in range(4):
            await system.object_send(add, key="l", arg=f"out{n}")
        await asyncio.gather(system.service_call(many, arg="a"), system.service_call(many, arg="b"))
        found = await system.object_call(add, key="l", arg="last")
        assert len(found) == 13
        assert found[-1] == "last"
        for name in ("out", "a", "b"):
            of_one = [each for each in found if each.startswith(name) and each != "last"]
            assert of_one == [f"{name}{n}" for n in range(4)]

    run(scenario, [log_object, sender])


def test_crashes_on_disk_lose_nothing_that_was_acknowledged() -> None:
    effects = Effects()
    shop = VirtualObject("Shop")

    @shop.handler()
    async def buy(ctx: ObjectContext, item: str) -> str:
        receipt = await ctx.run_typed("charge", effects, perdure.RunOptions(type_hint=str), item)
        ctx.set(item, receipt)
        ctx.object_send(add, key="l", arg=receipt)
        return receipt

    async def scenario(system: TestSystem) -> None:
        effects.clear()
        receipts = [await system.object_call(buy, key="k", arg=each) for each in ("a", "b")]
        effects.check_journaled(system, *receipts)
        assert (await system.object_call(add, key="l", arg="end"))[:-1] == receipts
        stored = await system.state(shop, "k")
        assert [stored[each].decode().strip('"') for each in ("a", "b")] == receipts

    testing.crash_at_every_commit(scenario, [shop, log_object], storage="disk")


def test_thousands_of_sleepers_suspend_and_all_come_back() -> None:
    nap = Service("Nap")

    @nap.handler()
    async def sleep(ctx: Context, days: int) -> int:
        await ctx.sleep(timedelta(days=days))
        return days

    async def scenario(system: TestSystem) -> None:
        sent = [await system.service_send(sleep, arg=1 + n % 30) for n in range(2_000)]
        await asyncio.sleep(3600)
        assert system.engine.open_attempt_count == 0
        answers = await asyncio.gather(*(system.attach(each, type_hint=int) for each in sent))
        assert answers == [1 + n % 30 for n in range(2_000)]

    testing.run(scenario, [nap])


# ---- poison -------------------------------------------------------------------------------------


class Cursed:
    """A deployment whose object actors fail for one key while ``active``."""

    def __init__(self, below: Hosted, key: str) -> None:
        self._below = below
        self._key = key
        self.active = True
        self.raised_count = 0

    def start(self, start: Start, sink: Sink) -> Attempt:
        if self.active and start.key == self._key:
            self.raised_count += 1
            raise RuntimeError("poison")
        return self._below.start(start, sink)


def engine_of(services: list[Definition], open_store: Any, deployment: Any) -> Engine:
    described = {each.name: describe(each, Defaults()) for each in services}
    now_ms = clock_of(asyncio.get_running_loop()).now_ms
    return Engine(open_store, described, deployment, now_ms=now_ms, random_bytes=os.urandom)


def invoke(engine: Engine, key: str, line: str) -> Invoke:
    return Invoke(engine.services()["Log"].handlers["add"], key, f'"{line}"'.encode())


def content(answer: Answer | NotFound) -> bytes:
    assert isinstance(answer, Answer)
    assert isinstance(answer.result, Value)
    return answer.result.content


async def info(engine: Engine, id: str) -> InvocationInfo:
    found = await engine.invocation(id)
    assert found is not None
    return found


def test_an_object_that_fails_too_often_is_paused_with_the_reason_and_its_neighbours_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        memory = MemoryStore(Random(0))

        async def open_store() -> Store:
            return memory

        hosted = Hosted([log_object])
        cursed = Cursed(hosted, "poison")
        engine = engine_of([log_object], open_store, cursed)
        await engine.start()
        sent = await engine.send(invoke(engine, "poison", "a"))
        behind = await engine.send(invoke(engine, "poison", "b"))
        assert b"fine" in content(await engine.call(invoke(engine, "good", "fine")))

        async def is_paused() -> bool:
            return (await info(engine, sent.invocation_id)).status == "paused"

        await eventually(is_paused)
        found = await info(engine, sent.invocation_id)
        assert "failed too often" in found.paused_reason
        assert "poison" in found.paused_reason
        assert 2 <= cursed.raised_count <= 10
        assert (await info(engine, behind.invocation_id)).status == "pending"
        assert b"more" in content(await engine.call(invoke(engine, "good", "more")))

        cursed.active = False
        assert await engine.operate(sent.invocation_id, Op.RESUME) is OpResult.DONE
        assert content(await engine.attach(behind.invocation_id)) == b'["a","b"]'
        await engine.stop()
        hosted.close()

    with caplog.at_level(logging.CRITICAL, "perdure"):
        run_virtual(scenario())


# ---- a store that fails -------------------------------------------------------------------------


async def is_well(engine: Engine) -> bool:
    return not engine.health()


class Disks:
    """Opens the same directory again and again; the next opening meets ``faults``."""

    def __init__(self, path: Path, faults: list[Fault]) -> None:
        self.path = path
        self.faults = faults
        self.opened_count = 0

    async def open(self) -> Store:
        self.opened_count += 1
        faults, self.faults = self.faults, []
        return FaultyStore(await asyncio.to_thread(open_small, self.path), faults)


def test_a_failed_store_refuses_at_once_reopens_and_has_lost_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        disks = Disks(tmp_path / "data", [Fault.NONE] * 6 + [Fault.FAILED])
        hosted = Hosted([log_object])
        engine = engine_of([log_object], disks.open, hosted)
        await engine.start()
        acknowledged: list[str] = []
        refusals: list[StoreFailed] = []
        for n in range(20):
            try:
                await engine.call(invoke(engine, "k", f"{n}"))
                acknowledged.append(f"{n}")
            except StoreFailed as e:
                refusals.append(e)
                assert engine.health()
                await eventually(lambda: is_well(engine), every_s=0.01)
        assert [each.code for each in refusals] == [503]
        assert "the disk failed" in str(refusals[0])
        assert disks.opened_count == 2
        kept = content(await engine.call(invoke(engine, "k", "end"))).decode()
        assert all(f'"{each}"' in kept for each in acknowledged)
        await engine.stop()
        hosted.close()

    with caplog.at_level(logging.CRITICAL, "perdure"):
        asyncio.run(scenario())


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.UNAVAILABLE, Fault.LOST, Fault.WRITTEN])
def test_a_log_that_stumbles_is_not_noticed_by_callers(tmp_path: Path, fault: Fault) -> None:
    async def scenario() -> None:
        disks = Disks(tmp_path / "data", [Fault.NONE, fault, Fault.NONE, fault, fault])
        hosted = Hosted([log_object])
        engine = engine_of([log_object], disks.open, hosted)
        await engine.start()
        for n in range(3):
            answer = await engine.call(invoke(engine, "k", f"{n}"))
        assert content(answer) == b'["0","1","2"]'
        assert disks.opened_count == 1
        await engine.stop()
        hosted.close()

    asyncio.run(scenario())


def test_a_store_that_can_not_be_opened_again_keeps_refusing_until_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        disks = Disks(tmp_path / "data", [Fault.NONE, Fault.FAILED])
        hosted = Hosted([log_object])
        unplugged = False

        async def open_store() -> Store:
            if unplugged:
                raise StoreFailed("the disk is unplugged")
            return await disks.open()

        engine = engine_of([log_object], open_store, hosted)
        await engine.start()
        unplugged = True
        await engine.send(invoke(engine, "k", "first"))
        with pytest.raises(StoreFailed):
            await engine.call(invoke(engine, "k", "x"))

        async def is_unplugged() -> bool:
            return "unplugged" in engine.health()

        await eventually(is_unplugged, every_s=0.01)
        with pytest.raises(StoreFailed, match="unplugged"):
            await engine.send(invoke(engine, "k", "y"))
        unplugged = False
        await eventually(lambda: is_well(engine), every_s=0.01)
        await engine.call(invoke(engine, "k", "z"))
        await engine.stop()
        hosted.close()

    with caplog.at_level(logging.CRITICAL, "perdure"):
        asyncio.run(scenario())


def test_more_invocations_than_may_be_open_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    base = testing._options()
    options = replace(base, partition=replace(base.partition, open_attempts_limit=3))
    monkeypatch.setattr(testing, "_options", lambda: options)
    wide = perdure.Service("Wide")
    open_now: list[int] = []
    most = 0

    @wide.handler()
    async def work(ctx: Context, n: int) -> int:
        nonlocal most
        open_now.append(n)
        most = max(most, len(open_now))
        await asyncio.sleep(1)
        open_now.remove(n)
        return n

    @wide.handler()
    async def all_of(ctx: Context, count: int) -> int:
        calls = [ctx.service_call(work, arg=n) for n in range(count)]
        return sum([await call for call in calls])

    async def scenario(system: testing.TestSystem) -> None:
        assert await system.service_call(all_of, arg=20) == sum(range(20))
        assert 1 <= most <= 3
        assert system.engine.open_attempt_count == 0

    testing.run(scenario, [wide])
