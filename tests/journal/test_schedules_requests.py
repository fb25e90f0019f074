"""What operators and programs ask of schedules: pause, trigger, change, delete, backfill, declare."""

import pytest
from msgspec.structs import replace

from perdure.journal import keys, outbox
from perdure.journal.entries import Failure, Output, Void
from perdure.journal.events import Arrived
from perdure.journal.placement import Placement, owner_of, owner_of_key
from perdure.journal.records import Completed, Running
from perdure.journal.schedules_records import (
    Interval,
    Once,
    Overlap,
)
from perdure.journal.schedules_requests import (
    Declare,
    Delete,
    FillBack,
    Filled,
    Gone,
    Pause,
    Put,
    Refused,
    Resume,
    Trigger,
    Triggered,
)
from perdure.journal.schema import HandlerType
from tests.journal.clockwork import ID, MINUTE_MS, MINUTELY, START_MS, Clockwork
from tests.journal.machine import ADD, GREET, NOW_MS, handler


@pytest.fixture
def m() -> Clockwork:
    return Clockwork()


# ---- pause, trigger, change, delete --------------------------------------------------------------


def test_ticks_of_a_pause_are_not_run_later(m: Clockwork) -> None:
    m.put(replace(MINUTELY, overlap=Overlap.QUEUE))
    m.pass_ms(2 * MINUTE_MS)
    m.ask(Pause("tick", "why"))
    assert (m.schedule().paused, m.schedule().waiting_tick_ms, m.timers()) == ("why", None, [])
    m.end(m.begun()[0])
    m.pass_ms(10 * MINUTE_MS)
    assert len(m.begun()) == 1
    m.ask(Resume("tick"))
    m.pass_ms(MINUTE_MS)
    assert len(m.begun()) == 2
    assert m.schedule().missed_count == 0


def test_a_trigger_runs_at_once_and_a_repeated_request_is_the_same_one(m: Clockwork) -> None:
    m.put()
    m.ask(Pause("tick", "why"))
    first = m.ask(Trigger("tick", m.now_ms))
    assert isinstance(first, Triggered)
    assert m.ask(Trigger("tick", m.now_ms)) == first
    m.pass_ms(1)
    second = m.ask(Trigger("tick", m.now_ms))
    assert m.begun() == [each.invocation for each in (first, second) if isinstance(each, Triggered)]
    assert m.schedule().running == tuple(m.begun())


def test_a_repeated_trigger_is_the_same_one_wherever_its_run_is_over() -> None:
    m = Clockwork(ADD)
    here = owner_of(ID, 2)
    m.tables.placement = Placement(here, 2)
    there = next(key for key in "abcdefgh" if owner_of_key(key, 2) != here)
    m.put(replace(MINUTELY, service="Counter", handler="add", key=there))
    first = m.ask(Trigger("tick", m.now_ms))
    assert isinstance(first, Triggered)
    schedule = m.schedule()
    told = outbox.Answer(schedule.waiter(ID), Void(), first.invocation)
    m.apply(Arrived(1 - here, 1, outbox.Outgoing(first.invocation[:8], ID, told), m.now_ms))
    assert (m.schedule().running, m.schedule().succeeded_count) == ((), 1)
    assert m.ask(Trigger("tick", m.now_ms)) == first
    assert m.schedule().started_count == 1
    m.commit()
    assert len(m.rows(keys.OUTBOX)) == 1


def test_a_change_keeps_counts_and_life_and_what_runs(m: Clockwork) -> None:
    m.put()
    m.pass_ms(MINUTE_MS)
    m.put(replace(MINUTELY, body=b"y"), may_replace=True)
    assert m.schedule().next_tick_ms == START_MS + 2 * MINUTE_MS
    m.put(replace(MINUTELY, timing=Interval(5 * MINUTE_MS)), may_replace=True)
    assert m.timers() == [(m.schedule().next_tick_ms, 0)]
    m.end(m.begun()[0])
    assert (m.schedule().succeeded_count, m.schedule().created_at_ms) == (1, NOW_MS)


def test_what_a_deleted_schedule_began_goes_on_and_tells_nobody(m: Clockwork) -> None:
    m.put()
    m.pass_ms(MINUTE_MS)
    (id,) = m.begun()
    assert m.ask(Delete("tick")) == Gone()
    m.pass_ms(1)
    m.put()
    m.end(id)
    assert type(m.status(id)) is Completed
    assert m.schedule().succeeded_count == 0


def test_made_anew_a_schedule_does_not_run_a_tick_that_has_run(m: Clockwork) -> None:
    m.put()
    m.pass_ms(MINUTE_MS)
    m.end(m.begun()[0])
    m.ask(Delete("tick"))
    m.now_ms -= MINUTE_MS
    m.put()
    m.pass_ms(MINUTE_MS)
    assert len(m.begun()) == 1
    assert m.schedule().skipped_count == 1


# ---- backfill ------------------------------------------------------------------------------------


