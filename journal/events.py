"""What the partition machine is told (events) and what it wants done (acts). Data only.

Events carry time and chance: ``now_ms`` is Unix epoch milliseconds,
``seed`` a random 64-bit number, ``entropy`` a source of chance. Ids are raw, 24 bytes.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from perdure.journal.attempt import Frame
from perdure.journal.entries import Input, Notification, Outcome, SignalResult
from perdure.journal.keys import ExpiryKind
from perdure.journal.outbox import Outgoing
from perdure.journal.requests import Op
from perdure.journal.schedules_requests import Ask
from perdure.journal.schema import Handler


class Shape(msgspec.Struct, frozen=True, gc=False):
    """Base of events and acts: immutable, in memory only."""


class Entropy:
    """A source of chance that is handed in with an event; same source, same numbers.

    ``random_bytes``: ``os.urandom`` in production, a seeded ``Random.randbytes`` in tests.
    """

    __slots__ = ("take",)

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self.take = random_bytes

    def chance(self) -> float:
        """From 0 to 1."""
        return int.from_bytes(self.take(4), "big") / 0xFFFF_FFFF


# ---- events -------------------------------------------------------------------------------------


class Request(Shape, frozen=True):
    """Somebody outside asks for an invocation. ``is_fresh``: the id is random, so it can't exist.
    ``seed``: random; where an invocation has it already, it began by this very request.

    ``waits``: the caller wants the result; else it wants to know that the request is durable.
    """

    id: bytes
    handler: Handler
    key: str | None
    input: Input
    now_ms: int
    seed: int
    token: int
    waits: bool
    is_fresh: bool
    idempotency_key: str | None = None
    start_at_ms: int | None = None
    scope: str | None = None
    limit_key: str | None = None
    trace: str | None = None
    keep_ms: int = 0  # keep the completion so long at least, for a caller that may ask again


class Frames(Shape, frozen=True):
    """A burst from an attempt. ``entropy``: for the ids and seeds of what it calls, and for jitter.

    ``deployment_id``, ``protocol_version``: where the attempt runs, for the pin; "" in this process,
    where the version is 0 under any id.
    """

    id: bytes
    attempt: int
    frames: tuple[Frame, ...]
    now_ms: int
    entropy: Entropy
    deployment_id: str = ""
    protocol_version: int = 0


class TimerDue(Shape, frozen=True):
    key: bytes
    value: bytes
    now_ms: int


class Attach(Shape, frozen=True):
    """Wait for the result of an invocation (``waits``), or look whether it is there."""

    id: bytes
    token: int
    waits: bool


class SendSignalTo(Shape, frozen=True):
    id: bytes
    signal: int | str
    result: SignalResult
    token: int
    now_ms: int


class Destination(Shape, frozen=True):
    """Where an operator wants an invocation to run. ``deployment_id`` "" is this process.

    ``oldest`` to ``newest`` are the protocol versions that are spoken there, ``version`` the one that
    is agreed on; 0 in this process. ``is_latest``: chosen as the newest revision, so that an invocation
    without entries is not tied to it.
    """

    handler: Handler
    deployment_id: str = ""
    oldest: int = 0
    newest: int = 0
    version: int = 0
    is_latest: bool = False


class Nowhere(Shape, frozen=True):
    """The chosen deployment does not exist, or does not have the handler."""


class Operate(Shape, frozen=True):
    """``destination``: for a resume somewhere else; None keeps it where it is."""

    id: bytes
    op: Op
    token: int
    now_ms: int
    destination: Destination | Nowhere | None = None


class Restart(Shape, frozen=True):
    """Run a completed invocation again, as another one, from a prefix of its journal (admin 6.2).

    ``from_index``: the last entry that is taken over. ``edits``: pairs of an entry's index and the bytes
    to put in the place of its value. ``seed``: used where the handler begins anew.
    """

    id: bytes
    new_id: bytes
    from_index: int
    destination: Destination | Nowhere
    seed: int
    token: int
    now_ms: int
    edits: tuple[tuple[int, bytes], ...] = ()


class PatchState(Shape, frozen=True):
    service: str
    key: str
    new_state: dict[str, bytes]
    version: str | None
    token: int
    now_ms: int


class AskSchedules(Shape, frozen=True):
    """A request about schedules. ``token`` None: nobody waits for the answer."""

    ask: Ask
    seed: int
    token: int | None
    now_ms: int


class Recover(Shape, frozen=True):
    """The attempt that should be open is gone (crash, dead actor); start one, at no cost to the policy."""

    id: bytes
    now_ms: int


class Quarantine(Shape, frozen=True):
    """The object failed too often; pause the invocation and say why."""

    id: bytes
    reason: str
    now_ms: int


class Arrived(Shape, frozen=True):
    """A message of another partition, ``seq`` of its outbox."""

    source: int
    seq: int
    outgoing: Outgoing
    now_ms: int


class Expired(Shape, frozen=True):
    key: bytes
    kind: ExpiryKind
    id: bytes


Event: TypeAlias = (
    Request
    | Frames
    | TimerDue
    | Attach
    | SendSignalTo
    | Operate
    | Restart
    | PatchState
    | AskSchedules
    | Recover
    | Quarantine
    | Arrived
    | Expired
)


# ---- acts ---------------------------------------------------------------------------------------
# The first group concerns attempts in this process, which may run ahead of the disk; the second is
# visible outside and waits for the commit of everything that was decided before it.


class StartAttempt(Shape, frozen=True):
    id: bytes
    attempt: int


class Deliver(Shape, frozen=True):
    """Notifications with their entry index."""

    id: bytes
    attempt: int
    entries: tuple[tuple[int, Notification], ...]


class AbortAttempt(Shape, frozen=True):
    """The attempt is superseded or its invocation over; nothing it says counts any more."""

    id: bytes


class SetTimer(Shape, frozen=True):
    due_ms: int
    key: bytes
    value: bytes


class PassBarrier(Shape, frozen=True):
    id: bytes
    attempt: int
    completion_id: int


class Complete(Shape, frozen=True):
    """Tell everyone outside who waits for this invocation."""

    id: bytes
    result: Outcome


class Reply(Shape, frozen=True):
    """Answer one caller outside."""

    token: int
    answer: object


class AwaitEnd(Shape, frozen=True):
    """The caller ``token`` is answered when the invocation completes."""

    token: int
    id: bytes


class Forward(Shape, frozen=True):
    """Send a row of the outbox to another partition. Losing this is harmless: the row stays."""

    destination: int
    seq: int
    row: bytes


class Report(Shape, frozen=True):
    """Something an operator should read in the log."""

    level: str  # "warning" or "error"
    id: bytes
    text: str
    target: str = ""
    attempt: int = 0
    stacktrace: str = ""


Act: TypeAlias = (
    StartAttempt
    | Deliver
    | AbortAttempt
    | SetTimer
    | PassBarrier
    | Complete
    | Reply
    | AwaitEnd
    | Forward
    | Report
)
