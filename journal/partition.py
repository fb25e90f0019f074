"""The partition machine: ``step(view, event)`` decides what one event leads to.

Pure: it reads the view, and returns writes and acts. The writes of one step are one atomic change;
its acts may be performed once they are durable (those for attempts in this process at once,
design 4). What operators do is in journal/operations.py. Rules: service protocol 5 and 7, ingress 5, 7, 8.
"""

from typing import assert_never

from msgspec.structs import replace

from perdure.journal import delivery, invocation, keys, mailbox, operations, reach, schedules
from perdure.journal.attempt import (
    AwaitingOn,
    Barrier,
    Behavior,
    Ended,
    Failed,
    Frame,
    ProposeRun,
)
from perdure.journal.attempt import (
    Suspended as SuspendedFrame,
)
from perdure.journal.awaiting import has_leaf
from perdure.journal.effects import EFFECTS, Caller, Precondition
from perdure.journal.entries import (
    Completion,
    Outcome,
    Output,
    Signal,
    Value,
    Verbatim,
    Void,
    payload_bytes,
    plain,
)
from perdure.journal.entries import encode as encode_entry
from perdure.journal.events import (
    AbortAttempt,
    Arrived,
    AskSchedules,
    Attach,
    AwaitEnd,
    Event,
    Expired,
    Frames,
    Operate,
    PassBarrier,
    PatchState,
    Quarantine,
    Recover,
    Reply,
    Request,
    Restart,
    SendSignalTo,
    TimerDue,
)
from perdure.journal.keys import ExpiryKind, TimerKind
from perdure.journal.records import (
    BackingOff,
    Completed,
    Invocation,
    Running,
    Scheduled,
    StatePatch,
    Suspended,
    encode,
)
from perdure.journal.schema import Handler, HandlerType, ServiceType
from perdure.journal.turn import Step, Turn, View

MAX_PAYLOAD_BYTES = 32 << 20  # of one command or run result (service protocol 5.12)
MAX_BURST_BYTES = 2 * MAX_PAYLOAD_BYTES  # of what is decided at once
_PROBE_BYTES = 1 << 16  # entries up to this size are encoded on trial
_SERVICE_TYPES = {
    HandlerType.SERVICE: ServiceType.SERVICE,
    HandlerType.EXCLUSIVE: ServiceType.VIRTUAL_OBJECT,
    HandlerType.SHARED: ServiceType.VIRTUAL_OBJECT,
    HandlerType.WORKFLOW: ServiceType.WORKFLOW,
}
_BURST_TOO_LARGE = Failed(
    413,
    f"[RT0003] the handler journaled more than {MAX_BURST_BYTES} bytes without an await in between; "
    "await something, or store large values elsewhere",
)


def step(view: View, event: Event) -> Step:
    """Apply one event. The view itself is not changed; the caller applies the step to it."""
    turn = Turn(view, getattr(event, "now_ms", 0))
    match event:
        case Frames():
            _frames(turn, event)
        case Request():
            _request(turn, event)
        case TimerDue():
            _timer(turn, event)
        case Attach():
            _attach(turn, event)
        case SendSignalTo():
            reach.signal_here(turn, event.id, Signal(event.signal, event.result))
            turn.acts.append(Reply(event.token, None))
        case Operate():
            turn.acts.append(Reply(event.token, operations.operate(turn, event)))
        case Restart():
            turn.acts.append(Reply(event.token, operations.restart(turn, event)))
        case PatchState():
            _patch_state(turn, event)
        case AskSchedules():
            schedules.asked(turn, event)
        case Recover():
            invocation.recover(turn, event.id)
        case Quarantine():
            operations.quarantine(turn, event)
        case Arrived():
            delivery.arrived(turn, event)
        case Expired():
            _expired(turn, event)
        case _:
            assert_never(event)
    if turn.ended:
        schedules.ended(turn)
    return turn.close()


# ---- requests from outside ----------------------------------------------------------------------


def _request(turn: Turn, event: Request) -> None:
    """Reply to ``token``: an ``Invocation`` with a result, a ``Failure``, or (record, is new)."""
    existing = None if event.is_fresh else turn.invocation(event.id)
    if existing is not None:
        is_same = existing.seed == event.seed
        named = invocation.is_named(event.handler, event.idempotency_key)
        if is_same or not (existing.is_forgotten and named):
            return _request_again(turn, event, existing)
        invocation.purge(turn, event.id, existing)
    record = invocation.new(
        turn,
        event.handler,
        event.key,
        seed=event.seed,
        invoked_by="ingress",
        idempotency_key=event.idempotency_key,
        start_at_ms=event.start_at_ms,
        scope=event.scope,
        limit_key=event.limit_key,
        trace=event.trace,
        keep_ms=event.keep_ms,
    )
    invocation.begin(turn, event.id, record, event.input)
    if event.waits:
        turn.acts.append(AwaitEnd(event.token, event.id))
    else:
        turn.acts.append(Reply(event.token, (record, True)))


