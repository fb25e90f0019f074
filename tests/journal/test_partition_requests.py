"""Requests from outside: new, again, delayed, behind others; attach. Ingress 3, 5 and 8."""

from perdure.journal import keys
from perdure.journal.entries import Input, Value
from perdure.journal.events import AwaitEnd, Complete, SetTimer, StartAttempt
from perdure.journal.keys import TimerKind
from perdure.journal.mailbox import EMPTY
from perdure.journal.reach import ALREADY_INVOKED
from perdure.journal.records import INBOXED, RUNNING, Completed, Scheduled
from perdure.journal.schema import HandlerType
from tests.journal.machine import ADD, DAY_MS, GET, GREET, NOW_MS, RUN, Machine, handler


def test_a_request_runs_at_once_and_its_input_is_entry_0() -> None:
    m = Machine()
    id = m.request(GREET, body=b"x", headers=(("a", "b"),))
    assert m.status(id) == RUNNING
    assert m.journal(id) == [Input((("a", "b"),), b"x")]
    assert m.acts[0] == StartAttempt(id, 1)
    assert m.replies() == [(m.replies()[0][0], True)]  # type: ignore[index]
    record = m.record(id)
    assert (record.entry_count, record.command_count, record.attempt) == (1, 1, 1)
    assert (record.created_at_ms, record.invoked_by, record.seed) == (NOW_MS, "ingress", 7)


def test_one_who_waits_is_told_the_result_once() -> None:
    m = Machine()
    id = m.request(GREET, waits=True)
    assert m.did(AwaitEnd) == [AwaitEnd(1, id)]
    assert m.replies() == []
    m.end(id, b"hi")
    assert m.did(Complete) == [Complete(id, Value(b"hi"))]


def test_exclusive_handlers_of_one_key_run_one_after_the_other() -> None:
    m = Machine()
    first, second, third = (m.request(ADD, "a") for _ in range(3))
    assert m.status(first) == RUNNING
    assert m.status(second) == m.status(third) == INBOXED
    m.end(first)
    assert m.did(StartAttempt) == [StartAttempt(second, 1)]
    assert (m.status(second), m.status(third)) == (RUNNING, INBOXED)
    m.end(second)
    m.end(third)
    assert m.tables.mailbox(("Counter", "a")) == EMPTY
    m.commit()
    assert m.rows(keys.INBOX) == {} == m.rows(keys.ACTIVE)


def test_keys_and_services_do_not_wait_for_each_other() -> None:
    other = handler("Other", "add", HandlerType.EXCLUSIVE)
    m = Machine(ADD, other)
    ids = [m.request(ADD, "a"), m.request(ADD, "b"), m.request(other, "a")]
    assert [m.status(id) for id in ids] == [RUNNING] * 3


def test_shared_handlers_and_workflow_runs_never_lock() -> None:
    m = Machine()
    m.request(ADD, "a")
    shared = [m.request(GET, "a") for _ in range(2)]
    assert [m.status(id) for id in (*shared, m.request(RUN, "a"))] == [RUNNING] * 3


def test_the_empty_key_is_a_key() -> None:
    m = Machine()
    m.request(ADD, "")
    assert m.status(m.request(ADD, "")) == INBOXED
    assert m.status(m.request(ADD, "a")) == RUNNING


def test_a_delayed_request_waits_for_its_timer() -> None:
    m = Machine()
    id = m.request(GREET, delay_ms=500)
    assert m.status(id) == Scheduled(NOW_MS + 500)
    assert m.record(id).execution_time_ms == NOW_MS + 500
    key, value = keys.timer(NOW_MS + 500, TimerKind.START, id), keys.pack_number(NOW_MS)
    assert m.did(SetTimer) == [SetTimer(NOW_MS + 500, key, value)]
    assert m.did(StartAttempt) == []
    m.pass_ms(500)
    assert m.status(id) == RUNNING
    m.commit()
    assert m.rows(keys.TIMER) == {}


def test_a_delay_of_zero_or_in_the_past_starts_at_once_but_is_remembered() -> None:
    m = Machine()
    for delay_ms in (0, -5):
        id = m.request(GREET, delay_ms=delay_ms)
        assert m.status(id) == RUNNING
        assert m.record(id).execution_time_ms == NOW_MS + delay_ms


