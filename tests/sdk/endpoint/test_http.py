"""The endpoint as an HTTP application: paths, statuses, content types, life."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import perdure
from perdure.asgi import Serving, normalized
from perdure.endpoint import App
from perdure.entry_codec import JournalValueCodec
from perdure.journal.attempt import Ended
from perdure.journal.entries import Input, Output, Value
from perdure.journal.errors import UsageError
from tests.sdk.endpoint.peer import Peer, begin

service = perdure.Service("Greeter")
app = perdure.app([service])


@service.handler()
async def greet(ctx: perdure.Context, name: str) -> str:
    return f"hello {name}"


def answer(served: App, method: str, path: str, **options: Any) -> Peer:
    """A request without frames, ended at once."""

    async def scenario() -> Peer:
        peer = Peer(served, path, method=method, **options).open()
        peer.end()
        await peer.done()
        assert peer.is_over
        assert peer.headers["x-restate-server"] == f"perdure/{_version()}"
        return peer

    return asyncio.run(scenario())


def _version() -> str:
    from importlib.metadata import version

    return version("perdure")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/discover", "/discover"),
        ("/a/b/c/d/discover", "/discover"),
        ("/invoke/S/h", "/invoke/S/h"),
        ("/mount/invoke/S/h", "/invoke/S/h"),
        ("/invoke/invoke/invoke/h", "/invoke/invoke/h"),
        ("/x/health", "/health"),
        ("/invoke/S/discover", "/invoke/S/discover"),
        ("/invoke/S", "/invoke/S"),
        ("/invoke//h", "/invoke//h"),
        ("/", "/"),
    ],
)
def test_a_path_counts_from_where_the_endpoint_is_mounted(path: str, found: str) -> None:
    assert normalized(path) == found


def test_health_needs_no_signature() -> None:
    signed = perdure.app(
        [service], identity_keys=["publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"]
    )
    for each in (app, signed):
        peer = answer(each, "GET", "/health")
        assert (peer.status, peer.body) == (200, b'{"status":"ok"}')
        assert peer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "why"),
    [
        ("POST", "/invoke/Nobody/greet", 404, "service 'Nobody' is not served here"),
        ("POST", "/invoke/Greeter/wave", 404, "no handler 'wave', only greet"),
        ("GET", "/", 404, "no such path"),
        ("POST", "/invoke/Greeter", 404, "no such path"),
        ("POST", "/invoke/Greeter/greet/more", 404, "no such path"),
        ("GET", "/invoke/Greeter/greet", 405, "POST"),
        ("POST", "/discover", 405, "GET"),
    ],
)
def test_what_is_not_there_is_answered_as_json(
    method: str, path: str, status: int, why: str
) -> None:
    peer = answer(app, method, path)
    assert peer.status == status
    assert peer.headers["content-type"] == "application/json"
    assert why in json.loads(peer.body)["message"]


@pytest.mark.parametrize(
    "type",
    [
        "application/vnd.restate.invocation.v4",
        "application/vnd.restate.invocation.v8",
        "application/json",
        None,
    ],
)
def test_a_version_that_is_not_spoken_is_an_unsupported_media_type(type: str | None) -> None:
    headers = {} if type is None else {"content-type": type}
    peer = answer(app, "POST", "/invoke/Greeter/greet", headers=headers)
    assert peer.status == 415
    assert "invocation.v5 to" in json.loads(peer.body)["message"]


def test_a_refusal_is_told_at_once_and_ends_when_the_request_has_ended() -> None:
    async def scenario() -> None:
        peer = Peer(app, "/invoke/Nobody/greet").open()
        peer.write(b"x" * 100)
        while not peer.body:
            await asyncio.sleep(0)
        assert peer.status == 404
        assert not peer.is_over
        peer.write(b"x" * 100)
        peer.end()
        await peer.done()
        assert peer.is_over

    asyncio.run(scenario())


# ---- life ---------------------------------------------------------------------------------------


def lifespan(serving: Callable[..., Awaitable[None]]) -> list[str]:
    told: list[str] = []
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(events)

    async def send(event: Any) -> None:
        told.append(event["type"])

    async def scenario() -> None:
        await serving({"type": "lifespan"}, receive, send)

    asyncio.run(scenario())
    return told


def test_an_endpoint_starts_and_stops_with_its_server() -> None:
    assert lifespan(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_bad_identity_key_keeps_the_endpoint_from_starting() -> None:
    broken = perdure.app([service], identity_keys=["k"])
    assert lifespan(broken) == ["lifespan.startup.failed"]
    with pytest.raises(UsageError, match="bad identity key 'k'"):
        answer(broken, "GET", "/health")


def test_an_app_serves_on_one_loop_after_the_other() -> None:
    async def scenario() -> Output:
        peer = begin(app, service, "greet", entries=[Input((), b'"Ada"')])
        output: Output = await peer.take(Output)
        await peer.take(Ended)
        await peer.finish()
        return output

    assert asyncio.run(scenario()) == asyncio.run(scenario()) == Output(Value(b'"hello Ada"'))


def test_a_websocket_is_refused() -> None:
    async def nothing(*_: Any) -> None:
        return None

    with pytest.raises(UsageError, match="speaks HTTP"):
        asyncio.run(Serving(app.endpoint)({"type": "websocket"}, nothing, nothing))


# ---- codec --------------------------------------------------------------------------------------


class Reversed(JournalValueCodec):
    def encode(self, buf: bytes) -> bytes:
        return buf[::-1]

    async def decode(self, buf: bytes) -> bytes:
        return buf[::-1]


def test_a_codec_is_made_once_and_sees_input_and_output() -> None:
    made: list[Reversed] = []

    async def provider() -> Reversed:
        made.append(Reversed())
        return made[-1]

    coded = perdure.app([service], journal_value_codec=provider)

    async def scenario() -> None:
        peers = [begin(coded, service, "greet", entries=[Input((), b'"adA"')]) for _ in range(3)]
        for peer in peers:
            assert await peer.take(Output) == Output(Value(b'"adA olleh"'))
            await peer.take(Ended)
            await peer.finish()

    asyncio.run(scenario())
    assert len(made) == 1


def test_importing_perdure_loads_nothing_of_the_wire() -> None:
    code = (
        "import sys, perdure; app = perdure.app([]); heavy = ('google', 'jwt', 'cryptography', 'h2',"
        " 'perdure.asgi', 'perdure.journal.wire'); sys.exit(any(h in sys.modules for h in heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
