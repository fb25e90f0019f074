"""The parts that count and list, by values and on a store in memory."""

import asyncio
import random
from collections.abc import Iterable

import pytest

from perdure.gateway.console import listing, objects, shapes, timeline
from perdure.gateway.console.census import Count
from perdure.gateway.console.listing import Wanted
from perdure.gateway.console.meter import Meter
from perdure.journal import entries as e
from perdure.journal import ids, keys, records
from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.lately import LIMIT, Lately
from perdure.journal.records import (
    BackingOff,
    Completed,
    Inboxed,
    Invocation,
    Paused,
    Running,
    Scheduled,
    Status,
    Suspended,
)
from perdure.journal.schema import HandlerType
from perdure.journal.store import MemoryStore, Write, next_group
from perdure.journal.tally import KEPT, decode_head

DONE = Completed(e.Value(b'"ok"'), 5, 10)


def record(number: int, service: str = "Counter", status: Status = DONE) -> Invocation:
    key = None if service == "Shop" else f"k{number}"
    return Invocation(
        service, "add", key, HandlerType.EXCLUSIVE, status, number, number, 1, "ingress"
    )


def id_of(number: int, service: str = "Counter") -> bytes:
    key = None if service == "Shop" else f"k{number}"
    return ids.fresh_id(service, key, number, number.to_bytes(12, "big"))


class Stored(MemoryStore):
    def scan_keys(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        return [key for key, _ in self.scan(start, stop, limit)]

    def get_all(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        found = ((key, self.get(key)) for key in keys)
        return {key: value for key, value in found if value is not None}


def store_of(writes: list[Write]) -> Stored:
    store = Stored(random.Random(1))

    async def append() -> None:
        await store.append(next_group(store.tail, bytes(16), writes), store.tail)

    asyncio.run(append())
    return store


def counted(store: MemoryStore) -> Count:
    count = Count(is_whole=True)
    for key, value in store.scan(keys.INVOCATION, keys.JOURNAL):
        count.add(key, value)
    return count


def row(number: int, **how: object) -> Write:
    made = record(number, **how)  # type: ignore[arg-type]
    return keys.invocation(id_of(number, made.service)), records.encode(made)


def numbers(page: listing.Page) -> list[int]:
    return [each.created_at_ms for _, each in page.rows]


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (DONE, "completed"),
        (Completed(e.Failure(500, "no"), 1, 2), "completed"),
        (Scheduled(9), "scheduled"),
        (Inboxed(), "pending"),
        (Running(), "running"),
        (BackingOff(9), "backing-off"),
        (Suspended(Awaiting(Combinator.ALL_COMPLETED), 1), "suspended"),
        (Paused("why"), "paused"),
    ],
)
def test_a_status_is_read_off_the_head_of_a_record(status: Status, word: str) -> None:
    assert decode_head(records.encode(record(1, status=status))).status == word
    assert shapes.row(id_of(1), record(1, status=status))["status"] == word


def test_the_census_counts_all_and_keeps_the_newest() -> None:
    writes = [row(n) for n in range(KEPT + 50)] + [row(9999, service="Shop", status=Paused("x"))]
    count = counted(store_of(writes))
    assert count.counts == {("Counter", "completed"): KEPT + 50, ("Shop", "paused"): 1}
    kept = [number for number, _ in count.find("Counter", None)]
    assert kept == list(range(KEPT + 49, 49, -1))
    assert [number for number, _ in count.find(None, None)][:2] == [9999, KEPT + 49]


def test_a_page_is_newest_first_and_the_rest_follows_by_cursor() -> None:
    store = store_of([row(n) for n in range(300)])
    wanted = Wanted(service="Counter", limit=20)
    first = listing.page(store, wanted, counted(store), [])
    assert numbers(first) == list(range(299, 279, -1))
    seen, cursor = set(numbers(first)), first.cursor
    while cursor is not None:
        page = listing.page(store, Wanted("Counter", limit=20, cursor=cursor), Count(), [])
        seen |= set(numbers(page))
        cursor = page.cursor
    assert seen == set(range(300))


def test_a_page_that_shows_all_says_so() -> None:
    store = store_of([row(n) for n in range(7)])
    page = listing.page(store, Wanted(limit=20), counted(store), [])
    assert (len(page.rows), page.cursor, page.newest_first) == (7, None, True)


def test_what_changed_lately_is_found_before_it_is_counted() -> None:
    store = store_of([row(n) for n in range(5)])
    page = listing.page(
        store, Wanted(status="completed", limit=1), Count(), [(77, id_of(77)), (3, id_of(3))]
    )
    assert numbers(page) == [3]
    assert page.cursor is not None  # nobody has counted yet


def test_what_is_not_counted_yet_is_looked_for_behind_the_census() -> None:
    store = store_of([row(n, status=Paused("x") if n % 40 == 0 else DONE) for n in range(400)])
    rows = store.scan(keys.INVOCATION, keys.JOURNAL)
    count = Count(position=rows[200][0])
    for key, value in rows[:200]:
        count.add(key, value)
    page = listing.page(store, Wanted(status="paused"), count, [])
    assert numbers(page) == list(range(360, -1, -40))
    assert page.cursor is None  # all of it was seen


def test_a_key_is_a_range_of_ids() -> None:
    store = store_of([row(n) for n in range(50)])
    page = listing.page(store, Wanted(key="k7"), Count(), [])
    assert (numbers(page), page.cursor) == ([7], None)


