"""What the engine counts while it works, for metrics: plain numbers, read by whoever asks.

Each costs an addition where the work is done. Used on the loop only, but for reading.
"""

from typing import Final

from perdure.journal.entries import Outcome, Value
from perdure.journal.histogram import LATENCY_S, Histogram
from perdure.journal.records import Invocation

_MOST_SERVICES: Final = 500  # names that are counted apart; the rest are one
OTHERS: Final = "(others)"

_WRITES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
_LATE_S: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)


class Counts:
    """Of one engine, since it was made; partitions come and go with it."""

    def __init__(self) -> None:
        self.attempts: dict[str, int] = {}  # by service
        self.failed_attempts: dict[str, int] = {}
        self.ended: dict[tuple[str, bool], int] = {}  # by service, and whether it succeeded
        self.commit_s = Histogram(LATENCY_S)
        self.commit_writes = Histogram(_WRITES)
        self.timer_late_s = Histogram(_LATE_S)

    def attempt(self, service: str) -> None:
        _count(self.attempts, service)

    def failed_attempt(self, service: str) -> None:
        _count(self.failed_attempts, service)

    def end(self, record: Invocation | None, result: Outcome) -> None:
        """An invocation is over. ``record``: as it was before, which is in memory then."""
        if record is None:
            return
        service, succeeded, counted = record.service, type(result) is Value, self.ended
        if (service, succeeded) not in counted and len(counted) >= 2 * _MOST_SERVICES:
            service = OTHERS
        counted[(service, succeeded)] = counted.get((service, succeeded), 0) + 1


def _count(counted: dict[str, int], service: str) -> None:
    if service not in counted and len(counted) >= _MOST_SERVICES:
        service = OTHERS
    counted[service] = counted.get(service, 0) + 1
