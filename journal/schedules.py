"""Schedules in the partition machine: what is asked of them, a tick that is due, an end that they await.

Pure: part of one ``Turn``, so that the tick's invocation, the schedule's row and the timer of its next
tick are one change. The calendar is in ``schedules_times``. Rules: docs/schedules.md.
"""

from typing import assert_never

import xxhash
from msgspec.structs import replace

from perdure.journal import ids, invocation, keys, reach
from perdure.journal.entries import Failure
from perdure.journal.events import AskSchedules, Reply, Report
from perdure.journal.schedules_backfills import fill_back, go_on_at_once, go_on_behind
from perdure.journal.schedules_records import BACKFILL_TIMER, Once, Overlap, Schedule, Spec
from perdure.journal.schedules_requests import (
    MAX_SCHEDULES,
    Answer,
    Ask,
    Declare,
    Delete,
    FillBack,
    Gone,
    Pause,
    Put,
    Refused,
    Resume,
    Stored,
    Trigger,
    Triggered,
)
from perdure.journal.schedules_steps import (
    NOBODY,
    arm,
    begin,
    following,
    identity,
    misfit,
    save,
)
from perdure.journal.schedules_times import BadTiming, due_ticks, moment, next_tick
from perdure.journal.turn import Turn

MAX_RUNNING = 1_000  # invocations of one schedule that are not over
TRIGGERED = "+trigger"  # behind the time in what names its invocation

# ---- what is asked ------------------------------------------------------------------------------


def asked(turn: Turn, event: AskSchedules) -> None:
    """Carry out one request. Its answer is a ``schedules_requests.Answer``."""
    answer = _answer(turn, event.ask, event.seed)
    if event.token is not None:
        turn.acts.append(Reply(event.token, answer))


def _answer(turn: Turn, wanted: Ask, seed: int) -> Answer:
    """``seed``: a random 64-bit number, for a new schedule."""
    if isinstance(wanted, Declare):
        return _declare(turn, wanted, seed)
    if isinstance(wanted, Put):
        return _put(turn, wanted.spec, wanted.replace, seed)
    id = ids.schedule_id(wanted.name)
    schedule = turn.schedule(id)
    if schedule is None:
        return Refused(404, f"there is no schedule '{wanted.name}'")
    match wanted:
        case Pause():
            return _pause(turn, id, schedule, wanted.reason)
        case Resume():
            return _resume(turn, id, schedule)
        case Trigger():
            return _trigger(turn, id, schedule, wanted.asked_at_ms)
        case FillBack():
            return fill_back(turn, id, schedule, wanted)
        case Delete():
            if schedule.spec.owner:
                return _declared(schedule.spec)
            _delete(turn, id, schedule)
            return Gone()
        case _:
            assert_never(wanted)


def _put(turn: Turn, spec: Spec, may_replace: bool, seed: int) -> Answer:
    id = ids.schedule_id(spec.name)
    old = turn.schedule(id)
    if old is not None and old.spec.owner and not spec.owner:
        return _declared(old.spec)
    if old is not None and not may_replace:
        return Refused(409, f"there is a schedule '{spec.name}' already")
    handler = turn.view.handler(spec.service, spec.handler)
    if not spec.owner and (problem := misfit(spec, handler)) is not None:
        return Refused(404 if handler is None else 400, problem)
    if old is None:
        return _begin_ticking(turn, id, Schedule(spec, turn.now_ms, turn.now_ms, seed), True)
    if old.spec == spec:
        return Stored(old)
    changed = replace(old, spec=spec, modified_at_ms=turn.now_ms, problem="")
    same_times = (old.spec.timing, old.spec.jitter_ms) == (spec.timing, spec.jitter_ms)
    if same_times or old.paused is not None:
        save(turn, id, changed)
        return Stored(changed)
    return _begin_ticking(turn, id, changed, False)


