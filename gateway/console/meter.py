"""Rates and latencies of the ingress, measured in this process: a ring of seconds, each a histogram.

Costs about a microsecond a request. What is exported to other systems is elsewhere; this is what the
console's first page draws. Times are of a monotonic clock.
"""

import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import msgspec

from perdure.gateway.http_request import HttpRequest
from perdure.gateway.wire import Reply

RING_S: Final = 120  # how far back the console looks
_STEPS: Final = 8  # buckets between one power of two of microseconds and the next: 9 % wide
_BUCKETS: Final = 36 * _STEPS  # up to 2^36 µs, 19 hours

_Handle: TypeAlias = Callable[[HttpRequest], Coroutine[Any, Any, Reply]]


class _Second:
    """What ended within one second. ``counts`` by bucket is made when it is needed."""

    __slots__ = ("at", "counts", "failed", "total")

    def __init__(self) -> None:
        self.at = -1
        self.total = 0
        self.failed = 0
        self.counts: dict[int, int] = {}


class Latency(msgspec.Struct, frozen=True):
    """Microseconds, within 9 %."""

    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


class Rates(msgspec.Struct, frozen=True):
    """``requests`` and ``failures`` per second, oldest first, without the second that goes on."""

    requests: list[int]
    failures: list[int]
    latency: Latency | None  # of the last minute; None where nothing ended
    open_requests: int


class Meter:
    """``timed`` goes around the ingress; ``rates`` is for who looks."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ring = [_Second() for _ in range(RING_S + 1)]
        self._open = 0
        # since the start, for /metrics; buckets as `bucket_of` numbers them
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * _BUCKETS
        self.total_s = 0.0

    @property
    def open_requests(self) -> int:
        return self._open

    def timed(self, handle: _Handle) -> _Handle:
        """``handle``, measured. Only answers of 500 and more count as failures."""
        clock = self._clock

        async def measured(request: HttpRequest) -> Reply:
            start = clock()
            self._open += 1
            status = 500
            try:
                response = await handle(request)
                status = response.status
                return response
            finally:
                self._open -= 1
                end = clock()
                self.note(end, end - start, status >= 500)
                self.statuses[status] = self.statuses.get(status, 0) + 1

        return measured

    def note(self, now_s: float, duration_s: float, failed: bool) -> None:
        at = int(now_s)
        second = self._ring[at % len(self._ring)]
        if second.at != at:
            second.at, second.total, second.failed, second.counts = at, 0, 0, {}
        second.total += 1
        second.failed += failed
        bucket = bucket_of(duration_s)
        second.counts[bucket] = second.counts.get(bucket, 0) + 1
        self.buckets[bucket] += 1
        self.total_s += duration_s

    def rates(self, latency_window_s: int = 60) -> Rates:
        now = int(self._clock())
        requests, failures = [], []
        together: dict[int, int] = {}
        for at in range(now - RING_S, now + 1):
            second = self._ring[at % len(self._ring)]
            known = second.at == at
            if at < now:
                requests.append(second.total if known else 0)
                failures.append(second.failed if known else 0)
            if known and at >= now - latency_window_s:
                for bucket, count in second.counts.items():
                    together[bucket] = together.get(bucket, 0) + count
        return Rates(requests, failures, latency_of(together), self._open)


def bucket_of(duration_s: float) -> int:
    """Eight buckets for each doubling, from one microsecond on."""
    us = int(duration_s * 1e6)
    if us < _STEPS:
        return max(us, 0)
    shift = us.bit_length() - _STEPS.bit_length()
    return min((shift + 1) * _STEPS + (us >> shift) - _STEPS, _BUCKETS - 1)


def bucket_end_us(bucket: int) -> float:
    """The upper end of a bucket."""
    if bucket < _STEPS:
        return float(bucket + 1)
    shift, step = divmod(bucket, _STEPS)
    return float((step + _STEPS + 1) << (shift - 1))


def latency_of(counts: dict[int, int]) -> Latency | None:
    total = sum(counts.values())
    if total == 0:
        return None
    ordered = sorted(counts.items())

    def quantile(q: float) -> float:
        left = q * total
        for bucket, count in ordered:
            left -= count
            if left <= 0:
                return bucket_end_us(bucket)
        return bucket_end_us(ordered[-1][0])

    return Latency(quantile(0.5), quantile(0.9), quantile(0.99), quantile(1.0))
