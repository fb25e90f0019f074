"""A look into many partitions as if they were one: fans out, puts together, names who is missing.

Each table is ordered by partition key, and partitions are ranges of it, so that a scan goes through the
partitions in turn and to those alone that can have rows; but timers and expiries are ordered by time, and
merged. Where a part is better than nothing, an answer is without the partitions that are down and says so;
rows are never left out in silence. No rows are interpreted here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from heapq import merge
from typing import Any, Final, NoReturn, TypeVar, cast

from perdure.journal import keys
from perdure.journal.errors import PerdureError, StoreFailed
from perdure.journal.inspecting import (
    Actors,
    Asks,
    Attempts,
    Count,
    Counted,
    CountPinned,
    CountWork,
    Done,
    Fetch,
    Flush,
    Inspection,
    ListActors,
    LiveAttempts,
    Look,
    Looks,
    Missing,
    Newest,
    News,
    PartitionLook,
    Pinned,
    Record,
    Recorded,
    Rows,
    Scan,
    Tree,
    TreeNode,
    Work,
)
from perdure.journal.lately import LIMIT
from perdure.journal.placement import Placement, owner_of, owner_of_slot, slot_range
from perdure.journal.store import Row

A = TypeVar("A")

PATIENCE_S: Final = 10.0

_BY_TIME: Final = (keys.TIMER, keys.EXPIRY)
_BY_PARTITION_KEY: Final = (
    keys.INVOCATION,
    keys.JOURNAL,
    keys.ACTIVE,
    keys.STATE,
    keys.INBOX,
    keys.PROMISE,
    keys.SCHEDULE,
)
_ID_IN_TIME: Final = slice(10, 34)  # of keys by time: behind tag, moment and kind
_SLOT_BYTES: Final = 2


class Inspectors:
    """``parts``: one for each partition, in the order of their indexes.

    ``patience_s``: after that a partition is left out of an answer which may be without it.
    """

    def __init__(self, parts: Sequence[Inspection], patience_s: float = PATIENCE_S) -> None:
        self._parts = parts
        self._patience_s = patience_s
        self._answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Flush: self._flush,
            Scan: self._scan,
            Fetch: self._fetch,
            Count: self._count,
            LiveAttempts: self._attempts,
            Newest: self._newest,
            Look: self._look,
            CountWork: self._work,
            ListActors: self._actors,
            Record: self._record,
            CountPinned: self._pinned,
        }

    async def inspect(self, question: Asks[A]) -> A:
        """Raises StoreFailed that names a partition which has to answer and is down."""
        return cast(A, await self._answers[type(question)](question))

    # ---- whom to ask -----------------------------------------------------------------------------

    async def _ask(self, index: int, question: Asks[A]) -> A:
        """One that has to answer."""
        try:
            return await self._parts[index].inspect(question)
        except PerdureError as error:
            _raise(Missing(index, str(error)), error)

    async def _ask_all(self, question: Asks[A]) -> tuple[list[A], tuple[Missing, ...]]:
        """Those that are up, and who is not."""
        asked = (asyncio.wait_for(each.inspect(question), self._patience_s) for each in self._parts)
        found = await asyncio.gather(*asked, return_exceptions=True)
        answers: list[A] = []
        missing: list[Missing] = []
        for index, each in enumerate(found):
            if isinstance(each, TimeoutError):
                missing.append(Missing(index, f"no answer within {self._patience_s:g} s"))
            elif isinstance(each, PerdureError):
                missing.append(Missing(index, str(each)))
            elif isinstance(each, BaseException):
                raise each
            else:
                answers.append(each)
        return answers, tuple(missing)

    def _owner(self, key: bytes) -> int:
        """The partition that has the row, if there is one."""
        tag = key[:1]
        if tag in _BY_TIME:
            return owner_of(key[_ID_IN_TIME], len(self._parts))
        if tag in _BY_PARTITION_KEY:
            return self._owner_of_place(key)
        raise ValueError(f"each partition has a row {key.hex()} of its own")

    def _owner_of_place(self, key: bytes) -> int:
        """Of the first row at or behind ``key``; it may be the tag alone."""
        slot = int.from_bytes(key[1 : 1 + _SLOT_BYTES].ljust(_SLOT_BYTES, b"\x00"), "big")
        return owner_of_slot(slot, len(self._parts))

    # ---- rows ------------------------------------------------------------------------------------

    async def _flush(self, question: Flush) -> Done:
        up, missing = await self._ask_all(question)
        if not up:
            _raise(missing[0])
        return Done(missing)

    async def _scan(self, question: Scan) -> Rows:
        tag = question.start[:1]
        behind = bytes([tag[0] + 1])
        if any(behind <= each < question.stop for each in (*_BY_PARTITION_KEY, *_BY_TIME)):
            raise ValueError("a scan over several partitions stays within one table")
        if tag in _BY_TIME:
            return await self._scan_by_time(question)
        if tag not in _BY_PARTITION_KEY:
            raise ValueError(f"each partition has a table {tag.hex()} of its own")
        last = len(self._parts) - 1
        if question.stop < behind:
            last = self._owner_of_place(question.stop)
        return await self._scan_in_turn(question, self._owner_of_place(question.start), last)

    async def _scan_in_turn(self, question: Scan, first: int, last: int) -> Rows:
        """As far as the first partition with rows goes, so that a part stays bounded."""
        rows: list[Row] = []
        for index in range(first, last + 1):
            part = await self._ask(index, question)
            rows = part.rows
            if part.then is not None:
                return part
            if rows and index < last:
                return Rows(rows, question.start[:1] + self._first_slot(index + 1))
        return Rows(rows)

    def _first_slot(self, index: int) -> bytes:
        slot, _ = slot_range(index, len(self._parts))
        return slot.to_bytes(_SLOT_BYTES, "big")

    async def _scan_by_time(self, question: Scan) -> Rows:
        asked = (self._ask(index, question) for index in range(len(self._parts)))
        parts = await asyncio.gather(*asked)
        rows = list(merge(*(each.rows for each in parts)))
        cuts = [each.then for each in parts if each.then is not None]
        then = min(cuts) if cuts else None
        if then is not None:  # behind it others may have rows that are not here
            rows = [row for row in rows if row[0] < then]
        if len(rows) > question.limit:
            rows = rows[: question.limit]
            then = rows[-1][0] + b"\x00"
        return Rows(rows, then)

    async def _fetch(self, question: Fetch) -> Rows:
        wanted: dict[int, list[bytes]] = {}
        for key in question.keys:
            wanted.setdefault(self._owner(key), []).append(key)
        if len(wanted) == 1:
            index = next(iter(wanted))
            return await self._ask(index, question)
        asked = (self._ask(index, Fetch(theirs)) for index, theirs in wanted.items())
        parts = await asyncio.gather(*asked)
        found = {key: value for part in parts for key, value in part.rows}
        cuts = {part.then for part in parts} - {None}
        rows: list[Row] = []
        for key in question.keys:
            if key in cuts:
                return Rows(rows, key)
            if key in found:
                rows.append((key, found[key]))
        return Rows(rows)

    async def _count(self, question: Count) -> Counted:
        index = self._owner_of_place(question.start)
        counted = await self._ask(index, question)
        if counted.then is None and index + 1 < len(self._parts):
            then = keys.INVOCATION + self._first_slot(index + 1)
            return Counted(counted.tally, then)
        return counted

    async def _record(self, question: Record) -> Recorded:
        return await self._ask(owner_of(question.id, len(self._parts)), question)

    # ---- what is in memory -----------------------------------------------------------------------

    async def _attempts(self, question: LiveAttempts) -> Attempts:
        parts, missing = await self._ask_all(question)
        return Attempts(
            [attempt for each in parts for attempt in each.open],
            [id for each in parts for id in each.delayed],
            missing,
        )

    async def _newest(self, question: Newest) -> News:
        parts, missing = await self._ask_all(question)
        changed = sorted((each for part in parts for each in part.changed), reverse=True)
        completed = sum(each.completed_count for each in parts)
        failed = sum(each.failed_count for each in parts)
        return News(changed[:LIMIT], completed, failed, missing)

    async def _look(self, question: Look) -> Looks:
        count = len(self._parts)
        parts, missing = await self._ask_all(question)
        looks = [look for each in parts for look in each.partitions]
        looks += [PartitionLook(Placement(each.partition, count), each.reason) for each in missing]
        return Looks(sorted(looks, key=lambda each: each.placement.index))

    async def _work(self, question: CountWork) -> Work:
        parts, missing = await self._ask_all(question)
        return Work([work for each in parts for work in each.partitions], missing)

    async def _actors(self, question: ListActors) -> Actors:
        share = ListActors(-(-question.limit // len(self._parts)))
        parts, missing = await self._ask_all(share)
        if not parts:
            _raise(missing[0])
        trees = [each.tree for each in parts]
        nodes: list[TreeNode] = [node for each in trees for node in each.actors]
        down = [each.down for each in trees if each.down] + [str(each) for each in missing]
        first = trees[0]
        merged = Tree(
            strategy=first.strategy,
            restart_limit=first.restart_limit,
            restart_window_s=first.restart_window_s,
            partition_restarts=sum(each.partition_restarts for each in trees),
            down="; ".join(down),
            actor_count=sum(each.actor_count for each in trees),
            actors=nodes[: question.limit],
        )
        return Actors(merged)

    async def _pinned(self, question: CountPinned) -> Pinned:
        """Of all or none: who removes a deployment relies on it."""
        asked = (self._ask(index, question) for index in range(len(self._parts)))
        counts: dict[str, int] = {}
        for part in await asyncio.gather(*asked):
            for id, count in part.counts.items():
                counts[id] = counts.get(id, 0) + count
        return Pinned(counts)


def _raise(missing: Missing, cause: BaseException | None = None) -> NoReturn:
    raise StoreFailed(str(missing)) from cause
