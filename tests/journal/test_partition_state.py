"""State of keys: reads, writes, who may, and operators' patches. Service protocol 5.5, admin 5.5."""

import pytest

from perdure.journal.entries import (
    ClearAllState,
    ClearState,
    Command,
    Completion,
    GetLazyState,
    GetLazyStateKeys,
    SetState,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.events import Deliver, StartAttempt
from perdure.journal.records import INBOXED, RUNNING, Completed
from perdure.journal.schema import Handler
from perdure.journal.state_version import state_version
from tests.journal.machine import ADD, APPROVE, GET, GREET, RUN, Machine


def completions(m: Machine) -> list[Completion]:
    return [n for act in m.did(Deliver) for _, n in act.entries]


def test_lazy_reads_are_answered_from_the_state_as_it_is_at_that_command() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, GetLazyState(1, "n"), SetState("n", b"1"), GetLazyState(2, "n"), ClearState("n"))
    m.burst(id, GetLazyState(3, "n"))
    assert m.journal(id)[2] == Completion(1, Void())
    assert m.journal(id)[5] == Completion(2, Value(b"1"))
    assert completions(m) == [Completion(3, Void())]


def test_an_empty_value_is_not_an_absent_one() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, SetState("n", b""), GetLazyState(1, "n"))
    assert completions(m) == [Completion(1, Value(b""))]


def test_keys_are_listed_in_order() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, SetState("b", b"1"), SetState("a", b"2"), GetLazyStateKeys(1))
    assert completions(m) == [Completion(1, StateKeys(("a", "b")))]


def test_clear_all_takes_what_is_durable_and_what_is_not() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, SetState("old", b"1"))
    m.commit()
    m.burst(id, SetState("new", b"2"), ClearAllState(), SetState("after", b"3"))
    m.commit()
    m.reopen()
    assert m.state("a") == {"after": b"3"}


def test_state_belongs_to_one_key_of_one_service() -> None:
    m = Machine()
    a, b, w = m.request(ADD, "a"), m.request(ADD, "b"), m.request(RUN, "a")
    for id, value in ((a, b"1"), (b, b"2"), (w, b"3")):
        m.burst(id, SetState("n", value))
    m.commit()
    m.reopen()
    assert m.state("a") == {"n": b"1"}
    assert m.state("b") == {"n": b"2"}
    assert m.state("a", "Flow") == {"n": b"3"}


WRITES: list[Command] = [SetState("n", b"1"), ClearState("n"), ClearAllState()]
READS: list[Command] = [GetLazyState(1, "n"), GetLazyStateKeys(1)]


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("target", [GET, APPROVE, GREET], ids=["shared", "approve", "service"])
def test_only_exclusive_handlers_and_workflow_runs_write(target: Handler, command: Command) -> None:
    m = Machine()
    id = m.request(target, None if target is GREET else "a")
    m.burst(id, command)
    assert len(m.journal(id)) == 1
    assert type(m.status(id)) is Completed


@pytest.mark.parametrize("command", READS)
@pytest.mark.parametrize("target", [ADD, GET, RUN, APPROVE], ids=lambda h: h.name)
def test_every_keyed_handler_reads(target: Handler, command: Command) -> None:
    m = Machine()
    id = m.request(target, "a")
    m.burst(id, command)
    assert len(m.journal(id)) == 3


@pytest.mark.parametrize("command", READS)
def test_a_plain_service_has_no_state_to_read(command: Command) -> None:
    m = Machine()
    id = m.request(GREET)
    m.burst(id, command)
    assert len(m.journal(id)) == 1
    assert type(m.status(id)) is Completed


def test_what_a_failed_attempt_wrote_stays() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, SetState("n", b"1"))
    m.burst(id, SetState("m", b"2"), m.failed())
    assert m.state("a") == {"n": b"1", "m": b"2"}


def test_a_patch_replaces_the_whole_state_of_a_free_key() -> None:
    m = Machine()
    m.patch("Counter", "a", x=b"1", y=b"2")
    assert m.replies() == [None]
    m.patch("Counter", "a", y=b"3")
    assert m.state("a") == {"y": b"3"}
    m.commit()
    m.reopen()
    assert m.state("a") == {"y": b"3"}


def test_a_patch_waits_its_turn_and_then_the_next_one_runs() -> None:
    m = Machine()
    first = m.request(ADD, "a")
    m.patch("Counter", "a", n=b"patched")
    m.patch("Counter", "a", version="stale", n=b"never")
    second = m.request(ADD, "a")
    m.commit()
    m.crash()
    assert (m.status(first), m.status(second)) == (RUNNING, INBOXED)
    m.burst(first, SetState("n", b"1"))
    assert m.state("a") == {"n": b"1"}
    m.end(first)
    assert m.state("a") == {"n": b"patched"}
    assert m.did(StartAttempt) == [StartAttempt(second, 1)]


def test_a_patch_behind_the_last_one_leaves_the_key_free() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.patch("Counter", "a", n=b"1")
    m.end(id)
    assert m.tables.mailbox(("Counter", "a")).empty
    assert m.status(m.request(ADD, "a")) == RUNNING


def test_a_patch_of_another_version_is_ignored() -> None:
    m = Machine()
    m.patch("Counter", "a", n=b"1")
    version = state_version({"n": b"1"})
    m.patch("Counter", "a", version=version, n=b"2")
    assert m.state("a") == {"n": b"2"}
    m.patch("Counter", "a", version=version, n=b"3")
    assert m.state("a") == {"n": b"2"}
    assert m.replies() == [None]
