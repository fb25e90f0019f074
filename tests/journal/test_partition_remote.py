"""What the partition does differently for attempts at a deployment (service protocol 5.3, 5.5)."""

import pytest

from perdure.journal.attempt import Behavior, Ended, Frame, ProposeRun
from perdure.journal.entries import (
    Call,
    ClearAllState,
    GetEagerState,
    Output,
    Run,
    SetState,
    Sleep,
    Value,
    Verbatim,
)
from perdure.journal.records import BackingOff, Completed, Running
from tests.journal.machine import ADD, GET, GREET, NOW_MS, Machine, Place

THERE: Place = ("dp_1there", 6)


def test_the_first_new_entry_pins_an_invocation_to_its_deployment() -> None:
    m = Machine()
    id = m.request(GREET)
    assert not m.record(id).pinned
    m.burst(id, Run(1, "r"), place=THERE)
    record = m.record(id)
    assert record.pinned
    assert (record.deployment_id, record.protocol_version) == THERE
    m.commit()
    m.crash()
    assert m.record(id).deployment_id == THERE[0]


def test_an_attempt_that_journals_nothing_pins_nothing() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.failed(message="down"), place=THERE)
    record = m.record(id)
    assert not record.pinned
    assert record.deployment_id == ""


def test_an_attempt_in_this_process_names_no_deployment_and_is_pinned_all_the_same() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Run(1, "r"))
    assert m.record(id).pinned
    assert m.record(id).deployment_id == ""


@pytest.mark.parametrize(
    ("target", "frame"),
    [
        (GREET, Call(1, 2, "Nobody", "home", "", b"")),
        (GREET, SetState("k", b"v")),
        (GREET, GetEagerState("k", None)),
        (GET, ClearAllState()),
    ],
    ids=[
        "unknown callee",
        "eager read of a plain service",
        "state of a plain service",
        "write in a shared handler",
    ],
)
def test_what_a_deployment_may_not_ask_for_is_tried_again(target: object, frame: Frame) -> None:
    m = Machine()
    id = m.request(GREET) if target is GREET else m.request(GET, "a")
    m.burst(id, frame, Sleep(7, NOW_MS + 5), place=THERE)
    assert type(m.record(id).status) is BackingOff
    assert len(m.journal(id)) == 1, "neither the command nor what follows it is stored"
    assert not m.record(id).pinned


def test_commands_before_a_refused_one_stay() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, SetState("k", b"v"), Call(1, 2, "Nobody", "home", "", b""), place=THERE)
    assert m.journal(id)[1:] == [SetState("k", b"v")]
    assert m.state("a") == {"k": b"v"}


def test_a_message_that_says_more_than_we_know_is_kept_and_takes_effect() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    odd = Verbatim(SetState("k", b"v"), b"\x0a\x01k\x1a\x03\x0a\x01v\xf8\x07\x01")
    m.burst(id, Run(1), odd, place=THERE)
    m.commit()
    m.crash()
    assert m.journal(id)[1:] == [Run(1), odd]
    assert m.state("a") == {"k": b"v"}
    assert m.record(id).command_count == 3


def test_an_output_with_more_than_we_know_is_still_the_answer() -> None:
    m = Machine()
    id = m.request(GREET)
    odd = Verbatim(Output(Value(b"x")), b"\x72\x03\x0a\x01x\xf8\x07\x01")
    m.burst(id, odd, place=THERE)
    m.burst(id, Ended(), place=THERE)
    status = m.record(id).status
    assert type(status) is Completed
    assert status.result == Value(b"x")


def test_an_attempt_that_never_began_is_not_counted_for_the_handlers_side() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.failed(message="nobody there", counts=False))
    record = m.record(id)
    assert (record.retry_count, record.failed_attempts) == (0, 1)


def test_a_failure_that_the_deployment_calls_final_ends_the_invocation() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, m.failed(message="no", behavior=Behavior.FAIL), place=THERE)
    assert type(m.record(id).status) is Completed


def test_a_run_proposal_pins_too() -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, Run(1), ProposeRun(1, Value(b"1")), place=THERE)
    assert type(m.record(id).status) is Running
    assert m.record(id).deployment_id == THERE[0]
