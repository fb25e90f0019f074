"""Rows and columns of `sys_journal` and `sys_journal_events`. Introspection 6.4, 6.5, 7.1 and 7.5.

An entry was appended when its segment was committed. Segments of older releases do not say when; of those
journals only the first entry and, once it is over, the last have a time. Of the events only the newest of
each kind is kept, with the invocation's record.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec

from perdure.gateway.sql import entry_json
from perdure.gateway.sql.awaiting_json import awaiting_tree
from perdure.gateway.sql.columns_invocations import failure_code, partition_key
from perdure.gateway.sql.entry_words import Named, name_all
from perdure.gateway.sql.needs import Need
from perdure.gateway.sql.rows_invocations import Facts, invocation_ids, invocation_rows
from perdure.gateway.sql.source import Getter, Source
from perdure.journal import keys
from perdure.journal.entries import (
    Completion,
    Entry,
    Output,
    Signal,
    decode_segment,
    segment_at_ms,
)
from perdure.journal.ids import format_invocation_id
from perdure.journal.records import (
    Completed,
    FailureNote,
    Invocation,
    Paused,
    Suspended,
    decode_invocation,
)
from perdure.journal.schema import ServiceType
from perdure.journal.wire.commands import command_frame
from perdure.journal.wire.notifications import notification_frame
from perdure.journal.wire.versions import NEWEST

_JOURNAL_VERSION: Final = 2
_FRAME_HEADER_BYTES: Final = 8
_SERVICE_TYPES: Final = {
    "service": ServiceType.SERVICE,
    "virtual_object": ServiceType.VIRTUAL_OBJECT,
    "workflow": ServiceType.WORKFLOW,
}

# ---- the journal ---------------------------------------------------------------------------------


class _Journal:
    """One invocation's journal, and its record where that is needed. ``moments``: by entry, if asked for."""

    def __init__(
        self, id: bytes, source: Source, facts: Facts, moments: Sequence[int | None]
    ) -> None:
        self.id = id
        self._source = source
        self.facts = facts
        self.moments = moments
        self._record: Invocation | None = None

    @property
    def record(self) -> Invocation | None:
        if self._record is None:
            rows = self._source.fetch([keys.invocation(self.id)])
            self._record = decode_invocation(rows[0][1]) if rows else None
        return self._record

    def type_of(self, service: str) -> ServiceType | None:
        return _SERVICE_TYPES.get(self.facts.service(service).get("ty", ""))


class EntryRow(msgspec.Struct):
    journal: _Journal
    named: Named


def journal_rows(source: Source, need: Need) -> Iterator[list[EntryRow]]:
    facts = Facts(source)
    looked_at = need.columns | need.tested() | ({need.top.column} if need.top else set())
    is_timed = "appended_at" in looked_at
    ids = need.among("id")
    if ids is None:
        journals = _every_journal(source)
    else:
        journals = ((id, _segments(source, id)) for id in invocation_ids(ids))
    for id, segments in journals:
        entries: list[Entry] = []
        moments: list[int | None] = []
        for value in segments:
            entries += decode_segment(value)
            if is_timed:
                moments += [segment_at_ms(value)] * (len(entries) - len(moments))
        journal = _Journal(id, source, facts, moments)
        yield [EntryRow(journal, each) for each in name_all(entries)]


def _segments(source: Source, id: bytes) -> Iterator[bytes]:
    return (value for part in source.scan(*keys.journal_range(id)) for _, value in part)


def _every_journal(source: Source) -> Iterator[tuple[bytes, Iterable[bytes]]]:
    rows = (row for part in source.scan(keys.JOURNAL, keys.ACTIVE) for row in part)
    for id, segments in groupby(rows, key=lambda row: row[0][1:25]):
        yield id, (value for _, value in segments)


def _name(row: EntryRow) -> str | None:
    if isinstance(row.named.entry, Completion | Signal):
        return None
    name: str = getattr(row.named.entry, "name", "")
    return name


