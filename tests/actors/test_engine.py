"""The engine when something below or inside it fails: what it lets go, whom it tells, what it keeps.

Faults come from stores and deployments that stand around the real ones.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from msgspec.structs import replace

from perdure import Context, ObjectContext, Service, VirtualObject
from perdure.actors.clock import clock_of, run_virtual
from perdure.actors.engine import Engine, EngineOptions
from perdure.actors.partition import PartitionActor
from perdure.definition import Definition
from perdure.describe import describe
from perdure.hosting import Hosted
from perdure.journal.attempt import Attempt, Deployment, Sink, Start
from perdure.journal.entries import Value
from perdure.journal.errors import Overloaded, StoreFailed
from perdure.journal.ids import fresh_id
from perdure.journal.requests import Accepted, Answer, InvocationInfo, Invoke, Op, OpResult
from perdure.journal.schema import Defaults
from perdure.journal.store import MemoryStore, Store
from tests.journal.stores import Fault, FaultyStore, open_small

T = TypeVar("T")

JSON = (("content-type", "application/json"),)

plain = Service("Plain")
counter = VirtualObject("Counter")


@plain.handler()
async def ok(ctx: Context) -> str:
    return "ok"


@plain.handler()
async def nap(ctx: Context) -> str:
    await ctx.sleep(timedelta(hours=1))
    return "woke"


@counter.handler()
async def add(ctx: ObjectContext) -> int:
    n = (await ctx.get("n", type_hint=int) or 0) + 1
    ctx.set("n", n)
    return n


@counter.handler()
async def rest(ctx: ObjectContext) -> str:
    await ctx.sleep(timedelta(hours=1))
    return "woke"


SERVICES: list[Definition] = [plain, counter]


@pytest.fixture
def hosted() -> Iterator[Hosted]:
    hosted = Hosted(SERVICES)
    yield hosted
    hosted.close()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "perdure")  # the faults are on purpose


def new_engine(
    open_store: Callable[[], Awaitable[Store]],
    deployment: Deployment,
    options: EngineOptions | None = None,
) -> Engine:
    return Engine(
        open_store,
        {each.name: describe(each, Defaults()) for each in SERVICES},
        deployment,
        now_ms=clock_of(asyncio.get_running_loop()).now_ms,
        random_bytes=os.urandom,
        options=options,
    )


def to(engine: Engine, handler: str, key: str | None = None, name: str | None = None) -> Invoke:
    """``name``: the idempotency key."""
    service = "Plain" if key is None else "Counter"
    return Invoke(engine.services()[service].handlers[handler], key, b"", JSON, name)


def content(answer: Answer) -> bytes:
    assert isinstance(answer.result, Value)
    return answer.result.content


async def info(engine: Engine, sent: Accepted) -> InvocationInfo:
    found = await engine.invocation(sent.invocation_id)
    assert found is not None
    return found


async def until(check: Callable[[], bool]) -> None:
    """Gives up after many tries: a bug shall not hang."""
    for _ in range(3_000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never held")


class Unreadable(FaultyStore):
    """Reads fail while ``blind``; writes and closing go on."""

    blind = False

    def _check(self) -> None:
        if self.blind:
            raise StoreFailed("the disk can't be read")
        super()._check()


class Disk:
    """One directory, opened as often as it is asked for; ``faults`` are for the next opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[Fault] = []
        self.blind = False
        self.stores: list[Unreadable] = []

    async def open(self) -> Store:
        store = Unreadable(await asyncio.to_thread(open_small, self.path), self.faults)
        self.faults, store.blind = [], self.blind
        self.stores.append(store)
        return store

    @property
    def store(self) -> Unreadable:
        """The one that was opened last."""
        return self.stores[-1]

    async def is_free(self) -> bool:
        """Whether another owner could have it now. Raises StoreBusy where not."""
        store = await asyncio.to_thread(open_small, self.path)
        await store.close()
        return True


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "data")


