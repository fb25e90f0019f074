"""When entries were appended: the moment of their segment, or what is known of older releases' entries."""

from collections.abc import Iterator
from typing import Any

from perdure.gateway.sql.needs import Condition, Need, Top, everything
from perdure.gateway.sql.rows_journal import JOURNAL, EntryRow, journal_rows
from perdure.gateway.sql.source import Facts, Row
from perdure.journal import ids, keys, records
from perdure.journal.entries import (
    Completion,
    Entry,
    Input,
    Output,
    Sleep,
    Value,
    Void,
    encode,
    encode_segment,
)
from perdure.journal.records import Completed, Invocation
from perdure.journal.schema import HandlerType

ID = ids.workflow_id("Counter", "k")
OLD: tuple[Entry, ...] = (Input((), b"1"), Sleep(1, 99))
NEW: tuple[Entry, ...] = (Completion(1, Void()), Output(Value(b"2")))
RECORD = Invocation(
    "Counter", "add", "k", HandlerType.EXCLUSIVE, Completed(Value(b"2"), 60, 90), 10, 60, 1, "ingress"
)  # fmt: skip


class Rows:
    """``Source`` over rows in memory."""

    def __init__(self, first: bytes, second: bytes) -> None:
        self._rows = {
            keys.invocation(ID): records.encode(RECORD),
            keys.journal(ID, 0): first,
            keys.journal(ID, len(OLD)): second,
        }

    def scan(self, start: bytes, stop: bytes, keys_only: bool = False) -> Iterator[list[Row]]:
        yield [row for row in sorted(self._rows.items()) if start <= row[0] < stop]

    def fetch(self, keys: list[bytes]) -> list[Row]:
        return [(key, self._rows[key]) for key in keys if key in self._rows]

    def live(self, table: str) -> Facts:
        return []


def moments(source: Rows, need: Need) -> list[Any]:
    rows: list[EntryRow] = [row for part in journal_rows(source, need) for row in part]
    return [JOURNAL["appended_at"](row) for row in rows]


def test_entries_have_the_moment_of_their_segment() -> None:
    source = Rows(encode_segment(OLD, 12), encode_segment(NEW, 61))
    by_id = Condition("id", frozenset([ids.format_invocation_id(ID)]))
    for need in (
        everything({"appended_at"}),
        Need({"appended_at"}, [(by_id,)]),
        Need({"id"}, [(Condition("appended_at", frozenset([61])),)]),
        Need({"id"}, [()], 1, Top("appended_at", 1, True)),
    ):
        assert moments(source, need) == [12, 12, 61, 61]


def test_what_begins_and_ends_an_older_journal_has_the_moments_of_its_record() -> None:
    older = Rows(encode(OLD), encode(NEW))
    assert moments(older, everything({"appended_at"})) == [10, None, None, 60]
    gone_on = Rows(encode(OLD), encode_segment(NEW, 61))
    assert moments(gone_on, everything({"appended_at"})) == [10, None, 61, 61]


def test_moments_are_left_alone_where_nobody_asks() -> None:
    source = Rows(encode_segment(OLD, 12), encode_segment(NEW, 61))
    rows = [row for part in journal_rows(source, everything({"id", "index"})) for row in part]
    assert [row.journal.moments for row in rows] == [[]] * 4
