"""Looking at a store without opening it: counts, what is wrong, and nothing changed."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from perdure.journal.errors import StoreBusy, StoreFormat
from perdure.journal.inspection import MAX_ROW_PROBLEMS, inspect
from tests.journal.stores import open_small, put


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"

    async def run() -> None:
        store = open_small(path)
        for i in range(300):
            await put(store, (b"\x10%04d" % i, os.urandom(1000)), (b"\x20%04d" % i, b"12"))
        await store.close()

    asyncio.run(run())
    return path


def _files(path: Path) -> dict[str, tuple[int, bytes]]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_a_sound_store_is_counted_and_not_changed(data: Path) -> None:
    before = _files(data)
    report = inspect(data)
    assert _files(data) == before
    assert report.problems == []
    assert report.epoch == 1
    assert report.tail is not None
    assert report.tail.pos == 301
    assert report.mark is not None
    assert report.mark.pos == 301
    assert report.format.slots == 65536
    assert report.file_bytes > 300_000
    assert {tag: (t.rows, t.key_bytes, t.value_bytes) for tag, t in report.tables.items()} == {
        0x10: (300, 1500, 300_000),
        0x20: (300, 1500, 600),
    }


def test_a_store_in_use_is_refused(data: Path) -> None:
    store = open_small(data)
    with pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        inspect(data)
    asyncio.run(put(store, (b"\x10", b"")))
    asyncio.run(store.close())
    assert inspect(data).problems == []


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFormat, match="found none"):
        inspect(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(StoreFormat, match="found no FORMAT"):
        inspect(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_damage_is_reported_with_what_could_still_be_read(data: Path) -> None:
    table = sorted((data / "db").glob("*.ldb"))[0]
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    before = _files(data)
    report = inspect(data)
    assert len(report.problems) == 1
    assert "cannot be read" in report.problems[0]
    assert _files(data) == before


def test_lost_rows_missing_files_and_a_missing_database_are_reported(data: Path) -> None:
    copy = Path(shutil.copytree(data, data.parent / "copy"))
    for log in (copy / "db").glob("*.log"):
        os.truncate(log, 0)
    (copy / "EPOCH").unlink()
    problems = inspect(copy).problems
    assert len(problems) == 2
    assert "EPOCH is missing" in problems[0]
    assert "position 301" in problems[1]
    (copy / "db" / "CURRENT").unlink()
    (copy / "HIGHWATER").unlink()
    assert ["is missing" in problem for problem in inspect(copy).problems] == [True] * 3


def test_rows_are_shown_to_whoever_knows_what_they_mean(data: Path) -> None:
    def check(key: bytes, value: bytes) -> str | None:
        return "twelve" if value == b"12" else None

    problems = inspect(data, check).problems
    assert problems[0] == f"row {(b' ' + b'0000').hex()}: twelve"
    assert len(problems) == MAX_ROW_PROBLEMS + 1
    assert problems[-1] == "and 200 more rows with a problem"
