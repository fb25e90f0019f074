"""How long the watchdog waits: for a start, and before the next one."""

import pytest

from perdure.actors.processes.watchdog import backoff_s, patience_s


@pytest.mark.parametrize("was_up", [True, False])
def test_the_first_failure_costs_no_wait(was_up: bool) -> None:
    assert backoff_s(1, was_up) == 0.0


def test_what_can_not_start_is_tried_more_and_more_rarely() -> None:
    assert [backoff_s(n, was_up=False) for n in (2, 3, 4, 9, 50)] == [0.1, 0.2, 0.4, 10.0, 10.0]


def test_what_had_started_and_was_ended_is_back_soon_however_often() -> None:
    assert [backoff_s(n, was_up=True) for n in (2, 3, 4, 9, 50)] == [0.1, 0.2, 0.4, 1.0, 1.0]


def test_a_slow_machine_gets_more_time_with_every_try() -> None:
    assert [patience_s(n) for n in (0, 1, 2, 3, 50)] == [3.0, 6.0, 12.0, 24.0, 24.0]
