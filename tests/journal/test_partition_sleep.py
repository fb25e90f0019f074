"""Timers: kept, fired once, never for another life. Service protocol 5.5, 7 (D13)."""

import pytest

from perdure.journal import keys
from perdure.journal.entries import Completion, Input, Sleep, Void
from perdure.journal.events import Deliver, SetTimer, StartAttempt
from perdure.journal.keys import TimerKind
from perdure.journal.records import RUNNING, Completed, Scheduled
from perdure.journal.requests import Op
from perdure.journal.store import Row
from tests.journal.machine import ADD, DAY_MS, GREET, NO_TIME, NOW_MS, RUN, Machine

MONTH_MS = 30 * DAY_MS


def only_timer(m: Machine) -> Row:
    (row,) = m.tables.timers(NO_TIME, 1 << 62, 9)
    return row


def test_a_sleep_sets_a_timer_with_a_row() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(3, NOW_MS + 50))
    key = keys.timer(NOW_MS + 50, TimerKind.SLEEP, id, 3)
    value = keys.pack_number(NOW_MS)
    assert m.acts == [SetTimer(NOW_MS + 50, key, value)]
    m.commit()
    assert m.rows(keys.TIMER) == {key: value}


def test_a_sleep_ends_when_its_timer_is_due_and_the_row_goes_with_it() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 50))
    m.pass_ms(49)
    assert m.journal(id)[-1] == Sleep(1, NOW_MS + 50)
    m.pass_ms(1)
    assert m.journal(id)[-1] == Completion(1, Void())
    assert m.did(Deliver) == [Deliver(id, 1, ((2, Completion(1, Void())),))]
    m.commit()
    assert m.rows(keys.TIMER) == {}


@pytest.mark.parametrize("wake_up_at_ms", [NOW_MS, NOW_MS - 1, 0])
def test_a_sleep_into_the_past_is_over_at_once(wake_up_at_ms: int) -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, wake_up_at_ms))
    assert m.journal(id)[-1] == Completion(1, Void())
    assert m.did(SetTimer) == []


def test_a_timer_wakes_a_suspended_sleeper_after_a_crash() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + MONTH_MS))
    m.suspend(id, 1)
    m.commit()
    m.crash()
    m.pass_ms(MONTH_MS)
    assert m.did(StartAttempt) == [StartAttempt(id, 2)]
    assert m.status(id) == RUNNING


def test_a_timer_fires_once() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 50))
    row = only_timer(m)
    m.fire(row)
    for _ in range(2):
        step = m.fire(row)
        assert (step.rows, step.entries, step.acts) == ({}, {}, [])
        m.commit()
    assert m.journal(id)[1:] == [Sleep(1, NOW_MS + 50), Completion(1, Void())]


def test_a_timer_that_fired_before_a_crash_but_not_durably_fires_again() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 50))
    m.commit()
    m.pass_ms(50)
    m.seal()
    m.crash()
    m.pass_ms(0)
    assert m.journal(id)[1:] == [Sleep(1, NOW_MS + 50), Completion(1, Void())]


@pytest.mark.parametrize("kind", list(TimerKind))
@pytest.mark.parametrize(
    "status", ["unknown", "running", "suspended", "paused", "inboxed", "completed"]
)
def test_a_timer_without_a_row_does_nothing(kind: TimerKind, status: str) -> None:
    m = Machine()
    id = m.request(ADD, "a")
    match status:
        case "unknown":
            id = bytes(24)
        case "inboxed":
            id = m.request(ADD, "a")
        case "suspended":
            m.suspend(id, 1)
        case "paused":
            m.operate(id, Op.PAUSE)
        case "completed":
            m.end(id)
    before = m.find(id)
    step = m.fire((keys.timer(NOW_MS, kind, id, 1), keys.pack_number(NOW_MS)))
    assert m.find(id) == before
    assert (step.rows, step.entries, step.acts) == ({}, {}, [])


def test_a_timer_of_an_earlier_life_leaves_the_later_ones_row_alone() -> None:
    """Taken back and sent again with the same idempotency key, due at the same moment."""
    m = Machine()
    id = m.request(GREET, delay_ms=100, idempotency_key="k")
    stale = only_timer(m)
    m.operate(id, Op.CANCEL)
    m.now_ms += 40
    m.request(GREET, delay_ms=60, idempotency_key="k")
    assert only_timer(m)[0] == stale[0]
    m.fire(stale)
    assert m.status(id) == Scheduled(NOW_MS + 100)
    m.commit()
    m.crash()
    m.pass_ms(60)
    assert m.status(id) == RUNNING


def test_a_sleep_of_an_earlier_life_does_not_wake_the_later_one() -> None:
    m = Machine()
    run = m.request(RUN, "w")
    m.burst(run, Sleep(1, NOW_MS + MONTH_MS), *m.ending())
    stale = only_timer(m)
    m.pass_ms(DAY_MS)
    m.expire()
    m.request(RUN, "w")
    m.burst(run, Sleep(1, NOW_MS + MONTH_MS))
    m.fire(stale)
    assert m.journal(run) == [Input((), b""), Sleep(1, NOW_MS + MONTH_MS)]
    m.pass_ms(MONTH_MS)
    assert m.journal(run)[-1] == Completion(1, Void())


def test_a_sleep_that_ends_after_the_invocation_is_dropped() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 50), *m.ending())
    length = m.record(id).entry_count
    m.pass_ms(50)
    assert type(m.status(id)) is Completed
    assert m.record(id).entry_count == length
    m.commit()
    assert m.rows(keys.TIMER) == {}


def test_several_sleeps_fire_in_the_order_of_their_times() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 30), Sleep(2, NOW_MS + 10), Sleep(3, NOW_MS + 20))
    m.pass_ms(100)
    assert [e.completion_id for e in m.journal(id) if type(e) is Completion] == [2, 3, 1]


def test_an_interrupted_sleep_goes_on_where_it_was() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 5_000))
    m.burst(id, m.failed())
    m.pass_ms(5_000)
    assert m.record(id).attempt == 2
    assert m.journal(id)[-1] == Completion(1, Void())


@pytest.mark.parametrize("kind", list(TimerKind))
def test_a_row_that_an_earlier_life_left_is_cleared_and_does_nothing(kind: TimerKind) -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, m.failed())
    key = keys.timer(NOW_MS, kind, id, 1 if kind is TimerKind.SLEEP else 0)
    earlier = keys.pack_number(NOW_MS - 1)
    m.tables.put_row(key, earlier)
    before = m.record(id)
    m.fire((key, earlier))
    assert m.record(id) == before
    assert m.acts == []
    assert m.tables.timer(key) is None
