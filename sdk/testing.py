"""Tests of durable code: the real engine on a seeded virtual clock, without ports, sleeps or Docker.

    def test_reminder_comes_after_30_days():
        async def scenario(system):
            await system.object_send(remind, key="ada", arg="pay")
            await asyncio.sleep(31 * 86_400)      # milliseconds of real time
            await system.crash_and_restart()      # loses all that was not synced
            assert await system.object_call(reminders, key="ada") == ["pay"]

        perdure.testing.run(scenario, services=[...])

Same classes as in production; only the clock, the chance and (by default) the disk are others. Callers
that wait over a crash are asked again under the same id, so they see a delay and no error.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from msgspec.structs import replace

from perdure.definition import Definition
from perdure.embedded import Prepare, Services, System
from perdure.journal.entries import AttachTarget, Entry, Outcome
from perdure.journal.errors import PerdureError, StoreFailed, UsageError
from perdure.journal.ids import format_invocation_id, parse_invocation_id
from perdure.journal.invocation import CANCEL
from perdure.journal.requests import (
    Accepted,
    Answer,
    InvocationInfo,
    Invoke,
    NotFound,
    Op,
    OpResult,
)
from perdure.journal.schema import Defaults

if TYPE_CHECKING:
    from perdure.actors.engine import EngineOptions
    from perdure.journal.store import Group, MemoryStore, Row, Store, Tail

T = TypeVar("T")
Storage = Literal["memory", "disk"]

_MAX_CRASHES = 10_000
_DYING_S = 5.0  # real time for closures that run in threads when a crash comes
_MAX_EXPLAINED = 20
_ASK_AGAIN_S = 0.01  # virtual
_ASK_LIMIT = 10_000


class TestSystem(System):
    """A system whose crashes are part of the test. Made by ``start`` and ``run``."""

    __test__ = False  # it is not a test case itself

    def __init__(
        self,
        services: Services,
        *,
        seed: int = 0,
        folder: Path | None = None,
        defaults: Defaults | None = None,
        crash_after_commit: int | None = None,
    ) -> None:
        self._rng = Random(seed)
        self._folder = folder
        self._memory: MemoryStore | None = None
        self._crash_after = crash_after_commit
        self._up = asyncio.Event()
        self._one_crash = asyncio.Lock()
        self._crashing: asyncio.Task[None] | None = None
        self.commit_count = 0
        self.crash_count = 0
        super().__init__(
            services,
            open_store=self._open,
            defaults=defaults,
            options=_options(),
            random_bytes=self._rng.randbytes,
        )

    async def start(self, prepare: "Prepare | None" = None) -> None:
        await super().start(prepare)
        self._up.set()

    async def stop(self) -> None:
        self._up.clear()
        await super().stop()

    async def crash_and_restart(self) -> None:
        """As ``kill -9`` and a new process: only what was synced is there afterwards.

        A thread can't be killed: plain closures that run now end before the restart, if within 5 s; what
        they return is lost.
        """
        async with self._one_crash:
            await self._crash_and_restart()

    async def _crash_and_restart(self) -> None:
        self._up.clear()
        self.crash_count += 1
        engine, hosted = self.engine, self._hosted
        store = engine.store
        await engine.crash()
        if hosted is not None:
            hosted.close()
            hosted.run_pool.join(_DYING_S)
        if self._memory is not None:
            self._memory = self._memory.crash()
        else:
            await store.close()
        await self.start()

    # ---- the store

    async def _open(self) -> "Store":
        from perdure.journal.store import MemoryStore

        if self._folder is None:
            if self._memory is None:
                self._memory = MemoryStore(self._rng)
            return _Watched(self._memory, self._committed)
        from perdure.journal.leveldb import LevelDBOptions, open_store

        options = LevelDBOptions(reserve_bytes=0, write_buffer_bytes=1 << 20)
        store = open_store(self._folder, new_id=lambda: self._rng.randbytes(16), options=options)
        return _Watched(store, self._committed)

    async def _committed(self) -> None:
        self.commit_count += 1
        if self.commit_count == self._crash_after:
            loop = asyncio.get_running_loop()
            self._crashing = loop.create_task(self.crash_and_restart())
            if self._rng.random() < 0.5:
                await loop.create_future()  # nobody hears of this commit: its acts are lost

    # ---- callers outlive a crash

    async def fetch(self, target: AttachTarget, wait: bool) -> bytes | None:
        return await self._outlive(partial(super().fetch, target, wait))

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        await self._outlive(partial(super().complete_awakeable, awakeable_id, result))

    async def state(self, service: str | Definition, key: str) -> dict[str, bytes]:
        return await self._outlive(partial(super().state, service, key))

    async def journal(self, invocation_id: str) -> list[Entry] | None:
        return await self._outlive(partial(super().journal, invocation_id))

    async def operate(self, invocation_id: str, op: Op) -> OpResult:
        """Once, also where a crash hides whether it was carried out: a second cancel would count."""
        before = await self._cancel_count(invocation_id)
        try:
            return await super().operate(invocation_id, op)
        except StoreFailed:
            after = await self._cancel_count(invocation_id)
            if after != before:
                return OpResult.DONE
            return await self._outlive(partial(super().operate, invocation_id, op))

    async def _cancel_count(self, invocation_id: str) -> int | None:
        """How often an invocation was cancelled; None where there is none (any more)."""
        entries = await self.journal(invocation_id)
        return None if entries is None else entries.count(CANCEL)

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        return await self._outlive(partial(super().invocation, invocation_id))

    async def invocations(self, **filter: str) -> list[InvocationInfo]:
        return await self._outlive(partial(super().invocations, **filter))

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await self._outlive(ask)

    async def _outlive(self, ask: Callable[[], Awaitable[T]]) -> T:
        """``ask`` until it gets an answer; raises StoreFailed where the engine does not come back."""
        for _ in range(_ASK_LIMIT):
            await self._up.wait()
            try:
                return await ask()
            except StoreFailed:
                await asyncio.sleep(_ASK_AGAIN_S)
        return await ask()

    async def _call_invoke(self, invoke: Invoke) -> Answer:
        named = replace(invoke, id=parse_invocation_id(self.engine.new_id(invoke)))
        try:
            return await self.engine.call(named)
        except StoreFailed:
            return await self._outlive(partial(self._call_again, named))

    async def _call_again(self, invoke: Invoke) -> Answer:
        assert invoke.id is not None
        found = await self.engine.attach(format_invocation_id(invoke.id))
        return await self.engine.call(invoke) if isinstance(found, NotFound) else found

    async def _send_invoke(self, invoke: Invoke) -> Accepted:
        named = replace(invoke, id=parse_invocation_id(self.engine.new_id(invoke)))
        return await self._outlive(partial(self._send_named, named))

    async def _send_named(self, invoke: Invoke) -> Accepted:
        return await self.engine.send(invoke)


def _options() -> "EngineOptions":
    """Retention is looked at once a virtual day, so that a year passes quickly."""
    from perdure.actors.engine import EngineOptions
    from perdure.actors.partition import PartitionOptions

    return EngineOptions(partition=PartitionOptions(cleanup_interval_s=86_400.0))


class _Watched:
    """A store that tells of each durable commit; virtual time stands still while it writes."""

    def __init__(self, store: "Store", committed: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._committed = committed
        self.max_group_bytes = store.max_group_bytes
        self.fsync_us = store.fsync_us
        self.get = store.get
        self.settle = store.settle
        self.approximate_bytes = store.approximate_bytes
        self.has_room = store.has_room

    @property
    def tail(self) -> "Tail":
        return self._store.tail

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> "list[Row]":
        return self._store.scan(start, stop, limit)

    async def append(self, group: "Group", after: "Tail") -> "Tail":
        with _outside_work():
            tail = await self._store.append(group, after)
        await self._committed()
        return tail

    async def close(self) -> None:
        with _outside_work():
            await self._store.close()


def _explain_deadlocks(system: TestSystem) -> None:
    """A scenario that can't end is told which invocations wait, and for what."""
    from perdure.actors.clock import VirtualLoop

    def explain() -> str:
        try:
            waiting = system.engine.unfinished()
        except PerdureError as error:
            return f"The engine is not running: {error}."
        lines = [
            f"{each.service}/{each.key + '/' if each.key is not None else ''}{each.handler} "
            f"{each.id} is {each.status}"
            + (f", waits for {each.awaiting}" if each.awaiting else "")
            + (f": {each.paused_reason}" if each.paused_reason else "")
            for each in waiting[:_MAX_EXPLAINED]
        ]
        return "Invocations that are not over: " + ("; ".join(lines) or "none") + "."

    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        loop.explain = explain


