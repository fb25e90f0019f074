"""Stores for tests: openings with small sizes, and one that fails on purpose.

The faults are those of `journal.store.Store.append`; LevelDB alone cannot raise most of them.
"""

import os
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from perdure.journal.errors import (
    AppendBusy,
    EntryTooLarge,
    Fenced,
    Indeterminate,
    StoreFailed,
    Unavailable,
)
from perdure.journal.leveldb import LevelDBOptions, LevelDBStore, open_store
from perdure.journal.store import Group, Row, Store, Tail, Write, next_group

SMALL = LevelDBOptions(
    write_buffer_bytes=64 << 10, max_file_bytes=1 << 20, cache_bytes=1 << 20, reserve_bytes=0
)


def new_id() -> bytes:
    return os.urandom(16)


def open_small(
    path: Path,
    on_failed: Callable[[BaseException], None] | None = None,
    options: LevelDBOptions = SMALL,
) -> LevelDBStore:
    return open_store(path, new_id=new_id, on_failed=on_failed, options=options)


async def put(store: Store, *writes: Write) -> Tail:
    """Append one group behind the store's tail."""
    return await store.append(next_group(store.tail, new_id(), list(writes)), store.tail)


class Fault(Enum):
    """What happens to one append. LOST and WRITTEN are both indeterminate for the caller."""

    NONE = auto()
    FENCED = auto()
    BUSY = auto()
    UNAVAILABLE = auto()
    TOO_LARGE = auto()
    LOST = auto()
    WRITTEN = auto()
    WRITTEN_AND_FAILED = auto()
    FAILED = auto()


class FaultyStore:
    """Another store, each of whose appends meets the next of ``faults``; then none."""

    def __init__(self, store: Store, faults: list[Fault]) -> None:
        self.store = store
        self.faults = deque(faults)
        self._failed = False

    @property
    def tail(self) -> Tail:
        return self.store.tail

    @property
    def max_group_bytes(self) -> int:
        return self.store.max_group_bytes

    @property
    def fsync_us(self) -> float:
        return self.store.fsync_us

    def has_room(self) -> bool:
        return self.store.has_room()

    async def append(self, group: Group, after: Tail) -> Tail:
        self._check()
        match self.faults.popleft() if self.faults else Fault.NONE:
            case Fault.FENCED:
                raise Fenced("another owner has the tail")
            case Fault.BUSY:
                raise AppendBusy("send it again")
            case Fault.UNAVAILABLE:
                raise Unavailable("no connection")
            case Fault.TOO_LARGE:
                raise EntryTooLarge("split it")
            case Fault.LOST:
                raise Indeterminate("no answer")
            case Fault.WRITTEN:
                await self.store.append(group, after)
                raise Indeterminate("no answer")
            case Fault.WRITTEN_AND_FAILED:
                await self.store.append(group, after)
                self._failed = True
                self._check()
            case Fault.FAILED:
                self._failed = True
                self._check()
        return await self.store.append(group, after)

    async def settle(self, group: Group, after: Tail) -> Tail | None:
        self._check()
        return await self.store.settle(group, after)

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self.store.get(key)

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> list[Row]:
        self._check()
        return self.store.scan(start, stop, limit)

    def approximate_bytes(self) -> int:
        return self.store.approximate_bytes()

    async def close(self) -> None:
        await self.store.close()

    def _check(self) -> None:
        if self._failed:
            raise StoreFailed("the disk failed")
