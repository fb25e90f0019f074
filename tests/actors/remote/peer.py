"""A hand-written deployment that plays scripts, as an ASGI app.

A script is one attempt from the peer's side: it reads and sends whatever frames it likes, whenever.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Combinator,
    Ended,
    Failed,
    ProposeRun,
    Suspended,
)
from perdure.journal.entries import (
    Command,
    Output,
    Value,
)
from perdure.journal.wire.commands import command_frame
from perdure.journal.wire.control import StartMessage, control_frame, read_start
from perdure.journal.wire.frames import FrameReader, RawFrame
from perdure.journal.wire.notifications import is_notification_type, read_notification
from perdure.journal.wire.versions import content_type, version_of

Script = Callable[["Exchange"], Awaitable[None]]

OK = b'"ok"'
CANCEL_INDEX = 1
_LIMIT_BYTES = 1 << 30


def on(*completions: int, signals: tuple[int | str, ...] = ()) -> Awaiting:
    """Whichever of these comes first."""
    return Awaiting(Combinator.FIRST_COMPLETED, completions, signals)


# ---- the peer -----------------------------------------------------------------------------------


class Exchange:
    """One attempt, as the peer sees it. ``heard``: every frame of the request that was read so far."""

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope = scope
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.version = version_of(self.headers["content-type"]) or 0
        self.heard: list[RawFrame] = []
        self.start: StartMessage
        self.replay: list[RawFrame] = []
        self.is_disconnected = False
        self._receive = receive
        self._send = send
        self._reader = FrameReader(_LIMIT_BYTES)
        self._frames: deque[RawFrame] = deque()
        self._has_more = True

    async def read(self) -> RawFrame | None:
        """The next frame of the request; None at its end."""
        while not self._frames and self._has_more:
            message = await self._receive()
            self.is_disconnected = message["type"] == "http.disconnect"
            self._has_more = not self.is_disconnected and message.get("more_body", False)
            self._frames += self._reader.feed(message.get("body", b""))
        if not self._frames:
            return None
        self.heard.append(self._frames.popleft())
        return self.heard[-1]

    async def read_all(self) -> list[RawFrame]:
        """Whatever comes until the request ends."""
        frames = []
        while (raw := await self.read()) is not None:
            frames.append(raw)
        return frames

    async def begin(self, head: bool = True) -> "Exchange":
        """Read the start and what it announces, then answer 200."""
        raw = await self.read()
        assert raw is not None, "the request has no start"
        self.start = read_start(raw)
        for _ in range(self.start.known_entry_count):
            raw = await self.read()
            assert raw is not None, "the request ended within the replay"
            self.replay.append(raw)
        if head:
            await self.head()
        return self

    async def head(
        self, status: int = 200, kind: str | None = None, *headers: tuple[str, str]
    ) -> None:
        """``kind``: the content type; the right one where it is None, none where it is empty."""
        if kind is None:
            kind = content_type(self.version)
        pairs = ((("content-type", kind),) if kind else ()) + headers
        raw = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def raw(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def say(self, *frames: Command | ProposeRun | Suspended | Ended | Failed | Any) -> None:
        """Several frames at once."""
        await self.raw(b"".join(encode(each, self.version) for each in frames))

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def finish(self, *frames: Any) -> None:
        """Last frames; then wait for the end of the request, as SDKs do, and end."""
        await self.say(*frames)
        await self.read_all()
        await self.end()

    async def answer(self, content: bytes = OK) -> None:
        await self.finish(Output(Value(content)), Ended())


def encode(frame: Any, version: int) -> bytes:
    if isinstance(frame, bytes):
        return frame
    if isinstance(frame, ProposeRun | AwaitingOn | Suspended | Ended | Failed):
        return control_frame(frame, version)
    return command_frame(frame)


def suspended(awaiting: Awaiting) -> Suspended:
    return Suspended(awaiting, 0)


async def healthy(x: Exchange) -> None:
    await x.begin()
    await x.answer()


async def silent(x: Exchange) -> None:
    """Never says anything, not even a status."""
    await asyncio.get_running_loop().create_future()


class Peer:
    """The ASGI app. Scripts are taken one an attempt, by handler; then every attempt is ``default``."""

    def __init__(self) -> None:
        self.default: Script = healthy
        self.scripts: dict[str, deque[Script]] = defaultdict(deque)
        self.exchanges: dict[str, list[Exchange]] = defaultdict(list)

    def will(self, target: str, *scripts: Script) -> None:
        self.scripts[target] += scripts

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("this app has no lifespan")
        target = scope["path"].removeprefix("/invoke/")
        exchange = Exchange(scope, receive, send)
        self.exchanges[target].append(exchange)
        scripts = self.scripts[target]
        script = scripts.popleft() if scripts else self.default
        await (healthy if target == "Thing/probe" else script)(exchange)


# ---- for scripts --------------------------------------------------------------------------------


def says(*frames: Any) -> Script:
    """Begins, says these, and waits for the end of the request."""

    async def script(x: Exchange) -> None:
        await x.begin()
        await x.finish(*frames)

    return script


async def hears(x: Exchange) -> Any:
    """The next notification."""
    raw = await x.read()
    assert raw is not None, "the request ended"
    return read_notification(raw)


def notifications(frames: list[RawFrame]) -> list[Any]:
    """Those among ``frames``, decoded."""
    return [read_notification(each) for each in frames if is_notification_type(each.type)]
