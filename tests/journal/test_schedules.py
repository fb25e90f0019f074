"""Schedules in the partition machine: one tick, one invocation, in one change with the next timer."""

from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from perdure.journal import ids, keys
from perdure.journal.events import AskSchedules, Report, SetTimer
from perdure.journal.keys import TimerKind
from perdure.journal.records import Inboxed, Running
from perdure.journal.requests import Op
from perdure.journal.schedules import MAX_RUNNING
from perdure.journal.schedules_records import (
    DAY_MS,
    Cron,
    Interval,
    Once,
    Overlap,
    Spec,
)
from perdure.journal.schedules_requests import (
    MAX_SCHEDULES,
    Delete,
    FillBack,
    Pause,
    Put,
    Refused,
    Resume,
    Trigger,
)
from tests.journal.clockwork import ID, MINUTE_MS, MINUTELY, START_MS, Clockwork
from tests.journal.machine import ADD, NOW_MS


@pytest.fixture
def m() -> Clockwork:
    return Clockwork()


# ---- a tick --------------------------------------------------------------------------------------


def test_a_new_schedule_waits_for_its_next_tick(m: Clockwork) -> None:
    made = m.put()
    due_ms = START_MS + MINUTE_MS
    assert (made.next_tick_ms, made.timer_ms) == (due_ms, due_ms)
    assert m.timers() == [(due_ms, 0)]
    assert [each.due_ms for each in m.did(SetTimer)] == [due_ms]
    assert m.begun() == []


def test_a_tick_its_row_and_the_next_timer_are_one_change(m: Clockwork) -> None:
    m.put()
    m.commit()
    row, *_ = m.tables.timers(b"\x40", 1 << 60, 1)
    m.now_ms = START_MS + MINUTE_MS
    step = m.fire(row)
    (id,) = step.invocations
    assert step.rows[row[0]] is None
    assert step.rows[keys.timer(START_MS + 2 * MINUTE_MS, TimerKind.SCHEDULE, ID)] is not None
    assert step.rows[keys.schedule(ID)] is not None
    written = dict(m.commit())
    assert {keys.schedule(ID), keys.invocation(id), row[0]} <= written.keys()


def test_a_tick_is_an_invocation_with_a_name_made_of_schedule_and_time(m: Clockwork) -> None:
    m.put()
    m.pass_ms(MINUTE_MS)
    (id,) = m.begun()
    record = m.record(id)
    once = "schedule/tick/2023-11-14T22:14:00Z"
    assert id == ids.idempotent_id("Greeter", None, "greet", once)
    assert (record.idempotency_key, record.invoked_by) == (once, "schedule:tick")
    assert type(record.status) is Running
    (sent,) = m.journal(id)
    headers = (("a", "b"), ("x-perdure-schedule", "tick"), ("x-perdure-tick", once[-20:]))
    assert sent == replace(m.input(b"x"), headers=headers)
    stands = m.schedule()
    assert (stands.running, stands.started_count, stands.last_invocation) == ((id,), 1, id)
    assert stands.last_tick_ms == START_MS + MINUTE_MS


def test_a_run_of_a_workflow_gets_a_key_of_its_own(m: Clockwork) -> None:
    m.put(replace(MINUTELY, service="Flow", handler="run"))
    m.put(replace(MINUTELY, name="two", service="Flow", handler="run", key="eu"))
    m.pass_ms(MINUTE_MS)
    found = {m.record(id).key for id in m.begun()}
    assert found == {"tick@2023-11-14T22:14:00Z", "eu@2023-11-14T22:14:00Z"}


def test_ticks_of_two_stores_draw_different_chance(m: Clockwork) -> None:
    other = Clockwork()
    other.apply(AskSchedules(Put(MINUTELY), 98, 1, other.now_ms))
    m.put()
    for each in (m, other):
        each.pass_ms(MINUTE_MS)
    (id,) = m.begun()
    assert other.begun() == [id]
    assert m.record(id).seed != other.record(id).seed


def test_the_end_is_counted_and_the_next_tick_comes(m: Clockwork) -> None:
    m.put()
    m.pass_ms(MINUTE_MS)
    m.end(m.begun()[0])
    m.pass_ms(MINUTE_MS)
    second = m.begun()[1]
    m.burst(second, m.fail_out(500, "no"), m.ended())
    stands = m.schedule()
    assert (stands.started_count, stands.succeeded_count, stands.failed_count) == (2, 1, 1)
    assert stands.running == ()


def test_a_timer_that_was_overtaken_does_nothing(m: Clockwork) -> None:
    m.put()
    row, *_ = m.tables.timers(b"\x40", 1 << 60, 1)
    m.put(replace(MINUTELY, timing=Interval(2 * MINUTE_MS, MINUTE_MS)), may_replace=True)
    m.now_ms += MINUTE_MS
    m.fire(row)
    assert m.begun() == []
    m.ask(Delete("tick"))
    m.fire(row)
    assert (m.begun(), m.timers()) == ([], [])


