"""Restart as new: what is taken over, every refusal, lineage; resumes elsewhere (admin 6.1, 6.2)."""

import pytest

from perdure.journal import ids, keys
from perdure.journal.attempt import ProposeRun
from perdure.journal.entries import (
    Completion,
    Failure,
    GetEagerState,
    Input,
    InvocationId,
    Output,
    Run,
    SetState,
    Signal,
    Sleep,
    Value,
)
from perdure.journal.events import Destination, Nowhere, Operate, Restart, StartAttempt
from perdure.journal.records import INBOXED, RUNNING, Completed, Paused
from perdure.journal.requests import Incompatible, Op, OpResult, Restarted
from perdure.journal.schema import Handler
from tests.journal.machine import ADD, APPROVE, BRIEF, DAY_MS, GREET, RUN, Machine, Place
from tests.journal.test_partition_operations import put

OLD, NEW = "dp_old", "dp_new"
NEW_ID = bytes(range(24))
AT_OLD: Place = (OLD, 6)


def here(handler: Handler = GREET, is_latest: bool = True) -> Destination:
    return Destination(handler, is_latest=is_latest)


def there(handler: Handler = GREET, oldest: int = 5, newest: int = 7, **rest: bool) -> Destination:
    return Destination(handler, NEW, oldest, newest, newest, **rest)


def restart(
    m: Machine,
    id: bytes,
    from_index: int = 0,
    destination: Destination | Nowhere | None = None,
    edits: tuple[tuple[int, bytes], ...] = (),
) -> object:
    place = here() if destination is None else destination
    m.apply(Restart(id, NEW_ID, from_index, place, 99, m.token(), m.now_ms, edits))
    return m.replies()[-1]


def resume(m: Machine, id: bytes, destination: Destination | Nowhere) -> object:
    m.apply(Operate(id, Op.RESUME, m.token(), m.now_ms, destination))
    return m.replies()[-1]


DONE = Restarted(ids.format_invocation_id(NEW_ID))


def finished(m: Machine, place: Place = ("", 0)) -> bytes:
    """Entries: 0 input, 1 sleep, 2 run, 3 run's completion, 4 sleep's, 5 set-by-signal, 6 output."""
    id = m.request(GREET, body=b"in")
    m.burst(id, Sleep(1, m.now_ms + 10), place=place)
    m.burst(id, Run(2, "charge"), place=place)
    m.burst(id, ProposeRun(2, Value(b"42")), place=place)
    m.pass_ms(10)
    m.signal(id, "go", Value(b"yes"))
    m.burst(id, Output(Value(b"out")), m.ended(), place=place)
    return id


# ---- what is taken over --------------------------------------------------------------------------


def test_from_the_input_the_handler_begins_anew_as_another_invocation() -> None:
    m = Machine()
    id = m.request(GREET, body=b"in", headers=(("a", "b"),), idempotency_key="k")
    m.end(id)
    m.now_ms += 5
    before = m.record(id)
    assert restart(m, id) == DONE
    record = m.record(NEW_ID)
    assert m.journal(NEW_ID) == [Input((("a", "b"),), b"in")]
    assert (record.invoked_by, record.restarted_from) == ("restart_as_new", id)
    assert (record.idempotency_key, record.seed, record.created_at_ms) == (None, 99, m.now_ms)
    assert (record.deployment_id, record.pinned, record.status) == ("", False, RUNNING)
    assert m.did(StartAttempt) == [StartAttempt(NEW_ID, 1)]
    assert m.record(id) == before
    m.end(NEW_ID, b"again")
    assert isinstance(m.status(NEW_ID), Completed)


@pytest.mark.parametrize(
    ("from_index", "taken"),
    [(0, [0]), (1, [0, 1, 4]), (2, [0, 1, 2, 3, 4]), (4, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4, 5])],
)
def test_a_prefix_comes_with_the_completions_of_its_commands(
    from_index: int, taken: list[int]
) -> None:
    m = Machine()
    id = finished(m)
    old = m.journal(id)
    assert [type(each) for each in old] == [
        Input, Sleep, Run, Completion, Completion, Signal, Output,
    ]  # fmt: skip
    assert restart(m, id, from_index) == DONE
    m.commit()
    assert m.journal(NEW_ID) == [old[i] for i in taken]
    record = m.record(NEW_ID)
    assert (record.entry_count, record.seed) == (len(taken), 7 if from_index else 99)
    assert m.rows(keys.TIMER) == {}
    m.crash()
    assert m.journal(NEW_ID) == [old[i] for i in taken]
    assert m.record(NEW_ID).restarted_from == id


