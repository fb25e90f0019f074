"""The columns of `sys_invocation`, `sys_invocation_status`, `sys_invocation_state`. Introspection 6.1 to 6.3.

What the runtime does not keep is NULL: when an invocation first ran or left a queue, and where its last
attempt ran once that is over.
"""

from http.client import responses
from typing import Final

from perdure.gateway.sql.awaiting_json import awaiting_json, waiting_for
from perdure.gateway.sql.rows_invocations import Head, InvocationRow
from perdure.gateway.sql.source import Getter
from perdure.journal.entries import Failure
from perdure.journal.ids import format_invocation_id
from perdure.journal.records import (
    BackingOff,
    Completed,
    FailureNote,
    Inboxed,
    Invocation,
    Paused,
    Running,
    Scheduled,
    Suspended,
    target_text,
)
from perdure.journal.schema import HandlerType
from perdure.journal.trace import trace_id

_STORED: Final[dict[type, str]] = {
    Scheduled: "scheduled",
    Inboxed: "inboxed",
    Running: "invoked",
    BackingOff: "invoked",
    Suspended: "suspended",
    Paused: "paused",
    Completed: "completed",
}
_REASONS: Final = {500: "Internal", 570: "Journal mismatch", 571: "Protocol violation"}
_CODES: Final = {570: "RT0016", 571: "RT0012"}  # RT0007: the handler's own error
_SERVICE_TYPES: Final = {
    HandlerType.SERVICE: "service",
    HandlerType.EXCLUSIVE: "virtual_object",
    HandlerType.WORKFLOW: "workflow",
}
_ID_PREFIX: Final = "inv_"


# ---- who and where -------------------------------------------------------------------------------


def partition_key(id: bytes) -> int:
    return int.from_bytes(id[:8], "big")


def target(record: Head | Invocation) -> str:
    return target_text(record.service, record.key, record.handler)


def _service_type(row: InvocationRow) -> str:
    """A shared handler may be an object's or a workflow's."""
    known = _SERVICE_TYPES.get(row.head.type)
    if known is not None:
        return known
    ty: str = row.facts.service(row.head.service).get("ty", "virtual_object")
    return ty


def _invoked_by(row: InvocationRow) -> str:
    by = row.record.invoked_by
    return "service" if by.startswith(_ID_PREFIX) else by


def _invoked_by_id(row: InvocationRow) -> str | None:
    by = row.record.invoked_by
    return by if by.startswith(_ID_PREFIX) else None


def _caller(row: InvocationRow) -> Invocation | None:
    by = _invoked_by_id(row)
    return None if by is None else row.facts.caller(by)


def _invoked_by_service(row: InvocationRow) -> str | None:
    caller = _caller(row)
    return None if caller is None else caller.service


def _invoked_by_target(row: InvocationRow) -> str | None:
    caller = _caller(row)
    return None if caller is None else target(caller)


def _restarted_from(row: InvocationRow) -> str | None:
    origin = row.record.restarted_from
    return None if origin is None else format_invocation_id(origin)


def _deployment_of(row: InvocationRow) -> str | None:
    """The deployment that it runs at, or would; that of this process has its id in the registry."""
    record = row.record
    found = record.deployment_id or row.facts.service(record.service).get("deployment_id")
    return found or None


def _pinned_deployment(row: InvocationRow) -> str | None:
    return _deployment_of(row) if row.record.pinned else None


def _pinned_version(row: InvocationRow) -> int | None:
    return (row.record.protocol_version or None) if row.record.pinned else None


# ---- status --------------------------------------------------------------------------------------


def stored_status(record: Head | Invocation) -> str:
    return _STORED[type(record.status)]


def status(row: InvocationRow) -> str:
    match row.head.status:
        case Inboxed():
            return "pending"
        case Running():
            return "running" if row.in_flight else "ready"
        case BackingOff():
            return "backing-off"
        case other:
            return _STORED[type(other)]


def _completion_result(row: InvocationRow) -> str | None:
    over = row.head.status
    if not isinstance(over, Completed):
        return None
    return "failure" if isinstance(over.result, Failure) else "success"


def _completion_failure(row: InvocationRow) -> str | None:
    over = row.head.status
    if not isinstance(over, Completed) or not isinstance(over.result, Failure):
        return None
    return f"[{over.result.code}] {over.result.message}"


def _inboxed_at(row: InvocationRow) -> int | None:
    record = row.record
    waits = isinstance(record.status, Inboxed) and record.execution_time_ms is None
    return record.created_at_ms if waits else None


def _scheduled_at(row: InvocationRow) -> int | None:
    record = row.record
    start_at_ms = record.execution_time_ms
    is_later = start_at_ms is not None and start_at_ms > record.created_at_ms
    return record.created_at_ms if is_later else None


def _completed_at(row: InvocationRow) -> int | None:
    over = row.head.status
    return over.completed_at_ms if isinstance(over, Completed) else None


def _waiting_completions(row: InvocationRow) -> list[int] | None:
    now = row.head.status
    return waiting_for(now.awaiting)[0] if isinstance(now, Suspended) else None


def _waiting_signals(row: InvocationRow) -> list[int] | None:
    now = row.head.status
    return waiting_for(now.awaiting)[1] if isinstance(now, Suspended) else None