def _request_again(turn: Turn, event: Request, existing: Invocation) -> None:
    is_same = existing.seed == event.seed  # sent again: whoever sent it has no answer yet
    if not event.waits:
        turn.acts.append(Reply(event.token, (existing, is_same)))
    elif existing.type is HandlerType.WORKFLOW and not is_same:
        turn.acts.append(Reply(event.token, reach.ALREADY_INVOKED))
    elif type(existing.status) is Completed:
        turn.acts.append(Reply(event.token, existing))
    else:
        turn.acts.append(AwaitEnd(event.token, event.id))


def _attach(turn: Turn, event: Attach) -> None:
    """Reply to ``token``: the ``Invocation`` (completed, or not ready), or None where unknown."""
    existing = turn.invocation(event.id)
    if existing is not None and existing.is_forgotten:
        existing = None
    if event.waits and existing is not None and type(existing.status) is not Completed:
        turn.acts.append(AwaitEnd(event.token, event.id))
    else:
        turn.acts.append(Reply(event.token, existing))


def _patch_state(turn: Turn, event: PatchState) -> None:
    address = (event.service, event.key)
    patch = StatePatch(event.new_state, event.version)
    box = turn.mailbox(address)
    if box.empty:
        invocation.patch_state(turn, address, patch)
    else:
        arrival = turn.next_arrival()
        turn.mailboxes[address], _ = mailbox.enqueue(box, (arrival, patch))
        turn.rows[keys.inbox(address, arrival)] = encode(patch)
    turn.acts.append(Reply(event.token, None))


# ---- what attempts say --------------------------------------------------------------------------


def _frames(turn: Turn, event: Frames) -> None:
    """A burst of one attempt. What a superseded attempt says changes nothing."""
    id = event.id
    record = turn.invocation(id)
    if record is None or record.attempt != event.attempt or type(record.status) is not Running:
        return
    caller = _caller(turn, event, record)
    unpinned = event.deployment_id != record.deployment_id
    commands = 0
    if len(event.frames) > 1 and payload_bytes(*event.frames) > MAX_BURST_BYTES:
        return _refuse(turn, caller, _BURST_TOO_LARGE, commands)
    for frame in event.frames:
        command = frame.command if type(frame) is Verbatim else frame
        effect = EFFECTS.get(type(command))
        if effect is not None:
            if (refusal := _refusal(frame)) is not None:
                return _refuse(turn, caller, refusal, commands)
            try:
                effect(turn, caller, command)
            except Precondition as e:
                return _refuse(turn, caller, e.failure, commands)
            if type(frame) is Verbatim:
                turn.keep_verbatim(id, frame)
            commands += 1
        elif type(frame) is ProposeRun:
            completion = Completion(frame.completion_id, frame.result)
            if (refusal := _refusal(completion)) is not None:
                return _refuse(turn, caller, refusal, commands)
            if not _run_ended(turn, id, record.attempt, completion, frame.given_count):
                return
        else:
            if _control(turn, caller, event, frame, commands):
                return
            continue
        if unpinned:
            unpinned = _pin(turn, event)
    if commands and record.retry_count:
        turn.put(id, _current(turn, id, commands))


def _control(turn: Turn, caller: Caller, event: Frames, frame: Frame, commands: int) -> bool:
    """A frame that journals nothing. Whether the attempt is over with it."""
    id = event.id
    match frame:
        case Barrier():
            turn.acts.append(PassBarrier(id, event.attempt, frame.completion_id))
            return False
        case AwaitingOn():
            return False  # told for the operators' sake only
        case Ended():
            _ended(turn, caller, commands)
        case SuspendedFrame() if not has_leaf(frame.awaiting):
            failure = Failed(500, "[RT0012] the attempt suspended without awaiting anything")
            _fail(turn, caller, failure, commands)
        case SuspendedFrame():
            status = Suspended(frame.awaiting, frame.seen_count)
            invocation.suspend(turn, id, _current(turn, id, commands), status)
        case Failed():
            _fail(turn, caller, frame, commands)
        case _:
            raise AssertionError(f"not a frame: {frame!r}")
    return True


def _caller(turn: Turn, event: Frames, record: Invocation) -> Caller:
    handler = turn.view.handler(record.service, record.handler, event.deployment_id)
    if handler is None:  # forgotten in the meantime
        handler = Handler(record.service, record.handler, record.type, _SERVICE_TYPES[record.type])
    return Caller(
        event.id,
        record.attempt,
        record.created_at_ms,
        handler,
        record.address,
        event.entropy,
        not event.protocol_version,
        record.trace,
    )


