"""What the tables hold besides entries: invocations and their status, promises, inbox entries.

Field orders and tags are on disk for ever, as in ``entries``. Keys are in ``keys``; the meaning of
every field is written down in docs/journal-format.md.
"""

from typing import TypeAlias

import msgspec

from perdure.journal.attempt import Awaiting
from perdure.journal.entries import Outcome, Record
from perdure.journal.schema import HandlerType

Address: TypeAlias = tuple[str, str]  # service and key of a virtual object or workflow


class Waiter(Record, frozen=True):
    """An invocation whose command ``completion_id`` waits for a result.

    ``created_at_ms`` is the invocation's: ids that requests decide come again after a purge, and
    the next life must not get what an earlier one asked for.
    """

    invocation: bytes
    completion_id: int
    created_at_ms: int


class FailureNote(Record, frozen=True):
    """Why the last attempt failed, for operators."""

    code: int
    message: str
    stacktrace: str = ""
    related_command_index: int | None = None
    related_command_name: str = ""
    related_command_type: str = ""


# ---- status: each carries only what that status has ---------------------------------------------


class Scheduled(Record, frozen=True, tag="scheduled"):
    start_at_ms: int


class Inboxed(Record, frozen=True, tag="inboxed"):
    """Waits for the key's lock."""


class Running(Record, frozen=True, tag="running"):
    """An attempt is open, or is opened again at the next start of the process."""


class BackingOff(Record, frozen=True, tag="backing_off"):
    retry_at_ms: int


class Suspended(Record, frozen=True, tag="suspended"):
    """No coroutine. ``seen_count``: notifications from that entry index on are news (protocol 5.8)."""

    awaiting: Awaiting
    seen_count: int


class Paused(Record, frozen=True, tag="paused"):
    reason: str


class Completed(Record, frozen=True, tag="completed"):
    result: Outcome
    completed_at_ms: int
    expires_at_ms: int


Status: TypeAlias = Scheduled | Inboxed | Running | BackingOff | Suspended | Paused | Completed

RUNNING = Running()
INBOXED = Inboxed()


class Invocation(Record, frozen=True):
    """One durable call. The journal holds its input; ids are raw, 24 bytes."""

    service: str
    handler: str
    key: str | None
    type: HandlerType
    status: Status
    created_at_ms: int
    modified_at_ms: int
    seed: int  # of the handler's random numbers
    invoked_by: str  # "ingress", "restart_as_new", or the caller's id
    entry_count: int = 1
    command_count: int = 1
    attempt: int = 0  # the newest attempt's fencing token
    arrival: int = 0  # of its inbox row; 0 where it has none
    waiters: tuple[Waiter, ...] = ()
    idempotency_key: str | None = None
    execution_time_ms: int | None = None  # when it was sent with a delay
    completion_retention_ms: int = 0
    journal_retention_ms: int = 0
    retry_count: int = 0  # failed attempts since the last new command
    failed_attempts: int = 0  # by which the retry policy counts
    last_failure: FailureNote | None = None
    scope: str | None = None
    limit_key: str | None = None
    deployment_id: str = (
        ""  # pinned: where it runs to its end; "": handlers in this process, or not yet
    )
    protocol_version: int = 0  # pinned with it
    restarted_from: bytes | None = None  # the invocation whose journal it began with
    trace: str | None = None  # of whoever invoked it, see journal/trace.py
    keep_ms: int = 0  # the completion stays so long at least, for a caller that may ask again

    @property
    def is_forgotten(self) -> bool:
        """Whether it is over and only kept for the one who may ask again under its id."""
        return type(self.status) is Completed and self.completion_retention_ms == 0

    @property
    def pinned(self) -> bool:
        """Whether an attempt journaled anything, so that it stays where that ran (protocol 5.3), or an
        operator said where it has to run."""
        return self.command_count > 1 or self.deployment_id != ""

    @property
    def address(self) -> Address:
        return (self.service, self.key or "")

    @property
    def target(self) -> str:
        return target_text(self.service, self.key, self.handler)


def target_text(service: str, key: str | None, handler: str) -> str:
    """``Counter/alice/add``, or ``Greeter/greet`` for plain services."""
    middle = "" if key is None else f"{key}/"
    return f"{service}/{middle}{handler}"


class Promise(Record, frozen=True):
    """A workflow's durable promise: its result, or who waits for it."""

    result: Outcome | None = None
    waiters: tuple[Waiter, ...] = ()


# ---- inbox entries ------------------------------------------------------------------------------


class Queued(Record, frozen=True, tag="queued"):
    """An exclusive invocation; the first one of a key holds its lock."""

    invocation: bytes


class StatePatch(Record, frozen=True, tag="state_patch"):
    """An operator's change of the key's whole state, in its turn."""

    new_state: dict[str, bytes]
    version: str | None


InboxEntry: TypeAlias = Queued | StatePatch

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_invocation = msgspec.msgpack.Decoder(Invocation).decode
decode_promise = msgspec.msgpack.Decoder(Promise).decode
decode_inbox_entry = msgspec.msgpack.Decoder(InboxEntry).decode
