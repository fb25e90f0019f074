"""The tables over the store: what is decided is read at once, and each row is written once."""

import pytest

from perdure.journal import ids, keys, tables
from perdure.journal.attempt import ProposeRun
from perdure.journal.entries import (
    CompletePromise,
    Completion,
    GetEagerState,
    Run,
    SetState,
    Sleep,
    Value,
    decode_segment,
)
from perdure.journal.keys import TimerKind
from perdure.journal.records import RUNNING
from perdure.journal.requests import Op
from tests.journal.machine import ADD, BRIEF, GREET, NO_TIME, NOW_MS, RUN, Machine


def test_what_is_decided_is_read_before_and_during_and_after_its_commit() -> None:
    m = Machine()
    run = m.request(RUN, "w")
    m.burst(run, SetState("n", b"1"), CompletePromise(1, "p", Value(b"v")))

    def look() -> object:
        t = m.tables
        return (
            t.invocation(run),
            t.entries(run),
            dict(t.state(("Flow", "w"))),
            t.promise(("Flow", "w"), "p"),
            t.promise_names(("Flow", "w")),
        )

    decided = look()
    m.seal()
    assert look() == decided
    m.land()
    assert look() == decided
    m.reopen()
    assert look() == decided


def test_a_row_is_written_once_however_often_it_changed() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    for n in range(10):
        m.burst(id, SetState("n", b"%d" % n))
    writes = dict(m.commit())
    assert writes[keys.state(("Counter", "a"), "n")] == b"9"
    assert decode_segment(writes[keys.journal(id, 0)] or b"") == tuple(m.journal(id))
    assert keys.journal(id, 1) not in writes


def test_each_group_adds_one_segment_to_a_journal() -> None:
    m = Machine()
    id = m.request(GREET)
    m.commit()
    for n in range(1, 4):
        m.burst(id, Run(n), ProposeRun(n, Value(b"r")))
        m.commit()
    indexes = [keys.journal_index(key) for key in m.rows(keys.JOURNAL)]
    assert indexes == [0, 1, 3, 5]
    m.reopen()
    assert len(m.journal(id)) == 7
    assert m.tables.entries(id, 4) == m.journal(id)[4:]


def test_a_large_segment_is_split_without_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SEGMENT_BYTES", 1_000)
    m = Machine()
    id = m.request(ADD, "a")
    for n in range(20):
        m.burst(id, SetState("n", bytes(300)), SetState("m", b"%d" % n))
    journal = m.journal(id)
    m.commit()
    m.reopen()
    assert len(m.rows(keys.JOURNAL)) > 3
    assert m.journal(id) == journal


def test_the_lock_of_a_call_that_begins_and_ends_in_one_group_is_never_written() -> None:
    m = Machine()
    m.end(m.request(ADD, "a"))
    written = {key[:1] for key, _ in m.commit()}
    assert not written & {keys.ACTIVE, keys.INBOX}


def test_a_lock_of_an_earlier_group_is_deleted_by_the_later_one() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.seal()
    m.end(id)
    following = m.request(ADD, "a")
    m.land()
    m.seal()
    m.end(following)
    m.commit()
    assert m.rows(keys.ACTIVE) == m.rows(keys.INBOX) == {}


def test_a_brief_row_that_goes_and_comes_again_in_one_group_is_there() -> None:
    m = Machine()
    id = m.request(GREET)
    m.suspend(id, signals=(17,))
    m.signal(id, 17)
    m.commit()
    assert list(m.rows(keys.ACTIVE)) == [keys.active(id)]
    m.suspend(id, signals=(17,))
    m.signal(id, 17)
    m.commit()
    assert list(m.rows(keys.ACTIVE)) == [keys.active(id)]
    m.suspend(id, signals=(17,))
    m.signal(id, 17)
    m.end(id)
    m.commit()
    assert m.rows(keys.ACTIVE) == {}


def test_the_state_that_was_cleared_in_flight_is_not_read_from_the_store() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, SetState("n", b"1"))
    m.commit()
    m.burst(id, m.clear("n"))
    m.seal()
    assert m.state("a") == {}
    m.land()
    m.reopen()
    assert m.state("a") == {}


