"""When ticks are: cron in time zones, where clocks change, intervals, moments, jitter, what came late."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.journal.schedules_records import Cron, Interval, Once, Overlap, Spec, Timing
from perdure.journal.schedules_times import (
    BURST,
    COUNTED_TICKS,
    GRACE_MS,
    BadTiming,
    check,
    due_ticks,
    last_tick,
    moment,
    next_tick,
    start_ms,
    ticks,
)

ID = bytes(range(24))
NEVER_MS = 1 << 47
NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000

BERLIN = "Europe/Berlin"  # forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00
LORD_HOWE = "Australia/Lord_Howe"  # by half an hour
APIA = "Pacific/Apia"  # had no 2011-12-30

zones = st.sampled_from(["UTC", BERLIN, LORD_HOWE, APIA, "America/New_York", "Asia/Kathmandu"])
expressions = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 1,2,3 * * *", "15 0 1 * *", "5 4 * * 1-5",
     "0 0 29 2 *", "20 30 2 * * *", "*/20 * * * * *", "@daily", "0 12 L * *", "59 23 31 12 *"]
)  # fmt: skip
timings = st.one_of(
    st.builds(Cron, expressions, zones),
    st.builds(lambda every, part: Interval(every, every * part // 100),
              st.integers(1_000, 10 * DAY_MS), st.integers(0, 99)),
)  # fmt: skip
# from 2009 to 2037, and often around the changes of 2026
moments = st.one_of(
    st.integers(1_230_000_000_000, 2_140_000_000_000),
    st.integers(1_774_742_400_000, 1_774_742_400_000 + DAY_MS),
    st.integers(1_792_879_200_000, 1_792_879_200_000 + DAY_MS),
)


def local(ms: int, zone: str) -> str:
    return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)).isoformat()


def at(text: str, zone: str = BERLIN) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def some(expression: str, zone: str, after: str, count: int) -> list[str]:
    """Local times of ticks, without the year."""
    found = ticks(Cron(expression, zone), at(after, zone), NEVER_MS)
    return [local(each, zone)[5:] for each in islice(found, count)]


# ---- where clocks change -------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_a_local_time_that_is_skipped_runs_at_the_next_valid_moment(expression: str) -> None:
    assert some(expression, BERLIN, "2026-03-28T00:00", 3) == [
        "03-28T02:30:00+01:00",
        "03-29T03:00:00+02:00",
        "03-30T02:30:00+02:00",
    ]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_a_local_time_that_comes_twice_runs_once_the_first_time(expression: str) -> None:
    assert some(expression, BERLIN, "2026-10-24T00:00", 3) == [
        "10-24T02:30:00+02:00",
        "10-25T02:30:00+02:00",
        "10-26T02:30:00+01:00",
    ]


def test_times_that_fall_together_after_a_gap_are_one_tick() -> None:
    assert some("0 1,2,3 * * *", BERLIN, "2026-03-29T00:00", 3) == [
        "03-29T01:00:00+01:00",
        "03-29T03:00:00+02:00",
        "03-30T01:00:00+02:00",
    ]


def test_what_runs_every_few_minutes_follows_real_time_through_both_changes() -> None:
    assert some("*/30 * * * *", BERLIN, "2026-03-29T01:29", 3) == [
        "03-29T01:30:00+01:00", "03-29T03:00:00+02:00", "03-29T03:30:00+02:00",
    ]  # fmt: skip
    assert some("*/30 * * * *", BERLIN, "2026-10-25T02:29", 4) == [
        "10-25T02:30:00+02:00", "10-25T02:00:00+01:00", "10-25T02:30:00+01:00",
        "10-25T03:00:00+01:00",
    ]  # fmt: skip


def test_a_change_of_half_an_hour_and_a_day_that_never_was_are_no_trouble() -> None:
    assert some("15 2 * * *", LORD_HOWE, "2026-10-03T00:00", 3) == [
        "10-03T02:15:00+10:30", "10-04T02:30:00+11:00", "10-05T02:15:00+11:00",
    ]  # fmt: skip
    days = some("0 12 * * *", APIA, "2011-12-28T13:00", 4)  # there was no 30th
    assert [day[:11] for day in days] == [
        "12-29T12:00",
        "12-31T00:00",
        "12-31T12:00",
        "01-01T12:00",
    ]


@given(timings, moments, st.integers(1, 30))
def test_ticks_are_always_later_and_the_same_wherever_one_begins(
    timing: Timing, after_ms: int, count: int
) -> None:
    found = list(islice(ticks(timing, after_ms, NEVER_MS), count))
    assert found
    assert all(a < b for a, b in zip([after_ms, *found], found, strict=False))
    for a, b in zip([after_ms, *found], found, strict=False):
        assert next_tick(timing, b - 1) == b
        assert next_tick(timing, (a + b) // 2 if (a + b) // 2 < b else a) == b


@given(timings, moments)
def test_the_last_tick_is_the_one_before_the_next(timing: Timing, until_ms: int) -> None:
    last, following = last_tick(timing, until_ms), next_tick(timing, until_ms)
    assert last is not None
    assert following is not None
    assert last <= until_ms < following
    assert next_tick(timing, last) == following


# ---- the other kinds -----------------------------------------------------------------------------


def test_an_interval_counts_from_the_epoch_so_that_a_restart_moves_nothing() -> None:
    assert next_tick(Interval(DAY_MS), NOW_MS) == at("2023-11-15T00:00", "UTC")
    assert next_tick(Interval(DAY_MS, 3_600_000), NOW_MS) == at("2023-11-15T01:00", "UTC")
    assert last_tick(Interval(1_000), 5_999) == 5_000


def test_a_moment_comes_once() -> None:
    once = Once(NOW_MS)
    assert (next_tick(once, NOW_MS - 1), next_tick(once, NOW_MS)) == (NOW_MS, None)
    assert (last_tick(once, NOW_MS - 1), last_tick(once, NOW_MS)) == (None, NOW_MS)


def test_a_moment_is_written_in_utc_with_milliseconds_where_there_are_some() -> None:
    assert moment(NOW_MS) == "2023-11-14T22:13:20Z"
    assert moment(NOW_MS + 7) == "2023-11-14T22:13:20.007Z"
    assert datetime.fromisoformat(moment(NOW_MS)) == datetime.fromtimestamp(NOW_MS // 1000, UTC)


def test_a_day_that_no_month_has_is_told_as_such() -> None:
    with pytest.raises(BadTiming, match="Bad day-of-month, or one that none of its months has"):
        check(Cron("0 0 30 2 *"))


@pytest.mark.parametrize(
    "timing",
    [
        Cron("61 * * * *"),
        Cron("* * *"),
        Cron(""),
        Cron("@often"),
        Cron("0 0 31 2 *"),
        Cron("* * * * *" + " " * 300 + "*"),
        Cron("* * * * *", "Mars/Base"),
        Cron("* * * * *", "Europe"),
        Cron("* * * * *", "../../etc/passwd"),
        Cron("* * * * *", "a\0b"),
        Cron("* * * * *", ""),
        Interval(999),
        Interval(1_000, 1_000),
        Interval(1 << 50),
        Once(0),
        Once(1 << 60),
    ],
)
def test_what_can_not_be_carried_out_is_refused(timing: Timing) -> None:
    with pytest.raises(BadTiming):
        check(timing)


@given(
    st.text("0123456789*/,-LW#MONFRI@ ", max_size=40)
    | st.lists(st.sampled_from(["*", "*/5", "1-5", "L", "LW", "5L", "MON#2", "1,7", "31", "?"]),
               min_size=4, max_size=7).map(" ".join)
    | st.text(max_size=20)
)  # fmt: skip
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    timing = Cron(text, BERLIN)
    try:
        check(timing)
    except BadTiming:
        return
    found = next_tick(timing, NOW_MS)
    assert found is None or found > NOW_MS


def test_an_expression_without_a_day_in_fifty_years_has_no_tick() -> None:
    assert next_tick(Cron("0 0 */20 * 1L"), NOW_MS) is None
    assert last_tick(Cron("0 0 */20 * 1L"), NOW_MS) is None


# ---- jitter, and what came late ------------------------------------------------------------------


def spec(timing: Timing, overlap: Overlap = Overlap.SKIP, **rest: Any) -> Spec:
    return Spec("s", timing, "S", "h", overlap=overlap, **rest)


@given(st.integers(0, DAY_MS), moments)
def test_jitter_is_within_its_bound_and_the_same_every_time(jitter_ms: int, tick_ms: int) -> None:
    shaken = spec(Interval(1_000), jitter_ms=jitter_ms)
    began = start_ms(shaken, ID, tick_ms)
    assert tick_ms <= began <= tick_ms + jitter_ms
    assert start_ms(shaken, ID, tick_ms) == began


def test_jitter_spreads_the_ticks_of_schedules_that_come_together() -> None:
    shaken = spec(Interval(1_000), jitter_ms=MINUTE_MS)
    begun = {start_ms(shaken, bytes([n]) * 24, NOW_MS) for n in range(100)}
    assert len(begun) > 95


def test_ticks_within_the_window_are_due_and_older_ones_are_missed() -> None:
    minutely = spec(Interval(MINUTE_MS), catch_up_ms=3 * MINUTE_MS)
    first = 28_333_334 * MINUTE_MS
    due = due_ticks(minutely, ID, first, first + 5 * MINUTE_MS)
    assert due.ticks == [first + n * MINUTE_MS for n in (2, 3, 4, 5)]
    assert (due.next, due.missed_count) == (first + 6 * MINUTE_MS, 2)
    punctual = due_ticks(minutely, ID, first, first)
    assert punctual == ([first], first + MINUTE_MS, 0)


def test_a_window_of_nothing_still_runs_what_is_in_time() -> None:
    minutely = spec(Interval(MINUTE_MS), catch_up_ms=0)
    assert due_ticks(minutely, ID, MINUTE_MS, MINUTE_MS).ticks == [MINUTE_MS]
    assert due_ticks(minutely, ID, MINUTE_MS, MINUTE_MS + GRACE_MS).ticks == [MINUTE_MS]
    assert due_ticks(minutely, ID, MINUTE_MS, MINUTE_MS + GRACE_MS + 1).ticks == []


def test_a_year_of_missed_seconds_takes_no_time() -> None:
    secondly = spec(Cron("* * * * * *", BERLIN), catch_up_ms=400 * DAY_MS)
    now_ms = NOW_MS + 365 * DAY_MS
    due = due_ticks(secondly, ID, NOW_MS, now_ms)
    assert due.ticks[-1] == now_ms
    assert due.next == now_ms + 1000
    assert len(due.ticks) <= COUNTED_TICKS + 1
    each = due_ticks(
        spec(secondly.timing, Overlap.ALLOW, catch_up_ms=400 * DAY_MS), ID, NOW_MS, now_ms
    )
    assert each.ticks == [NOW_MS + n * 1000 for n in range(BURST)]
    assert each.next == NOW_MS + BURST * 1000
    late = due_ticks(spec(secondly.timing, catch_up_ms=0), ID, NOW_MS, now_ms)
    assert late.ticks == [now_ms - GRACE_MS + n * 1000 for n in range(11)]
    assert late.missed_count == COUNTED_TICKS
