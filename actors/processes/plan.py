"""What the tree is made of and how it is kept alive. Data only, from the settings."""

from enum import StrEnum
from typing import Final

import msgspec


class Exhausted(StrEnum):
    """What follows when a worker fails more often than its strategy allows."""

    DOWN = "down"  # it alone stays down, and is tried again once a window
    ESCALATE = "escalate"  # the supervisor ends, and the watchdog starts the tree anew


class Strategy(msgspec.Struct, frozen=True):
    """One for one: the worker that ended is started again, the others go on. Spans in seconds."""

    intensity: int = 5  # failures within the window before ``exhausted`` holds
    window_s: float = 10.0
    steady_s: float = 1.0  # who was up so long had recovered: earlier failures count no more
    first_backoff_s: float = 0.05  # before the second restart of a window; the first is at once
    longest_backoff_s: float = 5.0
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0
    heartbeat_interval_s: float = 0.1
    heartbeat_timeout_s: float = 10.0

    def backoff_s(self, failures: int) -> float:
        """Before the restart that follows the given number of failures within the window, from 1."""
        if failures <= 1:
            return 0.0
        return min(self.first_backoff_s * 2.0 ** min(failures - 2, 30), self.longest_backoff_s)

    def describe(self, exhausted: Exhausted) -> str:
        return (
            f"one for one, {self.intensity} restarts in {self.window_s:g} s, then {exhausted.value}; "
            f"backoff up to {self.longest_backoff_s:g} s"
        )


class WorkerSpec(msgspec.Struct, frozen=True):
    """One worker process.

    ``factory``: `module:name` of a callable that takes a Start and gives a Worker. ``payload``: for that
    worker alone; it is inherited by fork and in no message. ``stage``: first started in this order, each
    stage when the one before is up, and drained in the reverse one.
    """

    name: str
    kind: str
    index: int
    factory: str
    payload: bytes = b""
    stage: int = 0
    exhausted: Exhausted = Exhausted.ESCALATE


class Plan(msgspec.Struct, frozen=True):
    """``preload``: modules that are imported before the first fork, so that every worker has them."""

    workers: tuple[WorkerSpec, ...]
    strategy: Strategy = Strategy()
    preload: tuple[str, ...] = ()


EPOCH_BITS: Final = (
    20  # of an epoch, for the starts of one worker; above them the starts of the tree
)


def epoch_of(tree_start: int, start: int) -> int:
    """Grows with every start of a worker, also over restarts of everything."""
    return (tree_start << EPOCH_BITS) + start


def soon(wait_s: float) -> str:
    """For messages: when something happens that is due after this time."""
    return f"in {wait_s:g} s" if wait_s else "at once"