# ---- the directory ------------------------------------------------------------------------------


def test_a_store_that_can_not_be_read_at_the_start_is_let_go(disk: Disk, hosted: Hosted) -> None:
    async def main() -> None:
        disk.blind = True
        engine = new_engine(disk.open, hosted)
        with pytest.raises(StoreFailed, match="can't be read"):
            await engine.start()
        assert engine.health()
        assert await disk.is_free()
        disk.blind = False
        await engine.start()
        assert content(await engine.call(to(engine, "ok"))) == b'"ok"'
        await engine.stop()
        assert await disk.is_free()

    asyncio.run(main())


def test_a_store_that_can_not_be_read_when_it_is_opened_again_is_let_go_each_time(
    disk: Disk, hosted: Hosted
) -> None:
    async def main() -> None:
        engine = new_engine(disk.open, hosted)
        await engine.start()
        disk.blind = True
        disk.store.faults.append(Fault.FAILED)
        with pytest.raises(StoreFailed):
            await engine.call(to(engine, "add", "k"))
        await until(lambda: len(disk.stores) >= 3)
        assert "can't be read" in engine.health()
        disk.blind = False
        await until(lambda: not engine.health())
        assert content(await engine.call(to(engine, "add", "k"))) == b"1"
        await engine.stop()
        assert await disk.is_free()

    asyncio.run(main())


def test_stop_returns_and_lets_the_store_go_when_the_last_commit_fails(
    disk: Disk, hosted: Hosted
) -> None:
    async def main() -> None:
        engine = new_engine(disk.open, hosted)
        await engine.start()
        await engine.call(to(engine, "ok"))
        sending = asyncio.ensure_future(engine.send(to(engine, "ok")))
        await asyncio.sleep(0)  # it is decided, and not yet written
        disk.store.faults.append(Fault.FAILED)
        with pytest.raises(StoreFailed):
            await asyncio.wait_for(engine.stop(), 30)
        with pytest.raises(StoreFailed):
            await sending
        assert await disk.is_free()
        assert hosted.running_count == 0

    asyncio.run(main())


def test_stop_while_the_store_is_being_opened_again_lets_it_go(disk: Disk, hosted: Hosted) -> None:
    async def main() -> None:
        engine = new_engine(disk.open, hosted)
        await engine.start()
        disk.store.faults.append(Fault.FAILED)
        with pytest.raises(StoreFailed):
            await engine.call(to(engine, "ok"))
        await asyncio.wait_for(engine.stop(), 30)
        assert await disk.is_free()

    asyncio.run(main())


# ---- the partition ------------------------------------------------------------------------------


def partition_actors(engine: Engine) -> int:
    names = [each.class_name for each in engine.system.iter_actors()]
    return sum(name.endswith(PartitionActor.__name__) for name in names)


def test_a_store_opened_again_has_one_partition_actor(disk: Disk, hosted: Hosted) -> None:
    async def main() -> None:
        engine = new_engine(disk.open, hosted)
        await engine.start()
        for round in range(3):
            assert content(await engine.call(to(engine, "add", "k"))) == b"%d" % (round + 1)
            assert partition_actors(engine) == 1
            disk.store.faults.append(Fault.FAILED)
            with pytest.raises(StoreFailed):
                await engine.call(to(engine, "ok"))
            await until(lambda: not engine.health())
        assert len(disk.stores) == 4
        assert partition_actors(engine) == 1
        await engine.stop()

    asyncio.run(main())


def test_a_late_failure_of_an_old_partition_does_not_touch_the_new_one(
    disk: Disk, hosted: Hosted
) -> None:
    async def main() -> None:
        engine = new_engine(disk.open, hosted)
        await engine.start()
        old = engine._running()
        disk.store.faults.append(Fault.FAILED)
        with pytest.raises(StoreFailed):
            await engine.call(to(engine, "ok"))
        await until(lambda: not engine.health())
        waiting = asyncio.ensure_future(engine.call(to(engine, "ok")))
        await asyncio.sleep(0)
        engine._failed(old, StoreFailed("late news"))
        assert engine.health() == ""
        assert content(await waiting) == b'"ok"'
        assert len(disk.stores) == 2
        await engine.stop()

    asyncio.run(main())


