"""The life cycle of an invocation: scheduled, inboxed, running, backing off, suspended, paused,
completed. Every function moves one invocation within a turn.

Nothing here knows commands (``effects``) or who asked (``partition``). Rules: service protocol 5.1,
5.6, 5.8, 5.9, 5.11; retention: ingress 5.3.
"""

from typing import assert_never

from msgspec.structs import replace

from perdure.journal import keys, mailbox
from perdure.journal.attempt import Behavior, Failed
from perdure.journal.awaiting import satisfied
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    Completion,
    Failure,
    Input,
    InvocationId,
    Notification,
    Outcome,
    Output,
    Result,
    Signal,
    Sleep,
    Void,
    payload_bytes,
    plain,
)
from perdure.journal.events import AbortAttempt, Complete, Entropy, Report, SetTimer
from perdure.journal.ids import parse_invocation_id
from perdure.journal.keys import ExpiryKind, TimerKind
from perdure.journal.outbox import Answer, Kill
from perdure.journal.records import (
    INBOXED,
    RUNNING,
    BackingOff,
    Completed,
    FailureNote,
    Inboxed,
    Invocation,
    Paused,
    Queued,
    Running,
    Scheduled,
    StatePatch,
    Suspended,
    Waiter,
    encode,
)
from perdure.journal.retry import next_delay_ms, with_jitter
from perdure.journal.schedules_records import TOLD_COMPLETION_ID
from perdure.journal.schema import Handler, HandlerType, OnMaxAttempts, RetryPolicy
from perdure.journal.state_version import state_version
from perdure.journal.turn import Turn

KILLED = Failure(409, "killed")
CANCELED = Failure(409, "canceled")  # before it began; a running handler says `cancelled` itself
CANCEL = Signal(CANCEL_SIGNAL, Void())
SHARED_OUT_BYTES = 64 << 20  # of one result, for those that wait for it, in one step

# ---- beginning ----------------------------------------------------------------------------------


def retentions_ms(handler: Handler, idempotency_key: str | None) -> tuple[int, int]:
    """How long completion and journal are kept after the end (ingress 5.3)."""
    if handler.type is HandlerType.WORKFLOW:
        completion_ms = handler.workflow_retention_ms
    elif idempotency_key is not None:
        completion_ms = handler.idempotency_retention_ms
    else:
        completion_ms = handler.journal_retention_ms
    return completion_ms, min(handler.journal_retention_ms, completion_ms)


def is_named(handler: Handler, idempotency_key: str | None) -> bool:
    """Whether others may ask under its id, too; one that was drawn at random is its drawer's."""
    return idempotency_key is not None or handler.type is HandlerType.WORKFLOW


def new(
    turn: Turn,
    handler: Handler,
    key: str | None,
    *,
    seed: int,
    invoked_by: str,
    waiters: tuple[Waiter, ...] = (),
    idempotency_key: str | None = None,
    start_at_ms: int | None = None,
    scope: str | None = None,
    limit_key: str | None = None,
    trace: str | None = None,
    keep_ms: int = 0,
) -> Invocation:
    """A new invocation's record; ``begin`` makes it one."""
    completion_ms, journal_ms = retentions_ms(handler, idempotency_key)
    if completion_ms > 0 and is_named(handler, idempotency_key):
        keep_ms = 0  # others wait for the name to be free again
    return Invocation(
        handler.service,
        handler.name,
        key,
        handler.type,
        RUNNING,
        turn.now_ms,
        turn.now_ms,
        seed,
        invoked_by,
        entry_count=0,
        command_count=0,
        waiters=waiters,
        idempotency_key=idempotency_key,
        execution_time_ms=start_at_ms,
        completion_retention_ms=completion_ms,
        journal_retention_ms=journal_ms,
        scope=scope,
        limit_key=limit_key,
        trace=trace,
        keep_ms=keep_ms,
    )


