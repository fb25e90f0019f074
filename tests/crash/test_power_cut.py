"""Nothing acknowledged is lost when the power fails, which SIGKILL alone cannot show: a killed process
leaves its unsynced bytes in the page cache.

Each way has its positive control: the same writer without syncs must lose data, or the harness is blind.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.crash.disks import Disk, NoDisk, disk
from tests.crash.synced_bytes import cuts, record
from tests.crash.written import WRITER, last_position, lost_count, positions
from tests.journal.stores import open_small, put

CUTS = 8
CONTROL_CUTS = 4


# ---- a real disk, frozen ------------------------------------------------------------------------


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[Disk]:
    try:
        with disk(tmp_path) as made:
            yield made
    except NoDisk as e:
        pytest.skip(f"cannot freeze a disk here ({e}); the traced cuts below stand in for it")


def _freeze(disk: Disk, count: int, *flags: str) -> list[tuple[Path, int]]:
    """Clones of the disk at random instants under a writer, with the last acknowledged position."""
    rng = Random(17)
    command = [sys.executable, str(WRITER), str(disk.path / "data"), *flags]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    clones, output = [], b""
    try:
        for _ in range(count):
            wanted = output.count(b"\n") + rng.randrange(20, 300)
            while output.count(b"\n") < wanted:
                chunk = os.read(writer.stdout.fileno(), 1 << 16)
                assert chunk, "the writer ended by itself"
                output += chunk
            clones.append((disk.clone(), positions(output)[-1]))
    finally:
        writer.kill()
        writer.stdout.close()
        writer.wait()
    return clones


def test_a_power_cut_loses_nothing_acknowledged(inner: Disk) -> None:
    for clone, acknowledged in _freeze(inner, CUTS):
        with inner.frozen(clone) as mounted:
            assert last_position(mounted / "data") >= acknowledged


def test_control_without_syncs_a_power_cut_loses_data(inner: Disk) -> None:
    lost = []
    for clone, acknowledged in _freeze(inner, CONTROL_CUTS, "--unsynced"):
        with inner.frozen(clone) as mounted:
            lost.append(lost_count(mounted / "data", acknowledged))
    assert any(lost)


# ---- computed from what was synced --------------------------------------------------------------


def _traced(tmp_path: Path, *flags: str) -> list[int]:
    """How many acknowledged groups are missing after cuts all over a short run, creation included."""
    if shutil.which("strace") is None:
        pytest.skip("tracing needs strace; install it")
    data = tmp_path / "data"
    calls = record(WRITER, data, tmp_path / "trace", "--count", "120", "--size", "1500", *flags)
    lost = []
    for i, (reported, lay_out) in enumerate(cuts(calls, data)):
        if i % 11 and i > 60:  # every step of the creation, then every eleventh
            continue
        left = tmp_path / "left"
        lay_out(left)
        lost.append(lost_count(left, reported[-1] if reported else 0))
        shutil.rmtree(left)
    return lost


def test_bytes_that_were_not_synced_are_none_that_matter(tmp_path: Path) -> None:
    lost = _traced(tmp_path)
    assert len(lost) > 60
    assert [at for at, count in enumerate(lost) if count] == []  # and none is refused


def test_control_without_syncs_the_traced_cuts_lose_data(tmp_path: Path) -> None:
    assert sum(1 for lost in _traced(tmp_path, "--unsynced") if lost) > 10


# ---- anywhere -----------------------------------------------------------------------------------


def test_files_cut_to_their_size_at_an_acknowledgement_hold_all_of_it(tmp_path: Path) -> None:
    """The least that every machine can check: later bytes, in whatever state, take nothing away."""
    data = tmp_path / "data"

    async def run() -> dict[str, int]:
        store = open_small(data)
        for i in range(50):
            await put(store, (b"\x10%08d" % i, bytes(100)))
        sizes = {file.name: file.stat().st_size for file in (data / "db").iterdir()}
        for i in range(50, 60):
            await put(store, (b"\x10%08d" % i, bytes(100)))
        shutil.copytree(data, tmp_path / "left")
        await store.close()
        return sizes

    sizes = asyncio.run(run())
    for tail in (b"", bytes(500), b"\xa5" * 500):
        left = Path(shutil.copytree(tmp_path / "left", tmp_path / "copy"))
        for name, size in sizes.items():
            if name.endswith(".log"):
                os.truncate(left / "db" / name, size)
                with (left / "db" / name).open("ab") as file:
                    file.write(tail)
        store = open_small(left)
        assert len(store.scan(b"\x10", b"\x11")) == 50
        asyncio.run(store.close())
        shutil.rmtree(left)
