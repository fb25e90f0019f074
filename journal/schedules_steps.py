"""What every part of the schedules' machine does: begin a tick's invocation, set timers, store the row.

Part of one ``Turn``; nothing here chooses when or whether. Rules: docs/schedules.md.
"""

import xxhash
from msgspec.structs import replace

from perdure.journal import ids, invocation, keys, reach, trace
from perdure.journal.entries import Input
from perdure.journal.events import Report, SetTimer
from perdure.journal.keys import TimerKind
from perdure.journal.records import encode
from perdure.journal.schedules_records import TICK_TIMER, Schedule, Spec
from perdure.journal.schedules_times import BadTiming, moment, next_tick, start_ms
from perdure.journal.schema import Handler, HandlerType
from perdure.journal.turn import Turn

NOBODY = b""  # whom a report is about: no invocation


def begin(
    turn: Turn, id: bytes, schedule: Schedule, tick_ms: int, label: str = ""
) -> tuple[Schedule, bytes | None]:
    """The schedule with one more begun, and the invocation; None where that is not possible, or the
    tick has one already."""
    spec = schedule.spec
    handler = turn.view.handler(spec.service, spec.handler)
    problem = misfit(spec, handler)
    if problem is not None or handler is None:
        text = f"schedule {spec.name} can't run: {problem}"
        turn.acts.append(Report("warning", NOBODY, text, f"{spec.service}/{spec.handler}"))
        missed = schedule.missed_count + 1
        return replace(schedule, problem=problem or "", missed_count=missed), None
    time = moment(tick_ms)
    started, key, idempotency_key = identity(spec, handler, time + label)
    if turn.invocation(started) is not None:
        return replace(schedule, skipped_count=schedule.skipped_count + 1, problem=""), None
    headers = (*spec.headers, ("x-perdure-schedule", spec.name), ("x-perdure-tick", time))
    record = invocation.new(
        turn,
        handler,
        key,
        seed=xxhash.xxh3_64_intdigest(schedule.seed.to_bytes(8, "big") + started),
        invoked_by=f"schedule:{spec.name}",
        waiters=(schedule.waiter(id),),
        idempotency_key=idempotency_key,
        trace=trace.of_id(started),
    )
    reach.invoke(turn, id, started, record, Input(headers, spec.body))
    begun = replace(
        schedule,
        problem="",
        started_count=schedule.started_count + 1,
        last_invocation=started,
    )
    return begun, started


def identity(spec: Spec, handler: Handler, label: str) -> tuple[bytes, str | None, str | None]:
    """Id, key and idempotency key of the invocation that runs ``label``, the same ones every time."""
    key = spec.key
    if handler.type is HandlerType.WORKFLOW:
        key = f"{spec.name if key is None else key}@{label}"
        return ids.workflow_id(spec.service, key), key, None
    once = f"schedule/{spec.name}/{label}"
    return ids.idempotent_id(spec.service, key, spec.handler, once), key, once


def misfit(spec: Spec, handler: Handler | None) -> str | None:
    """Why this target can't be run, or None."""
    target = f"{spec.service}/{spec.handler}"
    if handler is None:
        return f"the handler '{target}' does not exist"
    if handler.type is HandlerType.WORKFLOW:
        return None
    if handler.keyed and spec.key is None:
        return f"'{target}' is of an object: it needs a key"
    if not handler.keyed and spec.key is not None:
        return f"'{target}' is of a service: it takes no key"
    return None


def following(schedule: Schedule, after_ms: int) -> int | None:
    """The next tick, None where there is none (any more) or the machine can't tell."""
    try:
        return next_tick(schedule.spec.timing, after_ms)
    except BadTiming:
        return None


def arm(turn: Turn, id: bytes, schedule: Schedule, tick_ms: int | None) -> Schedule:
    """Set the timer of its next tick in place of the one that was; None: no timer."""
    if schedule.timer_ms:
        turn.rows[keys.timer(schedule.timer_ms, TimerKind.SCHEDULE, id, TICK_TIMER)] = None
    if tick_ms is None:
        return replace(schedule, next_tick_ms=None, timer_ms=0)
    due_ms = max(start_ms(schedule.spec, id, tick_ms), turn.now_ms)
    set_timer(turn, id, schedule, due_ms, TICK_TIMER)
    return replace(schedule, next_tick_ms=tick_ms, timer_ms=due_ms)


def set_timer(turn: Turn, id: bytes, schedule: Schedule, due_ms: int, number: int) -> None:
    key = keys.timer(due_ms, TimerKind.SCHEDULE, id, number)
    value = keys.pack_number(schedule.created_at_ms)
    turn.rows[key] = value
    turn.acts.append(SetTimer(due_ms, key, value))


def save(turn: Turn, id: bytes, schedule: Schedule) -> None:
    turn.rows[keys.schedule(id)] = encode(schedule)