def _outside_work() -> AbstractContextManager[None]:
    """Tell a virtual loop that a thread is at work."""
    from perdure.actors.clock import VirtualLoop

    loop = asyncio.get_running_loop()
    return loop.outside_work() if isinstance(loop, VirtualLoop) else nullcontext()


@asynccontextmanager
async def start(
    services: Services,
    *,
    seed: int = 0,
    storage: Storage = "memory",
    always_replay: bool = False,
    defaults: Defaults | None = None,
    crash_after_commit: int | None = None,
) -> AsyncIterator[TestSystem]:
    """A system on the running loop; on virtual time where that is a ``VirtualLoop`` (see ``run``).

    ``storage`` "disk": LevelDB in a temporary directory. ``always_replay``: every await suspends and
    comes back by replay, which finds code that is not deterministic. ``crash_after_commit``: crash
    once, when so many commit groups are durable.
    """
    if storage not in get_args(Storage):
        raise UsageError(f"storage is {storage!r}; expected one of {', '.join(get_args(Storage))}")
    if always_replay:
        defaults = replace(defaults or Defaults(), inactivity_timeout_ms=0)
    with tempfile.TemporaryDirectory(prefix="perdure-test-") as folder:
        system = TestSystem(
            services,
            seed=seed,
            folder=Path(folder) / "data" if storage == "disk" else None,
            defaults=defaults,
            crash_after_commit=crash_after_commit,
        )
        await system.start()
        _explain_deadlocks(system)
        try:
            yield system
        finally:
            if system._crashing is not None:
                await system._crashing
            await system.stop()


