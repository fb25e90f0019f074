"""What a look into partitions asks, and what it answers: rows, live facts, counts. Shapes and encoding.

Everything that the gateway shows of partitions beyond ``requests.Runtime`` is asked for with one of these
questions, so that it does not matter in which process a partition is. Answered by actors/inspector.py for one
partition, put together by actors/inspectors.py for many. Nothing here reads, and nothing can be changed by
asking. Answers are bounded: a part of the rows says where to go on.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec

from perdure.journal.attempt import Awaiting
from perdure.journal.errors import BadId, Overloaded, PerdureError, StoreFailed
from perdure.journal.histogram import Histogram
from perdure.journal.placement import Placement
from perdure.journal.recording import Recording
from perdure.journal.store import Row
from perdure.journal.tally import Tally

A = TypeVar("A")

PART_BYTES: Final = 4 << 20  # rows in one answer; a single row may be larger


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of both directions. Fields may be added at the end, tags are never used again."""


# ---- answers -------------------------------------------------------------------------------------


class Missing(Message, frozen=True):
    """A partition that an answer is without, and why."""

    partition: int
    reason: str

    def __str__(self) -> str:
        return f"partition {self.partition} is down: {self.reason}"


class Done(Message, frozen=True, tag="done"):
    """``missing``: partitions that are down, of which nothing can be read anyway."""

    missing: tuple[Missing, ...] = ()


class Rows(Message, frozen=True, tag="rows"):
    """``then``: the key to go on with, as the answer is cut there; None where it is whole."""

    rows: list[Row]
    then: bytes | None = None


class Counted(Message, frozen=True, tag="counted"):
    """``then``: the row to go on with; None at the end."""

    tally: Tally
    then: bytes | None = None


class OpenAttemptFacts(Message, frozen=True):
    """One open attempt; ``id`` raw, ``started_at_ms`` since the Unix epoch."""

    id: bytes
    attempt: int
    started_at_ms: int
    awaiting: Awaiting | None = None


class Attempts(Message, frozen=True, tag="attempts"):
    """``delayed``: raw ids of those that run as soon as fewer others do."""

    open: list[OpenAttemptFacts]
    delayed: list[bytes]
    missing: tuple[Missing, ...] = ()


class News(Message, frozen=True, tag="news"):
    """``changed``: moment (ms) and raw id of the invocations that changed last, newest first.

    The counts are of invocations that ended since the partition was opened.
    """

    changed: list[tuple[int, bytes]]
    completed_count: int
    failed_count: int
    missing: tuple[Missing, ...] = ()


class PartitionLook(Message, frozen=True):
    """One partition. ``reason``: why it is down, or ""; all behind it is of one that is up."""

    placement: Placement
    reason: str
    epoch: int = 0
    position: int = 0
    fsync_us: float = 0.0
    size_bytes: int = 0
    has_room: bool = True
    open_attempts: int = 0
    dead_letters: int = 0


class Looks(Message, frozen=True, tag="looks"):
    """By index."""

    partitions: list[PartitionLook]


class Histo(Message, frozen=True):
    """A ``Histogram``, to travel."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float

    @classmethod
    def of(cls, histogram: Histogram) -> "Histo":
        """As it is now; another thread may be adding to it."""
        return cls(tuple(histogram.bounds), list(histogram.counts), histogram.total)

    def __add__(self, other: "Histo") -> "Histo":
        """Of both; the bounds must be the same."""
        if self.bounds != other.bounds:
            raise ValueError("histograms with different bounds cannot be added")
        counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Histo(self.bounds, counts, self.total + other.total)


class PartitionWork(Message, frozen=True):
    """What one partition counted. ``fsync_probe_s`` and what follows: only while it is up."""

    partition: int
    is_up: bool
    restart_count: int
    succeeded: dict[str, int]  # invocations that ended, by service
    failed: dict[str, int]
    attempts: dict[str, int]
    failed_attempts: dict[str, int]
    commit_s: Histo
    commit_writes: Histo
    timer_late_s: Histo
    open_attempts: dict[str, int] = {}  # by deployment, "" is the partition's own process
    waiting_attempts: int = 0
    actors: int = 0
    mailbox_messages: int = 0
    deepest_mailbox: int = 0
    inbox_waiting: int = 0
    dead_letters: int = 0
    timers: int = 0
    size_bytes: int = 0
    fsync_probe_s: float = 0.0
    sync_s: Histo | None = None
    loop_lag_s: Histo | None = None  # of a process of its own


class Work(Message, frozen=True, tag="work"):
    """By index; partitions that cannot be asked are missing."""

    partitions: list[PartitionWork]
    missing: tuple[Missing, ...] = ()


class TreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """One actor. ``service`` and ``key`` are of objects; ``waiting_count``: invocations for the key's lock;
    ``restarts`` counts the object's actors that failed."""

    actor: str
    level: int
    address: str
    state: str
    age_s: float
    restarts: int
    last_error: str
    mailbox_depth: int
    service: str | None = None
    key: str | None = None
    attempt_count: int = 0
    waiting_count: int = 0
    partition: int = 0


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """``down``: why a partition is down, or "". ``actor_count`` counts also those that are not listed."""

    strategy: str
    restart_limit: int
    restart_window_s: float
    partition_restarts: int
    down: str
    actor_count: int
    actors: list[TreeNode]


