"""Partitions as processes see each other: real engines on real LevelDB, behind real sockets. No test is here.

``Cutter`` stands between two ends and cuts their connections at any byte; chance comes from a seed.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import uvloop

from perdure import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from perdure.actors.engine import Engine
from perdure.actors.plane.cluster import Cluster
from perdure.actors.plane.links import Links
from perdure.actors.plane.options import PlaneOptions
from perdure.actors.plane.remote import RemotePartition
from perdure.actors.plane.server import PlaneServer
from perdure.actors.registry import Registry
from perdure.definition import Definition
from perdure.describe import describe
from perdure.hosting import Hosted
from perdure.journal.entries import Value
from perdure.journal.placement import Placement, owner_of_key
from perdure.journal.requests import Answer, Invoke
from perdure.journal.schema import Defaults
from perdure.journal.schema import Service as Described
from perdure.journal.store import Store
from tests.journal.stores import FaultyStore, open_small

T = TypeVar("T")

JSON = (("content-type", "application/json"),)

plain = Service("Plain")
counter = VirtualObject("Counter")
journey = Workflow("Journey")


@plain.handler()
async def echo(ctx: Context, text: str) -> str:
    return text


@plain.handler()
async def wait_for(ctx: Context, text: str) -> str:
    """Tells a counter's log its awakeable, and waits for it."""
    name, promise = ctx.awakeable(type_hint=str)
    ctx.object_send(note, key=text, arg=name)
    return await promise


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    n = (await ctx.get("n", type_hint=int) or 0) + amount
    ctx.set("n", n)
    return n


@counter.handler()
async def note(ctx: ObjectContext, text: str) -> list[str]:
    log = [*(await ctx.get("log", type_hint=list[str]) or []), text]
    ctx.set("log", log)
    return log


@counter.handler(kind="shared")
async def read(ctx: ObjectSharedContext) -> list[str]:
    return await ctx.get("log", type_hint=list[str]) or []


@counter.handler()
async def pass_on(ctx: ObjectContext, to: str) -> int:
    """Calls another key, and counts what it has passed on."""
    await ctx.object_call(add, key=to, arg=1)
    n = (await ctx.get("n", type_hint=int) or 0) + 1
    ctx.set("n", n)
    return n


@counter.handler()
async def tell(ctx: ObjectContext, message: list[str]) -> None:
    """A key and a text: noted there, some time."""
    ctx.object_send(note, key=message[0], arg=message[1])


@journey.main()
async def run(ctx: WorkflowContext, text: str) -> str:
    return text


SERVICES: list[Definition] = [plain, counter, journey]


def described() -> dict[str, Described]:
    return {each.name: describe(each, Defaults()) for each in SERVICES}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def play(scene: Callable[[], Coroutine[Any, Any, T]], limit_s: float = 15.0) -> T:
    """Run a test's coroutine on the loop that processes have. The limit is for bugs that hang."""

    async def limited() -> T:
        return await asyncio.wait_for(scene(), limit_s)

    return uvloop.run(limited())


async def until(check: Callable[[], bool]) -> None:
    """Gives up after many tries: a bug shall not hang."""
    for _ in range(3_000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never held")


def to(handler: str, key: str | None = None, body: bytes = b"", **more: Any) -> Invoke:
    service = {"echo": "Plain", "wait_for": "Plain", "run": "Journey"}.get(handler, "Counter")
    return Invoke(described()[service].handlers[handler], key, body, JSON, **more)


def content(answer: Answer) -> bytes:
    assert isinstance(answer.result, Value), answer
    return answer.result.content


def key_of(owner: int, count: int, number: int = 0) -> str:
    """The ``number``-th key, of some, that a partition owns."""
    keys = (f"k{n}" for n in range(10_000))
    return [key for key in (next(keys) for _ in range(400)) if owner_of_key(key, count) == owner][
        number
    ]


class Cutter:
    """Passes bytes on, and cuts a connection after a random number of them: 0 up to ``most_bytes``.

    That grows with each connection, so that at some time everything gets through.
    """

    def __init__(self, listens: Path, to: Path, rng: Random, most_bytes: int) -> None:
        self.listens, self._to = listens, to
        self._rng, self.most_bytes = rng, most_bytes
        self.cut_count = 0
        self.is_cutting = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.listens)

    async def close(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._to)
        except OSError:
            writer.transport.abort()
            return
        left = [self._rng.randrange(self.most_bytes)]
        self.most_bytes += self.most_bytes // 4
        pair = {writer, far_writer}
        self._writers |= pair
        ways = [
            asyncio.ensure_future(self._pass(reader, far_writer, left)),
            asyncio.ensure_future(self._pass(far_reader, writer, left)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for each in pair:
            each.transport.abort()
        self._writers -= pair
        await asyncio.wait(ways)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]
    ) -> None:
        while data := await reader.read(1 << 16):
            if self.is_cutting:
                if len(data) >= left[0]:
                    writer.write(data[: left[0]])
                    self.cut_count += 1
                    return
                left[0] -= len(data)
            writer.write(data)