def test_a_tick_fires_once_whatever_crashes_between_decision_and_commit() -> None:
    for seed in range(20):
        rng, m = Random(seed), Clockwork(seed=seed)
        m.put(replace(MINUTELY, overlap=Overlap.ALLOW))
        m.commit()
        for _ in range(40):
            m.pass_ms(rng.randrange(0, 2 * MINUTE_MS))
            if rng.random() < 0.5:
                m.commit()
            if rng.random() < 0.3:
                m.crash()
        m.pass_ms(0)
        m.commit()
        stored = [msgspec.msgpack.decode(v) for v in m.rows(keys.INVOCATION).values()]
        stands = m.schedule()
        due = (m.now_ms - START_MS) // MINUTE_MS
        assert len(stored) == stands.started_count == due, f"seed {seed}"
        assert len(m.timers()) == 1


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (replace(MINUTELY, service="Nobody"), 404),
        (replace(MINUTELY, handler="nothing"), 404),
        (replace(MINUTELY, key="k"), 400),
        (replace(MINUTELY, service="Counter", handler="add"), 400),
        (replace(MINUTELY, timing=Once(NOW_MS)), 400),
        (replace(MINUTELY, timing=Cron("0 0 */20 * 1L")), 400),
    ],
)
def test_what_could_not_run_is_refused_and_leaves_nothing(
    m: Clockwork, spec: Spec, code: int
) -> None:
    answer = m.ask(Put(spec))
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert m.commit() == []


def test_names_are_unique_and_what_is_unknown_is_told(m: Clockwork) -> None:
    m.put()
    again = m.ask(Put(MINUTELY))
    assert isinstance(again, Refused)
    assert again.code == 409
    for wanted in (Pause("x", ""), Resume("x"), Trigger("x", 1), Delete("x"),
                   FillBack("x", 1, 2, False, 3)):  # fmt: skip
        refused = m.ask(wanted)
        assert isinstance(refused, Refused)
        assert refused.code == 404


def test_there_is_a_limit_of_schedules_that_deleting_makes_room_under(m: Clockwork) -> None:
    m.put()
    m.tables.put_row(keys.SCHEDULE_COUNT, keys.pack_number(MAX_SCHEDULES))
    full = m.ask(Put(replace(MINUTELY, name="other")))
    assert isinstance(full, Refused)
    assert full.code == 429
    m.ask(Delete("tick"))
    m.put(replace(MINUTELY, name="other"))
    assert len(m.tables.schedules()) == 1


# ---- overlap -------------------------------------------------------------------------------------


def test_skip_drops_ticks_while_one_runs(m: Clockwork) -> None:
    m.put()
    m.pass_ms(3 * MINUTE_MS)
    (first,) = m.begun()
    assert m.schedule().skipped_count == 2
    m.end(first)
    m.pass_ms(MINUTE_MS)
    assert len(m.begun()) == 2


def test_queue_keeps_the_newest_tick_and_begins_it_in_the_change_of_the_end(m: Clockwork) -> None:
    m.put(replace(MINUTELY, overlap=Overlap.QUEUE))
    m.pass_ms(3 * MINUTE_MS)
    (first,) = m.begun()
    stands = m.schedule()
    assert (stands.waiting_tick_ms, stands.skipped_count) == (START_MS + 3 * MINUTE_MS, 1)
    step = m.end(first)
    assert len(step.invocations) == 2
    assert m.ticks() == [f"schedule/tick/2023-11-14T22:{n}:00Z" for n in (14, 16)]
    assert m.schedule().waiting_tick_ms is None
    m.end(m.schedule().running[0])
    assert len(m.begun()) == 2


def test_allow_begins_every_tick_up_to_a_bound(m: Clockwork) -> None:
    m.decide_count = 1
    m.put(replace(MINUTELY, overlap=Overlap.ALLOW))
    m.pass_ms(5 * MINUTE_MS)
    assert len(m.begun()) == 5
    m.pass_ms(MAX_RUNNING * MINUTE_MS)
    stands = m.schedule()
    assert len(stands.running) == len(m.begun()) == MAX_RUNNING
    assert stands.skipped_count == 5


def test_cancel_asks_the_older_one_to_stop_once_and_begins_the_newer(m: Clockwork) -> None:
    m.put(replace(MINUTELY, overlap=Overlap.CANCEL))
    m.pass_ms(3 * MINUTE_MS)
    begun = m.begun()
    assert len(begun) == 3
    assert [len(m.journal(id)) for id in begun] == [2, 2, 1]  # the input, and one cancellation
    assert m.schedule().running == (begun[-1],)


