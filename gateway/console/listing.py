"""Invocations for a page: newest first from the census and the last commits, then further in store order.

Filters are pushed down: a key is a range of ids, service and status choose what the census kept, and a
scan looks at the head of a record before it decodes the rest. Every page is bounded in rows and time.
Runs in a thread; the rows it reads are committed.
"""

import time
from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from perdure.actors.describe import STATUS_NAMES
from perdure.actors.newest import ids_range
from perdure.gateway.console.census import Count
from perdure.gateway.console.source import Reads
from perdure.journal import keys, records
from perdure.journal.records import Invocation
from perdure.journal.tally import Kept, decode_head

MOST: Final = 200  # rows of a page
_SCAN_S: Final = 0.3  # how long one page may scan
_BITE: Final = 1000
_MORE_IDS: Final = 200  # looked up at once, while few match
_HEAD_BYTES: Final = 8  # of a record before its first text
_KEY_ROWS: Final = 5000  # of one key, before a page stops looking for newer ones

Found = tuple[bytes, Invocation]


class Wanted(msgspec.Struct, frozen=True):
    """Every field that is set must match. ``cursor``: where a scan goes on."""

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    status: str | None = None
    limit: int = 50
    cursor: bytes | None = None

    def matches(self, record: Invocation) -> bool:
        return (
            (self.service is None or record.service == self.service)
            and (self.handler is None or record.handler == self.handler)
            and (self.key is None or record.key == self.key)
            and (self.status is None or STATUS_NAMES[type(record.status)] == self.status)
        )


class Page(msgspec.Struct, frozen=True):
    """``cursor``: more may be found from there on, in store order; None where this is all."""

    rows: list[Found]
    cursor: bytes | None
    newest_first: bool


def page(store: Reads, wanted: Wanted, count: Count, lately: Iterable[Kept]) -> Page:
    """One page of what is ``wanted``."""
    if wanted.cursor is not None:
        return _scan(store, wanted, wanted.cursor)
    if wanted.key is not None:
        return _of_key(store, wanted)
    position = count.position  # before the census goes on
    kept = count.find(wanted.service, wanted.status)
    rows = _newest(store, wanted, lately, kept)
    if len(rows) < wanted.limit and (wanted.handler is not None or not count.is_whole):
        # the census keeps no handlers; of all else it has found what there is before its position
        start = keys.INVOCATION if wanted.handler is not None else position
        more = _scan(store, wanted, start)
        known = {id for id, _ in rows}
        rows += [each for each in more.rows if each[0] not in known]
        return Page(_sorted(rows), more.cursor, False)
    # what the census kept of a kind is all there is of it, unless it had more than it keeps
    total = count.count(wanted.service, wanted.status)
    is_all = count.is_whole and len(rows) >= min(total, wanted.limit) and total <= wanted.limit
    return Page(rows, None if is_all else keys.INVOCATION, True)


def _newest(
    store: Reads, wanted: Wanted, lately: Iterable[Kept], kept: Iterable[Kept]
) -> list[Found]:
    """Those that changed last, as they are now."""
    found: dict[bytes, Invocation] = {}
    stop_s = time.monotonic() + _SCAN_S
    for changed in (lately, kept):
        size, bite = 0, wanted.limit  # the first ones are likely to match
        ids = (id for _, id in changed)
        while (
            size < wanted.limit and time.monotonic() < stop_s and (part := list(islice(ids, bite)))
        ):
            there = found | some(store, [id for id in part if id not in found])
            for id in part:
                if size < wanted.limit and id in there and wanted.matches(there[id]):
                    found[id] = there[id]
                    size += 1
            bite = _MORE_IDS
    return _sorted(found.items())[: wanted.limit]


def _of_key(store: Reads, wanted: Wanted) -> Page:
    """Everything of one key: its ids begin alike."""
    assert wanted.key is not None
    start, stop = ids_range(wanted.key)
    rows = store.scan(start, stop, _KEY_ROWS)
    found = _decoded(rows, wanted)
    cut = len(rows) == _KEY_ROWS or len(found) > wanted.limit
    cursor = None if not cut else rows[-1][0] + b"\x00" if len(rows) == _KEY_ROWS else start
    return Page(_sorted(found)[: wanted.limit], cursor, True)


def _scan(store: Reads, wanted: Wanted, start: bytes) -> Page:
    """On from ``start`` in store order, until the page or the time is full."""
    stop_s = time.monotonic() + _SCAN_S
    _, stop = ids_range(wanted.key)
    found: list[Found] = []
    while True:
        rows = store.scan(start, stop, _BITE)
        for key, value in rows:
            start = key + b"\x00"
            if _may_match(value, wanted):
                found += _decoded(((key, value),), wanted)
                if len(found) >= wanted.limit:
                    return Page(_sorted(found), start, False)
        if len(rows) < _BITE:
            return Page(_sorted(found), None, False)
        if time.monotonic() > stop_s:
            return Page(_sorted(found), start, False)


def _may_match(value: bytes, wanted: Wanted) -> bool:
    if wanted.service is not None:
        name = wanted.service.encode()
        if name not in value[: len(name) + _HEAD_BYTES]:
            return False
    head = decode_head(value)
    return wanted.status in (None, head.status) and wanted.handler in (None, head.handler)


def _decoded(rows: Iterable[tuple[bytes, bytes]], wanted: Wanted) -> list[Found]:
    all_rows = ((key[1:], records.decode_invocation(value)) for key, value in rows)
    return [(id, record) for id, record in all_rows if wanted.matches(record)]


def _sorted(found: Iterable[Found]) -> list[Found]:
    return sorted(found, key=lambda each: (-each[1].modified_at_ms, each[0]))


def some(store: Reads, ids: Iterable[bytes]) -> dict[bytes, Invocation]:
    """The records of these ids, where there are any."""
    found = store.get_all(map(keys.invocation, ids))
    return {key[1:]: records.decode_invocation(value) for key, value in found.items()}
