"""The engine inside a user's own process: ``async with perdure.open(path, services=[...]) as system``.

A door that leads upwards: it imports the engine and the store when it is called, not before. The
client's interface is the one of the HTTP client, without HTTP.
"""

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from perdure.client_types import HttpError, RestateClient, RestateClientSendHandle
from perdure.definition import Definition
from perdure.describe import describe
from perdure.endpoint import App, Codec
from perdure.entry_codec import JournalValueCodec
from perdure.hosting import Hosted
from perdure.journal.chance import SystemChance
from perdure.journal.entries import AttachTarget, Entry, Failure, Outcome
from perdure.journal.errors import BadId, UsageError
from perdure.journal.placement import ALONE, Placement
from perdure.journal.requests import (
    Accepted,
    Answer,
    Filter,
    InvocationInfo,
    Invoke,
    NotFound,
    NotReady,
    Op,
    OpResult,
)
from perdure.journal.schema import Defaults, Handler, ServiceType
from perdure.schedules import SystemSchedules, declared
from perdure.workflow import Workflow

if TYPE_CHECKING:
    from perdure.actors.counts import Observer
    from perdure.actors.engine import Engine, EngineOptions
    from perdure.actors.remote.deployments import RemoteOptions
    from perdure.journal.store import Store

T = TypeVar("T")
Services: TypeAlias = App | Definition | Iterable[Definition | App]
OpenStore: TypeAlias = "Callable[[], Awaitable[Store]]"
Prepare: TypeAlias = "Callable[[Engine], Awaitable[None]]"


class System(RestateClient):
    """A running engine and its client. ``services`` run in this process, on this event loop."""

    def __init__(
        self,
        services: Services,
        *,
        open_store: OpenStore,
        defaults: Defaults | None = None,
        options: "EngineOptions | None" = None,
        threads: int | None = None,
        random_bytes: Callable[[int], bytes] | None = None,
        remote: "RemoteOptions | None" = None,
        placement: Placement = ALONE,
    ) -> None:
        self._remote = remote
        self._placement = placement
        self._definitions, self._codec_source = flatten(services)
        self._open_store = open_store
        self._defaults = defaults or Defaults()
        self._options = options
        self._threads = threads
        self._random_bytes = random_bytes or SystemChance()
        self._hosted: Hosted | None = None
        self._engine: Engine | None = None
        self.observer: Observer | None = None  # who traces; set it before the start
        self.on_enter: Callable[[str], None] | None = None  # told the trace of each attempt here

    # ---- life

    async def start(self, prepare: "Prepare | None" = None) -> None:
        """Open the store and recover. Raises StoreError where that is not possible.

        ``prepare`` deploys what runs elsewhere, so that recovery finds it.
        """
        import asyncio

        from perdure.actors.clock import clock_of
        from perdure.actors.engine import Engine, EngineOptions

        codec = self._codec_source
        if codec is not None and not isinstance(codec, JournalValueCodec):
            codec = await codec()
        self.journal_codec = codec
        self._hosted = Hosted(self._definitions, threads=self._threads, codec=codec)
        self._hosted.on_enter = self.on_enter
        described = {d.name: describe(d, self._defaults) for d in self._definitions}
        self._engine = Engine(
            self._open_store,
            described,
            self._hosted,
            now_ms=clock_of(asyncio.get_running_loop()).now_ms,
            random_bytes=self._random_bytes,
            options=self._options or EngineOptions(),
            remote=self._remote,
            placement=self._placement,
        )
        self._engine.schedules.declared = declared(self._definitions, codec)
        self._engine.counts.observer = self.observer
        if prepare is not None:
            await prepare(self._engine)
        await self._engine.start()

    async def stop(self) -> None:
        """Commit what was decided and let the store go; what runs goes on at the next start."""
        if self._engine is not None:
            await self._engine.stop()
        if self._hosted is not None:
            self._hosted.close()

    @property
    def engine(self) -> "Engine":
        """The engine below, with all of ``journal.requests.Runtime``."""
        if self._engine is None:
            raise UsageError("the system is not started; use it inside `async with`")
        return self._engine

    # ---- schedules

    @property
    def schedules(self) -> SystemSchedules:
        """Create, list, pause, trigger and delete what runs by itself."""
        return SystemSchedules(lambda: self.engine.schedules, self._asked, self.journal_codec)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """One request that may be sent again under the same name."""
        return await ask()

    # ---- the client

    async def submit(
        self,
        service: str,
        handler: str,
        body: bytes,
        content_type: str | None,
        key: str | None,
        send: bool,
        delay_ms: int | None,
        idempotency_key: str | None,
        headers: dict[str, str],
        scope: str | None,
        limit_key: str | None,
    ) -> bytes | RestateClientSendHandle:
        target = self._target(service, handler, key)
        pairs = tuple((name.lower(), value) for name, value in headers.items())
        if content_type is not None:
            pairs += (("content-type", content_type),)
        invoke = Invoke(target, key, body, pairs, idempotency_key, delay_ms, scope, limit_key)
        if send:
            accepted = await self._send_invoke(invoke)
            return RestateClientSendHandle(accepted.invocation_id, 202, accepted.is_new)
        return _bytes_of(await self._call_invoke(invoke))

    async def _call_invoke(self, invoke: Invoke) -> Answer:
        return await self.engine.call(invoke)

    async def _send_invoke(self, invoke: Invoke) -> Accepted:
        return await self.engine.send(invoke)

    def _target(self, service: str, handler: str, key: str | None) -> Handler:
        found = self.engine.services().get(service)
        if found is None:
            known = ", ".join(sorted(self.engine.services())) or "none at all"
            raise HttpError(404, f"service '{service}' not found; this system has: {known}")
        target = found.handlers.get(handler)
        if target is None:
            raise HttpError(
                404,
                f"service '{service}' has no handler '{handler}', only {', '.join(found.handlers)}",
            )
        if (key is None) != (found.type is ServiceType.SERVICE):
            needs = "takes no key" if key is not None else "needs a key"
            raise HttpError(400, f"{found.type.value} '{service}' {needs}")
        return target

    async def fetch(self, target: AttachTarget, wait: bool) -> bytes | None:
        try:
            id = self.engine.invocation_id(target)
            found = await (self.engine.attach(id) if wait else self.engine.output(id))
        except BadId as e:
            raise HttpError(400, f"bad invocation id: {e}") from None
        if isinstance(found, NotFound):
            raise HttpError(404, f"invocation {id} not found")
        return None if isinstance(found, NotReady) else _bytes_of(found)

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        try:
            await self.engine.complete_awakeable(awakeable_id, result)
        except BadId as e:
            raise HttpError(400, f"bad awakeable id '{awakeable_id}': {e}") from None

    # ---- beyond the ingress

    async def state(self, service: str | Definition, key: str) -> dict[str, bytes]:
        """The state of one object or workflow key, as stored."""
        name = service if isinstance(service, str) else service.name
        return await self.engine.state(name, key)

    async def journal(self, invocation_id: str) -> list[Entry] | None:
        """The journal of one invocation, in order; None where it is unknown."""
        return await self.engine.journal(invocation_id)

    async def operate(self, invocation_id: str, op: Op) -> OpResult:
        """Carry out one operation on one invocation; durable when this returns."""
        result = await self.engine.operate(invocation_id, op)
        assert isinstance(result, OpResult), "only another deployment can be incompatible"
        return result

    async def cancel(self, invocation_id: str) -> OpResult:
        """Ask an invocation to stop; it may clean up first."""
        return await self.operate(invocation_id, Op.CANCEL)

    async def kill(self, invocation_id: str) -> OpResult:
        """End an invocation, and what it called, without asking."""
        return await self.operate(invocation_id, Op.KILL)

    async def pause(self, invocation_id: str) -> OpResult:
        return await self.operate(invocation_id, Op.PAUSE)

    async def resume(self, invocation_id: str) -> OpResult:
        return await self.operate(invocation_id, Op.RESUME)

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        """One invocation as operators see it; None where it is unknown."""
        return await self.engine.invocation(invocation_id)

    async def invocations(self, **filter: str) -> list[InvocationInfo]:
        """Those that match ``service``, ``handler``, ``key`` and ``status``, where given."""
        return await self.engine.invocations(Filter(**filter))  # type: ignore[arg-type]


