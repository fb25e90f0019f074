"""Texts for time and size: durations in and out, timestamps out, sizes in. Pure; no clock.

Everything a person writes into a delay, a setting or an admin body is read here and nowhere else.
Rules: ingress 4 (grammar), admin 3 (output), ingress 3.2 and 5.1 (timestamps).
"""

import re
import time
from typing import Final

NS_PER_MS: Final = 1_000_000
_MS_PER_S: Final = 1000
_LONGEST_MS: Final = 1000 * 366 * 86_400_000  # past it no timestamp could be written

# nanoseconds of each unit, and its rank: units must come in descending order, each once
_UNITS: Final[dict[str, tuple[int, int]]] = {
    name: (size_ns, rank)
    for rank, (names, size_ns) in enumerate(
        (
            ("w wk wks week weeks", 604_800 * 10**9),
            ("d day days", 86_400 * 10**9),
            ("h hr hrs hour hours", 3_600 * 10**9),
            ("m min mins minute minutes", 60 * 10**9),
            ("s sec secs second seconds", 10**9),
            ("ms msec msecs milli millis millisecond milliseconds", 10**6),
            ("us µs μs usec usecs micro micros microsecond microseconds", 10**3),
            ("ns nsec nsecs nano nanos nanosecond nanoseconds", 1),
        )
    )
    for name in names.split()
}
_HOUR_RANK: Final = _UNITS["h"][1]
_CALENDAR: Final = frozenset(
    ["y", "yr", "yrs", "year", "years", "mo", "mos", "month", "months", "M", "Y"]
)
_GROUP: Final = re.compile(r"(\d{1,19})(?:[.,](\d{1,9}))? *([A-Za-zµμ]+)", re.ASCII)
_CLOCK: Final = re.compile(r"(\d{1,19}):([0-5]\d)(?::([0-5]\d)(?:[.,](\d{1,9}))?)?$", re.ASCII)
_GAP: Final = re.compile(r" *, +| *", re.ASCII)
_ISO: Final = re.compile(r"(\d{1,19})(?:[.,](\d{1,9}))?([A-Z])", re.ASCII)
_ISO_DATE_UNITS: Final = {"W": "w", "D": "d"}
_ISO_TIME_UNITS: Final = {"H": "h", "M": "m", "S": "s"}
_NO_CALENDAR: Final = "please use units of days or smaller"


