"""`perdure up` with apps on the official SDK in its own process, beside our services or alone."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.crash.server import Nursery, Server
from tests.endtoend.commands import Finished

OFFICIAL = """
import asyncio
from datetime import timedelta

import restate

counter = restate.VirtualObject("Tally")

@counter.handler()
async def add(ctx: restate.ObjectContext, amount: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total

@counter.handler()
async def slowly(ctx: restate.ObjectContext, name: str) -> str:
    await ctx.sleep(timedelta(milliseconds=20))
    return "hello " + await ctx.run_typed("name", lambda: name)

app = restate.app([counter])
"""
OURS = """
import perdure

echo = perdure.Service("Echo")

@echo.handler()
async def say(ctx: perdure.Context, text: str) -> str:
    return text
"""
WEB = """
import sys
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount, Route

import {sdk}

database = {{}}
greeter = {sdk}.Service("Greeter")

@greeter.handler()
async def greet(ctx: {sdk}.Context, name: str) -> str:
    return await ctx.run_typed("greeting", lambda: database["greeting"]) + name

@asynccontextmanager
async def lifespan(app):
    database["greeting"] = "hello "
    yield
    print("the database is closed", file=sys.stderr)

inner = {sdk}.app([greeter])
web = Starlette(
    routes=[Route("/", lambda request: None), Mount("/api", routes=[Mount("/restate/v1", inner)])],
    lifespan=lifespan,
)
"""
Perdure = Callable[..., Finished]


def _call(server: Server, path: str, body: object) -> object:
    response = httpx.post(f"{server.ingress_url}/{path}", json=body, trust_env=False, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("name", ["", ":app"])
def test_official_app_is_hosted_and_keeps_its_state(
    nursery: Nursery, tmp_path: Path, name: str
) -> None:
    (tmp_path / "shop.py").write_text(OFFICIAL)
    with Server(tmp_path / "data", f"shop.py{name}", launch=nursery.launch) as server:
        assert _call(server, "Tally/a/add", 2) == 2
        assert _call(server, "Tally/b/slowly", "Ada") == "hello Ada"
        assert server.stop() == 0  # the SDK takes SIGTERM for itself; we take it back
        server.start()
        assert _call(server, "Tally/a/add", 3) == 5
        server.kill()
        server.start()
        assert _call(server, "Tally/a/add", 1) == 6
        found = httpx.get(f"{server.admin_url}/deployments", trust_env=False).json()
        assert [each["uri"] for each in found["deployments"]] == ["asgi://inprocess/shop:app"]
        assert server.stop() == 0


def test_our_services_and_an_official_app_share_a_process(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(OURS + OFFICIAL)
    with Server(tmp_path / "data", "both.py", launch=nursery.launch) as server:
        assert _call(server, "Echo/say", "hi") == "hi"
        assert _call(server, "Tally/a/add", 1) == 1


@pytest.mark.parametrize(
    ("sdk", "target"), [("restate", "web.py"), ("restate", "web.py:web"), ("perdure", "web.py:web")]
)
def test_app_that_is_mounted_in_a_web_app_has_its_lifespan(
    nursery: Nursery, tmp_path: Path, sdk: str, target: str
) -> None:
    (tmp_path / "web.py").write_text(WEB.format(sdk=sdk))
    with Server(tmp_path / "data", target, launch=nursery.launch) as server:
        assert _call(server, "Greeter/greet", "Ada") == "hello Ada"
        assert server.stop() == 0
        assert "the database is closed" in server.log()


def test_up_without_a_target_serves_what_is_registered(nursery: Nursery, tmp_path: Path) -> None:
    with Server(tmp_path / "data", launch=nursery.launch) as server:
        response = httpx.get(f"{server.admin_url}/deployments", trust_env=False)
        assert response.json() == {"deployments": []}
        assert server.stop() == 0


def test_app_that_is_no_deployment_is_refused_by_name(perdure: Perdure, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 404, 'headers': []})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    ports = ("--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    done = perdure("up", "web.py", "--data", "data", *ports)
    assert done.code == 2, done.stderr
    assert "the app 'web:app' can't be hosted" in done.stderr
    assert "404" in done.stderr
    assert "Traceback" not in done.stderr