def flatten(services: Services) -> tuple[list[Definition], Codec | None]:
    """The definitions in apps and services, and the apps' codec. Raises UsageError for anything else."""
    apps = [services] if isinstance(services, (App, Definition)) else list(services)
    definitions: list[Definition] = []
    codec: Codec | None = None
    for each in apps:
        if isinstance(each, App):
            definitions += each.services.values()
            codec = each.endpoint.journal_value_codec or codec
        elif isinstance(each, Definition):
            definitions.append(each)
        else:
            raise UsageError(
                f"expected Service, VirtualObject, Workflow or app(...), found {each!r}"
                + (" (a class: make an object of it)" if inspect.isclass(each) else "")
            )
    names = [d.name for d in definitions]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"there are two services named {twice!r}; each needs a name of its own")
    for each in definitions:
        check_complete(each)
    return definitions, codec


def check_complete(definition: Definition) -> None:
    """Raises UsageError for a service that nobody could call."""
    if not definition.handlers:
        raise UsageError(f"{definition.name} has no handlers; decorate one with @….handler()")
    if isinstance(definition, Workflow) and not any(
        each.kind == "workflow" for each in definition.handlers.values()
    ):
        raise UsageError(
            f"workflow {definition.name} has no main handler; decorate it with @….main()"
        )


def _bytes_of(answer: Answer) -> bytes:
    result = answer.result
    if isinstance(result, Failure):
        status = result.code if 100 <= result.code <= 999 else 500
        raise HttpError(status, result.message)
    return result.content


class Opening(AbstractAsyncContextManager[System]):
    """What ``open`` gives: a system inside ``async with``, once."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._is_used = False

    async def __aenter__(self) -> System:
        if self._is_used:
            raise UsageError("this system was opened before; call perdure.open(...) once more")
        self._is_used = True
        await self._system.start()
        return self._system

    async def __aexit__(self, *_: object) -> None:
        await self._system.stop()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            raise AttributeError(
                f"{name!r} is asked of what perdure.open(...) returns, which is not open yet; write"
                f" `async with perdure.open(...) as system:` and inside it `system.{name}`",
                name=name,
                obj=self,
            )


def open(
    path: str | os.PathLike[str],
    services: Services,
    *,
    defaults: Defaults | None = None,
    threads: int | None = None,
) -> Opening:
    """Run the engine in this process, on its data in the directory ``path``, inside ``async with``.

    ``threads`` bounds the pool for plain ``def`` handlers and the one for plain run closures.
    Raises UsageError here; StoreError (busy, damaged, not ours) where it is entered.
    """
    return Opening(
        System(services, open_store=leveldb_opener(path), defaults=defaults, threads=threads)
    )


def leveldb_opener(path: str | os.PathLike[str]) -> OpenStore:
    """Opens the one store of the data directory ``path``, beside the loop."""

    async def open_store() -> "Store":
        import asyncio

        from perdure.journal.layout import prepare_partitions
        from perdure.journal.leveldb import open_store as open_leveldb

        store = prepare_partitions(path, 1)[0]
        return await asyncio.to_thread(open_leveldb, store, new_id=lambda: os.urandom(16))

    return open_store