def _raw(row: EntryRow) -> bytes:
    """The body of the service protocol's message."""
    entry = row.named.entry
    if isinstance(entry, Completion | Signal):
        frame = notification_frame(entry, row.named.wire_type, NEWEST)
    else:
        frame = command_frame(row.named.stored)  # type: ignore[arg-type]
    return frame[_FRAME_HEADER_BYTES:]


def _appended_at(row: EntryRow) -> int | None:
    """Without a moment of its own, known of what began and what ended the invocation."""
    at_ms = row.journal.moments[row.named.index]
    if at_ms is not None:
        return at_ms
    record = row.journal.record
    if record is None:
        return None
    if row.named.index == 0:
        return record.created_at_ms
    over = record.status
    if isinstance(over, Completed) and isinstance(row.named.entry, Output):
        return over.completed_at_ms
    return None


def _json(shape: Callable[[Named, entry_json.TypeOf], Any]) -> Getter:
    def get(row: EntryRow) -> str:
        return msgspec.json.encode(shape(row.named, row.journal.type_of)).decode()

    return get


def _never(row: object) -> None:
    return None


JOURNAL: Final[dict[str, Getter]] = {
    "partition_key": lambda row: partition_key(row.journal.id),
    "id": lambda row: format_invocation_id(row.journal.id),
    "index": lambda row: row.named.index,
    "entry_type": lambda row: row.named.entry_type,
    "name": _name,
    "completed": _never,
    "invoked_id": _never,
    "invoked_target": _never,
    "sleep_wakeup_at": _never,
    "promise_name": _never,
    "raw": _raw,
    "raw_length": lambda row: len(_raw(row)),
    "version": lambda row: _JOURNAL_VERSION,
    "entry_json": _json(entry_json.full),
    "entry_lite_json": _json(entry_json.lite),
    "appended_at": _appended_at,
}

# ---- events --------------------------------------------------------------------------------------


class EventRow(msgspec.Struct):
    id: bytes
    record: Invocation
    type: str
    body: dict[str, Any]
    at_ms: int | None


def event_rows(source: Source, need: Need) -> Iterator[list[EventRow]]:
    on_ids = [tuple(c for c in each if c.column == "id") for each in need.alternatives]
    for part in invocation_rows(
        source, Need({"status"}, on_ids)
    ):  # the records, not the keys alone
        yield [event for row in part for event in _events(row.id, row.record)]


def _events(id: bytes, record: Invocation) -> Iterator[EventRow]:
    note = record.last_failure
    is_paused = isinstance(record.status, Paused)
    if note is not None:
        at_ms = record.modified_at_ms if is_paused else None
        yield EventRow(id, record, "TransientError", _failure(note), at_ms)
    if is_paused:
        last = {} if note is None else {"last_failure": _failure(note)}
        yield EventRow(id, record, "Paused", last, record.modified_at_ms)
    if isinstance(record.status, Suspended):
        body = {"awaiting_on": awaiting_tree(record.status.awaiting)}
        yield EventRow(id, record, "Suspended", body, None)


def _failure(note: FailureNote) -> dict[str, Any]:
    shown: dict[str, Any] = {"error_code": note.code, "error_message": note.message}
    if note.stacktrace:
        shown["error_stacktrace"] = note.stacktrace
    shown["restate_doc_error_code"] = failure_code(note)
    if note.related_command_index is not None:
        shown["related_command_index"] = note.related_command_index
    if note.related_command_name:
        shown["related_command_name"] = note.related_command_name
    if note.related_command_type:
        shown["related_command_type"] = note.related_command_type
    return shown


EVENTS: Final[dict[str, Getter]] = {
    "partition_key": lambda row: partition_key(row.id),
    "id": lambda row: format_invocation_id(row.id),
    "after_journal_entry_index": lambda row: row.record.entry_count - 1,
    "appended_at": lambda row: row.at_ms,
    "event_type": lambda row: row.type,
    "event_json": lambda row: msgspec.json.encode({"ty": row.type} | row.body).decode(),
}