def test_cold_objects_leave_memory_and_come_back() -> None:
    m = Machine()
    m.tables = tables.Tables(m.store, m.deployed, state_cache_bytes=2_000)
    for n in range(30):
        m.patch("Counter", str(n), n=bytes(100))
        if n % 5 == 0:
            m.commit()
    m.commit()
    assert len(m.tables._warm) < 15
    for n in range(30):
        assert m.state(str(n)) == {"n": bytes(100)}


def test_an_object_that_is_being_written_stays_in_memory() -> None:
    m = Machine()
    m.tables = tables.Tables(m.store, m.deployed, state_cache_bytes=1)
    first = m.request(ADD, "a")
    m.burst(first, SetState("n", b"1"))
    m.seal()
    second = m.request(ADD, "a")
    m.burst(first, SetState("n", b"2"))
    m.land()
    assert m.state("a") == {"n": b"2"}
    m.end(first)
    assert m.status(second) == RUNNING


# ---- timers --------------------------------------------------------------------------------------


def sleepers(m: Machine, count: int) -> bytes:
    id = m.request(GREET)
    m.burst(id, *(Sleep(n, NOW_MS + n) for n in range(1, count + 1)))
    return id


def numbers(m: Machine, limit: int, after: bytes = NO_TIME) -> list[int]:
    return [keys.split_timer(key)[3] for key, _ in m.tables.timers(after, 1 << 62, limit)]


def test_timers_are_read_in_order_from_disk_and_from_what_is_decided() -> None:
    m = Machine()
    id = sleepers(m, 3)
    m.commit()
    m.burst(id, Sleep(9, NOW_MS + 2))
    assert numbers(m, 10) == [1, 2, 9, 3]
    assert numbers(m, 2) == [1, 2]
    assert numbers(m, 2, keys.timer(NOW_MS + 2, TimerKind.SLEEP, id, 2)) == [9, 3]


@pytest.mark.parametrize("sealed", [False, True])
def test_timers_that_just_fired_hide_none_behind_them(sealed: bool) -> None:
    m = Machine()
    id = sleepers(m, 10)
    m.commit()
    m.pass_ms(5)
    m.burst(id, Sleep(20, NOW_MS + 100))
    if sealed:
        m.seal()
    assert numbers(m, 3) == [6, 7, 8]
    assert numbers(m, 5) == [6, 7, 8, 9, 10]
    assert numbers(m, 6) == [6, 7, 8, 9, 10, 20]


def test_a_timer_is_found_wherever_it_is() -> None:
    m = Machine()
    id = sleepers(m, 1)
    key = keys.timer(NOW_MS + 1, TimerKind.SLEEP, id, 1)
    value = keys.pack_number(NOW_MS)
    assert m.tables.timer(key) == value
    m.seal()
    assert m.tables.timer(key) == value
    m.pass_ms(1)
    assert m.tables.timer(key) is None
    m.land()
    assert m.tables.timer(key) is None
    m.commit()
    assert m.tables.timer(key) is None


# ---- forgetting ----------------------------------------------------------------------------------


def test_a_journal_that_begins_anew_in_the_group_that_forgets_it_is_whole() -> None:
    m = Machine()
    run = m.request(RUN, "w", body=b"old")
    m.commit()
    m.burst(run, Run(1), Run(2))
    m.commit()
    m.end(run)
    m.operate(run, Op.PURGE)
    m.request(RUN, "w", body=b"new")
    assert m.journal(run) == [m.input(b"new")]
    m.seal()
    assert m.journal(run) == [m.input(b"new")]
    m.burst(run, Run(1))
    assert m.journal(run) == [m.input(b"new"), Run(1)]
    m.commit()
    m.reopen()
    assert m.journal(run) == [m.input(b"new"), Run(1)]


def test_arrival_numbers_go_on_after_a_restart() -> None:
    m = Machine()
    m.end(m.request(BRIEF, "a"))
    m.commit()
    m.reopen()
    assert m.tables.last_arrival == 1
    id = m.request(ADD, "a")
    assert m.record(id).arrival == 2


