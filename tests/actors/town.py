"""Several partitions, each a real engine, and an unreliable way between them. No test is here.

Messages are lost, repeated, and sent on connections that break; partitions crash and come back. Chance comes
from a seed, time is virtual.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

from perdure.actors.clock import clock_of
from perdure.actors.engine import Engine
from perdure.definition import Definition
from perdure.describe import describe
from perdure.hosting import Hosted
from perdure.journal import ids, placement
from perdure.journal.errors import StoreError
from perdure.journal.placement import Placement
from perdure.journal.requests import Answer, Invoke
from perdure.journal.schema import Defaults
from perdure.journal.store import MemoryStore, Store

T = TypeVar("T")

JSON = (("content-type", "application/json"),)
_WINDOW = 4


class Town:
    """``trouble``: how often something goes wrong with a message, 0 to 1."""

    def __init__(
        self, services: Sequence[Definition], count: int, rng: Random, trouble: float = 0.0
    ) -> None:
        self.rng, self.trouble, self.count = rng, trouble, count
        self._services = {each.name: describe(each, Defaults()) for each in services}
        self.hosted = [Hosted(services) for _ in range(count)]
        self._stores = [MemoryStore(rng) for _ in range(count)]
        self.engines: list[Engine] = []
        self._news = [[asyncio.Event() for _ in range(count)] for _ in range(count)]
        self._roads: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Town":
        self.engines = [self._engine(index) for index in range(self.count)]
        for engine in self.engines:
            await engine.start()
        for source in range(self.count):
            for destination in range(self.count):
                if source != destination:
                    road = self._road(source, destination)
                    self._roads.append(asyncio.get_running_loop().create_task(road))
        return self

    async def __aexit__(self, *_: object) -> None:
        for road in self._roads:
            road.cancel()
        await asyncio.gather(*self._roads, return_exceptions=True)
        for engine in self.engines:
            await engine.stop()
        for hosted in self.hosted:
            hosted.close()

    def _engine(self, index: int) -> Engine:
        async def open_store() -> Store:
            return self._stores[index]

        engine = Engine(
            open_store,
            dict(self._services),
            self.hosted[index],
            now_ms=clock_of(asyncio.get_running_loop()).now_ms,
            random_bytes=self.rng.randbytes,
            placement=Placement(index, self.count),
        )
        news = self._news[index]

        def carry(destination: int, seq: int, message: bytes) -> None:
            news[destination].set()

        engine.exchange.carry = carry
        return engine

    async def crash(self, index: int) -> None:
        """As ``kill -9``: what was not committed is gone; then it starts again."""
        await self.engines[index].crash()
        self._stores[index] = self._stores[index].crash()
        self.engines[index] = self._engine(index)
        await self.engines[index].start()
        for news in (*self._news[index], *(each[index] for each in self._news)):
            news.set()  # as connections that are made again

    async def _road(self, source: int, destination: int) -> None:
        """Send what the outbox holds, a window at a time; now and then the wrong thing."""
        news = self._news[source][destination]
        while True:
            await news.wait()
            news.clear()
            try:
                while await self._carry_some(source, destination):
                    pass
            except (StoreError, ConnectionError):
                news.set()  # one of them crashed, or the connection broke
                await asyncio.sleep(0.005)

    async def _carry_some(self, source: int, destination: int) -> bool:
        mine, theirs = self.engines[source].exchange, self.engines[destination].exchange
        last = theirs.received_from(source)
        if self._is_bad():
            last = max(0, last - 2)  # sent again
        batch = mine.outbox(destination, last, _WINDOW)
        if not batch:
            return False
        if self._is_bad():
            batch = batch[: self.rng.randrange(1, len(batch) + 1)]
        if self._is_bad():
            raise ConnectionError  # before it arrived
        await asyncio.sleep(self.rng.random() * 0.01 * self.trouble)
        arrived = await theirs.receive(source, batch)
        if self._is_bad():
            raise ConnectionError  # before it was confirmed
        mine.delivered(destination, arrived)
        return True

    def _is_bad(self) -> bool:
        return self.rng.random() < self.trouble

    # ---- the way in

    def home(self, key: str) -> int:
        return placement.owner_of_key(key, self.count)

    def invoke(self, service: str, handler: str, key: str | None, body: bytes = b"") -> Invoke:
        target = self._services[service].handlers[handler]
        id = ids.fresh_id(service, key, 1, self.rng.randbytes(12))
        return Invoke(target, key, body, JSON, id=id, keep_ms=60_000)

    async def call(self, service: str, handler: str, key: str | None, body: bytes = b"") -> Answer:
        """As a gateway does: sent again under the same id until there is an answer."""
        invoke = self.invoke(service, handler, key, body)
        assert invoke.id is not None
        index = placement.owner_of(invoke.id, self.count)
        return await self.again(lambda: self.engines[index].call(invoke))

    async def again(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except StoreError:
                await asyncio.sleep(0.01)
