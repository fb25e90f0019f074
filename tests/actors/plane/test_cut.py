"""Connections that are cut at any byte, partitions that are killed: each invocation once, in order."""

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

from perdure.journal.entries import Value
from perdure.journal.errors import Indeterminate, Overloaded, StoreFailed
from perdure.journal.reach import ALREADY_INVOKED
from perdure.journal.requests import Op
from tests.actors.plane.stage import Machine, content, key_of, play, settled, to, until
from tests.journal.stores import Fault


@pytest.mark.parametrize("seed", range(4))
def test_calls_run_once_however_often_their_connection_is_cut(tmp_path: Path, seed: int) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2, cut=6_000, seed=seed) as machine:
            keys = [key_of(n % 2, 2, n) for n in range(6)]

            async def count(key: str) -> None:
                for n in range(25):
                    answer = await machine.cluster.call(to("add", key, b"1"))
                    assert content(answer) == b"%d" % (n + 1)

            await asyncio.gather(*(count(key) for key in keys))
            assert sum(each.cut_count for each in machine.cutters) > 2
            for key in keys:
                assert await machine.cluster.state("Counter", key) == {"n": b"25"}
            assert [each.pending_count for each in machine.partitions] == [0, 0]

    play(scene)


@pytest.mark.parametrize("seed", range(4))
def test_a_workflow_runs_once_and_answers_whoever_started_it_over_cuts(
    tmp_path: Path, seed: int
) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2, cut=2_000, seed=seed) as machine:
            for n in range(40):
                answer = await machine.cluster.call(to("run", f"w{n}", b'"%d"' % n))
                assert content(answer) == b'"%d"' % n
                again = await machine.cluster.call(to("run", f"w{n}", b'"again"'))
                assert again.result == ALREADY_INVOKED
                sent = await machine.cluster.send(to("add", "a", b"1", idempotency_key=str(n)))
                assert sent.is_new
            assert sum(each.cut_count for each in machine.cutters) > 2

    play(scene)


def test_a_message_of_a_commit_that_failed_after_it_was_written_is_sent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            here, there = key_of(0, 2), key_of(1, 2)
            await machine.cluster.send(to("tell", here, json.dumps([there, "first"]).encode()))
            await settled(machine)
            machine.stores[0].faults.append(Fault.WRITTEN_AND_FAILED)
            with pytest.raises(StoreFailed):
                await machine.cluster.send(to("tell", here, json.dumps([there, "second"]).encode()))
            log: list[str] = []
            while log != ["first", "second"]:
                log = json.loads(content(await machine.cluster.call(to("read", there))))
            assert machine.engines[0].restart_count == 1

    play(scene)


@pytest.mark.parametrize("seed", range(3))
def test_sends_to_one_key_keep_their_order_over_cuts(tmp_path: Path, seed: int) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 1, cut=3_000, seed=seed) as machine:
            sent = [
                asyncio.ensure_future(machine.cluster.send(to("note", "a", b'"%d"' % n)))
                for n in range(80)
            ]
            accepted = await asyncio.gather(*sent)
            assert all(each.is_new for each in accepted)
            log = json.loads(content(await machine.cluster.call(to("note", "a", b'"end"'))))
            assert log == [*(str(n) for n in range(80)), "end"]
            assert machine.cutters[0].cut_count > 1

    play(scene)


@pytest.mark.parametrize("seed", range(3))
def test_calls_between_partitions_happen_once_over_cuts_and_kills(
    tmp_path: Path, seed: int
) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2, cut=8_000, seed=seed) as machine:
            here, there = key_of(0, 2), key_of(1, 2)

            async def pass_on(source: str, to_key: str) -> None:
                for _ in range(15):
                    await machine.cluster.call(to("pass_on", source, json.dumps(to_key).encode()))

            rng = Random(seed)

            async def kill() -> None:
                for _ in range(3):
                    await asyncio.sleep(rng.uniform(0.02, 0.1))
                    index = rng.randrange(2)
                    await machine.kill(index)
                    await machine.revive(index)

            sources = [(key_of(n % 2, 2, n + 2), (there, here)[n % 2]) for n in range(4)]
            await asyncio.gather(kill(), *(pass_on(*each) for each in sources))
            for key, _ in sources:
                assert await machine.cluster.state("Counter", key) == {"n": b"15"}
            for key in (here, there):
                assert await machine.cluster.state("Counter", key) == {"n": b"30"}
            await settled(machine)

    play(scene)