def test_lately_is_bounded_and_forgets_what_is_gone() -> None:
    lately = Lately()
    for number in range(LIMIT + 5):
        lately.note(number.to_bytes(24, "big"), record(1))
    lately.note((LIMIT + 4).to_bytes(24, "big"), None)
    newest = lately.newest()
    assert len(newest) == LIMIT - 1
    assert newest[0] == (1, (LIMIT + 3).to_bytes(24, "big"))
    assert lately.completed_count == LIMIT + 5


def test_objects_are_listed_without_reading_all_of_their_state() -> None:
    writes: list[Write] = [
        (keys.state((service, f"k{n}"), f"name{i}"), b"1")
        for n in range(5)
        for service in ("Counter", "Cart")
        for i in range(20)
    ]
    store = store_of(writes)
    first, cursor = objects.objects(store, None, None, 4)
    rest, end = objects.objects(store, None, cursor, 100)
    found = {(each["service"], each["key"]) for each in [*first, *rest]}
    assert found == {(s, f"k{n}") for n in range(5) for s in ("Counter", "Cart")}
    assert end is None
    assert all(len(each["names"]) == 12 and each["has_more"] for each in first)
    carts, _ = objects.objects(store, "Cart", None, 100)
    assert [each["service"] for each in carts] == ["Cart"] * 5


def test_timers_come_in_order_and_say_which_fire_into_nothing() -> None:
    open_id, over_id = id_of(1), id_of(2)
    store = store_of(
        [
            row(1, status=Running()),
            row(2),
            (keys.timer(90, keys.TimerKind.SLEEP, open_id, 3), keys.pack_number(0)),
            (keys.timer(50, keys.TimerKind.RETRY, over_id), keys.pack_number(0)),
        ]
    )
    found, cursor = objects.timers(store, None, 10)
    assert [(each["due"], each["kind"], "is_obsolete" in each) for each in found] == [
        (50, "retry", True),
        (90, "sleep", False),
    ]
    assert cursor is None


def test_commands_are_paired_with_what_completed_them() -> None:
    child = ids.format_invocation_id(id_of(1))
    journal: list[timeline.Timed] = [
        (e.Input((), b"1"), 1_000),
        (e.Call(1, 2, "Counter", "add", "k1", b"1"), 1_002),
        (e.Sleep(3, 99), 1_002),
        (e.Completion(1, e.InvocationId(child)), 1_003),
        (e.Completion(2, e.Value(b"7")), 1_005),
        (e.Signal(17, e.Value(b"x")), None),
        (e.Verbatim(e.Run(4, "pay"), b"wire"), None),
    ]
    items = timeline.pair(journal, 0)
    call, sleep, signal, run = items[1], items[2], items[3], items[4]
    assert (call["child"], call["end"], call["open"]) == (child, 4, False)
    assert call["title"] == "Counter/k1/add"
    assert (call["at"], call["until"]) == (1_002, 1_005)
    assert ("until" in sleep, "at" in signal, "at" in run) == (False, False, False)
    assert (sleep["open"], sleep["due"]) == (True, 99)
    assert signal["title"] == "awakeable 17"
    assert (run["type"], run["name"], run["open"]) == ("run", "pay", True)
    later = timeline.pair(journal[4:], 4)
    assert later[0]["of"] == 2  # its command is on the page before


def test_a_long_journal_comes_in_pages() -> None:
    id = id_of(1)
    segments: list[Write] = [
        (keys.journal(id, n * 100), e.encode([e.SetState("x", b"%d" % i) for i in range(100)]))
        for n in range(12)
    ]
    store = store_of(segments)
    first = timeline.timeline(store, id, 0)
    assert (len(first["items"]), first["next"]) == (timeline.MOST, timeline.MOST)
    last = timeline.timeline(store, id, 1_150)
    assert [each["index"] for each in last["items"]] == list(range(1_150, 1_200))
    assert "next" not in last


def test_a_timeline_has_moments_from_where_a_new_release_went_on() -> None:
    id = id_of(1)
    old = e.encode((e.Input((), b"1"), e.Sleep(1, 99)))
    new = e.encode_segment((e.Completion(1, e.Void()), e.Output(e.Value(b"2"))), 5_000)
    store = store_of([(keys.journal(id, 0), old), (keys.journal(id, 2), new)])
    begin, sleep, output = timeline.timeline(store, id, 0)["items"]
    assert ("at" in begin, "at" in sleep, sleep["until"]) == (False, False, 5_000)
    assert (output["index"], output["at"]) == (3, 5_000)
    (later,) = timeline.timeline(store, id, 3)["items"]
    assert (later["index"], later["at"]) == (3, 5_000)


def test_a_cut_does_not_break_a_character() -> None:
    shown = shapes.payload("ä".encode() * 10, 5)
    assert shown == {"size": 20, "is_cut": True, "text": "ää"}
    assert shapes.payload(b"\xff\x00") == {"size": 2, "base64": "/wA="}


def test_a_cursor_is_only_taken_for_its_own_table() -> None:
    assert objects.cursor_of("2001", keys.INVOCATION) == b"\x20\x01"
    for text in ("", "zz", "2101"):
        with pytest.raises(objects.BadCursor):
            objects.cursor_of(text, keys.INVOCATION)


def test_the_meter_tells_rates_and_quantiles_of_the_last_minute() -> None:
    now = 1000.0
    meter = Meter(lambda: now)
    for number in range(100):
        meter.note(999.5, 0.001 * (number + 1), failed=number == 0)
    rates = meter.rates()
    assert (rates.requests[-1], rates.failures[-1]) == (100, 1)
    assert rates.latency is not None
    assert 50_000 <= rates.latency.p50_us <= 56_000
    assert 99_000 <= rates.latency.p99_us <= 112_000
    now = 1200.0
    assert sum(meter.rates().requests) == 0
    assert meter.rates().latency is None
