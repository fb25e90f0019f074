"""What becomes of the rows when the number of partitions changes, in memory."""

from bisect import bisect_left
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.journal import ids, keys, outbox, records
from perdure.journal.errors import StoreDamaged, StoreError, StoreFormat
from perdure.journal.keys import ExpiryKind, TimerKind
from perdure.journal.outbox import Attach, Outgoing
from perdure.journal.placement import owner_of, slot_range
from perdure.journal.records import Queued, StatePatch, Waiter
from perdure.journal.repartition import iter_rows_of, sum_rows, survey
from perdure.journal.store import Row

_MADE_ANEW = (keys.META, keys.OUTBOX, keys.DEDUP)

counts = st.integers(1, 9) | st.just(64)
key_names = st.text(max_size=4)
raw_ids = st.builds(
    lambda key, rest: ids.key_partition(key).to_bytes(8, "big") + rest,
    key_names,
    st.binary(min_size=16, max_size=16),
)
values = st.binary(max_size=20)
times = st.integers(0, 1 << 40)
addresses = st.tuples(st.sampled_from(["Counter", "Cart"]), key_names)


def _queued(address: records.Address, arrival: int, rest: bytes) -> Row:
    id = ids.key_partition(address[1]).to_bytes(8, "big") + rest
    return keys.inbox(address, arrival), records.encode(Queued(id))


rows_that_move = st.one_of(
    st.tuples(raw_ids.map(keys.invocation), values),
    st.tuples(st.builds(keys.journal, raw_ids, st.integers(0, 9)), values),
    st.tuples(raw_ids.map(keys.active), st.just(b"")),
    st.tuples(st.builds(keys.state, addresses, key_names), values),
    st.tuples(st.builds(keys.promise, addresses, key_names), values),
    st.builds(_queued, addresses, times, st.binary(min_size=16, max_size=16)),
    st.tuples(
        st.builds(keys.inbox, addresses, times), st.just(records.encode(StatePatch({}, None)))
    ),
    st.tuples(st.builds(keys.timer, times, st.sampled_from(TimerKind), raw_ids), values),
    st.tuples(st.builds(keys.expiry, times, st.sampled_from(ExpiryKind), raw_ids), values),
    st.tuples(key_names.map(ids.schedule_id).map(keys.schedule), values),
)


class Stored:
    """A partition in memory."""

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self.content = dict(sorted(rows.items()))
        self._keys = list(self.content)

    def rows(self, start: bytes, stop: bytes) -> Iterator[Row]:
        for key in self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, stop)]:
            yield key, self.content[key]

    def table(self, *tags: bytes) -> dict[bytes, bytes]:
        return {key: value for key, value in self.content.items() if key[:1] in tags}

    def number(self, key: bytes) -> int | None:
        raw = self.content.get(key)
        return None if raw is None else keys.unpack_number(raw)


def repartition(old: list[Stored], count: int) -> list[Stored]:
    found = survey(old, count)
    new = []
    for target in range(count):
        rows = list(iter_rows_of(target, found, old))
        assert len(dict(rows)) == len(rows), "no row is there twice"
        assert sum_rows(rows) == found.expected(target)
        new.append(Stored(dict(rows)))
    return new


def moved(partitions: list[Stored]) -> dict[bytes, bytes]:
    """All rows but those that are made anew; each is in one partition only."""
    together: dict[bytes, bytes] = {}
    for partition in partitions:
        for key, value in partition.content.items():
            if key[:1] not in _MADE_ANEW:
                assert key not in together
                together[key] = value
    return together


@settings(deadline=None, max_examples=60)
@given(counts, counts)
def test_partitions_without_rows_stay_without_rows(first: int, second: int) -> None:
    assert all(not each.content for each in repartition(repartition([Stored({})], first), second))


@settings(deadline=None, max_examples=60)
@given(st.lists(rows_that_move, max_size=40), st.lists(counts, min_size=1, max_size=4))
def test_split_and_merged_rows_are_the_same_rows(rows: list[Row], chain: list[int]) -> None:
    start = Stored(dict(rows))
    partitions = [start]
    for count in chain:
        partitions = repartition(partitions, count)
        assert moved(partitions) == start.content
    (merged,) = repartition(partitions, 1)
    assert merged.table(*(bytes([n]) for n in range(0x20, 0x61))) == start.content


@settings(deadline=None, max_examples=60)
@given(st.lists(rows_that_move, max_size=40), counts)
def test_each_row_is_in_the_partition_of_its_slot(rows: list[Row], count: int) -> None:
    for index, partition in enumerate(repartition([Stored(dict(rows))], count)):
        first, behind = slot_range(index, count)
        for key in partition.content:
            if key[:1] in (keys.TIMER, keys.EXPIRY):
                assert first <= int.from_bytes(key[10:12], "big") < behind
            elif key[:1] != keys.META:
                assert first <= int.from_bytes(key[1:3], "big") < behind


