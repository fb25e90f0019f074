"""How long the watchdog waits: before the next start of the tree, and for it."""

from perdure.actors.processes.watchdog import STEADY_S, Failures


def _waits(*up_for_s: float | None) -> list[float]:
    """Before the next start, after each of these ends."""
    failures, waits = Failures(), []
    for each in up_for_s:
        failures.note(each)
        waits.append(failures.backoff_s)
    return waits


def test_what_can_not_start_is_tried_more_and_more_rarely() -> None:
    assert _waits(*[None] * 11) == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


def test_what_had_started_and_was_ended_is_back_soon_however_often() -> None:
    assert _waits(*[0.1] * 20)[4:] == [0.8] * 16
    assert _waits(*[0.1] * 20, None, 0.1)[-2:] == [1.6, 0.8]


def test_what_was_up_for_a_while_starts_anew_at_once() -> None:
    assert _waits(None, None, None, STEADY_S + 0.1) == [0.0, 0.1, 0.2, 0.0]


def test_a_slow_machine_gets_more_time_with_every_try_and_forgets_it_when_it_was_up() -> None:
    failures, patience = Failures(), []
    for each in (None, None, None, None, 0.1):
        patience.append(failures.patience_s)
        failures.note(each)
    assert [*patience, failures.patience_s] == [3.0, 6.0, 12.0, 24.0, 24.0, 3.0]
