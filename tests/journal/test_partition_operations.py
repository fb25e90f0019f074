"""Operators: every operation on every status (admin 6); quarantine and recovery."""

import pytest

from perdure.journal import keys, outbox
from perdure.journal.entries import Completion, Failure, Signal, Sleep, Value, Void
from perdure.journal.events import AbortAttempt, Complete, Report, StartAttempt
from perdure.journal.invocation import KILLED
from perdure.journal.placement import Placement, owner_of_key
from perdure.journal.records import INBOXED, RUNNING, BackingOff, Completed, Invocation, Paused
from perdure.journal.requests import Op, OpResult
from tests.journal.machine import ADD, DAY_MS, GREET, NOW_MS, RUN, Machine

STATUSES = ["running", "backing off", "suspended", "paused", "inboxed", "scheduled", "completed"]
DONE, ACCEPTED, COMPLETED = OpResult.DONE, OpResult.ACCEPTED, OpResult.COMPLETED
NOT_RUNNING, NOT_STARTED = OpResult.NOT_RUNNING, OpResult.NOT_STARTED
GOING = OpResult.NOT_COMPLETED
ANSWERS = {  # in the order of STATUSES
    Op.CANCEL: [ACCEPTED, ACCEPTED, ACCEPTED, ACCEPTED, DONE, DONE, COMPLETED],
    Op.KILL: [DONE, DONE, DONE, DONE, DONE, DONE, COMPLETED],
    Op.PAUSE: [ACCEPTED, ACCEPTED, DONE, DONE, NOT_RUNNING, NOT_RUNNING, COMPLETED],
    Op.RESUME: [DONE, DONE, DONE, DONE, NOT_STARTED, NOT_STARTED, COMPLETED],
    Op.PURGE: [GOING] * 6 + [DONE],
    Op.PURGE_JOURNAL: [GOING] * 6 + [DONE],
}


def put(m: Machine, status: str) -> bytes:
    if status == "scheduled":
        return m.request(ADD, "a", delay_ms=1_000)
    if status == "inboxed":
        m.request(ADD, "a")
    id = m.request(ADD, "a")
    match status:
        case "backing off":
            m.burst(id, m.failed())
        case "suspended":
            m.suspend(id, signals=(17,))
        case "paused":
            m.operate(id, Op.PAUSE)
        case "completed":
            m.end(id)
    return id


@pytest.mark.parametrize("op", list(Op))
@pytest.mark.parametrize("status", STATUSES)
def test_every_operation_answers_as_the_table_says(op: Op, status: str) -> None:
    m = Machine()
    id = put(m, status)
    before = m.find(id)
    answer = m.operate(id, op)
    assert answer == ANSWERS[op][STATUSES.index(status)]
    if answer not in (DONE, ACCEPTED):
        assert m.find(id) == before


@pytest.mark.parametrize("op", list(Op))
def test_an_unknown_invocation_is_not_found(op: Op) -> None:
    m = Machine()
    assert m.operate(bytes(24), op) is OpResult.NOT_FOUND
    m.commit()
    assert m.rows() == {}


# ---- kill ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["running", "backing off", "suspended", "paused"])
def test_kill_ends_what_began_and_passes_the_lock_on(status: str) -> None:
    m = Machine()
    id = put(m, status)
    following = m.request(ADD, "a")
    m.operate(id, Op.KILL)
    assert m.status(id) == Completed(KILLED, NOW_MS, NOW_MS + DAY_MS)
    assert Complete(id, KILLED) in m.acts
    assert AbortAttempt(id) in m.acts
    assert m.status(following) == RUNNING
    m.commit()
    assert list(m.rows(keys.ACTIVE)) == [keys.active(following)]
    assert m.rows(keys.TIMER) == {}


@pytest.mark.parametrize("status", ["inboxed", "scheduled"])
def test_kill_takes_back_what_never_began(status: str) -> None:
    m = Machine()
    id = put(m, status)
    m.operate(id, Op.KILL)
    assert m.find(id) is None
    assert Complete(id, KILLED) in m.acts
    m.commit()
    assert m.rows(keys.TIMER) == {}
    assert m.rows(keys.JOURNAL).keys() == {
        keys.journal(key[1:], 0) for key in m.rows(keys.INVOCATION)
    }


