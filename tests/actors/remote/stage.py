"""The stage for scripted peers: the real engine, store and ASGI transport, on virtual time.

``Play`` runs a scenario and holds at its end what must hold after every peer: nothing is left open, no
journal has a gap, no key is stuck, nothing of ours broke.
"""

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

from perdure.actors.clock import VirtualLoop, run_virtual
from perdure.actors.engine import Engine
from perdure.actors.remote.asgi import AsgiTransport
from perdure.actors.remote.deployments import DeploymentSpec, RemoteOptions
from perdure.journal.attempt import (
    Attempt,
    Sink,
    Start,
)
from perdure.journal.entries import (
    Command,
    Completion,
    Entry,
    Input,
    Value,
    Verbatim,
    is_command,
    plain,
)
from perdure.journal.requests import InvocationInfo, Invoke, LastFailure, Op
from perdure.journal.schema import Handler, HandlerType, Service, ServiceType
from perdure.journal.store import Group, MemoryStore, Row, Store, Tail
from perdure.journal.wire.commands import completion_types
from tests.actors.remote.peer import OK, Exchange, Peer, Script
from tests.journal.stores import open_small

T = TypeVar("T")

_DRAINED_S = 6.0  # longer than the runtime drains a response
_SCENARIO_S = 2 * 3600.0  # virtual


class GatedStore:
    """A store whose appends wait while the gate is closed. Virtual time stands still while it writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.max_group_bytes = store.max_group_bytes
        self.fsync_us = store.fsync_us
        self.get = store.get
        self.settle = store.settle
        self.approximate_bytes = store.approximate_bytes
        self.has_room = store.has_room
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting_count = 0  # appends before the gate

    @property
    def tail(self) -> Tail:
        return self._store.tail

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> list[Row]:
        return self._store.scan(start, stop, limit)

    async def append(self, group: Group, after: Tail) -> Tail:
        self.waiting_count += 1
        await self.gate.wait()
        self.waiting_count -= 1
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        with loop.outside_work():
            return await self._store.append(group, after)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        with loop.outside_work():
            await self._store.close()


class NoHandlersHere:
    """This process runs nothing itself."""

    def start(self, start: Start, sink: Sink) -> Attempt:
        raise AssertionError("an attempt without a deployment")


def _services(**options: Any) -> tuple[Service, ...]:
    def service(name: str, type: ServiceType, **handlers: HandlerType) -> Service:
        return Service(
            name,
            type,
            {each: Handler(name, each, kind, type, **options) for each, kind in handlers.items()},
            deployment_id="dp_peer",
        )

    exclusive, shared = HandlerType.EXCLUSIVE, HandlerType.SHARED
    plain, run = HandlerType.SERVICE, HandlerType.WORKFLOW
    return (
        service("Plain", ServiceType.SERVICE, a=plain, b=plain),
        service("Thing", ServiceType.VIRTUAL_OBJECT, a=exclusive, probe=exclusive, s=shared),
        service("Flow", ServiceType.WORKFLOW, run=run, s=shared),
    )


class World:
    """A running engine with one deployment, the peer."""

    def __init__(
        self,
        engine: Engine,
        store: GatedStore,
        peer: Peer,
        transport: AsgiTransport,
        spec: DeploymentSpec,
    ) -> None:
        self.engine = engine
        self.store = store
        self.peer = peer
        self.transport = transport
        self.spec = spec
        self.ids: list[str] = []

    def invoke(
        self, target: str, key: str | None, body: bytes = b"1", name: str | None = None
    ) -> Invoke:
        service, _, handler = target.partition("/")
        found = self.engine.services()[service].handlers[handler]
        return Invoke(found, key if found.keyed else None, body, idempotency_key=name)

    async def send(self, target: str = "Thing/a", key: str = "k", **options: Any) -> str:
        accepted = await self.engine.send(self.invoke(target, key, **options))
        self.ids.append(accepted.invocation_id)
        return accepted.invocation_id

    async def result(self, id: str) -> Any:
        found = await self.engine.attach(id)
        return found.result  # type: ignore[union-attr]

    async def call(self, target: str = "Thing/a", key: str = "k", **options: Any) -> Any:
        return await self.result(await self.send(target, key, **options))

    async def info(self, id: str) -> InvocationInfo:
        found = await self.engine.invocation(id)
        assert found is not None
        return found

    async def failure(self, id: str) -> LastFailure:
        """Of the last attempt that failed."""
        failure = (await self.info(id)).last_failure
        assert failure is not None, "no attempt failed"
        return failure

    async def until(self, id: str, status: str) -> InvocationInfo:
        for _ in range(100_000):
            info = await self.info(id)
            if info.status == status:
                return info
            await asyncio.sleep(0.01)
        raise AssertionError(f"never {status}: {info}")

    async def journal(self, id: str) -> list[Entry]:
        found = await self.engine.journal(id)
        assert found is not None
        return found

    def exchanges(self, target: str = "Thing/a") -> list[Exchange]:
        return self.peer.exchanges[target]

    # ---- what holds after every peer

    async def probe(self, *keys: str) -> None:
        """A healthy call to the same key succeeds."""
        for key in keys:
            assert await self.call("Thing/probe", key) == Value(OK)

    async def check_rest(self) -> None:
        for id in list(self.ids):
            await check_journal(self, id)
            await self.engine.operate(id, Op.KILL)
        await self.probe("k")
        await asyncio.sleep(_DRAINED_S)
        assert self.engine.open_attempt_count == 0
        assert not self.transport._open, _places(self.transport)


def _places(transport: AsgiTransport) -> list[str]:
    """Where the calls of the app that are still open wait."""
    places = []
    for stream in transport._open:
        assert stream.task is not None
        coroutine: Any = stream.task.get_coro()
        lines = []
        while hasattr(coroutine, "cr_frame"):
            lines.append(f"{coroutine.__qualname__}:{coroutine.cr_frame.f_lineno}")
            coroutine = coroutine.cr_await
        places.append(" > ".join(lines))
    return places


async def check_journal(world: World, id: str) -> None:
    """One Input, at the start; every completion behind its command, none twice."""
    info, entries = await world.engine.invocation(id), await world.engine.journal(id)
    if info is None:
        return  # ended before it began
    assert entries is not None
    assert len(entries) == info.entry_count
    assert type(entries[0]) is Input
    promised: set[int] = set()
    completed: Counter[int] = Counter()
    for entry in entries[1:]:
        if type(entry) is Completion:
            assert entry.completion_id in promised
            completed[entry.completion_id] += 1
        elif is_command(entry):
            command = plain(cast(Command | Verbatim, entry))
            assert type(command) is not Input
            promised |= {each for each, _ in completion_types(command)}
    assert not completed or max(completed.values()) == 1, "a command was completed twice"


class _Alarm(logging.Handler):
    """Collects what must never be logged; an app that raises is the peer's fault, not ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "perdure.asgi":
            self.texts.append(self.format(record))