def parse_duration_ms(text: str) -> int:
    """A duration in ISO 8601 or the friendly syntax (`1h 30m`, `1:30:00`), in ms, rounded up.

    Raises ValueError with the reason. Bare numbers other than `0` are refused.
    """
    if text == "0":
        return 0
    if not text:
        raise ValueError("an empty text is not a duration, write for example '10s' or 'PT10S'")
    if text[0] == "-" or text[:2] in ("P-", "p-"):
        raise ValueError(f"'{text}' is negative, a duration cannot be")
    total_ns = _iso_ns(text.upper()) if text[0] in "Pp" else _friendly_ns(text)
    total_ms = -(-total_ns // NS_PER_MS)
    if total_ms > _LONGEST_MS:
        raise ValueError(f"'{text}' is too long, at most 1000 years are possible")
    return total_ms


def _friendly_ns(text: str) -> int:
    total = at = 0
    last_rank = -1
    while at < len(text):
        clock = _CLOCK.match(text, at)
        if clock:
            if last_rank >= _HOUR_RANK:
                raise ValueError(f"'{text}' has hours both as a unit and as HH:MM:SS")
            return total + _clock_ns(clock)
        group = _GROUP.match(text, at)
        if group is None:
            raise ValueError(_explain(text, at))
        whole, fraction, unit = group.groups()
        size_ns, rank = _unit(unit, text)
        if rank <= last_rank:
            raise ValueError(f"'{text}' does not have its units in descending order, each once")
        last_rank = rank
        total += int(whole) * size_ns
        at = group.end()
        if fraction:
            if rank < _HOUR_RANK:
                raise ValueError(f"'{text}' has a fraction of '{unit}', only hours and below may")
            if at < len(text):
                raise ValueError(f"'{text}' goes on behind a fraction, which only comes last")
            total += _fraction_ns(fraction, size_ns)
        elif at < len(text):
            gap = _GAP.match(text, at)
            at = gap.end() if gap else at
            if at == len(text):
                raise ValueError(f"'{text}' ends with a separator")
    return total


def _unit(unit: str, text: str) -> tuple[int, int]:
    found = _UNITS.get(unit)
    if found is None:
        if unit in _CALENDAR:
            raise ValueError(f"'{text}' has years or months: {_NO_CALENDAR}")
        raise ValueError(f"'{unit}' in '{text}' is not a unit, write w, d, h, m, s, ms, us or ns")
    return found


def _clock_ns(match: re.Match[str]) -> int:
    hours, minutes, seconds, fraction = match.groups()
    total_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
    return total_s * 10**9 + (_fraction_ns(fraction, 10**9) if fraction else 0)


def _fraction_ns(digits: str, size_ns: int) -> int:
    return int(digits) * size_ns // int(10 ** len(digits))


def _explain(text: str, at: int) -> str:
    rest = text[at:]
    if rest[0].isdigit():
        return f"'{text}' has a number without a unit, write for example '10s' or '500ms'"
    return (
        f"'{text}' is not a duration: a number was expected at '{rest}', as in '1h 30m' or 'PT1H'"
    )


def _iso_ns(text: str) -> int:
    date, has_time, clock = text[1:].partition("T")
    if not date and not clock:
        raise ValueError(f"'{text}' has no units, write for example 'P1D' or 'PT10S'")
    if has_time and not clock:
        raise ValueError(f"'{text}' ends with T, a time such as '1H30M' was expected behind it")
    total, fraction = _iso_part(date, _ISO_DATE_UNITS, text)
    if fraction:
        raise ValueError(f"'{text}' has a fraction, only hours and below may")
    return total + _iso_part(clock, _ISO_TIME_UNITS, text)[0]


def _iso_part(part: str, units: dict[str, str], text: str) -> tuple[int, bool]:
    total = at = 0
    last_rank = -1
    fraction: str | None = None
    while at < len(part):
        group = _ISO.match(part, at)
        if group is None or fraction:
            raise ValueError(f"'{text}' is not an ISO 8601 duration such as 'P1DT2H' or 'PT1.5S'")
        whole, fraction, letter = group.groups()
        if letter not in units:
            is_calendar = units is _ISO_DATE_UNITS and letter in _CALENDAR
            reason = _NO_CALENDAR if is_calendar else f"'{letter}' cannot stand there"
            raise ValueError(f"'{text}': {reason}")
        size_ns, rank = _UNITS[units[letter]]
        if rank <= last_rank:
            raise ValueError(f"'{text}' does not have its units in descending order, each once")
        last_rank = rank
        total += int(whole) * size_ns + (_fraction_ns(fraction, size_ns) if fraction else 0)
        at = group.end()
    return total, fraction is not None


def format_duration(ms: int) -> str:
    """`1d`, `1h 30m`, `1m 30s`, `500ms`, `0s`; the largest unit is the day."""
    if ms == 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _UNITS[unit][0] // NS_PER_MS)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)


def rfc3339_ns(ms: int) -> str:
    """`2026-11-22T08:17:45.320000000Z`, as in `executionTime` and the admin API."""
    seconds, rest = divmod(ms, _MS_PER_S)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03}000000Z"


def rfc3339_ms(ms: int) -> str:
    """`2026-11-23T08:17:35.258+00:00`, as in `idempotency-expires`."""
    seconds, rest = divmod(ms, _MS_PER_S)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03}+00:00"


_SIZE: Final = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))? *([A-Za-z]*)", re.ASCII)
_SIZES: Final[dict[str, int]] = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip


def parse_size_bytes(text: str) -> int:
    """`32 MiB`, `1KB`, `0`, in bytes. Raises ValueError with the reason."""
    match = _SIZE.fullmatch(text)
    unit = _SIZES.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"'{text}' is not a size, write for example '32 MiB', '500 KB' or '0'")
    fraction = match[2] or ""
    return int(match[1]) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def format_size(size_bytes: int) -> str:
    """`32 MiB`, `64 KiB`, `1500 B`: the largest unit that divides it."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes and size_bytes % (1 << power) == 0:
            return f"{size_bytes >> power} {unit}"
    return f"{size_bytes} B"
