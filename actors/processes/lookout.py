"""Ends the wait for a tree that can't start any more, as one of its processes was killed or stopped.

Thespian would wait for it for many seconds. For the watchdog's one thread: a timer's signal looks around,
and raises out of whatever waits.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from perdure.actors.processes import hygiene
from perdure.journal.errors import PerdureError

_LOOK_S: Final = 0.1


class TreeFailed(PerdureError):
    """The tree can't be started."""


@contextmanager
def looking_out(limit_s: float) -> Iterator[None]:
    """Raises TreeFailed out of its block, also where that takes longer than ``limit_s``."""
    end_s = time.monotonic() + limit_s
    known: set[int] = set()  # of the Admin's children
    is_over = False

    def look(_signum: int, _frame: object) -> None:
        if is_over:  # the signal came as the timer was stopped, and must not set it again
            return
        _raise_if_broken(known)
        if time.monotonic() > end_s:
            raise TreeFailed(f"the tree did not start within {limit_s:g} s")
        signal.setitimer(signal.ITIMER_REAL, _LOOK_S)  # not where it has raised: once is enough

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_S)
    try:
        yield
    finally:
        is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _raise_if_broken(known: set[int]) -> None:
    below: set[int] = set()
    for child in children(os.getpid()):
        if _was_killed(child):
            raise TreeFailed("a process was killed while the tree started")
        below |= children(child)
        if any(hygiene.process_state(pid) == "T" for pid in (child, *below)):
            raise TreeFailed("a process was stopped by a signal while the tree started")
    if not all(hygiene.is_alive(pid) for pid in known):
        raise TreeFailed("a process ended while the tree started")
    known |= below


def _was_killed(pid: int) -> bool:
    """Whether it has ended by a signal and nobody has waited for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return False
    return fields[0] == "Z" and os.WIFSIGNALED(int(fields[-1]))


def children(pid: int) -> set[int]:
    """Those of its main thread, ended ones that nobody has waited for included."""
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:  # it has ended
        return set()
