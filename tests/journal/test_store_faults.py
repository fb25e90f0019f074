"""The store under a killed process, a full disk and a disk that answers with errors (facts sheet 1.3)."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from perdure.journal.errors import StoreError, StoreFailed
from tests.crash.written import WRITER, last_position, positions
from tests.journal.stores import SMALL, open_small, put

KILLS = 10
ROOT = Path(__file__).resolve().parents[2]


def _command(path: Path, *flags: str) -> list[str]:
    return [sys.executable, str(WRITER), str(path), *flags]


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    rng = Random(11)
    for _ in range(KILLS):
        child = subprocess.Popen(_command(path), stdout=subprocess.PIPE)
        assert child.stdout is not None
        output = b""
        wanted = rng.randrange(1, 60)
        while output.count(b"\n") < wanted:
            chunk = os.read(child.stdout.fileno(), 65536)
            assert chunk, "the writer ended by itself"
            output += chunk
        child.send_signal(signal.SIGKILL)
        output += child.stdout.read()
        child.stdout.close()
        child.wait()
        acknowledged = positions(output)
        assert acknowledged[-1] <= last_position(path) <= acknowledged[-1] + 1


@pytest.mark.parametrize(
    ("call", "error"), [("fdatasync", "EIO"), ("write", "EIO"), ("write", "ENOSPC")]
)
def test_nothing_is_acknowledged_after_a_disk_error(tmp_path: Path, call: str, error: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("disk errors are injected with strace; install it")
    path = tmp_path / "data"
    log = path / "db" / "000003.log"  # the first of a new database
    inject = ["-P", str(log), "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when=20"]
    command = ["strace", "-f", "-o", "/dev/null", *inject, *_command(path, "--count", "100")]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert run.stdout.splitlines()[-1] == b"failed"
    acknowledged = positions(run.stdout)
    assert 10 <= len(acknowledged) < 20
    assert acknowledged[-1] <= last_position(path) <= acknowledged[-1] + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a full disk needs a small file system: run as root where tmpfs may be mounted")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def _fill_up(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_full_disk_stops_the_store_and_the_reserve_opens_it_again(small_disk: Path) -> None:
    # Three write buffers, and too few tables for a compaction, which would take more.
    options = msgspec.structs.replace(SMALL, write_buffer_bytes=1 << 20, reserve_bytes=3 << 20)
    path, filler = small_disk / "data", small_disk / "filler"
    heard: list[BaseException] = []

    async def fill() -> int:
        store = open_small(path, heard.append, options)
        assert store.has_room()
        written = 0

        async def until_it_fails() -> None:
            nonlocal written
            while True:
                await put(store, (b"\x10%08d" % written, os.urandom(4000)))
                written += 1

        filler.write_bytes(bytes(11 << 20))
        with pytest.raises(StoreFailed, match="No space left"):
            await until_it_fails()
        for _ in range(20):
            with pytest.raises(StoreFailed):
                await put(store, (b"\x10late", b""))
        await store.close()
        return written

    async def serve(written: int) -> None:
        _fill_up(filler)
        store = open_small(path, None, options)
        assert len(store.scan(b"\x10", b"\x11")) in (written, written + 1)
        assert not store.has_room()
        assert not (path / "reserve").exists()
        filler.unlink()
        assert store.has_room()
        assert (path / "reserve").stat().st_size == 3 << 20
        await put(store, (b"\x10new", b"1"))
        await store.close()

    written = asyncio.run(fill())
    assert written > 100
    assert len(heard) == 1
    asyncio.run(serve(written))


def test_a_full_disk_without_a_reserve_is_named_at_open(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes((16 << 20) - 4096))
    with pytest.raises(StoreError, match="is full; free some space"):
        open_small(small_disk / "data")
    (small_disk / "filler").unlink()
    asyncio.run(open_small(small_disk / "data").close())


def test_a_directory_that_vanishes_under_the_store_is_noticed(tmp_path: Path) -> None:
    """LevelDB itself goes on acknowledging writes into deleted files."""
    heard: list[BaseException] = []
    store = open_small(tmp_path / "data", heard.append)
    store.check_files()
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(StoreError, match="is gone under the running store"):
        store.check_files()

    async def run() -> None:
        with pytest.raises(StoreFailed):
            await put(store)
        await store.close()

    asyncio.run(run())
    assert len(heard) == 1


def test_the_mark_is_noted_while_the_store_runs_and_at_close(tmp_path: Path) -> None:
    path = tmp_path / "data"

    async def run() -> None:
        store = open_small(path, None, msgspec.structs.replace(SMALL, mark_interval_s=0.0))
        before = (path / "HIGHWATER").read_bytes()
        await put(store, (b"\x10", b""))
        await put(
            store, (b"\x10", b"")
        )  # the mark of the first is noted before this one is written
        noted = msgspec.json.decode((path / "HIGHWATER").read_bytes())
        assert (path / "HIGHWATER").read_bytes() != before
        assert noted["pos"] in (2, 3)
        await store.close()
        noted = msgspec.json.decode((path / "HIGHWATER").read_bytes())
        assert noted == {"pos": 3, "epoch": 1, "id": store.tail.id.hex()}

    asyncio.run(run())
