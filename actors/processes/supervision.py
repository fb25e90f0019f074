"""The supervisor's decisions: who is started, restarted, killed, stopped, and when. Pure.

Events come in with their time (monotonic seconds); acts go out as data, to be carried out in order. No
process, clock or message is known here.
"""

from typing import TypeAlias

import msgspec

from perdure.actors.processes.plan import Exhausted, Plan, WorkerSpec, epoch_of, soon
from perdure.actors.processes.status import ProcessStatus

STARTING, UP, WAITING, DOWN = "starting", "up", "waiting", "down"
STOPPING, STOPPED = "stopping", "stopped"
_ALIVE = (STARTING, UP, STOPPING)
# A gap of this many heartbeats between two ticks is our own: we were stopped, or the machine slept.
_OWN_PAUSE = 4


class Spawn(msgspec.Struct, frozen=True):
    name: str
    epoch: int


class Kill(msgspec.Struct, frozen=True):
    name: str


class AskToStop(msgspec.Struct, frozen=True):
    name: str


class Introduce(msgspec.Struct, frozen=True):
    """Tell everybody who is up now."""


class AllUp(msgspec.Struct, frozen=True):
    """For the first time, every worker is up or down."""


class Refuse(msgspec.Struct, frozen=True):
    reason: str
    is_of_store: bool = False


class Escalate(msgspec.Struct, frozen=True):
    reason: str


class AllStopped(msgspec.Struct, frozen=True):
    pass


class Note(msgspec.Struct, frozen=True):
    """Something that operators should read."""

    text: str


Act: TypeAlias = (
    Spawn | Kill | AskToStop | Introduce | AllUp | Refuse | Escalate | AllStopped | Note
)


class Child(msgspec.Struct):
    """One worker over all its processes."""

    spec: WorkerSpec
    state: str = STOPPED
    starts: int = 0
    epoch: int = 0
    since_s: float = 0.0  # it is in this process
    heard_at_s: float = 0.0
    up_since_s: float = 0.0  # as far as it is up
    due_at_s: float = 0.0  # the next start, while waiting or down
    failures: list[float] = []
    restart_count: int = 0
    reason: str = ""  # why its process is ending, where that is known before it ends
    last_error: str = ""
    is_refused: bool = False
    is_of_store: bool = False  # the refusal
    was_down: bool = False
    was_seen_stopped: bool = False  # by a signal, at the last tick


