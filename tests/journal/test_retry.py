"""When the next attempt begins: service protocol 5.9."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.journal.retry import next_delay_ms, with_jitter
from perdure.journal.schema import RetryPolicy


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    policy = RetryPolicy(initial_interval_ms=500, factor=2.0, max_interval_ms=3_000)
    assert [next_delay_ms(policy, n) for n in range(1, 6)] == [500, 1_000, 2_000, 3_000, 3_000]


def test_the_default_policy_is_half_a_second_doubling_to_a_minute_70_attempts() -> None:
    policy = RetryPolicy()
    assert next_delay_ms(policy, 1) == 500
    assert next_delay_ms(policy, 69) == 60_000
    assert next_delay_ms(policy, 70) is None


@pytest.mark.parametrize(("attempts", "delay_ms"), [(1, 10), (2, 20), (3, None), (4, None)])
def test_max_attempts_counts_the_first_one(attempts: int, delay_ms: int | None) -> None:
    policy = RetryPolicy(initial_interval_ms=10, max_attempts=3)
    assert next_delay_ms(policy, attempts) == delay_ms


@pytest.mark.parametrize("configured", [0, 1])
def test_a_maximum_of_zero_or_one_means_no_retry(configured: int) -> None:
    assert next_delay_ms(RetryPolicy(max_attempts=configured), 1) is None


def test_without_a_maximum_attempts_never_end_and_never_overflow() -> None:
    policy = RetryPolicy(max_attempts=None)
    assert next_delay_ms(policy, 1_000_000) == 60_000


def test_a_factor_of_one_keeps_the_delay() -> None:
    policy = RetryPolicy(initial_interval_ms=250, factor=1.0)
    assert {next_delay_ms(policy, n) for n in range(1, 60)} == {250}


def test_the_first_delay_is_capped_too() -> None:
    assert next_delay_ms(RetryPolicy(initial_interval_ms=100, max_interval_ms=30), 1) == 30


@given(st.integers(0, 10**7), st.floats(0, 1))
def test_jitter_adds_3_ms_to_30_percent(delay_ms: int, chance: float) -> None:
    added = with_jitter(delay_ms, chance) - delay_ms
    assert 3 <= added <= max(3, delay_ms * 0.3)


def test_jitter_reaches_both_ends() -> None:
    assert with_jitter(1_000, 0.0) == 1_003
    assert with_jitter(1_000, 1.0) == 1_300
    assert with_jitter(10, 1.0) == 13
