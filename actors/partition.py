"""The partition: one single-threaded loop over events that owns a store and its object actors.

Each event goes through the pure machine; its writes join the open commit group; acts for attempts in
this process are performed at once, all others after their commit (design 4). What is decided is
decided in ``journal.partition``; here it is only carried out.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, assert_never

import msgspec
from thespian.actors import ActorExitRequest, ActorSystemMessage, ChildActorExited

from perdure.actors.attempts import AfterCommit, OpenAttempt, OpenAttempts
from perdure.actors.back_pressure import BackPressure
from perdure.actors.cell import ActorFailed, Cell, SupervisedActor
from perdure.actors.commits import Commits
from perdure.actors.counts import Counts
from perdure.actors.directory import Directory, Intensity
from perdure.actors.messages import Burst, Open
from perdure.actors.objects import ObjectActor
from perdure.actors.remote.deployments import Deployments, Undeployed
from perdure.actors.starts import make_start
from perdure.actors.timers import Timers
from perdure.journal import keys
from perdure.journal.attempt import (
    AwaitingOn,
    Ended,
    Failed,
    Frame,
    Suspended,
)
from perdure.journal.errors import StoreError
from perdure.journal.events import (
    AbortAttempt,
    Act,
    AwaitEnd,
    Complete,
    Deliver,
    Entropy,
    Event,
    Expired,
    Forward,
    Frames,
    PassBarrier,
    Quarantine,
    Recover,
    Reply,
    Report,
    SetTimer,
    StartAttempt,
    TimerDue,
)
from perdure.journal.ids import format_invocation_id
from perdure.journal.partition import step
from perdure.journal.placement import ALONE, Placement
from perdure.journal.records import Address, Running
from perdure.journal.store import Store
from perdure.journal.tables import Handlers, Tables
from perdure.journal.turn import check_size

log = logging.getLogger("perdure.partition")

_EXPIRY_BURST = 500
_FOR_EVER_MS = 1 << 62
_RECOVERY_BURST = 200
_SWEEP_INTERVAL_S = 1.0
_EXACT_BELOW_S = 5.0
_KEPT_FOR_GATEWAYS_S = 60.0


class PartitionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes."""

    cleanup_interval_s: float = 3600.0
    idle_actor_timeout_s: float = 60.0
    actor_limit: int = 10_000
    open_attempts_limit: int = 10_000
    resident_attempts_limit: int = 500
    state_cache_bytes: int = 64 << 20
    restart_limit: int = 5
    restart_window_s: float = 10.0


class Outside(msgspec.Struct, frozen=True):
    """Whom the partition answers: the engine's side. Called on the loop."""

    reply: Callable[[int, object], None]
    complete: Callable[[bytes, object], None]
    await_end: Callable[[int, bytes], None]
    forward: Callable[[Forward], None]
    failed: Callable[["Partition", BaseException], None]


class PartitionActor(SupervisedActor):
    """The partition's place among the actors: parent of its object actors."""

    def __init__(self, partition: "Partition") -> None:
        self._partition = partition

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if type(msg) is Burst:
            self._partition.pressure.hear(msg)
        elif isinstance(msg, ActorSystemMessage):
            if isinstance(msg, ActorFailed):
                self._partition.object_failed(msg)
            elif isinstance(msg, ChildActorExited):
                self._partition.directory.forget(msg.childAddress)
            elif not isinstance(msg, ActorExitRequest):
                log.warning("partition actor: unexpected %r", msg)


