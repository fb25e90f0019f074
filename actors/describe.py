"""An invocation's record as operators read it. Pure; nothing is decided here."""

from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.entries import CANCEL_SIGNAL, Failure
from perdure.journal.ids import format_invocation_id
from perdure.journal.records import (
    BackingOff,
    Completed,
    Inboxed,
    Invocation,
    Paused,
    Running,
    Scheduled,
    Status,
    Suspended,
)
from perdure.journal.requests import Filter, InvocationInfo, LastFailure

STATUS_NAMES: dict[type, str] = {
    Scheduled: "scheduled",
    Inboxed: "pending",
    Running: "running",
    BackingOff: "backing-off",
    Suspended: "suspended",
    Paused: "paused",
    Completed: "completed",
}
STATUS_WORDS = (*STATUS_NAMES.values(), "succeeded", "failed")  # the last two: completed, and how

_WORDS = {
    Combinator.UNKNOWN: "any of",
    Combinator.FIRST_COMPLETED: "any of",
    Combinator.ALL_COMPLETED: "all of",
    Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED: "the first success of",
    Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED: "the success of all of",
}


def matches(record: Invocation, filter: Filter) -> bool:
    return (
        (filter.service is None or record.service == filter.service)
        and (filter.handler is None or record.handler == filter.handler)
        and (filter.key is None or record.key == filter.key)
        and (filter.status is None or filter.status in _words(record.status))
    )


def _words(status: Status) -> tuple[str, ...]:
    """What an operator may call it."""
    name = STATUS_NAMES[type(status)]
    if not isinstance(status, Completed):
        return (name,)
    return name, "failed" if isinstance(status.result, Failure) else "succeeded"


def describe(id: bytes, record: Invocation, awaiting: Awaiting | None = None) -> InvocationInfo:
    """``awaiting``: what a running invocation waits for, where that is known."""
    status = record.status
    if isinstance(status, Suspended):
        awaiting = status.awaiting
    note = record.last_failure
    over = status if isinstance(status, Completed) else None
    return InvocationInfo(
        id=format_invocation_id(id),
        service=record.service,
        handler=record.handler,
        key=record.key,
        status=STATUS_NAMES[type(status)],
        created_at_ms=record.created_at_ms,
        modified_at_ms=record.modified_at_ms,
        entry_count=record.entry_count,
        command_count=record.command_count,
        attempt_count=record.attempt,
        invoked_by=record.invoked_by,
        idempotency_key=record.idempotency_key,
        scheduled_at_ms=status.start_at_ms if isinstance(status, Scheduled) else None,
        next_retry_at_ms=status.retry_at_ms if isinstance(status, BackingOff) else None,
        awaiting="" if awaiting is None else describe_awaiting(awaiting),
        paused_reason=status.reason if isinstance(status, Paused) else "",
        completed_at_ms=None if over is None else over.completed_at_ms,
        result=None if over is None else over.result,
        last_failure=None
        if note is None
        else LastFailure(
            note.code,
            note.message,
            note.stacktrace,
            note.related_command_index,
            note.related_command_name,
            note.related_command_type,
        ),
        restarted_from=None
        if record.restarted_from is None
        else format_invocation_id(record.restarted_from),
    )


def describe_awaiting(awaiting: Awaiting) -> str:
    """Such as ``any of completion 3, signal "paid"``; the cancel signal is always awaited, so left out."""
    parts = [f"completion {c}" for c in awaiting.completions]
    for signal in awaiting.signals:
        if isinstance(signal, str):
            parts.append(f'signal "{signal}"')
        elif signal != CANCEL_SIGNAL:
            parts.append(f"signal {signal}")
    parts += [
        f"({describe_awaiting(n)})" if len(awaiting.nested) > 1 else describe_awaiting(n)
        for n in awaiting.nested
    ]
    if len(parts) == 1:
        return parts[0]
    return f"{_WORDS[awaiting.combinator]} {', '.join(parts)}"
