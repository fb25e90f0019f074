"""Requests through a socket: as if the engine were here."""

import asyncio
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from perdure.journal.entries import ByWorkflow, Failure, Value
from perdure.journal.errors import BadId, PerdureError
from perdure.journal.ids import parse_invocation_id
from perdure.journal.requests import (
    Answer,
    Filter,
    NotFound,
    NotReady,
    Op,
    OpResult,
    Restarted,
)
from perdure.journal.schedules_records import Cron, Spec
from perdure.journal.schedules_requests import ScheduleRefused
from tests.actors.plane.stage import Machine, content, key_of, play, to, until


def test_a_call_is_answered_by_the_partition_that_owns_its_key(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            for owner in range(2):
                answer = await machine.cluster.call(to("add", key_of(owner, 2), b"3"))
                assert content(answer) == b"3"
                assert answer.handler is not None
                assert answer.handler.name == "add"
                found = await machine.engines[owner].invocation(answer.invocation_id)
                assert found is None or found.status == "completed"
                assert await machine.cluster.state("Counter", key_of(owner, 2)) == {"n": b"3"}
                assert await machine.engines[1 - owner].state("Counter", key_of(owner, 2)) == {}

    play(scene)


def test_whoever_asks_again_finds_the_end_also_where_no_retention_keeps_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            invoke, run = to("add", "a", b"3"), to("run", "w", b'"x"')
            for each, is_kept in ((invoke, True), (run, False)):  # the run is retained for a day
                id = parse_invocation_id(machine.cluster.new_id(each))
                await machine.cluster.call(replace(each, id=id))
                partition = machine.engines[0].partition
                assert partition is not None
                found = partition.tables.invocation(id)
                assert found is not None
                assert (found.keep_ms > 0) is is_kept

    play(scene)


def test_what_is_only_kept_to_be_asked_for_again_is_not_shown(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            sent = await machine.cluster.send(to("add", "a", b"1", delay_ms=3_600_000))
            id = sent.invocation_id
            assert len(await machine.cluster.invocations(Filter())) == 1
            assert await machine.cluster.operate(id, Op.KILL) is OpResult.DONE
            assert await machine.cluster.invocation(id) is None
            assert await machine.cluster.journal(id) is None
            assert await machine.cluster.journaled(id) is None
            assert await machine.cluster.invocations(Filter()) == []
            assert await machine.cluster.attach(id) == NotFound(id)
            assert await machine.cluster.operate(id, Op.KILL) is OpResult.NOT_FOUND

    play(scene)


def test_a_failure_is_an_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            answer = await machine.cluster.call(to("add", "a", b"not a number"))
            assert isinstance(answer.result, Failure)

    play(scene)


def test_a_send_is_accepted_once_under_one_idempotency_key(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            first = await machine.cluster.send(to("add", "a", b"1", idempotency_key="one"))
            second = await machine.cluster.send(to("add", "a", b"1", idempotency_key="one"))
            assert (first.is_new, second.is_new) == (True, False)
            assert first.invocation_id == second.invocation_id
            found = await machine.cluster.attach(first.invocation_id)
            assert isinstance(found, Answer)
            assert content(found) == b"1"
            assert found.handler is not None
            assert found.handler.output_rule == to("add", "a").handler.output_rule

    play(scene)


def test_ends_travel_in_all_their_kinds(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            cluster = machine.cluster
            unknown = cluster.new_id(to("add", "a"))
            assert await cluster.output(unknown) == NotFound(unknown)
            assert await cluster.attach(unknown) == NotFound(unknown)
            later = await cluster.send(to("add", "a", b"1", delay_ms=3_600_000))
            assert later.execution_time_ms is not None
            assert await cluster.output(later.invocation_id) == NotReady(later.invocation_id)
            await cluster.call(to("run", "w", b'"there"'))
            done = await cluster.output(cluster.invocation_id(ByWorkflow("Journey", "w")))
            assert isinstance(done, Answer)
            assert content(done) == b'"there"'
            assert done.expires_at_ms is not None

    play(scene)


def test_operations_and_restarts_travel_in_all_their_results(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            cluster = machine.cluster
            later = await cluster.send(to("add", "a", b"1", delay_ms=3_600_000))
            assert await cluster.restart(later.invocation_id) == OpResult.NOT_STARTED
            assert await cluster.operate(later.invocation_id, Op.KILL) in (
                OpResult.DONE,
                OpResult.ACCEPTED,
            )
            done = await cluster.call(to("note", "a", b'"x"', idempotency_key="keep"))
            again = await cluster.restart(done.invocation_id)
            assert isinstance(again, Restarted)
            assert content(await _attached(machine, again.invocation_id)) == b'["x","x"]'

    play(scene)


async def _attached(machine: Machine, id: str) -> Answer:
    found = await machine.cluster.attach(id)
    assert isinstance(found, Answer)
    return found


def test_looks_and_patches_reach_every_partition(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            cluster = machine.cluster
            sent = [
                await cluster.send(to("add", key_of(n % 2, 2), b"1", delay_ms=3_600_000 + n))
                for n in range(6)
            ]
            found = await cluster.invocations(Filter(service="Counter"))
            assert {each.id for each in found} == {each.invocation_id for each in sent}
            assert len(await cluster.invocations(Filter(limit=4))) == 4
            entries = await cluster.journal(sent[0].invocation_id)
            assert entries is not None
            assert len(entries) == 1
            (timed,) = await cluster.journaled(sent[0].invocation_id) or []
            assert timed.entry == entries[0]
            assert timed.at_ms is not None
            assert await machine.engines[0].journaled(sent[0].invocation_id) in ([timed], None)
            nobody = cluster.new_id(to("add", key_of(0, 2)))
            assert await cluster.journaled(nobody) is None
            info = await cluster.invocation(sent[0].invocation_id)
            assert info is not None
            assert info.status == "scheduled"
            for owner in range(2):
                key = key_of(owner, 2, 5)
                await cluster.patch_state("Counter", key, {"n": b"40"}, None)
                assert content(await cluster.call(to("add", key, b"2"))) == b"42"

    play(scene)


def test_an_awakeable_is_completed_where_its_invocation_is(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            cluster = machine.cluster
            calls = [
                asyncio.ensure_future(cluster.call(to("wait_for", None, b'"log%d"' % n)))
                for n in range(8)
            ]
            for n in range(8):
                log: list[str] = []
                while not log:
                    text = content(await cluster.call(to("read", f"log{n}")))
                    log = json.loads(text)
                await cluster.complete_awakeable(log[0], Value(b'"done"'))
                await cluster.complete_awakeable(log[0], Value(b'"too late"'))
            assert {content(await each) for each in calls} == {b'"done"'}

    play(scene)


def test_schedules_live_where_the_slot_of_their_name_is(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            schedules = machine.cluster.schedules
            names = [f"s{n}" for n in range(8)]
            for name in names:
                stored = await schedules.put(_nightly(name))
                assert stored.is_new
            assert [each.spec.name for each in await schedules.list()] == names
            shares = [len(await engine.schedules.list()) for engine in machine.engines]
            assert sum(shares) == 8
            assert 0 not in shares
            paused = await schedules.pause("s1", "for a test")
            assert paused.paused == "for a test"
            id = await schedules.trigger("s2", 1_000)
            assert id == await schedules.trigger("s2", 1_000)
            with pytest.raises(ScheduleRefused) as refused:
                await schedules.put(_nightly("s3"))
            assert refused.value.code == 409
            await schedules.delete("s3")
            assert await schedules.find("s3") is None
            assert await schedules.find("no name!") is None
            with pytest.raises(ScheduleRefused):
                await schedules.delete("no name!")

    play(scene)


def _nightly(name: str) -> Spec:
    return Spec(name, Cron("0 3 * * *"), "Plain", "echo", body=b'"night"', headers=())


def test_errors_are_raised_again_as_what_they_were(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            for id in ("inv_1short", "nonsense"):
                with pytest.raises(BadId) as here:
                    await machine.partitions[0].output(id)
                with pytest.raises(BadId) as there:
                    await machine.engines[0].output(id)
                assert str(here.value) == str(there.value)
            with pytest.raises(PerdureError, match="has no state"):
                await machine.cluster.patch_state("Plain", "a", {}, None)

    play(scene)


def test_who_gives_up_leaves_no_trace_and_the_invocation_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            calls = [
                asyncio.ensure_future(machine.cluster.call(to("wait_for", None, b'"log"')))
                for _ in range(3)
            ]
            await until(lambda: _waiting(machine) == 3)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            await until(lambda: _waiting(machine) == 0)
            assert machine.partitions[0].pending_count == 0
            assert _unfinished(machine) == 3

    play(scene)


def _unfinished(machine: Machine) -> int:
    return sum(each.handler == "wait_for" for each in machine.engines[0].unfinished())


def _waiting(machine: Machine) -> int:
    return sum(len(engine._futures) for engine in machine.engines)


def test_a_lost_caller_leaves_no_trace_and_the_invocation_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            call = asyncio.ensure_future(machine.cluster.call(to("wait_for", None, b'"log"')))
            id = machine.cluster.new_id(to("run", "w"))
            attached = asyncio.ensure_future(machine.cluster.attach(id))
            await asyncio.wait([attached])
            await until(lambda: _waiting(machine) == 1)
            await machine.cluster.close()
            await asyncio.wait([call])
            assert isinstance(call.exception(), PerdureError)
            await until(lambda: _waiting(machine) == 0)
            assert _unfinished(machine) == 1

    play(scene)
