"""What operators set up besides deployments: limit rules, Kafka clusters and subscriptions. Kept durably.

Each change is written, then remembered, then answered; one at a time. What a change may be is decided in
gateway/limit_rules.py and gateway/kafka.py. Format: docs/registry-format.md.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from perdure.gateway.framed_file import FramedFile, Framing

_FRAMING: Final = Framing(
    name="operators.msgpack",
    magic=b"PERDUROP",
    version=1,
    what="operators' book",
    remedy="set limits, Kafka clusters and subscriptions up again",
)


class Rule(msgspec.Struct, frozen=True):
    """How many invocations may run at once in the scopes that ``pattern`` names; None: any number."""

    pattern: str
    concurrency: int | None = None
    description: str | None = None
    disabled: bool = False
    version: int = 1
    modified_at_ms: int = 0


class Cluster(msgspec.Struct, frozen=True):
    name: str
    properties: dict[str, str]
    created_at_ms: int


class Subscription(msgspec.Struct, frozen=True):
    """``options``: as given, without defaults."""

    id: str
    cluster: str
    topic: str
    service: str
    handler: str
    options: dict[str, str] = {}


class Book(msgspec.Struct, frozen=True):
    """``rules_version`` counts changes of the rules."""

    rules: tuple[Rule, ...] = ()
    rules_version: int = 0
    clusters: tuple[Cluster, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()


class BookFile(FramedFile[Book]):
    def __init__(self, directory: str) -> None:
        super().__init__(directory, _FRAMING, Book)


T = TypeVar("T")


class OperatorBook:
    """The book of one server. Without a file it is kept in memory. Used on one loop."""

    def __init__(self, file: BookFile | None = None) -> None:
        """Raises StoreDamaged, StoreFormat, StoreError."""
        self._file = file
        self.book = Book() if file is None else file.read()
        self._lock = asyncio.Lock()

    async def change(self, decide: Callable[[Book], tuple[Book, T]]) -> T:
        """Write what ``decide`` makes of the book; the rest of what it says. Durable when it returns.

        What ``decide`` raises goes to the caller, and nothing changes. Raises StoreError. Cancelling the
        caller does not stop a write.
        """
        return await asyncio.shield(asyncio.ensure_future(self._change(decide)))

    async def _change(self, decide: Callable[[Book], tuple[Book, T]]) -> T:
        async with self._lock:
            book, answer = decide(self.book)
            if book != self.book:
                if self._file is not None:
                    await asyncio.to_thread(self._file.write, book)
                self.book = book
            return answer
