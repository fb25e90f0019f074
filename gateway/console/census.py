"""Counts every invocation by service and status, now and then, and keeps the newest of each kind.

The table of invocations is ordered by id, so "newest first" and "how many" need a look at every row.
That is done only while somebody has the console open, in a thread, in small bites with long pauses
(a tenth of the time) once a store is larger than a moment's work. Readers get the last result.
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import msgspec

from perdure.actors.engine import Engine
from perdure.gateway.console.source import decode_head
from perdure.journal import keys
from perdure.journal.errors import StoreError
from perdure.journal.store import Store

KEPT: Final = 200  # newest ids of each service and status
KINDS_LIMIT: Final = 400  # services times statuses of which ids are kept; all are counted
_BITE: Final = 500  # rows
_FREE_S: Final = 0.1  # work of a pass before it begins to pause
_PAUSES: Final = 12.0  # a pause is so many times as long as the bite before it
_PATIENCE_S: Final = 0.4  # how long a reader waits for a pass that is nearly done
_INTERVAL_S: Final = 2.0  # between two passes over a small store
_REST: Final = 3.0  # a pass is followed by a rest of so many times its own length

Kind: TypeAlias = tuple[str, str]  # service and status
Kept: TypeAlias = tuple[int, bytes]  # modified_at_ms and raw id


class Count(msgspec.Struct):
    """One pass: ``newest`` are heaps, oldest of the kept ones first."""

    counts: dict[Kind, int] = {}
    newest: dict[Kind, list[Kept]] = {}
    rows: int = 0
    progress: float = 0.0  # of the key space, 0 to 1
    position: bytes = keys.INVOCATION  # all rows before this key are counted
    is_whole: bool = False
    ended_at_s: float = 0.0
    took_s: float = 0.0

    def add(self, key: bytes, value: bytes) -> None:
        head = decode_head(value)
        kind = (head.service, head.status)
        self.rows += 1
        self.counts[kind] = self.counts.get(kind, 0) + 1
        heap = self.newest.get(kind)
        if heap is None:
            if len(self.newest) >= KINDS_LIMIT:
                return
            heap = self.newest[kind] = []
        kept = (head.modified_at_ms, key[1:])
        if len(heap) < KEPT:
            heapq.heappush(heap, kept)
        elif kept > heap[0]:
            heapq.heapreplace(heap, kept)

    def find(self, service: str | None, status: str | None) -> Iterator[Kept]:
        """Kept ids of these kinds, newest first."""
        heaps = [
            sorted(heap, reverse=True)
            for (each, word), heap in list(self.newest.items())  # a thread may be adding
            if service in (None, each) and status in (None, word)
        ]
        return heapq.merge(*heaps, reverse=True)

    def count(self, service: str | None, status: str | None) -> int:
        return sum(
            count
            for (each, word), count in list(self.counts.items())
            if service in (None, each) and status in (None, word)
        )


class Census:
    """The last count, and the one that goes on. Used on the loop."""

    def __init__(self, engine: Engine, now_s: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._now_s = now_s
        self._last: Count | None = None
        self._next, self._began_s = Count(), 0.0
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> Count:
        """The best there is after a short wait: a whole count, or the beginning of the first one."""
        if self._task is None and self._is_old():
            self._next, self._began_s = Count(), self._now_s()
            self._task = asyncio.get_running_loop().create_task(self._pass(), name="console census")
        left_s = self._began_s + _PATIENCE_S - self._now_s()
        if self._task is not None and left_s > 0:
            await asyncio.wait([self._task], timeout=left_s)
        if self._last is not None:
            return self._last
        return self._next

    @property
    def progress(self) -> float | None:
        """How far the pass that goes on is; None where there is none."""
        return None if self._task is None else self._next.progress

    def _is_old(self) -> bool:
        last = self._last
        if last is None:
            return True
        rest_s = _REST * last.took_s if last.took_s > _FREE_S else 0.0
        if last.took_s > _INTERVAL_S:
            rest_s = max(rest_s, _INTERVAL_S)
        return self._now_s() - last.ended_at_s >= rest_s

    async def _pass(self) -> None:
        count, began_s = self._next, self._began_s
        try:
            await self._engine.drain()
            await self._count(count, self._engine.store, began_s)
        except StoreError:
            return  # the partition is over; the next look begins anew
        finally:
            self._task = None
        count.is_whole, count.progress = True, 1.0
        count.ended_at_s = self._now_s()
        count.took_s = count.ended_at_s - began_s
        self._last = count

    async def _count(self, count: Count, store: Store, began_s: float) -> None:
        start: bytes | None = keys.INVOCATION
        while start is not None:
            bite_s = self._now_s()
            start = await asyncio.to_thread(_bite, store, start, count)
            now_s = self._now_s()
            if now_s - began_s > _FREE_S:
                await asyncio.sleep(_PAUSES * (now_s - bite_s))


def _bite(store: Store, start: bytes, count: Count) -> bytes | None:
    """Count some rows from ``start`` on; where to go on, or None at the end."""
    rows = store.scan(start, keys.JOURNAL, _BITE)
    for key, value in rows:
        count.add(key, value)
    if len(rows) < _BITE:
        return None
    last = rows[-1][0]
    count.progress = int.from_bytes(last[1:5], "big") / 2**32
    count.position = last + b"\x00"
    return count.position