def test_nothing_of_a_prefix_happens_again() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, SetState("n", b"1"), m.one_way(GREET, number=1))
    m.end(id)
    m.patch("Counter", "a", n=b"5")
    assert restart(m, id, 3, here(ADD)) == DONE
    assert m.state("a") == {"n": b"5"}
    assert m.did(StartAttempt) == [StartAttempt(NEW_ID, 1)]


def test_a_restarted_one_waits_for_the_lock_of_its_key() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.end(id)
    holder = m.request(ADD, "a")
    assert restart(m, id, 0, here(ADD)) == DONE
    assert m.status(NEW_ID) == INBOXED
    m.end(holder)
    assert m.status(NEW_ID) == RUNNING


def test_a_shared_handler_of_a_workflow_is_restarted() -> None:
    m = Machine()
    id = m.request(APPROVE, "w")
    m.end(id)
    assert restart(m, id, 0, here(APPROVE)) == DONE


# ---- edits ---------------------------------------------------------------------------------------


def test_edits_replace_what_was_given_read_and_answered() -> None:
    m = Machine()
    id = finished(m)
    edits = ((0, b"other"), (3, b"43"), (5, b"no"))
    assert restart(m, id, 5, edits=edits) == DONE
    journal = m.journal(NEW_ID)
    assert journal[0] == Input((), b"other")
    assert journal[3] == Completion(2, Value(b"43"))
    assert journal[5] == Signal("go", Value(b"no"))
    assert m.journal(id)[0] == Input((), b"in")


def test_a_failure_is_edited_into_a_value_and_a_read_into_another() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, GetEagerState("n", b"1"), m.call(GREET))
    m.end(m.callee(id))
    m.burst(id, m.fail_out(500, "no"), m.ended())
    last = len(m.journal(id)) - 1
    assert restart(m, id, last, here(ADD), ((1, b"7"), (last, b"ok"))) == DONE
    assert m.journal(NEW_ID)[1] == GetEagerState("n", b"7")
    assert m.journal(NEW_ID)[last] == Output(Value(b"ok"))


@pytest.mark.parametrize("index", [1, 2, 6, 7, -1])
def test_an_edit_needs_a_value_that_is_taken_over(index: int) -> None:
    m = Machine()
    id = finished(m)
    assert restart(m, id, 2, edits=((index, b"x"),)) is OpResult.BAD_EDIT
    assert m.find(NEW_ID) is None


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["running", "backing off", "suspended", "paused"])
def test_what_began_and_is_not_over_is_not_restarted(status: str) -> None:
    m = Machine()
    id = put(m, status)
    assert restart(m, id) is OpResult.NOT_COMPLETED
    assert m.find(NEW_ID) is None


@pytest.mark.parametrize("status", ["inboxed", "scheduled"])
def test_what_did_not_begin_is_not_restarted(status: str) -> None:
    m = Machine()
    assert restart(m, put(m, status)) is OpResult.NOT_STARTED


def test_an_unknown_invocation_is_not_restarted() -> None:
    assert restart(Machine(), bytes(24)) is OpResult.NOT_FOUND


def test_the_run_of_a_workflow_is_not_restarted() -> None:
    m = Machine()
    id = m.request(RUN, "w")
    m.end(id)
    assert restart(m, id) is OpResult.UNSUPPORTED


def test_without_its_journal_nothing_is_restarted() -> None:
    m = Machine()
    id = m.request(GREET)
    m.end(id)
    m.operate(id, Op.PURGE_JOURNAL)
    assert restart(m, id) is OpResult.NO_INPUT
    brief = m.request(BRIEF, "a", idempotency_key="k")
    m.end(brief)
    assert restart(m, brief, 0, here(BRIEF)) is OpResult.NO_INPUT


@pytest.mark.parametrize("from_index", [1, 2, 3, 100])
def test_a_prefix_with_an_open_command_or_beyond_the_end_is_refused(from_index: int) -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, m.now_ms + DAY_MS))
    m.end(id)
    assert restart(m, id, from_index) is OpResult.BAD_PREFIX
    assert restart(m, id, 0) == DONE


def test_a_call_needs_both_of_its_completions() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.call(ADD, "a"))
    assert type(m.journal(id)[2]) is Completion
    m.end(id)
    assert restart(m, id, 2) is OpResult.BAD_PREFIX


def test_an_unknown_deployment_is_refused() -> None:
    m = Machine()
    id = finished(m)
    assert restart(m, id, 0, Nowhere()) is OpResult.NO_DEPLOYMENT


def test_a_prefix_needs_a_deployment_that_speaks_its_version() -> None:
    m = Machine()
    id = finished(m, AT_OLD)
    assert m.record(id).protocol_version == 6
    assert restart(m, id, 2, there(newest=5)) == Incompatible(6, NEW, 5, 5)
    assert restart(m, id, 0, there(newest=5)) == DONE  # an input fits everywhere
    assert m.record(NEW_ID).protocol_version == 5


