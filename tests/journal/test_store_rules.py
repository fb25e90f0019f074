"""The fifteen rules of the LevelDB facts sheet, §0: one test each, by number. Each was paid for."""

import ast
import asyncio
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import plyvel
import pytest

import perdure.journal
from perdure.journal.errors import (
    StoreBusy,
    StoreDamaged,
    StoreFailed,
)
from perdure.journal.leveldb import LevelDBOptions, LevelDBStore
from tests.journal.stores import SMALL, open_small, put

JOURNAL = Path(perdure.journal.__file__).resolve().parent
ROOMS = [JOURNAL, *(JOURNAL.parent / room for room in ("sdk", "actors", "gateway"))]


def _close(store: LevelDBStore) -> None:
    asyncio.run(store.close())


def _fill(path: Path, row_count: int = 2000) -> LevelDBStore:
    """A store with ``row_count`` rows of about 1 kB, in a few tables and the log."""
    store = open_small(path, options=msgspec.structs.replace(SMALL, write_buffer_bytes=1 << 20))

    async def run() -> None:
        for start in range(0, row_count, 100):
            rows = range(start, min(start + 100, row_count))
            await put(store, *((b"\x10%08d" % i, os.urandom(1000)) for i in rows))

    asyncio.run(run())
    return store


def _calls(name: str) -> list[str]:
    """Every call of something named ``name`` in our source: file, line and code."""
    found = []
    for room in ROOMS:
        for file in room.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call):
                    called = node.func
                    end = (
                        called.attr
                        if isinstance(called, ast.Attribute)
                        else getattr(called, "id", "")
                    )
                    if end == name:
                        found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_after_a_failed_write_nothing_is_acknowledged(tmp_path: Path) -> None:
    """Rule 1. No file may grow past a limit, so that the write of the log fails."""
    heard: list[BaseException] = []
    store = open_small(tmp_path / "data", heard.append)

    async def run() -> None:
        await put(store, (b"\x10a", b"1"))
        tail = store.tail
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(StoreFailed, match=r"position 3 .*File too large.* is unknown"):
                await put(store, (b"\x10a", bytes(10_000)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.tail == tail
        for _ in range(3):
            with pytest.raises(StoreFailed, match="has failed"):
                await put(store, (b"\x10a", b"3"))
            with pytest.raises(StoreFailed, match="has failed"):
                store.get(b"\x10a")
            with pytest.raises(StoreFailed, match="has failed"):
                store.scan(b"\x10", b"\x11")
        assert len(heard) == 1
        await store.close()
        again = open_small(tmp_path / "data")
        assert again.get(b"\x10a") == b"1"
        await put(again, (b"\x10a", b"4"))
        await again.close()

    asyncio.run(run())


def test_no_source_takes_a_snapshot() -> None:
    """Rule 2."""
    assert [call for call in _calls("snapshot") if "_db" in call or "plyvel" in call] == []
    assert not any(".snapshot(" in file.read_text() for file in JOURNAL.glob("*.py"))


def test_every_append_is_synced(tmp_path: Path) -> None:
    """Rule 3. Counted by the kernel where it can be, else read from the source."""
    assert ast.unparse(ast.parse((JOURNAL / "leveldb.py").read_text())).count("sync=") == 2
    if shutil.which("strace") is None:
        pytest.skip("the syncs can only be counted with strace; install it")
    program = (
        "import asyncio, os\n"
        "from tests.journal.stores import open_small, put\n"
        "from pathlib import Path\n"
        f"store = open_small(Path({str(tmp_path / 'data')!r}))\n"
        "async def run():\n"
        "    os.write(1, b'begin')\n"
        "    for i in range(25):\n"
        "        await put(store, (b'\\x10%d' % i, b'v'))\n"
        "    os.write(1, b'end')\n"
        "asyncio.run(run())\n"
    )
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), "-e", "trace=fdatasync,write"]
    subprocess.run([*command, sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    lines = trace.read_text()
    between = lines[lines.index('"begin"') : lines.index('"end"')]
    # A call that another thread interrupts is shown in two lines.
    assert between.count("fdatasync(") >= 25


def test_a_group_is_applied_whole_or_not_at_all(tmp_path: Path) -> None:
    """Rule 4. The log is cut at many places; test_store_damage.py does the same at more of them."""
    store = open_small(tmp_path / "data")

    async def run() -> None:
        for i in range(5):
            await put(store, (b"\x10a", b"%d" % i), (b"\x20b", b"%d" % i), (b"\x30c%d" % i, b""))

    asyncio.run(run())
    shutil.copytree(tmp_path / "data", tmp_path / "killed")  # the tests may: no other opens it
    _close(store)
    (log,) = (tmp_path / "killed" / "db").glob("*.log")
    size = log.stat().st_size
    db = tmp_path / "cut"
    for length in range(0, size, 7):
        shutil.copytree(tmp_path / "killed" / "db", db)
        os.truncate(db / log.name, length)
        opened = plyvel.DB(str(db), paranoid_checks=True)
        rows = dict(opened.iterator(start=b"\x10"))
        opened.close()
        shutil.rmtree(db)
        groups = len(rows) - 2 if rows else 0
        if rows:
            assert rows[b"\x10a"] == rows[b"\x20b"] == b"%d" % (groups - 1)
        assert [key for key in rows if key[0] == 0x30] == [b"\x30c%d" % i for i in range(groups)]


def test_one_thread_writes_and_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    """Rule 5."""
    store = open_small(tmp_path / "data")
    writers = [t for t in threading.enumerate() if t.name == "perdure-store-writer"]
    assert len(writers) >= 1
    turns = 0

    async def run() -> None:
        nonlocal turns
        task = asyncio.ensure_future(
            put(store, *((b"\x10%d" % i, bytes(100)) for i in range(5000)))
        )
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        await store.close()

    asyncio.run(run())
    assert turns > 2


def _flip_a_byte_of_each_table(path: Path) -> None:
    for table in (path / "db").glob("*.ldb"):
        with table.open("r+b") as file:
            file.seek(table.stat().st_size // 3)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0x10]))


def _read_damaged(path: Path, read: Callable[[LevelDBStore], object]) -> None:
    """Open and read; a compaction that opening sets off may find the damage first."""
    heard: list[BaseException] = []
    store = open_small(path, heard.append)
    try:
        read(store)
    except StoreDamaged:
        assert len(heard) == 1
        with pytest.raises(StoreFailed):  # and nothing is read any more
            store.get(b"\x10")
        raise
    finally:
        _close(store)


def test_a_flipped_bit_raises_and_is_never_returned(tmp_path: Path) -> None:
    """Rule 6."""
    _close(_fill(tmp_path / "data"))
    _flip_a_byte_of_each_table(tmp_path / "data")

    def read_all(store: LevelDBStore) -> None:
        for i in range(2000):
            value = store.get(b"\x10%08d" % i)
            assert value is not None
            assert len(value) == 1000

    with pytest.raises(StoreDamaged, match="checksum mismatch"):
        _read_damaged(tmp_path / "data", read_all)


def test_a_scan_is_complete_or_raises(tmp_path: Path) -> None:
    """Rule 7. A damaged last block is where plyvel's other iterator stops without a word."""
    store = _fill(tmp_path / "data")
    assert len(store.scan(b"\x10", b"\x11")) == 2000
    _close(store)
    _flip_a_byte_of_each_table(tmp_path / "data")
    with pytest.raises(StoreDamaged, match="restore the directory"):
        _read_damaged(tmp_path / "data", lambda store: store.scan(b"\x10", b"\x11"))
    assert _calls("iterator") == []


def test_a_store_has_one_owner_whatever_happens_to_leveldbs_lock(tmp_path: Path) -> None:
    """Rule 8."""
    path = tmp_path / "data"
    store = open_small(path)
    program = (
        "import sys; from pathlib import Path\n"
        "from perdure.journal.errors import StoreBusy\n"
        "from tests.journal.stores import open_small\n"
        "try: open_small(Path(sys.argv[1]))\n"
        "except StoreBusy as e: print(e)\n"
    )

    def other_process() -> str:
        command = [sys.executable, "-c", program, str(path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    with pytest.raises(StoreBusy, match=f"in use by process {os.getpid()}; stop that process"):
        open_small(path)
    (path / "db" / "LOCK").open().close()
    (path / "owner.lock").open().close()
    shutil.copytree(path, tmp_path / "copy")
    with pytest.raises(StoreBusy):
        open_small(path)
    assert "in use" in other_process()
    asyncio.run(put(store, (b"\x10a", b"1")))
    _close(store)
    assert other_process() == ""


def test_the_lock_is_not_handed_to_programs_that_are_started(tmp_path: Path) -> None:
    """Rule 8, too: a child that outlives its parent must not keep the store from opening."""
    store = open_small(tmp_path / "data")
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        fd = store._directory._lock_fd
        assert fd is not None
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        _close(store)
        again = open_small(tmp_path / "data")
        _close(again)
    finally:
        child.kill()
        child.wait()


def test_a_known_directory_is_never_created_again(tmp_path: Path) -> None:
    """Rule 9."""
    _close(_fill(tmp_path / "data"))
    (tmp_path / "data" / "db" / "CURRENT").unlink()
    before = sorted((tmp_path / "data" / "db").iterdir())
    with pytest.raises(StoreDamaged, match="CURRENT is missing"):
        open_small(tmp_path / "data")
    assert sorted((tmp_path / "data" / "db").iterdir()) == before
    assert all("create_if_missing=create" in call for call in _calls("DB"))


def test_lost_commits_are_noticed_at_open_by_the_high_water_mark(tmp_path: Path) -> None:
    """Rule 10. LevelDB opens with an emptied log, and without complaint."""
    _close(_fill(tmp_path / "data"))
    store = open_small(tmp_path / "data")  # what the log held is in a table now
    asyncio.run(put(store, (b"\x10a", b"1")))
    _close(store)
    (log,) = (tmp_path / "data" / "db").glob("*.log")
    os.truncate(log, 0)
    with pytest.raises(StoreDamaged, match=f"position {store.tail.pos} .* had been committed"):
        open_small(tmp_path / "data")


def test_close_waits_for_calls_of_other_threads(tmp_path: Path) -> None:
    """Rule 11. Without the count this ends the process, in nearly every run."""
    _close(_fill(tmp_path / "data", 500))
    for _ in range(20):
        store = open_small(tmp_path / "data")
        ready = threading.Barrier(5)

        def read(store: LevelDBStore = store, ready: threading.Barrier = ready) -> None:
            ready.wait()
            try:
                while True:
                    store.get(b"\x10%08d" % 7)
                    store.scan(b"\x10", b"\x11", 20)
            except StoreFailed:
                return

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        ready.wait()
        _close(store)
        for thread in threads:
            thread.join()


def test_nothing_repairs_a_store_by_itself() -> None:
    """Rule 12."""
    assert _calls("repair_db") == []
    assert _calls("copytree") == []
    source = (JOURNAL / "leveldb.py").read_text()
    assert source.count("plyvel.DB(") == source.count("paranoid_checks=True") == 1


def test_no_source_compacts_without_bounds() -> None:
    """Rule 13."""
    assert [
        call for call in _calls("compact_range") if "start=" not in call or "stop=" not in call
    ] == []


def test_a_batch_that_cannot_be_built_writes_nothing(tmp_path: Path) -> None:
    """Rule 14."""
    store = open_small(tmp_path / "data")

    async def run() -> None:
        with pytest.raises(TypeError):
            await put(store, (b"\x10a", b"1"), (b"\x10b", ["not bytes"]))  # type: ignore[arg-type]
        assert store.get(b"\x10a") is None
        await put(store, (b"\x10a", b"2"))
        await store.close()

    asyncio.run(run())
    for file in JOURNAL.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.With | ast.AsyncWith):
                assert not any("write_batch" in ast.unparse(i.context_expr) for i in node.items)


def test_a_queue_is_read_from_its_low_water_key(tmp_path: Path) -> None:
    """Rule 15. The store's part: a scan starts exactly where it is told, after many deletions."""
    store = open_small(tmp_path / "data")

    async def run() -> None:
        await put(store, *((b"\x10%08d" % i, b"") for i in range(1000)))
        await put(store, *((b"\x10%08d" % i, None) for i in range(900)))
        low_water = b"\x10%08d" % 899
        assert store.scan(low_water, b"\x11", 3) == store.scan(b"\x10", b"\x11", 3)
        assert store.scan(low_water, b"\x11", 1)[0][0] == b"\x10%08d" % 900
        await store.close()

    asyncio.run(run())


def test_only_the_adapter_imports_plyvel() -> None:
    """Design 8 (5)."""
    importers = {
        file.name
        for room in ROOMS
        for file in room.rglob("*.py")
        if "import plyvel" in file.read_text()
    }
    assert importers == {"leveldb.py"}


def test_recommended_options_hold_by_default() -> None:
    """Facts sheet §8, with the memory goal of the whole process."""
    options = LevelDBOptions()
    assert options.write_buffer_bytes == 16 << 20
    assert options.reserve_bytes == 3 * options.write_buffer_bytes
    assert 2 * options.write_buffer_bytes + options.cache_bytes <= 64 << 20
    assert SMALL.bloom_bits == options.bloom_bits == 10
