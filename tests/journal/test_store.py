"""What every store promises, on LevelDB and in memory alike; sizes; and what a crash leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from perdure.journal.errors import (
    AppendBusy,
    EntryTooLarge,
    Fenced,
    Indeterminate,
    StoreError,
    StoreFailed,
    Unavailable,
)
from perdure.journal.store import (
    EMBEDDED_VALUE_BYTES,
    EMPTY,
    LOG_GROUP_BYTES,
    WRITE_OVERHEAD_BYTES,
    Group,
    MemoryStore,
    Store,
    Tail,
    Write,
    next_group,
    open_group,
    size_bytes,
    split,
    tail_of,
)
from tests.journal.stores import Fault, FaultyStore, new_id, open_small, put

Make = Callable[[], Store]


@pytest.fixture(params=["leveldb", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return lambda: MemoryStore(Random(1))
    return lambda: open_small(tmp_path / "data")


def _scenario(make: Make, body: Callable[[Store], Awaitable[object]]) -> None:
    async def run() -> None:
        store = make()
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(run())


# ---- rows ---------------------------------------------------------------------------------------


def test_appended_rows_are_read_back(make: Make) -> None:
    async def body(store: Store) -> None:
        await put(store, (b"\x10a", b"1"), (b"\x10b", b""), (b"\xf0z", b"9"))
        assert store.get(b"\x10a") == b"1"
        assert store.get(b"\x10b") == b""
        assert store.get(b"\x10c") is None
        await put(store, (b"\x10a", None), (b"\x10c", b"3"), (b"\x10never", None))
        assert store.scan(b"\x10", b"\xf1") == [(b"\x10b", b""), (b"\x10c", b"3"), (b"\xf0z", b"9")]

    _scenario(make, body)


def test_writes_of_a_group_apply_in_order(make: Make) -> None:
    async def body(store: Store) -> None:
        await put(
            store,
            (b"\x10a", b"1"),
            (b"\x10a", None),
            (b"\x10a", b"2"),
            (b"\x10b", b"3"),
            (b"\x10b", None),
        )
        assert store.scan(b"\x10", b"\x11") == [(b"\x10a", b"2")]

    _scenario(make, body)


def test_scan_includes_its_start_and_excludes_its_stop(make: Make) -> None:
    async def body(store: Store) -> None:
        await put(store, *((b"\x10" + bytes([i]), b"v") for i in range(10)))
        keys = [key[1] for key, _ in store.scan(b"\x10\x03", b"\x10\x07")]
        assert keys == [3, 4, 5, 6]
        assert [key[1] for key, _ in store.scan(b"\x10\x03", b"\x11", limit=2)] == [3, 4]
        assert store.scan(b"\x10\x03", b"\x10\x03") == []
        assert store.scan(b"\x10\x07", b"\x10\x03") == []
        assert store.scan(b"\x10", b"\x11", limit=0) == []

    _scenario(make, body)


def test_approximate_bytes_grows_with_what_is_stored(make: Make) -> None:
    async def body(store: Store) -> None:
        before = store.approximate_bytes()
        await put(store, *((b"\x10" + bytes([i]), Random(i).randbytes(1000)) for i in range(100)))
        assert store.approximate_bytes() - before >= 100_000

    _scenario(make, body)


# ---- the log ------------------------------------------------------------------------------------


def test_an_opening_begins_an_epoch_with_an_open_record(make: Make) -> None:
    async def body(store: Store) -> None:
        assert (store.tail.pos, store.tail.epoch) == (1, 1)

    _scenario(make, body)


def test_append_moves_the_tail_to_the_group(make: Make) -> None:
    async def body(store: Store) -> None:
        group = next_group(store.tail, b"i" * 16, [(b"\x10", b"")])
        assert await store.append(group, store.tail) == Tail(2, 1, b"i" * 16)
        assert store.tail == Tail(2, 1, b"i" * 16)

    _scenario(make, body)


def test_append_after_another_place_than_the_tail_is_fenced(make: Make) -> None:
    async def body(store: Store) -> None:
        old = store.tail
        await put(store)
        tail = store.tail
        writes: list[Write] = [(b"\x10x", b"1")]
        wrong: list[tuple[Group, Tail]] = [
            (next_group(old, new_id(), writes), old),
            (next_group(tail, new_id(), writes), old),
            (Group(tail.pos + 2, 1, new_id(), tail.id, writes), tail),
            (Group(tail.pos + 1, 1, new_id(), old.id, writes), tail),
            (Group(tail.pos + 1, 2, new_id(), tail.id, writes), tail),
            (Group(tail.pos + 1, 0, new_id(), tail.id, []), tail),
        ]
        for group, after in wrong:
            with pytest.raises(Fenced, match="Another owner"):
                await store.append(group, after)
        assert store.tail == tail
        assert store.get(b"\x10x") is None

    _scenario(make, body)


def test_an_open_record_may_begin_any_higher_epoch(make: Make) -> None:
    async def body(store: Store) -> None:
        group = open_group(store.tail, 7, new_id())
        assert (await store.append(group, store.tail)).epoch == 7
        await put(store, (b"\x10", b""))

    _scenario(make, body)


def test_a_second_append_in_flight_is_busy_and_may_be_repeated(make: Make) -> None:
    async def body(store: Store) -> None:
        first = asyncio.ensure_future(put(store, (b"\x10a", b"1")))
        await asyncio.sleep(0)
        with pytest.raises(AppendBusy):
            await put(store, (b"\x10b", b"2"))
        await first
        await put(store, (b"\x10b", b"2"))
        assert len(store.scan(b"\x10", b"\x11")) == 2

    _scenario(make, body)


def test_cancelling_the_caller_does_not_cancel_the_append(make: Make) -> None:
    async def body(store: Store) -> None:
        after = store.tail
        group = next_group(after, new_id(), [(b"\x10a", b"1")])
        task = asyncio.ensure_future(store.append(group, after))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.settle(group, after) == tail_of(group) == store.tail
        assert store.get(b"\x10a") == b"1"
        await put(store, (b"\x10a", b"2"))

    _scenario(make, body)


def test_close_waits_for_the_append_in_flight_and_may_be_repeated(make: Make) -> None:
    async def body(store: Store) -> None:
        task = asyncio.ensure_future(put(store, (b"\x10a", b"1")))
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert (await task).pos == 2
        with pytest.raises(StoreFailed, match="open it again"):
            store.get(b"\x10a")
        with pytest.raises(StoreFailed):
            store.scan(b"\x10", b"\x11")
        with pytest.raises(StoreFailed):
            await put(store)

    _scenario(make, body)


def test_what_no_store_takes_is_refused_and_nothing_is_written(make: Make) -> None:
    async def body(store: Store) -> None:
        tail = store.tail
        big = bytes(EMBEDDED_VALUE_BYTES)
        for writes, error in (
            ([(b"\x10a", b"1"), (b"\x10b", big + b"x")], EntryTooLarge),
            ([(b"\x10%d" % n, big) for n in range(5)], EntryTooLarge),
            ([(b"\x10a", b"1"), (b"\x00applied", b"")], ValueError),
            ([(b"\x10a", b"1"), (b"\xff", b"")], ValueError),
            ([(b"\x10a", b"1"), (b"", b"")], ValueError),
        ):
            with pytest.raises(error):
                await put(store, *writes)
        assert store.tail == tail
        assert store.scan(b"\x10", b"\xf1") == []
        await put(store, (b"\x10a", b"1"))

    _scenario(make, body)


# ---- sizes --------------------------------------------------------------------------------------


def test_size_counts_keys_values_and_framing() -> None:
    writes: list[Write] = [(b"\x10ab", b"1234"), (b"\x10", None)]
    assert size_bytes(writes) == 3 + 4 + 1 + 2 * WRITE_OVERHEAD_BYTES


def test_split_keeps_steps_whole_and_in_order() -> None:
    steps: list[list[Write]] = [
        [(bytes([0x10, i]), bytes(100)), (bytes([0x11, i]), None)] for i in range(10)
    ]
    step_bytes = size_bytes(steps[0])
    parts = split(steps, limit_bytes=3 * step_bytes + 1)
    assert [len(part) for part in parts] == [6, 6, 6, 2]
    assert [write for part in parts for write in part] == [w for step in steps for w in step]
    assert split([], LOG_GROUP_BYTES) == []


def test_split_refuses_a_step_that_fits_no_group() -> None:
    with pytest.raises(EntryTooLarge, match="one step has 1000017 bytes"):
        split([[(b"\x10", bytes(1_000_000))]])


def test_an_open_record_needs_a_higher_epoch() -> None:
    with pytest.raises(ValueError, match="does not follow"):
        open_group(Tail(4, 3, new_id()), 3, new_id())
    assert open_group(EMPTY, 1, b"i" * 16) == Group(1, 1, b"i" * 16, bytes(16), [])


# ---- in memory ----------------------------------------------------------------------------------


def test_a_crash_of_the_memory_store_keeps_what_had_returned() -> None:
    async def run() -> None:
        store = MemoryStore(Random(3))
        await put(store, (b"\x10a", b"1"))
        again = store.crash()
        assert again.scan(b"\x10", b"\x11") == [(b"\x10a", b"1")]
        assert (again.tail.pos, again.tail.epoch) == (3, 2)
        with pytest.raises(StoreFailed, match="crashed"):
            store.get(b"\x10a")
        await put(again, (b"\x10a", b"2"))

    asyncio.run(run())


def test_a_crash_leaves_the_append_in_flight_absent_or_present() -> None:
    async def run(seed: int) -> bytes | None:
        store = MemoryStore(Random(seed))
        task = asyncio.ensure_future(put(store, (b"\x10a", b"1")))
        await asyncio.sleep(0)
        again = store.crash()
        with pytest.raises(StoreFailed):
            await task
        assert again.tail.pos == (3 if again.get(b"\x10a") else 2)
        return again.get(b"\x10a")

    found = [asyncio.run(run(seed)) for seed in range(20)]
    assert {None, b"1"} == set(found)
    assert found == [asyncio.run(run(seed)) for seed in range(20)]


def test_the_memory_store_answers_on_the_next_turn_of_the_loop() -> None:
    async def run() -> None:
        store = MemoryStore(Random(0))
        task = asyncio.ensure_future(put(store, (b"\x10a", b"1")))
        await asyncio.sleep(0)
        assert store.get(b"\x10a") is None
        await task
        assert store.get(b"\x10a") == b"1"

    asyncio.run(run())


# ---- the outcomes that only other logs have ------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.FENCED, Fenced),
        (Fault.BUSY, AppendBusy),
        (Fault.UNAVAILABLE, Unavailable),
        (Fault.TOO_LARGE, EntryTooLarge),
    ],
)
def test_a_definite_refusal_writes_nothing_and_may_be_followed_by_the_same_append(
    fault: Fault, error: type[StoreError]
) -> None:
    async def run() -> None:
        store = FaultyStore(MemoryStore(Random(0)), [fault])
        after = store.tail
        group = next_group(after, new_id(), [(b"\x10a", b"1")])
        with pytest.raises(error):
            await store.append(group, after)
        assert await store.settle(group, after) is None
        assert await store.append(group, after) == tail_of(group)

    asyncio.run(run())


def test_settling_tells_a_written_group_from_a_lost_one() -> None:
    async def run() -> None:
        store = FaultyStore(MemoryStore(Random(0)), [Fault.LOST, Fault.WRITTEN])
        after = store.tail
        group = next_group(after, new_id(), [(b"\x10a", b"1")])
        with pytest.raises(Indeterminate):
            await store.append(group, after)
        assert await store.settle(group, after) is None
        with pytest.raises(Indeterminate):
            await store.append(group, after)
        assert await store.settle(group, after) == tail_of(group)
        other = next_group(after, new_id(), [])
        with pytest.raises(Fenced):
            await store.settle(other, after)

    asyncio.run(run())


def test_a_failed_store_answers_nothing_more() -> None:
    async def run() -> None:
        store = FaultyStore(MemoryStore(Random(0)), [Fault.FAILED])
        for call in (put(store), put(store)):
            with pytest.raises(StoreFailed):
                await call
        with pytest.raises(StoreFailed):
            store.get(b"\x10")

    asyncio.run(run())
