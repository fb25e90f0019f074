"""Limits of the data plane, and how a process is introduced to another. Shapes only."""

from pathlib import Path

import msgspec

_MIB = 1 << 20


class PlaneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``hold``: for requests whose partition is away; ``window``: unacknowledged messages of one link."""

    frame_limit_bytes: int = 256 * _MIB  # largest request, answer or message
    hello_timeout_s: float = 5.0
    in_flight_limit: int = 100_000  # requests to one partition that wait for their answer
    in_flight_limit_bytes: int = 256 * _MIB  # their bodies, which are kept to be sent again
    hold_limit: int = 10_000
    hold_s: float = 30.0
    brief_hold_s: float = (
        2.0  # for looks into a partition: an answer without it is better than none
    )
    reconnect_min_s: float = 0.005
    reconnect_max_s: float = 0.2
    registry_wait_s: float = 2.0  # for a handler that the receiver does not know yet
    window_count: int = 4_096
    window_bytes: int = 8 * _MIB


class Introduction(msgspec.Struct, frozen=True):
    """Where a process listens now. ``epoch`` grows with each of its starts."""

    path: Path
    epoch: int
