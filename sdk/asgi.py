"""An endpoint as an ASGI application: discovery, health, and one stream for each attempt.

Routes and refuses; what happens inside an attempt is in `stream.py`. Loaded by the first request, as
it brings the wire with it. Rules: service protocol 1, 2.1 to 2.4.
"""

import asyncio
import logging
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

import msgspec

from perdure.describe import describe
from perdure.endpoint import Endpoint
from perdure.entry_codec import JournalValueCodec
from perdure.hosting import Hosted
from perdure.journal.errors import UsageError
from perdure.journal.schema import Handler
from perdure.journal.wire.versions import NEWEST, OLDEST, content_type, version_of
from perdure.manifest import VERSIONS, manifest, negotiate
from perdure.manifest import content_type as manifest_type
from perdure.stream import HandlerStream, Receive, Send
from perdure.stream_input import StreamInput

_SERVER: Final = (b"x-restate-server", f"perdure/{version('perdure')}".encode())
_JSON: Final = (b"content-type", b"application/json")
_OLD_HTTP: Final = ("1.0", "1.1")
_HEALTHY: Final = b'{"status":"ok"}'

log = logging.getLogger("perdure.endpoint")


class Serving:
    """An endpoint that is being served. Raises UsageError where it has an identity key that is none."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._services = [describe(each) for each in endpoint.services.values()]
        self._handlers: dict[tuple[str, str], Handler] = {
            (service.name, name): handler
            for service in self._services
            for name, handler in service.handlers.items()
        }
        self._verify = None
        if endpoint.identity_keys:
            from perdure.identity import IdentityVerifier

            self._verify = IdentityVerifier(endpoint.identity_keys).verify
        self._hosted: Hosted | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that ``_hosted`` is for
        self._hosting = asyncio.Lock()
        self._streams: set[HandlerStream] = set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise UsageError(f"an endpoint speaks HTTP, not {scope['type']}")

    @property
    def running_count(self) -> int:
        """Attempts whose handler has not ended."""
        return 0 if self._hosted is None else self._hosted.running_count

    def drain(self) -> None:
        """Ask every handler that waits to suspend, before the server goes down."""
        for each in tuple(self._streams):
            each.close_input()

    def close(self) -> None:
        if self._hosted is not None:
            self._hosted.close()
            self._hosted = self._loop = None

    # ---- requests -------------------------------------------------------------------------------

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        path = normalized(scope["path"])
        if path == "/health":
            return await _answer(send, 200, _HEALTHY)
        if self._verify is not None:
            from perdure.identity import Unauthorized

            try:
                self._verify(_header_map(scope["headers"]), path)
            except Unauthorized as e:
                return await _refuse(receive, send, 401, str(e))
        if path == "/discover":
            await self._discover(scope, receive, send)
        elif (target := target_of(path)) is not None:
            await self._invoke(scope, target, receive, send)
        else:
            where = "/discover, /health and /invoke/SERVICE/HANDLER"
            await _refuse(receive, send, 404, f"no such path: an endpoint has {where}")

    async def _discover(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            return await _refuse(receive, send, 405, "discovery is a GET request", b"GET")
        accept = _header(scope, b"accept")
        wanted = negotiate(accept)
        if wanted is None:
            offered = ", ".join(manifest_type(each) for each in VERSIONS)
            text = f"cannot answer with {accept!r}; the header accept may name {offered}"
            return await _refuse(receive, send, 415, text)
        by_transport = "request_response" if scope["http_version"] in _OLD_HTTP else "bidi"
        mode: Any = self._endpoint.protocol or by_transport
        try:
            body = manifest(self._services, wanted, mode)
        except UsageError as e:
            return await _refuse(receive, send, 500, str(e))
        self._warn_of_schedules()
        await _answer(send, 200, body, manifest_type(wanted).encode())

    def _warn_of_schedules(self) -> None:
        """A manifest can't tell of them, so whoever discovers this endpoint would never run them."""
        names = [
            schedule.name
            for service in self._endpoint.services.values()
            for handler in service.handlers.values()
            for schedule in handler.schedules
        ]
        if names:
            log.warning(
                "schedules that are declared here run only in the engine's own process; create them "
                "at the server, with 'perdure schedules create': %s",
                ", ".join(names),
            )

    async def _invoke(
        self, scope: Any, target: tuple[str, str], receive: Receive, send: Send
    ) -> None:
        if scope["method"] != "POST":
            return await _refuse(receive, send, 405, "an invocation is a POST request", b"POST")
        handler = self._handlers.get(target)
        if handler is None:
            return await _refuse(receive, send, 404, self._unknown(*target))
        given = _header(scope, b"content-type")
        spoken = None if given is None else version_of(given)
        if spoken is None:
            known = f"{content_type(OLDEST)} to {content_type(NEWEST)}"
            text = f"cannot read {given!r}; the content-type of an invocation is one of {known}"
            return await _refuse(receive, send, 415, text)
        hosted = self._hosted
        if hosted is None or self._loop is not asyncio.get_running_loop():
            hosted = await self._host()
        head = [(b"content-type", content_type(spoken).encode()), _SERVER]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        reading = StreamInput(handler, spoken)
        stream = HandlerStream(hosted, reading, spoken, scope["headers"], receive, send)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    def _unknown(self, service: str, handler: str) -> str:
        for each in self._services:
            if each.name == service:
                has = ", ".join(each.handlers)
                return f"service '{service}' has no handler '{handler}', only {has}"
        served = ", ".join(each.name for each in self._services) or "none"
        return f"service '{service}' is not served here; this endpoint serves {served}"

    # ---- life -----------------------------------------------------------------------------------

    async def _host(self) -> Hosted:
        """The handlers, ready on the running loop; the codec's provider is asked once for each loop."""
        async with self._hosting:
            loop = asyncio.get_running_loop()
            if self._hosted is None or self._loop is not loop:
                self.close()
                codec = self._endpoint.journal_value_codec
                if codec is not None and not isinstance(codec, JournalValueCodec):
                    codec = await codec()
                self._hosted = Hosted(self._endpoint.services.values(), codec=codec)
                self._loop = loop
            return self._hosted

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif event["type"] == "lifespan.shutdown":
                self.close()
                return await send({"type": "lifespan.shutdown.complete"})


