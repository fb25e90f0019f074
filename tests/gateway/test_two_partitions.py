"""Everything that the gateway shows beyond requests, over two partitions with a store each."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.actors.inspector import Inspector
from perdure.actors.inspectors import Inspectors
from perdure.journal import keys
from perdure.journal.errors import StoreFailed
from perdure.journal.ids import parse_invocation_id
from perdure.journal.inspecting import (
    PART_BYTES,
    Asks,
    CountPinned,
    Fetch,
    Inspection,
    Look,
    Missing,
    Newest,
    Rows,
    Scan,
)
from perdure.journal.placement import owner_of
from perdure.journal.requests import Op
from tests.gateway.two_partitions import COUNT, Served, key_of, two_partitions

PATIENCE_S = 20.0


def serving(
    data: Path, test: Callable[[Served], Awaitable[None]], inspection: Inspection | None = None
) -> None:
    async def run() -> None:
        async with two_partitions(data, inspection) as served:
            await test(served)

    asyncio.run(run())


async def put_some(served: Served, each: int = 3) -> dict[str, int]:
    """Invocations of both partitions: id to partition."""
    found = {}
    for partition in range(COUNT):
        for number in range(each):
            id = await served.two.call(key_of(partition, number), "put", f"v{number}")
            assert owner_of(parse_invocation_id(id), COUNT) == partition
            found[id] = partition
    return found


async def until(look: Callable[[], Awaitable[Any]], expected: Any) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while (found := await look()) != expected:
        assert time.monotonic() < give_up_at, found
        await asyncio.sleep(0.01)


# ---- SQL -----------------------------------------------------------------------------------------


def test_a_query_sees_the_rows_of_all_partitions_in_order(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ids = await put_some(served)
        rows = await served.rows("select id from sys_invocation_status order by partition_key")
        assert {each["id"] for each in rows} == set(ids)
        assert [ids[each["id"]] for each in rows] == [0, 0, 0, 1, 1, 1]
        state = await served.rows("select service_key, value_utf8 from state")
        assert len(state) == len(ids)
        assert (await served.rows("select count(*) as n from sys_journal"))[0]["n"] > len(ids)

    serving(tmp_path, test)


def test_many_rows_come_in_parts_and_none_twice(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ids = await put_some(served, each=150)
        rows = await served.rows("select id from sys_invocation")
        assert len(rows) == len(ids) == 300
        assert {each["id"] for each in rows} == set(ids)

    serving(tmp_path, test)


def test_live_facts_are_of_all_partitions(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        for partition in range(COUNT):
            await served.two.send(key_of(partition), "hold", None)
            await served.two.send(key_of(partition), "put", "waits")
        query = "select status, count(*) as n from sys_invocation group by status order by status"
        expected = [{"status": "pending", "n": 2}, {"status": "running", "n": 2}]
        await until(lambda: served.rows(query), expected)
        waiting = "select id from sys_invocation where last_awaiting_on_future_json is not null"
        await until(lambda: _size(served.rows(waiting)), 2)
        locks = await served.rows("select service_key from sys_keyed_service_status")
        assert {each["service_key"] for each in locks} == {key_of(0), key_of(1)}

    serving(tmp_path, test)


async def _size(rows: Awaitable[list[Any]]) -> int:
    return len(await rows)


def test_a_query_for_an_id_or_a_key_needs_no_other_partition(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ids = await put_some(served, each=1)
        await served.stop(1)
        here = next(id for id, partition in ids.items() if partition == 0)
        gone = next(id for id, partition in ids.items() if partition == 1)
        by_id = "select target_service_key from sys_invocation where id = '{}'"
        assert await served.rows(by_id.format(here)) == [{"target_service_key": key_of(0)}]
        by_key = "select value_utf8 from state where service_name = 'Box' and service_key = '{}'"
        assert await served.rows(by_key.format(key_of(0))) == [{"value_utf8": '"v0"'}]
        journal = f"select entry_type from sys_journal where id = '{here}'"
        assert len(await served.rows(journal)) > 1
        for query in (by_id.format(gone), by_key.format(key_of(1)), "select id from sys_journal"):
            refused = await served.query(query)
            assert refused.status_code == 503, refused.text
            assert "partition 1 is down: the engine crashed" in refused.text

    serving(tmp_path, test)


def test_the_table_of_partitions_says_who_has_which_keys(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        await served.stop(1)
        rows = await served.rows(
            "select partition_id, start_key, end_key, state, reason from partitions"
        )
        assert rows == [
            {"partition_id": 0, "start_key": 0, "end_key": 2**63 - 1, "state": "up"},
            {
                "partition_id": 1,
                "start_key": 2**63,
                "end_key": 2**64 - 1,
                "state": "down",
                "reason": "the engine crashed",
            },
        ]

    serving(tmp_path, test)


def test_rows_can_be_joined_with_their_partitions(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ids = await put_some(served)
        rows = await served.rows(
            "select s.id, p.partition_id from sys_invocation_status s "
            "join partitions p on s.partition_key between p.start_key and p.end_key"
        )
        assert {each["id"]: each["partition_id"] for each in rows} == ids

    serving(tmp_path, test)


# ---- rows ----------------------------------------------------------------------------------------


def test_timers_of_all_partitions_come_by_time(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        for hours, partition in ((1, 1), (2, 0), (3, 1), (4, 0)):
            await served.two.send(key_of(partition, hours), "nap", hours)
        wanted = Scan(keys.TIMER, keys.EXPIRY, 3, keys_only=True)
        ask = served.two.inspection.inspect

        async def count() -> int:
            return len((await ask(Scan(keys.TIMER, keys.EXPIRY, 10))).rows)

        await until(count, 4)
        first = await ask(wanted)
        assert isinstance(first, Rows)
        assert first.then is not None
        rest = await ask(Scan(first.then, keys.EXPIRY, 3))
        assert (len(first.rows), len(rest.rows), rest.then) == (3, 1, None)
        found = [key for key, _ in first.rows + rest.rows]
        assert found == sorted(found)
        owners = [owner_of(keys.split_timer(key)[2], COUNT) for key in found]
        assert owners == [1, 0, 1, 0]
        shown = (await served.admin.get("/ui/api/timers")).json()["rows"]
        assert [each["invocation"]["key"] for each in shown] == [
            key_of(1, 1), key_of(0, 2), key_of(1, 3), key_of(0, 4)
        ]  # fmt: skip

    serving(tmp_path, test)


def test_rows_are_fetched_in_the_order_of_their_keys_wherever_they_are(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ids = [parse_invocation_id(id) for id in await put_some(served)]
        wanted = [keys.invocation(id) for id in (ids[4], ids[0], ids[5])]
        wanted.insert(1, keys.invocation(bytes(24)))
        found = await served.two.inspection.inspect(Fetch(wanted))
        assert [key for key, _ in found.rows] == [wanted[0], wanted[2], wanted[3]]
        assert found.then is None

    serving(tmp_path, test)


def test_an_answer_is_bounded_and_says_where_to_go_on(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        for number in range(4):
            await served.two.call(key_of(number % 2, number), "put", "x" * (PART_BYTES // 2))
        part = await _parts(served, keys.STATE, keys.INBOX)
        assert part.then is not None
        assert len(part.rows) == 2
        fetched = await served.two.inspection.inspect(Fetch([key for key, _ in part.rows] * 2))
        assert (len(fetched.rows), fetched.then) == (2, part.rows[0][0])
        lengths = await served.rows("select value_length as n from state")
        assert lengths == [{"n": PART_BYTES // 2 + 2}] * 4

    serving(tmp_path, test)


def test_a_partition_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    class Silent:
        async def inspect(self, question: Asks[Any]) -> Any:
            await asyncio.Event().wait()

    async def test(served: Served) -> None:
        some = Inspectors([Inspector(served.two.engines[0]), Silent()], patience_s=0.01)
        first, second = (await some.inspect(Look())).partitions
        assert (first.reason, second.reason) == ("", "no answer within 0.01 s")
        assert (await some.inspect(Newest())).missing == (Missing(1, second.reason),)

    serving(tmp_path, test)


def test_a_scan_over_partitions_stays_in_one_table(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        with pytest.raises(ValueError, match="within one table"):
            await _parts(served, keys.INVOCATION, keys.TIMER)
        with pytest.raises(ValueError, match="of its own"):
            await _parts(served, keys.META, keys.META + b"\xff")

    serving(tmp_path, test)


async def _parts(served: Served, start: bytes, stop: bytes) -> Rows:
    return await served.two.inspection.inspect(Scan(start, stop, 10))


# ---- what is counted -----------------------------------------------------------------------------


def test_metrics_add_up_and_say_which_partition_is_down(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        await put_some(served)
        text = (await served.admin.get("/metrics")).text
        ended = 'perdure_invocations_completed_total{outcome="success",service="Box"} 6.0'
        assert ended in text
        assert 'perdure_partition_up{partition="1"} 1.0' in text
        await served.stop(1)
        text = (await served.admin.get("/metrics")).text
        assert ended in text  # what it had counted is not lost
        assert 'perdure_partition_up{partition="0"} 1.0' in text
        assert 'perdure_partition_up{partition="1"} 0.0' in text

    serving(tmp_path, test)


def test_pinned_invocations_are_counted_once_and_then_kept(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async def pinned() -> dict[str, int]:
            return (await served.two.inspection.inspect(CountPinned())).counts

        assert await pinned() == {}
        held = [await served.two.send(key_of(n % 2, n), "hold", None) for n in range(4)]
        await until(pinned, {"": 4})
        for id in held[:3]:
            await served.two.engines[owner_of(parse_invocation_id(id), COUNT)].operate(id, Op.KILL)
        await until(pinned, {"": 1})
        await served.stop(0)
        with pytest.raises(StoreFailed, match="partition 0 is down"):
            await pinned()

    serving(tmp_path, test)


# ---- pages ---------------------------------------------------------------------------------------


def test_the_tree_has_the_actors_of_all_partitions(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        await put_some(served)
        tree = (await served.admin.get("/tree")).json()
        assert (tree["down"], tree["actor_count"]) == ("", 8)
        found = {(each["partition"], each["key"]) for each in tree["actors"] if each["key"]}
        assert found == {(p, key_of(p, n)) for p in range(COUNT) for n in range(3)}
        await served.stop(1)
        tree = (await served.admin.get("/tree")).json()
        assert "the engine crashed" in tree["down"]

    serving(tmp_path, test)


def test_a_recording_comes_from_the_partition_that_has_the_invocation(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ids = await put_some(served, each=1)
        for id, partition in ids.items():
            found = (await served.admin.get(f"/invocations/{id}/recording")).json()
            assert (found["id"], found["key"]) == (id, key_of(partition))

    serving(tmp_path, test)


def test_the_console_shows_all_partitions(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ids = await put_some(served)
        api = "/ui/api"
        shown = (await served.admin.get(f"{api}/overview")).json()
        assert [each["state"] for each in shown["partitions"]] == ["up", "up"]
        assert shown["invocations"]["by_status"] == {"completed": 6}
        assert shown["invocations"]["completed_count"] == 6
        page = (await served.admin.get(f"{api}/invocations?limit=4")).json()
        assert page["total"] == 6
        newest = [each["id"] for each in page["rows"]]
        assert newest == sorted(newest, key=list(ids).index, reverse=True)
        assert set(newest) == set(list(ids)[2:])
        for id in ids:
            timeline = (await served.admin.get(f"{api}/invocations/{id}/timeline")).json()
            assert timeline["items"][0]["type"] == "input"
        objects = (await served.admin.get(f"{api}/objects")).json()["rows"]
        assert len(objects) == 6
        one = (await served.admin.get(f"{api}/objects/Box/{key_of(1, 2)}")).json()
        assert one["state"][0]["name"] == "value"

    serving(tmp_path, test)


def test_the_console_says_which_partition_is_down(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        await put_some(served)
        await served.stop(0)
        shown = (await served.admin.get("/ui/api/overview")).json()
        assert [each["state"] for each in shown["partitions"]] == ["down", "up"]
        assert shown["health"] == "partition 0 is down: the engine crashed"

    serving(tmp_path, test)


def test_with_all_partitions_down_there_is_still_a_look(tmp_path: Path) -> None:
    class Gone:
        async def inspect(self, question: Asks[Any]) -> Any:
            raise StoreFailed("nobody is there")

    async def test(served: Served) -> None:
        text = (await served.admin.get("/metrics")).text
        assert 'perdure_partition_up{partition="0"} 0.0' in text
        assert "perdure_commit_writes" not in text
        shown = (await served.admin.get("/ui/api/overview")).json()
        assert [each["reason"] for each in shown["partitions"]] == ["nobody is there"] * 2
        assert "actors" not in shown
        refused = await served.query("select 1 as n")
        assert (refused.status_code, refused.json()["message"]) == (
            503,
            "partition 0 is down: nobody is there",
        )

    serving(tmp_path, test, Inspectors([Gone(), Gone()]))
