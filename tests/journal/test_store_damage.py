"""Damaged, foreign, newer and unusable data directories: refused with a reason and left alone, or complete.

The matrix of the facts sheet, §2 and §1.2. "Complete" is compared with what was appended.
"""

import asyncio
import contextlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest

from perdure.journal.datadir import DataDirectory
from perdure.journal.errors import StoreDamaged, StoreError, StoreFormat
from perdure.journal.manifest import check_files
from tests.journal.stores import SMALL, open_small, put

Damage = Callable[[Path], None]
ROW_COUNT = 2000
OPTIONS = msgspec.structs.replace(SMALL, write_buffer_bytes=1 << 20, mark_interval_s=3600.0)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "data"
    rng = Random(5)

    async def fill(start: int, stop: int) -> None:
        store = open_small(path, None, OPTIONS)
        for i in range(start, stop, 50):
            await put(store, *((b"\x10%08d" % j, rng.randbytes(1000)) for j in range(i, i + 50)))
        await store.close()

    asyncio.run(fill(0, ROW_COUNT - 200))
    asyncio.run(fill(ROW_COUNT - 200, ROW_COUNT))  # tables, and one log with the last rows
    return path


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


def _contents(path: Path) -> dict[str, bytes]:
    """Every file that holds data, by name."""
    skip = ("LOCK", "LOG", "LOG.old", "owner.lock")
    files = (file for file in path.rglob("*") if file.is_file() and file.name not in skip)
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def _row_count(path: Path) -> int:
    store = open_small(path, None, OPTIONS)
    try:
        return len(store.scan(b"\x10", b"\x11"))
    finally:
        asyncio.run(store.close())


def _only(path: Path, pattern: str) -> Path:
    (file,) = (path / "db").glob(pattern)
    return file


def _cut(pattern: str, by: Callable[[int], int]) -> Damage:
    def damage(path: Path) -> None:
        file = _only(path, pattern)
        os.truncate(file, by(file.stat().st_size))

    return damage


def _remove(pattern: str) -> Damage:
    return lambda path: sorted((path / "db").glob(pattern))[0].unlink()


def _shorten_a_table(path: Path) -> None:
    table = sorted((path / "db").glob("*.ldb"))[0]
    os.truncate(table, table.stat().st_size - 1)