def as_of(turn: Turn, invocation: Invocation) -> Invocation:
    """A new invocation's record that another partition made, by the clock of this one."""
    return replace(invocation, created_at_ms=turn.now_ms, modified_at_ms=turn.now_ms)


def begin(turn: Turn, id: bytes, invocation: Invocation, input: Input) -> None:
    """Later, behind others of its key, or now."""
    start_at_ms = invocation.execution_time_ms
    if start_at_ms is not None and start_at_ms > turn.now_ms:
        turn.put(id, replace(invocation, status=Scheduled(start_at_ms)))
        _arm(turn, start_at_ms, TimerKind.START, id, invocation)
    else:
        enter(turn, id, invocation)
    turn.append(id, input)


def enter(turn: Turn, id: bytes, invocation: Invocation) -> None:
    """Run now, or wait for the key's lock."""
    if invocation.type is not HandlerType.EXCLUSIVE:
        return run(turn, id, invocation)
    address = invocation.address
    arrival = turn.next_arrival()
    entry = Queued(id)
    box, at_once = mailbox.enqueue(turn.mailbox(address), (arrival, entry))
    turn.mailboxes[address] = box
    turn.rows[keys.inbox(address, arrival)] = encode(entry)
    if at_once:
        return run(turn, id, invocation, arrival)
    turn.put(id, replace(invocation, status=INBOXED, arrival=arrival))


def run(turn: Turn, id: bytes, invocation: Invocation, arrival: int | None = None) -> None:
    """Open the next attempt."""
    attempt = invocation.attempt + 1
    if arrival is None:
        arrival = invocation.arrival
    turn.put(id, replace(invocation, status=RUNNING, attempt=attempt, arrival=arrival))
    row = keys.active(id)
    if row in turn.rows:
        del turn.rows[row]  # removed in this turn: it simply stays
    else:
        turn.rows[row] = b""
    turn.start_attempt(id, attempt)


def recover(turn: Turn, id: bytes) -> None:
    """The open attempt is lost; begin another one where it should be open."""
    invocation = turn.invocation(id)
    if invocation is None or type(invocation.status) is not Running:
        turn.rows[keys.active(id)] = None
        return
    turn.put(id, replace(invocation, attempt=invocation.attempt + 1))
    turn.start_attempt(id, invocation.attempt + 1)


# ---- notifications ------------------------------------------------------------------------------


def notify(turn: Turn, id: bytes, notification: Notification) -> None:
    """Append and, where somebody waits for it, wake. Late ones are dropped.

    Better than the official server: a signal that arrives before the start is kept (trap 16).
    """
    invocation = turn.invocation(id)
    if invocation is None:
        return
    status = invocation.status
    match status:
        case Running():
            turn.deliver(id, invocation.attempt, notification)
        case Scheduled() | Inboxed() | BackingOff():
            turn.append(id, notification)
        case Suspended():
            turn.append(id, notification)
            if _news_satisfy(turn, id, status):
                resume(turn, id, invocation)
        case Paused():
            turn.append(id, notification)
            if notification == CANCEL:
                resume(turn, id, invocation)
        case Completed():
            pass
        case _:
            assert_never(status)


def answer(turn: Turn, waiter: Waiter, result: Result, about: bytes) -> None:
    """Tell who waits for this result, in whichever partition; ``about``: whose result it is.

    A later life of the waiting invocation did not ask for it.
    """
    if turn.is_elsewhere(waiter.invocation):
        return turn.post(about, waiter.invocation, Answer(waiter, result, about))
    if waiter.completion_id == TOLD_COMPLETION_ID:
        return turn.ended.append((waiter, about, result))
    invocation = turn.invocation(waiter.invocation)
    if invocation is None or invocation.created_at_ms != waiter.created_at_ms:
        return
    notify(turn, waiter.invocation, Completion(waiter.completion_id, result))


def _news_satisfy(turn: Turn, id: bytes, status: Suspended) -> bool:
    news = turn.entries_from(id, status.seen_count)
    return satisfied(
        status.awaiting, [e for e in news if type(e) is Completion or type(e) is Signal]
    )


