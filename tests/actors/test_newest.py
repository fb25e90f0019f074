"""Which invocations a list shows when there are more than it may have."""

from msgspec.structs import replace

from perdure.actors.newest import Newest, ids_range
from perdure.journal import keys, records
from perdure.journal.entries import Value
from perdure.journal.ids import idempotent_id, workflow_id
from perdure.journal.records import RUNNING, Completed, Invocation
from perdure.journal.requests import Filter
from perdure.journal.schema import HandlerType

OVER = Completed(Value(b"1"), 1, 2)
RECORD = Invocation(
    "Counter",
    "add",
    "k",
    HandlerType.EXCLUSIVE,
    OVER,
    1,
    1,
    1,
    "ingress",
    completion_retention_ms=1,
)


def row(number: int, record: Invocation) -> tuple[bytes, bytes]:
    return keys.INVOCATION + number.to_bytes(24, "big"), records.encode(record)


def numbers(newest: Newest) -> list[int]:
    return [int.from_bytes(id, "big") for id, _ in newest.found()]


def test_what_is_not_over_comes_first_then_the_newest_whatever_the_order_of_ids() -> None:
    newest = Newest(Filter(limit=3))
    rows = [row(each, replace(RECORD, created_at_ms=1_000 - each % 7)) for each in range(50)]
    rows[20] = row(20, replace(RECORD, status=RUNNING, created_at_ms=5))
    newest.add_rows(rows, ())
    first, *rest = newest.found()
    assert first == ((20).to_bytes(24, "big"), replace(RECORD, status=RUNNING, created_at_ms=5))
    assert [record.created_at_ms for _, record in rest] == [1_000, 1_000]


def test_filters_hold_and_what_is_excepted_or_forgotten_is_left_out() -> None:
    newest = Newest(Filter(service="Counter", handler="add", key="k", status="completed"))
    rows = [
        row(1, RECORD),
        row(2, replace(RECORD, service="Other")),
        row(3, replace(RECORD, handler="get")),
        row(4, replace(RECORD, key="l")),
        row(5, replace(RECORD, status=RUNNING)),
        row(6, replace(RECORD, completion_retention_ms=0)),
        row(7, RECORD),
        row(8, replace(RECORD, created_at_ms=2)),
    ]
    newest.add_rows(rows, {(7).to_bytes(24, "big")})
    assert numbers(newest) == [8, 1]


def test_the_ids_of_a_key_are_in_its_range() -> None:
    start, stop = ids_range("k")
    for id in (workflow_id("Flow", "k"), idempotent_id("Counter", "k", "add", "i")):
        assert start <= keys.INVOCATION + id < stop
    assert not start <= keys.INVOCATION + workflow_id("Flow", "l") < stop