def test_kill_ends_everything_that_was_called_at_any_depth() -> None:
    m = Machine()
    root = m.request(GREET)
    m.burst(root, m.call(ADD, "a", 1), m.one_way(ADD, "a", 3), m.one_way(GREET, "", 4))
    child, queued, other = (m.callee(root, n) for n in (1, 3, 4))
    m.burst(child, m.call(RUN, "w", 1))
    grandchild = m.callee(child)
    outsider = m.request(ADD, "a")
    m.operate(root, Op.KILL)
    for id in (root, child, other, grandchild):
        assert m.status(id) == Completed(KILLED, NOW_MS, NOW_MS + DAY_MS)
    assert m.find(queued) is None or type(m.status(queued)) is Completed
    assert m.status(outsider) == RUNNING
    m.commit()
    assert list(m.rows(keys.ACTIVE)) == [keys.active(outsider)]
    assert len(m.rows(keys.INBOX)) == 1


def test_a_kill_follows_the_call_that_it_is_for_as_a_message_of_the_same_sender() -> None:
    m = Machine()
    m.tables.placement = Placement(0, 2)
    here, there = (next(k for k in "abcdefgh" if owner_of_key(k, 2) == n) for n in (0, 1))
    root = m.request(ADD, here)
    m.burst(root, m.call(RUN, here))
    child = m.callee(root)
    m.burst(child, m.call(ADD, there))
    m.operate(root, Op.KILL)
    m.commit()
    rows = [outbox.decode(value) for value in m.rows(keys.OUTBOX).values()]
    assert [(type(row.message), row.to) for row in rows] == [
        (outbox.Invoke, m.callee(child)),
        (outbox.Kill, m.callee(child)),
    ]
    assert [row.sender for row in rows] == [child[:8], child[:8]]


@pytest.mark.parametrize("op", [Op.KILL, Op.CANCEL])
@pytest.mark.parametrize("delay_ms", [None, 50])
def test_what_was_taken_back_does_not_run_when_it_is_sent_again(
    op: Op, delay_ms: int | None
) -> None:
    m = Machine()
    m.request(ADD, "a")
    id = m.request(ADD, "a", waits=True, delay_ms=delay_ms, keep_ms=1_000)
    m.operate(id, op)
    m.request(ADD, "a", id=id, waits=True)
    found = m.replies()[-1]
    assert isinstance(found, Invocation)
    assert type(found.status) is Completed
    assert isinstance(found.status.result, Failure)
    m.attach(id)
    assert m.replies()[-1] is None
    assert m.operate(id, Op.PURGE) is OpResult.NOT_FOUND
    m.commit()
    assert m.rows(keys.TIMER) == {}
    m.now_ms += 1_000
    assert m.expire() == 1
    m.commit()
    assert m.find(id) is None
    assert m.rows(keys.EXPIRY) == {}


def test_kill_answers_a_caller_outside_the_tree() -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(ADD, "a"))
    m.operate(m.callee(caller), Op.KILL)
    assert m.journal(caller)[-1] == Completion(2, Failure(409, "killed"))
    assert m.status(caller) == RUNNING


def test_kill_of_a_circle_of_calls_ends() -> None:
    m = Machine()
    run = m.request(RUN, "w")
    m.burst(run, m.call(ADD, "a"))
    child = m.callee(run)
    m.burst(child, m.call(RUN, "w"))
    m.operate(child, Op.KILL)
    assert type(m.status(run)) is type(m.status(child)) is Completed


# ---- pause and resume ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["running", "backing off", "suspended"])
def test_pause_holds_it_with_its_lock_until_it_is_resumed(status: str) -> None:
    m = Machine()
    id = put(m, status)
    attempt = m.record(id).attempt
    following = m.request(ADD, "a")
    m.operate(id, Op.PAUSE)
    assert m.status(id) == Paused("by an operator")
    assert (AbortAttempt(id) in m.acts) == (status != "suspended")
    m.pass_ms(10_000)
    m.commit()
    m.crash()
    assert m.status(id) == Paused("by an operator")
    assert m.status(following) == INBOXED
    assert m.rows(keys.ACTIVE) == m.rows(keys.TIMER) == {}
    m.operate(id, Op.RESUME)
    assert m.did(StartAttempt) == [StartAttempt(id, attempt + 1)]
    m.end(id)
    assert m.status(following) == RUNNING


