"""What goes wrong around the registry: a full disk, a damaged file, ambiguous addresses, unfinished work."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import restate

from perdure.journal.errors import StoreDamaged
from tests.actors.remote.hypercorns import hypercorn
from tests.gateway.remotes import Endpoint, manifest, refused, service, up


def test_what_cannot_be_written_is_not_registered(tmp_path: Path) -> None:
    async def run() -> None:
        data = tmp_path / "data"
        async with up(data) as server, Endpoint(manifest(service("S"))).serve() as uri:
            in_the_way = data / "registry.msgpack.tmp"
            in_the_way.mkdir()
            response = await server.register(uri)
            assert refused(response)[0] == 503
            assert (await server.admin.get("/deployments")).json() == {"deployments": []}
            assert (await server.admin.get("/services")).json() == {"services": []}
            in_the_way.rmdir()
            assert (await server.register(uri)).status_code == 201

    asyncio.run(run())


def test_a_damaged_registry_stops_the_start_and_is_left_as_it_is(tmp_path: Path) -> None:
    async def run() -> None:
        data = tmp_path / "data"
        async with up(data) as server, Endpoint(manifest(service("S"))).serve() as uri:
            await server.register(uri)
        file = data / "registry.msgpack"
        damaged = file.read_bytes()[:-1]
        file.write_bytes(damaged)
        with pytest.raises(StoreDamaged, match=r"registry\.msgpack is damaged"):
            async with up(data):
                pass
        assert file.read_bytes() == damaged

    asyncio.run(run())


def test_an_address_of_several_deployments_is_not_overwritten(tmp_path: Path) -> None:
    async def run() -> None:
        one, two = Endpoint(manifest(service("S"))), Endpoint(manifest(service("T")))
        async with up(tmp_path / "data") as server, one.serve() as uri, two.serve() as other:
            await server.register(uri)
            moved = (await server.register(other)).json()["id"]
            await server.admin.patch(f"/deployments/{moved}", json={"uri": uri})
            assert refused(await server.register(uri, force=True))[:2] == (409, "META0017")
            assert (await server.register(uri)).json()["id"] == moved

    asyncio.run(run())


def waiting_app(name: str) -> Any:
    holder = restate.VirtualObject("Holder")

    @holder.handler()
    async def hold(ctx: restate.ObjectContext) -> str:
        ctx.set("began", True)
        id, promise = ctx.awakeable(type_hint=str)
        ctx.set("awakeable", id)
        return f"{name} {await promise}"

    @holder.handler(kind="shared")
    async def awakeable(ctx: restate.ObjectSharedContext) -> str | None:
        return await ctx.get("awakeable", type_hint=str)

    return restate.app(services=[holder])


def test_a_deployment_drains_until_its_invocations_are_over(tmp_path: Path) -> None:
    async def run() -> None:
        data = tmp_path / "data"
        async with hypercorn(waiting_app("old")) as old, hypercorn(waiting_app("new")) as new:
            async with up(data) as server:
                first = (await server.register(old)).json()["id"]
                sent = (await server.ingress.post("/Holder/k/hold/send")).json()["invocationId"]
                while not (shown := await server.ingress.post("/Holder/k/awakeable")).content:
                    await asyncio.sleep(0.01)
                id = shown.json()
                second = (await server.register(new)).json()["id"]
                assert await server.registrar.statuses() == {first: "draining", second: "active"}
            async with up(data) as server:  # a restart keeps the pin, too
                assert await server.registrar.statuses() == {first: "draining", second: "active"}
                await server.ingress.post(f"/restate/awakeables/{id}/resolve", json="woken")
                answer = await server.ingress.get(f"/restate/invocation/{sent}/attach")
                assert answer.json() == "old woken"
                assert await server.registrar.statuses() == {first: "drained", second: "active"}

    asyncio.run(run())
