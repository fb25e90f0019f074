"""Deployments at https:// addresses: whom this server trusts, and which HTTP they speak."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import restate

from tests.actors.remote.hypercorns import Certificate, hypercorn
from tests.gateway.remotes import Up, refused, up


def on(data: Path, test: Callable[[Up, str], Awaitable[None]], tls: Any, **settings: Any) -> None:
    greeter = restate.Service("Greeter")

    @greeter.handler()
    async def greet(ctx: restate.Context, name: str) -> str:
        return str(await ctx.run_typed("greeting", lambda: f"Hello {name}"))

    async def run() -> None:
        async with (
            up(data, **settings) as server,
            hypercorn(restate.app(services=[greeter]), **tls) as uri,
        ):
            await test(server, uri.replace("http:", "https:"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("offered", "http_version", "protocol_type"),
    [
        (["h2", "http/1.1"], "HTTP/2.0", "BidiStream"),
        (["http/1.1"], "HTTP/1.1", "RequestResponse"),
    ],
)
def test_what_tls_offers_decides_which_http_is_spoken(
    tmp_path: Path, offered: list[str], http_version: str, protocol_type: str
) -> None:
    certificate = Certificate(tmp_path)
    tls = {**certificate.server, "alpn_protocols": offered}

    async def test(server: Up, uri: str) -> None:
        response = await server.register(uri)
        assert response.status_code == 201, response.text
        path = f"/deployments/{response.json()['id']}"
        detail = (await server.admin.get(path)).json()
        assert (detail["http_version"], detail["protocol_type"]) == (http_version, protocol_type)
        again = await server.admin.patch(path, json={"overwrite": True, "uri": uri})
        assert again.json()["http_version"] == http_version
        answer = await server.ingress.post("/Greeter/greet", json="Ada")
        assert answer.json() == "Hello Ada"

    on(tmp_path / "data", test, tls, tls_ca_file=certificate.server["certfile"])


def test_an_authority_that_is_not_trusted_can_be_named(tmp_path: Path) -> None:
    async def test(server: Up, uri: str) -> None:
        status, code, message = refused(await server.register(uri))
        assert (status, code) == (500, "META0003")
        assert "an authority of your own is named in 'deployments.tls_ca_file'" in message

    on(tmp_path / "data", test, Certificate(tmp_path).server)