def _begin_ticking(turn: Turn, id: bytes, schedule: Schedule, is_new: bool) -> Answer:
    """Its first tick is the next one from now. What can never tick is refused to an operator."""
    timing = schedule.spec.timing
    tick = following(schedule, turn.now_ms)
    if tick is None and not schedule.spec.owner:
        if isinstance(timing, Once):
            return Refused(400, f"{moment(timing.at_ms)} is over; a schedule begins in the future")
        return Refused(400, "it would never run: no such day in the next 50 years")
    if is_new:
        if (count := turn.schedule_count()) >= MAX_SCHEDULES:
            return Refused(429, f"there are {count} schedules, the most that there can be")
        turn.rows[keys.SCHEDULE_COUNT] = keys.pack_number(count + 1)
    schedule = arm(turn, id, schedule, tick)
    save(turn, id, schedule)
    return Stored(schedule, is_new)


def _declare(turn: Turn, wanted: Declare, seed: int) -> Answer:
    """Bring what code declares up to date, as far as it belongs here. An operator's pause stays."""
    declared = {spec.name for spec in wanted.specs}
    for schedule in turn.view.schedules():
        if schedule.spec.owner in wanted.services and schedule.spec.name not in declared:
            _delete(turn, ids.schedule_id(schedule.spec.name), schedule)
    for spec in wanted.specs:
        if turn.is_elsewhere(ids.schedule_id(spec.name)):
            continue
        answer = _put(turn, spec, True, seed ^ xxhash.xxh3_64_intdigest(spec.name.encode()))
        if isinstance(answer, Refused):
            text = f"schedule {spec.name} is not carried out: {answer.message}"
            turn.acts.append(Report("error", NOBODY, text))
    return Gone()


def _pause(turn: Turn, id: bytes, schedule: Schedule, reason: str) -> Stored:
    if schedule.paused is None:
        dropped = schedule.waiting_tick_ms is not None
        schedule = replace(
            arm(turn, id, schedule, None),
            paused=reason,
            modified_at_ms=turn.now_ms,
            waiting_tick_ms=None,
            skipped_count=schedule.skipped_count + dropped,
        )
        save(turn, id, schedule)
    return Stored(schedule)


def _resume(turn: Turn, id: bytes, schedule: Schedule) -> Answer:
    if schedule.paused is None:
        return Stored(schedule)
    try:
        tick = next_tick(schedule.spec.timing, turn.now_ms)
    except BadTiming as error:
        return Refused(409, str(error))
    woken = replace(schedule, paused=None, modified_at_ms=turn.now_ms, problem="")
    schedule = arm(turn, id, woken, tick)
    save(turn, id, schedule)
    return Stored(schedule)


def _trigger(turn: Turn, id: bytes, schedule: Schedule, asked_at_ms: int) -> Answer:
    spec = schedule.spec
    handler = turn.view.handler(spec.service, spec.handler)
    problem = misfit(spec, handler)
    if handler is None or problem is not None:
        return Refused(409, problem or "")
    started, _, _ = identity(spec, handler, moment(asked_at_ms) + TRIGGERED)
    known = (*schedule.running, schedule.last_invocation)
    if started in known or turn.invocation(started) is not None:
        return Triggered(started)  # asked for again
    if len(schedule.running) >= MAX_RUNNING:
        return Refused(429, f"{len(schedule.running)} invocations of it are not over")
    schedule, _ = begin(turn, id, schedule, asked_at_ms, TRIGGERED)
    save(turn, id, replace(schedule, running=(*schedule.running, started)))
    return Triggered(started)


def _delete(turn: Turn, id: bytes, schedule: Schedule) -> None:
    arm(turn, id, schedule, None)
    turn.rows[keys.schedule(id)] = None
    turn.rows[keys.SCHEDULE_COUNT] = keys.pack_number(turn.schedule_count() - 1)


def _declared(spec: Spec) -> Refused:
    return Refused(
        409,
        f"schedule '{spec.name}' is declared in the code of {spec.owner}: change it there, or pause it",
    )


