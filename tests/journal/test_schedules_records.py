"""Stored schedules: the bytes of every timing, backfill and schedule, for ever."""

from typing import Any

import msgspec
import pytest

from perdure.journal import ids, keys
from perdure.journal.records import encode
from perdure.journal.rows import check_row
from perdure.journal.schedules_records import (
    DAY_MS,
    Backfill,
    Cron,
    Interval,
    Once,
    Overlap,
    Schedule,
    Spec,
    Timing,
    decode_schedule,
)

ID = bytes(range(24))
NOW_MS = 1_700_000_000_000

CRON = Cron("0 3 * * *", "Europe/Berlin")
INTERVAL = Interval(90_000, 5_000)
ONCE = Once(NOW_MS)
TIMINGS: list[tuple[Timing, str]] = [
    (CRON, "93a463726f6ea930203320" + b"* * *".hex() + "ad" + b"Europe/Berlin".hex()),
    (INTERVAL, "93a8" + b"interval".hex() + "ce00015f90cd1388"),
    (ONCE, "92a4" + b"once".hex() + "cf0000018bcfe56800"),
]
YOUNG = Schedule(Spec("nightly", ONCE, "Reports", "build"), NOW_MS, NOW_MS, 7)
OLD = Schedule(
    Spec(
        "nightly",
        CRON,
        "Reports",
        "build",
        "eu",
        b"{}",
        (("a", "b"),),
        Overlap.QUEUE,
        60_000,
        DAY_MS,
        "Reports",
    ),
    NOW_MS,
    NOW_MS + 1,
    7,
    NOW_MS + 2,
    NOW_MS + 3,
    "by an operator",
    (ID,),
    NOW_MS + 4,
    (Backfill(NOW_MS, NOW_MS + 5, NOW_MS + 6, True, ID),),
    *(1, 2, 3, 4, 5),
    NOW_MS + 7,
    ID,
    "gone",
)
OLD_HEX = (
    "dc00129ba76e696768746c7993a463726f6ea9302033202a202a202aad4575726f70652f4265726c696ea752"
    "65706f727473a56275696c64a26575c4027b7d9192a161a162a57175657565cdea60ce05265c00a75265706f"
    "727473cf0000018bcfe56800cf0000018bcfe5680107cf0000018bcfe56802cf0000018bcfe56803ae627920"
    "616e206f70657261746f7291c418000102030405060708090a0b0c0d0e0f1011121314151617cf0000018bcf"
    "e568049195cf0000018bcfe56800cf0000018bcfe56805cf0000018bcfe56806c3c418000102030405060708"
    "090a0b0c0d0e0f10111213141516170102030405cf0000018bcfe56807c418000102030405060708090a0b0c"
    "0d0e0f1011121314151617a4676f6e65"
)


@pytest.mark.parametrize(("timing", "stored"), TIMINGS)
def test_a_timing_has_these_bytes_for_ever(timing: Timing, stored: str) -> None:
    assert encode(timing).hex() == stored


def test_a_schedule_has_these_bytes_for_ever() -> None:
    assert encode(OLD).hex() == OLD_HEX
    assert decode_schedule(bytes.fromhex(OLD_HEX)) == OLD


@pytest.mark.parametrize("length", range(4, len(Schedule.__struct_fields__)))
def test_a_schedule_from_before_a_field_was_added_is_read(length: int) -> None:
    stored: list[Any] = msgspec.msgpack.decode(bytes.fromhex(OLD_HEX))
    read = decode_schedule(msgspec.msgpack.encode(stored[:length]))
    for field in Schedule.__struct_fields__[:length]:
        assert getattr(read, field) == getattr(OLD, field)
    for field in Schedule.__struct_fields__[length:]:
        assert getattr(read, field) == getattr(YOUNG, field)


def test_an_overlap_has_these_names_for_ever() -> None:
    assert [each.value for each in Overlap] == ["skip", "queue", "allow", "cancel"]


def test_a_schedule_has_this_id_for_ever() -> None:
    assert ids.schedule_id("nightly").hex() == "9685c83f06e7eddd4d6555363c79623567ebbeb8d9f58190"


def test_the_doctor_knows_the_row_of_a_schedule() -> None:
    assert check_row(keys.schedule(ID), encode(OLD)) is None
    assert check_row(keys.schedule(ID), b"\x91\x01") is not None
    assert check_row(keys.timer(1, keys.TimerKind.SCHEDULE, ID), keys.pack_number(1)) is None
