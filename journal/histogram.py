"""A histogram of plain numbers, for metrics: cheap to add to, read by whoever asks. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

LATENCY_S: Final = (
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0
)  # fmt: skip


class Histogram:
    """How often a value was at or below each bound; the last count is of what was above all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times
