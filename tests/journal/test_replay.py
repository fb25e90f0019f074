"""The pure replay machine: ids, matching, state reads, order of notifications, cancellation."""

import pytest

from perdure.journal.attempt import Awaiting, Combinator, Start
from perdure.journal.entries import (
    Call,
    ClearAllState,
    ClearState,
    Command,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    Input,
    InvocationId,
    OneWayCall,
    Output,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.errors import JournalMismatch
from perdure.journal.replay import PENDING, Progress, Replay, awaiting, awaiting_any
from perdure.journal.schema import Handler, HandlerType, ServiceType

HANDLER = Handler("Counter", "add", HandlerType.EXCLUSIVE, ServiceType.VIRTUAL_OBJECT)
INPUT = Input((), b"1")
VOID = Void()


def replay(*entries: Entry, state: dict[str, bytes] | None = None, complete: bool = True) -> Replay:
    return Replay(
        Start(bytes(24), 1, HANDLER, "k", (INPUT, *entries), dict(state or {}), complete, 42)
    )


# ---- ids ----------------------------------------------------------------------------------------


def test_completion_ids_count_from_one_and_every_state_read_takes_one() -> None:
    machine = replay(state={"a": b"1"})
    assert machine.new_completion_id() == 1
    assert machine.get_state("a") == (2, b"1")
    assert machine.get_state_keys() == (3, ("a",))
    assert machine.new_completion_id() == 4


def test_awakeables_count_from_seventeen() -> None:
    machine = replay()
    assert [machine.new_awakeable(), machine.new_awakeable()] == [17, 18]


# ---- matching -----------------------------------------------------------------------------------


def test_new_commands_are_appended_and_recorded_ones_are_not() -> None:
    machine = replay(SetState("a", b"1"))
    assert machine.replaying
    machine.issue(SetState("a", b"1"))
    assert not machine.replaying
    assert not machine.wrote_new
    machine.issue(SetState("b", b"2"))
    assert machine.wrote_new
    assert machine.outgoing == [SetState("b", b"2")]


def test_moments_may_differ_in_a_replay() -> None:
    machine = replay(
        Sleep(1, 1000, "nap"), OneWayCall(2, "S", "h", "", b"", 1000), Sleep(3, 1000, "nap")
    )
    machine.issue(Sleep(1, 2000, "nap"))
    machine.issue(OneWayCall(2, "S", "h", "", b"", 2000))
    with pytest.raises(JournalMismatch):
        machine.issue(Sleep(3, 1000, "other"))


@pytest.mark.parametrize(
    ("recorded", "issued", "texts"),
    [
        (SetState("a", b"1"), SetState("a", b"2"), ["set_state", "value=1", "value=2", "recorded"]),
        (SetState("a", b"1"), ClearState("a"), ["set_state 'a'", "clear_state 'a'", "order"]),
        (Run(1, "charge"), Run(1, "refund"), ["'charge'", "'refund'", "renamed"]),
        (
            Call(1, 2, "A", "h", "", b"1"),
            Call(1, 2, "B", "h", "", b"1"),
            ["call A/h", "call B/h", "addresses something else"],
        ),
        (
            OneWayCall(1, "A", "h", "", b"1", 5),
            OneWayCall(1, "A", "h", "", b"2", 6),
            ["parameter=1", "parameter=2", "ctx.uuid()"],
        ),
        (Sleep(1, 5, "a"), Sleep(1, 6, "b"), ["name='a'", "name='b'"]),
        (GetEagerState("a", b"1"), SetState("a", b"1"), ["get_eager_state", "set_state"]),
    ],
)
def test_mismatch_names_both_commands_place_and_cause(
    recorded: Entry, issued: Command, texts: list[str]
) -> None:
    machine = replay(SetState("before", b""), recorded)
    machine.issue(SetState("before", b""))
    with pytest.raises(JournalMismatch) as caught:
        machine.issue(issued)
    message = str(caught.value)
    for text in [*texts, "command 2 of Counter/add", "test_replay.py:", "What to do"]:
        assert text in message, message
    assert caught.value.code == 570


def test_long_values_are_shortened_in_a_mismatch() -> None:
    machine = replay(SetState("a", b"x" * 5000))
    with pytest.raises(JournalMismatch) as caught:
        machine.issue(SetState("a", b"\xff" * 5000))
    assert len(str(caught.value)) < 1500


def test_the_end_must_come_where_it_was_recorded() -> None:
    machine = replay(SetState("a", b"1"))
    with pytest.raises(JournalMismatch, match="the handler ended") as caught:
        machine.finish(Output(Value(b"1")), "counter.py:7")
    assert "counter.py:7" in str(caught.value)


def test_a_recorded_output_is_compared_and_not_written_again() -> None:
    machine = replay(Output(Value(b"1")))
    machine.finish(Output(Value(b"1")), "")
    assert machine.outgoing == []
    with pytest.raises(JournalMismatch, match="another result"):
        replay(Output(Value(b"1"))).finish(Output(Failure(500, "x")), "here")


def test_a_new_output_is_appended() -> None:
    machine = replay()
    machine.finish(Output(Value(b"1")), "")
    assert machine.outgoing == [Output(Value(b"1"))]


# ---- state --------------------------------------------------------------------------------------


def test_reads_are_eager_where_the_map_knows_and_lazy_elsewhere() -> None:
    machine = replay(state={"a": b"1"}, complete=False)
    assert machine.get_state("a", "named") == (1, b"1")
    assert machine.get_state("b") == (2, PENDING)
    assert machine.get_state_keys("n") == (3, PENDING)
    assert machine.outgoing == [
        GetEagerState("a", b"1", "named"),
        GetLazyState(2, "b"),
        GetLazyStateKeys(3, "n"),
    ]


def test_complete_map_answers_absent_keys_and_lists_keys_in_order() -> None:
    machine = replay(state={"b": b"1", "a": b"2"})
    assert machine.get_state("c") == (1, None)
    assert machine.get_state_keys() == (2, ("a", "b"))
    assert machine.outgoing == [GetEagerState("c", None), GetEagerStateKeys(("a", "b"))]


def test_writes_are_seen_by_later_reads() -> None:
    machine = replay(state={"a": b"1"}, complete=False)
    machine.set_state("b", b"2")
    assert machine.get_state("b")[1] == b"2"
    machine.clear_state("a")
    assert machine.get_state("a")[1] is PENDING  # a partial map knows nothing of it any more
    machine.clear_all_state("bye")
    assert machine.get_state("b")[1] is None
    assert machine.get_state_keys()[1] == ()
    assert ClearAllState("bye") in machine.outgoing


def test_recorded_reads_win_over_the_map_and_may_be_of_either_kind() -> None:
    machine = replay(
        GetEagerState("a", b"old"),
        GetLazyState(2, "a"),
        Completion(2, Value(b"lazy")),
        GetEagerStateKeys(("x",)),
        GetLazyStateKeys(4),
        Completion(4, StateKeys(("y",))),
        state={"a": b"new"},
    )
    assert machine.get_state("a") == (1, b"old")
    assert machine.get_state("a") == (2, PENDING)
    assert machine.get_state_keys() == (3, ("x",))
    assert machine.get_state_keys() == (4, PENDING)


def test_a_read_of_another_key_is_a_mismatch() -> None:
    with pytest.raises(JournalMismatch, match="get_lazy_state 'b'"):
        replay(GetEagerState("a", b"1")).get_state("b")
    with pytest.raises(JournalMismatch):
        replay(GetEagerState("a", b"1")).get_state_keys()


# ---- notifications ------------------------------------------------------------------------------


def test_awaits_consume_notifications_in_order_only_until_satisfied() -> None:
    machine = replay(
        Completion(2, Value(b"2")), Completion(1, Value(b"1")), Completion(3, Value(b"3"))
    )
    assert machine.advance({1}, False) is Progress.READY
    assert machine.has(2)
    assert not machine.has(3)
    assert machine.take(1) == Value(b"1")
    assert not machine.has(1)


def test_all_of_waits_for_every_one_and_any_of_for_one() -> None:
    machine = replay(Completion(2, VOID), Completion(1, VOID))
    missing: set[int | str] = {1, 2, 3}
    assert machine.advance(missing, True) is Progress.BLOCKED
    assert missing == {3}
    machine.deliver(3, Completion(3, VOID))
    assert machine.seen_count == 4
    assert machine.advance(missing, True) is Progress.READY
    any_of: set[int | str] = {2, 9}
    assert machine.settle(any_of, False)
    assert any_of == {9}


def test_signals_queue_up_and_each_is_taken_once() -> None:
    machine = replay(Signal("s", Value(b"1")), Signal(17, VOID), Signal("s", Value(b"2")))
    assert machine.advance({-17}, False) is Progress.READY
    assert machine.take("s") == Value(b"1")
    assert not machine.has("s")
    assert machine.advance({"s"}, False) is Progress.READY
    assert machine.take("s") == Value(b"2")


def test_first_completion_of_an_id_counts() -> None:
    machine = replay(Completion(1, Value(b"a")), Completion(1, Value(b"b")))
    machine.advance({2}, False)
    assert machine.take(1) == Value(b"a")


def test_blocking_while_recorded_commands_are_left_is_a_mismatch() -> None:
    machine = replay(Sleep(1, 1, "nap"), Run(2, "x"), Completion(2, VOID))
    machine.issue(Sleep(1, 9, "nap"))
    assert machine.advance({1}, False) is Progress.BLOCKED
    with pytest.raises(JournalMismatch) as caught:
        machine.refuse_to_block({1}, "counter.py:3")
    message = str(caught.value)
    assert "waits for sleep 'nap'" in message
    assert "run 'x'" in message
    assert "counter.py:3" in message


# ---- cancellation -------------------------------------------------------------------------------


def test_cancel_is_consumed_once_and_passed_on_to_calls() -> None:
    machine = replay(Signal(1, VOID))
    for id_completion in (1, 3):
        machine.issue(Call(id_completion, id_completion + 1, "S", "h", "", b""))
        machine.track_call(id_completion)
    machine.issue(OneWayCall(5, "S", "h", "", b""))
    assert machine.advance({2}, False) is Progress.CANCELLED
    assert machine.unknown_call_ids() == {1, 3}
    machine.deliver(5, Completion(3, InvocationId("inv_b")))
    machine.deliver(6, Completion(1, InvocationId("inv_a")))
    assert machine.unknown_call_ids() == set()
    machine.cancel_calls()
    assert machine.outgoing[-2:] == [SendSignal("inv_a", 1, VOID), SendSignal("inv_b", 1, VOID)]
    assert machine.advance({2}, False) is Progress.BLOCKED
    assert machine.take(1) == InvocationId("inv_a")
    assert machine.has(1)  # ids stay


def test_a_cancel_that_comes_while_ids_are_collected_ends_a_later_await() -> None:
    machine = replay(Signal(1, VOID), Signal(1, VOID), Completion(1, InvocationId("inv_a")))
    machine.issue(Call(1, 2, "S", "h", "", b""))
    machine.track_call(1)
    assert machine.advance({2}, False) is Progress.CANCELLED
    assert machine.unknown_call_ids() == set()
    machine.cancel_calls()
    assert machine.advance({2}, False) is Progress.CANCELLED
    assert machine.advance({2}, False) is Progress.BLOCKED


def test_what_is_there_already_is_not_cancelled() -> None:
    machine = replay(Completion(1, VOID), Signal(1, VOID))
    assert machine.advance({1}, False) is Progress.READY
    assert machine.settle({1}, False)


# ---- the awaited tree ---------------------------------------------------------------------------


def test_every_await_can_also_end_by_the_cancel_signal() -> None:
    assert awaiting({3, 1, -17, "s"}, False).signals == (17, "s", 1)
    assert awaiting({3, 1}, False) == Awaiting(Combinator.FIRST_COMPLETED, (1, 3), (1,))
    assert awaiting({3, 1}, True) == Awaiting(
        Combinator.FIRST_COMPLETED, (), (1,), (Awaiting(Combinator.ALL_COMPLETED, (1, 3)),)
    )
    one = awaiting({1}, True)
    assert one == Awaiting(Combinator.FIRST_COMPLETED, (1,), (1,))
    assert awaiting_any([one]) is one
    assert awaiting_any([one, one]) == Awaiting(Combinator.FIRST_COMPLETED, nested=(one, one))


def test_a_long_journal_replays_in_linear_time() -> None:
    entries: list[Entry] = []
    for number in range(1, 10_001):
        entries += [Run(number, "r"), Completion(number, Value(b"x"))]
    machine = replay(*entries)
    for number in range(1, 10_001):
        machine.issue(Run(machine.new_completion_id(), "r"))
        assert machine.advance({number}, False) is Progress.READY
        assert machine.take(number) == Value(b"x")
    assert not machine.replaying
    assert not machine.outgoing
