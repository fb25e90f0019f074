"""The connecting end: keeps one connection to a process that may die and come back elsewhere.

It connects again and again, to wherever the peer was last introduced. What is said is not its matter.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from perdure.actors.plane.connection import Connection
from perdure.actors.plane.messages import MAGIC, VERSION, Hello, Message, Unwelcome, Welcome
from perdure.actors.plane.options import Introduction, PlaneOptions
from perdure.actors.plane.sockets import address_of
from perdure.journal.errors import ProtocolError

log = logging.getLogger("perdure.plane")


class Talk(Protocol):
    """Who speaks over the connection."""

    def connected(self, connection: "Outgoing") -> None: ...

    def received(self, message: Message) -> None:
        """Raises ProtocolError."""

    def writable(self) -> None: ...

    def disconnected(self, reason: str) -> None:
        """Only after ``connected``."""


class Outgoing(Connection):
    """A connection that we made. ``over`` is set when it has ended."""

    def __init__(self, talk: Talk, hello: Hello, options: PlaneOptions) -> None:
        super().__init__(options.frame_limit_bytes)
        self._talk = talk
        self._hello = hello
        self.is_welcome = False
        self.over = asyncio.Event()
        self.reason = "the other end is no process of ours"
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_s = options.hello_timeout_s

    def opened(self) -> None:
        self._timer = self._loop.call_later(self._timeout_s, self.abort, "no welcome came")
        self.send(self._hello)

    def received(self, message: Message) -> None:
        if self.is_welcome:
            self._talk.received(message)
        elif type(message) is Unwelcome:
            self.close(message.reason)
        elif type(message) is Welcome:
            self.is_welcome = True
            self.read_all()
            if self._timer is not None:
                self._timer.cancel()
            self._talk.connected(self)
        else:
            raise ProtocolError("a welcome was expected")

    def writable(self) -> None:
        if self.is_welcome:
            self._talk.writable()

    def lost(self, reason: str) -> None:
        self.reason = reason
        if self._timer is not None:
            self._timer.cancel()
        self.over.set()
        if self.is_welcome:
            self._talk.disconnected(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.over.set()  # also where it never was open


class Dialer:
    """``hello(introduction, n)`` is what the n-th connection begins with. Runs until ``close``."""

    def __init__(
        self, talk: Talk, hello: Callable[[Introduction, int], Hello], options: PlaneOptions
    ) -> None:
        self._talk = talk
        self._hello = hello
        self._options = options
        self._introduction: Introduction | None = None
        self._news = asyncio.Event()
        self._connection: Outgoing | None = None
        self._count = 0
        self.reason = "it has not been introduced yet"
        self._task: asyncio.Task[None] | None = None

    def introduce(self, path: Path, epoch: int) -> None:
        """Where the peer is from now on; an older epoch than the last one is ignored."""
        new, old = Introduction(path, epoch), self._introduction
        if old is not None and (epoch < old.epoch or new == old):
            return
        self._introduction = new
        self._news.set()
        if self._connection is not None:
            self._connection.abort("its peer is somewhere else now")
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Over for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._connection is not None:
            self._connection.close("this end closes")

    async def _run(self) -> None:
        delay_s = 0.0
        while True:
            self._news.clear()
            if await self._connect_once():
                delay_s = 0.0
            least_s, most_s = self._options.reconnect_min_s, self._options.reconnect_max_s
            try:
                await asyncio.wait_for(self._news.wait(), delay_s or least_s / 4)
                delay_s = 0.0
            except TimeoutError:
                delay_s = min(max(least_s, 2 * delay_s), most_s)

    async def _connect_once(self) -> bool:
        """Whether there was a connection; returns when there is none any more."""
        introduction = self._introduction
        assert introduction is not None
        self._count += 1
        hello = self._hello(introduction, self._count)
        try:
            with address_of(introduction.path) as address:
                _, connection = await asyncio.get_running_loop().create_unix_connection(
                    lambda: Outgoing(self._talk, hello, self._options), address
                )
        except OSError as error:
            self.reason = f"{introduction.path} can't be reached: {error.strerror or error}"
            return False
        self._connection = connection
        if introduction is not self._introduction:
            connection.abort("its peer is somewhere else now")
        await connection.over.wait()
        self._connection = None
        self.reason = connection.reason
        return connection.is_welcome


def hello(
    wanted: str,
    introduction: Introduction,
    session: bytes,
    connection: int,
    source: int | None = None,
    source_epoch: int = 0,
) -> Hello:
    return Hello(
        MAGIC,
        VERSION,
        wanted,
        introduction.epoch,
        session,
        connection,
        source,
        source_epoch,
    )
