"""A server of the service protocol for one request to an endpoint: hands it frames, and reads what it says.

Plays ASGI's other side in memory. What it writes may be cut anywhere; what it reads is decoded.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, TypeGuard

from perdure.asgi import Serving
from perdure.definition import Definition
from perdure.describe import describe
from perdure.endpoint import App
from perdure.journal import ids
from perdure.journal.attempt import (
    AwaitingOn,
    Ended,
    Failed,
    ProposeRun,
    Start,
    Suspended,
)
from perdure.journal.entries import (
    Command,
    Completion,
    Entry,
    Input,
    InvocationId,
    Notification,
    Signal,
    StateKeys,
    Void,
)
from perdure.journal.wire.commands import (
    command_frame,
    completion_types,
    is_command_type,
    read_command,
)
from perdure.journal.wire.control import read_control, run_ack_frame, start_frame
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame
from perdure.journal.wire.notifications import notification_frame
from perdure.journal.wire.versions import content_type

RAW_ID = bytes(range(1, 25))
INVOCATION = ids.format_invocation_id(RAW_ID)
CALLEE = ids.format_invocation_id(bytes(range(2, 26)))
LIMIT_S = 5
ACKS_SINCE = 7

Said = Command | ProposeRun | AwaitingOn | Ended | Suspended | Failed


class Peer:
    """One request. ``said``: the frames that were read by ``next`` so far."""

    def __init__(
        self,
        app: App | Serving,
        path: str,
        version: int = 7,
        *,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        http_version: str = "2",
    ) -> None:
        self.version = version
        given = {"content-type": content_type(version)} if headers is None else headers
        self.scope = {
            "type": "http",
            "http_version": http_version,
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        self._app = app
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said: asyncio.Queue[RawFrame] = asyncio.Queue()
        self._reader = FrameReader(1 << 30)
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.bursts: list[bytes] = []
        self.is_over = False
        self.is_broken = False  # from now on the connection takes nothing
        self.said: list[Said] = []
        self._commands: list[Command] = []
        self.task: asyncio.Task[None] | None = None

    # ---- to the endpoint ------------------------------------------------------------------------

    def open(self) -> "Peer":
        self.task = asyncio.get_running_loop().create_task(
            self._app(self.scope, self._to_app.get, self._send)
        )
        return self

    def write(self, data: bytes) -> None:
        self._to_app.put_nowait({"type": "http.request", "body": data, "more_body": True})

    def end(self) -> None:
        self._to_app.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    def disconnect(self) -> None:
        self._to_app.put_nowait({"type": "http.disconnect"})

    def notify(self, *notifications: Notification) -> None:
        self.write(b"".join(self.notification(each) for each in notifications))

    def notification(self, notification: Notification) -> bytes:
        """The type of a completion is that of the command it answers."""
        return notification_frame(notification, self._type(notification), self.version)

    def _type(self, notification: Notification) -> int:
        if isinstance(notification, Signal):
            return 0
        for each in (*self._commands, *filter(is_command, self.said)):
            for completion_id, answer in completion_types(each):
                if completion_id == notification.completion_id:
                    return answer
        result = notification.result
        fallback: dict[type, int] = {
            InvocationId: FrameType.CALL_INVOCATION_ID_COMPLETION,
            StateKeys: FrameType.GET_LAZY_STATE_KEYS_COMPLETION,
            Void: FrameType.SLEEP_COMPLETION,
        }
        return fallback.get(type(result), FrameType.CALL_COMPLETION)

    def start_data(
        self, service: Definition, handler: str, entries: Iterable[Entry] = (), **options: Any
    ) -> bytes:
        """The start message and the journal behind it."""
        start = start_of(service, handler, entries, **options)
        return start_frame(start, self.version) + self.entries(start.entries)

    def entries(self, entries: Iterable[Entry]) -> bytes:
        """Frames of a journal."""
        data = b""
        for each in entries:
            if isinstance(each, Completion | Signal):
                data += self.notification(each)
            else:
                data += command_frame(each)
                self._commands.append(each)  # type: ignore[arg-type]
        return data

    def acknowledge(self, proposal: ProposeRun) -> None:
        """The result of a run is durable: an ack from V7 on, all of it before."""
        if self.version >= ACKS_SINCE:
            return self.write(run_ack_frame(proposal.completion_id))
        self.notify(Completion(proposal.completion_id, proposal.result))

    # ---- from the endpoint ----------------------------------------------------------------------

    async def _send(self, event: dict[str, Any]) -> None:
        assert not self.is_over, "something came after the end of the response"
        if self.is_broken:
            raise BrokenPipeError
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = {name.decode(): value.decode() for name, value in event["headers"]}
            return
        assert self.status is not None, "a body came before the status"
        data = event.get("body", b"")
        if data:
            self.body += data
            self.bursts.append(data)
            if self.headers.get("content-type", "").startswith(
                "application/vnd.restate.invocation"
            ):
                for raw in self._reader.feed(data):
                    self._said.put_nowait(raw)
        self.is_over = not event.get("more_body", False)

    async def next_raw(self) -> RawFrame:
        return await asyncio.wait_for(self._said.get(), LIMIT_S)

    async def next(self) -> Said:
        raw = await self.next_raw()
        if is_command_type(raw.type):
            said: Any = read_command(raw)
        else:
            said = read_control(raw, self.version)
        self.said.append(said)
        return said  # type: ignore[no-any-return]

    async def take(self, kind: type) -> Any:
        """The next frame, which must be of this kind; what is awaited is passed over."""
        said = await self.next()
        while isinstance(said, AwaitingOn) and kind is not AwaitingOn:
            said = await self.next()
        assert isinstance(said, kind), said
        return said

    async def done(self) -> None:
        """The endpoint has ended the response and returned."""
        assert self.task is not None
        await asyncio.wait_for(self.task, LIMIT_S)

    async def finish(self) -> None:
        """End the request, as a server does that saw a last frame."""
        self.end()
        await self.done()
        assert self.is_over
        assert self._said.empty(), "more was said than was read"


def is_command(said: object) -> TypeGuard[Command]:
    return not isinstance(said, ProposeRun | AwaitingOn | Ended | Suspended | Failed)


def start_of(
    service: Definition,
    handler: str,
    entries: Iterable[Entry] = (),
    *,
    key: str = "k",
    state: dict[str, bytes] | None = None,
    random_seed: int = 42,
    **more: Any,
) -> Start:
    """``entries`` empty: just an Input without a body. ``state`` None: nothing is known of it."""
    described = describe(service).handlers[handler]
    return Start(
        id=RAW_ID,
        attempt=1,
        handler=described,
        key=key if described.keyed else "",
        entries=tuple(entries) or (Input((), b""),),
        state=state or {},
        state_complete=state is not None,
        random_seed=random_seed,
        **more,
    )


def begin(app: App, service: Definition, handler: str, version: int = 7, **options: Any) -> Peer:
    """An attempt whose start and journal are written in one piece."""
    peer = Peer(app, f"/invoke/{service.name}/{handler}", version).open()
    peer.write(peer.start_data(service, handler, **options))
    return peer
