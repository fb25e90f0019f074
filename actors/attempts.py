"""The attempts that are open: where each one is, and for how long it has been quiet.

An attempt that waits keeps its coroutine until the inactivity timeout, or until too many of them
wait; then it is asked to suspend. One that does not listen is aborted. Rules: service protocol 5.10.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from perdure.actors.cell import Cell
from perdure.actors.messages import Abort, CloseInput, Open
from perdure.actors.registry import Place
from perdure.journal.attempt import Awaiting
from perdure.journal.events import Deliver


class OpenAttempt:
    """One attempt, as the partition sees it. Times are of the loop's clock, seconds."""

    __slots__ = (
        "actor", "attempt", "awaiting", "closed_at_s", "id", "place", "quiet_since_s", "runs_ahead",
        "started_at_s",
    )  # fmt: skip

    def __init__(
        self, id: bytes, attempt: int, actor: Cell, place: Place, now_s: float, runs_ahead: bool
    ) -> None:
        self.id = id
        self.runs_ahead = runs_ahead  # of the disk; others hear only what is durable
        self.attempt = attempt
        self.actor = actor
        self.place = place
        self.started_at_s = self.quiet_since_s = now_s
        # when it was asked to suspend; one that hears nothing after its start is so from then on
        self.closed_at_s: float | None = None if place.bidi else now_s
        self.awaiting: Awaiting | None = None  # what it waits for, while it does

    @property
    def due_at_s(self) -> float:
        """When it is to be asked to suspend; where it was asked, when it counts as stuck."""
        handler = self.place.handler
        if self.closed_at_s is None:
            return self.quiet_since_s + handler.inactivity_timeout_ms / 1000
        return self.closed_at_s + handler.abort_timeout_ms / 1000


class AfterCommit(msgspec.Struct, frozen=True):
    """What an attempt is told once everything decided before it is durable."""

    opened: OpenAttempt
    message: Open | Deliver


class OpenAttempts:
    """All open attempts of a partition; ``resident_limit``: how many may wait with their coroutine."""

    def __init__(self, resident_limit: int, partition: Callable[[], Cell]) -> None:
        self._resident_limit = resident_limit
        self._partition = partition
        self._open: dict[bytes, OpenAttempt] = {}
        self._waiting: OrderedDict[bytes, None] = OrderedDict()  # longest wait first
        self._by_actor: dict[Cell, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def find(self, id: bytes, attempt: int) -> OpenAttempt | None:
        found = self._open.get(id)
        return found if found is not None and found.attempt == attempt else None

    def __contains__(self, id: bytes) -> bool:
        return id in self._open

    def awaiting(self, id: bytes) -> Awaiting | None:
        """What the open attempt of this invocation waits for, if it is known to wait."""
        opened = self._open.get(id)
        return None if opened is None else opened.awaiting

    def add(self, opened: OpenAttempt) -> None:
        self.abort(opened.id)
        self._open[opened.id] = opened
        self._by_actor[opened.actor] = self._by_actor.get(opened.actor, 0) + 1

    def remove(self, id: bytes) -> OpenAttempt | None:
        found = self._open.pop(id, None)
        if found is None:
            return None
        self._waiting.pop(id, None)
        left = self._by_actor[found.actor] - 1
        if left:
            self._by_actor[found.actor] = left
        else:
            del self._by_actor[found.actor]
        return found

    def abort(self, id: bytes) -> None:
        """Whatever attempt of this invocation is open ends now."""
        found = self.remove(id)
        if found is not None:
            found.actor.deliver(Abort(id, found.attempt), self._partition())

    def abort_all(self) -> None:
        for id in list(self._open):
            self.abort(id)

    def hosts(self, actor: Cell) -> bool:
        return actor in self._by_actor

    def count_of(self, actor: Cell) -> int:
        """How many attempts ``actor`` hosts."""
        return self._by_actor.get(actor, 0)

    def counts_by_deployment(self) -> dict[str, int]:
        """How many are open at each; "" is this process."""
        counts: dict[str, int] = {"": 0}
        for opened in self._open.values():
            id = opened.place.deployment_id
            counts[id] = counts.get(id, 0) + 1
        return counts

    @property
    def waiting_count(self) -> int:
        """Attempts that wait and keep their coroutine."""
        return len(self._waiting)

    def all(self) -> list[OpenAttempt]:
        return list(self._open.values())

    def of(self, actor: Cell) -> Iterator[OpenAttempt]:
        """Those that ``actor`` hosts; for the rare case that it failed."""
        return iter([a for a in self._open.values() if a.actor is actor])

    # ---- who is quiet

    def spoke(self, opened: OpenAttempt, now_s: float) -> None:
        """It emitted something."""
        opened.quiet_since_s = now_s
        if opened.closed_at_s is not None:
            opened.closed_at_s = now_s
        opened.awaiting = None
        self._waiting.pop(opened.id, None)

    def given(self, opened: OpenAttempt, now_s: float) -> None:
        """Something was delivered to it; whether it goes on it tells by speaking."""
        opened.quiet_since_s = now_s
        if opened.id in self._waiting:
            self._waiting.move_to_end(opened.id)

    def blocked(self, opened: OpenAttempt, awaiting: Awaiting) -> None:
        """It waits. Suspend it at once where it may not wait, or the longest one if there are too many."""
        opened.awaiting = awaiting
        if opened.closed_at_s is not None:
            return
        if opened.place.handler.inactivity_timeout_ms == 0:
            return self._close_input(opened, opened.quiet_since_s)
        self._waiting[opened.id] = None
        if len(self._waiting) > self._resident_limit:
            now_s = opened.quiet_since_s  # it has just spoken
            self._close_input(self._open[next(iter(self._waiting))], now_s)

    def _close_input(self, opened: OpenAttempt, now_s: float) -> None:
        self._waiting.pop(opened.id, None)
        if opened.closed_at_s is None:
            opened.closed_at_s = now_s
            opened.actor.deliver(CloseInput(opened.id, opened.attempt), self._partition())

    def sweep(self, now_s: float) -> list[OpenAttempt]:
        """Ask the inactive to suspend; those that have not reacted for their abort timeout."""
        return [each for each in self.all() if self.is_stuck(each, now_s)]

    def is_stuck(self, opened: OpenAttempt, now_s: float) -> bool:
        """Ask it to suspend where it is time to; whether it has not reacted for its abort timeout."""
        if now_s < opened.due_at_s:
            return False
        if opened.closed_at_s is not None:
            return True
        self._close_input(opened, now_s)
        return False
