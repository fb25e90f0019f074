"""The receiving end of links: outbox messages of other partitions, to the engine and then acknowledged.

One source has one connection at a time, and one batch of it is with the engine at a time. What is not
acknowledged is sent again by its sender, so nothing here outlives a connection.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol

from perdure.actors.plane.connection import Connection
from perdure.actors.plane.messages import Ack, Message, Rows
from perdure.journal.errors import PerdureError, ProtocolError

log = logging.getLogger("perdure.plane")

_PAUSE_COUNT = 16_384  # messages that wait here while the engine has a batch: several windows
_BATCH_COUNT = 4_096
_TRY_AGAIN_S = 0.1  # where the engine takes nothing, such as while its store is down
_LONGEST_PAUSE_S = 2.0


class Receiver(Protocol):
    async def receive(self, source: int, batch: list[tuple[int, bytes]]) -> int:
        """Durable up to this sequence number when it returns."""


class Arrivals:
    """One connection of ``source``; ``before``: that of its former connection, which ends first."""

    def __init__(
        self, connection: Connection, receiver: Receiver, source: int, before: "Arrivals | None"
    ) -> None:
        self._connection = connection
        self._receiver = receiver
        self._source = source
        self._waiting: list[tuple[int, bytes]] = []
        self._is_over = False
        self._is_paused = False
        self._work: asyncio.Task[None] | None = None
        self._before: Awaitable[object] | None = None if before is None else before._work
        self._failures: int = 0 if before is None else before._failures  # one after the other

    def received(self, message: Message) -> None:
        """Raises ProtocolError."""
        if type(message) is not Rows:
            raise ProtocolError(
                f"{type(message).__name__} is not for a partition to hear from another"
            )
        self._waiting += message.rows
        if self._work is None:
            self._work = asyncio.ensure_future(self._receive())
        if len(self._waiting) > _PAUSE_COUNT and not self._is_paused:
            self._is_paused = True
            self._connection.pause_reading()

    async def _receive(self) -> None:
        try:
            if self._before is not None:
                await asyncio.wait([asyncio.ensure_future(self._before)])
                self._before = None
            while self._waiting and not self._is_over:
                batch, self._waiting = self._waiting[:_BATCH_COUNT], self._waiting[_BATCH_COUNT:]
                seq = await self._receiver.receive(self._source, batch)
                self._failures = 0
                self._connection.send(Ack(seq))
                if self._is_paused and len(self._waiting) <= _PAUSE_COUNT:
                    self._is_paused = False
                    self._connection.resume_reading()
        except PerdureError as error:
            await self._refuse(f"messages of partition {self._source} are not taken: {error}")
        except Exception as error:
            log.exception("messages of partition %d are not taken", self._source)
            await self._refuse(f"messages of partition {self._source} failed: {error!r}")
        finally:
            self._work = None

    async def _refuse(self, reason: str) -> None:
        """Let its sender try again, though later and later: the next time may be no better."""
        delay_s = min(_TRY_AGAIN_S * 2.0 ** min(self._failures, 30), _LONGEST_PAUSE_S)
        self._failures += 1
        await asyncio.sleep(delay_s)
        self._connection.abort(reason)

    def writable(self) -> None:
        """Acknowledgements are small; nothing waited for this."""

    def lost(self) -> None:
        self._is_over = True
        self._waiting = []

    async def ended(self) -> None:
        """Until the engine has answered the batch that it has."""
        if self._work is not None:
            await asyncio.wait([self._work])