def _run_ended(
    turn: Turn, id: bytes, attempt: int, completion: Completion, given_count: int | None
) -> bool:
    """Store a run's result; whether what the handler did since counts.

    Where it took the result before a notification that was on its way to it, that may depend on the
    order: a new attempt takes both as the journal has them. No closure is run twice by that, since
    none was left (decision 0014).
    """
    if given_count is None:
        turn.deliver(id, attempt, completion)
        return True
    in_order = given_count == turn.notification_count(id)
    turn.append(id, completion)
    if not in_order:
        turn.acts.append(AbortAttempt(id))
        invocation.recover(turn, id)
    return in_order


def _refusal(entry: Frame | Completion) -> Failed | None:
    """Why an entry can't be stored."""
    size = payload_bytes(entry)
    if size > MAX_PAYLOAD_BYTES:
        return Failed(
            413,
            f"[RT0003] {type(entry).__name__} carries {size} bytes, the limit is {MAX_PAYLOAD_BYTES}; "
            "store large values elsewhere and journal a reference",
        )
    if size < _PROBE_BYTES and not _is_plain(entry):
        try:
            encode_entry(entry)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"[RT0003] {type(entry).__name__} holds what a journal can't: {error}"
            return Failed(500, message)
    return None


def _is_plain(entry: Frame | Completion) -> bool:
    """Whether it holds nothing but bytes: no text that may not be encodable, no number too large."""
    return isinstance(entry, (Completion, Output)) and type(entry.result) is Value


def _refuse(turn: Turn, caller: Caller, failure: Failed, commands: int) -> None:
    """What the handler issued can't be carried out.

    In this process the same code would issue it again, so the invocation ends. A deployment's code may
    change, and what it asks for may appear: it is tried again (service protocol 5.5).
    """
    if caller.in_process:
        failure = replace(failure, behavior=Behavior.FAIL)
    _fail(turn, caller, failure, commands)


def _pin(turn: Turn, event: Frames) -> bool:
    """From its first new entry on, an invocation stays where it runs (service protocol 5.3)."""
    record = turn.invocation(event.id)
    assert record is not None
    pinned = replace(
        record, deployment_id=event.deployment_id, protocol_version=event.protocol_version
    )
    turn.put(event.id, pinned)
    return False


def _current(turn: Turn, id: bytes, commands: int) -> Invocation:
    """The record as it is now; new commands are progress, so the retry counter begins anew."""
    record = turn.invocation(id)
    assert record is not None
    return replace(record, retry_count=0) if commands and record.retry_count else record


def _fail(turn: Turn, caller: Caller, failure: Failed, commands: int) -> None:
    record = _current(turn, caller.id, commands)
    invocation.fail(turn, caller.id, record, failure, caller.handler.retry, caller.entropy)


def _ended(turn: Turn, caller: Caller, commands: int) -> None:
    record = turn.invocation(caller.id)
    assert record is not None
    result = _last_output(turn, caller.id)
    if result is None:
        failure = Failed(571, "the attempt ended without an output")
        return _fail(turn, caller, failure, commands)
    if not invocation.share_out(turn, caller.id, record, result):
        invocation.finish(turn, caller.id, record, result)


def _last_output(turn: Turn, id: bytes) -> Outcome | None:
    added = turn.entries.get(id)
    if added is not None:
        for entry in reversed(added[1]):
            if type(entry := plain(entry)) is Output:
                return entry.result
    for entry in reversed(turn.view.entries(id)):
        if type(entry := plain(entry)) is Output:
            return entry.result
    return None


# ---- time ---------------------------------------------------------------------------------------


def _timer(turn: Turn, event: TimerDue) -> None:
    """Fire once: the row goes in the same change, and without it nothing happens.

    A timer of an earlier life does nothing either, and leaves the row alone where it is a later one's.
    """
    if turn.view.timer(event.key) != event.value:
        return
    due_ms, kind, id, number = keys.split_timer(event.key)
    turn.rows[event.key] = None
    if kind is TimerKind.SCHEDULE:
        return schedules.fire(turn, id, due_ms, event.value, number)
    record = turn.invocation(id)
    if record is None or keys.pack_number(record.created_at_ms) != event.value:
        return
    status = record.status
    if kind is TimerKind.SLEEP:
        invocation.notify(turn, id, Completion(number, Void()))
    elif kind is TimerKind.RETRY:
        if type(status) is BackingOff and status.retry_at_ms == due_ms:
            invocation.run(turn, id, record)
    elif type(status) is Scheduled:
        invocation.enter(turn, id, record)


def _expired(turn: Turn, event: Expired) -> None:
    turn.rows[event.key] = None
    record = turn.invocation(event.id)
    if record is None or type(record.status) is not Completed:
        return
    due_ms, _, _ = keys.split_expiry(event.key)
    if event.kind is ExpiryKind.JOURNAL:
        if record.status.completed_at_ms + record.journal_retention_ms == due_ms:
            invocation.forget_journal(turn, event.id)
    elif record.status.expires_at_ms == due_ms:
        invocation.purge(turn, event.id, record)
