"""The engine's side of the traffic between partitions: what its outbox holds, and what arrives.

Nothing here connects to anybody. Messages are rows until the other side has them for certain, so a lost
connection or process costs a delay and no message. Who carries them: actors/plane. Rule: design 8.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from perdure.actors.partition import Partition
from perdure.journal import keys, outbox
from perdure.journal.errors import StoreError
from perdure.journal.events import Arrived, Forward
from perdure.journal.placement import Placement

Numbered: TypeAlias = tuple[int, bytes]  # the number of a message, and the message encoded

_READ_AT_ONCE: Final = 256


class Carrier(Protocol):
    """Takes messages to other partitions. Called on the loop, in order, after the commit."""

    def __call__(self, destination: int, seq: int, message: bytes) -> None: ...


def _leave(destination: int, seq: int, message: bytes) -> None:
    """Nobody carries messages: they stay where they are."""


class Exchange:
    """One engine's. ``running`` raises StoreFailed while there is no partition."""

    def __init__(
        self,
        running: Callable[[], Partition],
        failed: Callable[[Partition, BaseException], None],
        now_ms: Callable[[], int],
        placement: Placement,
    ) -> None:
        self._placement = placement
        self._running = running
        self._failed = failed
        self._now_ms = now_ms
        self._first: dict[int, int] = {}  # by destination: the first row that is not deleted
        self.carry: Carrier = _leave

    def opened(self, partition: Partition) -> None:
        """The partition runs (again), and nothing of it has spoken yet.

        Its last commit may be on disk although nobody heard of it: those messages are told now. After a
        repartition it may hold messages to itself: they take effect before anything newer of the same
        sender can.
        """
        self._first.clear()
        self._tell_last(partition)
        own, last, now_ms = self._placement.index, 0, self._now_ms()
        while rows := partition.tables.outbox(own, last, _READ_AT_ONCE):
            for key, message in rows:
                last = keys.split_outbox(key)[1]
                partition.submit(Arrived(own, last, outbox.decode(message), now_ms))
                partition.tables.put_row(key, None)

    def _tell_last(self, partition: Partition) -> None:
        """The newest message of each destination, if it is there still; who carries reads those before it."""
        for destination in range(self._placement.count):
            raw = partition.tables.row(keys.outbox_last(destination))
            if raw is None or destination == self._placement.index:
                continue
            seq = keys.unpack_number(raw)
            for _, message in partition.tables.outbox(destination, seq - 1, 1):
                self.carry(destination, seq, message)

    def forward(self, act: Forward) -> None:
        self.carry(act.destination, act.seq, act.row)

    # ---- from others

    def received_from(self, source: int) -> int:
        """The last message of a partition that took effect here, 0 for none; it may not be durable yet.

        Raises StoreFailed.
        """
        raw = self._running().tables.row(keys.dedup(source))
        return 0 if raw is None else keys.unpack_number(raw)

    async def receive(self, source: int, batch: Sequence[Numbered]) -> int:
        """Let messages take effect, once each; they are durable up to the number that is returned.

        Raises MessageGap where others have to come first and StoreError.
        """
        partition = self._running()
        await partition.pressure.room()
        now_ms = self._now_ms()
        try:
            for seq, message in batch:
                partition.submit(Arrived(source, seq, outbox.decode(message), now_ms))
        except StoreError as error:
            self._failed(partition, error)
            raise
        arrived = self.received_from(source)
        await partition.commits.flush()
        return arrived

    # ---- to others

    def outbox(self, destination: int, after_seq: int, limit: int) -> list[Numbered]:
        """The first messages behind ``after_seq`` that are durable, for sending (again)."""
        rows = self._running().tables.outbox(destination, after_seq, limit)
        return [(keys.split_outbox(key)[1], message) for key, message in rows]

    def delivered(self, destination: int, seq: int) -> None:
        """Everything up to ``seq`` arrived for certain; its rows go with a later commit."""
        tables = self._running().tables
        first = self._first.get(destination)
        if first is None:
            left = self.outbox(destination, 0, 1)
            first = left[0][0] if left else seq + 1
        for number in range(first, seq + 1):  # there is no gap between them
            tables.put_row(keys.outbox(destination, number), None)
        self._first[destination] = max(first, seq + 1)