def _waiting_future(row: InvocationRow) -> str | None:
    now = row.head.status
    return awaiting_json(now.awaiting) if isinstance(now, Suspended) else None


# ---- attempts ------------------------------------------------------------------------------------


def failure_text(note: FailureNote) -> str:
    """`[500 Internal] message`, and the stack trace below it."""
    reason = _REASONS.get(note.code) or responses.get(note.code)
    code = str(note.code) if reason is None else f"{note.code} {reason}"
    head = f"[{code}] {note.message}"
    return f"{head}\n{note.stacktrace}" if note.stacktrace else head


def failure_code(note: FailureNote) -> str:
    """The error code of the documentation; a message that begins with one says it itself."""
    head = note.message[1:7]
    if note.message.startswith("[RT") and note.message[7:8] == "]" and head[2:].isdigit():
        return head
    return _CODES.get(note.code, "RT0007")


def _last_failure(row: InvocationRow) -> str | None:
    return None if row.note is None else failure_text(row.note)


def _last_failure_code(row: InvocationRow) -> str | None:
    return None if row.note is None else failure_code(row.note)


def _related_index(row: InvocationRow) -> int | None:
    return None if row.note is None else row.note.related_command_index


def _related_name(row: InvocationRow) -> str | None:
    return None if row.note is None else row.note.related_command_name or None


def _related_type(row: InvocationRow) -> str | None:
    return None if row.note is None else row.note.related_command_type or None


def _next_retry_at(row: InvocationRow) -> int | None:
    now = row.head.status
    return now.retry_at_ms if isinstance(now, BackingOff) else None


def _attempted_deployment(row: InvocationRow) -> str | None:
    return _deployment_of(row) if row.is_held else None


def _attempted_server(row: InvocationRow) -> str | None:
    found: str | None = row.facts.deployment(_attempted_deployment(row)).get("sdk_version")
    return found


def _trace_id(row: InvocationRow) -> str | None:
    found = row.record.trace
    return None if found is None else trace_id(found)


def _never(row: InvocationRow) -> None:
    return None


# ---- the tables ----------------------------------------------------------------------------------

_ATTEMPTS: Final[dict[str, Getter]] = {
    "retry_count": lambda row: row.retry_count,
    "last_start_at": lambda row: row.attempt.get("started_at_ms"),
    "next_retry_at": _next_retry_at,
    "last_attempt_deployment_id": _attempted_deployment,
    "last_attempt_server": _attempted_server,
    "last_failure": _last_failure,
    "last_failure_error_code": _last_failure_code,
    "last_failure_related_entry_index": _never,
    "last_failure_related_entry_name": _never,
    "last_failure_related_entry_type": _never,
    "last_failure_related_command_index": _related_index,
    "last_failure_related_command_name": _related_name,
    "last_failure_related_command_type": _related_type,
    "last_awaiting_on_future_json": lambda row: row.attempt.get("awaiting"),
}
STATUS: Final[dict[str, Getter]] = {
    "partition_key": lambda row: partition_key(row.id),
    "id": lambda row: format_invocation_id(row.id),
    "vqueue_id": _never,
    "status": lambda row: stored_status(row.head),
    "completion_result": _completion_result,
    "completion_failure": _completion_failure,
    "target": lambda row: target(row.head),
    "target_service_name": lambda row: row.head.service,
    "target_service_key": lambda row: row.head.key,
    "target_handler_name": lambda row: row.head.handler,
    "target_service_ty": _service_type,
    "scope": lambda row: row.record.scope,
    "limit_key": lambda row: row.record.limit_key,
    "idempotency_key": lambda row: row.record.idempotency_key,
    "invoked_by": _invoked_by,
    "invoked_by_id": _invoked_by_id,
    "invoked_by_subscription_id": _never,
    "invoked_by_service_name": _invoked_by_service,
    "invoked_by_target": _invoked_by_target,
    "restarted_from": _restarted_from,
    "pinned_deployment_id": _pinned_deployment,
    "pinned_service_protocol_version": _pinned_version,
    "trace_id": _trace_id,
    "journal_size": lambda row: row.record.entry_count,
    "journal_commands_size": lambda row: row.record.command_count,
    "created_at": lambda row: row.head.created_at_ms,
    "created_using_restate_version": _never,
    "modified_at": lambda row: row.record.modified_at_ms,
    "inboxed_at": _inboxed_at,
    "scheduled_at": _scheduled_at,
    "scheduled_start_at": lambda row: row.record.execution_time_ms,
    "running_at": _never,
    "completed_at": _completed_at,
    "completion_retention": lambda row: row.record.completion_retention_ms,
    "journal_retention": lambda row: row.record.journal_retention_ms,
    "suspended_waiting_for_completions": _waiting_completions,
    "suspended_waiting_for_signals": _waiting_signals,
    "suspended_waiting_future_json": _waiting_future,
}
STATE: Final[dict[str, Getter]] = {
    "partition_key": STATUS["partition_key"],
    "id": STATUS["id"],
    "in_flight": lambda row: row.in_flight,
    **_ATTEMPTS,
}
INVOCATION: Final[dict[str, Getter]] = {
    **{name: get for name, get in STATUS.items() if name != "partition_key"},
    **_ATTEMPTS,
    "status": status,
}