class Machine:
    """``count`` partitions that talk over sockets in ``place``, and one gateway's view of them.

    ``cut``: as for Cutter, between every two ends; 0: nothing is between.
    """

    def __init__(
        self, place: Path, count: int = 1, cut: int = 0, seed: int = 0, **options: Any
    ) -> None:
        self.place, self.count = place, count
        self.options = PlaneOptions(**options)
        self.rng, self._cut = Random(seed), cut
        self.registry = Registry(described().values())
        self.hosted = [Hosted(SERVICES) for _ in range(count)]
        self.engines: list[Engine] = []
        self.servers: list[PlaneServer] = []
        self.links: list[Links] = []
        self.cutters: list[Cutter] = []
        self.epochs = [0] * count
        self.stores: dict[int, FaultyStore] = {}
        self.partitions: list[RemotePartition] = []
        self.cluster: Cluster

    async def __aenter__(self) -> "Machine":
        self.partitions = [
            RemotePartition(index, self.registry, self.options) for index in range(self.count)
        ]
        self.cluster = Cluster(
            self.partitions, self.registry, now_ms=now_ms, random_bytes=os.urandom
        )
        for index in range(self.count):
            await self._begin(index)
        for index in range(self.count):
            await self._introduce(index)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cluster.close()
        for links in self.links:
            await links.close()
        for server in self.servers:
            await server.close()
        for cutter in self.cutters:
            await cutter.close()
        for engine in self.engines:
            await engine.stop()
        for hosted in self.hosted:
            hosted.close()

    async def _begin(self, index: int) -> None:
        path = self.place / f"partition-{index}"

        async def open_store() -> Store:
            self.stores[index] = store = FaultyStore(open_small(path), [])
            return store

        engine = Engine(
            open_store,
            described(),
            self.hosted[index],
            now_ms=now_ms,
            random_bytes=os.urandom,
            placement=Placement(index, self.count),
        )
        self.epochs[index] += 1
        epoch = self.epochs[index]
        links = Links(engine.exchange, engine.placement, epoch, self.options)
        engine.exchange.carry = links.forward
        await engine.start()
        server = PlaneServer(
            f"partition-{index}",
            epoch,
            engine=engine,
            receiver=engine.exchange,
            options=self.options,
        )
        await server.listen(self.path(index))
        self.engines[index : index + 1] = [engine]
        self.links[index : index + 1] = [links]
        self.servers[index : index + 1] = [server]

    def path(self, index: int) -> Path:
        return self.place / "run" / f"p{index}.{self.epochs[index]}.sock"

    async def _way(self, index: int, who: str) -> Path:
        """The path by which somebody reaches a partition."""
        if not self._cut:
            return self.path(index)
        listens = self.place / f"{who}-{index}.{self.epochs[index]}"
        cutter = Cutter(listens, self.path(index), self.rng, self._cut)
        await cutter.start()
        self.cutters.append(cutter)
        return listens

    async def _introduce(self, index: int) -> None:
        """Tell everybody where a partition is, and the partition where all others are."""
        self.partitions[index].introduce(await self._way(index, "gateway"), self.epochs[index])
        for other in range(self.count):
            if other != index:
                path = await self._way(index, f"from{other}.{self.epochs[other]}")
                self.links[other].introduce(index, path, self.epochs[index])

    async def kill(self, index: int) -> None:
        """As ``kill -9`` of a partition's process."""
        self.servers[index].stop_listening()
        for connection in list(self.servers[index].connections):
            connection.abort("killed")
        await self.engines[index].crash()
        await self.stores[index].close()
        await self.servers[index].close()
        await self.links[index].close()

    async def revive(self, index: int) -> None:
        await self._begin(index)
        await self._introduce(index)
        for other in range(self.count):
            if other != index:
                path = await self._way(other, f"from{index}.{self.epochs[index]}")
                self.links[index].introduce(other, path, self.epochs[other])

    def calm(self) -> None:
        """No connection is cut any more."""
        for cutter in self.cutters:
            cutter.is_cutting = False


async def settled(machine: Machine) -> None:
    """Until no partition has anything for another one that did not arrive."""
    for index in range(machine.count):
        outbox = machine.engines[index].exchange.outbox
        for link in machine.links[index].links.values():
            await until(lambda o=outbox, each=link: not o(each.destination, each.acked_seq, 1))  # type: ignore[misc]