def test_cancel_withdraws_what_still_waits_for_its_key(m: Clockwork) -> None:
    blocker = m.request(ADD, "alice")
    target = replace(MINUTELY, service="Counter", handler="add", key="alice")
    m.put(replace(target, overlap=Overlap.CANCEL))
    m.pass_ms(2 * MINUTE_MS)
    (waits,) = m.begun()
    assert type(m.status(waits)) is Inboxed
    stands = m.schedule()
    assert (stands.started_count, stands.failed_count, stands.running) == (2, 1, (waits,))
    m.end(blocker)
    assert type(m.status(waits)) is Running


def test_killing_what_runs_lets_the_queued_tick_begin(m: Clockwork) -> None:
    m.put(replace(MINUTELY, overlap=Overlap.QUEUE))
    m.pass_ms(2 * MINUTE_MS)
    m.operate(m.begun()[0], Op.KILL)
    assert m.schedule().started_count == 2


# ---- late ----------------------------------------------------------------------------------------


def late(m: Clockwork, delay_ms: int) -> None:
    """Nothing runs for so long; then the timers fire."""
    m.now_ms += delay_ms
    m.pass_ms(0)


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE, Overlap.CANCEL])
def test_one_run_catches_up_for_all_that_was_missed(m: Clockwork, overlap: Overlap) -> None:
    m.put(replace(MINUTELY, overlap=overlap))
    late(m, 10 * MINUTE_MS)
    assert m.ticks() == ["schedule/tick/2023-11-14T22:23:00Z"]
    stands = m.schedule()
    assert (stands.skipped_count, stands.missed_count) == (9, 0)
    assert stands.next_tick_ms == START_MS + 11 * MINUTE_MS


def test_where_all_are_allowed_each_missed_tick_runs_once(m: Clockwork) -> None:
    m.put(replace(MINUTELY, overlap=Overlap.ALLOW))
    late(m, 25 * MINUTE_MS)
    assert len(m.ticks()) == len(set(m.ticks())) == 25
    assert m.timers() == [(START_MS + 26 * MINUTE_MS, 0)]


def test_ticks_older_than_the_catch_up_window_are_missed_and_reported(m: Clockwork) -> None:
    m.put(replace(MINUTELY, overlap=Overlap.ALLOW, catch_up_ms=2 * MINUTE_MS))
    late(m, 10 * MINUTE_MS)
    assert m.ticks() == [f"schedule/tick/2023-11-14T22:{n}:00Z" for n in (22, 23)]
    assert m.schedule().missed_count == 8
    assert [each.level for each in m.log if isinstance(each, Report)] == ["warning"]


def test_a_clock_that_was_set_back_runs_no_tick_again(m: Clockwork) -> None:
    m.put(replace(MINUTELY, overlap=Overlap.ALLOW))
    m.pass_ms(5 * MINUTE_MS)
    m.now_ms -= 3 * MINUTE_MS
    m.pass_ms(4 * MINUTE_MS)
    assert len(m.ticks()) == len(set(m.ticks())) == 6


def test_a_single_moment_runs_once_and_the_schedule_is_finished(m: Clockwork) -> None:
    m.put(replace(MINUTELY, timing=Once(NOW_MS + 5)))
    m.pass_ms(DAY_MS)
    assert len(m.begun()) == 1
    stands = m.schedule()
    assert (stands.next_tick_ms, stands.timer_ms, m.timers()) == (None, 0, [])


def test_jitter_delays_the_beginning_and_not_the_name(m: Clockwork) -> None:
    m.put(replace(MINUTELY, jitter_ms=30_000))
    ((due_ms, _),) = m.timers()
    assert START_MS + MINUTE_MS < due_ms < START_MS + MINUTE_MS + 30_000
    m.pass_ms(due_ms - m.now_ms)
    assert m.ticks() == ["schedule/tick/2023-11-14T22:14:00Z"]


# ---- a handler that is gone, a time zone that is gone --------------------------------------------


def test_a_tick_without_its_handler_is_missed_and_the_next_one_tries_again(m: Clockwork) -> None:
    m.put()
    gone = m.deployed.known.pop(("Greeter", "greet"))
    m.pass_ms(2 * MINUTE_MS)
    stands = m.schedule()
    assert (stands.missed_count, "Greeter/greet" in stands.problem) == (2, True)
    assert isinstance(m.ask(Trigger("tick", m.now_ms)), Refused)
    m.deployed.known[("Greeter", "greet")] = gone
    m.pass_ms(MINUTE_MS)
    assert (len(m.begun()), m.schedule().problem) == (1, "")


def test_a_time_zone_that_vanished_pauses_the_schedule(m: Clockwork) -> None:
    made = m.put()
    broken = replace(made, spec=replace(MINUTELY, timing=Cron("* * * * *", "Gone/Gone")))
    m.tables.put_row(keys.schedule(ID), msgspec.msgpack.encode(broken))
    m.pass_ms(MINUTE_MS)
    stands = m.schedule()
    assert "Gone/Gone" in (stands.paused or "")
    assert (m.begun(), m.timers()) == ([], [])
    refused = m.ask(Resume("tick"))
    assert isinstance(refused, Refused)
    assert refused.code == 409
