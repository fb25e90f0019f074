"""One decision in the making: it reads its own writes and leaves the view alone."""

from random import Random

from perdure.journal.attempt import ProposeRun
from perdure.journal.entries import Completion, Run, Signal, Value, Void
from perdure.journal.events import Deliver, Entropy, Frames
from perdure.journal.keys import TimerKind
from perdure.journal.partition import step
from perdure.journal.records import Promise
from perdure.journal.turn import Turn
from tests.journal.machine import ADD, GREET, NOW_MS, RUN, Machine

ADDRESS = ("Counter", "a")


def test_deciding_changes_nothing_and_the_same_chance_decides_the_same() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    frames = (m.set("n", b"1"), m.call(ADD, "b"), m.failed())
    decided = [
        step(m.tables, Frames(id, 1, frames, NOW_MS, Entropy(Random(seed).randbytes)))
        for seed in (1, 1, 2)
    ]
    assert decided[0] == decided[1] != decided[2]
    assert m.state("a") == {}
    assert len(m.journal(id)) == 1
    assert m.record(id).entry_count == 1


def test_a_turn_reads_its_own_writes() -> None:
    m = Machine()
    id = m.request(ADD, "a")
    m.burst(id, m.set("n", b"1"))
    turn = Turn(m.tables, NOW_MS)
    turn.set_state(ADDRESS, "n", None)
    turn.set_state(ADDRESS, "m", b"2")
    assert turn.state(ADDRESS) == {"m": b"2"}
    turn.put(id, None)
    assert turn.invocation(id) is None
    turn.promises[(ADDRESS, "p")] = Promise()
    assert turn.promise(ADDRESS, "p") == Promise()
    assert turn.promise_names(ADDRESS) == ["p"]
    turn.promises[(ADDRESS, "p")] = None
    assert turn.promise_names(ADDRESS) == []
    assert m.state("a") == {"n": b"1"}
    assert m.find(id) is not None


def test_the_state_that_a_turn_hands_out_is_a_copy() -> None:
    m = Machine()
    turn = Turn(m.tables, NOW_MS)
    turn.state(ADDRESS)["n"] = b"1"
    assert turn.state(ADDRESS) == {} == m.state("a")


def test_entries_get_the_next_indexes_and_are_folded_into_the_record() -> None:
    m = Machine()
    id = m.request(GREET)
    turn = Turn(m.tables, NOW_MS + 5)
    assert [turn.append(id, Run(1)), turn.append(id, Signal("s", Void()))] == [1, 2]
    assert turn.entries_from(id, 0)[1:] == [Run(1), Signal("s", Void())]
    assert turn.entries_from(id, 2) == [Signal("s", Void())]
    decided = turn.close()
    record = decided.invocations[id]
    assert record is not None
    assert (record.entry_count, record.command_count) == (3, 2)
    assert record.modified_at_ms == NOW_MS + 5
    assert decided.entries == {id: (1, [Run(1), Signal("s", Void())])}


def test_deliveries_of_one_attempt_leave_together_in_order() -> None:
    m = Machine()
    id = m.request(GREET)
    first, second = Completion(1, Value(b"")), Completion(2, Value(b""))
    m.burst(id, Run(1), Run(2), ProposeRun(1, Value(b"")), ProposeRun(2, Value(b"")))
    assert m.did(Deliver) == [Deliver(id, 1, ((3, first), (4, second)))]


def test_a_forgotten_journal_takes_what_the_turn_appended_along() -> None:
    m = Machine()
    id = m.request(GREET)
    turn = Turn(m.tables, NOW_MS)
    turn.append(id, Run(1))
    turn.put(id, None)
    turn.forget_journal(id)
    decided = turn.close()
    assert decided.entries == {}
    assert decided.forgotten_journals == [id]


def test_arrival_numbers_are_given_out_once() -> None:
    m = Machine()
    m.request(ADD, "a")
    turn = Turn(m.tables, NOW_MS)
    assert [turn.next_arrival(), turn.next_arrival()] == [2, 3]
    assert m.tables.last_arrival == 1
    assert turn.close().last_arrival == 3


def test_a_timer_that_is_set_and_cleared_in_one_turn_is_deleted() -> None:
    m = Machine()
    id = m.request(RUN, "w")
    turn = Turn(m.tables, NOW_MS)
    turn.set_timer(NOW_MS, TimerKind.SLEEP, id, m.record(id), 4)
    turn.clear_timer(NOW_MS, TimerKind.SLEEP, id, 4)
    assert list(turn.close().rows.values()) == [None]
