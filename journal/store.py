"""What a store does, whichever engine is below: whole commit groups in, rows out. And one in memory.

A group is appended on condition that the log's tail is exactly the one the caller names, so that a
replicated log can stand in for the embedded one. No engine, no file and no clock is known here.
Rules: design 8; docs/journal-format.md, "The data directory and the log".
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable
from random import Random
from typing import Protocol, TypeAlias

import msgspec

from perdure.journal.errors import AppendBusy, EntryTooLarge, Fenced, StoreFailed

Write: TypeAlias = tuple[bytes, bytes | None]  # key and value; None deletes
Row: TypeAlias = tuple[bytes, bytes]

FIRST_TAG, LAST_TAG = 0x10, 0xF0  # first bytes of keys; below are the adapter's own
WRITE_OVERHEAD_BYTES = 16  # framing of one write in any log, generously
LOG_GROUP_BYTES = 900_000  # what every replicated log takes in one entry (distributed 6.2)
EMBEDDED_GROUP_BYTES = 320 << 20  # LevelDB's batch is built in memory, twice
EMBEDDED_VALUE_BYTES = 72 << 20  # two payloads of 32 MiB and their wrapping (leveldb 6.5)
SUSPICIOUS_FSYNC_US = 20  # faster than any disk that keeps its promise (leveldb 1.1)


class Tail(msgspec.Struct, frozen=True, gc=False):
    """The last group of a log: the place that the next one must name."""

    pos: int  # from 1, without holes; 0: nothing yet
    epoch: int
    id: bytes  # 16 random bytes


class Group(msgspec.Struct, frozen=True):
    """What one commit writes; all of it or nothing. Without writes: an open record."""

    pos: int
    epoch: int
    id: bytes
    prev_id: bytes
    writes: list[Write]


EMPTY = Tail(0, 0, bytes(16))


def next_group(after: Tail, id: bytes, writes: list[Write]) -> Group:
    """The group that follows ``after`` in its epoch. ``id``: 16 random bytes, made once."""
    return Group(after.pos + 1, after.epoch, id, after.id, writes)


def open_group(after: Tail, epoch: int, id: bytes) -> Group:
    """The open record that begins ``epoch``, which must be higher than the tail's."""
    if epoch <= after.epoch:
        raise ValueError(f"epoch {epoch} does not follow epoch {after.epoch}")
    return Group(after.pos + 1, epoch, id, after.id, [])


def tail_of(group: Group) -> Tail:
    """The tail once ``group`` is appended."""
    return Tail(group.pos, group.epoch, group.id)


class Rows(Protocol):
    """What can be read; a copy of a store has no more."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> list[Row]: ...


class Store(Protocol):
    """One log and the rows it adds up to; one owner.

    ``get`` and ``scan`` see what was appended, and may be called from any thread; ``append``,
    ``settle`` and ``close`` belong to one event loop. After StoreFailed nothing is acknowledged
    any more: close, and open again.
    """

    @property
    def tail(self) -> Tail:
        """The last group that is durable, as this owner knows it."""

    @property
    def max_group_bytes(self) -> int:
        """The largest ``size_bytes`` of a group's writes; split before appending."""

    @property
    def fsync_us(self) -> float:
        """Median time of a small append's sync, measured at open; microseconds, 0 in memory."""

    async def append(self, group: Group, after: Tail) -> Tail:
        """Append ``group`` if the tail is exactly ``after``; returns the new tail once durable.

        One at a time; cancelling the caller does not cancel the append. Raises, and nothing was
        written: Fenced (stop for good), AppendBusy (repeat), Unavailable (back off),
        EntryTooLarge (split). Unknown: Indeterminate (settle), StoreFailed (close and open again).
        """

    async def settle(self, group: Group, after: Tail) -> Tail | None:
        """What became of an append, by a durable read: its tail, or None where it was not written.

        Raises Fenced where another group follows ``after``.
        """

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> list[Row]:
        """Rows from ``start`` up to but not ``stop``, in key order; complete, or it raises."""

    def approximate_bytes(self) -> int:
        """What the rows take, roughly; on disk where there is one."""

    def has_room(self) -> bool:
        """Whether new work may be taken; cheap enough to ask once a second."""

    async def close(self) -> None:
        """Wait for what is in flight and let go; every later call raises StoreFailed."""


# ---- sizes --------------------------------------------------------------------------------------


def size_bytes(writes: Iterable[Write]) -> int:
    """What ``writes`` take in a log."""
    size = 0
    for key, value in writes:
        size += WRITE_OVERHEAD_BYTES + len(key) + (0 if value is None else len(value))
    return size


def split(steps: Iterable[list[Write]], limit_bytes: int = LOG_GROUP_BYTES) -> list[list[Write]]:
    """The writes of ``steps`` as few groups below ``limit_bytes``, in order; no step is torn.

    A step is what must be durable together. Raises EntryTooLarge for one that fits no group.
    """
    parts: list[list[Write]] = []
    room = -1
    for writes in steps:
        size = size_bytes(writes)
        if size > limit_bytes:
            raise EntryTooLarge(_too_large("one step", size, limit_bytes))
        if size > room:
            parts.append([])
            room = limit_bytes
        parts[-1].extend(writes)
        room -= size
    return parts


