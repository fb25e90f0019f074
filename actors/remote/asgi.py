"""The transport to an ASGI app in this process: an exchange is one call of the app, without sockets.

The app speaks ASGI 3 and sees HTTP/2, full duplex. Its lifespan is in ``lifespan.py``. Nothing here knows
what the bytes mean. What the app sends is given to the receiver in batches, a turn of the loop later.
"""

import asyncio
import contextvars
import logging
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

from perdure.actors.remote.gate import RunWatch
from perdure.actors.remote.lifespan import AsgiApp, Lifespan
from perdure.actors.remote.port import Headers, HttpRequest, Receiver, TransportFailed

log = logging.getLogger("perdure.asgi")

LOW_WATER_BYTES: Final = 64 * 1024  # port.Receiver.on_writable
_SEND_LIMIT_BYTES: Final = 64 * 1024  # `send` waits while more than this is not delivered yet
_QUIET_TURNS: Final = 4  # of the loop, without anything new
_MAX_TURNS: Final = 12
_CLOSE_TIMEOUT_S: Final = 5.0  # how long an app may take to end after it was cancelled
_VERSION: Final = {"version": "3.0", "spec_version": "2.4"}
_DISCONNECT: Final = "http.disconnect"


class AsgiTransport:
    """The way to one app. All exchanges and ``close`` belong to one loop.

    ``path``: of the deployment within the app, without a slash at its end.
    """

    def __init__(self, app: AsgiApp, *, path: str = "", gates_runs: bool = True) -> None:
        self._app = app
        self._path = path
        self.gates_runs = gates_runs
        self._lifespan = Lifespan(app)
        self._context = contextvars.copy_context()  # an app sees nothing of the caller of `open`
        self._open: dict[AsgiStream, asyncio.Task[None]] = {}
        self._is_closed = False

    def open(self, request: HttpRequest, receiver: Receiver) -> "AsgiStream":
        loop = asyncio.get_running_loop()
        stream = AsgiStream(loop, self._context, receiver, self.gates_runs)
        if self._is_closed:
            stream.fail(TransportFailed("the transport to the app is closed"))
            return stream
        task = loop.create_task(self._run(request, stream), context=self._context.copy())
        stream.task = self._open[stream] = task
        return stream

    async def drained(self) -> None:
        while self._open:
            await asyncio.wait(self._open.values())

    async def close(self) -> None:
        """Cancel what is open, wait for it, then tell the app to shut down. Idempotent."""
        self._is_closed = True
        tasks = list(self._open.values())
        for stream in list(self._open):
            stream.abort()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
            if late:
                log.warning(
                    "%d calls of an app go on %.0f s after they were cancelled; "
                    "something in it swallows CancelledError",
                    len(late),
                    _CLOSE_TIMEOUT_S,
                )
        await self._lifespan.shutdown()

    async def _run(self, request: HttpRequest, stream: "AsgiStream") -> None:
        stream.is_started = True
        try:
            if stream.is_aborted:
                return
            if not self._lifespan.is_started:
                await self._lifespan.startup()
            scope = _scope(request, self._path + request.path, self._lifespan.state)
            await self._app(scope, stream.app_receive, stream.app_send)
            stream.app_returned()
        except asyncio.CancelledError:
            stream.fail(TransportFailed("the app's task was cancelled"))
            raise
        except TransportFailed as error:
            stream.fail(error)
        except (Exception, SystemExit) as error:  # a handler may call sys.exit; the runtime goes on
            if stream.is_aborted:
                log.debug(
                    "an app ended with an error after its exchange was aborted", exc_info=True
                )
            else:
                log.exception("an app failed at %s %s", request.method, request.path)
                name = type(error).__name__
                stream.fail(TransportFailed(f"the app failed with {name}: {error}"))
        finally:
            del self._open[stream]


