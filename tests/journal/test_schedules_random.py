"""Any order of ticks, ends, requests and crashes: each schedule has its timer, its counts, its ticks once."""

from random import Random

import pytest
from msgspec.structs import replace

from perdure.journal import ids, keys
from perdure.journal.keys import TimerKind
from perdure.journal.records import Completed, decode_invocation
from perdure.journal.requests import Op
from perdure.journal.schedules_records import Interval, Overlap, Spec, decode_schedule
from perdure.journal.schedules_requests import (
    Declare,
    Delete,
    FillBack,
    Pause,
    Put,
    Resume,
    Trigger,
)
from tests.journal.clockwork import MINUTE_MS, MINUTELY, Clockwork
from tests.journal.machine import DAY_MS, Machine

NAMES = ("a", "b", "c")
OBJECT = {"service": "Counter", "handler": "add", "key": "alice"}


def _some_spec(rng: Random) -> Spec:
    target = rng.choice([{}, OBJECT, {"service": "Flow", "handler": "run"}])
    spec = replace(MINUTELY, name=rng.choice(NAMES), overlap=rng.choice(list(Overlap)), **target)
    every_ms = rng.choice([MINUTE_MS, 5 * MINUTE_MS])
    catch_up_ms = rng.choice([0, 3 * MINUTE_MS, DAY_MS])
    jitter_ms = rng.choice([0, 40_000])
    return replace(spec, timing=Interval(every_ms), catch_up_ms=catch_up_ms, jitter_ms=jitter_ms)


def _do_something(m: Clockwork, rng: Random, open_: list[bytes]) -> None:
    name = rng.choice(NAMES)
    match rng.randrange(12):
        case 0:
            m.ask(Put(_some_spec(rng), rng.random() < 0.5))
        case 1:
            m.ask(Pause(name, "why") if rng.random() < 0.5 else Resume(name))
        case 2:
            m.ask(Trigger(name, m.now_ms))
        case 3:
            from_ms = m.now_ms - rng.randrange(1, 30) * MINUTE_MS
            m.ask(FillBack(name, from_ms, m.now_ms, rng.random() < 0.5, m.now_ms))
        case 4 if rng.random() < 0.3:
            m.ask(Delete(name))
        case 5 if rng.random() < 0.2:
            m.ask(Declare(("Greeter",), ()))
        case 6:
            m.now_ms += rng.randrange(10 * MINUTE_MS)  # nothing runs meanwhile
        case 7 if open_:
            m.operate(rng.choice(open_), rng.choice([Op.KILL, Op.CANCEL]))
        case 8:
            m.commit()
        case 9:
            m.crash()
        case _ if open_:
            chosen = rng.choice(open_)
            if m.find(chosen) is not None and chosen in m.tables.running():
                m.end(chosen)
    m.pass_ms(rng.randrange(2 * MINUTE_MS))


def _check(m: Machine) -> list[bytes]:
    """What is durable hangs together; the ids of what is open."""
    m.commit()
    records = {k[1:]: decode_invocation(v) for k, v in m.rows(keys.INVOCATION).items()}
    open_ = {id for id, r in records.items() if type(r.status) is not Completed}
    timers: dict[bytes, list[tuple[int, int]]] = {}
    for key in m.rows(keys.TIMER):
        due_ms, kind, id, number = keys.split_timer(key)
        if kind is TimerKind.SCHEDULE:
            timers.setdefault(id, []).append((due_ms, number))
    rows = {k[1:]: decode_schedule(v) for k, v in m.rows(keys.SCHEDULE).items()}
    count = m.rows(keys.META).get(keys.SCHEDULE_COUNT, bytes(8))
    assert keys.unpack_number(count) == len(rows)
    for id, schedule in rows.items():
        assert id == ids.schedule_id(schedule.spec.name)
        ticks = [due_ms for due_ms, number in timers.get(id, ()) if number == 0]
        assert ticks == ([schedule.timer_ms] if schedule.timer_ms else [])
        assert (schedule.timer_ms > 0) == (schedule.next_tick_ms is not None)
        assert not (schedule.paused and schedule.timer_ms)
        mine = {id for id in open_ if any(w == schedule.waiter(ids.schedule_id(schedule.spec.name))
                                          for w in records[id].waiters)}  # fmt: skip
        over = schedule.succeeded_count + schedule.failed_count
        assert schedule.started_count == over + len(mine)
        awaited = {each.running for each in schedule.backfills if not each.at_once}
        assert awaited <= mine
        assert set(schedule.running) <= mine
        assert schedule.waiting_tick_ms is None or schedule.running
        if any(each.at_once for each in schedule.backfills):
            assert any(number == 1 for _, number in timers[id])
    return sorted(id for id in open_ if records[id].invoked_by.startswith("schedule:"))


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_in_any_order_schedules_hang_together(seed: int) -> None:
    rng = Random(seed)
    m = Clockwork(seed=seed)
    for name in NAMES:
        m.put(replace(_some_spec(rng), name=name))
    open_: list[bytes] = []
    for step in range(150):
        _do_something(m, rng, open_)
        if step % 5 == 4:
            open_ = _check(m)
    assert any(
        decode_schedule(v).started_count for v in m.rows(keys.SCHEDULE).values()
    ) or not m.rows(keys.SCHEDULE)