# ---- ticks --------------------------------------------------------------------------------------


def fire(turn: Turn, id: bytes, due_ms: int, value: bytes, number: int) -> None:
    """A timer of a schedule is due; its row is gone already. Timers of an earlier life do nothing."""
    schedule = turn.schedule(id)
    if schedule is None or keys.pack_number(schedule.created_at_ms) != value:
        return
    if number == BACKFILL_TIMER:
        save(turn, id, go_on_at_once(turn, id, schedule))
    elif schedule.timer_ms == due_ms and schedule.next_tick_ms is not None:
        save(turn, id, _tick(turn, id, replace(schedule, timer_ms=0), schedule.next_tick_ms))


def _tick(turn: Turn, id: bytes, schedule: Schedule, first_ms: int) -> Schedule:
    """Offer what is due, and set the timer of the next tick."""
    spec = schedule.spec
    try:
        due = due_ticks(spec, id, first_ms, turn.now_ms)
    except BadTiming as error:  # such as a time zone that this machine doesn't know
        turn.acts.append(Report("error", NOBODY, f"schedule {spec.name} is paused: {error}"))
        return replace(schedule, next_tick_ms=None, paused=str(error), problem=str(error))
    schedule = replace(schedule, missed_count=schedule.missed_count + due.missed_count)
    if due.missed_count:
        text = f"schedule {spec.name}: ticks were missed for longer than its catch-up window"
        turn.acts.append(Report("warning", NOBODY, text))
    offered = due.ticks
    if spec.overlap is not Overlap.ALLOW:
        offered = due.ticks[-1:]  # one run for all that came late
        dropped = len(due.ticks) - len(offered)
        schedule = replace(schedule, skipped_count=schedule.skipped_count + dropped)
    for tick_ms in offered:
        schedule = _offer(turn, id, schedule, tick_ms)
    return arm(turn, id, schedule, due.next)


def _offer(turn: Turn, id: bytes, schedule: Schedule, tick_ms: int) -> Schedule:
    """Begin a tick's invocation, or do what the overlap policy says."""
    running = schedule.running
    schedule = replace(schedule, last_tick_ms=tick_ms)
    policy = schedule.spec.overlap
    if (running and policy is Overlap.SKIP) or len(running) >= MAX_RUNNING:
        return replace(schedule, skipped_count=schedule.skipped_count + 1)
    if running and policy is Overlap.QUEUE:
        dropped = schedule.waiting_tick_ms is not None
        skipped = schedule.skipped_count + dropped
        return replace(schedule, waiting_tick_ms=tick_ms, skipped_count=skipped)
    if running and policy is Overlap.CANCEL:
        for each in running:
            reach.signal(turn, id, each, invocation.CANCEL)
        schedule = replace(schedule, running=())  # it is cancelled once
    schedule, started = begin(turn, id, schedule, tick_ms)
    if started is None:
        return schedule
    return replace(schedule, running=(*schedule.running, started))


def ended(turn: Turn) -> None:
    """Invocations that schedules began are over: count them, and begin what waited for that."""
    while turn.ended:
        waiter, ended_id, result = turn.ended.pop(0)
        id = waiter.invocation
        schedule = turn.schedule(id)
        if schedule is None or schedule.created_at_ms != waiter.created_at_ms:
            continue
        failed = isinstance(result, Failure)
        schedule = replace(
            schedule,
            running=tuple(each for each in schedule.running if each != ended_id),
            failed_count=schedule.failed_count + failed,
            succeeded_count=schedule.succeeded_count + (not failed),
        )
        schedule = go_on_behind(turn, id, schedule, ended_id)
        tick_ms = schedule.waiting_tick_ms
        if tick_ms is not None and not schedule.running:
            schedule = _offer(turn, id, replace(schedule, waiting_tick_ms=None), tick_ms)
        save(turn, id, schedule)
