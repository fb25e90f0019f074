"""What becomes of attempts that are open at a deployment when it is removed or registered anew."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import restate

from tests.actors.remote.hypercorns import hypercorn
from tests.gateway.remotes import up


class Held:
    """An app on the official SDK; its handler waits within the attempt until it is let go."""

    def __init__(self) -> None:
        self.began, self.goes_on = asyncio.Event(), asyncio.Event()
        self.attempts_count = 0
        box = restate.VirtualObject("Box")

        @box.handler()
        async def fill(ctx: restate.ObjectContext, text: str) -> str:
            self.attempts_count += 1
            self.began.set()
            await self.goes_on.wait()
            ctx.set("text", text)
            return text

        @box.handler()
        async def text(ctx: restate.ObjectContext) -> str | None:
            return await ctx.get("text", type_hint=str)

        self.app: Any = restate.app(services=[box])


@pytest.mark.parametrize("http_11", [False, True])
@pytest.mark.parametrize("change", ["removed", "registered anew"])
def test_an_open_attempt_goes_on_to_its_end(tmp_path: Path, change: str, http_11: bool) -> None:
    async def run() -> None:
        held = Held()
        async with up(tmp_path / "data") as server, hypercorn(held.app) as uri:
            found = (await server.register(uri, use_http_11=http_11)).json()
            call = asyncio.create_task(server.ingress.post("/Box/a/fill", json="full"))
            await held.began.wait()
            if change == "removed":
                path = f"/deployments/{found['id']}?force=true"
                assert (await server.admin.delete(path)).status_code == 202
            else:
                again = await server.register(uri, use_http_11=http_11, force=True)
                assert again.status_code == 200
            held.goes_on.set()
            answer = await asyncio.wait_for(call, 20)
            assert (answer.status_code, answer.json()) == (200, "full")
            assert held.attempts_count == 1
            if change == "removed":
                await server.register(uri, use_http_11=http_11)
            assert (await server.ingress.post("/Box/a/text")).json() == "full"

    asyncio.run(run())


@pytest.mark.parametrize("http_11", [False, True])
def test_a_server_that_stops_does_not_wait_for_attempts_at_a_removed_deployment(
    tmp_path: Path, http_11: bool
) -> None:
    async def run() -> None:
        held = Held()
        async with hypercorn(held.app) as uri:
            async with up(tmp_path / "data") as server:
                found = (await server.register(uri, use_http_11=http_11)).json()
                await server.ingress.post("/Box/a/fill/send", json="full")
                await held.began.wait()
                await server.admin.delete(f"/deployments/{found['id']}?force=true")
            async with up(tmp_path / "data") as server:  # and nothing is lost
                await server.register(uri, use_http_11=http_11)
                held.goes_on.set()
                assert (await server.ingress.post("/Box/a/text")).json() == "full"

    asyncio.run(asyncio.wait_for(run(), 60))
