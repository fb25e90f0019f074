"""The checkers are awake: each one accepts a good history and refuses every kind of bad one."""

import pytest

from tests.crash.checkers import (
    Add,
    Answer,
    Attempted,
    Effect,
    Timer,
    check_answers,
    check_chain,
    check_completions,
    check_effects,
    check_order,
    check_timers,
    share_of_good,
)


def _add(called: int, returned: int, old: int | None, amount: int = 1) -> Add:
    return Add(called, returned, amount, None if old is None else (old, old + amount))


def test_a_chain_with_gaps_that_unknown_adds_pay_is_accepted() -> None:
    adds = [_add(0, 1, 0), _add(2, 3, None, 5), _add(4, 5, 6), _add(4, 6, 7)]
    assert check_chain(adds, 8) == []
    assert check_chain([*adds, _add(7, 8, None)], 9) == []
    assert check_chain([*adds, _add(7, 8, None)], 8) == []


@pytest.mark.parametrize(
    ("adds", "final", "problem"),
    [
        ([_add(0, 1, 0), _add(2, 3, 0)], 1, "an update is lost"),
        ([_add(0, 1, 0)], 0, "1 was acknowledged"),
        ([_add(0, 1, 0)], 2, "1 too much"),
        ([_add(0, 1, 0), _add(2, 3, 2)], 3, "1 too much"),
        ([_add(0, 1, 1), _add(2, 3, 0)], 2, "returned before"),
        ([Add(0, 1, 2, (0, 1))], 1, "made 1 of 0"),
    ],
    ids=["lost", "lost at the end", "doubled at the end", "doubled", "stale", "wrong sum"],
)
def test_a_broken_chain_is_refused(adds: list[Add], final: int, problem: str) -> None:
    assert any(problem in each for each in check_chain(adds, final))


def test_effects_before_the_recorded_one_are_accepted_and_later_ones_refused() -> None:
    first, second = Effect("inv", "0", "life1-1"), Effect("inv", "0", "life2-1")
    assert check_effects([first, second], {("inv", "0"): "life2-1"}) == []
    (problem,) = check_effects([first, second], {("inv", "0"): "life1-1"})
    assert "done again" in problem
    (problem,) = check_effects([first], {("inv", "0"): "life2-1"})
    assert "never happened" in problem
    repeated = Effect("inv", "0", "life1-2")
    (problem,) = check_effects([first, repeated], {("inv", "0"): "life1-2"})
    assert "no crash in between" in problem


@pytest.mark.parametrize(
    "received", [[0, 2, 1], [0, 1], [0, 1, 1, 2], [0, 2]], ids=["order", "lost", "twice", "gap"]
)
def test_anything_but_first_in_first_out_is_refused(received: list[int]) -> None:
    assert check_order([("a", 0), ("b", 0), ("a", 1), ("a", 2)], {"a": 3, "b": 1}) == []
    assert check_order([("a", n) for n in received], {"a": 3})
    assert check_order([("ghost", 0)], {})


def test_a_second_answer_or_id_for_an_idempotency_key_is_refused() -> None:
    good = Answer("key", "inv", b"1")
    assert check_answers([good, good]) == []
    assert check_answers([good, Answer("key", "inv", b"2")])
    assert check_answers([good, Answer("key", "other", b"1")])
    assert check_answers([good, Answer("other", "inv", b"1")])


def test_an_early_or_doubled_timer_is_refused() -> None:
    assert check_timers([Timer("a", 10, 10), Timer("b", 10, 9), Timer("c", 10, 99)]) == []
    assert check_timers([Timer("a", 10, 8)])
    assert check_timers([Timer("a", 10, 10), Timer("a", 10, 11)])


def test_a_lost_or_invented_completion_is_refused() -> None:
    assert check_completions({"a": ["x", "y"]}, {"a": "y"}) == []
    assert check_completions({"a": ["x"]}, {})
    assert check_completions({"a": ["x"]}, {"a": "z"})


def test_requests_that_touch_a_fault_window_are_not_counted() -> None:
    requests = [Attempted(0, 1, True), Attempted(2, 5, False), Attempted(7, 8, False)]
    assert share_of_good(requests, [(4, 6)]) == (1, 1, 1)
