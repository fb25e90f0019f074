"""Backfills: ticks of the past that an operator wants to run, one after the other or all at once.

Part of one ``Turn``. What is still to run is in the schedule's row. Rules: docs/schedules.md.
"""

from msgspec.structs import replace

from perdure.journal.schedules_records import BACKFILL_TIMER, Backfill, Schedule
from perdure.journal.schedules_requests import (
    MAX_BACKFILL_TICKS,
    Answer,
    FillBack,
    Filled,
    Refused,
)
from perdure.journal.schedules_steps import begin, following, misfit, save, set_timer
from perdure.journal.schedules_times import BURST, BadTiming, ticks
from perdure.journal.turn import Turn

MAX_BACKFILLS = 10  # of one schedule, at a time


def fill_back(turn: Turn, id: bytes, schedule: Schedule, wanted: FillBack) -> Answer:
    handler = turn.view.handler(schedule.spec.service, schedule.spec.handler)
    if (problem := misfit(schedule.spec, handler)) is not None:
        return Refused(409, problem)
    count, first = 0, 0
    try:
        for tick_ms in ticks(schedule.spec.timing, wanted.from_ms - 1, wanted.until_ms):
            first = first or tick_ms
            count += 1
            if count > MAX_BACKFILL_TICKS:
                return Refused(
                    400, f"the range has more than {MAX_BACKFILL_TICKS} ticks; take a part of it"
                )
    except BadTiming as error:
        return Refused(409, str(error))
    if not count:
        return Filled(0)
    if any(each.asked_at_ms == wanted.asked_at_ms for each in schedule.backfills):
        return Filled(count)  # asked for again
    if len(schedule.backfills) >= MAX_BACKFILLS:
        return Refused(429, f"{len(schedule.backfills)} backfills of it are not over yet")
    backfill = Backfill(wanted.asked_at_ms, first, wanted.until_ms, wanted.at_once)
    schedule = replace(schedule, backfills=(*schedule.backfills, backfill))
    if wanted.at_once:
        set_timer(turn, id, schedule, turn.now_ms, BACKFILL_TIMER)
    else:
        schedule = go_on_behind(turn, id, schedule, None)
    save(turn, id, schedule)
    return Filled(count)


def go_on_behind(turn: Turn, id: bytes, schedule: Schedule, ended_id: bytes | None) -> Schedule:
    """Begin the next tick of those backfills that waited for ``ended_id``; None: that are new."""
    kept: list[Backfill] = []
    for each in schedule.backfills:
        if each.at_once or each.running != ended_id:
            kept.append(each)
            continue
        schedule, gone_on = _run_next(turn, id, schedule, each)
        kept += gone_on
    return replace(schedule, backfills=tuple(kept))


def _run_next(
    turn: Turn, id: bytes, schedule: Schedule, backfill: Backfill
) -> tuple[Schedule, list[Backfill]]:
    """Begin the first of its ticks that can begin; no backfill is left where none can."""
    tick_ms: int | None = backfill.next_tick_ms
    while tick_ms is not None and tick_ms <= backfill.until_ms:
        schedule, started = begin(turn, id, schedule, tick_ms, _label(backfill))
        if schedule.problem:
            break  # its handler is gone: no other tick could begin
        tick_ms = following(schedule, tick_ms)
        if started is not None:
            after = backfill.until_ms + 1 if tick_ms is None else tick_ms
            return schedule, [replace(backfill, next_tick_ms=after, running=started)]
    return schedule, []


def go_on_at_once(turn: Turn, id: bytes, schedule: Schedule) -> Schedule:
    """Begin some ticks of the backfills that wait for nothing, and see to the others soon."""
    kept: list[Backfill] = []
    is_full = False
    for each in schedule.backfills:
        if not each.at_once or is_full:
            kept.append(each)
            continue
        is_full = True
        tick_ms: int | None = each.next_tick_ms
        for _ in range(BURST):
            if tick_ms is None or tick_ms > each.until_ms:
                break
            schedule, _ = begin(turn, id, schedule, tick_ms, _label(each))
            tick_ms = None if schedule.problem else following(schedule, tick_ms)
        if tick_ms is not None and tick_ms <= each.until_ms:
            kept.append(replace(each, next_tick_ms=tick_ms))
    if any(each.at_once for each in kept):
        set_timer(turn, id, schedule, turn.now_ms, BACKFILL_TIMER)
    return replace(schedule, backfills=tuple(kept))


def _label(backfill: Backfill) -> str:
    return f"+backfill-{backfill.asked_at_ms}"
