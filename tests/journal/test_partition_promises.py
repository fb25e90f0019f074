"""Durable promises of workflows: completed once, told to all. Service protocol 5.5, 8.8."""

import pytest

from perdure.journal import keys
from perdure.journal.effects import PROMISE_COMPLETED
from perdure.journal.entries import (
    Command,
    CompletePromise,
    Completion,
    Failure,
    GetPromise,
    Outcome,
    PeekPromise,
    Value,
    Void,
)
from perdure.journal.events import Deliver, StartAttempt
from perdure.journal.records import Completed
from perdure.journal.schema import Handler
from tests.journal.machine import ADD, APPROVE, DAY_MS, GREET, RUN, Machine, handler

YES = Value(b"yes")


@pytest.mark.parametrize("result", [YES, Failure(400, "no")])
def test_a_promise_answers_all_who_wait_and_all_who_come_later(result: Outcome) -> None:
    m = Machine()
    run, other, resolver = m.request(RUN, "w"), m.request(APPROVE, "w"), m.request(APPROVE, "w")
    m.burst(run, GetPromise(1, "p"))
    m.burst(other, GetPromise(3, "p"))
    assert m.acts == []
    m.burst(resolver, CompletePromise(1, "p", result))
    assert m.journal(resolver)[-1] == Completion(1, Void())
    assert m.journal(run)[-1] == Completion(1, result)
    assert m.journal(other)[-1] == Completion(3, result)
    assert {act.id for act in m.did(Deliver)} == {run, other, resolver}
    m.burst(run, GetPromise(2, "p"), PeekPromise(3, "p"))
    assert m.journal(run)[-3:] == [
        Completion(2, result),
        PeekPromise(3, "p"),
        Completion(3, result),
    ]


def test_the_first_completion_wins_for_ever() -> None:
    m = Machine()
    run, late = m.request(RUN, "w"), m.request(APPROVE, "w")
    m.burst(late, CompletePromise(1, "p", YES), CompletePromise(2, "p", Failure(500, "no")))
    assert m.journal(late)[-1] == Completion(2, PROMISE_COMPLETED)
    m.commit()
    m.crash()
    m.burst(late, CompletePromise(3, "p", Value(b"third")))
    assert m.journal(late)[-1] == Completion(3, PROMISE_COMPLETED)
    m.burst(run, GetPromise(1, "p"))
    assert m.journal(run)[-1] == Completion(1, YES)


def test_peeking_does_not_wait() -> None:
    m = Machine()
    run = m.request(RUN, "w")
    m.burst(run, PeekPromise(1, "p"))
    assert m.journal(run)[-1] == Completion(1, Void())
    m.commit()
    assert m.rows(keys.PROMISE) == {}


def test_a_promise_wakes_a_suspended_run_and_survives_a_crash() -> None:
    m = Machine()
    run = m.request(RUN, "w")
    m.burst(run, GetPromise(1, "p"))
    m.suspend(run, 1)
    m.commit()
    m.crash()
    resolver = m.request(APPROVE, "w")
    m.burst(resolver, CompletePromise(1, "p", YES))
    assert m.journal(run)[-1] == Completion(1, YES)
    assert StartAttempt(run, 2) in m.acts


def test_promises_belong_to_one_workflow_key_and_one_name() -> None:
    m = Machine()
    v, w = m.request(RUN, "v"), m.request(RUN, "w")
    m.burst(v, CompletePromise(1, "p", YES))
    m.burst(w, PeekPromise(1, "p"), PeekPromise(2, "q"))
    assert [m.journal(w)[2], m.journal(w)[4]] == [Completion(1, Void()), Completion(2, Void())]


PROMISE_COMMANDS: list[Command] = [
    GetPromise(1, "p"),
    PeekPromise(1, "p"),
    CompletePromise(1, "p", YES),
]


@pytest.mark.parametrize("command", PROMISE_COMMANDS)
@pytest.mark.parametrize("target", [ADD, GREET], ids=lambda h: h.service)
def test_only_workflows_have_promises(target: Handler, command: Command) -> None:
    m = Machine()
    id = m.request(target, None if target is GREET else "w")
    m.burst(id, command)
    assert len(m.journal(id)) == 1
    assert type(m.status(id)) is Completed


def test_promises_may_be_completed_before_the_run_and_go_with_it() -> None:
    m = Machine()
    early = m.request(APPROVE, "w")
    m.burst(early, CompletePromise(1, "p", YES))
    m.end(early)
    run = m.request(RUN, "w")
    m.burst(run, GetPromise(1, "p"))
    assert m.journal(run)[-1] == Completion(1, YES)
    m.end(run)
    m.pass_ms(DAY_MS)
    m.expire()
    assert m.rows(keys.PROMISE) == {}
    again = m.request(RUN, "w")
    m.burst(again, PeekPromise(1, "p"))
    assert m.journal(again)[-1] == Completion(1, Void())


def test_without_retention_state_and_promises_go_when_the_run_ends() -> None:
    brief = handler("Flow", "run", RUN.type, workflow_retention_ms=0)
    m = Machine(brief, APPROVE)
    run = m.request(brief, "w")
    m.burst(run, CompletePromise(1, "early", YES), m.set("n", b"1"))
    m.commit()
    m.burst(run, CompletePromise(2, "late", YES), m.set("m", b"1"), *m.ending())
    m.commit()
    assert m.find(run) is None
    assert set(m.rows()) == {keys.LAST_ARRIVAL} & set(m.rows())


def test_a_result_for_an_earlier_life_of_a_run_is_dropped() -> None:
    """A waiter names the life that waits, since ids of workflow runs come again."""
    m = Machine()
    run, callee = m.request(RUN, "w"), m.request(ADD, "a", idempotency_key="k")
    m.burst(run, m.call(ADD, "a", idempotency_key="k"), *m.ending())
    m.pass_ms(DAY_MS)
    m.expire()
    m.request(RUN, "w")
    m.burst(run, m.call(GREET))
    before = m.journal(run)
    m.end(callee)
    assert m.journal(run) == before