def test_what_is_not_on_disk_yet_is_listed_with_its_newest_state() -> None:
    m = Machine()
    gone, done, fresh = m.request(BRIEF, "a"), m.request(GREET), m.request(GREET)
    m.seal()
    m.end(gone)
    m.end(done)
    pending = dict(m.tables.pending_invocations())
    assert pending == {gone: None, done: m.record(done), fresh: m.record(fresh)}


def test_only_one_group_is_in_flight() -> None:
    m = Machine()
    m.request(GREET)
    m.tables.seal(m.now_ms)
    m.request(GREET)
    with pytest.raises(AssertionError, match="one group"):
        m.tables.seal(m.now_ms)


def test_a_hole_in_a_journal_is_noticed() -> None:
    m = Machine()
    id = m.request(GREET)
    m.commit()
    m.burst(id, Run(1))
    m.commit()
    m.tables.put_row(keys.journal(id, 0), None)
    m.commit()
    with pytest.raises(AssertionError, match="has a hole before entry 1"):
        m.journal(id)


def test_reading_does_not_hand_out_what_later_decisions_change() -> None:
    m = Machine()
    id = m.request(GREET)
    before = m.journal(id)
    m.burst(id, Run(1), ProposeRun(1, Value(b"")))
    assert len(before) == 1
    assert m.journal(id)[-1] == Completion(1, Value(b""))


def test_a_forgotten_journal_is_gone_at_once() -> None:
    m = Machine()
    id = m.request(GREET)
    m.end(id)
    m.commit()
    m.operate(id, Op.PURGE_JOURNAL)
    assert m.journal(id) == []
    m.seal()
    assert m.journal(id) == []


# ---- the worked example of docs/journal-format.md -------------------------------------------------

ID = bytes.fromhex("fc790b5848624bf5018bcfe5680000010203040506070809")
ALICE = "fc790b5848624bf5" + "0007436f756e746572" + "0005616c696365"


def test_the_rows_of_a_counter_call_are_those_of_the_worked_example() -> None:
    m = Machine()
    assert ids.fresh_id("Counter", "alice", NOW_MS, bytes(range(12))) == ID
    m.request(ADD, "alice", body=b"1", id=ID, waits=True)
    m.burst(ID, GetEagerState("count", None), SetState("count", b"1"))
    begun = {k.hex(): None if v is None else v.hex() for k, v in m.commit()}
    head = "dc001ca7436f756e746572a3616464a5616c696365a94578636c7573697665"
    assert begun == {
        "10" + b"last-arrival".hex(): "0000000000000001",
        "20" + ID.hex(): head + "91a772756e6e696e67cf0000018bcfe56800cf0000018bcfe5680007"
        "a7696e67726573730303010190c0c0ce05265c00ce05265c000000c0c0c0a000c0c000",
        "21" + ID.hex() + "00000000": "0000018bcfe568009393a5696e70757490c40131"
        "94af6765745f65616765725f7374617465a5636f756e74c0a0"
        "94a97365745f7374617465a5636f756e74c40131a0",
        "22" + ID.hex(): "",
        "30" + ALICE + b"count".hex(): "31",
        "31" + ALICE + "0000000000000001": "92a6717565756564c418" + ID.hex(),
    }
    m.end(ID, b"1")
    ended = {k.hex(): None if v is None else v.hex() for k, v in m.commit()}
    assert ended == {
        "20" + ID.hex(): head
        + "94a9636f6d706c6574656492a576616c7565c40131cf0000018bcfe56800cf0000018bd50bc400"
        "cf0000018bcfe56800cf0000018bcfe5680007"
        "a7696e67726573730404010190c0c0ce05265c00ce05265c000000c0c0c0a000c0c000",
        "21" + ID.hex() + "00000003": "0000018bcfe568009193a66f757470757492a576616c7565c40131a0",
        "22" + ID.hex(): None,
        "31" + ALICE + "0000000000000001": None,
        "41" + "0000018bd50bc400" + "01" + ID.hex(): "",
    }