def normalized(path: str) -> str:
    """``path`` without whatever it is mounted under: its last ``/invoke/x/y``, ``/discover`` or
    ``/health``; anything else as it is."""
    target = target_of(path)
    if target is not None:
        return f"/invoke/{target[0]}/{target[1]}"
    last = path.rpartition("/")[2]
    return f"/{last}" if last in ("discover", "health") else path


def target_of(path: str) -> tuple[str, str] | None:
    """Service and handler, where ``path`` ends with ``/invoke/SERVICE/HANDLER``."""
    parts = path.rsplit("/", 3)
    if len(parts) == 4 and parts[1] == "invoke" and parts[2] and parts[3]:
        return parts[2], parts[3]
    return None


def _header(scope: Any, name: bytes) -> str | None:
    for each, value in scope["headers"]:
        if each.lower() == name:
            return str(value.decode("latin-1"))
    return None


def _header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


async def _answer(send: Send, status: int, body: bytes, type: bytes = b"application/json") -> None:
    headers = [
        (b"content-type", type),
        (b"content-length", str(len(body)).encode()),
        _SERVER,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _refuse(
    receive: Receive, send: Send, status: int, text: str, allow: bytes | None = None
) -> None:
    """Say why at once, and end the response when the request has ended: a server that streams ends its
    request only when it sees the status, and would take an earlier end for a broken stream."""
    log.warning("refused a request: %d %s", status, text)
    headers = [_JSON, _SERVER]
    if allow is not None:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    body = msgspec.json.encode({"message": text})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        if not event.get("more_body", False):
            break
    await send({"type": "http.response.body", "body": b"", "more_body": False})
