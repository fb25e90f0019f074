"""Serves a ``MemoryRuntime`` on free ports for the tests of the gateway, and talks HTTP to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from perdure.gateway import server
from perdure.gateway.settings import Admin, Ingress, Settings
from tests.gateway.runtime import MemoryRuntime

FREE_PORT = "127.0.0.1:0"


class Served(msgspec.Struct):
    """A running gateway, the runtime behind it, and a client for each port."""

    runtime: MemoryRuntime
    gateway: server.Gateway
    ingress: httpx.AsyncClient
    admin: httpx.AsyncClient

    @property
    def ingress_port(self) -> int:
        return port_of(self.gateway.ingress_url)

    @property
    def admin_port(self) -> int:
        return port_of(self.gateway.admin_url)


def port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


def settings(ingress: dict[str, Any] | None = None, **rest: Any) -> Settings:
    return Settings(
        ingress=Ingress(**{"bind": FREE_PORT, **(ingress or {})}),
        admin=Admin(bind=FREE_PORT),
        **rest,
    )


@asynccontextmanager
async def serving(
    runtime: MemoryRuntime | None = None, config: Settings | None = None
) -> AsyncIterator[Served]:
    runtime = runtime or MemoryRuntime()
    gateway = await server.start(runtime, config or settings())
    async with (
        httpx.AsyncClient(base_url=gateway.ingress_url, trust_env=False) as ingress,
        httpx.AsyncClient(base_url=gateway.admin_url, trust_env=False) as admin,
    ):
        try:
            yield Served(runtime, gateway, ingress, admin)
        finally:
            await gateway.stop()


def served(
    test: Callable[[Served], Awaitable[None]],
    runtime: MemoryRuntime | None = None,
    config: Settings | None = None,
) -> None:
    """Run ``test`` against a gateway of its own."""

    async def run() -> None:
        async with serving(runtime, config) as each:
            await test(each)

    asyncio.run(run())


async def exchange(port: int, raw: bytes) -> bytes:
    """Send ``raw``, and read until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


async def ask(port: int, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send ``raw``, and read one answer: status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        await writer.drain()
        return await answer_of(reader)
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    status, headers, _ = head_of(await reader.readuntil(b"\r\n\r\n"))
    return status, headers, await reader.readexactly(int(headers.get("content-length", "0")))


def head_of(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the one answer in ``answer``."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split(" ")[1]), headers, body
