"""Discovery against real servers that answer wrongly, late, or in another HTTP (service protocol 1.2)."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.gateway.remote import Remote
from perdure.gateway.settings import Deployments, Settings, SettingsError
from tests.actors.remote.test_identity import KEY_ID, PEM
from tests.gateway.remotes import Endpoint, Up, manifest, refused, service, up

GOOD = manifest(service("S"))


def on(data: Path, test: Callable[[Up], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with up(data, **settings) as server:
            await test(server)
            listed = await server.admin.get("/deployments")
            assert listed.json() == {"deployments": []}

    asyncio.run(run())


@contextlib.asynccontextmanager
async def http1_server(answer: bytes) -> AsyncIterator[str]:
    """A server that answers whatever comes with ``answer``, and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("endpoint", "status", "code", "reason"),
    [
        (Endpoint(status=404), 500, "META0003", "status 404 at /discover; is the app mounted"),
        (Endpoint(status=401), 500, "META0003", "expect another identity key?"),
        (Endpoint(status=302, location="http://127.0.0.1:1/"), 500, "META0003", "not followed"),
        (Endpoint(status=415), 500, "META0003", "it answered with status 415"),
        (Endpoint(GOOD, content_type=""), 500, "META0013", "found none"),
        (Endpoint(GOOD, content_type="application/json"), 500, "META0013", "found another one"),
        (Endpoint(b"{"), 500, "META0013", "the manifest: expected JSON"),
        (Endpoint(manifest(minProtocolVersion=8, maxProtocolVersion=8)), 500, "META0012", "8 to 8"),
        (Endpoint(manifest(minProtocolVersion=1, maxProtocolVersion=4)), 500, "META0012", "1 to 4"),
        (
            Endpoint(GOOD, x_restate_server="restate-sdk-typescript/1.2.9"),
            500, "META0012", "the endpoint 5 to 1",
        ),
        (Endpoint(manifest(service("restateful"))), 400, "META0005", "reserved"),
        (Endpoint(b" " * (5 << 20)), 500, "META0003", "larger than"),
    ],
)  # fmt: skip
def test_an_unusable_answer_is_explained(
    tmp_path: Path, endpoint: Endpoint, status: int, code: str, reason: str
) -> None:
    async def test(server: Up) -> None:
        async with endpoint.serve() as uri:
            found = refused(await server.register(uri))
            assert found[:2] == (status, code)
            assert found[2].startswith(f"[{code}] ")
            assert reason in found[2]
            if code == "META0003":
                assert f"error when calling '{uri}/': " in found[2]

    endpoint.requests.clear()
    on(tmp_path / "data", test)


def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    async def run() -> None:
        endpoint = Endpoint(GOOD)
        endpoint.replies = [Endpoint(status=status).reply for status in (503, 429, 500, 504)]
        async with up(tmp_path / "data") as server, endpoint.serve() as uri:
            assert (await server.register(uri)).status_code == 201
            assert len(endpoint.requests) == 5

    asyncio.run(run())


def test_it_is_tried_five_times_in_all(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        endpoint = Endpoint(status=502)
        async with endpoint.serve() as uri:
            found = refused(await server.register(uri))
            assert found[:2] == (500, "META0003")
            assert len(endpoint.requests) == 5

    on(tmp_path / "data", test)


def test_nobody_at_the_address(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        status, code, message = refused(await server.register("http://127.0.0.1:1"))
        assert (status, code) == (500, "META0003")
        assert message.startswith("[META0003] error when calling 'http://127.0.0.1:1/': ")

    on(tmp_path / "data", test)


def test_an_endpoint_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
            status, code, message = refused(await server.register(uri, use_http_11=True))
            assert (status, code) == (500, "META0003")
            assert "within 0.3 s ('deployments.discovery_timeout')" in message

    on(tmp_path / "data", test, discovery_timeout_ms=300)


def test_an_endpoint_that_speaks_http1_alone_is_told_apart(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        async with http1_server(answer) as uri:
            status, code, message = refused(await server.register(uri))
            assert (status, code) == (500, "META0014")
            assert '"use_http_11": true' in message

    on(tmp_path / "data", test)


def test_the_servers_own_ingress_is_no_endpoint(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        for use_http_11 in (False, True):
            over = await server.register(server.gateway.ingress_url, use_http_11=use_http_11)
            assert refused(over)[:2] == (500, "META0003")

    on(tmp_path / "data", test)


# ---- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("http1", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_no_connection_goes_to_an_address_that_is_denied(
    tmp_path: Path, host: str, http1: bool
) -> None:
    async def test(server: Up) -> None:
        touched: list[str] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            touched.append("connected")
            writer.close()

        canary = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with canary:
            port = canary.sockets[0].getsockname()[1]
            found = refused(await server.register(f"http://{host}:{port}", use_http_11=http1))
            assert found[:2] == (500, "META0003")
            # aiohttp has a refusal of its own for an unusual spelling
            assert "setting 'deployments.deny'" in found[2] or "canonical" in found[2]
        assert touched == []

    on(tmp_path / "data", test, deny=("127.0.0.0/8",), discovery_timeout_ms=5000)


def test_a_metadata_address_is_never_asked(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        found = refused(await server.register("http://169.254.169.254/latest"))
        assert found[:2] == (500, "META0003")
        assert "where clouds keep their metadata" in found[2]

    on(tmp_path / "data", test)


# ---- identity ------------------------------------------------------------------------------------


def test_discovery_is_signed_where_a_key_is_set(tmp_path: Path) -> None:
    import restate

    from tests.actors.remote.hypercorns import hypercorn

    key_file = tmp_path / "identity.pem"
    key_file.write_bytes(PEM)
    greeter = restate.Service("Greeter")

    @greeter.handler()
    async def greet(ctx: restate.Context, name: str) -> str:
        return name

    other = "publickeyv1_w7YHemBctH5Ck2nQRQ47iBBqhNHy4FV7t2Usbye2A6f"

    async def run() -> None:
        ours = restate.app(services=[greeter], identity_keys=[KEY_ID])
        theirs = restate.app(services=[greeter], identity_keys=[other])
        async with (
            up(tmp_path / "data", identity_key_file=str(key_file)) as server,
            hypercorn(ours) as good,
            hypercorn(theirs) as bad,
        ):
            assert (await server.register(good)).status_code == 201
            assert (await server.ingress.post("/Greeter/greet", json="Ada")).json() == "Ada"
            assert refused(await server.register(bad))[:2] == (500, "META0003")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"identity_key_file": os.devnull}, "is no key: expected one PEM block"),
        ({"identity_key_file": "/no/such/file"}, "cannot be read: No such file"),
        ({"tls_ca_file": os.devnull}, "has no certificate in PEM form"),
        ({"tls_ca_file": "/no/such/file"}, "cannot be read: No such file"),
        ({"allow": ("http://x",)}, "bad value for 'deployments.allow'"),
        ({"cluster_name": "a\r\nb: c"}, "expected visible ASCII"),
    ],
)
def test_settings_that_cannot_hold_are_refused_at_the_start(
    given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        Remote(Settings(deployments=Deployments(**given)))