def check_writes(writes: list[Write], limit_bytes: int, value_limit_bytes: int) -> None:
    """Refuse what no store takes. Raises EntryTooLarge, or ValueError for a key that is not ours."""
    size = WRITE_OVERHEAD_BYTES * len(writes)
    for key, value in writes:
        if not key or not FIRST_TAG <= key[0] <= LAST_TAG:
            raise ValueError(f"key {key!r} does not begin with a table tag 0x10 to 0xf0")
        size += len(key)
        if value is not None:
            if len(value) > value_limit_bytes:
                what = f"the value of key {key!r}"
                raise EntryTooLarge(_too_large(what, len(value), value_limit_bytes))
            size += len(value)
    if size > limit_bytes:
        raise EntryTooLarge(_too_large("the commit group", size, limit_bytes))


def _too_large(what: str, size: int, limit: int) -> str:
    return (
        f"{what} has {size} bytes, the log takes at most {limit}; nothing was written. "
        "Keep large values outside and store a reference, or write them in several steps."
    )


def check_follows(group: Group, after: Tail, tail: Tail) -> None:
    """Raise Fenced unless ``group`` is the one that may follow ``tail``."""
    begins_epoch = not group.writes and group.epoch > tail.epoch
    if (
        after != tail
        or group.pos != tail.pos + 1
        or group.prev_id != tail.id
        or not (group.epoch == tail.epoch or begins_epoch)
    ):
        raise Fenced(
            f"expected to append after position {after.pos} of epoch {after.epoch}, "
            f"but the log's tail is position {tail.pos} of epoch {tail.epoch}; nothing was written. "
            "Another owner has taken over: stop, and read the tail again."
        )


def outcome(group: Group, after: Tail, tail: Tail) -> Tail | None:
    """What ``tail``, read durably, says of an append of ``group`` after ``after``."""
    if tail.id == group.id and tail.pos == group.pos:
        return tail
    if tail == after:
        return None
    raise Fenced(
        f"position {group.pos} of epoch {group.epoch} was not written: the log's tail is position "
        f"{tail.pos} of epoch {tail.epoch}. Another owner has taken over: stop."
    )


# ---- in memory ----------------------------------------------------------------------------------


class MemoryStore:
    """A store without a disk, for tests: an append is durable on the loop's next turn.

    ``rng`` makes the ids and decides at a crash whether the append in flight had been written.
    """

    fsync_us = 0.0

    def __init__(self, rng: Random, *, max_group_bytes: int = EMBEDDED_GROUP_BYTES) -> None:
        self.max_group_bytes = max_group_bytes
        self._rng = rng
        self._rows: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []  # sorted
        self._bytes = 0
        self._tail = EMPTY
        self._in_flight: tuple[Group, asyncio.Future[Tail]] | None = None
        self._over: str | None = None
        self._apply(open_group(EMPTY, 1, rng.randbytes(16)))

    @property
    def tail(self) -> Tail:
        return self._tail

    async def append(self, group: Group, after: Tail) -> Tail:
        self._check()
        if self._in_flight is not None:
            raise AppendBusy("an append is in flight; send the group again when it has ended")
        check_follows(group, after, self._tail)
        check_writes(group.writes, self.max_group_bytes, EMBEDDED_VALUE_BYTES)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Tail] = loop.create_future()
        self._in_flight = group, future
        loop.call_soon(self._land, group, future)
        return await future

    async def settle(self, group: Group, after: Tail) -> Tail | None:
        while self._in_flight is not None:
            await asyncio.sleep(0)
        self._check()
        return outcome(group, after, self._tail)

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self._rows.get(key)

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> list[Row]:
        self._check()
        first, last = bisect_left(self._keys, start), bisect_left(self._keys, stop)
        if limit is not None:
            last = min(last, first + limit)
        return [(key, self._rows[key]) for key in self._keys[first:last]]

    def approximate_bytes(self) -> int:
        return self._bytes

    def has_room(self) -> bool:
        return True

    async def close(self) -> None:
        while self._in_flight is not None:
            await asyncio.sleep(0)
        self._over = self._over or "the store was closed"

    def crash(self) -> "MemoryStore":
        """The store as the next process finds it, one epoch on. This one fails from now on."""
        self._check()
        if self._in_flight is not None:
            group, future = self._in_flight
            if self._rng.random() < 0.5:
                self._apply(group)
            if not future.done():
                future.set_exception(
                    StoreFailed("the process crashed while a commit was in flight")
                )
        self._in_flight, self._over = None, "the process crashed"
        new = MemoryStore(self._rng, max_group_bytes=self.max_group_bytes)
        new._rows, new._keys, new._bytes = self._rows, self._keys, self._bytes
        new._tail = self._tail
        new._apply(open_group(new._tail, new._tail.epoch + 1, self._rng.randbytes(16)))
        self._rows, self._keys = {}, []
        return new

    def _check(self) -> None:
        if self._over is not None:
            raise StoreFailed(f"{self._over}; open it again")

    def _land(self, group: Group, future: asyncio.Future[Tail]) -> None:
        if self._in_flight is None or self._in_flight[0] is not group:
            return  # a crash came first and has decided
        self._in_flight = None
        self._apply(group)
        if not future.done():
            future.set_result(self._tail)

    def _apply(self, group: Group) -> None:
        rows = self._rows
        for key, value in group.writes:
            old = rows.get(key)
            if old is not None:
                self._bytes -= len(key) + len(old)
            if value is not None:
                if old is None:
                    insort(self._keys, key)
                rows[key] = value
                self._bytes += len(key) + len(value)
            elif old is not None:
                del rows[key], self._keys[bisect_left(self._keys, key)]
        self._tail = tail_of(group)
