"""The listening end: takes connections of callers and links, and tells who comes from who went before.

It stands in front of one engine and knows nothing of invocations. What a connection may be: a caller
(serving.py) or the outbox of another partition (arrivals.py), said once in its hello.
"""

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from perdure.actors.engine import Engine
from perdure.actors.plane import messages
from perdure.actors.plane.arrivals import Arrivals, Receiver
from perdure.actors.plane.connection import Connection
from perdure.actors.plane.messages import MAGIC, VERSION, Hello, Message, Unwelcome, Welcome
from perdure.actors.plane.options import PlaneOptions
from perdure.actors.plane.serving import Behind, Served, Serving
from perdure.actors.plane.sockets import listening_socket
from perdure.journal.errors import ProtocolError

log = logging.getLogger("perdure.plane")

_MAX_SESSIONS = 4_096  # of which the latest connection is remembered

_Peer = bytes | int  # a caller's session, or the partition whose outbox it is


class PlaneServer:
    """``name`` and ``epoch``: who this process is. Close it before the engine, so callers hold on."""

    def __init__(
        self,
        name: str,
        epoch: int,
        *,
        engine: Engine | None = None,
        receiver: Receiver | None = None,
        inspect: Served | None = None,
        control: Served | None = None,
        options: PlaneOptions | None = None,
    ) -> None:
        self.name, self.epoch = name, epoch
        self.options = options or PlaneOptions()
        self.behind = Behind(engine, inspect, control, self.options)
        self.receiver = receiver
        self.connections: set[Incoming] = set()
        self.arrivals: dict[int, Arrivals] = {}  # the latest of each source
        self._latest: OrderedDict[_Peer, tuple[tuple[int, int], Incoming]] = OrderedDict()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def listen(self, path: Path) -> None:
        """Raises UnsafeSocket."""
        loop = asyncio.get_running_loop()
        listening = listening_socket(path)
        self._path = path
        self._server = await loop.create_unix_server(lambda: Incoming(self), sock=listening)

    def stop_listening(self) -> None:
        """Nobody new is let in; who is there stays."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._path is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()
            self._path = None

    async def close(self) -> None:
        """Take nothing more and end every connection. What callers wait for goes on in the engine."""
        self.stop_listening()
        for connection in list(self.connections):
            connection.close("the server closes")
        for arrivals in self.arrivals.values():
            await arrivals.ended()

    def registry_changed(self) -> None:
        """Call it when the registry of the engine has changed other than by ``control``."""
        self.behind.registry_changed()

    def refusal(self, hello: Hello) -> str:
        """Why this connection is not wanted; empty where it is."""
        if hello.wanted != self.name or (hello.epoch and hello.epoch != self.epoch):
            return (
                f"this is {self.name}, epoch {self.epoch}; "
                f"{hello.wanted}, epoch {hello.epoch}, was wanted"
            )
        if hello.source is not None and self.receiver is None:
            return f"{self.name} takes no messages of partitions"
        _, former = self._former(hello)
        if former is not None and former >= _order(hello):
            return "a newer connection of the same peer is there"
        return ""

    def _former(self, hello: Hello) -> tuple["Incoming | None", tuple[int, int] | None]:
        order, connection = self._latest.get(_peer(hello), (None, None))
        return connection, order

    def admit(self, connection: "Incoming", hello: Hello) -> Serving | Arrivals:
        """End what this peer had before: nothing of that may come after what comes now."""
        former, _ = self._former(hello)
        if former is not None and former.is_open:
            former.abort("its peer has a newer connection")
        peer = _peer(hello)
        self._latest[peer] = (_order(hello), connection)
        self._latest.move_to_end(peer)
        if len(self._latest) > _MAX_SESSIONS:
            self._latest.popitem(last=False)
        if hello.source is None:
            return Serving(connection, self.behind)
        assert self.receiver is not None
        before = self.arrivals.get(hello.source)
        found = Arrivals(connection, self.receiver, hello.source, before)
        self.arrivals[hello.source] = found
        return found


def _peer(hello: Hello) -> _Peer:
    return hello.session if hello.source is None else hello.source


def _order(hello: Hello) -> tuple[int, int]:
    return hello.source_epoch, hello.connection


class Incoming(Connection):
    """A connection that somebody made to us. The hello comes first, and soon."""

    def __init__(self, server: PlaneServer) -> None:
        super().__init__(server.options.frame_limit_bytes)
        self._server = server
        self.role: Serving | Arrivals | None = None
        self._timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        self._server.connections.add(self)
        timeout_s = self._server.options.hello_timeout_s
        self._timer = self._loop.call_later(timeout_s, self.abort, "its hello did not come")

    def head(self, frame: memoryview) -> None:
        found = messages.decode_head(frame)
        if found.magic != MAGIC:
            raise ProtocolError("this is not the data plane of Perdure")
        if found.version != VERSION:
            reason = f"version {VERSION} of the data plane is spoken here, not {found.version}"
            self.send(Unwelcome(reason))
            self.flush()
            raise ProtocolError(reason)

    def received(self, message: Message) -> None:
        if self.role is not None:
            self.role.received(message)
            return
        if type(message) is not Hello:
            raise ProtocolError("a hello was expected")
        if self._timer is not None:
            self._timer.cancel()
        if reason := self._server.refusal(message):
            log.warning("a connection is refused: %s", reason)
            self.send(Unwelcome(reason))
            self.close(reason)
            return
        self.role = self._server.admit(self, message)
        self.read_all()
        self.send(Welcome(self._server.name, self._server.epoch))

    def writable(self) -> None:
        if self.role is not None:
            self.role.writable()

    def lost(self, reason: str) -> None:
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.role is not None:
            self.role.lost()
