"""The pending wakeups of an asyncio system base: one heap, one timer of the loop for all of them.

Arming and firing cost O(log n), a wakeup of an ended actor never fires and does not keep the actor
in memory for long. Wakeups that are due together come in the order in which they fall due, ties in
the order in which they were armed. Nothing here is durable: these are Thespian's ``wakeupAfter``.
"""

import asyncio
import heapq
from typing import Any, Protocol

# Up to so many entries of ended actors are kept before the heap is swept at all.
SWEEP_FROM = 64


class Sleeper(Protocol):
    """An actor as this file sees it."""

    pending_wakeup_count: int

    @property
    def is_over(self) -> bool: ...

    def deliver(self, message: Any, sender: Any) -> None: ...


class Wakeups:
    """Wakeups of many actors on one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Sleeper, Any]] = []
        self._armed_count = 0  # ever; breaks ties
        self._stale_count = 0  # entries in the heap whose actor is over
        self._alarm: asyncio.TimerHandle | None = None  # set for the first entry of the heap

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, sleeper: Sleeper, delay_s: float, message: Any) -> None:
        """Deliver ``message`` to ``sleeper``, from itself, after ``delay_s`` seconds."""
        if sleeper.is_over:
            return
        self._armed_count += 1
        sleeper.pending_wakeup_count += 1
        entry = (self._loop.time() + delay_s, self._armed_count, sleeper, message)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._set_alarm()

    def forget(self, sleeper: Sleeper) -> None:
        """The actor is over: its wakeups never fire. Amortised O(1) each."""
        self._stale_count += sleeper.pending_wakeup_count
        sleeper.pending_wakeup_count = 0
        if self._stale_count > SWEEP_FROM and self._stale_count * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].is_over]
            heapq.heapify(self._heap)
            self._stale_count = 0
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._heap:
            self._alarm = self._loop.call_at(self._heap[0][0], self._ring)

    def _ring(self) -> None:
        """Deliver what is due. A loop that rings a little early is asked again for the rest."""
        heap = self._heap
        now = self._loop.time()
        while heap and heap[0][0] <= now:
            _, _, sleeper, message = heapq.heappop(heap)
            if sleeper.is_over:
                self._stale_count -= 1
            else:
                sleeper.pending_wakeup_count -= 1
                sleeper.deliver(message, sleeper)
        self._set_alarm()
