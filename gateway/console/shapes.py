"""The JSON that the console's pages read: small, previews instead of payloads. Pure.

Times are milliseconds since the Unix epoch. Payloads are text where they are UTF-8, cut to a preview;
the page shows them as text and nothing else.
"""

import base64
from typing import Any, Final

import msgspec

from perdure.actors.describe import STATUS_NAMES
from perdure.journal.entries import (
    Failure,
    InvocationId,
    Outcome,
    Result,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.ids import format_invocation_id
from perdure.journal.records import BackingOff, Completed, Invocation, Paused, Scheduled

PREVIEW_BYTES: Final = 4096
MESSAGE_CHARS: Final = 300
STACK_CHARS: Final = 20_000


def payload(content: bytes, limit_bytes: int = PREVIEW_BYTES) -> dict[str, Any]:
    """``text`` where it is UTF-8, else ``base64``; ``is_cut`` where there is more of it."""
    head = content[:limit_bytes]
    shown: dict[str, Any] = {"size": len(content)}
    if len(content) > limit_bytes:
        shown["is_cut"] = True
    text = _text(head, is_cut=len(content) > limit_bytes)
    if text is None:
        return shown | {"base64": base64.b64encode(head).decode()}
    return shown | {"text": text}


def _text(head: bytes, is_cut: bool) -> str | None:
    """None for what is no text. A cut may go through a character."""
    for drop in range(4 if is_cut else 1):
        try:
            return head[: len(head) - drop].decode()
        except UnicodeDecodeError:
            continue
    return None


def failure(given: Failure) -> dict[str, Any]:
    shown: dict[str, Any] = {"code": given.code, "message": _cut(given.message, STACK_CHARS)}
    if given.stacktrace:
        shown["stacktrace"] = _cut(given.stacktrace, STACK_CHARS)
    if given.metadata:
        shown["metadata"] = given.metadata
    return shown


def outcome(given: Outcome) -> dict[str, Any]:
    if isinstance(given, Failure):
        return {"failure": failure(given)}
    return {"value": payload(given.content)}


def result(given: Result) -> dict[str, Any]:
    match given:
        case Void():
            return {"void": True}
        case Value() | Failure():
            return outcome(given)
        case StateKeys(keys=names):
            return {"keys": list(names[:200])}
        case InvocationId(id=id):
            return {"invocation": id}


def row(id: bytes, record: Invocation) -> dict[str, Any]:
    """One line of a list of invocations."""
    status = record.status
    shown: dict[str, Any] = {
        "id": format_invocation_id(id),
        "service": record.service,
        "handler": record.handler,
        "key": record.key,
        "status": STATUS_NAMES[type(status)],
        "created": record.created_at_ms,
        "modified": record.modified_at_ms,
        "attempts": record.attempt,
        "retries": record.retry_count,
    }
    match status:
        case Completed():
            shown["completed"] = status.completed_at_ms
            if isinstance(status.result, Failure):
                shown["failed"] = True
                shown["message"] = _cut(status.result.message, MESSAGE_CHARS)
        case Scheduled():
            shown["due"] = status.start_at_ms
        case BackingOff():
            shown["due"] = status.retry_at_ms
        case Paused():
            shown["message"] = _cut(status.reason, MESSAGE_CHARS)
        case _:
            pass
    note = record.last_failure
    if note is not None and "message" not in shown and not isinstance(status, Completed):
        shown["message"] = _cut(note.message, MESSAGE_CHARS)
    return shown


def details(id: bytes, record: Invocation) -> dict[str, Any]:
    """One invocation, without its journal."""
    shown = row(id, record)
    shown |= {
        "type": record.type.value,
        "invoked_by": record.invoked_by,
        "entry_count": record.entry_count,
        "command_count": record.command_count,
        "deployment": record.deployment_id,
        "waiters": len(record.waiters),
    }
    optional: dict[str, Any] = {
        "idempotency_key": record.idempotency_key,
        "execution_time": record.execution_time_ms,
        "scope": record.scope,
        "limit_key": record.limit_key,
    }
    shown |= {name: value for name, value in optional.items() if value is not None}
    status, note = record.status, record.last_failure
    if isinstance(status, Completed):
        shown["result"] = outcome(status.result)
        shown["expires"] = status.expires_at_ms
    if isinstance(status, Paused):
        shown["paused_reason"] = _cut(status.reason, STACK_CHARS)
    if note is not None:
        failed = msgspec.structs.asdict(note)
        failed["message"] = _cut(note.message, STACK_CHARS)
        failed["stacktrace"] = _cut(note.stacktrace, STACK_CHARS)
        shown["last_failure"] = failed
    return shown


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " …"