@settings(deadline=None, max_examples=60)
@given(st.sets(key_names, max_size=20), counts)
def test_schedules_are_counted_in_each_partition(names: set[str], count: int) -> None:
    rows = {keys.schedule(ids.schedule_id(name)): b"schedule" for name in names}
    rows[keys.SCHEDULE_COUNT] = keys.pack_number(len(names))
    for partition in repartition([Stored(rows)], count):
        assert partition.number(keys.SCHEDULE_COUNT) == (
            len(partition.table(keys.SCHEDULE)) or None
        )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | st.integers(1, 1 << 40), min_size=1, max_size=8), counts)
def test_no_arrival_number_is_given_out_again(last: list[int | None], count: int) -> None:
    old = [Stored({} if n is None else {keys.LAST_ARRIVAL: keys.pack_number(n)}) for n in last]
    highest = max((n for n in last if n is not None), default=None)
    assert {each.number(keys.LAST_ARRIVAL) for each in repartition(old, count)} == {highest}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | times, min_size=1, max_size=8), counts)
def test_timers_are_read_from_where_no_partition_has_fired_yet(
    fired: list[int | None], count: int
) -> None:
    old = [Stored({} if n is None else {keys.TIMER_LOW_WATER: keys.timers_from(n)}) for n in fired]
    known = [n for n in fired if n is not None]
    expected = keys.timers_from(min(known)) if len(known) == len(fired) else None
    for partition in repartition(old, count):
        assert partition.content.get(keys.TIMER_LOW_WATER) == expected


# ---- messages between partitions ----------------------------------------------------------------


def _message(sender: bytes, to: bytes, number: int) -> bytes:
    return outbox.encode(Outgoing(sender[:8], to, Attach(Waiter(sender, number, 0), True)))


def _number(value: bytes) -> int:
    message = outbox.decode(value).message
    assert isinstance(message, Attach)
    return message.waiter.completion_id


def _with_messages(
    count: int, messages: list[tuple[bytes, bytes]], arrived: int
) -> tuple[list[Stored], set[int]]:
    """Partitions that have sent ``messages``, of which the first ``arrived`` took effect; and the others."""
    rows: list[dict[bytes, bytes]] = [{} for _ in range(count)]
    for number, (sender, to) in enumerate(messages):
        source, destination = owner_of(sender, count), owner_of(to, count)
        counter = keys.outbox_last(destination)
        seq = keys.unpack_number(rows[source].get(counter, bytes(8))) + 1
        rows[source][counter] = keys.pack_number(seq)
        rows[source][keys.outbox(destination, seq)] = _message(sender, to, number)
        if number < arrived:
            rows[destination][keys.dedup(source)] = keys.pack_number(seq)
    return [Stored(each) for each in rows], set(range(arrived, len(messages)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(raw_ids, raw_ids), max_size=30), st.data(), counts, counts)
def test_messages_that_did_not_arrive_stay_in_order_and_the_others_go(
    messages: list[tuple[bytes, bytes]], data: st.DataObject, old_count: int, new_count: int
) -> None:
    arrived = data.draw(st.integers(0, len(messages)))
    old, waiting = _with_messages(old_count, messages, arrived)
    seen: set[int] = set()
    order: dict[tuple[bytes, bytes], list[int]] = {}
    for index, partition in enumerate(repartition(old, new_count)):
        assert not partition.table(keys.DEDUP)
        last: dict[int, int] = {}
        for key, value in partition.table(keys.OUTBOX).items():
            destination, seq = keys.split_outbox(key)
            assert seq == last.get(destination, 0) + 1, "without a gap, from 1"
            last[destination] = seq
            sent = outbox.decode(value)
            assert owner_of(sent.sender, new_count) == index
            assert owner_of(sent.to, new_count) == destination
            seen.add(_number(value))
            order.setdefault((sent.sender, sent.to), []).append(_number(value))
        for destination in range(new_count):
            assert partition.number(keys.outbox_last(destination)) == last.get(destination)
    assert seen == waiting
    assert all(numbers == sorted(numbers) for numbers in order.values())


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"\x23new table", keys.META + b"new row"])
def test_rows_of_a_newer_release_are_refused(key: bytes) -> None:
    with pytest.raises(StoreFormat, match="does not know"):
        survey([Stored({key: b""})], 2)


def test_a_row_in_the_wrong_partition_is_damage() -> None:
    with pytest.raises(StoreDamaged, match="belongs to partition 1"):
        survey([Stored({keys.invocation(b"\xff" * 24): b""}), Stored({})], 3)


def test_an_invocation_that_would_part_from_its_key_is_refused() -> None:
    row = keys.inbox(("Counter", "alice"), 1), records.encode(Queued(b"\x00" * 24))
    assert survey([Stored(dict([row]))], 1)
    with pytest.raises(StoreError, match="scope"):
        survey([Stored(dict([row]))], 2)


def test_sums_tell_a_changed_row_and_ignore_the_order() -> None:
    rows = [(keys.invocation(bytes(24)), b"one"), (keys.active(bytes(24)), b"")]
    assert sum_rows(rows) == sum_rows(reversed(rows))
    assert sum_rows(rows) != sum_rows([(rows[0][0], b"two"), rows[1]])
    assert sum_rows([(b"\x20ab", b"c")]) != sum_rows([(b"\x20a", b"bc")])