class Play:
    """Runs scenarios on stores of one kind, in memory or on disk."""

    def __init__(self, on_disk: bool) -> None:
        self._on_disk = on_disk

    def __call__(
        self,
        scenario: Callable[[World], Awaitable[T]],
        *scripts: Script,
        target: str = "Thing/a",
        bidi: bool = True,
        version: int = 7,
        seed: int = 7,
        limit_bytes: int = 32 << 20,
        hosted: bool = False,
        **options: Any,
    ) -> T:
        """``scripts``: of ``target``, one an attempt. ``options``: of every handler. ``hosted``: the peer
        is an app of this process, whose runs are gated; else as one behind a network."""
        alarm = _Alarm()
        logging.getLogger().addHandler(alarm)
        try:
            with tempfile.TemporaryDirectory(prefix="peer-") as folder:
                main = self._main(
                    scenario,
                    Path(folder),
                    scripts,
                    target,
                    bidi,
                    version,
                    limit_bytes,
                    hosted,
                    options,
                )
                result = run_virtual(main, seed=seed)
        finally:
            logging.getLogger().removeHandler(alarm)
        assert not alarm.texts, "\n".join(alarm.texts)
        return result

    async def _main(
        self,
        scenario: Callable[[World], Awaitable[T]],
        folder: Path,
        scripts: tuple[Script, ...],
        target: str,
        bidi: bool,
        version: int,
        limit_bytes: int,
        hosted: bool,
        options: dict[str, Any],
    ) -> T:
        rng, loop = Random(1), asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        store = GatedStore(open_small(folder / "data") if self._on_disk else MemoryStore(rng))

        async def open_store() -> Store:
            return store

        engine = Engine(
            open_store,
            {},
            NoHandlersHere(),
            now_ms=loop.clock.now_ms,
            random_bytes=rng.randbytes,
            remote=RemoteOptions(newest_version=version, message_limit_bytes=limit_bytes),
        )
        peer = Peer()
        peer.will(target, *scripts)
        transport = AsgiTransport(peer, gates_runs=hosted)
        spec = DeploymentSpec("dp_peer", "asgi:peer", bidi, 5, 7, "", (), _services(**options))
        engine.deploy(spec, transport)
        await engine.start()
        world = World(engine, store, peer, transport, spec)
        await world.probe("warm")
        await asyncio.sleep(_DRAINED_S)
        tasks = len(asyncio.all_tasks())
        async with asyncio.timeout(_SCENARIO_S):
            result = await scenario(world)
        store.gate.set()
        await world.check_rest()
        assert len(asyncio.all_tasks()) <= tasks, asyncio.all_tasks()
        await engine.stop()
        assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()
        return result


def retried(play: Play, script: Script, *expected: str, **options: Any) -> None:
    """The script's attempt fails with a message that has every part of ``expected``; then one succeeds."""

    async def scenario(world: World) -> None:
        id = await world.send()
        waiting = asyncio.create_task(world.call("Thing/probe"))
        await world.until(id, "backing-off")
        message = (await world.failure(id)).message
        for part in expected:
            assert part in message
        assert await world.result(id) == Value(OK)
        assert await waiting == Value(OK)  # the key was passed on
        assert len(world.exchanges()) == 2
        assert world.exchanges()[1].start.retry_count == 1

    play(scenario, script, **options)