def test_a_backfill_runs_tick_after_tick_each_in_the_change_of_the_end_before(m: Clockwork) -> None:
    m.put()
    range_ms = (START_MS - 10 * MINUTE_MS, START_MS - 8 * MINUTE_MS)
    assert m.ask(FillBack("tick", *range_ms, False, NOW_MS)) == Filled(3)
    assert m.ask(FillBack("tick", *range_ms, False, NOW_MS)) == Filled(3)  # sent again
    for count in (1, 2, 3):
        assert len(m.begun()) == count
        (open_,) = [id for id in m.begun() if type(m.status(id)) is Running]
        m.end(open_)
    assert len(m.begun()) == 3
    assert m.ticks()[0] == f"schedule/tick/2023-11-14T22:03:00Z+backfill-{NOW_MS}"
    assert m.schedule().backfills == ()


def test_a_backfill_at_once_begins_all_in_small_steps_over_a_crash(m: Clockwork) -> None:
    m.put()
    since_ms = START_MS - 34 * MINUTE_MS
    m.ask(FillBack("tick", since_ms, START_MS, True, NOW_MS))
    m.fire(m.tables.timers(b"\x40", m.now_ms, 1)[0])
    assert len(m.begun()) == 10
    m.commit()
    m.crash()
    m.pass_ms(0)
    stands = m.schedule()
    assert (stands.started_count, stands.backfills) == (35, ())


def test_a_backfill_and_the_ticks_do_not_get_in_each_others_way(m: Clockwork) -> None:
    m.put()
    m.ask(FillBack("tick", START_MS, START_MS, False, NOW_MS))
    m.pass_ms(MINUTE_MS)
    assert len(m.begun()) == 2
    assert m.schedule().skipped_count == 0


def test_a_backfill_has_a_bound_and_an_empty_one_is_nothing(m: Clockwork) -> None:
    m.put()
    refused = m.ask(FillBack("tick", 0, START_MS, False, NOW_MS))
    assert isinstance(refused, Refused)
    assert refused.code == 400
    assert m.ask(FillBack("tick", START_MS + 1, START_MS + 2, False, NOW_MS)) == Filled(0)
    for n in range(10):
        m.ask(FillBack("tick", START_MS - MINUTE_MS, START_MS, False, n))
    many = m.ask(FillBack("tick", START_MS, START_MS, False, 11))
    assert isinstance(many, Refused)
    assert many.code == 429


# ---- declared in code ----------------------------------------------------------------------------

DECLARED = replace(MINUTELY, owner="Greeter")


def test_what_code_declares_is_made_kept_changed_and_dropped_with_the_code(m: Clockwork) -> None:
    m.ask(Declare(("Greeter",), (DECLARED,)))
    m.pass_ms(MINUTE_MS)
    m.ask(Pause("tick", "why"))
    m.commit()
    m.ask(Declare(("Greeter",), (DECLARED,)))
    assert m.commit() == []  # nothing is new
    m.ask(Declare(("Greeter",), (replace(DECLARED, timing=Interval(2 * MINUTE_MS)),)))
    stands = m.schedule()
    assert (stands.spec.timing, stands.paused, stands.started_count) == (
        Interval(2 * MINUTE_MS), "why", 1,
    )  # fmt: skip
    m.ask(Declare(("Other",), ()))
    assert len(m.tables.schedules()) == 1
    m.ask(Declare(("Greeter",), ()))
    assert m.tables.schedules() == []


def test_operators_do_not_change_or_delete_what_code_declares(m: Clockwork) -> None:
    m.ask(Declare(("Greeter",), (DECLARED,)))
    for wanted in (Put(MINUTELY, True), Delete("tick")):
        refused = m.ask(wanted)
        assert isinstance(refused, Refused)
        assert (refused.code, "Greeter" in refused.message) == (409, True)


def test_a_declared_moment_that_is_over_is_finished_and_not_refused(m: Clockwork) -> None:
    m.ask(Declare(("Greeter",), (replace(DECLARED, timing=Once(NOW_MS - 1)),)))
    assert (m.schedule().next_tick_ms, m.timers()) == (None, [])


def test_a_schedule_of_a_shared_handler_needs_no_lock() -> None:
    peek = handler("Counter", "peek", HandlerType.SHARED)
    m = Clockwork(ADD, GREET, peek)
    m.request(ADD, "alice")
    m.put(replace(MINUTELY, service="Counter", handler="peek", key="alice"))
    m.pass_ms(MINUTE_MS)
    assert type(m.status(m.begun()[0])) is Running


def test_output_of_a_tick_can_be_had_by_its_key(m: Clockwork) -> None:
    m.put()
    m.pass_ms(MINUTE_MS)
    (id,) = m.begun()
    m.end(id, b"report")
    m.attach(id)
    assert m.replies() == [m.record(id)]
    assert not isinstance(m.journal(id)[-1], Failure)
    assert isinstance(m.journal(id)[-1], Output)
