"""Signals and awakeables by the status of their target. Service protocol 5.6, 5.11."""

import pytest

from perdure.journal import ids
from perdure.journal.entries import (
    CompleteAwakeable,
    Completion,
    Failure,
    Outcome,
    SendSignal,
    Signal,
    Value,
    Void,
)
from perdure.journal.events import Complete, Deliver, StartAttempt
from perdure.journal.invocation import CANCELED
from perdure.journal.records import RUNNING, Completed, Paused, Suspended
from perdure.journal.requests import Op
from tests.journal.machine import ADD, GREET, Machine

CANCEL = Signal(1, Void())


def target(m: Machine, status: str) -> bytes:
    """An invocation in this status; what it runs is exclusive and has a delay where it needs one."""
    if status == "scheduled":
        return m.request(ADD, "a", delay_ms=1_000)
    if status == "inboxed":
        m.request(ADD, "a")
    id = m.request(ADD, "a")
    match status:
        case "backing off":
            m.burst(id, m.failed())
        case "suspended":
            m.suspend(id, 99)
        case "paused":
            m.operate(id, Op.PAUSE)
        case "completed":
            m.end(id)
    return id


ALIVE = ["scheduled", "inboxed", "running", "backing off", "suspended", "paused"]


@pytest.mark.parametrize("status", ALIVE)
@pytest.mark.parametrize("by", ["outside", "handler", "awakeable"])
def test_a_signal_is_kept_for_every_target_that_is_not_over(status: str, by: str) -> None:
    m = Machine()
    id = target(m, status)
    before = m.status(id)
    signal = Signal("go", Value(b"1"))
    if by == "outside":
        m.signal(id, "go", Value(b"1"))
        assert m.replies() == [None]
    elif by == "handler":
        m.burst(m.request(GREET), SendSignal(m.text(id), "go", Value(b"1")))
    else:
        signal = Signal(17, Value(b"1"))
        awakeable = ids.format_awakeable_id(id, 17)
        m.burst(m.request(GREET), CompleteAwakeable(awakeable, Value(b"1")))
    assert m.journal(id)[1:] == [signal]
    assert m.status(id) == before
    delivered = [act for act in m.did(Deliver) if act.id == id]
    assert bool(delivered) == (status == "running")


def test_a_signal_that_came_before_the_start_is_there_at_the_start() -> None:
    m = Machine()
    id = target(m, "scheduled")
    m.signal(id, "go")
    m.pass_ms(1_000)
    assert m.status(id) == RUNNING
    assert m.journal(id)[1:] == [Signal("go", Void())]
    assert m.record(id).entry_count == 2


@pytest.mark.parametrize("status", ["completed", "unknown"])
@pytest.mark.parametrize("signal", [1, 17, "go"])
def test_a_signal_to_what_is_over_or_unknown_is_dropped(status: str, signal: int | str) -> None:
    m = Machine()
    id = bytes(24) if status == "unknown" else target(m, status)
    before = m.find(id)
    m.signal(id, signal)
    assert m.find(id) == before
    assert m.replies() == [None]


@pytest.mark.parametrize("result", [Value(b"1"), Failure(500, "no")])
def test_an_awakeable_wakes_the_one_who_suspended_on_it(result: Outcome) -> None:
    m = Machine()
    id = m.request(GREET)
    m.suspend(id, signals=(17, 1))
    m.commit()
    m.crash()
    m.signal(id, 17, result)
    assert m.did(StartAttempt) == [StartAttempt(id, 2)]
    assert m.journal(id)[1:] == [Signal(17, result)]


def test_a_second_completion_of_an_awakeable_comes_behind_the_first() -> None:
    """No deduplication: the handler uses the first (service protocol 5.6)."""
    m = Machine()
    id = m.request(GREET)
    m.signal(id, 17, Value(b"1"))
    m.signal(id, 17, Value(b"2"))
    assert m.journal(id)[1:] == [Signal(17, Value(b"1")), Signal(17, Value(b"2"))]


@pytest.mark.parametrize("bad", [SendSignal("x", 2, Void()), CompleteAwakeable("x", Value(b""))])
def test_a_text_that_is_no_id_ends_the_invocation(bad: SendSignal | CompleteAwakeable) -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, bad)
    assert len(m.journal(id)) == 1
    assert type(m.status(id)) is Completed
    failure = m.record(id).last_failure
    assert failure is not None
    assert "[RT0012]" in failure.message


@pytest.mark.parametrize("by", ["operator", "outside", "handler"])
@pytest.mark.parametrize("status", ["scheduled", "inboxed"])
def test_cancelling_what_never_began_takes_it_back_and_answers_who_waits(
    status: str, by: str
) -> None:
    m = Machine()
    id = target(m, status)
    caller = m.request(GREET)
    m.burst(caller, m.attach_to(id))
    cancel(m, id, by)
    assert m.find(id) is None
    assert Complete(id, CANCELED) in m.acts
    assert m.journal(caller)[-1] == Completion(1, CANCELED)
    m.pass_ms(1_000)
    assert m.find(id) is None


@pytest.mark.parametrize("by", ["operator", "outside", "handler"])
@pytest.mark.parametrize("status", ["running", "suspended", "paused", "backing off"])
def test_cancelling_what_began_tells_the_handler(status: str, by: str) -> None:
    m = Machine()
    id = target(m, status)
    if status == "suspended":
        m.operate(id, Op.RESUME)
        m.suspend(id, signals=(1,))
    cancel(m, id, by)
    assert m.journal(id)[-1] == CANCEL
    assert m.status(id) == RUNNING
    if status == "running":
        assert [act.entries for act in m.did(Deliver) if act.id == id] == [((1, CANCEL),)]
    else:
        assert StartAttempt(id, m.record(id).attempt) in m.acts


def cancel(m: Machine, id: bytes, by: str) -> None:
    match by:
        case "operator":
            m.operate(id, Op.CANCEL)
        case "outside":
            m.signal(id, 1)
        case _:
            m.burst(m.request(GREET), SendSignal(m.text(id), 1, Void()))


def test_cancelling_one_that_backs_off_disarms_its_retry() -> None:
    m = Machine()
    id = target(m, "backing off")
    cancel(m, id, "operator")
    m.pass_ms(10_000)
    assert m.record(id).attempt == 2


def test_cancelling_one_who_does_not_await_it_leaves_it_suspended() -> None:
    m = Machine()
    id = target(m, "suspended")
    cancel(m, id, "operator")
    assert type(m.status(id)) is Suspended
    assert m.journal(id)[-1] == CANCEL


def test_only_cancel_wakes_a_paused_one() -> None:
    m = Machine()
    id = target(m, "paused")
    m.signal(id, "go")
    assert type(m.status(id)) is Paused
    m.signal(id, 1)
    assert m.status(id) == RUNNING
    assert m.journal(id)[1:] == [Signal("go", Void()), CANCEL]


def test_an_invocation_may_signal_itself() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, SendSignal(m.text(id), "go", Void()))
    assert m.journal(id)[-1] == Signal("go", Void())
    assert m.did(Deliver) == [Deliver(id, 1, ((2, Signal("go", Void())),))]
