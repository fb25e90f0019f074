"""What attempts say: the order of entries, ends, and frames that come too late. Service protocol 5.5, 7."""

import pytest

from perdure.journal import keys
from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Barrier,
    Combinator,
    Ended,
    Failed,
    Frame,
    ProposeRun,
    Suspended,
)
from perdure.journal.entries import (
    Completion,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    Input,
    Output,
    Run,
    SetState,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.events import AbortAttempt, Complete, Deliver, PassBarrier, StartAttempt
from perdure.journal.records import RUNNING, BackingOff, Completed
from perdure.journal.requests import Op
from perdure.journal.turn import Step
from tests.journal.machine import ADD, DAY_MS, GET, GREET, NOW_MS, Machine

OUT = Output(Value(b"x"))


def nothing(step: Step) -> bool:
    """The step changes nothing and wants nothing done."""
    return not (
        step.invocations
        or step.entries
        or step.forgotten_journals
        or step.state
        or step.mailboxes
        or step.promises
        or step.rows
        or step.acts
    )


def test_commands_are_appended_in_order_and_completions_follow_their_command() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    set_state, get, sleep = SetState("n", b"1"), GetLazyState(1, "n"), Sleep(2, NOW_MS)
    m.burst(id, set_state, get, sleep)
    read, slept = Completion(1, Value(b"1")), Completion(2, Void())
    assert m.journal(id) == [Input((), b""), set_state, get, read, sleep, slept]
    assert m.did(Deliver) == [Deliver(id, 1, ((3, read), (5, slept)))]
    record = m.record(id)
    assert (record.entry_count, record.command_count) == (6, 4)


def test_eager_reads_and_runs_are_only_stored() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    commands = (GetEagerState("n", None), GetEagerStateKeys(()), Run(1, "step"))
    m.burst(id, *commands)
    assert m.journal(id)[1:] == list(commands)
    assert m.acts == []


def test_a_run_result_is_stored_and_then_given_back() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Run(1), Barrier(1))
    assert m.did(PassBarrier) == [PassBarrier(id, 1, 1)]
    m.burst(id, ProposeRun(1, Value(b"r")))
    done = Completion(1, Value(b"r"))
    assert m.journal(id)[1:] == [Run(1), done]
    assert m.did(Deliver) == [Deliver(id, 1, ((2, done),))]
    m.burst(id, Run(2), ProposeRun(2, Failure(500, "no")))
    assert m.journal(id)[-1] == Completion(2, Failure(500, "no"))


def test_a_run_result_that_the_handler_took_is_only_stored() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Run(1), Barrier(1))
    m.burst(id, ProposeRun(1, Value(b"r"), given_count=0), Run(2), Barrier(2))
    assert m.journal(id)[1:] == [Run(1), Completion(1, Value(b"r")), Run(2)]
    assert m.acts == [PassBarrier(id, 1, 2)]
    m.burst(id, Sleep(3, NOW_MS), ProposeRun(2, Value(b"s"), given_count=2))
    assert m.did(Deliver) == [Deliver(id, 1, ((5, Completion(3, Void())),))]
    assert m.record(id).attempt == 1


def test_a_result_taken_before_a_signal_on_its_way_is_stored_and_the_attempt_begins_anew() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Run(1), Barrier(1))
    m.operate(id, Op.CANCEL)
    m.burst(id, ProposeRun(1, Value(b"r"), given_count=0), Run(2), OUT, Ended())
    cancel, done = Signal(1, Void()), Completion(1, Value(b"r"))
    assert m.journal(id)[1:] == [Run(1), cancel, done]
    assert m.acts == [AbortAttempt(id), StartAttempt(id, 2)]
    assert m.status(id) == RUNNING


def test_the_end_gives_the_last_output_to_everyone() -> None:
    m = Machine()
    id = m.request(GREET, waits=True)
    m.burst(id, Output(Value(b"first")), Output(Failure(400, "second")), Ended())
    result = Failure(400, "second")
    assert m.did(Complete) == [Complete(id, result)]
    assert m.status(id) == Completed(result, NOW_MS, NOW_MS + DAY_MS)
    assert m.record(id).waiters == ()


def test_an_output_alone_is_not_yet_published() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, OUT)
    assert m.status(id) == RUNNING
    assert m.acts == []
    m.commit()
    m.crash()
    m.burst(id, Ended())
    assert m.did(Complete) == [Complete(id, Value(b"x"))]


