"""Suspend and resume: which notifications count, and what wakes. Service protocol 5.8."""

import pytest

from perdure.journal import keys
from perdure.journal.attempt import Awaiting, Combinator, Suspended
from perdure.journal.entries import Completion, Run, Signal, Sleep, Value, Void
from perdure.journal.events import Deliver, StartAttempt
from perdure.journal.records import INBOXED, RUNNING, BackingOff
from perdure.journal.records import Suspended as SuspendedStatus
from perdure.journal.requests import Op
from tests.journal.machine import ADD, GREET, NOW_MS, Machine

FIRST = Combinator.FIRST_COMPLETED


def test_a_suspended_invocation_keeps_what_it_awaits_and_the_lock() -> None:
    m = Machine()
    id, following = m.request(ADD, "a"), m.request(ADD, "a")
    m.burst(id, Run(1))
    m.suspend(id, 1, signals=(1,))
    assert m.status(id) == SuspendedStatus(Awaiting(FIRST, (1,), (1,)), 2)
    m.commit()
    m.crash()
    assert m.log.count(StartAttempt(id, 2)) == 0
    assert m.status(following) == INBOXED
    assert m.rows(keys.ACTIVE) == {}


def test_what_it_awaits_wakes_it_with_a_fresh_retry_budget() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.failed())
    m.pass_ms(1_000)
    assert m.record(id).failed_attempts == 1
    m.burst(id, Sleep(1, m.now_ms + 50))
    m.suspend(id, 1)
    m.pass_ms(50)
    record = m.record(id)
    assert (record.status, record.attempt) == (RUNNING, 3)
    assert (record.failed_attempts, record.retry_count) == (0, 0)
    m.commit()
    assert m.rows(keys.ACTIVE) == {keys.active(id): b""}


def test_something_else_is_stored_and_it_stays_suspended() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 50), Sleep(2, NOW_MS + 99))
    m.suspend(id, 2)
    m.pass_ms(50)
    assert type(m.status(id)) is SuspendedStatus
    assert m.journal(id)[-1] == Completion(1, Void())
    assert m.did(StartAttempt) == m.did(Deliver) == []
    m.pass_ms(49)
    assert m.status(id) == RUNNING


def test_all_of_several_come_together_over_time_and_crashes() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Run(1), Run(2))
    awaiting = Awaiting(FIRST, (), (1,), (Awaiting(Combinator.ALL_COMPLETED, (), (17, 18)),))
    m.burst(id, Suspended(awaiting, 3))
    m.signal(id, 17)
    m.commit()
    m.crash()
    assert type(m.status(id)) is SuspendedStatus
    m.signal(id, 18)
    assert m.status(id) == RUNNING


def test_what_came_before_the_suspension_but_was_not_seen_resumes_it_at_once() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 50))
    m.pass_ms(50)
    m.burst(id, Suspended(Awaiting(FIRST, (1,)), seen_count=2))
    assert m.did(StartAttempt) == [StartAttempt(id, 2)]
    m.commit()
    assert m.rows(keys.ACTIVE) == {keys.active(id): b""}


def test_a_signal_that_was_seen_before_does_not_wake_it_again() -> None:
    """Else a cancelled handler that goes on awaiting would spin (service protocol 5.8)."""
    m = Machine()
    id = m.request(GREET)
    m.signal(id, 1)
    m.suspend(id, signals=(1, 17))
    assert type(m.status(id)) is SuspendedStatus
    m.signal(id, 1)
    assert m.status(id) == RUNNING


def test_commands_of_the_last_burst_are_stored_before_the_suspension() -> None:
    m = Machine()
    id = m.request(GREET)
    sleep = Sleep(1, NOW_MS)
    m.burst(id, sleep, Suspended(Awaiting(FIRST, (1,)), 1))
    assert m.journal(id)[1:] == [sleep, Completion(1, Void())]
    assert m.record(id).attempt == 2
    assert m.status(id) == RUNNING


@pytest.mark.parametrize(
    "awaiting", [Awaiting(FIRST), Awaiting(FIRST, (), (), (Awaiting(Combinator.ALL_COMPLETED),))]
)
def test_awaiting_nothing_is_a_failed_attempt_and_not_an_endless_wait(awaiting: Awaiting) -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Suspended(awaiting, 1))
    assert type(m.status(id)) is BackingOff
    failure = m.record(id).last_failure
    assert failure is not None
    assert "[RT0012]" in failure.message


def test_a_call_wakes_its_suspended_caller() -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(ADD, "a"))
    m.suspend(caller, 2, signals=(1,))
    m.commit()
    m.crash()
    m.end(m.callee(caller), b"1")
    assert m.journal(caller)[-1] == Completion(2, Value(b"1"))
    assert m.status(caller) == RUNNING


def test_it_may_be_resumed_by_hand_and_suspend_again() -> None:
    m = Machine()
    id = m.request(GREET)
    m.suspend(id, signals=(17,))
    m.operate(id, Op.RESUME)
    assert m.record(id).attempt == 2
    m.suspend(id, signals=(17,))
    m.signal(id, 17)
    assert m.journal(id)[1:] == [Signal(17, Void())]
    assert m.record(id).attempt == 3