class AsgiStream:
    """One call of the app: the runtime's side (``port.Stream``) and the app's side (``app_...``)."""

    __slots__ = (
        "_chunks", "_context", "_end", "_has_head", "_has_run", "_head", "_input", "_input_bytes",
        "_is_closed",
        "_is_ended", "_is_flushing", "_is_over", "_is_paused", "_is_told", "_loop", "_queued_bytes",
        "_receiver", "_room", "_runs", "_waiters", "is_aborted", "is_started", "task",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        receiver: Receiver,
        gates_runs: bool,
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self.is_started = False
        self.is_aborted = False
        self._loop = loop
        self._context = context
        self._receiver = receiver
        # towards the app
        self._input: list[bytes] = []
        self._input_bytes = 0
        self._is_closed = False  # no more input comes
        self._is_told = False  # and the app knows
        self._waiters: list[asyncio.Future[None]] = []  # the app in `receive`
        # from the app, in this order
        self._head: tuple[int, Headers] | None = None
        self._chunks: list[bytes] = []
        self._queued_bytes = 0
        self._end: TransportFailed | bool = False  # True: the response is complete
        self._has_head = False
        self._runs = RunWatch() if gates_runs else None
        self._has_run = False  # what was sent has a run command; the app waits for `open_gate`
        self._is_ended = False  # the app may send no more
        self._is_flushing = False
        self._is_paused = False
        self._is_over = False  # the receiver hears nothing any more
        self._room: asyncio.Event | None = None  # the app in `send`

    # The runtime's side.

    @property
    def buffered_bytes(self) -> int:
        return self._input_bytes

    def write(self, data: bytes) -> None:
        if data and not (self._is_closed or self._is_ended):
            self._input.append(data)
            self._input_bytes += len(data)
            if self._waiters:
                self._wake()

    def close_input(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self._waiters:
                self._wake()

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._schedule()

    def open_gate(self) -> None:
        if self._has_run and not self._chunks:  # what came since is still to be delivered
            self._has_run = False
            self._make_room()

    def abort(self) -> None:
        if self._is_over:
            return
        self._is_over = self._is_ended = self.is_aborted = True
        if self.is_started and self.task is not None:
            self.task.cancel()  # one that was not started would end without its clean-up
            self._loop.call_soon(self._drop)  # a wake-up in the same turn would swallow the cancel
        else:
            self._drop()

    # The app's side.

    async def app_receive(self) -> dict[str, Any]:
        """The input that is there as one message; ``http.disconnect`` once the exchange is over."""
        while True:
            if self._is_ended:
                return {"type": _DISCONNECT}
            if self._input or (self._is_closed and not self._is_told):
                return self._take_input()
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def app_send(self, message: dict[str, Any]) -> None:
        """Take a message; waits while the receiver is behind.

        After an abort: the app was cancelled, and is so again if it went on (the official SDK does, and
        would log any error).
        """
        if self._is_ended:
            if self.is_aborted:
                raise asyncio.CancelledError("the exchange was aborted")
            raise RuntimeError(f"{message['type']} came after the end of the response")
        match message["type"]:
            case "http.response.body":
                self._take_body(message)
            case "http.response.start":
                self._take_start(message)
            case "http.response.trailers":
                return
            case other:
                raise RuntimeError(f"expected http.response.start or .body, the app sent {other}")
        self._schedule()
        while (
            self._has_run or self._queued_bytes > _SEND_LIMIT_BYTES or self._is_paused
        ) and not self._is_over:
            if self._room is None:
                self._room = asyncio.Event()
            await self._room.wait()

    def app_returned(self) -> None:
        if not self._is_ended:
            what = "complete its response" if self._has_head else "begin a response"
            self.fail(TransportFailed(f"the app returned but did not {what}"))

    def fail(self, error: TransportFailed) -> None:
        """End with this error, behind what was sent before it. Nothing where it has ended already."""
        if self._is_ended:
            return
        self._end = error
        self._is_ended = True
        self._wake()
        self._schedule()

    def _take_input(self) -> dict[str, Any]:
        parts = self._input
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        was_high = self._input_bytes > LOW_WATER_BYTES
        self._input = []
        self._input_bytes = 0
        self._is_told = self._is_closed
        if was_high:
            self._loop.call_soon(self._tell_writable, context=self._context)
        return {"type": "http.request", "body": body, "more_body": not self._is_closed}

    def _take_start(self, message: dict[str, Any]) -> None:
        if self._has_head:
            raise RuntimeError("http.response.start came twice")
        self._has_head = True
        self._head = (message["status"], _headers(message.get("headers", ())))

    def _take_body(self, message: dict[str, Any]) -> None:
        if not self._has_head:
            raise RuntimeError("http.response.body came before http.response.start")
        body = message.get("body")
        if body:
            self._chunks.append(body if type(body) is bytes else bytes(body))
            self._queued_bytes += len(body)
            if self._runs is not None and self._runs.has_run(self._chunks[-1]):
                self._has_run = True
        if not message.get("more_body", False):
            self._end = True
            self._is_ended = True
            self._wake()

    # Towards the receiver.

    def _schedule(self) -> None:
        if not self._is_flushing and not self._is_over:
            self._is_flushing = True
            self._loop.call_soon(self._settle, 0, 0, self._queued_bytes, context=self._context)

    def _settle(self, turns: int, quiet: int, seen_bytes: int) -> None:
        """Flush once the app has been quiet for a few turns of the loop: what a handler does without
        waiting for us is one burst."""
        if self._queued_bytes != seen_bytes:
            quiet = 0
        if quiet == _QUIET_TURNS or turns == _MAX_TURNS or self._is_ended or self._has_run:
            return self._flush()
        self._loop.call_soon(
            self._settle, turns + 1, quiet + 1, self._queued_bytes, context=self._context
        )

    def _flush(self) -> None:
        self._is_flushing = False
        if self._head is not None and not self._is_over:
            (status, headers), self._head = self._head, None
            self._receiver.on_head(status, headers)
        if self._chunks and not (self._is_over or self._is_paused):
            chunks, self._chunks = self._chunks, []
            self._queued_bytes = 0
            self._receiver.on_data(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if self._is_over or self._is_paused:
            return
        if self._end is not False:
            self._is_over = True
            self._drop()
            if self._end is True:
                self._receiver.on_end()
            else:
                self._receiver.on_failed(self._end)
        elif self._room is not None:
            self._make_room()

    def _tell_writable(self) -> None:
        if not self._is_ended:
            self._receiver.on_writable()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for each in waiters:
            if not each.done():
                each.set_result(None)

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def _drop(self) -> None:
        """Forget what nobody will read, and let the app see that."""
        self._input = []
        self._input_bytes = 0
        self._chunks = []
        self._queued_bytes = 0
        self._head = None
        self._wake()
        self._make_room()


def _scope(request: HttpRequest, path: str, state: dict[str, Any] | None) -> dict[str, Any]:
    raw_path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": _VERSION,
        "http_version": "2",
        "method": request.method,
        "scheme": "http",
        "path": unquote(raw_path) if "%" in raw_path else raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in request.headers],
        "client": None,
        "server": None,
        "extensions": {},
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    return tuple([(n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in pairs])