def test_all_that_wait_hear_at_once_of_a_failed_store_and_the_acknowledged_is_kept(
    disk: Disk, hosted: Hosted
) -> None:
    async def main() -> None:
        engine = new_engine(disk.open, hosted)
        await engine.start()
        sent = [await engine.send(to(engine, "nap", name=f"{n}")) for n in range(20)]
        counts = [content(await engine.call(to(engine, "add", f"{n}"))) for n in range(20)]
        assert counts == [b"1"] * 20
        attached = [asyncio.ensure_future(engine.attach(each.invocation_id)) for each in sent]
        calls = [asyncio.ensure_future(engine.call(to(engine, "nap"))) for _ in range(180)]
        await until(lambda: engine.open_attempt_count == 200)
        await engine.drain()
        disk.store.faults.append(Fault.FAILED)
        with pytest.raises(StoreFailed):
            await engine.call(to(engine, "ok"))
        assert engine.health()  # nobody waited for the next opening
        everybody = asyncio.gather(*attached, *calls, return_exceptions=True)
        ends = await asyncio.wait_for(everybody, 30)
        assert [type(each) for each in ends] == [StoreFailed] * 200

        await until(lambda: not engine.health())
        assert [(await info(engine, each)).status for each in sent] == ["running"] * 20
        counts = [content(await engine.call(to(engine, "add", f"{n}"))) for n in range(20)]
        assert counts == [b"2"] * 20
        await engine.stop()
        assert hosted.running_count == 0

    asyncio.run(main())


