"""Answers questions about one engine: ``journal.inspecting.Inspection`` where its partition is.

Rows are read in threads beside the loop; what is in memory is read on it. Nothing is changed, and nothing is
decided about an invocation.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from operator import itemgetter
from typing import Any, Final, TypeVar, cast

from msgspec.structs import replace

from perdure.actors.engine import Engine
from perdure.actors.loop_lag import LoopLag
from perdure.actors.partition import Partition
from perdure.actors.tree import tree
from perdure.journal import keys, recording
from perdure.journal.errors import StoreError, StoreFailed
from perdure.journal.inspecting import (
    PART_BYTES,
    Actors,
    Asks,
    Attempts,
    Count,
    Counted,
    CountPinned,
    CountWork,
    Done,
    Fetch,
    Flush,
    Histo,
    ListActors,
    LiveAttempts,
    Look,
    Looks,
    Newest,
    News,
    OpenAttemptFacts,
    PartitionLook,
    PartitionWork,
    Pinned,
    Record,
    Recorded,
    Rows,
    Scan,
    Work,
)
from perdure.journal.leveldb import LevelDBStore
from perdure.journal.store import Row, Store
from perdure.journal.tally import Tally

A = TypeVar("A")

_FIRST_ROWS: Final = 256  # by which the size of the others is judged
_MOST_ROWS: Final = 100_000  # whatever a question asks for


class Inspector:
    """``inspect`` belongs to the engine's loop. ``lag``: of that loop, where it has a process of its own."""

    def __init__(self, engine: Engine, lag: LoopLag | None = None) -> None:
        self._engine = engine
        self._lag = lag
        self._answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Flush: self._flush,
            Scan: self._scan,
            Fetch: self._fetch,
            Count: self._count,
            LiveAttempts: self._attempts,
            Newest: self._newest,
            Look: self._look,
            CountWork: self._work,
            ListActors: self._actors,
            Record: self._record,
            CountPinned: self._pinned,
        }

    async def inspect(self, question: Asks[A]) -> A:
        """Raises StoreError while the partition is down, but for what is known then, too."""
        return cast(A, await self._answers[type(question)](question))

    # ---- rows ------------------------------------------------------------------------------------

    async def _flush(self, question: Flush) -> Done:
        await self._engine.drain()
        return Done()

    async def _scan(self, question: Scan) -> Rows:
        return await asyncio.to_thread(_scan, self._engine.store, question)

    async def _fetch(self, question: Fetch) -> Rows:
        return await asyncio.to_thread(_fetch, self._engine.store, question.keys)

    async def _count(self, question: Count) -> Counted:
        return await asyncio.to_thread(_count, self._engine.store, question)

    async def _record(self, question: Record) -> Recorded:
        await self._engine.drain()
        return Recorded(recording.record(self._partition().tables, question.id))

    # ---- what is in memory -----------------------------------------------------------------------

    async def _attempts(self, question: LiveAttempts) -> Attempts:
        partition = self._partition()
        at_zero_s = time.time() - asyncio.get_running_loop().time()  # the loop's clock is another
        found = [
            OpenAttemptFacts(
                each.id, each.attempt, int((at_zero_s + each.started_at_s) * 1000), each.awaiting
            )
            for each in partition.attempts.all()
        ]
        return Attempts(found, partition.delayed_ids())

    async def _newest(self, question: Newest) -> News:
        lately = self._partition().tables.lately
        return News(lately.newest(), lately.completed_count, lately.failed_count)

    async def _look(self, question: Look) -> Looks:
        engine = self._engine
        partition = engine.partition
        try:
            if partition is None:
                raise StoreFailed(engine.health())
            store = partition.store
            size_bytes, has_room = await asyncio.to_thread(_sizes, store)
        except StoreError as error:  # it may go down while we look
            reason = engine.health() or str(error)
            letters = engine.system.dead_letter_count
            return Looks([PartitionLook(engine.placement, reason, dead_letters=letters)])
        look = PartitionLook(
            engine.placement,
            "",
            store.tail.epoch,
            store.tail.pos,
            store.fsync_us,
            size_bytes,
            has_room,
            len(partition.attempts),
            engine.system.dead_letter_count,
        )
        return Looks([look])

    async def _work(self, question: CountWork) -> Work:
        size_bytes = 0
        if self._engine.partition is not None:
            size_bytes = await asyncio.to_thread(self._engine.partition.store.approximate_bytes)
        lag = None if self._lag is None else Histo.of(self._lag.late_s)
        return Work([replace(_work(self._engine, size_bytes), loop_lag_s=lag)])

    async def _actors(self, question: ListActors) -> Actors:
        return Actors(tree(self._engine, question.limit))

    async def _pinned(self, question: CountPinned) -> Pinned:
        return Pinned(await self._engine.pinned_counts())

    def _partition(self) -> Partition:
        partition = self._engine.partition
        if partition is None:
            raise StoreFailed(self._engine.health())
        return partition