# ---- deployments ---------------------------------------------------------------------------------


def test_a_prefix_is_tied_to_the_chosen_deployment_in_its_own_version() -> None:
    m = Machine()
    id = finished(m, AT_OLD)
    assert restart(m, id, 2, there(is_latest=True)) == DONE
    record = m.record(NEW_ID)
    assert (record.deployment_id, record.protocol_version, record.pinned) == (NEW, 6, True)


def test_an_input_is_tied_to_a_deployment_only_by_its_id() -> None:
    m = Machine()
    id = finished(m, AT_OLD)
    assert restart(m, id, 0, there(is_latest=True)) == DONE
    assert m.record(NEW_ID).deployment_id == ""
    m = Machine()
    id = finished(m, AT_OLD)
    assert restart(m, id, 0, there()) == DONE
    record = m.record(NEW_ID)
    assert (record.deployment_id, record.protocol_version, record.pinned) == (NEW, 7, True)
    assert record.command_count == 1


def test_a_prefix_from_this_process_goes_on_in_the_version_that_is_agreed_on() -> None:
    m = Machine()
    id = finished(m)
    assert restart(m, id, 2, there(newest=6)) == DONE
    assert m.record(NEW_ID).protocol_version == 6


def test_a_prefix_comes_back_to_this_process() -> None:
    m = Machine()
    id = finished(m, AT_OLD)
    assert restart(m, id, 2, here()) == DONE
    record = m.record(NEW_ID)
    assert (record.deployment_id, record.protocol_version) == ("", 0)


# ---- resume --------------------------------------------------------------------------------------


def pinned(m: Machine, status: str) -> bytes:
    id = m.request(GREET)
    m.burst(id, Sleep(1, m.now_ms + DAY_MS), place=AT_OLD)
    if status == "paused":
        m.operate(id, Op.PAUSE)
    elif status == "suspended":
        m.suspend(id, 1)
    elif status == "backing off":
        m.burst(id, m.failed(), place=AT_OLD)
    return id


@pytest.mark.parametrize("status", ["paused", "suspended"])
def test_what_rests_is_resumed_elsewhere(status: str) -> None:
    m = Machine()
    id = pinned(m, status)
    assert resume(m, id, there()) is OpResult.DONE
    record = m.record(id)
    assert (record.deployment_id, record.protocol_version, record.status) == (NEW, 6, RUNNING)
    assert m.did(StartAttempt) == [StartAttempt(id, record.attempt)]


@pytest.mark.parametrize("status", ["running", "backing off"])
def test_what_runs_stays_where_it_is(status: str) -> None:
    m = Machine()
    id = pinned(m, status)
    before = m.record(id)
    assert resume(m, id, there()) is OpResult.DEPLOYMENT_FIXED
    assert m.record(id) == before


def test_a_resume_elsewhere_is_refused_with_nothing_changed() -> None:
    m = Machine()
    id = pinned(m, "paused")
    before = m.record(id)
    assert resume(m, id, Nowhere()) is OpResult.NO_DEPLOYMENT
    assert resume(m, id, there(newest=5)) == Incompatible(6, NEW, 5, 5)
    assert resume(m, id, there(oldest=7)) == Incompatible(6, NEW, 7, 7)
    assert m.record(id) == before


def test_latest_leaves_a_paused_invocation_without_entries_free() -> None:
    m = Machine()
    id = m.request(GREET)
    m.operate(id, Op.PAUSE)
    assert isinstance(m.status(id), Paused)
    assert resume(m, id, there(is_latest=True)) is OpResult.DONE
    assert m.record(id).deployment_id == ""


def test_an_invocation_without_entries_is_tied_to_a_chosen_deployment() -> None:
    m = Machine()
    id = m.request(GREET)
    m.operate(id, Op.PAUSE)
    assert resume(m, id, there()) is OpResult.DONE
    record = m.record(id)
    assert (record.deployment_id, record.protocol_version, record.pinned) == (NEW, 7, True)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        ("inboxed", OpResult.NOT_STARTED),
        ("scheduled", OpResult.NOT_STARTED),
        ("completed", OpResult.COMPLETED),
    ],
)
def test_a_choice_of_deployment_changes_no_other_refusal(status: str, result: OpResult) -> None:
    m = Machine()
    assert resume(m, put(m, status), there(ADD)) is result


def test_a_failed_completion_stays_a_failure_in_a_prefix() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.call(ADD, "a"))
    m.burst(m.callee(id), m.fail_out(400, "no"), m.ended())
    m.end(id)
    assert restart(m, id, 1) == DONE
    told, answered = m.journal(NEW_ID)[2:]
    assert isinstance(told, Completion)
    assert isinstance(told.result, InvocationId)
    assert answered == Completion(2, Failure(400, "no"))