class Partition:
    """Everything that one store's worth of slots needs. All methods run on the loop."""

    def __init__(
        self,
        store: Store,
        handlers: Handlers,
        deployments: Deployments,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        outside: Outside,
        options: PartitionOptions,
        counts: Counts | None = None,
        placement: Placement = ALONE,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deployments = deployments
        self._now_ms = now_ms
        self._entropy = Entropy(random_bytes)
        self._outside = outside
        self._options = options
        self._counts = counts = counts or Counts()
        self.store = store
        self.tables = Tables(store, handlers, options.state_cache_bytes, placement)
        # with several partitions completions are kept for gateways, too, and for a minute only
        self._cleanup_interval_s = options.cleanup_interval_s
        if placement.count > 1:
            self._cleanup_interval_s = min(self._cleanup_interval_s, _KEPT_FOR_GATEWAYS_S)
        self.commits = Commits(
            self.tables,
            store,
            lambda: random_bytes(16),
            now_ms,
            self._perform,
            self._failed,
            counts,
        )
        low_water = store.get(keys.TIMER_LOW_WATER) or keys.timers_from(0)
        self.timers = Timers(self._loop, now_ms, self.tables.timers, self._timer_due, low_water)
        self._stored_low_water = low_water
        self.attempts = OpenAttempts(options.resident_attempts_limit, lambda: self.cell)
        self.directory = Directory(self._spawn, options.actor_limit)
        self._intensity = Intensity(options.restart_limit, options.restart_window_s)
        self._tasks: list[asyncio.Task[None]] = []
        self._to_start: deque[StartAttempt] = deque()  # over the limit of open attempts
        self.pressure = BackPressure(store, self.tables, self.commits, self._hear)
        self._has_actors = asyncio.Event()
        self._has_expiries = asyncio.Event()
        self._has_expiries.set()
        self.cell: Cell

    # ---- start and stop

    def start(self, cell: Cell) -> None:
        """``cell``: the partition actor's. Recovery goes on in the background, oldest rows first."""
        self.cell = cell
        self.commits.start()
        self.timers.start()
        create = self._loop.create_task
        self._tasks = [create(self._recover()), create(self._clean_up()), create(self._sweep())]

    async def stop(self) -> None:
        """Abort what is open, commit what is decided, let the store go."""
        await self._end()
        try:
            await self.commits.flush()
        finally:
            await self.commits.stop()
            await self.store.close()

    def _failed(self, error: BaseException) -> None:
        self._outside.failed(self, error)

    async def crash(self) -> None:
        """Drop everything where it is; what was not committed is lost."""
        await self.commits.stop()
        await self._end()

    async def _end(self) -> None:
        self.timers.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        self.attempts.abort_all()

    # ---- events

    def submit(self, event: Event) -> None:
        """Decide one event, and do what may be done at once. Raises what the machine raises."""
        decided = step(self.tables, event)
        check_size(decided)
        for act in decided.acts:
            if type(act) is Complete:
                self._counts.ended_by(act, self.tables.invocation(act.id))  # still as it was
        self.tables.apply(decided)
        later = [act for act in decided.acts if not self._perform_now(act)]
        if later or self.tables.has_open_writes:
            self.commits.add(later)
        while self._to_start and len(self.attempts) < self._options.open_attempts_limit:
            self._start_attempt(self._to_start.popleft())

    def delayed_ids(self) -> list[bytes]:
        """Running, but without an attempt until fewer are open."""
        return [each.id for each in self._to_start]

    def _hear(self, burst: Burst) -> None:
        opened = self.attempts.find(burst.id, burst.attempt)
        if opened is None:
            return  # superseded
        end = burst.frames[-1]
        last = type(end)
        if last in (Ended, Suspended, Failed):
            self.attempts.remove(burst.id)
        else:
            self.attempts.spoke(opened, self._loop.time())
        if last is Failed or self._counts.observer is not None:
            self._counts.heard(opened, burst.frames)
        self._frames(opened, burst.frames)
        if isinstance(end, AwaitingOn) and self.attempts.find(burst.id, burst.attempt) is opened:
            self.attempts.blocked(opened, end.awaiting)

    def _frames(self, opened: OpenAttempt, frames: tuple[Frame, ...]) -> None:
        id, place = opened.id, opened.place
        now_ms = self._now_ms()
        try:
            self.submit(
                Frames(
                    id,
                    opened.attempt,
                    frames,
                    now_ms,
                    self._entropy,
                    place.deployment_id,
                    place.protocol_version,
                )
            )
        except StoreError as error:
            self._failed(error)
        except Exception as error:
            self._attempt_broke(id, error)

    # ---- acts

    def _perform_now(self, act: Act) -> bool:
        """Acts inside this process; False for one that must wait for the commit."""
        match act:
            case StartAttempt():
                self._start_attempt(act)
            case AwaitEnd() | Complete() | PassBarrier() | Reply() | Forward():
                return False
            case Deliver():
                opened = self.attempts.find(act.id, act.attempt)
                if opened is not None:
                    self.attempts.given(opened, self._loop.time())
                    self._tell_attempt(opened, act)
            case AbortAttempt():
                self.attempts.abort(act.id)
            case SetTimer():
                self.timers.add(act.due_ms, act.key, act.value)
                self._note_low_water()
            case Report():
                self._report(act)
            case _:
                assert_never(act)
        return True

    def _tell_attempt(self, opened: OpenAttempt, message: Open | Deliver) -> None:
        if opened.runs_ahead:
            opened.actor.deliver(message, self.cell)
        else:
            self.commits.add([AfterCommit(opened, message)])

    def _perform(self, act: Act | AfterCommit) -> None:
        """Acts that somebody outside can see; what they tell is durable."""
        match act:
            case Reply():
                self._outside.reply(act.token, act.answer)
            case AwaitEnd():  # behind the end of an earlier life of this id
                self._outside.await_end(act.token, act.id)
            case Complete():
                self._outside.complete(act.id, act.result)
                self._has_expiries.set()
            case Forward():
                self._outside.forward(act)
            case PassBarrier():
                opened = self.attempts.find(act.id, act.attempt)
                if opened is not None:
                    self._counts.ran(act)
                    opened.actor.deliver(act, self.cell)
            case AfterCommit():
                opened = act.opened
                if self.attempts.find(opened.id, opened.attempt) is opened:
                    opened.actor.deliver(act.message, self.cell)
            case _:
                raise AssertionError(f"not an act for after the commit: {act!r}")

    def _report(self, act: Report) -> None:
        extra = {
            "invocation_id": format_invocation_id(act.id) if act.id else "",  # else of a schedule
            "target": act.target,
            "attempt": act.attempt,
            "stacktrace": act.stacktrace,
        }
        level = logging.ERROR if act.level == "error" else logging.WARNING
        log.log(level, "%s", act.text, extra=extra)

    def _start_attempt(self, act: StartAttempt) -> None:
        if len(self.attempts) >= self._options.open_attempts_limit:
            return self._to_start.append(act)
        record = self.tables.invocation(act.id)
        if record is None or record.attempt != act.attempt or type(record.status) is not Running:
            return  # a later decision took it back
        address = record.address if record.key is not None else (record.service, "")
        try:
            place = self._deployments.place(record)
            start = make_start(self.tables, act.id, record, place, self._now_ms())
            now_s = self._loop.time()
            actor = self.directory.get(address, now_s)
            # a run that is recorded without a result is executed again without asking
            ahead = not place.protocol_version or (place.may_run_ahead and not record.pinned)
            opened = OpenAttempt(act.id, act.attempt, actor, place, now_s, ahead)
            self.attempts.add(opened)
            self._watch(opened, now_s)
            self._counts.began(opened, record)
            self._tell_attempt(opened, Open(act.id, start))
        except Undeployed as error:
            self._loop.call_soon(self._undeployed, act.id, act.attempt, str(error))
        except StoreError:
            raise
        except Exception as error:
            self._attempt_broke(act.id, error)

    def _undeployed(self, id: bytes, attempt: int, message: str) -> None:
        """An attempt that could not even begin."""
        failed = Failed(500, message, counts=False)
        self._submit_safely(Frames(id, attempt, (failed,), self._now_ms(), self._entropy))

    # ---- failures

    def object_failed(self, notice: ActorFailed) -> None:
        """An object actor raised: a new one rehydrates its invocations, unless it fails too often."""
        log.error("object actor failed: %s\n%s", notice.error, notice.traceback)
        lost = list(self.attempts.of(notice.address))
        address = self.directory.forget(notice.address)
        if address is not None:
            self.directory.note_failure(address, notice.error)
        for opened in lost:
            self.attempts.remove(opened.id)
        culprit = getattr(notice.message, "id", None)  # of a message to an object actor
        self._restart(address, [a.id for a in lost if a.id == culprit], notice.error)
        for opened in lost:
            if opened.id != culprit:
                self._loop.call_soon(self._submit_safely, Recover(opened.id, self._now_ms()))

    def _attempt_broke(self, id: bytes, error: Exception) -> None:
        """The machine or the start of an attempt raised: our bug, or poison data."""
        log.error("invocation %s broke: %r", format_invocation_id(id), error, exc_info=error)
        self.attempts.abort(id)
        record = self.tables.invocation(id)
        self._restart(None if record is None else record.address, [id], error)

    def _restart(self, address: Address | None, lost: list[bytes], error: BaseException) -> None:
        now_ms = self._now_ms()
        quarantine = address is not None and self._intensity.exceeded(address, self._loop.time())
        for id in lost:
            event: Event = Recover(id, now_ms)
            if quarantine:
                event = Quarantine(id, f"its object failed too often, last: {error!r}", now_ms)
            self._loop.call_soon(self._submit_safely, event)

    def _submit_safely(self, event: Event) -> None:
        try:
            self.submit(event)
        except StoreError as error:
            self._failed(error)
        except Exception as error:
            log.error("%r failed: %r", event, error, exc_info=error)

    # ---- in the background

    def _spawn(self, address: Address) -> Cell:
        self._has_actors.set()
        base = self.cell.base
        deployments, now_ms = self._deployments, self._now_ms
        return base.spawn(
            ObjectActor, self.cell, deployments, self.cell, now_ms, self.pressure.ready
        )

    def _timer_due(self, key: bytes, value: bytes) -> None:
        now_ms = self._now_ms()
        self._counts.timer_late_s.add((now_ms - keys.split_timer(key)[0]) / 1000)
        try:
            self.submit(TimerDue(key, value, now_ms))
        except StoreError as error:
            self._failed(error)
        except Exception as error:
            self._attempt_broke(keys.split_timer(key)[2], error)
        self._note_low_water()

    def _note_low_water(self) -> None:
        """The timers' mark is stored with what moved it."""
        if self.timers.low_water != self._stored_low_water:
            self._stored_low_water = self.timers.low_water
            self.tables.put_row(keys.TIMER_LOW_WATER, self._stored_low_water)

    async def _recover(self) -> None:
        """Open an attempt for every invocation that was running."""
        ids = self.tables.running()
        for start in range(0, len(ids), _RECOVERY_BURST):
            for id in ids[start : start + _RECOVERY_BURST]:
                if id not in self.attempts:
                    self._submit_safely(Recover(id, self._now_ms()))
            await self.commits.flush()

    async def _clean_up(self) -> None:
        """Forget what is over, once its retention is; rest while nothing is kept."""
        while True:
            await self._has_expiries.wait()
            await asyncio.sleep(self._cleanup_interval_s)
            await self.expire()
            if not self.store.scan(keys.EXPIRY, keys.expiries_until(_FOR_EVER_MS), 1):
                self._has_expiries.clear()

    async def expire(self) -> None:
        """Forget every completion and journal whose retention is over."""
        while True:
            stop = keys.expiries_until(self._now_ms())
            rows = self.store.scan(keys.EXPIRY, stop, _EXPIRY_BURST)
            for key, _ in rows:
                _, kind, id = keys.split_expiry(key)
                self._submit_safely(Expired(key, kind, id))
            await self.commits.flush()
            if len(rows) < _EXPIRY_BURST:
                return

    def _watch(self, opened: OpenAttempt, now_s: float) -> None:
        """A timeout that is soon over is kept to the point; for others the sweep is good enough.

        One of none, too: it says that an attempt may not wait, which is seen when it does.
        """
        due_at_s = opened.due_at_s
        if now_s < due_at_s <= now_s + _EXACT_BELOW_S:
            self._loop.call_at(due_at_s, self._look_at, opened)

    def _look_at(self, opened: OpenAttempt) -> None:
        if self.attempts.find(opened.id, opened.attempt) is not opened:
            return  # it is over
        now_s = self._loop.time()
        if self.attempts.is_stuck(opened, now_s):
            self._abort(opened)
        else:
            self._watch(opened, now_s)

    def _abort(self, stuck: OpenAttempt) -> None:
        self.attempts.abort(stuck.id)
        message = "[RT0001] the attempt did not suspend within its abort timeout"
        self._frames(stuck, (Failed(500, message),))

    async def _sweep(self) -> None:
        """Suspend the inactive, abort the stuck, passivate idle actors; rest when there are none."""
        while True:
            await self._has_actors.wait()
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            if not self.directory:
                self._has_actors.clear()
            now_s = self._loop.time()
            for stuck in self.attempts.sweep(now_s):
                self._abort(stuck)
            idle_since_s = now_s - self._options.idle_actor_timeout_s
            self.directory.passivate(idle_since_s, self.attempts.hosts)
            self._intensity.forget_old(now_s)
