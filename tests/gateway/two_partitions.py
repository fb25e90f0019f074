"""Two real engines on LevelDB behind one gateway, looked into as the processes of a cluster are. No test."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec

import perdure
from perdure.actors.clock import clock_of
from perdure.actors.engine import Engine
from perdure.actors.inspector import Inspector
from perdure.actors.inspectors import Inspectors
from perdure.describe import describe
from perdure.gateway import server
from perdure.hosting import Hosted
from perdure.journal.ids import parse_invocation_id
from perdure.journal.inspecting import Far, Inspection, answer_bytes
from perdure.journal.placement import Placement, owner_of, owner_of_key
from perdure.journal.requests import InvocationInfo, Invoke, Runtime
from perdure.journal.schema import Defaults, Service
from perdure.journal.store import Store
from tests.gateway.serving import settings
from tests.journal.stores import open_small

COUNT = 2
JSON = (("content-type", "application/json"),)

box = perdure.VirtualObject("Box")


@box.handler()
async def put(ctx: perdure.ObjectContext, value: str) -> str:
    ctx.set("value", value)
    return value


@box.handler()
async def hold(ctx: perdure.ObjectContext) -> str:
    """Until its awakeable is completed; holds the key's lock."""
    await ctx.run_typed("note", lambda: "here")
    _, future = ctx.awakeable(type_hint=str)
    return await future


@box.handler()
async def nap(ctx: perdure.ObjectContext, hours: int) -> None:
    await ctx.sleep(timedelta(hours=hours))


class Two:
    """``Runtime`` as far as a look needs it; ``inspection`` goes through bytes, as over sockets."""

    def __init__(self, engines: list[Engine]) -> None:
        self.engines = engines
        parts = [Far(partial(answer_bytes, Inspector(each))) for each in engines]
        self.inspection: Inspection = Inspectors(parts)

    def services(self) -> dict[str, Service]:
        return self.engines[0].services()

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        owner = owner_of(parse_invocation_id(invocation_id), COUNT)
        return await self.engines[owner].invocation(invocation_id)

    async def send(self, key: str, name: str, body: Any) -> str:
        handler = self.services()["Box"].handlers[name]
        engine = self.engines[owner_of_key(key, COUNT)]
        invoke = Invoke(handler, key, msgspec.json.encode(body), JSON)
        return (await engine.send(invoke)).invocation_id

    async def call(self, key: str, name: str, body: Any) -> str:
        id = await self.send(key, name, body)
        await self.engines[owner_of_key(key, COUNT)].attach(id)
        return id


class Served(msgspec.Struct):
    two: Two
    admin: httpx.AsyncClient
    data: Path

    async def rows(self, query: str) -> list[dict[str, Any]]:
        answer = await self.query(query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["rows"]
        return found

    async def query(self, query: str) -> httpx.Response:
        headers = {"accept": "application/json"}
        return await self.admin.post("/query", json={"query": query}, headers=headers)

    async def stop(self, index: int) -> None:
        """The partition is down from now on."""
        await self.two.engines[index].crash()


def key_of(partition: int, number: int = 0) -> str:
    """A key that the partition has."""
    found = (f"k{n}" for n in range(1000) if owner_of_key(f"k{n}", COUNT) == partition)
    return [next(found) for _ in range(number + 1)][number]


@asynccontextmanager
async def two_partitions(data: Path, inspection: Inspection | None = None) -> AsyncIterator[Served]:
    """``inspection``: another look than into the engines."""
    hosted = Hosted([box])
    engines = [_engine(data, hosted, index) for index in range(COUNT)]
    for engine in engines:
        await engine.start()
    two = Two(engines)
    two.inspection = inspection or two.inspection
    gateway = await server.start(cast(Runtime, two), settings())
    try:
        url = gateway.admin_url
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as admin:
            yield Served(two, admin, data)
    finally:
        await gateway.stop()
        for engine in engines:
            if engine.partition is not None:
                await engine.stop()
        hosted.close()


def _engine(data: Path, hosted: Hosted, index: int) -> Engine:
    async def open_store() -> Store:
        return await asyncio.to_thread(open_small, data / f"partition-{index:03}")

    return Engine(
        open_store,
        {"Box": describe(box, Defaults())},
        hosted,
        now_ms=clock_of(asyncio.get_running_loop()).now_ms,
        random_bytes=os.urandom,
        placement=Placement(index, COUNT),
    )