class Actors(Message, frozen=True, tag="actors"):
    tree: Tree


class Recorded(Message, frozen=True, tag="recorded"):
    """None where there is no such invocation."""

    recording: Recording | None


class Pinned(Message, frozen=True, tag="pinned"):
    """By deployment."""

    counts: dict[str, int]


class Refused(Message, frozen=True, tag="refused"):
    """An error instead of an answer; from afar alone, see ``answer_bytes``. ``code``: as callers get it."""

    kind: str
    message: str
    code: int


# ---- questions -----------------------------------------------------------------------------------


class Asks(Message, Generic[A], frozen=True):
    """Base of the questions; ``A`` is what answers one."""


class Flush(Asks[Done], frozen=True, tag="flush"):
    """Until all that was decided so far is durable; answered by ``Done``."""


class Scan(Asks[Rows], frozen=True, tag="scan"):
    """Durable rows from ``start`` up to ``stop``, in key order, at most ``limit``; within one table.

    ``keys_only``: without the values. Answered by ``Rows``.
    """

    start: bytes
    stop: bytes
    limit: int
    keys_only: bool = False


class Fetch(Asks[Rows], frozen=True, tag="fetch"):
    """The durable rows with these keys, where they exist, in the order of ``keys``. Answered by ``Rows``."""

    keys: list[bytes]


class Count(Asks[Counted], frozen=True, tag="count"):
    """Count ``limit`` invocations from row ``start`` on by service and status. Answered by ``Counted``."""

    start: bytes
    limit: int


class LiveAttempts(Asks[Attempts], frozen=True, tag="live_attempts"):
    """Open attempts, and who waits for one. Answered by ``Attempts``."""


class Newest(Asks[News], frozen=True, tag="newest"):
    """What the last commits changed. Answered by ``News``."""


class Look(Asks[Looks], frozen=True, tag="look"):
    """How each partition is. Answered by ``Looks``."""


class CountWork(Asks[Work], frozen=True, tag="count_work"):
    """What was counted since the start, for metrics. Answered by ``Work``."""


class ListActors(Asks[Actors], frozen=True, tag="list_actors"):
    """The supervision tree, its first ``limit`` actors. Answered by ``Actors``."""

    limit: int


class Record(Asks[Recorded], frozen=True, tag="record"):
    """All that is stored of one invocation; its raw id. Answered by ``Recorded``."""

    id: bytes


class CountPinned(Asks[Pinned], frozen=True, tag="count_pinned"):
    """How many unfinished invocations each deployment has to finish. Answered by ``Pinned``."""


# ---- who answers ---------------------------------------------------------------------------------


class Inspection(Protocol):
    """A look into one partition, or into all of them."""

    async def inspect(self, question: Asks[A]) -> A:
        """Raises StoreError where a partition that has to answer is down; the message names it."""


@runtime_checkable
class Inspectable(Protocol):
    """A ``requests.Runtime`` that brings its own way of looking into it."""

    @property
    def inspection(self) -> Inspection: ...


# ---- encoding ------------------------------------------------------------------------------------

Question: TypeAlias = (
    Flush
    | Scan
    | Fetch
    | Count
    | LiveAttempts
    | Newest
    | Look
    | CountWork
    | ListActors
    | Record
    | CountPinned
)
Answer: TypeAlias = (
    Done | Rows | Counted | Attempts | News | Looks | Work | Actors | Recorded | Pinned | Refused
)

_encoder = msgspec.msgpack.Encoder()
_question_decoder = msgspec.msgpack.Decoder(Question)
_answer_decoder = msgspec.msgpack.Decoder(Answer)


def encode_question(question: Asks[Any]) -> bytes:
    return _encoder.encode(question)


def decode_question(raw: bytes) -> Asks[Any]:
    """Raises msgspec.DecodeError."""
    question: Asks[Any] = _question_decoder.decode(raw)
    return question


def encode_answer(answer: Any) -> bytes:
    """``answer``: one of ``Answer``, or the PerdureError that was raised instead."""
    if isinstance(answer, PerdureError):
        answer = Refused(type(answer).__name__, str(answer), answer.code)
    return _encoder.encode(answer)


def decode_answer(raw: bytes) -> Any:
    """Raises what ``encode_answer`` was given, in kind and message; msgspec.DecodeError."""
    answer: Answer = _answer_decoder.decode(raw)
    if isinstance(answer, Refused):
        raise _error(answer)
    return answer


def _error(refused: Refused) -> PerdureError:
    for kind in (BadId, Overloaded):
        if refused.kind == kind.__name__:
            return kind(refused.message)
    if refused.code == StoreFailed.code:
        return StoreFailed(refused.message)
    return PerdureError(refused.message)


async def answer_bytes(inspection: Inspection, raw: bytes) -> bytes:
    """The question in ``raw``, answered; errors of ours are answers, too. Raises msgspec.DecodeError."""
    question = decode_question(raw)
    try:
        return encode_answer(await inspection.inspect(question))
    except PerdureError as error:
        return encode_answer(error)


class Far:
    """An ``Inspection`` somewhere else: ``ask`` takes a question's bytes there and brings the answer's."""

    def __init__(self, ask: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._ask = ask

    async def inspect(self, question: Asks[A]) -> A:
        answer: A = decode_answer(await self._ask(encode_question(question)))
        return answer
