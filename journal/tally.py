"""Counts invocations by service and status, and keeps the newest of each kind. Pure.

Decodes only the head of a record, as a count passes every row of the table.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from perdure.journal.store import Row

KEPT: Final = 200  # newest ids of each service and status
KINDS_LIMIT: Final = 400  # services times statuses of which ids are kept; all are counted

_WORDS: Final = {"inboxed": "pending", "backing_off": "backing-off"}

Kind: TypeAlias = tuple[str, str]  # service and status
Kept: TypeAlias = tuple[int, bytes]  # modified_at_ms and raw id


class Head(msgspec.Struct, array_like=True, gc=False):
    """The first fields of an invocation's record; the rest is skipped."""

    service: str
    handler: str
    key: str | None
    type: msgspec.Raw
    raw_status: msgspec.Raw
    created_at_ms: int
    modified_at_ms: int

    @property
    def status(self) -> str:
        """As operators call it; read off the tag, so that no result is decoded."""
        raw = memoryview(self.raw_status)
        size = raw[1] & 0x1F  # a short string in a short array
        word = bytes(raw[2 : 2 + size]).decode()
        return _WORDS.get(word, word)


decode_head = msgspec.msgpack.Decoder(Head).decode


class Tally(msgspec.Struct):
    """``newest`` are heaps, oldest of the kept ones first."""

    counts: dict[Kind, int] = {}
    newest: dict[Kind, list[Kept]] = {}
    rows: int = 0

    def add_rows(self, rows: Iterable[Row]) -> None:
        for key, value in rows:
            self.add(key, value)

    def add(self, key: bytes, value: bytes) -> None:
        """One row of the table of invocations."""
        head = decode_head(value)
        kind = (head.service, head.status)
        self.rows += 1
        self.counts[kind] = self.counts.get(kind, 0) + 1
        heap = self.newest.get(kind) or self._heap(kind)
        if heap is None:
            return
        kept = (head.modified_at_ms, key[1:])
        if len(heap) < KEPT:
            heapq.heappush(heap, kept)
        elif kept > heap[0]:
            heapq.heapreplace(heap, kept)

    def merge(self, other: "Tally") -> None:
        """Add what another count found among other rows."""
        self.rows += other.rows
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
        for kind, theirs in other.newest.items():
            heap = self._heap(kind)
            if heap is not None:
                heap[:] = heapq.nlargest(KEPT, heap + theirs)
                heapq.heapify(heap)

    def _heap(self, kind: Kind) -> list[Kept] | None:
        heap = self.newest.get(kind)
        if heap is None and len(self.newest) < KINDS_LIMIT:
            heap = self.newest[kind] = []
        return heap

    def find(self, service: str | None, status: str | None) -> Iterator[Kept]:
        """Kept ids of these kinds, newest first."""
        heaps = [
            sorted(heap, reverse=True)
            for (each, word), heap in list(self.newest.items())
            if service in (None, each) and status in (None, word)
        ]
        return heapq.merge(*heaps, reverse=True)

    def count(self, service: str | None, status: str | None) -> int:
        return sum(
            count
            for (each, word), count in list(self.counts.items())
            if service in (None, each) and status in (None, word)
        )
