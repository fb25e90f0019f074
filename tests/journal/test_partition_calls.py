"""Calls between handlers, attach and output. Service protocol 4.2, 5.5, 7 (D5, D6)."""

from itertools import pairwise
from typing import Any

import pytest

from perdure.journal import ids
from perdure.journal.entries import (
    AttachInvocation,
    AttachTarget,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Completion,
    Failure,
    GetInvocationOutput,
    Input,
    Value,
    Void,
)
from perdure.journal.events import Deliver, StartAttempt
from perdure.journal.keys import MAX_TEXT_BYTES
from perdure.journal.reach import ALREADY_INVOKED, NOT_FOUND
from perdure.journal.records import INBOXED, RUNNING, Completed, Scheduled, Waiter
from perdure.journal.schema import Handler
from tests.journal.machine import ADD, GREET, NOW_MS, RUN, Machine, handler


def test_a_call_creates_its_callee_and_learns_its_id_in_the_same_change() -> None:
    m = Machine()
    caller = m.request(GREET)
    call = m.call(ADD, "a", parameter=b"1", headers=(("h", "v"),))
    m.burst(caller, call)
    callee = m.callee(caller)
    assert m.journal(callee) == [Input((("h", "v"),), b"1")]
    record = m.record(callee)
    assert record.status == RUNNING
    assert record.invoked_by == m.text(caller)
    assert record.waiters == (Waiter(caller, 2, NOW_MS),)
    assert m.journal(caller)[1] == call
    assert StartAttempt(callee, 1) in m.acts


@pytest.mark.parametrize("failed", [False, True])
def test_the_result_of_the_callee_completes_the_call(failed: bool) -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(ADD, "a"))
    callee = m.callee(caller)
    if failed:
        m.burst(callee, m.fail_out(418, "teapot"), m.ended())
        result: Value | Failure = Failure(418, "teapot")
    else:
        m.end(callee, b"2")
        result = Value(b"2")
    assert m.journal(caller)[-1] == Completion(2, result)
    assert m.did(Deliver) == [Deliver(caller, 1, ((3, Completion(2, result)),))]


def test_calls_to_one_key_arrive_in_the_order_of_their_commands() -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(ADD, "a", 1), m.one_way(ADD, "a", 3), m.call(ADD, "a", 4))
    line = [m.callee(caller, n) for n in (1, 3, 4)]
    assert [m.status(id) for id in line] == [RUNNING, INBOXED, INBOXED]
    for id, following in pairwise(line):
        m.end(id)
        assert m.did(StartAttempt) == [StartAttempt(following, 1)]


def test_a_one_way_call_may_be_delayed_and_nobody_waits_for_it() -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.one_way(ADD, "a", invoke_at_ms=NOW_MS + 50))
    callee = m.callee(caller)
    assert m.status(callee) == Scheduled(NOW_MS + 50)
    assert m.record(callee).waiters == ()
    m.pass_ms(50)
    assert m.status(callee) == RUNNING


def test_an_idempotent_call_joins_the_invocation_that_is_there() -> None:
    m = Machine()
    caller = m.request(GREET)
    outside = m.request(ADD, "a", idempotency_key="k")
    m.burst(caller, m.call(ADD, "a", 1, idempotency_key="k"))
    m.burst(caller, m.one_way(ADD, "a", 3, idempotency_key="k"))
    assert m.callee(caller, 1) == m.callee(caller, 3) == outside
    m.end(outside, b"1")
    assert m.journal(caller)[-1] == Completion(2, Value(b"1"))
    m.burst(caller, m.call(ADD, "a", 4, idempotency_key="k"))
    assert m.journal(caller)[-1] == Completion(5, Value(b"1"))


@pytest.mark.parametrize("completed", [False, True])
def test_a_workflow_run_is_called_once(completed: bool) -> None:
    m = Machine()
    run, caller = m.request(RUN, "w"), m.request(GREET)
    if completed:
        m.end(run)
    m.burst(caller, m.call(RUN, "w", 1), m.one_way(RUN, "w", 3))
    assert m.callee(caller, 1) == m.callee(caller, 3) == run
    assert Completion(2, ALREADY_INVOKED) in m.journal(caller)


UNKNOWN = handler("Counter", "ad", ADD.type)


