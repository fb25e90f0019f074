"""Keeps the count of pinned invocations of an engine's partition, from the first time that somebody asks.

The first answer takes a pass over all records, beside the loop; the next ones cost nothing. A count that
nobody asks for any more is given up, as keeping it costs each commit a little.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from perdure.actors.partition import Partition
from perdure.journal import keys
from perdure.journal.pins import Pins, pins_in
from perdure.journal.store import Store

_BITE: Final = 1_000  # rows
_KEPT_S: Final = 600.0  # since somebody asked for the last time


class PinnedCounts:
    """Of whatever partition there is. Used on the loop."""

    def __init__(self) -> None:
        self._partition: Partition | None = None
        self._pins = Pins()
        self._pass: asyncio.Task[None] | None = None
        self._given_up: asyncio.TimerHandle | None = None

    async def look(self, partition: Partition) -> dict[str, int]:
        """By deployment. Raises StoreError."""
        await partition.commits.flush()
        if partition is not self._partition:
            self._forget()
            self._partition = partition
            partition.tables.pins = self._pins = Pins()
            self._pass = asyncio.get_running_loop().create_task(_count(partition, self._pins))
            self._pass.add_done_callback(_retrieve)
        self._keep_for_a_while()
        pins = self._pins
        if not pins.is_whole and self._pass is not None:
            try:
                await asyncio.shield(self._pass)  # others may wait for it, too
            except BaseException:
                if self._pass is not None and self._pass.done():
                    self._forget()
                raise
        return dict(pins.counts)

    def _keep_for_a_while(self) -> None:
        if self._given_up is not None:
            self._given_up.cancel()
        forget: Callable[[], None] = self._forget
        self._given_up = asyncio.get_running_loop().call_later(_KEPT_S, forget)

    def _forget(self) -> None:
        if self._partition is not None:
            self._partition.tables.pins = None
        if self._given_up is not None:
            self._given_up.cancel()
        if self._pass is not None:
            self._pass.cancel()
        self._partition, self._pass, self._given_up = None, None, None


def _retrieve(ended: asyncio.Task[None]) -> None:
    """Whoever waited has been told; if nobody did, nobody need be."""
    if not ended.cancelled():
        ended.exception()


async def _count(partition: Partition, pins: Pins) -> None:
    await partition.commits.flush()  # what was sealed before it was told
    start: bytes | None = keys.INVOCATION
    while start is not None:
        found, start = await asyncio.to_thread(_bite, partition.store, start)
        pins.count(found, start)


def _bite(store: Store, start: bytes) -> tuple[list[tuple[bytes, str]], bytes | None]:
    rows = store.scan(start, keys.JOURNAL, _BITE)
    then = rows[-1][0] + b"\x00" if len(rows) == _BITE else None
    return pins_in(rows), then