# ---- between attempts ---------------------------------------------------------------------------


def suspend(turn: Turn, id: bytes, invocation: Invocation, status: Suspended) -> None:
    """The coroutine is gone. Go on at once where what it waits for came in the meantime."""
    if _news_satisfy(turn, id, status):
        return resume(turn, id, invocation)
    _close_attempt(turn, id, invocation)
    turn.put(id, replace(invocation, status=status))


def resume(turn: Turn, id: bytes, invocation: Invocation) -> None:
    """Start again from suspended, paused or backing off, with a fresh retry budget."""
    _close_attempt(turn, id, invocation)
    run(turn, id, replace(invocation, retry_count=0, failed_attempts=0))


def back_off(turn: Turn, id: bytes, invocation: Invocation, delay_ms: int) -> None:
    retry_at_ms = turn.now_ms + delay_ms
    _close_attempt(turn, id, invocation)
    turn.put(id, replace(invocation, status=BackingOff(retry_at_ms)))
    _arm(turn, retry_at_ms, TimerKind.RETRY, id, invocation)


def pause(turn: Turn, id: bytes, invocation: Invocation, reason: str) -> None:
    _close_attempt(turn, id, invocation)
    turn.put(id, replace(invocation, status=Paused(reason), modified_at_ms=turn.now_ms))
    text = f"paused: {reason}"
    turn.acts.append(Report("warning", id, text, invocation.target, invocation.attempt))


def fail(
    turn: Turn,
    id: bytes,
    invocation: Invocation,
    failure: Failed,
    policy: RetryPolicy,
    entropy: Entropy,
) -> None:
    """A failed attempt: retry, pause, or end, as the handler's side or the policy says."""
    note = FailureNote(
        failure.code,
        failure.message,
        failure.stacktrace,
        failure.related_command_index,
        failure.related_command_name,
        failure.related_command_type,
    )
    retry_count = invocation.retry_count + failure.counts
    noted = replace(invocation, last_failure=note, retry_count=retry_count)
    turn.acts.append(AbortAttempt(id))
    if failure.behavior is Behavior.PAUSE:
        _report(turn, id, invocation, failure, "paused")
        return pause(turn, id, noted, failure.message)
    if failure.behavior is Behavior.FAIL:
        _report(turn, id, invocation, failure, "the invocation ends with that")
        return finish(turn, id, noted, Failure(failure.code, failure.message))
    attempts, delay_ms = invocation.failed_attempts, failure.next_retry_delay_ms
    if delay_ms is None:  # else it does not count against the policy
        attempts += 1
        noted = replace(noted, failed_attempts=attempts)
        delay_ms = next_delay_ms(policy, attempts)
        if delay_ms is not None:
            delay_ms = with_jitter(delay_ms, entropy.chance())
    if delay_ms is not None:
        _report(turn, id, invocation, failure, f"next attempt in {delay_ms / 1000:.1f} s")
        return back_off(turn, id, noted, delay_ms)
    _report(turn, id, invocation, failure, "no further attempts")
    if policy.on_max_attempts is OnMaxAttempts.KILL:
        last = Failure(failure.code, failure.message, {}, failure.stacktrace)
        return finish(turn, id, noted, last)
    pause(turn, id, noted, f"{attempts} attempts failed, the last one with: {failure.message}")


def _report(turn: Turn, id: bytes, invocation: Invocation, failure: Failed, what_next: str) -> None:
    """A failed attempt, for the log: one line, and the rest as a trace below it."""
    first, _, rest = failure.message.partition("\n")
    attempt, target = invocation.attempt, invocation.target
    text = f"attempt {attempt} of {target} failed, {what_next}: {first}"
    trace = "\n".join(part for part in (rest, failure.stacktrace) if part)
    turn.acts.append(Report("warning", id, text, target, attempt, trace))


# ---- the end ------------------------------------------------------------------------------------


