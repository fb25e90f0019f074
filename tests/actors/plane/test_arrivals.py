"""Messages that can't be taken are tried again, later and later, until they are taken."""

import asyncio
from typing import Any, cast

import pytest

from perdure.actors.plane.arrivals import Arrivals
from perdure.actors.plane.connection import Connection
from perdure.actors.plane.messages import Message, Rows
from perdure.journal.errors import PerdureError


class _Connection:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reasons: list[str] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def abort(self, reason: str) -> None:
        self.reasons.append(reason)


class _Receiver:
    is_down = True

    async def receive(self, source: int, batch: list[tuple[int, bytes]]) -> int:
        if self.is_down:
            raise PerdureError("the store is down")
        return batch[-1][0]


def test_the_pauses_grow_from_connection_to_connection_until_a_batch_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def note(delay_s: float) -> None:
        pauses.append(delay_s)

    async def tries(count: int, receiver: _Receiver, before: Arrivals | None) -> Arrivals | None:
        for _ in range(count):
            connection = _Connection()
            before = Arrivals(cast(Connection, cast(Any, connection)), receiver, 1, before)
            before.received(Rows([(1, b"")]))
            await before.ended()
            if receiver.is_down:
                assert connection.reasons == [
                    "messages of partition 1 are not taken: the store is down"
                ]
            else:
                assert len(connection.sent) == 1
        return before

    async def test() -> None:
        receiver = _Receiver()
        last = await tries(7, receiver, None)
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
        receiver.is_down = False
        last = await tries(1, receiver, last)
        receiver.is_down = True
        await tries(1, receiver, last)
        assert pauses[7:] == [0.1]

    monkeypatch.setattr(asyncio, "sleep", note)
    asyncio.run(test())
