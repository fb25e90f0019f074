"""How late the event loop is: an appointment a few times a second, and by how much it is missed."""

import asyncio
from typing import Final

from perdure.journal.histogram import LATENCY_S, Histogram

_INTERVAL_S: Final = 0.25


class LoopLag:
    """Measures between ``start`` and ``stop``, both on the loop."""

    def __init__(self) -> None:
        self.late_s = Histogram(LATENCY_S)
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + _INTERVAL_S
        self._handle = loop.call_at(self._due_s, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self.late_s.add(max(loop.time() - self._due_s, 0.0))
        self.start()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
