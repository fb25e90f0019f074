"""How the console reads: functions in threads of their own, on durable rows, wherever the partitions are.

Nothing is written here, and nothing decoded.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from perdure.journal.inspecting import Asks, Fetch, Flush, Inspection, Scan
from perdure.journal.store import Row

T = TypeVar("T")

_THREADS: Final = 4  # apart from those that read stores, for which they wait


class Reads(Protocol):
    """What a function in a thread may read."""

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[Row]:
        """The first ``limit`` rows from ``start`` up to ``stop``, of one table; fewer: that is all."""

    def scan_keys(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        """As ``scan``, without the values."""

    def get_all(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The rows with these keys, where they exist."""


class StoredRows:
    """``Reads`` of all partitions: every read waits for the loop to ask."""

    def __init__(self, inspection: Inspection, loop: asyncio.AbstractEventLoop) -> None:
        self._inspection = inspection
        self._loop = loop

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[Row]:
        return self._scan(start, stop, limit, keys_only=False)

    def scan_keys(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        return [key for key, _ in self._scan(start, stop, limit, keys_only=True)]

    def _scan(self, start: bytes, stop: bytes, limit: int, keys_only: bool) -> list[Row]:
        rows: list[Row] = []
        while True:
            part = self._ask(Scan(start, stop, limit - len(rows), keys_only))
            rows += part.rows
            if part.then is None or len(rows) >= limit:
                return rows
            start = part.then

    def get_all(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        wanted = list(keys)
        found: dict[bytes, bytes] = {}
        while wanted:
            part = self._ask(Fetch(wanted))
            found.update(part.rows)
            wanted = [] if part.then is None else wanted[wanted.index(part.then) :]
        return found

    def _ask(self, question: Asks[T]) -> T:
        asked = self._inspection.inspect(question)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


class Source:
    """One for a console."""

    def __init__(self, inspection: Inspection) -> None:
        self.inspection = inspection
        self._threads = ThreadPoolExecutor(_THREADS, "console")

    async def read(self, function: Callable[[Reads], T]) -> T:
        """``function`` in a thread, once all that was decided so far is on disk. Raises StoreError."""
        await self.inspection.inspect(Flush())
        loop = asyncio.get_running_loop()
        rows = StoredRows(self.inspection, loop)
        return await loop.run_in_executor(self._threads, function, rows)
