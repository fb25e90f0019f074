"""The attempt port: the one small interface where the runtime and a handler's side meet.

The runtime gives a ``Start`` (known entries, state) and notifications; the handler's side emits
frames: commands, run proposals, and at the end Ended, Suspended or Failed. Three transports carry it:
structs in this process, service-protocol frames over ASGI, the same over HTTP. Only shapes live here.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol, TypeAlias

import msgspec

from perdure.journal.entries import Command, Entry, Notification, Outcome, Verbatim
from perdure.journal.ids import format_invocation_id
from perdure.journal.schema import Handler


class Combinator(IntEnum):
    """How the children of an awaited tree combine (service protocol 3.3)."""

    UNKNOWN = 0
    FIRST_COMPLETED = 1
    ALL_COMPLETED = 2
    FIRST_SUCCEEDED_OR_ALL_FAILED = 3
    ALL_SUCCEEDED_OR_FIRST_FAILED = 4


class Awaiting(msgspec.Struct, frozen=True, array_like=True):
    """What an invocation waits for: leaves (completion ids, signal indexes and names) and subtrees."""

    combinator: Combinator
    completions: tuple[int, ...] = ()
    signals: tuple[int | str, ...] = ()
    nested: tuple["Awaiting", ...] = ()


class Start(msgspec.Struct, frozen=True):
    """What a new attempt begins with; one snapshot. Entry 0 is the Input."""

    id: bytes  # raw
    attempt: int  # the fencing token: effects of a lower one are dropped
    handler: Handler
    key: str  # "" for plain services
    entries: tuple[Entry, ...]
    state: dict[str, bytes]  # this attempt's own copy
    state_complete: bool  # False: a key that is not in ``state`` must be asked for
    random_seed: int
    retry_count: int = 0  # failed attempts since the last stored command
    retry_duration_ms: int = 0  # since the invocation's record was last changed
    idempotency_key: str | None = None
    scope: str | None = None
    limit_key: str | None = None
    deployment_id: str = ""  # "": handlers in this process, on this SDK
    protocol_version: int = 0  # of the service protocol; 0 where nothing is encoded
    trace: str = ""  # `traceparent` of this attempt, where the invocation has a trace

    @property
    def invocation_id(self) -> str:
        return format_invocation_id(self.id)


# ---- from the handler's side --------------------------------------------------------------------


class ProposeRun(msgspec.Struct, frozen=True, gc=False):
    """A run closure finished; its result is to be journaled.

    ``given_count``: the handler took the result at once, after so many notifications; None: it waits
    for the runtime to give the result back (decision 0014).
    """

    completion_id: int
    result: Outcome
    given_count: int | None = None


class Barrier(msgspec.Struct, frozen=True, gc=False):
    """Asks for ``Attempt.pass_barrier(completion_id)`` once all that was emitted before is durable."""

    completion_id: int


class AwaitingOn(msgspec.Struct, frozen=True, gc=False):
    """The handler is blocked; its coroutine is kept."""

    awaiting: Awaiting


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The handler is over; its Output command came before."""


class Suspended(msgspec.Struct, frozen=True, gc=False):
    """The coroutine was dropped. ``seen_count``: how long a prefix of the journal it had been given,
    counting entries; only notifications at or after that index are news for it (protocol 5.8)."""

    awaiting: Awaiting
    seen_count: int


class Behavior(IntEnum):
    RETRY = 0
    PAUSE = 1
    FAIL = 2


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The attempt failed; not an answer. ``next_retry_delay_ms`` overrides the policy's next delay."""

    code: int
    message: str
    stacktrace: str = ""
    next_retry_delay_ms: int | None = None
    behavior: Behavior = Behavior.RETRY
    related_command_index: int | None = None
    related_command_name: str = ""
    related_command_type: str = ""
    counts: bool = True  # False: nothing ran, so the handler's side need not know of it


Frame: TypeAlias = (
    Command | Verbatim | ProposeRun | Barrier | AwaitingOn | Ended | Suspended | Failed
)


class Sink(Protocol):
    """Where a handler's side puts what it has to say. Called on the partition's loop only."""

    def emit(self, frames: tuple[Frame, ...]) -> None:
        """One burst, in order. After Ended, Suspended or Failed nothing may follow."""

    def now_ms(self) -> int:
        """Unix epoch, by the runtime's clock."""

    def ready(self, go_on: Callable[[], None]) -> bool:
        """Whether there is room for more; if not, ``go_on`` is called once when there is."""


class Attempt(Protocol):
    """The handler's side of one attempt, as the runtime sees it. Called on the partition's loop only."""

    def deliver(self, entries: tuple[tuple[int, Notification], ...]) -> None:
        """Notifications with their entry index, in journal order, each exactly once."""

    def pass_barrier(self, completion_id: int) -> None:
        """Everything emitted before the ``Barrier`` with this id is durable."""

    def close_input(self) -> None:
        """Ask to suspend: nothing more will be delivered; answer with a last frame when blocked."""

    def abort(self) -> None:
        """Stop at once; nothing that is emitted from now on counts."""


class Deployment(Protocol):
    """Where handlers run."""

    def start(self, start: Start, sink: Sink) -> Attempt:
        """Begin an attempt. It must not emit before it returns."""