def test_what_arrives_in_the_pause_is_there_after_it() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 5))
    m.operate(id, Op.PAUSE)
    m.pass_ms(5)
    m.signal(id, 17)
    assert type(m.status(id)) is Paused
    m.operate(id, Op.RESUME)
    assert m.journal(id)[2:] == [Completion(1, Void()), Signal(17, Void())]


def test_resume_skips_the_back_off_and_gives_a_fresh_budget() -> None:
    m = Machine()
    id = put(m, "backing off")
    m.operate(id, Op.RESUME)
    record = m.record(id)
    assert (record.status, record.attempt) == (RUNNING, 2)
    assert (record.retry_count, record.failed_attempts) == (0, 0)
    m.pass_ms(10_000)
    assert m.record(id).attempt == 2


def test_resume_leaves_a_running_attempt_alone() -> None:
    m = Machine()
    id = put(m, "running")
    m.operate(id, Op.RESUME)
    assert m.did(StartAttempt) == []
    assert m.record(id).attempt == 1


# ---- purge ---------------------------------------------------------------------------------------


def test_purge_leaves_nothing_of_it_and_frees_the_id() -> None:
    m = Machine()
    id = m.request(GREET, idempotency_key="k")
    m.burst(id, Sleep(1, NOW_MS + 99 * DAY_MS), *m.ending())
    m.commit()
    m.operate(id, Op.PURGE)
    assert m.find(id) is None
    m.commit()
    assert m.rows() == {}
    assert m.operate(id, Op.PURGE) is OpResult.NOT_FOUND


def test_purge_journal_keeps_the_result_and_may_be_repeated() -> None:
    m = Machine()
    id = m.request(GREET)
    m.end(id, b"1")
    m.commit()
    for _ in range(2):
        assert m.operate(id, Op.PURGE_JOURNAL) is DONE
        m.commit()
    assert m.rows(keys.JOURNAL) == {}
    m.reopen()
    assert m.journal(id) == []
    m.attach(id)
    status = m.status(id)
    assert type(status) is Completed
    assert status.result == Value(b"1")


def test_a_purged_run_may_run_again_in_the_same_commit() -> None:
    m = Machine()
    run = m.request(RUN, "w", body=b"1")
    m.burst(run, m.set("n", b"1"))
    m.commit()
    m.end(run)
    m.operate(run, Op.PURGE)
    m.request(RUN, "w", body=b"2")
    m.commit()
    m.crash()
    (entry,) = m.journal(run)
    assert entry == m.input(b"2")
    assert m.state("w", "Flow") == {}
    assert m.status(run) == RUNNING


# ---- recovery and quarantine ---------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_after_a_crash_only_what_was_running_starts_again(status: str) -> None:
    m = Machine()
    id = put(m, status)
    before = m.record(id)
    m.commit()
    m.crash()
    started = [act.id for act in m.log if type(act) is StartAttempt and act.attempt > 1]
    assert (id in started) == (status == "running")
    if status != "running":
        assert m.record(id) == before


def test_recovering_what_is_not_running_starts_nothing() -> None:
    m = Machine()
    over = m.request(GREET)
    m.end(over)
    for id in (bytes(24), over, put(m, "paused")):
        m.recover(id)
        assert m.acts == []


def test_a_quarantined_invocation_is_paused_with_the_reason_and_can_be_resumed() -> None:
    m = Machine()
    id = put(m, "running")
    m.quarantine(id, "poison")
    assert m.status(id) == Paused("poison")
    assert m.did(AbortAttempt) == [AbortAttempt(id)]
    assert m.did(Report)[-1] == Report("error", id, "quarantined: poison", "Counter/a/add", 1)
    m.operate(id, Op.RESUME)
    assert m.status(id) == RUNNING


@pytest.mark.parametrize("status", [s for s in STATUSES if s != "running"])
def test_only_what_runs_is_quarantined(status: str) -> None:
    m = Machine()
    id = put(m, status)
    before = m.find(id)
    m.quarantine(id)
    assert m.find(id) == before
    assert m.acts == []


def test_a_late_retry_timer_does_not_disturb_the_attempt_that_took_its_place() -> None:
    m = Machine()
    id = put(m, "backing off")
    (row,) = m.tables.timers(b"\x40", 1 << 62, 9)
    m.operate(id, Op.RESUME)
    m.fire(row)
    assert m.record(id).attempt == 2
    m.burst(id, m.failed())
    m.fire(row)
    assert type(m.status(id)) is BackingOff
