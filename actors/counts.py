"""What the engine counts while it works, for metrics, and tells to whoever traces it.

Plain numbers, each an addition where the work is done. Used on the loop only, but for reading.
"""

from typing import Final, Protocol

from perdure.actors.attempts import OpenAttempt
from perdure.journal.attempt import Failed, Frame
from perdure.journal.entries import Outcome, Value
from perdure.journal.events import Complete, PassBarrier
from perdure.journal.histogram import LATENCY_S, Histogram
from perdure.journal.records import Invocation
from perdure.journal.requests import Invoke

_MOST_SERVICES: Final = 500  # names that are counted apart; the rest are one
OTHERS: Final = "(others)"

_WRITES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
_LATE_S: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)


class Observer(Protocol):
    """Is told what happens to the invocations that have a trace. Called on the loop; must not raise."""

    def new_trace(self) -> str | None:
        """For an invocation whose caller has none."""

    def began(self, opened: OpenAttempt, record: Invocation) -> None:
        """An attempt is open."""

    def heard(self, opened: OpenAttempt, frames: tuple[Frame, ...]) -> None:
        """An attempt said something; what it replays it does not say again."""

    def ran(self, id: bytes, completion_id: int) -> None:
        """A run closure may start."""

    def ended(self, id: bytes, record: Invocation, result: Outcome) -> None:
        """An invocation is over. ``record``: as it was before."""


class Counts:
    """Of one engine, since it was made; partitions come and go with it."""

    observer: Observer | None = None

    def __init__(self) -> None:
        self.attempts: dict[str, int] = {}  # by service
        self.failed_attempts: dict[str, int] = {}
        self.succeeded: dict[str, int] = {}  # invocations
        self.failed: dict[str, int] = {}
        self.commit_s = Histogram(LATENCY_S)
        self.commit_writes = Histogram(_WRITES)
        self.timer_late_s = Histogram(_LATE_S)

    def trace_of(self, invoke: Invoke) -> str | None:
        """The caller's trace, or a new one where somebody observes."""
        if invoke.trace is not None or self.observer is None:
            return invoke.trace
        return self.observer.new_trace()

    def began(self, opened: OpenAttempt, record: Invocation) -> None:
        """An attempt is open."""
        try:
            self.attempts[record.service] += 1
        except KeyError:
            _count(self.attempts, record.service)
        if self.observer is not None and record.trace is not None:
            self.observer.began(opened, record)

    def heard(self, opened: OpenAttempt, frames: tuple[Frame, ...]) -> None:
        """An attempt failed, or said something new and somebody observes."""
        if type(frames[-1]) is Failed:
            _count(self.failed_attempts, opened.place.handler.service)
        if self.observer is not None:
            self.observer.heard(opened, frames)

    def ran(self, act: PassBarrier) -> None:
        """A run closure may start."""
        if self.observer is not None:
            self.observer.ran(act.id, act.completion_id)

    def ended_by(self, act: Complete, record: Invocation | None) -> None:
        """An invocation is over. ``record``: as it was before, which is in memory then."""
        if record is None:
            return
        if self.observer is not None and record.trace is not None:
            self.observer.ended(act.id, record, act.result)
        counted = self.succeeded if type(act.result) is Value else self.failed
        try:
            counted[record.service] += 1
        except KeyError:
            _count(counted, record.service)


def _count(counted: dict[str, int], service: str) -> None:
    if service not in counted and len(counted) >= _MOST_SERVICES:
        service = OTHERS
    counted[service] = counted.get(service, 0) + 1
