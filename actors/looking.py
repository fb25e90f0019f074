"""What is read of a running engine: one invocation, a list of them, journals and the state of keys.

Changes nothing. Readers outside see only what no crash can take back; long reads run beside the loop.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Container

from perdure.actors.describe import describe
from perdure.actors.newest import Newest, ids_range
from perdure.actors.partition import Partition
from perdure.journal import keys, records
from perdure.journal.entries import Entry, decode_segment, segment_at_ms
from perdure.journal.ids import parse_invocation_id
from perdure.journal.records import Completed, Invocation
from perdure.journal.requests import Filter, InvocationInfo, Journaled
from perdure.journal.store import Store
from perdure.journal.tables import Tables

_SCAN_CHUNK = 1_000


def _shown(tables: Tables, id: bytes) -> Invocation | None:
    """The record, unless it is only kept for the one who may ask again under its id."""
    record = tables.invocation(id)
    return None if record is None or record.is_forgotten else record


class Looking(ABC):
    """The part of ``Runtime`` that reads."""

    @abstractmethod
    def _running(self) -> Partition:
        """Raises StoreFailed."""

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        id = parse_invocation_id(invocation_id)
        partition = await self._durable()
        record = _shown(partition.tables, id)
        return None if record is None else describe(id, record, partition.attempts.awaiting(id))

    async def _durable(self) -> Partition:
        """For readers outside: nothing is shown that a crash could still take back."""
        partition = self._running()
        await partition.commits.flush()
        return partition

    async def journal(self, invocation_id: str) -> list[Entry] | None:
        id = parse_invocation_id(invocation_id)
        tables = (await self._durable()).tables
        return None if _shown(tables, id) is None else tables.entries(id)

    async def journaled(self, invocation_id: str) -> list[Journaled] | None:
        id = parse_invocation_id(invocation_id)
        partition = await self._durable()
        if _shown(partition.tables, id) is None:
            return None
        return [
            Journaled(entry, segment_at_ms(value))
            for _, value in partition.store.scan(*keys.journal_range(id))
            for entry in decode_segment(value)
        ]

    async def state(self, service: str, key: str) -> dict[str, bytes]:
        return dict((await self._durable()).tables.state((service, key)))

    async def invocations(self, filter: Filter) -> list[InvocationInfo]:
        """Those that are not over first, then the newest; reads every row, beside the loop."""
        partition = await self._durable()
        newest, pending = Newest(filter), dict(partition.tables.pending_invocations())
        for id, record in pending.items():
            if record is not None:
                newest.add(id, record)
        start, stop = ids_range(filter.key)
        next_start: bytes | None = start
        while next_start is not None:
            next_start = await asyncio.to_thread(
                _look_through, partition.store, next_start, stop, newest, pending
            )
        awaiting = self._running().attempts.awaiting
        return [describe(id, record, awaiting(id)) for id, record in newest.found()]

    def unfinished(self) -> list[InvocationInfo]:
        """Every invocation that is not over, at once; for explanations in tests."""
        partition = self._running()
        records_now = dict(partition.tables.pending_invocations())
        for key, value in partition.store.scan(keys.INVOCATION, keys.JOURNAL):
            records_now.setdefault(key[1:], records.decode_invocation(value))
        return [
            describe(id, record, partition.attempts.awaiting(id))
            for id, record in records_now.items()
            if record is not None and not isinstance(record.status, Completed)
        ]


def _look_through(
    store: Store, start: bytes, stop: bytes, newest: Newest, but: Container[bytes]
) -> bytes | None:
    """One chunk of rows; where the next one begins, None behind the last."""
    rows = store.scan(start, stop, _SCAN_CHUNK)
    newest.add_rows(rows, but)
    return rows[-1][0] + b"\x00" if len(rows) == _SCAN_CHUNK else None