def finish(turn: Turn, id: bytes, invocation: Invocation, result: Outcome) -> None:
    """Store the result for its retention, answer everyone, pass the key's lock on."""
    _close_attempt(turn, id, invocation)
    keep_ms = max(invocation.completion_retention_ms, invocation.keep_ms)
    now_ms = turn.now_ms
    if keep_ms > 0:
        expires_at_ms = now_ms + keep_ms
        status = Completed(result, now_ms, expires_at_ms)
        turn.put(id, replace(invocation, status=status, waiters=(), modified_at_ms=now_ms))
        turn.rows[keys.expiry(expires_at_ms, ExpiryKind.INVOCATION, id)] = b""
        if invocation.completion_retention_ms == 0:
            _forget_data(turn, invocation)
        journal_ms = invocation.journal_retention_ms
        if journal_ms == 0:
            forget_journal(turn, id)
        elif journal_ms < keep_ms:
            turn.rows[keys.expiry(now_ms + journal_ms, ExpiryKind.JOURNAL, id)] = b""
    else:
        forget_journal(turn, id)
        _forget_data(turn, invocation)
        turn.put(id, None)
    _leave(turn, id, invocation, result)


def share_out(turn: Turn, id: bytes, invocation: Invocation, result: Outcome) -> bool:
    """Answer the first of too many that wait; the next attempt replays to this end, and goes on."""
    count = SHARED_OUT_BYTES // (payload_bytes(Output(result)) + 500)
    if len(invocation.waiters) <= count:
        return False
    turn.put(id, replace(invocation, waiters=invocation.waiters[count:]))
    for waiter in invocation.waiters[:count]:
        answer(turn, waiter, result, id)
    recover(turn, id)
    return True


def withdraw(turn: Turn, id: bytes, invocation: Invocation, result: Failure) -> None:
    """Take back what never began; nothing of it stays, but for one who may ask again under its id."""
    if type(invocation.status) is Scheduled:
        turn.clear_timer(invocation.status.start_at_ms, TimerKind.START, id)
    turn.forget_journal(id)
    if invocation.keep_ms > 0:
        expires_at_ms = turn.now_ms + invocation.keep_ms
        over = replace(
            invocation,
            status=Completed(result, turn.now_ms, expires_at_ms),
            waiters=(),
            completion_retention_ms=0,
            journal_retention_ms=0,
            modified_at_ms=turn.now_ms,
        )
        turn.put(id, over)
        turn.rows[keys.expiry(expires_at_ms, ExpiryKind.INVOCATION, id)] = b""
    else:
        turn.put(id, None)
    _leave(turn, id, invocation, result)


def cancel(turn: Turn, id: bytes, invocation: Invocation) -> None:
    """Ask the handler to stop; what never began is withdrawn."""
    match invocation.status:
        case Scheduled() | Inboxed():
            withdraw(turn, id, invocation, CANCELED)
        case BackingOff():  # let the handler see it now, not after the delay
            turn.append(id, CANCEL)
            _close_attempt(turn, id, invocation)
            run(turn, id, invocation)
        case _:
            notify(turn, id, CANCEL)


def kill(turn: Turn, id: bytes) -> None:
    """End an invocation and everything that it called, without asking."""
    doomed = [(id, id)]  # who called it: its call has to arrive first
    while doomed:
        caller, each = doomed.pop()
        if turn.is_elsewhere(each):
            turn.post(caller, each, Kill())
            continue
        invocation = turn.invocation(each)
        if invocation is None or type(invocation.status) is Completed:
            continue
        if type(invocation.status) in (Scheduled, Inboxed):
            withdraw(turn, each, invocation, KILLED)
            continue
        for entry in turn.entries_from(each, 0):
            if type(entry) is Completion and type(entry.result) is InvocationId:
                doomed.append((each, parse_invocation_id(entry.result.id)))
        turn.acts.append(AbortAttempt(each))
        finish(turn, each, invocation, KILLED)


