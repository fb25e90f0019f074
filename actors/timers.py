"""Timers: the next due one, each fired once. The rows are in the store; a window of them in memory.

What is due beyond the window is read when its time comes near, so a million timers cost a million
rows and no memory. Rules: leveldb 7.3; service protocol D13.
"""

import asyncio
import heapq
from collections.abc import Callable

from perdure.journal import keys
from perdure.journal.store import Row

WINDOW_LIMIT = 5_000  # timers in memory
BURST_LIMIT = 200  # fired in one turn of the loop
_LOOK_AGAIN_S = 600.0  # the wall clock may have been set

Read = Callable[[bytes, int, int], list[Row]]  # after key, until (ms), limit


class Timers:
    """``read``: rows from disk, with those not there yet; ``fire``: told of each due row."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now_ms: Callable[[], int],
        read: Read,
        fire: Callable[[bytes, bytes], None],
        low_water: bytes,
    ) -> None:
        self._loop = loop
        self._now_ms = now_ms
        self._read = read
        self._fire = fire
        self._heap: list[Row] = []
        self._known_until = low_water  # every row up to this key is in the heap, or was fired
        self._has_more = True  # rows beyond it may exist
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at_ms = 0
        self.low_water = low_water  # every row below it was fired

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._heap)

    def start(self) -> None:
        self._refill()
        self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._heap.clear()

    def add(self, due_ms: int, key: bytes, value: bytes) -> None:
        """A timer was decided. Its row is written by whoever decided it."""
        if self._has_more and key > self._known_until:
            return  # read when its time comes near
        heapq.heappush(self._heap, (key, value))
        if key <= self.low_water:  # the wall clock was set back
            self.low_water = keys.timers_from(due_ms)
        if len(self._heap) > 2 * WINDOW_LIMIT:
            self._shrink()
        self._arm()

    def _refill(self) -> None:
        """Read the next rows; there is no end to the future, so the read has no limit in time."""
        rows = self._read(self._known_until, (1 << 62), WINDOW_LIMIT)
        self._heap = sorted({*self._heap, *rows})
        self._has_more = len(rows) == WINDOW_LIMIT
        if rows:
            self._known_until = rows[-1][0]

    def _shrink(self) -> None:
        """Keep the nearest; the others are read again."""
        self._heap.sort()
        del self._heap[WINDOW_LIMIT:]
        self._known_until = self._heap[-1][0]
        self._has_more = True

    def _arm(self) -> None:
        if not self._heap:
            if not self._has_more:
                return
            self._refill()
            if not self._heap:
                return
        due_ms = keys.split_timer(self._heap[0][0])[0]
        if self._handle is not None:
            if self._handle_at_ms <= due_ms:
                return
            self._handle.cancel()
        delay_s = max(due_ms - self._now_ms(), 0) / 1000
        self._handle_at_ms = due_ms
        self._handle = self._loop.call_later(min(delay_s, _LOOK_AGAIN_S), self._ring)

    def _ring(self) -> None:
        self._handle = None
        now_ms = self._now_ms()
        for _ in range(BURST_LIMIT):
            if not self._heap or keys.split_timer(self._heap[0][0])[0] > now_ms:
                break
            key, value = heapq.heappop(self._heap)
            self.low_water = max(self.low_water, key)
            self._fire(key, value)
        self._arm()
