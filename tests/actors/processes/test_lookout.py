"""A wait for processes that can't answer any more ends at once."""

import os
import select
import signal

import pytest

from perdure.actors.processes.lookout import TreeFailed, looking_out


def _child() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def _wait_in_vain() -> None:
    with looking_out(60):
        select.select([], [], [], 60)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_the_wait_ends_when_a_process_below_is_killed_or_stopped(signum: signal.Signals) -> None:
    child = _child()
    try:
        os.kill(child, signum)
        with pytest.raises(TreeFailed, match="while the tree started"):
            _wait_in_vain()
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_wait_ends_when_nothing_broke_and_nothing_came() -> None:
    with pytest.raises(TreeFailed, match=r"did not start within 0\.05 s"), looking_out(0.05):
        select.select([], [], [], 60)


def test_nothing_is_looked_for_afterwards() -> None:
    child = _child()
    try:
        with looking_out(60):
            pass
        os.kill(child, signal.SIGSTOP)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_signal_that_comes_while_the_timer_is_stopped_does_not_set_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def set_and_be_hit(which: int, seconds: float) -> None:
        set_timer(which, seconds)
        if seconds == 0:
            signal.raise_signal(signal.SIGALRM)

    set_timer = signal.setitimer
    with looking_out(60):
        monkeypatch.setattr(signal, "setitimer", set_and_be_hit)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
