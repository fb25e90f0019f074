"""Links: what is sent, kept and read again, with outboxes in memory that keep the engine's rules."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from perdure.actors.plane.links import Links
from perdure.actors.plane.options import PlaneOptions
from perdure.actors.plane.server import PlaneServer
from perdure.journal.errors import MessageGap, StoreFailed
from perdure.journal.placement import Placement
from tests.actors.plane.stage import Cutter, play, until


class Rows:
    """The engine's side of both ends: durable rows, numbered from 1, and what arrived."""

    def __init__(self) -> None:
        self.rows: dict[int, bytes] = {}
        self.delivered_seq = 0
        self.arrived: list[bytes] = []
        self.last_seq = 0
        self.batch_sizes: list[int] = []
        self.read_count = 0
        self.is_down = False
        self.gate = asyncio.Event()
        self.gate.set()

    def write(self, links: Links, message: bytes) -> None:
        seq = len(self.rows) + self.delivered_seq + 1
        self.rows[seq] = message
        links.forward(1, seq, message)

    def outbox(self, destination: int, after_seq: int, limit: int) -> list[tuple[int, bytes]]:
        if self.is_down:
            raise StoreFailed("down")
        self.read_count += 1
        return [each for each in sorted(self.rows.items()) if each[0] > after_seq][:limit]

    def delivered(self, destination: int, seq: int) -> None:
        assert seq > self.delivered_seq
        self.delivered_seq = seq
        self.rows = {each: row for each, row in self.rows.items() if each > seq}

    async def receive(self, source: int, batch: list[tuple[int, bytes]]) -> int:
        self.batch_sizes.append(len(batch))
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.is_down:
            raise StoreFailed("down")
        for seq, message in batch:
            if seq > self.last_seq + 1:
                raise MessageGap(f"{seq} after {self.last_seq}")
            if seq == self.last_seq + 1:
                self.arrived.append(message)
                self.last_seq = seq
        return self.last_seq


class Road:
    """One link from partition 0 to partition 1."""

    def __init__(self, place: Path, **options: int) -> None:
        self.place = place / "run"
        self.options = PlaneOptions(**options)
        self.here, self.there = Rows(), Rows()
        self.links = Links(self.here, Placement(0, 2), 1, self.options)
        self.server = PlaneServer("partition-1", 1, receiver=self.there, options=self.options)

    async def __aenter__(self) -> "Road":
        await self.server.listen(self.place / "s")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.links.close()
        await self.server.close()

    def introduce(self) -> None:
        self.links.introduce(1, self.place / "s", 1)

    async def all_arrived(self, count: int) -> None:
        await until(lambda: len(self.there.arrived) == count and not self.here.rows)
        assert self.there.arrived == [b"%d" % n for n in range(count)]
        assert self.links.links[1].on_the_way_count == 0


def test_messages_of_one_turn_arrive_in_one_batch_without_a_read(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Road(tmp_path) as road:
            road.introduce()
            await until(lambda: not road.links.links[1].is_behind)
            reads = road.here.read_count
            for n in range(50):
                road.here.write(road.links, b"%d" % n)
            await road.all_arrived(50)
            assert road.there.batch_sizes == [50]
            assert road.here.read_count == reads

    play(scene)


def test_a_dead_peer_costs_no_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Road(tmp_path) as road:
            for n in range(5_000):
                road.here.write(road.links, b"%d" % n)
            link = road.links.links[1]
            assert (link.on_the_way_count, len(link._rows), road.here.read_count) == (0, 0, 0)
            road.introduce()
            await road.all_arrived(5_000)

    play(scene)


@pytest.mark.parametrize("window", [{"window_count": 10}, {"window_bytes": 20}])
def test_only_a_window_is_on_its_way(tmp_path: Path, window: dict[str, int]) -> None:
    async def scene() -> None:
        async with Road(tmp_path, **window) as road:
            road.there.gate.clear()
            road.introduce()
            await until(lambda: not road.links.links[1].is_behind)
            for n in range(300):
                road.here.write(road.links, b"%d" % n)
            await until(lambda: road.there.batch_sizes != [])
            assert 0 < road.links.links[1].on_the_way_count <= 21
            road.there.gate.set()
            await road.all_arrived(300)

    play(scene)


@pytest.mark.parametrize("seed", range(3))
def test_messages_arrive_once_and_in_order_over_cuts(tmp_path: Path, seed: int) -> None:
    async def scene() -> None:
        async with Road(tmp_path, window_count=64) as road:
            cutter = Cutter(tmp_path / "c", road.place / "s", Random(seed), 1_500)
            await cutter.start()
            road.links.introduce(1, tmp_path / "c", 1)
            for n in range(600):
                road.here.write(road.links, b"%d" % n)
                if n % 7 == 0:
                    await asyncio.sleep(0)
            await road.all_arrived(600)
            assert cutter.cut_count > 2
            await cutter.close()

    play(scene)


def test_stores_that_fail_at_either_end_delay_and_lose_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Road(tmp_path) as road:
            road.there.is_down = True
            road.introduce()
            for n in range(20):
                road.here.write(road.links, b"%d" % n)
            await until(lambda: len(road.there.batch_sizes) > 2)
            road.here.is_down = True
            road.there.is_down = False
            await asyncio.sleep(0.02)
            road.here.is_down = False
            await road.all_arrived(20)

    play(scene)


def test_what_the_receiver_has_already_is_not_sent_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Road(tmp_path) as road:
            for n in range(10):
                road.here.write(road.links, b"%d" % n)
            road.there.arrived, road.there.last_seq = [b"%d" % n for n in range(10)], 10
            road.introduce()
            await road.all_arrived(10)

    play(scene)


def test_rows_that_nobody_told_of_go_before_the_one_that_was_told(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Road(tmp_path) as road:
            road.introduce()
            await until(lambda: not road.links.links[1].is_behind)
            road.here.rows = {n + 1: b"%d" % n for n in range(5)}
            road.links.forward(1, 5, road.here.rows[5])
            await road.all_arrived(5)
            assert road.there.batch_sizes == [5]

    play(scene)


def test_a_partition_that_takes_no_messages_says_so(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Road(tmp_path) as road:
            road.server.receiver = None
            road.introduce()
            await until(lambda: "takes no messages" in road.links.links[1].health())

    play(scene)
