"""What becomes of each row when the number of partitions changes. Pure: rows in, rows out.

Most rows go as they are to the partition of their slot; what counts or orders a whole partition is made anew.
Files, locks and the switch are in ``repartitioning``. Rules: docs/journal-format.md, "Partitions".
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec
import xxhash

from perdure.journal import keys, outbox
from perdure.journal.errors import StoreDamaged, StoreError, StoreFormat
from perdure.journal.ids import SLOT_COUNT
from perdure.journal.placement import owner_of, owner_of_slot, slot_range
from perdure.journal.records import Queued, decode_inbox_entry
from perdure.journal.store import FIRST_TAG, LAST_TAG, Row

ALL_ROWS = bytes([FIRST_TAG]), bytes([LAST_TAG + 1])

_BY_SLOT = (
    keys.INVOCATION,
    keys.JOURNAL,
    keys.ACTIVE,
    keys.STATE,
    keys.INBOX,
    keys.PROMISE,
    keys.SCHEDULE,
)  # the slot follows the tag, so that the rows of a range of slots stand together
_BY_TIME = (keys.TIMER, keys.EXPIRY)
_SLOT_AT = {tag[0]: 1 for tag in _BY_SLOT} | {tag[0]: 10 for tag in _BY_TIME}
_META, _INBOX, _OUTBOX, _DEDUP = (
    tag[0] for tag in (keys.META, keys.INBOX, keys.OUTBOX, keys.DEDUP)
)
_CHECKSUMS = 1 << 128


class Source(Protocol):
    """An old partition."""

    def rows(self, start: bytes, stop: bytes) -> Iterator[Row]:
        """From ``start`` up to but not ``stop``, in key order; memory is bounded."""


class Sum(msgspec.Struct):
    """What some rows add up to, in whatever order: two sets of rows with equal sums are the same rows."""

    rows: int = 0
    size_bytes: int = 0
    checksum: int = 0  # of the rows' 128-bit hashes, modulo 2 ** 128

    def add(self, key: bytes, value: bytes) -> None:
        self.rows += 1
        self.size_bytes += len(key) + len(value)
        hash = xxhash.xxh3_128_intdigest(len(key).to_bytes(4, "big") + key + value)
        self.checksum = (self.checksum + hash) % _CHECKSUMS

    def add_all(self, other: "Sum") -> None:
        self.rows += other.rows
        self.size_bytes += other.size_bytes
        self.checksum = (self.checksum + other.checksum) % _CHECKSUMS


Sums = dict[int, Sum]  # by the first byte of the keys


class Survey:
    """What has to be known of all old partitions before the first new one is written. See ``survey``."""

    def __init__(self, old_count: int, new_count: int) -> None:
        self.old_count, self.new_count = old_count, new_count
        self.moves: list[dict[tuple[int, int], Sum]] = [{} for _ in range(new_count)]
        # by new partition: old partition and first byte of the key
        self.outgoing: list[Sum] = [Sum() for _ in range(new_count)]  # the new outboxes
        self._posted: dict[tuple[int, int], int] = {}  # last seq, by new source and destination
        self.received: dict[tuple[int, int], int] = {}  # last seq, by old destination and source
        self.outboxes: set[tuple[int, int]] = set()  # old source and destination
        self._counters = {keys.outbox_last(partition) for partition in range(old_count)}
        self._last_arrival = 0
        self._low_water: dict[int, bytes] = {}  # by old partition

    def add(self, source: int, key: bytes, value: bytes) -> None:
        """Take note of a row of an old partition. Raises StoreFormat, StoreDamaged, StoreError."""
        tag = key[0]
        at = _SLOT_AT.get(tag)
        if at is not None:
            self._add_moving(source, tag, key[at] << 8 | key[at + 1], key, value)
        elif tag == _META:
            self._add_meta(source, key, value)
        elif tag == _DEDUP:
            self.received[source, int.from_bytes(key[1:], "big")] = keys.unpack_number(value)
        elif tag == _OUTBOX:
            destination, _ = keys.split_outbox(key)
            if destination >= self.old_count:
                raise StoreDamaged(
                    f"partition {source} has a message for partition {destination}, of "
                    f"{self.old_count}; restore the data directory from a backup"
                )
            self.outboxes.add((source, destination))
        else:
            raise StoreFormat(
                f"partition {source} has rows in table 0x{tag:02x}, which this release does not "
                "know; repartition with the release that wrote them. Nothing was changed."
            )

    def add_outgoing(self, source: int, key: bytes, value: bytes) -> None:
        """Take note of a row of a new outbox."""
        self.outgoing[source].add(key, value)
        destination, seq = keys.split_outbox(key)
        self._posted[source, destination] = seq

    def meta(self, target: int) -> list[Row]:
        """The rows of a new partition that say something of all of it."""
        rows: list[Row] = []
        if self._last_arrival:
            rows.append((keys.LAST_ARRIVAL, keys.pack_number(self._last_arrival)))
        for (source, destination), seq in sorted(self._posted.items()):
            if source == target:
                rows.append((keys.outbox_last(destination), keys.pack_number(seq)))
        schedules = self._moved_to(target).get(keys.SCHEDULE[0], Sum()).rows
        if schedules:
            rows.append((keys.SCHEDULE_COUNT, keys.pack_number(schedules)))
        if len(self._low_water) == self.old_count:  # else some partition has fired none yet
            rows.append((keys.TIMER_LOW_WATER, min(self._low_water.values())))
        return rows

    def expected(self, target: int) -> Sums:
        """What a new partition must hold, by table."""
        sums = self._moved_to(target)
        for tag, made in ((_OUTBOX, self.outgoing[target]), (_META, _sum(self.meta(target)))):
            if made.rows:
                sums[tag] = made
        return sums

    def _moved_to(self, target: int) -> Sums:
        sums: Sums = {}
        for (_, tag), moved in self.moves[target].items():
            sums.setdefault(tag, Sum()).add_all(moved)
        return sums

    def _add_moving(self, source: int, tag: int, slot: int, key: bytes, value: bytes) -> None:
        owner = owner_of_slot(slot, self.old_count)
        if owner != source:
            raise StoreDamaged(
                f"partition {source} has the row {key.hex()}, whose slot {slot} belongs to partition "
                f"{owner}; restore the data directory from a backup"
            )
        target = owner_of_slot(slot, self.new_count)
        move = self.moves[target].get((source, tag))
        if move is None:
            move = self.moves[target][source, tag] = Sum()
        move.add(key, value)
        if tag == _INBOX:
            entry = decode_inbox_entry(value)
            if type(entry) is Queued and owner_of(entry.invocation, self.new_count) != target:
                raise StoreError(
                    f"the invocation {entry.invocation.hex()} waits for a key whose place would be in "
                    "another partition than its own (its scope decides that); let what has a scope "
                    "end before you repartition. Nothing was changed."
                )

    def _add_meta(self, source: int, key: bytes, value: bytes) -> None:
        if key == keys.LAST_ARRIVAL:
            self._last_arrival = max(self._last_arrival, keys.unpack_number(value))
        elif key == keys.TIMER_LOW_WATER:
            self._low_water[source] = value
        elif key != keys.SCHEDULE_COUNT and key not in self._counters:  # these are counted again
            raise StoreFormat(
                f"partition {source} has a row {key!r}, which this release does not know; "
                "repartition with the release that wrote it. Nothing was changed."
            )


def owner_of_row(key: bytes, count: int) -> int | None:
    """The partition that a row belongs to; None for those that each partition has of its own."""
    at = _SLOT_AT.get(key[0])
    return None if at is None else owner_of(key[at:], count)


def survey(sources: Sequence[Source], new_count: int) -> Survey:
    """Read everything once. Raises what ``Survey.add`` does, and what the sources do."""
    found = Survey(len(sources), new_count)
    for index, source in enumerate(sources):
        for key, value in source.rows(*ALL_ROWS):
            found.add(index, key, value)
    for target, (key, value) in iter_outgoing(found, sources):
        found.add_outgoing(target, key, value)
    return found


def iter_rows_of(target: int, found: Survey, sources: Sequence[Source]) -> Iterator[Row]:
    """Every row of a new partition."""
    first, behind = slot_range(target, found.new_count)
    for index, source in enumerate(sources):
        start, stop = slot_range(index, found.old_count)
        if start >= behind or stop <= first:
            continue
        for tag in _BY_SLOT:
            yield from source.rows(_first_key(tag, first), _first_key(tag, behind))
        for tag in _BY_TIME:
            at = _SLOT_AT[tag[0]]
            for row in source.rows(*_table(tag)):
                if first <= row[0][at] << 8 | row[0][at + 1] < behind:
                    yield row
    if found.outgoing[target].rows:
        for sender, row in iter_outgoing(found, sources):
            if sender == target:
                yield row
    yield from found.meta(target)


def iter_outgoing(found: Survey, sources: Sequence[Source]) -> Iterator[tuple[int, Row]]:
    """The messages that their destination does not have yet: the new partition of the sender, the new row.

    In the old order of each pair of partitions, which is that of any sender and target; numbered from 1 for
    each new pair, without a gap.
    """
    last: dict[tuple[int, int], int] = {}
    for index, destination in sorted(found.outboxes):
        after_seq = found.received.get((destination, index), 0)
        for _, value in sources[index].rows(*keys.outbox_range(destination, after_seq)):
            outgoing = outbox.decode(value)
            sender = owner_of(outgoing.sender, found.new_count)
            to = owner_of(outgoing.to, found.new_count)
            last[sender, to] = seq = last.get((sender, to), 0) + 1
            yield sender, (keys.outbox(to, seq), value)


def sum_rows(rows: Iterable[Row]) -> Sums:
    """What rows add up to, by table."""
    sums: Sums = {}
    for key, value in rows:
        found = sums.get(key[0])
        if found is None:
            found = sums[key[0]] = Sum()
        found.add(key, value)
    return sums


def _sum(rows: Iterable[Row]) -> Sum:
    total = Sum()
    for key, value in rows:
        total.add(key, value)
    return total


def _first_key(tag: bytes, slot: int) -> bytes:
    """Where the rows of a slot begin in a table; behind the last slot, where the table ends."""
    return tag + slot.to_bytes(2, "big") if slot < SLOT_COUNT else _table(tag)[1]


def _table(tag: bytes) -> tuple[bytes, bytes]:
    return tag, bytes([tag[0] + 1])