class Supervision:
    """All workers of one tree. ``tree_start``: how often this data directory's tree was started.

    ``is_ordered`` False: all start at once, though they are drained in stages; who needs another waits
    for it. So are trees started anew, while callers wait.
    """

    def __init__(self, plan: Plan, tree_start: int, is_ordered: bool = True) -> None:
        self._strategy = plan.strategy
        self._tree_start = tree_start
        self.children = {spec.name: Child(spec) for spec in plan.workers}
        self._stages = sorted({spec.stage for spec in plan.workers})
        self._started = 0  # stages that have begun
        self._is_ordered = is_ordered
        self._is_complete = False
        self.is_stopping = False
        self._ticked_at_s: float | None = None

    # ---- events

    def begin(self, now: float) -> list[Act]:
        return self._advance(now)

    def ready(self, name: str, epoch: int, now: float) -> list[Act]:
        child = self._find(name, epoch)
        if child is None or child.state != STARTING:
            return []
        child.state, child.heard_at_s, child.up_since_s = UP, now, now
        child.was_down = child.is_refused = False
        acts: list[Act] = [Introduce()]
        if child.restart_count:
            acts.append(Note(f"{name} is up again"))
        return acts + self._advance(now)

    def failed(
        self, name: str, epoch: int, reason: str, is_refused: bool, is_of_store: bool = False
    ) -> list[Act]:
        """The worker says that it can't start; its process has nothing more to do.

        A store that can't be opened refuses a first start; a tree that is started anew goes on without it.
        """
        child = self._find(name, epoch)
        if child is None or child.state != STARTING:
            return []
        child.reason, child.is_of_store = reason, is_of_store
        child.is_refused = is_refused and (self._is_ordered or not is_of_store)
        return [Kill(name)]

    def heard(self, name: str, epoch: int, now: float) -> None:
        child = self._find(name, epoch)
        if child is not None:
            child.heard_at_s = now

    def exited(self, name: str, how: str, now: float) -> list[Act]:
        """Its process has ended; ``how``: in words."""
        child = self.children[name]
        assert child.state in _ALIVE
        if self.is_stopping:
            child.state = STOPPED
            return self._go_on_stopping(now)
        was_up = child.state == UP
        child.last_error = child.reason or how
        child.reason = ""
        if child.is_refused and not self._is_complete:
            return [Refuse(child.last_error, child.is_of_store)]
        if was_up and now - child.up_since_s >= self._strategy.steady_s:
            child.failures = []  # it had recovered from them
        acts = self._restart(child, now)
        return [Introduce(), *acts] if was_up or child.state == DOWN else acts

    def tick(self, now: float, stopped: frozenset[str]) -> list[Act]:
        """Time passes. ``stopped``: workers whose process a signal has stopped (SIGSTOP)."""
        self._forgive_own_pause(now)
        acts: list[Act] = []
        for name, child in self.children.items():
            if child.state in _ALIVE:
                reason = self._overdue(child, now, name in stopped)
                if reason:
                    child.reason = child.reason or reason
                    acts += [Note(f"{name} {reason}; it is killed"), Kill(name)]
            elif child.state in (WAITING, DOWN) and child.due_at_s <= now and not self.is_stopping:
                acts.append(self._spawn(child, now))
        return acts

    def stop(self, now: float) -> list[Act]:
        """Drain, the last stage first."""
        if self.is_stopping:
            return []
        self.is_stopping = True
        for child in self.children.values():
            if child.state in (WAITING, DOWN):
                child.state = STOPPED
        return self._go_on_stopping(now)

    # ---- a look

    def names(self, *states: str) -> list[str]:
        return [name for name, child in self.children.items() if child.state in states]

    def given_up(self) -> dict[str, str]:
        """Name and last error of those that are down, also while they are tried again."""
        return {
            name: child.last_error
            for name, child in self.children.items()
            if child.was_down and child.state != UP
        }

    def status(self, now: float, pids: dict[str, int]) -> tuple[ProcessStatus, ...]:
        return tuple(
            ProcessStatus(
                name,
                child.spec.kind,
                child.state,
                child.epoch,
                pids.get(name, 0),
                int((now - child.since_s) * 1000) if child.state in _ALIVE else 0,
                child.restart_count,
                child.last_error,
                self._strategy.describe(child.spec.exhausted),
            )
            for name, child in self.children.items()
        )

    # ---- inside

    def _find(self, name: str, epoch: int) -> Child | None:
        child = self.children.get(name)
        return child if child is not None and child.epoch == epoch else None

    def _spawn(self, child: Child, now: float) -> Spawn:
        child.starts += 1
        child.epoch = epoch_of(self._tree_start, child.starts)
        child.state, child.since_s, child.heard_at_s = STARTING, now, now
        child.was_seen_stopped = False
        return Spawn(child.spec.name, child.epoch)

    def _advance(self, now: float) -> list[Act]:
        """Begin the next stage when the ones before it have settled."""
        if self._is_complete or self.is_stopping:
            return []
        begun = self._stages[: self._started]
        if not all(c.state in (UP, DOWN) for c in self.children.values() if c.spec.stage in begun):
            return []
        if self._started == len(self._stages):
            self._is_complete = True
            return [AllUp()]
        end = self._started + 1 if self._is_ordered else len(self._stages)
        begin, self._started = self._stages[self._started : end], end
        return [self._spawn(c, now) for c in self.children.values() if c.spec.stage in begin]

    def _restart(self, child: Child, now: float) -> list[Act]:
        strategy, name = self._strategy, child.spec.name
        recent = [t for t in child.failures if t > now - strategy.window_s]
        child.failures = [*recent, now]
        child.restart_count += 1
        if len(child.failures) <= strategy.intensity and not child.was_down:
            wait_s = strategy.backoff_s(len(child.failures))
            note = Note(f"{name} {child.last_error}; it is started again {soon(wait_s)}")
            if not wait_s:
                return [note, self._spawn(child, now)]
            child.state, child.due_at_s = WAITING, now + wait_s
            return [note]
        child.state, child.due_at_s, child.was_down = DOWN, now + strategy.window_s, True
        if child.spec.exhausted is Exhausted.ESCALATE:
            return [
                Escalate(f"{name} failed {len(child.failures)} times, last: {child.last_error}")
            ]
        note = Note(
            f"{name} is down: {child.last_error}; the others go on, and it is tried again every "
            f"{strategy.window_s:g} s"
        )
        return [note, *self._advance(now)]

    def _overdue(self, child: Child, now: float, is_stopped: bool) -> str:
        """Why the process has to be killed, "" where it has not."""
        strategy = self._strategy
        was_stopped, child.was_seen_stopped = child.was_seen_stopped, is_stopped
        if was_stopped and is_stopped:
            return "was stopped by a signal"
        if child.state == STARTING and now - child.since_s > strategy.start_timeout_s:
            return f"did not start within {strategy.start_timeout_s:g} s"
        if child.state == STOPPING and now - child.since_s > strategy.stop_timeout_s:
            return f"did not stop within {strategy.stop_timeout_s:g} s"
        if child.state == UP and now - child.heard_at_s > strategy.heartbeat_timeout_s:
            return f"gave no sign of life for {strategy.heartbeat_timeout_s:g} s"
        return ""

    def _forgive_own_pause(self, now: float) -> None:
        last, self._ticked_at_s = self._ticked_at_s, now
        if last is None or now - last < _OWN_PAUSE * self._strategy.heartbeat_interval_s:
            return
        for child in self.children.values():
            child.heard_at_s += now - last
            child.since_s += now - last

    def _go_on_stopping(self, now: float) -> list[Act]:
        alive = [c for c in self.children.values() if c.state in _ALIVE]
        if not alive:
            return [AllStopped()]
        stage = max(c.spec.stage for c in alive)
        acts: list[Act] = []
        for child in alive:
            if child.spec.stage == stage and child.state != STOPPING:
                child.state, child.since_s = STOPPING, now
                acts.append(AskToStop(child.spec.name))
        return acts
