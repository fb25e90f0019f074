"""How long results and journals stay, and that nothing else does. Ingress 5.3, reliability P18."""

from typing import Any

import pytest

from perdure.journal import keys
from perdure.journal.entries import CompletePromise, Failure, Input, Sleep, Value
from perdure.journal.events import Complete, Expired
from perdure.journal.invocation import retentions_ms
from perdure.journal.keys import ExpiryKind
from perdure.journal.records import RUNNING, Completed
from perdure.journal.requests import Op
from perdure.journal.schema import Handler, HandlerType
from tests.journal.machine import ADD, APPROVE, BRIEF, DAY_MS, GREET, NOW_MS, RUN, Machine, handler

OBJECT, WORKFLOW, SHARED = HandlerType.EXCLUSIVE, HandlerType.WORKFLOW, HandlerType.SHARED
TIMES = {
    "journal_retention_ms": 5,
    "idempotency_retention_ms": 7,
    "workflow_retention_ms": 3,
}


@pytest.mark.parametrize(
    ("target", "idempotency_key", "expected"),
    [
        (handler("Flow", "run", WORKFLOW, **TIMES), None, (3, 3)),
        (handler("Flow", "run", WORKFLOW, **{**TIMES, "workflow_retention_ms": 9}), None, (9, 5)),
        (handler("Flow", "approve", SHARED, **TIMES), None, (5, 5)),
        (handler("Counter", "add", OBJECT, **TIMES), "k", (7, 5)),
        (handler("Counter", "add", OBJECT, **TIMES), "", (7, 5)),
        (handler("Counter", "add", OBJECT, **TIMES), None, (5, 5)),
        (BRIEF, None, (0, 0)),
        (BRIEF, "k", (DAY_MS, 0)),
    ],
)
def test_retention_follows_type_and_idempotency_key(
    target: Handler, idempotency_key: str | None, expected: tuple[int, int]
) -> None:
    assert retentions_ms(target, idempotency_key) == expected


def test_a_result_expires_after_its_retention_and_leaves_nothing() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, Sleep(1, NOW_MS + 99 * DAY_MS), *m.ending())
    m.pass_ms(DAY_MS - 1)
    assert m.expire() == 0
    assert type(m.status(id)) is Completed
    m.pass_ms(1)
    assert m.expire() == 1
    assert m.find(id) is None
    assert set(m.rows()) == {keys.LAST_ARRIVAL}


def test_a_journal_may_expire_before_its_result() -> None:
    target = handler("Counter", "add", OBJECT, journal_retention_ms=5, idempotency_retention_ms=7)
    m = Machine(target)
    id = m.request(target, "a", idempotency_key="k")
    m.end(id, b"1")
    m.pass_ms(5)
    assert m.expire() == 1
    assert m.rows(keys.JOURNAL) == {}
    m.reopen()
    status = m.status(id)
    assert type(status) is Completed
    assert status.result == Value(b"1")
    m.pass_ms(2)
    assert m.expire() == 1
    assert set(m.rows()) == {keys.LAST_ARRIVAL}


def test_without_retention_it_is_gone_once_it_has_answered() -> None:
    m = Machine()
    id = m.request(BRIEF, "a", waits=True)
    m.commit()
    m.burst(id, Sleep(1, NOW_MS + 50), *m.ending())
    assert m.did(Complete) == [Complete(id, Value(b"done"))]
    assert m.find(id) is None
    m.commit()
    assert set(m.rows()) == {keys.LAST_ARRIVAL}


def test_a_call_without_retention_that_begins_and_ends_in_one_commit_writes_almost_nothing() -> (
    None
):
    m = Machine()
    m.end(m.request(BRIEF, "a"))
    written = {key: value for key, value in m.commit() if value is not None}
    assert set(written) == {keys.LAST_ARRIVAL}


def test_without_journal_retention_a_keyed_result_stays_without_its_journal() -> None:
    m = Machine()
    id = m.request(BRIEF, "a", idempotency_key="k")
    m.end(id)
    m.commit()
    m.reopen()
    assert m.rows(keys.JOURNAL) == {}
    assert type(m.status(id)) is Completed


def test_purge_takes_the_expiry_of_the_journal_along() -> None:
    target = handler("Counter", "add", OBJECT, journal_retention_ms=5, idempotency_retention_ms=7)
    m = Machine(target)
    id = m.request(target, "a", idempotency_key="k")
    m.end(id)
    m.commit()
    assert len(m.rows(keys.EXPIRY)) == 2
    m.operate(id, Op.PURGE)
    m.commit()
    assert set(m.rows()) == {keys.LAST_ARRIVAL}


