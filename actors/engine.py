"""One running engine in this process: the partition, supervised, behind the ``Runtime`` interface.

What operators ask of it is in actors/operators.py, what is only read in actors/looking.py.

It turns requests into events and the machine's replies into answers. It decides nothing about an
invocation. When the store fails, the partition stops at once and is opened again, up to its restart
intensity; until then callers get 503.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Literal

import msgspec

from perdure.actors.base import AsyncioSystemBase
from perdure.actors.counts import Counts
from perdure.actors.exchange import Exchange
from perdure.actors.looking import Looking
from perdure.actors.operators import Operators
from perdure.actors.partition import Outside, Partition, PartitionActor, PartitionOptions
from perdure.actors.pinned import PinnedCounts
from perdure.actors.registry import Registry
from perdure.actors.remote.deployments import Deployments, DeploymentSpec, RemoteOptions
from perdure.actors.remote.port import Transport
from perdure.actors.schedules import EngineSchedules
from perdure.journal import keys
from perdure.journal.attempt import Deployment
from perdure.journal.drawing import draw_id
from perdure.journal.effects import attach_id
from perdure.journal.entries import AttachTarget, Input, Outcome
from perdure.journal.errors import BadId, Overloaded, PerdureError, StoreError, StoreFailed
from perdure.journal.events import (
    AskSchedules,
    Attach,
    Event,
    Request,
)
from perdure.journal.ids import format_invocation_id, parse_invocation_id, schedule_id
from perdure.journal.placement import ALONE, Placement
from perdure.journal.records import Completed, Invocation
from perdure.journal.requests import (
    Accepted,
    Answer,
    Invoke,
    NotFound,
    NotReady,
    Output,
)
from perdure.journal.schedules_requests import Answer as ScheduleAnswer
from perdure.journal.schedules_requests import Ask as ScheduleAsk
from perdure.journal.schedules_requests import Declare, Put
from perdure.journal.schema import HandlerType, Service
from perdure.journal.store import Store

log = logging.getLogger("perdure.engine")

_RESTART_DELAY_S = 0.1

OpenStore = Callable[[], Awaitable[Store]]


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the whole engine. ``mailbox_limit``: invocations that may wait for one key's lock."""

    partition: PartitionOptions = PartitionOptions()
    in_flight_limit: int = 100_000
    mailbox_limit: int = 10_000