# ---- in threads ----------------------------------------------------------------------------------


def _scan(store: Store, wanted: Scan) -> Rows:
    """In a few reads, so that few rows past the size of a part are read in vain."""
    start, limit = wanted.start, min(wanted.limit, _MOST_ROWS)
    if start[:1] == keys.TIMER:  # below the mark there are but traces of timers that are gone
        start = max(start, store.get(keys.TIMER_LOW_WATER) or start)
    rows: list[Row] = []
    size, bite = 0, min(limit, _FIRST_ROWS)
    heavy = itemgetter(0 if wanted.keys_only else 1)  # keys are about as long as the last one
    while True:
        more = store.scan(start, wanted.stop, bite)
        if wanted.keys_only:
            more = [(key, b"") for key, _ in more]
        rows += more
        if len(more) < bite:
            return Rows(rows)
        size += sum(map(len, map(heavy, more))) + len(more) * len(more[-1][0])
        start = more[-1][0] + b"\x00"
        if len(rows) >= limit or size >= PART_BYTES:
            return Rows(rows, start)
        bite = max(1, min(limit - len(rows), (PART_BYTES - size) * len(rows) // size))


def _fetch(store: Store, wanted: list[bytes]) -> Rows:
    rows: list[Row] = []
    size = 0
    for key in wanted:
        if size >= PART_BYTES:
            return Rows(rows, key)
        value = store.get(key)
        if value is not None:
            rows.append((key, value))
            size += len(value)
    return Rows(rows)


def _count(store: Store, wanted: Count) -> Counted:
    limit = min(wanted.limit, _MOST_ROWS)
    rows = store.scan(max(wanted.start, keys.INVOCATION), keys.JOURNAL, limit)
    tally = Tally()
    tally.add_rows(rows)
    return Counted(tally, rows[-1][0] + b"\x00" if len(rows) == limit else None)


def _sizes(store: Store) -> tuple[int, bool]:
    return store.approximate_bytes(), store.has_room()


# ---- on the loop ---------------------------------------------------------------------------------


def _work(engine: Engine, size_bytes: int) -> PartitionWork:
    counts, partition = engine.counts, engine.partition
    index = engine.placement.index
    shared = (
        engine.restart_count,
        dict(counts.succeeded),
        dict(counts.failed),
        dict(counts.attempts),
        dict(counts.failed_attempts),
        Histo.of(counts.commit_s),
        Histo.of(counts.commit_writes),
        Histo.of(counts.timer_late_s),
    )
    if partition is None:
        return PartitionWork(index, False, *shared)
    store = partition.store
    return PartitionWork(
        index,
        True,
        *shared,
        partition.attempts.counts_by_deployment(),
        partition.attempts.waiting_count,
        len(partition.directory),
        *_mailboxes(partition),
        engine.system.dead_letter_count,
        len(partition.timers),
        size_bytes,
        store.fsync_us / 1e6,
        Histo.of(store.sync_s) if isinstance(store, LevelDBStore) else None,
    )


def _mailboxes(partition: Partition) -> tuple[int, int, int]:
    """Messages in all mailboxes, in the fullest, and invocations that wait for a lock."""
    depth = deepest = waiting = 0
    for address, cell in partition.directory.iter_actors():
        depth += cell.mailbox_depth
        deepest = max(deepest, cell.mailbox_depth)
        waiting += partition.tables.waiting_count(address)
    return depth, deepest, waiting
