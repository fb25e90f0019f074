"""A whole server with its deployment registry on a data directory, and endpoints to register with it."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from perdure.actors.clock import clock_of
from perdure.actors.engine import Engine
from perdure.actors.remote.port import Transport
from perdure.embedded import Services, System, leveldb_opener
from perdure.gateway import server
from perdure.gateway.deployments import Registrar
from perdure.gateway.remote import Remote
from perdure.gateway.settings import Admin, Deployments, Ingress, Settings
from tests.actors.remote.hypercorns import hypercorn

FREE_PORT = "127.0.0.1:0"
MANIFEST_TYPE = "application/vnd.restate.endpointmanifest.v4+json"


class Up(msgspec.Struct):
    """A server with clients for both of its ports."""

    system: System
    registrar: Registrar
    gateway: server.Gateway
    ingress: httpx.AsyncClient
    admin: httpx.AsyncClient

    async def register(self, uri: str, **more: Any) -> httpx.Response:
        return await self.admin.post("/deployments", json={"uri": uri, **more})

    async def revisions(self) -> dict[str, int]:
        """Of the latest revision of each service."""
        services = (await self.admin.get("/services")).json()["services"]
        return {each["name"]: each["revision"] for each in services}


@contextlib.asynccontextmanager
async def up(
    data: Path,
    services: Services = (),
    hosted: Mapping[str, Callable[[], Transport]] | None = None,
    **deployments: Any,
) -> AsyncIterator[Up]:
    """As `perdure up` puts it together. ``deployments``: settings of that section."""
    import asyncio

    settings = Settings(
        data=str(data),
        ingress=Ingress(bind=FREE_PORT),
        admin=Admin(bind=FREE_PORT),
        deployments=Deployments(**deployments),
    )
    remote = Remote(settings)
    system = System(
        services,
        open_store=leveldb_opener(data),
        defaults=settings.defaults(),
        remote=remote.options,
    )
    registrar = remote.registrar(clock_of(asyncio.get_running_loop()).now_ms, os.urandom, Registrar)

    async def prepare(engine: Engine) -> None:
        registrar.start(engine, engine.services())
        for name, transport in (hosted or {}).items():
            await registrar.host(name, transport())

    await system.start(prepare)
    try:
        await registrar.settle()
        gateway = await server.start(system.engine, settings, registrar)
        async with (
            httpx.AsyncClient(base_url=gateway.ingress_url, trust_env=False, timeout=30) as ingress,
            httpx.AsyncClient(base_url=gateway.admin_url, trust_env=False, timeout=30) as admin,
        ):
            try:
                yield Up(system, registrar, gateway, ingress, admin)
            finally:
                await gateway.stop()
    finally:
        await system.stop()


def manifest(*services: dict[str, Any], **top: Any) -> bytes:
    given = {"protocolMode": "BIDI_STREAM", "minProtocolVersion": 5, "maxProtocolVersion": 7}
    return json.dumps({**given, "services": services, **top}).encode()


def service(name: str, ty: str = "SERVICE", *handlers: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ty": ty,
        "handlers": [{"name": each} for each in handlers or ("h",)],
        **more,
    }


Reply = tuple[int, list[tuple[str, str]], bytes]


class Endpoint:
    """An ASGI app that answers every request with ``reply``, and keeps what it was asked."""

    def __init__(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        named = {"content_type": MANIFEST_TYPE, **headers}
        pairs = [(name.replace("_", "-"), value) for name, value in named.items() if value]
        self.reply: Reply = (status, pairs, body)
        self.replies: list[Reply] = []  # before that, one each
        self.requests: list[dict[str, Any]] = []

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        query = scope["query_string"].decode()
        self.requests.append(
            {
                "method": scope["method"],
                "path": scope["path"] + (f"?{query}" if query else ""),
                "http": scope["http_version"],
                "headers": dict(headers),
            }
        )
        status, pairs, body = self.replies.pop(0) if self.replies else self.reply
        head = [(name.encode(), value.encode()) for name, value in pairs]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    def serve(self, **options: object) -> contextlib.AbstractAsyncContextManager[str]:
        return hypercorn(self, **options)


def refused(response: httpx.Response) -> tuple[int, str | None, str]:
    """Status, code and message of an error."""
    body = response.json()
    assert list(body) == ["message", "restate_code"]
    return response.status_code, body["restate_code"], body["message"]
