"""The sending end between partitions: what the engine decided, in order, until it is acknowledged.

The outbox is on disk, so nothing is kept here: a bounded window is on its way, and everything else is read
from the rows when there is room again. After each reconnect the unacknowledged rows go out once more; the
receiver drops what it had.
"""

import asyncio
import logging
import os
from collections import deque
from pathlib import Path
from typing import Protocol

from perdure.actors.plane.dialing import Dialer, Outgoing, hello
from perdure.actors.plane.messages import Ack, Hello, Message, Rows
from perdure.actors.plane.options import Introduction, PlaneOptions
from perdure.journal.errors import PerdureError, ProtocolError
from perdure.journal.placement import Placement

log = logging.getLogger("perdure.plane")

_READ_COUNT = 512  # rows that are read at a time
_FRAME_BYTES = 1 << 20  # a frame ends behind the message that reaches this
_TRY_AGAIN_S = 0.1  # when the outbox can't be read


class Outbox(Protocol):
    """What the engine offers of its outbox."""

    def outbox(self, destination: int, after_seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Durable rows, in order. May raise StoreFailed."""

    def delivered(self, destination: int, seq: int) -> None:
        """Everything up to ``seq`` is durable at the destination."""


class Link:
    """To one partition. ``is_behind``: there may be rows that are not on their way."""

    def __init__(
        self, outbox: Outbox, source: int, epoch: int, destination: int, options: PlaneOptions
    ) -> None:
        self._outbox = outbox
        self._source, self._epoch = source, epoch
        self.destination = destination
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._session = os.urandom(16)
        self._dialer = Dialer(self, self._hello, options)
        self._connection: Outgoing | None = None
        self.acked_seq = 0
        self._sent_seq = 0
        self.is_behind = True
        self._on_the_way: deque[tuple[int, int]] = deque()  # sequence number, size
        self._on_the_way_bytes = 0
        self._typical_bytes = 256.0  # of a message, for how many rows to read
        self._rows: list[tuple[int, bytes]] = []  # of this turn
        self._rows_bytes = 0
        self._reading: asyncio.Handle | None = None

    def introduce(self, path: Path, epoch: int) -> None:
        """Where the destination is from now on."""
        self._dialer.introduce(path, epoch)

    async def close(self) -> None:
        self._stop_reading()
        await self._dialer.close()

    def health(self) -> str:
        """Empty while the destination can be reached; else why it can't."""
        return "" if self._connection is not None else self._dialer.reason

    @property
    def on_the_way_count(self) -> int:
        return len(self._on_the_way)

    def _hello(self, introduction: Introduction, connection: int) -> Hello:
        wanted = f"partition-{self.destination}"
        return hello(wanted, introduction, self._session, connection, self._source, self._epoch)

    # ---- what the engine decided

    def forward(self, seq: int, message: bytes) -> None:
        """A row is durable. Sent now where nothing is before it and there is room."""
        if seq <= self._sent_seq:
            return
        if self.is_behind or self._connection is None or not self._has_room():
            self.is_behind = True
            return
        if seq != self._sent_seq + 1:  # others are before it, of which nobody told
            self.is_behind = True
            self._read_soon()
            return
        self._put(seq, message)

    def _has_room(self) -> bool:
        return (
            len(self._on_the_way) < self._options.window_count
            and self._on_the_way_bytes < self._options.window_bytes
            and self._connection is not None
            and not self._connection.paused
        )

    def _put(self, seq: int, message: bytes) -> None:
        size = len(message)
        if not self._rows:
            self._loop.call_soon(self._flush)
        self._rows.append((seq, message))
        self._rows_bytes += size
        self._sent_seq = seq
        self._on_the_way.append((seq, size))
        self._on_the_way_bytes += size
        if self._rows_bytes >= _FRAME_BYTES:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._rows_bytes = 0
        if rows and self._connection is not None:
            try:
                self._connection.send(Rows(rows))
            except PerdureError as error:  # it stays first in the outbox, and others behind it
                log.error("messages to partition %d can't be sent: %s", self.destination, error)
                self._connection.abort(str(error))

    def _read_soon(self, delay_s: float = 0.0) -> None:
        if self._reading is None:
            self._reading = self._loop.call_later(delay_s, self._read)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _read(self) -> None:
        """Some rows of the outbox, as many as there is room for."""
        self._reading = None
        if not self.is_behind or not self._has_room():
            return
        room = (self._options.window_bytes - self._on_the_way_bytes) / self._typical_bytes
        left = self._options.window_count - len(self._on_the_way)
        limit = max(1, min(_READ_COUNT, left, int(room)))
        try:
            rows = self._outbox.outbox(self.destination, self._sent_seq, limit)
        except PerdureError as error:
            log.warning("the outbox can't be read: %s", error)
            self._read_soon(_TRY_AGAIN_S)
            return
        for seq, message in rows:
            self._typical_bytes += (len(message) - self._typical_bytes) / 8
            self._put(seq, message)
        self.is_behind = len(rows) == limit
        if self.is_behind:
            self._read_soon()

    # ---- the connection's view

    def connected(self, connection: Outgoing) -> None:
        self._connection = connection
        self._sent_seq = self.acked_seq
        self.is_behind = True
        self._read_soon()

    def disconnected(self, reason: str) -> None:
        self._connection = None
        self._stop_reading()
        self._rows, self._rows_bytes = [], 0
        self._on_the_way.clear()
        self._on_the_way_bytes = 0
        self.is_behind = True

    def writable(self) -> None:
        if self.is_behind:
            self._read_soon()

    def received(self, message: Message) -> None:
        """Raises ProtocolError."""
        if type(message) is not Ack:
            raise ProtocolError(f"{type(message).__name__} is no acknowledgement")
        way = self._on_the_way
        while way and way[0][0] <= message.seq:
            self._on_the_way_bytes -= way.popleft()[1]
        self._sent_seq = max(
            self._sent_seq, message.seq
        )  # it had more than was sent since it is back
        if message.seq > self.acked_seq:
            self.acked_seq = message.seq
            try:
                self._outbox.delivered(self.destination, message.seq)
            except PerdureError as error:  # the rows stay until a later one is acknowledged
                log.warning("the outbox can't be cleared: %s", error)
        if self.is_behind:
            self._read_soon()


class Links:
    """One to every other partition. ``engine.exchange.carry`` is ``links.forward``."""

    def __init__(
        self, outbox: Outbox, placement: Placement, epoch: int, options: PlaneOptions | None = None
    ) -> None:
        self.links = {
            each: Link(outbox, placement.index, epoch, each, options or PlaneOptions())
            for each in range(placement.count)
            if each != placement.index
        }

    def introduce(self, destination: int, path: Path, epoch: int) -> None:
        """Where a partition is from now on."""
        self.links[destination].introduce(path, epoch)

    def forward(self, destination: int, seq: int, message: bytes) -> None:
        self.links[destination].forward(seq, message)

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self.links.values()))