def test_an_end_without_output_is_a_failed_attempt() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Ended())
    assert type(m.status(id)) is BackingOff
    failure = m.record(id).last_failure
    assert failure is not None
    assert (failure.code, failure.message) == (571, "the attempt ended without an output")


def test_what_comes_behind_a_terminal_frame_is_dropped() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, OUT, Ended(), SetState("n", b"1"))
    assert m.state("a") == {}


def test_awaiting_on_changes_nothing() -> None:
    m = Machine()
    id = m.request(GREET)
    awaiting = AwaitingOn(Awaiting(Combinator.FIRST_COMPLETED, (1,)))
    assert nothing(m.burst(id, awaiting))


LATE: list[tuple[Frame, ...]] = [
    (SetState("n", b"9"),),
    (ProposeRun(1, Value(b"9")),),
    (OUT, Ended()),
    (Suspended(Awaiting(Combinator.FIRST_COMPLETED, (1,)), 1),),
    (Failed(500, "late"),),
    (Barrier(1),),
]


@pytest.mark.parametrize("frames", LATE)
def test_a_superseded_attempt_changes_nothing(frames: tuple[Frame, ...]) -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.recover(id)
    assert nothing(m.burst(id, *frames, attempt=1))
    assert nothing(m.burst(id, *frames, attempt=3))


@pytest.mark.parametrize("frames", LATE)
@pytest.mark.parametrize(
    "status", ["scheduled", "inboxed", "backing off", "suspended", "paused", "completed", "unknown"]
)
def test_only_a_running_invocation_listens_to_its_attempt(
    status: str, frames: tuple[Frame, ...]
) -> None:
    m = Machine()
    id = m.request(ADD, "a")
    match status:
        case "scheduled":
            id = m.request(ADD, "b", delay_ms=9)
        case "inboxed":
            id = m.request(ADD, "a")
        case "backing off":
            m.burst(id, Failed(500, "no"))
        case "suspended":
            m.burst(id, Run(1))
            m.suspend(id, 1)
        case "paused":
            m.operate(id, Op.PAUSE)
        case "completed":
            m.end(id)
        case "unknown":
            id = bytes(24)
    found = m.find(id)
    assert nothing(m.burst(id, *frames, attempt=0 if found is None else found.attempt))


def test_a_broken_precondition_ends_it_with_what_came_before_and_nothing_after() -> None:
    m = Machine()
    id = m.request(GET, "a")
    read = GetEagerState("n", None)
    m.burst(id, read, SetState("n", b"1"), GetEagerState("m", None))
    assert m.journal(id)[1:] == [read]
    assert m.state("a") == {}
    assert m.did(AbortAttempt) == [AbortAttempt(id)]
    assert type(m.status(id)) is Completed
    failure = m.record(id).last_failure
    assert failure is not None
    assert "[RT0017]" in failure.message


def test_everything_of_a_burst_is_one_atomic_change() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.commit()
    m.burst(id, SetState("n", b"1"), Sleep(1, NOW_MS + 5))
    m.crash()
    assert m.journal(id) == [Input((), b"")]
    assert m.state("a") == {}
    m.burst(id, SetState("n", b"1"), Sleep(1, NOW_MS + 5))
    m.commit()
    m.crash()
    assert len(m.journal(id)) == 3
    assert m.state("a") == {"n": b"1"}
    assert len(m.rows(keys.TIMER)) == 1


def test_an_attempt_that_begins_with_a_notification_is_not_given_it_again() -> None:
    """The start holds the journal as it is after the whole step."""
    m = Machine()
    sleeper, waker = m.request(GREET), m.request(GREET)
    m.suspend(sleeper, signals=("go",))
    text = m.text(sleeper)
    m.burst(waker, *(m.send(text, name) for name in ("go", "on")))
    assert m.journal(sleeper)[1:] == [Signal("go", Void()), Signal("on", Void())]
    assert m.record(sleeper).attempt == 2
    assert m.did(Deliver) == []


def test_an_attempt_whose_handler_was_forgotten_still_ends() -> None:
    m = Machine(GREET)
    id = m.request(GREET)
    m.deployed.known.clear()
    m.end(id)
    assert type(m.record(id).status) is Completed