class Engine(Operators, Looking):
    """``Runtime`` over one partition. All methods run on the loop that ``start`` ran on."""

    def __init__(
        self,
        open_store: OpenStore,
        services: Mapping[str, Service],
        deployment: Deployment,
        *,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        options: EngineOptions | None = None,
        remote: RemoteOptions | None = None,
        placement: Placement = ALONE,
    ) -> None:
        self.placement = placement
        self._open_store = open_store
        self.registry = Registry(services.values())
        self.deployments = Deployments(deployment, self.registry, remote)
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self.options = options or EngineOptions()
        self.counts, self.restart_count = Counts(), 0  # restarts of the partition
        self._pinned = PinnedCounts()
        self._tokens = count(1)
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._awaiting: dict[bytes, list[int]] = {}
        self.schedules = EngineSchedules(self._ask_schedules, self._running, now_ms)
        self.exchange = Exchange(self._running, self._failed, now_ms, placement)
        self._partition: Partition | None = None
        self._down: str = "the engine was not started"
        self._failures: deque[float] = deque()
        self._restarting: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._base: AsyncioSystemBase

    # ---- life

    async def start(self) -> None:
        """Open the store and recover. Raises StoreError where the store can't be opened."""
        self._loop = asyncio.get_running_loop()
        self._stopping.clear()
        self._base = AsyncioSystemBase(self._loop, mailbox_limit=2 * self.options.in_flight_limit)
        await self._open_partition()

    async def _open_partition(self) -> None:
        store = await self._open_store()
        try:
            partition = Partition(
                store,
                self.registry,
                self.deployments,
                self._now_ms,
                self._random_bytes,
                Outside(
                    self._reply,
                    self._complete,
                    self._await_end,
                    self.exchange.forward,
                    self._failed,
                ),
                self.options.partition,
                self.counts,
                self.placement,
            )
            if self.schedules.declared is not None:
                partition.submit(self._about_schedules(self.schedules.declared, None))
            partition.start(self._base.spawn(PartitionActor, None, partition))
        except BaseException:  # such as a read that fails
            await store.close()
            raise
        try:
            self.exchange.opened(partition)
        except BaseException:
            await self._let_go(partition)
            raise
        self._partition, self._down = partition, ""

    async def _let_go(self, partition: Partition) -> None:
        """Drop one that runs, and its store."""
        await partition.crash()
        await self._base.stop(partition.cell)
        await partition.store.close()

    async def stop(self) -> None:
        """Take nothing more, commit what was decided, close the store. Waiting callers get 503."""
        self._stopping.set()
        if self._restarting is not None:
            await asyncio.wait([self._restarting])  # cancelled, it would leave a store open
        partition, self._partition, self._down = self._partition, None, "Perdure is stopping"
        try:
            if partition is not None:
                await partition.stop()
        finally:
            message = "Perdure stopped; the invocation goes on after the restart"
            self._refuse_waiting(StoreFailed(message))
            await self._base.stop(self._base.root)
            await self.deployments.close()

    async def crash(self) -> None:
        """As ``kill -9``: everything in memory is gone at once. For tests."""
        partition, self._partition, self._down = self._partition, None, "the engine crashed"
        if partition is not None:
            await partition.crash()
        self._refuse_waiting(StoreFailed("the engine crashed"))
        await self._base.stop(self._base.root)

    async def drain(self) -> None:
        """Until everything that was decided so far is durable."""
        await self._running().commits.flush()

    async def expire(self) -> None:
        """Forget now what is past its retention, instead of at the next clean-up."""
        await self._running().expire()

    # ---- deployments

    def deploy(self, spec: DeploymentSpec, transport: Transport) -> None:
        """Add or replace a deployment; may be called before ``start``. On the loop."""
        self.deployments.put(spec, transport)

    def undeploy(self, deployment_id: str) -> None:
        """Forget a deployment; invocations that are pinned to it wait until it is back."""
        self.deployments.remove(deployment_id)

    async def pinned_counts(self) -> dict[str, int]:
        """How many unfinished invocations each deployment has to finish."""
        return await self._pinned.look(self._running())

    @property
    def store(self) -> Store:
        return self._running().store

    @property
    def partition(self) -> Partition | None:
        """The partition, for a look at it; None while it is down."""
        return self._partition

    @property
    def system(self) -> AsyncioSystemBase:
        """The actor system, for a look at the actors."""
        return self._base

    @property
    def open_attempt_count(self) -> int:
        return len(self._running().attempts)

    def health(self) -> str:
        """Empty while the engine works; else why it does not."""
        return self._down

    # ---- supervision of the partition

    def _failed(self, partition: Partition, error: BaseException) -> None:
        """The store or the commit loop is over: nothing is acknowledged any more."""
        if partition is not self._partition:
            return  # it is over already
        log.error("the partition stopped: %r", error, exc_info=error)
        self.restart_count += 1
        self._partition = None
        self._down = f"the store failed: {error}"
        self._refuse_waiting(StoreFailed(self._down))
        self._restarting = self._loop.create_task(self._restart(partition))

    async def _restart(self, partition: Partition) -> None:
        await self._let_go(partition)
        stopping = self._loop.create_task(self._stopping.wait())
        try:
            await self._open_again(stopping)
        finally:
            stopping.cancel()

    async def _open_again(self, stopping: asyncio.Task[Literal[True]]) -> None:
        """Try until it is open, or the engine stops; longer pauses after more failures."""
        options = self.options.partition
        while True:
            now_s = self._loop.time()
            self._failures.append(now_s)
            while self._failures[0] <= now_s - options.restart_window_s:
                self._failures.popleft()
            delay_s = _RESTART_DELAY_S * 2 ** (len(self._failures) - 1)
            if len(self._failures) > options.restart_limit:
                delay_s = options.restart_window_s
            await asyncio.wait([stopping], timeout=delay_s)
            if stopping.done():
                return
            try:
                await self._open_partition()
            except Exception as error:
                self._down = f"the store can't be opened again: {error}"
                log.error("%s; next try in %.1f s", self._down, delay_s * 2)
                continue
            log.warning("the partition is open again")
            return

    def _running(self) -> Partition:
        if self._partition is None:
            raise StoreFailed(self._down)
        return self._partition

    # ---- answers

    def _reply(self, token: int, answer: object) -> None:
        future = self._futures.pop(token, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def _await_end(self, token: int, id: bytes) -> None:
        if token in self._futures:  # else the caller has given up
            self._awaiting.setdefault(id, []).append(token)

    def _complete(self, id: bytes, result: object) -> None:
        for token in self._awaiting.pop(id, ()):
            self._reply(token, result)

    def _refuse_waiting(self, error: PerdureError) -> None:
        futures, self._futures = self._futures, {}
        self._awaiting = {}
        for future in futures.values():
            if not future.done():
                future.set_exception(error)

    async def _ask(self, event: Event, token: int, id: bytes | None = None) -> Any:
        """Submit an event and wait for its reply; giving up leaves no trace."""
        partition = self._running()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._futures[token] = future
        try:
            partition.submit(event)
            return await future
        except StoreError as error:
            if not future.done():  # a read failed
                self._failed(partition, error)
            raise
        finally:
            if self._futures.pop(token, None) is not None and id in self._awaiting:
                waiting = self._awaiting[id]
                if token in waiting:
                    waiting.remove(token)
                if not waiting:
                    del self._awaiting[id]

    async def _ask_schedules(self, ask: ScheduleAsk) -> ScheduleAnswer:
        if not isinstance(ask, Declare):  # of which each partition takes its part
            name = ask.spec.name if isinstance(ask, Put) else ask.name
            self._require_here(schedule_id(name), f"the schedule '{name}'")
        token = next(self._tokens)
        answer: ScheduleAnswer = await self._ask(self._about_schedules(ask, token), token)
        return answer

    def _about_schedules(self, ask: ScheduleAsk, token: int | None) -> AskSchedules:
        seed = int.from_bytes(self._random_bytes(8), "big")
        return AskSchedules(ask, seed, token, self._now_ms())

    # ---- requests

    def services(self) -> dict[str, Service]:
        return self.registry.services

    async def call(self, invoke: Invoke) -> Answer:
        id, result, expires_at_ms = await self.end_of(invoke)
        return Answer(format_invocation_id(id), result, expires_at_ms, invoke.handler)

    async def end_of(self, invoke: Invoke) -> tuple[bytes, Outcome, int | None]:
        """As ``call``: the raw id, the result, and when it expires if it was stored already."""
        id, token, event = await self._request(invoke, waits=True)
        found = await self._ask(event, token, id)
        if type(found) is Invocation:
            assert isinstance(found.status, Completed)
            return id, found.status.result, found.status.expires_at_ms
        return id, found, None

    async def send(self, invoke: Invoke) -> Accepted:
        id, token, event = await self._request(invoke, waits=False)
        record, is_new = await self._ask(event, token)
        return Accepted(format_invocation_id(id), is_new, record.execution_time_ms)

    def new_id(self, invoke: Invoke) -> str:
        return format_invocation_id(draw_id(invoke, self._now_ms(), self._random_bytes)[0])

    async def _request(self, invoke: Invoke, waits: bool) -> tuple[bytes, int, Request]:
        partition = self._running()
        try:
            await self._admit(partition, invoke)
        except StoreError as error:
            if partition is self._partition and not isinstance(error, Overloaded):
                self._failed(partition, error)
            raise
        now_ms = self._now_ms()
        id, is_fresh = draw_id(invoke, now_ms, self._random_bytes)
        self._require_here(id, f"{invoke.handler.service}/{invoke.key}")
        is_run = invoke.handler.type is HandlerType.WORKFLOW
        token = next(self._tokens)
        request = Request(
            id,
            invoke.handler,
            invoke.key,
            Input(invoke.headers, invoke.body),
            now_ms,
            int.from_bytes(self._random_bytes(8), "big") if invoke.seed is None else invoke.seed,
            token,
            waits,
            is_fresh,
            None if is_run else invoke.idempotency_key,
            None if invoke.delay_ms is None else now_ms + invoke.delay_ms,
            invoke.scope,
            invoke.limit_key,
            invoke.trace if self.counts.observer is None else self.counts.trace_of(invoke),
            invoke.keep_ms,
        )
        return id, token, request

    async def _admit(self, partition: Partition, invoke: Invoke) -> None:
        """Back-pressure, and the limits of what may wait here."""
        if len(self._futures) >= self.options.in_flight_limit:
            raise Overloaded(f"{len(self._futures)} requests are in flight; try again later")
        key = invoke.key
        if key is not None:
            if len(key.encode()) > keys.MAX_TEXT_BYTES:
                raise BadId(f"the key has more than {keys.MAX_TEXT_BYTES} bytes")
            if invoke.handler.type is HandlerType.EXCLUSIVE:
                box = partition.tables.mailbox((invoke.handler.service, key))
                if box.waiting_count >= self.options.mailbox_limit and not (
                    invoke.id is not None and partition.tables.invocation(invoke.id)
                ):  # what waits there already may be sent again
                    raise Overloaded(
                        f"{box.waiting_count} invocations wait for {invoke.handler.service}/{key}; "
                        "try again later"
                    )
        await partition.pressure.admit()

    # ---- results

    def invocation_id(self, target: AttachTarget) -> str:
        return format_invocation_id(attach_id(target))

    async def attach(self, invocation_id: str) -> Answer | NotFound:
        id, token = parse_invocation_id(invocation_id), next(self._tokens)
        self._require_here(id, invocation_id)
        found = await self._ask(Attach(id, token, True), token, id)
        if found is None:
            return NotFound(invocation_id)
        if type(found) is Invocation:
            answer = self._stored_answer(invocation_id, found)
            assert isinstance(answer, Answer)
            return answer
        record = self._running().tables.invocation(id)
        handler = None if record is None else self.registry.handler(record.service, record.handler)
        return Answer(invocation_id, found, None, handler)

    async def output(self, invocation_id: str) -> Output:
        id, token = parse_invocation_id(invocation_id), next(self._tokens)
        self._require_here(id, invocation_id)
        found = await self._ask(Attach(id, token, False), token)
        return (
            NotFound(invocation_id) if found is None else self._stored_answer(invocation_id, found)
        )

    def _stored_answer(self, invocation_id: str, record: Invocation) -> Answer | NotReady:
        status = record.status
        if not isinstance(status, Completed):
            return NotReady(invocation_id)
        handler = self.registry.handler(record.service, record.handler)
        return Answer(invocation_id, status.result, status.expires_at_ms, handler)
