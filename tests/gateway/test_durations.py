"""The duration, size and timestamp texts of ingress 4, 3.2, 5.1 and admin 3."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.gateway.durations import (
    format_duration,
    format_size,
    parse_duration_ms,
    parse_size_bytes,
    rfc3339_ms,
    rfc3339_ns,
)

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("10s", 10_000), ("10 sec", 10_000), ("60 sec", MINUTE), ("1500ms", 1500), ("1500us", 2),
        ("1.5s", 1500), ("90m", 90 * MINUTE), ("1h 30m", 90 * MINUTE), ("1h30m", 90 * MINUTE),
        ("1h, 30m", 90 * MINUTE), ("1:30:00", 90 * MINUTE), ("1w", 7 * DAY), ("2weeks", 14 * DAY),
        ("P1W", 7 * DAY), ("P400D", 400 * DAY), ("PT1H", HOUR), ("PT1H30M", 90 * MINUTE),
        ("P1DT2H", 26 * HOUR), ("PT1.5S", 1500), ("pt10s", 10_000),
        ("1day 2h 3min", 26 * HOUR + 3 * MINUTE), ("0", 0), ("0s", 0), ("2 days 1:00:00", 49 * HOUR),
        ("5µs", 1), ("1h 1.5m", HOUR + 90_000), ("00:00:01.5", 1500),
    ],
)  # fmt: skip
def test_accepted_texts_have_their_length(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "", "10", "5.5", "00", "abc", "10S", "1M", "1mo", "P1Y", "P1M", "1h,30m", "-5s", "-PT5S", "PT-5S",
        "1_000s", "P", "PT", "1h30", "30m 1h", "1h 1h", "1.5h 3m", "1.5d", "1h ", "1h,", "5s ago",
        "PT1M1H", "P1H", "P1.5D", "1:60:00", "1h 1:00:00", "²s", "99999999999999999w", "٣s",
    ],
)  # fmt: skip
def test_other_texts_are_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["P1Y", "1mo", "1 year", "P2M"])
def test_years_and_months_name_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match="please use units of days or smaller"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (DAY, "1d"), (90 * MINUTE, "1h 30m"), (90_000, "1m 30s"), (500, "500ms"), (0, "0s"),
        (400 * DAY, "400d"), (61_001, "1m 1s 1ms"),
    ],
)  # fmt: skip
def test_durations_are_written_compactly(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(0, 10**13))
def test_what_is_written_can_be_read_again(ms: int) -> None:
    assert parse_duration_ms(format_duration(ms)) == ms


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration_ms(text) >= 0


def test_timestamps_have_the_forms_that_clients_parse() -> None:
    assert rfc3339_ns(1_795_335_465_320) == "2026-11-22T08:17:45.320000000Z"
    assert rfc3339_ms(1_795_421_855_258) == "2026-11-23T08:17:35.258+00:00"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32 MiB", 32 << 20),
        ("32MiB", 32 << 20),
        ("1KB", 1000),
        ("0", 0),
        ("1.5 KiB", 1536),
        ("7 B", 7),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 XB", "1,5 KiB", "1 MiB 2 KiB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size_bytes(text)


@given(st.integers(0, 1 << 40))
def test_sizes_survive_writing_and_reading(size: int) -> None:
    assert parse_size_bytes(format_size(size)) == size
