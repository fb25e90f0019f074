"""Each table of SQL with its rows and columns, and how what a query needs of one is loaded."""

from collections.abc import Callable, Iterator
from functools import total_ordering
from heapq import heappush, heappushpop
from itertools import islice
from typing import Any, Final

import msgspec

from perdure.gateway.sql import columns_invocations, rows_journal, rows_objects
from perdure.gateway.sql.batches import Batches
from perdure.gateway.sql.failures import too_large
from perdure.gateway.sql.needs import Need, Top
from perdure.gateway.sql.rows_invocations import held_rows, invocation_rows
from perdure.gateway.sql.schema import TABLES
from perdure.gateway.sql.source import Getter, Source

_BATCH_ROWS: Final = 1024

RowsOf = Callable[[Source, Need], Iterator[list[Any]]]


class Table(msgspec.Struct, frozen=True):
    rows: RowsOf
    columns: dict[str, Getter]


def _live(name: str) -> Table:
    """A table that the server holds in memory, or that is empty here."""

    def rows(source: Source, need: Need) -> Iterator[list[dict[str, Any]]]:
        yield source.live(name)

    def getter(column: str) -> Getter:
        return lambda row: row.get(column)

    return Table(rows, {each: getter(each) for each in TABLES[name]})


_STORED: Final[dict[str, Table]] = {
    "sys_invocation": Table(invocation_rows, columns_invocations.INVOCATION),
    "sys_invocation_status": Table(invocation_rows, columns_invocations.STATUS),
    "sys_invocation_state": Table(held_rows, columns_invocations.STATE),
    "sys_journal": Table(rows_journal.journal_rows, rows_journal.JOURNAL),
    "sys_journal_events": Table(rows_journal.event_rows, rows_journal.EVENTS),
    "state": Table(rows_objects.state_rows, rows_objects.STATE),
    "sys_inbox": Table(rows_objects.inbox_rows, rows_objects.INBOX),
    "sys_keyed_service_status": Table(rows_objects.lock_rows, rows_objects.LOCKS),
    "sys_promise": Table(rows_objects.promise_rows, rows_objects.PROMISES),
}
SOURCES: Final[dict[str, Table]] = {name: _STORED.get(name) or _live(name) for name in TABLES}


def load(name: str, need: Need, source: Source, limit_bytes: int) -> Batches:
    """All rows that ``need`` may want, its columns filled. Raises QueryRefused past ``limit_bytes``."""
    table = SOURCES[name]
    batches = Batches(TABLES[name])
    columns = {each: table.columns[each] for each in TABLES[name] if each in need.columns}
    chosen: list[Any] = []
    wanted = _wanted(table, need, source)
    if need.top is not None:
        wanted = _highest(wanted, need.top, table.columns[need.top.column])
    for row in islice(wanted, need.limit):
        chosen.append(row)
        if len(chosen) == _BATCH_ROWS:
            _add(batches, chosen, columns, limit_bytes)
            chosen = []
    if chosen:
        _add(batches, chosen, columns, limit_bytes)
    return batches


def _wanted(table: Table, need: Need, source: Source) -> Iterator[Any]:
    row: Any = None

    def value_of(column: str) -> object:
        return table.columns[column](row)

    for part in table.rows(source, need):
        for row in part:
            if need.wants(value_of):
                yield row


def _highest(rows: Iterator[Any], top: Top, get: Getter) -> Iterator[Any]:
    """In the order of ``rows``, few more than asked for: what is surely below is dropped as it comes."""
    heap: list[Any] = []  # the best values so far, the worst of them first
    kept: list[tuple[Any, Any]] = []
    for row in rows:
        value = get(row)
        if value is not None:
            value = _Reversed(value) if not top.descending else value
            if len(heap) < top.count:
                heappush(heap, value)
            elif value < heap[0]:
                continue
            else:
                heappushpop(heap, value)
        kept.append((value, row))
        if len(kept) > _BATCH_ROWS + 4 * top.count:
            kept = _above(kept, heap)
    yield from (row for _, row in _above(kept, heap))


def _above(kept: list[tuple[Any, Any]], heap: list[Any]) -> list[tuple[Any, Any]]:
    return [each for each in kept if each[0] is None or not each[0] < heap[0]]


@total_ordering
class _Reversed:
    """Compares the other way round, for the lowest values."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.value == other.value)

    def __lt__(self, other: "_Reversed") -> bool:
        return bool(other.value < self.value)


def _add(batches: Batches, rows: list[Any], columns: dict[str, Getter], limit_bytes: int) -> None:
    values = {name: [get(row) for row in rows] for name, get in columns.items()}
    batches.add(len(rows), values)
    if batches.size_bytes > limit_bytes:
        raise too_large(limit_bytes)
