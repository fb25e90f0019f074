"""A partition that is not expected back soon: nobody waits for it, until it is introduced again."""

import asyncio
from pathlib import Path

import pytest

from perdure.journal.errors import StoreFailed
from tests.actors.plane.stage import Machine, content, key_of, play, to, until


def test_what_waits_is_refused_with_the_reason_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            await machine.cluster.call(to("add", key_of(1, 2), b"1"))
            await machine.kill(1)
            held = asyncio.ensure_future(machine.cluster.call(to("add", key_of(1, 2), b"2")))
            await until(lambda: machine.partitions[1].pending_count == 1)
            machine.partitions[1].down("the disk is full")
            with pytest.raises(StoreFailed, match="partition-1 is down: the disk is full"):
                await held
            with pytest.raises(StoreFailed, match="the disk is full"):
                await machine.cluster.call(to("add", key_of(1, 2), b"2"))
            assert machine.cluster.health() == "the disk is full"
            answer = await machine.cluster.call(to("add", key_of(0, 2), b"1"))
            assert content(answer) == b"1"

    play(scene)


def test_it_is_told_down_while_a_connection_is_there(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            waiting = asyncio.ensure_future(machine.cluster.call(to("wait_for", None, b'"a"')))
            await until(lambda: any(each.pending_count for each in machine.partitions))
            owner = next(i for i in range(2) if machine.partitions[i].pending_count)
            machine.partitions[owner].down("it fails again and again")
            await machine.kill(owner)
            with pytest.raises(StoreFailed, match="it fails again and again"):
                await waiting

    play(scene)


def test_who_is_introduced_again_is_waited_for_and_asked(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            await machine.kill(1)
            machine.partitions[1].down("the disk is full")
            await machine.revive(1)
            answer = await machine.cluster.call(to("add", key_of(1, 2), b"2"))
            assert content(answer) == b"2"
            await machine.kill(1)  # this time it comes back soon
            held = asyncio.ensure_future(machine.cluster.call(to("add", key_of(1, 2), b"3")))
            await until(lambda: machine.partitions[1].pending_count == 1)
            await machine.revive(1)
            assert content(await held) == b"5"

    play(scene)