def run(
    scenario: Callable[[TestSystem], Awaitable[T]],
    services: Services,
    *,
    seed: int = 0,
    storage: Storage = "memory",
    always_replay: bool = False,
    defaults: Defaults | None = None,
    crash_after_commit: int | None = None,
) -> T:
    """Run ``scenario(system)`` on virtual time and return what it returns.

    The same seed gives the same order of events. A scenario that would hang raises ``Deadlock``.
    The options are those of ``start``.
    """
    from perdure.actors.clock import run_virtual

    async def main() -> T:
        async with start(
            services,
            seed=seed,
            storage=storage,
            always_replay=always_replay,
            defaults=defaults,
            crash_after_commit=crash_after_commit,
        ) as system:
            return await scenario(system)

    return run_virtual(main(), seed=seed)


def crash_at_every_commit(
    scenario: Callable[[TestSystem], Awaitable[T]],
    services: Services,
    *,
    seed: int = 0,
    storage: Storage = "memory",
    always_replay: bool = False,
    defaults: Defaults | None = None,
) -> list[T]:
    """Run the scenario once for every place between two commits, with a crash there.

    The results, the first one of a run without a crash. The scenario must hold in all of them.
    """
    results: list[T] = []
    crashed = False

    async def watched(system: TestSystem) -> T:
        nonlocal crashed
        result = await scenario(system)
        crashed = system._crashing is not None
        return result

    for n in range(_MAX_CRASHES):
        results.append(
            run(
                watched,
                services,
                seed=seed,
                storage=storage,
                always_replay=always_replay,
                defaults=defaults,
                crash_after_commit=n or None,
            )
        )
        if n and not crashed:
            return results
    raise AssertionError(f"the scenario made more than {_MAX_CRASHES} commits")


__all__ = ["TestSystem", "crash_at_every_commit", "run", "start"]