def test_a_delayed_request_takes_its_place_in_line_when_it_is_due() -> None:
    m = Machine()
    delayed = m.request(ADD, "a", delay_ms=10)
    first = m.request(ADD, "a")
    second = m.request(ADD, "a")
    m.pass_ms(10)
    m.end(first)
    assert (m.status(second), m.status(delayed)) == (RUNNING, INBOXED)


def test_an_idempotency_key_names_one_invocation() -> None:
    m = Machine()
    id = m.request(ADD, "a", idempotency_key="k", body=b"1", waits=True)
    assert m.request(ADD, "a", idempotency_key="k", body=b"2", waits=True) == id
    assert m.did(AwaitEnd) == [AwaitEnd(2, id)]
    assert m.request(ADD, "a", idempotency_key="k") == id
    assert m.replies() == [(m.record(id), False)]
    assert m.journal(id) == [Input((), b"1")]
    m.end(id, b"3")
    m.request(ADD, "a", idempotency_key="k", waits=True)
    assert m.replies() == [m.record(id)]
    assert m.status(id) == Completed(Value(b"3"), NOW_MS, NOW_MS + DAY_MS)


def test_an_idempotency_key_is_free_again_after_its_retention() -> None:
    m = Machine()
    id = m.request(GREET, idempotency_key="k")
    m.end(id)
    m.pass_ms(DAY_MS)
    m.expire()
    assert m.find(id) is None
    m.request(GREET, idempotency_key="k", body=b"new")
    assert m.journal(id) == [Input((), b"new")]


def test_a_workflow_run_is_refused_a_second_time_running_or_completed() -> None:
    m = Machine()
    id = m.request(RUN, "w", waits=True)
    assert m.did(AwaitEnd) == [AwaitEnd(1, id)]
    m.request(RUN, "w", waits=True)
    assert m.replies() == [ALREADY_INVOKED]
    m.request(RUN, "w")
    assert m.replies() == [(m.record(id), False)]
    m.end(id)
    m.request(RUN, "w", waits=True)
    assert m.replies() == [ALREADY_INVOKED]


def test_a_request_sent_again_under_its_id_runs_once() -> None:
    m = Machine()
    id = m.fresh_id("Greeter", None)
    m.request(GREET, id=id, waits=True)
    m.request(GREET, id=id, waits=True)
    assert m.did(AwaitEnd) == [AwaitEnd(2, id)]
    assert m.log.count(StartAttempt(id, 1)) == 1


def test_attach_waits_for_the_end_or_gives_what_is_there() -> None:
    m = Machine()
    m.attach(bytes(24))
    assert m.replies() == [None]
    id = m.request(GREET)
    m.attach(id)
    assert m.did(AwaitEnd) == [AwaitEnd(3, id)]
    m.attach(id, waits=False)
    assert m.replies() == [m.record(id)]
    m.end(id)
    m.attach(id)
    assert m.replies() == [m.record(id)]


def test_an_inboxed_invocation_is_known_to_its_mailbox_after_a_crash() -> None:
    m = Machine()
    first, second, third = (m.request(ADD, "a") for _ in range(3))
    m.commit()
    m.crash()
    assert [m.status(each) for each in (first, second, third)] == [RUNNING, INBOXED, INBOXED]
    assert m.did(StartAttempt) == [StartAttempt(first, 2)]
    m.end(first)
    assert m.did(StartAttempt) == [StartAttempt(second, 1)]
    late = m.request(ADD, "a")
    m.end(second)
    m.end(third)
    assert m.did(StartAttempt) == [StartAttempt(late, 1)]


def test_a_run_that_is_asked_for_again_by_the_same_request_goes_on_waiting() -> None:
    m = Machine()
    id = m.request(RUN, "w", waits=True, seed=1)
    m.request(RUN, "w", waits=True, seed=1)
    assert m.did(AwaitEnd) == [AwaitEnd(2, id)]
    m.request(RUN, "w", waits=True, seed=2)
    assert m.replies()[-1] == ALREADY_INVOKED
    m.end(id, b"x")
    m.request(RUN, "w", waits=True, seed=1)
    assert m.replies()[-1] == m.record(id)
    m.request(RUN, "w", seed=1)
    assert m.replies()[-1] == (m.record(id), True)
    m.request(RUN, "w", seed=2)
    assert m.replies()[-1] == (m.record(id), False)
