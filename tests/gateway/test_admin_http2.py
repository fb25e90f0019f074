"""HTTP/2 at the admin port: the same answers as over HTTP/1.1, and nothing that slips between the two."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import msgspec
import pytest

from perdure.gateway.http_request import HttpRequest
from perdure.gateway.relay import Relay
from perdure.gateway.responses import Refusal
from perdure.gateway.settings import Admin, Settings
from tests.gateway.serving import FREE_PORT, Served, served, settings


def on_both(
    test: Callable[[Served, httpx.AsyncClient], Awaitable[None]], config: Settings | None = None
) -> None:
    async def with_client(on: Served) -> None:
        async with httpx.AsyncClient(
            base_url=on.admin.base_url, http1=False, http2=True, trust_env=False, timeout=30
        ) as client:
            await test(on, client)

    served(with_client, config=config)


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/health", b""),
        ("GET", "/version", b""),
        ("HEAD", "/version", b""),
        ("GET", "/services/Greeter", b""),
        ("GET", "/services/Nobody", b""),
        ("GET", "/openapi", b""),
        ("GET", "/ui/", b""),
        ("POST", "/query", b'{"query": "select name from sys_service"}'),
        ("PATCH", "/services/Greeter", b'{"nonsense": 1}'),
        ("POST", "/deployments", b"x" * 300_000),
    ],
)
def test_answers_are_those_of_http1(method: str, path: str, content: bytes) -> None:
    async def test(on: Served, client: httpx.AsyncClient) -> None:
        headers = {"content-type": "application/json", "accept": "application/json"}
        first, second = [
            await each.request(method, path, content=content, headers=headers)
            for each in (on.admin, client)
        ]
        assert (first.http_version, second.http_version) == ("HTTP/1.1", "HTTP/2")
        assert first.status_code == second.status_code
        assert first.content == second.content
        assert first.headers.get("content-type") == second.headers.get("content-type")

    on_both(test)


def test_many_at_once_leave_nothing_behind() -> None:
    async def test(on: Served, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.get("/version") for _ in range(100)))
        assert {each.status_code for each in answers} == {200}
        await client.aclose()
        server = on.gateway.servers[1]
        while server.everyone:
            await asyncio.sleep(0)

    on_both(test)


def test_the_token_is_asked_for() -> None:
    token = "0123456789abcdef0123456789abcdef"

    async def test(on: Served, client: httpx.AsyncClient) -> None:
        assert (await client.get("/services")).status_code == 401
        bearer = {"authorization": f"Bearer {token}"}
        assert (await client.get("/services", headers=bearer)).status_code == 200

    guarded = msgspec.structs.replace(settings(), admin=Admin(bind=FREE_PORT, token=token))
    on_both(test, guarded)


class Asked:
    """A request, as HTTP/2 may bring it."""

    def __init__(self, method: str, raw_path: str, headers: dict[str, str]) -> None:
        self.method, self.raw_path, self.headers = method, raw_path, headers
        self.announced_bytes = 0

    async def body(self, limit_bytes: int) -> bytes | Refusal:
        return b""


@pytest.mark.parametrize(
    "asked",
    [
        Asked("GET", "/a HTTP/1.1\r\nx: y", {}),
        Asked("GET", "/a b", {}),
        Asked("GET", "http://a/", {}),
        Asked("GET /b", "/a", {}),
        Asked("GET", "/a", {"x": "y\r\nz: 1"}),
    ],
)
def test_what_would_be_something_else_over_http1_is_refused(asked: HttpRequest) -> None:
    def nobody() -> asyncio.Protocol:
        raise AssertionError("it was passed on")

    reply = asyncio.run(Relay(nobody, 1000).answer(asked))
    assert reply.status == 400