@pytest.mark.parametrize("seed", range(2))
def test_one_way_calls_to_another_partition_keep_their_order(tmp_path: Path, seed: int) -> None:
    async def scene() -> None:
        async with Machine(
            tmp_path, 2, cut=4_000, seed=seed, window_count=8, window_bytes=4_096
        ) as machine:
            here = key_of(0, 2)
            for n in range(60):
                message = json.dumps([key_of(1, 2), str(n)]).encode()
                await machine.cluster.send(to("tell", here, message))
            await machine.cluster.call(to("add", here, b"0"))
            await settled(machine)
            state = await machine.cluster.state("Counter", key_of(1, 2))
            assert json.loads(state["log"]) == [str(n) for n in range(60)]

    play(scene)


def test_requests_wait_for_a_partition_that_is_away(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            waiting = asyncio.ensure_future(machine.cluster.call(to("wait_for", None, b'"log"')))
            await until(lambda: len(machine.engines[0].unfinished()) > 0)
            await machine.kill(0)
            held = [
                asyncio.ensure_future(machine.cluster.send(to("note", "a", b'"%d"' % n)))
                for n in range(5)
            ]
            await asyncio.sleep(0)
            assert machine.partitions[0].pending_count == 6
            assert "lost" in machine.cluster.health()
            await machine.revive(0)
            await asyncio.gather(*held)
            log: list[str] = []
            while not log:
                log = json.loads(content(await machine.cluster.call(to("read", "log"))))
            await machine.cluster.complete_awakeable(log[0], Value(b'"back"'))
            assert content(await waiting) == b'"back"'
            assert machine.cluster.health() == ""
            log = json.loads(content(await machine.cluster.call(to("read", "a"))))
            assert log == ["0", "1", "2", "3", "4"]

    play(scene)


def test_what_must_not_happen_twice_fails_when_its_connection_is_lost(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            later = await machine.cluster.send(to("add", "a", b"1", delay_ms=3_600_000))
            operation = asyncio.ensure_future(
                machine.cluster.operate(later.invocation_id, Op.PAUSE)
            )
            look = asyncio.ensure_future(machine.cluster.invocation(later.invocation_id))
            await asyncio.sleep(0)  # both are sent
            await machine.kill(0)
            with pytest.raises(Indeterminate, match="operate"):
                await operation
            again = asyncio.ensure_future(machine.cluster.operate(later.invocation_id, Op.KILL))
            await asyncio.sleep(0)  # was never sent, so that it may wait
            await machine.revive(0)
            assert await look is not None
            assert await again is not None

    play(scene)


def test_a_partition_that_stays_away_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, hold_s=1.0, brief_hold_s=0.02, hold_limit=3) as machine:
            await machine.kill(0)
            held = [
                asyncio.ensure_future(machine.cluster.call(to("echo", None, b'"x"')))
                for _ in range(3)
            ]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="3 requests wait for it"):
                await machine.cluster.call(to("echo", None, b'"x"'))
            for each in held:
                with pytest.raises(StoreFailed, match="partition-0 has been away"):
                    await each
            with pytest.raises(StoreFailed, match="has been away"):
                await machine.cluster.call(to("echo", None, b'"x"'))
            with pytest.raises(StoreFailed, match="has been away"):
                await machine.partitions[0].inspect(b"")
            await machine.revive(0)
            await until(lambda: machine.cluster.health() == "")
            assert content(await machine.cluster.call(to("echo", None, b'"x"'))) == b'"x"'

    play(scene)


def test_requests_that_nobody_waits_for_leave_the_queue(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            await machine.kill(0)
            for _ in range(1_000):
                call = asyncio.ensure_future(machine.cluster.call(to("echo", None, b'"x"')))
                await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
            assert machine.partitions[0].pending_count == 0
            assert len(machine.partitions[0]._unsent) < 100

    play(scene)


def test_bytes_in_flight_are_bounded(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, in_flight_limit_bytes=10_000) as machine:
            await machine.kill(0)
            body = json.dumps("x" * 6_000).encode()
            first = asyncio.ensure_future(machine.cluster.call(to("echo", None, body)))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="bytes"):
                await machine.cluster.call(to("echo", None, body))
            await machine.revive(0)
            assert content(await first) == body

    play(scene)