def test_a_killed_sleeper_leaves_no_timer_behind_its_retention() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Sleep(1, NOW_MS + 99 * DAY_MS))
    m.suspend(id, 1)
    m.operate(id, Op.KILL)
    m.pass_ms(DAY_MS)
    m.expire()
    assert m.rows() == {}


@pytest.mark.parametrize("kind", list(ExpiryKind))
def test_an_expiry_of_an_earlier_life_forgets_nothing(kind: ExpiryKind) -> None:
    m = Machine()
    id = m.request(GREET, idempotency_key="k")
    m.end(id)
    stale = keys.expiry(NOW_MS + DAY_MS, kind, id)
    m.operate(id, Op.PURGE)
    m.apply(Expired(stale, kind, id))
    m.now_ms += 1
    m.request(GREET, idempotency_key="k")
    m.apply(Expired(stale, kind, id))
    m.end(id)
    m.apply(Expired(stale, kind, id))
    assert type(m.status(id)) is Completed
    assert len(m.journal(id)) == 2


def test_a_workflows_state_lives_as_long_as_its_result() -> None:
    m = Machine()
    run = m.request(RUN, "w")
    m.burst(run, m.set("n", b"1"), *m.ending())
    m.pass_ms(DAY_MS - 1)
    m.expire()
    assert m.state("w", "Flow") == {"n": b"1"}
    m.pass_ms(1)
    m.expire()
    assert m.state("w", "Flow") == {}
    assert m.rows() == {}


def test_an_objects_state_outlives_its_invocations() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, m.set("n", b"1"), *m.ending())
    m.pass_ms(DAY_MS)
    m.expire()
    assert m.state("a") == {"n": b"1"}


def test_failures_are_kept_like_any_result() -> None:
    m = Machine()
    id = m.request(GREET, idempotency_key="k")
    m.burst(id, m.fail_out(400, "no"), m.ended())
    m.request(GREET, idempotency_key="k", waits=True)
    assert m.replies() == [m.record(id)]
    status = m.status(id)
    assert type(status) is Completed
    assert status.result == Failure(400, "no")


# ---- kept for the one who may ask again -----------------------------------------------------------

KEPT: dict[str, Any] = {"keep_ms": 1_000, "waits": True}
YES = Value(b"true")


def test_without_retention_only_the_same_request_finds_its_end() -> None:
    target = handler("Counter", "add", OBJECT, idempotency_retention_ms=0)
    m = Machine(target)
    first = m.request(target, "a", idempotency_key="k", seed=1, **KEPT)
    m.end(first, b"1")
    assert m.request(target, "a", idempotency_key="k", seed=1, **KEPT) == first
    assert m.replies() == [m.record(first)]  # sent again
    m.attach(first)
    assert m.replies() == [None]
    assert m.request(target, "a", idempotency_key="k", seed=2, body=b"new", **KEPT) == first
    assert m.journal(first) == [Input((), b"new")]
    m.end(first, b"2")
    m.pass_ms(1_000)
    m.expire()
    assert m.find(first) is None
    assert m.rows(keys.EXPIRY) == {}


def test_a_handlers_call_takes_the_place_of_what_is_only_kept() -> None:
    target = handler("Counter", "add", OBJECT, idempotency_retention_ms=0)
    m = Machine(target, GREET)
    kept = m.request(target, "a", idempotency_key="k", **KEPT)
    m.end(kept, b"1")
    caller = m.request(GREET)
    m.burst(caller, m.call(target, "a", idempotency_key="k", parameter=b"again"))
    assert m.journal(kept) == [Input((), b"again")]
    assert m.status(kept) == RUNNING


def test_a_run_that_is_only_kept_has_no_state_and_harms_no_later_promise() -> None:
    brief = handler("Flow", "run", WORKFLOW, workflow_retention_ms=0)
    m = Machine(brief, APPROVE)
    run = m.request(brief, "w", **KEPT)
    m.burst(run, CompletePromise(1, "early", YES), m.set("n", b"1"), *m.ending())
    assert m.rows(keys.STATE) == m.rows(keys.PROMISE) == {}
    assert m.find(run) is not None
    m.burst(m.request(APPROVE, "w"), CompletePromise(1, "next", YES), *m.ending())
    m.pass_ms(1_000)
    m.expire()
    assert m.find(run) is None
    assert len(m.rows(keys.PROMISE)) == 1


def test_a_retention_that_is_set_decides_when_a_name_is_free_again() -> None:
    target = handler("Counter", "add", OBJECT, idempotency_retention_ms=7)
    m = Machine(target)
    first = m.request(target, "a", idempotency_key="k", **KEPT)
    m.end(first, b"1")
    m.pass_ms(7)
    m.expire()
    assert m.find(first) is None
