"""Data written by the real engine is repartitioned, killed in the middle, and served again."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import perdure
from perdure import ObjectContext, VirtualObject
from perdure.actors.clock import clock_of
from perdure.actors.engine import Engine
from perdure.describe import describe
from perdure.hosting import Hosted
from perdure.journal import keys
from perdure.journal.errors import StoreFormat
from perdure.journal.inspection import read_copy
from perdure.journal.layout import find_layout, leftovers, prepare_partitions, stores_of
from perdure.journal.leveldb import open_store
from perdure.journal.placement import Placement, owner_of_key
from perdure.journal.repartition import ALL_ROWS
from perdure.journal.repartitioning import Watcher, repartition
from perdure.journal.requests import Invoke
from perdure.journal.schema import Defaults
from perdure.journal.store import Store
from tests.crash.disks import Disk, NoDisk, disk

KEYS = [f"key-{n}" for n in range(60)]
WAITING = KEYS[:12]
SCHEDULES = [f"schedule-{n}" for n in range(8)]
_PROGRAM = Path(__file__).parent / "programs" / "repartition_killed.py"
_MADE_ANEW = (keys.META, keys.OUTBOX, keys.DEDUP)

log_object = VirtualObject("Log")


@log_object.handler()
async def add(ctx: ObjectContext, line: str) -> list[str]:
    lines: list[str] = await ctx.get("lines") or []
    ctx.set("lines", [*lines, line])
    return [*lines, line]


@log_object.handler()
async def hold(ctx: ObjectContext, line: str) -> None:
    """Keeps the key until somebody completes its awakeable; tells nobody else but the state."""
    id, future = ctx.awakeable()
    ctx.set("awakeable", id)
    await future
    lines: list[str] = await ctx.get("lines") or []
    ctx.set("lines", [*lines, line])


@log_object.handler(kind="shared")
async def read(ctx: ObjectContext) -> list[str]:
    return await ctx.get("lines") or []


@log_object.handler(kind="shared")
async def awakeable_of(ctx: ObjectContext) -> str | None:
    return await ctx.get("awakeable")


@log_object.handler()
async def nap(ctx: ObjectContext, line: str) -> None:
    await ctx.sleep(timedelta(days=1))


@log_object.handler()
async def tell(ctx: ObjectContext, other: str) -> list[str]:
    """Calls another key and keeps what that says."""
    lines = await ctx.object_call(add, key=other, arg="told")
    ctx.set("lines", lines)
    return lines


async def _write(data: Path) -> None:
    """Every kind of row: state, finished and sleeping invocations, and queues behind held locks."""
    async with perdure.open(data, services=[log_object]) as system:
        for key in KEYS:
            await system.object_call(add, key=key, arg="first")
        for key in KEYS[20:30]:
            await system.object_send(nap, key=key, arg="")
        for name in SCHEDULES:
            await system.schedules.create(add, name=name, key=name, arg="tick", cron="@yearly")
        for key in WAITING:
            await system.object_send(hold, key=key, arg="held")
            for n in range(3):
                await system.object_send(add, key=key, arg=f"behind {n}")


async def _go_on(data: Path) -> None:
    """What waited goes on, in its order, and everything that was stored is there."""
    async with perdure.open(data, services=[log_object]) as system:
        for key in WAITING:
            id = await system.object_call(awakeable_of, key=key, arg=None)
            assert id is not None
            await system.resolve_awakeable(id, None)
        for key in WAITING:
            lines = await system.object_call(add, key=key, arg="last")
            assert lines == ["first", "held", "behind 0", "behind 1", "behind 2", "last"]
        assert {each.spec.name for each in await system.schedules.list()} == set(SCHEDULES)
        await system.schedules.trigger(SCHEDULES[0])
        await _eventually(lambda: system.object_call(read, key=SCHEDULES[0], arg=None))
        for key in KEYS[30:]:
            assert await system.object_call(read, key=key, arg=None) == ["first"]


async def _eventually(ask: Callable[[], Awaitable[object]]) -> None:
    while not await ask():
        await asyncio.sleep(0.01)


def rows_in(data: Path) -> dict[bytes, bytes]:
    """Of all partitions, but for those that are made anew."""
    rows: dict[bytes, bytes] = {}
    for store in stores_of(data):
        with read_copy(store) as copy:
            for key, value in copy.scan(*ALL_ROWS):
                if key[:1] not in _MADE_ANEW:
                    assert key not in rows, "in two partitions"
                    rows[key] = value
    return rows


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("repartition") / "data"
    asyncio.run(_write(data))
    return data


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(written, copy)
    return copy


def test_what_was_written_goes_on_after_many_repartitionings(data: Path) -> None:
    before = rows_in(data)
    assert {key[0] for key in before} >= {0x20, 0x21, 0x22, 0x30, 0x31, 0x40, 0x41, 0x60}
    for count in (4, 3, 64, 2, 1):
        report = repartition(data, count)
        assert report.switched
        assert len(stores_of(data)) == count
        assert rows_in(data) == before
    asyncio.run(_go_on(data))


def test_a_server_for_another_count_is_refused_with_the_command_to_run(data: Path) -> None:
    repartition(data, 4)

    async def start() -> None:
        async with perdure.open(data, services=[log_object]):
            raise AssertionError("it started")

    with pytest.raises(StoreFormat, match=r"perdure repartition --data \S+ --partitions 1"):
        asyncio.run(start())


# ---- kill -9 ------------------------------------------------------------------------------------


def _killed(data: Path, count: int, at: int) -> bool:
    """Run the command in a process that kills itself before its step ``at``; whether it came that far."""
    command = [sys.executable, str(_PROGRAM), str(data), str(count), str(at)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, -9), ended.stderr
    return ended.returncode == -9


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2)])
def test_killed_before_any_step_it_is_finished_by_the_next_run(
    written: Path, tmp_path: Path, before: int, after: int
) -> None:
    start = tmp_path / "start"
    shutil.copytree(written, start)
    if before > 1:
        repartition(start, before)
    rows = rows_in(start)
    step, seen = 0, set()
    while True:
        data = tmp_path / f"killed-{step}"
        shutil.copytree(start, data)
        killed = _killed(data, after, step)
        layout = find_layout(data)
        assert layout is not None
        seen.add(layout.count)
        assert rows_in(data) == rows, "whichever the layout is, it is whole"
        repartition(data, after)
        assert len(stores_of(data)) == after
        assert rows_in(data) == rows
        _assert_nothing_is_left(data)
        shutil.rmtree(data)
        if not killed:
            break
        step += 1
    assert step > 8
    assert seen == {before, after}


def test_killed_again_and_again_it_goes_on_from_where_it_was(data: Path) -> None:
    rows = rows_in(data)
    for at in (3, 5, 7):
        assert _killed(data, 5, at)
    report = repartition(data, 5)
    assert report.kept == [0, 1, 2, 3, 4], "each was whole when the last run was killed"
    assert rows_in(data) == rows


def test_killed_from_outside_at_any_moment_it_is_finished_by_the_next_run(data: Path) -> None:
    rows = rows_in(data)
    rng = random.Random(5)
    command = [sys.executable, "-m", "perdure", "repartition", "--data", str(data), "--partitions"]
    for count in (4, 7, 1, 6):
        with subprocess.Popen([*command, str(count)], stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(0.3 + rng.random())
            except subprocess.TimeoutExpired:
                process.kill()
        assert rows_in(data) == rows
        repartition(data, count)
        assert rows_in(data) == rows
        _assert_nothing_is_left(data)


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Disk]:
    try:
        with disk(tmp_path, 256 << 20) as made:
            yield made
    except NoDisk as e:
        pytest.skip(f"cannot freeze a disk here ({e}); processes are killed above")


class _Freezer(Watcher):
    """Keeps the disk as it was before each step: what is there after a power cut at that moment."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.clones: list[Path] = []

    def step(self, name: str, path: Path, total_rows: int | None = None) -> None:
        self.clones.append(self._disk.clone())


