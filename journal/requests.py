"""What callers ask of the engine and what they get: the one interface of gateway, client and tests.

Shapes only. ``actors.engine.Engine`` implements ``Runtime``; the ingress and the admin API translate
HTTP to it, the embedded client calls it directly.
"""

from enum import StrEnum
from typing import Protocol, TypeAlias

import msgspec

from perdure.journal.entries import AttachTarget, Entry, Headers, Outcome, SignalResult
from perdure.journal.schedules_requests import Schedules
from perdure.journal.schema import Handler, Service


class Invoke(msgspec.Struct, frozen=True):
    """A request to run ``handler``. The caller has checked the schema (public, input rules)."""

    handler: Handler
    key: str | None  # None for plain services
    body: bytes
    headers: Headers = ()
    idempotency_key: str | None = None
    delay_ms: int | None = None  # sends only; 0 is a delay too
    scope: str | None = None
    limit_key: str | None = None
    id: bytes | None = None  # raw; sent again under the id it was first sent under, it runs once
    trace: str | None = None  # of the caller, see journal/trace.py
    is_new: bool = False  # with an ``id`` that was drawn at random and is sent for the first time
    keep_ms: int = 0  # keep the completion so long at least, for a caller that may ask again
    seed: int | None = None  # random; a request with the same one under the same id is the same


class Answer(msgspec.Struct, frozen=True):
    """The end of an invocation. ``expires_at_ms`` only when it was served from a stored completion."""

    invocation_id: str
    result: Outcome
    expires_at_ms: int | None = None
    handler: Handler | None = None  # its latest revision, for the output's content type


class Accepted(msgspec.Struct, frozen=True):
    """A send is durable. ``execution_time_ms`` is the stored one, set when it was sent with a delay."""

    invocation_id: str
    is_new: bool
    execution_time_ms: int | None = None


class NotFound(msgspec.Struct, frozen=True):
    invocation_id: str


class NotReady(msgspec.Struct, frozen=True):
    invocation_id: str


Output: TypeAlias = Answer | NotReady | NotFound


class Op(StrEnum):
    """Operations on one invocation (admin 6)."""

    CANCEL = "cancel"
    KILL = "kill"
    PURGE = "purge"
    PURGE_JOURNAL = "purge-journal"
    PAUSE = "pause"
    RESUME = "resume"


class OpResult(StrEnum):
    """What became of an operation; the admin API maps (op, result) to a status and a text."""

    DONE = "done"  # it is in effect
    ACCEPTED = "accepted"  # it will be: the handler still has to react
    NOT_FOUND = "not_found"
    COMPLETED = "completed"  # refused: already over
    NOT_COMPLETED = "not_completed"  # refused: still going (purge)
    NOT_RUNNING = "not_running"  # refused: scheduled or inboxed (pause)
    NOT_STARTED = "not_started"  # refused: scheduled or inboxed (resume, restart)
    DEPLOYMENT_FIXED = "deployment_fixed"  # refused: it runs, and stays where it runs (resume)
    NO_DEPLOYMENT = "no_deployment"  # refused: the chosen one is unknown, or lacks the handler
    UNSUPPORTED = "unsupported"  # refused: a workflow's run (restart)
    NO_INPUT = "no_input"  # refused: the journal is gone (restart)
    BAD_PREFIX = "bad_prefix"  # refused: a command of the prefix has no completion (restart)
    BAD_EDIT = "bad_edit"  # refused: there is no value to replace at an index (restart)


class Incompatible(msgspec.Struct, frozen=True):
    """Refused: the journal has the form of a protocol version that the deployment does not speak."""

    version: int
    deployment_id: str
    oldest: int
    newest: int


class Restarted(msgspec.Struct, frozen=True):
    invocation_id: str


class Which(StrEnum):
    """Deployments that an operator may name without their id."""

    KEEP = "keep"  # where it ran
    LATEST = "latest"  # where the newest revision of its service is


class At(msgspec.Struct, frozen=True):
    """A deployment by its id, "" for this process."""

    deployment_id: str


DeploymentChoice: TypeAlias = Which | At
Edits: TypeAlias = tuple[tuple[int, bytes], ...]  # entry index, the bytes of its new value


