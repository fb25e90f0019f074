"""Failed attempts: back off, pause, end. Service protocol 5.9."""

from perdure.journal import keys
from perdure.journal.attempt import Behavior, ProposeRun
from perdure.journal.entries import Failure, Run, Value
from perdure.journal.events import AbortAttempt, Complete, Report, SetTimer, StartAttempt
from perdure.journal.keys import TimerKind
from perdure.journal.records import INBOXED, RUNNING, BackingOff, Completed, FailureNote, Paused
from perdure.journal.schema import Handler, HandlerType, OnMaxAttempts, RetryPolicy
from tests.journal.machine import ADD, DAY_MS, GREET, NOW_MS, Machine, handler


def delay_ms(m: Machine, id: bytes) -> int:
    status = m.status(id)
    assert type(status) is BackingOff
    return status.retry_at_ms - m.now_ms


def limited(max_attempts: int | None, then: OnMaxAttempts) -> Handler:
    policy = RetryPolicy(100, 2.0, 1_000, max_attempts, then)
    return handler("Greeter", "greet", HandlerType.SERVICE, retry=policy)


def test_a_failed_attempt_backs_off_and_says_why() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.failed(code=501, message="boom", stacktrace="line 1"))
    record = m.record(id)
    assert 503 <= delay_ms(m, id) <= 650
    assert record.last_failure == FailureNote(501, "boom", "line 1")
    assert (record.retry_count, record.failed_attempts) == (1, 1)
    assert m.acts[0] == AbortAttempt(id)
    due_ms = NOW_MS + delay_ms(m, id)
    key = keys.timer(due_ms, TimerKind.RETRY, id)
    assert m.did(SetTimer) == [SetTimer(due_ms, key, keys.pack_number(NOW_MS))]
    m.commit()
    assert m.rows(keys.ACTIVE) == {}
    assert list(m.rows(keys.TIMER)) == [key]


def test_the_next_attempt_begins_when_the_delay_is_over() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.failed())
    wait_ms = delay_ms(m, id)
    m.commit()
    m.crash()
    m.pass_ms(wait_ms - 1)
    assert type(m.status(id)) is BackingOff
    m.pass_ms(1)
    assert m.did(StartAttempt) == [StartAttempt(id, 2)]
    m.commit()
    assert list(m.rows(keys.ACTIVE)) == [keys.active(id)]
    assert m.rows(keys.TIMER) == {}


def test_delays_grow_and_progress_does_not_shorten_them() -> None:
    m = Machine()
    id = m.request(GREET)
    for number, expected in enumerate((500, 1_000, 2_000, 4_000), 1):
        m.burst(id, Run(number), m.failed())
        assert expected + 3 <= delay_ms(m, id) <= expected * 1.3
        m.pass_ms(delay_ms(m, id))


def test_the_retry_counter_begins_anew_with_a_new_command_but_not_with_a_run_result() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Run(1), m.failed())
    m.pass_ms(delay_ms(m, id))
    m.burst(id, m.failed())
    assert m.record(id).retry_count == 2
    m.pass_ms(delay_ms(m, id))
    m.burst(id, ProposeRun(1, Value(b"")))
    assert m.record(id).retry_count == 2
    m.burst(id, Run(2))
    assert m.record(id).retry_count == 0
    m.burst(id, m.failed())
    assert m.record(id).retry_count == 1


def test_an_exhausted_policy_pauses_with_the_reason() -> None:
    policy = limited(2, OnMaxAttempts.PAUSE)
    m = Machine(policy)
    id = m.request(policy)
    m.burst(id, m.failed())
    m.pass_ms(delay_ms(m, id))
    m.burst(id, m.failed(message="boom"))
    reason = "2 attempts failed, the last one with: boom"
    assert m.status(id) == Paused(reason)
    assert m.did(Report)[-1] == Report("warning", id, f"paused: {reason}", "Greeter/greet", 2)
    m.commit()
    assert m.rows(keys.ACTIVE) == m.rows(keys.TIMER) == {}


def test_an_exhausted_policy_may_end_it_with_the_last_failure() -> None:
    policy = limited(1, OnMaxAttempts.KILL)
    m = Machine(policy)
    id = m.request(policy, waits=True)
    m.burst(id, m.failed(code=503, message="boom", stacktrace="line 1"))
    result = Failure(503, "boom", {}, "line 1")
    assert m.status(id) == Completed(result, NOW_MS, NOW_MS + DAY_MS)
    assert m.did(Complete) == [Complete(id, result)]


def test_the_count_survives_a_restart() -> None:
    policy = limited(2, OnMaxAttempts.PAUSE)
    m = Machine(policy)
    id = m.request(policy)
    m.burst(id, m.failed())
    m.pass_ms(delay_ms(m, id))
    m.commit()
    m.crash()
    m.burst(id, m.failed())
    assert type(m.status(id)) is Paused


def test_a_restart_is_no_failed_attempt() -> None:
    policy = limited(1, OnMaxAttempts.KILL)
    m = Machine(policy)
    id = m.request(policy)
    m.commit()
    for _ in range(3):
        m.crash()
        m.commit()
    assert m.status(id) == RUNNING
    assert m.record(id).attempt == 4
    assert m.record(id).failed_attempts == 0


def test_the_handlers_own_delay_has_no_jitter_and_costs_nothing() -> None:
    policy = limited(2, OnMaxAttempts.KILL)
    m = Machine(policy)
    id = m.request(policy)
    for count in range(1, 5):
        m.burst(id, m.failed(next_retry_delay_ms=70))
        assert delay_ms(m, id) == 70
        assert (m.record(id).failed_attempts, m.record(id).retry_count) == (0, count)
        m.pass_ms(70)


def test_a_handler_may_ask_for_a_pause_or_the_end() -> None:
    m = Machine()
    paused, over = m.request(GREET), m.request(GREET)
    m.burst(paused, m.failed(message="wait", behavior=Behavior.PAUSE))
    assert m.status(paused) == Paused("wait")
    m.burst(over, m.failed(code=404, message="gone", behavior=Behavior.FAIL))
    assert m.did(Complete) == [Complete(over, Failure(404, "gone"))]


def test_the_lock_is_held_while_it_backs_off_and_passed_on_when_it_ends() -> None:
    m = Machine()
    first, second = m.request(ADD, "a"), m.request(ADD, "a")
    m.burst(first, m.failed())
    assert m.status(second) == INBOXED
    m.pass_ms(delay_ms(m, first))
    m.burst(first, m.failed(behavior=Behavior.PAUSE))
    assert m.status(second) == INBOXED
    m.burst(first, *m.ending())  # a late frame of the attempt that failed
    assert m.status(second) == INBOXED


def test_where_it_failed_is_kept_for_operators() -> None:
    m = Machine()
    id = m.request(GREET)
    failed = m.failed(
        related_command_index=3, related_command_name="step", related_command_type="run"
    )
    m.burst(id, failed)
    assert m.record(id).last_failure == FailureNote(500, "no", "", 3, "step", "run")
    m.commit()
    m.reopen()
    assert m.record(id).last_failure == FailureNote(500, "no", "", 3, "step", "run")