def test_a_power_cut_at_any_step_leaves_data_that_is_whole(data: Path, cut: Disk) -> None:
    rows = rows_in(data)
    shutil.copytree(data, cut.path / "data")
    os.sync()
    freezer = _Freezer(cut)
    repartition(cut.path / "data", 3, watcher=freezer)
    seen = set()
    for clone in [*freezer.clones, cut.clone()]:
        with cut.frozen(clone) as mounted:
            layout = find_layout(mounted / "data")
            assert layout is not None
            seen.add(layout.count)
            assert rows_in(mounted / "data") == rows
            repartition(mounted / "data", 3)
            assert rows_in(mounted / "data") == rows
    assert len(freezer.clones) > 8
    assert seen == {1, 3}


def _assert_nothing_is_left(data: Path) -> None:
    layout = find_layout(data)
    assert layout is not None
    assert leftovers(data, layout) == []
    assert not (data / "FORMAT").exists()
    assert not (data / "db").exists()


# ---- messages between partitions ----------------------------------------------------------------


def _engine(stores: list[Path], index: int) -> Engine:
    async def open_partition() -> Store:
        return open_store(stores[index], new_id=lambda: os.urandom(16))

    return Engine(
        open_partition,
        {log_object.name: describe(log_object, Defaults())},
        Hosted([log_object]),
        now_ms=clock_of(asyncio.get_running_loop()).now_ms,
        random_bytes=os.urandom,
        placement=Placement(index, len(stores)),
    )


async def _call_across(data: Path, *, arrives: bool) -> tuple[str, str]:
    """A call from one partition to the other, whose message did or did not arrive, unacknowledged."""
    stores = prepare_partitions(data, 2)
    caller = next(key for key in KEYS if owner_of_key(key, 2) == 0)
    callee = next(key for key in KEYS if owner_of_key(key, 2) == 1)
    first, second = _engine(stores, 0), _engine(stores, 1)
    await first.start()
    await second.start()
    handler = first.services()["Log"].handlers["tell"]
    await first.send(Invoke(handler, caller, f'"{callee}"'.encode()))

    async def is_posted() -> bool:
        return bool(first.exchange.outbox(1, 0, 10))

    await _eventually(is_posted)
    if arrives:
        await second.exchange.receive(0, first.exchange.outbox(1, 0, 10))
    await first.stop()
    await second.stop()
    return caller, callee


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_call_between_partitions_takes_effect_once(
    tmp_path: Path, arrives: bool, count: int
) -> None:
    data = tmp_path / "data"
    caller, callee = asyncio.run(_call_across(data, arrives=arrives))
    if count != 1:
        repartition(data, count)
    repartition(data, 1)

    async def ends() -> None:
        async with perdure.open(data, services=[log_object]) as system:
            await _eventually(lambda: system.object_call(read, key=caller, arg=None))
            assert await system.object_call(read, key=caller, arg=None) == ["told"]
            assert await system.object_call(read, key=callee, arg=None) == ["told"]

    asyncio.run(ends())