class LastFailure(msgspec.Struct, frozen=True):
    code: int
    message: str
    stacktrace: str = ""
    related_command_index: int | None = None
    related_command_name: str = ""
    related_command_type: str = ""


class InvocationInfo(msgspec.Struct, frozen=True):
    """One invocation as operators see it. Times are Unix epoch, milliseconds."""

    id: str
    service: str
    handler: str
    key: str | None
    status: str  # scheduled, pending, running, backing-off, suspended, paused, completed
    created_at_ms: int
    modified_at_ms: int
    entry_count: int
    command_count: int
    attempt_count: int
    invoked_by: str  # "ingress", "restart_as_new", or the caller's invocation id
    idempotency_key: str | None = None
    scheduled_at_ms: int | None = None
    next_retry_at_ms: int | None = None
    awaiting: str = ""  # in words, for a suspended or blocked invocation
    paused_reason: str = ""
    completed_at_ms: int | None = None
    result: Outcome | None = None
    last_failure: LastFailure | None = None
    restarted_from: str | None = None  # the invocation whose journal it began with


class Journaled(msgspec.Struct, frozen=True, array_like=True):
    """An entry, and when it was committed (Unix epoch; None: an older release wrote it)."""

    entry: Entry
    at_ms: int | None = None


class Filter(msgspec.Struct, frozen=True):
    """Every field that is set must match. ``status``: a word of ``STATUS_WORDS``."""

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    status: str | None = None
    limit: int = 100


class Runtime(Protocol):
    """A running engine. Every method may raise Overloaded or StoreFailed (503 with Retry-After).

    Cancelling a call that waits never cancels the invocation.
    """

    @property
    def schedules(self) -> Schedules:
        """What runs by itself."""

    def services(self) -> dict[str, Service]:
        """The latest revision of every service, by name."""

    async def call(self, invoke: Invoke) -> Answer:
        """Run and wait for the end, however long it takes."""

    async def send(self, invoke: Invoke) -> Accepted:
        """Run later or in the background; returns once it is durable."""

    def new_id(self, invoke: Invoke) -> str:
        """The id that ``invoke`` gets, drawn at random where no key decides it."""

    def invocation_id(self, target: AttachTarget) -> str:
        """The id that ``target`` names; pure. Raises BadId."""

    async def attach(self, invocation_id: str) -> Answer | NotFound:
        """Wait for the end. Raises BadId."""

    async def output(self, invocation_id: str) -> Output:
        """The end, if it is there. Raises BadId."""

    async def signal(self, invocation_id: str, signal: int | str, result: SignalResult) -> None:
        """Deliver a signal; returns once durable. Unknown or finished targets drop it. Raises BadId."""

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        """Returns once durable; dropped where nobody waits any more. Raises BadId."""

    async def operate(
        self, invocation_id: str, op: Op, deployment: DeploymentChoice = Which.KEEP
    ) -> OpResult | Incompatible:
        """Carry out one operation; returns once durable. ``deployment``: for a resume. Raises BadId."""

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: DeploymentChoice = Which.LATEST,
        edits: Edits = (),
    ) -> Restarted | OpResult | Incompatible:
        """Run a completed invocation again, as a new one. ``from_index``: the last journal entry that it
        begins with, 0 for the input alone. Returns once durable. Raises BadId."""

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        """Raises BadId."""

    async def invocations(self, filter: Filter) -> list[InvocationInfo]:
        """Newest first where that is known without sorting the whole store."""

    async def journal(self, invocation_id: str) -> list[Entry] | None:
        """The entries, in order; None for an unknown invocation. Raises BadId."""

    async def journaled(self, invocation_id: str) -> list[Journaled] | None:
        """As ``journal``, with the moments of the commits."""

    async def state(self, service: str, key: str) -> dict[str, bytes]:
        """The state of one object or workflow key; empty where there is none."""

    async def patch_state(
        self, service: str, key: str, new_state: dict[str, bytes], version: str | None
    ) -> None:
        """Replace the whole state of a key, in its turn (exclusive). A ``version`` that no longer
        matches makes it a no-op (admin 5.5). Returns once it is durably queued."""