@pytest.mark.parametrize(
    ("target", "key", "fields", "code"),
    [
        (UNKNOWN, "a", {}, 404),
        (GREET, "k", {}, 400),
        (ADD, "a", {"idempotency_key": ""}, 400),
        (ADD, "a", {"scope": "s"}, 400),
        (ADD, "a", {"limit_key": "l"}, 400),
        (ADD, "é" * (MAX_TEXT_BYTES // 2 + 1), {}, 400),
    ],
)
def test_a_call_that_no_retry_repairs_fails_at_once(
    target: Handler, key: str, fields: dict[str, Any], code: int
) -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(target, key, **fields))
    answer = m.journal(caller)[-1]
    assert type(answer) is Completion
    assert answer.completion_id == 2
    assert type(answer.result) is Failure
    assert answer.result.code == code
    assert m.find(m.callee(caller)) is None
    sender = m.request(GREET)
    m.burst(sender, m.one_way(target, key, **fields))
    assert len(m.journal(sender)) == 1
    refused = m.status(sender)
    assert type(refused) is Completed
    assert type(refused.result) is Failure
    assert refused.result.code == code


def test_the_longest_key_is_a_key() -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(ADD, "k" * MAX_TEXT_BYTES))
    assert m.status(m.callee(caller)) == RUNNING
    m.commit()
    m.crash()
    assert m.status(m.callee(caller)) == RUNNING


def test_an_unknown_handler_is_named_with_the_nearest_one() -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(UNKNOWN, "a"))
    answer = m.journal(caller)[-1]
    assert type(answer) is Completion
    assert type(answer.result) is Failure
    assert answer.result.message.endswith("Did you mean Counter/add?")


def targets(m: Machine) -> list[tuple[AttachTarget, bytes]]:
    plain = m.request(ADD, "x")
    return [
        (ById(m.text(plain)), plain),
        (ByIdempotencyKey("Counter", "a", "add", "k"), m.request(ADD, "a", idempotency_key="k")),
        (ByIdempotencyKey("Greeter", None, "greet", "k"), m.request(GREET, idempotency_key="k")),
        (ByWorkflow("Flow", "w"), m.request(RUN, "w")),
    ]


@pytest.mark.parametrize("which", range(4))
def test_attach_and_output_find_their_target_in_every_way(which: int) -> None:
    m = Machine()
    target, id = targets(m)[which]
    caller = m.request(GREET)
    m.burst(caller, GetInvocationOutput(1, target), AttachInvocation(2, target))
    assert m.journal(caller)[2:] == [Completion(1, Void()), AttachInvocation(2, target)]
    m.end(id, b"1")
    assert m.journal(caller)[-1] == Completion(2, Value(b"1"))
    m.burst(caller, AttachInvocation(3, target), GetInvocationOutput(4, target))
    assert m.journal(caller)[-3:] == [
        Completion(3, Value(b"1")),
        GetInvocationOutput(4, target),
        Completion(4, Value(b"1")),
    ]


def test_attach_and_output_of_nothing_are_not_found() -> None:
    m = Machine()
    caller = m.request(GREET)
    target = ById(m.text(bytes(24)))
    m.burst(caller, AttachInvocation(1, target), GetInvocationOutput(2, target))
    assert m.journal(caller)[2] == Completion(1, NOT_FOUND)
    assert m.journal(caller)[4] == Completion(2, NOT_FOUND)


def test_attach_to_a_text_that_is_no_id_ends_the_invocation() -> None:
    m = Machine()
    for command in (AttachInvocation(1, ById("x")), GetInvocationOutput(1, ById("x"))):
        caller = m.request(GREET)
        m.burst(caller, command)
        assert len(m.journal(caller)) == 1
        assert type(m.status(caller)) is Completed


def test_a_caller_that_is_over_gets_nothing() -> None:
    m = Machine()
    caller = m.request(GREET)
    m.burst(caller, m.call(ADD, "a"), *m.ending())
    callee = m.callee(caller)
    length = len(m.journal(caller))
    m.end(callee)
    assert len(m.journal(caller)) == length


def test_ids_and_seeds_of_callees_come_from_the_entropy_that_is_handed_in() -> None:
    one, two = Machine(seed=5), Machine(seed=5)
    for m in (one, two):
        caller = m.request(GREET)
        m.burst(caller, m.call(ADD, "a"))
    assert one.callee(caller) == two.callee(caller)
    assert one.record(one.callee(caller)) == two.record(two.callee(caller))
    assert ids.slot_of(int.from_bytes(one.callee(caller)[:8], "big")) == ids.slot_of(
        ids.key_partition("a")
    )
