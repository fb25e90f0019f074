"""When a schedule's ticks are: the arithmetic of cron expressions, intervals and moments. Pure.

The calendar of cron is cronsim's, the time zones are zoneinfo's; no clock is read here, and nothing is
known of invocations. Moments are Unix epoch milliseconds. Rules: docs/schedules.md.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, assert_never
from zoneinfo import ZoneInfo

import xxhash
from cronsim import CronSim, CronSimError

from perdure.journal.errors import PerdureError
from perdure.journal.schedules_records import Cron, Interval, Once, Overlap, Spec, Timing

MIN_INTERVAL_MS = 1_000
GRACE_MS = 10_000  # of a window: no timer is on time to the millisecond, nor is a busy machine
MAX_INTERVAL_MS = 3_660 * 86_400_000  # ten years
MAX_TEXT = 200  # of a cron expression or the name of a time zone
BURST = 10  # ticks that begin in one step of the machine
COUNTED_TICKS = 200  # of those that were late: looked at one by one, beyond them not

_NEVER_MS = 253_402_300_799_000  # the last second that a datetime can be
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class BadTiming(PerdureError):
    """A timing that can never be carried out; the message says what to change."""

    code = 400


def check(timing: Timing) -> None:
    """Raises BadTiming for what can't be read, and for a time zone that this machine doesn't know."""
    match timing:
        case Cron():
            _Calendar(timing)
        case Interval():
            if not MIN_INTERVAL_MS <= timing.every_ms <= MAX_INTERVAL_MS:
                raise BadTiming("an interval is at least one second and at most ten years long")
            if not 0 <= timing.offset_ms < timing.every_ms:
                raise BadTiming("the offset of an interval is at least zero, and shorter than it")
        case Once():
            if not 0 < timing.at_ms < _NEVER_MS:
                raise BadTiming(f"{timing.at_ms} ms is not a moment between 1970 and 9999")
        case _:
            assert_never(timing)


def next_tick(timing: Timing, after_ms: int) -> int | None:
    """The first tick later than ``after_ms``; None where there is none. Raises BadTiming."""
    match timing:
        case Cron():
            return _Calendar(timing).next(after_ms)
        case Interval():
            count = (after_ms - timing.offset_ms) // timing.every_ms + 1
            return count * timing.every_ms + timing.offset_ms
        case Once():
            return timing.at_ms if timing.at_ms > after_ms else None
        case _:
            assert_never(timing)


def last_tick(timing: Timing, until_ms: int) -> int | None:
    """The last tick at or before ``until_ms``. Raises BadTiming."""
    match timing:
        case Cron():
            return _Calendar(timing).last(until_ms)
        case Interval():
            count = (until_ms - timing.offset_ms) // timing.every_ms
            return count * timing.every_ms + timing.offset_ms
        case Once():
            return timing.at_ms if timing.at_ms <= until_ms else None
        case _:
            assert_never(timing)


def ticks(timing: Timing, after_ms: int, until_ms: int) -> Iterator[int]:
    """The ticks later than ``after_ms`` and not later than ``until_ms``."""
    tick = next_tick(timing, after_ms)
    while tick is not None and tick <= until_ms:
        yield tick
        tick = next_tick(timing, tick)


def start_ms(spec: Spec, id: bytes, tick_ms: int) -> int:
    """When a tick begins: up to the jitter later, always the same for the same tick."""
    if not spec.jitter_ms:
        return tick_ms
    chance = xxhash.xxh3_64_intdigest(id + tick_ms.to_bytes(8, "big"))
    return tick_ms + chance % (spec.jitter_ms + 1)


class Due(NamedTuple):
    """``ticks``: to be offered now, oldest first; ``next``: the first one that is not dealt with."""

    ticks: list[int]
    next: int | None
    missed_count: int


def due_ticks(spec: Spec, id: bytes, first_ms: int, now_ms: int) -> Due:
    """The ticks from ``first_ms`` on that have come, without those beyond the catch-up window.

    Those that are too late count as missed, up to ``COUNTED_TICKS``. Where each of the others is to run,
    at most ``BURST`` come at a time, and ``next`` has come, too. Where one runs for all, the newest is
    the last of ``ticks``, though not all before it may be there.
    """
    timing, missed = spec.timing, 0
    tick: int | None = first_ms
    earliest_ms = now_ms - max(spec.catch_up_ms, GRACE_MS)
    while tick is not None and start_ms(spec, id, tick) < earliest_ms:
        missed += 1
        if missed == COUNTED_TICKS:  # forget the others
            tick = max(tick, earliest_ms - spec.jitter_ms - 1)
        tick = next_tick(timing, tick)
    found: list[int] = []
    each_runs = spec.overlap is Overlap.ALLOW
    limit = BURST if each_runs else COUNTED_TICKS
    while tick is not None and start_ms(spec, id, tick) <= now_ms and len(found) < limit:
        found.append(tick)
        tick = next_tick(timing, tick)
    if len(found) == limit and not each_runs:
        newest = last_tick(timing, now_ms - spec.jitter_ms)
        if newest is not None and newest > found[-1]:
            found.append(newest)
            tick = next_tick(timing, newest)
    return Due(found, tick, missed)


def ms_of(at: datetime) -> int:
    """Of a moment with a time zone."""
    return (at - _EPOCH) // _MS


def moment(tick_ms: int) -> str:
    """`2026-11-22T03:00:00Z`, with milliseconds where there are some."""
    at = _EPOCH + tick_ms * _MS
    return at.replace(tzinfo=None).isoformat("T", "milliseconds").removesuffix(".000") + "Z"


# ---- cron ---------------------------------------------------------------------------------------


class _Calendar:
    """One expression in one time zone.

    An expression of five fields follows Debian's cron where clocks change (docs/schedules.md). One of
    six fields with a single second is the one of five, so many seconds later.
    """

    def __init__(self, timing: Cron) -> None:
        text = timing.expression.strip()
        if len(text) > MAX_TEXT or len(timing.timezone) > MAX_TEXT:
            raise BadTiming(f"a cron expression and a time zone have at most {MAX_TEXT} characters")
        text = _NICKNAMES.get(text.lower(), text)
        fields = text.split()
        self._seconds = 0
        if len(fields) == 6 and fields[0].isdecimal() and int(fields[0]) < 60:
            self._seconds = int(fields[0])
            text = " ".join(fields[1:])
        self._text, self._zone = text, _zone(timing.timezone)
        try:
            CronSim(text, datetime(2000, 1, 1))
        except CronSimError as error:
            why = str(error)
            if "day-of-month" in why:
                why += ", or one that none of its months has"
            raise BadTiming(
                f"'{timing.expression}' is not a cron expression ({why}); five fields are expected, "
                "minute, hour, day of month, month, day of week, or six with the second first"
            ) from None

    def next(self, after_ms: int) -> int | None:
        after_ms -= self._seconds * 1000
        ticks = CronSim(self._text, self._local(after_ms))
        for each in ticks:
            found_ms = ms_of(each)
            if found_ms > after_ms:  # not so in an hour that comes twice
                return found_ms + self._seconds * 1000
        return None

    def last(self, until_ms: int) -> int | None:
        """By going forward from ever farther back: only so are both directions of one mind."""
        span_ms = 60_000
        while span_ms < MAX_INTERVAL_MS:
            found = self.next(until_ms - span_ms)
            if found is not None and found <= until_ms:
                return self._forward(found, until_ms)
            span_ms *= 2
        return None

    def _forward(self, tick: int, until_ms: int) -> int:
        """The last tick; ``tick`` is one. By halving: there are none between ``hi`` and the end."""
        hi_ms = until_ms
        while hi_ms - tick >= 1000:  # no two ticks are closer
            middle_ms = (tick + hi_ms) // 2
            found = self.next(middle_ms)
            if found is not None and found <= until_ms:
                tick = found
            else:
                hi_ms = middle_ms
        return tick

    def _local(self, ms: int) -> datetime:
        return (_EPOCH + max(ms, 0) * _MS).astimezone(self._zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # a folder's name is an OSError
        raise BadTiming(
            f"there is no time zone '{name}' on this machine; expected a name such as Europe/Berlin. "
            "Where all are missing, install the package tzdata"
        ) from error