def purge(turn: Turn, id: bytes, invocation: Invocation) -> None:
    """Forget a completed invocation."""
    status = invocation.status
    assert type(status) is Completed, "only completed invocations are purged"
    forget_journal(turn, id)
    turn.rows[keys.expiry(status.expires_at_ms, ExpiryKind.INVOCATION, id)] = None
    journal_ms = invocation.journal_retention_ms
    if 0 < journal_ms < max(invocation.completion_retention_ms, invocation.keep_ms):
        due_ms = status.completed_at_ms + journal_ms
        turn.rows[keys.expiry(due_ms, ExpiryKind.JOURNAL, id)] = None
    if not invocation.is_forgotten:  # else they went before, and what is there now is newer
        _forget_data(turn, invocation)
    turn.put(id, None)


def forget_journal(turn: Turn, id: bytes) -> None:
    """Forget the entries, and the timers of sleeps that nobody sleeps any more."""
    entries = turn.entries_from(id, 0)
    fired = {e.completion_id for e in entries if type(e) is Completion}
    for entry in map(plain, entries):
        if type(entry) is Sleep and entry.completion_id not in fired:
            turn.clear_timer(entry.wake_up_at_ms, TimerKind.SLEEP, id, entry.completion_id)
    turn.forget_journal(id)


def _forget_data(turn: Turn, invocation: Invocation) -> None:
    """A workflow's state and promises go with its run."""
    if invocation.type is HandlerType.WORKFLOW:
        address = invocation.address
        for name in turn.state(address):
            turn.set_state(address, name, None)
        for name in turn.promise_names(address):
            turn.promises[(address, name)] = None


# ---- helpers ------------------------------------------------------------------------------------


def _arm(turn: Turn, due_ms: int, kind: TimerKind, id: bytes, invocation: Invocation) -> None:
    turn.set_timer(due_ms, kind, id, invocation)
    key = keys.timer(due_ms, kind, id)
    turn.acts.append(SetTimer(due_ms, key, keys.pack_number(invocation.created_at_ms)))


def _close_attempt(turn: Turn, id: bytes, invocation: Invocation) -> None:
    """Remove the row that would start an attempt again."""
    if type(invocation.status) is Running:
        turn.rows[keys.active(id)] = None
    elif type(invocation.status) is BackingOff:
        turn.clear_timer(invocation.status.retry_at_ms, TimerKind.RETRY, id)


def _leave(turn: Turn, id: bytes, invocation: Invocation, result: Outcome) -> None:
    """Answer everyone who waits, then let the next of the key begin."""
    turn.acts.append(Complete(id, result))
    for waiter in invocation.waiters:
        answer(turn, waiter, result, id)
    if invocation.arrival:
        release(turn, invocation.address, invocation.arrival)


def release(turn: Turn, address: tuple[str, str], arrival: int) -> None:
    """Take an inbox entry out; if it held the lock, the next one begins."""
    box, next_item = mailbox.release(turn.mailbox(address), arrival)
    turn.mailboxes[address] = box
    turn.rows[keys.inbox(address, arrival)] = None
    while next_item is not None:
        arrival, entry = next_item
        if type(entry) is StatePatch:
            patch_state(turn, address, entry)
            turn.rows[keys.inbox(address, arrival)] = None
            box, next_item = mailbox.release(box, arrival)
            turn.mailboxes[address] = box
            continue
        assert type(entry) is Queued
        waiting = turn.invocation(entry.invocation)
        assert waiting is not None, "an inboxed invocation has a record"
        return run(turn, entry.invocation, waiting)


def patch_state(turn: Turn, address: tuple[str, str], patch: StatePatch) -> None:
    """Replace a key's whole state, unless it changed since ``patch.version`` was read."""
    state = turn.state(address)
    if patch.version is not None and patch.version != state_version(state):
        return
    for name in state:
        if name not in patch.new_state:
            turn.set_state(address, name, None)
    for name, value in patch.new_state.items():
        turn.set_state(address, name, value)
