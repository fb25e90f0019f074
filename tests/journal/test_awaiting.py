"""When a suspended invocation goes on: the tree of service protocol 5.8."""

import pytest

from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.awaiting import has_leaf, satisfied
from perdure.journal.entries import Completion, Failure, Notification, Signal, Value, Void

UNKNOWN, FIRST, ALL, ANY, TRY = Combinator


def ok(id: int) -> Notification:
    return Completion(id, Value(b""))


def bad(id: int) -> Notification:
    return Completion(id, Failure(500, "no"))


def on(combinator: Combinator, *completions: int, nested: tuple[Awaiting, ...] = ()) -> Awaiting:
    return Awaiting(combinator, completions, (), nested)


@pytest.mark.parametrize(
    ("awaiting", "arrived", "goes_on"),
    [
        (on(UNKNOWN, 1, 2), [], False),
        (on(UNKNOWN, 1, 2), [bad(2)], True),
        (on(UNKNOWN, 1, 2), [ok(3)], False),
        (on(FIRST, 1, 2), [ok(2)], True),
        (on(FIRST, 1, 2), [bad(2)], True),
        (on(ALL, 1, 2), [ok(1)], False),
        (on(ALL, 1, 2), [ok(1), bad(2)], True),
        (on(ANY, 1, 2), [bad(1)], False),
        (on(ANY, 1, 2), [ok(2)], True),
        (on(ANY, 1, 2), [bad(1), bad(2)], True),
        (on(TRY, 1, 2), [ok(1)], False),
        (on(TRY, 1, 2), [bad(2)], True),
        (on(TRY, 1, 2), [ok(1), ok(2)], True),
    ],
)
def test_a_combinator_of_two(
    awaiting: Awaiting, arrived: list[Notification], goes_on: bool
) -> None:
    assert satisfied(awaiting, arrived) is goes_on


def test_a_signal_is_awaited_by_index_or_by_name() -> None:
    awaiting = Awaiting(FIRST, (), (17, "go"))
    assert satisfied(awaiting, [Signal(17, Void())])
    assert satisfied(awaiting, [Signal("go", Void())])
    assert not satisfied(awaiting, [Signal("stay", Void()), Signal(1, Void()), ok(17)])


def test_gather_under_a_cancel_root_goes_on_by_either() -> None:
    gather = Awaiting(FIRST, (), (1,), (on(ALL, 1, 2),))
    assert not satisfied(gather, [ok(1)])
    assert satisfied(gather, [ok(1), ok(2)])
    assert satisfied(gather, [Signal(1, Void())])


def test_an_outcome_that_only_the_handler_knows_wakes_it() -> None:
    mapped = on(UNKNOWN, 1)
    assert satisfied(on(TRY, 2, nested=(mapped,)), [ok(1)])
    assert satisfied(on(ANY, 2, nested=(mapped,)), [bad(1)])
    assert not satisfied(on(ALL, 2, nested=(mapped,)), [ok(1)])


def test_a_decisive_child_counts_before_an_unknown_one() -> None:
    mapped = on(UNKNOWN, 1)
    assert satisfied(on(TRY, 2, nested=(mapped,)), [ok(1), bad(2)])


def test_the_first_of_two_signals_with_one_name_counts() -> None:
    failed_first = [Signal("s", Failure(500, "no")), Signal("s", Void())]
    assert not satisfied(Awaiting(ANY, (1,), ("s",)), failed_first)


def test_nothing_that_arrived_satisfies_nothing() -> None:
    assert not satisfied(on(ALL), [])


def test_a_tree_without_a_leaf_is_recognized() -> None:
    assert not has_leaf(on(FIRST, nested=(on(ALL), on(ANY))))
    assert has_leaf(on(FIRST, nested=(on(ALL), on(ANY, 1))))
    assert has_leaf(Awaiting(FIRST, (), (1,)))
