"""The invocations that somebody wants to see, out of all: those not over first, and of each the newest.

Rows are in the order of ids, which says nothing about time, so every row is looked at; but only those that
get on the list are decoded as a whole. Pure.
"""

import heapq
from collections.abc import Container, Iterable
from typing import TypeAlias

from perdure.actors.describe import matches
from perdure.journal import keys, records
from perdure.journal.ids import key_partition
from perdure.journal.records import Completed, Invocation
from perdure.journal.requests import Filter
from perdure.journal.store import Row
from perdure.journal.tally import decode_head

_Rank: TypeAlias = tuple[bool, int]  # whether it is not over, created_at_ms


class Newest:
    """Keeps up to ``filter.limit`` of what it is shown."""

    def __init__(self, filter: Filter) -> None:
        self._filter = filter
        self._kept: list[tuple[_Rank, bytes, Invocation]] = []  # a heap, the last of the list first

    def add_rows(self, rows: Iterable[Row], but: Container[bytes]) -> None:
        """Rows of the table of invocations, except for the ids in ``but``."""
        service, handler, key = self._filter.service, self._filter.handler, self._filter.key
        for row_key, value in rows:
            head = decode_head(value)
            if self._has_room((head.status != "completed", head.created_at_ms)) and (
                service in (None, head.service)
                and handler in (None, head.handler)
                and key in (None, head.key)
                and row_key[1:] not in but
            ):
                self.add(row_key[1:], records.decode_invocation(value))

    def add(self, id: bytes, record: Invocation) -> None:
        rank = (type(record.status) is not Completed, record.created_at_ms)
        if record.is_forgotten or not matches(record, self._filter) or not self._has_room(rank):
            return
        if len(self._kept) < self._filter.limit:
            heapq.heappush(self._kept, (rank, id, record))
        else:
            heapq.heapreplace(self._kept, (rank, id, record))

    def _has_room(self, rank: _Rank) -> bool:
        return len(self._kept) < self._filter.limit or rank > self._kept[0][0]

    def found(self) -> list[tuple[bytes, Invocation]]:
        return [(id, record) for _, id, record in sorted(self._kept, reverse=True)]


def ids_range(key: str | None) -> tuple[bytes, bytes]:
    """Where the rows of one object are, or of all: ids begin with what their key gives."""
    if key is None:
        return keys.INVOCATION, keys.JOURNAL
    start = keys.INVOCATION + key_partition(key).to_bytes(8, "big")
    return start, start + b"\xff" * 17