# ---- waiting callers ----------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(12))
def test_a_caller_that_gives_up_leaves_the_others_of_its_idempotency_key_waiting(
    disk: Disk, hosted: Hosted, turns: int
) -> None:
    async def main() -> None:
        engine = new_engine(disk.open, hosted)
        await engine.start()
        first = asyncio.ensure_future(engine.call(to(engine, "ok", name="i")))
        for _ in range(turns):  # whichever place the first one has come to
            await asyncio.sleep(0)
        second = asyncio.ensure_future(engine.call(to(engine, "ok", name="i")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.cancel()
        ends = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(ends[0], Answer)
        assert isinstance(ends[1], Answer | asyncio.CancelledError)
        await engine.stop()

    asyncio.run(main())


def virtual(main: Callable[[Engine], Awaitable[T]], deployment: Deployment) -> T:
    """``main`` on a fresh engine in memory, on virtual time."""

    async def with_engine() -> T:
        memory = MemoryStore(Random(0))

        async def open_store() -> Store:
            return memory

        engine = new_engine(open_store, deployment)
        await engine.start()
        try:
            return await main(engine)
        finally:
            await engine.stop()

    return run_virtual(with_engine())


def test_a_caller_that_times_out_hears_so_while_others_wait_for_the_same_key(
    hosted: Hosted,
) -> None:
    async def main(engine: Engine) -> None:
        patient = [asyncio.ensure_future(engine.call(to(engine, "nap", name="i"))) for _ in "ab"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.call(to(engine, "nap", name="i")), 60)
        answers = [content(each) for each in await asyncio.gather(*patient)]
        assert answers == [b'"woke"'] * 2
        assert content(await engine.call(to(engine, "nap", name="i"))) == b'"woke"'

    virtual(main, hosted)


# ---- poison -------------------------------------------------------------------------------------


class Poisoned:
    """A deployment that raises when one invocation is started, or every ``ok``."""

    def __init__(self, below: Hosted) -> None:
        self._below = below
        self.id = ""
        self.raised_count = 0

    def start(self, start: Start, sink: Sink) -> Attempt:
        if start.invocation_id == self.id or (not self.id and start.handler.name == "ok"):
            self.id = start.invocation_id
            self.raised_count += 1
            raise RuntimeError("poison")
        return self._below.start(start, sink)


def test_one_poison_invocation_of_a_plain_service_is_quarantined_alone(hosted: Hosted) -> None:
    deployment = Poisoned(hosted)

    async def main(engine: Engine) -> None:
        beside = [await engine.send(to(engine, "nap")) for _ in range(3)]
        poison = await engine.send(to(engine, "ok"))
        await asyncio.sleep(30)
        found = await info(engine, poison)
        assert (found.status, deployment.id) == ("paused", poison.invocation_id)
        assert "poison" in found.paused_reason
        assert 2 <= deployment.raised_count <= 10
        assert content(await engine.call(to(engine, "ok"))) == b'"ok"'
        statuses = [(await info(engine, each)).status for each in beside]
        assert set(statuses) <= {"running", "suspended"}
        answers = [await engine.attach(each.invocation_id) for each in beside]
        assert [content(each) for each in answers if isinstance(each, Answer)] == [b'"woke"'] * 3
        assert engine.health() == ""

    virtual(main, deployment)


def test_attempts_of_a_failed_object_actor_are_aborted(hosted: Hosted) -> None:
    deployment = Poisoned(hosted)

    async def main(engine: Engine) -> None:
        for _ in range(3):
            await engine.send(to(engine, "nap"))
        await asyncio.sleep(0.1)
        assert hosted.running_count == 3
        await engine.send(to(engine, "ok"))
        await asyncio.sleep(10)
        assert deployment.raised_count >= 2
        assert engine.open_attempt_count == 3
        assert hosted.running_count == 3  # their successors, and nobody else

    virtual(main, deployment)
    assert hosted.running_count == 0


# ---- operations ---------------------------------------------------------------------------------


def test_a_purged_journal_is_gone_after_a_crash(hosted: Hosted) -> None:
    async def main() -> None:
        memory = MemoryStore(Random(0))

        async def open_store() -> Store:
            return memory

        engine = new_engine(open_store, hosted)
        await engine.start()
        sent = await engine.send(to(engine, "ok"))
        await engine.attach(sent.invocation_id)
        entries = await engine.journal(sent.invocation_id)
        assert entries
        timed = await engine.journaled(sent.invocation_id) or []
        assert [each.entry for each in timed] == entries
        moments = [each.at_ms for each in timed]
        assert None not in moments
        assert moments == sorted(moments, key=lambda at_ms: at_ms or 0)
        assert await engine.operate(sent.invocation_id, Op.PURGE_JOURNAL) is OpResult.DONE
        await engine.crash()
        memory = memory.crash()
        engine = new_engine(open_store, hosted)
        await engine.start()
        assert await engine.journal(sent.invocation_id) == []
        assert await engine.journaled(sent.invocation_id) == []
        assert (await info(engine, sent)).status == "completed"
        await engine.stop()

    run_virtual(main())


def test_a_full_queue_refuses_what_is_new_and_not_what_waits_in_it_and_is_sent_again(
    hosted: Hosted,
) -> None:
    async def scene() -> None:
        store = MemoryStore(Random(1))

        async def open_store() -> Store:
            return store

        engine = new_engine(open_store, hosted, EngineOptions(mailbox_limit=1))
        await engine.start()
        holds = await engine.send(to(engine, "rest", "a"))
        waiting = replace(to(engine, "add", "a"), id=fresh_id("Counter", "a", 1, bytes(12)))
        assert (await engine.send(waiting)).is_new
        with pytest.raises(Overloaded):
            await engine.send(to(engine, "add", "a"))
        again = asyncio.ensure_future(engine.call(waiting))
        await asyncio.sleep(0.1)
        await engine.operate(holds.invocation_id, Op.KILL)
        assert content(await again) == b"1"
        await engine.stop()

    run_virtual(scene())