MATRIX: dict[str, tuple[Damage, str]] = {
    "MANIFEST removed": (_remove("MANIFEST-*"), "MANIFEST-.* cannot be read .No such file"),
    "MANIFEST one byte short": (
        _cut("MANIFEST-*", lambda size: size - 1),
        "lost its end|names a log",
    ),
    "MANIFEST cut in half": (
        _cut("MANIFEST-*", lambda size: size // 2),
        "lost its end|names a log",
    ),
    "MANIFEST emptied": (_cut("MANIFEST-*", lambda _: 0), "before it names a log"),
    "CURRENT removed": (_remove("CURRENT"), "CURRENT is missing"),
    "CURRENT emptied": (_cut("CURRENT", lambda _: 0), "names no MANIFEST"),
    "a table removed": (_remove("*.ldb"), r"\d+\.ldb is missing"),
    "a table one byte short": (_shorten_a_table, r"\d+\.ldb has \d+ bytes, MANIFEST"),
    "log removed": (_remove("*.log"), r"\.log is missing"),
    "log emptied": (_cut("*.log", lambda _: 0), "had been committed"),
    "log cut in half": (_cut("*.log", lambda size: size // 2), "had been committed"),
    "EPOCH removed": (lambda path: (path / "EPOCH").unlink(), "EPOCH is missing"),
    "HIGHWATER removed": (lambda path: (path / "HIGHWATER").unlink(), "HIGHWATER is missing"),
    "HIGHWATER emptied": (lambda path: os.truncate(path / "HIGHWATER", 0), "cannot be read"),
    "db removed": (lambda path: shutil.rmtree(path / "db"), "CURRENT is missing"),
}


@pytest.mark.parametrize("name", MATRIX)
def test_a_damaged_directory_is_refused_and_left_as_it_was(
    data: Path, original: Path, name: str
) -> None:
    damage, reason = MATRIX[name]
    damage(data)
    before = _contents(data)
    with pytest.raises(StoreDamaged, match=reason) as caught:
        open_small(data, None, OPTIONS)
    assert str(data) in str(caught.value)
    assert _contents(data) == before
    with pytest.raises(StoreDamaged, match=reason):  # and it stays refused
        open_small(data, None, OPTIONS)
    for file, content in _contents(original).items():  # the damage undone, nothing is missing
        (data / file).parent.mkdir(exist_ok=True)
        (data / file).write_bytes(content)
    assert _row_count(data) == ROW_COUNT


def test_a_missing_lock_file_is_no_damage(data: Path) -> None:
    (data / "db" / "LOCK").unlink()
    (data / "owner.lock").unlink()
    assert _row_count(data) == ROW_COUNT


def test_a_flipped_bit_anywhere_is_refused_or_harmless(data: Path) -> None:
    rng = Random(7)
    files = [file for file in data.rglob("*") if file.is_file() and file.stat().st_size]
    files = [file for file in files if file.name not in ("LOG", "LOG.old", "LOCK", "owner.lock")]
    refused = 0
    for _ in range(4):
        for file in files:
            copy = Path(shutil.copytree(data, data.parent / "copy"))
            target = copy / file.relative_to(data)
            content = bytearray(target.read_bytes())
            at = rng.randrange(len(content))
            content[at] ^= 1 << rng.randrange(8)
            target.write_bytes(content)
            try:
                assert _row_count(copy) == ROW_COUNT, f"bit flipped at byte {at} of {target.name}"
            except StoreError:
                refused += 1
            shutil.rmtree(copy)
    assert refused > len(files)


def test_a_log_cut_anywhere_leaves_an_exact_prefix(tmp_path: Path) -> None:
    path, size_at = tmp_path / "data", {0: 0}

    async def fill() -> None:
        store = open_small(path, None, OPTIONS)
        for i in range(1, 40):
            await put(store, (b"\x10%08d" % i, bytes(i * 20)), (b"\x20last", b"%d" % i))
            size_at[i] = _only(path, "*.log").stat().st_size
        shutil.copytree(path, tmp_path / "killed")  # as a killed process leaves it
        await store.close()

    asyncio.run(fill())
    opened = _only(tmp_path / "killed", "*.log").stat().st_size
    for length in range(size_at[1] - 60, opened + 1, 257):
        copy = Path(shutil.copytree(tmp_path / "killed", tmp_path / "cut"))
        os.truncate(_only(copy, "*.log"), length)
        whole = max((i for i, size in size_at.items() if size <= length), default=0)
        store = open_small(copy, None, OPTIONS)
        assert [int(key[1:]) for key, _ in store.scan(b"\x10", b"\x11")] == list(
            range(1, whole + 1)
        )
        assert store.get(b"\x20last") == (b"%d" % whole if whole else None)
        assert (store.tail.pos, store.tail.epoch) == (whole + 2, 2)
        asyncio.run(store.close())
        shutil.rmtree(copy)


def test_a_manifest_cut_anywhere_is_refused_or_harmless(data: Path) -> None:
    manifest = _only(data, "MANIFEST-*")
    for length in range(manifest.stat().st_size):
        copy = Path(shutil.copytree(data, data.parent / "copy"))
        os.truncate(copy / "db" / manifest.name, length)
        with contextlib.suppress(StoreDamaged):
            assert _row_count(copy) == ROW_COUNT, f"cut to {length} bytes"
        shutil.rmtree(copy)


def test_an_older_copy_put_in_place_is_refused(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "db", tmp_path / "old")
    assert _row_count(data) == ROW_COUNT
    shutil.rmtree(data / "db")
    shutil.copytree(tmp_path / "old", data / "db")
    with pytest.raises(StoreDamaged, match="an older copy was put in its place"):
        open_small(data)


def test_two_stores_with_the_same_position_are_told_apart(data: Path, tmp_path: Path) -> None:
    mark = msgspec.json.decode((data / "HIGHWATER").read_bytes())
    mark["id"] = "00" * 16
    (data / "HIGHWATER").write_bytes(msgspec.json.encode(mark))
    with pytest.raises(StoreDamaged, match="group 0000"):
        open_small(data)
    asyncio.run(open_small(tmp_path / "other").close())
    shutil.rmtree(data / "db")
    shutil.move(tmp_path / "other" / "db", data / "db")
    with pytest.raises(StoreDamaged, match="belongs to store"):
        open_small(data)


def test_a_crash_while_files_are_put_back_is_completed(data: Path) -> None:
    (data / "db").rename(data / "db.kept")
    (data / "db.refused").mkdir()
    assert _row_count(data) == ROW_COUNT
    assert not (data / "db.kept").exists()


# ---- whose directory it is ----------------------------------------------------------------------


def test_a_foreign_directory_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(StoreFormat, match=r"found no FORMAT file but: thesis\.tex"):
        open_small(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreFormat, match="found a file"):
        open_small(tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "says format 2, this release reads up to 1; start the newer release"),
        ({"format": 0}, "names no format version"),
        ({"slots": 1024}, "expected engine, slots, hash"),
        ({"hash": "md5"}, "expected engine, slots, hash"),
        ({"engine": "sqlite"}, "expected engine, slots, hash"),
    ],
)
def test_another_format_is_refused(data: Path, change: dict[str, object], reason: str) -> None:
    format = msgspec.json.decode((data / "FORMAT").read_bytes())
    (data / "FORMAT").write_bytes(msgspec.json.encode(format | change))
    before = _contents(data)
    with pytest.raises(StoreFormat, match=reason):
        open_small(data)
    assert _contents(data) == before


def test_a_removed_or_unreadable_format_is_refused(data: Path) -> None:
    (data / "FORMAT").write_bytes(b"\x00")
    with pytest.raises(StoreFormat, match="FORMAT cannot be read"):
        open_small(data)
    (data / "FORMAT").unlink()
    with pytest.raises(StoreFormat, match="found no FORMAT file"):
        open_small(data)


def test_an_empty_directory_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()  # the root of a file system of its own
    asyncio.run(open_small(tmp_path).close())
    assert DataDirectory(tmp_path).find_format() is not None


def test_only_the_owner_may_read_a_store(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    asyncio.run(open_small(tmp_path / "data").close())
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "db").stat().st_mode & 0o777 == 0o700


def test_a_creation_that_was_interrupted_starts_over(data: Path) -> None:
    (data / "FORMAT").unlink()
    (data / "CREATING").write_bytes(b"")
    assert _row_count(data) == 0
    assert not (data / "CREATING").exists()


def test_a_creation_that_was_interrupted_at_its_end_is_a_store(data: Path) -> None:
    (data / "CREATING").write_bytes(b"")
    assert _row_count(data) == ROW_COUNT
    assert not (data / "CREATING").exists()


OPEN_AS_NOBODY = """
import os, sys
from pathlib import Path
from perdure.journal.errors import StoreError
from tests.journal.stores import open_small
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    open_small(Path(sys.argv[1]))
except StoreError as e:
    print(type(e).__name__, e)
"""


def _open_as_nobody(path: Path) -> str:
    command = [sys.executable, "-c", OPEN_AS_NOBODY, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_directory_of_another_user_is_named_with_the_reason(data: Path) -> None:
    data.chmod(0o500)
    try:
        told = _open_as_nobody(data)
    finally:
        data.chmod(0o700)
    assert told.startswith("StoreError")
    assert f"{data} cannot be used: Permission denied" in told or "Permission denied" in told
    assert "change its owner, or name another one" in told


def test_a_read_only_file_system_is_named_with_the_reason(data: Path) -> None:
    command = ["mount", "--bind", "-o", "ro", str(data), str(data)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs a read-only bind mount: run as root")
    try:
        with pytest.raises(StoreError, match="Read-only file system"):
            open_small(data)
    finally:
        subprocess.run(["umount", str(data)], check=True)
    assert _row_count(data) == ROW_COUNT


# ---- two logs, as a crash may leave them ---------------------------------------------------------


def _record(content: bytes) -> bytes:
    return struct.pack("<IHB", 0, len(content), 1) + content


def _log(*batches: tuple[int, int]) -> bytes:
    return b"".join(_record(struct.pack("<QI", *batch) + b"rows") for batch in batches)


@pytest.mark.parametrize(
    ("older", "newer", "sound"),
    [
        (_log((1, 2), (3, 1)), _log((4, 5)), True),
        (_log((1, 2), (3, 1)), b"", True),
        (b"", b"", True),
        (_log((1, 2)), _log((4, 5)), False),
        (_log((1, 2), (3, 1))[:-1], _log((4, 5)), False),
        (b"", _log((4, 5)), False),
    ],
)
def test_a_log_with_a_successor_must_be_whole(
    tmp_path: Path, older: bytes, newer: bytes, sound: bool
) -> None:
    (tmp_path / "CURRENT").write_text("MANIFEST-000002\n")
    (tmp_path / "MANIFEST-000002").write_bytes(_record(bytes([2, 5])))  # the log is number 5
    (tmp_path / "000004.log").write_bytes(_log((70, 1)))  # older than needed
    (tmp_path / "000005.log").write_bytes(older)
    (tmp_path / "000006.log").write_bytes(newer)
    if sound:
        check_files(tmp_path)
    else:
        with pytest.raises(StoreDamaged, match=r"000005\.log has lost its end: 000006\.log"):
            check_files(tmp_path)
