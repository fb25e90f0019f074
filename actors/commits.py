"""The commit loop: decided steps become one synced group after another; acts follow their group.

While one group is on its way to the disk the next one fills. A group is sealed when the loop has
been quiet for a few turns, so that a handler that runs ahead of the disk ends in the group that
began it, and a queue of one key goes in few groups. Design 4. The only place that appends to the store.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

from perdure.actors.attempts import AfterCommit
from perdure.actors.counts import Counts
from perdure.journal.errors import AppendBusy, Indeterminate, StoreFailed, Unavailable
from perdure.journal.events import Act
from perdure.journal.store import Group, Store, Tail, next_group
from perdure.journal.tables import Tables

QUIET_TURNS = 3  # turns of the loop without a new step before the group is sealed
FEW_TURNS, MAX_AGE_S = 24, 0.01  # while steps keep coming it is sealed behind both
MAX_TURNS = 1000  # and behind so many in any case: virtual time stands still
_RETRY_S = 0.05


class Commits:
    """``perform`` is called for each act once everything decided before it is durable."""

    def __init__(
        self,
        tables: Tables,
        store: Store,
        new_id: Callable[[], bytes],
        now_ms: Callable[[], int],
        perform: Callable[[Act | AfterCommit], None],
        failed: Callable[[BaseException], None],
        counts: Counts | None = None,
    ) -> None:
        self._counts = counts or Counts()
        self._tables = tables
        self._store = store
        self._new_id = new_id
        self._now_ms = now_ms
        self._perform = perform
        self._failed = failed
        self._acts: list[Act | AfterCommit] = []
        self._flushed: list[asyncio.Future[None]] = []  # who waits for the open group
        self._flushing: list[asyncio.Future[None]] = []  # and for the one on its way
        self._wake = asyncio.Event()
        self._in_flight = False
        self._over = False
        self._step_count = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="commits")

    def add(self, acts: Sequence[Act | AfterCommit]) -> None:
        """Acts of a step that was just applied to the tables; with nothing to wait for, do them."""
        if not self._in_flight and not self._acts and not self._tables.has_open_writes:
            for act in acts:
                self._perform(act)
            return
        self._acts += acts
        self._step_count += 1
        self._wake.set()

    async def flush(self) -> None:
        """Until everything that was decided so far is durable and done."""
        if self._over:
            raise StoreFailed("the partition has stopped")
        if self._in_flight or self._acts or self._tables.has_open_writes:
            flushed = asyncio.get_running_loop().create_future()
            self._flushed.append(flushed)
            self._wake.set()
            await flushed

    async def stop(self) -> None:
        """Stop where it is; what is not committed is lost, as in a crash."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._refuse_flushes()

    def _refuse_flushes(self) -> None:
        self._over = True
        for future in (*self._flushing, *self._flushed):
            if not future.done():
                future.set_exception(StoreFailed("the partition stopped before this was durable"))

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                await self._settle_down()
                self._wake.clear()
                await self._commit()
                if self._acts or self._flushed or self._tables.has_open_writes:
                    self._wake.set()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._refuse_flushes()
            self._failed(error)

    async def _settle_down(self) -> None:
        """Until nothing is decided for a few turns, or what is decided has waited long enough."""
        now_s = asyncio.get_running_loop().time
        quiet, seen, end_s = 0, self._step_count, now_s() + MAX_AGE_S
        for turn in range(MAX_TURNS):
            await asyncio.sleep(0)
            if seen != self._step_count:
                quiet, seen = 0, self._step_count
            else:
                quiet += 1
            if quiet == QUIET_TURNS or (turn >= FEW_TURNS and now_s() >= end_s):
                return

    async def _commit(self) -> None:
        writes = self._tables.seal(self._now_ms())
        acts, self._acts = self._acts, []
        self._flushing, self._flushed = self._flushed, []
        if writes:
            self._in_flight = True
            begin_s = perf_counter()
            await self._append(next_group(self._store.tail, self._new_id(), writes))
            self._counts.commit_s.add(perf_counter() - begin_s)
            self._counts.commit_writes.add(len(writes))
            self._tables.committed()
            self._in_flight = False
        for act in acts:
            self._perform(act)
        for future in self._flushing:
            if not future.done():
                future.set_result(None)

    async def _append(self, group: Group) -> None:
        """Until the outcome is known. Fenced, too large or failed: the partition is over."""
        after: Tail = self._store.tail
        while True:
            try:
                await self._store.append(group, after)
                return
            except (AppendBusy, Unavailable):
                await asyncio.sleep(_RETRY_S)
            except Indeterminate:
                if await self._store.settle(group, after) is not None:
                    return
