"""Keys of the tables: bytes on disk for ever, and an order that is the scan order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.journal import keys
from perdure.journal.ids import key_partition, slot_of
from perdure.journal.keys import ExpiryKind, TimerKind

ID = bytes(range(24))
ALICE = ("Counter", "alice")
PLACE = "fc790b5848624bf5" + "0007" + b"Counter".hex() + "0005" + b"alice".hex()

texts = st.text(max_size=6)
addresses = st.tuples(texts, texts)
ids = st.binary(min_size=24, max_size=24)
moments = st.integers(0, 2**62)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (keys.TIMER_LOW_WATER, "10" + b"timer-low-water".hex()),
        (keys.LAST_ARRIVAL, "10" + b"last-arrival".hex()),
        (keys.SCHEDULE_COUNT, "10" + b"schedule-count".hex()),
        (keys.invocation(ID), "20" + ID.hex()),
        (keys.journal(ID, 258), "21" + ID.hex() + "00000102"),
        (keys.active(ID), "22" + ID.hex()),
        (keys.state(ALICE, "n"), "30" + PLACE + "6e"),
        (keys.inbox(ALICE, 258), "31" + PLACE + "0000000000000102"),
        (keys.promise(ALICE, "p"), "32" + PLACE + "70"),
        (
            keys.timer(0x1234, TimerKind.SLEEP, ID, 5),
            "40" + "0000000000001234" + "01" + ID.hex() + "00000005",
        ),
        (
            keys.expiry(0x1234, ExpiryKind.INVOCATION, ID),
            "41" + "0000000000001234" + "01" + ID.hex(),
        ),
        (keys.schedule(ID), "60" + ID.hex()),
    ],
)
def test_a_key_has_these_bytes_for_ever(key: bytes, expected: str) -> None:
    assert key.hex() == expected


def test_kinds_have_these_numbers_for_ever() -> None:
    kinds = [("START", 0), ("SLEEP", 1), ("RETRY", 2), ("SCHEDULE", 3)]
    assert [(k.name, k.value) for k in TimerKind] == kinds
    assert [(k.name, k.value) for k in ExpiryKind] == [("JOURNAL", 0), ("INVOCATION", 1)]


def test_rows_of_a_key_lie_in_its_slot() -> None:
    slot = slot_of(key_partition("alice")).to_bytes(2, "big")
    for key in (keys.state(ALICE, "n"), keys.inbox(ALICE, 1), keys.promise(ALICE, "p")):
        assert key[1:3] == slot


@given(addresses, texts)
def test_a_state_key_tells_address_and_name(address: tuple[str, str], name: str) -> None:
    key = keys.state(address, name)
    assert keys.split_state(key) == (address, name)
    assert keys.state_name(key, address) == name


@given(moments, st.sampled_from(TimerKind), ids, st.integers(0, 2**32 - 1))
def test_a_timer_key_comes_back(due_ms: int, kind: TimerKind, id: bytes, number: int) -> None:
    key = keys.timer(due_ms, kind, id, number)
    assert keys.split_timer(key) == (due_ms, kind, id, number)
    assert keys.timers_from(due_ms) <= key < keys.timers_until(due_ms)
    assert due_ms == 0 or key >= keys.timers_until(due_ms - 1)


@given(moments, st.sampled_from(ExpiryKind), ids)
def test_an_expiry_key_comes_back(due_ms: int, kind: ExpiryKind, id: bytes) -> None:
    key = keys.expiry(due_ms, kind, id)
    assert keys.split_expiry(key) == (due_ms, kind, id)
    assert keys.EXPIRY < key < keys.expiries_until(due_ms)


@given(addresses, addresses, texts, st.integers(0, 2**64 - 1))
def test_ranges_of_a_key_hold_its_rows_and_no_others(
    mine: tuple[str, str], other: tuple[str, str], name: str, arrival: int
) -> None:
    for (start, stop), of_mine, of_other in (
        (keys.state_range(mine), keys.state(mine, name), keys.state(other, name)),
        (keys.promise_range(mine), keys.promise(mine, name), keys.promise(other, name)),
        (keys.inbox_range(mine), keys.inbox(mine, arrival), keys.inbox(other, arrival)),
    ):
        assert start <= of_mine < stop
        assert (start <= of_other < stop) == (mine == other)


@given(ids, ids, st.integers(0, 2**32 - 1))
def test_the_range_of_a_journal_holds_its_segments_and_no_others(
    mine: bytes, other: bytes, index: int
) -> None:
    start, stop = keys.journal_range(mine)
    assert start < keys.journal(mine, index) < stop
    assert (start < keys.journal(other, index) < stop) == (mine == other)
    assert keys.journal_index(keys.journal(mine, index)) == index


@given(st.integers(0, 2**64 - 2))
def test_later_arrivals_and_indexes_sort_behind(arrival: int) -> None:
    assert keys.inbox(ALICE, arrival) < keys.inbox(ALICE, arrival + 1)
    assert keys.inbox_arrival(keys.inbox(ALICE, arrival)) == arrival
    assert keys.unpack_number(keys.pack_number(arrival)) == arrival


def test_no_two_tables_share_a_first_byte() -> None:
    tags = [keys.META, keys.INVOCATION, keys.JOURNAL, keys.ACTIVE, keys.STATE, keys.INBOX]
    tags += [keys.PROMISE, keys.TIMER, keys.EXPIRY, keys.SCHEDULE]
    known = ["10", "20", "21", "22", "30", "31", "32", "40", "41", "60"]
    assert [t.hex() for t in tags] == known
