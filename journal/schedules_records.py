"""What the schedule table holds, and the waiters that tell a schedule of an invocation's end.

Field orders and tags are on disk for ever, as in ``records``; docs/journal-format.md says what each
field means. Nothing is decided here.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from perdure.journal.entries import Headers, Record
from perdure.journal.records import Waiter

TOLD_COMPLETION_ID = 0  # of a waiter that is a schedule; those of commands begin with 1
TICK_TIMER, BACKFILL_TIMER = 0, 1  # in place of a timer's completion id

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Overlap(StrEnum):
    """What happens at a tick while an invocation of the schedule is not over."""

    SKIP = "skip"  # the tick is dropped
    QUEUE = "queue"  # one tick waits for the end: the newest
    ALLOW = "allow"  # both run
    CANCEL = "cancel"  # the older one is cancelled


# ---- when: each in Unix epoch milliseconds ------------------------------------------------------


class Cron(Record, frozen=True, tag="cron"):
    """``expression``: five fields, or six with the seconds first."""

    expression: str
    timezone: str = "UTC"


class Interval(Record, frozen=True, tag="interval"):
    """Every multiple of ``every_ms`` since the epoch, ``offset_ms`` later."""

    every_ms: int
    offset_ms: int = 0


class Once(Record, frozen=True, tag="once"):
    at_ms: int


Timing: TypeAlias = Cron | Interval | Once


# ---- rows ---------------------------------------------------------------------------------------


class Spec(Record, frozen=True):
    """What somebody asked for. ``key`` of a workflow: the beginning of its runs' keys.

    ``owner``: the service whose code declares it; "" where an operator made it.
    """

    name: str
    timing: Timing
    service: str
    handler: str
    key: str | None = None
    body: bytes = b""
    headers: Headers = ()
    overlap: Overlap = Overlap.SKIP
    jitter_ms: int = 0
    catch_up_ms: int = DAY_MS
    owner: str = ""


class Backfill(Record, frozen=True):
    """Ticks of the past that are still to run. ``running``: the one that the next one waits for."""

    asked_at_ms: int
    next_tick_ms: int
    until_ms: int
    at_once: bool = False
    running: bytes | None = None


class Schedule(Record, frozen=True):
    """A spec, and where it stands. ``running``: ids of what ticks and triggers began, oldest first.

    ``skipped_count``: ticks that the overlap policy dropped; ``missed_count``: those that could not
    run, since nothing ran them in time or their handler was not there.
    """

    spec: Spec
    created_at_ms: int
    modified_at_ms: int
    seed: int
    next_tick_ms: int | None = None
    timer_ms: int = 0
    paused: str | None = None
    running: tuple[bytes, ...] = ()
    waiting_tick_ms: int | None = None
    backfills: tuple[Backfill, ...] = ()
    started_count: int = 0
    succeeded_count: int = 0
    failed_count: int = 0
    skipped_count: int = 0
    missed_count: int = 0
    last_tick_ms: int | None = None
    last_invocation: bytes | None = None
    problem: str = ""

    def waiter(self, id: bytes) -> Waiter:
        """What an invocation carries so that this life of the schedule hears of its end."""
        return Waiter(id, TOLD_COMPLETION_ID, self.created_at_ms)


decode_schedule = msgspec.msgpack.Decoder(Schedule).decode
