"""Counts every invocation by service and status, now and then, and keeps the newest of each kind.

The table of invocations is ordered by id, so "newest first" and "how many" need a look at every row.
That is done only while somebody has the console open, in a thread, in small bites with long pauses
(a tenth of the time) once a store is larger than a moment's work. Readers get the last result.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from perdure.journal import inspecting, keys
from perdure.journal.errors import StoreError
from perdure.journal.inspecting import Flush, Inspection
from perdure.journal.tally import Tally

_BITE: Final = 1000  # rows
_FREE_S: Final = 0.1  # work of a pass before it begins to pause
_PAUSES: Final = 12.0  # a pause is so many times as long as the bite before it
_PATIENCE_S: Final = 0.4  # how long a reader waits for a pass that is nearly done
_INTERVAL_S: Final = 2.0  # between two passes over a small store
_REST: Final = 3.0  # a pass is followed by a rest of so many times its own length


class Count(Tally):
    """One pass over the table of invocations."""

    progress: float = 0.0  # of the key space, 0 to 1
    position: bytes = keys.INVOCATION  # all rows before this key are counted
    is_whole: bool = False
    ended_at_s: float = 0.0
    took_s: float = 0.0

    def advance(self, part: inspecting.Counted) -> None:
        """The rows behind ``position`` are counted, too."""
        self.merge(part.tally)
        if part.then is not None:
            self.position = part.then
            self.progress = int.from_bytes(part.then[1:5].ljust(4, b"\x00"), "big") / 2**32


class Census:
    """The last count, and the one that goes on. Used on the loop."""

    def __init__(self, inspection: Inspection, now_s: Callable[[], float] = time.monotonic) -> None:
        self._inspection = inspection
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
            await self._inspection.inspect(Flush())
            await self._count(count, began_s)
        except StoreError:
            return  # the partition is over; the next look begins anew
        finally:
            self._task = None
        count.is_whole, count.progress = True, 1.0
        count.ended_at_s = self._now_s()
        count.took_s = count.ended_at_s - began_s
        self._last = count

    async def _count(self, count: Count, began_s: float) -> None:
        start: bytes | None = keys.INVOCATION
        while start is not None:
            bite_s = self._now_s()
            part = await self._inspection.inspect(inspecting.Count(start, _BITE))
            count.advance(part)
            start = part.then
            now_s = self._now_s()
            if now_s - began_s > _FREE_S:
                await asyncio.sleep(_PAUSES * (now_s - bite_s))
