"""Timers: a window of them in memory, all others in rows that are read when their time comes near."""

import asyncio
from random import Random

from perdure.actors.clock import EPOCH_MS, VirtualClock, VirtualLoop, run_virtual
from perdure.actors.timers import WINDOW_LIMIT, Timers
from perdure.journal import keys
from perdure.journal.keys import TimerKind
from perdure.journal.store import Row

START = keys.timers_from(0)
VALUE = keys.pack_number(1)


def key(due_ms: int, number: int) -> bytes:
    return keys.timer(due_ms, TimerKind.SLEEP, bytes(24), number)


class Bench:
    """Rows as a store would hold them, and what fired when."""

    def __init__(self, low_water: bytes = START, rows: dict[bytes, bytes] | None = None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock: VirtualClock = loop.clock
        self.rows = {} if rows is None else rows
        self.fired: list[tuple[int, bytes]] = []
        self.most_in_memory = 0
        self.timers = Timers(loop, self.clock.now_ms, self._read, self._fire, low_water)

    def add(self, due_ms: int, number: int) -> None:
        row = key(due_ms, number)
        self.rows[row] = VALUE
        self.timers.add(due_ms, row, VALUE)
        self.most_in_memory = max(self.most_in_memory, len(self.timers._heap))

    def _read(self, after: bytes, until_ms: int, limit: int) -> list[Row]:
        rows = sorted(r for r in self.rows.items() if after < r[0] < keys.timers_until(until_ms))
        return rows[:limit]

    def _fire(self, row: bytes, value: bytes) -> None:
        assert value == VALUE
        self.fired.append((self.clock.now_ms(), row))
        del self.rows[row]


def dues(count: int, seed: int = 1) -> list[int]:
    rng = Random(seed)
    return [EPOCH_MS + rng.randrange(1, 3_600_000) for _ in range(count)]


def test_many_more_timers_than_the_window_fire_once_each_in_order_and_never_early() -> None:
    async def main() -> None:
        bench = Bench()
        bench.timers.start()
        for number, due_ms in enumerate(dues(3 * WINDOW_LIMIT)):
            bench.add(due_ms, number)
        expected = sorted(bench.rows)
        await asyncio.sleep(3_601)
        assert [row for _, row in bench.fired] == expected
        assert all(now_ms >= keys.split_timer(row)[0] for now_ms, row in bench.fired)
        assert not bench.rows
        assert bench.most_in_memory <= 2 * WINDOW_LIMIT

    run_virtual(main())


def test_after_a_restart_the_rows_from_the_low_water_on_fire() -> None:
    async def main() -> None:
        first = Bench()
        first.timers.start()
        for number, due_ms in enumerate(dues(WINDOW_LIMIT + 500)):
            first.add(due_ms, number)
        await asyncio.sleep(1_800)
        left = sorted(first.rows)
        first.timers.stop()
        assert 0 < len(left) < WINDOW_LIMIT + 500
        assert left[0] > first.timers.low_water
        await asyncio.sleep(600)  # some fall due while nobody looks
        second = Bench(first.timers.low_water, first.rows)
        second.timers.start()
        await asyncio.sleep(1_801)
        assert [row for _, row in second.fired] == left

    run_virtual(main())


def test_a_timer_set_before_the_low_water_lowers_it() -> None:
    async def main() -> None:
        bench = Bench()
        bench.timers.start()
        bench.add(EPOCH_MS + 10_000, 1)
        await asyncio.sleep(11)
        assert bench.timers.low_water == key(EPOCH_MS + 10_000, 1)
        bench.add(EPOCH_MS + 5_000, 2)  # as after the wall clock was set back
        assert bench.timers.low_water < key(EPOCH_MS + 5_000, 2)
        await asyncio.sleep(1)
        assert [row for _, row in bench.fired][1:] == [key(EPOCH_MS + 5_000, 2)]

    run_virtual(main())


def test_an_earlier_timer_does_not_wait_for_a_later_one() -> None:
    async def main() -> None:
        bench = Bench()
        bench.timers.start()
        bench.add(EPOCH_MS + 60_000, 1)
        bench.add(EPOCH_MS + 1_000, 2)
        await asyncio.sleep(1.5)
        assert [row for _, row in bench.fired] == [key(EPOCH_MS + 1_000, 2)]
        bench.timers.stop()

    run_virtual(main())
