"""Repartitioning real stores: what is refused, what is noticed, and that the data is as it was then."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.journal import ids, keys, layout
from perdure.journal.errors import StoreBusy, StoreDamaged, StoreError, StoreFormat
from perdure.journal.inspection import read_copy
from perdure.journal.layout import find_layout, stores_of
from perdure.journal.repartition import ALL_ROWS
from perdure.journal.repartitioning import Watcher, repartition
from tests.journal.stores import open_small, put

KEYS = [f"key-{n}" for n in range(200)]


def _rows() -> dict[bytes, bytes]:
    rows = {keys.state(("Log", key), "lines"): os.urandom(40) for key in KEYS}
    for key in KEYS:
        id = ids.key_partition(key).to_bytes(8, "big") + os.urandom(16)
        rows[keys.invocation(id)] = os.urandom(100)
        rows[keys.timer(5, keys.TimerKind.SLEEP, id, 1)] = keys.pack_number(0)
    return rows


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"

    async def run() -> None:
        store = open_small(path)
        await put(store, *_rows().items(), (keys.LAST_ARRIVAL, keys.pack_number(77)))
        await store.close()

    asyncio.run(run())
    return path


def rows_in(data: Path) -> list[tuple[bytes, bytes]]:
    rows = []
    for store in stores_of(data):
        with read_copy(store) as copy:
            rows += [row for row in copy.scan(*ALL_ROWS) if row[0][:1] != keys.META]
    return sorted(rows)


class At(Watcher):
    """Does something before one kind of step."""

    def __init__(self, name: str, action: Callable[[Path], None]) -> None:
        self._name, self._action = name, action

    def step(self, name: str, path: Path, total_rows: int | None = None) -> None:
        if name == self._name:
            self._action(path)


def assert_unchanged(data: Path, rows: list[tuple[bytes, bytes]]) -> None:
    assert find_layout(data) == layout.EMBEDDED
    assert rows_in(data) == rows


# ---- what is noticed ----------------------------------------------------------------------------


def _write_into(path: Path, key: bytes, value: bytes | None) -> None:
    async def run() -> None:
        store = open_small(path)
        await put(store, (key, value))
        await store.close()

    asyncio.run(run())


def _first_state(path: Path) -> bytes:
    with read_copy(path) as copy:
        return copy.scan(keys.STATE, keys.INBOX, 1)[0][0]


def _changes_a_value(path: Path) -> None:
    _write_into(path, _first_state(path), b"changed")


def _loses_a_row(path: Path) -> None:
    _write_into(path, _first_state(path), None)


def _gains_a_row(path: Path) -> None:
    _write_into(path, keys.active(bytes(24)), b"")


def _flips_a_byte(path: Path) -> None:
    file = max((path / "db").iterdir(), key=lambda file: file.stat().st_size)
    with open(file, "r+b") as f:
        f.seek(file.stat().st_size // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0x10]))


@pytest.mark.parametrize("fault", [_changes_a_value, _loses_a_row, _gains_a_row, _flips_a_byte])
def test_a_new_store_that_is_not_what_was_written_is_never_switched_to(
    data: Path, fault: Callable[[Path], None]
) -> None:
    rows = rows_in(data)

    def hit(path: Path) -> None:
        if path.name == "partition-001":
            fault(path)

    with pytest.raises(StoreDamaged, match=r"partition-001 is not what was written"):
        repartition(data, 3, watcher=At("verify", hit))
    assert_unchanged(data, rows)
    report = repartition(data, 3)
    assert report.kept == [0], "the good one was kept, the bad one written again"
    assert rows_in(data) == rows


def test_a_store_begun_for_another_count_is_written_again(data: Path) -> None:
    rows = rows_in(data)

    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repartition(data, 5, watcher=At("move", stop))
    assert_unchanged(data, rows)
    report = repartition(data, 2)
    assert report.kept == []
    assert len(stores_of(data)) == 2
    assert rows_in(data) == rows


def test_data_that_changed_after_an_interrupted_run_is_not_taken_from_it(data: Path) -> None:
    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repartition(data, 2, watcher=At("switch", stop))
    _write_into(data, keys.state(("Log", KEYS[0]), "later"), b"new")
    rows = rows_in(data)
    report = repartition(data, 2)
    assert len(report.kept) == 1, "the partition of the other keys is as it was"
    assert rows_in(data) == rows


# ---- what is refused ----------------------------------------------------------------------------


def test_data_that_a_server_has_open_is_refused_with_its_process(data: Path) -> None:
    rows = rows_in(data)
    fd = os.open(data / "owner.lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.pwrite(fd, b"4242\n", 0)
        with pytest.raises(StoreBusy, match="process 4242"):
            repartition(data, 2)
    finally:
        os.close(fd)
    assert_unchanged(data, rows)


def test_one_partition_of_many_that_is_open_is_enough_to_refuse(data: Path) -> None:
    repartition(data, 3)
    store = open_small(stores_of(data)[2])
    try:
        with pytest.raises(StoreBusy, match="partition-002"):
            repartition(data, 2)
    finally:
        asyncio.run(store.close())
    assert find_layout(data) == layout.Layout(3, 2)


def test_a_second_run_beside_the_first_is_refused(data: Path) -> None:
    def again(path: Path) -> None:
        with pytest.raises(StoreBusy, match="repartitioned by another"):
            repartition(data, 4)

    assert repartition(data, 2, watcher=At("switch", again)).switched


def test_no_room_on_the_disk_is_told_before_anything_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_in(data)
    real = os.statvfs(data)
    fields = list(real)
    fields[4] = (10 << 20) // real.f_frsize  # f_bavail
    full = os.statvfs_result(fields)
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(StoreError, match=r"takes about \d+ MiB .* and 10 MiB are free"):
        repartition(data, 2)
    monkeypatch.undo()
    assert_unchanged(data, rows)
    assert not list(data.glob("generation-*"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a full disk needs a small file system: run as root where tmpfs may be mounted")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_fills_up_meanwhile_gets_back_what_was_written(data: Path, disk: Path) -> None:
    shutil.copytree(data, disk / "data")
    filler, data = disk / "filler", disk / "data"
    rows = rows_in(data)

    def fill_up(path: Path) -> None:
        if path.name == "partition-001":
            with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass

    with pytest.raises(StoreError, match=r"cannot be written: .*(full|No space left)"):
        repartition(data, 2, watcher=At("write", fill_up))
    assert not list(data.glob("generation-*"))
    filler.unlink()
    assert_unchanged(data, rows)
    assert repartition(data, 2).switched
    assert rows_in(data) == rows


@pytest.mark.parametrize("count", [0, 65, -1])
def test_no_such_number_of_partitions(data: Path, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        repartition(data, count)


def test_a_directory_without_data_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(StoreFormat, match="found none"):
        repartition(tmp_path, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_a_newer_release_is_refused(data: Path) -> None:
    text = (data / "FORMAT").read_text()
    (data / "FORMAT").write_text(text.replace('"format":1', '"format":9'))
    with pytest.raises(StoreFormat, match="says format 9"):
        repartition(data, 2)


def test_a_dry_run_tells_what_would_move_and_moves_nothing(data: Path) -> None:
    rows = rows_in(data)
    report = repartition(data, 4, dry_run=True)
    assert not report.switched
    assert sum(move.rows for move in report.moves) == len(rows)
    assert {move.target for move in report.moves} == {0, 1, 2, 3}
    assert_unchanged(data, rows)
    assert not list(data.glob("generation-*"))


def test_the_number_there_is_changes_nothing(data: Path) -> None:
    rows = rows_in(data)
    assert not repartition(data, 1).switched
    assert_unchanged(data, rows)
