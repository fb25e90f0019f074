"""What the ways through HTTP that are not aiohttp's share: a connection that its server counts and sweeps."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeAlias, cast

from perdure.gateway.http_request import HttpRequest
from perdure.gateway.settings import Ingress
from perdure.gateway.wire import Reply

GIVE_UP_S: Final = 10.0  # what nobody waits for any more keeps its place for so long

Answer: TypeAlias = Callable[[HttpRequest], Coroutine[Any, Any, Reply]]


class Home(Protocol):
    """The server that a connection belongs to."""

    is_draining: bool

    def came(self, connection: "Way", transport: asyncio.Transport) -> None: ...

    def went(self, connection: "Way") -> None: ...

    def long_way(self) -> asyncio.Protocol:
        """A connection that takes everything of HTTP/1."""

    def http2_way(self) -> asyncio.Protocol:
        """A connection that takes HTTP/2 from its first bytes."""


class Way(asyncio.Protocol, ABC):
    """One connection to ``home``. ``served``: requests that were answered."""

    __slots__ = (
        "_answer",
        "_gone",
        "_home",
        "_idle_since_s",
        "_loop",
        "_over",
        "_transport",
        "peer",
        "served",
    )

    def __init__(self, home: Home, answer: Answer) -> None:
        self._loop = asyncio.get_running_loop()
        self._home = home
        self._answer = answer
        self._transport: asyncio.Transport | None = None
        self._over: asyncio.Future[None] | None = (
            None  # who waits for answers that are on their way
        )
        self._gone: asyncio.Future[None] | None = None  # who waits for the end of the connection
        self._idle_since_s = self._loop.time()
        self.served = 0
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._home.came(self, self._transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """What is being answered goes on; nobody hears the answer."""
        if self._transport is not None:
            self._transport = None
            self._home.went(self)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def _has_answered(self) -> None:
        """The last answer that was on its way."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def _wait_for_answers(self, timeout_s: float) -> None:
        if self.active:
            self._over = self._loop.create_future()
            await asyncio.wait([self._over], timeout=timeout_s)

    async def _wait_until_gone(self, timeout_s: float) -> None:
        """The connection is closing: let its client take what is on its way, then cut it."""
        if self._transport is not None:
            self._gone = self._loop.create_future()
            await asyncio.wait([self._gone], timeout=max(timeout_s, 0.0))
            self.abort()

    # ---- from the server

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether a request is being answered."""

    @property
    def unread_bytes(self) -> int:
        """What the client has not taken of its answers."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @abstractmethod
    def sweep(self, now: float, settings: Ingress) -> None:
        """Called about once a second: end what has used up its time."""

    @abstractmethod
    def close(self) -> None:
        """Once what is being answered has its answer."""

    def leave(self) -> None:
        """The server stops."""
        self.close()

    @abstractmethod
    def give_up(self) -> None:
        """Stop waiting for what nobody wants to hear; calls that were accepted go on."""

    @abstractmethod
    async def shutdown(self, timeout_s: float) -> None:
        """Wait for answers that are on their way, then cut them: the calls go on."""
